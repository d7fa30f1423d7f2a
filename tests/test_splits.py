"""Cuts in time against a loop over the spans of all rows, and blind to what comes later."""

from itertools import pairwise

from lib.splits import Fold, last_days, rows_before, time_folds, time_split, walk_forward

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def labels(*lengths: int) -> np.ndarray:
    return np.repeat([f"2013-10-{k + 1:02d}" for k in range(len(lengths))], lengths)


def test_folds_of_three_days_worked_by_hand():
    # day 2 is rows 10 to 19, day 3 rows 20 to 29; a window of 3 begins 2 rows before them, at 8
    # and 18, and a target 2 rows ahead of row 5 is row 7, the last that is free
    first, second = walk_forward(labels(10, 10, 10), n_folds=2, window=3, horizon=2)
    assert (first.train, first.valid) == (slice(0, 6), slice(10, 20))
    assert (second.train, second.valid) == (slice(0, 16), slice(20, 30))


def test_embargo_leaves_out_so_many_rows_more():
    (fold,) = walk_forward(labels(10, 10), n_folds=1, window=3, horizon=2, embargo=4)
    assert fold.train == slice(0, 2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    window=st.integers(1, 8),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 6),
    data=st.data(),
)
def test_training_rows_are_all_that_know_no_row_of_what_is_judged(
    lengths, window, horizon, embargo, data
):
    days = labels(*lengths)
    n_folds = data.draw(st.integers(1, len(lengths) - 1))
    span = [set(range(t - window + 1, t + horizon + 1)) for t in range(len(days))]
    expected = []
    for day in dict.fromkeys(days[::-1]):
        valid = np.flatnonzero(days == day)
        judged = set.union(*(span[t] for t in valid))
        free = [t for t in range(valid[0]) if not judged & span[t]]
        expected.append((free[: max(len(free) - embargo, 0)], list(valid)))
    expected = expected[:n_folds][::-1]
    rows = np.arange(len(days))
    if all(train for train, _ in expected):
        folds = walk_forward(days, n_folds=n_folds, window=window, horizon=horizon, embargo=embargo)
        assert [(list(rows[f.train]), list(rows[f.valid])) for f in folds] == expected
    else:
        with pytest.raises(ValueError, match="no row is left to train on"):
            walk_forward(days, n_folds=n_folds, window=window, horizon=horizon, embargo=embargo)


def test_days_that_come_later_change_no_earlier_cut():
    options = {"window": 5, "horizon": 2, "embargo": 3}
    early = walk_forward(labels(20, 20, 20), n_folds=2, **options)
    late = walk_forward(labels(20, 20, 20, 7, 31), n_folds=4, **options)
    assert late[:2] == early


def test_training_grows_and_ends_before_what_it_is_judged_on():
    folds = walk_forward(labels(*[50] * 6), n_folds=4, window=10, horizon=1)
    stops = [fold.train.stop for fold in folds]
    assert stops == sorted(set(stops))
    assert all(fold.train.stop + 10 == fold.valid.start for fold in folds)


def test_test_days_and_the_rows_before_them_share_nothing():
    days = labels(30, 30, 30, 30)
    test = last_days(days, 2)
    assert test.tolist() == [False] * 60 + [True] * 60
    first = int(np.argmax(test))
    assert rows_before(first, window=12, horizon=3) == slice(0, 60 - 11 - 3)


@pytest.mark.parametrize(
    ("days", "n_folds", "message"),
    [
        (["2013-10-07"] * 9, 1, "1 day.*label bars without sessions"),
        (labels(3, 3), 2, "n_folds=2 must be from 1"),
        (labels(3, 3), 0, "n_folds=0 must be from 1"),
        (["a", "b", "a"], 1, "row 2: day a begins again"),
        ([], 1, "one label for each row"),
    ],
)
def test_days_that_cannot_be_cut_are_refused(days, n_folds, message):
    with pytest.raises(ValueError, match=message):
        walk_forward(days, n_folds=n_folds, window=1, horizon=1)


