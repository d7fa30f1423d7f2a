"""Other houses' files: what is read as it is, what by a parameter, what each refusal says."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import sqlite3
import subprocess
import zipfile

from lib.ground.files import ROOT
from lib.power.columns import COLUMNS
from lib.power.load import load_power

import numpy as np
import pandas as pd
import pyarrow as arrow
import pytest
from power_data import HEADER, uci

ROWS = ("1/2/2007;00:00:00", "1/2/2007;00:01:00", "1/2/2007;00:02:00")
PLAIN = uci(*ROWS)
COMMA = PLAIN.replace(b".", b",")


@pytest.fixture
def read(tmp_path):
    """Write bytes or text below a temporary folder and read it as a house's file."""

    def load(data, name="house.csv", **given):
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return load_power(str(tmp_path / name), **given)

    return load


def mains(*rows, header="time,W"):
    return "\n".join([header, *rows, ""])


def zipped(data, name="house.txt"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


# What can be told without doubt

SAME = {
    "iso date": PLAIN.replace(b"1/2/2007", b"2007-02-01"),
    "two digits of the year": PLAIN.replace(b"1/2/2007", b"01/02/07"),
    "year first": PLAIN.replace(b"1/2/2007", b"2007/02/01"),
    "dots": PLAIN.replace(b"1/2/2007", b"1.2.2007"),
    "no seconds": PLAIN.replace(b":00;1", b";1"),
    "tabs": PLAIN.replace(b";", b"\t"),
    "pipes": PLAIN.replace(b";", b"|"),
    "decimal comma": COMMA,
    "decimal comma beside tabs": COMMA.replace(b";", b"\t"),
    "header in capitals": PLAIN.replace(HEADER.encode(), HEADER.upper().encode()),
    "blanks in the header": PLAIN.replace(b"Voltage;", b" Voltage ;"),
    "quoted header": PLAIN.replace(b"Voltage;", b'"Voltage";'),
    "breaks of old": PLAIN.replace(b"\n", b"\r"),
    "utf-16": b"\xff\xfe" + PLAIN.decode().encode("utf-16-le"),
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zstd": arrow.compress(PLAIN, "zstd", asbytes=True),
    "zip": zipped(PLAIN),
    "gzip without the last break": gzip.compress(PLAIN[:-1]),
    "xz without the last break": lzma.compress(PLAIN[:-1]),
    "zip without the last break": zipped(PLAIN[:-1]),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_is_written_another_way_is_read_the_same(read, kind):
    pd.testing.assert_frame_equal(read(SAME[kind]), read(PLAIN, "plain.csv"))


@pytest.mark.parametrize("word", ["?", "", "NULL", "Null", "null", "NA", "NaN", "nan", "N/A"])
def test_word_for_nothing_is_a_missing_value(read, word):
    frame = read(PLAIN.replace(b"00:01:00;1.000", f"00:01:00;{word}".encode()))
    assert frame["power_kw"].isna().tolist() == [False, True, False]
    assert frame["voltage_v"].notna().all()


def test_column_called_timestamp_time_or_date_holds_whole_times(read):
    rest = ";".join(COLUMNS.values())
    for name in ("timestamp", "Time", "date", "ts", "DateTime"):
        rows = [f"2007-02-01 0{h}:00:00;1;0;240;4;0;1;2" for h in range(3)]
        frame = read(mains(*rows, header=f"{name};{rest}"))
        assert frame.index[2] == pd.Timestamp("2007-02-01 02:00")


# Columns, units, and what is not there

W = {"columns": ["power_kw=W [W]"]}
HOURS = [f"2016-11-23 1{h}:00:00,{500 + h}" for h in range(5)]


def test_mains_alone_are_enough_and_the_rest_is_missing(read):
    frame = read(mains(*HOURS), **W)
    assert frame["power_kw"].tolist() == [0.5, 0.501, 0.502, 0.503, 0.504]
    assert frame.drop(columns="power_kw").isna().all(axis=None) and list(frame) == list(COLUMNS)


@pytest.mark.parametrize(
    ("unit", "minutes", "value", "expected"),
    [
        ("kW", 30, 0.5, 0.5),
        ("W", 30, 500, 0.5),
        ("kWh", 30, 0.25, 0.5),
        ("Wh", 15, 125, 0.5),
        ("kWh", 60, 0.5, 0.5),
    ],
)
def test_unit_of_the_mains_becomes_kw(read, unit, minutes, value, expected):
    times = pd.date_range("2013-01-01", periods=4, freq=f"{minutes}min")
    frame = read(mains(*(f"{t},{value}" for t in times)), columns=[f"power_kw=w [{unit}]"])
    np.testing.assert_allclose(frame["power_kw"], expected, rtol=1e-12)


def test_unit_of_energy_takes_the_row_s_length_where_rows_are_absent(read):
    times = pd.date_range("2013-01-01", periods=9, freq="30min").delete([2, 3, 6])
    frame = read(mains(*(f"{t},0.25" for t in times)), columns=["power_kw=W [kWh]"])
    assert frame["power_kw"].dropna().tolist() == [0.5] * 6 and len(frame) == 9


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]])
def test_unit_of_energy_takes_the_row_s_length_in_whatever_order_sql_gives_rows(tmp_path, order):
    times = pd.date_range("2013-01-01", periods=4, freq="30min").astype(str)
    frame = pd.DataFrame({"time": times, "W": [0.1, 0.2, 0.3, 0.4]}).iloc[order]
    with sqlite3.connect(tmp_path / "p.db") as connection:
        frame.to_sql("mains", connection, index=False)
    found = load_power(f"sql:sqlite:///{tmp_path}/p.db#mains", columns=["power_kw=W [kWh]"])
    assert found["power_kw"].tolist() == [0.2, 0.4, 0.6, 0.8]


