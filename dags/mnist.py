"""MNIST: read handwritten digits, trained anew every week.

A convolutional network beside a regression on pixels; it is registered when it names enough of the
test images rightly. Notebooks: `notebooks/mnist/`; run folders: `outputs/mnist/`.
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
    dag_id="mnist",
    doc_md=__doc__,
    schedule=training_schedule("mnist", "0 2 * * 0"),
    tags=["images", "keras", "Sundays 02:00 UTC"],
    params=notebook_params(
        "mnist",
        source="keras",
        n_validation=2000,
        model="residual",
        epochs=6,
        width=32,
        precision="auto",
        batch_size=500,
        rotation=0,
        n_baseline=20000,
        min_accuracy=0.993,
        max_calibration_error=0.1,
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("mnist/01_load"),
        notebook_task("mnist/02_features"),
        notebook_task("mnist/03_train"),
        notebook_task("mnist/04_evaluate"),
        notebook_task("mnist/05_register"),
        promotion_task("mnist"),
    )
