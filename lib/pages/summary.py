"""One JSON object says what a run is: the source of its page, of the index and of comparisons.

`summarise` reads the run folder alone: executed notebooks, the stages' own records, `run.json`
(what only the starter of a run knows, see `lib.ground.runs`), metrics, verdict, registration. It
never fails on a run that is going on, was cut off or is damaged: what cannot be read is left out
and named in ``problems``. `write_summary` leaves the object in the folder as `summary.json`. A run
that ended without being able to say so is closed by whoever finds that out, see
`lib.ground.runs.close_run`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from lib.floors import explain
from lib.ground import layout, outcome
from lib.ground.files import write_bytes
from lib.ground.folder import MAPPED, NAME
from lib.ground.handover import TAKEN
from lib.ground.layout import stage_title
from lib.ground.runs import CLOSED, STARTED
from lib.registry.gate import markdown, settled
from lib.run import Run

from upath import UPath

SUMMARY, PAGE, CHILDREN = "summary.json", "report.html", "children.html"
WHOLE = ("metrics", "verdict", "comparison", "gate", "registration", "promotion", "dataset", "test")
FILES = (*WHOLE, "run", "watch", "mlflow")
STATES = ("running", "passed", "refused", "failed", "cancelled", "lost", "unfinished")
"""Of a run. ``refused``: every stage worked, and the gate kept the model out. ``cancelled``:
somebody stopped it. ``lost``: its process is gone and left no word. ``unfinished``: by hand, so
far. A run that Airflow has begun is ``running`` until its last stage has ended, one has failed, or
it was closed."""
STATE_OF = {"completed": "passed", "failed": "failed", "running": "running"}  # by its notebook's
STOPPED = ("", "StageKilled", "StageStopped", "KeyboardInterrupt")
"""Errors of a stage that was stopped from outside; any other is its own."""
PRODUCTION_IS = re.compile(
    "(?<=othing )is(?= in production)|(?<=every floor )is(?= reached)"
    "|(?<=, in production, )is(?= this very model)"
)
UNKNOWN = {"default": None, "meaning": "", "domain": ""}  # of a parameter without a notebook
CHILD_STAGE = ("name", "title", "state", "page", "started", "ended", "peak_memory_bytes", "taken")
NOTEBOOK = re.compile(r"\d+_\w+\.ipynb")
ATTEMPT = re.compile(r"(?P<stage>\d+_\w+)\.attempt-(?P<number>\d+)\.html")


def summarise(run: Run) -> dict:
    """Return what is known of a run, as one JSON object.

    Parameters
    ----------
    run : Run
        Going on, ended or damaged.

    Returns
    -------
    dict
        ``pipeline``, ``name``, ``run_dir``
            Where the run lies.
        ``state``, ``reason``
            One of `STATES`, and why in a sentence: the verdict in words, or the error.
        ``started``, ``ended``, ``seconds``
            ISO 8601 (``ended`` is None while running), and how long it took: from start to end
            where Airflow ran it in one go, else (by hand, or some stage again) what its stages took
            together. None where unknown, as of a run that was lost.
        ``start``
            The content of `run.json`, {} for a run by hand.
        ``stages``
            List, in order: ``name``, ``title``, ``state`` (``running``, ``passed``, ``failed``,
            and of one that has not begun ``waiting`` while the run goes on, else ``not run``),
            ``started``, ``ended``, ``seconds``, ``peak_memory_bytes``, ``cells`` and
            ``cells_done`` (code cells), ``error`` ({} or ``ename``, ``text``, ``cell``),
            ``notebook`` and ``page`` (names of files in the folder, or None), ``attempts`` (names
            of the pages of earlier ones), ``figures`` (PNG files it wrote), ``taken`` (the run that
            has executed it, "" for this one) and ``executed`` (when), ``why`` it was not taken,
            ``mapped`` ({}, or of a mapped stage how many child runs are in which state of it).
        ``children``
            List, a child run each: ``index``, ``values``, ``run_dir`` and, as here, ``state``,
            ``reason``, ``started``, ``seconds``, ``metrics``, ``verdict``, ``registration`` and
            ``stages``, of these the keys in `CHILD_STAGE`.
        ``parameters``
            By name: ``value``, ``default``, ``changed``, ``stage``, ``meaning``, ``domain``.
        ``metrics``, ``verdict``, ``comparison``, ``registration``, ``dataset``, ``mlflow``
            Those files' content, {} where there is none.
        ``gate``, ``promotion``, ``test``
            Likewise: what the gate has decided, what followed, and what was judged.
        ``headline``
            {} or ``metric``, ``value``, ``greater_is_better``: the first check of the gate, or of a
            comparison the difference of the metric that decides.
        ``problems``
            What could not be read, in words.
    """
    problems: list[str] = []
    files = {name: _json(run.path / f"{name}.json", problems) for name in FILES}
    for name, show in (("gate", markdown), ("verdict", explain)):
        files[name] = _sound(name, files[name], show, problems)
    records = _records(run, problems)
    children = _children(run, files["run"])
    stages = _stages(run, files["run"], records, problems)
    stages = [_mapped(stage, children) for stage in stages]
    closed = _closed(files["run"], stages, records, problems)
    stages = [_settled(stage, closed) for stage in stages]
    state, reason = _state(stages, files, closed)
    if state != "running":
        stages = [s | {"state": "not run"} if s["state"] == "waiting" else s for s in stages]
    started, ended, seconds = _times(files["run"], stages, state, closed)
    return {
        "pipeline": run.pipeline,
        "name": run.name,
        "run_dir": run.run_dir,
        "state": state,
        "reason": reason,
        "started": started,
        "ended": ended,
        "seconds": seconds,
        "start": files["run"],
        "stages": stages,
        "children": children,
        "parameters": _parameters(run, records, problems),
        **{name: files[name] for name in WHOLE},
        "mlflow": {
            k: v for k, v in files["mlflow"].items() if k not in ("logged", "values", "status")
        },
        "headline": _headline(files["verdict"], files["comparison"]),
        "problems": problems,
    }


def write_summary(run: Run) -> dict:
    """Write `summary.json` into the run folder, whole or not at all, and return its content."""
    summary = summarise(run)
    write_bytes(run.path / SUMMARY, (json.dumps(summary) + "\n").encode())
    return summary


def read_summary(run: Run) -> dict:
    """Return the summary that was written, or one made now where there is none."""
    found = _json(run.path / SUMMARY, [])
    return found if found.get("run_dir") == run.run_dir else summarise(run)


def stage_to_open(state: str, stages: Sequence[Mapping]) -> Mapping:
    """Return the stage that a reader will want to open: the failed, else the evaluation or last.

    Parameters
    ----------
    state : str
        Of the run. Of one that its gate refused it is the evaluation that says why.
    stages : sequence of mapping
        As in `summarise`, those that can be opened; {} is returned where there is
        none.
    """
    wanted = [stage for stage in stages if state != "refused" and stage["state"] == "failed"]
    wanted += [stage for stage in stages if stage["name"].endswith("_evaluate")]
    wanted += stages[::-1]
    return next(iter(wanted), {})


def _json(path: UPath, problems: list[str]) -> dict:
    """Return an object from a JSON file, or {} and a note of why not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{path.name} holds no object")
        return {}
    return found


