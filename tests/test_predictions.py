"""The store of predictions: no row is scored twice, whatever is cut off, repeated or at once."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from threading import Thread
from types import SimpleNamespace

from lib import tracking
from lib.pages.summary import list_runs
from lib.registry import predictions
from lib.registry.predictions import Served, Store, score
from lib.run import ROOT, open_run, outputs_dir

import numpy as np
import pandas as pd
import pytest
from upath import UPath

SPEC = {
    "step_s": 3600.0,
    "needed_rows": 3,
    "options": {"horizon": 2, "min_voltage_v": 207.0},
}


class MeanOfThree:
    """A forecaster that says the mean of the last three rows, NaN where there are fewer."""

    def __init__(self):
        self.sizes = []

    def unwrap_python_model(self):
        return SimpleNamespace(spec=SPEC)

    def predict(self, frame):
        self.sizes.append(len(frame))
        power_kw = frame["power_kw"].rolling(3).mean()
        return pd.DataFrame({"ts": frame["ts"] + pd.Timedelta(hours=2), "power_kw": power_kw})


def house(n_rows, first=0):
    index = pd.date_range("2026-01-01", periods=first + n_rows, freq="h", name="ts")[first:]
    columns = ["reactive_power_kvar", "voltage_v", "current_a"]
    columns += [f"sub_metering_{k}_wh" for k in (1, 2, 3)]
    values = np.arange(first, first + n_rows, dtype=float)
    return pd.DataFrame({"power_kw": values, **dict.fromkeys(columns, 230.0)}, index)


def serving(until="2026-01-01T09:00:00", version=1):
    return Served("house", version, "power", MeanOfThree(), "power/a", "x", until, {}, {})


def rows_of(raw, served, since=""):
    return predictions.power_rows(served, raw, {"source": "x"}, since=since)


@pytest.fixture
def store(tmp_path):
    return Store(UPath(tmp_path / "house"))


def test_rows_after_training_are_scored_with_the_history_they_need(store):
    served = serving()
    counts = score(served, rows_of(house(20), served), store, run_dir="score/a", batch_rows=5)
    assert counts == {"n_rows": 12, "n_known": 0, "n_scored": 12, "n_without": 0}
    found = Store(store.path).read()
    assert list(found.index[[0, -1]]) == ["2026-01-01T10:00:00", "2026-01-01T21:00:00"]
    assert found["power_kw"].tolist() == [k - 1.0 for k in range(8, 20)]
    assert served.model.sizes == [7, 7, 4]
    assert set(found["version"]) == {1} and set(found["run_dir"]) == {"score/a"}
    assert store.parts() == [f"part-{k:06d}.parquet" for k in (1, 2, 3)]


def test_the_same_and_overlapping_files_add_only_what_is_new(store):
    served = serving()
    raw = house(20)
    score(served, rows_of(raw, served), store, run_dir="score/a", batch_rows=100)
    again = score(served, rows_of(raw, served), store, run_dir="score/b", batch_rows=3)
    assert again == {"n_rows": 12, "n_known": 12, "n_scored": 0, "n_without": 0}
    later = rows_of(house(20, first=10), served)
    assert score(served, later, store, run_dir="score/b", batch_rows=3)["n_scored"] == 10
    assert store.keys().is_unique and len(store.keys()) == 22
    assert len(store.read("score/a")) == 12 and len(store.read("score/b")) == 10


def test_another_version_leaves_what_was_predicted(store):
    raw = house(20)
    score(serving(), rows_of(raw, serving()), store, run_dir="score/a", batch_rows=9)
    newer = serving(version=2)
    score(newer, rows_of(house(22), newer), store, run_dir="score/b", batch_rows=9)
    assert store.read()["version"].value_counts().to_dict() == {1: 12, 2: 2}


def test_row_without_a_forecast_is_tried_again_when_its_history_is_there(store):
    served = serving()
    gap = house(20)
    gap.iloc[15] = np.nan
    first = score(served, rows_of(gap, served), store, run_dir="score/a", batch_rows=100)
    assert (first["n_scored"], first["n_without"]) == (9, 3)
    then = score(served, rows_of(house(20), served), store, run_dir="score/b", batch_rows=100)
    assert (then["n_scored"], then["n_without"]) == (3, 0)


def test_rows_not_measured_yet_wait(store):
    served = serving()
    raw = house(20)
    raw.iloc[-4:] = np.nan
    assert len(rows_of(raw, served).keys) == 8


def test_since_can_only_narrow_what_is_new():
    served = serving()
    assert rows_of(house(20), served, since="2026-01-01T19:00").keys[0] == "2026-01-01T20:00:00"
    assert len(rows_of(house(20), served, since="2025-01-01").keys) == 12
    with pytest.raises(ValueError, match="does not say until when it has learned: give `since`"):
        rows_of(house(20), serving(until=""))


@pytest.mark.slow
def test_killed_run_goes_on_after_its_last_whole_part(store):
    """The process dies without a word in its third part, half a file already written."""
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from pathlib import Path
        from test_predictions import Store, UPath, house, rows_of, score, serving
        write, calls = Path.write_bytes, []
        def cut_off(path, data):
            calls.append(path)
            if len(calls) == 3:
                write(path, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(path, data)
        Path.write_bytes = cut_off
        served = serving()
        store = Store(UPath({str(store.path)!r}))
        score(served, rows_of(house(20), served), store, run_dir="score/a", batch_rows=3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(store.keys()) == 6 and len(list(store.path.iterdir())) == 3
    served = serving()
    counts = score(served, rows_of(house(20), served), store, run_dir="score/a", batch_rows=3)
    assert (counts["n_known"], counts["n_scored"]) == (6, 6)
    assert len(store.read("score/a")) == 12 and store.keys().is_unique


def test_two_writers_without_a_lock_never_double_a_row(store, monkeypatch):
    """The second writes between the first one's look at the store and its own part."""
    monkeypatch.setattr(tracking, "locked", lambda name: nullcontext())
    served, create = serving(), predictions._create
    pending = [rows_of(house(17), served)]

    def interrupted(path, data):
        if pending:
            other = Store(store.path)
            score(served, pending.pop(), other, run_dir="score/b", batch_rows=4)
        return create(path, data)

    monkeypatch.setattr(predictions, "_create", interrupted)
    counts = score(served, rows_of(house(20), served), store, run_dir="score/a", batch_rows=5)
    assert counts["n_scored"] == 3
    assert store.keys().is_unique and len(store.keys()) == 12
    assert len(store.read("score/b")) == 9


