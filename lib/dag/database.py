"""Airflow's database, asked without importing Airflow, which takes seconds.

`ask` works wherever the database is. `Twin` writes a DAG run as `dag.test` leaves it, by copying
the rows of an earlier one: only where the database is SQLite and of the revision that this was
written for.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

from lib.ground.files import state_dir
from lib.ground.parameters import Value

from uuid6 import uuid7

OURS = "AIRFLOW_DEFAULTS"  # in the environment: what was set here, and by no caller, as JSON
ADDRESS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
SQLITE = "sqlite:///"
REVISION = "d2f4e1b3c5a7"
PATIENCE_S = 30
AT_START = ("scheduled_dttm", "last_heartbeat_at")
TRACE = re.compile(r"\b00-[0-9a-f]{32}-[0-9a-f]{16}\b")
Row = dict[str, object]


class Result(NamedTuple):
    """What became of a task: its state, what it returns ("" for nothing), when it ran."""

    state: str
    value: str
    start: datetime
    stop: datetime

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.stop - self.start).total_seconds()


def ask(query: str, *values: str) -> list[tuple]:
    """Return what Airflow's database answers; [] where there is none."""
    address = _address()
    if address.startswith("postgresql"):
        import psycopg

        place = re.sub(r"^postgresql\+\w+", "postgresql", address)
        with psycopg.connect(place) as database:
            answer = database.execute(query.replace("?", "%s"), values)
            return answer.fetchall() if answer.description else []
    file = Path(address.removeprefix(SQLITE))
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as database, database:
        return database.execute(query, values).fetchall()


def _address() -> str:
    """Return the address of Airflow's database: what the caller says, else SQLite's file.

    What Airflow itself has written into its file does not count: where that was once.
    """
    return said_by_caller().get(ADDRESS) or own_address()


def own_address() -> str:
    """Return the address of the database in Airflow's folder."""
    return f"{SQLITE}{home() / 'airflow.db'}"


def home() -> Path:
    """Return Airflow's folder: what the caller's environment says, else that beside the runs."""
    said = said_by_caller().get("AIRFLOW_HOME")
    return Path(said) if said else state_dir() / ".airflow"


def said_by_caller() -> dict[str, str]:
    """Return what the environment says of Airflow, without what this project has set itself."""
    ours = json.loads(os.environ.get(OURS, "{}"))
    return {k: v for k, v in os.environ.items() if k.startswith("AIRFLOW_") and ours.get(k) != v}


CONNECT = {"timeout": PATIENCE_S} if _address().startswith(SQLITE) else {}
"""How Airflow connects: after five seconds of waiting for another writer it would give up."""


