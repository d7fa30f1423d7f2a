"""What an image is called in any file, and what is watched of images."""

import hashlib

from lib.judged import numbered

import numpy as np
import pandas as pd

CHUNK = 2_000


def image_keys(images: np.ndarray) -> pd.Index:
    """Return what each image is called in any file: its SHA-256, numbered where one repeats."""
    return numbered([hashlib.sha256(image.tobytes()).hexdigest() for image in images])


def image_columns(images: np.ndarray) -> pd.DataFrame:
    """Return what images look like apart from what they show.

    Parameters
    ----------
    images : ndarray of shape (n, height, width) or (n, height, width, channels), uint8

    Returns
    -------
    pandas.DataFrame of shape (n, 3) or, for colours, (n, 6)
        ``brightness``, the mean of the pixels; ``contrast``, their deviation; ``sharpness``, the
        mean step from a pixel to its right neighbour; and the mean of each colour.
    """
    starts = range(0, len(images), CHUNK)
    return pd.concat([_columns(images[k : k + CHUNK]) for k in starts], ignore_index=True)


def _columns(images: np.ndarray) -> pd.DataFrame:
    pixels = images.reshape(*images.shape[:3], -1).astype(np.float32)
    flat = pixels.reshape(len(pixels), -1)
    steps = np.abs(np.diff(pixels, axis=2))
    found = {
        "brightness": flat.mean(axis=1),
        "contrast": flat.std(axis=1),
        "sharpness": steps.reshape(len(pixels), -1).mean(axis=1),
    }
    if pixels.shape[-1] == 3:
        means = pixels.mean(axis=(1, 2))
        found |= {name: means[:, k] for k, name in enumerate(("red", "green", "blue"))}
    return pd.DataFrame(found, dtype=np.float64)
