"""What a file is by its first bytes, never by its name: packed, a table, or something else.

Text is opened unpacked and in UTF-8, as a stream: memory holds a batch, whatever the size.
"""

import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import BytesIO
from typing import BinaryIO, NamedTuple

from lib.ground.console import redact
from lib.sources import is_litter

import pyarrow as arrow

ZIP, XZ, PARQUET = b"PK\x03\x04", b"\xfd7zXZ\0", b"PAR1"
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    XZ: "xz",
    ZIP: "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
STREAMS = ("gzip", "bz2", "zstd", "lz4")
"""Packings that Arrow unpacks."""
DAMAGED = (arrow.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
DAMAGED += (UnicodeDecodeError,)
START, TAIL, MOST_REASON = 1 << 16, 200, 120
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BLANK = b"\xef\xbb\xbf \t\r\n"
AS_CSV, AS_PARQUET = "write it as CSV or Parquet", "write its table as Parquet"
FETCH, UNPACK, SAVE = "fetch the file itself", "unpack it, or pack it with gzip", "save it as CSV"
SQL = "give sql:sqlite:///<path>#<table> where a pipeline takes SQL, or write it as Parquet"
OTHERS = {
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", SAVE),
    b"{": ("JSON", AS_CSV),
    b"[": ("JSON", AS_CSV),
    b"<?xml": ("XML", AS_CSV),
    b"<": ("a web page", FETCH),
    b"%PDF": ("a PDF", "fetch the table itself"),
    b"\x89HDF": ("HDF5", AS_PARQUET),
    b"\x89PNG": ("a single picture", "fetch the table itself"),
    b"\xff\xd8\xff": ("a single picture", "fetch the table itself"),
    b"GIF8": ("a single picture", "fetch the table itself"),
    b"RIFF": ("a single picture", "fetch the table itself"),
    b"II*\0": ("a single picture", "fetch the table itself"),
    b"MATLAB": ("a MATLAB file", AS_PARQUET),
    b"ARROW1": ("an Arrow (Feather) file", AS_PARQUET),
    b"FEA1": ("an old Feather file", AS_PARQUET),
    b"ORC": ("an ORC file", AS_PARQUET),
    b"Obj\x01": ("an Avro file", AS_PARQUET),
    b"SQLite format 3": ("a SQLite database", SQL),
    b"\x93NUMPY": ("a NumPy array", AS_PARQUET),
    b"\x80": ("a Python pickle, which is not opened as it could run anything", AS_PARQUET),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"DBN": ("in Databento's own encoding", "ask for CSV, or write it as Parquet"),
    b"]\0\0": ("packed by LZMA, as Dukascopy's own .bi5 files are", AS_CSV),
    b"PK\x05\x06": ("an empty zip archive", "fetch it again"),
}
"""What is known by its first bytes and not read, and what to do then."""
IN_BRACKETS = re.compile(rb"<\w+>[,;\t|]<")
"""Names of columns as MetaTrader and others write them, which begin as a web page does."""


def packing(start: bytes) -> str:
    """Return what a file that begins so is packed by; "" if it is not."""
    return next((kind for sign, kind in PACKED.items() if start.startswith(sign)), "")


def known(start: bytes) -> tuple[str, str]:
    """Return what is known of a file that begins so and is no table, and what to do; "" if not."""
    if start[257:262] == b"ustar":
        return "a tar archive", UNPACK
    starts = (start, start.lstrip(BLANK))
    if IN_BRACKETS.match(starts[1]):
        return "", ""
    return next(
        (told for sign, told in OTHERS.items() for s in starts if s.startswith(sign)), ("", "")
    )


class Told(NamedTuple):
    """What a file is: how its content begins, what it was packed by, and how it is opened."""

    start: bytes
    packed: str
    open: "Callable[[], AbstractContextManager[arrow.NativeFile]]"
    is_plain: bool = True
    """Whether its bytes are those of its content."""

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet, else it is text."""
        return self.start.startswith(PARQUET)

    def content(self) -> bytes:
        """Return all of it."""
        with self.open() as stream:
            return b"".join(iter(partial(stream.read, 1 << 24), b""))


def tell(name: str, opener: Callable[[], BinaryIO], *, may_end_open: bool = False) -> Told:
    """Tell what a file is that holds a table, packed or not; refuse any other.

    A text whose last line has no end is refused unless it `may_end_open`.

    Raises
    ------
    ValueError
        Says what it is instead, or that it has been cut short.
    """
    with opener() as stream:
        packed = packing(start := stream.read(len(XZ)))
    if not start:
        raise ValueError(
            f"{name} is empty: was it written to the end? Fetch it again, or leave it out"
        )
    opened = partial(_unpacked, name, opener)
    start = _start(opened)
    if start.startswith(PARQUET):
        return Told(start, packed, opened, not packed)
    require_text(start, name)
    if not packed and not may_end_open:
        with opener() as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - TAIL, 0))
            require_last_break(stream.read(), name)
    is_utf8 = not start.startswith(UTF16)
    if not is_utf8:
        opened = partial(opened, encoding="utf-16")
        start = _start(opened)
    return Told(start, packed, opened, is_utf8 and not packed)


def unpack(data: bytes, name: str, *, may_end_open: bool = False) -> tuple[Told, bytes]:
    """Return what a file is, see `tell`, and its content unpacked, text in UTF-8."""
    with reading(name):
        told = tell(name, partial(BytesIO, data), may_end_open=may_end_open)
        return told, data if told.is_plain else told.content()


@contextmanager
def reading(name: str, errors: tuple[type[Exception], ...] = DAMAGED) -> Iterator[None]:
    """Say of a file that raises one of `errors` that it is damaged; what readers say, they say."""
    try:
        yield
    except errors as error:
        if type(error) is ValueError:
            raise
        reason = redact(str(error))[:MOST_REASON]
        raise ValueError(
            f"{name} cannot be read, it may be cut short or damaged ({reason}): fetch it again"
        ) from None


class _Tap:
    """A stream that ends once it is shut: Arrow reads ahead of what is taken from it."""

    closed, is_shut = False, False

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def read(self, n_bytes: int = -1) -> bytes:
        """Return so many bytes, fewer at the end."""
        return b"" if self.is_shut else self.stream.read(n_bytes)

    def close(self) -> None:
        """Leave the stream to whoever has opened it."""


def _start(opened: "Callable[[], AbstractContextManager[arrow.NativeFile]]") -> bytes:
    with opened() as stream:
        return stream.read(START)


@contextmanager
def _unpacked(
    name: str, opener: Callable[[], BinaryIO], encoding: str = ""
) -> Iterator[arrow.NativeFile]:
    """Open a file, unpack it if it is packed, and give its text in UTF-8."""
    with opener() as stream:
        kind = packing(stream.read(len(XZ)))
        stream.seek(0)
        if kind == "zip":
            stream = member(name, stream)
        elif kind == "xz":
            stream = lzma.LZMAFile(stream)
        tap = _Tap(stream)
        text = arrow.PythonFile(tap, mode="r")
        text = arrow.CompressedInputStream(text, kind) if kind in STREAMS else text
        try:
            yield arrow.transcoding_input_stream(text, encoding, "utf-8") if encoding else text
        finally:
            tap.is_shut = True


def member(name: str, stream: BinaryIO) -> BinaryIO:
    """Open the one table in a zip archive."""
    archive = zipfile.ZipFile(stream)
    table = table_in(archive, name)
    try:
        return archive.open(table)
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown method
        raise ValueError(f"{name} cannot be unpacked ({error}): unpack it yourself") from None


def require_text(start: bytes, name: str) -> None:
    """Raise where what is not packed (any more), and no Parquet, is no text either.

    Raises
    ------
    ValueError
        Says what it is instead, and what to do.
    """
    if packing(start):
        raise ValueError(f"{name} is packed twice, or an archive within another: unpack it")
    what, remedy = known(start)
    if what:
        raise ValueError(f"{name} is {what}, not text or Parquet: {remedy}")
    zeros = 0 if start.startswith(UTF16) else start.count(0)
    if zeros > len(start) // 100 or (zeros and b"\0" in start[:16]):
        raise ValueError(
            f"{name} is neither text nor Parquet, by its first bytes; is it UTF-16? Save it as "
            "text in UTF-8"
        )
    if zeros:
        line = 1 + start[: start.index(0)].count(b"\n")
        raise ValueError(
            f"{name}, line {line} has a byte of zero, which is no text: fetch the file again, or "
            "correct the line"
        )
    if b"\n" not in start and b"\r" not in start:
        raise ValueError(
            f"{name} is no table: its first {len(start):,} bytes are one line without an end. Was "
            "it written to the end? Fetch it again"
        )


def require_last_break(end: bytes, name: str) -> None:
    """Raise where a text that no check sum has proved ends within a line.

    Parameters
    ----------
    end : bytes
        The last of the file, 200 bytes or more.
    name : str
    """
    if not end.rstrip(b"\0").endswith((b"\n", b"\r")):
        last = re.split(rb"[\r\n]", end)[-1][-100:].decode("utf-8", "replace")
        raise ValueError(
            f"{name}: the last line {last!r} has no line break, so the file may be cut short. "
            f"Fetch it again, or, if the file is complete, end the line (echo >> {name}) or pack "
            "it (gzip), which keeps a check sum"
        )


def table_in(archive: zipfile.ZipFile, name: str) -> str:
    """Return the name of the one table in a zip archive; notes beside it do not count.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    names = [n for n in archive.namelist() if not n.endswith("/") and not is_litter(n)]
    if "[Content_Types].xml" in names:
        raise ValueError(f"{name} is an Excel workbook: {SAVE}")
    tables = [n for n in names if n.lower().endswith((".csv", ".tsv", ".parquet"))]
    tables = tables or [n for n in names if n.lower().endswith(".txt")] or names
    if len(tables) != 1:
        held = ", ".join(tables[:5]) + (", …" if len(tables) > 5 else "")
        raise ValueError(
            f"{name} holds {len(tables)} files ({held}), one was expected: unpack it into a folder"
        )
    return tables[0]
