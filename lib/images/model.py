"""An image classifier as an MLflow model: raw images in, a label and probabilities out.

`save_image_classifier` writes a folder that anyone with MLflow can load and serve: a network of
Keras's own layers that takes raw pixels and gives logits, the names of the classes as JSON, and a
copy of the modules that turn both into answers. Nothing is pickled, and nothing of this project
needs to be installed to predict.

The signature declares one tensor ``images`` of dtype object and any shape, and `predict` checks
both: MLflow would refuse arrays of every other dtype than a numeric one that is declared, and its
server would turn 0.5 into 0, "7" into 7 and true into 1 before the model sees them.
"""

import json
import reprlib
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from lib.backend import import_keras
from lib.packaging import BadInput, save_packed

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel, PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

if TYPE_CHECKING:
    import keras

IMAGES, LABEL = "images", "label"
MODULES = ("backend", "images.model", "packaging")
NEEDED = ("mlflow", "pandas", "numpy", "keras", "tensorflow")
BATCH = 500

Network = Callable[[np.ndarray], np.ndarray]
"""Takes images, uint8 of shape (n, *image_shape); returns float32 of shape (n, n_classes)."""


class BadImages(BadInput):
    """Images that cannot be classified."""


class ImageSpec(TypedDict):
    """What a classifier knows besides its network; kept as ``spec.json``.

    Attributes
    ----------
    classes : list of str
        Names, in the order of the network's outputs.
    image_shape : list of int
        Height and width, and channels unless there is one only: [28, 28] or [32, 32, 3].
    """

    classes: list[str]
    image_shape: list[int]


class ImageClassifier(PythonModel):
    """Say what raw images show; what MLflow loads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the network and the names of the classes from the model's folder."""
        self.spec: ImageSpec = json.loads(Path(context.artifacts["spec"]).read_text("utf-8"))
        self.network = _network(_load(Path(context.artifacts["model"])))

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, str] | None = None,
    ) -> pd.DataFrame:
        """Classify images.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
            Not used: everything was read when the model was loaded.
        model_input : array_like of shape (n, *image_shape)
            Raw pixels 0..255, of any integer dtype; n is at least 1. Grey images may have an axis
            of one channel, (n, height, width, 1). MLflow hands it over in a dict, as ``images``.
        params : dict, optional
            None are known.

        Returns
        -------
        pandas.DataFrame of shape (n, 1 + n_classes)
            ``label``, the name of the most probable class, and ``probability_<class>`` for each
            class, as a fraction, with ``_`` for the spaces in its name.

        Raises
        ------
        BadImages
            A ValueError: if the shape is another, or a value is no integer from 0 to 255; the
            message says which one.
        """
        images = model_input[IMAGES] if isinstance(model_input, dict) else model_input
        pixels = _pixels(images, self.spec["image_shape"])
        probabilities = _in_batches(self.network, pixels).astype(np.float64)
        classes = self.spec["classes"]
        found = pd.DataFrame(probabilities, columns=probability_columns(classes))
        found.insert(0, LABEL, [classes[k] for k in probabilities.argmax(axis=1)])
        return found


