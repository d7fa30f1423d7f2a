"""Inputs as strangers bring them: read right, or refused with the way out."""

import gzip
import io
import re

from lib.commands.look import look
from lib.ground import layout
from lib.ground.parameters import merge_parameters

import bad_inputs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as arrow
import pyarrow.parquet
import pytest
from bad_inputs import UTC, Case, outcome, put, text

N = 40
HOURS = [f"2024-03-{4 + k // 24:02} {k % 24:02}:00:00" for k in range(N)]
KW = [f"{0.3 + k % 9 / 10:.3f}" for k in range(N)]
POWER = {"columns": ["timestamp=datetime", "power_kw=power"]}
HOUSE = text(*map(",".join, zip(HOURS, KW, strict=True)), header="datetime,power")
TRADES = bad_inputs.tick_trades()
PRICES = pl.read_csv(TRADES, infer_schema=False)["price"].to_arrow()
PIXELS = bad_inputs.image_csv()
NOTES = b'Name,JANE DOE\nAddress,"1 MAIN ST, APT 4"\nAccount Number,123\n\n'
MAC = b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40)


def house(hour=lambda k: HOURS[k], kw=lambda k: KW[k], header="datetime;power"):
    return text(*(f"{hour(k)};{kw(k)}" for k in range(N)), header=header)


def cut_out():
    """Return a Parquet file whose index begins elsewhere, with days as a type and times as text."""
    ts = pd.to_datetime(pd.Series(HOURS))
    frame = pd.DataFrame({"day": ts.dt.normalize(), "hour": ts.dt.strftime("%H:%M:%S")})
    frame = frame.assign(power=np.array(KW, float)).set_axis(range(7, 7 + N))
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


POWER_OF_TWO = {"columns": ["timestamp=day+hour", "power_kw=power"]}


def trades(**columns):
    """Return a Parquet file of trades, with some columns as they are given."""
    frame = pl.read_csv(TRADES)
    table = frame.drop(columns.keys() & {*frame.columns}).to_arrow()
    for name, values in columns.items():
        table = table.append_column(name, values)
    stream = io.BytesIO()
    arrow.parquet.write_table(table, stream)
    return stream.getvalue()


def truths(time=None, kw=(True,) * N):
    """Return a Parquet file of power that is true or false."""
    table = {"datetime": [time or hour for hour in HOURS], "power": list(kw)}
    stream = io.BytesIO()
    arrow.parquet.write_table(arrow.table(table), stream)
    return stream.getvalue()


def marked(change):
    """Return trades with something done to each line but the first."""
    first, *rows = TRADES.decode().splitlines()
    return text(*map(change, rows), header=first)


