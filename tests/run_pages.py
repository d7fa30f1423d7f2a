"""Runs of a made-up pipeline, and how to read their pages."""

import base64
import html
import json
import re

from lib.ground import outcome
from lib.registry import gate
from lib.run import open_run

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
        rows=[COMPARED] if champion else (),
        margin=0.001,
        problem=problem,
        notes=["version 4 is old"],
    )
    return make_run(metrics=METRICS, gate=decision, **files)


def versions(text="wind/old"):
    """Return the content of `comparison.json` of a run that has compared two versions."""
    side = {"version": None, "name": text, "run_dir": text}
    rows = [COMPARED | {"unit": text, "metric": text, "p_value": 0.04}]
    return {"model": text, "a": side, "b": side | {"version": 3}, "level": 0.95} | {
        "rows": rows,
        "notes": [text],
    }
