"""The tick forecaster as an MLflow model: raw bars in, the expected return of each bar out.

`save_tick_forecaster` writes a folder that anyone with MLflow can load and serve: trained members
(Keras, LightGBM or ridge) as files of their own formats, the settings of the feature step with the
scaler as JSON, and a copy of the modules that turn them into forecasts. Nothing is pickled, and
nothing of this project needs to be installed to predict.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from lib.backend import import_keras
from lib.packaging import BadInput, read_times, save_packed
from lib.tick.indicators import BAR_COLUMNS, FeatureOptions, bar_features
from lib.tick.windows import take_windows, window_ends

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

TIME, DAY, FORECAST = "ts", "day", "expected_return_bps"
NEEDED = ("mlflow", "TA-Lib", "pandas", "numpy")
IMPORTS = {".keras": ("keras", "tensorflow"), ".txt": ("lightgbm",), ".json": ()}
MODULES = ("backend", "packaging", "splits", "tick.indicators", "tick.model", "tick.windows")
BATCH = 1024
CLIP = 5.0  # standard deviations

Predictor = Callable[[np.ndarray], np.ndarray]
"""Takes windows, float32 of shape (n, window, n_features); returns float64 of shape (n,)."""


class Scaler(TypedDict):
    """How features become the model's input: ``(feature - mean) / scale``, cut at ``clip``.

    Attributes
    ----------
    features : list of str
        The columns that the model sees, in order.
    mean, scale : list of float
        One for each feature, in its unit.
    clip : float
        Largest absolute value of a scaled feature.
    """

    features: list[str]
    mean: list[float]
    scale: list[float]
    clip: float


class TickSpec(TypedDict):
    """What a forecaster knows besides its members; kept as ``spec.json``.

    Attributes
    ----------
    options : FeatureOptions
        What `lib.tick.indicators.bar_features` is given.
    scaler : Scaler
        Fitted on training rows only.
    window : int
        Bars a member sees, the last known one included; 1 unless the members are Keras models.
    horizon : int
        Bars ahead.
    bar, bar_size : str, float
        What `lib.tick.bars.to_bars` was given to make the bars.
    target_scale : float
        Basis points of one unit of the members' output.
    quotes : bool
        Whether the bars are of quotes and have a spread.
    """

    options: FeatureOptions
    scaler: Scaler
    window: int
    horizon: int
    bar: str
    bar_size: float
    target_scale: float
    quotes: bool


def fit_scaler(features: pd.DataFrame) -> Scaler:
    """Return the mean and the standard deviation of each feature.

    Parameters
    ----------
    features : pandas.DataFrame of shape (n, n_features)
        Training rows only; rows with a missing value are left out.

    Returns
    -------
    Scaler
        Features are cut at five standard deviations; one that does not vary has the scale 1.

    Raises
    ------
    ValueError
        If no row is complete.
    """
    values = features.dropna().to_numpy(dtype=np.float64)
    if not len(values):
        raise ValueError(
            f"none of the {len(features)} training rows is complete: give more bars in each day, "
            "or shorter windows"
        )
    scale = values.std(axis=0)
    return Scaler(
        features=list(features.columns),
        mean=values.mean(axis=0).tolist(),
        scale=np.where(scale > 1e-12 * np.abs(values).max(axis=0), scale, 1.0).tolist(),
        clip=CLIP,
    )


def scale(features: pd.DataFrame, scaler: Scaler) -> np.ndarray:
    """Return the model's input: the scaler's columns, in its order, scaled and cut.

    Parameters
    ----------
    features : pandas.DataFrame of shape (n, n_columns)
        As `lib.tick.indicators.bar_features` returns them, in any order of columns.
    scaler : Scaler
        From `fit_scaler`.

    Returns
    -------
    ndarray of shape (n, n_features), float32
        NaN stays NaN.
    """
    values = features[scaler["features"]].to_numpy(dtype=np.float64)
    values = (values - np.array(scaler["mean"])) / np.array(scaler["scale"])
    return np.clip(values, -scaler["clip"], scaler["clip"]).astype(np.float32)


def make_tick_spec(
    scaler: Scaler, facts: Mapping, *, window: int = 1, target_scale: float = 1.0
) -> TickSpec:
    """Return the settings of a forecaster.

    Parameters
    ----------
    scaler, window, target_scale
        See `TickSpec`.
    facts : mapping
        ``split.json`` of the feature stage: ``options``, ``horizon``, ``bar``, ``bar_size`` and
        ``quotes``.
    """
    names = ("options", "horizon", "bar", "bar_size", "quotes")
    return TickSpec(
        scaler=scaler,
        window=window,
        target_scale=target_scale,
        **{name: facts[name] for name in names},
    )


def load_members(files: Sequence[Path]) -> list[Predictor]:
    """Return the trained members as functions of windows.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Keras models (``.keras``) that take (n, window, n_features) float32 and return (n, 1), made
        of Keras's own layers only; LightGBM's text boosters (``.txt``); or ridge regressions
        (``.json``: ``coefficients``, one for each scaled feature, and ``intercept``).

    Returns
    -------
    list of callable
    """
    loaders = {".keras": _keras, ".txt": _lightgbm, ".json": _ridge}
    return [loaders[file.suffix](file) for file in files]


def forecast(
    members: Sequence[Predictor], spec: TickSpec, features: pd.DataFrame, days: pd.Series
) -> np.ndarray:
    """Return the mean forecast of the members for every bar that has enough bars before it.

    Parameters
    ----------
    members : sequence of callable
        From `load_members`.
    spec : TickSpec
        See there.
    features : pandas.DataFrame of shape (n, n_columns)
        As `lib.tick.indicators.bar_features` returns them, not scaled.
    days : pandas.Series of shape (n,), str
        Day of each row; no window crosses from one to the next.

    Returns
    -------
    ndarray of shape (n,), float64
        Log-return over the next `horizon` bars in bps; NaN without `window` complete rows.
    """
    x = scale(features, spec["scaler"])
    found = np.full(len(x), np.nan)
    ends = window_ends(days.to_numpy(), spec["window"], np.isfinite(x).all(axis=1))
    for begin in range(0, len(ends), BATCH):
        rows = ends[begin : begin + BATCH]
        windows = take_windows(x, rows, spec["window"])
        found[rows] = np.mean([member(windows) for member in members], axis=0)
    return found * spec["target_scale"]


class TickForecaster(PythonModel):
    """Forecast the return of bars from raw bars; what MLflow loads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the members and the settings from the model's folder."""
        self.spec: TickSpec = json.loads(Path(context.artifacts["spec"]).read_text("utf-8"))
        self.members = load_members(sorted(Path(context.artifacts["members"]).iterdir()))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, str] | None = None,
    ) -> pd.DataFrame:
        """Forecast the return after every bar.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
            Not used: everything was read when the model was loaded.
        model_input : pandas.DataFrame of shape (n, 13) or, for quotes, (n, 14)
            Bars as `lib.tick.bars.to_bars` makes them, with their index as a column: ``ts``, the
            moment a bar is known (UTC, also where no zone is given),
            `lib.tick.indicators.BAR_COLUMNS` and, for quotes, ``spread``, in order of time. Each
            day must be there from its first bar: exponential means reach back to it.
        params : dict, optional
            None are known.

        Returns
        -------
        pandas.DataFrame of shape (n, 2)
            ``ts`` and ``expected_return_bps``, the log-return of the close over the next `horizon`
            bars in bps; NaN for bars with too few of their day before them.

        Raises
        ------
        BadInput
            A ValueError: if a column is missing, a time cannot be read, or
            `lib.tick.indicators.check_bars` refuses the bars; the message names column and row.
        """
        try:
            ts = read_times(model_input[TIME], "2013-10-07T13:30:05Z", utc=True)
            bars = model_input.set_axis(ts.as_unit("us"), axis=0)
            features = bar_features(bars, self.spec["options"])
        except ValueError as error:
            raise BadInput(str(error)) from error
        found = forecast(self.members, self.spec, features, bars[DAY])
        return pd.DataFrame({TIME: bars.index, FORECAST: found})


