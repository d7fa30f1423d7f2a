"""Numbers that judge a forecast, intervals around them, and the baselines to beat.

Metrics take truth and forecast as arrays of equal length without missing values and return plain
floats; nothing here plots or writes. Whether larger is better is stated in `lib.floors`.
Returns are log-returns in basis points (bps, 1e-4).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lib.floors import GREATER_IS_BETTER as GREATER_IS_BETTER

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

BPS = 1e-4
AT_ONCE = 4_000_000  # numbers that a bootstrap holds: 32 MB
SMALL = 1e-12  # below any share of rows, above the rounding of a resample's mean


def regression_metrics(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return the errors of a forecast.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast in the same unit, finite, in the same order.

    Returns
    -------
    dict of str to float
        ``mae`` and ``rmse`` in the unit of the truth, ``mse`` in its square, all at best 0; ``r2``,
        at best 1, is the fraction of the variance explained, 0 for forecasting the mean and
        0 where the truth does not vary, unless it is met exactly.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a value is not finite.
    """
    y_true, y_pred = _finite_pair(y_true, y_pred)
    error = y_pred - y_true
    mse = float(np.mean(error * error))
    spread = float(np.mean((y_true - y_true.mean()) ** 2))
    r2 = 1 - mse / spread if spread > 0 else float(mse == 0)
    return {"mae": float(np.mean(np.abs(error))), "mse": mse, "rmse": mse**0.5, "r2": r2}


def skill(y_true: np.ndarray, y_pred: np.ndarray, y_baseline: np.ndarray) -> float:
    """Return 1 - MSE(forecast) / MSE(baseline): 1 is perfect, 0 no better than the baseline.

    Source: A. H. Murphy, "Skill scores based on the mean square error and their relationships to
    the correlation coefficient", Monthly Weather Review 116 (1988).

    Parameters
    ----------
    y_true, y_pred, y_baseline : array of shape (n,), float
        Truth and two forecasts, finite.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or the baseline makes no error.
    """
    baseline = regression_metrics(y_true, y_baseline)["mse"]
    if baseline == 0:
        raise ValueError("the baseline makes no error: skill against it is not defined")
    return 1 - regression_metrics(y_true, y_pred)["mse"] / baseline


