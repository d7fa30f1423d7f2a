"""Scores of return forecasts against SciPy, simulation and cases worked by hand."""

from lib.metrics import rank_ic, regression_metrics
from lib.tick.metrics import (
    cost_read_out,
    hit_rate,
    rank_intervals,
    return_metrics,
    roll_spread,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

PAIRS = arrays(np.float64, (2, 30), elements=st.integers(-5, 5).map(float))


def made_pair(n_rows: int, *, seed: int = 0, signal: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    forecast = rng.normal(size=n_rows)
    return signal * forecast + rng.standard_t(3, size=n_rows), forecast


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pair=PAIRS)
def test_rank_ic_is_spearmans_correlation_with_ties(pair):
    truth, forecast = pair
    if np.ptp(truth) and np.ptp(forecast):
        assert rank_ic(truth, forecast) == pytest.approx(spearmanr(truth, forecast).statistic)
    else:
        assert rank_ic(truth, forecast) == 0


def test_rank_ic_of_four_rows_worked_by_hand():
    # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * (1 + 1 + 1 + 1) / (4 * 15)
    assert rank_ic(np.array([1.0, 2, 3, 9]), np.array([0.2, 0.1, 7, 5])) == pytest.approx(0.6)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(pair=PAIRS)
def test_rank_ic_sees_the_order_alone_and_turns_with_the_sign(pair):
    truth, forecast = pair
    ic = rank_ic(truth, forecast)
    assert rank_ic(truth, np.exp(forecast)) == pytest.approx(ic)
    assert rank_ic(truth, -forecast) == pytest.approx(-ic)
    assert -1 - 1e-12 <= ic <= 1 + 1e-12


def test_hit_rate_counts_rows_where_neither_is_zero():
    # right, wrong, no truth, no forecast, right
    truth, forecast = np.array([2.0, -1, 0, 5, -3]), np.array([1.0, 1, 1, 0, -9])
    assert hit_rate(truth, forecast) == pytest.approx(2 / 3)
    assert hit_rate(np.zeros(4), np.ones(4)) == 0.5


def test_return_metrics_of_three_bars_worked_by_hand():
    close = np.array([100.0, 200.0, 50.0])
    truth, forecast = np.array([10.0, -20.0, 0.0]), np.array([5.0, 0.0, 1.0])
    found = return_metrics(truth, forecast, close)
    # errors 5, 20, 1 bps; persistence errs by 10, 20, 0
    assert found["mae"] == pytest.approx(26 / 3)
    assert found["mse"] == pytest.approx((25 + 400 + 1) / 3)
    assert found["rmse"] == pytest.approx(142**0.5)
    assert found["mse_vs_persistence"] == pytest.approx(426 / 500)
    assert found["mae_vs_persistence"] == pytest.approx(26 / 30)
    assert found["rmse_vs_persistence"] == pytest.approx((426 / 500) ** 0.5)
    price, expected = close * np.exp(truth / 1e4), close * np.exp(forecast / 1e4)
    errors, last = regression_metrics(price, expected), regression_metrics(price, close)
    for name in ("mae", "mse", "rmse"):
        assert found[f"price_{name}"] == pytest.approx(errors[name])
        assert found[f"price_{name}_vs_persistence"] == pytest.approx(errors[name] / last[name])
    assert found["price_mae"] == pytest.approx((0.05 + 0.4 + 0.005) / 3, rel=1e-2)


def test_persistence_itself_has_the_ratio_one_and_the_truth_zero():
    truth, _ = made_pair(200)
    close = np.full(200, 160.0)
    persistence, perfect = (return_metrics(truth, y, close) for y in (np.zeros(200), truth))
    for name in persistence:
        if name.endswith("_vs_persistence"):
            assert persistence[name] == pytest.approx(1)
        assert perfect[name] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "close", "message"),
    [
        ([0.0, 0.0], [1.0, 1.0], "no price changes"),
        ([1.0, np.nan], [1.0, 1.0], "y_true is nan at row 1"),
    ],
)
def test_return_metrics_refuse_what_they_cannot_judge(truth, close, message):
    with pytest.raises(ValueError, match=message):
        return_metrics(np.array(truth), np.zeros(2), np.array(close))


def test_intervals_hold_the_scores_of_each_day_and_of_their_mean():
    truth, forecast = made_pair(1500)
    days = np.repeat(["2013-10-10", "2013-10-11"], [900, 600])
    found = rank_intervals(truth, forecast, days, block_length=20)
    assert list(found) == ["2013-10-10", "2013-10-11", "mean"]
    for name, score in (("rank_ic", rank_ic), ("hit_rate", hit_rate)):
        first, second = score(truth[:900], forecast[:900]), score(truth[900:], forecast[900:])
        expected = [first, second, (first + second) / 2]
        assert [day[name] for day in found.values()] == pytest.approx(expected)
        for day in found.values():
            assert day[f"{name}_low"] < day[name] < day[f"{name}_high"]
        width = [day[f"{name}_high"] - day[f"{name}_low"] for day in found.values()]
        assert width[2] < width[0] < width[1]
    assert rank_intervals(truth, forecast, days, block_length=20) == found
    assert rank_intervals(truth, forecast, days, block_length=20, seed=1) != found


