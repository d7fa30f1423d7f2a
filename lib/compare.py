"""Two runs side by side: what differs between them, as one page and in a few lines of text.

Everything comes from the runs' summaries, executed notebooks and figures; neither run is touched.
The first run is A, the second B; a difference is B less A, and "better" is said of B, by the
direction that `lib.metrics` states for a metric. Nothing here is a statistical test, and the page
says so where somebody could take it for one.
"""

import base64
import difflib
import hashlib
import html
import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from lib import outcome
from lib.data.sources import redact
from lib.page import document, duration
from lib.run import NAME, Run, open_run, outputs_dir, write_bytes
from lib.summary import PAGE, list_runs, metric_rows, summarise

FOLDER = ".compare"
CONTEXT_LINES = 3
SAME_TEST = ("n_test", "horizon")  # metrics that say what was asked of the model, not how it did
BADGES = {"passed": "completed", "refused": "failed", "failed": "failed"}
Number = float | int | None

CSS = """
body { max-width: 80rem; }
h2 { border-top: 1px solid var(--line); padding-top: .9rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }
.pair > * { min-width: 0; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem .7rem; }
.card p { margin: .3rem 0 0; font-size: .875rem; }
.card .name { font-weight: 650; overflow-wrap: anywhere; }
.letter { display: inline-block; width: 1.5em; text-align: center; font-weight: 700;
  border-radius: .3rem; background: var(--ink); color: var(--page); margin-right: .4rem; }
.dim, .note, figcaption { color: var(--dim); font-size: .875rem; }
.note { margin: .4rem 0; }
.warning { border-left: 4px solid var(--wait); background: var(--wait-soft); padding: .4rem .9rem;
  border-radius: .25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.1rem; margin: 1.1rem 0; }
dt { color: var(--dim); } dd { margin: 0; min-width: 0; }
.wide { overflow-x: auto; margin: .5rem 0; }
td, th { text-align: right; white-space: nowrap; vertical-align: top; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody th { text-align: left; font-weight: 500; }
thead th { font-weight: 600; }
td small, th small { color: var(--dim); font-size: .75rem; font-weight: 400; }
td > small, th > small { display: block; }
.better { color: var(--good); font-weight: 650; } .worse { color: var(--bad); font-weight: 650; }
tr.differs > * { background: var(--wait-soft); }
summary { cursor: pointer; color: var(--link); font-size: .875rem; padding: .3rem 0; }
.cell { border: 1px solid var(--line); border-radius: .5rem; margin: .6rem 0; overflow: hidden; }
.cell p { margin: 0; padding: .25rem .75rem; background: var(--soft); color: var(--dim);
  font-size: .8125rem; }
.cell pre { padding: .3rem 0; }
.cell pre span { display: block; padding: 0 .75rem; min-width: max-content; }
.cell .ins { background: var(--good-soft); } .cell .del { background: var(--bad-soft); }
.cell .gap { color: var(--dim); }
figure { margin: 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: .25rem; display: block; }
figcaption { padding: .1rem 0 .9rem; }
@media (max-width: 44rem) { .pair { grid-template-columns: 1fr; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  td, th { padding: .2rem .45rem; } }
"""


def compare(a: str, b: str) -> int:
    """Write the page that compares two runs, print where it is and what differs; return 0.

    Parameters
    ----------
    a, b : str
        The runs, ``<pipeline>/<run>``.

    Raises
    ------
    ValueError
        If there is no such run (names close ones), or both are the same.
    """
    if a == b:
        raise ValueError(f"both runs are {a}: name two different ones")
    runs = find_run(a), find_run(b)
    page = outputs_dir() / FOLDER / page_name(a, b)
    write_bytes(page, render(*runs).encode())
    one, other = (summarise(run) for run in runs)
    lines = [("A", f"{a}  {_outcome(one)}"), ("B", f"{b}  {_outcome(other)}")]
    lines += [*differences(one, other, code_changes(*runs)), ("page", str(page))]
    sys.stdout.write("".join(f"{topic:<12} {words}\n" for topic, words in lines))
    return 0


