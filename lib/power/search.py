"""Trials made by several threads: the same ones whatever their number, whichever ends first.

A trial is scored fold by fold, and a thread takes one fold at a time. What is decided from other
trials does not depend on the order in which they happen to end. Parameters are drawn knowing the
results of all trials before but the last `AHEAD - 1`; of these only the parameters are known, even
if their results have long been there. A trial is pruned by comparison with all trials before it,
and waits until they have got as far; its thread goes on with another one.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lib.power.study import TrialState

Params = dict[str, int | float | str | bool]
AHEAD = 8  # trials that may be under way at once, so no more threads than that find work
N_STARTUP = 4  # first trials, which are not pruned


@dataclass
class Attempt:
    """A trial: its parameters, and the mean validation RMSE after each fold."""

    number: int
    params: Params
    state: TrialState = TrialState.RUNNING
    means: list[float] = field(default_factory=list)
    total: float = 0.0  # sum of the RMSE of the folds
    n_begun: int = 0  # folds that are scored or being scored
    n_allowed: int = 1  # folds that may be scored, as far as has been decided


def search(
    finished: Sequence[Attempt],
    draw: Callable[[Sequence[Attempt]], Params],
    score: Callable[[Params, int], float],
    *,
    n_trials: int,
    n_folds: int,
    n_workers: int,
    keep: float,
    timeout_s: float | None = None,
) -> Iterator[Attempt]:
    """Make trials and yield them in order of number, each when all before it have ended.

    Parameters
    ----------
    finished : sequence of Attempt
        Of an earlier call, from number 0 on without a gap.
    draw : callable
        Gets all trials so far, ended or not, and returns the parameters of the next one. Called in
        order of number, in the thread of the caller. It must not look at the means of the last
        `AHEAD - 1` trials; all before these have ended.
    score : callable
        Gets parameters and the place of a fold, and returns the validation RMSE. Called in threads.
    n_trials : int
        Trials at the end, those of `finished` included.
    n_folds : int
        Folds of a complete trial.
    n_workers : int
        Threads that score.
    keep : float
        See `falls_behind`.
    timeout_s : float, optional
        Start no trial after so many seconds; those under way are finished.

    Yields
    ------
    Attempt
        Complete or pruned.

    Raises
    ------
    RuntimeError
        If a training fails.
    """
    end = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
    trials, n_ended, n_given = list(finished), len(finished), len(finished)
    scored: dict[Future[float], Attempt] = {}
    with ThreadPoolExecutor(n_workers) as pool:
        while True:
            while len(scored) < n_workers:
                trial = next((t for t in trials[n_ended:] if t.n_begun < t.n_allowed), None)
                if trial is None:
                    room = len(trials) < n_trials and len(trials) - n_ended < AHEAD
                    if not room or time.monotonic() >= end:
                        break
                    trial = Attempt(len(trials), draw(trials))
                    trials.append(trial)
                scored[pool.submit(score, trial.params, trial.n_begun)] = trial
                trial.n_begun += 1
            yield from trials[n_given:n_ended]
            n_given = n_ended
            if not scored:
                return
            for future in wait(scored, return_when=FIRST_COMPLETED).done:
                _note(scored.pop(future), future)
            for trial in trials[n_ended:]:
                _decide(trial, trials[: trial.number], n_folds, keep)
            while n_ended < len(trials) and trials[n_ended].state != TrialState.RUNNING:
                n_ended += 1


def falls_behind(trial: Attempt, before: Sequence[Attempt], n_folds: int, keep: float) -> bool:
    """Tell whether a trial is not among the best of those before it that got as far.

    Folds differ in difficulty, so a trial is compared with other trials over the same folds, never
    with itself over fewer, as Optuna's percentile pruner would.

    Parameters
    ----------
    trial : Attempt
    before : sequence of Attempt
        All trials of lower number.
    n_folds : int
        Folds over which means are compared.
    keep : float
        Fraction of the trials that goes on after each fold.
    """
    if trial.number < N_STARTUP:
        return False
    place = n_folds - 1
    seen = [other.means[place] for other in before if len(other.means) >= n_folds]
    n_better = sum(value < trial.means[place] for value in seen)
    return n_better >= keep * (len(seen) + 1)


def _note(trial: Attempt, future: Future[float]) -> None:
    """Add the score of a fold; one that is no number is worse than any."""
    try:
        value = future.result()
    except Exception as error:
        said = f"trial {trial.number} with {trial.params} failed: {error}"
        raise RuntimeError(said) from error
    trial.total += math.inf if math.isnan(value) else value
    trial.means.append(trial.total / (len(trial.means) + 1))


def _decide(trial: Attempt, before: Sequence[Attempt], n_folds: int, keep: float) -> None:
    """End a trial or let it go on, once all trials that it is compared with have got as far."""
    n_scored = len(trial.means)
    if trial.state != TrialState.RUNNING or n_scored < trial.n_allowed:
        return
    if n_scored == n_folds:
        trial.state = TrialState.COMPLETE
    elif all(t.state != TrialState.RUNNING or len(t.means) >= n_scored for t in before):
        if falls_behind(trial, before, n_scored, keep):
            trial.state = TrialState.PRUNED
        else:
            trial.n_allowed += 1
