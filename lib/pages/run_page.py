"""The page of a run: its verdict first, then what that rests on, then all the rest.

`publish` is called whenever something of a run has begun or ended, well or badly: it leaves
`summary.json`, the index of all runs and `report.html`, which is one file that refers to nothing
but its neighbours in the run folder. `render` makes the page of what it is given and reads
nothing; `build` gathers that: figures, the run before, the version that serves.
"""

import html
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from lib import addresses, chart_file
from lib.commands.which import find_run
from lib.pages import run_index, viewer
from lib.pages.html import decimals, document, duration, number, plain, static
from lib.pages.summary import (
    CLOSED,
    PAGE,
    STARTED,
    decision,
    list_runs,
    metric_rows,
    other_numbers,
    read_summary,
    said_then,
    stage_to_open,
    stated_directions,
    summarise,
    write_summary,
)
from lib.registry.gate import alpha, cells, headings, signed
from lib.run import Run, open_run, outputs_dir, write_bytes
from lib.tracking import open_client, tagged_metrics, tracking_uri

from markupsafe import Markup
from upath import UPath

SHOWN_FIGURES = 4
ALIASES = ("production", "staging")
COMPARED = (
    "Difference: this run less version {version}, which was in production when this was decided, "
    "on the same rows. Bold: what decides."
)
SURELY, NOT_SURELY, INSIDE = "surely", "not surely", "inside the interval"
PAIRED = "Surely, not surely: compared row by row"
OPENING = (
    '<p class="note">Open: a copy of the stage with its parameters and inputs, to work on. The '
    "links work while <code>make lab</code> or <code>make up</code> runs, the commands always.</p>"
)
WHILE_UP = '<span class="dim">while <code>make up</code> runs</span>'

CSS = (
    run_index.BADGES
    + """
body { max-width: 72rem; }
.path { font-size: .875rem; color: var(--dim); margin: 0; }
h1 { margin-top: .35rem; }
h1 .badge { font-size: 1rem; vertical-align: .25rem; margin-left: .35rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: 4px solid var(--line); background: var(--soft); padding: .6rem 1rem;
  border-radius: .25rem; margin: .75rem 0 1.25rem; }
.verdict p { margin: 0; } .verdict p + p, .verdict pre { margin-top: .4rem; }
.verdict pre { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22rem; }
.verdict.passed { border-color: var(--good); } .verdict.running { border-color: var(--wait); }
.verdict.failed, .verdict.refused, .verdict.lost { border-color: var(--bad);
  background: var(--bad-soft); }
.verdict.cancelled { border-color: var(--wait); background: var(--wait-soft); }
.verdict .first { font-weight: 600; font-size: 1.05rem; }
.do { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: baseline; margin-top: .8rem; }
.do .command { font-size: .875rem; } .do code { background: none; padding: 0; }
.do .main { border: 1px solid currentColor; border-radius: .4rem; padding: .15rem .75rem;
  font-weight: 600; text-decoration: none; background: var(--page); }
.do + .note { margin-top: .5rem; }
.do .main:hover { text-decoration: underline; }
dl { display: grid; gap: .1rem 1.5rem; margin: 0; }
dt { color: var(--dim); font-size: .8125rem; } dd { margin: 0; overflow-wrap: anywhere; }
.facts { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem 1.5rem; }
.details { grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; font-size: .875rem; }
.details dt { font-size: inherit; }
.wide { overflow-x: auto; background:
  linear-gradient(to left, var(--page) 30%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--line), transparent) right / 1rem 100% no-repeat scroll; }
table { min-width: 100%; } table.few { min-width: min(100%, 40rem); margin-top: 1.25rem; }
th { text-align: left; vertical-align: bottom; font-weight: 600; color: var(--dim); }
td { vertical-align: top; }
th.number, td.number { text-align: right; } td.number { white-space: nowrap; }
td.number small:has(span) { white-space: normal; } td.number small span { white-space: nowrap; }
tbody th { color: var(--ink); font-weight: 500; white-space: nowrap; vertical-align: top; }
tbody th small { white-space: normal; max-width: 14rem; }
.wide th:first-child { position: sticky; left: 0; background: var(--page); padding-left: 0; }
small { display: block; color: var(--dim); font-weight: 400; }
.better { color: var(--good); } .worse { color: var(--bad); } .dim { color: var(--dim); }
.best { font-weight: 700; }
tr.gate th { font-weight: 700; }
.note { color: var(--dim); font-size: .8125rem; margin: .4rem 0 0; }
.note + .facts { margin-top: 1.5rem; }
.numbers { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem 1.5rem;
  margin-top: 1.25rem; font-size: .875rem; font-variant-numeric: tabular-nums; }
td.act { white-space: nowrap; } td.act button { margin-left: .6rem; font-size: .75rem;
  color: var(--dim); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border-radius: .3rem; border: 1px solid var(--line); }
figcaption { color: var(--dim); font-size: .8125rem; margin-top: .25rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--link); font-size: .875rem; }
details[open] > summary { margin-bottom: .75rem; }
td.value { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .8125rem;
  overflow-wrap: anywhere; min-width: 7rem; }
tr.changed td.value { font-weight: 700; }
tr.part th { padding-top: .9rem; color: var(--dim); }
.command { display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap; }
.command code { user-select: all; overflow-wrap: anywhere; }
.command button { margin: 0; }
.problems { color: var(--wait); }
@media (max-width: 36rem) { .details { grid-template-columns: 1fr; gap: 0; }
  .details dd { margin-bottom: .5rem; } td, th { padding: .25rem .5rem; }
  .meaning { min-width: 11rem; } h1 { font-size: 1.35rem; } }
@media print { button { display: none; } body { max-width: none; font-size: .875rem; }
  h2 { break-after: avoid; } figure, tr, .verdict { break-inside: avoid; } }
"""
)

