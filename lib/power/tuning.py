"""Hyper-parameter search for LightGBM on time-ordered folds, with Optuna.

`tune` takes the rows of training and validation only, in order of time, and returns an Optuna study
whose best trial has the lowest mean RMSE over the folds. The rows are binned once: every fold of
every trial is a subset of one LightGBM Dataset. A trial that falls behind the others after a fold
is pruned. The study lives in a journal file, so that a killed search continues where it stopped;
with one worker it then gives the same trials as a search that was never interrupted. With several
workers the order in which trials end, and with it what the sampler learns from, depends on the
machine.
"""

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from multiprocessing import connection
from pathlib import Path

from lib.chart_file import MAX_TEXT
from lib.charts import lines
from lib.splits import Fold

import lightgbm as lgb
import numpy as np
import pandas as pd

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a bare kernel
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

SAMPLERS = ("tpe", "grid")
WINDOWS = ("expanding", "sliding")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
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
MAX_DEATHS = 3
GO_ON, STOP = "go on", "stop"


def time_folds(
    n_rows: int,
    n_folds: int,
    horizon: int,
    *,
    window: str = "expanding",
    first_fraction: float = 0.5,
) -> list[Fold]:
    """Cut rows in order of time into folds that train on the past and score what follows.

    The rows after the first `first_fraction` are cut into `n_folds` blocks of equal length, each
    scored by a model of the rows before it. The last `horizon` rows before a block are left out of
    its training: their targets lie within the block.

    Parameters
    ----------
    n_rows : int
        Rows of training and validation together, without the test rows.
    n_folds : int
        Blocks to score, at least 1.
    horizon : int
        Rows from a forecast's origin to its target, at least 1.
    window : {"expanding", "sliding"}, default "expanding"
        Train on all rows before the block, or on as many as the first fold has.
    first_fraction : float, default 0.5
        Fraction of the rows before the first block.

    Returns
    -------
    list of Fold
        In order of time.

    Raises
    ------
    ValueError
        If an option is out of its range or a fold would have no rows.
    """
    if window not in WINDOWS:
        raise ValueError(f"window={window!r}: choose one of {', '.join(WINDOWS)}")
    if n_folds < 1 or horizon < 1 or not 0 < first_fraction < 1:
        raise ValueError(
            f"n_folds={n_folds} and horizon={horizon} must be at least 1, "
            f"first_fraction={first_fraction} between 0 and 1"
        )
    first = round(n_rows * first_fraction)
    bounds = [first + (n_rows - first) * k // n_folds for k in range(n_folds + 1)]
    if first <= horizon or (n_rows - first) < n_folds:
        raise ValueError(
            f"{n_rows} rows are too few for {n_folds} folds with horizon {horizon} and "
            f"first_fraction {first_fraction}: give more rows or fewer folds"
        )
    begin = [0 if window == "expanding" else bound - first for bound in bounds]
    return [
        Fold(slice(begin[k], bounds[k] - horizon), slice(bounds[k], bounds[k + 1]))
        for k in range(n_folds)
    ]


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
    raise ValueError(f"sampler={sampler!r}: choose one of {', '.join(SAMPLERS)}")


def describe_space(space: Mapping[str, BaseDistribution]) -> pd.Series:
    """Return what is searched in words: the range of every parameter, or its values."""
    words = {}
    for name, where in space.items():
        if isinstance(where, CategoricalDistribution):
            words[name] = ", ".join(str(choice) for choice in where.choices)
        elif isinstance(where, IntDistribution | FloatDistribution):
            words[name] = f"{where.low:g} to {where.high:g}{', logarithmic' if where.log else ''}"
    return pd.Series(words, name="searched").rename_axis("parameter")


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
        See `time_folds`. Scored in the order given; the cheapest first prunes soonest.
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
        Processes that train, each with one thread; 1 trains in this process.
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
        If another process tunes in `study_path`, a training fails, or workers die repeatedly.
    """
    space = dict(search_space(sampler) if space is None else space)
    _check(x, y, folds, sampler, space, n_trials, n_workers, keep)
    params = {
        **FIXED,
        "objective": objective,
        "learning_rate": learning_rate,
        "max_bin": max_bin,
        "seed": seed,
    }
    training = _Training(params, max_rounds, patience)
    if start is None:
        start = {name: START[name] for name in space if name in START}
    made_from = _made_from(x, y, folds, sampler, space, start, training, keep, seed)
    study_path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_optuna(), _alone(study_path):
        study = _open_study(study_path, made_from, keep, resume=resume)
        search = _Search(study, sampler, space, start, n_trials, timeout_s, seed, report)
        search.every_s = report_every_s
        if search.wanted():
            study.set_user_attr("state", "running")
            whole = lgb.Dataset(x, y, params={**params, "num_threads": n_workers}).construct()
            if n_workers == 1:
                _search_here(search, training, shared_datasets(whole, folds))
            else:
                _search_in_workers(search, training, whole, folds, n_workers, study_path)
            study.set_user_attr("state", "finished")
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
        Processes that score them, each with one thread; 1 scores in this process.

    Returns
    -------
    params : dict
        Parameters of LightGBM, ready for `lightgbm.train`, and ``num_boost_round``: the mean over
        the folds of the trees at which validation RMSE was lowest.
    rmse : list of float
        Validation RMSE of each fold, in units of the target.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        If a worker dies.
    """
    training = study.user_attrs["training"]
    searched = training["params"]["learning_rate"]
    patience = math.ceil(training["patience"] * max(searched / learning_rate, 1))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = sorted(complete, key=lambda trial: trial.value)[:n_finalists]
    finalists = [
        {**training["params"], **trial.params, "learning_rate": learning_rate} for trial in best
    ]
    again = partial(score, x, y, folds, patience=patience)
    n_workers = min(n_workers, len(finalists))
    if n_workers == 1:
        results = [again(params) for params in finalists]
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(n_workers, spawn, _begin_worker) as pool:
            results = list(pool.map(again, finalists))
    params, (rmse, rounds) = min(
        zip(finalists, results, strict=True), key=lambda pair: np.mean(pair[1][0])
    )
    return {**params, "num_boost_round": round(float(np.mean(rounds)))}, rmse


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """Return one row per trial: state, mean RMSE over the folds it saw, their count, parameters.

    The value of a pruned trial is the mean over the folds it saw: compare it with trials that saw
    as many. Failed trials (their process was killed) have no value.
    """
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "rmse": trial.value if trial.state in DONE else math.nan,
            "n_folds": len(trial.intermediate_values),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return pd.DataFrame(rows).set_index("number")


def history_chart(study: optuna.Study, *, unit: str = "kW") -> dict:
    """Return the search as a chart for `run.write`: every trial with its parameters, and the best.

    Pruned trials are hidden at first: their value is the mean over the folds that they saw.
    """
    trials = trials_frame(study)
    complete = trials["rmse"].where(trials["state"] == "complete")
    frame = pd.DataFrame({"complete": complete, "best": complete.cummin().ffill()}, trials.index)
    partial = "pruned, over fewer folds"
    frame[partial] = trials["rmse"].where(trials["state"] == "pruned")
    names = trials.columns.drop(["state", "rmse", "n_folds"])
    return lines(
        frame,
        xlabel="trial",
        ylabel=f"mean validation RMSE ({unit})",
        kinds={"complete": "points", "best": "step", partial: "points"},
        muted=[partial],
        hidden=[partial],
        about=[
            f"{row['state']}: {_settings(row[names].dropna())}"[:MAX_TEXT]
            for _, row in trials.iterrows()
        ],
    )


def _settings(params: pd.Series) -> str:
    parts = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items())
    return ", ".join(parts)


