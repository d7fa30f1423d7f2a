"""The index of all runs: one page that filters and sorts without a server.

Every run writes its own `summary.json` first and then lets the index be written from what lies in
the run folders. Rows are kept in `.index.json` with a stamp of what they were made from, so that
only runs that have changed are read again; of several machines that write it, the one that comes
second reads it again, so no run is lost. A run without a summary, or with one that is older than
its stages' records (by hand, nobody writes it), is summarised on the spot.

On object storage, where to look at all runs takes many requests, a run enters its own row alone;
`make reports` looks at all of them.
"""

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from lib.ground.files import (
    ChangedMeanwhile,
    is_local,
    locked,
    look_into,
    outputs_dir,
    read_tagged,
    write_bytes,
    write_if,
)
from lib.ground.folder import NAME
from lib.ground.runs import STARTED, is_copy
from lib.pages import html
from lib.pages.summary import PAGE, STATES, SUMMARY, read_summary, summarise
from lib.run import open_run

from upath import UPath

Known: TypeAlias = dict[str, list]  # by run folder, stamp and row
INDEX, ROWS = "index.html", ".index.json"
MARKS = (SUMMARY, "stages", STARTED)  # a folder that holds one of them is a run, or a copy of one
ENDED_BADLY = ("failed", "refused", "cancelled", "lost")
MAX_CHARACTERS = 1000  # of a reason
COLUMNS = (
    *("pipeline", "name", "state", "started", "seconds", "by", "metric", "value"),
    *("greater_is_better", "model", "version", "source", "page", "reason"),
)


def write_index() -> UPath:
    """Write `index.html` into `OUTPUTS_DIR`, from all runs that lie there; return its place."""
    _write(_scan)
    return outputs_dir() / INDEX


def enter(summary: Mapping) -> list[dict]:
    """Let the index show a run as its summary, which has been written, says; return its rows.

    Parameters
    ----------
    summary : mapping
        As `lib.pages.summary.summarise` returns it.
    """

    def entered(kept: Known) -> Known:
        if not kept:
            return _scan(kept)
        name, made = summary["run_dir"], row(summary)
        if kept.get(name, [""])[1:] == [made]:
            return kept
        facts = (outputs_dir() / name / SUMMARY).stat().as_info()
        return kept | {name: [_stamp({SUMMARY: facts}), made]}

    return _write(_scan if is_local(outputs_dir()) else entered)


def read_rows() -> list[dict]:
    """Return the rows of the index that was written last, oldest run first; [] if there is none."""
    return _rows(_kept(read_tagged(outputs_dir() / ROWS)[0]))


def render(rows: list[dict]) -> str:
    """Return the index as a page; `rows` as `row` gives them, oldest first."""
    data = {"columns": COLUMNS, "rows": [[row[name] for name in COLUMNS] for row in rows]}
    body = html.render("runs.html", data=data, states=STATES)
    return html.document("Runs", body, "badges.css", "runs.css", "runs.js")


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
    state, model = summary.get("state", "unfinished"), summary.get("registration", {})
    reason = " ".join(summary.get("reason", "").split()) if state in ENDED_BADLY else ""
    known = {key: summary.get(key) for key in ("pipeline", "name", "started", "seconds")}
    known |= dict.fromkeys(("metric", "value", "greater_is_better")) | summary.get("headline", {})
    return known | {
        "state": state,
        "by": started_by(summary.get("start", {})),
        "model": model.get("name"),
        "version": model.get("version"),
        "source": data_source(summary),
        "page": PAGE,
        "reason": textwrap.shorten(reason, MAX_CHARACTERS, placeholder=" …"),
        "has_metrics": bool(summary.get("metrics")),
    }


def started_by(start: Mapping) -> str:
    """Return who or what started a run that has this `run.json`, in words."""
    if not start:
        return "by hand"
    kind, who = start.get("run_type") or "manual", start.get("who", "")
    words = {"manual": who, "scheduled": "schedule", "backfill": f"backfill, {who}"}
    return words.get(kind, kind.replace("_", " "))


def data_source(summary: Mapping) -> str:
    """Return where a run's data came from: what was loaded or, before that, was asked for."""
    asked = summary.get("parameters", {}).get("source", {}).get("value")
    return str(summary.get("dataset", {}).get("source") or asked or "")