SCRIPT = (
    static("unlink.js")
    + """
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 2000);
  });
}
"""
)


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


def main(run_dir: str = "") -> int:
    """Write the page of one run anew, or of every run, and the index; print where; return 0.

    Parameters
    ----------
    run_dir : str, default ""
        As for `lib.commands.which.find_run`; empty for every run.

    Raises
    ------
    ValueError
        If there is no such run.
    """
    runs = [find_run(run_dir)] if run_dir else list_runs()
    summaries = [write_summary(run) for run in runs]
    index = run_index.write_index()
    for run, summary in zip(runs, summaries, strict=True):
        _write_page(run, summary)
        sys.stdout.write(f"{run.path / PAGE}\n")
    sys.stdout.write(f"{index}\n")
    return 0


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
        airflow_url=os.environ.get("AIRFLOW__API__BASE_URL") or addresses.address("airflow"),
        mlflow_url=addresses.address("mlflow"),
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


def serving(summary: Mapping) -> dict:
    """Return the version of this run's registered model that serves, made by another run.

    Parameters
    ----------
    summary : mapping
        Names the model; where it does not, the pipeline's last registration on like data does.

    Returns
    -------
    dict
        ``name``, ``version``, ``alias`` (``production``, else ``staging``), ``run_dir`` and
        ``metrics``; {} where there is no store, model, alias, or it is this run's own version.

    Raises
    ------
    mlflow.MlflowException
        If the registry cannot be asked.
    """
    name = summary["registration"].get("name") or _model_name(summary)
    if not name or not _has_registry():
        return {}
    from mlflow import MlflowException

    with _impatient():
        client = open_client()
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        alias = next((alias for alias in ALIASES if alias in aliases), "")
        if not alias:
            return {}
        tags = client.get_model_version(name, aliases[alias]).tags
    if tags.get("run_dir") == summary["run_dir"]:
        return {}
    found = {"name": name, "version": int(aliases[alias]), "alias": alias}
    found |= {"metrics": tagged_metrics(tags), "run_dir": tags.get("run_dir", "")}
    return found | {"digest": tags.get("data_digest", "")}


def standing_of(summary: Mapping) -> dict:
    """Return what has become of the version that this run has registered.

    Returns
    -------
    dict
        ``champion``, the version in production now, or None; ``archived``, since when the run's own
        version has been replaced, or ""; ``changes``, the entries of the ledger, oldest first, by
        which others than this run put it into production. {} where the run has registered nothing,
        or there is no store, model or version.

    Raises
    ------
    mlflow.MlflowException
        If the registry cannot be asked.
    """
    name, version = (summary["registration"].get(key) for key in ("name", "version"))
    if not name or not version or not _has_registry():
        return {}
    from lib.registry import ledger

    from mlflow import MlflowException

    with _impatient():
        client = open_client()
        try:
            model = client.get_registered_model(name)
            tags = client.get_model_version(name, str(version)).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        known = model.tags.get(ledger.TAG)
        entries = ledger.entries(client, known) if known else []
    champion = model.aliases.get(ALIASES[0])
    return {
        "champion": int(champion) if champion else None,
        "archived": tags.get("archived", ""),
        "changes": [
            asdict(entry)
            for entry in entries
            if (entry.alias, entry.after) == (ALIASES[0], version)
            and entry.run_dir != summary["run_dir"]
        ],
    }


