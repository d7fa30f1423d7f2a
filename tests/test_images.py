"""Loading images: every accepted form gives the same set, every broken one a clear error."""

import functools
import gzip
import hashlib
import http.server
import importlib.util
import lzma
import pickle
import threading
from pathlib import Path

from lib.images import cifar_files
from lib.images.load import KERAS_FILES, fetch_keras, load_images
from lib.images.sets import images_digest

import image_files
import numpy as np
import pytest
from image_files import (
    FOLDER,
    PACK,
    batches_of,
    python2_pickle,
    refuses,
    same,
    tar_of,
)

digits, objects, put = image_files.digits, image_files.objects, image_files.put


# What is read


def test_npz_of_keras_is_loaded_as_it_is(put, digits, objects):
    images = load_images("mnist", put(digits))
    assert same(images, digits) and images.classes == tuple("0123456789")
    images = load_images("cifar10", put(objects))
    assert same(images, objects) and images.classes == tuple("0123456789")  # frogs? nobody says
    names = np.array(cifar_files.CLASSES)
    assert load_images("cifar10", put(objects | {"classes": names})).classes[6] == "frog"


def test_label_of_one_part_alone_and_labels_of_two_kinds_are_refused(put, digits):
    odd = digits | {"y_train": np.where(np.arange(100) == 41, -1, digits["y_train"].astype("i8"))}
    refuses("mnist", put(odd), "y_test must hold each of the 11 classes and has no -1: ")
    refuses("mnist", put(digits | {"y_test": digits["y_test"].astype(str)}), "numbers as labels in")


@pytest.mark.slow
def test_whole_numbers_of_any_type_are_pixels_and_labels(put, digits):
    for dtype in ("<i8", ">i2", "f4", "f8"):
        assert same(
            load_images("mnist", put({k: a.astype(dtype) for k, a in digits.items()})), digits
        )


@pytest.mark.parametrize("dtype", ["i1", "u2", "<i8", ">i4"])
def test_axes_of_one_and_any_integer_labels_give_the_same_set(put, digits, dtype):
    loose = {
        name: array[..., None] if name[0] == "x" else array[:, None].astype(dtype)
        for name, array in digits.items()
    }
    loose["x_test"] = np.asfortranarray(loose["x_test"])
    assert same(load_images("mnist", put(loose)), digits)


@pytest.mark.parametrize("ending", PACK)
def test_archive_of_any_packing_gives_the_set_of_the_npz(put, objects, ending):
    path = put(PACK[ending](tar_of(batches_of(objects))), f"cifar.{ending}")
    images = load_images("cifar10", path)
    assert same(images, objects) and images.classes == cifar_files.CLASSES
    assert images_digest(images) == images_digest(load_images("cifar10", put(objects)))


@pytest.mark.slow
def test_format_is_told_by_the_bytes_and_not_by_the_name(put, objects):
    packed = lzma.compress(tar_of(batches_of(objects)))
    assert same(load_images("cifar10", put(packed, "cifar.npz")), objects)


def test_order_and_folder_of_members_do_not_matter(put, objects):
    files = dict(reversed(batches_of(objects).items()))
    files |= {"readme.html": b"<html>", "._data_batch_1": b"", "data_batch_6": b"no pickle"}
    images = load_images("cifar10", put(tar_of(files, "a/b"), "x.tar"))
    assert same(images, objects)
    assert images.notes == ("not read, as no images: a/b/readme.html, a/b/data_batch_6",)


@pytest.mark.parametrize("given", ["", FOLDER])
def test_folder_of_batches_is_read_as_the_archive(put, tmp_path, objects, given):
    for name, data in batches_of(objects).items():
        put(data, f"cifar/{FOLDER}/{name}")
    assert same(load_images("cifar10", str(tmp_path / "cifar" / given)), objects)


def test_pixels_are_put_in_rows_and_channels_last(put, objects):
    planes = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    batch = pickle.dumps({"data": planes, "labels": [3, 1, 0, 9] * 5})
    files = batches_of(objects) | {"data_batch_1": batch}
    images = load_images("cifar10", put(tar_of(files), "x.tar"))
    x = images.x_train
    assert images.y_train[:4].tolist() == [3, 1, 0, 9]
    for image, row, column, channel in [(0, 0, 0, 0), (1, 5, 7, 2), (3, 31, 0, 1)]:
        expected = planes[image, 1024 * channel + 32 * row + column]
        assert x[image, row, column, channel] == expected


