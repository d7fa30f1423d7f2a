"""Ticks that are damaged, out of order or no ticks are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tick_files import HEADER, TWO, at, refuses


def test_unsorted_file_names_line_and_both_times(put, tmp_path):
    for batch_rows in (1, 2, 100):
        path = put([at(0) + ",1,1", at(2) + ",1,1", at(1) + ",1,1"])
        message = refuses(tmp_path, path, "ticks.csv, line 4: ", batch_rows=batch_rows)
        assert "13:30:01+00:00 is before 2013-10-07 13:30:02+00:00" in message
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
    assert "3 outside; the session is 09:30-16:00 America/New_York" in message


@pytest.mark.slow
def test_gzip_that_is_cut_or_changed_is_refused(tmp_path, put):
    rng = np.random.default_rng(0)
    lines = [f"{at(k)},{100 + rng.random()},1" for k in range(20_000)]
    whole = Path(put(lines, "x.csv.gz")).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for data in (whole[: len(whole) // 2], whole[:-4], whole[:40], bytes(changed)):
        Path(tmp_path, "raw", "x.csv.gz").write_bytes(data)
        refuses(tmp_path, str(tmp_path / "raw"), r"x.csv.gz cannot be read.*: fetch it again")


@pytest.mark.slow
def test_error_after_whole_days_names_its_line(put, tmp_path):
    lines = [f"{at(k, day)},100,1" for day in (7, 8, 9) for k in range(50)] + ["2013-10-10,x,1"]
    refuses(tmp_path, put(lines), "line 152: price is 'x'; a number", batch_rows=10)


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
        ("2013-10-07T13:30:02Z,101,1", "line 4: the timestamp is .* others have a zone and this"),
        (f"{at(2)},101", "line 4: 3 fields .* were expected, and there are 2"),
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
    pl.DataFrame({"timestamp": [True], "price": [1.0], "size": [1.0]}).write_parquet(
        tmp_path / "x.parquet"
    )
    refuses(tmp_path, str(tmp_path / "x.parquet"), "the timestamps are of type bool")


def test_side_that_is_no_side_is_named(put, tmp_path):
    path = put([f"{TWO[0]},2"], header=f"{HEADER},side")
    refuses(tmp_path, path, r"line 2: side is '2'; 1 \(the buyer took\)")


def test_date_in_the_name_that_is_not_that_of_the_ticks_is_refused(put, tmp_path):
    refuses(tmp_path, put(TWO, "2013-10-05.csv"), "2013-10-05.csv has a tick of 2013-10-07")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_zone": "New York"}, "time_zone is 'New York': give the IANA name"),
        ({"session_zone": ""}, "session_zone is ''"),
        ({"session": "9-16"}, "session is '9-16': give HH:MM-HH:MM"),
        ({"session": "16:00-09:30"}, "within one day"),
        ({"session": "09:30-09:30"}, "within one day"),
        ({"session": "09:61-16:00"}, "within one day"),
        ({"session": "00:00-24:01"}, "within one day"),
        ({"as_of": "7.10.2013"}, "as_of is '7.10.2013': give a day as 2013-10-11"),
    ],
)
def test_option_out_of_its_range_is_named(put, tmp_path, options, message):
    refuses(tmp_path, put(TWO), message, **options)
