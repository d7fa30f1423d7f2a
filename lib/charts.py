"""Charts that can be zoomed and read: the data that a notebook writes beside a figure.

A notebook writes `forecast.chart.json` beside `forecast.png`, made by `lines`: numbers and labels,
never code. A page takes of it what it can check, and draws it by its own script
(`lib.pages.viewer`), so that it stays one file without network or eval; where no script runs one
sees the picture.

The script is ours because of what the alternatives add to each page that holds a chart. Measured in
Chromium on two cores, with 2,000 rows and three lines, without the data:

====================  ========  ===========  =============
library               page, kB  to draw, ms  installed, MB
====================  ========  ===========  =============
this                        23          105              0
Vega-Lite 6.4, Embed       898          720             84
Bokeh 3.9                1,390          540             28
Plotly 7.1               4,816        1,700             39
====================  ========  ===========  =============

uPlot would be small, but the package that carries it has that of 2021. A library in a file beside
the pages would be missing in MLflow's view of artifacts and from a page that was mailed.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence

from lib.ground.chart_file import KINDS, MAX_NOTES, MAX_ROWS, MAX_VALUES, parse

import numpy as np
import pandas as pd


def lines(
    frame: pd.DataFrame,
    *,
    xlabel: str,
    ylabel: str,
    kinds: Mapping[str, str] | None = None,
    muted: Collection[str] = (),
    hidden: Collection[str] = (),
    view: Sequence[object] | None = None,
    about: Sequence[str] = (),
    joined: bool = False,
) -> dict:
    """Return a chart of the columns of a frame, for ``run.write("<figure>.chart.json", ...)``.

    A frame with more than 8,000 rows, or 60,000 values, is thinned to the lowest and the highest
    value of stretches of equal length, and the chart says so. A list of charts is one below the
    other, with one horizontal axis. Times are shown as they are written, without regard to the
    reader's time zone.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (n, n_series)
        One column for each series; its name is the label. The index, numbers or times in order, is
        the horizontal axis. Missing values are gaps, and so are times that a regular index lacks.
    xlabel, ylabel : str
        What the axes are, with unit.
    kinds : mapping of str to str, optional
        How a column is drawn: ``line`` (default), ``area`` down to zero, ``step`` or ``points``.
    muted : collection of str, optional
        Columns in grey; the others have the colours of `lib.plots`, in order.
    hidden : collection of str, optional
        Columns that are shown only when a reader asks for them.
    view : sequence of two, optional
        Ends of the stretch that is shown first, as in the index; all of it by default.
    about : sequence of str, optional
        A note to each row, shown where the pointer is; left out where a page would become large.
    joined : bool, default False
        Whether lines go on over times that a regular index lacks: right for sums, wrong for values
        that were not measured.

    Returns
    -------
    dict
        Values have four significant digits.

    Raises
    ------
    ValueError
        If the index is out of order or neither numbers nor times, a value is infinite, a kind is
        unknown, or there are no rows, too many series, or not as many notes as rows.
    """
    kinds = dict(kinds or {})
    if {*kinds.values()} - {*KINDS}:
        raise ValueError(f"kinds = {kinds}: expected {', '.join(KINDS)}")
    if len(about) not in (0, len(frame)):
        raise ValueError(f"{len(about)} notes for {len(frame)} rows: give as many, or none")
    note = ""
    thinned = whole = frame if joined or len(about) else _with_gaps(frame)
    max_rows = min(MAX_ROWS, MAX_VALUES // max(1, frame.shape[1]))
    if len(whole) > max_rows:
        thinned, length = _thinned(whole, max_rows)
        about = ()
        note = f"Every two points are the lowest and the highest value of {length} rows."
    x = _numbers(thinned.index)
    if not len(x) or not np.isfinite(x).all() or (np.diff(x) < 0).any():
        raise ValueError("the index must be numbers or times in order, and there must be a row")
    values = thinned.to_numpy(dtype=np.float64)
    if np.isinf(values).any():
        raise ValueError("a value is infinite: a chart shows finite values and gaps")
    steps = np.diff(x)
    regular = len(steps) > 0 and bool((steps == steps[0]).all())
    chart = {
        "x": {
            "label": xlabel,
            "time": isinstance(frame.index, pd.DatetimeIndex),
            "start": _short(x[0], 15),
            "steps": _short(steps[0], 15) if regular else [_short(step, 15) for step in steps],
        },
        "y": {"label": ylabel},
        "series": [
            {
                "label": str(name).replace("_", " "),
                "kind": kinds.get(name, "line"),
                "muted": name in muted,
                "hidden": name in hidden,
                "values": [None if math.isnan(v) else _short(v, 4) for v in values[:, k].tolist()],
            }
            for k, name in enumerate(thinned.columns)
        ],
        "note": note,
    }
    if view is not None:
        ends = type(frame.index)(list(view)) if chart["x"]["time"] else pd.Index(view)
        chart["view"] = [_short(end, 15) for end in _numbers(ends)]
    if 0 < sum(len(text) for text in about) <= MAX_NOTES:
        chart["about"] = [str(text) for text in about]
    return parse(json.dumps(chart).encode())[0]


def _with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of regular times with a row of missing values for each time that it lacks."""
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2 or not index.is_unique:
        return frame
    step = pd.Series(index).diff().min()
    if step <= pd.Timedelta(0) or (index[-1] - index[0]) / step > 2 * len(index):
        return frame
    every = pd.date_range(index[0], index[-1], freq=step)
    return frame.reindex(every) if index.isin(every).all() else frame


def _thinned(frame: pd.DataFrame, max_rows: int) -> tuple[pd.DataFrame, int]:
    """Return the lowest and the highest value of each stretch, in the order in which they came."""
    length = -(-2 * len(frame) // max_rows)
    starts = np.arange(0, len(frame), length)
    rows = np.stack([starts, np.minimum(starts + length // 2, len(frame) - 1)], axis=1).ravel()
    parts = np.full((len(starts) * length, frame.shape[1]), np.nan)
    parts[: len(frame)] = frame.to_numpy(dtype=np.float64)
    parts = parts.reshape(len(starts), length, -1)
    lowest = np.where(np.isnan(parts), np.inf, parts).argmin(axis=1)
    highest = np.where(np.isnan(parts), -np.inf, parts).argmax(axis=1)
    at = np.sort(np.stack([lowest, highest], axis=1), axis=1)
    ends = np.take_along_axis(parts, at, axis=1).reshape(len(rows), -1)
    return pd.DataFrame(ends, frame.index[rows], frame.columns), length


def _numbers(index: pd.Index) -> np.ndarray:
    """Return an index as numbers; times as seconds of the clock that they show."""
    if isinstance(index, pd.DatetimeIndex):
        clock = index.tz_localize(None) if index.tz is not None else index
        return (clock - pd.Timestamp(0)) / pd.Timedelta(seconds=1) + np.zeros(len(index))
    if not pd.api.types.is_numeric_dtype(index):
        raise ValueError(f"the index is of type {index.dtype}: expected numbers or times")
    return index.to_numpy(dtype=np.float64)


def _short(value: float, digits: int) -> float | int:
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() else number
