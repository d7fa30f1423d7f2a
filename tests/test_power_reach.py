"""Data that are too short are refused before anything is computed, with the parameter to lower."""

import json
import re

from lib.power.features import needed_rows, power_features
from lib.power.reach import check_rows

import pandas as pd
import pytest

OPTIONS = {"horizon": 1, "lags": [0, 1, 23], "windows": [3, 168], "days": 7, "weeks": 4}
OPTIONS |= {"country": "", "min_voltage_v": 207.0}
SHARES = {"valid_fraction": 0.12, "test_fraction": 0.2, "min_rows": 100}


def times(days, freq):
    start = pd.Timestamp("2007-01-01")
    return pd.date_range(start, start + pd.Timedelta(days=days), freq=freq, inclusive="left")


def way_out(message):
    """Return the parameters that a message offers to be copied."""
    return json.loads(re.search(r"PARAMS='(\{.*?\})'", message)[1])


def test_nineteen_days_of_minutes_and_four_weeks_are_told_what_reaches_back_and_what_to_lower():
    with pytest.raises(ValueError, match="too short") as error:
        check_rows(times(19, "min"), OPTIONS, **SHARES)
    said = str(error.value)
    assert "27,360 rows (19 days)" in said and "train 0, validation 3,282, test 5,471" in said
    assert "weeks 40,320 rows (28 days), days 10,080 rows (7 days), windows 168 rows" in said
    assert way_out(said) == {"weeks": 1} and said.endswith("or give 42 days or more")
    check_rows(times(42, "min"), OPTIONS, **SHARES)


@pytest.mark.parametrize(
    ("days", "freq", "options", "better"),
    [
        (5, "min", {}, {"days": 3, "weeks": 0}),
        (3, "h", {}, None),
        (40, "h", {}, {"weeks": 3, "valid_fraction": 0.11}),
        (400, "D", {"windows": [3], "lags": [0], "days": 0}, {"valid_fraction": 0.26}),
        (60, "h", {"windows": [24, 2000], "lags": [0, 1500]}, {"windows": [24], "lags": [0]}),
    ],
)
def test_what_is_offered_is_enough(days, freq, options, better):
    options, index = OPTIONS | options, times(days, freq)
    shares = SHARES | ({"valid_fraction": 0.1} if days == 40 else {})
    with pytest.raises(ValueError, match="too short") as error:
        check_rows(index, options, **shares)
    if better is None:
        assert "No lower value would do; or give" in str(error.value)
        return
    offered = way_out(str(error.value))
    assert offered.items() >= better.items()
    given = {**options, **shares} | offered
    check_rows(index, {k: given[k] for k in options}, **{k: given[k] for k in shares})


def test_days_that_a_refusal_asks_for_are_enough_and_one_less_is_not():
    with pytest.raises(ValueError, match=r"give (\d+) days") as error:
        check_rows(times(10, "h"), OPTIONS, **SHARES)
    days = int(re.search(r"give (\d+) days", str(error.value))[1])
    check_rows(times(days, "h"), OPTIONS, **SHARES)
    with pytest.raises(ValueError, match="too short"):
        check_rows(times(days - 1, "h"), OPTIONS, **SHARES)


@pytest.mark.parametrize("horizon", [1, 5])
def test_reach_is_what_the_features_reach_back(horizon):
    index = times(40, "h")
    history = pd.DataFrame(1.0, index, ["power_kw", "reactive_power_kvar", "voltage_v"])
    history = history.assign(**{f"sub_metering_{k}_wh": 1.0 for k in (1, 2, 3)})
    options = OPTIONS | {"min_voltage_v": 0.0, "horizon": horizon}
    made = power_features(history, **options)["power_kw_week_4"]
    assert made.notna().to_numpy().argmax() == needed_rows(24, options) - 1
