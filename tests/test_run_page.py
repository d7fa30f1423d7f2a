"""The page of a run: what stands on it, in which order, and that nothing costs it."""

import html
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

from lib import charts, tracking
from lib.ground import addresses, outcome, runs
from lib.machine import watcher
from lib.pages import publish, run_index, run_page
from lib.pages.summary import summarise, write_summary
from lib.run import open_run
from tests import run_pages
from tests.run_pages import (
    DECIDED,
    METRICS,
    PIXEL,
    STAMP,
    executed,
    gated_run,
    make_run,
    text_of,
    verdict,
    versions,
)

import pandas as pd
import pytest
from markupsafe import escape
from upath import UPath

outputs = run_pages.outputs
NAMES = set("pre code small ul li table thead tbody tr th td figure figcaption img details".split())
NAMES |= set("summary button a div".split())


def test_verdict_comes_first_and_the_rest_in_the_order_of_a_review():
    run = make_run(
        metrics=METRICS,
        verdict=verdict(),
        figures=["forecast.png"],
        registration={"name": "wind_gbm", "version": 3, "alias": "staging"},
        mlflow={"run_id": "abc", "experiment_id": "1", "tracking_uri": "sqlite:////x.db"},
    )
    (run.path / "forecast.png").write_bytes(PIXEL)
    words = text_of(publish.build(run))
    expected = [
        "passed",
        "rmse = 0.4, 0.1 below the 0.5 that is allowed at most: passed",
        "Registered as wind_gbm version 3, @staging",
        "sample, 1,234 rows digest dddddddddddd",
        "Started by jane",
        "2026-01-02 03:04:05 UTC",
        "Peak memory 3 MiB",
        "Metrics",
        "Stages",
        "1 · Load passed 1 min 15 s 3 MiB 3 of 3 notebook open copy command",
        "Figures",
        "Forecast, from 2 · Evaluate",
        "Details",
        "d" * 64,
        "abc while make up runs",
        "make reproduce RUN=wind/a",
    ]
    places = [words.index(text) for text in expected]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ({"value": 0.53}, "rmse = 0.53, 0.03 above the 0.5 that is allowed at most: not passed"),
        ({"value": None}, "rmse is missing, instead of the 0.5 that is allowed at most"),
        (
            {"metric": "accuracy", "value": 0.93, "threshold": 0.99, "greater_is_better": True},
            "accuracy = 0.93, 0.06 below the 0.99 that is required at least: not passed",
        ),
    ],
)
def test_refused_run_says_first_which_check_failed_by_how_much(check, sentence):
    error = ("GateError", "not registered")
    run = make_run(error=error, metrics=METRICS, verdict=verdict(**check, passed=False))
    page = publish.build(run)
    first = sentence.split(" ")[0]
    assert f'<section class="verdict refused">\n<p>{first} ' in page
    words = text_of(page)
    assert words.index("refused") < words.index(sentence) < words.index("kept out of the registry")


def test_failed_run_has_the_error_on_top_with_a_link_to_its_stage():
    page = publish.build(make_run(error=("ValueError", "no column <b>\nmore of it")))
    top = page[page.index('<section class="verdict failed">') : page.index("</section>")]
    assert '<a href="02_evaluate.html">2 · Evaluate</a>, cell 3: ValueError' in top
    assert "no column &lt;b&gt;" in top and "<pre>more of it</pre>" in top


def test_stage_that_never_began_says_why_without_a_cell():
    run = make_run()
    notebook = executed()
    outcome.mark_failed(notebook, None, "ValueError", "wind has no parameter 'x'")
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    words = text_of(publish.build(run))
    assert "Failed in 2 · Evaluate: ValueError: wind has no parameter 'x'" in words


def opened(text):
    """Return the addresses in JupyterLab and the commands that open a stage, in order."""
    addresses = re.findall(r'href="([^"]*/open-stage[^"]*)"', text)
    return [html.unescape(one) for one in addresses], re.findall(
        r'data-copy="(make open[^"]*)', text
    )


@pytest.mark.parametrize(
    ("error", "stage", "title"),
    [
        (("ValueError", "x"), "02_evaluate", "Open 2 · Evaluate"),
        (("GateError", "x"), "02_evaluate", "Open 2 · Evaluate"),
    ],
)
def test_box_of_a_failure_opens_the_stage_to_look_at(error, stage, title):
    page = publish.build(make_run(error=error))
    box = page[page.index('<section class="verdict') : page.index("</section>")]
    command = f"make open RUN=wind/a STAGE={stage}"
    assert opened(box) == ([addresses.open_stage_link("wind/a", stage)], [command])
    assert title in box and f"<code>{command}</code>" in box


