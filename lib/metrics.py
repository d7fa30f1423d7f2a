"""Numbers that judge a forecast, intervals around them, and the baselines to beat.

Metrics take truth and forecast as arrays of equal length without missing values and return plain
floats; nothing here plots or writes. Whether larger is better is stated in `lib.ground.directions`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lib.ground.directions import GREATER_IS_BETTER, unit_of

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

AT_ONCE = 4_000_000  # numbers that a bootstrap holds: 32 MB
ROUNDING = 1e-10  # of a mean over all rows; what is less in a resample is 0 but for rounding


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
    y_true, y_pred = finite_pair(y_true, y_pred)
    error = y_pred - y_true
    mse = float(np.mean(error * error))
    spread = float(np.mean((y_true - y_true.mean()) ** 2)) if np.ptp(y_true) > 0 else 0.0
    r2 = 1 - mse / spread if spread > 0 else float(mse == 0)
    return {"mae": float(np.mean(np.abs(error))), "mse": mse, "rmse": mse**0.5, "r2": r2}


def table(
    scores: Mapping[str, Mapping[str, float]], shown: Sequence[str] = (), *, unit: str = ""
) -> pd.DataFrame:
    """Return a model's metrics beside those of its baselines as text, the best of each marked.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        Metrics of ``"model"`` and of each baseline.
    shown : sequence of str
        Which metrics, in this order; by default those of the model of which it is known whether
        larger is better.
    unit : str, default ""
        Of the truth, for ``mae``, ``rmse`` and ``mse``.

    Returns
    -------
    pandas.DataFrame of shape (n_models, n_metrics)
    """
    shown = shown or [name for name in scores["model"] if name in GREATER_IS_BETTER]
    found = {}
    for name in shown:
        larger = GREATER_IS_BETTER[name]
        column = {model: values[name] for model, values in scores.items() if name in values}
        best = (max if larger else min)(column.values())
        of = unit_of(name, unit)
        found[f"{name}{of and f' ({of})'} {'↑' if larger else '↓'}"] = {
            model: f"{value:.4g}{' *' if value == best else ''}" for model, value in column.items()
        }
    return pd.DataFrame(found, list(scores)).fillna("").rename_axis("by")


def flat(
    scores: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    **more: float,
) -> dict[str, float]:
    """Return metrics as ``metrics.json`` keeps them: one flat object of numbers, in order.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        As in `table`. The model's keep their names, those of a baseline begin with its name.
    intervals : mapping of str to (float, float), optional
        Ends of intervals, kept as ``<metric>_low`` and ``<metric>_high``.
    **more : float
        Further numbers.
    """
    found = dict(scores["model"]) | more
    for model in scores.keys() - {"model"}:
        found |= {f"{model}_{name}": value for name, value in scores[model].items()}
    for name, (low, high) in (intervals or {}).items():
        found |= {f"{name}_low": low, f"{name}_high": high}
    return {name: float(found[name]) for name in sorted(found)}


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


def block_widening(n_blocks: float, n_groups: int, level: float) -> float:
    """Return by which factor intervals of `n_blocks` in `n_groups` come out too narrow.

    Blocks are resampled around the mean of their own group, which takes one degree of freedom, and
    their spread is known as badly as that of as few independent values.
    """
    from scipy.special import ndtri, stdtrit

    _, high = interval_ends(level)
    free = n_blocks - n_groups
    return float((n_blocks / free) ** 0.5 * stdtrit(free, high) / ndtri(high))


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
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return intervals of 95 % of the metrics, and of the ratios to baselines.

    Model and baselines are judged on the same resampled rows, so an interval of a ratio that stays
    below 1 says that the model is better. Of few blocks the intervals are too narrow;
    the gate's are wider by `block_widening`.

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
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    dict of str to (float, float)
        Lower and upper end by metric: ``mae``, ``mse``, ``rmse``, ``r2`` and, for each baseline,
        ``rmse_vs_<baseline>`` and ``mae_vs_<baseline>``. The R² of a resample whose truth does not
        vary is that of `regression_metrics`; a ratio of two forecasts that are exact in it is 1.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or an option is out of range.
    """
    y_true, y_pred = finite_pair(y_true, y_pred)
    centred = y_true - y_true.mean()
    columns = [centred, centred**2]
    for forecast in (y_pred, *baselines.values()):
        error = finite_pair(y_true, forecast)[1] - y_true
        columns += [np.abs(error), error**2]
    rows = np.column_stack(columns)
    least = ROUNDING * rows.mean(axis=0)[:, None]
    means = block_bootstrap(rows, block_length=block_length, n_resamples=n_resamples, seed=seed).T
    means[1:] = np.where(means[1:] > least[1:], means[1:], 0.0)
    spread = means[1] - means[0] ** 2
    varies = spread > least[1]
    r2 = (means[3] == 0).astype(np.float64)
    r2[varies] = 1 - means[3][varies] / spread[varies]
    draws = {"mae": means[2], "mse": means[3], "rmse": np.sqrt(means[3]), "r2": r2}
    for k, name in enumerate(baselines, start=2):
        draws[f"rmse_vs_{name}"] = np.sqrt(_ratio(means[3], means[2 * k + 1]))
        draws[f"mae_vs_{name}"] = _ratio(means[2], means[2 * k])
    ends = interval_ends(0.95)
    return {name: tuple(np.quantile(draw, ends).tolist()) for name, draw in draws.items()}


def _ratio(errors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return errors as a fraction of others, 1 where both are 0."""
    with np.errstate(divide="ignore"):
        return np.divide(
            errors, others, out=np.ones_like(errors), where=(errors > 0) | (others > 0)
        )


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
    y_true, y_pred = finite_pair(y_true, y_pred)
    return _standard_ranks(y_true) * _standard_ranks(y_pred)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Return average ranks with mean 0 and mean square 1; all 0 if the values do not vary."""
    from scipy.stats import rankdata

    ranks = rankdata(values) - (len(values) + 1) / 2
    spread = float(np.mean(ranks * ranks)) ** 0.5
    return ranks / spread if spread > 0 else ranks


def finite_pair(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and forecast as float64, checked to be finite and equally long."""
    pair = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    shapes = [values.shape for values in pair]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(
            f"y_true has shape {shapes[0]}, y_pred {shapes[1]}: give as many, one row or more, one "
            "column"
        )
    for name, values in zip(("y_true", "y_pred"), pair, strict=True):
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise ValueError(
                f"{name} is {values[wrong[0]]} at row {wrong[0]}: leave out rows without a value"
            )
    return pair
