"""CIFAR as its authors published it: pickled batches, or records of bytes.

Of what a pickle names only three parts of NumPy are looked up, which a pickled array needs; any
other name is an error, and nothing else is called.
"""

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np


@dataclass(frozen=True)
class Version:
    """Files of a published version: what they are called and how they are written.

    Attributes
    ----------
    train, test, names : tuple of str, str, str
        Files of both parts, and of the names of the classes.
    n_labels : int
        Bytes of label before the pixels of a record, of which the last counts; 0 for pickles.
    keys : tuple of (str, str)
        What labels, and names, are called in a pickle.
    """

    train: tuple[str, ...]
    test: str
    names: str
    n_labels: int = 0
    keys: tuple[str, str] = ("labels", "label_names")


TRAIN_FILES = tuple(f"data_batch_{k}" for k in range(1, 6))
FILES = (*TRAIN_FILES, "test_batch")
CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
"""Of CIFAR-10, in order of the labels."""

VERSIONS = (
    Version(TRAIN_FILES, "test_batch", "batches.meta"),
    Version(tuple(f"{f}.bin" for f in TRAIN_FILES), "test_batch.bin", "batches.meta.txt", 1),
    Version(("train",), "test", "meta", keys=("fine_labels", "fine_label_names")),
    Version(("train.bin",), "test.bin", "fine_label_names.txt", 2),
)
PIXELS = 3 * 32 * 32

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""Images and labels by part, ``train`` and ``test``."""


def read_set(
    files: Iterable[tuple[str, Callable[[], bytes]]], name: str
) -> tuple[Arrays, list[str]] | None:
    """Return images and labels of CIFAR's files, and the names of the classes; None if it is none.

    Parameters
    ----------
    files : iterable of (str, callable)
        Path of all files of a source, and how to read each; those that are not CIFAR's are passed
        over.
    name : str
        What messages call it.

    Raises
    ------
    ValueError
        If a file is missing, there twice, cut short, damaged, or evil.
    """
    known = {file for of in VERSIONS for file in (*of.train, of.test, of.names)}
    found: dict[str, Callable[[], bytes]] = {}
    for path, read in files:
        base = PurePosixPath(path).name
        if base in known and base in found:
            raise ValueError(
                f"{name}: {base} is there twice: which one is meant? Fetch the file again"
            )
        found[base] = read
    of = next((of for of in VERSIONS if found.keys() & {*of.train, of.test}), None)
    if of is None:
        return None
    missing = [file for file in (*of.train, of.test) if file not in found]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)}: CIFAR is {', '.join((*of.train, of.test))}. Was "
            "it cut short? Fetch it again"
        )
    classes = _names(found.get(of.names), of, f"{name}: {of.names}")
    parts = {
        file: _read(found[file](), of, classes, f"{name}: {file}") for file in (*of.train, of.test)
    }
    _check_equal({file: len(parts[file][0]) for file in of.train}, name)
    x, y = (np.concatenate([parts[file][k] for file in of.train]) for k in (0, 1))
    return {"train": (x, y), "test": parts[of.test]}, classes


def _names(read: Callable[[], bytes] | None, of: Version, place: str) -> list[str]:
    """Return the names of the classes, as far as a file says them."""
    if read is None:
        return list(CLASSES) if len(of.train) > 1 else [str(k) for k in range(100)]
    if of.n_labels:
        return read().decode("utf-8", errors="replace").split()
    try:
        return [str(label) for label in _unpickled(read(), place)[of.keys[1]]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place} holds no {of.keys[1]}: fetch it again") from error


def _read(
    content: bytes, of: Version, classes: list[str], place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of one file."""
    if of.n_labels:
        x, y = read_records(content, of.n_labels, place)
    else:
        x, y = read_batch(content, place, of.keys[0])
    last = len(classes) - 1
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{place}: labels must be integers from 0 to {last}, one for each of the {len(x)} "
            f"images, not {y.dtype} of shape {y.shape}"
        )
    wrong = np.flatnonzero((y < 0) | (y > last))
    if len(wrong):
        raise ValueError(
            f"{place}: labels must be from 0 to {last}: row {wrong[0]} has {y[wrong[0]]}"
        )
    return x, y


def _check_equal(counts: dict[str, int], name: str) -> None:
    """Raise where a training file holds fewer images than the others."""
    most = max(counts, key=counts.get)
    for file, n_images in counts.items():
        if n_images != counts[most]:
            raise ValueError(
                f"{name}: {file} has {n_images:,} images and {most} has {counts[most]:,}: was it "
                "cut short? Fetch it again"
            )


def read_records(data: bytes, n_labels: int, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a file of the binary version; of two labels the finer one.

    Returns
    -------
    images : ndarray of shape (n, 32, 32, 3), uint8
    labels : ndarray of shape (n,), uint8

    Raises
    ------
    ValueError
        If the bytes are no whole number of records.
    """
    size = n_labels + PIXELS
    if not data or len(data) % size:
        raise ValueError(
            f"{place} has {len(data):,} bytes and must have a multiple of {size:,}, {n_labels} for "
            "the label and 32 x 32 pixels in three colours: it is cut short or damaged, fetch it "
            "again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    planes = rows[:, n_labels:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, n_labels - 1].copy()


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


def read_batch(data: bytes, place: str, key: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of one pickled batch, in which labels are called `key`.

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
    batch = _unpickled(data, place)
    try:
        planes = batch["data"].reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(batch[key])
    except Exception as error:  # objects that are no batch may raise nearly anything
        raise ValueError(
            f"{place} is cut short, damaged or no batch of CIFAR-10 ({error!r}): fetch it again"
        ) from error


def _unpickled(data: bytes, place: str) -> dict:
    """Return what was pickled, if it is made of arrays, numbers and text alone."""
    try:
        return _Unpickler(BytesIO(data), encoding="latin-1").load()
    except ForbiddenGlobal as error:
        raise ValueError(
            f"{place} is a pickle that asks for {error}, which no batch of CIFAR-10 does: it was "
            "not called. Fetch the file from a place you trust"
        ) from None
    except Exception as error:  # bytes that are no pickle may raise nearly anything
        raise ValueError(
            f"{place} is cut short, damaged or no batch of CIFAR-10 ({error!r}): fetch it again"
        ) from error
