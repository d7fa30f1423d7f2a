"""Household power readings as one canonical frame: what it is, its checks, its resolutions.

The index ``ts`` is naive local clock time in microseconds, the start of each interval, sorted,
unique and regular; the seven float columns are in `COLUMNS`. A time without a reading is a row of
NaN: nothing is filled, dropped or guessed, and what breaks a rule is an error that names the file,
the line, the value and the rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lib.dialect import Column
from lib.frames import frame_digest, grid_step
from lib.power.columns import COLUMNS, METERS
from lib.power.source import AS_IT_IS, Source, as_written, hours_of, such_rows
from lib.power.times import EARLIEST, LATEST, autumn_hint
from lib.sources import described

import numpy as np
import pandas as pd

RESOLUTIONS = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
TIME_TYPE = "datetime64[us]"

N_RISING = 10
"""Readings of a house that are not in rising order."""
SMALLER = {"": "W", "kW": "W", "kWh": "Wh"}
"""The unit that a power may have instead, which is too large in the one given."""

POWER_KW = (0.0, 100.0)
"""Limits of a house that does not feed in.

100 kW is well above the largest household connection (36 kVA in France) and below the power of one
kettle given in watts by mistake.
"""


def limits(
    step_us: int, power_kw: tuple[float, float] = POWER_KW
) -> dict[str, tuple[float, float]]:
    """Return inclusive limits of every column.

    Households are on low voltage, which IEC 60038 ends at 1000 V. 400 A is 100 kW at 250 V.
    Reactive power is signed on some meters. The sub-meters may show no more than the largest power
    for the length of one row.

    Parameters
    ----------
    step_us : int
        Length of a row in microseconds.
    power_kw : tuple of float
        Least and largest power of the house.
    """
    most = max(map(abs, power_kw))
    most_wh = 1000 * most * step_us / RESOLUTIONS["hour"]
    return {
        "power_kw": power_kw,
        "reactive_power_kvar": (-most, most),
        "voltage_v": (0.0, 1000.0),
        "current_a": (0.0, 4 * most),
    } | dict.fromkeys(METERS, (0.0, most_wh))


@dataclass(frozen=True)
class Part:
    """What one file or query held, in its own order, and how to name a row of it."""

    name: str
    frame: pd.DataFrame  # in the canonical shape, not yet checked, energy by the row still energy
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


def join(
    parts: Sequence[Part],
    power_kw: tuple[float, float] = POWER_KW,
    bin_s: int = 0,
    written: Source = AS_IT_IS,
) -> pd.DataFrame:
    """Put the parts in order of time, check every row and lay all on one regular grid.

    Readings at no fixed times become their means over `bin_s` seconds, where that is not 0. What is
    energy by the row becomes power as `written` says, see `lib.power.source.hours_of`.
    """
    parts = sorted(parts, key=lambda part: part.frame.index[0])
    frame = pd.concat([part.frame for part in parts]) if len(parts) > 1 else parts[0].frame
    ends = np.cumsum([len(part.frame) for part in parts])

    def place(position: int) -> str:
        k = int(np.searchsorted(ends, position, side="right"))
        return parts[k].place(position - int(ends[k] - len(parts[k].frame)))

    ts = _microseconds(frame)
    _require_rising(frame.index, ts, place, equal=bool(bin_s))
    step = bin_s * 1_000_000 or _step(frame.index, ts, place)
    hours = hours_of(written)
    frame = with_hours(frame, step, hours) if hours else frame
    _check_limits(frame, limits(step, power_kw), place, written, step)
    if bin_s:
        frame = _binned(frame, ts, step)
        ts = _microseconds(frame)
    n_grid = int((ts[-1] - ts[0]) // step) + 1
    if n_grid > 20 * len(ts):
        gap = int(np.argmax(np.diff(ts)))
        where = parts[0].name if bin_s else place(gap + 1)
        raise ValueError(
            f"{where}: {frame.index[gap + 1]} follows {frame.index[gap]}, and the gaps "
            f"together are {n_grid - len(ts):,} rows beside {len(ts):,} readings: is a date "
            "wrong? Read the stretches apart if not"
        )
    if n_grid == len(ts):
        return frame
    grid = (ts[0] + step * np.arange(n_grid)).view(TIME_TYPE)
    return frame.reindex(pd.DatetimeIndex(grid, name="ts"))


def with_hours(frame: pd.DataFrame, step_us: int, hours: Mapping[str, int]) -> pd.DataFrame:
    """Return `frame` with some columns multiplied with the hours of a row, to the power given."""
    length = step_us / RESOLUTIONS["hour"]
    return frame.assign(**{column: frame[column] * length**n for column, n in hours.items()})


# Checks ---------------------------------------------------------------------------------------


def check_power(frame: pd.DataFrame, power_kw: tuple[float, float] = POWER_KW) -> pd.DataFrame:
    """Return `frame` if it is a canonical power frame; name the rows that break a rule if not.

    Seven float64 columns in the order of `COLUMNS`, each within `limits` or missing; the index
    ``ts`` is datetime64[us], strictly increasing and regular: a time without a reading is a row of
    NaN. What a house does not measure is a column of NaN.

    Raises
    ------
    ValueError
        Names what is wrong with times or columns, or every limit that is broken with its first
        rows: time, value and how many there are.
    """
    wanted = {"ts": TIME_TYPE} | dict.fromkeys(COLUMNS, "float64")
    found = {frame.index.name: str(frame.index.dtype)} | frame.dtypes.astype(str).to_dict()
    if list(found.items()) != list(wanted.items()):
        raise ValueError(f"the index and the columns must be {wanted}, in this order, not {found}")
    n_absent = len(join([Part("the frame", frame)], power_kw)) - len(frame)
    if n_absent:
        raise ValueError(f"a time without a reading must be a row of NaN: {n_absent:,} are absent")
    return frame


def _require_rising(
    index: pd.DatetimeIndex, ts: np.ndarray, place: Callable[[int], str], *, equal: bool
) -> None:
    """Refuse times that do not rise, or, where readings are binned, that fall."""
    odd = np.flatnonzero((index.year < EARLIEST.year) | (index.year > LATEST.year))
    if len(odd):
        raise ValueError(
            f"{place(odd[0])}: the time is of the year {index[odd[0]].year}, and readings are of "
            f"{EARLIEST.year} to {LATEST.year}: correct or remove it"
        )
    if len(ts) < 2:
        raise ValueError(f"{place(0)}: one reading alone has no resolution; give two or more")
    back = 1 + np.flatnonzero(np.diff(ts) < (0 if equal else 1))
    if len(back):
        raise ValueError(
            f"{place(back[0])}: {index[back[0]]} follows {index[back[0] - 1]}"
            f"{such_rows(len(back))}: times must rise, and files that are read together must not "
            "overlap: put the rows in order, leave out what is twice, or of several meters "
            f"all but one{autumn_hint(ts, back[0])}"
        )


def _binned(frame: pd.DataFrame, ts: np.ndarray, step: int) -> pd.DataFrame:
    """Return means of kW, kVAr, V and A, and sums of Wh, over rows of one length.

    A row with less than half as many readings as is usual is missing.
    """
    groups = frame.groupby(ts // step)
    values, counts = groups.mean(), groups.size()
    values[list(METERS)] = groups[list(METERS)].sum(min_count=1)
    values[counts < 0.5 * counts.median()] = np.nan
    return canonical((values.index.to_numpy() * step).view(TIME_TYPE), values.to_numpy().T)


def _step(index: pd.DatetimeIndex, ts: np.ndarray, place: Callable[[int], str]) -> int:
    """Return the length of a row in microseconds; times must be whole rows apart."""
    steps = np.diff(ts)
    step = int(steps[0])
    if (steps == step).all():
        return step
    step = int(pd.Series(steps).mode()[0])
    off = np.flatnonzero((ts - ts[0]) % step)
    if len(off):
        raise ValueError(
            f"{place(int(off[0]))}: {index[off[0]]} is off the grid: rows are "
            f"{pd.Timedelta(step, 'us')} apart from {index[0]} on{such_rows(len(off))}. "
            "Give readings of one resolution, or, of readings at no fixed times, the means of "
            "so many seconds, as bin_s=60"
        )
    return step


def _check_limits(
    frame: pd.DataFrame,
    wanted: dict[str, tuple[float, float]],
    place: Callable[[int], str],
    written: Source,
    step_us: int,
) -> None:
    """Raise one error that names every limit that is broken, with its first three rows."""
    broken = []
    for column, (low, high) in wanted.items():
        values = frame[column].to_numpy()
        rows = np.flatnonzero((values < low) | (values > high))
        if len(rows):
            where = [f"{place(row)}: {frame.index[row]} has {values[row]:g}" for row in rows[:3]]
            ways = "; or ".join(_ways_out(column, values[rows], written, step_us))
            broken.append(
                f"{column} must be from {low:g} to {high:g}, and is not{such_rows(len(rows))}: "
                f"{'; '.join(where)}. {ways[0].upper()}{ways[1:]}"
            )
    if broken:
        raise ValueError("; ".join(broken))


def _ways_out(column: str, values: np.ndarray, written: Source, step_us: int) -> list[str]:
    """Return which parameters help with values beyond the limits, the likeliest first."""
    number = as_written(values[0], column, written, step_us / RESOLUTIONS["hour"])
    absent = f'for a number that stands for a missing value give layout=["missing={number:.10g}"]'
    if column != "power_kw":
        ways = [f'for a column of another meaning give columns=["{column}="]']
    elif values[0] < 0:
        ways = ["for a house that feeds in give min_power_kw=-20, or what it may be"]
    else:
        given = written.columns.get(column, Column(("<name>",)))
        if "h" in given.unit and len(values) > N_RISING and (np.diff(values) >= 0).all():
            return ["of a meter that counts up, as these never fall, give the differences"]
        ways = ["of a meter that counts up give the differences"]
        if np.isfinite(most := values.max()):
            ways.insert(0, f"for a larger connection give max_power_kw={np.ceil(most):.0f}")
        if given.unit in SMALLER:
            other = f"{given.names[0]} [{SMALLER[given.unit]}]"
            ways.insert(0, f'for another unit give columns=["power_kw={other}"]')
    return [absent, *ways] if (values == values[0]).all() else [*ways, absent]


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
        duration of a row); and where the rows of the source are, as ``rows_read``, ``rows_kept``
        …, where `load_power` has counted them.
    """
    rows = {f"rows_{name}": n_rows for name, n_rows in frame.attrs.get("rows", {}).items()}
    return {
        **rows,
        **described("household_power", source, frame_digest(frame), len(frame)),
        "n_missing": int(frame["power_kw"].isna().sum()),
        "start": frame.index[0].isoformat(),
        "end": frame.index[-1].isoformat(),
        "freq": grid_step(frame).isoformat(),
    }


