"""Whole runs through Airflow: what reaches the run folder, MLflow and the registry, and faults.

Every fault must end red, leave a report that says why, register nothing, and be gone when the
run is made again without it.
"""

import json
import os
from pathlib import Path

from lib import judged, tracking
from lib.ground import layout
from lib.ground.files import data_dir, outputs_dir
from lib.ground.runs import run_folder_name
from lib.registry import lifecycle
from lib.registry.standing import standing_of

import mlflow
import pandas as pd
import pytest
from serving import evaluated, executed_here
from whole_runs import (
    asset_events,
    copied,
    impatient,
    mlflow_run,
    prepare,
    register_again,
    report,
    resume,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
HOURLY = data_dir() / "power" / "household_power_hourly.csv.gz"


@pytest.fixture(scope="module", autouse=True)
def airflow():
    prepare()


@pytest.fixture
def power():
    return impatient("power")


def n_versions(name="household_power_lightgbm_sample"):
    return len(tracking.open_client().search_model_versions(f"name = '{name}'"))


def test_command_line_runs_the_sample_and_says_where_everything_is(typed, power_run):
    stages = layout.planned("power")
    assert all(f"{stage} " in typed.stdout for stage in stages)
    assert typed.stdout.count(" ok ") == len(stages) + 1, "the stages, and the promotion"
    assert "verdict  rmse_vs_persistence" in typed.stdout
    assert "promote  promoted: " in typed.stdout, "the first of its name"
    assert os.environ["OUTPUTS_DIR"] in typed.stdout
    name = "power_by_command_sample"
    assert f"{name} version 1, models:/{name}@production" in typed.stdout
    assert "1 of 1 passed" in typed.stdout


def test_sample_run_leaves_folder_mlflow_run_and_a_model_that_serves(power_run):
    run, stages = power_run, layout.planned("power")
    for stage in stages:
        state, page = report(run, stage)
        assert state == "completed"
        assert "<html" in page and 'src="http' not in page
        assert run.record(stage)["state"] == "finished"
    metrics = run.read("metrics.json")
    logged = mlflow_run(run)
    assert logged.info.status == "FINISHED"
    assert {k: logged.data.metrics[k] for k in metrics} == pytest.approx(metrics)
    assert metrics["rmse"] < metrics["persistence_rmse"]
    for stage in stages:
        assert logged.data.metrics[f"{stage}_seconds"] > 0
        assert logged.data.metrics[f"{stage}_peak_memory_mb"] > 50
    assert logged.data.params["source"] == "sample" and "run_dir" not in logged.data.params
    assert run_folder_name(logged.data.tags["airflow_run"]) == run.name
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.digest == run.read("dataset.json")["digest"][:36]
    client = tracking.open_client()
    pages = {f.path for f in client.list_artifacts(logged.info.run_id, "notebooks")}
    assert pages == {f"notebooks/{s}.{e}" for s in stages for e in ("ipynb", "html")}
    assert client.list_artifacts(logged.info.run_id, "figures")
    assert "report.html" in {f.path for f in client.list_artifacts(logged.info.run_id)}
    page = (run.path / "report.html").read_text()
    assert '<section class="verdict passed">' in page and tracking.link(run)["run_id"] in page
    assert f'"power","{run.name}","passed"' in (outputs_dir() / "index.html").read_text()
    version = lifecycle.version("power_by_command_sample", "@staging")
    assert (n_versions("power_by_command_sample"), int(version.version)) == (1, 1)
    assert lifecycle.champion("power_by_command_sample") == 1
    assert version.tags["run_dir"] == run.run_dir


def test_registered_model_forecasts_what_the_notebook_evaluated(power_run):
    run = power_run
    model = mlflow.pyfunc.load_model(run.read("registration.json")["uri"])
    raw = run.read("raw.parquet").reset_index()
    columns = model.metadata.get_input_schema().input_names()
    made = model.predict(raw[columns]).set_index("ts")["power_kw"]
    evaluated = judged.by_time(judged.read(run)[0]["model"])
    both = pd.concat([made.rename("made"), evaluated.rename("evaluated")], axis=1).dropna()
    assert len(both) > 100
    assert both["made"].to_numpy() == pytest.approx(both["evaluated"].to_numpy(), abs=1e-6)


# What becomes of a version --------------------------------------------------------------------

GATED = "power_gated_sample"


@pytest.fixture(scope="module")
def weak(power_run):
    """A run whose model, which has learned for a short time only, is the first of its name."""
    run = copied(power_run, "03_tune", "weak")
    for stage in ("03_tune", "04_train", "05_evaluate"):
        executed_here(run.run_dir, stage, n_trials=2, objective="regression_l1", max_rounds=20)
    return resume(impatient("power"), run, "06_register", model_name="power_gated")


def events(done):
    return [(name, extra["version"]) for name, extra in asset_events(done)]


def test_first_version_enters_production_with_a_record_and_an_event(weak):
    done, tasks, run = weak
    assert done.state == "success" and tasks["promote"].state == "success"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert (decision["outcome"], made["alias"], made["version"]) == ("first", "production", 1)
    entry = lifecycle.history(GATED)[-1]
    assert (entry.alias, entry.before, entry.after) == ("production", None, 1)
    assert entry.run_dir == run.run_dir and entry.done
    assert events(done) == [("models/power", 1)]


def test_better_version_takes_over_and_the_page_shows_by_how_much(weak, power_run, power):
    done, tasks, run = register_again(power, power_run, model_name="power_gated")
    assert tasks["promote"].state == "success"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert decision["outcome"] == "better" and decision["champion"]["version"] == 1
    (rmse,) = [row for row in decision["rows"] if row["decisive"]]
    assert rmse["metric"] == "rmse" and rmse["high"] < 0
    assert rmse["champion"] == pytest.approx(weak[2].read("metrics.json")["rmse"])
    assert rmse["candidate"] == pytest.approx(run.read("metrics.json")["rmse"])
    assert (made["alias"], made["version"], lifecycle.champion(GATED)) == ("production", 2, 2)
    assert standing_of(GATED, 1, "")["archived"]
    assert events(done) == [("models/power", 2)]
    page = (run.path / "report.html").read_text()
    assert "version 1" in page and "better" in page


def test_worse_version_stops_at_staging_and_the_champion_stays(weak, power_run, power):
    champion = lifecycle.champion(GATED)
    done, tasks, run = register_again(power, weak[2])
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert (decision["outcome"], made["alias"]) == ("not_better", "staging")
    assert lifecycle.champion(GATED) == champion and not events(done)
    assert int(lifecycle.version(GATED, "@staging").version) == made["version"]
    assert json.loads((run.path / "promotion.json").read_text())["outcome"] == "kept"


def test_approval_by_command_line_says_how_to_decide(weak, power_run, power):
    done, tasks, run = register_again(
        power, power_run, model_name="power_gated", promote="approval"
    )
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision = json.loads((run.path / "promotion.json").read_text())
    version = run.read("registration.json")["version"]
    assert decision["outcome"] == "waiting"
    assert f"make promote MODEL={GATED} VERSION={version} REASON=" in decision["reason"]


def test_champion_that_no_longer_loads_leaves_the_decision_to_a_person(weak, power_run, power):
    champion = lifecycle.champion(GATED)
    client = tracking.open_client()
    folder = Path(client.get_model_version_download_uri(GATED, str(champion)))
    (folder / "MLmodel").write_text("damaged")
    done, tasks, run = register_again(power, power_run, model_name="power_gated")
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision = run.read("gate.json")
    assert decision["outcome"] == "undecided" and "cannot be loaded" in decision["reason"]
    assert lifecycle.champion(GATED) == champion
    assert "cannot be loaded" in (run.path / "report.html").read_text()


# Real data, faults -----------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(not HOURLY.exists(), reason="no real data")
def test_real_hourly_data_reach_the_registry_under_the_real_name():
    asked = {"source": str(HOURLY), "n_trials": 4, "n_models": 2, "min_voltage_v": 0.0}
    run = evaluated("power/real", **asked)
    metrics = run.read("metrics.json")
    assert metrics["rmse"] < 0.74 * metrics["persistence_rmse"]
    assert metrics["persistence_rmse"] == pytest.approx(0.591, abs=0.002)
    name = "household_power_lightgbm"
    assert lifecycle.register(run, name)["name"] == name
    assert mlflow_run(run).data.tags["source"].endswith("household_power_hourly.csv.gz")


def test_model_below_its_floor_is_red_and_not_registered(power, weak):
    before = n_versions(GATED)
    done, tasks, run = resume(power, weak[2], "05_evaluate", max_rmse_vs_persistence=0.1)
    assert done.state == "failed" and tasks["06_register"].state == "failed"
    assert "GateError" in report(run, "06_register")[1]
    assert "rmse_vs_persistence" in report(run, "06_register")[1]
    assert n_versions(GATED) == before
