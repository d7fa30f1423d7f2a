"""One DAG run with a short account of it: in this process, or by the scheduler that runs beside.

In this process it is `dag.test`; an interrupt (Ctrl-C, SIGTERM) ends it for good. Where a scheduler
has the database (`make up`), the run is triggered, followed and, on an interrupt, stopped there.
"""

import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from lib import tracking
from lib.dag import scheduling, unchanged
from lib.dag.account import Account, became, label
from lib.floors import explain
from lib.ground import addresses, layout
from lib.ground import console as user
from lib.ground.files import look_into
from lib.ground.folder import Run, look_at
from lib.ground.parameters import Value, check_values, merge_parameters
from lib.ground.runs import run_of_airflow, start_of
from lib.machine import streams
from lib.machine.session import SIGNALS, answering
from lib.machine.turns import Turns
from lib.once import choice
from lib.pages.summary import PAGE, summarise

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

POLL_S = 1.0
SCHEDULER_S = 60.0  # a scheduler that has not reported for so long is gone
PARSED_S = 120.0
STOP_S = 20.0
REASON_CHARACTERS = 500
WORDS = {"success": "ok", "skipped": "skipped", "up_for_retry": "FAILED", "failed": "FAILED"}


def load_bag(pipeline: str) -> "DagBag":
    """Return what the DAG file of `pipeline` defines, its DAG among it.

    Raises
    ------
    ValueError
        If the file cannot be imported, or defines no such DAG.
    """
    from lib.dag.lean import open_bag

    bag = open_bag(pipeline)
    if bag.import_errors:
        raise ValueError(f"dags/{pipeline}.py: {next(iter(bag.import_errors.values()))}")
    if pipeline not in bag.dags:
        found = ", ".join(bag.dags) or "no DAG"
        raise ValueError(f"dags/{pipeline}.py defines {found}, expected {pipeline}")
    return bag


def configuration(pipeline: str, params: dict[str, Value]) -> dict[str, Value]:
    """Return what to trigger `pipeline` with: checked, on sample data where no source is named.

    A DAG's own values are made for real data; on the sample the notebooks' own are taken, see
    `lib.ground.parameters.values_of_run`.

    Raises
    ------
    ValueError
        If a parameter has an unknown name, a wrong type, or a value outside of its domain.
    """
    declared = merge_parameters(layout.declared(pipeline))
    asked = check_values(declared, params, owner=pipeline)
    asked.setdefault("source", declared["source"].default)
    if asked["source"] == "":  # of scoring and comparing: nothing of the DAG's own is for a trial
        return {name: parameter.default for name, parameter in declared.items()} | asked
    return asked


def is_due(pipeline: str, params: dict[str, Value], options: Mapping[str, Value]) -> bool:
    """Say whether `run_dag` will have to execute a stage, as far as can be seen before."""
    return bool(options) or not unchanged.is_as_before(pipeline, configuration(pipeline, params))


def run_dag(
    pipeline: str,
    params: dict[str, Value],
    console: TextIO,
    options: Mapping[str, Value] | None = None,
    turns: Turns | None = None,
) -> str:
    """Run `pipeline` with `params` in this process, print how it goes, and say how it ended.

    Parameters
    ----------
    pipeline : str
    params : dict
    console : file
        Where to print.
    options : mapping, optional
        Which stages are executed, of `lib.once.choice.OPTIONS`; ``resume`` names a run that goes
        on, in its folder and with its parameters.
    turns : Turns, optional
        What each task waits for before it begins.

    Returns
    -------
    str
        ``"passed"``, ``"failed"``, or ``"cancelled"`` after Ctrl-C or SIGTERM.

    Raises
    ------
    ValueError
        As `configuration` and `lib.once.choice.check`, or if the run cannot go on.
    """
    moment, options = datetime.now(UTC), dict(options or {})
    if options.get("resume"):
        moment, asked = _ended(str(options["resume"]))
    else:
        choice.check(pipeline, options)
        asked = configuration(pipeline, params) | options
    account = Account(console, turns)
    run_id = f"manual__{moment.isoformat()}"
    console.write(f"{pipeline}  source {asked['source'] or '-'}\n")
    state = ""
    if not options:
        make = partial(unchanged.make, pipeline, run_id, moment, asked, account)
        state = _until_stopped(pipeline, run_id, account, lambda: "passed" if make() else "")
    if not state:
        test = partial(_test, load_bag(pipeline), pipeline, moment, asked, account)
        state = _until_stopped(pipeline, run_id, account, test)
    _tell(run_of_airflow(pipeline, run_id), state, console)
    return state


def _until_stopped(pipeline: str, run_id: str, account: Account, make: Callable[[], str]) -> str:
    """Return what `make` does; after Ctrl-C or SIGTERM close the DAG run, and say "cancelled"."""
    state = "cancelled"
    with scheduling.alive(pipeline, run_id), interruptible(account) as signals:
        try:
            state = make()
        except KeyboardInterrupt:
            account.cut_off()
        if signals:
            state = "cancelled"
            scheduling.close_run(pipeline, run_id, state, "stopped by Ctrl-C")
    return state


