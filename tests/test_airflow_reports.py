"""Reports inside Airflow: who may read them, what can be asked for, how they keep up to date."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lib.commands import services
from lib.pages import summary
from lib.run import ROOT, open_run, outputs_dir, run_folder_name

import pytest

RUN_ID = "manual__2026-01-02T03:04:05+00:00"
RUN = f"power/{run_folder_name(RUN_ID)}"
REPORT = f"{RUN}/report.html"
SECRET = "do not show this"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
CHART = {
    "x": {"label": "hour", "time": False, "start": 0, "steps": 1},
    "y": {"label": "power (kW)"},
    "series": [
        {"label": "power", "kind": "line", "muted": False, "hidden": False, "values": [1, 2, 3]}
    ],
    "note": "",
}
PLACES = (
    "index.html",
    REPORT,
    f"{RUN}/01_load.html",
    f"{RUN}/01_load.ipynb",
    "compare?a=x/y&b=x/z",
)


def notebook(*outputs, state="running"):
    """An executed notebook with one code cell for each text that was printed, and one to come."""
    status = [*["completed"] * len(outputs), "pending"]
    cells = [
        {
            "cell_type": "code",
            "id": str(number),
            "execution_count": number,
            "source": f"step_{number}()",
            "metadata": {"papermill": {"status": found}},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": text}] if text else [],
        }
        for number, (text, found) in enumerate(zip((*outputs, ""), status, strict=True))
    ]
    record = {"start_time": "2026-01-02T03:04:05+00:00"}
    if state != "running":
        record["end_time"] = "2026-01-02T03:04:09+00:00"
    metadata = {"kernelspec": {"language": "python"}, "papermill": record}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def with_figure(*outputs):
    """The same, with a figure that the first cell has written."""
    made = notebook(*outputs)
    cell = made["cells"][0]
    cell["source"] = 'run.write("forecast.png", figure);'
    cell["outputs"].append({"output_type": "display_data", "data": {"image/png": PIXEL}})
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of one run, going on, below an `OUTPUTS_DIR` of its own."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    (tmp_path / "secret.ipynb").write_text(json.dumps(notebook(SECRET)))
    path = tmp_path / "outputs" / RUN
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"dag_id": "power", "run_id": RUN_ID}))
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words")))
    return path


@pytest.fixture(scope="module")
def tokens():
    """Tokens that Airflow has signed for a viewer and for an administrator."""
    from airflow import models, settings
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models.base import Base

    models.import_all_models()
    Path(os.environ["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True)
    Base.metadata.create_all(settings.engine)
    manager = init_auth_manager()
    return {
        role: manager.generate_jwt(SimpleAuthManagerUser(username=role, role=role))
        for role in ("viewer", "admin")
    }


@pytest.fixture
def client(tokens):
    """A client of the reports as Airflow mounts them; it follows no redirect."""
    from lib.dag.reports import reports

    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.mount("/reports", reports())
    return TestClient(app, follow_redirects=False)


@pytest.fixture
def get(client, tokens):
    """Ask for a path as somebody who is logged in."""
    return lambda path, **headers: client.get(
        f"/reports/{path}", headers={"Cookie": f"_token={tokens['viewer']}"} | headers
    )


@pytest.mark.parametrize("place", PLACES)
def test_logged_out_leads_to_the_login_and_shows_nothing(client, folder, place):
    answer = client.get(f"/reports/view/{place}")
    assert answer.status_code == 307 and "first words" not in answer.text
    assert answer.headers["location"].startswith("/auth/login?next=%2Freports%2Fview%2F")
    for kind in ("page", "state"):
        answer = client.get(f"/reports/{kind}/{place}")
        assert answer.status_code == 401 and "first words" not in answer.text


@pytest.mark.parametrize("change", [lambda t: t[:-8] + "AAAAAAAA", lambda t: "", lambda t: "x.y.z"])
def test_token_that_airflow_did_not_sign_is_refused(client, tokens, folder, change):
    token = change(tokens["viewer"])
    for headers in ({"Cookie": f"_token={token}"}, {"Authorization": f"Bearer {token}"}):
        assert client.get(f"/reports/page/{REPORT}", headers=headers).status_code == 401
        assert client.get(f"/reports/view/{REPORT}", headers=headers).status_code == 307


def test_token_opens_reports_from_the_cookie_and_from_the_header(client, tokens, folder):
    for role, headers in (
        ("viewer", {"Cookie": f"_token={tokens['viewer']}"}),
        ("admin", {"Authorization": f"Bearer {tokens['admin']}"}),
    ):
        answer = client.get(f"/reports/page/{RUN}/01_load.html", headers=headers)
        assert answer.status_code == 200 and "first words" in answer.text, role


def test_caller_who_may_not_read_the_dag_sees_neither_its_reports_nor_its_rows(
    get, folder, monkeypatch
):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    other = folder.parents[1] / "tick" / "20260102"
    other.mkdir(parents=True)
    (other / "run.json").write_text("{}")
    monkeypatch.setattr(
        SimpleAuthManager,
        "is_authorized_dag",
        lambda self, *, details, **_: details.id != "power",
    )
    for kind in ("view", "page", "state"):
        answer = get(f"{kind}/{REPORT}")
        assert answer.status_code == 403 and "first words" not in answer.text
        assert get(f"{kind}/compare?a=tick/20260102&b={RUN.replace('+', '%2B')}").status_code == 403
    index = get("page/index.html")
    assert index.status_code == 200 and "20260102" in index.text and RUN[6:] not in index.text


@pytest.mark.parametrize("kind", ["view", "page", "state"])
@pytest.mark.parametrize(
    "path",
    [
        "../secret.ipynb",
        "power/../secret.ipynb",
        "../../secret.ipynb",
        "%2e%2e/secret.ipynb",
        "power/%2e%2e/secret.ipynb",
        "power/%252e%252e/secret.ipynb",
        "power/..%2f..%2f/secret.ipynb",
        f"{RUN}/..%2f..%2f..%2fsecret.ipynb",
        f"{RUN}/..%5c..%5c..%5csecret.ipynb",
        f"{RUN}/%252e%252e%252fsecret.ipynb",
        f"{RUN}/01_load.ipynb%00.html",
        f"{RUN}/%00",
        f"{RUN}/01_load.ipynb%0a",
        "{outside}",
        "%2F{outside}",
        "power/x/{outside}",
        f"{RUN}/run.json",
        f"{RUN}/stages/01_load.json",
        f"{RUN}/.scratch",
        "power//01_load.ipynb",
        "//secret.ipynb",
        "compare?a=../x&b=power/x",
        "compare?a=power/x&b=power/%252e%252e",
        ".index.json",
        "mlflow.db",
        "",
    ],
)
def test_only_names_of_reports_can_be_asked_for(get, folder, tmp_path, kind, path):
    answer = get(f"{kind}/{path.replace('{outside}', f'{tmp_path}/secret.ipynb')}")
    assert answer.status_code == 404 and SECRET not in answer.text


def linked(place, target):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, out: linked(folder / "02_features.ipynb", out / "secret.ipynb"),
        lambda folder, out: linked(folder / "stages" / "01_load.json", out / "secret.ipynb"),
        lambda folder, out: linked(folder / "figures", out),
        lambda folder, out: linked(folder / "gone.png", out / "nowhere"),
    ],
)
def test_run_folder_with_a_link_that_leads_out_is_refused(get, folder, tmp_path, make):
    make(folder, tmp_path)
    for file in ("report.html", "01_load.html", "02_features.html", "02_features.ipynb"):
        answer = get(f"page/{RUN}/{file}")
        assert answer.status_code == 404 and SECRET not in answer.text


@pytest.mark.parametrize("level", ["pipeline", "run"])
def test_folder_that_is_a_link_out_of_the_outputs_is_refused(get, folder, tmp_path, level):
    outside = tmp_path / "elsewhere" / "run-1"
    shutil.copytree(folder, outside)
    if level == "pipeline":
        linked(folder.parents[1] / "tick", outside.parent)
        answer = get("page/tick/run-1/01_load.html")
    else:
        linked(folder.parent / "run-1", outside)
        answer = get("page/power/run-1/01_load.html")
    assert answer.status_code == 404 and "first words" not in answer.text


def test_link_to_another_run_of_the_same_pipeline_is_followed(get, folder):
    linked(folder.parent / "dev" / "01_load.ipynb", folder / "01_load.ipynb")
    assert "first words" in get("page/power/dev/01_load.html").text


def test_figure_that_a_record_names_outside_of_the_run_is_not_shown(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"png")
    record = {"state": "running", "started": "2026-01-02T03:04:05+00:00"}
    record["writes"] = {"../../../secret.png": "", f"{tmp_path}/secret.png": "", "seen.png": ""}
    (folder / "stages").mkdir()
    (folder / "stages" / "01_load.json").write_text(json.dumps(record))
    assert summary.summarise(open_run(RUN))["stages"][0]["figures"] == ["seen.png"]


def test_report_is_sandboxed_and_our_own_page_runs_one_script(get, folder):
    inner = get(f"page/{RUN}/01_load.html")
    policy = inner.headers["content-security-policy"]
    assert "sandbox allow-scripts; frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy and "allow-same-origin" not in policy
    assert "'unsafe-inline'" not in re.search(r"script-src ([^;]*)", policy)[1]
    outer = get(f"view/{RUN}/01_load.html")
    policy = outer.headers["content-security-policy"]
    assert len(re.search(r"script-src ([^;]*)", policy)[1].split()) == 1
    for answer in (inner, outer, get(f"page/{RUN}/nothing"), get(f"page/{RUN}/01_load.ipynb")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_report_opened_by_itself_leads_to_the_page_around_it(get, folder):
    answer = get(f"page/{RUN}/01_load.html", **{"Sec-Fetch-Dest": "document"})
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/reports/view/{RUN.replace('+', '%2B')}/01_load.html"


def test_notebook_comes_as_a_file_to_keep(get, folder):
    answer = get(f"page/{RUN}/01_load.ipynb")
    assert answer.json() == notebook("first words")
    assert answer.headers["content-disposition"].startswith('attachment; filename="power-manual')


@pytest.mark.parametrize(("task", "name"), [("", "report.html"), ("/01_load", "01_load.html")])
def test_ids_of_airflow_lead_to_the_run_folder(get, task, name):
    answer = get(f"run/power/manual__2026-01-02T03%3A04%3A05%2B00%3A00{task}")
    assert answer.headers["location"] == f"/reports/view/{RUN.replace('+', '%2B')}/{name}"


@pytest.mark.parametrize("task", ["..%2fsecret", "wait", "01_load.x"])
def test_task_that_is_no_notebook_has_no_report(get, folder, task):
    answer = get(f"run/power/{RUN_ID}/{task}")
    assert answer.status_code == 404 or get(answer.headers["location"][9:]).status_code == 404


def test_run_that_has_not_begun_waits_and_is_live(get, folder):
    shutil.rmtree(folder)
    assert "its first stage" in get(f"page/{REPORT}").text
    assert get(f"state/{REPORT}").json()["live"] is True


def test_stage_that_has_not_begun_waits_and_one_that_does_not_exist_is_not_found(get, folder):
    assert "02_features" in get(f"page/{RUN}/02_features.html").text
    assert get(f"page/{RUN}/99_nothing.html").status_code == 404
    assert get("page/nothing/x/report.html").status_code == 404


def test_stage_that_will_not_be_run_is_not_waited_for(get, folder):
    failed = notebook("first words", state="ended")
    failed["metadata"]["papermill"]["exception"] = True
    (folder / "01_load.ipynb").write_text(json.dumps(failed))
    text = get(f"page/{RUN}/02_features.html").text
    assert "not run" in text and "02_features was not run: the run has failed." in text
    assert "Waiting" not in text and ">waiting<" not in get(f"page/{REPORT}").text
    assert get(f"state/{REPORT}").json()["live"] is False


def test_run_that_was_closed_is_live_no_more(get, folder):
    before = get(f"state/{REPORT}").json()
    summary.close_run(open_run(RUN), "lost", "The machine went down")
    after = get(f"state/{REPORT}").json()
    assert before["live"] and not after["live"] and after["version"] != before["version"]
    assert "The machine went down" in get(f"page/{REPORT}").text
    assert "The machine went down" in get(f"page/{RUN}/02_features.html").text


@pytest.mark.parametrize("stage", ["01_load", "02_features"])
def test_page_of_a_stage_leads_on_by_itself(get, folder, stage):
    text = get(f"page/{RUN}/{stage}.html").text
    nav = text[text.index("<nav") : text.index("</nav>")]
    assert 'href="../../index.html"' in nav and 'href="report.html"' in nav
    other = "02_features" if stage == "01_load" else "01_load"
    assert f'href="{other}.html"' in nav
    assert "All runs" not in get(f"view/{RUN}/{stage}.html").text, "said once"


def test_page_of_a_run_that_goes_on_links_the_stage_that_is_running(get, folder):
    text = get(f"page/{REPORT}").text
    assert 'href="01_load.html"' in text and 'href="02_features.html"' not in text


def test_two_runs_are_compared_under_links_that_lead_back_to_them(get, folder):
    shutil.copytree(folder, folder.parent / "run-1")
    (folder.parent / "run-1" / "report.html").touch()
    text = get(f"page/compare?a=power/run-1&b={RUN.replace('+', '%2B')}").text
    assert 'href="power/run-1/report.html"' in text


def test_runs_on_a_remote_file_system_are_shown_and_have_versions(get, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", "memory://reports-test")
    path = outputs_dir() / "power" / "run-1"
    path.mkdir(parents=True)
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words")))
    before = get("state/power/run-1/report.html").json()["version"]
    assert "first words" in get("page/power/run-1/01_load.html").text
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    assert get("state/power/run-1/report.html").json()["version"] != before


def test_version_changes_with_the_notebook_and_live_ends_with_the_run(get, folder):
    before = get(f"state/{REPORT}").json()
    assert before == get(f"state/{REPORT}").json() and before["live"] is True
    (folder / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    after = get(f"state/{REPORT}").json()
    assert after["version"] != before["version"] and after["live"] is True
    assert "second words" in get(f"page/{RUN}/01_load.html").text
    for stage in sorted((ROOT / "notebooks" / "power").glob("[0-9]*.ipynb")):
        (folder / stage.name).write_text(json.dumps(notebook("done", state="ended")))
    assert get(f"state/{REPORT}").json()["live"] is False


@pytest.mark.kernel
def test_plugin_follows_the_address_of_airflow_and_imports_nothing_heavy():
    code = "import sys; sys.path.insert(0, 'plugins'); import reports; print(*(\n" + (
        "view['href'] for view in reports.ReportsPlugin.external_views),"
        "*sorted({'fastapi', 'lib', 'pandas'} & set(sys.modules)))"
    )
    settings = {"AIRFLOW__API__BASE_URL": "https://example.org/airflow/"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "/airflow/reports/view/index.html",
        "/airflow/reports/run/{DAG_ID}/{RUN_ID}",
        "/airflow/reports/run/{DAG_ID}/{RUN_ID}/{TASK_ID}",
    ]


DAG = """
from datetime import datetime, UTC
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("power", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)):
    EmptyOperator(task_id="01_load")
