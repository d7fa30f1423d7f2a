"""Ticks: read trades or quotes, check them, and lay them down as one clean file for each day.

`load_ticks` is the one entry, for sample data, files and Iceberg tables alike. Whatever is dropped
is counted, with the reason, in the report of its day; what breaks a rule is an error that names
place, value and rule, and then nothing is left behind. Data flow through in batches: memory does
not grow with the data, and the result does not depend on how they were cut.
"""

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lib.sources import redact
from lib.tick.files import (
    Place,
    TickFile,
    TickFormat,
    find_tick_files,
    first_time,
    read_ticks,
    tick_format,
)
from lib.tick.sample import SampleOptions, sample_days

import numpy as np
import pandas as pd
import polars as pl

if TYPE_CHECKING:
    import pyarrow.parquet as parquet

ICEBERG = "iceberg:"
MEDIAN_TICKS = 51
"""Ticks of the rolling median, the tick itself and those before it in its day."""
MIN_MEDIAN_TICKS = 5
"""A day's first ticks are not judged until there are so many."""
SAME_PRICE = 1e-9
"""Relative changes below this are rounding, as in mid prices, and not a change of the price."""
COUNTS = (
    "read",
    "outside",
    "bad_price",
    "bad_size",
    "crossed",
    "same_time",
    "repeats",
    "outliers",
    "kept",
)
EARLIEST, LATEST = date(1900, 1, 1), date(2200, 1, 1)
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TickReport:
    """What `load_ticks` has found, dropped and kept.

    Attributes
    ----------
    days : DataFrame of shape (n_days, 12)
        One row per day from the first kept one on, index ``day`` (str, ISO 8601). Of the ticks
        ``read``, those ``outside`` the session, then those with a ``bad_price`` (missing or not
        positive), a ``bad_size`` (likewise; trades), ``crossed`` (bid above ask; quotes) and
        ``outliers`` were dropped, each for the first reason that holds, and the rest ``kept``.
        ``same_time`` are at the time of the tick before, ``repeats`` repeat an earlier tick of the
        same time in all values; these are dropped only on request. ``longest_gap_s``: seconds
        between two kept ticks; ``first`` and ``last``: their times, UTC.
    symbol, kind : str
    digest : str
        SHA-256 of the kept values, the same on every platform.
    n_ticks : int
        Ticks kept, of all days.
    """

    days: pd.DataFrame
    symbol: str
    kind: str
    digest: str
    n_ticks: int


