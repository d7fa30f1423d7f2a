"""What is drawn is what was given, and every axis has a label with its unit."""

from lib import plots

import numpy as np
import pandas as pd
import pytest
from figures import check, close_figures  # noqa: F401

VALUES = np.arange(24.0 * 14) % 24
CONFUSION = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
CALIBRATION = pd.DataFrame(
    {"confidence": [0.3, 0.7, 0.98], "accuracy": [0.25, 0.8, 0.99], "n": [4, 10, 400]}
)
HISTORY = pd.DataFrame({"loss": [2.0, 1, 0.5], "val_loss": [2.1, 1.5, 1.4]}, index=[1, 2, 3])
DRAWN = {
    "plot_history": lambda ax=None: plots.plot_history(
        HISTORY, columns=["loss", "val_loss"], ylabel="loss (nats)", ax=ax
    ),
    "plot_importance": lambda ax=None: plots.plot_importance(
        pd.Series({"a": 0.2, "b": 0.7} | dict.fromkeys("cdefghijkl", 0.1)), xlabel="gain", ax=ax
    ),
    "plot_reliability": lambda ax=None: plots.plot_reliability(VALUES, VALUES, ax=ax),
    "plot_confusion": lambda ax=None: plots.plot_confusion(
        CONFUSION, ["cat", "dog", "ship"], ax=ax
    ),
    "plot_calibration": lambda ax=None: plots.plot_calibration(CALIBRATION, ax=ax),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN)


def test_importance_shows_the_largest_on_top_and_leaves_out_the_rest():
    bars = DRAWN["plot_importance"]()
    widths = [bar.get_width() for bar in bars.patches]
    assert len(widths) == 10 and widths[-2:] == [0.2, 0.7]
    assert [label.get_text() for label in bars.get_yticklabels()][-2:] == ["a", "b"]


def test_reliability_of_a_perfect_forecast_lies_on_the_diagonal():
    dots = DRAWN["plot_reliability"]().lines[0]
    np.testing.assert_allclose(dots.get_xdata(), dots.get_ydata())
    assert len(dots.get_xdata()) == 10


def test_confusion_writes_the_number_of_images_where_there_are_any():
    ax = DRAWN["plot_confusion"]()
    written = {text.get_position()[::-1]: int(text.get_text()) for text in ax.texts}
    assert written == {(0, 0): 8, (0, 1): 2, (1, 0): 1, (1, 1): 9}


def test_confusion_colours_by_the_share_of_the_true_class_even_if_a_class_is_empty():
    share = DRAWN["plot_confusion"]().images[0].get_array()
    np.testing.assert_allclose(share, [[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 0]])


def test_confusion_has_the_truth_in_rows():
    ax = DRAWN["plot_confusion"]()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "truth")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "ship"]
    assert ax.yaxis_inverted()


def test_calibration_points_grow_with_their_images_and_the_diagonal_is_drawn():
    ax = DRAWN["plot_calibration"]()
    dots = ax.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), CALIBRATION[["confidence", "accuracy"]])
    assert np.all(np.diff(dots.get_sizes()) > 0)
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_history_draws_the_columns_it_is_told_by_epoch():
    ax = plots.plot_history(HISTORY, columns=["val_loss"], ylabel="loss (nats)")
    (curve,) = ax.lines
    assert curve.get_xydata().tolist() == [[1, 2.1], [2, 1.5], [3, 1.4]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["val loss"]


@pytest.mark.slow
@pytest.mark.parametrize("n_epochs", [1, 2, 7, 100])
def test_ticks_of_the_epoch_are_whole_numbers(n_epochs):
    history = pd.DataFrame({"loss": np.ones(n_epochs)}, index=np.arange(1, n_epochs + 1))
    ax = plots.plot_history(history, columns=["loss"], ylabel="loss (nats)")
    ax.figure.canvas.draw()
    ticks = ax.get_xticks()
    assert len(ticks) >= 1
    assert np.all(ticks == np.round(ticks))


def test_importance_of_nothing_says_so():
    ax = plots.plot_importance(pd.Series(dtype=float), xlabel="importance (fraction)")
    assert [text.get_text() for text in ax.texts] == ["too few to tell"]
