"""Metrics of classes against scikit-learn and by hand, intervals against theory, baselines."""

import math
import pickle
import warnings

from lib import classification
from lib.classification import (
    accuracy_interval,
    calibration_table,
    class_table,
    classification_metrics,
    confident_mistakes,
    difference_interval,
    fit_temperature,
)
from lib.ground.directions import GREATER_IS_BETTER
from lib.images.baseline import fit_pixel_baseline

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as oracle

# four images of three classes: right at 0.7, wrong at 0.6, right at 0.5, wrong at 0.9
TRUTH = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.05, 0.9, 0.05]])


def calibrated(n: int, n_classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels that are drawn from the probabilities themselves."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(n_classes, 0.4), size=n)
    ends = probabilities.cumsum(axis=1)
    labels = (rng.uniform(size=(n, 1)) > ends).sum(axis=1)
    return np.minimum(labels, n_classes - 1), probabilities


def test_metrics_of_four_images_worked_by_hand(monkeypatch):
    monkeypatch.setattr(classification, "N_BINS", 11)
    found = classification_metrics(TRUTH, PROBABILITIES)
    # predicted 0, 0, 2, 1; precision by class 1/2, 0, 1; recall 1, 0, 1/2; f1 2/3, 0, 2/3
    assert found == pytest.approx(
        {
            "accuracy": 0.5,
            "loss": -(math.log(0.7) + math.log(0.3) + math.log(0.5) + math.log(0.05)) / 4,
            "precision": (0.5 + 0 + 2 * 1) / 4,
            "recall": (1 + 0 + 2 * 0.5) / 4,
            "f1_score": (2 / 3 + 0 + 2 * 2 / 3) / 4,
            # each image in a bin of its own: gaps 0.3, 0.6, 0.5, 0.9
            "expected_calibration_error": 2.3 / 4,
        },
        rel=1e-12,
    )


def test_calibration_error_weighs_bins_by_their_images(monkeypatch):
    monkeypatch.setattr(classification, "N_BINS", 2)
    # up to 0.5 one image, right at 0.5; above it three, right one time in three at 2.2 / 3 on mean
    found = classification_metrics(TRUTH, PROBABILITIES)
    expected = (1 * 0.5 + 3 * (2.2 / 3 - 1 / 3)) / 4
    assert found["expected_calibration_error"] == pytest.approx(expected, rel=1e-12)


def test_metrics_equal_those_of_scikit_learn():
    truth, probabilities = calibrated(2000)
    predicted = probabilities.argmax(axis=1)
    found = classification_metrics(truth, probabilities)
    precision, recall, f1_score, _ = oracle.precision_recall_fscore_support(
        truth, predicted, average="weighted", zero_division=0
    )
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(truth, predicted), rel=1e-12)
    assert found["loss"] == pytest.approx(oracle.log_loss(truth, probabilities), rel=1e-4)
    assert (found["precision"], found["recall"], found["f1_score"]) == pytest.approx(
        (precision, recall, f1_score), rel=1e-12
    )


def test_metrics_of_a_sure_and_right_classifier_are_the_best_there_are():
    found = classification_metrics(np.array([2, 0, 1, 1]), np.eye(3)[[2, 0, 1, 1]])
    best = {name: float(GREATER_IS_BETTER[name]) for name in found}
    assert found == pytest.approx(best, abs=1e-12)


def test_metrics_of_a_sure_and_wrong_classifier_are_the_worst_and_the_loss_is_finite():
    found = classification_metrics(np.array([0, 1, 2]), np.eye(3)[[1, 2, 0]])
    loss = -math.log(np.finfo(np.float32).eps)
    worst = {"accuracy": 0, "precision": 0, "recall": 0, "f1_score": 0, "loss": loss}
    assert found == pytest.approx(worst | {"expected_calibration_error": 1.0}, rel=1e-12)


