"""Household power readings as one canonical frame: what it is, its checks, its resolutions.

The index ``ts`` is naive local clock time in microseconds, the start of each interval, sorted,
unique and regular; the seven float columns are in `COLUMNS`. A time without a reading is a row of
NaN: nothing is filled, dropped or guessed, and what breaks a rule is an error that names the file,
the line, the value and the rule.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lib.frames import frame_digest, grid_step
from lib.sources import redact

import numpy as np
import pandas as pd

COLUMNS = {
    "power_kw": "Global_active_power",
    "reactive_power_kvar": "Global_reactive_power",
    "voltage_v": "Voltage",
    "current_a": "Global_intensity",
    "sub_metering_1_wh": "Sub_metering_1",
    "sub_metering_2_wh": "Sub_metering_2",
    "sub_metering_3_wh": "Sub_metering_3",
}
"""The columns of the canonical frame and what UCI's file calls them."""

ENERGY = tuple(column for column in COLUMNS if column.endswith("_wh"))
RESOLUTIONS = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
TIME_TYPE = "datetime64[us]"

LIMITS = {
    "power_kw": (0.0, 100.0),
    "reactive_power_kvar": (-100.0, 100.0),
    "voltage_v": (0.0, 1000.0),
    "current_a": (0.0, 400.0),
}
"""Inclusive limits of the instantaneous columns.

Households are on low voltage, which IEC 60038 ends at 1000 V. 100 kW is well above the largest
household connection (36 kVA in France) and below the power of one kettle given in watts by
mistake; 400 A is 100 kW at 250 V. Reactive power is signed on some meters. The sub-meters may
show no more than 100 kW for the length of one row.
"""


@dataclass(frozen=True)
class Part:
    """What one file or query held, in its own order, and how to name a row of it."""

    name: str
    frame: pd.DataFrame  # in the canonical shape, not yet checked
    row: str = "row"  # "line" in a text file
    first: int = 1  # the number of the first row, counted from one as editors do

    def place(self, position: int) -> str:
        """Name the row at `position`, for people."""
        return f"{self.name}, {self.row} {self.first + position}"


