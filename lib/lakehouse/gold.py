"""Gold: hours and days of the house, bars of five seconds and days of the symbols.

Each table says which snapshot of what it was made from it holds, and only the days whose files
have changed since are made anew. A run that ends in between is made good by the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from lib.lakehouse import tables
from lib.lakehouse.changes import changed_days
from lib.lakehouse.feeds import standard_offset

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.types import DateType, DoubleType, IntegerType, StringType, TimestamptzType

SOURCE = "made-from-snapshot"
MOST_MISSING = 0.25  # of the readings of an hour, as the power pipeline has it
BAR_US = 5_000_000
MOST_DAYS, MOST_ROWS = 100, 1_000_000  # that are made of at once
MEANS = ("power_kw", "reactive_power_kvar", "voltage_v", "current_a")
SUMS = ("sub_metering_1_wh", "sub_metering_2_wh", "sub_metering_3_wh")
BAR = ("open", "high", "low", "close", "volume", "vwap")


@dataclass(frozen=True)
class Gold:
    """A table of gold: what it is made from, its columns, and how rows of some days are made."""

    name: str
    source: str
    columns: dict
    make: Callable[[pl.DataFrame, str], pl.DataFrame]
    by: str = ""
    key: tuple[str, ...] = ("ts",)


def hours(readings: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Return the hours of readings: means of kW, kVAr, V and A, and sums of Wh.

    Parameters
    ----------
    readings : polars.DataFrame
        Of silver, whole days of the house's clock.
    zone : str
        Of the house.

    Returns
    -------
    polars.DataFrame
        ``day``, ``ts`` (UTC, the begin of the hour), the values, and ``readings``, how many have
        power. An hour with too few readings of a value has none; sums are scaled to the whole
        hour, as if the rest went on like the readings. How many a whole hour has is told by the
        commonest time between two readings of its day: a day of a single one has no values.
    """
    step = pl.col("ts").unique().sort().diff().drop_nulls().mode().min().dt.total_seconds()
    steps = readings.group_by("day").agg(n_whole=(3600 / step).round().clip(1))
    n_whole = pl.col("n_whole").first()
    local = pl.col("ts").dt.replace_time_zone(None) + standard_offset(zone)
    begin = (local.dt.truncate("1h") - standard_offset(zone)).dt.replace_time_zone("UTC")
    enough = lambda name: pl.col(name).count() >= (1 - MOST_MISSING) * n_whole  # noqa: E731
    return (
        readings.join(steps, on="day")
        .group_by("day", ts=begin)
        .agg(
            *(pl.when(enough(name)).then(pl.col(name).mean()).alias(name) for name in MEANS),
            *(
                pl.when(enough(name)).then(pl.col(name).mean() * n_whole).alias(name)
                for name in SUMS
            ),
            readings=pl.col("power_kw").count().cast(pl.Int32),
        )
        .sort("ts")
    )