def count_rows(parts: Sequence[Part], frame: pd.DataFrame) -> dict[str, int]:
    """Return where the rows of `parts` are in the `frame` that was made of them; they add up.

    Returns
    -------
    dict
        ``read``, and of these ``without_power``, with power but in a row of the frame with
        ``too_few_readings``, and ``kept``.
    """
    ts = np.concatenate([_microseconds(part.frame) for part in parts])
    has_power = np.concatenate([part.frame["power_kw"].notna() for part in parts])
    into = (ts[has_power] - _microseconds(frame)[0]) // (grid_step(frame) // pd.Timedelta("1us"))
    n_kept = int(frame["power_kw"].notna().to_numpy()[into].sum())
    n_power = int(has_power.sum())
    return {
        "read": len(ts),
        "without_power": len(ts) - n_power,
        "too_few_readings": n_power - n_kept,
        "kept": n_kept,
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
        When the rows are longer than `resolution`, do not divide it, or go across the beginning of
        a new one.
    """
    step, length = grid_step(frame) // pd.Timedelta("1us"), RESOLUTIONS[resolution]
    if length % step:
        raise ValueError(
            f"rows of {pd.Timedelta(step, 'us')} cannot be made into rows of one {resolution}: "
            'readings are summed up, never split. Give resolution="native", or a coarser one'
        )
    n_per_row = length // step
    first, before = divmod(int(_microseconds(frame)[0]), length)
    if before % step:
        raise ValueError(
            f"rows of {pd.Timedelta(step, 'us')} from {frame.index[0]} on go across the beginning "
            f"of a {resolution}, and cannot be parted there. Give finer readings, or "
            f'resolution="native"; or bin_s={max(1, step // 1_000_000)}, if they may move by less '
            "than a row"
        )
    n_before = before // step
    n_rows = -(-(n_before + len(frame)) // n_per_row)
    readings = np.full((n_rows * n_per_row, frame.shape[1]), np.nan)
    readings[n_before : n_before + len(frame)] = frame.to_numpy()
    readings = readings.reshape(n_rows, n_per_row, frame.shape[1])
    count = (~np.isnan(readings)).sum(axis=1)
    mean = np.nansum(readings, axis=1) / np.maximum(count, 1)
    values = np.where([column in METERS for column in frame.columns], mean * n_per_row, mean)
    values[n_per_row - count > max_missing * n_per_row] = np.nan
    return canonical((length * (first + np.arange(n_rows))).view(TIME_TYPE), values.T)
