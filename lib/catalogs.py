"""Iceberg catalogs and tables by name, as they are or as they once were.

A catalog is pyiceberg's own business (``.pyiceberg.yaml`` or ``PYICEBERG_CATALOG__...``), so no
address or password is given here. `LAKE` alone is there without being configured: SQLite and local
files below `DATA_DIR`, because its tables are data, and outlive runs and `OUTPUTS_DIR`.
"""

from pathlib import Path

from lib.ground.files import data_dir

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table
from pyiceberg.utils.config import Config

LAKE = "lake"


def open_catalog(name: str) -> Catalog:
    """Return the catalog that pyiceberg's configuration calls so, or the default of `LAKE`."""
    folder = lake_folder() if name == LAKE else None
    return local_catalog(folder) if folder else load_catalog(name)


def lake_folder() -> Path | None:
    """Return the folder of `LAKE`, which need not be there; None where it is configured elsewhere.

    Raises
    ------
    ValueError
        If `DATA_DIR` is no folder of this machine: then it has to be configured.
    """
    if Config().get_catalog_config(LAKE):
        return None
    if not isinstance(data_dir(), Path):
        raise ValueError(
            f"{data_dir()} is no folder for SQLite: say where the catalog {LAKE} is, in "
            f".pyiceberg.yaml or PYICEBERG_CATALOG__{LAKE.upper()}__URI and __WAREHOUSE"
        )
    return data_dir() / LAKE


def local_catalog(folder: Path) -> Catalog:
    """Return the catalog whose tables and SQLite database lie in a folder, which must exist."""
    place = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}"}
    return load_catalog(LAKE, type="sql", **place)


def load_table(name: str) -> tuple[Table, int | None]:
    """Return a table and the snapshot of it that a name means.

    Parameters
    ----------
    name : str
        ``<catalog>.<namespace>.<table>``, or that and ``@`` with a tag, a branch or the number of
        a snapshot.

    Returns
    -------
    table : pyiceberg.table.Table
    snapshot : int or None
        None where nothing has been written yet.

    Raises
    ------
    ValueError
        If catalog, table or snapshot are not there.
    """
    whole, _, moment = name.partition("@")
    catalog, _, identifier = whole.partition(".")
    if catalog == LAKE:
        lake_folder()  # which says how to configure it, where it must be
    try:
        table = open_catalog(catalog).load_table(identifier)
    except Exception as error:  # every kind of catalog has errors of its own
        raise ValueError(
            f"the Iceberg catalog {catalog!r} gives no table {identifier!r} "
            f"({type(error).__name__}): give iceberg:<catalog>.<namespace>.<table>, with a catalog "
            "that pyiceberg's configuration names, in .pyiceberg.yaml or PYICEBERG_CATALOG__..."
        ) from None
    return table, snapshot_of(table, moment)


def snapshot_of(table: Table, moment: str) -> int | None:
    """Return the snapshot that a tag, a branch or a number names; "" is what is current.

    Raises
    ------
    ValueError
        If there is none; says which names there are.
    """
    refs = table.refs()
    if moment in refs:
        return refs[moment].snapshot_id
    if moment.isdecimal() and table.snapshot_by_id(int(moment)):
        return int(moment)
    if moment:
        raise ValueError(
            f"{'.'.join(table.name())} has no snapshot {moment!r}: it was never there, or has "
            f"expired. There are the names {', '.join(sorted(refs)) or 'none'}"
        )
    current = table.current_snapshot()
    return current.snapshot_id if current else None
