"""Train an image pipeline on real data with several seeds, beside the usual way, and compare.

The pipeline's own notebooks are executed, with the values of its DAG and those of `--params`; the
accuracy is that of `04_evaluate` on the test images, the time that of the training epochs alone.
The peers are trained by Keras' `fit` in this process, in turn with the seeds: of MNIST the
convolutional network of the Keras examples (15 epochs), of CIFAR-10 the ResNet20 recipe of the
Keras examples, stopped after the time that the pipeline took. The table goes to the standard output
and, with `--output`, to a file. The exit code is 1 when `--accuracy` or `--minutes` is missed.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lib.backend import choose_precision, import_keras
from lib.ground.files import ROOT, outputs_dir
from lib.machine.executor import execute_notebook, import_papermill
from lib.run import open_run

import numpy as np
import psutil


def values_of_the_dag(pipeline: str) -> dict:
    """Return the defaults of the trigger form."""
    from lib.dag.dagrun import load_bag

    return dict(load_bag(pipeline).dags[pipeline].params)


def run_stage(pipeline: str, stage: str, run_dir: str, values: dict) -> None:
    """Execute a notebook with those of `values` that it declares."""
    from lib.ground.parameters import read_parameters

    notebook = ROOT / "notebooks" / pipeline / f"{stage}.ipynb"
    known = {k: v for k, v in values.items() if k in read_parameters(notebook)}
    output = outputs_dir() / run_dir / f"{stage}.ipynb"
    execute_notebook(notebook, output, known | {"run_dir": run_dir}, cwd=notebook.parent)


def ours(pipeline: str, values: dict, seed: int) -> dict[str, float]:
    """Return the metrics of the pipeline for one seed."""
    run_dir = f"{pipeline}/benchmark-{seed}"
    for stage in ("01_load", "02_features", "03_train", "04_evaluate"):
        run_stage(pipeline, stage, run_dir, values | {"seed": seed})
    return open_run(run_dir).read("metrics.json")


def keras_example(images: dict[str, np.ndarray], seed: int) -> tuple[float, float]:
    """Return accuracy and seconds of the network of keras.io/examples/vision/mnist_convnet."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    x, test = (images[name][..., None].astype("float32") / 255 for name in ("x_train", "x_test"))
    y = keras.utils.to_categorical(images["y_train"], 10)
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (32, 64):
        model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, "softmax")):
        model.add(layer)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    begin = time.perf_counter()
    model.fit(x, y, batch_size=128, epochs=15, validation_split=0.1, verbose=0)
    seconds = time.perf_counter() - begin
    predicted = model.predict(test, batch_size=500, verbose=0).argmax(axis=1)
    return float((predicted == images["y_test"]).mean()), seconds


