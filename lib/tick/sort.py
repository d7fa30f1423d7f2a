"""Ticks in any order, put in order of time: laid down by day, then sorted a day at a time.

Memory holds one batch, then the ticks of one day. Ticks of one moment keep the order in which they
came, so the result does not depend on how the batches were cut.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib.tick.days import check_sides
from lib.tick.rules import Session

import polars as pl
import pyarrow as arrow


def sort_ticks(
    batches: Iterable[pl.DataFrame], session: Session, scratch: Path
) -> Iterator[pl.DataFrame]:
    """Yield ticks in order of time, in batches of a session's day, by way of files in `scratch`."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".unsorted-") as folder:
        for batch in batches:
            for day, ticks in _by_day(batch, session):
                with Path(folder, day).open("ab") as file:
                    ticks.write_ipc_stream(file)
        for path in sorted(Path(folder).iterdir()):
            yield _read(path).sort("ts", maintain_order=True)
            path.unlink()


def _by_day(batch: pl.DataFrame, session: Session) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the ticks of each day of a batch, in the order in which they came."""
    local = batch["ts"].dt.convert_time_zone(session.zone.key).dt.date()
    for (day,), ticks in batch.with_columns(_day=local).group_by(["_day"], maintain_order=True):
        yield str(day), ticks.drop("_day")


def _read(path: Path) -> pl.DataFrame:
    """Return what was appended to a file, one stream after the other."""
    pieces, size = [], path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            with arrow.ipc.open_stream(file) as stream:
                pieces.append(pl.from_arrow(stream.read_all()))
                check_sides(path.name, pieces[0], pieces[-1])
    return pl.concat(pieces, how="diagonal")
