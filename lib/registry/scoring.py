"""Any version of a model on the same raw rows, so that two versions can be compared at all.

A `TestSet` is what the evaluate stage of a run has judged, or newer data prepared alike: raw input
as a served model takes it, the truth, and what a model must be made for. `predictions` refuses a
model that is made for something else rather than compare numbers that mean different things, and
`rematch` gives the version in production another try on a run's own test, with a sentence for
everything that makes the outcome doubtful.
"""

import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib import tracking
from lib.packaging import load_packed
from lib.parameters import Value
from lib.run import Run
from lib.runs import is_by_hand

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

PRODUCTION = "production"
IMAGE_PIPELINES = ("mnist", "cifar10")
TICK_TASK = ("horizon", "bar", "bar_size", "quotes")
STEPS = {60.0: "minute", 3600.0: "hour", 86400.0: "day"}
LEAST_SHARED = 0.9  # share of the rows that both must be able to forecast


class NotComparable(ValueError):
    """A model is made for another task or input than the test; the message says which."""


@dataclass(frozen=True)
class TestSet:
    """Rows to judge models by.

    Attributes
    ----------
    pipeline : str
        Whose models can be judged: "power", "tick", "mnist" or "cifar10".
    inputs : pandas.DataFrame or ndarray
        Raw input as a served model takes it, with the history that the first forecast needs.
    truth : pandas.Series of shape (n,)
        What came true. Index: the time forecast (power), the time of the bar that the forecast is
        made after (tick), or the number of the image; values in kW, bps, or numbers of classes.
    groups : ndarray of shape (n,) or None
        Day of each row for tick, where no block of rows may cross from one day to the next.
    task : dict
        What a model must be made for, JSON-able: horizon and time step, kind of bars, classes.
    block_length : int
        Rows near enough to be alike, for a block bootstrap; 1 for images.
    start : str
        First time in the index of `truth`, ISO 8601; "" for images.
    source, digest : str
        Of the data, as in a run's ``dataset.json``.
    rows : ndarray of shape (n,) or None
        Tick only: the position in `inputs` of the bar that each forecast is made after.
    """

    __test__ = False  # pytest takes every class of this name for tests

    pipeline: str
    inputs: pd.DataFrame | np.ndarray
    truth: pd.Series
    groups: np.ndarray | None
    task: dict
    block_length: int
    start: str
    source: str
    digest: str
    rows: np.ndarray | None = None


# Tests ----------------------------------------------------------------------------------------


def test_of_run(run: Run) -> TestSet:
    """Return exactly the rows that the evaluate stage of a run has judged.

    Parameters
    ----------
    run : Run
        Evaluated; read from its folder only.

    Returns
    -------
    TestSet

    Raises
    ------
    lib.run.UnfinishedStage
        If the run has not been evaluated, or a file of it has changed since.
    ValueError
        If the run's pipeline is not one whose models can be scored.
    """
    _require_pipeline(run.pipeline)
    facts = run.read("dataset.json")
    made = {"power": _power_of_run, "tick": _tick_of_run}.get(run.pipeline, _images_of_run)(run)
    return replace(made, source=facts["source"], digest=facts["digest"])


