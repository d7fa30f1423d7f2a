"""How a house's readings are written: which column is which, in which unit, and of which zone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.dialect import (
    EPOCHS,
    MISSING,
    Column,
    Layout,
    read_columns,
    read_layout,
    shown,
    to_zone,
)
from lib.power.columns import COLUMNS

import numpy as np
import pandas as pd

TIME = "timestamp"
WHOLE_TIMES = ("datetime", "ts", TIME)
CLOCKS = (*WHOLE_TIMES, "time", "date")
ALIASES = {name.lower(): column for column, name in COLUMNS.items()}
ABSENT = [word for one in MISSING for word in dict.fromkeys((one, one.lower(), one.title()))]
ABSENT += ["NaN", "?", "unavailable", "unknown"]
ENERGY = {"Wh": (1, 1, 0), "kWh": (1000, 1, 0), "W": (1, 1, 1), "kW": (1000, 1, 1)}
UNITS: dict[str, dict[str, tuple[int, int, int]]] = {
    "power_kw": {"kW": (1, 1, 0), "W": (1, 1000, 0), "kWh": (1, 1, -1), "Wh": (1, 1000, -1)},
    "reactive_power_kvar": {"kVAr": (1, 1, 0), "VAr": (1, 1000, 0)},
    "voltage_v": {"V": (1, 1, 0)},
    "current_a": {"A": (1, 1, 0), "mA": (1, 1000, 0)},
    **{column: ENERGY for column in COLUMNS if column.endswith("_wh")},
}
"""What makes a unit the standard one: times, divided by, times the hours of a row to the power of.

Wh and kWh of a power are energy by the row, W and kW of a sub-meter its mean power.
"""


@dataclass(frozen=True)
class Source:
    """How readings are written; without entries what can be told from them."""

    columns: Mapping[str, Column] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    time_zone: str = ""

    @property
    def missing(self) -> list[str]:
        """Words that stand for a missing value."""
        return [*ABSENT, *self.layout.missing]


AS_IT_IS = Source()


def describe_source(columns: Sequence[str], layout: Sequence[str], time_zone: str) -> Source:
    """Return what the parameters of the notebook say of a source.

    Raises
    ------
    ValueError
        If an entry has another form, or there is no such format of times or zone.
    """
    found = read_columns(columns, [*COLUMNS, TIME], UNITS, (TIME, "power_kw"))
    for name, column in found.items():
        if column.values:
            raise ValueError(
                f"columns has {name}.{next(iter(column.values))}=: numbers of power are read as "
                'they are; for what stands for a missing value give layout=["missing=..."]'
            )
    written = read_layout(layout)
    try:
        if written.time and written.time not in EPOCHS:
            pd.to_datetime(pd.Series(["x"]), format=written.time, errors="coerce")
    except ValueError as error:
        raise ValueError(
            f"layout has 'time={written.time}': {error}; give one as %d.%m.%Y %H:%M:%S"
        ) from None
    if time_zone:
        to_zone("time_zone", time_zone)
    return Source(found, written, time_zone)


def columns_of(
    names: list[str], name: str, source: Source, said: str = ""
) -> tuple[list[int], dict[str, int]]:
    """Return the positions of the time column, or of date and time, and of each value there is.

    Without entries in `columns` a source must have all seven: one that has other names would else
    be read without them.
    """
    found = f"found {shown(names)}{said}"
    lower = [n.strip().lower() for n in names]

    def place(column: str, theirs: str) -> int:
        """Return where `theirs` is, written the same, or with its unit, or in another case."""
        whole = f"{theirs} [{source.columns[column].unit}]"
        for wanted in (theirs, whole):
            for written, sought in ((names, wanted), (lower, wanted.lower())):
                if written.count(sought) == 1:
                    return written.index(sought)
        way = (
            "Give its name as it stands there, remove what stands before the header, or leave out "
        )
        way += "a file that is no table"
        n_there = lower.count(theirs.lower())
        way, there = ("Rename one of them", f"{n_there} times") if n_there else (way, "not")
        raise ValueError(
            f"columns has {column}={theirs}, which is {there} in {name}; {found}. {way}; or give "
            'the names of all, as layout=["names=..."]'
        )

    given = {c: [place(c, n) for n in one.names] for c, one in source.columns.items()}
    for column, one in source.columns.items():
        unit = unit_told("".join(one.names), column)
        if unit and not one.unit and UNITS[column][unit] != (1, 1, 0):
            theirs = f"{column}={one.names[0]}"
            raise ValueError(
                f"columns has {theirs} without its unit, and its name says {unit}: give "
                f'columns=["{theirs} [{unit}]"]; or, if it is not, [{next(iter(UNITS[column]))}]'
            )
    taken = {position for places in given.values() for position in places}
    free = ["" if k in taken else ALIASES.get(n, n) for k, n in enumerate(lower)]
    if TIME not in given and not clock_of(free) and lower[:1] == [""] and 0 not in taken:
        free[0] = "ts"  # the index of a frame that was written without its name
    clock = [] if TIME in given else clock_of(free)
    if TIME not in given and not clock:
        raise ValueError(
            f"{name} has no time: it needs the columns Date and Time (d/m/yyyy, hh:mm:ss) or one "
            f'column datetime; {found}. Give columns=["timestamp=..."] with its name; or where '
            'the first line is no header give layout=["names=timestamp,power_kw"]'
        )
    absent = [column for column in COLUMNS if column not in {*given, *free}]
    is_described = source.columns or source.layout.names
    if absent and (not is_described or "power_kw" in absent):
        missing = ", ".join(f"{COLUMNS[column]} ({column})" for column in absent)
        others = [n for n, ours in zip(names, free, strict=True) if ours not in (*clock, *COLUMNS)]
        raise ValueError(f"{name} has no column {missing}; {found}. {_way_out(absent, others)}")
    ours = [c for c in COLUMNS if c not in given and c not in absent]
    if len(clock) == 1 and len({*free} & {*WHOLE_TIMES}) > 1:
        both = shown([n for n, k in zip(names, free, strict=True) if k in WHOLE_TIMES])
        raise ValueError(f'{name} has times in {both}: give columns=["timestamp=..."] with one')
    for column in (*clock, *ours):
        if free.count(column) > 1:
            twice = [n for n, k in zip(names, free, strict=True) if k == column]
            raise ValueError(f"{name} has {column} more than once: {shown(twice)}")
    places = {column: free.index(column) for column in ours}
    places |= {column: at[0] for column, at in given.items() if column != TIME and at}
    times = given.get(TIME) or [free.index(c) for c in clock]
    used = [*times, *places.values()]
    twice = [names[k] for k in used if used.count(k) > 1]
    if twice:
        raise ValueError(f"columns takes {twice[0]!r} of {name} for two things: give one of them")
    return times, places


def clock_of(names: Sequence[str]) -> list[str]:
    """Return which of the standard names make the time: date and time, or one of them, or none."""
    if {"date", "time"} <= {*names}:
        return ["date", "time"]
    return [c for c in CLOCKS if c in names][:1]


def _way_out(absent: list[str], others: list[str]) -> str:
    """Return what to give for columns that have other names or are not there."""
    if "power_kw" in absent:
        likely = [name for name in others if unit_told(name, "power_kw")] or others
        name = likely[0] if len(likely) == 1 else "<name>"
        unit, name = unit_told(name, "power_kw") or "kW", re.sub(r"\s*\[[^]]*]$", "", name)
        return (
            f'Give columns=["power_kw={name} [{unit}]"] with its name and unit, one of '
            f"{', '.join(UNITS['power_kw'])} (the last two of energy by the row), and others "
            "alike; what is then not found counts as not measured"
        )
    entries = ", ".join(f'"{column}="' for column in absent)
    return f"Give columns=[{entries}], with the name after = where it has another one"


def unit_of(column: str, source: Source) -> tuple[int, int, int]:
    """Return what makes a column's unit the standard one, see `UNITS`."""
    unit = source.columns[column].unit if column in source.columns else ""
    return UNITS[column][unit] if unit else (1, 1, 0)


