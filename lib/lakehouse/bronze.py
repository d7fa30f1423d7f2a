"""Bronze: every line of every file as it came, with file, digest, line and arrival.

The lines of a file, each with its end, stand there once for each digest, however often and under
whatever names it lands: one after the other they are the file again. Each landing, a name and when
it was written, has a row of its own, line 0, which says how many lines came with it. All that has
landed comes in at once or not at all. Files flow through in batches: memory does not grow with
them.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from threading import Lock
from typing import BinaryIO

from lib.lakehouse import tables
from lib.lakehouse.feeds import Feed
from lib.lakehouse.landing import Landed

import numpy as np
import polars as pl
import pyarrow as arrow
from pyarrow import parquet
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table
from pyiceberg.types import LongType, StringType, TimestamptzType

COLUMNS = {
    "file": StringType(),
    "digest": StringType(),
    "written": TimestamptzType(),
    "arrived": TimestamptzType(),
    "line": LongType(),
    "text": StringType(),
}
LANDING = ("file", "digest", "written", "arrived")
BLOCK_BYTES, PAGE_BYTES = 1 << 19, 1 << 16  # which the processor's caches hold
BATCH_ROWS, GROUP_ROWS, FILE_ROWS = 1 << 14, 1 << 18, 1 << 23
N_THREADS = 2
ENCODINGS = {"written": "PLAIN", "arrived": "PLAIN", "line": "DELTA_BINARY_PACKED", "text": "PLAIN"}
COARSEST_CLOCK = timedelta(seconds=3)
SHARED, TIME = arrow.dictionary(arrow.int32(), arrow.string()), arrow.timestamp("us", "UTC")
KINDS = {"file": SHARED, "digest": SHARED, "written": TIME, "arrived": TIME}
KINDS |= {"line": arrow.int64(), "text": arrow.string()}
SCHEMA = arrow.schema([arrow.field(*one, nullable=False) for one in KINDS.items()])
Found = tuple[Landed, str, int]  # with its digest, and how many lines are new
Part = tuple[tuple, int, arrow.Array]  # what is the same for lines, the first's number, the lines


def open_bronze(catalog: Catalog, feed: Feed) -> Table:
    """Return the table of a feed's lines."""
    return tables.open_table(catalog, f"{feed.name}.bronze", COLUMNS)


def landings(table: Table, at: int | str | None = "main") -> pl.DataFrame:
    """Return what has landed, one row each time that a name stood for something else.

    Its columns are `LANDING` and ``lines``.
    """
    found = tables.scan(table, EqualTo("line", 0), (*LANDING, "text"), at)
    n_lines = pl.col("text").str.extract(r"^(\d+) lines$").cast(pl.Int64).alias("lines")
    return found.select(*LANDING, n_lines).sort("written", "digest", "file")


def take_in(catalog: Catalog, feed: Feed, files: Sequence[Landed]) -> pl.DataFrame:
    """Take files into bronze that are not there yet.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    feed : Feed
    files : sequence of Landed

    Returns
    -------
    polars.DataFrame of shape (n_new, 3)
        ``file``, ``digest`` and ``lines`` of what is new; no lines where only the name is, or the
        time of writing.

    Raises
    ------
    lib.lakehouse.tables.Overtaken
        If somebody else takes in files at the same time.
    """
    table = open_bronze(catalog, feed)
    known = landings(table)
    last = known.sort("arrived").unique("file", keep="last")
    there = set(last.select("file", "written", "digest").iter_rows())
    digests, settled, arrived = set(known["digest"]), _settled(last), datetime.now(UTC)
    fresh = [one for one in files if (one.name, one.written) not in settled]
    with ThreadPoolExecutor(N_THREADS) as pool:
        pairs = zip(fresh, pool.map(Landed.digest, fresh), strict=True)
        new = [pair for pair in pairs if (pair[0].name, pair[0].written, pair[1]) not in there]
    found: list[Found] = []
    if new:
        with tables.draft(table) as branch:
            places = _write(table, _parts(new, digests, arrived, found))
            places += _write_groups(table, iter([_landing(arrived, found)]))
            table.add_files(places, branch=branch, check_duplicate_files=False)
            n_before = tables.count(table, "main")
            n_now = tables.count(table, branch)
            n_lines = sum(n for *_, n in found)
            if n_now != n_before + len(new) + n_lines:
                raise RuntimeError(
                    f"{feed.name}.bronze, branch {branch}: {n_now:,} rows, expected {n_before:,} "
                    f"+ {len(new):,} landings + {n_lines:,} lines"
                )
    schema = {"file": pl.String, "digest": pl.String, "lines": pl.Int64}
    told = [(one.name, digest, n_lines) for one, digest, n_lines in found]
    return pl.DataFrame(told, schema, orient="row")


def state_of(landed: pl.DataFrame) -> str:
    """Return a digest of all that has landed, whenever that was: names, contents, versions."""
    rows = landed.select("file", "digest", "written").sort("file", "written", "digest")
    return hashlib.sha256(rows.write_csv().encode()).hexdigest()[:16]


def _settled(known: pl.DataFrame) -> set[tuple[str, datetime]]:
    """Return names and times of writing that stand for what is in bronze.

    Not what was read within the time that a file system takes two writings for one.
    """
    is_settled = pl.col("arrived") - pl.col("written") > COARSEST_CLOCK
    return set(known.filter(is_settled).select("file", "written").iter_rows())