def load_test(
    pipeline: str,
    source: str,
    model: "PyFuncModel",
    *,
    last_days: int = 0,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
) -> TestSet:
    """Return data of a source, prepared as a model needs it, to judge it and others by.

    Parameters
    ----------
    pipeline : {"power", "tick", "mnist", "cifar10"}
        Whose data it is.
    source : str
        As the pipeline's load stage takes it.
    model : mlflow.pyfunc.PyFuncModel
        Gives time step, horizon and kind of bars.
    last_days : int, default 0
        How many days at the end of the data are judged; 0 for all. Images have no days: all test
        images are.
    seed : int, default 0
        Of a sample; other sources do not use it, but for a draw of images.
    options : mapping, optional
        Further arguments of the loader: `lib.power.load.load_power`, `lib.tick.load.load_ticks`
        or `lib.images.load.load_images`.

    Returns
    -------
    TestSet
        Rows whose truth is known and before which there is as much history as `model` needs.

    Raises
    ------
    NotComparable
        If the model is none of this pipeline.
    ValueError
        If the source cannot be read, or no row can be judged.
    """
    _require_pipeline(pipeline)
    if last_days < 0:
        raise ValueError(f"last_days={last_days} must be 0, for all days, or more")
    load = {"power": _load_power, "tick": _load_tick}.get(pipeline, _load_images)
    test = load(pipeline, source, model, last_days, seed, dict(options or {}))
    if not len(test.truth):
        raise ValueError(
            f"no row of {test.source} can be judged: a forecast needs "
            f"{_spec(model, pipeline)['needed_rows']} rows of history and a known truth. Give more "
            "data, or more days"
        )
    return test


def select(test: TestSet, kept: np.ndarray) -> TestSet:
    """Return the test with those rows only.

    Parameters
    ----------
    test : TestSet
    kept : ndarray of shape (n,), bool
        Which rows; at least one.

    Returns
    -------
    TestSet
        With the same inputs, as a forecast may need the history before it.
    """
    truth = test.truth[kept]
    groups, rows = (None if a is None else a[kept] for a in (test.groups, test.rows))
    inputs = test.inputs[kept] if isinstance(test.inputs, np.ndarray) else test.inputs
    start = truth.index[0].isoformat() if test.start else ""
    length = min(test.block_length, len(truth))
    return replace(
        test,
        inputs=inputs,
        truth=truth,
        groups=groups,
        rows=rows,
        start=start,
        block_length=length,
    )


def shared_rows(test: TestSet, *predicted: np.ndarray) -> tuple[TestSet, *tuple[np.ndarray, ...]]:
    """Return test and predictions without the rows that one of the models cannot forecast.

    Parameters
    ----------
    test : TestSet
    *predicted : ndarray of shape (n,) or (n, n_classes)
        From `predictions`; NaN where a model has too little history.

    Returns
    -------
    TestSet, ndarray, ...

    Raises
    ------
    NotComparable
        If no row is left.
    """
    known = [np.isfinite(p).reshape(len(p), -1).all(axis=1) for p in predicted]
    kept = np.logical_and.reduce(known)
    if kept.all():
        return test, *predicted
    if not kept.any():
        raise NotComparable(f"none of the {len(kept)} rows has a forecast of every model")
    return select(test, kept), *(p[kept] for p in predicted)


# Models ---------------------------------------------------------------------------------------


def load_version(name: str, version: int | str) -> "PyFuncModel":
    """Return a registered version, by its number or as ``"@production"``.

    Raises
    ------
    mlflow.MlflowException
        If there is no such version, or the registry cannot be reached.
    """
    tracking.open_client()
    which = str(version)
    return load_packed(f"models:/{name}{which if which.startswith('@') else f'/{which}'}")


def predictions(model: "PyFuncModel", test: TestSet) -> np.ndarray:
    """Return what a model says about the rows of a test.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
        Any version, from `load_version` or a run's folder.
    test : TestSet

    Returns
    -------
    ndarray of shape (n,) or, for images, (n, n_classes), float64
        In the order of ``test.truth``: kW, bps, or probabilities. NaN where the model has too
        little history to forecast.

    Raises
    ------
    NotComparable
        If the model is made for another task, or takes other columns than the test has.
    """
    spec = _spec(model, test.pipeline)
    _require_input(model, test)
    task = _task(spec, test.pipeline)
    if task != test.task:
        raise NotComparable(f"it is made for another task: {_differences(task, test.task)}")
    predict = {"power": _predict_power, "tick": _predict_tick}.get(test.pipeline, _predict_images)
    return predict(model, spec, test)


