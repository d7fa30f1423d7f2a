"""Cuts in time between rows to train on and rows to judge, without rows that know both sides.

Row *t* knows the rows of its span, from *t* - `window` + 1 (the first it sees) to *t* + `horizon`
(the last its target sees). No span of a training row touches a span of a row that is judged, and
what comes later never moves an earlier cut. Spans are counted in rows, across the borders of days
too, so that the rule also holds for bars without sessions.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

Days = pd.Series | np.ndarray | Sequence[str]


class Fold(NamedTuple):
    """One cut in time: positions of the rows to train on and of the later rows to judge."""

    train: slice
    valid: slice


def time_split(
    index: pd.DatetimeIndex, *, valid_fraction: float, test_fraction: float, horizon: int
) -> dict[str, slice]:
    """Cut forecast origins into train, validation and test, in this order of time.

    The last `test_fraction` of the rows is for the test and the last `valid_fraction` of all rows
    before it for validation. Before each border `horizon` rows are left out: the targets of those
    origins lie beyond the border, so no part trains or selects on a target of a later part.

    Parameters
    ----------
    index : pandas.DatetimeIndex of shape (n,)
        The origins in order of time, one row per time step.
    valid_fraction, test_fraction : float
        Fractions of all rows, above 0; together below 1.
    horizon : int
        Rows from origin to target, at least 1.

    Returns
    -------
    dict of {"train", "valid", "test"} to slice
        Positions for `frame.iloc`.

    Raises
    ------
    ValueError
        If the index is not in order, a fraction is out of range, or a part would be empty.
    """
    if horizon < 1:
        raise ValueError(f"horizon={horizon} must be at least 1")
    if not (index.is_monotonic_increasing and index.is_unique):
        raise ValueError("the index is not in strictly rising order of time: sort it first")
    n_rows = len(index)
    test_start = n_rows - round(n_rows * test_fraction)
    valid_start = test_start - round(n_rows * valid_fraction)
    parts = {
        "train": slice(0, max(valid_start - horizon, 0)),
        "valid": slice(valid_start, max(test_start - horizon, valid_start)),
        "test": slice(test_start, n_rows),
    }
    for name, part in parts.items():
        if part.stop <= part.start:
            raise ValueError(
                f"{n_rows} rows leave nothing for the part {name!r} with horizon {horizon}, "
                f"valid_fraction {valid_fraction} and test_fraction {test_fraction}: "
                "give more rows or other fractions"
            )
    return parts


def time_folds(n_rows: int, n_folds: int, horizon: int) -> list[Fold]:
    """Cut rows in order of time into folds that train on the past and score what follows.

    The second half of the rows is cut into `n_folds` blocks of equal length, each scored by a model
    of all rows before it. The last `horizon` rows before a block are left out of its training:
    their targets lie within the block.

    Parameters
    ----------
    n_rows : int
        Rows of training and validation together, without the test rows.
    n_folds : int
        Blocks to score, at least 1.
    horizon : int
        Rows from a forecast's origin to its target, at least 1.

    Returns
    -------
    list of Fold
        In order of time.

    Raises
    ------
    ValueError
        If an option is out of its range or a fold would have no rows.
    """
    if n_folds < 1 or horizon < 1:
        raise ValueError(f"n_folds={n_folds} and horizon={horizon} must be at least 1")
    first = round(n_rows / 2)
    if first <= horizon or n_rows - first < n_folds:
        raise ValueError(
            f"{n_rows} rows are too few for {n_folds} folds with horizon {horizon}: give more rows "
            "or fewer folds"
        )
    bounds = [first + (n_rows - first) * k // n_folds for k in range(n_folds + 1)]
    return [Fold(slice(0, a - horizon), slice(a, b)) for a, b in pairwise(bounds)]


def walk_forward(
    days: Days, *, n_folds: int, window: int, horizon: int, embargo: int = 0
) -> list[Fold]:
    """Judge each of the last days by what all rows before it teach.

    Source: M. Lopez de Prado, "Advances in Financial Machine Learning" (2018), chapter 7, for
    purging and embargo; here training rows only ever lie before those that are judged.

    Parameters
    ----------
    days : array of shape (n_rows,), str
        Label of each row's day, in order of time; the rows of a day are together. Bars without
        sessions need labels as well, such as their dates.
    n_folds : int
        Days to judge, at least 1: the last ones. The first day is always for training.
    window, horizon, embargo : int
        See `rows_before`.

    Returns
    -------
    list of Fold
        In order of time; training begins at the first row in all of them.

    Raises
    ------
    ValueError
        If the rows of a day are not together, there are too few days, or a fold would have no
        training rows.
    """
    starts, labels = day_starts(days)
    if n_folds < 1 or n_folds >= len(labels):
        raise ValueError(
            f"n_folds={n_folds} must be from 1 to one less than the {len(labels)} day(s) of the "
            "rows: give more days, or label bars without sessions by blocks of time"
        )
    ends = [*starts[1:], len(days)]
    return [
        Fold(
            rows_before(int(start), window=window, horizon=horizon, embargo=embargo),
            slice(int(start), int(end)),
        )
        for start, end in zip(starts[-n_folds:], ends[-n_folds:], strict=True)
    ]


def rows_before(first: int, *, window: int, horizon: int, embargo: int = 0) -> slice:
    """Return the rows that may train a model which is judged from row `first` on.

    Parameters
    ----------
    first : int
        The first row that is judged.
    window : int
        Rows that a forecast sees, its own included, at least 1.
    horizon : int
        Rows from a forecast to its target, at least 1.
    embargo : int, default 0
        Further rows to leave out, for what is alike beyond the spans.

    Returns
    -------
    slice
        From the first row to the last one whose span, and `embargo` rows more, ends before the
        span of row `first` begins.

    Raises
    ------
    ValueError
        If an option is out of its range, or no row is left.
    """
    if window < 1 or horizon < 1 or embargo < 0:
        raise ValueError(
            f"window={window} and horizon={horizon} must be at least 1, embargo={embargo} at "
            "least 0"
        )
    stop = first - (window - 1) - horizon - embargo
    if stop < 1:
        raise ValueError(
            f"no row is left to train on: {first} rows lie before those that are judged, and "
            f"window={window}, horizon={horizon} and embargo={embargo} leave out the last "
            f"{first - stop} of them; give more days or a shorter window"
        )
    return slice(0, stop)


def last_days(days: Days, n_days: int) -> np.ndarray:
    """Mark the rows of the last days, such as those of the test.

    Parameters
    ----------
    days : array of shape (n_rows,), str
        As for `walk_forward`.
    n_days : int
        How many days, at least 1 and fewer than there are.

    Returns
    -------
    ndarray of shape (n_rows,), bool

    Raises
    ------
    ValueError
        If the rows of a day are not together, or `n_days` is out of its range.
    """
    starts, labels = day_starts(days)
    if not 1 <= n_days < len(labels):
        raise ValueError(
            f"n_days={n_days} must be from 1 to one less than the {len(labels)} day(s) of the rows"
        )
    return np.arange(len(days)) >= starts[-n_days]


def day_starts(days: Days) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each day, and the days in order.

    Raises
    ------
    ValueError
        If the rows of a day are not together.
    """
    values = np.asarray(days, dtype=object)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"days has shape {values.shape}: give one label for each row")
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    labels = values[starts]
    seen = pd.Index(labels).duplicated()
    if seen.any():
        row, label = int(starts[seen][0]), labels[seen][0]
        raise ValueError(
            f"row {row}: day {label} begins again after another day: sort the rows by time"
        )
    return starts, labels
