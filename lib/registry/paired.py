"""Two models on the same rows: by how much one is better, and how sure that is.

What is hard for both cancels out, so the interval of a difference is far narrower than the two
intervals of the models. Rows that are near in time are resampled together, and where a test holds
few such blocks the interval is widened as Student's t widens that of a mean. Nothing here decides:
`lib.registry.gate` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lib.classification import cross_entropies, difference_interval
from lib.ground.directions import GREATER_IS_BETTER, unit_of
from lib.judged import KINDS
from lib.metrics import (
    block_bootstrap,
    block_widening,
    finite_pair,
    interval_ends,
    rank_contributions,
)

import numpy as np
import pandas as pd

LEAST_BLOCKS = 2.0  # of a group of rows: one block alone says nothing of how blocks differ


@dataclass(frozen=True)
class Test:
    """Rows to judge two models by.

    Attributes
    ----------
    truth : pandas.Series of shape (n,)
        By key; of a classification, the number of the class.
    kind, metric, unit, quantity : str
        As in `lib.judged.write`: what is asked, what decides, and what the truth is.
    block_length : int
        Rows near enough to be alike.
    groups : ndarray of shape (n,) or None
        No block of rows crosses from one group to another.
    classes : sequence of str
        Their names.
    """

    __test__ = False  # pytest takes every class of this name for tests

    truth: pd.Series
    kind: str
    metric: str
    unit: str = ""
    quantity: str = ""
    block_length: int = 1
    groups: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping, truth: pd.Series, groups: pd.Series | None = None) -> "Test":
        """Return the rows of `truth`, judged as `facts`, a run's ``test.json``, say."""
        known = {name: facts[name] for name in ("kind", "metric", "unit", "quantity")}
        within = None if groups is None else groups.loc[truth.index].to_numpy()
        length = max(1, min(facts["block_length"], len(truth)))
        return cls(truth, **known, block_length=length, groups=within, classes=facts["classes"])

    def select(self, kept: np.ndarray) -> "Test":
        """Return those rows only; `kept` is of shape (n,), bool, and one is true at least."""
        truth, groups = self.truth[kept], None if self.groups is None else self.groups[kept]
        length = min(self.block_length, len(truth))
        return replace(self, truth=truth, groups=groups, block_length=length)

    def parts(self) -> list[np.ndarray]:
        """Return the positions of the rows of each group, in order; of all where there are none."""
        if self.groups is None:
            return [np.arange(len(self.truth))]
        return [np.flatnonzero(self.groups == one) for one in dict.fromkeys(self.groups)]


def compare(
    test: Test,
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
    test : Test
        The rows.
    candidate, champion : ndarray of shape (n,) or, for classes, (n, n_classes), float
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
        A row for each metric of the kind, see `lib.judged.KINDS`, the decisive one first; the rank
        IC is the mean over the groups. Keys: ``metric``, ``unit``, ``greater_is_better``;
        ``candidate`` and ``champion``, the values; ``difference``, candidate less champion, with
        ``low`` and ``high``; ``decisive`` (bool); ``p_value`` of McNemar's exact test for accuracy
        where every row is a block of its own, else None: the test takes rows as independent.

    Raises
    ------
    ValueError
        If a value is missing, probabilities are none, there are too few rows for blocks, or an
        option is out of range.
    """
    said, truth, parts = (candidate, champion), test.truth.to_numpy(), test.parts()
    counted = test.kind == "classification" and test.block_length == 1
    metrics = [metric for metric in KINDS[test.kind] if not (counted and metric == "accuracy")]
    rows = [
        np.column_stack([_by_row(m, truth[part], one[part]) for m in metrics for one in said])
        for part in parts
    ]
    means = [one.mean(axis=0) for one in rows]
    draws = _resample(test, rows, n_resamples, seed)
    widening = block_widening(len(truth) / test.block_length, len(parts), level)
    found = []
    for k, metric in enumerate(metrics):
        values, drawn = (_combined(metric, one, parts, 2 * k) for one in (means, draws))
        difference = values[0] - values[1]
        ends = np.quantile(drawn[:, 0] - drawn[:, 1], interval_ends(level))
        low, high = difference + widening * (ends - difference)
        found.append(_described(test, metric, values, low, high))
    if counted:
        found.insert(0, _accuracies(test, *said, n_resamples, level, seed))
    return sorted(found, key=lambda row: not row["decisive"])


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Return the two-sided p-value of McNemar's exact test that two classifiers are equally good.

    Only rows that one of both has right say anything; if both are equally good, each of those is
    as likely to be *a*'s as *b*'s (Q. McNemar, Psychometrika 12, 1947; exact, by the binomial
    distribution).

    Parameters
    ----------
    right_a, right_b : array of shape (n,), bool
        Whether each is right, row by row.

    Returns
    -------
    float
        1 where they never differ.
    """
    from scipy.special import bdtr

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def _by_row(metric: str, truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Return what each row adds to a metric, which is their mean, or its root for the RMSE."""
    if metric == "rank_ic":
        return rank_contributions(truth, said)
    if metric == "loss":
        return cross_entropies(truth, said)
    if metric == "accuracy":
        return said.argmax(axis=1) == truth
    truth, said = finite_pair(truth, said)
    error = said - truth
    return np.abs(error) if metric == "mae" else error**2


def _combined(metric: str, means: list[np.ndarray], parts: list[np.ndarray], at: int) -> np.ndarray:
    """Return the metric of both models: of rank ICs the plain mean of the groups, else of rows."""
    n = sum(map(len, parts))
    shares = [1 / len(parts) if metric == "rank_ic" else len(part) / n for part in parts]
    both = sum(share * one[..., at : at + 2] for share, one in zip(shares, means, strict=True))
    return both**0.5 if metric == "rmse" else both


def _accuracies(
    test: Test, a: np.ndarray, b: np.ndarray, n_resamples: int, level: float, seed: int
) -> dict:
    """Return the row of the accuracy of independent rows."""
    truth, labels = test.truth.to_numpy(), [one.argmax(axis=1) for one in (a, b)]
    right = [label == truth for label in labels]
    ends = difference_interval(truth, *labels, n_resamples=n_resamples, level=level, seed=seed)
    values = np.array([one.mean() for one in right])
    row = _described(test, "accuracy", values, ends["difference_low"], ends["difference_high"])
    return row | {"p_value": mcnemar(*right)}


def _resample(
    test: Test, groups: list[np.ndarray], n_resamples: int, seed: int
) -> list[np.ndarray]:
    """Return draws of the column means of each group of rows."""
    length = test.block_length
    few = next((len(rows) for rows in groups if len(rows) < LEAST_BLOCKS * length), None)
    if few is not None:
        raise ValueError(
            f"{few} rows are fewer than the {LEAST_BLOCKS:g} blocks of {length} rows that a paired "
            "test needs at least: judge by more rows, or by shorter blocks"
        )
    return [
        block_bootstrap(rows, block_length=length, n_resamples=n_resamples, seed=seed + k)
        for k, rows in enumerate(groups)
    ]


def _described(test: Test, metric: str, values: np.ndarray, low: float, high: float) -> dict:
    """Return the row of a metric."""
    return {
        "metric": metric,
        "unit": unit_of(metric, test.unit),
        "greater_is_better": GREATER_IS_BETTER[metric],
        "candidate": float(values[0]),
        "champion": float(values[1]),
        "difference": float(values[0] - values[1]),
        "low": float(low),
        "high": float(high),
        "decisive": metric == test.metric,
        "p_value": None,
    }
