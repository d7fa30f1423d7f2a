"""The page of a run in a browser, and its links in a real MLflow."""

import json
import re

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
