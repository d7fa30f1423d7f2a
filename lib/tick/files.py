"""Files of raw ticks: which there are, of what format, and how they are opened.

What a file is, is told by its first bytes and never by its name. Memory holds a batch, whatever
the size of a file, packed or not.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from io import BytesIO
from typing import BinaryIO

from lib.dialect import Header, read_header, unreadable
from lib.formats import Told, tell
from lib.sources import list_files
from lib.tick.read import RawTicks, TickFile, TickFormat

import pyarrow as arrow
import pyarrow.parquet as parquet
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")
READ_ROWS = 250_000
TEXT = arrow.string()


def find_tick_files(source: str, symbol: str) -> list[TickFile]:
    """Return the text (plain or packed) and Parquet files that `source` names, none of them opened.

    Raises
    ------
    ValueError
        If there is none.
    """
    hint = 'give "sample" or "iceberg:<catalog>.<namespace>.<table>"'
    found = list_files(source, folder=symbol, hint=hint)
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
    told = tell(name, opener)
    if told.is_parquet:
        whole = opener if told.is_plain else lambda: BytesIO(told.content())
        with whole() as stream:
            names = parquet.read_schema(stream).names
        raw = RawTicks(names, partial(_read_parquet, whole), facts={"format": "Parquet"})
    else:
        raw = _read_text(name, told, form)
    return replace(raw, facts={**raw.facts, **({"packed by": told.packed} if told.packed else {})})


def _read_parquet(
    opener: Callable[[], BinaryIO], columns: list[str]
) -> Iterator[arrow.RecordBatch]:
    with opener() as stream:
        yield from parquet.ParquetFile(stream).iter_batches(READ_ROWS, columns=columns)


def _read_text(name: str, told: Told, form: TickFormat) -> RawTicks:
    """Return the ticks of a text, which is read as text: values are for `lib.tick.read`."""
    header = read_header(name, told.start, form.layout, form.wanted, form.required)
    batches = partial(_batches, name, told, header)
    decimal = "." if header.separator == "," else ""
    return RawTicks(header.names, batches, "line", 1 + header.n_lines, decimal, facts=header.facts)


def _batches(
    name: str, told: Told, header: Header, columns: list[str], kind: arrow.DataType = TEXT
) -> Iterator[arrow.RecordBatch]:
    """Yield `columns` as text."""
    read = ReadOptions(column_names=header.names, skip_rows=header.n_lines, use_threads=False)
    parse = ParseOptions(delimiter=header.separator)
    convert = ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, kind))
    reader = iter(())
    try:
        with told.open() as text:
            reader = open_csv(text, read, parse, convert)
            yield from reader
    except arrow.ArrowInvalid as error:
        if "UTF8" in str(error):
            again = _batches(name, told, header, columns, arrow.binary())
            _check_letters(name, again, 1 + header.n_lines)
        raise unreadable(name, str(error), header.separator, len(header.names)) from None
    finally:
        with suppress(Exception):  # a thread that still reads would abort the end of the process
            deque(reader, maxlen=0)


def _check_letters(name: str, batches: Iterator[arrow.RecordBatch], first: int) -> None:
    """Raise the error about the first value that is not in UTF-8."""
    for batch in batches:
        for column in batch.column_names:
            for at, value in enumerate(batch[column].to_pylist()):
                if value.decode("utf-8", "replace").encode() != value:
                    shown = value.decode("latin-1")
                    raise ValueError(
                        f"{name}, line {first + at}: {column} is {shown!r}, which is not in UTF-8: "
                        "save the file as UTF-8 text"
                    )
        first += batch.num_rows
