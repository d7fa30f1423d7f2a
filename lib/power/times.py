"""Times of readings: text or typed, with a zone or without, as the house's clock."""

from collections.abc import Callable
from functools import partial

from lib.dialect import EPOCHS
from lib.power.source import Source

import numpy as np
import pandas as pd

DAYS = ("%d/%m/%Y", "%Y-%m-%d", "%d/%m/%y", "%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d")
TIMES_OF_DAY = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f")
ISO = r"\d{4}-\d\d-\d\d"
ZONED = r"[T ]\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
EARLIEST, LATEST = pd.Timestamp(1990, 1, 1), pd.Timestamp(2100, 1, 1)  # of numbers since 1970
HOUR_US = 3_600_000_000

Parse = Callable[[pd.Series], pd.Series]


def parsers(n_columns: int, source: Source) -> list[tuple[Parse, str]]:
    """Return how each column of a clock is parsed, what is no time becoming NaT, and its form."""
    written = source.layout.time
    if written in EPOCHS:
        return [(lambda c: _since_1970(c, written), f"a number of {written} since 1970")]
    if written:
        how = {"format": written, "errors": "coerce", "utc": "%z" in written}
        return [(lambda c: pd.to_datetime(_text(c), **how), f"a time as {written}")]
    if n_columns == 2:
        return [
            (
                partial(_first_fitting, DAYS),
                "a date as d/m/yyyy, day first, d/m/yy, d.m.yyyy or yyyy-mm-dd",
            ),
            (_time_of_day, "a time of day as hh:mm:ss or hh:mm, 00:00:00 to 23:59:59"),
        ]
    return [(_times, "a time as yyyy-mm-dd hh:mm:ss")]


def joined(columns: list[pd.Series], source: Source) -> list[pd.Series]:
    """Return date and time as one text where one format says how both are written."""
    if len(columns) == 2 and source.layout.time:
        whole = _text(columns[0]) + " " + _text(columns[1])
        return [whole.rename("+".join(str(column.name) for column in columns))]
    return columns


def house_clock(ts: pd.Series, source: Source, place: Callable[[int], str]) -> np.ndarray:
    """Return times on the clock of the house, which with a zone is its standard time all year.

    Parameters
    ----------
    ts : pandas.Series of shape (n_rows,)
        In order of the rows, with a zone or without, none missing.
    source : Source
        Its ``time_zone`` is that of the house.
    place : callable
        Names the row at a position.

    Raises
    ------
    ValueError
        If times carry a zone and `source` has none, or if they are on a clock that is put forward
        and back, and one is not on it or may mean either of two.
    """
    zone, has_zone = source.time_zone, isinstance(ts.dtype, pd.DatetimeTZDtype)
    if not zone:
        if has_zone:
            raise ValueError(
                f"{place(0)}: times carry a zone or are numbers since 1970, which is UTC, and must "
                'be those of the house: give time_zone="...", where it stands, as Europe/Paris'
            )
        return ts.to_numpy()
    index = pd.DatetimeIndex(ts)
    if not has_zone:
        index = _localized(index, zone, place)
    year = index[0].year
    winter, summer = (pd.Timestamp(year, month, 1, tz=zone).utcoffset() for month in (1, 7))
    return (index.tz_convert("UTC").tz_localize(None) + min(winter, summer)).to_numpy()


def autumn_hint(ts: np.ndarray, row: int) -> str:
    """Return what to do where the clock has been put back by an hour between two rows."""
    steps = np.diff(ts)
    if steps[row - 1] == np.median(steps) - HOUR_US:
        return (
            ". The hour that comes twice when summer time ends? Then give the zone of the house, "
            'time_zone="...", as Europe/Paris: its standard time is kept all year'
        )
    return ""


def _localized(index: pd.DatetimeIndex, zone: str, place: Callable[[int], str]) -> pd.DatetimeIndex:
    """Return clock times with their zone; an hour that comes twice is first summer, then winter."""
    absent = index.tz_localize(zone, ambiguous=False, nonexistent="NaT").isna()
    twice = index.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward").isna()
    if absent.any():
        row = int(absent.argmax())
        raise ValueError(
            f"{place(row)}: {index[row]} is left out by the clock of {zone} in spring, so this is "
            'another clock: leave time_zone empty, or give another one, as "UTC"'
        )
    rises = np.diff(index.asi8, prepend=index.asi8[0] - 1) > 0
    is_summer = np.zeros(len(index), dtype=bool)
    rows = np.flatnonzero(twice)
    for block in np.split(rows, 1 + np.flatnonzero(np.diff(rows) > 1)) if len(rows) else ():
        back = block[~rises[block]]
        if len(back) != 1:
            raise ValueError(
                f"{place(block[0])}: the hour of {index[block[0]]} comes twice on the clock of "
                f"{zone}, and {'once' if not len(back) else 'more than twice'} here. Where the "
                "clock is not put back leave time_zone empty"
            )
        is_summer[block[0] : back[0]] = True
    return index.tz_localize(zone, ambiguous=is_summer)


def _since_1970(column: pd.Series, unit: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    scale = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    first, last = (t.timestamp() * scale for t in (EARLIEST, LATEST))
    known = numbers.where(numbers.between(first, last))
    return pd.to_datetime(known, unit=unit, utc=True)


def _times(column: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(column):
        return column
    text = _text(column).str.replace(r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3", regex=True)
    text = text.where(text.str.match(ISO))
    zoned = text.str.contains(ZONED, na=False)
    if 2 * zoned.sum() >= len(text):
        return pd.to_datetime(text.where(zoned), format="ISO8601", errors="coerce", utc=True)
    return pd.to_datetime(text.where(~zoned), format="ISO8601", errors="coerce")


def _time_of_day(column: pd.Series) -> pd.Series:
    return _first_fitting(TIMES_OF_DAY, column) - pd.Timestamp(1900, 1, 1)


def each_once(column: pd.Series, parse: Parse) -> pd.Series:
    """Parse each distinct value once: a date is one of hundreds, a time of day one of 1,440."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return parse(column).reset_index(drop=True)
    is_coded = isinstance(column.dtype, pd.CategoricalDtype)
    coded = column if is_coded else _text(column).astype("category")
    parsed = parse(coded.cat.categories.to_series())
    return pd.Series(parsed.array.take(coded.cat.codes, allow_fill=True))


def _first_fitting(formats: tuple[str, ...], column: pd.Series) -> pd.Series:
    texts = _text(column)
    parsed = pd.to_datetime(texts, format=formats[0], errors="coerce")
    for other in formats[1:]:
        if not parsed.isna().any():
            break
        parsed = parsed.fillna(pd.to_datetime(texts, format=other, errors="coerce"))
    return parsed


def _text(column: pd.Series) -> pd.Series:
    return column.astype(str).str.strip()
