"""Tables of any kind: rows of numbers and texts, in one shape whatever file they came from.

Numbers are float64, with a decimal comma too, all else is text, and what is missing stays missing.
A row has a key that is the same in whatever file it stands: its time where there is one, else the
digest of its inputs. What cannot be read is a ValueError that names file, column and row.
"""

import csv
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, BinaryIO

from lib.formats import UTF16, packing, unpack
from lib.frames import as_numbers, frame_digest, row_keys
from lib.ground.console import redact
from lib.ground.directions import closest
from lib.judged import numbered, time_keys
from lib.looks import names_look
from lib.sources import described, list_files, read_file

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

PARTS = ("train", "validation", "test")
WITH_COMMA = r"(?i)\s*[+-]?\d*,?\d+(e[+-]?\d+)?\s*"
WITH_EITHER = r"(?i)\s*[+-]?(\d*[.,]?\d+|\d{1,3}([.,]\d{3})+([.,]\d+)?)(e[+-]?\d+)?\s*"
IN_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*"
"""A number with a decimal comma, one with any signs, and one whose comma may part thousands."""
OF_OBJECTS = {"decimal": "float64", "boolean": "boolean"}
OPTIONS = ("target", "time_column", "leave_out")  # of a load stage, which say how to read a table


def load_table(
    source: str,
    *,
    sample: Callable[[], pd.DataFrame],
    target: str,
    labels: bool,
    time_column: str = "",
    leave_out: Sequence[str] = (),
    model: "PyFuncModel | None" = None,
) -> pd.DataFrame:
    """Load a table as a pipeline learns from it, or as a model of it takes it.

    Parameters
    ----------
    source : str
        ``"sample"``, or a path, glob or URL of CSV (``,``, ``;``, tab or ``|``, with a decimal
        point or comma, packed or not) or Parquet files, see `lib.sources.list_files`.
    sample : callable
        Makes the table that ``"sample"`` stands for.
    target : str
        Column to predict.
    labels : bool
        Whether the target is the name of a class, kept as text, or a number.
    time_column : str, default ""
        Column with the time of a row, ISO 8601; times with a zone become UTC.
    leave_out : sequence of str
        Columns that are no inputs, such as the number of a row.
    model : mlflow.pyfunc.PyFuncModel, optional
        Only its inputs are read, in its order and by its types, and the target may be absent.

    Returns
    -------
    pandas.DataFrame of shape (n_rows, n_columns)
        Inputs (float64 or str), then the target (float64 or str; NaN where it is not known) and
        the time (datetime64), if there is one. Index ``key``, unique; in order of time, else of
        the files.

    Raises
    ------
    ValueError
        If the source cannot be read, a column is missing or holds what it should not.
    """
    schema = model.metadata.get_input_schema() if model else None
    texts = [column.name for column in schema if column.type.name == "string"] if schema else []
    table = sample() if source == "sample" else _read_all(source, texts)
    place = redact(source)
    if target == time_column:
        raise ValueError(f"target and time_column are both {target!r}, of {place}: give another")
    needed = dict.fromkeys(schema.input_names() if schema else leave_out, "")
    needed |= {} if schema else {target: "target"}
    needed |= {time_column: "time_column"} if time_column else {}
    for name, role in needed.items():
        if name not in table:
            which, way = (f", the {role}", f': give {role}="..."') if role else ("", "")
            raise ValueError(
                f"{place} has no column {name!r}{which}{closest(name, table)}; it has "
                f"{', '.join(table)}{way}"
            )
    inputs = schema.input_names() if schema else list(table)
    inputs = [name for name in inputs if name not in (target, time_column, *leave_out)]
    if not len(table) or not inputs:
        raise ValueError(f"{place} has {len(table)} rows and {len(inputs)} columns to learn from")
    parts = {name: _plain(table[name], place, is_text=name in texts) for name in inputs}
    for name in [name for name in inputs if schema and name not in texts]:
        if parts[name].dtype != "float64":
            raise _no_number(table[name], place, f"the model takes numbers for {name}")
    known = table[target] if target in table else pd.Series(np.nan, table.index, name=target)
    parts[target] = _target(known, place, labels=labels)
    if time_column:
        parts[time_column] = _times(table[time_column], place)
    found = pd.DataFrame(parts)
    if time_column:
        found = found.sort_values(time_column, kind="stable")
        return found.set_axis(time_keys(found[time_column]), axis=0)
    return found.set_axis(numbered(row_keys(as_numbers(found[inputs]))), axis=0)


