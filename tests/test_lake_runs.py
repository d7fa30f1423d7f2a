"""The lakehouse pipeline through Airflow, as far as its tables go."""

from lib.lakehouse import tables

import pytest
from lake_files import HOUR, Lake, readings, trades
from whole_runs import asset_events, errors, go, impatient, prepare

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


def test_run_tells_those_who_train_on_gold_that_it_has_changed(tmp_path, monkeypatch):
    prepare()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    lake = Lake(tmp_path / "lake")
    lake.zone = tmp_path / "landing"
    lake.land("power/1.txt", readings(1, HOUR, 1.0) + "x\n")
    lake.land("tick/A/7.csv", trades(7, [10.0, 11.0]))
    done, _, run = go(impatient("lakehouse"), until="03_gold", source="landing")
    assert done.state == "success", "\n".join(errors(run, stage) for stage in run.records())
    assert sorted(name for name, _ in asset_events(done)) == ["data/power", "data/tick"]
    assert run.read("silver.json")["lines"]["power"]["refused"] == 1
    assert run.read("dataset.json")["as_of"] == str(tables.head(lake.table("power.hourly")))
