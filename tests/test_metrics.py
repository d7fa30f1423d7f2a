"""Metrics against scikit-learn, the bootstrap against theory, baselines by hand."""

from lib.metrics import (
    GREATER_IS_BETTER,
    block_bootstrap,
    bootstrap_intervals,
    fit_ridge,
    flat,
    naive_forecast,
    regression_metrics,
    table,
)
from lib.tick.metrics import return_metrics

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    truth = rng.gamma(2, size=500)
    return truth, truth + rng.normal(size=500)


def test_regression_metrics_equal_those_of_scikit_learn(pair):
    truth, forecast = pair
    assert regression_metrics(truth, forecast) == pytest.approx(
        {
            "mae": oracle.mean_absolute_error(truth, forecast),
            "mse": oracle.mean_squared_error(truth, forecast),
            "rmse": oracle.root_mean_squared_error(truth, forecast),
            "r2": oracle.r2_score(truth, forecast),
        },
        rel=1e-12,
    )


def test_regression_metrics_of_three_rows_worked_by_hand():
    # errors 1, 0, -2; truth 1, 2, 6 has mean 3 and squared deviations 4, 1, 9
    found = regression_metrics(np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 4.0]))
    expected = {"mae": 1.0, "mse": 5 / 3, "rmse": (5 / 3) ** 0.5, "r2": 1 - 5 / 14}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("forecast", [3.0, 4.0])
def test_r2_of_a_truth_that_does_not_vary_is_that_of_scikit_learn(forecast):
    truth, constant = np.full(4, 3.0), np.full(4, forecast)
    assert regression_metrics(truth, constant)["r2"] == oracle.r2_score(truth, constant)


@pytest.mark.parametrize(("forecast", "r2"), [(0.1, 1.0), (1.1, 0.0)])
def test_r2_of_a_truth_that_does_not_vary_suffers_no_rounding(forecast, r2):
    truth, constant = np.full(30, 0.1), np.full(30, forecast)  # whose mean is not 0.1
    assert regression_metrics(truth, constant)["r2"] == r2
    assert bootstrap_intervals(truth, constant, {}, block_length=3)["r2"] == (r2, r2)


