"""The gate: every outcome, its table and words, and how often it promotes wrongly."""

import json
import subprocess
import sys

from benchmarks.gate_rates import Scenario, count_promoted
from lib.ground.files import ROOT
from lib.registry import gate
from lib.registry.paired import Test

import numpy as np
import pandas as pd
import pytest

PASSED = {
    "passed": True,
    "checks": [
        {
            "metric": "rmse_vs_persistence",
            "value": 0.7254,
            "threshold": 0.9,
            "greater_is_better": False,
            "passed": True,
        }
    ],
}
FAILED = {"passed": False, "checks": [PASSED["checks"][0] | {"value": 0.95, "passed": False}]}
CHAMPION = {"version": 4, "run_dir": "power/before"}
BETTER = {"metric": "rmse", "unit": "kW", "greater_is_better": False, "decisive": True}
BETTER |= {"candidate": 0.4312, "champion": 0.43903, "difference": -0.00783, "low": -0.0104}
BETTER |= {"high": -0.0051, "p_value": None}
CLOSE = BETTER | {"difference": -0.0012, "low": -0.0034, "high": 0.0010, "champion": 0.4324}
WORSE = BETTER | {"difference": 0.0078, "low": 0.0051, "high": 0.0104, "champion": 0.4234}
ACCURACY = BETTER | {"metric": "accuracy", "unit": "", "greater_is_better": True}
ACCURACY |= {"candidate": 0.995, "champion": 0.99, "difference": 0.005, "low": 0.001}
ACCURACY |= {"high": 0.009, "p_value": 0.012}
SECOND = BETTER | {"metric": "mae", "decisive": False, "candidate": 0.29, "champion": 0.30}


def decide(verdict=PASSED, champion=CHAMPION, rows=(BETTER,), **options):
    return gate.decide(verdict, champion=champion, rows=rows, **options)


@pytest.mark.parametrize(
    ("given", "outcome", "reason"),
    [
        (
            {"verdict": FAILED},
            "refused",
            "rmse_vs_persistence = 0.95, required <= 0.9: FAILED",
        ),
        ({"verdict": {"passed": False, "checks": []}}, "refused", "no check was made"),
        ({"verdict": FAILED, "problem": "it does not load"}, "refused", "required <= 0.9"),
        ({"champion": None, "rows": ()}, "first", "nothing is in production"),
        ({"champion": None, "rows": (), "problem": "No answer. "}, "undecided", "No answer"),
        ({"problem": "version 4 cannot be loaded: no module x"}, "undecided", "no module x"),
        ({"rows": ()}, "undecided", "it was not compared with version 4"),
        ({"rows": [SECOND]}, "undecided", "it was not compared with version 4"),
        ({"rows": [BETTER | {"low": float("nan")}]}, "undecided", "rmse gave no number"),
        ({"rows": [BETTER | {"champion": None}]}, "undecided", "rmse gave no number"),
        ({"champion": CHAMPION | {"own": True}}, "not_better", "is this very model"),
        ({}, "better", "better by +0.0078 (+0.0051 to +0.0104)"),
        ({"margin": 0.005}, "better", "better by +0.0078 (+0.0051 to +0.0104)"),
        ({"margin": 0.0051}, "not_better", "not surely by more than margin = 0.0051"),
        ({"rows": [CLOSE]}, "not_better", "not surely by more than margin = 0"),
        ({"rows": [WORSE]}, "not_better", "worse by 0.0078 (0.0051 to 0.0104)"),
        ({"rows": [BETTER | dict.fromkeys(("difference", "low", "high"), 0.0)]}, "not_better", ""),
        ({"rows": [BETTER | {"high": 0.0}]}, "not_better", "not surely by more than margin = 0"),
        ({"rows": [ACCURACY]}, "better", "McNemar's p = 0.012"),
        ({"rows": [ACCURACY | {"p_value": 0.06}]}, "not_better", "p = 0.06, not below 0.05"),
        ({"rows": [ACCURACY | {"p_value": 0.05}]}, "not_better", "not below 0.05"),
    ],
)
def test_every_outcome_has_its_reason(given, outcome, reason):
    decision = decide(**given)
    assert decision["outcome"] == outcome and reason in decision["reason"]
    assert decision["promote"] == (outcome in ("first", "better"))
    json.dumps(decision, allow_nan=False)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match="must be 0 or more"):
        decide(margin=margin)


def test_words_name_values_version_and_interval():
    assert gate.words(decide()) == (
        "Better: rmse 0.4312 kW against 0.4390 of version 4, better by +0.0078 "
        "(+0.0051 to +0.0104)."
    )
    assert gate.words(decide(rows=[CLOSE])) == (
        "Not better: rmse 0.4312 kW against 0.4324 of version 4, better by +0.0012 "
        "(\N{MINUS SIGN}0.0010 to +0.0034), not surely by more than margin = 0."
    )
    asked = gate.words(decide(problem="version 4 has learned from this test"))
    assert asked == "Undecided, a person must decide: version 4 has learned from this test."


