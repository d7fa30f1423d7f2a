"""Two models on the same rows: by how much one is better, and how sure that is.

What is hard for both cancels out, so the interval of a difference is far narrower than the two
intervals of the models. Rows that are near in time are resampled together, and where a test holds
few such blocks the interval is widened as Student's t widens that of a mean. Nothing here decides:
`lib.registry.gate` does.
"""

from typing import TYPE_CHECKING

from lib.classification import cross_entropies, difference_interval
from lib.floors import GREATER_IS_BETTER
from lib.metrics import block_bootstrap, interval_ends, rank_contributions

import numpy as np

if TYPE_CHECKING:
    from lib.registry.scoring import TestSet

UNITS = {"power": "kW", "tick": "bps"}
DECISIVE = {"power": "rmse", "tick": "rank_ic"}
LEAST_BLOCKS = 2.0  # of a group of rows: one block alone says nothing of how blocks differ


def compare(
    test: "TestSet",
    candidate: np.ndarray,
    champion: np.ndarray,
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict]:
    """Return the metrics of two models on the same rows, with intervals of their differences.

    Parameters
    ----------
    test : lib.registry.scoring.TestSet
        The rows: truth, days of each row where it has them, rows per block.
    candidate, champion : ndarray of shape (n,) or, for images, (n, n_classes), float
        What both say about those rows, finite.
    n_resamples : int, default 2000
        How many resamples to draw.
    level : float, default 0.95
        Of the two-sided intervals.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    list of dict
        A row for each metric, the decisive one first: ``rmse`` and ``mae`` for power; ``rank_ic``
        (mean over the days, resampled within each), ``mse`` and ``mae`` for tick; ``accuracy`` and
        ``loss`` for images. Keys: ``metric``, ``unit``, ``greater_is_better``; ``candidate`` and
        ``champion``, the values; ``difference``, candidate less champion, with ``low`` and
        ``high``; ``better_by`` and ``better_low``, the difference and the lower end of its interval
        turned so that above 0 the candidate is better; ``decisive`` (bool); ``p_value`` of
        McNemar's exact test for accuracy, else None.

    Raises
    ------
    ValueError
        If a value is missing, numbers of rows differ, probabilities are none, there are too few
        rows for blocks, or an option is out of range.
    """
    candidate, champion = (np.asarray(p, dtype=np.float64) for p in (candidate, champion))
    for name, values in (("candidate", candidate), ("champion", champion)):
        if len(values) != len(test.truth):
            raise ValueError(
                f"the {name} says something about {len(values)} rows, the test has "
                f"{len(test.truth)}: give one prediction for each"
            )
        wrong = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if wrong.size:
            raise ValueError(
                f"the {name} says {values[wrong[0]]} at row {wrong[0]}: leave out rows that one of "
                "both cannot forecast, see lib.registry.scoring.shared_rows"
            )
    found = {"power": _power, "tick": _tick}.get(test.pipeline, _images)
    return found(test, candidate, champion, n_resamples, level, seed)


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict[str, float]:
    """Return McNemar's exact test of whether two classifiers are right equally often.

    Only images that one of both has right say anything; if both are equally good, each of those is
    as likely to be *a*'s as *b*'s (Q. McNemar, Psychometrika 12, 1947; exact, by the binomial
    distribution).

    Parameters
    ----------
    right_a, right_b : array of shape (n,), bool
        Whether each is right, image by image.

    Returns
    -------
    dict of str to float
        ``only_a`` and ``only_b``, numbers of images that only one has right, and the two-sided
        ``p_value``, 1 where they never differ.

    Raises
    ------
    ValueError
        If lengths differ or there are no images.
    """
    from scipy.special import bdtr

    right_a, right_b = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    if right_a.ndim != 1 or not len(right_a) or right_a.shape != right_b.shape:
        raise ValueError(
            f"right_a has shape {right_a.shape}, right_b {right_b.shape}: give as many, one or more"
        )
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p_value = min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return {"only_a": only_a, "only_b": only_b, "p_value": float(p_value)}


def _power(
    test: "TestSet", a: np.ndarray, b: np.ndarray, n_resamples: int, level: float, seed: int
) -> list[dict]:
    rows = _errors(test, a, b)
    draws, n_blocks, n_groups = _resample(test, [rows], n_resamples, seed)
    means, drawn = rows.mean(axis=0), draws[0]
    widening = _widening(n_blocks, n_groups, level)
    return [
        _row(test, "rmse", means[:2] ** 0.5, drawn[:, :2] ** 0.5, level, widening),
        _row(test, "mae", means[2:], drawn[:, 2:], level, widening),
    ]


