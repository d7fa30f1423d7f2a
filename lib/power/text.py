"""The parser of text files: UCI's text, or CSV with a time column.

Arrow reads the whole text on all cores, dates and times of day as dictionaries. No regularity of
the file is assumed, and a line counts only if it has all its fields.
"""

from concurrent.futures import ThreadPoolExecutor

from lib.power.columns import COLUMNS
from lib.power.frame import Part, canonical
from lib.power.table import CLOCK_PARSERS, MISSING, columns_of, from_table

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.csv as arrow_csv


def read_text(data: bytes, name: str) -> Part:
    """Read the text of a file called `name`.

    Raises
    ------
    ValueError
        Names the line that cannot be read, and why.
    """
    start = data.find(b"\n") + 1
    header = data[: start or 1 << 16].decode("utf-8-sig", "replace").rstrip("\r\n")
    separator = ";" if ";" in header else ","
    names = [field.strip().strip('"') for field in header.split(separator)]
    columns_of(names, name, f", separated by {separator!r}")
    tail = data[-4096:]
    if not tail.endswith(b"\n"):
        last = tail[tail.rfind(b"\n") + 1 :][:200].decode("utf-8", "replace")
        raise ValueError(
            f"{name}: the last line {last!r} has no line break, so the file may be cut short. "
            "Fetch it again, or end the line if the file is complete"
        )
    end = len(data) - len(tail) + len(tail.rstrip(b"\r\n"))
    if end <= start:
        raise ValueError(f"{name} has a header and no rows: was it written to the end?")
    text = arrow.py_buffer(data)[:end]
    try:
        frame = _frame(_table(text, separator, names, arrow.float64()))
    except ValueError:  # as Arrow's errors are: once more, as text, to say what is wrong and where
        try:
            table = _table(text, separator, names, arrow.string())
        except ValueError as error:
            said = f"{name}, {error}".replace("CSV parse error: Row #", "line ")
            raise ValueError(said) from None
        return from_table(table.unify_dictionaries().to_pandas(), name, "line", 2)
    return Part(name, frame, "line", 2)


def _table(
    text: arrow.Buffer, separator: str, names: list[str], number: arrow.DataType
) -> arrow.Table:
    """Return the times, as dictionaries, and the columns of numbers."""
    clock, columns = columns_of(names, "")
    types = {names[i]: arrow.dictionary(arrow.int32(), arrow.string()) for i in clock}
    types |= {names[i]: number for i in columns}
    return arrow_csv.read_csv(
        arrow.BufferReader(text),
        read_options=arrow_csv.ReadOptions(
            column_names=names, skip_rows=1, use_threads=number != arrow.string()
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=separator, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=MISSING, check_utf8=False
        ),
    )


def _frame(table: arrow.Table) -> pd.DataFrame:
    """Return canonical rows, each distinct time parsed once."""
    n_clock = len(table.columns) - len(COLUMNS)
    parts = []
    for column, parse in zip(table.columns[:n_clock], CLOCK_PARSERS[n_clock], strict=True):
        words = column.combine_chunks()
        parsed = parse(words.dictionary.to_pandas()).to_numpy()
        parts.append(parsed[words.indices.to_numpy()])
    ts = sum(parts[1:], parts[0])
    if np.isnat(ts).any():
        raise ValueError("a time cannot be read")
    values = np.empty((len(COLUMNS), len(table)))
    numbers = table.columns[n_clock:]
    with ThreadPoolExecutor(arrow.cpu_count()) as threads:
        list(threads.map(lambda row, column: np.copyto(row, column.to_numpy()), values, numbers))
    return canonical(ts, values)
