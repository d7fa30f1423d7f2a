"""Technical indicators and the features of bars: row *t* uses bars of its own day up to *t* only.

Nothing of one day enters another, so no window can cross a day. TA-Lib computes the indicators: it
is C, its definitions are the ones that traders mean (Wilder's RSI, averages that start from a
simple mean), and it is well kept. Prices enter as logarithms in basis points above the day's first
close: that frees the features of the level of prices, and no sum of squares cancels.

The module travels inside registered models, so it needs `lib.splits`, numpy, pandas
and TA-Lib only.
"""

from inspect import unwrap
from itertools import pairwise
from typing import TypedDict

from lib.splits import day_starts

import numpy as np
import pandas as pd
import talib

# TA-Lib's functions of arrays, without the layer that takes frames, which is slow on short days
SMA, EMA, STDDEV = unwrap(talib.SMA), unwrap(talib.EMA), unwrap(talib.STDDEV)
BBANDS, RSI, MACD = unwrap(talib.BBANDS), unwrap(talib.RSI), unwrap(talib.MACD)

BAR_COLUMNS = (
    *("day", "open", "high", "low", "close", "volume"),
    *("count", "signed_volume", "vwap", "side", "tail", "mean"),
)
NUMBERS = (*BAR_COLUMNS[1:], "spread")
PRICES = ("open", "high", "low", "close", "vwap", "tail", "mean")
AMOUNTS = ("volume", "count", "spread")
TINY, HUGE = float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max)
RULES = (
    (PRICES, TINY, HUGE, "finite and above 0"),
    (AMOUNTS, 0.0, HUGE, "finite and 0 or more"),
    (("signed_volume",), -HUGE, HUGE, "finite"),
    (("side",), -1.0, 1.0, "from -1 to 1"),
)
BASIS_POINTS = 1e4
SESSION_S = 23_400.0
BAND_DEVIATIONS = 2.0


class FeatureOptions(TypedDict):
    """The options of `bar_features`, as they are kept beside a model; all counts are bars."""

    windows: list[int]
    lags: list[int]
    rsi_window: int
    bollinger_window: int
    macd: list[int]


def check_bars(bars: pd.DataFrame) -> None:
    """Refuse bars that features cannot be made of.

    Parameters
    ----------
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        As `lib.tick.bars.to_bars` returns them; the column ``spread`` may be missing, further ones
        are ignored.

    Raises
    ------
    ValueError
        If there is no row, a column is missing, the index is not in order, a day comes back after
        another, a value is not a finite number, a price is not above 0,
        ``volume``, ``count`` or ``spread`` is negative, ``side`` is outside of -1 to 1, ``high`` is
        below ``low``, or ``open`` or ``close`` is not between them; the message names row, column
        and value.
    """
    missing = [name for name in BAR_COLUMNS if name not in bars.columns]
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing; there are {list(bars.columns)}")
    if bars.empty:
        raise ValueError("there is no bar: give at least one row")
    index = bars.index
    late = np.flatnonzero(np.diff(index.asi8) < 0)
    if late.size:
        row = int(late[0]) + 1
        raise ValueError(
            f"row {row} at {index[row]} comes after {index[row - 1]}: sort the bars by time"
        )
    day_starts(bars["day"])
    for names, least, most, rule in RULES:
        for name in names:
            if name in bars.columns:
                values = _numbers(bars, name)
                _require(bars, name, (least <= values) & (values <= most), rule)
    low, high = _numbers(bars, "low"), _numbers(bars, "high")
    _require(bars, "high", low <= high, "at least low")
    for name in ("open", "close"):
        values = _numbers(bars, name)
        _require(bars, name, (low <= values) & (values <= high), "from low to high")