def test_every_stage_that_has_run_can_be_opened_from_its_row(monkeypatch):
    monkeypatch.setattr(
        addresses, "open_stage_link", lambda run_dir, stage: f"http://lab/open-stage/{stage}"
    )
    run = make_run()
    (run.path / "02_evaluate.ipynb").unlink()
    page = publish.build(run)
    assert 'class="do"' not in page, "a run that passed needs no box"
    stages = page[page.index("Stages</h2>") :]
    expected = (["http://lab/open-stage/01_load"], ["make open RUN=wind/a STAGE=01_load"])
    assert opened(stages) == expected and opened(page) == expected


@pytest.mark.parametrize("state", ["cancelled", "lost"])
def test_run_that_was_closed_says_why_and_where_it_was_cut_off(monkeypatch, state):
    run = make_run(run={"run_id": "manual__1", "dag_id": "wind", "started": STAMP})
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    notebook["cells"][3]["metadata"]["papermill"]["status"] = "running"
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    monkeypatch.setattr(runs, "now", lambda: "2026-01-02T03:09:00+00:00")
    runs.close_run(run, state, "stopped in <make run>")
    page = publish.build(run)
    assert f'<span class="badge {state}">{state}</span>' in page
    box = page[page.index('<section class="verdict') : page.index("</section>")]
    assert "Stopped in &lt;make run&gt;." in box and opened(box)[1]
    assert "Go on with this run" in box and "make run RESUME=wind/a" in box
    assert "Resume from here" not in box, "which stands for a new run, below"
    words = text_of(page)
    assert "Cut off in 2 · Evaluate after 2 of 3 cells." in words
    assert "is running" not in words and "2 · Evaluate failed" in words


def test_stages_that_a_failed_run_never_reached_are_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    folder = tmp_path / "notebooks" / "wind"
    folder.mkdir(parents=True)
    for stage in ("01_load", "02_evaluate", "03_register"):
        (folder / f"{stage}.ipynb").write_text("{}")
    page = publish.build(make_run(error=("ValueError", "x")))
    assert '<span class="badge not-run">not run</span>' in page and "waiting" not in text_of(page)


def test_running_stage_is_shown_with_the_cells_done_so_far():
    run = make_run(run={"run_id": "manual__1", "dag_id": "wind"})
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    notebook["cells"][3]["metadata"]["papermill"]["status"] = "running"
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    words = text_of(publish.build(run))
    assert "1 of 2 stages done; 2 · Evaluate is running, 2 of 3 cells." in words


@pytest.mark.slow
def test_previous_run_is_the_latest_that_ended_with_metrics_on_the_same_data_source():
    day = "2026-01-0{}T00:00:00+00:00".format
    other = {"source": "uci", "n_rows": 1}
    for name, number, files in (
        ("older", 1, {"metrics": METRICS}),
        ("wanted", 2, {"metrics": METRICS, "error": ("GateError", "no")}),
        ("without", 3, {}),
        ("elsewhere", 4, {"metrics": METRICS, "dataset": other}),
        ("later", 6, {"metrics": METRICS}),
    ):
        publish.publish(make_run(f"wind/{name}", started=day(number), **files))
    publish.publish(make_run("tide/a", started=day(4), metrics=METRICS))
    run = make_run("wind/mine", started=day(5), metrics=METRICS)
    assert (
        publish.previous_run(write_summary(run), run_index.read_rows())["run_dir"] == "wind/wanted"
    )
    first = make_run("wind/first", started="2025-01-01T00:00:00+00:00", metrics=METRICS)
    assert publish.previous_run(write_summary(first), run_index.read_rows()) == {}


def test_changed_parameters_come_first_and_the_others_are_folded():
    summary = summarise(make_run())
    known = {"default": 1, "stage": "01_load", "meaning": "rows ahead", "domain": "1..168"}
    summary["parameters"] = {
        "seed": known | {"value": 1, "changed": False},
        "horizon": known | {"value": 24, "changed": True},
    }
    page = run_page.render(summary)
    open_part, folded = page[page.index("Parameters</h2>") :].split("<details>")[:2]
    assert "horizon" in open_part and "24" in open_part and "1..168" in open_part
    assert "seed" not in open_part and "seed" in folded and "horizon" not in folded
    assert "At the notebooks' own values: 1</summary>" in folded


