"""A pair of models to try things on: two small power forecasters, trained in a second."""

from pathlib import Path

from lib.power.features import PowerOptions, forward_value, measured, power_features
from lib.power.frame import aggregate_power
from lib.power.model import make_spec, save_forecaster
from lib.power.sample import sample_power

import lightgbm as lgb
import pandas as pd

N_NEW = 28 * 24  # hours after the training


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
        All sixteen weeks by the hour; index ``ts``. The models have learned from all but the last
        four.
    """
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
    features = power_features(raw, **options)
    target = forward_value(measured(raw)["power_kw"], 1)
    learned = target.iloc[: len(raw) - N_NEW - 1].dropna().index
    spec = make_spec(features.columns, options, per_day=24, target="level")
    params = {"num_threads": 1, "verbosity": -1, "learning_rate": 0.05, "num_leaves": 15}
    for name, n_trees in (("few_trees", 10), ("many_trees", 150)):
        data = lgb.Dataset(features.loc[learned], target.loc[learned])
        save_forecaster(folder / name, [lgb.train(params, data, n_trees)], spec)
    return folder / "few_trees", folder / "many_trees", raw
