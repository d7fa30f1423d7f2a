"""Hyper-parameter search for LightGBM on time-ordered folds, with Optuna.

`tune` takes the rows of training and validation only, in order of time, and returns an Optuna study
whose best trial has the lowest mean RMSE over the folds. The rows are binned once: every fold of
every trial is a subset of one LightGBM Dataset. A trial that falls behind the others after a fold
is pruned. The study lives in a journal file, so that a killed search continues where it stopped;
with one worker it then gives the same trials as a search that was never interrupted. With several
workers the order in which trials end, and with it what the sampler learns from, depends on the
machine. Workers are threads: LightGBM works outside of Python's lock.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from lib.power.study import DONE, FINISHED, MADE_FROM, RUNNING, STATE, n_done, open_study
from lib.splits import Fold

import lightgbm as lgb
import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import FrozenTrial, TrialState

Params = dict[str, int | float | str | bool]
FIXED: Params = {
    "objective": "regression",
    "metric": "rmse",
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "force_col_wise": True,
    "verbosity": -1,
}
START: Params = {
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "lambda_l1": 0.1,
    "lambda_l2": 1.0,
}


def search_space(sampler: str = "tpe") -> dict[str, BaseDistribution]:
    """Return the parameters of LightGBM that are searched, and where.

    The learning rate is not among them: a smaller one is better at the price of more rounds, so it
    is held while searching and lowered for the result, by `rescale`.

    Parameters
    ----------
    sampler : {"tpe", "grid"}, default "tpe"
        Ranges for TPE, or a few values of each for the grid.

    Returns
    -------
    dict of str to optuna.distributions.BaseDistribution

    Raises
    ------
    ValueError
        If `sampler` is neither.
    """
    if sampler == "tpe":
        return {
            "num_leaves": IntDistribution(8, 128, log=True),
            "min_data_in_leaf": IntDistribution(5, 300, log=True),
            "feature_fraction": FloatDistribution(0.3, 1.0),
            "bagging_fraction": FloatDistribution(0.4, 1.0),
            "lambda_l1": FloatDistribution(1e-3, 30.0, log=True),
            "lambda_l2": FloatDistribution(1e-3, 100.0, log=True),
        }
    if sampler == "grid":
        return {
            "num_leaves": CategoricalDistribution((15, 31, 63)),
            "min_data_in_leaf": CategoricalDistribution((20, 80, 250)),
            "feature_fraction": CategoricalDistribution((0.5, 0.8)),
            "bagging_fraction": CategoricalDistribution((0.8,)),
            "lambda_l1": CategoricalDistribution((0.1,)),
            "lambda_l2": CategoricalDistribution((1.0, 30.0)),
        }
    raise ValueError(f"sampler={sampler!r}: choose one of tpe, grid")


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
    whole.construct()
    n_rows = whole.num_data()
    rows = range(n_rows)
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
    patience: int = 20,
    n_threads: int = 1,
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
    n_threads : int, default 1
        Threads of LightGBM.

    Returns
    -------
    rmse : list of float
        Lowest validation RMSE of each fold, in units of the target.
    rounds : list of int
        Trees at which it was reached.
    """
    params = {**FIXED, **params, "num_threads": n_threads}
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
    space: Mapping[str, BaseDistribution] | None = None,
    start: Params | None = None,
    n_trials: int = 50,
    timeout_s: float | None = None,
    n_workers: int = 1,
    objective: str = "regression",
    learning_rate: float = 0.1,
    max_rounds: int = 1000,
    patience: int = 20,
    max_bin: int = 63,
    keep: float = 0.12,
    seed: int = 0,
    resume: bool = True,
    report: Callable[[str], object] | None = None,
    report_every_s: float = 20.0,
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
        Journal file of the study, on a local disk; made if missing.
    sampler : {"tpe", "grid"}, default "tpe"
        Optuna's tree-structured Parzen estimator, or every combination of the grid once, in an
        order drawn by the seed.
    space : mapping of str to distribution, optional
        What to search; `search_space(sampler)` by default. A grid takes categorical ones only.
    start : dict, optional
        First trial of TPE; `START` by default where it lies within `space`.
    n_trials : int, default 50
        Finished trials in the study at the end, complete and pruned, those of earlier calls
        included. A grid ends when it is through.
    timeout_s : float, optional
        Start no trial after so many seconds of this call; those under way are finished.
    n_workers : int, default 1
        Threads that train, each a trial of its own with one thread of LightGBM.
    objective : str, default "regression"
        Loss of LightGBM; trials are judged by RMSE whatever it is.
    learning_rate, max_rounds, patience, max_bin
        How every trial is trained: see `score`.
    keep : float, default 0.12
        Fraction of the trials that goes on after a fold, by the mean RMSE so far; 1 prunes none.
    seed : int, default 0
        Sampler, order of the grid, and LightGBM.
    resume : bool, default True
        Continue the study in `study_path`; otherwise it is set aside and a new one begun.
    report : callable, optional
        Receives a line of progress at most every `report_every_s` seconds, the first one after
        so many.
    report_every_s : float, default 20

    Returns
    -------
    optuna.Study

    Raises
    ------
    ValueError
        If an option is out of its range, `y` holds a number that is not finite, or `study_path`
        holds an unfinished study of other data or settings.
    RuntimeError
        If another process tunes in `study_path`, or a training fails.
    """
    default = search_space(sampler)
    space = dict(default if space is None else space)
    if start is None:
        start = {name: START[name] for name in space if name in START}
    params = {
        **FIXED,
        "objective": objective,
        "learning_rate": learning_rate,
        "max_bin": max_bin,
        "seed": seed,
    }
    _check(y, sampler, space)
    made_from = {
        **_digests(x, y, folds),
        "search space": json.dumps([{k: distribution_to_json(d) for k, d in space.items()}, start]),
        "training": json.dumps([params, max_rounds, patience]),
        "sampler": f"{sampler}, keep={keep}, seed={seed}",
    }
    with open_study(study_path, made_from, keep=keep, resume=resume) as study:
        n_left = _plan(study, sampler, space, start, n_trials, seed)
        if n_left > 0:
            study.set_user_attr(STATE, RUNNING)
            whole = lgb.Dataset(x, y, params={**params, "num_threads": n_workers}).construct()
            free = [shared_datasets(whole, folds) for _ in range(n_workers)]
            errors: list[Exception] = []

            def value(trial: optuna.Trial) -> float:
                datasets = free.pop()
                try:
                    return _score_trial(trial, space, params, datasets, max_rounds, patience)
                except lgb.basic.LightGBMError as error:
                    said = f"trial {trial.number} with {trial.params} failed: {error}"
                    errors.append(RuntimeError(said))
                    raise errors[-1] from error
                finally:
                    free.append(datasets)

            progress = _Progress(study, n_left, timeout_s, report, report_every_s)
            _reseed(study, seed)
            study.optimize(
                value,
                n_trials=n_left,
                timeout=timeout_s,
                n_jobs=n_workers,
                callbacks=[lambda study, _: _reseed(study, seed), progress],
            )
            if errors:  # Optuna raises none of the last trials of several threads
                raise errors[0]
        study.set_user_attr(STATE, FINISHED)
    return study


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
        As returned by `tune`.
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
    trained, _, patience = json.loads(study.user_attrs[MADE_FROM]["training"])
    patience = math.ceil(patience * max(trained["learning_rate"] / learning_rate, 1))
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


class _Progress:
    """Say now and then how far a search is: a callback of `optuna.Study.optimize`."""

    def __init__(
        self,
        study: optuna.Study,
        n_left: int,
        timeout_s: float | None,
        report: Callable[[str], object] | None,
        every_s: float,
    ) -> None:
        self.n_before, self.n_left, self.timeout_s = n_done(study), n_left, timeout_s
        self.report, self.every_s = report, every_s
        self.began = self.reported = time.monotonic()

    def __call__(self, study: optuna.Study, _: FrozenTrial) -> None:
        now = time.monotonic()
        if self.report is None or now - self.reported < self.every_s:
            return
        self.reported = now
        elapsed, n_new = now - self.began, n_done(study) - self.n_before
        left = elapsed / n_new * (self.n_left - n_new)
        if self.timeout_s is not None:
            left = max(min(left, self.timeout_s - elapsed), 0)
        self.report(
            f"trial {self.n_before + n_new}/{self.n_before + self.n_left} · best RMSE "
            f"{study.best_value:.4f} · {elapsed:.0f} s elapsed · {left:.0f} s left"
        )


def _plan(
    study: optuna.Study,
    sampler: str,
    space: Mapping[str, BaseDistribution],
    start: Params,
    n_trials: int,
    seed: int,
) -> int:
    """Queue the start of TPE, or the combinations a grid still lacks; return the trials to make."""
    states = (*DONE, TrialState.WAITING)
    known = [
        trial.system_attrs.get("fixed_params", trial.params)
        for trial in study.get_trials(deepcopy=False, states=states)
    ]
    if sampler == "grid":
        values = product(*(where.choices for where in space.values()))
        grid = [dict(zip(space, combination, strict=True)) for combination in values]
        order = np.random.default_rng(seed).permutation(len(grid))
        n_trials = min(n_trials, len(grid))
        queue = [grid[k] for k in order if grid[k] not in known][: n_trials - len(known)]
    else:
        queue = [start] if start and not known else []
    for params in queue:
        study.enqueue_trial(params)
    return n_trials - n_done(study)


def _reseed(study: optuna.Study, seed: int) -> None:
    """Make the draws of the next trial depend on the seed and its place alone."""
    place = len(study.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING)))
    draws = np.random.SeedSequence([seed, place]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(draws[0]), multivariate=True)


def _score_trial(
    trial: optuna.Trial,
    space: Mapping[str, BaseDistribution],
    params: Params,
    datasets: list[tuple[lgb.Dataset, lgb.Dataset]],
    max_rounds: int,
    patience: int,
) -> float:
    """Return the mean RMSE over the folds, unless the trial is pruned on the way."""
    for name, where in space.items():
        if isinstance(where, CategoricalDistribution):
            trial.suggest_categorical(name, where.choices)
        else:
            is_int = isinstance(where, IntDistribution)
            suggest = trial.suggest_int if is_int else trial.suggest_float
            suggest(name, where.low, where.high, log=where.log)
    params = {**params, **trial.params, "num_threads": 1}
    rmse: list[float] = []
    for train, valid in datasets:
        rmse.append(_train(params, train, valid, max_rounds, patience)[0])
        trial.report(float(np.mean(rmse)), len(rmse))
        if len(rmse) < len(datasets) and trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(rmse))


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


def _check(y: np.ndarray, sampler: str, space: Mapping[str, BaseDistribution]) -> None:
    wrong = np.flatnonzero(~np.isfinite(y))
    if wrong.size:
        raise ValueError(
            f"y holds {y[wrong[0]]} in row {wrong[0]} ({wrong.size} such rows): drop the rows "
            "without a target first"
        )
    for name, distribution in space.items():
        if sampler == "grid" and not isinstance(distribution, CategoricalDistribution):
            raise ValueError(f"{name}: a grid needs CategoricalDistribution, not {distribution}")


def _digests(x: np.ndarray, y: np.ndarray, folds: Sequence[Fold]) -> dict[str, str]:
    data = hashlib.sha256(f"{x.shape}{x.dtype}{y.dtype}".encode())
    data.update(np.ascontiguousarray(x))
    data.update(np.ascontiguousarray(y))
    cuts = [(f.train.start, f.train.stop, f.valid.start, f.valid.stop) for f in folds]
    return {"data": data.hexdigest(), "folds": str(cuts)}
