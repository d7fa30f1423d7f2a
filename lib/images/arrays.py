"""Files that hold arrays of images and labels: idx, npz, npy, MATLAB, CSV.

Nothing in them is unpickled or run. What an array is, `lib.images.roles` says.
"""

import io
import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from lib.dialect import fields_of
from lib.formats import PARQUET, START, UTF16, known
from lib.images.files import BadImages, File, few, reading

import numpy as np

IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
WAYS = (
    "make an .npz of it, np.savez('images.npz', x_train=…, y_train=…, x_test=…, y_test=…), of "
    "pixels from 0 to 255; or give idx, npz, npy, CSV with a row of pixels for each image, MATLAB "
    "up to version 7, CIFAR's own batches, or a folder of PNG or JPEG for each class"
)


class Found(NamedTuple):
    """An array: the file it was in, its name there or "", its values, what messages call it."""

    file: str
    key: str
    values: np.ndarray
    place: str


def read_arrays(file: File, label: str = "") -> list[Found]:
    """Return all arrays of a file.

    Of a CSV, `label` is the name of the column of labels, or its number from 1; "" stands for
    ``label``.
    """
    content, place = file.read(), file.place
    if content.startswith(UTF16):
        with reading(place, "text in UTF-16"):
            content = content.decode("utf-16").encode()
    if content[:2] == b"\0\0" and len(content) > 3 and content[2] in IDX and content[3] <= 4:
        arrays = {"": _idx(content, place)}
    elif content.startswith((b"PK", b"\x93NUMPY")):
        arrays = _numpy(content, place)
    elif content.startswith(b"MATLAB 5"):
        arrays = _matlab(content, place)
    elif other := "Parquet" if content.startswith(PARQUET) else known(content[:START])[0]:
        raise BadImages(f"{place} is {other}: {WAYS}")
    else:
        arrays, label = _csv(content, label, place), ""
    refuse_label(label, place)
    places = {key: f"{place}: {key}" if key else place for key in arrays}
    return [Found(file.path, key, values, places[key]) for key, values in arrays.items()]


def refuse_label(label: str, place: str) -> None:
    """Raise where a column of labels is named for what has no columns."""
    if label:
        raise BadImages(
            f'{place} has no columns, and columns=["label={label}"] names one: leave it out, or '
            "give a CSV with a row of pixels for each image"
        )


def label_array(texts: Sequence[str]) -> np.ndarray:
    """Return labels as whole numbers where each is one, so that 10 comes after 9; else as text."""
    whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", text) for text in texts)
    return np.array(texts, dtype=np.int64 if whole else str)


def _idx(content: bytes, place: str) -> np.ndarray:
    dtype, start = np.dtype(IDX[content[2]]), 4 + 4 * content[3]
    shape = [int.from_bytes(content[k : k + 4]) for k in range(4, start, 4)]
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise BadImages(
            f"{place} is {'cut short' if len(content) < expected else 'damaged'}: by its head it "
            f"holds {' x '.join(map(str, shape))} values in {expected:,} bytes, and it has "
            f"{len(content):,}: fetch it again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _numpy(content: bytes, place: str) -> dict[str, np.ndarray]:
    arrays = {}
    with reading(place):
        opened = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return {"": opened}
    for key in opened.files:
        with reading(f"{place}: {key}"):
            arrays[key] = np.asarray(opened[key])
    return arrays


def _matlab(content: bytes, place: str) -> dict[str, np.ndarray]:
    """Return the arrays of a MATLAB file, images first, which are last in MATLAB."""
    from scipy.io import loadmat

    with reading(place):
        found = {k: np.asarray(v) for k, v in loadmat(io.BytesIO(content)).items() if k[:2] != "__"}
    for key, x in found.items():
        if x.ndim > 2 and x.shape[0] == x.shape[1] and (x.ndim == 4 or x.shape[2] != x.shape[0]):
            found[key] = np.moveaxis(x, -1, 0)
    return found


def _csv(content: bytes, label: str, place: str) -> dict[str, np.ndarray]:
    """Return images and labels of text with a label and the pixels of a grey image in each line."""
    import pyarrow as pa
    from pyarrow import csv

    first = content[: 1 << 20].split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip()
    separator = max(",;\t", key=first.count)
    values = fields_of(first, separator)
    if len(values) < 2 or b"\0" in content[:4096]:
        raise BadImages(f"{place} is cut short, or of no form that is known: {WAYS}")
    others = [value for k, value in enumerate(values, 1) if str(k) != label]
    is_named = any(re.search(r"[^\d.+-]", value) for value in others)
    names = values if is_named else [str(k) for k in range(1, len(values) + 1)]
    at = _label_column(names, label, few(values), place)
    side = _side(names[:at] + names[at + 1 :], place)
    keys = [str(k) for k in range(len(names))]
    types = dict.fromkeys(keys, pa.uint8()) | {keys[at]: pa.string()}
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            csv.ReadOptions(column_names=keys, skip_rows=int(is_named), use_threads=False),
            csv.ParseOptions(delimiter=separator),
            csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        told = re.sub(r"(got \d+): .*", r"\1", str(error).replace("Row #", "line "), flags=re.S)
        told = re.sub(r"CSV column #(\d+)", lambda match: f"column {names[int(match[1])]}", told)
        raise BadImages(
            f"{place}: {told[:200]}. Each line must hold a label and {side * side} pixels, whole "
            "numbers from 0 to 255: mend it, or fetch it again if it is cut short"
        ) from None
    pixels = [table.column(key).to_numpy() for k, key in enumerate(keys) if k != at]
    x = np.stack(pixels, axis=1).reshape(-1, side, side)
    return {"x": x, "y": label_array(table.column(keys[at]).to_pylist())}


def _label_column(names: Sequence[str], label: str, shown: str, place: str) -> int:
    """Return the position of the labels."""
    found = [k for k, name in enumerate(names) if name.lower() == (label or "label").lower()]
    if not found and label.isdecimal() and 1 <= int(label) <= len(names):
        found = [int(label) - 1]
    if len(found) != 1:
        raise BadImages(
            f"{place}, line 1 has {'more than one' if found else 'no'} column {label or 'label'!r} "
            f"among {len(names)} ({shown}): say which one holds the labels, "
            'columns=["label=class"], or by number, columns=["label=1"], where line 1 names none; '
            "images without labels cannot be used"
        )
    return found[0]


def _side(pixels: Sequence[str], place: str) -> int:
    """Return height and width of the images that columns are, which must be in order."""
    side = math.isqrt(len(pixels))
    if side * side != len(pixels):
        raise BadImages(
            f"{place} has {len(pixels)} columns beside the label, which make no square: a grey "
            f"image of 28 x 28 pixels has 784. Remove the others of {few(pixels)}"
        )
    numbers = [re.fullmatch(r"\D*(\d+)", name) for name in pixels]
    for before, after in itertools.pairwise(numbers) if all(numbers) else ():
        if int(after[1]) <= int(before[1]):
            raise BadImages(
                f"{place}, line 1: column {after[0]!r} comes after {before[0]!r}, so the pixels "
                "are not in order, row by row: sort the columns by their numbers"
            )
    return side
