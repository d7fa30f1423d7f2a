"""What only a pipeline knows: it is found by name, and what is missing is said."""

import sys
import textwrap

from lib.packaging import load_packed
from lib.pipelines import power
from lib.power.demo import sample_pair
from lib.registry import rows
from lib.registry.rows import MissingPart, NotComparable, Rows
from lib.registry.standing import Version

import numpy as np
import pandas as pd
import pytest

HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """A function that gives a pipeline called unmade a module."""
    import lib.pipelines

    monkeypatch.setattr(lib.pipelines, "__path__", [*lib.pipelines.__path__, str(tmp_path)])

    def write(text):
        (tmp_path / "unmade.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, "lib.pipelines.unmade", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    yield write
    sys.modules.pop("lib.pipelines.unmade", None)


def version(pipeline):
    made = Version("house", 1, {"run_dir": f"{pipeline}/a"}, {"options": {}})
    vars(made)["model"] = None
    return made


def frame(n=3):
    keys = pd.Index([f"row-{k}" for k in range(n)])
    return Rows(pd.DataFrame({"x": np.arange(n)}, keys), keys, pd.Series(np.arange(n), keys))


def test_missing_module_is_named_with_what_it_is_for():
    said = r"there is no lib/pipelines/unmade\.py with predict, which says what a version answers"
    with pytest.raises(MissingPart, match=said):
        rows.predict("unmade", None, frame(), pd.Index([]))


def test_missing_function_is_named_with_its_file(write_module):
    write_module("def load_rows(source, options, model): return source")
    assert rows.load_rows(version("unmade"), "x.csv") == "x.csv"
    said = r"lib/pipelines/unmade\.py has no function watched, which says what columns"
    with pytest.raises(MissingPart, match=said):
        rows.watched("unmade", frame())


def test_import_that_fails_inside_of_a_module_is_no_missing_module(write_module):
    write_module("import nothing_of_this_name")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        rows.predict("unmade", None, frame(), pd.Index([]))


@pytest.mark.parametrize("name", ["../unmade", "os.path", ""])
def test_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(MissingPart, match="is no name of a pipeline"):
        rows.predict(name, None, frame(), pd.Index([]))


def test_one_answer_is_wanted_for_each_key(write_module):
    write_module("def predict(model, rows, keys): return [1.0]")
    with pytest.raises(ValueError, match="returned 1 rows for 3 keys"):
        rows.predict("unmade", None, frame(), frame().keys)


def test_row_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="two rows have the key a"):
        Rows(np.zeros(2), pd.Index(["a", "a"]), pd.Series())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    few, _, raw = sample_pair(tmp_path_factory.mktemp("pair"))
    return load_packed(few), raw


@pytest.mark.slow
def test_power_rows_are_called_by_the_time_forecast(pair):
    model, raw = pair
    found = power.rows_of(raw, {"source": "house.csv"}, model)
    assert found.keys[0] == (raw.index[0] + HOUR).isoformat()
    assert len(found.keys) == len(raw) and found.truth[found.keys[0]] == raw["power_kw"].iloc[1]
    assert power.watched(found).index.equals(found.keys)


@pytest.mark.slow
def test_power_forecasts_need_no_more_than_their_history(pair):
    model, raw = pair
    found = power.rows_of(raw, {}, model)
    whole = model.predict(raw.reset_index())["power_kw"].to_numpy()
    for chosen in ([700, 701, 702], [900, 650]):
        made = rows.predict("power", model, found, found.keys[chosen])
        np.testing.assert_allclose(made, whole[chosen], rtol=1e-12)
    assert np.isnan(rows.predict("power", model, found, found.keys[:1])).all()


def test_readings_too_far_apart_for_the_model_are_refused(pair):
    model, raw = pair
    with pytest.raises(NotComparable, match=r"house are 0 days 02:00:00 apart.*rows of 0 days 01"):
        power.rows_of(raw.iloc[::2], {"source": "house"}, model)
