"""A run in which nothing has changed, without Airflow, whose start takes longer than all of it.

`note` keeps what `dag.test` has just made of a DAG: its tasks, and which run. `make` makes the
next run of it, if every stage of it can be taken from an earlier one: in this process, one stage
after another, with the page written once. It is in Airflow's database as if `dag.test` had made it
(`lib.dag.database`). A DAG with anything that is not known here takes the long way, and so does one
whose file, or any module that was imported for it and is no package, has changed since.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lib import tracking
from lib.dag.account import Account
from lib.dag.database import Result, Twin, home, said_by_caller
from lib.dag.telling import note_decision, publish_page, told_before
from lib.ground import aside, layout
from lib.ground.files import ROOT, is_local, state_dir, write_json
from lib.ground.folder import Run
from lib.ground.parameters import Value, check_values, merge_parameters, values_of_run
from lib.ground.runs import note_start, run_of_airflow
from lib.once import choice, known
from lib.once import key as keys
from lib.once.environment import PLACE, is_as_seen, seen
from lib.once.standing import REGISTRATION
from lib.once.taking import words

import psutil
from upath import UPath

if TYPE_CHECKING:
    from airflow.sdk import DAG

USUAL = {  # what a DAG file may say of a task without any difference to one that is taken
    *("task_id", "notebook", "pipeline", "timeout", "silent_timeout", "response_timeout", "dag"),
    *("task_group", "params", "doc_md", "outlets", "input_nb", "log_output", "execution_timeout"),
    *("subject", "defaults", "options", "multiple", "on_failure_callback", "on_retry_callback"),
    *("retries", "retry_delay", "pool", "pool_slots", "priority_weight", "queue", "owner"),
}
SAID = "_BaseOperator__init_kwargs"  # where Airflow keeps what it was said of a task
TEMPLATE = ("{{", "{%", "{#")

logger = logging.getLogger(__name__)


def note(dag: "DAG", run_id: str) -> None:
    """Keep what `make` has to know of a DAG, which `dag.test` has just run, and well.

    Nothing is kept of one that has other tasks than notebooks in a row and a promotion, or of which
    Airflow would tell somebody else: by a callback, a listener, an asset or a policy.
    """
    from airflow.sdk.listener import get_listener_manager

    tasks = [*dag.topological_sort()]
    kinds = [type(task).__name__ for task in tasks]
    before = [set(), *({task.task_id} for task in tasks)]
    rules = (
        set(kinds[:-1]) <= {"NotebookOperator"},
        kinds[-1] in ("NotebookOperator", "PromotionOperator"),
        all(type(task).__module__.startswith("lib.dag.") for task in tasks),
        all(set(getattr(task, SAID, ["?"])) <= USUAL for task in tasks),
        all(a.upstream_task_ids == b for a, b in zip(tasks, before, strict=False)),
        not any(
            type(o).__name__ == "Asset" for t in tasks if hasattr(t, "stage") for o in t.outlets
        ),
        not dag.on_success_callback,
        not getattr(dag, "deadline", None),
        not get_listener_manager().pm.get_plugins(),
        "airflow_local_settings" not in sys.modules,
    )
    if all(rules):
        began = int(psutil.Process().create_time() * 10**9)  # since when all has been imported
        content = {"run_id": run_id, "tasks": [task.task_id for task in tasks]}
        content |= {"stages": [task.task_id for task in tasks if hasattr(task, "stage")]}
        content |= {"written": tasks[0].written, "settings": _settings()}
        write_json(_place(dag.dag_id), content | seen(_files(dag.dag_id), began))


def make(
    pipeline: str, run_id: str, moment: datetime, asked: Mapping[str, Value], account: Account
) -> bool:
    """Make a DAG run whose every stage is taken; say whether that was possible.

    Where it was not, nothing of it is left.

    Parameters
    ----------
    pipeline, run_id : str
    moment : datetime
        The run's logical date.
    asked : mapping
        What it is triggered with, without options.
    account : Account
        Is told of the tasks, once all stages have been taken.
    """
    run = run_of_airflow(pipeline, run_id)
    noted, values, found = _look(pipeline, asked)
    if not (found and is_local(run.path)):
        return False
    twin = Twin(pipeline, run_id, noted["run_id"], moment, asked)
    if not twin.is_possible(noted["tasks"]):
        return False
    try:
        twin.begin()
        if made := _make(run, run_id, values, found, noted["tasks"][len(found) :], account):
            twin.end(made)
            return True
    except Exception:  # the long way says what is wrong, if anything is
        logger.exception("Airflow has to make %s", run.run_dir)
        account.cut_off()
    twin.forget()
    shutil.rmtree(run.path.path, ignore_errors=True)
    return False


def is_as_before(pipeline: str, asked: Mapping[str, Value]) -> bool:
    """Say whether `make` may be able to: whether every stage was done before, with this."""
    return bool(_look(pipeline, asked)[-1])


def _look(pipeline: str, asked: Mapping[str, Value]) -> tuple[dict, dict, dict[str, dict]]:
    """Return what was noted of a DAG, all values and the keys of its stages.

    There are no keys where the DAG has changed, or a stage was not done under its key before.
    """
    try:
        noted = json.loads(_place(pipeline).read_text())
        is_own = str(layout.dag_file(pipeline)) in noted["files"]  # and not of another checkout
        if not is_own or noted["settings"] != _settings() or not is_as_seen(noted):
            return {}, {}, {}
        values = _values(pipeline, noted["written"], asked)
        found = {stage: keys.key_of(pipeline, stage, values) for stage in noted["stages"]}
    except (OSError, ValueError, KeyError, SyntaxError):
        return {}, {}, {}
    is_known = all(known.is_noted(pipeline, name, key["key"]) for name, key in found.items())
    return noted, values, found if is_known else {}


def _make(
    run: Run,
    run_id: str,
    values: Mapping[str, Value],
    found: Mapping[str, dict],
    promotion: list[str],
    account: Account,
) -> dict[str, Result]:
    """Take all stages into the folder of a run and tell of it; return {} if one has to run."""
    run.prepare()
    note_start(run, dag_id=run.pipeline, run_id=run_id, run_type="manual")
    made: dict[str, Result] = {}
    for stage, key in found.items():
        start = datetime.now(UTC)
        taken = choice.obtain(run, stage, values, {}, key)
        if not taken.record:
            return {}
        _log(f"{run.run_dir}, {stage}: {taken.told}")
        value = f"{run.run_dir}/{stage}.html"
        made[stage] = Result("success", value, start, datetime.now(UTC))
    settled = told_before(run)
    if promotion and not settled:
        return {}
    for stage, result in made.items():
        account.begin(stage)
        account.end(stage, "taken", words(run.record(stage)), result.seconds)
    start = datetime.now(UTC)
    for task in promotion:
        account.begin(task)
    aside.call(_conclude, run, values, settled if promotion else None)
    for task in promotion:
        _log(f"{run.run_dir}, {task}: {settled[1]}")
        made[task] = Result("skipped", "", start, datetime.now(UTC))
        account.end(task, "skipped", seconds=made[task].seconds)
    return made


def _log(line: str) -> None:
    """Write a line where Airflow would write its own."""
    os.write(1, f"{line}\n".encode())


def _conclude(run: Run, values: Mapping[str, Value], settled: tuple[str, str] | None) -> None:
    """Tell MLflow and the page of a run that has ended, and what became of its model."""
    tracking.mirror(run, status="FINISHED", parameters=values)
    if settled:
        note_decision(run, run.read(REGISTRATION), *settled)
    publish_page(run, complete=True)


def _values(
    pipeline: str, written: Mapping[str, Value], asked: Mapping[str, Value]
) -> dict[str, Value]:
    """Return the values of all parameters, as a task would find them.

    Raises
    ------
    ValueError
        If Airflow has to fill one in, or one is not of its domain.
    """
    declared = merge_parameters(layout.declared(pipeline))
    values = values_of_run(declared, written, asked)
    for name, value in values.items():
        if value == written.get(name) and any(sign in str(value) for sign in TEMPLATE):
            raise ValueError(f"{name} = {value!r} is a template")
    return check_values(declared, values, owner=pipeline)


def _place(pipeline: str) -> UPath:
    return UPath(state_dir() / PLACE / f"dag--{pipeline}.json")


def _files(pipeline: str) -> list[Path]:
    """Return the file of a DAG, and of every module that was imported for it but is no package."""
    named = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    paths = [Path(name) for name in named if name and Path(name).is_absolute()]
    return [
        layout.dag_file(pipeline),
        *(path for path in paths if path.is_file() and _is_own(path)),
    ]


def _is_own(path: Path) -> bool:
    """Say whether a module is no package: those of `lib` may lie below a Python's folder too."""
    if path.is_relative_to(ROOT / "lib"):
        return True
    is_package = {"site-packages", "dist-packages"} & {*path.parts}
    return not is_package and not any(map(path.is_relative_to, (sys.prefix, sys.base_prefix)))


def _settings() -> str:
    """Return a digest of what else Airflow's ways depend on: settings and plugins."""
    said = {k: v for k, v in said_by_caller().items() if k.startswith("AIRFLOW__")}
    files = [home() / "airflow.cfg", *sorted((ROOT / "plugins").glob("*.py"))]
    return keys.shorten([said, [(str(one), one.read_text()) for one in files if one.exists()]])
