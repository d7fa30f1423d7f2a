"""The Airflow task that runs one notebook: checked before, watched during, mirrored after.

`NotebookOperator` runs a stage into the run folder of its DAG run with exactly the parameters
that the notebook declares, unless an earlier run has its results (`lib.once.choice`). Whatever
happens, the executed notebook and its HTML say what did, the page of the run and the index of runs
follow, and MLflow gets what the run folder holds. A dead or silent kernel is tried again, and so is
a store that does not answer; an error in the notebook's own code, a parameter outside of its
domain, or an interrupt (Ctrl-C) is not.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lib.dag.assets import ARRIVED, data_asset
from lib.dag.lost import tell_lost
from lib.dag.notify import tell_promotion
from lib.dag.scheduling import TEST
from lib.dag.telling import publish_page
from lib.ground import aside, attempts, layout
from lib.ground.files import ROOT, look_into
from lib.ground.folder import MAPPED
from lib.ground.parameters import (
    Value,
    check_values,
    merge_parameters,
    read_parameters,
    values_of_run,
)
from lib.ground.runs import gather, note_start, run_of_airflow
from lib.machine.executor import archive_previous, execute_notebook
from lib.machine.scratch import mirrored
from lib.machine.session import StageStopped, StageTimeoutError, import_papermill
from lib.once import choice

import_papermill()  # without the storage back ends that the provider would make it import

from airflow.providers.papermill.operators.papermill import PapermillOperator  # noqa: E402
from airflow.sdk.configuration import conf  # noqa: E402
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException  # noqa: E402

if TYPE_CHECKING:
    from lib.run import Run

    from airflow.sdk import DAG, Context
    from upath import UPath


ARRIVALS = "arrived.json"  # the pipelines that a stage has brought new data
STORE_AWAY = re.compile(
    r"EndpointConnectionError|ConnectTimeoutError|ReadTimeoutError|ConnectionClosedError|SlowDown"
    r"|reduce your request rate|Service ?Unavailable"
)
"""What S3 is told of by botocore, s3fs or itself when it does not answer, or has too much to do."""

logger = logging.getLogger(__name__)


@contextmanager
def interrupt_is_final() -> Iterator[None]:
    """Fail the task for good where its process is interrupted: Airflow would try it again."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise AirflowFailException("interrupted by Ctrl-C or a signal") from error


