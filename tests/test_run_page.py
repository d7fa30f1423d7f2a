"""The page of a run: what stands on it, in which order, and that nothing costs it."""

import base64
import html
import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

from lib import addresses, charts, outcome, tracking
from lib.commands import services
from lib.machine import watcher
from lib.pages import run_page
from lib.pages.summary import close_run, summarise, write_summary
from lib.registry import gate, ledger
from lib.run import ROOT, open_run

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from upath import UPath

STAMP = "2026-01-02T03:04:05+00:00"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
CHECK = {"metric": "rmse", "value": 0.4, "threshold": 0.5, "greater_is_better": False}
METRICS = {"rmse": 0.4, "rmse_low": 0.35, "rmse_high": 0.45, "persistence_rmse": 0.8, "r2": 0.9}


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """An empty folder of runs, with no tracking store."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    return UPath(tmp_path / "outputs")


def executed(error=None):
    """Return a notebook of three code cells that ran through, or failed in its third cell."""
    cells = [new_markdown_cell("# Wind")] + [new_code_cell("x", outputs=[]) for _ in range(3)]
    for cell in cells:
        cell.metadata["papermill"] = {"status": "completed", "duration": 1.0}
    facts = {"start_time": STAMP, "end_time": STAMP, "duration": 75.0}
    facts |= {"peak_memory_bytes": 3 * 2**20}
    notebook = json.loads(json.dumps(new_notebook(cells=cells, metadata={"papermill": facts})))
    if error:
        outcome.mark_failed(notebook, 2, *error)
    return notebook


def make_run(run_dir="wind/a", *, error=None, figures=(), started=STAMP, **files):
    """Make a run of two stages, the second one failed in its third cell if there is an `error`."""
    run = open_run(run_dir)
    run.prepare()
    record = {"state": "finished", "started": STAMP, "finished": STAMP, "reads": {}}
    content = {
        "stages/01_load": record | {"parameters": {}, "writes": {}},
        "stages/02_evaluate": record | {"parameters": {}, "writes": dict.fromkeys(figures, "")},
        "run": {"started": started, "who": "jane"},
        "dataset": {"source": "sample", "n_rows": 1234, "digest": "d" * 64},
        **files,
    }
    run.path.joinpath("stages").mkdir(exist_ok=True)
    for name, data in content.items():
        run.path.joinpath(f"{name}.json").write_text(json.dumps(data))
    for stage, reason in (("01_load", None), ("02_evaluate", error)):
        outcome.write_notebook(run.path / f"{stage}.ipynb", executed(reason))
        run.path.joinpath(f"{stage}.html").write_text("page")
    return run


def verdict(**changes):
    check = CHECK | {"passed": True} | changes
    return {"passed": check["passed"], "checks": [check]}


def text_of(page):
    """Return the words that a reader sees, in order."""
    body = page[page.index("<main>") : page.index("</main>")]
    words = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())
    return re.sub(r" (?=[,;:.] )", "", words)  # a link's end is no end of a word


def row_of(page, metric):
    """Return the cells of a metric's row as words."""
    row = re.search(rf'<tr[^>]*><th scope="row">{metric} .*?</tr>', page)[0]
    cells = re.findall(r"<t[dh].*?</t[dh]>", row)
    words = [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in cells]
    return [word.replace(" ,", ",") for word in words]


def test_verdict_comes_first_and_the_rest_in_the_order_of_a_review():
    run = make_run(
        metrics=METRICS,
        verdict=verdict(),
        figures=["forecast.png"],
        registration={"name": "wind_gbm", "version": 3, "alias": "staging"},
        mlflow={"run_id": "abc", "experiment_id": "1", "tracking_uri": "sqlite:////x.db"},
    )
    (run.path / "forecast.png").write_bytes(PIXEL)
    words = text_of(run_page.build(run))
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
    page = run_page.build(run)
    assert '<section class="verdict refused"><p class="first">' in page
    words = text_of(page)
    assert words.index("refused") < words.index(sentence) < words.index("kept out of the registry")


