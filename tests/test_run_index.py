"""The index of all runs: what a row says, that no run is lost, and the page in a browser."""

import json
import multiprocessing
import os
import re
import shutil
import time

from lib.ground.runs import close_run
from lib.pages import run_index
from lib.pages.summary import summarise, write_summary
from lib.run import open_run

import pytest
from upath import UPath

STAMP = "2026-01-02T03:04:05+00:00"


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """An empty folder of runs."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def make_run(run_dir, *, value=None, metric="rmse", larger=False, started=STAMP, **files):
    """Make the folder of a run of a pipeline without notebooks, one stage done; return it."""
    run = open_run(run_dir)
    run.prepare()
    run.path.joinpath("stages").mkdir(exist_ok=True)
    record = {"state": "finished", "started": started, "finished": started}
    record |= {"parameters": {}, "reads": {}, "writes": {}}
    content = {"stages/01_load": record, "dataset": {"source": "sample"}} | files
    if value is not None:
        check = {"metric": metric, "value": value, "threshold": 1.0, "passed": True}
        content |= {"verdict": {"passed": True, "checks": [check | {"greater_is_better": larger}]}}
        content |= {"metrics": {metric: value}}
    for name, data in content.items():
        run.path.joinpath(f"{name}.json").write_text(json.dumps(data))
    return run


def names():
    return [f"{row['pipeline']}/{row['name']}" for row in run_index.read_rows()]


def data_of(page):
    text = re.search(r'<script type="application/json" id="runs">(.*?)</script>', page)[1]
    data = json.loads(text)
    return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def test_row_tells_state_metric_model_source_and_who():
    start = {"started": STAMP, "run_id": "manual__1", "run_type": "manual", "who": "jane"}
    run = make_run("wind/a", value=0.25, run=start, registration={"name": "wind_gbm", "version": 7})
    found = run_index.row(summarise(run))
    assert found == {
        "pipeline": "wind",
        "name": "a",
        "state": "passed",
        "started": STAMP,
        "seconds": 0.0,
        "by": "jane",
        "metric": "rmse",
        "value": 0.25,
        "greater_is_better": False,
        "model": "wind_gbm",
        "version": 7,
        "source": "sample",
        "page": "report.html",
        "reason": "",
        "has_metrics": True,
    }


def test_row_of_a_run_that_ended_badly_says_why_in_one_line():
    run = make_run("wind/a", run={"started": STAMP, "run_id": "manual__1"})
    found = run_index.row(summarise(run) | {"state": "lost", "reason": "the machine\n went down"})
    assert (found["state"], found["reason"]) == ("lost", "the machine went down")
    long = run_index.row(summarise(run) | {"state": "failed", "reason": "x " * 1000})
    assert len(long["reason"]) <= 1000 and long["reason"].endswith(" …")


def test_copies_that_were_opened_are_not_in_the_index(outputs):
    make_run("wind/a")
    make_run("wind/open-01_load-of-a", run={"run_type": "opened", "opened": "wind/a"})
    run_index.write_index()
    assert names() == ["wind/a"]


def test_run_that_is_closed_after_its_summary_was_written_is_not_running_any_more():
    run = make_run("wind/a", run={"started": STAMP, "run_id": "manual__1"})
    record = {"state": "running", "started": STAMP, "parameters": {}, "reads": {}, "writes": {}}
    (run.path / "stages" / "01_load.json").write_text(json.dumps(record))
    write_summary(run)
    run_index.write_index()
    assert [row["state"] for row in run_index.read_rows()] == ["running"]
    time.sleep(0.01)
    close_run(run, "lost", "its process is gone")
    run_index.write_index()
    assert [row["state"] for row in run_index.read_rows()] == ["lost"]


def test_rows_that_an_older_version_has_kept_are_made_anew(outputs):
    write_summary(make_run("wind/a", value=0.5))
    run_index.write_index()
    kept = json.loads((outputs / ".index.json").read_text())
    del kept["wind/a"][1]["reason"]
    (outputs / ".index.json").write_text(json.dumps(kept))
    assert run_index.read_rows() == []
    run_index.write_index()
    assert run_index.read_rows()[0]["reason"] == ""


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({}, "by hand"),
        ({"who": "jane"}, "jane"),
        ({"run_type": "manual", "who": "jane"}, "jane"),
        ({"run_type": "scheduled", "who": "airflow"}, "schedule"),
        ({"run_type": "asset_triggered", "who": "airflow"}, "asset triggered"),
        ({"run_type": "backfill", "who": "jane"}, "backfill, jane"),
    ],
)
def test_who_or_what_started_a_run_is_said_in_words(start, words):
    assert run_index.started_by(start) == words


def test_index_holds_every_run_oldest_first_with_a_link_where_there_is_a_page(outputs):
    write_summary(make_run("wind/b", started="2026-01-03T00:00:00+00:00"))
    write_summary(make_run("solar/c", started="2026-01-02T00:00:00+00:00"))
    make_run("wind/dev", started="2026-01-04T00:00:00+00:00")  # by hand: nobody wrote a summary
    (outputs / "wind" / "reference").mkdir()  # in git: no run
    (outputs / "wind" / ".pruned-a" / "stages").mkdir(parents=True)
    page = run_index.write_index()
    assert page == UPath(outputs / "index.html")
    found = [(row["pipeline"], row["name"], row["page"]) for row in data_of(page.read_text())]
    assert found == [
        ("solar", "c", "report.html"),
        ("wind", "b", "report.html"),
        ("wind", "dev", ""),
    ]


def test_only_runs_that_changed_are_read_again(monkeypatch):
    for name in "abc":
        write_summary(make_run(f"wind/{name}"))
    run_index.write_index()
    read = []
    real = run_index.read_summary
    monkeypatch.setattr(run_index, "read_summary", lambda run: read.append(run.name) or real(run))
    run_index.write_index()
    assert read == []
    time.sleep(0.01)
    write_summary(make_run("wind/b", value=0.5))
    run_index.write_index()
    assert read == ["b"]
    assert [row["value"] for row in run_index.read_rows()] == [None, 0.5, None]


def test_stage_that_ran_after_the_summary_was_written_is_seen():
    run = make_run("wind/dev")
    write_summary(run)
    run_index.write_index()
    time.sleep(0.01)
    make_run("wind/dev", value=0.5)
    os.utime(run.path / "stages")
    run_index.write_index()
    assert [row["value"] for row in run_index.read_rows()] == [0.5]


def test_run_that_is_gone_leaves_the_index(outputs):
    for name in "ab":
        write_summary(make_run(f"wind/{name}"))
    run_index.write_index()
    shutil.rmtree(outputs / "wind" / "a")
    run_index.write_index()
    assert names() == ["wind/b"]


def test_damaged_files_cost_no_run(outputs):
    run = make_run("wind/a", value=0.5)
    write_summary(run)
    run_index.write_index()
    (outputs / ".index.json").write_text('{"wind/')
    (outputs / "wind" / "a" / "summary.json").write_text('{"run_dir": ')
    run_index.write_index()
    assert [row["value"] for row in run_index.read_rows()] == [0.5]


def test_nothing_that_a_run_is_called_ends_the_data_or_the_page():
    text = "</script><!--<script>&\u2028"
    page = run_index.render([run_index.row(summarise(make_run("wind/a"))) | {"source": text}])
    assert data_of(page)[0]["source"] == text
    assert page.count("<script") == 2 and page.count("</script>") == 2 and "<!--" not in page


def finish(number, looked):
    """End one run, as a process of its own does; the first looks early and writes late."""
    real = run_index.render

    def late(rows):
        looked.set()
        time.sleep(1)
        return real(rows)

    if number == 0:
        run_index.render = late
    else:
        looked.wait(30)
    write_summary(make_run(f"wind/{number}"))
    run_index.write_index()


@pytest.mark.slow
def test_no_run_is_lost_when_several_finish_at_once(outputs):
    context = multiprocessing.get_context("fork")
    looked = context.Event()
    processes = [context.Process(target=finish, args=(number, looked)) for number in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [row["name"] for row in data_of((outputs / "index.html").read_text())]
    assert sorted(found) == ["0", "1", "2", "3", "4"]


def test_remote_runs_are_found_in_one_listing_and_seen_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", f"memory://{tmp_path.name}/runs")
    monkeypatch.setattr("lib.ground.files.state_dir", lambda: tmp_path)
    write_summary(make_run("wind/a"))
    page = run_index.write_index()
    assert names() == ["wind/a"] and "wind" in page.read_text()
    write_summary(make_run("wind/a", value=0.5))
    make_run("wind/b")
    run_index.write_index()
    make_run("wind/open-01_load-of-a", run={"run_type": "opened", "opened": "wind/a"})
    run_index.write_index()
    assert names() == ["wind/a", "wind/b"]
    assert [row["value"] for row in run_index.read_rows()] == [0.5, None]


@pytest.mark.kernel
def test_page_filters_sorts_and_remembers_in_a_browser(browser_page):
    values = {"wind": (0.5, 0.4, 0.45), "solar": (0.8, 0.9, 0.85)}
    for pipeline, found in values.items():
        for day, value in enumerate(found, start=1):
            started = f"2026-01-0{day}T00:00:00+00:00"
            larger = pipeline == "solar"
            run = make_run(f"{pipeline}/day{day}", value=value, larger=larger, started=started)
            write_summary(run)
    for day in range(1, 201):
        write_summary(make_run(f"tide/{day:03}", started=f"2025-01-01T00:{day % 60:02}:00+00:00"))
    page, messages = browser_page
    page.goto(run_index.write_index().as_uri())

    def runs():
        return [
            " ".join(row.split("\t")[2:4]) for row in page.locator("tbody tr").all_inner_texts()
        ]

    assert page.locator("tbody tr").count() == 100 and page.inner_text("#count") == "206 runs"
    page.click("#more")
    assert page.locator("tbody tr").count() == 200
    page.fill("#text", "WIND day")
    assert runs() == ["wind day3", "wind day2", "wind day1"]
    changes = page.locator("td.change").all_inner_texts()
    assert changes == ["+0.05 worse", "\N{MINUS SIGN}0.10 better", ""]
    shown = [text.split()[0] for text in page.locator("td.metric").all_inner_texts()]
    assert shown == ["0.45", "0.40", "0.50"]
    assert page.locator("tbody tr:first-child svg polyline").count() == 1
    page.locator("th[data-key=value] button").press("Enter")
    assert page.get_attribute("th[data-key=value]", "aria-sort") == "descending"
    assert runs() == ["wind day1", "wind day3", "wind day2"]
    page.reload()
    assert page.input_value("#text") == "WIND day"
    assert runs() == ["wind day1", "wind day3", "wind day2"]
    page.fill("#text", "")
    page.select_option("#pipeline", "solar")
    assert page.inner_text("#count") == "3 of 206 runs"
    page.check("tbody tr:nth-child(1) input")
    page.check("tbody tr:nth-child(2) input")
    assert page.inner_text("#chosen") == "make compare A=solar/day2 B=solar/day3"
    assert page.get_attribute("tbody tr:first-child a", "href") == "solar/day2/report.html"
    page.select_option("#state", "failed")
    assert page.locator("tbody tr").count() == 0 and page.inner_text("#empty") == "No run matches."
    assert messages == []


@pytest.mark.kernel
def test_row_shows_reason_version_and_like_decimals_at_every_width(browser_page):
    reason = "1 · Load: ValueError: no file matches 'nofile.csv': looked for it in every folder"
    name = "household_power_lightgbm_sample"
    made = make_run("power/a", value=1.0, metric="accuracy", larger=True)
    (made.path / "registration.json").write_text(json.dumps({"name": name, "version": 12}))
    make_run("tick/b", value=0.99, metric="accuracy", larger=True)
    make_run("tick/c", value=0.99000001, metric="accuracy", larger=True)
    rows = [run_index.row(summarise(open_run(run_dir))) for run_dir in ("power/a", "tick/b")]
    rows.append(run_index.row(summarise(open_run("tick/c"))))
    bad = run_index.row(summarise(make_run("wind/d"))) | {"state": "failed", "reason": reason}
    refused = rows[1] | {"name": "e", "state": "refused", "reason": "too low " * 20}
    place = open_run("power/a").path.parent.parent / "index.html"
    place.write_text(run_index.render([*rows, bad, refused]))
    page, messages = browser_page
    page.goto(f"file://{place}")
    row = page.locator("tbody tr", has_text="failed")
    assert row.locator(".why").inner_text() == reason
    assert row.locator("td.metric").get_attribute("title") == reason
    for width in (1440, 1280, 1160, 1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        inside = "() => document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(inside), f"the page is cut off at {width}"
        version = page.locator(".model .cut span:last-child").bounding_box()
        cell = page.locator("td.model:has(.cut)").bounding_box()
        assert version["x"] + version["width"] <= cell["x"] + cell["width"] + 1, width
    assert page.locator(".model .cut span:last-child").inner_text() == "v12"
    values = page.locator("td.metric > span").all_inner_texts()
    assert sorted(text.split()[0] for text in values) == ["0.99", "0.99", "0.99", "1.00"]
    assert "no change" in page.locator("td.change").all_inner_texts()
    page.fill("#text", "NOFILE.csv every")
    assert page.locator("tbody tr").count() == 1
    assert messages == []