def parameter_importance(study: optuna.Study) -> pd.Series:
    """Return how much each parameter matters for being among the best trials (PED-ANOVA).

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter
    Importance in Arbitrary Subspaces", IJCAI 2023, as implemented by Optuna, over complete trials.
    Fractions by parameter; empty with fewer than 3 of them, or no parameter that varies.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [
        name
        for name, distribution in (complete[0].distributions if complete else {}).items()
        if not distribution.single()
    ]
    if len(complete) < 3 or not varied:
        return pd.Series(dtype=float)
    with _quiet_optuna():
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return pd.Series(shares)


class FoldPruner(optuna.pruners.BasePruner):
    """Prune a trial whose mean RMSE so far is not among the best of those that got as far.

    Folds differ in difficulty, so a trial is compared with other trials at the same fold, never
    with itself at an earlier one, as Optuna's percentile pruner would.

    Parameters
    ----------
    keep : float
        Fraction of the trials that goes on after each fold.
    n_startup_trials : int, default 4
        Trials that must have been complete before any is pruned.
    """

    def __init__(self, keep: float, n_startup_trials: int = 4) -> None:
        self.keep = keep
        self.n_startup_trials = n_startup_trials

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether `trial` should stop after the fold it reported last."""
        step = trial.last_step
        trials = study.get_trials(deepcopy=False, states=DONE)
        n_complete = sum(other.state == TrialState.COMPLETE for other in trials)
        if step is None or n_complete < self.n_startup_trials:
            return False
        seen = [
            other.intermediate_values[step] for other in trials if step in other.intermediate_values
        ]
        value = trial.intermediate_values[step]
        n_better = sum(other < value for other in seen)
        return n_better >= self.keep * (len(seen) + 1)