def render(
    summary: Mapping,
    *,
    figures: Mapping[str, bytes] | None = None,
    panels: Mapping[str, list[dict]] | None = None,
    previous: Mapping | None = None,
    served: Mapping | None = None,
    standing: Mapping | None = None,
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
    airflow_url : str, default ""
        Where Airflow answers, for the link to the DAG run.
    mlflow_url : str, default ""
        Where MLflow answers while it runs, for runs whose store is no server itself.

    Returns
    -------
    str
        A complete HTML document; its links are relative to the run folder.
    """
    store = _public(summary["mlflow"].get("tracking_uri", ""))
    mlflow_url = (store if store.startswith(("http://", "https://")) else mlflow_url).rstrip("/")
    when = _when(summary["started"])
    title = f"{summary['pipeline']} · {when}" if when else summary["run_dir"]
    state = summary["state"]
    parts = [
        '<p class="path"><a href="../../index.html">All runs</a> / '
        f"{_e(summary['pipeline'])} / {_e(summary['name'])}</p>",
        f'<h1>{_e(title)} <span class="badge {state}">{state}</span></h1>',
        _verdict(summary, standing or {}, mlflow_url),
        _gate(summary),
        _facts(summary),
        _comparison(summary.get("comparison", {})),
        _metrics(summary, previous or {}, served or {}),
        _stages(summary),
        _figures(summary, figures or {}, panels or {}),
        _parameters(summary),
        _details(summary, airflow_url, mlflow_url),
    ]
    body = "\n".join(part for part in parts if part)
    return document(
        title,
        Markup(f"<main>\n{body}\n</main>"),
        *viewer.FILES,
        css=CSS,
        script=SCRIPT,
    )


def _write_page(run: Run, summary: Mapping, *, ask_registry: bool = True) -> UPath:
    page = run.path / PAGE
    write_bytes(page, build(run, summary, ask_registry=ask_registry).encode())
    return page


def _verdict(summary: Mapping, standing: Mapping, mlflow_url: str) -> str:
    """Return the state and why, what became of the model, and what can be done after a failure."""
    state = summary["state"]
    decided = [_e(sentence) for sentence in decision(summary)]
    failed = [stage for stage in summary["stages"] if stage["state"] == "failed"]
    lines = []
    if state == "failed" and failed:
        lines += _failure(failed[0])
    if state in CLOSED:
        lines += [_e(_sentence(summary["reason"])), _stopped(summary["stages"])]
    checks = sorted(summary["verdict"].get("checks", []), key=lambda check: check["passed"])
    words = decided or [_check(check) for check in checks]
    if state == "passed" and not words:
        lines.append(_e(summary["reason"]) or "Every stage worked; no check was made.")
    lines += words
    if state == "refused":
        lines += [] if words else _failure(failed[0])
        lines.append("The model was kept out of the registry.")
    lines += _registered(summary["registration"], standing, mlflow_url)
    if state in ("running", "unfinished"):
        lines.insert(0, _progress(summary["stages"]))
    first, *rest = [line for line in lines if line] or ["Nothing is known of this run."]
    text = "".join(line if line.startswith("<pre") else f"<p>{line}</p>" for line in rest)
    text += _to_do(summary) if state in run_index.ENDED_BADLY else ""
    return f'<section class="verdict {state}"><p class="first">{first}</p>{text}</section>'


def _to_do(summary: Mapping) -> str:
    """Return what a reader can do about a run that ended badly: go where it failed, and look."""
    executed = [stage for stage in summary["stages"] if stage["notebook"]]
    stage = stage_to_open(summary["state"], executed)
    if not stage:
        return ""
    address = _e(addresses.open_stage_link(summary["run_dir"], stage["name"]))
    command = _command(_open_command(summary, stage["name"]))
    return (
        f'<div class="do"><a class="main" href="{address}">Open {_e(stage["title"])}</a>{command}'
        "</div>"
        '<p class="note">A copy of the stage with its inputs, in JupyterLab. The link works while '
        "<code>make lab</code> or <code>make up</code> runs, the command always.</p>"
    )


def _open_command(summary: Mapping, stage: str) -> str:
    return f"make open RUN={summary['run_dir']} STAGE={stage}"


def _command(command: str) -> str:
    """Return a command to be run in a terminal, with a button that copies it."""
    return f'<span class="command"><code>{_e(command)}</code>{_copy(command, "Copy")}</span>'


def _copy(command: str, label: str) -> str:
    return (
        f'<button type="button" hidden title="{_e(command)}" data-copy="{_e(command)}">{label}'
        "</button>"
    )


def _stopped(stages: list) -> str:
    """Return how far a run came that was cancelled or lost."""
    for stage in stages:
        if stage["state"] == "failed":
            cells = f" after {stage['cells_done']} of {stage['cells']} cells"
            place = _link(stage["page"], stage["title"])
            return f"Cut off in {place}{cells if stage['cells'] else ''}."
    return f"{sum(stage['state'] == 'passed' for stage in stages)} of {len(stages)} stages done."


def _registered(model: Mapping, standing: Mapping, mlflow_url: str) -> list[str]:
    """Return which version the run has made and what has become of it."""
    if not model:
        return []
    name, version = model.get("name", "?"), model.get("version", "?")
    address = ""
    if mlflow_url and "?" not in (name, version):
        address = f"{mlflow_url}/#/models/{quote(str(name), safe='')}/versions/{version}"
    text = f"Registered as {_link(address, f'{name} version {version}')}"
    if not standing:
        alias = f", <code>@{_e(model['alias'])}</code>" if model.get("alias") else ""
        return [f"{text}{alias}."]
    champion = standing["champion"]
    if standing["archived"]:
        text += f", replaced {_when(standing['archived'])} UTC"
    if champion == version:
        text += ", in production now."
    elif champion is None:
        text += "; nothing is in production now."
    else:
        text += f"; version {champion} is in production now."
    return [text, *(_by_others(entry) for entry in standing["changes"])]


def _by_others(entry: Mapping) -> str:
    """Return who has put the version into production, when and why."""
    verb = {"promote": "Promoted", "rollback": "Put back into production"}.get(
        entry["action"], "Put into production past this project"
    )
    against = " against the gate" if entry["override"] else ""
    by = f" by {_e(entry['who'])}" if entry["who"] else ""
    reason = f": {_e(_public(entry['reason']))}" if entry["reason"] else ""
    return f"{verb}{against}{by}, {_when(entry['when'])} UTC{reason}"


def _gate(summary: Mapping) -> str:
    """Return the table of the gate: floors, and the model beside the version in production."""
    gate = summary["gate"]
    if not gate.get("rows"):
        return ""
    heads = headings(gate)
    is_compared = any(row["difference"] is not None for row in gate["rows"])
    columns = ["floor", "candidate"]
    if is_compared:
        columns += ["in production then", "difference"]
    champion = gate["champion"] or {}
    address = f"../../{champion['run_dir']}/{PAGE}" if champion.get("run_dir") else None
    notes = {"in production then": f"version {champion.get('version')}"}
    notes["difference"] = heads["interval"]
    titles = {key: _e(key.capitalize()) for key in columns}
    titles["in production then"] = _link(address, "In production then")
    top = "".join(_head(titles[key], notes.get(key, "")) for key in columns)
    lines = "".join(_gate_line(row, columns) for row in gate["rows"])
    said = [COMPARED.format(version=champion.get("version"))] if is_compared else []
    said += [f"Margin: {gate['margin']:g}."] if gate["margin"] else []
    said += [said_then(f"{note[:1].upper()}{note[1:]}.") for note in gate["notes"]]
    return (
        '<h2>Gate</h2><div class="wide"><table><thead><tr><th scope="col">Metric</th>'
        f'<th scope="col">Result</th>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
        f'<p class="note">{_e(" ".join(said))}</p>'
    )


def _gate_line(row: Mapping, columns: list[str]) -> str:
    text = {key: _e(value) for key, value in cells(row).items()}
    text["in production then"] = text["in production"]
    if row["low"] is None and row["candidate"] is not None:  # no interval says how many digits
        text["candidate"] = plain(row["candidate"])
    small = f"<small>{text['interval']}</small>" if text["interval"] else ""
    if text["p"]:
        small += f"<small>McNemar's p = {text['p']}</small>"
    text["difference"] += small
    values = "".join(f'<td class="number">{text[key]}</td>' for key in columns)
    kind = {"passed": "better", "failed": "worse"}.get(text["result"], "dim")
    bold = ' class="gate"' if row["decisive"] else ""
    return (
        f'<tr{bold}><th scope="row">{text["metric"]}</th>'
        f'<td class="{kind}">{text["result"]}</td>{values}</tr>'
    )


def _failure(stage: Mapping) -> list[str]:
    error = stage["error"]
    where = _link(stage["page"], stage["title"])
    if error.get("cell"):
        where += f", cell {error['cell']}"
    text = error.get("text", "").strip()
    short, _, rest = text.partition("\n")
    name = f"{error['ename']}: " if error.get("ename") else ""
    lines = [f"Failed in {where}: {_e(name)}{_e(short)}"]
    if rest.strip():
        lines.append(f"<pre>{_e(rest)}</pre>")
    return lines


def _check(check: Mapping) -> str:
    """Return a check in a sentence: what was found, and how far it is from what is required."""
    value, threshold, larger = check["value"], check["threshold"], check["greater_is_better"]
    limit = f"{threshold:g} that is {'required at least' if larger else 'allowed at most'}"
    word = "passed" if check["passed"] else "not passed"
    mark = f'<span class="{"better" if check["passed"] else "worse"}">{word}</span>'
    if value is None:
        return f"{_e(check['metric'])} is missing, instead of the {limit}: {mark}."
    side = "above" if value > threshold else "below"
    away = "just" if value == threshold else f"{plain(abs(value - threshold))} {side}"
    return f"{_e(check['metric'])} = {plain(value)}, {away} the {limit}: {mark}."


def _progress(stages: list) -> str:
    done = sum(stage["state"] == "passed" for stage in stages)
    text = f"{done} of {len(stages)} stages done"
    for stage in stages:
        if stage["state"] == "running":
            cells = f", {stage['cells_done']} of {stage['cells']} cells" if stage["cells"] else ""
            text += f"; {_link(stage['page'], stage['title'])} is running{cells}"
    return f"{text}."


def _facts(summary: Mapping) -> str:
    data, start = summary["dataset"], summary["start"]
    facts = {}
    source = run_index.data_source(summary)
    if source:
        rows = f", {data['n_rows']:,} rows" if isinstance(data.get("n_rows"), int) else ""
        digest = f"<small>digest {_e(data['digest'][:12])}</small>" if data.get("digest") else ""
        facts["Data"] = f"{_e(source)}{rows}{digest}"
    if start.get("commit"):
        commit, _, changes = start["commit"].partition("+")
        note = "<small>with changes not committed</small>" if changes else ""
        facts["Code"] = f"commit <code>{_e(commit[:10])}</code>{note}"
    facts["Started by"] = _e(run_index.started_by(start))
    if summary["started"]:
        facts["Started"] = f"{_when(summary['started'], seconds=True)} UTC"
    if summary["seconds"] is not None:
        facts["Took"] = duration(summary["seconds"])
    peaks = [s["peak_memory_bytes"] for s in summary["stages"] if s["peak_memory_bytes"]]
    if peaks:
        facts["Peak memory"] = _memory(max(peaks))
    return _list("facts", facts)


def _metrics(summary: Mapping, previous: Mapping, served: Mapping) -> str:
    """Return the metrics: those with baselines beside them, then the others, then plain numbers."""
    rows = metric_rows(summary["metrics"], stated_directions(summary["verdict"]))
    rest = other_numbers(summary["metrics"], rows)
    gates = {c["metric"].removesuffix("_low") for c in summary["verdict"].get("checks", [])}
    rows.sort(key=lambda row: row["metric"] not in gates)
    columns = _columns(summary, previous, served)
    beside = [row for row in rows if row["baselines"]]
    alone = [row for row in rows if not row["baselines"]]
    count = Counter(name for row in beside for name in row["baselines"])
    shared = [name for name, n in count.items() if n > 1 or len(beside) == 1]
    parts = [
        _metric_table(some, columns, names, gates)
        for some, names in ((beside, shared), (alone, []))
        if some
    ]
    text = "".join(parts)
    if rows:
        notes = ["Arrows: which way is better. Bold names: what the gate checks."]
        notes += ["Bold numbers: best of model and baselines."] if beside else []
        notes += [f"{INSIDE[:1].upper()}{INSIDE[1:]}: may be chance."] if INSIDE in text else []
        champion = (summary["gate"].get("champion") or {}).get("version")
        if SURELY in text or NOT_SURELY in text:
            notes.append(f"{PAIRED} with version {champion}, as the gate has found it.")
        text += f'<p class="note">{" ".join(notes)}</p>'
    if rest:
        shown = {name: _other(name, value, summary["metrics"]) for name, value in rest.items()}
        text += _list("facts numbers", shown)
    return f"<h2>Metrics</h2>{text}" if text else ""


def _columns(summary: Mapping, previous: Mapping, served: Mapping) -> list[dict]:
    """Return what to compare this run with: heading, metrics, and what the gate says of a pair."""
    gate = summary["gate"]
    paired = {row["metric"]: row for row in gate.get("rows", ()) if row["difference"] is not None}
    level, champion = gate.get("level", 0.95), gate.get("champion") or {}
    found = []
    is_same = bool(previous and served and previous["run_dir"] == served["run_dir"])
    alias = f"@{served['alias']}, version {served['version']}" if served else ""
    if previous:
        address = f"../../{previous['run_dir']}/{PAGE}"
        same = _same_data(summary, previous["dataset"].get("digest"))
        note = f"{alias}; {same}" if is_same else f"{_when(previous['started'])}, {same}"
        head = _head(_link(address, "Previous run"), note)
        is_champion = champion.get("run_dir") == previous["run_dir"]
        found.append({"head": head, "metrics": previous["metrics"], "is_champion": is_champion})
    if served and not is_same:
        address = f"../../{served['run_dir']}/{PAGE}" if served["run_dir"] else None
        same = _same_data(summary, served.get("digest"))
        is_champion = champion.get("version") == served["version"]
        head = _head(_link(address, alias), same)
        found.append({"head": head, "metrics": served["metrics"], "is_champion": is_champion})
    return [column | {"paired": paired, "level": level} for column in found]


def _metric_table(rows: list, columns: list[dict], baselines: list[str], gates: set[str]) -> str:
    has_interval = any(row["low"] is not None for row in rows)
    heads = [_head("This run", "95 % interval" if has_interval else "")]
    heads += [column["head"] for column in columns]
    heads += [_head(_e(name.replace("_", " ")), "baseline") for name in baselines]
    lines = "".join(
        _metric_line(row, columns, baselines, gate=row["metric"] in gates) for row in rows
    )
    kind = "" if baselines else ' class="few"'
    return (
        f'<div class="wide"><table{kind}><thead><tr><th scope="col">Metric</th>{"".join(heads)}'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _other(name: str, value: float, metrics: Mapping) -> str:
    """Return a number of which nothing says whether larger is better, with its interval if any."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if low is None or high is None:
        return plain(value)
    places = decimals([value, low, high], value)
    ends = " to ".join(number(end, places) for end in (low, high))
    return f"{number(value, places)}<small>{ends}</small>"


def _comparison(comparison: Mapping) -> str:
    """Return the paired metrics of two versions, where the run has compared such."""
    rows = comparison.get("rows", ())
    if not rows:
        return ""
    heads = "".join(_version_head(label, comparison[label.lower()]) for label in "AB")
    level = f"{100 * comparison['level']:g} % interval"
    lines = "".join(_paired_line(row) for row in rows)
    notes = "".join(f'<p class="note">{_e(note)}</p>' for note in comparison["notes"])
    return (
        f"<h2>{_e(comparison['model'])}: two versions</h2>"
        '<div class="wide"><table><thead><tr>'
        f'<th scope="col">Metric</th>{heads}{_head("B less A", level)}</tr></thead>'
        f'<tbody>{lines}</tbody></table></div><p class="note">Arrows: which way is better. Bold '
        f"numbers: the better of both. Bold name: what decides.</p>{notes}"
    )


def _version_head(label: str, version: Mapping) -> str:
    number = version["version"]
    which = version["name"] if number is None else f"version {number}"
    address = f"../../{version['run_dir']}/{PAGE}" if number is not None else None
    return _head(_link(address, f"{label}, {which}"), version["run_dir"])


def _paired_line(row: Mapping) -> str:
    larger, a, b = row["greater_is_better"], row["champion"], row["candidate"]
    arrow, kind = ("↑" if larger else "↓"), ' class="gate"' if row["decisive"] else ""
    p = "" if row["p_value"] is None else f"<br>McNemar p = {row['p_value']:.2g}"
    places = decimals([a, b])
    shown = [number(value, places) for value in (a, b)]
    best = (max if larger else min)(a, b)
    values = "".join(
        f'<td class="number{" best" * (mine == best and shown[0] != shown[1])}">{text}</td>'
        for mine, text in zip((a, b), shown, strict=True)
    )
    unit = f"<small>{_e(row['unit'])}</small>" if row["unit"] else ""
    interval = f"{signed(row['low'], places)} to {signed(row['high'], places)}{p}"
    return (
        f'<tr{kind}><th scope="row">{_e(row["metric"])} {arrow}{unit}</th>{values}'
        f'<td class="number">{signed(row["difference"], places)}<small>{interval}</small></td></tr>'
    )


def _head(name: str, note: str) -> str:
    return f'<th class="number" scope="col">{name}<small>{_e(note)}</small></th>'


def _same_data(summary: Mapping, digest: str | None) -> str:
    mine = summary["dataset"].get("digest")
    if not mine or not digest:
        return "data unknown"
    return "same data" if mine.startswith(digest) else "other data"


def _metric_line(row: Mapping, columns: list[dict], baselines: list[str], *, gate: bool) -> str:
    larger, value, name = row["greater_is_better"], row["value"], row["metric"]
    others = [_other_value(column, name) for column in columns]
    known = [value, *row["baselines"].values()]
    places = decimals([*known, row["low"], row["high"], *others], value)
    shown = [float(f"{one:.{places}f}") if places is not None else one for one in known]
    best = max(shown) if larger else min(shown)
    is_best = [one == best and min(shown) < max(shown) for one in shown]
    bold = dict(zip(row["baselines"], is_best[1:], strict=True))
    interval = ""
    if row["low"] is not None and row["high"] is not None:
        ends = " to ".join(number(row[end], places) for end in ("low", "high"))
        interval = f"<small>{ends}</small>"
    cells = [_value_cell(number(value, places) + interval, is_best=is_best[0])]
    for column, found in zip(columns, others, strict=True):
        change = "" if found is None else _change(row, found, places, column)
        cells.append(_value_cell(number(found, places) + change))
    for one in baselines:
        text = number(row["baselines"].get(one), places)
        cells.append(_value_cell(text, is_best=bold.get(one, False)))
    aside = [
        f"{_e(one.replace('_', ' '))} "
        f"<span{' class=best' * bold[one]}>{number(found, places)}</span>"
        for one, found in row["baselines"].items()
        if one not in baselines
    ]
    note = f"<small>{', '.join(aside)}</small>" if aside else ""
    kind = ' class="gate"' if gate else ""
    head = f'<th scope="row">{_e(name)} {"↑" if larger else "↓"}{note}</th>'
    return f"<tr{kind}>{head}{''.join(cells)}</tr>"


def _value_cell(text: str, *, is_best: bool = False) -> str:
    return f'<td class="number{" best" * is_best}">{text}</td>'


def _other_value(column: Mapping, metric: str) -> float | None:
    """Return the metric of another run: where the gate has compared the two, on the same rows."""
    pair = column["paired"].get(metric) if column["is_champion"] else None
    return pair["champion"] if pair else column["metrics"].get(metric)


def _change(row: Mapping, before: float, places: int | None, column: Mapping) -> str:
    """Return how this run's value differs from another's, whether that is better, and how surely.

    Where the gate has compared both on the same rows, its answer is the one that counts.
    """
    pair = column["paired"].get(row["metric"])
    is_pair = column["is_champion"] and pair is not None
    change = pair["difference"] if is_pair else row["value"] - before
    by = number(abs(change), places)
    if by == "0":
        return "<small>no change</small>"
    word = "better" if (change > 0) == row["greater_is_better"] else "worse"
    note, kind = "", word
    if is_pair and pair["low"] is not None:
        is_sure = pair["low"] > 0 or pair["high"] < 0
        is_sure &= pair["p_value"] is None or pair["p_value"] < alpha(column["level"])
        note, kind = (SURELY, word) if is_sure else (NOT_SURELY, "dim")
    elif row["low"] is not None and row["low"] <= before <= (row["high"] or before):
        kind = "dim"
        note = "" if pair else INSIDE  # the gate has a better answer for this metric
    sign = "+" if change > 0 else "\N{MINUS SIGN}"
    parts = [f"{sign}{by} {word}", *([note] if note else [])]
    text = ", ".join(parts).replace(", ", ",</span> <span>")
    return f'<small class="{kind}"><span>{text}</span></small>'


def _stages(summary: Mapping) -> str:
    stages = summary["stages"]
    columns = {"Stage": "", "State": "", "Took": "number", "Peak memory": "number"}
    columns["Cells"] = "number"
    columns |= {"Earlier attempts": ""} if any(stage["attempts"] for stage in stages) else {}
    columns |= {"Notebook": "", "In JupyterLab": ""}
    heads = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in columns.items())
    lines = "".join(_stage(summary, stage, columns) for stage in stages)
    is_open = any(stage["notebook"] for stage in stages)
    return (
        f'<h2>Stages</h2><div class="wide"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>{OPENING if is_open else ''}"
    )


