"""The store of predictions: no row is scored twice, whatever is cut off, repeated or at once."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from types import SimpleNamespace

from lib import tracking
from lib.ground.files import ROOT, outputs_dir
from lib.ground.runs import list_runs
from lib.images.watched import image_keys
from lib.pipelines import power
from lib.registry import standing, store
from lib.registry.rows import Rows
from lib.registry.standing import Version
from lib.registry.store import Store, new_keys
from lib.run import open_run

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
        schema = SimpleNamespace(
            input_names=lambda: ["ts", "power_kw"], has_input_names=lambda: True
        )
        self.metadata = SimpleNamespace(get_output_schema=lambda: schema)

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


TEST = {"kind": "regression", "unit": "kW", "classes": []}


def serving(until="2026-01-01T09:00:00", number=1):
    tags = {"run_dir": "power/a", "source": "x", "learned_until": until}
    version = Version("house", number, tags, TEST)
    vars(version)["model"] = MeanOfThree()
    return version


def rows_of(raw, served):
    return power.rows_of(raw, {"source": "x"}, served.model)


def score(served, rows, store_, *, run_dir, batch_rows):
    keys = new_keys(served, rows)
    return store.score(served, rows, keys, store_, run_dir=run_dir, batch_rows=batch_rows)


@pytest.fixture
def kept(tmp_path):
    return Store(UPath(tmp_path / "house"))


def test_rows_after_training_are_scored_with_the_history_they_need(kept):
    served = serving()
    counts = score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=5)
    assert counts == {"n_rows": 12, "n_known": 0, "n_scored": 12, "n_without": 0}
    found = Store(kept.path).read()
    assert list(found.index[[0, -1]]) == ["2026-01-01T10:00:00", "2026-01-01T21:00:00"]
    assert found["power_kw"].tolist() == [k - 1.0 for k in range(8, 20)]
    assert served.model.sizes == [7, 7, 4]
    assert set(found["version"]) == {1} and set(found["run_dir"]) == {"score/a"}
    assert kept.parts() == [f"part-{k:06d}.parquet" for k in (1, 2, 3)]


@pytest.mark.slow
def test_the_same_and_overlapping_files_add_only_what_is_new(kept):
    served = serving()
    raw = house(20)
    score(served, rows_of(raw, served), kept, run_dir="score/a", batch_rows=100)
    again = score(served, rows_of(raw, served), kept, run_dir="score/b", batch_rows=3)
    assert again == {"n_rows": 12, "n_known": 12, "n_scored": 0, "n_without": 0}
    later = rows_of(house(20, first=10), served)
    assert score(served, later, kept, run_dir="score/b", batch_rows=3)["n_scored"] == 10
    assert kept.keys().is_unique and len(kept.keys()) == 22
    assert len(kept.read("score/a")) == 12 and len(kept.read("score/b")) == 10


def test_rows_of_another_house_are_not_taken_for_those_of_the_same_times(kept):
    def again(raw, source):
        rows = replace(rows_of(raw, served), facts={"source": source})
        return score(served, rows, kept, run_dir="score/b", batch_rows=100)

    served = serving()
    score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=100)
    other = house(30).assign(power_kw=lambda raw: 2 * raw["power_kw"])
    with pytest.raises(ValueError, match=r"of 11 that it was asked about again, 11 have another"):
        again(other, "other.csv")
    mended = house(30)
    mended.iloc[12, 0] = 0.5  # in the history of three rows
    counts = again(mended, "newer.csv")
    assert (counts["n_known"], counts["n_scored"]) == (12, 10)
    assert again(other, "x")["n_known"] == 22, "its own source may be revised"


@pytest.mark.slow
def test_another_version_leaves_what_was_predicted(kept):
    raw = house(20)
    score(serving(), rows_of(raw, serving()), kept, run_dir="score/a", batch_rows=9)
    newer = serving(number=2)
    score(newer, rows_of(house(22), newer), kept, run_dir="score/b", batch_rows=9)
    assert kept.read()["version"].value_counts().to_dict() == {1: 12, 2: 2}


def test_row_without_a_forecast_is_tried_again_when_its_history_is_there(kept):
    served = serving()
    gap = house(20)
    gap.iloc[15] = np.nan
    first = score(served, rows_of(gap, served), kept, run_dir="score/a", batch_rows=100)
    assert (first["n_scored"], first["n_without"]) == (9, 3)
    then = score(served, rows_of(house(20), served), kept, run_dir="score/b", batch_rows=100)
    assert (then["n_scored"], then["n_without"]) == (3, 0)


def test_rows_not_measured_yet_wait(kept):
    served = serving()
    raw = house(20)
    raw.iloc[-4:] = np.nan
    assert len(new_keys(served, rows_of(raw, served))) == 8


def test_since_can_only_narrow_what_is_new():
    served = serving()
    rows = rows_of(house(20), served)
    assert new_keys(served, rows, "2026-01-01T19:00")[0] == "2026-01-01T20:00:00"
    assert len(new_keys(served, rows, "2025-01-01")) == 12
    with pytest.raises(ValueError, match="does not say until when it has learned: give `since`"):
        new_keys(serving(until=""), rows)
    for since in ("03/04/2026", "now", "yesterday"):
        with pytest.raises(ValueError, match=f"since = '{since}' is no time: give one as 2026"):
            new_keys(served, rows, since)
    untimed = replace(rows, keys=pd.Index(["a", "b"]))
    with pytest.raises(ValueError, match="the rows have no time, so since = '2026' says nothing"):
        new_keys(served, untimed, "2026")


@pytest.mark.slow
def test_killed_run_goes_on_after_its_last_whole_part(kept):
    """The process dies without a word in its third part, half a file already written."""
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from pathlib import Path
        from test_store import Store, UPath, house, rows_of, score, serving
        write, calls = Path.write_bytes, []
        def cut_off(path, data):
            calls.append(path)
            if len(calls) == 3:
                write(path, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(path, data)
        Path.write_bytes = cut_off
        served = serving()
        kept = Store(UPath({str(kept.path)!r}))
        score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(kept.keys()) == 6 and len(list(kept.path.iterdir())) == 3
    served = serving()
    counts = score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=3)
    assert (counts["n_known"], counts["n_scored"]) == (6, 6)
    assert len(kept.read("score/a")) == 12 and kept.keys().is_unique


@pytest.mark.slow
def test_two_writers_without_a_lock_never_double_a_row(kept, monkeypatch):
    """The second writes between the first one's look at the store and its own part."""
    monkeypatch.setattr(tracking, "locked", lambda name: nullcontext())
    served, create = serving(), store._create
    pending = [rows_of(house(17), served)]

    def interrupted(path, data):
        if pending:
            other = Store(kept.path)
            score(served, pending.pop(), other, run_dir="score/b", batch_rows=4)
        return create(path, data)

    monkeypatch.setattr(store, "_create", interrupted)
    counts = score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=5)
    assert counts == {"n_rows": 12, "n_known": 9, "n_scored": 3, "n_without": 0}
    assert kept.keys().is_unique and len(kept.keys()) == 12
    assert len(kept.read("score/b")) == 9


