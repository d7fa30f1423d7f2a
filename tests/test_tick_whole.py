"""Never less than all: files by symbol, times that cannot be, rules that drop a lot, any order."""

from pathlib import Path

import numpy as np
import pytest
from tick_files import HEADER, TWO, at, refuses

WITH_SYMBOL = f"{HEADER},symbol"


def adds_up(report):
    """Every row read is kept, or counted with a reason."""
    rows = dict(report.rows)
    return rows.pop("read") == sum(rows.values())


def put_weeks(put, *, first=(("AAA", 100), ("BBB", 400)), order="symbol"):
    """Put files of two weeks, each of two symbols with two ticks a day; return their folder."""
    for name, days in (("w1", range(7, 12)), ("w2", range(14, 19))):
        lines = [
            f"{at(second, day)},{price},1,{symbol}"
            for symbol, price in first
            for day in days
            for second in (0, 60)
        ]
        lines = lines if order == "symbol" else sorted(lines)
        path = put(lines, f"{name}.csv", WITH_SYMBOL)
    return str(Path(path).parent)


# After `as_of`


@pytest.mark.slow
@pytest.mark.parametrize("order", ["symbol", "time"])
@pytest.mark.parametrize("symbol", ["AAA", "BBB"])
@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_symbol_sorted_files_are_read_beyond_the_first_row_after_as_of(
    put, load, order, symbol, batch_rows
):
    source = put_weeks(put, order=order)
    report, ticks = load(source, symbol=symbol, as_of="2013-10-16", batch_rows=batch_rows)
    assert ticks["day"].unique().sort().dt.day().to_list() == [7, 8, 9, 10, 11, 14, 15, 16]
    assert report.rows == {
        "read": 40, "other_symbols": 20, "after_as_of": 4, "before_first_day": 0, "outside": 0,
        "bad_price": 0, "bad_size": 0, "crossed": 0, "outliers": 0, "kept": 16,
    }  # fmt: skip


@pytest.mark.parametrize("symbol", ["AAA", "BBB"])
@pytest.mark.parametrize("n_days", [1, 2, 3, 6, 9])
def test_last_days_of_symbol_sorted_files_are_whole(put, load, symbol, n_days):
    source = put_weeks(put)
    report, ticks = load(source, symbol=symbol, as_of="2013-10-17", n_days=n_days)
    days = [7, 8, 9, 10, 11, 14, 15, 16, 17]
    assert ticks["day"].unique().sort().dt.day().to_list() == days[-n_days:]
    assert set(report.days["kept"]) == {2} and adds_up(report)


def test_file_whose_first_symbol_begins_after_as_of_is_read_for_the_others(put, load, tmp_path):
    put([f"{at(k, 7)},1,1,BBB" for k in (0, 1)], "a.csv", WITH_SYMBOL)
    late = [f"{at(k, 11)},1,1,AAA" for k in (0, 1)] + [f"{at(k, 8)},1,1,BBB" for k in (0, 1)]
    put(late, "b.csv", WITH_SYMBOL)
    report, ticks = load(str(tmp_path / "raw"), symbol="BBB", as_of="2013-10-09")
    assert ticks["day"].dt.day().to_list() == [7, 7, 8, 8]
    assert report.rows["other_symbols"] == 2 and adds_up(report)


@pytest.mark.slow
def test_files_are_put_in_order_of_the_first_ticks_of_the_symbol(put, load, tmp_path):
    lines = [f"{at(0, 7)},1,1,AAA", *[f"{at(k, 9)},1,1,BBB" for k in (0, 1)]]
    put(lines, "a.csv", WITH_SYMBOL)
    lines = [f"{at(0, 8)},1,1,AAA", *[f"{at(k, 8)},1,1,BBB" for k in (0, 1)]]
    put(lines, "b.csv", WITH_SYMBOL)
    for n_days, days in ((0, [8, 8, 9, 9]), (1, [9, 9])):
        ticks = load(str(tmp_path / "raw"), symbol="BBB", n_days=n_days)[1]
        assert ticks["day"].dt.day().to_list() == days


