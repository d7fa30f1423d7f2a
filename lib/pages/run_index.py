"""The index of all runs: one page that filters and sorts without a server.

Every run writes its own `summary.json` first and then lets the index be written, one process at a
time, from what lies in the run folders: whoever comes last has seen everybody's, so no run is
lost. Rows are kept in `.index.json` with a stamp of what they were made from, so that only runs
that have changed are read again. A run without a summary, or with one that is older than its
stages' records (by hand, nobody writes it), is summarised on the spot.
"""

import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from lib.pages.html import document
from lib.pages.summary import PAGE, STATES, SUMMARY, is_copy, read_summary, summarise
from lib.run import NAME, STARTED, is_local, open_run, outputs_dir, write_bytes
from lib.tracking import locked

from markupsafe import Markup
from upath import UPath

INDEX, ROWS = "index.html", ".index.json"
MARKS = (SUMMARY, "stages", STARTED)  # a folder that holds one of them is a run, or a copy of one
ENDED_BADLY = ("failed", "refused", "cancelled", "lost")
MAX_CHARACTERS = 1000  # of a reason
COLUMNS = (
    "pipeline",
    "name",
    "state",
    "started",
    "seconds",
    "by",
    "metric",
    "value",
    "greater_is_better",
    "model",
    "version",
    "source",
    "page",
    "reason",
)

BADGES = """
.badge { white-space: nowrap; }
.badge.passed { color: var(--good); background: var(--good-soft); }
.badge.failed, .badge.refused, .badge.lost { color: var(--bad); background: var(--bad-soft); }
.badge.running, .badge.cancelled { color: var(--wait); background: var(--wait-soft); }
.badge.unfinished, .badge.waiting, .badge.not-run { color: var(--dim); background: var(--soft);
  font-weight: 500; }
.better { color: var(--good); } .worse { color: var(--bad); } .dim { color: var(--dim); }
"""
"""What the states of runs and changes of metrics look like, on every page."""

CSS = (
    BADGES
    + """
body { max-width: 92rem; }
h1 { margin-bottom: .25rem; }
form { display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: center; margin: .75rem 0; }
input[type=search], select { font: inherit; font-size: .875rem; color: var(--ink);
  background: var(--page); border: 1px solid var(--line); border-radius: .4rem;
  padding: .3rem .55rem; }
input[type=search] { flex: 1 1 14rem; max-width: 28rem; }
#count { color: var(--dim); font-size: .875rem; margin-left: auto; }
table { width: 100%; font-size: .8125rem; }
td, th { padding: .35rem; text-align: left; white-space: nowrap; }
th { color: var(--dim); font-weight: 600; }
th button { border: 0; padding: 0; margin: 0; color: inherit; font-weight: inherit; }
th[aria-sort] { color: var(--ink); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody tr:hover { background: var(--soft); }
.badge { font-size: .75rem; }
.number { text-align: right; }
.run, .model, .data { max-width: 10.5rem; overflow: hidden; text-overflow: ellipsis; }
.model { max-width: 10.5rem; } .data { max-width: 7rem; }
.cut { display: flex; gap: .4em; }
.cut span:first-child { overflow: hidden; text-overflow: ellipsis; }
.cut span:last-child { flex: none; }
.metric { max-width: 16rem; } .metric[colspan] { max-width: 24rem; }
.why { color: var(--dim); overflow: hidden; text-overflow: ellipsis; }
svg { display: block; overflow: visible; color: var(--dim); }
svg circle { fill: var(--link); }
#more { margin: .75rem 0; }
#empty { color: var(--dim); padding: 1.5rem 0; }
#compare { position: sticky; bottom: 0; background: var(--soft); border: 1px solid var(--line);
  border-radius: .5rem; padding: .5rem .75rem; margin-top: 1rem; display: flex; flex-wrap: wrap;
  gap: .4rem .75rem; align-items: center; font-size: .875rem; }
#compare[hidden] { display: none; }
#compare code { user-select: all; overflow-wrap: anywhere; }
#compare button { margin: 0; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 84rem) { .by, th:nth-child(10) { display: none; } .model { max-width: 8rem; }
  .metric { max-width: 13rem; } .metric[colspan] { max-width: 20rem; } }
@media (max-width: 72rem) { .by { display: block; }
  thead tr { display: flex; flex-wrap: wrap; gap: .3rem .9rem; padding: .35rem 0; }
  thead th { padding: 0; border: 0; }
  thead th:not(:has(button)) { display: none; }
  tbody tr { display: grid; grid-template-columns: auto 1fr auto; gap: .1rem .6rem;
    grid-auto-flow: dense; align-items: center; padding: .6rem 0;
    border-bottom: 1px solid var(--line); }
  tbody td { padding: 0; border: 0; min-width: 0; }
  tbody td.number { text-align: left; }
  .run, .model, .data, .metric, .metric[colspan] { max-width: none; }
  td.metric[colspan] { grid-column: 2 / 4; } .why { white-space: normal; }
  td.pipeline, td.run { grid-column: 2 / 4; }
  td.pick { grid-row: 1 / 3; }
  td.state { grid-column: 3; grid-row: 1; justify-self: end; }
  td.pipeline { grid-column: 2; grid-row: 1; }
  td.metric:not([colspan]) { grid-column: 2; } td.trend { grid-column: 3; }
  td.change { grid-column: 2; } td.took { grid-column: 3; justify-self: end; }
  td.started { grid-column: 2; } td.by { grid-column: 3; justify-self: end; }
  td.model { grid-column: 2; } td.data { grid-column: 3; justify-self: end; max-width: 10rem; }
  td:empty { display: none; } }
@media print { form, #more, #compare, td.pick, th.pick { display: none; } }
"""
)

