"""What Airflow says of its database and of the DAG files: ``python -m lib.dag.health``.

`ask` runs this module in a process of its own, since Airflow reads its settings when it is
imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from lib.ground.files import ROOT


def ask(settings: Mapping[str, str]) -> dict:
    """Return what Airflow says, asked in another process.

    Parameters
    ----------
    settings : mapping of str to str
        Environment variables for Airflow, whose database is there.

    Returns
    -------
    dict
        ``database``, what is wrong with it ("" if nothing), ``dags``, the names of those that can
        be imported, and ``errors``, why others cannot, by file.

    Raises
    ------
    RuntimeError
        If Airflow cannot be imported.
    """
    done = subprocess.run(
        [sys.executable, "-m", "lib.dag.health"],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Airflow cannot be imported: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


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