@dataclass(frozen=True)
class Session:
    """The hours of a day that count: from `opening` up to, and without, `closing`.

    Attributes
    ----------
    text : str
        As it was given.
    opening, closing : int
        Seconds of local clock time after midnight.
    zone : ZoneInfo
    """

    text: str
    opening: int
    closing: int
    zone: ZoneInfo

    def instant(self, day: date, second: int = 0) -> int:
        """Return when the clock of the session's zone shows `second` of `day`, us since 1970."""
        days, rest = divmod(second, 86_400)
        clock = datetime.combine(day, time(), self.zone) + timedelta(days=days, seconds=rest)
        return round(clock.timestamp()) * 1_000_000

    def day_of(self, instant: int) -> date:
        """Return the session's date at `instant`, us since 1970."""
        return datetime.fromtimestamp(instant // 1_000_000, self.zone).date()


def load_ticks(
    source: str,
    folder: Path,
    *,
    kind: str = "trades",
    symbol: str = "",
    columns: Sequence[str] = (),
    time_zone: str = "America/New_York",
    session: str = "09:30-16:00",
    session_zone: str = "America/New_York",
    as_of: str = "",
    n_days: int = 0,
    drop_repeats: bool = False,
    max_deviation: float = 0.005,
    seed: int = 0,
    sample: SampleOptions | None = None,
    batch_rows: int = 250_000,
) -> TickReport:
    """Load ticks, clean them, and write one Parquet file for each day into `folder`.

    Parameters
    ----------
    source : str
        One of

        - ``"sample"``: made-up trades, see `lib.tick.sample`;
        - a path, glob or URL (any fsspec scheme) of CSV, plain or gzip, or Parquet files;
        - a folder, path or URL, of such files, or one with such a folder for each symbol;
        - ``"iceberg:<catalog>.<namespace>.<table>"``, by pyiceberg's own configuration of catalogs.

        A relative path is looked up in ``DATA_DIR`` and then in the repository. Files are put in
        order of their first ticks and may not overlap. The one date in a file's name, if there is
        one, must be that of its ticks: by it files are left out unopened.
    folder : Path
        Where the files go, named ``2013-10-07.parquet``. Made here: it must not hold anything. On
        an error it is not made at all.
    kind : {"trades", "quotes"}
        Trades have ``timestamp``, ``price`` and ``size``; quotes ``timestamp``, ``bid``, ``ask``.
        Both may have ``side`` (1 the buyer took, -1 the seller, 0 not known) and ``symbol``. Other
        columns are not read.
    symbol : str
        The symbol to take where there are several.
    columns : sequence of str
        What the data call the columns, where it is something else: ``["timestamp=time"]``.
    time_zone : str
        Zone (IANA) of the timestamps that do not name theirs. Integers are milli-, micro- or
        nanoseconds since 1970, UTC.
    session : str
        Hours that count, ``HH:MM-HH:MM``: the first moment does, the last does not. ``24:00`` is
        the end of the day.
    session_zone : str
        Zone of the session and of the dates of the days.
    as_of : str
        The last day that may be seen, ISO 8601; "" for the newest.
    n_days : int
        How many days to take, the last ones up to `as_of` that have ticks; 0 for all.
    drop_repeats : bool
        Whether to drop ticks that repeat an earlier one of the same time in all values. Many are
        real: one order filled in equal parts.
    max_deviation : float
        Ticks whose price is further than this from the rolling median, ``|ln(price / median)|`` as
        a fraction, are dropped. In SPY of October 2013 and EUR/USD of May 2014 the market itself
        never moved it beyond 0.0025, not even at the news of US payrolls; beyond 0.005 there were
        only prints off the market, most of them large blocks at an earlier day's price.
    seed, sample : int, SampleOptions
        Of the sample; other sources do not use them.
    batch_rows : int
        Most rows held at once. The result does not depend on it.

    Returns
    -------
    TickReport

    Raises
    ------
    ValueError
        If the source is not found or damaged, breaks a rule (not in order of time, files that
        overlap, several symbols, a missing column, a value of the wrong type), or leaves less
        than two ticks; or if an option is out of its range.

    Notes
    -----
    The files hold ``ts`` (us, UTC), ``day``, ``price`` (the middle of bid and ask for quotes),
    ``size`` (1 for quotes) and ``side``; quotes have ``bid`` and ``ask`` too. Without sides in the
    data they follow the tick rule of Lee and Ready (1991): the sign of the last change of the price
    within the day, 0 before the first.

    The rolling median is of the tick and the 50 valid ones before it in its day, so that nothing
    of the future decides whether a tick stays. A price level that is reached in one jump larger
    than `max_deviation` counts as good once it makes up half of the window.
    """
    hours = _session(session, session_zone)
    form = tick_format(kind, columns, _zone("time_zone", time_zone).key)
    last_day = _last_day(as_of)
    _check_options(n_days, max_deviation, batch_rows, folder)
    rules = Rules(kind, hours, last_day, drop_repeats, max_deviation)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        place = Path(temporary, folder.name)
        if source == "sample":
            days = _load_sample(place, rules, sample or {}, seed)
        else:
            days = _load_files(source, place, rules, form, symbol, n_days, batch_rows)
        kept = [day for day in days if day.counts["kept"]][-n_days:]
        if sum(day.counts["kept"] for day in kept) < 2:
            raise _too_few(days, source, rules)
        for day in days:
            if day.counts["kept"] and day.day < kept[0].day:
                day.path.unlink()
        place.replace(folder)
    shown = [day for day in days if day.day >= kept[0].day]
    return _report(shown, symbol or kept[0].symbol, kind)


def iter_ticks(folder: Path, *, batch_rows: int = 250_000) -> Iterator[pl.DataFrame]:
    """Yield the ticks that `load_ticks` has laid down, day by day, in batches of a day's ticks."""
    import pyarrow.parquet as parquet

    for path in sorted(folder.glob("*.parquet")):
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_rows):
                yield pl.from_arrow(batch)


