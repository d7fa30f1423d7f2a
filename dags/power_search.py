"""Household power, its parameters searched on many machines at once.

As `power`, but for the search: mapped workers share one Optuna study, in the database that
`TUNING_STORAGE` names, and take trials until as many are done as were asked for. The same trials
twice it does not give. Runs when somebody asks. Notebooks: those of `notebooks/power/`, and
`notebooks/power_search/`; run folders: `outputs/power_search/`.
"""

from lib.dag.form import (
    DAG_DEFAULTS,
    list_task,
    mapped_stages,
    notebook_params,
    notebook_task,
    promotion_task,
)

from airflow.sdk import DAG, chain

with DAG(
    dag_id="power_search",
    doc_md=__doc__,
    schedule=None,
    tags=["time series", "lightgbm", "by hand"],
    params=notebook_params(
        "power_search",
        source="uci",
        n_trials=200,
        n_workers=4,
        n_finalists=2,
        final_learning_rate=0.03,
        n_models=5,
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("power_search/01_load"),
        notebook_task("power_search/02_features"),
        notebook_task("power_search/03_begin"),
        workers := list_task("power_search", "workers.json"),
        mapped_stages("power_search/03_search", each=workers),
        notebook_task("power_search/03_tune", trigger_rule="all_done_min_one_success"),
        notebook_task("power_search/04_train"),
        notebook_task("power_search/05_evaluate"),
        notebook_task("power_search/06_register"),
        promotion_task("power_search"),
    )
