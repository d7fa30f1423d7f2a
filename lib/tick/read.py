"""Rows of raw ticks in batches, with UTC times and stated types, from whatever holds them.

Nothing is dropped here, and no type is guessed from the first rows. A value that cannot be what its
column must be is an error that names file, line and value.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from lib.ground.console import redact

import polars as pl
import pyarrow as arrow
import pyarrow.types as types

BATCH_ROWS = 250_000  # most rows held at once
KINDS = {"trades": ["timestamp", "price", "size"], "quotes": ["timestamp", "bid", "ask"]}
OPTIONAL = ["side", "symbol"]
EPOCH_UNITS = {1e11: None, 1e14: "ms", 1e17: "us", 1e20: "ns"}
"""Unit of an integer timestamp by the least size above it: milliseconds of 1973 to 5138, ..."""


@dataclass(frozen=True)
class RawTicks:
    """An open file or table: what it holds, by its own names, and how to read that.

    Attributes
    ----------
    columns : list of str
    batches : callable
        Takes the columns wanted; gives batches of them in order.
    row, first_row : str, int
        How a row is called, and its first number: a CSV file's first row is line 2.
    may_be_empty : bool
        Whether it is no mistake when there are no rows.
    """

    columns: list[str]
    batches: Callable[[list[str]], Iterator[arrow.RecordBatch]]
    row: str = "row"
    first_row: int = 1
    may_be_empty: bool = False


@dataclass(frozen=True)
class TickFile:
    """A file, or a part of a table, that has not been opened yet.

    Attributes
    ----------
    name : str
        As people know it.
    open : callable
    day : date, optional
        The one date in its name.
    first_us : int, optional
        Time of its first tick, us since 1970 UTC, where known without opening it.
    """

    name: str
    open: Callable[[], RawTicks]
    day: date | None = None
    first_us: int | None = None


@dataclass(frozen=True)
class TickFormat:
    """What a file must hold and how that is understood.

    Attributes
    ----------
    names : dict of str to str
        A file's own name of every standard column.
    required : list of str
        Standard columns that must be there.
    time_zone : str
        Zone of the times that do not say theirs.
    """

    names: dict[str, str]
    required: list[str]
    time_zone: str

    def only(self, *standard: str) -> "TickFormat":
        """Return the format of these columns alone."""
        names = {name: self.names[name] for name in standard}
        return replace(self, names=names, required=[n for n in self.required if n in standard])


def tick_format(kind: str, columns: Sequence[str], time_zone: str) -> TickFormat:
    """Return the format of `kind` with the names that `columns` gives, ``standard=theirs`` each.

    Raises
    ------
    ValueError
        If a standard name is unknown, or an entry does not have this form.
    """
    names = {name: name for name in [*KINDS[kind], *OPTIONAL]}
    required = list(KINDS[kind])
    for entry in columns:
        name, _, theirs = (part.strip() for part in entry.partition("="))
        if name not in names or not theirs:
            raise ValueError(
                f"columns has {entry!r}: give standard=theirs, as in timestamp=time; the standard "
                f"columns of {kind} are {', '.join(names)}"
            )
        names[name] = theirs
        required += [name] * (name in OPTIONAL)
    return TickFormat(names, required, time_zone)


def read_ticks(file: TickFile, form: TickFormat) -> Iterator[tuple["Place", pl.DataFrame]]:
    """Yield the rows of `file` in batches, in the order of the file.

    Yields
    ------
    Place
        Where the batch begins.
    DataFrame
        ``row`` (position within the batch), ``ts`` (Datetime, us, UTC), the other columns of the
        kind as Float64 (null where missing), and where the file has them ``side`` (Int8: 1, -1 or
        0) and ``symbol`` (String).

    Raises
    ------
    ValueError
        If the file is empty or damaged, a column is missing, or a value cannot be what it must be.
    """
    n_rows, first = 0, None
    try:
        raw = file.open()
        present = check_columns(file.name, raw.columns, form)
        for batch in _cut(raw.batches(list(present.values()))):
            place = Place(file.name, raw.row, raw.first_row + n_rows)
            columns = {}
            for name, theirs in present.items():
                column = batch.column(theirs)
                if name == "timestamp":
                    first = column[0] if first is None else first
                    columns["ts"] = _times(column, first, place, form.time_zone)
                elif name == "symbol":
                    columns[name] = pl.from_arrow(column).cast(pl.String)
                elif name == "side":
                    columns[name] = _sides(pl.from_arrow(column), place)
                else:
                    columns[name] = _numbers(pl.from_arrow(column), place, theirs)
            n_rows += batch.num_rows
            yield place, pl.DataFrame(columns).with_row_index("row")
    except (arrow.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file.name} cannot be read, it may be cut short or damaged ({redact(str(error))}): "
            "fetch it again"
        ) from None
    if not n_rows and not raw.may_be_empty:
        raise ValueError(f"{file.name} holds no rows: was it written to the end? Fetch it again")


def check_columns(name: str, columns: list[str], form: TickFormat) -> dict[str, str]:
    """Return the file's own name of the standard columns that it has."""
    for standard in form.required:
        if form.names[standard] not in columns:
            raise ValueError(
                f"{name} has no column {form.names[standard]!r} for {standard}, it has "
                f"{', '.join(columns)}: say what it is called there with columns=['{standard}=...']"
            )
    return {standard: theirs for standard, theirs in form.names.items() if theirs in columns}


