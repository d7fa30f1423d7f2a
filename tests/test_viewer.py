"""Figures on pages, in a real browser: enlarged by a click, their charts zoomed and read."""

import base64
import io
import json

from lib import charts
from lib.pages import html as page
from lib.pages import notebook as reports
from lib.pages import publish, two_runs, viewer
from lib.run import open_run
from tests.run_pages import make_run

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

pytestmark = pytest.mark.kernel
HTML = {"Content-Type": "text/html; charset=utf-8"}
HOURS = pd.date_range("2024-01-01", periods=240, freq="h")


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")


def picture(width=8.0, height=3.0):
    buffer = io.BytesIO()
    matplotlib.figure.Figure(figsize=(width, height)).savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def forecast(**changes):
    """Ten days of hours: the value of `truth` is the number of the hour."""
    frame = pd.DataFrame({"truth": np.arange(240.0), "model": np.arange(240.0) + 0.5}, HOURS)
    return charts.lines(frame, xlabel="time", ylabel="power (kW)", **changes)


@pytest.fixture
def report():
    """Publish a run with two figures, one of them with the chart given; return its address."""

    def made(chart):
        run = make_run(figures=["forecast.png", "errors.png"])
        (run.path / "forecast.png").write_bytes(picture())
        (run.path / "errors.png").write_bytes(picture(4, 4))
        data = chart if isinstance(chart, bytes) else json.dumps(chart).encode()
        (run.path / "forecast.chart.json").write_bytes(data)
        return publish.publish(run).as_uri()

    return made


def shown(browser):
    """Return from when to when the chart reaches, as it says of itself."""
    browser.locator(".plot .frame").first.wait_for(state="attached")  # it is drawn
    label = browser.locator(".plot > svg").first.get_attribute("aria-label")
    return label.partition("time ")[2].split(" to ")


def test_click_or_enter_enlarges_a_figure_to_the_window_and_escape_closes_it(browser_page, report):
    browser, messages = browser_page
    browser.set_viewport_size({"width": 1440, "height": 900})
    browser.goto(report(forecast()))
    small = browser.locator("figure img").nth(1).bounding_box()
    holder = browser.locator("button.enlarge").nth(1)
    holder.click()
    large = browser.locator("dialog .sheet img").bounding_box()
    assert large["height"] > 0.85 * 900 and large["width"] == pytest.approx(large["height"])
    assert large["width"] > 1.3 * small["width"]
    assert browser.locator("dialog nav b").inner_text() == "Errors"
    browser.keyboard.press("Escape")
    assert browser.locator("dialog[open]").count() == 0
    assert holder.evaluate("(node) => node === document.activeElement")
    browser.keyboard.press("Enter")
    assert browser.locator("dialog[open] .sheet img").count() == 1
    browser.click("dialog .sheet img")
    assert browser.locator("dialog[open]").count() == 0
    assert messages == []


def test_chart_is_zoomed_moved_reset_and_read(browser_page, report):
    browser, messages = browser_page
    browser.set_viewport_size({"width": 1200, "height": 800})
    browser.goto(report(forecast(view=HOURS[[48, 96]])))
    browser.click("figcaption button")
    assert shown(browser) == ["2024-01-03 00:00", "2024-01-05 00:00"]
    box = browser.locator(".plot .frame").bounding_box()
    left, middle = box["x"], box["y"] + box["height"] / 2

    browser.mouse.move(left + box["width"] / 2, middle)
    assert browser.locator(".read p").all_inner_texts() == [
        "2024-01-04 00:00",
        "truth 72",
        "model 72.5",
    ]
    browser.mouse.move(left + box["width"] / 4, middle)
    browser.mouse.down()
    browser.mouse.move(left + box["width"] / 2, middle, steps=4)
    browser.mouse.up()
    ends = pd.DatetimeIndex(["2024-01-03 12:00", "2024-01-04 00:00"])
    assert (abs(pd.DatetimeIndex(shown(browser)) - ends) < pd.Timedelta(minutes=10)).all()
    assert "18:00" in browser.locator(".plot text.x").all_text_contents()

    browser.mouse.wheel(0, 300)
    start, end = (pd.Timestamp(text) for text in shown(browser))
    assert end - start > pd.Timedelta(hours=24)
    browser.keyboard.press("ArrowRight")
    assert pd.Timestamp(shown(browser)[0]) > start
    browser.mouse.dblclick(left + 50, middle)
    assert [text[:10] for text in shown(browser)] == ["2023-12-31", "2024-01-11"]
    browser.click("dialog button:text-is('Reset')")
    assert shown(browser) == ["2024-01-03 00:00", "2024-01-05 00:00"]

    browser.locator(".plot > svg").focus()
    for _ in range(2):
        browser.keyboard.press("Shift+ArrowLeft")
    assert browser.locator(".read p").all_inner_texts()[1:] == ["truth 70", "model 70.5"]

    browser.click(".legend button:has-text('model')")
    browser.mouse.move(left + box["width"] / 2, middle)
    assert "model" not in browser.locator(".read").inner_text()
    browser.click("dialog button:text-is('Picture')")
    assert browser.locator("dialog .sheet img").evaluate("(i) => i.naturalWidth") == 1280
    assert messages == []