def find_run(run_dir: str) -> Run:
    """Open a run that exists, to look at it.

    Raises
    ------
    ValueError
        If `run_dir` is not of the form ``<pipeline>/<run>``, or there is no such folder; names
        the runs whose names are closest.
    """
    run = open_run(run_dir)
    if run.path.exists():
        return run
    known = sorted(found.run_dir for found in list_runs())
    close = difflib.get_close_matches(run_dir, known, n=3, cutoff=0.5) or known[-3:]
    hint = f"; there are {', '.join(close)}" if close else ""
    raise ValueError(f"there is no run {run_dir!r} in {outputs_dir()}{hint}")


def page_name(a: str, b: str) -> str:
    """Return the file name of the page that compares the runs `a` and `b`."""
    name = f"{a.replace('/', '.')}--{b.replace('/', '.')}"
    if len(name) > 200:  # file systems take 255 bytes
        name = f"{name[:180]}-{hashlib.sha256(f'{a} {b}'.encode()).hexdigest()[:12]}"
    return f"{name}.html"


def metric_pairs(a: Mapping[str, float], b: Mapping[str, float]) -> list[dict]:
    """Return the metrics of two runs as rows, those first whose direction is known.

    Parameters
    ----------
    a, b : mapping of str to float
        Content of the two runs' `metrics.json`.

    Returns
    -------
    list of dict
        ``metric``, ``kind`` (``metric``, ``baseline`` or ``other``), ``a`` and ``b`` (None where
        a run lacks it), ``a_interval`` and ``b_interval`` ((low, high) or None),
        ``greater_is_better`` (None where unknown), ``difference`` (b - a), ``change``
        (``better``, ``worse``, ``equal``, ``differs``, ``only in A``, ``only in B``) and
        ``overlap`` (of the intervals; None unless both runs have one).
    """
    rows: dict[str, dict] = {}
    ends: set[str] = set()
    for row in metric_rows({**b, **a}):
        name, larger = row["metric"], row["greater_is_better"]
        rows[name] = _pair(name, "metric", a, b, larger)
        ends |= {f"{name}_low", f"{name}_high"} if rows[name]["overlap"] is not None else set()
        for baseline in row["baselines"]:
            full = f"{baseline}_{name}"
            rows.setdefault(full, _pair(full, "baseline", a, b, larger))
    for name in sorted({**a, **b}.keys() - rows.keys() - ends):
        rows[name] = _pair(name, "other", a, b, None)
    return sorted(rows.values(), key=lambda row: row["kind"] == "other")


def parameter_pairs(a: Mapping[str, dict], b: Mapping[str, dict]) -> list[dict]:
    """Return the parameters whose values differ, or that only one of the runs has.

    Parameters
    ----------
    a, b : mapping of str to dict
        ``parameters`` of the two summaries.

    Returns
    -------
    list of dict
        ``name``, ``stage``, ``meaning``, ``a`` and ``b``: the values as text, "" where a run has
        no such parameter.
    """
    found = []
    for name in {**a, **b}:
        known = b.get(name) or a[name]
        values = [_value(run[name]["value"]) if name in run else "" for run in (a, b)]
        if values[0] != values[1]:
            shown = {"a": values[0], "b": values[1]}
            found.append({"name": name, "stage": known["stage"], "meaning": known["meaning"]})
            found[-1] |= shown
    return found


def code_changes(a: Run, b: Run) -> dict[str, list[dict] | str]:
    """Return what has changed in the code cells of every stage, by stage.

    Parameters
    ----------
    a, b : Run

    Returns
    -------
    dict of str to list or str
        What `cell_changes` returns, [] where the code is the same; a sentence where a stage
        cannot be compared. {} if the runs are of different pipelines.
    """
    if a.pipeline != b.pipeline:
        return {}
    found: dict[str, list[dict] | str] = {}
    one, other = _notebooks(a), _notebooks(b)
    for stage in sorted({**one, **other}):
        pair = one.get(stage), other.get(stage)
        if None not in pair:
            found[stage] = cell_changes(*pair)
        else:
            lacking = [name for name, half in zip("AB", pair, strict=True) if half is None]
            found[stage] = f"no readable notebook in {' and '.join(lacking)}"
    return found


