"""What is watched of a market: what its bars show apart from the level of prices."""

import numpy as np
import pandas as pd

BPS = 1e-4


def bar_columns(bars: pd.DataFrame) -> pd.DataFrame:
    """Return what bars show apart from the level of their prices.

    Parameters
    ----------
    bars : pandas.DataFrame of shape (n, n_columns)
        As `lib.tick.bars.to_bars` makes them.

    Returns
    -------
    pandas.DataFrame of shape (n, 5) or, for quotes, (n, 6)
        ``return_bps`` since the bar before, of the same day; ``range_bps``, high over low;
        ``log_volume``, ``log_count``; ``imbalance``, signed volume over volume; and ``spread_bps``,
        spread over close.
    """
    found = pd.DataFrame(
        {
            "return_bps": np.log(bars["close"]).groupby(bars["day"]).diff() / BPS,
            "range_bps": np.log(bars["high"] / bars["low"]) / BPS,
            "log_volume": np.log1p(bars["volume"]),
            "log_count": np.log1p(bars["count"]),
            "imbalance": bars["signed_volume"] / bars["volume"],
        }
    )
    if "spread" in bars:
        found["spread_bps"] = bars["spread"] / bars["close"] / BPS
    return found
