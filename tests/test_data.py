"""Power readings: every reader, check and aggregation against cases worked by hand."""

import gzip
import hashlib
import re
import sqlite3
import zipfile
from pathlib import Path

from lib.frames import frame_digest, gap_report, grid_step
from lib.power.load import (
    COLUMNS,
    UCI_ARCHIVE,
    aggregate_power,
    check_power,
    describe_power,
    fetch_uci,
    load_power,
)
from lib.power.sample import sample_power, write_uci_text
from lib.run import data_dir
from lib.sources import redact

import numpy as np
import pandas as pd
import pytest

HERE = Path(__file__).parent / "data"
REAL = data_dir() / "power"
HEADER = ";".join(["Date", "Time", *COLUMNS.values()]) + "\n"
VALUES = "1.000;0.100;240.000;4.200;0.000;1.000;17.000"


def uci(*rows, values=VALUES):
    """Rows of `date;time`, all with the same readings, as UCI's text."""
    return (HEADER + "".join(f"{row};{values}\n" for row in rows)).encode()


def minutes(n, start="2007-02-01", power=None):
    """A canonical frame of `n` minutes whose power counts 0, 1, 2 ... kW unless given."""
    index = pd.date_range(start, periods=n, freq="min", name="ts").as_unit("us")
    frame = pd.DataFrame(1.0, index=index, columns=list(COLUMNS))
    frame.index.freq = None
    return frame.assign(power_kw=np.arange(n, dtype=float) if power is None else power)


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


def test_pieces_read_apart_give_what_one_piece_gives(put, monkeypatch):
    path = put(b"")
    frame = sample_power(3, seed=5)
    write_uci_text(frame, path)
    monkeypatch.setattr("lib.power.load.PIECE", 10_000)
    pd.testing.assert_frame_equal(load_power(path), frame)


def test_a_bad_line_in_a_later_piece_is_named_by_its_line(put, monkeypatch):
    path = Path(put(b""))
    write_uci_text(sample_power(2), path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2000] = lines[2000].replace(b";", b";x", 3)
    path.write_bytes(b"".join(lines))
    monkeypatch.setattr("lib.power.load.PIECE", 10_000)
    with pytest.raises(ValueError, match="line 2001, column Time"):
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
    with pytest.raises(ValueError, match=r"line 3: '1/2/2007;00:01:00;1.0' has 3 fields .* has 9"):
        load_power(put(rows))


def test_empty_line_between_rows_is_named(put):
    lines = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00").splitlines(keepends=True)
    with pytest.raises(ValueError, match="line 3 is empty"):
        load_power(put(b"".join([*lines[:2], b"\n", *lines[2:]])))


def test_line_break_within_a_quoted_field_is_refused(put):
    lines = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:02:00").decode().split("\n")
    lines[0] += ";Note"
    lines[1:4] = [line + note for line, note in zip(lines[1:4], (';"a', ";", ";"), strict=True)]
    lines.insert(2, 'b"')
    with pytest.raises(ValueError, match="power.txt.* cannot be read as text|has 1 fields"):
        load_power(put("\n".join(lines).encode()))


def test_gzip_cut_short_is_refused(put):
    packed = gzip.compress(uci(*(f"1/2/2007;00:{m:02}:00" for m in range(60))))
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put(packed[:-20], "power.txt.gz"))


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
    with pytest.raises(ValueError, match=r"one .txt or .csv file and holds \['a.txt', 'b.txt'\]"):
        load_power(str(tmp_path / "two.zip"))


def test_suffix_that_lies_is_named(put):
    with pytest.raises(ValueError, match=r"is no gz file, by its first bytes"):
        load_power(put(uci("1/2/2007;00:00:00"), "power.gz"))


def test_parquet_cut_short_is_refused(put, tmp_path):
    minutes(100).to_parquet(tmp_path / "whole.parquet")
    with pytest.raises(ValueError, match="cut short or damaged"):
        load_power(put((tmp_path / "whole.parquet").read_bytes()[:-50], "cut.parquet"))


# What a file must hold


def test_missing_column_is_named_with_what_was_found(put):
    text = uci("1/2/2007;00:00:00").replace(b"Voltage", b"Volts")
    with pytest.raises(ValueError, match=r"no column Voltage \(voltage_v\); found .*'Volts'"):
        load_power(put(text))


def test_missing_time_columns_are_named_with_what_was_found(put):
    with pytest.raises(ValueError, match=r"needs the columns Date and Time .* found 'Day', 'Time'"):
        load_power(put(uci("1/2/2007;00:00:00").replace(b"Date", b"Day")))


