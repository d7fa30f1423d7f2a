"""The lake: every line once and accounted for, whatever lands in whatever order, and is killed."""

import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import pairwise

from lib.ground.files import ROOT
from lib.lakehouse import bronze, gold, landing, lines, silver, tables
from lib.lakehouse.feeds import POWER, TICK, standard_offset

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_files import BEGIN, HEADER, HOUR, ZONES, Lake, readings, trades
from pyarrow import parquet
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.types import FloatType, IntegerType

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def test_file_is_taken_in_once_however_often_and_under_whatever_name_it_lands(lake):
    text = readings(1, HOUR, 1.5)
    lake.land("power/a.txt", text)
    lake.run([POWER])
    before = lake.content([POWER])
    lake.land("power/a.txt", text, hour=5)
    lake.land("power/copy of a.txt", text, hour=6)
    assert lake.run([POWER])["power"]["lines"] == 0
    assert lake.content([POWER]) == before
    lines = lake.rows("power.bronze").sort("line")
    assert set(lines.filter(pl.col("line") == 0)["file"]) == {"a.txt", "copy of a.txt"}
    assert lines.filter(pl.col("line") > 0)["text"].to_list() == text.splitlines(keepends=True)


def test_file_that_is_written_anew_while_it_is_read_is_kept_as_what_was_read(lake, monkeypatch):
    """Else a copy of what it was would stand for the lines of what it is."""
    first, second = (readings(1, HOUR, kw) for kw in (1.0, 2.0))
    lake.land("power/a.txt", first)
    lake.land("power/b.txt", first)
    real = bronze._parts

    def late(*given):
        lake.land("power/a.txt", second, hour=1)
        return real(*given)

    monkeypatch.setattr(bronze, "_parts", late)
    lake.run([POWER])
    texts = lake.rows("power.bronze").filter(pl.col("line") > 0).sort("line")
    for digest in set(texts["digest"]):
        text = "".join(texts.filter(digest=digest)["text"])
        assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert lake.run([POWER])["power lines"]["corrected"] == 60
    assert set(lake.rows("power.silver")["power_kw"]) == {2.0}


def test_file_that_is_written_anew_between_its_lines_is_left_for_the_next_run(lake, monkeypatch):
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    real = bronze._lines

    def slow(stream):
        yield from real(stream)
        lake.land("power/a.txt", readings(1, HOUR, 2.0), hour=1)

    with monkeypatch.context() as patch:
        patch.setattr(bronze, "_lines", slow)
        with pytest.raises(tables.Overtaken, match=r"a\.txt was written anew .* run again"):
            lake.run([POWER])
    assert lake.run([POWER])["power lines"]["rows"] == 60
    assert set(lake.rows("power.silver")["power_kw"]) == {2.0}


def test_lines_are_refused_with_reason_and_as_they_were_and_the_counts_close(lake):
    good = readings(1, range(3), 1.5).splitlines()
    wrong = {
        "1/1/2007;00:10:00;1.5": "3 fields, the header has 9",
        "31/2/2007;00:10:00;1.5;0.1;240.1;4.2;0;1;17": "no time as %d/%m/%Y %H:%M:%S",
        "1/1/2007;00:11:00;watt;0.1;240.1;4.2;0;1;17": "power_kw is no number",
        "1/1/2007;00:12:00;1.5;0.1;24010;4.2;0;1;17": "voltage_v is out of range",
        "1/1/2007;00:13:00;nan;0.1;240.1;4.2;0;1;17": "power_kw is out of range",
    }
    missing = "1/1/2007;00:14:00;?;?;?;?;?;?;"
    lake.land("power/a.txt", "\n".join([*good, *wrong, missing, "", good[1]]))
    told = lake.run([POWER])
    refused = lake.rows("power.quarantine").sort("line")
    assert dict(refused.select("text", "reason").iter_rows()) == wrong
    assert refused["line"].to_list() == [5, 6, 7, 8, 9]
    rows = lake.rows("power.silver").sort("ts")
    assert rows["power_kw"].to_list() == [1.5, 1.5, 1.5, None]
    assert rows["ts"][0].isoformat() == "2006-12-31T23:00:00+00:00", "the clock is ahead of UTC"
    assert told["power lines"] == {
        "lines": 12,
        "header": 1,
        "blank": 1,
        "refused": 5,
        "replaced": 0,
        "repeats": 1,
        "corrected": 0,
        "rows": 4,
    }


