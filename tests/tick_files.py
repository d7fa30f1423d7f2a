"""Small files of ticks, and what loading them gives or refuses."""

import gzip
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from lib.ground.dataset import Dataset
from lib.tick import load, read

import polars as pl
import pytest
from upath import UPath

FEATURES = {
    "windows": [3, 6, 12, 24, 60],
    "lags": [0, 1, 2, 3, 4, 5],
    "rsi_window": 14,
    "bollinger_window": 20,
    "macd": [12, 26, 9],
}
HEADER = "timestamp,price,size"
TWO = ["2013-10-07 09:30:00.000,100,10", "2013-10-07 09:30:01.000,101,20"]


class Folder:
    """Writes raw files into a folder, and loads them into new ones beside it."""

    def __init__(self, path):
        self.path, self.n_loaded = path, 0

    def put(self, lines, name="ticks.csv", header=HEADER):
        """Write lines below a header, or bytes, to a file of the folder `raw`; return its path."""
        path = self.path / "raw" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        data = lines if isinstance(lines, bytes) else "\n".join([header, *lines, ""]).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    def load(self, source, **options):
        """Load a source and return the report and the ticks."""
        made = Dataset(UPath(self.path / f"clean-{self.n_loaded}"))
        self.n_loaded += 1
        report = load_ticks(source, made, **options)
        return report, pl.concat(list(load.iter_ticks(made.parts)))

    def put_week(self):
        """Put files of five days of two ticks, the third of them outside of the session."""
        for day in range(7, 12):
            early = -600 if day == 9 else 0
            self.put([f"{at(early + k, day)},1,1" for k in range(2)], f"2013-10-{day:02}.csv")
        return str(Path(self.put(TWO[:0], "README.md")).parent)


def load_ticks(source, ticks, *, batch_rows=read.BATCH_ROWS, **options):
    """Load with so many rows held at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BATCH_ROWS", batch_rows)
        return load.load_ticks(source, ticks, **options)


def at(second, day=7):
    """A line of a trade at so many seconds after the opening."""
    clock = datetime(2013, 10, day, 9, 30) + timedelta(seconds=second)
    return f"{clock:%Y-%m-%d %H:%M:%S.%f}"


def refuses(tmp_path, source, message, **options):
    """Loading raises the message."""
    with tempfile.TemporaryDirectory() as scratch:
        with pytest.raises(ValueError, match=message) as caught:
            load_ticks(source, Dataset(UPath(scratch, "clean")), **options)
    return str(caught.value)