def test_fingers_zoom_and_move_a_chart(browser_page, report):
    address = report(forecast())
    options = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    context = browser_page[0].context.browser.new_context(**options)
    browser = context.new_page()
    browser.goto(address)
    browser.locator("button.enlarge").first.tap()
    session = context.new_cdp_session(browser)

    def touch(*fingers):
        for kind, places in (("touchStart", fingers), ("touchMove", fingers), ("touchEnd", [])):
            step = 40 * (kind == "touchMove")
            moved = [x - step if k == 0 else x + step for k, x in enumerate(places)]
            points = [{"x": x, "y": 400, "id": k} for k, x in enumerate(moved)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        return pd.DatetimeIndex(shown(browser))

    whole = pd.DatetimeIndex(shown(browser))
    near = touch(170, 250)
    assert near[1] - near[0] == pytest.approx((whole[1] - whole[0]) / 2, rel=0.02)
    moved = touch(250)
    assert moved[0] > near[0]
    assert moved[1] - moved[0] == pytest.approx(near[1] - near[0], abs=pd.Timedelta(seconds=2))
    browser.touchscreen.tap(200, 400)
    assert "model" in browser.locator(".read").inner_text()


def test_chart_shows_its_first_series_as_asked_and_a_note_to_each_row(browser_page, report):
    frame = pd.DataFrame({"complete": [3.0, 1.0], "best": [3.0, 1.0], "pruned": [2.0, 2.0]})
    about = ["leaves 31", "leaves 63, <i>rate</i> 0.1"]
    made = charts.lines(frame, xlabel="trial", ylabel="RMSE", hidden=["pruned"], about=about)
    browser, messages = browser_page
    browser.goto(report([made, made]))
    browser.click("figcaption button")
    assert browser.locator(".plot").count() == 2
    box = browser.locator(".plot .frame").first.bounding_box()
    browser.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 20)
    assert browser.locator(".read").first.locator("p").all_inner_texts() == [
        "trial 1",
        "complete 1",
        "best 1",
        "leaves 63, <i>rate</i> 0.1",
    ]
    assert browser.locator(".read").nth(1).is_hidden()
    assert messages == []


