"""What a set of images must be, whatever file it came from; what is not is refused with a way out.

`image_set` takes arrays as they were found, and gives an `ImageSet`: pixels as bytes, labels that
number the classes, each class in both parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.images.files import Found
from lib.images.pictures import check_sides, fit
from lib.images.roles import Pair
from lib.images.sets import LEAST_CLASSES, MOST_CLASSES, ImageSet, split_test

import numpy as np


@dataclass(frozen=True)
class Options:
    """How images are taken, see `lib.images.load.load_images`."""

    is_grey: bool
    classes: tuple[str, ...] = ()
    test_share: float = 0.2
    test_seed: int = 0
    size: int = 0
    transpose: bool = False


def image_set(
    parts: Mapping[str, Pair], names: Mapping[int, str], options: Options, name: str
) -> ImageSet:
    """Return the set that arrays are, once sure that they keep every rule.

    Parameters
    ----------
    parts : mapping of str to (Found, Found)
        Images and labels by ``train``, ``test``, ``validation``, or "" for all.
    names : mapping of int to str
        Of the labels, as far as the source says.
    options : Options
    name : str
        What messages call the source.

    Raises
    ------
    ValueError
        Names what breaks a rule, and what to give.
    """
    checked = {part: (_images(x, options), _labels(y, x)) for part, (x, y) in parts.items()}
    _check_shapes(checked, parts)
    (x_train, y_train), test, notes = _two_parts(checked, options, name)
    labels, classes = _classes(y_train, test[1], names, options, name)
    if len(labels) > MOST_CLASSES or len(labels) < LEAST_CLASSES:
        raise ValueError(
            f"{name} has {len(labels):,} different labels: give {LEAST_CLASSES} to {MOST_CLASSES} "
            "classes"
        )
    for part, y in (("train", y_train), ("test", test[1])):
        absent = np.flatnonzero(~np.isin(labels, y))
        if len(absent):
            told = ", ".join(_told(labels[k], classes[k]) for k in absent[:10])
            raise ValueError(
                f"{name}: y_{part} must hold each of the {len(labels)} classes and has no {told}: "
                "leave these out of the other part, or give the training part alone, and a test is "
                "split off"
            )
    as_bytes = [np.searchsorted(labels, y).astype(np.uint8) for y in (y_train, test[1])]
    return ImageSet(x_train, as_bytes[0], test[0], as_bytes[1], tuple(classes), tuple(notes))


Arrays = tuple[np.ndarray, np.ndarray]


def _two_parts(
    parts: Mapping[str, Arrays], options: Options, name: str
) -> tuple[Arrays, Arrays, list[str]]:
    """Return what to learn from and what to test with, and what was done for it."""
    if parts.keys() == {"train", "test"}:
        return parts["train"], parts["test"], []
    if parts.keys() == {"train", "test", "validation"}:
        both = zip(parts["train"], parts["validation"], strict=True)
        n_joined = len(parts["validation"][1])
        note = f"the {n_joined:,} images of the validation part were joined to those of training"
        return tuple(np.concatenate(pair) for pair in both), parts["test"], [note]
    if len(parts) == 1 and "test" not in parts and "validation" not in parts:
        x, y = next(iter(parts.values()))
        try:
            train, test = split_test(x, y, options.test_share, seed=options.test_seed)
        except ValueError as error:
            raise ValueError(
                f"{name} has no test part, and none can be split off: {error}"
            ) from None
        note = (
            f"{len(test):,} of {len(y):,} images were split off as a test, by what is in them: "
            f"test_share={options.test_share:g}, test_seed={options.test_seed}; equal images are "
            "in one part"
        )
        return (x[train], y[train]), (x[test], y[test]), [note]
    told = ", ".join(sorted(part or "without a name" for part in parts))
    raise ValueError(
        f"{name} has the parts {told}: give train and test (with validation or without), or "
        "train alone, and a test is split off"
    )


# Pixels ---------------------------------------------------------------------------------------


def _images(found: Found, options: Options) -> np.ndarray:
    """Return the images as uint8 of shape (n, side, side) or (n, side, side, 3)."""
    x = found.values
    x = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x
    shape = "(n, side, side)" if options.is_grey else "(n, side, side, 3)"
    is_colour = x.ndim == 4 and x.shape[-1] == 3
    if not (is_colour or x.ndim == 3) or x.dtype.kind not in "iufb":
        raise ValueError(
            f"{found.place} must be raw pixels of shape {shape}, not {x.dtype} of shape {x.shape}"
            + _way_out(x)
        )
    x = _as_bytes(x, found.place)
    if options.is_grey and is_colour:
        if (x != x[..., :1]).any():
            raise ValueError(
                f"{found.place} has colours, shape {x.shape}, and this pipeline takes grey images: "
                "run PIPELINE=cifar10 with the same source"
            )
        x = x[..., 0]
    if not options.is_grey and (not is_colour or _is_grey(found, x)):
        raise ValueError(
            f"{found.place} is grey, shape {x.shape}, and this pipeline takes colours: run "
            "PIPELINE=mnist with the same source"
        )
    x = x.swapaxes(1, 2) if options.transpose else x
    check_sides(*x.shape[1:3], found.place, options.size)
    if options.size and x.shape[1:3] != (options.size, options.size):
        x = _resized(x, options.size)
    return np.ascontiguousarray(x)


def _is_grey(found: Found, x: np.ndarray) -> bool:
    """Whether these are pictures of which none has a colour."""
    return not found.key and len(x) > 0 and not (x != x[..., :1]).any()


def _as_bytes(x: np.ndarray, place: str) -> np.ndarray:
    """Return pixels as uint8, if that changes no value."""
    if x.max(initial=0) <= 1:
        raise ValueError(
            f"{place} must hold pictures of pixels from 0 to 255, and has none above 1: give the "
            "raw pixels, before they are scaled; of pixels from 0 to 1, np.rint(x * 255)"
        )
    if x.dtype == np.uint8:
        return x
    wrong = (x < 0) | (x > 255) | (x % 1 != 0)
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(
            f"{place} must be whole numbers from 0 to 255: image {where[0]} has {x[where]!s} at "
            f"row {where[1]}, column {where[2]}; give the raw pixels, before they are scaled"
        )
    return x.astype(np.uint8)


def _way_out(x: np.ndarray) -> str:
    """Say how arrays of other shapes are turned, where that can be told."""
    side = round(x.shape[1] ** 0.5) if x.ndim == 2 else 0
    if x.ndim == 2 and side * side == x.shape[1]:
        return f": give x.reshape(-1, {side}, {side})"
    if x.ndim == 4 and x.shape[1] == 3:
        return ": give x.transpose(0, 2, 3, 1)"
    return ""


def _resized(x: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(fit(Image.fromarray(image), size)) for image in x])


def _check_shapes(checked: Mapping[str, Arrays], parts: Mapping[str, Pair]) -> None:
    first, *others = checked
    for other in others:
        mine, theirs = (checked[part][0].shape[1:] for part in (first, other))
        if mine != theirs:
            raise ValueError(
                f"{parts[first][0].place} has images of shape {mine} and {parts[other][0].place} "
                f"of {theirs}: they must be of one size; give size={min(mine[0], theirs[0])} to "
                "bring all to it"
            )


# Labels ---------------------------------------------------------------------------------------


def _labels(found: Found, images: Found) -> np.ndarray:
    """Return the labels as whole numbers or text of shape (n,)."""
    y, n_images = found.values, len(images.values)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    y = y[0] if y.ndim == 2 and y.shape == (1, n_images) and n_images > 1 else y
    is_whole = y.dtype.kind == "f" and bool((y % 1 == 0).all())
    y = y.astype(np.int64) if is_whole else y
    y = y.astype(str) if y.dtype.kind == "S" else y
    if y.shape != (n_images,) or y.dtype.kind not in "iuU":
        one_hot = y.ndim == 2 and y.shape[0] == n_images
        raise ValueError(
            f"{found.place} must be whole numbers or names, one for each of the {n_images} images, "
            f"not {found.values.dtype} of shape {found.values.shape}"
            + (": give y.argmax(axis=1)" if one_hot else "")
        )
    return y


def _classes(
    y_train: np.ndarray,
    y_test: np.ndarray,
    names: Mapping[int, str],
    options: Options,
    name: str,
) -> tuple[np.ndarray, list[str]]:
    """Return the labels that there are, in order, and the names of the classes."""
    if (y_train.dtype.kind == "U") != (y_test.dtype.kind == "U"):
        raise ValueError(
            f"{name} has numbers as labels in one part and names in the other: give one of them"
        )
    labels = np.unique(np.concatenate([y_train, y_test]))
    shown = [str(label) for label in labels]
    if options.classes:
        if len(options.classes) != len(labels):
            raise ValueError(
                f"classes has {len(options.classes)} names, and {name} has {len(labels)} labels, "
                f"{_few(shown)}: give a name for each, in their order"
            )
        classes = list(options.classes)
    elif names:
        unnamed = [
            label for label in shown if label.lstrip("-").isdigit() and int(label) not in names
        ]
        if unnamed or labels.dtype.kind == "U":
            raise ValueError(
                f"{name} names the labels {_few([str(k) for k in names])} and has also "
                f"{_few(unnamed or shown)}: give the names by classes"
            )
        classes = [names[int(label)] for label in labels]
    else:
        classes = shown
    alike = [one.replace(" ", "_") for one in classes]
    twice = next((one for k, one in enumerate(classes) if alike[k] in alike[:k]), None)
    if twice is not None or "" in alike:
        raise ValueError(
            f"{name} has two classes called {twice!r}: give names that differ by classes"
        )
    return labels, classes


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … {names[-1]}" if len(names) > 5 else "")


def _told(label: object, name: str) -> str:
    return f"{label} ({name})" if str(label) != name else name