def test_floors_and_compared_metrics_stand_in_one_table_those_that_decide_first():
    rows = decide(rows=[SECOND, BETTER])["rows"]
    assert [(row["metric"], row["passed"]) for row in rows] == [
        ("rmse", True),
        ("rmse_vs_persistence", True),
        ("mae", None),
    ]
    assert rows[0]["floor"] is None and rows[1]["floor"] == 0.9 and rows[1]["champion"] is None


def test_floor_and_comparison_of_one_metric_share_a_row_if_they_are_of_the_same_rows():
    check = {"metric": "accuracy", "threshold": 0.99, "greater_is_better": True, "passed": True}
    checked = {"passed": True, "checks": [check | {"value": 0.995}]}
    (row,) = decide(checked, rows=[ACCURACY])["rows"]
    assert (row["floor"], row["difference"], row["passed"]) == (0.99, 0.005, True)
    (row,) = decide(checked, rows=[ACCURACY | {"low": -0.001}])["rows"]
    assert row["passed"] is False
    elsewhere = {"passed": True, "checks": [check | {"value": 0.9951}]}
    assert [row["candidate"] for row in decide(elsewhere, rows=[ACCURACY])["rows"]] == [
        0.995,
        0.9951,
    ]


@pytest.mark.parametrize(
    ("row", "floor", "result"),
    [
        (BETTER, None, "passed"),
        (CLOSE, None, "not better"),
        (CLOSE, 0.5, "not better"),
        (CLOSE, 0.4, "failed"),
        (CLOSE | {"low": None}, None, "failed"),
        (ACCURACY | {"low": -0.001}, 0.99, "not better"),
        (ACCURACY | {"low": -0.001}, 0.999, "failed"),
        (SECOND, None, "for information"),
        (SECOND, 0.2, "failed"),
    ],
)
def test_result_of_a_row_tells_a_missed_floor_from_a_model_that_is_not_better(row, floor, result):
    known = {key: row[key] for key in ("metric", "greater_is_better")}
    value = row["candidate"]
    reached = floor is None or (value >= floor if row["greater_is_better"] else value <= floor)
    check = known | {"threshold": floor, "value": value, "passed": reached}
    rows = decide({"passed": reached, "checks": [] if floor is None else [check]}, rows=[row])
    assert gate.cells(rows["rows"][0])["result"] == result


def test_markdown_is_a_table_and_lets_no_text_be_markup():
    text = gate.markdown(decide(margin=0.001, notes=["version 4 <b> [x](y) | z"]))
    assert text.splitlines() == [
        "Better: rmse 0.4312 kW against 0.4390 of version 4, better by +0.0078 "
        "(+0.0051 to +0.0104).",
        "",
        "| metric | result | floor | candidate | in production, version 4 | difference "
        "| 95 % interval |",
        "| --- | --- | --: | --: | --: | --: | --: |",
        "| rmse (kW) ↓ | passed |  | 0.4312 | 0.4390 | \N{MINUS SIGN}0.0078 "
        "| \N{MINUS SIGN}0.0104 to \N{MINUS SIGN}0.0051 |",
        "| rmse_vs_persistence ↓ | passed | ≤ 0.9 | 0.7254 |  |  |  |",
        "",
        "- margin: 0.001",
        r"- version 4 \<b\> \[x\](y) \| z",
    ]


def test_description_stays_short_whatever_an_error_says():
    decision = decide(problem="it cannot be loaded: " + "x y " * 5000)
    assert len(gate.markdown(decision)) < 3000
    assert "\n" not in decide(problem="two\nlines")["reason"]


def test_table_has_a_line_for_each_metric_and_no_empty_column():
    frame = gate.table(decide(rows=[ACCURACY]))
    assert list(frame.index) == ["accuracy ↑", "rmse_vs_persistence ↓"]
    assert frame.loc["accuracy ↑", "McNemar's p"] == "0.012"
    assert frame.loc["rmse_vs_persistence ↓", "floor"] == "≤ 0.9"
    alone = gate.table(decide(champion=None, rows=()))
    assert list(alone) == ["result", "floor", "candidate"]


MADE = {"version": 5, "policy": "auto", "promoted": False}


@pytest.mark.parametrize(
    ("decision", "made", "followed", "said"),
    [
        (decide(), MADE | {"promoted": True}, {}, ["Promoted: rmse 0.4312"]),
        (decide(), MADE | {"policy": "approval"}, {}, ["Better: ", "Waits for a person"]),
        (decide(rows=[CLOSE]), MADE, {}, ["Not better: "]),
        (decide(rows=[CLOSE]), MADE, {"outcome": "kept"}, ["Not better: ", "the policy is auto"]),
        (decide(), MADE, {"outcome": "promoted"}, ["Promoted: rmse", "bob has agreed: fine."]),
        (
            decide(rows=[CLOSE]),
            MADE,
            {"outcome": "promoted"},
            ["Promoted by bob against the gate: fine.", "Not better: rmse"],
        ),
        (decide(), MADE, {"outcome": "rejected"}, ["Better: ", "promoted, bob said no: fine."]),
        (decide(), MADE, {"outcome": "expired"}, ["Better: ", "Not promoted: fine."]),
        (decide(), MADE, {"outcome": "waiting"}, ["Better: ", "Not promoted yet: fine."]),
        (
            decide(),
            MADE,
            {"outcome": "approved"},
            ["Better: ", "Agreed by bob, and the promotion is under way: fine."],
        ),
        (decide(), MADE, {"outcome": "refused"}, ["Better: ", "although bob agreed: fine."]),
        (decide(), MADE, {"outcome": "rejected", "version": 3}, ["Better: "]),
        (decide(FAILED), {}, {}, ["Refused: rmse_vs_persistence"]),
    ],
)
def test_what_followed_is_said_after_what_the_gate_said(decision, made, followed, said):
    whole = {"version": 5, "who": "bob", "reason": "fine.", "policy": "auto"} | followed
    found = gate.settled(decision, made, whole if followed else {})
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))
    promoted = gate.is_promoted(made, whole if followed else {})
    assert promoted == found[0].startswith("Promoted")