def candidate_predictions(run: Run, test: TestSet) -> np.ndarray:
    """Return what the evaluate stage of a run has stored of its own model.

    Parameters
    ----------
    run : Run
        Evaluated.
    test : TestSet
        From `test_of_run` of the same run.

    Returns
    -------
    ndarray of shape (n,) or, for images, (n, n_classes), float64

    Raises
    ------
    ValueError
        If the test has other rows than the evaluation.
    """
    if run.pipeline in IMAGE_PIPELINES:
        found = run.read("predictions.npz")["model"]
        same = len(found) == len(test.truth)
    else:
        judged, column = _judged(run)
        found, same = judged[column].to_numpy(), judged.index.equals(test.truth.index)
    if not same:
        raise ValueError(
            f"{run.run_dir} has judged other rows than this test: use test_of_run(run)"
        )
    return np.asarray(found, dtype=np.float64)


def learned_until(run: Run) -> str:
    """Return the last time that a run's model has learned from, ISO 8601; "" for images.

    For power it is the time of the last target, local clock time; for tick the end of the last bar
    before the test, UTC. A test that begins later holds nothing that the model has seen.
    """
    if run.pipeline in IMAGE_PIPELINES:
        return ""
    split = run.read("split.json")
    if run.pipeline == "power":
        ahead = split["horizon"] * pd.Timedelta(days=1) / split["rows_per_day"]
        return (pd.Timestamp(split["valid_end"]) + ahead).isoformat()
    bars = run.read("bars.parquet")
    return bars.index[bars["day"] < split["test_start"]][-1].isoformat()


# The version in production --------------------------------------------------------------------


def rematch(run: Run, name: str, candidate: np.ndarray | None = None) -> dict:
    """Return everything there is to know about the version in production on a run's own test.

    Parameters
    ----------
    run : Run
        Evaluated.
    name : str
        Registered model, with or without the ``_sample`` that sample data adds.
    candidate : ndarray, optional
        What the run's model says; by default what its evaluate stage has stored.

    Returns
    -------
    dict
        ``champion``: ``name``, ``version``, ``run_dir``, ``digest``, ``source`` and ``own``
        (whether it is this run's model, registered before), or None where nothing is in
        production. ``test``, ``candidate`` and ``champion_predictions``: the rows that both can
        forecast; the last is None where the champion could say nothing. ``problem``: why a person
        must decide, a sentence; "" if nothing is in the way. ``notes``: list of sentences.
        ``by_hand``: whether a person works in the run.
    """
    test = test_of_run(run)
    candidate = candidate_predictions(run, test) if candidate is None else candidate
    result = {
        "champion": None,
        "test": test,
        "candidate": candidate,
        "champion_predictions": None,
        "problem": "",
        "notes": [],
        "by_hand": is_by_hand(run),
    }
    version = _in_production(name if test.source != "sample" else _sample_name(name))
    if version is None:
        return result | {"notes": ["nothing is in production under this name"]}
    own = bool(version.run_id) and version.run_id == tracking.link(run).get("run_id")
    result["champion"] = {
        "name": version.name,
        "version": int(version.version),
        "run_dir": version.tags.get("run_dir", ""),
        "digest": version.tags.get("data_digest", ""),
        "source": version.tags.get("source", ""),
        "own": own,
    }
    problems, result["notes"] = _about_data(version, test, own=own)
    shared, problem, notes = _champion_on(version, test, candidate)
    problems += [problem] * bool(problem)
    result["notes"] += notes
    result |= {"problem": "; ".join(problems)} | shared
    return result


