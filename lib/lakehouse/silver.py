"""Silver: readings and trades, typed, checked, in UTC and once each; what is refused, and why.

A file holds while it is what landed last under one of its names, however old it says it is. Which
of those that hold and disagree is right is a matter of when they were written, never of the order
in which they came: a file's version is the earliest time that it was written. Only the days of
files that are new, replaced or put back are made anew. Every line is accounted for: it is a header,
blank, refused, of a replaced file, a duplicate, or a row.
"""

import hashlib
from collections.abc import Sequence
from datetime import date

from lib.lakehouse import bronze, tables
from lib.lakehouse.feeds import TICK, Feed
from lib.lakehouse.lines import parse, read_lines

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestamptzType,
)

CHECKED = {
    "digest": StringType(),
    "version": TimestamptzType(),
    "active": BooleanType(),
    "days": ListType(1001, DateType(), element_required=False),
    "lines": LongType(),
    "header": LongType(),
    "blank": LongType(),
    "refused": LongType(),
    "rows": LongType(),
    "zone": StringType(),
}
QUARANTINE = {"file": StringType(), "digest": StringType(), "line": LongType()}
QUARANTINE |= {"reason": StringType(), "text": StringType()}
COUNTS = ("lines", "header", "blank", "refused", "rows")
MOST_LINES = 1_000_000  # that are held at once; of a day, or a file, all are
LINES = "lines-that-rows-stand-for"
NO_ROWS = pl.DataFrame(schema={"day": pl.Date, "lines": pl.Int32})


class TooManyRefused(ValueError):
    """More lines were refused than may be; nothing was published."""


def silver_columns(feed: Feed, later: Sequence[str] = ()) -> dict:
    """Return columns and types of a feed's silver, with those of its `later` columns given."""
    key = {"symbol": StringType(), "nth": IntegerType()} if feed is TICK else {}
    values = [name for name, *_ in feed.values.values()] + list(later)
    return {
        "day": DateType(),
        "ts": TimestamptzType(),
        **key,
        **dict.fromkeys(values, DoubleType()),
        "digest": StringType(),
        "line": LongType(),
        "lines": IntegerType(),
        "corrections": IntegerType(),
    }


def open_silver(catalog: Catalog, feed: Feed, later: Sequence[str] = ()) -> Table:
    """Return the table of a feed's rows, parted by the day."""
    columns = silver_columns(feed, later)
    return tables.open_table(catalog, f"{feed.name}.silver", columns, by="day")


def open_checked(catalog: Catalog, feed: Feed) -> Table:
    """Return the table of the files that silver knows."""
    return tables.open_table(catalog, f"{feed.name}.checked", CHECKED)


def open_quarantine(catalog: Catalog, feed: Feed) -> Table:
    """Return the table of refused lines."""
    return tables.open_table(catalog, f"{feed.name}.quarantine", QUARANTINE)


def update(
    catalog: Catalog,
    feed: Feed,
    zone: str,
    *,
    max_refused: float = 1.0,
    at: int | None = None,
) -> dict[str, int]:
    """Bring silver, quarantine and the list of checked files to what bronze holds.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    feed : Feed
    zone : str
        IANA zone of the times in its files; those that were read by another are read again.
    max_refused : float, default 1
        Most of the new lines that may be refused, as a fraction.
    at : int, optional
        The snapshot of bronze; by default what is current.

    Returns
    -------
    dict of str to int
        Of this update: ``files`` that are new, replaced, put back or gone, ``days`` made anew, and
        of the new files' lines how many there were and where they are, see `COUNTS`.

    Raises
    ------
    TooManyRefused
        Names the branch of the quarantine on which they can be looked at.
    lib.lakehouse.tables.Overtaken
        If somebody else writes at the same time.

    Notes
    -----
    In order: quarantine, silver, the list of checked files. A run that ends between two of these
    leaves the list behind, and so the next one does the same again, with the same result.
    """
    before = tables.head(open_silver(catalog, feed))  # first: others write bronze before silver
    lines = bronze.open_bronze(catalog, feed)
    checked, quarantine = open_checked(catalog, feed), open_quarantine(catalog, feed)
    landed = bronze.landings(lines, "main" if at is None else at)
    listed, state = tables.scan(checked), versions(landed)
    known = listed.filter(zone=zone)  # another's times are other ones
    new = state.join(known, on="digest", how="anti")["digest"].to_list()
    gone = listed.join(state.join(known, on="digest"), on="digest", how="anti")
    counted = landed.group_by("digest").agg(pl.col("lines").max()).fill_null(MOST_LINES)
    n_lines = dict(counted.iter_rows())
    portions = list(tables.portions(((one, n_lines[one]) for one in new), MOST_LINES))
    stats, later = _check_new(
        lines, quarantine, feed, zone, landed, portions, gone["digest"].to_list(), max_refused
    )
    facts = pl.concat([known.select("digest", "days", *COUNTS), stats])
    now = state.join(facts, on="digest", how="left").with_columns(zone=pl.lit(zone))
    now = now.select(list(CHECKED))
    changed = now.join(known, on=["digest", "version", "active"], how="anti")
    touched = pl.concat([changed, gone])
    days = sorted(set(touched["days"].explode(empty_as_null=False).drop_nulls()))
    silver = open_silver(catalog, feed, later)
    if days:
        tables.see_unmoved(silver, before)
        _make_days(lines, silver, feed, zone, landed, now, days)
    if len(touched):
        with tables.draft(checked) as branch:
            where = tables.days_in("digest", touched["digest"].to_list())
            tables.replace(checked, branch, changed, where)
    told = {name: int(stats[name].sum()) for name in COUNTS}
    return {"files": touched["digest"].n_unique(), "days": len(days), **told}


