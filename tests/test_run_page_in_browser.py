"""The page of a run in a browser, and its links in a real MLflow."""

import json
import os
import re
import subprocess
import sys
import time

from lib.commands import services, supervise
from lib.ground.files import ROOT
from lib.pages import publish, run_page
from lib.pages.summary import summarise
from lib.run import open_run
from tests import run_pages
from tests.run_pages import METRICS, PIXEL, make_run, verdict

import pytest

outputs = run_pages.outputs


@pytest.mark.kernel
def test_page_shows_its_figures_in_a_browser_without_a_complaint(browser_page):
    run = make_run(figures=["forecast.png"], metrics=METRICS, verdict=verdict())
    (run.path / "forecast.png").write_bytes(PIXEL)
    page, messages = browser_page
    page.goto(publish.publish(run).as_uri())
    widths = page.eval_on_selector_all("img", "images => images.map((i) => i.naturalWidth)")
    assert widths == [1]
    assert page.locator("h1 .badge").inner_text() == "passed"
    page.click("a:has-text('All runs')")
    from playwright.sync_api import expect

    expect(page.locator("tbody tr")).to_have_count(1)
    page.click("tbody a")
    assert page.locator("h2").first.inner_text() == "Metrics"
    assert messages == []


@pytest.mark.kernel
@pytest.mark.parametrize(
    "pipeline", [p.parent.parent.name for p in ROOT.glob("outputs/*/reference/metrics.json")]
)
def test_all_of_the_metrics_of_every_pipeline_is_readable_on_a_desk(browser_page, pipeline):
    metrics = json.loads((ROOT / "outputs" / pipeline / "reference" / "metrics.json").read_text())
    worse = {name: 1.01 * value for name, value in metrics.items()}
    summary = summarise(make_run(metrics=metrics, error=("ValueError", "x")))
    previous = summarise(make_run("wind/before", metrics=worse))
    served = {"name": "wind_gbm", "version": 12, "alias": "production", "run_dir": "wind/old"}
    text = run_page.render(summary, previous=previous, served=served | {"metrics": worse})
    place = open_run("wind/a").path / "report.html"
    place.write_text(text)
    page, messages = browser_page
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(place.as_uri())
        widths = page.eval_on_selector_all(
            ".wide", "all => all.map(e => [e.scrollWidth, e.clientWidth])"
        )
        assert len(widths) >= 2 and all(whole <= seen for whole, seen in widths), widths
        page.set_viewport_size({"width": 390, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        narrow = page.eval_on_selector_all(
            ".wide", "all => all.map(e => [e.scrollWidth, e.clientWidth])"
        )
        assert any(whole > seen for whole, seen in narrow), "scrolls inside of its box"
    empty = page.locator(".wide td.number", has_not_text=re.compile(".")).count()
    cells = page.locator(".wide td.number").count()
    assert empty / cells < 0.25, "columns of blanks"
    assert page.locator(".do a").bounding_box()["y"] < 900, "seen without scrolling"
    assert messages == []


@pytest.fixture
def mlflow_server(tmp_path):
    """A real MLflow server with one run, which has logged a page, and one registered version."""
    import mlflow

    store, port = f"sqlite:///{tmp_path}/mlflow.db", services.free_port(5480)
    client = mlflow.MlflowClient(store)
    experiment = client.create_experiment("wind", artifact_location=str(tmp_path / "artifacts"))
    made = client.create_run(experiment, run_name="the run itself")
    client.create_registered_model("wind_gbm")
    client.create_model_version("wind_gbm", str(tmp_path), run_id=made.info.run_id)
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--no-serve-artifacts"]
    command += ["--default-artifact-root", str(tmp_path / "artifacts")]
    settings = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # as `make up`
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not supervise.is_taken(port):
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield client, made.info, f"http://127.0.0.1:{port}"
    finally:
        supervise.stop([server])


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_links_lead_to_the_run_and_the_version_themselves_in_mlflow(mlflow_server, browser_page):
    client, info, address = mlflow_server
    known = {"run_id": info.run_id, "experiment_id": info.experiment_id, "tracking_uri": "sqlite:"}
    run = make_run(mlflow=known, registration={"name": "wind_gbm", "version": 1})
    page, _ = browser_page
    page.set_default_timeout(120_000)
    text = run_page.render(summarise(run), mlflow_url=address)
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
