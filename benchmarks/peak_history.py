"""Say how many days of a house, and how large leaves, a forecast of tomorrow's peak needs.

The forest of the lakehouse pipeline learns from so many days and answers for the 54 that follow,
then again 54 days later, up to the end. Days before `--start`, of which the reference run is, are
left out. The table shows its RMSE over that of the mean of the last week on the same days, with
the ends of 95 % of a bootstrap over weeks, to the standard output and, with `--output`, to a file.
"""

import argparse
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lib.ground.files import ROOT
from lib.ground.parameters import read_parameters
from lib.lakehouse.peaks import LEVEL, PEAK, hours_by_day, is_whole, peak_features, peaks
from lib.metrics import bootstrap_intervals
from lib.power.load import load_power

import pandas as pd
from sklearn.ensemble import RandomForestRegressor

N_TEST, DAYS, LEAVES = 54, (136, 365), (5, 10, 20, 40)


def ratio(x: pd.DataFrame, y: pd.Series, n_days: int, leaf: int) -> tuple[float, float, float, int]:
    """Return the ratio of errors, its interval, and the number of days it is of."""
    values = read_parameters(ROOT / "notebooks" / "lakehouse" / "05_train.ipynb")
    given = {"n_estimators": "n_trees", "max_features": "max_features"}
    given = {option: values[name].default for option, name in given.items()}
    parts = []
    for start in range(max(DAYS) + 1, len(x) - N_TEST + 1, N_TEST):  # for all the same days
        past, coming = slice(start - n_days - 1, start - 1), slice(start, start + N_TEST)
        forest = RandomForestRegressor(min_samples_leaf=leaf, random_state=0, n_jobs=1, **given)
        forest.fit(x[past], (y - x[LEVEL])[past])
        parts.append(pd.Series(forest.predict(x[coming]), x.index[coming]) + x[LEVEL][coming])
    made = pd.concat(parts)
    truth, level = y[made.index].to_numpy(), x[LEVEL][made.index].to_numpy()
    ends = bootstrap_intervals(truth, made.to_numpy(), {"level": level}, block_length=7, seed=0)
    error, of_level = ((made.to_numpy() - truth) ** 2).mean(), ((level - truth) ** 2).mean()
    return (error / of_level) ** 0.5, *ends["rmse_vs_level"], len(made)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="power/household_power_hourly.csv.gz")
    parser.add_argument("--start", default="2007-07-01", help="the first day (%(default)s)")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args()
    hours = load_power(options.source, resolution="hour").loc[options.start :]
    table = hours_by_day(hours["power_kw"].where(hours["voltage_v"] > 0))
    features, target = peak_features(table), peaks(table)[PEAK].shift(-1)
    rows = is_whole(features) & target.notna()
    lines = [
        f"peaks of the next day, {options.source} from {options.start} on, {datetime.now(UTC):%F}",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, scikit-learn "
        f"{version('scikit-learn')}; RMSE over that of the mean of the last week, and its interval",
        "",
        f"{'days to learn from':>18}  {'days in a leaf':>14}  {'ratio':>6}  {'low':>6}  {'high':>6}"
        f"  {'days judged':>11}",
    ]
    print("\n".join(lines))
    for n_days in DAYS:
        for leaf in LEAVES:
            found, low, high, n = ratio(features[rows], target[rows], n_days, leaf)
            ends = f"{found:6.3f}  {low:6.3f}  {high:6.3f}"
            lines.append(f"{n_days:18}  {leaf:14}  {ends}  {n:11}")
            print(lines[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
