"""Compare `lib.power.tuning.tune` with the plain Optuna loop on the real hourly power data.

Both sides search the same space on the same folds with the same TPE seed and the same wall time,
one after the other, in one run. The plain loop is what a notebook usually holds: for every trial
and fold it builds a Dataset from the frame and trains with early stopping, with LightGBM's own
number of threads and bins. Ours bins once, prunes by fold, uses fewer bins and one thread in each
of several threads, starts from good defaults, and scores its best trials again at a lower
learning rate, the time of which is counted. Pruned trials count as trials, as Optuna counts them;
complete ones are shown too. The best parameters of each side are then scored in the same way: the
same folds, learning rate and patience, nothing pruned, each with its own number of bins.

Exit code 1 if ours makes fewer than 8 times the trials per minute, or if its best parameters score
worse, on average over the seeds.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from lib.ground.files import data_dir
from lib.power.features import forward_value, power_features
from lib.power.load import load_power
from lib.power.trials import trials_frame
from lib.power.tuning import FIXED, KEEP, SPACE, Params, rescale, score, tune
from lib.splits import Fold, time_folds, time_split

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution

HOURLY = "power/household_power_hourly.csv.gz"
TARGET_RATIO = 8.0
FINAL_RATE, FINAL_PATIENCE = 0.03, 67


def main() -> None:
    """Run both sides for every seed and print the table."""
    options = arguments()
    x, y = training_rows(options.data, options.horizon)
    folds = time_folds(len(x), options.folds, options.horizon)
    print(conditions(x, folds, options))
    rows = [compare(x, y, folds, seed, options) for seed in options.seeds]
    table = pd.DataFrame(rows).set_index("seed")
    print(table.round(4).to_string())
    ratio = float(table["ours/min"].mean() / table["plain/min"].mean())
    rmse_ours, rmse_plain = table["ours rmse"].mean(), table["plain rmse"].mean()
    passed = ratio >= TARGET_RATIO and rmse_ours <= rmse_plain
    print(
        f"trials per minute: {ratio:.1f} times the plain loop (target {TARGET_RATIO:.0f}); "
        f"validation RMSE {rmse_ours:.4f} kW against {rmse_plain:.4f} kW; "
        f"load average {os.getloadavg()[0]:.1f}: {'passed' if passed else 'MISSED'}"
    )
    sys.exit(not passed)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="search time of each side")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="threads of ours")
    parser.add_argument("--rate", type=float, default=0.2, help="learning rate of the search")
    parser.add_argument("--finalists", type=int, default=2, help="trials scored at the final rate")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--horizon", type=int, default=1, help="rows ahead")
    parser.add_argument("--plain-threads", type=int, default=0, help="0: LightGBM's own choice")
    parser.add_argument("--plain-patience", type=int, default=50, help="early stopping of plain")
    parser.add_argument(
        "--plain-rate",
        choices=["fixed", "searched"],
        default="fixed",
        help="learning rate of the plain loop: held as ours is, or searched from 0.01 to 0.3",
    )
    parser.add_argument("--data", default=str(data_dir() / HOURLY), help="hourly power data")
    return parser.parse_args()


def training_rows(source: str, horizon: int) -> tuple[pd.DataFrame, pd.Series]:
    """Return features and targets (kW) of all rows but the last fifth, which is the test."""
    raw = load_power(source)
    features = power_features(raw, horizon=horizon)
    target = forward_value(raw["power_kw"], horizon)
    known = target.notna()
    parts = time_split(
        features.index[known], valid_fraction=0.15, test_fraction=0.2, horizon=horizon
    )
    rows = slice(0, parts["valid"].stop)
    return features[known].iloc[rows], target[known].iloc[rows]


def conditions(x: pd.DataFrame, folds: list[Fold], options: argparse.Namespace) -> str:
    """Describe what the numbers were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("lightgbm", "optuna", "numpy"))
    threads = options.plain_threads or "default"
    return (
        f"{len(x):,} rows, {x.shape[1]} features, {len(folds)} folds, {options.seconds:.0f} s per "
        f"side and seed\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, {packages}\nplain: {threads} threads, patience "
        f"{options.plain_patience}, learning rate {options.plain_rate}; ours: {options.workers} "
        f"threads, keep {KEEP}, {options.finalists} finalists; rate {options.rate} in "
        f"the search, {FINAL_RATE} in the scores"
    )


