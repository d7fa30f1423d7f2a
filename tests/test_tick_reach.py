"""Days that are too short are refused before anything is computed, with the parameter to lower."""

import re

from lib.tick.reach import check_days

import numpy as np
import pandas as pd
import pytest

OPTIONS = {"windows": [3, 60], "lags": [0, 5], "rsi_window": 14, "bollinger_window": 20}
OPTIONS |= {"macd": [12, 26, 9]}


def days(*lengths):
    return pd.Series(np.repeat([f"2024-03-{4 + k:02d}" for k in range(len(lengths))], lengths))


TEST = ["2024-03-06"]


def test_days_too_short_for_a_window_are_told_how_much_they_have_and_what_to_lower():
    with pytest.raises(ValueError, match="too short") as error:
        check_days(days(90, 100, 200), TEST, OPTIONS, horizon=2, window=60)
    said = str(error.value)
    assert "the training days have 90 to 100 bars, and a forecast takes 122 of its own day" in said
    assert "windows=[3, 60] 60 bars, macd=[12, 26, 9] 33 bars" in said
    most = int(re.search(r"Lower window to (\d+) or less", said)[1])
    check_days(days(90, 100, 200), TEST, OPTIONS, horizon=2, window=most)
    with pytest.raises(ValueError, match="too short"):
        check_days(days(90, 100, 200), TEST, OPTIONS, horizon=2, window=most + 1)


def test_test_days_too_short_for_the_features_name_the_options_that_reach_too_far():
    with pytest.raises(ValueError, match="test days have 40 bars") as error:
        check_days(days(90, 100, 40), TEST, OPTIONS, horizon=1)
    assert "Lower windows, together to less than 39 bars, or make more bars" in str(error.value)
    check_days(days(90, 100, 40), TEST, OPTIONS | {"windows": [3, 38]}, horizon=1)


def test_one_long_day_of_each_part_is_enough():
    check_days(days(5, 62, 62), TEST, OPTIONS, horizon=1)
    with pytest.raises(ValueError, match="training days have 5 to 61"):
        check_days(days(5, 61, 62), TEST, OPTIONS, horizon=1)
