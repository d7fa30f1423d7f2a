"""Whether new data still looks like what a model has learned from, and whether it still does well.

`profile` keeps of the training data what is needed to compare with it, and how far stretches of its
own are from the whole: rows near in time are alike and seasons differ, so only that says which
distance is unusual. `measure` compares the newest stretch. Nothing here reads files.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.metrics import block_bootstrap, block_widening, interval_ends

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lib.run import Run

N_BINS = 10
N_POINTS = 201  # of the distribution that is kept for the Kolmogorov-Smirnov distance
MARGIN = 1.25  # times the largest distance of a stretch of the training data; see drift_alarms.txt
LEAST_STRETCHES = 20  # that do not overlap, to know the largest distance of any
NEARLY = 0.9  # of the length of a stretch: one day has a few bars less than another
LEAST_ROWS = 20  # with a known truth, to speak of an error
OVERLAP = 4  # stretches begin at every 1 / OVERLAP of their length
DISTANCES = {
    "psi": "stability index",
    "ks": "Kolmogorov-Smirnov distance",
    "outside": "outside of its range",
    "missing": "missing",
}
FEW_ROWS = 2.5  # of a stretch, so many may lie outside of all that was seen
MOST_MISSING = 0.5  # of a stretch, a fraction: gaps alone are no drift
PROFILE = "profile.json"


# Profile ---------------------------------------------------------------------------------------


def profile(frame: pd.DataFrame, window_rows: int) -> dict:
    """Return what there is to know of training data, to compare newer data with.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (n, n_columns)
        Training rows in order of time; NaN is missing. Columns without any value are left out.
    window_rows : int
        How many rows will be compared with it at once: a week of hours, a day of bars.

    Returns
    -------
    dict
        JSON-able. ``window_rows``; ``stretch_rows``, the length of the stretches that the
        thresholds come from: shorter than `window_rows` where the data hold fewer than 20 of
        those. Shorter stretches of the same data lie further from the whole, so the thresholds are
        then too high rather than too low. ``n_rows``, ``n_stretches``, and by column: ``edges`` of
        the bins and the ``fractions`` of rows in them; ``points`` of the distribution
        and the fraction of rows ``below``; ``thresholds`` of the four distances, see `measure`.

    Raises
    ------
    ValueError
        If there are too few rows or no column holds a value.
    """
    if window_rows < 1:
        raise ValueError(f"window_rows={window_rows} must be at least 1")
    frame = frame.dropna(axis=1, how="all")
    if not len(frame.columns) or len(frame) < 2 * LEAST_STRETCHES:
        raise ValueError(
            f"{len(frame)} training rows with values in {len(frame.columns)} columns are too few "
            f"to tell later whether data has drifted: {2 * LEAST_STRETCHES} rows or more, and one "
            "column with values, are needed"
        )
    rows = min(window_rows, len(frame) // LEAST_STRETCHES)
    columns = {}
    for name in frame.columns:
        values = frame[name].to_numpy(dtype=np.float64)
        known = _describe(values)
        columns[name] = known | {"thresholds": _thresholds(known, values, rows)}
    return {
        "window_rows": window_rows,
        "stretch_rows": rows,
        "n_rows": len(frame),
        "n_stretches": len(frame) // rows,
        "columns": columns,
    }


def keep_profile(run: "Run", frame: pd.DataFrame, window_rows: int) -> pd.DataFrame:
    """Write the profile of the training data as ``profile.json``, and return its thresholds.

    Parameters and errors are those of `profile`.
    """
    kept = profile(frame, window_rows)
    run.write(PROFILE, kept)
    return pd.DataFrame({n: c["thresholds"] for n, c in kept["columns"].items()}).T.round(2)


def measure(profile: Mapping, frame: pd.DataFrame) -> pd.DataFrame:
    """Compare the newest rows with the training data.

    Parameters
    ----------
    profile : mapping
        From `profile`.
    frame : pandas.DataFrame of shape (n, n_columns)
        Newer rows in order of time, with the profile's columns; the last ``window_rows`` count.

    Returns
    -------
    pandas.DataFrame of shape (n_columns, 9)
        Index ``column``. Four distances, each with its ``_threshold``: ``psi``, the population
        stability index over bins of training quantiles; ``ks``, the largest difference of the
        cumulative distributions; ``outside``, the fraction of rows below the least or above the
        largest training value; ``missing``, the fraction of rows without a value, which the others
        leave out. ``drifted``: whether one lies above its threshold.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    absent = [name for name in profile["columns"] if name not in frame.columns]
    if absent:
        raise ValueError(f"column {absent[0]!r} of the training data is missing")
    known, newest = profile["columns"], frame.tail(profile["window_rows"])
    found = {n: _distances(one, newest[n].to_numpy(dtype=np.float64)) for n, one in known.items()}
    distances = pd.DataFrame(found).T.rename_axis("column")
    limits = pd.DataFrame({name: one["thresholds"] for name, one in known.items()}).T
    drifted = (distances > limits[list(distances)]).any(axis=1)
    return distances.join(limits.add_suffix("_threshold")).assign(drifted=drifted)


