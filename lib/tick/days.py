"""Days of clean ticks: each is judged as its ticks come, and laid down in a file of its own.

Whatever is dropped is counted under the first reason that holds. Nothing of the future decides
whether a tick stays, and where the batches are cut changes no bit of the result.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from lib.tick.rules import Rules, Session

import numpy as np
import polars as pl
import pyarrow.parquet as parquet

MEDIAN_TICKS = 51
"""Ticks of the rolling median, the tick itself and those before it in its day."""
MIN_MEDIAN_TICKS = 5
"""A day's first ticks are not judged until there are so many."""
SAME_PRICE = 1e-9
"""Relative changes below this are rounding, as in mid prices, and not a change of the price."""


@dataclass
class Day:
    """A day that is being written: what has been found, and what the next batch needs to know."""

    day: date
    path: Path
    symbol: str
    counts: Counter = field(default_factory=Counter)
    gap_us: int = 0
    first_us: int | None = None
    last_us: int | None = None
    last_price: float = np.nan
    last_side: int = 0
    tail: pl.DataFrame | None = None  # the last valid ticks, see `_clean`
    hashes: dict[str, "hashlib._Hash"] = field(default_factory=dict)
    writer: parquet.ParquetWriter | None = None

    def close(self) -> None:
        """Complete the file."""
        if self.writer:
            self.writer.close()


def write_days(
    batches: Iterable[pl.DataFrame], place: Path, rules: Rules, first_day: date, counts: Counter
) -> list[Day]:
    """Clean ticks that come in order and write those from `first_day` on, a file for each day.

    The others are counted in `counts`, as ``before_first_day``.
    """
    place.mkdir()
    days: list[Day] = []
    try:
        for batch in batches:
            symbol = batch["symbol"][0] if "symbol" in batch.columns else ""
            for day, inside, n_read in _cut(batch, rules.session):
                if day < first_day:
                    counts["before_first_day"] += n_read
                    continue
                if not days or days[-1].day != day:
                    if days:
                        days[-1].close()
                    days.append(Day(day, place / f"{day}.parquet", symbol))
                days[-1].counts.update(read=n_read, outside=n_read - len(inside))
                check_sides(days[-1].day, days[-1].tail, inside)
                kept = _clean(days[-1], inside, rules)
                if len(kept):
                    _write(days[-1], _with_sides(days[-1], kept))
    finally:
        if days:
            days[-1].close()
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
    # of ticks of one moment that are equal in all values, all but the first
    is_repeat = ~known.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    day.counts["same_time"] += int((np.diff(_times(known)[max(n_tail - 1, 0) :]) == 0).sum())
    day.counts["repeats"] += int(is_repeat[n_tail:].sum())
    if rules.drop_repeats:
        known = known.filter(~is_repeat)
    median = known["price"].rolling_median(MEDIAN_TICKS, min_samples=MIN_MEDIAN_TICKS)
    is_far = ((known["price"] / median).log().abs() > rules.max_deviation).fill_null(value=False)
    kept = known.filter(~is_far & (pl.int_range(pl.len()) >= n_tail))
    day.counts["outliers"] += len(known) - n_tail - len(kept)
    day.counts["kept"] += len(kept)
    n_moment = int((known["ts"] == known["ts"][-1]).sum())
    day.tail = known.tail(max(n_moment, MEDIAN_TICKS - 1))
    return kept


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


def _write(day: Day, ticks: pl.DataFrame) -> None:
    """Append ticks to the file of their day and to its digest."""
    times = _times(ticks)
    gaps = np.diff(times, prepend=times[0] if day.last_us is None else day.last_us)
    day.gap_us = max(day.gap_us, int(gaps.max()))
    day.first_us = int(times[0]) if day.first_us is None else day.first_us
    day.last_us = int(times[-1])
    for name in ticks.columns:
        if name != "day":
            values = ticks[name].to_physical().to_numpy()
            day.hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(values))
    table = ticks.to_arrow()
    if day.writer is None:
        day.writer = parquet.ParquetWriter(day.path, table.schema)
    day.writer.write_table(table)


def _times(ticks: pl.DataFrame) -> np.ndarray:
    """Return the times, int64, us since 1970."""
    return ticks["ts"].to_physical().to_numpy()
