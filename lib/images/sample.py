"""Small image sets that need no download: real digits for MNIST, made-up shapes for CIFAR-10.

Both have the shapes, types and ten classes of what they stand in for, and every byte follows from
the seed: pictures are made in whole numbers, so that they are the same on any machine.
"""

from collections.abc import Callable

from lib.images.sets import ImageSet, check_count, split_validation, take_images

import numpy as np

N_TEST_DIGITS = 500
N_TRAIN_OBJECTS, N_TEST_OBJECTS = 2_000, 500

Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
PATTERNS: dict[str, tuple[int, int, Pattern]] = {
    "rows": (2, 8, lambda _, y, w: y // w % 2 == 0),
    "columns": (2, 8, lambda x, _, w: x // w % 2 == 0),
    "diagonals": (3, 10, lambda x, y, w: (x + y) // w % 2 == 0),
    "checkers": (3, 8, lambda x, y, w: (x // w + y // w) % 2 == 0),
    "rings": (3, 6, lambda x, y, w: np.sqrt(x**2 + y**2) // w % 2 == 0),
    "disc": (4, 8, lambda x, y, w: x**2 + y**2 <= w**2),
    "square": (4, 7, lambda x, y, w: np.maximum(abs(x), abs(y)) <= w),
    "triangle": (5, 9, lambda x, y, w: (2 * abs(x) <= y + w) & (y <= w)),
    "cross": (
        5,
        10,
        lambda x, y, w: (np.minimum(abs(x), abs(y)) <= w // 5) & (np.maximum(abs(x), abs(y)) <= w),
    ),
    "dots": (6, 12, lambda x, y, w: (x % w - w // 2) ** 2 + (y % w - w // 2) ** 2 <= (w // 3) ** 2),
}
"""The classes of `sample_objects`: least and largest width in pixels, and what is painted.

``x`` and ``y`` are pixels right of and below the picture's own centre, ``w`` is its width.
"""


def sample_digits(n_train: int = 0, n_test: int = 0, seed: int = 0) -> ImageSet:
    """Return scikit-learn's handwritten digits in the form of MNIST.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998,
    https://doi.org/10.24432/C50P49, licensed CC BY 4.0; its 1,797 test images of 8 x 8 pixels from
    0 to 16, as `sklearn.datasets.load_digits` bundles them. Here they are enlarged to 20 x 20 by
    linear interpolation and framed by 4 pixels of black, as MNIST's are.

    Parameters
    ----------
    n_train, n_test : int
        How many of the 1,297 and 500 images to take, see `lib.images.load.load_images`; 0 for all.
    seed : int
        Of the split into both parts, each class by its share, and of what is taken of them.

    Returns
    -------
    ImageSet
        Images of shape (n, 28, 28), classes ``0`` to ``9``.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = _enlarge(digits.images.astype(np.int64)), digits.target.astype(np.uint8)
    train, test = split_validation(y, N_TEST_DIGITS, seed=seed)
    images = ImageSet(x[train], y[train], x[test], y[test], tuple("0123456789"))
    return take_images(images, n_train, n_test, seed=seed, name="the sample of mnist")


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Return images of 8 x 8 pixels, 0 to 16, as 28 x 28, 0 to 255.

    Pixel ``i`` of 20 lies at ``0.4 i - 0.3`` of 8, so that all weights are whole tenths.
    """
    tenths = np.clip(4 * np.arange(20) - 3, 0, 70)
    left = np.minimum(tenths // 10, 6)
    weights = np.zeros((20, 8), np.int64)
    weights[np.arange(20), left] = 10 - (tenths - 10 * left)
    weights[np.arange(20), left + 1] = tenths - 10 * left
    large = weights @ small @ weights.T  # 0 to 1600
    pixels = (large * 255 + 800) // 1600
    return np.pad(pixels.astype(np.uint8), ((0, 0), (4, 4), (4, 4)))


def sample_objects(n_train: int = 0, n_test: int = 0, seed: int = 0) -> ImageSet:
    """Make up colour pictures of ten shapes in the form of CIFAR-10.

    Every picture has one bright and one dark colour, either of which may be the shape's, and its
    own centre, width, slope of light and noise. Neither a colour nor any one pixel says anything
    about the class, so that a model must see shapes: on 2,000 pictures logistic regression of the
    pixels reaches an accuracy of about 0.26, a forest of the directions of edges 0.99.

    Parameters
    ----------
    n_train, n_test : int
        How many pictures to make, at least 10; 0 for 2,000 and 500.
    seed : int
        Everything random. Both parts have random numbers of their own.

    Returns
    -------
    ImageSet
        Images of shape (n, 32, 32, 3). Classes, in numbers that differ by one at most: ``rows``,
        ``columns`` and ``diagonals`` (stripes), ``checkers``, ``rings``, ``disc``, ``square``,
        ``triangle``, ``cross``, ``dots``.
    """
    check_count("n_train", n_train, len(PATTERNS))
    check_count("n_test", n_test, len(PATTERNS))
    x_train, y_train = _paint(n_train or N_TRAIN_OBJECTS, np.random.default_rng([seed, 0]))
    x_test, y_test = _paint(n_test or N_TEST_OBJECTS, np.random.default_rng([seed, 1]))
    return ImageSet(x_train, y_train, x_test, y_test, tuple(PATTERNS))


def _paint(n_images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of shape (n, 32, 32, 3) and their labels, both uint8."""
    labels = rng.permutation(np.arange(n_images) % len(PATTERNS)).astype(np.uint8)
    centre = rng.integers(8, 24, (2, n_images, 1, 1))
    x, y = np.arange(32)[None, None, :] - centre[0], np.arange(32)[None, :, None] - centre[1]
    x = np.where(rng.random((n_images, 1, 1)) < 0.5, x, -x)  # stripes of both diagonals
    is_shape = np.empty((n_images, 32, 32), bool)
    for label, (least, largest, painted) in enumerate(PATTERNS.values()):
        chosen = labels == label
        width = rng.integers(least, largest + 1, (chosen.sum(), 1, 1))
        is_shape[chosen] = painted(x[chosen], y[chosen], width)
    is_shape ^= rng.random((n_images, 1, 1)) < 0.5
    dark = rng.integers(0, 96, (n_images, 1, 1, 3), np.int16)
    bright = rng.integers(160, 256, (n_images, 1, 1, 3), np.int16)
    pixels = np.where(is_shape[..., None], bright, dark)
    slope = rng.integers(-3, 4, (2, n_images, 1, 1), np.int16)
    at = np.arange(-16, 16, dtype=np.int16)
    pixels += (slope[0] * at[None, None, :] + slope[1] * at[None, :, None])[..., None]
    for _ in range(2):
        pixels += rng.integers(-24, 25, pixels.shape, np.int16)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels
