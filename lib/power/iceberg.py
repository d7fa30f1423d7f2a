"""Readings from a table of an Iceberg catalog, as it is or as it once was."""

from lib.catalogs import load_table
from lib.power.frame import Part
from lib.power.source import Source
from lib.power.table import from_table

PREFIX = "iceberg:"


def read_iceberg(source: str, written: Source) -> Part:
    """Read a table, whose rows may be in any order.

    Parameters
    ----------
    source : str
        ``iceberg:`` and a name as `lib.catalogs.load_table` takes it.
    written : lib.power.source.Source
        What its columns are. Those that are named otherwise are left out, as in files.

    Raises
    ------
    ValueError
        If table or snapshot are not there, or a column cannot be read.
    """
    table, snapshot = load_table(source.removeprefix(PREFIX))
    part = from_table(table.scan(snapshot_id=snapshot).to_pandas(), source, written)
    return Part(part.name, part.frame.sort_index(kind="stable"), "row in order of time")
