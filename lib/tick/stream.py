"""One stream of raw ticks in order of time, from as few files as the days wanted need.

Every row of the files that are read is counted: as a tick of the stream, or with the reason why it
is none. What breaks a rule is an error that names file, line and time: ticks out of order, files
that overlap, several symbols, a time that cannot be, a date in a file's name that is not that of
its ticks.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from lib.tick.files import find_tick_files
from lib.tick.names import NO_SYMBOL, is_of, of_symbol
from lib.tick.read import Place, RawTicks, TickFile, TickFormat, read_ticks, tick_format
from lib.tick.rules import EARLIEST, ONE_DAY, Rules, utc
from lib.tick.sample import N_DAYS, opening_us, sample_dates, sample_ticks
from lib.tick.sort import sort_ticks
from lib.tick.times import DAY_US

import numpy as np
import polars as pl
import pyarrow as arrow

ICEBERG = "iceberg:"
LONGEST_GAP_US = 366 * DAY_US
"""Between two ticks of one file; a longer one is a wrong time more likely than a pause."""


class Start(NamedTuple):
    """What reading the first rows of a file has told.

    Attributes
    ----------
    first_us : float
        Time of the first tick wanted, us since 1970 UTC; infinite where there is none.
    has_symbols : bool
        Whether there is a column of symbols.
    n_rows : int
        Rows read to know that; all of the file where no tick of it is wanted.
    """

    first_us: float
    has_symbols: bool
    n_rows: int


class Before(NamedTuple):
    """The last tick so far: its time (us since 1970 UTC), file, and place for people."""

    us: int = -(1 << 62)
    file: str = ""
    place: str = ""


@dataclass(frozen=True)
class Stretch:
    """Files to be read one after the other, apart from those of other stretches.

    Attributes
    ----------
    files : list of TickFile
        In order of time; all those whose first tick is of one day, where there are others.
    after : list of TickFile
        Those whose first tick is of the next such day: the last day of `files` may go on there.
    after_us : float
        The first moment of `after`, us since 1970 UTC; infinite where there is none.
    """

    files: list[TickFile]
    after: list[TickFile] = field(default_factory=list)
    after_us: float = math.inf

    def __str__(self) -> str:
        return self.files[0].name if self.files else "no file"


@dataclass
class TickReader:
    """Which ticks of files are wanted, and what has been seen while reading.

    Attributes
    ----------
    symbol : str
        The one to take; "" where there is one only.
    form : TickFormat
    rules : Rules
    sort : bool
        Whether ticks may be in any order, and are sorted.
    most_rows : int
        After how many rows of the symbol to stop; 0 for none.
    counts : Counter
        ``rows`` read, and of them ``other_symbols`` and ``after_as_of``.
    symbols : set of str
        All that there were.
    kinds : dict of bool to str
        The first file with a column of symbols, and the first without.
    last : Before
        The last tick.
    """

    symbol: str
    form: TickFormat
    rules: Rules
    sort: bool = False
    most_rows: int = 0
    counts: Counter = field(default_factory=Counter)
    symbols: set[str] = field(default_factory=set)
    kinds: dict[bool, str] = field(default_factory=dict)
    last: Before = field(default_factory=Before)

    def anew(self) -> "TickReader":
        """Return one that knows the symbols seen so far, and has read nothing itself."""
        return replace(self, counts=Counter(), symbols={*self.symbols}, kinds={}, last=Before())

    def add(self, other: "TickReader", stretch: Stretch) -> None:
        """Take over what another one has seen in a later stretch."""
        self.counts.update(other.counts)
        self.symbols |= other.symbols
        self.kinds = {**other.kinds, **self.kinds}
        self._check_symbols(str(stretch))
        self._check_kinds()

    def ticks(self, stretch: Stretch, scratch: Path) -> Iterator[pl.DataFrame]:
        """Yield the ticks of a stretch in order of time, its last day to the end.

        Sorting needs space in the folder `scratch`.
        """
        ticks = self._in_order(stretch)
        yield from sort_ticks(ticks, self.rules.session, scratch) if self.sort else ticks

    @property
    def is_cut(self) -> bool:
        """Whether reading has ended early, after as many rows as may be read."""
        return 0 < self.most_rows <= self.counts["rows"] - self.counts["other_symbols"]

    def check_there(self) -> None:
        """Raise an error if the symbol wanted was not among those seen."""
        if self.symbol and self.symbols and self.symbol not in self.symbols:
            raise ValueError(
                f"there is no tick of symbol {self.symbol!r}, but of {_some(self.symbols)}: "
                f"correct symbol; or {NO_SYMBOL}"
            )

    def wanted(self, rows: pl.DataFrame, place: Place) -> pl.DataFrame:
        """Return the rows of the symbol; without it there may have been one only."""
        if "symbol" not in rows.columns:
            return rows
        self.symbols |= set(rows["symbol"].unique())
        self._check_symbols(place.name)
        return rows.filter(pl.col("symbol") == self.symbol) if self.symbol else rows

    def check_future(self, batch: pl.DataFrame, place: Place) -> None:
        """Raise an error about a tick of the future, unless a last day says what is seen."""
        times, end = batch["ts"].to_physical(), self.rules.end
        if self.rules.is_open and len(times) and times.max() >= end:
            at = int((times >= end).arg_true()[0])
            moment = utc(times[at])
            raise place.wrong(
                batch["row"][at],
                "the timestamp",
                str(moment),
                "which is in the future: correct or remove it, or the time_zone; or give as_of, "
                f"the last day that may be seen: as_of='{moment.date() + ONE_DAY}' takes it",
            )

    def _in_order(self, stretch: Stretch) -> Iterator[pl.DataFrame]:
        for file in stretch.files:
            yield from self._read(file)
            if self.is_cut:
                return
        session = self.rules.session
        if not self.last.file or not stretch.after:
            return
        day = session.day_of(self.last.us)
        if session.day_of(stretch.after_us) <= day:
            end = session.instant(day + ONE_DAY)
            ahead = replace(self, counts=Counter())  # those rows count where their file does
            for batch in chain.from_iterable(map(ahead._read, stretch.after)):
                of_day = batch.filter(batch["ts"].to_physical() < end)
                if len(of_day):
                    yield of_day
                if len(of_day) < len(batch):
                    return

    def _read(self, file: TickFile) -> Iterator[pl.DataFrame]:
        """Yield the ticks wanted of a file, and count the other rows; check their order."""
        for place, rows in read_ticks(file, self.form):
            self.kinds.setdefault("symbol" in rows.columns, file.name)
            self._check_kinds()
            batch = self.wanted(rows, place)
            self.counts.update(rows=len(rows), other_symbols=len(rows) - len(batch))
            self.check_future(batch, place)
            if len(batch) and not self.sort:
                self.last = check_order(batch, place, self.last, self.rules.end)
            batch = self._up_to_end(batch)
            if len(batch):
                self._check_date(batch, file)
                yield batch
            if self.is_cut:
                return

    def _up_to_end(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Return the ticks that may be seen, and count the others."""
        is_late = batch["ts"].to_physical() >= self.rules.end
        self.counts["after_as_of"] += int(is_late.sum())
        return batch.filter(~is_late) if is_late.any() else batch

    def _check_symbols(self, name: str) -> None:
        if not self.symbol and len(self.symbols) > 1:
            named = sorted(str(one) for one in self.symbols if one)  # some may have none
            what = "several symbols" if len(named) == len(self.symbols) else "no symbol too"
            raise ValueError(
                f"{name} holds ticks of {what}, {_some(named)}: give symbol={named[0]!r} for one; "
                f"or {NO_SYMBOL}"
            )

    def _check_kinds(self) -> None:
        """Raise an error about files with and without symbols, unless the names tell these."""
        if len(self.kinds) > 1 and not (self.symbol and is_of(self.kinds[False], self.symbol)):
            raise ValueError(
                f"{self.kinds[True]} has a column of symbols, {self.kinds[False]} has none: of "
                f"which instrument its ticks are cannot be told. Leave it out; or {NO_SYMBOL}"
            )

    def _check_date(self, batch: pl.DataFrame, file: TickFile) -> None:
        """Raise an error if ticks are not of the date in their file's name, in whatever zone."""
        if file.day is None:
            return
        times = batch["ts"].to_physical()
        for instant in (times.min(), times.max()):
            if abs(self.rules.session.day_of(instant) - file.day) > ONE_DAY:
                raise ValueError(
                    f"{file.name} has a tick of {utc(instant)}: the date in a file's name "
                    "must be that of its ticks, because files are chosen by it. Rename the file"
                )


