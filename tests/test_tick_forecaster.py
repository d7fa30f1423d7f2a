"""The saved tick model forecasts what its members do from windows of one day, sees no later bar,
needs nothing of this project, serves, and says what is wrong with bars it cannot take."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

from lib.packaging import load_packed
from lib.splits import walk_forward
from lib.tick.indicators import (
    BAR_COLUMNS,
    PRICES,
    FeatureOptions,
    bar_features,
    warm_up,
)
from lib.tick.model import (
    fit_scaler,
    forecast,
    load_members,
    make_tick_spec,
    save_tick_forecaster,
    scale,
)

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from serving import ask, refusal, served_here, split_of

OPTIONS: FeatureOptions = {
    "windows": [3, 6],
    "lags": [0, 1],
    "rsi_window": 5,
    "bollinger_window": 4,
    "macd": [3, 5, 2],
}
WINDOW, HORIZON, TARGET_SCALE = 4, 1, 2.5
FACTS = {"options": OPTIONS, "horizon": HORIZON, "bar": "time", "bar_size": 5.0}
KERAS = pytest.param("keras", marks=pytest.mark.slow)  # imports TensorFlow


def made_bars(n_rows: tuple[int, ...] = (70, 60, 80), *, seed: int = 0, quotes: bool = False):
    rng = np.random.default_rng(seed)
    dates = [f"2013-10-{7 + k:02d}" for k in range(len(n_rows))]
    starts = [pd.Timestamp(f"{date} 13:30:05", tz="UTC") for date in dates]
    times = [pd.date_range(t, periods=n, freq="5s") for t, n in zip(starts, n_rows, strict=True)]
    n = sum(n_rows)
    close = 165 * np.exp(np.cumsum(rng.normal(size=n)) * 1e-4)
    near = {name: close * np.exp(rng.normal(size=n) * 2e-5) for name in ("vwap", "tail", "mean")}
    volume = rng.gamma(2, 300, size=n).round()
    bars = {
        "day": np.repeat(dates, n_rows),
        "open": close * np.exp(rng.normal(size=n) * 5e-5),
        "high": close * 1.0003,
        "low": close * 0.9997,
        "close": close,
        "volume": volume,
        "count": rng.poisson(9, size=n) + 1.0,
        "signed_volume": (volume * rng.uniform(-1, 1, size=n)).round(),
        "side": rng.choice([-1.0, 1.0], size=n),
        **near,
    }
    if quotes:
        bars["spread"] = rng.uniform(0.01, 0.03, size=n)
    index = pd.DatetimeIndex(np.concatenate(times), name="ts", tz="UTC").as_unit("us")
    return pd.DataFrame(bars, index)


def made_scaler(bars: pd.DataFrame):
    return fit_scaler(bar_features(bars, OPTIONS).iloc[:100]) | {"clip": 3.0}


def keras_file(path: Path, shape: tuple[int, int], seed: int = 0) -> Path:
    import keras

    keras.utils.set_random_seed(seed)
    x = keras.Input(shape)
    y = keras.layers.Dropout(0.5)(keras.layers.GRU(5)(x))  # in training only
    keras.Model(x, keras.layers.Dense(1)(y)).save(path)
    return path


def members_of(kind: str, folder: Path, n_features: int) -> list[Path]:
    """Two small members of a kind, fitted to noise: what they say does not matter."""
    if kind == "keras":
        shape = (WINDOW, n_features)
        return [keras_file(folder / f"{k}.keras", shape, seed=k) for k in range(2)]
    rng = np.random.default_rng(1)
    files = []
    for k in range(2):
        if kind == "ridge":
            files.append(folder / f"{k}.json")
            fitted = {"coefficients": rng.normal(size=n_features).tolist(), "intercept": 0.25 + k}
            files[-1].write_text(json.dumps(fitted))
        else:
            x, y = rng.normal(size=(300, n_features)), rng.normal(size=300)
            params = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}
            files.append(folder / f"{k}.txt")
            lgb.train(params, lgb.Dataset(x, y), 5).save_model(files[-1])
    return files


def spec_of(kind: str, scaler, *, quotes: bool = False):
    return make_tick_spec(
        scaler,
        FACTS | {"quotes": quotes},
        window=WINDOW if kind == "keras" else 1,
        target_scale=TARGET_SCALE,
    )


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return made_bars()


@pytest.fixture(scope="module", params=["ridge", "lightgbm", KERAS])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def members(kind, bars, tmp_path_factory) -> list[Path]:
    n_features = len(made_scaler(bars)["features"])
    return members_of(kind, tmp_path_factory.mktemp("members"), n_features)


@pytest.fixture(scope="module")
def folder(kind, members, bars, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    save_tick_forecaster(path, members, spec_of(kind, made_scaler(bars)))
    return path


@pytest.fixture(scope="module")
def model(folder):
    return load_packed(folder)


def returns_of(model, bars: pd.DataFrame) -> np.ndarray:
    return model.predict(bars.reset_index())["expected_return_bps"].to_numpy()


# The scaler ------------------------------------------------------------------------------------


def test_scaler_worked_by_hand():
    nan = np.nan
    train = pd.DataFrame({"a": [1.0, 3.0, nan, 9.0], "b": [5.0, 5.0, 5.0, nan]})
    scaler = fit_scaler(train)  # of the two complete rows: a 1 and 3, b 5 and 5
    assert scaler == {"features": ["a", "b"], "mean": [2, 5], "scale": [1, 1], "clip": 5}
    new = pd.DataFrame({"other": [0.0] * 4, "b": [6.0, 5, 5, nan], "a": [3.5, 100, -100, 2]})
    found = scale(new, scaler)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1.5, 1], [5, 0], [-5, 0], [0, nan]])


def test_scaler_of_rows_that_are_never_complete_is_refused():
    with pytest.raises(ValueError, match="none of the 2 training rows is complete"):
        fit_scaler(pd.DataFrame({"a": [np.nan, 1.0], "b": [1.0, np.nan]}))


def test_training_is_blind_to_whatever_happens_in_and_after_what_is_judged(bars):
    fold = walk_forward(bars["day"], n_folds=1, window=WINDOW, horizon=HORIZON)[0]
    features = bar_features(bars, OPTIONS)
    rng = np.random.default_rng(5)
    other = bars.copy()
    later, numbers = bars.index[fold.valid], list(BAR_COLUMNS[1:])
    other.loc[later, numbers] = rng.permutation(bars.loc[later, numbers])
    other.loc[later, list(PRICES)] *= 1.5
    changed = bar_features(other, OPTIONS)
    assert not np.allclose(changed.iloc[-1], features.iloc[-1])
    assert fit_scaler(changed.iloc[fold.train]) == fit_scaler(features.iloc[fold.train])
    pd.testing.assert_frame_equal(changed.iloc[fold.train], features.iloc[fold.train])


# What is forecast ------------------------------------------------------------------------------


@pytest.mark.slow
def test_forecast_is_the_mean_of_what_members_say_of_each_window_alone(kind, members, model, bars):
    x = scale(bar_features(bars, OPTIONS), made_scaler(bars))
    expected = np.full(len(bars), np.nan)
    if kind == "ridge":
        fitted = [json.loads(member.read_text()) for member in members]
        said = [x @ np.array(one["coefficients"]) + one["intercept"] for one in fitted]
        expected = TARGET_SCALE * np.mean(said, axis=0)
    elif kind == "lightgbm":
        known = np.isfinite(x).all(axis=1)
        said = [lgb.Booster(model_file=member).predict(x[known]) for member in members]
        expected[known] = TARGET_SCALE * np.mean(said, axis=0)
    else:
        import keras

        windows, days = {}, bars["day"].to_numpy()
        for t in range(WINDOW - 1, len(bars)):
            window = slice(t - WINDOW + 1, t + 1)
            if len(set(days[window])) == 1 and np.isfinite(x[window]).all():
                windows[t] = x[window]
        models = [keras.saving.load_model(member) for member in members]
        said = [one(np.stack(list(windows.values()))).numpy().squeeze() for one in models]
        expected[list(windows)] = TARGET_SCALE * np.mean(said, axis=0)
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_allclose(returns_of(model, bars), expected, rtol=1e-4, atol=1e-5)


def test_window_never_reaches_into_another_day_or_over_a_missing_row():
    features = pd.DataFrame({"a": [0.0, 1, 2, 3, 4, 5, np.nan, 7, 8]})
    days = pd.Series(["2013-10-07"] * 4 + ["2013-10-08"] * 5)
    scaler = {"features": ["a"], "mean": [0.0], "scale": [1.0], "clip": 100.0}
    spec = make_tick_spec(scaler, FACTS | {"quotes": False}, window=2)
    found = forecast([lambda windows: windows[:, 0, 0]], spec, features, days)  # the row before
    nan = np.nan
    np.testing.assert_array_equal(found, [nan, 0, 1, 2, nan, 4, nan, nan, 7])


def test_each_day_has_its_first_forecast_once_features_and_window_are_full(kind, model, bars):
    found = pd.Series(returns_of(model, bars)).groupby(bars["day"].to_numpy())
    for _, day in found:
        n_without = warm_up(OPTIONS) + (WINDOW - 1 if kind == "keras" else 0)
        assert day.isna().tolist() == [True] * n_without + [False] * (len(day) - n_without)


def test_forecast_is_stamped_with_the_moment_the_bar_is_known(model, bars):
    found = model.predict(bars.reset_index())
    assert list(found) == ["ts", "expected_return_bps"]
    assert found["ts"].tolist() == bars.index.tolist()


@pytest.mark.slow
def test_forecasts_of_all_bars_equal_those_made_bar_by_bar_as_the_day_goes(model, bars):
    whole = returns_of(model, bars)
    today = bars[bars["day"] == "2013-10-08"]
    first = bars.index.get_loc(today.index[0])
    needed = warm_up(OPTIONS) + model.unwrap_python_model().spec["window"]
    for n_known in (1, needed - 1, needed, needed + 1, 50, len(today)):
        last = returns_of(model, today.iloc[:n_known])[-1]
        np.testing.assert_allclose(last, whole[first + n_known - 1], rtol=1e-4, atol=1e-5)


def test_bars_that_come_later_change_no_forecast_before_them(model, bars):
    whole = returns_of(model, bars)
    other = bars.copy()
    rows = other.index[100:]
    other.loc[rows, list(PRICES)] *= 1.01
    other.loc[rows, ["signed_volume", "side"]] *= -1
    changed = returns_of(model, other)
    np.testing.assert_allclose(changed[:100], whole[:100], rtol=1e-4, atol=1e-5)
    assert not np.allclose(changed[100:], whole[100:], equal_nan=True)


@pytest.mark.slow
def test_days_and_bars_beyond_one_batch_change_nothing(model, bars, monkeypatch):
    whole = returns_of(model, bars)
    code = sys.modules[type(model.unwrap_python_model()).__module__]
    assert code.__name__.startswith("model_code_")
    monkeypatch.setattr(code, "BATCH", 7)
    np.testing.assert_allclose(returns_of(model, bars), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_keras_member_is_traced_once_for_batches_of_any_length(tmp_path, monkeypatch, bars):
    import tensorflow as tf

    made, real = [], tf.function
    monkeypatch.setattr(tf, "function", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    scaler = made_scaler(bars)
    shape = (WINDOW, len(scaler["features"]))
    (member,) = load_members([keras_file(tmp_path / "a.keras", shape)])
    for n in (1, 2, 3, 50, 51):
        assert member(np.zeros((n, *shape), np.float32)).shape == (n,)
    assert [run.experimental_get_tracing_count() for run in made] == [1]


@pytest.mark.slow
def test_quotes_need_their_spread(tmp_path):
    bars = made_bars(quotes=True)
    scaler = made_scaler(bars)
    assert scaler["features"][-1] == "spread_bps"
    members = members_of("ridge", tmp_path, len(scaler["features"]))
    save_tick_forecaster(tmp_path / "model", members, spec_of("ridge", scaler, quotes=True))
    model = load_packed(tmp_path / "model")
    assert np.isfinite(returns_of(model, bars)[-1])
    with pytest.raises(Exception, match="missing inputs.*spread"):
        returns_of(model, bars.drop(columns="spread"))


# What is refused -------------------------------------------------------------------------------


def at(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    frame = frame.astype({column: object}) if isinstance(value, str) else frame.copy()
    frame.loc[row, column] = value
    return frame


BAD = {
    "no close": (lambda f: f.drop(columns="close"), "column 'close' is missing"),
    "no rows": (lambda f: f.iloc[:0], "there is no bar"),
    "a gap": (lambda f: at(f, 3, "vwap", np.nan), "row 3 at 2013-10-07 13:30:20.* vwap is nan"),
    "text": (lambda f: at(f, 3, "volume", "many"), "could not convert string to float: 'many'"),
    "no price": (lambda f: at(f, 2, "low", 0.0), r"row 2 at .* low is 0\.0"),
    "inverted": (lambda f: at(f, 4, "high", 1.0), r"row 4 at .* high is 1\.0"),
    "unsorted": (lambda f: f.iloc[::-1], "row 1 at .* sort"),
    "no time": (lambda f: at(f, 5, "ts", "at noon"), "column 'ts', row 5: at noon is no time"),
    "a number": (lambda f: f.assign(ts=np.arange(len(f))), "column 'ts' holds numbers"),
    "no day": (lambda f: at(f, 6, "day", np.nan), "row 7: day 2013-10-07 begins again"),
    "a day twice": (lambda f: at(f, 7, "day", "2013-10-08"), "row 8: day 2013-10-07 begins again"),
}


@pytest.mark.parametrize("kind", ["ridge"], indirect=True)
@pytest.mark.parametrize("name", BAD)
def test_bars_no_forecast_can_be_made_of_are_refused_by_row_and_column(model, bars, name):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        model.unwrap_python_model().predict(None, change(bars.reset_index()))
    assert error.value.get_http_status_code() == 400


@pytest.mark.parametrize("kind", ["ridge"], indirect=True)
def test_times_without_a_zone_and_as_text_are_taken_for_utc(model, bars):
    expected = model.predict(bars.reset_index())
    naive = bars.tz_localize(None).reset_index()
    pd.testing.assert_frame_equal(model.predict(naive), expected)
    text = naive.assign(ts=naive["ts"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    pd.testing.assert_frame_equal(model.predict(text), expected)


def test_bars_of_one_moment_are_taken_in_the_order_given(model, bars):
    frame = bars.reset_index()
    frame.loc[11, "ts"] = frame.loc[10, "ts"]
    assert np.isfinite(model.predict(frame)["expected_return_bps"].iloc[-1])


@pytest.mark.slow
def test_keras_model_that_holds_code_is_refused(bars, tmp_path):
    import keras

    x = keras.Input((WINDOW, 2))
    code = keras.layers.Lambda(lambda y: 2 * y)(keras.layers.GRU(1)(x))
    keras.Model(x, code).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match="unsafe|[Ll]ambda"):
        load_members([tmp_path / "code.keras"])


# What is saved ---------------------------------------------------------------------------------


def test_model_folder_names_its_packages_at_the_installed_versions(kind, folder):
    needed = {"keras": ["keras", "tensorflow"], "lightgbm": ["lightgbm"], "ridge": []}[kind]
    names = ["mlflow", "TA-Lib", "pandas", "numpy", *needed]
    lines = (folder / "requirements.txt").read_text().split()
    assert lines == [f"{name}=={metadata.version(name)}" for name in names]


def test_model_folder_holds_no_pickle_and_only_the_modules_it_needs(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    code = {name for name in files if name.startswith("code/") and "__pycache__" not in name}
    (package,) = {name.split("/")[1] for name in code}
    modules = ("__init__", "backend", "packaging", "splits", "tick/__init__", "tick/indicators")
    modules += ("tick/model", "tick/windows")
    assert code == {f"code/{package}/{name}.py" for name in modules}
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in files)


def test_model_folder_has_a_signature_of_any_time_one_text_and_floats(model):
    types = model.metadata.signature.inputs.input_dict()
    assert list(types) == ["ts", *BAR_COLUMNS]
    assert str(types["day"].type) == "DataType.string"
    assert {str(types[name].type) for name in BAR_COLUMNS[1:]} == {"DataType.double"}


# Served ----------------------------------------------------------------------------------------


OF_THE_SIGNATURE = {
    "no close": r"missing inputs \['close'\]",
    "text": "convert column volume to type 'float64'",
}
"""What MLflow itself says, before the model sees the bars."""


@pytest.mark.slow  # imports TensorFlow
@pytest.mark.parametrize("kind", ["keras"], indirect=True)
def test_served_model_answers_as_the_loaded_one_and_says_what_is_wrong(folder, model, bars):
    frame = bars.reset_index()
    expected = model.predict(frame)
    with served_here(folder) as server:
        status, text = ask(server, split_of(frame))
        said = {name: refusal(server, split_of(change(frame))) for name, (change, _) in BAD.items()}
    assert status == 200, text
    answer = pd.DataFrame(json.loads(text)["predictions"])
    assert pd.to_datetime(answer["ts"]).tolist() == expected["ts"].tolist()
    found = answer["expected_return_bps"].astype(float)
    np.testing.assert_allclose(found, expected["expected_return_bps"], rtol=1e-4, atol=1e-5)
    for name, (_, message) in BAD.items():
        assert re.search(OF_THE_SIGNATURE.get(name, message), said[name]), (name, said[name])
