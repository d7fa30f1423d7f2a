"""What is drawn is what was given, and every axis has a label with its unit."""

from itertools import pairwise

from lib import plots

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plots.plt.close("all")


@pytest.fixture
def power() -> pd.Series:
    index = pd.date_range("2024-01-01", periods=24 * 14, freq="h")
    return pd.Series(np.arange(24.0 * 14) % 24, index, name="power_kw")


def draw(name: str, power: pd.Series, ax=None):
    values = power.to_numpy()
    frame = pd.DataFrame({"model": values + 1, "persistence": values - 2}, power.index)
    parts = {"train": slice(0, 200), "valid": slice(201, 250), "test": slice(251, 336)}
    shap = pd.DataFrame({"a": values - 12, "b": np.zeros(len(values))}, power.index)
    calls = {
        "plot_split": lambda: plots.plot_split(power, parts, ax=ax),
        "plot_day_profile": lambda: plots.plot_day_profile(power, ax=ax),
        "plot_learning_curve": lambda: plots.plot_learning_curve(
            pd.DataFrame({"train_rmse": [3.0, 2, 1], "valid_rmse": [3.0, 2.5, 2.6]}), 2, ax=ax
        ),
        "plot_forecast": lambda: plots.plot_forecast(power, frame, ax=ax),
        "plot_error_by": lambda: plots.plot_error_by(
            frame.sub(power, axis=0), power.index.hour, xlabel="hour of the day (h)", ax=ax
        ),
        "plot_reliability": lambda: plots.plot_reliability(values, values, ax=ax),
        "plot_importance": lambda: plots.plot_importance(
            pd.Series({"a": 0.2, "b": 0.7, "c": 0.1}), n_features=2, xlabel="gain (fraction)", ax=ax
        ),
        "plot_shap": lambda: plots.plot_shap(shap, shap, xlabel="SHAP value (kW)", ax=ax),
        "plot_rank_ic": lambda: plots.plot_rank_ic(INTERVALS, ax=ax),
        "plot_cost": lambda: plots.plot_cost({"all": 0.2, "top": 0.5}, {"spread": 0.6}, ax=ax),
        "plot_attention": lambda: plots.plot_attention(
            np.array([[0.2, 0.3, 0.5], [0.0, 0.1, 0.9]]), ax=ax
        ),
        "plot_confusion": lambda: plots.plot_confusion(CONFUSION, ["cat", "dog", "ship"], ax=ax),
        "plot_calibration": lambda: plots.plot_calibration(CALIBRATION, ax=ax),
        "plot_images": lambda: plots.plot_images(GREY, list("abcde"), columns=3, ax=ax),
        "plot_history": lambda: plots.plot_history(
            HISTORY, columns=["loss", "val_loss"], ylabel="loss (nats)", ax=ax
        ),
        "plot_disagreement": lambda: plots.plot_disagreement(power, frame, ax=ax),
        "plot_cumulative_gain": lambda: plots.plot_cumulative_gain(power - 11.5, ax=ax),
        "plot_differences": lambda: plots.plot_differences(PAIRED, ax=ax),
        "plot_one_sided": lambda: plots.plot_one_sided(ONE_SIDED, ax=ax),
        "plot_drift": lambda: plots.plot_drift(DISTANCES, ax=ax),
        "plot_scored": lambda: plots.plot_scored(power + 1, power[:-5], unit="kW", ax=ax),
    }
    return calls[name]()


INTERVALS = {
    model: {
        day: {"rank_ic": ic, "rank_ic_low": ic - 0.05, "rank_ic_high": ic + 0.02}
        for day, ic in {"2013-10-10": 0.1, "2013-10-11": high, "mean": (0.1 + high) / 2}.items()
    }
    for model, high in {"ridge": 0.2, "lstm": 0.3}.items()
}
CONFUSION = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
CALIBRATION = pd.DataFrame(
    {"confidence": [0.3, 0.7, 0.98], "accuracy": [0.25, 0.8, 0.99], "n": [4, 10, 400]}
)
GREY = np.arange(5, dtype=np.uint8)[:, None, None] * 50 + np.zeros((5, 4, 6), np.uint8)
HISTORY = pd.DataFrame({"loss": [2.0, 1, 0.5], "val_loss": [2.1, 1.5, 1.4]}, index=[1, 2, 3])
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
ONE_SIDED = pd.DataFrame({"only A": [3, 0], "only B": [1, 7]}, index=["cat", "dog"])
DISTANCES = pd.DataFrame({"psi": [0.4, 1.6], "ks": [0.5, 1.2]}, index=["power_kw", "voltage_v"])
NAMES = [name for name in dir(plots) if name.startswith("plot_")]


