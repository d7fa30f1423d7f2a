"""Files of raw ticks: which there are, of what format, and how they are opened.

What a file is, is told by its first bytes and never by its name. Memory holds a batch, whatever
the size of a file, packed or not.
"""

import lzma
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from typing import BinaryIO

from lib.formats import (
    PARQUET,
    UTF16,
    XZ,
    ZIP,
    packing,
    require_last_break,
    require_text,
    table_in,
)
from lib.sources import list_files
from lib.tick.read import RawTicks, TickFile, TickFormat
from lib.tick.text import read_text

import pyarrow as arrow
import pyarrow.parquet as parquet

TEXTS = (".csv", ".txt", ".tsv")
PACKINGS = ("", ".gz", ".zip", ".bz2", ".xz", ".zst")
ENDINGS = (".parquet", ".zip", *(text + packing for text in TEXTS for packing in PACKINGS))
DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")
STREAMS = ("gzip", "bz2", "zstd", "lz4")
"""Packings that Arrow unpacks."""
MAX_HEADER, TAIL, READ_ROWS = 1 << 15, 200, 250_000


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
        start = stream.read(len(XZ))
        if start.startswith(PARQUET):
            names, batches = parquet.read_schema(stream).names, partial(_read_parquet, opener)
            return RawTicks(names, batches, facts={"format": "Parquet"})
    packed = {"packed by": packing(start)} if packing(start) else {}
    if not start:
        raise ValueError(f"{name} is empty: was it written to the end? Fetch it again")
    opened = partial(_unpacked, name, opener)
    with opened() as text:
        start = text.read(MAX_HEADER)
    require_text(start, name)
    if not packed:
        with opener() as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - TAIL, 0))
            require_last_break(stream.read(), name)
    if start.startswith(UTF16):
        opened = partial(_unpacked, name, opener, encoding="utf-16")
        with opened() as text:
            start = text.read(MAX_HEADER)
    raw = read_text(name, opened, start, form)
    return replace(raw, facts={**raw.facts, **packed})


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
def _unpacked(
    name: str, opener: Callable[[], BinaryIO], encoding: str = ""
) -> Iterator[arrow.NativeFile]:
    """Open a file, unpack it if it is packed, and give its text in UTF-8."""
    with opener() as stream:
        start = stream.read(6)
        stream.seek(0)
        if start.startswith(ZIP):
            stream = _member(name, stream)
        elif start.startswith(XZ):
            stream = lzma.LZMAFile(stream)
        tap = _Tap(stream)
        text = arrow.PythonFile(tap, mode="r")
        kind = packing(start)
        text = arrow.CompressedInputStream(text, kind) if kind in STREAMS else text
        try:
            yield arrow.transcoding_input_stream(text, encoding, "utf-8") if encoding else text
        finally:
            tap.is_shut = True


def _member(name: str, stream: BinaryIO) -> BinaryIO:
    """Open the one table in a zip archive."""
    archive = zipfile.ZipFile(stream)
    table = table_in(archive, name)
    try:
        return archive.open(table)
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown method
        raise ValueError(f"{name} cannot be unpacked ({error}): unpack it yourself") from None


def _read_parquet(
    opener: Callable[[], BinaryIO], columns: list[str]
) -> Iterator[arrow.RecordBatch]:
    with opener() as stream:
        yield from parquet.ParquetFile(stream).iter_batches(READ_ROWS, columns=columns)
