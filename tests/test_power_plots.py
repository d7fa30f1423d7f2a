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
SHAP = pd.DataFrame({"a": POWER - 12, "b": np.zeros(len(POWER))})
TRIALS = pd.DataFrame(
    {"state": ["complete", "pruned", "complete"], "rmse": [0.5, 0.7, 0.4]},
    pd.RangeIndex(3),
)
DRAWN = {
    "plot_search": lambda ax=None: plots.plot_search(TRIALS, ax=ax),
    "plot_forecast": lambda ax=None: plots.plot_forecast(POWER, FRAME, ax=ax),
    "plot_shap": lambda ax=None: plots.plot_shap(SHAP, SHAP, xlabel="SHAP value (kW)", ax=ax),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN)


def test_shap_puts_the_feature_with_the_largest_mean_contribution_on_top():
    ax = DRAWN["plot_shap"]()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 0], POWER.to_numpy() - 12)


@pytest.mark.slow
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