"""
SERVER = """
import sys
from airflow.utils.db import initdb

initdb()
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

DagBundlesManager().sync_bundles_to_db()
sync_bag_to_db(DagBag(), "dags-folder", None)
from airflow.__main__ import main

sys.argv = ["airflow", "api-server"]
main()
"""


@pytest.fixture
def airflow(tmp_path, folder):
    """Airflow's API server with a database and a DAG of its own: its URL and password."""
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "power.py").write_text(DAG)
    port = services.free_port(8480)
    settings = services.airflow_settings(port) | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    password = services._airflow_password(settings)
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=os.environ | settings,
            cwd=ROOT,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    url = settings["AIRFLOW__API__BASE_URL"]
    try:
        while not services._answers(port):
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield url, password
    finally:
        services._stop([server])


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_airflow_shows_reports_to_those_logged_in_and_they_move_with_the_run(
    airflow, folder, browser_page
):
    from playwright.sync_api import expect

    url, password = airflow
    page, _ = browser_page
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    refused = []
    page.on("console", lambda m: refused.append(m.text) if m.type == "error" else None)
    report = page.frame_locator("iframe").frame_locator("iframe.shown")

    login = {"username": "admin", "password": password}
    token = page.request.post(f"{url}/auth/token", data=login).json()["access_token"]
    triggered = page.request.post(
        f"{url}/api/v2/dags/power/dagRuns",
        data={"logical_date": None, "dag_run_id": RUN_ID},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert triggered.ok, triggered.text()

    page.goto(f"{url}/reports/view/{RUN}/01_load.html")
    assert "/auth/login" in page.url and "first words" not in page.content()
    answer = page.request.get(f"{url}/reports/page/{RUN}/01_load.html")
    assert answer.status == 401 and "first words" not in answer.text()

    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    alone = page.frame_locator("iframe.shown")
    expect(alone.locator("pre.stdout")).to_have_text("first words")
    assert alone.locator("body").evaluate("() => origin") == "null"
    with pytest.raises(Exception, match="sandboxed"):
        alone.locator("body").evaluate("() => document.cookie")

    page.goto(f"{url}/dags/power/runs/{RUN_ID}")
    expect(page.get_by_role("link", name="Reports")).to_be_visible()
    page.locator("a[href$='plugin/report']").click()
    expect(report.get_by_text(RUN.split("/")[1]).first).to_be_visible()
    report.locator("a[href='01_load.html']").first.click()
    expect(report.locator("pre.stdout")).to_have_text("first words")
    report.locator("nav a", has_text="2 · Features").click()
    expect(report.get_by_text("Waiting for 02_features")).to_be_visible()
    report.locator("nav a", has_text="1 · Load").click()
    expect(report.locator("pre.stdout")).to_have_text("first words")

    (folder / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    expect(report.locator("pre.stdout").nth(1)).to_have_text("second words")

    (folder / "forecast.png").write_bytes(base64.b64decode(PIXEL))
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
