"""Bars by hand and against a loop over ticks; batches cut anywhere; ticks that are refused."""

import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from lib.tick.bars import to_bars
from lib.tick.indicators import BAR_COLUMNS, check_bars

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MONDAY, TUESDAY = date(2013, 10, 7), date(2013, 10, 8)
OPEN = datetime(2013, 10, 7, 13, 30, tzinfo=UTC)


def ticks_of(rows: list[tuple[float, float, float, int]], day: date = MONDAY) -> pl.DataFrame:
    """Return ticks of (seconds after 13:30 UTC, price, size, side)."""
    begin = OPEN + timedelta(days=(day - MONDAY).days)
    seconds, price, size, side = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "ts": [begin + timedelta(seconds=value) for value in seconds],
            "day": [day] * len(rows),
            "price": price,
            "size": size,
            "side": side,
        },
        schema={
            "ts": pl.Datetime("us", "UTC"),
            "day": pl.Date,
            "price": pl.Float64,
            "size": pl.Float64,
            "side": pl.Int8,
        },
    )


@pytest.fixture
def ticks() -> pl.DataFrame:
    monday = [
        (0.0, 10.0, 100, 0), (1.5, 12.0, 300, 1), (4.999999, 11.0, 100, -1),
        (5.0, 11.5, 200, 1), (21.0, 11.0, 50, -1), (21.0, 11.0, 50, -1),
    ]  # fmt: skip
    return pl.concat([ticks_of(monday), ticks_of([(0.0, 20.0, 10, 0)], TUESDAY)])


def seconds_of(bars: pd.DataFrame) -> list[float]:
    begin = pd.to_datetime(bars["day"]).to_numpy() + np.timedelta64(13 * 60 + 30, "m")
    return ((bars.index.tz_localize(None) - begin) / pd.Timedelta(seconds=1)).tolist()


def test_time_bar_holds_only_ticks_before_its_stamp_and_empty_ones_do_not_exist(ticks):
    bars = to_bars([ticks], kind="time", size=5)
    assert bars["day"].tolist() == ["2013-10-07"] * 3 + ["2013-10-08"]
    assert seconds_of(bars) == [5, 10, 25, 5]
    assert bars["count"].tolist() == [3, 1, 2, 1]


def test_every_column_of_a_bar_worked_by_hand(ticks):
    bars = to_bars([ticks], kind="time", size=5)
    assert tuple(bars.columns) == BAR_COLUMNS
    assert bars.iloc[0].to_dict() == {
        "day": "2013-10-07", "open": 10, "high": 12, "low": 10, "close": 11, "volume": 500,
        "count": 3, "signed_volume": 200, "vwap": pytest.approx(5700 / 500), "side": -1,
        "tail": pytest.approx(11), "mean": pytest.approx(11),
    }  # fmt: skip
    assert bars.iloc[1, 1:].eq(to_bars([ticks[3:4]], size=5).iloc[0, 1:]).all()


def test_types_of_index_and_columns(ticks):
    bars = to_bars([ticks], size=5)
    assert str(bars.index.dtype) == "datetime64[us, UTC]"
    assert bars.index.name == "ts"
    assert bars["day"].dtype == "str"
    assert set(bars.dtypes.iloc[1:]) == {np.dtype(np.float64)}


def test_tail_is_the_mean_of_the_last_five_ticks():
    ticks = ticks_of([(k, price, 1, 1) for k, price in enumerate([90, 80, 1, 2, 4, 8, 16])])
    bars = to_bars([ticks], kind="tick", size=7)
    assert bars["tail"].tolist() == [31 / 5]


@pytest.mark.parametrize(
    ("kind", "size", "seconds", "volumes"),
    [
        ("tick", 2, [1.5, 5, 21, 0], [400, 300, 100, 10]),
        ("tick", 4, [5, 21, 0], [700, 100, 10]),
        ("volume", 400, [1.5, 21, 0], [400, 400, 10]),
        ("volume", 401, [4.999999, 21, 0], [500, 300, 10]),
        ("dollar", 3600, [1.5, 21, 21, 0], [400, 350, 50, 10]),
        ("dollar", 4600, [1.5, 21, 0], [400, 400, 10]),
        ("dollar", 4600.01, [4.999999, 21, 0], [500, 300, 10]),
        ("time", 0.5, [0.5, 2, 5, 5.5, 21.5, 0.5], [100, 300, 100, 200, 100, 10]),
    ],
)
def test_bar_ends_with_the_tick_that_fills_it(ticks, kind, size, seconds, volumes):
    bars = to_bars([ticks], kind=kind, size=size)
    assert seconds_of(bars) == seconds
    assert bars["volume"].tolist() == volumes