@pytest.mark.parametrize(
    ("truth", "forecast", "message"),
    [
        ([1.0, np.nan], [1.0, 1.0], "y_true is nan at row 1"),
        ([1.0, 2.0], [np.inf, 1.0], "y_pred is inf at row 0"),
        ([1.0, 2.0], [1.0], "shape .2,., y_pred .1,.: give as many"),
        ([], [], "one row or more"),
        ([[1.0]], [[1.0]], "one column"),
    ],
)
def test_regression_metrics_refuse_what_they_cannot_judge(truth, forecast, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(np.array(truth), np.array(forecast))


OURS = {"skill", "rank_ic", "rank_ic_low", "hit_rate", "hit_rate_low", "accuracy", "accuracy_low"}
OURS |= {"precision", "recall", "f1_score", "loss", "expected_calibration_error"}


def test_every_metric_says_whether_larger_is_better():
    truth = np.arange(40.0)
    names = bootstrap_intervals(truth, truth + 1, {"persistence": truth + 2}, block_length=1)
    names = set(names) | set(return_metrics(truth, truth + 1, truth + 1))
    assert names <= set(GREATER_IS_BETTER)
    larger = {name for name in names | OURS if GREATER_IS_BETTER[name]}
    known = {"r2", "skill", "rank_ic", "rank_ic_low", "hit_rate", "hit_rate_low"}
    known |= {"accuracy", "accuracy_low", "precision", "recall", "f1_score"}
    assert larger == known & (names | OURS)


def test_common_metrics_of_the_field_have_the_direction_of_a_perfect_answer():
    from sklearn import metrics

    truth, wrong = np.array([0, 0, 1, 1]), np.array([0.4, 0.6, 0.3, 0.7])
    perfect = np.array([0.0, 0.0, 1.0, 1.0])
    scores = {
        "roc_auc": metrics.roc_auc_score,
        "average_precision": metrics.average_precision_score,
        "log_loss": metrics.log_loss,
        "brier_score": metrics.brier_score_loss,
        "explained_variance": metrics.explained_variance_score,
        "median_absolute_error": metrics.median_absolute_error,
        "max_error": metrics.max_error,
        "mean_pinball_loss": metrics.mean_pinball_loss,
        "balanced_accuracy": lambda t, p: metrics.balanced_accuracy_score(t, p > 0.5),
        "matthews_corrcoef": lambda t, p: metrics.matthews_corrcoef(t, p > 0.5),
        "cohen_kappa": lambda t, p: metrics.cohen_kappa_score(t, p > 0.5),
        "jaccard": lambda t, p: metrics.jaccard_score(t, p > 0.5),
        "mape": lambda t, p: metrics.mean_absolute_percentage_error(t + 1, p + 1),
        "msle": metrics.mean_squared_log_error,
    }
    for name, score in scores.items():
        assert GREATER_IS_BETTER[name] == (score(truth, perfect) > score(truth, wrong)), name


def test_bootstrap_draws_only_whole_circular_blocks():
    # 7 rows in blocks of 3: two blocks and one single row; the rows' sum tells which were drawn
    rows = 10.0 ** np.arange(7)[:, None]
    circle = [sum(10 ** ((s + k) % 7) for k in range(3)) for s in range(7)]
    single = [10**s for s in range(7)]
    possible = {a + b + c for a in circle for b in circle for c in single}
    drawn = block_bootstrap(rows, block_length=3, n_resamples=300, seed=1) * 7
    assert {round(float(value)) for value in drawn[:, 0]} <= possible
    assert len(np.unique(drawn)) > 100


def test_bootstrap_with_one_block_of_all_rows_gives_the_mean_itself():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    drawn = block_bootstrap(rows, block_length=50, n_resamples=10)
    np.testing.assert_allclose(drawn, np.broadcast_to(rows.mean(axis=0), (10, 2)), atol=1e-12)


@pytest.mark.slow
def test_bootstrap_of_independent_rows_has_the_standard_error_of_the_mean():
    rows = np.random.default_rng(0).normal(size=(2000, 1))
    drawn = block_bootstrap(rows, block_length=1, n_resamples=4000, seed=2)
    assert drawn.std() == pytest.approx(rows.std() / 2000**0.5, rel=0.05)
    assert drawn.mean() == pytest.approx(rows.mean(), abs=3e-3)


def test_bootstrap_of_alike_neighbours_is_wider_in_blocks_than_in_single_rows():
    rows = np.repeat(np.random.default_rng(0).normal(size=(100, 1)), 20, axis=0)
    single = block_bootstrap(rows, block_length=1, seed=3).std()
    blocks = block_bootstrap(rows, block_length=100, seed=3).std()
    assert blocks > 3 * single


def test_bootstrap_repeats_with_its_seed_and_differs_with_another():
    rows = np.arange(30.0)[:, None]
    first = block_bootstrap(rows, block_length=4, seed=5)
    np.testing.assert_array_equal(first, block_bootstrap(rows, block_length=4, seed=5))
    assert not np.array_equal(first, block_bootstrap(rows, block_length=4, seed=6))


@pytest.mark.parametrize("block_length", [0, 11])
def test_bootstrap_refuses_a_block_length_out_of_range(block_length):
    with pytest.raises(ValueError, match="from 1 to the 10 rows"):
        block_bootstrap(np.zeros((10, 1)), block_length=block_length)


def test_intervals_hold_the_metric(pair):
    found = bootstrap_intervals(*pair, {}, block_length=10)
    for name, value in regression_metrics(*pair).items():
        assert found[name][0] < value < found[name][1]


@pytest.mark.slow
def test_interval_ends_are_quantiles_of_metrics_computed_on_each_resample(pair):
    truth, forecast = pair
    truth, forecast, baseline = truth[:40], forecast[:40], np.roll(truth[:40], 1)
    # the oracle resamples row numbers with the same draw, then calls scikit-learn
    starts = np.random.default_rng(9).integers(40, size=(200, 6))
    scores = []
    for row in starts:
        taken = np.concatenate([np.arange(s, s + 7) % 40 for s in row])[:40]
        rmse = oracle.root_mean_squared_error(truth[taken], forecast[taken])
        other = oracle.root_mean_squared_error(truth[taken], baseline[taken])
        scores.append([rmse, oracle.r2_score(truth[taken], forecast[taken]), rmse / other])
    expected = np.quantile(scores, [0.025, 0.975], axis=0)
    found = bootstrap_intervals(
        truth, forecast, {"last": baseline}, block_length=7, n_resamples=200, seed=9
    )
    for k, name in enumerate(["rmse", "r2", "rmse_vs_last"]):
        assert found[name] == pytest.approx(tuple(expected[:, k]), rel=1e-9)


def test_interval_of_a_truth_that_hardly_ever_varies_holds_no_rounding_errors():
    truth, other = np.full(200, 0.3), np.full(200, 0.31)
    truth[70] = 1000.0  # in every third resample it is missing, and nothing varies
    usual = bootstrap_intervals(truth, np.full(200, 0.3), {"mean": other}, block_length=5)
    assert usual["rmse"][0] == usual["mae"][0] == usual["rmse_vs_mean"][0] == 0
    assert -1 < usual["r2"][0] < 0 and usual["r2"][1] == 1
    low, high = bootstrap_intervals(truth, other, {}, block_length=5)["r2"]
    assert -1 < low < high == 0
    exact = {"same": truth}
    assert bootstrap_intervals(truth, truth, exact, block_length=5)["rmse_vs_same"] == (1, 1)


def test_naive_forecast_with_a_period_of_one_row_is_persistence():
    series = pd.Series([5.0, 6.0, 7.0, 8.0])
    assert naive_forecast(series, horizon=3).tolist() == series.tolist()


def test_naive_forecast_takes_the_same_time_of_the_last_day_that_is_known():
    # days of four rows; at row 9 the target of horizon 2 is row 11, a day before it row 7;
    # of horizon 6 row 15, a day before it row 11 is not known yet, two days before it row 7 is
    series = pd.Series(np.arange(12.0))
    assert naive_forecast(series, horizon=2, period=4)[9] == 7
    assert naive_forecast(series, horizon=4, period=4)[9] == 9
    assert naive_forecast(series, horizon=6, period=4)[9] == 7
    assert naive_forecast(series, horizon=2, period=4)[:2].isna().all()


@pytest.mark.parametrize("horizon", [1, 5, 24, 25, 168])
@pytest.mark.parametrize("period", [1, 24, 168])
def test_naive_forecast_uses_no_row_after_the_origin(horizon, period):
    series = pd.Series(np.arange(400.0))
    used = naive_forecast(series, horizon=horizon, period=period).dropna()
    assert (used <= used.index).all()
    assert ((used.index + horizon - used) % period == 0).all()


def test_naive_forecast_refuses_a_horizon_of_zero():
    with pytest.raises(ValueError, match="at least 1"):
        naive_forecast(pd.Series([1.0]), horizon=0)


def test_ridge_without_penalty_finds_the_line_and_fills_gaps_with_the_training_median():
    x = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0, 4.0], "b": [1.0, 0.0, 5.0, 2.0, 2.0]})
    y = (3 * x["a"] - x["b"] + 1).to_numpy()
    model = fit_ridge(x, y, alpha=1e-9)
    new = pd.DataFrame({"a": [np.nan, 10.0], "b": [0.0, np.nan]})
    # medians of the training rows: a 2, b 2
    np.testing.assert_allclose(model.predict(new), [3 * 2 + 1, 3 * 10 - 2 + 1], atol=1e-6)