def test_tabs_as_separators_are_named(put):
    with pytest.raises(ValueError, match=r"has no time.*separated by ','"):
        load_power(put(uci("1/2/2007;00:00:00").replace(b";", b"\t")))


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
    with pytest.raises(ValueError, match=r"1 row is not: .*line 4: 2007-02-01 00:01:00 repeats"):
        load_power(put(rows))


def test_unsorted_row_is_named_by_its_line(put):
    rows = uci("1/2/2007;00:01:00", "1/2/2007;00:02:00", "1/2/2007;00:00:00")
    with pytest.raises(ValueError, match=r"line 4: 2007-02-01 00:00:00 follows 2007-02-01 00:02"):
        load_power(put(rows))


def test_power_in_watts_is_out_of_range_and_named(put):
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00").replace(b";1.000;0.100", b";1000;0.100", 1)
    with pytest.raises(
        ValueError, match=r"power_kw must be from 0 to 100, 1 row is not: .*line 2: 2007.* has 1000"
    ):
        load_power(put(text))


def test_every_broken_rule_is_reported_at_once(put):
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", values="-1;0;2400;4;0;0;0")
    with pytest.raises(ValueError, match=r"(?s)power_kw must .* 2 rows are not.*voltage_v must"):
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


# Gaps


def test_three_absent_minutes_become_three_rows_of_nan_and_one_gap(put):
    frame = load_power(put(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:05:00")))
    assert len(frame) == 6
    assert gap_report(frame).to_dict("records") == [
        {
            "start": pd.Timestamp("2007-02-01 00:02"),
            "end": pd.Timestamp("2007-02-01 00:04"),
            "n_rows": 3,
        }
    ]


def test_gap_report_puts_the_longest_first_and_counts_the_ends():
    power = [np.nan, 1, np.nan, np.nan, 1, np.nan]
    report = gap_report(minutes(6, power=power))
    assert report["n_rows"].tolist() == [2, 1, 1]
    assert report["start"].dt.minute.tolist() == [2, 0, 5]
    assert report["end"].dt.minute.tolist() == [3, 0, 5]


def test_gap_report_of_a_whole_frame_is_empty():
    assert gap_report(minutes(4)).shape == (0, 3)


# Other formats and places


def test_csv_with_datetime_is_read_by_the_hour():
    frame = load_power(str(HERE / "uci_hourly_2006-12.csv"))
    assert frame.shape == (48, 7) and grid_step(frame) == pd.Timedelta("1h")
    assert frame.loc["2006-12-16 17:00", "power_kw"] == 4.2229


def test_csv_time_with_a_zone_is_refused_by_its_line(put):
    text = (HERE / "uci_hourly_2006-12.csv").read_text().replace("18:00:00", "18:00:00Z", 1)
    with pytest.raises(ValueError, match=r"line 3, column datetime: .* not a naive local time"):
        load_power(put(text.encode(), "zone.csv"))


def test_real_minutes_keep_their_two_missing_rows():
    frame = load_power(str(HERE / "uci_2006-12-21.txt"))
    assert frame.shape == (70, 7) and frame["power_kw"].isna().sum() == 2
    assert gap_report(frame)["start"].tolist() == [pd.Timestamp("2006-12-21 11:23")]
    assert frame.loc["2006-12-21 10:50"].tolist() == [0.95, 0.046, 241.9, 4.4, 0, 0, 13]


@pytest.mark.parametrize("name", ["uci_2006-12-21.txt", "uci_hourly_2006-12.csv"])
def test_real_rows_are_the_ones_the_readme_describes(name):
    digest = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    assert f"`{name}`" in (HERE / "README.md").read_text()
    assert digest in (HERE / "README.md").read_text()


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".zip"])
def test_written_text_is_read_back_the_same(tmp_path, suffix):
    frame = sample_power(3, seed=1)
    write_uci_text(frame, tmp_path / f"power{suffix}")
    pd.testing.assert_frame_equal(load_power(str(tmp_path / f"power{suffix}")), frame)


def test_written_text_looks_like_ucis(tmp_path):
    real = HERE / "uci_2006-12-21.txt"
    write_uci_text(load_power(str(real)), tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == real.read_bytes()


@pytest.mark.parametrize("as_index", [True, False])
def test_parquet_is_read_with_times_as_index_or_column(tmp_path, as_index):
    frame = minutes(5)
    (frame if as_index else frame.reset_index()).to_parquet(tmp_path / "p.parquet", index=as_index)
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "p.parquet")), frame)