def test_failed_run_has_the_error_on_top_with_a_link_to_its_stage():
    page = run_page.build(make_run(error=("ValueError", "no column <b>\nmore of it")))
    top = page[page.index('<section class="verdict failed">') : page.index("</section>")]
    assert '<a href="02_evaluate.html">2 · Evaluate</a>, cell 3: ValueError' in top
    assert "no column &lt;b&gt;" in top and "<pre>more of it</pre>" in top


def test_stage_that_never_began_says_why_without_a_cell():
    run = make_run()
    notebook = executed()
    outcome.mark_failed(notebook, None, "ValueError", "wind has no parameter 'x'")
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    words = text_of(run_page.build(run))
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
    page = run_page.build(make_run(error=error))
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
    page = run_page.build(run)
    assert 'class="do"' not in page, "a run that passed needs no box"
    stages = page[page.index("Stages</h2>") :]
    expected = (["http://lab/open-stage/01_load"], ["make open RUN=wind/a STAGE=01_load"])
    assert opened(stages) == expected and opened(page) == expected


@pytest.mark.parametrize("state", ["cancelled", "lost"])
def test_run_that_was_closed_says_why_and_where_it_was_cut_off(state):
    run = make_run(run={"run_id": "manual__1", "dag_id": "wind", "started": STAMP})
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    notebook["cells"][3]["metadata"]["papermill"]["status"] = "running"
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    close_run(run, state, "stopped in <make run>", at="2026-01-02T03:09:00+00:00")
    page = run_page.build(run)
    assert f'<span class="badge {state}">{state}</span>' in page
    box = page[page.index('<section class="verdict') : page.index("</section>")]
    assert "Stopped in &lt;make run&gt;." in box and opened(box)[1]
    words = text_of(page)
    assert "Cut off in 2 · Evaluate after 2 of 3 cells." in words
    assert "is running" not in words and "2 · Evaluate failed" in words


def test_stages_that_a_failed_run_never_reached_are_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    folder = tmp_path / "notebooks" / "wind"
    folder.mkdir(parents=True)
    for stage in ("01_load", "02_evaluate", "03_register"):
        (folder / f"{stage}.ipynb").write_text("{}")
    page = run_page.build(make_run(error=("ValueError", "x")))
    assert '<span class="badge not-run">not run</span>' in page and "waiting" not in text_of(page)


def test_running_stage_is_shown_with_the_cells_done_so_far():
    run = make_run(run={"run_id": "manual__1", "dag_id": "wind"})
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    notebook["cells"][3]["metadata"]["papermill"]["status"] = "running"
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    words = text_of(run_page.build(run))
    assert "1 of 2 stages done; 2 · Evaluate is running, 2 of 3 cells." in words


def test_changes_are_marked_by_the_direction_of_the_metric():
    summary = summarise(make_run(metrics=METRICS, verdict=verdict()))
    previous = summarise(
        make_run("wind/before", metrics={"rmse": 0.42, "r2": 0.95}, dataset={"digest": "e" * 64})
    )
    served = {"name": "wind_gbm", "version": 2, "alias": "production", "run_dir": "wind/old"}
    served |= {"metrics": {"rmse": 0.5, "r2": 0.9}, "digest": "d" * 64}
    page = run_page.render(summary, previous=previous, served=served)
    assert row_of(page, "rmse") == [
        "rmse ↓",
        "0.40 0.35 to 0.45",
        "0.42 \N{MINUS SIGN}0.02 better, inside the interval",
        "0.50 \N{MINUS SIGN}0.10 better",
        "0.80",
    ]
    assert row_of(page, "r2") == [
        "r2 ↑",
        "0.90",
        "0.95 \N{MINUS SIGN}0.05 worse",
        "0.90 no change",
    ]
    head = text_of(page[: page.index("<tbody>")] + "</main>")
    assert "Previous run 2026-01-02 03:04, other data" in head
    assert "@production, version 2 same data" in head
    assert 'href="../../wind/before/report.html"' in page
    assert 'href="../../wind/old/report.html"' in page


