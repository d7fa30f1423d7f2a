"""What is watched of a house: its measured columns, and whether they fit together."""

from lib.power.columns import COLUMNS

import pandas as pd


def power_columns(history: pd.DataFrame) -> pd.DataFrame:
    """Return the measured columns of a house, and whether they fit together.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n, 7)
        From `lib.power.features.measured`: rows that no meter can have measured are missing.

    Returns
    -------
    pandas.DataFrame of shape (n, 8)
        The measured columns and ``power_factor``, active power over voltage times current: at most
        about 1 in any house, so it shows a unit or a meter that has changed.
    """
    apparent_kw = history["voltage_v"] * history["current_a"] / 1000
    power_factor = history["power_kw"] / apparent_kw.where(apparent_kw > 0)
    return history[list(COLUMNS)].assign(power_factor=power_factor)