HEADINGS = (
    ("state", "State"),
    ("pipeline", "Pipeline"),
    ("name", "Run"),
    ("value", "Headline metric"),
    ("", "Trend"),
    ("gain", "Change"),
    ("seconds", "Took"),
    ("started", "Started, UTC"),
    ("by", "By"),
    ("model", "Model"),
    ("source", "Data"),
)

SCRIPT = """
const find = (id) => document.getElementById(id);
const { columns, rows } = JSON.parse(find("runs").textContent);
const runs = rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
const lines = new Map();
for (const run of runs) {
  run.text = [run.pipeline, run.name, run.state, run.by, run.metric, run.source, run.reason,
    run.model && `${run.model} v${run.version}`].join(" ").toLowerCase();
  run.gain = null;
  if (run.value === null || run.state === "running") continue;
  const key = JSON.stringify([run.pipeline, run.source, run.metric]);
  if (!lines.has(key)) lines.set(key, []);
  run.line = lines.get(key);
  run.at = run.line.push(run.value) - 1;
  if (run.at === 0 || run.greater_is_better === null) continue;
  run.change = run.value - run.line[run.at - 1];
  run.gain = (run.greater_is_better ? run.change : -run.change)
    / (Math.abs(run.line[run.at - 1]) || 1);
}
const PAGE = 100, TREND = 20;
let sort = "-started", shown = PAGE, chosen = [];

const fixed = new Map();  // decimals by metric: its numbers stand one below the other
const decimals = (values) => {
  const sizes = values.map(Math.abs).filter((size) => size >= 1e-12).sort((a, b) => a - b);
  if (!sizes.length) return 0;
  const middle = Math.ceil(Math.log10(sizes[sizes.length >> 1]));
  let places = Math.min(Math.max(4 - middle, 0), 9);
  while (places && values.every((value) => value.toFixed(places).endsWith("0"))) places -= 1;
  return places;
};
for (const run of runs) {
  if (run.value === null) continue;
  if (!fixed.has(run.metric)) fixed.set(run.metric, new Map());
  const known = fixed.get(run.metric);
  known.set(run.pipeline, [...(known.get(run.pipeline) ?? []), run.value]);
}
for (const known of fixed.values())
  for (const [pipeline, values] of known) known.set(pipeline, decimals(values));
const number = (value, run) => {
  const own = fixed.get(run.metric).get(run.pipeline);
  const places = Math.min(Math.max(...fixed.get(run.metric).values()), own + 2);
  const shown = Number(value.toFixed(places));
  return shown === 0 ? "0" : shown.toLocaleString("en", { minimumFractionDigits: places,
    maximumFractionDigits: places });
};
const took = (seconds) => {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60), hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min ${Math.round(seconds) % 60} s`;
};
const element = (name, kind, ...content) => {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...content.filter((one) => one !== null && one !== ""));
  return made;
};
const cell = (kind, text, title) => {
  const made = element("td", kind, text ?? "");
  if (title) made.title = title;
  return made;
};
const address = (run) => [run.pipeline, run.name, run.page].map(encodeURIComponent).join("/");
const short = (name) =>
  name.replace(/^([a-z_]+?)__\\d{4}-(\\d\\d-\\d\\d)T(\\d\\d)-(\\d\\d)-.*$/, "$1 $2 $3:$4");
const directory = (run) => `${run.pipeline}/${run.name}`;
const trend = (run) => {
  const values = (run.line ?? []).slice(Math.max(0, run.at + 1 - TREND), run.at + 1);
  if (values.length < 2 || run.greater_is_better === null) return "";
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((value, i) =>
    [i * 80 / (values.length - 1), 17 - 14 * (value - low) / span].map((n) => n.toFixed(1)));
  const draw = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const [from, to] = [values[0], run.value].map((value) => number(value, run));
  const label = `last ${values.length} runs: from ${from} to ${to}`;
  const svg = draw("svg", { width: 84, height: 20, role: "img", "aria-label": label });
  const [x, y] = points.at(-1);
  svg.append(draw("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor",
    "stroke-width": 1.5, "stroke-linejoin": "round" }), draw("circle", { cx: x, cy: y, r: 2.5 }));
  return svg;
};
const changed = (run) => {
  if (run.gain === null) return cell("change number");
  const by = number(Math.abs(run.change), run);
  if (by === "0") return cell("change number dim", "no change");
  const word = run.gain > 0 ? "better" : "worse";
  const sign = run.change > 0 ? "+" : "\\u2212";
  return cell(`change number ${word}`, `${sign}${by} ${word}`);
};
const build = (run) => {
  const pick = element("input");
  pick.type = "checkbox";
  pick.checked = chosen.includes(directory(run));
  pick.setAttribute("aria-label", `choose ${directory(run)} to compare`);
  pick.addEventListener("change", () => choose(directory(run), pick.checked));
  const link = run.page ? element("a", "", short(run.name)) : short(run.name);
  if (run.page) link.href = address(run);
  const value = run.value === null ? null
    : element("span", "", number(run.value, run), element("span", "dim", ` ${run.metric}`));
  const metric = cell("metric", value, run.reason);
  if (run.reason) metric.append(element("div", "why", run.reason));
  if (run.reason && value === null) metric.colSpan = 3;
  const rest = metric.colSpan === 3 ? [] : [cell("trend", trend(run)), changed(run)];
  const title = run.model ? `${run.model} v${run.version}` : null;
  const model = run.model ? element("div", "cut", element("span", "", run.model),
    element("span", "", `v${run.version}`)) : null;
  return element("tr", "", cell("pick", pick),
    cell("state", element("span", `badge ${run.state}`, run.state), run.reason),
    cell("pipeline", run.pipeline), cell("run", link, run.name), metric, ...rest,
    cell("took number", run.seconds === null ? null : took(run.seconds)),
    cell("started", run.started && run.started.slice(0, 16).replace("T", " "), run.started),
    cell("by", run.by), cell("model", model, title), cell("data", run.source, run.source));
};
const matching = () => {
  const words = find("text").value.toLowerCase().split(/\\s+/).filter(Boolean);
  const pipeline = find("pipeline").value, state = find("state").value;
  const found = runs.filter((run) => (!pipeline || run.pipeline === pipeline)
    && (!state || run.state === state) && words.every((word) => run.text.includes(word)));
  const key = sort.replace("-", ""), way = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return found.sort((a, b) => {
    const [left, right] = [a[key] ?? null, b[key] ?? null];
    if (left === null || right === null) return (left === null) - (right === null);
    return way * compare(left, right) || compare(b.started ?? "", a.started ?? "");
  });
};
const show = () => {
  const found = matching(), visible = found.slice(0, shown);
  document.querySelector("tbody").replaceChildren(...visible.map(build));
  const [some, all] = [found.length, runs.length].map((n) => n.toLocaleString("en"));
  find("count").textContent = some === all ? `${all} runs` : `${some} of ${all} runs`;
  find("more").hidden = found.length <= shown;
  find("more").textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
  find("empty").hidden = found.length > 0;
  find("empty").textContent = runs.length ? "No run matches." : "There is no run yet.";
  for (const head of document.querySelectorAll("th[data-key]")) {
    const here = head.dataset.key === sort.replace("-", "");
    if (here) head.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
};
const remember = () => {
  const kept = new URLSearchParams();
  for (const id of ["text", "pipeline", "state"]) if (find(id).value) kept.set(id, find(id).value);
  if (sort !== "-started") kept.set("sort", sort);
  const wanted = `#${kept}`;
  if (wanted !== (location.hash || "#")) location.replace(wanted);
};
const recall = () => {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const id of ["text", "pipeline", "state"]) find(id).value = kept.get(id) ?? "";
  const keys = [...document.querySelectorAll("th[data-key]")].map((head) => head.dataset.key);
  const asked = kept.get("sort") ?? "";
  sort = keys.includes(asked.replace("-", "")) ? asked : "-started";
  show();
};
const choose = (name, on) => {
  chosen = chosen.filter((one) => one !== name).concat(on ? [name] : []).slice(-2);
  const [a, b] = chosen, both = chosen.length === 2;
  find("compare").hidden = chosen.length === 0;
  find("chosen").textContent = both ? `make compare A=${a} B=${b}`
    : `${a ?? ""}: choose a second run to compare it with`;
  find("copy").hidden = !both || !navigator.clipboard;
  find("copy").textContent = "Copy";
  const served = location.pathname.includes("/reports/");
  find("side").hidden = !both || !served;
  if (both && served) find("side").href = `compare?${new URLSearchParams({ a, b })}`;
  show();
};
const fill = (id, values) => {
  const count = new Map();
  for (const run of runs) count.set(run[id], (count.get(run[id]) ?? 0) + 1);
  for (const value of values ?? [...count.keys()].sort()) {
    const option = element("option", "", `${value} (${count.get(value) ?? 0})`);
    option.value = value;
    find(id).append(option);
  }
};
fill("pipeline");
fill("state", JSON.parse(find("state").dataset.states));
for (const head of document.querySelectorAll("th[data-key]")) {
  head.firstChild.addEventListener("click", () => {
    const key = head.dataset.key;
    const first = ["value", "gain", "seconds", "started"].includes(key) ? `-${key}` : key;
    const other = first === key ? `-${key}` : key;
    sort = sort === first ? other : first;
    shown = PAGE;
    remember();
    show();
  });
}
for (const id of ["text", "pipeline", "state"]) {
  find(id).addEventListener("input", () => { shown = PAGE; show(); });
  find(id).addEventListener("change", remember);
}
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
find("more").addEventListener("click", () => { shown += PAGE; show(); });
find("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(find("chosen").textContent);
  find("copy").textContent = "Copied";
});
find("clear").addEventListener("click", () => { chosen = []; choose("", false); });
window.addEventListener("hashchange", recall);
recall();
"""


