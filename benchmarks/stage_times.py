"""Where the time of a stage goes, task by task: from queued to the end, of runs that have ended.

``OUTPUTS_DIR=… python benchmarks/stage_times.py power`` reads Airflow's database and the run
folders. ``python benchmarks/stage_times.py`` starts `make up` on an empty folder instead, and lets
it make 20 runs of a notebook that imports Keras and does nothing. For every task it prints, in
seconds: until its process began (``begin``), until its
notebook did (``set up``: DAG file, checks, first page), until its report was there (``notebook``),
and until the task ended (``after``: MLflow, page). ``queued to report`` is the sum of the first
three; `make run` queues nothing.
"""

import itertools
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from lib.ground import outcome
from lib.ground.files import ROOT, state_dir
from lib.ground.runs import run_of_airflow

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

QUERY = """
SELECT task_id, run_id, queued_dttm, start_date, end_date FROM task_instance
WHERE dag_id = ? AND state = 'success' ORDER BY start_date
"""
CLI = [sys.executable, "-m", "lib.commands.cli"]
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3 (ipykernel)"}
PARAMETERS = """run_dir: str = "idle/dev"  # run folder, below OUTPUTS_DIR
source: str = "sample"  # of nothing"""
SOURCE = """from lib.backend import import_keras
from lib.run import open_run

keras = import_keras()
open_run(run_dir, stage="01_idle").finish()"""
DAG = '''"""Idle: imports Keras and does nothing."""

from lib.dag.form import DAG_DEFAULTS, notebook_params, notebook_task

from airflow.sdk import DAG

with DAG(dag_id="idle", doc_md=__doc__, params=notebook_params("idle"), **DAG_DEFAULTS):
    notebook_task("idle/01_idle")
'''
COLUMNS = ("begin", "set up", "notebook", "after", "queued to report")


def times(pipeline: str) -> dict[str, list[tuple[float, ...]]]:
    """Return the times of every task of a pipeline's runs, by task."""
    found: dict[str, list[tuple[float, ...]]] = {}
    with sqlite3.connect(state_dir() / ".airflow" / "airflow.db") as database:
        rows = database.execute(QUERY, [pipeline]).fetchall()
    for task, run_id, queued, start, end in rows:
        notebook = run_of_airflow(pipeline, run_id).path / f"{task}.ipynb"
        if not notebook.exists():
            continue
        begun = outcome.read_notebook(notebook)["metadata"]["papermill"]["start_time"]
        report = notebook.with_suffix(".html").stat().st_mtime
        moments = [seconds(queued or start), seconds(start), seconds(begun), report, seconds(end)]
        steps = [later - before for before, later in itertools.pairwise(moments)]
        found.setdefault(task, []).append((*steps, report - moments[0]))
    return found


def seconds(moment: str) -> float:
    """Return a time of Airflow's database (UTC) or of a notebook, in seconds since 1970."""
    known = datetime.fromisoformat(moment)
    return (known if known.tzinfo else known.replace(tzinfo=UTC)).timestamp()


def tell(pipeline: str) -> None:
    """Print the table."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians")
    print(f"{'task':16} {'runs':>4}" + "".join(f" {name:>{len(name) + 3}}" for name in COLUMNS))
    for task, rows in times(pipeline).items():
        columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
        cells = [f" {statistics.median(c):{len(n) + 3}.2f}" for n, c in columns]
        first, *others = [row[-1] for row in rows]
        told = f"   first {first:.2f}, then at most {max(others, default=first):.2f}"
        print(f"{task:16} {len(rows):4}" + "".join(cells) + told)


def make_runs(count: int) -> None:
    """Make runs of a notebook that imports Keras, by the scheduler of `make up`, and tell."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notebooks/idle").mkdir(parents=True)
        (folder / "dags").mkdir()
        (folder / "dags/idle.py").write_text(DAG)
        parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# Idle"), parameters, new_code_cell(SOURCE)]
        notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, folder / "notebooks/idle/01_idle.ipynb")
        os.environ |= {"PIPELINES_DIR": name, "OUTPUTS_DIR": str(folder / "outputs")}
        with (folder / "log").open("w") as log:
            up = subprocess.Popen([*CLI, "up"], cwd=ROOT, stdout=log, stderr=log)
        try:
            while "all up" not in (folder / "log").read_text():
                if up.poll() is not None:
                    raise RuntimeError((folder / "log").read_text())
                time.sleep(0.5)
            for _ in range(count):
                subprocess.run(
                    [*CLI, "run", "--force", "idle"], cwd=ROOT, check=True, capture_output=True
                )
            tell("idle")
        finally:
            up.terminate()  # in the background of a shell it has SIGINT ignored
            up.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].isdecimal():
        tell(sys.argv[1])
    else:
        make_runs(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
