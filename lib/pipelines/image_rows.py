"""What the pipelines of images know alike. A row's key is the digest of its image."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.images.load import describe_images, load_images
from lib.images.watched import image_columns, image_keys
from lib.registry.rows import Rows

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lib.ground.parameters import Value

    from mlflow.pyfunc import PyFuncModel


def load_images_of(
    pipeline: str, source: str, options: Mapping[str, "Value"], model: "PyFuncModel"
) -> Rows:
    """Return the test images of a source of the pipeline."""
    given = {name: options[name] for name in ("n_train", "n_test", "seed") if name in options}
    images = load_images(pipeline, source, **given)
    keys = image_keys(images.x_test)
    truth = pd.Series(images.y_test, keys, dtype=np.int64)
    return Rows(images.x_test, keys, truth, describe_images(images, pipeline, source))


def predict(model: "PyFuncModel", rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return the probability of each class."""
    return model.predict(rows.inputs[rows.keys.get_indexer(keys)]).drop(columns="label").to_numpy()


def watched(rows: Rows) -> pd.DataFrame:
    """Return what the images look like apart from what they show."""
    return image_columns(rows.inputs).set_axis(rows.keys)