def _champion_on(
    version: "ModelVersion", test: TestSet, candidate: np.ndarray
) -> tuple[dict, str, list[str]]:
    """Return the rows both can forecast, why that cannot be judged, and notes."""
    who = f"version {version.version}, which is in production,"
    try:
        model = load_version(version.name, version.version)
    except Exception as error:  # whatever old code or a missing package raises
        return {}, f"{who} cannot be loaded: {_short(error)}", []
    try:
        found = predictions(model, test)
        kept, mine, theirs = shared_rows(test, candidate, found)
    except NotComparable as error:
        return {}, f"{who} cannot be judged on this test: {error}", []
    except Exception as error:  # its own code, on input of today
        return {}, f"{who} fails on this test: {_short(error)}", []
    shared = {"test": kept, "candidate": mine, "champion_predictions": theirs}
    n_left_out = len(test.truth) - len(kept.truth)
    if not n_left_out:
        return shared, "", []
    said = f"version {version.version} has no forecast for {n_left_out} of {len(test.truth)} rows"
    if n_left_out > (1 - LEAST_SHARED) * len(test.truth):
        return shared, f"{said}: too few are left to judge by", []
    return shared, "", [f"{said}: both are judged on the others"]


def _about_data(version: "ModelVersion", test: TestSet, *, own: bool) -> tuple[list, list]:
    """Return problems and notes that follow from what the champion was trained on."""
    number, tags = version.version, version.tags
    if own:
        return [], [f"version {number}, which is in production, is this run's own model"]
    problems, notes = [], []
    source, same = tags.get("source", ""), tags.get("data_digest", "") == test.digest
    if same:
        notes.append(f"version {number} was trained on the same data")
    elif source != test.source:
        problems.append(
            f"version {number} was trained on other data: {source or 'of no known source'}, "
            f"not {test.source}"
        )
    elif source == "sample" and not test.start:
        problems.append(
            f"version {number} was trained on images that were drawn in another way, maybe on some "
            "of this test"
        )
    else:
        notes.append(f"version {number} was trained on an earlier state of {source}")
    until = tags.get("learned_until", "")
    if test.start and not until:
        problems.append(f"it is not known until when version {number} has learned")
    elif test.start and _time(until) >= _time(test.start):
        problems.append(
            f"version {number} has learned until {until}, and this test begins at {test.start}"
        )
    return problems, notes


def _in_production(name: str) -> "ModelVersion | None":
    """Return the version that has the alias, None if there is none."""
    from mlflow import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    client = tracking.open_client()
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return client.get_model_version(name, aliases[PRODUCTION]) if PRODUCTION in aliases else None


def _sample_name(name: str) -> str:
    return name if name.endswith("_sample") else f"{name}_sample"


def _time(text: str) -> pd.Timestamp:
    time = pd.Timestamp(text)
    return time.tz_convert("UTC").tz_localize(None) if time.tz else time


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 300)


# What a model is made for ---------------------------------------------------------------------


def _require_pipeline(pipeline: str) -> None:
    known = ("power", "tick", *IMAGE_PIPELINES)
    if pipeline not in known:
        raise ValueError(f"pipeline {pipeline!r} has no models to score: give one of {known}")


def _spec(model: "PyFuncModel", pipeline: str) -> dict:
    """Return the settings of a model, once sure that it is one of the pipeline."""
    python_model = getattr(model, "unwrap_python_model", lambda: None)()
    spec = getattr(python_model, "spec", None) or {}
    marks = {"power": "step_s", "tick": "bar_size"}
    if marks.get(pipeline, "image_shape") not in spec:
        raise NotComparable(f"it is no model of the pipeline {pipeline}")
    return spec


def _task(spec: Mapping, pipeline: str) -> dict:
    if pipeline == "power":
        return {"horizon": spec["options"]["horizon"], "step_s": spec["step_s"]}
    names = ("horizon", "bar", "bar_size", "quotes")
    return {
        name: spec[name] for name in (names if pipeline == "tick" else ("classes", "image_shape"))
    }


def _differences(task: Mapping, wanted: Mapping) -> str:
    return ", ".join(
        f"{name} {_brief(task.get(name))} instead of {_brief(wanted[name])}"
        for name in wanted
        if task.get(name) != wanted[name]
    )


def _brief(value: object) -> str:
    return textwrap.shorten(str(value), 80)


