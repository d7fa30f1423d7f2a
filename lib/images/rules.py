"""What images and labels must be, whatever file they came from; what is not is refused.

Pixels become bytes where no value changes, and labels numbers of classes; nothing is scaled unless
a size was asked for.
"""

from collections.abc import Mapping, Sequence

from lib.images.arrays import Found
from lib.images.files import BadImages, few
from lib.images.roles import Pair
from lib.images.sets import LEAST_CLASSES, MOST_CLASSES, split_test

import numpy as np

LEAST_SIDE, MOST_SIDE = 16, 96

Arrays = tuple[np.ndarray, np.ndarray]
"""Images and their labels."""


def check_size(size: int) -> None:
    """Raise unless images can be brought to this height and width; 0 is for as they are."""
    if size and not LEAST_SIDE <= size <= MOST_SIDE:
        raise BadImages(
            f"size is {size}: give {LEAST_SIDE} to {MOST_SIDE} pixels, or 0 for images as they are"
        )


def check_sides(
    shape: Sequence[int], place: str, first: Sequence[int], first_place: str, size: int
) -> None:
    """Raise unless images are square, as large as the first, and of a size that networks take."""
    sides = f"{place} has {shape[0]} x {shape[1]} pixels"
    if not size and (shape[0] != shape[1] or not LEAST_SIDE <= shape[0] <= MOST_SIDE):
        side = min(max(min(shape[:2]), LEAST_SIDE), MOST_SIDE)
        raise BadImages(
            f"{sides}: images must be square, {LEAST_SIDE} to {MOST_SIDE} pixels high; give "
            f"size={side} to cut out the middle and bring it to that"
        )
    if not size and tuple(shape[:2]) != tuple(first[:2]):
        raise BadImages(
            f"{sides} and {first_place} has {first[0]} x {first[1]}: they must be of one size; "
            f"give size={min(*shape[:2], *first[:2])} to bring all to it"
        )


def check_pairs(
    parts: Mapping[str, Pair], *, is_grey: bool, size: int, transpose: bool
) -> dict[str, Arrays]:
    """Return images of shape (n, side, side) or (n, side, side, 3), uint8, and labels, by part."""
    checked: dict[str, Arrays] = {}
    place = next(iter(parts.values()))[0].place
    for part, (x, y) in parts.items():
        images = _pixels(x.values, x.place, is_grey=is_grey)
        images = images.swapaxes(1, 2) if transpose else images
        first = next(iter(checked.values()), [images])[0]
        check_sides(images.shape[1:], x.place, first.shape[1:], place, size)
        images = _resized(images, size) if size else images
        checked[part] = np.ascontiguousarray(images), check_labels(y, len(x.values))
    return checked


def _pixels(x: np.ndarray, place: str, *, is_grey: bool) -> np.ndarray:
    """Return raw pixels as bytes, with an axis of colours or none."""
    x = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x
    has_colours = x.ndim == 4 and x.shape[-1] == 3
    if not (has_colours or x.ndim == 3) or x.dtype.kind not in "iufb":
        side = round(x.shape[1] ** 0.5) if x.ndim == 2 else 0
        way = f": give x.reshape(-1, {side}, {side})" if side and side**2 == x.shape[1] else ""
        way = ": give x.transpose(0, 2, 3, 1)" if x.ndim == 4 and x.shape[1] == 3 else way
        raise BadImages(
            f"{place} must be raw pixels of shape (n, side, side{'' if is_grey else ', 3'}), not "
            f"{x.dtype} of shape {x.shape}{way}"
        )
    if x.max(initial=0) <= 1:
        raise BadImages(
            f"{place} must hold pictures of pixels from 0 to 255, and "
            f"{'has none above 1' if x.size else 'is empty'}: give the raw pixels, before they are "
            "scaled; of pixels from 0 to 1, np.rint(x * 255)"
        )
    if x.dtype != np.uint8 and (wrong := (x < 0) | (x > 255) | (x % 1 != 0)).any():
        image, row, column, *_ = at = np.unravel_index(wrong.argmax(), wrong.shape)
        raise BadImages(
            f"{place} must be whole numbers from 0 to 255: image {image} has {x[at]!s} at row "
            f"{row}, column {column}; give the raw pixels, before they are scaled"
        )
    if is_grey and has_colours and (x == x[..., :1]).all():
        x, has_colours = x[..., 0], False
    if is_grey == has_colours:
        raise BadImages(
            f"{place} {'has colours' if has_colours else 'is grey'}, shape {x.shape}, and this "
            f"pipeline takes {'grey images' if is_grey else 'colours'}: run "
            f"PIPELINE={'cifar10' if is_grey else 'mnist'} with the same source"
        )
    return x.astype(np.uint8, copy=False)