def _parts(
    files: Sequence[tuple[Landed, str]],
    digests: set[str],
    arrived: datetime,
    found: list[Found],
) -> Iterator[Part]:
    """Yield the lines of new files, and note in `found` how many each has."""
    for one, digest in files:
        n_lines, landed, now = 0, one, digest
        if digest not in digests:
            with one.reading(digest) as (now, stream):
                if now != digest:  # it has been written anew meanwhile
                    landed = replace(one, written=arrived)
                facts = (one.name, now, landed.written, arrived)
                for lines in () if now in digests else _lines(stream):
                    yield facts, n_lines + 1, lines
                    n_lines += len(lines)
            digests.add(now)
        found.append((landed, now, n_lines))


def _landing(arrived: datetime, found: Sequence[Found]) -> arrow.Table:
    """Return the rows which say that files have landed; in a file of their own they cost little."""
    return _group(
        ((one.name, digest, one.written, arrived), 0, arrow.array([f"{n_lines} lines"]))
        for one, digest, n_lines in found
    )


def _lines(stream: BinaryIO) -> Iterator[arrow.Array]:
    """Yield the lines of a file, each with its end; one that is longer than a block is cut."""
    is_end, rest = np.empty(2 * BLOCK_BYTES, np.bool_), memoryview(b"")
    while True:
        block = bytearray(len(rest) + BLOCK_BYTES)
        block[: len(rest)] = rest
        n_read = stream.readinto(memoryview(block)[len(rest) :])
        if n_read < BLOCK_BYTES:  # many small files are held at once
            block = block[: len(rest) + n_read]
        if not block:
            return
        ends = _ends(block, is_end[: len(block)])
        if not n_read or (not len(ends) and len(block) >= BLOCK_BYTES):
            ends = np.union1d(ends, len(block))
        if len(ends):
            yield _split(block, ends)
        rest = memoryview(block)[ends[-1] if len(ends) else 0 :]


def _ends(block: bytes | bytearray, is_end: np.ndarray) -> np.ndarray:
    """Return where the lines of a block end, but for a carriage return that is its last byte.

    Parameters
    ----------
    block : bytes or bytearray
    is_end : numpy.ndarray of bool
        What is held meanwhile: memory that is used again costs a third.
    """
    marks = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(np.equal(marks, ord("\n"), out=is_end)) + 1
    if b"\r" in block:  # an end of its own where no line feed follows
        alone = (marks[:-1] == ord("\r")) & (marks[1:] != ord("\n"))
        ends = np.union1d(ends, np.flatnonzero(alone) + 1)
    return ends


def _split(block: bytearray, ends: np.ndarray) -> arrow.Array:
    """Return the lines of a block, which are not copied; bytes that are no UTF-8 are in hex."""
    if not block.isascii():
        block = block[: ends[-1]].decode("utf-8", "backslashreplace").encode()
        ends = np.union1d(_ends(block, np.empty(len(block), np.bool_)), len(block))
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends
    buffers = [None, arrow.py_buffer(offsets), arrow.py_buffer(block)]
    return arrow.Array.from_buffers(arrow.string(), len(ends), buffers)


def _groups(parts: Iterator[Part]) -> Iterator[arrow.Table]:
    """Put lines together until there are enough for a group of a Parquet file."""
    held: list[Part] = []
    n_rows = 0
    for part in parts:
        held.append(part)
        n_rows += len(part[-1])
        if n_rows >= GROUP_ROWS:
            yield _group(held)
            held, n_rows = [], 0
    if held:
        yield _group(held)


def _group(parts: Iterable[Part]) -> arrow.Table:
    """Return lines with what is the same for all of a file, of which texts are held once."""
    found = []
    for (file, digest, *times), some in groupby(parts, itemgetter(0)):
        _, firsts, texts = zip(*some, strict=True)
        lines = arrow.chunked_array(texts)
        zeros = arrow.array(np.zeros(len(lines), np.int32))
        columns = [arrow.DictionaryArray.from_arrays(zeros, [text]) for text in (file, digest)]
        columns += [arrow.repeat(arrow.scalar(time, TIME), len(lines)) for time in times]
        columns += [arrow.array(np.arange(firsts[0], firsts[0] + len(lines))), lines]
        found.append(arrow.table(columns, schema=SCHEMA))
    return arrow.concat_tables(found).unify_dictionaries()


def _write(table: Table, parts: Iterator[Part]) -> list[str]:
    """Write rows to Parquet files beside those of the table, and return where they are.

    Arrow encodes without Python's lock, so that each thread keeps a core busy.
    """
    groups, lock = _groups(parts), Lock()

    def taken() -> Iterator[arrow.Table]:
        while True:
            with lock:
                group = next(groups, None)
            if group is None:
                return
            yield group

    with ThreadPoolExecutor(N_THREADS) as pool:
        written = pool.map(lambda _: _write_groups(table, taken()), range(N_THREADS))
    return [place for places in written for place in places]


def _write_groups(table: Table, groups: Iterator[arrow.Table]) -> list[str]:
    """Write groups of rows to as few files as will do, and return where these are."""
    places: list[str] = []
    while (group := next(groups, None)) is not None:
        places.append(table.location_provider().new_data_location(f"{uuid.uuid4()}.parquet"))
        n_rows = 0
        with (
            table.io.new_output(places[-1]).create() as stream,
            parquet.ParquetWriter(
                stream,
                SCHEMA,
                compression="lz4",
                use_dictionary=["file", "digest"],
                column_encoding=ENCODINGS,
                write_statistics=["written", "arrived", "line"],
                store_schema=False,
                data_page_size=PAGE_BYTES,
                write_batch_size=BATCH_ROWS,
            ) as writer,
        ):
            while group is not None:
                writer.write_table(group, row_group_size=len(group))
                n_rows += len(group)
                group = next(groups, None) if n_rows < FILE_ROWS else None
    return places
