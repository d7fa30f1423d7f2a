"""The version in production on a run's own test: what it says comes back, and what cannot be
compared is said."""

import json
import shutil
from types import SimpleNamespace

from lib import judged, packaging, tracking
from lib.packaging import load_packed
from lib.power.demo import sample_pair
from lib.power.features import forward_value, measured
from lib.registry import gate, rematch
from lib.registry.paired import Test
from lib.registry.rematch import require_comparable, shared_rows
from lib.registry.rows import NotComparable, parting, predict, rows_of_run
from lib.registry.standing import Version
from lib.run import UnfinishedStage, open_run
from lib.tick.bars import to_bars
from lib.tick.indicators import bar_features, forward_return, warm_up
from lib.tick.model import fit_scaler, make_tick_spec, save_tick_forecaster
from lib.tick.sample import sample_days

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

HOUR = pd.Timedelta(hours=1)
DIGEST = "d" * 64
BARS = {"horizon": 2, "bar": "tick", "bar_size": 20.0, "quotes": False}
OPTIONS = {
    "lags": [0, 1],
    "windows": [3],
    "rsi_window": 4,
    "bollinger_window": 4,
    "macd": [3, 5, 2],
}


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    """Run folders of this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("outputs")
        patch.setenv("OUTPUTS_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    few, many, raw = sample_pair(tmp_path_factory.mktemp("pair"))
    models = load_packed(few), load_packed(many)
    needed = models[0].unwrap_python_model().spec["needed_rows"]
    return few, *models, raw.iloc[-28 * 24 - needed :]


def write(run_dir, stage, content):
    """Finish a stage that has written `content`."""
    run = open_run(run_dir, stage=stage)
    for name, value in content.items():
        run.write(name, value)
    run.finish()
    return run


POWER = {"kind": "regression", "metric": "rmse", "unit": "kW", "block_length": 72}
POWER |= {"task": {"horizon": 1, "step_s": 3600.0}, "inputs": {"file": "raw.parquet"}}


@pytest.fixture(scope="module")
def power_run(pair):
    """An evaluated run of the power pipeline, with a gap of a day and rows of 0 V in its test."""
    folder, few, _, raw = pair
    raw = raw.copy()
    raw.iloc[500:524] = np.nan
    raw.iloc[600:603] = 0.0
    first = 400
    facts = {"name": "house", "source": "house.csv", "digest": DIGEST, "n_rows": len(raw)}
    write("power/judged", "01_load", {"raw.parquet": raw, "dataset.json": facts})
    run = open_run("power/judged", stage="04_train")
    with run.writing("model") as path:
        shutil.copytree(folder, path)
    run.finish()
    needed = few.unwrap_python_model().spec["needed_rows"]
    history = raw.iloc[first + 1 - needed :]
    power = measured(raw, min_voltage_v=207.0)["power_kw"]
    made = few.predict(history.reset_index())["power_kw"].set_axis(history.index)
    rows = pd.DataFrame({"truth": forward_value(power, 1), "model": made, "last": power})
    rows = rows.iloc[first:].dropna()
    rows.index += HOUR
    run = open_run("power/judged", stage="05_evaluate")
    until = (raw.index[first - 2] + HOUR).isoformat()
    judged.write(run, rows, **POWER, learned_until=until)
    run.finish()
    return open_run("power/judged", stage="06_register")


@pytest.fixture(scope="module")
def tick_run(tmp_path_factory):
    """An evaluated run of the tick pipeline, where two bars are of one moment, and again where only
    the second of two can be judged."""
    days = sample_days(3, n_ticks=3000, seed=1, signal=0.6, half_spread_bps=0.3)
    bars = to_bars(days, kind=BARS["bar"], size=BARS["bar_size"])
    times = bars.index.to_numpy().copy()
    first = 300 + warm_up(OPTIONS)  # of the last day that has a forecast
    for row in (400, first - 1):
        times[row] = times[row + 1]
    bars.index = pd.DatetimeIndex(times, tz="UTC", name="ts").as_unit("us")
    features = bar_features(bars, OPTIONS)
    spec = make_tick_spec(fit_scaler(features), BARS | {"options": OPTIONS})
    member = tmp_path_factory.mktemp("ridge") / "ridge.json"
    weights = np.random.default_rng(0).normal(size=features.shape[1]).tolist()
    member.write_text(json.dumps({"coefficients": weights, "intercept": 0.1}))
    facts = {"name": "spy", "source": "tick/SPY", "digest": DIGEST, "n_rows": 9000}
    write("tick/judged", "01_load", {"dataset.json": facts})
    write("tick/judged", "02_features", {"bars.parquet": bars})
    run = open_run("tick/judged", stage="03_train")
    with run.writing("model") as path:
        save_tick_forecaster(path, [member], spec)
    run.finish()
    test = bars[bars["day"] >= bars["day"].unique()[-1]]
    made = load_packed(run.local("model")).predict(test.reset_index())["expected_return_bps"]
    rows = pd.DataFrame({"model": made.to_numpy()}, judged.time_keys(test.index))
    rows = rows.assign(truth=forward_return(test, 2).to_numpy(), group=test["day"].to_numpy())
    rows = rows.dropna()
    assert rows.index[0].endswith("/1"), "only the second bar of this moment can be judged"
    run = open_run("tick/judged", stage="04_evaluate")
    facts = {"kind": "ranking", "metric": "rank_ic", "unit": "bps", "block_length": 50}
    judged.write(run, rows, **facts, task=BARS, inputs={"file": "bars.parquet"})
    run.finish()
    return open_run("tick/judged", stage="05_register")


# The rows that a run has judged ----------------------------------------------------------------


def test_own_model_says_on_a_run_s_test_what_its_evaluation_has_stored(power_run, pair):
    rows, frame, facts = rows_of_run(power_run)
    assert 200 < len(frame) < 320  # of 333 rows, those without the gap and the zeros
    stored = judged.values(frame)
    np.testing.assert_allclose(predict("power", pair[1], rows, rows.keys), stored, rtol=1e-12)
    assert np.ptp(stored) > 0.1 and rows.facts["source"] == "house.csv"
    assert (facts["block_length"], facts["task"]) == (72, POWER["task"])


@pytest.mark.slow
def test_own_model_says_on_the_bars_of_a_run_what_its_evaluation_has_stored(tick_run):
    rows, frame, facts = rows_of_run(tick_run)
    model = load_packed(tick_run.local("model"))
    np.testing.assert_array_equal(predict("tick", model, rows, rows.keys), judged.values(frame))
    assert frame.index.str.contains("/1").sum() == 2 and len(frame) > 100
    assert facts["block_length"] == 50 and frame["group"].nunique() == 1


def test_part_of_the_rows_is_answered_as_the_whole(tick_run):
    rows, frame, _ = rows_of_run(tick_run)
    model = load_packed(tick_run.local("model"))
    part = rows.keys[[40, 7, 8]]
    np.testing.assert_array_equal(
        predict("tick", model, rows, part), judged.values(frame.loc[part])
    )


# Models that cannot be compared ----------------------------------------------------------------


def version(pipeline="power", number=3, **test):
    return Version("house", number, {"run_dir": f"{pipeline}/a"}, test)


HOURLY = {"horizon": 1, "step_s": 3600.0}
FACTS = {"kind": "regression", "classes": [], "task": HOURLY}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            version(**FACTS | {"task": {"horizon": 24, "step_s": 3600.0}}),
            "horizon 24 instead of 1$",
        ),
        (version(**FACTS | {"task": {"horizon": 1}}), r"step_s None instead of 3600\.0$"),
        (version(**FACTS | {"classes": ["a"]}), r"classes \['a'\] instead of \[\]$"),
        (version("tick", **FACTS), "pipeline tick instead of power$"),
        (version(**FACTS | {"kind": "ranking"}), "kind ranking instead of regression$"),
    ],
)
def test_version_for_another_task_is_refused(found, message):
    require_comparable(version(**FACTS), "power", FACTS)
    require_comparable(version(**FACTS), "power_search", FACTS)  # whose register stage is a link
    with pytest.raises(NotComparable, match=f"made for another task: {message}"):
        require_comparable(found, "power", FACTS)


def test_rows_that_one_model_cannot_forecast_are_left_out_for_both():
    test = Test(pd.Series(np.arange(9.0)), "regression", "rmse")
    a, b = np.arange(9.0), -np.arange(9.0)
    assert shared_rows(test, a, b)[0] is test
    a[:3], b[-1] = np.nan, np.inf
    part, first, second = shared_rows(test, a, b)
    assert first.tolist() == list(range(3, 8)) and (second == -first).all()
    assert part.truth.equals(test.truth.iloc[3:-1])
    with pytest.raises(NotComparable, match="none of the 9 rows"):
        shared_rows(test, a, np.full(9, np.nan))


# The version in production ---------------------------------------------------------------------


class Registry:
    """What stands for a registry that has one version in production, or none."""

    def __init__(self, tags=None, run_id="another", error=None):
        self.tags, self.run_id, self.error, self.asked = tags, run_id, error, []

    def get_registered_model(self, name):
        self.asked.append(name)
        if self.error:
            raise MlflowException("told", error_code=self.error)
        return SimpleNamespace(aliases={} if self.tags is None else {"production": "4"})

    def get_model_version(self, name, version):
        return SimpleNamespace(name=name, version=version, tags=self.tags, run_id=self.run_id)


EARLIER = {"run_dir": "power/older", "source": "house.csv", "data_digest": "e" * 64}
EARLIER |= {"learned_until": "2007-04-01T00:00:00", "test": json.dumps(FACTS)}


@pytest.fixture
def against(power_run, monkeypatch):
    """Return what is found of a version in production with such tags and such a model."""

    def found(registry, model, run=power_run, name="house"):
        def load(uri):
            if isinstance(model, Exception):
                raise model
            assert uri == f"models:/{registry.asked[-1]}/4"
            return model

        monkeypatch.setattr(tracking, "open_client", lambda: registry)
        monkeypatch.setattr(packaging, "load_packed", load)
        return rematch.against_production(run, name)

    return found


def other(model, predict):
    """Return what stands for a model that answers otherwise."""
    return SimpleNamespace(unwrap_python_model=model.unwrap_python_model, predict=predict)


@pytest.mark.slow
def test_version_in_production_is_judged_on_the_run_s_own_rows(against, power_run, pair):
    result = against(Registry(EARLIER), pair[2])
    assert result["problem"] == ""
    assert result["notes"] == ["version 4 was trained on an earlier state of house.csv"]
    champion = {"name": "house", "version": 4, "run_dir": "power/older", "own": False}
    assert result["champion"] == champion
    rows, frame, _ = rows_of_run(power_run)
    pd.testing.assert_series_equal(result["test"].truth, frame["truth"])
    np.testing.assert_array_equal(result["candidate"], judged.values(frame))
    expected = predict("power", pair[2], rows, rows.keys)
    np.testing.assert_array_equal(result["champion_predictions"], expected)
    assert not np.allclose(expected, result["candidate"])


@pytest.mark.parametrize("registry", [Registry(), Registry(error=RESOURCE_DOES_NOT_EXIST)])
def test_where_nothing_is_in_production_there_is_no_champion_and_no_problem(against, registry):
    result = against(registry, None)
    assert result["champion"] is None and result["champion_predictions"] is None
    assert result["problem"] == "" and len(result["candidate"]) == len(result["test"].truth)


def test_registry_that_cannot_be_asked_is_an_error_and_no_first_version(against):
    with pytest.raises(MlflowException, match="told"):
        against(Registry(error=INTERNAL_ERROR), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "flat.csv"}, "version 4 was trained on other data: flat.csv, not house.csv"),
        (
            {"learned_until": "2007-04-20T00:00:00"},
            "version 4 has learned until 2007-04-20T00:00:00, and this test begins at 2007-04-09",
        ),
        ({"learned_until": ""}, "it is not known until when version 4 has learned"),
    ],
)
def test_champion_of_other_data_is_judged_but_a_person_decides(against, pair, changes, message):
    result = against(Registry(EARLIER | changes), pair[2])
    assert message in result["problem"]
    assert np.isfinite(result["champion_predictions"]).all()


@pytest.mark.slow
def test_champion_may_learn_until_just_before_the_test(against, power_run, pair):
    start = judged.times(judged.read(power_run)[0].index)[0]
    before = EARLIER | {"learned_until": (start - HOUR).isoformat()}
    assert against(Registry(before), pair[2])["problem"] == ""
    at = EARLIER | {"learned_until": start.isoformat()}
    assert "has learned until" in against(Registry(at), pair[2])["problem"]


def test_same_data_under_another_name_is_the_same_data(against, pair):
    result = against(Registry(EARLIER | {"source": "copy.csv", "data_digest": DIGEST}), pair[2])
    assert result["problem"] == "" and result["notes"] == ["version 4 was trained on the same data"]


def test_version_of_sample_rows_of_another_seed_is_left_to_a_person():
    test = Test(pd.Series([0, 1], ["a", "b"]), "classification", "accuracy")
    data = {"source": "sample", "digest": "f" * 64}
    for digest, n_problems in (("f" * 64, 0), ("e" * 64, 1)):
        tags = {"source": "sample", "data_digest": digest}
        problems, _ = rematch.about_data(tags, "version 4", test, data, own=False)
        assert len(problems) == n_problems and all("another way" in text for text in problems)


@pytest.mark.parametrize(("test_seed", "n_problems"), [(0, 0), (1, 1)])
def test_images_that_were_parted_by_another_seed_are_left_to_a_person(test_seed, n_problems):
    test = Test(pd.Series([0, 1], ["a", "b"]), "classification", "accuracy")
    data = {"source": "photos", "digest": "f" * 64}
    options = {"options": {"test_share": 0.2, "test_seed": 0, "n_train": 500}}
    tags = {"source": "photos", "data_digest": "e" * 64, "test": json.dumps(options)}
    by = parting("mnist", {"test_share": 0.2, "test_seed": test_seed, "n_train": 0})
    problems, _ = rematch.about_data(tags, "version 4", test, data, own=False, parted_by=by)
    assert len(problems) == n_problems and all("another way" in text for text in problems)
    assert parting("power", {"test_seed": 0}) == parting("unmade", {"test_seed": 0}) == {}


def test_test_in_order_of_groups_begins_at_its_first_time():
    keys = ["2026-01-09T00:00:00", "2026-01-10T00:00:00", "2026-01-05T00:00:00"]
    test = Test(pd.Series([1.0, 2.0, 3.0], keys), "regression", "rmse")
    data = {"source": "houses.csv", "digest": DIGEST}
    tags = {"source": "houses.csv", "data_digest": DIGEST, "learned_until": "2026-01-07T00:00:00"}
    (problem,), _ = rematch.about_data(tags, "version 4", test, data, own=False)
    assert problem.endswith("this test begins at 2026-01-05T00:00:00")


def fail(history):
    raise RuntimeError("its code is of yesterday")


@pytest.mark.parametrize(
    ("changes", "model", "message"),
    [
        ({}, ImportError("no module named 'old'"), "it cannot be loaded: no module named 'old'"),
        ({}, FileNotFoundError(), "it cannot be loaded: FileNotFoundError()"),
        ({}, fail, "its code is of yesterday"),
        (
            {"test": json.dumps(FACTS | {"task": HOURLY | {"horizon": 3}})},
            None,
            "version 4 is made for another task: horizon 3 instead of 1",
        ),
        (
            {"test": ""},
            None,
            "version 4 of house was registered before versions knew their test, so nothing is "
            "compared with it or scored by it; newer runs of power make "
            "versions that do",
        ),
    ],
)
def test_champion_that_cannot_answer_is_a_problem_in_words(against, pair, changes, model, message):
    model = other(pair[1], model) if callable(model) else model
    result = against(Registry(EARLIER | changes), model)
    assert result["problem"] == f"version 4 cannot be judged on this test: {message}"
    assert result["champion_predictions"] is None and result["champion"]["version"] == 4
    decision = gate.judge({"passed": True, "checks": []}, result)
    assert (decision["outcome"], decision["reason"]) == ("undecided", result["problem"])


@pytest.mark.parametrize(("n_missing", "is_problem"), [(2, False), (100, True)])
def test_rows_that_the_champion_cannot_forecast_are_left_out(against, pair, n_missing, is_problem):
    def some(history):
        found = pair[1].predict(history)
        found.loc[found.index[-n_missing:], "power_kw"] = np.nan
        return found

    result = against(Registry(EARLIER), other(pair[1], some))
    said = result["problem"] if is_problem else result["notes"][-1]
    assert "version 4 has no forecast for" in said and bool(result["problem"]) is is_problem
    n = {len(result[k]) for k in ("candidate", "champion_predictions")}
    assert n == {len(result["test"].truth)} and np.isfinite(result["champion_predictions"]).all()


def test_rows_that_the_champion_has_learned_from_are_left_out(against, power_run, pair):
    learned = judged.read(power_run)[0].index[[0, 5, 7]]
    model = other(pair[1], pair[1].predict)
    keeper = SimpleNamespace(**{packaging.LEARNED: packaging.key_digests(learned)})
    model.get_raw_model = lambda: keeper
    result = against(Registry(EARLIER), model)
    told = "version 4 has learned from, or has no forecast for, 3 of 290 rows"
    assert result["problem"] == "" and result["notes"][-1].startswith(told)
    assert not result["test"].truth.index.isin(learned).any()
    assert len(result["candidate"]) == len(result["champion_predictions"]) == 287


def test_run_s_own_model_in_production_is_told_apart(against, pair, monkeypatch):
    monkeypatch.setattr(tracking, "link", lambda run: {"run_id": "mine"})
    result = against(Registry(EARLIER | {"learned_until": ""}, run_id="mine"), pair[1])
    assert result["champion"]["own"] and result["problem"] == ""
    np.testing.assert_allclose(result["champion_predictions"], result["candidate"], rtol=1e-12)


def test_sample_data_is_matched_under_its_own_name(against, power_run, pair):
    facts = power_run.read("dataset.json") | {"source": "sample"}
    content = {name: power_run.read(name) for name in ("judged.parquet", "test.json")}
    write("power/sample", "05_evaluate", content | {"dataset.json": facts})
    for name in ("house", "house_sample"):
        registry = Registry()
        against(registry, pair[1], run=open_run("power/sample"), name=name)
        assert registry.asked == ["house_sample"]


def test_run_that_was_evaluated_before_is_told_what_to_do(against):
    run = write("power/before", "05_evaluate", {"verdict.json": {"passed": True, "checks": []}})
    with pytest.raises(UnfinishedStage, match="test.json is not in the run folder power/before"):
        against(Registry(), None, run=run)


# A pipeline that has no module of its own ------------------------------------------------------

WINE = {"kind": "classification", "metric": "accuracy", "classes": ["red", "white"]}
WINE |= {"inputs": {"file": "test.parquet"}}


def wine_run(name, right, keys):
    """Return an evaluated run of a pipeline nobody knows: `right` says which rows it named."""
    facts = {"name": "wine", "source": "wine.csv", "digest": DIGEST, "n_rows": len(keys)}
    truth = np.array([sum(map(ord, key)) % 2 for key in keys])
    named = np.where(right, truth, 1 - truth)
    said = np.where(np.eye(2)[named] > 0, 0.8, 0.2)
    run = open_run(f"unmade/{name}", stage="04_evaluate")
    run.write("dataset.json", facts)
    run.write("test.parquet", pd.DataFrame({"x": truth}, keys))
    judged.write(run, pd.DataFrame({"truth": truth, "model": list(said)}, keys), **WINE)
    run.finish()
    return open_run(f"unmade/{name}", stage="05_register")


KEYS = [f"bottle-{k:03}" for k in range(200)]


@pytest.fixture(scope="module")
def wines():
    few = np.arange(200) % 4 > 0
    return {
        "before": wine_run("before", few, KEYS),
        "after": wine_run("after", np.ones(200, bool), KEYS),
        "moved": wine_run("moved", np.ones(200, bool), [*KEYS[100:], *map(str, range(100))]),
        "apart": wine_run("apart", np.ones(3, bool), ["a", "b", "c"]),
    }


@pytest.fixture
def wine_registry(wines):
    test = json.dumps(wines["before"].read("test.json"))
    tags = {"run_dir": "unmade/before", "source": "wine.csv", "data_digest": DIGEST, "test": test}
    return Registry(tags)


NO_MODULE = "there is no lib/pipelines/unmade.py with predict"


def test_pipeline_without_a_module_is_gated_by_the_rows_that_both_have_judged(
    against, wines, wine_registry
):
    result = against(wine_registry, None, run=wines["after"])
    assert result["problem"] == "" and result["notes"][1].startswith(NO_MODULE)
    assert result["notes"][1].endswith("both are compared on the rows that both have judged")
    decision = gate.judge({"passed": True, "checks": []}, result)
    assert decision["outcome"] == "better" and "accuracy 1.0" in decision["reason"]
    assert decision["rows"][0]["champion"] == 0.75


def test_pipeline_without_a_module_is_gated_though_the_champion_no_longer_loads(
    against, wines, wine_registry
):
    result = against(wine_registry, ImportError("no module named 'old'"), run=wines["after"])
    assert result["problem"] == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [("moved", "no forecast for 100 of 200 rows: too few"), ("apart", "judged none of the 3 rows")],
)
def test_rows_that_do_not_coincide_are_left_to_a_person(
    against, wines, wine_registry, name, message
):
    result = against(wine_registry, None, run=wines[name])
    assert message in result["problem"]
    assert gate.judge({"passed": True, "checks": []}, result)["outcome"] == "undecided"


def test_champion_whose_folder_is_gone_is_left_to_a_person(against, wines, wine_registry):
    wine_registry.tags["run_dir"] = "unmade/gone"
    problem = against(wine_registry, None, run=wines["after"])["problem"]
    assert NO_MODULE in problem and "is not in the run folder unmade/gone" in problem


def test_same_rows_with_another_truth_are_not_the_same(against, wines, wine_registry):
    frame, _ = judged.read(wines["after"])
    run = open_run("unmade/relabelled", stage="04_evaluate")
    for name in ("dataset.json", "test.parquet"):
        run.write(name, wines["after"].read(name))
    judged.write(run, frame.assign(truth=1 - frame["truth"]), **WINE)
    run.finish()
    assert "another truth of the same rows" in against(wine_registry, None, run=run)["problem"]
