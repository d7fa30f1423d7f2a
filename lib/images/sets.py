"""What a set of labelled images is: its form, how it is drawn from, counted and described.

Nothing is read here. Draws are by class and repeatable; arrays are never changed, only indexed.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3)}
CLASSES = {
    "mnist": tuple("0123456789"),
    "cifar10": tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
}
"""The names of the classes, in order of their labels."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images to train on and to test with.

    Attributes
    ----------
    x_train, x_test : ndarray of shape (n, 28, 28) or (n, 32, 32, 3), uint8
        Raw pixels, 0 to 255: grey for MNIST, where ink is bright; red, green, blue for CIFAR-10.
    y_train, y_test : ndarray of shape (n,), uint8
        Labels, positions in `classes`.
    classes : tuple of str
        Names of the ten classes.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]


# Draws ---------------------------------------------------------------------------------------


def take_images(
    images: ImageSet, n_train: int, n_test: int, *, seed: int, name: str = "the set"
) -> ImageSet:
    """Return a random part of a set, each class by its share; 0 stands for all.

    Raises
    ------
    ValueError
        If there are fewer images than asked for, or fewer asked for than there are classes; the
        message begins with `name`.
    """
    parts: dict[str, np.ndarray] = {}
    for salt, (part, n_rows) in enumerate({"train": n_train, "test": n_test}.items()):
        x, y = getattr(images, f"x_{part}"), getattr(images, f"y_{part}")
        check_count(f"n_{part}", n_rows)
        if n_rows > len(y):
            raise ValueError(
                f"{name} has {len(y):,} {part} images: n_{part} is {n_rows:,}, give that many or "
                "fewer, or 0 for all"
            )
        if n_rows:
            chosen = _draw(y, n_rows, n_left=0, seed=[seed, salt])
            parts |= {f"x_{part}": x[chosen], f"y_{part}": y[chosen]}
    return replace(images, **parts)


def check_count(name: str, n_rows: int) -> None:
    """Raise unless `n_rows` is 0, for all, or enough for an image of every class."""
    if n_rows and n_rows < 10:
        raise ValueError(f"{name} is {n_rows}: give at least 10, one of each class, or 0 for all")


def split_validation(
    y: np.ndarray, n_validation: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows at random into those to train on and those to validate with.

    Parameters
    ----------
    y : ndarray of shape (n_rows,), integer
        Labels. Each class is split by its share, and both parts get at least one of each.
    n_validation : int
        Rows to validate with.
    seed : int
        Of the draw.

    Returns
    -------
    train, validation : ndarray of shape (n_rows - n_validation,) and (n_validation,), int64
        Row numbers, ascending; together every row once.

    Raises
    ------
    ValueError
        If a part would be without some class.
    """
    counts = np.unique(y, return_counts=True)[1]
    most = len(y) - len(counts)
    if counts.min() < 2 or not len(counts) <= n_validation <= most:
        raise ValueError(
            f"n_validation is {n_validation:,}: give {len(counts)} to {most:,}, so that both parts "
            f"of the {len(y):,} rows have each of the {len(counts)} classes, and two rows or more "
            "of each"
        )
    validation = _draw(y, n_validation, n_left=1, seed=[seed])
    train = np.delete(np.arange(len(y), dtype=np.int64), validation)
    return train, validation


def _draw(y: np.ndarray, n_rows: int, *, n_left: int, seed: list[int]) -> np.ndarray:
    """Return `n_rows` sorted row numbers, one of each class and then each class by its share.

    Of each class `n_left` rows are left. What does not divide goes to the largest remainders, the
    first of equal ones.
    """
    _, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    free = counts - 1 - n_left
    shares, rest = np.divmod((n_rows - len(counts)) * free, max(free.sum(), 1))
    n_over = n_rows - len(counts) - shares.sum()
    shares[np.argsort(-rest, kind="stable")[:n_over]] += 1
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < np.repeat(1 + shares, counts)]).astype(np.int64)


# Facts ---------------------------------------------------------------------------------------


def count_images(images: ImageSet) -> pd.DataFrame:
    """Return how many images there are of each class.

    Returns
    -------
    DataFrame of shape (10, 2)
        Columns ``train`` and ``test``; index ``class``, names in order of the labels.
    """
    n_classes = len(images.classes)
    counts = {
        "train": np.bincount(images.y_train, minlength=n_classes),
        "test": np.bincount(images.y_test, minlength=n_classes),
    }
    return pd.DataFrame(counts, index=pd.Index(images.classes, name="class"))


def count_duplicates(images: ImageSet) -> dict[str, int]:
    """Return how many images repeat another one in every pixel, whatever their labels.

    Returns
    -------
    dict
        ``within_train`` and ``within_test``: images that repeat an earlier one of the same part;
        ``across``: test images that are training images too.
    """
    train, test = _image_digests(images.x_train), _image_digests(images.x_test)
    known = set(train)
    return {
        "within_train": len(train) - len(known),
        "within_test": len(test) - len(set(test)),
        "across": sum(digest in known for digest in test),
    }


def _image_digests(x: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return [hashlib.sha256(row).digest() for row in rows]


def images_digest(images: ImageSet) -> str:
    """Return the SHA-256 of shapes and bytes of all images and labels, the same everywhere."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        array = getattr(images, name)
        digest.update(f"{name}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
