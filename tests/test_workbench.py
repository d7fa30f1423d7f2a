"""Opening a stage: its notebook with the run's parameters, on a copy that leaves the run alone."""

import http.cookiejar
import json
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
from types import SimpleNamespace

from lib import outcome, tracking
from lib.addresses import open_stage_link
from lib.commands import workbench
from lib.commands.workbench import open_stage
from lib.pages.summary import list_runs, summarise
from lib.registry import lifecycle
from lib.run import ROOT, UnfinishedStage, open_run, write_bytes
from lib.runs import copied_from

import IPython
import pandas as pd
import pytest
from upath import UPath

FRAME = pd.DataFrame({"power_kw": [1.5, 2.5]}, index=pd.Index([3, 4], name="ts"))
ODD = "power/run-a.b=c+d-0f"
PARAMETERS = 'run_dir: str = "power/dev"  # run folder\nblock_days: int = 7  # length, days [1..60]'


def cell(text, status="completed", kind="code", **more):
    """A cell of an executed notebook, as papermill leaves it."""
    made = {"cell_type": kind, "id": f"c{abs(hash(text))}", "source": text, "metadata": {}}
    made["metadata"] = {"tags": more.pop("tags", []), "papermill": {"status": status}}
    if kind == "code":
        made |= {"outputs": more.pop("outputs", []), "execution_count": 3}
    return made


