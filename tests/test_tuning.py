"""Tuning: one shared Dataset, the same trials with any number of threads and after any kill."""

import math
import os
import random
import subprocess
import sys
import textwrap
import time

from lib.ground.files import ROOT
from lib.power import tuning
from lib.power.study import open_study
from lib.power.trials import history_chart, parameter_importance, trials_frame
from lib.power.tuning import score, shared_datasets, tune
from lib.splits import time_folds

import lightgbm as lgb
import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

SPACE = {
    "num_leaves": IntDistribution(2, 15),
    "lambda_l2": FloatDistribution(1e-2, 1e4, log=True),
}
GRID = {"num_leaves": (2, 4, 8), "lambda_l2": (0.1, 10.0)}
DEFAULTS = {name: getattr(tuning, name) for name in ("SPACE", "START", "GRID")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Search little, and train short."""
    for name, value in {"SPACE": SPACE, "START": {}, "GRID": GRID}.items():
        monkeypatch.setattr(tuning, name, value)
    monkeypatch.setattr(tuning, "MAX_ROUNDS", 20)
    monkeypatch.setattr(tuning, "PATIENCE", 5)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    return x, x[:, 0] + np.sin(3 * x[:, 1]) + rng.normal(scale=0.1, size=600)


@pytest.fixture
def folds():
    return time_folds(600, 3, 1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.log"


def done(study):
    return [(t.number, t.params, t.value, t.state, t.intermediate_values) for t in study.trials]


def load(path):
    """Return the last study of a journal."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    name = optuna.get_all_study_names(storage)[-1]
    return optuna.load_study(study_name=name, storage=storage)


def test_subset_scores_exactly_as_fresh_datasets_with_the_same_bins(data, folds, tmp_path):
    x, y = data
    params = {**tuning.FIXED, "num_threads": 1, "seed": 1, "bagging_fraction": 0.7, "max_bin": 63}
    whole = lgb.Dataset(x, y, params=params).construct()
    whole.save_binary(str(tmp_path / "binned"))
    from_file = lgb.Dataset(str(tmp_path / "binned"), params=params)
    expected = []
    for train, valid in folds:
        fresh = [
            lgb.Dataset(x[rows], y[rows], reference=whole, params=params) for rows in (train, valid)
        ]
        expected.append(tuning._train(params, *fresh, 50, 5))
    for shared in (whole, from_file):
        assert [
            tuning._train(params, *pair, 50, 5) for pair in shared_datasets(shared, folds)
        ] == expected


def test_shared_dataset_serves_parameters_that_would_change_a_filtered_one(data, folds):
    x, y = data
    whole = lgb.Dataset(x, y, params={**tuning.FIXED, "num_threads": 1})
    ((train, valid), *_) = shared_datasets(whole, folds)
    scores = {
        tuning._train(
            {**tuning.FIXED, "min_data_in_leaf": least, "num_threads": 1}, train, valid, 5, 5
        )
        for least in (100, 5)
    }
    assert len(scores) == 2


def test_score_is_the_rmse_of_the_mean_when_no_split_is_allowed(data, folds):
    x, y = data
    rmse, _ = score(x, y, folds, {"min_data_in_leaf": 600, "learning_rate": 1.0}, max_rounds=1)
    for value, (train, valid) in zip(rmse, folds, strict=True):
        assert value == pytest.approx(np.sqrt(np.mean((y[valid] - y[train].mean()) ** 2)), rel=1e-5)


@pytest.mark.slow
def test_search_finds_more_leaves_and_repeats_itself(data, folds, tmp_path):
    first = tune(*data, folds, tmp_path / "a.log", n_trials=12)
    second = tune(*data, folds, tmp_path / "b.log", n_trials=12)
    assert done(first) == done(second)
    assert len({tuple(trial.params.items()) for trial in first.trials}) == 12
    assert first.best_params["num_leaves"] > 4
    assert first.best_value < np.std(data[1])


def test_value_of_a_complete_trial_is_the_mean_over_its_folds(data, folds, path):
    study = tune(*data, folds, path, n_trials=1)
    params = {**study.user_attrs["params"], **study.best_params}
    rmse, _ = score(*data, folds, params, max_rounds=20, patience=5)
    assert study.best_value == pytest.approx(np.mean(rmse), rel=1e-12)


def test_first_trial_is_the_good_start(data, folds, path, monkeypatch):
    for name, value in DEFAULTS.items():
        monkeypatch.setattr(tuning, name, value)
    study = tune(*data, folds, path, n_trials=1)
    assert study.trials[0].params == tuning.START


def test_grid_visits_every_combination_once_even_when_resumed(data, folds, path):
    tune(*data, folds, path, n_trials=4, sampler="grid")
    study = tune(*data, folds, path, n_trials=50, sampler="grid")
    visited = sorted((t.params["num_leaves"], t.params["lambda_l2"]) for t in study.trials)
    assert visited == [(n, l2) for n in (2, 4, 8) for l2 in (0.1, 10.0)]


@pytest.mark.slow
def test_hopeless_trial_is_pruned_after_its_first_fold(data, folds, path, monkeypatch):
    monkeypatch.setattr(tuning, "GRID", {"num_leaves": (12, 13, 14, 2), "lambda_l2": (0.1, 1, 2)})
    study = tune(*data, folds, path, n_trials=12, sampler="grid")
    frame = trials_frame(study)
    worst = frame[(frame["num_leaves"] == 2) & (frame.index >= 4)]
    assert (frame["state"] == "pruned").any()
    assert (worst["state"] == "pruned").all() and (worst["n_folds"] == 1).all()
    assert frame["state"].eq("complete").sum() >= 4


@pytest.mark.slow
def test_timeout_ends_the_search_with_at_least_one_complete_trial(data, folds, path):
    study = tune(*data, folds, path, n_trials=10_000, timeout_s=0.3)
    assert 1 <= len(study.trials) < 10_000
    assert study.best_value > 0


def test_progress_names_place_best_and_time_and_keeps_its_rate(data, folds, path, monkeypatch):
    lines = []
    monkeypatch.setattr(tuning, "REPORT_EVERY_S", 0)
    tune(*data, folds, path, n_trials=3, report=lines.append)
    assert len(lines) == 3
    assert lines[-1].startswith("trial 3/3 · best RMSE 0.")
    assert lines[-1].endswith("s elapsed")
    monkeypatch.setattr(tuning, "REPORT_EVERY_S", 60)
    tune(*data, folds, path, n_trials=5, report=lines.append)
    assert len(lines) == 3


@pytest.mark.slow
def test_rescale_lowers_the_rate_and_keeps_the_best_parameters(data, folds, path):
    study = tune(*data, folds, path, n_trials=5)
    params, rmse = tuning.rescale(study, *data, folds, learning_rate=0.05)
    assert params.items() >= study.best_params.items()
    assert (params["learning_rate"], params["max_bin"]) == (0.05, 63)
    assert params["num_boost_round"] > 20
    assert len(rmse) == 3 and np.mean(rmse) < study.best_value


@pytest.mark.slow
def test_rescale_returns_the_best_of_the_finalists(data, folds, path, monkeypatch):
    monkeypatch.setattr(tuning, "KEEP", 1.0)
    study = tune(*data, folds, path, n_trials=8)
    ranked = sorted(study.trials, key=lambda trial: trial.value)
    second = ranked[1].params["lambda_l2"]

    def second_wins(x, y, folds, params, *, patience):
        assert patience == 10
        return [0.1 if params["lambda_l2"] == second else 0.2], [7, 8]

    monkeypatch.setattr(tuning, "score", second_wins)
    params, rmse = tuning.rescale(study, *data, folds, learning_rate=0.05, n_finalists=3)
    assert (params["lambda_l2"], params["num_boost_round"], rmse) == (second, 8, [0.1])
    params, rmse = tuning.rescale(study, *data, folds, learning_rate=0.05)
    assert params["lambda_l2"] == ranked[0].params["lambda_l2"]


def test_default_space_holds_the_start_and_the_grid_which_is_small():
    for name, where in DEFAULTS["SPACE"].items():
        values = (DEFAULTS["START"][name], *DEFAULTS["GRID"][name])
        assert all(where.low <= value <= where.high for value in values)
    assert np.prod([len(values) for values in DEFAULTS["GRID"].values()]) == 36


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
@pytest.mark.parametrize("n_workers", [2, 3])
def test_any_number_of_workers_gives_the_trials_of_one_in_whatever_order_they_end(
    data, folds, path, monkeypatch, sampler, n_workers
):
    train = tuning._train

    def train_now_fast_now_slowly(*args):
        time.sleep(random.choice([0, 0, 0.02]))
        return train(*args)

    monkeypatch.setattr(tuning, "GRID", {"num_leaves": (2, 4, 8, 12), "lambda_l2": (0.1, 1, 2, 9)})
    alone = tune(*data, folds, path, n_trials=30, sampler=sampler)
    monkeypatch.setattr(tuning, "_train", train_now_fast_now_slowly)
    path = path.with_name("together.log")
    together = tune(*data, folds, path, n_trials=30, sampler=sampler, n_workers=n_workers)
    assert {trial.state for trial in alone.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert done(together) == done(alone)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_search_killed_at_any_place_continues_as_if_never_interrupted(data, folds, path, sampler):
    options = {"n_trials": 22, "sampler": sampler}
    whole = done(tune(*data, folds, path, **options))
    journal = path.read_bytes()
    lock = path.with_name("study.log.lock")
    for n_workers, part in enumerate((0.02, 0.3, 0.55, 0.9), start=1):
        path.write_bytes(journal[: round(part * len(journal))])
        lock.symlink_to(path)
        began = time.monotonic()
        assert done(tune(*data, folds, path, n_workers=n_workers, **options)) == whole
        assert time.monotonic() - began < 20, "waited for the lock of a dead process"


@pytest.mark.slow
def test_search_of_more_trials_begins_with_those_of_fewer(data, folds, path):
    fewer = done(tune(*data, folds, path, n_trials=15, n_workers=2))
    more = done(tune(*data, folds, path, n_trials=24, n_workers=2))
    assert more[:15] == fewer
    assert more == done(tune(*data, folds, path.with_name("more.log"), n_trials=24))


@pytest.mark.slow
def test_search_that_ran_out_of_time_has_the_first_trials_of_one_that_did_not(data, folds, path):
    timed = done(tune(*data, folds, path, n_trials=10_000, timeout_s=0.3, n_workers=2))
    untimed = tune(*data, folds, path.with_name("untimed.log"), n_trials=len(timed))
    assert timed == done(untimed)


def test_finished_search_is_returned_without_another_trial(data, folds, path):
    tune(*data, folds, path, n_trials=4)
    assert len(tune(*data, folds, path, n_trials=3).trials) == 4


@pytest.mark.parametrize("change", ["data", "folds", "space", "learning rate", "seed"])
def test_search_of_other_data_or_settings_begins_beside_the_first(
    data, folds, path, monkeypatch, change
):
    x, y = data
    first = done(tune(x, y, folds, path, n_trials=2))
    if change == "data":
        y = y + 1.0
    elif change == "folds":
        folds = folds[:2]
    elif change == "space":
        monkeypatch.setattr(tuning, "SPACE", SPACE | {"num_leaves": IntDistribution(2, 16)})
    options = {"learning rate": {"learning_rate": 0.2}, "seed": {"seed": 1}}.get(change, {})
    assert len(tune(x, y, folds, path, n_trials=1, **options).trials) == 1
    monkeypatch.setattr(tuning, "SPACE", SPACE)
    again = tune(*data, time_folds(600, 3, 1), path, n_trials=3)
    assert done(again)[:2] == first and len(done(again)) == 3


def test_second_process_on_the_same_study_is_refused(data, folds, path):
    with (
        open_study(path, "any"),
        pytest.raises(RuntimeError, match="another process is tuning in .*study.log"),
    ):
        tune(*data, folds, path, n_trials=1)


@pytest.mark.slow
def test_search_killed_in_the_middle_of_its_trials_resumes(data, folds, tmp_path, monkeypatch):
    for name, value in DEFAULTS.items():
        monkeypatch.setattr(tuning, name, value)
    np.savez(tmp_path / "data.npz", x=data[0], y=data[1])
    path = tmp_path / "study.log"
    script = tmp_path / "search.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            import numpy as np
            from lib.power import tuning
            from lib.splits import time_folds

            data = np.load({str(tmp_path / "data.npz")!r})
            tuning.REPORT_EVERY_S, tuning.MAX_ROUNDS, tuning.PATIENCE = 0, 20, 5
            tuning.tune(
                data["x"], data["y"], time_folds(600, 3, 1), Path({str(path)!r}),
                n_trials=100_000, n_workers=2, report=lambda line: print(line, flush=True),
            )
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    search = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert search.stdout.readline().startswith("trial ")
    search.kill()
    search.wait()
    search.stdout.close()
    before = done(load(path))
    n_trials = len(before) + 2
    monkeypatch.setattr(tuning, "REPORT_EVERY_S", 60)
    study = tune(*data, folds, path, n_trials=n_trials)
    assert len(before) >= 1 and done(study)[: len(before)] == before
    assert done(study) == done(tune(*data, folds, tmp_path / "alone.log", n_trials=n_trials))


def test_training_without_a_number_is_worse_than_any(data, folds, path, monkeypatch):
    train = tuning._train
    values = iter([(math.nan, 1)] * len(folds))
    monkeypatch.setattr(tuning, "_train", lambda *args: next(values, None) or train(*args))
    study = tune(*data, folds, path, n_trials=6)
    assert study.trials[0].value == math.inf
    assert study.best_value < np.std(data[1])


@pytest.mark.parametrize("n_workers", [1, 2])
def test_failed_training_is_raised_with_its_parameters(data, folds, path, monkeypatch, n_workers):
    monkeypatch.setattr(tuning, "SPACE", {"num_leaves": IntDistribution(-1, -1)})
    with pytest.raises(RuntimeError, match=r"(?s)trial \d with .'num_leaves': -1. failed:.*Check"):
        tune(*data, folds, path, n_trials=2, n_workers=n_workers)


@pytest.mark.slow
def test_trials_frame_has_one_row_per_trial_and_no_times(data, folds, path):
    study = tune(*data, folds, path, n_trials=6)
    frame = trials_frame(study)
    assert list(frame.columns) == ["state", "rmse", "n_folds", "num_leaves", "lambda_l2"]
    assert frame.index.tolist() == list(range(6))


def test_importance_names_every_parameter_and_sums_to_one(data, folds, path):
    study = tune(*data, folds, path, n_trials=8)
    shares = parameter_importance(study)
    assert sorted(shares.index) == sorted(SPACE)
    assert shares.sum() == pytest.approx(1.0)


def test_chart_of_the_search_has_every_trial_with_its_parameters_and_the_best_so_far(
    data, folds, path
):
    study = tune(*data, folds, path, n_trials=8)
    frame = trials_frame(study)
    chart = history_chart(frame)
    series = {one["label"]: one["values"] for one in chart["series"]}
    assert chart["x"] == {"label": "trial", "time": False, "start": 0, "steps": 1}
    assert series["best"][-1] == pytest.approx(study.best_value, rel=1e-3)
    complete = frame["rmse"].where(frame["state"] == "complete")
    assert [v is None for v in series["complete"]] == complete.isna().tolist()
    third = frame.loc[3]
    expected = f"num_leaves {third['num_leaves']}, lambda_l2 {third['lambda_l2']:.4g}"
    assert chart["about"][3] == f"{third['state']}: {expected}"


def test_single_trial_tells_nothing_of_importance(data, folds, path):
    study = tune(*data, folds, path, n_trials=1)
    assert parameter_importance(study).empty
