"""One page for the child runs of mapped stages: a row each, with state, time, metrics and model."""

from collections.abc import Mapping

from lib.pages import html
from lib.pages.html import decimals, document, number
from lib.pages.run_index import ENDED_BADLY
from lib.pages.tables import metric_rows

MOST_METRICS = 6


def render(summary: Mapping) -> str:
    """Return the page of all child runs of a run, as `lib.pages.summary.summarise` knows them."""
    children = summary["children"]
    checks = [check["metric"] for one in children for check in one["verdict"].get("checks", ())]
    known = [row["metric"] for one in children for row in metric_rows(one["metrics"])]
    others = [name for one in children for name in one["metrics"]] if not known else []
    metrics = list(dict.fromkeys([*checks, *known, *others]))[:MOST_METRICS]
    places = {name: decimals(one["metrics"].get(name) for one in children) for name in metrics}
    body = html.render(
        "children.html",
        run=summary,
        names=list(dict.fromkeys(name for one in children for name in one["values"])),
        metrics=metrics,
        ended_badly=ENDED_BADLY,
        has_reasons=any(one["state"] in ENDED_BADLY for one in children),
        has_models=any(one["registration"] for one in children),
        shown=[
            {name: number(one["metrics"].get(name), places[name]) for name in metrics}
            for one in children
        ],
    )
    return document(
        f"{summary['run_dir']}: child runs", body, "badges.css", "run.css", "children.css"
    )