def versions(landed: pl.DataFrame) -> pl.DataFrame:
    """Return of every digest its version, and whether it is what landed last under a name."""
    version = landed.group_by("digest").agg(version=pl.col("written").min())
    newest = landed.group_by("file").agg(pl.col("digest").sort_by("arrived", "written").last())
    active = pl.col("digest").is_in(newest["digest"].implode())
    return version.with_columns(active=active).sort("version", "digest")


def _check_new(
    lines: Table,
    quarantine: Table,
    feed: Feed,
    zone: str,
    landed: pl.DataFrame,
    portions: Sequence[Sequence[str]],
    gone: Sequence[str],
    max_refused: float,
) -> tuple[pl.DataFrame, list[str]]:
    """Put the refused lines of new files into quarantine in place of gone ones' lines.

    Returns
    -------
    stats : polars.DataFrame
        Of each new digest what its file holds: ``digest``, ``days`` and `COUNTS`.
    later : list of str
        Columns of silver that are in some of the files.
    """
    counts = dict.fromkeys(COUNTS, pl.Int64)
    stats = [pl.DataFrame(schema={"digest": pl.String, "days": pl.List(pl.Date), **counts})]
    later: set[str] = set()
    if not portions and not gone:
        return stats[0], []
    held = set(tables.scan(quarantine, columns=("digest",))["digest"])
    nothing = pl.DataFrame(schema=dict.fromkeys(QUARANTINE, pl.String) | {"line": pl.Int64})
    texts = pl.col("file", "digest").cast(pl.String)
    with tables.draft(quarantine) as branch:
        if gone:
            tables.replace(quarantine, branch, nothing, tables.days_in("digest", gone))
        for digests in portions:
            wrong, parts = [nothing], []
            for some in read_lines(lines, landed, digests):
                parsed = parse(some, feed, zone)
                later |= {name for name, *_ in feed.later.values()} & set(parsed.columns)
                refused = parsed.filter(pl.col("reason").is_not_null()).with_columns(texts)
                wrong.append(refused.select(list(QUARANTINE)))
                parts.append(_stats(parsed))
            if any(map(len, wrong)) or not held.isdisjoint(digests):
                where = tables.days_in("digest", digests)
                tables.replace(quarantine, branch, pl.concat(wrong), where)
            stats.append(_put_together(parts, digests))
        found = pl.concat(stats)
        total = found.select(pl.col(COUNTS).sum()).row(0, named=True)
        if total["lines"] != sum(total[name] for name in COUNTS[1:]):
            raise RuntimeError(f"lines of {feed.name} have been lost: {total}")
        if total["refused"] > max_refused * max(total["lines"], 1):
            raise TooManyRefused(
                f"{total['refused']:,} of {total['lines']:,} new lines of {feed.name} are refused, "
                f"max_refused is {max_refused:g}. Nothing was published; the lines and the reasons "
                f"are in {feed.name}.quarantine, branch {branch}"
            )
    return found, sorted(later)


