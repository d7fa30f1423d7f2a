"""Search: what a trial may know of others, and that no thread waits while there is work."""

import threading

from lib.power.search import AHEAD, Attempt, falls_behind, search

import pytest
from optuna.trial import TrialState


def run(score, n_trials, *, draw=lambda trials: {"number": len(trials)}, n_workers=1, n_folds=2):
    options = {"n_trials": n_trials, "n_folds": n_folds, "n_workers": n_workers, "keep": 0.25}
    return list(search([], draw, score, **options))


def attempt(number, *means, state=TrialState.PRUNED):
    return Attempt(number, {}, state, list(means))


@pytest.mark.parametrize("n_workers", [1, 2, AHEAD + 2])
def test_parameters_are_drawn_in_order_when_all_but_the_last_seven_have_ended(n_workers):
    drawn = []

    def draw(trials):
        assert all(t.state != TrialState.RUNNING for t in trials[: 1 - AHEAD])
        drawn.append(len(trials))
        return {"number": len(trials)}

    made = run(lambda params, fold: params["number"] + fold, 40, draw=draw, n_workers=n_workers)
    assert drawn == list(range(40))
    assert [trial.number for trial in made] == drawn


def test_no_more_trials_than_that_are_under_way_though_there_are_more_threads():
    begun, enough = [], threading.Event()

    def score(params, fold):
        begun.append(params["number"])
        enough.wait(0.2)
        if params["number"] == 0:
            assert max(begun) < AHEAD
            enough.set()
        return 1.0

    run(score, 3 * AHEAD, n_workers=2 * AHEAD)


def test_thread_scores_other_trials_while_the_first_one_takes_long():
    scored, others = [], threading.Event()

    def score(params, fold):
        if params["number"] == 0 and fold == 0:
            assert others.wait(5), "nobody went on"
        scored.append((params["number"], fold))
        if {number for number, _ in scored} >= set(range(1, AHEAD)):
            others.set()
        return 1.0

    run(score, AHEAD, n_workers=2)


def test_trial_waits_to_be_judged_until_those_before_it_have_got_as_far():
    released = threading.Event()

    def score(params, fold):
        number = params["number"]
        if number == 4 and fold == 0:
            assert released.wait(5)
        if number == AHEAD - 1:
            released.set()
        return {4: 1.0, 5: 3.5}.get(number, 3.0 + number)  # 5 is pruned because of 4

    made = run(score, AHEAD, n_workers=2)
    assert [trial.state.name[0] for trial in made] == list("CCCCCPPP")


def test_mean_is_over_the_folds_so_far():
    (trial,) = run(lambda params, fold: [1.0, 2.0, 6.0][fold], 1, n_folds=3)
    assert trial.means == [1.0, 1.5, 3.0]
    assert trial.state == TrialState.COMPLETE


def test_failed_score_is_raised_with_number_and_parameters():
    def score(params, fold):
        raise ValueError("no such loss")

    with pytest.raises(RuntimeError, match=r"trial 0 with .'number': 0. failed: no such loss"):
        run(score, 2)


def test_trial_must_be_in_the_best_quarter_of_those_that_got_as_far():
    before = [attempt(k, value, value + 10) for k, value in enumerate((1.0, 2.0, 3.0, 4.0))]
    assert not falls_behind(attempt(4, 1.5), before, 1, 0.25)
    assert falls_behind(attempt(4, 2.5), before, 1, 0.25)
    assert falls_behind(attempt(4, 0.5, 12.5), before, 2, 0.25)


def test_trial_is_not_compared_with_those_that_were_pruned_earlier():
    before = [attempt(k, 1.0) for k in range(4)]
    assert falls_behind(attempt(4, 2.0, 9.0), before, 1, 0.25)
    assert not falls_behind(attempt(4, 2.0, 9.0), before, 2, 0.25)


def test_first_trials_go_on_whatever_they_are_worth():
    assert not falls_behind(attempt(3, 9.0), [attempt(k, 1.0) for k in range(3)], 1, 0.25)