def _stage(summary: Mapping, stage: Mapping, columns: Mapping[str, str]) -> str:
    state = stage["state"]
    opening = ""
    if stage["notebook"]:
        address = addresses.open_stage_link(summary["run_dir"], stage["name"])
        command = _open_command(summary, stage["name"])
        opening = _link(address, "open") + _copy(command, "copy command")
    shown = {
        "State": f'<span class="badge {state.replace(" ", "-")}">{state}</span>',
        "Took": "" if stage["seconds"] is None else duration(stage["seconds"]),
        "Peak memory": _memory(stage["peak_memory_bytes"]) if stage["peak_memory_bytes"] else "",
        "Cells": f"{stage['cells_done']} of {stage['cells']}" if stage["cells"] else "",
        "Earlier attempts": ", ".join(
            _link(page, str(n)) for n, page in enumerate(stage["attempts"], start=1)
        ),
        "Notebook": _link(stage["notebook"], "notebook") if stage["notebook"] else "",
        "In JupyterLab": opening,
    }
    kinds = columns | {"In JupyterLab": "act"}
    cells = "".join(f'<td class="{kinds[n]}">{shown[n]}</td>' for n in columns if n != "Stage")
    return f'<tr><th scope="row">{_link(stage["page"], stage["title"])}</th>{cells}</tr>'