def _stats(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return what each of some files holds in these lines."""
    is_row = pl.col("ts").is_not_null()
    return parsed.group_by(pl.col("digest").cast(pl.String)).agg(
        days=pl.col("day").filter(is_row).unique(),
        lines=pl.len(),
        header=pl.col("kind").eq("header").sum(),
        blank=pl.col("kind").eq("blank").sum(),
        refused=pl.col("reason").is_not_null().sum(),
        rows=is_row.sum(),
    )


def _put_together(stats: Sequence[pl.DataFrame], digests: Sequence[str]) -> pl.DataFrame:
    """Return what each of some files holds, those without a line too."""
    whole = pl.DataFrame({"digest": digests})
    if stats:
        days = pl.col("days").explode(empty_as_null=False).unique().sort()
        found = pl.concat(stats).group_by("digest").agg(days, pl.col(COUNTS).sum())
        whole = whole.join(found, on="digest", how="left")
    else:
        whole = whole.with_columns(days=None, **dict.fromkeys(COUNTS, 0))
    counts = pl.col(COUNTS).fill_null(0).cast(pl.Int64)
    return whole.with_columns(counts, pl.col("days").fill_null(pl.lit([], pl.List(pl.Date))))


def _make_days(
    lines: Table,
    silver: Table,
    feed: Feed,
    zone: str,
    landed: pl.DataFrame,
    state: pl.DataFrame,
    days: Sequence[date],
) -> None:
    """Make some days of silver anew from all files that hold, and see that no row is lost."""
    holding = (
        state.filter("active")
        .explode("days", empty_as_null=False)
        .filter(pl.col("days").is_in(list(days)))
    )
    per_day = holding.group_by("days").agg("digest", pl.col("rows").sum()).sort("days")
    gone = sorted(set(days) - set(per_day["days"]))
    others = held = _lines_in(silver)
    with tables.draft(silver) as branch:
        sizes = [(day, 0) for day in gone] + list(per_day.select("days", "rows").iter_rows())
        for part in tables.portions(sizes, MOST_LINES):
            of_part = per_day.filter(pl.col("days").is_in(part))["digest"]
            digests = sorted(set(of_part.explode(empty_as_null=False)))
            rows = [
                parse(some, feed, zone)
                .filter(pl.col("ts").is_not_null() & pl.col("day").is_in(part))
                .drop("text", "file", "kind", "reason")
                for some in read_lines(lines, landed, digests)
            ]
            rows = sorted((one for one in rows if len(one)), key=lambda one: one["line"][0])
            n_lines = sum(map(len, rows))
            made = NO_ROWS
            if n_lines:
                made = once_each(pl.concat(rows, how="diagonal"), state, feed)
            if made["lines"].sum() != n_lines:
                raise RuntimeError(f"rows of {feed.name} have been lost on {part}")
            where = tables.days_in("day", part)
            before = tables.total(silver, "lines", where)
            others, held = others - before, held - before + n_lines
            tables.replace(silver, branch, made, where, {LINES: str(held)})
        _audit(silver, branch, feed, state, days, others)


def _lines_in(silver: Table) -> int:
    """Return how many lines the rows of silver stand for; its snapshot says so."""
    now = silver.current_snapshot()
    known = now.summary.additional_properties.get(LINES) if now else None
    return int(known) if known else tables.total(silver, "lines")


def once_each(rows: pl.DataFrame, state: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """Return rows once for each key, of the latest version.

    Parameters
    ----------
    rows : polars.DataFrame
        From `parse`, of files that hold.
    state : polars.DataFrame
        From `versions`, in order.
    feed : Feed

    Returns
    -------
    polars.DataFrame
        In order of time. ``lines`` says how many lines had the key, ``corrections`` how many other
        values they gave it; ``digest`` and ``line`` where the one that holds stands.
    """
    rows = rows.with_columns(pl.col("digest").cast(pl.String))
    parts = rows.partition_by("symbol") if feed is TICK else [rows]
    made = [_once_each(_in_order(part), state, feed) for part in parts]
    return _in_order(pl.concat(made))


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows by time and line, as those of one file mostly are."""
    if rows["ts"].is_sorted() and rows["line"].is_sorted():
        return rows
    return rows.sort("ts", "line")


def _once_each(rows: pl.DataFrame, state: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """Return as `once_each`, for a house or a symbol, of rows in order of time and line."""
    if feed is TICK:
        rows = rows.with_columns(nth=_nth(rows))
    counts = pl.col("lines", "corrections").cast(pl.Int32)
    is_single = rows["digest"].n_unique() == 1
    if is_single and (feed is TICK or rows["ts"].n_unique() == len(rows)):
        return rows.with_columns(lines=1, corrections=0).with_columns(counts)
    order = state.select("digest").with_row_index("order")
    values = [name for name, *_ in feed.columns.values() if name in rows.columns]
    others = [name for name in values if name not in feed.key]
    found = rows.join(order, on="digest").sort("order", "line")
    last = pl.col("day", "digest", "line", "order").last()
    made = found.group_by(*feed.key, *others).agg(last, lines=pl.len())
    if others:
        order = made.sort("order", "line").group_by(feed.key)
        lines, corrections = pl.col("lines").sum(), pl.len() - 1
        made = order.agg(pl.col(others).last(), last, lines=lines, corrections=corrections)
    else:  # equal keys are equal rows
        made = made.with_columns(corrections=0)
    return made.drop("order").with_columns(counts).select(*rows.columns, "lines", "corrections")


def _nth(trades: pl.DataFrame) -> pl.Series:
    """Return the how-manieth such trade of its file each is; few have the time of another one."""
    ts = trades["ts"]
    is_after = (ts == ts.shift(1)).fill_null(value=False)
    is_tied = is_after | is_after.shift(-1, fill_value=False)
    tied = trades.filter(is_tied).select("digest", "ts", "price", "size")
    nth = tied.select(nth=pl.int_range(pl.len(), dtype=pl.Int32).over(tied.columns))["nth"]
    return pl.zeros(len(trades), pl.Int32, eager=True).scatter(is_tied.arg_true(), nth)


def _audit(
    silver: Table,
    branch: str,
    feed: Feed,
    state: pl.DataFrame,
    days: Sequence[date],
    others: int,
) -> None:
    """Check of a draft of silver that every row of bronze is in it.

    Only the days that were made anew are read; the rows of others stand for `others` lines.

    Raises
    ------
    RuntimeError
        Says how many are missing, and on which branch.
    """
    found = others + tables.total(silver, "lines", tables.days_in("day", days), branch)
    wanted = state.filter("active")["rows"].sum()
    if found != wanted:
        raise RuntimeError(
            f"{feed.name}.silver, branch {branch}: its rows stand for {found:,} lines, and the "
            f"files that hold have {wanted:,}. Nothing was published"
        )


def totals(catalog: Catalog, feed: Feed) -> dict[str, int]:
    """Return where every line of bronze is; they add up.

    Returns
    -------
    dict
        ``lines`` of bronze, and of these ``header``, ``blank``, ``refused``, ``replaced`` (rows of
        files that do not hold any more), ``repeats`` and ``corrected`` (duplicates that say the
        same as the row that holds, or something else), and ``rows`` of silver.

    Raises
    ------
    RuntimeError
        If they do not.
    """
    checked = tables.scan(open_checked(catalog, feed))
    silver = open_silver(catalog, feed)
    n_rows, corrected = tables.count(silver, "main"), tables.total(silver, "corrections")
    table = bronze.open_bronze(catalog, feed)
    n_lines = tables.count(table, "main") - len(bronze.landings(table))
    is_held = pl.col("active")
    held = int(checked.filter(is_held)["rows"].sum())
    duplicates = tables.total(silver, "lines") - n_rows
    found = {
        "header": int(checked["header"].sum()),
        "blank": int(checked["blank"].sum()),
        "refused": tables.count(open_quarantine(catalog, feed), "main"),
        "replaced": int(checked["rows"].sum()) - held,
        "repeats": duplicates - corrected,
        "corrected": corrected,
        "rows": n_rows,
    }
    if n_lines != sum(found.values()):
        raise RuntimeError(f"of {n_lines:,} lines of {feed.name}.bronze not all are found: {found}")
    return {"lines": n_lines, **found}


def state_of(catalog: Catalog, feed: Feed) -> str:
    """Return a digest of the files that silver is made of: what holds, in which order."""
    checked = tables.scan(open_checked(catalog, feed)).sort("version", "digest")
    held = checked.select("digest", "active", "zone", *COUNTS)
    return hashlib.sha256(held.write_csv().encode()).hexdigest()[:16]
