"""Two small models to try comparing and scoring on, which no registry needs to know."""

import shutil
from dataclasses import replace
from pathlib import Path

from lib.pipelines import power
from lib.power.demo import N_NEW, sample_pair
from lib.power.features import measured
from lib.power.frame import describe_power
from lib.power.watched import power_columns
from lib.registry import drift
from lib.registry.rows import Rows, predict
from lib.registry.standing import SAMPLE, Version

import numpy as np
import pandas as pd

DAY = 24
TEST = {"kind": "regression", "metric": "rmse", "unit": "kW", "quantity": "power", "classes": []}
TEST |= {"task": {"horizon": 1, "step_s": 3600.0}, "block_length": 7 * DAY, "options": {}}


def compared(folder: Path) -> tuple[tuple[Version, Version], Rows]:
    """Train two forecasters in `folder`, A with few trees and B with many.

    Returns
    -------
    pair : tuple of Version
    rows : Rows
        The four weeks after what they have learned, with the history that they need.
    """
    pair, rows, _ = _made(folder)
    return pair, rows


def scored(folder: Path) -> tuple[Version, Rows, dict]:
    """Train a forecaster in `folder` and judge it on two weeks.

    Returns
    -------
    version : Version
    rows : Rows
        Those two weeks and the two after them, which are new.
    profile : dict
        Of what it has learned from, see `lib.registry.drift.profile`.
    """
    (_, many), rows, raw = _made(folder)
    until = raw.index[-14 * DAY - 1].isoformat()
    judged = rows.keys[rows.keys <= until]
    error = predict(many.pipeline, many.model, rows, judged) - rows.truth.reindex(judged)
    tags = many.tags | {"learned_until": until}
    tags["metric.rmse"] = str(float(np.sqrt((error.dropna() ** 2).mean())))
    learned = power_columns(measured(raw.iloc[:-N_NEW]))
    version = replace(many, name=SAMPLE, number=1, tags=tags)
    return version, rows, drift.profile(learned, 7 * DAY)


def _made(folder: Path) -> tuple[tuple[Version, Version], Rows, pd.DataFrame]:
    for name in ("few_trees", "many_trees"):
        shutil.rmtree(folder / name, ignore_errors=True)
    *folders, raw = sample_pair(folder)
    until = raw.index[-N_NEW - 1].isoformat()
    tags = {"run_dir": "power/sample", "source": SAMPLE, "learned_until": until}
    few, many = (Version(one.name, None, tags, TEST, place=str(one)) for one in folders)
    needed = few.model.unwrap_python_model().spec["needed_rows"]
    new = raw.iloc[-N_NEW - needed :]
    rows = power.rows_of(new, describe_power(new, SAMPLE), few.model)
    return (few, many), replace(rows, truth=rows.truth[rows.truth.index > until]), raw