def _test(
    bag: "DagBag", pipeline: str, moment: datetime, asked: Mapping[str, Value], account: Account
) -> str:
    """Make a DAG run by Airflow's own `dag.test`; return "passed" or "failed"."""
    from lib.dag.lean import lean

    from airflow.sdk.listener import get_listener_manager

    get_listener_manager().add_listener(account)
    streams.logger.addHandler(account)
    dag = bag.dags[pipeline]
    try:
        with lean(bag):
            done = dag.test(run_conf=dict(asked), logical_date=moment, run_after=moment)
    finally:
        streams.logger.removeHandler(account)
        get_listener_manager().pm.unregister(account)
    if done.state != "success":
        return "failed"
    if not asked.keys() & choice.OPTIONS.keys():
        unchanged.note(dag, done.run_id)
    return "passed"


def _ended(run_dir: str) -> tuple[datetime, dict]:
    """Return time and configuration of a run that is to go on in this process.

    Raises
    ------
    ValueError
        If Airflow has no such run, it goes on, or it was not made by `make run`.
    """
    found = _dag_run(run_dir)
    moment = found.logical_date
    if found.run_id != f"manual__{moment.isoformat() if moment else ''}":
        raise ValueError(
            f"{run_dir} was made by Airflow's scheduler, which must make it go on: start `make up` "
            "in another terminal, then say this again"
        )
    return moment, (found.conf or {}) | {"resume": run_dir}


def _dag_run(run_dir: str) -> "DagRun":
    """Return the DAG run of a run folder, which has ended."""
    from airflow.models.dagrun import DagRun

    run = look_at(run_dir)
    run_id = start_of(run).get("run_id", "")
    found = DagRun.find(dag_id=run.pipeline, run_id=run_id) if run_id else []
    if not found:
        raise ValueError(
            f"{run_dir} cannot go on: Airflow does not know it. To begin a new run with its "
            f"stages: make run PIPELINE={run.pipeline} FROM=<stage> OF={run_dir}"
        )
    if found[0].state in ("queued", "running"):
        raise ValueError(f"{run_dir} is {found[0].state} already")
    return found[0]


@contextmanager
def interruptible(account: Account) -> Iterator[list[int]]:
    """Turn the first SIGINT or SIGTERM of a block into KeyboardInterrupt, and swallow later ones.

    What follows a first signal is clearing up. The block's value holds that signal, if it came.
    """
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if not came:
            came.append(number)
            account.interject("interrupted: stopping, a moment")
            raise KeyboardInterrupt

    with answering(SIGNALS, note):
        yield came


def run_by_scheduler(
    pipeline: str,
    params: dict[str, Value],
    console: TextIO,
    options: Mapping[str, Value] | None = None,
) -> str:
    """Let the scheduler that runs beside make a run of `pipeline`, and print how it goes.

    A DAG that is off is switched on for it, and off again afterwards. A run that goes on has its
    tasks cleared that have not succeeded. Parameters are those of `run_dag`.

    Returns
    -------
    str
        As `run_dag`.

    Raises
    ------
    ValueError
        As `configuration`, or if the scheduler has not read the DAG file, or is gone.
    """
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunTriggeredByType

    options = dict(options or {})
    again = _dag_run(str(options["resume"])) if options.get("resume") else None
    if again is None:
        choice.check(pipeline, options)
    asked = (again.conf or {}) if again else configuration(pipeline, params) | options
    console.write(f"{pipeline}  source {asked['source'] or '-'}, by the scheduler of `make up`\n")
    _wait_until_parsed(pipeline)
    if others := DagRun.find(dag_id=pipeline, state="running"):  # a DAG makes one at a time
        console.write(f"  waits for {', '.join(other.run_id for other in others)}\n")
    account = Account(console)
    with interruptible(account), _switched_on(pipeline, console):
        if again:
            _clear(again)
            run_id = again.run_id
        else:
            run_id = trigger_dag(
                pipeline,
                triggered_by=DagRunTriggeredByType.CLI,
                triggering_user_name=user.account(),
                conf=asked,
            ).run_id
        run = run_of_airflow(pipeline, run_id)
        try:
            state = _follow(run, run_id, account)
        except KeyboardInterrupt:
            state = "cancelled"
            scheduling.fail_in_airflow(pipeline, run_id)
            _wait(lambda: run.path.exists() and summarise(run)["state"] != "running", STOP_S)
            scheduling.close_run(pipeline, run_id, state, "stopped by Ctrl-C")
    _tell(run, state, console)
    return state


def _clear(ended: "DagRun") -> None:
    """Let Airflow's scheduler make those tasks of a DAG run once more that have not succeeded."""
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session

    with create_session() as session:
        tasks = ended.get_task_instances(session=session)
        clear_task_instances([one for one in tasks if one.state != "success"], session)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, for so many seconds at most; say whether it does."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return holds


