"""Batches of images that are changed a little every time they are shown.

`ImageBatches` takes raw images and gives raw images: ``uint8`` in, ``uint8`` out, so a network that
learns from them takes what it will be given later. What an image becomes in an epoch depends on the
seed and the number of the epoch alone: training that resumes at an epoch sees what it would have
seen.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed; by default not at all.

    Attributes
    ----------
    flip : bool
        Whether images are mirrored left to right: a random half in the first epoch, and from then
        on every image in every second epoch ("alternating flip", Jordan, "94% on CIFAR-10 in 3.29
        seconds on a single GPU", arXiv:2404.00498).
    shift : int
        Most pixels an image is moved in each direction; what enters is its own mirror image.
    rotation : float
        Most degrees an image is turned in either direction, about its middle.
    """

    flip: bool = False
    shift: int = 0
    rotation: float = 0.0


class ImageBatches:
    """Batches of augmented images with their labels, shuffled anew in every epoch.

    Batch k of an epoch is ``batches[k]``, a tuple ``(x, y)``: images, uint8, and labels as one-hot
    rows, float32. What does not fill a batch is left out of the epoch; every epoch leaves out
    others.

    Parameters
    ----------
    x : numpy.ndarray of shape (n, height, width) or (n, height, width, channels), uint8
        Images.
    y : numpy.ndarray of shape (n,), integer
        Labels, from 0.
    n_classes : int
        How many labels there are.
    batch_size : int
        Images of a batch, from 1 to n.
    augmentation : Augmentation, optional
        How far images may be changed.
    sizes : sequence of int, optional
        Height and width of the images of each epoch, for networks that take any: early epochs on
        smaller images cost less (Howard, "Training Imagenet in 3 hours for USD 25", 2018). The last
        one holds for all epochs after it.
    multiple : int, default 1
        The number of batches of an epoch is a multiple of this.
    seed : int, default 0
        Of the order and of the changes.

    Raises
    ------
    ValueError
        If there are too few images for a batch.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        n_classes: int,
        batch_size: int,
        augmentation: Augmentation | None = None,
        sizes: Sequence[int] = (),
        multiple: int = 1,
        seed: int = 0,
    ) -> None:
        self.augmentation = augmentation or Augmentation()
        if not 1 <= batch_size * multiple <= len(x):
            raise ValueError(
                f"a step takes batch_size x multiple = {batch_size} x {multiple} images, and there "
                f"are {len(x)}: lower batch_size, or take more images (n_train, less n_validation)"
            )
        self.x, self.y, self.n_classes = x, np.asarray(y), n_classes
        self.batch_size, self.sizes, self.multiple, self.seed = batch_size, sizes, multiple, seed
        self._flipped_first = np.random.default_rng([seed, 0, 1]).random(len(x)) < 0.5
        self.begin_epoch(0)

    @property
    def n_items(self) -> int:
        """How many images an epoch shows."""
        return len(self) * self.batch_size

    @property
    def changes(self) -> list[int]:
        """Epochs from which on images are of another size than before."""
        pairs = itertools.pairwise(self.sizes)
        return [epoch for epoch, (before, now) in enumerate(pairs, start=1) if before != now]

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self.x) // self.batch_size // self.multiple * self.multiple

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch of this epoch."""
        rows = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, 2, batch])
        labels = np.zeros((len(rows), self.n_classes), np.float32)
        labels[np.arange(len(rows)), self.y[rows]] = 1.0
        images = self.x[rows]
        if self.augmentation.flip:
            mirrored = self._flipped_first[rows] ^ (self.epoch % 2 == 1)
            images[mirrored] = images[mirrored, :, ::-1]
        if self.augmentation.rotation:
            degrees = rng.uniform(-1, 1, len(rows)) * self.augmentation.rotation
            images = rotate(images, degrees)
        if self.augmentation.shift:
            most = self.augmentation.shift
            images = shift(images, rng.integers(-most, most + 1, (len(rows), 2)))
        if self.sizes:
            images = resize(images, self.sizes[min(self.epoch, len(self.sizes) - 1)])
        return images, labels

    def begin_epoch(self, epoch: int) -> None:
        """Put the images in the order of an epoch, counted from 0."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def digest(self) -> str:
        """Return a digest of everything that decides what the batches are."""
        options = [asdict(self.augmentation), *self.sizes, self.batch_size, self.multiple]
        made = hashlib.sha256(repr([*options, self.seed, self.n_classes, self.x.shape]).encode())
        for array in (self.x, self.y):
            made.update(np.ascontiguousarray(array))
        return made.hexdigest()


def shift(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return each image moved by whole pixels; what enters is the image's own mirror image.

    Parameters
    ----------
    images : numpy.ndarray of shape (n, height, width, ...)
        Images.
    offsets : numpy.ndarray of shape (n, 2), integer
        Pixels by which each image is moved up and to the left; negative ones are down and right.

    Returns
    -------
    numpy.ndarray
        Of the same shape and type.
    """
    most = int(np.abs(offsets).max(initial=0))
    height, width = images.shape[1:3]
    edges = [(0, 0), (most, most), (most, most)] + [(0, 0)] * (images.ndim - 3)
    padded = np.pad(images, edges, mode="reflect")
    moved = np.empty_like(images)
    for row, column in np.unique(offsets, axis=0):
        here = (offsets == (row, column)).all(axis=1)
        top, left = most + row, most + column
        moved[here] = padded[here, top : top + height, left : left + width]
    return moved


