"""Labelled images in ten classes, MNIST and CIFAR-10: read and check them.

`load_images` is the one entry: for sample data, the files that Keras downloads, and files of one's
own it returns the same `ImageSet` of raw uint8 arrays. Nothing is scaled, repaired or guessed: what
breaks a rule is an error that names the file, what was expected and what was found.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from lib.ground.console import redact
from lib.ground.files import data_dir
from lib.images import cifar_files
from lib.images.sample import sample_digits, sample_objects
from lib.images.sets import ARRAYS, CLASSES, SHAPES, ImageSet, images_digest, take_images
from lib.sources import list_files, read_file

import numpy as np

KERAS_FILES = {
    "mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    ),
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
}
"""URL and SHA-256 of what `keras.datasets` downloads."""


# Loading --------------------------------------------------------------------------------------


def load_images(
    dataset: str, source: str, *, n_train: int = 0, n_test: int = 0, seed: int = 0
) -> ImageSet:
    """Load MNIST, CIFAR-10 or something of the same form.

    MNIST: 60,000 + 10,000 handwritten digits, Y. LeCun and C. Cortes, CC BY-SA 3.0. CIFAR-10:
    50,000 + 10,000 small photographs, A. Krizhevsky, "Learning Multiple Layers of Features from
    Tiny Images" (2009), published without a licence.

    Parameters
    ----------
    dataset : {"mnist", "cifar10"}
        Which form: grey 28 x 28, or colour 32 x 32.
    source : str
        One of

        - ``"sample"``: a small stand-in that needs no network, see `lib.images.sample`;
        - ``"keras"``: the very file that ``keras.datasets`` downloads, see `fetch_keras`;
        - a path or URL (``https://``, ``s3://``, any fsspec scheme) of

          - Keras' ``.npz``: arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``. Images may
            have a last axis of one channel for MNIST, and labels one of length one;
          - for CIFAR-10 also the official Python archive, as ``.tar`` or packed by gzip, bzip2 or
            xz, or the folder ``cifar-10-batches-py`` in it; see `lib.images.cifar_files`.

        A relative path is looked up in ``DATA_DIR`` and then in the repository.
    n_train, n_test : int
        How many images to take, at least one for each class; 0 for all. They are drawn at random,
        each class by its share, and stay in their order.
    seed : int
        Of the draw, and of the sample.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        If the source is not found, damaged or cut short, or holds anything but uint8 images of the
        right shape, integer labels 0 to 9 for all of them and all ten classes in both parts; or if
        it has fewer images than asked for.
    """
    if source == "sample":
        sample = sample_digits if dataset == "mnist" else sample_objects
        return sample(n_train, n_test, seed)
    place = str(fetch_keras(dataset)) if source == "keras" else source
    shown = redact(place)
    images = _checked(dataset, _read_source(dataset, place), shown)
    return take_images(images, n_train, n_test, seed=seed, name=shown)


def describe_images(images: ImageSet, dataset: str, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (`dataset`, and ``_sample`` for a sample), ``source`` (without secrets), ``digest``
        (`images_digest`), ``n_rows`` (images of both parts), ``n_train``, ``n_test``,
        ``n_classes``.
    """
    return {
        "name": f"{dataset}_sample" if source == "sample" else dataset,
        "source": redact(source),
        "digest": images_digest(images),
        "n_rows": len(images.y_train) + len(images.y_test),
        "n_train": len(images.y_train),
        "n_test": len(images.y_test),
        "n_classes": len(images.classes),
    }


def fetch_keras(dataset: str) -> Path:
    """Return the file that ``keras.datasets`` uses, downloading it to ``DATA_DIR/keras`` once.

    Its SHA-256 is checked at every call; a file that is not the one expected is fetched again.

    Raises
    ------
    ValueError
        If it cannot be downloaded, or what comes is not the file expected.
    """
    import pooch

    url, sha256 = KERAS_FILES[dataset]
    folder, name = data_dir() / "keras", url.rsplit("/", 1)[-1]
    try:
        pooch.get_logger().setLevel("WARNING")
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder))
    except Exception as error:  # requests, urllib3, pooch and the operating system raise their own
        raise ValueError(
            f"{name}, of SHA-256 {sha256}, cannot be had from {url} ({type(error).__name__}: "
            f'{error}). Without a network give the path of {name}, or "sample"'
        ) from error