def _require_input(model: "PyFuncModel", test: TestSet) -> None:
    """Refuse a model whose signature names other columns than the test has."""
    from lib.images.model import IMAGES

    schema = model.metadata.get_input_schema()
    if schema is None:
        raise NotComparable("it has no signature")
    names = set(schema.input_names())
    has = {IMAGES} if isinstance(test.inputs, np.ndarray) else set(test.inputs.columns)
    if names != has:
        missing, unknown = sorted(names - has), sorted(has - names)
        raise NotComparable(
            "its signature is another: "
            + "; ".join(
                f"{what} {', '.join(columns)}"
                for what, columns in (("it needs", missing), ("it does not take", unknown))
                if columns
            )
        )


# Data as a model was made for -----------------------------------------------------------------


def readings_for(spec: Mapping, source: str, **options: Value) -> tuple[pd.DataFrame, dict]:
    """Return a house's readings in the time step of a power model.

    Parameters
    ----------
    spec : mapping
        Of the model.
    source : str
        As the load stage takes it.
    options
        Of `lib.power.load.load_power`.

    Returns
    -------
    raw : pandas.DataFrame of shape (n, 7)
        Canonical power frame.
    facts : dict
        As in a run's ``dataset.json``.

    Raises
    ------
    NotComparable
        If the rows of the source are further apart than those of the model.
    """
    from lib.power.frame import describe_power
    from lib.power.load import load_power

    resolution = STEPS.get(spec["step_s"], "native")
    raw = load_power(source, **{"resolution": resolution} | options)
    facts = describe_power(raw, source)
    step = pd.Timedelta(seconds=spec["step_s"])
    if len(raw) > 1 and raw.index[1] - raw.index[0] != step:
        apart = raw.index[1] - raw.index[0]
        raise NotComparable(
            f"the rows of {facts['source']} are {apart} apart, and the model takes rows of {step}"
        )
    return raw, facts


def bars_for(spec: Mapping, source: str, **options: Value) -> tuple[pd.DataFrame, dict]:
    """Return bars of the kind and size that a tick model takes, and the facts of their data.

    Parameters
    ----------
    spec : mapping
        Of the model.
    source : str
        As the load stage takes it.
    options
        Of `lib.tick.load.load_ticks`.

    Returns
    -------
    bars : pandas.DataFrame of shape (n_bars, n_columns)
        From `lib.tick.bars.to_bars`.
    facts : dict
        As in a run's ``dataset.json``.
    """
    from lib.tick.bars import to_bars
    from lib.tick.load import describe_ticks, iter_ticks, load_ticks

    kind = "quotes" if spec["quotes"] else "trades"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "ticks")
        report = load_ticks(source, folder, **{"kind": kind} | options)
        bars = to_bars(iter_ticks(folder), kind=spec["bar"], size=spec["bar_size"])
    return bars, describe_ticks(report, source)


# Power ----------------------------------------------------------------------------------------


def _power_of_run(run: Run) -> TestSet:
    split, (judged, _) = run.read("split.json"), _judged(run)
    per_day = split["rows_per_day"]
    days = run.record("05_evaluate")["parameters"].get("block_days", 7)
    task = {"horizon": split["horizon"], "step_s": 86_400 / per_day}
    return _power_test(run.read("raw.parquet"), judged["truth"], task, days * per_day)


def _power_test(raw: pd.DataFrame, truth: pd.Series, task: dict, block_length: int) -> TestSet:
    return TestSet(
        pipeline="power",
        inputs=raw.rename_axis("ts").reset_index(),
        truth=truth.rename("truth"),
        groups=None,
        task=task,
        block_length=max(1, min(block_length, len(truth))),
        start=truth.index[0].isoformat() if len(truth) else "",
        source="",
        digest="",
    )