@dataclass
class TickSource:
    """Where ticks come from, and which files have those that are wanted.

    Attributes
    ----------
    find : callable
        Takes the first day wanted; gives the files that may hold ticks from then on.
    reader : TickReader
        Of whatever is read; its counts are those of the last stream.
    where : str
        The path or address, which may name the symbol; "" where no file has a name that counts.
    """

    find: Callable[[date], list[TickFile]]
    reader: TickReader
    where: str = ""
    _starts: dict[str, Start] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """What decides which ticks count."""
        return self.reader.rules

    def first_day(self, n_days: int) -> date:
        """Return the earliest of the last `n_days` days on which a file seems to begin."""
        if not n_days or self.reader.sort:
            return EARLIEST
        day_of, last_day = self.rules.session.day_of, self.rules.last_day
        files = self.files(EARLIEST)
        if len(files) <= n_days:
            return EARLIEST
        firsts = [(f.day, 0 if f.day else self._start(f).first_us) for f in files]
        begins = {day or day_of(first_us) for day, first_us in firsts if first_us < math.inf}
        days = sorted(day for day in begins if day <= last_day)
        return days[-n_days] if len(days) > n_days else EARLIEST

    def stretches(self, first_day: date) -> list[Stretch]:
        """Return what to read for the ticks from `first_day` to the last day, in order of time.

        Each stretch gives whole days, and more than that only where the day before has begun in
        an earlier file: its ticks on the last day of the stretch before are to be left out.
        """
        self.reader.counts.clear()
        if self.reader.sort:
            return [Stretch(self.files(first_day))]
        needed = self._needed(first_day)
        if self.reader.most_rows or len(needed) < 2:
            return [Stretch(needed)]
        day_of = self.rules.session.day_of
        firsts = {file.name: self._start(file).first_us for file in needed}
        days = groupby(needed, lambda file: day_of(firsts[file.name]))
        groups = [list(files) for _, files in days]
        following = [(files, firsts[files[0].name]) for files in groups[1:]]
        pairs = zip(groups, [*following, ([], math.inf)], strict=True)
        return [Stretch(files, *after) for files, after in pairs]

    def files(self, first_day: date) -> list[TickFile]:
        """Return the files from a day on that may be of the symbol, by their names."""
        files = self.find(first_day)
        if not self.where or not self.reader.form.columns["symbol"].names:
            return files
        symbol = self.reader.symbol
        return of_symbol(files, symbol, self.where, lambda file: self._start(file).has_symbols)

    def _needed(self, first_day: date) -> list[TickFile]:
        """Return the files that may hold ticks wanted, in order of their first ticks."""
        files = self.files(first_day)
        if len(files) == 1:
            return files
        for start in map(self._start, files):
            if start.first_us == math.inf:
                self.reader.counts.update(rows=start.n_rows, other_symbols=start.n_rows)
        timed = [(self._start(file).first_us, file) for file in files]
        timed = sorted((p for p in timed if p[0] < self._end), key=lambda pair: pair[0])
        opening = self.rules.session.instant(first_day, self.rules.session.opening)
        ends = [*(first for first, _ in timed[1:]), math.inf]
        return [file for (_, file), end in zip(timed, ends, strict=False) if end > opening]

    @property
    def _end(self) -> float:
        """The moment from which on files are not read; where no day is the last, there is none."""
        return math.inf if self.rules.is_open else self.rules.end

    def _start(self, file: TickFile) -> Start:
        """Return what the first rows of a file tell, reading as few as possible."""
        if file.first_us is not None:
            return Start(file.first_us, has_symbols=False, n_rows=0)
        if file.name not in self._starts:
            self._starts[file.name] = self._read_start(file)
        return self._starts[file.name]

    def _read_start(self, file: TickFile) -> Start:
        n_rows, has_symbols = 0, False
        for place, rows in read_ticks(file, self.reader.form.only("timestamp", "symbol")):
            n_rows, has_symbols = n_rows + len(rows), "symbol" in rows.columns
            batch = self.reader.wanted(rows, place)
            self.reader.check_future(batch, place)
            if len(batch):
                if not self.reader.sort:  # by its first tick a file may be left out
                    check_order(batch, place, Before(), self.rules.end)
                return Start(int(batch["ts"].to_physical()[0]), has_symbols, n_rows)
        return Start(math.inf, has_symbols, n_rows)


