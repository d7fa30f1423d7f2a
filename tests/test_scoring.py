"""Any version on the same rows: what a run has judged comes back, and what cannot be compared is
said."""

import json
import shutil
from types import SimpleNamespace

from lib.packaging import load_packed
from lib.power.features import forward_value, measured
from lib.registry import scoring
from lib.registry.scoring import NotComparable
from lib.run import open_run
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
    return scoring.sample_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def few(pair):
    return load_packed(pair[0])


@pytest.fixture(scope="module")
def many(pair):
    return load_packed(pair[1])


def write(run_dir, stage, content, **parameters):
    """Finish a stage that has written `content`."""
    run = open_run(run_dir, stage=stage)
    run.parameters.update(parameters)
    for name, value in content.items():
        run.write(name, value)
    run.finish()
    return run


@pytest.fixture(scope="module")
def power_run(pair, few):
    """An evaluated run of the power pipeline, with a gap of a day and rows of 0 V in its test."""
    raw = pair[2].copy()
    raw.iloc[500:524] = np.nan
    raw.iloc[600:603] = 0.0
    first = 400
    facts = {"name": "house", "source": "house.csv", "digest": DIGEST, "n_rows": len(raw)}
    write("power/judged", "01_load", {"raw.parquet": raw, "dataset.json": facts})
    options = few.unwrap_python_model().spec["options"]
    split = {"test_start": raw.index[first].isoformat(), "horizon": 1, "rows_per_day": 24}
    split |= {"valid_end": raw.index[first - 2].isoformat(), "options": options}
    write("power/judged", "02_features", {"split.json": split})
    run = open_run("power/judged", stage="04_train")
    with run.writing("model") as path:
        shutil.copytree(pair[0], path)
    run.finish()
    needed = few.unwrap_python_model().spec["needed_rows"]
    history = raw.iloc[first + 1 - needed :]
    power = measured(raw, min_voltage_v=207.0)["power_kw"]
    made = few.predict(history.reset_index())["power_kw"].set_axis(history.index)
    judged = pd.DataFrame({"truth": forward_value(power, 1), "lightgbm": made, "last": power})
    judged = judged.iloc[first:].dropna()
    judged.index = (judged.index + HOUR).rename("ts")
    write("power/judged", "05_evaluate", {"forecast.parquet": judged}, block_days=3)
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
    spec = make_tick_spec("ridge", fit_scaler(features), OPTIONS, **BARS)
    member = tmp_path_factory.mktemp("ridge") / "ridge.json"
    weights = np.random.default_rng(0).normal(size=features.shape[1]).tolist()
    member.write_text(json.dumps({"coefficients": weights, "intercept": 0.1}))
    facts = {"name": "spy", "source": "tick/SPY", "digest": DIGEST, "n_rows": 9000}
    write("tick/judged", "01_load", {"dataset.json": facts})
    day = bars["day"].unique()[-1]
    split = {"test_start": day} | BARS | {"options": OPTIONS}
    write("tick/judged", "02_features", {"bars.parquet": bars, "split.json": split})
    run = open_run("tick/judged", stage="03_train")
    with run.writing("model") as path:
        save_tick_forecaster(path, [member], spec)
    run.write("choice.json", {"chosen": "ridge", "network": "gru"})
    run.finish()
    test = bars[bars["day"] >= day]
    made = load_packed(run.local("model")).predict(test.reset_index())["expected_return_bps"]
    judged = pd.DataFrame({"ridge": made.to_numpy()}, test.index)
    judged = judged.assign(truth=forward_return(test, 2), day=test["day"]).dropna()
    assert judged.index[0] == bars.index[first] == bars.index[first - 1]
    write("tick/judged", "04_evaluate", {"forecasts.parquet": judged}, block_bars=50)
    return open_run("tick/judged", stage="05_register")


def other(model, **changes):
    """Return what stands for a model that was made for something else."""
    spec = json.loads(json.dumps(model.unwrap_python_model().spec))
    for name, value in changes.items():
        (spec["options"] if name in spec.get("options", {}) else spec)[name] = value
    return SimpleNamespace(
        unwrap_python_model=lambda: SimpleNamespace(spec=spec), metadata=model.metadata
    )


# The rows that a run has judged ----------------------------------------------------------------


