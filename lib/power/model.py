"""The power forecaster as an MLflow model: raw history in, kW of the coming rows out.

`save_forecaster` writes a folder that anyone with MLflow can load and serve: boosters as LightGBM's
text, the settings of the feature step as JSON, and a copy of the modules that turn both into
forecasts ("models from code"). Nothing is pickled, and nothing of this project needs to be
installed to predict.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from lib.packaging import BadInput, read_history, save_packed
from lib.power.columns import COLUMNS
from lib.power.features import POWER, PowerOptions, needed_rows, power_features

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

TIME = "ts"
NEEDED = ("mlflow", "lightgbm", "pandas", "numpy")
MOST_STEPS = 1_000_000  # of a grid that is mostly empty: more is a mistyped year, not a gap


class Spec(TypedDict):
    """What a forecaster knows besides its boosters; kept as ``spec.json``.

    Attributes
    ----------
    options : PowerOptions
        What `lib.power.features.power_features` was given.
    step_s : float
        Time step of the rows (s).
    needed_rows : int
        Rows of history a forecast takes, the last known one included.
    target : {"level", "difference"}
        Whether the boosters give kW, or kW above the last known row.
    features : list of str
        The boosters' columns, in order.
    columns : list of str
        The measured columns that the house has; others count as missing.
    least_kw : float
        No forecast is lower: 0, or what a house that feeds in may reach.
    """

    options: PowerOptions
    step_s: float
    needed_rows: int
    target: str
    features: list[str]
    columns: list[str]
    least_kw: float


def forecast(boosters: Sequence[lgb.Booster], spec: Spec, features: pd.DataFrame) -> np.ndarray:
    """Return the mean forecast of the boosters, never below the least power of the house.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        At least one, trained on the columns `spec` names.
    spec : Spec
        See there.
    features : pandas.DataFrame of shape (n, n_features)
        As `lib.power.features.power_features` returns them, in any order of columns.

    Returns
    -------
    ndarray of shape (n,), float64
        Power in kW at each row's time + horizon.
    """
    x = features[spec["features"]].to_numpy(dtype=np.float32)
    power_kw = np.mean([np.asarray(booster.predict(x)) for booster in boosters], axis=0)
    if spec["target"] == "difference":
        power_kw = power_kw + features[f"{POWER}_lag_0"].to_numpy(dtype=np.float64)
    return np.maximum(power_kw, spec["least_kw"])


class PowerForecaster(PythonModel):
    """Forecast household power from raw history; what MLflow loads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the boosters and the settings from the model's folder."""
        self.spec: Spec = json.loads(Path(context.artifacts["spec"]).read_text(encoding="utf-8"))
        files = sorted(Path(context.artifacts["boosters"]).glob("*.txt"))
        self.boosters = [lgb.Booster(model_file=str(file)) for file in files]

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, str] | None = None,
    ) -> pd.DataFrame:
        """Forecast one value for every row of history.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
            Not used: everything was read when the model was loaded.
        model_input : pandas.DataFrame of shape (n, 1 + n_columns)
            ``ts``, the start of each row's interval in naive local clock time, and the columns of
            `lib.power.columns.COLUMNS` that the house of the training had, in order of time.
            Times may be left out: they count as missing.
        params : dict, optional
            None are known.

        Returns
        -------
        pandas.DataFrame of shape (n, 2)
            ``ts``, the time forecast, and ``power_kw``, NaN for rows with too little history
            before them.

        Raises
        ------
        BadInput
            If a column is missing or holds no numbers, or the times cannot be read,
            are out of order, doubled or off the grid; the message names column and row.
        """
        spec = self.spec
        step = pd.Timedelta(seconds=spec["step_s"])
        given = read_history(model_input, TIME, spec["columns"]).reindex(columns=list(COLUMNS))
        history = _on_grid(given, step)
        features = power_features(history, **spec["options"])
        ts = given.index
        power_kw = pd.Series(forecast(self.boosters, spec, features), history.index)
        power_kw.iloc[: spec["needed_rows"] - 1] = np.nan
        ahead = spec["options"]["horizon"] * step
        return pd.DataFrame({TIME: ts + ahead, POWER: power_kw.loc[ts].to_numpy()})


def make_spec(
    features: Sequence[str],
    options: PowerOptions,
    *,
    per_day: int,
    target: str,
    columns: Sequence[str] = tuple(COLUMNS),
    least_kw: float = 0.0,
) -> Spec:
    """Return the settings of a forecaster.

    Parameters
    ----------
    features : sequence of str
        The columns that the boosters were trained on, in order.
    options : PowerOptions
        What `lib.power.features.power_features` was given.
    per_day : int
        Rows per day of the history, see `lib.power.features.rows_per_day`.
    target : {"level", "difference"}
        Whether the boosters were trained on kW, or on kW above the last known row.
    columns : sequence of str, default all
        The measured columns that the house has.
    least_kw : float, default 0
        What the power cannot fall below.

    Returns
    -------
    Spec
    """
    return Spec(
        options=options,
        step_s=86_400 / per_day,
        needed_rows=needed_rows(per_day, options),
        target=target,
        features=list(features),
        columns=list(columns),
        least_kw=least_kw,
    )


def save_forecaster(path: Path, boosters: Sequence[lgb.Booster], spec: Spec) -> None:
    """Write a forecaster as an MLflow model folder that needs nothing of this project.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    boosters : sequence of lightgbm.Booster
        At least one; their forecasts are averaged.
    spec : Spec
        From `make_spec`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "boosters").mkdir()
        for k, booster in enumerate(boosters):
            booster.save_model(folder / "boosters" / f"{k:03d}.txt")
        (folder / "spec.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
        save_packed(
            path,
            ["packaging", "power.columns", "power.features", "power.model"],
            "power.model.PowerForecaster",
            artifacts={"spec": folder / "spec.json", "boosters": folder / "boosters"},
            signature=signature(spec["columns"]),
            packages=(*NEEDED, "holidays") if spec["options"]["country"] else NEEDED,
        )


def signature(columns: Sequence[str]) -> ModelSignature:
    """Return the columns and types of a forecaster's input and output.

    ``ts`` is declared as of any type, and `PowerForecaster.predict` reads it: of a column that is
    declared as times MLflow's server takes numbers for nanoseconds, and names no row that is wrong.
    """
    measured = [ColSpec(DataType.double, name) for name in columns]
    answer = [ColSpec(DataType.datetime, TIME), ColSpec(DataType.double, POWER)]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), TIME), *measured]), outputs=Schema(answer)
    )


def _on_grid(history: pd.DataFrame, step: pd.Timedelta) -> pd.DataFrame:
    """Return the history with a row of NaN for each time that is missing."""
    ts = history.index
    off = np.flatnonzero((ts - ts[0]) % step != pd.Timedelta(0))
    if off.size:
        raise BadInput(
            f"row {off[0]} at {ts[off[0]]} is not a whole number of steps of {step} after {ts[0]}: "
            "aggregate the history to the step the model was trained on"
        )
    n_steps = (ts[-1] - ts[0]) // step
    if n_steps > max(MOST_STEPS, 10 * len(ts)):
        raise BadInput(
            f"{len(ts)} rows from {ts[0]} to {ts[-1]} leave most of {n_steps} steps empty: is a "
            "year mistyped?"
        )
    start = min(ts[0], ts[-1] - step)
    return history.reindex(pd.date_range(start, ts[-1], freq=step, name=TIME))
