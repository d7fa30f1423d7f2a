"""The page of a run: its verdict first, then what that rests on, then all the rest.

`render` makes the page of what it is given and reads nothing: one file that refers to nothing but
its neighbours in the run folder. `lib.pages.publish` gathers that and writes the page.
"""

from collections.abc import Mapping
from urllib.parse import quote

from lib.ground import addresses
from lib.ground.runs import CLOSED
from lib.pages import html, run_index, tables, viewer
from lib.pages.html import document, public, sentence, when
from lib.pages.summary import decision, said_then, stage_to_open

SHOWN_FIGURES = 4
FILES = ("badges.css", "run.css", "unlink.js", "copy.js")
OF_START = ("commit", "lock", "python", "dag_id", "run_id")
OF_DATA = ("digest", "n_rows", "start", "end")


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
        Charts by the name of the PNG file that they stand beside, from
        `lib.ground.chart_file.parse`.
    previous : mapping, optional
        Summary of the run to compare with.
    served : mapping, optional
        The version to compare with, as `lib.registry.standing.serving` returns it.
    standing : mapping, optional
        What has become of the run's own version, as `lib.registry.standing.standing_of` says.
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
        checks=sorted(summary["verdict"].get("checks", []), key=lambda check: check["passed"]),
        standing=standing or {},
        made=_made(summary["registration"], mlflow_url),
        look_at=_to_look_at(summary["state"], stages),
        gate=tables.paired_rows(summary["gate"]),
        notes=[said_then(sentence(note)) for note in summary["gate"].get("notes", ())],
        versions=tables.paired_rows(summary.get("comparison", {})),
        metrics=tables.metric_tables(summary, previous or {}, served or {}),
        figures=_figures(stages, figures or {}, panels or {}),
        titles={stage["name"]: stage["title"] for stage in stages},
        changed={name: one for name, one in known.items() if one["changed"]},
        unchanged={name: one for name, one in known.items() if not one["changed"]},
        mlflow_run=_mlflow_run(summary["mlflow"], mlflow_url),
        airflow_run=_airflow_run(start, airflow_url),
        lacking=lacking,
        local=f"http://{addresses.HOST}:",
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


def _made(model: Mapping, mlflow_url: str) -> dict:
    """Return the version that the run has registered, with its address; {} without one."""
    if not model:
        return {}
    made = {"name": "?", "version": "?", "alias": "", "address": "", **model}
    if mlflow_url and "?" not in (made["name"], made["version"]):
        name = quote(str(made["name"]), safe="")
        made["address"] = f"{mlflow_url}/#/models/{name}/versions/{made['version']}"
    return made


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