def test_previous_run_that_is_in_production_stands_there_once():
    summary = summarise(make_run(metrics=METRICS))
    previous = summarise(make_run("wind/before", metrics={"rmse": 0.42}))
    served = {"name": "wind_gbm", "version": 2, "alias": "production", "run_dir": "wind/before"}
    page = run_page.render(summary, previous=previous, served=served | {"metrics": {"rmse": 0.42}})
    assert len(row_of(page, "rmse")) == 4 and "@production, version 2; same data" in text_of(page)


def shown(**metrics):
    return run_page.render(summarise(make_run(metrics=metrics)))


def bold_of(page, metric):
    """Return the numbers of a metric's row that are bold."""
    row = re.search(rf'<tr[^>]*><th scope="row">{metric} .*?</tr>', page)[0]
    return re.findall(r'class="?(?:number )?best"?>([\d.]+)', row)


def test_numbers_of_a_metric_have_like_decimals_and_a_tie_is_a_tie():
    page = shown(accuracy=1.0, logistic_accuracy=0.284, one_view_accuracy=1.0, most_accuracy=0.1)
    assert row_of(page, "accuracy") == ["accuracy ↑", "1.000", "0.284", "1.000", "0.100"]
    assert bold_of(page, "accuracy") == ["1.000", "1.000"]
    page = shown(mse=1.13205, gru_mse=1.13179, persistence_mse=1.24488)
    assert row_of(page, "mse")[1:] == ["1.132", "1.132", "1.245"]
    assert bold_of(page, "mse") == ["1.132", "1.132"]
    assert bold_of(shown(mse=0.5, gru_mse=0.50000001), "mse") == [], "nothing to tell apart"


def test_what_rounding_leaves_of_a_zero_is_zero():
    found = {"expected_calibration_error": 5.5e-05, "most_expected_calibration_error": 1.388e-17}
    page = shown(**found, logistic_expected_calibration_error=0.07719)
    row = row_of(page, "expected_calibration_error")
    assert row == ["expected_calibration_error ↓", "0.000055", "0", "0.077190"]
    assert "e-" not in text_of(page)


def test_metrics_without_baselines_have_no_columns_for_them():
    page = shown(**METRICS, persistence_r2_extra=1.0)
    first, second = re.findall(r"<table.*?</table>", page[page.index("Metrics</h2>") :])[:2]
    assert "persistence" in first and ">rmse ↓" in first and ">r2" not in first
    assert "persistence" not in second and ">r2 ↑" in second and ">rmse" not in second


def test_baseline_of_one_metric_alone_stands_below_its_name():
    planted = {"planted_rank_ic": 0.35, "gru_rank_ic": 0.31}
    page = shown(rank_ic=0.3, mae=0.8, gru_mae=0.7, **planted)
    assert row_of(page, "rank_ic") == ["rank_ic ↑ planted 0.35", "0.30", "0.31"]
    assert bold_of(page, "rank_ic") == ["0.35"]


def test_metric_of_unknown_direction_is_shown_without_an_arrow():
    page = shown(
        uplift_at_ten=0.91234, uplift_at_ten_low=0.9, uplift_at_ten_high=0.92, n_test=12345.0
    )
    words = text_of(page)
    assert "uplift_at_ten 0.9123 0.9000 to 0.9200" in words and "n_test 12,345" in words
    assert not {"↑", "↓"} & set(words[words.index("Metrics") :])
    page = shown(rmse=0.4, uplift_at_ten=0.9, validation_rmse=0.5, gru_rmse=0.6, gru_rmse_low=0.5)
    words = text_of(page)
    assert "uplift_at_ten 0.9 validation_rmse 0.5" in words and "gru_rmse_low" not in words


def test_damaged_metric_costs_no_page():
    words = text_of(shown(rmse="?", mae=0.5, r2=None))
    assert "mae ↓ 0.5" in words and "rmse" not in words


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
        run_page.publish(make_run(f"wind/{name}", started=day(number), **files))
    run_page.publish(make_run("tide/a", started=day(4), metrics=METRICS))
    run = make_run("wind/mine", started=day(5), metrics=METRICS)
    assert run_page.previous_run(write_summary(run))["run_dir"] == "wind/wanted"
    first = make_run("wind/first", started="2025-01-01T00:00:00+00:00", metrics=METRICS)
    assert run_page.previous_run(write_summary(first)) == {}


