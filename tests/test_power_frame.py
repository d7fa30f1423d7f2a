"""The canonical power frame: checks, gaps, resolutions and digest, worked by hand."""

import hashlib
import tracemalloc

from lib.frames import frame_digest, gap_report
from lib.power.columns import COLUMNS
from lib.power.frame import aggregate_power, check_power, describe_power
from lib.power.sample import sample_power

import numpy as np
import pandas as pd
import pytest
from power_data import minutes

# Gaps


def test_gap_report_puts_the_longest_first_and_counts_the_ends():
    power = [np.nan, 1, np.nan, np.nan, 1, np.nan]
    report = gap_report(minutes(6, power=power)["power_kw"])
    assert report["n_rows"].tolist() == [2, 1, 1]
    assert report["start"].dt.minute.tolist() == [2, 0, 5]
    assert report["end"].dt.minute.tolist() == [3, 0, 5]


def test_gap_report_of_a_whole_frame_is_empty():
    assert gap_report(minutes(4)["power_kw"]).shape == (0, 3)


# Checks of a frame


def test_check_returns_the_frame_it_was_given():
    frame = minutes(5)
    assert check_power(frame) is frame


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="voltage_v"), "voltage_v"),
        (lambda f: f.assign(extra=1.0), "extra"),
        (lambda f: f[list(reversed(COLUMNS))], "order"),
        (lambda f: f.astype({"power_kw": int}), "not .*'power_kw': 'int64'"),
        (lambda f: f.rename_axis("time"), "ts"),
        (lambda f: f.tz_localize("UTC"), r"not .*'ts': .*UTC"),
        (lambda f: f.iloc[[0, 1, 1, 2]], "00:01:00 follows 2007-02-01 00:01:00"),
        (lambda f: f.iloc[[0, 2, 1]], "00:01:00 follows 2007-02-01 00:02:00"),
        (lambda f: f.iloc[[0, 1, 2, 4]], "a time without a reading must be a row of NaN"),
        (
            lambda f: f.assign(voltage_v=1001.0),
            "voltage_v must be from 0 to 1000, and is not .5 such rows",
        ),
        (lambda f: f.assign(power_kw=np.inf), "power_kw must be from 0 to 100"),
    ],
)
def test_check_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        check_power(change(minutes(5)))


# Resolution


def test_hour_is_the_mean_of_power_and_the_sum_of_energy():
    hours = aggregate_power(minutes(120), "hour")
    assert hours["power_kw"].tolist() == [29.5, 89.5]
    assert hours["sub_metering_1_wh"].tolist() == [60, 60]
    assert hours.index.tolist() == [
        pd.Timestamp("2007-02-01 00:00"),
        pd.Timestamp("2007-02-01 01:00"),
    ]


def test_day_begins_at_midnight():
    days = aggregate_power(minutes(2880, "2007-02-01 12:00", 1.0), "day", max_missing=0.5)
    assert days.index.tolist() == [pd.Timestamp(2007, 2, d) for d in (1, 2, 3)]
    assert days["power_kw"].tolist() == [1, 1, 1]


def test_hour_missing_just_the_allowed_fraction_stays_and_one_more_minute_makes_it_nan():
    power = np.ones(120)
    power[:15] = np.nan
    power[60:76] = np.nan
    hours = aggregate_power(minutes(120, power=power), "hour", max_missing=0.25)
    assert hours["power_kw"].iloc[0] == 1 and np.isnan(hours["power_kw"].iloc[1])
    assert hours["voltage_v"].tolist() == [1, 1]


def test_energy_of_an_hour_with_missing_minutes_is_scaled_to_the_hour():
    frame = minutes(60)
    frame.iloc[:12] = np.nan
    assert aggregate_power(frame, "hour")["sub_metering_1_wh"].tolist() == [60]


def test_minutes_before_the_first_reading_count_as_missing():
    hours = aggregate_power(minutes(80, "2007-02-01 00:40", 1.0), "hour")
    assert hours["power_kw"].isna().tolist() == [True, False]


