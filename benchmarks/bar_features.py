"""Measure how fast `bar_features` is, next to the usual way with pandas, in one process.

Random bars of several days are made in memory. The peer computes the same columns as one does in a
notebook: `groupby("day")` with `rolling`, `ewm` and `shift`. Both results are compared, column by
column, before the clocks count; then both run in turn. The exit code is 1 when the ratio of the
median times is below the target.
"""

import argparse
import os
import platform
import statistics
import sys
import time

from lib.tick.indicators import FeatureOptions, bar_features

import numpy as np
import pandas as pd
import talib

OPTIONS: FeatureOptions = {
    "windows": [3, 6, 12, 24, 60],
    "lags": [0, 1, 2, 3, 4, 5],
    "rsi_window": 14,
    "bollinger_window": 20,
    "macd": [12, 26, 9],
}


def random_bars(n_bars: int, n_days: int, seed: int = 0) -> pd.DataFrame:
    """Return 5-second bars of a random walk over days of equal length."""
    rng = np.random.default_rng(seed)
    day = np.arange(n_bars) * n_days // n_bars
    in_day = np.arange(n_bars) - np.searchsorted(day, day)
    dates = pd.bdate_range("2013-01-01", periods=n_days)[day]
    volume = rng.lognormal(8, 1, n_bars).round() + 1
    close = 167 * np.exp(1e-4 * rng.normal(size=n_bars).cumsum())
    low, high = close - 0.02 * rng.random(n_bars), close + 0.02 * rng.random(n_bars)
    inside = [low + (high - low) * rng.random(n_bars) for _ in range(4)]
    return pd.DataFrame(
        {
            "day": dates.strftime("%Y-%m-%d"),
            "open": inside[0],
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "count": rng.integers(1, 500, n_bars).astype(float),
            "signed_volume": volume * rng.uniform(-1, 1, n_bars),
            "vwap": inside[1],
            "side": rng.choice([-1.0, 1.0], n_bars),
            "tail": inside[2],
            "mean": inside[3],
        }
    ).set_index(dates.tz_localize("UTC") + pd.to_timedelta(5 * in_day + 48_600, "s"))


def features_with_pandas(bars: pd.DataFrame, options: FeatureOptions) -> pd.DataFrame:
    """Compute the same features the usual way."""
    index, bars = bars.index, bars.reset_index(names="ts")
    day = bars["day"]
    first = bars.groupby("day")["close"].transform("first")
    log = {name: np.log(bars[name] / first) * 1e4 for name in ("close", "vwap", "mean", "tail")}
    close = log["close"]
    returns = close.groupby(day).diff()
    found = {f"return_lag_{lag}": returns.groupby(day).shift(lag) for lag in options["lags"]}
    found |= {f"close_to_{name}": close - log[name] for name in ("vwap", "mean", "tail")}
    middle = (bars["high"] + bars["low"]) / 2
    found["close_to_middle"] = np.log(bars["close"] / middle) * 1e4
    found["side"] = bars["side"]
    found["imbalance"] = bars["signed_volume"] / bars["volume"]
    found["range_bps"] = np.log(bars["high"] / bars["low"]) * 1e4
    found["log_volume"], found["log_count"] = np.log1p(bars["volume"]), np.log1p(bars["count"])

    def rolling(series: pd.Series, window: int, statistic: str) -> pd.Series:
        windows = series.groupby(day).rolling(window)
        values = windows.std(ddof=0) if statistic == "std" else windows.agg(statistic)
        return values.droplevel(0)

    def smooth(series: pd.Series, window: int, first: int, alpha: float) -> pd.Series:
        """Return an exponential mean that starts at row `first` from a simple mean."""

        def one_day(values: pd.Series) -> pd.Series:
            seeded = values.copy()
            seeded.iloc[first] = values.iloc[first - window + 1 : first + 1].mean()
            seeded.iloc[:first] = np.nan
            return seeded.ewm(alpha=alpha, adjust=False).mean()

        return series.groupby(day).transform(one_day)

    for w in options["windows"]:
        found[f"close_mean_{w}"] = close - rolling(close, w, "mean")
        found[f"vwap_mean_{w}"] = close - rolling(log["vwap"], w, "mean")
        found[f"close_ema_{w}"] = close - smooth(close, w, w - 1, 2 / (w + 1))
        found[f"volatility_{w}"] = rolling(returns, w, "std")
        sums = [rolling(bars[name], w, "sum") for name in ("signed_volume", "volume")]
        found[f"imbalance_{w}"] = sums[0] / sums[1]
    w = options["bollinger_window"]
    mean, deviation = rolling(close, w, "mean"), rolling(close, w, "std")
    found["bollinger_position"] = 0.5 + (close - mean) / (4 * deviation)
    found["bollinger_width"] = 4 * deviation
    w = options["rsi_window"]
    rise, fall = (smooth((s * returns).clip(lower=0), w, w, 1 / w) for s in (1, -1))
    found["rsi"] = 100 * rise / (rise + fall)
    fast, slow, signal = options["macd"]
    line = smooth(close, fast, slow - 1, 2 / (fast + 1))
    line -= smooth(close, slow, slow - 1, 2 / (slow + 1))
    found["macd_signal"] = smooth(line, signal, slow + signal - 2, 2 / (signal + 1))
    found["macd"] = line.where(found["macd_signal"].notna())
    found["macd_histogram"] = line - found["macd_signal"]
    since = bars["ts"] - bars.groupby("day")["ts"].transform("first")
    found["time_of_day"] = since / pd.Timedelta(hours=6.5)
    return pd.DataFrame(found).set_index(index)


