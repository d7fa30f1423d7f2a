"""Figures: each `plot_*` draws one idea on one pair of axes and returns it.

Functions take numbers that are ready to be drawn, label both axes with their units (images have
none), and make new axes when none are given. They save nothing and show nothing; the notebook
composes.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

TRUTH = "0.35"
MOST_DRIFT = 1000  # a distance over its threshold that is larger is drawn as this
DRIFT_TICKS = (0, 0.5, 1, 2, 5, 10, 100, MOST_DRIFT)
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def plot_split(
    series: pd.Series, parts: Mapping[str, slice], *, unit: str = "kW", ax: Axes | None = None
) -> Axes:
    """Plot the daily mean of a series, coloured by the part of the data it belongs to.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values with a time index.
    parts : mapping of str to slice
        Positions of each part, such as `lib.power.features.time_split` returns.
    unit : str, default "kW"
        Unit of the values.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    for colour, (name, part) in zip(COLOURS, parts.items(), strict=False):
        daily = series.iloc[part].resample("D").mean()
        ax.plot(daily.index, daily, color=colour, linewidth=0.8, label=name)
    ax.set(xlabel="date", ylabel=f"daily mean ({unit})")
    ax.legend(fontsize="small")
    _dates(ax)
    return ax


def plot_day_profile(series: pd.Series, *, unit: str = "kW", ax: Axes | None = None) -> Axes:
    """Plot the mean by hour of the day, of working days and of weekends apart.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values with a time index of naive local clock time.
    unit : str, default "kW"
        Unit of the values.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    weekend = series.index.day_of_week >= 5
    for colour, (name, rows) in zip(
        COLOURS, {"working day": ~weekend, "weekend": weekend}.items(), strict=False
    ):
        profile = series[rows].groupby(series.index[rows].hour).mean()
        ax.plot(profile.index, profile, "o-", color=colour, markersize=3, label=name)
    ax.set(xlabel="hour of the day (h)", ylabel=f"mean ({unit})", xticks=range(0, 25, 6))
    ax.legend(fontsize="small")
    return ax


def plot_learning_curve(
    history: pd.DataFrame, best_round: int, *, unit: str = "kW", ax: Axes | None = None
) -> Axes:
    """Plot errors by boosting round and mark the round at which training stopped.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_rounds, n_curves)
        One column for each curve, index the round.
    best_round : int
        Round to mark.
    unit : str, default "kW"
        Unit of the errors.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    for colour, name in zip(COLOURS, history.columns, strict=False):
        ax.plot(history.index, history[name], color=colour, label=name.replace("_", " "))
    ax.axvline(best_round, color=TRUTH, linestyle=":", label="lowest on validation")
    ax.set(xlabel="boosting round (trees)", ylabel=f"error ({unit})")
    ax.legend(fontsize="small")
    return ax


def plot_forecast(
    truth: pd.Series, forecasts: pd.DataFrame, *, unit: str = "kW", ax: Axes | None = None
) -> Axes:
    """Plot forecasts over the truth.

    Parameters
    ----------
    truth : pandas.Series of shape (n,)
        What came, by the time it came.
    forecasts : pandas.DataFrame of shape (n, n_forecasts)
        One column for each forecast, by the time forecast.
    unit : str, default "kW"
        Unit of the values.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    ax.fill_between(truth.index, 0, truth, color=TRUTH, alpha=0.25, linewidth=0, label="truth")
    for colour, name in zip(COLOURS, forecasts.columns, strict=False):
        ax.plot(forecasts.index, forecasts[name], color=colour, linewidth=1.2, label=_words(name))
    ax.set(xlabel="time", ylabel=f"power ({unit})")
    ax.set_ylim(bottom=0, top=1.25 * float(np.nanmax(truth)))
    ax.legend(fontsize="small", ncols=len(forecasts.columns) + 1)
    _dates(ax)
    return ax


def plot_disagreement(
    truth: pd.Series,
    forecasts: pd.DataFrame,
    *,
    quantity: str = "power",
    unit: str = "kW",
    ax: Axes | None = None,
) -> Axes:
    """Plot two forecasts of one stretch with the truth, and shade what lies between them.

    Parameters
    ----------
    truth : pandas.Series of shape (n,)
        What came.
    forecasts : pandas.DataFrame of shape (n, 2)
        One column for each forecast, on the same rows.
    quantity : str, default "power"
        What is forecast.
    unit : str, default "kW"
        Unit of the values.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    first, second = forecasts.columns
    between = {"color": COLOURS[1], "alpha": 0.25, "linewidth": 0}
    ax.fill_between(forecasts.index, forecasts[first], forecasts[second], **between)
    ax.plot(truth.index, truth, color=TRUTH, linewidth=0.8, alpha=0.8, label="truth")
    for colour, name in zip(COLOURS, forecasts.columns, strict=False):
        ax.plot(forecasts.index, forecasts[name], color=colour, linewidth=1.2, label=_words(name))
    ax.set(xlabel="time", ylabel=f"{quantity} ({unit})")
    ax.margins(y=0.15)
    ax.legend(fontsize="small", ncols=3, loc="upper center")
    _dates(ax)
    return ax


