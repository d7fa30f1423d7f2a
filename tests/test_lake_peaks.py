"""Tomorrow's peak: what a day knows of it, and the model that is asked for it."""

from lib.lakehouse.peaks import (
    HOUR,
    LEVEL,
    PEAK,
    hours_by_day,
    is_whole,
    peak_features,
    peaks,
    save_forecaster,
)
from lib.packaging import load_packed

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor


def hours(n_days=40, seed=0):
    index = pd.date_range("2007-01-01", periods=24 * n_days, freq="h", name="ts", unit="us")
    values = np.random.default_rng(seed).gamma(2, 0.5, len(index))
    return pd.Series(values, index)


def test_peak_of_a_day_is_its_highest_hour_and_a_day_with_few_hours_has_none():
    power = hours(3)
    power.iloc[30] = 9.0
    power.iloc[48:53] = np.nan
    table = hours_by_day(power, min_hours=20)
    found = peaks(table)
    assert (found[PEAK].iloc[1], found[HOUR].iloc[1]) == (9.0, 6.0)
    assert found.iloc[2].isna().all() and table.index[2] == pd.Timestamp("2007-01-03")
    assert hours_by_day(power, min_hours=19).notna().iloc[2].sum() == 19


def test_day_that_is_absent_is_a_row_without_a_peak():
    power = hours(3).drop(pd.date_range("2007-01-02", periods=24, freq="h"))
    assert peaks(hours_by_day(power))[PEAK].isna().tolist() == [False, True, False]


def test_features_of_a_day_do_not_depend_on_what_comes_after_it():
    power = hours()
    known = peak_features(hours_by_day(power))
    power.iloc[24 * 20 :] = 50.0
    changed = peak_features(hours_by_day(power))
    assert known.iloc[:20].equals(changed.iloc[:20]) and not known.equals(changed)


def test_features_are_of_the_days_that_their_names_say():
    table = hours_by_day(hours())
    of_day, row = peaks(table), peak_features(table).iloc[20]
    assert row[f"{PEAK}_lag_0"] == of_day[PEAK].iloc[20]
    assert row[f"{PEAK}_lag_6"] == of_day[PEAK].iloc[14]
    assert row[LEVEL] == pytest.approx(of_day[PEAK].iloc[14:21].mean())
    assert row["kw_from_08"] == pytest.approx(table.iloc[20, 8:12].mean())
    assert row["weekday"] == pd.Timestamp("2007-01-22").day_of_week


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model, the rows it has learned from, and its two forests."""
    features = peak_features(hours_by_day(hours()))
    target = peaks(hours_by_day(hours())).shift(-1)
    rows = is_whole(features) & target[PEAK].notna()
    x = features[rows]
    forests = {
        PEAK: RandomForestRegressor(5, random_state=0).fit(x, (target[PEAK] - x[LEVEL])[rows]),
        HOUR: RandomForestClassifier(5, random_state=0).fit(x, target[HOUR][rows].astype(int)),
    }
    path = tmp_path_factory.mktemp("model") / "model"
    save_forecaster(path, forests, list(x), min_hours=20)
    return load_packed(path), x, forests


@pytest.mark.slow
def test_model_answers_raw_hours_as_its_forests_answer_features(model):
    loaded, x, forests = model
    made = loaded.predict(hours().rename("power_kw").reset_index())
    made = made.set_index(made["day"] - pd.Timedelta(days=1))
    expected = forests[PEAK].predict(x) + x[LEVEL]
    assert np.allclose(made.loc[x.index, PEAK], expected)
    assert (made.loc[x.index, HOUR] == forests[HOUR].predict(x)).all()
    assert list(made)[1:] == [HOUR, PEAK], "predictions are kept under the name of the last"
    assert loaded.metadata.get_output_schema().input_names() == list(made)
    assert made[PEAK].isna().sum() == 6 and made["day"].iloc[-1] == pd.Timestamp("2007-02-10")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="power_kw"), "column 'power_kw' is missing"),
        (lambda frame: frame.head(0), "has no rows"),
        (lambda frame: frame.assign(ts=1.0), "'ts' holds numbers"),
        (lambda frame: frame.assign(ts=frame["ts"].dt.tz_localize("UTC")), "has the time zone UTC"),
        (lambda frame: frame.iloc[::-1], "row 1 at .* does not come after"),
        (lambda frame: frame.assign(power_kw=np.inf), "column 'power_kw', row 0: inf is no number"),
        (lambda frame: frame.assign(ts="soon"), "column 'ts', row 0: soon is no time"),
    ],
)
def test_wrong_input_is_refused_with_column_and_row(model, change, message):
    frame = hours(3).rename("power_kw").reset_index()
    with pytest.raises(ValueError, match=message):
        model[0].unwrap_python_model().predict(None, change(frame))
