"""Which runs there are, and how each of them began: `run.json`.

Only the starter of a run knows how it began, and whoever finds out that a run has ended without
being able to say so notes that there as well.
"""

import hashlib
import platform
import re
from collections.abc import Iterable

from lib.ground import git, layout, outcome
from lib.ground.console import account, is_interactive
from lib.ground.files import ROOT, look_into, now, outputs_dir, read_sound, read_whole, write_json
from lib.ground.folder import MAPPED, NAME, RECORDS, Run, look_at, run_at

from upath import UPath

STARTED = "run.json"
CLOSED = ("cancelled", "lost")
REFUSED = {"state": "refused", "parameters": {}}  # what there is to know of a stage without record
COPY = "open-"  # how the names of copies begin that were opened to work on a stage
AIRFLOW_ID = re.compile(r"[a-z_]+__[0-9T:.+-]+(_\w+)?")


def run_folder_name(run_id: str) -> str:
    """Return a folder name for an Airflow `run_id`, which may hold colons, plus signs or worse.

    Examples
    --------
    >>> run_folder_name("manual__2026-01-02T03:04:05+00:00")
    'manual__2026-01-02T03-04-05+00-00'
    """
    name = re.sub(r"[^A-Za-z0-9._=+-]", "-", run_id)
    if (not AIRFLOW_ID.fullmatch(run_id) and name != run_id) or not NAME.fullmatch(name):
        name = f"run-{name.lstrip('._=+-')}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
    return name


def run_of_airflow(dag_id: str, run_id: str, map_index: int = -1) -> Run:
    """Return the run folder of a DAG run, opened to look at it; or the child run of a map index."""
    run = look_at(f"{dag_id}/{run_folder_name(run_id)}")
    return run if map_index < 0 else run.child(map_index)


def list_runs(pipeline: str = "", *, copies: bool = False) -> list[Run]:
    """Return every run folder, of one pipeline or of all, in no order; folders in git are left out.

    A folder counts as a run when a stage has left its record in it, or Airflow has begun it; not
    one that somebody has called as no run can be, "dev (copy)".

    Parameters
    ----------
    pipeline : str, default ""
        Empty for all.
    copies : bool, default False
        Whether to count the copies that were opened to work on a stage.
    """
    root, found = outputs_dir(), []
    for parent in [root / pipeline] if pipeline else _shown(root):
        with look_into(parent):
            found += [
                run
                for folder in _shown(parent)
                if (run := run_at(folder))
                if (folder / RECORDS).exists() or (folder / STARTED).exists()
                if copies or not is_copy(folder)
            ]
    return found


def is_copy(folder: UPath) -> bool:
    """Say whether a run folder is a copy that was opened to work on a stage, not a run."""
    return folder.name.startswith(COPY) and bool(read_sound(folder / STARTED).get("opened"))


def copied_from(run: Run) -> str:
    """Return the ``run_dir`` of the run that `run` is an opened copy of; "" if it is none."""
    return start_of(run).get("opened", "")


def is_by_hand(run: Run) -> bool:
    """Say whether a person works in a run: no Airflow run has begun it, or the kernel is theirs."""
    return is_interactive() or not start_of(run).get("dag_id")


def start_of(run: Run) -> dict:
    """Return what is known of the start of a run, from its `run.json`; {} if none, or damaged."""
    return read_whole(run.path / STARTED)


def note_start(run: Run, **facts: str | list | dict | None) -> dict:
    """Keep what is known when a run begins, and cannot be found out later, in `run.json`.

    The first call of a run counts: a later one, of a retry, changes nothing but that a run that was
    closed goes on.

    Parameters
    ----------
    run : Run
    **facts : str, list, dict or None
        ``dag_id``, ``run_id``, ``run_type`` (``scheduled``, ``manual`` …) and ``who`` of Airflow;
        ``mapped``, the stages that run in child runs; of a child run its ``map_index``, and the
        ``values`` that it was given.

    Returns
    -------
    dict
        The facts, with ``started`` (ISO 8601), ``commit``, ``lock`` (SHA-256 of
        `requirements.lock`), ``python`` and ``who``, the account where Airflow names nobody.
    """
    kept = start_of(run)
    was_closed = kept.pop("closed", None) is not None
    if kept:
        if was_closed:
            write_json(run.path / STARTED, kept)
        return kept
    whole = {"started": now(), "who": account()} | {k: v for k, v in facts.items() if v}
    whole |= {"commit": git.commit(), "lock": lock_digest(), "python": platform.python_version()}
    write_json(run.path / STARTED, whole)
    return whole