def plot_cumulative_gain(gain: pd.Series, *, unit: str = "kW²", ax: Axes | None = None) -> Axes:
    """Plot the sum so far of how much smaller one loss is than another.

    A line that rises throughout says that the gain is steady, a step that it comes from one spell
    (A. Goyal and I. Welch, Review of Financial Studies 21, 2008).

    Parameters
    ----------
    gain : pandas.Series of shape (n,)
        Loss of version A less that of version B, by row in order of time.
    unit : str, default "kW²"
        Unit of the loss.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    ax.plot(gain.index, gain.cumsum(), color=COLOURS[0], linewidth=1.2)
    ax.axhline(0, color=TRUTH, linewidth=0.8)
    ax.set(xlabel="time", ylabel=f"squared error, A less B,\nsummed ({unit})")
    _dates(ax)
    return ax


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
    ax = _axes(ax)
    shown = [row for row in rows if row["champion"]][::-1]  # the first on top
    for at, row in enumerate(shown):
        scale = (1 if row["greater_is_better"] else -1) * 100 / abs(row["champion"])
        low, high = sorted((scale * row["low"], scale * row["high"]))
        colour = COLOURS[2] if low > 0 else COLOURS[3] if high < 0 else TRUTH
        ax.hlines(at, low, high, color=colour, linewidth=3, alpha=0.5)
        ax.plot([scale * row["difference"]], [at], "o", color=colour, markersize=5)
    ax.axvline(0, color=TRUTH, linewidth=0.8)
    ax.set_yticks(range(len(shown)), [_words(row["metric"]) for row in shown])
    ax.set(xlabel="B better than A by (% of A's value)", ylabel="metric")
    ax.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    return ax


def plot_error_by(
    errors: pd.DataFrame,
    groups: np.ndarray,
    *,
    xlabel: str,
    unit: str = "kW",
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
    unit : str, default "kW"
        Unit of the errors.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    rmse = (errors**2).groupby(np.asarray(groups)).mean() ** 0.5
    first, *others = errors.columns
    at = np.arange(len(rmse))
    ax.bar(at, rmse[first], color=COLOURS[0], label=_words(first))
    for colour, name in zip(COLOURS[1:], others, strict=False):
        ax.plot(at, rmse[name], "o-", color=colour, markersize=3, label=_words(name))
    every = -(-len(rmse) // 12)
    ax.set_xticks(at[::every], rmse.index[::every], fontsize="x-small")
    ax.set(xlabel=xlabel, ylabel=f"RMSE ({unit})")
    ax.set_ylim(top=1.35 * float(rmse.to_numpy().max()))
    ax.legend(fontsize="x-small")
    return ax


def plot_reliability(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    n_bins: int = 10,
    unit: str = "kW",
    ax: Axes | None = None,
) -> Axes:
    """Plot the mean truth against the mean forecast, in equally filled bins of the forecast.

    Points on the diagonal say that a forecast of so many kW is right on average; the bars span the
    middle half of the truth in the bin.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,), float
        Truth and forecast.
    n_bins : int, default 10
        Number of bins.
    unit : str, default "kW"
        Unit of both.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    order = np.argsort(y_pred, kind="stable")
    bins = [rows for rows in np.array_split(order, n_bins) if rows.size]
    x = np.array([np.mean(y_pred[rows]) for rows in bins])
    y = np.array([np.mean(y_true[rows]) for rows in bins])
    quarters = np.array([np.quantile(y_true[rows], [0.25, 0.75]) for rows in bins])
    ax.vlines(x, quarters[:, 0], quarters[:, 1], color=COLOURS[0], alpha=0.4, linewidth=3)
    ax.plot(x, y, "o", color=COLOURS[0], markersize=4)
    ax.axline((0, 0), slope=1, color=TRUTH, linestyle=":")
    ax.set(xlabel=f"forecast ({unit})", ylabel=f"truth ({unit})")
    return ax