def executed(*cells, **parameters):
    record = {"parameters": parameters, "start_time": "2026-01-02T03:04:05+00:00"}
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}}
    metadata |= {"papermill": record | {"end_time": "2026-01-02T03:05:05+00:00"}}
    whole = [
        cell("# Card\n[1 · Load](01_load.ipynb)", kind="markdown"),
        cell(PARAMETERS, tags=["parameters"]),
        cell("# Parameters\nblock_days = 9", tags=["injected-parameters"]),
        *cells,
    ]
    return {"cells": whole, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def make_run(run_dir="power/r1"):
    """A run with two stages finished, a third begun, and the executed notebook of the second."""
    run = open_run(run_dir, stage="01_load")
    run.write("raw.parquet", FRAME)
    run.finish()
    run = open_run(run_dir, stage="02_features")
    run.write("features.parquet", run.read("raw.parquet"))
    with run.writing("tables") as path:
        path.mkdir()
        (path / "one.txt").write_text("1")
    run.finish()
    text = [{"output_type": "stream", "name": "stdout", "text": "seen"}]
    ran = executed(cell("print('seen')", outputs=text), block_days=9, run_dir=run_dir)
    outcome.write_notebook(run.path / "02_features.ipynb", ran)
    open_run(run_dir, stage="03_tune").write("trials.csv", FRAME)
    write_bytes(run.path / "mlflow.json", b'{"run_id": "x", "values": {}}')
    return run


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def sources(path):
    return [outcome.source_text(found) for found in outcome.read_notebook(UPath(path))["cells"]]


def assigned(path):
    """Return what the cell of injected parameters sets."""
    cells = outcome.read_notebook(UPath(path))["cells"]
    (text,) = [c["source"] for c in cells if "injected-parameters" in c["metadata"]["tags"]]
    values = {}
    exec(text, values)
    return values


def copies(outputs):
    return sorted(p.name for p in (outputs / "power").iterdir() if p.name.startswith("open-"))


def fingerprint(folder):
    """Name, content and time of change of everything in a folder."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes())
        for p in sorted(folder.rglob("*"))
    }


def test_opened_notebook_has_the_cells_and_parameters_of_the_run_and_no_outputs(outputs, tmp_path):
    make_run()
    path = open_stage("power/r1", "02_features", tmp_path)
    assert path == tmp_path / "workbench/power-r1/02_features.ipynb"
    assert assigned(path)["block_days"] == 9
    assert assigned(path)["run_dir"] == "power/open-02_features-of-r1"
    assert sources(path)[2] == PARAMETERS and sources(path)[4:] == ["print('seen')"]
    code = [c for c in outcome.read_notebook(UPath(path))["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    assert all(list(c["metadata"]) == ["tags"] for c in code)


def test_links_to_other_stages_lead_to_their_notebooks(outputs, tmp_path):
    make_run()
    card = sources(open_stage("power/r1", "02_features", tmp_path))[1]
    assert card == "# Card\n[1 · Load](../../notebooks/power/01_load.ipynb)"


def test_opened_notebook_is_a_valid_notebook(outputs, tmp_path):
    import nbformat

    make_run()
    for stage in ("02_features", "05_evaluate"):
        nbformat.validate(nbformat.read(open_stage("power/r1", stage, tmp_path), as_version=4))


@pytest.fixture(params=["local", "memory", "s3"])
def anywhere(request, tmp_path, monkeypatch):
    """An outputs folder on every kind of file system that is promised to work."""
    place = {"local": str(tmp_path / "outputs"), "memory": f"memory://{tmp_path.name}"}
    if request.param == "s3":
        place["s3"] = f"s3://{request.getfixturevalue('bucket')}/outputs"
    monkeypatch.setenv("OUTPUTS_DIR", place[request.param])


@pytest.mark.slow
def test_copy_holds_what_the_earlier_stages_left_and_lets_the_stage_read_it(anywhere, tmp_path):
    make_run()
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1", stage="03_tune")
    pd.testing.assert_frame_equal(copy.read("features.parquet"), FRAME)
    assert (copy.local("tables") / "one.txt").read_text() == "1"
    assert not (copy.path / "trials.csv").exists(), "of the stage itself"
    assert not (copy.path / "mlflow.json").exists(), "it would lead to the MLflow run of the run"


@pytest.mark.slow
def test_second_call_makes_another_copy_on_every_file_system(anywhere, tmp_path):
    make_run()
    first = open_stage("power/r1", "02_features", tmp_path)
    first.write_text("my edits")
    second = open_stage("power/r1", "02_features", tmp_path)
    assert first.read_text() == "my edits" and second.name == "02_features-2.ipynb"
    assert assigned(second)["run_dir"] == "power/open-02_features-of-r1-2"


def test_notebook_whose_copy_is_gone_is_not_overwritten(outputs, tmp_path):
    make_run()
    open_stage("power/r1", "02_features", tmp_path).write_text("my edits")
    shutil.rmtree(outputs / "power/open-02_features-of-r1")
    assert open_stage("power/r1", "02_features", tmp_path).name == "02_features-2.ipynb"
    assert (tmp_path / "workbench/power-r1/02_features.ipynb").read_text() == "my edits"


def test_first_stage_is_opened_without_any_input(outputs, tmp_path):
    make_run()
    open_stage("power/r1", "01_load", tmp_path)
    folder = outputs / "power/open-01_load-of-r1"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {"run.json", "opened/01_load.ipynb"}


def test_run_stays_as_it_was_whatever_is_done_in_the_copy(outputs, tmp_path):
    make_run()
    before = fingerprint(outputs / "power/r1")
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1", stage="02_features")
    copied = outputs / "power/open-03_tune-of-r1/raw.parquet"
    with copied.open("r+b") as file:
        file.write(b"edited in place")
    copy.write("features.parquet", FRAME + 1)
    copy.finish()
    assert fingerprint(outputs / "power/r1") == before


def test_copy_says_what_it_is_a_copy_of_and_counts_as_a_run_by_hand(outputs, tmp_path):
    run = make_run()
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1")
    assert copied_from(copy) == "power/r1" and copied_from(run) == ""
    assert summarise(copy)["state"] == "unfinished" and summarise(copy)["problems"] == []


@pytest.mark.parametrize("run_dir", ["power/absent", "../power", "power/..", "power", "", "/etc/x"])
def test_unknown_run_is_refused_and_nothing_is_made(outputs, tmp_path, run_dir):
    make_run()
    with pytest.raises(ValueError, match=r"run_dir|no run power/absent; the last of power are r1"):
        open_stage(run_dir, "02_features", tmp_path)
    assert not (tmp_path / "workbench").exists() and copies(outputs) == []


@pytest.mark.parametrize("stage", ["05_evaluat", "../01_load", "", "stages/01_load"])
def test_unknown_stage_is_refused_with_those_that_there_are(outputs, tmp_path, stage):
    make_run()
    with pytest.raises(ValueError, match=r"power/r1 has no stage .*01_load, .*, 06_register"):
        open_stage("power/r1", stage, tmp_path)
    assert not (tmp_path / "workbench").exists() and copies(outputs) == []


def test_odd_name_of_a_run_is_kept_in_folder_and_address(outputs, tmp_path):
    make_run(ODD)
    path = open_stage(ODD, "02_features", tmp_path)
    assert path == tmp_path / "workbench/power-run-a.b=c+d-0f/02_features.ipynb"
    assert open_run(assigned(path)["run_dir"]).read("raw.parquet").equals(FRAME)
    found = urllib.parse.parse_qs(urllib.parse.urlsplit(open_stage_link(ODD, "02_features")).query)
    assert found == {"run": [ODD], "stage": ["02_features"]}


def test_failed_stage_shows_its_error_and_marks_the_cell_once(outputs, tmp_path):
    run = make_run()
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'kW'", "traceback": []}
    ran = executed(cell("fine = 1"), cell("bad", outputs=[error]), cell("after"), run_dir="x/y")
    outcome.mark_failed(ran, 4, "KeyError", "'kW'")
    outcome.write_notebook(run.path / "02_features.ipynb", ran)
    found = sources(open_stage("power/r1", "02_features", tmp_path))
    assert "KeyError: 'kW'" in found[0]
    assert found[4:] == ["fine = 1", "**In the run, the next cell failed.**", "bad", "after"]


def test_stage_that_was_not_executed_gets_what_the_run_knows_of_its_parameters(outputs, tmp_path):
    run = make_run()
    told = {"max_rmse_vs_persistence": "0.5", "country": "DE", "n_explained": "11"}
    write_bytes(run.path / "mlflow.json", json.dumps({"values": told}).encode())
    record = run.record("01_load")
    record["parameters"] = {"seed": 3, "source": "sample"}
    write_bytes(run.path / "stages/01_load.json", json.dumps(record).encode())
    path = open_stage("power/r1", "05_evaluate", tmp_path)
    values = {name: assigned(path).get(name) for name in ("max_rmse_vs_persistence", "seed")}
    assert values == {"max_rmse_vs_persistence": 0.5, "seed": 3}
    assert assigned(path)["n_explained"] == 11 and "country" not in assigned(path)
    note = sources(path)[0]
    assert "the cells are of `notebooks/power/05_evaluate.ipynb`" in note
    assert "defaults are taken: block_days, n_resamples." in note
    assert "Not finished in the run: 03_tune, 04_train" in note


def test_notebook_that_has_changed_since_is_named_with_its_parameters(outputs, tmp_path):
    make_run()
    note = sources(open_stage("power/r1", "02_features", tmp_path))[0]
    assert re.search(r"02_features.ipynb` now declares otherwise: .*block_days.*horizon", note)
    assert "The code of `notebooks/power/02_features.ipynb` has changed since" in note
    note = sources(open_stage("power/r1", "01_load", tmp_path))[0]
    assert "declares otherwise" not in note and "has changed" not in note


def test_copy_takes_the_values_that_its_own_parameters_cell_allows(outputs, tmp_path, monkeypatch):
    make_run()
    path = open_stage("power/r1", "02_features", tmp_path)
    kernel = assigned(path) | {"lags": "not a list any more"}
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(user_ns=kernel))
    run = open_run(kernel["run_dir"], stage="02_features")
    assert run.record("02_features")["parameters"]["block_days"] == 9
    with pytest.raises(ValueError, match="lags"):
        open_run("power/other", stage="02_features")
    kernel["block_days"] = 61
    with pytest.raises(ValueError, match="block_days"):
        open_run(kernel["run_dir"], stage="02_features")


def test_damaged_input_stays_refused_in_the_copy(outputs, tmp_path):
    run = make_run()
    (run.path / "raw.parquet").write_bytes(b"short")
    open_stage("power/r1", "02_features", tmp_path)
    with pytest.raises(UnfinishedStage, match="damaged"):
        open_run("power/open-02_features-of-r1", stage="02_features").read("raw.parquet")


def test_model_of_a_copy_is_registered_only_when_asked_for_in_words(outputs, tmp_path, monkeypatch):
    run = open_run("power/r1", stage="01_load")
    run.write("dataset.json", {"source": "sample", "digest": "d"})
    run.write("metrics.json", {"rmse": 1.0})
    run.write("verdict.json", {"passed": True, "checks": []})
    with run.writing("model") as path:
        path.mkdir()
        (path / "MLmodel").write_text("x")
    run.finish()
    open_stage("power/r1", "06_register", tmp_path)
    monkeypatch.setattr(tracking, "mirror", lambda run: {}["reached MLflow"])
    copy = open_run("power/open-06_register-of-r1", stage="06_register")
    with pytest.raises(ValueError, match=r"not registered: .* is a copy of power/r1.*from_copy"):
        lifecycle.register(copy, "household")
    for given, options in ((copy, {"from_copy": True}), (open_run("power/r1"), {})):
        with pytest.raises(KeyError, match="reached MLflow"):
            lifecycle.register(given, "household", **options)
    assert "from_copy=True" in sources(tmp_path / "workbench/power-r1/06_register.ipynb")[0]


def test_running_lab_that_can_show_the_notebook_is_found(tmp_path, monkeypatch):
    servers = [
        {"root_dir": "/elsewhere", "url": "http://127.0.0.1:1/", "token": "t"},
        {"root_dir": str(tmp_path), "url": "http://127.0.0.1:2/base/", "token": "t"},
    ]
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: iter(servers))
    path = tmp_path / "workbench/power-a+b/01_load.ipynb"
    expected = "http://127.0.0.1:2/base/lab/tree/workbench/power-a%2Bb/01_load.ipynb?token=t"
    assert workbench.lab_url(path) == expected
    assert workbench.lab_url(Path("/other/01_load.ipynb")) == ""


def test_command_prints_the_note_the_notebook_and_how_to_open_it(
    outputs, tmp_path, monkeypatch, capsys
):
    make_run()
    monkeypatch.setattr(workbench, "open_stage", lambda *a: open_stage(*a, tmp_path))
    monkeypatch.setattr(workbench, "ROOT", tmp_path)
    monkeypatch.setattr(workbench, "lab_url", lambda path: "")
    assert workbench.main("power/r1", "02_features") == 0
    printed = capsys.readouterr().out
    assert "Stage `02_features` of `power/r1`" in printed
    assert "open      make lab, then workbench/power-r1/02_features.ipynb" in printed


# ------------------------------------------------------------------ with kernels and a server


@pytest.fixture(scope="module")
def sample():
    """A finished run of the sample: one that this session has made already, or a new one."""
    for run in list_runs("power"):
        evaluated_here = run.record("05_evaluate").get("parameters", {}).get("run_dir")
        if evaluated_here == run.run_dir and summarise(run)["state"] == "passed":
            return run
    from lib.commands import services

    from whole_runs import go, impatient

    services.prepare()
    return go(impatient("power"))[2]


def execute(path, folder):
    """Run a notebook as it is, from a folder of no meaning; return it."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(folder)}})
    return client.execute()


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_opened_evaluation_finds_the_metrics_of_its_run_again(sample, tmp_path):
    before = fingerprint(Path(sample.path.path))
    path = open_stage(sample.run_dir, "05_evaluate", tmp_path)
    execute(path, tmp_path)
    copy = open_run(assigned(path)["run_dir"])
    assert copy.read("metrics.json") == sample.read("metrics.json")
    assert copy.record("05_evaluate")["state"] == "finished"
    assert fingerprint(Path(sample.path.path)) == before


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_executed_notebook_runs_again_as_it_is(sample, tmp_path, monkeypatch):
    shutil.copytree(sample.path.path, tmp_path / "outputs" / sample.run_dir)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    run = open_run(sample.run_dir)
    metrics, first = run.read("metrics.json"), run.record("05_evaluate")["finished"]
    execute(run.path / "05_evaluate.ipynb", tmp_path)
    assert run.record("05_evaluate")["finished"] > first
    assert run.read("metrics.json") == metrics


def run_all(path, folder, *more):
    """Run a notebook's cells, and more, as a person in JupyterLab does; return all outputs."""
    import nbformat
    from jupyter_client.manager import start_new_kernel

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


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_person_runs_all_in_a_committed_notebook_after_a_run(sample, tmp_path, monkeypatch):
    folder = tmp_path / "outputs" / sample.run_dir
    shutil.copytree(sample.path.path, folder)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    before, notebook = fingerprint(folder), ROOT / "notebooks/power/05_evaluate.ipynb"
    again = "seed = 1\nopen_run(run_dir, stage='05_evaluate')"
    found = run_all(notebook, tmp_path, again)
    (printed,) = [one["text"] for one in found if one.get("name") == "stdout"]
    (error,) = [one for one in found if "traceback" in one]
    assert printed.startswith(f"power/dev is empty: begins from {sample.run_dir} of ")
    assert open_run("power/dev").read("metrics.json") == sample.read("metrics.json")
    assert open_run("power/dev").record("04_train")["from"] == sample.run_dir
    assert fingerprint(folder) == before
    (shown,) = error["traceback"]
    assert error["ename"] == "UnfinishedStage" and "made with seed = 0 (here 1)" in shown
    assert len(shown.splitlines()) <= 3, "no tower of tracebacks"


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_notebook_that_is_executed_on_an_empty_folder_begins_from_no_run(outputs, tmp_path):
    import nbclient.exceptions

    make_run()
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="run 01_load first") as caught:
        execute(ROOT / "notebooks/power/05_evaluate.ipynb", tmp_path)
    shown = outcome.ANSI.sub("", caught.value.traceback)
    assert "raise UnfinishedStage" in shown and "lib/run.py" in shown, "all of it, for the report"
    assert list(open_run("power/dev").records()) == ["05_evaluate"]


@pytest.mark.kernel
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


@pytest.mark.kernel
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
    assert status == 404 and "no run power/absent; the last of power are run-a" in page
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
