"""Drift: thresholds come from the training data, planted changes are seen, and nothing else is."""

import json
import math

from lib.registry import drift
from lib.run import open_run

import numpy as np
import pandas as pd
import pytest

WEEK = 168


@pytest.fixture(scope="module")
def learned():
    """A year of hours: a wandering level, like weather, and a daily cycle."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(size=120).cumsum() * 0.05, 73)
    cycle = np.sin(2 * np.pi * np.arange(len(level)) / 24)
    values = level + cycle + 0.3 * rng.normal(size=len(level))
    return pd.DataFrame({"load": values, "use": np.maximum(values, 0)})


@pytest.fixture(scope="module")
def profile(learned):
    return drift.profile(learned, WEEK)


def test_profile_is_kept_and_its_thresholds_are_shown(learned, profile, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("house/dev", stage="02_features")
    shown = drift.keep_profile(run, learned, WEEK)
    assert run.read("profile.json") == profile
    assert shown.loc["load", "psi"] == round(profile["columns"]["load"]["thresholds"]["psi"], 2)


@pytest.mark.slow
def test_no_stretch_of_the_training_data_is_an_alarm(learned, profile):
    for k in range(0, len(learned) - WEEK, WEEK):
        assert not drift.measure(profile, learned.iloc[k : k + WEEK])["drifted"].any()


def test_rows_that_are_alike_in_time_have_higher_thresholds_than_shuffled_ones(learned, profile):
    shuffled = drift.profile(learned.sample(frac=1, random_state=0), WEEK)
    for name in learned:
        assert (
            profile["columns"][name]["thresholds"]["ks"]
            > 1.3 * shuffled["columns"][name]["thresholds"]["ks"]
        )


def test_stability_index_is_the_sum_worked_by_hand():
    known = {"edges": [1.0], "fractions": [0.5, 0.5], "points": [0.0, 2.0], "below": [0.5, 1.0]}
    values = np.array([0.0, 0.0, 0.0, 2.0])
    p, q = 3.5 / 5, 1.5 / 5  # half a row more in both bins of both
    expected = (p - 0.5) * math.log(p / 0.5) + (q - 0.5) * math.log(q / 0.5)
    assert drift._distances(known, values)["psi"] == pytest.approx(expected)


def test_distance_is_that_of_scipy_where_every_value_is_kept():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(1)
    whole, part = rng.normal(size=201), rng.normal(0.5, 1, 60)
    found = drift._distances(drift._describe(whole), part)["ks"]
    assert found == pytest.approx(ks_2samp(whole, part).statistic, abs=1.5 / 60)


def test_value_on_a_border_counts_to_the_bin_below():
    known = drift._describe(np.array([0.0] * 60 + list(range(1, 41))))
    assert known["edges"][0] == 0 and known["fractions"][0] == 0.6


@pytest.mark.parametrize(
    ("name", "disturb"),
    [
        ("outside", lambda rows: rows + 10),
        ("ks", lambda rows: rows * 0 + 0.2),
        ("psi", lambda rows: rows * 0 + 0.2),
        ("missing", lambda rows: rows.where(np.arange(len(rows)) % 3 == 0)),
    ],
)
def test_planted_change_is_seen_by_the_distance_made_for_it(name, disturb, learned, profile):
    week = learned.iloc[1000 : 1000 + WEEK].copy()
    week["load"] = disturb(week["load"])
    row = drift.measure(profile, week).loc["load"]
    assert row[name] > row[f"{name}_threshold"] and row["drifted"]


def test_gaps_of_a_third_are_no_drift(learned, profile):
    week = learned.iloc[1000 : 1000 + WEEK].copy()
    week.iloc[20:76] = np.nan
    found = drift.measure(profile, week)
    assert found["missing"].eq(1 / 3).all() and not found["drifted"].any()


def test_outside_is_judged_by_all_other_rows():
    values = np.zeros(100)
    values[[10, 11, 90]] = [5, 6, 4]
    starts = np.arange(0, 81, 20)
    assert drift._outside_the_rest(values, starts, 20) == pytest.approx(2 / 20)


@pytest.mark.parametrize("other", [0.0, 2.0])
def test_one_row_is_no_drift_of_a_column_that_never_changed(other):
    profile = drift.profile(pd.DataFrame({"flag": np.ones(2000)}), 200)
    newest = pd.DataFrame({"flag": np.ones(200)})
    newest.loc[5, "flag"] = other
    assert not drift.measure(profile, newest)["drifted"].any()
    newest.loc[:20, "flag"] = other
    assert drift.measure(profile, newest)["drifted"].all()


def test_only_the_newest_rows_count(learned, profile):
    rows = learned.iloc[: 3 * WEEK].copy()
    rows.iloc[:WEEK] = 99
    assert not drift.measure(profile, rows)["drifted"].any()
    rows.iloc[-WEEK:] = 99
    assert drift.measure(profile, rows)["drifted"].all()


def test_few_training_rows_make_shorter_stretches(learned):
    short = drift.profile(learned.iloc[:1000], WEEK)
    assert short["stretch_rows"] == 50 and short["window_rows"] == WEEK


@pytest.mark.slow
def test_shorter_stretches_of_the_same_data_have_higher_thresholds(learned, profile):
    of_50 = drift.profile(learned, 50)
    for name in learned:
        low, high = (one["columns"][name]["thresholds"] for one in (profile, of_50))
        assert high["psi"] > low["psi"] and high["ks"] > low["ks"]


def test_profile_survives_json(learned, profile):
    again = json.loads(json.dumps(profile, allow_nan=False))
    week = learned.iloc[:WEEK]
    assert drift.measure(again, week).equals(drift.measure(profile, week))


def test_what_cannot_be_compared_is_said(learned, profile):
    assert drift.compare({}, learned)[1].startswith("the run that trained this version has left no")
    columns, note = drift.compare(profile, learned.iloc[:100])
    assert columns is None and "100 new rows are too few" in note and "152" in note
    with pytest.raises(ValueError, match="column 'load'"):
        drift.measure(profile, learned[["use"]])
    with pytest.raises(ValueError, match="30 training rows .* too few to tell later"):
        drift.profile(learned.iloc[:30], WEEK)


def test_a_day_with_a_few_bars_less_is_compared(learned, profile):
    assert len(drift.measure(profile, learned.iloc[: WEEK - 5])) == 2


def test_error_of_numbers_and_of_names():
    live = pd.DataFrame({"truth": np.zeros(400), "predicted": 2.0})
    options = {"max_growth": 0.2, "block_length": 24}
    found = drift.live_error(live, {"rmse": 3}, **options)
    assert (found["error"], found["low"], found["high"], found["n"]) == (2, 2, 2, 400)
    assert found["expected"] == 3 and not found["grown"]
    names = pd.DataFrame({"truth": ["a", "b"] * 50, "predicted": "a"})
    found = drift.live_error(names, {"accuracy": 0.99}, max_growth=0.2, block_length=1)
    assert found["error"] == 0.5 and 0.35 < found["low"] < 0.5 < found["high"] < 0.65
    assert found["expected"] == pytest.approx(0.01) and found["grown"]
    assert drift.live_error(live.head(19), {"rmse": 3}, **options) == {}


def test_alarm_is_raised_only_where_the_whole_interval_lies_above():
    live = pd.DataFrame({"truth": np.zeros(400), "predicted": [1.0, 3.0] * 200})
    options = {"max_growth": 0.2, "block_length": 7}
    low = drift.live_error(live, {}, **options)["low"]
    assert drift.live_error(live, {"rmse": low / 1.21}, **options)["grown"]
    assert not drift.live_error(live, {"rmse": low / 1.19}, **options)["grown"]
    unknown = drift.live_error(live, {}, **options)
    assert math.isnan(unknown["expected"]) and not unknown["grown"]


def test_few_rows_and_a_small_evaluation_raise_no_alarm_by_chance():
    def live(n, n_wrong):
        return pd.DataFrame({"truth": "a", "predicted": ["b"] * n_wrong + ["a"] * (n - n_wrong)})

    options = {"max_growth": 0.2, "block_length": 24}
    found = drift.live_error(live(20, 5), {"accuracy": 0.9}, **options)  # less than a block
    assert 0 <= found["low"] < 0.25 < found["high"] <= 1 and not found["grown"]
    faultless = {"accuracy": 1.0, "accuracy_low": 0.92}  # of 44 rows
    assert not drift.live_error(live(600, 20), faultless, **options | {"block_length": 1})["grown"]
    assert drift.live_error(live(600, 90), faultless, **options | {"block_length": 1})["grown"]
    numbers = pd.DataFrame({"truth": np.zeros(400), "predicted": [1.0, 3.0] * 200})
    known = {"rmse": 1.5, "rmse_high": 2.4}
    assert drift.live_error(numbers, {"rmse": 1.5}, **options)["grown"]
    assert not drift.live_error(numbers, known, **options)["grown"]


def test_reasons_name_column_distance_and_threshold(learned, profile):
    found = drift.measure(profile, learned.iloc[:WEEK].assign(load=99.0))
    error = {"error": 2.0, "low": 1.8, "high": 2.2, "n": 50, "expected": 1.0, "grown": True}
    why = drift.reasons(found, error, 3)
    assert len(why) == 2
    assert why[0].startswith("load does not look like the training data: stability index")
    assert "outside of its range 1.00" in why[0]
    assert "version 3 is 2 (at least 1.8)" in why[1]
    assert drift.reasons(None, error | {"grown": False}, 3) == drift.reasons(None, {}, 3) == []