def _figures(
    summary: Mapping, figures: Mapping[str, bytes], panels: Mapping[str, list[dict]]
) -> str:
    """Return the figures: those of the evaluation first, later stages before earlier ones.

    The first few are in sight, and all that have charts.
    """
    stages = sorted(
        reversed(summary["stages"]), key=lambda stage: not stage["name"].endswith("_evaluate")
    )
    drawn = {
        name: _figure(name, stage["title"], figures[name], panels.get(name, []))
        for stage in stages
        for name in stage["figures"]
        if name in figures
    }
    if not drawn:
        return ""
    in_sight = {*list(drawn)[:SHOWN_FIGURES], *(name for name in drawn if panels.get(name))}
    shown = [figure for name, figure in drawn.items() if name in in_sight]
    folded = [figure for name, figure in drawn.items() if name not in in_sight]
    text = f'<h2>Figures</h2><div class="figures">{"".join(shown)}</div>'
    if folded:
        text += (
            f"<details><summary>{len(folded)} more of earlier stages</summary>"
            f'<div class="figures">{"".join(folded)}</div></details>'
        )
    return text


def _figure(name: str, stage: str, content: bytes, panels: list[dict]) -> str:
    label = name.removesuffix(".png").replace("_", " ").replace("/", " / ")
    return (
        f"<figure>{viewer.image(content, label, panels)}"
        f"<figcaption>{_e(label.capitalize())}, from {_e(stage)}</figcaption></figure>"
    )


