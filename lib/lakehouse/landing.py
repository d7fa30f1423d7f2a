"""Where files land: what is there, and a made-up landing zone with all that goes wrong in one."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

from lib.formats import member, packing, reading
from lib.lakehouse.feeds import POWER, TICK, Feed
from lib.lakehouse.tables import Overtaken
from lib.sources import is_litter

import fsspec
import numpy as np
import pandas as pd
import polars as pl
from fsspec import AbstractFileSystem

HEADER = tuple(POWER.values)
IN_MEMORY_BYTES = 1 << 26  # of a file while it is read; a larger one is copied to a disk


@dataclass(frozen=True)
class Landed:
    """A file of a landing zone.

    Attributes
    ----------
    name : str
        Its path below the feed's folder.
    written : datetime
        UTC; its first is the version of what the file holds.
    raw : callable
        Opens its bytes as they are.
    symbol : str
        Of its trades, which its name alone says; "" of other feeds.
    size : int
    look : callable
        Returns when it was written and its size as they are now.
    """

    name: str
    written: datetime
    raw: Callable[[], BinaryIO]
    symbol: str
    size: int
    look: Callable[[], tuple[datetime, int]]

    def digest(self) -> str:
        """Return the SHA-256 of its symbol, if it has one, and its bytes."""
        with self.raw() as stream:
            return hashlib.file_digest(stream, self._start).hexdigest()

    @contextmanager
    def reading(self, digest: str) -> Iterator[tuple[str, BinaryIO]]:
        """Open its bytes, unpacked, with their digest, another one where it was written anew.

        Such a file may be still under way: what is read then is a copy, which stays as it is.

        Raises
        ------
        lib.lakehouse.tables.Overtaken
            If it is written anew meanwhile.
        """
        if self.look() == (self.written, self.size):
            with self.raw() as stream, reading(self.name):
                yield digest, _unpacked(stream, self.name)
            if self.look() != (self.written, self.size):
                raise Overtaken(f"{self.name} was written anew while it was read: run again")
            return
        told = self._start()
        with SpooledTemporaryFile(IN_MEMORY_BYTES) as copy:
            with self.raw() as stream:
                for block in iter(partial(stream.read, 1 << 20), b""):
                    told.update(block)
                    copy.write(block)
            copy.seek(0)
            with reading(self.name):  # what fails before says nothing of the file
                yield told.hexdigest(), _unpacked(copy, self.name)

    def _start(self) -> "hashlib._Hash":
        return hashlib.sha256(self.symbol.encode())


def landed(folder: str, feed: Feed) -> list[Landed]:
    """Return the files of a feed in a landing zone, in order of their names.

    Parameters
    ----------
    folder : str
        A path or fsspec URL.
    feed : Feed

    Raises
    ------
    ValueError
        If a file has no time of writing, which says what is the newer version, or trades lie in no
        folder of a symbol.
    """
    system, path = fsspec.url_to_fs(f"{folder}/{feed.name}")
    system.invalidate_cache()
    if not system.isdir(path):
        return []
    found = []
    for file, facts in sorted(system.find(path, detail=True).items()):
        name = file.removeprefix(path.rstrip("/") + "/")
        if is_litter(name):
            continue
        symbol, is_below, _ = name.partition("/") if feed is TICK else ("", "/", "")
        if not is_below:
            raise ValueError(f"{file} says no symbol: move it to {feed.name}/<symbol>/{name}")
        raw, look = partial(system.open, file, "rb"), partial(_look, system, file)
        found.append(Landed(name, _written(facts, file), raw, symbol, facts["size"], look))
    return found


def _look(system: AbstractFileSystem, file: str) -> tuple[datetime, int]:
    system.invalidate_cache()
    facts = system.info(file)
    return _written(facts, file), facts["size"]


def _written(facts: dict, file: str) -> datetime:
    time = facts.get("mtime") or facts.get("LastModified") or facts.get("created")
    if isinstance(time, int | float):
        return datetime.fromtimestamp(time, UTC)
    if not isinstance(time, datetime):
        raise ValueError(f"{file}: its file system does not say when it was written")
    return time.astimezone(UTC)


def _unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the bytes of a file, of whatever it is packed by."""
    kind = packing(stream.read(8))
    stream.seek(0)
    if not kind:
        return stream
    if kind == "zip":
        return member(name, stream)
    try:
        return fsspec.compression.compr[kind](stream, mode="r")
    except KeyError:
        raise ValueError(f"{name} is packed by {kind}: pack it with gzip, or not at all") from None


# The sample ------------------------------------------------------------------------------------


