"""Predictions for new data, in a store that outlives runs: no row is ever scored twice.

The store of a model is a folder of numbered Parquet parts. A part appears whole or not at all, and
its number can be taken once only, so whoever writes part n has seen the rows of all parts before
it: a killed run goes on after its last part, and two runs at once share the rows. What was
predicted stays as it was, whatever version serves later.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lib import tracking
from lib.packaging import load_packed
from lib.registry import drift, scoring
from lib.run import Run, is_local, now, outputs_dir

import numpy as np
import pandas as pd
from upath import UPath

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

SAMPLE = "sample"
SAMPLE_DAYS = 14  # of the made-up data, the last ones: the new rows
PREDICTED = {"power": "power_kw", "tick": "expected_return_bps", "mnist": "label"}
PREDICTED |= {"cifar10": "label"}
UNITS = {"power": "kW", "tick": "bps", "mnist": "images", "cifar10": "images"}
PART = re.compile(r"part-(\d{6,})\.parquet")
SIGNATURE = ("model", "version", "run_dir", "scored_at")
PROFILE = "profile.json"
WEEK = 7


# The version that scores ------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A version of a registered model, and what is known of it.

    Attributes
    ----------
    name : str
        Registered model, or "sample".
    version : int
    pipeline : str
        Whose data it takes.
    model : mlflow.pyfunc.PyFuncModel
    run_dir, source : str
        Run that trained it, and the source of that run's data.
    learned_until : str
        Last time it has learned from, ISO 8601; "" where it is not known, and for images.
    metrics : dict of str to float
        What its evaluation found.
    profile : dict
        Of its training data, see `lib.registry.drift.profile`; {} where its run has left none.
    """

    name: str
    version: int
    pipeline: str
    model: "PyFuncModel"
    run_dir: str
    source: str
    learned_until: str
    metrics: dict[str, float]
    profile: dict

    def facts(self) -> dict:
        """Return what later stages need to know, JSON-able."""
        known = ("name", "version", "pipeline", "run_dir", "source", "learned_until", "metrics")
        return {name: getattr(self, name) for name in known}


def open_served(name: str, version: str) -> Served:
    """Return a registered version with what is known of it.

    Parameters
    ----------
    name : str
        Registered model.
    version : str
        A number, or an alias with an ``@`` before it.

    Returns
    -------
    Served

    Raises
    ------
    ValueError
        If the version does not say which run of which pipeline has made it.
    mlflow.MlflowException
        If there is no such version, or the registry cannot be reached.
    """
    client = tracking.open_client()
    if version.startswith("@"):  # which may move at any time: from here on it is a number
        found = client.get_model_version_by_alias(name, version[1:])
    else:
        found = client.get_model_version(name, version)
    run_dir = found.tags.get("run_dir", "")
    pipeline = run_dir.split("/")[0]
    if pipeline not in PREDICTED:
        raise ValueError(
            f"version {found.version} of {name} has the tag run_dir = {run_dir!r}: its data cannot "
            f"be told from that. Expected a run of {', '.join(PREDICTED)}"
        )
    return Served(
        name=name,
        version=int(found.version),
        pipeline=pipeline,
        model=scoring.load_version(name, found.version),
        run_dir=run_dir,
        source=found.tags.get("source", ""),
        learned_until=found.tags.get("learned_until", ""),
        metrics=tracking.tagged_metrics(found.tags),
        profile=_profile_of(client, found),
    )


