"""What comes into the lake: two feeds, and how each is written, checked and told apart.

A landing zone is a folder with a folder for each feed. In `power/` are UCI's texts of a house's
readings, a row a minute; in `tick/<symbol>/` the trades of a symbol. Names and number of the files
are free. A name stands for what it holds: the file that landed last under a name takes the place
of those before it. What no name stands for any more is replaced.

===========  =======================================  ==========================================
table        a row is                                 written
===========  =======================================  ==========================================
bronze       a line of a file as it came; line 0 is   once for each digest, whatever the names
             that the file landed, under which name   (of one symbol)
checked      a file: which version, how many lines    last, when all that follows from it is in
quarantine   a refused line, and the reason           with the check of its file
silver       a reading or trade: typed, in UTC, once  by the day, for the days of new versions
hourly …     a row of gold                            by the day, for the days that changed
===========  =======================================  ==========================================

Readings have the key ``ts``. Trades have no key of their own, as many are equal: theirs is symbol,
time, price, size and ``nth``, the how-manieth such line of its file it is. Of several lines with
one key the one of the latest version holds: of a file first written later, then further down in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

INFINITE = float("inf")
ISO = "%Y-%m-%d %H:%M:%S%.f"
QUARTER = "15m"  # clocks are put forward or back at the begin of one


@dataclass(frozen=True)
class Feed:
    """How the files of a feed are written, and what a row must keep.

    Attributes
    ----------
    name : str
        Of its folder, and of its tables' namespace.
    time : tuple of str
        The columns that make the time, and how it is written.
    time_format : str
    values : mapping of str to (str, float, float)
        By the header of a file: column of silver, least and largest value.
    needed : tuple of str
        Columns of silver that a row must have a value in; others may be missing.
    key : tuple of str
        What makes a row that row.
    later : mapping of str to (str, float, float)
        Values that not every file has: silver gets the column with the first that does.
    """

    name: str
    time: tuple[str, ...]
    time_format: str
    values: Mapping[str, tuple[str, float, float]]
    needed: tuple[str, ...]
    key: tuple[str, ...]
    later: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, tuple[str, float, float]]:
        """All columns that are read."""
        return {**self.values, **self.later}


POWER = Feed(
    name="power",
    time=("Date", "Time"),
    time_format="%d/%m/%Y %H:%M:%S",
    values={
        "Global_active_power": ("power_kw", 0, 100),
        "Global_reactive_power": ("reactive_power_kvar", -100, 100),
        "Voltage": ("voltage_v", 0, 1000),
        "Global_intensity": ("current_a", 0, 400),
        "Sub_metering_1": ("sub_metering_1_wh", 0, 1700),
        "Sub_metering_2": ("sub_metering_2_wh", 0, 1700),
        "Sub_metering_3": ("sub_metering_3_wh", 0, 1700),
    },
    needed=(),
    key=("ts",),
    later={"Outdoor_temperature": ("outdoor_temperature_c", -60, 60)},
)
TICK = Feed(
    name="tick",
    time=("timestamp",),
    time_format=ISO,
    values={"price": ("price", 1e-9, INFINITE), "size": ("size", 1e-9, INFINITE)},
    needed=("price", "size"),
    key=("symbol", "ts", "price", "size", "nth"),
)
FEEDS = (POWER, TICK)


def to_utc(local: pl.Series, feed: Feed, zone: str) -> pl.Series:
    """Return times of a feed's clock in UTC; null where it has no such time, or has it twice.

    The meter of a house keeps its zone's standard time all year, see `standard_offset`.
    """
    if feed is POWER:
        return (local - standard_offset(zone)).dt.replace_time_zone("UTC")
    first, last = local.min(), local.max()
    if first and last - first < timedelta(days=400):  # mostly they are of one day, one offset
        around = first - timedelta(hours=1), last + timedelta(hours=1)
        clock = pl.Series([time.replace(minute=0, second=0, microsecond=0) for time in around])
        clock = pl.datetime_range(*clock, QUARTER, time_unit="us", eager=True)
        offsets = (_from_zone(clock, zone).dt.replace_time_zone(None) - clock).unique()
        if len(offsets) == 1 and offsets[0] is not None:
            return (local + offsets[0]).dt.replace_time_zone("UTC")
    return _from_zone(local, zone)


def _from_zone(local: pl.Series, zone: str) -> pl.Series:
    there = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return there.dt.convert_time_zone("UTC")


def standard_offset(zone: str) -> timedelta:
    """Return how far a zone's standard time, as of 2025, is ahead of UTC.

    It is the lesser of winter's and summer's, as Dublin's winter time is an offset from standard
    time by law. For a house in a zone that has moved since its meter was set, as Istanbul has, give
    one that stays: ``Etc/GMT-2`` is two hours ahead of UTC.
    """
    middays = (datetime(2025, month, 1, 12, tzinfo=UTC) for month in (1, 7))
    return min(midday.astimezone(ZoneInfo(zone)).utcoffset() for midday in middays)
