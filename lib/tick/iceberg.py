"""Ticks in an Iceberg table: the data files that can hold those of some days and one symbol.

Days and symbol are pushed down to the table: partitions and statistics leave out whole files before
any is opened. One snapshot of the table is read, whatever is written to it meanwhile.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from lib.catalogs import load_table
from lib.tick.read import RawTicks, TickFile, TickFormat, check_columns
from lib.tick.rules import utc

import pyarrow as arrow
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThan
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import TimestampType, TimestamptzType


def iceberg_finder(
    name: str, symbol: str, form: TickFormat, end_us: int | None
) -> Callable[[int], list[TickFile]]:
    """Return a function of a time that lists the data files with ticks from then to `end_us`.

    Parameters
    ----------
    name : str
        See `lib.catalogs.load_table`.
    symbol : str
        Symbol wanted; "" for all, or where the table has no column of symbols.
    form : TickFormat
    end_us : int, optional
        Us since 1970, UTC; this moment is not included. Without it there is no end.

    Raises
    ------
    ValueError
        If catalog, table or snapshot are not there, or its timestamps are of no type that can be
        filtered.

    Notes
    -----
    The data files are read one after the other, in order of their first ticks; pyiceberg holds
    the wanted columns and rows of one of them in memory.
    """
    table, snapshot = load_table(name)
    columns = [field.name for field in table.scan(snapshot_id=snapshot).projection().fields]
    present = check_columns(name, columns, form)
    time_column, *others = present["timestamp"]
    if others:
        raise ValueError(f"{name}: the times of an Iceberg table must be in one column")
    to_clock, to_instant = _clock(table, name, time_column, form.time_zone)
    symbol_column = present["symbol"][0] if symbol and "symbol" in present else ""

    def find(begin_us: int) -> list[TickFile]:
        wanted = GreaterThanOrEqual(time_column, to_clock(begin_us))
        if end_us is not None:
            wanted = And(wanted, LessThan(time_column, to_clock(end_us)))
        if symbol_column:
            wanted = And(wanted, EqualTo(symbol_column, symbol))
        return [
            TickFile(
                task.file.file_path.rsplit("/", 1)[-1],
                partial(_open, table.metadata, table.io, columns, wanted, task),
                first_us=_first(task, table, time_column, symbol_column, to_instant),
            )
            for task in table.scan(wanted, snapshot_id=snapshot).plan_files()
        ]

    return find


def _clock(
    table: Table, name: str, column: str, time_zone: str
) -> tuple[Callable[[int], datetime], Callable[[int], int]]:
    """Return how to say a UTC time (us) in the table's terms, and a time of the table in UTC."""
    kind, zone = table.schema().find_type(column), ZoneInfo(time_zone)
    if isinstance(kind, TimestamptzType):
        return utc, lambda instant: instant
    if isinstance(kind, TimestampType):
        return (
            lambda instant: utc(instant).astimezone(zone).replace(tzinfo=None),
            lambda local: (utc(local).replace(tzinfo=zone) - utc(0)) // timedelta(microseconds=1),
        )
    raise ValueError(f"{name}: {column} is of type {kind}, timestamp or timestamptz was expected")


def _first(
    task: FileScanTask,
    table: Table,
    column: str,
    symbol_column: str,
    to_instant: Callable[[int], int],
) -> int | None:
    """Return the first time in a data file by its statistics, us since 1970.

    None without them, or where they are of several symbols.
    """
    least, most = task.file.lower_bounds or {}, task.file.upper_bounds or {}
    if symbol_column:
        symbols = table.schema().find_field(symbol_column).field_id
        if symbols not in least or least[symbols] != most.get(symbols):
            return None
    field = table.schema().find_field(column)
    first = least.get(field.field_id)
    return None if first is None else to_instant(from_bytes(field.field_type, first))


def _open(
    metadata: TableMetadata,
    io: FileIO,
    columns: list[str],
    wanted: BooleanExpression,
    task: FileScanTask,
    _: TickFormat,
) -> RawTicks:
    def batches(names: list[str]) -> Iterator[arrow.RecordBatch]:
        scan = ArrowScan(metadata, io, metadata.schema().select(*names), wanted)
        return scan.to_record_batches([task])

    return RawTicks(columns, batches, may_be_empty=True)