def read_day(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the ticks of one file that `load_ticks` has laid down, or some of their columns."""
    return pl.read_parquet(path, columns=columns, glob=False)


def describe_ticks(report: TickReport, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (``spy_trades``; ``trades_sample`` for made-up ones), ``source`` (without secrets),
        ``digest``, ``n_rows``, ``n_dropped``, ``n_days``, ``start`` and ``end`` (ISO 8601, UTC,
        first and last tick), ``symbol`` and ``kind``.
    """
    days = report.days[report.days["kept"] > 0]
    ending = "_sample" if source == "sample" else ""
    name = f"{report.symbol.lower()}_{report.kind}" if report.symbol else report.kind
    return {
        "name": name + ending,
        "source": redact(source),
        "digest": report.digest,
        "n_rows": report.n_ticks,
        "n_dropped": int((report.days["read"] - report.days["kept"]).sum()),
        "n_days": len(days),
        "start": days["first"].iloc[0].isoformat(),
        "end": days["last"].iloc[-1].isoformat(),
        "symbol": report.symbol,
        "kind": report.kind,
    }


# Options --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What decides which ticks are kept, see `load_ticks`."""

    kind: str
    session: Session
    last_day: date
    drop_repeats: bool
    max_deviation: float


def _zone(name: str, key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):  # unknown, not a key, a folder of zones
        raise ValueError(
            f"{name} is {key!r}: give the IANA name of a zone, as America/New_York or UTC"
        ) from None


def _session(text: str, zone: str) -> Session:
    hours = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text.replace(" ", ""))
    numbers = [int(part) for part in hours.groups()] if hours else [0, 99, 0, 99]
    opening, closing = (3_600 * h + 60 * m for h, m in (numbers[:2], numbers[2:]))
    if max(numbers[1::2]) > 59 or not opening < closing <= 86_400:
        raise ValueError(
            f"session is {text!r}: give HH:MM-HH:MM within one day, as 09:30-16:00 or 00:00-24:00; "
            "hours that cross midnight do not in another session_zone"
        )
    return Session(text, opening, closing, _zone("session_zone", zone))


def _last_day(as_of: str) -> date:
    if not as_of:
        return LATEST
    try:
        day = date.fromisoformat(as_of)
    except ValueError:
        raise ValueError(f'as_of is {as_of!r}: give a day as 2013-10-11, or ""') from None
    return min(max(day, EARLIEST), LATEST)


def _check_options(n_days: int, max_deviation: float, batch_rows: int, folder: Path) -> None:
    if n_days < 0:
        raise ValueError(f"n_days is {n_days}: give 0 for all days, or how many")
    if not max_deviation > 0:
        raise ValueError(f"max_deviation is {max_deviation}: give a fraction above 0")
    if batch_rows < 1:
        raise ValueError(f"batch_rows is {batch_rows}: give 1 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder: ticks go into a new one")


# From files to days ---------------------------------------------------------------------------


def _load_sample(place: Path, rules: Rules, options: SampleOptions, seed: int) -> list["_Day"]:
    if rules.kind != "trades":
        raise ValueError(f"kind is {rules.kind!r}: the sample holds trades")
    made = (frame.drop("day") for frame in sample_days(seed=seed, **options))
    end = rules.session.instant(rules.last_day + ONE_DAY)
    batches = (frame for frame in made if frame["ts"].to_physical()[0] < end)
    return _write_days(batches, place, rules, EARLIEST)


