"""What a run is, in one object: its state, its error, its metrics beside the baselines."""

import json
import shutil

from lib.ground import outcome, runs
from lib.pages import run_index, summary
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
    runs.note_start(run, dag_id="wind", run_id="manual__1", run_type="manual", who=None)
    assert summary.summarise(run)["state"] == "running"


def test_first_note_of_a_start_counts(run):
    first = runs.note_start(run, run_id="manual__1", who="jane")
    assert runs.note_start(run, run_id="manual__2", who="joe") == first
    assert first["who"] == "jane" and first["lock"] == runs.lock_digest() and first["python"]


def by_stage(run):
    return [stage["state"] for stage in summary.summarise(run)["stages"]]


def plan(monkeypatch, tmp_path):
    """Give the pipeline three notebooks."""
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path / "root"))
    folder = tmp_path / "root" / "notebooks" / "wind"
    folder.mkdir(parents=True)
    for stage in STAGES:
        (folder / f"{stage}.ipynb").write_text(json.dumps(notebook()))


@pytest.mark.parametrize(
    ("second", "state", "third"),
    [
        (notebook(ended=False), "running", "waiting"),
        (notebook(error=("KeyError", "x")), "failed", "not run"),
        (notebook(error=("GateError", "x")), "refused", "not run"),
        (None, "unfinished", "not run"),
    ],
)
def test_stages_to_come_wait_only_while_the_run_goes_on(
    run, monkeypatch, tmp_path, second, state, third
):
    plan(monkeypatch, tmp_path)
    leave(run, STAGES[0], notebook())
    if second:
        leave(run, STAGES[1], second)
    assert summary.summarise(run)["state"] == state
    assert by_stage(run)[2] == third


BEFORE, AT, AFTER = (f"2026-01-02T03:{minute}:00+00:00" for minute in ("03", "05", "07"))


@pytest.mark.parametrize(("state", "seconds"), [("cancelled", 120.0), ("lost", None)])
def test_closed_run_says_so_with_its_reason_and_its_stages_are_cut_off_or_not_run(
    run, monkeypatch, tmp_path, state, seconds
):
    plan(monkeypatch, tmp_path)
    start = {"started": BEFORE, "run_id": "manual__1", "who": "jane"}
    (run.path / "run.json").write_text(json.dumps(start))
    leave(run, STAGES[0], notebook())
    leave(run, STAGES[1], notebook(ended=False))
    assert summary.summarise(run)["state"] == "running"
    monkeypatch.setattr(runs, "now", lambda: AT)
    runs.close_run(run, state, "the machine went down")
    found = summary.summarise(run)
    assert found["start"] == start | {
        "closed": {"state": state, "reason": "the machine went down", "at": AT}
    }
    assert (found["state"], found["reason"]) == (state, "the machine went down")
    assert (found["ended"], found["seconds"]) == (AT, seconds)
    assert by_stage(run) == ["passed", "failed", "not run"]
    assert found["stages"][1]["error"]["text"] == "cut off"
    assert state in summary.STATES


def test_closed_run_without_any_stage_is_told_apart_from_one_that_waits(run):
    runs.note_start(run, run_id="manual__1")
    runs.close_run(run, "lost", "gone")
    assert summary.summarise(run)["state"] == "lost"


@pytest.mark.parametrize(
    ("last", "closed", "state"),
    [
        (notebook(), "lost", "passed"),
        (notebook(error=("GateError", "x")), "cancelled", "refused"),
        (notebook(error=("KeyError", "x")), "lost", "failed"),
        (notebook(error=("KeyError", "x")), "cancelled", "cancelled"),
        (notebook(error=("StageKilled", "x")), "lost", "lost"),
    ],
)
def test_what_a_run_said_itself_goes_before_how_it_was_closed(
    run, monkeypatch, last, closed, state
):
    leave(run, "01_load", last)
    monkeypatch.setattr(runs, "now", lambda: AT)
    runs.close_run(run, closed, "gone")
    assert summary.summarise(run)["state"] == state


def test_closed_run_is_not_live_because_its_machine_had_a_clock_minutes_ahead(run, monkeypatch):
    (run.path / "stages" / "01_load.json").write_text(json.dumps({"started": AFTER}))
    monkeypatch.setattr(runs, "now", lambda: AT)
    runs.close_run(run, "lost", "gone")
    assert summary.summarise(run)["state"] == "lost"


def test_closed_run_is_live_again_once_a_stage_has_begun_since(run, monkeypatch):
    leave(run, "01_load", notebook(error=("StageKilled", "x")))
    monkeypatch.setattr(runs, "now", lambda: AT)
    runs.close_run(run, "lost", "gone")
    later = notebook(ended=False)
    later["metadata"]["papermill"]["start_time"] = AFTER
    leave(run, "01_load", later)
    assert summary.summarise(run)["state"] == "running"
    leave(run, "01_load", notebook(error=("StageKilled", "x")))
    assert summary.summarise(run)["state"] == "lost"
    (run.path / "stages" / "01_load.json").write_text(json.dumps({"started": AFTER}))
    assert summary.summarise(run)["state"] == "failed", "a record counts as well"


