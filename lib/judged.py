"""What an evaluate stage leaves behind: the rows it has judged, and what there is to know of them.

`write` puts ``judged.parquet`` and ``test.json`` into the run folder; the gate, registration,
comparison and pages read these and ask for nothing else. A row has a key that is the same in
whatever file it stands, so that two runs can find the rows that both have judged.
"""

import re
from collections.abc import Mapping, Sequence

from lib.classification import checked
from lib.ground.directions import GREATER_IS_BETTER, closest
from lib.ground.parameters import Value
from lib.run import Run

import numpy as np
import pandas as pd

ROWS, FACTS = "judged.parquet", "test.json"
KINDS = {
    "regression": ("rmse", "mae"),
    "ranking": ("rank_ic", "mse", "mae"),
    "classification": ("accuracy", "loss"),
}
"""Kinds of tasks, each with the metrics by which two models can be compared."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(/\d+)?")


def write(
    run: Run,
    frame: pd.DataFrame,
    *,
    kind: str,
    metric: str,
    unit: str = "",
    quantity: str = "",
    block_length: int = 1,
    learned_until: str = "",
    classes: Sequence[str] = (),
    task: Mapping[str, object] | None = None,
    inputs: Mapping[str, str] | None = None,
    options: Mapping[str, Value] | None = None,
) -> None:
    """Write the rows that a run is judged by, and what must be known to judge others by them.

    Parameters
    ----------
    run : Run
        Of the evaluate stage.
    frame : pandas.DataFrame of shape (n_rows, n_columns)
        Index: the key of each row, a time or text, each once (where times repeat, `time_keys` of
        all rows, before any is dropped). Columns: ``truth``; ``model``; one for each baseline; and
        ``group`` where rows may be resampled within a group only, such as a day. Classification:
        ``truth`` numbers the classes, the others hold one array of probabilities for each row.
    kind : {"regression", "ranking", "classification"}
        What is asked of the model.
    metric : str
        Decides which of two models is better, one of `KINDS`.
    unit, quantity : str, default ""
        Of the truth: ``"kW"``, ``"load"``; what axes are labelled with.
    block_length : int, default 1
        Rows near enough to be alike, for a block bootstrap; at most those of the smallest group.
    learned_until : str, default ""
        Last time that the model has learned from, ISO 8601; "" where rows have no time.
    classes : sequence of str
        Names of the classes.
    task : mapping, optional
        What a model must be made for to be comparable, JSON-able: horizon, time step; and, where a
        draw parts rows without a time, its seed and fractions, or else a model would be judged by
        rows that it has learned from.
    inputs : mapping, optional
        Where in the run folder the raw input of these rows lies: ``file`` and, in an ``.npz``,
        ``array``. Without it another version cannot be asked about them.
    options : mapping, optional
        Parameters of the load stage, which say how its source is read; ``run_dir`` and ``source``
        are left out.

    Raises
    ------
    ValueError
        If anything of this does not fit together; says what.
    """
    _check_kind(kind, metric)
    rows = _checked(frame, kind, classes)
    smallest = rows.groupby("group").size().min() if "group" in rows else len(rows)
    if block_length < 1:
        raise ValueError(f"block_length={block_length} must be at least 1 row")
    facts = {
        "kind": kind,
        "metric": metric,
        "greater_is_better": GREATER_IS_BETTER[metric],
        "unit": unit,
        "quantity": quantity,
        "block_length": int(min(block_length, smallest)),
        "learned_until": learned_until,
        "classes": list(classes),
        "task": dict(task or {}),
        "inputs": dict(inputs or {}),
        "options": {k: v for k, v in (options or {}).items() if k not in ("run_dir", "source")},
    }
    run.write(ROWS, rows.rename_axis("key").reset_index())
    run.write(FACTS, facts)


def read(run: Run) -> tuple[pd.DataFrame, dict]:
    """Return the rows that a run has judged, by key, and what is known of them; see `write`.

    Raises
    ------
    lib.run.UnfinishedStage
        If the run was not evaluated, or a file has changed since.
    ValueError
        If its kind of task is not known.
    """
    facts = read_facts(run)
    return run.read(ROWS).set_index("key"), facts


def read_facts(run: Run) -> dict:
    """Return what is known of the rows that a run has judged; raises as `read`."""
    facts = run.read(FACTS)
    _check_kind(facts["kind"], facts["metric"])
    return facts


def values(frame: pd.DataFrame, column: str = "model") -> np.ndarray:
    """Return a column as numbers: of shape (n,), or (n, n_classes) where it holds probabilities."""
    found = frame[column]
    return np.stack(found.to_list()) if found.dtype == object else found.to_numpy(dtype=np.float64)


def baselines(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that are neither truth, group nor the model."""
    return [name for name in frame.columns if name not in ("truth", "group", "model")]


