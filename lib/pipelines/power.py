"""What only the power pipeline knows. A row's key is the time that is forecast."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.frames import grid_step
from lib.judged import time_keys, times
from lib.power.features import measured
from lib.power.frame import RESOLUTIONS, describe_power
from lib.power.load import load_power
from lib.power.look import look_at_power as look
from lib.power.watched import power_columns
from lib.registry.rows import NotComparable, Rows

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lib.ground.parameters import Value

    from mlflow.pyfunc import PyFuncModel

__all__ = ["load_rows", "look", "predict", "rows_of", "watched"]

OPTIONS = ("max_missing", "sample_days", "seed", "columns", "layout", "time_zone")
OPTIONS += ("min_power_kw", "max_power_kw", "bin_s")


def load_rows(source: str, options: Mapping[str, "Value"], model: "PyFuncModel") -> Rows:
    """Return a house's readings in the time step of the model; the last one ends them."""
    spec, _ = _spec(model)
    given = {name: options[name] for name in OPTIONS if name in options}
    names = {step_us / 1e6: name for name, step_us in RESOLUTIONS.items()}
    raw = load_power(source, resolution=names.get(spec["step_s"], "native"), **given)
    return rows_of(raw, describe_power(raw, source), model)


def rows_of(raw: pd.DataFrame, facts: dict, model: "PyFuncModel") -> Rows:
    """Return the rows of readings that are there already."""
    spec, step = _spec(model)
    if len(raw) > 1 and grid_step(raw) != step:
        raise NotComparable(
            f"the rows of {facts['source']} are {grid_step(raw)} apart, and the model takes rows "
            f"of {step}"
        )
    raw = raw.loc[: raw["power_kw"].last_valid_index()]  # what was not measured yet is no row yet
    history = measured(raw, min_voltage_v=spec["options"]["min_voltage_v"])
    known = history["power_kw"].dropna()
    return Rows(
        inputs=history,
        keys=time_keys(raw.index + spec["options"]["horizon"] * step),
        truth=known.set_axis(time_keys(known.index)),
        facts=facts,
    )


def predict(model: "PyFuncModel", rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return kW, from the history that the first of the rows needs."""
    spec, step = _spec(model)
    made = times(keys) - spec["options"]["horizon"] * step
    history = rows.inputs.loc[made.min() - (spec["needed_rows"] - 1) * step : made.max()]
    found = model.predict(history.rename_axis("ts").reset_index())
    return found["power_kw"].set_axis(time_keys(found["ts"])).reindex(keys).to_numpy()


def watched(rows: Rows) -> pd.DataFrame:
    """Return the measured columns of each reading, by the time that is forecast from it."""
    return power_columns(rows.inputs).set_axis(rows.keys)


def _spec(model: "PyFuncModel") -> tuple[dict, pd.Timedelta]:
    spec = model.unwrap_python_model().spec
    return spec, pd.Timedelta(seconds=spec["step_s"])
