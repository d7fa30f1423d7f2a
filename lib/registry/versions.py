"""Two versions of a registered model on the same rows: which is better, where, and at what cost.

`open_pair` finds version A and version B, `open_test` gives them the same rows, as far as it is
known rows that neither has learned from, and says where it is not known. Differences are always B
less A, so B is judged as the newcomer. Numbers of comparisons come from `lib.registry.paired`; here
are the words, the places of disagreement, and what an answer costs in time and disk.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lib.packaging import load_packed
from lib.registry import scoring
from lib.registry.gate import alpha, improvement
from lib.registry.scoring import IMAGE_PIPELINES, TestSet
from lib.run import BYTECODE, open_run

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

SAMPLE = "sample"
"""In place of a registered model: two small ones, trained on made-up data."""

LOADERS = {
    "power": ("resolution", "max_missing", "sample_days"),
    "tick": (
        "symbol",
        "columns",
        "time_zone",
        "session",
        "session_zone",
        "drop_repeats",
        "max_deviation",
    ),
    "mnist": ("n_train", "n_test"),
    "cifar10": ("n_train", "n_test"),
}
"""Parameters of a load stage that say how its source is to be read, by pipeline."""

QUANTITIES = {"power": ("power", "kW"), "tick": ("return", "bps")}
"""What a forecast is, and its unit, by pipeline."""


@dataclass(frozen=True)
class Contender:
    """A version that takes part in a comparison.

    Attributes
    ----------
    label : str
        "A" or "B".
    name : str
        Registered model, or what the sample model is called.
    number : int or None
        Version; None where it is not registered.
    model : mlflow.pyfunc.PyFuncModel
    size_bytes : int
        Of all files of the model.
    tags : dict of str to str
        Of the version: ``run_dir``, ``source``, ``data_digest``, ``learned_until`` …
    aliases : tuple of str
        That point to it now.
    made : str
        When it was registered, ISO 8601 (UTC); "" where it is not registered.
    """

    label: str
    name: str
    number: int | None
    model: "PyFuncModel"
    size_bytes: int
    tags: dict[str, str]
    aliases: tuple[str, ...] = ()
    made: str = ""

    @property
    def words(self) -> str:
        """Label and version, ``B (version 4)`` for example."""
        which = self.name if self.number is None else f"version {self.number}"
        return f"{self.label} ({which})"

    @property
    def pipeline(self) -> str:
        """The pipeline whose run made the version."""
        return self.tags["run_dir"].split("/")[0]


Pair = tuple[Contender, Contender]


# Versions -------------------------------------------------------------------------------------


def open_pair(name: str, a: str, b: str) -> Pair:
    """Load two versions of a registered model.

    Parameters
    ----------
    name : str
        Registered model.
    a, b : str
        Versions by number or alias: ``"3"``, ``"@production"``.

    Returns
    -------
    Contender, Contender

    Raises
    ------
    ValueError
        If there is no such model, version or alias; both are the same version; or it is not known
        which pipeline made them.
    """
    from lib.registry import lifecycle

    found = lifecycle.version(name, a), lifecycle.version(name, b)
    if found[0].version == found[1].version:
        raise ValueError(
            f"a = {a!r} and b = {b!r} are both version {found[0].version} of {name}: give two "
            f"versions; make history MODEL={name} lists them"
        )
    pipelines = [_pipeline(version) for version in found]
    if pipelines[0] != pipelines[1]:
        raise ValueError(
            f"{name}: version {found[0].version} was made by {pipelines[0]} and version "
            f"{found[1].version} by {pipelines[1]}: versions of one pipeline can be compared"
        )
    return _contender("A", found[0]), _contender("B", found[1])


def open_sample(*, last_days: int = 0) -> tuple[Contender, Contender, TestSet]:
    """Train two small forecasters, and make up four weeks that come after what they have learned.

    Parameters
    ----------
    last_days : int, default 0
        How many days at the end are judged; 0 for all.

    Returns
    -------
    Contender, Contender, TestSet
        A has few trees, B many.
    """
    with TemporaryDirectory() as folder:
        few, many, raw = scoring.sample_pair(Path(folder))
        data = Path(folder, "new.parquet")
        raw.to_parquet(data)
        models = [load_packed(path) for path in (few, many)]
        test = scoring.load_test("power", str(data), models[0], last_days=last_days)
        sizes = [_size_of_folder(path) for path in (few, many)]
    until = raw.index[_needed_rows(models[0]) - 1].isoformat()
    tags = {"run_dir": f"power/{SAMPLE}", "source": SAMPLE, "learned_until": until}
    a, b = (
        Contender(label, path.name, None, model, size, dict(tags))
        for label, path, model, size in zip("AB", (few, many), models, sizes, strict=True)
    )
    return a, b, replace(test, source=SAMPLE)


def facts(pair: Pair) -> pd.DataFrame:
    """Return what is known of both versions, a column for each; nothing of what neither has."""
    rows = {
        "model": lambda c: c.name,
        "version": lambda c: "" if c.number is None else str(c.number),
        "alias": lambda c: ", ".join(f"@{alias}" for alias in c.aliases),
        "made by run": lambda c: c.tags["run_dir"],
        "registered, UTC": lambda c: c.made,
        "trained on": lambda c: c.tags.get("source", ""),
        "digest of the data": lambda c: c.tags.get("data_digest", "")[:12],
        "learned until": lambda c: c.tags.get("learned_until", ""),
        "verdict of the gate": lambda c: c.tags.get("gate.outcome", ""),
    }
    table = {c.label: [find(c) for find in rows.values()] for c in pair}
    frame = pd.DataFrame(table, index=list(rows))
    return frame[(frame != "").any(axis=1)]


def _contender(label: str, version: "ModelVersion") -> Contender:
    made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return Contender(
        label=label,
        name=version.name,
        number=int(version.version),
        model=scoring.load_version(version.name, version.version),
        size_bytes=_size_of_artifacts(f"models:/{version.name}/{version.version}"),
        tags=dict(version.tags),
        aliases=tuple(sorted(version.aliases)),
        made=f"{made:%Y-%m-%d %H:%M}",
    )


def _pipeline(version: "ModelVersion") -> str:
    run_dir = version.tags.get("run_dir", "")
    if "/" not in run_dir:
        raise ValueError(
            f"version {version.version} of {version.name} has no tag run_dir = <pipeline>/<run>, "
            "which every version that a register stage has made carries: it cannot be told what "
            "it forecasts"
        )
    return run_dir.split("/")[0]


def _size_of_folder(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and BYTECODE not in path.parts)
    return sum(path.stat().st_size for path in files)


def _size_of_artifacts(uri: str) -> int:
    """Return the bytes of all files of a model, without downloading them.

    Bytecode is left out, which Python leaves beside the code when a model is loaded in place.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri)

    def size(path: str | None) -> int:
        return sum(
            size(found.path) if found.is_dir else found.file_size or 0
            for found in repository.list_artifacts(path)
            if not found.path.endswith(BYTECODE)
        )

    return size(None)


