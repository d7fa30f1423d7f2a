"""Household power: forecast the active power of one house, tuned and trained anew every day.

LightGBM on lags, moving statistics and the calendar. The model is registered when its error on
the untouched last part of the data is low enough against persistence. Notebooks:
`notebooks/power/`; run folders: `outputs/power/`.
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
    dag_id="power",
    doc_md=__doc__,
    schedule=training_schedule("power", "30 3 * * *"),
    tags=["time series", "lightgbm", "daily 03:30 UTC"],
    params=notebook_params(
        "power",
        source="uci",
        n_trials=40,
        final_learning_rate=0.03,
        n_models=5,
        n_workers=2,
        n_finalists=2,
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("power/01_load"),
        notebook_task("power/02_features"),
        notebook_task("power/03_tune"),
        notebook_task("power/04_train"),
        notebook_task("power/05_evaluate"),
        notebook_task("power/06_register"),
        promotion_task("power"),
    )