def _write(change: Callable[[Known], Known]) -> list[dict]:
    """Write rows and page as `change` has the rows, again where others have written meanwhile."""
    place, page = outputs_dir() / ROWS, outputs_dir() / INDEX
    is_current = True  # the page shows the rows as they were read
    while True:
        with locked("index"), suppress(ChangedMeanwhile):
            data, tag = read_tagged(place)
            kept = _kept(data)
            known = change(kept)
            if known is kept and tag and is_current:
                return _rows(kept)
            known = dict(
                sorted(known.items(), key=lambda one: (one[1][1]["started"] or "", one[0]))
            )
            if known != kept:
                tag = write_if(place, json.dumps(known, separators=(",", ":")).encode(), tag)
            write_bytes(page, render(_rows(known)).encode())
            is_current = is_local(place) or read_tagged(place)[1] == tag
            if is_current:  # else others have written rows, and our page may have come after theirs
                return _rows(known)


def _rows(known: Known) -> list[dict]:
    return [row for _, row in known.values()]


def _scan(kept: Known) -> Known:
    """Return stamp and row of all runs; read anew only what has changed."""
    root, known = outputs_dir(), {}
    stamps = _local_stamps(Path(root.path)) if is_local(root) else _remote_stamps(root)
    for run_dir, (stamp, is_fresh) in stamps.items():
        if kept.get(run_dir, [""])[0] == stamp:
            known[run_dir] = kept[run_dir]
            continue
        with look_into(root / run_dir):
            if is_copy(root / run_dir):
                continue
            run = open_run(run_dir)
            made = row(read_summary(run) if is_fresh else summarise(run))
            has_page = (run.path / SUMMARY).exists()  # the page is written right after it
        known[run_dir] = [stamp, made if has_page else made | {"page": ""}]
    return known


def _kept(data: bytes) -> Known:
    """Return stamp and row by run folder, as the last scan left them, with these columns."""
    try:
        kept = json.loads(data)
    except json.JSONDecodeError:
        return {}  # made anew from the runs
    return {run_dir: entry for run_dir, entry in kept.items() if set(COLUMNS) <= set(entry[1])}


def _local_stamps(root: Path) -> dict[str, tuple[str, bool]]:
    """Return what tells whether a run has changed, and whether its summary is up to date, by run.

    Folders in git, which hold neither a summary nor stages' records, are no runs.
    """
    stamps = {}
    for run in root.glob("[!.]*/[!.]*"):
        times = [_time(run / name) for name in MARKS]
        if any(times) and NAME.fullmatch(run.name) and NAME.fullmatch(run.parent.name):
            stamp = " ".join(map(str, times if times[0] else [*times, _time(run)]))
            stamps[f"{run.parent.name}/{run.name}"] = (stamp, times[0] >= max(times[1:]))
    return stamps


def _time(path: Path) -> int:
    """Return when a file or folder was changed, in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - pathlib takes longer, for thousands
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _remote_stamps(root: UPath) -> dict[str, tuple[str, bool]]:
    """Do as `_local_stamps` with few requests: one listing of each pipeline's files."""
    found: dict[str, dict[str, dict]] = {}
    pipelines = [p for p in root.iterdir() if NAME.fullmatch(p.name)] if root.exists() else []
    for pipeline in pipelines:
        for file, facts in root.fs.find(pipeline.path, detail=True).items():
            below = file.rstrip("/")[len(root.path.rstrip("/")) :].strip("/").split("/")
            if len(below) >= 3 and NAME.fullmatch(below[1]) and below[2] in MARKS:
                found.setdefault("/".join(below[:2]), {})["/".join(below[2:])] = facts
    return {run_dir: (_stamp(files), True) for run_dir, files in found.items()}


def _stamp(files: Mapping[str, Mapping]) -> str:
    """Return what tells whether a run has changed: its summary or, without one, what makes it."""
    counts = {SUMMARY: files[SUMMARY]} if SUMMARY in files else files
    keys = ("ETag", "LastModified", "created")
    stamps = (
        (name, next(facts[key] for key in keys if key in facts)) for name, facts in counts.items()
    )
    return " ".join(f"{name} {stamp}" for name, stamp in stamps)
