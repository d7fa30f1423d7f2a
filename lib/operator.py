"""The Airflow task that runs one notebook: checked before, watched during, mirrored after.

`NotebookOperator` runs a stage into the run folder of its DAG run with exactly the parameters
that the notebook declares. Whatever happens, the executed notebook and its HTML say what did, the
page of the run and the index of runs follow, and MLflow gets what the run folder holds. A dead or
silent kernel is tried again; an error in the notebook's own code, or a parameter outside of its
domain, is not.
"""

import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lib.executor import (
    StageStopped,
    StageTimeoutError,
    archive_previous,
    execute_notebook,
    import_papermill,
)
from lib.notify import tell_promotion
from lib.parameters import Value, check_values, merge_parameters, read_stages
from lib.run import ROOT, open_run, run_folder_name
from lib.summary import PAGE, note_start

import_papermill()  # without the storage back ends that the provider would make it import

from airflow.providers.papermill.operators.papermill import PapermillOperator  # noqa: E402
from airflow.sdk.exceptions import AirflowFailException  # noqa: E402

if TYPE_CHECKING:
    from lib.run import Run

    from airflow.sdk import Context
    from upath import UPath


TEST = "dag_test"  # who has triggered a run, where `dag.test` has

logger = logging.getLogger(__name__)


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
            input_nb=str(ROOT / "notebooks" / f"{notebook}.ipynb"),
            log_output=True,
            execution_timeout=timeout + timedelta(minutes=5),
            **kwargs,
        )
        self.pipeline, self.stage = notebook.split("/")
        self.timeout = timeout
        self.silent_timeout = silent_timeout

    def execute(self, context: "Context") -> str:
        """Run the notebook and return where its report is, below `OUTPUTS_DIR`."""
        run = open_run_of(self.pipeline, context)
        run.prepare()
        self.log.info("run folder: %s", run.path)
        _note_start(run, context)
        notebook = run.path / f"{self.stage}.ipynb"
        archive_previous(notebook)
        publish_page(run)
        try:
            parameters = self._parameters(context, run)
        except ValueError as error:
            _report_refusal(Path(self.input_nb), notebook, error)
            publish_page(run)
            raise AirflowFailException(str(error)) from error
        try:
            done = execute_notebook(
                self.input_nb,
                notebook,
                parameters,
                cwd=ROOT,
                timeout_s=self.timeout.total_seconds(),
                silent_timeout_s=self.silent_timeout.total_seconds(),
                log_output=True,
            )
        except BaseException as error:
            self._mirror_failure(run, context, error)
            if _is_final(error):
                raise AirflowFailException(str(error)) from error
            raise
        usage = {
            f"{self.stage}_seconds": done.seconds,
            f"{self.stage}_peak_memory_mb": done.peak_memory_bytes / 1e6,
        }
        last = not any(isinstance(task, NotebookOperator) for task in self.downstream_list)
        publish_page(run)
        try:
            self._mirror(run, context, "FINISHED" if last else "RUNNING", usage)
        finally:
            publish_page(run, complete=True)
        if "registration.json" in run.record(self.stage)["writes"]:
            tell_promotion(run)
        return f"{run.run_dir}/{self.stage}.html"

    def on_kill(self) -> None:
        """End the task when Airflow stops it; the notebook's report has been written by then."""
        raise StageStopped("Airflow stopped the task")

    def _parameters(self, context: "Context", run: "Run") -> dict[str, Value]:
        """Return what to pass to the notebook, after a look at everything that was asked for."""
        by_stage = read_stages(Path(self.input_nb).parent)
        asked = self._asked(context)
        declared = merge_parameters(by_stage)
        del declared["run_dir"]  # follows from the DAG run
        checked = check_values(declared, asked, owner=self.pipeline)
        mine = {name: checked[name] for name in by_stage[self.stage] if name in checked}
        return mine | {"run_dir": run.run_dir}

    def _asked(self, context: "Context") -> dict[str, Value]:
        """Return the values of this DAG run, with the DAG file's own templates filled in."""
        asked = {**context["params"], **(context["dag_run"].conf or {})}
        written = {name: param.value for name, param in context["dag"].params.items()}
        templates = {
            name: value
            for name, value in asked.items()
            if isinstance(value, str) and "{{" in value and value == written.get(name)
        }
        return asked | {n: self.render_template(t, context) for n, t in templates.items()}

    def _mirror(
        self, run: "Run", context: "Context", status: str, metrics: dict[str, float]
    ) -> None:
        from lib import tracking

        tags = {"airflow_dag": context["dag"].dag_id, "airflow_run": context["run_id"]}
        known = tracking.mirror(
            run, status=status, tags=tags, metrics=metrics, parameters=self._asked(context)
        )
        self.log.info("MLflow run %s in %s", known["run_id"], tracking.tracking_uri())

    def _mirror_failure(self, run: "Run", context: "Context", error: BaseException) -> None:
        """Tell MLflow of a failure; a second failure on the way is added to the first."""
        notebook = run.path / f"{self.stage}.ipynb"
        publish_page(run)
        try:
            if not notebook.exists():
                _report_refusal(Path(self.input_nb), notebook, error)
            self._mirror(run, context, "FAILED", {})
        except Exception as second:  # the first error is the one to be raised, with this on it
            error.add_note(f"and MLflow could not be told: {second}")
        publish_page(run, complete=True)


def open_run_of(pipeline: str, context: "Context") -> "Run":
    """Return the run folder of the DAG run of `context`."""
    return open_run(f"{pipeline}/{run_folder_name(context['run_id'])}")


def runs_without_server(context: "Context") -> bool:
    """Say whether `dag.test` runs the DAG, `make run` for example: nobody can be asked then."""
    return context["dag_run"].triggering_user_name == TEST


def publish_page(run: "Run", *, complete: bool = False) -> None:
    """Write the page of `run` and the index; a failure to do so is no failure of the stage.

    The page is there at once. A `complete` one, which waits for MLflow, names the run's MLflow
    run, compares with the version that serves, and is logged.
    """
    from lib import run_page, tracking

    try:
        run_page.publish(run, ask_registry=complete)
        if complete:
            tracking.log_page(run, PAGE)
    except Exception:
        logger.exception("The page of the run could not be written or logged")


def _note_start(run: "Run", context: "Context") -> None:
    dag_run = context["dag_run"]
    note_start(
        run,
        dag_id=context["dag"].dag_id,
        run_id=context["run_id"],
        run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
        who=None if runs_without_server(context) else dag_run.triggering_user_name,
    )


def _report_refusal(source: Path, notebook: "UPath", error: BaseException) -> None:
    """Leave a report of a stage that never began: its notebook without outputs, and why."""
    from lib import outcome, reports

    content = outcome.read_notebook(source)
    outcome.mark_failed(content, None, type(error).__name__, str(error))
    outcome.write_notebook(notebook, content)
    reports.write_html(notebook)


def _is_final(error: BaseException) -> bool:
    """Say whether the same notebook would fail in the same way again."""
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, StageTimeoutError):
        return error.limit == "timeout_s"
    return isinstance(error, PapermillExecutionError)
