"""A leak is told from a skill: a bounce that anybody can forecast passes, a look ahead does not."""

from lib.tick import leaks
from lib.tick.indicators import check_bars, forward_return
from lib.tick.metrics import return_metrics

import numpy as np
import pandas as pd
import pytest

DRAWS = {"horizon": 1, "block_length": 20, "n_resamples": 200}


def made_bars(returns, n_days=4):
    """Return bars whose closes have these returns (bps), with all columns of bars."""
    index = pd.date_range("2024-03-04 14:30", periods=len(returns), freq="5s", tz="UTC")
    day = np.repeat([f"2024-03-{4 + k:02d}" for k in range(n_days)], len(returns) // n_days)
    close = 100 * np.exp(np.cumsum(returns) / 1e4)
    bars = pd.DataFrame({"day": day, "open": close, "high": 1.001 * close, "low": 0.999 * close})
    bars = bars.assign(close=close, vwap=close, tail=close, mean=close, side=1.0)
    bars = bars.assign(volume=np.arange(len(close)) % 7 + 1.0, signed_volume=1.0, count=3.0)
    return bars.set_axis(index)


@pytest.fixture(scope="module")
def bounce():
    """Bars that can be forecast like an AR(12): each return undoes part of the last twelve."""
    rng = np.random.default_rng(0)
    weights = -0.7 * 0.85 ** np.arange(12)
    returns = list(rng.normal(size=12))
    for shock in rng.normal(size=2000):
        returns.append(weights @ np.array(returns[:-13:-1]) + shock)
    return made_bars(np.array(returns[12:]))


def last_return(bars, k=0):
    return forward_return(bars, 1).groupby(bars["day"], sort=False).shift(1 + k)


def honest(bars):
    return (-0.7 * last_return(bars) - 0.2 * last_return(bars, 1)).to_numpy()


def peeks(bars):
    """Half of the next return, and noise: a feature that is centred, or stamped too early."""
    noise = np.sin(np.arange(len(bars)) ** 2)
    return 0.5 * forward_return(bars, 1).to_numpy() + noise


def test_bounce_that_the_old_bound_refused_is_no_leak(bounce):
    train = bounce["day"] < "2024-03-06"
    made = leaks.autoregression(bounce, train, horizon=1)
    test = bounce[~train]
    known = forward_return(test, 1).notna()
    truth, close = forward_return(test, 1)[known], test["close"][known]
    plain = return_metrics(truth, made[truth.index], close)
    model = return_metrics(truth, np.nan_to_num(honest(test))[known], close)
    assert max(plain["price_rmse_vs_persistence"], model["price_rmse_vs_persistence"]) < 0.9
    found = leaks.examine(honest, test, **DRAWS)
    assert leaks.leak(found) == ""
    assert found["most_moved"] < 1e-9 and abs(found["shuffled_rank_ic"]) < 0.1
    said = leaks.words(found, model["mse_vs_persistence"], plain["mse_vs_persistence"])
    assert "most of it is in the returns themselves" in said


@pytest.mark.slow
def test_autoregression_learns_from_training_bars_alone(bounce):
    train = bounce["day"] < "2024-03-06"
    jump = 1 + 0.01 * (np.arange(len(bounce)) > 100)  # which is cut
    bounce = bounce.assign(close=bounce["close"] * jump)
    later = bounce.assign(close=bounce["close"].where(train, 100 + np.arange(len(bounce)) % 5))
    first, again = (leaks.autoregression(b, train, horizon=2)[train] for b in (bounce, later))
    pd.testing.assert_series_equal(first, again)
    assert np.isfinite(leaks.autoregression(bounce, train, horizon=2)).all()


def test_model_that_sees_the_next_bar_is_caught_by_the_missing_future(bounce):
    found = leaks.examine(peeks, bounce, **DRAWS)
    assert found["most_moved"] == np.inf
    assert "changes when the bars after it are taken away" in leaks.leak(found)


def test_model_that_knows_the_future_loses_nothing_when_the_past_is_destroyed(bounce):
    kept = leaks.examine(lambda bars: np.nan_to_num(peeks(bars)), bounce, **DRAWS)
    assert kept["shuffled_rank_ic"] > 0.3
    assert "in random order, where nothing can be known" in leaks.leak(kept | {"most_moved": 0.0})


def test_scale_taken_from_the_whole_day_is_a_leak(bounce):
    def scaled(bars):
        day = bars["close"].groupby(bars["day"])
        return ((bars["close"] - day.transform("mean")) / day.transform("std")).to_numpy()

    assert "looks ahead" in leaks.leak(leaks.examine(scaled, bounce, **DRAWS))


def test_rounding_of_other_batches_is_no_leak(bounce):
    def rounded(bars):
        return honest(bars) * (1 + 1e-6 * (len(bars) % 10))

    assert leaks.leak(leaks.examine(rounded, bounce, **DRAWS)) == ""


def test_shuffled_days_have_the_same_bars_in_another_order(bounce):
    bars = bounce.assign(spread=0.01 * bounce["close"])
    mixed = leaks.shuffled_days(bars, seed=3)
    check_bars(mixed)
    assert mixed.index.equals(bars.index) and mixed["day"].equals(bars["day"])
    for day, rows in bars.groupby("day"):
        other = mixed[mixed["day"] == day]
        assert other["close"].iloc[[0, -1]].to_numpy() == pytest.approx(rows["close"].iloc[[0, -1]])
        before, after = (np.diff(np.log(part["close"])) for part in (rows, other))
        np.testing.assert_allclose(np.sort(before), np.sort(after), atol=1e-12)
        assert np.abs(before - after).max() > 1e-5
    np.testing.assert_allclose(mixed["high"] / mixed["close"], 1.001)
    np.testing.assert_allclose(mixed["spread"] / mixed["close"], 0.01)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_begun_days_end_in_their_second_half(n):
    bars = made_bars(np.ones(2 * n), n_days=2)
    sizes = bars[leaks.begun_days(bars)].groupby("day").size()
    assert len(sizes) == 2 and ((sizes >= n / 2) & (sizes <= max(n - 1, 1))).all()


def test_skill_that_is_not_in_the_returns_is_said_so():
    found = {"n_compared": 10.0, "most_moved": 0.0, "shuffled_rank_ic": 0.0}
    found |= {"shuffled_rank_ic_low": -0.1, "shuffled_rank_ic_high": 0.1}
    assert "what the other features and the model add" in leaks.words(found, 0.9, 0.98)
    assert "no skill that could be a leak" in leaks.words(found, 1.0, 0.98)
    said = leaks.words(found, 0.909, 0.92)
    assert "takes 9.1 % off" in said and "most of it is in the returns" in said