def plot_importance(
    importance: pd.Series, *, n_features: int = 10, xlabel: str, ax: Axes | None = None
) -> Axes:
    """Plot the largest values as bars, largest on top.

    Parameters
    ----------
    importance : pandas.Series of shape (n,)
        One value for each feature; the index names them.
    n_features : int, default 10
        How many to show.
    xlabel : str
        What the value is, with unit.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    shown = importance.sort_values(kind="stable").tail(n_features)
    ax.barh(np.arange(len(shown)), shown, color=COLOURS[0])
    ax.set_yticks(np.arange(len(shown)), shown.index, fontsize="small")
    ax.set(xlabel=xlabel, ylabel="feature")
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
    ax = _axes(ax)
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
    ax = _axes(ax)
    for k, (name, by_day) in enumerate(intervals.items()):
        low, value, high = (
            np.array([day[f"rank_ic{end}"] for day in by_day.values()])
            for end in ("_low", "", "_high")
        )
        at = np.arange(len(by_day)) + 0.6 * ((k + 0.5) / len(intervals) - 0.5)
        colour = COLOURS[k % len(COLOURS)]
        ax.vlines(at, low, high, color=colour, linewidth=2, alpha=0.5)
        ax.plot(at, value, "o", color=colour, markersize=4, label=_words(name))
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
    ax = _axes(ax)
    most = 1.15 * max([*break_even_bps.values(), *costs_bps.values(), 1e-3])
    for k, (name, gross) in enumerate(break_even_bps.items()):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot([0, most], [gross, gross - most], color=colour, label=_words(name))
    for name, cost in costs_bps.items():
        ax.axvline(cost, color=TRUTH, linestyle=":")
        at = ax.get_xaxis_transform()  # x in bps, y in fractions of the height
        style = {"rotation": 90, "ha": "right", "va": "top", "fontsize": "small"}
        ax.text(cost, 0.97, _words(name), transform=at, **style)
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
    ax = _axes(ax)
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


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Plot how often each class is taken for each other.

    The colour is the share of the true class, on a scale that sets small shares apart; the numbers
    are images, and none are written where there are none.

    Parameters
    ----------
    matrix : array of shape (n_classes, n_classes), int
        Number of images by true class (row) and predicted class (column).
    classes : sequence of str
        Names of the classes.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    norm = PowerNorm(0.4, vmin=0, vmax=1)
    image = ax.imshow(share, cmap="Blues", norm=norm, aspect="auto")
    for row, column in np.argwhere(matrix):
        colour = "white" if norm(share[row, column]) > 0.6 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 7}
        ax.text(column, row, f"{matrix[row, column]}", color=colour, **style)
    at = np.arange(len(classes))
    turned = 90 if max(len(name) for name in classes) > 2 else 0
    ax.set_xticks(at, classes, rotation=turned, fontsize="small")
    ax.set_yticks(at, classes, fontsize="small")
    ax.set(xlabel="predicted", ylabel="truth")
    bar = ax.figure.colorbar(
        image, ax=ax, ticks=[0, 0.01, 0.1, 0.5, 1], fraction=0.05, pad=0.02, aspect=40
    )
    bar.ax.set_yticklabels(["0", "0.01", "0.1", "0.5", "1"], fontsize="x-small")
    bar.set_label("share of the true class (fraction)", fontsize="small")
    return ax


def plot_calibration(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot accuracy against confidence, with the number of images at each point.

    On the diagonal, probabilities can be taken at their word; below it, the classifier is too sure
    of itself. The area of a point grows with its share of the images.

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
    ax = _axes(ax)
    x, y = table["confidence"], table["accuracy"]
    ax.plot([0, 1], [0, 1], color=TRUTH, linestyle=":", label="as sure as right")
    ax.plot(x, y, color=COLOURS[0], linewidth=0.8, alpha=0.5)
    area = 10 + 150 * table["n"] / table["n"].max()
    ax.scatter(
        x, y, s=area, color=COLOURS[0], alpha=0.8, linewidth=0, label="area: number of images"
    )
    ax.set(
        xlim=(0, 1.05),
        ylim=(0, 1.05),
        xlabel="confidence (fraction)",
        ylabel="accuracy (fraction)",
    )
    ax.legend(fontsize="small", loc="lower right")
    return ax


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
        One title for each image, or none.
    columns : int, default 8
        Tiles in a row.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        Without ticks and labels.

    Raises
    ------
    ValueError
        If there are titles but not as many as images, `columns` is below 1, there is no image, or
        images have another type or shape.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}: give uint8 of shape "
            "(n, height, width) or (n, height, width, 3)"
        )
    if not len(images) or columns < 1:
        raise ValueError(f"{len(images)} images in {columns} columns: give one or more of each")
    if len(titles) not in (0, len(images)):
        raise ValueError(f"{len(titles)} titles for {len(images)} images: give as many, or none")
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


def plot_one_sided(counts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot how many images only one of two versions names rightly: bars to the left and the right.

    Parameters
    ----------
    counts : pandas.DataFrame of shape (n_classes, 2)
        Number of images by class (index); the first column is drawn to the left.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    at = np.arange(len(counts))
    for colour, sign, name in zip(COLOURS, (-1, 1), counts.columns, strict=False):
        ax.barh(at, sign * counts[name], color=colour, label=f"{name} is right")
    ax.axvline(0, color=TRUTH, linewidth=0.8)
    most = max(1, int(counts.to_numpy().max()))
    ax.set(xlim=(-1.1 * most, 1.1 * most), xlabel="images (number)", ylabel="class")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(lambda x, _: f"{abs(x):.0f}")
    ax.set_yticks(at, counts.index, fontsize="small")
    ax.invert_yaxis()
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def plot_history(
    history: pd.DataFrame,
    *,
    columns: Sequence[str],
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Plot training curves by epoch.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_epochs, n_columns)
        One column for each curve, index the epoch.
    columns : sequence of str
        Curves to draw, such as ``["loss", "val_loss"]``.
    ylabel : str
        What they are, with unit.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    for k, name in enumerate(columns):
        ax.plot(
            history.index,
            history[name],
            "o-" if len(history) <= 30 else "-",
            color=COLOURS[k % len(COLOURS)],
            markersize=3,
            label=_words(name),
        )
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend(fontsize="small")
    return ax


def plot_drift(columns: pd.DataFrame, *, n_columns: int = 20, ax: Axes | None = None) -> Axes:
    """Plot how far each column is from the training data, over its own threshold.

    The farthest column stands on top, those in alarm in red; past the threshold the scale is that
    of a logarithm where a distance is large. Columns beyond `n_columns` share the last row, with
    the largest distance of any of them.

    Parameters
    ----------
    columns : pandas.DataFrame of shape (n_columns, n_distances)
        Index the column, values each distance over its threshold; above 1 is an alarm.
    n_columns : int, default 20
        Rows to show.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    known = columns.fillna(0).clip(upper=MOST_DRIFT)
    known = known.loc[known.max(axis=1).sort_values(ascending=False, kind="stable").index]
    shown, others = known.iloc[:n_columns], known.iloc[n_columns:]
    names = [_words(name) for name in shown.index]
    if len(others):
        shown = pd.concat([shown, others.max().to_frame().T])
        n_alarms = int((others.max(axis=1) > 1).sum())
        names.append(f"{len(others)} others" + (f", {n_alarms} in alarm" if n_alarms else ""))
    if ax is None:
        inches = min(4.0, max(3.0, 1.0 + 0.16 * len(shown)))
        ax = plt.subplots(figsize=(8, inches), dpi=80, layout="constrained")[1]
    places, largest = np.arange(len(shown)), shown.max(axis=1)
    alarms = (largest > 1).to_numpy()
    ax.hlines(places, 0, largest, color=np.where(alarms, COLOURS[3], "0.8"), linewidth=1)
    colours = [colour for colour in COLOURS if colour != COLOURS[3]]  # red is an alarm
    for colour, marker, name in zip(colours, "oDs^v", columns.columns, strict=False):
        dots = {"color": colour, "alpha": 0.8, "markersize": 4, "clip_on": False, "zorder": 3}
        ax.plot(shown[name].where(shown[name] > 0), places, marker, label=_words(name), **dots)
    ax.axvline(1, color=TRUTH, linestyle=":")
    if largest.max() > 5:
        ax.set_xscale("symlog", linthresh=1, linscale=0.6)
        ax.set_xticks([tick for tick in DRIFT_TICKS if tick <= max(10, largest.max())])
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set(xlabel="distance over its threshold", ylabel="column", ylim=(len(shown) - 0.4, -0.6))
    ax.set_xlim(0, max(1.2, 1.08 * largest.max()))
    ax.set_yticks(places, names, fontsize="small" if len(shown) <= 12 else "x-small")
    for label, alarm in zip(ax.get_yticklabels(), alarms, strict=True):
        label.set_color(COLOURS[3] if alarm else "black")
    ax.legend(fontsize="small", loc="lower right")
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
    ax = _axes(ax)
    shown = {"truth": (truth, TRUTH), "predicted": (predicted, COLOURS[0])}
    if isinstance(predicted.index, pd.DatetimeIndex):
        for name, (values, colour) in shown.items():
            ax.plot(values.index, values, color=colour, linewidth=0.8, label=name)
        ax.set(xlabel="time", ylabel=f"value ({unit})")
        _dates(ax)
    else:
        names = sorted({*predicted, *truth})
        for k, (name, (values, colour)) in enumerate(shown.items()):
            counts = values.value_counts().reindex(names, fill_value=0)
            ax.bar(np.arange(len(names)) + 0.4 * (k - 0.5), counts, 0.4, color=colour, label=name)
        ax.set(xlabel="class", ylabel=unit, xticks=range(len(names)), xticklabels=names)
    ax.legend(fontsize="small")
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(8, 3), dpi=80, layout="constrained")[1] if ax is None else ax


def _dates(ax: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _words(name: str) -> str:
    return name.replace("_", " ")
