"""Rows of ticks in text: what its first line says of separator and columns, and its batches.

Text is read as text: what a value must be is said by `lib.tick.read`. Nothing is told from the
first line that another reading of it could deny; then the layout is asked for.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING

from lib.dialect import N_SHOWN
from lib.formats import fields_error, require_header
from lib.tick.read import RawTicks, TickFormat

import pyarrow as arrow
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

if TYPE_CHECKING:
    from pyarrow import NativeFile

SEPARATORS = "\t;|,"
TEXT = arrow.string()
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
Opener = Callable[[], "AbstractContextManager[NativeFile]"]


def read_text(name: str, opened: Opener, start: bytes, form: TickFormat) -> RawTicks:
    """Return the ticks of a text that begins with `start`, of which `opened` gives all bytes.

    Raises
    ------
    ValueError
        If its first line cannot be read, or has no header and no names are given.
    """
    line = re.split(rb"\r\n|\r|\n", start)[0]
    try:
        header = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        header = "\0"
    if not header.isprintable() and not header.replace("\t", "").isprintable():
        raise ValueError(
            f"{name} is neither Parquet nor text in UTF-8, by its first line: save it as one"
        )
    require_header(header, name)
    separator, names, has_header = _columns(name, header, form)
    batches = partial(_batches, name, opened, separator, names, has_header=has_header)
    decimal = "." if separator == "," else ""
    facts = {"format": "text", "separator": repr(separator)}
    facts["header"] = "line 1" if has_header else "none: layout names the columns"
    return RawTicks(names, batches, "line", 1 + has_header, decimal, facts=facts)


def _columns(name: str, line: str, form: TickFormat) -> tuple[str, list[str], bool]:
    """Return the separator, the names of the columns, and whether the first line gives them."""
    given, layout = list(form.layout.names), form.layout
    separators = layout.separator or "".join(s for s in SEPARATORS if s in line) or " "
    rows = {sign: _split(line, sign) for sign in separators}
    if not given:
        wanted = {one.casefold() for one in form.wanted}
        fits = [sign for sign, row in rows.items() if wanted <= {one.casefold() for one in row}]
        sign = fits[0] if fits else max(rows, key=lambda one: len(rows[one]))
        if not fits and any(NUMBER.fullmatch(field) for field in rows[sign]):
            raise _no_header(name, line, len(rows[sign]), form)
        return sign, rows[sign], True
    fits = [sign for sign, row in rows.items() if len(row) == len(given)]
    if not fits:
        counts = ", ".join(f"{len(row)} separated by {sign!r}" for sign, row in rows.items())
        raise ValueError(
            f"{name}, line 1: layout names {len(given)} columns, and there are {counts}: "
            f"{line[:100]!r}. Name each of them, or give the separator, as separator=semicolon"
        )
    fields = [one.casefold() for one in rows[fits[0]]]
    has_header = fields == [one.casefold() for one in given]
    if not has_header and not any(re.search(r"\d", one) for one in fields):
        raise ValueError(
            f"{name}, line 1 seems to give names, {line[:100]!r}, and layout gives others: leave "
            'names= out, and say which column is which with columns, as columns=["price=..."]'
        )
    return fits[0], given, has_header


def _split(line: str, separator: str) -> list[str]:
    reader = csv.reader([line], delimiter=separator, skipinitialspace=separator != " ")
    return [field.strip() for field in next(reader, [])]


def _no_header(name: str, line: str, n_columns: int, form: TickFormat) -> ValueError:
    names = ",".join([*form.required, *(f"x{k}" for k in range(n_columns))][:n_columns][:N_SHOWN])
    names += ",..." * (n_columns > N_SHOWN)
    return ValueError(
        f"{name}, line 1 has values and not names: {line[:100]!r}. If the file has no header, give "
        f"the names of its {n_columns} columns in their order, any for those that are not needed, "
        f'as layout=["names={names}"]; if it has one, say with columns what is called how'
    )


def _batches(
    name: str,
    opened: Opener,
    separator: str,
    names: list[str],
    columns: list[str],
    kind: arrow.DataType = TEXT,
    *,
    has_header: bool,
) -> Iterator[arrow.RecordBatch]:
    """Yield `columns` as text."""
    read = ReadOptions(column_names=names, skip_rows=int(has_header), use_threads=False)
    parse = ParseOptions(delimiter=separator)
    types = dict.fromkeys(columns, kind)
    convert = ConvertOptions(include_columns=columns, column_types=types)
    reader = iter(())
    try:
        with opened() as text:
            reader = open_csv(text, read, parse, convert)
            yield from reader
    except arrow.ArrowInvalid as error:
        if "UTF8" in str(error):
            again = _batches(
                name, opened, separator, names, columns, arrow.binary(), has_header=has_header
            )
            _check_letters(name, again, 1 + has_header)
        raise _unreadable(name, str(error), separator, len(names)) from None
    finally:
        with suppress(Exception):  # a thread that still reads would abort the end of the process
            deque(reader, maxlen=0)


def _unreadable(name: str, error: str, separator: str, n_columns: int) -> ValueError:
    row = re.search(r"(?:Row #(\d+): )?Expected \d+ columns, got (\d+): (.*)", error, re.DOTALL)
    if row:
        return fields_error(name, row[1] or "", n_columns, row[2], separator, row[3])
    return ValueError(
        f"{name} cannot be read as text separated by {separator!r} ({error[:150]}): give the "
        'separator, as layout=["separator=semicolon"], or correct the line'
    )


def _check_letters(name: str, batches: Iterator[arrow.RecordBatch], first: int) -> None:
    """Raise the error about the first value that is not in UTF-8."""
    for batch in batches:
        for column in batch.column_names:
            for at, value in enumerate(batch[column].to_pylist()):
                if value.decode("utf-8", "replace").encode() != value:
                    shown = value.decode("latin-1")
                    raise ValueError(
                        f"{name}, line {first + at}: {column} is {shown!r}, which is not in UTF-8: "
                        "save the file as UTF-8 text"
                    )
        first += batch.num_rows
