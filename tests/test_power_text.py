"""Text of power readings: what is read, and which line of a damaged file is named."""

import gzip
import re
import zipfile
from pathlib import Path

from lib.frames import gap_report, grid_step
from lib.power.columns import COLUMNS
from lib.power.load import load_power
from lib.power.sample import sample_power

import numpy as np
import pandas as pd
import pytest
from power_data import HEADER, HERE, minutes, uci, write_uci_text


@pytest.fixture
def put(tmp_path):
    """Write bytes below a temporary folder and return the path as a string."""

    def write(data, name="power.txt"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


# UCI text


def test_columns_get_canonical_names_and_times_are_naive_microseconds(put):
    frame = load_power(put(uci("16/12/2006;17:24:00", "16/12/2006;17:25:00")))
    assert list(frame.columns) == list(COLUMNS)
    assert frame.index.name == "ts" and frame.index.dtype == "datetime64[us]"
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert frame.iloc[0].tolist() == [1.0, 0.1, 240.0, 4.2, 0.0, 1.0, 17.0]


def test_date_is_read_day_first(put):
    frame = load_power(put(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")))
    assert frame.index[0] == pd.Timestamp(2007, 2, 1)


def test_midnight_begins_the_new_day(put):
    frame = load_power(put(uci("31/12/2006;23:59:00", "1/1/2007;00:00:00", "1/1/2007;00:01:00")))
    assert frame.index[1] == pd.Timestamp(2007, 1, 1)
    assert grid_step(frame) == pd.Timedelta("1min")


def test_24_oclock_is_an_error_naming_line_and_column(put):
    with pytest.raises(ValueError, match=r"line 3, column Time: '24:00:00' is not a time of day"):
        load_power(put(uci("31/12/2006;23:59:00", "31/12/2006;24:00:00")))


def test_question_marks_and_nothing_become_nan(put):
    rows = uci("1/2/2007;00:00:00") + b"1/2/2007;00:01:00;?;?;?;?;?;?;\n"
    frame = load_power(put(rows))
    assert frame.iloc[1].isna().all() and frame.iloc[0].notna().all()


def test_one_missing_column_leaves_the_others_of_its_row(put):
    frame = load_power(put(uci("1/2/2007;00:00:00") + b"1/2/2007;00:01:00;?;0.1;240;4.2;0;1;17\n"))
    assert np.isnan(frame["power_kw"].iloc[1]) and frame["voltage_v"].iloc[1] == 240


def test_names_match_in_any_case_and_other_columns_are_left_out(put):
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00").decode().splitlines()
    text = [text[0].upper() + ";Note", *(line + ";seen" for line in text[1:])]
    assert load_power(put("\n".join([*text, ""]).encode())).shape == (2, 7)


@pytest.mark.parametrize("change", ["crlf", "bom", "quotes", "blank_end"])
def test_harmless_differences_between_files_change_nothing(put, change):
    plain = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    other = {
        "crlf": plain.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + plain,
        "quotes": re.sub(rb"1/2/2007", rb'"1/2/2007"', plain),
        "blank_end": plain + b"\r\n\n",
    }[change]
    pd.testing.assert_frame_equal(load_power(put(other)), load_power(put(plain, "plain.txt")))


@pytest.mark.slow
def test_blocks_read_apart_give_what_was_written(put):
    path = put(b"")
    frame = sample_power(20, seed=5)
    write_uci_text(frame, path)
    pd.testing.assert_frame_equal(load_power(path), frame)


@pytest.mark.slow
def test_a_bad_line_in_a_later_block_is_named_by_its_line(put):
    path = Path(put(b""))
    write_uci_text(sample_power(20), path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[25000] = lines[25000].replace(b";", b";x", 3)
    path.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match="line 25001, column Time"):
        load_power(str(path))


# Damaged files


def test_empty_file_says_so(put):
    with pytest.raises(ValueError, match="is empty"):
        load_power(put(b""))


def test_header_alone_says_so(put):
    with pytest.raises(ValueError, match="has a header and no rows"):
        load_power(put(HEADER.encode()))


def test_text_cut_in_the_middle_of_a_line_is_refused_wherever_it_is_cut(put):
    whole = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:02:00")
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last + 1, len(whole)):
        with pytest.raises(ValueError, match=r"no line break, so the file may be cut short"):
            load_power(put(whole[:end]))
    assert len(load_power(put(whole))) == 3


def test_line_with_too_few_fields_is_named(put):
    rows = uci("1/2/2007;00:00:00") + b"1/2/2007;00:01:00;1.0\n" + uci("1/2/2007;00:02:00")[125:]
    with pytest.raises(ValueError, match=r"line 3: 9 fields .* and there are 3: '1/2/2007;"):
        load_power(put(rows))


def test_empty_line_between_rows_is_named(put):
    lines = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00").splitlines(keepends=True)
    with pytest.raises(ValueError, match="line 3, column Date: '' is not a date"):
        load_power(put(b"".join([*lines[:2], b"\n", *lines[2:]])))


def test_gzip_cut_short_is_refused(put):
    packed = gzip.compress(uci(*(f"1/2/2007;00:{m:02}:00" for m in range(60))))
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put(packed[:-20], "power.txt.gz"))


@pytest.mark.slow
def test_zip_cut_short_is_refused(put, tmp_path):
    write_uci_text(sample_power(2), tmp_path / "whole.zip")
    packed = (tmp_path / "whole.zip").read_bytes()
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put(packed[:-100], "power.zip"))


