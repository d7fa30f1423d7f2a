"""Indicators against plain loops and published values, features without future or other days."""

import ast
import sys
import time
from pathlib import Path

import lib.tick.indicators
from lib.tick.indicators import (
    FeatureOptions,
    bar_features,
    bollinger,
    check_bars,
    forward_return,
    rsi,
    warm_up,
)

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tick_files import FEATURES

OPTIONS: FeatureOptions = {
    "windows": [2, 5],
    "lags": [0, 1, 3],
    "rsi_window": 4,
    "bollinger_window": 6,
    "macd": [3, 5, 2],
}
WILDER_CLOSE = [
    44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826,
    45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439,
]  # fmt: skip
WILDER_RSI = [70.53, 66.32, 66.55, 69.41, 66.36, 57.97]  # StockCharts, "Relative Strength Index"


def bars_of(lengths: list[int], *, spread: bool = False, seed: int = 0) -> pd.DataFrame:
    """Return random bars of successive days with so many bars each."""
    rng = np.random.default_rng(seed)
    n_bars = sum(lengths)
    day = np.repeat(np.arange(len(lengths)), lengths)
    in_day = np.concatenate([np.arange(length) for length in lengths])
    ts = pd.Timestamp("2013-10-07 13:30:05", tz="UTC") + pd.to_timedelta(day, "D")
    close = 167 * np.exp(rng.choice([-1e-4, 0, 0, 2e-4], n_bars).cumsum())
    volume = rng.integers(1, 900, n_bars).astype(float)
    bars = pd.DataFrame(
        {
            "day": (pd.Timestamp("2013-10-07") + pd.to_timedelta(day, "D")).strftime("%Y-%m-%d"),
            "open": close - 0.01,
            "high": close + rng.choice([0, 0.02], n_bars),
            "low": close - 0.02,
            "close": close,
            "volume": volume,
            "count": rng.integers(1, 50, n_bars).astype(float),
            "signed_volume": volume * rng.choice([-1, -0.3, 0, 1], n_bars),
            "vwap": close - rng.choice([0, 0.01], n_bars),
            "side": rng.choice([-1.0, 0, 1], n_bars),
            "tail": close - 0.005,
            "mean": close - 0.007,
        }
    ).set_index((ts + pd.to_timedelta(5 * in_day, "s")).as_unit("us").rename("ts"))
    return bars.assign(spread=0.01) if spread else bars


def naive_mean(window):
    def one_day(day):
        return [
            np.mean(day[row + 1 - window : row + 1]) if row + 1 >= window else np.nan
            for row in range(len(day))
        ]

    return one_day


def naive_ema(window, first=None):
    first = window - 1 if first is None else first  # row of the first mean

    def one_day(day):
        found = [np.nan] * len(day)
        for row in range(first, len(day)):
            if row == first:
                found[row] = np.mean(day[row - window + 1 : row + 1])
            else:
                found[row] = found[row - 1] + 2 / (window + 1) * (day[row] - found[row - 1])
        return found

    return one_day


def naive_rsi(window):
    def one_day(day):
        found = [np.nan] * len(day)
        for row in range(window, len(day)):
            changes = [day[k] - day[k - 1] for k in range(1, row + 1)]
            up = np.mean([max(change, 0) for change in changes[:window]])
            down = np.mean([max(-change, 0) for change in changes[:window]])
            for change in changes[window:]:
                up = (up * (window - 1) + max(change, 0)) / window
                down = (down * (window - 1) + max(-change, 0)) / window
            found[row] = 50 if up + down == 0 else 100 * up / (up + down)
        return found

    return one_day


def naive_deviation(window):
    def one_day(day):
        return [
            np.std(day[row + 1 - window : row + 1]) if row + 1 >= window else np.nan
            for row in range(len(day))
        ]

    return one_day


def test_loops_of_this_file_worked_by_hand():
    nan = np.nan
    np.testing.assert_allclose(naive_mean(2)([1.0, 3, 8]), [nan, 2, 5.5])
    np.testing.assert_allclose(naive_ema(3)([1.0, 2, 6, 9, 1]), [nan, nan, 3, 6, 3.5])
    np.testing.assert_allclose(naive_ema(2, 2)([9.0, 2, 6, 7]), [nan, nan, 4, 6])
    np.testing.assert_allclose(naive_deviation(3)([1.0, 2, 6]), [nan, nan, (14 / 3) ** 0.5])
    np.testing.assert_allclose(naive_rsi(2)([0.0, 2, 1, 4]), [nan, nan, 200 / 3, 800 / 9])


