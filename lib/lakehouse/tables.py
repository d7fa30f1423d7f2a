"""The lake's tables: how they are made, and how they change, whole or not at all.

Whoever writes does so on a branch of its own (`draft`), which readers do not see. When its checks
have passed there, main moves to the end of that branch, provided that main is still where the
branch began: of two writers one is told. What fails or is killed leaves main as it was, and the
branch to look at.
"""

import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from itertools import chain
from typing import TypeVar

import polars as pl
import pyarrow as arrow
from pyarrow import compute, parquet
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression, In
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType, NestedField

DRAFT = "draft-"
Item = TypeVar("Item")
TIME = arrow.timestamp("us", "UTC")
EPOCH = date(1970, 1, 1)
TRIES = 20  # other writers of other branches move the table's metadata, too
PROPERTIES = {"write.metadata.delete-after-commit.enabled": "true"}
PROPERTIES |= {"write.metadata.previous-versions-max": "20"}
PROPERTIES |= {"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "1"}
UNORDERED = ("file", "digest", "text")  # whose least and largest values tell nothing
PROPERTIES |= {f"write.metadata.metrics.column.{name}": "none" for name in UNORDERED}


class Overtaken(ValueError):
    """Another writer has moved main meanwhile; nothing was published."""


def open_table(
    catalog: Catalog, name: str, columns: Mapping[str, IcebergType], *, by: str = ""
) -> Table:
    """Return a table, made if it is not there and given the columns that it lacks.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    name : str
        ``<namespace>.<table>``.
    columns : mapping of str to IcebergType
        What it needs at least. A new column is added, and a type that is wider than the table's
        widens it; no file is written again for that.
    by : str, default ""
        The column that its files are parted by.
    """
    fields = [
        NestedField(number, column, kind, required=False)
        for number, (column, kind) in enumerate(columns.items(), start=1)
    ]
    if not catalog.table_exists(name):
        parts = [
            PartitionField(field.field_id, 1000, IdentityTransform(), by)
            for field in fields
            if field.name == by
        ]
        catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        return catalog.create_table_if_not_exists(
            name, Schema(*fields), partition_spec=PartitionSpec(*parts), properties=PROPERTIES
        )
    table = catalog.load_table(name)
    with table.update_schema() as update:
        update.union_by_name(Schema(*fields))
    return table


def head(table: Table, branch: str = "main") -> int | None:
    """Return the snapshot that a branch ends in; None while nothing was written."""
    ref = table.refs().get(branch)
    return ref.snapshot_id if ref else None


def see_unmoved(table: Table, base: int | None, draft: str = "") -> None:
    """Raise `Overtaken` if main is not at a snapshot, of which something has been read."""
    if head(table) != base:
        left = f", the draft is branch {draft}" if draft else ""
        raise Overtaken(
            f"{'.'.join(table.name())}: another writer has moved main from {base} to {head(table)} "
            f"meanwhile. Nothing was published{left}; run again"
        )


@contextmanager
def draft(table: Table) -> Iterator[str]:
    """Give the name of a branch to write to and to check; move main there when the block ends.

    Parameters
    ----------
    table : pyiceberg.table.Table
        As it was loaded before anything was read that decides what is written.

    Raises
    ------
    Overtaken
        If main has moved since then.
    """
    base = head(table)
    table.refresh()
    see_unmoved(table, base)
    if base is None:  # no branch can begin before the first snapshot
        table.append(table.schema().as_arrow().empty_table())
        base = head(table)
        if table.current_snapshot().parent_snapshot_id:  # of another writer, since
            see_unmoved(table, None)
    branch = f"{DRAFT}{uuid.uuid4().hex[:12]}"
    _commit(table, lambda: table.manage_snapshots().create_branch(base, branch))
    try:
        yield branch
    except (CommitFailedException, ValueError) as error:
        # pyiceberg tries again where main was written meanwhile, not where another branch was
        if isinstance(error, ValueError) and "sequence number" not in str(error):
            raise
        raise Overtaken(
            f"{'.'.join(table.name())}: another writer has written at the same time ({error}). "
            f"Nothing was published, the draft is branch {branch}; run again"
        ) from error
    publish(table, branch, base)


def publish(table: Table, branch: str, base: int) -> None:
    """Move main from `base` to the end of `branch`, which ends with that.

    Raises
    ------
    Overtaken
        If main is not at `base`, or the branch does not come from there.
    """

    def move() -> object:
        new = head(table, branch)
        line = [one.snapshot_id for one in ancestors_of(table.snapshot_by_id(new), table.metadata)]
        see_unmoved(table, base, branch)
        if base not in line:
            raise Overtaken(f"{'.'.join(table.name())}: branch {branch} is another's; run again")
        moved = table.manage_snapshots().set_current_snapshot(ref_name=branch)
        return moved.remove_branch(branch)

    table.refresh()
    _commit(table, move)


def replace(
    table: Table,
    branch: str,
    rows: pl.DataFrame,
    where: BooleanExpression | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write rows in place of those that `where` holds for; without it add them.

    Parameters
    ----------
    table : pyiceberg.table.Table
    branch : str
        From `draft`.
    rows : polars.DataFrame
        Columns of the table, in any order; those that are not given are missing.
    where : BooleanExpression, optional
    facts : mapping of str to str, optional
        Kept with the snapshot.
    """
    wanted = _typed(table, rows)
    kept = {"branch": branch, "snapshot_properties": dict(facts or {})}
    with warnings.catch_warnings():  # that there was nothing to replace
        warnings.filterwarnings("ignore", message="Delete operation did not match")
        if table.spec().is_unpartitioned():
            table.overwrite(wanted, where or AlwaysFalse(), **kept)
            return
        with table.transaction() as change:
            if where:
                change.delete(where, **kept)
            if len(wanted):
                places = _write_parts(table, wanted)
                change.add_files(places, check_duplicate_files=False, **kept)


def put_in_place(
    table: Table,
    branch: str,
    parts: Sequence[Sequence[FileScanTask]],
    order: Sequence[str],
    facts: Mapping[str, str],
) -> None:
    """Write the rows of some files again, and put what is written in their place.

    Parameters
    ----------
    table : pyiceberg.table.Table
    branch : str
        From `draft`.
    parts : sequence of sequences of FileScanTask
        The rows of each part are held at once, and make one file.
    order : sequence of str
        Columns to sort a part's rows by.
    facts : mapping of str to str
        Kept with the snapshot.
    """
    read = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    places = []
    for part in parts:
        rows = pl.from_arrow(read.to_table(part)).sort(order)
        places += _write_parts(table, _typed(table, rows))
    kept = {"branch": branch, "snapshot_properties": dict(facts)}
    with table.transaction() as change:
        with change.update_snapshot(**kept).overwrite() as gone:
            for task in chain.from_iterable(parts):
                gone.delete_data_file(task.file)
        change.add_files(places, check_duplicate_files=False, **kept)


def _typed(table: Table, rows: pl.DataFrame) -> arrow.Table:
    """Return rows in the order and types of a table's columns, those that they have."""
    names = [field.name for field in table.schema().fields if field.name in rows.columns]
    return rows.select(names).to_arrow().cast(table.schema().select(*names).as_arrow())


def _write_parts(table: Table, rows: arrow.Table) -> list[str]:
    """Write a file for each value that a table is parted by; pyiceberg takes ten times as long."""
    by = [table.schema().find_column_name(part.source_id) for part in table.spec().fields]
    places, values = [], compute.unique(rows[by[0]]) if by else [None]
    rising = [one.name for one in rows.schema if one.type in (arrow.int64(), TIME)]
    encoding = dict.fromkeys(rising, "DELTA_BINARY_PACKED")
    others = [one.name for one in rows.schema if one.name not in rising]
    zstd = {"compression": "zstd", "compression_level": 1}
    for value in values:
        places.append(table.location_provider().new_data_location(f"{uuid.uuid4()}.parquet"))
        with table.io.new_output(places[-1]).create() as stream:
            some = rows.filter(compute.equal(rows[by[0]], value)) if len(values) > 1 else rows
            parquet.write_table(
                some, stream, use_dictionary=others, column_encoding=encoding, **zstd
            )
    return places


def scan(
    table: Table,
    where: BooleanExpression | None = None,
    columns: Sequence[str] = ("*",),
    at: int | str | None = "main",
) -> pl.DataFrame:
    """Return rows of a table at a snapshot or the end of a branch."""
    snapshot = head(table, at) if isinstance(at, str) else at
    if snapshot is None:
        wanted = table.schema() if columns == ("*",) else table.schema().select(*columns)
        return pl.from_arrow(wanted.as_arrow().empty_table())
    named = None if at == "main" else snapshot  # that has the columns it was written with
    found = table.scan(where or AlwaysTrue(), tuple(columns), snapshot_id=named).to_arrow()
    return pl.from_arrow(found)


def tag(table: Table, snapshot: int, name: str) -> str:
    """Give a snapshot a name, which keeps it however old it grows, and return the name.

    Where another snapshot has it, as after a registry has begun anew and counts its versions from
    1, it is ``<name>-<snapshot>``.

    Raises
    ------
    ValueError
        If there is no such snapshot any more.
    """

    def free() -> str:
        return name if head(table, name) in (None, snapshot) else f"{name}-{snapshot}"

    def name_it() -> object:
        if table.snapshot_by_id(snapshot) is None:
            raise ValueError(
                f"{'.'.join(table.name())} has no snapshot {snapshot} any more to call {name}: it "
                "has expired. Run the stage that reads the table again"
            )
        return table.manage_snapshots().create_tag(snapshot, free())

    table.refresh()
    if head(table, free()) != snapshot:
        _commit(table, name_it)
    return free()


def count(table: Table, branch: str) -> int:
    """Return the number of rows at the end of a branch, by what the table says of its files."""
    at = head(table, branch)
    return 0 if at is None else table.scan(snapshot_id=at).count()


def portions(sizes: Iterable[tuple[Item, int]], most: int, n_most: int = 0) -> Iterator[list[Item]]:
    """Yield items, each given with its rows, as many as can be held at once; one at least.

    Parameters
    ----------
    sizes : iterable of (item, int)
    most : int
        Rows.
    n_most : int, default 0
        Items; any number if 0.
    """
    part: list[Item] = []
    n_rows = 0
    for item, size in sizes:
        if part and (n_rows + size > most or len(part) == n_most):
            yield part
            part, n_rows = [], 0
        part.append(item)
        n_rows += size
    if part:
        yield part


def total(
    table: Table, column: str, where: BooleanExpression | None = None, branch: str = "main"
) -> int:
    """Return the sum of a column at the end of a branch; the rows are not held."""
    at = head(table, branch)
    if at is None:
        return 0
    found = table.scan(where or AlwaysTrue(), (column,), snapshot_id=at).to_arrow_batch_reader()
    return sum(compute.sum(batch.column(0)).as_py() or 0 for batch in found)


def rows_by_day(table: Table, snapshot: int | None) -> dict[date, int]:
    """Return how many rows a snapshot has on each day, of a table that is parted by the day."""
    found: Counter[date] = Counter()
    if snapshot is not None and not table.spec().is_unpartitioned():
        for task in table.scan(snapshot_id=snapshot).plan_files():
            found[as_day(task.file.partition[0])] += task.file.record_count
    return found


def as_day(value: int | date) -> date:
    """Return a day as pyiceberg gives it: as itself, or as the number of days since 1970."""
    return EPOCH + timedelta(days=value) if isinstance(value, int) else value


def days_in(column: str, days: Sequence[date | datetime | str]) -> BooleanExpression:
    """Return the filter of rows whose column holds one of some values."""
    return In(column, list(days)) if len(days) else AlwaysFalse()


def files_of(table: Table, snapshot: int | None) -> dict[str, object]:
    """Return the data files of a snapshot, each with what it is parted by (None if by nothing)."""
    if snapshot is None:
        return {}
    files = [task.file for task in table.scan(snapshot_id=snapshot).plan_files()]
    return {one.file_path: (one.partition[0] if len(one.partition) else None) for one in files}


def _commit(table: Table, change: object) -> None:
    """Commit a change of names; make it anew where another branch was written meanwhile."""
    for last in range(TRIES - 1, -1, -1):
        try:
            change().commit()
            return
        except CommitFailedException:
            if not last:
                raise
            table.refresh()
