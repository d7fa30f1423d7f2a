"""`make look`: what it recognises, what it counts, and that the commands it prints work."""

import gzip
import json
import re
import shlex
import sys
import types
from pathlib import Path

from lib.commands import cli, look, new
from lib.dialect import number_hint
from lib.ground import layout
from lib.ground.dataset import Dataset
from lib.ground.parameters import check_values, merge_parameters
from lib.looks import Look, command, look_at_frame, odd_columns
from lib.power.load import load_power
from lib.power.look import look_at_power
from lib.registry.rows import MissingPart
from lib.tick.load import load_ticks
from lib.tick.look import OPTIONS, look_at_ticks

import numpy as np
import pandas as pd
import pytest
from image_files import arrays_of, write
from upath import UPath

DUKASCOPY = "Gmt time,Ask,Bid\n" + "".join(
    f"{day:02}.03.2024 14:30:{second:02}.000,50.{second:02}5,50.{second:02}\n"
    for day in (4, 5, 6)
    for second in range(40)
)
MAINS = "at;W\n" + "".join(
    f"{1 + k // 24:02}.02.2024 {k % 24:02}:00;{300 + k % 24},5\n" for k in range(24 * 25)
)


@pytest.fixture
def typed(capsys):
    """Look as one would type it; return the exit status and what is printed."""

    def run(pipeline, source, **params):
        arguments = ["--pipeline", pipeline, "--params", json.dumps(params), "--", str(source)]
        return cli.main(["look", *arguments]), capsys.readouterr().out

    return run


@pytest.fixture
def put(tmp_path):
    """Write text to a file below a temporary folder."""

    def write_text(text, name):
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(tmp_path / name)

    return write_text


def params_of(printed, verb):
    """Return the parameters in the command that is printed last."""
    line = next(line for line in printed.splitlines()[::-1] if line.startswith(f"make {verb} "))
    given = [word.partition("=")[2] for word in shlex.split(line) if word.startswith("PARAMS=")]
    return json.loads(given[0]) if given else {}


def defaults(pipeline, **given):
    known = merge_parameters(layout.declared(pipeline))
    return {name: one.default for name, one in known.items()} | given


def follow(typed, pipeline, source, **given):
    """Do what each refusal proposes until the source is read; return what a run is given."""
    for _ in range(6):
        status, printed = typed(pipeline, source, **given)
        if status == 0:
            params = params_of(printed, "run")
            known = merge_parameters(layout.declared(pipeline))
            assert check_values(known, params, owner=pipeline)["source"] == source
            return params, printed
        given = params_of(printed, "look")
    raise AssertionError(printed)


@pytest.mark.slow
def test_what_is_proposed_leads_to_quotes_of_dukascopy(typed, put, tmp_path):
    path = put(DUKASCOPY, "EURUSD_Ticks.csv.gz")
    params, printed = follow(typed, "tick", path, time_zone="UTC", session="00:00-24:00")
    assert params["kind"] == "quotes" and params["columns"] == ["timestamp=Gmt time"]
    assert params["layout"] == ["time=%d.%m.%Y %H:%M:%S.%f"]
    assert params["train_days"] == 2 and params["model_name"] == "tick_eurusd"
    assert re.search(r"packed by +gzip", printed) and "120 rows read = 120 kept" in printed
    assert "04.03.2024 14:30:00.000  2024-03-04 14:30:00+00:00" in printed
    assert "the days are too short" in printed, "which a run would say after its first stages"
    given = {name: params[name] for name in OPTIONS if name in params}
    assert load_ticks(path, Dataset(UPath(tmp_path / "clean")), **given).n_ticks == 120


def test_what_is_proposed_leads_to_the_mains_of_a_house(typed, put):
    path = put(MAINS, "house_7.csv")
    params, printed = follow(typed, "power", path, columns=["power_kw=W [W]", "timestamp=at"])
    assert params["layout"] == ["time=%d.%m.%Y %H:%M"], (
        "a day after the twelfth says which is which"
    )
    assert params["weeks"] < 4, "25 days are too few for what reaches back four weeks"
    assert params["model_name"] == "power_house_7"
    assert "600 rows read = 600 kept" in printed and re.search("separator +';'", printed)
    frame = load_power(path, columns=params["columns"], layout=params["layout"])
    assert frame["power_kw"].iloc[0] == 0.3005 and frame.attrs["rows"]["kept"] == 600