def test_rsi_equals_the_published_example():
    found = rsi(np.array(WILDER_CLOSE), 14)
    assert np.isnan(found[:14]).all()
    assert found[14:].round(2).tolist() == WILDER_RSI


def test_rsi_of_a_price_at_rest_stays_what_it_was():
    values = np.array([0.0, 1, 2, 1, 2] + [2.0] * 2000)
    found = rsi(values, 4)
    assert found[4:] == pytest.approx(75)
    assert (found[:500] == rsi(values[:500], 4))[4:].all()


def test_rsi_of_a_day_without_any_change_is_in_the_middle():
    nan = np.nan
    np.testing.assert_array_equal(rsi(np.full(5, 7.0), 3), [nan, nan, nan, 50, 50])
    np.testing.assert_array_equal(
        rsi(np.array([7.0, 7, 7, 7, 7, 8]), 3), [nan, nan, nan, 50, 50, 100]
    )
    np.testing.assert_array_equal(rsi(np.array([9.0, 8, 7, 6, 6]), 3), [nan, nan, nan, 0, 0])


@pytest.mark.parametrize("window", [2, 20, 60])
def test_bands_of_a_price_at_rest_have_no_width_and_the_price_is_in_their_middle(window):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 300, 500).cumsum(), np.full(200, 123.456789)])
    position, width = bollinger(values, window)
    assert np.isnan(position[: window - 1]).all()
    assert (width[500 + window :] == 0).all()
    assert (position[500 + window :] == 0.5).all()


def test_bands_worked_by_hand():
    position, width = bollinger(np.array([1.0, 2, 6]), 3)
    deviation = (14 / 3) ** 0.5
    assert width[2] == pytest.approx(4 * deviation)
    assert position[2] == pytest.approx((6 - (3 - 2 * deviation)) / (4 * deviation))


def naive_features(bars: pd.DataFrame, options: FeatureOptions) -> pd.DataFrame:
    """Return the features, day by day, written down from their definitions with pandas."""
    days = []
    for _, day in bars.groupby("day"):
        log = np.log(day[["close", "vwap", "mean", "tail", "high", "low"]]) * 1e4
        returns = log["close"].diff()
        imbalance = (day["signed_volume"] / day["volume"]).where(day["volume"] > 0, 0.0)
        found = {f"return_lag_{lag}": returns.shift(lag) for lag in options["lags"]}
        for name in ("vwap", "mean", "tail"):
            found[f"close_to_{name}"] = log["close"] - log[name]
        found["close_to_middle"] = log["close"] - np.log((day["high"] + day["low"]) / 2) * 1e4
        found |= {"side": day["side"], "imbalance": imbalance}
        found["range_bps"] = log["high"] - log["low"]
        found["log_volume"] = np.log(day["volume"] + 1)
        found["log_count"] = np.log(day["count"] + 1)
        for w in options["windows"]:
            ema = pd.Series(naive_ema(w)(log["close"].tolist()), day.index)
            found[f"close_mean_{w}"] = log["close"] - naive_mean(w)(log["close"].tolist())
            found[f"vwap_mean_{w}"] = log["close"] - naive_mean(w)(log["vwap"].tolist())
            found[f"close_ema_{w}"] = log["close"] - ema
            deviation = naive_deviation(w)(returns[1:].tolist())
            found[f"volatility_{w}"] = [np.nan, *deviation]
            sums = day[["signed_volume", "volume"]].rolling(w).sum()
            found[f"imbalance_{w}"] = sums["signed_volume"] / sums["volume"]
        window = options["bollinger_window"]
        mean = pd.Series(naive_mean(window)(log["close"].tolist()), day.index)
        deviation = pd.Series(naive_deviation(window)(log["close"].tolist()), day.index)
        deviation = deviation.mask(deviation < 1e-9, 0)  # pandas' is 1e-4 off after a move
        position = 0.5 + (log["close"] - mean) / (4 * deviation)
        found["bollinger_position"] = position.mask(deviation == 0, 0.5)
        found["bollinger_width"] = 4 * deviation
        found["rsi"] = naive_rsi(options["rsi_window"])(log["close"].tolist())
        fast, slow, signal = options["macd"]
        line = np.subtract(*(naive_ema(w, slow - 1)(log["close"].tolist()) for w in (fast, slow)))
        mean = np.full(len(day), np.nan)
        mean[slow - 1 :] = naive_ema(signal)(line[slow - 1 :].tolist())
        known = np.where(np.isnan(mean), np.nan, 1)
        found |= {"macd": line * known, "macd_signal": mean, "macd_histogram": line - mean}
        found["time_of_day"] = (day.index - day.index[0]) / pd.Timedelta(hours=6.5)
        if "spread" in day:
            found["spread_bps"] = day["spread"] / day["close"] * 1e4
        days.append(pd.DataFrame(found, day.index))
    return pd.concat(days)