def resnet20(images: dict[str, np.ndarray], seed: int, limit_s: float) -> tuple[float, float]:
    """Return accuracy and seconds of ResNet20 by Keras' recipe, stopped after `limit_s`.

    Batches of 32, Adam at 0.001, L2 of 0.0001, shifts of a tenth and mirror images; the rate falls
    after 80 epochs, which is not reached.
    """
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    x, test = (images[name].astype("float32") / 255 for name in ("x_train", "x_test"))
    mean = x.mean(axis=0)

    def unit(x: "keras.KerasTensor", filters: int, step: int = 1) -> "keras.KerasTensor":
        l2 = keras.regularizers.L2(1e-4)
        options = {"padding": "same", "kernel_initializer": "he_normal", "kernel_regularizer": l2}
        return layers.BatchNormalization()(layers.Conv2D(filters, 3, step, **options)(x))

    seen = keras.Input((32, 32, 3))
    out = layers.ReLU()(unit(seen, 16))
    for filters, first in ((16, 1), (32, 2), (64, 2)):
        for step in (first, 1, 1):
            inner = unit(layers.ReLU()(unit(out, filters, step)), filters)
            if step > 1:
                out = layers.Conv2D(filters, 1, step, kernel_initializer="he_normal")(out)
            out = layers.ReLU()(layers.Add()([out, inner]))
    out = layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(out))
    model = keras.Model(seen, out)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
    rng = np.random.default_rng(seed)
    begin, seconds = time.perf_counter(), 0.0
    while seconds < limit_s:
        order = rng.permutation(len(x))
        for rows in order[: len(x) // 32 * 32].reshape(-1, 32):
            batch = x[rows] - mean
            batch = np.where(rng.random((32, 1, 1, 1)) < 0.5, batch[:, :, ::-1], batch)
            batch = np.stack(
                [np.roll(i, tuple(rng.integers(-3, 4, 2)), axis=(0, 1)) for i in batch]
            )
            model.train_on_batch(batch, images["y_train"][rows])
            seconds = time.perf_counter() - begin
            if seconds >= limit_s:
                break
    predicted = model.predict(test - mean, batch_size=500, verbose=0).argmax(axis=1)
    return float((predicted == images["y_test"]).mean()), seconds


@contextmanager
def elsewhere() -> Iterator[list[float]]:
    """Give a list that will hold how many cores were busy for other processes meanwhile."""

    def spent() -> tuple[float, float]:
        machine = psutil.cpu_times()
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        busy = sum(machine) - machine.idle - machine.iowait
        return time.perf_counter(), busy - sum(o.ru_utime + o.ru_stime for o in own)

    load: list[float] = []
    begin, before = spent()
    yield load
    end, after = spent()
    load.append((after - before) / (end - begin))


def processor() -> str:
    """Return the name of the processor and whether it multiplies bfloat16."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in facts.splitlines() if "model name" in line]
    widest = next((f for f in ("avx512_bf16", "avx512f", "avx2") if f in facts), "")
    return f"{names[0] if names else platform.machine()} ({widest})"


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", choices=["mnist", "cifar10"])
    parser.add_argument("--source", required=True, help="the real images, as the pipeline takes")
    parser.add_argument("--params", default="{}", help="further values, as JSON (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="0 to this less one (%(default)s)")
    parser.add_argument(
        "--peers", type=int, help="how many of the seeds, the last ones, the peer gets (all)"
    )
    parser.add_argument("--accuracy", type=float, default=0.0, help="least mean accuracy")
    parser.add_argument(
        "--minutes",
        type=float,
        help="most mean minutes of training (of mnist those of the peer, else no limit)",
    )
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args()
    import_papermill()
    import keras
    import tensorflow as tf

    asked = json.loads(options.params) | {"source": options.source}
    values = values_of_the_dag(options.pipeline) | asked
    rows = []
    peers = options.seeds if options.peers is None else options.peers
    for seed in range(options.seeds):
        with elsewhere() as load:
            found = ours(options.pipeline, values, seed)
        row = {"seed": seed, "accuracy": found["accuracy"], "minutes": found["training_s"] / 60}
        row["one view"] = found.get("one_view_accuracy", found["accuracy"])
        if "one_network_accuracy" in found:
            row["one network"] = found["one_network_accuracy"]
        row["other load"] = load[0]
        if seed >= options.seeds - peers:
            images = open_run(f"{options.pipeline}/benchmark-{seed}").read("images.npz")
            if options.pipeline == "mnist":
                accuracy, seconds = keras_example(images, seed)
            else:
                accuracy, seconds = resnet20(images, seed, found["training_s"])
            row |= {"peer": accuracy, "peer minutes": seconds / 60}
        rows.append(row)
        print("  ".join(f"{k} {v:.4f}" for k, v in row.items()), file=sys.stderr, flush=True)

    lines = [
        f"{options.pipeline}, {datetime.now(UTC):%Y-%m-%d}, {options.params}",
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{choose_precision(values['precision'])}, Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
        "",
        "".join(f"{name:>14}" for name in rows[-1]),
    ]
    for row in rows:
        cells = [f"{row[k]:.4f}" if k in row else "" for k in rows[-1] if k != "seed"]
        lines.append(f"{row['seed']:>14}" + "".join(f"{cell:>14}" for cell in cells))
    for name, how in (("mean", statistics.mean), ("deviation", statistics.stdev)):
        known = [[row[k] for row in rows if k in row] for k in rows[-1] if k != "seed"]
        cells = [f"{how(values):.4f}" if len(values) > 1 else "" for values in known]
        lines.append(f"{name:>14}" + "".join(f"{cell:>14}" for cell in cells))
    accuracy = statistics.mean(row["accuracy"] for row in rows)
    minutes = statistics.mean(row["minutes"] for row in rows)
    limit = options.minutes
    if limit is None and options.pipeline == "mnist" and peers:
        limit = statistics.mean(row["peer minutes"] for row in rows if "peer minutes" in row)
    met = accuracy >= options.accuracy and (limit is None or minutes <= limit)
    lines.append(
        f"\naccuracy {accuracy:.4f}, target {options.accuracy:.4f}; {minutes:.1f} minutes"
        f"{'' if limit is None else f', target {limit:.1f}'}: {'met' if met else 'MISSED'}"
    )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