def test_even_probabilities_lose_the_logarithm_of_the_number_of_classes():
    found = classification_metrics(np.arange(10), np.full((10, 10), 0.1))
    assert found["loss"] == pytest.approx(math.log(10), rel=1e-12)
    assert found["expected_calibration_error"] == pytest.approx(0, abs=1e-12)


def test_metrics_of_float32_probabilities_and_byte_labels_are_the_same():
    single = classification_metrics(TRUTH.astype(np.uint8), PROBABILITIES.astype(np.float32))
    # with 15 bins, 0.6 is an end between two: which of them holds it does not change the error
    assert single == pytest.approx(classification_metrics(TRUTH, PROBABILITIES), rel=1e-6)


def test_every_metric_says_whether_larger_is_better():
    found = classification_metrics(TRUTH, PROBABILITIES)
    larger = {name for name in found if GREATER_IS_BETTER[name]}
    assert larger == {"accuracy", "precision", "recall", "f1_score"}
    assert GREATER_IS_BETTER["accuracy_low"]


def test_calibration_error_of_calibrated_probabilities_vanishes_with_the_number_of_images():
    truth, probabilities = calibrated(100_000)
    error = classification_metrics(truth, probabilities)["expected_calibration_error"]
    bins = calibration_table(truth, probabilities)
    chance = np.sqrt(bins["accuracy"] * (1 - bins["accuracy"]) / bins["n"])
    # the mean distance of a normal variable from its mean is sqrt(2 / pi) standard deviations
    expected = math.sqrt(2 / math.pi) * (chance * bins["n"]).sum() / 100_000
    assert 0.3 * expected < error < 2 * expected < 0.01


def test_calibration_error_of_too_sure_probabilities_is_what_they_are_too_sure_by():
    truth, probabilities = calibrated(100_000, n_classes=2)
    surer = np.clip(probabilities + np.where(probabilities > 0.5, 0.1, -0.1), 0, 1)
    inner = probabilities.max(axis=1) < 0.9
    found = classification_metrics(truth[inner], surer[inner])
    assert found["expected_calibration_error"] == pytest.approx(0.1, abs=0.01)


def test_calibration_table_leaves_out_empty_bins_and_keeps_every_image(monkeypatch):
    monkeypatch.setattr(classification, "N_BINS", 4)
    table = calibration_table(TRUTH, PROBABILITIES)
    # ends 0.25, 0.5, 0.75: a bin holds its upper end
    assert table.index.tolist() == [1, 2, 3]
    assert table["n"].tolist() == [1, 2, 1]
    assert table["confidence"].tolist() == pytest.approx([0.5, 0.65, 0.9])
    assert table["accuracy"].tolist() == [1.0, 0.5, 0.0]


def test_calibration_table_of_one_bin_is_the_mean_of_all(monkeypatch):
    monkeypatch.setattr(classification, "N_BINS", 1)
    truth, probabilities = calibrated(500)
    (row,) = calibration_table(truth, probabilities).itertuples()
    assert row.confidence == pytest.approx(probabilities.max(axis=1).mean())
    assert row.accuracy == pytest.approx(np.mean(probabilities.argmax(axis=1) == truth))
    assert row.n == 500


def test_confidence_above_one_by_rounding_is_in_the_last_bin():
    table = calibration_table(np.array([0]), np.array([[1.0004, 0.0]]))
    assert table.index.tolist() == [14]


def test_class_table_of_four_images_worked_by_hand():
    table = class_table(TRUTH, PROBABILITIES, ["cat", "dog", "ship"])
    assert table.index.tolist() == ["cat", "dog", "ship"]
    assert table["precision"].tolist() == [0.5, 0, 1]
    assert table["recall"].tolist() == [1, 0, 0.5]
    assert table["f1_score"].tolist() == pytest.approx([2 / 3, 0, 2 / 3])
    assert table["n"].tolist() == [1, 1, 2]
    assert table["mistaken_for"].tolist() == ["", "cat", "dog"]