def predict_probabilities(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Return the probability of each class, the softmax of the model's logits.

    Parameters
    ----------
    model : keras.Model
        Takes raw images of shape (n, *image_shape) and returns logits of shape (n, n_classes).
    images : ndarray of shape (n, *image_shape)
        Raw pixels 0..255, of any integer dtype; n is at least 1.

    Returns
    -------
    ndarray of shape (n, n_classes), float32

    Raises
    ------
    BadImages
        A ValueError: if the images are not what the model takes.
    """
    pixels = _pixels(images, model.input_shape[1:])
    return _in_batches(_network(model), pixels)


def save_image_classifier(
    path: Path, keras_file: Path, *, classes: Sequence[str], image_shape: Sequence[int]
) -> None:
    """Write a classifier as an MLflow model folder that needs nothing of this project.

    Parameters
    ----------
    path : pathlib.Path
        The folder to make; it must not exist.
    keras_file : pathlib.Path
        ``.keras`` file of a model of Keras's own layers only, which takes raw images of shape
        (n, *image_shape) with pixels 0..255 and returns logits of shape (n, n_classes).
    classes : sequence of str
        Their names, in the order of the model's outputs.
    image_shape : sequence of int
        See `ImageSpec`.

    Raises
    ------
    ValueError
        If the model does not fit; the message says why.
    """
    spec = ImageSpec(classes=list(classes), image_shape=list(image_shape))
    _check_model(keras_file, spec)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch, "spec.json")
        settings.write_text(json.dumps(spec, indent=1), encoding="utf-8")
        save_packed(
            path,
            MODULES,
            "images.model.ImageClassifier",
            artifacts={"spec": settings, "model": keras_file},
            signature=image_signature(classes),
            packages=NEEDED,
        )


def image_signature(classes: Sequence[str]) -> ModelSignature:
    """Return the tensor that a classifier takes, of any shape, and the columns that it gives."""
    columns = [ColSpec(DataType.double, name) for name in probability_columns(classes)]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,), IMAGES)]),
        outputs=Schema([ColSpec(DataType.string, LABEL), *columns]),
    )


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of a classifier's answer that hold the probabilities of the classes."""
    return [f"probability_{name.replace(' ', '_')}" for name in classes]


def output_columns(model: PyFuncModel) -> list[str]:
    """Return the columns of probabilities of a loaded classifier, in order of its classes."""
    return [name for name in model.metadata.signature.outputs.input_names() if name != LABEL]


def _check_model(file: Path, spec: ImageSpec) -> None:
    """Raise ValueError unless the file holds a model that fits the spec."""
    try:
        model = _load(file)
    except Exception as error:  # Keras raises many kinds, one around the other
        while error.__context__ is not None:
            error = error.__context__
        raise ValueError(
            f"{file.name} is no .keras file of a model of Keras's own layers and functions: "
            f"{textwrap.shorten(str(error), 200)}"
        ) from error
    shape, n_classes = tuple(spec["image_shape"]), len(spec["classes"])
    for name, found, wanted in (
        ("takes", getattr(model, "input_shape", None), (None, *shape)),
        ("gives", getattr(model, "output_shape", None), (None, n_classes)),
    ):
        if found != wanted:
            raise ValueError(f"{file.name} {name} {found}: {wanted} is needed")
    noise = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    logits = np.asarray(model(noise, training=False), dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"{file.name} gives {logits[~np.isfinite(logits)][0]} for an image")
    if logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-2):
        raise ValueError(f"{file.name} gives probabilities: logits are needed, without a softmax")


def _load(file: Path) -> "keras.Model":
    return import_keras().saving.load_model(file, compile=False, safe_mode=True)


def _network(model: "keras.Model") -> Network:
    """Return the model with a softmax, traced once for batches of any length."""
    import tensorflow as tf

    run = tf.function(
        lambda x: tf.nn.softmax(tf.cast(model(x, training=False), tf.float32)),
        input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)],
        autograph=False,  # Keras does its own; errors stay short
    )
    return lambda pixels: run(tf.constant(pixels)).numpy()


def _in_batches(network: Network, pixels: np.ndarray) -> np.ndarray:
    starts = range(0, len(pixels), BATCH)
    return np.concatenate([network(pixels[k : k + BATCH]) for k in starts])


def _pixels(images: np.ndarray | Sequence, image_shape: Sequence[int]) -> np.ndarray:
    """Return the images as uint8 of shape (n, *image_shape); refuse what is none."""
    expected = f"expected (n, {', '.join(map(str, image_shape))})"
    try:
        values = images if isinstance(images, np.ndarray) else np.array(images, dtype=object)
    except ValueError as error:
        raise BadImages(f"{expected}, got arrays of different shapes") from error
    if values.ndim == 0:
        raise BadImages(f"{expected}, got {reprlib.repr(values.item())}")
    if len(values) == 0:
        raise BadImages(f"{expected} with at least one image, got none: {values.shape}")
    if values.dtype == object and any(isinstance(x, (list, np.ndarray)) for x in values.ravel()):
        raise BadImages(f"{expected}, got lists of different lengths")
    grey = (1,) if len(image_shape) == 2 else ()
    if values.shape[1:] not in (shape := tuple(image_shape), shape + grey):
        single = values.shape in (shape, shape + grey)
        raise BadImages(f"{expected}, got {values.shape}{': put it into a list' * single}")
    return _as_bytes(values.reshape(-1, *shape))


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Return the values as uint8; refuse all but integers 0..255."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == object:
        whole = [isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in values.flat]
        bad = ~np.array(whole).reshape(values.shape)
    elif values.dtype.kind in "iu":
        bad = np.zeros(values.shape, dtype=bool)
    else:
        raise BadImages(f"expected integers 0..255 of a dtype like uint8, got {values.dtype}")
    if not bad.any():
        bad = (values < 0) | (values > 255)
    if bad.any():
        image, *place = map(int, np.argwhere(bad)[0])
        value = reprlib.repr(values.item((image, *place)))
        raise BadImages(f"expected integers 0..255, got {value} in image {image} at {tuple(place)}")
    return values.astype(np.uint8)
