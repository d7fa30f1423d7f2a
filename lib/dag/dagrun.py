"""One DAG run with a short account of it: in this process, or by the scheduler that runs beside.

In this process it is `dag.test`; an interrupt (Ctrl-C, SIGTERM) ends it for good. Where a scheduler
has the database (`make up`), the run is triggered, followed and, on an interrupt, stopped there.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from lib import layout, tracking
from lib.console import account
from lib.dag import scheduling
from lib.machine.executor import SIGNALS
from lib.machine.session import import_papermill
from lib.pages.summary import PAGE, read_summary, summarise
from lib.parameters import Value, check_values, merge_parameters
from lib.registry import lifecycle
from lib.run import Run
from lib.runs import run_of_airflow

import_papermill()  # before Airflow, which is then quicker to import

from lib.dag.operator import INTERRUPTED  # noqa: E402
from lib.dag.promotion import read_decision  # noqa: E402

from airflow.listeners import hookimpl  # noqa: E402
from airflow.sdk import DAG  # noqa: E402
from airflow.sdk.listener import get_listener_manager  # noqa: E402

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

PRINTED = "lib.machine.executor.stream"  # the log of what notebooks print
POLL_S = 1.0
SCHEDULER_S = 60.0  # a scheduler that has not reported for so long is gone
PARSED_S = 120.0
STOP_S = 20.0


class Account(logging.Handler):
    """Prints one line when a task starts and ends, and what its notebook prints meanwhile."""

    def __init__(self, console: TextIO) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.started = 0.0
        self.open_line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that a notebook has printed; what goes to stderr stays in the log."""
        if record.levelno == logging.INFO:
            self.show([record.getMessage()])

    def show(self, lines: list[str]) -> None:
        """Show lines below the task that has printed them."""
        for line in lines:
            self.cut_off()
            self.console.write(f"    {line}\n")
            self.console.flush()

    def interject(self, line: str) -> None:
        """Show a line from a signal handler, which may come while another one is being written."""
        start, self.open_line = "\n" * bool(self.open_line), ""
        os.write(self.console.fileno(), f"{start}    {line}\n".encode())

    def cut_off(self) -> None:
        """End the line of a task that is still open."""
        self.console.write("\n" if self.open_line else "")
        self.open_line = ""

    @hookimpl
    def on_task_instance_running(self, previous_state: str, task_instance: object) -> None:
        """Say that a task has begun."""
        self.started = time.monotonic()
        self.begin(task_instance.task_id)

    @hookimpl
    def on_task_instance_success(self, previous_state: str, task_instance: object) -> None:
        """Say that a task has ended well."""
        self._end(task_instance, "ok", "")

    @hookimpl
    def on_task_instance_failed(
        self, previous_state: str, task_instance: object, error: object
    ) -> None:
        """Say that a try has failed, and why."""
        lines = str(error).strip().splitlines() or [repr(error)]
        if lines[-1] == INTERRUPTED:
            self._end(task_instance, "stopped", "")
        else:
            self._end(task_instance, "FAILED", lines[-1])

    @hookimpl
    def on_task_instance_skipped(self, previous_state: str, task_instance: object) -> None:
        """Say that a task had nothing to do; why is told at the end."""
        self._end(task_instance, "skipped", "")

    def begin(self, task_id: str) -> None:
        """Begin the line of a task."""
        self.cut_off()
        self.open_line = f"  {task_id:<14} "
        self.console.write(self.open_line)
        self.console.flush()

    def end(self, task_id: str, outcome: str, reason: str, seconds: float) -> None:
        """End the line of a task: what became of it, how long it took and, below, why."""
        if not self.open_line:
            self.begin(task_id)
        self.console.write(f"{outcome:<7} {seconds:5.1f} s\n")
        self.console.write(f"    {reason}\n" if reason else "")
        self.open_line = ""

    def _end(self, task_instance: object, outcome: str, reason: str) -> None:
        self.end(task_instance.task_id, outcome, reason, time.monotonic() - self.started)