def find_ticks(
    source: str,
    symbol: str,
    form: TickFormat,
    rules: Rules,
    *,
    sort: bool = False,
    most_rows: int = 0,
) -> TickSource:
    """Return where the ticks of `source` are; no file is opened yet.

    Raises
    ------
    ValueError
        If there is nothing.
    """
    reader = TickReader(symbol, form, rules, sort, most_rows)
    if source.startswith(ICEBERG):
        from lib.tick.iceberg import iceberg_finder

        end = None if rules.is_open else rules.end
        table = iceberg_finder(source.removeprefix(ICEBERG), symbol, form, end)
        return TickSource(lambda day: table(rules.session.instant(day)), reader)
    return TickSource(_by_day(find_tick_files(source, symbol), rules), reader, source)


def sample_source(options: Mapping[str, int], seed: int, rules: Rules) -> TickSource:
    """Return the trades of `lib.tick.sample.sample_days`, as if each day were a file."""
    given = {**options, "seed": seed}
    days = sample_dates(given.pop("n_days", N_DAYS))
    files = [
        TickFile(f"the sample of {day}", partial(_sample, day, given), day, opening_us(day))
        for day in days
    ]
    return TickSource(
        _by_day(files, rules), TickReader("", tick_format("trades", (), "UTC"), rules)
    )


