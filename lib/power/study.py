"""A study of Optuna in a journal file, for one process at a time; it survives a kill."""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a bare kernel
    import optuna
    from optuna.trial import TrialState

__all__ = ["TrialState", "open_study"]


@contextmanager
def open_study(path: Path, name: str) -> Iterator[optuna.Study]:
    """Open or begin a study in a file and hold it; Optuna logs only warnings from now on.

    Parameters
    ----------
    path : pathlib.Path
        Journal file, on a local disk; made if missing. It may hold several studies.
    name : str
        A digest of what the trials of the study have in common.

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
            load_if_exists=True,
        )
        yield study


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill in the middle of a write leaves."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