def write_index() -> UPath:
    """Write `index.html` into `OUTPUTS_DIR`, from all runs that lie there; return its place."""
    page = outputs_dir() / INDEX
    with locked("index"):
        write_bytes(page, render(_scan()).encode())
    return page


def read_rows() -> list[dict]:
    """Return the rows of the index that was written last, oldest run first; [] if there is none."""
    return [row for _, row in _kept().values()]


def render(rows: list[dict]) -> str:
    """Return the index as a page; `rows` as `row` gives them, oldest first."""
    data = {"columns": COLUMNS, "rows": [[row[name] for name in COLUMNS] for row in rows]}
    heads = "".join(
        f'<th scope="col" data-key="{key}"><button type="button">{text}</button></th>'
        if key
        else f'<th scope="col">{text}</th>'
        for key, text in HEADINGS
    )
    body = f"""<main>
<h1>Runs</h1>
<form role="search">
<input type="search" id="text" placeholder="Filter: words, all must occur" aria-label="Filter">
<select id="pipeline" aria-label="Pipeline"><option value="">all pipelines</option></select>
<select id="state" aria-label="State" data-states='{json.dumps(STATES)}'>
<option value="">all states</option></select>
<span id="count" role="status"></span>
</form>
<table>
<thead><tr><th class="pick" scope="col"></th>{heads}</tr></thead>
<tbody></tbody>
</table>
<p id="empty" hidden></p>
<button type="button" id="more" hidden></button>
<div id="compare" hidden><code id="chosen"></code>
<button type="button" id="copy">Copy</button>
<a id="side" hidden>Compare side by side</a>
<button type="button" id="clear">Clear</button></div>
<noscript><p>This page needs its own script to show the runs.</p></noscript>
</main>
<script type="application/json" id="runs">{script_data(data)}</script>"""
    return document("Runs", Markup(body), css=CSS, script=SCRIPT)


