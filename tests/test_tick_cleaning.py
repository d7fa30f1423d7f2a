"""Cleaning: what is dropped and counted, by hand, against a naive loop, and of real ticks."""

import math
import statistics
from datetime import datetime, timedelta
from itertools import pairwise

from lib.ground.dataset import Dataset
from lib.ground.files import data_dir
from lib.tick.load import COUNTS, iter_ticks
from lib.tick.sample import sample_days

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tick_files import HEADER, at, load_ticks, refuses
from upath import UPath

REAL = data_dir() / "tick"


# Cleaning


def test_impossible_prices_and_sizes_are_counted_by_their_first_reason(put, load):
    values = ["100,1", ",1", "0,1", "-1,0", "nan,1", "inf,1", "100,0", "100,", "100,-5", "100,2"]
    path = put([f"{at(k)},{value}" for k, value in enumerate(values)])
    report, ticks = load(path, max_dropped=1)
    row = report.days.iloc[0]
    assert (row["bad_price"], row["bad_size"], row["kept"]) == (5, 3, 2)
    assert ticks["size"].to_list() == [1, 2]


def test_quotes_have_the_middle_price_and_crossed_ones_are_dropped(put, load):
    lines = [f"{at(0)},1.0,1.5", f"{at(1)},2.0,1.0", f"{at(2)},1.5,1.5", f"{at(3)},,1.5"]
    options = {"kind": "quotes", "max_deviation": 1, "max_dropped": 1}
    report, ticks = load(put(lines, header="timestamp,bid,ask"), **options)
    assert ticks["price"].to_list() == [1.25, 1.5] and ticks["size"].to_list() == [1, 1]
    assert ticks.select("bid", "ask").rows() == [(1.0, 1.5), (1.5, 1.5)]
    row = report.days.iloc[0]
    assert (row["crossed"], row["bad_price"], row["kept"]) == (1, 1, 2)


@pytest.mark.slow
def test_side_is_the_sign_of_the_last_change_within_the_day(put, load):
    prices = {7: [10, 10, 11, 11, 10.5, 10.5, 11], 8: [11, 11, 10]}
    lines = [f"{at(k, day)},{price},1" for day, p in prices.items() for k, price in enumerate(p)]
    expected = [0, 0, 1, 1, -1, -1, 1, 0, 0, -1]
    for batch_rows in (1, 2, 3, 100):
        ticks = load(put(lines), max_deviation=9, batch_rows=batch_rows)[1]
        assert ticks["side"].to_list() == expected


def test_rounding_of_the_middle_is_no_change_of_the_price(put, load):
    lines = [f"{at(0)},0.1,0.5", f"{at(1)},0.2,0.4", f"{at(2)},0.29999999999999999,0.3"]
    ticks = load(put(lines, header="timestamp,bid,ask"), kind="quotes")[1]
    assert ticks["side"].to_list() == [0, 0, 0]


def test_side_of_the_data_is_taken_and_a_missing_one_is_not_known(put, load):
    lines = [f"{at(k)},{100 + k / 100},1,{side}" for k, side in enumerate(["-1", "", "1", "0"])]
    assert load(put(lines, header=f"{HEADER},side"))[1]["side"].to_list() == [-1, 0, 1, 0]


def test_print_far_from_the_median_is_dropped_and_its_neighbours_stay(put, load):
    prices = [100.0] * 20 + [100.6] + [100.4] * 5 + [99.4] + [100.0] * 20
    report, ticks = load(put([f"{at(k)},{price},1" for k, price in enumerate(prices)]))
    assert report.days["outliers"].tolist() == [2]
    assert ticks["price"].to_list() == [price for price in prices if price not in (100.6, 99.4)]


def test_wrong_first_print_does_not_cost_the_good_ones_after_it(put, load):
    prices = [150.0] + [100.0] * 10
    report, _ = load(put([f"{at(k)},{price},1" for k, price in enumerate(prices)]))
    assert report.days["outliers"].tolist() == [0]


def test_new_price_level_is_good_once_it_is_half_of_the_window(put, load):
    prices = [100.0] * 60 + [102.0] * 60
    path = put([f"{at(k)},{price},1" for k, price in enumerate(prices)])
    report, _ = load(path, max_dropped=0.21)
    assert report.days["outliers"].tolist() == [25]


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_median_is_of_the_tick_and_the_fifty_before_it(put, load, batch_rows):
    prices = [100.0] * 26 + [101.0] * 25 + [100.7]  # in 51 ticks 100.7 is the middle one
    path = put([f"{at(k)},{price},1" for k, price in enumerate(prices)])
    ticks = load(path, max_deviation=0.001, max_dropped=1, batch_rows=batch_rows)[1]
    assert ticks["price"][-1] == 100.7