READ = {
    "Excel's line of the separator": ("power", {"h.csv": b"sep=;\r\n" + house()}, POWER),
    "Excel's line, commas": ("power", {"h.csv": b"sep=,\n" + HOUSE}, POWER),
    "latin-1 in the header": (
        "power",
        {"h.csv": house(header="datetime;K\xfcche").decode().encode("latin-1")},
        {"columns": ["timestamp=datetime", "power_kw=Küche"]},
    ),
    "blanks between columns": (
        "power",
        {"h.csv": HOUSE.replace(b",", b" ").replace(b" power", b" time power", 1)},
        {"columns": ["timestamp=datetime+time", "power_kw=power"]},
    ),
    "names of the header given": (
        "power",
        {"h.csv": HOUSE},
        {**POWER, "layout": ["names=datetime,power"]},
    ),
    "notes before the header": (
        "power",
        {"h.csv": NOTES + HOUSE},
        {**POWER, "layout": ["skip=4"]},
    ),
    "notes and no header": (
        "power",
        {"h.csv": NOTES + HOUSE.partition(b"\n")[2]},
        {**POWER, "layout": ["skip=4", "names=datetime,power"]},
    ),
    "notes, then Excel's line": (
        "power",
        {"h.csv": NOTES + b"sep=,\n" + HOUSE},
        {**POWER, "layout": ["skip=4"]},
    ),
    "notes of trades, packed": (
        "tick",
        {"AAA.csv.gz": gzip.compress(b"# by a broker, in UTC\r\n\r\n" + TRADES)},
        {**UTC, "layout": ["skip=2"]},
    ),
    "a table cut out of another, typed dates": ("power", {"h.parquet": cut_out()}, POWER_OF_TWO),
    "a glob beside litter": ("power", {"h.csv": HOUSE, "._h.csv": MAC}, POWER),
    "Excel's line of trades": ("tick", {"AAA.csv": b"sep=,\n" + TRADES}, UTC),
    "a folder with litter": ("tick", {"AAA.csv": TRADES, "._AAA.csv": MAC, ".DS_Store": MAC}, UTC),
    "several members of gzip": (
        "tick",
        {"AAA.csv.gz": gzip.compress(TRADES[:500]) + gzip.compress(TRADES[500:])},
        UTC,
    ),
    "prices of a dictionary": (
        "tick",
        {
            "x.parquet": trades(
                price=pl.read_csv(TRADES, infer_schema=False)["price"]
                .to_arrow()
                .dictionary_encode()
            )
        },
        UTC,
    ),
    "Parquet packed by gzip": ("tick", {"x.parquet.gz": gzip.compress(trades())}, UTC),
    "blanks around symbols": (
        "tick",
        {"x.parquet": trades(symbol=arrow.array(["AAA ", "AAA"] * (N // 2)))},
        UTC,
    ),
    "CSV of pixels in UTF-16": (
        "images",
        {"x.csv": bad_inputs.image_csv().decode().encode("utf-16")},
        {},
    ),
}
CLEAN = {
    "power": ("power", {"h.csv": HOUSE}, POWER),
    "tick": bad_inputs.CLEAN["trades"],
    "images": bad_inputs.CLEAN["CSV of pixels"],
}


@pytest.mark.parametrize("name", READ)
def test_stranger_is_read_as_it_is_meant(name, tmp_path):
    reader, files, given = READ[name]
    whose, clean, options = CLEAN[reader]
    (tmp_path / "clean").mkdir()
    wanted = bad_inputs.read(reader, put(Case(whose, "", clean), tmp_path / "clean"), options)
    (tmp_path / "given").mkdir()
    assert outcome(Case(reader, name, files, given), tmp_path / "given", wanted) == bad_inputs.READ


REFUSED = {
    "thousands by hard blanks": (
        "power", house(kw=lambda k: "1\xa0500,5"), POWER, ["line 2", "nothing between thousands"]
    ),
    "a minus of typographers": (
        "power", house(kw=lambda k: "\u22120.3"), POWER, ["line 2, column power", "number alone"]
    ),
    "days of Excel": ("power", house(lambda k: f"45355.{k:02}"), POWER, ["line 2", "Excel counts"]),
    "digits lost": ("power", house(lambda k: "1.70407e+18"), POWER, ["line 2", "spreadsheet"]),
    "a month in German": (
        "power", house(lambda k: f"{1 + k:02}. Mai 2024"), POWER, ["line 2", "%d.%m.%Y %H:%M:%S"]
    ),
    "thousands": (
        "tick", marked(lambda row: re.sub(r",(\d+\.\d+),", r',"1,\1",', row)), UTC,
        ["line 2: price is '1,100.00'", "thousands"],
    ),
    "prices with their currency": (
        "tick", marked(lambda row: row.replace(",100.", ",$100.")), UTC, ["line 2", "number alone"]
    ),
    "midnight as 24:00": (
        "tick", marked(lambda row: row.replace("14:30:19", "24:00:00")), UTC,
        ["line 21", "00:00:00 of the next day"],
    ),
    "a sum in the last line": ("tick", TRADES + b"Total,,820,\n", UTC, ["line 42", "'Total'"]),
    "the name of a zone": (
        "tick", marked(lambda row: row.replace(",", " EST,", 1)), UTC, ["line 2", "time_zone"]
    ),
    "the place of a zone": (
        "tick", marked(lambda row: re.sub("^([^,]*)", r"\1 US/Eastern", row)), UTC,
        ["line 2", "US/Eastern", "names of zones are not read"],
    ),
    "sides of 1 and 2": (
        "tick", marked(lambda row: row.replace(",-1", ",2")), UTC, ['"side.1=?", "side.2=?"']
    ),
    "truth values of power": (
        "power", truths(), POWER, ["row 1, column power: 'True' is not a number"]
    ),
    "truth values among none": (
        "power", truths(kw=[None, *[True] * (N - 1)]), POWER, ["row 2, column power: 'True'"]
    ),
    "times of a structure": (
        "power", truths({"at": "2024-03-04"}), POWER, ["row 1, column datetime", "is not a time"]
    ),
    "notes before the header": ("power", NOTES + HOUSE, POWER, ["line 1", 'layout=["skip=4"]']),
    "remarks before the header": (
        "tick", b"# by a broker\n# in UTC\n" + TRADES, UTC, ["line 1", 'layout=["skip=2"]']
    ),
    "a table of notes, then another": (
        "power", b"Meter;Unit;Step\n1;kW;60\n" + house(), POWER, ["line 1", 'layout=["skip=2"]']
    ),
    "more lines skipped than there are": (
        "power", HOUSE, {**POWER, "layout": ["skip=41"]}, ["has 41 lines", "fewer"]
    ),
    "a word below skipped notes": (
        "power", NOTES + HOUSE.replace(b"0.500", b"low"), {**POWER, "layout": ["skip=4"]},
        ["line 8, column power: 'low'"],
    ),
    "a power in two registers": (
        "power", house(lambda k: HOURS[k // 2]),
        {"columns": ["timestamp=datetime", "power_kw=power [kWh]"]}, ["line 3", "what is twice"],
    ),
    "no row below the header": (
        "tick", TRADES[:26] + b"\n", UTC, ["holds no rows", "leave it out"]
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_stranger_is_refused_with_the_way_out_by_the_reader_and_by_the_look(name, tmp_path):
    reader, data, given, words = REFUSED[name]
    path = put(Case(reader, name, {"AAA.csv": data}), tmp_path)
    known = merge_parameters(layout.declared(reader))
    options = {key: one.default for key, one in known.items()} | given
    for read in (
        lambda: bad_inputs.read(reader, path, given),
        lambda: look(reader, str(path), options),
    ):
        with pytest.raises(ValueError, match="AAA.csv") as error:
            read()
        assert all(word in str(error.value) for word in words), str(error.value)


def test_first_image_is_not_lost_where_labels_are_words_and_no_line_names_columns(tmp_path):
    rows = [",".join([label, str(k), *["7"] * 255]) for k, label in enumerate("abab")]
    path = put(Case("images", "", {"x.csv": text(*rows)}), tmp_path)
    images = bad_inputs.read("images", path, {"columns": ["label=1"], "test_share": 0.5})
    assert len(images.y_train) + len(images.y_test) == len(rows)