def open_sample(*, since: str = "") -> tuple[Served, "Rows"]:
    """Train a small forecaster to try things on, and make up readings that come after.

    Parameters
    ----------
    since : str, default ""
        As in `load_rows`.

    Returns
    -------
    Served
        It has learned from twelve weeks and was judged on the two weeks after them.
    Rows
        The two weeks after those.
    """
    from lib.power.frame import aggregate_power, describe_power
    from lib.power.sample import sample_power

    with tempfile.TemporaryDirectory() as folder:
        _, many, raw = scoring.sample_pair(Path(folder))
        model = load_packed(many)
    spec = model.unwrap_python_model().spec
    first_new = raw.index[-24 * SAMPLE_DAYS]
    first_judged = raw.index[spec["needed_rows"]]
    everything = aggregate_power(sample_power(112, seed=0), "hour")
    learned = everything[everything.index < first_judged]
    watched = drift.power_columns(learned, min_voltage_v=spec["options"]["min_voltage_v"])
    found = model.predict(raw.rename_axis("ts").reset_index()).set_index("ts")["power_kw"]
    error = (found - raw["power_kw"])[lambda e: (e.index >= first_judged) & (e.index < first_new)]
    served = Served(
        name=SAMPLE,
        version=1,
        pipeline="power",
        model=model,
        run_dir="",
        source=SAMPLE,
        learned_until=(first_new - pd.Timedelta(hours=1)).isoformat(),
        metrics={"rmse": float(np.sqrt((error.dropna() ** 2).mean()))},
        profile=drift.profile(watched, WEEK * 24),
    )
    return served, power_rows(served, raw, describe_power(raw, SAMPLE), since=since)


def _profile_of(client: "MlflowClient", version: "ModelVersion") -> dict:
    """Return the profile that the version's run has logged, {} if it has logged none."""
    run_id = version.run_id
    if not run_id:
        return {}
    logged = client.list_artifacts(run_id, "results")
    place = next((file.path for file in logged if Path(file.path).name == PROFILE), "")
    if not place:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run_id, place, folder))
        return json.loads(path.read_text(encoding="utf-8"))


