"""Labelled images, whoever made them: read and check them.

`load_images` is the one entry: for sample data, the files that Keras downloads, and files of one's
own it returns the same `ImageSet` of raw uint8 arrays. Nothing is scaled or guessed, and all of it
is read: what breaks a rule is an error that names the file, what was found and what to give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.dialect import read_columns
from lib.ground.console import redact
from lib.ground.files import data_dir
from lib.images import cifar_files, pictures
from lib.images.files import Found, members, read_arrays, unpacked
from lib.images.roles import STANDARD, Pair, pairs_of
from lib.images.rules import Options, image_set
from lib.images.sample import sample_digits, sample_objects
from lib.images.sets import ImageSet, images_digest, take_images
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

GREY = {"mnist": True, "cifar10": False}
"""Whether the images of a pipeline are grey; others are red, green, blue."""

BESIDE = (".txt", ".md", ".rst", ".html", ".htm", ".json", ".xml", ".yaml", ".yml", ".pdf", ".log")
"""Files that may lie beside images and are no images."""


# Loading --------------------------------------------------------------------------------------


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
        One of

        - ``"sample"``: a small stand-in that needs no network, see `lib.images.sample`;
        - ``"keras"``: the very file that ``keras.datasets`` downloads, see `fetch_keras`;
        - a path, glob or URL (``https://``, ``s3://``, any fsspec scheme) of

          - arrays: ``.npz``, idx, ``.npy``, MATLAB; one file, or a folder or glob of the files of
            one set. Names say what they are, see `lib.images.roles`;
          - CSV, with a label and the pixels of a grey image in each line;
          - a folder for each class, of PNG or JPEG, see `lib.images.pictures`;
          - CIFAR-10 or CIFAR-100, for Python or as binary version, see `lib.images.cifar_files`;
          - any of these packed by gzip, bzip2 or xz, or in a zip or tar archive.

        A relative path is looked up in ``DATA_DIR`` and then in the repository.
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

    Returns
    -------
    ImageSet

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
    if size and not pictures.LEAST_SIDE <= size <= pictures.MOST_SIDE:
        raise ValueError(
            f"size is {size}: give {pictures.LEAST_SIDE} to {pictures.MOST_SIDE} pixels, or 0 for "
            "images as they are"
        )
    place = str(fetch_keras(dataset)) if source == "keras" else source
    shown = redact(place)
    options = Options(
        is_grey=GREY[dataset],
        classes=tuple(classes),
        test_share=test_share,
        test_seed=test_seed,
        size=size,
        transpose=transpose,
    )
    parts, names = _read_source(place, columns, options)
    images = image_set(parts, names, options, shown)
    return take_images(images, n_train, n_test, seed=seed, name=shown)


def describe_images(images: ImageSet, dataset: str, source: str) -> dict[str, str | int]:
    """Return what there is to know about a data set before its values.

    Returns
    -------
    dict
        ``name`` (`dataset`, and ``_sample`` for a sample), ``source`` (without secrets), ``digest``
        (`images_digest`), ``n_rows`` (images of both parts), ``n_train``, ``n_test``,
        ``n_classes``; ``notes``, if there are any.
    """
    return {
        "name": f"{dataset}_sample" if source == "sample" else dataset,
        "source": redact(source),
        "digest": images_digest(images),
        "n_rows": len(images.y_train) + len(images.y_test),
        "n_train": len(images.y_train),
        "n_test": len(images.y_test),
        "n_classes": len(images.classes),
    } | ({"notes": "; ".join(images.notes)} if images.notes else {})


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


# Forms ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A file of a source: its path in it, what messages call it, and how to read it."""

    path: str
    place: str
    read: Callable[[], bytes]


