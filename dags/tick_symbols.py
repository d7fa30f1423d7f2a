"""Tick data of many symbols: each goes through the tick notebooks, and has a gate of its own.

The symbols are those of the files in `tick/symbols` below `DATA_DIR`, one folder each. A symbol
that fails does not hold up the others; a table of all ends the run. Notebooks: those of
`notebooks/tick/`, and `notebooks/tick_symbols/`; run folders: `outputs/tick_symbols/`.
"""

from lib.dag.form import (
    DAG_DEFAULTS,
    RUN_DATE,
    list_task,
    mapped_stages,
    notebook_params,
    notebook_task,
    training_schedule,
)

from airflow.sdk import DAG, chain

with DAG(
    dag_id="tick_symbols",
    doc_md=__doc__,
    schedule=training_schedule("tick_symbols", "0 23 * * *"),
    tags=["time series", "keras", "daily 23:00 UTC"],
    params=notebook_params(
        "tick_symbols",
        source="tick/symbols",
        as_of=RUN_DATE,
        train_days=3,
        test_days=2,
        model="transformer",
        n_folds=2,
    ),
    **DAG_DEFAULTS,
):
    stages = ("01_load", "02_features", "03_train", "04_evaluate", "05_register")
    chain(
        notebook_task("tick_symbols/00_symbols"),
        symbols := list_task("tick_symbols", "symbols.json"),
        mapped_stages(*(f"tick_symbols/{name}" for name in stages), each=symbols, promote=True),
        notebook_task("tick_symbols/06_table", trigger_rule="all_done"),
    )