def bollinger(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where values lie in their Bollinger bands, and how wide the bands are.

    Parameters
    ----------
    values : numpy.ndarray of shape (n,), float64
        Values of one day.
    window : int
        Rows, at least 2.

    Returns
    -------
    position : numpy.ndarray of shape (n,), float64
        Bollinger's %b: 0 on the lower band, 1 on the upper; 0.5 where the bands have no width.
    width : numpy.ndarray of shape (n,), float64
        Upper less lower band in the unit of `values`; for log prices it is what Bollinger's
        bandwidth, which divides by the middle band, is for prices. Both are NaN until the window
        is full.

    Notes
    -----
    The bands lie two population standard deviations around the simple mean: J. Bollinger,
    "Bollinger on Bollinger Bands", 2001.
    """
    upper, _, lower = BBANDS(values, window, BAND_DEVIATIONS, BAND_DEVIATIONS)
    width = upper - lower
    position = (values - lower) / (width + TINY)
    position[width == 0] = 0.5
    return position, width


def rsi(values: np.ndarray, window: int) -> np.ndarray:
    """Return Wilder's relative strength index, from 0 to 100.

    Parameters
    ----------
    values : numpy.ndarray of shape (n,), float64
        Values of one day.
    window : int
        Changes, at least 2.

    Returns
    -------
    numpy.ndarray of shape (n,), float64
        NaN in the first `window` rows; 50 as long as the values have not changed.

    Notes
    -----
    J. W. Wilder, "New Concepts in Technical Trading Systems", 1978: 100 x up / (up + down), where
    up and down are the mean rise and fall, which start from the simple mean of the first `window`
    changes and then give each change a weight of 1 / `window`.
    """
    found = RSI(values, window)
    found[(found == 0) & (values == values[0])] = 50.0  # no rise yet, and no fall
    return found


def bar_features(bars: pd.DataFrame, options: FeatureOptions) -> pd.DataFrame:
    """Return the features of bars, one row per bar, free of the level of prices.

    Parameters
    ----------
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        See `check_bars`. Each day must be there from its first bar: exponential means, RSI and MACD
        reach back to it, and time of day counts from it.
    options : FeatureOptions
        Windows, lags and the windows of the single indicators, in bars.

    Returns
    -------
    pandas.DataFrame of shape (n_bars, n_features), float64
        Index as `bars`, NaN where a day's history is too short. Returns
        and distances are logarithms in basis points (1e-4).

        ==============================  ==========================================================
        ``return_lag_<k>``              return of the bar k bars ago
        ``close_to_<price>``            close over the bar's vwap, mean, tail, or middle of high
                                        and low
        ``side``                        side of the last tick
        ``imbalance``                   signed volume over volume, -1 to 1
        ``range_bps``                   high over low
        ``log_volume``, ``log_count``   logarithm of 1 + volume, 1 + ticks
        ``close_mean_<w>``              close over its mean of w bars
        ``vwap_mean_<w>``               close over the mean of vwap of w bars
        ``close_ema_<w>``               close over its exponential mean
        ``volatility_<w>``              standard deviation of w returns
        ``imbalance_<w>``               imbalance of w bars
        ``bollinger_<part>``            position (%b, a fraction) and width (bps)
        ``rsi``                         0 to 100
        ``macd``, ``macd_<part>``       line, signal and histogram (bps)
        ``time_of_day``                 time since the day's first bar, in sessions of 6.5 h
        ``spread_bps``                  spread over close, if the bars have a spread
        ==============================  ==========================================================

    Raises
    ------
    ValueError
        If `check_bars` refuses the bars or an option is out of its range.
    """
    check_bars(bars)
    _require_options(options)
    columns = {name: _numbers(bars, name) for name in bars.columns if name in NUMBERS}
    columns["seconds"] = bars.index.as_unit("us").asi8 / 1e6
    found: list[dict[str, np.ndarray]] = []
    for begin, end in pairwise([*day_starts(bars["day"])[0].tolist(), len(bars)]):
        day = {name: values[begin:end] for name, values in columns.items()}
        found.append(_features_of_day(day, options))
    values = np.concatenate([np.array(list(day.values())) for day in found], axis=1)
    return pd.DataFrame(values.T, bars.index, list(found[0]), copy=False)


def reaches(options: FeatureOptions) -> dict[str, int]:
    """Return how many rows at the begin of a day each option leaves without its features."""
    _, slow, signal = options["macd"]
    return {
        "windows": max(options["windows"], default=0),
        "lags": max(options["lags"], default=-1) + 1,
        "rsi_window": options["rsi_window"],
        "bollinger_window": options["bollinger_window"] - 1,
        "macd": slow + signal - 2,
    }


def warm_up(options: FeatureOptions) -> int:
    """Return how many rows at the begin of a day lack at least one feature."""
    return max(reaches(options).values())


def forward_return(bars: pd.DataFrame, horizon: int) -> pd.Series:
    """Return the target: the log return of the next `horizon` bars of the day, in basis points.

    Parameters
    ----------
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        Columns ``day`` and ``close``; the rows of a day stand together.
    horizon : int
        Bars ahead, at least 1.

    Returns
    -------
    pandas.Series of shape (n_bars,), float64
        ``forward_return_<horizon>_bps``; NaN in the last `horizon` rows of every day.
    """
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}: a return to come takes a bar or more")
    later = bars["close"].groupby(bars["day"], sort=False).shift(-horizon)
    return _bps(later, bars["close"]).rename(f"forward_return_{horizon}_bps")


def _features_of_day(bars: dict[str, np.ndarray], options: FeatureOptions) -> dict[str, np.ndarray]:
    """Return the features of the bars of one day, by name."""
    close, vwap = (_bps(bars[name], bars["close"][0]) for name in ("close", "vwap"))
    returns = np.diff(close, prepend=np.nan)
    totals = [np.cumsum(bars[name]) for name in ("signed_volume", "volume")]
    found = {f"return_lag_{lag}": _lagged(returns, lag) for lag in options["lags"]}
    found |= {
        "close_to_vwap": close - vwap,
        "close_to_mean": _bps(bars["close"], bars["mean"]),
        "close_to_tail": _bps(bars["close"], bars["tail"]),
        "close_to_middle": _bps(bars["close"], (bars["high"] + bars["low"]) / 2),
        "side": bars["side"],
        "imbalance": _share(bars["signed_volume"], bars["volume"]),
        "range_bps": _bps(bars["high"], bars["low"]),
        "log_volume": np.log1p(bars["volume"]),
        "log_count": np.log1p(bars["count"]),
    }
    for window in options["windows"]:
        found[f"close_mean_{window}"] = close - SMA(close, window)
        found[f"vwap_mean_{window}"] = close - SMA(vwap, window)
        found[f"close_ema_{window}"] = close - EMA(close, window)
        found[f"volatility_{window}"] = STDDEV(returns, window)
        found[f"imbalance_{window}"] = _share(*(_window_sum(total, window) for total in totals))
    names = ("bollinger_position", "bollinger_width")
    found |= dict(zip(names, bollinger(close, options["bollinger_window"]), strict=True))
    found["rsi"] = rsi(close, options["rsi_window"])
    names = ("macd", "macd_signal", "macd_histogram")
    found |= dict(zip(names, MACD(close, *options["macd"]), strict=True))
    found["time_of_day"] = (bars["seconds"] - bars["seconds"][0]) / SESSION_S
    if "spread" in bars:
        found["spread_bps"] = bars["spread"] / bars["close"] * BASIS_POINTS
    return found


def _numbers(bars: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64."""
    return bars[name].to_numpy(dtype=np.float64)


def _bps(
    above: np.ndarray | pd.Series, below: np.ndarray | pd.Series | float
) -> np.ndarray | pd.Series:
    """Return the logarithm of a ratio in basis points."""
    return np.log(above / below) * BASIS_POINTS


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    """Return the values `lag` rows before, NaN where there are none."""
    return np.concatenate([np.full(lag, np.nan), values])[: len(values)]


def _window_sum(totals: np.ndarray, window: int) -> np.ndarray:
    """Return the sums of the last `window` values from their running totals.

    Other than in a moving sum, a window of zeros gives 0 whatever came before.
    """
    before = _lagged(totals, window)
    before[window - 1 : window] = 0.0
    return totals - before


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return a part over the whole, within -1 to 1; 0 where there is nothing."""
    share = part / (whole + TINY)
    return np.clip(share, -1.0, 1.0, out=share)


def _require_options(options: FeatureOptions) -> None:
    """Refuse options that make no columns, or the same column twice."""
    for name in ("windows", "lags"):
        if len(set(options[name])) < len(options[name]):
            raise ValueError(f"{name} has a number twice: {options[name]}")
    if len(options["macd"]) != 3 or options["macd"][0] >= options["macd"][1]:
        raise ValueError(
            f"macd is {options['macd']}: give a fast, a slow (longer) and a signal window"
        )


def _require(bars: pd.DataFrame, name: str, right: np.ndarray, rule: str) -> None:
    """Refuse bars of which a value breaks a rule, and say in which row."""
    if right.all():
        return
    row = int(np.argmin(right))
    raise ValueError(
        f"row {row} at {bars.index[row]}: {name} is {bars[name].iloc[row]}, it must be {rule}"
    )
