"""Whether a forecast of returns is skill or a leak, told by tests that know no instrument.

How far a price can be forecast says nothing by itself: where trades bounce between bid and ask, the
last returns tell much of the next one. So three questions are asked instead. What does a plain
autoregression on the last returns reach on the same bars? Does a forecast change when the bars
after it are taken away? And what is left of its skill when the bars of a day are put in random
order: an honest model then knows nothing, and one that sees the next bar loses nothing.
"""

from collections.abc import Callable, Mapping

from lib.tick.indicators import PRICES, forward_return
from lib.tick.learning import CUT
from lib.tick.metrics import rank_intervals

import numpy as np
import pandas as pd

N_LAGS = 12
LEVEL = 0.999  # of the interval that has to hold 0: an honest model is refused once in 2000 times
TOLERANCE = 1e-3  # deviations of the forecasts: a network rounds anew in another batch
MUCH = 0.5  # of what the model takes off the error

Forecaster = Callable[[pd.DataFrame], np.ndarray]
"""Takes bars of whole days, returns the expected return of each in bps, NaN where it has none."""


def autoregression(
    bars: pd.DataFrame, train: pd.Series, *, horizon: int, n_lags: int = N_LAGS
) -> pd.Series:
    """Forecast returns by a straight line through the last ones, fitted by least squares.

    It shares nothing with the models but the closes: what it finds is there to be found.

    Parameters
    ----------
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        Columns ``day`` and ``close``.
    train : pandas.Series of shape (n_bars,), bool
        Bars to fit it on; those beyond four deviations are cut, as for the models.
    horizon : int
        Bars ahead.
    n_lags : int, default 12
        Returns that it sees, of the same day; one that is missing counts as 0.

    Returns
    -------
    pandas.Series of shape (n_bars,), float64
        Expected returns in bps.
    """
    last = forward_return(bars, 1).groupby(bars["day"], sort=False).shift(1)
    lags = [last.groupby(bars["day"], sort=False).shift(k) for k in range(n_lags)]
    x = (pd.concat(lags, axis=1).fillna(0.0) / (last[train].std() or 1.0)).clip(-CUT, CUT)
    target = forward_return(bars, horizon)
    unit = target[train].std() or 1.0
    known = train & target.notna()
    y = (target[known] / unit).clip(-CUT, CUT)
    found = np.linalg.lstsq(x[known].to_numpy(), y.to_numpy(), rcond=None)[0]
    return pd.Series(unit * (x.to_numpy() @ found), bars.index)


