"""Networks and figures follow the size of images and the number of classes."""

from lib import judged
from lib.run import open_run

import numpy as np
import pytest
from PIL import Image
from serving import executed_here

pytestmark = pytest.mark.kernel
FIGURES = ("images.png", "variations.png", "training.png", "confusion.png", "mistakes.png")


@pytest.fixture
def untraced():
    """Let TensorFlow take single steps as they come: to trace them takes longer than they do."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    ("pipeline", "side", "n_classes"), [("mnist", 96, 2), ("cifar10", 16, 200)]
)
def test_networks_and_figures_follow_size_and_classes(
    tmp_path, untraced, pipeline, side, n_classes
):
    y = np.tile(np.arange(n_classes), max(6, 120 // n_classes))
    shape = (side, side) if pipeline == "mnist" else (side, side, 3)
    x = np.random.default_rng(0).integers(0, 256, (len(y), *shape), np.uint8)
    names = np.array([f"thing {k:03}" for k in range(n_classes)])
    np.savez(tmp_path / "things.npz", images=x, labels=names[y])
    run_dir = f"{pipeline}/things"
    executed_here(run_dir, "01_load", source=str(tmp_path / "things.npz"))
    executed_here(run_dir, "02_features", n_validation=n_classes)
    executed_here(run_dir, "03_train", batch_size=len(y) // 2, epochs=1, width=4, views="one")
    executed_here(run_dir, "04_evaluate", n_baseline=n_classes, n_resamples=100)
    run = open_run(run_dir)
    frame, facts = judged.read(run)
    assert facts["classes"] == names.tolist() and facts["task"]["image_shape"] == list(shape)
    assert judged.values(frame).shape == (len(frame), n_classes)
    assert "split off as a test" in run.read("dataset.json")["notes"]
    for name in FIGURES:
        with Image.open(str(run.path / name)) as figure:
            assert figure.width == 1280 and 100 < figure.height <= 640, name
