"""Whether the days of bars are long enough for what is asked of them, before anything is computed.

Nothing reaches from one day into the next: each has to hold the history of a forecast, the window
of a network, and the bars until the target.
"""

from collections.abc import Collection

from lib.tick.indicators import FeatureOptions, reaches, warm_up

import pandas as pd


def check_days(
    days: pd.Series,
    test_days: Collection[str],
    options: FeatureOptions,
    *,
    horizon: int,
    window: int = 1,
) -> None:
    """Refuse days without a single bar to learn from or to judge, and say what to lower.

    Parameters
    ----------
    days : pandas.Series of shape (n_bars,), str
        Day of each bar.
    test_days : collection of str
        Days to judge by; the others are learned from.
    options : FeatureOptions
        Of the features.
    horizon : int
        Bars ahead to forecast.
    window : int, default 1
        Bars that a network sees, each with all its features.

    Raises
    ------
    ValueError
        Says how many bars the days have, what reaches back how far, and what to lower.
    """
    lengths = days.value_counts(sort=False)
    is_test = lengths.index.isin(test_days)
    needed = warm_up(options) + window + horizon
    for part, sizes in (("training", lengths[~is_test]), ("test", lengths[is_test])):
        if sizes.max() < needed:
            raise ValueError(
                f"the days are too short: the {part} days have {_span(sizes)} bars, and a forecast "
                f"takes {needed:,} of its own day. {_reasons(options, horizon, window)}. "
                f"{_way_out(options, int(sizes.max()) - horizon, window)}, or make more bars of a "
                "day with a smaller bar_size"
            )


def _span(sizes: pd.Series) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _reasons(options: FeatureOptions, horizon: int, window: int) -> str:
    found = sorted(reaches(options).items(), key=lambda item: -item[1])
    told = [f"{name}={options[name]} {n:,} bars" for name, n in found if n > 1]
    seen = f"window={window} takes so many after them, " if window > 1 else ""
    return f"Reaching back: {', '.join(told)}; {seen}horizon={horizon} reaches ahead"


def _way_out(options: FeatureOptions, room: int, window: int) -> str:
    """Return what to lower so that one bar of a day of `room` bars has all it needs."""
    most = room - warm_up(options)
    if window > 1 and most >= 2:
        return f"Lower window to {most} or less"
    far = [name for name, n in reaches(options).items() if n >= room - min(window, 2) + 1]
    names = ", ".join([*far, *(["window"] if window > 1 else [])]) or "horizon"
    return f"Lower {names}, together to less than {max(room, 0):,} bars"
