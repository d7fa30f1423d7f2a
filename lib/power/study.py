"""A study of Optuna in a journal file, for one process at a time; it survives a kill."""

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
N_STARTUP = 4  # trials that must have been complete before any is pruned


@contextmanager
def open_study(path: Path, name: str, *, keep: float) -> Iterator[optuna.Study]:
    """Open or begin a study in a file and hold it; Optuna logs only warnings from now on.

    Parameters
    ----------
    path : pathlib.Path
        Journal file, on a local disk; made if missing. It may hold several studies.
    name : str
        A digest of what the trials of the study have in common.
    keep : float
        See `FoldPruner`.

    Raises
    ------
    RuntimeError
        If another process holds the file.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.owner").open("w") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone when the process dies
        except BlockingIOError:
            raise RuntimeError(
                f"another process is tuning in {path}: wait for it or stop it"
            ) from None
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's, of one killed
        _drop_torn_line(path)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=name,
            pruner=FoldPruner(keep),
            load_if_exists=True,
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        yield study


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
    """

    def __init__(self, keep: float) -> None:
        self.keep = keep

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether `trial` should stop after the fold it reported last."""
        step = trial.last_step
        trials = study.get_trials(deepcopy=False, states=DONE)
        n_complete = sum(other.state == TrialState.COMPLETE for other in trials)
        if step is None or n_complete < N_STARTUP:
            return False
        seen = [
            other.intermediate_values[step] for other in trials if step in other.intermediate_values
        ]
        value = trial.intermediate_values[step]
        n_better = sum(other < value for other in seen)
        return n_better >= self.keep * (len(seen) + 1)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill in the middle of a write leaves."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
