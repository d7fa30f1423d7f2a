"""Features and targets of time series: numbers about row *t* that use rows up to *t* only.

Every function takes a series or frame on a regular time grid (a missing time is a row of NaN, never
filled) and returns a new frame on the same index. Lags, windows and differences are counted in rows
back from row *t*, which is the last known row; calendar columns, which are known in advance, and
the ``same_time`` columns belong to the time of the target, *t* + horizon. Targets are made by
`forward_value` alone and are named ``forward_*``.
"""

from collections.abc import Sequence
from typing import TypedDict

from lib.power.columns import METERS

import numpy as np
import pandas as pd

PARTS_OF_DAY = ("night", "morning", "afternoon", "evening")
STATISTICS = ("mean", "std", "min", "max")
EXTREMES = {"min": (np.minimum, np.inf), "max": (np.maximum, -np.inf)}
POWER = "power_kw"
LOAD_COLUMNS = ("reactive_power_kvar", *METERS)
LAGS = tuple(range(24))
WINDOWS = (3, 6, 12, 24, 168)
LOAD_LAGS = (0, 1, 2)
LOAD_WINDOWS = (3,)
MIN_VOLTAGE_V = 207.0
MINUTES_PER_DAY = 24 * 60


class PowerOptions(TypedDict):
    """The options of `power_features`, as they are kept beside a model."""

    horizon: int
    lags: list[int]
    windows: list[int]
    days: int
    weeks: int
    country: str
    min_voltage_v: float


def rows_per_day(index: pd.DatetimeIndex) -> int:
    """Return how many rows of a regular time index make one day.

    Parameters
    ----------
    index : pandas.DatetimeIndex
        At least two stamps on a regular grid whose step divides a day: minutes, hours, days.

    Returns
    -------
    int
        1440 for minutes, 24 for hours, 1 for days.

    Raises
    ------
    ValueError
        If there are fewer than two stamps, the grid is irregular, or its step does not divide a
        day.
    """
    steps = pd.TimedeltaIndex(np.diff(index)).unique()
    day = pd.Timedelta(days=1)
    if len(steps) != 1 or steps[0] <= pd.Timedelta(0) or day % steps[0]:
        raise ValueError(
            f"{len(index)} rows must follow each other in one step that divides a day, not "
            f"{', '.join(map(str, steps[:3]))}: aggregate to minutes, hours or days first; a "
            "missing time is a row of NaN"
        )
    return day // steps[0]


def forward_value(series: pd.Series, horizon: int) -> pd.Series:
    """Return the target: the value `horizon` rows after each row, NaN where it is not known.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid; its name becomes part of the target's name.
    horizon : int
        Rows ahead, at least 1.

    Returns
    -------
    pandas.Series of shape (n,), float64
        Named ``forward_<name>_<horizon>``; the last `horizon` rows are NaN.
    """
    _require_at_least("horizon", [horizon], 1)
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.Series(
        _shift(values, -horizon), series.index, name=f"forward_{series.name}_{horizon}"
    )


def lag_features(series: pd.Series, lags: Sequence[int]) -> pd.DataFrame:
    """Return past values: column ``<name>_lag_<k>`` holds at row *t* the value of row *t* - *k*.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid.
    lags : sequence of int
        Rows back, 0 is the last known row itself.

    Returns
    -------
    pandas.DataFrame of shape (n, len(lags)), float32
    """
    _require_at_least("lags", lags, 0)
    values = _values(series)
    return _frame({f"{series.name}_lag_{lag}": _shift(values, lag) for lag in lags}, series.index)


def difference_features(series: pd.Series, lags: Sequence[int]) -> pd.DataFrame:
    """Return changes: ``<name>_difference_<k>`` is the value of row *t* less that of row *t* - *k*.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid.
    lags : sequence of int
        Rows back, at least 1.

    Returns
    -------
    pandas.DataFrame of shape (n, len(lags)), float32
    """
    _require_at_least("lags", lags, 1)
    values = _values(series)
    columns = {f"{series.name}_difference_{lag}": values - _shift(values, lag) for lag in lags}
    return _frame(columns, series.index)


