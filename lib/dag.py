"""What a DAG file needs: defaults, the trigger form, and one task per notebook.

Everything is derived from the parameters cells. Nothing heavy is imported while Airflow parses.
"""

import re
from datetime import UTC, datetime, timedelta

from lib.notify import failure_callbacks
from lib.operator import NotebookOperator
from lib.parameters import Parameter, Value, check_values, merge_parameters, read_stages
from lib.run import ROOT

from airflow.sdk import Param

DAG_DEFAULTS = {
    "start_date": datetime(2025, 12, 27, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "on_failure_callback": failure_callbacks(),
    "default_args": {"retries": 2, "retry_delay": timedelta(minutes=1)},
}

RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after).date() }}"
"""The date a run stands for (UTC), as a value for `notebook_params`: a back-fill has its own."""


def notebook_params(pipeline: str, **overrides: Value) -> dict[str, Param]:
    """Return the trigger form of `pipeline`: a `Param` for every parameter, `run_dir` left out.

    Parameters
    ----------
    pipeline : str
        A folder below `notebooks/`.
    **overrides : int, float, str, bool or list
        Defaults of the scheduled run, where they differ from the notebooks' own. Texts may be
        Jinja templates, such as `RUN_DATE`: a task fills in what the DAG file wrote, and takes
        what a person enters as it is.

    Raises
    ------
    ValueError
        If no notebook declares an override, its value is outside of the domain, or two notebooks
        disagree on a parameter.
    """
    by_stage = read_stages(ROOT / "notebooks" / pipeline)
    merged = merge_parameters(by_stage)
    del merged["run_dir"]
    values = check_values(merged, overrides, owner=pipeline)
    first = {name: stage for stage in reversed(by_stage) for name in by_stage[stage]}
    return {
        name: _param(parameter, values.get(name, parameter.default), first[name])
        for name, parameter in merged.items()
    }


def notebook_task(
    notebook: str, *, timeout_minutes: float = 120, silent_minutes: float = 30
) -> NotebookOperator:
    """Return the task that runs ``<pipeline>/<stage>``; its id is the stage's name.

    Parameters
    ----------
    notebook : str
        ``power/01_load`` for example.
    timeout_minutes : float, default 120
        Time limit of the whole notebook.
    silent_minutes : float, default 30
        How long one cell may run without printing anything.
    """
    return NotebookOperator(
        task_id=notebook.split("/")[1],
        notebook=notebook,
        timeout=timedelta(minutes=timeout_minutes),
        silent_timeout=timedelta(minutes=silent_minutes),
        doc_md=f"Runs `notebooks/{notebook}.ipynb`.",
    )


def _param(parameter: Parameter, value: Value, stage: str) -> Param:
    number, verb = re.fullmatch(r"(\d+)_(.+)", stage).groups()
    meaning = parameter.meaning[0].upper() + parameter.meaning[1:]
    domain = f" [{parameter.domain}]" if parameter.domain else ""
    return Param(
        value,
        title=parameter.name,
        description=f"{meaning}{domain}",
        section=f"{int(number)} · {verb.replace('_', ' ').capitalize()}",
        **parameter.schema(),
    )
