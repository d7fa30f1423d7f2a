"""Rows that any version of a model can be asked about, and the pipeline's own part in that.

What only a pipeline knows stands in ``lib/pipelines/<pipeline>.py``, three plain functions found by
its name: `load_rows`, `predict` and `watched`. A pipeline without that file registers and passes
the gate all the same; what it cannot do is said in a `MissingPart`, which names file and function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from lib import judged
from lib.frames import as_numbers, row_keys
from lib.registry.standing import SAMPLE, require_test
from lib.run import Run

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lib.ground.parameters import Value
    from lib.registry.standing import Version

    from mlflow.pyfunc import PyFuncModel

PARTS = {
    "look": "which looks at a source as the load stage reads it",
    "load_rows": "which loads the rows of a source, to compare versions and to score new data",
    "predict": "which says what a version answers to rows, to compare versions and to score",
    "tidy": "which tidies what the pipeline keeps outside of run folders",
    "watched": "which says what columns of new data are compared with those of the training",
}


class MissingPart(ValueError):
    """A pipeline has not written down what only it knows; names the file or function."""


class NotComparable(ValueError):
    """A model is made for another task or input than the rows; the message says which."""


@dataclass(frozen=True)
class Rows:
    """Rows to ask a model about.

    Attributes
    ----------
    inputs : pandas.DataFrame or ndarray
        As the load stage or a run folder holds it, with the history that the rows need.
    keys : pandas.Index of shape (n,), str
        The rows that can be asked about, each once; what a row is called in any file.
    truth : pandas.Series of shape (m,)
        What has come true, by key; of classes, their numbers. Other rows may be among them.
    facts : dict
        Of the data, as in a run's ``dataset.json``: ``name``, ``source``, ``digest`` …
    groups : pandas.Series, optional
        By key: rows of one group, such as a day, are resampled together.
    parted_by : mapping, optional
        Options of the load stage, with their values, that alone say which rows of the source are
        its test: no version that read it by these has learned from one of them, however much the
        source has grown. None where the source does not part its rows so.
    """

    inputs: pd.DataFrame | np.ndarray
    keys: pd.Index
    truth: pd.Series
    facts: dict = field(default_factory=dict)
    groups: pd.Series | None = None
    parted_by: "Mapping[str, Value] | None" = None

    def __post_init__(self) -> None:
        if not self.keys.is_unique:
            twice = self.keys[self.keys.duplicated()][0]
            raise ValueError(f"two rows have the key {twice}: see lib.judged.numbered")


def rows_of_run(run: Run) -> tuple[Rows, pd.DataFrame, dict]:
    """Return exactly the rows that a run has judged, with `lib.judged.read` of it.

    Raises
    ------
    MissingPart
        If its evaluate stage does not say where the input of these rows lies.
    lib.run.UnfinishedStage
        As `lib.judged.read`.
    """
    frame, facts = judged.read(run)
    place = facts["inputs"]
    if "file" not in place:
        raise MissingPart(
            f"the evaluate stage of {run.pipeline} does not say where the input of its test lies: "
            'give inputs={"file": ...} to lib.judged.write'
        )
    inputs = run.read(place["file"])
    inputs = inputs[place["array"]] if "array" in place else inputs
    rows = Rows(inputs, frame.index, frame["truth"], run.read("dataset.json"), frame.get("group"))
    return rows, frame, facts


def load_rows(version: "Version", source: str = "", *, seed: int = 0) -> Rows:
    """Return the rows of a source, read as the run of a version has read its own data.

    Parameters
    ----------
    version : lib.registry.standing.Version
    source : str, default ""
        As the load stage of its pipeline takes it; empty for the source that the version was
        trained on, as it is now.
    seed : int, default 0
        Of a sample that `source` names.

    Raises
    ------
    MissingPart
        If ``lib/pipelines/<pipeline>.py`` or its function is missing.
    ValueError
        If neither `source` nor the version names a source, or it cannot be read.
    """
    options = require_test(version)["options"] | ({"seed": seed} if source else {})
    if not source and not version.source:
        raise ValueError(f"{version.words} does not name the data it was trained on: give source")
    load = part(version.pipeline, "load_rows")
    return load(source or version.source, options, version.model)


def predict(pipeline: str, model: "PyFuncModel", rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return what a model says about rows.

    Parameters
    ----------
    pipeline : str
    model : mlflow.pyfunc.PyFuncModel
    rows : Rows
    keys : pandas.Index of shape (n,)
        Which of them, in any order.

    Returns
    -------
    ndarray of shape (n,) or, for classes, (n, n_classes), float64
        NaN where the model cannot say anything: too little history, or a gap.

    Raises
    ------
    MissingPart
        As `load_rows`.
    ValueError
        If it returns another number of rows.
    """
    found = np.asarray(part(pipeline, "predict")(model, rows, keys), dtype=np.float64)
    if len(found) != len(keys):
        raise ValueError(
            f"predict of lib/pipelines/{pipeline}.py returned {len(found)} rows for {len(keys)} "
            "keys: return one for each, NaN where there is no forecast"
        )
    return found


