"""The saved model predicts what its boosters do, needs nothing of this project, and says what is
wrong with an input it cannot take."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from lib.packaging import load_packed
from lib.power.columns import COLUMNS
from lib.power.features import (
    PowerOptions,
    forward_value,
    needed_rows,
    power_features,
)
from lib.power.model import (
    forecast,
    make_spec,
    save_forecaster,
)

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from serving import ask, refusal, served_here, split_of

OPTIONS: PowerOptions = {
    "horizon": 2,
    "lags": [0, 1, 2],
    "windows": [3, 6],
    "days": 2,
    "weeks": 0,
    "country": "FR",
    "min_voltage_v": 207.0,
}
N_NEEDED = 2 * 24 - 2 + 1
PARAMS = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, "bagging_freq": 1}


def made_history(n_rows: int = 500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    index = pd.date_range("2007-01-01", periods=n_rows, freq="h", name="ts")
    frame = pd.DataFrame(rng.gamma(2, size=(n_rows, 7)), index, list(COLUMNS))
    frame["power_kw"] += np.sin(np.arange(n_rows) / 24 * 2 * np.pi) + 1
    frame["voltage_v"] += 238
    frame.iloc[200:204] = np.nan
    return frame.round(3)


def train(target: str, seeds: tuple[int, ...] = (0, 1)) -> tuple[list[lgb.Booster], dict]:
    history = made_history()
    x = power_features(history, **OPTIONS)
    y = forward_value(history["power_kw"], OPTIONS["horizon"])
    if target == "difference":
        y = y - x["power_kw_lag_0"]
    known = y.notna()
    params = {**PARAMS, "bagging_fraction": 0.7}
    boosters = [
        lgb.train({**params, "seed": seed}, lgb.Dataset(x[known], y[known]), 20) for seed in seeds
    ]
    return boosters, make_spec(x.columns, OPTIONS, per_day=24, target=target)


@pytest.fixture(scope="module", params=["level", "difference"])
def target(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(target):
    return train(target)


@pytest.fixture(scope="module")
def folder(trained, target, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("forecaster") / target / "model"
    save_forecaster(path, *trained)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return load_packed(folder)


def test_saved_model_predicts_the_mean_of_its_boosters(trained, model, target):
    boosters, _ = trained
    history = made_history()
    x = power_features(history, **OPTIONS)
    singles = [np.asarray(booster.predict(x)) for booster in boosters]
    assert not np.allclose(*singles)
    expected = (singles[0] + singles[1]) / 2
    if target == "difference":
        expected = expected + x["power_kw_lag_0"].to_numpy(dtype=float)
    found = model.predict(history.reset_index())["power_kw"]
    np.testing.assert_allclose(found[N_NEEDED:], np.maximum(expected, 0)[N_NEEDED:], rtol=1e-12)


def test_forecast_is_stamped_with_the_time_it_is_for(model):
    found = model.predict(made_history().reset_index())
    assert list(found) == ["ts", "power_kw"]
    assert found["ts"].iloc[0] == pd.Timestamp("2007-01-01 02:00")
    assert len(found) == 500


def test_rows_with_too_little_history_have_no_forecast_and_the_next_one_has(trained, model):
    _, spec = trained
    assert spec["needed_rows"] == needed_rows(24, OPTIONS) == N_NEEDED
    found = model.predict(made_history(60).reset_index())["power_kw"]
    assert found.isna().tolist() == [True] * (N_NEEDED - 1) + [False] * (60 - N_NEEDED + 1)


@pytest.mark.slow
def test_last_forecast_needs_no_more_than_the_needed_rows(model):
    history = made_history().reset_index()
    whole = model.predict(history)["power_kw"].iloc[-1]
    enough = model.predict(history.tail(N_NEEDED))["power_kw"]
    assert enough.iloc[-1] == pytest.approx(whole, rel=1e-9)
    assert model.predict(history.tail(1))["power_kw"].isna().all()


@pytest.mark.slow
def test_left_out_times_count_as_missing_rows(model, target):
    history = made_history()
    whole = model.predict(history.reset_index())
    short = model.predict(history.dropna().reset_index())
    kept = whole[whole["ts"].isin(short["ts"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(short, kept)
    in_gap = whole["power_kw"].iloc[200:204]
    assert in_gap.isna().all() if target == "difference" else in_gap.notna().all()


@pytest.mark.slow
def test_house_of_one_meter_is_forecast_from_its_power_alone(tmp_path):
    history = made_history()
    mains = history[["power_kw"]].reindex(columns=list(COLUMNS))
    x = power_features(mains, **OPTIONS).dropna(axis=1, how="all")
    y = forward_value(mains["power_kw"], OPTIONS["horizon"])
    booster = lgb.train(PARAMS, lgb.Dataset(x[y.notna()], y[y.notna()]), 20)
    spec = make_spec(x.columns, OPTIONS, per_day=24, target="level", columns=["power_kw"])
    save_forecaster(tmp_path / "model", [booster], spec)
    model = load_packed(tmp_path / "model")
    assert list(model.metadata.signature.inputs.input_dict()) == ["ts", "power_kw"]
    assert not [name for name in spec["features"] if "voltage" in name or "_wh" in name]
    found = model.predict(history[["power_kw"]].reset_index())["power_kw"]
    np.testing.assert_allclose(found[N_NEEDED:], booster.predict(x)[N_NEEDED:], rtol=1e-12)
    pd.testing.assert_series_equal(model.predict(history.reset_index())["power_kw"], found)
    with pytest.raises(Exception, match="power_kw"):
        model.predict(history[["voltage_v"]].reset_index())


def test_house_that_feeds_in_is_forecast_below_zero_but_not_below_its_least():
    x = power_features(made_history(), **OPTIONS)
    negative = lgb.train(PARAMS, lgb.Dataset(x, np.full(len(x), -3.0)), 5)
    for least, expected in ((0.0, 0.0), (-2.0, -2.0), (-20.0, -3.0)):
        spec = make_spec(x.columns, OPTIONS, per_day=24, target="level", least_kw=least)
        np.testing.assert_allclose(forecast([negative], spec, x), expected)


@pytest.mark.slow
def test_integers_are_taken_for_numbers(model):
    history = made_history().reset_index().assign(sub_metering_1_wh=0)
    as_float = model.predict(history.astype({"sub_metering_1_wh": float}))
    pd.testing.assert_frame_equal(model.predict(history), as_float)


def test_missing_column_is_refused_by_name(model):
    with pytest.raises(Exception, match="voltage_v"):
        model.predict(made_history().reset_index().drop(columns="voltage_v"))


def changed(column: str, row: int, value: object):
    """Return a change of one value, in a column that may hold anything."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return change