@pytest.mark.parametrize("unit", ["kW", "W", "kWh", "Wh"])
def test_number_for_a_missing_value_is_proposed_alone_and_as_it_stands_in_the_file(put, unit):
    values = {0: 1, 15: 9999, 30: 9999, 45: 1}
    path = put("".join(f"2024-03-04 10:{m:02},{v}\n" for m, v in values.items()), "h.csv")
    given = {"columns": [f"power_kw=P [{unit}]"], "layout": ["names=time,P"], "max_power_kw": 5.0}
    with pytest.raises(ValueError, match="2 such rows") as error:
        load_power(path, **given)
    known = merge_parameters(layout.declared("power"))
    tried = look.proposed(str(error.value), given, known)
    assert tried == {"layout": ["names=time,P", "missing=9999"]}
    assert load_power(path, **{**given, **tried})["power_kw"].isna().sum() == 2


def test_refusal_shows_the_beginning_and_the_reason_once(typed, put):
    status, printed = typed("tick", put("1,2,3\n4,5,6\n", "x.csv"))
    assert status == 1 and printed.startswith("refused: x.csv, line 1 has values and not names")
    assert "It begins:\n  1,2,3\n  4,5,6\n" in printed
    assert printed.count("make look") == 1


def test_column_of_times_is_proposed_without_names_that_would_deny_the_header(typed, put):
    status, printed = typed("power", put("Day,Hour,kW\n2024-03-04,00:00,1\n", "x.csv"))
    assert status == 1 and params_of(printed, "look") == {"columns": ["timestamp=..."]}


def test_refusal_of_a_reader_ends_with_the_command(put, tmp_path):
    path = put("a;b\n1;2\n", "my house.csv")
    with pytest.raises(
        ValueError, match=f"To see how it is read: {command('look', 'power', path, {})}$"
    ):
        load_power(path)
    with pytest.raises(ValueError, match=r"PIPELINE=tick SOURCE='.*my house.csv'$"):
        load_ticks(path, Dataset(UPath(tmp_path / "clean")))


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", layout.pipelines(ending="_register"))
def test_every_pipeline_can_look_at_its_sample(pipeline):
    known = defaults(pipeline)
    small = {"sample_days": 40, "sample_ticks": 1_000}
    found = look.look(pipeline, "sample", known | {k: v for k, v in small.items() if k in known})
    assert isinstance(found, Look) and "rows read = " in repr(found)


def test_cell_of_a_load_stage_looks_with_its_own_parameters():
    for name, look_at in (("tick", look_at_ticks), ("power", look_at_power)):
        own = {p.name: p.default for p in layout.declared(name)["01_load"].values()}
        own |= {"sample_ticks": 1_000} if name == "tick" else {"sample_days": 5}
        assert "rows read = " in repr(look_at("sample", own, most_rows=100_000))


def test_column_that_gives_another_away_is_said_also_in_other_words():
    alive, n = pd.Series(["yes", "no", None, "no"] * 9), np.arange(36)
    frame = pd.DataFrame({"survived": alive.map({"yes": 1, "no": 0}), "sex": n % 2, "alive": alive})
    assert odd_columns(frame) == ["alive says the same as survived"]
    assert odd_columns(pd.DataFrame({"a": n / 7, "b": n / 9})) == [], "each differs in every row"


