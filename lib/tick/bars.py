"""Bars from ticks: what is known of an interval, stamped with the moment when it is known.

Ticks come in batches in order of time, as `lib.tick.load` keeps them; bars leave as a pandas
frame. No bar holds ticks of two days, and where the batches are cut changes no bit of the result:
only the ticks of the bar that is still open are carried from one batch to the next.
"""

from collections.abc import Iterable

from lib.tick.indicators import check_bars as check_bars  # as bars are checked where models run

import numpy as np
import pandas as pd
import polars as pl

KINDS = ("time", "tick", "volume", "dollar")
TAIL_TICKS = 5
TICK_COLUMNS = ("ts", "day", "price", "size", "side")
QUOTE_COLUMNS = ("bid", "ask")


def to_bars(batches: Iterable[pl.DataFrame], *, kind: str = "time", size: float) -> pd.DataFrame:
    """Return the bars of ticks that come in batches.

    Parameters
    ----------
    batches : iterable of polars.DataFrame
        Cleaned ticks in order of time, cut anywhere; columns ``ts`` (UTC), ``day``, ``price``,
        ``size`` and ``side`` (-1, 0 or 1), and for quotes ``bid`` and ``ask``.
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
        If `kind` or `size` makes no sense, quotes are to give volume or dollar bars, there is no
        tick, a column is missing, a tick is earlier than the one before, or a price or size is not
        a positive number.

    Notes
    -----
    Memory is one batch, the ticks of the longest bar and the bars. Sums are taken tick by tick from
    the begin of a bar, so a volume bar's volume is never below `size` by a rounding.
    """
    _require_kind(kind, size)
    pieces: list[pd.DataFrame] = []
    rest: pl.DataFrame | None = None
    for batch in batches:
        if batch.is_empty():
            continue
        ticks = _ticks(batch, kind)
        ticks = ticks if rest is None else pl.concat([rest, ticks], rechunk=True)
        begins = _begins(ticks, kind, size)
        if len(begins) > 1:
            pieces.append(_bars(ticks[: begins[-1]], begins[:-1], kind, size))
        rest = ticks[int(begins[-1]) :]
    if rest is None:
        raise ValueError("the batches hold no tick: there is nothing to make bars of")
    pieces.append(_bars(rest, np.zeros(1, dtype=np.int64), kind, size))
    return pd.concat(pieces)


def _require_kind(kind: str, size: float) -> None:
    """Refuse a kind or size that makes no bars."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: choose from {', '.join(KINDS)}")
    if not 0 < size < np.inf:
        raise ValueError(f"size is {size}: give a number above 0")
    if kind == "tick" and size != int(size):
        raise ValueError(f"size is {size}: a tick bar holds a whole number of ticks")
    if kind == "time" and (round(size, 6) != size or size < 1e-6):
        raise ValueError(f"size is {size} s: give a whole number of microseconds")


def _ticks(batch: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return the columns that bars are made of: whole numbers for times and days, else float64."""
    quotes = all(name in batch.columns for name in QUOTE_COLUMNS)
    if quotes and kind in ("volume", "dollar"):
        raise ValueError(f"quotes have no sizes: {kind} bars need trades; choose time or tick")
    names = (*TICK_COLUMNS, *(QUOTE_COLUMNS if quotes else ()))
    missing = [name for name in names if name not in batch.columns]
    if missing:
        raise ValueError(f"the ticks have no column {missing[0]!r}; there are {batch.columns}")
    ticks = batch.select(
        pl.col("ts").cast(pl.Datetime("us", "UTC")).cast(pl.Int64),
        pl.col("day").cast(pl.Date).cast(pl.Int32),
        *(pl.col(name).cast(pl.Float64) for name in names[2:]),
    )
    for name in ("price", "size"):
        values = ticks[name].to_numpy()
        wrong = np.flatnonzero(~((values > 0) & (values < np.inf)))
        if wrong.size:
            row = int(wrong[0])
            raise ValueError(
                f"tick at {batch['ts'][row]}: {name} is {values[row]}, it must be above 0: "
                "clean the ticks first"
            )
    return ticks