def test_aggregation_agrees_with_pandas_resample():
    frame = sample_power(3, start="2007-03-01 05:17", seed=2, gaps=False)
    ours = aggregate_power(frame, "hour", max_missing=0)
    full = frame.resample("h").count()["power_kw"] == 60
    means = frame.resample("h").mean()[full]
    sums = frame.resample("h").sum()[full]
    np.testing.assert_allclose(ours.loc[full, "voltage_v"], means["voltage_v"], rtol=1e-12)
    np.testing.assert_allclose(
        ours.loc[full, "sub_metering_2_wh"], sums["sub_metering_2_wh"], rtol=1e-12
    )
    assert ours[~full].isna().all(axis=None)


def test_rows_are_never_split():
    hours = aggregate_power(minutes(180), "hour")
    with pytest.raises(ValueError, match="cannot be made into rows of one minute"):
        aggregate_power(hours, "minute")


@pytest.mark.parametrize("start", ["2007-02-01 05:30", "2007-02-01 00:15"])
def test_rows_across_the_begin_of_an_hour_are_not_moved(start):
    index = pd.date_range(start, periods=3, freq="h", unit="us", name="ts")
    hours = minutes(3).set_axis(index, axis=0)
    with pytest.raises(ValueError, match=f'1:00:00 from {start}:00 on go across.*="native"'):
        aggregate_power(hours, "hour")


def test_aggregation_to_the_same_resolution_changes_nothing():
    frame = minutes(7, "2007-02-01 00:03")
    pd.testing.assert_frame_equal(aggregate_power(frame, "minute"), frame)


# Digest


def test_digest_is_fixed():
    frame = pd.DataFrame(
        {"x": [1.0, np.nan]},
        pd.DatetimeIndex(["2007-02-01", "2007-02-02"], name="ts").as_unit("us"),
    )
    ts = np.array([1170288000000000, 1170374400000000], "<i8").tobytes()
    x = np.array([1.0, np.nan], "<f8").tobytes()
    by_hand = hashlib.sha256(b"ts|datetime64[us]|2|" + ts + b"x|float64|2|" + x).hexdigest()
    assert frame_digest(frame) == by_hand


def test_digest_of_texts_is_fixed_and_needs_little_memory_for_a_long_one():
    texts = ["", "ü", "x" * 20_000, None, *["short"] * 2_000]
    whole = np.array([str(text).encode() for text in pd.Series(texts, dtype="str")])
    values = b"None|int64|2004|" + np.arange(2004).astype("<i8").tobytes() + b"t|str|2004|"
    by_hand = hashlib.sha256(values + whole.tobytes()).hexdigest()
    del whole, values
    tracemalloc.start()
    try:
        assert frame_digest(pd.DataFrame({"t": pd.Series(texts, dtype="str")})) == by_hand
        assert tracemalloc.get_traced_memory()[1] < 30e6, "the texts are not all that long"
    finally:
        tracemalloc.stop()


def test_digest_sees_values_names_types_and_times():
    frame = minutes(5)
    others = [
        frame.assign(power_kw=frame["power_kw"] + 1e-12),
        frame.rename(columns={"power_kw": "power"}),
        frame.astype({"power_kw": "float32"}),
        frame.shift(freq="1min"),
        frame[list(reversed(frame.columns))],
    ]
    assert len({frame_digest(f) for f in [frame, *others]}) == 6


def test_digest_does_not_see_memory_layout_or_the_bits_of_nan():
    frame = minutes(4, power=[0.0, 1.0, np.nan, 3.0])
    other = pd.DataFrame(np.asfortranarray(frame.to_numpy()).copy(), frame.index, frame.columns)
    odd = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    other = other.assign(power_kw=[-0.0, 1.0, odd, 3.0])
    assert frame_digest(other) == frame_digest(frame)


def test_description_names_sample_data_as_such_and_counts_missing_rows():
    frame = minutes(4, power=[0.0, 1.0, np.nan, 3.0])
    described = describe_power(frame, "sample")
    assert described == {
        "name": "household_power_sample",
        "source": "sample",
        "digest": frame_digest(frame),
        "n_rows": 4,
        "n_missing": 1,
        "start": "2007-02-01T00:00:00",
        "end": "2007-02-01T00:03:00",
        "freq": "P0DT0H1M0S",
    }
    assert describe_power(frame, "uci")["name"] == "household_power"
