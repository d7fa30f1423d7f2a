"""Figures that several pipelines show: each `plot_*` draws one idea on one pair of axes.

Functions take numbers that are ready to be drawn, label both axes with their units (images have
none), make new axes when none are given, and return the axes. They save nothing and show nothing;
the notebook composes. Figures of one kind of data stand in its wing, and follow the same rules.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

TRUTH = "0.35"
MOST_NAMED = 30  # classes that an axis names
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def plot_history(
    history: pd.DataFrame,
    *,
    columns: Sequence[str],
    ylabel: str,
    xlabel: str = "epoch",
    ax: Axes | None = None,
) -> Axes:
    """Plot training curves.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_epochs, n_columns)
        One column for each curve, index the epoch or tree.
    columns : sequence of str
        Curves to draw, such as ``["loss", "val_loss"]``.
    ylabel : str
        What they are, with unit.
    xlabel : str, default "epoch"
        What the index is.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    for k, name in enumerate(columns):
        ax.plot(
            history.index,
            history[name],
            "o-" if len(history) <= 30 else "-",
            color=COLOURS[k % len(COLOURS)],
            markersize=3,
            label=words(name),
        )
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="small")
    return ax


def plot_importance(
    importance: pd.Series, *, xlabel: str, ylabel: str = "feature", ax: Axes | None = None
) -> Axes:
    """Plot the ten largest values as bars, largest on top; say so if there are none.

    Parameters
    ----------
    importance : pandas.Series of shape (n,)
        One value for each feature or parameter; the index names them.
    xlabel : str
        What the value is, with unit.
    ylabel : str, default "feature"
        What is named.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    shown = importance.sort_values(kind="stable").tail(10)
    ax.barh(np.arange(len(shown)), shown, color=COLOURS[0])
    ax.set_yticks(np.arange(len(shown)), shown.index, fontsize="small")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if shown.empty:
        ax.text(0.5, 0.5, "too few to tell", ha="center", transform=ax.transAxes)
    return ax


def plot_reliability(
    y_true: np.ndarray, y_pred: np.ndarray, *, unit: str = "kW", ax: Axes | None = None
) -> Axes:
    """Plot the mean truth against the mean forecast, in ten equally filled bins of the forecast.

    Points on the diagonal say that a forecast of so many kW is right on average; the bars span the
    middle half of the truth in the bin.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast.
    unit : str, default "kW"
        Unit of both.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    order = np.argsort(y_pred, kind="stable")
    bins = [rows for rows in np.array_split(order, 10) if rows.size]
    x = np.array([np.mean(y_pred[rows]) for rows in bins])
    y = np.array([np.mean(y_true[rows]) for rows in bins])
    quarters = np.array([np.quantile(y_true[rows], [0.25, 0.75]) for rows in bins])
    ax.vlines(x, quarters[:, 0], quarters[:, 1], color=COLOURS[0], alpha=0.4, linewidth=3)
    ax.plot(x, y, "o", color=COLOURS[0], markersize=4)
    ax.axline((0, 0), slope=1, color=TRUTH, linestyle=":")
    ax.set(xlabel=f"forecast ({unit})", ylabel=f"truth ({unit})")
    return ax


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Plot how often each class is taken for each other.

    The colour is the share of the true class, on a scale that sets small shares apart; the numbers
    are rows, and none are written where there are none, nor beside more than 30 classes, of which
    only some are named.

    Parameters
    ----------
    matrix : array of shape (n_classes, n_classes), int
        Number of rows by true class (row) and predicted class (column).
    classes : sequence of str
        Names of the classes.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    norm = PowerNorm(0.4, vmin=0, vmax=1)
    image = ax.imshow(share, cmap="Blues", norm=norm, aspect="auto")
    for row, column in np.argwhere(matrix) if len(classes) <= MOST_NAMED else ():
        colour = "white" if norm(share[row, column]) > 0.6 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 7}
        ax.text(column, row, f"{matrix[row, column]}", color=colour, **style)
    at = np.arange(0, len(classes), -(-len(classes) // MOST_NAMED))
    shown = [classes[k] if len(classes[k]) < 20 else f"{classes[k][:18]}…" for k in at]
    turned = 90 if max(len(name) for name in shown) > 2 else 0
    ax.set_xticks(at, shown, rotation=turned, fontsize="small")
    ax.set_yticks(at, shown, fontsize="small")
    ax.set(xlabel="predicted", ylabel="truth")
    bar = ax.figure.colorbar(
        image, ax=ax, ticks=[0, 0.01, 0.1, 0.5, 1], fraction=0.05, pad=0.02, aspect=40
    )
    bar.ax.set_yticklabels(["0", "0.01", "0.1", "0.5", "1"], fontsize="x-small")
    bar.set_label("share of the true class (fraction)", fontsize="small")
    return ax


def plot_calibration(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot accuracy against confidence, with the number of rows at each point.

    On the diagonal, probabilities can be taken at their word; below it, the classifier is too sure
    of itself. The area of a point grows with its share of the rows.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_bins, 3)
        ``confidence`` and ``accuracy``, fractions, and ``n``, as
        `lib.classification.calibration_table` returns.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    x, y = table["confidence"], table["accuracy"]
    ax.plot([0, 1], [0, 1], color=TRUTH, linestyle=":", label="as sure as right")
    ax.plot(x, y, color=COLOURS[0], linewidth=0.8, alpha=0.5)
    area = 10 + 150 * table["n"] / table["n"].max()
    ax.scatter(x, y, s=area, color=COLOURS[0], alpha=0.8, linewidth=0, label="area: number of rows")
    ax.set(
        xlim=(0, 1.05),
        ylim=(0, 1.05),
        xlabel="confidence (fraction)",
        ylabel="accuracy (fraction)",
    )
    ax.legend(fontsize="small", loc="lower right")
    return ax


def new_axes(ax: Axes | None) -> Axes:
    """Return `ax`, or axes on a new figure of a page's width."""
    return plt.subplots(figsize=(8, 3), dpi=80, layout="constrained")[1] if ax is None else ax


def date_axis(ax: Axes) -> None:
    """Write a horizontal axis of times short, with few ticks."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def words(name: str) -> str:
    """Return the name of a column as words."""
    return name.replace("_", " ")
