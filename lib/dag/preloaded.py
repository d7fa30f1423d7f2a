"""Airflow's scheduler or DAG processor, with the packages imported that its tasks need.

``python -m lib.dag.preloaded scheduler`` is ``airflow scheduler``: it forks a process for every
task, and the DAG processor one for every DAG file, and these begin with what is imported here.
This project's own modules are left out, so that a change of them counts from the next task on.
"""

import importlib
import sys

PACKAGES = (
    "airflow.providers.papermill.operators.papermill",
    "airflow.dag_processing.dagbag",
    "lib.dag.form",
    "lib.machine.engine",
    "lib.tracking",
    "mlflow",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracing.processor.base_mlflow",
    "lib.pages.notebook",
    "lib.pages.publish",
    "black",  # by papermill, once it writes parameters
    "ipykernel.kernelspec",  # by Jupyter, once it looks for a kernel
    "IPython.paths",
)


def import_packages() -> None:
    """Import the packages, and begin no thread that a fork would lack."""
    from lib.machine.session import import_papermill
    from lib.machine.warm import put_off_polars

    import_papermill()
    put_off_polars()  # which MLflow imports, and which begins a thread; no task uses it
    for name in PACKAGES:
        importlib.import_module(name)


def load() -> None:
    """Import the packages, and forget this project's own modules."""
    import_packages()
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib"]:
        del sys.modules[name]


def main() -> None:
    """Be Airflow's command line, with packages that are imported."""
    load()
    from airflow.__main__ import main as airflow

    airflow()


if __name__ == "__main__":
    main()