def feature_names(options, *, quotes):
    """The columns of the features in order, of bars with or without a spread."""
    groups = ("close_mean", "vwap_mean", "close_ema", "volatility", "imbalance")
    return [
        *(f"return_lag_{lag}" for lag in options["lags"]),
        *("close_to_vwap", "close_to_mean", "close_to_tail", "close_to_middle"),
        *("side", "imbalance", "range_bps", "log_volume", "log_count"),
        *(f"{group}_{window}" for window in options["windows"] for group in groups),
        *("bollinger_position", "bollinger_width", "rsi"),
        *("macd", "macd_signal", "macd_histogram", "time_of_day"),
        *(["spread_bps"] if quotes else []),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, FEATURES])
@pytest.mark.parametrize("spread", [False, True])
def test_features_equal_their_definitions_and_have_their_names(options, spread):
    bars = bars_of([150, 1, 3, 100], spread=spread)
    features = bar_features(bars, options)
    pd.testing.assert_frame_equal(features, naive_features(bars, options), rtol=1e-7, atol=1e-6)
    assert list(features) == feature_names(options, quotes=spread)
    assert set(features.dtypes) == {np.dtype(np.float64)}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    seed=st.integers(0, 100),
    window=st.integers(2, 12),
    lag=st.integers(0, 12),
    windows=st.sampled_from([[2, 3, 2], [2, 7, 4], [5, 6, 3]]),
)
def test_features_equal_their_definitions_for_any_days_and_windows(
    lengths, seed, window, lag, windows
):
    options: FeatureOptions = {
        "windows": [window],
        "lags": [lag],
        "rsi_window": window,
        "bollinger_window": window,
        "macd": windows,
    }
    bars = bars_of(lengths, seed=seed)
    features = bar_features(bars, options)
    pd.testing.assert_frame_equal(features, naive_features(bars, options), rtol=1e-7, atol=1e-6)


@pytest.mark.slow
def test_features_stay_precise_after_a_jump_of_ten_per_cent():
    bars = bars_of([200])
    prices = ["open", "high", "low", "close", "vwap", "tail", "mean"]
    bars.loc[bars.index[50:], prices] *= 1.1
    features = bar_features(bars, FEATURES)
    expected = naive_features(bars, FEATURES)
    pd.testing.assert_frame_equal(features, expected, rtol=1e-6, atol=1e-4)


