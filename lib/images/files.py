"""Files that hold arrays of images and labels: idx, npz, npy, CSV, MATLAB; packed or in an archive.

Which form a file has is told by its bytes, never by its name. A file is read to its end or refused;
nothing in it is unpickled or run. What the arrays are is for `lib.images.roles` to say.
"""

import bz2
import gzip
import io
import lzma
import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
SEPARATORS = ",;\t"
FORMS = (
    "idx, npz, npy, CSV with a row of pixels for each image, MATLAB up to version 7, CIFAR's own "
    "batches, or a folder of PNG or JPEG for each class; single, packed or in a zip or tar archive"
)
OTHERS = {
    b"\x89HDF": "HDF5",
    b"MATLAB 7.3": "MATLAB's version 7.3",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x80\x02": "a pickle, which is not opened as it could run anything",
    b"\x80\x03": "a pickle, which is not opened as it could run anything",
    b"\x80\x04": "a pickle, which is not opened as it could run anything",
    b"\x80\x05": "a pickle, which is not opened as it could run anything",
    b"\x89PNG": "a single picture",
    b"\xff\xd8\xff": "a single picture",
    b"<": "a web page",
    b"Rar!": "a rar archive",
    b"7z": "a 7z archive",
}
CONVERT = (
    "make an .npz of it, np.savez('images.npz', x_train=…, y_train=…, x_test=…, y_test=…), of "
    "pixels from 0 to 255"
)


@dataclass(frozen=True, eq=False)
class Found:
    """An array that was found somewhere.

    Attributes
    ----------
    file, key : str
        The file's path in the source, and the array's name in the file; "" if it has none.
    values : numpy.ndarray
    place : str
        What messages call it.
    """

    file: str
    key: str
    values: np.ndarray
    place: str


def unpacked(content: bytes, place: str) -> bytes:
    """Return the content of a file without gzip, bzip2 or xz around it; its check sum is checked.

    Raises
    ------
    ValueError
        If it is cut short or damaged.
    """
    for magic, unpack in PACKED.items():
        if content.startswith(magic):
            try:
                return unpack(content)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise ValueError(
                    f"{place} is cut short or damaged ({error}): fetch it again"
                ) from error
    return content


def members(content: bytes, place: str) -> list[tuple[str, bytes]] | None:
    """Return path and content of the files in a zip or tar archive; None if it is none.

    An .npz counts as none. Links are left out, and no path reaches the disk.

    Raises
    ------
    ValueError
        If it is cut short or damaged, or asks for a password.
    """
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                files = [item for item in archive.infolist() if not item.is_dir()]
                if any(item.filename.endswith(".npy") for item in files):
                    return None
                return [(item.filename, archive.read(item)) for item in files]
        if not tarfile.is_tarfile(io.BytesIO(content)):
            return None
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            files = [item for item in archive if item.isreg()]
            return [(item.name, archive.extractfile(item).read()) for item in files]
    except (OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        reason = error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        reason = error
    raise ValueError(
        f"{place} is an archive that is cut short or damaged ({reason}): fetch it again"
    )


def read_arrays(file: str, content: bytes, place: str, label: str = "") -> list[Found]:
    """Return all arrays of one file.

    Parameters
    ----------
    file : str
        Its path in the source.
    content : bytes
        Not packed any more.
    place : str
        What messages call it.
    label : str
        Of a CSV the name of the column of labels, or its number, from 1; "" for ``label``.

    Raises
    ------
    ValueError
        If it has another form, is cut short or damaged, or holds what is no pixel or label.
    """
    if (
        content[:2] == b"\0\0"
        and len(content) > 3
        and content[2] in IDX
        and content[3] in (1, 2, 3, 4)
    ):
        return [Found(file, "", _read_idx(content, place), place)]
    if content.startswith((b"PK", b"\x93NUMPY")):
        return _read_numpy(file, content, place)
    other = next((words for magic, words in OTHERS.items() if content.startswith(magic)), "")
    if other:
        raise ValueError(f"{place} is {other}: {CONVERT}, or give {FORMS}")
    if content.startswith(b"MATLAB"):
        return _read_matlab(file, content, place)
    if content and b"\0" not in content[:4096]:
        pixels, labels = read_csv(content, place, label)
        return [Found(file, "x", pixels, place), Found(file, "y", labels, f"{place}: labels")]
    raise ValueError(
        f"{place} is cut short, or of no form that is known: {CONVERT}, or give {FORMS}"
    )


def _read_idx(content: bytes, place: str) -> np.ndarray:
    dtype, first = np.dtype(IDX[content[2]]), 4 + 4 * content[3]
    shape = [int.from_bytes(content[k : k + 4]) for k in range(4, first, 4)]
    expected = first + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{place} is {'cut short' if len(content) < expected else 'damaged'}: by its head it "
            f"holds {' x '.join(map(str, shape))} values in {expected:,} bytes, and it has "
            f"{len(content):,}: fetch it again"
        )
    return np.frombuffer(content, dtype, offset=first).reshape(shape)


def _read_numpy(file: str, content: bytes, place: str) -> list[Found]:
    key = ""
    try:
        opened = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return [Found(file, "", opened, place)]
        found = []
        for key in opened.files:
            found.append(Found(file, key, opened[key], f"{place}: {key}"))
        return found
    except Exception as error:  # a damaged zip or header may raise nearly anything
        where = f"{place}: {key}" if key else place
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{where} holds Python objects, which are not unpickled as they could run "
                "anything: save numbers, of images of one size, or labels as np.array(labels, str)"
            ) from error
        raise ValueError(f"{where} is cut short or damaged ({error}): fetch it again") from error