def table_loader(pipeline: str, **options: object) -> Callable[..., pd.DataFrame]:
    """Return `load_table` with what is the same for all sources of a pipeline."""
    return names_look(pipeline)(partial(load_table, **options))


def describe_table(table: pd.DataFrame, source: str, *, name: str, target: str) -> dict:
    """Return what there is to know about a table before its values, for ``dataset.json``.

    Returns
    -------
    dict
        ``name`` (with ``_sample`` for a sample), ``source`` (without secrets), ``digest``
        (`lib.frames.frame_digest`), ``n_rows``, ``n_columns``, ``n_missing`` (rows without
        target).
    """
    return described(name, source, frame_digest(table), len(table)) | {
        "n_columns": len(table.columns),
        "n_missing": int(table[target].isna().sum()),
    }


def split_rows(
    table: pd.DataFrame,
    *,
    fractions: Sequence[float],
    time_column: str = "",
    stratify: str = "",
    seed: int = 0,
) -> pd.Series:
    """Say of each row whether it is for training, validation or the test.

    With times, the last rows are the test and those before them the validation; rows of one moment
    stay together. Without, a number drawn from key and seed puts the rows in order: a row stays
    where it is when others are added (but for those at a border), and rows with equal inputs stay
    together.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n, n_columns)
        From `load_table`.
    fractions : sequence of float
        Of the rows that are for validation, and of those for the test.
    time_column : str, default ""
        As in `load_table`.
    stratify : str, default ""
        Column of whose values each part gets its share; with times each part need only have some.
        Rows without a value count as of the test.
    seed : int, default 0
        Of the draw.

    Returns
    -------
    pandas.Series of shape (n,), str
        One of `PARTS`, by key.

    Raises
    ------
    ValueError
        If a part has no row with one of the values of `stratify`, or there are fewer than two.
    """
    if time_column:
        place = table[time_column].rank(pct=True)
    else:
        drawn = pd.Series(table.index.str.split("/").str[0] + f" {seed}", table.index)
        number = pd.Series(pd.util.hash_array(drawn.to_numpy(object)), table.index)
        place = (number.groupby(table[stratify]) if stratify else number).rank(pct=True)
    borders = [1 - sum(fractions), 1 - fractions[1]]
    part = pd.Series(np.take(PARTS, np.searchsorted(borders, place)), table.index, dtype="str")
    if stratify:
        n_parts = part.groupby(table[stratify]).nunique()
        rare = n_parts.index[n_parts < len(PARTS)]
        if len(n_parts) < 2:
            raise ValueError(f"{stratify} is the same in all rows: there is nothing to tell apart")
        if len(rare):
            raise ValueError(
                f"{len(rare)} of {len(n_parts)} classes of {stratify} are not in every part of the "
                f"split, {rare[0]!r} for example: join rare classes, or leave their rows out; "
                "numbers are for a pipeline made with TASK=regression"
            )
    return part


def unlearned(table: pd.DataFrame, model: "PyFuncModel | None") -> pd.DataFrame:
    """Return the rows that a model has not learned from, as far as it knows; all without one.

    It has kept the keys of those that it has learned from. One that was saved before keys were kept
    knows them of the very data that it was trained on: its metadata hold ``digest`` of the data and
    ``split``, what `split_rows` was given; of other data it knows none.
    """
    if model is None:
        return table
    from lib.packaging import has_learned

    learned = has_learned(model, table.index)
    if learned is not None:
        return table[~learned]
    known = model.metadata.metadata
    if frame_digest(table) != known["digest"]:
        return table
    return table[split_rows(table, **known["split"]) == "test"]


