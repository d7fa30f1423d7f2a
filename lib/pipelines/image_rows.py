"""What the pipelines of images know alike. A row's key is the digest of its image."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from lib.ground.parameters import Value
from lib.images.load import describe_images, load_images
from lib.images.model import output_columns, probability_columns
from lib.images.sets import count_duplicates, count_images
from lib.images.watched import image_columns, image_keys
from lib.looks import Look, model_name
from lib.registry.rows import NotComparable, Rows, parting

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

MADE = ("sample", "keras")
TAKEN = ("n_train", "n_test", "seed", "columns", "classes", "test_share", "test_seed", "size")
TAKEN += ("transpose",)
"""Parameters of the load stage that say how a source is read."""

PARTED_BY = ("test_share", "test_seed")
"""Those by which what is in an image says whether it is of the test, if the source does not."""


def load_images_of(
    pipeline: str, source: str, options: Mapping[str, Value], model: PyFuncModel
) -> Rows:
    """Return the test images of a source of the pipeline, their classes numbered as the model's.

    Raises
    ------
    lib.registry.rows.NotComparable
        If the source has a class that the model does not know; names both.
    ValueError
        If the source cannot be read.
    """
    images = load_images(pipeline, source, **{n: options[n] for n in TAKEN if n in options})
    known = output_columns(model)
    columns = probability_columns(images.classes)
    unknown = [name for name, own in zip(images.classes, columns, strict=True) if own not in known]
    if unknown:
        raise NotComparable(
            f"{source} has the classes {', '.join(unknown)}, which the model does not know; it "
            f"knows {', '.join(known)}"
        )
    keys = image_keys(images.x_test)
    number = np.array([known.index(column) for column in columns])
    truth = pd.Series(number[images.y_test], keys, dtype=np.int64)
    facts = describe_images(images, pipeline, source)
    return Rows(images.x_test, keys, truth, facts, parted_by=parting(pipeline, options))


def look_at(pipeline: str, source: str, options: Mapping[str, Value], most_rows: int = 0) -> Look:
    """Look at images as they will be used; all of them are read."""
    images = load_images(pipeline, source, **{n: options[n] for n in TAKEN if n in options})
    n_train, n_test = len(images.y_train), len(images.y_test)
    repeats = count_duplicates(images)
    odd = list(images.notes)
    if repeats["across"]:
        odd.append(f"{repeats['across']:,} test images are training images too: see max_repeats")
    counts = count_images(images)
    facts = {"images": f"{images.x_train.dtype} of shape {images.x_train.shape[1:]}"}
    facts["classes"] = f"{len(images.classes)}: {', '.join(images.classes)}"[:200]
    rows = {"read": n_train + n_test, "train": n_train, "test": n_test}
    name = model_name(pipeline, PurePosixPath(source).name.partition(".")[0])
    params = {} if source in MADE else {"model_name": name}
    return Look(facts, pd.DataFrame(), counts, rows, odd, params)


def predict(model: PyFuncModel, rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return the probability of each class."""
    return model.predict(rows.inputs[rows.keys.get_indexer(keys)]).drop(columns="label").to_numpy()


def watched(rows: Rows) -> pd.DataFrame:
    """Return what the images look like apart from what they show."""
    return image_columns(rows.inputs).set_axis(rows.keys)