def load_dag(pipeline: str) -> DAG:
    """Return the DAG of `pipeline`, from its file.

    Raises
    ------
    ValueError
        If the file cannot be imported, or defines no DAG of that name.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(layout.dag_file(pipeline))
    if bag.import_errors:
        raise ValueError(f"dags/{pipeline}.py: {next(iter(bag.import_errors.values()))}")
    if pipeline not in bag.dags:
        raise ValueError(f"dags/{pipeline}.py defines {', '.join(bag.dags)}, expected {pipeline}")
    return bag.dags[pipeline]


def configuration(pipeline: str, params: dict[str, Value]) -> dict[str, Value]:
    """Return what to trigger `pipeline` with: checked, on sample data where no source is named.

    A DAG's own values are made for real data; on the sample the notebooks' own are taken, see
    `lib.parameters.values_of_run`.

    Raises
    ------
    ValueError
        If a parameter has an unknown name, a wrong type, or a value outside of its domain.
    """
    declared = merge_parameters(layout.declared(pipeline))
    del declared["run_dir"]  # follows from the DAG run
    asked = check_values(declared, params, owner=pipeline)
    asked.setdefault("source", declared["source"].default)
    if asked["source"] == "":  # of scoring and comparing: nothing of the DAG's own is for a trial
        return {name: parameter.default for name, parameter in declared.items()} | asked
    return asked


def run_dag(pipeline: str, params: dict[str, Value], console: TextIO) -> str:
    """Run `pipeline` with `params` in this process, print how it goes, and say how it ended.

    Returns
    -------
    str
        ``"passed"``, ``"failed"``, or ``"cancelled"`` after Ctrl-C or SIGTERM.

    Raises
    ------
    ValueError
        As `configuration`.
    """
    dag = load_dag(pipeline)
    asked = configuration(pipeline, params)
    account = Account(console)
    console.write(f"{pipeline}  source {asked['source'] or '-'}\n")
    printed = logging.getLogger(PRINTED)
    get_listener_manager().add_listener(account)
    printed.addHandler(account)
    moment = datetime.now(UTC)
    run_id = f"manual__{moment.isoformat()}"
    try:
        with scheduling.alive(pipeline, run_id), interruptible(account) as stopped:
            try:
                done = dag.test(run_conf=asked, logical_date=moment, run_after=moment)
            except KeyboardInterrupt:
                account.cut_off()
            if stopped():
                scheduling.close_run(pipeline, run_id, "cancelled", "stopped by Ctrl-C")
    finally:
        printed.removeHandler(account)
        get_listener_manager().pm.unregister(account)
    state = "cancelled"
    if not stopped():
        state = "passed" if done.state == "success" else "failed"
    _tell(pipeline, run_id, state, console)
    return state


@contextmanager
def interruptible(account: Account) -> Iterator["Interrupt"]:
    """Turn the first SIGINT or SIGTERM of a block into KeyboardInterrupt, and swallow later ones.

    The block's value, called, says whether there was one.
    """
    interrupt = Interrupt(account)
    before = {number: signal.signal(number, interrupt.note) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupt:
    """Whether somebody has asked to stop, and the handler that notes it."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._noted = False

    def __call__(self) -> bool:
        """Say whether there was a signal."""
        return self._noted

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Say so and raise KeyboardInterrupt, once: what follows a first signal is clearing up."""
        if self._noted:
            return
        self._noted = True
        self._account.interject("interrupted: stopping, a moment")
        raise KeyboardInterrupt


def run_by_scheduler(pipeline: str, params: dict[str, Value], console: TextIO) -> str:
    """Let the scheduler that runs beside make a run of `pipeline`, and print how it goes.

    A DAG that is off is switched on for it, and off again afterwards.

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
    from airflow.utils.types import DagRunTriggeredByType

    asked = configuration(pipeline, params)
    console.write(f"{pipeline}  source {asked['source'] or '-'}, by the scheduler of `make up`\n")
    _wait_until_parsed(pipeline)
    shown = Account(console)
    with interruptible(shown), _switched_on(pipeline, console):
        run = trigger_dag(
            pipeline,
            triggered_by=DagRunTriggeredByType.CLI,
            triggering_user_name=account(),
            conf=asked,
        )
        state = "cancelled"
        try:
            state = _follow(pipeline, run.run_id, shown)
        except KeyboardInterrupt:
            scheduling.fail_in_airflow(pipeline, run.run_id)
            _wait_until_stopped(pipeline, run.run_id)
            scheduling.close_run(pipeline, run.run_id, "cancelled", "stopped by Ctrl-C")
    _tell(pipeline, run.run_id, state, console)
    return state


