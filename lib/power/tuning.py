"""Hyper-parameter search for LightGBM on time-ordered folds, with Optuna.

`tune` takes the rows of training and validation only, in order of time, and returns an Optuna study
whose best trial has the lowest mean RMSE over the folds. The rows are binned once: every fold of
every trial is a subset of one LightGBM Dataset. A trial that falls behind the others after a fold
is pruned. The study lives in a journal file, so that a killed search continues where it stopped.
The same seed gives the same trials, whatever the number of workers, and whether or not the search
was killed on the way; `lib.power.search` says how. Where a time is set, it depends on the machine
how many there are, and nothing else. Workers are threads: LightGBM works outside of Python's lock.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from lib.power.search import AHEAD, Attempt, Params, search
from lib.power.study import open_study
from lib.splits import Fold

import lightgbm as lgb
import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

Draw = Callable[[Sequence[Attempt]], Params]
FIXED: Params = {
    "objective": "regression",
    "metric": "rmse",
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "force_col_wise": True,
    "verbosity": -1,
}
SPACE: dict[str, IntDistribution | FloatDistribution] = {
    "num_leaves": IntDistribution(8, 128, log=True),
    "min_data_in_leaf": IntDistribution(5, 300, log=True),
    "feature_fraction": FloatDistribution(0.3, 1.0),
    "bagging_fraction": FloatDistribution(0.4, 1.0),
    "lambda_l1": FloatDistribution(1e-3, 30.0, log=True),
    "lambda_l2": FloatDistribution(1e-3, 100.0, log=True),
}
"""What is searched, and where.

