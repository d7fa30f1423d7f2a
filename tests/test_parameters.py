"""Parameters cells: what is read from them, and what is refused."""

import json

from lib.ground import parameters

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CELL = """\
run_dir: str = "power/dev"  # run folder
horizon: int = 3  # steps ahead [1..168]
rate: float = 1  # learning rate, fraction [0.01..1]
model: str = "gru"  # kind of network [lstm | gru]
lags: list[int] = [1, 24]  # rows back [1..1000]
balanced: bool = True  # weigh classes equally
"""


@pytest.fixture
def declared():
    return parameters.parse_parameters(CELL)


def test_cell_gives_name_type_default_meaning_and_domain_in_order(declared):
    assert list(declared) == ["run_dir", "horizon", "rate", "model", "lags", "balanced"]
    horizon = declared["horizon"]
    assert (horizon.kind, horizon.default, horizon.meaning) == ("int", 3, "steps ahead")
    assert (horizon.low, horizon.high, horizon.domain) == (1, 168, "1..168")
    assert declared["model"].choices == ("lstm", "gru")
    assert declared["rate"].default == 1.0 and type(declared["rate"].default) is float
    assert declared["lags"].type_name == "list[int]"
    assert declared["run_dir"].domain == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizon", 1),
        ("horizon", 168),
        ("rate", 0.01),
        ("rate", 1),
        ("model", "lstm"),
        ("lags", [1000]),
        ("lags", []),
        ("balanced", False),
    ],
)
def test_value_inside_the_domain_is_returned(declared, name, value):
    assert declared[name].check(value) == value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("horizon", 0, "in 1..168"),
        ("horizon", 169, "in 1..168"),
        ("horizon", 2.0, "type int"),
        ("horizon", "2", "type int"),
        ("horizon", True, "type int"),
        ("rate", 0.009, "in 0.01..1"),
        ("rate", float("nan"), "finite"),
        ("model", "rnn", "one of lstm, gru"),
        ("lags", 24, "a list"),
        ("lags", [24, 0], "in 1..1000"),
        ("lags", [1.5], "type int"),
        ("balanced", 1, "type bool"),
        ("run_dir", 3, "type str"),
    ],
)
def test_value_outside_the_domain_is_refused_with_name_value_and_rule(
    declared, name, value, reason
):
    with pytest.raises(ValueError, match=f"parameter {name} = .*{reason}"):
        declared[name].check(value)


def test_place_of_a_password_may_be_named(declared):
    text = "sql:postgresql+psycopg://me:${POWER_PASSWORD}@db/power#readings"
    assert declared["run_dir"].check(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@db/power",
        "sql:postgresql+psycopg://me:hunter2@db/power#readings",
        "https://host/power.txt?part=1&access_token=hunter2",
    ],
)
def test_password_in_a_value_is_refused_without_repeating_it(declared, text):
    with pytest.raises(ValueError, match="password") as caught:
        declared["run_dir"].check(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("epochs = 3  # passes", "expected `name: type"),
        ("epochs: int = 3", "no comment"),
        ("epochs: int = 3  # [1..9]", "no comment"),
        ("epochs: int = 30  # passes [1..9]", "in 1..9"),
        ("epochs: int = 3  # passes [9..1]", "empty range"),
        ("epochs: int = 3  # passes [few]", r"expected \[low..high\]"),
        ("epochs: 'int' = 3  # passes", "has type 'int'"),
        ("rate: float | None = None  # speed", "has type"),
        ("epochs: int = int(3)  # passes", "not a plain value"),
        ("epochs: int = 3  # passes\nlags: list[int] = (  # rows\n", "'.' was never closed"),
        ("epochs: int = 3  # passes\n  x: int = 1  # rows", "unexpected indent"),
        ("epochs: int = 3  # passes\nepochs: int = 4  # passes", "declared twice"),
    ],
)
def test_malformed_line_is_refused_with_its_number(line, reason):
    with pytest.raises(ValueError, match=f"line [12].*{reason}"):
        parameters.parse_parameters(line)


def test_unknown_name_wrong_type_and_range_are_all_reported_at_once(declared):
    asked = {"horizont": 2, "horizon": 0, "model": "rnn", "rate": 0.5}
    with pytest.raises(ValueError) as caught:
        parameters.check_values(declared, asked, owner="power")
    for part in ("power has no parameter 'horizont'", "horizon = 0", "model = 'rnn'"):
        assert part in str(caught.value)


def test_notebooks_that_disagree_on_a_shared_parameter_are_refused():
    one = parameters.parse_parameters("horizon: int = 1  # steps [1..168]")
    other = parameters.parse_parameters("horizon: int = 1  # steps [1..24]")
    with pytest.raises(ValueError, match="horizon is declared as .*02_features.*04_train"):
        parameters.merge_parameters({"02_features": one, "04_train": other})


def test_notebook_without_parameters_cell_is_refused_by_name(tmp_path):
    path = tmp_path / "01_load.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": []}]}))
    with pytest.raises(ValueError, match=r"01_load.ipynb has 0 cells tagged 'parameters'"):
        parameters.read_parameters(path)


def test_file_that_is_no_notebook_is_refused_by_name(tmp_path):
    path = tmp_path / "01_load.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"01_load.ipynb is not a notebook"):
        parameters.read_parameters(path)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers())
def test_integer_is_accepted_exactly_inside_its_range(value):
    parameter = parameters.parse_parameters("n: int = 5  # rows [1..10]")["n"]
    if 1 <= value <= 10:
        assert parameter.check(value) == value
    else:
        with pytest.raises(ValueError, match=r"1\.\.10"):
            parameter.check(value)


def test_emptied_field_of_a_form_is_the_empty_value_where_that_is_one():
    cell = 'symbol: str = ""  # the one to take\ncolumns: list[str] = []  # names\n'
    declared = parameters.parse_parameters(cell + CELL)
    assert declared["symbol"].check(None) == "" and declared["columns"].check(None) == []
    assert declared["symbol"].schema()["type"] == ["string", "null"]
    assert declared["columns"].schema()["type"] == ["array", "null"]
    for name in ("model", "horizon", "lags"):
        assert "null" not in declared[name].schema()["type"]
        with pytest.raises(ValueError, match=f"parameter {name} = None"):
            declared[name].check(None)


DECLARED = parameters.parse_parameters(
    'source: str = "sample"  # data\nn_trials: int = 3  # trials [1..99]\nrate: float = 1  # rate\n'
    'as_of: str = ""  # day\n'
)
WRITTEN = {"source": "uci", "n_trials": 40, "rate": 0.5, "as_of": "{{ day }}"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, WRITTEN),
        ({"n_trials": 5}, WRITTEN | {"n_trials": 5}),
        ({"source": "sample"}, {"source": "sample", "n_trials": 3, "rate": 1.0, "as_of": ""}),
        (
            {"source": "sample", "n_trials": 40},
            {"source": "sample", "n_trials": 40, "rate": 1.0, "as_of": ""},
        ),
        (
            WRITTEN | {"source": "sample"},
            {"source": "sample", "n_trials": 3, "rate": 1.0, "as_of": ""},
        ),
        (
            WRITTEN | {"source": "sample", "rate": 0.7},
            {"source": "sample", "n_trials": 3, "rate": 0.7, "as_of": ""},
        ),
    ],
    ids=["scheduled", "named", "sample", "sample, named", "form", "form, changed"],
)
def test_sample_takes_the_values_of_the_notebook_where_nobody_has_changed_any(asked, expected):
    assert parameters.values_of_run(DECLARED, WRITTEN, asked) == expected