def _parameters(summary: Mapping) -> str:
    """Return the parameters: those that differ from the defaults, then the others, folded."""
    known = summary["parameters"]
    if not known:
        return ""
    titles = {stage["name"]: stage["title"] for stage in summary["stages"]}
    changed = {name: p for name, p in known.items() if p["changed"]}
    same = {name: p for name, p in known.items() if not p["changed"]}
    text = "<h2>Parameters</h2>"
    if changed:
        text += _parameter_table(changed, titles, default=True)
    if same:
        text += (
            f"<details><summary>At the notebooks' own values: {len(same)}</summary>"
            f"{_parameter_table(same, titles, default=False)}</details>"
        )
    return text


def _parameter_table(
    parameters: Mapping[str, Mapping], titles: Mapping[str, str], *, default: bool
) -> str:
    heads = ["Parameter", "Value", *(["Default"] if default else []), "Meaning"]
    lines, part = [], ""
    for name, known in parameters.items():
        if known["stage"] != part:
            part = known["stage"]
            title = _e(titles.get(part, part))
            lines.append(f'<tr class="part"><th colspan="{len(heads)}">{title}</th></tr>')
        own = f'<td class="value dim">{_value(known["default"])}</td>' if default else ""
        domain = f" <small>{_e(known['domain'])}</small>" if known["domain"] else ""
        lines.append(
            f'<tr{" class=changed" if default else ""}><th scope="row">{_e(name)}</th>'
            f'<td class="value">{_value(known["value"])}</td>{own}'
            f'<td class="meaning">{_e(known["meaning"])}{domain}</td></tr>'
        )
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _details(summary: Mapping, airflow_url: str, mlflow_url: str) -> str:
    data, start, run_dir = summary["dataset"], summary["start"], summary["run_dir"]
    facts = {
        "Run folder": f"<code>{_e(run_dir)}</code>",
        "Data digest": data.get("digest") and f"<code>{_e(data['digest'])}</code>",
        "Data from, to": data.get("start") and f"{_e(data['start'])} to {_e(data.get('end'))}",
        "Commit": start.get("commit") and f"<code>{_e(start['commit'])}</code>",
        "Lock file": start.get("lock") and f"<code>{_e(start['lock'])}</code>",
        "Python": _e(start.get("python")),
        "MLflow run": _mlflow(summary["mlflow"], mlflow_url),
        "Airflow run": _airflow(start, airflow_url),
        "Make it again, and compare": _command(f"make reproduce RUN={run_dir}"),
    }
    text = f"<h2>Details</h2>{_list('details', {k: v for k, v in facts.items() if v})}"
    if summary["problems"]:
        lines = "".join(f"<li>{_e(_public(problem))}</li>" for problem in summary["problems"])
        text += f'<h2>What could not be read</h2><ul class="problems">{lines}</ul>'
    return text


