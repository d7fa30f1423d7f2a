"""CIFAR as its authors published it: pickled batches, or records of bytes.

Of what a pickle names only three parts of NumPy are looked up, which a pickled array needs; any
other name is an error, and nothing else is called.
"""

import pickle
import pickletools
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from lib.images.arrays import Found
from lib.images.files import BadImages, File, reading
from lib.images.rules import check_labels

import numpy as np

FORM, PIXELS = "batch of CIFAR", 3 * 32 * 32
CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
"""Of CIFAR-10, in order of the labels."""
KNOWN = {
    "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy._core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}
"""What may be looked up for a pickle."""


class Version(NamedTuple):
    """A published version: its files, the last of which is the test, and how they are written.

    A record has `n_labels` bytes before its pixels, of which the last counts; 0 stands for pickles,
    in which labels, and the names of classes in a file of their own, are called `keys`.
    """

    files: tuple[str, ...]
    names: str
    classes: Sequence[str]
    n_labels: int = 0
    keys: tuple[str, str] = ("labels", "label_names")


BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
HUNDRED = tuple(map(str, range(100)))
FINE = ("fine_labels", "fine_label_names")
VERSIONS = (
    Version(BATCHES, "batches.meta", CLASSES),
    Version(tuple(f"{name}.bin" for name in BATCHES), "batches.meta.txt", CLASSES, 1),
    Version(("train", "test"), "meta", HUNDRED, keys=FINE),
    Version(("train.bin", "test.bin"), "fine_label_names.txt", HUNDRED, 2),
)


def read_cifar(files: Sequence[File], name: str) -> list[Found]:
    """Return images and labels of CIFAR's files and the names of the classes; nothing if none is.

    Other files are passed over.
    """
    bases = [file.path.rsplit("/", 1)[-1] for file in files]
    found = dict(zip(bases, files, strict=True))
    of = next((of for of in VERSIONS if found.keys() & {*of.files}), None)
    if of is None:
        return []
    counts = {base: bases.count(base) for base in of.files}
    wrong = [f"{n or 'no'} {base}" for base, n in counts.items() if n != 1]
    if wrong:
        raise BadImages(
            f"{name} has {', '.join(wrong)}: CIFAR is {', '.join(of.files)}, each once. Was it cut "
            "short? Fetch it again"
        )
    names = _names(found[of.names], of) if of.names in found else of.classes
    batches = {base: _batch(found[base], of, len(names)) for base in of.files}
    *train, test = batches.values()
    most = max(len(y) for _, y in train)
    for base, (_, y) in list(batches.items())[:-1]:
        if len(y) < most:
            raise BadImages(
                f"{name}: {base} has {len(y):,} images and another {most:,}: was it cut short? "
                "Fetch it again"
            )
    arrays = {"classes": np.array(names, dtype=str), "x_test": test[0], "y_test": test[1]}
    arrays["x_train"], arrays["y_train"] = map(np.concatenate, zip(*train, strict=True))
    return [Found("", key, values, f"{name}: {key}") for key, values in arrays.items()]


def _names(file: File, of: Version) -> list[str]:
    """Return the names of the classes."""
    if of.n_labels:
        return file.read().decode("utf-8", errors="replace").split()
    with reading(file.place, FORM):
        return [str(label) for label in _unpickled(file)[of.keys[1]]]


def _batch(file: File, of: Version, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, (n, 32, 32, 3), and labels of one file."""
    with reading(file.place, FORM):
        if of.n_labels:
            rows = np.frombuffer(file.read(), np.uint8).reshape(-1, of.n_labels + PIXELS)
            planes, y = rows[:, of.n_labels :], rows[:, of.n_labels - 1]
        else:
            content = _unpickled(file)
            planes, y = content["data"], np.array(content[of.keys[0]])
        x = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        y = check_labels(Found("", "", y, f"{file.place}: labels"), len(x))
        outside = np.flatnonzero((y < 0) | (y >= n_classes))
        if len(outside):
            raise BadImages(
                f"{file.place}: labels must be from 0 to {n_classes - 1}: row {outside[0]} has "
                f"{y[outside[0]]}"
            )
        return x, y


class _Unpickler(pickle.Unpickler):
    place: str

    def find_class(self, module: str, name: str) -> type:
        """Return one of NumPy's three; never import anything."""
        if f"{module}.{name}" not in KNOWN:
            raise BadImages(
                f"{self.place} is a pickle that asks for {module}.{name}, which no batch of CIFAR "
                "does: it was not called. Fetch the file from a place you trust"
            )
        return KNOWN[f"{module}.{name}"]


def _unpickled(file: File) -> dict:
    """Return what was pickled, if it is made of arrays, numbers and text alone."""
    content = file.read()
    kept = [place for code, place, _ in pickletools.genops(content) if code.name.endswith("PUT")]
    if max(kept, default=0) > len(content):  # the table of what is kept would be as long
        raise ValueError("it asks for more memory than it can fill")
    unpickler = _Unpickler(BytesIO(content), encoding="latin-1")
    unpickler.place = file.place
    return unpickler.load()
