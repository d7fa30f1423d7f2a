"""What Airflow says of its database and of the DAG files: ``python -m lib.dag.health``.

A process of its own, since Airflow reads its settings when it is imported.
"""

import json
import sys


def _look() -> dict:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import check_migrations

    wrong = ""
    try:
        check_migrations(1)
    except Exception as error:  # whatever a database raises
        wrong = f"{type(error).__name__}: {error}"
    bag = DagBag()
    errors = {name: text.strip().splitlines()[-1] for name, text in bag.import_errors.items()}
    return {"database": wrong, "dags": sorted(bag.dags), "errors": errors}


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(_look())}\n")
