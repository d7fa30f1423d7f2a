"""Upkeep of the lake: what goes, and what stays because something holds it."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from lib.lakehouse import gold, silver, tables, upkeep
from lib.lakehouse.feeds import POWER

import polars as pl
import pytest
from lake_files import HOUR, Lake, readings
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.types import DateType, IntegerType

pytestmark = pytest.mark.slow
OLD = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def made(lake, *, by=""):
    """A table of two days, written in five goes each."""
    table = tables.open_table(lake.catalog, "x.y", {"day": DateType(), "n": IntegerType()}, by=by)
    for k in range(10):
        with tables.draft(table) as branch:
            rows = pl.DataFrame({"day": [date(2026, 1, 1 + k % 2)], "n": [k]})
            tables.replace(table, branch, rows)
    return table


def files_of(table):
    return set(Path(table.location().removeprefix("file://")).rglob("*.*"))


def aged(table):
    """Make all files of a table as old as if they had been written days ago."""
    for file in files_of(table):
        os.utime(file, (OLD.timestamp(), OLD.timestamp()))


@pytest.mark.parametrize("by", ["day", ""])
def test_small_files_are_put_together_and_what_a_tag_or_branch_names_stays(lake, by):
    table = made(lake, by=by)
    rows = lake.rows("x.y").sort("n")
    then = tables.ancestors_of(table.current_snapshot(), table.metadata)
    tagged = list(then)[5].snapshot_id
    tables.tag(table, tagged, "model-7")
    at_tag = lake.rows("x.y", at=tagged).sort("n")
    aged(table)
    there = files_of(table)
    told = upkeep.tidy(lake.catalog, days=0).loc["x.y"]
    assert files_of(table) == there, "it was only to be told"
    assert told["files"] == 10 and told["put_together"] == 10 and told["orphans"] == 0
    upkeep.tidy(lake.catalog, days=0, apply=True)
    aged(table)
    told = upkeep.tidy(lake.catalog, days=0, apply=True).loc["x.y"]
    assert told["files_after"] == (2 if by else 1)
    assert told["orphans"] > 0 and len(files_of(table)) < len(there)
    assert lake.rows("x.y").sort("n").equals(rows)
    assert lake.rows("x.y", at=tagged).sort("n").equals(at_tag) and len(at_tag) == 5


def test_files_are_put_together_some_at_a_time_and_only_small_ones_are_read(lake, monkeypatch):
    table = made(lake)
    with tables.draft(table) as branch:
        rows = pl.DataFrame({"day": [date(2026, 1, 3)] * 5, "n": range(5)})
        tables.replace(table, branch, rows)
    (large,) = [one for one in table.scan().plan_files() if one.file.record_count == 5]
    before = lake.rows("x.y").sort("day", "n")
    opened, held = [], []
    new_input, write = PyArrowFileIO.new_input, tables._write_parts
    monkeypatch.setattr(
        PyArrowFileIO, "new_input", lambda io, place: opened.append(place) or new_input(io, place)
    )
    monkeypatch.setattr(
        tables, "_write_parts", lambda table, rows: held.append(len(rows)) or write(table, rows)
    )
    monkeypatch.setattr(upkeep, "MOST_ROWS", 4)
    assert upkeep.tidy(lake.catalog, days=0)["put_together"].to_list() == [10]
    assert not [place for place in opened if place.endswith(".parquet")], "it was only to be told"
    told = upkeep.tidy(lake.catalog, days=0, apply=True).loc["x.y"]
    assert held == [4, 4, 2] and large.file.file_path not in opened
    assert told["files_after"] == 4 and lake.rows("x.y").sort("day", "n").equals(before)


def test_young_snapshots_drafts_and_files_stay(lake):
    table = made(lake)
    with pytest.raises(ZeroDivisionError), tables.draft(table) as branch:
        table.append(table.schema().as_arrow().empty_table(), branch=branch)
        raise ZeroDivisionError
    n_snapshots, there = len(table.snapshots()), files_of(table)
    stray = Path(table.location().removeprefix("file://"), "data/stray.parquet")
    stray.write_bytes(b"")
    told = upkeep.tidy(lake.catalog, days=1, apply=True).loc["x.y"]
    assert (told["drafts"], told["expired"], told["orphans"]) == (0, 0, 0)
    table.refresh()
    assert branch in table.refs() and len(table.snapshots()) >= n_snapshots
    assert there <= files_of(table) | {p for p in there if p.suffix == ".json"} and stray.exists()
    os.utime(stray, (OLD.timestamp(), OLD.timestamp()))
    told = upkeep.tidy(lake.catalog, days=0, apply=True).loc["x.y"]
    table.refresh()
    assert told["drafts"] == 1 and branch not in table.refs() and not stray.exists()


def test_draft_that_has_just_begun_stays_though_nothing_has_landed_for_long(lake):
    made(lake, by="day")
    upkeep.tidy(lake.catalog, days=0, apply=True)
    table = lake.table("x.y")
    with tables.draft(table) as branch:
        upkeep.tidy(lake.catalog, days=0, apply=True)
        tables.replace(table, branch, pl.DataFrame({"day": [date(2026, 1, 3)], "n": [10]}))
    assert len(lake.rows("x.y")) == 11


def test_run_after_upkeep_does_nothing_anew_and_one_with_news_only_those(lake):
    for day in range(1, 4):
        lake.land(f"power/{day}.txt", readings(day, HOUR, day))
        lake.run([POWER])
    before = lake.content([POWER])
    lines = silver.totals(lake.catalog, POWER)
    upkeep.tidy(lake.catalog, days=0, apply=True)
    told = lake.run([POWER])
    assert told["power"]["files"] == 0 and told["power.hourly"]["days"] == 0
    assert lake.content([POWER]) == before and told["power lines"] == lines
    lake.land("power/late.txt", readings(2, [700], 9.5), hour=9)
    told = lake.run([POWER])
    assert {told[one.name]["days"] for one in gold.TABLES[:2]} == {1}
