"""CIFAR-10 as its authors published it: a tar archive, or folder, of pickled batches.

Of what a pickle names only three parts of NumPy are looked up, which a pickled array needs; any
other name is an error, and nothing else is called. Members are read by name and in memory, so no
path of an archive reaches the disk.
"""

import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_FILE = "test_batch"
FILES = (*TRAIN_FILES, TEST_FILE)


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
    try:
        with tarfile.open(fileobj=BytesIO(archive)) as members:
            for member in members:
                base = PurePosixPath(member.name).name
                if member.isreg() and base in FILES:
                    yield base, members.extractfile(member).read()
            while members.fileobj.read(1 << 20):  # to the end, where the check sum is
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise ValueError(
            f"{name} is cut short, damaged or no tar archive ({error}): fetch it again"
        ) from error


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


def read_batch(data: bytes, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of one pickled batch.

    Returns
    -------
    images : ndarray of shape (n, 32, 32, 3)
    labels : ndarray of shape (n,)
        Neither is checked yet.

    Raises
    ------
    ValueError
        If it is no such pickle, or one that names anything but NumPy's arrays; names `place`.
    """
    try:
        batch = _Unpickler(BytesIO(data), encoding="latin-1").load()
        planes = batch["data"].reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(batch["labels"])
    except ForbiddenGlobal as error:
        raise ValueError(
            f"{place} is a pickle that asks for {error}, which no batch of CIFAR-10 does: it was "
            "not called. Fetch the file from a place you trust"
        ) from None
    except Exception as error:  # bytes that are no pickle may raise nearly anything
        raise ValueError(
            f"{place} is cut short, damaged or no batch of CIFAR-10 ({error!r}): fetch it again"
        ) from error
