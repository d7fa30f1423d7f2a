"""Household power readings: read them, check them, aggregate them.

`load_power` is the one entry: from a sample generator, the UCI archive, a file, glob or URL, or a
SQL database it returns the same frame. Its index ``ts`` is naive local clock time in microseconds,
the start of each interval, sorted, unique and regular; its seven float columns are in `COLUMNS`.
A time without a reading is a row of NaN: nothing is filled, dropped or guessed, and what breaks a
rule is an error that names the file, the line, the value and the rule.
"""

import csv
import gzip
import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from io import BytesIO, TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lib.frames import frame_digest, grid_step
from lib.run import ROOT, data_dir
from lib.sources import find_files, redact, without_secrets

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pandera.pandas as pa
    import pyarrow
    from pandera.errors import SchemaError
    from sqlalchemy import Connection, Select, TextClause
    from sqlalchemy.engine import URL

COLUMNS = {
    "power_kw": "Global_active_power",
    "reactive_power_kvar": "Global_reactive_power",
    "voltage_v": "Voltage",
    "current_a": "Global_intensity",
    "sub_metering_1_wh": "Sub_metering_1",
    "sub_metering_2_wh": "Sub_metering_2",
    "sub_metering_3_wh": "Sub_metering_3",
}
"""The columns of the canonical frame and what UCI's file calls them."""

ENERGY = tuple(column for column in COLUMNS if column.endswith("_wh"))
RESOLUTIONS = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
ALIASES = {name.lower(): column for column, name in COLUMNS.items()} | {c: c for c in COLUMNS}
CLOCKS = ("datetime", "ts")
PIECE = 1 << 20
FORMATS = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gz", b"PAR1": "parquet"}

LIMITS = {
    "power_kw": (0.0, 100.0),
    "reactive_power_kvar": (-100.0, 100.0),
    "voltage_v": (0.0, 1000.0),
    "current_a": (0.0, 400.0),
}
"""Inclusive limits of the instantaneous columns.

Households are on low voltage, which IEC 60038 ends at 1000 V. 100 kW is well above the largest
household connection (36 kVA in France) and below the power of one kettle given in watts by
mistake; 400 A is 100 kW at 250 V. Reactive power is signed on some meters. The sub-meters may
show no more than 100 kW for the length of one row.
"""

UCI_URL = (
    "https://archive.ics.uci.edu/static/public/235/"
    "individual+household+electric+power+consumption.zip"
)
UCI_ARCHIVE = "individual_household_electric_power_consumption.zip"
UCI_TEXT = "household_power_consumption.txt"
UCI_TEXT_SHA256 = "4259c9d7ece5dbee9ab8d53682baac68d791c864f0f64a52b4043cb3b90894b7"


# Loading --------------------------------------------------------------------------------------


def load_power(
    source: str,
    *,
    resolution: str = "native",
    seed: int = 0,
    sample_days: int = 430,
    max_missing: float = 0.25,
) -> pd.DataFrame:
    """Load household power readings as the canonical frame.

    Parameters
    ----------
    source : str
        One of

        - ``"sample"``: made-up readings, see `lib.power.sample`;
        - ``"uci"``: UCI's archive 235, downloaded once, see `fetch_uci`;
        - a path, glob or URL (``https://``, ``s3://``, ``memory://``, any fsspec scheme) of

          - UCI text: separated by semicolons, ``Date`` (day first) and ``Time``, ``?`` or nothing
            where a value is missing; plain, ``.gz``, or one text file in a ``.zip``;
          - CSV with an ISO 8601 ``datetime`` (or ``ts``) column instead, plain or packed alike;
          - Parquet with either kind of time column, or with the times as its index.

          A relative path is looked up in ``DATA_DIR`` and then in the repository. The files of a
          glob are put in order of time;
        - ``"sql:<SQLAlchemy URL>#<table or SELECT>"``, see `read_sql`.

        Columns go by UCI's names, in any case, or by the canonical ones; others are left out.
    resolution : {"native", "minute", "hour", "day"}
        Length of a row, see `aggregate_power`.
    seed : int
        Of the sample; other sources do not use it.
    sample_days : int
        Length of the sample in days; other sources do not use it.
    max_missing : float
        Largest fraction of missing readings in an aggregated row, see `aggregate_power`.

    Returns
    -------
    DataFrame of shape (n_rows, 7)
        float64 columns `COLUMNS`: ``power_kw`` (kW), ``reactive_power_kvar`` (kVAr),
        ``voltage_v`` (V), ``current_a`` (A), ``sub_metering_1_wh`` to ``sub_metering_3_wh`` (Wh
        per row). Index ``ts``: datetime64[us], naive local time, the start of the row's interval.

    Raises
    ------
    ValueError
        When the source is not found or not readable, is cut short, or breaks a rule of
        `check_power`; the message names the place, the value, the rule and the remedy, and never
        holds a password. A text file that was cut exactly between two lines cannot be told from
        a shorter complete one.
    """
    if resolution not in ("native", *RESOLUTIONS):
        choices = ", ".join(("native", *RESOLUTIONS))
        raise ValueError(f"resolution is {resolution!r}: give one of {choices}")
    if source == "sample":
        from lib.power.sample import sample_power

        frame = sample_power(sample_days, seed=seed)
    elif source == "uci":
        frame = _join([_read(UCI_ARCHIVE, fetch_uci())])
    elif source.startswith("sql:"):
        frame = _join([read_sql(source)])
    else:
        files = find_files(source, hint='give "sample" or "uci"')
        frame = _join([_read(name, file) for name, file in files])
    if resolution == "native":
        return frame
    return aggregate_power(frame, resolution, max_missing=max_missing)


