"""How fast trades come into the lake, beside pandas and pyiceberg's own append.

``python benchmarks/lake_ingest.py [--rows 5000000] [--files 5]``: makes files of trades as SPY's,
then takes them in, each way in its own process: Arrow alone (lines to Parquet, no more), bronze
(every line as it came, with digest and line), bronze and silver (typed, checked, once each), and
`pandas.read_csv` with `pyiceberg.table.Table.append`, times as text and parsed. Prints rows a s
by the clock and by the processor, and the most memory that a process held; then what a day costs
that comes after all others: seconds, rows, and the files of tables that were read, gone and new.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from lib.catalogs import local_catalog
from lib.lakehouse import bronze, landing, silver, tables
from lib.lakehouse.feeds import TICK

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as arrow
from pyarrow import csv, parquet
from pyiceberg.io.pyarrow import PyArrowFileIO

WAYS = ("Arrow alone", "pandas", "pandas, times parsed", "bronze", "bronze and silver")


def make(zone: Path, n_rows: int, n_files: int) -> None:
    """Write trades of so many days, each in a file; one more day lies in `late`."""
    rng = np.random.default_rng(0)
    for day in range(n_files + 1):
        n = n_rows // n_files
        start = np.datetime64("2013-10-07T13:30:00", "ms") + np.timedelta64(day, "D")
        ts = start + np.sort(rng.integers(0, 23_400_000, n)).astype("timedelta64[ms]")
        frame = pl.DataFrame(
            {
                "timestamp": pl.Series(ts).dt.to_string("%Y-%m-%d %H:%M:%S%.3f"),
                "price": np.round(167 + np.cumsum(rng.normal(0, 0.003, n)), 2),
                "size": 100 * rng.integers(1, 20, n),
                "exchange": rng.choice(list("PQZK"), n),
                "conditions": rng.choice(["20002000", "0", "10000000"], n),
                "suspicious": np.zeros(n, np.int64),
            }
        )
        path = zone / f"{'late' if day == n_files else '.'}/tick/SPY/{day:03}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_csv(path)


def with_pandas(zone: Path, folder: Path, *, parsed: bool) -> None:
    """Read each file whole and append it."""
    catalog = local_catalog(folder)
    catalog.create_namespace("tick")
    table = None
    for path in sorted((zone / "tick/SPY").glob("*.csv")):
        frame = pd.read_csv(path, parse_dates=["timestamp"] if parsed else None)
        rows = arrow.Table.from_pandas(frame, preserve_index=False)
        table = table or catalog.create_table("tick.rows", rows.schema)
        table.append(rows)


def with_arrow(zone: Path, folder: Path) -> None:
    """Write the lines of each file, and nothing else, to Parquet: what bronze cannot do without."""
    read = csv.ReadOptions(column_names=["text"], block_size=4 << 20)
    whole = csv.ParseOptions(delimiter="\x01", quote_char=False)
    for path in sorted((zone / "tick/SPY").glob("*.csv")):
        with (
            csv.open_csv(path, read, whole) as lines,
            parquet.ParquetWriter(
                folder / f"{path.name}.parquet",
                lines.schema,
                compression="lz4",
                use_dictionary=False,
                write_statistics=False,
            ) as file,
        ):
            for batch in lines:
                file.write_batch(batch, row_group_size=1 << 18)


def into_lake(zone: Path, folder: Path, *, whole: bool) -> None:
    """Take the files into bronze, and, as a `whole`, into silver."""
    catalog = local_catalog(folder)
    bronze.take_in(catalog, TICK, landing.landed(str(zone), TICK))
    if whole:
        silver.update(catalog, TICK, "America/New_York")


def late_day(zone: Path, folder: Path) -> dict[str, float]:
    """Take one more day into a lake that holds all others; say what that costs."""
    catalog, opened = local_catalog(folder), Counter()
    lake = [bronze.open_bronze(catalog, TICK), silver.open_silver(catalog, TICK)]
    before = {path for table in lake for path in tables.files_of(table, tables.head(table))}
    real = PyArrowFileIO.new_input

    def counted(io: PyArrowFileIO, place: str) -> object:
        opened[place] += place in before
        return real(io, place)

    wall = time.perf_counter()
    with patch.object(PyArrowFileIO, "new_input", counted):
        into_lake(zone / "late", folder, whole=True)
    wall = time.perf_counter() - wall
    after = {
        path for table in lake for path in tables.files_of(table.refresh(), tables.head(table))
    }
    rows = tables.count(lake[1], "main")
    return {
        "late day s": wall,
        "rows": rows,
        "files": len(before),
        "read": len(+opened),
        "gone": len(before - after),
        "new": len(after - before),
    }


def measure(way: str, zone: Path) -> dict[str, float]:
    """Do it one way in this process."""
    ways: dict[str, Callable[[Path, Path], None]] = {
        "Arrow alone": with_arrow,
        "pandas": lambda *places: with_pandas(*places, parsed=False),
        "pandas, times parsed": lambda *places: with_pandas(*places, parsed=True),
        "bronze": lambda *places: into_lake(*places, whole=False),
        "bronze and silver": lambda *places: into_lake(*places, whole=True),
    }
    with tempfile.TemporaryDirectory() as folder:
        local_catalog(Path(folder)).create_namespace("warm")  # the tables of a new catalog
        wall, cpu = time.perf_counter(), time.process_time()
        ways[way](zone, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        late = late_day(zone, Path(folder)) if way == WAYS[-1] else {}
    return {"s": wall, "cpu s": cpu, "MiB": most, **late}


def main() -> None:
    """Measure all ways, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--zone", type=Path)
    given = parser.parse_args()
    if given.zone:
        print(json.dumps(measure(given.ways[0], given.zone)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.rows, given.files)
        found = {}
        for way in given.ways:
            command = [sys.executable, __file__, "--zone", folder, "--ways", way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
    table = pd.DataFrame(found).T
    late = [name for name in table if name not in ("s", "cpu s", "MiB")]
    table["rows/s"] = given.rows / table["s"]
    table["rows/cpu s"] = given.rows / table["cpu s"]
    print(f"{given.rows:,} rows in {given.files} files; load {os.getloadavg()[0]:.1f}")
    print(table.drop(columns=late).round(1).to_string())
    print(table[late].dropna().round(1).to_string())


if __name__ == "__main__":
    main()
