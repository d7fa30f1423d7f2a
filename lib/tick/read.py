"""Rows of raw ticks in batches, with UTC times and stated types, from whatever holds them.

Nothing is dropped here, and no type is guessed from the first rows. A value that cannot be what its
column must be is an error that names file, line and value.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date

from lib.dialect import Column, Layout, read_columns, read_layout, shown
from lib.formats import reading
from lib.looks import column_row
from lib.tick.times import Times, check_format
from lib.tick.values import UNITS, Place, as_text, called, tell_decimal, to_numbers, to_sides

import polars as pl
import pyarrow as arrow

BATCH_ROWS = 250_000  # most rows held at once
KINDS = {"trades": ["timestamp", "price", "size"], "quotes": ["timestamp", "bid", "ask"]}
OPTIONAL = ["side", "symbol"]
PRICED = ["price", "bid", "ask", "size"]
LIKE = {
    "timestamp": ("time", "date", "ts", "utc", "index"),
    "price": ("price", "px", "last", "rate"),
}
LIKE |= {"size": ("size", "qty", "quantity", "amount", "vol"), "ask": ("ask", "offer")}
LIKE |= {"bid": ("bid",), "symbol": ("symbol", "ticker", "instrument", "pair")}
OF_SYMBOLS = ("ticker", "sym", "symroot", "pair", "currencypair", "productid", "contract", "isin")
OF_SYMBOLS += ("instrument", "instrumentname", "instrumentid")
"""What a column of symbols is called besides, without signs: it is read, lest two become one."""
MIN_FLAGS = 100
"""Rows from which on sides of 0 and 1, of which none is -1, are taken for a flag."""


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
    decimal : str
        The decimal sign of numbers in text; "" to be told from them.
    may_be_empty : bool
        Whether it is no mistake when there are no rows.
    facts : mapping of str to str
        What else was recognised, for people.
    """

    columns: list[str]
    batches: Callable[[list[str]], Iterator[arrow.RecordBatch]]
    row: str = "row"
    first_row: int = 1
    decimal: str = "."
    may_be_empty: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TickFile:
    """A file, or a part of a table, that has not been opened yet.

    Attributes
    ----------
    name : str
        As people know it.
    open : callable
        Takes the format.
    day : date, optional
        The one date in its name.
    first_us : int, optional
        Time of its first tick, us since 1970 UTC, where known without opening it.
    """

    name: str
    open: Callable[["TickFormat"], RawTicks]
    day: date | None = None
    first_us: int | None = None


@dataclass(frozen=True)
class TickFormat:
    """What a file must hold and how that is understood.

    Attributes
    ----------
    columns : dict of str to Column
        What every standard column is in the data.
    required : list of str
        Standard columns that must be there.
    time_zone : str
        Zone of the times that do not say theirs.
    layout : Layout
        How text is written.
    """

    columns: dict[str, Column]
    required: list[str]
    time_zone: str
    layout: Layout

    @property
    def wanted(self) -> list[str]:
        """The names that must be there, as the data give them."""
        standard = [name for name in self.required if name in self.columns]
        return [theirs for name in standard for theirs in self.columns[name].names]

    def only(self, *standard: str) -> "TickFormat":
        """Return the format that looks for these columns alone."""
        return replace(self, columns={name: self.columns[name] for name in standard})


def tick_format(
    kind: str, columns: Sequence[str], time_zone: str, layout: Sequence[str] = ()
) -> TickFormat:
    """Return the format of `kind` with what `columns` and `layout` say, see `lib.dialect`.

    Raises
    ------
    ValueError
        If an entry has another form, or says what cannot be.
    """
    standard = [*KINDS[kind], *OPTIONAL]
    given = read_columns(columns, standard, dict.fromkeys(PRICED, UNITS), KINDS[kind])
    for name, column in given.items():
        if column.values and (name != "side" or {*column.values.values()} - {"-1", "0", "1"}):
            raise ValueError(
                f"columns gives values of {name}, {dict(column.values)}: give those of side alone, "
                "each as 1, -1 or 0, as in side.A=-1"
            )
    text = read_layout(layout)
    check_format(text.time)
    optional = [name for name in OPTIONAL if name in given and given[name].names]
    every = {name: given.get(name, Column((name,))) for name in standard}
    return TickFormat(every, KINDS[kind] + optional, time_zone, text)


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
    n_rows = 0
    with reading(file.name):
        raw = file.open(form)
        rows = _Rows(file, form, raw)
        for batch in _cut(raw.batches(rows.names)):
            place = Place(file.name, raw.row, raw.first_row + n_rows)
            n_rows += batch.num_rows
            yield place, rows.convert(batch, place).with_row_index("row")
    if not n_rows and not raw.may_be_empty:
        raise _no_rows(file.name)
    rows.check_flags(n_rows)


