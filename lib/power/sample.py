"""A made-up house."""

from lib.power.columns import COLUMNS
from lib.power.frame import RESOLUTIONS, canonical

import numpy as np
import pandas as pd

Numbers = np.ndarray | pd.Series


def sample_power(
    n_days: int = 430, *, start: str = "2007-01-01", seed: int = 0, gaps: bool = True
) -> pd.DataFrame:
    """Make up the readings of a house, minute by minute, as UCI's meter would have shown them.

    People get up, leave, come home and go to bed at times that differ by day, weekend and
    holiday, and are away for some weeks of the year. With them come lights, small appliances,
    cooking (sub-meter 1), washing and drying (2) and hot water (3); without them the refrigerator
    (2) and stand-by go on. Electric heaters follow a temperature that has seasons and spells of
    weather. Voltage sags under load and wanders; current is apparent power over voltage. Values
    are rounded as the meter rounds them: 2 W, 2 var, 10 mV, 0.2 A, 1 Wh.

    Parameters
    ----------
    n_days : int
        Length in days of 1,440 minutes, at least 2.
    start : str
        First minute, ISO 8601, local clock time.
    seed : int
        Everything random; the same seed gives the same frame.
    gaps : bool
        Whether about one per cent of the rows are missing, in stretches of minutes to days.

    Returns
    -------
    DataFrame of shape (1440 * n_days, 7)
        Canonical frame, see `load_power`.
    """
    if n_days < 2:
        raise ValueError(f"n_days is {n_days}: give two days or more")
    rng = np.random.default_rng(seed)
    begin = pd.Timestamp(start).to_datetime64().astype("datetime64[us]")
    ts = begin + RESOLUTIONS["minute"] * np.arange(1440 * n_days)
    days = _sample_days(begin, n_days, rng)
    at_home = _present(days)
    kitchen, laundry, water = (make(days, rng) for make in (_kitchen, _laundry, _hot_water))
    refrigerator = 110 * _cycling(np.full(len(ts), 0.34), 52, rng)
    heaters = _heaters(days, at_home, rng)
    small = _small_appliances(days, at_home, rng)
    power = 170 + kitchen + laundry + water + refrigerator + heaters + small
    power *= np.exp(0.05 * _wander(len(ts), 30, rng))
    reactive = np.abs(0.5 * refrigerator + 0.12 * laundry + 0.05 * small + 50)
    reactive *= np.exp(0.4 * _wander(len(ts), 20, rng))
    apparent = np.hypot(power, reactive)
    voltage = 242.0 - 0.8 * apparent / 1000
    voltage += 1.8 * _wander(len(ts), 240, rng) + 0.5 * _wander(len(ts), 2, rng)
    values = np.empty((len(COLUMNS), len(ts)))
    values[0] = np.round(power / 2) * 0.002
    values[1] = np.round(reactive / 2) * 0.002
    values[2] = np.round(voltage, 2)
    values[3] = np.round(apparent / voltage * 5) * 0.2
    for row, watt in zip(values[4:], (kitchen, laundry + refrigerator, water), strict=True):
        row[:] = np.diff(np.floor(np.cumsum(watt) / 60), prepend=0)
    values = np.round(values, 3)
    for first, length in _sample_gaps(n_days, rng) if gaps else ():
        values[:, first : first + length] = np.nan
    return canonical(ts, values)


