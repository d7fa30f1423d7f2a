"""A search whose trials several processes share: nothing twice, nothing lost, whoever dies."""

import subprocess
import sys
from collections import Counter

from lib.ground.files import ROOT
from lib.power import shared
from lib.power.tuning import SPACE, score
from lib.splits import time_folds

import numpy as np
import optuna
import pandas as pd
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
N_TRIALS = 12
WORKER = """
import sys, time
from lib.power import shared

def objective(trial):
    print("took", trial.user_attrs["place"], flush=True)
    time.sleep(float(sys.argv[2]))
    return trial.suggest_float("x", -1, 1) ** 2

shared.work("search", objective, seed=int(sys.argv[1]), beat_s=1)
"""


@pytest.fixture
def database(postgres_url, tmp_path, monkeypatch):
    monkeypatch.setenv(shared.STORAGE, postgres_url or f"sqlite:///{tmp_path}/tuning.db")


def start(seed, seconds):
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(seed), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_workers_trial_is_done_again_and_the_total_is_exact(database):
    study = shared.begin("search", N_TRIALS, beat_s=1)
    doomed = start(0, 600)
    assert doomed.stdout.readline().startswith("took")
    others = [start(seed, 0.5) for seed in (1, 2)]
    doomed.kill()
    said = [worker.communicate(timeout=240)[0] for worker in others]
    assert [worker.returncode for worker in others] == [0, 0]
    assert all("trial" in one for one in said), "the trials were not shared"
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] == N_TRIALS and states["RUNNING"] == states["WAITING"] == 0
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted(trial.user_attrs[shared.PLACE] for trial in complete) == list(range(N_TRIALS))
    (failed,) = [t for t in study.trials if t.state.name == "FAIL" and shared.PLACE in t.user_attrs]
    (again,) = [t for t in complete if t.system_attrs.get("failed_trial") == failed.number]
    assert again.user_attrs == failed.user_attrs


TAKE = """
import sys, time
from lib.power import shared

study, _ = shared.load("places")
print("ready", flush=True)
sys.stdin.readline()
while (taken := study._pop_waiting_trial_id()) is not None:
    print(taken)
    time.sleep(0.02)  # the lock of SQLite is not fair: the other one needs a gap
"""


def test_nobody_takes_a_place_twice_of_sqlite_either(tmp_path, monkeypatch):
    monkeypatch.setenv(shared.STORAGE, f"sqlite:///{tmp_path}/tuning.db")
    study = shared.begin("places", 60)
    command, pipe = [sys.executable, "-W", "ignore", "-c", TAKE], subprocess.PIPE
    both = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in "ab"]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    taken = [one.communicate(timeout=60)[0].split() for one in both]
    assert all(taken), "one alone took them all"
    assert sorted(int(place) for one in taken for place in one) == [
        trial._trial_id for trial in study.trials
    ]


def test_trial_of_a_worker_that_died_before_its_first_heartbeat_is_done_again(database):
    study = shared.begin("mute", 2, beat_s=1)
    lost = study.ask()
    shared.work("mute", lambda trial: 0.0, beat_s=1)
    found = Counter(
        (trial.state.name, trial.user_attrs.get(shared.PLACE)) for trial in study.trials
    )
    assert found == {("FAIL", 0): 1, ("COMPLETE", 0): 1, ("COMPLETE", 1): 1}
    assert study.trials[lost.number].state.name == "FAIL"


def test_more_trials_are_added_to_a_study_and_none_is_done_twice(database):
    values = iter(range(100))
    shared.begin("again", 3)
    shared.work("again", lambda trial: next(values))
    shared.begin("again", 5)
    study = shared.work("again", lambda trial: next(values))
    assert [trial.value for trial in study.trials] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="TUNING_STORAGE holds no study unknown"):
        shared.work("unknown", lambda trial: 0.0)


def test_worker_that_comes_too_late_for_the_last_place_leaves_no_trial_behind(database):
    study = shared.begin("late", 1)
    taken = study.ask()

    def objective(trial):
        raise AssertionError("it has no place")

    with pytest.MonkeyPatch.context() as patch:
        left = iter([[study.trials[0]], []])
        waiting = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
        patch.setattr(shared, "_left", lambda study: next(left) and [waiting])
        shared.work("late", objective)
    study.tell(taken, 1.0)
    assert [t.state.name for t in study.trials if shared.PLACE in t.user_attrs] == ["COMPLETE"]


def test_a_trial_of_lightgbm_is_scored_as_the_embedded_search_scores_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = x[:, 0] + 0.1 * rng.normal(size=400)
    folds, params = time_folds(400, 2, 1), {"learning_rate": 0.2, "seed": 0}
    study = optuna.create_study()
    study.optimize(shared.lightgbm_objective(x, y, folds, params), n_trials=2)
    for trial in study.trials:
        assert trial.params.keys() == SPACE.keys()
        rmse, _ = score(x, y, folds, params | trial.params, max_rounds=1000)
        assert trial.value == pytest.approx(np.mean(rmse)) and trial.value < y.std()


def test_features_without_the_last_value_are_refused_in_words():
    table = pd.DataFrame({"power_kw_lag_1": 1.0, "power_kw": 2.0}, pd.date_range("2026", periods=9))
    split = {"valid_end": "2026-01-08", "target": "power_kw", "horizon": 1}
    with pytest.raises(ValueError, match="lags must hold 0"):
        shared.searched(table, split, "level", 2)