def test_own_model_says_on_a_run_s_test_what_its_evaluation_has_stored(power_run, few):
    test = scoring.test_of_run(power_run)
    judged = power_run.read("forecast.parquet")
    pd.testing.assert_series_equal(test.truth, judged["truth"])
    assert 200 < len(test.truth) < 320  # of 333 rows, those without the gap and the zeros
    stored = scoring.candidate_predictions(power_run, test)
    np.testing.assert_allclose(scoring.predictions(few, test), stored, rtol=1e-12)
    assert np.ptp(stored) > 0.1
    assert (test.pipeline, test.source, test.digest) == ("power", "house.csv", DIGEST)
    assert test.task == {"horizon": 1, "step_s": 3600.0}
    assert test.start == judged.index[0].isoformat()
    assert test.block_length == 72 and test.groups is None


def test_own_model_says_on_the_bars_of_a_run_what_its_evaluation_has_stored(tick_run):
    test = scoring.test_of_run(tick_run)
    judged = tick_run.read("forecasts.parquet")
    pd.testing.assert_series_equal(test.truth, judged["truth"])
    assert judged.index.duplicated().sum() == 1 and len(judged) > 100
    stored = scoring.candidate_predictions(tick_run, test)
    found = scoring.predictions(load_packed(tick_run.local("model")), test)
    np.testing.assert_array_equal(found, stored)
    assert test.groups.tolist() == judged["day"].tolist()
    assert test.task == BARS and test.block_length == 50
    assert test.start == judged.index[0].isoformat()


def test_rows_that_are_not_those_of_the_bars_are_refused(tick_run):
    bars, judged = tick_run.read("bars.parquet"), tick_run.read("forecasts.parquet")["truth"]
    bars = bars[bars["day"] >= tick_run.read("split.json")["test_start"]]
    assert len(scoring._positions(bars, judged, 2)) == len(judged)
    moved = judged.set_axis(judged.index + pd.Timedelta(seconds=1))
    for wrong in (judged + 1.0, moved):
        with pytest.raises(ValueError, match=r"forecasts\.parquet holds rows that are not among"):
            scoring._positions(bars, wrong, 2)


def test_stored_predictions_belong_to_the_run_s_own_rows(power_run):
    test = scoring.test_of_run(power_run)
    part = scoring.select(test, np.arange(len(test.truth)) > 10)
    with pytest.raises(ValueError, match="power/judged has judged other rows"):
        scoring.candidate_predictions(power_run, part)


def test_nothing_that_a_model_has_learned_from_is_in_its_test(power_run, tick_run):
    until = pd.Timestamp(scoring.learned_until(power_run))
    split = power_run.read("split.json")
    assert until == pd.Timestamp(split["test_start"]) - HOUR
    assert until < pd.Timestamp(scoring.test_of_run(power_run).start)
    bars = tick_run.read("bars.parquet")
    last = bars[bars["day"] < tick_run.read("split.json")["test_start"]].index[-1]
    assert pd.Timestamp(scoring.learned_until(tick_run)) == last
    assert last < pd.Timestamp(scoring.test_of_run(tick_run).start)


def test_other_pipelines_have_no_models_to_score():
    with pytest.raises(ValueError, match="pipeline 'score' has no models to score"):
        scoring.test_of_run(open_run("score/dev"))


def test_selected_rows_stay_together(tick_run):
    test = scoring.test_of_run(tick_run)
    kept = np.arange(len(test.truth)) >= len(test.truth) - 30
    part = scoring.select(test, kept)
    assert part.start == part.truth.index[0].isoformat() > test.start
    assert part.block_length == 30 and len(part.groups) == len(part.rows) == 30
    model = load_packed(tick_run.local("model"))
    whole = scoring.predictions(model, test)
    np.testing.assert_array_equal(scoring.predictions(model, part), whole[kept])


# Models that cannot be compared ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 24}, "made for another task: horizon 24 instead of 1$"),
        ({"step_s": 60.0}, r"made for another task: step_s 60\.0 instead of 3600\.0$"),
    ],
)
def test_model_for_another_task_is_refused(power_run, few, changes, message):
    with pytest.raises(NotComparable, match=message):
        scoring.predictions(other(few, **changes), scoring.test_of_run(power_run))