def test_line_that_is_no_text_is_kept_and_refused(lake):
    path = lake.zone / "power/a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(readings(1, [0], 1.5).encode() + b"\xff\x01\0x\n")
    lake.run([POWER])
    (refused,) = lake.rows("power.quarantine").to_dicts()
    assert refused["text"] == r"\xff" + "\x01\0x" and refused["reason"].startswith("1 fields")


def test_file_that_holds_less_than_it_should_or_more_than_one_is_named(lake):
    lake.land("power/a.gz", "")
    path, text = lake.zone / "power/a.gz", readings(1, HOUR, 1.5)
    path.write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(ValueError, match=r"a\.gz cannot be read, it may be cut short or damaged"):
        lake.run([POWER])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.md", "x")
        archive.writestr("1.txt", text)
    assert lake.run([POWER])["power lines"]["rows"] == 60
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("2.txt", text)
    with pytest.raises(ValueError, match=r"a\.gz holds 2 files \(1.txt, 2.txt\)"):
        lake.run([POWER])


def test_what_is_on_its_way_or_left_by_a_system_has_not_landed(lake):
    for name in ("power/.partial/a.txt", "power/.a.txt", "power/__MACOSX/a.txt", "power/b.txt"):
        lake.land(name, "x")
    assert [one.name for one in landing.landed(str(lake.zone), POWER)] == ["b.txt"]


@pytest.mark.parametrize(("size", "pieces"), [(64, "a|\n|\r|\r\n|é|\xff"), (4, "a|bc|\n|\r|\xff")])
@given(data=st.data())
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_lines_are_the_file_again_however_they_end_and_wherever_blocks_are_cut(size, pieces, data):
    known = {one: b"\xff" if one == "\xff" else one.encode() for one in pieces.split("|")}
    raw = b"".join(known[one] for one in data.draw(st.lists(st.sampled_from(list(known)))))
    raw = raw[:size] if size == 64 else raw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bronze, "BLOCK_BYTES", size)
        found = [text for lines in bronze._lines(BytesIO(raw)) for text in lines.to_pylist()]
    text = raw.decode("utf-8", "backslashreplace")
    assert "".join(found) == text
    if size == 64:
        assert found == re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
    assert all(re.fullmatch(r"[^\r\n]*(?:\r\n|\r|\n)?", line) for line in found)


def test_lines_of_a_small_file_hold_no_more_than_it_has():
    (lines,) = bronze._lines(BytesIO(b"a\nb\n"))
    assert lines.buffers()[2].size == 4


def test_of_files_that_have_come_at_once_only_the_wanted_are_read(lake, monkeypatch):
    monkeypatch.setattr(bronze, "GROUP_ROWS", 1)
    for day in range(1, 4):
        lake.land(f"power/{day}.txt", readings(day, HOUR, day), hour=day)
    found = bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
    table, read, real = lake.table("power.bronze"), [], parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_group", lambda *given: read.append(given) or real(*given)
    )
    wanted = found.filter(pl.col("file") == "2.txt")["digest"].to_list()
    rows = pl.concat(lines.read_lines(table, bronze.landings(table), wanted))
    assert len(rows) == 61 and len(read) == 2, "once for the header"


