"""What a DAG file needs: defaults, when it runs, the trigger form and its tasks.

The form and the checks come from the parameters cells. Nothing heavy is imported while Airflow
parses.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lib.dag.assets import ARRIVED, data_asset, drift_asset, model_asset
from lib.dag.clock import LiveCronTimetable
from lib.dag.notify import failure_callbacks
from lib.dag.operator import NotebookOperator
from lib.dag.promotion import PromotionOperator
from lib.ground import layout
from lib.ground.handover import TAKEN
from lib.ground.parameters import Parameter, Value, check_values, merge_parameters
from lib.ground.runs import run_of_airflow
from lib.once.choice import OPTIONS
from lib.once.taking import words

from airflow.sdk import (
    Asset,
    AssetAlias,
    AssetAny,
    AssetOrTimeSchedule,
    Param,
    XComArg,
    chain,
    task,
    task_group,
)
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk.definitions._internal.node import DAGNode
    from airflow.sdk.types import OutletEventAccessorsProtocol

DRIFT = AssetAlias("drift")
"""Stands for the asset of whichever pipeline the model belongs to, which only a run knows."""

DAG_DEFAULTS = {
    "start_date": datetime(2025, 12, 27, tzinfo=UTC),
    "catchup": False,
    "on_failure_callback": failure_callbacks(),
    "default_args": {"retries": 2, "retry_delay": timedelta(minutes=1)},
}

RUN_DATE = "{{ (dag_run.logical_date or dag_run.run_after).date() }}"
"""The date a run stands for (UTC), as a value for `notebook_params`: a back-fill has its own."""

PROMOTED_MODEL = (
    "{{ (triggering_asset_events.values() | map('last') | sort(attribute='timestamp') | last)"
    ".extra['name'] if triggering_asset_events else '%s' }}"
)
"""The model whose promotion has started the run, the latest of several; else the one filled in."""


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
    by_stage = layout.declared(pipeline)
    merged = merge_parameters(by_stage)
    values = check_values(merged, overrides, owner=pipeline)
    first = {name: stage for stage in reversed(by_stage) for name in by_stage[stage]}
    form = {
        name: _param(parameter, values.get(name, parameter.default), first[name])
        for name, parameter in merged.items()
    }
    return form | _options([*by_stage])


def _options(stages: list[str]) -> dict[str, Param]:
    """Return the part of a form that says which stages are executed, see `lib.once.choice`."""
    kinds = {
        "from_stage": {"enum": ["", *stages]},
        "until_stage": {"enum": ["", *stages]},
        "force": {"type": "boolean"},
        "of": {"type": ["string", "null"]},
    }
    return {
        name: Param(
            kind.get("type") != "boolean" and "",
            title=name,
            description=OPTIONS[name],
            section="What is done again",
            **kind,
        )
        for name, kind in kinds.items()
    }


def notebook_task(
    notebook: str,
    *,
    timeout_minutes: float = 120,
    silent_minutes: float = 30,
    brings_data: bool = False,
    **more: object,
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
    brings_data : bool, default False
        Whether it writes ``arrived.json``, a list of the pipelines that it has brought new data:
        their `data_asset` is updated.
    **more
        Of Airflow's `BaseOperator`: ``trigger_rule="all_done_min_one_success"`` for a stage that
        gathers what mapped stages have left, some of which may have failed; ``pool`` …
    """
    return NotebookOperator(
        task_id=notebook.split("/")[1],
        notebook=notebook,
        timeout=timedelta(minutes=timeout_minutes),
        silent_timeout=timedelta(minutes=silent_minutes),
        outlets=[ARRIVED] if brings_data else [],
        doc_md=f"Runs `notebooks/{notebook}.ipynb`.",
        **more,
    )


def mapped_stages(
    *notebooks: str,
    each: list[dict[str, Value]] | XComArg,
    promote: bool = False,
    pool: str = "default_pool",
) -> "DAGNode":
    """Return a group of tasks that run the same notebooks once for each of many values.

    Each map index has a child run of its own, see `lib.ground.folder.Run`, and goes its way through
    the stages whatever becomes of the others. Follow the group by a stage that gathers what they
    have left: ``notebook_task(…, trigger_rule="all_done_min_one_success")``, which begins if any
    child has gone well. With ``promote`` it must be ``"all_done"``, which begins even if nothing
    has: a child whose model was not promoted ends with a task that was skipped.

    Parameters
    ----------
    *notebooks : str
        As for `notebook_task`, in order.
    each : list of dict, or XComArg
        For each map index the parameters by name; or a task that returns such a list, see
        `list_task`.
    promote : bool, default False
        Whether the last notebook registers a model, so that each child ends with a
        `promotion_task`.
    pool : str, default "default_pool"
        Airflow's pool, which limits how many run at once.
    """
    pipeline = notebooks[0].split("/")[0]

    @task_group(group_id="mapped", prefix_group_id=False)
    def group(mapped: XComArg) -> None:
        tasks = [notebook_task(one, mapped=mapped, pool=pool) for one in notebooks]
        chain(*tasks, *([promotion_task(pipeline)] if promote else []))

    return group.expand(mapped=each)


