"""Loading ticks: what is read, dropped, counted and refused, by hand and against a naive loop."""

import gzip
import hashlib
import math
import statistics
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from lib.run import data_dir
from lib.tick.files import date_in_name
from lib.tick.load import COUNTS, describe_ticks, iter_ticks, load_ticks, read_day
from lib.tick.sample import sample_days

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REAL = data_dir() / "tick"
HEADER = "timestamp,price,size"
TWO = ["2013-10-07 09:30:00.000,100,10", "2013-10-07 09:30:01.000,101,20"]


@pytest.fixture
def put(tmp_path):
    """Write lines below a header, or bytes, to a file of a folder `raw`; return its path."""

    def write(lines, name="ticks.csv", header=HEADER):
        path = tmp_path / "raw" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        data = lines if isinstance(lines, bytes) else "\n".join([header, *lines, ""]).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


@pytest.fixture
def load(tmp_path):
    """Load a source into a new folder and return the report and the ticks."""
    made = []

    def call(source, **options):
        made.append(tmp_path / f"clean-{len(made)}")
        report = load_ticks(source, made[-1], **options)
        return report, pl.concat(list(iter_ticks(made[-1])))

    return call


def at(second, day=7):
    """A line of a trade at so many seconds after the opening."""
    clock = datetime(2013, 10, day, 9, 30) + timedelta(seconds=second)
    return f"{clock:%Y-%m-%d %H:%M:%S.%f}"