def cell_changes(a: Mapping, b: Mapping) -> list[dict]:
    """Return the code cells that differ between two notebooks, outputs and metadata aside.

    Cells that report a failure or carry the injected parameters are no code of the notebook.

    Parameters
    ----------
    a, b : mapping
        Notebooks of nbformat 4 as JSON.

    Returns
    -------
    list of dict
        In order: ``change`` (``changed``, ``added`` or ``removed``), ``cell`` (number in B, in A
        if removed; from 1, markdown counted) and ``lines`` as `line_diff` returns them.
    """
    from nbdime import diff_notebooks

    one, other = _code_cells(a), _code_cells(b)
    ops = diff_notebooks(_bare(one), _bare(other))
    cells = next((op["diff"] for op in ops if op["key"] == "cells"), [])
    found = []
    shift = 0  # of the position in B against that in A
    for op in cells:
        at = op["key"]
        if op["op"] == "addrange":
            for number, source in other[at + shift : at + shift + len(op["valuelist"])]:
                found.append(_change("added", number, "", source))
            shift += len(op["valuelist"])
        elif op["op"] == "removerange":
            for number, source in one[at : at + op["length"]]:
                found.append(_change("removed", number, source, ""))
            shift -= op["length"]
        elif one[at][1] != other[at + shift][1]:
            number, source = other[at + shift]
            found.append(_change("changed", number, one[at][1], source))
    return found


def line_diff(a: str, b: str) -> list[tuple[str, str]]:
    """Return the lines of a change with some context, each with its sign.

    Returns
    -------
    list of (str, str)
        ``"+"``, ``"-"``, ``" "`` or ``"…"`` (lines left out), and the line.
    """
    lines = difflib.unified_diff(a.splitlines(), b.splitlines(), n=CONTEXT_LINES, lineterm="")
    found = [(line[0], line[1:]) for line in list(lines)[2:]]
    return [("…", "") if sign == "@" else (sign, text) for sign, text in found][1:]


def differences(a: dict, b: dict, code: Mapping[str, list[dict] | str]) -> list[tuple[str, str]]:
    """Return what differs between two runs in a few lines: topic and words.

    Parameters
    ----------
    a, b : dict
        Summaries of the two runs.
    code : mapping
        What `code_changes` returns.

    Returns
    -------
    list of (str, str)
    """
    pairs = metric_pairs(a["metrics"], b["metrics"])
    lines = []
    if a["pipeline"] != b["pipeline"]:
        lines.append(("pipelines", f"different, {a['pipeline']} and {b['pipeline']}; {PARTLY}"))
    lines.append(("metrics", _metric_words(pairs, a["headline"].get("metric", ""))))
    if reason := unlike_tests(a, b):
        lines.append(("take care", reason))
    lines.append(("parameters", _parameter_words(a["parameters"], b["parameters"])))
    lines.append(("data", data_words(a["dataset"], b["dataset"])))
    lines.append(("environment", environment_words(a["start"], b["start"])))
    if a["pipeline"] == b["pipeline"]:
        lines.append(("code", _code_words(code)))
    if a["seconds"] and b["seconds"]:
        times = f"{duration(a['seconds'])} and {duration(b['seconds'])}"
        lines.append(("time", f"{times}, ratio {b['seconds'] / a['seconds']:.2f}"))
    return lines


PARTLY = "code is not compared, the rest where names are the same"