@pytest.mark.slow
def test_many_writers_at_once_share_the_rows(store, monkeypatch):
    monkeypatch.setattr(tracking, "locked", lambda name: nullcontext())
    served, counts = serving(), []

    def work(k):
        rows = rows_of(house(40 + k), served)
        own = Store(store.path)
        counts.append(score(served, rows, own, run_dir=f"score/{k}", batch_rows=2 + k))

    threads = [Thread(target=work, args=(k,)) for k in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert store.keys().is_unique and len(store.keys()) == 37
    assert sum(one["n_scored"] for one in counts) == 37
    assert {path.name for path in store.path.iterdir()} == set(store.parts())


def test_store_works_on_object_storage(bucket):
    path = UPath(f"s3://{bucket}/runs/score/store/house", use_listings_cache=False)
    served = serving()
    for n_rows in (20, 22):
        score(served, rows_of(house(n_rows), served), Store(path), run_dir="score/a", batch_rows=7)
    assert Store(path).keys().is_unique and len(Store(path).keys()) == 14
    taken = path / Store(path).parts()[0]
    assert not predictions._create(taken, b"other") and taken.read_bytes() != b"other"


def test_live_joins_what_was_predicted_with_what_came(store):
    served = serving()
    score(served, rows_of(house(20), served), store, run_dir="score/a", batch_rows=9)
    assert len(predictions.live(served, rows_of(house(20), served), store)) == 10
    later = predictions.live(served, rows_of(house(30), served), store)
    assert len(later) == 12
    assert (later["truth"] - later["predicted"]).eq(3).all()  # two rows ahead, mean of three


def test_keys_of_equal_times_are_told_apart():
    times = pd.DatetimeIndex(["2026-01-01 10:00:00.25"] * 3 + ["2026-01-02"], tz="UTC")
    assert predictions._time_keys(times).tolist() == [
        "2026-01-01T10:00:00.250000",
        "2026-01-01T10:00:00.250000/1",
        "2026-01-01T10:00:00.250000/2",
        "2026-01-02T00:00:00",
    ]


def test_image_is_known_by_its_pixels_wherever_it_stands(monkeypatch):
    from lib.images import load as images

    served = Served("digits", 1, "mnist", MeanOfThree(), "mnist/a", "sample", "", {}, {})
    rows = predictions.load_rows(served, "sample", seed=0)
    made = images.load_images("mnist", "sample", seed=0)
    turned = images.ImageSet(
        made.x_train, made.y_train, made.x_test[::-1], made.y_test[::-1], made.classes
    )
    monkeypatch.setattr(images, "load_images", lambda *args, **kwargs: turned)
    again = predictions.load_rows(served, "sample", seed=0)
    assert again.keys.equals(rows.keys) and again.truth.equals(rows.truth)
    assert np.array_equal(again.inputs, rows.inputs)


def test_store_is_no_run_and_outlives_them(tmp_path, monkeypatch):
    from lib.commands import prune

    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("score/old", stage="01_score")
    run.finish()
    served = serving()
    kept = predictions.store_of(served, run)
    score(served, rows_of(house(20), served), kept, run_dir=run.run_dir, batch_rows=5)
    assert [one.run_dir for one in list_runs()] == ["score/old"]
    found = [prune.look(one, set(), set(), set()) for one in list_runs()]
    assert len(prune.decide(found, 0, datetime.now(UTC) + timedelta(days=1))) == 1
    prune.delete(run, SimpleNamespace())
    assert not run.path.exists()
    assert len(Store(outputs_dir() / "score" / "store" / "house").keys()) == 12


def test_sample_has_a_store_of_its_own_that_begins_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("score/dev", stage="01_score")
    made = SimpleNamespace(name=predictions.SAMPLE)
    store = predictions.store_of(made, run)
    store.append(pd.DataFrame({"key": ["a"], "run_dir": ["score/dev"]}))
    assert len(store.keys()) == 1 and not predictions.store_of(made, run).parts()
    assert os.path.commonpath([store.path.path, run.scratch]) == str(run.scratch)
