"""Measure how fast `WindowBatches` feeds windows, next to Keras' own way, and what it holds.

Random rows are made in memory. The peer is `keras.utils.timeseries_dataset_from_array` with
shuffling; it is slow, so its rate comes from its first windows, after the one batch that starts it.
Ours is timed over whole epochs, shuffling included. Both give windows of the same rows in random
order in batches of one size, in turn in one process. A third row says how fast ours reaches a
model in Keras' `fit`. Memory is what is allocated for the rows, the
targets, the order and one batch, next to the array of all windows. The exit code is 1 when either
misses its target.
"""

import argparse
import os
import platform
import statistics
import sys
import time
import tracemalloc

from lib.tick.windows import WindowBatches, window_ends
from lib.training import keras_dataset

import numpy as np


def make_batches(n_rows: int, n_features: int, length: int, batch_size: int) -> WindowBatches:
    """Return batches of the windows of random rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    ends = window_ends(np.zeros(n_rows), length, np.ones(n_rows, dtype=bool))
    return WindowBatches(x, x[:, 0].copy(), ends, length=length, batch_size=batch_size)


def bytes_held(n_rows: int, n_features: int, length: int, batch_size: int) -> int:
    """Return the most that is allocated from making the rows to the end of an epoch."""
    tracemalloc.start()
    batches = make_batches(n_rows, n_features, length, batch_size)
    for batch in range(len(batches)):
        batches[batch]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def our_rate(batches: WindowBatches, epoch: int) -> float:
    """Return windows per second of one epoch."""
    begin = time.perf_counter()
    batches.begin_epoch(epoch)
    for batch in range(len(batches)):
        batches[batch]
    return len(batches.ends) / (time.perf_counter() - begin)


def keras_rate(batches: WindowBatches, n_windows: int) -> float:
    """Return windows per second of Keras' own way."""
    import keras

    targets = batches.y[batches.length - 1 :]
    dataset = keras.utils.timeseries_dataset_from_array(
        batches.x, targets, batches.length, batch_size=batches.batch_size, shuffle=True
    )
    iterator = iter(dataset)
    next(iterator)
    begin = time.perf_counter()
    n_batches = -(-n_windows // batches.batch_size)
    for _ in range(n_batches):
        next(iterator)
    return n_batches * batches.batch_size / (time.perf_counter() - begin)


def fit_rate(batches: WindowBatches) -> float:
    """Return windows per second of ours as `fit` of a tiny model takes them."""
    import keras

    model = keras.Sequential([keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(*batches[0])
    begin = time.perf_counter()
    model.fit(keras_dataset(batches), shuffle=False, verbose=0)
    return len(batches.ends) / (time.perf_counter() - begin)


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (%(default)s)")
    parser.add_argument("--features", type=int, default=16, help="columns (%(default)s)")
    parser.add_argument("--length", type=int, default=60, help="rows of a window (%(default)s)")
    parser.add_argument("--batch", type=int, default=1024, help="windows of a batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs each (%(default)s)")
    parser.add_argument(
        "--keras-windows", type=int, default=50_000, help="windows by Keras' way (%(default)s)"
    )
    parser.add_argument(
        "--rate-target", type=float, default=100, help="least ratio of rates (%(default)s)"
    )
    parser.add_argument(
        "--memory-target", type=float, default=1 / 30, help="largest share of memory (1/30)"
    )
    options = parser.parse_args()
    import tensorflow as tf

    shape = (options.rows, options.features, options.length, options.batch)
    held = bytes_held(*shape)
    batches = make_batches(*shape)
    all_windows = len(batches.ends) * options.length * options.features * 4
    rates: dict[str, list[float]] = {"Keras": [], "WindowBatches": [], "the same, in fit": []}
    for repeat in range(options.repeats):
        rates["Keras"].append(keras_rate(batches, options.keras_windows))
        rates["WindowBatches"].append(our_rate(batches, repeat))
        rates["the same, in fit"].append(fit_rate(batches))

    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio, share = medians["WindowBatches"] / medians["Keras"], held / all_windows
    print(
        f"{options.rows:,} rows x {options.features} float32, windows of {options.length}, batches "
        f"of {options.batch}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},\n"
        f"Python {platform.python_version()}, numpy {np.__version__}, TensorFlow {tf.__version__}, "
        f"{options.repeats} runs each, in turn\n"
    )
    print(f"{'windows by':18}{'median 1/s':>14}{'slowest 1/s':>14}{'fastest 1/s':>14}")
    for name, found in rates.items():
        print(f"{name:18}{medians[name]:14,.0f}{min(found):14,.0f}{max(found):14,.0f}")
    fast, small = ratio >= options.rate_target, share <= options.memory_target
    print(
        f"\nratio of rates {ratio:.0f}, target {options.rate_target:.0f}: "
        f"{'met' if fast else 'MISSED'}\n"
        f"held {held / 1e6:.0f} MB of {all_windows / 1e6:,.0f} MB, 1/{1 / share:.0f}, target "
        f"1/{1 / options.memory_target:.0f}: {'met' if small else 'MISSED'}"
    )
    return int(not (fast and small))


if __name__ == "__main__":
    sys.exit(main())
