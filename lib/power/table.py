"""From any table to canonical rows: which column is which, and what times and numbers it holds."""

from collections.abc import Callable

from lib.power.columns import COLUMNS
from lib.power.frame import Part, canonical

import numpy as np
import pandas as pd

ALIASES = {name.lower(): column for column, name in COLUMNS.items()}
CLOCKS = ("datetime", "ts")
MISSING = ["?", ""]


def columns_of(names: list[str], name: str, layout: str = "") -> tuple[list[int], list[int]]:
    """Return the positions of the time column, or of date and time, and of the seven values."""
    known = [ALIASES.get(n.lower(), n.lower()) for n in names]
    found = f"found {', '.join(map(repr, names))}{layout}"
    two = {"date", "time"} <= {*known}
    clock = ["date", "time"] if two else [c for c in CLOCKS if c in known][:1]
    if not clock:
        raise ValueError(
            f"{name} has no time: it needs the columns Date and Time (d/m/yyyy, hh:mm:ss) or one "
            f"column datetime; {found}"
        )
    missing = [f"{COLUMNS[column]} ({column})" for column in COLUMNS if column not in known]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}; {found}")
    for column in (*clock, *COLUMNS):
        if known.count(column) > 1:
            twice = [n for n, k in zip(names, known, strict=True) if k == column]
            raise ValueError(f"{name} has {column} more than once: {', '.join(map(repr, twice))}")
    return [known.index(c) for c in clock], [known.index(c) for c in COLUMNS]


def from_table(frame: pd.DataFrame, name: str, row: str = "row", first: int = 1) -> Part:
    """Take times and values out of a table whose columns are typed or text.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Dates are text as d/m/yyyy or typed, times of day text as hh:mm:ss or typed, times text as
        ISO 8601 or typed, all without a zone; numbers may be text with a decimal point.
    name, row, first
        How to name a row in a message, see `lib.power.frame.Part`.

    Raises
    ------
    ValueError
        Names the row, the column and the value that cannot be read.
    """
    clock, columns = columns_of([str(column) for column in frame.columns], name)
    if frame.empty:
        raise ValueError(f"{name} has no rows")

    def read(position: int, parse: Callable[[pd.Series], pd.Series], wanted: str) -> np.ndarray:
        given = frame.iloc[:, position]
        read = parse(given)
        wrong = np.flatnonzero(read.isna())
        if parse is _numbers:
            found = given.iloc[wrong]
            wrong = wrong[found.notna() & ~found.isin(MISSING)]
        if len(wrong):
            raise ValueError(
                f"{name}, {row} {first + wrong[0]}, column {frame.columns[position]}: "
                f"{given.iloc[wrong[0]]!r} is not {wanted} ({len(wrong):,} such rows)"
            )
        return read.to_numpy()

    if len(clock) == 2:
        day = read(clock[0], _days, "a date as d/m/yyyy, day first")
        ts = day + read(clock[1], _times_of_day, "a time of day as hh:mm:ss, 00:00:00 to 23:59:59")
    else:
        ts = read(clock[0], _times, "a naive local time as yyyy-mm-dd hh:mm:ss")
    values = np.empty((len(COLUMNS), len(frame)))
    for k, position in enumerate(columns):
        values[k] = read(
            position, _numbers, "a number with a decimal point; a missing value is ? or nothing"
        )
    return Part(name, canonical(ts, values), row, first)


def _numbers(column: pd.Series) -> pd.Series:
    if not pd.api.types.is_float_dtype(column):
        column = pd.to_numeric(column.replace(dict.fromkeys(MISSING)), errors="coerce")
    return column.astype(np.float64)


def _times(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        raise ValueError(
            f"the times of column {column.name} carry a zone ({column.dtype.tz}) and must be local "
            "clock time without one: convert them, in SQL with AT TIME ZONE 'Europe/Paris'"
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    has_zone = column.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)$")
    is_number = pd.api.types.is_numeric_dtype(column)
    return pd.to_datetime(column.mask(has_zone | is_number), format="ISO8601", errors="coerce")


def _days(column: pd.Series) -> pd.Series:
    def parse(texts: pd.Series) -> pd.Series:
        days = pd.to_datetime(texts, format="%d/%m/%Y", errors="coerce")
        return days.fillna(pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce"))

    return _each_once(column, parse)


def _times_of_day(column: pd.Series) -> pd.Series:
    def parse(texts: pd.Series) -> pd.Series:
        return pd.to_datetime(texts, format="%H:%M:%S", errors="coerce") - pd.Timestamp(1900, 1, 1)

    return _each_once(column, parse)


def _each_once(column: pd.Series, parse: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """Parse each distinct value once: a date is one of hundreds, a time of day one of 1,440."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    parsed = parse(pd.Series(values, dtype=object).astype(str).str.strip())
    return pd.Series(parsed.to_numpy()[codes])


CLOCK_PARSERS = {1: [_times], 2: [_days, _times_of_day]}
"""How the columns of a clock are parsed, by how many there are; what is no time becomes NaT."""
