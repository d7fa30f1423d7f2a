"""Opened notebooks as people use them: in kernels, and from JupyterLab's own address."""

import http.cookiejar
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from lib.commands.workbench import open_stage
from lib.ground import outcome
from lib.ground.addresses import open_stage_link
from lib.ground.files import ROOT
from lib.machine import provisioner
from lib.run import open_run

import pytest
from executed import free_ports
from opened import ODD, assigned, cell, copies, executed, fingerprint, make_run, sources
from upath import UPath

pytestmark = pytest.mark.kernel


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def execute(path, folder):
    """Run a notebook as it is, from a folder of no meaning, in a kernel as JupyterLab starts it."""
    import nbclient
    import nbformat

    provisioner.use(provisioner.PATIENCE_S)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(folder)}})
    return client.execute()


@pytest.mark.timeout(600)
def test_opened_evaluation_finds_the_metrics_of_its_run_again(power_run, tmp_path):
    before = fingerprint(Path(power_run.path.path))
    path = open_stage(power_run.run_dir, "05_evaluate", tmp_path)
    execute(path, tmp_path)
    copy = open_run(assigned(path)["run_dir"])
    assert copy.read("metrics.json") == power_run.read("metrics.json")
    assert copy.record("05_evaluate")["state"] == "finished"
    assert fingerprint(Path(power_run.path.path)) == before


@pytest.mark.timeout(600)
def test_executed_notebook_runs_again_as_it_is(power_run, tmp_path, monkeypatch):
    monkeypatch.setenv("WARM_KERNELS", "0")  # in a kernel that is started anew
    shutil.copytree(power_run.path.path, tmp_path / "outputs" / power_run.run_dir)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    run = open_run(power_run.run_dir)
    metrics, first = run.read("metrics.json"), run.record("05_evaluate")["finished"]
    execute(run.path / "05_evaluate.ipynb", tmp_path)
    assert run.record("05_evaluate")["finished"] > first
    assert run.read("metrics.json") == metrics


def run_all(path, folder, *more):
    """Run a notebook's cells, and more, as a person in JupyterLab does; return all outputs."""
    import nbformat
    from jupyter_client.manager import start_new_kernel

    provisioner.use(provisioner.PATIENCE_S)
    manager, client = start_new_kernel(cwd=str(folder))
    cells = nbformat.read(path, as_version=4).cells
    outputs = []
    try:
        for source in [*(c.source for c in cells if c.cell_type == "code"), *more]:
            client.execute_interactive(
                source, allow_stdin=True, output_hook=outputs.append, timeout=120
            )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return [found["content"] for found in outputs if found["msg_type"] != "execute_input"]


@pytest.mark.timeout(600)
def test_person_runs_all_in_a_committed_notebook_after_a_run(power_run, tmp_path, monkeypatch):
    folder = tmp_path / "outputs" / power_run.run_dir
    shutil.copytree(power_run.path.path, folder)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    before, notebook = fingerprint(folder), ROOT / "notebooks/power/05_evaluate.ipynb"
    again = "seed = 1\nopen_run(run_dir, stage='05_evaluate')"
    found = run_all(notebook, tmp_path, again)
    (printed,) = [one["text"] for one in found if one.get("name") == "stdout"]
    (error,) = [one for one in found if "traceback" in one]
    assert printed.startswith(f"power/dev begins from {power_run.run_dir} of ")
    assert open_run("power/dev").read("metrics.json") == power_run.read("metrics.json")
    assert open_run("power/dev").record("04_train")["from"] == power_run.run_dir
    assert fingerprint(folder) == before
    (shown,) = error["traceback"]
    assert error["ename"] == "UnfinishedStage" and "made with seed = 0 (here 1)" in shown
    assert len(shown.splitlines()) <= 3, "no tower of tracebacks"


@pytest.mark.timeout(300)
def test_notebook_that_is_executed_on_an_empty_folder_begins_from_no_run(outputs, tmp_path):
    import nbclient.exceptions

    make_run()
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="run 01_load first") as caught:
        execute(ROOT / "notebooks/power/05_evaluate.ipynb", tmp_path)
    shown = outcome.ANSI.sub("", caught.value.traceback)
    assert "raise UnfinishedStage" in shown and "lib/ground/folder.py" in shown, "for the report"
    assert list(open_run("power/dev").records()) == ["05_evaluate"]