def test_unit_of_energy_takes_the_row_s_length_from_files_of_one_row_each(tmp_path):
    for day in (1, 2, 3):
        (tmp_path / f"{day}.csv").write_text(mains(f"2024-01-0{day},12"))
    found = load_power(str(tmp_path), columns=["power_kw=W [kWh]"])
    assert found["power_kw"].tolist() == [0.5] * 3


def test_every_column_may_have_another_name_and_unit(read):
    rows = [f"2007-02-01;0{h}:00;1000;100;240;4000;1;0.5;9" for h in range(2)]
    frame = read(
        mains(*rows, header="Day;Hour;P;Q;U;I;K;L;X"),
        columns=[
            "timestamp=Day+Hour",
            "power_kw=P [W]",
            "reactive_power_kvar=Q [VAr]",
            "voltage_v=U",
            "current_a=I [mA]",
            "sub_metering_1_wh=K [W]",
            "sub_metering_2_wh=L [kWh]",
            "sub_metering_3_wh=",
        ],
    )
    assert frame.iloc[0].iloc[:6].tolist() == [1, 0.1, 240, 4, 1, 500]
    assert frame["sub_metering_3_wh"].isna().all() and frame.index[1].hour == 1


def test_name_may_hold_its_unit(read):
    text = mains("2016-11-23 10:00,500", "2016-11-23 11:00,600", header="time,Power [W]")
    assert read(text, columns=["power_kw=Power [W]"])["power_kw"].tolist() == [0.5, 0.6]


def test_index_of_parquet_with_any_name_is_the_time_where_nothing_else_is(tmp_path):
    frame = pd.DataFrame({"W": [1.0, 2.0]}, pd.date_range("2016-11-23", periods=2, freq="h"))
    for name in (None, "when", "ts"):
        frame.rename_axis(name).to_parquet(tmp_path / "p.parquet")
        found = load_power(str(tmp_path / "p.parquet"), columns=["power_kw=W [kW]"])
        assert found.index.equals(frame.index.astype(found.index.dtype))