@pytest.mark.slow
def test_many_writers_at_once_share_the_rows(kept, monkeypatch):
    monkeypatch.setattr(tracking, "locked", lambda name: nullcontext())
    served, counts = serving(), []

    def work(k):
        rows = rows_of(house(40 + k), served)
        own = Store(kept.path)
        counts.append(score(served, rows, own, run_dir=f"score/{k}", batch_rows=2 + k))

    threads = [Thread(target=work, args=(k,)) for k in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert kept.keys().is_unique and len(kept.keys()) == 37
    assert sum(one["n_scored"] for one in counts) == 37
    assert {path.name for path in kept.path.iterdir()} == set(kept.parts())


@pytest.mark.slow
def test_store_works_on_object_storage(bucket):
    path = UPath(f"s3://{bucket}/runs/score/store/house", use_listings_cache=False)
    served = serving()
    for n_rows in (20, 22):
        score(served, rows_of(house(n_rows), served), Store(path), run_dir="score/a", batch_rows=7)
    assert Store(path).keys().is_unique and len(Store(path).keys()) == 14
    taken = path / Store(path).parts()[0]
    assert not store._create(taken, b"other") and taken.read_bytes() != b"other"


def test_live_joins_what_was_predicted_with_what_came(kept):
    served = serving()
    score(served, rows_of(house(20), served), kept, run_dir="score/a", batch_rows=9)
    found = store.scored(served, rows_of(house(20), served), kept)
    assert len(found) == 12 and found["truth"].notna().sum() == 10
    later = store.scored(served, rows_of(house(30), served), kept)
    assert later["truth"].notna().all() and list(later) == ["truth", "predicted", "version"]
    assert (later["truth"] - later["predicted"]).eq(3).all()  # two rows ahead, mean of three


CLASSES = {"kind": "classification", "unit": "", "classes": ["cat", "sea horse"]}


def test_image_is_known_by_its_pixels_wherever_it_stands():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)
    images[5] = images[0]
    served = replace(serving(until=""), test=CLASSES)
    one, other = (image_keys(part) for part in (images, images[::-1]))
    truth = pd.Series(range(6), one)
    assert new_keys(served, Rows(images, one, truth)).equals(
        new_keys(served, Rows(images[::-1], other, truth))
    )
    assert one[5] == f"{one[0]}/1"