def test_rows_of_files_without_the_symbol_are_counted(put, load, tmp_path):
    put([f"{at(k, 7)},1,1,AAA" for k in (0, 1, 2)], "a.csv", WITH_SYMBOL)
    put([f"{at(k, 8)},1,1,BBB" for k in (0, 1)], "b.csv", WITH_SYMBOL)
    report, _ = load(str(tmp_path / "raw"), symbol="BBB")
    assert (report.rows["read"], report.rows["other_symbols"]) == (5, 3) and adds_up(report)
    assert load(str(tmp_path / "raw"), symbol="AAA")[0].n_ticks == 3


def test_days_before_those_wanted_are_counted(put, load):
    path = put([f"{at(k, day)},1,1" for day in (7, 8, 9) for k in (-1, 0, 1)])
    report, _ = load(path, n_days=1)
    assert report.rows["before_first_day"] == 6 and report.rows["outside"] == 1
    assert adds_up(report)


def test_days_before_those_wanted_are_counted_in_files_of_their_own(put, load, tmp_path):
    put([f"{at(k, day)},1,1" for day in (7, 8) for k in (0, 1)], "a.csv")
    put([f"{at(k, 9)},1,1" for k in (1, 2)], "b.csv")  # the first may go on until it begins
    report, _ = load(str(tmp_path / "raw"), n_days=1)
    assert report.rows["before_first_day"] == 4 and adds_up(report)


def test_rows_of_the_sample_add_up(load):
    options = {"sample": {"n_days": 6, "n_ticks": 50}, "as_of": "2025-12-18", "n_days": 2}
    report, _ = load("sample", **options)
    assert list(report.days.index) == ["2025-12-17", "2025-12-18"]
    assert report.rows["read"] == report.rows["kept"] == 100 and adds_up(report)


# Times that cannot be


LATE = "2099-10-07 09:30:00,1,1"


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_one_time_of_the_future_is_named_and_never_the_end(put, tmp_path, where, batch_rows):
    lines = [f"{at(0)},1,1", f"{at(1)},1,1"]
    lines.insert(where, LATE)
    message = refuses(tmp_path, put(lines), "ticks.csv, line", batch_rows=batch_rows)
    assert "2099-10-07 13:30:00+00:00" in message
    assert f"line {where + 2}: the timestamp is '2099" in message


def test_time_of_the_future_is_taken_or_left_out_as_as_of_says(put, load, tmp_path):
    path = put([LATE, LATE.replace("30:00", "30:01")])
    refuses(tmp_path, path, "line 2: .* is in the future: .* as_of='2099-10-08' takes it")
    assert load(path, as_of="2099-10-08")[0].n_ticks == 2
    report, _ = load(put([*TWO, LATE]), as_of="2013-10-07")
    assert report.rows["after_as_of"] == 1 and adds_up(report)


def test_file_dated_in_the_future_is_not_left_out_silently(put, tmp_path):
    put(TWO, "2013-10-07.csv")
    put([LATE], "2099-10-07.csv")
    refuses(tmp_path, str(tmp_path / "raw"), "2099-10-07.csv, line 2: .* in the future")


def test_first_time_of_a_file_that_is_too_late_does_not_leave_the_file_out(put, tmp_path):
    put(TWO, "a.csv")
    put(["2013-12-08 09:30:00,1,1", *[f"{at(k, 8)},1,1" for k in (0, 1)]], "b.csv")
    refuses(tmp_path, str(tmp_path / "raw"), "b.csv, line 3: .* is before", as_of="2013-10-09")


@pytest.mark.parametrize(
    "lines",
    [["1970-01-01 00:00:00,1,1", *TWO], [*TWO, "2015-10-07 09:30:00,1,1"]],
)
def test_time_years_from_its_neighbours_is_refused(put, tmp_path, lines):
    message = refuses(tmp_path, put(lines), r"is \d+ days after .* correct or remove it")
    assert "line" in message and "into files of its own" in message


def test_files_may_be_years_apart(put, load, tmp_path):
    put(TWO, "a.csv")
    put([line.replace("2013", "2016") for line in TWO], "b.csv")
    assert load(str(tmp_path / "raw"))[0].n_ticks == 4


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_change_of_the_unit_is_read_and_one_wrong_unit_is_named(put, load, tmp_path, batch_rows):
    ms = [1_381_152_600_000 + 1000 * k for k in range(4)]
    for factors in ((1, 1, 1000, 1000), (1, 1000, 1, 1)):
        lines = [f"{time * factor},1,1" for time, factor in zip(ms, factors, strict=True)]
        ticks = load(put(lines), batch_rows=batch_rows)[1]
        assert ticks["ts"].to_physical().to_list() == [1000 * time for time in ms]
    lines = [f"{time},1,1" for time in (*ms[:3], ms[3] * 10)]
    message = refuses(tmp_path, put(lines), "ticks.csv, line 5: .*", batch_rows=batch_rows)
    assert str(ms[3] * 10) in message or "2407" in message