@dataclass(frozen=True)
class Part:
    """What one file or query held, in its own order: times, values and how to name a row."""

    name: str
    ts: np.ndarray  # int64 of shape (n_rows,), microseconds of local clock time since 1970
    values: np.ndarray  # float64 of shape (7, n_rows), in the order of COLUMNS
    row: str  # "line" in a text file, "row" elsewhere
    first: int  # the number of the first row, counted from one as editors do

    def place(self, position: int) -> str:
        """Name the row at `position`, for people."""
        return f"{self.name}, {self.row} {self.first + position}"

    def frame(self) -> pd.DataFrame:
        """Return the rows as a frame in the canonical shape, not yet checked."""
        index = pd.DatetimeIndex(self.ts.view("datetime64[us]"), name="ts", copy=False)
        return pd.DataFrame(self.values.T, index=index, columns=list(COLUMNS), copy=False)


def _join(parts: Sequence[Part]) -> pd.DataFrame:
    """Check every part, put them in order of time and lay them on one regular grid."""
    for part in parts:
        _check(part.frame(), part.place)
    parts = sorted(parts, key=lambda part: part.ts[0])
    for before, after in pairwise(parts):
        if after.ts[0] <= before.ts[-1]:
            raise ValueError(
                f"{after.name} begins at {_clock(after.ts[0])}, not after {before.name} ends "
                f"at {_clock(before.ts[-1])}: files that are read together must not overlap"
            )
    ts = parts[0].ts if len(parts) == 1 else np.concatenate([part.ts for part in parts])
    values = parts[0].values if len(parts) == 1 else np.hstack([part.values for part in parts])
    step = _step(ts, _placer(parts))
    n_grid = int((ts[-1] - ts[0]) // step) + 1
    if n_grid > len(ts):
        gap = int(np.argmax(np.diff(ts)))
        if n_grid > 20 * len(ts):
            raise ValueError(
                f"{_placer(parts)(gap + 1)}: {_clock(ts[gap + 1])} follows {_clock(ts[gap])}, "
                f"and the gaps together are {n_grid - len(ts):,} rows beside {len(ts):,} readings: "
                "is a date wrong? Read the stretches apart if not"
            )
        spread = np.full((len(COLUMNS), n_grid), np.nan)
        spread[:, (ts - ts[0]) // step] = values
        values, ts = spread, ts[0] + step * np.arange(n_grid)
    return Part("", ts, values, "row", 1).frame()


def _placer(parts: Sequence[Part]) -> Callable[[int], str]:
    """Return a function that names a row by its position in all `parts` together."""
    ends = np.cumsum([len(part.ts) for part in parts])

    def place(position: int) -> str:
        part = int(np.searchsorted(ends, position, side="right"))
        return parts[part].place(position - int(ends[part] - len(parts[part].ts)))

    return place


def _step(ts: np.ndarray, place: Callable[[int], str]) -> int:
    """Return the length of a row in microseconds; every time must be whole rows from the first."""
    if len(ts) < 2:
        raise ValueError(f"{place(0)}: one reading alone has no resolution; give two or more")
    steps = np.diff(ts)
    step = int(steps.min())
    if step == steps.max():
        return step
    if (steps == step).mean() < 0.5:
        lengths, counts = np.unique(steps, return_counts=True)
        step = int(lengths[np.argmax(counts)])
    off = np.flatnonzero((ts - ts[0]) % step)
    if len(off):
        raise ValueError(
            f"{place(int(off[0]))}: {_clock(ts[off[0]])} is off the grid: rows are "
            f"{pd.Timedelta(step, 'us')} apart from {_clock(ts[0])} on ({len(off):,} such rows). "
            "Round the times, or give readings of one resolution"
        )
    return step


def _clock(microseconds: int) -> str:
    return str(pd.Timestamp(int(microseconds), unit="us"))


# Files ---------------------------------------------------------------------------------------


def _read(name: str, file: bytes | Path) -> Part:
    """Read one file, of whatever format its first bytes say it is."""
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(
                file.open("rb") if isinstance(file, Path) else BytesIO(file)
            )
            start = stream.read(4)
            kind = next((k for magic, k in FORMATS.items() if start.startswith(magic)), "text")
            data = file if kind == "text" or isinstance(file, bytes) else start + stream.read()
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from error
        suffix = name.split("?")[0].rsplit(".", 1)[-1].lower()
        if not start:
            raise ValueError(f"{name} is empty: was it written to the end? Fetch it again")
        if suffix in FORMATS.values() and suffix != kind:
            raise ValueError(f"{name} is no {suffix} file, by its first bytes: fetch it again")
        if kind == "parquet":
            return _read_parquet(data, name)
        if kind == "text" and isinstance(file, Path):
            return _read_text(_Text(name, stream.seek(0, 2), partial(_pread, stream.fileno())))
    try:
        if kind == "zip":
            data = _unzip(data, name)
        elif kind == "gz":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ValueError(f"{name} is cut short or damaged ({error}): fetch it again") from error
    return _read_text(_Text(name, len(data), lambda begin, end: data[begin:end]))


def _pread(descriptor: int, begin: int, end: int) -> bytes:
    return os.pread(descriptor, end - begin, begin)


def _unzip(data: bytes, name: str) -> bytes:
    """Return the one text file in a zip archive; its check sum is checked on the way."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = [m for m in archive.namelist() if m.lower().endswith((".txt", ".csv"))]
        members = [m for m in members if not m.startswith("__MACOSX/")]
        if len(members) != 1:
            raise ValueError(
                f"{name} must hold one .txt or .csv file and holds {members or archive.namelist()}"
            )
        return archive.read(members[0])


def _read_parquet(data: bytes, name: str) -> Part:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        frame = parquet.read_table(arrow.BufferReader(data)).to_pandas()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{name} is cut short or damaged ({error}): fetch it again") from error
    if set(frame.index.names) & {*CLOCKS}:
        frame = frame.reset_index()
    return _part(frame, name)


# Text -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    """A text of `size` bytes, in memory or in a file, of which any stretch can be read."""

    name: str
    size: int
    read: Callable[[int, int], bytes]

    def next_line(self, position: int) -> int:
        """Return where the first line that begins after `position` begins, or the text's end."""
        while position < self.size:
            piece = self.read(position, min(position + 4096, self.size))
            if b"\n" in piece:
                return position + piece.index(b"\n") + 1
            position += len(piece)
        return self.size


def _read_text(text: _Text) -> Part:
    """Read UCI text, or CSV with a time column, with Arrow, in pieces and on all cores.

    Every piece is parsed into its place in the result, so memory is touched once. A date is one of
    some hundred strings and a time of day one of 1,440: Arrow encodes both as dictionaries and
    each distinct string is parsed once. No regularity of the file is assumed, and a line counts
    only if it has all its fields.
    """
    import pyarrow

    header_end = text.next_line(0)
    header = text.read(0, min(header_end, 1 << 16)).decode("utf-8-sig", "replace").rstrip("\r\n")
    separator = ";" if ";" in header else ","
    names = [field.strip().strip('"') for field in header.split(separator)]
    clock, columns = _columns(names, text.name, f"separated by {separator!r}")
    tail = text.read(max(text.size - 4096, 0), text.size)
    if not tail.endswith(b"\n"):
        last = tail[tail.rfind(b"\n") + 1 :][:200].decode("utf-8", "replace")
        raise ValueError(
            f"{text.name}: the last line {last!r} has no line break, so the file may be cut short. "
            "Fetch it again, or end the line if the file is complete"
        )
    end = text.next_line(text.size - len(tail) + len(tail.rstrip(b"\r\n")))
    if end <= header_end:
        raise ValueError(f"{text.name} has a header and no rows: was it written to the end?")
    cuts = [header_end]
    while cuts[-1] < end:
        cuts.append(min(text.next_line(cuts[-1] + PIECE), end))
    pieces = list(pairwise(cuts))
    types = _arrow_types(names, clock, columns)
    with ThreadPoolExecutor(pyarrow.cpu_count()) as threads:
        ends = np.cumsum([0, *threads.map(lambda piece: _count_lines(text.read(*piece)), pieces)])
        ts, values = np.empty(ends[-1], np.int64), np.empty((len(COLUMNS), ends[-1]))
        known: dict[str, dict[str, int]] = {name: {} for name in types}

        def read(piece: tuple[int, int], first: int, last: int) -> None:
            table = _arrow_table(text.read(*piece), separator, names, types)
            if len(table) != last - first:
                raise _NotATime("a line break within a field")
            ts[first:last] = _arrow_times(table, [names[i] for i in clock], known)
            for row, i in zip(values, columns, strict=True):
                row[first:last] = table[names[i]].to_numpy()

        try:
            list(threads.map(read, pieces, ends[:-1], ends[1:]))
        except (ArithmeticError, ValueError) as error:  # Arrow's errors are ValueErrors
            reason = _explain(text, separator, names, clock, columns)
            raise ValueError(
                f"{reason} [{error}]" if reason.endswith("text") else reason
            ) from error
    return Part(text.name, ts, values, "line", 2)


def _count_lines(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")))


def _arrow_types(
    names: list[str], clock: list[int], columns: list[int]
) -> dict[str, "pyarrow.DataType"]:
    """Return the Arrow type of every column that is read."""
    import pyarrow as arrow

    word = arrow.dictionary(arrow.int32(), arrow.string())
    types = {names[i]: word if len(clock) == 2 else arrow.timestamp("us") for i in clock}
    return types | {names[i]: arrow.float64() for i in columns}


def _arrow_table(
    data: bytes, separator: str, names: list[str], types: dict[str, "pyarrow.DataType"]
) -> "pyarrow.Table":
    """Parse complete lines, without a header, as one block."""
    import pyarrow as arrow
    import pyarrow.csv as arrow_csv

    return arrow_csv.read_csv(
        arrow.BufferReader(data),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=names
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator, ignore_empty_lines=False, quote_char='"' if b'"' in data else False
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=["?", ""],
            check_utf8=False,  # a date that is not UTF-8 is no date and fails as such
        ),
    )


class _NotATime(ValueError):
    """A string that is not the date or the time of day it should be."""


def _columns(names: list[str], name: str, layout: str) -> tuple[list[int], list[int]]:
    """Return the positions of the time column, or of date and time, and of the seven values."""
    known = [ALIASES.get(n.lower(), n.lower()) for n in names]
    found = f"found {', '.join(map(repr, names))}" + (f", {layout}" if layout else "")
    if {"date", "time"} <= set(known):
        clock = ["date", "time"]
    else:
        clock = [c for c in CLOCKS if c in known][:1]
    if not clock:
        raise ValueError(
            f"{name} has no time: it needs the columns Date and Time (d/m/yyyy, hh:mm:ss) or one "
            f"column datetime; {found}"
        )
    missing = [f"{COLUMNS[column]} ({column})" for column in COLUMNS if column not in known]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}; {found}")
    for column in (*clock, *COLUMNS):
        if known.count(column) > 1:
            twice = [n for n, k in zip(names, known, strict=True) if k == column]
            raise ValueError(f"{name} has {column} more than once: {', '.join(map(repr, twice))}")
    return [known.index(c) for c in clock], [known.index(c) for c in COLUMNS]


DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
EPOCH = date(1970, 1, 1).toordinal()


def _day(value: str | date | None) -> int:
    """Return a day as microseconds since 1970, from a date or from d/m/yyyy, day first."""
    if isinstance(value, date):
        return (value.toordinal() - EPOCH) * RESOLUTIONS["day"]
    match = DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        day, month, year = map(int, match.groups())
        return (date(year, month, day).toordinal() - EPOCH) * RESOLUTIONS["day"]
    except (AttributeError, ValueError):
        raise _NotATime(f"{value!r} is not a date as d/m/yyyy, day first") from None


def _time_of_day(value: str | time | None) -> int:
    """Return a time of day as microseconds since midnight, from a time or from hh:mm:ss."""
    if isinstance(value, time) and not value.microsecond:
        value = value.isoformat()
    match = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    hour, minute, second = (int(part or 0) for part in match.groups()) if match else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise _NotATime(f"{value!r} is not a time of day as hh:mm:ss, 00:00:00 to 23:59:59")
    return 1_000_000 * (3600 * hour + 60 * minute + second)


def _arrow_times(
    table: "pyarrow.Table", clock: list[str], known: dict[str, dict[str, int]]
) -> np.ndarray:
    """Return the times of all rows as int64 microseconds; `known` remembers parsed strings."""
    if any(table[name].null_count for name in clock):
        raise _NotATime("a time is missing")
    if len(clock) == 1:
        return table[clock[0]].cast("int64").to_numpy()
    ts = np.zeros(len(table), dtype=np.int64)
    for name, parse in zip(clock, (_day, _time_of_day), strict=True):
        encoded = table[name].combine_chunks()
        parsed = known[name]
        texts = encoded.dictionary.to_pylist()
        parsed |= {text: parse(text) for text in texts if text not in parsed}
        lookup = np.array([parsed[text] for text in texts], dtype=np.int64)
        ts += lookup[encoded.indices.to_numpy()]
    return ts


def _explain(
    text: _Text,
    separator: str,
    names: list[str],
    clock: list[int],
    columns: list[int],
) -> str:
    """Say which line of a text that could not be read is the first bad one, and why.

    Only called after the fast reader has failed, so it may go line by line.
    """
    name, data = text.name, BytesIO(text.read(0, text.size))
    lines = TextIOWrapper(data, "utf-8-sig", errors="replace", newline="")
    rows = csv.reader(lines, delimiter=separator)
    next(rows)
    for row in rows:
        place = f"{name}, line {rows.line_num}"
        if not row:
            return f"{place} is empty: remove it, or fetch the file again"
        if len(row) != len(names):
            return (
                f"{place}: {separator.join(row)[:200]!r} has {len(row)} fields separated by "
                f"{separator!r}, the header has {len(names)}: was the file cut or damaged here?"
            )
        for i, parse in zip(clock, (_day, _time_of_day), strict=False):
            try:
                parse(row[i]) if len(clock) == 2 else pd.Timestamp(row[i])
                if len(clock) == 1 and (pd.isna(when := pd.Timestamp(row[i])) or when.tzinfo):
                    raise _NotATime(f"{row[i]!r} is not a naive local time as yyyy-mm-dd hh:mm:ss")
            except ValueError as error:
                return f"{place}, column {names[i]}: {error}"
        for i in columns:
            try:
                float(row[i].strip() or "nan") if row[i] != "?" else None
            except ValueError:
                return (
                    f"{place}, column {names[i]}: {row[i]!r} is not a number with a decimal "
                    "point; a missing value is ? or nothing"
                )
    return f"{name} cannot be read as text separated by {separator!r}"


def _part(frame: pd.DataFrame, name: str) -> Part:
    """Take times and values out of a table that has typed columns, such as Parquet or SQL."""
    names = [str(column) for column in frame.columns]
    clock, columns = _columns(names, name, "")
    if frame.empty:
        raise ValueError(f"{name} has no rows")
    try:
        if len(clock) == 2:
            ts = np.zeros(len(frame), dtype=np.int64)
            for i, parse in zip(clock, (_day, _time_of_day), strict=True):
                codes, texts = pd.factorize(frame.iloc[:, i], use_na_sentinel=False)
                ts += np.array([parse(text) for text in texts], dtype=np.int64)[codes]
        else:
            ts = _timestamps(frame.iloc[:, clock[0]])
    except _NotATime as error:
        raise ValueError(f"{name}, column {', '.join(names[i] for i in clock)}: {error}") from None
    values = np.empty((len(COLUMNS), len(frame)))
    for row, i in zip(values, columns, strict=True):
        given = frame.iloc[:, i]
        numbers = pd.to_numeric(given.replace({"?": None, "": None}), errors="coerce")
        row[:] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(row) & given.notna() & ~given.isin(["?", ""]))
        if len(bad):
            raise ValueError(
                f"{name}, row {bad[0] + 1}, column {names[i]}: {given.iloc[bad[0]]!r} is not a "
                f"number ({len(bad):,} such rows)"
            )
    return Part(name, ts, values, "row", 1)