def _read_source(
    source: str, columns: Sequence[str], options: Options
) -> tuple[dict[str, Pair], dict[int, str]]:
    """Return images and labels of each part, and the names of the labels as far as known."""
    shown = redact(source)
    entries = _entries(source, shown)
    cifar = cifar_files.read_set([(entry.path, entry.read) for entry in entries], shown)
    if cifar:
        arrays, names = cifar
        return {part: _named(*arrays[part], shown, part) for part in arrays}, dict(enumerate(names))
    shots = [e for e in entries if e.path.lower().endswith(pictures.ENDINGS)]
    if shots and (len(entries) > 1 or "/" in shots[0].path):
        _refuse_others(entries, shots, shown)
        files = [(entry.path, entry.read) for entry in shots]
        parts, names = pictures.read_pictures(files, shown, options.size)
        return parts, dict(enumerate(names))
    return _read_arrays(entries, columns, shown)


def _entries(source: str, shown: str) -> list[Entry]:
    """Return the files that a source is, of an archive those in it."""
    listed = list_files(source, hint='give "sample" or "keras"', deep=True)
    files = [(path, opened) for path, opened in listed if not _is_litter(path)]
    if not files:
        raise ValueError(f"{shown} holds no file of images: name a folder that does")
    if len(files) > 1:
        return [_entry(path, f"{shown}: {path}", opened, source) for path, opened in files]
    path, opened = files[0]
    content = unpacked(read_file(opened, source), shown)
    inside = members(content, shown)
    if inside is None:
        return [Entry(path, shown, lambda: content)]
    return [
        Entry(inner, f"{shown}: {inner}", lambda data=data: data)
        for inner, data in inside
        if not _is_litter(inner)
    ]


def _entry(path: str, place: str, opened: Callable, source: str) -> Entry:
    return Entry(path, place, lambda: read_file(opened, source))


def _is_litter(path: str) -> bool:
    """Whether a file is one that operating systems leave behind."""
    parts = path.split("/")
    hidden = any(part.startswith(".") and part.strip(".") for part in parts)
    return hidden or "__MACOSX" in parts or parts[-1] in ("Thumbs.db", "desktop.ini")


def _refuse_others(entries: Sequence[Entry], shots: Sequence[Entry], shown: str) -> None:
    """Raise where something lies among pictures that may be one too."""
    seen = {entry.path for entry in shots}
    for entry in entries:
        if entry.path not in seen and not entry.path.lower().endswith((*BESIDE, ".csv", ".mat")):
            raise ValueError(
                f"{entry.place} is no PNG or JPEG, as the {len(shots):,} others in {shown}: save "
                "it as one, or take it out"
            )


def _read_arrays(
    entries: Sequence[Entry], columns: Sequence[str], shown: str
) -> tuple[dict[str, Pair], dict[int, str]]:
    given = read_columns(columns, STANDARD, {})
    label = given["label"].names[0] if "label" in given and given["label"].names else ""
    arrays: list[Found] = []
    names: dict[int, str] = {}
    for entry in entries:
        if entry.path.lower().endswith("mapping.txt"):
            names = _mapped(entry.read(), entry.place)
        elif len(entries) == 1 or not _is_beside(entry.path):
            content = unpacked(entry.read(), entry.place)
            arrays += read_arrays(entry.path, content, entry.place, label)
    parts, found = pairs_of(arrays, given, shown)
    return parts, names or dict(enumerate(found))


def _is_beside(path: str) -> bool:
    base = path.rsplit("/", 1)[-1].upper()
    return path.lower().endswith(BESIDE) or base in ("README", "LICENSE", "LICENCE")


def _mapped(content: bytes, place: str) -> dict[int, str]:
    """Return the names of EMNIST's labels: lines of a label and the code of its letter."""
    lines = content.decode("utf-8", errors="replace").split("\n")
    try:
        rows = [line.split() for line in lines if line.strip()]
        return {int(row[0]): chr(int(row[1])) for row in rows}
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(
            f"{place} must hold a label and the code of its letter in each line ({error}): fetch "
            "it again, or take it out and give the names by classes"
        ) from error


def _named(x: np.ndarray, y: np.ndarray, shown: str, part: str) -> Pair:
    return Found("", "x", x, f"{shown}: x_{part}"), Found("", "y", y, f"{shown}: y_{part}")