def _records(run: Run, problems: list[str]) -> dict[str, dict]:
    files = sorted((run.path / "stages").glob("[0-9]*.json"), key=str)
    return {file.stem: _json(file, problems) for file in files}


def _stages(run: Run, start: dict, records: dict[str, dict], problems: list[str]) -> list[dict]:
    """Return every stage, those to come included; a run of older notebooks may have others."""
    present = sorted(p.name for p in run.path.iterdir()) if run.path.exists() else []
    executed = {name.removesuffix(".ipynb") for name in present if NOTEBOOK.fullmatch(name)}
    tries = [match for name in present if (match := ATTEMPT.fullmatch(name))]
    tries.sort(key=lambda match: int(match["number"]))
    planned = [] if run.parent else layout.planned(run.pipeline)
    found = []
    for name in sorted({*planned, *start.get(MAPPED, ()), *executed, *records}):
        record = records.get(name, {})
        stage = _stage(name, record)
        stage["page"] = f"{name}.html" if f"{name}.html" in present else None
        stage["attempts"] = [match[0] for match in tries if match["stage"] == name]
        if name in executed:
            stage["notebook"] = f"{name}.ipynb"
            notebook = _json(run.path / f"{name}.ipynb", problems)
            try:
                stage |= _from_notebook(notebook) if notebook else {}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problems.append(f"{name}.ipynb is no executed notebook: {error!r}")
        if stage["state"] == "passed" and start.get("run_id") and TAKEN in record:
            stage |= _as_taken(record)
        stage["why"] = _json(run.path / "keys" / f"{name}.json", []).get("why", [])
        is_left_out = stage["state"] == "waiting" and name > start.get("until", name)
        found.append(stage | ({"state": "not run"} if is_left_out else {}))
    return found


