"""The made-up ticks: their shape, what is planted in them, and that nothing else is."""

import time
from datetime import date

from lib.tick.sample import LAST_DAY, best_forecast, sample_days, sample_ticks

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis, spearmanr

PLANTED = {"signal": 0.6, "half_spread_bps": 0.3}


def bars(ticks, step_s=5):
    """Time bars by pandas, with what the best forecast needs."""
    frame = ticks.to_pandas()
    frame["signed_volume"] = frame["size"] * frame["side"]
    grouped = frame.groupby(frame["ts"].dt.floor(f"{step_s}s"))
    return grouped.agg(
        close=("price", "last"),
        volume=("size", "sum"),
        signed_volume=("signed_volume", "sum"),
        side=("side", "last"),
    )


def forward_bps(frame, horizon=1):
    return 1e4 * np.log(frame["close"].shift(-horizon) / frame["close"]).to_numpy()


def pooled(n_days, horizon=1, **options):
    """Best forecasts and returns of many days, side by side."""
    parts = []
    for ticks in sample_days(n_days, **options):
        frame = bars(ticks)
        planted = {name: options.get(name, value) for name, value in PLANTED.items()}
        forecast = best_forecast(frame, **planted)
        parts.append(np.column_stack([forecast, forward_bps(frame, horizon)])[:-horizon])
    return np.concatenate(parts).T


# Shape


def test_ticks_have_the_types_of_loaded_ones_and_lie_in_the_session():
    ticks = sample_ticks(date(2025, 12, 19), n_ticks=20_000)
    assert dict(ticks.schema) == {
        "ts": pl.Datetime("us", "UTC"),
        "day": pl.Date,
        "price": pl.Float64,
        "size": pl.Float64,
        "side": pl.Int8,
    }
    assert len(ticks) == 20_000 and ticks["ts"].is_sorted()
    local = ticks["ts"].dt.convert_time_zone("America/New_York")
    assert (local.dt.date() == date(2025, 12, 19)).all()
    assert str(local.dt.time().min()) >= "09:30:00" and str(local.dt.time().max()) < "16:00:00"
    assert ticks["size"].min() >= 1 and (ticks["size"] % 1 == 0).all()
    assert set(ticks["side"].unique()) == {-1, 1}


def test_opening_follows_daylight_saving():
    hours = [sample_ticks(date(2025, month, 2))["ts"].dt.hour()[0] for month in (1, 7)]
    assert hours == [14, 13]


def test_days_are_the_last_weekdays_in_order():
    days = [ticks["day"][0] for ticks in sample_days(7, n_ticks=10)]
    assert days[-1] == LAST_DAY and days[0] == date(2025, 12, 11)
    assert [day.weekday() for day in days] == [3, 4, 0, 1, 2, 3, 4]


def test_day_depends_on_its_date_and_the_seed_alone():
    first, second = sample_days(2, n_ticks=100, seed=3)
    assert second.equals(next(sample_days(1, n_ticks=100, seed=3)))
    assert second.equals(sample_ticks(LAST_DAY, n_ticks=100, seed=3))
    assert not second.equals(sample_ticks(LAST_DAY, n_ticks=100, seed=4))
    assert not first["price"].equals(second["price"])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(2, 3_000), st.integers(0, 9))
def test_every_size_gives_possible_ticks(n_ticks, seed):
    ticks = sample_ticks(LAST_DAY, n_ticks=n_ticks, seed=seed)
    assert len(ticks) == n_ticks and ticks["ts"].is_sorted()
    assert ticks["price"].is_finite().all() and (ticks["price"] > 0).all()


def test_hundred_thousand_ticks_take_a_moment():
    best = min(_seconds(sample_ticks, LAST_DAY, n_ticks=100_000) for _ in range(3))
    assert best < 0.2


def _seconds(function, *arguments, **options):
    begin = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - begin


# What it looks like


@pytest.fixture(scope="module")
def plain():
    """Days without signal and spread."""
    options = {"signal": 0, "half_spread_bps": 0, "n_ticks": 50_000, "seed": 1}
    return list(sample_days(10, **options))


def test_waiting_times_are_irregular_and_bursty(plain):
    waiting = plain[0]["ts"].diff().drop_nulls().dt.total_microseconds()
    assert waiting.std() > 1.2 * waiting.mean()


@pytest.mark.slow
def test_trades_and_moves_are_most_frequent_near_the_ends_of_the_session(plain):
    half_hour = pl.col("ts").dt.convert_time_zone("America/New_York").dt.truncate("30m").dt.time()
    counts = plain[0].group_by(half_hour).len().sort("ts")["len"].to_list()
    assert min(counts[0], counts[-1]) > 3 * counts[6]
    moves = np.mean([np.abs(forward_bps(bars(ticks, 900), 1))[:26] for ticks in plain], axis=0)
    assert moves[0] + moves[-2] > 1.5 * (moves[12] + moves[13])


