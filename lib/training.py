"""Train Keras models so that a killed training continues where it was.

A `Trainer` trains one kind of model again and again, on other data or from other seeds, and leaves
each in a file. After every epoch it saves what is needed to go on, and a finished model is not
trained again; both hold only as long as model, data and options are the same, so nothing of an
earlier experiment is ever taken for this one.
"""

import hashlib
import itertools
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lib.backend import import_keras
from lib.ground.files import read_object, write_json

import numpy as np
import pandas as pd
from upath import UPath

if TYPE_CHECKING:
    import keras

SLOW_S = 60.0  # trainings that take longer are reported with their pace
WEIGHTS = ".weights.h5"


class Batches(Protocol):
    """What is learned from: `lib.tick.windows.WindowBatches`, `lib.images.augment.ImageBatches`.

    Order and content of the batches of an epoch depend on its number alone.
    """

    epoch: int
    changes: Sequence[int]
    """Epochs, counted from 0, whose batches have another shape than those before."""

    @property
    def n_items(self) -> int:
        """How many examples an epoch shows."""

    def __len__(self) -> int:
        """Return how many batches an epoch has."""

    def __getitem__(self, batch: int) -> tuple[np.ndarray, ...]:
        """Return inputs, targets and, if there are any, weights of a batch."""

    def begin_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""

    def digest(self) -> str:
        """Return a digest of everything that decides what the batches are."""


def keras_dataset(batches: Batches) -> "keras.utils.PyDataset":
    """Return batches as what `keras.Model.fit` takes.

    The order is random already, so give ``shuffle=False`` to `fit`. Keras tells a dataset that an
    epoch has ended once more than there are epochs. For orders that are those of the epochs by
    number, which training that resumes needs, give `fit` this callback::

        LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.begin_epoch(epoch))
    """
    keras = import_keras()

    class Dataset(keras.utils.PyDataset):
        """Batches, in Keras' terms."""

        def __len__(self) -> int:
            """Return how many batches an epoch has."""
            return len(batches)

        def __getitem__(self, batch: int) -> tuple[np.ndarray, ...]:
            """Return a batch of this epoch."""
            return batches[batch]

        def on_epoch_end(self) -> None:
            """Shuffle for the next epoch."""
            batches.begin_epoch(batches.epoch + 1)

    # With one worker Keras lets tf.data tune itself, and the end of every epoch then waits for the
    # tuning thread, which sleeps for as long as half of the epoch took: a third of the time.
    return Dataset(workers=2)


def cosine(done: float) -> float:
    """Return the share of the first rate after the fraction `done`: half a cosine, to zero."""
    return (1 + math.cos(math.pi * done)) / 2


def linear(done: float) -> float:
    """Return the share of the first rate after the fraction `done`: a straight line, to zero."""
    return 1 - done