def test_pickles_of_python_2_are_read(put, objects):
    files = batches_of(objects)
    rows = slice(0, 20)
    planes = objects["x_train"][rows].transpose(0, 3, 1, 2).reshape(20, -1)
    old = python2_pickle(planes, objects["y_train"][rows].tolist())
    assert pickle.loads(old, encoding="bytes")[b"data"].tolist() == planes.tolist()
    files["data_batch_1"] = old
    assert same(load_images("cifar10", put(tar_of(files), "x.tar")), objects)


def test_url_and_path_in_data_dir_are_read(put, tmp_path, digits, objects, monkeypatch):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/images/mnist.npz", Path(put(digits)).read_bytes())
    assert same(load_images("mnist", "memory://images/mnist.npz"), digits)
    for name, data in batches_of(objects).items():
        memory.pipe(f"/cifar/{name}", data)
    assert same(load_images("cifar10", "memory://cifar"), objects)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    put(digits, "raw/digits.npz")
    assert same(load_images("mnist", "raw/digits.npz"), digits)


def test_nothing_is_written_beside_the_archive(put, tmp_path, objects, monkeypatch):
    files = tar_of(batches_of(objects), "../outside")
    path = put(files, "in/x.tar")
    monkeypatch.chdir(tmp_path / "in")
    load_images("cifar10", path)
    assert [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*"))] == [
        "in",
        "in/x.tar",
    ]


# What is refused: the request


def test_source_that_is_nowhere_says_what_else_there_is(tmp_path):
    with pytest.raises(ValueError, match='no file matches .* give "sample" or "keras"'):
        load_images("mnist", "no/such.npz")
    with pytest.raises(ValueError, match="holds no file: name another one"):
        load_images("cifar10", str(tmp_path))


def test_several_files_are_not_guessed_among(put, tmp_path, digits):
    put(digits, "a.npz"), put(digits, "b.npz")
    with pytest.raises(ValueError, match="a.npz: x_train and .*b.npz: x_train are both x_train"):
        load_images("mnist", str(tmp_path))


def test_no_message_shows_a_key_of_a_url():
    with pytest.raises(ValueError, match="127.0.0.1") as caught:
        load_images("mnist", "https://127.0.0.1:1/x.npz?token=geheim")
    assert "geheim" not in str(caught.value)


# What is refused: arrays


