"""What models of every kind learn from, and how their forecasts are laid side by side.

Scaler and unit come from training rows alone. A row without a target, or that is not for training,
has a target of NaN; windows of it stay usable.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.tick.model import (
    Scaler,
    TickSpec,
    fit_scaler,
    forecast,
    load_members,
    make_tick_spec,
    scale,
)
from lib.tick.windows import window_ends

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge

CUT = 4.0
"""Targets beyond so many deviations are cut, for learning only."""

Fitted = tuple[TickSpec, list[Path]]
"""Settings and files of a trained model, see `lib.tick.model.load_members`."""


@dataclass(frozen=True)
class TrainingRows:
    """Scaled features and targets of some rows.

    Attributes
    ----------
    x : numpy.ndarray of shape (n, n_features), float32
        Scaled features, NaN where a day's history is too short.
    y : numpy.ndarray of shape (n,), float32
        Targets in units of their deviation, cut; NaN where there is none, or none to learn.
    groups : numpy.ndarray of shape (n,), str
        Day and grid of each row: no window crosses from one to another.
    scaler : Scaler
    unit : float
        Deviation of the targets, bps.
    split : mapping
        ``split.json`` of the feature stage.
    """

    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    scaler: Scaler
    unit: float
    split: Mapping

    @property
    def complete(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and targets of the rows that have all of them."""
        known = np.isfinite(self.x).all(axis=1) & np.isfinite(self.y)
        return self.x[known], self.y[known]

    def ends(self, window: int) -> np.ndarray:
        """Return the rows with a target at which a window of complete rows ends."""
        ends = window_ends(self.groups, window, np.isfinite(self.x).all(axis=1))
        return ends[np.isfinite(self.y[ends])]

    def spec(self, window: int = 1) -> TickSpec:
        """Return the settings of a model that has learned from these rows."""
        return make_tick_spec(self.scaler, self.split, window=window, target_scale=self.unit)


def training_rows(table: pd.DataFrame, train: Sequence[bool], split: Mapping) -> TrainingRows:
    """Return what can be learned from a table of features.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n, n_columns)
        Features and target by the names in `split`, ``day``, and ``phase``, the grid of the bars:
        the scaler sees grid 0 alone.
    train : array of shape (n,), bool
        Rows to learn from.
    split : mapping
        ``split.json`` of the feature stage.
    """
    features, target = table[split["features"]], table[split["target"]]
    scaler = fit_scaler(features[train & (table["phase"] == 0)])
    unit = float(target[train].std())
    y = (target / unit).clip(-CUT, CUT).where(train).to_numpy(np.float32)
    groups = (table["day"] + table["phase"].astype(str)).to_numpy()
    return TrainingRows(scale(features, scaler), y, groups, scaler, unit, split)


def save_ridge(ridge: "Ridge", path: Path) -> None:
    """Write a fitted ridge regression as `lib.tick.model.load_members` reads it."""
    found = {"coefficients": ridge.coef_.tolist(), "intercept": float(ridge.intercept_)}
    path.write_text(json.dumps(found), encoding="utf-8")


def forecasts(fitted: Mapping[str, Fitted], table: pd.DataFrame, split: Mapping) -> pd.DataFrame:
    """Return the forecasts of several models, a column for each, with target and day."""
    made = {
        name: forecast(load_members(files), spec, table[split["features"]], table["day"])
        for name, (spec, files) in fitted.items()
    }
    kept = {name: table[name] for name in (split["target"], "day")}
    return pd.DataFrame(made, table.index).assign(**kept)