@pytest.mark.parametrize("name", NAMES)
def test_plot_labels_both_axes_unless_it_shows_images(name, power):
    ax = draw(name, power)
    assert bool(ax.get_xlabel()) == bool(ax.get_ylabel()) == (name != "plot_images")


@pytest.mark.parametrize("name", NAMES)
def test_plot_fits_on_a_page(name, power):
    ax = draw(name, power)
    width, height = ax.figure.get_size_inches()
    assert width <= 8
    assert height <= 4


@pytest.mark.parametrize("name", NAMES)
def test_plot_draws_on_the_axes_it_is_given(name, power):
    _, ax = plots.plt.subplots()
    assert draw(name, power, ax) is ax


@pytest.mark.parametrize("name", ["plot_split", "plot_day_profile", "plot_forecast"])
def test_values_axis_carries_the_unit(name, power):
    assert "kW" in draw(name, power).get_ylabel()


def test_error_by_hour_is_the_root_mean_square_of_each_hour(power):
    ax = draw("plot_error_by", power)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([1.0] * 24)
    assert ax.lines[0].get_ydata() == pytest.approx([2.0] * 24)


def test_day_profile_tells_working_days_from_weekends(power):
    weekend = power.index.day_of_week >= 5
    ax = plots.plot_day_profile(power.where(~weekend, 100.0))
    working, ending = ax.lines
    assert working.get_ydata() == pytest.approx(np.arange(24.0))
    assert ending.get_ydata() == pytest.approx([100.0] * 24)


def test_importance_shows_the_largest_on_top_and_leaves_out_the_rest(power):
    ax = draw("plot_importance", power)
    assert [bar.get_width() for bar in ax.patches] == [0.2, 0.7]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_shap_puts_the_feature_with_the_largest_mean_contribution_on_top(power):
    ax = draw("plot_shap", power)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    dots = ax.collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 0], power.to_numpy() - 12)


def test_reliability_of_a_perfect_forecast_lies_on_the_diagonal(power):
    dots = draw("plot_reliability", power).lines[0]
    np.testing.assert_allclose(dots.get_xdata(), dots.get_ydata())
    assert len(dots.get_xdata()) == 10


def test_learning_curve_marks_the_best_round(power):
    ax = draw("plot_learning_curve", power)
    assert list(ax.lines[-1].get_xdata()) == [2, 2]


def test_rank_ic_of_every_model_and_day_stands_within_its_interval(power):
    ax = draw("plot_rank_ic", power)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(INTERVALS["lstm"])
    ridge, lstm = ax.lines[:2]
    assert lstm.get_ydata() == pytest.approx([0.1, 0.3, 0.2])
    assert (lstm.get_xdata() - ridge.get_xdata()) == pytest.approx([0.3] * 3)
    ends = [segment[:, 1] for segment in ax.collections[1].get_segments()]
    np.testing.assert_allclose(ends, [[0.05, 0.12], [0.25, 0.32], [0.15, 0.22]])


def test_more_models_than_colours_are_all_drawn():
    ax = plots.plot_rank_ic({f"model {k}": INTERVALS["lstm"] for k in range(8)})
    assert len(ax.get_legend().get_texts()) == 8


def test_net_return_meets_zero_where_the_cost_is_the_gross_return(power):
    ax = draw("plot_cost", power)
    (left, right), (gross, net) = ax.lines[1].get_data()
    assert (left, gross) == (0, 0.5)
    assert net == pytest.approx(0.5 - right)
    assert [text.get_text().strip() for text in ax.texts] == ["spread"]
    assert list(ax.lines[2].get_xdata()) == [0.6, 0.6]


def test_attention_ends_at_the_last_known_bar_on_the_right(power):
    ax = draw("plot_attention", power)
    bars_back, mean = ax.lines[0].get_data()
    assert list(bars_back) == [2, 1, 0]
    assert mean == pytest.approx([0.1, 0.2, 0.7])
    assert ax.xaxis_inverted()


