"""What a run asks of object storage and of MLflow: counted where it arrives, with a bound."""

import json

from benchmarks.count_requests import counting
from lib.ground import outcome

import pytest
from upath import UPath
from whole_runs import prepare

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
SMALL = {"n_trials": 2, "max_rounds": 200, "n_resamples": 100, "n_explained": 10}
MOST_S3, MOST_MLFLOW, MOST_TO_REGISTER = 400, 12, 40


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_run_on_object_storage_is_whole_and_asks_little(tmp_path, monkeypatch):
    with counting(tmp_path) as (make_run, settings):
        prepare(tmp_path / "project" / "outputs")
        found = make_run("power", "--params", json.dumps(SMALL))
        assert found.returncode == 0, found.output
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        (run,) = UPath("s3://runs/outputs/power").iterdir()
        left = {"01_load.ipynb", "05_evaluate.html", "metrics.json", "model", "report.html"}
        assert left <= names_in(run)
        assert outcome.state(outcome.read_notebook(run / "06_register.ipynb")) == "completed"
        known = json.loads((run / "mlflow.json").read_text())
        logged = UPath("s3://runs/artifacts") / known["experiment_id"] / known["run_id"]
        assert {"figures", "notebooks", "report.html"} <= names_in(logged / "artifacts")
        assert "06_register.ipynb" in names_in(logged / "artifacts" / "notebooks")
    assert not list((tmp_path / "project" / "outputs").glob("power/*")), "nothing is left here"
    counts = {stage: found.of("MLflow", stage).total() for stage in found.ends}
    most = {stage: MOST_TO_REGISTER if "register" in stage else MOST_MLFLOW for stage in counts}
    too_many = [stage for stage in counts if counts[stage] > most[stage]]
    assert len(counts) == 7 and sum(counts.values()) > 0 and not too_many, counts
    assert 100 < found.of("S3").total() <= MOST_S3, {s: found.of("S3", s) for s in found.ends}
