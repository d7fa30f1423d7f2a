"""A folder for each class, of PNG or JPEG pictures: decoded as they are, or refused by name.

Which level of folders is the class is told by the folders: one level may hold the parts (train and
test), exactly one other may vary. A picture is decoded to its pixels without loss of meaning, or is
an error; nothing is scaled unless a size was asked for.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from lib.images.files import Found
from lib.images.roles import Pair, part_of

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg")
LEAST_SIDE, MOST_SIDE = 16, 96

WANTED = (
    "give a folder that holds a folder for each class, or train and test and in them a folder for "
    "each class"
)

Files = Sequence[tuple[str, Callable[[], bytes]]]
"""Paths within the source, with how to read each."""


class BadPicture(ValueError):
    """A picture that cannot be used; the message names it."""


def read_pictures(files: Files, name: str, size: int = 0) -> tuple[dict[str, Pair], list[str]]:
    """Return the pictures of all classes, and the names of those.

    Parameters
    ----------
    files : sequence of (str, callable)
        All pictures of the source.
    name : str
        What messages call it.
    size : int, default 0
        Height and width to bring pictures to, see `fit`; 0 for as they are.

    Returns
    -------
    parts : dict of str to (Found, Found)
        By ``train``, ``test``, ``validation``, or "" where folders name no part. Labels are
        positions in the names.
    names : list of str
        Names of the folders, those of numbers in their order.

    Raises
    ------
    ValueError
        If folders do not say which class a picture is of; or one cannot be read, is of another size
        than the first, or too small, too large or not square.
    """
    places = _places(files, name)
    names = sorted({label for _, label in places}, key=_in_order)
    label_of = {label: k for k, label in enumerate(names)}
    parts: dict[str, tuple[list[np.ndarray], list[int]]] = {}
    first = ""
    for (path, read), (part, label) in zip(files, places, strict=True):
        place = f"{name}: {path}"
        pixels = decode(read(), place, size)
        images, labels = parts.setdefault(part, ([], []))
        before = images[0].shape[:2] if images else pixels.shape[:2]
        if pixels.shape[:2] != before:
            raise ValueError(
                f"{place} has {_sides(pixels.shape)} pixels and {first} has {_sides(before)}: they "
                f"must be of one size; give size={min(before)} to bring all to it"
            )
        first = first or path
        images.append(pixels)
        labels.append(label_of[label])
    pairs = {part: _pair(*found, f"{name}: {part}".rstrip(": ")) for part, found in parts.items()}
    return pairs, names


def decode(content: bytes, place: str, size: int = 0) -> np.ndarray:
    """Return the pixels of a PNG or JPEG, uint8 of shape (height, width, 3).

    Raises
    ------
    BadPicture
        If it is damaged, moves, is transparent or has more than 8 bits, or its sides do not fit.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as picture:
            _check(picture, place, size)
            turned = ImageOps.exif_transpose(picture)
            is_clear = "A" in turned.mode or "transparency" in turned.info
            if is_clear and turned.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                raise BadPicture(
                    f"{place} is transparent in places, and what is behind it is not known: save "
                    "it on a background"
                )
            plain = turned.convert("RGB")
            return np.asarray(fit(plain, size) if size else plain)
    except BadPicture:
        raise
    except Exception as error:  # a damaged picture may raise nearly anything
        raise BadPicture(
            f"{place} is cut short, damaged or no PNG or JPEG ({type(error).__name__}): save it "
            "again, or take it out"
        ) from error


def fit(picture: "Image.Image", size: int) -> "Image.Image":
    """Return the middle of a picture, as much as a square holds, with sides of `size` pixels."""
    from PIL import ImageOps

    return ImageOps.fit(picture, (size, size))


def _check(picture: "Image.Image", place: str, size: int) -> None:
    """Raise where the head of a picture says that it cannot be used."""
    if getattr(picture, "n_frames", 1) > 1:
        raise BadPicture(f"{place} moves, it has {picture.n_frames} pictures: save one of them")
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise BadPicture(
            f"{place} has pixels of the kind {picture.mode}: save it in grey or red, green and "
            "blue, of 8 bits each"
        )
    check_sides(*picture.size[::-1], place, size)


def check_sides(height: int, width: int, place: str, size: int = 0) -> None:
    """Raise BadPicture unless an image is square and of a size that the networks take."""
    if size or (height == width and LEAST_SIDE <= height <= MOST_SIDE):
        return
    middle = min(max(min(height, width), LEAST_SIDE), MOST_SIDE)
    raise BadPicture(
        f"{place} has {height} x {width} pixels: images must be square, {LEAST_SIDE} to "
        f"{MOST_SIDE} pixels high; give size={middle} to cut out the middle and bring it to that"
    )


def _places(files: Files, name: str) -> list[tuple[str, str]]:
    """Return the part and the class of each picture; "" where folders name no part."""
    folders = [path.split("/")[:-1] for path, _ in files]
    depths = Counter(map(len, folders))
    usual = max(depths, key=depths.get)
    for (path, _), above in zip(files, folders, strict=True):
        if len(above) != usual:
            raise ValueError(f"{name}: {path} lies deeper or less deep than the others: {WANTED}")
    levels = list(zip(*folders, strict=True))
    parts = [[part_of(folder) for folder in level] for level in levels]
    of_parts = next((k for k, found in enumerate(parts) if "train" in found and all(found)), None)
    varying = [k for k, level in enumerate(levels) if len({*level}) > 1 and k != of_parts]
    if len(varying) != 1:
        told = "more than one level of folders" if varying else "no folder for each class"
        raise ValueError(f"{name} has {told}, as in {files[0][0]}: {WANTED}")
    part = parts[of_parts] if of_parts is not None else [""] * len(files)
    return list(zip(part, levels[varying[0]], strict=True))


def _in_order(label: str) -> tuple[bool, int, str]:
    return (False, int(label), label) if label.isdecimal() else (True, 0, label)


def _sides(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _pair(images: list[np.ndarray], labels: list[int], place: str) -> Pair:
    y = np.array(labels, dtype=np.int64)
    return Found("", "", np.stack(images), place), Found("", "", y, f"{place}: labels")
