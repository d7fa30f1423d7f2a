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
from datetime import UTC, datetime

from lib import tracking
from lib.dag.clock import GRACE
from lib.ground import addresses, layout
from lib.ground.files import ROOT, state_dir
from lib.ground.parameters import merge_parameters
from lib.ground.runs import run_folder_name
from lib.pages import run_page, summary
from lib.run import open_run

import psutil
import pytest
import up_services
from airflow_reports import CHART, RUN_ID, begin, notebook, with_figure
from run_pages import PIXEL, make_run
from up_services import DAGS, call, open_form, send_form

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
RUN = ("compare", "lakehouse", "power", "score", "tick_symbols")  # one of each shape
BEGUN = datetime.now(UTC)

up, airflow = up_services.up, up_services.airflow
logged_in, page = up_services.logged_in, up_services.page


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


def test_links_lead_to_the_run_and_the_version_themselves_in_mlflow(up, browser_page, tmp_path):
    client, address = tracking.open_client(), up["mlflow"]
    experiment = client.create_experiment("wind", artifact_location=str(tmp_path / "artifacts"))
    info = client.create_run(experiment, run_name="the run itself").info
    client.create_registered_model("wind_gbm")
    client.create_model_version("wind_gbm", str(tmp_path), run_id=info.run_id)
    known = {"run_id": info.run_id, "experiment_id": info.experiment_id, "tracking_uri": "sqlite:"}
    run = make_run(mlflow=known, registration={"name": "wind_gbm", "version": 1})
    page, _ = browser_page
    page.set_default_timeout(120_000)
    text = run_page.render(summary.summarise(run), mlflow_url=address)
    (run.path / "report.html").write_text(text)
    client.log_artifact(info.run_id, str(run.path / "report.html"))
    place = (run.path / "report.html").as_uri()
    page.goto(place)
    page.click(f"a:text-is('{info.run_id}')")
    page.get_by_text("the run itself").first.wait_for()
    page.goto(place)
    page.click("a:text-is('wind_gbm version 1')")
    page.get_by_role("heading", name="Version 1").wait_for()
    page.goto(
        f"{address}/#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/report.html"
    )
    inside = page.frame_locator("iframe")
    inside.locator("h1").first.wait_for()
    hrefs = inside.locator("a[href]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert hrefs and all(href.startswith("http") for href in hrefs), "no link without an end"


def test_airflow_shows_reports_to_those_logged_in_and_they_move_with_the_run(
    up, airflow, sent, browser_page
):
    from playwright.sync_api import expect

    assert "mnist" in sent  # which is off, so that a run waits
    folder = begin(os.environ["OUTPUTS_DIR"], "mnist")
    run_dir = f"mnist/{folder.name}"
    url, password = up["airflow"], up["password"]
    page, _ = browser_page
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    refused = []
    page.on("console", lambda m: refused.append(m.text) if m.type == "error" else None)
    report = page.frame_locator("iframe").frame_locator("iframe.shown")

    airflow("dags/mnist/dagRuns", {"logical_date": None, "dag_run_id": RUN_ID})

    page.goto(f"{url}/reports/view/{run_dir}/01_load.html")
    assert "/auth/login" in page.url and "first words" not in page.content()
    answer = page.request.get(f"{url}/reports/page/{run_dir}/01_load.html")
    assert answer.status == 401 and "first words" not in answer.text()

    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    alone = page.frame_locator("iframe.shown")
    expect(alone.locator("pre.stdout")).to_have_text("first words")
    assert alone.locator("body").evaluate("() => origin") == "null"
    with pytest.raises(Exception, match="sandboxed"):
        alone.locator("body").evaluate("() => document.cookie")

    page.goto(f"{url}/dags/mnist/runs/{RUN_ID}")
    expect(page.get_by_role("link", name="Reports")).to_be_visible()
    page.locator("a[href$='plugin/report']").click()
    expect(report.get_by_text(folder.name).first).to_be_visible()
    report.locator("a[href='01_load.html']").first.click()
    expect(report.locator("pre.stdout")).to_have_text("first words")
    report.locator("nav a", has_text="2 · Features").click()
    expect(report.get_by_text("Waiting for 02_features")).to_be_visible()
    report.locator("nav a", has_text="1 · Load").click()
    expect(report.locator("pre.stdout")).to_have_text("first words")

    (folder / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    expect(report.locator("pre.stdout").nth(1)).to_have_text("second words")

    (folder / "forecast.png").write_bytes(PIXEL)
    (folder / "forecast.chart.json").write_text(json.dumps(CHART))
    (folder / "01_load.ipynb").write_text(json.dumps(with_figure("third words")))
    report.locator("figcaption button").click()
    report.locator(".plot > svg").hover()
    expect(report.locator(".read")).to_contain_text("power 2")
    (folder / "01_load.ipynb").write_text(json.dumps(with_figure("third words", "fourth words")))
    page.wait_for_timeout(5000)
    assert report.locator("dialog[open]").count() == 1
    report.get_by_role("button", name="Close").click()
    expect(report.locator("pre.stdout").nth(1)).to_have_text("fourth words")
    assert refused == []


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