def test_without_script_the_pictures_are_there(browser_page, report):
    address = report(forecast())
    browser = browser_page[0].context.browser.new_page(java_script_enabled=False)
    browser.goto(address)
    assert browser.locator("figure img").count() == 2
    assert browser.locator("figure img").first.is_visible()
    assert browser.locator("button:visible, dialog").count() == 0
    assert "2024" not in browser.locator("figure").first.inner_text()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_enlarged_figures_fit_wide_and_narrow_windows(browser_page, report, width, scheme):
    browser, messages = browser_page
    browser.set_viewport_size({"width": width, "height": 800})
    browser.emulate_media(color_scheme=scheme)
    browser.goto(report(forecast()))
    browser.locator("button.enlarge").first.click()
    page_wide = browser.evaluate("document.documentElement.scrollWidth")
    plot = browser.locator(".plot").bounding_box()
    assert page_wide <= width and plot["width"] > 0.9 * width and plot["height"] > 0.55 * 800
    ground, ink = browser.locator("dialog").evaluate(
        "(node) => { const s = getComputedStyle(node); return [s.backgroundColor, s.color]; }"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light") and ground != ink
    browser.click("dialog button:text-is('Picture')")
    assert browser.locator("dialog .sheet img").bounding_box()["width"] > 800
    assert messages == []


HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"alert(1)\">"


def test_script_in_a_label_is_text(browser_page, report):
    made = forecast()
    made["y"]["label"] = made["x"]["label"] = made["series"][0]["label"] = HOSTILE
    made["note"] = HOSTILE
    browser, messages = browser_page
    browser.goto(report(made))
    browser.click("figcaption button")
    browser.mouse.move(400, 300)
    assert HOSTILE in browser.locator(".legend").inner_text()
    assert "taken" not in browser.title() and browser.locator("img[src=x]").count() == 0
    assert messages == []


@pytest.mark.parametrize(
    "data",
    [b'{"series": "<script>alert(1)</script>"}', b"\0" * (100 * 2**20), b"[" * 50_000],
    ids=["schema", "large", "deep"],
)
def test_hostile_chart_leaves_the_picture_and_a_line_that_says_so(browser_page, report, data):
    browser, messages = browser_page
    browser.goto(report(data))
    assert browser.locator("figure").count() == 2
    assert browser.locator("figcaption button, figure script").count() == 0
    assert "forecast.chart.json" in browser.locator(".problems").inner_text()
    browser.locator("button.enlarge").first.click()
    assert browser.locator("dialog[open] .sheet img").count() == 1
    assert messages == []


@pytest.mark.parametrize("kind", ["header", "blob"])
def test_charts_work_in_a_frame_without_an_origin(browser_page, kind):
    """As in Airflow's view, which has headers of its own, and in MLflow's view of artifacts."""
    body = f"<figure>{viewer.image(picture(), 'forecast', [forecast()])}</figure>"
    text = page.document("x", Markup(body), *viewer.FILES)
    browser, messages = browser_page
    sealed = {"Content-Security-Policy": f"{page.policy_of(text)}; sandbox allow-scripts"}
    frame = '<iframe sandbox="allow-scripts" width="900" height="600"></iframe>'
    browser.route("**/view", lambda route: route.fulfill(body=frame, headers=HTML))
    browser.route("**/page", lambda route: route.fulfill(body=text, headers=sealed | HTML))
    browser.goto("http://localhost/view")
    source = "'/page'" if kind == "header" else "URL.createObjectURL(new Blob([text], {type}))"
    load = f"(frame, [text, type]) => {{ frame.src = {source}; }}"
    browser.locator("iframe").evaluate(load, [text, "text/html;charset=utf-8"])
    inner = browser.frame_locator("iframe")
    inner.locator("figcaption button").click()
    inner.locator(".plot > svg").hover()
    assert "model" in inner.locator(".read").inner_text()
    assert inner.locator(".plot").bounding_box()["width"] > 800
    assert inner.locator("body").evaluate("() => origin") == "null"
    assert messages == []


def test_figures_of_two_runs_are_enlarged_in_turn(browser_page, tmp_path):
    runs = [make_run(f"wind/{name}", figures=["forecast.png"]) for name in "ab"]
    for run, height in zip(runs, (2, 3), strict=True):
        (run.path / "forecast.png").write_bytes(picture(8, height))
    (tmp_path / "pair.html").write_text(two_runs.render(*runs))
    browser, messages = browser_page
    browser.goto((tmp_path / "pair.html").as_uri())
    titles = []
    browser.locator("button.enlarge").first.click()
    for _ in range(3):
        titles.append(browser.locator("dialog nav b").inner_text())
        browser.get_by_role("button", name="Next figure").click()
    assert titles == ["Forecast.png, A", "Forecast.png, B", "Forecast.png, A"]
    assert messages == []


def test_stage_page_shows_the_figure_of_the_run_folder_where_the_cell_has_written_one(
    browser_page,
):
    run = open_run("power/a")
    run.prepare()
    small = base64.b64encode(picture(4, 1.5)).decode()
    output = {"output_type": "display_data", "data": {"image/png": small}, "metadata": {}}
    sources = ['run.write("forecast.png", ax.figure);', "ax.figure", 'run.write("gone.png", fig);']
    cells = [
        {"cell_type": "code", "source": text, "metadata": {}, "outputs": [output]}
        for text in sources
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for name in ("05_evaluate.ipynb", "05_evaluate.attempt-1.ipynb"):
        (run.path / name).write_text(json.dumps(notebook))
    (run.path / "forecast.png").write_bytes(picture())
    (run.path / "forecast.chart.json").write_text(json.dumps(forecast()))
    browser, messages = browser_page
    for name, widths in (("05_evaluate", [1280, 640, 640]), ("05_evaluate.attempt-1", [640] * 3)):
        browser.goto(reports.write_html(run.path / f"{name}.ipynb").as_uri())
        found = browser.eval_on_selector_all("img", "images => images.map((i) => i.naturalWidth)")
        assert found == widths
        assert browser.locator("button.enlarge").count() == 3
        assert browser.locator("figcaption button").count() == (widths[0] == 1280)
    assert messages == []