# Rules that drop too much


def steps(put, move):
    """Put a price that moves by a share with every tick, up or down by chance."""
    rng = np.random.default_rng(2)
    prices = 100 * np.cumprod(1 + move * rng.choice([-1, 1], 600))
    return put([f"{at(k)},{price:.4f},1" for k, price in enumerate(prices)])


def test_rule_that_drops_most_ticks_is_named_with_its_share_and_the_way_out(put, load, tmp_path):
    path = steps(put, 0.02)
    message = refuses(tmp_path, path, "the rule 'outliers' .* max_deviation = 0.005")
    assert "of 600 ticks of the session, a share of 0." in message
    assert "more than max_dropped = 0.2" in message and "max_dropped=0." in message
    assert load(path, max_deviation=10)[0].n_ticks == 600
    report, _ = load(path, max_dropped=0.95)
    assert 0 < report.n_ticks < 300 and adds_up(report)


@pytest.mark.parametrize(
    ("values", "header", "options", "rule"),
    [
        (["", "1"], HEADER, {}, "'bad_price' .* columns=..price="),
        (["1,0", "1,1"], HEADER, {}, "'bad_size' .* columns=..size="),
        (["2,1", "1,2"], "timestamp,bid,ask", {"kind": "quotes"}, "'crossed' .* columns=..bid="),
    ],
)
def test_each_rule_names_itself(put, tmp_path, values, header, options, rule):
    values = [value if "," in value else f"{value},1" for value in values * 2]
    path = put([f"{at(k)},{value}" for k, value in enumerate(values)], header=header)
    refuses(tmp_path, path, rule, **options)


def test_ticks_outside_of_the_session_are_no_fault(put, load):
    report, _ = load(put([f"{at(k)},1,1" for k in (-9, -8, -7, -6, 0, 1)]))
    assert report.rows["outside"] == 4 and adds_up(report)


# Two instruments


@pytest.mark.parametrize("name", ["Ticker", "instrument_name", "<TICKER>", "Currency Pair"])
def test_two_instruments_in_a_column_of_another_name_are_not_one_series(put, load, tmp_path, name):
    lines = [f"{at(k)},{'AB'[k % 2]},{100 + k % 2 / 10},1" for k in range(6)]
    path = put(lines, header=f"timestamp,{name},price,size")
    refuses(tmp_path, path, "several symbols, A, B: give symbol='A'")
    assert prices(load, path, symbol="B") == [100.1]
    message = refuses(tmp_path, path, "no tick of symbol 'C', but of A, B", symbol="C")
    assert "the entry symbol= of columns" in message
    assert prices(load, path, columns=["symbol="]) == [100, 100.1]


def put_flat(put, tmp_path, *names):
    """Put a file of two ticks for each name, each a day after the one before."""
    for k, name in enumerate(names):
        lines = [f"{at(second, 7 + k)},{k + 1},1" for second in (0, 1)]
        put(lines, name.replace("{}", f"2013-10-{7 + k:02}"))
    return str(tmp_path / "raw")


def prices(load, source, **options):
    return load(source, **options)[1]["price"].unique().sort().to_list()


@pytest.mark.parametrize(
    "names",
    [
        ["AAA_{}.csv", "AAA_{}.csv", "BBB_{}.csv", "BBB_{}.csv"],
        ["trades-aaa-{}.csv", "trades-aaa-{}.csv", "bbb-trades-{}.csv.gz", "bbb-trades-{}.csv"],
        ["{}/AAA.csv", "{}/AAA.csv", "{}/BBB.csv", "{}/BBB.csv"],
        ["AAA/{}.csv", "AAA/{}.csv", "BBB/{}.csv", "BBB/{}.csv"],
        ["symbol=AAA/a.csv", "symbol=AAA/b.csv", "symbol=BBB/a.csv", "symbol=BBB/b.csv"],
    ],
)
def test_files_of_a_symbol_are_told_by_their_names(put, load, tmp_path, names):
    source = put_flat(put, tmp_path, *names)
    source += "/*/*.csv" if "/" in names[0] else ""
    assert prices(load, source, symbol="AAA") == [1, 2]
    report, ticks = load(source, symbol="BBB", n_days=1)
    assert report.symbol == "BBB" and set(ticks["price"]) == {4}
    message = refuses(tmp_path, source, "there is no file of symbol 'ZZZ': ", symbol="ZZZ")
    assert "correct symbol" in message and "the entry symbol= of columns" in message
    assert "columns=" not in message, "which would read the files of AAA as ZZZ"
    message = refuses(tmp_path, source, "of several instruments: give symbol='(?i:AAA|BBB)'")
    assert "the entry symbol= of columns" in message