def _timestamps(column: pd.Series) -> np.ndarray:
    """Return naive times as int64 microseconds, from a column of times or of ISO 8601 text."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        raise _NotATime(
            f"the times carry a zone ({column.dtype.tz}) and must be local clock time without "
            "one: convert them first, in SQL for example with AT TIME ZONE 'Europe/Paris'"
        )
    times = column
    if not pd.api.types.is_datetime64_dtype(column):
        if pd.api.types.is_numeric_dtype(column):
            raise _NotATime(f"{column.iloc[0]!r} in row 1 is a number, not a time")
        times = pd.to_datetime(column, format="ISO8601", errors="coerce")
        if isinstance(times.dtype, pd.DatetimeTZDtype):
            raise _NotATime(f"{column.iloc[0]!r} in row 1 carries a zone; give local clock time")
    bad = np.flatnonzero(times.isna())
    if len(bad):
        raise _NotATime(
            f"{column.iloc[bad[0]]!r} in row {bad[0] + 1} is not a time as yyyy-mm-dd hh:mm:ss "
            f"({len(bad):,} such rows)"
        )
    return times.to_numpy(dtype="datetime64[us]").view(np.int64)


# Checks ---------------------------------------------------------------------------------------


def check_power(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it is a canonical power frame; name the rows that break a rule if not.

    Names, types, order, duplicates and ranges go by the schema of `power_schema`. The grid must
    be regular too: a time without a reading is a row of NaN.

    Raises
    ------
    ValueError
        Names every broken rule with its first rows: time, value and how many there are.
    """
    _check(frame, lambda position: str(frame.index[position]))
    ts = frame.index.to_numpy().astype("datetime64[us]").view(np.int64)
    if len(ts) > 1:
        step = _step(ts, lambda position: str(frame.index[position]))
        wide = np.flatnonzero(np.diff(ts) != step)
        if len(wide):
            first = wide[0]
            raise ValueError(
                f"{frame.index[first + 1]} follows {frame.index[first]}, and rows are "
                f"{pd.Timedelta(step, 'us')} apart ({len(wide):,} such gaps): a time without a "
                "reading must be a row of NaN"
            )
    return frame