def _children(run: Run, start: dict) -> list[dict]:
    """Return what there is to say of the child runs of mapped stages; [] where there are none."""
    if MAPPED not in start or run.parent:
        return []
    keys = ("state", "reason", "started", "seconds", "metrics", "verdict", "registration")
    found = []
    for child in run.children():
        summary = read_summary(child)
        summary = summarise(child) if summary["state"] == "running" else summary
        made = {"index": child.path.name, "run_dir": child.run_dir}
        made["values"] = summary["start"].get("values", {})
        stages = [{key: one[key] for key in CHILD_STAGE} for one in summary["stages"]]
        found.append(made | {key: summary[key] for key in keys} | {"stages": stages})
    return found


def _mapped(stage: dict, children: list[dict]) -> dict:
    """Return a stage as its child runs show it, if it is a mapped one."""
    begun = [s for c in children for s in c["stages"] if s["name"] == stage["name"]]
    begun = [one for one in begun if one["state"] not in ("waiting", "not run")]
    if not begun:
        return stage
    states = Counter(one["state"] for one in begun)
    state = next(one for one in ("running", "failed", "passed") if states[one])
    times = [[one[key] for one in begun if one[key]] for key in ("started", "ended")]
    started, ended = min(times[0], default=None), max(times[1], default=None)
    peaks = [one["peak_memory_bytes"] for one in begun if one["peak_memory_bytes"]]
    facts = {"state": state, "started": started, "ended": ended if state != "running" else None}
    facts |= {"peak_memory_bytes": max(peaks, default=None), "page": CHILDREN, "mapped": states}
    if state == "failed":
        text = f"{states['failed']} of {len(begun)} failed"
        facts["error"] = {"ename": "", "text": text, "cell": None}
    return stage | facts | {"seconds": _seconds(started, facts["ended"])}


def _as_taken(record: dict) -> dict:
    """Return what is else of a stage that was taken from another run, where it was executed."""
    from_run, at = str(record[TAKEN]), record.get("taken")
    times = {"started": at, "ended": at, "seconds": None, "peak_memory_bytes": None}
    return times | {"taken": from_run, "executed": record.get("finished")}


def _stage(name: str, record: dict) -> dict:
    """Return what a stage's own record says of it, before its notebook is looked at."""
    state = "passed" if record.get("state") == "finished" else "running"
    return {
        "name": name,
        "title": stage_title(name),
        "state": state if record else "waiting",
        "started": record.get("started"),
        "ended": record.get("finished"),
        "seconds": _seconds(record.get("started"), record.get("finished")),
        "peak_memory_bytes": None,
        "cells": 0,
        "cells_done": 0,
        "error": {},
        "notebook": None,
        "taken": "",
        "executed": None,
        "mapped": {},
        "figures": [w for w in record.get("writes", {}) if w.endswith(".png") and _is_below(w)],
    }