def _read_source(dataset: str, source: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file, whatever its name, or of a folder of batches."""
    shown, is_cifar = redact(source), dataset == "cifar10"
    files = list_files(
        source,
        folder=cifar_files.FOLDER if is_cifar else "",
        endings=cifar_files.FILES if is_cifar else [".npz"],
        hint='give "sample" or "keras"',
    )
    named = [(name.rsplit("/", 1)[-1], opened) for name, opened in files]
    batches = [(name, opened) for name, opened in named if name in cifar_files.FILES]
    if is_cifar and batches:
        contents = ((name, read_file(opened, source)) for name, opened in batches)
        return _join_batches(contents, shown)
    if len(files) > 1:
        raise ValueError(f"{shown} is {len(files)} files, {files[0][0]} and others: name one")
    content = read_file(files[0][1], source)
    if is_cifar and not content.startswith(b"PK"):
        return _join_batches(cifar_files.iter_members(content, shown), shown)
    try:
        with np.load(BytesIO(content), allow_pickle=False) as file:
            return {key: np.asarray(file[key]) for key in ARRAYS}
    except Exception as error:  # a damaged zip or header may raise nearly anything
        raise ValueError(
            f"{shown} is cut short, damaged or no .npz of the arrays {', '.join(ARRAYS)} "
            f"({error!r}): fetch it again, or give a file of these arrays"
        ) from error


def _join_batches(contents: Iterable[tuple[str, bytes]], name: str) -> dict[str, np.ndarray]:
    """Return the arrays of the batches, the training ones in order of their numbers."""
    batches: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for file, content in contents:
        place = f"{name}: {file}"
        if file in batches:
            raise ValueError(f"{place} is there twice: which one is meant? Fetch the file again")
        x, y = cifar_files.read_batch(content, place)
        batches[file] = x, _check_labels(y, len(x), f"{place}: labels")
    missing = [file for file in cifar_files.FILES if file not in batches]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)}: CIFAR-10 is {', '.join(cifar_files.FILES)}. Was "
            "it cut short? Fetch it again"
        )
    x_test, y_test = batches.pop(cifar_files.TEST_FILE)
    x_train, y_train = (
        np.concatenate([batches[file][k] for file in cifar_files.TRAIN_FILES]) for k in (0, 1)
    )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


# Rules ----------------------------------------------------------------------------------------


def _checked(dataset: str, arrays: dict[str, np.ndarray], name: str) -> ImageSet:
    """Return the set that the arrays are, once sure that they keep every rule."""
    parts: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        place = f"{name}: x_{part}"
        x = _check_images(arrays[f"x_{part}"], SHAPES[dataset], place)
        y = _check_labels(arrays[f"y_{part}"], len(x), f"{name}: y_{part}")
        absent = np.flatnonzero(np.bincount(y, minlength=10) == 0)
        if len(absent):
            names = ", ".join(f"{label} ({CLASSES[dataset][label]})" for label in absent)
            raise ValueError(f"{name}: y_{part} must hold all ten classes and has no {names}")
        parts |= {f"x_{part}": x, f"y_{part}": y}
    return ImageSet(**parts, classes=CLASSES[dataset])


def _check_images(x: np.ndarray, shape: tuple[int, ...], place: str) -> np.ndarray:
    """Return the images in one piece of memory, without a last axis of one channel."""
    if len(shape) == 2 and x.shape[1:] == (*shape, 1):
        x = x[..., 0]
    if x.dtype != np.uint8 or x.ndim != len(shape) + 1 or x.shape[1:] != shape:
        raise ValueError(
            f"{place} must be uint8 of shape (n, {', '.join(map(str, shape))}), raw pixels from 0 "
            f"to 255, not {x.dtype} of shape {x.shape}"
        )
    if x.max(initial=0) <= 1:
        raise ValueError(
            f"{place} must hold pictures of pixels from 0 to 255, and has none above 1: give the "
            "raw pixels, before they are scaled"
        )
    return np.ascontiguousarray(x)


def _check_labels(y: np.ndarray, n_images: int, place: str) -> np.ndarray:
    """Return the labels as uint8 of shape (n,)."""
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.shape != (n_images,) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{place} must be integers from 0 to 9, one for each of the {n_images} images, not "
            f"{y.dtype} of shape {y.shape}"
        )
    wrong = np.flatnonzero((y < 0) | (y > 9))
    if len(wrong):
        raise ValueError(f"{place} must be from 0 to 9: row {wrong[0]} has {y[wrong[0]]}")
    return y.astype(np.uint8)