def rotate(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return each image turned about its middle, anticlockwise, by bilinear interpolation.

    What enters is the nearest pixel of the edge.

    Parameters
    ----------
    images : numpy.ndarray of shape (n, height, width) or (n, height, width, channels), uint8
        Images.
    degrees : numpy.ndarray of shape (n,), float
        Angles.

    Returns
    -------
    numpy.ndarray
        Of the same shape and type.
    """
    n, height, width = images.shape[:3]
    angle = np.deg2rad(degrees).astype(np.float32)[:, None, None]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_y = np.cos(angle) * y + np.sin(angle) * x + (height - 1) / 2
    from_x = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
    from_y, from_x = from_y.clip(0, height - 1), from_x.clip(0, width - 1)
    top, left = from_y.astype(np.intp), from_x.astype(np.intp)
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = from_y - top, from_x - left
    first = (np.arange(n) * height * width)[:, None, None]
    pixels = images.reshape(n * height * width, -1)
    turned = np.zeros((n, height, width, pixels.shape[1]), np.float32)
    for row, part in ((top, 1 - down), (below, down)):
        for column, share in ((left, 1 - across), (right, across)):
            turned += (part * share)[..., None] * pixels[first + row * width + column]
    return np.rint(turned).astype(np.uint8).reshape(images.shape)


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Return images of another height and width, by averaging over the area of each new pixel.

    Parameters
    ----------
    images : numpy.ndarray of shape (n, height, width) or (n, height, width, channels), uint8
        Images.
    size : int
        New height and width, at most the old ones.

    Returns
    -------
    numpy.ndarray of shape (n, size, size) or (n, size, size, channels), uint8
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    rows, columns = _area_weights(height, size), _area_weights(width, size)
    half = np.tensordot(images.astype(np.float32), columns, axes=(2, 1))  # width comes last
    whole = np.tensordot(half, rows, axes=(1, 1))  # then height
    order = (0, 2, 1) if images.ndim == 3 else (0, 3, 2, 1)
    return np.rint(whole.transpose(order)).astype(np.uint8)


def _area_weights(old: int, new: int) -> np.ndarray:
    """Return how much each old pixel counts in each new one, of shape (new, old)."""
    edges = np.arange(new + 1) * old / new
    begin, end = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)[None]
    overlap = np.minimum(end, pixel + 1) - np.maximum(begin, pixel)
    return (overlap.clip(0) * new / old).astype(np.float32)