def test_four_figures_are_shown_the_evaluation_first_and_a_lost_one_is_named():
    names = [f"f{number}.png" for number in range(1, 6)]
    run = make_run(figures=[*names, "lost.png"])
    for name in [*names, "raw.png"]:
        (run.path / name).write_bytes(PIXEL)
    record = json.loads((run.path / "stages/01_load.json").read_text())
    (run.path / "stages/01_load.json").write_text(json.dumps(record | {"writes": {"raw.png": ""}}))
    page = publish.build(run)
    shown, folded = page[page.index("Figures</h2>") :].split("<details>")[:2]
    assert re.findall(r'alt="(\w+)"', shown) == ["f1", "f2", "f3", "f4"]
    assert re.findall(r'alt="(\w+)"', folded) == ["f5", "raw"]
    assert "lost.png cannot be read: FileNotFoundError" in page


def test_figure_with_a_chart_is_in_sight_wherever_it_comes_from():
    names = [f"f{number}.png" for number in range(1, 7)]
    run = make_run(figures=names)
    for name in names:
        (run.path / name).write_bytes(PIXEL)
    chart = charts.lines(pd.DataFrame({"a": [1.0, 2.0]}), xlabel="x", ylabel="y")
    (run.path / "f6.chart.json").write_text(json.dumps(chart))
    page = publish.build(run)
    shown, folded = page[page.index("Figures</h2>") :].split("<details>")[:2]
    assert re.findall(r'alt="(\w+)"', shown) == ["f1", "f2", "f3", "f4", "f6"]
    assert re.findall(r'alt="(\w+)"', folded) == ["f5"]


