"""What Airflow says of its database and of the DAG files: ``python -m lib.dag.health <folder>``.

`ask` runs this module in a process of its own, since Airflow reads its settings when it is
imported, and fills its home then.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lib.ground.files import ROOT


def ask(folder: Path, settings: Mapping[str, str]) -> dict:
    """Return what Airflow says, asked in another process.

    Parameters
    ----------
    folder : Path
        Of DAG files.
    settings : mapping of str to str
        Environment variables for Airflow. A home that has no database yet is left alone.

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
    with tempfile.TemporaryDirectory() as elsewhere:
        is_ready = (Path(settings["AIRFLOW_HOME"]) / "ready").exists()
        home = {} if is_ready else {"AIRFLOW_HOME": elsewhere}
        done = subprocess.run(
            [sys.executable, "-m", "lib.dag.health", folder, *(["database"] if is_ready else [])],
            env={**os.environ, **settings, **home},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"Airflow cannot be imported: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _look(folder: str, *, has_database: bool) -> dict:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import check_migrations

    wrong = ""
    if has_database:
        try:
            check_migrations(1)
        except Exception as error:  # whatever a database raises
            wrong = f"{type(error).__name__}: {error}"
    bag = DagBag(folder)
    errors = {name: text.strip().splitlines()[-1] for name, text in bag.import_errors.items()}
    return {"database": wrong, "dags": sorted(bag.dags), "errors": errors}


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(_look(sys.argv[1], has_database='database' in sys.argv))}\n")