def power_schema(step: pd.Timedelta) -> "pa.DataFrameSchema":
    """Return the pandera schema of a canonical power frame with rows of length `step`.

    Seven float columns in the order of `COLUMNS`, each within `LIMITS` (sub-meters: 0 Wh to what
    100 kW give in one row) or missing; the index ``ts`` is datetime64[us], strictly increasing.
    """
    import pandera.pandas as pa

    limits = _limits(step)
    return pa.DataFrameSchema(
        {
            c: pa.Column(None, [_is("float64", "float32"), _within(*limits[c])], nullable=True)
            for c in COLUMNS
        },
        index=pa.Index(None, [_is("datetime64[us]"), _increasing()], name="ts"),
        strict=True,
        ordered=True,
    )


def _is(*dtypes: str) -> "pa.Check":
    import pandera.pandas as pa

    def of_dtype(values: pd.Series) -> bool:
        return values.dtype in dtypes

    return pa.Check(of_dtype, ignore_na=False, name=" or ".join(dtypes))


def _within(low: float, high: float) -> "pa.Check":
    import pandera.pandas as pa

    def within(values: pd.Series) -> bool:
        numbers = values.to_numpy()  # fmin and fmax pass over NaN
        return not (np.fmin.reduce(numbers) < low or np.fmax.reduce(numbers) > high)

    return pa.Check(within, ignore_na=False, name=f"from {low:g} to {high:g}")