def begun_days(bars: pd.DataFrame, *, seed: int = 0) -> np.ndarray:
    """Mark the bars of every day up to one of its second half that is drawn at random."""
    rng = np.random.default_rng(seed)
    sizes = bars.groupby("day", sort=False).size()
    kept = pd.Series([int(rng.integers(n - n // 2, n + 1 - (n > 1))) for n in sizes], sizes.index)
    return (bars.groupby("day", sort=False).cumcount() < bars["day"].map(kept)).to_numpy()


def shuffled_days(bars: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return days whose bars come in random order, so that none says anything of the next.

    Each bar keeps what it is: its return, its prices beside its close, its volume. Closes are
    added up anew from the first, which stays; so does the time of each row.
    """
    rng, days = np.random.default_rng(seed), []
    for _, day in bars.groupby("day", sort=False):
        order = np.concatenate([[0], 1 + rng.permutation(len(day) - 1)])
        steps = np.diff(np.log(day["close"].to_numpy()), prepend=np.log(day["close"].iloc[0]))
        moved = day.iloc[order].set_axis(day.index)
        factor = day["close"].iloc[0] * np.exp(np.cumsum(steps[order])) / moved["close"]
        prices = [name for name in (*PRICES, "spread") if name in moved]
        days.append(moved.assign(**moved[prices].mul(factor, axis=0)))
    return pd.concat(days)


def examine(
    forecast: Forecaster,
    bars: pd.DataFrame,
    *,
    horizon: int,
    block_length: int,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Return what a model says once the future is taken away, and once the past says nothing.

    Parameters
    ----------
    forecast : callable
        See `Forecaster`.
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        Whole days that it has not learned from.
    horizon : int
        Bars ahead of its forecasts.
    block_length, n_resamples, seed
        As in `lib.tick.metrics.rank_intervals`.

    Returns
    -------
    dict of str to float
        ``n_compared``, forecasts that were made once more without the bars after them, and
        ``most_moved``, by how much one of them has changed at most, in deviations of the forecasts
        (infinite where one is missing now). ``shuffled_rank_ic`` with its ends ``_low`` and
        ``_high``: the rank IC on `shuffled_days`.

    Raises
    ------
    ValueError
        If the model has no forecast for a bar of the shuffled days that has a target.
    """
    begun = begun_days(bars, seed=seed)
    whole = np.asarray(forecast(bars))
    before, now = whole[begun], np.asarray(forecast(bars[begun]))
    is_made = np.isfinite(before)
    moved = np.where(np.isfinite(now), np.abs(now - before), np.inf)[is_made]
    mixed = shuffled_days(bars, seed=seed)
    rows = pd.DataFrame({"truth": forward_return(mixed, horizon), "day": mixed["day"]})
    rows = rows.assign(forecast=forecast(mixed)).dropna()
    if rows.empty:
        raise ValueError(f"none of the {len(bars)} bars has both a forecast and a target")
    length = min(block_length, int(rows.groupby("day").size().min()))
    draws = {"block_length": length, "n_resamples": n_resamples, "seed": seed, "level": LEVEL}
    mean = rank_intervals(rows["truth"], rows["forecast"], rows["day"], **draws)["mean"]
    return {
        "n_compared": float(is_made.sum()),
        "most_moved": float(moved.max(initial=0.0) / (np.nanstd(whole) or 1.0)),
        **{f"shuffled_{k}": v for k, v in mean.items() if k.startswith("rank_ic")},
    }


def leak(found: Mapping[str, float]) -> str:
    """Return which test of `examine` has told a leak, with its numbers; "" if none has."""
    if not found["most_moved"] <= TOLERANCE:
        return (
            "a leak: a forecast changes when the bars after it are taken away, by "
            f"{found['most_moved']:.3g} deviations of all forecasts. Some feature of the model "
            "looks ahead"
        )
    if found["shuffled_rank_ic_low"] > 0:
        return (
            "a leak: with the bars of each day in random order, where nothing can be known, the "
            f"rank IC is still {found['shuffled_rank_ic']:.3f} ({_ends(found)}). The forecasts "
            "know the bar that comes"
        )
    return ""


def words(found: Mapping[str, float], model: float, plain: float, *, n_lags: int = N_LAGS) -> str:
    """Return in words what the three tests say.

    Parameters
    ----------
    found : mapping of str to float
        From `examine`.
    model, plain : float
        MSE over that of persistence, of the model and of `autoregression`.
    n_lags : int, default 12
        Of the autoregression.
    """
    gain, simple = 100 * (1 - model), 100 * (1 - plain)
    if gain <= 0:
        where = "there is no skill that could be a leak"
    elif simple >= MUCH * gain:
        where = "most of it is in the returns themselves, where everybody can see it"
    else:
        where = "the rest is in what the other features and the model add"
    return (
        f"The model takes {gain:.1f} % off the squared error of persistence, an autoregression on "
        f"the last {n_lags} returns {simple:.1f} %: {where}. Of {found['n_compared']:,.0f} "
        "forecasts made again without the bars after them, none moved by more than "
        f"{found['most_moved']:.1g} deviations. With the bars of each day in random order its rank "
        f"IC is {found['shuffled_rank_ic']:.3f} ({_ends(found)}); that of a model that knows the "
        "future would stay as it is"
    )


def _ends(found: Mapping[str, float]) -> str:
    return f"{found['shuffled_rank_ic_low']:.3f} to {found['shuffled_rank_ic_high']:.3f}"
