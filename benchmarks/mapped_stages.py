"""How long a mapped stage takes by the number of its children.

By default notebooks that do next to nothing: for each number a run of the toy pipeline
`tests/toy/notebooks/toy_map` in an empty folder, through Airflow's `dag.test`, which runs one task
after the other. What is shown is what this project and Airflow need for a child with two stages,
its kernels, records, pages and MLflow run included, and whether that grows with the number of
children. With ``--symbols`` the whole pipeline `tick_symbols`, with small values: so many made-up
symbols, each loaded, trained, judged and put before its own gate, and the table of all.

    .venv/bin/python -m benchmarks.mapped_stages 5 50 500
    .venv/bin/python -m benchmarks.mapped_stages --symbols 50
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.ground.files import ROOT

RUN = [sys.executable, "-m", "lib.commands.cli", "run"]
SMALL = {"source": "sample", "sample_ticks": 8_000, "control_ticks": 8_000, "bar_size": 15.0}
SMALL |= {"window": 20, "epochs": 1, "model": "gru", "n_folds": 1, "train_days": 2, "test_days": 1}
OUTCOMES = ("n_registered", "n_refused", "n_failed", "rank_ic_median")


def main() -> None:
    """Print a line for each number of children."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[5, 50])
    parser.add_argument("--symbols", action="store_true")
    given = parser.parse_args()
    pipeline = "tick_symbols" if given.symbols else "toy_map"
    if not given.symbols:
        os.environ["PIPELINES_DIR"] = str(ROOT / "tests" / "toy")
    print("children   run s   CPU s   CPU s a child")
    for n in given.counts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["OUTPUTS_DIR"] = folder
            subprocess.run([*RUN[:-1], "prepare"], check=True, capture_output=True)  # databases
            names = [f"S{k:03d}" for k in range(n)]
            params = SMALL | {"symbols": names} if given.symbols else {"n": n}
            before, begun = cpu_s(), time.monotonic()
            command = [*RUN, pipeline, "--params", json.dumps(params)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stdout[-3000:] + done.stderr[-1000:])
            took, used = time.monotonic() - begun, cpu_s() - before
            (run,) = [p for p in Path(folder, pipeline).iterdir() if len([*p.glob("[0-9]*/")]) >= n]
            found = json.loads((run / "metrics.json").read_text()) if given.symbols else {}
            said = ", ".join(f"{name} {found[name]:.4g}" for name in OUTCOMES if name in found)
            print(f"{n:8} {took:7.0f} {used:7.0f} {used / n:15.2f}   {said}", flush=True)


def cpu_s() -> float:
    """Return what the processes that have ended used of the processor, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