def _sample(day: date, options: Mapping[str, int], _: TickFormat) -> RawTicks:
    """Open a day of the sample."""

    def batches(names: list[str]) -> Iterator[arrow.RecordBatch]:
        ticks = sample_ticks(day, **options).rename({"ts": "timestamp"})
        return iter(ticks.select(names).to_arrow().to_batches())

    return RawTicks(["timestamp", "price", "size", "side"], batches)


def _by_day(files: list[TickFile], rules: Rules) -> Callable[[date], list[TickFile]]:
    """Return what finds the files of a day and later ones, by the dates in their names."""

    def find(first_day: date) -> list[TickFile]:
        # nothing says in which zone the date in a name is one: it may be another by a day
        first, last = first_day - ONE_DAY, rules.last_day + ONE_DAY
        return [file for file in files if file.day is None or first <= file.day <= last]

    return find


def _some(names: set[str]) -> str:
    return ", ".join(sorted(map(str, names))[:5])


def check_order(batch: pl.DataFrame, place: Place, before: Before, end: int) -> Before:
    """Return the last tick of a batch; raise an error if one is earlier than that before it.

    In one file none before `end` may be much later either: that is a wrong time.
    """
    times = np.insert(batch["ts"].to_physical().to_numpy(), 0, before.us)
    steps = np.diff(times)
    is_far = (steps > LONGEST_GAP_US) & (times[1:] < end)
    is_far[0] &= before.file == place.name
    wrong = np.flatnonzero((steps < 0) | is_far)
    if len(wrong):
        at = int(wrong[0])
        last = place.at(batch["row"][at - 1]) if at else before.place
        here, now, then = place.at(batch["row"][at]), utc(times[at + 1]), utc(times[at])
        if is_far[at]:
            raise ValueError(
                f"{here}: {now} is {steps[at] // DAY_US} days after {then} in {last}: one "
                "of both times is wrong, correct or remove it. If both are right, put what is so "
                "far apart into files of its own"
            )
        raise ValueError(
            f"{here}: {now} is before {then} in {last}; the ticks of a file must be in order of "
            "time, and files that are read together must not overlap: leave one out, or give "
            "sort=True, which sorts them, a day at a time in memory"
        )
    return Before(int(times[-1]), place.name, place.at(batch["row"][-1]))