def recognise(file: TickFile, form: TickFormat) -> tuple[dict[str, str], list[dict[str, object]]]:
    """Return what a file is recognised as, and each column by what its first row holds.

    Raises
    ------
    ValueError
        As `read_ticks`.
    """
    with reading(file.name):
        raw = file.open(form)
        rows = _Rows(file, form, raw)
        with closing(_cut(raw.batches(rows.names))) as batches:
            batch = next(batches, None)
    if batch is None:
        raise _no_rows(file.name)
    batch, columns = batch.slice(0, 1), []
    first = rows.convert(batch, Place(file.name, raw.row, raw.first_row))
    for name, theirs in rows.present.items():
        written = " + ".join(str(batch.column(one)[0]) for one in theirs)
        ours = "ts" if name == "timestamp" else name
        meant = first[ours][0] if ours in first.columns else "none in this row"
        unit = form.columns[name].unit
        columns.append(column_row(name, theirs, unit, written, meant))
    unread = [name for name in raw.columns if name not in rows.names]
    facts = {"file": file.name, **raw.facts}
    if raw.row == "line":
        facts["decimal sign"] = rows.decimal or "none seen in the first row"
    return facts | ({"not read": shown(unread)} if unread else {}), columns


def _no_rows(name: str) -> ValueError:
    return ValueError(
        f"{name} holds no rows: was it written to the end? Fetch it again, or leave it out"
    )


class _Rows:
    """What makes batches of one file into ticks, and remembers how the file is written."""

    def __init__(self, file: TickFile, form: TickFormat, raw: RawTicks) -> None:
        self.form, self.raw, self.decimal = form, raw, form.layout.decimal or raw.decimal
        self.present = check_columns(file.name, raw.columns, form)
        name = called("the timestamp", "+".join(self.present["timestamp"]), "timestamp")
        self.times = Times(form.layout.time, form.time_zone, file.day, name)
        self.sides: list[int] | None = None  # the least and the largest
        self.name = file.name

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(name for names in self.present.values() for name in names))

    def convert(self, batch: arrow.RecordBatch, place: Place) -> pl.DataFrame:
        """Return the ticks of a batch."""
        missing = self.form.layout.missing
        priced = {name: self._column(batch, name) for name in PRICED if name in self.present}
        if not self.decimal:
            self.decimal = tell_decimal({self._called(n): c for n, c in priced.items()}, place)
        columns = {}
        for name, theirs in self.present.items():
            if name == "timestamp":
                columns["ts"] = self.times.read([batch.column(one) for one in theirs], place)
            elif name == "symbol":
                columns[name] = self._column(batch, name).cast(pl.String).str.strip_chars()
            elif name == "side":
                columns[name] = self._sides(batch, place)
            else:
                column, unit = priced[name], self.form.columns[name].unit
                numbers = to_numbers(column, place, self._called(name), self.decimal, missing)
                columns[name] = numbers / UNITS[unit] if unit else numbers
        return pl.DataFrame(
            {name: column for name, column in columns.items() if column is not None}
        )

    def check_flags(self, n_rows: int) -> None:
        """Raise an error about a flag that is taken for sides."""
        values = self.form.columns.get("side", Column(())).values
        if self.sides == [0, 1] and not values and n_rows >= MIN_FLAGS:
            one, zero = ("-1", "1") if "maker" in self._called("side").casefold() else "??"
            raise ValueError(
                f"{self.name}: {self._called('side')} is 0 or 1 in {n_rows:,} rows and never -1, "
                f'like a flag: say what they mean, as columns=["side.1={one}", "side.0={zero}"], '
                "-1 for 1 if that says that the buyer was the maker, or leave the column out with "
                'columns=["side="]'
            )

    def _column(self, batch: arrow.RecordBatch, name: str) -> pl.Series:
        return pl.from_arrow(batch.column(self.present[name][0]))

    def _called(self, name: str) -> str:
        return called(name, self.present[name][0])

    def _sides(self, batch: arrow.RecordBatch, place: Place) -> pl.Series | None:
        """Return sides, 0 where one is missing; None where the file has none at all."""
        column, layout = self._column(batch, "side"), self.form.layout
        values = self.form.columns["side"].values
        sides = to_sides(column, place, self._called("side"), values, layout.missing)
        if self.sides is None:
            if sides.null_count() == len(sides) and not self._has_sides():
                return None
            self.sides = [1, -1]
        sides = sides.fill_null(0)
        self.sides = [min(self.sides[0], sides.min()), max(self.sides[1], sides.max())]
        return sides

    def _has_sides(self) -> bool:
        """Look ahead for one: whether the column counts must not depend on the first batch."""
        batches = self.raw.batches(list(self.present["side"]))
        texts = (as_text(pl.from_arrow(b.column(0)), self.form.layout.missing) for b in batches)
        return any(text.null_count() < len(text) for text in texts)