def _begins(ticks: pl.DataFrame, kind: str, size: float) -> np.ndarray:
    """Return the positions of the ticks that begin a bar; the first always does."""
    ts, day = ticks["ts"].to_numpy(), ticks["day"].to_numpy()
    late = np.flatnonzero((np.diff(ts) < 0) | (np.diff(day) < 0))
    if late.size:
        earlier, later = (ticks["ts"][int(late[0]) + k] for k in (0, 1))
        earlier, later = (pd.Timestamp(value, unit="us", tz="UTC") for value in (earlier, later))
        raise ValueError(f"tick at {later} comes after {earlier}: ticks must be in order of time")
    new_day = np.diff(day, prepend=day[0] - 1) != 0
    if kind == "time":
        interval = ts // round(size * 1e6)
        return np.flatnonzero(new_day | (np.diff(interval, prepend=interval[0]) != 0))
    first = np.flatnonzero(new_day)
    if kind == "tick":
        in_day = np.arange(len(ts)) - np.repeat(first, np.diff(first, append=len(ts)))
        return np.flatnonzero(in_day % int(size) == 0)
    amounts = ticks["size"] if kind == "volume" else ticks["size"] * ticks["price"]
    return _begins_by_amount(amounts.to_numpy(), first, size)


def _begins_by_amount(amounts: np.ndarray, first: np.ndarray, size: float) -> np.ndarray:
    """Return where bars begin that each hold `size` or more, given the first tick of every day."""
    begins: list[int] = []
    for begin, end in zip(first.tolist(), [*first[1:].tolist(), len(amounts)], strict=True):
        begins.append(begin)
        total = 0.0
        for position, amount in enumerate(amounts[begin:end].tolist(), start=begin + 1):
            total += amount
            if total >= size:
                begins.append(position)
                total = 0.0
        if begins[-1] == end:  # the day's last tick ended a bar
            begins.pop()
    return np.array(begins, dtype=np.int64)


def _bars(ticks: pl.DataFrame, begins: np.ndarray, kind: str, size: float) -> pd.DataFrame:
    """Return the bars of ticks that begin at `begins`; the last one ends with the last tick."""
    ts, day, price, volume, side = (ticks[name].to_numpy() for name in TICK_COLUMNS)
    counts = np.diff(begins, append=len(ts))
    last = begins + counts - 1
    bar = np.repeat(np.arange(len(begins)), counts)
    sums = [np.bincount(bar, weights) for weights in (volume, side * volume, price * volume, price)]
    high, low = np.maximum.reduceat(price, begins), np.minimum.reduceat(price, begins)
    back = last[:, None] - np.arange(TAIL_TICKS)
    in_bar = back >= begins[:, None]
    tail = np.where(in_bar, price[back * in_bar], 0.0).sum(axis=1) / in_bar.sum(axis=1)
    columns = {
        "open": price[begins],
        "high": high,
        "low": low,
        "close": price[last],
        "volume": sums[0],
        "count": counts.astype(np.float64),
        "signed_volume": sums[1],
        # a mean of equal prices may miss them by a rounding
        "vwap": np.clip(sums[2] / sums[0], low, high),
        "side": side[last],
        "tail": np.clip(tail, low, high),
        "mean": np.clip(sums[3] / counts, low, high),
    }
    if "bid" in ticks.columns:
        spread = (ticks["ask"] - ticks["bid"]).to_numpy()
        columns["spread"] = np.bincount(bar, spread) / counts
    step = round(size * 1e6)
    known = ts[last] if kind != "time" else (ts[last] // step + 1) * step
    index = pd.DatetimeIndex(known.view("datetime64[us]"), tz="UTC", name="ts")
    frame = pd.DataFrame(columns, index)
    frame.insert(0, "day", _texts(day[begins]))
    return frame


def _texts(days: np.ndarray) -> np.ndarray:
    """Return days since 1970 as ISO texts."""
    unique, code = np.unique(days, return_inverse=True)
    return np.datetime_as_string(unique.astype("datetime64[D]")).astype(object)[code]