def _mlflow(known: Mapping, base: str) -> str:
    """Return the link of the MLflow run itself."""
    if not known.get("run_id"):
        return ""
    run_id, where = known["run_id"], f"{known.get('experiment_id')}/runs/{known['run_id']}"
    if not base:
        return f"<code>{_e(run_id)}</code>"
    return _link(f"{base}/#/experiments/{where}", run_id) + _only_while_up(base)


def _airflow(start: Mapping, base: str) -> str:
    dag, run_id = start.get("dag_id"), start.get("run_id")
    if not dag or not run_id:
        return ""
    if not base.startswith(("http://", "https://")):
        return f"{_e(dag)}, {_e(run_id)}"
    address = f"{base.rstrip('/')}/dags/{quote(dag, safe='')}/runs/{quote(run_id, safe='')}"
    return _link(address, run_id) + _only_while_up(base)


def _only_while_up(base: str) -> str:
    """Return a note where an address is that of what `make up` starts on this machine."""
    return f" {WHILE_UP}" if base.startswith(f"http://{addresses.HOST}:") else ""


def _list(kind: str, facts: Mapping[str, str]) -> str:
    """Return name and value (HTML) of facts as a list of definitions."""
    pairs = [f"<dt>{_e(name)}</dt><dd>{value}</dd>" for name, value in facts.items()]
    if kind.startswith("facts"):  # a box for each, not one column of names and one of values
        pairs = [f"<div>{pair}</div>" for pair in pairs]
    return f'<dl class="{kind}">{"".join(pairs)}</dl>'


