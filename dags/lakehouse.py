"""Lakehouse: raw files to checked tables, and a random forest that forecasts tomorrow's peak load.

Bronze, silver and gold are Iceberg tables; who trains on gold is told when it has changed. The
model is registered when it beats yesterday's peak and the mean of the last week on the last days.
Notebooks: `notebooks/lakehouse/`; run folders: `outputs/lakehouse/`.
"""

from lib.dag.form import (
    DAG_DEFAULTS,
    notebook_params,
    notebook_task,
    promotion_task,
    training_schedule,
)

from airflow.sdk import DAG, chain

with DAG(
    dag_id="lakehouse",
    doc_md=__doc__,
    schedule=training_schedule("lakehouse", "30 2 * * *"),
    tags=["iceberg", "scikit-learn", "daily 02:30 UTC"],
    params=notebook_params(
        "lakehouse", source="landing", n_trees=500, n_threads=2, max_rmse_vs_week_mean=1.0
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("lakehouse/01_bronze"),
        notebook_task("lakehouse/02_silver"),
        notebook_task("lakehouse/03_gold", brings_data=True),
        notebook_task("lakehouse/04_features"),
        notebook_task("lakehouse/05_train"),
        notebook_task("lakehouse/06_evaluate"),
        notebook_task("lakehouse/07_register"),
        promotion_task("lakehouse"),
    )
