"""Measure the first two stages of `tick` on more ticks than memory holds, with one worker and more.

``python benchmarks/parts.py --millions 12 52 200 --workers 1 2`` makes up a day of four million
trades and lays it down as a Parquet file for each of many days, in a temporary folder; then it
executes both notebooks on them as a run does. Time by the clock, time of the processors (kernel and
workers), and the largest memory that one process ever had (its peak of resident memory, in which
shared pages count fully) stand in the table. The exit code is 1 if the bits of any result depend on
the number of workers, or a process needs more than `MOST_MIB`. Kernels start anew, so 5 to 10
seconds of each stage are imports.
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from lib import parts
from lib.ground import layout
from lib.ground.files import ROOT
from lib.ground.parameters import read_parameters
from lib.machine.executor import execute_notebook
from lib.run import open_run
from lib.tick.sample import LAST_DAY, opening_us, sample_dates, sample_ticks

import polars as pl
import psutil

MOST_MIB, LOOK_EVERY_S = 1_536, 0.1
STAGES = ("01_load", "02_features")
BYTES = 80  # of disk for a tick: raw, and clean twice while it is written


def make(like: Path, folder: Path, day: date) -> None:
    """Write a day of raw trades, which are those of another day, moved."""
    shift = timedelta(microseconds=opening_us(day) - opening_us(LAST_DAY))
    ticks = pl.read_parquet(like).with_columns(pl.col("timestamp") + shift)
    ticks.write_parquet(folder / f"{day}.parquet")


class Memory(threading.Thread):
    """Watches the processes below this one, and keeps the peak of each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[int, int] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        """Look now and then."""
        while not self.ended.wait(LOOK_EVERY_S):
            for process in psutil.Process().children(recursive=True):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peak = int(status.split("VmHWM:")[1].split()[0])
                except (OSError, IndexError):
                    continue  # it has ended
                self.peaks[process.pid] = max(peak, self.peaks.get(process.pid, 0))

    def largest_mib(self) -> float:
        """End, and return the largest peak."""
        self.ended.set()
        self.join()
        return max(self.peaks.values()) / 1024


def execute(run_dir: str, stage: str, params: dict) -> tuple[float, float, float]:
    """Execute a stage; return seconds, seconds of the processors, and the largest peak (MiB)."""
    source = layout.notebook("tick", stage)
    params = {name: value for name, value in params.items() if name in read_parameters(source)}
    target = open_run(run_dir).path / f"{stage}.ipynb"
    memory, began = Memory(), time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory.start()
    execute_notebook(source, target, {**params, "run_dir": run_dir}, cwd=ROOT)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, memory.largest_mib()


def results(run_dir: str) -> dict[str, str]:
    """Return the digests of what the stages of a run wrote."""
    written = {}
    for record in open_run(run_dir).records().values():
        written |= record["writes"]
    return written


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=int, nargs="+", default=[12, 52, 200])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--day-ticks", type=int, default=4_000_000)
    options = parser.parse_args()
    os.environ["WARM_KERNELS"] = "0"
    is_right = True
    print(f"{'ticks':>6}{'workers':>9}  {'stage':12}{'s':>8}{'CPU s':>8}{'us/tick':>9}", end="")
    print(f"{'MiB':>7}{'load':>7}")
    with tempfile.TemporaryDirectory() as place:
        free = psutil.disk_usage(place).free
        if free < max(options.millions) * 1e6 * BYTES:
            sys.exit(f"{place} has {free / 1e9:.0f} GB, which is not enough")
        os.environ["OUTPUTS_DIR"] = f"{place}/outputs"
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        like = Path(place, "day.parquet")
        made = sample_ticks(LAST_DAY, n_ticks=options.day_ticks).rename({"ts": "timestamp"})
        made.select("timestamp", pl.col("price").round(4), "size").write_parquet(like)
        for millions in options.millions:
            raw = Path(place, f"raw-{millions}")
            raw.mkdir()
            days = sample_dates(millions * 1_000_000 // options.day_ticks)
            list(parts.map(partial(make, like, raw), days, n_workers=max(options.workers)))
            known = {}
            for n_workers in options.workers:
                run_dir = f"tick/{millions}-by-{n_workers}"
                params = {"source": str(raw), "n_workers": n_workers, "train_days": len(days) - 1}
                for stage in STAGES:
                    seconds, cpu, mib = execute(run_dir, stage, params)
                    is_right &= mib <= MOST_MIB
                    print(
                        f"{millions:>5}M{n_workers:>9}  {stage:12}{seconds:8.1f}{cpu:8.1f}"
                        f"{cpu / millions:9.3f}{mib:7.0f}{os.getloadavg()[0]:7.1f}",
                        flush=True,
                    )
                known[n_workers] = results(run_dir)
            same = all(one == known[options.workers[0]] for one in known.values())
            print(f"{millions:>5}M: the same bits with {options.workers} workers: {same}")
            is_right &= same
    return int(not is_right)


if __name__ == "__main__":
    sys.exit(main())
