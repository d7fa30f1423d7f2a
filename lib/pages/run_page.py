"""The page of a run: its verdict first, then what that rests on, then all the rest.

`publish` is called whenever something of a run has begun or ended, well or badly: it leaves
`summary.json`, the index of all runs and `report.html`, which is one file that refers to nothing
but its neighbours in the run folder. `render` makes the page of what it is given and reads
nothing; `build` gathers that: figures, the run before, the version that serves.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from lib import addresses, chart_file
from lib.pages import html, run_index, tables, viewer
from lib.pages.html import document, plain, public, sentence, when
from lib.pages.standing import serving, standing_of
from lib.pages.summary import (
    CLOSED,
    PAGE,
    STARTED,
    decision,
    read_summary,
    said_then,
    stage_to_open,
    summarise,
    write_summary,
)
from lib.run import ROOT, Run, open_run, outputs_dir, write_bytes

from upath import UPath

SHOWN_FIGURES = 4
FILES = ("badges.css", "run.css", "unlink.js", "copy.js")
OF_START = ("commit", "lock", "python", "dag_id", "run_id")
OF_DATA = ("digest", "n_rows", "start", "end")


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
    summary = write_summary(run)
    run_index.write_index()
    if summary["state"] in CLOSED:
        _end_stages(run, summary)
    return _write_page(run, summary, ask_registry=ask_registry)


def _end_stages(run: Run, summary: Mapping) -> None:
    """Let the last stage that has passed no longer lead to one that will never be."""
    from lib.pages import notebook as reports

    passed = [
        s for s in summary["stages"] if s["state"] == "passed" and s["notebook"] and s["page"]
    ]
    for stage in passed[-1:]:
        reports.write_html(run.path / stage["notebook"])


def publish_beside(notebook: UPath) -> None:
    """Publish the run that an executed notebook belongs to; do nothing for any other notebook."""
    folder = notebook.parent
    if folder.parent.parent == outputs_dir() and (folder / STARTED).exists():
        publish(open_run(f"{folder.parent.name}/{folder.name}"))


def write_pages(runs: Iterable[Run]) -> None:
    """Write the pages of runs anew, and the index; print where they lie."""
    summaries = [(run, write_summary(run)) for run in runs]
    index = run_index.write_index()
    for run, summary in summaries:
        sys.stdout.write(f"{_write_page(run, summary)}\n")
    sys.stdout.write(f"{index}\n")


def _write_page(run: Run, summary: Mapping, *, ask_registry: bool = True) -> UPath:
    page = run.path / PAGE
    write_bytes(page, build(run, summary, ask_registry=ask_registry).encode())
    return page


def build(run: Run, summary: Mapping | None = None, *, ask_registry: bool = True) -> str:
    """Return the page of a run as its folder is now.

    Parameters
    ----------
    run : Run
    summary : mapping, optional
        Of `lib.pages.summary.summarise`; made now by default.
    ask_registry : bool, default True
        Whether to compare with the registered version that serves.
    """
    summary = dict(summary or summarise(run))
    problems = list(summary["problems"])
    served, standing = {}, {}
    if ask_registry and summary["metrics"]:
        try:
            served, standing = serving(summary), standing_of(summary)
        except Exception as error:  # whatever a registry raises; the page says so
            problems.append(f"the registry could not be asked: {type(error).__name__}: {error}")
    figures, panels = {}, {}
    for name in (name for stage in summary["stages"] for name in stage["figures"]):
        try:
            figures[name] = (run.path / name).read_bytes()
            panels[name] = chart_file.beside(run.path / name)
        except OSError as error:
            problems.append(f"{name} cannot be read: {type(error).__name__}")
        except ValueError as error:
            problems.append(str(error))
    return render(
        summary | {"problems": problems},
        figures=figures,
        panels=panels,
        previous=previous_run(summary),
        served=served,
        standing=standing,
        lacking=_lacking(summary),
        airflow_url=os.environ.get("AIRFLOW__API__BASE_URL") or addresses.address("airflow"),
        mlflow_url=addresses.address("mlflow"),
    )


def _lacking(summary: Mapping) -> str:
    """Return what cannot be done with a version for want of its pipeline's own module, or ""."""
    file = f"lib/pipelines/{summary['pipeline']}.py"
    if not summary["registration"] or (ROOT / file).exists():
        return ""
    return (
        f"There is no {file}: versions are compared on the rows that both have judged only, and "
        "can neither score new data nor be watched."
    )