def test_day_that_ends_with_a_full_bar_has_no_empty_one_after_it(ticks):
    bars = to_bars([ticks], kind="tick", size=3)
    assert bars["count"].tolist() == [3, 3, 1]
    assert to_bars([ticks], kind="volume", size=500)["volume"].tolist() == [500, 300, 10]
    assert to_bars([ticks[:3]], kind="volume", size=500)["volume"].tolist() == [500]


def test_quotes_have_their_mean_spread():
    ticks = ticks_of([(0, 10, 1, 0), (1, 11, 1, 1), (6, 12, 1, 1)])
    quotes = ticks.with_columns(bid=pl.col("price") - 0.5, ask=pl.Series([10.5, 12.0, 12.25]))
    bars = to_bars([quotes], size=5)
    assert list(bars)[-1] == "spread"
    assert bars["spread"].tolist() == [1.25, 0.75]


@pytest.mark.parametrize("kind", ["volume", "dollar"])
def test_quotes_have_no_sizes_to_make_bars_of(ticks, kind):
    quotes = ticks.with_columns(bid="price", ask="price")
    with pytest.raises(ValueError, match=f"{kind} bars need trades"):
        to_bars([quotes], kind=kind, size=5)


def naive_bars(ticks: pl.DataFrame, kind: str, size: float) -> pd.DataFrame:
    """Return the bars by a loop over ticks."""
    groups: list[list[dict]] = []
    total = 0.0
    for tick in ticks.iter_rows(named=True):
        micros = (tick["ts"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        tick["interval"] = micros // round(size * 1e6)
        before = groups[-1][-1] if groups else None
        if kind == "time":
            new = before is None or tick["interval"] != before["interval"]
        else:
            new = total >= size
        if before is None or new or tick["day"] != before["day"]:
            groups.append([])
            total = 0.0
        groups[-1].append(tick)
        total += {"tick": 1, "volume": tick["size"], "dollar": tick["size"] * tick["price"]}.get(
            kind, 0
        )
    bars = []
    for group in groups:
        prices = [tick["price"] for tick in group]
        volume = sum(tick["size"] for tick in group)
        end = (group[0]["interval"] + 1) * round(size * 1e6)
        bars.append(
            {
                "ts": pd.Timestamp(end, unit="us", tz="UTC") if kind == "time" else group[-1]["ts"],
                "day": group[0]["day"].isoformat(),
                "open": prices[0],
                "high": max(prices),
                "low": min(prices),
                "close": prices[-1],
                "volume": volume,
                "count": len(group),
                "signed_volume": sum(tick["size"] * tick["side"] for tick in group),
                "vwap": sum(tick["size"] * tick["price"] for tick in group) / volume,
                "side": group[-1]["side"],
                "tail": np.mean(prices[-5:]),
                "mean": np.mean(prices),
            }
        )
    return pd.DataFrame(bars).set_index("ts")


@st.composite
def tick_frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 200_000, 999_999, 1_000_000, 12_345_678]),  # microseconds
                st.sampled_from([9.97, 10.01, 10.1, 1e-5, 123_456.7]),
                st.sampled_from([1.0, 0.1, 0.3, 700.0]),
                st.sampled_from([-1, 0, 1]),
            ),
            min_size=1,
            max_size=40,
        )
    )
    n_monday = draw(st.integers(0, len(rows)))
    gaps, *rest = zip(*rows, strict=True)
    rows = list(zip((np.cumsum(gaps) / 1e6).tolist(), *rest, strict=True))
    parts = [(rows[:n_monday], MONDAY), (rows[n_monday:], TUESDAY)]
    return pl.concat([ticks_of(part, day) for part, day in parts if part])


sizes = {
    "time": st.sampled_from([0.000001, 0.2, 1, 7, 60, 1e5]),
    "tick": st.integers(1, 50),
    "volume": st.sampled_from([0.05, 0.3, 1, 1.1, 1000, 1e9]),
    "dollar": st.sampled_from([0.01, 3.003, 100, 1e5]),
}
kinds_and_sizes = st.sampled_from(list(sizes)).flatmap(
    lambda kind: st.tuples(st.just(kind), sizes[kind])
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ticks=tick_frames(), kind_and_size=kinds_and_sizes)
def test_bars_equal_those_of_a_loop_over_ticks(ticks, kind_and_size):
    kind, size = kind_and_size
    expected = naive_bars(ticks, kind, size)
    bars = to_bars([ticks], kind=kind, size=size)
    pd.testing.assert_frame_equal(bars, expected, check_dtype=False, rtol=1e-12, atol=1e-10)
    exact = ["day", "open", "high", "low", "close", "count", "side"]
    pd.testing.assert_frame_equal(bars[exact], expected[exact], check_dtype=False, check_exact=True)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    ticks=tick_frames(),
    kind_and_size=kinds_and_sizes,
    cuts=st.lists(st.integers(0, 40), max_size=8),
)
def test_bars_do_not_depend_on_where_batches_are_cut(ticks, kind_and_size, cuts):
    kind, size = kind_and_size
    edges = sorted([0, *(min(cut, len(ticks)) for cut in cuts), len(ticks)])
    batches = (ticks[begin:end] for begin, end in pairwise(edges) if begin < end)
    whole = to_bars([ticks], kind=kind, size=size)
    pd.testing.assert_frame_equal(to_bars(batches, kind=kind, size=size), whole, check_exact=True)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(ticks=tick_frames(), kind_and_size=kinds_and_sizes)
