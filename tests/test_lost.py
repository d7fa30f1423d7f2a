"""What the head does about a stage of which nothing is heard any more, and what is tried again."""

import json
from types import SimpleNamespace

from lib.ground import attempts, outcome, runs
from lib.pages.summary import summarise
from lib.run import open_run

import pytest
from late import Late
from papermill.exceptions import PapermillExecutionError
from run_pages import executed, outputs  # noqa: F401

operator, lost = Late("lib.dag.operator"), Late("lib.dag.lost")
RUN_ID = "manual__2026-01-02T03:04:05+00:00"


@pytest.fixture
def run(outputs, monkeypatch):  # noqa: F811
    """A run whose one stage is going on, on another machine."""
    monkeypatch.setenv(attempts.VARIABLE, "{}")
    opened = runs.run_of_airflow("toy", RUN_ID)
    runs.note_start(opened, dag_id="toy", run_id=RUN_ID)
    attempts.begin(opened.run_dir, "01_load", 1, "01")
    open_run(opened.run_dir, "01_load").write("numbers.json", [1])
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    notebook["cells"][2]["metadata"]["papermill"]["status"] = "running"
    outcome.write_notebook(opened.path / "01_load.ipynb", notebook)
    return opened


def context(number=1, **more):
    task = {"dag_id": "toy", "run_id": RUN_ID, "task_id": "01_load", "map_index": -1}
    task |= {"try_number": number, "max_tries": 2, "id": f"0{number}", "hostname": "far"}
    return {"ti": SimpleNamespace(**task), **more}


def test_report_says_that_a_machine_is_gone_and_its_attempt_is_closed(run):
    lost.tell_lost(context())
    said = (run.path / "01_load.html").read_text()
    assert "nothing was heard for" in said and "on far" in said
    assert "nothing was heard for" in (run.path / "report.html").read_text()
    assert summarise(run)["state"] == "failed", "until another attempt begins"
    with pytest.raises(attempts.StageGivenUp):
        open_run(run.run_dir, "01_load")


@pytest.mark.slow
def test_last_attempt_that_is_lost_ends_the_run(run):
    attempts.begin(run.run_dir, "01_load", 3, "03")
    lost.tell_lost(context(3))
    assert runs.start_of(run)["closed"]["state"] == "lost"


def test_callback_in_the_task_s_own_process_or_after_the_end_changes_nothing(run):
    before = (run.path / "01_load.ipynb").read_bytes()
    lost.tell_lost(context(exception=ValueError("told already")))
    open_run(run.run_dir, "01_load").finish()
    lost.tell_lost(context())
    record = json.loads((run.path / "stages" / "01_load.json").read_text())
    assert record["state"] == "finished" and "given_up" not in record["attempt"]
    assert (run.path / "01_load.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    ("ename", "evalue", "is_final"),
    [
        ("ValueError", "file.csv: line 3 is 'x'", True),
        ("OSError", "cannot write s3://b/k: [Errno 16] Please reduce your request rate.", False),
        ("EndpointConnectionError", "Could not connect to the endpoint URL", False),
        ("ClientError", "An error occurred (SlowDown) when calling PutObject", False),
        ("PermissionError", "Access Denied", True),
    ],
)
def test_store_that_does_not_answer_is_no_error_of_the_notebook(ename, evalue, is_final):
    error = PapermillExecutionError(0, 1, "run.write()", ename, evalue, [])
    assert operator._is_final(error) is is_final