@pytest.mark.slow
def test_nothing_of_the_future_decides_whether_a_tick_stays(put, load):
    rng = np.random.default_rng(1)
    prices = 100 * np.exp(0.006 * rng.standard_normal(200))
    lines = [f"{at(k)},{price},1" for k, price in enumerate(prices)]
    whole = load(put(lines), max_dropped=1)[1]
    start = load(put(lines[:120]), batch_rows=1, max_dropped=1)[1]
    assert len(start) < 90
    assert start.equals(whole[: len(start)])


@pytest.mark.slow
def test_repeats_are_counted_and_dropped_on_request(put, load):
    lines = [f"{at(0)},100,1", f"{at(0)},100,2", f"{at(0)},100,1", f"{at(1)},100,1"]
    for batch_rows in (1, 2, 3, 100):
        report, ticks = load(put(lines), batch_rows=batch_rows)
        assert report.days[["same_time", "repeats", "kept"]].values.tolist() == [[2, 1, 4]]
        report, ticks = load(put(lines), batch_rows=batch_rows, drop_repeats=True)
        assert report.days[["same_time", "repeats", "kept"]].values.tolist() == [[2, 1, 3]]
        assert ticks["size"].to_list() == [1, 2, 1]


@pytest.mark.slow
def test_repeat_of_a_tick_long_before_in_the_same_moment_is_found(put, load):
    lines = [f"{at(0)},100,{size}" for size in range(1, 90)] + [f"{at(0)},100,1"]
    for batch_rows in (1, 40, 100):
        assert load(put(lines), batch_rows=batch_rows)[0].days["repeats"].tolist() == [1]


def naive(lines, *, drop_repeats, max_deviation):
    """Clean trades of one zone one by one, with nothing but lists."""
    counts, kept = {}, {}
    valid, seen = {}, {}
    for line in lines:
        stamp, price, size = line.split(",")
        day, clock = stamp[:10], stamp[11:19]
        count = counts.setdefault(day, dict.fromkeys(COUNTS, 0))
        count["read"] += 1
        price, size = float(price or "nan"), float(size or "nan")
        if not "09:30:00" <= clock < "16:00:00":
            count["outside"] += 1
        elif not 0 < price < math.inf:
            count["bad_price"] += 1
        elif not 0 < size < math.inf:
            count["bad_size"] += 1
        else:
            before = seen.setdefault(day, [])
            count["same_time"] += bool(before) and before[-1][0] == stamp
            is_repeat = (stamp, price, size) in before
            before.append((stamp, price, size))
            count["repeats"] += is_repeat
            if is_repeat and drop_repeats:
                continue
            prices = valid.setdefault(day, [])
            prices.append(price)
            window = prices[-51:]
            middle = statistics.median(window)
            if len(window) >= 5 and abs(math.log(price / middle)) > max_deviation:
                count["outliers"] += 1
                continue
            count["kept"] += 1
            past = [p for _, p, _, _ in kept.setdefault(day, [])] + [price]
            changes = [np.sign(b - a) for a, b in pairwise(past) if a != b]
            kept[day].append((stamp, price, size, int(changes[-1]) if changes else 0))
    return counts, [row for day in sorted(kept) for row in kept[day]]


