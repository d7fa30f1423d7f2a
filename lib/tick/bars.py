"""Bars from ticks: what is known of an interval, stamped with the moment when it is known.

Ticks come in batches in order of time, as `lib.tick.load` keeps them; bars leave as a pandas
frame. No bar holds ticks of two days, and where the batches are cut changes no bit of the result:
only the ticks of the bar that is still open are carried from one batch to the next.
"""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from lib import parts
from lib.ground.dataset import Part
from lib.tick.indicators import check_bars as check_bars  # as bars are checked where models run

import pandas as pd
import polars as pl

TAIL_TICKS = 5


def to_bars(batches: Iterable[pl.DataFrame], *, kind: str = "time", size: float) -> pd.DataFrame:
    """Return the bars of ticks that come in batches.

    Parameters
    ----------
    batches : iterable of polars.DataFrame
        Cleaned ticks in order of time, cut anywhere, none empty; columns ``ts`` (UTC), ``day``,
        ``price``, ``size`` and ``side`` (-1, 0 or 1), and for quotes ``bid`` and ``ask``.
    kind : {"time", "tick", "volume", "dollar"}, default "time"
        What ends a bar.
    size : float
        Time bars: seconds; a bar holds the ticks from its begin up to, not including, its end, and
        begins a multiple of `size` after 1970-01-01 00:00 UTC. Tick bars: ticks. Volume and dollar
        bars: the bar ends with the tick that brings its volume, or its volume x price, to `size`
        or more; a tick is never split. Every day begins a new bar, so a day's last may be short.

    Returns
    -------
    pandas.DataFrame of shape (n_bars, 12) or, for quotes, (n_bars, 13)
        Index ``ts`` (datetime64[us, UTC]): the end of its interval for a time bar, else the time of
        its last tick. Columns ``day`` (text, "2013-10-07") and, float64: ``open``, ``high``,
        ``low``, ``close``, ``volume``, ``count``, ``signed_volume`` (sum of side x size), ``vwap``,
        ``side`` (of the last tick), ``tail`` (mean price of the last five ticks, of fewer if there
        are fewer), ``mean`` (mean price of the ticks) and, for quotes, ``spread`` (mean of ask -
        bid, in units of price). A time bar without ticks does not exist.

    Raises
    ------
    ValueError
        If `size` makes no sense for this kind, quotes are to give volume or dollar bars, there is
        no tick, or a tick is earlier than the one before.

    Notes
    -----
    Memory is one batch, the ticks of the longest bar and the bars. Sums are taken tick by tick from
    the begin of a bar, so a volume bar's volume is never below `size` by a rounding.
    """
    _require_size(kind, size)
    pieces: list[pl.DataFrame] = []
    rest: list[pl.DataFrame] = []
    for batch in batches:
        ticks = pl.concat([*rest, batch], rechunk=True)
        bar = _bar_numbers(ticks, kind, size)
        is_open = bar == bar[-1]
        pieces.append(_bars(ticks.filter(~is_open), bar.filter(~is_open)))
        rest = [ticks.filter(is_open)]
    if not rest:
        raise ValueError("the batches hold no tick: there is nothing to make bars of")
    pieces.append(_bars(rest[0], bar.filter(is_open)))
    bars = pl.concat(pieces)
    if kind == "time":
        step = round(size * 1e6)
        ends = (pl.col("ts").to_physical() // step + 1) * step
        bars = bars.with_columns(ends.cast(bars.schema["ts"]))
    return bars.with_columns(pl.col("day").dt.to_string()).to_pandas().set_index("ts")


def bars_of_days(
    days: Iterable[Part], *, kind: str = "time", size: float, n_phases: int = 1, n_workers: int = 1
) -> list[pd.DataFrame]:
    """Return the bars of days of ticks as `to_bars` gives them, on one grid or on several.

    Parameters
    ----------
    days : iterable of Part
        As `lib.tick.load.load_ticks` has written them.
    kind : {"time", "tick", "volume", "dollar"}, default "time"
    size : float
    n_phases : int, default 1
        Grids of time bars, each shifted by a part of a bar.
    n_workers : int, default 1
        Processes that make the bars of a day each, see `lib.parts.map`.

    Returns
    -------
    list of DataFrame
        Of each phase, the first of which is not shifted.
    """
    shifts = [timedelta(seconds=size * phase / n_phases) for phase in range(n_phases)]
    make = partial(_bars_of_day, shifts, kind, size)
    made = parts.map(make, days, n_workers=n_workers)
    return [pd.concat(of_days) for of_days in zip(*made, strict=True)]


def _bars_of_day(shifts: list[timedelta], kind: str, size: float, day: Part) -> list[pd.DataFrame]:
    found = []
    for shift in shifts:
        batches = map(pl.from_arrow, day.batches())
        moved = (batch.with_columns(ts=batch["ts"] - shift) for batch in batches)
        bars = to_bars(moved, kind=kind, size=size)
        found.append(bars.set_index(bars.index + shift))
    return found


def _require_size(kind: str, size: float) -> None:
    """Refuse a size that makes no bars of this kind."""
    if kind == "tick" and size != int(size):
        raise ValueError(f"size is {size}: a tick bar holds a whole number of ticks")
    if kind == "time" and round(size, 6) != size:
        raise ValueError(f"size is {size} s: give a whole number of microseconds")


def _bar_numbers(ticks: pl.DataFrame, kind: str, size: float) -> pl.Series:
    """Return the number of each tick's bar, in order."""
    if "bid" in ticks.columns and kind in ("volume", "dollar"):
        raise ValueError(f"quotes have no sizes: {kind} bars need trades; choose time or tick")
    late = ticks.filter(pl.col("ts").diff() < timedelta(0))
    if len(late):
        raise ValueError(f"tick at {late['ts'][0]} comes too late: ticks must be in order of time")
    if kind == "time":
        interval = pl.col("ts").to_physical() // round(size * 1e6)
        return ticks.select(pl.struct("day", interval).rle_id()).to_series()
    if kind == "tick":
        full = pl.int_range(pl.len()).over("day") // int(size)
        return ticks.select(pl.struct("day", full).rle_id()).to_series()
    amounts = ticks["size"] if kind == "volume" else ticks["size"] * ticks["price"]
    numbers, number, total, before = [], 0, 0.0, 0
    for day, amount in zip(ticks["day"].rle_id().to_list(), amounts.to_list(), strict=True):
        if day != before or total >= size:
            number, total = number + 1, 0.0
        total, before = total + amount, day
        numbers.append(number)
    return pl.Series(numbers)


def _bars(ticks: pl.DataFrame, bar: pl.Series) -> pl.DataFrame:
    """Return the bars of ticks, given the number of each tick's bar."""
    price, size = pl.col("price"), pl.col("size")
    low, high = price.min(), price.max()
    is_quotes = "bid" in ticks.columns
    spread = {"spread": (pl.col("ask") - pl.col("bid")).mean()} if is_quotes else {}
    bars = ticks.group_by(bar.alias("bar"), maintain_order=True).agg(
        ts=pl.last("ts"),
        day=pl.last("day"),
        open=price.first(),
        high=high,
        low=low,
        close=price.last(),
        volume=size.sum(),
        count=pl.len().cast(pl.Float64),
        signed_volume=(pl.col("side") * size).sum(),
        # a mean of equal prices may miss them by a rounding
        vwap=((price * size).sum() / size.sum()).clip(low, high),
        side=pl.last("side").cast(pl.Float64),
        tail=price.tail(TAIL_TICKS).mean().clip(low, high),
        mean=price.mean().clip(low, high),
        **spread,
    )
    return bars.drop("bar")