def _read_all(source: str, texts: list[str]) -> pd.DataFrame:
    """Return the rows of all files of a source, which must have the same columns.

    A column that is text in one of them is read as text, as it stands there, in all that are text.
    """
    files = list_files(source, hint='give "sample"')
    tables = [_read(name, _content(name, opened, source), texts) for name, opened in files]
    for (name, _), table in zip(files[1:], tables[1:], strict=True):
        unlike = sorted(set(table) ^ set(tables[0]))
        if unlike:
            raise ValueError(
                f"{name} and {files[0][0]} have other columns: only one of them has "
                f"{', '.join(unlike)}"
            )
    mixed = _mixed(tables)
    for k, (name, opened) in enumerate(files if mixed else ()):
        if mixed & {*tables[k].select_dtypes(["number", "bool"])}:
            tables[k] = _read(name, _content(name, opened, source), [*texts, *mixed])
    return pd.concat(tables, ignore_index=True)


def _mixed(tables: list[pd.DataFrame]) -> set[str]:
    """Return the columns that are numbers in some tables and text in others."""
    numbers, others = set(), set()
    for table in tables:
        filled = {*table.columns[table.notna().any()]}
        found = filled & {*table.select_dtypes(["number", "bool"])}
        numbers |= found
        others |= filled - found
    return numbers & others


def _content(name: str, opened: Callable[[], BinaryIO], source: str) -> bytes:
    """Return what a file holds, unpacked, and text of UTF-16 in UTF-8."""
    data = read_file(opened, source)
    is_plain = not packing(data[:6]) and not data.startswith(UTF16)
    return data if is_plain else unpack(data, name, may_end_open=True)[1]


def _read(name: str, data: bytes, texts: list[str]) -> pd.DataFrame:
    """Return the rows of one file, Parquet by its first bytes, else CSV."""
    is_parquet = data.startswith(b"PAR1")
    try:
        if is_parquet:
            table = pd.read_parquet(BytesIO(data)).reset_index(drop=True)
        else:
            table = _read_csv(data, texts)
    except pd.errors.ParserWarning:  # which would shift the columns, and drop the last fields
        raise ValueError(
            f"{name}: its rows have more fields than its first line has names: name every column, "
            "that of row names too, and quote numbers with a decimal comma"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(
            f'{name} is not in UTF-8: save it as such, in Excel as "CSV UTF-8"'
        ) from None
    except (ValueError, OSError) as error:  # of pandas and Arrow
        raise ValueError(f"{name} cannot be read as CSV or Parquet: {error}") from error
    if not is_parquet:
        table = table.assign(**_decimal_commas(table.drop(columns=texts, errors="ignore"), name))
    return table.set_axis(table.columns.astype("str"), axis=1)


def _read_csv(data: bytes, texts: list[str]) -> pd.DataFrame:
    header = re.sub(rb'"[^"]*"', b"", data.partition(b"\n")[0]).decode("latin-1")
    common = max(",;\t", key=header.count)
    separator = common if common in header else "|"
    read = partial(
        pd.read_csv,
        sep=separator,
        skipinitialspace=True,  # a blank alone is no value, and none belongs to a name
        encoding="utf-8-sig",
        index_col=False,
    )
    first = read(BytesIO(data), header=None, nrows=1, dtype="str", keep_default_na=False)
    names = first.iloc[0][first.iloc[0] != ""]
    if names.duplicated().any():  # the target too, which would be learned from
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"its first line names {twice!r} twice: rename one of them")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = read(
            BytesIO(data),
            dtype=dict.fromkeys(texts, "str"),
            low_memory=False,  # or each stretch of the file has types of its own
        )
    if table.iloc[:, -1:].isna().any(axis=None):
        _require_fields(data, separator, len(table.columns))
    return table


