"""Score: predict for what has arrived since the last time, and see whether it is still as it was.

Every day for the model of `power`, and for any model as soon as a version of it enters production.
Predictions go to a store in which no row is scored twice; when the data or the errors are no longer
as in training, the last task updates an asset on which training starts. Notebooks:
`notebooks/score/`; run folders: `outputs/score/`.
"""

from lib.dag.form import (
    DAG_DEFAULTS,
    PROMOTED_MODEL,
    alarm_task,
    notebook_params,
    notebook_task,
    scoring_schedule,
)

from airflow.sdk import DAG, chain

with DAG(
    dag_id="score",
    doc_md=__doc__,
    schedule=scoring_schedule("0 6 * * *"),
    tags=["registry", "monitoring", "daily 06:00 UTC"],
    params=notebook_params("score", model=PROMOTED_MODEL % "household_power_lightgbm"),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("score/01_score"),
        notebook_task("score/02_watch"),
        alarm_task("score"),
    )
