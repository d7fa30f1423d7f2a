"""Tomorrow's peak load: what is known of it tonight, and the random forests that are asked.

A row is a day. It knows the hours of that day and of those before it, and the calendar of the next
day, whose highest hourly mean (kW) and the hour of it are forecast. `save_forecaster` writes an
MLflow model that takes raw hours, without a pickle and without anything of this project.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lib.packaging import TRUSTED, read_history, save_packed

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

TIME, POWER = "ts", "power_kw"
PEAK, HOUR = "peak_kw", "peak_hour"
WEEK = 7
LEVEL = f"{PEAK}_mean_{WEEK}"
"""What the forest of the peak learns the distance from: trees know no level they have not seen."""
NEEDED = ("mlflow", "scikit-learn", "skops", "pandas", "numpy")


def hours_by_day(hours: pd.Series, *, min_hours: int = 20) -> pd.DataFrame:
    """Return the hours of each day in a row.

    Parameters
    ----------
    hours : pandas.Series of shape (n,)
        Mean power of each hour (kW); index: its begin, naive local clock time, in order.
    min_hours : int, default 20
        A day of which fewer are known is missing.

    Returns
    -------
    pandas.DataFrame of shape (n_days, 24)
        Index ``day`` (datetime64), one row for each day from the first to the last.
    """
    table = hours.groupby([hours.index.normalize(), hours.index.hour]).mean().unstack()
    days = pd.date_range(table.index[0], table.index[-1], freq="D", name="day", unit="us")
    table = table.reindex(index=days, columns=range(24))
    return table.where(table.notna().sum(axis=1) >= min_hours)


def peaks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the peak of each day: ``peak_kw``, and ``peak_hour`` by the clock; NaN if missing."""
    known = table.notna().any(axis=1)
    hour = table.fillna(-np.inf).to_numpy().argmax(axis=1)
    found = {PEAK: table.max(axis=1), HOUR: np.where(known, hour, np.nan)}
    return pd.DataFrame(found, table.index)


def peak_features(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is known at the end of each day of the next one's peak.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_days, 24)
        From `hours_by_day`.

    Returns
    -------
    pandas.DataFrame of shape (n_days, n_features), float64
        Peaks and their hours of the last seven days, moving means and maxima, energy, the last
        day's course in four-hour means, and the calendar of the next day.
    """
    of_day, energy = peaks(table), table.mean(axis=1)
    found = {f"{PEAK}_lag_{k}": of_day[PEAK].shift(k) for k in range(WEEK)}
    found |= {f"{HOUR}_lag_{k}": of_day[HOUR].shift(k) for k in (0, WEEK - 1)}
    for n_days in (WEEK, 4 * WEEK):
        rolling = of_day[PEAK].rolling(n_days, min_periods=n_days // 2)
        found |= {f"{PEAK}_mean_{n_days}": rolling.mean(), f"{PEAK}_max_{n_days}": rolling.max()}
    found |= {f"mean_kw_lag_{k}": energy.shift(k) for k in (0, 1, WEEK - 1)}
    found["mean_kw_mean_7"] = energy.rolling(WEEK, min_periods=3).mean()
    found |= {f"kw_from_{h:02}": table[list(range(h, h + 4))].mean(axis=1) for h in range(0, 24, 4)}
    target = table.index + pd.Timedelta(days=1)
    turn = 2 * np.pi * target.day_of_year / 365.25
    found |= {"weekday": target.day_of_week, "weekend": target.day_of_week >= 5}
    found |= {"year_sin": np.sin(turn), "year_cos": np.cos(turn)}
    return pd.DataFrame(found, table.index).astype(np.float64)


class PeakForecaster(PythonModel):
    """Forecast the next day's peak from raw hours; what MLflow loads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the forests and their columns from the model's folder."""
        from skops.io import load

        self.spec = json.loads(Path(context.artifacts["spec"]).read_text(encoding="utf-8"))
        self.forests = {
            name: load(context.artifacts[name], trusted=list(TRUSTED)) for name in (PEAK, HOUR)
        }

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, str] | None = None,
    ) -> pd.DataFrame:
        """Forecast the peak of the day after each day of the history.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
            Not used: everything was read when the model was loaded.
        model_input : pandas.DataFrame of shape (n, 2)
            ``ts``, the begin of each hour in naive local clock time, in order, and ``power_kw``.
            Hours may be left out: they count as missing.
        params : dict, optional
            None are known.

        Returns
        -------
        pandas.DataFrame of shape (n_days, 3)
            ``day``, the day that is forecast, ``peak_hour`` and ``peak_kw``; NaN where the week
            before is not whole. The last is what the registry judges the model by.

        Raises
        ------
        BadInput
            If a column is missing or holds no numbers, or times cannot be read or are not in
            order; the message names column and row.
        """
        history = read_history(model_input, TIME, [POWER])
        table = hours_by_day(history[POWER], min_hours=self.spec["min_hours"])
        features = peak_features(table)
        x = features[self.spec["features"]]
        made = pd.DataFrame({name: self.forests[name].predict(x) for name in (HOUR, PEAK)})
        made[PEAK] += features[LEVEL].to_numpy()
        made = made.astype(np.float64)
        made[~is_whole(features).to_numpy()] = np.nan
        made.insert(0, "day", table.index + pd.Timedelta(days=1))
        return made


def is_whole(features: pd.DataFrame) -> pd.Series:
    """Say of each day whether the peaks of its whole week are known, which a forecast needs."""
    return features.filter(regex=f"^{PEAK}_lag_").notna().all(axis=1)


def save_forecaster(
    path: Path, forests: "dict[str, BaseEstimator]", features: list[str], *, min_hours: int
) -> None:
    """Write a forecaster as an MLflow model folder that needs nothing of this project.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    forests : dict of str to sklearn.base.BaseEstimator
        Of `PEAK`, less `LEVEL`, and of `HOUR`.
    features : list of str
        The columns that they were trained on, in order.
    min_hours : int
        As for `hours_by_day`.
    """
    from skops.io import dump

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = {"features": features, "min_hours": min_hours}
        (folder / "spec.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
        for name, forest in forests.items():
            dump(forest, folder / f"{name}.skops")
        save_packed(
            path,
            ["packaging", "lakehouse.peaks"],
            "lakehouse.peaks.PeakForecaster",
            artifacts={
                "spec": folder / "spec.json",
                **{name: folder / f"{name}.skops" for name in forests},
            },
            signature=ModelSignature(
                inputs=Schema([ColSpec(AnyType(), TIME), ColSpec(DataType.double, POWER)]),
                outputs=Schema(
                    [
                        ColSpec(DataType.datetime, "day"),
                        ColSpec(DataType.double, HOUR),
                        ColSpec(DataType.double, PEAK),
                    ]
                ),
            ),
            packages=NEEDED,
        )
