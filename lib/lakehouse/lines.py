"""Lines of bronze: what each holds, or why it is refused."""

from collections.abc import Iterator, Sequence

from lib.lakehouse import tables
from lib.lakehouse.feeds import ISO, TICK, Feed, to_utc

import numpy as np
import polars as pl
import pyarrow as arrow
from pyarrow import csv, parquet
from pyiceberg.expressions import And, GreaterThan
from pyiceberg.table import Table

SLICE_LINES = 1 << 18  # that are parsed at once
MISSING = ["", "?"]
LINE_END = "\r\n"
NAMES = ["file", "digest", "line", "text"]
HEADER = pl.col("text").str.strip_chars_end(LINE_END).str.strip_chars_start("\ufeff")


def read_lines(
    lines: Table, landed: pl.DataFrame, digests: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Yield the lines of some files of bronze in portions.

    Parameters
    ----------
    lines : pyiceberg.table.Table
    landed : polars.DataFrame
        From `lib.lakehouse.bronze.landings`. When a file was written, and arrived, as its lines
        came, says where these are: digests are of any order, and so tell nothing of a part of the
        table.
    digests : sequence of str

    Yields
    ------
    polars.DataFrame of shape (n_lines, 5)
        ``file`` and ``digest`` (categorical), ``line``, ``text`` with its end, and ``header``, the
        first line of its file.
    """
    has_lines = pl.col("lines").ne_missing(0)
    landed = landed.filter(pl.col("digest").is_in(list(digests)) & has_lines)
    heads = _read(lines, landed, digests, is_head=True)
    heads = [some.select("digest", header=HEADER) for some in heads]
    for some in _read(lines, landed, digests):
        for part in some.iter_slices(SLICE_LINES):
            yield part.join(pl.concat(heads), on="digest", how="left", maintain_order="left")


def _read(
    lines: Table, landed: pl.DataFrame, digests: Sequence[str], *, is_head: bool = False
) -> Iterator[pl.DataFrame]:
    """Yield the lines of some files, or the first of each, by the groups of Parquet's files.

    pyiceberg reads all groups of a file at once, and a text anew for each row that has it.
    """
    is_wanted = pl.col("digest").cast(pl.String).is_in(list(digests))
    is_wanted &= pl.col("line") == 1 if is_head else pl.col("line") > 0
    times = {name: landed[name].unique().to_list() for name in ("written", "arrived")}
    where = And(tables.days_in("arrived", times["arrived"]), GreaterThan("line", 0))
    for task in lines.scan(where).plan_files():
        if task.delete_files:
            raise ValueError(
                f"{'.'.join(lines.name())}: rows of {task.file.file_path} were deleted by another "
                "engine, in a file of their own; let it write them anew (compaction)"
            )
        with lines.io.new_input(task.file.file_path).open() as stream:
            file = parquet.ParquetFile(stream, read_dictionary=["file", "digest"])
            for k in range(file.num_row_groups):
                limits = _limits(file.metadata.row_group(k))
                near = all(_any_in(some, limits.get(name)) for name, some in times.items())
                if near and (not is_head or limits.get("line", (0,))[0] <= 1):
                    yield pl.from_arrow(file.read_row_group(k, NAMES)).filter(is_wanted)


def _limits(group: parquet.RowGroupMetaData) -> dict[str, tuple]:
    """Return the least and largest values of the columns of a group, where these are known."""
    columns = [group.column(k) for k in range(group.num_columns)]
    known = [one for one in columns if one.is_stats_set and one.statistics.has_min_max]
    return {one.path_in_schema: (one.statistics.min, one.statistics.max) for one in known}


def _any_in(values: Sequence, limits: tuple | None) -> bool:
    return limits is None or any(limits[0] <= value <= limits[1] for value in values)


def parse(lines: pl.DataFrame, feed: Feed, zone: str) -> pl.DataFrame:
    """Return every line with what it holds, or the reason why it is refused.

    Parameters
    ----------
    lines : polars.DataFrame of shape (n_lines, 5)
        From `read_lines`.
    feed : Feed
    zone : str

    Returns
    -------
    polars.DataFrame of shape (n_lines, n_columns)
        ``file``, ``digest``, ``line``, ``text``; ``kind``: header, blank or row; ``reason``, of
        refused lines; of the others ``ts``, ``day``, the values, and the symbol of trades.
    """
    parts = [lines.head(0).drop("header")]
    for (header,), part in lines.partition_by("header", as_dict=True, include_key=False).items():
        is_head = part["line"] == 1
        head, rows = part.filter(is_head), part.filter(~is_head)
        made = _parse_clean(rows, header, feed, zone)
        if made is None:
            made = _parse_any(rows, header, feed, zone)
        parts += [head.with_columns(kind=pl.lit("header")), made]
    whole = pl.concat(parts, how="diagonal")
    wanted = {"kind": pl.String, "reason": pl.String, "day": pl.Date}
    wanted |= {"ts": pl.Datetime("us", "UTC")}
    wanted |= dict.fromkeys((name for name, *_ in feed.values.values()), pl.Float64)
    whole = whole.with_columns(
        pl.lit(None, kind).alias(n) for n, kind in wanted.items() if n not in whole
    )
    if feed is not TICK:
        return whole
    symbol = pl.col("file").cast(pl.String).str.split("/").list.first().alias("symbol")
    return whole.join(whole.select(pl.col("file").unique()).with_columns(symbol), on="file")


def _columns(header: str) -> tuple[str, list[str]]:
    """Return the separator of a header, and its names."""
    separator = ";" if ";" in header else ","
    return separator, header.split(separator)


def _parse_clean(lines: pl.DataFrame, header: str, feed: Feed, zone: str) -> pl.DataFrame | None:
    """Return as `parse`, for the rows of files with one header; None if anything is wrong there.

    Arrow reads the text of all lines as one, and knows no reasons.
    """
    separator, names = _columns(header)
    if len(names) < 2 or not len(lines) or {*feed.time, *feed.values} - set(names):
        return None
    kinds = dict.fromkeys((f"{names.index(name)}" for name in feed.time), arrow.string())
    ours = {f"{names.index(n)}": facts for n, facts in feed.columns.items() if n in names}
    kinds |= dict.fromkeys(ours, arrow.float64())
    try:
        found = csv.read_csv(
            arrow.BufferReader(_bytes(lines["text"])),
            csv.ReadOptions(column_names=[f"{k}" for k in range(len(names))]),
            csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=kinds,
                include_columns=list(kinds),
                null_values=MISSING,
                strings_can_be_null=False,
            ),
        )
    except arrow.ArrowInvalid:
        return None
    if len(found) != len(lines):
        return None
    read = pl.from_arrow(found)
    values = {name: read[k] for k, (name, *_) in ours.items()}
    for name, least, most in ours.values():
        is_far = values[name].is_nan() | ~values[name].is_between(least, most)
        if is_far.any() or (name in feed.needed and values[name].null_count()):
            return None
    written = [f"{names.index(name)}" for name in feed.time]
    local = _iso_times(found[written[0]]) if feed.time_format == ISO else None
    if local is None:
        local = _times(read.select(written), feed)
    ts = to_utc(local, feed, zone)
    if ts.null_count():
        return None
    return lines.with_columns(ts=ts, day=local.dt.date(), **values, kind=pl.lit("row"))


def _bytes(text: pl.Series) -> arrow.Buffer:
    """Return texts one after the other."""
    array = text.rechunk().to_arrow()
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :]
    return array.buffers()[2].slice(offsets[0], offsets[len(array)] - offsets[0])


def _iso_times(written: arrow.ChunkedArray) -> pl.Series | None:
    """Return as `_times`, for times that are all as in `ISO`; Arrow would take other ones, too."""
    for chunk in written.chunks:
        ends = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset :][: len(chunk) + 1]
        marks = np.frombuffer(chunk.buffers()[2], np.uint8)
        if np.diff(ends).min() < len("0000-00-00 00:00:00") or (marks[ends[:-1] + 10] != 32).any():
            return None
    try:
        return pl.from_arrow(written.cast(arrow.timestamp("us")))
    except arrow.ArrowInvalid:
        return None


def _times(written: pl.DataFrame, feed: Feed) -> pl.Series:
    """Return local times; null for what is none."""
    text = written.select(pl.concat_str(pl.all(), separator=" ")).to_series()
    return text.str.to_datetime(feed.time_format, time_unit="us", strict=False)


def _parse_any(lines: pl.DataFrame, header: str, feed: Feed, zone: str) -> pl.DataFrame:
    """Return as `parse`, for the lines below the headers of files that all have the same."""
    separator, names = _columns(header)
    text = pl.col("text").str.strip_chars_end(LINE_END)
    is_blank = text.str.strip_chars() == ""
    blank = lines.filter(is_blank).with_columns(kind=pl.lit("blank"))
    rows = lines.filter(~is_blank).with_columns(text, kind=pl.lit("row"))
    absent = [name for name in (*feed.time, *feed.values) if name not in names]
    if absent:
        reason = f"the header has no column {', '.join(absent)}"
        return pl.concat([blank, rows.with_columns(reason=pl.lit(reason))], how="diagonal")
    n_fields = pl.col("text").str.count_matches(separator, literal=True) + 1
    fields = (
        pl.col("text")
        .str.split_exact(separator, len(names) - 1)
        .struct.rename_fields([f"{k}" for k in range(len(names))])
    )
    rows = rows.with_columns(fields=fields, n_fields=n_fields)

    def field(name: str) -> pl.Expr:
        return pl.col("fields").struct.field(str(names.index(name)))

    local = _times(rows.select(field(name).alias(name) for name in feed.time), feed)
    ts = to_utc(local, feed, zone)
    rows = rows.with_columns(local=local, ts=ts, day=local.dt.date())
    reason = [
        (
            pl.col("n_fields") != len(names),
            pl.format(f"{{}} fields, the header has {len(names)}", "n_fields"),
        ),
        (pl.col("local").is_null(), pl.lit(f"no time as {feed.time_format}")),
        (pl.col("ts").is_null(), pl.lit(f"no such time in {zone}, or twice")),
    ]
    values = {}
    for name, (ours, least, most) in feed.columns.items():
        if name not in names:
            continue
        shown = field(name).str.strip_chars()
        plain = shown.str.replace(",", ".", literal=True) if separator == ";" else shown
        value, is_missing = plain.cast(pl.Float64, strict=False), shown.is_in(MISSING)
        values[ours] = value
        reason.append((value.is_null() & ~is_missing, pl.lit(f"{ours} is no number")))
        is_far = value.is_nan() | ~value.is_between(least, most)
        reason.append((is_far, pl.lit(f"{ours} is out of range")))
        if ours in feed.needed:
            reason.append((is_missing, pl.lit(f"{ours} is missing")))
    is_wrong = pl.any_horizontal(holds.fill_null(value=False) for holds, _ in reason)
    parts = rows.with_columns(is_wrong=is_wrong).partition_by("is_wrong", as_dict=True)
    done = [blank]
    if (False,) in parts:
        done.append(parts[False,].with_columns(**values))
    if (True,) in parts:
        done.append(parts[True,].with_columns(reason=_first_of(reason)).drop("ts", "day"))
    own = {"fields", "n_fields", "local", "is_wrong"}
    return pl.concat((one.select(pl.exclude(own)) for one in done), how="diagonal")


def _first_of(reasons: Sequence[tuple[pl.Expr, pl.Expr]]) -> pl.Expr:
    """Return the first reason that holds, null where none does."""
    return pl.coalesce(pl.when(holds).then(words) for holds, words in reasons)
