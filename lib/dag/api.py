"""Airflow's API server, which on SQLite does not wait for itself.

``python -m lib.dag.api`` is ``airflow api-server``. For every request that changes something,
Airflow commits a row of its audit log on the server's event loop. Where another request holds
SQLite's one lock for writing, the loop waits for the lock, and that request for the loop, to
commit in its turn: the server answers nobody until SQLite gives up, and one of the two has failed.
The form that starts a run and switches its DAG on sends two such requests at once.
"""

from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace


def beside(action_logging: Callable) -> Callable:
    """Return Airflow's `action_logging` with the commit in a thread, for which the loop is free."""
    from airflow.api_fastapi.common.db.common import SessionDep
    from airflow.api_fastapi.core_api.security import GetUserDep
    from fastapi import Request
    from fastapi.concurrency import run_in_threadpool

    @wraps(action_logging)
    def logging_beside(event: str | None = None) -> Callable:
        log_action = action_logging(event)

        async def log(request: Request, session: SessionDep, user: GetUserDep) -> None:
            later = SimpleNamespace(add=session.add, commit=lambda: None)
            await log_action(request, later, user)
            await run_in_threadpool(session.commit)

        return log

    return logging_beside


def main() -> None:
    """Be Airflow's command line, before any route of the server is made."""
    from airflow.api_fastapi.logging import decorators

    decorators.action_logging = beside(decorators.action_logging)
    from airflow.__main__ import main as airflow

    airflow()


if __name__ == "__main__":
    main()