def save_tick_forecaster(path: Path, members: Sequence[Path], spec: TickSpec) -> None:
    """Write a forecaster as an MLflow model folder that needs nothing of this project.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    members : sequence of pathlib.Path
        Files as `load_members` takes them; their forecasts are averaged.
    spec : TickSpec
        From `make_tick_spec`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "members")
        folder.mkdir()
        for k, member in enumerate(members):
            shutil.copy(member, folder / f"{k:03d}{member.suffix}")
        settings = Path(scratch, "spec.json")
        settings.write_text(json.dumps(spec, indent=1), encoding="utf-8")
        save_packed(
            path,
            MODULES,
            "tick.model.TickForecaster",
            artifacts={"spec": settings, "members": folder},
            signature=_signature(quotes=spec["quotes"]),
            packages=(*NEEDED, *IMPORTS[members[0].suffix]),
        )


def _signature(*, quotes: bool) -> ModelSignature:
    """Return the columns and types of a forecaster's input and output.

    MLflow's own type of times takes none that has a zone, so ``ts`` is declared as of any type.
    """
    time, day = ColSpec(AnyType(), TIME), ColSpec(DataType.string, DAY)
    names = [*BAR_COLUMNS[1:], "spread"] if quotes else BAR_COLUMNS[1:]
    return ModelSignature(
        inputs=Schema([time, day, *(ColSpec(DataType.double, name) for name in names)]),
        outputs=Schema([time, ColSpec(DataType.double, FORECAST)]),
    )


def _keras(file: Path) -> Predictor:
    keras = import_keras()
    import tensorflow as tf

    model = keras.saving.load_model(file, compile=False, safe_mode=True)
    # traced once, for batches of any length
    run = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec(model.input_shape, tf.float32)],
        autograph=False,  # Keras does its own; errors stay short
    )
    return lambda windows: run(tf.constant(windows)).numpy().ravel().astype(np.float64)


def _lightgbm(file: Path) -> Predictor:
    import lightgbm as lgb

    booster = lgb.Booster(model_file=file)
    return lambda windows: booster.predict(windows[:, -1])


def _ridge(file: Path) -> Predictor:
    fitted = json.loads(file.read_text(encoding="utf-8"))
    coefficients = np.array(fitted["coefficients"], dtype=np.float64)
    return lambda windows: windows[:, -1] @ coefficients + fitted["intercept"]