def refuses(tmp_path, source, message, **options):
    """Loading raises the message and leaves nothing behind."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as caught:
        load_ticks(source, tmp_path / "clean", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    return str(caught.value)


# What is read


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_two_trades_give_the_frame_by_hand(put, load, batch_rows):
    report, ticks = load(put(TWO), batch_rows=batch_rows)
    assert dict(ticks.schema) == {
        "ts": pl.Datetime("us", "UTC"),
        "day": pl.Date,
        "price": pl.Float64,
        "size": pl.Float64,
        "side": pl.Int8,
    }
    assert ticks.rows() == [
        (datetime(2013, 10, 7, 13, 30, tzinfo=UTC), date(2013, 10, 7), 100.0, 10.0, 0),
        (datetime(2013, 10, 7, 13, 30, 1, tzinfo=UTC), date(2013, 10, 7), 101.0, 20.0, 1),
    ]
    row = report.days.loc["2013-10-07"]
    assert row["kept"] == row["read"] == report.n_ticks == 2
    assert row["longest_gap_s"] == 1 and row["last"] - row["first"] == pd.Timedelta("1s")
    assert str(report.days["first"].dtype) == "datetime64[us, UTC]"


def test_text_in_columns_that_are_not_needed_is_never_looked_at(put, load):
    lines = [f"{at(k)},100,1,{'20002000' if k < 500 else '104a00'}" for k in range(600)]
    assert load(put(lines, header=f"{HEADER},conditions"))[0].n_ticks == 600


def test_prices_are_not_taken_for_integers_by_their_first_rows(put, load):
    lines = [f"{at(k)},{100 if k < 500 else 100.25},1" for k in range(600)]
    assert load(put(lines))[1]["price"][-1] == 100.25


NEW_YORK = "2013-10-07 09:30:00.123"
INSTANT = 1_381_152_600_123_456


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2013-10-07 09:30:00.123456", "2013-10-07 09:30:01"),
        ("2013-10-07T09:30:00.123456", "2013-10-07T09:30:01"),
        ("2013-10-07T09:30:00.123456789", "2013-10-07T09:30:01.000000000"),
        ("2013-10-07T13:30:00.123456Z", "2013-10-07T13:30:01Z"),
        ("2013-10-07 15:30:00.123456+02:00", "2013-10-07 15:30:01+02:00"),
        (str(INSTANT), str(INSTANT - 123_456 + 1_000_000)),
        (str(INSTANT * 1000 + 789), str((INSTANT - 123_456 + 1_000_000) * 1000)),
    ],
)
def test_every_kind_of_time_in_text_is_the_same_moment(put, load, first, second):
    ticks = load(put([f"{first},100,1", f"{second},100,1"]))[1]
    assert ticks["ts"].to_physical().to_list() == [INSTANT, INSTANT - 123_456 + 1_000_000]


def test_integers_of_milliseconds_are_told_by_their_size(put, load):
    ticks = load(put([f"{INSTANT // 1000},100,1", f"{INSTANT // 1000 + 5},100,1"]))[1]
    assert ticks["ts"].to_physical()[1] == (INSTANT // 1000 + 5) * 1000


def test_integers_of_microseconds_are_told_from_milliseconds_in_1990_too(put, load):
    first = 631_292_400_000_000
    ticks = load(put([f"{first},100,1", f"{first + 5},100,1"]))[1]
    assert ticks["ts"].to_list()[0] == datetime(1990, 1, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet_times_of_any_unit_and_zone_are_the_same_moment(tmp_path, load, unit, zone):
    local = pd.Series(pd.to_datetime([NEW_YORK, "2013-10-07 09:30:01.000"])).dt.as_unit(unit)
    local = local.dt.tz_localize("America/New_York").dt.tz_convert(zone) if zone else local
    frame = pd.DataFrame({"timestamp": local, "price": [100.0, 101], "size": [1, 2]})
    frame.to_parquet(tmp_path / "x.parquet")
    assert load(str(tmp_path / "x.parquet"))[1]["ts"].to_physical()[0] == INSTANT - 456


def test_parquet_with_categories_and_decimals_is_read(tmp_path, load):
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series([NEW_YORK, "2013-10-07 09:30:01"], dtype=pl.Categorical),
            "price": pl.Series(["100.25", "101"]).cast(pl.Decimal(10, 2)),
            "size": pl.Series([1, 2], dtype=pl.Int16),
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    assert load(str(tmp_path / "x.parquet"))[1]["price"].to_list() == [100.25, 101]


@pytest.mark.parametrize(
    ("clock", "word"), [("2013-11-03 01:30:00", "twice"), ("2013-03-10 02:30:00", "never")]
)
def test_time_that_the_clock_shows_twice_or_never_is_refused(put, tmp_path, clock, word):
    path = put([f"{clock},100,1"])
    message = refuses(tmp_path, path, "ticks.csv, line 2: the timestamp is")
    assert clock in message and word in message and "time_zone" in message


def test_names_are_mapped_and_others_are_left_alone(put, load):
    path = put([f"1,{line}" for line in TWO], header="id,time,px,size")
    report, ticks = load(path, columns=["timestamp=time", "price = px"])
    assert ticks["price"].to_list() == [100, 101] and report.n_ticks == 2


def test_mapped_column_that_is_missing_is_named_with_those_that_are_there(put, tmp_path):
    message = refuses(tmp_path, put(TWO), "no column 'px' for price", columns=["price=px"])
    assert "timestamp, price, size" in message and "columns=['price=...']" in message


def test_optional_column_that_is_mapped_must_be_there(put, tmp_path):
    refuses(tmp_path, put(TWO), "no column 'aggressor' for side", columns=["side=aggressor"])


@pytest.mark.parametrize("entry", ["prize=px", "price", "price=", "=px"])
def test_mapping_of_another_form_is_refused(put, tmp_path, entry):
    refuses(tmp_path, put(TWO), "give standard=theirs", columns=[entry])


def test_missing_column_is_named(put, tmp_path):
    path = put(["2013-10-07 09:30:00,1"], header="timestamp,price")
    refuses(tmp_path, path, "ticks.csv has no column 'size' for size, it has timestamp, price")


def test_gzip_parquet_and_text_with_a_mark_or_other_line_ends_hold_the_same(put, load, tmp_path):
    text = "\n".join([HEADER, *TWO, ""]).encode()
    plain = load(put(TWO))[0].digest
    assert load(put(TWO, "b.csv.gz"))[0].digest == plain
    assert load(put(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), "c.csv"))[0].digest == plain
    pl.read_csv(put(TWO)).write_parquet(tmp_path / "d.parquet")
    assert load(str(tmp_path / "d.parquet"))[0].digest == plain


def test_gzip_of_several_members_is_read_to_its_end(put, load, tmp_path):
    parts = [f"{HEADER}\n{TWO[0]}\n".encode(), f"{TWO[1]}\n".encode()]
    (tmp_path / "x.csv.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert load(str(tmp_path / "x.csv.gz"))[0].n_ticks == 2


def test_url_file_glob_and_folder_are_read(load):
    import fsspec

    memory = fsspec.filesystem("memory")
    for k, line in enumerate(TWO):
        memory.pipe(f"/market/{k}.csv", f"{HEADER}\n{line}\n".encode())
    assert load("memory://market/*.csv")[0].n_ticks == 2
    assert load("memory://market")[0].n_ticks == 2
    with pytest.raises(ValueError, match=r"no file matches memory://market/3.csv"):
        load("memory://market/3.csv")


def test_no_message_shows_a_key_of_a_url(tmp_path):
    message = refuses(tmp_path, "https://127.0.0.1:1/x.csv?token=geheim", "127.0.0.1")
    assert "geheim" not in message


def test_folder_of_symbols_wants_one_of_them(put, load, tmp_path):
    put(TWO, "AAA/1.csv")
    put([line.replace(",10", ",20") for line in TWO], "BBB/1.csv")
    report, ticks = load(str(tmp_path / "raw"), symbol="BBB")
    assert report.symbol == "BBB" and ticks["price"].to_list() == [200, 201]
    refuses(tmp_path, str(tmp_path / "raw"), "it holds the folders AAA, BBB: name one of them")


def test_relative_folder_is_looked_up_in_data_dir(put, load, tmp_path, monkeypatch):
    put(TWO)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert load("raw")[0].n_ticks == 2


def test_source_that_is_nowhere_says_what_else_there_is(tmp_path):
    refuses(tmp_path, "no/such*.csv", 'no file matches .* give "sample" or "iceberg:')


# Symbols


MIXED = [f"{line},{name}" for line in TWO for name in ("AAA", "BBB")]


def test_symbol_is_picked_from_its_column(put, load):
    report, ticks = load(put(MIXED, header=f"{HEADER},symbol"), symbol="BBB")
    assert (report.symbol, len(ticks)) == ("BBB", 2)


def test_one_symbol_in_the_column_is_known_without_being_named(put, load):
    assert load(put(MIXED[::2], header=f"{HEADER},symbol"))[0].symbol == "AAA"


def test_symbol_sorted_file_is_in_order_for_each_symbol(put, load):
    lines = sorted(MIXED, key=lambda line: line[-3:])
    assert load(put(lines, header=f"{HEADER},symbol"), symbol="AAA")[0].n_ticks == 2


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_mixed_symbols_are_named(put, tmp_path, batch_rows):
    path = put(MIXED, header=f"{HEADER},symbol")
    message = refuses(tmp_path, path, "several symbols, AAA, BBB", batch_rows=batch_rows)
    assert "give symbol=" in message


def test_mixed_symbols_in_different_files_are_named(put, tmp_path):
    put([f"{TWO[0]},AAA"], "1.csv", f"{HEADER},symbol")
    put([f"{TWO[1]},BBB"], "2.csv", f"{HEADER},symbol")
    refuses(tmp_path, str(tmp_path / "raw"), "2.csv holds ticks of several symbols, AAA, BBB")


def test_symbol_that_is_not_there_is_answered_with_those_that_are(put, tmp_path):
    path = put(MIXED, header=f"{HEADER},symbol")
    refuses(tmp_path, path, "no tick of symbol 'CCC', but of AAA, BBB", symbol="CCC")


# Bad input


def test_unsorted_file_names_line_and_both_times(put, tmp_path):
    for batch_rows in (1, 2, 100):
        path = put([at(0) + ",1,1", at(2) + ",1,1", at(1) + ",1,1"])
        message = refuses(tmp_path, path, "ticks.csv, line 4: ", batch_rows=batch_rows)
        assert "13:30:01.000000 UTC is before 2013-10-07 13:30:02.000000 UTC" in message
        assert "ticks.csv, line 3; the ticks of a file must be in order of time" in message


def test_files_that_overlap_are_both_named(put, tmp_path):
    put([at(0) + ",1,1", at(5) + ",1,1"], "2013-10-07.csv")
    put([at(4) + ",1,1", at(9) + ",1,1"], "again.csv")
    message = refuses(tmp_path, str(tmp_path / "raw"), "again.csv, line 2: .* must not overlap")
    assert "in 2013-10-07.csv, line 3" in message


def test_files_are_put_in_order_of_their_first_ticks(put, load, tmp_path):
    put([at(5) + ",1,1"], "a.csv")
    put([at(0) + ",1,1", at(5) + ",1,1"], "b.csv")
    assert load(str(tmp_path / "raw"))[1]["ts"].is_sorted()


def test_empty_file_and_header_alone_are_refused(put, tmp_path):
    refuses(tmp_path, put(b""), "ticks.csv is empty")
    refuses(tmp_path, put([]), "ticks.csv holds no rows")


def test_one_tick_is_refused(put, tmp_path):
    refuses(tmp_path, put(TWO[:1]), "leaves one tick only of 1 from 2013-10-07")


def test_no_tick_in_the_session_says_how_many_were_outside(put, tmp_path):
    path = put([f"{at(-60 * k)},1,1" for k in (3, 2, 1)])
    message = refuses(tmp_path, path, "leaves no tick of 3")
    assert "3 outside the session 09:30-16:00 America/New_York" in message


def test_gzip_that_is_cut_or_changed_is_refused(tmp_path, put):
    rng = np.random.default_rng(0)
    lines = [f"{at(k)},{100 + rng.random()},1" for k in range(20_000)]
    whole = Path(put(lines, "x.csv.gz")).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for data in (whole[: len(whole) // 2], whole[:-4], whole[:40], bytes(changed)):
        Path(tmp_path, "raw", "x.csv.gz").write_bytes(data)
        refuses(tmp_path, str(tmp_path / "raw"), r"x.csv.gz cannot be read.*: fetch it again")


def test_error_after_whole_days_leaves_nothing_behind(put, tmp_path):
    lines = [f"{at(k, day)},100,1" for day in (7, 8, 9) for k in range(50)] + ["2013-10-10,x,1"]
    refuses(tmp_path, put(lines), "line 152: price is 'x'; a number", batch_rows=10)


def test_file_that_is_not_what_its_name_says_is_refused(tmp_path):
    for name in ("x.parquet", "x.csv.gz"):
        (tmp_path / name).write_bytes(b"timestamp,price,size\n")
        refuses(tmp_path, str(tmp_path / name), "not what its name says")


def test_parquet_that_is_cut_is_refused(tmp_path, put):
    pl.read_csv(put(TWO)).write_parquet(tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[:-20])
    refuses(tmp_path, str(tmp_path / "x.parquet"), "x.parquet cannot be read")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{at(2)},1o1,1", "line 4: price is '1o1'; a number was expected"),
        (f"{at(2)},101,many", "line 4: size is 'many'; a number was expected"),
        ("9:30,101,1", "line 4: the timestamp is '9:30'; a time as 2013-10-07 09:30"),
        (",101,1", "line 4: the timestamp is ''; a time"),
        ("2013-10-07T13:30:02Z,101,1", "line 4: the timestamp is .* without a zone"),
        (f"{at(2)},101", "Row #4: Expected 3 columns, got 2"),
    ],
)
@pytest.mark.parametrize("batch_rows", [2, 100])
def test_value_of_the_wrong_type_is_named_with_its_line(put, tmp_path, line, message, batch_rows):
    refuses(tmp_path, put([*TWO, line, at(3) + ",1,1"]), message, batch_rows=batch_rows)


def test_missing_time_in_parquet_is_named_by_its_row(tmp_path):
    frame = pd.DataFrame({"timestamp": pd.to_datetime(["2013-10-07 09:30", None]), "price": 1.0})
    frame.assign(size=1.0).to_parquet(tmp_path / "x.parquet")
    refuses(tmp_path, str(tmp_path / "x.parquet"), "x.parquet, row 2: the timestamp is None")


def test_timestamps_of_no_such_type_are_refused(tmp_path):
    pl.DataFrame({"timestamp": [1.5], "price": [1.0], "size": [1.0]}).write_parquet(
        tmp_path / "x.parquet"
    )
    refuses(tmp_path, str(tmp_path / "x.parquet"), "the timestamps are of type double")


def test_integer_seconds_are_refused(put, tmp_path):
    refuses(tmp_path, put(["1381152600,1,1"]), "milli-, micro- or nanoseconds")


def test_side_that_is_no_side_is_named(put, tmp_path):
    path = put([f"{TWO[0]},2"], header=f"{HEADER},side")
    refuses(tmp_path, path, r"line 2: side is '2'; 1 \(the buyer took\)")


def test_date_in_the_name_that_is_not_that_of_the_ticks_is_refused(put, tmp_path):
    refuses(tmp_path, put(TWO, "2013-10-05.csv"), "2013-10-05.csv has a tick of 2013-10-07")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "bars"}, "kind is 'bars': give one of trades, quotes"),
        ({"time_zone": "New York"}, "time_zone is 'New York': give the IANA name"),
        ({"session_zone": ""}, "session_zone is ''"),
        ({"session": "9-16"}, "session is '9-16': give HH:MM-HH:MM"),
        ({"session": "16:00-09:30"}, "within one day"),
        ({"session": "09:30-09:30"}, "within one day"),
        ({"session": "09:61-16:00"}, "within one day"),
        ({"session": "00:00-24:01"}, "within one day"),
        ({"as_of": "7.10.2013"}, "as_of is '7.10.2013': give a day as 2013-10-11"),
        ({"n_days": -1}, "n_days is -1"),
        ({"max_deviation": 0.0}, "max_deviation is 0.0"),
        ({"max_deviation": math.nan}, "max_deviation is nan"),
        ({"batch_rows": 0}, "batch_rows is 0"),
    ],
)
def test_option_out_of_its_range_is_named(put, tmp_path, options, message):
    refuses(tmp_path, put(TWO), message, **options)


def test_folder_that_holds_something_is_not_touched(put, tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "mine.txt").write_text("x")
    refuses(tmp_path, put(TWO), "exists and is not an empty folder")
    assert (tmp_path / "clean" / "mine.txt").read_text() == "x"


# Session and days


def test_session_holds_its_first_moment_and_not_its_last(put, load):
    clocks = ["09:29:59.999", "09:30:00.000", "15:59:59.999", "16:00:00.000"]
    report, ticks = load(put([f"2013-10-07 {clock},1,1" for clock in clocks]))
    assert report.days["outside"].tolist() == [2]
    assert ticks["ts"].dt.time().cast(pl.String).to_list()[0].startswith("13:30:00")


def test_session_follows_the_clocks_through_their_change(put, load):
    lines = [f"2013-{day}T{hour}:30:00Z,1,1" for day, hour in
             (("03-08", "13"), ("03-08", "14"), ("03-11", "13"), ("03-11", "14"))]  # fmt: skip
    report, _ = load(put(lines))
    assert report.days["outside"].tolist() == [1, 0]  # the opening is at 14:30, then at 13:30 UTC


def test_day_is_that_of_the_session_zone(put, load):
    lines = ["2013-10-07T03:59:59Z,1,1", "2013-10-07T04:00:00Z,1,1", "2013-10-08T03:59:59Z,1,1"]
    report, ticks = load(put(lines), session="00:00-24:00")
    assert report.days["kept"].to_dict() == {"2013-10-06": 1, "2013-10-07": 2}
    assert ticks["day"].to_list() == [date(2013, 10, 6), date(2013, 10, 7), date(2013, 10, 7)]


def test_nothing_after_as_of_is_seen_in_the_same_file_or_in_others(put, load, tmp_path):
    put([f"{at(k, day)},1,1" for day in (7, 8) for k in (0, 1)] + ["2013-10-09 09:30:00,1,1"])
    put(b"no ticks at all", "2013-10-10.csv")
    report, ticks = load(str(tmp_path / "raw"), as_of="2013-10-08", batch_rows=2)
    assert list(report.days.index) == ["2013-10-07", "2013-10-08"]
    assert ticks["ts"].max() < datetime(2013, 10, 9, tzinfo=UTC)


@pytest.fixture
def week(put):
    """Files of five days of two ticks, the third of them outside of the session."""
    for day in range(7, 12):
        early = -600 if day == 9 else 0
        put([f"{at(early + k, day)},1,1" for k in range(2)], f"2013-10-{day:02}.csv")
    return str(Path(put(TWO[:0], "README.md")).parent)


def test_last_days_that_have_ticks_are_taken(week, load):
    report, ticks = load(week, n_days=3)
    assert ticks["day"].unique().sort().dt.day().to_list() == [8, 10, 11]
    assert report.days["kept"].to_dict() == {
        "2013-10-08": 2, "2013-10-09": 0, "2013-10-10": 2, "2013-10-11": 2,
    }  # fmt: skip
    assert report.n_ticks == 6


def test_last_days_up_to_as_of_are_taken(week, load):
    ticks = load(week, n_days=2, as_of="2013-10-10")[1]
    assert ticks["day"].unique().sort().dt.day().to_list() == [8, 10]


def test_more_days_than_there_are_gives_all(week, load):
    assert load(week, n_days=9)[0].n_ticks == 8


def test_as_of_before_everything_is_an_error(week, tmp_path):
    refuses(tmp_path, week, "no tick up to as_of = 2013-09-01", as_of="2013-09-01")


def test_files_of_other_days_are_not_opened(week, load, put):
    for day in ("08", "11"):
        put(b"garbage", f"2013-10-{day}.csv")
    assert list(load(week, n_days=1, as_of="2013-10-10")[0].days.index) == ["2013-10-10"]
    assert load(week, as_of="2013-10-07")[0].n_ticks == 2


def test_files_dated_in_utc_are_opened_for_the_evening_of_the_day_before(put, load, tmp_path):
    put([f"2013-10-0{day}T{hour}:00:00Z,1,1" for day, hour in ((7, 14), (7, 23))], "20131007.csv")
    put([f"2013-10-0{day}T{hour}:00:00Z,1,1" for day, hour in ((8, "02"), (8, 14))], "20131008.csv")
    options = {"session": "00:00-24:00", "as_of": "2013-10-07"}
    assert load(str(tmp_path / "raw"), **options)[0].n_ticks == 3


def test_days_of_files_without_dates_are_found_by_looking(put, load, tmp_path):
    for name, days in {"c": (7, 8), "a": (9,), "b": (10, 11)}.items():
        put([f"{at(k, day)},1,1" for day in days for k in range(2)], f"{name}.csv")
    ticks = load(str(tmp_path / "raw"), n_days=3)[1]
    assert ticks["day"].unique().sort().dt.day().to_list() == [9, 10, 11]


def test_last_day_whose_hours_lie_in_two_files_by_utc_date_is_whole(put, load, tmp_path):
    for day in (6, 7, 8):
        lines = [f"2013-10-{day:02}T{hour}:00:00Z,1,1" for hour in ("01", "23")]
        put(lines, f"2013-10-{day:02}.csv")
    options = {"session": "10:00-16:00", "session_zone": "Australia/Sydney", "n_days": 2}
    report, _ = load(str(tmp_path / "raw"), **options)
    assert report.days["kept"].to_dict() == {"2013-10-08": 2, "2013-10-09": 1}


def test_day_of_which_only_a_part_was_read_at_first_does_not_count(put, load, tmp_path):
    hours = {14: ("01", "23"), 15: ("01", "23"), 16: ("01", "23"), 17: ("12",), 18: ("12",)}
    for day, clocks in hours.items():
        put([f"2013-10-{day}T{hour}:00:00Z,1,1" for hour in clocks], f"2013-10-{day}.csv")
    options = {"session": "10:00-16:00", "session_zone": "Australia/Sydney", "n_days": 3}
    days = load(str(tmp_path / "raw"), **options)[0].days
    assert days.loc[days["kept"] > 0, "kept"].to_dict() == {
        "2013-10-15": 2, "2013-10-16": 2, "2013-10-17": 1,
    }  # fmt: skip


def test_file_that_ends_before_the_first_day_is_not_read_beyond_its_first_time(put, load, tmp_path):
    put([f"{at(0, 7)},1,1", f"{at(1, 7)},x,1"], "a.csv")
    put([f"{at(k, 8)},1,1" for k in (-1, 0, 1)], "b.csv")
    assert load(str(tmp_path / "raw"), n_days=1)[0].n_ticks == 2


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_date_in_a_name_may_be_that_of_the_times_or_of_the_session(put, load, tmp_path, zone):
    for day in ("07", "08"):
        lines = [f"2013-10-{day} {clock}:30:00,1,1" for clock in ("00", "23")]
        put(lines, f"2013-10-{day}.csv")
    options = {"session": "00:00-24:00", "time_zone": zone, "session_zone": zone}
    for n_days, as_of in ((0, ""), (1, ""), (0, "2013-10-07")):
        report, _ = load(str(tmp_path / "raw"), n_days=n_days, as_of=as_of, **options)
        assert set(report.days["kept"]) == {2}


def test_file_that_begins_after_as_of_is_not_read_beyond_its_first_time(put, load, tmp_path):
    put(TWO, "a.csv")
    put([f"{at(0, 9)},1,1", f"{at(1, 9)},x,1"], "b.csv")
    assert load(str(tmp_path / "raw"), as_of="2013-10-08")[0].n_ticks == 2


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("2013-10-07.csv.gz", date(2013, 10, 7)),
        ("SPY_20131007_trades.parquet", date(2013, 10, 7)),
        ("2013-1007.csv", None),
        ("20131399.csv", None),
        ("120131007.csv", None),
        ("2013-10-07_2013-10-11.csv", None),
        ("ticks.csv", None),
    ],
)
def test_date_in_a_name_is_the_only_one(name, day):
    assert date_in_name(name) == day


# Cleaning


def test_impossible_prices_and_sizes_are_counted_by_their_first_reason(put, load):
    values = ["100,1", ",1", "0,1", "-1,0", "nan,1", "inf,1", "100,0", "100,", "100,-5", "100,2"]
    report, ticks = load(put([f"{at(k)},{value}" for k, value in enumerate(values)]))
    row = report.days.iloc[0]
    assert (row["bad_price"], row["bad_size"], row["kept"]) == (5, 3, 2)
    assert ticks["size"].to_list() == [1, 2]


def test_quotes_have_the_middle_price_and_crossed_ones_are_dropped(put, load):
    lines = [f"{at(0)},1.0,1.5", f"{at(1)},2.0,1.0", f"{at(2)},1.5,1.5", f"{at(3)},,1.5"]
    report, ticks = load(put(lines, header="timestamp,bid,ask"), kind="quotes", max_deviation=1)
    assert ticks["price"].to_list() == [1.25, 1.5] and ticks["size"].to_list() == [1, 1]
    assert ticks.select("bid", "ask").rows() == [(1.0, 1.5), (1.5, 1.5)]
    row = report.days.iloc[0]
    assert (row["crossed"], row["bad_price"], row["kept"]) == (1, 1, 2)


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
    report, _ = load(put([f"{at(k)},{price},1" for k, price in enumerate(prices)]))
    assert report.days["outliers"].tolist() == [25]


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_median_is_of_the_tick_and_the_fifty_before_it(put, load, batch_rows):
    prices = [100.0] * 26 + [101.0] * 25 + [100.7]  # in 51 ticks 100.7 is the middle one
    path = put([f"{at(k)},{price},1" for k, price in enumerate(prices)])
    ticks = load(path, max_deviation=0.001, batch_rows=batch_rows)[1]
    assert ticks["price"][-1] == 100.7


def test_nothing_of_the_future_decides_whether_a_tick_stays(put, load):
    rng = np.random.default_rng(1)
    prices = 100 * np.exp(0.006 * rng.standard_normal(200))
    lines = [f"{at(k)},{price},1" for k, price in enumerate(prices)]
    whole = load(put(lines))[1]
    start = load(put(lines[:120]), batch_rows=1)[1]
    assert len(start) < 90
    assert start.equals(whole[: len(start)])


def test_repeats_are_counted_and_dropped_on_request(put, load):
    lines = [f"{at(0)},100,1", f"{at(0)},100,2", f"{at(0)},100,1", f"{at(1)},100,1"]
    for batch_rows in (1, 2, 3, 100):
        report, ticks = load(put(lines), batch_rows=batch_rows)
        assert report.days[["same_time", "repeats", "kept"]].values.tolist() == [[2, 1, 4]]
        report, ticks = load(put(lines), batch_rows=batch_rows, drop_repeats=True)
        assert report.days[["same_time", "repeats", "kept"]].values.tolist() == [[2, 1, 3]]
        assert ticks["size"].to_list() == [1, 2, 1]


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


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    trades=st.lists(trade, min_size=5, max_size=120),
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
    options = {"drop_repeats": drop_repeats, "batch_rows": batch_rows}
    if len(expected) < 2:
        refuses(tmp_path, str(tmp_path / "x.csv"), "two or more are needed", **options)
        return
    report = load_ticks(str(tmp_path / "x.csv"), tmp_path / "clean", **options)
    first = report.days.index[0]
    by_day = {day: count for day, count in sorted(counts.items()) if day >= first}
    found = report.days[list(COUNTS)].astype(int).to_dict("index")
    assert found == by_day
    ticks = pl.concat(list(iter_ticks(tmp_path / "clean")))
    local = ticks["ts"].dt.convert_time_zone("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S")
    assert list(zip(local, ticks["price"], ticks["size"], ticks["side"], strict=True)) == expected


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


# Digest, reading back, description


def test_digest_is_fixed(put, load):
    report, _ = load(put(TWO))
    start = 1_381_152_600_000_000
    columns = {
        "ts": np.array([start, start + 1_000_000], "<i8"),
        "price": np.array([100, 101], "<f8"),
        "size": np.array([10, 20], "<f8"),
        "side": np.array([0, 1], "i1"),
    }
    lines = [
        f"2013-10-07|2|{name}|{hashlib.sha256(values.tobytes()).hexdigest()}\n"
        for name, values in columns.items()
    ]
    assert report.digest == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("line", [at(1) + ",101,21", at(1) + ",101.5,20", at(2) + ",101,20"])
def test_digest_sees_every_value(put, load, line):
    assert load(put([TWO[0], line]))[0].digest != load(put(TWO))[0].digest


def test_digest_sees_to_which_day_ticks_belong(put, load):
    lines = ["2013-10-07T03:59:59Z,1,1", "2013-10-07T04:00:00Z,1,1"]
    options = {"session": "00:00-24:00"}
    one, other = (load(put(lines), session_zone=z, **options)[0] for z in ("UTC", "Etc/GMT+4"))
    assert one.digest != other.digest


def test_days_are_read_back_in_order_one_by_one_or_in_batches(week, tmp_path):
    load_ticks(week, tmp_path / "clean")
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == [
        "2013-10-07.parquet", "2013-10-08.parquet", "2013-10-10.parquet", "2013-10-11.parquet",
    ]  # fmt: skip
    assert [len(batch) for batch in iter_ticks(tmp_path / "clean", batch_rows=1)] == [1] * 8
    whole = pl.concat(list(iter_ticks(tmp_path / "clean")))
    days = [read_day(path) for path in sorted((tmp_path / "clean").iterdir())]
    assert whole["ts"].is_sorted() and whole.equals(pl.concat(days))
    path = tmp_path / "clean" / "2013-10-08.parquet"
    assert read_day(path, ["price"]).columns == ["price"]


def test_description_counts_and_names(week, load):
    report, _ = load(week, symbol="AAA")
    described = describe_ticks(report, "https://db.example/x.csv?token=geheim")
    assert described == {
        "name": "aaa_trades",
        "source": "https://db.example/x.csv?token=***",
        "digest": report.digest,
        "n_rows": 8,
        "n_dropped": 2,
        "n_days": 4,
        "start": "2013-10-07T13:30:00+00:00",
        "end": "2013-10-11T13:30:01+00:00",
        "symbol": "AAA",
        "kind": "trades",
    }


def test_description_ends_with_the_last_day_that_has_ticks(put, load, tmp_path):
    put(TWO, "2013-10-07.csv")
    put([f"{at(-60, 8)},1,1"], "2013-10-08.csv")
    report, _ = load(str(tmp_path / "raw"))
    assert list(report.days["kept"]) == [2, 0]
    assert describe_ticks(report, "x")["end"] == "2013-10-07T13:30:01+00:00"


# Sample


def test_sample_is_loaded_like_any_other_data(load):
    report, ticks = load("sample", sample={"n_days": 3, "n_ticks": 500}, seed=4)
    made = pl.concat(list(sample_days(3, n_ticks=500, seed=4)))
    assert ticks.equals(made) and report.n_ticks == 1500
    assert describe_ticks(report, "sample")["name"] == "trades_sample"


def test_sample_obeys_as_of_and_days(load):
    options = {"sample": {"n_days": 6, "n_ticks": 50}, "as_of": "2025-12-18", "n_days": 2}
    assert list(load("sample", **options)[0].days.index) == ["2025-12-17", "2025-12-18"]


def test_sample_after_as_of_is_an_error(tmp_path):
    refuses(tmp_path, "sample", "no tick up to as_of = 2020-01-01", as_of="2020-01-01")


def test_sample_has_no_quotes(tmp_path):
    refuses(tmp_path, "sample", "the sample holds trades", kind="quotes")


# Iceberg


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables `utc` and `local` of two symbols and three days, two files for each of both."""
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    folder = tmp_path_factory.mktemp("iceberg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYICEBERG_CATALOG__LOCAL__URI", f"sqlite:///{folder}/catalog.db")
        patch.setenv("PYICEBERG_CATALOG__LOCAL__WAREHOUSE", f"file://{folder}/warehouse")
        patch.setattr(catalog, "_ENV_CONFIG", Config())  # which was read at import
        local = catalog.load_catalog("local")
        local.create_namespace("market")
        days = {s: list(sample_days(3, n_ticks=50, seed=k)) for k, s in enumerate(["AAA", "BBB"])}
        for name in ("utc", "local"):
            made = None
            for symbol, day in [(s, day) for s, of_s in days.items() for day in of_s[::-1]]:
                time = pl.col("ts")
                if name == "local":
                    time = time.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
                frame = day.select(time.alias("time"), "price", "size", symbol=pl.lit(symbol))
                rows = frame.to_arrow()
                made = made or local.create_table(f"market.{name}", rows.schema)
                made.append(rows[25:])
                made.append(rows[:25])
        yield