def worst_difference(peer: pd.DataFrame, ours: pd.DataFrame) -> float:
    """Return the largest difference of any value; infinite when columns or gaps differ."""
    if set(peer) != set(ours) or not peer.index.equals(ours.index):
        return np.inf
    worst = 0.0
    for name in ours:
        difference = (peer[name] - ours[name]).abs()
        if not peer[name].isna().equals(ours[name].isna()):
            return np.inf
        worst = max(worst, difference.max())
    return worst


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bars", type=int, default=1_000_000, help="bars (%(default)s)")
    parser.add_argument("--days", type=int, default=214, help="days they span (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs each (%(default)s)")
    parser.add_argument(
        "--target", type=float, default=20, help="least ratio of times (%(default)s)"
    )
    options = parser.parse_args()

    bars = random_bars(options.bars, options.days)
    ways = {"pandas": features_with_pandas, "bar_features": bar_features}
    worst = worst_difference(*(way(bars, OPTIONS) for way in ways.values()))
    if not worst < 1e-4:
        sys.exit(f"the two do not agree: they differ by {worst}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(bars, OPTIONS)
            times[name].append(time.perf_counter() - begin)

    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = medians["pandas"] / medians["bar_features"]
    n_features = bar_features(bars.iloc[:1], OPTIONS).shape[1]
    print(
        f"{len(bars):,} bars in {options.days} days, {n_features} features, largest difference "
        f"{worst:.0e}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},\n"
        f"Python {platform.python_version()}, pandas {pd.__version__}, numpy {np.__version__}, "
        f"TA-Lib {talib.__version__}, {options.repeats} runs each, in turn\n"
    )
    print(f"{'features by':14}{'median s':>10}{'fastest s':>11}{'slowest s':>11}")
    for name, taken in times.items():
        print(f"{name:14}{medians[name]:10.3f}{min(taken):11.3f}{max(taken):11.3f}")
    verdict = "met" if ratio >= options.target else "MISSED"
    print(f"\nratio of medians {ratio:.1f}, target {options.target:.0f}: {verdict}")
    return int(ratio < options.target)


if __name__ == "__main__":
    sys.exit(main())
