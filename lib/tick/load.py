"""Ticks: read trades or quotes, check them, and lay them down as one clean part for each day.

`load_ticks` is the one entry, for sample data, files and Iceberg tables alike. Whatever is dropped
is counted, with the reason, in the report of its day; what breaks a rule is an error that names
place, value and rule. Data flow through in batches: memory does not grow with the data, and the
result does not depend on how they were cut, nor on how many read them.
"""

import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from lib import parts
from lib.ground.console import redact
from lib.ground.dataset import Dataset, Part
from lib.ground.files import is_local
from lib.looks import names_look
from lib.sources import described
from lib.tick.days import Day, write_days
from lib.tick.read import tick_format
from lib.tick.rules import EARLIEST, Rules, make_session, to_day, to_zone
from lib.tick.stream import Stretch, TickReader, TickSource, find_ticks, sample_source

import pandas as pd
import polars as pl

DROPPED = ("outside", "bad_price", "bad_size", "crossed", "outliers")
RULES = {
    "bad_price": (
        "prices that are missing or not positive",
        'give the column that holds prices, as columns=["price=..."]',
    ),
    "bad_size": (
        "sizes that are missing or not positive",
        'give the column that holds sizes, as columns=["size=..."]; if a minus says that the '
        "seller took, make it a column of sides",
    ),
    "crossed": (
        "a bid above its ask",
        'exchange them if they are the wrong way round, columns=["bid=ask", "ask=bid"]',
    ),
    "outliers": (
        "prices further than max_deviation = {} from the rolling median",
        "give a larger one if the price moves so fast, as max_deviation=10, which keeps them all",
    ),
}
COUNTS = ("read", *DROPPED[:-1], "same_time", "repeats", "outliers", "kept")


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
    rows : dict of str to int
        Rows ``read``, of all files that were opened for their ticks, and where each of them is:
        of ``other_symbols``, ``after_as_of``, ``before_first_day``, dropped for one of the reasons
        above, or ``kept``. They add up.
    is_whole : bool
        Whether no file was left after `most_rows`.
    """

    days: pd.DataFrame
    symbol: str
    kind: str
    digest: str
    n_ticks: int
    rows: dict[str, int]
    is_whole: bool = True


@names_look("tick")
def load_ticks(
    source: str,
    ticks: Dataset,
    *,
    kind: str = "trades",
    symbol: str = "",
    columns: Sequence[str] = (),
    layout: Sequence[str] = (),
    time_zone: str = "America/New_York",
    session: str = "09:30-16:00",
    session_zone: str = "America/New_York",
    as_of: str = "",
    n_days: int = 0,
    drop_repeats: bool = False,
    max_deviation: float = 0.005,
    max_dropped: float = 0.2,
    sort: bool = False,
    seed: int = 0,
    sample: Mapping[str, int] | None = None,
    most_rows: int = 0,
    n_workers: int = 1,
) -> TickReport:
    """Load ticks, clean them, and make a data set of them, with a part for each day.

    Parameters
    ----------
    source : str
        One of

        - ``"sample"``: made-up trades, see `lib.tick.sample`;
        - a path, glob or URL (any fsspec scheme) of text (CSV and such, plain or packed) or
          Parquet files;
        - a folder, path or URL, of such files, or one with such a folder for each symbol;
        - ``"iceberg:<catalog>.<namespace>.<table>"``, see `lib.catalogs.load_table`.

        A relative path is looked up in ``DATA_DIR`` and then in the repository. Files are put in
        order of the symbol's first ticks and may not overlap. The one date in a file's name, if
        there is one, must be that of its ticks: by it files are left out unopened. Files without a
        column of symbols are of the instrument that their names or folders say, see
        `lib.tick.names`.
    ticks : Dataset
        An empty one; its parts are named ``2013-10-07``.
    kind : {"trades", "quotes"}
        Trades have ``timestamp``, ``price`` and ``size``; quotes ``timestamp``, ``bid``, ``ask``.
        Both may have ``side`` (1 the buyer took, -1 the seller, 0 not known) and ``symbol``, which
        may be called ticker, instrument, pair and the like. Other columns are not read.
    symbol : str
        The symbol to take where there are several, in a column or in the names of files.
    columns : sequence of str
        What the data call the columns, where it is something else: ``["timestamp=time"]``, their
        unit, and what sides are called, see `lib.dialect.read_columns`.
    layout : sequence of str
        How text is written, where it does not show: ``["names=timestamp,price,size"]`` without a
        header, ``["time=%d.%m.%Y %H:%M:%S.%f"]``, see `lib.dialect.read_layout`.
    time_zone : str
        Zone (IANA) of the timestamps that do not name theirs. Numbers are seconds, milli-, micro-
        or nanoseconds since 1970, UTC, by their size.
    session : str
        Hours that count, ``HH:MM-HH:MM``: the first moment does, the last does not. ``24:00`` is
        the end of the day.
    session_zone : str
        Zone of the session and of the dates of the days.
    as_of : str
        The last day that may be seen, ISO 8601: later ticks are left out and counted. "" for the
        newest; then a tick of the future, by the clock of this machine, is an error.
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
    max_dropped : float
        Largest share of the session's ticks, as a fraction, that one rule may drop (bad prices, bad
        sizes, crossed quotes, ticks far from the median); more is an error, because such a rule or
        the data are not what was thought.
    sort : bool
        Whether to sort ticks that are not in order of time. It takes space on disk for all ticks
        read, beside `ticks` or where temporary files go, and memory for those of one day.
    seed, sample : int, mapping
        Of the sample, see `lib.tick.sample.sample_days`; other sources do not use them.
    most_rows : int
        After how many rows of the symbol to stop, for a look at the beginning; 0 for none.
    n_workers : int
        Processes that read, see `lib.parts.map`. Each takes the files that begin on one day: one
        file that holds all days is read by one.

    Returns
    -------
    TickReport

    Raises
    ------
    ValueError
        If the source is not found or damaged, breaks a rule (not in order of time, files that
        overlap, several symbols, a missing column, a value of the wrong type, a time that cannot
        be, more ticks dropped than `max_dropped`), or leaves less than two ticks; or if an option
        is out of its range.

    Notes
    -----
    The parts hold ``ts`` (us, UTC), ``day``, ``price`` (the middle of bid and ask for quotes),
    ``size`` (1 for quotes) and ``side``; quotes have ``bid`` and ``ask`` too. Without sides in the
    data they follow the tick rule of Lee and Ready (1991): the sign of the last change of the price
    within the day, 0 before the first.

    The rolling median is of the tick and the 50 valid ones before it in its day, so that nothing
    of the future decides whether a tick stays. A price level that is reached in one jump larger
    than `max_deviation` counts as good once it makes up half of the window.
    """
    clock = make_session(session, session_zone)
    rules = Rules(clock, to_day(as_of), drop_repeats, max_deviation, max_dropped)
    form = tick_format(kind, columns, to_zone("time_zone", time_zone).key, layout)
    if source == "sample":
        if kind != "trades":
            raise ValueError(f"kind is {kind!r}: the sample holds trades")
        found = sample_source(sample or {}, seed, rules)
    else:
        found = find_ticks(source, symbol, form, rules, sort=sort, most_rows=most_rows)
    days = _load_last(found, ticks, n_days, n_workers)
    kept = [day for day in days if day.part][-n_days:]
    _check_dropped([day for day in days if not kept or day.day >= kept[0].day], source, rules)
    if sum(day.counts["kept"] for day in kept) < 2:
        raise _too_few(days, source, f"{session} {session_zone}", as_of)
    ticks.seal(day.part for day in kept)
    counts = found.reader.counts
    counts["before_first_day"] += sum(d.counts["read"] for d in days if d.day < kept[0].day)
    shown = [day for day in days if day.day >= kept[0].day]
    symbol = symbol or next(iter(found.reader.symbols), "")
    report = _report(shown, symbol, kind, _rows(shown, counts, rules))
    return replace(report, is_whole=not found.reader.is_cut)


def iter_ticks(days: Iterable[Part]) -> Iterator[pl.DataFrame]:
    """Yield the ticks that `load_ticks` has laid down, day by day, in batches of a day's ticks."""
    for day in days:
        yield from map(pl.from_arrow, day.batches())