ODD = ["2013-10-07 09:30:00", "2013-10-07 09:30:00.25", "2013-10-07", "2013-10-07T09:30:00"]
ODD += ["2013-10-07 09:30:00Z", "2013-11-03 01:30:00", "2013-10-07 09:30", "2013-10-07 09:30:00.5 "]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(ODD),
            st.sampled_from(["10", "10.5", " 10", "1e1", "nan", "inf", "-1", "", "?", "x", "1,5"]),
            st.sampled_from(["100", "1e2", "0x10", "+5", "1_0", "NULL"]),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_lines_that_are_read_at_once_are_read_as_one_by_one(rows):
    """Where Arrow takes a line that is refused one by one, or another value for it."""
    texts = [",".join(row) + "\n" for row in rows]
    frame = pl.DataFrame({"line": range(2, 2 + len(rows)), "text": texts})
    header, zone = "timestamp,price,size", "America/New_York"
    slow = lines._parse_any(frame, header, TICK, zone).sort("line")
    fast = lines._parse_clean(frame, header, TICK, zone)
    assert (fast is None) or fast.drop("text").equals(slow.select(fast.columns).drop("text"))
    if slow.columns.count("reason") and slow["reason"].is_not_null().any():
        assert fast is None


def test_decimal_commas_other_orders_and_a_new_column_are_read_and_silver_gets_the_column(lake):
    lake.land("power/a.txt", readings(1, [0], 1.5).replace(".", ","))
    lake.run([POWER])
    first = lake.table("power.silver").current_snapshot().snapshot_id
    files = tables.files_of(lake.table("power.silver"), first)
    names = HEADER.replace("Voltage;Global_intensity", "Global_intensity;Voltage")
    text = readings(2, [0], 2.5, header=f"{names};Outdoor_temperature;Mood", more=";-3.5;good")
    lake.land("power/b.txt", text.replace("240.1;4.2", "4.2;240.1"))
    lake.run([POWER])
    rows = lake.rows("power.silver").sort("ts")
    shown = rows.select("power_kw", "voltage_v", "current_a", "outdoor_temperature_c").rows()
    assert shown == [(1.5, 240.1, 4.2, None), (2.5, 240.1, 4.2, -3.5)]
    table = lake.table("power.silver")
    assert files.items() <= tables.files_of(table, tables.head(table)).items(), "written again"
    assert "outdoor_temperature_c" not in lake.rows("power.silver", at=first).columns


def test_wider_and_renamed_columns_are_read_in_files_that_stay(tmp_path):
    lake = Lake(tmp_path)
    table = tables.open_table(lake.catalog, "x.y", {"n": IntegerType(), "x": FloatType()})
    with tables.draft(table) as branch:
        rows = pl.DataFrame({"n": [1], "x": [0.5]}, {"n": pl.Int32, "x": pl.Float32})
        tables.replace(table, branch, rows)
    files = tables.files_of(table, tables.head(table))
    tables.open_table(lake.catalog, "x.y", {"n": silver.LongType(), "x": silver.DoubleType()})
    with lake.table("x.y").update_schema() as update:
        update.rename_column("n", "number")
    found = lake.rows("x.y")
    assert found.to_dicts() == [{"number": 1, "x": 0.5}]
    assert found.schema == {"number": pl.Int64, "x": pl.Float64}
    assert tables.files_of(lake.table("x.y"), tables.head(table)) == files


def test_newer_file_of_a_name_replaces_the_older_with_all_its_rows(lake):
    lake.land("power/a.txt", readings(1, range(5), 1.5))
    lake.land("power/b.txt", readings(1, range(3), 0.5), hour=-1)
    lake.run([POWER])
    assert lake.rows("power.silver")["corrections"].sum() == 3
    lake.land("power/a.txt", readings(1, [1], 2.5), hour=1)
    told = lake.run([POWER])
    values = lake.rows("power.silver").sort("ts")["power_kw"].to_list()
    assert values == [0.5, 2.5, 0.5] and told["power lines"]["replaced"] == 5


def test_content_holds_while_it_is_the_newest_of_a_name_and_is_as_old_as_its_first():
    landed = [("a", "X", 0, 9), ("copy of a", "X", 5, 9), ("a", "Y", 3, 9)]
    landed += [("b", "Z", 4, 9), ("b", "Y", 9, 9)]
    landed += [("c", "V", 7, 9), ("c", "W", 8, 9), ("c", "V", 9, 9)]  # put back
    landed += [("d", "T", 6, 8), ("d", "S", 6, 9)]  # within a tick of the clock
    landed += [("e", "R", 9, 7), ("e", "Q", 8, 8), ("e", "R", 9, 9), ("e", "P", 1, 10)]  # older
    names = ["file", "digest", "written", "arrived"]
    found = silver.versions(pl.DataFrame(landed, names, orient="row"))
    held, replaced = found.filter("active"), found.filter(~pl.col("active"))
    assert dict(held["digest", "version"].iter_rows()) == {"X": 0, "Y": 3, "S": 6, "V": 7, "P": 1}
    assert replaced["digest"].to_list() == ["Z", "T", "Q", "W", "R"]