def block_bootstrap(
    rows: np.ndarray, *, block_length: int, n_resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return the column means of resamples drawn in circular blocks of consecutive rows.

    Rows near in time are alike, so single rows drawn at random would make intervals too narrow;
    blocks keep neighbours together (H. R. Künsch, Annals of Statistics 17, 1989). The last row is
    followed by the first, so that every row is drawn equally often (D. N. Politis and J. P. Romano,
    "A circular block-resampling procedure for stationary data", 1992).

    Parameters
    ----------
    rows : array of shape (n_rows, n_columns), float
        Per-row quantities, such as squared errors, in order of time.
    block_length : int
        Rows per block, from 1 to `n_rows`; the last block of a resample is cut to make `n_rows`.
    n_resamples : int, default 1000
        How many resamples to draw.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_resamples, n_columns), float64

    Raises
    ------
    ValueError
        If `rows` is not two-dimensional and finite, or `block_length` out of range.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"rows of shape {rows.shape} must be finite with two dimensions")
    n_rows = len(rows)
    if not 1 <= block_length <= n_rows:
        raise ValueError(f"block_length={block_length} must be from 1 to the {n_rows} rows")
    n_whole, rest = divmod(n_rows, block_length)
    rng = np.random.default_rng(seed)
    n_drawn = n_whole + (rest > 0)
    centre = rows.mean(axis=0)
    circle = np.concatenate([rows, rows[:block_length]]) - centre
    total = np.concatenate([np.zeros((1, rows.shape[1])), circle.cumsum(axis=0)])
    whole = total[block_length : block_length + n_rows] - total[:n_rows]
    cut = total[rest : rest + n_rows] - total[:n_rows]
    sums = np.empty((n_resamples, rows.shape[1]))
    at_once = max(1, AT_ONCE // (n_drawn * rows.shape[1]))
    for first in range(0, n_resamples, at_once):  # the numbers drawn do not depend on the parts
        part = sums[first : first + at_once]
        starts = rng.integers(n_rows, size=(len(part), n_drawn))
        part[:] = whole[starts[:, :n_whole]].sum(axis=1)
        if rest:
            part += cut[starts[:, n_whole]]
    return centre + sums / n_rows


def interval_ends(level: float) -> tuple[float, float]:
    """Return the quantiles between which the fraction `level` of all draws lies.

    Raises
    ------
    ValueError
        If `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1")
    return (1 - level) / 2, (1 + level) / 2


def bootstrap_intervals(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    block_length: int,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the metrics, and of the ratios to baselines.

    Model and baselines are judged on the same resampled rows, so an interval of a ratio that stays
    below 1 says that the model is better.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast, finite, in order of time.
    baselines : mapping of str to array of shape (n,), float
        Other forecasts of the same truth, by name.
    block_length : int
        Rows per block; see `block_bootstrap`.
    n_resamples : int, default 1000
        How many resamples to draw.
    level : float, default 0.95
        Fraction of the resamples inside the interval.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    dict of str to (float, float)
        Lower and upper end by metric: ``mae``, ``mse``, ``rmse``, ``r2`` and, for each baseline,
        ``rmse_vs_<baseline>`` and ``mae_vs_<baseline>``.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or an option is out of range.
    """
    ends = interval_ends(level)
    y_true, y_pred = _finite_pair(y_true, y_pred)
    centred = y_true - y_true.mean()
    columns = [centred, centred**2]
    for forecast in (y_pred, *baselines.values()):
        error = _finite_pair(y_true, forecast)[1] - y_true
        columns += [np.abs(error), error**2]
    means = block_bootstrap(
        np.column_stack(columns), block_length=block_length, n_resamples=n_resamples, seed=seed
    ).T
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = {
            "mae": means[2],
            "mse": means[3],
            "rmse": np.sqrt(means[3]),
            "r2": 1 - means[3] / (means[1] - means[0] ** 2),
        }
        for k, name in enumerate(baselines, start=2):
            draws[f"rmse_vs_{name}"] = np.sqrt(means[3] / means[2 * k + 1])
            draws[f"mae_vs_{name}"] = means[2] / means[2 * k]
    return {name: tuple(np.quantile(draw, ends).tolist()) for name, draw in draws.items()}


def naive_forecast(series: pd.Series, *, horizon: int, period: int = 1) -> pd.Series:
    """Return, at row *t*, the newest known value a whole number of periods before the target.

    The target is row *t* + `horizon`; the value is that of row *t* + `horizon` - k `period` with
    the smallest k that reaches a row up to *t*. With a period of one row this is persistence, the
    value at *t*; with a day it is the same time yesterday, or, where that lies beyond *t*, on the
    last day before.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid.
    horizon : int
        Rows from *t* to the target, at least 1.
    period : int, default 1
        Rows of one period, at least 1.

    Returns
    -------
    pandas.Series of shape (n,)
        NaN where the value is missing.

    Raises
    ------
    ValueError
        If `horizon` or `period` is below 1.
    """
    if horizon < 1 or period < 1:
        raise ValueError(f"horizon={horizon} and period={period} must be at least 1")
    n_periods = -(-horizon // period)
    return series.shift(n_periods * period - horizon)


def fit_ridge(x: pd.DataFrame, y: np.ndarray, *, alpha: float = 10.0) -> "Pipeline":
    """Fit a linear baseline: medians for gaps, columns to unit variance, ridge regression.

    Everything is learned from the rows given: give training rows only.

    Parameters
    ----------
    x : pandas.DataFrame of shape (n, n_features)
        Features; NaN is missing.
    y : array of shape (n,), float
        Targets, finite.
    alpha : float, default 10
        Strength of the penalty on the squared weights of the scaled columns.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Fitted; ``predict`` takes a frame with the same columns.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(impute, StandardScaler(), Ridge(alpha=alpha)).fit(x, y)


def return_metrics(y_true: np.ndarray, y_pred: np.ndarray, close: np.ndarray) -> dict[str, float]:
    """Return the errors of forecast returns, of the prices they stand for, and their ratios.

    The price forecast is ``close * exp(forecast * 1e-4)``. Persistence forecasts that the price
    stays as it is, a return of 0. Where prices are nearly a martingale it is nearly the best there
    is: a ``price_rmse_vs_persistence`` far below 1 is the sign of a leak before it is one of skill.

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
        If lengths differ, a value is not finite, a price is not above 0, or no price ever changes.
    """
    y_true, y_pred = _finite_pair(y_true, y_pred)
    close = np.asarray(close, dtype=np.float64)
    if close.shape != y_true.shape:
        raise ValueError(f"close has shape {close.shape}, y_true {y_true.shape}: give as many")
    wrong = np.flatnonzero(~(np.isfinite(close) & (close > 0)))
    if wrong.size:
        raise ValueError(f"close is {close[wrong[0]]} at row {wrong[0]}: prices are above 0")
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


def rank_ic(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return the rank information coefficient: Spearman's correlation of forecast and truth.

    Equal values share the mean of their ranks. A forecast that is the same for every row orders
    nothing, so it scores 0, as one that orders at random does on average; so does any forecast of a
    truth that does not vary.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast, finite; units do not matter.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a value is not finite.
    """
    return float(np.mean(rank_contributions(y_true, y_pred)))


def rank_contributions(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Return what each row adds to `rank_ic`, which is their mean.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast, finite; units do not matter.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a value is not finite.
    """
    y_true, y_pred = _finite_pair(y_true, y_pred)
    return _standard_ranks(y_true) * _standard_ranks(y_pred)


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
    y_true, y_pred = _finite_pair(y_true, y_pred)
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
    y_true, y_pred = _finite_pair(y_true, y_pred)
    days = np.asarray(days, dtype=object)
    if days.shape != y_true.shape:
        raise ValueError(f"days has shape {days.shape}, y_true {y_true.shape}: give as many")
    found, draws = {}, {}
    for k, day in enumerate(pd.unique(days)):
        truth, forecast = y_true[days == day], y_pred[days == day]
        if not 1 <= block_length <= len(truth):
            raise ValueError(
                f"block_length={block_length} must be from 1 to the {len(truth)} rows of {day}"
            )
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
        If lengths differ, a value is not finite, or a cost is negative or not finite.
    """
    y_true, y_pred = _finite_pair(y_true, y_pred)
    for name, cost in costs_bps.items():
        if not 0 <= cost < np.inf:
            raise ValueError(f"the cost {name!r} is {cost}: give bps of a round trip, 0 or more")
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

    Raises
    ------
    ValueError
        If there are fewer than two pairs of successive returns.
    """
    returns = np.asarray(returns, dtype=np.float64)
    pairs = np.column_stack([returns[:-1], returns[1:]])
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} pair(s) of successive returns: two are needed at least")
    covariance = float(np.mean(np.prod(pairs - pairs.mean(axis=0), axis=1)))
    return 2 * max(-covariance, 0.0) ** 0.5


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Return average ranks with mean 0 and mean square 1; all 0 if the values do not vary."""
    from scipy.stats import rankdata

    ranks = rankdata(values) - (len(values) + 1) / 2
    spread = float(np.mean(ranks * ranks)) ** 0.5
    return ranks / spread if spread > 0 else ranks


def _finite_pair(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pair = []
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} has shape {values.shape}: give one row or more, one column")
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise ValueError(
                f"{name} is {values[wrong[0]]} at row {wrong[0]}: leave out rows without a value"
            )
        pair.append(values)
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"y_true has {len(pair[0])} rows, y_pred {len(pair[1])}: give as many")
    return pair[0], pair[1]