def _from_notebook(notebook: dict) -> dict:
    """Return what an executed notebook says of its stage."""
    record = notebook["metadata"].get("papermill", {})
    own = [cell for cell in notebook["cells"] if not outcome.is_marker(cell)]
    code = [(i, c) for i, c in enumerate(own, start=1) if c["cell_type"] == "code"]
    status = [c["metadata"].get("papermill", {}).get("status") for _, c in code]
    found = {
        "state": STATE_OF.get(outcome.state(notebook), "waiting"),
        "started": record.get("start_time"),
        "ended": record.get("end_time"),
        "seconds": record.get("duration"),
        "peak_memory_bytes": record.get("peak_memory_bytes"),
        "cells": len(code),
        "cells_done": status.count("completed"),
    }
    if found["state"] == "failed":
        found["error"] = _error(notebook, code)
    return found


def _error(notebook: dict, code: list) -> dict:
    for number, cell in code:
        if cell["metadata"].get("papermill", {}).get("status") == "failed":
            errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
            if errors:
                text = outcome.ANSI.sub("", errors[-1]["evalue"])
                return {"ename": errors[-1]["ename"], "text": text, "cell": number}
    markers = (outcome.source_text(c) for c in notebook["cells"] if outcome.is_marker(c))
    text = next(markers, "no cell says why")
    if block := re.search(r"^(`{3,})text\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE):
        ename, _, reason = block[2].partition(": ")
        return {"ename": ename, "text": reason, "cell": None}
    return {"ename": "", "text": text, "cell": None}


def _is_below(name: str) -> bool:
    """Say whether `name` stays in the run folder, whatever a record claims to have written."""
    return all(NAME.fullmatch(part) for part in name.split("/"))


def _closed(start: dict, stages: list[dict], records: dict[str, dict], problems: list[str]) -> dict:
    """Return how a run was closed; {} if it was not, or a stage has begun since."""
    closed = start.get("closed")
    if closed is None:
        return {}
    try:
        at = datetime.fromisoformat(closed["at"])
        known = {key: str(closed[key]) for key in ("state", "reason", "at")}
        if known["state"] not in CLOSED:
            raise ValueError(f"it is closed as {known['state']!r}")
        begun = [one.get("started") for one in (*stages, *records.values())]
        is_live = any(datetime.fromisoformat(time) > at for time in begun if time)
    except (KeyError, TypeError, ValueError) as error:
        problems.append(f"{STARTED} does not say how the run was closed: {error!r}")
        return {}
    return {} if is_live else known


def _settled(stage: dict, closed: dict) -> dict:
    """Return a stage as it is once its run was closed: one that was running has been cut off."""
    if not closed or stage["state"] != "running":
        return stage
    is_known = closed["state"] == "cancelled"  # a lost run ended some time before that was noticed
    facts = {"state": "failed", "ended": closed["at"] if is_known else None}
    facts["seconds"] = _seconds(stage["started"], facts["ended"])
    return stage | facts | {"error": {"ename": "", "text": "cut off", "cell": None}}


def _times(
    start: dict, stages: list[dict], state: str, closed: dict
) -> tuple[str | None, str | None, float | None]:
    """Return when a run began and ended, and how many seconds it took, as far as that is known.

    What a copy was given has run elsewhere, and before the copy was made.
    """
    begun = start.get("started")
    was_given = [s for s in stages if start.get("opened") and (s["started"] or begun) < begun]
    own = [stage for stage in stages if stage not in was_given]
    times = [stage[key] for stage in own for key in ("started", "ended") if stage[key]]
    started = min(filter(None, [begun, *times]), default=None)
    if state == "running":
        return started, None, None
    if state in CLOSED:
        ended = max([*times, closed["at"]])
        return started, ended, _seconds(started, ended) if state == "cancelled" else None
    ended = max(times, default=None)
    if start.get("run_id") and not any(stage["attempts"] for stage in stages):
        return started, ended, _seconds(started, ended)
    taken = [stage["seconds"] for stage in own if stage["seconds"] is not None]
    return started, ended, sum(taken) if taken else None


def _state(stages: list[dict], files: dict[str, dict], closed: dict) -> tuple[str, str]:
    """Return state and reason of the run that has these stages.

    A mapped stage that failed in some children does not fail a run whose later stage, which knows
    of them, has passed. What the run says itself goes before how it was closed: that it passed, or
    its own error.
    """
    floors = explain(files["verdict"]) if files["verdict"] else ""
    verdict = floors or str(files["comparison"].get("words", "")) or _watched(files)
    failed = [stage for stage in stages if stage["state"] == "failed"]
    if any(stage["state"] == "running" for stage in stages):
        return "running", ""
    done = max(
        (s["name"] for s in stages if s["state"] == "passed" and not s["mapped"]), default=""
    )
    gathered = [stage["name"] for stage in failed if stage["mapped"] and stage["name"] < done]
    failed = [stage for stage in failed if stage["name"] not in gathered]
    if failed:
        error = failed[0]["error"]
        if error["ename"] == "GateError":
            return "refused", floors or error["text"]
        if closed and (closed["state"] == "cancelled" or error["ename"] in STOPPED):
            return closed["state"], closed["reason"]
        text = f"{failed[0]['title']}: {error['ename']}: {error['text']}".replace(": : ", ": ")
        return "failed", text
    begun = [s for s in stages if s["state"] != "not run" and s["name"] not in gathered]
    if begun and all(stage["state"] == "passed" for stage in begun):
        return "passed", " ".join(decision(files)) or verdict
    if closed:
        return closed["state"], closed["reason"]
    return ("running" if files["run"].get("run_id") else "unfinished"), ""


def decision(summary: Mapping) -> list[str]:
    """Return what the gate said and what followed (`lib.registry.gate.settled`); [] without a gate.

    Whoever reads it does so later: of what was in production it says that it was.
    """
    gate, made, followed = (summary[name] for name in ("gate", "registration", "promotion"))
    return [said_then(text) for text in settled(gate, made, followed)] if gate else []


def said_then(text: str) -> str:
    """Return what the gate has said of production as it reads later, when that may have changed."""
    return PRODUCTION_IS.sub("was", text)


def _sound(name: str, content: dict, show: Callable[[dict], str], problems: list[str]) -> dict:
    """Return the content of a file if all of it can be shown, else {} and a note of why not."""
    try:
        if content:
            show(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problems.append(f"{name}.json cannot be shown: {error!r}")
        return {}
    return content


def _watched(files: dict[str, dict]) -> str:
    """Return what a run that scores new data has seen of them; "" for any other run."""
    watch, n_scored = files["watch"], files["metrics"].get("n_scored", 0)
    if not watch:
        return ""
    which = f"version {watch.get('version', '?')} of {watch.get('name', 'a model')}"
    done = f"{n_scored:,.0f} new rows were scored by {which}"
    why = "; ".join(map(str, watch.get("why", ())))
    found = [f"ALARM: {why}", done] if why else [done, watch.get("note") or "nothing unusual"]
    return "; ".join(found)


def _headline(verdict: dict, comparison: dict) -> dict:
    """Return the first check, or the difference that decides: no better or worse over time."""
    for check in verdict.get("checks", ()):
        return {key: check[key] for key in ("metric", "value", "greater_is_better")}
    for row in comparison.get("rows", ()):
        if row.get("decisive"):
            name, value = f"difference_{row.get('metric')}", row.get("difference")
            return {"metric": name, "value": value, "greater_is_better": None}
    return {}


def _parameters(run: Run, records: dict[str, dict], problems: list[str]) -> dict[str, dict]:
    """Return every parameter with the value that its stage has used, and what it means."""
    try:
        declared = layout.declared(run.pipeline) if layout.planned(run.pipeline) else {}
    except ValueError as error:
        problems.append(str(error))
        declared = {}
    found: dict[str, dict] = {}
    for stage, record in records.items():
        for name, value in record.get("parameters", {}).items():
            if name == "run_dir" or name in found:
                continue
            known = declared.get(stage, {}).get(name)
            facts = {key: getattr(known, key, empty) for key, empty in UNKNOWN.items()}
            changed = facts["default"] != value
            found[name] = {"value": value, "changed": changed, "stage": stage} | facts
    return found


def _seconds(started: str | None, ended: str | None) -> float | None:
    """Return the seconds between two times; None if one is unknown, or the clock was set back."""
    if not started or not ended:
        return None
    taken = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    return taken if taken >= 0 else None
