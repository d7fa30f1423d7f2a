"""What only the tick pipeline knows: a row has the time of the bar a forecast is made after."""

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.ground.dataset import Dataset
from lib.judged import time_keys
from lib.registry.rows import Rows
from lib.tick.bars import to_bars
from lib.tick.indicators import forward_return
from lib.tick.load import describe_ticks, iter_ticks, load_ticks
from lib.tick.look import look_at_ticks as look
from lib.tick.watched import bar_columns

import numpy as np
import pandas as pd
from upath import UPath

if TYPE_CHECKING:
    from lib.ground.parameters import Value

    from mlflow.pyfunc import PyFuncModel

__all__ = ["load_rows", "look", "predict", "watched"]

OPTIONS = ("symbol", "columns", "layout", "time_zone", "session", "session_zone")
OPTIONS += ("drop_repeats", "max_deviation", "max_dropped", "sort", "seed")


def load_rows(source: str, options: Mapping[str, "Value"], model: "PyFuncModel") -> Rows:
    """Return the bars that the model takes, of all days; the last bar may still go on."""
    spec = model.unwrap_python_model().spec
    given = {name: options[name] for name in OPTIONS if name in options}
    if source == "sample" and "sample_ticks" in options:
        n_days = options["train_days"] + options["test_days"]
        given["sample"] = {"n_days": n_days, "n_ticks": options["sample_ticks"]}
    with tempfile.TemporaryDirectory() as scratch:
        ticks = Dataset(UPath(scratch, "ticks"))
        report = load_ticks(source, ticks, kind="quotes" if spec["quotes"] else "trades", **given)
        bars = to_bars(iter_ticks(ticks.parts), kind=spec["bar"], size=spec["bar_size"])
    keys = time_keys(bars.index)
    return Rows(
        inputs=bars,
        keys=keys[:-1],
        truth=forward_return(bars, spec["horizon"]).set_axis(keys).dropna(),
        facts=describe_ticks(report, source),
        groups=bars["day"].set_axis(keys),
    )


def predict(model: "PyFuncModel", rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return bps, from the whole days of the rows: exponential means reach back to the opening."""
    bars = rows.inputs.set_axis(time_keys(rows.inputs.index), axis=0)
    is_needed = bars["day"].isin(bars.loc[keys, "day"].unique()).to_numpy()
    found = model.predict(rows.inputs[is_needed].rename_axis("ts").reset_index())
    return found["expected_return_bps"].set_axis(bars.index[is_needed]).reindex(keys).to_numpy()


def watched(rows: Rows) -> pd.DataFrame:
    """Return what each bar shows apart from the level of its prices."""
    return bar_columns(rows.inputs).set_axis(time_keys(rows.inputs.index)).loc[rows.keys]
