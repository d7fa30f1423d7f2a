"""Figures of the household's power: the search, forecasts, and what they are made of."""

from lib.plots import COLOURS, TRUTH, date_axis, new_axes, words

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

N_SHOWN = 10


def plot_search(trials: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot the RMSE of complete trials, the best so far, and where trials were pruned.

    Parameters
    ----------
    trials : pandas.DataFrame of shape (n, n_columns)
        ``state`` and ``rmse`` of each trial, as `lib.power.trials.trials_frame` returns.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    complete = trials[trials["state"] == "complete"]["rmse"]
    pruned = trials.index[trials["state"] == "pruned"]
    ax.plot(complete.index, complete, "o", color=COLOURS[0], markersize=4, label="complete")
    best = complete.cummin().reindex(trials.index).ffill()
    ax.step(best.index, best, where="post", color=COLOURS[1], label="best")
    along_x = ax.get_xaxis_transform()
    ax.plot(pruned, np.full(len(pruned), 0.03), "|", c="gray", transform=along_x, label="pruned")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="trial", ylabel="mean validation RMSE (kW)")
    ax.legend(fontsize="small")
    return ax


def plot_forecast(truth: pd.Series, forecasts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot forecasts over the truth.

    Parameters
    ----------
    truth : pandas.Series of shape (n,)
        What came, by the time it came.
    forecasts : pandas.DataFrame of shape (n, n_forecasts)
        One column for each forecast, by the time forecast.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    ax.fill_between(truth.index, 0, truth, color=TRUTH, alpha=0.25, linewidth=0, label="truth")
    for colour, name in zip(COLOURS, forecasts.columns, strict=False):
        ax.plot(forecasts.index, forecasts[name], color=colour, linewidth=1.2, label=words(name))
    ax.set(xlabel="time", ylabel="power (kW)")
    low, high = min(0.0, float(np.nanmin(truth))), float(np.nanmax(truth))
    ax.set_ylim(bottom=1.25 * low, top=high + 0.25 * max(abs(high), -low))
    ax.legend(fontsize="small", ncols=len(forecasts.columns) + 1)
    date_axis(ax)
    return ax


def plot_shap(
    contributions: pd.DataFrame,
    values: pd.DataFrame,
    *,
    xlabel: str,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Plot SHAP values as swarms: one dot for each row, coloured by the feature's own value.

    Shown are the `N_SHOWN` features with the largest mean absolute contribution.

    Parameters
    ----------
    contributions : pandas.DataFrame of shape (n, n_all)
        SHAP values, one column for each feature.
    values : pandas.DataFrame of shape (n, n_all)
        The features themselves; missing values are drawn grey.
    xlabel : str
        What the contributions are, with unit.
    seed : int, default 0
        Of the dots' spread across their row, which means nothing.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    rng = np.random.default_rng(seed)
    mean = contributions.abs().mean().sort_values(kind="stable")
    shown = mean.index[-N_SHOWN:]
    colours = plt.get_cmap("coolwarm").with_extremes(bad="0.7")
    for row, name in enumerate(shown):
        rank = values[name].rank(pct=True).to_numpy(dtype=np.float64)
        height = row + rng.uniform(-0.3, 0.3, size=len(contributions))
        dots = ax.scatter(
            contributions[name],
            height,
            c=np.ma.masked_invalid(rank),
            cmap=colours,
            vmin=0,
            vmax=1,
            s=4,
            plotnonfinite=True,
        )
    ax.axvline(0, color=TRUTH, linewidth=0.8)
    ax.set_yticks(np.arange(len(shown)), shown, fontsize="small")
    ax.set(xlabel=xlabel, ylabel="feature")
    bar = ax.figure.colorbar(dots, ax=ax, ticks=[0, 1], fraction=0.06, pad=0.02, aspect=40)
    bar.ax.set_yticklabels(["low", "high"])
    bar.set_label("value of the feature (rank)", fontsize="small")
    return ax