def test_parquet_times_with_a_zone_are_refused(tmp_path):
    minutes(5).tz_localize("Europe/Paris").to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="carry a zone"):
        load_power(str(tmp_path / "p.parquet"))


def test_glob_puts_files_in_order_of_time(tmp_path):
    frame = minutes(6)
    write_uci_text(frame.iloc[3:], tmp_path / "a.txt")
    write_uci_text(frame.iloc[:3], tmp_path / "b.txt")
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "*.txt")), frame)


def test_glob_refuses_files_that_overlap(tmp_path):
    frame = minutes(6)
    write_uci_text(frame.iloc[2:], tmp_path / "a.txt")
    write_uci_text(frame.iloc[:3], tmp_path / "b.txt")
    with pytest.raises(ValueError, match=r"a.txt begins at .* not after b.txt ends at .*00:02:00"):
        load_power(str(tmp_path / "*.txt"))


def test_url_is_read_and_globbed_through_fsspec():
    import fsspec

    memory = fsspec.filesystem("memory")
    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    memory.pipe("/power/1.txt", rows)
    memory.pipe("/power/2.txt", rows.replace(b";00:", b";01:"))
    assert len(load_power("memory://power/1.txt")) == 2
    assert len(load_power("memory://power/*.txt")) == 62
    with pytest.raises(ValueError, match=r"memory://power/3.txt cannot be read"):
        load_power("memory://power/3.txt")


@pytest.mark.slow
def test_s3_is_read_through_fsspec(bucket):
    import s3fs

    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    s3fs.S3FileSystem(skip_instance_cache=True).pipe(f"{bucket}/power/1.txt", rows)
    assert len(load_power(f"s3://{bucket}/power/*.txt")) == 2