def _load_power(
    pipeline: str, source: str, model: "PyFuncModel", last_days: int, seed: int, options: dict
) -> TestSet:
    from lib.power.features import forward_value, measured

    spec = _spec(model, pipeline)
    task = _task(spec, pipeline)
    raw, facts = readings_for(spec, source, **{"seed": seed} | options)
    step = pd.Timedelta(seconds=spec["step_s"])
    power = measured(raw, min_voltage_v=spec["options"]["min_voltage_v"])["power_kw"]
    truth = forward_value(power, task["horizon"]).iloc[spec["needed_rows"] - 1 :].dropna()
    truth.index = (truth.index + task["horizon"] * step).rename("ts")
    if last_days and len(truth):
        truth = truth[truth.index > raw.index[-1] - pd.Timedelta(days=last_days)]
    test = _power_test(raw, truth, task, round(7 * pd.Timedelta(days=1) / step))
    return replace(test, source=facts["source"], digest=facts["digest"])


def _predict_power(model: "PyFuncModel", spec: Mapping, test: TestSet) -> np.ndarray:
    """Forecast from the history that the first row of the test needs, as its evaluation does."""
    step = pd.Timedelta(seconds=spec["step_s"])
    reach = (spec["options"]["horizon"] + spec["needed_rows"] - 1) * step
    history = test.inputs[test.inputs["ts"] >= test.truth.index[0] - reach]
    found = model.predict(history).set_index("ts")["power_kw"]
    return found.reindex(test.truth.index).to_numpy(dtype=np.float64)


# Tick -----------------------------------------------------------------------------------------


def _tick_of_run(run: Run) -> TestSet:
    split, (judged, _) = run.read("split.json"), _judged(run)
    bars = run.read("bars.parquet")
    task = {name: split[name] for name in TICK_TASK}
    length = run.record("04_evaluate")["parameters"].get("block_bars", 120)
    test = bars[bars["day"] >= split["test_start"]]
    rows = _positions(test, judged["truth"], split["horizon"])
    return _tick_test(test, rows, task, length)


def _tick_test(bars: pd.DataFrame, rows: np.ndarray, task: dict, block_length: int) -> TestSet:
    from lib.tick.indicators import forward_return

    truth = forward_return(bars, task["horizon"]).iloc[rows].rename("truth")
    groups = bars["day"].to_numpy()[rows]
    shortest = int(pd.Series(groups).value_counts().min()) if len(rows) else 1
    return TestSet(
        pipeline="tick",
        inputs=bars.rename_axis("ts").reset_index(),
        truth=truth,
        groups=groups,
        task=task,
        block_length=min(block_length, shortest),
        start=truth.index[0].isoformat() if len(rows) else "",
        source="",
        digest="",
        rows=rows,
    )


def _positions(bars: pd.DataFrame, judged: pd.Series, horizon: int) -> np.ndarray:
    """Return which bars were judged; of bars of one moment the later ones, as days begin blind."""
    from lib.tick.indicators import forward_return

    truth = forward_return(bars, horizon)
    known = np.flatnonzero(truth.notna())
    places = _numbered(truth.index[known]).get_indexer(_numbered(judged.index))
    rows = known[places]
    if (places < 0).any() or not np.array_equal(truth.to_numpy()[rows], judged.to_numpy()):
        raise ValueError(
            "forecasts.parquet holds rows that are not among the bars of the test: run the "
            "evaluate stage again"
        )
    return rows


def _numbered(index: pd.Index) -> pd.MultiIndex:
    """Return the times with a number for each of those that are equal, counted from the last."""
    back = index.to_series().groupby(level=0).cumcount(ascending=False).to_numpy()
    return pd.MultiIndex.from_arrays([index, back])


def _load_tick(
    pipeline: str, source: str, model: "PyFuncModel", last_days: int, seed: int, options: dict
) -> TestSet:
    from lib.tick.indicators import forward_return

    spec = _spec(model, pipeline)
    task = _task(spec, pipeline)
    bars, facts = bars_for(spec, source, **{"n_days": last_days, "seed": seed} | options)
    known = forward_return(bars, task["horizon"]).notna()
    enough = bars.groupby("day").cumcount() >= spec["needed_rows"] - 1
    test = _tick_test(bars, np.flatnonzero(known & enough), task, 120)
    return replace(test, source=facts["source"], digest=facts["digest"])