def compare(profile: Mapping, frame: pd.DataFrame) -> tuple[pd.DataFrame | None, str]:
    """Compare the newest rows with the training data, or say why that cannot be done.

    Parameters
    ----------
    profile : mapping
        From `profile`; {} where there is none.
    frame : pandas.DataFrame of shape (n, n_columns)
        As in `measure`.

    Returns
    -------
    pandas.DataFrame or None
        From `measure`.
    str
        A sentence where there is none; else "".
    """
    if not profile:
        return None, "the run that trained this version has left no profile of its data"
    least = math.ceil(NEARLY * profile["stretch_rows"])
    if len(frame) < least:
        return None, f"{len(frame)} new rows are too few to compare: it takes {least}"
    return measure(profile, frame), ""


def _describe(values: np.ndarray) -> dict:
    """Return bins and distribution of the values that are not missing."""
    present = np.sort(values[~np.isnan(values)])
    edges = np.unique(np.quantile(present, np.arange(1, N_BINS) / N_BINS))
    edges = edges[edges < present[-1]]  # else the last bin is empty for ever
    points = np.unique(np.quantile(present, np.linspace(0, 1, N_POINTS), method="nearest"))
    counts = np.bincount(np.searchsorted(edges, present), minlength=len(edges) + 1)
    below = np.searchsorted(present, points, side="right")
    return {
        "edges": edges.tolist(),
        "fractions": (counts / len(present)).tolist(),
        "points": points.tolist(),
        "below": (below / len(present)).tolist(),
    }


