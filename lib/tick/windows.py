"""Windows of rows for sequence models, gathered batch by batch: nothing is copied before its turn.

A window is named by its last row. `window_ends` says which rows can be one, `take_windows` copies
those of a batch from an array that stays as it is, and `WindowBatches` does so in shuffled order.
"""

import hashlib

import numpy as np


def window_ends(days: np.ndarray, length: int, complete: np.ndarray) -> np.ndarray:
    """Return the rows at which a window of `length` rows of one day ends.

    Parameters
    ----------
    days : numpy.ndarray of shape (n,)
        The day of every row, of any type; the rows of a day stand together.
    length : int
        Rows of a window, at least 1.
    complete : numpy.ndarray of shape (n,), bool
        Rows that may be part of a window.

    Returns
    -------
    numpy.ndarray of shape (n_windows,), int64
        Increasing. Rows t - length + 1 to t are of one day and complete.
    """
    days = np.asarray(days)
    rows = np.arange(len(days))
    first = np.zeros(len(days), dtype=np.int64)  # of the rows that a window may hold
    first[1:] = np.where(days[1:] != days[:-1], rows[1:], 0)
    first = np.where(complete, first, rows + 1)
    return np.flatnonzero(rows - np.maximum.accumulate(first) + 1 >= length)


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
    view = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)
    return view.swapaxes(1, 2)[ends - (length - 1)]


class WindowBatches:
    """Batches of windows with the targets of their last rows, shuffled anew in every epoch.

    Batch k of an epoch is ``batches[k]``, a tuple ``(x, y)`` of shapes (size, length, n_features)
    and (size,), float32; the last batch of an epoch may be smaller. Nothing but the batch is
    copied. The order depends on `seed` and the number of the epoch alone: training that resumes at
    an epoch sees what it would have seen.

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
    seed : int, default 0
        Of the order.

    Raises
    ------
    ValueError
        If there is no window.
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
        seed: int = 0,
    ) -> None:
        if not len(ends):
            raise ValueError(
                f"there is no window of {length} rows: give longer days or a lower length"
            )
        self.x, self.y, self.ends = x, y, ends
        self.length, self.batch_size, self.seed = length, batch_size, seed
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
        return take_windows(self.x, ends, self.length), self.y[ends]

    def begin_epoch(self, epoch: int) -> None:
        """Put the windows in the order of an epoch, counted from 0."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(self.ends)

    def digest(self) -> str:
        """Return a digest of everything that decides what the batches are."""
        options = [self.length, self.batch_size, self.seed, self.x.shape]
        made = hashlib.sha256(repr(options).encode())
        for array in (self.x, self.y, self.ends):
            made.update(np.ascontiguousarray(array))
        return made.hexdigest()
