"""Pages of runs, written whenever something of a run has begun or ended, well or badly.

`publish` leaves `summary.json`, the index of all runs and `report.html` in the run folder. What
the page shows is gathered here: figures, the run before, the version that serves.
"""

import os
import sys
import time
from collections.abc import Iterable, Mapping

from lib.ground import addresses
from lib.ground.files import ROOT, look_into, write_bytes
from lib.ground.folder import run_at
from lib.ground.runs import CLOSED, STARTED, counterpart
from lib.pages import children, run_index, run_page, viewer
from lib.pages.summary import CHILDREN, PAGE, SUMMARY, read_summary, summarise, write_summary
from lib.run import Run, open_run

from upath import UPath

REST_S = 5.0  # between two pages of a run whose many child runs have all something to tell
REST_S_A_CHILD = 0.1  # as the page takes the longer, the more they are


def publish(run: Run, *, ask_registry: bool = True) -> UPath:
    """Write what says how a run stands: `summary.json`, the index of runs, and the run's page.

    Parameters
    ----------
    run : Run
        Going on or ended, well or badly.
    ask_registry : bool, default True
        As in `build`. Without, the page is there at once: MLflow takes a second to import.

    Returns
    -------
    UPath
        The page, `report.html` in the run folder.
    """
    with look_into(run.path):
        summary = write_summary(run)
        rows = run_index.read_rows() if run.parent else run_index.enter(summary)
        if run.parent and _is_due(run.parent, summary["state"]):
            publish(run.parent, ask_registry=False)
        if summary["state"] in CLOSED:  # the last stage that has passed leads to none any more
            from lib.pages import notebook as reports

            passed = [
                s
                for s in summary["stages"]
                if s["state"] == "passed" and s["page"] and s["notebook"]
            ]
            for stage in passed[-1:]:
                reports.write_html(run.path / stage["notebook"])
        return _write_page(run, summary, rows, ask_registry=ask_registry)


def beside(notebook: UPath) -> None:
    """Publish the run that an executed notebook belongs to; do nothing for any other notebook."""
    run = run_at(notebook.parent)
    if run and (run.path / STARTED).exists():
        publish(run)


def write_pages(runs: Iterable[Run]) -> None:
    """Write the pages of runs anew, and the index; print where they lie."""
    summaries = []
    for run in runs:
        with look_into(run.path):
            summaries.append((run, write_summary(run)))
    index, rows = run_index.write_index(), run_index.read_rows()
    for run, summary in summaries:
        with look_into(run.path):
            page = _write_page(run, summary, rows)
        sys.stdout.write(f"{addresses.opens_at(page)}\n")
    sys.stdout.write(f"{addresses.opens_at(index)}\n")


def _is_due(run: Run, state: str) -> bool:
    """Say whether the page of a run should follow a child run that is in this state now.

    It does at once where one has failed: nothing may come after it that would tell of it.
    """
    if state == "failed":
        return True
    age_s = _age_s(run.path / SUMMARY)
    return age_s > REST_S and age_s > REST_S_A_CHILD * len(run.children())


def _age_s(path: UPath) -> float:
    """Return for how long a file has not been written; infinity where there is none.

    A time to come counts as well: where the file lies, the clock may be ahead by minutes.
    """
    try:
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _write_page(
    run: Run, summary: Mapping, rows: list[dict], *, ask_registry: bool = True
) -> UPath:
    if summary["children"]:
        write_bytes(run.path / CHILDREN, children.render(summary).encode())
    page = run.path / PAGE
    write_bytes(page, build(run, summary, rows, ask_registry=ask_registry).encode())
    return page


def build(
    run: Run,
    summary: Mapping | None = None,
    rows: list[dict] | None = None,
    *,
    ask_registry: bool = True,
) -> str:
    """Return the page of a run as its folder is now.

    Parameters
    ----------
    run : Run
    summary : mapping, optional
        Of `lib.pages.summary.summarise`; made now by default.
    rows : list of dict, optional
        Of the index; read now by default.
    ask_registry : bool, default True
        Whether to compare with the registered version that serves.
    """
    summary = dict(summary or summarise(run))
    rows = run_index.read_rows() if rows is None else rows
    problems = list(summary["problems"])
    served, standing = {}, {}
    if ask_registry and summary["metrics"]:
        try:
            served, standing = _serving(summary, rows), _standing(summary)
        except Exception as error:  # whatever a registry raises; the page says so
            problems.append(f"the registry could not be asked: {type(error).__name__}: {error}")
    figures = {}
    for name in (name for stage in summary["stages"] for name in stage["figures"]):
        content, charts, problem = viewer.load(run.path / name)
        figures[name] = content, charts
        problems += [problem] if problem else []
    return run_page.render(
        summary | {"problems": problems},
        figures=figures,
        previous=previous_run(summary, rows),
        served=served,
        standing=standing,
        lacking=_lacking(summary),
        airflow_url=os.environ.get("AIRFLOW__API__BASE_URL") or addresses.address("airflow"),
        mlflow_url=addresses.address("mlflow"),
    )


def _serving(summary: Mapping, rows: list[dict]) -> dict:
    """Return the version that serves under the name of this run's model, made by another run.

    Where the run names no model, its pipeline's last registration on like data does.
    """
    from lib.registry.standing import serving  # MLflow takes seconds to import

    mine = run_index.row(summary)
    like = [
        row["model"]
        for row in rows
        if row["model"] and row["pipeline"] == mine["pipeline"]
        if (row["source"] == "sample") == (mine["source"] == "sample")
    ]
    found = serving(mine["model"] or like[-1]) if mine["model"] or like else {}
    return found if found.get("run_dir") != summary["run_dir"] else {}


def _standing(summary: Mapping) -> dict:
    """Return what has become of the version that the run has registered; {} without one."""
    from lib.registry.standing import standing_of

    name, version = (summary["registration"].get(key) for key in ("name", "version"))
    return standing_of(name, version, summary["run_dir"]) if name and version else {}


def _lacking(summary: Mapping) -> str:
    """Return the file without which versions of a registered model can do less; "" if it is there.

    See `lib.registry.rows`.
    """
    file = f"lib/pipelines/{summary['pipeline']}.py"
    return file if summary["registration"] and not (ROOT / file).exists() else ""


def previous_run(summary: Mapping, rows: list[dict]) -> dict:
    """Return the summary of the run to compare with, {} if there is none.

    It is the latest earlier one of the same pipeline and data source that has ended with metrics,
    among the `rows` of the index.
    """
    mine = run_index.row(summary)
    rows = [
        row
        for row in rows
        if row["state"] != "running" and row["has_metrics"]
        if (row["pipeline"], row["source"]) == (mine["pipeline"], mine["source"])
        if (row["started"] or "") < (mine["started"] or "")
    ]
    if not rows:
        return {}
    other = open_run(f"{rows[-1]['pipeline']}/{rows[-1]['name']}")
    found = counterpart(open_run(summary["run_dir"]), other)
    return read_summary(found) if found else {}
