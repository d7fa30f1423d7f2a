"""Charts: what `lines` says of a frame, and what `chart_file.parse` lets through."""

import json

from lib import charts
from lib.ground import chart_file
from lib.pages import viewer
from lib.run import open_run

import numpy as np
import pandas as pd
import pytest

DAYS = pd.date_range("2024-03-01", periods=3, freq="D", tz="Europe/Paris")


def chart(**changes):
    frame = pd.DataFrame({"truth": [1.0, np.nan, 3.0], "a_b": [0.12346, 2.0, 3.0]}, DAYS)
    return charts.lines(frame, xlabel="time", ylabel="power (kW)", **changes)


def places(one):
    steps = one["x"]["steps"]
    n_rows = len(one["series"][0]["values"])
    steps = steps if isinstance(steps, list) else [steps] * (n_rows - 1)
    return np.cumsum([one["x"]["start"], *steps]).tolist()


def test_chart_holds_the_numbers_of_a_frame_with_its_gaps_and_the_clock_as_it_was_written():
    made = chart(kinds={"truth": "area"}, muted=["truth"], hidden=["a_b"], view=DAYS[[1, 2]])
    midnight = pd.Timestamp("2024-03-01", tz="UTC").timestamp()
    assert places(made) == [midnight, midnight + 86400, midnight + 2 * 86400]
    assert made["view"] == [midnight + 86400, midnight + 2 * 86400]
    truth, other = made["series"]
    assert truth["values"] == [1, None, 3] and other["values"] == [0.1235, 2, 3]
    assert (truth["kind"], other["kind"]) == ("area", "line")
    assert truth["muted"] and not truth["hidden"] and other["hidden"]
    assert other["label"] == "a b" and made["y"]["label"] == "power (kW)"


def test_chart_leaves_a_gap_where_a_regular_index_lacks_a_time():
    hours = pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 03:00"])
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0]}, hours)
    made = charts.lines(frame, xlabel="t", ylabel="a")
    assert made["series"][0]["values"] == [1, 2, None, 4] and made["x"]["steps"] == 3600
    made = charts.lines(frame, xlabel="t", ylabel="a", joined=True)
    assert made["series"][0]["values"] == [1, 2, 4] and made["x"]["steps"] == [3600, 7200]


def test_chart_of_many_rows_keeps_the_extremes_in_their_order_and_says_so(monkeypatch):
    monkeypatch.setattr(charts, "MAX_ROWS", 100)
    values = np.zeros(1000)
    values[[501, 507]] = 7, -7
    made = charts.lines(pd.DataFrame({"a": values}), xlabel="n", ylabel="a")
    kept = made["series"][0]["values"]
    assert len(kept) <= 100 and [v for v in kept if v] == [7, -7]
    assert made["note"] == "Every two points are the lowest and the highest value of 20 rows."
    assert chart()["note"] == ""


@pytest.mark.slow
def test_chart_of_any_frame_fits_into_what_is_read_again():
    rng = np.random.default_rng(0)
    index = np.cumsum(rng.uniform(0, 1e6, 20_000))
    frame = pd.DataFrame(-rng.uniform(1e-9, 1e-8, (20_000, 40)), index)
    made = charts.lines(frame, xlabel="x", ylabel="y", about=["x" * 200] * 20_000)
    assert 1400 < len(made["series"][0]["values"]) <= 1500 and "about" not in made
    few = charts.lines(frame.iloc[:1500], xlabel="x", ylabel="y", about=["x" * 300] * 1500)
    assert "about" not in few and few["note"] == ""