def unlike_tests(a: dict, b: dict) -> str:
    """Say why the metrics of two runs do not answer the same question; "" if nothing speaks so."""
    reasons = []
    if a["pipeline"] != b["pipeline"]:
        reasons.append("the pipelines differ")
    digests = [run["dataset"].get("digest") for run in (a, b)]
    if all(digests) and digests[0] != digests[1]:
        reasons.append("the data differ")
    for name in sorted(a["metrics"].keys() & b["metrics"].keys()):
        asked = name in SAME_TEST or name.startswith("persistence_")
        if asked and a["metrics"][name] != b["metrics"][name]:
            reasons.append(f"{name} differs")
            break
    if not reasons:
        return ""
    return f"{', '.join(reasons)}: the runs were not judged by the same test"


def data_words(a: Mapping, b: Mapping) -> str:
    """Say whether two runs had the same data, from their `dataset.json`."""
    if not a or not b:
        missing = [name for name, facts in (("A", a), ("B", b)) if not facts]
        return f"unknown, {' and '.join(missing)} left no dataset.json"
    if a.get("digest") == b.get("digest"):
        return f"the same, {_rows(a)}, digest {str(a.get('digest'))[:12]}"
    words = [f"different: {_rows(a)} in A, {_rows(b)} in B"]
    if a.get("source") != b.get("source"):
        words.append(f"from {redact(str(a.get('source')))} and {redact(str(b.get('source')))}")
    else:
        words.append(f"although both are from {redact(str(a.get('source')))}")
    return ", ".join(words)


def environment_words(a: Mapping, b: Mapping) -> str:
    """Say whether commit, lock file and Python were the same, from the runs' `run.json`."""
    words = []
    for key, name in (("commit", "commit"), ("lock", "lock file"), ("python", "Python")):
        if not a.get(key) or not b.get(key):
            words.append(f"{name} unknown")
        elif a[key] == b[key]:
            unsure = " with changes, which may differ" if "+" in a[key] else ""
            words.append(f"same {name}{unsure}")
        else:
            words.append(f"{name} {_short(key, a[key])} and {_short(key, b[key])}")
    return ", ".join(words)


def render(a: Run, b: Run, *, base: str = "../") -> str:
    """Return the page that shows two runs side by side.

    Parameters
    ----------
    a, b : Run
        Of any pipelines, in any state.
    base : str, default "../"
        Where the folder of all runs lies, seen from the page; links begin with it.

    Returns
    -------
    str
        A complete HTML document that refers to nothing outside of itself but by links.
    """
    one, other = summarise(a), summarise(b)
    code = code_changes(a, b)
    title = a.pipeline if a.pipeline == b.pipeline else f"{a.pipeline} and {b.pipeline}"
    parts = [
        f"<h1>{html.escape(title)}: run against run</h1>",
        f'<div class="pair">{_card("A", a, one, base)}{_card("B", b, other, base)}</div>',
        _overview(differences(one, other, code)),
        _metrics_section(one, other),
        _parameters_section(one["parameters"], other["parameters"]),
        _facts_section("Data", "data", one["dataset"], other["dataset"]),
        _facts_section("Environment", "environment", *(_started(run) for run in (one, other))),
        _code_section(code),
        _stages_section(one["stages"], other["stages"]),
        _figures_section(a, b, one["stages"], other["stages"]),
    ]
    return document(f"{a.run_dir} and {b.run_dir}", "\n".join(filter(None, parts)), css=CSS)


def _outcome(summary: dict) -> str:
    return f"{summary['state']}{': ' if summary['reason'] else ''}{summary['reason']}"


def _pair(
    name: str,
    kind: str,
    a: Mapping[str, float],
    b: Mapping[str, float],
    larger: bool | None,  # noqa: FBT001
) -> dict:
    one, other = a.get(name), b.get(name)
    intervals = [_interval(name, run) for run in (a, b)]
    overlap = None
    if all(intervals):
        overlap = intervals[0][0] <= intervals[1][1] and intervals[1][0] <= intervals[0][1]
    if one is None or other is None:
        difference, change = None, "only in A" if other is None else "only in B"
    else:
        difference = other - one
        change = "equal" if not difference else "differs"
        if difference and larger is not None:
            change = "better" if (difference > 0) == larger else "worse"
    row = {"metric": name, "kind": kind, "a": one, "b": other, "greater_is_better": larger}
    row |= {"a_interval": intervals[0], "b_interval": intervals[1], "overlap": overlap}
    return row | {"difference": difference, "change": change}


