"""From any table to canonical rows: which column is which, and what times and numbers it holds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lib.dialect import LONGEST, number_hint, numbers_among, time_hint
from lib.power.columns import COLUMNS
from lib.power.frame import Part, canonical
from lib.power.source import Source, columns_of, such_rows, to_standard
from lib.power.times import each_once, house_clock, joined, parsers

import numpy as np
import pandas as pd
import pyarrow as arrow

THOUSANDS = "write nothing between thousands, or say decimal=. in layout if it is a decimal sign"
FLOAT = pd.ArrowDtype(arrow.float64())
"""Of numbers that stay as Arrow has read them, until they are copied into place."""


def from_table(
    frame: pd.DataFrame, name: str, source: Source, row: str = "row", first: int = 1
) -> Part:
    """Take times and values out of a table whose columns are typed or text.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Times and numbers are typed, or text as `source` says, or as can be told from it.
    name, row, first
        How to name a row in a message, see `lib.power.frame.Part`.
    source : Source
        What its columns are, and how its text is written.

    Raises
    ------
    ValueError
        Names the row, the column and the value that cannot be read.
    """
    clock, columns = columns_of([str(column) for column in frame.columns], name, source)
    if frame.empty:
        raise ValueError(f"{name} has no rows")

    def refuse(wrong: pd.Series, given: pd.Series, wanted: str, hint: Callable) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            value = str(given.iloc[rows[0]])
            raise ValueError(
                f"{name}, {row} {first + rows[0]}, column {given.name}: {value[:LONGEST]!r} is not "
                f"{wanted}{such_rows(len(rows))}; {hint(value, rows[0])}"
            )

    def whole_time(value: str, position: int) -> str:
        """Say what helps with the date, or the time of day, of a row."""
        if len(given) > 1 and given[0] is column:
            value = " ".join(str(one.iloc[position]) for one in given)
        return time_hint(value, source.layout.time, is_first=not position)

    given = joined([frame.iloc[:, position] for position in clock], source)
    times = []
    for column, (parse, wanted) in zip(given, parsers(len(given), source), strict=True):
        times.append(each_once(column, parse))
        refuse(times[-1].isna(), column, wanted, whole_time)
    whole = sum(times[1:], times[0])
    ts = house_clock(whole, source, lambda position: f"{name}, {row} {first + position}")
    values = np.full((len(COLUMNS), len(frame)), np.nan)
    decimal = source.layout.decimal or "."
    numbers = numbers_among(source.layout.missing)
    wanted = f"a number with a decimal {'comma' if decimal == ',' else 'point'}"

    def fill(column: str) -> None:
        words = frame.iloc[:, columns[column]]
        read = _numbers(words, source, decimal)
        if not pd.api.types.is_float_dtype(words):
            absent = words.isna() | words.astype(str).str.strip().isin(source.missing)
            wrong = np.isnan(read) & ~absent
            refuse(wrong, words, wanted, lambda value, _: number_hint(value, decimal))
        if not source.layout.decimal and not isinstance(words.dtype, np.dtype):
            wrong = _may_be_thousands(read)
            refuse(wrong, words, "as large as the whole numbers beside it", lambda *_: THOUSANDS)
        if numbers:
            read = np.where(np.isin(read, numbers), np.nan, read)
        values[list(COLUMNS).index(column)] = to_standard(read, column, source)

    with ThreadPoolExecutor(arrow.cpu_count()) as threads:
        list(threads.map(fill, [column for column in COLUMNS if column in columns]))
    return Part(name, canonical(ts, values), row, first)


def _may_be_thousands(values: np.ndarray) -> np.ndarray:
    """Say which numbers may be 1,560 and not 1.56: all beside them are whole, and larger.

    Fewer than one in a hundred are means of whole numbers, or the like.
    """
    parted = np.isfinite(values) & (values != np.floor(values))
    found, whole = values[parted], values[~parted & (values > 0)]
    is_odd = len(found) and len(whole) and found.min() >= 1 and whole.max() < 1000
    if is_odd and 100 * len(found) > len(whole) and found.max() < np.median(whole):
        digits = np.rint(1000 * found)
        if np.allclose(1000 * found, digits, atol=1e-6) and (digits % 10 != 0).mean() > 0.5:
            return parted
    return np.zeros(len(values), bool)


def _numbers(column: pd.Series, source: Source, decimal: str) -> np.ndarray:
    """Return a column as float64; what is no number is missing."""
    if column.dtype == FLOAT:
        return column.array.__arrow_array__().to_numpy()
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        text = column.astype("string")  # so that true is no number, as it is to a machine
        column = text.mask(text.isin(source.missing))
        if decimal != ".":
            column = column.mask(column.str.contains(".", regex=False)).str.replace(decimal, ".")
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