BAD = {
    "turned": (lambda f: f.iloc[::-1], "row 1 at .* does not come after"),
    "doubled": (lambda f: f.iloc[[0, 1, 1, 2]], "row 2 at .* does not come after"),
    "off the grid": (
        lambda f: f.assign(ts=f["ts"] + pd.to_timedelta(f["ts"].dt.hour, "min")),
        "row 1 at 2007-01-01 01:01:00 is not a whole number of steps",
    ),
    "empty": (lambda f: f.iloc[:0], "the history has no rows"),
    "no time": (changed("ts", 3, None), "column 'ts', row 3: .* is no time like 2007-01-31T18"),
    "a word as time": (changed("ts", 3, "noon"), "column 'ts', row 3: noon is no time"),
    "another zone": (
        lambda f: f.assign(ts=f["ts"].dt.tz_localize("UTC")),
        "has the time zone UTC: give naive local clock time",
    ),
    "several zones": (
        lambda f: f.assign(ts=[f"{t.isoformat()}+0{1 + (t.hour > 1)}:00" for t in f["ts"]]),
        "column 'ts' has times of several time zones: give times like 2007-01-31T18",
    ),
    "a mistyped year": (
        changed("ts", 499, pd.Timestamp("9007-01-21 19:00")),
        "500 rows from 2007-01-01 00:00:00 to 9007-.* is a year mistyped",
    ),
    "numbers as times": (
        lambda f: f.assign(ts=np.arange(len(f))),
        "column 'ts' holds numbers",
    ),
    "a word": (changed("voltage_v", 7, "high"), "column 'voltage_v', row 7: high is no number"),
    "infinite": (changed("power_kw", 7, np.inf), "column 'power_kw', row 7: inf is no number"),
    "no column": (lambda f: f.drop(columns="current_a"), "column 'current_a' is missing"),
}
"""What no forecast can be made of: how to get there, and what is said about it."""


@pytest.mark.parametrize("name", BAD)
def test_history_that_cannot_be_is_refused_with_its_place(model, name):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        model.unwrap_python_model().predict(None, change(made_history().reset_index()))
    assert error.value.get_http_status_code() == 400