def _read_matlab(file: str, content: bytes, place: str) -> list[Found]:
    """Return the arrays of a MATLAB file, images first, which are last in MATLAB."""
    from scipy.io import loadmat

    try:
        loaded = loadmat(io.BytesIO(content))
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f"{place} is cut short or damaged ({error}): fetch it again") from error
    found = []
    for key, values in loaded.items():
        if key.startswith("__"):
            continue
        last = values.ndim > 2 and values.shape[0] == values.shape[1] != values.shape[-1]
        found.append(
            Found(file, key, np.moveaxis(values, -1, 0) if last else values, f"{place}: {key}")
        )
    return found


# Text ------------------------------------------------------------------------------------------


def read_csv(content: bytes, place: str, label: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of text with a label and the pixels of a grey image in each line.

    Parameters
    ----------
    content : bytes
        Separated by comma, semicolon or tab.
    place : str
        What messages call it.
    label : str
        Name of the column of labels; its number, from 1, where no line names the columns; "" for
        ``label``.

    Returns
    -------
    images : ndarray of shape (n, side, side), uint8
    labels : ndarray of shape (n,), integer or str

    Raises
    ------
    ValueError
        Names line, column and value that cannot be read.
    """
    import pyarrow as pa
    from pyarrow import csv

    first = content[: 1 << 20].split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip()
    separator = max(SEPARATORS, key=first.count)
    names = [name.strip().strip('"') for name in first.split(separator)]
    if len(names) < 2:
        raise ValueError(f"{place} is of no form that is known: {CONVERT}, or give {FORMS}")
    is_named = not all(re.fullmatch(r"[\d.+-]+", name) for name in names)
    at = _label_column(names, label, place, is_named=is_named)
    pixels = names[:at] + names[at + 1 :]
    side = _side_of(pixels, place, is_named=is_named)
    keys = [str(k) for k in range(len(names))]
    types = {key: pa.uint8() for key in keys} | {keys[at]: pa.string()}
    read = csv.ReadOptions(column_names=keys, skip_rows=int(is_named), use_threads=False)
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            read,
            csv.ParseOptions(delimiter=separator),
            csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(_csv_problem(str(error), names, place, is_named=is_named)) from None
    labels = table.column(keys[at]).to_pylist()
    whole = all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in labels)
    y = np.array(labels, np.int64) if whole else np.array(labels, dtype=str)
    columns = [table.column(key).to_numpy() for k, key in enumerate(keys) if k != at]
    return np.stack(columns, axis=1).reshape(-1, side, side), y


def _label_column(names: Sequence[str], label: str, place: str, *, is_named: bool) -> int:
    """Return the position of the labels."""
    shown = ", ".join(map(repr, names[:4]))
    if not is_named:
        if label.isdigit() and 1 <= int(label) <= len(names):
            return int(label) - 1
        raise ValueError(
            f"{place}, line 1 names no columns, it holds {len(names)} numbers ({shown}, …): say "
            'which column holds the labels, columns=["label=1"] for the first'
        )
    wanted = (label or "label").lower()
    found = [k for k, name in enumerate(names) if name.lower() == wanted]
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"{place}, line 1 has {'no' if not found else 'more than one'} column "
        f"{label or 'label'!r} among {len(names)} ({shown}, …): say what the column of labels is "
        'called, columns=["label=class"]; images without labels cannot be used'
    )


def _side_of(pixels: Sequence[str], place: str, *, is_named: bool) -> int:
    """Return height and width of the images that the columns are."""
    side = math.isqrt(len(pixels))
    if side * side != len(pixels):
        raise ValueError(
            f"{place} has {len(pixels)} columns beside the label, which make no square: a grey "
            f"image of 28 x 28 pixels has 784. Remove the others; the first are "
            f"{', '.join(map(repr, pixels[:3]))}, the last is {pixels[-1]!r}"
        )
    matches = [re.fullmatch(r"\D*(\d+)", name) for name in pixels]
    if is_named and all(matches):
        numbers = [int(match[1]) for match in matches]
        for k in range(1, len(pixels)):
            if numbers[k] <= numbers[k - 1]:
                raise ValueError(
                    f"{place}, line 1: column {pixels[k]!r} comes after {pixels[k - 1]!r}, so the "
                    "pixels are not in order, row by row: sort the columns by their numbers"
                )
    return side


def _csv_problem(error: str, names: Sequence[str], place: str, *, is_named: bool) -> str:
    """Say in our words what pyarrow could not read."""
    row = re.search(r"Row #(\d+)", error)
    where = f"{place}, line {row[1]}" if row else place
    value = re.search(r"column #(\d+).*invalid value '(.*)'", error, re.DOTALL)
    if value:
        column = int(value[1])
        name = names[column] if is_named else f"{column + 1}"
        return (
            f"{where}, column {name}: {value[2][:20]!r} is no pixel: pixels are whole numbers from "
            "0 to 255"
        )
    count = re.search(r"Expected (\d+) columns, got (\d+)", error)
    if count:
        return (
            f"{where} has {count[2]} values and not {count[1]} as the first line: the file is cut "
            "short or damaged; fetch it again"
        )
    return f"{place} cannot be read as lines of a label and pixels: {error[:120]}"
