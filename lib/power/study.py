"""A study of Optuna in a journal file, for one process at a time.

It survives a kill at any moment, and is refused where it was made from other data or settings.
"""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a bare kernel
    import optuna
    from optuna.trial import FrozenTrial, TrialState

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
STATE, MADE_FROM = "state", "made_from"
RUNNING, FINISHED = "running", "finished"


@contextmanager
def open_study(
    path: Path, made_from: dict[str, str], *, keep: float, resume: bool = True
) -> Iterator[optuna.Study]:
    """Open or begin the study in a file and hold it; Optuna's log is quiet meanwhile.

    Parameters
    ----------
    path : pathlib.Path
        Journal file, on a local disk; made if missing.
    made_from : dict of str to str
        What trials of one study must have in common, each part as a digest or text. A finished
        study of anything else is set aside.
    keep : float
        See `FoldPruner`.
    resume : bool, default True
        Continue the study that is there; otherwise it is set aside and a new one begun.

    Raises
    ------
    ValueError
        If the file holds an unfinished study that was made from something else.
    RuntimeError
        If another process holds the study.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.owner").open("w") as owner, quiet_optuna():
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone when the process dies
        except BlockingIOError:
            raise RuntimeError(
                f"another process is tuning in {path}: wait for it or stop it"
            ) from None
        yield _open(path, made_from, keep, resume=resume)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna log warnings only."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def n_done(study: optuna.Study) -> int:
    """Return how many trials are complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=DONE))


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


def _open(path: Path, made_from: dict[str, str], keep: float, *, resume: bool) -> optuna.Study:
    aside = path.with_name(f"{path.name}.old")
    if not resume and path.exists():
        path.replace(aside)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's, of a process killed
    _drop_torn_line(path)
    study = _load(path, keep)
    known = study.user_attrs.get(MADE_FROM, made_from)
    differ = [part for part, value in made_from.items() if known.get(part) != value]
    if differ and study.user_attrs.get(STATE) != FINISHED:
        raise ValueError(
            f"{path} holds a search that was interrupted after {n_done(study)} trials and that was "
            f"made with another {' and '.join(differ)}: give it the same again to continue it, or "
            "delete the file (or pass resume=False) to begin a new one"
        )
    if differ:
        path.replace(aside)
        study = _load(path, keep)
    if MADE_FROM not in study.user_attrs:
        study.set_user_attr(MADE_FROM, made_from)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _load(path: Path, keep: float) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="tuning",
        pruner=FoldPruner(keep),
        load_if_exists=True,
    )


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill in the middle of a write leaves."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