@pytest.fixture
def opened(monkeypatch):
    """The data files that pyiceberg was asked for."""
    from pyiceberg.io.pyarrow import ArrowScan

    files, read = [], ArrowScan.to_record_batches

    def watched(self, tasks):
        tasks = list(tasks)
        files.extend(task.file for task in tasks)
        return read(self, tasks)

    monkeypatch.setattr(ArrowScan, "to_record_batches", watched)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("name", ["utc", "local"])
def test_iceberg_table_is_read_by_day_and_symbol_and_no_more(tables, opened, load, name):
    options = {"columns": ["timestamp=time"], "symbol": "BBB", "n_days": 1, "as_of": "2025-12-18"}
    report, ticks = load(f"iceberg:local.market.{name}", **options)
    assert report.days["kept"].to_dict() == {"2025-12-18": 50} and report.symbol == "BBB"
    made = list(sample_days(3, n_ticks=50, seed=1))[1]
    assert ticks.select("ts", "price").equals(made.select("ts", "price"))
    assert len(opened) == 2


def test_iceberg_days_are_read_in_order_whatever_the_order_of_the_files(tables, load):
    options = {"columns": ["timestamp=time"], "symbol": "AAA", "batch_rows": 7}
    ticks = load("iceberg:local.market.utc", **options)[1]
    made = pl.concat(list(sample_days(3, n_ticks=50, seed=0)))
    assert ticks.select("ts", "price").equals(made.select("ts", "price"))


