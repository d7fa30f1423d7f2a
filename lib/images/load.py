"""Labelled images, whoever made them: read and check them.

`load_images` is the one entry: for sample data, the files that Keras downloads, and files of one's
own it returns the same `ImageSet` of raw uint8 arrays. Nothing is scaled or guessed, and all of it
is read: what breaks a rule is an error that names the file, what was found and what to give.
"""

from collections.abc import Sequence
from pathlib import Path

from lib.dialect import read_columns
from lib.ground.console import redact
from lib.images.arrays import read_arrays, refuse_label
from lib.images.cifar_files import read_cifar
from lib.images.files import BESIDE, few, files_of, members
from lib.images.pictures import read_pictures
from lib.images.roles import STANDARD, Pair, pairs_of
from lib.images.rules import check_pairs, check_size, number_classes, two_parts
from lib.images.sample import sample_digits, sample_objects
from lib.images.sets import ImageSet, images_digest, take_images
from lib.looks import names_look
from lib.sources import described, download

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

GREY = {"mnist": True, "cifar10": False}
"""Whether the images of a pipeline are grey; others are red, green, blue."""


def load_images(
    dataset: str,
    source: str,
    *,
    n_train: int = 0,
    n_test: int = 0,
    seed: int = 0,
    columns: Sequence[str] = (),
    classes: Sequence[str] = (),
    test_share: float = 0.2,
    test_seed: int = 0,
    size: int = 0,
    transpose: bool = False,
) -> ImageSet:
    """Load MNIST, CIFAR-10, or images of one's own: grey ones in the first form, else colours.

    MNIST: 60,000 + 10,000 handwritten digits, Y. LeCun and C. Cortes, CC BY-SA 3.0. CIFAR-10:
    50,000 + 10,000 small photographs, A. Krizhevsky, "Learning Multiple Layers of Features from
    Tiny Images" (2009), published without a licence.

    Parameters
    ----------
    dataset : {"mnist", "cifar10"}
        Which form: grey, or colour.
    source : str
        ``"sample"``, see `lib.images.sample`; ``"keras"``, see `fetch_keras`; or a path, glob or
        URL (``https://``, ``s3://``, any fsspec scheme) of what `lib.images.arrays`,
        `lib.images.pictures` or `lib.images.cifar_files` reads: a file, or the files of one set in
        a folder, glob or archive. A relative path is looked up in ``DATA_DIR`` and then in the
        repository.
    n_train, n_test : int
        How many images to take, at least one for each class; 0 for all. They are drawn at random,
        each class by its share, and stay in their order.
    seed : int
        Of the draw, and of the sample.
    columns : sequence of str
        What arrays or a column of labels are called, see `lib.dialect.read_columns`:
        ``["x_train=photos", "y_train=kinds"]``, ``["label=class"]``.
    classes : sequence of str
        Names of the classes in order of the labels that there are; by default those that the source
        names, or the labels.
    test_share, test_seed : float, int
        Where the source has no test part: which share of it is kept for it, see
        `lib.images.sets.split_test`.
    size : int
        Height and width to bring images to, of which the middle square is taken; 0 for as they are.
    transpose : bool
        Whether rows and columns are swapped, as EMNIST's are.

    Raises
    ------
    ValueError
        If the source is not found, damaged or cut short, or holds anything but whole pixels from 0
        to 255 of square images of one size, 16 to 96, with a label for each, 2 to 200 different
        ones that are in both parts; or if it has fewer images than asked for.
    """
    if source == "sample":
        sample = sample_digits if dataset == "mnist" else sample_objects
        return sample(n_train, n_test, seed)

    @names_look(dataset)
    def load(source: str) -> ImageSet:
        check_size(size)
        place = str(fetch_keras(dataset)) if source == "keras" else source
        name = redact(place)
        pairs, names, notes = _read(place, columns, size)
        parts = check_pairs(pairs, is_grey=GREY[dataset], size=size, transpose=transpose)
        (x_train, y_train), (x_test, y_test), told = two_parts(parts, test_share, test_seed, name)
        y_train, y_test, called = number_classes(y_train, y_test, names, classes, name)
        images = ImageSet(x_train, y_train, x_test, y_test, called, (*notes, *told))
        return take_images(images, n_train, n_test, seed=seed, name=name)

    return load(source)


def _read(
    source: str, columns: Sequence[str], size: int
) -> tuple[dict[str, Pair], list[str], list[str]]:
    """Return images and labels of each part, names of the labels, and what is to be noted."""
    shown, files = redact(source), files_of(source)
    given = {key: column.names for key, column in read_columns(columns, STANDARD, {}).items()}
    label = "".join(given.pop("label", ()))
    arrays = read_cifar(files, shown) or read_pictures(files, shown, size)
    refuse_label(label if arrays else "", shown)
    texts = [file for file in files if file.path.lower().endswith(BESIDE) and len(files) > 1]
    for file in files if not arrays else ():
        if file not in texts:
            arrays += [found for inner in members(file) for found in read_arrays(inner, label)]
    pairs, names = pairs_of(arrays, given, shown)
    unread = [file.path for file in files if not file.is_read]
    return pairs, names, [f"not read, as no images: {few(unread)}"] if unread else []


def describe_images(images: ImageSet, dataset: str, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (`dataset`, and ``_sample`` for a sample), ``source`` (without secrets), ``digest``
        (`images_digest`), ``n_rows`` (images of both parts), ``n_train``, ``n_test``,
        ``n_classes``; ``notes``, if there are any.
    """
    n_rows = len(images.y_train) + len(images.y_test)
    notes = {"notes": "; ".join(images.notes)} if images.notes else {}
    return described(dataset, source, images_digest(images), n_rows) | {
        "n_train": len(images.y_train),
        "n_test": len(images.y_test),
        "n_classes": len(images.classes),
        **notes,
    }


def fetch_keras(dataset: str) -> Path:
    """Return the file that ``keras.datasets`` uses, downloading it to ``DATA_DIR/keras`` once.

    Its SHA-256 is checked at every call; a file that is not the one expected is fetched again.

    Raises
    ------
    ValueError
        If it cannot be downloaded, or what comes is not the file expected.
    """
    url, sha256 = KERAS_FILES[dataset]
    name = url.rsplit("/", 1)[-1]
    return download(url, f"keras/{name}", sha256, f"the path of {name}")