def describe_ticks(report: TickReport, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (``spy_trades``; ``trades_sample`` for made-up ones), ``source`` (without secrets),
        ``digest``, ``n_rows``, ``n_dropped``, ``n_days``, ``start`` and ``end`` (ISO 8601, UTC,
        first and last tick), ``symbol`` and ``kind``; and where the rows of the source are, as
        ``rows_read``, ``rows_after_as_of`` …, those that there are.
    """
    days = report.days[report.days["kept"] > 0]
    name = f"{report.symbol.lower()}_{report.kind}" if report.symbol else report.kind
    rows = {f"rows_{name}": n_rows for name, n_rows in report.rows.items() if n_rows}
    return described(name, source, report.digest, report.n_ticks) | {
        "n_dropped": int((report.days["read"] - report.days["kept"]).sum()),
        "n_days": len(days),
        "start": days["first"].iloc[0].isoformat(),
        "end": days["last"].iloc[-1].isoformat(),
        "symbol": report.symbol,
        "kind": report.kind,
        **rows,
    }


def _load_last(source: TickSource, ticks: Dataset, n_days: int, n_workers: int) -> list[Day]:
    """Read no more files than the last `n_days` days with ticks need, as far as that is known.

    Which days have ticks that can be kept is known only after reading, so when some of those that
    the files seem to have do not, the same is done again from an earlier day on.
    """
    n_tried = n_days
    while True:
        first_day = source.first_day(n_tried)
        days = _load_from(first_day, source, ticks, n_workers)
        wanted = [day for day in days if day.day >= first_day]
        if first_day == EARLIEST or sum(day.counts["kept"] > 0 for day in wanted) >= n_days:
            early = sum(day.counts["read"] for day in days if day.day < first_day)
            source.reader.counts["before_first_day"] = early
            return wanted
        n_tried *= 2


def _load_from(first_day: date, source: TickSource, ticks: Dataset, n_workers: int) -> list[Day]:
    """Load the days of all stretches; what two of them have in common, the first has whole."""
    stretches, days = source.stretches(first_day), []
    load = partial(_load_stretch, source.reader.anew(), ticks, first_day)
    done = parts.map(load, stretches, n_workers=n_workers)
    for stretch, (found, reader) in zip(stretches, done, strict=True):
        source.reader.add(reader, stretch)
        is_known = days and found and found[0].day == days[-1].day
        days += found[1:] if is_known else found
    source.reader.check_there()
    return days


def _load_stretch(
    reader: TickReader, ticks: Dataset, first_day: date, stretch: Stretch
) -> tuple[list[Day], TickReader]:
    reader = reader.anew()
    scratch = Path(ticks.path.path).parent if is_local(ticks.path) else tempfile.gettempdir()
    batches = reader.ticks(stretch, scratch)
    return write_days(batches, ticks, reader.rules, first_day), reader


def _rows(days: list[Day], counts: Counter, rules: Rules) -> dict[str, int]:
    """Return where each row read is: left out, dropped from the days that are shown, or kept."""
    total = sum((day.counts for day in days), Counter())
    dropped = [*DROPPED[:-1], *["repeats"] * rules.drop_repeats, DROPPED[-1]]
    left_out = ("other_symbols", "after_as_of", "before_first_day")
    return (
        {"read": counts["rows"]}
        | {name: counts[name] for name in left_out}
        | {name: total[name] for name in (*dropped, "kept")}
    )


def _check_dropped(days: list[Day], source: str, rules: Rules) -> None:
    """Raise an error if one rule has dropped more of the session's ticks than it may."""
    total = sum((day.counts for day in days), Counter())
    n_inside = total["read"] - total["outside"]
    for name, (meaning, change) in RULES.items():
        share = total[name] / max(n_inside, 1)
        if share > rules.max_dropped:
            raise ValueError(
                f"{redact(source)}: the rule {name!r} ({meaning.format(rules.max_deviation)}) "
                f"drops {total[name]:,} of {n_inside:,} ticks of the session, a share of "
                f"{share:.3f}, more than max_dropped = {rules.max_dropped}: "
                f"{change}; or max_dropped={math.ceil(100 * share) / 100} to drop them all"
            )


def _report(days: list[Day], symbol: str, kind: str, rows: dict[str, int]) -> TickReport:
    table = pd.DataFrame([{name: day.counts[name] for name in COUNTS} for day in days])
    table["longest_gap_s"] = [day.gap_us / 1e6 for day in days]
    for name in ("first", "last"):
        times = pd.array([getattr(day, f"{name}_us") for day in days], "Int64")
        table[name] = pd.to_datetime(times, unit="us", utc=True).as_unit("us")
    table.index = pd.Index([str(day.day) for day in days], name="day")
    lines = [
        f"{day.day}|{day.counts['kept']}|{name}|{one}\n"
        for day in days
        for name, one in day.digests.items()
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return TickReport(table, symbol, kind, digest, int(table["kept"].sum()), rows)


def _too_few(days: list[Day], source: str, session: str, as_of: str) -> ValueError:
    """Return the error about a source of which fewer than two ticks are left, and why."""
    total = sum((day.counts for day in days), Counter())
    if not total["read"]:
        limit = f" up to as_of = {as_of}: give a later day" if as_of else ""
        return ValueError(f"{redact(source)} has no tick{limit}")
    dropped = [f", {total[name]:,} {name.replace('_', ' ')}" for name in DROPPED if total[name]]
    left = "one tick only" if total["kept"] else "no tick"
    return ValueError(
        f"{redact(source)} leaves {left} of {total['read']:,} from {days[0].day} to {days[-1].day}"
        f"{''.join(dropped)}; the session is {session}. Two or more are "
        'needed: give session="00:00-24:00" for a market around the clock, or the right time_zone'
    )