def _tick(
    test: "TestSet", a: np.ndarray, b: np.ndarray, n_resamples: int, level: float, seed: int
) -> list[dict]:
    truth, errors = test.truth.to_numpy(dtype=np.float64), _errors(test, a, b)
    days = [np.flatnonzero(test.groups == day) for day in dict.fromkeys(test.groups)]
    rows = [
        np.column_stack([*(rank_contributions(truth[day], p[day]) for p in (a, b)), errors[day]])
        for day in days
    ]
    draws, n_blocks, n_groups = _resample(test, rows, n_resamples, seed)
    shares = [len(day) / len(truth) for day in days]
    means = _combined([day.mean(axis=0) for day in rows], shares)
    drawn = _combined(draws, shares)
    widening = _widening(n_blocks, n_groups, level)
    return [
        _row(test, metric, means[at], drawn[:, at], level, widening)
        for metric, at in (("rank_ic", [0, 1]), ("mse", [2, 3]), ("mae", [4, 5]))
    ]


def _images(
    test: "TestSet", a: np.ndarray, b: np.ndarray, n_resamples: int, level: float, seed: int
) -> list[dict]:
    truth = test.truth.to_numpy()
    losses = np.column_stack([cross_entropies(truth, p) for p in (a, b)])
    labels = [p.argmax(axis=1) for p in (a, b)]
    right = [label == truth for label in labels]
    shares = np.array([one.mean() for one in right])
    interval = difference_interval(truth, *labels, n_resamples=n_resamples, level=level, seed=seed)
    draws, n_blocks, n_groups = _resample(test, [losses], n_resamples, seed)
    widening = _widening(n_blocks, n_groups, level)
    accuracy = _described(
        test, "accuracy", shares, interval["difference_low"], interval["difference_high"]
    )
    accuracy["p_value"] = mcnemar(*right)["p_value"]
    return [accuracy, _row(test, "loss", losses.mean(axis=0), draws[0], level, widening)]


def _errors(test: "TestSet", a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared errors of both, then absolute ones."""
    both = np.column_stack([a, b]) - test.truth.to_numpy(dtype=np.float64)[:, None]
    return np.hstack([both**2, np.abs(both)])


def _resample(
    test: "TestSet", groups: list[np.ndarray], n_resamples: int, seed: int
) -> tuple[list[np.ndarray], float, int]:
    """Return draws of the column means of each group of rows, and how many blocks there are."""
    draws, n_blocks = [], 0.0
    for k, rows in enumerate(groups):
        length = test.block_length
        if len(rows) < LEAST_BLOCKS * length:
            raise ValueError(
                f"{len(rows)} rows are fewer than the {LEAST_BLOCKS:g} blocks of {length} rows "
                "that a paired test needs at least: judge by more rows, or by shorter blocks"
            )
        draws.append(
            block_bootstrap(rows, block_length=length, n_resamples=n_resamples, seed=seed + k)
        )
        n_blocks += len(rows) / length
    return draws, n_blocks, len(groups)


def _combined(days: list[np.ndarray], shares: list[float]) -> np.ndarray:
    """Return the means over the days: plain for rank ICs, of all rows for errors."""
    plain = sum(day[..., :2] for day in days) / len(days)
    weighted = sum(share * day[..., 2:] for share, day in zip(shares, days, strict=True))
    return np.concatenate([plain, weighted], axis=-1)


def _widening(n_blocks: float, n_groups: int, level: float) -> float:
    """Return by which factor intervals of `n_blocks` in `n_groups` come out too narrow.

    Blocks are resampled around the mean of their own group, which takes one degree of freedom, and
    their spread is known as badly as that of as few independent values.
    """
    from scipy.special import ndtri, stdtrit

    _, high = interval_ends(level)
    free = n_blocks - n_groups
    return float((n_blocks / free) ** 0.5 * stdtrit(free, high) / ndtri(high))


def _row(
    test: "TestSet",
    metric: str,
    values: np.ndarray,
    draws: np.ndarray,
    level: float,
    widening: float,
) -> dict:
    """Return the row of a metric from draws of both models' values, of shape (n_resamples, 2)."""
    difference = values[0] - values[1]
    ends = np.quantile(draws[:, 0] - draws[:, 1], interval_ends(level))
    low, high = difference + widening * (ends - difference)
    return _described(test, metric, values, low, high)


def _described(test: "TestSet", metric: str, values: np.ndarray, low: float, high: float) -> dict:
    larger = GREATER_IS_BETTER[metric]
    difference = float(values[0] - values[1])
    unit = UNITS.get(test.pipeline, "") if metric in ("rmse", "mae", "mse") else ""
    return {
        "metric": metric,
        "unit": f"{unit}²" if unit and metric == "mse" else unit,
        "greater_is_better": larger,
        "candidate": float(values[0]),
        "champion": float(values[1]),
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "better_by": difference if larger else -difference,
        "better_low": float(low if larger else -high),
        "decisive": metric == DECISIVE.get(test.pipeline, "accuracy"),
        "p_value": None,
    }