@pytest.mark.parametrize("change", [{"bar": "time"}, {"bar_size": 5.0}, {"horizon": 1}])
def test_model_for_other_bars_is_refused(tick_run, change):
    test = scoring.test_of_run(tick_run)
    ((name, value),) = change.items()
    model = other(load_packed(tick_run.local("model")), **change)
    with pytest.raises(NotComparable, match=f"{name} {value} instead of {BARS[name]}$"):
        scoring.predictions(model, test)


def test_model_of_another_pipeline_or_without_a_spec_is_refused(power_run, tick_run, few):
    with pytest.raises(NotComparable, match="no model of the pipeline tick"):
        scoring.predictions(few, scoring.test_of_run(tick_run))
    bare = SimpleNamespace(unwrap_python_model=lambda: object(), metadata=few.metadata)
    with pytest.raises(NotComparable, match="no model of the pipeline power"):
        scoring.predictions(bare, scoring.test_of_run(power_run))


def test_model_that_takes_other_columns_is_refused(power_run, few):
    test = scoring.test_of_run(power_run)
    fewer = scoring.replace(test, inputs=test.inputs.drop(columns="voltage_v").assign(price=1.0))
    with pytest.raises(NotComparable, match="it needs voltage_v; it does not take price$"):
        scoring.predictions(few, fewer)
    with pytest.raises(NotComparable, match="another: it does not take price$"):
        scoring.predictions(few, scoring.replace(test, inputs=test.inputs.assign(price=1.0)))
    unsigned = other(few)
    unsigned.metadata = SimpleNamespace(get_input_schema=lambda: None)
    with pytest.raises(NotComparable, match="it has no signature"):
        scoring.predictions(unsigned, test)


def test_rows_that_one_model_cannot_forecast_are_left_out_for_both(power_run):
    test = scoring.test_of_run(power_run)
    n = len(test.truth)
    a, b = np.arange(n, dtype=float), -np.arange(n, dtype=float)
    assert scoring.shared_rows(test, a, b)[0] is test
    a[:3], b[-1] = np.nan, np.inf
    part, first, second = scoring.shared_rows(test, a, b)
    assert first.tolist() == list(range(3, n - 1)) and (second == -first).all()
    assert part.truth.equals(test.truth.iloc[3:-1])
    with pytest.raises(NotComparable, match=f"none of the {n} rows"):
        scoring.shared_rows(test, a, np.full(n, np.nan))


# New data --------------------------------------------------------------------------------------


def test_rows_further_apart_than_the_model_s_are_refused_without_the_password_of_their_source(
    power_run, few, monkeypatch
):
    days = power_run.read("raw.parquet").iloc[::24]
    monkeypatch.setattr("lib.power.load.load_power", lambda source, **options: days)
    with pytest.raises(NotComparable, match="are 1 days 00:00:00 apart") as refused:
        scoring.load_test("power", "https://ann:hunter2@example.org/days.parquet", few)
    assert "example.org/days.parquet" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_new_data_is_prepared_as_the_model_needs_it(pair, few, power_run, tmp_path):
    power_run.read("raw.parquet").to_parquet(tmp_path / "new.parquet")
    test = scoring.load_test("power", str(tmp_path / "new.parquet"), few)
    judged = scoring.test_of_run(power_run)
    pd.testing.assert_series_equal(test.truth.loc[judged.truth.index], judged.truth)
    found = pd.Series(scoring.predictions(few, test), test.truth.index)
    assert found.notna().all()
    stored = scoring.candidate_predictions(power_run, judged)
    np.testing.assert_allclose(found.loc[judged.truth.index], stored, rtol=1e-12)
    needed = few.unwrap_python_model().spec["needed_rows"]
    assert test.truth.index[0] == pair[2].index[needed]
    week = scoring.load_test("power", str(tmp_path / "new.parquet"), few, last_days=7)
    assert len(week.truth) == 7 * 24 - 3 and week.truth.index[-1] == pair[2].index[-1]
    assert week.digest == test.digest and len(test.digest) == 64


def test_minutes_are_made_into_the_model_s_hours(few):
    options = {"sample_days": 6, "max_missing": 0.5}
    test = scoring.load_test("power", "sample", few, seed=3, options=options)
    assert test.source == "sample" and 40 < len(test.truth) <= 6 * 24
    assert np.isfinite(scoring.predictions(few, test)).all()


