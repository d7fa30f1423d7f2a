"""The parser of text files: UCI's text, or CSV with a time column.

Arrow reads the whole text on all cores, dates and times of day as dictionaries. No regularity of
the file is assumed, and a line counts only if it has all its fields.
"""

import re
from dataclasses import replace

from lib.dialect import Header, read_header, unreadable
from lib.formats import START
from lib.power.frame import Part
from lib.power.source import TIME, Source, columns_of
from lib.power.table import FLOAT, from_table

import pandas as pd
import pyarrow as arrow
import pyarrow.csv as arrow_csv

A_DECIMAL_COMMA = re.compile(rb'[;\t|"\s]-?(?:0\d*,\d|\d+,(?:\d{1,2}|\d{4,})(?!\d))')
"""A number with a comma that parts no thousands."""


def read_text(data: bytes, name: str, source: Source) -> Part:
    """Read the text of a file called `name`.

    Parameters
    ----------
    data : bytes
        All of it, in UTF-8.
    name : str
        For messages.
    source : Source
        What its columns are, and how it is written.

    Raises
    ------
    ValueError
        Names the line that cannot be read, and why.
    """
    data = data if b"\n" in data else data.replace(b"\r", b"\n")
    header = header_of(data, name, source)
    separator, names, first = header.separator, header.names, header.n_lines + 1
    columns_of(names, name, source, f", separated by {separator!r}")
    tail = data[-4096:]
    end = len(data) - len(tail) + len(tail.rstrip(b"\r\n"))
    if end <= header.n_bytes:
        raise ValueError(
            f"{name} has a header and no rows: was it written to the end? Fetch it again, or leave "
            "it out"
        )
    text = arrow.py_buffer(data)[header.n_bytes : end]
    for written in _decimals(source, separator):
        try:
            table = _table(text, header, written, arrow.float64())
        except (arrow.ArrowException, UnicodeDecodeError):
            continue  # once more, as text, to say what is wrong and where
        if written.layout.decimal == "," and not source.layout.decimal:
            _require_decimal_comma(data, name)
        return from_table(table, name, written, "line", first)
    try:
        text = arrow.py_buffer(_utf8(data[header.n_bytes : end]))
        table = _table(text, header, written, arrow.string())
    except arrow.ArrowInvalid as error:
        raise unreadable(name, str(error), separator, len(names), header.n_lines) from None
    if separator == "," or not A_DECIMAL_COMMA.search(data):
        written = source
    return from_table(table, name, written, "line", first)


def header_of(data: bytes, name: str, source: Source) -> Header:
    """Return what the first line of a text says."""
    wanted = [theirs for column in source.columns.values() for theirs in column.names]
    return read_header(name, data[:START], source.layout, wanted, [TIME, "power_kw"])


def _utf8(data: bytes) -> bytes:
    """Return text that a message can show; times and numbers are the same in either encoding."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


def _decimals(source: Source, separator: str) -> list[Source]:
    """Return the sources to try: a comma may be a decimal sign where it parts no columns."""
    if source.layout.decimal or separator == ",":
        return [source]
    return [source, replace(source, layout=replace(source.layout, decimal=","))]


def _require_decimal_comma(data: bytes, name: str) -> None:
    if not A_DECIMAL_COMMA.search(data):
        raise ValueError(
            f"{name}: a comma in its numbers may be a decimal sign or part thousands, every one "
            "stands before three digits. Say decimal=, in layout if it is a decimal comma"
        )


def _table(
    text: arrow.Buffer, header: Header, source: Source, number: arrow.DataType
) -> pd.DataFrame:
    """Return the times, as dictionaries, and the columns of numbers."""
    names = header.names
    clock, columns = columns_of(names, "", source)
    unique = [f"{k} {n}" if names.count(n) > 1 else n for k, n in enumerate(names)]
    types = {unique[i]: arrow.dictionary(arrow.int32(), arrow.string()) for i in clock}
    types |= {unique[i]: number for i in columns.values()}
    table = arrow_csv.read_csv(
        arrow.BufferReader(text),
        read_options=arrow_csv.ReadOptions(
            column_names=unique, use_threads=number != arrow.string()
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=header.separator, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=source.missing,
            check_utf8=False,
            decimal_point=source.layout.decimal or ".",
        ),
    )
    return table.unify_dictionaries().to_pandas(types_mapper={FLOAT.pyarrow_dtype: FLOAT}.get)
