"""New images for a model of images: classes are numbered as the model has them, or refused."""

from types import SimpleNamespace

from lib.images.model import image_signature
from lib.pipelines import mnist
from lib.registry.rows import NotComparable

import numpy as np
import pytest
from image_files import arrays_of, write


def model_of(*classes):
    return SimpleNamespace(metadata=SimpleNamespace(signature=image_signature(classes)))


@pytest.fixture
def path(tmp_path):
    made = arrays_of((20, 20), 30, 12)
    names = np.array(["cat", "dog", "sea horse"])
    return write(tmp_path, {k: names[a % 3] if k[0] == "y" else a for k, a in made.items()})


def test_truth_is_numbered_as_the_model_numbers_it(path):
    rows = mnist.load_rows(path, {}, model_of("sea horse", "ant", "cat", "dog"))
    expected = np.array([2, 3, 0])[arrays_of((20, 20), 30, 12)["y_test"] % 3]
    np.testing.assert_array_equal(rows.truth, expected)


def test_class_that_the_model_does_not_know_is_named(path):
    with pytest.raises(NotComparable, match="has the classes sea horse, which the model does not"):
        mnist.load_rows(path, {}, model_of("cat", "dog"))


def test_source_is_read_as_the_run_has_read_its_own(path):
    options = {"classes": ["c", "d", "s"], "size": 16, "n_train": 0, "max_repeats": 0.5}
    rows = mnist.load_rows(path, options, model_of("c", "d", "s"))
    assert rows.inputs.shape == (12, 16, 16)
