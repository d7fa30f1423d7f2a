"""One stream of raw ticks in order of time, from as few files as the days wanted need.

What breaks a rule is an error that names file, line and time: ticks out of order, files that
overlap, several symbols, a date in a file's name that is not that of its ticks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

from lib.tick.files import find_tick_files
from lib.tick.iceberg import iceberg_finder
from lib.tick.read import Place, TickFile, TickFormat, first_time, read_ticks
from lib.tick.rules import EARLIEST, ONE_DAY, Rules, utc

import numpy as np
import polars as pl

ICEBERG = "iceberg:"


@dataclass(frozen=True)
class TickSource:
    """Where ticks come from, and which of them are wanted.

    Attributes
    ----------
    find : callable
        Takes the first day wanted; gives the files that may hold ticks from then on.
    symbol : str
        The one to take; "" where there is one only.
    form : TickFormat
    rules : Rules
    """

    find: Callable[[date], list[TickFile]]
    symbol: str
    form: TickFormat
    rules: Rules

    def first_day(self, n_days: int) -> date:
        """Return the earliest of the last `n_days` days on which a file seems to begin."""
        if not n_days:
            return EARLIEST
        day_of, last_day = self.rules.session.day_of, self.rules.last_day
        begins = {f.day or day_of(first_time(f, self.form)) for f in self.find(EARLIEST)}
        days = sorted(day for day in begins if day <= last_day)
        return days[-n_days] if len(days) > n_days else EARLIEST

    def ticks(self, first_day: date) -> Iterator[pl.DataFrame]:
        """Yield the ticks from `first_day` to the last day, in order of time and of one symbol."""
        last_us, last_place, seen = -(1 << 62), "", set()
        for file in self._needed(first_day):
            for place, batch in read_ticks(file, self.form):
                later = np.append(batch["ts"].to_physical().to_numpy() >= self.rules.end, True)
                n_before = int(later.argmax())
                is_last, batch = n_before < len(batch), batch[:n_before]
                if "symbol" in batch.columns:
                    seen |= set(batch["symbol"].unique())
                    batch = _one_symbol(batch, self.symbol, seen, place)
                if len(batch):
                    _check_order(batch, place, last_us, last_place)
                    self._check_date(batch, file)
                    last_us, last_place = batch["ts"].to_physical()[-1], place.at(batch["row"][-1])
                    yield batch
                if is_last:
                    break
        if self.symbol and seen and self.symbol not in seen:
            raise ValueError(
                f"there is no tick of symbol {self.symbol!r}, but of {_some(seen)}: correct symbol"
            )

    def _needed(self, first_day: date) -> list[TickFile]:
        """Return the files that may hold ticks wanted, in order of their first ticks."""
        timed = [(first_time(file, self.form), file) for file in self.find(first_day)]
        timed = sorted((p for p in timed if p[0] < self.rules.end), key=lambda pair: pair[0])
        opening = self.rules.session.instant(first_day, self.rules.session.opening)
        ends = [*(first for first, _ in timed[1:]), np.inf]
        return [file for (_, file), end in zip(timed, ends, strict=False) if end > opening]

    def _check_date(self, batch: pl.DataFrame, file: TickFile) -> None:
        """Raise an error if ticks are not of the date in their file's name, in whatever zone."""
        for instant in batch["ts"].to_physical()[[0, -1]].to_list():
            if file.day and abs(self.rules.session.day_of(instant) - file.day) > ONE_DAY:
                raise ValueError(
                    f"{file.name} has a tick of {utc(instant)}: the date in a file's name "
                    "must be that of its ticks, because files are chosen by it. Rename the file"
                )


def find_ticks(source: str, symbol: str, form: TickFormat, rules: Rules) -> TickSource:
    """Return where the ticks of `source` are; no file is opened yet.

    Raises
    ------
    ValueError
        If there is nothing.
    """
    if source.startswith(ICEBERG):
        table = iceberg_finder(source.removeprefix(ICEBERG), symbol, form, rules.end)
        return TickSource(lambda day: table(rules.session.instant(day)), symbol, form, rules)
    files = find_tick_files(source, symbol)

    def find(first_day: date) -> list[TickFile]:
        # nothing says in which zone the date in a name is one: it may be another by a day
        first, last = first_day - ONE_DAY, rules.last_day + ONE_DAY
        return [file for file in files if file.day is None or first <= file.day <= last]

    return TickSource(find, symbol, form, rules)


def _one_symbol(batch: pl.DataFrame, symbol: str, seen: set[str], place: Place) -> pl.DataFrame:
    """Return the rows of `symbol`; without it there may have been one only."""
    if symbol:
        return batch.filter(pl.col("symbol") == symbol)
    if len(seen) > 1:
        raise ValueError(
            f"{place.name} holds ticks of several symbols, {_some(seen)}: give symbol='...' for one"
        )
    return batch


def _some(names: set[str]) -> str:
    return ", ".join(sorted(map(str, names))[:5])


def _check_order(batch: pl.DataFrame, place: Place, last_us: int, last_place: str) -> None:
    """Raise an error if a tick is earlier than the one before, in the same file or the last."""
    times = np.insert(batch["ts"].to_physical().to_numpy(), 0, last_us)
    wrong = np.flatnonzero(times[1:] < times[:-1])
    if len(wrong):
        at = int(wrong[0])
        before = place.at(batch["row"][at - 1]) if at else last_place
        raise ValueError(
            f"{place.at(batch['row'][at])}: {utc(times[at + 1])} is before "
            f"{utc(times[at])} in {before}; the ticks of a file must be in order of time, "
            "and files that are read together must not overlap: sort them, or leave one out"
        )