def _predict_tick(model: "PyFuncModel", spec: Mapping, test: TestSet) -> np.ndarray:
    found = model.predict(test.inputs)["expected_return_bps"]
    return found.to_numpy(dtype=np.float64)[test.rows]


# Images ---------------------------------------------------------------------------------------


def _images_of_run(run: Run) -> TestSet:
    images = run.read("images.npz")
    truth = run.read("predictions.npz")["truth"]
    return _image_test(run.pipeline, images["x_test"], truth, images["classes"].tolist())


def _image_test(pipeline: str, x: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> TestSet:
    truth = pd.Series(y, pd.RangeIndex(len(y), name="image"), dtype=np.int64, name="truth")
    task = {"classes": list(classes), "image_shape": list(x.shape[1:])}
    return TestSet(pipeline, x, truth, None, task, 1, "", "", "")


def _load_images(
    pipeline: str, source: str, model: "PyFuncModel", last_days: int, seed: int, options: dict
) -> TestSet:
    from lib.images.load import describe_images, load_images

    _spec(model, pipeline)
    images = load_images(pipeline, source, **{"seed": seed} | options)
    facts = describe_images(images, pipeline, source)
    test = _image_test(pipeline, images.x_test, images.y_test, images.classes)
    return replace(test, source=facts["source"], digest=facts["digest"])


def _predict_images(model: "PyFuncModel", spec: Mapping, test: TestSet) -> np.ndarray:
    found = model.predict(test.inputs)
    return found.drop(columns="label").to_numpy(dtype=np.float64)


# Runs -----------------------------------------------------------------------------------------


def _judged(run: Run) -> tuple[pd.DataFrame, str]:
    """Return the rows of a run's evaluation, and which column is its own model's."""
    if run.pipeline == "power":
        return run.read("forecast.parquet"), "lightgbm"
    choice = run.read("choice.json")
    return run.read("forecasts.parquet"), choice.get("chosen") or choice["model"]


# A pair of models to try things on ------------------------------------------------------------


def sample_pair(folder: Path) -> tuple[Path, Path, pd.DataFrame]:
    """Train two small power forecasters, and make up what was measured after their training.

    Parameters
    ----------
    folder : pathlib.Path
        Where the models go, as ``few_trees`` and ``many_trees``.

    Returns
    -------
    few, many : pathlib.Path
        Model folders: the same features, 10 and 150 trees.
    raw : pandas.DataFrame of shape (n, 7)
        Four weeks by the hour after the last hour that they have learned from, and as much history
        before as they need; index ``ts``.
    """
    from lib.power.features import PowerOptions, forward_value, measured, power_features
    from lib.power.frame import aggregate_power
    from lib.power.model import make_spec, save_forecaster
    from lib.power.sample import sample_power

    import lightgbm as lgb

    options: PowerOptions = {
        "horizon": 1,
        "lags": [0, 1, 2, 23],
        "windows": [3, 24],
        "days": 2,
        "weeks": 0,
        "country": "",
        "min_voltage_v": 207.0,
    }
    raw = aggregate_power(sample_power(112, seed=0), "hour")
    n_new = 28 * 24
    features = power_features(raw, **options)
    target = forward_value(measured(raw)["power_kw"], 1)
    learned = target.iloc[: len(raw) - n_new - 1].dropna().index
    spec = make_spec(features.columns, options, per_day=24, target="level")
    params = {"num_threads": 1, "verbosity": -1, "learning_rate": 0.05, "num_leaves": 15}
    folders = []
    for name, n_trees in (("few_trees", 10), ("many_trees", 150)):
        data = lgb.Dataset(features.loc[learned], target.loc[learned])
        save_forecaster(folder / name, [lgb.train(params, data, n_trees)], spec)
        folders.append(folder / name)
    return *folders, raw.iloc[-n_new - spec["needed_rows"] :]