def _load_files(
    source: str,
    place: Path,
    rules: Rules,
    form: TickFormat,
    symbol: str,
    n_days: int,
    batch_rows: int,
) -> list["_Day"]:
    """Read no more files than the last `n_days` days with ticks need, as far as that is known.

    Which days have ticks that can be kept is known only after reading, so when some of those that
    the files seem to have do not, the same is done again from an earlier day on.
    """
    find = _finder(source, symbol, form, rules)
    n_tried = n_days
    while True:
        first_day = _first_day(find(EARLIEST), n_tried, rules, form)
        files = _needed(find(first_day), first_day, rules, form)
        days = _write_days(_stream(files, symbol, rules, form, batch_rows), place, rules, first_day)
        if first_day == EARLIEST or sum(day.counts["kept"] > 0 for day in days) >= n_days:
            return days
        shutil.rmtree(place)
        n_tried *= 2


def _finder(
    source: str, symbol: str, form: TickFormat, rules: Rules
) -> Callable[[date], list[TickFile]]:
    """Return a function of the first day wanted that lists the files that may hold its ticks."""
    if source.startswith(ICEBERG):
        from lib.tick.iceberg import iceberg_finder

        end = rules.session.instant(rules.last_day + ONE_DAY)
        find = iceberg_finder(source.removeprefix(ICEBERG), symbol, form, end)
        return lambda first_day: find(rules.session.instant(first_day))
    files = [(file, _span(file, rules, form)) for file in find_tick_files(source, symbol)]
    closing = rules.session.instant(rules.last_day, rules.session.closing)

    def find_dated(first_day: date) -> list[TickFile]:
        opening = rules.session.instant(first_day, rules.session.opening)
        return [file for file, (begin, end) in files if begin < closing and end > opening]

    return find_dated


def _span(file: TickFile, rules: Rules, form: TickFormat) -> tuple[float, float]:
    """Return from when to when a file can hold ticks by the date in its name, us since 1970.

    Nothing says in which zone that is a date: it may be UTC, that of the times or the session's.
    """
    if file.day is None:
        return -np.inf, np.inf
    zones = (rules.session.zone, ZoneInfo("UTC"), ZoneInfo(form.time_zone))
    clocks = [replace(rules.session, zone=zone) for zone in zones]
    return (
        min(clock.instant(file.day) for clock in clocks),
        max(clock.instant(file.day + ONE_DAY) for clock in clocks),
    )


def _first_day(files: list[TickFile], n_days: int, rules: Rules, form: TickFormat) -> date:
    """Return the earliest of the last `n_days` days on which a file seems to begin."""
    if not n_days:
        return EARLIEST
    days = {file.day or rules.session.day_of(first_time(file, form)) for file in files}
    days = sorted(day for day in days if day <= rules.last_day)
    return days[-n_days] if len(days) > n_days else EARLIEST


def _needed(
    files: list[TickFile], first_day: date, rules: Rules, form: TickFormat
) -> list[TickFile]:
    """Return the files that may hold ticks of the days wanted, in order of their first ticks."""
    session = rules.session
    timed = sorted(((first_time(file, form), file) for file in files), key=lambda pair: pair[0])
    timed = [pair for pair in timed if pair[0] < session.instant(rules.last_day + ONE_DAY)]
    opening = session.instant(first_day, session.opening)
    next_us = [*(first for first, _ in timed[1:]), np.inf]
    return [file for (_, file), end in zip(timed, next_us, strict=False) if end > opening]


