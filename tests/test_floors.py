"""Floors: each is checked in its metric's direction, and one that cannot be is named."""

from dataclasses import replace

from lib import floors
from lib.run import open_run

import pytest


def test_check_compares_in_the_direction_of_each_metric():
    verdict = floors.check({"rmse": 0.5, "r2": 0.7}, {"rmse": 0.5, "r2": 0.71})
    assert [c["passed"] for c in verdict["checks"]] == [True, False]
    assert not verdict["passed"]
    assert floors.explain(verdict) == (
        "rmse = 0.5, required <= 0.5: passed; r2 = 0.7, required >= 0.71: FAILED"
    )


def test_value_that_is_no_number_fails_its_check():
    verdict = floors.check({"rmse": float("nan")}, {"rmse": 0.5})
    assert not verdict["passed"] and "rmse = missing" in floors.explain(verdict)


def test_floor_states_the_direction_of_a_metric_that_nobody_knows():
    found = {"uplift": 1.2, "queue_s": 3.0, "rmse": 0.4}
    verdict = floors.check(found, {"rmse": 0.5}, minimum={"uplift": 1}, maximum={"queue_s": 2})
    assert [c["passed"] for c in verdict["checks"]] == [True, True, False]
    assert floors.explain(verdict).endswith(
        "uplift = 1.2, required >= 1: passed; queue_s = 3, required <= 2: FAILED"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (({"roc_acu": 0.9},), r"larger roc_acu is better \(did you mean roc_auc\?\)\. Say it with"),
        (({"uplift": 0.9},), r'check\(metrics, minimum=\{"uplift": \.\.\.\}\) where larger'),
        (({"log_loss": 0.9},), r"metric log_loss, which .* not measured\. It has rmse, uplift"),
        (({"rsme": 1}, {"rsme": 1}), "larger rsme is better .did you mean rmse"),
        (({}, {"rsme": 1}), r"metric rsme, .* not measured \(did you mean rmse\?\)"),
        (({"rmse": float("nan")},), "floor of rmse is nan; expected a finite number"),
        (({"rmse": "0.5"},), "floor of rmse is '0.5'; expected a finite number"),
    ],
)
def test_floor_that_cannot_be_checked_is_named_with_what_there_is(given, message):
    known, *least = given
    with pytest.raises(ValueError, match=message):
        floors.check({"rmse": 0.4, "uplift": 1.2}, known, minimum=least[0] if least else None)


def test_no_check_at_all_is_no_pass():
    assert floors.check({"rmse": 0.1}, {})["passed"] is False


def test_verdict_is_kept_and_comes_back_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = open_run("wine/dev", stage="04_evaluate")
    said = floors.verdict(run, {"rmse": 0.4}, {"rmse": 0.5})
    assert said == floors.explain(run.read("verdict.json")) == "rmse = 0.4, required <= 0.5: passed"


@pytest.mark.parametrize(
    ("parameter", "metric", "larger"),
    [
        ("max_rmse_vs_persistence", "rmse_vs_persistence", False),
        ("min_planted_share", "planted_share_of_best", True),
        ("max_calibration_error", "expected_calibration_error", False),
        ("min_accuracy", "accuracy", True),
    ],
)
def test_floor_that_was_missed_names_the_parameter_that_sets_it(
    tmp_path, monkeypatch, parameter, metric, larger
):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    values = dict.fromkeys([parameter[:-4], parameter, "min_other", "max_other"], 0.5)
    run = replace(open_run("wine/dev", stage="04_evaluate"), parameters=values)
    said = floors.verdict(run, {metric: 0.4 if larger else 0.6}, {metric: 0.5})
    assert said.endswith(f"FAILED (the parameter {parameter} sets this floor)")
    assert run.read("verdict.json")["checks"][0]["parameter"] == parameter
    passed = floors.verdict(run, {metric: 0.5}, {metric: 0.5})
    assert passed.endswith("passed")


def test_floor_that_no_parameter_sets_names_none(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    run = replace(open_run("wine/dev", stage="04_evaluate"), parameters={"max_rmse": 0.7})
    assert floors.verdict(run, {"rmse": 0.6}, {"rmse": 0.5}).endswith("0.5: FAILED")
