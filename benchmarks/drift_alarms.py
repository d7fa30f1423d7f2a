"""Count the alarms of `lib.registry.drift` in data that are as in training, or not.

A made-up house is watched week by week and a made-up stock day by day, for two years and for a
hundred days after the training data. Undisturbed, every alarm is a false one; then the same weeks
and days are disturbed, each in one way. Beside it stands what the usual thresholds would have done:
a stability index above 0.2, or a Kolmogorov-Smirnov test of independent rows at 5 %, corrected for
the number of columns. The margin of `lib.registry.drift` was chosen on the houses 11, 12 and 13.

Exit code 1 if more than 5 of 100 undisturbed weeks of any house raise an alarm.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping

from lib.power.features import measured
from lib.power.frame import aggregate_power
from lib.power.sample import sample_power
from lib.power.watched import power_columns
from lib.registry import drift
from lib.tick.bars import to_bars
from lib.tick.sample import sample_days
from lib.tick.watched import bar_columns

import numpy as np
import pandas as pd
from scipy.stats import kstwobign

N = 100  # weeks, or days
YEAR, WEEK = 365 * 24, 7 * 24
TRAINING_DAYS = 30
TICKS = 20_000
POOR_PSI, LEVEL = 0.2, 0.05
MOST_FALSE = 5

Disturb = Callable[[pd.DataFrame], pd.DataFrame]


def scaled(factor: float, *columns: str) -> Disturb:
    """Return what multiplies some columns."""
    return lambda rows: rows.assign(**{name: factor * rows[name] for name in columns})


def stuck(column: str) -> Disturb:
    """Return what keeps a column at its first value."""
    return lambda rows: rows.assign(**{column: rows[column].bfill().iloc[0]})


def as_it_is(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows."""
    return rows


def frozen_prices(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose price does not move in the second half of the day."""
    bars = bars.copy()
    half = len(bars) // 2
    price = bars["close"].iloc[half]
    bars.iloc[half:, bars.columns.get_indexer(["open", "high", "low", "close"])] = price
    return bars


def wider(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose every move is half as large again."""
    prices = ["open", "high", "low", "close"]
    first = bars["close"].iloc[0]
    return bars.assign(**{name: first * (bars[name] / first) ** 1.5 for name in prices})


HOUSE: dict[str, Disturb] = {
    "undisturbed": as_it_is,
    "voltage + 1 %": scaled(1.01, "voltage_v"),
    "voltage + 3 %": scaled(1.03, "voltage_v"),
    "voltage stuck": stuck("voltage_v"),
    "power in W": scaled(1000, "power_kw"),
    "power stuck": stuck("power_kw"),
    "sub-meter 1 x 1.5": scaled(1.5, "sub_metering_1_wh"),
    "sub-meter 2 x 1.5": scaled(1.5, "sub_metering_2_wh"),
    "sub-meter 3 x 1.5": scaled(1.5, "sub_metering_3_wh"),
    "sub-meter 3 stuck": stuck("sub_metering_3_wh"),
    "all use x 1.5": scaled(1.5, "power_kw", "current_a"),
}
STOCK: dict[str, Disturb] = {
    "undisturbed": as_it_is,
    "volume x 1.5": scaled(1.5, "volume", "signed_volume"),
    "volume in lots": scaled(0.01, "volume", "signed_volume"),
    "half the trades": scaled(0.5, "volume", "signed_volume", "count"),
    "moves x 1.5": wider,
    "prices stuck": frozen_prices,
}


def main() -> int:
    """Run the comparison, print the tables and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--houses", type=int, nargs="*", default=[0, 1, 2, 3], help="seeds")
    parser.add_argument("--stock", type=int, default=0, help="seed")
    asked = parser.parse_args()
    most = 0
    print(f"{N} weeks by the hour after a year of training; alarms, and which distances gave them")
    for house in asked.houses:
        kinds = HOUSE if house == asked.houses[0] else {"undisturbed": as_it_is}
        counts = count(*_house(house), kinds, lambda rows: power_columns(measured(rows)))
        most = max(most, counts.loc["undisturbed", "alarms"])
        print(f"\nhouse {house}\n{counts.to_string()}", flush=True)
    counts = count(*_stock(asked.stock), STOCK, bar_columns)
    print(f"\n{N} days of bars of 5 s after {TRAINING_DAYS} days of training\n{counts.to_string()}")
    return int(most > MOST_FALSE)


def count(
    profile: Mapping,
    stretches: Iterable[pd.DataFrame],
    kinds: Mapping[str, Disturb],
    columns: Disturb,
) -> pd.DataFrame:
    """Return how many stretches raise an alarm, by how they were disturbed."""
    stretches = list(stretches)
    rows = {}
    for name, disturb in kinds.items():
        measured = [drift.measure(profile, columns(disturb(rows))) for rows in stretches]
        row = {"alarms": sum(bool(found["drifted"].any()) for found in measured)}
        for kind in drift.DISTANCES:
            row[kind] = sum(bool((m[kind] > m[f"{kind}_threshold"]).any()) for m in measured)
        row["usual"] = sum(usual_alarm(profile, found) for found in measured)
        rows[name] = row
    return pd.DataFrame(rows).T


def usual_alarm(profile: Mapping, found: pd.DataFrame) -> bool:
    """Say whether the usual thresholds would raise an alarm."""
    n = profile["window_rows"] * (1 - found["missing"].to_numpy())
    effective = np.sqrt(n * profile["n_rows"] / (n + profile["n_rows"]))
    p_values = kstwobign.sf(effective * found["ks"].to_numpy())
    return bool((found["psi"] > POOR_PSI).any() or (p_values < LEVEL / len(found)).any())


def _house(seed: int) -> tuple[dict, list[pd.DataFrame]]:
    raw = aggregate_power(sample_power(365 + 7 * N, seed=seed), "hour")
    learned = power_columns(measured(raw.iloc[:YEAR]))
    weeks = [raw.iloc[YEAR + WEEK * k : YEAR + WEEK * (k + 1)] for k in range(N)]
    return drift.profile(learned, WEEK), weeks


def _stock(seed: int) -> tuple[dict, list[pd.DataFrame]]:
    bars = to_bars(sample_days(TRAINING_DAYS + N, n_ticks=TICKS, seed=seed), kind="time", size=5)
    days = [day for _, day in bars.groupby("day")]
    learned = pd.concat(days[:TRAINING_DAYS])
    rows = int(learned.groupby("day").size().median())
    return drift.profile(bar_columns(learned), rows), days[TRAINING_DAYS:]


if __name__ == "__main__":
    sys.exit(main())
