"""Figures of the household's power show what was given."""

from lib.power import plots

import numpy as np
import pandas as pd
import pytest
from figures import check, close_figures  # noqa: F401

HOURS = pd.date_range("2024-01-01", periods=24 * 14, freq="h")
POWER = pd.Series(np.arange(24.0 * 14) % 24, HOURS, name="power_kw")
VALUES = POWER.to_numpy()
FRAME = pd.DataFrame({"model": POWER + 1, "persistence": POWER - 2})
PARTS = {"train": slice(0, 200), "valid": slice(201, 250), "test": slice(251, 336)}
SHAP = pd.DataFrame({"a": POWER - 12, "b": np.zeros(len(POWER))})
TRIALS = pd.DataFrame(
    {"state": ["complete", "pruned", "complete"], "rmse": [0.5, 0.7, 0.4]},
    pd.RangeIndex(3),
)
DRAWN = {
    "plot_split": lambda ax=None: plots.plot_split(POWER, PARTS, ax=ax),
    "plot_day_profile": lambda ax=None: plots.plot_day_profile(POWER, ax=ax),
    "plot_search": lambda ax=None: plots.plot_search(TRIALS, ax=ax),
    "plot_learning_curve": lambda ax=None: plots.plot_learning_curve(
        pd.DataFrame({"train_rmse": [3.0, 2, 1], "valid_rmse": [3.0, 2.5, 2.6]}), 2, ax=ax
    ),
    "plot_forecast": lambda ax=None: plots.plot_forecast(POWER, FRAME, ax=ax),
    "plot_error_by": lambda ax=None: plots.plot_error_by(
        FRAME.sub(POWER, axis=0), POWER.index.hour, xlabel="hour of the day (h)", ax=ax
    ),
    "plot_shap": lambda ax=None: plots.plot_shap(SHAP, SHAP, xlabel="SHAP value (kW)", ax=ax),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN)


@pytest.mark.parametrize("name", ["plot_split", "plot_day_profile", "plot_forecast"])
def test_values_axis_carries_the_unit(name):
    assert "kW" in DRAWN[name]().get_ylabel()


def test_error_by_hour_is_the_root_mean_square_of_each_hour():
    ax = DRAWN["plot_error_by"]()
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([1.0] * 24)
    assert ax.lines[0].get_ydata() == pytest.approx([2.0] * 24)


def test_day_profile_tells_working_days_from_weekends():
    weekend = POWER.index.day_of_week >= 5
    ax = plots.plot_day_profile(POWER.where(~weekend, 100.0))
    working, ending = ax.lines
    assert working.get_ydata() == pytest.approx(np.arange(24.0))
    assert ending.get_ydata() == pytest.approx([100.0] * 24)


def test_shap_puts_the_feature_with_the_largest_mean_contribution_on_top():
    ax = DRAWN["plot_shap"]()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 0], POWER.to_numpy() - 12)


def test_learning_curve_marks_the_best_round():
    ax = DRAWN["plot_learning_curve"]()
    assert list(ax.lines[-1].get_xdata()) == [2, 2]


@pytest.mark.parametrize("n_days", [2, 7, 60, 200, 430, 1441, 4000])
def test_time_axis_of_any_length_is_drawn_without_a_warning(n_days, recwarn):
    index = pd.date_range("2006-12-16", periods=n_days, freq="D")
    series = pd.Series(1.0, index, name="power_kw")
    ax = plots.plot_forecast(series, series.to_frame())
    ax.figure.canvas.draw()
    assert 2 <= len(ax.get_xticks()) <= 9
    assert not [str(warning.message) for warning in recwarn]


def test_search_shows_the_best_so_far_and_marks_pruned_trials():
    complete, best, pruned = DRAWN["plot_search"]().lines
    assert complete.get_xydata().tolist() == [[0, 0.5], [2, 0.4]]
    assert best.get_ydata().tolist() == [0.5, 0.5, 0.4]
    assert pruned.get_xdata().tolist() == [1]