def unit_told(name: str, column: str) -> str:
    """Return the unit of a column that its name in the source has in it; "" for none, or two.

    Examples
    --------
    >>> unit_told("Usage (kWh)", "power_kw"), unit_told("Usage", "power_kw")
    ('kWh', '')
    """
    known = {unit.lower(): unit for unit in UNITS.get(column, ())}
    known |= {f"{word}att": unit for word, unit in known.items() if word in ("w", "kw")}
    words = (word.removesuffix("s") for word in re.findall(r"[a-z]+", name.lower()))
    found = {known[word] for word in words if word in known}
    return found.pop() if len(found) == 1 else ""


def to_standard(values: np.ndarray, column: str, source: Source) -> np.ndarray:
    """Return the values of a column in its standard unit, but for the hours of a row."""
    times, divisor, _ = unit_of(column, source)
    return values if (times, divisor) == (1, 1) else values * times / divisor


def as_written(value: float, column: str, source: Source, hours: float) -> float:
    """Return the number that a value in the standard unit has in the source, of rows so long."""
    times, divisor, power = unit_of(column, source)
    return value / hours**power * divisor / times


def hours_of(source: Source) -> dict[str, int]:
    """Return the columns that are still to be multiplied with the hours of a row, to which power.

    How long a row is shows once all rows are in order of time, see `lib.power.frame.join`.
    """
    powers = {c: unit_of(c, source)[2] for c in source.columns if c in UNITS}
    return {column: power for column, power in powers.items() if power}


def such_rows(n_rows: int) -> str:
    """Return how often something is wrong, where that is more than once."""
    return f" ({n_rows:,} such rows)" if n_rows > 1 else ""
