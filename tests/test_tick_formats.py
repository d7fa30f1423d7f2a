"""Ticks as other houses write them are read as they are meant, or refused with the way out."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from datetime import date, time
from pathlib import Path

from lib.ground.files import ROOT

import polars as pl
import pyarrow as arrow
import pytest
from tick_files import HEADER, refuses

UTC = {"session": "00:00-24:00", "session_zone": "UTC", "time_zone": "UTC"}
LINES = ["2024-03-04 14:30:00,50.01,1", "2024-03-04 14:30:01,50.02,2"]
TEXT = "\n".join([HEADER, *LINES, ""])
START = 1_709_562_600_000_000  # 2024-03-04 14:30:00 UTC


def told(load, path, **options):
    """Return microseconds after the start, prices and sides of what is read."""
    ticks = load(path, **UTC | options)[1]
    times = [us - START for us in ticks["ts"].to_physical()]
    return times, ticks["price"].to_list(), ticks["side"].to_list()


# Sources ------------------------------------------------------------------------------------------

EXAMPLES = {
    "BTCUSDT": "1000,50.01,0.4,20.0,1709562600000,True,True\n"
    "1001,50.02,1,50.02,1709562601000000,False,True\n",
    "XBTUSD": "1709562600,50.01,0.4\n1709562601,50.02,1\n",
    "bitstampUSD": "1709562600,50.010000000000,0.4\n1709562601,50.020000000000,1.0\n",
    "EURUSD_Ticks_": "Gmt time,Ask,Bid,AskVolume,BidVolume\n"
    "04.03.2024 14:30:00.000,50.02,50.00,1,1\n04.03.2024 14:30:01.000,50.03,50.01,1,1\n",
    "EURUSD-2024": "EUR/USD,20240304 14:30:00.000,50.00,50.02\n"
    "EUR/USD,20240304 14:30:01.000,50.01,50.03\n",
    "DAT_ASCII": "20240304 093000000,50.00,50.02,0\n20240304 093001000,50.01,50.03,0\n",
    "taq_": "DATE,TIME_M,SYM_ROOT,SYM_SUFFIX,SIZE,PRICE\n20240304,9:30:00.000000,XYZ,,400,50.01\n"
    "20240304,9:30:00.5,OTHER,,1,1\n20240304,9:30:01.000000,XYZ,,1,50.02\n",
    "AMZN_": "34200.000000000,4,16113575,18,500100,1\n34200.5,1,16113575,18,470000,1\n"
    "34201.000000000,4,16113575,18,500200,-1\n",
    "xnas-itch": "ts_recv,ts_event,action,side,price,size,symbol\n"
    "1709562600000000009,1709562600000000000,T,A,50.010000000,4,XYZ\n"
    "1709562601000000009,1709562601000000000,T,B,50.020000000,4,XYZ\n",
    "us_stocks_sip": "ticker,conditions,price,sip_timestamp,size\n"
    '"OTHER","12,37",1,1709562600000000000,4\nXYZ,"12,37",50.01,1709562600000000000,4\n'
    "XYZ,,50.02,1709562601000000000,4\n",
}
NAMES = {"EURUSD-2024": "EURUSD-2024-03.zip", "AMZN_": "AMZN_2024-03-04_34200_57600_message_10.csv"}
SIDES = {"BTCUSDT": [-1, 1], "AMZN_": [-1, 1], "xnas-itch": [-1, 1]}


def test_first_column_without_a_name_is_the_time_where_no_other_is(load, put, tmp_path):
    data = TEXT.replace("timestamp", "", 1).encode()
    assert told(load, put(data))[:2] == ([0, 1_000_000], [50.01, 50.02])
    path = put(["0,2024-03-04 14:30:00,50.01,1"], header=",date,price,size")
    assert 'columns=["timestamp=date"]' in refuses(
        tmp_path, path, "has no column 'timestamp'", **UTC
    )


def test_names_in_brackets_are_no_web_page(load, put):
    rows = "2024.03.04\t14:30:00.000\t50.00\t50.02\n2024.03.04\t14:30:01.000\t50.01\t50.03\n"
    path = put(b"<DATE>\t<TIME>\t<BID>\t<ASK>\n" + rows.encode(), "EURUSD.csv")
    columns = ["timestamp=<DATE>+<TIME>", "bid=<BID>", "ask=<ASK>"]
    found = told(load, path, kind="quotes", columns=columns)
    assert found[0] == [0, 1_000_000] and found[1] == pytest.approx([50.01, 50.02])


def pack(name, data):
    """Return bytes as the ending of a name says."""
    if name.endswith(".zip"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("table.csv", data)
            archive.writestr("note.txt", "a status report")
        return stream.getvalue()
    packers = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda plain: arrow.compress(plain, "zstd", asbytes=True),
    }
    return packers.get(Path(name).suffix, bytes)(data)


def documented():
    """Return the parameters of each command in the README, by their source."""
    text = (ROOT / "notebooks/tick/README.md").read_text().split("## Other people's data")[1]
    found = [json.loads(each) for each in re.findall(r"PARAMS='(.*?)'\n", text, re.DOTALL)]
    return {each["source"].removeprefix("tick/"): each for each in found}


@pytest.mark.parametrize("source", documented())
def test_commands_of_the_readme_read_what_they_are_for(source, load, tmp_path, monkeypatch):
    options = {**documented()[source]}
    del options["source"], options["model_name"]
    key = next(key for key in EXAMPLES if source.startswith(key))
    name = NAMES.get(key, source.replace("*", "04"))
    path = tmp_path / "data" / "tick" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(pack(name, EXAMPLES[key].encode()))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    ticks = load(f"tick/{source}", **options)[1]
    assert [us - START for us in ticks["ts"].to_physical()] == [0, 1_000_000]
    assert ticks["price"].round(9).to_list() == [50.01, 50.02]
    assert ticks["side"].to_list() == SIDES.get(key, [0, 1])


def test_every_example_is_documented():
    assert all(any(source.startswith(key) for source in documented()) for key in EXAMPLES)


# Packing and formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".gz", ".zip", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["x{}", "x.csv", "x.parquet"])
def test_packing_is_told_by_the_first_bytes(tmp_path, load, kind, name):
    path = tmp_path / name.format(kind)
    path.write_bytes(pack(kind if kind == ".zip" else f"x{kind}", TEXT.encode()))
    assert told(load, str(path)) == ([0, 1_000_000], [50.01, 50.02], [0, 1])


@pytest.mark.parametrize("kind", [".gz", ".zip", ".bz2", ".xz", ".zst"])
def test_packed_file_that_is_cut_is_never_read_in_part(tmp_path, kind):
    lines = "".join(f"2024-03-04 14:30:00.{k:06},50.01,{k % 97}\n" for k in range(20_000))
    data = pack(kind if kind == ".zip" else f"x{kind}", f"{HEADER}\n{lines}".encode())
    (tmp_path / "x").write_bytes(data[:-30])
    refuses(tmp_path, str(tmp_path / "x"), "x cannot be read, it may be cut short", **UTC)


def test_zip_of_several_tables_is_refused_with_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, TEXT)
    refuses(tmp_path, str(tmp_path / "x.zip"), r"x.zip holds 2 files \(a.csv, b.csv\)")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT.encode("utf-16-le"), "is it UTF-16"),
        (TEXT.replace("size", "größe").encode("latin-1"), "no column 'size' .*'größe'"),
        (b'{"price": 1}', "is JSON"),
        (b"<!DOCTYPE html>", "is a web page, .*: fetch the file itself"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5, .*: write its table as Parquet"),
        (bytes(range(256)), "is neither text nor Parquet"),
        (gzip.compress(gzip.compress(TEXT.encode(), mtime=0), mtime=0), "packed twice"),
        (f"\n{TEXT}".encode(), "line 1 is '': remove the empty lines"),
    ],
)
def test_other_formats_are_called_by_their_name_and_never_damaged(tmp_path, put, data, message):
    assert "damaged" not in refuses(tmp_path, put(data), f"ticks.csv.* {message}", **UTC)


def test_value_that_is_no_utf8_is_named(tmp_path, put):
    text = TEXT.replace("size", "size,symbol").replace(",1\n", ",1,a\n").replace(",2\n", ",2,ä\n")
    path = put(text.encode("latin-1"))
    refuses(tmp_path, path, "line 3: symbol is 'ä', which is not in UTF-8", **UTC)


# Separators, decimal signs, names -----------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_separators_and_decimal_comma_need_no_word(put, load, separator, decimal):
    text = TEXT.replace(",", separator).replace(".", decimal)
    assert told(load, put(text.encode()))[1] == [50.01, 50.02]


def test_points_that_may_part_thousands_are_asked_for(put, load, tmp_path):
    path = put(
        TEXT.replace("50.01,1", "50,900").replace("50.02,2", "51,1.200").replace(",", ";").encode()
    )
    message = refuses(tmp_path, path, "size is '1.200' and '900': write nothing between", **UTC)
    assert "decimal=. in layout" in message
    assert told(load, path, layout=["decimal=."])[1] == [50, 51]
    path = put(TEXT.replace("02,2", "02,1.200").replace(",", ";").encode())
    assert told(load, path)[1] == [50.01, 50.02], "where the price says what a point is"


def test_quoted_decimal_comma_between_commas_is_asked_for(put, load, tmp_path):
    path = put(['2024-03-04 14:30:00,"50,01",1', '2024-03-04 14:30:01,"50,02",1'])
    message = refuses(tmp_path, path, "line 2: price is '50,01'; a number was expected", **UTC)
    assert 'layout=["decimal=,"]' in message
    assert told(load, path, layout=["decimal=,"])[1] == [50.01, 50.02]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("50.01;1,000", "50.02;1", "size is '1,000'; and .* has '50.01'"),
        ("50;1,000", "51;1", "size is '1,000'; and no number has a point"),
        ("1.234,56;1", "1.234,57;1", "price is '1.234,56'"),
        ("50,01;1", "50.02;1", "price is"),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_two_signs_in_numbers_are_refused(put, tmp_path, first, second, message, batch_rows):
    lines = [f"2024-03-04 14:30:00;{first}", f"2024-03-04 14:30:01;{second}"]
    path = put(lines, header=HEADER.replace(",", ";"))
    refuses(tmp_path, path, f"ticks.csv, line [23]: {message}", batch_rows=batch_rows, **UTC)


def test_header_in_other_case_with_quotes_and_blanks_is_the_same(put, load):
    path = put(LINES, header='Timestamp, "PRICE" ,SIZE')
    assert told(load, path)[1] == [50.01, 50.02]


@pytest.mark.parametrize("header", ["timestamp,price,size,price", "timestamp,PRICE,size,Price"])
def test_column_that_is_there_twice_is_refused(put, tmp_path, header):
    path = put([f"{line},1" for line in LINES], header=header)
    refuses(tmp_path, path, "ticks.csv has 'price' 2 times among its columns", **UTC)


def test_file_without_a_header_shows_how_to_name_its_columns(put, load, tmp_path):
    path = put(LINES[1:], header=LINES[0])
    proposal = 'layout=["names=timestamp,price,size"]'
    message = refuses(tmp_path, path, "line 1 has values and not names: '2024-03-04 14", **UTC)
    assert proposal in message
    assert told(load, path, layout=["names=timestamp,price,size"])[1] == [50.01, 50.02]


def test_names_given_are_checked_against_the_first_line(put, load, tmp_path):
    path = put(TEXT.encode())
    assert told(load, path, layout=["names=Timestamp,price,size"])[1] == [50.01, 50.02]
    for names, message in (("a,b", "seems to give names"), ("a,b,c", "seems to give names")):
        refuses(tmp_path, path, f"line 1.* {message}", layout=[f"names={names}"], **UTC)


def test_units_and_missing_values(put, load):
    lines = [
        f"2024-03-04 14:30:0{k},{price},1" for k, price in enumerate(["-", "NULL", 5001, 5002])
    ]
    options = {"columns": ["price=price [cents]"], "layout": ["missing=-"], "max_dropped": 1}
    report, ticks = load(put(lines), **UTC | options)
    assert ticks["price"].to_list() == [50.01, 50.02] and report.days["bad_price"].sum() == 2


@pytest.mark.parametrize("others", [["5002"], ["5002", ""], ["5002", "NULL"]])
@pytest.mark.parametrize("written", ["999999", "999999.0"])
def test_number_for_a_missing_value_is_one_whatever_stands_beside_it(put, load, others, written):
    prices = ["5001", written, *others]
    lines = [f"2024-03-04 14:30:0{k},{price},1" for k, price in enumerate(prices)]
    report, ticks = load(put(lines), **UTC, layout=["missing=999999"], max_dropped=1)
    assert ticks["price"].to_list() == [5001, 5002]
    assert report.days["bad_price"].sum() == len(others)


@pytest.mark.parametrize("values", [[True, False], [date(2024, 3, 4)] * 2])
def test_price_of_another_type_is_never_cast(tmp_path, values):
    frame = pl.DataFrame(
        {
            "timestamp": ["2024-03-04 09:00:00", "2024-03-05 09:00:00"],
            "price": values,
            "size": [1, 1],
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    refuses(tmp_path, str(tmp_path / "x.parquet"), "price is of type .*; numbers were", **UTC)


# Sides --------------------------------------------------------------------------------------------


def sided(put, *sides):
    lines = [
        f"2024-03-04 14:30:00.{k:06},{50 + k % 2 / 100},1,{side}" for k, side in enumerate(sides)
    ]
    return put(lines, header=f"{HEADER},side")


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (["A", "B", "N"], ["side.A=-1", "side.B=1", "side.N=0"]),
        (["sell", "buy"], ["side.buy=1", "side.sell=-1"]),
    ],
)
def test_words_for_sides_are_refused_with_what_maps_them(put, load, tmp_path, values, columns):
    path = sided(put, *values)
    message = refuses(tmp_path, path, f"line 2: side is '{values[0]}'; 1 .the buyer", **UTC)
    assert json.dumps(columns) in message and 'columns=["side="]' in message
    assert told(load, path, columns=columns)[2] == [-1, 1, 0][: len(values)]
    assert told(load, path, columns=["side="])[2] == [0, 1, -1][: len(values)]


def test_truth_values_are_never_cast(tmp_path, load):
    frame = pl.read_csv(TEXT.encode()).with_columns(maker=pl.Series([True, False]))
    frame.write_parquet(tmp_path / "x.parquet")
    path, columns = str(tmp_path / "x.parquet"), ["side=maker"]
    message = refuses(tmp_path, path, r"row 1: side \(maker\) is 'true'", columns=columns, **UTC)
    assert '["side.false=1", "side.true=-1"]' in message
    columns += ["side.true=-1", "side.false=1"]
    assert told(load, path, columns=columns)[2] == [-1, 1]


@pytest.mark.parametrize("values", [["true", "false"], ["1", "0"] * 60])
def test_meaning_of_a_flag_is_left_open_unless_its_name_is_of_makers(put, tmp_path, values):
    lines = [f"2024-03-04 14:{k // 60:02}:{k % 60:02},50.01,1,{v}" for k, v in enumerate(values)]
    for name, open_ in {"is_buy": True, "isBuyerMaker": False}.items():
        path = put(lines, header=f"{HEADER},{name}")
        message = refuses(tmp_path, path, "side", columns=[f"side={name}"], **UTC)
        assert ("=?" in message) is open_ and ("=-1" in message) is not open_


def test_value_without_a_meaning_is_refused_where_others_have_one(put, tmp_path):
    columns = ["side.b=1", "side.s=-1"]
    refuses(tmp_path, sided(put, "B", "1"), "line 3: side is '1'", columns=columns, **UTC)


def test_flag_of_zeros_and_ones_is_not_taken_for_sides(put, load, tmp_path):
    path = sided(put, *["1", "0"] * 60)
    message = refuses(tmp_path, path, "side is 0 or 1 in 120 rows and never -1", **UTC)
    assert 'columns=["side.1=?", "side.0=?"], -1 for 1 if that says' in message
    assert told(load, path, columns=["side.1=-1", "side.0=1"])[2] == [-1, 1] * 60


@pytest.mark.parametrize("batch_rows", [1, 100])
@pytest.mark.parametrize("nothing", ["", "NULL"])
def test_column_without_a_side_is_as_if_it_were_not_there(put, load, batch_rows, nothing):
    path = sided(put, nothing, nothing, nothing)
    assert told(load, path, batch_rows=batch_rows)[2] == [0, 1, -1]


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_column_with_one_side_late_counts_from_its_first_row(put, load, batch_rows):
    assert told(load, sided(put, "", "", "-1"), batch_rows=batch_rows)[2] == [0, 0, -1]


# Times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-03-04 14:30:00+00", "2024-03-04 14:30:01+00"),
        ("2024-03-04 16:30:00 +02:00", "2024-03-04 16:30:01.0 +0200"),
        ("2024-03-04 14:30:00 UTC", "2024-03-04 14:30:01.000 UTC"),
        ("2024/03/04 14:30:00", "2024/03/04 14:30:01.000"),
        ("2024.03.04 14:30:00.000", "2024.03.04 14:30:01"),
        ("20240304143000", "20240304143001"),
        ("20240304143000000", "20240304143001000"),
        ("20240304T143000Z", "20240304T143001Z"),
        ("20240304 14:30:00.000", "20240304 14:30:01.000"),
        ("20240304-14:30:00", "20240304-14:30:01.000"),
        ("2024-03-04D14:30:00.000000000", "2024-03-04D14:30:01.000000000"),
        ("4-Mar-2024 14:30:00", "04-Mar-2024 14:30:01.0"),
        ("2024-03-04 02:30:00 PM", "2024-03-04 02:30:01.000 PM"),
        ("1709562600", "1709562601.0"),
        ("1709562600.000000", "1709562601"),
        ("1709562600000", "1709562601000000"),
        ("1709562600000000000", "1709562601000"),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_times_that_can_be_meant_in_one_way_need_no_word(put, load, first, second, batch_rows):
    path = put([f"{first},50.01,1", f"{second},50.02,1"])
    assert told(load, path, batch_rows=batch_rows)[0] == [0, 1_000_000]


@pytest.mark.parametrize(
    "clock", ["2024-03-04 14:30:0{} UTC", "20240304T14300{}Z", "2024-03-04 14:30:0{}+00"]
)
def test_times_that_name_utc_do_not_take_the_time_zone(put, load, clock):
    path = put([f"{clock.format(k)},50,1" for k in (0, 1)])
    assert told(load, path, time_zone="Asia/Tokyo")[0] == [0, 1_000_000]


def test_fractions_of_epoch_seconds_are_right_to_the_microsecond(put, load):
    path = put([f"1709562600.{us:06},1,1" for us in (0, 1, 123_457, 999_999)])
    assert told(load, path)[0] == [0, 1, 123_457, 999_999]


@pytest.mark.parametrize(
    ("clock", "proposal"),
    [
        ("04.03.2024 14:30:0{}.000", "time=%d.%m.%Y %H:%M:%S.%f"),
        ("03/04/2024 02:30:0{} PM", "time=%m/%d/%Y %I:%M:%S %p"),
        ("04.03.24 14:30:0{}", "time=%d.%m.%y %H:%M:%S"),
    ],
)
def test_other_times_are_refused_with_their_format_which_reads_them(
    put, load, tmp_path, clock, proposal
):
    path = put([f"{clock.format(k)},50,1" for k in (0, 1)])
    message = refuses(tmp_path, path, "line 2: the timestamp is ", **UTC)
    assert f'layout=["{proposal}"]' in message and clock.format(0) in message
    assert told(load, path, layout=[proposal])[0] == [0, 1_000_000]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("17095626000000", "seconds, milli-, micro- or nanoseconds since 1970 were expected"),
        ("202403041430", "seconds, milli-"),
        ("20240304", r'columns=\["timestamp=DATE\+TIME"\]'),
        ("34200.5", r'layout=\["time=s of day"\]'),
        ("14:30:00", "it has no date"),
        ("1.7095626E+12", "lost its last digits in a spreadsheet"),
        ("9999-12-31 00:00:00", "ticks are of 1900 to 2200"),
        ("20241304143000", "a time of the format %Y%m%d%H%M%S was expected"),
    ],
)
def test_times_of_no_use_are_refused_with_the_way_out(put, tmp_path, value, message):
    refuses(tmp_path, put([f"{value},1,1"]), f"line 2: the timestamp is .*{message}", **UTC)


def test_number_of_another_size_later_in_a_file_is_named(put, tmp_path):
    path = put(["1709562600000,1,1", "17095626010000,1,1"])
    refuses(tmp_path, path, "line 3: the timestamp is 17095626010000; seconds", **UTC)


def test_time_that_does_not_follow_the_layout_is_named(put, tmp_path):
    path = put(["04.03.2024 14:30:00,1,1", "2024-03-04 14:30:01,1,1"])
    layout = ["time=%d.%m.%Y %H:%M:%S"]
    refuses(tmp_path, path, "line 3: the timestamp is .* of the format %d", layout=layout, **UTC)
    refuses(tmp_path, path, "line 2: .*; ms since 1970|number", layout=["time=ms"], **UTC)


@pytest.mark.parametrize("layout", ["time=%Z", "time=%H"])
def test_formats_that_cannot_be_read_are_refused_at_once(put, tmp_path, layout):
    refuses(tmp_path, put(TEXT.encode()), "layout has time='%", layout=[layout], **UTC)


@pytest.mark.parametrize(
    ("layout", "clock"),
    [("s of day", "{}.5"), ("ms of day", "{}500"), ("%H:%M:%S.%f", "14:30:0{}.5")],
)
def test_times_of_day_take_the_date_of_the_files_name(put, load, tmp_path, layout, clock):
    values = [f"{clock.format(52_200 + k if 'day' in layout else k)},50,1" for k in (0, 1)]
    options = {"layout": [f"time={layout}"]}
    assert told(load, put(values, "2024-03-04.csv"), **options)[0] == [500_000, 1_500_000]
    refuses(tmp_path, put(values), "has times of day and no date in its name", **options, **UTC)


def test_dates_and_times_of_two_columns_of_parquet_are_put_together(tmp_path, load):
    frame = pl.DataFrame({"day": [date(2024, 3, 4)] * 2, "at": [time(14, 30), time(14, 30, 1)]})
    frame = frame.with_columns(price=50.0, size=1)
    frame.write_parquet(tmp_path / "x.parquet")
    path, columns = str(tmp_path / "x.parquet"), ["timestamp=day+at"]
    assert told(load, path, columns=columns)[0] == [0, 1_000_000]


def test_compact_dates_are_read_from_whole_numbers_of_parquet_too(tmp_path, load):
    frame = pl.DataFrame({"timestamp": [20240304143000, 20240304143001], "price": 50.0, "size": 1})
    frame.write_parquet(tmp_path / "x.parquet")
    assert told(load, str(tmp_path / "x.parquet"))[0] == [0, 1_000_000]


@pytest.mark.parametrize("entry", ["price=", "price.x=1", "side.A=2", "timestamp=a+b+c"])
def test_columns_that_cannot_be_are_refused(put, tmp_path, entry):
    refuses(tmp_path, put(TEXT.encode()), "columns (gives|has)", columns=[entry], **UTC)


@pytest.mark.parametrize(("number", "unit"), [(2**62, "ms"), (2**63 - 1, "us"), (-(2**62), "us")])
def test_timestamps_beyond_all_years_are_named_and_never_wrap(tmp_path, number, unit):
    times = pl.Series([1_709_562_600_000, number]).cast(pl.Datetime(unit))
    frame = pl.DataFrame({"timestamp": times, "price": 50.0, "size": 1})
    frame.write_parquet(tmp_path / "x.parquet")
    message = f"row 2: the timestamp is {number}; ticks are of 1900 to 2200"
    refuses(tmp_path, str(tmp_path / "x.parquet"), message, **UTC)