def row(summary: Mapping) -> dict:
    """Return what the index shows of a run, and what finding the run before it needs.

    Parameters
    ----------
    summary : mapping
        As `lib.pages.summary.summarise` returns it.

    Returns
    -------
    dict
        `COLUMNS`; ``has_metrics`` (bool); ``page`` is "" where the run has none, ``reason`` where
        it has not ended badly.
    """
    headline, model = summary.get("headline", {}), summary.get("registration", {})
    state = summary.get("state", "unfinished")
    reason = " ".join(summary.get("reason", "").split()) if state in ENDED_BADLY else ""
    return {
        "pipeline": summary["pipeline"],
        "name": summary["name"],
        "state": state,
        "started": summary.get("started"),
        "seconds": summary.get("seconds"),
        "by": started_by(summary.get("start", {})),
        "metric": headline.get("metric"),
        "value": headline.get("value"),
        "greater_is_better": headline.get("greater_is_better"),
        "model": model.get("name"),
        "version": model.get("version"),
        "source": data_source(summary),
        "page": PAGE,
        "reason": textwrap.shorten(reason, MAX_CHARACTERS, placeholder=" …"),
        "has_metrics": bool(summary.get("metrics")),
    }


def started_by(start: Mapping) -> str:
    """Return who or what started a run that has this `run.json`, in words."""
    kind, who = start.get("run_type"), start.get("who", "")
    if not start:
        return "by hand"
    if kind in (None, "", "manual"):
        return who
    if kind == "scheduled":
        return "schedule"
    return kind.replace("_", " ") + (f", {who}" if kind == "backfill" else "")