@pytest.mark.parametrize(
    "names",
    [
        ["{}.csv", "{}.csv"],
        ["SPY_{}.csv", "spy_{}.csv"],
        ["SPY20131007.csv", "SPY20131008.csv"],
        ["20131007SPY.csv", "20131008SPY.csv"],
        ["SPY2012-13.csv", "spy2013-10.csv"],
        ["SPY_2013-10-07T0930.csv", "SPY_2013-10-08T1015.csv"],
        ["SPY2012.csv", "SPY2013.csv"],
        ["trades_{}.csv", "trades_{}.csv.gz"],
        ["a.csv", "b.csv"],
        ["part-0.csv", "part-1.csv"],
        ["{}_SPY.csv", "{}.csv"],
        ["week1.csv", "week_02.csv"],
        ["2013-w40.csv", "2013-w41.csv"],
        ["spy_Oct_2013.csv", "spy_nov_2013.csv"],
        ["part-00000-3f2a9b7c-1111-4222-8333-444455556666-c000.csv",
         "part-00001-4d1e0a7b-9999-4222-8333-444455556667-c000.csv"],
    ],
)  # fmt: skip
def test_usual_files_of_one_instrument_are_read_without_a_symbol(put, load, tmp_path, names):
    source = put_flat(put, tmp_path, *names)
    assert prices(load, source) == [1, 2]
    if not any("spy" in name.lower() for name in names):
        assert load(source, symbol="QQQ")[0].symbol == "QQQ"


@pytest.mark.parametrize(
    ("names", "symbol", "taken"),
    [
        (["BTC-USD_{}.csv", "ETH-USD_{}.csv"], "ETH/USD", [2]),
        (["btcusdt_{}.csv", "ethusdt_{}.csv"], "ETHUSDT", [2]),
        (["BTC_USDT_{}.csv", "ETH_USDT_{}.csv"], "ETHUSDT", [2]),
        (["BRK_{}.csv", "BRK.B_{}.csv"], "BRK", [1]),
        (["005930_{}.csv", "000660_{}.csv"], "000660", [2]),
        (["F_{}.csv", "T_{}.csv"], "T", [2]),
        (["AAA20131007.csv", "BBB20131008.csv"], "BBB", [2]),
        (["ESH4_{}.csv", "ESM4_{}.csv"], "ESM4", [2]),
        (["DAT_ASCII_EURUSD_T_201310.csv", "DAT_ASCII_EURGBP_T_201310.csv"], "EURGBP", [2]),
    ],
)
def test_symbols_of_every_form_are_told(put, load, tmp_path, names, symbol, taken):
    assert prices(load, put_flat(put, tmp_path, *names), symbol=symbol) == taken


@pytest.mark.slow
def test_folder_of_the_source_may_name_the_symbol(put, load, tmp_path):
    put_flat(put, tmp_path, "SPY/arca_{}.csv", "SPY/bats_{}.csv")
    for source in ("raw", "raw/SPY", "raw/SPY/*.csv"):
        assert prices(load, str(tmp_path / source), symbol="SPY") == [1, 2]
    message = "no file of symbol 'QQQ'"
    refuses(tmp_path, str(tmp_path / "raw" / "SPY"), message, symbol="QQQ")
    refuses(tmp_path, str(tmp_path / "raw" / "SPY"), "of several instruments")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["BRK.A_{}.csv", "BRK.B_{}.csv"], "stands in the names of several instruments"),
        (["BRK_{}.csv", "{}.csv"], "2013-10-08.csv has .* no name of an instrument"),
        (["spy.csv"], "no file of symbol 'BRK': spy.csv"),
    ],
)
def test_what_cannot_be_told_by_names_is_refused(put, tmp_path, names, message):
    refuses(tmp_path, put_flat(put, tmp_path, *names), message, symbol="BRK")