def test_images_are_counted_by_class(typed, tmp_path):
    path = write(tmp_path, arrays_of((28, 28)))
    status, printed = typed("mnist", path)
    assert status == 0 and "120 rows read = 100 train + 20 test" in printed
    name = params_of(printed, "run")["model_name"]
    assert name.startswith("mnist_") and name != "mnist_cnn", "the model of MNIST is not to compete"


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_pipeline_made_by_new_is_looked_at_without_more(put, monkeypatch, task):
    files = new.render("wine_look", task)
    code = next(
        text for path, text in files.items() if path.suffix == ".py" and "lib" in path.parts
    )
    module = types.ModuleType("lib.pipelines.wine_look")
    exec(compile(code, "wine_look.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = put("a,b,c,y\n" + "".join(f"{k},1,,{k % 2}\n" for k in range(9)) + "9,1,,\n", "rows.csv")
    options = {"target": "y", "time_column": "", "leave_out": []}
    found = look.look("wine_look", path, options)
    assert dict(found.counts) == {"read": 10, "without_a_target": 1, "kept": 9}
    assert found.odd == ["no value in c", "b is 1.0 in every row"]
    with pytest.raises(ValueError, match="has no column 'z'.*make look PIPELINE=wine_look SOURCE="):
        look.look("wine_look", path, options | {"target": "z"})


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        (["x", None, "x"] * 20, "c is x in every row that has it"),
        (range(60, 0, -1), "c is another whole number in every row: leave it out if it only"),
        ([f"Mr {k}" for k in range(60)], "c has 60 texts in 60 rows: one that is there once"),
        ([*map(str, range(59)), "?"], "c is text, as '?' is there among numbers"),
        (np.arange(60) / 7, ""),
        (["a", "b", "c"] * 20, ""),
        (pd.date_range("2026", periods=60), ""),
    ],
)
def test_what_is_odd_about_a_column_is_said(values, odd):
    told = odd_columns(pd.DataFrame({"c": values}))
    assert told == [] if not odd else len(told) == 1 and told[0].startswith(odd)


def test_pipeline_without_a_module_says_what_to_write():
    with pytest.raises(MissingPart, match="there is no lib/pipelines/nothing.py with load_rows"):
        look.look("nothing", "sample", {})


@pytest.mark.slow
def test_only_the_beginning_is_read_and_that_is_said(put, monkeypatch):
    from lib.tick import read

    monkeypatch.setattr(read, "BATCH_ROWS", 50)
    lines = [f"2024-03-04 14:30:00.{k:03},50.0{k % 7},{1 + k}" for k in range(400)]
    path = put("\n".join(["timestamp,price,size", *lines, ""]), "AAA.csv")
    whole = look_at_ticks(path, defaults("tick"))
    assert whole.counts["read"] == 400 and "only the beginning" not in repr(whole)
    start = look_at_ticks(path, defaults("tick"), most_rows=100)
    assert start.counts["read"] == 100 and "; only the beginning was read" in repr(start)
    assert "train_days" not in start.params, "how many days there are is not known"


@pytest.mark.parametrize("n_rows", [1, 3])
def test_energy_is_shown_as_the_power_that_it_is(put, tmp_path, n_rows):
    times = pd.date_range("2024-01-01", periods=3 * n_rows, freq="30min")
    for k in range(3):
        rows = [f"{ts},0.25\n" for ts in times[k * n_rows :][:n_rows]]
        put("time,W\n" + "".join(rows), f"{k}.csv")
    found = look_at_power(str(tmp_path), defaults("power", columns=["power_kw=W [kWh]"]))
    assert found.columns.loc["power_kw", "is"] == "0.5"


def test_power_of_too_small_a_unit_is_odd(put):
    lines = "".join(f"2024-03-{1 + k // 24:02} {k % 24:02}:00:00,{k % 9}\n" for k in range(240))
    source = put("datetime,P\n" + lines.replace(",8", ",40"), "house.csv")
    for unit in ("kW", "W"):
        odd = look_at_power(source, defaults("power", columns=[f"power_kw=P [{unit}]"])).odd
        assert any("never above 0.04 kW, little" in line for line in odd) is (unit == "W")


def test_meter_that_counts_up_is_odd(put):
    lines = "".join(f"2024-03-{1 + k // 24:02} {k % 24:02}:00:00,{k / 8}\n" for k in range(240))
    source = put("datetime,kWh\n" + lines, "meter.csv")
    found = look_at_power(source, defaults("power", columns=["power_kw=kWh [kWh]"]))
    assert any("never falls: does the meter count up" in line for line in found.odd)
    fallen = put("datetime,kWh\n" + lines.replace(",15.0\n", ",9\n"), "power.csv")
    found = look_at_power(fallen, defaults("power", columns=["power_kw=kWh [kWh]"]))
    assert not any("never falls" in line for line in found.odd)