def data_source(summary: Mapping) -> str:
    """Return where a run's data came from: what was loaded or, before that, was asked for."""
    asked = summary.get("parameters", {}).get("source", {}).get("value")
    return str(summary.get("dataset", {}).get("source") or asked or "")


def script_data(data: object) -> str:
    """Return `data` as JSON that may stand inside of a script element, whatever it holds."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _scan() -> list[dict]:
    """Return the rows of all runs, oldest first; read anew only what has changed."""
    root, kept, known = outputs_dir(), _kept(), {}
    stamps = _local_stamps(Path(root.path)) if is_local(root) else _remote_stamps(root)
    for run_dir, (stamp, is_fresh) in stamps.items():
        if kept.get(run_dir, [""])[0] == stamp:
            known[run_dir] = kept[run_dir]
            continue
        run = open_run(run_dir)
        made = row(read_summary(run) if is_fresh else summarise(run))
        has_page = (run.path / SUMMARY).exists()  # the page is written right after it
        known[run_dir] = [stamp, made if has_page else made | {"page": ""}]
    known = dict(sorted(known.items(), key=lambda item: (item[1][1]["started"] or "", item[0])))
    if known != kept:
        text = json.dumps(known, separators=(",", ":"))
        write_bytes(root / ROWS, text.encode())
    return [row for _, row in known.values()]


def _kept() -> dict[str, list]:
    """Return stamp and row by run folder, as the last scan left them, with these columns."""
    try:
        kept = json.loads((outputs_dir() / ROWS).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # made anew from the runs
    return {run_dir: entry for run_dir, entry in kept.items() if set(COLUMNS) <= set(entry[1])}


def _local_stamps(root: Path) -> dict[str, tuple[str, bool]]:
    """Return what tells whether a run has changed, and whether its summary is up to date, by run.

    Folders in git, which hold neither a summary nor stages' records, are no runs, nor are copies.
    """
    stamps = {}
    for pipeline in _folders(root):
        for run in _folders(pipeline):
            times = [_time(Path(run.path, name)) for name in MARKS]
            if any(times) and not is_copy(UPath(run.path)):
                stamp = " ".join(map(str, times if times[0] else [*times, _time(run)]))
                stamps[f"{pipeline.name}/{run.name}"] = (stamp, times[0] >= max(times[1:]))
    return stamps


def _folders(path: Path | os.DirEntry) -> list[os.DirEntry]:
    if not Path(path).exists():
        return []
    with os.scandir(path) as entries:
        return [entry for entry in entries if NAME.fullmatch(entry.name) and entry.is_dir()]


def _time(path: Path | os.DirEntry) -> int:
    """Return when a file or folder was changed, in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - pathlib takes longer, for thousands
    except FileNotFoundError:
        return 0


def _remote_stamps(root: UPath) -> dict[str, tuple[str, bool]]:
    """Do as `_local_stamps` with few requests: one listing of each pipeline's files."""
    stamps: dict[str, str] = {}
    pipelines = [p for p in root.iterdir() if not p.name.startswith(".")] if root.exists() else []
    for pipeline in pipelines:
        for file, facts in root.fs.find(pipeline.path, detail=True).items():
            below = file.rstrip("/")[len(root.path.rstrip("/")) :].strip("/").split("/")
            if len(below) >= 3 and NAME.fullmatch(below[1]) and below[2] in MARKS:
                run_dir = "/".join(below[:2])
                stamp = facts.get("ETag") or facts.get("LastModified") or facts.get("created")
                stamps[run_dir] = f"{stamps.get(run_dir, '')} {below[-1]} {stamp}".strip()
    runs = {run_dir: stamp for run_dir, stamp in stamps.items() if not is_copy(root / run_dir)}
    return {run_dir: (stamp, True) for run_dir, stamp in runs.items()}