def list_task(pipeline: str, name: str) -> XComArg:
    """Return the task that hands the list in the JSON file `name` to `mapped_stages`."""

    @task(task_id=Path(name).stem, doc_md=f"Hands on the list in `{name}` of the run.")
    def hand_on(run_id: str) -> list[dict[str, Value]]:
        return run_of_airflow(pipeline, run_id).read(name)

    return hand_on()


def promotion_task(pipeline: str) -> PromotionOperator:
    """Return the task after a register notebook: a version that enters production updates an asset.

    It is that of the pipeline whose models these are, see `lib.ground.layout.owner`.
    With ``promote="approval"`` it waits for a person, and no answer in three days is a "no".
    It is skipped where nothing was promoted, and then the asset is not updated.
    """
    return PromotionOperator(
        task_id="promote",
        pipeline=pipeline,
        response_timeout=timedelta(days=3),
        outlets=[model_asset(layout.owner(pipeline))],
        doc_md="Puts the registered version into production, as `promote` says.",
    )


def alarm_task(pipeline: str) -> XComArg:
    """Return the task after the notebook that watches: on an alarm it updates `drift_asset`.

    It obeys `watch.json` of the run, and is skipped where nothing has drifted. The event of the
    asset carries ``name`` and ``version`` of the model, the ``run_dir`` that found it and ``why``,
    a list of sentences.
    """

    @task(outlets=[DRIFT], doc_md="Says that new data or errors are no longer as in training.")
    def alarm(run_id: str, outlet_events: "OutletEventAccessorsProtocol") -> list[str]:
        run = run_of_airflow(pipeline, run_id)
        watch = run.read("watch.json")
        made = [one for one in run.records().values() if "watch.json" in one["writes"]]
        if made and TAKEN in made[-1]:
            raise AirflowSkipException(f"nothing is new: {words(made[-1])}")
        if not watch["drifted"]:
            raise AirflowSkipException("the data and the errors are as they were in training")
        facts = {key: watch[key] for key in ("name", "version", "why")} | {"run_dir": run.run_dir}
        outlet_events[DRIFT].add(drift_asset(watch["pipeline"]), extra=facts)
        return watch["why"]

    return alarm()


def training_schedule(pipeline: str, cron: str) -> AssetOrTimeSchedule:
    """Return the schedule "at `cron` (UTC), on new data, and when they are no longer as learned".

    See `lib.dag.assets` for who says so.
    """
    return clock_or(cron, data_asset(pipeline), drift_asset(pipeline))


def scoring_schedule(cron: str) -> AssetOrTimeSchedule:
    """Return the schedule "at `cron` (UTC), and when a model of any pipeline enters production"."""
    return clock_or(cron, *map(model_asset, layout.pipelines(ending="_register")))


def clock_or(cron: str, *assets: Asset) -> AssetOrTimeSchedule | LiveCronTimetable:
    """Return the schedule "at `cron` (UTC), and whenever one of `assets` is updated", if there are.

    A time that passes while the DAG is off, or while nothing runs, is not made up for. Airflow's
    lists show "0 of 2 assets updated" for it and no clock: say it in a tag, "daily 03:30 UTC".
    """
    clock = LiveCronTimetable(cron, timezone="UTC")
    return AssetOrTimeSchedule(timetable=clock, assets=AssetAny(*assets)) if assets else clock


def _param(parameter: Parameter, value: Value, stage: str) -> Param:
    text = parameter.meaning[0].upper() + parameter.meaning[1:]
    text += f" [{parameter.domain}]" if parameter.domain else ""
    if value != parameter.default and parameter.name != "source":
        own = "empty" if parameter.may_be_empty else json.dumps(parameter.default)
        text += f". With source sample: {own}, unless you change it"
    return Param(
        value,
        title=parameter.name,
        description=text,
        section=layout.stage_title(stage),
        **parameter.schema(),
    )
