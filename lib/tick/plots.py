"""Figures of forecasts on bars: rank correlation by day, what trades may cost, attention."""

from collections.abc import Mapping

from lib.plots import COLOURS, TRUTH, new_axes, words

import numpy as np
from matplotlib.axes import Axes


def plot_rank_ic(
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]], *, ax: Axes | None = None
) -> Axes:
    """Plot the rank information coefficient of models, by day and for the mean, with intervals.

    Parameters
    ----------
    intervals : mapping of str to mapping
        What `lib.metrics.rank_intervals` returns, by model; the same days for each.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    for k, (name, by_day) in enumerate(intervals.items()):
        low, value, high = (
            np.array([day[f"rank_ic{end}"] for day in by_day.values()])
            for end in ("_low", "", "_high")
        )
        at = np.arange(len(by_day)) + 0.6 * ((k + 0.5) / len(intervals) - 0.5)
        colour = COLOURS[k % len(COLOURS)]
        ax.vlines(at, low, high, color=colour, linewidth=2, alpha=0.5)
        ax.plot(at, value, "o", color=colour, markersize=4, label=words(name))
        ax.set_xticks(range(len(by_day)), list(by_day), fontsize="small")
    ax.axhline(0, color=TRUTH, linewidth=0.8)
    ax.set(xlabel="day, and mean of the days", ylabel="rank IC (correlation)")
    ax.legend(fontsize="small")
    return ax


def plot_cost(
    break_even_bps: Mapping[str, float],
    costs_bps: Mapping[str, float],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot what a trade earns net against the cost of its round trip, and mark known costs.

    Parameters
    ----------
    break_even_bps : mapping of str to float
        Mean gross return of a trade in bps, by strategy, such as ``break_even_bps`` of
        `lib.metrics.cost_read_out`. Each is a falling line that meets zero at this cost.
    costs_bps : mapping of str to float
        Costs of a round trip in bps to mark, by what they are.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    most = 1.15 * max([*break_even_bps.values(), *costs_bps.values(), 1e-3])
    for k, (name, gross) in enumerate(break_even_bps.items()):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot([0, most], [gross, gross - most], color=colour, label=words(name))
    for name, cost in costs_bps.items():
        ax.axvline(cost, color=TRUTH, linestyle=":")
        at = ax.get_xaxis_transform()  # x in bps, y in fractions of the height
        style = {"rotation": 90, "ha": "right", "va": "top", "fontsize": "small"}
        ax.text(cost, 0.97, words(name), transform=at, **style)
    ax.axhline(0, color=TRUTH, linewidth=0.8)
    ax.set(
        xlim=(0, most), xlabel="cost of a round trip (bps)", ylabel="net return of a trade (bps)"
    )
    ax.legend(fontsize="small", loc="lower left")
    return ax


def plot_attention(weights: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Plot how much weight forecasts give to each bar of their window: mean and middle half.

    Parameters
    ----------
    weights : array of shape (n, window), float
        Attention of n forecasts, fractions that sum to 1 in each row; the last column is the last
        known bar.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    length = weights.shape[1]
    back = np.arange(length - 1, -1, -1)
    low, high = np.quantile(weights, [0.25, 0.75], axis=0)
    ax.fill_between(back, low, high, color=COLOURS[0], alpha=0.25, linewidth=0, label="middle half")
    ax.plot(back, weights.mean(axis=0), color=COLOURS[0], label="mean")
    ax.axhline(1 / length, color=TRUTH, linestyle=":", label="even")
    ax.set(xlabel="bars back from the last known one", ylabel="attention (fraction)")
    ax.invert_xaxis()
    ax.set_ylim(bottom=0)
    ax.legend(fontsize="small")
    return ax