def test_class_table_names_the_most_frequent_mistake_not_the_right_class():
    truth = np.array([0] * 9)
    predicted = np.array([0, 0, 0, 0, 1, 2, 2, 1, 2])
    assert class_table(truth, np.eye(3)[predicted], list("abc"))["mistaken_for"].iloc[0] == "c"


def test_class_table_keeps_a_class_without_images():
    table = class_table(np.array([0, 0]), np.eye(3)[[0, 1]], list("abc"))
    assert table["n"].tolist() == [2, 0, 0]
    assert table.loc["c"].tolist() == [0, 0, 0, 0, ""]


def test_class_table_weighted_by_images_gives_the_metrics():
    truth, probabilities = calibrated(700)
    table = class_table(truth, probabilities, list("abcde"))
    found = classification_metrics(truth, probabilities)
    for name in ("precision", "recall", "f1_score"):
        assert np.average(table[name], weights=table["n"]) == pytest.approx(found[name])


def test_interval_ends_are_those_of_the_normal_approximation():
    truth = np.zeros(10_000, dtype=int)
    predicted = (np.arange(10_000) < 800).astype(int)  # accuracy 0.92
    found = accuracy_interval(truth, predicted)
    half = 1.96 * math.sqrt(0.92 * 0.08 / 10_000)
    assert found == pytest.approx(
        {"accuracy_low": 0.92 - half, "accuracy_high": 0.92 + half}, abs=3e-4
    )


@pytest.mark.slow
def test_interval_holds_the_true_accuracy_as_often_as_it_says():
    rng = np.random.default_rng(2)
    truth, held = np.zeros(1000, dtype=int), 0
    for _ in range(400):
        predicted = (rng.uniform(size=1000) > 0.8).astype(int)
        found = accuracy_interval(truth, predicted)
        held += found["accuracy_low"] <= 0.8 <= found["accuracy_high"]
    assert held / 400 == pytest.approx(0.95, abs=0.035)  # three standard errors are 0.033


def test_interval_of_a_classifier_that_is_always_right_has_a_width():
    found = accuracy_interval(np.arange(10), np.arange(10))
    assert found == pytest.approx({"accuracy_low": 10 / (10 + 1.96**2), "accuracy_high": 1.0}, 1e-4)


@pytest.mark.slow
def test_difference_interval_is_that_of_resampled_pairs():
    rng = np.random.default_rng(3)
    truth = np.zeros(300, dtype=int)
    a = (rng.uniform(size=300) < 0.1).astype(int)
    b = np.where(rng.uniform(size=300) < 0.2, 1, a)
    rows = rng.integers(300, size=(20_000, 300))
    drawn = ((a == 0).astype(float) - (b == 0))[rows].mean(axis=1)
    found = difference_interval(truth, a, b, n_resamples=20_000)
    assert found["difference"] == pytest.approx(np.mean(a == 0) - np.mean(b == 0), rel=1e-12)
    ends = [found["difference_low"], found["difference_high"]]
    assert ends == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.0034)


def test_difference_of_predictions_that_err_alike_is_known_better_than_of_unlike_ones():
    truth = np.zeros(1000, dtype=int)
    a = (np.arange(1000) < 100).astype(int)
    alike = (np.arange(1000) < 120).astype(int)
    unlike = (np.arange(1000) >= 880).astype(int)
    narrow, wide = (difference_interval(truth, a, b) for b in (alike, unlike))
    assert narrow["difference"] == wide["difference"] == pytest.approx(0.02)
    assert narrow["difference_low"] > 0 > wide["difference_low"]


def test_difference_changes_its_sign_with_the_order_and_is_zero_of_equals():
    truth, a, b = np.arange(60) % 3, np.arange(60) % 2, np.zeros(60, dtype=int)
    one, other = difference_interval(truth, a, b), difference_interval(truth, b, a)
    assert one["difference"] == pytest.approx(-other["difference"])
    assert set(difference_interval(truth, a, a).values()) == {0.0}