def test_noting_a_start_again_opens_a_closed_run_and_keeps_the_rest(run):
    first = runs.note_start(run, run_id="manual__1", who="jane")
    runs.close_run(run, "cancelled", "Ctrl-C")
    assert runs.note_start(run, run_id="manual__1", who="joe") == first
    assert summary.summarise(run)["state"] == "running"
    empty = open_run("wind/never")
    runs.close_run(empty, "lost", "gone before its first stage")
    assert runs.note_start(empty, who="jane")["who"] == "jane"


@pytest.mark.parametrize("closed", [3, {}, {"state": "passed", "reason": "x", "at": AT}, {"at": 1}])
def test_damaged_note_of_a_closing_is_named_and_costs_nothing(run, closed):
    (run.path / "run.json").write_text(json.dumps({"run_id": "manual__1", "closed": closed}))
    found = summary.summarise(run)
    assert found["state"] == "running" and "run.json" in found["problems"][0]


def timed(begun, ended, seconds):
    """An executed notebook with these times."""
    made = notebook()
    made["metadata"]["papermill"] |= {"start_time": begun, "end_time": ended, "duration": seconds}
    return made


def test_run_of_airflow_took_from_its_start_to_its_last_end(run):
    (run.path / "run.json").write_text(json.dumps({"started": BEFORE, "run_id": "manual__1"}))
    leave(run, "01_load", timed("2026-01-02T03:04:00+00:00", AT, 60.0))
    assert summary.summarise(run)["seconds"] == 120.0


def test_run_with_a_stage_that_ran_again_took_what_its_stages_took(run):
    (run.path / "run.json").write_text(json.dumps({"started": BEFORE, "run_id": "manual__1"}))
    leave(run, "01_load", timed(BEFORE, AT, 120.0))
    leave(run, "02_evaluate", timed("2026-01-05T00:00:00+00:00", "2026-01-05T00:00:30+00:00", 30.0))
    assert summary.summarise(run)["seconds"] > 86400
    (run.path / "02_evaluate.attempt-1.html").write_text("the day before")
    assert summary.summarise(run)["seconds"] == 150.0


def test_run_by_hand_took_what_its_stages_took_without_the_nights_between(run):
    leave(run, "01_load", timed(BEFORE, AT, 120.0))
    leave(run, "02_evaluate", timed("2026-01-05T00:00:00+00:00", "2026-01-05T00:00:30+00:00", 30.0))
    assert summary.summarise(run)["seconds"] == 150.0


def test_opened_copy_counts_only_what_has_run_in_it(run):
    start = {"started": AFTER, "run_type": "opened", "opened": "wind/b"}
    (run.path / "run.json").write_text(json.dumps(start))
    leave(run, "01_load", timed(BEFORE, AT, 120.0))
    found = summary.summarise(run)
    assert (found["started"], found["ended"], found["seconds"]) == (AFTER, None, None)
    leave(run, "02_evaluate", timed("2026-01-02T03:08:00+00:00", "2026-01-02T03:08:09+00:00", 9.0))
    assert summary.summarise(run)["seconds"] == 9.0


def test_clock_that_was_set_back_makes_no_negative_time(run):
    record = {"state": "finished", "started": AT, "finished": BEFORE}
    (run.path / "stages" / "01_load.json").write_text(json.dumps(record))
    (run.path / "run.json").write_text(json.dumps({"started": AFTER, "run_id": "manual__1"}))
    found = summary.summarise(run)
    assert found["stages"][0]["seconds"] is None and found["seconds"] >= 0


def test_opened_copies_are_no_runs_unless_asked_for(run):
    copy = open_run("wind/open-01_load-of-a")
    copy.path.mkdir()
    runs.note_start(copy, run_type="opened", opened="wind/a")
    named_so = open_run("wind/open-day")
    named_so.path.mkdir()
    runs.note_start(named_so, run_id="open-day")
    assert {one.name for one in runs.list_runs()} == {"a", "open-day"}
    assert {one.name for one in runs.list_runs(copies=True)} == {"a", "open-day", copy.name}


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
    runs.note_start(started, run_id="manual__1")
    assert {found.run_dir for found in runs.list_runs("wind")} == {"wind/a", "wind/c"}


def test_folders_that_are_called_as_no_run_can_be_are_passed_over(run):
    for name in ("wind/a (copy)", "old runs/a"):
        shutil.copytree(run.path.path, run.path.parent.parent / name)
    assert {found.run_dir for found in runs.list_runs()} == {"wind/a"}
    run_index.write_index()
    assert [row["name"] for row in run_index.read_rows()] == ["a"]


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
    assert found["reason"] == "First: nothing was in production. Not promoted, bob said no: wait."
    (run.path / "gate.json").write_text(json.dumps({"outcome": "first"}))
    damaged = summary.summarise(run)
    assert damaged["gate"] == {} and "gate.json" in damaged["problems"][0]