@pytest.mark.parametrize("name", ["utc", "local"])
def test_iceberg_days_of_another_zone_are_whole(tables, load, name):
    options = {"columns": ["timestamp=time"], "symbol": "AAA", "n_days": 1, "as_of": "2025-12-18"}
    options |= {"session": "00:00-24:00", "session_zone": "Asia/Tokyo", "max_deviation": 1.0}
    ticks = load(f"iceberg:local.market.{name}", **options)[1]
    made = pl.concat(list(sample_days(3, n_ticks=50, seed=0)))
    border = datetime(2025, 12, 17, 15, tzinfo=UTC)
    expected = made.filter(pl.col("ts").is_between(border, border + timedelta(days=1)))
    assert ticks.select("ts", "price").equals(expected.select("ts", "price"))


def test_iceberg_table_without_a_symbol_named_is_mixed(tables, tmp_path):
    source, message = "iceberg:local.market.utc", "several symbols, AAA, BBB"
    refuses(tmp_path, source, message, columns=["timestamp=time"])


def test_iceberg_table_that_is_not_there_is_named(tables, tmp_path):
    refuses(tmp_path, "iceberg:local.market.none", "catalog local has no table market.none")
    refuses(tmp_path, "iceberg:local.none.ticks", "catalog local has no table none.ticks")
    refuses(tmp_path, "iceberg:ticks", "give iceberg:<catalog>.<namespace>.<table>")
    refuses(tmp_path, "iceberg:other.market.utc", "the Iceberg catalog other cannot be used")


def test_iceberg_table_without_the_column_says_which_there_are(tables, tmp_path):
    message = "no column 'timestamp' for timestamp, it has time, price, size"
    refuses(tmp_path, "iceberg:local.market.utc", message)
    refuses(
        tmp_path,
        "iceberg:local.market.utc",
        "price is of type double, timestamp or timestamptz was expected",
        columns=["timestamp=price"],
    )


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