@pytest.mark.slow
def test_column_of_symbols_counts_more_than_names(put, load, tmp_path):
    put([f"{at(k, 7)},1,1,BBB" for k in (0, 1)], "AAA_2013-10-07.csv", WITH_SYMBOL)
    put([f"{at(k, 8)},2,1,BBB" for k in (0, 1)], "CCC_2013-10-08.csv", WITH_SYMBOL)
    assert prices(load, str(tmp_path / "raw"), symbol="BBB") == prices(load, str(tmp_path / "raw"))
    put([f"{at(k, 9)},3,1" for k in (0, 1)], "DDD_2013-10-09.csv")
    assert prices(load, str(tmp_path / "raw"), symbol="BBB") == [1, 2]
    put([f"{at(k, 10)},3,1" for k in (0, 1)], "2013-10-10.csv")
    refuses(tmp_path, str(tmp_path / "raw"), "has no column of symbols", symbol="BBB")


def test_files_with_and_without_symbols_are_not_mixed(put, tmp_path):
    put([f"{at(k, 7)},1,1,BBB" for k in (0, 1)], "2013-10-07.csv", WITH_SYMBOL)
    put([f"{at(k, 8)},2,1" for k in (0, 1)], "2013-10-08.csv")
    for symbol in ("", "BBB"):
        message = "07.csv has a column of symbols, 2013-10-08.csv has none"
        refuses(tmp_path, str(tmp_path / "raw"), message, symbol=symbol)


def test_files_that_are_said_to_be_of_one_instrument_are(put, load, tmp_path):
    source = put_flat(put, tmp_path, "arca_{}.csv", "bats_{}.csv")
    assert prices(load, source, columns=["symbol="]) == [1, 2]
    assert load(source, columns=["symbol="], symbol="SPY")[0].symbol == "SPY"


# Any order


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_unsorted_ticks_are_sorted_on_request(put, load, tmp_path, batch_rows):
    rng = np.random.default_rng(4)
    lines = [f"{at(k % 40, day)},{100 + k / 1000},1" for day in (7, 8, 9) for k in range(60)]
    expected, ticks = load(put(sorted(lines)), n_days=2)
    mixed = [lines[k] for k in rng.permutation(len(lines))]
    put(mixed[:100], "ticks.csv")
    put(mixed[100:], "more.csv")
    source = str(tmp_path / "raw")
    refuses(tmp_path, source, "sort=True, which sorts them")
    report, found = load(source, sort=True, n_days=2, batch_rows=batch_rows)
    assert found["ts"].is_sorted() and adds_up(report) and report.rows["read"] == 180
    columns = ["ts", "price", "size"]
    assert found.select(columns).sort(columns).equals(ticks.select(columns).sort(columns))
    assert report.days["kept"].equals(expected.days["kept"])
    whole, _ = load(source, sort=True, n_days=2)
    assert report.digest == whole.digest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unsorted")]


@pytest.mark.parametrize("sort", [False, True])
def test_day_of_which_a_part_has_sides_is_refused(put, load, tmp_path, sort):
    put([f"{at(k)},{k + 1},1,1" for k in (0, 1)], "a.csv", f"{HEADER},side")
    put([f"{at(k)},{k + 1},1" for k in (2, 3)], "b.csv")
    source = str(tmp_path / "raw")
    message = 'of 2013-10-07 some ticks have a side .* columns=."side="'
    refuses(tmp_path, source, message, sort=sort)
    assert load(source, columns=["side="], sort=sort)[0].n_ticks == 4


def test_sorting_keeps_the_order_of_one_moment(put, load):
    lines = [f"{at(second)},{price},1" for price in (3, 1, 2) for second in (1, 0)]
    ticks = load(put(lines), sort=True, max_deviation=9)[1]
    assert ticks["price"].to_list() == [3, 1, 2, 3, 1, 2]


@pytest.mark.slow
def test_sorted_ticks_are_the_same_with_and_without(week, load):
    for options in ({}, {"n_days": 2}, {"as_of": "2013-10-10"}):
        one, other = (load(week, sort=sort, **options)[0] for sort in (False, True))
        assert one.digest == other.digest and one.days.equals(other.days)