class Trainer:
    """Trains models of one architecture; TensorFlow traces it once for all of them.

    Training is deterministic given the seed, on one machine.

    Parameters
    ----------
    build : callable
        Returns the model, not compiled.
    epochs : int
        Passes over the batches, at least 1.
    optimizer : callable
        Returns the optimiser; its rate is that of the first step.
    loss : str or keras.losses.Loss
        What falls.
    metrics : sequence of str
        What else is measured, by Keras' names.
    schedule : callable
        Returns the share of the first rate that holds after a fraction of the steps.
    report : callable, optional
        Called with a line after every epoch.
    """

    def __init__(
        self,
        build: Callable[[], "keras.Model"],
        *,
        epochs: int,
        optimizer: Callable[[], "keras.optimizers.Optimizer"],
        loss: "str | keras.losses.Loss",
        metrics: Sequence[str] = (),
        schedule: Callable[[float], float] = cosine,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.build, self.epochs, self.report = build, epochs, report
        self.schedule = schedule
        keras = import_keras()
        precision = keras.config.dtype_policy()
        keras.utils.clear_session()  # so that layers get the same names in every process
        keras.config.set_dtype_policy(precision)  # which was cleared too
        self.model = build()
        self.model.compile(
            optimizer(),
            loss,
            metrics=list(metrics),
            jit_compile=False,  # networks of this size are slower with it on a CPU
        )
        self.first_rate = float(self.model.optimizer.learning_rate)
        self.model.optimizer.build(self.model.trainable_variables)
        weights = {id(variable) for variable in self.model.weights}
        # what a model's `variables` have beyond its `weights` are its seeds, those of dropout
        self.seeds = [state for state in self.model.variables if id(state) not in weights]
        how = self.model.optimizer.get_config() | {"loss": keras.losses.serialize(self.model.loss)}
        rates = [schedule(done / 16) for done in range(17)]
        self.what = f"{self.model.to_json()} {how} {rates} {epochs}"

    def fit(
        self,
        batches: Batches,
        path: Path,
        *,
        seed: int,
        label: str = "",
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> pd.DataFrame:
        """Train a model, or go on with a training that was cut off, and save it as `path`.

        Parameters
        ----------
        batches : Batches
            What to learn.
        path : pathlib.Path
            ``.keras`` file to make. Beside it lies, until the caller removes the folder, what a
            later call needs: see the module.
        seed : int
            Of initial weights and dropout.
        label : str, default ""
            What the lines of progress begin with.
        validation : tuple of (numpy.ndarray, numpy.ndarray), optional
            Inputs and targets that are judged after every epoch. They change nothing.

        Returns
        -------
        pandas.DataFrame of shape (epochs, n)
            Index ``epoch`` from 1; ``loss``, the metrics, those of the validation with ``val_``
            before their names, and ``seconds``.

        Raises
        ------
        ValueError
            If the loss is no longer finite: training has diverged.
        """
        notes, backups = UPath(path.with_suffix(".json")), path.with_suffix(".backup")
        key = hashlib.sha256(f"{self.what} {batches.digest()} {seed}".encode()).hexdigest()
        known = read_object(notes)
        if known.get("key") != key:
            known = {"key": key, "history": []}
            path.unlink(missing_ok=True)  # a model of another experiment
            shutil.rmtree(backups, ignore_errors=True)
        elif len(known["history"]) == self.epochs and path.exists():
            return _history(known)
        backups.mkdir(parents=True, exist_ok=True)
        write_json(notes, known)
        self._start_over(seed)
        kept = [int(file.name.split(".")[0]) for file in backups.glob(f"[0-9]*{WEIGHTS}")]
        done = max(kept, default=0)
        if done:
            self.model.load_weights(backups / f"{done}{WEIGHTS}")
        callback = self._callback(known, notes, backups, batches, seed, label)
        changes = [epoch for epoch in batches.changes if done < epoch < self.epochs]
        for begin, end in itertools.pairwise([done, *changes, self.epochs]):
            batches.begin_epoch(begin)  # Keras takes the shape of the first batches for all
            self.model.fit(
                keras_dataset(batches),
                initial_epoch=begin,
                epochs=end,
                verbose=0,
                shuffle=False,
                validation_data=validation,
                validation_batch_size=500,
                callbacks=[callback],
            )
        part = path.with_suffix(".part.keras")
        self.model.save(part)
        part.replace(path)
        shutil.rmtree(backups)
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

    def _callback(
        self, known: dict, notes: UPath, backups: Path, batches: Batches, seed: int, label: str
    ) -> "keras.callbacks.Callback":
        """Return what sets rate, order and seeds, and keeps the history and the weights."""
        trainer, model = self, self.model

        class Progress(import_keras().callbacks.Callback):
            """Notes every epoch before it keeps its weights, so no kept epoch is unknown."""

            def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
                """Set what is random in this epoch, by its number alone."""
                batches.begin_epoch(epoch)
                for state in trainer.seeds:
                    state.assign([seed, epoch])
                self.epoch, self.began = epoch, time.monotonic()

            def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
                """Set the learning rate of this step."""
                done = (self.epoch + batch / len(batches)) / trainer.epochs
                model.optimizer.learning_rate = trainer.first_rate * trainer.schedule(done)

            def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
                """Keep what happened, and what is needed to go on."""
                order = sorted(logs, key=lambda name: name != "loss")
                now = {name: float(logs[name]) for name in order}
                now["seconds"] = time.monotonic() - self.began
                if not math.isfinite(now["loss"]):
                    raise ValueError(
                        f"{label}epoch {epoch + 1}: the loss is {now['loss']}; lower the learning "
                        "rate"
                    )
                known["history"] = [*known["history"][:epoch], now]
                write_json(notes, known)
                if trainer.report:
                    trainer.report(label + _told(now, epoch, trainer.epochs, batches.n_items))
                part = backups / f"part{WEIGHTS}"
                model.save_weights(part)
                part.replace(backups / f"{epoch + 1}{WEIGHTS}")
                (backups / f"{epoch}{WEIGHTS}").unlink(missing_ok=True)

        return Progress()


def _told(now: dict[str, float], epoch: int, n_epochs: int, n_items: int) -> str:
    """Return a line about an epoch; of trainings that take longer also their pace."""
    measured = ", ".join(
        f"{name.replace('val_', 'validation ')} {value:.4f}"
        for name, value in now.items()
        if name not in ("seconds", "val_loss")
    )
    seconds, left = now["seconds"], now["seconds"] * (n_epochs - epoch - 1)
    pace = f", {n_items / seconds:,.0f} a second, {left:.0f} s left"
    is_slow = seconds * n_epochs > SLOW_S
    return f"epoch {epoch + 1} of {n_epochs}: {measured}{pace if is_slow else ''}"


def _history(known: dict) -> pd.DataFrame:
    epochs = pd.RangeIndex(1, len(known["history"]) + 1, name="epoch")
    return pd.DataFrame(known["history"], epochs)
