"""Figures of two versions, of predictions and of drift show what was given."""

from itertools import pairwise

from lib.registry import plots

import numpy as np
import pandas as pd
import pytest
from figures import check, close_figures  # noqa: F401

HOURS = pd.date_range("2024-01-01", periods=24 * 14, freq="h")
POWER = pd.Series(np.arange(24.0 * 14) % 24, HOURS, name="power_kw")
FRAME = pd.DataFrame({"model": POWER + 1, "persistence": POWER - 2})
PAIRED = [
    {
        "metric": metric,
        "greater_is_better": larger,
        "champion": champion,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.02,
    }
    for metric, larger, champion, difference in (
        ("rmse", False, 0.5, -0.05),
        ("accuracy", True, 0.8, -0.04),
        ("rank_ic", True, 0.0, 0.1),
        ("mae", False, 0.25, 0.0),
    )
]
DISTANCES = pd.DataFrame({"psi": [0.4, 1.6], "ks": [0.5, 1.2]}, index=["power_kw", "voltage_v"])
AXIS = {"quantity": "power", "unit": "kW"}
GAIN = POWER - 11.5
DRAWN = {
    "plot_differences": lambda ax=None: plots.plot_differences(PAIRED, ax=ax),
    "plot_disagreement": lambda ax=None: plots.plot_disagreement(POWER, FRAME, **AXIS, ax=ax),
    "plot_cumulative_gain": lambda ax=None: plots.plot_cumulative_gain(GAIN, unit="kW²", ax=ax),
    "plot_scored": lambda ax=None: plots.plot_scored(POWER + 1, POWER[:-5], unit="kW", ax=ax),
    "plot_drift": lambda ax=None: plots.plot_drift(DISTANCES, ax=ax),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN)


def test_what_two_forecasts_differ_by_is_shaded_and_the_truth_drawn_with_them():
    ax = DRAWN["plot_disagreement"]()
    assert [line.get_label() for line in ax.lines] == ["truth", "model", "persistence"]
    assert ax.lines[0].get_ydata() == pytest.approx(POWER.to_numpy())
    shade = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (shade.min(), shade.max()) == (-2.0, 24.0)


def test_cumulative_gain_ends_at_the_sum():
    ax = DRAWN["plot_cumulative_gain"]()
    assert ax.lines[0].get_ydata()[:3] == pytest.approx([-11.5, -22.0, -31.5])
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(0.0)


def test_difference_points_to_the_right_where_b_is_better_whichever_way_the_metric_goes():
    ax = plots.plot_differences(PAIRED)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["mae", "accuracy", "rmse"], "first on top; no per cent of zero"
    points = dict(zip(names, (line.get_xdata()[0] for line in ax.lines), strict=False))
    assert points == pytest.approx({"rmse": 10.0, "accuracy": -5.0, "mae": 0.0})
    ends = [tuple(lines.get_segments()[0][:, 0]) for lines in ax.collections]
    assert ends == [pytest.approx(e) for e in ((-8.0, 4.0), (-6.25, -2.5), (6.0, 12.0))]


def test_drift_shows_each_distance_the_farthest_first_and_the_line_of_an_alarm():
    ax = plots.plot_drift(DISTANCES)
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert drawn["psi"] == [1.6, 0.4] and drawn["ks"] == [1.2, 0.5]
    assert list(ax.lines[-1].get_xdata()) == [1, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["voltage v", "power kw"]


@pytest.mark.slow
def test_drift_of_a_hundred_columns_shows_the_farthest():
    names = [f"sensor_{k}_temperature" for k in range(100)]
    psi = np.linspace(2.0, 0.02, 100)[::-1]  # those from 50 on are above 1
    distances = pd.DataFrame({"psi": psi, "ks": psi / 2}, names)
    ax = plots.plot_drift(distances)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[:2] == ["sensor 99 temperature", "sensor 98 temperature"]
    assert len(labels) == 12
    ax.figure.canvas.draw()
    assert ax.figure.get_size_inches()[1] <= 4
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(box.overlaps(other) for box, other in pairwise(boxes))


def test_drift_that_is_a_hundredfold_leaves_the_threshold_in_sight():
    distances = pd.DataFrame({"psi": [500.0, 0.5], "ks": [np.inf, np.nan]}, ["a", "b"])
    ax = plots.plot_drift(distances)
    ax.figure.canvas.draw()
    left, right = ax.get_xlim()
    place = ax.transData.transform([(left, 0), (1, 0), (right, 0)])[:, 0]
    assert (place[1] - place[0]) / (place[2] - place[0]) > 0.1
    assert [ax.get_xticks()[0], ax.get_xticks()[-1]] == [0, plots.MOST_DRIFT]


def test_scored_shows_predictions_over_time_or_counts_of_classes():
    ax = plots.plot_scored(POWER + 1, POWER[:-5], unit="kW")
    assert [len(line.get_xdata()) for line in ax.lines] == [len(POWER) - 5, len(POWER)]
    assert ax.get_ylabel() == "value (kW)"
    ax = plots.plot_scored(pd.Series(["cat", "dog", "dog"]), pd.Series(["cat"]), unit="images")
    assert [bar.get_height() for bar in ax.patches] == [1, 0, 1, 2]