def test_first_column_without_a_name_is_the_time_where_no_other_is(read):
    frame = pd.DataFrame(
        {"W": [5.0, 6.0]}, pd.to_datetime(["2016-11-23 10:00", "2016-11-23 11:00"])
    )
    found = read(frame.to_csv(), columns=["power_kw=W [W]"])
    assert found["power_kw"].tolist() == [0.005, 0.006] and found.index.equals(
        frame.index.as_unit("us").rename("ts")
    )
    numbered = frame.rename_axis("time").reset_index()
    pd.testing.assert_frame_equal(read(numbered.to_csv(), columns=["power_kw=W [W]"]), found)
    with pytest.raises(ValueError, match="line 2, column : '0' is not a time"):
        read(numbered[["W"]].to_csv(), columns=["power_kw=W [W]"])


def test_two_columns_of_whole_times_are_asked_about(read):
    text = mains("2016-11-23 10:00,2016-11-23 09:00,5", header="datetime,timestamp,W")
    with pytest.raises(ValueError, match=r"times in 'datetime', 'timestamp': give columns="):
        read(text, columns=["power_kw=W [kW]"])


def test_column_that_is_there_may_be_left_out(read):
    frame = read(PLAIN, columns=["voltage_v="])
    assert frame["voltage_v"].isna().all() and frame["current_a"].notna().all()


def test_misspelt_column_is_not_taken_for_one_that_is_not_measured(read):
    with pytest.raises(ValueError, match=r"no column Voltage \(voltage_v\)") as error:
        read(PLAIN.replace(b"Voltage", b"Volts"))
    assert 'columns=["voltage_v="]' in str(error.value)


# Layout


def test_format_of_time_is_given(read):
    text = mains("23.11.2016 10:00,1", "23.11.2016 11:00,2")
    with pytest.raises(ValueError, match=r"line 2, column time: '23.11.2016 10:00'") as error:
        read(text, **W)
    told = 'layout=["time=%d.%m.%Y %H:%M"]'
    assert told in str(error.value)
    frame = read(text, **W, layout=["time=%d.%m.%Y %H:%M"])
    assert frame.index[1] == pd.Timestamp("2016-11-23 11:00")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("16/12/2006 17:24", 'give its format, as layout=["time=%d/%m/%Y %H:%M"]'),
        ("12/16/2006 17:24:00", 'as layout=["time=%m/%d/%Y %H:%M:%S"]'),
        ("1/2/06 17:24", '"time=%d/%m/%y %H:%M"] or layout=["time=%m/%d/%y %H:%M"]'),
        ("1366322400", 'for s since 1970 give layout=["time=s"] and time_zone='),
        ("1366322400000", 'for ms since 1970 give layout=["time=ms"]'),
        ("20240304143000", 'layout=["time=%Y%m%d%H%M%S"]'),
        ("2007-02-01 1:00 PM", 'layout=["time=%Y-%m-%d %I:%M %p"]'),
        ("noon", "is it a second header"),
    ],
)
def test_time_of_another_form_is_refused_with_the_format_that_it_may_be(read, value, told):
    with pytest.raises(ValueError, match="line 2, column time") as error:
        read(mains(f"{value},1"), **W)
    assert told in str(error.value)


def test_month_first_in_two_columns_is_refused_with_a_format_that_reads_it(read):
    text = PLAIN.replace(b"1/2/2007", b"12/16/2006")
    with pytest.raises(ValueError, match=r"line 2, column Date: '12/16/2006'") as error:
        read(text)
    assert 'as layout=["time=%m/%d/%Y %H:%M:%S"]' in str(error.value)
    frame = read(text, layout=["time=%m/%d/%Y %H:%M:%S"])
    assert frame.index[0] == pd.Timestamp("2006-12-16")


