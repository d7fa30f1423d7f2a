"""The parser of text files: UCI's text, or CSV with a time column.

Arrow reads the whole text on all cores, dates and times of day as dictionaries. No regularity of
the file is assumed, and a line counts only if it has all its fields.
"""

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lib.formats import fields_error, require_header, require_last_break
from lib.power.columns import COLUMNS
from lib.power.frame import Part, canonical
from lib.power.source import Source, columns_of, to_standard
from lib.power.table import from_table
from lib.power.times import house_clock, joined, parsers

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.csv as arrow_csv

MOST_HEADER = 1 << 16  # bytes
SEPARATORS = ";\t|,"
A_DECIMAL_COMMA = re.compile(rb'[;\t|"\s]-?(?:0\d*,\d|\d+,(?:\d{1,2}|\d{4,})(?!\d))')
"""A number with a comma that parts no thousands."""


def read_text(data: bytes, name: str, source: Source, *, complete: bool = False) -> Part:
    """Read the text of a file called `name`.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        For messages.
    source : Source
        What its columns are, and how it is written.
    complete : bool
        Whether a check sum has said so: a last line without a break is then a line.

    Raises
    ------
    ValueError
        Names the line that cannot be read, and why.
    """
    separator, names, start = read_header(data, name, source)
    columns_of(names, name, source, _parted(names, separator))
    tail = data[-4096:]
    if not complete:
        require_last_break(tail, name)
    end = len(data) - len(tail) + len(tail.rstrip(b"\r\n"))
    if end <= start:
        raise ValueError(
            f"{name} has a header and no rows: was it written to the end? Fetch it again"
        )
    text = arrow.py_buffer(data)[start:end]
    first = 1 if source.layout.names else 2
    for written in _decimals(source, separator):
        try:
            table = _table(text, separator, names, written, arrow.float64())
            frame = _frame(table, names, written, name, first)
        except (arrow.ArrowException, UnicodeDecodeError, _NoTime):
            continue  # once more, as text, to say what is wrong and where
        if written.layout.decimal == "," and not source.layout.decimal:
            _require_decimal_comma(data, name)
        return Part(name, frame, "line", first)
    try:
        text = arrow.py_buffer(_utf8(data[start:end]))
        table = _table(text, separator, names, written, arrow.string())
    except arrow.ArrowInvalid as error:
        raise _unreadable(name, str(error), separator, first, len(names)) from None
    if separator == "," or not A_DECIMAL_COMMA.search(data):
        written = source
    return from_table(table.unify_dictionaries().to_pandas(), name, written, "line", first)


def read_header(data: bytes, name: str, source: Source) -> tuple[str, list[str], int]:
    """Return the separator, the names of the columns, and where the first row begins."""
    line = data.find(b"\n") + 1
    header = data[: min(line or MOST_HEADER, MOST_HEADER)].decode("utf-8-sig", "replace")
    header = header.rstrip("\r\n")
    require_header(header, name)
    separator = source.layout.separator or next((s for s in SEPARATORS if s in header), ",")
    fields = source.layout.names or fields_of(header, separator)
    return separator, [field.strip() for field in fields], 0 if source.layout.names else line


class _NoTime(Exception):
    pass


def fields_of(line: str, separator: str) -> list[str]:
    """Return the fields of one line, quoted or not."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _utf8(data: bytes) -> bytes:
    """Return text that a message can show; times and numbers are the same in either encoding."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


def _decimals(source: Source, separator: str) -> list[Source]:
    """Return the sources to try: a comma may be a decimal sign where it parts no columns."""
    if source.layout.decimal or separator == ",":
        return [source]
    return [source, replace(source, layout=replace(source.layout, decimal=","))]


def _require_decimal_comma(data: bytes, name: str) -> None:
    if not A_DECIMAL_COMMA.search(data):
        raise ValueError(
            f"{name}: a comma in its numbers may be a decimal sign or part thousands, every one "
            'stands before three digits. Give layout=["decimal=,"] if it is a decimal comma'
        )


def _parted(names: list[str], separator: str) -> str:
    blanks = len(names) == 1 and " " in names[0].strip()
    hint = ' (where blanks part them give layout=["separator=space"])' if blanks else ""
    return f", separated by {separator!r}{hint}"


def _unreadable(name: str, said: str, separator: str, first: int, n_columns: int) -> ValueError:
    """Return the error about a text with the line as an editor counts it."""
    row = re.search(r"(?:Row #(\d+): )?Expected \d+ columns, got (\d+): (.*)", said, re.DOTALL)
    if not row:
        return ValueError(f"{name} cannot be read ({said[:150]}): correct the line")
    line = str(int(row[1]) + first - 1) if row[1] else ""
    return fields_error(name, line, n_columns, row[2], separator, row[3])


def _table(
    text: arrow.Buffer, separator: str, names: list[str], source: Source, number: arrow.DataType
) -> arrow.Table:
    """Return the times, as dictionaries, and the columns of numbers."""
    clock, columns = columns_of(names, "", source)
    unique = [f"{k} {n}" if names.count(n) > 1 else n for k, n in enumerate(names)]
    types = {unique[i]: arrow.dictionary(arrow.int32(), arrow.string()) for i in clock}
    types |= {unique[i]: number for i in columns.values()}
    return arrow_csv.read_csv(
        arrow.BufferReader(text),
        read_options=arrow_csv.ReadOptions(
            column_names=unique, use_threads=number != arrow.string()
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=separator, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=source.missing,
            check_utf8=False,
            decimal_point=source.layout.decimal or ".",
        ),
    )


def _frame(
    table: arrow.Table, names: list[str], source: Source, name: str, first: int
) -> pd.DataFrame:
    """Return canonical rows, each distinct time parsed once."""
    clock, columns = columns_of(names, "", source)
    given = [column.combine_chunks() for column in table.columns[: len(clock)]]
    if len(given) == 2 and source.layout.time:
        whole = joined([column.to_pandas() for column in given], source)[0]
        times = [parsers(1, source)[0][0](whole)]
    else:
        times = []
        for column, (parse, _) in zip(given, parsers(len(given), source), strict=True):
            parsed = parse(column.dictionary.to_pandas())
            times.append(parsed.take(column.indices.to_numpy()).reset_index(drop=True))
    whole = sum(times[1:], times[0])
    if whole.isna().any():
        raise _NoTime
    ts = house_clock(whole, source, lambda position: f"{name}, line {first + position}")
    values = np.full((len(COLUMNS), len(table)), np.nan)
    rows = [values[list(COLUMNS).index(column)] for column in columns]
    numbers = table.columns[len(clock) :]
    with ThreadPoolExecutor(arrow.cpu_count()) as threads:
        list(threads.map(lambda row, column: np.copyto(row, column.to_numpy()), rows, numbers))
    for row, column in zip(rows, columns, strict=True):
        if column in source.columns:
            row[:] = to_standard(row, column, ts, source)
    return canonical(ts, values)
