"""Windows of rows for sequence models, gathered batch by batch: nothing is copied before its turn.

A window is named by its last row. `window_ends` says which rows can be one, `take_windows` copies
those of a batch from an array that stays as it is, and `WindowBatches` does so in shuffled order.
"""

import hashlib

import numpy as np


def window_ends(days: np.ndarray, length: int, complete: np.ndarray | None = None) -> np.ndarray:
    """Return the rows at which a window of `length` rows of one day ends.

    Parameters
    ----------
    days : numpy.ndarray of shape (n,)
        The day of every row, of any type; the rows of a day stand together.
    length : int
        Rows of a window, at least 1.
    complete : numpy.ndarray of shape (n,), bool, optional
        Rows that may be part of a window; default all.

    Returns
    -------
    numpy.ndarray of shape (n_windows,), int64
        Increasing. Rows t - length + 1 to t are of one day and complete.
    """
    _require_length(length)
    days = np.asarray(days)
    rows = np.arange(len(days))
    first = np.zeros(len(days), dtype=np.int64)  # of the rows that a window may hold
    first[1:] = np.where(days[1:] != days[:-1], rows[1:], 0)
    if complete is not None:
        if len(complete) != len(days):
            raise ValueError(f"complete has {len(complete)} rows, days has {len(days)}")
        first = np.where(complete, first, rows + 1)
    return np.flatnonzero(rows - np.maximum.accumulate(first) + 1 >= length)


def windows_view(x: np.ndarray, length: int) -> np.ndarray:
    """Return every window of `length` successive rows without a copy.

    Parameters
    ----------
    x : numpy.ndarray of shape (n, n_features)
        Rows in order.
    length : int
        Rows of a window, 1 to n.

    Returns
    -------
    numpy.ndarray of shape (n - length + 1, length, n_features)
        Read-only view; window k holds rows k to k + length - 1.
    """
    _require_length(length)
    if x.ndim != 2 or len(x) < length:
        raise ValueError(f"x of shape {x.shape} has no window of {length} rows")
    return np.lib.stride_tricks.sliding_window_view(x, length, axis=0).swapaxes(1, 2)


def take_windows(x: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """Return a copy of the windows that end at given rows.

    Parameters
    ----------
    x : numpy.ndarray of shape (n, n_features)
        Rows in order.
    ends : numpy.ndarray of shape (n_windows,), integer
        Last rows, length - 1 to n - 1, in any order.
    length : int
        Rows of a window.

    Returns
    -------
    numpy.ndarray of shape (n_windows, length, n_features)
        Of the type of `x`.

    Raises
    ------
    ValueError
        If a window would reach over either end of `x`.
    """
    ends = np.asarray(ends)
    outside = ends[(ends < length - 1) | (ends >= len(x))]
    if outside.size:
        raise ValueError(f"no window of {length} rows ends at row {outside[0]} of {len(x)}")
    return windows_view(x, length)[ends - (length - 1)]


class WindowBatches:
    """Batches of windows with the targets of their last rows, shuffled anew in every epoch.

    Batch k of an epoch is ``batches[k]``, a tuple ``(x, y)`` or, with weights, ``(x, y, weights)``
    of shapes (size, length, n_features), (size,) and (size,), float32; the last batch of an epoch
    may be smaller. Nothing but the batch is copied. The order depends on `seed` and the number of
    the epoch alone: training that resumes at an epoch sees what it would have seen.

    Parameters
    ----------
    x : numpy.ndarray of shape (n, n_features), float32
        Features of every row.
    y : numpy.ndarray of shape (n,), float32
        Targets of every row; NaN where no window ends.
    ends : numpy.ndarray of shape (n_windows,), integer
        Last rows of the windows, from `window_ends`.
    length : int
        Rows of a window.
    batch_size : int
        Windows of a batch, at least 1.
    weights : numpy.ndarray of shape (n,), float32, optional
        Weights of every row.
    shuffle : bool, default True
        Whether windows come in random order; else in that of `ends`.
    seed : int, default 0
        Of the order.

    Raises
    ------
    ValueError
        If an array is not float32 or has another number of rows than `x`, there is no window, a
        window reaches over an end of `x`, or a value of a window, its target or its weight is
        not finite.
    """

    changes = ()  # epochs whose batches have another shape than those before: none

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        ends: np.ndarray,
        *,
        length: int,
        batch_size: int,
        weights: np.ndarray | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        rows = {"y": y} if weights is None else {"y": y, "weights": weights}
        _require_arrays(x, rows, np.asarray(ends), length)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: a batch has at least one window")
        self.x, self.rows = x, tuple(rows.values())
        self.ends, self.length, self.batch_size = np.asarray(ends), length, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.begin_epoch(0)

    @property
    def n_items(self) -> int:
        """How many windows an epoch shows."""
        return len(self.ends)

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return -(-len(self.ends) // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, ...]:
        """Return a batch of this epoch."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        ends = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return (take_windows(self.x, ends, self.length), *(values[ends] for values in self.rows))

    def begin_epoch(self, epoch: int) -> None:
        """Put the windows in the order of an epoch, counted from 0."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(self.ends) if self.shuffle else self.ends

    def digest(self) -> str:
        """Return a digest of everything that decides what the batches are."""
        options = [self.length, self.batch_size, self.shuffle, self.seed]
        made = hashlib.sha256(repr([*options, self.x.shape]).encode())
        for array in (self.x, *self.rows, self.ends):
            made.update(np.ascontiguousarray(array))
        return made.hexdigest()


def _require_arrays(
    x: np.ndarray, rows: dict[str, np.ndarray], ends: np.ndarray, length: int
) -> None:
    """Refuse arrays of which windows cannot be fed to a model."""
    for name, values in {"x": x, **rows}.items():
        if values.dtype != np.float32:
            raise ValueError(f"{name} is {values.dtype}, not float32: convert it once, before")
        if len(values) != len(x):
            raise ValueError(f"{name} has {len(values)} rows, x has {len(x)}")
    if not len(ends):
        raise ValueError(f"there is no window of {length} rows: give longer days or a lower length")
    finite = np.isfinite(x.sum(axis=1, dtype=np.float64))
    possible = np.zeros(len(x) + 1, dtype=bool)
    possible[window_ends(np.zeros(len(x), dtype=np.int8), length, finite)] = True
    wrong = ends[~possible[np.clip(ends, -1, len(x))]]  # the last element is for all outside
    if wrong.size:
        raise ValueError(
            f"the window of {length} rows that ends at row {wrong[0]} of {len(x)} reaches over an "
            "end or has a value that is not finite: take the ends from window_ends"
        )
    for name, values in rows.items():
        wrong = ends[~np.isfinite(values[ends])]
        if wrong.size:
            raise ValueError(f"{name} is {values[wrong[0]]} at row {wrong[0]}, where a window ends")


def _require_length(length: int) -> None:
    """Refuse a window without rows."""
    if length < 1:
        raise ValueError(f"length is {length}: a window has at least one row")
