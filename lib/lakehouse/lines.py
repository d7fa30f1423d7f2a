"""Lines of bronze: what each holds, or why it is refused."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lib.lakehouse import tables
from lib.lakehouse.feeds import TICK, Feed, to_utc

import polars as pl

if TYPE_CHECKING:
    from pyiceberg.table import Table


def read_lines(lines: "Table", digests: Sequence[str]) -> pl.DataFrame:
    """Return the lines of some files from bronze: ``file``, ``digest``, ``line``, ``text``."""
    found = tables.scan(
        lines, tables.days_in("digest", digests), ("file", "digest", "line", "text")
    )
    return found.filter(pl.col("line") > 0)


def parse(lines: pl.DataFrame, feed: Feed, zone: str) -> pl.DataFrame:
    """Return every line with what it holds, or the reason why it is refused.

    Parameters
    ----------
    lines : polars.DataFrame of shape (n_lines, 4)
        From `read_lines`.
    feed : Feed
    zone : str

    Returns
    -------
    polars.DataFrame of shape (n_lines, n_columns)
        ``file``, ``digest``, ``line``, ``text``; ``kind``: header, blank or row; ``reason``, of
        refused lines; of the others ``ts``, ``day``, the values, and the symbol of trades.
    """
    text = pl.col("text").str.strip_chars_end("\r").str.strip_chars_start("\ufeff")
    header = lines.filter(pl.col("line") == 1).select("digest", header=text)
    marked = lines.join(header, on="digest", how="left").with_columns(
        kind=pl.when(pl.col("line") == 1)
        .then(pl.lit("header"))
        .when(text.str.strip_chars() == "")
        .then(pl.lit("blank"))
        .otherwise(pl.lit("row"))
    )
    parts = [
        _parse_alike(part.drop("header"), head or "", feed, zone)
        for (head,), part in marked.partition_by("header", as_dict=True).items()
    ]
    empty = pl.DataFrame(schema={"file": pl.String, "digest": pl.String, "line": pl.Int64})
    whole = pl.concat([empty, *parts], how="diagonal")
    wanted = {"text": pl.String, "kind": pl.String, "reason": pl.String, "day": pl.Date}
    wanted |= {"ts": pl.Datetime("us", "UTC")}
    wanted |= dict.fromkeys((name for name, *_ in feed.values.values()), pl.Float64)
    lacking = [pl.lit(None, kind).alias(n) for n, kind in wanted.items() if n not in whole]
    return whole.with_columns(lacking)


def _parse_alike(lines: pl.DataFrame, header: str, feed: Feed, zone: str) -> pl.DataFrame:
    """Return as `parse`, for lines of files with one header."""
    separator = ";" if ";" in header else ","
    names = header.split(separator)
    rows, others = lines.filter(pl.col("kind") == "row"), lines.filter(pl.col("kind") != "row")
    absent = [name for name in (*feed.time, *feed.values) if name not in names]
    if absent:
        reason = f"the header has no column {', '.join(absent)}"
        return pl.concat([others, rows.with_columns(reason=pl.lit(reason))], how="diagonal")
    text = pl.col("text").str.strip_chars_end("\r")
    n_fields = text.str.count_matches(separator, literal=True) + 1
    fields = text.str.split_exact(separator, len(names) - 1).struct.rename_fields(
        [f"{k}" for k in range(len(names))]
    )
    rows = rows.with_columns(fields=fields, n_fields=n_fields)

    def field(name: str) -> pl.Expr:
        return pl.col("fields").struct.field(str(names.index(name)))

    written = pl.concat_str([field(name) for name in feed.time], separator=" ")
    local = written.str.to_datetime(feed.time_format, time_unit="us", strict=False)
    rows = rows.with_columns(local=local).with_columns(
        ts=to_utc(pl.col("local"), feed, zone), day=pl.col("local").dt.date()
    )
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
        value = plain.cast(pl.Float64, strict=False)
        is_missing = shown.is_in(["", "?"])
        values[ours] = value
        reason.append((value.is_null() & ~is_missing, pl.lit(f"{ours} is no number")))
        is_far = value.is_nan() | ~value.is_between(least, most)
        reason.append((is_far, pl.lit(f"{ours} is out of range")))
        if ours in feed.needed:
            reason.append((is_missing, pl.lit(f"{ours} is missing")))
    rows = rows.with_columns(**values, reason=_first_of(reason))
    is_wrong = pl.col("reason").is_not_null()
    rows = rows.with_columns(
        pl.when(is_wrong).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("ts", "day", *values)
    )
    if feed is TICK:
        rows = rows.with_columns(symbol=pl.col("file").str.split("/").list.first())
    return pl.concat([others, rows.drop("fields", "n_fields", "local")], how="diagonal")


def _first_of(reasons: Sequence[tuple[pl.Expr, pl.Expr]]) -> pl.Expr:
    """Return the first reason that holds, null where none does."""
    return pl.coalesce(pl.when(holds).then(words) for holds, words in reasons)
