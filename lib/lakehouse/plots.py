"""Figures of the lake: when files were written, what was refused, what has changed."""

from lib.plots import COLOURS, date_axis, new_axes

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def plot_arrivals(landed: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot how many files of each feed had been written by which day.

    Parameters
    ----------
    landed : pandas.DataFrame of shape (n, n_columns)
        ``feed`` and ``written`` of each landing.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    for colour, (feed, rows) in zip(COLOURS, landed.groupby("feed"), strict=False):
        times = np.sort(rows["written"].to_numpy())
        ax.step(times, 1 + np.arange(len(times)), where="post", color=colour, label=feed)
    ax.set(xlabel="written (UTC)", ylabel="files (number)")
    date_axis(ax)
    if len(landed):
        ax.legend(fontsize="small")
    return ax


def plot_refused(refused: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot how many lines were refused for which reason.

    Parameters
    ----------
    refused : pandas.DataFrame of shape (n, n_columns)
        ``feed`` and ``reason`` of each line.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    counts = refused.groupby(["feed", "reason"]).size().sort_values(kind="stable").tail(10)
    ax.barh(np.arange(len(counts)), counts, color=COLOURS[0])
    names = [f"{feed}: {reason}" for feed, reason in counts.index]
    ax.set_yticks(np.arange(len(counts)), names, fontsize="small")
    ax.set(xlabel="refused lines (number)", ylabel="reason")
    if counts.empty:
        ax.text(0.5, 0.5, "none", ha="center", transform=ax.transAxes)
    return ax


def plot_changes(changed: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot how many rows came, changed and went on each day.

    Parameters
    ----------
    changed : pandas.DataFrame of shape (n, n_columns)
        From `lib.lakehouse.changes.changes`.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    kinds = [kind for kind in ("added", "corrected", "removed") if len(changed)]
    days = pd.to_datetime(changed["day"]) if len(changed) else []
    for colour, marker, kind in zip(COLOURS, "os^", kinds, strict=False):
        some = changed[kind].to_numpy() > 0
        ax.plot(days[some], changed[kind][some], marker, color=colour, markersize=4, label=kind)
    ax.set(xlabel="day", ylabel="rows (number)")
    if kinds:
        date_axis(ax)
        ax.set_yscale("symlog")
        ax.legend(fontsize="small")
    else:
        ax.text(0.5, 0.5, "nothing has changed", ha="center", transform=ax.transAxes)
    return ax