def test_whole_numbers_and_single_precision_are_numbers_too():
    bars = bars_of([60])
    other = bars.astype({"volume": int, "count": np.int32, "side": np.float32})
    pd.testing.assert_frame_equal(bar_features(other, OPTIONS), bar_features(bars, OPTIONS))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"windows": [40]},
        {"windows": [2]},
        {"lags": [0, 50]},
        {"rsi_window": 45},
        {"bollinger_window": 48},
        {"macd": [3, 30, 20]},
        {"windows": [], "lags": []},
    ],
)
@pytest.mark.parametrize("base", [OPTIONS, FEATURES])
def test_warm_up_rows_of_each_day_are_the_incomplete_ones(base, change):
    options = {**base, **change}
    bars = bars_of([90, 20, 80])
    incomplete = bar_features(bars, options).isna().any(axis=1).to_numpy()
    n_rows = warm_up(options)
    expected = [np.arange(length) < n_rows for length in (90, 20, 80)]
    np.testing.assert_array_equal(incomplete, np.concatenate(expected))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    seed=st.integers(0, 5),
    n_known=st.integers(1, 100),
)
def test_features_of_the_past_do_not_change_when_the_future_comes_or_is_another(
    lengths, seed, n_known
):
    bars = bars_of(lengths, seed=seed)
    n_known = min(n_known, len(bars))
    known = slice(0, n_known)
    features = bar_features(bars, OPTIONS).iloc[known]
    part = bar_features(bars.iloc[known], OPTIONS)
    pd.testing.assert_frame_equal(part, features, check_exact=True)
    other = bars.copy()
    for name in other.columns[1:]:
        if name != "side":
            other.iloc[n_known:, other.columns.get_loc(name)] *= 1.5
    changed = bar_features(other, OPTIONS).iloc[known]
    pd.testing.assert_frame_equal(changed, features, check_exact=True)


def test_features_of_a_day_do_not_depend_on_other_days():
    bars = bars_of([70, 80, 90])
    features = bar_features(bars, OPTIONS)
    for _, day in bars.groupby("day"):
        alone = bar_features(day, OPTIONS)
        pd.testing.assert_frame_equal(alone, features.loc[day.index], check_exact=True)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_features_are_free_of_the_level_of_prices(scale):
    bars = bars_of([70, 30], spread=True)
    prices = ["open", "high", "low", "close", "vwap", "tail", "mean", "spread"]
    scaled = bars.assign(**{name: bars[name] * scale for name in prices})
    pd.testing.assert_frame_equal(
        bar_features(scaled, OPTIONS), bar_features(bars, OPTIONS), rtol=1e-5, atol=1e-5
    )


def test_features_of_a_price_that_never_moves_are_finite():
    bars = bars_of([60])
    for name in ("open", "high", "low", "close", "vwap", "tail", "mean"):
        bars[name] = 167.41
    features = bar_features(bars, OPTIONS).iloc[warm_up(OPTIONS) :]
    assert np.isfinite(features).all(axis=None)
    still = features.filter(regex="return|close|vwap_mean|volatility|range|width|macd")
    assert still.abs().max(axis=None) < 1e-9
    assert features["rsi"].eq(50).all()
    assert features["bollinger_position"].eq(0.5).all()


def test_imbalance_worked_by_hand():
    volume, signed = np.array([0.1, 0.2, 0.6, 0.1]), np.array([0.1, -0.2, 0.3, -0.1])
    bars = bars_of([4]).assign(volume=volume, signed_volume=signed)
    features = bar_features(bars, {**OPTIONS, "windows": [2]})
    np.testing.assert_allclose(features["imbalance"], [1, -1, 0.5, -1])
    np.testing.assert_allclose(features["imbalance_2"], [np.nan, -1 / 3, 1 / 8, 2 / 7])


def test_imbalance_is_never_more_than_one_by_a_rounding():
    rng = np.random.default_rng(0)
    volume = rng.uniform(0.1, 1, 2000)
    bars = bars_of([2000]).assign(volume=volume, signed_volume=volume * rng.choice([-1, 1], 2000))
    assert bar_features(bars, OPTIONS)["imbalance_2"].abs().max() == 1


def test_bars_without_volume_have_no_imbalance_whatever_came_before():
    volume = np.r_[np.full(10, 0.1), np.full(20, 0.0)]
    bars = bars_of([30]).assign(volume=volume, signed_volume=volume)
    features = bar_features(bars, OPTIONS).iloc[10 + max(OPTIONS["windows"]) :]
    assert features.filter(regex="imbalance|log_volume").eq(0).all(axis=None)


def test_bars_and_options_are_not_edited():
    bars, options = bars_of([30]), {**OPTIONS}
    before = bars.copy()
    bar_features(bars, options)
    pd.testing.assert_frame_equal(bars, before)
    assert options == OPTIONS