# The rows to judge by -------------------------------------------------------------------------


def open_test(pair: Pair, source: str = "", *, last_days: int = 0, seed: int = 0) -> TestSet:
    """Return data to judge both by, read as the run of the newer version has read its own.

    Parameters
    ----------
    pair : tuple of Contender
    source : str, default ""
        As the load stage of their pipeline takes it; empty for the source that the newer version
        was trained on, as it is now.
    last_days : int, default 0
        How many days at the end of the data; 0 for all. Images have no days.
    seed : int, default 0
        Of a sample that `source` names.

    Returns
    -------
    TestSet
        Prepared with as much history as the version that needs more.

    Raises
    ------
    ValueError
        If neither `source` nor the version names a source, it cannot be read, or holds no row
        that can be judged.
    """
    newer = max(pair, key=lambda contender: contender.number or 0)
    pipeline = newer.pipeline
    loaded = open_run(newer.tags["run_dir"]).record("01_load").get("parameters", {})
    options = {name: loaded[name] for name in LOADERS.get(pipeline, ()) if name in loaded}
    if not source:
        source = newer.tags.get("source", "")
        seed = loaded.get("seed", seed)
        options |= _sample_of_ticks(loaded) if pipeline == "tick" and source == SAMPLE else {}
    if not source:
        raise ValueError(f"{newer.words} does not name the data it was trained on: give source")
    hungry = max(pair, key=lambda contender: _needed_rows(contender.model))
    return scoring.load_test(
        pipeline, source, hungry.model, last_days=last_days, seed=seed, options=options
    )