def registry_of(monkeypatch, aliases, run_dir="wind/old"):
    """Put a registry with one model in the place of MLflow's."""
    tags = {"metric.rmse": "0.5", "run_dir": run_dir, "data_digest": "d" * 64}
    client = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(aliases=aliases),
        get_model_version=lambda name, version: SimpleNamespace(tags=tags | {"v": version}),
    )
    monkeypatch.setattr(run_page, "open_client", lambda: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("aliases", "run_dir", "found"),
    [
        ({"production": "2", "staging": "3"}, "wind/old", ("production", 2)),
        ({"staging": "3"}, "wind/old", ("staging", 3)),
        ({}, "wind/old", None),
        ({"production": "2"}, "wind/a", None),  # this run's own version
    ],
)
def test_version_to_compare_with_is_in_production_or_else_staging(
    monkeypatch, aliases, run_dir, found
):
    registry_of(monkeypatch, aliases, run_dir)
    summary = summarise(make_run(metrics=METRICS, registration={"name": "wind_gbm"}))
    served = run_page.serving(summary)
    assert (served.get("alias"), served.get("version")) == (found or (None, None))
    assert not found or served["metrics"] == {"rmse": 0.5}


def test_refused_run_is_compared_with_the_model_of_the_last_registration(monkeypatch):
    registry_of(monkeypatch, {"production": "2"})
    run_page.publish(make_run("wind/old", registration={"name": "wind_gbm", "version": 2}))
    run_page.publish(make_run("tide/b", registration={"name": "tide_gbm", "version": 9}))
    summary = summarise(make_run("wind/new", metrics=METRICS))
    assert run_page.serving(summary)["name"] == "wind_gbm"


def test_missing_store_is_no_problem_and_is_not_made(outputs):
    run = make_run(metrics=METRICS, registration={"name": "wind_gbm"})
    assert "could not be read" not in run_page.build(run)
    assert not (outputs / "mlflow.db").exists()


def test_broken_registry_costs_no_page_and_is_named_without_its_password(monkeypatch):
    def refuse():
        raise OSError("cannot reach http://me:secret@db/api")

    registry_of(monkeypatch, {})
    monkeypatch.setattr(run_page, "open_client", refuse)
    page = run_page.build(make_run(metrics=METRICS, registration={"name": "wind_gbm"}))
    assert "the registry could not be asked: OSError: cannot reach http://db/api" in page
    assert "secret" not in page


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
    page = run_page.build(run)
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
    page = run_page.build(run)
    shown, folded = page[page.index("Figures</h2>") :].split("<details>")[:2]
    assert re.findall(r'alt="(\w+)"', shown) == ["f1", "f2", "f3", "f4", "f6"]
    assert re.findall(r'alt="(\w+)"', folded) == ["f5"]


def test_text_of_a_run_is_never_markup():
    bad = "<b onclick=x>\"'"
    run = make_run(
        metrics=METRICS,
        verdict=verdict(metric=bad),
        dataset={"source": bad, "digest": bad, "start": bad, "end": bad},
        registration={"name": bad, "version": bad, "alias": bad},
        run={"who": bad, "commit": bad, "lock": bad, "python": bad, "dag_id": bad, "run_id": bad},
        mlflow={"run_id": bad, "experiment_id": bad, "tracking_uri": f"http://{bad}"},
    )
    summary = summarise(run) | {"problems": [bad]}
    summary["parameters"] = {
        bad: {"value": bad, "default": bad, "changed": True, "stage": bad, "meaning": bad}
        | {"domain": bad}
    }
    previous = summary | {"run_dir": bad, "dataset": {}}
    page = run_page.render(summary, previous=previous, airflow_url=f"http://{bad}")
    assert "<b" not in page[page.index("<main>") :].replace("<button", "").replace("<body", "")
    assert 'onclick=x>"' not in page


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
    page = run_page.build(make_run(mlflow=known), ask_registry=False)
    assert expected in page and "secret" not in page