def test_ridge_survives_a_column_without_any_value():
    x = pd.DataFrame({"a": [0.0, 1.0, 2.0], "empty": [np.nan] * 3})
    assert np.isfinite(fit_ridge(x, np.array([0.0, 1.0, 2.0])).predict(x)).all()


SCORES = {
    "model": {"rmse": 0.41234, "r2": 0.5, "n_test": 9.0},
    "ridge": {"rmse": 0.5, "r2": 0.5},
    "naive": {"rmse": 0.6},
}


def test_best_of_each_metric_is_marked_in_its_direction_and_unit():
    found = table(SCORES, unit="kW")
    assert found.to_dict("list") == {
        "rmse (kW) ↓": ["0.4123 *", "0.5", "0.6"],
        "r2 ↑": ["0.5 *", "0.5 *", ""],
    }
    assert found.index.tolist() == ["model", "ridge", "naive"]
    assert list(table(SCORES, ["r2"])) == ["r2 ↑"]


def test_metrics_are_flat_named_after_the_baseline_and_in_order():
    found = flat(SCORES, {"rmse": (0.4, 0.42)}, horizon=1)
    assert found == {
        "horizon": 1.0,
        "n_test": 9.0,
        "naive_rmse": 0.6,
        "r2": 0.5,
        "ridge_r2": 0.5,
        "ridge_rmse": 0.5,
        "rmse": 0.41234,
        "rmse_high": 0.42,
        "rmse_low": 0.4,
    }
    assert list(found) == sorted(found)
