"""The lakehouse through Airflow on a landing zone: who is told, what is kept, what is stopped."""

import json
from types import SimpleNamespace

from lib import judged, tracking
from lib.catalogs import load_table, open_catalog, snapshot_of
from lib.frames import frame_digest
from lib.ground.handover import TAKEN
from lib.lakehouse import landing, tables
from lib.pipelines import lakehouse
from lib.power.load import load_power
from lib.power.sample import sample_power
from lib.registry import lifecycle
from lib.tick.sample import sample_days

import numpy as np
import pandas as pd
import pytest
from lake_files import HEADER
from serving import ask, refusal, served, split_of
from whole_runs import asset_events, errors, go, impatient, prepare, report

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
SMALL = {
    "min_days": 8,
    "test_fraction": 0.2,
    "n_trees": 20,
    "n_resamples": 200,
    "max_rmse_vs_yesterday": 2.0,
    "max_rmse_vs_week_mean": 2.0,
    "model_name": "peak_of_files",
}
MORE = {"max_refused": 0.3}
ZONE = "Europe/Paris"


def head_of(name):
    return tables.head(open_catalog("lake").load_table(name))


def drafts_of(name):
    refs = open_catalog("lake").load_table(name).refs()
    return [ref for ref in refs if ref.startswith(tables.DRAFT)]


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    """Two deliveries of files, below a DATA_DIR of their own."""
    folder = tmp_path_factory.mktemp("data")
    house = sample_power(80, start=lakehouse.START, seed=0)
    landing.make_sample(folder / "landing", house, sample_days(2, n_ticks=200, seed=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(folder))
        prepare()
        yield folder / "landing"


@pytest.fixture(scope="module")
def first(zones):
    return go(impatient("lakehouse"), source="landing/1", **SMALL)


@pytest.fixture(scope="module")
def second(first, zones):
    """After a run on files of which too much is refused, one on all that has landed by then."""
    before = {name: head_of(name) for name in ("power.silver", "power.hourly")}
    bad = zones / "2" / "power" / "bad.txt"
    bad.write_text("\n".join([HEADER, *["x;y;z"] * 800]) + "\n")
    failed = go(impatient("lakehouse"), source="landing/2", **SMALL)
    drafts = drafts_of("power.quarantine")
    after = {name: head_of(name) for name in before}
    made = go(impatient("lakehouse"), source="landing/2", **SMALL, **MORE)
    return SimpleNamespace(failed=failed, drafts=drafts, before=before, after=after, made=made)


def test_pipelines_that_read_gold_are_told_and_read_what_was_checked(first):
    done, _, run = first
    assert done.state == "success", [errors(run, stage) for stage in run.records()]
    told = {name: extra["run_dir"] for name, extra in asset_events(done)}
    assert told == dict.fromkeys(("data/power", "data/tick", "models/lakehouse"), run.run_dir)
    hours = load_power("iceberg:lake.power.hourly", time_zone=ZONE, resolution="hour")
    assert len(hours) > 24 * 70


def test_version_is_tagged_on_the_snapshot_that_it_learned_from(first, second):
    for (_, _, run), number in ((first, 1), (second.made, 2)):
        registered = run.read("registration.json")
        assert (registered["name"], registered["version"]) == ("peak_of_files", number)
        table = open_catalog("lake").load_table("power.hourly")
        snapshot = snapshot_of(table, f"peak_of_files-{number}")
        assert snapshot == run.read("snapshots.json")["power.hourly"]
        assert str(snapshot) == run.read("dataset.json")["as_of"]
    assert lifecycle.version("peak_of_files", 2).tags["run_dir"] == second.made[2].run_dir


def test_version_answers_as_evaluated_where_the_project_is_not(first, tmp_path):
    run = first[2]
    frame, _ = judged.read(run)
    hours = run.read("hourly.parquet")[["ts", "power_kw"]]
    known = {"MLFLOW_TRACKING_URI": tracking.tracking_uri()}
    with served("models:/peak_of_files/1", tmp_path, **known) as client:
        status, text = ask(client, split_of(hours))
        assert status == 200, text[-2000:]
        wrong = refusal(client, split_of(hours.iloc[::-1]))
    found = pd.DataFrame(json.loads(text)["predictions"]).set_index("day")["peak_kw"]
    found.index = judged.time_keys(pd.DatetimeIndex(pd.to_datetime(found.index)))
    np.testing.assert_allclose(found.reindex(frame.index), judged.values(frame), rtol=1e-6)
    assert "sort" in wrong


def test_reader_of_gold_sees_nothing_of_a_run_that_fails_its_audit(second):
    done, tasks, run = second.failed
    assert (done.state, asset_events(done)) == ("failed", [])
    assert tasks["01_bronze"].state == "success" and tasks["02_silver"].state == "failed"
    assert second.after == second.before
    assert "800 of" in report(run, "02_silver")[1] and "draft-" in report(run, "02_silver")[1]
    (draft,) = second.drafts
    table, snapshot = load_table(f"lake.power.quarantine@{draft}")
    refused = tables.scan(table, at=snapshot)
    assert (refused["text"] == "x;y;z").sum() == 800, "what was refused can be looked at"


def test_run_in_which_nothing_landed_is_taken_as_a_whole(second):
    done, _, run = go(impatient("lakehouse"), source="landing/2", force=False, **SMALL, **MORE)
    assert done.state == "success" and [*run.records()] == [*second.made[2].records()]
    assert all(TAKEN in record for record in run.records().values())
    assert asset_events(done) == []


def test_upkeep_leaves_what_a_version_has_learned_from(first, second):
    before = len(open_catalog("lake").load_table("power.silver").snapshots())
    assert drafts_of("power.quarantine") == second.drafts
    done, _, run = go(impatient("maintenance"), source="lake", days=0, apply=True)
    assert done.state == "success" and drafts_of("power.quarantine") == []
    told = run.read("tidied.json")
    assert told["power.quarantine"]["drafts"] == 1
    assert len(open_catalog("lake").load_table("power.silver").snapshots()) < before
    for one, number in ((first, 1), (second.made, 2)):
        hours, _ = lakehouse.read_hours(open_catalog("lake"), ZONE, f"peak_of_files-{number}")
        assert frame_digest(hours) == one[2].read("dataset.json")["digest"]
    assert told["power.hourly"]["snapshots"] - told["power.hourly"]["expired"] >= 2