def test_month_first_that_shows_on_the_13th_is_said_of_the_days_before_it_too(read):
    text = mains(*(f"1/{day}/2024;0:00;1" for day in range(1, 15)), header="Date;Time;W")
    with pytest.raises(
        ValueError, match="line 14, column Date: '1/13/2024'.*may have been misr"
    ) as error:
        read(text, columns=["power_kw=W [kW]"])
    assert 'give layout=["time=%m/%d/%Y %H:%M"]' in str(error.value)
    frame = read(text, columns=["power_kw=W [kW]"], layout=["time=%m/%d/%Y %H:%M"])
    assert len(frame) == 14


def test_one_format_may_say_date_and_time_of_two_columns(read):
    rows = ["Feb 1 2007;1:30 PM;5", "Feb 1 2007;2:30 PM;5"]
    given = {"columns": ["power_kw=P", "timestamp=D+T"], "layout": ["time=%b %d %Y %I:%M %p"]}
    assert read(mains(*rows, header="D;T;P"), **given).index[0] == pd.Timestamp("2007-02-01 13:30")
    with pytest.raises(ValueError, match=r"line 4, column D\+T: 'Feb 1 2007 24'"):
        read(mains(*rows, "Feb 1 2007;24;5", header="D;T;P"), **given)


@pytest.mark.parametrize(
    "name", ["Energy (kWh)", "KWH/hh (per half hour)", "Import [kWh]", "Mains_A (kWhs)"]
)
def test_unit_in_a_name_is_proposed_and_not_read_as_kw(read, name):
    text = mains("2016-11-23 10:00,0.2", "2016-11-23 10:30,0.3", header=f"time,{name}")
    bare = name.partition(" [")[0]
    with pytest.raises(ValueError, match=rf'columns=\["power_kw={re.escape(bare)} \[kWh\]"\]'):
        read(text)
    if bare == name:
        with pytest.raises(ValueError, match=r"without its unit, and its name says kWh: give"):
            read(text, columns=[f"power_kw={name}"])
    assert read(text, columns=[f"power_kw={bare} [kWh]"])["power_kw"].tolist() == [0.4, 0.6]


def test_meter_that_counts_up_is_no_matter_of_units(read):
    text = mains(*(f"2016-11-23 {k:02}:00,{1000 + k / 4}" for k in range(20)), header="time,P")
    with pytest.raises(
        ValueError, match="Of a meter that counts up, .* give the differences"
    ) as no:
        read(text, columns=["power_kw=P [kWh]"])
    assert "columns=" not in str(no.value) and "max_power_kw" not in str(no.value)


def test_file_without_a_header_gets_names(read):
    rows = "".join(f"{row}\n" for row in HOURS)
    with pytest.raises(ValueError, match="line 1 has values and not names") as error:
        read(rows)
    assert 'layout=["names=timestamp,power_kw"]' in str(error.value)
    frame = read(rows.replace(",5", ",0.5"), layout=["names=timestamp,power_kw"])
    assert len(frame) == 5 and frame["voltage_v"].isna().all()
    with pytest.raises(ValueError, match="line 6, column power_kw: 'x' is not a number"):
        read(rows + "2016-11-23 15:00:00,x\n", layout=["names=timestamp,power_kw"])


def test_separator_and_missing_value_are_given(read):
    text = mains("2016-11-23T10:00 -", "2016-11-23T11:00 3", header="time W")
    frame = read(text, **W, layout=["separator=space", "missing=-"])
    assert frame["power_kw"].isna().tolist() == [True, False]


def test_number_for_a_missing_value_is_named_and_given(read):
    text = mains(*HOURS, "2016-11-23 15:00:00,-999")
    with pytest.raises(ValueError, match=r"has -0.999") as error:
        read(text, **W)
    assert "line 7" in str(error.value) and 'layout=["missing=-999"]' in str(error.value)
    assert read(text, **W, layout=["missing=-999"])["power_kw"].isna().sum() == 1