def _sample_days(begin: np.datetime64, n_days: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return one row a day: who is at home from which minute to which, and how cold it is."""
    date_of = pd.DatetimeIndex(begin.astype("datetime64[D]") + np.arange(n_days))
    free = date_of.day_of_week.to_numpy() >= 5
    year = 2 * np.pi * (date_of.day_of_year.to_numpy() - 20) / 365.25
    weather = np.interp(np.arange(n_days), *_knots(n_days, 3.5, rng))
    away = np.zeros(n_days, dtype=bool)
    for month, chance, least, most in ((8, 1.0, 9, 17), (2, 0.5, 4, 8), (4, 0.5, 3, 6)):
        for first in np.flatnonzero((date_of.month == month) & (date_of.day == 4)):
            shift, length = rng.integers(0, 12), rng.integers(least, most)
            away[first + shift : first + shift + length] |= rng.random() < chance
    away |= rng.random(n_days) < 0.015
    home_day = (free & (rng.random(n_days) < 0.8)) | (rng.random(n_days) < 0.3)
    wake = np.where(free, rng.normal(525, 60, n_days), rng.normal(405, 30, n_days))
    leave = np.where(home_day, 1440, rng.normal(530, 40, n_days))
    back = np.where(home_day, 1440, rng.normal(1060, 80, n_days))
    sleep = np.where(free, rng.normal(1425, 35, n_days), rng.normal(1385, 25, n_days))
    minutes = {"wake": wake, "leave": leave, "back": back, "sleep": sleep}
    days = pd.DataFrame({name: values.astype(int) for name, values in minutes.items()})
    return days.assign(
        begin=1440 * np.arange(n_days),
        free=free,
        home_day=home_day,
        away=away,
        dark=0.5 + 0.5 * np.cos(year),
        celsius=11.5 - 8 * np.cos(year) + 3.2 * weather,
    )


def _present(days: pd.DataFrame) -> np.ndarray:
    """Return 1.0 for the minutes in which people are at home and awake, 0.0 for the others."""
    here = days[~days["away"]]
    morning = np.minimum(here["leave"], here["sleep"]) - here["wake"]
    evening = here["sleep"] - here["back"]
    at_home = _loads(len(days), here["begin"] + here["wake"], morning, np.ones(len(here)))
    at_home += _loads(
        len(days), here["begin"] + here["back"], evening.clip(lower=0), np.ones(len(here))
    )
    return np.minimum(at_home, 1)


def _kitchen(days: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return W of the oven at noon and in the evening and of the dishwasher after it."""
    noon = _chosen(days, 0.5 * days["home_day"], rng)
    evening = _chosen(days, 0.45, rng)
    washing = _chosen(days, 0.5, rng)
    total = _at(days, noon, 735, 40, (25, 70), (1300, 2200), rng)
    total += _at(days, evening, 1155, 60, (20, 70), (1300, 2200), rng)
    after = rng.normal(1240, 30, len(days)).astype(int)
    total += _at(days, washing, after, 0, (18, 26), (1900, 2100), rng)
    return total + _at(days, washing, after + 45, 0, (12, 18), (1900, 2100), rng)


def _laundry(days: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return W of the washing machine, heating and then turning, and of the drier after it."""
    washing = _chosen(days, np.where(days["free"], 0.8, 0.45), rng)
    drying = washing & (rng.random(len(days)) < 0.6)
    begin = np.where(
        days["home_day"], rng.normal(680, 150, len(days)), rng.normal(1130, 70, len(days))
    )
    begin = begin.astype(int)
    total = _at(days, washing, begin, 0, (16, 24), (1950, 2150), rng)
    total += _at(days, washing, begin + 24, 0, (40, 60), (150, 350), rng)
    return total + _at(days, drying, begin + 95, 0, (40, 80), (1800, 2300), rng)


def _hot_water(days: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return W of the water heater, which runs after people have washed."""
    morning = _chosen(days, 0.75, rng)
    evening = _chosen(days, 0.7, rng)
    total = _at(days, morning, days["wake"].to_numpy() + 40, 30, (30, 200), (1020, 1080), rng)
    return total + _at(days, evening, 1230, 100, (30, 180), (1020, 1080), rng)


def _heaters(days: pd.DataFrame, at_home: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return W of electric heaters that go on and off, longer the colder it is."""
    minute = np.arange(len(at_home))
    by_hour = -3 * np.cos(2 * np.pi * (minute / 1440 - 0.17))
    celsius = np.interp(minute, days["begin"] + 720, days["celsius"]) + by_hour
    comfort = np.where(np.repeat(days["away"], 1440), 0.15, 0.3 + 0.7 * at_home)
    comfort *= np.exp(0.5 * _wander(len(minute), 100, rng))
    share = np.clip((15 - celsius) / 17, 0, 1) * comfort
    return 1500 * _cycling(share, 24, rng)


def _small_appliances(
    days: pd.DataFrame, at_home: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return W of light and screens while people are up, and of kettles and the like."""
    minute = np.arange(len(at_home))
    of_day = minute % 1440
    sun = 2 + 2.5 * np.repeat(days["dark"], 1440).to_numpy()
    dark = 1 / (1 + np.exp(-(np.abs(of_day / 60 - 13) - 10.5 + sun) * 1.5))
    busy = np.exp(0.7 * _wander(len(minute), 70, rng))
    light = at_home * (190 + 330 * dark + 90 * (of_day > 1140)) * busy
    n_short = int(rng.poisson(at_home.sum() * 1.3 / 60))
    begin = np.flatnonzero(at_home)[np.sort(rng.integers(0, int(at_home.sum()), n_short))]
    short = _loads(len(days), begin, rng.integers(2, 9, n_short), rng.uniform(700, 2200, n_short))
    return light + short


def _chosen(days: pd.DataFrame, chance: float | Numbers, rng: np.random.Generator) -> np.ndarray:
    """Draw the days on which something happens; nothing does while people are away."""
    return (rng.random(len(days)) < chance) & ~days["away"].to_numpy()


def _at(
    days: pd.DataFrame,
    chosen: np.ndarray,
    minute: int | np.ndarray,
    spread: float,
    lengths: tuple[int, int],
    watts: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return W of one appliance used on the `chosen` days, about `minute` of the day."""
    n_days = len(days)
    begin = days["begin"] + minute + np.round(rng.normal(0, 1, n_days) * spread).astype(int)
    length, watt = rng.integers(*lengths, n_days), rng.uniform(*watts, n_days)
    return _loads(n_days, begin[chosen], length[chosen], watt[chosen])


def _loads(n_days: int, begin: Numbers, length: Numbers, watt: Numbers) -> np.ndarray:
    """Add up loads of `watt` that last `length` minutes from minute `begin`."""
    n_minutes = 1440 * n_days
    begin = np.clip(np.asarray(begin), 0, n_minutes)
    end = np.clip(begin + np.asarray(length), 0, n_minutes)
    steps = np.bincount(begin, watt, n_minutes + 1) - np.bincount(end, watt, n_minutes + 1)
    return np.maximum(np.cumsum(np.round(steps, 3))[:-1], 0.0)  # no loads give whole numbers


def _cycling(share: np.ndarray, minutes: float, rng: np.random.Generator) -> np.ndarray:
    """Return 1.0 while something that cycles in about `minutes` is on, for `share` of the time."""
    rate = np.exp(0.15 * _wander(len(share), 120, rng)) / minutes
    return ((np.cumsum(rate) % 1) < share).astype(float)


def _wander(n_minutes: int, minutes: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise around zero that forgets itself within about `minutes`."""
    return np.interp(np.arange(n_minutes), *_knots(n_minutes, minutes, rng))


def _knots(n: int, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    knots = spacing * np.arange(int(n / spacing) + 2)
    return knots, rng.normal(size=len(knots))


def _sample_gaps(n_days: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return first minute and length of the stretches without readings."""
    kinds = ((n_days // 200, 1200, 4300), (1 + n_days // 100, 60, 700), (2 + n_days // 15, 1, 4))
    lengths = np.concatenate([rng.integers(least, most, n) for n, least, most in kinds])
    first = rng.integers(0, 1440 * n_days - lengths)
    return list(zip(first.tolist(), lengths.tolist(), strict=True))
