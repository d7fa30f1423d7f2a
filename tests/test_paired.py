"""Paired comparison: values and intervals by hand and by oracles, and what is refused."""

from dataclasses import replace

from lib.metrics import block_bootstrap
from lib.registry.paired import Test, compare, mcnemar

import numpy as np
import pandas as pd
import pytest
from scipy import stats

KINDS = {
    "forecast": ("regression", "rmse", "kW"),
    "return": ("ranking", "rank_ic", "bps"),
    "image": ("classification", "accuracy", ""),
}


def make_test(what, truth, *, block_length=1, groups=None):
    kind, metric, unit = KINDS[what]
    return Test(pd.Series(truth), kind, metric, unit, block_length=block_length, groups=groups)


def by_metric(rows):
    return {row["metric"]: row for row in rows}


def named(labels, n_classes=3, sure=0.9):
    """Return probabilities that name these classes."""
    found = np.full((len(labels), n_classes), (1 - sure) / (n_classes - 1))
    found[np.arange(len(labels)), labels] = sure
    return found


def test_errors_of_constant_size_differ_by_exactly_that():
    signs = np.tile([1.0, -1.0], 20)
    rows = compare(make_test("forecast", np.zeros(40), block_length=4), signs, 3 * signs)
    assert [row["metric"] for row in rows] == ["rmse", "mae"]
    for row in rows:
        assert (row["candidate"], row["champion"], row["difference"]) == (1, 3, -2)
        assert (row["low"], row["high"]) == (-2, -2)
        assert row["unit"] == "kW" and not row["greater_is_better"] and row["p_value"] is None
    assert [row["decisive"] for row in rows] == [True, False]


def test_interval_of_independent_rows_is_that_of_student():
    rng = np.random.default_rng(0)
    candidate, champion = rng.normal(size=(2, 60))
    row = by_metric(
        compare(make_test("forecast", np.zeros(60)), candidate, champion, n_resamples=8000)
    )
    differences = np.abs(candidate) - np.abs(champion)
    expected = stats.t.interval(0.95, 59, differences.mean(), stats.sem(differences))
    assert (row["mae"]["low"], row["mae"]["high"]) == pytest.approx(expected, abs=0.012)


def test_few_blocks_widen_the_interval_as_few_values_do():
    candidate, champion = np.random.default_rng(1).normal(size=(2, 40))
    test = make_test("forecast", np.zeros(40), block_length=10)
    row = by_metric(compare(test, candidate, champion))
    sizes = np.abs(np.column_stack([candidate, champion]))
    drawn = block_bootstrap(sizes, block_length=10, n_resamples=2000)
    narrow = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    widening = np.sqrt(4 / 3) * 3.18245 / 1.95996  # t of 3 degrees of freedom over normal
    difference = row["mae"]["difference"]
    expected = difference + widening * (narrow - difference)
    assert [row["mae"]["low"], row["mae"]["high"]] == pytest.approx(expected, rel=1e-4)


def test_swapped_models_have_the_mirrored_interval():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 50))
    test = make_test("forecast", rng.normal(size=50), block_length=5)
    one, other = compare(test, a, b)[0], compare(test, b, a)[0]
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one == compare(test, a, b)[0]


def test_rank_ic_is_the_mean_over_the_days_and_errors_are_of_all_rows():
    rng = np.random.default_rng(3)
    groups = np.repeat(["mon", "tue"], [30, 60])
    truth, a, b = rng.normal(size=(3, 90))
    rows = compare(make_test("return", truth, block_length=5, groups=groups), a, truth + b)
    days = [groups == day for day in ("mon", "tue")]
    for row, key, said in ((rows[0], "candidate", a), (rows[0], "champion", truth + b)):
        ics = [stats.spearmanr(truth[day], said[day]).statistic for day in days]
        assert row[key] == pytest.approx(np.mean(ics))
    assert [row["metric"] for row in rows] == ["rank_ic", "mse", "mae"]
    assert rows[0]["decisive"] and rows[0]["greater_is_better"] and rows[0]["difference"] < 0
    assert rows[1]["candidate"] == pytest.approx(np.mean((truth - a) ** 2))
    assert rows[2]["champion"] == pytest.approx(np.mean(np.abs(b)))
    assert [row["unit"] for row in rows] == ["", "bps²", "bps"]


