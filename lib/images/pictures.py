"""A folder for each class, of PNG or JPEG pictures: decoded as they are, or refused by name.

Which level of folders is the class is told by the folders: one level may hold the parts (train and
test), exactly one other may vary.
"""

from collections import Counter
from collections.abc import Sequence
from io import BytesIO

from lib.images.arrays import Found, label_array
from lib.images.files import BESIDE, BadImages, File, reading
from lib.images.roles import part_of
from lib.images.rules import check_sides

import numpy as np

FORM = "PNG or JPEG"
ENDINGS = (".png", ".jpg", ".jpeg", ".jfif")
TABLES = (".csv", ".mat")  # may lie beside pictures, too
WANTED = (
    "give a folder that holds a folder for each class, or train and test and in them a folder for "
    "each class"
)


def read_pictures(files: Sequence[File], name: str, size: int = 0) -> list[Found]:
    """Return the pictures of each part and the folder of each as label; nothing if there are none.

    With a `size`, the middle square of each is brought to that height and width.
    """
    shots = [file for file in files if file.path.lower().endswith(ENDINGS)]
    if not shots or (len(files) == 1 and "/" not in shots[0].path):
        return []
    for file in files:
        if not file.path.lower().endswith((*ENDINGS, *BESIDE, *TABLES)):
            raise BadImages(
                f"{file.place} is no {FORM}, as the {len(shots):,} others in {name}: save it "
                "as one, or take it out"
            )
    parts, classes = _places(shots, name)
    images: list[np.ndarray] = []
    for file in shots:
        pixels = decode(file.read(), file.place, size)
        first = images[0] if images else pixels
        check_sides(pixels.shape, file.place, first.shape, shots[0].path, size)
        images.append(pixels)
    found, labels = [], label_array(classes)
    for part in dict.fromkeys(parts):
        rows = [k for k, one in enumerate(parts) if one == part]
        place, x = f"{name}: {part}".rstrip(": "), np.stack([images[k] for k in rows])
        found.append(Found("", f"x_{part}", x, place))
        found.append(Found("", f"y_{part}", labels[rows], f"{place}: folders"))
    return found


def decode(content: bytes, place: str, size: int = 0) -> np.ndarray:
    """Return the pixels of a PNG or JPEG, uint8 of shape (height, width, 3)."""
    from PIL import Image, ImageOps

    with reading(place, FORM), Image.open(BytesIO(content), formats=("PNG", "JPEG")) as picture:
        check_sides(picture.size[::-1], place, picture.size[::-1], place, size)
        n_frames, problem = getattr(picture, "n_frames", 1), ""
        turned = ImageOps.exif_transpose(picture)
        if n_frames > 1:
            problem = f"moves, it has {n_frames} pictures: save one of them"
        elif picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
            problem = f"has pixels of the kind {picture.mode}: save it in grey or red, green and "
            problem += "blue, of 8 bits each"
        elif turned.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            problem = "is transparent in places, and what is behind it is not known: save it on a "
            problem += "background"
        if problem:
            raise BadImages(f"{place} {problem}")
        plain = turned.convert("RGB")
        return np.asarray(ImageOps.fit(plain, (size, size)) if size else plain)


def _places(shots: Sequence[File], name: str) -> tuple[list[str], list[str]]:
    """Return the part and the class of each picture; "" where folders name no part."""
    folders = [file.path.split("/")[:-1] for file in shots]
    usual = Counter(map(len, folders)).most_common(1)[0][0]
    for file, above in zip(shots, folders, strict=True):
        if len(above) != usual:
            raise BadImages(f"{file.place} lies deeper or less deep than the others: {WANTED}")
    levels = [list(level) for level in zip(*folders, strict=True)]
    parts = [[part_of(folder) for folder in level] for level in levels]
    of_parts = next((k for k, found in enumerate(parts) if "train" in found and all(found)), None)
    varying = [k for k, level in enumerate(levels) if len({*level}) > 1 and k != of_parts]
    if len(varying) != 1:
        told = "more than one level of folders" if varying else "no folder for each class"
        raise BadImages(f"{name} has {told}, as in {shots[0].path}: {WANTED}")
    return [""] * len(shots) if of_parts is None else parts[of_parts], levels[varying[0]]
