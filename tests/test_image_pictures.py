"""A folder of pictures for each class: read as it is, or refused by name."""

import io
from pathlib import Path

from lib.images.load import load_images

import numpy as np
import pytest
from image_files import refuses
from PIL import Image


def picture(rng, side=20, mode="RGB", kind="PNG", **options):
    """The bytes of a random picture, and its pixels."""
    shape = (side, side) if mode == "L" else (side, side, len(mode))
    pixels = rng.integers(0, 256, shape, np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels, mode if mode != "P" else None).save(packed, kind, **options)
    return packed.getvalue(), pixels


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def fill(tmp_path, rng):
    """Write pictures into folders of a new set; returns its path and their pixels by path."""

    def write(folders, n=4, **options):
        made = {}
        for folder in folders:
            for k in range(n):
                path = tmp_path / "set" / folder / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                data, made[f"{folder}/{k}.png"] = picture(rng, **options)
                path.write_bytes(data)
        return str(tmp_path / "set"), made

    return write


def put(root, path, data):
    Path(root, path).write_bytes(data)


def test_folders_are_classes_and_parts(fill):
    classes = ("cat", "dog", "sea horse")
    path, made = fill([f"{part}/{name}" for part in ("train", "test") for name in classes])
    images = load_images("cifar10", path)
    assert images.classes == classes and images.x_train.shape == (12, 20, 20, 3)
    assert images.y_test.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(images.x_test[5], made["test/dog/1.png"])


def test_folders_without_parts_are_split_and_numbers_are_in_order(fill):
    path, made = fill(["2", "10", "1"], n=10, mode="L")
    images = load_images("mnist", path)
    assert images.classes == ("1", "2", "10") and "split off as a test" in images.notes[0]
    seen = {x.tobytes(): int(y) for x, y in zip(images.x_train, images.y_train, strict=True)}
    seen |= {x.tobytes(): int(y) for x, y in zip(images.x_test, images.y_test, strict=True)}
    names = {pixels.tobytes(): name.split("/")[0] for name, pixels in made.items()}
    assert {key: images.classes[label] for key, label in seen.items()} == names


def test_a_folder_that_is_the_same_in_every_class_says_nothing(fill):
    path, _ = fill(["train/n01/images", "train/n02/images"], n=6)
    assert load_images("cifar10", path).classes == ("n01", "n02")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "test"], "has no folder for each class, as in test/0.png: give a folder that"),
        (["a/1", "a/2", "b/1", "b/2"], "has more than one level of folders, as in a/1/0.png"),
        (["a", "b", "b/c"], "b/c/0.png lies deeper or less deep than the others"),
        (["test/a", "test/b"], None),
    ],
)
def test_folders_that_do_not_say_the_class_are_refused(fill, folders, message):
    path, _ = fill(folders)
    if message:
        refuses("cifar10", path, message)
    else:  # one part called test: its name alone says nothing
        assert load_images("cifar10", path).classes == ("a", "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 15}, "a/x.png has 15 x 15 pixels: .* 16 to 96 pixels high; give size=16"),
        ({"side": 97}, "97 x 97 pixels: .* give size=96"),
        ({"side": 24}, "a/x.png has 24 x 24 pixels and a/0.png has 20 x 20: .* size=20"),
        ({"mode": "RGBA"}, "a/x.png is transparent in places"),
        ({"kind": "GIF"}, "a/x.png is cut short, damaged or no PNG or JPEG"),
    ],
)
def test_picture_that_cannot_be_used_is_named(fill, rng, options, message):
    path, _ = fill(["a", "b"])
    put(path, "a/x.png", picture(rng, **options)[0])
    refuses("cifar10", path, message)


def test_picture_that_is_cut_or_of_another_kind_is_named(fill, rng):
    path, _ = fill(["a", "b"])
    data = picture(rng)[0]
    for bad in (b"", data[:20], data[: len(data) // 2], b"text"):
        put(path, "b/x.png", bad)
        refuses("cifar10", path, "b/x.png is cut short, damaged or no PNG or JPEG")
    put(path, "b/x.png", data)
    put(path, "b/x.webp", data)
    refuses("cifar10", path, "b/x.webp is no PNG or JPEG, as the 9 others")


def test_sixteen_bits_are_not_halved(fill):
    path, _ = fill(["a", "b"], mode="L")
    packed = io.BytesIO()
    Image.fromarray(np.full((20, 20), 999, np.uint16)).save(packed, "PNG")
    put(path, "a/x.png", packed.getvalue())
    refuses("mnist", path, "a/x.png has pixels of the kind I;16: save it in grey or .* 8 bits")


def test_size_cuts_out_the_middle(fill, rng):
    path, _ = fill(["a", "b"], n=6)
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200  # the middle square
    packed = io.BytesIO()
    Image.fromarray(wide).save(packed, "PNG")
    put(path, "a/x.png", packed.getvalue())
    images = load_images("cifar10", path, size=32)
    seen = [*images.x_train, *images.x_test]
    assert seen[0].shape == (32, 32, 3) and any((x[:, 2:-2] == 200).all() for x in seen)
    with pytest.raises(ValueError, match="size is 8: give 16 to 96"):
        load_images("cifar10", path, size=8)


def test_jpeg_and_a_grey_one_among_colours_are_read(fill, rng):
    path, _ = fill(["a", "b"], n=6)
    data, _ = picture(rng, kind="JPEG")
    put(path, "a/x.JPG", data)
    grey, pixels = picture(rng, mode="L")
    put(path, "b/y.png", grey)
    images = load_images("cifar10", path)
    seen = {x.tobytes() for x in (*images.x_train, *images.x_test)}
    assert len(seen) == 14 and np.stack([pixels] * 3, axis=-1).tobytes() in seen
    assert np.asarray(Image.open(io.BytesIO(data))).tobytes() in seen


def test_glob_of_pictures_keeps_the_folders_that_are_classes(fill):
    path, _ = fill(["train/a", "train/b"], n=6)
    assert load_images("cifar10", f"{path}/train/*/*.png").classes == ("a", "b")