@pytest.mark.parametrize("hours", [(0, 1, 0), (2, 1, 0)])
def test_file_that_is_put_back_holds_again_whatever_time_it_keeps(lake, hours):
    for hour, kw in zip(hours, (1.0, 2.0, 1.0), strict=True):
        lake.land("power/a.txt", readings(1, HOUR, kw), hour)
        lake.run([POWER])
        assert set(lake.rows("power.silver")["power_kw"]) == {kw}
        before = tables.head(lake.table("power.bronze"))
        bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
        assert tables.head(lake.table("power.bronze")) == before, "nothing is new"


def test_files_that_are_renamed_in_turn_hold_under_their_new_names(lake):
    for last in range(1, 4):
        for day in range(1, last + 1):
            lake.land(f"power/today.{last - day}", readings(day, [0], day), hour=day)
        told = lake.run([POWER])
        assert sorted(lake.rows("power.silver")["power_kw"]) == [*range(1, last + 1)]
    assert told["power lines"]["replaced"] == 0


def test_equal_trades_of_a_file_stay_and_those_of_another_file_are_repeats(lake):
    text = trades(7, [10.0, 10.0, 10.5]).splitlines()
    lake.land("tick/A/1.csv", "\n".join([*text, text[1]]))
    lake.land("tick/A/2.csv", "\n".join([text[0], text[1], text[1], text[1]]))
    lake.land("tick/B/1.csv", "\n".join(text))
    told = lake.run([TICK])["tick lines"]
    assert (told["rows"], told["repeats"]) == (8, 2)
    counts = lake.rows("tick.silver").group_by("symbol").len()
    assert dict(counts.iter_rows()) == {"A": 5, "B": 3}


def test_file_that_lands_under_two_symbols_is_of_each_and_one_of_none_is_refused(lake):
    for symbol in "AB":
        lake.land(f"tick/{symbol}/1.csv", trades(7, [10.0, 11.0]))
    assert lake.run([TICK])["tick lines"]["rows"] == 4
    assert set(lake.rows("tick.silver")["symbol"]) == {"A", "B"}
    lake.land("tick/A.csv", trades(7, [10.0]))
    with pytest.raises(ValueError, match=r"tick/A\.csv says no symbol: move it to tick/<symbol>/A"):
        lake.run([TICK])


def test_lake_whose_zone_was_wrong_is_as_if_it_had_been_right_at_once(tmp_path, monkeypatch):
    late, early = Lake(tmp_path / "late"), Lake(tmp_path / "early")
    for lake in (late, early):
        lake.land("power/a.txt", readings(1, range(3), 1.0) + "x\n")
    late.run([POWER])
    monkeypatch.setitem(ZONES, "power", "America/New_York")
    late.land("power/b.txt", readings(2, range(3), 1.0))
    early.land("power/b.txt", readings(2, range(3), 1.0))
    assert [lake.run([POWER])["power"]["files"] for lake in (late, early)] == [2, 2]
    assert late.content([POWER]) == early.content([POWER])
    assert late.run([POWER])["power"]["files"] == 0