def unseen(test: TestSet, pair: Pair) -> tuple[TestSet, list[str]]:
    """Return the rows that neither version has learned from, as far as that is known, and notes.

    Parameters
    ----------
    test : TestSet
    pair : tuple of Contender

    Returns
    -------
    test : TestSet
        Its rows after the time until which either has learned. Images have no time: all of them.
    notes : list of str
        What is left out, and what is not known.

    Raises
    ------
    ValueError
        If no row is left.
    """
    if not test.start:
        return test, [_about_images(test, contender) for contender in pair]
    notes = [
        f"It is not known until when {contender.words} has learned: it may know rows of this test, "
        "which would flatter it."
        for contender in pair
        if not contender.tags.get("learned_until")
    ]
    until = learned_until(pair)
    kept = np.ones(len(test.truth), dtype=bool)
    if until is not None:
        kept = _naive(test.truth.index) > until
    if not kept.any():
        raise ValueError(
            f"the data ends at {test.truth.index[-1]}, and a version has learned until {until}: no "
            "row is new to both. Give newer data as source"
        )
    if until is not None:
        notes.insert(0, f"{kept.sum():,} of {len(kept):,} rows are judged: those after {until}.")
    return scoring.select(test, kept), notes


def answer(test: TestSet, pair: Pair) -> tuple[TestSet, np.ndarray, np.ndarray, list[str]]:
    """Return what both say, on the rows that both can answer.

    Parameters
    ----------
    test : TestSet
    pair : tuple of Contender

    Returns
    -------
    test : TestSet
    a, b : ndarray of shape (n,) or, for images, (n, n_classes)
    notes : list of str
        How many rows were left out, if any, and whether they are few.

    Raises
    ------
    lib.registry.scoring.NotComparable
        If a version is made for another task than the test, or takes other columns; names it.
    """
    made = []
    for contender in pair:
        try:
            made.append(scoring.predictions(contender.model, test))
        except scoring.NotComparable as error:
            raise scoring.NotComparable(
                f"{contender.words} cannot be judged on these rows: {error}"
            ) from error
    shared, of_a, of_b = scoring.shared_rows(test, *made)
    n_lost = len(test.truth) - len(shared.truth)
    notes = [f"{n_lost:,} rows that one of them cannot answer are left out."] if n_lost else []
    whole = _with_two_blocks(shared)
    if whole.block_length != shared.block_length:
        notes.append(
            f"There are so few rows that blocks of {whole.block_length} are resampled instead of "
            f"{shared.block_length}: the intervals are rough."
        )
    return whole, of_a, of_b, notes