def watched(pipeline: str, rows: Rows) -> pd.DataFrame:
    """Return the columns that drift looks at, by key; raises `MissingPart` as `load_rows`."""
    return part(pipeline, "watched")(rows)


def parting(pipeline: str, options: "Mapping[str, Value]") -> "dict[str, Value]":
    """Return what `Rows.parted_by` is of rows that a pipeline has read by these options.

    Its module names them in `PARTED_BY`; {} where it does not.
    """
    try:
        names = getattr(import_module(f"lib.pipelines.{pipeline}"), "PARTED_BY", ())
    except ImportError:
        names = ()
    return {name: options[name] for name in names if name in options}


def learned_by(version: "Version", rows: Rows, keys: pd.Index) -> np.ndarray:
    """Say of each row whether a version has learned from it, as far as its model has kept that.

    A row of a table without times is known by the columns that this version takes: another version
    may take others, and then has parted the same rows in another way.

    Raises
    ------
    NotComparable
        If the rows lack a column that the version takes.
    """
    from lib.packaging import has_learned

    found = has_learned(version.model, keys)
    if found is None or judged.times(keys) is not None:
        return np.zeros(len(keys), bool) if found is None else found
    names = version.model.metadata.get_input_schema().input_names()
    if lacking := [name for name in names if name not in rows.inputs]:
        raise NotComparable(f"{version.words} takes the column {lacking[0]!r}, which is not there")
    taken = as_numbers(rows.inputs.loc[keys, names])
    return has_learned(version.model, pd.Index(row_keys(taken)))


def about_training(words: str, version: "Version", rows: Rows) -> str:
    """Say in a sentence whether a version may have learned from rows that have no time.

    Parameters
    ----------
    words : str
        What the version is called.
    version : lib.registry.standing.Version
    rows : Rows
    """
    from lib.packaging import has_learned

    source, theirs = rows.facts["source"], version.test["options"]
    is_same = version.source == source != SAMPLE  # a sample of another seed has other rows
    is_parted = rows.parted_by is not None and rows.parted_by.items() <= theirs.items()
    if version.tags.get("data_digest") == rows.facts["digest"] or (is_same and is_parted):
        return (
            f"{words} has learned from the training rows of this source, which keeps its test rows "
            "apart."
        )
    of = f"another state of {source}" if is_same else f"other data, {version.source or 'unknown'}"
    if has_learned(version.model, rows.keys) is not None:
        return f"{words} has learned from {of}; the rows that it has learned from are left out."
    return f"{words} has learned from {of}: whether any of these rows was there is not known."


def part(pipeline: str, name: str) -> Callable:
    """Return a function of the pipeline's own module; raises `MissingPart` if there is none."""
    file = f"lib/pipelines/{pipeline}.py"
    if not pipeline.isidentifier():
        raise MissingPart(f"{pipeline!r} is no name of a pipeline: use letters, digits and _")
    try:
        module = import_module(f"lib.pipelines.{pipeline}")
    except ModuleNotFoundError as error:
        if error.name != f"lib.pipelines.{pipeline}":
            raise
        raise MissingPart(f"there is no {file} with {name}, {PARTS[name]}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise MissingPart(f"{file} has no function {name}, {PARTS[name]}")
    return function