def test_times_that_the_clock_does_not_have_or_has_twice_are_refused(lake):
    times = ("2013-03-10 02:30:00.0", "2013-11-03 01:30:00.0", "2013-11-03 02:30:00.0")
    lines = "\n".join(f"{time},10,100" for time in times)
    lake.land("tick/A/1.csv", f"timestamp,price,size\n{lines}\n")
    assert lake.run([TICK])["tick lines"]["refused"] == 2
    (found,) = lake.rows("tick.silver")["ts"]
    assert found.isoformat() == "2013-11-03T07:30:00+00:00"


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("Europe/Paris", 1),
        ("Europe/Dublin", 0),
        ("America/New_York", -5),
        ("Australia/Sydney", 10),
        ("Etc/GMT-2", 2),
    ],
)
def test_meter_keeps_the_winter_time_of_its_zone(zone, hours):
    assert standard_offset(zone) == timedelta(hours=hours)


def test_gold_is_what_the_readings_and_trades_say(lake):
    lake.land("power/a.txt", readings(1, [*range(600, 645), *range(660, 704)], 1.5))
    lake.land("power/b.txt", readings(2, range(0, 120), 3.0))
    lake.land("tick/A/1.csv", trades(7, [10.0] * 50 + [11.0, 13.0, 12.0]))
    lake.run()
    hourly = lake.rows("power.hourly").sort("ts")
    assert hourly["power_kw"].to_list() == [1.5, None, 3.0, 3.0]
    assert hourly["sub_metering_3_wh"][0] == pytest.approx(17 * 60)
    assert hourly["readings"].to_list() == [45, 44, 60, 60]
    daily = lake.rows("power.daily").sort("day")
    assert daily["peak_hour"].to_list() == [10, 0] and daily["energy_kwh"].to_list() == [1.5, 6.0]
    bars = lake.rows("tick.bars_5s").sort("ts")
    assert bars["close"].to_list() == [10.0, 12.0] and bars["high"].to_list() == [10.0, 13.0]
    assert bars["ts"][0].isoformat() == "2013-10-07T13:30:05+00:00"
    (day,) = lake.rows("tick.daily").to_dicts()
    assert (day["open"], day["high"], day["close"], day["count"]) == (10.0, 13.0, 12.0, 53)


def test_hours_of_a_day_are_the_same_whatever_days_they_are_made_with():
    """Of a house that is read each minute, from the second day on every ten, at last once."""
    ts = [datetime(2007, 1, 1, tzinfo=UTC) + timedelta(minutes=m) for m in range(120)]
    ts += [datetime(2007, 1, 2, tzinfo=UTC) + timedelta(minutes=10 * k) for k in range(12)]
    ts += [datetime(2007, 1, 3, tzinfo=UTC)]
    values = dict.fromkeys((*gold.MEANS, *gold.SUMS), pl.lit(2.0))
    rows = pl.DataFrame({"ts": ts}).with_columns(pl.col("ts").dt.date().alias("day"), **values)
    together = gold.hours(rows, "UTC")
    alone = [gold.hours(day, "UTC") for day in rows.partition_by("day")]
    assert together.equals(pl.concat(alone))
    assert together["power_kw"].to_list() == [2.0] * 4 + [None], "one reading is of no step"
    assert together["sub_metering_1_wh"].to_list() == [120, 120, 12, 12, None]
    assert gold.hours(rows.clear(), "UTC").equals(together.clear()), "and none of no readings"


def test_late_day_makes_that_day_and_no_other(lake):
    for day in range(1, 6):
        lake.land(f"power/{day}.txt", readings(day, HOUR, day))
    lake.run([POWER])
    table = lake.table("power.silver")
    before = tables.files_of(table, tables.head(table))
    lake.land("power/late.txt", readings(3, [700], 9.5), hour=9)
    told = lake.run([POWER])
    assert {told[name]["days"] for name in ("power", "power.hourly", "power.daily")} == {1}
    table.refresh()
    after = tables.files_of(table, tables.head(table))
    assert len(before.keys() & after.keys()) == 4, "files of other days were written again"
    where = tables.days_in("day", [silver.date(2007, 1, 3)])
    assert len(list(table.scan(where).plan_files())) == 1 and len(after) == 5