def _thresholds(known: Mapping, values: np.ndarray, rows: int) -> dict[str, float]:
    """Return `MARGIN` times the largest distance of any stretch of training rows to the whole.

    Outside is what lies beyond all the other training rows. A few rows may do so at any time, of a
    column that never changed too, and half a stretch may be missing.
    """
    starts = np.arange(0, len(values) - rows + 1, max(1, rows // OVERLAP))
    bins, steps = _places(known, values)
    psi = [_psi(known, bins[k : k + rows]) for k in starts]
    ks = [_ks(known, steps[k : k + rows]) for k in starts]
    missing = [float(np.isnan(values[k : k + rows]).mean()) for k in starts]
    outside = max(_outside_the_rest(values, starts, rows), FEW_ROWS / rows)
    return {
        "psi": MARGIN * max(psi),
        "ks": min(1.0, MARGIN * max(*ks, FEW_ROWS / rows)),
        "outside": min(1.0, MARGIN * outside),
        "missing": min(1.0, max(MARGIN * max(missing), MOST_MISSING)),
    }


def _outside_the_rest(values: np.ndarray, starts: np.ndarray, rows: int) -> float:
    """Return the largest fraction of a stretch that lies outside of the range of all other rows."""
    found = 0.0
    for sign in (1, -1):
        filled = np.where(np.isnan(values), -np.inf, sign * values)
        before = np.concatenate([[-np.inf], np.maximum.accumulate(filled)])
        after = np.concatenate([np.maximum.accumulate(filled[::-1])[::-1], [-np.inf]])
        for k in starts:
            rest = max(before[k], after[k + rows])
            found = max(found, float((filled[k : k + rows] > rest).mean()))
    return found


def _distances(known: Mapping, values: np.ndarray) -> dict[str, float]:
    bins, steps = _places(known, values)
    low, high = known["points"][0], known["points"][-1]
    return {
        "psi": _psi(known, bins),
        "ks": _ks(known, steps),
        "outside": float(((values < low) | (values > high)).mean()),
        "missing": float(np.isnan(values).mean()),
    }


def _places(known: Mapping, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return in which bin each value is, and below which point; -1 for a missing one."""
    absent = np.isnan(values)
    bins, steps = (np.searchsorted(known[name], values) for name in ("edges", "points"))
    return np.where(absent, -1, bins), np.where(absent, -1, steps)


def _psi(known: Mapping, bins: np.ndarray) -> float:
    """Return sum of (p - q) log(p / q); half a row more in every bin keeps it finite."""
    counts = np.bincount(bins[bins >= 0], minlength=len(known["fractions"]))
    n = counts.sum()
    if not n:
        return 0.0  # all are missing, which has a distance of its own
    half = 0.5 / n
    found, expected = counts / n + half, np.asarray(known["fractions"]) + half
    found, expected = found / found.sum(), expected / expected.sum()
    return float(np.sum((found - expected) * np.log(found / expected)))


def _ks(known: Mapping, steps: np.ndarray) -> float:
    counts = np.bincount(steps[steps >= 0], minlength=len(known["points"]) + 1)
    n = counts.sum()
    if not n:
        return 0.0
    return float(np.max(np.abs(counts.cumsum()[:-1] / n - known["below"])))


# Errors ----------------------------------------------------------------------------------------


def live_error(
    live: pd.DataFrame,
    metrics: Mapping[str, float],
    *,
    max_growth: float,
    block_length: int,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Return the error of forecasts whose truth has come, and whether it has grown.

    Parameters
    ----------
    live : pandas.DataFrame of shape (n, n_columns)
        ``truth`` and ``predicted``: numbers, or names of classes.
    metrics : mapping of str to float
        What the evaluation of the version has found.
    max_growth : float
        By how much the error may have grown since, a fraction.
    block_length : int
        Rows near enough to be alike, for the bootstrap; 1 where the rows have no order. At most
        half of the rows.
    n_resamples : int, default 1000
        Bootstrap resamples.
    seed : int, default 0
        Of the bootstrap.

    Returns
    -------
    dict
        ``error``: root mean squared error of numbers, fraction of wrong names; ``low`` and
        ``high``, its interval of 95 %; ``n`` rows; ``expected``, the same error in the evaluation,
        NaN where it is not known; ``grown``: whether even ``low`` is above what is tolerated, and
        above the interval that the evaluation has given, if it has. {} of fewer than 20 rows.
    """
    if len(live) < LEAST_ROWS:
        return {}
    truth, predicted = (live[name].to_numpy() for name in ("truth", "predicted"))
    numbers = np.issubdtype(truth.dtype, np.number)
    score = (predicted - truth) ** 2 if numbers else (predicted != truth).astype(np.float64)
    mean, length = score.mean(), min(block_length, len(score) // 2)
    options = {"block_length": length, "n_resamples": n_resamples, "seed": seed}
    ends = np.quantile(block_bootstrap(score[:, None], **options), interval_ends(0.95))
    low, high = mean + block_widening(len(score) / length, 1, 0.95) * (ends - mean)
    found = {"error": mean, "low": max(low, 0.0), "high": high if numbers else min(high, 1.0)}
    found = {name: float(np.sqrt(v) if numbers else v) for name, v in found.items()}
    if numbers:
        expected = metrics.get("rmse", math.nan)
        most = metrics.get("rmse_high", expected)
    else:
        expected = 1 - metrics.get("accuracy", math.nan)
        most = 1 - metrics.get("accuracy_low", 1 - expected)
    grown = found["low"] > (1 + max_growth) * expected and found["low"] > most
    return found | {"n": len(live), "expected": expected, "grown": grown}


# Verdict ---------------------------------------------------------------------------------------


def reasons(columns: pd.DataFrame | None, error: Mapping, version: int) -> list[str]:
    """Return why an alarm is raised, a sentence each; [] if there is no reason.

    Parameters
    ----------
    columns : pandas.DataFrame or None
        From `measure`; None where the input could not be compared.
    error : mapping
        From `live_error`.
    version : int
        Which made the forecasts.
    """
    found = []
    for name, row in columns[columns["drifted"]].iterrows() if columns is not None else ():
        above = [
            f"{words} {row[kind]:.2f}, at most {row[f'{kind}_threshold']:.2f} is usual"
            for kind, words in DISTANCES.items()
            if row[kind] > row[f"{kind}_threshold"]
        ]
        found.append(f"{name} does not look like the training data: {'; '.join(above)}")
    if error.get("grown"):
        found.append(
            f"the error of version {version} is {error['error']:.3g} (at least "
            f"{error['low']:.3g}), its evaluation found {error['expected']:.3g}"
        )
    return found