@pytest.mark.parametrize("written", ["-999.0", "-999.00", "-9.99e2", -999, -999.0])
def test_number_for_a_missing_value_is_one_however_it_is_written_or_typed(tmp_path, written):
    times = [row.partition(",")[0] for row in HOURS[:3]]
    frame = pd.DataFrame({"time": times, "W": [type(written)(5), written, type(written)(6)]})
    frame.to_parquet(tmp_path / "p.parquet")
    frame.to_csv(tmp_path / "p.csv", index=False)
    for name in ("p.parquet", "p.csv"):
        found = load_power(str(tmp_path / name), **W, layout=["missing=-999"])
        assert found["power_kw"].isna().tolist() == [False, True, False]


def test_comma_that_may_part_thousands_is_asked_for(read):
    text = mains("2016-11-23 10:00;1,234", "2016-11-23 11:00;2,345", header="time;W")
    with pytest.raises(ValueError, match="may be a decimal sign or part thousands"):
        read(text, **W)
    assert (
        read(text, columns=["power_kw=W [kW]"], layout=["decimal=,"])["power_kw"].iloc[0] == 1.234
    )


def test_points_that_may_part_thousands_are_asked_for(read):
    text = mains(
        *(f"2016-11-23 {k:02}:00;{w}" for k, w in enumerate(["313", "1.564", "980"])),
        header="time;W",
    )
    with pytest.raises(ValueError, match="line 3, column W: '1.56.*' is not as large as the whole"):
        read(text, **W)
    assert read(text, **W, layout=["decimal=."])["power_kw"].iloc[1] == 0.001564
    genuine = text.replace("313", "0.313")
    assert read(genuine, **W)["power_kw"].iloc[1] == 0.001564


def test_point_and_comma_in_one_file_are_refused_by_line(read):
    text = mains("2016-11-23 10:00;0,5", "2016-11-23 11:00;1.25", header="time;W")
    with pytest.raises(
        ValueError, match="line 3, column W: '1.25' is not a number with a decimal c"
    ):
        read(text, **W)


# Zones, and the hour that comes twice

AUTUMN = [f"2009-10-25 {h:02}:00:00,1" for h in (0, 1, 2, 2, 3, 4)]
PARIS = {"columns": ["power_kw=W [kW]"], "time_zone": "Europe/Paris"}


def test_hour_that_comes_twice_is_explained_and_read_with_a_zone(read):
    with pytest.raises(ValueError, match=r"line 5: .*02:00:00 follows .*02:00:00") as error:
        read(mains(*AUTUMN), columns=["power_kw=W [kW]"])
    assert 'time_zone="..."' in str(error.value)
    frame = read(mains(*AUTUMN), **PARIS)
    assert len(frame) == 6 and frame.notna().sum()["power_kw"] == 6
    assert frame.index[0] == pd.Timestamp("2009-10-24 23:00")  # standard time all year
    assert frame.index[-1] == pd.Timestamp("2009-10-25 04:00")


def test_minutes_of_the_hour_that_comes_twice_are_all_there(read):
    times = pd.date_range("2009-10-24 22:00", "2009-10-25 05:00", freq="min", tz="UTC")
    local = times.tz_convert("Europe/Paris").tz_localize(None)
    text = mains(*(f"{t},1" for t in local))
    with pytest.raises(ValueError, match="time_zone="):
        read(text, columns=["power_kw=W [kW]"])
    assert read(text, **PARIS)["power_kw"].notna().sum() == len(times)


def test_doubled_row_is_not_explained_by_a_zone(read):
    rows = [f"2009-10-25 00:{m:02},1" for m in (0, 1, 2, 2, 3)]
    with pytest.raises(ValueError, match="follows") as error:
        read(mains(*rows), columns=["power_kw=W [kW]"])
    assert "time_zone" not in str(error.value)


def test_clock_that_is_not_put_back_is_not_taken_for_the_zone_s(read):
    once = [row for k, row in enumerate(AUTUMN) if k != 3]
    with pytest.raises(ValueError, match=r"line 4: .*02:00:00 comes twice .* and once here"):
        read(mains(*once), **PARIS)
    spring = [f"2009-03-29 0{h}:00,1" for h in (1, 2, 3)]
    with pytest.raises(ValueError, match=r"line 3: .*02:00:00 is left out by the clock of Europe"):
        read(mains(*spring), **PARIS)


