"""Images as tiles, and the curves of their trainings."""

from collections.abc import Sequence

from lib import charts, plots

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CURVES = {"loss": "loss (nats)", "accuracy": "accuracy (fraction)"}


def plot_images(
    images: np.ndarray, titles: Sequence[str], *, columns: int = 8, ax: Axes | None = None
) -> Axes:
    """Plot images as tiles, row by row, each with its title above it.

    Titles are made small enough for their column, down to a size that can be read; longer ones
    take a line break or fewer columns.

    Parameters
    ----------
    images : array of shape (n, height, width) or (n, height, width, 3), uint8
        Grey or RGB images.
    titles : sequence of str
        One title for each image, or none at all.
    columns : int, default 8
        Tiles in a row.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        Without ticks and labels.
    """
    n, height, width = images.shape[:3]
    n_columns = min(n, columns)
    n_rows = -(-n // n_columns)
    n_lines = max((title.count("\n") + 1 for title in titles), default=0)
    n_letters = max((len(line) for title in titles for line in title.split("\n")), default=0)
    if ax is None:
        inches = n_rows * (8 / n_columns * height / width + 0.15 * n_lines)
        ax = plt.subplots(figsize=(8, min(4, inches)), dpi=80, layout="constrained")[1]

    # lengths on paper are in points, those of the mosaic in pixels of the images
    across, down = ax.figure.get_size_inches() * ax.get_position().size * 72 / (n_columns, n_rows)
    fontsize = min(8.0, max(6.0, across / (0.6 * max(n_letters, 1))))
    heading = 1.35 * fontsize * n_lines
    scale = min(across / (1.1 * width), max(down - heading, down / 3) / (1.1 * height))
    right = max(1.1 * width, min(0.6 * fontsize * n_letters, across) / scale)
    below = 1.1 * height + heading / scale
    for k, image in enumerate(images):
        row, column = divmod(k, n_columns)
        left, top = column * right, row * below + heading / scale
        ax.imshow(
            image,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
            extent=(left, left + width, top + height, top),
        )
        if len(titles):
            style = {"ha": "center", "va": "bottom", "fontsize": fontsize}
            ax.text(left + width / 2, top - 0.03 * height, titles[k], **style)
    margin = (right - width) / 2
    ax.set(xlim=(-margin, n_columns * right - margin), ylim=(n_rows * below, 0))
    ax.set_axis_off()
    return ax


def training_figure(history: pd.DataFrame) -> Figure:
    """Plot loss and accuracy of a training, side by side, on training images and on validation.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_epochs, n_columns)
        Columns ``loss``, ``accuracy`` and those of validation, ``val_loss`` and ``val_accuracy``;
        index ``epoch``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), dpi=80, layout="constrained")
    for ax, (name, label) in zip(axes, CURVES.items(), strict=True):
        plots.plot_history(history, columns=[name, f"val_{name}"], ylabel=label, ax=ax)
    return figure


def training_charts(history: pd.DataFrame) -> list[dict]:
    """Return what `training_figure` shows as charts, see `lib.charts.lines`."""
    return [
        charts.lines(history[[name, f"val_{name}"]], xlabel="epoch", ylabel=label)
        for name, label in CURVES.items()
    ]
