"""Bronze: every line of every file as it came, with file, digest, line and arrival.

The lines of a file stand there once for each digest, however often and under whatever names it
lands; each landing has a row of its own, line 0. All that has landed comes in at once or not at
all. Files flow through in batches: memory does not grow with them.
"""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING

from lib.lakehouse import tables
from lib.lakehouse.feeds import Feed
from lib.lakehouse.landing import Landed

import numpy as np
import polars as pl
import pyarrow as arrow
from pyarrow import csv, parquet
from pyiceberg.expressions import EqualTo
from pyiceberg.types import LongType, StringType, TimestamptzType

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

COLUMNS = {
    "file": StringType(),
    "digest": StringType(),
    "written": TimestamptzType(),
    "arrived": TimestamptzType(),
    "line": LongType(),
    "text": StringType(),
}
LANDING = ("file", "digest", "written", "arrived")
BLOCK_BYTES = 4 << 20
GROUP_ROWS, FILE_ROWS = 1 << 18, 1 << 23
NO_SEPARATOR = "\x01"


def open_bronze(catalog: "Catalog", feed: Feed) -> "Table":
    """Return the table of a feed's lines."""
    return tables.open_table(catalog, f"{feed.name}.bronze", COLUMNS)


def landings(table: "Table", at: int | str | None = "main") -> pl.DataFrame:
    """Return what has landed, one row for each name and digest; columns `LANDING`."""
    return tables.scan(table, EqualTo("line", 0), LANDING, at).sort("written", "digest", "file")


def take_in(catalog: "Catalog", feed: Feed, files: Sequence[Landed]) -> pl.DataFrame:
    """Take files into bronze that are not there yet.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    feed : Feed
    files : sequence of Landed

    Returns
    -------
    polars.DataFrame of shape (n_new, 3)
        ``file``, ``digest`` and ``lines`` of what is new; no lines where only the name is.

    Raises
    ------
    lib.lakehouse.tables.Overtaken
        If somebody else takes in files at the same time.
    """
    table = open_bronze(catalog, feed)
    known = landings(table)
    names, digests = set(known.select("file", "digest").iter_rows()), set(known["digest"])
    new = [one for one in files if (one.name, one.digest) not in names]
    found: list[tuple[str, str, int]] = []
    if new:
        with tables.draft(table) as branch:
            table.add_files(
                _write(table, _batches(new, digests, found)),
                branch=branch,
                check_duplicate_files=False,
            )
            n_before = tables.count(table, "main")
            n_now = tables.count(table, branch)
            n_lines = sum(n for *_, n in found)
            if n_now != n_before + len(new) + n_lines:
                raise RuntimeError(
                    f"{feed.name}.bronze, branch {branch}: {n_now:,} rows, expected {n_before:,} "
                    f"+ {len(new):,} landings + {n_lines:,} lines"
                )
    schema = {"file": pl.String, "digest": pl.String, "lines": pl.Int64}
    return pl.DataFrame(found, schema, orient="row")


def state_of(landed: pl.DataFrame) -> str:
    """Return a digest of all that has landed, whenever that was: names, contents, versions."""
    rows = landed.select("file", "digest", "written").sort("file", "digest")
    return hashlib.sha256(rows.write_csv().encode()).hexdigest()[:16]


def _batches(
    files: Sequence[Landed], digests: set[str], found: list[tuple[str, str, int]]
) -> Iterator[arrow.RecordBatch]:
    """Yield the rows of new files, and note in `found` how many lines each has."""
    arrived = datetime.now(UTC)
    for one in files:
        facts = (one.name, one.digest, one.written, arrived)
        yield _rows(facts, 0, arrow.array([None], arrow.string()))
        n_lines = 0
        if one.digest not in digests:
            digests.add(one.digest)
            for lines in _lines(one):
                yield _rows(facts, n_lines + 1, lines)
                n_lines += len(lines)
        found.append((one.name, one.digest, n_lines))


def _lines(one: Landed) -> Iterator[arrow.Array]:
    """Yield the lines of a file as text; bytes that are no UTF-8 are written in hex."""
    try:
        with one.open() as stream:
            for batch in _read(stream):
                yield batch.column(0)
    except arrow.ArrowInvalid:
        with one.open() as stream:
            text = stream.read().decode("utf-8", "backslashreplace")
        clean = text.replace(NO_SEPARATOR, "\\x01").replace("\0", "\\x00")
        yield arrow.chunked_array(
            [batch.column(0) for batch in _read(BytesIO(clean.encode()))]
        ).combine_chunks()


def _read(stream: object) -> Iterator[arrow.RecordBatch]:
    try:
        yield from csv.open_csv(
            stream,
            csv.ReadOptions(block_size=BLOCK_BYTES, column_names=["text"]),
            csv.ParseOptions(delimiter=NO_SEPARATOR, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types={"text": arrow.string()}, strings_can_be_null=False),
        )
    except arrow.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            raise


def _rows(facts: tuple, first_line: int, lines: arrow.Array) -> arrow.RecordBatch:
    """Return lines with what is the same for all, which is held once."""
    file, digest, written, arrived = facts
    n_rows, time = len(lines), arrow.timestamp("us", "UTC")
    zeros = arrow.array(np.zeros(n_rows, np.int32))
    same = {"file": (file, arrow.string()), "digest": (digest, arrow.string())}
    same |= {"written": (written, time), "arrived": (arrived, time)}
    columns = {
        name: arrow.DictionaryArray.from_arrays(zeros, arrow.array([value], kind))
        for name, (value, kind) in same.items()
    }
    columns["line"] = arrow.array(np.arange(first_line, first_line + n_rows))
    return arrow.record_batch(columns | {"text": lines})


def _write(table: "Table", batches: Iterator[arrow.RecordBatch]) -> list[str]:
    """Write rows to Parquet files beside those of the table, and return where they are."""
    places: list[str] = []
    writer, stream, n_rows = None, None, 0
    for group in _groups(batches):
        if writer is None:
            places.append(table.location_provider().new_data_location(f"{uuid.uuid4()}.parquet"))
            stream, n_rows = table.io.new_output(places[-1]).create(), 0
            writer = parquet.ParquetWriter(
                stream,
                group.schema,
                compression="lz4",
                use_dictionary=list(LANDING),
                column_encoding={"line": "DELTA_BINARY_PACKED", "text": "PLAIN"},
                write_statistics=[*LANDING, "line"],
                store_schema=False,
            )
        writer.write_table(group, row_group_size=len(group))
        n_rows += len(group)
        if n_rows >= FILE_ROWS:
            writer.close()
            stream.close()
            writer = None
    if writer:
        writer.close()
        stream.close()
    return places


def _groups(batches: Iterator[arrow.RecordBatch]) -> Iterator[arrow.Table]:
    """Put batches together until there are enough rows for a group of a Parquet file."""
    held: list[arrow.RecordBatch] = []
    n_rows = 0
    for batch in batches:
        held.append(batch)
        n_rows += len(batch)
        if n_rows >= GROUP_ROWS:
            yield arrow.Table.from_batches(held).unify_dictionaries()
            held, n_rows = [], 0
    if held:
        yield arrow.Table.from_batches(held).unify_dictionaries()