def _wait_until_parsed(pipeline: str) -> None:
    """Wait until Airflow has the DAG in its database.

    Raises
    ------
    ValueError
        If it has not after `PARSED_S`.
    """
    from airflow.models.dag import DagModel
    from airflow.models.serialized_dag import SerializedDagModel

    def is_parsed() -> bool:
        known = DagModel.get_current(pipeline)
        return bool(known and not known.is_stale and SerializedDagModel.has_dag(pipeline))

    if not _wait(is_parsed, PARSED_S):
        raise ValueError(
            f"Airflow has not read dags/{pipeline}.py for {PARSED_S:.0f} s; its own page says why, "
            "under 'Dag import errors'"
        )


@contextmanager
def _switched_on(pipeline: str, console: TextIO) -> Iterator[None]:
    """Switch a DAG on that is off, and off again at the end: a DAG that is off runs nothing.

    It stays on where another run of it, that found it on, would wait for ever.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    def switch(*, off: bool) -> None:
        with create_session() as session:
            DagModel.get_current(pipeline, session=session).is_paused = off

    if not DagModel.get_current(pipeline).is_paused:
        yield
        return
    console.write(f"  {pipeline} is off in Airflow: switched on for this run\n")
    switch(off=False)
    try:
        yield
    finally:
        if any(DagRun.find(dag_id=pipeline, state=state) for state in ("queued", "running")):
            console.write(f"  {pipeline} stays on in Airflow: another run of it waits\n")
        else:
            switch(off=True)


def _follow(run: Run, run_id: str, account: Account) -> str:
    """Print what becomes of a DAG run that a scheduler makes, until it has ended.

    Raises
    ------
    ValueError
        If no scheduler reports any more; the run is closed then.
    """
    from airflow.models.dagrun import DagRun

    told: dict[str, str] = {}
    while True:
        (found,) = DagRun.find(dag_id=run.pipeline, run_id=run_id)
        begun = [task for task in found.get_task_instances() if task.start_date]
        for task in sorted(begun, key=lambda task: task.start_date):
            news = f"{task.state} {task.try_number}"
            if told.get(label(task)) != news:
                told[label(task)] = news
                _tell_task(task, account)
        if found.state in ("success", "failed"):
            return "passed" if found.state == "success" else "failed"
        if scheduling.silence_s() > SCHEDULER_S:
            scheduling.close_run(run.pipeline, run_id, "lost", "the scheduler of Airflow is gone")
            raise ValueError("the scheduler of Airflow has stopped; start `make up` again")
        time.sleep(POLL_S)


def _tell_task(task: "TaskInstance", account: Account) -> None:
    """Print that a task has begun, or what became of it."""
    if task.state == "running":
        account.begin(label(task))
    elif task.state in WORDS:
        took = ((task.end_date or datetime.now(UTC)) - task.start_date).total_seconds()
        outcome, reason = WORDS[task.state], ""
        if task.state == "success":
            outcome, reason = became(task)
        account.end(label(task), outcome, reason, took)


def _facts(summary: Mapping, *, failed: bool) -> dict[str, str]:
    """Return what there is to say of a run that has ended, by name, whatever it has left."""
    facts = {}
    known, model, decision = (summary[key] for key in ("mlflow", "registration", "promotion"))
    if known.get("tracking_uri") == tracking.tracking_uri():
        facts["MLflow"] = f"run {known.get('run_id')} in {known['tracking_uri']}"
    if model:
        name, version, uri = (model.get(key, "?") for key in ("name", "version", "uri"))
        facts["model"] = f"{name} version {version}, {uri}"
    if summary["verdict"]:
        facts["verdict"] = explain(summary["verdict"])
    reason = textwrap.shorten(summary["reason"], REASON_CHARACTERS, placeholder=" …")
    if failed and summary["state"] != "refused":
        facts["failed"] = reason or "Airflow's log says why"
    elif reason and not summary["verdict"]:
        facts["result"] = reason
    if decision:
        facts["promote"] = f"{decision.get('outcome', '?')}: {decision.get('reason', '')}"
    return facts


def _tell(run: Run, state: str, console: TextIO) -> None:
    """Print where the report, the MLflow run and the model are, and what became of the model."""
    with look_into(run.path):
        _tell_of(run, state, console)


def _tell_of(run: Run, state: str, console: TextIO) -> None:
    if state == "cancelled" and not run.path.exists():
        console.write("  cancelled before its first stage began; nothing was kept of it\n")
        return
    page = run.path / PAGE
    there = page.exists()
    facts = {"report": addresses.opens_at(page) if there else f"no page was written to {run.path}"}
    if state == "cancelled":
        console.write(f"  cancelled; what its finished stages made stays in {run.path}\n")
        facts["go on"] = f"make run RESUME={run.run_dir}"
    else:
        facts |= _facts(summarise(run), failed=state == "failed")
    for name, fact in facts.items():
        console.write(f"  {name:<8} {fact}\n")