def power_days(hourly: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Return the days of hours: energy, peak and the hour it fell in, by the house's clock."""
    hour = (pl.col("ts").dt.replace_time_zone(None) + standard_offset(zone)).dt.hour()
    known = pl.col("power_kw").is_not_null()
    return (
        hourly.group_by("day")
        .agg(
            energy_kwh=pl.when(known.any()).then(pl.col("power_kw").sum()),
            peak_kw=pl.col("power_kw").max(),
            peak_hour=hour.filter(known)
            .gather(pl.col("power_kw").filter(known).arg_max())
            .first()
            .cast(pl.Int32),
            hours=known.sum().cast(pl.Int32),
        )
        .sort("day")
    )


def bars(ticks: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Return bars of five seconds, stamped with the end of their interval."""
    del zone  # of no account: a bar is of UTC
    end = ((pl.col("ts").dt.epoch("us") // BAR_US + 1) * BAR_US).cast(pl.Datetime("us", "UTC"))
    return _bars(ticks.sort("ts", "line"), "day", "symbol", ts=end)


def tick_days(of_five: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Return the days of bars."""
    del zone
    order = of_five.sort("ts")
    return (
        order.group_by("day", "symbol", maintain_order=True)
        .agg(
            open=pl.first("open"),
            high=pl.max("high"),
            low=pl.min("low"),
            close=pl.last("close"),
            vwap=(pl.col("vwap") * pl.col("volume")).sum() / pl.col("volume").sum(),
            volume=pl.sum("volume"),
            count=pl.sum("count"),
        )
        .sort("day", "symbol")
    )


def _bars(ticks: pl.DataFrame, *by: str, **also: pl.Expr) -> pl.DataFrame:
    price, size = pl.col("price"), pl.col("size")
    return (
        ticks.group_by(*by, maintain_order=True, **also)
        .agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            vwap=((price * size).sum() / size.sum()).clip(price.min(), price.max()),
            volume=size.sum(),
            count=pl.len().cast(pl.Int32),
        )
        .sort("symbol", "ts")
    )


BARS = {"day": DateType(), "symbol": StringType(), "ts": TimestamptzType()}
BARS |= dict.fromkeys(BAR, DoubleType()) | {"count": IntegerType()}
HOURLY = {"day": DateType(), "ts": TimestamptzType()}
HOURLY |= dict.fromkeys((*MEANS, *SUMS), DoubleType()) | {"readings": IntegerType()}
DAILY = {"day": DateType(), "energy_kwh": DoubleType(), "peak_kw": DoubleType()}
DAILY |= {"peak_hour": IntegerType(), "hours": IntegerType()}
TABLES = (
    Gold("power.hourly", "power.silver", HOURLY, hours),
    Gold("power.daily", "power.hourly", DAILY, power_days, key=("day",)),
    Gold("tick.bars_5s", "tick.silver", BARS, bars, by="day", key=("symbol", "ts")),
    Gold(
        "tick.daily",
        "tick.bars_5s",
        {name: kind for name, kind in BARS.items() if name != "ts"},
        tick_days,
        key=("day", "symbol"),
    ),
)


def open_gold(catalog: Catalog, gold: Gold) -> Table:
    """Return a table of gold."""
    return tables.open_table(catalog, gold.name, gold.columns, by=gold.by)


def update(catalog: Catalog, gold: Gold, zone: str) -> dict[str, int]:
    """Bring a table of gold to what its source holds.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    gold : Gold
        One of `TABLES`; its source must be up to date.
    zone : str
        Of the house, or the exchange.

    Returns
    -------
    dict of str to int
        ``days`` that were made anew, and ``rows`` of the whole table.

    Raises
    ------
    lib.lakehouse.tables.Overtaken
        If somebody else writes at the same time.
    """
    table, source = open_gold(catalog, gold), catalog.load_table(gold.source)
    at = tables.head(source)
    days = stale_days(table, source, at)
    if days:
        with tables.draft(table) as branch:
            n_rows = tables.rows_by_day(source, at)
            sizes = ((day, n_rows.get(day, 0)) for day in days)
            for some in tables.portions(sizes, MOST_ROWS, MOST_DAYS):
                where = tables.days_in("day", some)
                made = gold.make(tables.scan(source, where, at=at), zone)
                tables.replace(table, branch, made, where, {SOURCE: str(at)})
            _audit(table, branch, gold)
    return {"days": len(days), "rows": tables.count(table, "main")}


def stale_days(table: Table, source: Table, at: int | None) -> list[date]:
    """Return the days of a source that have changed since a table was made from it.

    All days where the snapshot that it was made from has expired.
    """
    now = table.current_snapshot()
    known = now.summary.additional_properties.get(SOURCE) if now else None
    if known == str(at) or at is None:
        return []
    made = int(known) if known and source.snapshot_by_id(int(known)) else None
    return changed_days(source, made, at)


def _audit(table: Table, branch: str, gold: Gold) -> None:
    """See that a draft of gold has each key once and no row without one."""
    keys = tables.scan(table, columns=gold.key, at=branch)
    if keys.is_duplicated().any() or keys.null_count().sum_horizontal()[0]:
        raise RuntimeError(
            f"{gold.name}, branch {branch}: a key of {', '.join(gold.key)} is there twice, or is "
            "missing. Nothing was published"
        )