class NotebookOperator(PapermillOperator):
    """Run one notebook of a pipeline into the run folder of the DAG run.

    Parameters
    ----------
    notebook : str
        ``<pipeline>/<stage>``, below `notebooks/`.
    timeout : timedelta
        Time limit of the whole notebook.
    silent_timeout : timedelta
        How long a cell may run without any output.
    mapped : dict, optional
        Of a mapped stage: the parameters that differ from one map index to the next.
    **kwargs
        Passed to Airflow's `BaseOperator`.
    """

    template_fields = ("mapped",)
    ui_color = "#e8eef7"

    def __init__(
        self,
        *,
        notebook: str,
        timeout: timedelta,
        silent_timeout: timedelta,
        mapped: dict[str, Value] | None = None,
        **kwargs: object,
    ) -> None:
        kwargs |= {"on_failure_callback": tell_lost, "on_retry_callback": tell_lost}
        super().__init__(
            input_nb=str(layout.notebook(*notebook.split("/"))),
            log_output=True,
            execution_timeout=timeout + timedelta(minutes=5),
            **kwargs,
        )
        self.pipeline, self.stage = notebook.split("/")
        self.timeout = timeout
        self.silent_timeout = silent_timeout
        self.mapped = mapped or {}
        dag = self.get_dag()  # its parameters now: Airflow puts a run's values into them
        params = dag.params.items() if dag else ()
        self.written = {name: param.value for name, param in params if name not in choice.OPTIONS}

    @interrupt_is_final()
    def execute(self, context: "Context") -> str:
        """Run the notebook and return where its report is, below `OUTPUTS_DIR`."""
        run, dag_run = run_of(self.pipeline, context), context["dag_run"]
        options, asked = choice.split(dag_run.conf or {})
        if choice.is_left_out(self.stage, options):
            raise AirflowSkipException(f"the run ends with {options['until_stage']}, as asked")
        with look_into(run.path):
            run.prepare()
            self.log.info("run folder: %s", run.path)
            self._note_start(run, context, options)
            after = self.get_flat_relatives(upstream=False)
            others = [task for task in after if isinstance(task, NotebookOperator)]
            last = not any(self._shares(task) for task in others)
            last |= self.stage == options.get("until_stage")
            values, found, refusal = self._look(run, context, asked, options)
            if found.record:
                return self._leave(run, values, found, last=last)
            notebook = run.path / f"{self.stage}.ipynb"
            archive_previous(notebook)
            if runs_without_server(context) and not refusal:
                self._prepare_kernels()
            publish_page(run)
        try:
            if refusal:
                raise refusal
            if found.key.get("acts"):  # the registry knows a run by its MLflow run
                self._mirror(run, values, "RUNNING", {})
            attempt = attempts.mine(run.run_dir, self.stage)
            own = {n: values[n] for n in read_parameters(Path(self.input_nb)) if n in values}
            with mirrored(run, self.stage, attempt):
                done = execute_notebook(
                    self.input_nb,
                    notebook,
                    own | {"run_dir": run.run_dir},
                    cwd=ROOT,
                    timeout_s=self.timeout.total_seconds(),
                    silent_timeout_s=self.silent_timeout.total_seconds(),
                    log_output=True,
                    attempt=attempt,
                )
        except BaseException as error:
            if _is_given_up(error):  # what there is to tell, another attempt tells
                raise AirflowFailException(str(error)) from error
            self._tell_failure(run, values, error)
            if _is_final(error):
                raise AirflowFailException(str(error)) from error
            raise
        usage = {
            f"{self.stage}_seconds": done.seconds,
            f"{self.stage}_peak_memory_mb": done.peak_memory_bytes / 1e6,
        }
        with look_into(run.path):
            self._remember(run, values, found)
            told = True
            try:
                self._mirror(run, values, "FINISHED" if last else "RUNNING", usage)
            except Exception:  # the notebook is done, and what comes next tells of it as well
                told = False
                logger.exception("MLflow could not be told; the next stage does so")
            publish_page(run, complete=told)
            if "registration.json" in run.record(self.stage)["writes"]:
                tell_promotion(run)
            for name in run.read(ARRIVALS) if ARRIVED in self.outlets else ():
                facts = {"run_dir": run.run_dir}
                context["outlet_events"][ARRIVED].add(data_asset(name), extra=facts)
            return f"{run.run_dir}/{self.stage}.html"

    def on_kill(self) -> None:
        """End the task when Airflow stops it; the notebook's report has been written by then."""
        raise StageStopped("Airflow stopped the task")

    def _note_start(self, run: "Run", context: "Context", options: dict) -> None:
        """Keep how the run has begun, of a child run its parent too; gather mapped stages."""
        dag_run, stages = context["dag_run"], notebook_tasks(context["dag"])
        mapped = [task.stage for task in stages if task.get_closest_mapped_task_group()]
        facts = {
            "dag_id": context["dag"].dag_id,
            "run_id": context["run_id"],
            "run_type": str(getattr(dag_run.run_type, "value", dag_run.run_type)),
            "who": None if runs_without_server(context) else dag_run.triggering_user_name,
            "until": options.get("until_stage"),
            MAPPED: mapped,
        }
        if run.parent:
            note_start(run.parent, **facts)
            own = {"map_index": str(context["ti"].map_index), "values": self.mapped}
            note_start(run, **facts | own)
        else:
            note_start(run, **facts)
            gather(run, [stage for stage in mapped if stage < self.stage])

    def _shares(self, other: "NotebookOperator") -> bool:
        """Say whether another task works in the same run folder: the run's, or a child run's."""
        mine, its = self.get_closest_mapped_task_group(), other.get_closest_mapped_task_group()
        return bool(mine) == bool(its)

    def _prepare_kernels(self) -> None:
        """Start what the kernels of this stage and of those after it are forked from."""
        from lib.machine import provisioner

        coming = [stage for stage in layout.planned(self.pipeline) if stage >= self.stage]
        provisioner.prepare(layout.notebook(self.pipeline, stage) for stage in coming)

    def _begin(self, run: "Run", context: "Context") -> None:
        """Begin an attempt at the stage, from the code that the run's other stages had.

        Where one machine does everything, or somebody has cleared a task of the run, its code may
        have changed meanwhile, and the stages' records say so.

        Raises
        ------
        ValueError
            If the code is another.
        """
        task, dag_run = context["ti"], context["dag_run"]
        attempt = attempts.begin(run.run_dir, self.stage, task.try_number, str(task.id))
        apart = attempts.other_code(run.records(), attempt["code"])
        one_machine = "Local" in conf.get("core", "executor") or runs_without_server(context)
        if apart and not one_machine and not dag_run.clear_number:
            raise ValueError(
                f"{self.stage} would be executed from {attempt['code']} on {attempt['host']}, but "
                f"{apart}: bring all workers to one commit, then clear this task, or begin a run"
            )

    def _look(
        self, run: "Run", context: "Context", asked: dict, options: dict
    ) -> tuple[dict[str, Value], choice.Found, Exception | None]:
        """Return values, what can be had without executing, and why the stage must not begin."""
        values: dict[str, Value] = {}
        try:
            values = self._values(context, asked)
            choice.check(self.pipeline, options)
            found = choice.obtain(run, self.stage, values, options)
            if not found.record:
                self._begin(run, context)
        except ValueError as error:
            return values, choice.Found(), error
        except (OSError, SyntaxError):  # the notebook itself will say what is wrong
            logger.exception("It could not be found out whether the stage was done before")
            self._begin(run, context)
            return values, choice.Found(), None
        self.log.info("%s: %s", self.stage, found.told or "; ".join(found.why))
        return values, found, None

    def _leave(self, run: "Run", values: dict, found: choice.Found, *, last: bool) -> str:
        """Tell page and MLflow of a run whose last stage was not executed; return as `execute`.

        A stage after this one that is executed tells of both.
        """
        if last:
            try:
                self._mirror(run, values, "FINISHED", {})
            finally:
                publish_page(run, complete=True)
        return f"{run.run_dir}/{self.stage}.html"

    def _remember(self, run: "Run", values: dict, found: choice.Found) -> None:
        try:
            found.remember(run, self.stage, values)
        except (OSError, ValueError, SyntaxError):  # so it will be executed the next time
            logger.exception("The stage could not be noted as done")

    def _values(self, context: "Context", asked: dict) -> dict[str, Value]:
        """Return every parameter of the pipeline for this DAG run, checked and in its type.

        Raises
        ------
        ValueError
            If one has an unknown name, a wrong type, or a value outside of its domain.
        """
        declared = merge_parameters(layout.declared(self.pipeline))
        values = values_of_run(declared, self.written, asked) | self.mapped
        for name, value in values.items():
            if value == self.written.get(name):  # what a person enters is never a template
                values[name] = self.render_template(value, context)
        return check_values(declared, values, owner=self.pipeline)

    def _mirror(self, run: "Run", values: dict[str, Value], status: str, usage: dict) -> None:
        from lib import tracking

        known = aside.call(tracking.mirror, run, status=status, metrics=usage, parameters=values)
        self.log.info("MLflow run %s in %s", known["run_id"], tracking.tracking_uri())

    def _tell_failure(self, run: "Run", values: dict[str, Value], error: BaseException) -> None:
        """Tell page and MLflow of a failure; a second one on the way is added to the first."""
        notebook = run.path / f"{self.stage}.ipynb"
        try:
            if not notebook.exists():
                _report_refusal(Path(self.input_nb), notebook, error)
            killed = isinstance(error, KeyboardInterrupt | StageStopped)
            self._mirror(run, values, "KILLED" if killed else "FAILED", {})
        except Exception as second:  # the first error is the one to be raised, with this on it
            error.add_note(f"and MLflow could not be told: {second}")
        publish_page(run, complete=True)


