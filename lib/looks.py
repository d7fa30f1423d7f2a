"""A look at a source before anything is trained on it: what was recognised, and how to go on.

What a pipeline sees in a source is for the pipeline to say, as a `Look`; how it is shown is the
same for all.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TypeVar

from lib.ground.console import redact
from lib.ground.parameters import Value

import pandas as pd

N_ROWS = 3
"""Rows that are shown from either end."""
FEW = 20
"""Rows of which each may hold another value without being odd."""
WAY = " To see how it is read: "

Load = TypeVar("Load", bound=Callable)


def names_look(pipeline: str) -> Callable[[Load], Load]:
    """Let every refusal of a loader, which takes a source first, end with the command that looks.

    Parameters
    ----------
    pipeline : str
        Of the load stage that calls it.
    """

    def decorate(load: Load) -> Load:
        @wraps(load)
        def read(source: str, *args: object, **options: object) -> object:
            try:
                return load(source, *args, **options)
            except ValueError as error:
                if source != "sample" and WAY not in str(error):
                    end = "" if str(error).endswith(("?", ".")) else "."
                    way = WAY + command("look", pipeline, source, {})
                    error.args = (f"{error}{end}{way}",)
                raise

        return read

    return decorate


@dataclass(frozen=True)
class Look:
    """What a source is, as a pipeline reads it.

    Attributes
    ----------
    facts : mapping of str to str
        What was recognised, as ``format`` or ``separator``.
    columns : DataFrame
        What each column is, by its standard name.
    rows : DataFrame
        As they will be used.
    counts : mapping of str to int
        ``read`` comes first, and is the sum of the others.
    odd : sequence of str
        What somebody should look at.
    params : mapping
        Parameters for a run, besides those given.
    is_whole : bool
        Whether all of it was read.
    """

    facts: Mapping[str, str]
    columns: pd.DataFrame
    rows: pd.DataFrame
    counts: Mapping[str, int]
    odd: Sequence[str] = ()
    params: Mapping[str, Value] = field(default_factory=dict)
    is_whole: bool = True

    def __post_init__(self) -> None:
        total, *places = self.counts.values()
        if total != sum(places):
            raise RuntimeError(f"rows have been lost: {dict(self.counts)}")

    def __repr__(self) -> str:
        n_read, *_ = self.counts.values()
        places = " + ".join(f"{n:,} {name}" for name, n in [*self.counts.items()][1:] if n)
        beginning = "" if self.is_whole else "; only the beginning was read"
        blocks = [
            *([_table(self.facts)] if self.facts else []),
            *([_frame(self.columns)] if len(self.columns.columns) else []),
            f"{n_read:,} rows read = {places}{beginning}".replace("_", " "),
            _frame(self.rows if len(self.rows) <= 2 * N_ROWS else _ends(self.rows)),
            *([_list("Odd:", self.odd)] if self.odd else []),
        ]
        return "\n\n".join(blocks)


def column_row(
    ours: str, theirs: Sequence[str], unit: str, written: str, meant: object
) -> dict[str, str]:
    """Return what is shown of a column: its names, and what stands in its first row and means."""
    return {
        "column": ours,
        "in the data": "+".join(theirs) + (f" [{unit}]" if unit else ""),
        "first value": written,
        "is": _text(meant),
    }


def look_at_frame(frame: pd.DataFrame, counts: Mapping[str, int], facts: Mapping) -> Look:
    """Return what there is to see in any table."""
    columns = pd.DataFrame(
        {
            "type": frame.dtypes.astype(str),
            "missing": frame.isna().sum(),
            "distinct": frame.nunique(),
        }
    ).rename_axis("column")
    shown = {name: str(facts[name]) for name in ("source", "digest") if name in facts}
    return Look(shown, columns, frame, counts, odd_columns(frame))


def odd_columns(frame: pd.DataFrame) -> list[str]:
    """Return what is odd about single columns.

    There is nothing in one, the same in all rows or something else in each, a word that makes text
    of numbers, or what another one says in other words.
    """
    empty = [str(name) for name in frame if frame[name].isna().all()]
    told = [f"no value in {', '.join(empty)}"] if empty else []
    alike: list[str] = []
    said: dict[bytes, object] = {}
    for name, values in frame.items():
        numbers, distinct = pd.factorize(values)
        odd = _odd(values, len(distinct))
        told += [odd] if odd else []
        if 1 < len(distinct) <= len(frame) / 2:  # else every two would be alike
            first = said.setdefault(hashlib.sha256(numbers).digest(), name)
            alike += [f"{name} says the same as {first}"] if first != name else []
    return told + alike


def _odd(values: pd.Series, n_distinct: int) -> str:
    given, name = values.dropna(), values.name
    if n_distinct == 1 and len(values) > 1:
        where = "every row" if len(given) == len(values) else "every row that has it"
        return f"{name} is {given.iloc[0]} in {where}"
    if pd.api.types.is_numeric_dtype(values):
        is_number_of_row = n_distinct == len(values) > FEW and (given % 1 == 0).all()
        way = "leave it out if it only numbers them"
        return f"{name} is another whole number in every row: {way}" if is_number_of_row else ""
    if values.dtype != "str":
        return ""
    words = given[pd.to_numeric(given, errors="coerce").isna()]
    if 0 < len(words) < len(given) / 2:
        return f"{name} is text, as {words.iloc[0]!r} is there among numbers"
    is_name = n_distinct > max(FEW, len(given) / 2)
    way = "one that is there once teaches nothing"
    return f"{name} has {n_distinct} texts in {len(given)} rows: {way}" if is_name else ""


def model_name(pipeline: str, text: str) -> str:
    """Return a name for models of a source that a text names, as a file's name does."""
    name = "".join(sign if sign.isalnum() else "_" for sign in text.lower()).strip("_")
    return f"{pipeline}_{name or 'own'}"


def command(verb: str, pipeline: str, source: str, params: Mapping[str, Value]) -> str:
    """Return what is typed to run a pipeline on a source, or to look at it."""
    shown = redact(source)
    if verb == "run":
        given = json.dumps({"source": shown, **params}, ensure_ascii=False)
        return f"make run PIPELINE={pipeline} PARAMS={shlex.quote(given)}"
    given = f" PARAMS={shlex.quote(json.dumps(params, ensure_ascii=False))}" if params else ""
    return f"make {verb} PIPELINE={pipeline} SOURCE={shlex.quote(shown)}{given}"


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    gap = pd.DataFrame({name: ["…"] for name in rows}, index=pd.Index(["…"], name=rows.index.name))
    ends = [rows.head(N_ROWS), rows.tail(N_ROWS)]
    first, last = (end.map(_text).set_axis(end.index.astype(str), axis=0) for end in ends)
    return pd.concat([first, gap, last]).rename_axis(rows.index.name)


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _frame(frame: pd.DataFrame) -> str:
    return frame.to_string(max_colwidth=40, max_cols=12)


def _table(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"- {line}" for line in lines)])