@pytest.mark.slow
def test_hours_that_come_twice_are_told_apart_by_order_with_gaps_too(read):
    times = pd.date_range("2009-10-24 22:00", "2010-11-01", freq="30min", tz="UTC").delete([5, 8])
    local = times.tz_convert("Europe/Paris").tz_localize(None)
    frame = read(mains(*(f"{t},1" for t in local)), **PARIS).dropna(how="all")
    assert frame.index.equals((times.tz_localize(None) + pd.Timedelta("1h")).as_unit("us"))


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+00", "+0000"])
def test_times_with_a_zone_ask_for_that_of_the_house(read, zone):
    text = mains(*(f"2009-07-01T1{h}:00:00{zone},1" for h in range(3)))
    with pytest.raises(ValueError, match="line 2: times carry a zone") as error:
        read(text, columns=["power_kw=W [kW]"])
    assert 'give time_zone="...", where it stands' in str(error.value)
    assert read(text, **PARIS).index[0] == pd.Timestamp("2009-07-01 11:00")


def test_time_without_a_zone_among_others_with_one_is_named(read):
    text = mains("2009-07-01T10:00:00Z,1", "2009-07-01T11:00:00,1")
    with pytest.raises(ValueError, match="line 3, column time: .*others have a zone"):
        read(text, **PARIS)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_since_1970_are_read_in_their_unit(read, unit, scale):
    first = 1366322400
    text = mains(*(f"{(first + 600 * k) * scale},1" for k in range(3)))
    given = {"columns": ["power_kw=W [kW]"], "layout": [f"time={unit}"]}
    frame = read(text, **given, time_zone="UTC")
    assert frame.index[0] == pd.Timestamp(first, unit="s") and len(frame) == 3
    with pytest.raises(ValueError, match=r"line 2: .* numbers since 1970"):
        read(text, **given)
    other = "ms" if unit == "s" else "s"
    with pytest.raises(ValueError, match=f"is not a number of {other} since 1970"):
        read(text, columns=["power_kw=W [kW]"], layout=[f"time={other}"], time_zone="UTC")


# Power beyond that of a house


def test_house_that_feeds_in_is_read_by_a_parameter(read):
    text = mains("2016-11-23 10:00,1", "2016-11-23 11:00,-2")
    with pytest.raises(ValueError, match=r"line 3: .* has -2.*feeds in give min_power_kw"):
        read(text, columns=["power_kw=W [kW]"])
    frame = read(text, columns=["power_kw=W [kW]"], min_power_kw=-5.0)
    assert frame["power_kw"].tolist() == [1, -2]


def test_larger_connection_is_read_by_a_parameter(read):
    text = mains("2016-11-23 10:00,250", "2016-11-23 11:00,260")
    with pytest.raises(ValueError, match=r"columns=\[\"power_kw=W \[W\]\"\].* max_power_kw=260"):
        read(text, columns=["power_kw=W [kW]"])
    assert len(read(text, columns=["power_kw=W [kW]"], max_power_kw=500.0)) == 2


# Readings at no fixed times


def test_readings_at_no_fixed_times_become_means(read):
    times = pd.Timestamp("2013-10-09 13:00") + pd.to_timedelta(
        [1, 9, 17, 58, 61, 69, 130, 190], "s"
    )
    watts = [100, 200, 300, 400, 500, 700, 900, 1100]
    text = mains(*(f"{t},{w}" for t, w in zip(times, watts, strict=True)))
    with pytest.raises(ValueError, match=r"line 5: .* is off the grid.*bin_s=60"):
        read(text, **W)
    frame = read(text, **W, bin_s=60)
    assert frame.index.minute.tolist() == [0, 1, 2, 3]
    assert frame["power_kw"].tolist() == [0.25, 0.6, 0.9, 1.1]


