"""Features by hand and against pandas, no look at the future, the calendar, the split."""

import os
import time
from pathlib import Path

from lib.power.columns import COLUMNS
from lib.power.features import (
    PowerOptions,
    calendar_features,
    difference_features,
    first_known_period,
    forward_value,
    lag_features,
    measured,
    needed_rows,
    power_features,
    rolling_features,
    rows_per_day,
    same_time_features,
)

import numpy as np
import pandas as pd
import pytest

OPTIONS: PowerOptions = {
    "horizon": 1,
    "lags": [0, 1, 5],
    "windows": [3, 6],
    "days": 2,
    "weeks": 1,
    "country": "",
    "min_voltage_v": 207.0,
}
HOURLY = Path(os.environ.get("DATA_DIR", "data")) / "power" / "household_power_hourly.csv.gz"


def history(n_rows: int, freq: str = "h", *, gaps: bool = True, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2007-01-01", periods=n_rows, freq=freq, name="ts")
    frame = pd.DataFrame(rng.gamma(2, size=(n_rows, 7)), index, list(COLUMNS))
    frame["voltage_v"] += 238
    if gaps:
        frame.iloc[n_rows // 3 : n_rows // 3 + 5] = np.nan
    return frame


@pytest.fixture
def ramp() -> pd.Series:
    index = pd.date_range("2024-01-01", periods=8, freq="h")
    return pd.Series([1.0, 2, 4, 8, 16, 32, 64, 128], index, name="power_kw")


def test_lag_holds_the_value_of_so_many_rows_before(ramp):
    lags = lag_features(ramp, [0, 2])
    assert list(lags) == ["power_kw_lag_0", "power_kw_lag_2"]
    assert lags["power_kw_lag_0"].tolist() == ramp.tolist()
    assert lags["power_kw_lag_2"].tolist()[2:] == [1, 2, 4, 8, 16, 32]
    assert lags["power_kw_lag_2"].isna().sum() == 2


def test_lag_longer_than_the_series_is_missing_everywhere(ramp):
    assert lag_features(ramp, [8, 100]).isna().all(axis=None)


def test_difference_is_the_last_value_less_an_earlier_one(ramp):
    assert difference_features(ramp, [2])["power_kw_difference_2"].tolist()[2:] == [
        3.0, 6.0, 12.0, 24.0, 48.0, 96.0,
    ]  # fmt: skip


def test_forward_value_is_what_comes_after_and_unknown_at_the_end(ramp):
    target = forward_value(ramp, 3)
    assert target.name == "forward_power_kw_3"
    assert target.tolist()[:5] == [8, 16, 32, 64, 128]
    assert target.isna().tolist() == [False] * 5 + [True] * 3


def test_forward_value_does_not_invent_a_target_in_a_gap(ramp):
    ramp.iloc[4] = np.nan
    assert forward_value(ramp, 1).isna().tolist() == [False] * 3 + [True] + [False] * 3 + [True]


def test_window_of_three_rows_worked_by_hand(ramp):
    window = rolling_features(ramp, [3]).iloc[4]  # 4, 8, 16
    assert window["power_kw_mean_3"] == pytest.approx(28 / 3)
    assert window["power_kw_std_3"] == pytest.approx((336 / 3 - (28 / 3) ** 2) ** 0.5, rel=1e-6)
    assert window["power_kw_min_3"] == 4
    assert window["power_kw_max_3"] == 16


def test_window_with_less_than_half_its_rows_known_is_missing(ramp):
    ramp.iloc[[2, 3]] = np.nan
    mean = rolling_features(ramp, [4], ["mean"])["power_kw_mean_4"].tolist()
    # one row; two of four; two; one (of 1, 2, -, - two); 2, -, -, 16; -, -, 16, 32; 16, 32, 64
    expected = [np.nan, 1.5, 1.5, 1.5, 9, 24, 112 / 3, 60]
    assert mean == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("window", [1, 2, 7, 24, 100, 499, 500, 700])
def test_windows_equal_those_of_pandas_with_gaps(window):
    series = history(500)["power_kw"]
    rolling = series.rolling(window, min_periods=max(1, -(-window // 2)))
    found = rolling_features(series, [window])
    for name, oracle in {
        "mean": rolling.mean(),
        "std": rolling.std(ddof=0),
        "min": rolling.min(),
        "max": rolling.max(),
    }.items():
        column = found[f"power_kw_{name}_{window}"]
        np.testing.assert_allclose(column, oracle, rtol=1e-5, atol=1e-6, err_msg=name)


def test_deviation_of_a_flat_stretch_at_a_high_level_is_exactly_zero():
    series = pd.Series([1e6] + [240.1] * 50, name="v")
    assert rolling_features(series, [10], ["std"])["v_std_10"].iloc[20:].eq(0).all()


def test_same_time_takes_whole_days_before_the_target():
    series = pd.Series(np.arange(20.0), name="p")  # days of four rows
    found = same_time_features(series, horizon=1, period=4, n_periods=2, name="day").iloc[15]
    # the target is row 16, a day before it row 12, two days before it row 8
    assert found.to_dict() == {"p_day_1": 12, "p_day_2": 8, "p_day_mean_2": 10}


def test_same_time_leaves_out_days_that_are_not_known_yet():
    series = pd.Series(np.arange(40.0), name="p")
    found = same_time_features(series, horizon=6, period=4, n_periods=2, name="day").iloc[30]
    # the target is row 36, a day before it row 32 is still to come
    assert found.to_dict() == {"p_day_2": 28, "p_day_3": 24, "p_day_mean_2": 26}


@pytest.mark.parametrize(("horizon", "first"), [(1, 1), (24, 1), (25, 2), (168, 7)])
def test_first_known_day_is_the_first_that_ends_by_the_origin(horizon, first):
    assert first_known_period(horizon, 24) == first


def test_same_time_without_periods_gives_no_columns():
    series = pd.Series(np.arange(9.0), name="p")
    assert same_time_features(series, horizon=1, period=4, n_periods=0, name="day").shape == (9, 0)


def test_midnight_is_night_and_every_hour_has_its_part_of_day():
    index = pd.date_range("2024-03-01", periods=24, freq="h")
    parts = calendar_features(index)["part_of_day"]
    assert parts.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6


def test_minute_before_six_is_night_and_six_is_morning():
    parts = calendar_features(pd.DatetimeIndex(["2024-03-01 05:59", "2024-03-01 06:00"]))
    assert parts["part_of_day"].tolist() == [0, 1]


def test_seasons_start_with_march_june_september_december():
    index = pd.DatetimeIndex([f"2023-{month:02d}-15" for month in range(1, 13)])
    assert calendar_features(index)["season"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0]


def test_saturday_and_sunday_are_the_weekend():
    index = pd.date_range("2024-01-01", periods=7)  # a Monday
    assert calendar_features(index)["weekend"].tolist() == [0, 0, 0, 0, 0, 1, 1]


@pytest.mark.slow
def test_bastille_day_is_a_holiday_in_france_only_and_announced_the_day_before():
    index = pd.DatetimeIndex(["2009-07-13 23:00", "2009-07-14 00:00", "2009-07-15 00:00"])
    french = calendar_features(index, country="FR")
    assert french["holiday"].tolist() == [0, 1, 0]
    assert french["holiday_tomorrow"].tolist() == [1, 0, 0]
    assert calendar_features(index, country="DE")["holiday"].tolist() == [0, 0, 0]
    assert "holiday" not in calendar_features(index)


@pytest.mark.slow
def test_new_year_is_announced_across_the_end_of_the_data():
    index = pd.date_range("2009-12-31", periods=24, freq="h")
    assert calendar_features(index, country="FR")["holiday_tomorrow"].all()


def test_unknown_country_is_refused_by_name():
    with pytest.raises(ValueError, match="XX not available: give an ISO 3166 code"):
        calendar_features(pd.date_range("2024-01-01", periods=2), country="XX")


def test_harmonics_are_back_where_they_were_after_a_day_and_after_four_years():
    index = pd.DatetimeIndex(["2021-01-01 09:30", "2021-01-02 09:30", "2025-01-01 09:30"])
    found = calendar_features(index).filter(regex="sin|cos")
    daily, yearly = found.filter(like="daily"), found.filter(like="yearly")
    assert found.shape[1] == 8
    np.testing.assert_allclose(daily.iloc[0], daily.iloc[1])
    np.testing.assert_allclose(yearly.iloc[0], yearly.iloc[2])
    np.testing.assert_allclose(found["daily_sin_1"] ** 2 + found["daily_cos_1"] ** 2, 1, rtol=1e-6)


def test_quarter_past_six_is_a_quarter_of_the_day_round_the_circle():
    found = calendar_features(pd.DatetimeIndex(["2024-01-01 06:00"]))
    assert found["daily_sin_1"].item() == pytest.approx(1)
    assert found["daily_cos_2"].item() == pytest.approx(-1)
    assert found["yearly_sin_1"].item() == pytest.approx(np.sin(2 * np.pi * 0.25 / 365.25))


@pytest.mark.parametrize(("freq", "expected"), [("min", 1440), ("15min", 96), ("h", 24), ("D", 1)])
def test_rows_per_day_comes_from_the_step(freq, expected):
    assert rows_per_day(pd.date_range("2024-01-01", periods=3, freq=freq)) == expected


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (pd.DatetimeIndex(["2024-01-01"]), "1 rows must"),
        (pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-04"]), "not 1 days .*, 2 days "),
        (pd.date_range("2024-01-01", periods=3, freq="7h"), "0 days 07:00:00"),
        (pd.date_range("2024-01-01", periods=3, freq="2D"), "not 2 days"),
        (pd.DatetimeIndex(["2024-01-02", "2024-01-01"]), "not -1 days"),
    ],
)
def test_rows_per_day_refuses_an_irregular_grid(index, message):
    with pytest.raises(ValueError, match=message):
        rows_per_day(index)


def test_row_without_voltage_is_no_reading_and_the_argument_is_not_edited():
    frame = history(10, gaps=False)
    frame.iloc[3] = 0.0
    before = frame.copy()
    found = measured(frame)
    assert found.isna().all(axis=1).tolist() == [row == 3 for row in range(10)]
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(measured(frame, min_voltage_v=0), frame)


def test_row_whose_voltage_alone_is_missing_keeps_its_power():
    frame = history(4, gaps=False)
    frame.iloc[1, frame.columns.get_loc("voltage_v")] = np.nan
    assert measured(frame)["power_kw"].notna().all()


@pytest.mark.parametrize(
    ("freq", "horizon", "n_rows"), [("h", 1, 900), ("h", 30, 900), ("D", 2, 120), ("15min", 4, 900)]
)
def test_features_do_not_change_when_the_future_is_cut_off_or_replaced(freq, horizon, n_rows):
    options = {**OPTIONS, "horizon": horizon, "country": "FR"}
    whole = history(n_rows, freq)
    features = power_features(whole, **options)
    for cut in (n_rows // 2, n_rows - 7):
        part = power_features(whole.iloc[:cut], **options)
        pd.testing.assert_frame_equal(part, features.iloc[:cut], check_exact=True, check_freq=False)
    other = whole.copy()
    other.iloc[n_rows // 2 :] += 1000
    changed = power_features(other, **options)
    half = slice(0, n_rows // 2)
    pd.testing.assert_frame_equal(changed.iloc[half], features.iloc[half], check_exact=True)
    assert not changed.iloc[n_rows // 2].equals(features.iloc[n_rows // 2])


def test_every_measurement_feature_changes_with_the_past_and_none_with_the_calendar():
    frame = history(900, gaps=False)
    other = frame.assign(**{name: frame[name] * 1.01 for name in frame})
    same = power_features(frame, **OPTIONS).eq(power_features(other, **OPTIONS)).iloc[-1]
    calendar = calendar_features(frame.index[:1]).columns
    assert set(same.index[same]) == set(calendar)


def test_calendar_of_a_row_is_that_of_its_target():
    frame = history(400)
    features = power_features(frame, **{**OPTIONS, "horizon": 5})
    assert features.loc["2007-01-01 20:00", "minute_of_day"] == 60
    assert features.loc["2007-01-01 20:00", "day_of_week"] == 1
    assert features.loc["2007-01-01 19:00", "part_of_day"] == 0


def test_energy_that_no_meter_saw_is_the_rest_of_the_power():
    frame = history(10, gaps=False)
    found = power_features(frame, **OPTIONS)["unmetered_wh_lag_0"]
    rest = frame["power_kw"] * 1000 - frame.filter(like="sub_metering").sum(axis=1)
    np.testing.assert_allclose(found, rest, rtol=1e-5)


def test_energy_that_no_meter_saw_is_scaled_to_the_step():
    frame = history(10, "min", gaps=False)
    found = power_features(frame, **OPTIONS)["unmetered_wh_lag_0"]
    rest = frame["power_kw"] * 1000 / 60 - frame.filter(like="sub_metering").sum(axis=1)
    np.testing.assert_allclose(found, rest, rtol=1e-4, atol=1e-5)


def test_current_of_the_hour_is_not_a_feature():
    assert not any("current" in name for name in power_features(history(10), **OPTIONS))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("horizon", 0, "horizon has 0"),
        ("lags", [-1], "lags has -1"),
        ("windows", [0], "windows has 0"),
    ],
)
def test_option_out_of_range_is_refused(option, value, message):
    with pytest.raises(ValueError, match=message):
        power_features(history(400), **{**OPTIONS, option: value})


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 30])
@pytest.mark.parametrize("per_day", [24, 1])
@pytest.mark.parametrize(
    "change",
    [{}, {"lags": [800]}, {"windows": [700]}, {"days": 0, "weeks": 0}, {"days": 9, "weeks": 3}],
)
def test_needed_rows_is_the_shortest_history_that_gives_the_same_last_row(horizon, per_day, change):
    options = {**OPTIONS, "horizon": horizon, **change}
    whole = history(1000, "h" if per_day == 24 else "D", gaps=False)
    n_needed = needed_rows(per_day, options)
    last = power_features(whole, **options).iloc[-1]
    enough = power_features(whole.iloc[-n_needed:], **options).iloc[-1]
    pd.testing.assert_series_equal(enough, last, rtol=1e-5, check_names=False)
    short = power_features(whole.iloc[-n_needed + 1 :], **options).iloc[-1]
    assert not np.allclose(short, last, rtol=1e-5)


@pytest.mark.slow
def test_half_a_year_of_minutes_takes_seconds():
    frame = history(200_000, "min")
    started = time.process_time()
    features = power_features(frame, windows=[5, 15, 60, 1440])
    assert len(features) == len(frame)
    assert time.process_time() - started < 10


@pytest.mark.real
@pytest.mark.skipif(not HOURLY.exists(), reason="no real data")
def test_zero_filled_hours_of_the_hourly_file_are_not_taken_for_readings():
    frame = pd.read_csv(HOURLY, parse_dates=["datetime"], index_col="datetime")
    frame = frame.set_axis(list(COLUMNS), axis=1)
    kept = measured(frame)["power_kw"]
    assert (frame["power_kw"] == 0).sum() > 400
    assert (kept == 0).sum() == 0
    assert kept.isna().sum() < 450