@pytest.mark.parametrize("n_days", [0, 3, 4])
def test_test_needs_a_day_and_must_leave_one(n_days):
    with pytest.raises(ValueError, match=f"n_days={n_days} must be from 1"):
        last_days(labels(4, 4, 4), n_days)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0, "horizon": 1}, "window=0"),
        ({"window": 1, "horizon": 0}, "horizon=0"),
        ({"window": 1, "horizon": 1, "embargo": -1}, "embargo=-1"),
        ({"window": 60, "horizon": 1, "embargo": 40}, "leave out the last 100 of them"),
    ],
)
def test_purging_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rows_before(100, **options)


def test_folds_in_order_of_time_of_a_case_worked_by_hand():
    assert time_folds(20, 2, 3) == [
        Fold(slice(0, 7), slice(10, 15)),
        Fold(slice(0, 12), slice(15, 20)),
    ]


@pytest.mark.parametrize(("n_rows", "n_folds", "horizon"), [(100, 1, 1), (101, 7, 24), (999, 5, 9)])
def test_no_target_of_a_training_row_lies_in_or_after_its_block(n_rows, n_folds, horizon):
    cuts = time_folds(n_rows, n_folds, horizon)
    assert cuts[-1].valid.stop == n_rows
    for before, after in pairwise(cuts):
        assert before.valid.stop == after.valid.start
    for train, valid in cuts:
        last_row = train.stop - 1
        assert 0 <= train.start < train.stop
        assert last_row + horizon == valid.start - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_folds": 0}, "n_folds=0"),
        ({"horizon": 50}, "100 rows are too few for 3 folds with horizon 50"),
        ({"horizon": 0}, "horizon=0"),
        ({"n_rows": 4, "n_folds": 3}, "4 rows are too few for 3 folds"),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        time_folds(**({"n_rows": 100, "n_folds": 3, "horizon": 1} | options))


def test_split_leaves_out_the_rows_whose_targets_lie_beyond_a_border():
    index = pd.date_range("2024-01-01", periods=100, freq="h")
    parts = time_split(index, valid_fraction=0.1, test_fraction=0.2, horizon=3)
    assert parts == {"train": slice(0, 67), "valid": slice(70, 77), "test": slice(80, 100)}


@pytest.mark.parametrize("horizon", [1, 7])
def test_no_part_has_a_target_of_a_later_part(horizon):
    index = pd.date_range("2024-01-01", periods=203, freq="h")
    parts = time_split(index, valid_fraction=0.15, test_fraction=0.25, horizon=horizon)
    rows = [set(range(203)[part]) for part in parts.values()]
    targets = [{row + horizon for row in part} for part in rows]
    assert not targets[0] & (rows[1] | rows[2] | targets[1] | targets[2])
    assert not targets[1] & (rows[2] | targets[2])


@pytest.mark.parametrize(
    ("valid", "test", "horizon", "message"),
    [
        (0.0, 0.2, 1, "nothing for the part 'valid'"),
        (0.5, 0.5, 1, "nothing for the part 'train'"),
        (0.1, 0.1, 11, "nothing for the part 'valid'"),
        (0.01, 0.2, 1, "nothing for the part 'valid'"),
    ],
)
def test_split_that_leaves_a_part_empty_is_refused(valid, test, horizon, message):
    index = pd.date_range("2024-01-01", periods=100, freq="h")
    with pytest.raises(ValueError, match=message):
        time_split(index, valid_fraction=valid, test_fraction=test, horizon=horizon)


def test_split_of_an_unsorted_index_is_refused():
    index = pd.DatetimeIndex(["2024-01-02", "2024-01-01", "2024-01-03"])
    with pytest.raises(ValueError, match="order of time"):
        time_split(index, valid_fraction=0.3, test_fraction=0.3, horizon=1)