@pytest.mark.slow
def test_numbers_and_times_may_come_as_text(model):
    frame = made_history().reset_index()
    text = frame.assign(ts=frame["ts"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    text["voltage_v"] = [None if v != v else f"{v}" for v in frame["voltage_v"]]
    expected = model.predict(frame)
    found = model.unwrap_python_model().predict(None, text)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_missing_column_is_refused_by_name_without_a_signature_too(model):
    with pytest.raises(ValueError, match="column 'ts' is missing"):
        model.unwrap_python_model().predict(None, made_history())


def test_forecast_is_never_negative(trained):
    _, spec = trained
    x = power_features(made_history(), **OPTIONS)
    y = np.full(len(x), -1.0) - (x["power_kw_lag_0"] if spec["target"] == "difference" else 0)
    known = np.isfinite(y)
    negative = lgb.train(PARAMS, lgb.Dataset(x[known], y[known]), 5)
    found = forecast([negative], spec, x[known])
    assert (found >= 0).all()
    assert (found == 0).any()


def test_model_folder_names_its_packages_at_the_installed_versions(folder):
    lines = (folder / "requirements.txt").read_text().split()
    names = ("mlflow", "lightgbm", "pandas", "numpy", "holidays")
    assert lines == [f"{name}=={metadata.version(name)}" for name in names]


def test_model_folder_holds_no_pickle_and_only_the_modules_it_needs(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    code = {name for name in files if name.startswith("code/") and "__pycache__" not in name}
    (package,) = {name.split("/")[1] for name in code}
    assert package.startswith("model_code_")
    modules = (
        "__init__",
        "packaging",
        "power/__init__",
        "power/columns",
        "power/features",
        "power/model",
    )
    assert code == {f"code/{package}/{name}.py" for name in modules}
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in files)


def test_model_folder_has_a_signature_of_floats_and_one_time_of_any_type(model):
    types = model.metadata.signature.inputs.input_dict()
    assert list(types) == ["ts", *COLUMNS]
    assert [str(column.type) for column in types.values()] == ["Any"] + ["DataType.double"] * 7


ELSEWHERE = """
import importlib.util, json, sys, warnings
sys.path = [path for path in sys.path if path and path != {root!r}]
assert importlib.util.find_spec("lib") is None, "the project must not be importable here"
warnings.simplefilter("ignore")
import mlflow, pandas as pd
from mlflow.pyfunc import scoring_server
from fastapi.testclient import TestClient
model = mlflow.pyfunc.load_model({model!r})
(code,) = [m for n, m in sys.modules.items() if n.startswith("model_code_") and "." not in n]
assert code.__file__.startswith({model!r})
history = pd.read_parquet("history.parquet").reset_index()
model.predict(history).to_parquet("found.parquet")
split = json.loads(history.to_json(orient="split", date_format="iso", index=False))
client = TestClient(scoring_server.init(model))
answer = client.post("/invocations", json={{"dataframe_split": split}})
assert answer.status_code == 200, answer.text
open("answer.json", "w").write(answer.text)
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["difference"], indirect=True)
def test_saved_model_predicts_and_serves_the_same_where_the_project_is_not_installed(
    folder, model, tmp_path
):
    history = made_history()
    history.to_parquet(tmp_path / "history.parquet")
    root = str(Path(__file__).resolve().parents[1])
    code = ELSEWHERE.format(root=root, model=str(folder))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.predict(history.reset_index())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "found.parquet"), expected)
    answer = pd.DataFrame(json.loads((tmp_path / "answer.json").read_text())["predictions"])
    np.testing.assert_allclose(answer["power_kw"].astype(float), expected["power_kw"], rtol=1e-9)
    assert pd.to_datetime(answer["ts"]).tolist() == expected["ts"].tolist()


OF_THE_SIGNATURE = {
    "a word": "convert column voltage_v to type 'float64'",
    "no column": r"missing inputs \['current_a'\]",
}
"""What MLflow itself says, before the model sees the history."""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["level"], indirect=True)
def test_served_model_answers_as_the_loaded_one_and_says_what_is_wrong(folder, model):
    frame = made_history().reset_index()
    expected = model.predict(frame)
    with served_here(folder) as server:
        status, text = ask(server, split_of(frame))
        assert status == 200, text
        answer = pd.DataFrame(json.loads(text)["predictions"])
        assert pd.to_datetime(answer["ts"]).tolist() == expected["ts"].tolist()
        np.testing.assert_allclose(answer["power_kw"].astype(float), expected["power_kw"])
        for name in BAD.keys() - {"infinite"}:  # which JSON cannot say
            change, message = BAD[name]
            said = refusal(server, split_of(change(frame)))
            assert re.search(OF_THE_SIGNATURE.get(name, message), said), (name, said)
