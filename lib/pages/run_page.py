"""The page of a run: its verdict first, then what that rests on, then all the rest.

`render` makes the page of what it is given and reads nothing: one file that refers to nothing but
its neighbours in the run folder. `lib.pages.publish` gathers that and writes the page.
"""

from collections.abc import Mapping

from lib.ground import addresses
from lib.pages import html, run_index, tables, viewer
from lib.pages.html import document, public, sentence, when
from lib.pages.summary import decision, said_then, stage_to_open

SHOWN_FIGURES = 4
FILES = ("badges.css", "run.css", "unlink.js", "copy.js")


def render(
    summary: Mapping,
    *,
    figures: Mapping[str, tuple[bytes, list]] | None = None,
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
    figures : mapping of str to tuple, optional
        PNG files by name, each with the charts that stand beside it, from
        `lib.ground.chart_file.parse`; those that are not there are not shown.
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
    begun, state, stages = when(summary["started"]), summary["state"], summary["stages"]
    title = f"{summary['pipeline']} \N{MIDDLE DOT} {begun}" if begun else summary["run_dir"]
    title = " \N{MIDDLE DOT} ".join([title, *map(str, summary["start"].get("values", {}).values())])
    whole, _, index = summary["run_dir"].partition("/")[2].partition("/")
    can_open = [stage for stage in stages if stage["notebook"]]
    body = html.render(
        "run.html",
        run=summary,
        title=title,
        whole=f"{summary['pipeline']}/{whole}",
        index=index,
        up="../" * (summary["run_dir"].count("/") + 1),
        source=run_index.data_source(summary),
        started_by=run_index.started_by(summary["start"]),
        decided=decision(summary),
        standing=standing or {},
        look_at=stage_to_open(state, can_open) if state in run_index.ENDED_BADLY else {},
        gate=tables.paired_rows(summary["gate"]),
        notes=[said_then(sentence(note)) for note in summary["gate"].get("notes", ())],
        versions=tables.paired_rows(summary.get("comparison", {})),
        metrics=tables.metric_tables(summary, previous or {}, served or {}),
        figures=_figures(stages, figures or {}),
        open_stage_link=addresses.open_stage_link,
        mlflow_url=mlflow_url,
        airflow_url=airflow_url.rstrip("/") if airflow_url.startswith("http") else "",
        lacking=lacking,
        local=f"http://{addresses.HOST}:",
    )
    return document(title, body, *FILES, *viewer.FILES)


def _figures(stages: list[Mapping], figures: Mapping[str, tuple[bytes, list]]) -> list[dict]:
    """Return the figures: those of the evaluation first, later stages before earlier ones.

    The first few are in sight, and all that have charts.
    """
    found: list[dict] = []
    for stage in sorted(stages[::-1], key=lambda one: not one["name"].endswith("_evaluate")):
        for name in stage["figures"]:
            content, charts = figures.get(name, (b"", []))
            if content:
                label = name.removesuffix(".png").replace("_", " ").replace("/", " / ")
                made = {"image": viewer.image(content, label, charts), "label": label}
                in_sight = bool(charts) or len(found) < SHOWN_FIGURES
                found.append(made | {"stage": stage["title"], "in_sight": in_sight})
    return found