def compare(
    x: pd.DataFrame, y: pd.Series, folds: list[Fold], seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Run both sides with one seed."""
    values, targets = x.to_numpy(np.float32), y.to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        study = tune(
            values,
            targets,
            folds,
            Path(folder) / "study.log",
            n_trials=100_000,
            timeout_s=options.seconds,
            n_workers=options.workers,
            learning_rate=options.rate,
            seed=seed,
        )
        best, _ = rescale(
            study,
            values,
            targets,
            folds,
            learning_rate=FINAL_RATE,
            n_finalists=options.finalists,
            n_workers=options.workers,
        )
        ours_s = time.perf_counter() - begin
        states = Counter(trials_frame(study)["state"])

    begin = time.perf_counter()
    plain = plain_loop(x, y, folds, seed, ours_s, options)
    plain_s = time.perf_counter() - begin
    row = {
        "seed": seed,
        "seconds": ours_s,
        "plain": len(plain.trials),
        "ours": sum(states.values()),
    }
    row |= {"ours complete": states["complete"]}
    row |= {"plain/min": 60 * row["plain"] / plain_s, "ours/min": 60 * row["ours"] / ours_s}
    row["ratio"] = row["ours/min"] / row["plain/min"]
    row["plain rmse"] = rescore(values, targets, folds, {"max_bin": 255, **plain.best_params})
    row["ours rmse"] = rescore(values, targets, folds, best)
    print(
        f"seed {seed}: {row['ratio']:.1f} times; validation RMSE {row['ours rmse']:.4f} kW "
        f"against {row['plain rmse']:.4f} kW",
        flush=True,
    )
    return row


def plain_loop(
    x: pd.DataFrame,
    y: pd.Series,
    folds: list[Fold],
    seed: int,
    seconds: float,
    options: argparse.Namespace,
) -> optuna.Study:
    """Search as a notebook usually does, for so many seconds."""
    space: dict[str, BaseDistribution] = dict(SPACE)
    if options.plain_rate == "searched":
        space["learning_rate"] = FloatDistribution(0.01, 0.3, log=True)

    fixed: Params = {
        "objective": "regression",
        "metric": "rmse",
        "bagging_freq": 1,
        "verbosity": -1,
        "seed": seed,
        "learning_rate": options.rate,
    }
    if options.plain_threads:
        fixed["num_threads"] = options.plain_threads
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        trial = study.ask(fixed_distributions=space)
        params = {**fixed, **trial.params}
        scores = []
        for fold in folds:
            train = lgb.Dataset(x.iloc[fold.train], y.iloc[fold.train])
            valid = lgb.Dataset(x.iloc[fold.valid], y.iloc[fold.valid], reference=train)
            stop = lgb.early_stopping(options.plain_patience, verbose=False)
            model = lgb.train(params, train, 1000, valid_sets=[valid], callbacks=[stop])
            scores.append(model.best_score["valid_0"]["rmse"])
        study.tell(trial, float(np.mean(scores)))
    return study


def rescore(x: np.ndarray, y: np.ndarray, folds: list[Fold], params: Params) -> float:
    """Return the mean RMSE of full trainings; a rate that was searched competes with the common."""
    params = {name: value for name, value in params.items() if name != "num_boost_round"}
    rates = {FINAL_RATE, params.get("learning_rate", FINAL_RATE)}
    scores = [
        score(x, y, folds, {**FIXED, **params, "learning_rate": rate}, patience=FINAL_PATIENCE)[0]
        for rate in rates
    ]
    return float(np.min([np.mean(rmse) for rmse in scores]))


if __name__ == "__main__":
    main()
