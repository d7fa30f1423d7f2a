"""Times of ticks as us since 1970, UTC, from text, numbers and timestamps of any kind.

What the first time of a file shows without doubt is told by it: ISO 8601 with or without a zone,
dates whose day and month cannot change places, numbers since 1970 by their size. Everything else
has its format in the layout. Each later time must be written in the same way; one that cannot be
read, or is of no year in which ticks were traded, is an error with its place.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from lib.dialect import EPOCHS, ISO, OF_DAY, time_formats, time_hint
from lib.tick.rules import EARLIEST, LATEST
from lib.tick.values import Place

import polars as pl
import pyarrow as arrow
import pyarrow.compute as compute
import pyarrow.types as types

US = {"s": 1_000_000, "ms": 1_000, "us": 1}
DAY_US = 86_400_000_000
RANGES = {"s": (3.15e8, 1e10), "ms": (3.15e11, 1e13), "us": (3.15e14, 1e16), "ns": (3.15e17, 1e19)}
"""Numbers since 1970 that are told by their size: seconds of 1980 to 2286, and so on. Between them
lie dates without signs between their parts: 20240304143000 is no number of milliseconds."""
NEEDS_CLOCK = 'needs its time of day: give both columns, as columns=["timestamp=DATE+TIME"]'
FIRST_US, LAST_US = (
    int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    for day in (EARLIEST, LATEST)
)
TOLD = {
    r"[12]\d{7} \d{6}": "%Y%m%d %H%M%S",
    r"[12]\d{7} \d{9}": "%Y%m%d %H%M%S%f",
    r"[12]\d{7}T\d{6}(\.\d+)?": "%Y%m%dT%H%M%S.%f",
    r"[12]\d{7}T\d{6}(\.\d+)?Z": "%Y%m%dT%H%M%S.%fZ",
    r"(19|20)\d{12}": "%Y%m%d%H%M%S",
    r"(19|20)\d{15}": "%Y%m%d%H%M%S%f",
}
"""Formats of digits alone that can be meant in one way only."""


def check_format(layout: str) -> None:
    """Raise an error if a format of times cannot be read here.

    Raises
    ------
    ValueError
        Says what is wrong with it.
    """
    if layout in ("", *EPOCHS, *OF_DAY):
        return
    if "%Z" in layout:
        raise ValueError(
            f"layout has time={layout!r}: names of zones are not read. Write UTC as it stands in "
            "the data; or leave the name out of the data and give time_zone"
        )
    try:
        pl.Series(["x"]).str.to_datetime(_variants(layout, "")[0], strict=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"layout has time={layout!r}, which is no format of times ({reason}): give one as "
            "%d.%m.%Y %H:%M:%S.%f"
        ) from None


@dataclass
class Times:
    """The reader of the times of one file.

    Attributes
    ----------
    layout : str
        Format or unit, see `lib.dialect.Layout`; "" to tell it by the first time.
    time_zone : str
        Zone of the times that do not say theirs.
    day : date, optional
        The date in the file's name, for times of day alone.
    name : str
        What messages call the column.
    first : str
        The first time of the file; "" before it is read.
    """

    layout: str
    time_zone: str
    day: date | None
    name: str = "the timestamp"
    first: str = ""

    def read(self, columns: Sequence[arrow.Array], place: Place) -> pl.Series:
        """Return times as us, UTC; a date and a time of day are two columns."""
        column = columns[0] if len(columns) == 1 else _join(columns)
        self.first = self.first or str(column[0])
        is_number = types.is_integer(column.type) or types.is_floating(column.type)
        if is_number and ("%" in self.layout or self._told()):
            column = column.cast(arrow.string())
        if types.is_string(column.type) or types.is_large_string(column.type):
            times = self._from_text(column, place)
        else:
            there = pl.from_arrow(column.is_valid())
            place.require(there, self.name, pl.from_arrow(column), "every tick needs a time")
            if types.is_timestamp(column.type):
                times = pl.from_arrow(column)
            elif is_number or types.is_decimal(column.type):
                times = self._from_numbers(column, place)
            else:
                raise ValueError(
                    f"{place.name}: the timestamps are of type {column.type}; text, numbers since "
                    "1970 or timestamps were expected"
                )
        shown = times.to_physical() if types.is_timestamp(column.type) else pl.from_arrow(column)
        self._check_years(times, shown, place)
        return self._to_utc(times.dt.cast_time_unit("us"), place)

    def _check_years(self, times: pl.Series, shown: pl.Series, place: Place) -> None:
        """Raise an error about a time of a year without ticks; later units must not overflow."""
        numbers, unit = times.to_physical(), times.dtype.time_unit
        least, most = (_from_us(limit, unit) for limit in (FIRST_US, LAST_US))
        if numbers.min() < least or numbers.max() >= most:
            expected = f"ticks are of {EARLIEST.year} to {LATEST.year}: is it a time?"
            place.require(numbers.is_between(least, most - 1), self.name, shown, expected)

    def _told(self) -> str:
        """Return the format that the first time shows without doubt, beside ISO 8601; or ""."""
        if ISO.fullmatch(self.first):
            return ""
        known = [form for pattern, form in TOLD.items() if re.fullmatch(pattern, self.first)]
        known = known or time_formats(self.first)
        if len(known) != 1 or not re.search("%Y.*%[HI]|%[HI].*%Y", known[0]):
            return ""
        return known[0] if "%f" in known[0] else known[0].replace(":%S", ":%S.%f")

    def _from_text(self, column: arrow.Array, place: Place) -> pl.Series:
        layout = self.layout or self._told()
        if "%" in layout:
            return self._by_format(pl.from_arrow(column), layout, place)
        if layout or re.fullmatch(r"[+-]?\d+(\.\d*)?", self.first):
            numbers = self._cast(column, (arrow.int64(), arrow.float64()), place)
            return self._from_numbers(numbers, place)
        if re.fullmatch(r"\d{4}-?\d\d-?\d\d", self.first):
            raise place.wrong(0, self.name, self.first, f"a date alone {NEEDS_CLOCK}")
        has_zone = re.search(r":\d\d(\.\d+)?([Zz]|[+-]\d\d(:?\d\d)?)$", self.first)
        return pl.from_arrow(
            self._cast(column, (arrow.timestamp("ns", "UTC" if has_zone else None),), place)
        )

    def _cast(
        self, column: arrow.Array, wanted: Sequence[arrow.DataType], place: Place
    ) -> arrow.Array:
        """Cast with Arrow, which is fast and does not say what it cannot cast: look for that."""
        for one in wanted:
            try:
                cast = column.cast(one)
            except arrow.ArrowInvalid:
                continue
            if not cast.null_count:
                return cast
        for at, value in enumerate(column):
            try:
                is_right = value.is_valid and value.cast(wanted[-1]) is not None
            except arrow.ArrowInvalid:
                is_right = False
            if not is_right:
                raise place.wrong(at, self.name, value.as_py(), self._expected(str(value), wanted))
        raise ValueError(f"{place.name}: {self.name} cannot be read")  # never: one was wrong

    def _expected(self, value: str, wanted: Sequence[arrow.DataType]) -> str:
        if arrow.types.is_integer(wanted[0]):
            return "a number was expected, as in the first row; correct or remove the line"
        year = re.match(r"(\d{4})-", value)
        if year and not EARLIEST.year <= int(year[1]) < LATEST.year:
            hint = f"ticks are of {EARLIEST.year} to {LATEST.year}: correct or remove the line"
        else:
            hint = time_hint(value, is_first=value == self.first)
        return f"a time as 2013-10-07 09:30:00.123 was expected; {hint}"

    def _by_format(self, column: pl.Series, layout: str, place: Place) -> pl.Series:
        """Return the times of a format, with the zone UTC if they have one."""
        text = column.str.strip_chars()
        if not re.search(r"%[dejDFx]", layout):
            layout = f"%Y-%m-%d {layout}"
            text = f"{self._the_day(place)} " + text
        first = text.drop_nulls().first() or ""
        times = None
        for variant in _variants(layout, first):
            found = text.str.to_datetime(variant, time_unit="us", strict=False)
            times = found if times is None else times.fill_null(found)
            if not times.null_count():
                break
        if times.null_count():
            wrong = str(column.filter(times.is_null()).first() or "")
            hint = time_hint(wrong, self.layout, is_first=wrong == first)
            expected = f"a time of the format {self.layout or layout} was expected; {hint}"
            place.require(times.is_not_null(), self.name, column, expected)
        is_utc = re.search(r"(UTC|GMT|Z)$", layout) and not times.dtype.time_zone
        return times.dt.replace_time_zone("UTC") if is_utc else times

    def _the_day(self, place: Place) -> date:
        if self.day is None:
            raise ValueError(
                f"{place.name} has times of day and no date in its name: give the column of dates "
                'too, as columns=["timestamp=DATE+TIME"], or put the date into the name, as '
                "2013-10-07"
            )
        return self.day

    def _from_numbers(self, column: arrow.Array, place: Place) -> pl.Series:
        """Return numbers since 1970 as UTC times, or since midnight as times of the clock."""
        numbers = pl.from_arrow(column)
        numbers = numbers.cast(pl.Int64 if numbers.dtype.is_integer() else pl.Float64)
        unit, _, of_day = self.layout.partition(" ")
        if of_day:
            self._check_range(numbers, unit, (0, DAY_US), place)
            midnight = pl.Series([self._the_day(place)]).cast(pl.Datetime("us")).to_physical()[0]
            return (_to_us(numbers, unit) + midnight).cast(pl.Datetime("us"))
        units = {_unit_of(numbers.min()), _unit_of(numbers.max())}
        if unit:
            self._check_range(numbers, unit, (FIRST_US, LAST_US), place)
        elif len(units) == 1 and None not in units:
            unit = units.pop()
        us = _to_us(numbers, unit) if unit else self._each_by_size(numbers, place)
        return us.cast(pl.Datetime("us", "UTC"))

    def _check_range(
        self, numbers: pl.Series, unit: str, limits_us: tuple[int, int], place: Place
    ) -> None:
        low, high = (_from_us(limit, unit) for limit in limits_us)
        right = numbers.is_between(low, high)
        for other in RANGES.keys() - {unit}:  # of which it would be a time of our days
            right &= ~numbers.cast(pl.Float64).is_between(*RANGES[other], closed="left")
        size = _unit_of(numbers.filter(~right).first())
        way = f'give layout=["time={size}"], as they are by their size' if size else "correct it"
        expected = f"{self.layout} since {'1970' if limits_us[0] else 'midnight'} were expected"
        place.require(right, self.name, numbers, f"{expected}: {way}")

    def _each_by_size(self, numbers: pl.Series, place: Place) -> pl.Series:
        """Return us of numbers of which each is told by its size: some files change the unit."""
        us = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(numbers))
        sizes = numbers.cast(pl.Float64)
        for unit, (above, below) in RANGES.items():
            inside = sizes.is_between(above, below, closed="left")
            us = us.zip_with(~inside, _to_us(numbers.set(~inside, 0), unit))
        if us.null_count():
            expected = _of_number(numbers.filter(us.is_null())[0])
            place.require(us.is_not_null(), self.name, numbers, expected)
        return us

    def _to_utc(self, times: pl.Series, place: Place) -> pl.Series:
        if times.dtype.time_zone:
            return times.dt.convert_time_zone("UTC")
        offset = _only_offset(times.to_physical(), self.time_zone)
        if offset is not None:
            return (times.to_physical() - offset).cast(pl.Datetime("us", "UTC"))
        local = times.dt.replace_time_zone(self.time_zone, ambiguous="null", non_existent="null")
        expected = (
            f"the clocks of {self.time_zone} show this time twice or never, when they are changed: "
            "give times with their zone, or the right time_zone"
        )
        place.require(local.is_not_null(), self.name, times, expected)
        return local.dt.convert_time_zone("UTC")


def _only_offset(local: pl.Series, zone: str) -> int | None:
    """Return by how many us clock times are ahead of UTC; None where that may change among them.

    Asking of each time takes longer than reading it. Clocks are never changed twice in a week.
    """
    first, last = local.min(), local.max()
    if first is None or last - first > 3 * DAY_US:
        return None
    ends = [datetime.fromtimestamp(us // 1_000_000, UTC) for us in (first, last)]
    around = [ends[0] - timedelta(days=2), ends[1] + timedelta(days=2)]
    offsets = {ZoneInfo(zone).utcoffset(end.replace(tzinfo=None)) for end in around}
    return offsets.pop() // timedelta(microseconds=1) if len(offsets) == 1 else None


def _unit_of(number: float | None) -> str | None:
    """Return the unit of a number since 1970 by its size."""
    inside = (u for u, (a, b) in RANGES.items() if number and a <= number < b)
    return next(inside, None)


def _to_us(numbers: pl.Series, unit: str) -> pl.Series:
    """Return numbers of a unit as whole microseconds; nanoseconds are cut."""
    if numbers.dtype.is_float():
        return (numbers / 1000 if unit == "ns" else numbers * US[unit]).round().cast(pl.Int64)
    return numbers // 1000 if unit == "ns" else numbers * US[unit]


def _from_us(us: int, unit: str) -> int:
    return us * 1000 if unit == "ns" else us // US[unit]


def _join(columns: Sequence[arrow.Array]) -> arrow.Array:
    """Return dates and times of day as one text."""
    texts = []
    for column in columns:
        whole = column.cast(arrow.date32()) if types.is_timestamp(column.type) else column
        texts.append(whole.cast(arrow.string()))
    return compute.binary_join_element_wise(*texts, " ")


def _variants(layout: str, first: str) -> list[str]:
    """Return what a format of Python is in polars, which has one for each length of fraction.

    The one of the `first` time comes first. The last takes every length, and four times as long.
    """
    layout = layout.replace("%z", "%#z")
    if "%f" not in layout:
        return [layout]
    lengths = [layout.replace("%f", f"%{length}f") for length in (3, 6, 9)]
    if ".%f" in layout:
        lengths.append(layout.replace(".%f", "%.f"))
    one = pl.Series([first])
    return sorted(lengths, key=lambda form: one.str.to_datetime(form, strict=False).null_count())


def _of_number(number: float) -> str:
    """Return what a message says about a number that is none since 1970 by its size."""
    since = "seconds, milli-, micro- or nanoseconds since 1970 were expected, of 1980 to 2199"
    if 0 <= number < DAY_US / 1000:
        unit = "s" if number < DAY_US / US["s"] else "ms"
        if unit == "ms" and EARLIEST.year <= number // 10_000 < LATEST.year:
            return f"{since}; a date alone {NEEDS_CLOCK}"
        if number % 1 and 20_000 < number < 80_000:
            since += "; of days as Excel counts them export the text, yyyy-mm-dd hh:mm:ss"
        return f'{since}; or, with the date in the file\'s name, layout=["time={unit} of day"]'
    return f'{since}: say what it is, as layout=["time=ms"] or layout=["time=%Y%m%d%H%M%S"]'
