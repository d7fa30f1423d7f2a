"""How long a mapped stage takes by the number of its children: notebooks that do next to nothing.

For each number a run of the toy pipeline `tests/toy/notebooks/toy_map` in an empty folder, through
Airflow's `dag.test`, which runs one task after the other: what is shown is what this project and
Airflow need for a child with two stages, its kernels, records, pages and MLflow run included, and
whether that grows with the number of children.

    .venv/bin/python -m benchmarks.mapped_stages 5 50 500
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.ground.files import ROOT

RUN = [sys.executable, "-m", "lib.commands.cli", "run", "toy_map", "--params"]


def main(counts: list[int]) -> None:
    """Print a line for each number of children."""
    print("children   run s   CPU s   CPU s a child")
    for n in counts:
        with tempfile.TemporaryDirectory() as folder:
            places = {"OUTPUTS_DIR": folder, "PIPELINES_DIR": str(ROOT / "tests" / "toy")}
            os.environ.update(places)
            subprocess.run([*RUN, '{"n": 0}'], check=False, capture_output=True)  # the databases
            before, begun = cpu_s(), time.monotonic()
            done = subprocess.run([*RUN, f'{{"n": {n}}}'], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stdout[-3000:] + done.stderr[-1000:])
            took, used = time.monotonic() - begun, cpu_s() - before
            (run,) = [
                p for p in Path(folder, "toy_map").iterdir() if len([*p.glob("[0-9]*/")]) >= n
            ]
            print(f"{n:8} {took:7.0f} {used:7.0f} {used / n:15.2f}   {run.name}")


def cpu_s() -> float:
    """Return what the processes that have ended used of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [5, 50])