def test_links_follow_the_ports_that_are_in_use(monkeypatch):
    used = {"mlflow": "http://127.0.0.1:5011", "airflow": "http://127.0.0.1:8111"}
    monkeypatch.setattr(addresses, "running", lambda: used)
    known = {"run_id": "abc", "experiment_id": "1", "tracking_uri": "sqlite:////x.db"}
    model = {"name": "wind_gbm", "version": 3}
    start = {"dag_id": "wind", "run_id": "manual__1"}
    page = run_page.build(make_run(mlflow=known, registration=model, run=start))
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
    page = run_page.publish(run)
    assert page == run.path / "report.html" and "running" in text_of(page.read_text())
    assert json.loads((run.path / "summary.json").read_text())["state"] == "running"
    assert '"wind","b","running"' in (outputs / "index.html").read_text()


def test_notebook_elsewhere_publishes_nothing(outputs, tmp_path):
    run_page.publish_beside(UPath(tmp_path / "a" / "b" / "01_load.ipynb"))
    run_page.publish_beside(outputs / "wind" / "none" / "01_load.ipynb")
    assert not (outputs / "index.html").exists()
    run = make_run()
    run_page.publish_beside(run.path / "02_evaluate.ipynb")
    assert (run.path / "report.html").exists()


def test_run_of_a_killed_executor_gets_its_page_from_the_watcher(tmp_path):
    run = make_run()
    notebook = executed()
    notebook["metadata"]["papermill"]["end_time"] = None
    outcome.write_notebook(run.path / "02_evaluate.ipynb", notebook)
    watcher._finish({"output": str(run.path / "02_evaluate.ipynb"), "sockets": str(tmp_path / "s")})
    words = text_of((run.path / "report.html").read_text())
    assert "StageKilled: the process that executed this notebook was killed" in words


def test_pages_of_all_runs_are_made_anew_on_demand(capsys):
    runs = [make_run(f"wind/{name}") for name in "ab"]
    assert run_page.main() == 0
    assert all((run.path / "report.html").exists() for run in runs)
    assert capsys.readouterr().out.count("report.html") == 2
    with pytest.raises(ValueError, match="there is no run 'wind/c'"):
        run_page.main("wind/c")


def test_page_is_logged_once_there_is_an_mlflow_run(monkeypatch):
    logged = []
    client = SimpleNamespace(
        log_artifacts=lambda run_id, folder: logged.append(
            (run_id, [(p.name, p.read_text()) for p in UPath(folder).iterdir()])
        )
    )
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    run = make_run()
    (run.path / "report.html").write_text("the page")
    tracking.log_page(run, "report.html")
    assert logged == []
    known = {"tracking_uri": tracking.tracking_uri(), "run_id": "abc", "experiment_id": "1"}
    (run.path / "mlflow.json").write_text(json.dumps(known))
    tracking.log_page(run, "report.html")
    assert logged == [("abc", [("report.html", "the page")])]


@pytest.mark.kernel
def test_page_shows_its_figures_in_a_browser_without_a_complaint(browser_page):
    run = make_run(figures=["forecast.png"], metrics=METRICS, verdict=verdict())
    (run.path / "forecast.png").write_bytes(PIXEL)
    page, messages = browser_page
    page.goto(run_page.publish(run).as_uri())
    widths = page.eval_on_selector_all("img", "images => images.map((i) => i.naturalWidth)")
    assert widths == [1]
    assert page.locator("h1 .badge").inner_text() == "passed"
    page.click("a:has-text('All runs')")
    assert page.locator("tbody tr").count() == 1
    page.click("tbody a")
    assert page.locator("h2").first.inner_text() == "Metrics"
    assert messages == []


@pytest.mark.kernel
@pytest.mark.parametrize("pipeline", ["power", "tick", "mnist", "cifar10"])
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


