"""CIFAR-10: name what is on small pictures, trained anew every week.

A network that learns in minutes without a GPU, or a residual network, or one that was trained on
ImageNet; it is registered when it names enough of the test images rightly. Notebooks:
`notebooks/cifar10/`; run folders: `outputs/cifar10/`.
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
    dag_id="cifar10",
    doc_md=__doc__,
    schedule=training_schedule("cifar10", "0 3 * * 0"),
    tags=["images", "keras", "Sundays 03:00 UTC"],
    params=notebook_params(
        "cifar10",
        source="keras",
        n_validation=1000,
        epochs=16,
        small_epochs=8,
        width=64,
        precision="auto",
        batch_size=500,
        batches_per_step=4,
        n_baseline=10000,
        min_accuracy=0.93,
        max_calibration_error=0.2,
    ),
    **DAG_DEFAULTS,
):
    chain(
        notebook_task("cifar10/01_load"),
        notebook_task("cifar10/02_features"),
        notebook_task("cifar10/03_train", timeout_minutes=360, silent_minutes=60),
        notebook_task("cifar10/04_evaluate"),
        notebook_task("cifar10/05_register"),
        promotion_task("cifar10"),
    )
