"""What becomes of a run when something goes wrong: always red, with a report that says why.

A toy pipeline of two short stages (`tests/toy`) stands for any other: the machine does not know
what a notebook computes.
"""

import html
import io
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from lib import tracking
from lib.dag import dagrun, lean
from lib.dag.dagrun import configuration
from lib.ground import outcome
from lib.ground.files import ROOT, outputs_dir

import pytest
from whole_runs import TOY, go, impatient, kernel_killed_in, mlflow_run, prepare, report

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]
RUN = [sys.executable, "-m", "lib.commands.cli", "run", "--force", "toy"]


@pytest.fixture(scope="module", autouse=True)
def airflow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINES_DIR", str(TOY))
        patch.setattr("airflow.settings.DAGS_FOLDER", str(TOY / "dags"))
        prepare()
        yield


@pytest.fixture
def toy():
    return impatient("toy")


def test_run_without_a_fault_passes(toy):
    done, tasks, run = go(toy)
    assert done.state == "success" and list(tasks) == ["01_load", "02_judge"]
    assert run.read("metrics.json") == {"largest": 2.0}
    assert mlflow_run(run).info.status == "FINISHED"


def test_bad_parameter_starts_nothing(cli):
    before = {path.name for path in (outputs_dir() / "toy").glob("*")}
    done = cli(*RUN[3:], "--params", '{"nn": 3}')
    assert done.returncode == 2
    assert "toy has no parameter 'nn'" in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in (outputs_dir() / "toy").glob("*")} == before


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"run_dir": "toy/mine"}, "toy has no parameter 'run_dir'"),
        ({"n": 0}, r"in 1\.\.1000"),
        ({"n": "1"}, "type int"),
    ],
)
def test_parameter_of_another_kind_is_refused(params, reason):
    with pytest.raises(ValueError, match=reason):
        configuration("toy", params)


def test_unknown_parameter_of_a_triggered_run_fails_before_a_kernel_starts(toy):
    done, tasks, run = go(toy, horizont=3)
    assert done.state == "failed"
    assert tasks["01_load"].state == "failed" and tasks["01_load"].try_number == 1
    state, page = report(run, "01_load")
    assert state == "failed" and "toy has no parameter 'horizont'" in html.unescape(page)
    whole = html.unescape((run.path / "report.html").read_text())
    assert "toy has no parameter 'horizont'" in whole
    assert not (run.path / "stages").exists()


def test_bad_row_fails_its_stage_at_once_with_file_and_row_and_ends_the_run(toy, tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("1\ntwo\n3")
    done, tasks, run = go(toy, source=str(path))
    assert done.state == "failed"
    assert tasks["01_load"].try_number == 1, "an error of the notebook's own is not tried again"
    state, page = report(run, "01_load")
    assert state == "failed" and "numbers.txt" in page and "line 2" in page
    assert tasks["02_judge"].state == "upstream_failed"
    assert mlflow_run(run).info.status == "FAILED"


def test_kernel_that_is_killed_is_tried_again_and_both_reports_stay(toy):
    with kernel_killed_in("toy", "02_judge") as killed:
        done, tasks, run = go(toy, wait_s=1.0)
    assert killed, "the test found no kernel to kill"
    assert done.state == "success"
    assert tasks["02_judge"].try_number == 2
    first = outcome.read_notebook(run.path / "02_judge.attempt-1.ipynb")
    assert outcome.state(first) == "failed" and "Execution failed" in first["cells"][0]["source"]
    assert (run.path / "02_judge.attempt-1.html").exists()
    assert report(run, "02_judge")[0] == "completed"
    client = tracking.open_client()
    found = client.search_runs(
        [tracking.link(run)["experiment_id"]], f"tags.run_dir = '{run.run_dir}'"
    )
    assert len(found) == 1 and found[0].info.status == "FINISHED"


def test_notebook_over_its_time_limit_fails_with_the_limit(toy):
    toy.task_dict["01_load"].timeout = timedelta(seconds=2)
    done, tasks, run = go(toy, wait_s=50.0)
    assert done.state == "failed" and tasks["01_load"].try_number == 1
    state, page = report(run, "01_load")
    assert state == "failed" and "StageTimeoutError" in page
    assert mlflow_run(run).info.status == "FAILED"


def test_unwritable_run_folder_is_red_and_named(toy, monkeypatch, tmp_path):
    from lib.dag.account import Account

    from airflow.sdk.listener import get_listener_manager

    account = Account(io.StringIO())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri())
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "file"))
    get_listener_manager().add_listener(account)
    try:
        done = toy.test(run_conf={"source": "sample", "force": True})
    finally:
        get_listener_manager().pm.unregister(account)
    assert done.state == "failed"
    text = account.console.getvalue()
    assert text.count(f"cannot write to the run folder {tmp_path}/file/toy/") == 3, text


def test_two_runs_at_once_both_pass_and_share_nothing():
    running = [
        subprocess.Popen(RUN, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(texts)
    folders = {line.split()[1] for text in texts for line in text.splitlines() if "report" in line}
    assert len(folders) == 2


def test_killed_task_leaves_a_finished_report(tmp_path):
    """SIGKILL to the process that runs the task: the watcher completes the report."""
    known = set((outputs_dir() / "toy").glob("*"))
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*RUN, "--params", '{"wait_s": 60.0}'], cwd=ROOT, stdout=file, stderr=file
        )
    running = None
    deadline = time.monotonic() + 200
    while running is None and time.monotonic() < deadline:
        time.sleep(0.2)
        for folder in set((outputs_dir() / "toy").glob("*")) - known:
            if (folder / "stages/01_load.json").exists():
                running = folder
    assert running, log.read_text()
    time.sleep(1)
    process.kill()
    process.wait()
    path = Path(str(running)) / "01_load.ipynb"
    deadline = time.monotonic() + 30
    while outcome.state(outcome.read_notebook(path)) == "running":
        assert time.monotonic() < deadline, "the report still says that it is running"
        time.sleep(0.2)
    notebook = outcome.read_notebook(path)
    assert outcome.state(notebook) == "failed" and "SIGKILL" in json.dumps(notebook)
    page = Path(str(running)) / "report.html"
    while "SIGKILL" not in page.read_text():
        assert time.monotonic() < deadline, "the page of the run does not say what happened"
        time.sleep(0.2)


def test_dag_stays_on_while_another_run_of_it_waits():
    """That one has found it on, and waits for ever where it is off."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType

    lean.save([dagrun.load_bag("toy")])
    with create_session() as session:  # other tests leave some
        for state in ("queued", "running"):
            for left in DagRun.find(dag_id="toy", state=state, session=session):
                left.state = "failed"

    def switch_and_end():
        out = io.StringIO()
        with create_session() as session:
            DagModel.get_current("toy", session=session).is_paused = True
        with dagrun._switched_on("toy", out):
            assert not DagModel.get_current("toy").is_paused
        return DagModel.get_current("toy").is_paused, "stays on" in out.getvalue()

    assert switch_and_end() == (True, False)
    run = trigger_dag("toy", triggered_by=DagRunTriggeredByType.CLI)
    try:
        assert switch_and_end() == (False, True)
    finally:
        with create_session() as session:
            session.delete(session.get(DagRun, run.id))
