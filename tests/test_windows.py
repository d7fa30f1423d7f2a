"""Windows against plain loops, nothing copied before its turn, the order of batches."""

import tracemalloc

from lib.tick.windows import WindowBatches, take_windows, window_ends
from lib.training import keras_dataset

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTH = 3


def all_of(n: int) -> np.ndarray:
    return np.ones(n, dtype=bool)


def rows_of(n: int, n_features: int = 2) -> np.ndarray:
    return np.arange(n * n_features, dtype=np.float32).reshape(n, n_features)


def batches_of(n: int = 50, *, batch_size: int = 7, **options: object) -> WindowBatches:
    ends = window_ends(np.arange(n) // 20, LENGTH, all_of(n))
    y = -np.arange(n, dtype=np.float32)
    return WindowBatches(rows_of(n), y, ends, length=LENGTH, batch_size=batch_size, **options)


def targets(batches: WindowBatches) -> list[float]:
    return np.concatenate([batches[k][1] for k in range(len(batches))]).tolist()


def test_windows_end_where_enough_rows_of_the_day_came_before():
    days = np.array(["a"] * 4 + ["b"] * 2 + ["c"] * 3)
    assert window_ends(days, 3, all_of(9)).tolist() == [2, 3, 8]
    assert window_ends(pd.Series(days), 3, all_of(9)).tolist() == [2, 3, 8]
    assert window_ends(days, 1, all_of(9)).tolist() == list(range(9))
    assert window_ends(days, 5, all_of(9)).tolist() == []
    assert window_ends(days[:0], 3, all_of(0)).tolist() == []


def test_row_that_is_not_complete_is_in_no_window():
    complete = np.array([False, True, True, True, False, True, True, True, True])
    assert window_ends(np.zeros(9), 3, complete).tolist() == [3, 7, 8]


def naive_ends(days: list[int], length: int, complete: list[bool]) -> list[int]:
    found = []
    for end in range(len(days)):
        rows = range(end - length + 1, end + 1)
        if rows[0] >= 0 and all(days[row] == days[end] and complete[row] for row in rows):
            found.append(end)
    return found


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), st.sampled_from([True, True, False]))),
    length=st.integers(1, 6),
)
def test_window_ends_equal_those_of_a_loop(rows, length):
    new_day, complete = ([row[k] for row in rows] for k in (0, 1))
    days = np.cumsum(new_day, dtype=int)
    found = window_ends(days, length, np.array(complete, dtype=bool))
    assert found.dtype == np.int64
    assert found.tolist() == naive_ends(days.tolist(), length, complete)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 30), n_features=st.integers(1, 4), data=st.data())
def test_taken_windows_equal_slices(n, n_features, data):
    length = data.draw(st.integers(1, n))
    ends = data.draw(st.lists(st.integers(length - 1, n - 1), max_size=8))
    x = rows_of(n, n_features)
    taken = take_windows(x, np.array(ends, dtype=np.int64), length)
    assert taken.shape == (len(ends), length, n_features)
    for end, window in zip(ends, taken, strict=True):
        np.testing.assert_array_equal(window, x[end - length + 1 : end + 1])


def test_taken_windows_are_contiguous_copies_of_the_same_type():
    x = rows_of(10)
    taken = take_windows(x, np.array([9, 2]), LENGTH)
    assert taken.dtype == np.float32
    assert taken.flags.c_contiguous
    assert not np.shares_memory(taken, x)


@pytest.mark.parametrize("end", [1, 10, -1])
def test_window_over_the_edge_is_refused(end):
    with pytest.raises(ValueError, match=f"ends at row {end} of 10"):
        take_windows(rows_of(10), np.array([5, end]), LENGTH)


def test_epoch_has_every_window_once_with_the_target_of_its_last_row():
    batches = batches_of()
    assert [len(batches[k][0]) for k in range(len(batches))] == [7] * 6 + [2]
    seen = []
    for k in range(len(batches)):
        x, y = batches[k]
        assert x.dtype == y.dtype == np.float32
        for window, target in zip(x, y, strict=True):
            end = int(-target)
            np.testing.assert_array_equal(window, rows_of(50)[end - LENGTH + 1 : end + 1])
            seen.append(end)
    assert sorted(seen) == batches.ends.tolist()
    assert seen != batches.ends.tolist()


def test_order_is_new_in_every_epoch_and_known_from_seed_and_epoch():
    batches = batches_of()
    first = targets(batches)
    assert targets(batches) == first
    batches.begin_epoch(1)
    second = targets(batches)
    assert second != first
    assert sorted(second) == sorted(first)
    assert targets(batches_of(seed=1)) not in (first, second)
    batches.begin_epoch(0)
    assert targets(batches) == first


def test_iteration_ends_after_the_last_batch():
    assert len(list(batches_of())) == 7


@pytest.mark.slow
def test_batches_hold_no_more_than_the_rows_and_the_order():
    n, length = 100_000, 60
    x, y = rows_of(n, 16), np.zeros(n, dtype=np.float32)
    ends = window_ends(np.zeros(n), length, all_of(n))
    tracemalloc.start()
    batches = WindowBatches(x, y, ends, length=length, batch_size=256)
    for batch in range(len(batches)):
        batches[batch]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.nbytes + peak < len(ends) * length * 16 * 4 / 20


def test_days_shorter_than_a_window_are_refused():
    with pytest.raises(ValueError, match="no window of 3 rows: give longer days"):
        WindowBatches(rows_of(4), np.zeros(4), np.array([]), length=LENGTH, batch_size=4)


@pytest.mark.kernel
def test_keras_trains_on_every_window_in_the_order_of_its_epoch():
    import keras

    class Recorder(keras.Model):
        """Keeps the targets it is trained on."""

        def __init__(self):
            super().__init__()
            self.seen = []
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x[:, -1])

        def train_step(self, data):
            self.seen += data[1].numpy().tolist()
            return super().train_step(data)

    model = Recorder()
    model.compile("sgd", "mse", run_eagerly=True)
    batches = batches_of()
    epochs = []
    for epoch in range(3):
        batches.begin_epoch(epoch)
        epochs += targets(batches)
    n_windows = len(batches.ends)
    in_order = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: batches.begin_epoch(epoch)
    )
    for begin, end in ((0, 2), (2, 3)):  # the second is training that resumes
        model.fit(
            keras_dataset(batches),
            initial_epoch=begin,
            epochs=end,
            shuffle=False,
            verbose=0,
            callbacks=[in_order],
        )
    assert model.seen == epochs

    model.seen = []
    model.fit(keras_dataset(batches), epochs=2, shuffle=False, verbose=0)
    assert sorted(model.seen[:n_windows]) == sorted(model.seen[n_windows:]) == sorted(-batches.ends)
    assert model.seen[:n_windows] != model.seen[n_windows:]