@pytest.mark.parametrize(
    ("dataset", "part", "change", "message"),
    [
        ("mnist", "x_train", lambda x: x[:, 2:], "26 x 28 pixels: .* square.* give size=26"),
        ("mnist", "x_test", lambda x: x.reshape(20, -1), r"give x.reshape\(-1, 28, 28\)"),
        ("mnist", "x_test", lambda x: x[0], r"shape \(n, side, side\), .* shape \(28, 28\)"),
        ("mnist", "x_test", lambda x: np.uint8(1), r"\(n, side, side\), .* shape \(\)"),
        ("mnist", "x_test", lambda x: x[:, :15, :15], "15 x 15 pixels: .* 16 to 96 .* size=16"),
        (
            "mnist",
            "x_test",
            lambda x: x[:, 2:26, 2:26],
            r"has 24 x 24 pixels and .* x_train has 28 x 28: .* size=24",
        ),
        ("cifar10", "x_train", lambda x: x[..., 0], r"is grey, .* run PIPELINE=mnist"),
        ("cifar10", "x_train", lambda x: x.transpose(0, 3, 1, 2), r"give x.transpose.0, 2, 3, 1."),
        ("mnist", "x_train", lambda x: x / 255, "none above 1: .* raw pixels, .*x . 255"),
        (
            "mnist",
            "x_train",
            lambda x: x / 2,
            "whole numbers .*: image 0 has .* at row 0, col",
        ),
        (
            "mnist",
            "x_train",
            lambda x: x.astype("i8") - 1,
            "whole numbers .*: .* has -1 at",
        ),
        ("mnist", "x_train", lambda x: x // 255, "none above 1: give the raw pixels"),
        ("mnist", "x_train", lambda x: x * 0, "none above 1"),
        ("mnist", "x_test", lambda x: x[:0], "is empty: give"),
        ("mnist", "y_train", lambda y: y[:-1], "each of the 100 images, not uint8 of shape .99,."),
        ("mnist", "y_train", lambda y: np.eye(10)[y], r"not float64 of .*: give y.argmax.axis=1."),
        ("mnist", "y_test", lambda y: y + 0.5, "must be whole numbers or names, .* not float64"),
        ("mnist", "y_test", lambda y: y > 4, "must be whole numbers or names, .* not bool"),
        (
            "cifar10",
            "y_test",
            lambda y: np.where(y == 6, 0, np.where(y == 9, 1, y)),
            r"must hold each of the 10 classes and has no 6, 9: leave these out of the other",
        ),
    ],
)
def test_array_that_breaks_a_rule_is_named(put, digits, objects, dataset, part, change, message):
    arrays = digits if dataset == "mnist" else objects
    path = put(arrays | {part: change(arrays[part])})
    refuses(dataset, path, f"images.npz: {part} .*{message}")


# Keras' files


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_address_and_hash_are_those_in_keras_source(dataset):
    keras = Path(importlib.util.find_spec("keras").submodule_search_locations[0])
    text = (keras / "src" / "datasets" / f"{dataset}.py").read_text()
    url, sha256 = KERAS_FILES[dataset]
    folder, name = url.rsplit("/", 1)
    assert f'"{sha256}"' in text
    assert f'"{url}"' in text or (f'"{folder}/"' in text and "{origin_folder}" + name in text)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of the folder `web` below `tmp_path`; gives its address and what was asked."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            asked.append(self.path)

    (tmp_path / "web").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "web"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_keras_file_is_fetched_once_and_checked(put, tmp_path, server, digits, monkeypatch):
    address, asked = server
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    sha256 = hashlib.sha256(Path(put(digits, "web/mnist.npz")).read_bytes()).hexdigest()
    monkeypatch.setitem(KERAS_FILES, "mnist", (f"{address}/mnist.npz", sha256))
    put(b"my own file", "mnist.npz")
    assert same(load_images("mnist", "keras"), digits)
    assert same(load_images("mnist", "keras"), digits)
    assert asked == ["/mnist.npz"]
    assert (tmp_path / "mnist.npz").read_bytes() == b"my own file"
    put(b"damaged", "keras/mnist.npz")
    assert same(load_images("mnist", "keras"), digits) and len(asked) == 2


def test_keras_archive_is_read_as_any_other(put, tmp_path, server, objects, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    packed = gzip.compress(tar_of(batches_of(objects)))
    put(packed, "web/cifar-10-python.tar.gz")
    sha256 = hashlib.sha256(packed).hexdigest()
    monkeypatch.setitem(KERAS_FILES, "cifar10", (f"{server[0]}/cifar-10-python.tar.gz", sha256))
    assert same(load_images("cifar10", "keras"), objects)


def test_download_with_other_content_is_refused_and_not_kept(put, tmp_path, server, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    put(b"something else", "web/mnist.npz")
    sha256 = KERAS_FILES["mnist"][1]
    monkeypatch.setitem(KERAS_FILES, "mnist", (f"{server[0]}/mnist.npz", sha256))
    with pytest.raises(ValueError, match=f"of SHA-256 {sha256}, cannot be had"):
        fetch_keras("mnist")
    assert list((tmp_path / "keras").iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "name"), [("mnist", "mnist.npz"), ("cifar10", "cifar-10-python.tar.gz")]
)
def test_keras_without_a_network_names_the_alternatives(tmp_path, monkeypatch, dataset, name):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(KERAS_FILES, dataset, (f"http://127.0.0.1:1/{name}", "0" * 64))
    message = f'ConnectionError.*(?s:.*)Without a network give the path of {name}, or "sample"'
    with pytest.raises(ValueError, match=message):
        load_images(dataset, "keras")
