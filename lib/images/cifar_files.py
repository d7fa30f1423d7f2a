"""CIFAR-10 as its authors published it: a tar archive, or folder, of pickled batches.

Of what a pickle names only three parts of NumPy are looked up, which a pickled array needs; any
other name is an error, and nothing else is called. Members are read by name and in memory, so no
path of an archive reaches the disk.
"""

import bz2
import gzip
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_FILE, META_FILE = "test_batch", "batches.meta"
FILES = (*TRAIN_FILES, TEST_FILE, META_FILE)
PACKERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def iter_members(archive: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of those `FILES` that a tar archive holds, in the archive's order.

    Parameters
    ----------
    archive : bytes
        A tar archive, plain or packed by gzip, bzip2 or xz, read to its end so that its check sum
        is checked too. Folders within it do not matter; links and other files are passed over.
    name : str
        What messages call it.

    Raises
    ------
    ValueError
        If it is no such archive, cut short or damaged.
    """
    unpack = next((unpack for magic, unpack in PACKERS.items() if archive.startswith(magic)), None)
    raw = BytesIO(archive)
    try:
        with unpack(raw) if unpack else raw as stream, tarfile.open(fileobj=stream) as members:
            for member in members:
                base = PurePosixPath(member.name).name
                if member.isreg() and base in FILES:
                    yield base, members.extractfile(member).read()
            _drain(stream)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise ValueError(
            f"{name} is cut short, damaged or no tar archive ({error}): fetch it again"
        ) from error


def _drain(stream: BinaryIO) -> None:
    while stream.read(1 << 20):
        pass


def read_batch(data: bytes, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of one pickled batch.

    Returns
    -------
    images : ndarray of shape (n, 32, 32, 3), uint8
    labels : ndarray of shape (n,)
        Not yet checked.

    Raises
    ------
    ValueError
        If it is no such pickle, or one that names anything but NumPy's arrays; names `place`.
    """
    batch = _unpickle(data, place)
    images, labels = batch.get("data"), batch.get("labels")
    is_array = isinstance(images, np.ndarray)
    if not is_array or images.dtype != np.uint8 or images.shape[1:] != (3072,):
        found = f"{images.dtype} of shape {images.shape}" if is_array else type(images).__name__
        raise ValueError(f"{place}: data must be a uint8 array of shape (n, 3072), found {found}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{place}: labels must be a list of whole numbers")
    planes = images.reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels)


def read_class_names(data: bytes, place: str) -> tuple[str, ...]:
    """Return the names in the pickled ``batches.meta``, in order of their labels."""
    names = _unpickle(data, place).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise ValueError(f"{place}: label_names must be a list of names")
    return tuple(_text(name) for name in names)


class ForbiddenGlobal(ValueError):
    """A pickle names something that no array needs."""


KNOWN = {
    "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy._core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Return one of NumPy's three; never import anything."""
        known = KNOWN.get(f"{module}.{name}")
        if known is None:
            raise ForbiddenGlobal(f"{module}.{name}")
        return known


def _unpickle(data: bytes, place: str) -> dict[str, object]:
    try:
        content = _Unpickler(BytesIO(data), encoding="bytes").load()
        return {_text(key): value for key, value in content.items()}
    except ForbiddenGlobal as error:
        raise ValueError(
            f"{place} is a pickle that asks for {error}, which no batch of CIFAR-10 does: it was "
            "not called. Fetch the file from a place you trust"
        ) from None
    except Exception as error:  # bytes that are no pickle may raise nearly anything
        raise ValueError(
            f"{place} is cut short, damaged or no file of CIFAR-10 ({error}): fetch it again"
        ) from error


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
