"""Figures of the household's power: its year and day, the search, forecasts and their errors."""

from collections.abc import Mapping

from lib.plots import COLOURS, TRUTH, date_axis, new_axes, words

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def plot_split(series: pd.Series, parts: Mapping[str, slice], *, ax: Axes | None = None) -> Axes:
    """Plot the daily mean of a series, coloured by the part of the data it belongs to.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values with a time index.
    parts : mapping of str to slice
        Positions of each part, such as `lib.splits.time_split` returns.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    for colour, (name, part) in zip(COLOURS, parts.items(), strict=False):
        daily = series.iloc[part].resample("D").mean()
        ax.plot(daily.index, daily, color=colour, linewidth=0.8, label=name)
    ax.set(xlabel="date", ylabel="daily mean (kW)")
    ax.legend(fontsize="small")
    date_axis(ax)
    return ax


def plot_day_profile(series: pd.Series, *, ax: Axes | None = None) -> Axes:
    """Plot the mean by hour of the day, of working days and of weekends apart.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values with a time index of naive local clock time.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    weekend = series.index.day_of_week >= 5
    parts = {"working day": ~weekend, "weekend": weekend}
    for colour, (name, rows) in zip(COLOURS, parts.items(), strict=False):
        profile = series[rows].groupby(series.index[rows].hour).mean()
        ax.plot(profile.index, profile, "o-", color=colour, markersize=3, label=name)
    ax.set(xlabel="hour of the day (h)", ylabel="mean (kW)", xticks=range(0, 25, 6))
    ax.legend(fontsize="small")
    return ax


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


def plot_learning_curve(history: pd.DataFrame, best_round: int, *, ax: Axes | None = None) -> Axes:
    """Plot errors by boosting round and mark the round at which training stopped.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_rounds, n_curves)
        One column for each curve, index the round.
    best_round : int
        Round to mark.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    for colour, name in zip(COLOURS, history.columns, strict=False):
        ax.plot(history.index, history[name], color=colour, label=words(name))
    ax.axvline(best_round, color=TRUTH, linestyle=":", label="lowest on validation")
    ax.set(xlabel="boosting round (trees)", ylabel="error (kW)")
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
    ax.set_ylim(bottom=0, top=1.25 * float(np.nanmax(truth)))
    ax.legend(fontsize="small", ncols=len(forecasts.columns) + 1)
    date_axis(ax)
    return ax


def plot_error_by(
    errors: pd.DataFrame,
    groups: np.ndarray,
    *,
    xlabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Plot the root mean square of errors in groups: bars for the first column, lines for others.

    Parameters
    ----------
    errors : pandas.DataFrame of shape (n, n_forecasts)
        Forecast less truth, one column for each forecast.
    groups : array of shape (n,), int
        Group of each row, such as its hour or month.
    xlabel : str
        What the groups are, with unit.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax)
    rmse = (errors**2).groupby(np.asarray(groups)).mean() ** 0.5
    first, *others = errors.columns
    at = np.arange(len(rmse))
    ax.bar(at, rmse[first], color=COLOURS[0], label=words(first))
    for colour, name in zip(COLOURS[1:], others, strict=False):
        ax.plot(at, rmse[name], "o-", color=colour, markersize=3, label=words(name))
    every = -(-len(rmse) // 12)
    ax.set_xticks(at[::every], rmse.index[::every], fontsize="x-small")
    ax.set(xlabel=xlabel, ylabel="RMSE (kW)")
    ax.set_ylim(top=1.35 * float(rmse.to_numpy().max()))
    ax.legend(fontsize="x-small")
    return ax


def plot_shap(
    contributions: pd.DataFrame,
    values: pd.DataFrame,
    *,
    n_features: int = 10,
    xlabel: str,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Plot SHAP values as swarms: one dot for each row, coloured by the feature's own value.

    Parameters
    ----------
    contributions : pandas.DataFrame of shape (n, n_all)
        SHAP values, one column for each feature.
    values : pandas.DataFrame of shape (n, n_all)
        The features themselves; missing values are drawn grey.
    n_features : int, default 10
        How many features to show: those with the largest mean absolute contribution.
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
    shown = mean.index[-n_features:]
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
