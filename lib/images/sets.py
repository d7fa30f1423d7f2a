"""What a set of labelled images is: its form, how it is drawn from, counted and described.

Nothing is read here. Draws are by class and repeatable; arrays are never changed, only indexed.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

LEAST_CLASSES, MOST_CLASSES = 2, 200
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images to train on and to test with.

    Attributes
    ----------
    x_train, x_test : ndarray of shape (n, side, side) or (n, side, side, 3), uint8
        Raw pixels, 0 to 255: grey, or red, green, blue.
    y_train, y_test : ndarray of shape (n,), uint8
        Labels, positions in `classes`.
    classes : tuple of str
        Names of the classes, 2 to 200; each is in both parts.
    notes : tuple of str
        What was done on the way from the source, a sentence each.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Images and labels by their names."""
        return {name: getattr(self, name) for name in ARRAYS}


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
        check_count(f"n_{part}", n_rows, len(images.classes))
        if n_rows > len(y):
            raise ValueError(
                f"{name} has {len(y):,} {part} images: n_{part} is {n_rows:,}, give that many or "
                "fewer, or 0 for all"
            )
        if n_rows:
            chosen = _draw(y, n_rows, n_left=0, seed=[seed, salt])
            parts |= {f"x_{part}": x[chosen], f"y_{part}": y[chosen]}
    return replace(images, **parts)


def check_count(name: str, n_rows: int, n_classes: int) -> None:
    """Raise unless `n_rows` is 0, for all, or enough for an image of every class."""
    if n_rows and n_rows < n_classes:
        raise ValueError(
            f"{name} is {n_rows}: give at least {n_classes}, one of each class, or 0 for all"
        )


def split_test(
    x: np.ndarray, y: np.ndarray, share: float, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Say which images of a set without a test are kept to test with.

    What is in an image decides, and `seed`: an image stays in its part when others are added, and
    all images that are the same in every pixel are in one part. A class that would be missing in a
    part gets the image that was nearest to it.

    Parameters
    ----------
    x, y : ndarray of shape (n, ...) and (n,)
        Images and their labels.
    share : float
        Of the images to test with, a fraction.
    seed : int
        Of the choice.

    Returns
    -------
    train, test : ndarray of int64
        Row numbers, ascending; together every row once.

    Raises
    ------
    ValueError
        If both parts cannot have an image of each class; names the label.
    """
    salted = [hashlib.sha256(b"%d|" % seed + digest).digest() for digest in _image_digests(x)]
    place = np.array([int.from_bytes(digest[:8]) for digest in salted]) / 2.0**64
    is_test = place < share
    for label in np.unique(y):
        mine = place[y == label]
        if not is_test[y == label].any():
            is_test |= place == mine.min()
        elif is_test[y == label].all():
            is_test &= place != mine.max()
    for label in np.unique(y):
        if len(np.unique(is_test[y == label])) < 2:
            raise ValueError(
                f"label {str(label) or repr('')} has no two different images, one to learn from "
                "and one to test with: give more images of it, or leave it out"
            )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def draw_rows(y: np.ndarray, n_rows: int, *, seed: int) -> np.ndarray:
    """Return at most `n_rows` row numbers drawn at random, with at least one of every class.

    Parameters
    ----------
    y : ndarray of shape (n,), integer
        Labels.
    n_rows : int
        How many; at least as many as there are classes are drawn.
    seed : int
        Of the draw.
    """
    drawn = np.random.default_rng(seed).permutation(len(y))[:n_rows]
    n_classes = len(np.unique(y))
    if len(np.unique(y[drawn])) == n_classes:
        return drawn
    return _draw(y, max(n_rows, n_classes), n_left=0, seed=[seed])


def first_of_each(y: np.ndarray, n_classes: int, *, most: int = 60) -> np.ndarray:
    """Return rows of the first images of each class: three where there are few classes, or one.

    Parameters
    ----------
    y : ndarray of shape (n,), integer
        Labels, from 0.
    n_classes : int
    most : int, default 60
        Rows; where there are more classes, the last ones are left out.
    """
    n_each = 3 if 3 * n_classes <= most else 1
    rows = [np.flatnonzero(y == label)[:n_each] for label in range(min(n_classes, most))]
    return np.concatenate(rows)


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
    DataFrame of shape (n_classes, 2)
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