The learning rate is not among it: a smaller one is better at the price of more rounds, so it is
held while searching and lowered for the result, by `rescale`.
"""

START: Params = {
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "lambda_l1": 0.1,
    "lambda_l2": 1.0,
}
"""The first trial of TPE."""

GRID: dict[str, tuple[int | float, ...]] = {
    "num_leaves": (15, 31, 63),
    "min_data_in_leaf": (20, 80, 250),
    "feature_fraction": (0.5, 0.8),
    "bagging_fraction": (0.8,),
    "lambda_l1": (0.1,),
    "lambda_l2": (1.0, 30.0),
}
"""A few values of each, within `SPACE`."""

MAX_BIN, MAX_ROUNDS, PATIENCE = 63, 1000, 20
KEEP = 0.12  # fraction of the trials that goes on after a fold
REPORT_EVERY_S = 20.0


def shared_datasets(
    whole: lgb.Dataset, folds: Sequence[Fold]
) -> list[tuple[lgb.Dataset, lgb.Dataset]]:
    """Return each fold's training and validation rows as subsets of one binned Dataset.

    The edges of the bins come from all rows of `whole`, validation rows included; targets play no
    part in them.

    Parameters
    ----------
    whole : lightgbm.Dataset
        All rows of training and validation; constructed here unless it is already.
    folds : sequence of Fold

    Returns
    -------
    list of (lightgbm.Dataset, lightgbm.Dataset)
        Constructed; they may be used for any number of trainings whose parameters leave the bins
        as they are.
    """
    rows = range(whole.construct().num_data())
    return [
        (whole.subset(list(rows[train])).construct(), whole.subset(list(rows[valid])).construct())
        for train, valid in folds
    ]


def score(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    params: Params,
    *,
    max_rounds: int = 5000,
    patience: int = PATIENCE,
) -> tuple[list[float], list[int]]:
    """Train on every fold until its validation RMSE stops falling.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_features), float32 or float64
        Features in order of time; NaN is missing.
    y : ndarray of shape (n_rows,), float32 or float64
        Targets.
    folds : sequence of Fold
    params : dict
        Parameters of LightGBM.
    max_rounds, patience : int
        Most trees of one training, and how many of them may pass without a better RMSE.

    Returns
    -------
    rmse : list of float
        Lowest validation RMSE of each fold, in units of the target.
    rounds : list of int
        Trees at which it was reached.
    """
    params = {**FIXED, **params, "num_threads": 1}
    whole = lgb.Dataset(x, y, params=params)
    results = [
        _train(params, train, valid, max_rounds, patience)
        for train, valid in shared_datasets(whole, folds)
    ]
    return [rmse for rmse, _ in results], [rounds for _, rounds in results]


def tune(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    study_path: Path,
    *,
    sampler: str = "tpe",
    n_trials: int = 50,
    timeout_s: float | None = None,
    n_workers: int = 1,
    objective: str = "regression",
    learning_rate: float = 0.1,
    seed: int = 0,
    report: Callable[[str], object] = print,
) -> optuna.Study:
    """Search the parameters of LightGBM with the lowest mean validation RMSE over `folds`.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_features), float32 or float64
        Features of the training and validation rows in order of time; NaN is missing.
    y : ndarray of shape (n_rows,), float32 or float64
        Targets, finite.
    folds : sequence of Fold
        See `lib.splits.time_folds`. Scored in the order given; the cheapest first prunes soonest.
    study_path : Path
        Journal file, on a local disk; made if missing. A search of the same data and settings goes
        on in it, any other begins beside it. It holds trials that have ended, in order of number.
    sampler : {"tpe", "grid"}, default "tpe"
        Optuna's tree-structured Parzen estimator in `SPACE`, or every combination of `GRID` once,
        in an order drawn by the seed.
    n_trials : int, default 50
        Trials in the study at the end, complete and pruned, those of earlier calls included. A
        grid ends when it is through.
    timeout_s : float, optional
        Start no trial after so many seconds of this call; those under way are finished.
    n_workers : int, default 1
        Threads that train, each a fold of a trial with one thread of LightGBM. More than
        `lib.power.search.AHEAD` find no work.
    objective : str, default "regression"
        Loss of LightGBM; trials are judged by RMSE whatever it is.
    learning_rate : float, default 0.1
        Of every trial.
    seed : int, default 0
        Sampler, order of the grid, and LightGBM.
    report : callable, default print
        Receives a line of progress at most every `REPORT_EVERY_S` seconds, the first one after
        so many.

    Returns
    -------
    optuna.Study

    Raises
    ------
    RuntimeError
        If another process tunes in `study_path`, or a training fails.
    """
    params = trial_params(objective, learning_rate, seed)
    settings = (folds, params, MAX_ROUNDS, PATIENCE, KEEP, AHEAD, sampler, SPACE, START, GRID)
    with open_study(study_path, _digest(x, y, settings)) as study:
        study.set_user_attr("params", params)
        draw, n_trials = _sampler(sampler, n_trials, seed)
        finished = [_attempt(trial) for trial in study.get_trials(deepcopy=False)]
        if len(finished) < n_trials:
            whole = lgb.Dataset(x, y, params={**params, "num_threads": n_workers}).construct()
            free = [shared_datasets(whole, folds) for _ in range(n_workers)]

            def score_fold(chosen: Params, place: int) -> float:
                datasets = free.pop()
                try:
                    trained = {**params, **chosen, "num_threads": 1}
                    return _train(trained, *datasets[place], MAX_ROUNDS, PATIENCE)[0]
                finally:
                    free.append(datasets)

            began = reported = time.monotonic()
            for trial in search(
                finished,
                draw,
                score_fold,
                n_trials=n_trials,
                n_folds=len(folds),
                n_workers=n_workers,
                keep=KEEP,
                timeout_s=timeout_s,
            ):
                study.add_trial(_frozen(trial))
                if (now := time.monotonic()) - reported >= REPORT_EVERY_S:
                    reported = now
                    report(
                        f"trial {trial.number + 1}/{n_trials} · best RMSE {study.best_value:.4f} · "
                        f"{now - began:.0f} s elapsed"
                    )
    return study


def trial_params(objective: str, learning_rate: float, seed: int) -> Params:
    """Return the parameters of LightGBM that all trials of a search have."""
    own = {"objective": objective, "learning_rate": learning_rate}
    return {**FIXED, **own, "max_bin": MAX_BIN, "seed": seed}


def rescale(
    study: optuna.Study,
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    *,
    learning_rate: float = 0.03,
    n_finalists: int = 1,
    n_workers: int = 1,
) -> tuple[Params, list[float]]:
    """Score the best trials again at a lower learning rate and return the best of them.

    Parameters that are best at the rate of the search need not be best at a lower one; among the
    first few the difference is of the size of chance.

    Parameters
    ----------
    study : optuna.Study
        As returned by `tune`, or shared by many machines: see `lib.power.shared`.
    x, y, folds
        As given to `tune`.
    learning_rate : float, default 0.03
        Shrinkage of the result. The patience grows as the rate falls.
    n_finalists : int, default 1
        Complete trials that are scored again, the best ones.
    n_workers : int, default 1
        Threads that score them.

    Returns
    -------
    params : dict
        Parameters of LightGBM, ready for `lightgbm.train`, and ``num_boost_round``: the mean over
        the folds of the trees at which validation RMSE was lowest.
    rmse : list of float
        Validation RMSE of each fold, in units of the target.
    """
    trained = study.user_attrs["params"]
    patience = math.ceil(PATIENCE * max(trained["learning_rate"] / learning_rate, 1))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = sorted(complete, key=lambda trial: trial.value)[:n_finalists]
    finalists = [{**trained, **trial.params, "learning_rate": learning_rate} for trial in best]
    again = partial(score, x, y, folds, patience=patience)
    with ThreadPoolExecutor(n_workers) as pool:
        results = list(pool.map(again, finalists))
    params, (rmse, rounds) = min(
        zip(finalists, results, strict=True), key=lambda pair: np.mean(pair[1][0])
    )
    return {**params, "num_boost_round": round(float(np.mean(rounds)))}, rmse


def _sampler(name: str, n_trials: int, seed: int) -> tuple[Draw, int]:
    """Return what draws the parameters of a trial, and how many trials there can be."""
    if name == "tpe":
        return _tpe(seed), n_trials
    grid = list(product(*GRID.values()))
    order = np.random.default_rng(seed).permutation(len(grid))
    points = [dict(zip(GRID, grid[k], strict=True)) for k in order]
    return lambda trials: points[len(trials)], min(n_trials, len(points))


def _tpe(seed: int) -> Draw:
    """Return what draws by TPE, from the results that `lib.power.search` lets it know.

    A study in memory is told of those alone. Draws depend on the seed, the number of the trial and
    that study, so a search that goes on begins with asking and telling again what has been.
    """
    seen, asked = optuna.create_study(), []

    def draw(trials: Sequence[Attempt]) -> Params:
        for number in range(len(asked), len(trials) + 1):
            if number >= AHEAD:
                _tell(seen, asked[number - AHEAD], trials[number - AHEAD])
            if number < len(trials):
                seen.enqueue_trial(trials[number].params)
            elif number == 0:
                seen.enqueue_trial(START)
            draws = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            seen.sampler = optuna.samplers.TPESampler(seed=draws, multivariate=True)
            asked.append(seen.ask(fixed_distributions=SPACE))
        return asked[-1].params

    return draw


def _tell(study: optuna.Study, asked: optuna.Trial, trial: Attempt) -> None:
    """Tell a study what became of a trial that it was asked for."""
    for n_folds, mean in enumerate(trial.means, start=1):
        asked.report(mean, n_folds)
    value = trial.means[-1] if trial.state == TrialState.COMPLETE else None
    study.tell(asked, value, trial.state)


def _frozen(trial: Attempt) -> FrozenTrial:
    """Return a trial that has ended as Optuna keeps it."""
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.means[-1],
        params=trial.params,
        distributions=SPACE,
        intermediate_values=dict(enumerate(trial.means, start=1)),
    )


def _attempt(trial: FrozenTrial) -> Attempt:
    """Return a trial that Optuna has kept."""
    means = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return Attempt(trial.number, trial.params, trial.state, means)


def _train(
    params: Params, train: lgb.Dataset, valid: lgb.Dataset, max_rounds: int, patience: int
) -> tuple[float, int]:
    model = lgb.train(
        params,
        train,
        max_rounds,
        valid_sets=[valid],
        callbacks=[lgb.early_stopping(patience, verbose=False)],
    )
    return float(model.best_score["valid_0"]["rmse"]), model.best_iteration


def _digest(x: np.ndarray, y: np.ndarray, settings: tuple) -> str:
    """Return a name for what the trials of one search have in common."""
    digest = hashlib.sha256(repr((x.shape, x.dtype, y.dtype, settings)).encode())
    digest.update(np.ascontiguousarray(x))
    digest.update(np.ascontiguousarray(y))
    return digest.hexdigest()