@pytest.mark.timeout(300)
def test_failed_stage_fails_in_the_same_cell_again_when_opened(outputs, tmp_path):
    from lib.machine.executor import execute_notebook
    from lib.machine.session import import_papermill

    import nbclient.exceptions

    import_papermill()
    from papermill.exceptions import PapermillExecutionError

    make_run()
    source = executed(
        cell("from lib.run import open_run\nrun = open_run(run_dir, stage='02_features')"),
        cell("rows = len(run.read('raw.parquet')) * block_days"),
        cell("assert rows == 0, f'{rows} rows'"),
        cell("run.finish()"),
    )
    del source["metadata"]["papermill"], source["cells"][2]
    outcome.write_notebook(UPath(tmp_path / "stage.ipynb"), source)
    given = {"block_days": 5, "run_dir": "power/r1"}
    with pytest.raises(PapermillExecutionError):
        execute_notebook(
            tmp_path / "stage.ipynb", outputs / "power/r1/02_features.ipynb", given, cwd=tmp_path
        )
    path = open_stage("power/r1", "02_features", tmp_path)
    assert "10 rows" in sources(path)[0]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match=r"AssertionError.*: 10 rows"):
        execute(path, tmp_path)


class Browser:
    """Cookies, and answers without following redirects."""

    def __init__(self, url):
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        jar = urllib.request.HTTPCookieProcessor(self.cookies)
        self.opener = urllib.request.build_opener(jar, Stay)

    def send(self, path, form=None):
        """Return status, text and the address that one is sent to."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            answer = self.opener.open(f"{self.url}{path}", data, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.read().decode(), answer.headers.get("Location", "")


@pytest.fixture
def jupyter(outputs, tmp_path):
    """A Jupyter server with the extension, which shows a folder of its own; its address."""
    (port,) = free_ports(1)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": tmp_path,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.jpserver_extensions": {"lib.commands.lab_extension": True, "jupyterlab": False},
        "IdentityProvider.token": "secret",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    log = (tmp_path / "jupyter.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *flags],
        env=os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")},
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, (tmp_path / "jupyter.log").read_text()
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)
    log.close()


@pytest.mark.timeout(300)
def test_lab_opens_a_stage_for_who_is_logged_in_and_sends_the_form(jupyter, outputs, tmp_path):
    make_run(ODD)
    form = {"run": ODD, "stage": "02_features"}
    address = open_stage_link(ODD, "02_features", "http://here").removeprefix("http://here")
    stranger, user = Browser(jupyter), Browser(jupyter)

    status, _, target = stranger.send(address)
    assert status == 302 and "/login?next=" in target
    assert stranger.send("/open-stage", form)[0] == 403

    status, page, _ = user.send(f"{address}&token=secret")
    assert status == 200 and "run-a.b=c+d-0f" in page and "form-action 'self'" in page
    assert user.send("/open-stage", form)[0] == 403, "no XSRF token"
    status, page, _ = user.send("/open-stage?run=power/absent&stage=%3Cb%3E")
    assert status == 404 and "there is no run &#39;power/absent&#39;" in page
    status, page, _ = user.send(f"/open-stage?run={urllib.parse.quote(ODD)}&stage=%3Cb%3E")
    assert status == 404 and "<b>" not in page
    assert copies(outputs) == [] and not (tmp_path / "workbench").exists()

    status, page, _ = user.send(address)
    (xsrf,) = re.findall(r'name="_xsrf" value="([^"]+)"', page)
    status, _, target = user.send("/open-stage", form | {"_xsrf": xsrf})
    assert (status, target) == (
        302,
        "/lab/tree/workbench/power-run-a.b%3Dc%2Bd-0f/02_features.ipynb",
    )
    assert copies(outputs) == ["open-02_features-of-run-a.b=c+d-0f"]
    assert assigned(tmp_path / "workbench/power-run-a.b=c+d-0f/02_features.ipynb")
