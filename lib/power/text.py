"""The parser of text files: UCI's text, or CSV with a time column.

Arrow reads the whole text on all cores. A date is one of some hundred strings and a time of day one
of 1,440: both are read as dictionaries, and each distinct string is parsed once. No regularity of
the file is assumed, and a line counts only if it has all its fields.
"""

import csv
from collections.abc import Callable
from io import BytesIO, TextIOWrapper

from lib.power.frame import COLUMNS, Part, canonical
from lib.power.table import CLOCK_PARSERS, MISSING, columns_of

import numpy as np
import pandas as pd


def read_text(data: bytes, name: str) -> Part:
    """Read the text of a file called `name`.

    Raises
    ------
    ValueError
        Names the first line that cannot be read, and why.
    """
    start = data.find(b"\n") + 1
    header = data[: start or 1 << 16].decode("utf-8-sig", "replace").rstrip("\r\n")
    separator = ";" if ";" in header else ","
    names = [field.strip().strip('"') for field in header.split(separator)]
    clock, columns = columns_of(names, name, f", separated by {separator!r}")
    tail = data[-4096:]
    if not tail.endswith(b"\n"):
        last = tail[tail.rfind(b"\n") + 1 :][:200].decode("utf-8", "replace")
        raise ValueError(
            f"{name}: the last line {last!r} has no line break, so the file may be cut short. "
            "Fetch it again, or end the line if the file is complete"
        )
    end = data.index(b"\n", len(data) - len(tail) + len(tail.rstrip(b"\r\n"))) + 1
    if end <= start:
        raise ValueError(f"{name} has a header and no rows: was it written to the end?")
    try:
        frame = _read_with_arrow(data, start, end, separator, names, clock, columns)
    except (ArithmeticError, ValueError) as error:  # Arrow's errors are ValueErrors
        said = _first_bad_line(data, separator, names, clock, columns)
        said = said or f" cannot be read as text separated by {separator!r} [{error}]"
        raise ValueError(f"{name}{said}") from error
    return Part(name, frame, "line", 2)


def _read_with_arrow(
    data: bytes,
    start: int,
    end: int,
    separator: str,
    names: list[str],
    clock: list[int],
    columns: list[int],
) -> pd.DataFrame:
    import pyarrow as arrow
    import pyarrow.csv as arrow_csv

    quoted = b'"' in data
    word = arrow.dictionary(arrow.int32(), arrow.string())
    types = {names[i]: word if len(clock) == 2 else arrow.timestamp("us") for i in clock}
    types |= {names[i]: arrow.float64() for i in columns}
    table = arrow_csv.read_csv(
        arrow.BufferReader(arrow.py_buffer(data).slice(start, end - start)),
        read_options=arrow_csv.ReadOptions(column_names=names),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator, ignore_empty_lines=False, quote_char=quoted and '"'
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=MISSING,
            check_utf8=False,  # a date that is not UTF-8 is no date and fails as such
        ),
    )
    if quoted and len(table) != data.count(b"\n", start, end):
        raise ValueError("a line break within a field")
    if any(table[names[i]].null_count for i in clock):
        raise ValueError("a time is missing")
    if len(clock) == 1:
        ts = table[names[clock[0]]].cast("int64").to_numpy()
    else:
        ts = np.zeros(len(table), dtype=np.int64)
        for i, parse in zip(clock, CLOCK_PARSERS, strict=True):
            words = table[names[i]].combine_chunks()
            parsed = np.array([parse(text) for text in words.dictionary.to_pylist()], np.int64)
            ts += parsed[words.indices.to_numpy()]
    values = np.empty((len(COLUMNS), len(table)))
    for row, i in zip(values, columns, strict=True):
        row[:] = table[names[i]].to_numpy()
    return canonical(ts, values)


def _first_bad_line(
    data: bytes, separator: str, names: list[str], clock: list[int], columns: list[int]
) -> str:
    """Say which line is the first that cannot be read, and why; nothing where all can.

    Only called after Arrow has failed, so it may go line by line.
    """
    clock_parsers = CLOCK_PARSERS if len(clock) == 2 else (_local_time,)
    parsers: dict[int, Callable[[str], object]] = dict(zip(clock, clock_parsers, strict=True))
    parsers |= dict.fromkeys(columns, _number)
    text = TextIOWrapper(BytesIO(data), "utf-8-sig", errors="replace", newline="")
    rows = csv.reader(text, delimiter=separator)
    next(rows)
    for row in rows:
        place = f", line {rows.line_num}"
        if not row:
            return f"{place} is empty: remove it, or fetch the file again"
        if len(row) != len(names):
            return (
                f"{place}: {separator.join(row)[:200]!r} has {len(row)} fields separated by "
                f"{separator!r}, the header has {len(names)}: was the file cut or damaged here?"
            )
        for i, parse in parsers.items():
            try:
                parse(row[i])
            except ValueError as error:
                return f"{place}, column {names[i]}: {error}"
    return ""


def _local_time(value: str) -> pd.Timestamp:
    when = pd.to_datetime(value, format="ISO8601", errors="coerce")
    if pd.isna(when) or when.tzinfo:
        raise ValueError(f"{value!r} is not a naive local time as yyyy-mm-dd hh:mm:ss")
    return when


def _number(value: str) -> float:
    try:
        return float("nan" if value.strip() in MISSING else value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not a number with a decimal point; a missing value is ? or nothing"
        ) from None
