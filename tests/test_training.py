"""Training that can be cut off: same weights in the end, nothing of other experiments."""

import json
from types import SimpleNamespace

from lib.backend import import_keras
from lib.images.augment import ImageBatches
from lib.tick.windows import WindowBatches, window_ends
from lib.training import Trainer

import numpy as np
import pytest

pytestmark = pytest.mark.kernel
WINDOW, N_FEATURES = 4, 3


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, N_FEATURES)).astype(np.float32)
    return x, (x @ [0.5, -1.0, 0.2] + 0.1 * rng.normal(size=300)).astype(np.float32)


def batches(rows, seed=0):
    ends = window_ends(np.zeros(300), WINDOW, np.ones(300, dtype=bool))
    return WindowBatches(*rows, ends, length=WINDOW, batch_size=64, seed=seed)


def network():
    keras = import_keras()
    bars = keras.Input((WINDOW, N_FEATURES))
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "silu")(keras.layers.Flatten()(bars)))
    return keras.Model(bars, keras.layers.Dense(1)(hidden))


def trainer(epochs=4, report=None, rate=0.02):
    return Trainer(
        network,
        epochs=epochs,
        optimizer=lambda: import_keras().optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0),
        loss="mse",
        report=report,
    )


def weights(path):
    model = import_keras().saving.load_model(path, compile=False)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, rows):
    """Weights and history of a training that nothing cut off."""
    path = tmp_path_factory.mktemp("whole") / "whole.keras"
    history = trainer().fit(batches(rows), path, seed=1)
    return SimpleNamespace(weights=weights(path), history=history)


def test_training_that_was_cut_off_ends_in_the_same_weights(tmp_path, rows, whole):
    lines = []

    def cut_off(line):
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(report=cut_off).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    assert not (tmp_path / "cut.keras").exists()
    again = []
    history = trainer(report=again.append).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    assert len(again) == 2, "the third epoch was noted before its backup, so it is made again"
    assert "epoch 3 of 4" in again[0]
    np.testing.assert_array_equal(weights(tmp_path / "cut.keras"), whole.weights)
    assert history["loss"].tolist() == whole.history["loss"].tolist()


@pytest.mark.parametrize("is_whole", [True, False])
def test_training_that_was_killed_during_a_backup_goes_on_from_the_one_before(
    tmp_path, rows, whole, is_whole
):
    cut, saved, lines = trainer(), [], []
    save_weights = cut.model.save_weights

    def killed(filepath, **options):
        save_weights(filepath, **options)
        saved.append(filepath)
        if len(saved) == 3:  # it never gets its name
            raise KeyboardInterrupt

    cut.model.save_weights = killed
    with pytest.raises(KeyboardInterrupt):
        cut.fit(batches(rows), tmp_path / "cut.keras", seed=1)
    backup = tmp_path / "cut.backup"
    names = sorted(file.name for file in backup.iterdir())
    assert names == ["2.weights.h5", "part.weights.h5"]
    if not is_whole:
        saved[-1].write_bytes(saved[-1].read_bytes()[:1000])
    trainer(report=lines.append).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    assert [line.split(":")[0] for line in lines] == ["epoch 3 of 4", "epoch 4 of 4"]
    np.testing.assert_array_equal(weights(tmp_path / "cut.keras"), whole.weights)
    assert not backup.exists()


def test_training_after_one_that_was_resumed_begins_at_its_own_first_epoch(tmp_path, rows):
    def cut_off(line):
        if "epoch 3" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(report=cut_off).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    again = []
    one = trainer(report=again.append)
    one.fit(batches(rows), tmp_path / "cut.keras", seed=1)
    one.fit(batches(rows), tmp_path / "next.keras", seed=2)
    assert [line.split(":")[0] for line in again[2:]] == [f"epoch {k} of 4" for k in (1, 2, 3, 4)]


