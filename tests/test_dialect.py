"""What a source calls its columns, and how its text is written, as a form or a command says it."""

from lib.dialect import Column, Layout, read_columns, read_layout

import pytest

STANDARD = ["timestamp", "price", "side"]
UNITS = {"price": ["cents"]}


def test_columns_say_names_units_parts_meanings_and_what_is_not_there():
    entries = ["timestamp = DATE+TIME_M", "price=px [cents]", "side.A=-1", "side.B=1"]
    found = read_columns(entries, STANDARD, UNITS)
    assert found["timestamp"] == Column(("DATE", "TIME_M"))
    assert found["price"] == Column(("px",), "cents")
    assert found["side"] == Column(("side",), "", {"A": "-1", "B": "1"})
    assert read_columns(["side="], STANDARD, UNITS)["side"].names == ()
    assert read_columns(["side.A=-1", "side=aggressor"], STANDARD, UNITS)["side"] == Column(
        ("aggressor",), "", {"A": "-1"}
    )


def test_sign_plus_joins_the_parts_of_a_time_and_belongs_to_any_other_name():
    assert read_columns(["price=A+ [cents]"], STANDARD, UNITS)["price"].names == ("A+",)
    assert read_columns(["timestamp=DATE + TIME"], STANDARD, UNITS)["timestamp"].names == (
        "DATE",
        "TIME",
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("px", r"columns has 'px': give standard=theirs, as timestamp=theirs; .* price, side"),
        ("px=price", "the standard columns are timestamp, price, side"),
        ("price=px [pence]", "'pence' is no unit of price, give cents"),
        ("side=x [m]", "'m' is no unit of side, give none"),
    ],
)
def test_wrong_entry_of_columns_is_named_with_what_there_is(entry, message):
    with pytest.raises(ValueError, match=message):
        read_columns([entry], STANDARD, UNITS)


def test_layout_says_how_text_is_written():
    assert read_layout(["missing=-,?", "missing=n.a"]).missing == ("-", "?", "n.a")
    entries = ["names=time, price,size", "separator=tab", "decimal=,", "missing=NULL,-", "skip=5"]
    found = read_layout([*entries, "time=%d.%m.%Y %H:%M:%S.%f"])
    assert found == Layout(
        ("time", "price", "size"), "\t", ",", "%d.%m.%Y %H:%M:%S.%f", ("NULL", "-"), 5
    )
    assert read_layout(["time=ms"]).time == "ms" and read_layout([]) == Layout()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("sep=;", "layout has 'sep=;': give names=, separator=, decimal=, time=, missing="),
        ("time=", "layout has 'time='"),
        ("time=epoch", "give a format as .* or one of s, ms, us, ns"),
        ("skip=-1", "layout has 'skip=-1': give the number of lines before the header"),
        ("decimal=;;", "give one character, or of separators one of comma"),
    ],
)
def test_wrong_entry_of_layout_is_named_with_what_there_is(entry, message):
    with pytest.raises(ValueError, match=message):
        read_layout([entry])