def test_sizes_have_a_heavy_tail(plain):
    size = plain[0]["size"]
    assert size.max() > 15 * size.mean() and size.mean() > 1.4 * size.median()


@pytest.mark.slow
def test_volatility_comes_in_clusters_and_is_as_asked(plain):
    returns = np.concatenate([forward_bps(bars(ticks))[:-1] for ticks in plain])
    squares = returns**2 - np.mean(returns**2)
    lag = [np.mean(squares[k:] * squares[:-k]) / np.mean(squares**2) for k in (1, 20)]
    assert lag[0] > 0.05 and lag[1] > 0.03
    assert kurtosis(returns) > 1
    assert np.sqrt(np.mean(returns**2)) == pytest.approx(1.0, abs=0.1)


# What is planted


@pytest.mark.slow
def test_without_signal_and_spread_the_price_is_a_martingale(plain):
    for step_s in (1, 5, 60):
        returns = [forward_bps(bars(ticks, step_s))[:-1] for ticks in plain]
        flat = np.concatenate(returns)
        error = 1 / np.sqrt(len(flat))
        assert abs(flat.mean()) < 3.5 * flat.std() * error
        for lag in (1, 2, 3):
            signs = np.concatenate([np.sign(r[lag:] * r[:-lag]) for r in returns])
            assert abs(signs.mean()) < 3.5 / np.sqrt(len(signs))


@pytest.mark.slow
def test_without_signal_the_imbalance_says_nothing(plain):
    parts = [(bars(ticks), forward_bps(bars(ticks))) for ticks in plain]
    imbalance = np.concatenate([(f["signed_volume"] / f["volume"])[:-1] for f, _ in parts])
    returns = np.concatenate([r[:-1] for _, r in parts])
    assert abs(spearmanr(imbalance, returns)[0]) < 3.5 / np.sqrt(len(returns))


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"signal": 2.0, "half_spread_bps": 0.0},
        {"signal": 0.0, "half_spread_bps": 1.0},
        {"n_ticks": 4_000},
    ],
)
def test_best_forecast_is_the_conditional_expectation(options, horizon):
    forecast, returns = pooled(12, horizon, seed=2, **options)
    errors = returns - forecast
    spread = errors.std() / np.sqrt(len(errors)) * np.sqrt(horizon)
    slope = np.dot(forecast, returns) / np.dot(forecast, forecast)
    noise = errors.std() / np.sqrt(np.dot(forecast, forecast)) * np.sqrt(horizon)
    assert abs(slope - 1) < 4 * noise
    assert abs(errors.mean()) < 4 * spread
    for part in np.array_split(np.argsort(forecast), 5):
        limit = 4 * errors[part].std() / np.sqrt(len(part)) * np.sqrt(horizon)
        assert abs(errors[part].mean()) < limit


@pytest.mark.slow
def test_nothing_of_the_past_foretells_the_error_of_the_best_forecast():
    parts = []
    for ticks in sample_days(10, seed=5):
        frame = bars(ticks)
        error = forward_bps(frame) - best_forecast(frame, **PLANTED)
        imbalance = frame["signed_volume"] / frame["volume"]
        past = pd.DataFrame(
            {
                "imbalance": imbalance,
                "imbalance_before": imbalance.shift(),
                "side": frame["side"],
                "side_before": frame["side"].shift(),
                "return": 1e4 * np.log(frame["close"]).diff(),
                "volume": np.log(frame["volume"]),
            }
        )
        parts.append(past.assign(error=error).dropna())
    table = pd.concat(parts)
    found = table.corr(method="spearman")["error"].drop("error")
    assert found.abs().max() < 3.5 / np.sqrt(len(table))


@pytest.mark.slow
def test_best_rank_correlation_is_about_three_tenths_and_the_bounce_is_a_part_of_it():
    forecast, returns = pooled(10, seed=6)
    assert spearmanr(forecast, returns)[0] == pytest.approx(0.3, abs=0.04)
    side = np.concatenate([bars(ticks)["side"][:-1] for ticks in sample_days(10, seed=6)])
    assert spearmanr(-side, returns)[0] > 0.03
    signal_alone, returns = pooled(10, seed=6, half_spread_bps=0.0)
    assert spearmanr(signal_alone, returns)[0] > 0.25


def test_best_forecast_by_hand():
    frame = pd.DataFrame({"signed_volume": [50.0, -20], "volume": [100.0, 20], "side": [1.0, -1]})
    assert best_forecast(frame, signal=2, half_spread_bps=0.5).tolist() == [0.5, -1.5]