trade = st.tuples(
    st.sampled_from([0, 0, 0, 1, 1, 7, 600, 30_000, 70_000]),
    st.sampled_from(["100", "100", "100.01", "99.99", "100.4", "100.7", "0", "", "-1"]),
    st.sampled_from(["1", "1", "2", "0", ""]),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    trades=st.lists(trade, min_size=5, max_size=80),
    batch_rows=st.integers(1, 60),
    drop_repeats=st.booleans(),
)
def test_cleaning_equals_the_naive_loop_wherever_batches_are_cut(
    tmp_path_factory, trades, batch_rows, drop_repeats
):
    tmp_path = tmp_path_factory.mktemp("naive")
    moments = np.cumsum([step for step, _, _ in trades])
    start = datetime(2013, 10, 7, 9, 29, 59)
    lines = [
        f"{start + timedelta(seconds=int(second))},{price},{size}"
        for second, (_, price, size) in zip(moments, trades, strict=True)
    ]
    counts, expected = naive(lines, drop_repeats=drop_repeats, max_deviation=0.005)
    (tmp_path / "x.csv").write_text("\n".join([HEADER, *lines, ""]))
    options = {"drop_repeats": drop_repeats, "batch_rows": batch_rows, "max_dropped": 1}
    if len(expected) < 2:
        refuses(tmp_path, str(tmp_path / "x.csv"), "Two or more are needed", **options)
        return
    clean = Dataset(UPath(tmp_path / "clean"))
    report = load_ticks(str(tmp_path / "x.csv"), clean, **options)
    first = report.days.index[0]
    by_day = {day: count for day, count in sorted(counts.items()) if day >= first}
    found = report.days[list(COUNTS)].astype(int).to_dict("index")
    assert found == by_day
    assert report.rows["read"] == len(lines) == sum(report.rows.values()) / 2
    ticks = pl.concat(list(iter_ticks(clean.parts)))
    local = ticks["ts"].dt.convert_time_zone("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S")
    assert list(zip(local, ticks["price"], ticks["size"], ticks["side"], strict=True)) == expected


@pytest.mark.slow
def test_result_does_not_depend_on_batches_for_a_whole_day(tmp_path, load):
    rng = np.random.default_rng(3)
    day = next(sample_days(1, n_ticks=1_500))
    noisy = day.select(
        timestamp=pl.col("ts").dt.truncate("30s"),
        price=pl.col("price").round(2) * pl.Series(np.where(rng.random(1_500) < 0.03, 1.01, 1.0)),
        size=pl.Series(rng.integers(1, 3, 1_500)),
    )
    noisy.write_parquet(tmp_path / "x.parquet")
    noisy.write_csv(tmp_path / "x.csv")
    reports = [
        load(str(tmp_path / name), batch_rows=n)[0]
        for name, n in [("x.parquet", 10**6), ("x.parquet", 17), ("x.csv", 997), ("x.csv", 10**6)]
    ]
    assert len({report.digest for report in reports}) == 1
    assert reports[0].days["outliers"].iloc[0] > 9 and reports[0].days["repeats"].iloc[0] > 100
    for report in reports[1:]:
        pd.testing.assert_frame_equal(report.days, reports[0].days)


# Real data


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "SPY").is_dir(), reason="no real data")
def test_real_trades_are_counted_and_only_off_market_prints_are_dropped(load):
    report, ticks = load(str(REAL.resolve()), symbol="SPY")
    days = report.days
    assert days["read"].sum() == 1_887_460 and days["outside"].sum() == 58_152
    assert days["outliers"].tolist() == [1, 4, 0, 13, 2]
    assert days[["bad_price", "bad_size", "crossed"]].sum().sum() == 0
    assert report.n_ticks == len(ticks) == 1_829_288
    assert days["longest_gap_s"].max() < 20
    assert (ticks["side"] != 0).mean() > 0.999


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "SPY").is_dir(), reason="no real data")
def test_real_repeats_agree_with_pandas(load):
    path = str((REAL / "SPY" / "2013-10-07.csv.gz").resolve())
    report, _ = load(path)
    raw = pd.read_csv(path, usecols=["timestamp", "price", "size"])
    inside = raw[raw["timestamp"].str[11:].between("09:30:00.000", "15:59:59.999")]
    assert report.days["repeats"].iloc[0] == inside.duplicated().sum()
    same_time = inside["timestamp"].eq(inside["timestamp"].shift()).sum()
    assert report.days["same_time"].iloc[0] == same_time


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "EURUSD").is_dir(), reason="no real data")
def test_real_quotes_lose_the_crossed_ones_alone(load):
    options = {"time_zone": "Etc/GMT+5", "session": "00:00-24:00", "session_zone": "Etc/GMT+5"}
    report, ticks = load(str((REAL / "EURUSD").resolve()), kind="quotes", **options)
    assert report.days["read"].sum() == 1_144_807 and len(report.days) == 13
    dropped = report.days["read"] - report.days["kept"]
    assert dropped.equals(report.days["crossed"]) and 0.1 < dropped.sum() / 1_144_807 < 0.11
    assert (ticks["ask"] >= ticks["bid"]).all()