def test_what_is_odd_about_ticks_is_said(put):
    lines = [f"2024-03-04 {hour:02}:30:00,500100,5" for hour in (10, 13, 20, 21, 22, 23)]
    path = put("\n".join(["timestamp,price,size", *lines, ""]), "AAA.csv")
    odd = " ".join(look_at_ticks(path, defaults("tick")).odd)
    assert "2024-03-04: 3.0 hours without a tick" in odd
    assert "67% of the ticks are outside of the session" in odd and 'session="00:00-24:00"' in odd
    assert "price is 500100.0 in every row" in odd and "[1/10000]" in odd
    assert "1 days have ticks, and a run needs 3" in odd


@pytest.mark.parametrize(("form", "is_odd"), [("%d/%m/%Y", True), ("%m/%d/%Y", False)])
def test_month_that_was_read_as_a_day_is_odd(put, form, is_odd):
    lines = [f"03/{d:02}/2024 14:30:{s:02},50,{1 + s}" for d in (4, 5, 6) for s in (0, 1)]
    path = put("\n".join(["timestamp,price,size", *lines, ""]), "AAA.csv")
    odd = look_at_ticks(path, defaults("tick", layout=[f"time={form} %H:%M:%S"])).odd
    assert any("each day is the 3. of a month" in line for line in odd) is is_odd


def test_counts_that_do_not_close_are_an_error():
    with pytest.raises(RuntimeError, match="rows have been lost"):
        look_at_frame(pd.DataFrame({"a": [1, 2]}), {"read": 2, "kept": 1}, {})


def test_secrets_of_a_source_are_not_shown():
    shown = command("look", "power", "sql:postgresql://me:geheim@db/x#t", {})
    assert "geheim" not in shown and shlex.split(shown)[3].startswith("SOURCE=sql:")


def test_a_command_survives_the_shell_and_make(tmp_path):
    params = {"columns": ["power_kw=it's $5"]}
    line = command("look", "power", "a b.csv", params)
    assert shlex.split(line)[3] == "SOURCE=a b.csv"
    assert params_of(line, "look") == params


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('give layout=["time=ms"] or layout=["time=s"]', {"layout": ["names=a,b", "time=ms"]}),
        ("say columns=['timestamp=at', 'size=n']", {"columns": ["timestamp=at", "size=n"]}),
        ("give symbol='AAA' for one", {"symbol": "AAA"}),
        ("as max_deviation=10, all; or max_dropped=0.4 to drop them", {"max_deviation": 10.0}),
        ("give max_deviation=x or nonsense=[1]", {}),
        (number_hint("1,560", "."), {}),
        ("sort=True sorts them", {"sort": True}),
        ('give layout=["time=s"] and time_zone="..."', {"layout": ["names=a,b", "time=s"]}),
    ],
)
def test_proposals_are_read_from_messages(message, expected):
    known = merge_parameters(layout.declared("tick"))
    given = {"layout": ["names=a,b"], "time_zone": "UTC"}
    assert look.proposed(message, given, known) == expected


@pytest.mark.parametrize("arguments", [[], ["--pipeline", "tick"], ["x.csv"]])
def test_source_and_pipeline_are_needed(arguments, capsys):
    assert cli.main(["look", *arguments]) == 2
    assert "give SOURCE" in capsys.readouterr().err


def test_pipeline_that_loads_no_source_is_not_looked_at(capsys):
    for pipeline in ("lakehouse", "score"):
        assert cli.main(["look", "--pipeline", pipeline, "x.csv"]) == 2
        assert "no stage 01_load that takes a source" in capsys.readouterr().err


def test_unknown_parameter_is_refused(typed, put, capsys):
    path = Path(put("x", "x.csv"))
    assert typed("power", path, symbol="A")[0] == 2