def _interval(name: str, metrics: Mapping[str, float]) -> tuple[float, float] | None:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return None if low is None or high is None else (low, high)


def _value(value: object) -> str:
    return redact(value) if isinstance(value, str) else json.dumps(value)


def _notebooks(run: Run) -> dict[str, dict | None]:
    """Return the executed notebooks of a run by stage; None for one that cannot be read."""
    found: dict[str, dict | None] = {}
    for path in run.path.glob("[0-9]*.ipynb"):
        if "." in path.stem:  # an earlier attempt
            continue
        try:
            notebook = outcome.read_notebook(path)
            found[path.stem] = notebook if isinstance(notebook.get("cells"), list) else None
        except (ValueError, AttributeError):
            found[path.stem] = None
    return found


def _code_cells(notebook: Mapping) -> list[tuple[int, str]]:
    """Return number and source of every code cell that is the notebook's own and not empty."""
    own = [
        cell
        for cell in notebook["cells"]
        if not outcome.is_marker(cell)
        and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    code = [(i, outcome.source_text(c)) for i, c in enumerate(own, 1) if c["cell_type"] == "code"]
    return [(number, source) for number, source in code if source.strip()]


def _bare(cells: list[tuple[int, str]]) -> dict:
    """Return a notebook of nothing but the sources of `cells`."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**empty, "source": source} for _, source in cells]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def _change(change: str, number: int, a: str, b: str) -> dict:
    return {"change": change, "cell": number, "lines": line_diff(a, b)}


def _metric_words(pairs: list[dict], headline: str) -> str:
    known = [row for row in pairs if row["kind"] == "metric"]
    if not known:
        return "none to compare"
    counts = {change: sum(row["change"] == change for row in known) for change in CHANGES}
    words = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    words = f"of {len(known)} metrics {words}"
    first = next((row for row in known if row["metric"] == headline), None)
    if first is None or first["difference"] is None:
        return words
    one, other = _numbers(first["a"], first["b"])
    lead = f"{headline} {one} in A, {other} in B: {first['change']}{_by(first)}"
    return f"{lead}; {words}"


CHANGES = ("better", "worse", "equal", "only in A", "only in B")


def _by(row: dict) -> str:
    """Return how much a metric differs, with what the intervals say."""
    if not row["difference"]:
        return ""
    share = f", {abs(row['difference'] / row['a']):.1%}" if row["a"] else ""
    intervals = {True: "; the intervals overlap", False: "; the intervals are apart", None: ""}
    return f" by {abs(row['difference']):.3g}{share}{intervals[row['overlap']]}"


def _parameter_words(a: Mapping[str, dict], b: Mapping[str, dict]) -> str:
    pairs = parameter_pairs(a, b)
    total = len({**a, **b})
    if not total:
        return "unknown, no stage left a record"
    if not pairs:
        return f"all {total} agree"
    shown = [f"{p['name']} {_clip(p['a'])} → {_clip(p['b'])}" for p in pairs[:4]]
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return f"{len(pairs)} of {total} differ: {', '.join(shown)}{more}"


def _clip(text: str, length: int = 40) -> str:
    return (text if len(text) <= length else f"{text[: length - 1]}…") or "(none)"


def _code_words(code: Mapping[str, list[dict] | str]) -> str:
    if not code:
        return "no executed notebook in either run"
    words = []
    for stage, changes in code.items():
        if changes and not isinstance(changes, str):
            counts = [(kind, sum(c["change"] == kind for c in changes)) for kind in KINDS]
            words.append(f"{stage} {', '.join(f'{n} {kind}' for kind, n in counts if n)}")
    compared = sum(not isinstance(changes, str) for changes in code.values())
    skipped = len(code) - compared
    rest = f"; {skipped} of {len(code)} notebooks not compared" if skipped else ""
    if not compared:
        return "not compared, no notebook is in both runs"
    return f"cells: {'; '.join(words)}{rest}" if words else f"the same in all cells{rest}"


KINDS = ("changed", "added", "removed")


def _rows(facts: Mapping) -> str:
    n_rows = facts.get("n_rows")
    days = [str(facts.get(end, ""))[:10] for end in ("start", "end")]
    span = f", {' to '.join(days)}" if all(days) else ""
    return (f"{n_rows:,} rows" if isinstance(n_rows, int) else "unknown rows") + span


def _short(key: str, value: str) -> str:
    if key == "python":
        return value
    name, sign, rest = value.partition("+")
    return name[:10] + sign + rest


def _started(summary: dict) -> dict:
    start = summary["start"]
    keys = ("commit", "lock", "python", "who", "run_type")
    return {key: start[key] for key in keys if start.get(key)}


def _numbers(*values: Number) -> list[str]:
    """Return numbers as text, with so many digits that different ones look different."""
    for digits in (4, 6, 9, 17):
        shown = [_number(value, digits) for value in values]
        if len(set(shown)) == len(set(values)):
            return shown
    return shown


def _number(value: Number, digits: int) -> str:
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def _card(letter: str, run: Run, summary: dict, base: str) -> str:
    name = html.escape(run.name)
    if (run.path / PAGE).exists():
        place = quote(f"{run.run_dir}/{PAGE}", safe="/+=")
        name = f'<a href="{html.escape(base)}{place}">{name}</a>'
    facts = [run.pipeline]
    if summary["started"]:
        at = datetime.fromisoformat(summary["started"]).astimezone(UTC)
        facts.append(f"{at:%Y-%m-%d %H:%M} UTC")
    if summary["seconds"]:
        facts.append(f"took {duration(summary['seconds'])}")
    if summary["start"].get("who"):
        facts.append(f"by {summary['start']['who']}")
    notes = "".join(f'<p class="dim">{html.escape(text)}</p>' for text in summary["problems"])
    state = summary["state"]
    return (
        f'<section class="card {BADGES.get(state, "running")}"><span class="letter">{letter}</span>'
        f'<span class="name">{name}</span><p><span class="badge">{html.escape(state)}</span> '
        f"{html.escape(summary['reason'])}</p>"
        f'<p class="dim">{html.escape(" · ".join(facts))}</p>{notes}</section>'
    )


def _overview(lines: list[tuple[str, str]]) -> str:
    linked = {"metrics", "parameters", "data", "environment", "code"}
    rows = []
    for topic, words in lines:
        name = f'<a href="#{topic}">{topic}</a>' if topic in linked else topic
        kind = ' class="warning"' if topic in ("take care", "pipelines") else ""
        rows.append(f"<dt>{name}</dt><dd{kind}>{html.escape(words)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


def _metrics_section(a: dict, b: dict) -> str:
    pairs = metric_pairs(a["metrics"], b["metrics"])
    head = '<h2 id="metrics">Metrics</h2>'
    if not pairs:
        return f'{head}<p class="note">Neither run has metrics.</p>'
    kinds = {kind: [r for r in pairs if r["kind"] == kind] for kind in ("metric", "baseline")}
    other = [row for row in pairs if row["kind"] == "other"]
    parts = [head]
    if reason := unlike_tests(a, b):
        parts.append(f'<p class="warning">Take care: {html.escape(reason)}.</p>')
    if kinds["metric"]:
        parts.append(_metric_table(kinds["metric"]))
    if any(row["overlap"] is not None for row in pairs):
        parts.append(f'<p class="note">{INTERVALS}</p>')
    for title, rows in (("Baselines", kinds["baseline"]), ("Other numbers", other)):
        if rows:
            n_differ = sum(row["change"] != "equal" for row in rows)
            words = f"{title}: {n_differ} of {len(rows)} differ"
            opened = "" if kinds["metric"] else " open"
            parts.append(f"<details{opened}><summary>{words}</summary>{_metric_table(rows)}")
            parts.append("</details>")
    return "\n".join(parts)


INTERVALS = (
    "Intervals are those that each run computed of its own. Overlapping intervals are no test: two "
    "models judged on the same rows err together, so that a difference can be real although their "
    "intervals overlap. A comparison row by row on the same test decides."
)


def _metric_table(rows: list[dict]) -> str:
    arrows = {True: "larger is better", False: "smaller is better", None: ""}
    body = []
    for row in rows:
        values = _numbers(row["a"], row["b"])
        cells = [
            f"<td>{value}{_small(interval)}</td>"
            for value, interval in zip(values, (row["a_interval"], row["b_interval"]), strict=True)
        ]
        by = row["difference"]
        difference = f"{by:+.3g}" if by else ""
        share = f"{by / abs(row['a']):+.1%}" if by and row["a"] else ""
        overlap = {True: "overlap", False: "apart", None: ""}[row["overlap"]] if by else ""
        direction = arrows[row["greater_is_better"]] if row["kind"] == "metric" else ""
        hint = f" <small>{direction}</small>" if direction else ""
        change = row["change"]
        if row["kind"] != "metric" and change in ("better", "worse"):
            change = "differs"  # a baseline is no achievement of the run
        body.append(
            f"<tr><th>{html.escape(row['metric'])}{hint}</th>{''.join(cells)}"
            f'<td class="{change}">{change}</td><td>{share}</td><td>{difference}</td>'
            f"<td>{overlap}</td></tr>"
        )
    return _table(["", "A", "B", "B is", "relative", "difference", "intervals"], body)


def _small(interval: tuple[float, float] | None) -> str:
    return f"<small>{interval[0]:.4g} to {interval[1]:.4g}</small>" if interval else ""


def _table(head: list[str], body: list[str], *, text: bool = False) -> str:
    kind = ' class="text"' if text else ""
    titles = "".join(f"<th{kind}>{html.escape(title)}</th>" for title in head)
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _parameters_section(a: Mapping[str, dict], b: Mapping[str, dict]) -> str:
    pairs = parameter_pairs(a, b)
    n_same = len({**a, **b}) - len(pairs)
    words = f"{n_same} agree." if pairs else f"All {n_same} agree." if n_same else "None known."
    body = [
        f"<tr><th>{html.escape(pair['name'])}</th>"
        f'<td class="text"><code>{html.escape(pair["a"]) or "(none)"}</code></td>'
        f'<td class="text"><code>{html.escape(pair["b"]) or "(none)"}</code></td>'
        f'<td class="text dim">{html.escape(pair["meaning"])} <small>{html.escape(pair["stage"])}'
        "</small></td></tr>"
        for pair in pairs
    ]
    table = _table(["", "A", "B", "meaning"], body, text=True) if pairs else ""
    return f'<h2 id="parameters">Parameters</h2>{table}<p class="note">{words}</p>'


def _facts_section(title: str, anchor: str, a: Mapping, b: Mapping) -> str:
    """Return a table of facts of two runs; those that differ stand out."""
    rows = []
    for key in {**a, **b}:
        values = [_fact(run[key]) if key in run else "unknown" for run in (a, b)]
        kind = ' class="differs"' if values[0] != values[1] else ""
        cells = "".join(f'<td class="text">{html.escape(value)}</td>' for value in values)
        rows.append(f"<tr{kind}><th>{html.escape(key)}</th>{cells}</tr>")
    words = data_words(a, b) if anchor == "data" else environment_words(a, b)
    table = _table(["", "A", "B"], rows, text=True) if rows else ""
    sentence = html.escape(f"{words[0].upper()}{words[1:]}.")
    return f'<h2 id="{anchor}">{title}</h2><p class="note">{sentence}</p>{table}'


def _fact(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}", r"\1…", _value(value))  # a digest


def _code_section(code: Mapping[str, list[dict] | str]) -> str:
    if not code:
        return ""
    parts = ['<h2 id="code">Code</h2>']
    same = [stage for stage, changes in code.items() if not changes]
    for stage, changes in code.items():
        if isinstance(changes, str):
            parts.append(f'<p class="note">{html.escape(stage)} is not compared: {changes}.</p>')
        elif changes:
            cells = "".join(_cell(change) for change in changes)
            parts.append(f"<h3>{html.escape(stage)}</h3>{cells}")
    if same:
        parts.append(f'<p class="note">No code cell differs in {html.escape(", ".join(same))}.</p>')
    parts.append('<p class="note">Parameters have a table of their own, above.</p>')
    return "".join(parts)


def _cell(change: dict) -> str:
    kinds = {"+": "ins", "-": "del", "…": "gap", " ": ""}
    lines = "".join(
        f'<span class="{kinds[sign]}">{sign} {html.escape(text)}</span>'
        for sign, text in change["lines"]
    )
    side = "A" if change["change"] == "removed" else "B"
    return (
        f'<div class="cell"><p>{change["change"]}, cell {change["cell"]} of {side}</p>'
        f'<div class="wide"><pre>{lines}</pre></div></div>'
    )


def _stages_section(a: list[dict], b: list[dict]) -> str:
    one, other = ({stage["name"]: stage for stage in stages} for stages in (a, b))
    body = []
    for name in sorted({**one, **other}):
        pair = one.get(name), other.get(name)
        states = [half["state"] if half else "none" for half in pair]
        shown = [f"<td>{html.escape(state)}</td>" for state in states]
        times = [half["seconds"] if half else None for half in pair]
        memory = [half["peak_memory_bytes"] if half else None for half in pair]
        shown += _with_ratio(times, duration)
        shown += _with_ratio(memory, lambda size: f"{size / 2**20:,.0f} MiB")
        body.append(f"<tr><th>{html.escape(name)}</th>{''.join(shown)}</tr>")
    head = ["", "A", "B", "time A", "time B", "B / A", "memory A", "memory B", "B / A"]
    return f'<h2 id="stages">Stages</h2>{_table(head, body)}'


def _with_ratio(pair: list[Number], show: object) -> Iterator[str]:
    for value in pair:
        yield f"<td>{'' if value is None else show(value)}</td>"
    yield f"<td>{pair[1] / pair[0]:.2f}</td>" if all(pair) else "<td></td>"


def _figures_section(a: Run, b: Run, one: list[dict], other: list[dict]) -> str:
    names = {figure: None for stages in (one, other) for s in stages for figure in s["figures"]}
    if not names:
        return ""
    parts = ['<h2 id="figures">Figures</h2>']
    same = []
    for name in names:
        images = [_image(run, name) for run in (a, b)]
        if images[0] == images[1]:
            same.append(_figure(name, images[0], name))
        else:
            shown = "".join(_figure(name, x, k) for x, k in zip(images, "AB", strict=True))
            parts.append(f'<h3>{html.escape(name)}</h3><div class="pair">{shown}</div>')
    if same:
        words = f"{len(same)} of {len(names)} are the same in A and B, byte for byte"
        shown = "".join(same)
        parts.append(f"<details><summary>{words}</summary>")
        parts.append(f'<div class="pair">{shown}</div></details>')
    return "".join(parts)


def _image(run: Run, name: str) -> bytes | None:
    path = run.path / name
    if not all(NAME.fullmatch(part) for part in name.split("/")) or not path.exists():
        return None
    return path.read_bytes()


def _figure(name: str, image: bytes | None, caption: str) -> str:
    if image is None:
        return f"<figure><figcaption>{html.escape(caption)}: no figure</figcaption></figure>"
    data = base64.b64encode(image).decode()
    return (
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