def rolling_features(
    series: pd.Series, windows: Sequence[int], statistics: Sequence[str] = STATISTICS
) -> pd.DataFrame:
    """Return statistics of moving windows that end with row *t*: ``<name>_<statistic>_<window>``.

    Missing rows, and rows before the first, are left out of a window; a window with fewer than half
    of its rows known gives NaN.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid.
    windows : sequence of int
        Window lengths in rows, at least 1; a standard deviation needs at least 2.
    statistics : sequence of {"mean", "std", "min", "max"}, default all
        ``std`` is the population form (division by the number of known rows).

    Returns
    -------
    pandas.DataFrame of shape (n, len(windows) * len(statistics)), float32

    Notes
    -----
    Each statistic takes O(n) whatever the window: sums and extremes of the two parts into which a
    border, drawn every `window` rows, cuts a window are combined (van Herk 1992; Gil and Werman
    1993). No running total is carried over more than one window, so nothing drifts.
    """
    _require_at_least("windows", windows, 1)
    values = _values(series)
    known = np.isfinite(values)
    centre = values[known.argmax()] if known.any() else 0.0
    centred = np.where(known, values - centre, 0.0)
    columns: dict[str, np.ndarray] = {}
    for window in windows:
        counts = _sliding(known.astype(np.float64), window, np.add, 0.0)
        enough = 2 * counts >= window
        divisor = np.where(enough, counts, np.nan)
        mean = _sliding(centred, window, np.add, 0.0) / divisor
        for statistic in statistics:
            if statistic == "mean":
                column = mean + centre
            elif statistic == "std":
                square = _sliding(centred * centred, window, np.add, 0.0) / divisor
                column = np.sqrt(np.maximum(square - mean * mean, 0.0))
            else:
                combine, last = EXTREMES[statistic]
                extreme = _sliding(np.where(known, values, last), window, combine, last)
                column = np.where(enough, extreme, np.nan)
            columns[f"{series.name}_{statistic}_{window}"] = column
    return _frame(columns, series.index)


def same_time_features(
    series: pd.Series, *, horizon: int, period: int, n_periods: int, name: str
) -> pd.DataFrame:
    """Return the values at the target's own time of day (or of week) in earlier periods.

    Columns ``<series>_<name>_<k>`` hold the value `k` periods before the target, for the
    `n_periods` most recent periods that are known at row *t* (with a horizon longer than one period
    `k` starts higher); ``<series>_<name>_mean_<n>`` is the mean of those known, NaN when more
    than half are missing.

    Parameters
    ----------
    series : pandas.Series of shape (n,)
        Values on a regular grid.
    horizon : int
        Rows from row *t* to the target, at least 1.
    period : int
        Rows of one period: a day or a week.
    n_periods : int
        How many periods back to look; 0 gives no columns.
    name : str
        What one period is called in the column names: ``"day"`` or ``"week"``.

    Returns
    -------
    pandas.DataFrame of shape (n, n_periods + 1), float32
    """
    _require_at_least("horizon", [horizon], 1)
    if n_periods == 0:
        return pd.DataFrame(index=series.index)
    values = _values(series)
    first = first_known_period(horizon, period)
    back = range(first, first + n_periods)
    past = np.stack([_shift(values, k * period - horizon) for k in back])
    columns = {f"{series.name}_{name}_{k}": row for k, row in zip(back, past, strict=True)}
    counts = np.isfinite(past).sum(axis=0)
    columns[f"{series.name}_{name}_mean_{n_periods}"] = np.nansum(past, axis=0) / np.where(
        2 * counts >= n_periods, counts, np.nan
    )
    return _frame(columns, series.index)