FLOOR = CHECK | {"metric": "rmse_vs_persistence", "passed": True}
COMPARED = {"metric": "rmse", "unit": "kW", "greater_is_better": False, "decisive": True}
COMPARED |= {"candidate": 0.4312, "champion": 0.43903, "difference": -0.00783}
COMPARED |= {"low": -0.0104, "high": -0.0051, "p_value": None}
MADE = {"name": "wind_gbm", "version": 5, "alias": "staging", "policy": "approval"}
DECIDED = {"version": 5, "policy": "approval", "who": "bob", "reason": "a <b> idea", "when": STAMP}


def gated_run(*, champion=(("version", 4), ("run_dir", "wind/old")), problem="", **files):
    decision = gate.decide(
        {"passed": True, "checks": [FLOOR]},
        champion=dict(champion) or None,
        rows=[COMPARED] if champion else None,
        margin=0.001,
        problem=problem,
        notes=["version 4 is old"],
    )
    return make_run(metrics=METRICS, gate=decision, **files)


def test_gate_stands_right_below_the_sentence_that_says_what_followed():
    promotion = DECIDED | {"outcome": "promoted"}
    run = gated_run(registration=MADE | {"promoted": True}, promotion=promotion)
    page = run_page.build(run)
    assert '<p class="first">Promoted: rmse 0.4312 kW against 0.4390 of version 4, better' in page
    words = text_of(page)
    expected = [
        "better by 0.0078 (0.0051 to 0.0104), more than the margin of 0.001.",
        "bob has agreed: a <b> idea.",
        "Registered as wind_gbm version 5, @staging",
        "Gate Metric Result Floor Candidate In production then version 4 Difference 95 % interval",
        "rmse (kW) ↓ passed 0.4312 0.4390 \N{MINUS SIGN}0.0078 \N{MINUS SIGN}0.0104 to",
        "rmse_vs_persistence ↓ passed ≤ 0.5 0.4",
        "Margin: 0.001. Version 4 is old.",
        "Started by jane",
        "Metrics",
    ]
    places = [words.index(text) for text in expected]
    assert places == sorted(places)
    assert '<a href="../../wind/old/report.html">In production then</a>' in page
    assert "less version 4, which was in production when this was decided" in words
    assert "a &lt;b&gt; idea" in page


def test_gate_without_a_champion_shows_floors_only():
    words = text_of(run_page.build(gated_run(champion=(), registration=MADE | {"promoted": True})))
    assert "Promoted: nothing was in production, and every floor was reached." in words
    assert "Gate Metric Result Floor Candidate rmse_vs_persistence" in words
    assert "Difference" not in words and "In production" not in words


def test_page_never_says_that_nothing_is_and_something_is_in_production():
    run = gated_run(champion=(), registration=MADE | {"promoted": True})
    decision = json.loads((run.path / "gate.json").read_text())
    decision["notes"] = ["nothing is in production under this name"]
    (run.path / "gate.json").write_text(json.dumps(decision))
    standing = {"champion": 5, "archived": "", "changes": []}
    words = text_of(run_page.render(summarise(run), standing=standing))
    assert "in production now" in words and "Nothing was in production under this name." in words
    assert "othing is in production" not in words