def _resized(x: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.stack([ImageOps.fit(Image.fromarray(image), (size, size)) for image in x])


def check_labels(found: Found, n_images: int) -> np.ndarray:
    """Return labels as whole numbers or text, one for each image."""
    y = found.values
    y = y.ravel() if y.ndim == 2 and 1 in y.shape else y
    if y.dtype.kind == "f" and ((y % 1 == 0) & (abs(y) < 2**53)).all():
        y = y.astype(np.int64)
    if y.shape != (n_images,) or y.dtype.kind not in "iuUS":
        one_hot = ": give y.argmax(axis=1)" if y.ndim == 2 and len(y) == n_images else ""
        raise BadImages(
            f"{found.place} must be whole numbers or names, one for each of the {n_images} images, "
            f"not {found.values.dtype} of shape {found.values.shape}{one_hot}"
        )
    return y.astype(str) if y.dtype.kind == "S" else y


def two_parts(
    parts: Mapping[str, Arrays], share: float, seed: int, name: str
) -> tuple[Arrays, Arrays, list[str]]:
    """Return what to learn from, what to test with, and what was done for it.

    Without a test part one is split off, see `lib.images.sets.split_test`; with one, a validation
    part is learned from.
    """
    if parts.keys() == {"train", "test"}:
        return parts["train"], parts["test"], []
    if parts.keys() == {"train", "test", "validation"}:
        both = zip(parts["train"], parts["validation"], strict=True)
        n_joined = len(parts["validation"][1])
        note = f"the {n_joined:,} images of the validation part were joined to those of training"
        return tuple(np.concatenate(pair) for pair in both), parts["test"], [note]
    if len(parts) != 1 or parts.keys() & {"test", "validation"}:
        told = ", ".join(sorted(part or "without a name" for part in parts))
        raise BadImages(
            f"{name} has the parts {told}: give train and test (with validation or without), or "
            "train alone, and a test is split off; a validation part alone, renamed, is a test"
        )
    ((x, y),) = parts.values()
    try:
        train, test = split_test(x, y, share, seed=seed)
    except ValueError as error:
        raise BadImages(f"{name} has no test part, and none can be split off: {error}") from None
    note = (
        f"{len(test):,} of {len(y):,} images were split off as a test, by what is in them: "
        f"test_share={share:g}, test_seed={seed}; equal images are in one part"
    )
    return (x[train], y[train]), (x[test], y[test]), [note]


def number_classes(
    y_train: np.ndarray, y_test: np.ndarray, names: Sequence[str], given: Sequence[str], name: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return labels as positions in the names of the classes, and these names.

    By `names` the source calls the labels from 0, by `given` the user those that there are, in
    their order; either may be empty.
    """
    if (y_train.dtype.kind == "U") != (y_test.dtype.kind == "U"):
        raise BadImages(
            f"{name} has numbers as labels in one part and names in the other: give one of them"
        )
    labels = np.unique(np.concatenate([y_train, y_test]))
    n_classes, shown = len(labels), [str(label) for label in labels]
    if not LEAST_CLASSES <= n_classes <= MOST_CLASSES:
        raise BadImages(
            f"{name} has {n_classes:,} different labels: give {LEAST_CLASSES} to {MOST_CLASSES} "
            "classes"
        )
    called = dict(zip(shown, given or shown, strict=False))
    called = {str(k): one for k, one in enumerate(names)} if names and not given else called
    unnamed = [label for label in shown if label not in called]
    if unnamed or len(given) not in (0, n_classes):
        raise BadImages(
            f"{name} has {n_classes} labels, {few(shown)}, and {len(given) or len(names)} names of "
            f"classes, {few([*called.values()])}: give a name for each, in their order, by classes"
        )
    classes = tuple(called[label] for label in shown)
    alike = [one.replace(" ", "_") for one in classes]
    twice = [one for k, one in enumerate(classes) if alike[k] in ("", *alike[:k])]
    if twice:
        raise BadImages(
            f"{name} has two classes called {twice[0]!r}: give names that differ by classes"
        )
    for part, y in (("train", y_train), ("test", y_test)):
        absent = [shown[k] for k in np.flatnonzero(~np.isin(labels, y))]
        if absent:
            told = [one if one == called[one] else f"{one} ({called[one]})" for one in absent]
            raise BadImages(
                f"{name}: y_{part} must hold each of the {n_classes} classes and has no "
                f"{few(told)}: leave these out of the other part, or give the training part "
                "alone, and a test is split off"
            )
    numbers = (np.searchsorted(labels, y).astype(np.uint8) for y in (y_train, y_test))
    return *numbers, classes