@pytest.mark.parametrize(
    ("frame", "more", "reason"),
    [
        (pd.DataFrame({"a": [1.0, np.inf]}), {}, "infinite"),
        (pd.DataFrame({"a": [1.0, 2.0]}, [1, 0]), {}, "in order"),
        (pd.DataFrame({"a": [1.0]}, ["x"]), {}, "numbers or times"),
        (pd.DataFrame({"a": []}, dtype=float), {}, "must be a row"),
        (pd.DataFrame({"a": [1.0]}), {"kinds": {"a": "pie"}}, "expected line, area"),
        (pd.DataFrame({"a": [1.0]}), {"about": ["x", "y"]}, "2 notes for 1 rows"),
        (pd.DataFrame(np.ones((1, 41))), {}, "series breaks the rule maxItems"),
    ],
)
def test_frame_that_is_no_chart_is_refused(frame, more, reason):
    with pytest.raises(ValueError, match=reason):
        charts.lines(frame, xlabel="x", ylabel="y", **more)


def hostile(change):
    whole = chart(view=DAYS[[0, 2]], about=["a", "b", "c"])
    change(whole)
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b"null",
        b'{"x": 1e999}',
        json.dumps([chart()] * 5).encode(),
        hostile(lambda c: c.pop("y")),
        hostile(lambda c: c["y"].update(label=3)),
        hostile(lambda c: c["y"].update(label="a\x00b")),
        hostile(lambda c: c["y"].update(label="x" * 301)),
        hostile(lambda c: c["y"].update(label="\ud800")),
        hostile(lambda c: c["y"].update(label="x\n")),
        hostile(lambda c: c.update({"x" * 200: 1})),
        hostile(lambda c: c["x"].update(start=True)),
        hostile(lambda c: c["x"].update(start=float("nan"))),
        hostile(lambda c: c["x"].update(start=1e18)),
        hostile(lambda c: c["x"].update(steps=-1)),
        hostile(lambda c: c["x"].update(steps=[1])),
        hostile(lambda c: c["series"].clear()),
        hostile(lambda c: c["series"][0].update(kind="script")),
        hostile(lambda c: c["series"][0].update(muted="yes")),
        hostile(lambda c: c["series"][0]["values"].append(1)),
        hostile(lambda c: c["series"][0].update(values=["1", 2, 3])),
        hostile(lambda c: c["series"][0].update(values=[10**400, 2, 3])),
        hostile(lambda c: c["view"].reverse()),
        hostile(lambda c: c.update(about=[1, 2, 3])),
    ],
)
def test_file_that_is_no_chart_is_refused_without_repeating_it(data):
    with pytest.raises(ValueError, match=r"^f\.chart\.json is no chart: ") as caught:
        chart_file.parse(data, "f.chart.json")
    assert len(str(caught.value)) < 120


def test_chart_is_taken_as_it_is_and_one_with_more_than_that_is_refused():
    known = chart(view=DAYS[[0, 2]], about=["a", "b", "c"])
    assert chart_file.parse(json.dumps(known).encode()) == [known]
    for change in ({"onload": "x"}, {"y": {"label": "y", "href": "javascript:x"}}):
        with pytest.raises(ValueError, match="no chart: data.* breaks the rule additionalProp"):
            chart_file.parse(json.dumps(known | change).encode())


def test_text_in_a_chart_cannot_leave_its_element():
    made = chart()
    made["y"]["label"] = "</script><img src=x onerror=alert(1)>&amp;"
    text = viewer.image(b"", "x", chart_file.parse(json.dumps(made).encode()))
    inside = text.partition('<script type="application/json">')[2].removesuffix("</script>")
    assert not set("<>&") & set(inside)
    assert json.loads(inside)[0]["y"]["label"] == made["y"]["label"]


def test_chart_is_found_beside_its_figure_and_never_read_when_large(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("power/a", stage="05_evaluate")
    run.write("forecast.chart.json", [chart(), chart()])
    assert chart_file.beside(run.path / "forecast.png") == [chart(), chart()]
    assert chart_file.beside(run.path / "errors.png") == []
    assert b"\n" not in (run.path / "forecast.chart.json").read_bytes().strip()
    with (run.path / "forecast.chart.json").open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(ValueError, match=r"104,857,600 bytes: expected 1,048,576 at most"):
        chart_file.beside(run.path / "forecast.png")