def _increasing() -> "pa.Check":
    import pandera.pandas as pa

    def increasing(times: pd.Series) -> bool:
        ts = times.to_numpy().view(np.int64)
        return bool((ts[1:] > ts[:-1]).all())

    return pa.Check(increasing, name="later than the row before")


def _limits(step: pd.Timedelta) -> dict[str, tuple[float, float]]:
    """Return `LIMITS` and those of the sub-meters, in Wh per row."""
    most = LIMITS["power_kw"][1] * 1000 * (step / pd.Timedelta("1h"))
    return LIMITS | dict.fromkeys(ENERGY, (0.0, most))


def _check(frame: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Raise one error that names every rule of `power_schema` that `frame` breaks, and where."""
    from pandera.errors import SchemaErrors

    step = pd.Timedelta("1min")
    if frame.index.dtype == "datetime64[us]" and len(frame) > 1:
        usual = int(np.median(np.diff(frame.index[:1001].to_numpy().view(np.int64))))
        step = pd.Timedelta(usual, "us") if usual > 0 else step
    try:
        power_schema(step).validate(frame, lazy=True, inplace=True)
    except SchemaErrors as errors:
        broken = [_broken(frame, error, step, place) for error in errors.schema_errors]
        raise ValueError("; ".join(dict.fromkeys(broken))) from None


def _broken(
    frame: pd.DataFrame, error: "SchemaError", step: pd.Timedelta, place: Callable[[int], str]
) -> str:
    """Say which rule is broken, in which rows (the first three), by what value."""
    column, rule = error.schema.name, getattr(error.check, "name", None)
    if rule is None or (column != "ts" and column not in frame):
        return f"the frame breaks the schema of power readings: {error}".splitlines()[0]
    values = frame.index if column == "ts" else frame[column]
    allowed = ["datetime64[us]"] if column == "ts" else ["float64", "float32"]
    if values.dtype not in allowed:
        return f"{column} must be {' or '.join(allowed)}, not {values.dtype}"
    values = values.to_numpy()
    if column == "ts":
        bad = 1 + np.flatnonzero(values[1:] <= values[:-1])
        said = [
            "repeats the row before"
            if values[i] == values[i - 1]
            else f"follows {frame.index[i - 1]}"
            for i in bad[:3]
        ]
    else:
        low, high = _limits(step)[column]
        bad = np.flatnonzero((values < low) | (values > high))
        said = [f"has {values[i]:g}" for i in bad[:3]]
    where = [f"{place(i)}: {frame.index[i]} {words}" for i, words in zip(bad, said, strict=False)]
    count = f"{len(bad):,} row{'s are' if len(bad) > 1 else ' is'} not"
    return f"{column} must be {rule}, {count}: {'; '.join(where)}"


def describe_power(frame: pd.DataFrame, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (``household_power``, or ``household_power_sample`` for made-up readings),
        ``source`` (without secrets), ``digest`` (`frame_digest`), ``n_rows``, ``n_missing`` (rows
        without power), ``start`` and ``end`` (ISO 8601, first and last row), ``freq`` (ISO 8601
        duration of a row).
    """
    return {
        "name": "household_power_sample" if source == "sample" else "household_power",
        "source": redact(source),
        "digest": frame_digest(frame),
        "n_rows": len(frame),
        "n_missing": int(frame["power_kw"].isna().sum()),
        "start": frame.index[0].isoformat(),
        "end": frame.index[-1].isoformat(),
        "freq": grid_step(frame).isoformat(),
    }


# Resolution -----------------------------------------------------------------------------------


def aggregate_power(
    frame: pd.DataFrame, resolution: str, *, max_missing: float = 0.25
) -> pd.DataFrame:
    """Aggregate a canonical frame to minutes, hours or days.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, 7)
        Canonical frame; its rows must divide the new ones.
    resolution : {"minute", "hour", "day"}
        Length of the new rows, which begin at whole minutes, hours or midnights.
    max_missing : float, in [0, 1)
        Largest fraction of a row's readings that may be missing. The rows before the first
        reading and after the last count as missing. Above it the row is NaN, not an estimate.

    Returns
    -------
    DataFrame of shape (n_new_rows, 7)
        Means of kW, kVAr, V and A. Wh are sums; where at most `max_missing` is missing the sum is
        scaled to the whole row, as if the rest went on like the readings, which is what the mean
        of kW takes for granted too.

    Raises
    ------
    ValueError
        When the rows are longer than `resolution`, or do not divide it.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"resolution is {resolution!r}: give one of {', '.join(RESOLUTIONS)}")
    if not 0 <= max_missing < 1:
        raise ValueError(f"max_missing is {max_missing}: give a fraction in [0, 1)")
    step, length = grid_step(frame) // pd.Timedelta("1us"), RESOLUTIONS[resolution]
    if length % step:
        raise ValueError(
            f"rows of {pd.Timedelta(step, 'us')} cannot be made into rows of one {resolution}: "
            "readings are summed up, never split. Give a coarser resolution"
        )
    n_per_row = length // step
    begin = frame.index[0].to_datetime64().astype("datetime64[us]").astype(np.int64)
    first = begin // length
    n_before = int(begin - first * length) // step
    n_rows = -(-(n_before + len(frame)) // n_per_row)
    readings = np.full((n_rows * n_per_row, frame.shape[1]), np.nan)
    readings[n_before : n_before + len(frame)] = frame.to_numpy()
    readings = readings.reshape(n_rows, n_per_row, frame.shape[1])
    known = ~np.isnan(readings)
    count = known.sum(axis=1)
    mean = np.where(known, readings, 0).sum(axis=1) / np.maximum(count, 1)
    is_energy = np.array([column in ENERGY for column in frame.columns])
    values = np.where(is_energy, mean * n_per_row, mean)
    values[n_per_row - count > max_missing * n_per_row] = np.nan
    ts = (length * (first + np.arange(n_rows))).view("datetime64[us]")
    return pd.DataFrame(values, pd.DatetimeIndex(ts, name=frame.index.name), frame.columns)


# UCI's archive --------------------------------------------------------------------------------


def fetch_uci() -> Path:
    """Return UCI's archive 235 in ``DATA_DIR``'s ``power`` folder, downloading it the first time.

    Individual Household Electric Power Consumption: G. Hebrail and A. Berard, 2012,
    https://doi.org/10.24432/C58K54, licensed CC BY 4.0. One house in Sceaux, France: 2,075,259
    minutes from 2006-12-16 17:24 to 2010-11-26 21:02, of which 25,979 have no reading.

    The text in the archive must have the SHA-256 that many users of the set have published; the
    archive around it has been packed anew in the course of time and so has no hash of its own
    here. Its SHA-256 is kept beside it when the text has proved right, and later calls check it.

    Raises
    ------
    ValueError
        When the archive cannot be downloaded, or is not the one expected (it is then removed).
    """
    import pooch

    folder = data_dir() / "power"
    archive, proof = folder / UCI_ARCHIVE, folder / f"{UCI_ARCHIVE}.sha256"
    if archive.is_file() and proof.is_file():
        if pooch.file_hash(str(archive)) == proof.read_text().strip():
            return archive
        raise ValueError(f"{archive} has changed since its download: delete it to fetch it again")
    try:
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(UCI_URL, known_hash=None, fname=UCI_ARCHIVE, path=folder)
    except Exception as error:  # requests, urllib3 and the operating system raise their own
        raise ValueError(
            f"UCI's archive cannot be downloaded from {UCI_URL} to {folder} "
            f"({type(error).__name__}). Without a network give the path of {UCI_TEXT} or of its "
            '.zip, or "sample"'
        ) from error
    try:
        with zipfile.ZipFile(archive) as packed:
            found = hashlib.sha256(packed.read(UCI_TEXT)).hexdigest()
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        found = str(error)
    if found != UCI_TEXT_SHA256:
        archive.unlink()
        raise ValueError(
            f"{UCI_TEXT} from {UCI_URL} has SHA-256 {found}, not {UCI_TEXT_SHA256}: the download "
            "was cut short or the set has changed. Try again, or give the path of a file you trust"
        )
    proof.write_text(pooch.file_hash(str(archive)) + "\n")
    return archive


# SQL ------------------------------------------------------------------------------------------


def read_sql(source: str) -> "Part":
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

    Notes
    -----
    Columns are as in files. Rows may come in any order and are sorted. The connection is
    read-only on SQLite (``query_only``), PostgreSQL and MySQL, and nothing is ever committed.

    Raises
    ------
    ValueError
        When URL, table or query is wrong or the database does not answer; never shows a password.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = _sql_url(source)
    wanted = source.partition("#")[2].strip()
    if not wanted:
        raise ValueError(f"{redact(source)} names no table: add #table or #SELECT ...")
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            _forbid_writing(connection)
            query = _selection(connection, wanted, redact(source))
            frame = pd.read_sql_query(query, connection)
    except (SQLAlchemyError, pd.errors.DatabaseError, ImportError) as error:
        cause = error.__cause__ if isinstance(error, pd.errors.DatabaseError) else error
        reason = str(getattr(cause, "orig", None) or cause)
        reason = without_secrets(reason, source, "<url>", url.password)
        raise ValueError(f"{redact(source)} cannot be read: {reason}") from None
    part = _part(frame, redact(source))
    order = np.argsort(part.ts, kind="stable")
    return Part(part.name, part.ts[order], part.values[:, order], "row in order of time", 1)


def _sql_url(source: str) -> "URL":
    """Return the database's URL, its password filled in and a relative SQLite path resolved."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

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
        path = Path(url.database or "").expanduser()
        tried = [path] if path.is_absolute() else [data_dir() / path, ROOT / path]
        found = [place for place in tried if place.is_file()]
        if not found:
            places = " and ".join(str(place) for place in tried)
            raise ValueError(f"{redact(source)}: no such database; looked for {places}")
        url = url.set(database=str(found[0]))
    return url


def _forbid_writing(connection: "Connection") -> None:
    """Make the connection read-only where the database knows how."""
    backend = connection.dialect.name
    if backend == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    elif backend == "postgresql":
        connection.execution_options(postgresql_readonly=True)
    elif backend in ("mysql", "mariadb"):
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.rollback()


def _selection(connection: "Connection", wanted: str, shown: str) -> "Select | TextClause":
    """Return what to execute: the query as it is, or the columns of a table found by its name."""
    from sqlalchemy import MetaData, Table, inspect, select, text
    from sqlalchemy.exc import NoSuchTableError

    if re.match(r"(?i)(select|with)\s", wanted):
        if ";" in wanted.rstrip("; \n"):
            raise ValueError(f"{shown}: give one query, without a semicolon in it")
        return text(wanted.replace(":", "\\:"))
    inspector = inspect(connection)
    schema, _, name = wanted.rpartition(".")
    for in_schema, of_name in ((None, wanted), (schema or None, name)):
        try:
            return select(Table(of_name, MetaData(), schema=in_schema, autoload_with=connection))
        except NoSuchTableError:
            pass
    tables = sorted(inspector.get_table_names() + inspector.get_view_names())
    raise ValueError(f"{shown}: no table {wanted!r}; the database has {tables}")
