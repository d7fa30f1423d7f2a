"""Tick data: forecast the return of the next bar, trained anew every day on the days before.

A transformer on windows of bars, beside persistence, ridge and LightGBM; the
best on validation is registered when it orders the returns of the test days. A run sees no day
later than its own date. Notebooks: `notebooks/tick/`; run folders: `outputs/tick/`.
"""

from lib.dag.form import (
    DAG_DEFAULTS,
    RUN_DATE,
    notebook_params,
    notebook_task,
    promotion_task,
    training_schedule,
)

from airflow.sdk import DAG, chain

with DAG(
    dag_id="tick",
    doc_md=__doc__,
    schedule=training_schedule("tick", "30 22 * * *"),
    tags=["time series", "keras", "daily 22:30 UTC"],
    params=notebook_params(
        "tick",
        source="tick/SPY",
        as_of=RUN_DATE,
        train_days=3,
        test_days=2,
        n_phases=5,
        model="transformer",
        n_folds=2,
        n_threads=2,
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("tick/01_load"),
        notebook_task("tick/02_features"),
        notebook_task("tick/03_train"),
        notebook_task("tick/04_evaluate"),
        notebook_task("tick/05_register"),
        promotion_task("tick"),
    )
