"""Two runs side by side on one page that stands alone, and in a few lines of text.

What differs is said by `lib.pages.differences`; here it is shown. The page does not hide how far a
comparison carries: it says where two runs were not judged by the same test, and that intervals that
overlap are no test.
"""

import hashlib
import html
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from lib.commands.which import find_pair
from lib.pages import viewer
from lib.pages.code_diff import code_changes
from lib.pages.differences import (
    data_words,
    differences,
    directions_of,
    environment_words,
    metric_pairs,
    parameter_pairs,
    places,
    share_text,
    unlike_tests,
    value_text,
)
from lib.pages.html import document, duration, number, plain
from lib.pages.summary import PAGE, summarise
from lib.run import Run, outputs_dir, write_bytes

from markupsafe import Markup

FOLDER = ".compare"
EMPTY = "&quot;&quot;"
BADGES = {"passed": "completed", "refused": "failed", "failed": "failed", "lost": "failed"}
INTERVALS = (
    "Intervals are those that each run computed of its own. Overlapping intervals are no test: two "
    "models judged on the same rows err together, so that a difference can be real although their "
    "intervals overlap. A comparison row by row on the same test decides."
)

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
.cell .wide { margin: 0; } .cell pre { padding: .3rem 0; }
.cell pre span { display: block; padding: 0 .75rem; min-width: max-content; }
.cell .ins { background: var(--good-soft); } .cell .del { background: var(--bad-soft); }
.cell .gap { color: var(--dim); }
figure { margin: 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: .25rem; display: block; }
figcaption { padding: .1rem 0 .9rem; }
@media (max-width: 44rem) { .pair { grid-template-columns: 1fr; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  td, th { padding: .2rem .4rem; font-size: .8125rem; } td small { white-space: normal; }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 6.5rem; } }
"""


def compare(a: str = "", b: str = "", pipeline: str = "") -> int:
    """Write the page that compares two runs, print where it is and what differs; return 0.

    Parameters
    ----------
    a, b, pipeline : str
        The runs, as for `lib.commands.which.find_pair`; by default the last two of the pipeline
        that ran last.

    Raises
    ------
    ValueError
        If there is no such run (names those that there are), or both are the same.
    """
    *runs, chosen = find_pair(a, b, pipeline)
    a, b = (run.run_dir for run in runs)
    if a == b:
        raise ValueError(f"both runs are {a}: name two different ones")
    page = outputs_dir() / FOLDER / page_name(a, b)
    write_bytes(page, render(*runs).encode())
    one, other = (summarise(run) for run in runs)
    lines = [("chosen", chosen)] if chosen else []
    lines += [("A", f"{a}  {_outcome(one)}"), ("B", f"{b}  {_outcome(other)}")]
    lines += [*differences(one, other, code_changes(*runs)), ("page", str(page))]
    sys.stdout.write("".join(f"{topic:<12} {words}\n" for topic, words in lines))
    return 0


def page_name(a: str, b: str) -> str:
    """Return the file name of the page that compares the runs `a` and `b`."""
    name = f"{a.replace('/', '.')}--{b.replace('/', '.')}"
    if len(name) > 200:  # file systems take 255 bytes
        name = f"{name[:180]}-{hashlib.sha256(f'{a} {b}'.encode()).hexdigest()[:12]}"
    return f"{name}.html"


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
    index = f'<p class="dim"><a href="{html.escape(base)}index.html">All runs</a></p>'
    parts = [
        index if base else "",  # in Airflow the page around this one leads there
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
    return document(
        f"{a.run_dir} and {b.run_dir}",
        Markup("\n".join(filter(None, parts))),
        *viewer.FILES,
        css=CSS,
    )


def _outcome(summary: dict) -> str:
    return f"{summary['state']}{': ' if summary['reason'] else ''}{summary['reason']}"


def _started(summary: dict) -> dict:
    start = summary["start"]
    keys = ("commit", "lock", "python", "who", "run_type")
    return {key: start[key] for key in keys if start.get(key)}


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
    pairs = metric_pairs(a["metrics"], b["metrics"], directions_of(a, b))
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


def _metric_table(rows: list[dict]) -> str:
    arrows = {True: "larger is better", False: "smaller is better", None: ""}
    body = []
    for row in rows:
        digits = places(row["a"], row["b"])
        cells = [
            f"<td>{number(row[half], digits)}{_small(row[f'{half}_interval'], digits)}</td>"
            for half in ("a", "b")
        ]
        by = row["difference"]
        difference = f"{'+' if by > 0 else '-'}{plain(abs(by), 3)}" if by else ""
        share = share_text(abs(by / row["a"])) if by and row["a"] else ""
        share = f"{'+' if by > 0 else '-'}{share}" if share[:1].isdigit() else share
        overlap = {True: "overlap", False: "apart", None: ""}[row["overlap"]] if by else ""
        direction = arrows[row["greater_is_better"]]
        hint = f" <small>{direction}</small>" if direction else ""
        change = row["change"]
        body.append(
            f"<tr><th>{html.escape(row['metric'])}{hint}</th>{''.join(cells)}"
            f'<td class="{change}">{change}</td><td>{share}</td><td>{difference}</td>'
            f"<td>{overlap}</td></tr>"
        )
    return _table(["", "A", "B", "B is", "relative", "difference", "intervals"], body)


def _small(interval: tuple[float, float] | None, digits: int | None) -> str:
    if not interval:
        return ""
    return f"<small>{' to '.join(number(end, digits) for end in interval)}</small>"


def _table(head: list[str], body: list[str], *, text: bool = False) -> str:
    kind = ' class="text"' if text else ""
    titles = "".join(f"<th{kind}>{html.escape(title)}</th>" for title in head)
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _parameters_section(a: Mapping[str, dict], b: Mapping[str, dict]) -> str:
    pairs = parameter_pairs(a, b)
    differ = [pair for pair in pairs if None not in (pair["a"], pair["b"])]
    body = [
        f"<tr><th>{html.escape(pair['name'])}</th>"
        f'<td class="text"><code>{html.escape(pair["a"]) or EMPTY}</code></td>'
        f'<td class="text"><code>{html.escape(pair["b"]) or EMPTY}</code></td>'
        f'<td class="text dim">{html.escape(pair["meaning"])} <small>{html.escape(pair["stage"])}'
        "</small></td></tr>"
        for pair in differ
    ]
    parts = ['<h2 id="parameters">Parameters</h2>']
    if differ:
        parts.append(_table(["", "A", "B", "meaning"], body, text=True))
    parts.append(f'<p class="note">{len(a.keys() & b.keys()) - len(differ)} agree.</p>')
    for letter, half, other in (("A", "a", "b"), ("B", "b", "a")):
        alone = [f"{pair['name']} = {pair[half]}" for pair in pairs if pair[other] is None]
        if alone:
            names = html.escape(", ".join(alone))
            parts.append(f"<details><summary>{len(alone)} only in {letter}</summary>")
            parts.append(f'<p class="note">{names}</p></details>')
    return "".join(parts)


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
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}", r"\1…", value_text(value))  # a digest


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


def _with_ratio(pair: list[float | None], show: Callable[[float], str]) -> Iterator[str]:
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
    return path.read_bytes() if path.exists() else None


def _figure(name: str, image: bytes | None, caption: str) -> str:
    if image is None:
        return f"<figure><figcaption>{html.escape(caption)}: no figure</figcaption></figure>"
    label = name if caption == name else f"{name}, {caption}"
    return (
        f"<figure>{viewer.image(image, label)}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