def _with_two_blocks(test: TestSet) -> TestSet:
    """Return the test with blocks so short that every stretch of rows holds two of them."""
    groups = np.zeros(len(test.truth)) if test.groups is None else test.groups
    shortest = int(np.unique(groups, return_counts=True)[1].min())
    return replace(test, block_length=max(1, min(test.block_length, shortest // 2)))


def learned_until(pair: Pair) -> pd.Timestamp | None:
    """Return the last time that either version is known to have learned from; None if unknown."""
    known = [c.tags["learned_until"] for c in pair if c.tags.get("learned_until")]
    return max(map(moment, known), default=None)


def moment(text: str) -> pd.Timestamp:
    """Return a time in ISO 8601 without its zone, in UTC where it has one."""
    return _naive(pd.DatetimeIndex([text]))[0]


def _about_images(test: TestSet, contender: Contender) -> str:
    tags = contender.tags
    drawn_anew = test.source == SAMPLE  # another seed parts its images in another way
    same_source = tags.get("source") == test.source and not drawn_anew
    if tags.get("data_digest") == test.digest or same_source:
        return (
            f"{contender.words} has learned from the training images of this source, which keeps "
            "its test images apart."
        )
    return (
        f"{contender.words} has learned from other data, {tags.get('source') or 'unknown'}: "
        "whether images of this test were among them is not known."
    )


def _sample_of_ticks(loaded: Mapping) -> dict:
    names = {"train_days", "test_days", "sample_ticks"}
    if not names <= loaded.keys():
        return {}
    n_days = loaded["train_days"] + loaded["test_days"]
    return {"sample": {"n_days": n_days, "n_ticks": loaded["sample_ticks"]}}


def _needed_rows(model: "PyFuncModel") -> int:
    return int(model.unwrap_python_model().spec.get("needed_rows", 1))


def _naive(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return times.tz_convert("UTC").tz_localize(None) if times.tz else times


# Which is better ------------------------------------------------------------------------------


def better(row: Mapping, level: float = 0.95) -> str:
    """Return "A" or "B" where a metric tells which is better at `level`, "" where it does not.

    Parameters
    ----------
    row : mapping
        Of `lib.registry.paired.compare`, with B as the candidate.
    level : float, default 0.95
        Of the interval. Where there is a p-value, it has to be below ``1 - level`` as well.
    """
    _, low, high = improvement(row)
    sure = row.get("p_value") is None or row["p_value"] < alpha(level)
    if not sure:
        return ""
    return "B" if low > 0 else "A" if high < 0 else ""


def explain(rows: Sequence[Mapping], pair: Pair, level: float = 0.95) -> str:
    """Return in one sentence which version is better by the decisive metric, or why none is."""
    row = decisive(rows)
    winner = better(row, level)
    test = "" if row.get("p_value") is None else f", McNemar's p = {row['p_value']:.2g}"
    names = {contender.label: contender.words for contender in pair}
    values = {label: f"{value:.4g}" for label, value in _values(row).items()}
    unit = f" {row['unit']}" if row.get("unit") else ""
    if not winner:
        return (
            f"It cannot be told which is better: {row['metric']} is {values['A']}{unit} of "
            f"{names['A']} and {values['B']}{unit} of {names['B']}, B less A is "
            f"{row['difference']:+.3g}{unit} ({row['low']:+.3g} to {row['high']:+.3g}){test}."
        )
    other = "A" if winner == "B" else "B"
    ends = sorted(abs(end) for end in (row["low"], row["high"]))
    side = "higher" if row["greater_is_better"] else "lower"
    return (
        f"{names[winner]} is better: {row['metric']} is {values[winner]}{unit} against "
        f"{values[other]}{unit} of {names[other]}, {side} by {abs(row['difference']):.3g}{unit} "
        f"({ends[0]:.3g} to {ends[1]:.3g}){test}."
    )


def decisive(rows: Sequence[Mapping]) -> Mapping:
    """Return the row of the metric that decides."""
    return next(row for row in rows if row["decisive"])


def table(rows: Sequence[Mapping], level: float = 0.95) -> pd.DataFrame:
    """Return the paired comparison for people: a line for each metric."""
    frame = pd.DataFrame(
        {
            "A": [f"{row['champion']:.4g}" for row in rows],
            "B": [f"{row['candidate']:.4g}" for row in rows],
            "B less A": [f"{row['difference']:+.3g}" for row in rows],
            "unit": [row.get("unit", "") for row in rows],
            "interval": [f"{row['low']:+.3g} to {row['high']:+.3g}" for row in rows],
            "p": ["" if row["p_value"] is None else f"{row['p_value']:.2g}" for row in rows],
            "better": [better(row, level) or "cannot be told" for row in rows],
        },
        index=[f"{row['metric']} {'↑' if row['greater_is_better'] else '↓'}" for row in rows],
    )
    return frame.rename_axis("metric")


def flat_metrics(rows: Sequence[Mapping], costs: pd.DataFrame) -> dict[str, float]:
    """Return everything that was measured by name, for ``metrics.json``.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lib.registry.paired.compare`.
    costs : pandas.DataFrame
        Of `measure_costs`.

    Returns
    -------
    dict of str to float
        ``a_rmse``, ``b_rmse``, ``difference_rmse``, its ``_low`` and ``_high``, ``p_accuracy``;
        ``a_latency_ms``, ``a_batch_latency_ms``, ``a_size_mb`` …
    """
    found = {}
    for row in rows:
        name = row["metric"]
        found |= {f"a_{name}": row["champion"], f"b_{name}": row["candidate"]}
        found |= {f"difference_{name}": row["difference"]}
        found |= {f"difference_{name}_low": row["low"], f"difference_{name}_high": row["high"]}
        if row["p_value"] is not None:
            found[f"p_{name}"] = row["p_value"]
    for label in costs.columns:
        found |= {f"{label.lower()}_{cost}": costs.loc[cost, label] for cost in costs.index}
    return {name: float(value) for name, value in found.items()}


def _values(row: Mapping) -> dict[str, float]:
    return {"A": row["champion"], "B": row["candidate"]}


# Where they disagree --------------------------------------------------------------------------


def agreement(test: TestSet, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return how alike the answers of both are.

    Parameters
    ----------
    test : TestSet
    a, b : ndarray of shape (n,) or (n, n_classes)
        From `lib.registry.scoring.predictions`.

    Returns
    -------
    dict of str to float
        Images: number of those that ``both``, ``only A``, ``only B`` and ``neither`` name rightly.
        Forecasts: their correlation, mean distance, and the fraction of rows where B is nearer.
    """
    truth = test.truth.to_numpy()
    if test.pipeline in IMAGE_PIPELINES:
        right_a, right_b = (p.argmax(axis=1) == truth for p in (a, b))
        return {
            "both": int((right_a & right_b).sum()),
            "only A": int((right_a & ~right_b).sum()),
            "only B": int((~right_a & right_b).sum()),
            "neither": int((~right_a & ~right_b).sum()),
        }
    unit = QUANTITIES[test.pipeline][1]
    constant = min(np.ptp(a), np.ptp(b)) == 0
    return {
        "correlation of the forecasts": math.nan if constant else float(np.corrcoef(a, b)[0, 1]),
        f"mean distance, {unit}": float(np.abs(a - b).mean()),
        "rows where B is nearer, fraction": float((np.abs(b - truth) < np.abs(a - truth)).mean()),
    }


def stretches(
    distance: np.ndarray, *, length: int, n: int = 2, groups: np.ndarray | None = None
) -> list[slice]:
    """Return the stretches of rows with the largest mean distance, in order, none overlapping.

    Parameters
    ----------
    distance : ndarray of shape (n_rows,)
        Of both forecasts, by row.
    length : int
        Rows of a stretch; all rows where there are fewer.
    n : int, default 2
        How many; fewer where no more fit.
    groups : ndarray of shape (n_rows,), optional
        Day of each row: no stretch crosses from one to the next.

    Returns
    -------
    list of slice
        Positions.
    """
    length = min(length, len(distance))
    total = np.concatenate([[0.0], np.cumsum(distance)])
    sums = total[length:] - total[:-length]
    if groups is not None:
        sums = np.where(groups[length - 1 :] == groups[: len(sums)], sums, -np.inf)
    starts = []
    while len(starts) < n and np.isfinite(sums).any():
        start = int(np.argmax(sums))
        starts.append(start)
        sums[max(0, start - length + 1) : start + length] = -np.inf
    return [slice(start, start + length) for start in sorted(starts)]


def stretch_length(test: TestSet) -> int:
    """Return how many rows a stretch that is shown has: three days, or 120 bars."""
    if test.pipeline != "power":
        return min(120, test.block_length)
    return max(24, round(3 * 86_400 / test.task["step_s"]))


def one_sided(truth: np.ndarray, a: np.ndarray, b: np.ndarray, n: int = 16) -> np.ndarray:
    """Return images that one version names rightly and the other does not, the surest error first.

    Parameters
    ----------
    truth : ndarray of shape (n_images,), int
    a, b : ndarray of shape (n_images, n_classes)
        Probabilities.
    n : int, default 16
        At most so many.

    Returns
    -------
    ndarray of int
        Positions. Where both name all the same images rightly, those on which the probabilities
        are furthest apart.
    """
    right_a, right_b = (p.argmax(axis=1) == truth for p in (a, b))
    split = np.flatnonzero(right_a != right_b)
    if not split.size:
        return np.argsort(-np.abs(a - b).max(axis=1), kind="stable")[:n]
    wrong = np.where(right_a[:, None], b, a)[split].max(axis=1)
    return split[np.argsort(-wrong, kind="stable")][:n]


def only_one_right(test: TestSet, a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    """Return the number of images that only A, and only B, names rightly, by class."""
    truth, classes = test.truth.to_numpy(), test.task["classes"]
    right_a, right_b = (p.argmax(axis=1) == truth for p in (a, b))
    counts = {
        label: np.bincount(truth[rows], minlength=len(classes))
        for label, rows in (("only A", right_a & ~right_b), ("only B", right_b & ~right_a))
    }
    return pd.DataFrame(counts, index=classes)


def captions(test: TestSet, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> list[str]:
    """Return what A, B and the label say of each image, and how sure A and B are."""
    classes = test.task["classes"]
    return [
        f"A {classes[a[k].argmax()]} {a[k].max():.2f}\nB {classes[b[k].argmax()]} {b[k].max():.2f}"
        f"\nis {classes[test.truth.iloc[k]]}"
        for k in rows
    ]


def answers(test: TestSet, a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    """Return truth and both answers by row: forecasts, or classes with their probability."""
    if test.pipeline not in IMAGE_PIPELINES:
        return pd.DataFrame({"truth": test.truth, "a": a, "b": b})
    columns = {"truth": test.truth}
    for name, p in (("a", a), ("b", b)):
        columns |= {name: p.argmax(axis=1), f"{name}_probability": p.max(axis=1)}
    return pd.DataFrame(columns)


# What an answer costs -------------------------------------------------------------------------


def measure_costs(
    pair: Pair, test: TestSet, *, batch_rows: int = 256, n_repeats: int = 20
) -> pd.DataFrame:
    """Time both models on the same input, in turns, and weigh them.

    Parameters
    ----------
    pair : tuple of Contender
    test : TestSet
        Gives the input: the history that one forecast needs, or one image; then a batch.
    batch_rows : int, default 256
        Rows answered at once; fewer where the test has fewer.
    n_repeats : int, default 20
        Of which the median is taken, after one call that does not count.

    Returns
    -------
    pandas.DataFrame of shape (3, 2)
        ``latency_ms`` of one row, ``batch_latency_ms`` of one row in a batch, ``size_mb`` on disk
        (10⁶ bytes); a column for each version.
    """
    one, batch, n_batch = _requests(pair, test, batch_rows)
    found = {contender.label: {} for contender in pair}
    for name, inputs, n in (("latency_ms", one, 1), ("batch_latency_ms", batch, n_batch)):
        for label, seconds in _seconds(pair, inputs, n_repeats).items():
            found[label][name] = 1000 * seconds / n
    for contender in pair:
        found[contender.label]["size_mb"] = contender.size_bytes / 1e6
    return pd.DataFrame(found)


def _requests(
    pair: Pair, test: TestSet, batch_rows: int
) -> tuple[pd.DataFrame | np.ndarray, pd.DataFrame | np.ndarray, int]:
    """Return the input of one row, that of a batch, and how many rows the batch has."""
    if isinstance(test.inputs, np.ndarray):
        n = min(batch_rows, len(test.inputs))
        return test.inputs[:1], test.inputs[:n], n
    needed = max(_needed_rows(contender.model) for contender in pair)
    n = max(1, min(batch_rows, len(test.inputs) - needed + 1))
    return test.inputs.iloc[-needed:], test.inputs.iloc[-needed - n + 1 :], n


def _seconds(pair: Pair, inputs: pd.DataFrame | np.ndarray, n_repeats: int) -> dict[str, float]:
    """Return the median time of a call by label; in turns, so that both see the same machine."""
    for contender in pair:
        contender.model.predict(inputs)
    taken: dict[str, list[float]] = {contender.label: [] for contender in pair}
    for _ in range(n_repeats):
        for contender in pair:
            started = time.perf_counter()
            contender.model.predict(inputs)
            taken[contender.label].append(time.perf_counter() - started)
    return {label: statistics.median(times) for label, times in taken.items()}


def summary(
    pair: Pair, test: TestSet, rows: Sequence[Mapping], notes: Sequence[str], level: float
) -> dict:
    """Return the comparison as one JSON object, for ``comparison.json`` and the run's page.

    Returns
    -------
    dict
        ``model``, ``a`` and ``b`` (version and run of each), ``better`` ("A", "B" or ""),
        ``words``, ``rows``, ``level``, ``notes``, ``n_rows``, ``source`` and ``digest`` of the
        data.
    """
    versions = {
        contender.label.lower(): {
            "name": contender.name,
            "version": contender.number,
            "run_dir": contender.tags["run_dir"],
        }
        for contender in pair
    }
    return versions | {
        "model": pair[0].name if pair[0].number is not None else SAMPLE,
        "better": better(decisive(rows), level),
        "words": explain(rows, pair, level),
        "rows": [dict(row) for row in rows],
        "level": level,
        "notes": list(notes),
        "n_rows": len(test.truth),
        "source": test.source,
        "digest": test.digest,
    }
