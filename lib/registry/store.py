"""Predictions for new data, in a store that outlives runs: no row is ever scored twice.

The store of a model is a folder of numbered Parquet parts. A part appears whole or not at all, and
its number can be taken once only, so whoever writes part n has seen the rows of all parts before
it: a killed run goes on after its last part, and two runs at once share the rows. What was
predicted stays as it was, whatever version serves later.
"""

import io
import os
import re
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from lib import judged, tracking
from lib.ground.files import is_local, now, outputs_dir
from lib.registry.drift import PROFILE
from lib.registry.rematch import moment
from lib.registry.rows import Rows, predict
from lib.registry.standing import SAMPLE, Version, require_test
from lib.run import Run, open_run

import numpy as np
import pandas as pd
from upath import UPath

PART = re.compile(r"part-(\d{6,})\.parquet")
N_ASKED = 200  # rows that are asked about again, at most
SIGNATURE = ("model", "version", "run_dir", "scored_at")


# The version that scores, and the rows that are new to it ---------------------------------------


def facts_of(version: Version) -> dict:
    """Return what later stages need to know of a version, JSON-able."""
    names = ("name", "pipeline", "run_dir", "source", "learned_until", "metrics")
    return {"version": version.number} | {name: getattr(version, name) for name in names}


def profile_of(version: Version) -> dict:
    """Return the profile of its training data that a version's run has left, {} if none.

    MLflow has it of the run that has executed the stage; who has taken that stage has the file.
    """
    from mlflow.artifacts import load_dict

    place = f"results/{PROFILE}"
    if version.run_id:
        logged = tracking.open_client().list_artifacts(version.run_id, "results")
        if place in [file.path for file in logged]:
            return load_dict(f"runs:/{version.run_id}/{place}")
    try:
        return open_run(version.run_dir).read(PROFILE)
    except ValueError:
        return {}


def new_keys(version: Version, rows: Rows, since: str = "") -> pd.Index:
    """Return the rows that are new to a version.

    Parameters
    ----------
    version : Version
    rows : Rows
    since : str, default ""
        Only what comes after this time, ISO 8601; "" for all that comes after what the version has
        learned from. Rows that have no time are all new, and come in the order of their keys, so
        that their last ones are no one class.

    Raises
    ------
    ValueError
        If it is not known from where on the rows are new, `since` is no time, or it is given though
        the rows have none.
    """
    times = judged.times(rows.keys)
    if times is None and since and len(rows.keys):
        raise ValueError(
            f"the rows have no time, so since = {since!r} says nothing: leave it empty"
        )
    if times is None:
        return rows.keys.sort_values()
    try:
        known = [moment(text) for text in (since, version.learned_until) if text]
    except ValueError as error:
        raise ValueError(f"since = {since!r} is no time: give one as 2026-11-03T04:00") from error
    if not known:
        raise ValueError(
            f"{version.words} of {version.name} does not say until when it has learned: give "
            "`since`, the time after which its rows are new"
        )
    return rows.keys[times > max(known)]