def moment_of(value: datetime | str) -> datetime:
    """Return a time that `ask` has answered with: SQLite keeps a text, without the zone."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Twin:
    """A DAG run that is written as a copy of an earlier one, with times and results of its own.

    Attributes
    ----------
    dag_id, run_id : str
    model : str
        Run id of the earlier one, which `dag.test` has made.
    moment : datetime
        When it begins.
    conf : mapping
        What it was triggered with.
    """

    dag_id: str
    run_id: str
    model: str
    moment: datetime
    conf: Mapping[str, Value]

    def is_possible(self, tasks: list[str]) -> bool:
        """Say whether the earlier run is there, has these tasks, and is of the DAG as it is now."""
        if not _address().startswith(SQLITE):
            return False
        own = "dag_id = ? AND run_id = ?"
        try:
            found = ask(
                "SELECT version_num, (SELECT is_stale FROM dag WHERE dag_id = r.dag_id), (SELECT id"
                " FROM dag_version WHERE dag_id = r.dag_id ORDER BY version_number DESC LIMIT 1)"
                f" = created_dag_version_id FROM alembic_version, dag_run AS r WHERE {own}",
                *(self.dag_id, self.model),
            )
            known = ask(f"SELECT task_id FROM task_instance WHERE {own}", self.dag_id, self.model)
        except sqlite3.Error:
            return False
        return found == [(REVISION, 0, 1)] and {name for (name,) in known} == set(tasks)

    def begin(self) -> None:
        """Write it as a run that goes on, whose tasks have not begun."""
        nothing = {"state": None, "try_number": 0, "pid": None}
        nothing |= dict.fromkeys(("start_date", "end_date", "duration", *AT_START))
        with self._connected() as database:
            self._begin(database, "running", None)
            self._copy(database, "task_instance", lambda row: nothing | {"id": uuid7().hex})

    def end(self, results: Mapping[str, Result]) -> None:
        """Write it as a run that has ended well, with the results of all of its tasks."""

        def ended(row: Row) -> Row:
            made = results[str(row["task_id"])]
            facts = {"id": uuid7().hex, "state": made.state, "pid": os.getpid()}
            facts |= {"hostname": gethostname(), "duration": made.seconds}
            facts |= dict.fromkeys(("start_date", *AT_START), _text(made.start))
            return facts | dict.fromkeys(("end_date", "updated_at"), _text(made.stop))

        def returned(row: Row) -> Row | None:
            made = results[str(row["task_id"])]
            facts = {"dag_run_id": number, "value": json.dumps(made.value)}
            is_own = row["key"] == "return_value" and made.value
            return facts | {"timestamp": _text(made.stop)} if is_own else None

        def told(row: Row) -> Row | None:
            made = results.get(str(row["task_id"]))
            facts = {"id": None, "logical_date": _text(self.moment)}
            if made and row["event"] == "running":
                return facts | {"dttm": _text(made.start)}
            return facts | {"dttm": _text(made.stop), "event": made.state} if made else None

        with self._connected() as database:
            last = max(made.stop for made in results.values())
            number = self._begin(database, "success", last)
            self._copy(database, "task_instance", ended)
            self._copy(database, "rendered_task_instance_fields", lambda row: {})
            self._copy(database, "xcom", returned)
            self._copy(database, "log", told)

    def forget(self) -> None:
        """Remove it, as if it had never begun."""
        with self._connected() as database:
            self._remove(database)

    def _begin(self, database: sqlite3.Connection, state: str, stop: datetime | None) -> int:
        """Write the run itself in place of what is there of it; return its number."""
        begun, last = _text(self.moment), _text(stop or self.moment)
        facts: Row = {"id": None, "state": state, "conf": json.dumps(self.conf)}
        facts |= dict.fromkeys(("logical_date", "start_date", "run_after", "created_at"), begun)
        facts |= dict.fromkeys(("data_interval_start", "data_interval_end"), begun)
        facts |= dict.fromkeys(("last_scheduling_decision", "updated_at"), last)
        self._remove(database)
        return self._copy(database, "dag_run", lambda row: facts | {"end_date": stop and last})

    def _copy(
        self, database: sqlite3.Connection, table: str, change: Callable[[Row], Row | None]
    ) -> int:
        """Write the rows that the earlier run has in a table once more, with what is changed."""
        trace, last = sha256(self.run_id.encode()).hexdigest(), 0
        query = f"SELECT * FROM {table} WHERE dag_id = ? AND run_id = ?"
        for found in database.execute(query, (self.dag_id, self.model)).fetchall():
            changed = change(dict(found))
            if changed is None:
                continue
            row = dict(found) | {"run_id": self.run_id} | changed
            if carrier := row.get("context_carrier"):
                row["context_carrier"] = TRACE.sub(f"00-{trace[:32]}-{trace[32:48]}", str(carrier))
            names = ", ".join(f'"{name}"' for name in row)
            query = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})"
            last = database.execute(query, [*row.values()]).lastrowid or 0
        return last

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Give the database; what is done with it counts as a whole, or not at all."""
        place = _address().removeprefix(SQLITE)
        with closing(sqlite3.connect(place, timeout=PATIENCE_S)) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")  # what belongs to a run goes with it
            with database:
                yield database

    def _remove(self, database: sqlite3.Connection) -> None:
        own = (self.dag_id, self.run_id)
        database.execute("DELETE FROM dag_run WHERE dag_id = ? AND run_id = ?", own)
        database.execute("DELETE FROM log WHERE dag_id = ? AND run_id = ?", own)


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