def time_keys(index: pd.DatetimeIndex) -> pd.Index:
    """Return times as keys; of equal ones each but the first gets a number."""
    index = pd.DatetimeIndex(index)
    naive = index.tz_convert("UTC").tz_localize(None) if index.tz else index
    times = naive.to_numpy("datetime64[us]")
    is_whole = times == times.astype("datetime64[s]")
    texts = np.datetime_as_string(times, unit="s").astype(object)
    texts[~is_whole] = np.datetime_as_string(times[~is_whole], unit="us")
    return numbered(texts)


def numbered(keys: Sequence[str]) -> pd.Index:
    """Return keys of which each that repeats an earlier one got a number: ``a``, ``a/1``."""
    texts = pd.Series(keys, dtype="str")
    again = texts.groupby(texts).cumcount()
    return pd.Index(texts.where(again == 0, texts + "/" + again.astype("str")), name="key")


def times(keys: pd.Index) -> pd.DatetimeIndex | None:
    """Return the times that keys stand for (UTC where they had a zone); None if one is no time."""
    texts = pd.Series(keys, dtype="str")
    if not len(texts) or not texts.str.fullmatch(TIME.pattern).all():
        return None
    if texts.str.contains("/").any():
        texts = texts.str.split("/").str[0]
    return pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601"))


def by_time(rows: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Return rows by the times that their keys stand for, or by number where they are no times."""
    found = times(rows.index)
    return rows.reset_index(drop=True) if found is None else rows.set_axis(found, axis=0)


def _check_kind(kind: str, metric: str) -> None:
    if kind not in KINDS:
        raise ValueError(
            f"kind = {kind!r} is no kind of task{closest(kind, KINDS)}: give {', '.join(KINDS)}"
        )
    if metric not in KINDS[kind]:
        raise ValueError(
            f"metric = {metric!r} cannot decide between two models of a {kind}: give "
            f"{' or '.join(KINDS[kind])}"
        )


def _checked(frame: pd.DataFrame, kind: str, classes: Sequence[str]) -> pd.DataFrame:
    """Return the rows as they are kept, once sure that each can be judged."""
    if not len(frame):
        raise ValueError("no row was judged: give one or more")
    for name in ("truth", "model"):
        if name not in frame:
            raise ValueError(f"the judged rows have no column {name!r}; there are {list(frame)}")
    index = frame.index
    keys = time_keys(index) if isinstance(index, pd.DatetimeIndex) else index.astype("str")
    if not index.is_unique:
        raise ValueError(
            f"the key {index[index.duplicated()][0]} stands for two rows: give each row its own, "
            "judged.time_keys(...) of all rows for example"
        )
    rows = frame.set_axis(keys, axis=0)
    names = ["truth", "model", *baselines(frame)]
    for name in names:
        is_class = kind == "classification" and name != "truth"
        if is_class:
            rows[name] = _probabilities(rows, name, len(classes))
            continue
        rows[name] = column = rows[name].to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isfinite(column))
        if wrong.size:
            raise ValueError(
                f"column {name!r} has no value at {keys[wrong[0]]}: leave out rows that the truth "
                "or a forecast is missing for"
            )
    if kind == "classification":
        rows["truth"] = rows["truth"].astype(np.int64)
    if "group" in rows:
        rows["group"] = rows["group"].astype("str")
    return rows[[*(["group"] if "group" in rows else []), *names]]


def _probabilities(rows: pd.DataFrame, name: str, n_classes: int) -> list[np.ndarray]:
    try:
        truth = rows["truth"].to_numpy()
        _, found = checked(truth.astype(np.int64), np.stack(rows[name].to_list()))
        if found.shape[1] != n_classes or (truth % 1).any():
            raise ValueError(f"{found.shape[1]} probabilities for {n_classes} classes")
    except ValueError as error:
        raise ValueError(f"column {name!r} does not fit: {error}") from error
    return list(found)