def close_run(run: Run, state: str, reason: str) -> None:
    """Note in `run.json` that a run has ended which cannot say so itself any more.

    The run's page and the index follow when `lib.pages.publish.publish` is called. A stage that
    begins later, and a later call of `note_start`, make the run live again.

    Parameters
    ----------
    run : Run
    state : str
        ``cancelled``, somebody stopped it, or ``lost``, its process is gone and left no word.
    reason : str
        Why, a sentence for people.
    """
    begun = [record.get("started", "") for record in run.own_records().values()]
    at = max([now(), *begun])  # a stage's machine may have another clock
    closed, start = {"state": state, "reason": reason, "at": at}, read_sound(run.path / STARTED)
    write_json(run.path / STARTED, start | {"closed": closed})
    for child in run.children() if MAPPED in start else ():
        close_run(child, state, reason)


def counterpart(run: Run, other: Run) -> Run | None:
    """Return the run that stands to another one as `run` does to its own: that one itself.

    Of a child run it is the other's child that was given the same values, None where none was.
    """
    if not run.parent:
        return other
    values = start_of(run).get("values", {})
    known = [one[MAPPED] for one in other.own_records().values() if MAPPED in one]  # of all in one
    like = {i for of in known for i, one in of.items() if values.items() <= one.items()}
    children = [other.child(int(i)) for i in sorted(like)] if known else other.children()
    return next((c for c in children if start_of(c).get("values", {}) == values), None)


def gather(run: Run, stages: Iterable[str]) -> None:
    """Leave records of mapped stages in a run, of what its child runs hold by now.

    So the stages after them read, and depend on, the files of all children.
    """
    children = [(child, start_of(child), child.own_records()) for child in run.children()]
    for stage in stages:
        begun = [o for o in children if stage in o[2] or (o[0].path / f"{stage}.ipynb").exists()]
        if not begun:
            continue
        facts: dict[str, dict] = {"parameters": {}, "reads": {}, "writes": {}, MAPPED: {}}
        for child, start, records in begun:
            index, record = child.path.name, records.get(stage, REFUSED)
            own_values = {"run_dir", *start.get("values", {})}
            facts["parameters"] = {
                name: v for name, v in record["parameters"].items() if name not in own_values
            }
            is_whole = record["state"] == "finished"
            state = {"stage": stage, "state": "finished" if is_whole else "failed"}
            facts[MAPPED][index] = start.get("values", {}) | state
            if is_whole:
                facts["writes"] |= {f"{index}/{n}": d for n, d in record["writes"].items()}
                own = {name for one in records.values() for name in one["writes"]}
                facts["reads"] |= {n: d for n, d in record["reads"].items() if n not in own}
        times = [records[stage]["started"] for _, _, records in begun if stage in records]
        started = min(times, default=now())
        head = {"stage": stage, "state": "finished", "started": started, "finished": now()}
        write_json(run.path / RECORDS / f"{stage}.json", head | facts)


def lock_digest() -> str:
    """Return the SHA-256 of `requirements.lock`; "" if there is none."""
    path = ROOT / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def code_changed(run: Run, stage: str) -> bool:
    """Say whether a stage's code in `notebooks/` is another than the run has executed."""
    executed = run.path / f"{stage}.ipynb"
    committed = UPath(layout.notebook(run.pipeline, stage))
    if not executed.exists() or not committed.exists():
        return False
    then, here = (outcome.code(outcome.read_notebook(path)) for path in (executed, committed))
    return then != here


def _shown(folder: UPath) -> list[UPath]:
    """Return what is in a folder, hidden files left out; [] where it is none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if not path.name.startswith(".")]