def test_confident_mistakes_are_wrong_and_the_surest_comes_first():
    assert confident_mistakes(TRUTH, PROBABILITIES, 5).tolist() == [3, 1]
    assert confident_mistakes(TRUTH, PROBABILITIES, 1).tolist() == [3]


def test_confident_mistakes_of_equal_confidence_keep_their_order():
    truth, probabilities = np.array([1, 0, 1, 1]), np.tile([0.8, 0.2], (4, 1))
    assert confident_mistakes(truth, probabilities, 3).tolist() == [0, 2, 3]


def test_confident_mistakes_of_a_classifier_that_is_always_right_are_none():
    assert confident_mistakes(np.array([0, 1]), np.eye(2), 3).tolist() == []


def bright_halves(n: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images of which the left (0), the right (1) or no half (2) is brighter."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 128, size=(n, *shape), dtype=np.uint8)
    half = shape[1] // 2
    x[y == 0, :, :half] += 60
    x[y == 1, :, half:] += 60
    return x, y


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_pixel_baseline_learns_what_single_pixels_tell_without_a_warning(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit_pixel_baseline(*bright_halves(600, shape, seed=0))
    x, y = bright_halves(300, shape, seed=1)
    assert classification_metrics(y, model.predict_proba(x))["accuracy"] > 0.97


def test_pixel_baseline_repeats_and_survives_being_saved():
    x, y = bright_halves(150, (6, 6), seed=0)
    model = fit_pixel_baseline(x, y)
    first = model.predict_proba(x)
    np.testing.assert_array_equal(fit_pixel_baseline(x, y).predict_proba(x), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), first)


@pytest.mark.parametrize("y", [[0, 2, 2, 0], [1, 2, 1, 2]])
def test_pixel_baseline_refuses_labels_that_are_no_columns(y):
    with pytest.raises(ValueError, match="give 0, 1, ... with none left out"):
        fit_pixel_baseline(np.zeros((4, 2, 2), np.uint8), np.array(y))


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("truth", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "one row or more"),
        ([[0]], [HALF], "one column"),
        ([0.0], [HALF], "float64 of shape .*: give class numbers"),
        ([0, 1], [HALF], "shape .1, 2. for 2 labels"),
        ([0], HALF, "one column for each class"),
        ([0, 2], [HALF, HALF], "y_true is 2 at row 1: labels of 2 classes are from 0 to 1"),
        ([-1], [HALF], "y_true is -1 at row 0"),
        ([0, 0], [HALF, [np.nan, 1]], "at row 1: give rows from 0 up"),
        ([0, 0], [HALF, [-0.5, 1.5]], "at row 1: give rows from 0 up"),
        ([0, 0], [HALF, [0.5, 0.502]], "at row 1: .* sum to 1 within 0.001"),
    ],
)
@pytest.mark.parametrize(
    "judge",
    [
        classification_metrics,
        calibration_table,
        lambda truth, probabilities: class_table(truth, probabilities, ["a", "b"]),
        lambda truth, probabilities: confident_mistakes(truth, probabilities, 1),
    ],
    ids=["metrics", "calibration", "classes", "mistakes"],
)
def test_judges_refuse_what_is_no_distribution_over_the_labels(
    judge, truth, probabilities, message
):
    with pytest.raises(ValueError, match=message):
        judge(np.array(truth), np.array(probabilities))


def test_rows_that_sum_to_one_within_rounding_are_taken():
    classification_metrics(np.array([0]), np.array([[0.5, 0.5009]]))


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    shares = softmax(logits, axis=1)
    labels = (rng.random((20_000, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, 4)
    for temperature in (0.4, 1.0, 3.0):
        assert fit_temperature(labels, logits * temperature) == pytest.approx(temperature, rel=0.05)


def test_temperature_of_a_faultless_network_is_bounded():
    logits = np.eye(4)[[0, 1, 2, 3, 0]] * 5
    assert 0.1 <= fit_temperature([0, 1, 2, 3, 0], logits) < 0.3
