"""Days of clean ticks: each is judged as its ticks come, and laid down in a file of its own.

Whatever is dropped is counted under the first reason that holds. Nothing of the future decides
whether a tick stays, and where the batches are cut changes no bit of the result.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, groupby

from lib.ground.dataset import Dataset, Part
from lib.tick.rules import Rules, Session

import numpy as np
import polars as pl

MEDIAN_TICKS = 51
"""Ticks of the rolling median, the tick itself and those before it in its day."""
MIN_MEDIAN_TICKS = 5
"""A day's first ticks are not judged until there are so many."""
SAME_PRICE = 1e-9
"""Relative changes below this are rounding, as in mid prices, and not a change of the price."""


@dataclass
class Day:
    """A day: what has been found of it, and while it is read what the next batch needs to know."""

    day: date
    counts: Counter = field(default_factory=Counter)
    gap_us: int = 0
    first_us: int | None = None
    last_us: int | None = None
    last_price: float = np.nan
    last_side: int = 0
    tail: pl.DataFrame | None = None  # the last valid ticks, see `_clean`
    hashes: dict[str, "hashlib._Hash"] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    part: Part | None = None

    def close(self, part: Part) -> None:
        """Keep of the ticks the part that holds them, and their digests."""
        self.digests = {name: one.hexdigest() for name, one in self.hashes.items()}
        self.part, self.tail, self.hashes = part, None, {}


def write_days(
    batches: Iterable[pl.DataFrame], ticks: Dataset, rules: Rules, first_day: date
) -> list[Day]:
    """Clean ticks that come in order and write those from `first_day` on, a part for each day.

    Of earlier days the ticks are counted, and no more.
    """
    days = []
    pieces = chain.from_iterable(_cut(batch, rules.session) for batch in batches)
    for date_, of_day in groupby(pieces, lambda piece: piece[0]):
        day = Day(date_)
        days.append(day)
        if date_ < first_day:
            day.counts["read"] = sum(n_read for *_, n_read in of_day)
            continue
        kept = _kept(day, of_day, rules)
        if (first := next(kept, None)) is not None:
            rows = (batch.to_arrow() for batch in chain([first], kept))
            day.close(ticks.write(str(date_), rows))
    return days


def check_sides(day: date | str, before: pl.DataFrame | None, ticks: pl.DataFrame) -> None:
    """Raise an error if only a part of a day's ticks has sides."""
    if before is not None and ("side" in before.columns) != ("side" in ticks.columns):
        raise ValueError(
            f"of {day} some ticks have a side and those of another file have none: fill them in, 0 "
            'for one that is not known; or leave all out with columns=["side="]'
        )


def _cut(batch: pl.DataFrame, session: Session) -> Iterator[tuple[date, pl.DataFrame, int]]:
    """Yield the days of a batch in order of time: date, ticks in the session, number of ticks."""
    times, start = batch["ts"].to_physical().to_numpy(), 0
    while start < len(times):
        day = session.day_of(int(times[start]))
        borders = [session.instant(day, at) for at in (session.opening, session.closing, 86_400)]
        opening, closing, end = (int(i) for i in np.searchsorted(times, borders))
        yield day, batch[opening:closing], end - start
        start = end


def _kept(
    day: Day, pieces: Iterable[tuple[date, pl.DataFrame, int]], rules: Rules
) -> Iterator[pl.DataFrame]:
    """Yield the ticks of a day that are kept, as they are stored."""
    for _, inside, n_read in pieces:
        day.counts.update(read=n_read, outside=n_read - len(inside))
        check_sides(day.day, day.tail, inside)
        kept = _clean(day, inside, rules)
        if len(kept):
            stored = _with_sides(day, kept)
            _note(day, stored)
            yield stored


