"""Airflow's API server on SQLite: a request that writes does not stop all others."""

import asyncio
import threading
import time

import httpx
import pytest
from whole_runs import prepare

pytestmark = pytest.mark.slow


@pytest.mark.timeout(120)
def test_change_that_is_logged_while_another_one_is_written_waits_for_it_alone():
    """The first holds the lock until the loop lets it commit; the second needs the lock."""
    prepare()
    from lib.dag.api import beside

    from airflow.api_fastapi.common.db.common import SessionDep
    from airflow.api_fastapi.core_api.security import get_user
    from airflow.api_fastapi.logging.decorators import action_logging
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from fastapi import Depends, FastAPI

    app, holds = FastAPI(), threading.Event()
    app.dependency_overrides[get_user] = lambda: None

    @app.post("/first")
    def first(session: SessionDep) -> str:
        session.add(Log(event="first"))
        session.flush()
        holds.set()
        time.sleep(1)  # the second has come by then
        return "first"

    @app.patch("/second", dependencies=[Depends(beside(action_logging)("second"))])
    def second() -> str:
        return "second"

    async def both() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            begun = asyncio.create_task(client.post("/first"))
            while not holds.is_set():
                await asyncio.sleep(0.01)
            answers = [await client.patch("/second?a=b"), await begun]
            return [answer.json() for answer in answers]

    began = time.monotonic()
    assert asyncio.run(both()) == ["second", "first"]
    assert time.monotonic() - began < 20, "SQLite would have given up after 30 s"
    with create_session() as session:
        (row,) = session.query(Log).filter(Log.event == "second")
        assert '"a": "b"' in row.extra and row.owner == "anonymous"
