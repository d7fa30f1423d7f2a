"""One JSON object says what a run is: the source of its page, of the index and of comparisons.

`summarise` reads the run folder alone: executed notebooks, the stages' own records, `run.json`
(what only the starter of a run knows, see `note_start`), metrics, verdict, registration. It never
fails on a run that is going on, was cut off or is damaged: what cannot be read is left out and
named in ``problems``. `write_summary` leaves the object in the folder as `summary.json`.
"""

import getpass
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from lib import outcome
from lib.gate import markdown, settled
from lib.parameters import read_stages
from lib.run import NAME, ROOT, Run, now, open_run, outputs_dir, write_bytes

from upath import UPath

STARTED, SUMMARY, PAGE = "run.json", "summary.json", "report.html"
FILES = ("run", "metrics", "verdict", "comparison", "gate", "registration", "promotion")
FILES += ("watch", "dataset", "mlflow")
STATES = ("running", "passed", "refused", "failed", "unfinished")
"""Of a run. ``refused``: every stage worked, and the gate kept the model out. ``unfinished``: by
hand, so far. A run that Airflow has begun is ``running`` until its last stage has ended or one has
failed."""

ATTEMPT = re.compile(r"(?P<stage>\d+_\w+)\.attempt-(?P<number>\d+)")


def note_start(run: Run, **facts: str | None) -> dict:
    """Keep what is known when a run begins, and cannot be found out later, in `run.json`.

    The first call of a run counts: a later one, of a retry, changes nothing.

    Parameters
    ----------
    run : Run
    **facts : str or None
        ``dag_id``, ``run_id``, ``run_type`` (``scheduled``, ``manual`` …) and ``who`` of Airflow.

    Returns
    -------
    dict
        The facts, with ``started`` (ISO 8601), ``commit``, ``lock`` (SHA-256 of
        `requirements.lock`), ``python`` and ``who``, the account where Airflow names nobody.
    """
    path = run.path / STARTED
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    from lib.tracking import git_commit

    known = {name: value for name, value in facts.items() if value}
    whole = {"started": now(), "who": _account()} | known
    whole |= {"commit": git_commit(), "lock": lock_digest(), "python": platform.python_version()}
    write_bytes(path, (json.dumps(whole, indent=2) + "\n").encode())
    return whole


