"""Figures of two versions side by side, of what a model predicted, and of drift."""

from collections.abc import Mapping, Sequence

from lib.plots import COLOURS, TRUTH, date_axis, new_axes, words

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

MOST_DRIFT = 1000  # a distance over its threshold that is larger is drawn as this
DRIFT_TICKS = (0, 0.5, 1, 2, 5, 10, 100, MOST_DRIFT)


def plot_differences(rows: Sequence[Mapping[str, object]], *, ax: Axes | None = None) -> Axes:
    """Plot by how much version B is better than version A, with intervals, a line for each metric.

    In per cent of A's value, so that metrics of several units stand side by side; a metric that is
    zero for A is left out.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lib.registry.paired.compare`, with A as the champion: ``metric``, ``greater_is_better``,
        ``champion``, ``difference``, ``low`` and ``high``.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    shown = [row for row in rows if row["champion"]][::-1]  # the first on top
    for at, row in enumerate(shown):
        scale = (1 if row["greater_is_better"] else -1) * 100 / abs(row["champion"])
        low, high = sorted((scale * row["low"], scale * row["high"]))
        colour = COLOURS[2] if low > 0 else COLOURS[3] if high < 0 else TRUTH
        ax.hlines(at, low, high, color=colour, linewidth=3, alpha=0.5)
        ax.plot([scale * row["difference"]], [at], "o", color=colour, markersize=5)
    ax.axvline(0, color=TRUTH, linewidth=0.8)
    ax.set_yticks(range(len(shown)), [words(row["metric"]) for row in shown])
    ax.set(xlabel="B better than A by (% of A's value)", ylabel="metric")
    ax.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    return ax


def plot_disagreement(
    truth: pd.Series,
    forecasts: pd.DataFrame,
    *,
    quantity: str,
    unit: str,
    ax: Axes | None = None,
) -> Axes:
    """Plot two forecasts of one stretch with the truth, and shade what lies between them.

    Parameters
    ----------
    truth : pandas.Series of shape (n,)
        What came.
    forecasts : pandas.DataFrame of shape (n, 2)
        One column for each forecast, on the same rows.
    quantity : str
        What is forecast.
    unit : str
        Unit of the values.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    first, second = forecasts.columns
    between = {"color": COLOURS[1], "alpha": 0.25, "linewidth": 0}
    ax.fill_between(forecasts.index, forecasts[first], forecasts[second], **between)
    ax.plot(truth.index, truth, color=TRUTH, linewidth=0.8, alpha=0.8, label="truth")
    for colour, name in zip(COLOURS, forecasts.columns, strict=False):
        ax.plot(forecasts.index, forecasts[name], color=colour, linewidth=1.2, label=words(name))
    ax.set(ylabel=f"{quantity} ({unit})")
    ax.margins(y=0.15)
    ax.legend(fontsize="small", ncols=3, loc="upper center")
    _time_axis(ax, truth.index)
    return ax


def plot_cumulative_gain(gain: pd.Series, *, unit: str, ax: Axes | None = None) -> Axes:
    """Plot the sum so far of how much smaller one loss is than another.

    A line that rises throughout says that the gain is steady, a step that it comes from one spell
    (A. Goyal and I. Welch, Review of Financial Studies 21, 2008).

    Parameters
    ----------
    gain : pandas.Series of shape (n,)
        Loss of version A less that of version B, by row in order of time.
    unit : str
        Unit of the loss.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    ax.plot(gain.index, gain.cumsum(), color=COLOURS[0], linewidth=1.2)
    ax.axhline(0, color=TRUTH, linewidth=0.8)
    ax.set(ylabel=f"squared error, A less B,\nsummed ({unit})")
    _time_axis(ax, gain.index)
    return ax


def plot_scored(
    predicted: pd.Series, truth: pd.Series, *, unit: str, ax: Axes | None = None
) -> Axes:
    """Plot predictions over time beside what came true, or how often each class was predicted.

    Parameters
    ----------
    predicted : pandas.Series of shape (n,)
        Numbers with a time index, or names of classes.
    truth : pandas.Series of shape (m,)
        What is known by now, likewise.
    unit : str
        Unit of the values, or what is counted.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    if pd.api.types.is_numeric_dtype(predicted):
        ax.plot(truth.index, truth, color=TRUTH, linewidth=0.8, label="truth")
        ax.plot(predicted.index, predicted, color=COLOURS[0], linewidth=0.8, label="predicted")
        ax.set(ylabel=f"value ({unit})")
        _time_axis(ax, predicted.index)
    else:
        counts = pd.DataFrame(
            {"truth": truth.value_counts(), "predicted": predicted.value_counts()}
        )
        counts.fillna(0).plot.bar(ax=ax, color=[TRUTH, COLOURS[0]], rot=0)
        ax.set(xlabel="class", ylabel=unit)
    ax.legend(fontsize="small")
    return ax


def plot_drift(columns: pd.DataFrame, *, n_columns: int = 12, ax: Axes | None = None) -> Axes:
    """Plot how far each column is from the training data, over its own threshold.

    The farthest column stands on top, those in alarm in red; past the threshold the scale is that
    of a logarithm where a distance is large.

    Parameters
    ----------
    columns : pandas.DataFrame of shape (n_columns, n_distances)
        Index the column, values each distance over its threshold; above 1 is an alarm.
    n_columns : int, default 12
        How many to show, the farthest.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    known = columns.fillna(0).clip(upper=MOST_DRIFT)
    order = known.max(axis=1).sort_values(ascending=False, kind="stable").index
    shown = known.loc[order[:n_columns]]
    names = [words(name) for name in shown.index]
    ax = new_axes(ax)
    places, largest = np.arange(len(shown)), shown.max(axis=1)
    alarms = (largest > 1).to_numpy()
    ax.hlines(places, 0, largest, color=np.where(alarms, COLOURS[3], "0.8"), linewidth=1)
    colours = [colour for colour in COLOURS if colour != COLOURS[3]]  # red is an alarm
    for colour, marker, name in zip(colours, "oDs^v", columns.columns, strict=False):
        dots = {"color": colour, "alpha": 0.8, "markersize": 4, "clip_on": False, "zorder": 3}
        ax.plot(shown[name].where(shown[name] > 0), places, marker, label=words(name), **dots)
    ax.axvline(1, color=TRUTH, linestyle=":")
    if largest.max() > 5:
        ax.set_xscale("symlog", linthresh=1, linscale=0.6)
        ax.set_xticks([one for one in DRIFT_TICKS if one <= max(10, largest.max())])
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set(xlabel="distance over its threshold", ylabel="column", ylim=(len(shown) - 0.4, -0.6))
    ax.set_xlim(0, max(1.2, 1.08 * largest.max()))
    ax.set_yticks(places, names, fontsize="small")
    for label, alarm in zip(ax.get_yticklabels(), alarms, strict=True):
        label.set_color(COLOURS[3] if alarm else "black")
    ax.legend(fontsize="small", loc="lower right")
    return ax


def _time_axis(ax: Axes, index: pd.Index) -> None:
    """Label the axis on which rows stand by their time, or by number."""
    ax.set(xlabel="time" if isinstance(index, pd.DatetimeIndex) else "row")
    if isinstance(index, pd.DatetimeIndex):
        date_axis(ax)
