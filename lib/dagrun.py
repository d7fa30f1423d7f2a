"""One DAG run in this process, without a scheduler: `dag.test` with a short account of it."""

import logging
import time
from typing import TextIO

from lib import registry, tracking
from lib.executor import import_papermill
from lib.parameters import Value, check_values, merge_parameters, read_stages
from lib.run import ROOT, open_run, run_folder_name
from lib.summary import PAGE, read_summary

import_papermill()  # before Airflow, which is then quicker to import

from lib.promotion import read_decision  # noqa: E402

from airflow.listeners import hookimpl  # noqa: E402
from airflow.sdk import DAG  # noqa: E402
from airflow.sdk.listener import get_listener_manager  # noqa: E402

PRINTED = "lib.executor.stream"  # the log of what notebooks print


class Account(logging.Handler):
    """Prints one line when a task starts and ends, and what its notebook prints meanwhile."""

    def __init__(self, console: TextIO) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.started = 0.0
        self.open_line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that a notebook has printed; what goes to stderr stays in the log."""
        if record.levelno != logging.INFO:
            return
        self.console.write("\n" if self.open_line else "")
        self.console.write(f"    {record.getMessage()}\n")
        self.console.flush()
        self.open_line = ""

    @hookimpl
    def on_task_instance_running(self, previous_state: str, task_instance: object) -> None:
        """Say that a task has begun."""
        self.started = time.monotonic()
        self._begin(task_instance)

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
        self._end(task_instance, "FAILED", f"    {lines[-1]}\n")

    @hookimpl
    def on_task_instance_skipped(self, previous_state: str, task_instance: object) -> None:
        """Say that a task had nothing to do; why is told at the end."""
        self._end(task_instance, "skipped", "")

    def _begin(self, task_instance: object) -> None:
        self.open_line = f"  {task_instance.task_id:<14} "
        self.console.write(self.open_line)
        self.console.flush()

    def _end(self, task_instance: object, outcome: str, reason: str) -> None:
        if not self.open_line:
            self._begin(task_instance)
        self.console.write(f"{outcome:<7} {time.monotonic() - self.started:5.1f} s\n{reason}")
        self.open_line = ""


def load_dag(pipeline: str) -> DAG:
    """Return the DAG of `pipeline`, from its file.

    Raises
    ------
    ValueError
        If the file cannot be imported, or defines no DAG of that name.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags" / f"{pipeline}.py")
    if bag.import_errors:
        raise ValueError(f"dags/{pipeline}.py: {next(iter(bag.import_errors.values()))}")
    if pipeline not in bag.dags:
        raise ValueError(f"dags/{pipeline}.py defines {', '.join(bag.dags)}, expected {pipeline}")
    return bag.dags[pipeline]


def configuration(pipeline: str, params: dict[str, Value]) -> dict[str, Value]:
    """Return what to trigger `pipeline` with: checked, on sample data where no source is named.

    A DAG's own values are made for real data, so sample data gets the notebooks' own, small ones.

    Raises
    ------
    ValueError
        If a parameter has an unknown name, a wrong type, or a value outside of its domain.
    """
    declared = merge_parameters(read_stages(ROOT / "notebooks" / pipeline))
    del declared["run_dir"]  # follows from the DAG run
    asked = check_values(declared, params, owner=pipeline)
    values = {name: parameter.default for name, parameter in declared.items()} | asked
    return values if values["source"] in ("sample", "") else asked


def run_dag(pipeline: str, params: dict[str, Value], console: TextIO) -> bool:
    """Run `pipeline` with `params`, print how it goes, and say whether every stage passed.

    Raises
    ------
    ValueError
        As `configuration`.
    """
    dag = load_dag(pipeline)
    asked = configuration(pipeline, params)
    account = Account(console)
    console.write(f"{pipeline}  source {asked['source']}\n")
    printed = logging.getLogger(PRINTED)
    get_listener_manager().add_listener(account)
    printed.addHandler(account)
    try:
        done = dag.test(run_conf=asked)
    finally:
        printed.removeHandler(account)
        get_listener_manager().pm.unregister(account)
    _tell(pipeline, done.run_id, console)
    return done.state == "success"


def _tell(pipeline: str, run_id: str, console: TextIO) -> None:
    """Print where the report, the MLflow run and the model are, and what became of the model."""
    run = open_run(f"{pipeline}/{run_folder_name(run_id)}")
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
        console.write(f"  verdict  {registry.explain(run.read('verdict.json'))}\n")
    else:
        found = read_summary(run)
        if found["state"] == "passed" and found["reason"]:
            console.write(f"  result   {found['reason']}\n")
    decision = read_decision(run)
    if decision:
        console.write(f"  promote  {decision['outcome']}: {decision['reason']}\n")