@pytest.mark.parametrize("n_days", [2, 7, 60, 200, 430, 1441, 4000])
def test_time_axis_of_any_length_is_drawn_without_a_warning(n_days, recwarn):
    index = pd.date_range("2006-12-16", periods=n_days, freq="D")
    series = pd.Series(1.0, index, name="power_kw")
    ax = plots.plot_forecast(series, series.to_frame())
    ax.figure.canvas.draw()
    assert 2 <= len(ax.get_xticks()) <= 9
    assert not [str(warning.message) for warning in recwarn]


def test_confusion_writes_the_number_of_images_where_there_are_any(power):
    ax = draw("plot_confusion", power)
    written = {text.get_position()[::-1]: int(text.get_text()) for text in ax.texts}
    assert written == {(0, 0): 8, (0, 1): 2, (1, 0): 1, (1, 1): 9}


def test_confusion_colours_by_the_share_of_the_true_class_even_if_a_class_is_empty(power):
    share = draw("plot_confusion", power).images[0].get_array()
    np.testing.assert_allclose(share, [[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 0]])


def test_confusion_has_the_truth_in_rows(power):
    ax = draw("plot_confusion", power)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "truth")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "ship"]
    assert ax.yaxis_inverted()


def test_calibration_points_grow_with_their_images_and_the_diagonal_is_drawn(power):
    ax = draw("plot_calibration", power)
    dots = ax.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), CALIBRATION[["confidence", "accuracy"]])
    assert np.all(np.diff(dots.get_sizes()) > 0)
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def tiles(ax) -> np.ndarray:
    """Return left, right, bottom, top of each image of a mosaic, in pixels of the images."""
    return np.array([image.get_extent() for image in ax.images])


def test_images_stand_row_by_row_in_their_own_shape_and_do_not_overlap(power):
    ends = tiles(draw("plot_images", power))
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 6)
    np.testing.assert_allclose(ends[:, 2] - ends[:, 3], 4)
    np.testing.assert_allclose(ends[3:, :2], ends[:2, :2])
    assert (ends[1:3, 0] > ends[:2, 1]).all()
    assert (ends[3:, 3] > ends[:2, 2]).all()


def test_images_are_drawn_as_they_are_from_black_to_white(power):
    for image, given in zip(draw("plot_images", power).images, GREY, strict=True):
        np.testing.assert_array_equal(image.get_array(), given)
        assert image.get_clim() == (0, 255)


def test_images_of_three_colours_need_no_titles():
    ax = plots.plot_images(np.zeros((3, 5, 5, 3), np.uint8), [])
    assert len(ax.images) == 3
    assert not ax.texts


@pytest.mark.parametrize("title", ["7", "2 said 7, 0.99", "automobile\nairplane, 0.99"])
@pytest.mark.parametrize("n_axes", [1, 2])
def test_titles_stand_between_the_rows_and_beside_each_other(title, n_axes):
    figure, axes = plots.plt.subplots(1, n_axes, figsize=(8, 4), dpi=80, layout="constrained")
    ax = np.atleast_1d(axes)[-1]
    plots.plot_images(np.zeros((16, 28, 28), np.uint8), [title] * 16, columns=4, ax=ax)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    frame = ax.get_window_extent()
    images = [image.get_window_extent() for image in ax.images]
    for k, box in enumerate(boxes):
        assert box.y0 >= images[k].y1
        assert box.y1 <= (images[k - 4].y0 if k >= 4 else frame.y1 + 1)
        assert k % 4 == 0 or box.x0 > boxes[k - 1].x1


