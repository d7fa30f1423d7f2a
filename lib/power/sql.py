"""Readings from a table or query of a SQL database, which stays as it is."""

import os
import re

from lib.ground.console import redact
from lib.power.frame import Part
from lib.power.source import Source
from lib.power.table import from_table
from lib.sources import find_file, without_secrets

import pandas as pd
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool


def read_sql(source: str, written: Source) -> Part:
    """Read a table or a query of a SQL database, without changing anything in it.

    Parameters
    ----------
    source : str
        ``sql:<SQLAlchemy URL>#<table>`` or ``sql:<SQLAlchemy URL>#<SELECT ...>``, for example
        ``sql:sqlite:///power/readings.db#readings`` (a relative SQLite path is looked up like any
        other) or ``sql:postgresql+psycopg://reader@db.example/energy#meter.readings``.

        After ``#`` stands a table, as ``table`` or ``schema.table``, or one query that begins with
        SELECT or WITH. A table's name is looked up in the database and never becomes SQL text. A
        ``#`` within the URL is written ``%23``.

        A password is best left out of the URL: either the driver finds it (for PostgreSQL
        ``PGPASSWORD`` or ``~/.pgpass``), or the URL names an environment variable in its place,
        ``sql:postgresql+psycopg://reader:${POWER_PASSWORD}@db.example/energy#readings``.
    written : lib.power.source.Source
        What its columns are, and how text in them is written.

    Notes
    -----
    Columns are as in files. Rows may come in any order and are sorted. The connection is
    read-only on SQLite (``query_only``), PostgreSQL and MySQL, and nothing is ever committed.

    Raises
    ------
    ValueError
        When URL, table or query is wrong or the database does not answer; never shows a password.
    """
    url = _sql_url(source)
    wanted = source.partition("#")[2].strip()
    if not wanted:
        raise ValueError(f"{redact(source)} names no table: add #table or #SELECT ...")
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            _forbid_writing(connection)
            frame = _rows(connection, wanted, redact(source))
    except (SQLAlchemyError, pd.errors.DatabaseError, ImportError) as error:
        cause = error.__cause__ if isinstance(error, pd.errors.DatabaseError) else error
        reason = str(getattr(cause, "orig", None) or cause)
        reason = without_secrets(reason, source, "<url>", url.password)
        raise ValueError(f"{redact(source)} cannot be read: {reason}") from None
    part = from_table(frame, redact(source), written)
    return Part(part.name, part.frame.sort_index(kind="stable"), "row in order of time")


def _sql_url(source: str) -> URL:
    """Return the database's URL, its password filled in and a relative SQLite path resolved."""
    try:
        url = make_url(source.removeprefix("sql:").partition("#")[0].strip())
    except (ArgumentError, ValueError):
        raise ValueError(
            f"{redact(source)} is not sql:<SQLAlchemy URL>#<table or SELECT>, for example "
            "sql:sqlite:///readings.db#readings"
        ) from None
    variable = re.fullmatch(r"\$\{(\w+)\}", url.password or "")
    if variable:
        if variable[1] not in os.environ:
            raise ValueError(f"{redact(source)} needs the environment variable {variable[1]}")
        url = url.set(password=os.environ[variable[1]])
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(find_file(url.database or "")))
    return url


def _forbid_writing(connection: Connection) -> None:
    """Make the connection read-only where the database knows how."""
    backend = connection.dialect.name
    if backend == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    elif backend == "postgresql":
        connection.execution_options(postgresql_readonly=True)
    elif backend in ("mysql", "mariadb"):
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.rollback()


def _rows(connection: Connection, wanted: str, shown: str) -> pd.DataFrame:
    """Return what a query gives, or the columns of a table found by its name."""
    if re.match(r"(?i)(select|with)\s", wanted):
        if ";" in wanted.rstrip("; \n"):
            raise ValueError(f"{shown}: give one query, without a semicolon in it")
        return pd.read_sql_query(text(wanted.replace(":", "\\:")), connection)
    inspector = inspect(connection)
    schema, _, table = wanted.rpartition(".")
    if inspector.has_table(table, schema or None):
        return pd.read_sql_table(table, connection, schema or None)
    tables = sorted(inspector.get_table_names() + inspector.get_view_names())
    raise ValueError(f"{shown}: no table {wanted!r}; the database has {tables}")