def notebook_tasks(dag: "DAG") -> list[NotebookOperator]:
    """Return the tasks of a DAG that run notebooks, in order of their stages."""
    found = [task for task in dag.tasks if isinstance(task, NotebookOperator)]
    return sorted(found, key=lambda task: task.stage)


def run_of(pipeline: str, context: "Context") -> "Run":
    """Return the run folder that a task works in: of a mapped one, that of its child run."""
    return run_of_airflow(pipeline, context["run_id"], context["ti"].map_index)


def runs_without_server(context: "Context") -> bool:
    """Say whether `dag.test` runs the DAG, `make run` for example: nobody can be asked then."""
    return context["dag_run"].triggering_user_name == TEST


def _report_refusal(source: Path, notebook: "UPath", error: BaseException) -> None:
    """Leave a report of a stage that never began: its notebook without outputs, and why."""
    from lib.ground import outcome
    from lib.pages import notebook as reports

    content = outcome.read_notebook(source)
    outcome.mark_failed(content, None, type(error).__name__, str(error))
    outcome.write_notebook(notebook, content)
    reports.write_html(notebook)


def _is_given_up(error: BaseException) -> bool:
    """Say whether the executor or the notebook was told that another attempt counts."""
    name = attempts.StageGivenUp.__name__
    return name in (type(error).__name__, getattr(error, "ename", ""))


def _is_final(error: BaseException) -> bool:
    """Say whether the same notebook would fail in the same way again."""
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, StageTimeoutError):
        return error.limit == "timeout_s"
    if isinstance(error, PapermillExecutionError) and STORE_AWAY.search(
        f"{error.ename}: {error.evalue}"
    ):
        return False
    return isinstance(error, PapermillExecutionError | ValueError)  # as a refused parameter