def previous_run(summary: Mapping) -> dict:
    """Return the summary of the run to compare with, {} if there is none.

    It is the latest earlier one of the same pipeline and data source that has ended with metrics.
    """
    mine = run_index.row(summary)
    for row in reversed(run_index.read_rows()):
        same = all(row[key] == mine[key] for key in ("pipeline", "source"))
        ended = row["state"] != "running" and row["has_metrics"]
        if same and ended and (row["started"] or "") < (mine["started"] or ""):
            found = read_summary(open_run(f"{row['pipeline']}/{row['name']}"))
            if found["metrics"]:
                return found
    return {}


def render(
    summary: Mapping,
    *,
    figures: Mapping[str, bytes] | None = None,
    panels: Mapping[str, list[dict]] | None = None,
    previous: Mapping | None = None,
    served: Mapping | None = None,
    standing: Mapping | None = None,
    lacking: str = "",
    airflow_url: str = "",
    mlflow_url: str = "",
) -> str:
    """Return the page of a run.

    Parameters
    ----------
    summary : mapping
        What `lib.pages.summary.summarise` returns.
    figures : mapping of str to bytes, optional
        PNG files by name; those that are not there are not shown.
    panels : mapping of str to list, optional
        Charts by the name of the PNG file that they stand beside, from `lib.chart_file.parse`.
    previous : mapping, optional
        Summary of the run to compare with.
    served : mapping, optional
        The version to compare with, as `serving` returns it.
    standing : mapping, optional
        What has become of the run's own version, as `standing_of` returns it.
    lacking : str, default ""
        What cannot be done with versions of this pipeline, a sentence.
    airflow_url : str, default ""
        Where Airflow answers, for the link to the DAG run.
    mlflow_url : str, default ""
        Where MLflow answers while it runs, for runs whose store is no server itself.

    Returns
    -------
    str
        A complete HTML document; its links are relative to the run folder.
    """
    store = public(summary["mlflow"].get("tracking_uri", ""))
    mlflow_url = (store if store.startswith(("http://", "https://")) else mlflow_url).rstrip("/")
    begun = when(summary["started"])
    title = f"{summary['pipeline']} \N{MIDDLE DOT} {begun}" if begun else summary["run_dir"]
    stages = [stage | _opening(summary["run_dir"], stage) for stage in summary["stages"]]
    start = dict.fromkeys(OF_START, "") | summary["start"]
    failed = [stage for stage in stages if stage["state"] == "failed"]
    checks = sorted(summary["verdict"].get("checks", []), key=lambda check: check["passed"])
    gate = tables.gate_table(summary["gate"])
    if gate:
        gate["said"] += [said_then(sentence(note)) for note in summary["gate"]["notes"]]
    known = summary["parameters"]
    body = html.render(
        "run.html",
        run=dict(summary, stages=stages),
        title=title,
        start=start,
        data=dict.fromkeys(OF_DATA) | summary["dataset"],
        source=run_index.data_source(summary),
        started_by=run_index.started_by(summary["start"]),
        is_closed=summary["state"] in CLOSED,
        failed=failed[0] if failed else {},
        decided=decision(summary),
        checks=[{"text": _check(check), "passed": check["passed"]} for check in checks],
        registered=_registered(summary["registration"], standing or {}, mlflow_url),
        look_at=_to_look_at(summary["state"], stages),
        gate=gate,
        versions=tables.versions_table(summary.get("comparison", {})),
        metrics=tables.metric_tables(summary, previous or {}, served or {}),
        figures=_figures(stages, figures or {}, panels or {}),
        titles={stage["name"]: stage["title"] for stage in stages},
        changed={name: one for name, one in known.items() if one["changed"]},
        unchanged={name: one for name, one in known.items() if not one["changed"]},
        mlflow_run=_mlflow_run(summary["mlflow"], mlflow_url),
        airflow_run=_airflow_run(start, airflow_url),
        local=f"http://{addresses.HOST}:",
        lacking=lacking,
    )
    return document(title, body, *FILES, *viewer.FILES)