def test_new_day_is_read_alone_and_known_files_are_not_read_again(lake, monkeypatch):
    for day in range(1, 4):
        lake.land(f"power/{day}.txt", readings(day, HOUR, day))
    lake.run([POWER])
    known = [lake.table(name) for name in ("power.bronze", "power.silver")]
    before = {path for table in known for path in tables.files_of(table, tables.head(table))}
    lake.land("power/4.txt", readings(4, HOUR, 4))
    digested, opened = [], set()
    digest, new_input = landing.Landed.digest, PyArrowFileIO.new_input
    monkeypatch.setattr(
        landing.Landed, "digest", lambda one: digested.append(one.name) or digest(one)
    )
    monkeypatch.setattr(
        PyArrowFileIO, "new_input", lambda io, place: opened.add(place) or new_input(io, place)
    )
    bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
    assert silver.update(lake.catalog, POWER, "Europe/Paris")["days"] == 1
    assert digested == ["4.txt"]
    (one,) = opened & before
    assert len(pl.read_parquet(one.removeprefix("file://"))) == 3, "only that three files landed"


def test_file_that_is_written_again_within_a_tick_of_the_clock_is_noticed(lake):
    now = (datetime.now(UTC) - BEGIN).total_seconds() / 3600
    lake.land("power/a.txt", readings(1, HOUR, 1.0), hour=now)
    lake.run([POWER])
    lake.land("power/a.txt", readings(1, HOUR, 2.0), hour=now)
    assert lake.run([POWER])["power"]["lines"] == 61


LANDINGS = [
    ("power/a.txt", readings(1, range(4), 1.0)),
    ("power/b.txt", readings(1, range(2, 6), 2.0)),
    ("power/c.txt", readings(1, [3], 7.0) + readings(2, [3], 7.0) + "x\n"),
    ("power/b again.txt", readings(1, range(2, 6), 2.0)),
    ("power/b.txt", readings(1, [5], 4.0)),
    ("power/a.txt", readings(1, [0], 5.0)),
    ("power/c.txt", readings(1, [4], 6.0)),
    ("power/c.txt", readings(1, [3], 7.0) + readings(2, [3], 7.0) + "x\n"),
]


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(*(st.integers(0, 3) for _ in range(4))),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[:2],
    ),
    order=st.randoms(use_true_random=False),
)
def test_which_row_holds_does_not_depend_on_the_order_of_lines(rows, order):
    """Of rows (file, line, minute, kW): the file written last, and there the last line."""
    ts = datetime(2007, 1, 1, tzinfo=UTC)
    made = {}
    for shuffled in (sorted(rows), order.sample(rows, len(rows))):
        frame = pl.DataFrame(
            {
                "digest": [f"{file}" for file, *_ in shuffled],
                "line": [line for _, line, *_ in shuffled],
                "ts": [ts + timedelta(minutes=minute) for *_, minute, _ in shuffled],
                "power_kw": [float(kw) for *_, kw in shuffled],
                "day": [ts.date()] * len(rows),
            }
        )
        state = pl.DataFrame({"digest": ["2", "0", "3", "1"]})
        found = silver.once_each(frame, state, POWER)
        assert found["lines"].sum() == len(rows)
        made = made or found.to_dicts()
        assert found.to_dicts() == made
    place = ("2", "0", "3", "1").index
    for one in made:
        same = [row for row in rows if ts + timedelta(minutes=row[2]) == one["ts"]]
        last = max((place(f"{file}"), line) for file, line, *_ in same)
        assert (place(one["digest"]), one["line"]) == last
        assert one["corrections"] == len({row[3] for row in same}) - 1


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """What is in the tables after one run, of files that came as they were written."""
    lake = Lake(tmp_path_factory.mktemp("at_once"))
    for hour, (name, text) in enumerate(LANDINGS):
        lake.land(name, text, hour)
        bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
    lake.run([POWER])
    return lake.content([POWER])


@settings(
    max_examples=3,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=st.permutations(range(len(LANDINGS))), cuts=st.integers(0, 255))