def test_forward_return_worked_by_hand():
    bars = pd.DataFrame({"day": ["a"] * 3 + ["b"] * 2, "close": [100.0, 101, 102, 50, 51]})
    one, two = forward_return(bars, 1), forward_return(bars, 2)
    assert (one.name, two.name) == ("forward_return_1_bps", "forward_return_2_bps")
    nan = np.nan
    expected = np.log([101 / 100, 102 / 101, nan, 51 / 50, nan]) * 1e4
    np.testing.assert_allclose(one, expected, rtol=1e-12)
    np.testing.assert_allclose(two, np.log([1.02, nan, nan, nan, nan]) * 1e4, rtol=1e-12)
    assert forward_return(bars, 5).isna().all()
    assert forward_return(bars, 50).isna().all()


@pytest.mark.parametrize("horizon", [1, 3])
def test_forward_return_is_the_sum_of_the_returns_to_come(horizon):
    bars = bars_of([40, 2, 30])
    returns = bar_features(bars, OPTIONS)["return_lag_0"]
    coming = returns.groupby(bars["day"]).transform(
        lambda day: day.rolling(horizon).sum().shift(-horizon)
    )
    np.testing.assert_allclose(forward_return(bars, horizon), coming, atol=1e-8)


@pytest.mark.parametrize("horizon", [0, -1])
def test_horizon_that_does_not_look_ahead_is_refused(horizon):
    with pytest.raises(ValueError, match=f"horizon is {horizon}"):
        forward_return(bars_of([5]), horizon)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": [3, 3]}, "windows has a number twice"),
        ({"lags": [0, 0]}, "lags has a number twice"),
        ({"macd": [12, 26]}, "a fast, a slow"),
        ({"macd": [26, 12, 9]}, "a slow .longer. and"),
    ],
)
def test_option_out_of_its_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bar_features(bars_of([50]), {**OPTIONS, **change})


def with_value(row: int, column: str, value: float) -> pd.DataFrame:
    bars = bars_of([5, 5], spread=True)
    bars.iloc[row, bars.columns.get_loc(column)] = value
    return bars


def test_sound_bars_pass():
    check_bars(bars_of([5, 1], spread=True))
    check_bars(bars_of([5, 1]))


@pytest.mark.parametrize("use", [check_bars, lambda bars: bar_features(bars, OPTIONS)])
@pytest.mark.parametrize(
    ("bars", "message"),
    [
        (bars_of([5]).drop(columns="tail"), "column 'tail' is missing; there are"),
        (bars_of([5]).iloc[:0], "there is no bar"),
        (bars_of([5]).iloc[[0, 2, 1]], r"row 2 at .* 13:30:10\+00:00 comes after .*13:30:15"),
        (bars_of([2, 2]).assign(day=["a", "b", "a", "b"]), "row 2: day a begins again"),
        (with_value(3, "close", np.nan), "row 3 at .*: close is nan, it must be finite and"),
        (with_value(6, "volume", np.inf), "row 6 at .*: volume is inf, it must be finite"),
        (with_value(2, "close", 0.0), "row 2 at .*: close is 0.0, it must be .* above 0"),
        (with_value(2, "volume", -1.0), "row 2 at .*: volume is -1.0, it must be .* 0 or more"),
        (with_value(2, "spread", -0.1), "row 2 at .*: spread is -0.1, it must be .* 0 or more"),
        (with_value(2, "side", 2.0), "row 2 at .*: side is 2.0, it must be from -1 to 1"),
        (with_value(4, "high", 1.0), "row 4 at .*: high is 1.0, it must be at least low"),
        (with_value(4, "open", 1.0), "row 4 at .*: open is 1.0, it must be from low to high"),
        (with_value(4, "close", 200.0), "row 4 at .*: close is 200.0, it must be from low"),
    ],
)
def test_bars_that_no_features_can_be_made_of_are_refused(use, bars, message):
    with pytest.raises(ValueError, match=message):
        use(bars)


def test_module_that_travels_with_models_needs_these_packages_only():
    tree = ast.parse(Path(lib.tick.indicators.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"lib", "numpy", "pandas", "talib"}


@pytest.mark.slow
def test_two_hundred_thousand_bars_take_less_than_two_seconds():
    bars = bars_of([1000] * 200)
    started = time.process_time()
    features = bar_features(bars, FEATURES)
    assert len(features) == len(bars)
    assert time.process_time() - started < 2