def metrics_of(page):
    """Return the part of a page that is below the gate's table."""
    return page[page.index("Metrics</h2>") :]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ({}, "0.4390 \N{MINUS SIGN}0.0078 better, surely"),
        ({"high": 0.001}, "0.4390 \N{MINUS SIGN}0.0078 better, not surely"),
        ({"p_value": 0.2}, "0.4390 \N{MINUS SIGN}0.0078 better, not surely"),
        ({"champion": 0.4312, "difference": 0.0}, "0.4312 no change"),
    ],
)
@pytest.mark.parametrize("column", ["previous", "served"])
def test_metrics_say_of_the_champion_what_the_gate_says(pair, said, column):
    metrics = METRICS | {"rmse": 0.4312, "r2": 0.88, "r2_low": 0.8, "r2_high": 0.95}
    run = gated_run(registration=MADE)
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    decision = json.loads((run.path / "gate.json").read_text())
    decision["rows"][0] |= pair
    (run.path / "gate.json").write_text(json.dumps(decision))
    other = {"rmse": 0.44, "r2": 0.9}
    before = {"served": {"name": "wind_gbm", "version": 4, "alias": "production", "run_dir": ""}}
    before["served"] |= {"metrics": other}
    before["previous"] = summarise(make_run("wind/old", metrics=other))
    page = metrics_of(run_page.render(summarise(run), **{column: before[column]}))
    assert row_of(page, "rmse")[2] == said
    assert row_of(page, "r2")[2].endswith("worse, inside the interval"), "not compared by the gate"
    far = {"previous": before["previous"] | {"run_dir": "wind/else"}}
    page = metrics_of(run_page.render(summarise(run), **far))
    assert row_of(page, "rmse")[2].endswith("better"), "another run: the gate knows nothing of it"


def test_undecided_run_waits_for_a_person_and_says_why():
    words = text_of(run_page.build(gated_run(problem="it has no signature", registration=MADE)))
    assert "Undecided, a person must decide: it has no signature. Waits for a person" in words


ENTRY = {"action": "promote", "who": "alice", "when": STAMP, "reason": "needed", "override": True}


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"champion": 5}, "version 5, in production now."),
        ({"champion": 6}, "version 5; version 6 is in production now."),
        ({"champion": None}, "version 5; nothing is in production now."),
        (
            {"champion": 6, "archived": STAMP},
            "version 5, replaced 2026-01-02 03:04 UTC; version 6 is in production now.",
        ),
        (
            {"champion": 5, "changes": [ENTRY]},
            "now. Promoted against the gate by alice, 2026-01-02 03:04 UTC: needed",
        ),
        (
            {"champion": 5, "changes": [ENTRY | {"action": "rollback", "override": False}]},
            "now. Put back into production by alice, 2026-01-02 03:04 UTC: needed",
        ),
    ],
)
def test_page_says_whether_the_version_serves_now_and_who_put_it_there(standing, said):
    summary = summarise(gated_run(registration=MADE))
    whole = {"archived": "", "changes": []} | standing
    assert said in text_of(run_page.render(summary, standing=whole))


def test_standing_is_asked_of_registry_and_ledger(monkeypatch):
    entry = {
        "when": STAMP,
        "alias": "production",
        "before": 4,
        "after": 5,
        "verdict": "",
        "id": "x",
    }
    entry |= {"action": "promote", "who": "alice", "reason": "needed", "override": True}
    own = entry | {"who": "", "run_dir": "wind/a"}
    lines = [own, entry | {"run_dir": ""}, entry | {"run_dir": "", "after": 6}]
    texts = {f"{n:06}": json.dumps(line) for n, line in enumerate(lines, start=1)}
    ledger_run = SimpleNamespace(
        info=SimpleNamespace(lifecycle_stage="active"), data=SimpleNamespace(params=texts)
    )
    client = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(
            aliases={"production": "6"}, tags={ledger.TAG: "abc"}
        ),
        get_model_version=lambda name, version: SimpleNamespace(tags={"archived": STAMP}),
        get_run=lambda run_id: ledger_run,
    )
    monkeypatch.setattr(run_page, "open_client", lambda: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = run_page.standing_of(summarise(gated_run(registration=MADE)))
    assert (found["champion"], found["archived"]) == (6, STAMP)
    assert [(change["who"], change["number"]) for change in found["changes"]] == [("alice", 2)]
    assert run_page.standing_of(summarise(make_run("wind/new"))) == {}


def test_damaged_gate_is_named_and_costs_nothing_else():
    words = text_of(run_page.build(make_run(metrics=METRICS, verdict=verdict(), gate={"rows": 3})))
    assert "gate.json holds no decision" in words
    assert "rmse = 0.4, 0.1 below the 0.5 that is allowed at most: passed" in words


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
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        while not services._answers(port):
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield client, made.info, f"http://127.0.0.1:{port}"
    finally:
        services._stop([server])


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