def test_row_of_few_readings_and_row_of_none_are_missing(read):
    times = [f"2013-10-09 13:{m:02}:{s:02},100" for m in (0, 1, 2, 5) for s in range(0, 60, 6)]
    frame = read(mains(*(t for t in times if ":02:" not in t or ":00," in t)), **W, bin_s=60)
    assert frame["power_kw"].notna().tolist() == [True, True, False, False, False, True]


def test_binned_limits_and_order_are_those_of_the_lines(read):
    rows = ["2013-10-09 13:00:01,5", "2013-10-09 13:00:01,500000", "2013-10-09 13:00:09,5"]
    with pytest.raises(ValueError, match="line 3: .* has 500"):
        read(mains(*rows), **W, bin_s=60)
    with pytest.raises(ValueError, match="line 3: .*13:00:01 follows .*13:00:09"):
        read(mains(rows[2], rows[0]), **W, bin_s=60)
    with pytest.raises(ValueError, match="energy by the row needs rows of one length"):
        read(mains(*rows), columns=["power_kw=W [kWh]"], bin_s=60)


# The houses that the README names

HOUSES = {
    "IDEAL": "2016-08-16 14:16:29,387\n2016-08-16 14:16:31,391\n2016-08-16 14:17:30,400\n",
    "REFIT": "Time,Unix,Aggregate,Appliance1,Issues\n2013-10-09 14:06:17,1381323977,387,74,0\n"
    "2013-10-09 14:06:31,1381323991,391,75,0\n2013-10-09 14:07:17,1381324037,400,75,0\n",
    "UK-DALE": "1381323977 387\n1381323991.5 391\n1381324037 400\n",
    "London": "LCLid,stdorToU,DateTime,KWH/hh (per half hour) \n"
    "MAC2,Std,2012-10-12 00:30:00.0000000, 0.1945 \n"
    "MAC2,Std,2012-10-12 01:00:00.0000000, 0.2 \nMAC2,Std,2012-10-12 01:30:00.0000000,Null\n",
    "Home Assistant": "entity_id,state,last_changed\nsensor.power,387,2024-03-04T10:00:00.123Z\n"
    "sensor.power,391,2024-03-04T10:00:40.500Z\nsensor.power,unavailable,2024-03-04T10:00:59Z\n"
    "sensor.power,400,2024-03-04T10:01:05.000Z\n",
    "Linky": "\ufeffIdentifiant PRM;Type de donnees;Unite;Pas en minutes\n1;Courbe de charge;W;30\n"
    "Horodate;Valeur\n2023-01-01T00:30:00+01:00;389\n2023-01-01T01:00:00+01:00;400\n",
    "ETT": "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n2016-07-01 00:00:00,0.389,2,1,0,4,1,30\n"
    "2016-07-01 01:00:00,0.4,2.0,1.4,0.4,4.1,1.2,27.7\n2016-07-01 02:00:00,-0.1,2,1,0,4,1,27\n",
    "PJM": "Datetime,PJME_MW\n2002-12-31 02:00:00,0.4\n2002-12-31 01:00:00,0.389\n"
    "2002-12-31 02:00:00,0.5\n2002-12-31 03:00:00,26498.0\n",
}


@pytest.mark.parametrize("house", HOUSES)
def test_command_of_the_readme_reads_lines_as_the_house_s(read, house, tmp_path):
    text = (ROOT / "notebooks" / "power" / "README.md").read_text("utf-8")
    (command,) = re.findall(
        rf"# {house}\b[^\n]*\nmake run PIPELINE=power PARAMS='(.*?)'", text, re.S
    )
    given = json.loads(command)
    given.pop("source")
    others = ("country", "model_name", "objective")
    given = {name: value for name, value in given.items() if name not in others}
    data = HOUSES[house]
    if house == "PJM":
        with pytest.raises(ValueError, match="line 3: .* follows .* put the rows in order"):
            read(data, **given)
        (tmp_path / "PJME_hourly.csv").write_text(data)
        (line,) = re.findall(r"^\(head .*PJME_sorted.csv$", text, re.M)
        subprocess.run(line, shell=True, check=True, cwd=tmp_path, env={"PATH": os.defpath})
        data = (tmp_path / "PJME_sorted.csv").read_text()
    frame = read(data, **given)
    assert frame["power_kw"].iloc[:2].tolist() == [0.389, 0.4] and frame["voltage_v"].isna().all()


