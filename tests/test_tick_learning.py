"""What models learn from, by hand; and networks that see the mirror of a market as they should."""

import json

from lib.tick.learning import CUT, forecasts, save_ridge, training_rows

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from tick_files import FEATURES

SPLIT = {
    "features": ["a", "b"],
    "target": "forward_return_1_bps",
    "horizon": 1,
    "bar": "time",
    "bar_size": 5.0,
    "options": FEATURES,
    "quotes": False,
}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    made["a"] = 3 + 2 * made["a"]
    made[SPLIT["target"]] = 0.5 * made["b"] + 0.1 * rng.normal(size=40)
    made.loc[0, "a"] = np.nan
    made.loc[39, SPLIT["target"]] = np.nan
    return made.assign(day=np.repeat(["1", "2"], 20), phase=0)


def test_scaler_and_unit_come_from_training_rows_alone(table):
    train = (table["day"] == "1").to_numpy()
    data = training_rows(table, train, SPLIT)
    changed = table.copy()
    changed.loc[~train, ["a", "b", SPLIT["target"]]] *= 100
    again = training_rows(changed, train, SPLIT)
    assert data.scaler == again.scaler and data.unit == again.unit
    assert np.isnan(data.y[~train]).all()
    known = data.y[train]
    assert known.std(ddof=1) == pytest.approx(1, abs=1e-6)


def test_scaler_sees_one_grid_and_the_unit_all(table):
    table.loc[20:, "phase"] = 1
    data = training_rows(table, np.ones(40, bool), SPLIT)
    assert data.scaler["mean"][1] == pytest.approx(table["b"][1:20].mean())
    assert data.unit == pytest.approx(table[SPLIT["target"]].std())


def test_far_targets_are_cut_and_incomplete_rows_left_out(table):
    table.loc[5, SPLIT["target"]] = 50.0
    data = training_rows(table, np.ones(40, bool), SPLIT)
    assert data.y[5] == CUT
    x, y = data.complete
    assert len(x) == len(y) == 38


def test_windows_end_where_there_is_a_target_and_cross_neither_day_nor_grid(table):
    table.loc[30:, "phase"] = 1
    ends = training_rows(table, np.ones(40, bool), SPLIT).ends(3)
    assert ends.tolist() == [*range(3, 20), *range(22, 30), *range(32, 39)]


def test_ridge_that_is_kept_forecasts_as_it_was_fitted(table, tmp_path):
    data = training_rows(table, np.ones(40, bool), SPLIT)
    ridge = Ridge(1.0).fit(*data.complete)
    save_ridge(ridge, tmp_path / "ridge.json")
    assert set(json.loads((tmp_path / "ridge.json").read_text())) == {"coefficients", "intercept"}
    made = forecasts({"ridge": (data.spec(), [tmp_path / "ridge.json"])}, table, SPLIT)
    assert list(made.columns) == ["ridge", SPLIT["target"], "day"]
    expected = ridge.predict(data.x[1:]) * data.unit
    np.testing.assert_allclose(made["ridge"][1:], expected, rtol=1e-4)
    assert np.isnan(made["ridge"][0])


def test_bars_of_the_same_moment_have_a_forecast_each(table, tmp_path):
    data = training_rows(table, np.ones(40, bool), SPLIT)
    save_ridge(Ridge(1.0).fit(*data.complete), tmp_path / "ridge.json")
    sweeps = table.set_axis(pd.date_range("2024-05-01", periods=20).repeat(2), axis=0)
    fitted = {"ridge": (data.spec(), [tmp_path / "ridge.json"])}
    made, plain = (forecasts(fitted, one, SPLIT) for one in (sweeps, table))
    pd.testing.assert_frame_equal(made.reset_index(drop=True), plain)


@pytest.mark.kernel
def test_network_forecasts_the_opposite_of_a_market_that_moves_the_other_way():
    from lib.tick.network import gated, keras, last_bar, symmetric, with_line

    keras.utils.set_random_seed(0)
    layers = keras.layers
    bars = keras.Input((5, 3))
    state = layers.Flatten()(
        gated(layers.Dense(4)(bars), layers.Dense(4)(bars), units=4, dropout=0)
    )
    out = layers.Dense(1)(layers.Concatenate()([state, last_bar(bars)]))
    network = symmetric(bars, out, ["return_lag_0", "log_volume", "rsi"])
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    found = network.predict(x, verbose=0)
    mirrored = network.predict(x * np.float32([-1, 1, -1]), verbose=0)
    np.testing.assert_allclose(mirrored, -found, atol=1e-6)
    assert np.abs(found).min() > 1e-4
    coefficients = np.array([0.5, -1.0, 2.0])
    whole = with_line(network, coefficients, 0.25).predict(x, verbose=0)
    np.testing.assert_allclose(whole[:, 0], found[:, 0] + x[:, -1] @ coefficients + 0.25, atol=1e-5)
