"""What a run asks of object storage and of MLflow: counted where it arrives, with a bound.

A toy pipeline stands for any other here; `benchmarks/count_requests.py` counts those of `power`.
"""

import json

from benchmarks.count_requests import counting
from lib.ground import outcome

import pytest
from upath import UPath
from whole_runs import TOY, prepare

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]
MOST_S3, MOST_MLFLOW = 110, 12  # of the run; of a stage


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_run_on_object_storage_is_whole_and_asks_little(tmp_path, monkeypatch):
    """Runs a copy of the project, whose databases and scratch files lie beside it."""
    with counting(tmp_path) as (make_run, settings):
        prepare(tmp_path / "project" / "outputs")
        found = make_run("--force", "toy", PIPELINES_DIR=str(TOY))
        assert found.returncode == 0, found.output
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        (run,) = UPath("s3://runs/outputs/toy").iterdir()
        left = {"01_load.ipynb", "02_judge.html", "metrics.json", "model", "numbers.json"}
        assert left <= names_in(run)
        assert outcome.state(outcome.read_notebook(run / "02_judge.ipynb")) == "completed"
        known = json.loads((run / "mlflow.json").read_text())
        logged = UPath("s3://runs/artifacts") / known["experiment_id"] / known["run_id"]
        assert {"notebooks", "report.html", "results"} <= names_in(logged / "artifacts")
        assert "02_judge.ipynb" in names_in(logged / "artifacts" / "notebooks")
    assert not list((tmp_path / "project" / "outputs").glob("toy/*")), "nothing is left here"
    mlflow = [found.of("MLflow", stage).total() for stage in found.ends]
    assert len(mlflow) == 2 and 0 < max(mlflow) <= MOST_MLFLOW, mlflow
    s3 = {stage: found.of("S3", stage) for stage in found.ends}
    assert 50 < found.of("S3").total() <= MOST_S3, s3