def _require_fields(data: bytes, separator: str, n_fields: int) -> None:
    """Raise where a row ends before its last field: pandas takes what is left for missing."""
    text = TextIOWrapper(BytesIO(data), "utf-8-sig", newline="")
    rows = csv.reader(text, delimiter=separator)
    with suppress(csv.Error):  # of a text too long for it
        for row in rows:
            if len(row) < n_fields and any(map(str.strip, row)):
                raise ValueError(
                    f"line {rows.line_num} has {len(row)} fields separated by {separator!r} where "
                    f"{n_fields} were expected: {separator.join(row)[:100]!r}; correct or remove it"
                )


def _decimal_commas(table: pd.DataFrame, name: str) -> dict[str, pd.Series]:
    """Return as numbers the columns of text that hold only numbers, and some with a comma.

    Raises
    ------
    ValueError
        If numbers of a column have other signs too, or every comma of the table may part thousands.
    """
    columns = [values for _, values in table.select_dtypes("str").items()]
    commas = [values[values.str.contains(",", regex=False, na=False)] for values in columns]
    found = [
        (values, comma)
        for values, comma in zip(columns, commas, strict=True)
        if len(comma) and values.dropna().str.fullmatch(WITH_EITHER).all()
    ]
    is_told = not all(comma.str.fullmatch(IN_THOUSANDS).all() for _, comma in found)
    for values, comma in found:
        wrong = values[~values.str.fullmatch(WITH_COMMA, na=True)] if is_told else comma
        if len(wrong):
            raise ValueError(
                f"{name}, row {wrong.index[0]}: {values.name} is {wrong.iloc[0]!r}, and a comma in "
                "its numbers may be a decimal sign or part thousands: write them with a decimal "
                "point, or all with a decimal comma, and nothing between thousands"
            )
    return {
        str(values.name): pd.to_numeric(values.str.replace(",", ".", regex=False))
        for values, _ in found
    }


def _plain(values: pd.Series, place: str, *, is_text: bool = False) -> pd.Series:
    """Return numbers and booleans as float64, all else as text; what a model takes as text too."""
    if is_text:
        return _names(values)
    if values.dtype == object:  # of Parquet, or truths of which some are missing
        kind = OF_OBJECTS.get(pd.api.types.infer_dtype(values))
        values = values.astype(kind) if kind else values
    if not pd.api.types.is_numeric_dtype(values):
        return values.astype("str") if values.notna().any() else values.astype("float64")
    numbers = values.astype("float64") + 0.0  # no -0.0, which has another digest
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise ValueError(f"{place}, row {row}: {values.name} is {numbers[row]}: give numbers")
    return numbers


def _target(values: pd.Series, place: str, *, labels: bool) -> pd.Series:
    is_truth = labels and pd.api.types.infer_dtype(values) == "boolean"
    plain = values.astype("str") if is_truth else _plain(values, place)
    if labels:
        return _names(plain)
    if plain.dtype != "float64":
        why = "this pipeline predicts numbers; classes are for one made with TASK=classification"
        raise _no_number(values, place, why)
    return plain


def _names(values: pd.Series) -> pd.Series:
    """Return values as text, a whole number without a point."""
    is_whole = pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all()
    names = (values.astype("Int64") if is_whole else values).astype("str")
    return names.where(values.notna())


def _no_number(values: pd.Series, place: str, why: str) -> ValueError:
    numbers = pd.to_numeric(values.astype("str"), errors="coerce")
    row = int(np.argmax(numbers.isna() & values.notna()))
    told = f"{values.name} is {values.iloc[row]!r}, expected a number"
    return ValueError(f"{place}, row {row}: {told}: {why}")


def _times(values: pd.Series, place: str) -> pd.Series:
    is_number = pd.api.types.is_numeric_dtype(values)
    texts = values.astype("str") if is_number else values
    found = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
    wrong = np.flatnonzero(found.isna() | is_number)
    if wrong.size:
        raise ValueError(
            f"{place}, row {wrong[0]}: {values.name} is {texts.iloc[wrong[0]]!r}, expected a "
            "time such as 2026-11-03T04:00:00"
        )
    return found.dt.tz_localize(None)