# Store ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """The predictions of a model.

    Attributes
    ----------
    path : UPath
        Folder of the parts; it need not exist yet.

    Notes
    -----
    A part has the columns ``key``, those of the model's output, ``model``, ``version``, ``run_dir``
    (of the run that scored) and ``scored_at`` (ISO 8601, UTC).
    """

    path: UPath
    _keys: dict[str, pd.Index] = field(default_factory=dict, repr=False)

    def parts(self) -> list[str]:
        """Return the names of the parts, in the order in which they were written."""
        if not self.path.exists():
            return []
        names = [path.name for path in self.path.iterdir() if PART.fullmatch(path.name)]
        return sorted(names, key=_number)

    def keys(self) -> pd.Index:
        """Return the keys of all rows that have been scored."""
        for name in self.parts():
            if name not in self._keys:  # a part never changes
                self._keys[name] = pd.Index(self._read(name, ["key"])["key"])
        kept = list(self._keys.values())
        return kept[0].append(kept[1:]) if kept else pd.Index([], dtype="str", name="key")

    def read(self, run_dir: str = "") -> pd.DataFrame:
        """Return the rows in the store, all or those that one run has scored, by key."""
        parts = [self._read(name, None) for name in self.parts()]
        if not parts:
            return pd.DataFrame(columns=list(SIGNATURE), index=pd.Index([], "str", name="key"))
        rows = pd.concat(parts, ignore_index=True).sort_values("key").set_index("key")
        return rows[rows["run_dir"] == run_dir] if run_dir else rows

    def append(self, frame: pd.DataFrame) -> int:
        """Write rows as the next part, without those that are in the store by now.

        Parameters
        ----------
        frame : pandas.DataFrame of shape (n, n_columns)
            With a column ``key``.

        Returns
        -------
        int
            How many rows were written.
        """
        while True:
            known = self.keys()
            fresh = frame[~frame["key"].isin(known)].drop_duplicates("key")
            if fresh.empty:
                return 0
            number = max((_number(name) for name in self._keys), default=0) + 1
            buffer = io.BytesIO()
            fresh.to_parquet(buffer, index=False)
            if _create(self.path / f"part-{number:06d}.parquet", buffer.getvalue()):
                return len(fresh)

    def _read(self, name: str, columns: list[str] | None) -> pd.DataFrame:
        data = (self.path / name).read_bytes()
        return pd.read_parquet(io.BytesIO(data), columns=columns)


def store_of(version: Version, run: Run) -> Store:
    """Return the store of a model; that of the sample lies with the run and begins empty.

    Parameters
    ----------
    version : Version
    run : Run
        The run that scores.
    """
    if version.name != SAMPLE:
        return Store(outputs_dir() / "score" / "store" / version.name)
    folder = run.scratch / "store"
    shutil.rmtree(folder, ignore_errors=True)
    return Store(UPath(folder))


def _number(name: str) -> int:
    return int(PART.fullmatch(name)[1])


def _create(path: UPath, data: bytes) -> bool:
    """Write a file whole, unless there is one of this name: then say False."""
    if not is_local(path):
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except OSError:
            if not path.exists():
                raise
            return False
        return True
    local = Path(path.path)
    local.parent.mkdir(parents=True, exist_ok=True)
    temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        os.link(temporary, local)  # in contrast to a rename it fails where the name is taken
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


# Scoring ----------------------------------------------------------------------------------------


def score(
    version: Version, rows: Rows, keys: pd.Index, store: Store, *, run_dir: str, batch_rows: int
) -> dict:
    """Score every row that is not in the store, part by part.

    Runs on one machine wait for each other; others are kept apart by the numbers of the parts.

    Parameters
    ----------
    version : Version
    rows : Rows
    keys : pandas.Index
        Of `new_keys`.
    store : Store
    run_dir : str
        The run that scores, which is written beside each row.
    batch_rows : int
        Rows per part.

    Returns
    -------
    dict of str to int
        ``n_rows``, ``n_known`` (in the store before, or put there by another run meanwhile),
        ``n_scored`` by this call and ``n_without``, rows that the version cannot forecast: too
        little history, or a gap.

    Raises
    ------
    ValueError
        If the rows are others of the same times than those in the store, see `require_same`.
    """
    with tracking.locked(f"score-{version.name}"):
        left = keys[~keys.isin(store.keys())]
        is_own = rows.facts.get("source", version.source) == version.source
        if not is_own and judged.times(keys) is not None:
            require_same(version, rows, keys, store)
        n_known, n_scored, n_without = len(keys) - len(left), 0, 0
        for k in range(0, len(left), batch_rows):
            part = left[k : k + batch_rows]
            found = predictions(version, rows, part)
            made = {"model": version.name, "version": version.number, "run_dir": run_dir}
            n_written = store.append(found.assign(**made, scored_at=now()))
            n_without += len(part) - len(found)
            n_known += len(found) - n_written
            n_scored += n_written
    counts = {"n_rows": len(keys), "n_known": n_known}
    return counts | {"n_scored": n_scored, "n_without": n_without}


def require_same(version: Version, rows: Rows, keys: pd.Index, store: Store) -> None:
    """Ask a version again about rows it has scored: those of another house have the same times.

    Raises
    ------
    ValueError
        If most of the last ones have another answer now. A few may, whose history was filled in,
        and the last row of a run, which may not have been whole, is not asked about.
    """
    kept = store.read()
    kept = kept[(kept["version"] == version.number) & kept.duplicated("run_dir", keep="last")]
    asked = keys[keys.isin(kept.index)][-N_ASKED:]
    if asked.empty:
        return
    made = predictions(version, rows, asked).set_index("key")
    column = predicted_column(version)
    before, after = kept.loc[made.index, column], made[column]
    numbers = pd.api.types.is_numeric_dtype(after)
    differ = ~np.isclose(before, after, rtol=1e-3) if numbers else before != after
    if differ.sum() > len(made) / 2:
        raise ValueError(
            f"{version.words} of {version.name} has scored other rows of the same times: of "
            f"{len(made)} that it was asked about again, {differ.sum()} have another answer. "
            "Another house or symbol needs a model of another name; where readings were replaced, "
            f"delete the parts in {store.path}"
        )


def predictions(version: Version, rows: Rows, keys: pd.Index) -> pd.DataFrame:
    """Return what a version says about some rows, without those of which it can say nothing.

    Returns
    -------
    pandas.DataFrame of shape (n, 1 + n_outputs)
        ``key``, and the forecast, named as the model names it; of classes ``label`` and the
        probability of each.
    """
    found = predict(version.pipeline, version.model, rows, keys)
    is_known = np.isfinite(found).reshape(len(found), -1).all(axis=1)
    key, found = keys[is_known].to_numpy(), found[is_known]
    if found.ndim == 1:
        return pd.DataFrame({"key": key, predicted_column(version): found})
    classes = require_test(version)["classes"]
    columns = [f"probability_{name}".replace(" ", "_") for name in classes]
    frame = pd.DataFrame(found, columns=columns)
    frame.insert(0, predicted_column(version), [classes[k] for k in found.argmax(axis=1)])
    frame.insert(0, "key", key)
    return frame


def predicted_column(version: Version) -> str:
    """Return the column of the store that holds the prediction: the model's own name of it."""
    if require_test(version)["kind"] == "classification":
        return "label"
    schema = version.model.metadata.get_output_schema()
    return schema.input_names()[-1] if schema and schema.has_input_names() else "predicted"


def scored(version: Version, rows: Rows, store: Store) -> pd.DataFrame:
    """Return the predictions of any run beside what came true, in order of their keys.

    Parameters
    ----------
    version : Version
    rows : Rows
    store : Store

    Returns
    -------
    pandas.DataFrame of shape (n, 3)
        Index ``key``; ``truth``, of classes their names, missing where it is not in the data yet;
        ``predicted`` and ``version``.
    """
    truth, test = rows.truth, require_test(version)
    if test["kind"] == "classification":
        names = np.asarray(test["classes"], dtype=object)
        truth = pd.Series(names[truth.to_numpy()], truth.index, dtype="str")
    found = store.read().rename(columns={predicted_column(version): "predicted"})
    found = found.reindex(columns=["predicted", "version"])
    return found.join(truth.rename("truth"))[["truth", "predicted", "version"]]
