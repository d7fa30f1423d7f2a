"""A search on many machines: one Optuna study in a database, whose trials its workers share.

Each worker, one child run of a mapped stage for example, takes a trial after the other until so
many have ended as were asked for, on all machines together. The total is exact: a trial is a place
in the study from the beginning, a worker that is killed leaves its trial to the others once its
heartbeat has stopped, and no place is taken twice. The search of `lib.power.tuning` gives the same
trials with any number of workers; this one does not, whatever the seed: what is drawn depends on
which trials have ended by then, and so on how fast each machine is.
"""

import os
import sqlite3
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lib.ground.files import state_dir
from lib.power.search import Params
from lib.power.study import TrialState
from lib.power.tuning import MAX_ROUNDS, SPACE, START, score
from lib.splits import Fold, time_folds

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import IntDistribution
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from sqlalchemy import Connection, Engine, event, text

STORAGE = "TUNING_STORAGE"
BEAT_S = 20
PLACE = "place"
POLL_S = 1.0
PATIENCE_S = 60  # for another worker, which reads all trials as the one that may write


class NoPlace(Exception):
    """A worker has asked for a trial when another one had just taken the last."""


def storage_url() -> str:
    """Return `TUNING_STORAGE`, or an SQLite file beside the runs, which serves one machine.

    On several machines it is a PostgreSQL database,
    ``postgresql+psycopg://user@host/optuna``, its password in `PGPASSWORD` or ``~/.pgpass``.
    """
    return os.environ.get(STORAGE) or f"sqlite:///{state_dir() / 'tuning.db'}"


def begin(name: str, n_trials: int, *, beat_s: int = BEAT_S) -> optuna.Study:
    """Make a study with places for so many trials; in one that is there, add those it lacks."""
    study = optuna.create_study(study_name=name, storage=_storage(beat_s), load_if_exists=True)
    known = {trial.user_attrs.get(PLACE) for trial in study.get_trials(deepcopy=False)}
    for place in sorted(set(range(n_trials)) - known):
        study.enqueue_trial({}, user_attrs={PLACE: place})
    return study


def load(name: str, *, beat_s: int = BEAT_S) -> tuple[optuna.Study, optuna.storages.RDBStorage]:
    """Return a study that `begin` has made, and where it lies.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    try:
        storage = _storage(beat_s)
        return optuna.load_study(study_name=name, storage=storage), storage
    except KeyError as error:
        raise ValueError(
            f"{STORAGE} holds no study {name}: begin it anew, in a database that all workers reach"
        ) from error


def begin_lightgbm(
    owner: str,
    n_trials: int,
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    params: Params,
) -> optuna.Study:
    """Make a new study for `lightgbm_objective`, whose first trial is scored at once.

    So what cannot be scored fails here, and not in every worker.

    Parameters
    ----------
    owner : str
        What the name of the study begins with.
    n_trials : int
        Trials in the end, the first one included.
    x, y, folds, params
        As for `lightgbm_objective`.
    """
    value = lightgbm_objective(x, y, folds, params)(optuna.trial.FixedTrial(START))
    name = f"{owner}/{uuid.uuid4().hex[:8]}"
    first = {"params": START, "distributions": SPACE, "user_attrs": {PLACE: 0}}
    study = begin(name, 0)
    study.set_user_attr("params", params)
    study.add_trial(optuna.trial.create_trial(value=value, **first))
    return begin(name, n_trials)


def searched(
    table: pd.DataFrame, split: dict, target: str, n_folds: int
) -> tuple[pd.DataFrame, pd.Series, list[Fold]]:
    """Return what a search learns from: features, targets, and folds in order of time.

    Parameters
    ----------
    table, split
        As the feature stage has left them; the rows of the test are left out.
    target : {"level", "difference"}
        The power, or its change from the last row.
    n_folds : int

    Raises
    ------
    ValueError
        If the last value is no feature, or there are too few rows for the folds.
    """
    if "power_kw_lag_0" not in table:
        raise ValueError("lags must hold 0, the last value: trials are compared with it")
    table = table.loc[: split["valid_end"]].dropna(subset=[split["target"], "power_kw_lag_0"])
    x, power = table.drop(columns=split["target"]), table[split["target"]]
    y = power - x["power_kw_lag_0"] if target == "difference" else power
    return x.astype(np.float32), y, time_folds(len(x), n_folds, split["horizon"])


def work(
    name: str,
    objective: Callable[[optuna.Trial], float],
    *,
    seed: int = 0,
    beat_s: int = BEAT_S,
    report: Callable[[str], object] = print,
) -> optuna.Study:
    """Take trials of a study until all its places are done, by this worker or by others.

    Parameters
    ----------
    name : str
        Of a study that `begin` has made.
    objective : callable
        Returns the value of a trial, the lower the better.
    seed : int, default 0
        Of the sampler; another one for each worker.
    beat_s : int, default `BEAT_S`
        Seconds between two signs of life. A trial without one for three times as long is taken for
        that of a dead worker, and done again.
    report : callable, default print
        Receives a line for every trial.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    study, storage = load(name, beat_s=beat_s)
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def checked(trial: optuna.Trial) -> float:
        if PLACE not in trial.user_attrs:
            raise NoPlace
        value = objective(trial)
        report(f"trial {trial.user_attrs[PLACE] + 1}: {value:.4f}")
        return value

    silent_since: dict[int, float] = {}
    while waiting_or_running := _left(study):
        if any(trial.state == TrialState.WAITING for trial in waiting_or_running):
            study.optimize(checked, n_trials=1, catch=NoPlace)
        else:  # until their workers are through, or known to be dead
            time.sleep(POLL_S)
            _beat_for_silent(storage, waiting_or_running, silent_since)
            with _quiet():
                fail_stale_trials(study)
    return study


