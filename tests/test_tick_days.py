"""Which hours of which days count, and which files are opened for them."""

from datetime import UTC, date, datetime

from lib.tick.files import date_in_name

import polars as pl
import pytest
from tick_files import TWO, at, refuses


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
    for day in ("04", "14"):
        put(b"garbage", f"2013-10-{day}.csv")
    assert list(load(week, n_days=1, as_of="2013-10-11")[0].days.index) == ["2013-10-11"]


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


@pytest.mark.slow
def test_last_day_whose_hours_lie_in_two_files_by_utc_date_is_whole(put, load, tmp_path):
    for day in (6, 7, 8):
        lines = [f"2013-10-{day:02}T{hour}:00:00Z,1,1" for hour in ("01", "23")]
        put(lines, f"2013-10-{day:02}.csv")
    options = {"session": "10:00-16:00", "session_zone": "Australia/Sydney", "n_days": 2}
    report, _ = load(str(tmp_path / "raw"), **options)
    assert report.days["kept"].to_dict() == {"2013-10-08": 2, "2013-10-09": 1}


@pytest.mark.slow
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


@pytest.mark.slow
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