def test_relative_path_is_looked_up_in_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "power.txt").write_bytes(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00"))
    assert len(load_power("power.txt")) == 2
    assert len(load_power("tests/data/uci_2006-12-21.txt")) == 70


def test_path_that_is_nowhere_lists_the_places_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{tmp_path}/nothing.txt and .*/nothing.txt"):
        load_power("nothing.txt")


def test_folder_asks_for_a_glob(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder: name a file in it, or a glob"):
        load_power(str(tmp_path))


def test_unknown_resolution_lists_the_choices():
    with pytest.raises(ValueError, match="'week': give one of native, minute, hour, day"):
        load_power("sample", resolution="week")


# UCI download


def test_uci_without_a_network_names_the_alternatives(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def offline(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pooch.retrieve", offline)
    with pytest.raises(ValueError, match=r'path of household_power_consumption.txt .*"sample"'):
        load_power("uci")


def test_uci_download_with_other_content_is_refused_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    archive = tmp_path / "power" / UCI_ARCHIVE

    def download(*_args, **_options):
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("household_power_consumption.txt", uci("1/2/2007;00:00:00"))

    monkeypatch.setattr("pooch.retrieve", download)
    with pytest.raises(ValueError, match="has SHA-256 .* not 4259c9d7"):
        fetch_uci()
    assert not archive.exists()


def test_uci_archive_is_fetched_once_and_checked_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    monkeypatch.setattr("lib.power.load.UCI_TEXT_SHA256", hashlib.sha256(text).hexdigest())
    archive, downloads = tmp_path / "power" / UCI_ARCHIVE, []

    def download(*_args, **_options):
        downloads.append(1)
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("household_power_consumption.txt", text)

    monkeypatch.setattr("pooch.retrieve", download)
    assert len(load_power("uci")) == len(load_power("uci")) == 2
    assert downloads == [1]
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(ValueError, match="has changed since its download"):
        load_power("uci")


# SQL


@pytest.fixture
def database(tmp_path):
    """A SQLite file with UCI's columns as text, in no order, and a table of something else."""
    path = tmp_path / "power.db"
    frame = load_power(str(HERE / "uci_2006-12-21.txt"))
    with sqlite3.connect(path) as connection:
        frame.reset_index(names="datetime").sample(frac=1, random_state=0).to_sql(
            "readings", connection, index=False
        )
        connection.execute("CREATE TABLE other (x INTEGER)")
    return path


def test_sql_table_is_read_in_order_of_time(database):
    expected = load_power(str(HERE / "uci_2006-12-21.txt"))
    pd.testing.assert_frame_equal(load_power(f"sql:sqlite:///{database}#readings"), expected)


def test_sql_query_is_read_with_literal_colons_and_percents(database):
    query = "SELECT * FROM readings WHERE datetime < '2006-12-21 11:00:00' AND '%' LIKE '%'"
    assert len(load_power(f"sql:sqlite:///{database}#{query}")) == 10


def test_sql_text_columns_as_in_ucis_file_are_read(tmp_path):
    raw = pd.read_csv(HERE / "uci_2006-12-21.txt", sep=";", dtype=str, keep_default_na=False)
    with sqlite3.connect(tmp_path / "raw.db") as connection:
        raw.to_sql("raw", connection, index=False)
    expected = load_power(str(HERE / "uci_2006-12-21.txt"))
    pd.testing.assert_frame_equal(load_power(f"sql:sqlite:///{tmp_path}/raw.db#raw"), expected)


def test_sql_table_name_never_becomes_sql(database):
    before = database.read_bytes()
    for name in ("readings; DROP TABLE other", 'readings" --', "readings' OR 1=1"):
        with pytest.raises(ValueError, match=r"no table .* the database has \['other', 'readings'"):
            load_power(f"sql:sqlite:///{database}#{name}")
    assert database.read_bytes() == before


def test_sql_second_statement_and_writing_are_refused(database):
    before = database.read_bytes()
    with pytest.raises(ValueError, match="give one query, without a semicolon"):
        load_power(f"sql:sqlite:///{database}#SELECT 1; DROP TABLE other")
    with pytest.raises(ValueError, match="readonly"):
        load_power(
            f"sql:sqlite:///{database}#WITH a AS (SELECT 1) DELETE FROM readings RETURNING *"
        )
    assert database.read_bytes() == before


def test_sql_database_that_is_not_there_is_named_and_not_made(tmp_path):
    with pytest.raises(ValueError, match="no such database"):
        load_power(f"sql:sqlite:///{tmp_path}/none.db#readings")
    assert not (tmp_path / "none.db").exists()


def test_sql_relative_database_is_looked_up_in_data_dir(database, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(database.parent))
    assert len(load_power("sql:sqlite:///power.db#readings")) == 70


@pytest.mark.parametrize(
    "source",
    [
        "sql:postgresql+psycopg://reader:geheim@127.0.0.1:1/energy#readings",
        "sql:postgresql+psycopg://reader:ge@geheim@127.0.0.1:1/energy#readings",
        "sql:postgresql+psycopg://reader:geheim#x@127.0.0.1/energy#readings",
        "sql:nonsense://reader:geheim@127.0.0.1/energy#readings",
        "sql:postgresql+psycopg://127.0.0.1:1/energy?user=x&password=geheim#readings",
        "https://reader:geheim@127.0.0.1:1/power.txt",
        "https://127.0.0.1:1/power.txt?token=geheim",
    ],
)
def test_no_message_shows_a_password(source):
    with pytest.raises(ValueError) as caught:
        load_power(source)
    seen, error = [], caught.value
    while error is not None:
        seen.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "geheim" not in "\n".join(seen)
    assert "geheim" not in redact(source)


def test_sql_password_comes_from_the_environment_and_stays_out_of_messages(monkeypatch):
    source = "sql:postgresql+psycopg://reader:${POWER_PASSWORD}@127.0.0.1:1/energy#readings"
    monkeypatch.delenv("POWER_PASSWORD", raising=False)
    with pytest.raises(ValueError, match="needs the environment variable POWER_PASSWORD"):
        load_power(source)
    monkeypatch.setenv("POWER_PASSWORD", "geheim")
    with pytest.raises(ValueError) as caught:
        load_power(source)
    assert "geheim" not in str(caught.value) and "refused" in str(caught.value)


@pytest.mark.parametrize("source", ["sample", "uci", "power/*.txt", "s3://bucket/key.parquet"])
def test_redact_leaves_what_holds_no_secret(source):
    assert redact(source) == source


# Checks of a frame


def test_check_returns_the_frame_it_was_given():
    frame = minutes(5)
    assert check_power(frame) is frame


def test_float32_is_a_canonical_type_too():
    check_power(minutes(5).astype("float32"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="voltage_v"), "voltage_v"),
        (lambda f: f.assign(extra=1.0), "extra"),
        (lambda f: f[list(reversed(COLUMNS))], "order"),
        (lambda f: f.astype({"power_kw": int}), "power_kw must be float64 or float32, not int64"),
        (lambda f: f.rename_axis("time"), "ts"),
        (lambda f: f.tz_localize("UTC"), r"ts must be datetime64"),
        (lambda f: f.iloc[[0, 1, 1, 2]], "00:01:00 repeats the row before"),
        (lambda f: f.iloc[[0, 2, 1]], "00:01:00 follows 2007-02-01 00:02:00"),
        (lambda f: f.iloc[[0, 1, 2, 4]], "a time without a reading must be a row of NaN"),
        (lambda f: f.assign(voltage_v=1001.0), "voltage_v must be from 0 to 1000, 5 rows are not"),
        (lambda f: f.assign(power_kw=np.inf), "power_kw must be from 0 to 100"),
    ],
)
def test_check_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        check_power(change(minutes(5)))


# Resolution


def test_hour_is_the_mean_of_power_and_the_sum_of_energy():
    hours = aggregate_power(minutes(120), "hour")
    assert hours["power_kw"].tolist() == [29.5, 89.5]
    assert hours["sub_metering_1_wh"].tolist() == [60, 60]
    assert hours.index.tolist() == [
        pd.Timestamp("2007-02-01 00:00"),
        pd.Timestamp("2007-02-01 01:00"),
    ]


def test_day_begins_at_midnight():
    days = aggregate_power(minutes(2880, "2007-02-01 12:00", 1.0), "day", max_missing=0.5)
    assert days.index.tolist() == [pd.Timestamp(2007, 2, d) for d in (1, 2, 3)]
    assert days["power_kw"].tolist() == [1, 1, 1]


def test_hour_missing_just_the_allowed_fraction_stays_and_one_more_minute_makes_it_nan():
    power = np.ones(120)
    power[:15] = np.nan
    power[60:76] = np.nan
    hours = aggregate_power(minutes(120, power=power), "hour", max_missing=0.25)
    assert hours["power_kw"].iloc[0] == 1 and np.isnan(hours["power_kw"].iloc[1])
    assert hours["voltage_v"].tolist() == [1, 1]


def test_energy_of_an_hour_with_missing_minutes_is_scaled_to_the_hour():
    frame = minutes(60)
    frame.iloc[:12] = np.nan
    assert aggregate_power(frame, "hour")["sub_metering_1_wh"].tolist() == [60]


def test_minutes_before_the_first_reading_count_as_missing():
    hours = aggregate_power(minutes(80, "2007-02-01 00:40", 1.0), "hour")
    assert hours["power_kw"].isna().tolist() == [True, False]


def test_aggregation_agrees_with_pandas_resample():
    frame = sample_power(3, start="2007-03-01 05:17", seed=2, gaps=False)
    ours = aggregate_power(frame, "hour", max_missing=0)
    full = frame.resample("h").count()["power_kw"] == 60
    means = frame.resample("h").mean()[full]
    sums = frame.resample("h").sum()[full]
    np.testing.assert_allclose(ours.loc[full, "voltage_v"], means["voltage_v"], rtol=1e-12)
    np.testing.assert_allclose(
        ours.loc[full, "sub_metering_2_wh"], sums["sub_metering_2_wh"], rtol=1e-12
    )
    assert ours[~full].isna().all(axis=None)


def test_rows_are_never_split():
    hours = aggregate_power(minutes(180), "hour")
    with pytest.raises(ValueError, match="cannot be made into rows of one minute"):
        aggregate_power(hours, "minute")


def test_aggregation_to_the_same_resolution_changes_nothing():
    frame = minutes(7, "2007-02-01 00:03")
    pd.testing.assert_frame_equal(aggregate_power(frame, "minute"), frame)


# Digest


def test_digest_is_fixed():
    frame = pd.DataFrame(
        {"x": [1.0, np.nan]},
        pd.DatetimeIndex(["2007-02-01", "2007-02-02"], name="ts").as_unit("us"),
    )
    ts = np.array([1170288000000000, 1170374400000000], "<i8").tobytes()
    x = np.array([1.0, np.nan], "<f8").tobytes()
    by_hand = hashlib.sha256(b"ts|datetime64[us]|2|" + ts + b"x|float64|2|" + x).hexdigest()
    assert frame_digest(frame) == by_hand


def test_digest_sees_values_names_types_and_times():
    frame = minutes(5)
    others = [
        frame.assign(power_kw=frame["power_kw"] + 1e-12),
        frame.rename(columns={"power_kw": "power"}),
        frame.astype({"power_kw": "float32"}),
        frame.shift(freq="1min"),
        frame[list(reversed(frame.columns))],
    ]
    assert len({frame_digest(f) for f in [frame, *others]}) == 6


def test_digest_does_not_see_memory_layout_or_the_bits_of_nan():
    frame = minutes(4, power=[0.0, 1.0, np.nan, 3.0])
    other = pd.DataFrame(np.asfortranarray(frame.to_numpy()).copy(), frame.index, frame.columns)
    odd = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    other = other.assign(power_kw=[-0.0, 1.0, odd, 3.0])
    assert frame_digest(other) == frame_digest(frame)


def test_description_names_sample_data_as_such_and_counts_missing_rows():
    frame = minutes(4, power=[0.0, 1.0, np.nan, 3.0])
    described = describe_power(frame, "sample")
    assert described == {
        "name": "household_power_sample",
        "source": "sample",
        "digest": frame_digest(frame),
        "n_rows": 4,
        "n_missing": 1,
        "start": "2007-02-01T00:00:00",
        "end": "2007-02-01T00:03:00",
        "freq": "P0DT0H1M0S",
    }
    assert describe_power(frame, "uci")["name"] == "household_power"


# Sample


def test_sample_repeats_by_seed_and_differs_between_seeds():
    assert frame_digest(sample_power(3, seed=1)) == frame_digest(sample_power(3, seed=1))
    assert frame_digest(sample_power(3, seed=1)) != frame_digest(sample_power(3, seed=2))


def test_sample_is_canonical_and_has_gaps_of_minutes_to_days():
    frame = check_power(sample_power())
    gaps = gap_report(frame)["n_rows"]
    assert frame.shape == (430 * 1440, 7)
    assert 0.002 < frame["power_kw"].isna().mean() < 0.03
    assert gaps.min() <= 3 and gaps.max() >= 1200
    assert frame.isna().all(axis=1).equals(frame["power_kw"].isna())


def test_sample_current_is_apparent_power_over_voltage():
    frame = sample_power(10, gaps=False)
    apparent = np.hypot(frame["power_kw"], frame["reactive_power_kvar"]) * 1000
    assert (frame["current_a"] - apparent / frame["voltage_v"]).abs().max() < 0.12


def test_sample_sub_meters_never_add_up_to_more_than_the_whole():
    frame = sample_power(60, gaps=False)
    parts = frame[[f"sub_metering_{k}_wh" for k in (1, 2, 3)]].sum(axis=1)
    assert (frame["power_kw"] * 1000 / 60 - parts).min() > -4


def test_sample_has_the_rhythms_of_a_house():
    power = aggregate_power(sample_power(), "hour")["power_kw"]
    by_hour, by_month = (
        power.groupby(power.index.hour).mean(),
        power.groupby(power.index.month).mean(),
    )
    assert by_hour[20] > 2.5 * by_hour[3]
    assert by_month[1] > 1.5 * by_month[7]
    assert 0.65 < power.autocorr(1) < 0.8 and power.autocorr(24) > 0.4


# The real files


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "household_power_consumption.zip").exists(), reason="no real data")
def test_real_minutes_are_all_read():
    frame = check_power(load_power(str((REAL / "household_power_consumption.zip").resolve())))
    assert len(frame) == 282_636 and frame["power_kw"].isna().sum() == 3_775
    assert frame.index[0] == pd.Timestamp("2006-12-16 17:24")
    assert frame.index[-1] == pd.Timestamp("2007-06-30 23:59")
    by_pandas = pd.read_csv(REAL / "household_power_consumption.zip", sep=";", na_values="?")
    assert np.array_equal(frame.to_numpy(), by_pandas.iloc[:, 2:].to_numpy(), equal_nan=True)


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "household_power_hourly.csv.gz").exists(), reason="no real data")
def test_real_hours_are_all_read_and_agree_with_the_minutes():
    hours = load_power(str((REAL / "household_power_hourly.csv.gz").resolve()))
    assert len(hours) == 34_589 and not hours.isna().any(axis=None)
    minutes_file = REAL / "household_power_consumption.zip"
    ours = load_power(str(minutes_file.resolve()), resolution="hour", max_missing=0)
    both = ours.dropna().index
    assert len(both) > 4_500
    np.testing.assert_allclose(ours.loc[both, "power_kw"], hours.loc[both, "power_kw"], atol=1e-4)
    np.testing.assert_allclose(
        ours.loc[both, "sub_metering_3_wh"], hours.loc[both, "sub_metering_3_wh"], atol=1e-6
    )
