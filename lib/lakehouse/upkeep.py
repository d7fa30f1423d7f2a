"""Upkeep of the lake: small files put together, old snapshots let go, files of nobody deleted.

What a tag or a branch names stays readable, whatever its age, and so does the snapshot that a table
of gold was made from. `expire_snapshots` of pyiceberg deletes no file, so what no snapshot refers
to is found by listing; a file that is young may belong to a writer who has not committed yet. To
say what would go no rows are read, and to put files together some at a time: memory does not grow
with a table.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from lib.lakehouse import tables
from lib.lakehouse.gold import SOURCE, TABLES
from lib.lakehouse.silver import LINES

import fsspec
import pandas as pd
from pyiceberg.catalog import Catalog
from pyiceberg.table import FileScanTask, Table

SMALL_BYTES = 8 << 20
FEW_FILES = 8  # small ones that are left as they are
MOST_ROWS = 1 << 18  # that are held at once; of a table that is parted by the day, all of a day are
YOUNG = timedelta(days=1)
ORDER = ("day", "ts", "arrived", "file", "digest", "line")


def tidy(catalog: Catalog, *, days: int = 30, apply: bool = False) -> pd.DataFrame:
    """Tidy all tables of a catalog, or say what would be done.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    days : int, default 30
        Snapshots and drafts that are younger stay.
    apply : bool, default False
        Do it; else nothing is changed.

    Returns
    -------
    pandas.DataFrame of shape (n_tables, 9)
        By table, what there is: ``snapshots``, ``files`` (of data, in the current snapshot) and
        ``mb`` (of all files there are); what goes: ``drafts``, ``expired`` snapshots, files
        ``put_together``, ``orphans``; and what there is afterwards: ``files_after``, ``mb_after``.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    found = {}
    for namespace in sorted(catalog.list_namespaces()):
        for name in sorted(catalog.list_tables(namespace)):
            table = catalog.load_table(name)
            found[".".join(name)] = _tidy(catalog, table, before, apply=apply)
    return pd.DataFrame(found).T.convert_dtypes().rename_axis("table")


def _tidy(
    catalog: Catalog, table: Table, before: datetime, *, apply: bool
) -> dict[str, int | float]:
    """Tidy a table, or say what would be done; see `tidy`."""
    small = small_files(table)
    drafts = old_drafts(table, before)
    old = old_snapshots(table, before, needed(catalog, table), drafts)
    told = {
        "snapshots": len(table.snapshots()),
        "files": len(tables.files_of(table, tables.head(table))),
        "mb": round(sum(_listed(table).values()) / 1e6, 2),
        "drafts": len(drafts),
        "expired": len(old),
        "put_together": sum(map(len, small)),
    }
    if apply:
        if small:
            put_together(table, small)
        for name in drafts:
            table.manage_snapshots().remove_branch(name).commit()
        if old:
            table.maintenance.expire_snapshots().by_ids(old).commit()
    gone = orphans(table)
    told["orphans"] = len(gone)
    if apply:
        system = _system(table)
        for path in gone:
            system.rm_file(path)
        table.refresh()
        told["files_after"] = len(tables.files_of(table, tables.head(table)))
        told["mb_after"] = round(sum(_listed(table).values()) / 1e6, 2)
    return told


def small_files(table: Table) -> list[list[FileScanTask]]:
    """Return the files that are worth putting together, in parts that become one file each.

    Of a table that is parted by the day, those of the days that have several; of another one those
    with few bytes and rows, where these are more than a few. No file is read for that.
    """
    at = tables.head(table)
    files = [] if at is None else list(table.scan(snapshot_id=at).plan_files())
    files = [one for one in files if not one.delete_files]
    if not table.spec().is_unpartitioned():
        days = groupby(sorted(files, key=_day), _day)
        return [some for some in (list(of_day) for _, of_day in days) if len(some) > 1]
    small = [
        one
        for one in files
        if one.file.file_size_in_bytes < SMALL_BYTES and one.file.record_count < MOST_ROWS // 2
    ]
    if len(small) <= FEW_FILES:
        return []
    parts = tables.portions(((one, one.file.record_count) for one in small), MOST_ROWS)
    return [part for part in parts if len(part) > 1]


def put_together(table: Table, parts: list[list[FileScanTask]]) -> None:
    """Write the rows of some files again, each part of them into one file."""
    order = [name for name in ORDER if name in _names(table)]
    kept = table.current_snapshot().summary.additional_properties
    facts = {name: kept[name] for name in (SOURCE, LINES) if name in kept}
    with tables.draft(table) as branch:
        n_rows = tables.count(table, branch)
        tables.put_in_place(table, branch, parts, order, facts)
        if tables.count(table, branch) != n_rows:
            raise RuntimeError(f"{'.'.join(table.name())}, branch {branch}: rows have been lost")


def old_drafts(table: Table, before: datetime) -> list[str]:
    """Return the drafts that nobody has written to since a time.

    One where main is may have begun just now, however old that snapshot is, and holds nothing else.
    """
    return [
        name
        for name, ref in table.refs().items()
        if name.startswith(tables.DRAFT) and _time(table, ref.snapshot_id) < before
        if ref.snapshot_id != tables.head(table)
    ]


def old_snapshots(table: Table, before: datetime, keep: set[int], drafts: list[str]) -> list[int]:
    """Return the snapshots that are older than a time, but for those that something holds."""
    held = {ref.snapshot_id for name, ref in table.refs().items() if name not in drafts} | keep
    return [
        one.snapshot_id
        for one in table.snapshots()
        if one.snapshot_id not in held and _time(table, one.snapshot_id) < before
    ]


def needed(catalog: Catalog, table: Table) -> set[int]:
    """Return the snapshots of a table that one of gold was made from."""
    found = set()
    for gold in TABLES:
        if gold.source == ".".join(table.name()) and catalog.table_exists(gold.name):
            now = catalog.load_table(gold.name).current_snapshot()
            made_from = now.summary.additional_properties.get(SOURCE) if now else None
            found |= {int(made_from)} if made_from else set()
    return found


def orphans(table: Table) -> list[str]:
    """Return the files of a table's folder that no snapshot refers to, and that are not young."""
    referred = {_plain(path) for path in _referred(table)}
    system, limit = _system(table), datetime.now(UTC) - YOUNG
    return [
        path
        for path in _listed(table)
        if _plain(path) not in referred and _modified(system, path) < limit
    ]


def _referred(table: Table) -> Iterator[str]:
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _listed(table: Table) -> dict[str, int]:
    """Return the files in a table's folder with their sizes."""
    system = _system(table)
    system.invalidate_cache()
    found = system.find(system._strip_protocol(table.location()), detail=True)
    return {path: facts["size"] for path, facts in found.items()}


def _system(table: Table) -> object:
    return fsspec.url_to_fs(table.location())[0]


def _modified(system: object, path: str) -> datetime:
    time = system.modified(path)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _plain(path: str) -> str:
    return path.partition("://")[2].lstrip("/") if "://" in path else path.lstrip("/")


def _time(table: Table, snapshot: int) -> datetime:
    return datetime.fromtimestamp(table.snapshot_by_id(snapshot).timestamp_ms / 1000, UTC)


def _day(task: FileScanTask) -> date:
    return tables.as_day(task.file.partition[0])


def _names(table: Table) -> list[str]:
    return [field.name for field in table.schema().fields]