class Elements(HTMLParser):
    """Names of all elements of a page, and of all of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.addresses = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value for name, value in attrs if name in ("href", "src")}


@pytest.mark.parametrize("bad", ["<b onclick=x>\"'", "</script><b>", "{{ 7 * 7 }}<b>", "&lt;b&gt;"])
@pytest.mark.parametrize("state", ["passed", "refused", "failed", "cancelled", "running"])
def test_text_of_a_run_is_never_markup(bad, state):
    run = gated_run(
        verdict=verdict(metric=bad),
        comparison=versions(bad),
        test={"metric": "rmse", "greater_is_better": False, "unit": bad},
        promotion=DECIDED | {"outcome": "promoted", "who": bad, "reason": bad},
        dataset={"source": bad, "digest": bad, "start": bad, "end": bad},
        registration={"name": bad, "version": bad, "alias": bad},
        run={"who": bad, "commit": bad, "lock": bad, "python": bad, "dag_id": bad, "run_id": bad},
        mlflow={"run_id": bad, "experiment_id": bad, "tracking_uri": f"http://{bad}"},
    )
    values = METRICS | {f"{bad}_rmse": 1.0, bad: 2.0, f"{bad}_low": 1.0, f"{bad}_high": 3.0}
    (run.path / "metrics.json").write_text(json.dumps(values))
    summary = summarise(run) | {"problems": [bad], "state": state, "reason": bad}
    stage = {"title": bad, "page": bad, "attempts": [bad], "notebook": bad, "state": state}
    stage |= {
        "figures": [f"{bad}.png"],
        "error": {"ename": bad, "text": f"{bad}\n{bad}", "cell": 3},
    }
    summary["stages"] = [summary["stages"][0] | stage, *summary["stages"][1:]]
    about = {"value": bad, "default": bad, "changed": True, "stage": bad, "meaning": bad}
    same = about | {"domain": bad, "changed": False}
    summary["parameters"] = {bad: about | {"domain": bad}, "same": same}
    change = {"action": bad, "override": True, "who": bad, "reason": bad, "when": STAMP}
    page = run_page.render(
        summary,
        figures={f"{bad}.png": (PIXEL, [])},
        previous=summary | {"run_dir": bad, "dataset": {}},
        served={"alias": bad, "version": bad, "run_dir": bad, "metrics": {"rmse": 1.0}},
        standing={"champion": bad, "archived": "", "changes": [change]},
        airflow_url=f"http://{bad}",
    )
    found = Elements(page)
    assert found.names <= Elements(publish.build(make_run("wind/plain"))).names | NAMES
    assert not [name for name in found.attributes if name.startswith("on")]
    assert page.count("<script>") == page.count("</script>") == 1
    assert str(escape(bad)) in page and "49" not in text_of(page).split()
    schemes = {address.partition(":")[0] for address in found.addresses if ":" in address}
    assert schemes <= {"http", "data"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "http://me:secret@mlflow:5000/",
            '<a href="http://mlflow:5000/#/experiments/1/runs/abc">abc</a>',
        ),
        (
            "sqlite:////x/mlflow.db",
            '<a href="http://127.0.0.1:5000/#/experiments/1/runs/abc">abc</a> <span',
        ),
    ],
)
def test_link_of_the_mlflow_run_is_public_and_its_own(uri, expected):
    known = {"run_id": "abc", "experiment_id": "1", "tracking_uri": uri}
    page = publish.build(make_run(mlflow=known), ask_registry=False)
    assert expected in page and "secret" not in page


def test_links_follow_the_ports_that_are_in_use(monkeypatch):
    used = {"mlflow": "http://127.0.0.1:5011", "airflow": "http://127.0.0.1:8111"}
    monkeypatch.setattr(addresses, "running", lambda: used)
    known = {"run_id": "abc", "experiment_id": "1", "tracking_uri": "sqlite:////x.db"}
    model = {"name": "wind_gbm", "version": 3}
    start = {"dag_id": "wind", "run_id": "manual__1"}
    page = publish.build(make_run(mlflow=known, registration=model, run=start))
    assert 'href="http://127.0.0.1:5011/#/experiments/1/runs/abc"' in page
    assert (
        'href="http://127.0.0.1:5011/#/models/wind_gbm/versions/3">wind_gbm version 3</a>' in page
    )
    assert 'href="http://127.0.0.1:8111/dags/wind/runs/manual__1"' in page
    assert page.count("while <code>make up</code> runs") == 2


def test_link_of_the_airflow_run_is_quoted():
    start = {"dag_id": "wind", "run_id": "manual__2026-01-02T03:04:05+00:00"}
    summary = summarise(make_run(run=start))
    quoted = "http://127.0.0.1:8080/dags/wind/runs/manual__2026-01-02T03%3A04%3A05%2B00%3A00"
    assert f'href="{quoted}"' in run_page.render(summary, airflow_url="http://127.0.0.1:8080")
    assert quoted not in run_page.render(summary) and start["run_id"] in run_page.render(summary)


def test_publishing_leaves_summary_page_and_index_even_of_a_run_that_has_only_begun(outputs):
    run = open_run("wind/b")
    run.prepare()
    (run.path / "run.json").write_text(json.dumps({"run_id": "manual__1", "started": STAMP}))
    page = publish.publish(run)
    assert page == run.path / "report.html" and "running" in text_of(page.read_text())
    assert json.loads((run.path / "summary.json").read_text())["state"] == "running"
    assert '"wind","b","running"' in (outputs / "index.html").read_text()


def test_notebook_elsewhere_publishes_nothing(outputs, tmp_path):
    publish.beside(UPath(tmp_path / "a" / "b" / "01_load.ipynb"))
    publish.beside(outputs / "wind" / "none" / "01_load.ipynb")
    assert not (outputs / "index.html").exists()
    run = make_run()
    publish.beside(run.path / "02_evaluate.ipynb")
    assert (run.path / "report.html").exists()


def test_run_of_a_killed_executor_gets_its_page_from_the_watcher(tmp_path):
    run = make_run()
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    told = {"output": str(run.path / "02_evaluate.ipynb"), "sockets": str(tmp_path / "s")}
    watcher._finish(told | {"begun": notebook["metadata"]["papermill"]["start_time"]})
    words = text_of((run.path / "report.html").read_text())
    assert "StageKilled: the process that executed this notebook was killed" in words


def test_pages_of_all_runs_are_made_anew_on_demand(capsys):
    runs = [make_run(f"wind/{name}") for name in "ab"]
    publish.write_pages(runs)
    assert all((run.path / "report.html").exists() for run in runs)
    assert capsys.readouterr().out.count("report.html") == 2


def test_page_is_logged_once_there_is_an_mlflow_run(monkeypatch):
    logged = []
    client = SimpleNamespace(log_text=lambda *given: logged.append(given))
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    run = make_run()
    (run.path / "report.html").write_text("the page")
    tracking.log_page(run, "report.html")
    assert logged == []
    known = {"tracking_uri": tracking.tracking_uri(), "run_id": "abc", "experiment_id": "1"}
    (run.path / "mlflow.json").write_text(json.dumps(known))
    tracking.log_page(run, "report.html")
    assert logged == [("abc", "the page", "report.html")]
