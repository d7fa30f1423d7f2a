"""The real data cut into the daily files of a landing zone."""

import gzip
import os
import zipfile
from datetime import UTC, datetime, timedelta

from lib.ground.files import data_dir

POWER = "power/household_power_consumption.zip"
TICKS = "tick/SPY"


def cut(folder, *, days=None, tick_days=None):
    """Write a file for each of the first days of the house, and the files of the symbol."""
    with zipfile.ZipFile(data_dir() / POWER) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    header, *lines = text.splitlines()
    by_day = {}
    for line in lines:
        by_day.setdefault(line.partition(";")[0], []).append(line)
    for day, some in list(by_day.items())[:days]:
        when = datetime.strptime(day, "%d/%m/%Y").replace(tzinfo=UTC)
        content = "\n".join([header, *some]) + "\n"
        _put(folder / f"power/{when:%Y-%m-%d}.txt.gz", gzip.compress(content.encode(), 1), when)
    for file in sorted((data_dir() / TICKS).glob("*.csv.gz"))[:tick_days]:
        when = datetime.fromisoformat(file.name[:10]).replace(tzinfo=UTC)
        _put(folder / f"{TICKS}/{file.name}", file.read_bytes(), when)


def _put(path, content, when):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    at = (when + timedelta(days=1, hours=5)).timestamp()
    os.utime(path, (at, at))