def _wait_until_stopped(pipeline: str, run_id: str) -> None:
    """Wait for the task of a failed run to end: it finds out at its next sign of life."""
    run = run_of_airflow(pipeline, run_id)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if run.path.exists() and summarise(run)["state"] != "running":
            return
        time.sleep(POLL_S)


def _wait_until_parsed(pipeline: str) -> None:
    """Wait until Airflow has the DAG in its database.

    Raises
    ------
    ValueError
        If it has not after `PARSED_S`.
    """
    from airflow.models.dag import DagModel
    from airflow.models.serialized_dag import SerializedDagModel

    deadline = time.monotonic() + PARSED_S
    while time.monotonic() < deadline:
        known = DagModel.get_current(pipeline)
        if known is not None and not known.is_stale and SerializedDagModel.has_dag(pipeline):
            return
        time.sleep(POLL_S)
    raise ValueError(
        f"Airflow has not read dags/{pipeline}.py for {PARSED_S:.0f} s; its own page says why, "
        "under 'Dag import errors'"
    )


@contextmanager
def _switched_on(pipeline: str, console: TextIO) -> Iterator[None]:
    """Switch a DAG on that is off, and off again at the end: a DAG that is off runs nothing."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    def switch(*, off: bool) -> None:
        change = update(DagModel).where(DagModel.dag_id == pipeline).values(is_paused=off)
        with create_session() as session:
            session.execute(change)

    if not DagModel.get_current(pipeline).is_paused:
        yield
        return
    console.write(f"  {pipeline} is off in Airflow: switched on for this run\n")
    switch(off=False)
    try:
        yield
    finally:
        switch(off=True)


def _follow(pipeline: str, run_id: str, shown: "Account") -> str:
    """Print what becomes of a DAG run that a scheduler makes, until it has ended.

    Raises
    ------
    ValueError
        If no scheduler reports any more; the run is closed then.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(DagRun).where(DagRun.dag_id == pipeline, DagRun.run_id == run_id)
    told: dict[str, str] = {}
    logs = _Logs(pipeline, run_id)
    waited = False
    while True:
        with create_session() as session:
            run = session.scalar(query)
            tasks = sorted(
                run.get_task_instances(session=session),
                key=lambda task: (task.start_date is None, task.start_date),
            )
            state = str(run.state)
            if state == "queued" and not waited:
                waited = _tell_what_is_before(pipeline, run_id, session, shown.console)
        for task in tasks:
            _tell_task(task, told, logs, shown)
        if state in ("success", "failed"):
            return "passed" if state == "success" else "failed"
        if scheduling.silence_s() > SCHEDULER_S:
            scheduling.close_run(pipeline, run_id, "lost", "the scheduler of Airflow is gone")
            raise ValueError("the scheduler of Airflow has stopped; start `make up` again")
        time.sleep(POLL_S)