def test_new_data_that_gives_no_row_is_refused(pair, few, tmp_path):
    short, daily = tmp_path / "short.parquet", tmp_path / "daily.parquet"
    pair[2].head(10).to_parquet(short)
    pair[2].resample("D").mean().to_parquet(daily)
    with pytest.raises(ValueError, match="no row of .*short.parquet can be judged: .* rows of"):
        scoring.load_test("power", str(short), few)
    with pytest.raises(ValueError, match="rows of 1 days.* cannot be made into rows of one hour"):
        scoring.load_test("power", str(daily), few)
    with pytest.raises(ValueError, match="last_days=-1"):
        scoring.load_test("power", str(short), few, last_days=-1)


def test_new_ticks_are_made_into_the_model_s_bars(tick_run):
    model = load_packed(tick_run.local("model"))
    sample = {"sample": {"n_days": 3, "n_ticks": 2000}}
    test = scoring.load_test("tick", "sample", model, last_days=2, options=sample)
    assert test.task == BARS and len(np.unique(test.groups)) == 2
    found = scoring.predictions(model, test)
    assert np.isfinite(found).all() and len(found) == len(test.truth) > 100
    bars = test.inputs.set_index("ts")
    pd.testing.assert_series_equal(
        test.truth, forward_return(bars, 2).iloc[test.rows], check_names=False
    )


def test_new_images_are_the_test_images_of_their_source(few):
    classes = [str(k) for k in range(10)]
    digits = other(few, classes=classes, image_shape=[28, 28])
    test = scoring.load_test("mnist", "sample", digits, options={"n_test": 50})
    assert test.inputs.shape == (50, 28, 28) and test.truth.between(0, 9).all()
    assert test.task == {"classes": classes, "image_shape": [28, 28]}
    assert (test.start, test.groups, test.block_length) == ("", None, 1)
    with pytest.raises(NotComparable, match="no model of the pipeline mnist"):
        scoring.load_test("mnist", "sample", few)


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
EARLIER |= {"learned_until": "2007-04-01T00:00:00"}


@pytest.fixture
def rematch(power_run, monkeypatch):
    """Return what is found of a version in production with such tags and such a model."""

    def found(registry, model, run=power_run, name="house"):
        def load(name, version):
            if isinstance(model, Exception):
                raise model
            assert (name, version) == (registry.asked[-1], "4")
            return model

        monkeypatch.setattr(scoring.tracking, "open_client", lambda: registry)
        monkeypatch.setattr(scoring, "load_version", load)
        return scoring.rematch(run, name)

    return found


def test_version_in_production_is_judged_on_the_run_s_own_rows(rematch, power_run, many):
    result = rematch(Registry(EARLIER), many)
    assert result["problem"] == ""
    assert result["notes"] == ["version 4 was trained on an earlier state of house.csv"]
    champion = {"name": "house", "version": 4, "run_dir": "power/older", "digest": "e" * 64}
    assert result["champion"] == champion | {"source": "house.csv", "own": False}
    test = scoring.test_of_run(power_run)
    pd.testing.assert_series_equal(result["test"].truth, test.truth)
    stored = scoring.candidate_predictions(power_run, test)
    np.testing.assert_array_equal(result["candidate"], stored)
    expected = scoring.predictions(many, test)
    np.testing.assert_array_equal(result["champion_predictions"], expected)
    assert not np.allclose(expected, stored)


def test_version_of_sample_images_of_another_seed_is_left_to_a_person():
    test = SimpleNamespace(start="", source="sample", digest="f" * 64)
    for digest, n_problems in (("f" * 64, 0), ("e" * 64, 1)):
        tags = {"source": "sample", "data_digest": digest}
        version = SimpleNamespace(version="4", tags=tags)
        problems, _ = scoring._about_data(version, test, own=False)
        assert len(problems) == n_problems and all("another way" in text for text in problems)


@pytest.mark.parametrize("registry", [Registry(), Registry(error=RESOURCE_DOES_NOT_EXIST)])
def test_where_nothing_is_in_production_there_is_no_champion_and_no_problem(rematch, registry):
    result = rematch(registry, None)
    assert result["champion"] is None and result["champion_predictions"] is None
    assert result["problem"] == "" and len(result["candidate"]) == len(result["test"].truth)


