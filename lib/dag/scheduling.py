"""Who runs DAGs on Airflow's database: a scheduler, or `make run` in a process of its own.

Both at once would take tasks from each other. Locks decide, which the kernel of the machine gives
back however a process ends: a scheduler holds the database's lock alone, each `make run` shares
it, and holds one more for its DAG run. A DAG run whose lock nobody holds any more is a ghost: its
process is gone and nothing will ever end it, so the next start does (`close_ghosts`).
"""

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lib.dag import database
from lib.ground import runs
from lib.ground.files import state_dir

TEST = "dag_test"  # who has triggered a run, where `dag.test` has
BEAT_S = 15.0  # a scheduler says every five seconds that it lives


@contextmanager
def scheduler_place(say: Callable[[str], None]) -> Iterator[None]:
    """Keep the database for a scheduler, once no `make run` works on it in a process of its own.

    Parameters
    ----------
    say : callable
        Is told, once, what is waited for.

    Raises
    ------
    ValueError
        If another scheduler has it.
    """
    with _place("scheduler.lock").open("a") as file:
        if not _try(file.fileno(), fcntl.LOCK_EX):
            if not _try(file.fileno(), fcntl.LOCK_SH):
                raise ValueError(
                    "a scheduler runs on this database already: `make up` in another terminal, "
                    "with the same OUTPUTS_DIR. Use that one, or stop it first"
                )
            fcntl.flock(file, fcntl.LOCK_UN)
            say("waiting for `make run` in another terminal to end; a scheduler would race it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def own_process() -> Iterator[bool]:
    """Say whether DAG runs may be made in this process; keep schedulers away while they are.

    No where a scheduler has the database: it would take the tasks.
    """
    with _place("scheduler.lock").open("a") as file:
        yield _try(file.fileno(), fcntl.LOCK_SH) and not scheduler_lives()


@contextmanager
def alive(dag_id: str, run_id: str) -> Iterator[None]:
    """Hold the lock of a DAG run while its block makes it."""
    path = _mark(dag_id, run_id)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)  # after an error it stays, without a lock: a ghost's mark


def is_alive(dag_id: str, run_id: str) -> bool | None:
    """Say whether a process makes this DAG run; None where none has ever said so."""
    path = _mark(dag_id, run_id)
    if not path.exists():
        return None
    with path.open("r+") as file:
        return not _try(file.fileno(), fcntl.LOCK_EX)


def scheduler_lives() -> bool:
    """Say whether a scheduler works on Airflow's database, whoever has started it.

    It has to give a sign of life while this waits, as one that has just been killed does not. Where
    the database is shared, the scheduler's clock may be another one: how long ago it gave one says
    nothing then.
    """
    from airflow.settings import SQL_ALCHEMY_CONN

    patience_s = BEAT_S if str(SQL_ALCHEMY_CONN).startswith("sqlite") else float("inf")
    deadline, before = time.monotonic() + BEAT_S, silence_s()
    while before < patience_s and time.monotonic() < deadline:
        time.sleep(0.5)
        now = silence_s()
        if now < before:
            return True
        before = now
    return False


def silence_s() -> float:
    """Return for how many seconds no scheduler has reported; infinity where none ever has."""
    query = "SELECT max(latest_heartbeat) FROM job WHERE job_type = ? AND state = ?"
    for (last,) in database.ask(query, "SchedulerJob", "running"):
        if last is not None:
            return (datetime.now(UTC) - database.moment_of(last)).total_seconds()
    return float("inf")


def ghosts() -> list[tuple[str, str]]:
    """Return ids of DAG and run of every ghost: `make run` made it, and its process is gone.

    Those of a scheduler are its own to look after.
    """
    query = (
        "SELECT dag_id, run_id FROM dag_run "
        "WHERE triggering_user_name = ? AND state IN ('queued', 'running')"
    )
    return [ids for ids in database.ask(query, TEST) if is_alive(*ids) is False]


def close_ghosts(tell: Callable[[str], object]) -> None:
    """End every ghost, in Airflow, in MLflow and on its page, and `tell` of it in a line."""
    reason = "its process was killed, or the machine stopped; noticed at the next start"
    for ids in ghosts():
        close_run(*ids, "lost", reason)
        _mark(*ids).unlink(missing_ok=True)
        tell(f"closed {runs.run_of_airflow(*ids).run_dir}: its process is gone\n")


def forget_past_times() -> None:
    """Let Airflow find the next time of every DAG anew where the one that it keeps is past.

    So no DAG begins, once a scheduler runs, what was due before: see `lib.dag.clock`.
    """
    past = "next_dagrun_create_after < ?"
    moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}+00"
    database.ask(f"UPDATE dag SET next_dagrun_create_after = NULL WHERE {past}", moment)


def close_run(dag_id: str, run_id: str, state: str, reason: str) -> None:
    """End a DAG run that nothing runs any more: in Airflow, in MLflow and on its page.

    Parameters
    ----------
    dag_id, run_id : str
    state : {"cancelled", "lost"}
        What its page says: somebody has stopped it, or its process is gone.
    reason : str
        Why, in a sentence.
    """
    from lib import tracking
    from lib.pages import publish

    fail_in_airflow(dag_id, run_id)
    run = runs.run_of_airflow(dag_id, run_id)
    if run.path.exists():
        tracking.close(run)
        runs.close_run(run, state, reason)
        publish.publish(run)


def fail_in_airflow(dag_id: str, run_id: str) -> None:
    """Set a DAG run that there is to failed, with what runs of it; what was to come is skipped."""
    query = "SELECT id FROM dag_run WHERE dag_id = ? AND run_id = ?"
    if not database.ask(query, dag_id, run_id):
        return
    from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
    from airflow.models.serialized_dag import SerializedDagModel

    dag = SerializedDagModel.get_dag(dag_id)
    set_dag_run_state_to_failed(dag=dag, run_id=run_id, commit=True)


def _mark(dag_id: str, run_id: str) -> Path:
    return _place(f"alive/{dag_id}--{runs.run_folder_name(run_id)}.json")


def _place(name: str) -> Path:
    """Return a file beside Airflow's database, whose folder is there."""
    path = state_dir() / ".airflow" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    close_ghosts(sys.stdout.write)
