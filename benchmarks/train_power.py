"""Train the power pipeline on real data with several seeds, and show by how much they differ.

The pipeline's own notebooks are executed, with the values of its DAG and those of `--params`; the
seed is that of the search, of LightGBM and of the bootstrap. Everything is chosen on validation.
The errors on the test, beside those of the last value and of ridge regression on the same rows,
come from `05_evaluate`. The first seed is run once more with another number of workers, and must
give the same. The table goes to the standard output and, with `--output`, to a file. The exit code
is 1 when the two differ, or when the mean RMSE is above `--rmse`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lib.ground.files import ROOT, outputs_dir
from lib.ground.parameters import read_parameters
from lib.machine.executor import execute_notebook, import_papermill
from lib.run import open_run

STAGES = ("01_load", "02_features", "03_tune", "04_train", "05_evaluate")
VALID, MINUTES = "validation rmse", "minutes of 03"
SHOWN = {
    "rmse": "rmse",
    "mae": "mae",
    "r2": "r2",
    "persistence rmse": "persistence_rmse",
    "persistence mae": "persistence_mae",
    "ridge rmse": "ridge_rmse",
    "ridge mae": "ridge_mae",
}


def train(run_dir: str, values: dict, seed: int) -> dict[str, float]:
    """Execute the stages and return errors in kW, and the minutes of the search."""
    began = {}
    for stage in STAGES:
        notebook = ROOT / "notebooks" / "power" / f"{stage}.ipynb"
        known = {k: v for k, v in values.items() if k in read_parameters(notebook)}
        given = known | {"run_dir": run_dir} | ({"seed": seed} if stage >= "03" else {})
        began[stage] = time.perf_counter()
        execute_notebook(
            notebook, outputs_dir() / run_dir / f"{stage}.ipynb", given, cwd=notebook.parent
        )
    run = open_run(run_dir)
    found = run.read("metrics.json")
    row = {VALID: float(run.read("history.csv")["validation_rmse"].min())}
    row |= {shown: found[name] for shown, name in SHOWN.items()}
    return row | {MINUTES: (began["04_train"] - began["03_tune"]) / 60}


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="power/household_power_hourly.csv.gz")
    parser.add_argument("--params", default="{}", help="further values, as JSON (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="0 to this less one (%(default)s)")
    parser.add_argument("--again", type=int, default=1, help="the other number of workers, or 0")
    parser.add_argument("--rmse", type=float, default=float("inf"), help="most mean RMSE, kW")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args()
    import_papermill()
    from lib.dag.dagrun import load_bag

    values = dict(load_bag("power").dags["power"].params) | {"source": options.source}
    values |= json.loads(options.params)
    rows = []
    for seed in range(options.seeds):
        rows.append({"seed": seed} | train(f"power/benchmark-{seed}", values, seed))
        print("  ".join(f"{k} {v:.4f}" for k, v in rows[-1].items()), file=sys.stderr, flush=True)
    differs = None
    if options.again:
        other = train("power/benchmark-again", values | {"n_workers": options.again}, 0)
        differs = max(abs(other[name] - rows[0][name]) for name in (VALID, "rmse", "mae"))
    text = table(rows, values, differs, options)
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return int(bool(differs) or statistics.mean(row["rmse"] for row in rows) > options.rmse)


def table(
    rows: list[dict[str, float]], values: dict, differs: float | None, options: argparse.Namespace
) -> str:
    """Return all seeds, their mean and deviation, and what they were measured with."""
    names = [name for name in rows[0] if name != "seed"]
    packages = ", ".join(f"{name} {version(name)}" for name in ("lightgbm", "optuna", "numpy"))
    lines = [
        f"power, {datetime.now(UTC):%Y-%m-%d}, {options.params}",
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, {packages}",
        "errors in kW, on the test unless named otherwise",
        "",
        f"{'seed':>14}" + "".join(f"{name:>18}" for name in names),
    ]
    for row in rows:
        lines.append(f"{row['seed']:>14}" + "".join(f"{row[name]:>18.4f}" for name in names))
    if len(rows) > 1:
        for label, how in (("mean", statistics.mean), ("deviation", statistics.stdev)):
            cells = [how([row[name] for row in rows]) for name in names]
            lines.append(f"{label:>14}" + "".join(f"{cell:>18.4f}" for cell in cells))
    if differs is not None:
        lines.append(
            f"\nseed 0 with {options.again} instead of {values['n_workers']} workers differs by "
            f"{differs:.6f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
