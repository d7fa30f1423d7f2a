"""What a run is, in one object: its state, its error, its metrics beside the baselines."""

import json

from lib import outcome, summary
from lib.run import open_run

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

STAGES = ("01_load", "02_evaluate", "03_register")


def notebook(*, ended=True, error=None):
    """An executed notebook of one code cell, as plain JSON."""
    cell = new_code_cell("x", execution_count=1)
    cell.metadata["papermill"] = {"status": "completed" if ended else "running"}
    if error:
        cell.metadata["papermill"]["status"] = "failed"
        ename, text = error
        cell.outputs = [new_output("error", ename=ename, evalue=text, traceback=[text])]
    record = {"start_time": "2026-01-02T03:04:00+00:00", "exception": bool(error)}
    record |= {"duration": 5.0} | ({"end_time": "2026-01-02T03:04:05+00:00"} if ended else {})
    return dict(new_notebook(cells=[cell], metadata={"papermill": record}))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    made = open_run("wind/a")
    (made.path / "stages").mkdir(parents=True)
    return made


def leave(run, stage, content):
    outcome.write_notebook(run.path / f"{stage}.ipynb", content)


@pytest.mark.parametrize(
    ("last", "verdict", "state"),
    [
        (notebook(), {"passed": True, "checks": []}, "passed"),
        (notebook(ended=False), {}, "running"),
        (notebook(error=("KeyError", "x")), {}, "failed"),
        (notebook(error=("GateError", "too low")), {"passed": False, "checks": []}, "refused"),
    ],
)
def test_last_stage_decides_the_state_of_a_run(run, last, verdict, state):
    for stage in STAGES[:-1]:
        leave(run, stage, notebook())
    leave(run, STAGES[-1], last)
    (run.path / "verdict.json").write_text(json.dumps(verdict))
    found = summary.summarise(run)
    assert found["state"] == state
    assert [stage["name"] for stage in found["stages"]] == list(STAGES)
    assert (found["ended"] is None) == (state == "running")


@pytest.mark.parametrize(
    ("watch", "reason"),
    [
        ({"why": []}, "1,200 new rows were scored by version 3 of house; nothing unusual"),
        ({"note": "no row"}, "1,200 new rows were scored by version 3 of house; no row"),
        (
            {"why": ["voltage_v: psi 2"], "drifted": True},
            "ALARM: voltage_v: psi 2; 1,200 new rows were scored by version 3 of house",
        ),
    ],
)
def test_run_that_scores_says_how_much_and_whether_something_is_unusual(run, watch, reason):
    for stage in STAGES:
        leave(run, stage, notebook())
    known = {"name": "house", "version": 3, "pipeline": "power"}
    (run.path / "watch.json").write_text(json.dumps(known | watch))
    (run.path / "metrics.json").write_text('{"n_scored": 1200.0}')
    assert summary.summarise(run)["reason"] == reason


def test_run_that_failed_names_stage_cell_and_error(run):
    leave(run, "01_load", notebook(error=("ValueError", "no column 'x'")))
    found = summary.summarise(run)
    assert found["reason"] == "1 · Load: ValueError: no column 'x'"
    assert found["stages"][0]["error"]["cell"] == 1


def test_run_that_airflow_began_is_running_before_its_first_stage_is(run):
    assert summary.summarise(run)["state"] == "unfinished"
    summary.note_start(run, dag_id="wind", run_id="manual__1", run_type="manual", who=None)
    assert summary.summarise(run)["state"] == "running"


def test_first_note_of_a_start_counts(run):
    first = summary.note_start(run, run_id="manual__1", who="jane")
    assert summary.note_start(run, run_id="manual__2", who="joe") == first
    assert first["who"] == "jane" and first["lock"] == summary.lock_digest() and first["python"]


def test_damaged_files_are_named_and_cost_nothing_else(run):
    leave(run, "01_load", notebook())
    (run.path / "metrics.json").write_text('{"rmse": 1')
    (run.path / "verdict.json").write_text("[]")
    (run.path / "02_evaluate.ipynb").write_text('{"cells": []}')
    found = summary.summarise(run)
    assert found["metrics"] == {} and found["stages"][0]["state"] == "passed"
    named = " ".join(found["problems"])
    assert all(name in named for name in ("metrics.json", "verdict.json", "02_evaluate.ipynb"))


def test_summary_is_read_back_as_it_was_written_unless_it_is_of_another_run(run):
    leave(run, "01_load", notebook())
    written = summary.write_summary(run)
    assert summary.read_summary(run) == written
    (run.path / "summary.json").write_text(json.dumps(written | {"run_dir": "wind/b"}))
    assert summary.read_summary(run)["run_dir"] == "wind/a"


def test_runs_are_folders_with_records_or_a_start(run):
    (run.path.parent / "empty").mkdir()
    (run.path.parent / ".pruned-b" / "stages").mkdir(parents=True)
    started = open_run("wind/c")
    started.path.mkdir()
    summary.note_start(started, run_id="manual__1")
    assert {found.run_dir for found in summary.list_runs("wind")} == {"wind/a", "wind/c"}


def test_metrics_stand_beside_their_baselines_and_intervals():
    rows = summary.metric_rows(
        {
            "mse": 4.0,
            "accuracy": 0.9,
            "accuracy_low": 0.8,
            "accuracy_high": 0.95,
            "logistic_accuracy": 0.7,
            "validation_accuracy": 0.91,
            "n_test": 10.0,
        }
    )
    assert [row["metric"] for row in rows] == ["accuracy", "mse"]
    assert rows[0] == {
        "metric": "accuracy",
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "greater_is_better": True,
        "baselines": {"logistic": 0.7},
    }


GATE = {"outcome": "first", "promote": True, "reason": "nothing is in production", "rows": []}
GATE |= {"champion": None, "margin": 0.0, "level": 0.95, "notes": []}


def test_reason_of_a_gated_run_is_what_the_gate_said_and_what_followed(run):
    for stage in STAGES:
        leave(run, stage, notebook())
    made = {"version": 2, "policy": "approval", "promoted": False}
    said = {"version": 2, "outcome": "rejected", "who": "bob", "reason": "wait"}
    files = {"gate": GATE, "registration": made, "promotion": said}
    for name, content in files.items():
        (run.path / f"{name}.json").write_text(json.dumps(content))
    found = summary.summarise(run)
    assert {name: found[name] for name in files} == files
    assert found["reason"] == ("First: nothing is in production. Not promoted, bob said no: wait.")
    (run.path / "gate.json").write_text(json.dumps({"outcome": "first"}))
    damaged = summary.summarise(run)
    assert damaged["gate"] == {} and "gate.json" in damaged["problems"][0]