def _clean(day: Day, ticks: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Return the ticks of a session that are kept, and count what they are.

    The day's tail reaches back as far as the rolling median and the search for repeats do. It is
    put before the new ticks and taken off again, so that borders between batches leave no trace.
    """
    valid = _valid(day, ticks)
    if valid.is_empty():
        return valid
    n_tail = 0 if day.tail is None else len(day.tail)
    known = valid if day.tail is None else pl.concat([day.tail, valid], rechunk=True)
    is_same_time = np.diff(_times(known), prepend=-1) == 0
    is_repeat = _is_repeat(known, is_same_time)
    day.counts["same_time"] += int(is_same_time[n_tail:].sum())
    day.counts["repeats"] += int(is_repeat[n_tail:].sum())
    if rules.drop_repeats:
        known = known.filter(pl.Series(~is_repeat))
    median = known["price"].rolling_median(MEDIAN_TICKS, min_samples=MIN_MEDIAN_TICKS)
    is_far = ((known["price"] / median).log().abs() > rules.max_deviation).fill_null(value=False)
    kept = known.filter(~is_far & (pl.int_range(pl.len()) >= n_tail))
    day.counts["outliers"] += len(known) - n_tail - len(kept)
    day.counts["kept"] += len(kept)
    n_moment = int((known["ts"] == known["ts"][-1]).sum())
    day.tail = known.tail(max(n_moment, MEDIAN_TICKS - 1))
    return kept


def _is_repeat(ticks: pl.DataFrame, is_same_time: np.ndarray) -> np.ndarray:
    """Say of which ticks there is an earlier one, of the same moment and equal in all values."""
    shares_moment = is_same_time | np.append(is_same_time[1:], False)
    shared = ticks.filter(pl.Series(shares_moment))
    repeats = np.zeros(len(ticks), bool)
    repeats[shares_moment] = ~shared.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return repeats


def _valid(day: Day, ticks: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks whose values are possible, with price and size; count the others."""

    def positive(name: str) -> pl.Expr:
        column = pl.col(name)
        return column.is_finite() & (column > 0)

    side = [name for name in ticks.columns if name == "side"]
    if "bid" in ticks.columns:
        good = ticks.filter(positive("bid") & positive("ask"))
        valid = good.filter(pl.col("bid") <= pl.col("ask"))
        day.counts.update(bad_price=len(ticks) - len(good), crossed=len(good) - len(valid))
        middle = (pl.col("bid") + pl.col("ask")) / 2
        return valid.select("ts", "bid", "ask", *side, price=middle, size=pl.lit(1.0))
    good = ticks.filter(positive("price"))
    valid = good.filter(positive("size"))
    day.counts.update(bad_price=len(ticks) - len(good), bad_size=len(good) - len(valid))
    return valid.select("ts", "price", "size", *side)


def _with_sides(day: Day, ticks: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks as they are stored, with sides by the tick rule where there are none."""
    price = ticks["price"].to_numpy()
    change = np.diff(price, prepend=day.last_price)
    sign = pl.Series(np.where(np.abs(change) > SAME_PRICE * price, np.sign(change), np.nan))
    rule = sign.fill_nan(None).forward_fill().fill_null(day.last_side).cast(pl.Int8)
    if "side" not in ticks.columns:
        ticks = ticks.with_columns(side=rule)
    day.last_price, day.last_side = float(price[-1]), int(rule[-1])
    quotes = [name for name in ("bid", "ask") if name in ticks.columns]
    return ticks.select("ts", pl.lit(day.day).alias("day"), "price", "size", "side", *quotes)


def _note(day: Day, ticks: pl.DataFrame) -> None:
    """Note of ticks that are stored what is to be known of their day."""
    times = _times(ticks)
    gaps = np.diff(times, prepend=times[0] if day.last_us is None else day.last_us)
    day.gap_us = max(day.gap_us, int(gaps.max()))
    day.first_us = int(times[0]) if day.first_us is None else day.first_us
    day.last_us = int(times[-1])
    for name in ticks.columns:
        if name != "day":
            values = ticks[name].to_physical().to_numpy()
            day.hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(values))


def _times(ticks: pl.DataFrame) -> np.ndarray:
    """Return the times, int64, us since 1970."""
    return ticks["ts"].to_physical().to_numpy()
