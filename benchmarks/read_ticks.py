"""Measure how time and memory of `load_ticks` and `to_bars` grow with the number of ticks.

For each size ten days of trades are made up, without sides, and written as one Parquet or CSV file
a day in a temporary folder. A process of its own loads them (every check, the tick rule, the clean
files, the digest) and another makes bars of five seconds from the clean files, so that the peak
memory of each is its own. Growth is judged by the time of the processors, which other work on the
machine hardly touches; the time by the clock stands beside it. The exit code is 1 when it grows
faster than the ticks (beyond the tolerance, from one size to the next) or the peak memory of the
largest is above the allowed ratio to that of the smallest.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from lib.ground.dataset import Dataset
from lib.tick.bars import to_bars
from lib.tick.load import iter_ticks, load_ticks
from lib.tick.sample import sample_ticks

import polars as pl
import pyarrow as arrow
from upath import UPath

N_DAYS, FIRST_DAY = 10, date(2025, 12, 1)


def generate(folder: Path, n_ticks: int, ending: str) -> None:
    """Write ten days of trades, `n_ticks` in all."""
    for k in range(N_DAYS):
        day = FIRST_DAY + timedelta(days=k)
        ticks = sample_ticks(day, n_ticks=n_ticks // N_DAYS)
        raw = ticks.select(pl.col("ts").alias("timestamp"), pl.col("price").round(4), "size")
        path = folder / f"{day}.{ending}"
        raw.write_parquet(path) if ending == "parquet" else raw.write_csv(path)


def clean(folder: Path) -> Dataset:
    """Return the data set of clean ticks in a folder."""
    return Dataset(UPath(folder, "clean"))


def load(folder: Path) -> int:
    """Load the raw files and return how many ticks were kept."""
    return load_ticks(str(folder / "raw"), clean(folder)).n_ticks


def bars(folder: Path) -> int:
    """Make bars of the clean files and return how many ticks are in them."""
    return int(to_bars(iter_ticks(clean(folder).parts), kind="time", size=5)["count"].sum())


STEPS = {"load": load, "bars": bars}


def step(name: str, folder: str) -> None:
    """Run one step in this process; print its ticks, seconds, CPU seconds and peak memory (MB)."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    n_ticks = STEPS[name](Path(folder))
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    unit = 1e6 if sys.platform == "darwin" else 1e3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(n_ticks, seconds, cpu_seconds, memory)


def run(*words: str) -> list[float]:
    """Run this file in a new process and return the numbers that it prints."""
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE)
    return [float(word) for word in done.stdout.split()]


def measure(n_ticks: int, ending: str) -> dict[str, float]:
    """Generate, load and make bars of one size, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        raw.mkdir()
        run("generate", str(raw), str(n_ticks), ending)
        megabytes = sum(path.stat().st_size for path in raw.iterdir()) / 1e6
        row = {"ticks": n_ticks, "MB": megabytes}
        for name in STEPS:
            kept, seconds, cpu_seconds, memory = run(name, folder)
            if kept != n_ticks:
                sys.exit(f"{name} kept {kept:,.0f} of {n_ticks:,} ticks")
            row |= {f"{name} s": seconds, f"{name} CPU s": cpu_seconds, f"{name} MB": memory}
    return row


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 10, 50], help="million ticks")
    parser.add_argument("--format", choices=["parquet", "csv", "csv.gz"], default="parquet")
    parser.add_argument("--tolerance", type=float, default=1.25, help="of the growth of time")
    parser.add_argument("--memory", type=float, default=1.5, help="largest ratio of peak memory")
    options = parser.parse_args()
    print(
        f"{N_DAYS} days of {options.format}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"polars {pl.__version__}, pyarrow {arrow.__version__}\n"
    )
    rows = []
    for millions in options.sizes:
        rows.append(measure(round(millions * 1e6), options.format))
        if len(rows) == 1:
            print("".join(f"{name:>13}" for name in rows[0]) + f"{'CPU us/tick':>13}")
        total = rows[-1]["load CPU s"] + rows[-1]["bars CPU s"]
        numbers = "".join(f"{value:13,.1f}" for value in rows[-1].values())
        print(f"{numbers}{total / rows[-1]['ticks'] * 1e6:13.2f}", flush=True)
    seconds = [row["load CPU s"] + row["bars CPU s"] for row in rows]
    growth = max(
        (seconds[k + 1] / seconds[k]) / (rows[k + 1]["ticks"] / rows[k]["ticks"])
        for k in range(len(rows) - 1)
    )
    memory = max(rows[-1][f"{name} MB"] / rows[0][f"{name} MB"] for name in STEPS)
    met = growth <= options.tolerance and memory <= options.memory
    print(
        f"\ntime grows {growth:.2f} times as fast as the ticks (at most {options.tolerance}), peak "
        f"memory {memory:.2f} times in all (at most {options.memory}): {'met' if met else 'MISSED'}"
    )
    return int(not met)


if __name__ == "__main__":
    if sys.argv[1:2] == ["generate"]:
        generate(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] and sys.argv[1] in STEPS:
        step(sys.argv[1], sys.argv[2])
    else:
        sys.exit(main())
