"""Numbers that judge forecasts of returns: errors, ranks, and what trading on them would earn.

As in `lib.metrics`; returns are log-returns in basis points (bps, 1e-4).
"""

from collections.abc import Mapping, Sequence

from lib.metrics import (
    block_bootstrap,
    finite_pair,
    interval_ends,
    rank_contributions,
    rank_ic,
    regression_metrics,
)

import numpy as np
import pandas as pd

BPS = 1e-4
SMALL = 1e-12  # below any share of rows, above the rounding of a resample's mean


def return_metrics(y_true: np.ndarray, y_pred: np.ndarray, close: np.ndarray) -> dict[str, float]:
    """Return the errors of forecast returns, of the prices they stand for, and their ratios.

    The price forecast is ``close * exp(forecast * 1e-4)``. Persistence forecasts that the price
    stays as it is, a return of 0. Where prices are nearly a martingale it is nearly the best there
    is; `lib.tick.leaks` tells whether what is far below 1 is skill.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Log-returns that came and that were forecast, in bps, finite.
    close : array of shape (n,), float
        Price at the moment of each forecast, above 0.

    Returns
    -------
    dict of str to float
        ``mae`` and ``rmse`` in bps, ``mse`` in its square; ``price_mae`` and ``price_rmse`` in the
        unit of the price, ``price_mse`` in its square; and each ``<name>_vs_persistence``, the
        ratio to that of persistence.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or no price ever changes.
    """
    y_true, y_pred = finite_pair(y_true, y_pred)
    if not y_true.any():
        raise ValueError("no price changes: persistence makes no error to compare with")
    price = close * np.exp(y_true * BPS)
    found = {}
    for prefix, truth, forecast, last in (
        ("", y_true, y_pred, np.zeros_like(y_true)),
        ("price_", price, close * np.exp(y_pred * BPS), close),
    ):
        errors, persistence = (regression_metrics(truth, other) for other in (forecast, last))
        for name in ("mae", "mse", "rmse"):
            found[f"{prefix}{name}"] = errors[name]
            found[f"{prefix}{name}_vs_persistence"] = errors[name] / persistence[name]
    return found


def hit_rate(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return the share of right signs, of the rows where neither truth nor forecast is zero.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast, finite.

    Returns
    -------
    float
        Fraction; 0.5, what guessing gives, if there is no such row.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a value is not finite.
    """
    y_true, y_pred = finite_pair(y_true, y_pred)
    signs = np.sign(y_true) * np.sign(y_pred)
    return float(np.mean(signs[signs != 0] > 0)) if signs.any() else 0.5


def rank_intervals(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    days: Sequence[str] | np.ndarray | pd.Series,
    *,
    block_length: int,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Return `rank_ic` and `hit_rate` with percentile intervals, by day and for their mean.

    Rows are resampled in blocks within each day, with ranks as they are in the whole day. The
    interval of the mean takes the days as they are: it says how well their mean is known, not what
    other days would bring.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast, finite, in order of time.
    days : array of shape (n,), str
        Day of each row.
    block_length : int
        Rows per block, at most the rows of the shortest day; see `block_bootstrap`. At least the
        horizon, or targets that overlap make the intervals too narrow.
    n_resamples : int, default 1000
        How many resamples to draw.
    level : float, default 0.95
        Fraction of the resamples inside the interval.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    dict of str to dict of str to float
        For each day, in order, and for ``"mean"``, the plain mean over the days: ``rank_ic``,
        ``rank_ic_low``, ``rank_ic_high``, ``hit_rate``, ``hit_rate_low``, ``hit_rate_high``.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or an option is out of its range.
    """
    ends = interval_ends(level)
    y_true, y_pred = finite_pair(y_true, y_pred)
    days = np.asarray(days, dtype=object)
    found, draws = {}, {}
    for k, day in enumerate(pd.unique(days)):
        truth, forecast = y_true[days == day], y_pred[days == day]
        signs = np.sign(truth) * np.sign(forecast)
        products = rank_contributions(truth, forecast)
        means = block_bootstrap(
            np.column_stack([products, signs > 0, signs != 0]),
            block_length=block_length,
            n_resamples=n_resamples,
            seed=seed + k,
        )
        share = np.full(n_resamples, 0.5)
        np.divide(means[:, 1], means[:, 2], out=share, where=means[:, 2] > SMALL)
        found[day] = {"rank_ic": rank_ic(truth, forecast), "hit_rate": hit_rate(truth, forecast)}
        draws[day] = {"rank_ic": means[:, 0], "hit_rate": share}
    for table in (found, draws):
        table["mean"] = {
            name: sum(day[name] for day in table.values()) / len(table)
            for name in ("rank_ic", "hit_rate")
        }
    intervals = {}
    for day, values in found.items():
        intervals[day] = {}
        for name, value in values.items():
            low, high = np.quantile(draws[day][name], ends).tolist()
            intervals[day] |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return intervals


def cost_read_out(
    y_true: np.ndarray, y_pred: np.ndarray, *, costs_bps: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return what a trade on the forecast's sign earns, before and after costs.

    Every row with a forecast other than zero is one trade: in at the bar's close, in the direction
    of the forecast, out at the horizon. Closes are prints, some at the bid and some at the ask: the
    gross figure holds the bounce between them, which can be forecast and not earned.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Log-returns that came and that were forecast, in bps, finite.
    costs_bps : mapping of str to float
        Cost of a round trip in bps, by what it is.

    Returns
    -------
    dict of str to dict of str to float
        For ``"all"`` trades and the ``"top tenth"``, the tenth of the trades with the largest
        forecasts: ``n_trades``; ``break_even_bps``, the mean gross return of a trade, which is the
        cost of a round trip that would eat it; and ``net_bps_<cost>`` for each cost. Without any
        trade all are 0.

    Raises
    ------
    ValueError
        If lengths differ or a value is not finite.
    """
    y_true, y_pred = finite_pair(y_true, y_pred)
    trades = np.flatnonzero(y_pred)
    largest = np.argsort(-np.abs(y_pred[trades]), kind="stable")
    tenth = trades[largest[: -(-len(trades) // 10)]]
    found = {}
    for name, rows in (("all", trades), ("top tenth", tenth)):
        gross = float(np.mean(np.sign(y_pred[rows]) * y_true[rows])) if len(rows) else 0.0
        net = {f"net_bps_{k}": gross - cost if len(rows) else 0.0 for k, cost in costs_bps.items()}
        found[name] = {"n_trades": float(len(rows)), "break_even_bps": gross, **net}
    return found


def roll_spread(returns: np.ndarray) -> float:
    """Return the effective spread that the bounce between bid and ask leaves in the returns.

    Source: R. Roll, "A simple implicit measure of the effective bid-ask spread in an efficient
    market", Journal of Finance 39 (1984): trades that fall on bid and ask at random give successive
    price changes the covariance -(spread / 2)^2.

    Parameters
    ----------
    returns : array of shape (n,), float
        Successive returns, which do not overlap, in order of time; NaN is missing, such as the
        first of a day.

    Returns
    -------
    float
        In the unit of the returns. 0 if the covariance is not negative, when there is no bounce to
        be seen.
    """
    returns = np.asarray(returns, dtype=np.float64)
    pairs = np.column_stack([returns[:-1], returns[1:]])
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    covariance = float(np.mean(np.prod(pairs - pairs.mean(axis=0), axis=1)))
    return 2 * max(-covariance, 0.0) ** 0.5
