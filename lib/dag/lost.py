"""What is done about an attempt at a stage of which Airflow hears nothing any more.

Its machine is gone, or cut off. Airflow's scheduler notices after
`[scheduler] task_instance_heartbeat_timeout` and has its DAG processor, on another machine, call
`tell_lost`: the attempt is closed, and the report says so, before another one begins.
"""

from typing import TYPE_CHECKING

from lib.ground import attempts, runs
from lib.ground.folder import RECORDS
from lib.machine.executor import finish_report

from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import Context


def tell_lost(context: "Context") -> None:
    """Close the attempt that `context` describes, and write the run's page.

    It is a callback for a failure and for a retry. Where the task's own process calls it, which
    has told everything itself, it does nothing.
    """
    if "exception" in context:
        return
    from lib import tracking
    from lib.pages import publish

    task = context["ti"]
    run = runs.run_of_airflow(task.dag_id, task.run_id, task.map_index)
    place = run.path / RECORDS / f"{task.task_id}.json"
    if not attempts.give_up(place, task.task_id, task.try_number, str(task.id)):
        return
    silent_s = conf.getint("scheduler", "task_instance_heartbeat_timeout")
    reason = (
        f"nothing was heard for {silent_s} s of the process that executed this stage, on "
        f"{task.hostname or 'a machine without a name'}: it was killed, or its machine is down or "
        "cut off"
    )
    finish_report(run.path / f"{task.task_id}.ipynb", reason)
    is_last = task.try_number > task.max_tries
    if is_last:
        tracking.close(run, "FAILED")
        runs.close_run(run, "lost", reason)
    publish.publish(run, ask_registry=False)