def test_classes_are_kept_by_name_with_the_probability_of_each(kept):
    said = pd.DataFrame({"label": "", "cat": [0.1, 0.8, 0.3], "sea horse": [0.9, 0.2, 0.7]})
    keys = pd.Index(["c", "a", "b"])
    served = replace(serving(until=""), test=CLASSES, tags={"run_dir": "mnist/a"})
    vars(served)["model"] = SimpleNamespace(predict=lambda images: said.iloc[images])
    rows = Rows(np.arange(3), keys, pd.Series([1, 0, 0], keys))
    score(served, rows, kept, run_dir="score/a", batch_rows=2)
    found = kept.read()
    assert found["label"].tolist() == ["cat", "sea horse", "sea horse"]
    assert found["probability_sea_horse"].tolist() == [0.2, 0.7, 0.9]
    live = store.scored(served, rows, kept)
    assert live["truth"].tolist() == ["cat", "cat", "sea horse"]
    assert live["predicted"].tolist() == found["label"].tolist()


def test_version_of_before_its_test_was_kept_is_named(kept):
    old = replace(serving(), test={})
    with pytest.raises(ValueError, match="version 1 of house was registered before versions knew"):
        store.scored(old, rows_of(house(20), serving()), kept_with_a_row(kept))


def kept_with_a_row(kept):
    kept.append(pd.DataFrame({"key": ["a"], "run_dir": ["score/dev"]}))
    return kept


def test_profile_of_a_stage_that_was_taken_is_read_from_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    nothing = SimpleNamespace(list_artifacts=lambda *_: [])
    monkeypatch.setattr(tracking, "open_client", lambda: nothing)
    served = Version("house", 2, {"run_dir": "power/second"}, {}, run_id="b")
    assert store.profile_of(served) == {}
    run = open_run("power/second", stage="02_features")
    run.write("profile.json", {"window_rows": 168})
    run.finish()
    assert store.profile_of(served) == {"window_rows": 168}


def test_store_is_no_run_and_outlives_them(tmp_path, monkeypatch):
    from lib.commands import prune

    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("score/old", stage="01_score")
    run.finish()
    served = serving()
    kept = store.store_of(served, run)
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
    made = SimpleNamespace(name=standing.SAMPLE)
    kept = store.store_of(made, run)
    kept.append(pd.DataFrame({"key": ["a"], "run_dir": ["score/dev"]}))
    assert len(kept.keys()) == 1 and not store.store_of(made, run).parts()
    assert os.path.commonpath([kept.path.path, run.scratch]) == str(run.scratch)
