"""What a source of ticks is, as it will be read, and what is odd about it."""

import tempfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from lib.ground.dataset import Dataset
from lib.ground.parameters import Value
from lib.looks import N_ROWS, Look, model_name, odd_columns
from lib.tick.bars import to_bars
from lib.tick.indicators import FeatureOptions
from lib.tick.load import TickReport, iter_ticks, load_ticks
from lib.tick.names import instrument
from lib.tick.reach import check_days
from lib.tick.read import recognise, tick_format
from lib.tick.rules import EARLIEST, Rules, make_session, to_day
from lib.tick.stream import find_ticks

import pandas as pd
import polars as pl
from upath import UPath

OPTIONS = ("kind", "symbol", "columns", "layout", "time_zone", "session", "session_zone", "as_of")
OPTIONS += ("drop_repeats", "max_deviation", "max_dropped", "sort", "seed")
LONG_GAP_S, MUCH = 1_800, 0.5
LEAST_DAYS, FEW_DAYS = 3, 5  # of a run; from which on it needs no word


def look_at_ticks(source: str, options: Mapping[str, Value], most_rows: int = 0) -> Look:
    """Look at ticks as `lib.tick.load.load_ticks` reads them.

    Parameters
    ----------
    source : str
    options : mapping
        Parameters of the pipeline; those of `load_ticks` count.
    most_rows : int
        After how many rows to stop; 0 for none.

    Raises
    ------
    ValueError
        As `load_ticks`.
    """
    given = {name: options[name] for name in OPTIONS if name in options}
    if source == "sample":
        facts, columns = {"source": "made-up trades"}, pd.DataFrame()
        n_days = options.get("train_days", 2) + options.get("test_days", 1)
        given["sample"] = {"n_days": n_days, "n_ticks": options.get("sample_ticks", 40_000)}
    else:
        facts, columns = _recognised(source, given)
    with tempfile.TemporaryDirectory() as scratch:
        ticks = Dataset(UPath(scratch, "ticks"))
        report = load_ticks(source, ticks, most_rows=most_rows, **given)
        first = next(iter_ticks(ticks.parts))
        last = pl.concat(iter_ticks(ticks.parts[-1:]))
        rows = pl.concat([first.head(N_ROWS + 1), last.tail(N_ROWS)]).to_pandas().set_index("ts")
        params = {} if source == "sample" else _params(report, source)
        odd = [*_odd_times(report, given), *_odd_values(first, columns)]
        odd += _too_short(report, ticks, {**options, **params})
    return Look(facts, columns, rows, report.rows, odd, params, report.is_whole)


def _recognised(source: str, given: Mapping[str, Value]) -> tuple[dict[str, str], pd.DataFrame]:
    """Return what the first file is, and its columns by what they hold in its first row."""
    kind, symbol, zone = given["kind"], given["symbol"], given["time_zone"]
    form = tick_format(kind, given["columns"], zone, given["layout"])
    clock = make_session(given["session"], given["session_zone"])
    rules = Rules(clock, to_day(given["as_of"]), drop_repeats=False, max_deviation=1, max_dropped=1)
    files = find_ticks(source, symbol, form, rules).files(EARLIEST)
    if not files:
        return {}, pd.DataFrame()
    facts, columns = recognise(files[0], form)
    if len(files) > 1:
        facts["file"] += f", the first of {len(files):,}"
    facts["zone"] = f"{zone}, of times that do not say theirs; shown in UTC"
    return facts, pd.DataFrame(columns).set_index("column")


def _odd_times(report: TickReport, given: Mapping[str, Value]) -> list[str]:
    days, total = report.days, report.days.sum(numeric_only=True)
    session = f"{given['session']} {given['session_zone']}"
    odd = [
        f"{day}: {gap / 3600:.1f} hours without a tick"
        for day, gap in days["longest_gap_s"].nlargest(3).items()
        if gap > LONG_GAP_S
    ]
    same_day = {day[8:] for day in days.index}
    if len(days) > 1 and len(same_day) == 1 and int(*same_day) <= 12:
        odd.append(
            f"each day is the {int(*same_day)}. of a month: does the month come first? "
            'Then give its format, as layout=["time=%m/%d/%Y %H:%M:%S"]'
        )
    if total["outside"] > MUCH * total["read"]:
        odd.append(
            f"{total['outside'] / total['read']:.0%} of the ticks are outside of the session, "
            f'{session}: of a market around the clock give session="00:00-24:00", session_zone; '
            f"is {given['time_zone']} the zone of its times?"
        )
    if total["same_time"] > MUCH * total["kept"]:
        share = total["same_time"] / total["kept"]
        odd.append(f"{share:.0%} of the ticks have the time of the one before")
    if total["repeats"]:
        odd.append(
            f"{total['repeats']:,.0f} ticks repeat an earlier one of their moment: drop_repeats "
            "drops them; many are real"
        )
    return odd


def _too_short(report: TickReport, ticks: Dataset, options: Mapping[str, Value]) -> list[str]:
    """Return why a run cannot learn from so little, if that is so."""
    kept = report.days.index[report.days["kept"] > 0]
    if not report.is_whole or "bar" not in options:
        return []
    wanted = options["train_days"] + options["test_days"]
    if len(kept) < LEAST_DAYS:
        return [f"{len(kept)} days have ticks, and a run needs {LEAST_DAYS} or more"]
    days = to_bars(iter_ticks(ticks.parts), kind=options["bar"], size=options["bar_size"])["day"]
    days = days[days.isin(kept[-wanted:])]
    features = {name: options[name] for name in FeatureOptions.__annotations__}
    reach = {"horizon": options["horizon"], "window": options["window"]}
    try:
        check_days(days, kept[-options["test_days"] :], features, **reach)
    except ValueError as error:
        return [str(error)]
    return []


def _odd_values(ticks: pl.DataFrame, columns: pd.DataFrame) -> list[str]:
    price = ticks["price"]
    odd = (
        odd_columns(ticks.select("price", "size").to_pandas()) if "bid" not in ticks.columns else []
    )
    if len(columns) and "side" not in columns.index:
        odd.append("no column of sides: they follow the changes of the price")
    if len(columns) and price.median() > 10_000 and (price % 1 == 0).all():
        odd.append(
            "prices are large and whole: is their unit another, as "
            'columns=["price=price [1/10000]"]?'
        )
    return odd


def _params(report: TickReport, source: str) -> dict[str, Value]:
    """Return what a run needs besides how the source is read: a name, and no more days than are."""
    name = report.symbol or instrument(PurePosixPath(source).name) or PurePosixPath(source).stem
    params: dict[str, Value] = {"model_name": model_name("tick", name)}
    n_days = int(report.days["kept"].gt(0).sum())
    if report.is_whole and LEAST_DAYS <= n_days < FEW_DAYS:
        params |= {"train_days": n_days - 1, "test_days": 1}
    return params
