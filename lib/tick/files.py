"""Files of raw ticks: which there are, of what format, and how they are opened.

What a file is, is told by its first bytes and never by its name. Memory holds a batch, whatever
the size of a file, packed or not.
"""

import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import BinaryIO

from lib.sources import list_files
from lib.tick.read import RawTicks, TickFile, TickFormat
from lib.tick.text import read_text

import pyarrow as arrow
import pyarrow.parquet as parquet

TEXTS = (".csv", ".txt", ".tsv")
PACKINGS = ("", ".gz", ".zip", ".bz2", ".xz", ".zst")
ENDINGS = (".parquet", ".zip", *(text + packing for text in TEXTS for packing in PACKINGS))
DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")
ZIP, XZ, PARQUET = b"PK\x03\x04", b"\xfd7zXZ\0", b"PAR1"
STREAMS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
"""Packed streams that Arrow unpacks."""
OTHERS = {
    b"\xff\xfe": "text in UTF-16: save it in UTF-8",
    b"\xfe\xff": "text in UTF-16: save it in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV",
    b"{": "JSON: write it as CSV or Parquet",
    b"[": "JSON: write it as CSV or Parquet",
    b"<!": "a web page: fetch the file itself",
    b"<html": "a web page: fetch the file itself",
    b"<HTML": "a web page: fetch the file itself",
    b"<?xml": "XML: write it as CSV or Parquet",
    b"%PDF": "a PDF: fetch the table itself",
    b"\x89HDF": "HDF5: write it as Parquet",
    b"ARROW1": "an Arrow (Feather) file: write it as Parquet",
    b"FEA1": "an old Feather file: write it as Parquet",
    b"ORC": "an ORC file: write it as Parquet",
    b"Obj\x01": "an Avro file: write it as Parquet",
    b"SQLite format 3": "a SQLite database: write the table as Parquet",
    b"\x93NUMPY": "a NumPy array: write it as Parquet",
    b"\x80\x04": "a Python pickle: write it as Parquet",
    b"\x80\x05": "a Python pickle: write it as Parquet",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"DBN": "Databento's own encoding: ask for CSV, or write it as Parquet",
    b"]\0\0": "LZMA, as Dukascopy's own .bi5 files are: write it as CSV or Parquet",
    b"PK\x05\x06": "an empty zip archive: fetch it again",
}
"""What is known by its first bytes and not read, and what to do then."""
TWICE = "packed twice, or an archive within another: unpack it"
OTHERS |= dict.fromkeys([ZIP, XZ, PARQUET, *STREAMS], TWICE)
MAX_HEADER = 1 << 15


def find_tick_files(source: str, symbol: str) -> list[TickFile]:
    """Return the text (plain or packed) and Parquet files that `source` names, none of them opened.

    Raises
    ------
    ValueError
        If there is none.
    """
    hint = 'give "sample" or "iceberg:<catalog>.<namespace>.<table>"'
    found = list_files(source, folder=symbol, endings=ENDINGS, hint=hint)
    return [
        TickFile(name, partial(_open, name, opener), date_in_name(name)) for name, opener in found
    ]


def date_in_name(name: str) -> date | None:
    """Return the date in a file's name, 2013-10-07 or 20131007; None unless there is just one.

    Examples
    --------
    >>> date_in_name("SPY_20131007.csv.gz")
    datetime.date(2013, 10, 7)
    """
    days = set()
    for year, _, month, day in DATE.findall(name.rsplit("/", 1)[-1]):
        try:
            days.add(date(int(year), int(month), int(day)))
        except ValueError:  # eight digits that are no date
            continue
    return days.pop() if len(days) == 1 else None


def _open(name: str, opener: Callable[[], BinaryIO], form: TickFormat) -> RawTicks:
    """Tell what a file is by its first bytes, and which columns it has."""
    with opener() as stream:
        start = stream.read(16)
        if start.startswith(PARQUET):
            return RawTicks(parquet.read_schema(stream).names, partial(_read_parquet, opener))
    if not start:
        raise ValueError(f"{name} is empty: was it written to the end? Fetch it again")
    opened = partial(_unpacked, name, opener)
    with opened() as text:
        start = text.read(MAX_HEADER)
    for sign, kind in OTHERS.items():
        if start.startswith(sign):
            raise ValueError(f"{name} seems to be {kind}")
    if b"\0" in start[:16]:
        raise ValueError(
            f"{name} is neither text in UTF-8 nor Parquet, by its first bytes; is it UTF-16? Save "
            "it as one of them"
        )
    return read_text(name, opened, start, form)


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


@contextmanager
def _unpacked(name: str, opener: Callable[[], BinaryIO]) -> Iterator[arrow.NativeFile]:
    """Open a file, and unpack it if it is packed."""
    with opener() as stream:
        start = stream.read(6)
        stream.seek(0)
        if start.startswith(ZIP):
            stream = _member(name, stream)
        elif start.startswith(XZ):
            stream = lzma.LZMAFile(stream)
        tap = _Tap(stream)
        text = arrow.PythonFile(tap, mode="r")
        packing = next((kind for sign, kind in STREAMS.items() if start.startswith(sign)), None)
        try:
            yield arrow.CompressedInputStream(text, packing) if packing else text
        finally:
            tap.is_shut = True


def _member(name: str, stream: BinaryIO) -> BinaryIO:
    """Open the one table in a zip archive; a note in text beside it is left alone."""
    archive = zipfile.ZipFile(stream)
    names = [one for one in archive.namelist() if not one.endswith("/") and "__MACOSX" not in one]
    if "[Content_Types].xml" in names:
        raise ValueError(f"{name} seems to be an Excel workbook: save it as CSV")
    tables = [one for one in names if not one.lower().endswith(".txt")] or names
    if len(tables) != 1:
        held = ", ".join(tables[:5])
        raise ValueError(
            f"{name} holds {len(tables)} files ({held}), one was expected: unpack it into a folder"
        )
    try:
        return archive.open(tables[0])
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown method
        raise ValueError(f"{name} cannot be unpacked ({error}): unpack it yourself") from None


def _read_parquet(
    opener: Callable[[], BinaryIO], columns: list[str]
) -> Iterator[arrow.RecordBatch]:
    with opener() as stream:
        yield from parquet.ParquetFile(stream).iter_batches(columns=columns)