def make_sample(
    folder: Path, house: pd.DataFrame, trades: Iterator[pl.DataFrame], *, seed: int = 0
) -> list[Path]:
    """Make up a landing zone in two deliveries, yesterday's and today's.

    Today's has the last day, and what a landing zone is never without: a day that is late, one
    that lands again under another name, one written anew with other readings, and a few readings
    corrected in a file of their own. From the second month on files have one column more; one file
    has decimal commas; some lines are cut, no numbers, or out of any range.

    Parameters
    ----------
    folder : Path
        Gets the folders `1` and `2`, two landing zones; the second holds the first's files, too.
    house : DataFrame of shape (1440 * n_days, 7)
        Readings by the minute as UCI's meter shows them, index ``ts``; 40 days or more.
    trades : iterator of polars.DataFrame
        The trades of one day after the other: ``ts`` (UTC), ``day``, ``price``, ``size``.
    seed : int
        Of the broken lines.

    Returns
    -------
    list of Path
        The two landing zones.
    """
    rng = np.random.default_rng(seed)
    readings = pl.from_pandas(house.reset_index()).with_columns(pl.col("ts").dt.date().alias("day"))
    parts = readings.partition_by("day", as_dict=True, include_key=False)
    rows = {day: part for (day,), part in parts.items()}
    days = sorted(rows)
    comma, late, again, anew, corrected, month, last = (days[k] for k in (5, 8, 10, 12, 20, 31, -1))
    texts = {day: _uci(part, with_temperature=day >= month) for day, part in rows.items()}
    texts[comma] = texts[comma].replace(".", ",")
    for k in rng.choice(len(days), 6, replace=False):
        texts[days[k]] = _broken(texts[days[k]], rng)
    zones = [folder / "1", folder / "2"]
    for zone, is_second in zip(zones, (False, True), strict=True):
        for day, text in texts.items():
            if is_second or day not in (late, last):
                when = last if day == late else day
                _put(zone / f"power/{day}.txt", text, when + timedelta(days=1))
    at = last + timedelta(days=1)
    few = pl.concat(
        [rows[corrected][600:630], rows[corrected][630:660].with_columns(pl.col("power_kw") / 2)]
    )
    other = rows[anew].with_columns(pl.col("power_kw") * 1.1)
    _put(zones[1] / f"power/{again} (1).txt", texts[again], at)
    _put(zones[1] / f"power/{anew}.txt", _uci(other), at)
    _put(zones[1] / "power/correction.txt", _uci(few), at)
    for ticks in trades:
        day = ticks["day"][0]
        local = ticks["ts"].dt.convert_time_zone("America/New_York")
        when = local.dt.to_string("%Y-%m-%d %H:%M:%S%.3f")
        text = ticks.select(when.alias("timestamp"), pl.col("price").round(2), "size").write_csv()
        for zone in zones:
            _put(zone / f"tick/MADE/{day}.csv", text, day + timedelta(days=1))
    return zones


def _put(path: Path, text: str, day: date) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    at = datetime(day.year, day.month, day.day, 5, tzinfo=UTC).timestamp()
    os.utime(path, (at, at))


def _uci(rows: pl.DataFrame, *, with_temperature: bool = False) -> str:
    """Return readings as UCI writes them; a missing row is of question marks."""
    ts, power = pl.col("ts"), pl.col("power_kw")
    columns = {"Date": ts.dt.strftime("%d/%m/%Y"), "Time": ts.dt.strftime("%H:%M:%S")}
    names = [name for name in rows.columns if name != "ts"]
    columns |= dict(zip(HEADER, map(pl.col, names), strict=True))
    if with_temperature:
        celsius = 8 - 4 * ((ts.dt.hour() + ts.dt.minute() / 60 - 3) * (np.pi / 12)).cos()
        columns["Outdoor_temperature"] = pl.when(power.is_not_null()).then(celsius.round(1))
    text = rows.select(**columns).fill_nan(None)
    return text.write_csv(separator=";", null_value="?", float_precision=3)


def _broken(text: str, rng: np.random.Generator) -> str:
    """Return a text with one line cut, one that is no number, and one out of any range."""
    lines = text.splitlines()
    cut, word, far = rng.choice(np.arange(1, len(lines)), 3, replace=False)
    lines[cut] = lines[cut][:24]
    fields = lines[word].split(";")
    lines[word] = ";".join([*fields[:2], "ERROR", *fields[3:]])
    fields = lines[far].split(";")
    lines[far] = ";".join([*fields[:4], "23478.0", *fields[5:]])
    return "\n".join(lines) + "\n"