def test_registry_that_cannot_be_asked_is_an_error_and_no_first_version(rematch):
    with pytest.raises(MlflowException, match="told"):
        rematch(Registry(error=INTERNAL_ERROR), None)


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
def test_champion_of_other_data_is_judged_but_a_person_decides(rematch, many, changes, message):
    result = rematch(Registry(EARLIER | changes), many)
    assert message in result["problem"]
    assert np.isfinite(result["champion_predictions"]).all()


def test_champion_may_learn_until_just_before_the_test(rematch, power_run, many):
    start = pd.Timestamp(scoring.test_of_run(power_run).start)
    before = EARLIER | {"learned_until": (start - HOUR).isoformat()}
    assert rematch(Registry(before), many)["problem"] == ""
    at = EARLIER | {"learned_until": start.isoformat()}
    assert "has learned until" in rematch(Registry(at), many)["problem"]


def test_same_data_under_another_name_is_the_same_data(rematch, many):
    result = rematch(Registry(EARLIER | {"source": "copy.csv", "data_digest": DIGEST}), many)
    assert result["problem"] == "" and result["notes"] == ["version 4 was trained on the same data"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ImportError("no module named 'old'"), "cannot be loaded: no module named 'old'"),
        (FileNotFoundError(), "cannot be loaded: FileNotFoundError"),
        ("other", "cannot be judged on this test: it is made for another task: horizon 3"),
        ("failing", "fails on this test: its code is of yesterday"),
    ],
)
def test_champion_that_cannot_answer_is_a_problem_in_words(rematch, few, model, message):
    def fail(history):
        raise RuntimeError("its code is of yesterday")

    if model == "other":
        model = other(few, horizon=3)
    elif model == "failing":
        model = other(few)
        model.predict = fail
    result = rematch(Registry(EARLIER), model)
    assert result["problem"] == f"version 4, which is in production, {message}" + (
        " instead of 1" if "horizon" in message else ""
    )
    assert result["champion_predictions"] is None and result["champion"]["version"] == 4


@pytest.mark.parametrize(("n_missing", "is_problem"), [(2, False), (100, True)])
def test_rows_that_the_champion_cannot_forecast_are_left_out(rematch, few, n_missing, is_problem):
    def predict(history):
        found = few.predict(history)
        found.loc[found.index[-n_missing:], "power_kw"] = np.nan
        return found

    model = other(few)
    model.predict = predict
    result = rematch(Registry(EARLIER), model)
    said = result["problem"] if is_problem else result["notes"][-1]
    assert "version 4 has no forecast for" in said and bool(result["problem"]) is is_problem
    n = {len(result[k]) for k in ("candidate", "champion_predictions")} | {
        len(result["test"].truth)
    }
    assert len(n) == 1 and np.isfinite(result["champion_predictions"]).all()


def test_run_s_own_model_in_production_is_told_apart(rematch, power_run, few, monkeypatch):
    monkeypatch.setattr(scoring.tracking, "link", lambda run: {"run_id": "mine"})
    result = rematch(Registry(EARLIER | {"learned_until": ""}, run_id="mine"), few)
    assert result["champion"]["own"] and result["problem"] == ""
    np.testing.assert_allclose(result["champion_predictions"], result["candidate"], rtol=1e-12)


def test_sample_data_is_matched_under_its_own_name(rematch, power_run, few):
    facts = power_run.read("dataset.json") | {"source": "sample"}
    files = ("raw.parquet", "split.json", "forecast.parquet")
    content = {file: power_run.read(file) for file in files} | {"dataset.json": facts}
    write("power/sample", "05_evaluate", content)
    for name in ("house", "house_sample"):
        registry = Registry()
        rematch(registry, few, run=open_run("power/sample"), name=name)
        assert registry.asked == ["house_sample"]


# The pair to try things on ---------------------------------------------------------------------


def test_more_trees_forecast_better_what_neither_has_learned(pair, few, many, tmp_path):
    raw = pair[2]
    raw.to_parquet(tmp_path / "new.parquet")
    test = scoring.load_test("power", str(tmp_path / "new.parquet"), few)
    errors = [float(((scoring.predictions(m, test) - test.truth) ** 2).mean()) for m in (few, many)]
    assert errors[1] < 0.95 * errors[0]
    assert len(raw) == 28 * 24 + few.unwrap_python_model().spec["needed_rows"]
    trees = [model.unwrap_python_model().boosters[0].num_trees() for model in (few, many)]
    assert trees == [10, 150]