def lock_digest() -> str:
    """Return the SHA-256 of `requirements.lock`; "" if there is none."""
    path = ROOT / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


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
            ISO 8601 (``ended`` is None while running) and wall time; None where unknown.
        ``start``
            The content of `run.json`, {} for a run by hand.
        ``stages``
            List, in order: ``name``, ``title``, ``state`` (``waiting``, ``running``, ``passed``,
            ``failed``), ``started``, ``ended``, ``seconds``, ``peak_memory_bytes``, ``cells`` and
            ``cells_done`` (code cells), ``error`` ({} or ``ename``, ``text``, ``cell``),
            ``notebook`` and ``page`` (names of files in the folder, or None), ``attempts`` (names
            of the pages of earlier ones), ``figures`` (PNG files it wrote).
        ``parameters``
            By name: ``value``, ``default``, ``changed``, ``stage``, ``meaning``, ``domain``.
        ``metrics``, ``verdict``, ``comparison``, ``registration``, ``dataset``, ``mlflow``
            Those files' content, {} where there is none.
        ``gate``, ``promotion``
            Likewise: what the gate has decided, and what followed.
        ``headline``
            {} or ``metric``, ``value``, ``greater_is_better``: the first check of the gate, or of a
            comparison the difference of the metric that decides.
        ``problems``
            What could not be read, in words.
    """
    problems: list[str] = []
    files = {name: _json(run.path / f"{name}.json", problems) for name in FILES}
    files["gate"] = _whole_gate(files["gate"], problems)
    records = _records(run, problems)
    stages = _stages(run, records, problems)
    state, reason = _state(stages, files)
    times = [stage[key] for stage in stages for key in ("started", "ended") if stage[key]]
    started = files["run"].get("started") or min(times, default=None)
    ended = None if state == "running" else max(times, default=None)
    checks = files["verdict"].get("checks", [])
    keys = ("metric", "value", "greater_is_better")
    return {
        "pipeline": run.pipeline,
        "name": run.name,
        "run_dir": run.run_dir,
        "state": state,
        "reason": reason,
        "started": started,
        "ended": ended,
        "seconds": _seconds(started, ended),
        "start": files["run"],
        "stages": stages,
        "parameters": _parameters(run, records, problems),
        "metrics": files["metrics"],
        "verdict": files["verdict"],
        "comparison": files["comparison"],
        "gate": files["gate"],
        "registration": files["registration"],
        "promotion": files["promotion"],
        "dataset": files["dataset"],
        "mlflow": {k: v for k, v in files["mlflow"].items() if k not in ("logged", "values")},
        "headline": {key: checks[0].get(key) for key in keys}
        if checks
        else _headline(files["comparison"]),
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


def list_runs(pipeline: str = "") -> list[Run]:
    """Return every run folder, of one pipeline or of all, in no order; folders in git are left out.

    A folder counts as a run when a stage has left its record in it, or Airflow has begun it.
    """
    root = outputs_dir()
    if not root.exists():
        return []
    parents = [root / pipeline] if pipeline else [p for p in root.iterdir() if p.is_dir()]
    found = []
    for parent in parents:
        if parent.name.startswith(".") or not parent.exists():
            continue
        for folder in parent.iterdir():
            if not folder.name.startswith(".") and _is_run(folder):
                found.append(open_run(f"{parent.name}/{folder.name}"))
    return found


def metric_rows(
    metrics: Mapping[str, float], directions: Mapping[str, bool] | None = None
) -> list[dict]:
    """Return the metrics of a run as rows of a table, with intervals and baselines beside them.

    Parameters
    ----------
    metrics : mapping of str to float
        Content of `metrics.json`: ``rmse``, ``rmse_low``, ``persistence_rmse`` …
    directions : mapping of str to bool, optional
        Whether larger is better, of metrics that only their floor knows, see `stated_directions`.

    Returns
    -------
    list of dict
        ``metric``, ``value``, ``low`` and ``high`` (None where there is no interval),
        ``greater_is_better`` and ``baselines`` (value by name), for every metric whose direction is
        known; those with baselines first. What validation found is no baseline.
    """
    from lib.directions import GREATER_IS_BETTER

    metrics = {k: v for k, v in metrics.items() if not k.startswith("validation_")}
    known = GREATER_IS_BETTER | dict(directions or {})
    rows = []
    for metric, larger in known.items():
        if metric not in metrics or metric.endswith(("_low", "_high")):
            continue
        ending = f"_{metric}"
        longer = tuple(f"_{other}" for other in known if other.endswith(ending))
        baselines = {
            name.removesuffix(ending): value
            for name, value in metrics.items()
            if name.endswith(ending) and not name.endswith(longer) and name not in known
        }
        rows.append(
            {
                "metric": metric,
                "value": metrics[metric],
                "low": metrics.get(f"{metric}_low"),
                "high": metrics.get(f"{metric}_high"),
                "greater_is_better": larger,
                "baselines": baselines,
            }
        )
    return sorted(rows, key=lambda row: not row["baselines"])


def stated_directions(verdict: Mapping) -> dict[str, bool]:
    """Return whether larger is better of each metric that a verdict has checked."""
    return {
        check["metric"]: bool(check["greater_is_better"])
        for check in verdict.get("checks", ())
        if isinstance(check, dict) and {"metric", "greater_is_better"} <= set(check)
    }


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _is_run(folder: UPath) -> bool:
    return (folder / "stages").exists() or (folder / STARTED).exists()


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
    folder = run.path / "stages"
    names = sorted(p.stem for p in folder.iterdir()) if folder.exists() else []
    shown = [name for name in names if not name.startswith(".")]
    return {name: _json(folder / f"{name}.json", problems) for name in shown}


def _stages(run: Run, records: dict[str, dict], problems: list[str]) -> list[dict]:
    """Return every stage, those to come included; a run of older notebooks may have others."""
    planned = {p.stem for p in (ROOT / "notebooks" / run.pipeline).glob("[0-9]*.ipynb")}
    present = sorted(p.name for p in run.path.iterdir()) if run.path.exists() else []
    executed = {Path(name).stem for name in present if re.fullmatch(r"\d+_\w+\.ipynb", name)}
    attempts: dict[str, list[str]] = {}
    for name in present:
        match = ATTEMPT.fullmatch(name.removesuffix(".html"))
        if match and name.endswith(".html"):
            attempts.setdefault(match["stage"], []).append(name)
    return [
        _stage(run, name, records.get(name, {}), name in executed, attempts, problems)
        for name in sorted(planned | executed | set(records))
    ]


def _stage(
    run: Run,
    name: str,
    record: dict,
    executed: bool,  # noqa: FBT001
    attempts: dict[str, list[str]],
    problems: list[str],
) -> dict:
    notebook = _json(run.path / f"{name}.ipynb", problems) if executed else {}
    number, _, verb = name.partition("_")
    found = {
        "name": name,
        "title": f"{int(number)} · {verb.replace('_', ' ').capitalize()}",
        "state": "waiting",
        "started": record.get("started"),
        "ended": record.get("finished"),
        "seconds": _seconds(record.get("started"), record.get("finished")),
        "peak_memory_bytes": None,
        "cells": 0,
        "cells_done": 0,
        "error": {},
        "notebook": f"{name}.ipynb" if executed else None,
        "page": f"{name}.html" if (run.path / f"{name}.html").exists() else None,
        "attempts": sorted(attempts.get(name, []), key=_attempt_number),
        "figures": [w for w in record.get("writes", {}) if w.endswith(".png") and _is_below(w)],
    }
    if record:
        found["state"] = "passed" if record.get("state") == "finished" else "running"
    if notebook:
        try:
            found |= _from_notebook(notebook)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"{name}.ipynb is no executed notebook: {error!r}")
    return found


def _from_notebook(notebook: dict) -> dict:
    """Return what an executed notebook says of its stage."""
    record = notebook["metadata"].get("papermill", {})
    own = [cell for cell in notebook["cells"] if not outcome.is_marker(cell)]
    code = [(i, c) for i, c in enumerate(own, start=1) if c["cell_type"] == "code"]
    status = [c["metadata"].get("papermill", {}).get("status") for _, c in code]
    found = {
        "state": {"completed": "passed", "failed": "failed", "running": "running"}.get(
            outcome.state(notebook), "waiting"
        ),
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
    marker = next((c for c in notebook["cells"] if outcome.is_marker(c)), None)
    text = outcome.source_text(marker) if marker else "no cell says why"
    if block := re.search(r"^(`{3,})text\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE):
        ename, _, reason = block[2].partition(": ")
        return {"ename": ename, "text": reason, "cell": None}
    return {"ename": "", "text": text, "cell": None}


def _is_below(name: str) -> bool:
    """Say whether `name` stays in the run folder, whatever a record claims to have written."""
    return all(NAME.fullmatch(part) for part in name.split("/"))


def _attempt_number(page: str) -> int:
    return int(ATTEMPT.fullmatch(page.removesuffix(".html"))["number"])


def _state(stages: list[dict], files: dict[str, dict]) -> tuple[str, str]:
    """Return state and reason of the run that has these stages."""
    floors = _words(files["verdict"])
    verdict = floors or str(files["comparison"].get("words", "")) or _watched(files)
    failed = [stage for stage in stages if stage["state"] == "failed"]
    if any(stage["state"] == "running" for stage in stages):
        return "running", ""
    if failed:
        error = failed[0]["error"]
        if error["ename"] == "GateError":
            return "refused", floors or error["text"]
        text = f"{failed[0]['title']}: {error['ename']}: {error['text']}".replace(": : ", ": ")
        return "failed", text
    if stages and all(stage["state"] == "passed" for stage in stages):
        return "passed", " ".join(decision(files)) or verdict
    return ("running" if files["run"].get("run_id") else "unfinished"), ""


def decision(summary: Mapping) -> list[str]:
    """Return what the gate said and what followed, see `lib.gate.settled`; [] without a gate."""
    gate, made, followed = (summary[name] for name in ("gate", "registration", "promotion"))
    return settled(gate, made, followed) if gate else []


def _whole_gate(gate: dict, problems: list[str]) -> dict:
    """Return the decision of the gate if all of it can be shown, else {} and a note of why not."""
    try:
        if gate:
            markdown(gate)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problems.append(f"gate.json holds no decision: {error!r}")
        return {}
    return gate


def _words(verdict: dict) -> str:
    from lib.registry import explain

    try:
        return explain(verdict) if verdict else ""
    except (KeyError, TypeError, ValueError):
        return ""


def _watched(files: dict[str, dict]) -> str:
    """Return what a run that scores new data has seen of them; "" for any other run."""
    watch, n_scored = files["watch"], files["metrics"].get("n_scored", 0)
    if not watch:
        return ""
    which = f"version {watch['version']}" if watch.get("version") else "a version"
    done = f"{n_scored:,.0f} new rows were scored by {which} of {watch.get('name', 'a model')}"
    why = "; ".join(map(str, watch.get("why", ())))
    found = [f"ALARM: {why}", done] if why else [done, watch.get("note") or "nothing unusual"]
    return "; ".join(found)


def _headline(comparison: dict) -> dict:
    """Return the difference of the metric that decides; there is no better or worse over time."""
    for row in comparison.get("rows", ()):
        if row.get("decisive"):
            name, value = f"difference_{row.get('metric')}", row.get("difference")
            return {"metric": name, "value": value, "greater_is_better": None}
    return {}


def _parameters(run: Run, records: dict[str, dict], problems: list[str]) -> dict[str, dict]:
    """Return every parameter with the value that its stage has used, and what it means."""
    folder = ROOT / "notebooks" / run.pipeline
    try:
        declared = read_stages(folder) if folder.exists() else {}
    except ValueError as error:
        problems.append(str(error))
        declared = {}
    found: dict[str, dict] = {}
    for stage, record in records.items():
        for name, value in record.get("parameters", {}).items():
            if name == "run_dir" or name in found:
                continue
            known = declared.get(stage, {}).get(name)
            found[name] = {
                "value": value,
                "default": known.default if known else None,
                "changed": known is None or known.default != value,
                "stage": stage,
                "meaning": known.meaning if known else "",
                "domain": known.domain if known else "",
            }
    return found


def _seconds(started: str | None, ended: str | None) -> float | None:
    if not started or not ended:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
