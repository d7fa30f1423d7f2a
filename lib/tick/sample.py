"""A made-up stock whose next move is partly known, and the best forecast of it.

The *efficient* log-price moves at the first trade after each border of a grid of steps, by `signal`
times the imbalance of the step before, and wanders on at every trade. Trades are printed half a
spread above it by buyers and below it by sellers. Everything that the best possible forecast needs
is in the data, so that a model can be told how much of the planted signal it has found.
"""

from collections.abc import Iterator
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl

LAST_DAY, N_DAYS = date(2025, 12, 19), 5
OPEN, SESSION_S, ZONE = time(9, 30), 23_400, ZoneInfo("America/New_York")
STEP_US = 5_000_000
ALPHA, BETA = 0.08, 0.90  # of the volatility's GARCH(1, 1), by step


def sample_ticks(
    day: date,
    *,
    n_ticks: int = 50_000,
    signal: float = 0.6,
    half_spread_bps: float = 0.3,
    seed: int = 0,
) -> pl.DataFrame:
    """Make up the trades of one session, 09:30 to 16:00 in New York.

    Waiting times are random and bursty, and shorter near the opening and the close. Sizes are
    log-normal, whole and positive. The share of buyers is drawn anew for every step, so that the
    imbalance of a step varies and the sides of one step say nothing about those of another. The
    noise of a step, five seconds, is normal, with the variance of a GARCH(1, 1) times a U over the
    day, 1 bps² on average, spread evenly over the step's trades.

    Parameters
    ----------
    day : date
        The session's day.
    n_ticks : int
        Trades of the session, at least 2.
    signal : float
        Move of the efficient price per unit of imbalance, bps. The imbalance of a step is the
        bought less the sold volume, over the whole volume, from -1 to 1.
    half_spread_bps : float
        Half the spread, bps: a buyer's price lies this much above the efficient price.
    seed : int
        Everything random; a day's trades depend on the seed and the day alone.

    Returns
    -------
    DataFrame of shape (n_ticks, 5)
        ``ts`` (Datetime, us, UTC), ``day`` (Date), ``price`` (Float64, not rounded), ``size``
        (Float64) and ``side`` (Int8: 1 a buyer took the offer, -1 a seller hit the bid).

    Notes
    -----
    With ``signal=0`` and ``half_spread_bps=0`` the log-price is a martingale.
    """
    rng = np.random.default_rng([seed, day.toordinal()])
    offset_us = _arrivals(n_ticks, rng)
    size = np.ceil(100 * rng.lognormal(0, 1, n_ticks))
    starts = np.flatnonzero(np.diff(offset_us // STEP_US, prepend=-1))
    length = np.diff(starts, append=n_ticks)
    buyers = np.repeat(rng.beta(1.5, 1.5, len(starts)), length)
    side = np.where(rng.random(n_ticks) < buyers, 1, -1)
    imbalance = np.add.reduceat(size * side, starts) / np.add.reduceat(size, starts)

    shock = rng.normal(size=n_ticks)
    u_shape = _activity(offset_us[starts] / (SESSION_S * 1e6)) ** 0.5
    scale = u_shape * _garch(np.add.reduceat(shock, starts) / np.sqrt(length))
    move_bps = shock * np.repeat(scale / np.sqrt(length), length)
    move_bps[starts[1:]] += signal * imbalance[:-1]
    log_price = np.log(100) + 0.01 * rng.normal() + 1e-4 * np.cumsum(move_bps)
    ts = np.datetime64(opening_us(day), "us") + offset_us
    return pl.DataFrame(
        {
            "ts": pl.Series(ts).dt.replace_time_zone("UTC"),
            "day": pl.repeat(day, n_ticks, dtype=pl.Date, eager=True),
            "price": np.exp(log_price + 1e-4 * half_spread_bps * side),
            "size": size,
            "side": side.astype(np.int8),
        }
    )


def opening_us(day: date) -> int:
    """Return when the session of a day opens, us since 1970 UTC."""
    return round(datetime.combine(day, OPEN, ZONE).timestamp()) * 1_000_000


def sample_dates(n_days: int) -> list[date]:
    """Return the `n_days` weekdays that end with Friday, 19 December 2025."""
    return np.busday_offset(LAST_DAY, np.arange(1 - n_days, 1)).tolist()


def sample_days(n_days: int = N_DAYS, *, seed: int = 0, **options: float) -> Iterator[pl.DataFrame]:
    """Make up the days of `sample_dates`, one by one, by `sample_ticks` and its options."""
    for day in sample_dates(n_days):
        yield sample_ticks(day, seed=seed, **options)


def best_forecast(bars: pd.DataFrame, *, signal: float, half_spread_bps: float) -> np.ndarray:
    """Return the best possible forecast of the sample's returns, given everything up to each bar.

    The efficient price will move by `signal` times the bar's imbalance, and the last trade's
    distance from it, half a spread to its own side, will not last. The imbalances and sides to
    come are independent of the past with mean zero, so the forecast is the same for every horizon.

    Parameters
    ----------
    bars : DataFrame of shape (n_bars, ...)
        Time bars of five seconds, with ``signed_volume``, ``volume`` and ``side``.
    signal, half_spread_bps : float
        What `sample_ticks` was given.

    Returns
    -------
    ndarray of shape (n_bars,), float64
        Conditional expectation of ``ln(close[t + k] / close[t])`` for any k, bps.
    """
    imbalance = bars["signed_volume"].to_numpy() / bars["volume"].to_numpy()
    return signal * imbalance - half_spread_bps * bars["side"].to_numpy()


def _activity(fraction: np.ndarray) -> np.ndarray:
    """Return the U over the day: 2.2 at the ends, 0.4 in the middle, 1 on average."""
    return 0.4 + 1.8 * (2 * fraction - 1) ** 2


def _arrivals(n_ticks: int, rng: np.random.Generator) -> np.ndarray:
    """Return when trades happen, microseconds since the opening, in order.

    Gamma waiting times of shape 0.5 come in bursts. They are in business time, which runs with
    the activity of the day; its inverse turns them into time by the clock.
    """
    waiting = rng.gamma(0.5, size=n_ticks + 1)
    business = np.cumsum(waiting[:-1]) / waiting.sum()
    fraction = np.linspace(0, 1, 2_000)
    passed = 0.4 * fraction + 0.3 * ((2 * fraction - 1) ** 3 + 1)  # the integral of the activity
    clock = np.interp(business, passed, fraction)
    return np.minimum(clock * SESSION_S * 1e6, SESSION_S * 1e6 - 1).astype(np.int64)


def _garch(shocks: np.ndarray) -> np.ndarray:
    """Return the standard deviation before each shock of a GARCH(1, 1) of variance one.

    T. Bollerslev, "Generalized autoregressive conditional heteroskedasticity", 1986.
    """
    variances, variance = [], 1.0
    for square in (shocks**2).tolist():
        variances.append(variance)
        variance = (1 - ALPHA - BETA) + (ALPHA * square + BETA) * variance
    return np.sqrt(variances)