def _tell_what_is_before(pipeline: str, run_id: str, session: object, console: TextIO) -> bool:
    """Say which runs go on, if any: a DAG makes one at a time."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    query = select(DagRun.run_id).where(
        DagRun.dag_id == pipeline, DagRun.state == "running", DagRun.run_id != run_id
    )
    others = list(session.scalars(query))
    if others:
        console.write(f"  waits for {', '.join(others)}\n")
    return bool(others)


def _tell_task(task: "TaskInstance", told: dict[str, str], logs: "_Logs", shown: "Account") -> None:
    """Print what is new of a task: that it has begun, what its notebook prints, how it ended."""
    if task.start_date is None or task.state in (None, "scheduled", "queued"):
        return
    now = f"{task.state} {task.try_number}"
    is_new = told.get(task.task_id) != now
    told[task.task_id] = now
    if task.state == "running" and is_new:
        shown.begin(task.task_id)
        return
    if task.state == "running" or is_new:
        shown.show(logs.fresh(task.task_id, task.try_number))
    if not is_new:
        return
    took = ((task.end_date or datetime.now(UTC)) - task.start_date).total_seconds()
    words = {"success": "ok", "skipped": "skipped", "up_for_retry": "FAILED", "failed": "FAILED"}
    if task.state in words:
        shown.end(task.task_id, words[task.state], _why(logs.run, task), took)


def _why(run: Run, task: "TaskInstance") -> str:
    """Return the last line of a failed stage's error."""
    if task.state not in ("failed", "up_for_retry"):
        return ""
    for stage in summarise(run)["stages"]:
        if stage["name"] == task.task_id and stage["error"]:
            error = stage["error"]
            return f"{error['ename']}: {error['text'].strip()}".splitlines()[-1]
    return "see its log in Airflow"


class _Logs:
    """What the notebooks of a DAG run print, from Airflow's log files on this machine."""

    def __init__(self, pipeline: str, run_id: str) -> None:
        from airflow.sdk.configuration import conf

        base = Path(conf.get("logging", "base_log_folder"))
        self.run = run_of_airflow(pipeline, run_id)
        self._folder = base / f"dag_id={pipeline}" / f"run_id={run_id}"
        self._read: dict[Path, int] = {}

    def fresh(self, task_id: str, number: int) -> list[str]:
        """Return the lines that a task's notebook has printed since the last call."""
        path = self._folder / f"task_id={task_id}" / f"attempt={number}.log"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole = file.read().rpartition(b"\n")[0]
        self._read[path] = self._read.get(path, 0) + len(whole) + bool(whole)
        found = []
        for line in whole.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record.get("logger") == PRINTED and record.get("level") == "info":
                found.append(str(record.get("event", "")))
        return found


def _tell_cancelled(run: Run, console: TextIO) -> None:
    """Say what is left of a run that was interrupted, and how to go on."""
    console.write(f"  cancelled; what its finished stages made stays in {run.path}\n")
    if (run.path / PAGE).exists():
        console.write(f"  report   {run.path / PAGE}\n")
    console.write(
        f"  go on    `make up`, and in Airflow clear the stopped task of {run.pipeline}: it goes "
        "on there\n           or start a new run by the same command\n"
    )


def _tell(pipeline: str, run_id: str, state: str, console: TextIO) -> None:
    """Print where the report, the MLflow run and the model are, and what became of the model."""
    run = run_of_airflow(pipeline, run_id)
    if state == "cancelled":
        _tell_cancelled(run, console)
        return
    page = run.path / PAGE
    console.write(f"  report   {page if page.exists() else f'no page was written to {run.path}'}\n")
    known = tracking.link(run)
    if known:
        console.write(f"  MLflow   run {known['run_id']} in {tracking.tracking_uri()}\n")
    registered = run.path / "registration.json"
    if registered.exists():
        model = run.read("registration.json")
        console.write(f"  model    {model['name']} version {model['version']}, {model['uri']}\n")
    verdict = run.path / "verdict.json"
    if verdict.exists():
        console.write(f"  verdict  {lifecycle.explain(run.read('verdict.json'))}\n")
    else:
        found = read_summary(run)
        if found["state"] == "passed" and found["reason"]:
            console.write(f"  result   {found['reason']}\n")
    decision = read_decision(run)
    if decision:
        console.write(f"  promote  {decision['outcome']}: {decision['reason']}\n")
