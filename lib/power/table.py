"""Which column is which, and what a time looks like: from any table to canonical rows."""

import re
from datetime import date, time

from lib.power.frame import COLUMNS, RESOLUTIONS, TIME_TYPE, Part, canonical

import numpy as np
import pandas as pd

ALIASES = {name.lower(): column for column, name in COLUMNS.items()}
CLOCKS = ("datetime", "ts")
MISSING = ["?", ""]
DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
EPOCH = date(1970, 1, 1).toordinal()


def columns_of(names: list[str], name: str, layout: str = "") -> tuple[list[int], list[int]]:
    """Return the positions of the time column, or of date and time, and of the seven values."""
    known = [ALIASES.get(n.lower(), n.lower()) for n in names]
    found = f"found {', '.join(map(repr, names))}{layout}"
    clock = ["date", "time"] if {"date", "time"} <= {*known} else [c for c in CLOCKS if c in known]
    if not clock:
        raise ValueError(
            f"{name} has no time: it needs the columns Date and Time (d/m/yyyy, hh:mm:ss) or one "
            f"column datetime; {found}"
        )
    clock = clock if clock[0] == "date" else clock[:1]
    missing = [f"{COLUMNS[column]} ({column})" for column in COLUMNS if column not in known]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}; {found}")
    for column in (*clock, *COLUMNS):
        if known.count(column) > 1:
            twice = [n for n, k in zip(names, known, strict=True) if k == column]
            raise ValueError(f"{name} has {column} more than once: {', '.join(map(repr, twice))}")
    return [known.index(c) for c in clock], [known.index(c) for c in COLUMNS]


def from_table(frame: pd.DataFrame, name: str) -> Part:
    """Take times and values out of a table that has typed columns, such as Parquet or SQL."""
    names = [str(column) for column in frame.columns]
    clock, columns = columns_of(names, name)
    if frame.empty:
        raise ValueError(f"{name} has no rows")
    try:
        if len(clock) == 2:
            ts = np.zeros(len(frame), dtype=np.int64)
            for i, parse in zip(clock, CLOCK_PARSERS, strict=True):
                codes, texts = pd.factorize(frame.iloc[:, i], use_na_sentinel=False)
                ts += np.array([parse(text) for text in texts], dtype=np.int64)[codes]
        else:
            ts = _timestamps(frame.iloc[:, clock[0]])
    except ValueError as error:
        raise ValueError(f"{name}, column {', '.join(names[i] for i in clock)}: {error}") from None
    values = np.empty((len(COLUMNS), len(frame)))
    for row, i in zip(values, columns, strict=True):
        given = frame.iloc[:, i]
        numbers = pd.to_numeric(given.replace(dict.fromkeys(MISSING)), errors="coerce")
        row[:] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(row) & given.notna() & ~given.isin(MISSING))
        if len(bad):
            raise ValueError(
                f"{name}, row {bad[0] + 1}, column {names[i]}: {given.iloc[bad[0]]!r} is not a "
                f"number ({len(bad):,} such rows)"
            )
    return Part(name, canonical(ts, values))


def day_of(value: str | date | None) -> int:
    """Return a day as microseconds since 1970, from a date or from d/m/yyyy, day first."""
    match = DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match:
            value = date(*map(int, match.groups()[::-1]))
        return (value.toordinal() - EPOCH) * RESOLUTIONS["day"]
    except (AttributeError, ValueError):
        raise ValueError(f"{value!r} is not a date as d/m/yyyy, day first") from None


def time_of_day(value: str | time | None) -> int:
    """Return a time of day as microseconds since midnight, from a time or from hh:mm:ss."""
    if isinstance(value, time) and not value.microsecond:
        value = value.isoformat()
    match = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    hour, minute, second = (int(part or 0) for part in match.groups()) if match else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{value!r} is not a time of day as hh:mm:ss, 00:00:00 to 23:59:59")
    return 1_000_000 * (3600 * hour + 60 * minute + second)


CLOCK_PARSERS = (day_of, time_of_day)


def _timestamps(column: pd.Series) -> np.ndarray:
    """Return naive times as int64 microseconds, from a column of times or of ISO 8601 text."""
    times = column
    if pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"{column.iloc[0]!r} in row 1 is a number, not a time")
    if not pd.api.types.is_datetime64_any_dtype(column):
        times = pd.to_datetime(column, format="ISO8601", errors="coerce")
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        raise ValueError(
            f"the times carry a zone ({times.dtype.tz}; {column.iloc[0]!r} in row 1) and must be "
            "local clock time without one: convert them first, in SQL for example with "
            "AT TIME ZONE 'Europe/Paris'"
        )
    bad = np.flatnonzero(times.isna())
    if len(bad):
        raise ValueError(
            f"{column.iloc[bad[0]]!r} in row {bad[0] + 1} is not a time as yyyy-mm-dd hh:mm:ss "
            f"({len(bad):,} such rows)"
        )
    return times.to_numpy(dtype=TIME_TYPE).view(np.int64)