@pytest.mark.slow
def test_intervals_of_a_day_are_about_as_wide_as_theory_says():
    rng = np.random.default_rng(1)
    truth, forecast = rng.normal(size=(2, 4000))
    (day, _) = rank_intervals(truth, forecast, ["d"] * 4000, block_length=1).values()
    assert day["rank_ic_high"] - day["rank_ic_low"] == pytest.approx(2 * 1.96 / 4000**0.5, rel=0.1)
    assert day["hit_rate_high"] - day["hit_rate_low"] == pytest.approx(1.96 / 4000**0.5, rel=0.1)


def test_targets_that_overlap_make_intervals_wider_in_blocks():
    rng = np.random.default_rng(2)
    truth, forecast = (np.convolve(rng.normal(size=3020), np.ones(21), "valid") for _ in range(2))
    days = ["d"] * 3000
    single, blocks = (rank_intervals(truth, forecast, days, block_length=k)["d"] for k in (1, 100))
    narrow, wide = (day["rank_ic_high"] - day["rank_ic_low"] for day in (single, blocks))
    assert wide > 2 * narrow


@pytest.mark.slow
def test_intervals_of_rows_that_depend_on_each_other_hold_the_truth_about_as_often_as_stated():
    # forecast and truth share an autocorrelated part; 200 days tell what the true IC is
    rng = np.random.default_rng(3)
    n_rows, held, scores = 600, [], []
    for _ in range(200):
        noise = rng.normal(size=(3, n_rows + 5))
        common, own, other = (np.convolve(row, np.ones(6), "valid") for row in noise)
        truth, forecast = common + 2 * own, common + 2 * other
        found = rank_intervals(truth, forecast, ["d"] * n_rows, block_length=30, n_resamples=200)
        scores.append(found["d"]["rank_ic"])
        held.append((found["d"]["rank_ic_low"], found["d"]["rank_ic_high"]))
    true = np.mean(scores)
    share = np.mean([low < true < high for low, high in held])
    assert 0.86 < share < 0.99


def test_forecast_that_never_varies_scores_as_guessing_does():
    truth, _ = made_pair(100)
    found = rank_intervals(truth, np.zeros(100), ["d"] * 100, block_length=5)["d"]
    assert [found[f"rank_ic{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert [found[f"hit_rate{end}"] for end in ("", "_low", "_high")] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_length": 41}, "block_length=41 must be from 1 to the 40 rows"),
        ({"block_length": 0}, "block_length=0"),
        ({"level": 1.0}, "level=1.0"),
    ],
)
def test_intervals_refuse_what_they_cannot_resample(change, message):
    truth, forecast = made_pair(100)
    days = ["2013-10-10"] * 60 + ["2013-10-11"] * 40
    options = {"days": days, "block_length": 10, **change}
    with pytest.raises(ValueError, match=message):
        rank_intervals(truth, forecast, **options)


def test_costs_of_eleven_bars_worked_by_hand():
    forecast = np.array([1.0, -1, 2, -2, 0, -9, 1, 1, 1, 1, 7])
    truth = np.array([3.0, 3, -1, -4, 50, -6, 0, 0, 0, 1, -2])
    # by trade 3 -3 -1 4 | 6 0 0 0 1 -2, ten of them, the largest forecast is -9
    found = cost_read_out(truth, forecast, costs_bps={"none": 0.0, "spread": 1.0})
    assert found == {
        "all": {
            "n_trades": 10,
            "break_even_bps": pytest.approx(0.8),
            "net_bps_none": pytest.approx(0.8),
            "net_bps_spread": pytest.approx(-0.2),
        },
        "top tenth": {
            "n_trades": 1,
            "break_even_bps": 6,
            "net_bps_none": 6,
            "net_bps_spread": 5,
        },
    }


def test_forecast_that_never_trades_earns_and_costs_nothing():
    found = cost_read_out(np.ones(5), np.zeros(5), costs_bps={"spread": 2.0})
    for part in found.values():
        assert part == {"n_trades": 0, "break_even_bps": 0, "net_bps_spread": 0}


def test_spread_of_a_walk_that_bounces_between_bid_and_ask_is_found():
    rng = np.random.default_rng(4)
    value = np.cumsum(rng.normal(size=200_000))
    returns = np.diff(value + 1.5 * rng.choice([-1, 1], size=200_000))
    assert roll_spread(returns) == pytest.approx(3.0, rel=0.02)
    assert roll_spread(np.diff(value)) < 0.2


def test_spread_skips_pairs_across_a_missing_return():
    # pairs (2, -2), (-2, 2) | (2, -2): means 2/3, -2/3; deviations 4/3 -4/3, -8/3 8/3, 4/3 -4/3
    returns = np.array([2.0, -2.0, 2.0, np.nan, 2.0, -2.0])
    assert roll_spread(returns) == pytest.approx(2 * ((16 + 64 + 16) / 27) ** 0.5)


def test_spread_of_returns_that_follow_each_other_is_zero():
    assert roll_spread(np.array([1.0, 2.0, 3.0, 4.0])) == 0
