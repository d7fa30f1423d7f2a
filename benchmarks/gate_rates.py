"""Measure how often the gate promotes a model that is no better, and keeps one that is.

Pairs of made-up models, whose true difference is known, are judged by the comparison and the gate
of the register stage. Errors are correlated in time and between both models, as those of two
trainings are. A model that is not better by more than the margin may be promoted in 5 % of the
pairs at most (nominally 2.5 %); one that is better by the effect stated must be in 80 % or more.
The exit code is 1 when a line of the table misses its target.
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lib.registry import gate
from lib.registry.paired import Test, compare

import numpy as np
import pandas as pd
import scipy
from scipy.signal import lfilter

WRONGLY, RIGHTLY = 0.05, 0.80
SHARED = 0.7  # of the variance of an error, what both models have in common
PASSED = {"passed": True, "checks": []}
CHAMPION = {"version": 1}
N_CLASSES = 10
RHO = 0.5  # correlation of the truth with what can be known of it


@dataclass(frozen=True)
class Scenario:
    """Pairs of models that differ by a known amount.

    Attributes
    ----------
    kind : {"rmse", "rank_ic", "accuracy"}
    true : float
        By how much the candidate is better.
    margin : float
        Of the gate.
    n_rows, block_length : int
        Of the test; for rank ICs, of each day.
    n_days : int
        For rank ICs only.
    memory : float
        Correlation of successive rows (AR(1)).
    tails : float
        Degrees of freedom of Student's t that shocks follow, 0 for normal ones.
    """

    kind: str
    true: float
    margin: float = 0.0
    n_rows: int = 960
    block_length: int = 24
    n_days: int = 1
    memory: float = 0.7
    tails: float = 0.0

    @property
    def is_better(self) -> bool:
        """Whether the gate should promote."""
        return self.true > self.margin


SCENARIOS = [
    Scenario("rmse", 0.0),
    Scenario("rmse", 0.02, margin=0.02),
    Scenario("rmse", -0.02),
    Scenario("rmse", 0.0, n_rows=84),
    Scenario("rmse", 0.0, memory=0.9, tails=5.0),
    Scenario("rmse", 0.12),
    Scenario("rank_ic", 0.0, n_rows=240, n_days=5),
    Scenario("rank_ic", 0.03, margin=0.03, n_rows=240, n_days=5),
    Scenario("rank_ic", 0.0, n_rows=60, n_days=2),
    Scenario("rank_ic", 0.1, n_rows=240, n_days=5),
    Scenario("accuracy", 0.0, n_rows=1000, block_length=1),
    Scenario("accuracy", 0.01, margin=0.01, n_rows=1000, block_length=1),
    Scenario("accuracy", 0.03, n_rows=1000, block_length=1),
]


def pairs(scenario: Scenario, n_pairs: int, seed: int) -> Iterator[tuple]:
    """Yield test, what the candidate says and what the champion says, pair after pair."""
    make = {"rmse": _forecasts, "rank_ic": _returns, "accuracy": _images}[scenario.kind]
    rng = np.random.default_rng(seed)
    for _ in range(n_pairs):
        yield make(scenario, rng)


def count_promoted(
    scenario: Scenario, n_pairs: int, *, n_resamples: int = 500, seed: int = 0
) -> int:
    """Return how many of `n_pairs` candidates the gate promotes."""
    n_promoted = 0
    for k, (test, *predicted) in enumerate(pairs(scenario, n_pairs, seed)):
        rows = compare(test, *predicted, n_resamples=n_resamples, seed=k)
        decision = gate.decide(PASSED, champion=CHAMPION, rows=rows, margin=scenario.margin)
        n_promoted += decision["promote"]
    return n_promoted


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1000, help="of each line (%(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of a pair (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args()
    print(
        f"{options.pairs:,} pairs a line, {options.resamples} resamples a pair, intervals of 95 %, "
        f"seed {options.seed},\nPython {platform.python_version()}, numpy {np.__version__}, scipy "
        f"{scipy.__version__}\n"
    )
    heads = ("metric", "better by", "margin", "rows", "days", "block", "memory", "tails")
    print("".join(f"{head:>10}" for head in heads) + f"{'promoted':>10}{'target':>12}")
    begin, n_missed = time.perf_counter(), 0
    for line in SCENARIOS:
        found = count_promoted(
            line, options.pairs, n_resamples=options.resamples, seed=options.seed
        )
        share = found / options.pairs
        met = share >= RIGHTLY if line.is_better else share <= WRONGLY
        n_missed += not met
        facts = (line.kind, f"{line.true:g}", f"{line.margin:g}", line.n_rows, line.n_days)
        facts += (line.block_length, f"{line.memory:g}", f"t{line.tails:g}" if line.tails else "")
        target = f">= {RIGHTLY:.0%}" if line.is_better else f"<= {WRONGLY:.0%}"
        print(
            "".join(f"{fact:>10}" for fact in facts)
            + f"{share:>10.1%}{target:>12}{'' if met else '  MISSED'}",
            flush=True,
        )
    print(f"\n{time.perf_counter() - begin:.0f} s; {'MISSED' if n_missed else 'met'}")
    return int(n_missed > 0)


def _forecasts(scenario: Scenario, rng: np.random.Generator) -> tuple:
    """Return forecasts whose RMSE is 1, and 1 + `true` of the champion."""
    common, a, b = _series(scenario, rng, 3)
    own, shared = (1 - SHARED) ** 0.5, SHARED**0.5
    truth = pd.Series(np.zeros(scenario.n_rows))
    champion = (1 + scenario.true) * (shared * common + own * b)
    test = Test(truth, "regression", "rmse", "kW", block_length=scenario.block_length)
    return test, shared * common + own * a, champion


def _returns(scenario: Scenario, rng: np.random.Generator) -> tuple:
    """Return forecasts whose rank ICs are known: all is normal (K. Pearson, 1907)."""
    n_rows = scenario.n_rows * scenario.n_days
    known, chance, common, a, b = _series(scenario, rng, 5, n_days=scenario.n_days)
    truth = pd.Series(RHO * known + (1 - RHO**2) ** 0.5 * chance)
    said, base = [], 6 / np.pi * np.arcsin(RHO * 0.5 / 2)
    for ic, own in ((base + scenario.true, a), (base, b)):
        skill = 2 * np.sin(np.pi * ic / 6) / RHO
        noise = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own
        said.append(skill * known + (1 - skill**2) ** 0.5 * noise)
    days = np.repeat(np.arange(scenario.n_days), n_rows // scenario.n_days)
    within = {"block_length": scenario.block_length, "groups": days}
    return Test(truth, "ranking", "rank_ic", "bps", **within), *said


def _images(scenario: Scenario, rng: np.random.Generator) -> tuple:
    """Return probabilities: one of both alone is right in 3 % of the images more or less."""
    only = 0.03
    shares = [0.9, only + scenario.true / 2, only - scenario.true / 2]
    kind = rng.choice(4, size=scenario.n_rows, p=[*shares, 1 - sum(shares)])
    truth = rng.integers(N_CLASSES, size=scenario.n_rows)
    said = []
    for right in ((kind == 0) | (kind == 1), (kind == 0) | (kind == 2)):
        named = np.where(right, truth, (truth + 1) % N_CLASSES)
        said.append(np.full((scenario.n_rows, N_CLASSES), 0.01))
        said[-1][np.arange(scenario.n_rows), named] = 1 - 0.01 * (N_CLASSES - 1)
    return Test(pd.Series(truth), "classification", "accuracy"), *said


def _series(
    scenario: Scenario, rng: np.random.Generator, n_series: int, *, n_days: int = 1
) -> np.ndarray:
    """Return stationary series with mean 0 and variance 1; days begin anew."""
    shape = (n_series, n_days, scenario.n_rows)
    if scenario.tails:
        scale = (1 - 2 / scenario.tails) ** 0.5
        shocks = rng.standard_t(scenario.tails, size=shape) * scale
    else:
        shocks = rng.standard_normal(shape)
    shocks[..., 1:] *= (1 - scenario.memory**2) ** 0.5
    return lfilter([1.0], [1.0, -scenario.memory], shocks).reshape(n_series, -1)


if __name__ == "__main__":
    sys.exit(main())
