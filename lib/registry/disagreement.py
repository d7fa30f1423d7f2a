"""Where two versions disagree, and what an answer of each costs in time and disk."""

import math
import statistics
import tempfile
import time

from lib.ground.files import files_in
from lib.registry.paired import Test
from lib.registry.rows import Rows, predict
from lib.registry.side_by_side import Pair

import numpy as np
import pandas as pd
from upath import UPath

STRETCH = 120  # rows of a stretch that is shown, at most


def agreement(test: Test, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return how alike the answers of both are.

    Parameters
    ----------
    test : Test
    a, b : ndarray of shape (n,) or (n, n_classes)
        What both say.

    Returns
    -------
    dict of str to float
        Classes: number of the rows that ``both``, ``only A``, ``only B`` and ``neither`` name
        rightly. Forecasts: their correlation, mean distance, and the fraction of rows where B is
        nearer.
    """
    truth = test.truth.to_numpy()
    if test.kind == "classification":
        right_a, right_b = _right(truth, a, b)
        return {
            "both": int((right_a & right_b).sum()),
            "only A": int((right_a & ~right_b).sum()),
            "only B": int((~right_a & right_b).sum()),
            "neither": int((~right_a & ~right_b).sum()),
        }
    constant = min(np.ptp(a), np.ptp(b)) == 0
    unit = f", {test.unit}" if test.unit else ""
    return {
        "correlation of the forecasts": math.nan if constant else float(np.corrcoef(a, b)[0, 1]),
        f"mean distance{unit}": float(np.abs(a - b).mean()),
        "rows where B is nearer, fraction": float((np.abs(b - truth) < np.abs(a - truth)).mean()),
    }


def stretches(test: Test, a: np.ndarray, b: np.ndarray, n: int = 2) -> list[slice]:
    """Return the stretches of rows where both forecasts are furthest apart, in order.

    Parameters
    ----------
    test : Test
        Its block length, 120 at most, is that of a stretch; none crosses from one group to the
        next, and none overlaps another.
    a, b : ndarray of shape (n_rows,)
        Forecasts.
    n : int, default 2
        How many; fewer where no more fit.

    Returns
    -------
    list of slice
        Positions.
    """
    length = min(STRETCH, max(test.block_length, 1), len(a))
    total = np.concatenate([[0.0], np.cumsum(np.abs(a - b))])
    sums = total[length:] - total[:-length]
    if test.groups is not None:
        same = test.groups[length - 1 :] == test.groups[: len(sums)]
        sums = np.where(same, sums, -np.inf)
    starts = []
    while len(starts) < n and np.isfinite(sums).any():
        start = int(np.argmax(sums))
        starts.append(start)
        sums[max(0, start - length + 1) : start + length] = -np.inf
    return [slice(start, start + length) for start in sorted(starts)]


def one_sided(truth: np.ndarray, a: np.ndarray, b: np.ndarray, n: int = 16) -> np.ndarray:
    """Return rows that one version names rightly and the other does not, the surest error first.

    Parameters
    ----------
    truth : ndarray of shape (n_rows,), int
    a, b : ndarray of shape (n_rows, n_classes)
        Probabilities.
    n : int, default 16
        At most so many.

    Returns
    -------
    ndarray of int
        Positions. Where both name all the same rows rightly, those on which the probabilities are
        furthest apart.
    """
    right_a, right_b = _right(truth, a, b)
    split = np.flatnonzero(right_a != right_b)
    if not split.size:
        return np.argsort(-np.abs(a - b).max(axis=1), kind="stable")[:n]
    wrong = np.where(right_a[:, None], b, a)[split].max(axis=1)
    return split[np.argsort(-wrong, kind="stable")][:n]


def captions(test: Test, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> list[str]:
    """Return what A, B and the label say of each of some rows, and how sure A and B are."""
    classes = test.classes
    return [
        f"A {classes[a[k].argmax()]} {a[k].max():.2f}\nB {classes[b[k].argmax()]} {b[k].max():.2f}"
        f"\nis {classes[test.truth.iloc[k]]}"
        for k in rows
    ]


def answers(test: Test, a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    """Return truth and both answers by key: forecasts, or classes with their probability."""
    if test.kind != "classification":
        return pd.DataFrame({"truth": test.truth, "a": a, "b": b})
    columns = {"truth": test.truth}
    for name, p in (("a", a), ("b", b)):
        columns |= {name: p.argmax(axis=1), f"{name}_probability": p.max(axis=1)}
    return pd.DataFrame(columns)


def _right(truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a.argmax(axis=1) == truth, b.argmax(axis=1) == truth


# What an answer costs -------------------------------------------------------------------------


def measure_costs(
    pair: Pair, rows: Rows, test: Test, *, batch_rows: int = 256, n_repeats: int = 20
) -> pd.DataFrame:
    """Time both models on the same rows, in turns, and weigh them.

    Parameters
    ----------
    pair : tuple of Version
    rows : Rows
    test : Test
        Its last row, with the history that a model needs, is what is asked; then a batch.
    batch_rows : int, default 256
        Rows answered at once; fewer where the test has fewer.
    n_repeats : int, default 20
        Of which the median is taken, after one call that does not count.

    Returns
    -------
    pandas.DataFrame of shape (3, 2)
        ``latency_ms`` of one row, ``batch_latency_ms`` of one row in a batch, ``size_mb`` on disk
        (10⁶ bytes); a column for each version.
    """
    index = test.truth.index
    asked = {"latency_ms": index[-1:], "batch_latency_ms": index[-batch_rows:]}
    found = {}
    for name, keys in asked.items():
        timed = [_Timed(version.model) for version in pair]
        for _ in range(n_repeats + 1):
            for version, model in zip(pair, timed, strict=True):
                predict(version.pipeline, model, rows, keys)
        medians = [statistics.median(model.taken[1:]) for model in timed]
        found[name] = [1000 * seconds / len(keys) for seconds in medians]
    found["size_mb"] = [_size(version.uri) / 1e6 for version in pair]
    return pd.DataFrame(found, ["A", "B"]).T


class _Timed:
    """A model that notes how long its answers take."""

    def __init__(self, model: object) -> None:
        self.model = model
        self.taken: list[float] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def predict(self, inputs: pd.DataFrame | np.ndarray) -> pd.DataFrame | np.ndarray:
        started = time.perf_counter()
        said = self.model.predict(inputs)
        self.taken.append(time.perf_counter() - started)
        return said


def _size(uri: str) -> int:
    """Return the bytes of all files of a model."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        place = UPath(download_artifacts(uri, dst_path=folder))
        return sum(file.stat().st_size for file in files_in(place))