def _link(address: str | None, text: str) -> str:
    return f'<a href="{_e(address)}">{_e(text)}</a>' if address else _e(text)


def _e(value: object) -> str:
    return "" if value is None else html.escape(str(value))


def _public(text: str) -> str:
    """Return `text` without the names and passwords that addresses in it may hold."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _value(value: object) -> str:
    return _e(value) if value != "" else '<span class="dim">empty</span>'


def _sentence(text: str) -> str:
    whole = f"{text[:1].upper()}{text[1:]}"
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def _memory(n_bytes: float) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


def _when(text: str | None, *, seconds: bool = False) -> str:
    if not text:
        return ""
    when = datetime.fromisoformat(text).astimezone(UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}" if seconds else f"{when:%Y-%m-%d %H:%M}"


def _has_registry() -> bool:
    """Say whether there is a store to ask: one of files is not made by looking."""
    uri = tracking_uri()
    return not uri.startswith("sqlite:///") or Path(uri[len("sqlite:///") :]).exists()


def _model_name(summary: Mapping) -> str:
    """Return the registered model that this pipeline's last registration on like data names."""
    mine = run_index.row(summary)
    for row in reversed(run_index.read_rows()):
        like = (row["source"] == "sample") == (mine["source"] == "sample")
        if row["model"] and row["pipeline"] == mine["pipeline"] and like:
            return row["model"]
    return ""


@contextmanager
def _impatient() -> Iterator[None]:
    """Let MLflow try once, not for minutes: a page must not wait for a server that is down."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as RETRIES
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT as TIMEOUT

    before = [(one, one.get_raw()) for one in (RETRIES, TIMEOUT)]
    RETRIES.set(0)
    TIMEOUT.set(5)
    try:
        yield
    finally:
        for one, value in before:
            one.unset() if value is None else one.set(value)
