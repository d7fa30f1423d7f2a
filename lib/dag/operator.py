"""The Airflow task that runs one notebook: checked before, watched during, mirrored after.

`NotebookOperator` runs a stage into the run folder of its DAG run with exactly the parameters
that the notebook declares, unless an earlier run has its results (`lib.once.choice`). Whatever
happens, the executed notebook and its HTML say what did, the page of the run and the index of runs
follow, and MLflow gets what the run folder holds. A dead or silent kernel is tried again; an error
in the notebook's own code, a parameter outside of its domain, or an interrupt (Ctrl-C) is not.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lib.dag.notify import tell_promotion
from lib.dag.scheduling import TEST
from lib.ground import layout
from lib.ground.files import ROOT, look_into
from lib.ground.parameters import (
    Value,
    check_values,
    merge_parameters,
    read_parameters,
    values_of_run,
)
from lib.ground.runs import note_start, run_of_airflow
from lib.machine.executor import archive_previous, execute_notebook
from lib.machine.session import StageStopped, StageTimeoutError, import_papermill
from lib.once import choice
from lib.pages.summary import PAGE

import_papermill()  # without the storage back ends that the provider would make it import

from airflow.providers.papermill.operators.papermill import PapermillOperator  # noqa: E402
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException  # noqa: E402

if TYPE_CHECKING:
    from lib.run import Run

    from airflow.sdk import Context
    from upath import UPath


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
    **kwargs
        Passed to Airflow's `BaseOperator`.
    """

    template_fields = ()
    ui_color = "#e8eef7"

    def __init__(
        self,
        *,
        notebook: str,
        timeout: timedelta,
        silent_timeout: timedelta,
        **kwargs: object,
    ) -> None:
        super().__init__(
            input_nb=str(layout.notebook(*notebook.split("/"))),
            log_output=True,
            execution_timeout=timeout + timedelta(minutes=5),
            **kwargs,
        )
        self.pipeline, self.stage = notebook.split("/")
        self.timeout = timeout
        self.silent_timeout = silent_timeout
        dag = self.get_dag()  # its parameters now: Airflow puts a run's values into them
        params = dag.params.items() if dag else ()
        self.written = {name: param.value for name, param in params if name not in choice.OPTIONS}

    @interrupt_is_final()
    def execute(self, context: "Context") -> str:
        """Run the notebook and return where its report is, below `OUTPUTS_DIR`."""
        run, dag_run = run_of_airflow(self.pipeline, context["run_id"]), context["dag_run"]
        options, asked = choice.split(dag_run.conf or {})
        if choice.is_left_out(self.stage, options):
            raise AirflowSkipException(f"the run ends with {options['until_stage']}, as asked")
        with look_into(run.path):
            run.prepare()
            self.log.info("run folder: %s", run.path)
            note_start(
                run,
                dag_id=context["dag"].dag_id,
                run_id=context["run_id"],
                run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
                who=None if runs_without_server(context) else dag_run.triggering_user_name,
                until=options.get("until_stage"),
            )
            last = not any(isinstance(task, NotebookOperator) for task in self.downstream_list)
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
            own = {n: values[n] for n in read_parameters(Path(self.input_nb)) if n in values}
            done = execute_notebook(
                self.input_nb,
                notebook,
                own | {"run_dir": run.run_dir},
                cwd=ROOT,
                timeout_s=self.timeout.total_seconds(),
                silent_timeout_s=self.silent_timeout.total_seconds(),
                log_output=True,
            )
        except BaseException as error:
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
            try:
                self._mirror(run, values, "FINISHED" if last else "RUNNING", usage)
            finally:
                publish_page(run, complete=True)
            if "registration.json" in run.record(self.stage)["writes"]:
                tell_promotion(run)
            return f"{run.run_dir}/{self.stage}.html"

    def on_kill(self) -> None:
        """End the task when Airflow stops it; the notebook's report has been written by then."""
        raise StageStopped("Airflow stopped the task")

    def _prepare_kernels(self) -> None:
        """Start what the kernels of this stage and of those after it are forked from."""
        from lib.machine import provisioner

        coming = [stage for stage in layout.planned(self.pipeline) if stage >= self.stage]
        provisioner.prepare(layout.notebook(self.pipeline, stage) for stage in coming)

    def _look(
        self, run: "Run", context: "Context", asked: dict, options: dict
    ) -> tuple[dict[str, Value], choice.Found, Exception | None]:
        """Return values, what can be had without executing, and why the stage must not begin."""
        values: dict[str, Value] = {}
        try:
            values = self._values(context, asked)
            choice.check(self.pipeline, options)
            found = choice.obtain(run, self.stage, values, options)
        except ValueError as error:
            return values, choice.Found(), error
        except (OSError, SyntaxError):  # the notebook itself will say what is wrong
            logger.exception("It could not be found out whether the stage was done before")
            return values, choice.Found(), None
        self.log.info("%s: %s", self.stage, found.told or "; ".join(found.why))
        return values, found, None

    def _leave(self, run: "Run", values: dict, found: choice.Found, *, last: bool) -> str:
        """Tell page and MLflow of a stage that was not executed; return as `execute`."""
        try:
            if last:
                self._mirror(run, values, "FINISHED", {})
        finally:
            publish_page(run, complete=last)
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
        values = values_of_run(declared, self.written, asked)
        for name, value in values.items():
            if value == self.written.get(name):  # what a person enters is never a template
                values[name] = self.render_template(value, context)
        return check_values(declared, values, owner=self.pipeline)

    def _mirror(self, run: "Run", values: dict[str, Value], status: str, usage: dict) -> None:
        from lib import tracking

        known = tracking.mirror(run, status=status, metrics=usage, parameters=values)
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


def runs_without_server(context: "Context") -> bool:
    """Say whether `dag.test` runs the DAG, `make run` for example: nobody can be asked then."""
    return context["dag_run"].triggering_user_name == TEST


def publish_page(run: "Run", *, complete: bool = False) -> None:
    """Write the page of `run` and the index; a failure to do so is no failure of the stage.

    The page is there at once. A `complete` one, which waits for MLflow, names the run's MLflow
    run, compares with the version that serves, and is logged.
    """
    from lib import tracking
    from lib.pages import publish

    try:
        publish.publish(run, ask_registry=complete)
        if complete:
            tracking.log_page(run, PAGE)
    except Exception:
        logger.exception("The page of the run could not be written or logged")


def _report_refusal(source: Path, notebook: "UPath", error: BaseException) -> None:
    """Leave a report of a stage that never began: its notebook without outputs, and why."""
    from lib.ground import outcome
    from lib.pages import notebook as reports

    content = outcome.read_notebook(source)
    outcome.mark_failed(content, None, type(error).__name__, str(error))
    outcome.write_notebook(notebook, content)
    reports.write_html(notebook)


def _is_final(error: BaseException) -> bool:
    """Say whether the same notebook would fail in the same way again."""
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, StageTimeoutError):
        return error.limit == "timeout_s"
    return isinstance(error, PapermillExecutionError | ValueError)  # as a refused parameter