def test_what_holds_for_every_bar(ticks, kind_and_size):
    kind, size = kind_and_size
    bars = to_bars([ticks], kind=kind, size=size)
    check_bars(bars)
    for name in ("open", "close", "vwap", "tail", "mean"):
        assert bars[name].between(bars["low"], bars["high"]).all()
    assert bars["count"].sum() == len(ticks)
    np.testing.assert_allclose(bars["volume"].sum(), ticks["size"].sum(), rtol=1e-12)
    np.testing.assert_allclose(
        bars["signed_volume"].sum(), (ticks["size"] * ticks["side"]).sum(), atol=1e-9
    )
    assert (bars["signed_volume"].abs() <= bars["volume"]).all()
    full = bars[bars["day"].eq(bars["day"].shift(-1))]  # all but the last of a day
    if kind == "volume":
        assert (full["volume"] >= size).all()
    if kind == "tick":
        assert (full["count"] == size).all()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(ticks=tick_frames(), kind_and_size=kinds_and_sizes, n_known=st.integers(1, 40))
def test_finished_bars_do_not_change_when_later_ticks_arrive(ticks, kind_and_size, n_known):
    kind, size = kind_and_size
    known = to_bars([ticks[:n_known]], kind=kind, size=size)
    whole = to_bars([ticks], kind=kind, size=size)
    pd.testing.assert_frame_equal(known.iloc[:-1], whole.iloc[: len(known) - 1], check_exact=True)


def test_no_tick_at_all_is_refused():
    with pytest.raises(ValueError, match="no tick"):
        to_bars([], size=5)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("tick", 2.5, "whole number of ticks"),
        ("time", 0.0000015, "whole number of microseconds"),
    ],
)
def test_size_that_makes_no_bars_of_its_kind_is_refused(ticks, kind, size, message):
    with pytest.raises(ValueError, match=message):
        to_bars([ticks], kind=kind, size=size)


@pytest.mark.parametrize("cut", [7, 3])
def test_tick_earlier_than_the_one_before_is_refused_with_its_time(ticks, cut):
    wrong = pl.concat([ticks[3:5], ticks[:2]])
    message = r"tick at 2013-10-07 13:30:00\+00:00 comes too late"
    with pytest.raises(ValueError, match=message):
        to_bars(wrong.iter_slices(cut), size=60)


@pytest.mark.parametrize("price", [0.1, 0.7, 1.1, 10.1, 167.41])
def test_mean_of_equal_prices_is_that_price_to_the_last_bit(price):
    ticks = ticks_of([(k / 100, price, 0.1, 1) for k in range(10)])
    bars = to_bars([ticks], size=5)
    assert bars[["vwap", "mean", "tail"]].eq(price).all(axis=None)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [("time", 5), ("volume", 5000.0)])
def test_a_million_ticks_take_less_than_two_seconds(kind, size):
    rng = np.random.default_rng(0)
    n_ticks = 1_000_000
    ticks = pl.DataFrame(
        {
            "ts": pl.Series(
                np.sort(rng.integers(0, 23_400_000_000, n_ticks)) + 1_381_152_600_000_000
            )
            .cast(pl.Datetime("us"))
            .dt.replace_time_zone("UTC"),
            "day": pl.Series([MONDAY]).extend_constant(MONDAY, n_ticks - 1),
            "price": 100 + rng.normal(size=n_ticks).cumsum() / 1e4,
            "size": rng.integers(1, 500, n_ticks).astype(float),
            "side": rng.integers(-1, 2, n_ticks).astype(np.int8),
        }
    )
    started = time.process_time()
    bars = to_bars(ticks.iter_slices(300_000), kind=kind, size=size)
    assert time.process_time() - started < 2
    assert bars["count"].sum() == n_ticks