def test_epochs_of_images_of_other_sizes_are_resumed_like_the_others(tmp_path):
    keras = import_keras()
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, 3), np.uint8), np.arange(60) % 3

    def pictures():
        return ImageBatches(x, y, n_classes=3, batch_size=20, sizes=[4, 4, 8], seed=1)

    def classifier():
        seen = keras.Input((None, None, 3))
        pooled = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(seen))
        return keras.Model(seen, keras.layers.Dense(3, "softmax")(pooled))

    def learner():
        return Trainer(
            classifier,
            epochs=4,
            optimizer=lambda: keras.optimizers.SGD(0.01, momentum=0.9),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
        )

    validation = x[:9], np.eye(3)[y[:9]]
    first, second = learner(), learner()  # one is cut off, the other has not seen that
    whole = first.fit(pictures(), tmp_path / "a.keras", seed=1, validation=validation)
    assert list(whole) == ["loss", "accuracy", "val_accuracy", "val_loss", "seconds"]
    for last in (1, 2, 3, 4):

        def cut_off(line, last=last):
            if f"epoch {last} " in line:
                raise KeyboardInterrupt

        path, lines = tmp_path / f"{last}.keras", []
        first.report, second.report = cut_off, lines.append
        with pytest.raises(KeyboardInterrupt):
            first.fit(pictures(), path, seed=1, validation=validation)
        history = second.fit(pictures(), path, seed=1, validation=validation)
        assert len(lines) == 5 - last and "validation accuracy" in lines[0]
        np.testing.assert_array_equal(weights(path), weights(tmp_path / "a.keras"))
        assert history["loss"].tolist() == whole["loss"].tolist()


def test_training_that_was_cut_off_while_it_was_saved_is_not_made_again(tmp_path, rows, whole):
    cut = trainer()

    def killed(path):
        raise KeyboardInterrupt

    cut.model.save, lines = killed, []
    with pytest.raises(KeyboardInterrupt):
        cut.fit(batches(rows), tmp_path / "cut.keras", seed=1)
    trainer(report=lines.append).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    assert not lines
    np.testing.assert_array_equal(weights(tmp_path / "cut.keras"), whole.weights)


def test_model_of_other_options_is_not_taken_for_one_that_was_cut_off_while_it_was_saved(
    tmp_path, rows, whole
):
    trainer(rate=0.01).fit(batches(rows), tmp_path / "cut.keras", seed=1)
    cut = trainer()

    def killed(path):
        raise KeyboardInterrupt

    cut.model.save = killed
    with pytest.raises(KeyboardInterrupt):
        cut.fit(batches(rows), tmp_path / "cut.keras", seed=1)
    trainer().fit(batches(rows), tmp_path / "cut.keras", seed=1)
    np.testing.assert_array_equal(weights(tmp_path / "cut.keras"), whole.weights)


def test_finished_model_is_not_trained_again_unless_something_changed(tmp_path, rows):
    lines = []
    path = tmp_path / "m.keras"
    first = trainer(report=lines.append).fit(batches(rows), path, seed=1)
    before = path.read_bytes()
    again = trainer(report=lines.append)
    assert again.fit(batches(rows), path, seed=1).equals(first)
    assert len(lines) == 4 and path.read_bytes() == before
    x, y = rows
    for changed in ((x, -y), (x + 1, y)):
        again.fit(batches(changed), path, seed=1)
    slower = trainer(report=lines.append, rate=0.01)
    slower.fit(batches(changed), path, seed=1)
    slower.fit(batches(changed), path, seed=2)
    slower.fit(batches(changed, seed=5), path, seed=2)
    assert len(lines) == 24


def test_one_trainer_gives_what_a_new_one_would(tmp_path, rows):
    one = trainer(epochs=2)
    one.fit(batches(rows), tmp_path / "a.keras", seed=1)
    one.fit(batches(rows), tmp_path / "b.keras", seed=2)
    one.fit(batches(rows), tmp_path / "c.keras", seed=1)
    trainer(epochs=2).fit(batches(rows), tmp_path / "d.keras", seed=2)
    a, b, c, d = (weights(tmp_path / f"{name}.keras") for name in "abcd")
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)
    assert np.abs(a - b).max() > 0.01


def test_network_learns_a_linear_target(tmp_path, rows):
    history = trainer(epochs=30).fit(batches(rows), tmp_path / "m.keras", seed=0)
    assert history["loss"].iloc[-1] < 0.3 * rows[1].var()
    assert json.loads((tmp_path / "m.json").read_text())["history"][-1]["seconds"] > 0


def test_training_that_diverges_says_so_and_leaves_no_model(tmp_path, rows):
    x, y = rows
    huge = (x, np.full_like(y, 3e38))
    with pytest.raises(ValueError, match="lower the learning rate"):
        trainer(epochs=2, rate=1.0).fit(batches(huge), tmp_path / "m.keras", seed=0)
    assert not (tmp_path / "m.keras").exists()


def test_network_is_trained_in_the_precision_that_was_chosen():
    keras = import_keras()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = trainer(1).model
    finally:
        keras.config.set_dtype_policy("float32")
    computed = {layer.compute_dtype for layer in made.layers if layer.weights}
    assert computed == {"bfloat16"}
