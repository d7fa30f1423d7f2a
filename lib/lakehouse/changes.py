"""Time travel: what differs between two snapshots of a table, by the files that differ."""

from collections.abc import Sequence
from datetime import date

from lib.lakehouse import tables

import polars as pl
from pyiceberg.table import Table

WHERE_FROM = ("digest", "line", "lines", "corrections")  # of silver: no values


def changed_days(table: Table, before: int | None, after: int | None) -> list[date]:
    """Return the days of rows that may differ between two snapshots, in order.

    Where the files are parted by the day it is those of the files that are in one of the two alone;
    else those of the rows.
    """
    old, new = tables.files_of(table, before), tables.files_of(table, after)
    parts = {new.get(path, old.get(path)) for path in old.keys() ^ new.keys()}
    if None not in parts:
        return sorted(map(tables.as_day, parts))
    rows = [tables.scan(table, at=one) for one in (before, after)]
    names = [name for name in rows[1].columns if name in rows[0].columns]
    rows = [one.select(names) for one in rows]
    apart = [
        one.join(other, on=names, how="anti", nulls_equal=True)["day"]
        for one, other in (rows, rows[::-1])
    ]
    return sorted(set(apart[0]) | set(apart[1]))


def changes(
    table: Table, key: Sequence[str], before: int | None, after: int | None
) -> pl.DataFrame:
    """Say how many rows came, changed and went from one snapshot to another.

    Parameters
    ----------
    table : pyiceberg.table.Table
        With a column ``day``.
    key : sequence of str
        What makes a row that row.
    before, after : int, optional
        Snapshots; None for the empty table.

    Returns
    -------
    polars.DataFrame of shape (n_days, 4)
        ``day``, ``added``, ``corrected`` and ``removed``, of the days on which there are any.
    """
    where = tables.days_in("day", changed_days(table, before, after))
    old, new = (tables.scan(table, where, at=at) for at in (before, after))
    names = [n for n in new.columns if n in old.columns and n not in WHERE_FROM]
    values = [name for name in names if name not in (*key, "day")]
    old, new = old.select(*key, "day", *values), new.select(*key, "day", *values)
    both = new.join(old, on=key, suffix="_before")
    differ = [pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in values]
    counts = {
        "added": new.join(old, on=key, how="anti"),
        "corrected": both.filter(pl.any_horizontal(pl.lit(value=False), *differ)),
        "removed": old.join(new, on=key, how="anti"),
    }
    found = pl.DataFrame(schema={"day": pl.Date})
    for name, rows in counts.items():
        per_day = rows.group_by("day").agg(pl.len().cast(pl.Int64).alias(name))
        found = found.join(per_day, on="day", how="full", coalesce=True)
    return found.fill_null(0).sort("day")


def pruned(table: Table) -> tuple[int, int]:
    """Return how many files a table opens for its last day, if any, and how many it has."""
    last = tables.scan(table, columns=("day",))["day"].max()
    of_day = table.scan(tables.days_in("day", [last] if last else [])).plan_files()
    return len(list(of_day)), len(tables.files_of(table, tables.head(table)))
