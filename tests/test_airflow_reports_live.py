"""Reports in the browser, below Airflow's own API server."""

import base64
import json
import os
import subprocess
import sys
import time

from lib.commands import services, supervise
from lib.ground.files import ROOT
from tests import airflow_reports
from tests.airflow_reports import RUN, RUN_ID, notebook

import pytest
from whole_runs import prepare

folder = airflow_reports.folder


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


def with_figure(*outputs):
    """The same, with a figure that the first cell has written."""
    made = notebook(*outputs)
    cell = made["cells"][0]
    cell["source"] = 'run.write("forecast.png", figure);'
    cell["outputs"].append({"output_type": "display_data", "data": {"image/png": PIXEL}})
    return made


@pytest.mark.kernel
def test_plugin_follows_the_address_of_airflow_and_imports_nothing_heavy():
    code = (
        "import sys; sys.path.insert(0, 'plugins'); import airflow.sdk.configuration\n"
        "before = set(sys.modules); import reports\n"
        "print(*(view['href'] for view in reports.ReportsPlugin.external_views),\n"
        "*sorted({name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "& {'fastapi', 'lib', 'pandas'}))"
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
        "/airflow/reports/run/{DAG_ID}/{RUN_ID}/{TASK_ID}/{MAP_INDEX}",
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
    prepare()
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
        while not supervise.is_taken(port):
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield url, password
    finally:
        supervise.stop([server])


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
