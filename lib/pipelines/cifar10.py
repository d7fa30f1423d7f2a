"""What only the CIFAR-10 pipeline knows: its name; the rest is as for all images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.pipelines.image_rows import load_images_of, predict, watched
from lib.registry.rows import Rows

if TYPE_CHECKING:
    from lib.ground.parameters import Value

    from mlflow.pyfunc import PyFuncModel

__all__ = ["load_rows", "predict", "watched"]


def load_rows(source: str, options: Mapping[str, "Value"], model: "PyFuncModel") -> Rows:
    """Return the test images of a source."""
    return load_images_of("cifar10", source, options)
