"""What only the MNIST pipeline knows: its name; the rest is as for all images."""

from functools import partial

from lib.pipelines.image_rows import PARTED_BY, load_images_of, look_at, predict, watched

__all__ = ["PARTED_BY", "load_rows", "look", "predict", "watched"]

load_rows = partial(load_images_of, "mnist")
look = partial(look_at, "mnist")