def _cut(batches: Iterator[arrow.RecordBatch]) -> Iterator[arrow.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


# Values --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a batch lies, to name its rows."""

    name: str
    row: str
    first_row: int

    def at(self, position: int) -> str:
        """Name the row at `position` of the batch."""
        return f"{self.name}, {self.row} {self.first_row + position}"

    def wrong(self, position: int, column: str, value: object, expected: str) -> ValueError:
        """Return the error about the value at `position` of the batch."""
        return ValueError(f"{self.at(position)}: {column} is {value!r}; {expected}")

    def require(self, right: pl.Series, column: str, values: pl.Series, expected: str) -> None:
        """Raise the error about the first of `values` that is not right."""
        if not right.all():
            at = int((~right).arg_true()[0])
            value = values[at]
            shown = str(value) if values.dtype.is_temporal() and value is not None else value
            raise self.wrong(at, column, shown, expected)


def _numbers(column: pl.Series, place: Place, name: str) -> pl.Series:
    """Return a column as Float64; nothing, or blanks, is null."""
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() > column.null_count():
        blank = column.cast(pl.String).str.strip_chars() == ""
        right = numbers.is_not_null() | column.is_null() | blank
        place.require(right, name, column, "a number was expected: correct or remove it")
    return numbers


def _sides(column: pl.Series, place: Place) -> pl.Series:
    """Return sides as Int8; nothing is 0, not known."""
    sides = _numbers(column, place, "side").fill_null(0)
    expected = "1 (the buyer took), -1 (the seller) or 0 (not known) was expected"
    place.require(sides.is_in([-1.0, 0.0, 1.0]), "side", column, expected)
    return sides.cast(pl.Int8)


def _times(column: arrow.Array, first: arrow.Scalar, place: Place, time_zone: str) -> pl.Series:
    """Return times as us, UTC, from text, integers since 1970 or timestamps of any kind.

    The `first` value of the file says how those after it are to be read.
    """
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        if re.fullmatch(r"\d+", str(first)):
            expected = "an integer was expected, as in the first row"
            column = _cast(column, arrow.int64(), place, expected)
        else:
            has_zone = re.search(r"\d([Zz]|[+-]\d\d:?\d\d)$", str(first))
            zone = "with" if has_zone else "without"
            expected = f"a time as 2013-10-07 09:30:00.123 was expected, {zone} a zone"
            wanted = arrow.timestamp("ns", "UTC" if has_zone else None)
            column = _cast(column, wanted, place, expected)
    there = pl.from_arrow(column.is_valid())
    place.require(there, "the timestamp", pl.from_arrow(column), "every tick needs a time")
    if types.is_integer(column.type):
        times = _from_epoch(pl.from_arrow(column).cast(pl.Int64), int(str(first)), place)
    elif types.is_timestamp(column.type):
        times = pl.from_arrow(column).dt.cast_time_unit("us")
    else:
        raise ValueError(
            f"{place.name}: the timestamps are of type {column.type}; text, integers since 1970 or "
            "timestamps were expected"
        )
    return _to_utc(times, place, time_zone)


def _cast(column: arrow.Array, wanted: arrow.DataType, place: Place, expected: str) -> arrow.Array:
    """Cast with Arrow, which is fast and does not say what it cannot cast: look for that then."""
    try:
        return column.cast(wanted)
    except arrow.ArrowInvalid:
        for at, value in enumerate(column):
            try:
                value.cast(wanted)
            except arrow.ArrowInvalid:
                raise place.wrong(at, "the timestamp", str(value), expected) from None
        raise


def _from_epoch(numbers: pl.Series, first: int, place: Place) -> pl.Series:
    """Return integers since 1970 as UTC times; the size of the first tells ms, us and ns apart."""
    unit = next((unit for above, unit in EPOCH_UNITS.items() if first < above), None)
    if unit is None:
        expected = "milli-, micro- or nanoseconds since 1970 were expected"
        raise place.wrong(0, "the timestamp", first, expected)
    return numbers.cast(pl.Datetime(unit, "UTC")).dt.cast_time_unit("us")


def _to_utc(times: pl.Series, place: Place, time_zone: str) -> pl.Series:
    if times.dtype.time_zone:
        return times.dt.convert_time_zone("UTC")
    local = times.dt.replace_time_zone(time_zone, ambiguous="null", non_existent="null")
    expected = (
        f"the clocks of {time_zone} show this time twice or never, when they are changed: give "
        "times with their zone, or the right time_zone"
    )
    place.require(local.is_not_null(), "the timestamp", times, expected)
    return local.dt.convert_time_zone("UTC")
