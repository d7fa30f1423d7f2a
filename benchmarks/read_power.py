"""Measure how fast `load_power` reads UCI's text, next to plain pandas, in one process.

A file as long as UCI's (2,075,259 minutes) is generated in a temporary folder. Both readers read
it in turn, several times, from the warm page cache. The peer is what one writes first,
`pandas.read_csv` and `pandas.to_datetime` of the joined Date and Time; ours is `load_power`, with
everything it checks. Both results are compared before the clocks count. The exit code is 1 when
the ratio of the median times is above the target.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lib.power.columns import COLUMNS
from lib.power.load import load_power
from lib.power.sample import sample_power

import numpy as np
import pandas as pd
import pyarrow

UCI_ROWS, UCI_START = 2_075_259, "2006-12-16 17:24"


def write_text(frame: pd.DataFrame, path: Path) -> None:
    """Write a canonical frame as UCI's text."""
    table = frame.rename(columns=COLUMNS)
    table.insert(0, "Date", frame.index.strftime("%-d/%-m/%Y"))
    table.insert(1, "Time", frame.index.strftime("%H:%M:%S"))
    table.to_csv(path, sep=";", index=False, na_rep="?", float_format="%.3f")


def read_with_pandas(path: Path) -> pd.DataFrame:
    """Read the text the plain way: no checks, times from the joined strings."""
    frame = pd.read_csv(path, sep=";", na_values="?")
    ts = pd.to_datetime(frame["Date"] + " " + frame["Time"], dayfirst=True)
    return frame.drop(columns=["Date", "Time"]).set_index(ts)


def seconds(read: Callable[[Path], pd.DataFrame], path: Path) -> float:
    """Return the wall time of one reading."""
    begin = time.perf_counter()
    read(path)
    return time.perf_counter() - begin


def same(peer: pd.DataFrame, ours: pd.DataFrame) -> bool:
    """Tell whether both hold the same times and values."""
    named = peer.rename(columns={name: column for column, name in COLUMNS.items()})
    return named.index.equals(ours.index) and np.array_equal(
        named.to_numpy(), ours.to_numpy(), equal_nan=True
    )


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=UCI_ROWS, help="minutes to write (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="readings each (%(default)s)")
    parser.add_argument(
        "--target", type=float, default=1 / 8, help="largest allowed ratio of times (%(default)s)"
    )
    options = parser.parse_args()

    days = -(-options.rows // 1440) + 1
    readers = {"pandas": read_with_pandas, "load_power": lambda path: load_power(str(path))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "household_power_consumption.txt"
        write_text(sample_power(days, start=UCI_START).iloc[: options.rows], path)
        megabytes = path.stat().st_size / 1e6
        if not same(*(read(path) for read in readers.values())):
            sys.exit("the two readers do not agree")
        times = {name: [] for name in readers}
        for _ in range(options.repeats):
            for name, read in readers.items():
                times[name].append(seconds(read, path))

    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = medians["load_power"] / medians["pandas"]
    print(
        f"{options.rows:,} rows, {megabytes:.0f} MB of text, {pyarrow.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"pandas {pd.__version__}, pyarrow {pyarrow.__version__}, "
        f"{options.repeats} readings each, in turn\n"
    )
    print(f"{'reader':12}{'median s':>10}{'fastest s':>11}{'slowest s':>11}")
    for name, taken in times.items():
        print(f"{name:12}{medians[name]:10.3f}{min(taken):11.3f}{max(taken):11.3f}")
    verdict = "met" if ratio <= options.target else "MISSED"
    print(f"\nratio of medians 1/{1 / ratio:.1f}, target 1/{1 / options.target:.1f}: {verdict}")
    return int(ratio > options.target)


if __name__ == "__main__":
    sys.exit(main())