def _opening(run_dir: str, stage: Mapping) -> dict:
    """Return what opens a stage in JupyterLab: an address, and a command for a terminal."""
    command = f"make open RUN={run_dir} STAGE={stage['name']}"
    return {"address": addresses.open_stage_link(run_dir, stage["name"]), "command": command}


def _to_look_at(state: str, stages: list[Mapping]) -> Mapping:
    """Return the stage that a reader of a run that ended badly will want to open; {} elsewhere."""
    if state not in run_index.ENDED_BADLY:
        return {}
    return stage_to_open(state, [stage for stage in stages if stage["notebook"]])


def _registered(model: Mapping, standing: Mapping, mlflow_url: str) -> dict:
    """Return which version the run has made and what has become of it."""
    if not model:
        return {}
    name, version = model.get("name", "?"), model.get("version", "?")
    made = {"label": f"{name} version {version}", "address": "", "since": "", "changes": []}
    made["alias"] = "" if standing else model.get("alias", "")
    if mlflow_url and "?" not in (name, version):
        made["address"] = f"{mlflow_url}/#/models/{quote(str(name), safe='')}/versions/{version}"
    if standing:
        archived, champion = standing["archived"], standing["champion"]
        made["since"] = f", replaced {when(archived)} UTC" if archived else ""
        if champion == version:
            made["since"] += ", in production now"
        else:
            now = "nothing" if champion is None else f"version {champion}"
            made["since"] += f"; {now} is in production now"
        made["changes"] = [_by_others(entry) for entry in standing["changes"]]
    return made


def _by_others(entry: Mapping) -> str:
    """Return who has put the version into production, when and why."""
    verb = {"promote": "Promoted", "rollback": "Put back into production"}.get(
        entry["action"], "Put into production past this project"
    )
    against = " against the gate" if entry["override"] else ""
    by = f" by {entry['who']}" if entry["who"] else ""
    reason = f": {public(entry['reason'])}" if entry["reason"] else ""
    return f"{verb}{against}{by}, {when(entry['when'])} UTC{reason}"


def _check(check: Mapping) -> str:
    """Return a check in a sentence: what was found, and how far it is from what is required."""
    value, threshold, larger = check["value"], check["threshold"], check["greater_is_better"]
    limit = f"{threshold:g} that is {'required at least' if larger else 'allowed at most'}"
    if value is None:
        return f"{check['metric']} is missing, instead of the {limit}"
    side = "above" if value > threshold else "below"
    away = "just" if value == threshold else f"{plain(abs(value - threshold))} {side}"
    return f"{check['metric']} = {plain(value)}, {away} the {limit}"


def _figures(
    stages: list[Mapping], figures: Mapping[str, bytes], panels: Mapping[str, list[dict]]
) -> list[dict]:
    """Return the figures: those of the evaluation first, later stages before earlier ones.

    The first few are in sight, and all that have charts.
    """
    drawn = {
        name: stage["title"]
        for stage in sorted(stages[::-1], key=lambda one: not one["name"].endswith("_evaluate"))
        for name in stage["figures"]
        if name in figures
    }
    found = []
    for name, title in drawn.items():
        label = name.removesuffix(".png").replace("_", " ").replace("/", " / ")
        charts = panels.get(name, [])
        in_sight = bool(charts) or len(found) < SHOWN_FIGURES
        image = viewer.image(figures[name], label, charts)
        found.append({"image": image, "label": label, "stage": title, "in_sight": in_sight})
    return found


def _mlflow_run(known: Mapping, base: str) -> str:
    """Return the address of the MLflow run itself; "" where nothing shows it."""
    if not base or not known.get("run_id"):
        return ""
    return f"{base}/#/experiments/{known.get('experiment_id')}/runs/{known['run_id']}"


def _airflow_run(start: Mapping, base: str) -> str:
    """Return the address of the DAG run; "" where nothing shows it."""
    if not base.startswith(("http://", "https://")):
        return ""
    dag, run = (quote(start[key], safe="") for key in ("dag_id", "run_id"))
    return f"{base.rstrip('/')}/dags/{dag}/runs/{run}" if dag and run else ""