def test_no_block_crosses_from_one_day_to_the_next():
    groups = np.repeat(["mon", "tue"], [20, 40])
    a, b = np.repeat([1.0, 3.0], [20, 40]), np.repeat([2.0, 1.0], [20, 40])
    test = make_test("return", np.zeros(60), block_length=5, groups=groups)
    rows = by_metric(compare(test, a, b))
    mse = rows["mse"]  # constant within each day: (20 (1 - 4) + 40 (9 - 1)) / 60
    assert (mse["low"], mse["difference"], mse["high"]) == pytest.approx((13 / 3,) * 3)


def test_images_are_compared_by_accuracy_and_by_loss():
    truth = np.arange(300) % 3
    other = (truth + 1) % 3
    candidate = named(np.where(np.arange(300) < 8, other, truth))
    champion = named(np.where((np.arange(300) >= 8) & (np.arange(300) < 40), other, truth))
    accuracy, loss = compare(make_test("image", truth), candidate, champion)
    assert (accuracy["candidate"], accuracy["champion"]) == pytest.approx((292 / 300, 268 / 300))
    assert accuracy["p_value"] == pytest.approx(stats.binomtest(8, 40).pvalue)
    se = np.sqrt(40 / 300 - 0.08**2) / np.sqrt(300)
    expected = 0.08 - 1.96 * se, 0.08 + 1.96 * se
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(expected, abs=0.004)
    assert loss["difference"] == pytest.approx(-24 / 300 * np.log(0.9 / 0.05))
    assert accuracy["decisive"] and not loss["decisive"]


def test_classifiers_that_err_by_the_day_are_resampled_by_the_day():
    def made(rng):
        """Return labels that are wrong nearly all day long on three days of ten."""
        wrong = np.repeat(rng.random(60) < 0.3, 24) & (rng.random(1440) < 0.9)
        return named(wrong.astype(int))

    test = make_test("image", np.zeros(1440, int), block_length=24)
    n_told = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        row = compare(test, made(rng), made(rng), n_resamples=200)[0]
        n_told += row["low"] > 0 or row["high"] < 0
    assert row["metric"] == "accuracy" and row["decisive"] and row["p_value"] is None
    assert n_told <= 5  # both are equally good, so 2 are expected


def test_metric_that_decides_comes_first_whichever_it_is():
    test = replace(make_test("forecast", np.zeros(4)), metric="mae")
    rows = compare(test, np.arange(4.0), np.ones(4))
    assert [(row["metric"], row["decisive"]) for row in rows] == [("mae", True), ("rmse", False)]


def test_facts_of_a_run_make_a_test_of_the_rows_that_are_left():
    facts = {"kind": "ranking", "metric": "rank_ic", "unit": "bps", "quantity": "return"}
    facts |= {"block_length": 120, "classes": []}
    truth = pd.Series([1.0, 2.0, 3.0], ["a", "b", "c"])
    test = Test.of(facts, truth, pd.Series(["mon", "tue", "tue", "wed"], list("abcd")))
    assert (test.block_length, test.groups.tolist()) == (3, ["mon", "tue", "tue"])
    part = test.select(np.array([False, True, True]))
    assert (part.block_length, [rows.tolist() for rows in part.parts()]) == (2, [[0, 1]])


def test_mcnemar_counts_only_images_that_one_alone_has_right():
    a, b = np.zeros((2, 20), dtype=bool)
    a[:8], b[8] = True, True
    a[10:], b[10:] = True, True
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(a, a) == 1
    assert mcnemar(a, ~a) == pytest.approx(stats.binomtest(18, 20).pvalue)


@pytest.mark.parametrize(
    ("said", "block_length", "message"),
    [
        ([1.0, np.nan, 0.0, 0.0], 1, "is nan at row 1"),
        ([1.0, 2.0, 3.0, 4.0], 3, "4 rows are fewer than the 2 blocks of 3 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(said, block_length, message):
    test = make_test("forecast", np.zeros(4), block_length=block_length)
    with pytest.raises(ValueError, match=message):
        compare(test, np.array(said), np.ones(4))


def test_probabilities_that_are_none_are_refused():
    truth = np.array([0, 1, 2])
    with pytest.raises(ValueError, match="rows from 0 up that sum to 1"):
        compare(make_test("image", truth), named(truth), 2 * named(truth))
