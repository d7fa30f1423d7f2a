"""Images are shown as they are, beside each other."""

from lib.images import plots

import numpy as np
import pandas as pd
import pytest
from figures import check, close_figures  # noqa: F401

GREY = np.arange(5, dtype=np.uint8)[:, None, None] * 50 + np.zeros((5, 4, 6), np.uint8)
DRAWN = {
    "plot_images": lambda ax=None: plots.plot_images(GREY, list("abcde"), columns=3, ax=ax),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN, bare=("plot_images",))


def tiles(ax) -> np.ndarray:
    """Return left, right, bottom, top of each image of a mosaic, in pixels of the images."""
    return np.array([image.get_extent() for image in ax.images])


def test_images_stand_row_by_row_in_their_own_shape_and_do_not_overlap():
    ends = tiles(DRAWN["plot_images"]())
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 6)
    np.testing.assert_allclose(ends[:, 2] - ends[:, 3], 4)
    np.testing.assert_allclose(ends[3:, :2], ends[:2, :2])
    assert (ends[1:3, 0] > ends[:2, 1]).all()
    assert (ends[3:, 3] > ends[:2, 2]).all()


def test_images_are_drawn_as_they_are_from_black_to_white():
    for image, given in zip(DRAWN["plot_images"]().images, GREY, strict=True):
        np.testing.assert_array_equal(image.get_array(), given)
        assert image.get_clim() == (0, 255)


def test_images_of_three_colours_need_no_titles():
    ax = plots.plot_images(np.zeros((3, 5, 5, 3), np.uint8), [])
    assert len(ax.images) == 3
    assert not ax.texts


@pytest.mark.slow
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


def test_curves_of_a_training_stand_beside_those_of_validation_in_figure_and_chart():
    names = ["loss", "val_loss", "accuracy", "val_accuracy", "seconds"]
    history = pd.DataFrame(np.ones((3, 5)), pd.RangeIndex(1, 4, name="epoch"), names)
    axes = plots.training_figure(history).axes
    assert [len(ax.lines) for ax in axes] == [2, 2]
    assert [ax.get_ylabel() for ax in axes] == ["loss (nats)", "accuracy (fraction)"]
    assert len(plots.training_charts(history)) == 2