def check_columns(
    name: str, columns: Sequence[str], form: TickFormat
) -> dict[str, tuple[str, ...]]:
    """Return what the data call the standard columns that they have; case does not matter.

    Symbols are known by other names too, unless `form` says that there are none.
    """
    present, absent = {}, {}
    for standard, column in form.columns.items():
        found = [_find(theirs, columns, name) for theirs in column.names]
        if standard in form.required and None in found:
            absent[standard] = column.names[found.index(None)]
        elif found and None not in found:
            present[standard] = tuple(found)
    unnamed = (
        [*columns[:1]] == [""] and columns.count("") == 1 and _like("timestamp", columns) == "..."
    )
    if absent.get("timestamp") == "timestamp" and unnamed:
        del absent["timestamp"]  # the index of a frame that was written without its name
        present["timestamp"] = ("",)
    others = [c for c in columns if re.sub(r"[\W_]", "", c).casefold() in OF_SYMBOLS]
    if form.columns["symbol"].names == ("symbol",) and "symbol" not in present and others:
        present["symbol"] = (others[0],)
    if "price" in absent and {"bid", "ask"} <= {column.casefold() for column in columns}:
        raise ValueError(
            f'{name} has bid and ask and no {absent["price"]!r} for price: give kind="quotes"; or '
            "say with columns what the price of a trade is called"
        )
    if absent:
        wanted = ", ".join(f"{theirs!r} for {ours}" for ours, theirs in absent.items())
        entries = ", ".join(f'"{ours}={_like(ours, columns)}"' for ours in absent)
        raise ValueError(
            f"{name} has no column {wanted}, it has {shown(columns)}: say what is called how there"
            f", as columns=[{entries}]; remove what stands before the header, or leave out a file "
            "that is no table"
        )
    return present


def _like(standard: str, columns: Sequence[str]) -> str:
    """Return the first column that may be the standard one by its name, for a message."""
    words = LIKE.get(standard, ())
    return next((c for c in columns if any(word in c.casefold() for word in words)), "...")


def _find(theirs: str, columns: Sequence[str], name: str) -> str | None:
    same = [one for one in columns if one == theirs]
    same = same or [one for one in columns if one.casefold() == theirs.casefold()]
    if len(same) > 1:
        raise ValueError(
            f"{name} has {theirs!r} {len(same)} times among its columns, {shown(columns)}: rename "
            'them, or name all in their order, as layout=["names=..."]'
        )
    return same[0] if same else None


def _cut(batches: Iterator[arrow.RecordBatch]) -> Iterator[arrow.RecordBatch]:
    """Yield batches of no more rows than are held at once, of plain values."""
    for batch in batches:
        columns = [c.dictionary_decode() if hasattr(c, "dictionary") else c for c in batch.columns]
        plain = arrow.RecordBatch.from_arrays(columns, batch.schema.names)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield plain.slice(start, BATCH_ROWS)