def first_known_period(horizon: int, period: int) -> int:
    """Return the smallest number of whole periods before the target that reaches a known row."""
    return -(-horizon // period)


def calendar_features(
    index: pd.DatetimeIndex, *, country: str = "", daily: bool = True
) -> pd.DataFrame:
    """Return the calendar of each stamp, taken as local clock time without daylight-saving jumps.

    Parameters
    ----------
    index : pandas.DatetimeIndex of shape (n,)
        The times to describe (for a forecast: those of the targets), without a time zone.
    country : str, default ""
        ISO 3166 code (``"FR"``) whose public holidays are marked by the `holidays` package; empty
        for no such columns.
    daily : bool, default True
        Whether the harmonics of the day are among them.

    Returns
    -------
    pandas.DataFrame of shape (n, n_columns), float32
        ``minute_of_day``, ``day_of_week`` (Monday 0), ``day_of_year`` (1 to 366), ``part_of_day``
        (position in `PARTS_OF_DAY`: night 0:00 to 5:59, morning to 11:59, afternoon to 17:59,
        evening to 23:59), ``weekend`` (0 or 1), ``season`` (northern: 0 is winter, December
        to February), ``yearly_sin_<k>``, ``yearly_cos_<k>``, ``daily_sin_<k>``,
        ``daily_cos_<k>`` (k is 1 and 2) and, with a country, ``holiday`` and ``holiday_tomorrow``
        (0 or 1).

    Raises
    ------
    ValueError
        If the country is not one that `holidays` knows.
    """
    minute = (index.hour * 60 + index.minute).to_numpy(dtype=np.float64)
    day_of_week = index.day_of_week.to_numpy()
    day_of_year = index.day_of_year.to_numpy(dtype=np.float64)
    columns: dict[str, np.ndarray] = {
        "minute_of_day": minute,
        "day_of_week": day_of_week,
        "day_of_year": day_of_year,
        "part_of_day": index.hour.to_numpy() // 6,
        "weekend": day_of_week >= 5,
        "season": index.month.to_numpy() % 12 // 3,
    }
    angles = {"yearly": 2 * np.pi * (day_of_year - 1 + minute / MINUTES_PER_DAY) / 365.25}
    if daily:
        angles["daily"] = 2 * np.pi * minute / MINUTES_PER_DAY
    for name, angle in angles.items():
        for k in (1, 2):
            columns[f"{name}_sin_{k}"] = np.sin(k * angle)
            columns[f"{name}_cos_{k}"] = np.cos(k * angle)
    if country:
        days = index.normalize()
        columns["holiday"] = _is_holiday(days, country)
        columns["holiday_tomorrow"] = _is_holiday(days + pd.Timedelta(days=1), country)
    return _frame(columns, index)


def measured(history: pd.DataFrame, *, min_voltage_v: float = MIN_VOLTAGE_V) -> pd.DataFrame:
    """Return a copy in which rows that no meter can have measured are missing.

    A house with power has a voltage. Where its mean lies below the least a supply may have, zeros
    were put in place of missing minutes, and every column of the row is wrong.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n, n_columns)
        The canonical power frame.
    min_voltage_v : float, default 207
        Least voltage (V) of a real row: 230 V less 10 %, the European standard EN 50160; 0 takes
        every row for real.

    Returns
    -------
    pandas.DataFrame of shape (n, n_columns)
    """
    return history.mask(history["voltage_v"] < min_voltage_v)


def power_features(
    history: pd.DataFrame,
    *,
    horizon: int = 1,
    lags: Sequence[int] = LAGS,
    windows: Sequence[int] = WINDOWS,
    days: int = 7,
    weeks: int = 4,
    country: str = "",
    min_voltage_v: float = MIN_VOLTAGE_V,
) -> pd.DataFrame:
    """Return the features of household power, one row per row of `history`.

    Row *t* uses rows up to *t* of every measured column, and the calendar of its target's time,
    *t* + horizon. The target is never among them: the current of the target's hour is the target in
    other units, so all columns enter as past values only.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n, 7)
        The canonical power frame: index of naive local clock time on a regular grid (minute, hour
        or day). ``current_a`` is not used, it is the power over the voltage; ``voltage_v`` only to
        tell rows that are no readings.
    horizon : int, default 1
        Rows from the last known row to the target, at least 1.
    lags : sequence of int, default 0 to 23
        Rows back from the last known row (0) whose power is a feature.
    windows : sequence of int, default (3, 6, 12, 24, 168)
        Lengths, in rows, of the moving windows.
    days, weeks : int, default 7 and 4
        How many earlier days at the target's time of day, and earlier weeks at its time of week.
    country : str, default ""
        ISO 3166 code of the country whose public holidays are marked; empty for none.
    min_voltage_v : float, default 207
        Rows with a lower voltage (V) count as missing, see `measured`.

    Returns
    -------
    pandas.DataFrame of shape (n, n_features), float32
        Index as `history`. Missing measurements stay NaN.

    Raises
    ------
    ValueError
        If the grid is irregular, or an option is out of its range.
    """
    per_day = rows_per_day(history.index)
    history = measured(history, min_voltage_v=min_voltage_v)
    power = history[POWER]
    targets = history.index + horizon * (pd.Timedelta(days=1) / per_day)
    calendar = calendar_features(targets, country=country, daily=per_day > 1)
    parts = [
        lag_features(power, lags),
        difference_features(power, _changes(per_day)),
        rolling_features(power, windows),
        same_time_features(power, horizon=horizon, period=per_day, n_periods=days, name="day"),
        same_time_features(
            power, horizon=horizon, period=7 * per_day, n_periods=weeks, name="week"
        ),
    ]
    for series in _loads(history, per_day):
        parts += [lag_features(series, LOAD_LAGS), rolling_features(series, LOAD_WINDOWS, ["mean"])]
    return pd.concat([*parts, calendar.set_axis(history.index)], axis=1)


def needed_rows(per_day: int, options: PowerOptions) -> int:
    """Return how many rows of history, the last known one included, `power_features` reaches back.

    `per_day` is what `rows_per_day` says of the history.
    """
    return max(reaches(per_day, options).values())


def reaches(per_day: int, options: PowerOptions) -> dict[str, int]:
    """Return how many rows back each option reaches; "" stands for what no option moves."""
    horizon = options["horizon"]
    found = {"": max(max(LOAD_LAGS) + 1, *LOAD_WINDOWS, max(_changes(per_day)) + 1)}
    found["lags"] = max(options["lags"], default=0) + 1
    found["windows"] = max(options["windows"], default=0)
    for name, period in (("days", per_day), ("weeks", 7 * per_day)):
        last = first_known_period(horizon, period) + options[name] - 1
        found[name] = last * period - horizon + 1 if options[name] else 0
    return found


def _changes(per_day: int) -> list[int]:
    """Return the rows back to which the last known power is compared."""
    return [1, 2] if per_day == 1 else [1, 2, per_day]


def _loads(history: pd.DataFrame, per_day: int) -> list[pd.Series]:
    """Return the measured columns other than the power, and the energy that no sub-meter saw."""
    energy_wh = history[POWER] * (24_000 / per_day)
    rest = energy_wh - history[list(METERS)].sum(axis=1, min_count=len(METERS))
    return [*(history[name] for name in LOAD_COLUMNS), rest.rename("unmetered_wh")]


def _values(series: pd.Series) -> np.ndarray:
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def _shift(values: np.ndarray, n_rows: int) -> np.ndarray:
    """Return values moved `n_rows` towards the end (or, if negative, the start), NaN moved in."""
    return pd.Series(values).shift(n_rows).to_numpy()


def _sliding(values: np.ndarray, window: int, combine: np.ufunc, neutral: float) -> np.ndarray:
    """Combine each value with the `window` - 1 before it; `neutral` stands before the first."""
    n_rows = len(values)
    n_blocks = -(-(n_rows + window - 1) // window)
    padded = np.full(n_blocks * window, neutral)
    padded[window - 1 : window - 1 + n_rows] = values
    blocks = padded.reshape(n_blocks, window)
    to_here = combine.accumulate(blocks, axis=1).ravel()
    from_here = combine.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    starts = np.arange(n_rows)
    whole = starts % window == 0
    result = combine(from_here[:n_rows], to_here[window - 1 : window - 1 + n_rows])
    result[whole] = from_here[:n_rows][whole]
    return result


def _is_holiday(days: pd.DatetimeIndex, country: str) -> np.ndarray:
    import holidays

    years = range(days[0].year, days[-1].year + 1)
    try:
        calendar = holidays.country_holidays(country, years=years)
    except NotImplementedError as error:
        raise ValueError(f"{error}: give an ISO 3166 code such as 'FR', or '' for none") from None
    return days.isin(pd.DatetimeIndex(pd.to_datetime(sorted(calendar))))


def _frame(columns: dict[str, np.ndarray], index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(
        {name: np.asarray(column, dtype=np.float32) for name, column in columns.items()}, index
    )


def _require_at_least(name: str, numbers: Sequence[int], least: int) -> None:
    wrong = [number for number in numbers if number < least]
    if wrong:
        raise ValueError(f"{name} has {wrong[0]}: it must be at least {least}")
