"""What an evaluate stage leaves behind: it comes back as it was, and what does not fit is said."""

from lib import judged
from lib.run import open_run

import numpy as np
import pandas as pd
import pytest

HOURS = pd.date_range("2010-01-01", periods=4, freq="h")
FRAME = pd.DataFrame({"truth": [1.0, 2, 3, 4], "model": [1.5, 2, 3, 4], "naive": 0.0}, HOURS)
FACTS = {"kind": "regression", "metric": "rmse"}
IMAGES = pd.DataFrame({"truth": [0, 1], "model": [[0.9, 0.1], [0.2, 0.8]]}, ["a", "b"])
CLASSES = {"kind": "classification", "metric": "accuracy", "classes": ["cat", "dog"]}


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    return open_run("wine/dev", stage="03_evaluate")


def test_rows_and_facts_come_back(run):
    place = {"file": "raw.parquet"}
    options = {"run_dir": "wine/dev", "source": "x.csv", "seed": 3}
    more = {"unit": "kW", "quantity": "power", "learned_until": "2009-12-31T23:00:00"}
    judged.write(run, FRAME, **FACTS, **more, task={"horizon": 1}, inputs=place, options=options)
    run.finish()
    frame, facts = judged.read(open_run("wine/dev"))
    assert frame.index.tolist() == [f"2010-01-01T0{hour}:00:00" for hour in range(4)]
    assert judged.baselines(frame) == ["naive"]
    np.testing.assert_array_equal(judged.values(frame), FRAME["model"])
    assert facts == FACTS | more | {
        "greater_is_better": False,
        "block_length": 1,
        "classes": [],
        "task": {"horizon": 1},
        "inputs": place,
        "options": {"seed": 3},
    }


def test_probabilities_come_back_as_an_array(run):
    judged.write(run, IMAGES, **CLASSES)
    run.finish()
    frame, _ = judged.read(open_run("wine/dev"))
    np.testing.assert_array_equal(judged.values(frame), [[0.9, 0.1], [0.2, 0.8]])
    assert frame["truth"].tolist() == [0, 1] and frame["truth"].dtype == np.int64


def test_blocks_are_never_longer_than_a_group(run):
    grouped = FRAME.assign(group=["1", "2", "2", "2"])
    judged.write(run, grouped, kind="ranking", metric="rank_ic", block_length=3)
    assert judged.read(run)[1]["block_length"] == 1
    judged.write(run, FRAME, **FACTS, block_length=100)
    assert judged.read(run)[1]["block_length"] == 4


@pytest.mark.parametrize(
    ("frame", "change", "message"),
    [
        (FRAME, {"kind": "regresion"}, r"'regresion' is no kind of task \(did you mean regression"),
        (FRAME, {"metric": "r2"}, "'r2' cannot decide between two models of a regression: give rm"),
        (FRAME.drop(columns="model"), {}, "no column 'model'"),
        (FRAME.iloc[:0], {}, "no row was judged"),
        (FRAME.assign(naive=[0, 0, np.nan, 0]), {}, "'naive' has no value at 2010-01-01T02:00:00"),
        (FRAME.set_axis(HOURS[[0, 1, 1, 2]]), {}, "2010-01-01 01:00:00 stands for two rows"),
        (FRAME, {"block_length": 0}, "block_length=0"),
        (
            IMAGES,
            CLASSES | {"classes": ["cat"]},
            "does not fit: 2 probabilities for 1 classes",
        ),
        (
            IMAGES.assign(truth=[0, 2]),
            CLASSES,
            "fit: y_true is 2 at row 1: .* from 0",
        ),
        (
            IMAGES.assign(model=[[0.9, 0.9], [0, 1]]),
            CLASSES,
            "fit: probabilities are .0.9 0.9. at row 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run, frame, change, message):
    with pytest.raises(ValueError, match=message):
        judged.write(run, frame, **FACTS | change)


def test_unknown_kind_in_a_file_is_an_error_that_names_it(run):
    judged.write(run, FRAME, **FACTS)
    run.write("test.json", run.read("test.json") | {"kind": "clustering"})
    with pytest.raises(ValueError, match="'clustering' is no kind of task"):
        judged.read(run)


def test_equal_times_get_numbers_and_are_times_again():
    index = pd.DatetimeIndex(["2013-10-07 13:30:05.250", *["2013-10-07 13:30:06"] * 2], tz="UTC")
    keys = judged.time_keys(index)
    assert keys.tolist() == [
        "2013-10-07T13:30:05.250000",
        "2013-10-07T13:30:06",
        "2013-10-07T13:30:06/1",
    ]
    assert judged.times(keys).tolist() == index.tz_localize(None).tolist()
    assert judged.times(pd.Index(["2013", "7"])) is None
    assert judged.times(keys[:0]) is None