def test_zip_with_a_flipped_byte_is_refused_by_its_check_sum(put, tmp_path):
    write_uci_text(sample_power(2), tmp_path / "whole.zip")
    packed = bytearray((tmp_path / "whole.zip").read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put(bytes(packed), "power.zip"))


def test_zip_with_two_texts_names_both(put, tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.txt", "x")
        archive.writestr("b.txt", "x")
    with pytest.raises(ValueError, match=r"two.zip holds 2 files \(a.txt, b.txt\), one was"):
        load_power(str(tmp_path / "two.zip"))


def test_parquet_cut_short_is_refused(put, tmp_path):
    minutes(100).to_parquet(tmp_path / "whole.parquet")
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put((tmp_path / "whole.parquet").read_bytes()[:-50], "cut.parquet"))


# What a file must hold


def test_missing_column_is_named_with_what_was_found(put):
    text = uci("1/2/2007;00:00:00").replace(b"Voltage", b"Volts")
    with pytest.raises(
        ValueError, match=r"no column Voltage \(voltage_v\); found .*'Volts'.*voltage_v="
    ):
        load_power(put(text))


def test_missing_time_columns_are_named_with_what_was_found(put):
    with pytest.raises(ValueError, match=r"needs the columns Date and Time .* found 'Day', 'Hour'"):
        load_power(put(uci("1/2/2007;00:00:00").replace(b"Date;Time", b"Day;Hour")))


def test_decimal_commas_are_named_by_line_and_column(put):
    text = uci("1/2/2007;00:00:00").replace(b"240.000", b"240,000")
    with pytest.raises(ValueError, match=r"line 2, column Voltage: '240,000' is not a number"):
        load_power(put(text))


def test_month_first_date_is_named(put):
    with pytest.raises(ValueError, match=r"line 3, column Date: '2/13/2007' is not a date"):
        load_power(put(uci("1/2/2007;00:00:00", "2/13/2007;00:01:00")))


def test_a_column_given_twice_is_named(put):
    text = uci("1/2/2007;00:00:00").replace(b"Voltage", b"power_kw")
    with pytest.raises(ValueError, match=r"no column Voltage"):
        load_power(put(text))
    with pytest.raises(ValueError, match="power_kw more than once: 'Global_active_power', 'power"):
        load_power(
            put(
                text.replace(b"Sub_metering_3\n", b"Voltage\n")
                .replace(b"x", b"x")
                .replace(b"Sub_metering_2;Voltage", b"Sub_metering_2;Voltage;Sub_metering_3")
                .replace(b";17.000\n", b";17.000;1\n")
            )
        )


def test_duplicate_is_named_by_its_line(put):
    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:01:00")
    with pytest.raises(
        ValueError, match=r"line 4: 2007-02-01 00:01:00 follows 2007-02-01 00:01:00"
    ):
        load_power(put(rows))


def test_unsorted_row_is_named_by_its_line(put):
    rows = uci("1/2/2007;00:01:00", "1/2/2007;00:02:00", "1/2/2007;00:00:00")
    with pytest.raises(ValueError, match=r"line 4: 2007-02-01 00:00:00 follows 2007-02-01 00:02"):
        load_power(put(rows))


def test_power_in_watts_is_out_of_range_and_named(put):
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00").replace(b";1.000;0.100", b";1000;0.100", 1)
    with pytest.raises(
        ValueError,
        match=r"power_kw must be from 0 to 100, and is not: .*line 2: 2007.* has 1000",
    ):
        load_power(put(text))


def test_every_broken_rule_is_reported_at_once(put):
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", values="-1;0;2400;4;0;0;0")
    with pytest.raises(ValueError, match=r"(?s)power_kw must .*\(2 such rows\).*voltage_v must"):
        load_power(put(text))


def test_sub_meter_limit_grows_with_the_row(put):
    hours = "datetime," + ",".join(COLUMNS.values()) + "\n"
    hours += "".join(f"2007-02-01 {h:02}:00:00,1,0,240,4,0,0,1900\n" for h in range(3))
    assert load_power(put(hours.encode()))["sub_metering_3_wh"].iloc[0] == 1900
    with pytest.raises(ValueError, match="sub_metering_3_wh must be from 0 to 1666.67"):
        load_power(put(hours.replace(":00:00", ":00").replace(" 0", " 00:0").encode(), "min.csv"))


def test_row_off_the_grid_is_named(put):
    rows = uci(*(f"1/2/2007;00:0{m}:00" for m in range(5)), "1/2/2007;00:05:30")
    with pytest.raises(ValueError, match=r"line 7: 2007-02-01 00:05:30 is off the grid"):
        load_power(put(rows))


def test_wrong_year_is_refused_instead_of_making_a_gap_of_decades(put):
    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2070;00:02:00")
    with pytest.raises(ValueError, match=r"line 4: 2070-02-01 00:02:00 follows .* is a date wrong"):
        load_power(put(rows))


def test_csv_time_with_a_zone_is_refused_by_its_line(put):
    text = (HERE / "uci_hourly_2006-12.csv").read_text().replace("18:00:00", "18:00:00Z", 1)
    with pytest.raises(
        ValueError, match=r"line 3, column datetime: '2006-12-16 18:00:00Z' is not a time"
    ):
        load_power(put(text.encode(), "zone.csv"))


def test_three_absent_minutes_become_three_rows_of_nan_and_one_gap(put):
    frame = load_power(put(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:05:00")))
    assert len(frame) == 6
    assert gap_report(frame["power_kw"]).to_dict("records") == [
        {
            "start": pd.Timestamp("2007-02-01 00:02"),
            "end": pd.Timestamp("2007-02-01 00:04"),
            "n_rows": 3,
        }
    ]
