"""Tracking and registry on a real MLflow store: what reaches it, once, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

from lib import registry, tracking
from lib.registry import GateError
from lib.run import open_run

import mlflow
import numpy as np
import pandas as pd
import pytest

MODEL = """\
import mlflow.pyfunc


class Zero(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [0.0] * len(model_input)


mlflow.models.set_model(Zero())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One SQLite store for the module: making its tables takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
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
        stage._parameters.update({"run_dir": run_dir, "source": source, "horizon": horizon})
        index = pd.date_range("2025-01-01", periods=3, freq="h", name="ts")
        stage.write("raw.parquet", pd.DataFrame({"power_kw": [1.0, 2.0, np.nan]}, index=index))
        facts = {"name": "house", "source": source, "digest": "f" * 64, "n_rows": 3}
        stage.write("dataset.json", facts)
        stage.finish()
        stage = open_run(run_dir, stage="04_train")
        with stage.writing("model") as path:
            shutil.copytree(model, path)
        stage.finish()
        stage = open_run(run_dir, stage="05_evaluate")
        stage.write("metrics.json", {"rmse": rmse, "persistence_rmse": 0.6})
        verdict = registry.check({"rmse": rmse}, {"rmse": 0.5})
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
    registered = registry.register(make_run(), "house_lightgbm")
    assert (registered["name"], registered["version"]) == ("house_lightgbm", 1)
    version = registry.find("models:/house_lightgbm@staging")
    assert version.tags["source"] == "file.csv" and version.tags["data_digest"] == "f" * 64
    assert version.tags["metric.rmse"] == "0.4"
    loaded = mlflow.pyfunc.load_model(registered["uri"])
    assert loaded.predict(pd.DataFrame({"a": [1.0, 2.0]})) == [0.0, 0.0]


def test_failed_gate_registers_nothing_and_gives_the_reason(make_run):
    with pytest.raises(GateError, match=r"rmse = 0\.7, required <= 0\.5: FAILED"):
        registry.register(make_run(passed=False, rmse=0.7), "never_lightgbm")
    assert versions("never_lightgbm") == []


def test_model_of_sample_data_has_a_name_of_its_own(make_run):
    registered = registry.register(make_run(source="sample"), "other_lightgbm")
    assert registered["name"] == "other_lightgbm_sample"
    assert versions("other_lightgbm") == []


def test_registering_again_completes_the_same_version(make_run):
    run = make_run()
    first = registry.register(run, "twice_lightgbm")
    tracking.open_client().delete_registered_model_alias("twice_lightgbm", "staging")
    assert registry.register(run, "twice_lightgbm") == first
    assert len(versions("twice_lightgbm")) == 1
    assert int(registry.find(first["uri"]).version) == first["version"]


def test_alias_moves_to_the_newest_version_that_passed(make_run):
    registry.register(make_run("older"), "moving_lightgbm")
    second = registry.register(make_run("newer"), "moving_lightgbm")
    assert second["version"] == 2
    assert int(registry.find("models:/moving_lightgbm@staging").version) == 2


def test_mirror_logs_parameters_metrics_data_notebooks_and_model(make_run):
    run = make_run()
    known = tracking.mirror(
        run, status="FINISHED", tags={"airflow_run": "r1"}, metrics={"05_evaluate_seconds": 2.5}
    )
    client = tracking.open_client()
    found = client.get_run(known["run_id"])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"source": "file.csv", "horizon": "1"}
    wanted = {"rmse": 0.4, "persistence_rmse": 0.6, "05_evaluate_seconds": 2.5}
    assert found.data.metrics == wanted
    for tag in ("pipeline", "notebook_digest", "airflow_run", "run_dir", "source", "data_digest"):
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


@pytest.mark.kernel
def test_two_processes_may_make_the_same_new_store(tmp_path):

    code = "from lib import tracking; tracking._experiment(tracking.open_client(), 'power')"
    environment = {**os.environ, "OUTPUTS_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_check_compares_in_the_direction_of_each_metric():
    verdict = registry.check({"rmse": 0.5, "r2": 0.7}, {"rmse": 0.5, "r2": 0.71})
    assert [c["passed"] for c in verdict["checks"]] == [True, False]
    assert not verdict["passed"]
    assert registry.explain(verdict) == (
        "rmse = 0.5, required <= 0.5: passed; r2 = 0.7, required >= 0.71: FAILED"
    )


def test_missing_metric_fails_its_check():
    verdict = registry.check({}, {"rmse": 0.5})
    assert not verdict["passed"] and "rmse = missing" in registry.explain(verdict)


def test_no_check_at_all_is_no_pass():
    assert registry.check({"rmse": 0.1}, {})["passed"] is False