@dataclass(frozen=True)
class _Training:
    params: Params
    max_rounds: int
    patience: int


@dataclass
class _Search:
    """What the searching process knows: which trial is next, which goes on, when to stop."""

    study: optuna.Study
    sampler: str
    space: dict[str, BaseDistribution]
    start: Params
    n_trials: int
    timeout_s: float | None
    seed: int
    report: Callable[[str], object] | None
    every_s: float = 20.0
    began: float = field(default_factory=time.monotonic)
    running: dict[int, optuna.Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reported = self.began
        done = self.study.get_trials(deepcopy=False, states=DONE)
        self.n_before = self.n_done = len(done)
        self.best = min((t.value for t in done if t.state == TrialState.COMPLETE), default=math.inf)
        self.combinations: list[Params] = []
        if self.sampler == "grid":
            values = product(*(d.choices for d in self.space.values()))
            grid = [dict(zip(self.space, combination, strict=True)) for combination in values]
            order = np.random.default_rng(self.seed).permutation(len(grid))
            visited = [trial.params for trial in done]
            self.combinations = [grid[i] for i in order if grid[i] not in visited]
            self.n_trials = min(self.n_trials, len(grid))

    def wanted(self) -> bool:
        """Tell whether another trial should be started."""
        n_started = self.n_done + len(self.running)
        late = self.timeout_s is not None and time.monotonic() - self.began > self.timeout_s
        return n_started < self.n_trials and (n_started == 0 or not late)

    def ask(self) -> optuna.Trial:
        """Start the next trial; its draws depend on the seed and its place alone."""
        place = self.n_done + len(self.running)
        draws = np.random.SeedSequence([self.seed, place]).generate_state(1)
        self.study.sampler = optuna.samplers.TPESampler(seed=int(draws[0]), multivariate=True)
        if self.sampler == "grid":
            self.study.enqueue_trial(self.combinations.pop(0))
        elif place == 0 and self.start:
            self.study.enqueue_trial(self.start)
        trial = self.study.ask(fixed_distributions=self.space)
        self.running[trial.number] = trial
        return trial

    def goes_on(self, trial: optuna.Trial, rmse: list[float], n_folds: int) -> bool:
        """Note the folds scored so far, end the trial where it must end, and tell if it goes on."""
        value = float(np.mean(rmse))
        trial.report(value, len(rmse))
        complete = len(rmse) == n_folds
        if not complete and not trial.should_prune():
            return True
        if complete:
            self.study.tell(trial, value)
            self.best = min(self.best, value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)
        del self.running[trial.number]
        self.n_done += 1
        self._progress()
        return False

    def fail(self, trial: optuna.Trial) -> None:
        """Give up a trial whose worker died; it does not count, and a grid tries it again."""
        self.study.tell(trial, state=TrialState.FAIL)
        del self.running[trial.number]
        if self.sampler == "grid":
            self.combinations.insert(0, trial.params)

    def _progress(self) -> None:
        now = time.monotonic()
        if self.report is None or now - self.reported < self.every_s:
            return
        self.reported = now
        elapsed = now - self.began
        left = elapsed / (self.n_done - self.n_before) * (self.n_trials - self.n_done)
        if self.timeout_s is not None:
            left = max(min(left, self.timeout_s - elapsed), 0)
        self.report(
            f"trial {self.n_done}/{self.n_trials} · best RMSE {self.best:.4f} · "
            f"{elapsed:.0f} s elapsed · {left:.0f} s left"
        )


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


def _search_here(
    search: _Search, training: _Training, datasets: list[tuple[lgb.Dataset, lgb.Dataset]]
) -> None:
    while search.wanted():
        trial = search.ask()
        params = {**training.params, **trial.params, "num_threads": 1}
        rmse: list[float] = []
        for train, valid in datasets:
            rmse.append(_train(params, train, valid, training.max_rounds, training.patience)[0])
            if not search.goes_on(trial, rmse, len(datasets)):
                break


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    trial: optuna.Trial | None = None
    rmse: list[float] = field(default_factory=list)


def _search_in_workers(
    search: _Search,
    training: _Training,
    whole: lgb.Dataset,
    folds: Sequence[Fold],
    n_workers: int,
    study_path: Path,
) -> None:
    """Train in spawned processes, which read the binned rows from one file.

    Spawned, not forked: the OpenMP threads of a parent that has trained do not survive a fork, and
    a child that uses them hangs. Only this process touches the study.
    """
    binned = study_path.with_name(f"{study_path.name}.binned")
    binned.unlink(missing_ok=True)
    whole.save_binary(str(binned))
    workers: dict[connection.Connection, _Worker] = {}
    n_deaths = 0
    try:
        while True:
            while len(workers) < n_workers and search.wanted():
                pipe, worker = _start_worker(training, binned, list(folds))
                workers[pipe] = worker
                _give_trial(search, pipe, worker)
            if not workers:
                return
            for pipe in connection.wait(list(workers)):
                worker = workers[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    del workers[pipe]
                    n_deaths += 1
                    _bury(search, pipe, worker, n_deaths)
                    continue
                if not _answer(search, pipe, worker, message, len(folds)):
                    del workers[pipe]
                    _stop(pipe, worker)
    finally:
        for pipe, worker in workers.items():
            _stop(pipe, worker)
        binned.unlink(missing_ok=True)


def _start_worker(
    training: _Training, binned: Path, folds: list[Fold]
) -> tuple[connection.Connection, _Worker]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, training, binned, folds), daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for good, in the child
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    there.close()
    return here, _Worker(process)


def _give_trial(search: _Search, pipe: connection.Connection, worker: _Worker) -> None:
    worker.trial, worker.rmse = search.ask(), []
    _send(pipe, worker.trial.params)


def _answer(
    search: _Search,
    pipe: connection.Connection,
    worker: _Worker,
    message: float | str,
    n_folds: int,
) -> bool:
    """Take the RMSE of a fold from a worker and say what is next; False if there is nothing."""
    trial = worker.trial
    if isinstance(message, str):
        raise RuntimeError(f"trial {trial.number} with {trial.params} failed:\n{message}")
    worker.rmse.append(message)
    if search.goes_on(trial, worker.rmse, n_folds):
        _send(pipe, GO_ON)
    elif search.wanted():
        _send(pipe, STOP)
        _give_trial(search, pipe, worker)
    else:
        return False
    return True


def _send(pipe: connection.Connection, message: Params | str) -> None:
    """Send; to a worker that has died it is lost, and the next `recv` tells."""
    with suppress(OSError):
        pipe.send(message)


def _stop(pipe: connection.Connection, worker: _Worker) -> None:
    pipe.close()
    worker.process.kill()
    worker.process.join()


def _bury(search: _Search, pipe: connection.Connection, worker: _Worker, n_deaths: int) -> None:
    _stop(pipe, worker)
    trial = worker.trial
    if trial is not None and trial.number in search.running:
        search.fail(trial)
    if n_deaths < MAX_DEATHS:
        return
    code = worker.process.exitcode or 0
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise RuntimeError(
        f"{n_deaths} worker processes died, the last one of {cause} in trial "
        f"{trial.number if trial else '?'} with {trial.params if trial else '?'}: use fewer "
        "n_workers if memory is short; in a script, call tune under `if __name__ == '__main__':`"
    )


def _work(
    pipe: connection.Connection, training: _Training, binned: Path, folds: list[Fold]
) -> None:
    """Train what the parent asks for, fold by fold, until it hangs up or dies."""
    _begin_worker()
    try:
        params = {**training.params, "num_threads": 1}
        datasets = shared_datasets(lgb.Dataset(str(binned), params=params), folds)
        while True:
            trial = {**params, **pipe.recv()}
            for train, valid in datasets:
                pipe.send(_train(trial, train, valid, training.max_rounds, training.patience)[0])
                if pipe.recv() == STOP:
                    break
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:
        pipe.send(traceback.format_exc())


def _begin_worker() -> None:
    """Leave interrupts to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _check(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    sampler: str,
    space: Mapping[str, BaseDistribution],
    n_trials: int,
    n_workers: int,
    keep: float,
) -> None:
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}: choose one of {', '.join(SAMPLERS)}")
    if n_trials < 1 or n_workers < 1 or not 0 < keep <= 1:
        raise ValueError(
            f"n_trials={n_trials} and n_workers={n_workers} must be at least 1, keep={keep} above "
            "0 and at most 1"
        )
    if x.ndim != 2 or y.shape != (len(x),):
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: expected (n, m) and (n,)")
    wrong = np.flatnonzero(~np.isfinite(y))
    if wrong.size:
        raise ValueError(
            f"y holds {y[wrong[0]]} in row {wrong[0]} ({wrong.size} such rows): drop the rows "
            "without a target first"
        )
    if not folds or any(fold.valid.stop > len(x) for fold in folds):
        raise ValueError(f"the folds {list(folds)} do not fit {len(x)} rows: see time_folds")
    for name, distribution in space.items():
        if sampler == "grid" and not isinstance(distribution, CategoricalDistribution):
            raise ValueError(f"{name}: a grid needs CategoricalDistribution, not {distribution}")


def _made_from(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    sampler: str,
    space: Mapping[str, BaseDistribution],
    start: Params,
    training: _Training,
    keep: float,
    seed: int,
) -> dict[str, str]:
    """Return what trials of one study must have in common, each part as a digest or text."""
    data = hashlib.sha256(f"{x.shape}{x.dtype}{y.dtype}".encode())
    data.update(np.ascontiguousarray(x))
    data.update(np.ascontiguousarray(y))
    return {
        "data": data.hexdigest(),
        "folds": str([(f.train.start, f.train.stop, f.valid.start, f.valid.stop) for f in folds]),
        "search space": json.dumps([{k: distribution_to_json(d) for k, d in space.items()}, start]),
        "training": json.dumps([training.params, training.max_rounds, training.patience]),
        "sampler": f"{sampler}, keep={keep}, seed={seed}",
    }


def _open_study(
    study_path: Path, made_from: dict[str, str], keep: float, *, resume: bool
) -> optuna.Study:
    """Open or begin the study; what a killed process left half done is repaired or failed."""
    aside = study_path.with_name(f"{study_path.name}.old")
    if not resume and study_path.exists():
        study_path.replace(aside)
    _drop_torn_line(study_path)
    study = _load_study(study_path, keep)
    known = study.user_attrs.get("made_from", made_from)
    differ = [part for part, value in made_from.items() if known.get(part) != value]
    if differ and study.user_attrs.get("state") != "finished":
        raise ValueError(
            f"{study_path} holds a search that was interrupted after "
            f"{len(study.get_trials(deepcopy=False, states=DONE))} trials and that was made with "
            f"another {' and '.join(differ)}: give it the same again to continue it, or delete the "
            "file (or pass resume=False) to begin a new one"
        )
    if differ:
        study_path.replace(aside)
        study = _load_study(study_path, keep)
    if "made_from" not in study.user_attrs:
        training = json.loads(made_from["training"])
        study.set_user_attr("training", {"params": training[0], "patience": training[2]})
        study.set_user_attr("made_from", made_from)
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _load_study(study_path: Path, keep: float) -> optuna.Study:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(study_path))
    )
    return optuna.create_study(
        storage=storage, study_name="tuning", pruner=FoldPruner(keep), load_if_exists=True
    )


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill in the middle of a write leaves."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


@contextmanager
def _alone(study_path: Path) -> Iterator[None]:
    """Hold the study for this process; the system lets go of it when the process dies."""
    import fcntl

    with study_path.with_name(f"{study_path.name}.owner").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process is tuning in {study_path}: wait for it or stop it"
            ) from None
        study_path.with_name(f"{study_path.name}.lock").unlink(missing_ok=True)
        yield


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
