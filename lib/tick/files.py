"""Files of raw ticks: which there are, of what format, and how their rows are read in batches.

Text is read as text: what a value must be is said by `lib.tick.read`. Memory holds a batch,
whatever the size of a file, packed or not.
"""

import csv
import gzip
import re
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import BinaryIO

from lib.sources import list_files
from lib.tick.read import RawTicks, TickFile

import pyarrow as arrow
import pyarrow.parquet as parquet
from pyarrow.csv import ConvertOptions, ReadOptions, open_csv

ENDINGS = (".csv", ".csv.gz", ".parquet")
DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")
MAX_HEADER = 1 << 15


def find_tick_files(source: str, symbol: str) -> list[TickFile]:
    """Return the CSV (plain or gzip) and Parquet files that `source` names, none of them opened.

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


def _open(name: str, opener: Callable[[], BinaryIO]) -> RawTicks:
    """Tell what a file is by its first bytes, and which columns it has."""
    with opener() as stream:
        start = stream.read(4)
        stream.seek(0)
        if start == b"PAR1":
            columns = parquet.read_schema(stream).names
            return RawTicks(columns, partial(_read_parquet, opener))
        packed = start[:2] == b"\x1f\x8b"
        if not start or (name.lower().endswith((".gz", ".parquet")) and not packed):
            found = "empty" if not start else "not what its name says, by its first bytes"
            raise ValueError(f"{name} is {found}: was it written to the end? Fetch it again")
        text = gzip.GzipFile(fileobj=stream) if packed else stream
        header = text.read(MAX_HEADER).split(b"\n")[0].decode("utf-8-sig")
    columns = [field.strip() for field in next(csv.reader([header]), [])]
    return RawTicks(columns, partial(_read_csv, opener, columns, packed=packed), "line", 2)


def _read_parquet(
    opener: Callable[[], BinaryIO], columns: list[str]
) -> Iterator[arrow.RecordBatch]:
    with opener() as stream:
        yield from parquet.ParquetFile(stream).iter_batches(columns=columns)


def _read_csv(
    opener: Callable[[], BinaryIO], header: list[str], columns: list[str], *, packed: bool
) -> Iterator[arrow.RecordBatch]:
    """Yield `columns` as text."""
    with opener() as stream:
        text = arrow.PythonFile(stream, mode="r")
        yield from open_csv(
            arrow.CompressedInputStream(text, "gzip") if packed else text,
            ReadOptions(column_names=header, skip_rows=1, use_threads=False),
            convert_options=ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, arrow.string())
            ),
        )