@pytest.mark.parametrize("rows", [[BETTER], [CLOSE]])
def test_by_hand_the_gate_finds_the_same_and_promotes_nothing(rows):
    by_airflow, by_hand = decide(rows=rows), decide(rows=rows, by_hand=True)
    assert by_hand | {"promote": by_airflow["promote"], "by_hand": False} == by_airflow
    assert by_hand["promote"] is False
    held = rows == [BETTER]  # what is not better stays where it is in any case
    assert ("Run by hand, it goes to @staging at most" in gate.words(by_hand)) is held
    assert gate.words(by_hand).startswith(gate.words(by_airflow))
    assert gate.markdown(by_hand).splitlines()[0] == gate.words(by_hand)


def test_page_of_a_run_by_hand_gives_the_command_that_promotes():
    made = {"name": "house_lightgbm", "version": 5, "policy": "auto", "promoted": False}
    said, how = gate.settled(decide(by_hand=True), made, {})
    assert said.startswith("Better: ") and said.endswith("further only by make promote.")
    assert (
        how
        == 'Only a person promotes it: make promote MODEL=house_lightgbm VERSION=5 REASON="...".'
    )
    assert gate.settled(decide(by_hand=True), {}, {}) == [said]


def found(champion=CHAMPION, said=None, problem="", by_hand=False):
    """Return what a rematch has found of a champion that says `said`."""
    truth = pd.Series(np.zeros(60))
    test = Test(truth, "regression", "rmse", "kW", block_length=5)
    match = {"champion": champion, "test": test, "candidate": np.ones(60), "problem": problem}
    return match | {"champion_predictions": said, "notes": ["a note"], "by_hand": by_hand}


@pytest.mark.parametrize(
    ("match", "outcome", "n_compared", "reason"),
    [
        (found(champion=None), "first", 0, "nothing is in production"),
        (found(said=np.full(60, 2.0)), "better", 2, "better by +1"),
        (found(said=np.full(60, 0.5)), "not_better", 2, "worse by 0.5"),
        (found(problem="it does not load"), "undecided", 0, "it does not load"),
        (found(said=np.full(60, 2.0), problem="other data"), "undecided", 2, "other data"),
        (
            found(said=np.full(60, np.inf)),
            "undecided",
            0,
            "cannot be computed: y_pred is inf at row 0",
        ),
    ],
)
def test_model_is_judged_by_what_the_rematch_has_found(match, outcome, n_compared, reason):
    decision = gate.judge(PASSED, match)
    assert decision["outcome"] == outcome and reason in decision["reason"]
    assert sum(row["difference"] is not None for row in decision["rows"]) == n_compared
    assert decision["notes"] == ["a note"] and decision["by_hand"] is False
    assert gate.judge(PASSED, match | {"by_hand": True})["by_hand"] is True


@pytest.mark.slow
@pytest.mark.parametrize("module", ["gate", "standing", "lifecycle"])
def test_what_decides_and_is_asked_needs_no_numbers_library(module):
    heavy = "len({'numpy', 'mlflow'} & {*sys.modules})"
    code = f"import sys, lib.registry.{module}; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


SMALL = {
    "rmse": {"n_rows": 240, "block_length": 12, "memory": 0.5},
    "rank_ic": {"n_rows": 120, "n_days": 2, "block_length": 8, "memory": 0.3},
    "accuracy": {"n_rows": 300, "block_length": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "true", "margin"),
    [("rmse", 0.0, 0.0), ("rank_ic", 0.0, 0.0), ("accuracy", 0.02, 0.02)],
)
def test_models_that_are_no_better_than_the_margin_are_rarely_promoted(kind, true, margin):
    scenario = Scenario(kind, true, margin, **SMALL[kind])
    assert count_promoted(scenario, 1000, n_resamples=200) <= 50  # 5 %; nominally 25


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "true"), [("rmse", 0.25), ("rank_ic", 0.2), ("accuracy", 0.05)])
def test_models_that_are_clearly_better_are_promoted(kind, true):
    scenario = Scenario(kind, true, **SMALL[kind])
    assert count_promoted(scenario, 100, n_resamples=200) >= 80