def _stream(
    files: list[TickFile], symbol: str, rules: Rules, form: TickFormat, batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Yield the ticks of `files` up to the last day, in order of time and of one symbol."""
    end = rules.session.instant(rules.last_day + ONE_DAY)
    last_us, last_place, seen = -(1 << 62), "", set()
    for file in files:
        for place, batch in read_ticks(file, form, batch_rows):
            later = np.append(batch["ts"].to_physical().to_numpy() >= end, True)
            n_before = int(later.argmax())
            is_last, batch = n_before < len(batch), batch[:n_before]
            if "symbol" in batch.columns:
                seen |= set(batch["symbol"].unique())
                batch = _one_symbol(batch, symbol, seen, place)
            if len(batch):
                _check_order(batch, place, last_us, last_place)
                _check_date(batch, file, rules, form)
                last_us, last_place = batch["ts"].to_physical()[-1], place.at(batch["row"][-1])
                yield batch
            if is_last:
                break
    if symbol and seen and symbol not in seen:
        raise ValueError(
            f"there is no tick of symbol {symbol!r}, but of {_some(seen)}: correct symbol"
        )


def _one_symbol(batch: pl.DataFrame, symbol: str, seen: set[str], place: Place) -> pl.DataFrame:
    """Return the rows of `symbol`; without it there may have been one only."""
    if symbol:
        return batch.filter(pl.col("symbol") == symbol)
    if len(seen) > 1:
        raise ValueError(
            f"{place.name} holds ticks of several symbols, {_some(seen)}: give symbol='...' for one"
        )
    return batch


def _some(names: set[str]) -> str:
    shown = sorted(map(str, names))
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _check_order(batch: pl.DataFrame, place: Place, last_us: int, last_place: str) -> None:
    """Raise an error if a tick is earlier than the one before, in the same file or the last."""
    times = np.insert(batch["ts"].to_physical().to_numpy(), 0, last_us)
    wrong = np.flatnonzero(times[1:] < times[:-1])
    if not len(wrong):
        return
    at = int(wrong[0])
    here = place.at(batch["row"][at])
    before = place.at(batch["row"][at - 1]) if at else last_place
    if before.startswith(f"{place.name}, "):
        rule = "the ticks of a file must be in order of time: sort it"
    else:
        rule = (
            "files that are read together must not overlap: leave one out, or rewrite a table's "
            "files in order of time"
        )
    raise ValueError(
        f"{here}: {_utc(times[at + 1])} is before {_utc(times[at])} in {before}; {rule}"
    )


def _check_date(batch: pl.DataFrame, file: TickFile, rules: Rules, form: TickFormat) -> None:
    """Raise an error if ticks are not of the date in their file's name, in any of its zones."""
    begin, end = _span(file, rules, form)
    for instant in batch["ts"].to_physical()[[0, -1]].to_list():
        if not begin <= instant < end:
            raise ValueError(
                f"{file.name} has a tick of {_utc(instant)}: the date in a file's name must be "
                "that of its ticks, because files are chosen by it. Rename the file"
            )


def _utc(instant: int) -> str:
    clock = datetime.fromtimestamp(instant // 1_000_000, UTC).replace(
        microsecond=instant % 1_000_000
    )
    return f"{clock:%Y-%m-%d %H:%M:%S.%f} UTC"


# A day ----------------------------------------------------------------------------------------


@dataclass
class _Day:
    """A day that is being written: what has been found, and what the next batch needs to know."""

    day: date
    path: Path
    symbol: str
    counts: Counter = field(default_factory=Counter)
    gap_us: int = 0
    first_us: int | None = None
    last_us: int | None = None
    last_price: float = np.nan
    last_side: int = 0
    tail: pl.DataFrame | None = None  # the last valid ticks, see `_clean`
    hashes: dict[str, "hashlib._Hash"] = field(default_factory=dict)
    writer: "parquet.ParquetWriter | None" = None

    def close(self) -> None:
        """Complete the file."""
        if self.writer:
            self.writer.close()
        self.writer = self.tail = None


def _write_days(
    batches: Iterable[pl.DataFrame], place: Path, rules: Rules, first_day: date
) -> list[_Day]:
    """Clean ticks that come in order and write those from `first_day` on, a file for each day."""
    place.mkdir()
    days: list[_Day] = []
    try:
        for batch in batches:
            symbol = batch["symbol"][0] if "symbol" in batch.columns else ""
            for day, inside, n_read in _cut(batch, rules.session):
                if day < first_day:
                    continue
                if not days or days[-1].day != day:
                    if days:
                        days[-1].close()
                    days.append(_Day(day, place / f"{day}.parquet", symbol))
                days[-1].counts.update(read=n_read, outside=n_read - len(inside))
                if len(inside):
                    _write(days[-1], _clean(days[-1], inside, rules))
    finally:
        if days:
            days[-1].close()
    return days


def _cut(batch: pl.DataFrame, session: Session) -> Iterator[tuple[date, pl.DataFrame, int]]:
    """Yield the days of a batch in order of time: date, ticks in the session, number of ticks."""
    times, start = batch["ts"].to_physical().to_numpy(), 0
    while start < len(times):
        day = session.day_of(int(times[start]))
        borders = [
            session.instant(day, session.opening),
            session.instant(day, session.closing),
            session.instant(day + ONE_DAY),
        ]
        opening, closing, end = (int(i) for i in np.searchsorted(times, borders))
        yield day, batch[opening:closing], end - start
        start = end


def _clean(day: _Day, ticks: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Return the ticks of a session that are kept, with their sides, and count what they are.

    The day's tail reaches back as far as the rolling median and the search for repeats do. It is
    put before the new ticks and taken off again, so that borders between batches leave no trace.
    """
    valid = _valid(day, ticks, rules.kind)
    if valid.is_empty():
        return valid
    n_tail = 0 if day.tail is None else len(day.tail)
    known = valid if day.tail is None else pl.concat([day.tail, valid], rechunk=True)
    is_repeat = _repeats(known)
    day.counts["same_time"] += int((np.diff(_times(known)[max(n_tail - 1, 0) :]) == 0).sum())
    day.counts["repeats"] += int(is_repeat[n_tail:].sum())
    if rules.drop_repeats:
        known = known.filter(~is_repeat)
    median = known["price"].rolling_median(MEDIAN_TICKS, min_samples=MIN_MEDIAN_TICKS)
    is_far = ((known["price"] / median).log().abs() > rules.max_deviation).fill_null(value=False)
    kept = known.filter(~is_far & (pl.int_range(pl.len()) >= n_tail))
    day.counts["outliers"] += len(known) - n_tail - len(kept)
    day.counts["kept"] += len(kept)
    n_moment = int((known["ts"] == known["ts"][-1]).sum())
    day.tail = known.tail(max(n_moment, MEDIAN_TICKS - 1))
    return _with_sides(day, kept)


def _valid(day: _Day, ticks: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return the ticks whose values are possible, with price and size; count the others."""

    def positive(name: str) -> pl.Expr:
        column = pl.col(name)
        return column.is_finite() & (column > 0)

    side = [name for name in ticks.columns if name == "side"]
    if kind == "quotes":
        good = ticks.filter(positive("bid") & positive("ask"))
        valid = good.filter(pl.col("bid") <= pl.col("ask"))
        day.counts.update(bad_price=len(ticks) - len(good), crossed=len(good) - len(valid))
        middle = (pl.col("bid") + pl.col("ask")) / 2
        return valid.select("ts", "bid", "ask", *side, price=middle, size=pl.lit(1.0))
    good = ticks.filter(positive("price"))
    valid = good.filter(positive("size"))
    day.counts.update(bad_price=len(ticks) - len(good), bad_size=len(good) - len(valid))
    return valid.select("ts", "price", "size", *side)


def _repeats(ticks: pl.DataFrame) -> np.ndarray:
    """Tell which ticks repeat an earlier one of the same time in all values."""
    times = _times(ticks)
    is_next = times[1:] == times[:-1]
    shared = np.flatnonzero(np.append(is_next, False) | np.insert(is_next, 0, False))
    keys = [ticks[name].to_numpy()[shared] for name in ticks.columns if name != "ts"]
    keys.append(times[shared])
    order = np.lexsort(keys)  # stable: of equal ticks the first stays first
    is_equal = [key[order][1:] == key[order][:-1] for key in keys]
    repeats = np.zeros(len(ticks), dtype=bool)
    repeats[shared[order[1:][np.logical_and.reduce(is_equal)]]] = True
    return repeats


def _with_sides(day: _Day, ticks: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks as they are stored, with sides by the tick rule where there are none."""
    if ticks.is_empty():
        return ticks
    price = ticks["price"].to_numpy()
    before = price[0] if day.last_us is None else day.last_price
    change = np.diff(price, prepend=before)
    sign = pl.Series(np.where(np.abs(change) > SAME_PRICE * price, np.sign(change), np.nan))
    rule = sign.fill_nan(None).forward_fill().fill_null(day.last_side).cast(pl.Int8)
    if "side" not in ticks.columns:
        ticks = ticks.with_columns(side=rule)
    day.last_price, day.last_side = float(price[-1]), int(rule[-1])
    quotes = [name for name in ("bid", "ask") if name in ticks.columns]
    return ticks.select("ts", pl.lit(day.day).alias("day"), "price", "size", "side", *quotes)


def _write(day: _Day, ticks: pl.DataFrame) -> None:
    """Append ticks to the file of their day and to its digest."""
    import pyarrow.parquet as parquet

    if ticks.is_empty():
        return
    times = _times(ticks)
    gaps = np.diff(times, prepend=times[0] if day.last_us is None else day.last_us)
    day.gap_us = max(day.gap_us, int(gaps.max()))
    day.first_us = int(times[0]) if day.first_us is None else day.first_us
    day.last_us = int(times[-1])
    for name in ticks.columns:
        if name != "day":
            values = ticks[name].to_physical().to_numpy()
            little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            day.hashes.setdefault(name, hashlib.sha256()).update(little.data)
    table = ticks.to_arrow()
    if day.writer is None:
        day.writer = parquet.ParquetWriter(
            day.path,
            table.schema,
            compression="lz4",
            use_dictionary=[name for name in ticks.columns if name != "ts"],
            column_encoding={"ts": "DELTA_BINARY_PACKED"},
        )
    day.writer.write_table(table)


def _times(ticks: pl.DataFrame) -> np.ndarray:
    """Return the times, int64, us since 1970."""
    return ticks["ts"].to_physical().to_numpy()


# Report ---------------------------------------------------------------------------------------


def _report(days: list[_Day], symbol: str, kind: str) -> TickReport:
    table = pd.DataFrame([{name: day.counts[name] for name in COUNTS} for day in days])
    table["longest_gap_s"] = [day.gap_us / 1e6 for day in days]
    for name in ("first", "last"):
        times = pd.array([getattr(day, f"{name}_us") for day in days], "Int64")
        table[name] = pd.to_datetime(times, unit="us", utc=True).as_unit("us")
    table.index = pd.Index([str(day.day) for day in days], name="day")
    lines = [
        f"{day.day}|{day.counts['kept']}|{name}|{one.hexdigest()}\n"
        for day in days
        for name, one in day.hashes.items()
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return TickReport(table, symbol, kind, digest, int(table["kept"].sum()))


def _too_few(days: list[_Day], source: str, rules: Rules) -> ValueError:
    """Return the error about a source of which fewer than two ticks are left, and why."""
    total = sum((day.counts for day in days), Counter())
    shown, session = redact(source), rules.session
    if not total["read"]:
        return ValueError(f"{shown} has no tick up to as_of = {rules.last_day}: give a later day")
    reasons = {
        "outside": f"outside the session {session.text} {session.zone.key}",
        "bad_price": "without a price above 0",
        "bad_size": "without a size above 0",
        "crossed": "with the bid above the ask",
        "outliers": "too far from the median price",
    }
    dropped = [f", {total[name]:,} {words}" for name, words in reasons.items() if total[name]]
    left = "one tick only" if total["kept"] else "no tick"
    return ValueError(
        f"{shown} leaves {left} of {total['read']:,} from {days[0].day} to {days[-1].day}"
        f"{''.join(dropped)}: two or more are needed. Correct session, session_zone or time_zone "
        "if they are wrong"
    )
