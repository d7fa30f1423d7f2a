"""All services as `make up` starts them, asked over HTTP and in a browser."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

from lib.ground.files import ROOT

import pytest
from whole_runs import new_store, wait_for

DAGS = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
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