@pytest.mark.parametrize(
    ("images", "titles", "columns", "message"),
    [
        (GREY / 255, [], 3, "float64 of shape .5, 4, 6.: give uint8"),
        (GREY[0], [], 3, "give uint8 of shape"),
        (GREY[..., None], [], 3, "give uint8 of shape"),
        (GREY[:0], [], 3, "0 images"),
        (GREY, [], 0, "in 0 columns"),
        (GREY, ["a"], 3, "1 titles for 5 images"),
    ],
)
def test_images_that_cannot_be_drawn_are_refused(images, titles, columns, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_images(images, titles, columns=columns)


def test_history_draws_the_columns_it_is_told_by_epoch(power):
    ax = plots.plot_history(HISTORY, columns=["val_loss"], ylabel="loss (nats)")
    (curve,) = ax.lines
    assert curve.get_xydata().tolist() == [[1, 2.1], [2, 1.5], [3, 1.4]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["val loss"]


@pytest.mark.parametrize("n_epochs", [1, 2, 7, 100])
def test_ticks_of_the_epoch_are_whole_numbers(n_epochs):
    history = pd.DataFrame({"loss": np.ones(n_epochs)}, index=np.arange(1, n_epochs + 1))
    ax = plots.plot_history(history, columns=["loss"], ylabel="loss (nats)")
    ax.figure.canvas.draw()
    ticks = ax.get_xticks()
    assert len(ticks) >= 1
    assert np.all(ticks == np.round(ticks))


def test_what_two_forecasts_differ_by_is_shaded_and_the_truth_drawn_with_them(power):
    ax = draw("plot_disagreement", power)
    assert [line.get_label() for line in ax.lines] == ["truth", "model", "persistence"]
    assert ax.lines[0].get_ydata() == pytest.approx(power.to_numpy())
    shade = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (shade.min(), shade.max()) == (-2.0, 24.0)


def test_cumulative_gain_ends_at_the_sum(power):
    ax = draw("plot_cumulative_gain", power)
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


def test_images_that_one_version_names_are_drawn_to_its_side_and_counted_without_a_sign():
    ax = plots.plot_one_sided(ONE_SIDED)
    assert [bar.get_width() for bar in ax.patches] == [-3, 0, 1, 7]
    ax.figure.canvas.draw()
    assert not any("-" in label.get_text() for label in ax.get_xticklabels())


def test_drift_shows_each_distance_the_farthest_first_and_the_line_of_an_alarm():
    ax = plots.plot_drift(DISTANCES)
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert drawn["psi"] == [1.6, 0.4] and drawn["ks"] == [1.2, 0.5]
    assert list(ax.lines[-1].get_xdata()) == [1, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["voltage v", "power kw"]


def test_drift_of_a_hundred_columns_shows_the_farthest_and_folds_the_rest_into_a_row():
    names = [f"sensor_{k}_temperature" for k in range(100)]
    psi = np.linspace(2.0, 0.02, 100)[::-1]  # those from 50 on are above 1
    distances = pd.DataFrame({"psi": psi, "ks": psi / 2}, names)
    ax = plots.plot_drift(distances)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[:2] == ["sensor 99 temperature", "sensor 98 temperature"]
    assert len(labels) == 21 and labels[-1] == "80 others, 30 in alarm"
    psi_line = next(line for line in ax.lines if line.get_label() == "psi")
    assert psi_line.get_xdata()[-1] == pytest.approx(psi[79])
    ax.figure.canvas.draw()
    assert ax.figure.get_size_inches()[1] <= 4
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(box.overlaps(other) for box, other in pairwise(boxes))
    assert plots.plot_drift(distances / 2).get_yticklabels()[-1].get_text() == "80 others"


def test_drift_that_is_a_hundredfold_leaves_the_threshold_in_sight():
    distances = pd.DataFrame({"psi": [500.0, 0.5], "ks": [np.inf, np.nan]}, ["a", "b"])
    ax = plots.plot_drift(distances)
    ax.figure.canvas.draw()
    left, right = ax.get_xlim()
    place = ax.transData.transform([(left, 0), (1, 0), (right, 0)])[:, 0]
    assert (place[1] - place[0]) / (place[2] - place[0]) > 0.1
    assert [ax.get_xticks()[0], ax.get_xticks()[-1]] == [0, plots.MOST_DRIFT]


def test_scored_shows_predictions_over_time_or_counts_of_classes(power):
    ax = plots.plot_scored(power + 1, power[:-5], unit="kW")
    assert [len(line.get_xdata()) for line in ax.lines] == [len(power) - 5, len(power)]
    assert ax.get_ylabel() == "value (kW)"
    ax = plots.plot_scored(pd.Series(["cat", "dog", "dog"]), pd.Series(["cat"]), unit="images")
    assert [bar.get_height() for bar in ax.patches] == [1, 0, 1, 2]
