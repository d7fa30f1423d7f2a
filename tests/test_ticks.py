"""Loading ticks: what is read, from files of every form, and how it is described."""

import gzip
import hashlib
from datetime import UTC, date, datetime

from lib.ground.dataset import Dataset
from lib.tick import times
from lib.tick.load import describe_ticks, iter_ticks, load_ticks
from lib.tick.sample import sample_days

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tick_files import HEADER, TWO, at, refuses
from upath import UPath

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
    assert "'timestamp', 'price', 'size'" in message and 'columns=["price=price"]' in message


def test_optional_column_that_is_mapped_must_be_there(put, tmp_path):
    refuses(tmp_path, put(TWO), "no column 'aggressor' for side", columns=["side=aggressor"])


@pytest.mark.parametrize("entry", ["prize=px", "price", "=px"])
def test_mapping_of_another_form_is_refused(put, tmp_path, entry):
    refuses(tmp_path, put(TWO), "give standard=theirs", columns=[entry])


def test_missing_column_is_named(put, tmp_path):
    path = put(["2013-10-07 09:30:00,1"], header="timestamp,price")
    refuses(tmp_path, path, "ticks.csv has no column 'size' for size, it has 'timestamp', 'price'")


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


def test_days_are_read_back_in_order(week, tmp_path):
    ticks = Dataset(UPath(tmp_path / "clean"))
    load_ticks(week, ticks)
    days = ["2013-10-07", "2013-10-08", "2013-10-10", "2013-10-11"]
    assert [part.name for part in ticks.parts] == days
    whole = pl.concat(list(iter_ticks(ticks.parts)))
    files = sorted((tmp_path / "clean").glob("*.parquet"))
    assert whole["ts"].is_sorted() and whole.equals(pl.concat(map(pl.read_parquet, files)))


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
        "rows_read": 10,
        "rows_outside": 2,
        "rows_kept": 8,
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


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Australia/Lord_Howe"])
def test_clock_of_one_offset_is_read_as_each_time_is(zone):
    days = pl.datetime_range(pl.datetime(2024, 3, 1), pl.datetime(2024, 11, 30), "7h", eager=True)
    n_fast = 0
    for start in range(0, len(days), 5):
        local = days[start : start + 5].cast(pl.Datetime("us"))
        utc = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        utc = utc.dt.convert_time_zone("UTC")
        offset = times._only_offset(local.to_physical(), zone)
        n_fast += offset is not None
        assert offset is None or (local.to_physical() - offset).equals(utc.to_physical())
    assert 100 < n_fast < len(days) // 5, "a change of the clocks is never far from some"
