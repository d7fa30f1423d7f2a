"""Whether the rows of a house are enough for what is asked of them, before anything is computed.

A feature that reaches back four weeks leaves out the first four weeks of the data; validation and
test take their share from the other end. What is left has to be enough to learn from, and where it
is not, a parameter can be lowered.
"""

import json
import math

from lib.power.features import PowerOptions, needed_rows, reaches, rows_per_day

import pandas as pd

MOST_VALID, MOST_TEST = 0.4, 0.5  # the ends of the domains of both fractions


def check_rows(
    index: pd.DatetimeIndex,
    options: PowerOptions,
    *,
    valid_fraction: float,
    test_fraction: float,
    min_rows: int,
) -> None:
    """Refuse data that are too short for the options, and say which of them to lower.

    Parameters
    ----------
    index : pandas.DatetimeIndex of shape (n,)
        Times of the rows, on a regular grid.
    options : PowerOptions
        Of the features.
    valid_fraction, test_fraction : float
        As in `lib.splits.time_split`.
    min_rows : int
        Least rows of each part.

    Raises
    ------
    ValueError
        If a part would have fewer rows: says what the data have, what reaches back how far, and the
        parameters with which they would be enough, if there are some.
    """
    n_rows, per_day = len(index), rows_per_day(index)
    fractions = {"valid_fraction": valid_fraction, "test_fraction": test_fraction}
    parts = _parts(n_rows, options, needed_rows(per_day, options), fractions)
    if min(parts.values()) >= min_rows:
        return
    reach = reaches(per_day, options)
    furthest = {k: v for k, v in sorted(reach.items(), key=lambda item: -item[1]) if k and v > 1}
    told = ", ".join(f"{k} {v:,} rows ({v / per_day:.3g} days)" for k, v in furthest.items())
    enough = _least_rows(options, max(reach.values()), fractions, min_rows)
    better = fitting(index, options, fractions, min_rows)
    found = ", ".join(f"{name} {n:,}" for name, n in parts.items())
    way = f"PARAMS='{json.dumps(better)}' would do" if better else "No lower value would do"
    raise ValueError(
        f"the data are too short: of {n_rows:,} rows ({n_rows / per_day:.3g} days) there would be "
        f"for {found}, and min_rows={min_rows} asks for so many of each. A forecast reaches back: "
        f"{told}; horizon={options['horizon']} reaches ahead, and valid_fraction="
        f"{valid_fraction:g} and test_fraction={test_fraction:g} take the end of the data. {way}; "
        f"or give {math.ceil(enough / per_day):,} days or more"
    )


def _parts(
    n_rows: int, options: PowerOptions, n_needed: int, fractions: dict[str, float]
) -> dict[str, int]:
    """Return how many rows each part would have: those with a history and a target of their own."""
    n_test = round(n_rows * fractions["test_fraction"])
    n_valid = round(n_rows * fractions["valid_fraction"])
    horizon = options["horizon"]
    n_train = n_rows - n_test - n_valid - horizon - (n_needed - 1)
    found = {"train": n_train, "validation": n_valid - horizon, "test": n_test - horizon}
    return {name: max(n, 0) for name, n in found.items()}


def _least_rows(
    options: PowerOptions, n_needed: int, fractions: dict[str, float], min_rows: int
) -> int:
    """Return how many rows would be enough for the options as they are."""
    own = min_rows + options["horizon"]
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    wanted = {"train": own + n_needed - 1}
    return max(math.ceil(wanted.get(k, own) / share) for k, share in shares.items()) + 1


def fitting(
    index: pd.DatetimeIndex, options: PowerOptions, fractions: dict[str, float], min_rows: int
) -> dict:
    """Return the parameters to change so that the rows are enough; {} if none are, or none need."""
    n_rows, per_day = len(index), rows_per_day(index)
    least = math.ceil(100 * (min_rows + options["horizon"] + 1) / n_rows) / 100
    larger = {name: max(least, value) for name, value in fractions.items()}
    if larger["valid_fraction"] > MOST_VALID or larger["test_fraction"] > MOST_TEST:
        return {}
    limit = _parts(n_rows, options, 1, larger)["train"] - min_rows + 1
    lower = {
        "lags": [lag for lag in options["lags"] if lag < limit],
        "windows": [window for window in options["windows"] if window <= limit],
    }
    fixed = options | lower
    for name in ("days", "weeks"):
        while fixed[name] and reaches(per_day, fixed)[name] > limit:
            fixed = fixed | {name: fixed[name] - 1}
    if needed_rows(per_day, fixed) > limit:
        return {}
    asked = {**options, **fractions}
    return {k: v for k, v in {**fixed, **larger}.items() if v != asked[k]}