def test_any_order_and_repetition_of_files_gives_the_same(tmp_path, at_once, order, cuts):
    """In any number of runs; what lands under one name does so in its order."""
    shutil.rmtree(tmp_path / "lake", ignore_errors=True)
    lake = Lake(tmp_path / "lake")
    names = [name for name, _ in LANDINGS]
    left = {name: [k for k, other in enumerate(names) if other == name] for name in names}
    for k, place in enumerate(order):
        hour = left[names[place]].pop(0)
        lake.land(*LANDINGS[hour], hour)
        bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
        if cuts & (1 << k):
            silver.update(lake.catalog, POWER, "Europe/Paris")
    lake.run([POWER])
    assert lake.content([POWER]) == at_once


def test_correction_is_as_if_it_had_been_there_at_once(tmp_path):
    late, early = Lake(tmp_path / "late"), Lake(tmp_path / "early")
    late.land("power/a.txt", readings(1, range(9), 1.0))
    late.land("tick/A/7.csv", trades(7, [10.0, 11.0]))
    late.run()
    for lake in (late, early):
        lake.land("power/a.txt", readings(1, range(8), 2.0), hour=1)
        lake.land("tick/A/7.csv", trades(7, [10.0, 12.0, 12.0]), hour=1)
        lake.run()
    assert late.content() == early.content()


class Killed(BaseException):
    """Ends a run where it stands."""


def test_run_that_is_killed_between_any_two_commits_is_made_good_by_the_next(tmp_path, monkeypatch):
    def landed(name):
        lake = Lake(tmp_path / name)
        lake.land("power/a.txt", readings(1, range(3), 1.0) + "x\n")
        lake.land("power/b.txt", readings(2, range(3), 2.0))
        return lake

    whole = landed("whole")
    whole.run([POWER])
    expected = whole.content([POWER])
    commit = SqlCatalog.commit_table
    for last in range(100):
        lake, left = landed(f"killed_{last}"), [last]

        def dying(self, *arguments, left=left):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return commit(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(SqlCatalog, "commit_table", dying)
            try:
                lake.run([POWER])
                break
            except Killed:
                pass
        lake.run([POWER])
        assert lake.content([POWER]) == expected, f"killed at commit {last}"
    assert last > 10


@pytest.mark.kernel
def test_process_that_is_killed_leaves_main_as_it_was_and_the_next_goes_on(tmp_path):
    lake = Lake(tmp_path / "lake")
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    lake.run([POWER])
    before = lake.content([POWER])
    lake.land("power/b.txt", readings(2, HOUR, 2.0))
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from lake_files import POWER, Lake\nfrom lib.lakehouse import tables\n"
        "real = tables.replace\n"
        "def dying(table, branch, rows, *more):\n"
        "    real(table, branch, rows, *more)\n"
        "    if table.name()[-1] == 'silver': os.kill(os.getpid(), signal.SIGKILL)\n"
        "tables.replace = dying\n"
        "Lake(Path(sys.argv[1])).run([POWER])\n"
    )
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(lake.folder)], env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == -signal.SIGKILL
    (draft,) = [name for name in lake.table("power.silver").refs() if name != "main"]
    assert len(lake.rows("power.silver", at=draft)) == 120
    assert lake.content([POWER]) == before
    lake.run([POWER])
    assert len(lake.rows("power.silver")) == 120 and len(lake.rows("power.hourly")) == 2


def test_failed_check_leaves_main_as_it_was_and_a_branch_to_look_at(lake):
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    lake.run([POWER])
    before = lake.content([POWER])
    lake.land("power/b.txt", readings(2, range(3), 1.0) + "x\n" * 9)
    with pytest.raises(silver.TooManyRefused, match=r"9 of 13 new lines .*branch draft-"):
        lake.run([POWER], max_refused=0.5)
    assert lake.content([POWER]) == before
    (draft,) = [name for name in lake.table("power.quarantine").refs() if name != "main"]
    assert len(lake.rows("power.quarantine", at=draft)) == 9
    lake.run([POWER], max_refused=0.9)
    assert len(lake.rows("power.silver")) == 63


