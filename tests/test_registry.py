"""Tracking and registry on a real MLflow store: what reaches it, once, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys

from lib import floors, judged, tracking
from lib.pages import run_page, summary
from lib.registry import lifecycle, standing
from lib.registry.gate import decide, markdown
from lib.registry.ledger import seek
from lib.registry.lifecycle import GateError, PromotionConflict
from lib.run import open_run

import mlflow
import numpy as np
import pandas as pd
import pytest
from whole_runs import new_store

pytestmark = pytest.mark.slow  # MLflow's own store
MODEL = """\
import mlflow.pyfunc


class Zero(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [0.0] * len(model_input)


mlflow.models.set_model(Zero())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One SQLite store for the module."""
    folder = tmp_path_factory.mktemp("store")
    new_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUTS_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "zero.py").write_text(MODEL)
    mlflow.pyfunc.save_model(
        folder / "model", python_model=str(folder / "zero.py"), pip_requirements=["mlflow"]
    )
    return folder / "model"


@pytest.fixture
def make_run(store, model, request):
    """Make a run folder as the power pipeline leaves it before its last stage."""

    def make(name=None, source="file.csv", passed=True, rmse=0.4, horizon=1):
        run_dir = f"power/{name or request.node.name}"
        stage = open_run(run_dir, stage="01_load")
        stage.parameters.update({"run_dir": run_dir, "source": source, "horizon": horizon})
        index = pd.date_range("2025-01-01", periods=3, freq="h", name="ts")
        stage.write("raw.parquet", pd.DataFrame({"power_kw": [1.0, 2.0, np.nan]}, index=index))
        facts = {"name": "house", "source": source, "digest": "f" * 64, "n_rows": 3}
        facts["rows_read"] = 5
        stage.write("dataset.json", facts)
        stage.finish()
        stage = open_run(run_dir, stage="04_train")
        with stage.writing("model") as path:
            shutil.copytree(model, path)
        stage.finish()
        stage = open_run(run_dir, stage="05_evaluate")
        stage.write("metrics.json", {"rmse": rmse, "persistence_rmse": 0.6})
        verdict = floors.check({"rmse": rmse}, {"rmse": 0.5})
        assert verdict["passed"] is passed
        stage.write("verdict.json", verdict)
        stage.finish()
        (stage.path / "05_evaluate.ipynb").write_text("{}")
        (stage.path / "05_evaluate.html").write_text("<html>")
        return open_run(run_dir, stage="06_register")

    return make


def versions(name):
    return tracking.open_client().search_model_versions(f"name = '{name}'")


def test_passed_run_becomes_a_staging_version_with_its_facts(make_run):
    registered = lifecycle.register(make_run(), "house_lightgbm")
    assert (registered["name"], registered["version"]) == ("house_lightgbm", 1)
    version = lifecycle.version("house_lightgbm", "@staging")
    assert version.tags["source"] == "file.csv" and version.tags["data_digest"] == "f" * 64
    assert version.tags["metric.rmse"] == "0.4"
    loaded = mlflow.pyfunc.load_model(registered["uri"])
    assert loaded.predict(pd.DataFrame({"a": [1.0, 2.0]})) == [0.0, 0.0]


def test_failed_gate_registers_nothing_and_gives_the_reason(make_run):
    with pytest.raises(GateError, match=r"rmse = 0\.7, required <= 0\.5: FAILED"):
        lifecycle.register(make_run(passed=False, rmse=0.7), "never_lightgbm")
    assert versions("never_lightgbm") == []


def test_model_of_sample_data_has_a_name_of_its_own(make_run):
    registered = lifecycle.register(make_run(source="sample"), "other_lightgbm")
    assert registered["name"] == "other_lightgbm_sample"
    assert versions("other_lightgbm") == []


def test_registering_again_completes_the_same_version(make_run):
    run = make_run()
    first = lifecycle.register(run, "twice_lightgbm")
    tracking.open_client().delete_registered_model_alias("twice_lightgbm", "staging")
    assert lifecycle.register(run, "twice_lightgbm") == first
    assert len(versions("twice_lightgbm")) == 1
    assert int(lifecycle.version("twice_lightgbm", "@staging").version) == first["version"]


def test_request_that_is_sent_twice_leaves_one_version(make_run, monkeypatch):
    client = tracking.open_client()
    create = client.create_model_version

    def twice(*given, **facts):
        create(*given, **facts)
        return create(*given, **facts)

    monkeypatch.setattr(client, "create_model_version", twice)
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    entry = lifecycle.register(make_run(), "sent_lightgbm")
    (version,) = client.search_model_versions(f"name = '{entry['name']}'")
    assert entry["version"] == int(version.version) == 1


def test_alias_moves_to_the_newest_version_that_passed_and_never_back(make_run):
    first = lifecycle.register(make_run("older"), "moving_lightgbm")
    second = lifecycle.register(make_run("newer"), "moving_lightgbm")
    assert (first["version"], second["version"]) == (1, 2)
    again = lifecycle.register(open_run("power/older"), "moving_lightgbm")
    assert (again["version"], again["alias"]) == (1, "")
    assert again["uri"] == "models:/moving_lightgbm/1"
    assert int(lifecycle.version("moving_lightgbm", "@staging").version) == 2


# The gate and the policy -----------------------------------------------------------------------


def gate(outcome="first", champion=None, **more):
    """Return what `lib.registry.gate.decide` gives."""
    known = {"outcome": outcome, "promote": outcome in ("first", "better"), "rows": [], "notes": []}
    known |= {"reason": f"the gate says {outcome}", "margin": 0.0, "level": 0.95}
    return known | {"champion": champion and {"name": "x", "version": champion}} | more


@pytest.fixture
def shared_run(make_run):
    return by_airflow(make_run("shared"))


@pytest.mark.parametrize(
    ("policy", "outcome", "alias", "why"),
    [
        ("auto", "first", "production", "the gate says first"),
        ("auto", "not_better", "staging", "the gate says not_better"),
        ("auto", None, "staging", ""),
        ("approval", "first", "staging", "the gate says first"),
        ("staging", "first", "staging", "says first; the policy 'staging' leaves it there"),
        ("never", "first", "", "the policy 'never'"),
    ],
)
def test_policy_and_gate_say_which_alias_moves(shared_run, policy, outcome, alias, why):
    name = f"{policy}_{outcome}"
    decided = gate(outcome) if outcome else None
    made = lifecycle.register(shared_run, name, promote=policy, gate=decided)
    promoted = alias == "production"
    assert (made["alias"], made["policy"], made["outcome"]) == (alias, policy, outcome or "")
    assert why in made["reason"] and made["promoted"] is promoted
    assert made["champion"] == lifecycle.champion(name) == (1 if promoted else None)
    assert mlflow.pyfunc.load_model(made["uri"]).metadata
    moved = [(e.action, e.alias, e.after, e.run_dir) for e in lifecycle.history(name)]
    wanted = [
        ("register", "staging", 1, "power/shared"),
        ("promote", "production", 1, "power/shared"),
    ]
    assert moved == (wanted if promoted else wanted[:1] if alias else [])
    assert lifecycle.version(name, 1).tags.get("gate.outcome") == outcome


@pytest.mark.parametrize(
    ("policy", "alias", "why"),
    [
        (
            "auto",
            "staging",
            "says first; run by hand, so not promoted: make promote MODEL=hand_auto ",
        ),
        ("staging", "staging", "says first; the policy 'staging' leaves it there"),
        ("never", "", "the policy 'never'"),
    ],
)
def test_run_by_hand_moves_staging_at_most_and_says_how_to_promote(make_run, policy, alias, why):
    run, name = make_run("by-hand"), f"hand_{policy}"
    made = lifecycle.register(run, name, promote=policy, gate=gate("first"))
    assert (made["alias"], made["promoted"], made["champion"]) == (alias, False, None)
    assert made["outcome"] == "first" and why in made["reason"]
    assert {e.alias for e in lifecycle.history(name)} == ({alias} if alias else set())
    version = lifecycle.version(name, made["version"])
    assert "@staging at most" in version.description
    assert version.tags["gate.outcome"] == "first"
    entry = lifecycle.promote(name, made["version"], reason="the words that the reason asks for")
    assert (entry.after, entry.override) == (1, False), "what the gate found still backs it"


def test_person_in_the_kernel_of_an_airflow_run_moves_staging_at_most(shared_run, monkeypatch):
    monkeypatch.setattr("lib.ground.runs.is_interactive", lambda: True)
    made = lifecycle.register(shared_run, "looked_at", gate=gate("first"))
    assert (made["alias"], lifecycle.champion("looked_at")) == ("staging", None)


def test_version_bears_the_words_of_its_gate(shared_run):
    made = lifecycle.register(shared_run, "described", gate=gate("undecided"))
    version = lifecycle.version("described", made["version"])
    assert "the gate says undecided" in version.description
    assert "undecided" in version.description.lower()
    assert version.tags["verdict"] == made["verdict"]


def test_champion_that_is_not_the_one_compared_with_is_a_conflict_and_a_retry_mends_it(shared_run):
    other = lifecycle.register(shared_run, "contested", gate=gate())
    client = tracking.open_client()
    client.delete_model_version_tag("contested", str(other["version"]), "model_id")
    with pytest.raises(PromotionConflict, match="version 2 was not promoted: no version was expec"):
        lifecycle.register(shared_run, "contested", gate=gate())
    assert lifecycle.champion("contested") == 1
    assert int(lifecycle.version("contested", "@staging").version) == 2
    made = lifecycle.register(shared_run, "contested", gate=gate("better", champion=1))
    assert (made["version"], made["alias"], made["champion"]) == (2, "production", 2)
    again = lifecycle.register(shared_run, "contested", gate=gate("not_better", champion=2))
    assert (again["version"], again["alias"], again["promoted"]) == (2, "production", True)
    assert lifecycle.version("contested", 2).tags["gate.outcome"] == "better"
    assert [e.after for e in lifecycle.history("contested")] == [1, 1, 2, 2]


def test_unknown_policy_registers_nothing(shared_run):
    with pytest.raises(ValueError, match="promote = 'yes': expected one of auto, staging, app"):
        lifecycle.register(shared_run, "unwanted", promote="yes")
    assert versions("unwanted") == []


def test_name_that_no_filter_of_mlflow_can_hold_registers_nothing(shared_run):
    with pytest.raises(ValueError, match='model_name = "anna\'s": MLflow finds no name'):
        lifecycle.register(shared_run, "anna's")
    assert seek(tracking.open_client().get_registered_model, "anna's") is None


def test_version_carries_what_its_evaluation_wrote_of_its_test(make_run):
    stage = open_run(make_run().run_dir, stage="05_evaluate")
    rows = pd.DataFrame({"truth": [1.0, 2.0], "model": [1.0, 1.0]}, ["a", "b"])
    facts = {"kind": "regression", "metric": "rmse", "unit": "kW", "task": {"horizon": 3}}
    judged.write(stage, rows, **facts, learned_until="2025-01-02T03:00:00")
    stage.write("metrics.json", {"rmse": 0.4})
    floors.verdict(stage, {"rmse": 0.4}, {"rmse": 0.5})
    stage.finish()
    lifecycle.register(open_run(stage.run_dir, stage="06_register"), "learned")
    version = standing.open_version("learned", "@staging")
    assert version.learned_until == "2025-01-02T03:00:00"
    assert version.test == stage.read("test.json") and version.test["task"] == {"horizon": 3}
    assert (version.pipeline, version.source, version.metrics["rmse"]) == ("power", "file.csv", 0.4)
    assert version.model.predict(pd.DataFrame({"a": [1.0]})) == [0.0]


def test_version_that_was_registered_before_loads_and_says_what_it_lacks(make_run):
    lifecycle.register(make_run(), "before")
    version = standing.open_version("before", "1")
    assert version.test == {} and version.model.predict(pd.DataFrame({"a": [1.0]})) == [0.0]
    with pytest.raises(ValueError, match="version 1 of before was registered before versions knew"):
        standing.require_test(version)


def test_what_serves_is_asked_without_making_a_store(shared_run, tmp_path, monkeypatch):
    lifecycle.register(shared_run, "shown", gate=gate("first"))
    found = standing.serving("shown")
    assert (found["version"], found["alias"], found["run_dir"]) == (1, "production", "power/shared")
    assert found["metrics"]["rmse"] == 0.4 and found["digest"] == "f" * 64
    assert standing.serving("nobody") == standing.standing_of("shown", 7, "") == {}
    of_itself = standing.standing_of("shown", 1, "power/shared")
    assert of_itself == {"champion": 1, "archived": "", "changes": []}
    changes = standing.standing_of("shown", 1, "power/other")["changes"]
    assert [change["reason"] for change in changes] == ["the gate says first"]
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "none"))
    assert standing.serving("shown") == {} and not (tmp_path / "none").exists()


def test_mirror_logs_parameters_metrics_data_notebooks_and_model(make_run):
    run = make_run()
    known = tracking.mirror(run, status="FINISHED", metrics={"05_evaluate_seconds": 2.5})
    client = tracking.open_client()
    found = client.get_run(known["run_id"])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"source": "file.csv", "horizon": "1"}
    wanted = {"rmse": 0.4, "persistence_rmse": 0.6, "05_evaluate_seconds": 2.5, "rows_read": 5}
    assert found.data.metrics == wanted
    for tag in ("pipeline", "run_dir", "source", "data_digest"):
        assert found.data.tags[tag]
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("house", "f" * 36)
    assert json.loads(data.dataset.profile)["num_rows"] == 3
    names = {f.path for f in client.list_artifacts(known["run_id"], "notebooks")}
    assert names == {"notebooks/05_evaluate.ipynb", "notebooks/05_evaluate.html"}
    assert client.get_logged_model(known["model_id"]).source_run_id == known["run_id"]


def test_mirror_again_adds_nothing_and_keeps_the_mlflow_run(make_run):
    run = make_run()
    first = tracking.mirror(run)
    second = tracking.mirror(open_run(run.run_dir), status="FINISHED")
    assert (second["run_id"], second["model_id"]) == (first["run_id"], first["model_id"])
    client = tracking.open_client()
    assert len(client.get_metric_history(first["run_id"], "rmse")) == 1


def test_changed_parameter_starts_a_new_mlflow_run(make_run):
    first = tracking.mirror(make_run("tuned"))
    second = tracking.mirror(make_run("tuned", horizon=2))
    assert second["run_id"] != first["run_id"]
    found = tracking.open_client().get_run(second["run_id"])
    assert found.data.params["horizon"] == "2" and found.data.metrics["rmse"] == 0.4


def by_airflow(run):
    """Say in the run folder that Airflow has begun it, as its first task does."""
    start = {"dag_id": "power", "run_id": "manual__1", "started": "2026-11-28T14:29:31+00:00"}
    (run.path / "run.json").write_text(json.dumps(start))
    return run


def test_run_of_airflow_stays_one_mlflow_run_when_a_parameter_changes_or_the_folder_is_lost(
    make_run,
):
    client = tracking.open_client()
    first = tracking.mirror(by_airflow(make_run("kept")))
    assert client.get_run(first["run_id"]).info.status == "RUNNING", "Airflow says how it ends"
    run = by_airflow(make_run("kept", horizon=2))
    second = tracking.mirror(run)
    (run.path / "mlflow.json").unlink()
    third = tracking.mirror(run, status="FAILED")
    assert first["run_id"] == second["run_id"] == third["run_id"]
    found = client.get_run(first["run_id"])
    assert found.data.params["horizon"] == "1", "MLflow cannot change it"
    assert json.loads(found.data.tags["changed_parameters"]) == {"horizon": "2"}
    assert found.info.status == "FAILED"


def test_run_by_hand_ends_and_other_parameters_close_the_one_before(make_run):
    client = tracking.open_client()
    first = tracking.mirror(make_run("hand"))
    assert client.get_run(first["run_id"]).info.status == "FINISHED", "nobody will end it"
    client.update_run(first["run_id"], status="RUNNING")
    tracking.mirror(make_run("hand", horizon=2))
    assert client.get_run(first["run_id"]).info.status == "FINISHED"


def test_run_that_died_is_closed_and_one_that_ended_stays_as_it_is(make_run):
    client = tracking.open_client()
    run = by_airflow(make_run("died"))
    tracking.close(run)  # nothing to close yet, and no error
    known = tracking.mirror(run)
    (run.path / "mlflow.json").unlink()
    tracking.close(run)
    assert client.get_run(known["run_id"]).info.status == "KILLED"
    tracking.mirror(run, status="FINISHED")
    tracking.close(run)
    assert client.get_run(known["run_id"]).info.status == "FINISHED"


def test_mlflow_run_is_named_by_time_metric_and_data(make_run):
    client = tracking.open_client()

    def title(run):
        return client.get_run(tracking.mirror(run)["run_id"]).info.run_name

    assert title(by_airflow(make_run("titled", source="data/house.csv?v=1"))) == (
        "power 28 Nov 14:29 \N{MIDDLE DOT} rmse 0.4 \N{MIDDLE DOT} house.csv"
    )
    by_hand = title(make_run("mine", source="SELECT * FROM m"))
    assert re.fullmatch(
        r"power by hand \d\d \w{3} \d\d:\d\d . rmse 0\.4 . SELECT . FROM m", by_hand
    )


@pytest.mark.kernel
def test_two_processes_may_make_the_same_new_store(tmp_path):

    code = "from lib import tracking; tracking.experiment_of(tracking.open_client(), 'power')"
    environment = {**os.environ, "OUTPUTS_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_metric_of_ones_own_reaches_gate_registry_and_page_by_its_floor_alone(make_run):
    stage = open_run(by_airflow(make_run()).run_dir, stage="05_evaluate")
    metrics = {"uplift": 1.25, "always_no_uplift": 1.0}
    stage.write("metrics.json", metrics)
    stage.write("verdict.json", floors.check(metrics, minimum={"uplift": 1.1}))
    stage.finish()
    run = open_run(stage.run_dir, stage="06_register")
    decision = decide(run.read("verdict.json"), champion=None)
    assert decision["outcome"] == "first"
    assert "| uplift ↑ | passed | ≥ 1.1 | 1.25 |" in markdown(decision)
    registered = lifecycle.register(run, "uplift_lightgbm", promote="auto", gate=decision)
    assert registered["promoted"]
    assert registered["verdict"] == "uplift = 1.25, required >= 1.1: passed"
    page = run_page.render(summary.summarise(run))
    assert "always no" in page and "1.25" in page, "the table of metrics has it beside its baseline"
