"""Train Keras models so that a killed training continues where it was.

A `Trainer` trains one kind of model again and again, on other data or from other seeds, and leaves
each in a file. After every epoch it saves what is needed to go on, and a finished model is not
trained again; both hold only as long as model, data and options are the same, so nothing of an
earlier experiment is ever taken for this one.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lib.backend import import_keras
from lib.windows import WindowBatches, keras_dataset

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import keras

SLOW_S = 20.0  # epochs that take longer are reported with their pace


class Trainer:
    """Trains models of one architecture; TensorFlow traces it once for all of them.

    The optimiser is AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019)
    with clipped gradients and a learning rate that falls to zero along half a cosine; the loss is
    the mean squared error. Training is deterministic given the seed, on one machine.

    Parameters
    ----------
    build : callable
        Returns the model, not compiled.
    epochs : int
        Passes over the windows, at least 1.
    learning_rate, weight_decay : float
        Of AdamW; the rate is that of the first step.
    report : callable, optional
        Called with a line after every epoch.
    """

    def __init__(
        self,
        build: Callable[[], "keras.Model"],
        *,
        epochs: int,
        learning_rate: float,
        weight_decay: float,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.build, self.epochs, self.learning_rate = build, epochs, learning_rate
        self.weight_decay, self.report = weight_decay, report
        keras = import_keras()
        keras.utils.clear_session()  # so that layers get the same names in every process
        self.model = build()
        self.architecture = self.model.to_json()
        self.model.compile(
            keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, clipnorm=1.0),
            "mse",
            jit_compile=False,  # networks of this size are slower with it on a CPU
        )
        self.model.optimizer.build(self.model.trainable_variables)

    def fit(
        self, batches: WindowBatches, path: Path, *, seed: int, label: str = ""
    ) -> pd.DataFrame:
        """Train a model, or go on with a training that was cut off, and save it as `path`.

        Parameters
        ----------
        batches : WindowBatches
            What to learn.
        path : pathlib.Path
            ``.keras`` file to make. Beside it lies, until the caller removes the folder, what a
            later call needs: see the module.
        seed : int
            Of initial weights and dropout.
        label : str, default ""
            What the lines of progress begin with.

        Returns
        -------
        pandas.DataFrame of shape (epochs, 2)
            Index ``epoch`` from 1; ``loss`` and ``seconds``.

        Raises
        ------
        ValueError
            If the loss is no longer finite: training has diverged.
        """
        keras = import_keras()
        notes, backup = path.with_suffix(".json"), path.with_suffix(".backup")
        key = self._key(batches, seed)
        known = json.loads(notes.read_text("utf-8")) if notes.exists() else {}
        if known.get("key") != key:
            known = {"key": key, "history": []}
            shutil.rmtree(backup, ignore_errors=True)
        elif len(known["history"]) == self.epochs and path.exists():
            return _history(known)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(notes, json.dumps(known))
        self._start_over(seed)
        self.model.fit(
            keras_dataset(batches),
            epochs=self.epochs,
            verbose=0,
            shuffle=False,
            callbacks=[
                self._progress(known, notes, batches, seed, label),
                keras.callbacks.BackupAndRestore(backup, double_checkpoint=True),
            ],
        )
        part = path.with_suffix(".part.keras")
        self.model.save(part)
        part.replace(path)
        return _history(known)

    def _start_over(self, seed: int) -> None:
        """Give the model new weights, drawn with `seed`, and the optimiser none of its past."""
        keras = import_keras()
        keras.utils.set_random_seed(seed)
        for variable, value in zip(self.model.variables, self.build().variables, strict=True):
            variable.assign(value)
        optimizer = self.model.optimizer
        for variable in optimizer.variables:
            if variable is not optimizer.learning_rate:
                variable.assign(keras.ops.zeros_like(variable))

    def _progress(
        self, known: dict, notes: Path, batches: WindowBatches, seed: int, label: str
    ) -> "keras.callbacks.Callback":
        """Return the callback that sets rate and order, keeps the history and reports."""
        keras = import_keras()
        epochs, report, first_rate = self.epochs, self.report, self.learning_rate

        class Progress(keras.callbacks.Callback):
            """Notes every epoch; it comes before the backup, so no saved epoch is unknown."""

            def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
                """Set what is random in this epoch; the backup does not hold it."""
                batches.begin_epoch(epoch)
                weights = {id(variable) for variable in self.model.weights}
                for state in self.model.variables:
                    if id(state) not in weights:  # of dropout: two unsigned integers
                        state.assign([seed, epoch])
                self.epoch, self.began = epoch, time.monotonic()

            def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
                """Set the learning rate of this step."""
                done = (self.epoch + batch / len(batches)) / epochs
                self.model.optimizer.learning_rate = first_rate * (1 + math.cos(math.pi * done)) / 2

            def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
                """Keep what happened."""
                seconds, loss = time.monotonic() - self.began, float(logs["loss"])
                if not math.isfinite(loss):
                    raise ValueError(
                        f"{label}epoch {epoch + 1}: the loss is {loss}; lower the learning rate"
                    )
                known["history"] = [*known["history"][:epoch], {"loss": loss, "seconds": seconds}]
                _write(notes, json.dumps(known))
                if report:
                    left = seconds * (epochs - epoch - 1)
                    pace = f", {len(batches.ends) / seconds:,.0f} windows/s, {left:.0f} s left"
                    report(
                        f"{label}epoch {epoch + 1} of {epochs}: loss {loss:.4f}"
                        f"{pace if seconds > SLOW_S else ''}"
                    )

        return Progress()

    def _key(self, batches: WindowBatches, seed: int) -> str:
        """Return a digest of everything that decides what training ends in."""
        options = [self.epochs, self.learning_rate, self.weight_decay, seed]
        options += [batches.length, batches.batch_size, batches.seed]
        made = hashlib.sha256(self.architecture.encode() + json.dumps(options).encode())
        for array in (batches.x, *batches.rows, batches.ends):
            made.update(np.ascontiguousarray(array))
        return made.hexdigest()


def _history(known: dict) -> pd.DataFrame:
    epochs = pd.RangeIndex(1, len(known["history"]) + 1, name="epoch")
    return pd.DataFrame(known["history"], epochs)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