def canonical(ts: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Return a frame in the canonical shape, without a copy and without a check.

    Parameters
    ----------
    ts : ndarray of shape (n_rows,), datetime64
        Local clock time.
    values : ndarray of shape (7, n_rows), float64
        In the order of `COLUMNS`.
    """
    index = pd.DatetimeIndex(ts.astype(TIME_TYPE, copy=False), name="ts", copy=False)
    return pd.DataFrame(values.T, index=index, columns=list(COLUMNS), copy=False)


def join(parts: Sequence[Part]) -> pd.DataFrame:
    """Check every part, put them in order of time and lay them on one regular grid."""
    for part in parts:
        _check_rows(part.frame, part.place)
    parts = sorted(parts, key=lambda part: part.frame.index[0])
    for before, after in pairwise(parts):
        if after.frame.index[0] <= before.frame.index[-1]:
            raise ValueError(
                f"{after.name} begins at {after.frame.index[0]}, not after {before.name} ends "
                f"at {before.frame.index[-1]}: files that are read together must not overlap"
            )
    frame = pd.concat([part.frame for part in parts]) if len(parts) > 1 else parts[0].frame
    ends = np.cumsum([len(part.frame) for part in parts])

    def place(position: int) -> str:
        k = int(np.searchsorted(ends, position, side="right"))
        return parts[k].place(position - int(ends[k] - len(parts[k].frame)))

    ts = _microseconds(frame)
    step = _step(frame.index, ts, place)
    n_grid = int((ts[-1] - ts[0]) // step) + 1
    if n_grid > 20 * len(ts):
        gap = int(np.argmax(np.diff(ts)))
        raise ValueError(
            f"{place(gap + 1)}: {frame.index[gap + 1]} follows {frame.index[gap]}, and the gaps "
            f"together are {n_grid - len(ts):,} rows beside {len(ts):,} readings: is a date "
            "wrong? Read the stretches apart if not"
        )
    if n_grid == len(ts):
        return frame
    grid = (ts[0] + step * np.arange(n_grid)).view(TIME_TYPE)
    return frame.reindex(pd.DatetimeIndex(grid, name="ts"))


# Checks ---------------------------------------------------------------------------------------


def check_power(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it is a canonical power frame; name the rows that break a rule if not.

    Seven float columns in the order of `COLUMNS`, each within `LIMITS` (sub-meters: 0 Wh to what
    100 kW give in one row) or missing; the index ``ts`` is datetime64[us], strictly increasing and
    regular: a time without a reading is a row of NaN.

    Raises
    ------
    ValueError
        Names every broken rule with its first rows: time, value and how many there are.
    """

    def place(position: int) -> str:
        return str(frame.index[position])

    _check_rows(frame, place)
    if len(frame) > 1:
        ts = _microseconds(frame)
        step = _step(frame.index, ts, place)
        wide = np.flatnonzero(np.diff(ts) != step)
        if len(wide):
            raise ValueError(
                f"{place(wide[0] + 1)} follows {place(wide[0])}, and rows are "
                f"{pd.Timedelta(step, 'us')} apart ({len(wide):,} such gaps): a time without a "
                "reading must be a row of NaN"
            )
    return frame


def _check_rows(frame: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Raise one error that names every rule that single rows of `frame` break, and where."""
    if list(frame.columns) != list(COLUMNS) or frame.index.name != "ts":
        raise ValueError(
            f"the index must be ts and the columns, in this order, {', '.join(COLUMNS)}; found "
            f"{frame.index.name} and {', '.join(map(str, frame.columns))}"
        )
    types = {"ts": frame.index.dtype, **frame.dtypes}
    wrong = [
        f"{name} must be {TIME_TYPE if name == 'ts' else 'float64 or float32'}, not {dtype}"
        for name, dtype in types.items()
        if dtype not in ([TIME_TYPE] if name == "ts" else ["float64", "float32"])
    ]
    if broken := wrong or list(_broken_rules(frame, place)):
        raise ValueError("; ".join(broken))


def _broken_rules(frame: pd.DataFrame, place: Callable[[int], str]) -> Iterator[str]:
    """Yield every rule that is broken, with its first three rows and their values."""
    ts = _microseconds(frame)
    usual_us = float(np.median(np.diff(ts[:1001]))) if len(ts) > 1 else 0.0
    row_h = (usual_us if usual_us > 0 else RESOLUTIONS["minute"]) / RESOLUTIONS["hour"]
    limits = LIMITS | dict.fromkeys(ENERGY, (0.0, LIMITS["power_kw"][1] * 1000 * row_h))
    rules = {}
    back = 1 + np.flatnonzero(ts[1:] <= ts[:-1])
    rules["ts must be later than the row before"] = (
        back,
        lambda row: (
            "repeats the row before"
            if ts[row] == ts[row - 1]
            else f"follows {frame.index[row - 1]}"
        ),
    )
    for column, (low, high) in limits.items():
        values = frame[column].to_numpy()
        outside = np.fmin.reduce(values) < low or np.fmax.reduce(values) > high
        bad = np.flatnonzero((values < low) | (values > high)) if outside else []
        rules[f"{column} must be from {low:g} to {high:g}"] = (
            bad,
            lambda row, values=values: f"has {values[row]:g}",
        )
    for rule, (rows, say) in rules.items():
        if len(rows):
            where = [f"{place(row)}: {frame.index[row]} {say(row)}" for row in rows[:3]]
            count = "1 row is" if len(rows) == 1 else f"{len(rows):,} rows are"
            yield f"{rule}, {count} not: {'; '.join(where)}"


def _step(index: pd.DatetimeIndex, ts: np.ndarray, place: Callable[[int], str]) -> int:
    """Return the length of a row in microseconds; every time must be whole rows from the first."""
    if len(ts) < 2:
        raise ValueError(f"{place(0)}: one reading alone has no resolution; give two or more")
    steps = np.diff(ts)
    step = int(steps.min())
    if step == steps.max():
        return step
    if (steps == step).mean() < 0.5:
        lengths, counts = np.unique(steps, return_counts=True)
        step = int(lengths[np.argmax(counts)])
    off = np.flatnonzero((ts - ts[0]) % step)
    if len(off):
        raise ValueError(
            f"{place(int(off[0]))}: {index[off[0]]} is off the grid: rows are "
            f"{pd.Timedelta(step, 'us')} apart from {index[0]} on ({len(off):,} such rows). "
            "Round the times, or give readings of one resolution"
        )
    return step


def _microseconds(frame: pd.DataFrame) -> np.ndarray:
    return frame.index.to_numpy().astype(TIME_TYPE, copy=False).view(np.int64)


# Facts and resolution -------------------------------------------------------------------------


def describe_power(frame: pd.DataFrame, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (``household_power``, or ``household_power_sample`` for made-up readings),
        ``source`` (without secrets), ``digest`` (`frame_digest`), ``n_rows``, ``n_missing`` (rows
        without power), ``start`` and ``end`` (ISO 8601, first and last row), ``freq`` (ISO 8601
        duration of a row).
    """
    return {
        "name": "household_power_sample" if source == "sample" else "household_power",
        "source": redact(source),
        "digest": frame_digest(frame),
        "n_rows": len(frame),
        "n_missing": int(frame["power_kw"].isna().sum()),
        "start": frame.index[0].isoformat(),
        "end": frame.index[-1].isoformat(),
        "freq": grid_step(frame).isoformat(),
    }


def aggregate_power(
    frame: pd.DataFrame, resolution: str, *, max_missing: float = 0.25
) -> pd.DataFrame:
    """Aggregate a canonical frame to minutes, hours or days.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, 7)
        Canonical frame; its rows must divide the new ones.
    resolution : {"minute", "hour", "day"}
        Length of the new rows, which begin at whole minutes, hours or midnights.
    max_missing : float, in [0, 1)
        Largest fraction of a row's readings that may be missing. The rows before the first
        reading and after the last count as missing. Above it the row is NaN, not an estimate.

    Returns
    -------
    DataFrame of shape (n_new_rows, 7)
        Means of kW, kVAr, V and A. Wh are sums; where at most `max_missing` is missing the sum is
        scaled to the whole row, as if the rest went on like the readings, which is what the mean
        of kW takes for granted too.

    Raises
    ------
    ValueError
        When the rows are longer than `resolution`, or do not divide it.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"resolution is {resolution!r}: give one of {', '.join(RESOLUTIONS)}")
    if not 0 <= max_missing < 1:
        raise ValueError(f"max_missing is {max_missing}: give a fraction in [0, 1)")
    step, length = grid_step(frame) // pd.Timedelta("1us"), RESOLUTIONS[resolution]
    if length % step:
        raise ValueError(
            f"rows of {pd.Timedelta(step, 'us')} cannot be made into rows of one {resolution}: "
            "readings are summed up, never split. Give a coarser resolution"
        )
    n_per_row = length // step
    begin = int(_microseconds(frame)[0])
    first = begin // length
    n_before = (begin - first * length) // step
    n_rows = -(-(n_before + len(frame)) // n_per_row)
    readings = np.full((n_rows * n_per_row, frame.shape[1]), np.nan)
    readings[n_before : n_before + len(frame)] = frame.to_numpy()
    readings = readings.reshape(n_rows, n_per_row, frame.shape[1])
    known = ~np.isnan(readings)
    count = known.sum(axis=1)
    mean = np.where(known, readings, 0).sum(axis=1) / np.maximum(count, 1)
    is_energy = np.array([column in ENERGY for column in frame.columns])
    values = np.where(is_energy, mean * n_per_row, mean)
    values[n_per_row - count > max_missing * n_per_row] = np.nan
    ts = (length * (first + np.arange(n_rows))).view(TIME_TYPE)
    return pd.DataFrame(values, pd.DatetimeIndex(ts, name=frame.index.name), frame.columns)