def lightgbm_objective(
    x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], params: Params
) -> Callable[[optuna.Trial], float]:
    """Return the objective of the embedded search: the mean validation RMSE over the folds.

    Parameters
    ----------
    x, y, folds
        As for `lib.power.tuning.tune`.
    params : dict
        Parameters of LightGBM that all trials have: ``objective``, ``learning_rate``, ``seed`` …
    """

    def objective(trial: optuna.Trial) -> float:
        chosen = {**params, **suggested(trial, SPACE)}
        rmse, _ = score(x, y, folds, chosen, max_rounds=MAX_ROUNDS)
        return float(np.mean(rmse))

    return objective


def suggested(trial: optuna.Trial, space: dict) -> Params:
    """Return a value for each parameter of a space, see `lib.power.tuning.SPACE`."""
    return {
        name: (trial.suggest_int if isinstance(one, IntDistribution) else trial.suggest_float)(
            name, one.low, one.high, log=one.log
        )
        for name, one in space.items()
    }


def _left(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    states = (TrialState.WAITING, TrialState.RUNNING)
    return [t for t in study.get_trials(deepcopy=False, states=states) if PLACE in t.user_attrs]


def _beat_for_silent(
    storage: optuna.storages.RDBStorage,
    running: Sequence[optuna.trial.FrozenTrial],
    silent_since: dict[int, float],
) -> None:
    """Give a first heartbeat to a trial whose worker died before its own: it can be stale then."""
    with storage.engine.connect() as database:
        heard = set(database.scalars(text("SELECT trial_id FROM trial_heartbeats")))
    for trial in running:
        since = silent_since.setdefault(trial._trial_id, time.monotonic())
        if trial._trial_id not in heard and time.monotonic() - since > storage.grace_period:
            storage.record_heartbeat(trial._trial_id)


def _storage(beat_s: int) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    is_sqlite = storage_url().startswith("sqlite")
    with _quiet():
        storage = optuna.storages.RDBStorage(
            storage_url(),
            engine_kwargs={"connect_args": {"timeout": PATIENCE_S}} if is_sqlite else {},
            heartbeat_interval=beat_s,
            grace_period=3 * beat_s,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
    if is_sqlite:
        _take_turns(storage.engine)
    return storage


def _take_turns(engine: Engine) -> None:
    """Let who reads be who writes: SQLite has no `FOR UPDATE`, and two would take one trial."""

    @event.listens_for(engine, "connect")
    def leave_begin_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_as_writer(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # what is open already has begun in the other way


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out that heartbeats are experimental: a notebook would show it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