# Refusals

REFUSED = {
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "is HDF5, not text or Parquet"),
    "SQLite": (
        b"SQLite format 3\x00" + bytes(50),
        "is a SQLite database, not text or Parquet: give .*sql:sqlite:///",
    ),
    "Excel": (zipped(b"", "[Content_Types].xml"), "is an Excel workbook.*: save it as CSV"),
    "old Excel": (b"\xd0\xcf\x11\xe0" + bytes(50), "is an Excel workbook"),
    "JSON": (b'[{"time": 1}]', "is JSON"),
    "a page": (b"<!DOCTYPE html>", "is a web page.*: fetch the file itself"),
    "zstd cut": (arrow.compress(PLAIN, "zstd", asbytes=True)[:-9], "cut short or damaged"),
    "binary": (b"\x01\x00\x02" * 50, "is neither text nor Parquet"),
    "a sign of latin-1": (
        PLAIN.replace(b"240.000", b"240\xb0", 1),
        "line 2, column Voltage: '240°'",
    ),
    "no break": (PLAIN[:-1], r"no line break.*echo >> house.csv.*gzip"),
    "gzip cut": (gzip.compress(PLAIN)[:-9], "cut short or damaged"),
    "bzip2 cut": (bz2.compress(PLAIN)[:-9], "cut short or damaged|no rows|empty"),
    "xz cut": (lzma.compress(PLAIN)[:-9], "cut short or damaged"),
    "one row": (uci(ROWS[0]), "one reading alone has no resolution"),
    "a long header": (b"x" * 9000 + b"\n", r"has no time.*found 'x{40}\.\.\.'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusal_says_what_it_is_and_shows_no_dump(read, kind):
    data, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as error:
        read(data)
    assert len(str(error.value)) < 700 and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": ["power=W"]}, "the standard columns are power_kw.*timestamp"),
        ({"columns": ["power_kw=W [MW]"]}, "no unit of power_kw, give kW, W, kWh, Wh"),
        (
            {"columns": ["power_kw=Watt [W]"]},
            r"power_kw=Watt, which is not in house.csv; found 'ti",
        ),
        ({"columns": ["power_kw="]}, "give the name of one column"),
        ({"columns": ["power_kw=W [kW]", "current_a=W"]}, "takes 'W' of house.csv for two things"),
        ({"columns": ["timestamp=a+b+c"]}, r"or of two, as timestamp=DATE"),
        ({"columns": ["power_kw.A=1"]}, r"layout=\[\"missing="),
        ({"layout": ["time=%Q"]}, "layout has 'time=%Q'"),
        ({"time_zone": "Paris"}, "IANA"),
    ],
)
def test_parameter_that_cannot_be_is_refused(read, given, message):
    with pytest.raises(ValueError, match=message):
        read(mains(*HOURS), **given)


def test_sql_takes_the_same_words(tmp_path):
    with sqlite3.connect(tmp_path / "p.db") as connection:
        frame = pd.DataFrame({"at": ["2016-11-23 11:00", "2016-11-23 10:00"], "W": [500, 400]})
        frame.to_sql("mains", connection, index=False)
    source = f"sql:sqlite:///{tmp_path}/p.db#mains"
    found = load_power(source, columns=["power_kw=W [W]", "timestamp=at"])
    assert found["power_kw"].tolist() == [0.4, 0.5]