def test_row_that_is_lost_on_the_way_is_noticed_before_readers_see_it(lake, monkeypatch):
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    lake.run([POWER])
    lake.land("power/b.txt", readings(2, HOUR, 1.0))
    real = tables.replace

    def losing(table, branch, rows, *more):
        real(table, branch, rows.head(30) if table.name()[-1] == "silver" else rows, *more)

    monkeypatch.setattr(tables, "replace", losing)
    with pytest.raises(RuntimeError, match="stand for 90 lines, and the files that hold have 120"):
        lake.run([POWER])
    assert len(lake.rows("power.silver")) == 60


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_two_writers_one_is_told_and_nothing_is_twice(lake, when):
    """Whether the winner publishes before the other has written its draft, or after that."""
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    table = bronze.open_bronze(lake.catalog, POWER)
    rows = pl.DataFrame({"line": [7]})

    def other():
        bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))

    with pytest.raises(tables.Overtaken, match="another writer has .*draft-"):
        with tables.draft(table) as branch:
            steps = [other, lambda: tables.replace(table, branch, rows)]
            for step in steps if when == "before" else steps[::-1]:
                step()
    assert lake.run([POWER])["power lines"]["lines"] == 61


@pytest.mark.parametrize("place", [(landing.Landed, "digest"), (silver, "_check_new")])
def test_writer_whose_rows_rest_on_what_another_has_changed_since_is_told(lake, monkeypatch, place):
    """Though main does not move while it writes: of files taken in twice trades would be double."""
    real = getattr(*place)

    def other_comes_first(*given):
        monkeypatch.setattr(*place, real)
        lake.land("tick/A/2.csv", trades(7, [12.0]), hour=1)
        lake.run([TICK])
        return real(*given)

    lake.land("tick/A/1.csv", trades(7, [10.0, 11.0]))
    monkeypatch.setattr(*place, other_comes_first)
    with pytest.raises(tables.Overtaken, match="another writer has moved main from"):
        lake.run([TICK])
    told = lake.run([TICK])["tick lines"]
    assert (told["lines"], told["rows"]) == (5, 3)


def test_gold_without_its_source_s_old_snapshot_is_made_whole_again(lake):
    lake.land("power/a.txt", readings(1, HOUR, 1.0))
    lake.run([POWER])
    lake.land("power/b.txt", readings(2, HOUR, 1.0))
    bronze.take_in(lake.catalog, POWER, landing.landed(str(lake.zone), POWER))
    silver.update(lake.catalog, POWER, "Europe/Paris")
    table = lake.table("power.silver")
    with table.maintenance.expire_snapshots() as expire:
        head = tables.head(table)
        expire.by_ids([s.snapshot_id for s in table.snapshots() if s.snapshot_id != head])
    assert gold.update(lake.catalog, gold.TABLES[0], "Europe/Paris")["days"] == 2


def test_silver_goes_back_with_bronze(lake):
    lake.land("power/a.txt", readings(1, HOUR, 1.0) + "x\n")
    lake.run([POWER])
    before, at = lake.content([POWER]), tables.head(lake.table("power.bronze"))
    lake.land("power/b.txt", readings(1, range(650, 670), 2.0) + "y\n", hour=1)
    lake.run([POWER])
    assert lake.content([POWER]) != before
    lake.table("power.bronze").manage_snapshots().rollback_to_snapshot(at).commit()
    lake.run([POWER])
    after = lake.content([POWER])
    assert after["power.silver"] != before["power.silver"], "it has landed again"
    shutil.rmtree(lake.zone)
    lake.table("power.bronze").manage_snapshots().rollback_to_snapshot(at).commit()
    lake.run([POWER])
    assert lake.content([POWER]) == before


@given(
    sizes=st.lists(st.integers(0, 9), max_size=9), most=st.integers(1, 12), n_most=st.integers(0, 3)
)
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_portions_are_all_items_in_order_and_as_large_as_may_be(sizes, most, n_most):
    found = list(tables.portions(enumerate(sizes), most, n_most))
    assert [k for part in found for k in part] == list(range(len(sizes)))
    for part in found:
        assert len(part) == 1 or sum(sizes[k] for k in part) <= most
        assert not n_most or len(part) <= n_most
    for part, (first, *_) in pairwise(found):
        assert len(part) == n_most or sum(sizes[k] for k in [*part, first]) > most
