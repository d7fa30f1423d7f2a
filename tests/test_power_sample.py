"""The made-up house, and the real files beside it."""

from lib.frames import frame_digest, gap_report
from lib.ground.files import data_dir
from lib.power.frame import aggregate_power, check_power
from lib.power.load import load_power
from lib.power.sample import sample_power

import numpy as np
import pandas as pd
import pytest

REAL = data_dir() / "power"


# Sample


def test_sample_repeats_by_seed_and_differs_between_seeds():
    assert frame_digest(sample_power(3, seed=1)) == frame_digest(sample_power(3, seed=1))
    assert frame_digest(sample_power(3, seed=1)) != frame_digest(sample_power(3, seed=2))


@pytest.mark.slow
def test_sample_is_canonical_and_has_gaps_of_minutes_to_days():
    frame = check_power(sample_power())
    gaps = gap_report(frame["power_kw"])["n_rows"]
    assert frame.shape == (430 * 1440, 7)
    assert 0.002 < frame["power_kw"].isna().mean() < 0.03
    assert gaps.min() <= 3 and gaps.max() >= 1200
    assert frame.isna().all(axis=1).equals(frame["power_kw"].isna())


def test_sample_current_is_apparent_power_over_voltage():
    frame = sample_power(10, gaps=False)
    apparent = np.hypot(frame["power_kw"], frame["reactive_power_kvar"]) * 1000
    assert (frame["current_a"] - apparent / frame["voltage_v"]).abs().max() < 0.12


def test_sample_sub_meters_never_add_up_to_more_than_the_whole():
    frame = sample_power(60, gaps=False)
    parts = frame[[f"sub_metering_{k}_wh" for k in (1, 2, 3)]].sum(axis=1)
    assert (frame["power_kw"] * 1000 / 60 - parts).min() > -4


@pytest.mark.slow
def test_sample_has_the_rhythms_of_a_house():
    power = aggregate_power(sample_power(), "hour")["power_kw"]
    by_hour, by_month = (
        power.groupby(power.index.hour).mean(),
        power.groupby(power.index.month).mean(),
    )
    assert by_hour[20] > 2.5 * by_hour[3]
    assert by_month[1] > 1.5 * by_month[7]
    assert 0.65 < power.autocorr(1) < 0.8 and power.autocorr(24) > 0.4


# The real files


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "household_power_consumption.zip").exists(), reason="no real data")
def test_real_minutes_are_all_read():
    frame = check_power(load_power(str((REAL / "household_power_consumption.zip").resolve())))
    assert len(frame) == 282_636 and frame["power_kw"].isna().sum() == 3_775
    assert frame.index[0] == pd.Timestamp("2006-12-16 17:24")
    assert frame.index[-1] == pd.Timestamp("2007-06-30 23:59")
    by_pandas = pd.read_csv(REAL / "household_power_consumption.zip", sep=";", na_values="?")
    assert np.array_equal(frame.to_numpy(), by_pandas.iloc[:, 2:].to_numpy(), equal_nan=True)


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "household_power_hourly.csv.gz").exists(), reason="no real data")
def test_real_hours_are_all_read_and_agree_with_the_minutes():
    hours = load_power(str((REAL / "household_power_hourly.csv.gz").resolve()))
    assert len(hours) == 34_589 and not hours.isna().any(axis=None)
    minutes_file = REAL / "household_power_consumption.zip"
    ours = load_power(str(minutes_file.resolve()), resolution="hour", max_missing=0)
    both = ours.dropna().index
    assert len(both) > 4_500
    np.testing.assert_allclose(ours.loc[both, "power_kw"], hours.loc[both, "power_kw"], atol=1e-4)
    np.testing.assert_allclose(
        ours.loc[both, "sub_metering_3_wh"], hours.loc[both, "sub_metering_3_wh"], atol=1e-6
    )
