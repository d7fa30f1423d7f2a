"""`make up` as it is used: the trigger form in a browser, the scheduler, `make run` beside it.

One set of services for all tests, in an empty OUTPUTS_DIR, with no data and no network, so that a
run on public data ends at once, in its load stage, with the reason.
"""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime

from lib import tracking
from lib.dag.clock import GRACE
from lib.ground import addresses, layout
from lib.ground.files import ROOT, state_dir
from lib.ground.parameters import merge_parameters
from lib.ground.runs import run_folder_name
from lib.pages import summary
from lib.run import open_run

import psutil
import pytest
from whole_runs import new_store, wait_for

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
DAGS = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
RUN = ("compare", "lakehouse", "power", "score", "tick_symbols")  # one of each shape
BEGUN = datetime.now(UTC)
ENDED = ("success", "failed")
NOWHERE = "http://127.0.0.1:9"  # nothing listens there


def call(url, token=None, body=None, method=None):
    """Send a request to a server of our own and return its JSON."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """All services, started as `make up` starts them, with their log-ins."""
    folder = tmp_path_factory.mktemp("up")
    log = folder / "log"
    new_store(folder / "outputs")
    patch = pytest.MonkeyPatch()
    patch.setenv("OUTPUTS_DIR", str(folder / "outputs"))  # no unfinished runs of other tests
    patch.setenv("DATA_DIR", str(folder / "data"))
    patch.setenv("WARM_KERNELS", "1")  # of its own, which end with it
    patch.setenv("AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", "3600")  # none is edited
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        patch.setenv(name, NOWHERE)
    for name in ("NO_PROXY", "no_proxy"):
        patch.setenv(name, "127.0.0.1,localhost")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.commands.cli", "up"], cwd=ROOT, stdout=file, stderr=file
        )

    def started():
        assert process.poll() is None, log.read_text()
        return "all up" in log.read_text()

    try:
        wait_for(started, 180, f"the services: {log.read_text()}")
        text = log.read_text()
        found = {
            "process": process,
            "airflow": re.search(r"Airflow +(http\S+)", text)[1],
            "password": re.search(r"password (\S+)\)", text)[1],
            "mlflow": re.search(r"MLflow +(http\S+)", text)[1],
            "lab": re.search(r"JupyterLab +(http\S+)/lab/\S+token=(\S+)", text).groups(),
        }
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        patch.undo()


class Airflow:
    """Airflow's REST API, as its user `admin`."""

    def __init__(self, up):
        self.base = up["airflow"]
        login = {"username": "admin", "password": up["password"]}
        self.token = call(f"{self.base}/auth/token", body=login)["access_token"]

    def __call__(self, path, body=None, method=None):
        return call(f"{self.base}/api/v2/{path}", self.token, body, method)

    def runs(self, dag_id):
        return self(f"dags/{dag_id}/dagRuns?order_by=-run_after")["dag_runs"]

    def wait_for_run(self, dag_id, run_id, seconds=300):
        def ended():
            state = self(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
            return state if state in ENDED else None

        return wait_for(ended, seconds, f"{dag_id} {run_id} to end")


@pytest.fixture(scope="module")
def airflow(up):
    """The API, once every DAG file has been read."""
    api = Airflow(up)

    def parsed():
        assert not api("importErrors")["import_errors"]
        return {dag["dag_id"] for dag in api("dags")["dags"]} == set(DAGS)

    wait_for(parsed, 120, "the DAGs to be parsed")
    return api


@pytest.fixture(scope="module")
def logged_in(up, browser):
    """A page of a browser that is logged in to Airflow."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(up["airflow"])
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", up["password"])
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Dags").first.wait_for()
    return page


@pytest.fixture
def page(logged_in):
    """That page, which shows nothing where nobody looks: Airflow's ask, and draw, all the time."""
    yield logged_in
    logged_in.goto("about:blank")


def open_form(page, up, dag_id):
    """Open the form of a DAG, as a link within Airflow does: its UI takes seconds to load anew."""
    place = f"/dags/{dag_id}"
    if page.url.startswith(up["airflow"]):
        page.evaluate("place => history.pushState({}, '', place)", place)
        page.evaluate("() => { dispatchEvent(new PopStateEvent('popstate')) }")
    else:
        page.goto(f"{up['airflow']}{place}")
    page.get_by_role("heading", name=dag_id, exact=True).wait_for()
    page.get_by_test_id("trigger-dag-button").click()
    page.get_by_test_id("trigger-dag-submit").wait_for()


def send_form(page):
    """Send the form and return the id of the run that Airflow leads to, or makes."""

    def is_trigger(answer):
        return answer.request.method == "POST" and "/dagRuns" in answer.url and answer.ok

    with page.expect_response(is_trigger) as sent:
        page.get_by_test_id("trigger-dag-submit").click()
    page.wait_for_url("**/runs/**")
    return sent.value.json()["dag_run_id"]


@pytest.fixture(scope="module")
def sent(logged_in, up, airflow):
    """The form of every DAG, opened and sent as it is: the ids of the runs, by DAG.

    Those of `RUN` are run; the others stay off, so that a run which is accepted only waits.
    """
    sent = {}
    for dag_id in sorted(DAGS, key=RUN.__contains__):
        open_form(logged_in, up, dag_id)
        if dag_id not in RUN:
            logged_in.get_by_text(re.compile("^Unpause")).click()
        assert logged_in.get_by_test_id("trigger-dag-submit").is_enabled(), dag_id
        sent[dag_id] = send_form(logged_in)
    logged_in.goto("about:blank")
    return sent


def mlflow_runs(dag_id, run_id):
    """Return the MLflow runs of an Airflow run."""
    client = tracking.open_client()
    experiment = client.get_experiment_by_name(dag_id)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    run_dir = f"{dag_id}/{run_folder_name(run_id)}"
    return [run for run in found if run.data.tags["run_dir"] == run_dir]


def test_nothing_listens_beyond_this_machine(up):
    parent = psutil.Process(up["process"].pid)
    listening = set()
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a DAG processor's child that has ended
            listening |= {
                connection.laddr.ip
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("dag_id", sorted({*DAGS} - {*RUN}))
def test_form_can_be_sent_as_it_is_and_is_accepted(dag_id, sent, airflow):
    (run,) = airflow.runs(dag_id)
    assert (run["dag_run_id"], run["state"]) == (sent[dag_id], "queued")
    assert {*run["conf"]} > {"source", "force"}


@pytest.mark.parametrize("dag_id", RUN)
def test_form_can_be_sent_as_it_is_and_starts_one_run_that_ends(dag_id, sent, airflow):
    state = airflow.wait_for_run(dag_id, sent[dag_id])
    found = summary.summarise(open_run(f"{dag_id}/{run_folder_name(sent[dag_id])}"))
    first, *others = [stage["state"] for stage in found["stages"]]
    if state == "failed":  # what it would read is not here: its first stage says so
        assert first == "failed" and set(others) <= {"not run", "failed"}
        assert others.count("failed") <= 1, "but for one that gathers what others left"
        assert found["reason"] and "parameter" not in found["reason"]
    else:
        assert found["state"] == "passed"
    (logged,) = mlflow_runs(dag_id, sent[dag_id])
    assert logged.info.status == {"failed": "FAILED", "success": "FINISHED"}[state]


@pytest.mark.parametrize("dag_id", RUN)
def test_switching_a_dag_on_starts_nothing_of_the_past(dag_id, sent, airflow):
    airflow.wait_for_run(dag_id, sent[dag_id])
    assert airflow(f"dags/{dag_id}")["is_paused"] is False, "the form switches it on"
    scheduled = [r["dag_run_id"] for r in airflow.runs(dag_id) if r["run_type"] == "scheduled"]
    times = [datetime.fromisoformat(run_id.removeprefix("scheduled__")) for run_id in scheduled]
    assert all(moment > BEGUN - GRACE for moment in times), scheduled


def test_sample_in_the_form_takes_small_values_and_is_one_run_of_mlflow(page, up, airflow, sent):
    airflow.wait_for_run("power", sent["power"])
    open_form(page, up, "power")
    page.get_by_text("1 · Load").click()
    page.locator("#element_source").fill("sample")
    page.get_by_text("3 · Tune").click()
    page.locator("input[name=element_n_trials]").fill("4")
    page.keyboard.press("Tab")
    run_id = send_form(page)
    page.goto("about:blank")  # where nothing is drawn anew while nobody looks
    assert airflow.wait_for_run("power", run_id, 600) == "success"
    run = open_run(f"power/{run_folder_name(run_id)}")
    declared = merge_parameters(layout.declared("power"))
    used = {name: v for r in run.records().values() for name, v in r["parameters"].items()}
    own = {name: parameter.default for name, parameter in declared.items()}
    assert used == own | {"n_trials": 4, "run_dir": run.run_dir}, (
        "the sample's own values, though the form sends those of the DAG, and the one changed"
    )

    register = {"dag_run_id": run_id, "task_ids": ["06_register"]}
    register |= {"dry_run": False, "only_failed": False}
    airflow("dags/power/clearTaskInstances", register, "POST")
    assert airflow.wait_for_run("power", run_id) == "success", "cleared, so it ran again"
    assert [*run.path.glob("06_register.attempt-1.ipynb")]
    (logged,) = mlflow_runs("power", run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["margin"] == "0.0" and logged.data.params["horizon"] == "1"
    title = r"power \d\d \w{3} \d\d:\d\d · rmse_vs_persistence 0\.\d+ · sample"
    assert re.fullmatch(title, logged.info.run_name)
    assert logged.data.tags["airflow_run"] == run_id
    assert tracking.CHANGED not in logged.data.tags


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lib.commands.cli", "run", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_run_beside_a_scheduler_goes_through_it_and_leaves_the_switch_as_it_was(airflow, sent):
    airflow.wait_for_run("compare", sent["compare"])
    airflow("dags/compare", {"is_paused": True}, "PATCH")
    process = command("compare")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "by the scheduler of `make up`" in said and "switched on for this run" in said
    assert re.search(r"01_compare +ok +\d", said) and "1 of 1 passed" in said
    assert airflow("dags/compare")["is_paused"] is True
    newest = airflow.runs("compare")[0]
    assert (newest["state"], newest["triggered_by"]) == ("success", "cli")
    assert newest["dag_run_id"] != sent["compare"]


def test_interrupt_of_a_run_beside_a_scheduler_stops_it_there(airflow, sent):
    process = command("--force", "compare")  # and taken from no earlier run
    said = ""
    while "01_compare" not in said:
        said += os.read(process.stdout.fileno(), 4096).decode() or pytest.fail(said)
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "Traceback" not in said and "cancelled" in said
    newest = airflow.runs("compare")[0]
    assert newest["state"] == "failed"
    run = open_run(f"compare/{run_folder_name(newest['dag_run_id'])}")
    assert summary.summarise(run)["state"] == "cancelled"


def test_mlflow_server_shows_what_a_run_without_it_has_logged(up):
    found = call(f"{up['mlflow']}/api/2.0/mlflow/experiments/search", body={"max_results": 10})
    assert any(e["name"] == "power" for e in found["experiments"])


def test_kernel_of_jupyterlab_answers(up):
    import websocket

    url, token = up["lab"]
    kernel = call(f"{url}/api/kernels?token={token}", body={"name": "python3"})
    address = f"{url.replace('http', 'ws')}/api/kernels/{kernel['id']}/channels?token={token}"
    socket_ = websocket.create_connection(address, timeout=60)
    header = {"msg_id": "1", "msg_type": "execute_request", "session": "s", "version": "5.3"}
    content = {"code": "import lib.run; print(6 * 7)", "silent": False, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    socket_.send(json.dumps(request | {"channel": "shell", "buffers": []}))
    text = ""
    while "42" not in text:
        message = json.loads(socket_.recv())
        text += message["content"].get("text", "") + message["content"].get("evalue", "")
    socket_.close()
    assert text == "42\n"


def test_addresses_are_on_record_and_a_second_start_is_refused_with_them(up):
    found = {name: up[name] for name in ("airflow", "mlflow")} | {"lab": up["lab"][0]}
    assert addresses.running() == found
    place = state_dir() / addresses.RECORD
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert not any(secret in place.read_text() for secret in (up["password"], up["lab"][1]))
    assert addresses.open_stage_link("power/a", "01_load").startswith(
        f"{up['lab'][0]}/open-stage?run=power%2Fa"
    )

    def again(command):
        command = [sys.executable, "-m", "lib.commands.cli", command]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    second = again("up")
    assert second.returncode == 2 and second.stderr.startswith("error: make up runs already on")
    assert up["airflow"] in second.stderr and "kill " in second.stderr
    alone = again("lab")
    assert alone.returncode == 0 and "runs already, by make up" in alone.stdout
    assert f"token={up['lab'][1]}" in alone.stdout, "its own user is told how to get in"


def test_interrupt_stops_every_process(up):
    own = psutil.Process(up["process"].pid).children(recursive=True)
    assert len(own) >= 6
    up["process"].send_signal(signal.SIGINT)
    assert up["process"].wait(60) == 0
    _, alive = psutil.wait_procs(own, timeout=10)
    assert not alive, [p.cmdline() for p in alive]
    assert addresses.running() == {} and not (state_dir() / addresses.RECORD).exists()
