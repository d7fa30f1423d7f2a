"""The files that a source of images is: one or many, in folders or an archive, packed or not.

What a file is, its bytes tell and never its name. Nothing reaches the disk, no link is followed,
and a file is read to its end or refused.
"""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from lib.ground.console import redact
from lib.sources import is_litter, list_files, read_file

PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
BESIDE = (".txt", ".md", ".rst", ".html", ".htm", ".json", ".xml", ".yaml", ".yml", ".pdf", ".log")
BESIDE += ("readme", "license", "licence")
"""How files end that may lie beside images and are none; they are not read, which is noted."""
REASONS = {
    "allow_pickle": "holds Python objects, which are not unpickled as they could run anything: "
    "save numbers, of images of one size, or labels as np.array(labels, str)",
    "encrypted": "asks for a password: unpack it, and name the folder",
}
"""What is to be said where an error has a certain word in it."""


class BadImages(ValueError):
    """What cannot be used: the message says what it is, what is wrong, and what to give."""


def few(names: Sequence[str]) -> str:
    """Return names beside each other, of many the first and the last."""
    return ", ".join(names[:5]) + (f", … {names[-1]}" if len(names) > 5 else "")


@contextmanager
def reading(place: str, form: str = "") -> Iterator[None]:
    """Refuse what is no `form`, or damaged, at whatever a reader raises: that may be anything."""
    try:
        yield
    except BadImages:
        raise
    except Exception as error:
        reason = re.split("[\n<]", f"{type(error).__name__}: {error}")[0][:120]
        damaged = f"is cut short, damaged or no {form}" if form else "is cut short or damaged"
        damaged += f" ({reason.rstrip(': ')}): fetch it again, or take it out"
        told = next((told for word, told in REASONS.items() if word in str(error)), damaged)
        raise BadImages(f"{place} {told}") from error


@dataclass
class File:
    """A file: its path in the source, what messages call it, and whether anybody has read it."""

    path: str
    place: str
    fetch: Callable[[], bytes]
    is_read: bool = False

    def read(self) -> bytes:
        """Return the content without gzip, bzip2 or xz around it; their check sums are checked."""
        self.is_read = True
        content = self.fetch()
        for magic, unpack in PACKED.items():
            if content.startswith(magic):
                with reading(self.place):
                    return unpack(content)
        return content


def files_of(source: str) -> list[File]:
    """Return the files that a source names; of a single archive, and only of that, those in it."""
    shown = redact(source)
    listed = list_files(source, hint='give "sample" or "keras"', deep=True)
    files = [
        File(path, f"{shown}: {path}" if len(listed) > 1 else shown, partial(read_file, to, source))
        for path, to in listed
    ]
    files = members(files[0]) if len(files) == 1 else files
    if not files:
        raise BadImages(f"{shown} holds no file of images: name one that does")
    return files


def members(file: File) -> list[File]:
    """Return the files in a zip or tar archive, or the file alone if it is none, as no .npz is."""
    content = file.read()
    alone = [File(file.path, file.place, lambda: content)]
    with reading(file.place):
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                items = [item for item in archive.infolist() if not item.is_dir()]
                if any(item.filename.endswith(".npy") for item in items):
                    return alone
                inside = [(item.filename, archive.read(item)) for item in items]
        elif tarfile.is_tarfile(io.BytesIO(content)):
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                inside = [(i.name, archive.extractfile(i).read()) for i in archive if i.isreg()]
        else:
            return alone
    found = [File(path, f"{file.place}: {path}", partial(bytes, data)) for path, data in inside]
    return [file for file in found if not is_litter(file.path)]