# New data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Data that a version can score.

    Attributes
    ----------
    inputs : pandas.DataFrame or ndarray
        As the model takes it, with the history that the rows need.
    keys : pandas.Index of shape (n,), str
        What makes a row the same one in any file: the time forecast (power), the time of the bar
        (tick), the SHA-256 of the image.
    positions : ndarray of shape (n,), int
        Where each row is in `inputs`.
    truth : pandas.Series of shape (m,)
        What has come true, by key: kW, bps or names of classes. Earlier rows are among them.
    watched : pandas.DataFrame of shape (k, n_columns)
        What `lib.registry.drift` looks at, of all rows that are new to the version, scored or not.
    facts : dict
        Of the data, as in a run's ``dataset.json``.
    """

    inputs: pd.DataFrame | np.ndarray
    keys: pd.Index
    positions: np.ndarray
    truth: pd.Series
    watched: pd.DataFrame
    facts: dict


def load_rows(served: Served, source: str = "", *, since: str = "", seed: int = 0) -> Rows:
    """Load new data and say which of its rows can be scored.

    Parameters
    ----------
    served : Served
        Gives time step, horizon and kind of bars.
    source : str, default ""
        As the load stage of its pipeline takes it; "" for where its training data came from.
    since : str, default ""
        Score what comes after this time, ISO 8601; "" for all that comes after what the version has
        learned from. Images have no time.
    seed : int, default 0
        Of a sample; other sources do not use it.

    Returns
    -------
    Rows

    Raises
    ------
    ValueError
        If the source cannot be read, or it is not known from where on the rows are new.
    """
    source = source or served.source
    load = {"power": _load_power, "tick": _load_bars}.get(served.pipeline, _load_images)
    return load(served, source, since, seed)


def power_rows(served: Served, raw: pd.DataFrame, facts: dict, *, since: str = "") -> Rows:
    """Return the rows of a house's readings.

    Parameters
    ----------
    served : Served
    raw : pandas.DataFrame of shape (n, 7)
        Canonical power frame, in the time step of the model.
    facts : dict
        From `lib.power.frame.describe_power`.
    since : str, default ""
        As in `load_rows`.
    """
    from lib.power.features import measured

    spec = _spec(served)
    begin = _begin(served, since)
    raw = raw.loc[: raw["power_kw"].last_valid_index()]  # what was not measured yet is no row yet
    ahead = raw.index + spec["options"]["horizon"] * pd.Timedelta(seconds=spec["step_s"])
    new = np.flatnonzero(ahead > begin)
    least_v = spec["options"]["min_voltage_v"]
    truth = measured(raw, min_voltage_v=least_v)["power_kw"].dropna()
    return Rows(
        inputs=raw.rename_axis("ts").reset_index(),
        keys=_time_keys(ahead[new]),
        positions=new,
        truth=truth.set_axis(_time_keys(truth.index)),
        watched=drift.power_columns(raw[raw.index > begin], min_voltage_v=least_v),
        facts=facts,
    )


def _load_power(served: Served, source: str, since: str, seed: int) -> Rows:
    raw, facts = scoring.readings_for(_spec(served), source, seed=seed)
    return power_rows(served, raw, facts, since=since)


def _load_bars(served: Served, source: str, since: str, seed: int) -> Rows:
    from lib.tick.indicators import forward_return

    spec = _spec(served)
    bars, facts = scoring.bars_for(spec, source, seed=seed)
    bars = bars.iloc[:-1]  # the last one may go on in the next file
    begin = _begin(served, since, zone="UTC")
    keys = _time_keys(bars.index)
    new = np.flatnonzero(bars.index > begin)
    return Rows(
        inputs=bars.rename_axis("ts").reset_index(),
        keys=keys[new],
        positions=new,
        truth=forward_return(bars, spec["horizon"]).set_axis(keys).dropna(),
        watched=drift.bar_columns(bars).iloc[new],
        facts=facts,
    )


def _load_images(served: Served, source: str, since: str, seed: int) -> Rows:
    from lib.images.load import describe_images, load_images

    images = load_images(served.pipeline, source, seed=seed)
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images.x_test]
    keys, first = np.unique(digests, return_index=True)  # in no order of classes
    labels = np.asarray(images.classes, dtype=object)[images.y_test[first]]
    return Rows(
        inputs=images.x_test[first],
        keys=pd.Index(keys, dtype="str"),
        positions=np.arange(len(first)),
        truth=pd.Series(labels, pd.Index(keys, dtype="str"), dtype="str"),
        watched=drift.image_columns(images.x_test[first]),
        facts=describe_images(images, served.pipeline, source),
    )


def _spec(served: Served) -> Mapping:
    return served.model.unwrap_python_model().spec


def _begin(served: Served, since: str, *, zone: str | None = None) -> pd.Timestamp:
    """Return the time after which rows are new to a version."""
    known = [_moment(text, zone) for text in (since, served.learned_until) if text]
    if not known:
        raise ValueError(
            f"version {served.version} of {served.name} does not say until when it has learned: "
            "give `since`, the time after which its rows are new"
        )
    return max(known)


def _moment(text: str, zone: str | None) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    if zone is None:
        return moment.tz_localize(None)
    return moment.tz_convert(zone) if moment.tz else moment.tz_localize(zone)


def _time_keys(index: pd.DatetimeIndex) -> pd.Index:
    """Return times as text; of equal ones each but the first gets a number."""
    texts = pd.Series(index.strftime("%Y-%m-%dT%H:%M:%S.%f"), dtype="str")
    texts = texts.str.removesuffix(".000000")
    again = texts.groupby(texts).cumcount()
    return pd.Index(texts.where(again == 0, texts + "/" + again.astype("str")), name="key")


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


def store_of(served: Served, run: Run) -> Store:
    """Return the store of a model; that of the sample lies with the run and begins empty.

    Parameters
    ----------
    served : Served
    run : Run
        The run that scores.
    """
    if served.name != SAMPLE:
        return Store(outputs_dir() / "score" / "store" / served.name)
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


def score(served: Served, rows: Rows, store: Store, *, run_dir: str, batch_rows: int) -> dict:
    """Score every row that is not in the store, part by part.

    Runs on one machine wait for each other; others are kept apart by the numbers of the parts.

    Parameters
    ----------
    served : Served
    rows : Rows
    store : Store
    run_dir : str
        The run that scores, which is written beside each row.
    batch_rows : int
        Rows per part.

    Returns
    -------
    dict of str to int
        ``n_rows``, ``n_known`` (in the store before), ``n_scored`` by this call and ``n_without``,
        rows that the version cannot forecast: too little history, or a gap.
    """
    with tracking.locked(f"score-{served.name}"):
        open_rows = np.flatnonzero(~rows.keys.isin(store.keys()))
        n_scored = n_without = 0
        for k in range(0, len(open_rows), batch_rows):
            found = predict(served, rows, open_rows[k : k + batch_rows])
            known = found[PREDICTED[served.pipeline]].notna()
            n_without += int((~known).sum())
            n_scored += store.append(_signed(found[known], served, run_dir))
    n_known = len(rows.keys) - len(open_rows)
    counts = {"n_rows": len(rows.keys), "n_known": n_known}
    return counts | {"n_scored": n_scored, "n_without": n_without}


def predict(served: Served, rows: Rows, chosen: np.ndarray) -> pd.DataFrame:
    """Return what a version says about some rows, from the history that they need.

    Parameters
    ----------
    served : Served
    rows : Rows
    chosen : ndarray of shape (n,), int
        Which of ``rows.keys``, ascending.

    Returns
    -------
    pandas.DataFrame of shape (n, 1 + n_outputs)
        ``key`` and the columns of the model's output but its time.
    """
    places = rows.positions[chosen]
    begin, end = _first_needed(served, rows, places[0]), places[-1] + 1
    found = served.model.predict(
        rows.inputs[places]
        if isinstance(rows.inputs, np.ndarray)
        else rows.inputs.iloc[begin:end].reset_index(drop=True)
    )
    if not isinstance(rows.inputs, np.ndarray):
        found = found.iloc[places - begin]
    found = found.drop(columns="ts", errors="ignore").reset_index(drop=True)
    found.insert(0, "key", rows.keys[chosen].to_numpy())
    return found


def _first_needed(served: Served, rows: Rows, place: int) -> int:
    """Return where the history of a row begins: for bars with their day."""
    if served.pipeline == "power":
        return max(0, int(place) - _spec(served)["needed_rows"] + 1)
    if served.pipeline == "tick":
        return int(np.flatnonzero(rows.inputs["day"] == rows.inputs["day"].iloc[place])[0])
    return 0


def _signed(found: pd.DataFrame, served: Served, run_dir: str) -> pd.DataFrame:
    return found.assign(model=served.name, version=served.version, run_dir=run_dir, scored_at=now())


def live(served: Served, rows: Rows, store: Store) -> pd.DataFrame:
    """Return the predictions of any run whose truth is in the data, in order of their keys.

    Parameters
    ----------
    served : Served
    rows : Rows
    store : Store

    Returns
    -------
    pandas.DataFrame of shape (n, 3)
        Index ``key``; ``truth``, ``predicted`` and ``version``.
    """
    scored = store.read()
    if scored.empty:
        return pd.DataFrame({name: [] for name in ("truth", "predicted", "version")})
    scored = scored.rename(columns={PREDICTED[served.pipeline]: "predicted"})
    joined = scored[["predicted", "version"]].join(rows.truth.rename("truth"), how="inner")
    return joined[["truth", "predicted", "version"]].sort_index()


def newest(
    served: Served, rows: Rows, store: Store, *, n_rows: int = 336
) -> tuple[pd.Series, pd.Series]:
    """Return the last predictions in the store and what is known of their truth, to be drawn.

    Parameters
    ----------
    served : Served
    rows : Rows
    store : Store
    n_rows : int, default 336
        How many.

    Returns
    -------
    predicted, truth : pandas.Series
        By time, where rows have one; else by key.
    """
    scored = store.read().tail(n_rows)
    predicted = scored.get(PREDICTED[served.pipeline], pd.Series(dtype=np.float64))
    truth = rows.truth[rows.truth.index.isin(predicted.index)]
    return _by_time(predicted, served.pipeline), _by_time(truth, served.pipeline)


def _by_time(series: pd.Series, pipeline: str) -> pd.Series:
    if pipeline in scoring.IMAGE_PIPELINES:
        return series
    texts = pd.Series(series.index, dtype="str").str.split("/").str[0]
    return series.set_axis(pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601")))
