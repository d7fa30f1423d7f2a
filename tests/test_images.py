"""Loading images: every accepted form gives the same set, every broken one a clear error."""

import bz2
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import lzma
import pickle
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

from lib.images import cifar_files
from lib.images.load import (
    CLASSES,
    KERAS_FILES,
    count_duplicates,
    count_images,
    describe_images,
    fetch_keras,
    images_digest,
    load_images,
    split_validation,
)
from lib.run import data_dir

import numpy as np
import pytest

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MNIST, CIFAR = data_dir() / "mnist.npz", data_dir() / "cifar-10-python.tar.xz"
FOLDER = "cifar-10-batches-py"
PACK = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def arrays_of(shape, n_train=100, n_test=20):
    """Random arrays in Keras' layout, of ten balanced classes."""
    rng = np.random.default_rng(3)
    made = {}
    for part, n in (("train", n_train), ("test", n_test)):
        made[f"x_{part}"] = rng.integers(0, 256, (n, *shape), np.uint8)
        made[f"y_{part}"] = rng.permutation(np.arange(n, dtype=np.uint8) % 10)
    return made


@pytest.fixture
def digits():
    return arrays_of((28, 28))


@pytest.fixture
def objects():
    return arrays_of((32, 32, 3))


@pytest.fixture
def put(tmp_path):
    """Write arrays or bytes to a file and return its path."""

    def write(content, name="images.npz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez_compressed(path, **content)
        return str(path)

    return write


def python2_pickle(planes, labels):
    """A batch as Python 2 wrote it with protocol 2: keys, type codes and pixels are `str`."""

    def text(value):
        return pickle.BINSTRING + struct.pack("<i", len(value)) + value

    def whole(value):
        return pickle.BININT + struct.pack("<i", value)

    def name(module, attribute):
        return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()

    def pair(*values):
        return pickle.MARK + b"".join(values) + pickle.TUPLE

    shape = pair(whole(len(planes)), whole(3072))
    dtype = name("numpy", "dtype") + pair(text(b"u1"), whole(0), whole(1)) + pickle.REDUCE
    none = pickle.NONE
    order = pair(whole(3), text(b"|"), none, none, none, whole(-1), whole(-1), whole(0))
    array = name("numpy.core.multiarray", "_reconstruct")
    array += pair(name("numpy", "ndarray"), pair(whole(0)), text(b"b")) + pickle.REDUCE
    state = pair(whole(1), shape, dtype + order + pickle.BUILD, b"I00\n", text(planes.tobytes()))
    array += state + pickle.BUILD
    numbers = pickle.EMPTY_LIST + pickle.MARK + b"".join(map(whole, labels)) + pickle.APPENDS
    items = text(b"batch_label") + text(b"batch 1") + text(b"labels") + numbers
    items += text(b"data") + array
    return pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK + items + b"u" + pickle.STOP


def batch(x, y, write=pickle.dumps):
    planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return write({b"data": planes.copy(), b"labels": [int(label) for label in y]})


def batches_of(arrays, write=pickle.dumps):
    """What the files of the official folder hold, by their names."""
    x, y = arrays["x_train"], arrays["y_train"]
    size = len(x) // 5
    parts = {f"data_batch_{k + 1}": slice(k * size, (k + 1) * size) for k in range(5)}
    files = {name: batch(x[rows], y[rows], write) for name, rows in parts.items()}
    names = {"num_cases_per_batch": size, "label_names": list(CLASSES["cifar10"])}
    meta = {"test_batch": batch(arrays["x_test"], arrays["y_test"], write)}
    return files | meta | {"batches.meta": write(names)}


def tar_of(files, folder=FOLDER):
    """A plain tar archive of names and bytes, in their order, or of TarInfo without bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def same(images, arrays):
    for name in ARRAYS:
        found = getattr(images, name)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, arrays[name])
    return True


# What is read


def test_npz_of_keras_is_loaded_as_it_is(put, digits, objects):
    images = load_images("mnist", put(digits))
    assert same(images, digits) and images.classes == tuple("0123456789")
    images = load_images("cifar10", put(objects))
    assert same(images, objects) and images.classes[6] == "frog"


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
    assert same(images, objects)
    assert images_digest(images) == images_digest(load_images("cifar10", put(objects)))


def test_format_is_told_by_the_bytes_and_not_by_the_name(put, objects):
    packed = lzma.compress(tar_of(batches_of(objects)))
    assert same(load_images("cifar10", put(packed, "cifar.npz")), objects)


def test_order_and_folder_of_members_do_not_matter(put, objects):
    files = dict(reversed(batches_of(objects).items()))
    files |= {"readme.html": b"<html>", "._data_batch_1": b"", "data_batch_6": b"no pickle"}
    assert same(load_images("cifar10", put(tar_of(files, "a/b"), "x.tar")), objects)


@pytest.mark.parametrize("given", ["", FOLDER])
def test_folder_of_batches_is_read_as_the_archive(put, tmp_path, objects, given):
    for name, data in batches_of(objects).items():
        put(data, f"cifar/{FOLDER}/{name}")
    assert same(load_images("cifar10", str(tmp_path / "cifar" / given)), objects)


def test_pixels_are_put_in_rows_and_channels_last():
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (4, 3072), np.uint8)
    data = pickle.dumps({"data": planes, "labels": [3, 1, 0, 9]})
    x, y = cifar_files.read_batch(data, "here")
    assert y.tolist() == [3, 1, 0, 9]
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


def test_unknown_dataset_and_empty_source_say_what_there_is():
    with pytest.raises(ValueError, match="dataset is 'mnist10': give one of mnist, cifar10"):
        load_images("mnist10", "sample")
    with pytest.raises(ValueError, match='give "sample", "keras", a path or a URL'):
        load_images("mnist", "")


def test_source_that_is_nowhere_says_what_else_there_is(tmp_path):
    with pytest.raises(ValueError, match='no file matches .* give "sample" or "keras"'):
        load_images("mnist", "no/such.npz")
    with pytest.raises(ValueError, match=r"no file in the folder .* data_batch_1, .*"):
        load_images("cifar10", str(tmp_path))


def test_several_files_are_not_guessed_among(put, tmp_path, digits):
    put(digits, "a.npz"), put(digits, "b.npz")
    with pytest.raises(ValueError, match=r"is 2 files, a.npz and others: name one"):
        load_images("mnist", str(tmp_path))


def test_no_message_shows_a_key_of_a_url():
    with pytest.raises(ValueError, match="127.0.0.1") as caught:
        load_images("mnist", "https://127.0.0.1:1/x.npz?token=geheim")
    assert "geheim" not in str(caught.value)


# What is refused: files


def refuses(dataset, path, message):
    """Loading raises the message, which names the file."""
    with pytest.raises(ValueError, match=message) as caught:
        load_images(dataset, path)
    assert Path(path).name in str(caught.value)
    return str(caught.value)


def test_missing_arrays_are_named_with_those_that_are_there(put, digits):
    del digits["y_test"], digits["x_test"]
    refuses("mnist", put(digits), "has no array x_test, y_test; it has x_train, y_train. Expected")


def test_zip_of_anything_else_is_no_npz(put):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x_train", "text")
        archive.writestr("readme.txt", "text")
    refuses("mnist", put(packed.getvalue()), "no array x_train, .*; it has x_train, readme.txt")


def test_npz_of_python_objects_is_refused(put, digits):
    digits["y_train"] = digits["y_train"].astype(object)
    refuses("mnist", put(digits), "no .npz of plain numbers .*allow_pickle=False")


def test_file_of_another_kind_is_refused(put):
    refuses("mnist", put(b"\x1f\x8b\x08\x00rest", "x.gz"), r"begins with b'\\x1f")
    refuses("cifar10", put(b"no archive at all", "x.tar"), "no tar archive")
    refuses("mnist", put(b"", "x.npz"), "is empty")


def test_npz_that_is_cut_or_changed_is_refused(put, digits):
    whole = Path(put(digits)).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for data in (whole[:2], whole[: len(whole) // 2], whole[:-10], bytes(changed)):
        refuses("mnist", put(data, "cut.npz"), "is cut short, damaged or .*: fetch it again")


@pytest.mark.parametrize("ending", PACK)
def test_archive_that_is_cut_is_refused(put, objects, ending):
    whole = PACK[ending](tar_of(batches_of(objects)))
    for size in (3, 700, len(whole) // 2, len(whole) - 2):
        if ending == "tar" and size > len(whole) - 1024:
            continue  # it ends in padding, without which it is whole
        refuses("cifar10", put(whole[:size], "cut"), "cut short")


@pytest.mark.parametrize("ending", ["tar.gz", "tar.bz2", "tar.xz"])
def test_archive_with_a_changed_byte_is_refused(put, objects, ending):
    changed = bytearray(PACK[ending](tar_of(batches_of(objects))))
    changed[len(changed) // 2] ^= 255
    refuses("cifar10", put(bytes(changed), "changed"), "is cut short, damaged or no (tar|file)")


def test_check_sum_at_the_end_of_an_archive_is_looked_at(put, objects):
    changed = bytearray(gzip.compress(tar_of(batches_of(objects))))
    changed[-6] ^= 255
    refuses("cifar10", put(bytes(changed), "x.tar.gz"), "CRC check failed")


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch", "batches.meta"])
def test_missing_batch_is_named_in_archive_and_folder(put, tmp_path, objects, name):
    files = batches_of(objects)
    del files[name]
    refuses("cifar10", put(tar_of(files), "x.tar"), f"has no {name}: CIFAR-10 is data_batch_1, ")
    for other, data in files.items():
        put(data, f"{FOLDER}/{other}")
    refuses("cifar10", str(tmp_path / FOLDER), f"has no {name}: CIFAR-10 is ")


def test_link_in_place_of_a_batch_is_not_followed(put, objects):
    files = batches_of(objects)
    link = tarfile.TarInfo(f"{FOLDER}/data_batch_2")
    link.type, link.linkname = tarfile.SYMTYPE, "data_batch_1"
    refuses("cifar10", put(tar_of(files | {"data_batch_2": link}), "x.tar"), "has no data_batch_2")


def test_batch_that_is_there_twice_is_refused(put, objects):
    files = batches_of(objects)
    twice = {**files, "again/data_batch_1": files["data_batch_2"]}
    refuses("cifar10", put(tar_of(twice), "x.tar"), "x.tar: data_batch_1 is there twice")


def test_other_classes_than_those_of_cifar10_are_refused(put, objects):
    files = batches_of(objects)
    files["batches.meta"] = pickle.dumps({"label_names": sorted(CLASSES["cifar10"])[::-1]})
    refuses("cifar10", put(tar_of(files), "x.tar"), "batches.meta names the classes truck, ship")


PLANES = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1, 2]}, r"data must be a uint8 array of shape \(n, 3072\), found NoneType"),
        ({"data": PLANES[:, :3000], "labels": [1, 2]}, r"found of shape \(2, 3000\)"),
        ({"data": PLANES / 255, "labels": [1, 2]}, "an array of type f8, not of rows of u1"),
        ({"data": PLANES.copy("F"), "labels": [1, 2]}, "not of rows of u1"),
        ({"data": PLANES}, "labels must be a list of whole numbers"),
        ({"data": PLANES, "labels": [1, 2.5]}, "labels must be a list of whole numbers"),
        ({"data": PLANES, "labels": [1]}, "labels must have one label for each of the 2 images"),
        ({"data": PLANES, "labels": [1, 10]}, "labels must be from 0 to 9: row 1 has 10"),
        ({"data": PLANES, "labels": [1, 10**30]}, "labels must be integers from 0 to 9"),
        ([1, 2], "no file of CIFAR-10"),
    ],
)
def test_batch_that_breaks_a_rule_is_named(put, objects, content, message):
    files = batches_of(objects) | {"data_batch_3": pickle.dumps(content)}
    refuses("cifar10", put(tar_of(files), "x.tar"), f"x.tar: data_batch_3.*{message}")


def test_batch_that_is_cut_is_named(put, tmp_path, objects):
    files = batches_of(objects)
    whole = files["data_batch_5"]
    for data in (b"", whole[: len(whole) // 2], whole[:-1], b"text", whole[:10] + b"\xff" * 50):
        path = put(tar_of(files | {"data_batch_5": data}), "x.tar")
        refuses("cifar10", path, "x.tar: data_batch_5 is cut short, damaged")


class Call:
    """What pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_pickle_that_calls_anything_is_refused_and_the_call_does_not_happen(
    put, tmp_path, objects, protocol, name
):
    made = tmp_path / "made"
    evil = pickle.dumps({"data": Call(Path.touch, made)}, protocol)
    plain = pickle.dumps({"data": Call(exec, f"open({str(made)!r}, 'w')")}, protocol)
    files = batches_of(objects)
    refuses("cifar10", put(tar_of(files | {name: plain}), "x.tar"), f"{name} .* asks for .*.exec")
    refuses("cifar10", put(tar_of(files | {name: evil}), "x.tar"), f"{name} .* not called")
    assert not made.exists()
    with pytest.raises(FileExistsError):  # the same pickle does its deed where it is let
        pickle.loads(plain), made.touch(exist_ok=False)


@pytest.mark.parametrize(
    "name",
    ["numpy fromfile", "numpy load", "numpy ndarray.tofile", "builtins eval", "copyreg _extension"],
)
def test_no_other_name_is_looked_up_whatever_its_module(put, objects, name):
    module, attribute = name.split()
    data = (
        pickle.PROTO
        + b"\4"
        + b"".join(
            pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
            for text in (module, attribute)
        )
    )
    files = batches_of(objects) | {"test_batch": data + pickle.STACK_GLOBAL + pickle.STOP}
    refuses("cifar10", put(tar_of(files), "x.tar"), f"asks for {module}.{attribute},")


def test_stand_ins_cannot_be_changed_by_a_pickle(put, objects):
    files = batches_of(objects)
    for name in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"):
        files["data_batch_1"] = name + b"}(V__setstate__\nI1\nub."  # sets an attribute of the class
        refuses("cifar10", put(tar_of(files), "x.tar"), "data_batch_1 is cut short, damaged")
    assert callable(cifar_files.Array.__setstate__) and callable(cifar_files.DType.__setstate__)


# What is refused: arrays


@pytest.mark.parametrize(
    ("dataset", "part", "change", "message"),
    [
        ("mnist", "x_train", lambda x: x[:, 2:], r"shape \(n, 28, 28\), not \(100, 26, 28\)$"),
        ("mnist", "x_test", lambda x: x.reshape(20, -1), r"shape \(n, 28, 28\), not \(20, 784\)"),
        ("mnist", "x_test", lambda x: x[0], r"shape \(n, 28, 28\), not \(28, 28\)"),
        ("mnist", "x_test", lambda x: np.uint8(1), r"shape \(n, 28, 28\), not \(\)"),
        ("cifar10", "x_train", lambda x: x[..., 0], r"shape \(n, 32, 32, 3\), not \(100, 32, 32"),
        (
            "cifar10",
            "x_train",
            lambda x: x.transpose(0, 3, 1, 2),
            r"not \(100, 3, 32, 32\): put the channels last",
        ),
        ("mnist", "x_train", lambda x: x / 255, "uint8 .*, not float64: give the raw pixels"),
        ("mnist", "x_train", lambda x: x.astype("i8"), "must be uint8 from 0 to 255, not int64"),
        ("mnist", "x_train", lambda x: x // 255, "none is above 1: give the raw pixels"),
        ("mnist", "x_train", lambda x: x * 0 + 7, "every pixel is 7"),
        ("mnist", "x_test", lambda x: x[:0], "holds no images"),
        ("mnist", "y_train", lambda y: y[:-1], "for each of the 100 images, not 99"),
        ("mnist", "y_train", lambda y: np.eye(10)[y], r"shape \(n,\) or \(n, 1\), not \(100, 10\)"),
        ("mnist", "y_test", lambda y: y / 1, "must be integers from 0 to 9, not float64"),
        ("mnist", "y_test", lambda y: y > 4, "must be integers from 0 to 9, not bool"),
        ("mnist", "y_test", lambda y: y.astype(str), "must be integers from 0 to 9, not <U"),
        (
            "mnist",
            "y_train",
            lambda y: np.where(np.arange(100) == 41, 10, y),
            "must be from 0 to 9: row 41 has 10$",
        ),
        (
            "cifar10",
            "y_test",
            lambda y: np.where(np.arange(20) > 17, -1, y.astype("i8")),
            r"must be from 0 to 9: row 18 has -1 \(2 such rows\)",
        ),
        (
            "cifar10",
            "y_test",
            lambda y: np.where(y == 6, 0, np.where(y == 9, 1, y)),
            r"must hold all ten classes and has no 6 \(frog\), 9 \(truck\)",
        ),
    ],
)
def test_array_that_breaks_a_rule_is_named(put, digits, objects, dataset, part, change, message):
    arrays = digits if dataset == "mnist" else objects
    path = put(arrays | {part: change(arrays[part])})
    refuses(dataset, path, f"images.npz: {part} .*{message}")


# How many


def test_part_of_a_set_is_stratified_in_order_and_made_of_its_images(put, digits):
    digits["x_train"][:, 0, 0] = np.arange(100)  # the row, to know it again
    images = load_images("mnist", put(digits), n_train=30, n_test=10, seed=5)
    assert count_images(images)["train"].tolist() == [3] * 10
    assert count_images(images)["test"].tolist() == [1] * 10
    rows = images.x_train[:, 0, 0].astype(int)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(images.x_train, digits["x_train"][rows])
    np.testing.assert_array_equal(images.y_train, digits["y_train"][rows])


def test_part_depends_on_the_seed_alone_and_all_are_left_as_they_are(put, digits):
    path = put(digits)
    one, again, other = (load_images("mnist", path, n_train=30, seed=s) for s in (1, 1, 2))
    assert images_digest(one) == images_digest(again) != images_digest(other)
    np.testing.assert_array_equal(one.x_test, digits["x_test"])
    np.testing.assert_array_equal(one.y_test, digits["y_test"])


def test_all_of_them_by_number_is_the_whole_set(put, digits):
    assert same(load_images("mnist", put(digits), n_train=100, n_test=20, seed=9), digits)


def test_more_than_there_are_says_how_many_there_are(put, digits):
    with pytest.raises(ValueError, match="images.npz has 100 train images: n_train is 1,000"):
        load_images("mnist", put(digits), n_train=1000)
    with pytest.raises(ValueError, match="images.npz has 20 test images: n_test is 21"):
        load_images("mnist", put(digits), n_test=21)


@pytest.mark.parametrize("source", ["sample", "file"])
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
@pytest.mark.parametrize("n_rows", [-1, 9])
def test_too_few_for_ten_classes_are_refused(put, digits, objects, dataset, source, n_rows):
    source = source if source == "sample" else put(digits if dataset == "mnist" else objects)
    with pytest.raises(ValueError, match=f"n_test is {n_rows}: give at least 10, .* or 0 for all"):
        load_images(dataset, source, n_test=n_rows)


# Facts


def test_images_are_counted_by_class_name(put, objects):
    table = count_images(load_images("cifar10", put(objects)))
    assert list(table.columns) == ["train", "test"] and table.index.name == "class"
    assert tuple(table.index) == CLASSES["cifar10"]
    assert table.loc["frog"].to_dict() == {"train": 10, "test": 2}
    objects["y_train"][:] = [0] * 91 + list(range(1, 10))
    assert count_images(load_images("cifar10", put(objects)))["train"].tolist() == [91] + [1] * 9


def test_repeats_are_counted_by_hand(put, digits):
    images = load_images("mnist", put(digits))
    assert count_duplicates(images) == {"within_train": 0, "within_test": 0, "across": 0}
    digits["x_train"][[5, 7, 9]] = digits["x_train"][0]  # one image four times
    digits["x_test"][[1, 2]] = digits["x_train"][0]  # and twice in the test
    digits["x_test"][3] = digits["x_train"][50]
    digits["x_test"][4] = digits["x_train"][50].T  # not the same
    images = load_images("mnist", put(digits))
    assert count_duplicates(images) == {"within_train": 3, "within_test": 1, "across": 3}


@pytest.mark.parametrize("name", ARRAYS)
def test_digest_sees_every_pixel_label_and_shape(put, digits, name):
    images = load_images("mnist", put(digits))
    changed = getattr(images, name).copy()
    changed.flat[-1] ^= 1
    assert images_digest(replace(images, **{name: changed})) != images_digest(images)
    reshaped = getattr(images, name)[None]
    assert images_digest(replace(images, **{name: reshaped})) != images_digest(images)


def test_digest_does_not_depend_on_the_memory_layout(put, digits):
    images = load_images("mnist", put(digits))
    other = replace(images, x_train=np.asfortranarray(images.x_train))
    assert images_digest(other) == images_digest(images)


def test_description_names_the_set_and_hides_secrets(put, digits):
    images = load_images("mnist", put(digits))
    facts = describe_images(images, "mnist", "https://x.example/mnist.npz?token=geheim")
    assert facts == {
        "name": "mnist",
        "source": "https://x.example/mnist.npz?token=***",
        "digest": images_digest(images),
        "n_rows": 120,
        "n_train": 100,
        "n_test": 20,
        "n_classes": 10,
    }
    assert describe_images(images, "cifar10", "sample")["name"] == "cifar10_sample"


def test_set_cannot_be_rebound(put, digits):
    with pytest.raises(AttributeError):
        load_images("mnist", put(digits)).classes = ()


# Splits


@pytest.mark.parametrize("n_validation", [3, 17, 100, 500, 996])
def test_split_is_sorted_whole_and_by_the_share_of_each_class(n_validation):
    y = np.random.default_rng(1).choice([2, 5, 7], 1000, p=[0.7, 0.299, 0.001])
    y[[10, 20]] = 7  # a rare class
    train, validation = split_validation(y, n_validation, seed=3)
    assert train.dtype == validation.dtype == np.int64
    assert (len(train), len(validation)) == (1000 - n_validation, n_validation)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    for label in (2, 5, 7):
        in_both = (y[train] == label).sum(), (y[validation] == label).sum()
        assert min(in_both) >= 1
        assert abs(in_both[1] - n_validation * (y == label).mean()) < 2


def test_equal_classes_are_split_equally():
    y = np.repeat(np.arange(10), 50)
    for n_validation in (10, 100, 490):
        _, validation = split_validation(y, n_validation, seed=0)
        assert np.bincount(y[validation]).tolist() == [n_validation // 10] * 10


def test_split_depends_on_the_seed_alone_and_reaches_every_row():
    y = np.arange(100) % 10
    splits = [split_validation(y, 20, seed=seed)[1] for seed in range(40)]
    assert np.array_equal(splits[7], split_validation(y, 20, seed=7)[1])
    assert not np.array_equal(splits[0], splits[1])
    counts = np.bincount(np.concatenate(splits), minlength=100)
    assert counts.sum() == 800 and counts.min() >= 1 and counts.max() <= 20  # 8 expected


@pytest.mark.parametrize(
    ("y", "n_validation", "message"),
    [
        (np.arange(30) % 10, 9, "n_validation is 9: give 10 to 20, so that both parts of the 30"),
        (np.arange(30) % 10, 21, "n_validation is 21: give 10 to 20"),
        (np.arange(30) % 10, 0, "n_validation is 0: give 10 to 20"),
        (np.array([0, 0, 1]), 1, "class 1 has one row: two are needed"),
        (np.array([], int), 1, r"labels of some rows, of shape \(n,\), not \(0,\)"),
        (np.zeros((4, 1), int), 1, r"not \(4, 1\)"),
    ],
)
def test_split_that_is_impossible_says_what_is_possible(y, n_validation, message):
    with pytest.raises(ValueError, match=message):
        split_validation(y, n_validation, seed=0)


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
    with pytest.raises(ValueError, match=f"not the file that Keras expects, of SHA-256 {sha256}"):
        fetch_keras("mnist")
    assert list((tmp_path / "keras").iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "name"), [("mnist", "mnist.npz"), ("cifar10", "cifar-10-python.tar.gz")]
)
def test_keras_without_a_network_names_the_alternatives(tmp_path, monkeypatch, dataset, name):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(KERAS_FILES, dataset, (f"http://127.0.0.1:1/{name}", "0" * 64))
    message = f'ConnectionError.*Without a network give the path of {name}, or "sample"'
    with pytest.raises(ValueError, match=message):
        load_images(dataset, "keras")


# Real data


@pytest.mark.real
@pytest.mark.skipif(not MNIST.is_file(), reason="no real data")
def test_real_digits_are_those_that_everyone_knows():
    images = load_images("mnist", str(MNIST.resolve()))
    assert images.x_train.shape == (60_000, 28, 28) and images.x_test.shape == (10_000, 28, 28)
    table = count_images(images)
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert table["train"].tolist() == published
    assert table["test"].tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert images.y_test[:4].tolist() == [7, 2, 1, 0]
    assert round(images.x_train.mean() / 255, 4) == 0.1307  # published mean and deviation
    assert round(images.x_train.std() / 255, 4) == 0.3081
    assert count_duplicates(images) == {"within_train": 0, "within_test": 0, "across": 0}
    train, validation = split_validation(images.y_train, 5_000, seed=0)
    share = np.bincount(images.y_train[validation]) / 5_000
    assert len(train) == 55_000 and abs(share - np.array(published) / 60_000).max() < 2 / 5_000


@pytest.mark.real
@pytest.mark.skipif(not CIFAR.is_file(), reason="no real data")
def test_real_objects_are_those_that_everyone_knows():
    images = load_images("cifar10", str(CIFAR.resolve()))
    assert images.x_train.shape == (50_000, 32, 32, 3)
    assert images.x_test.shape == (10_000, 32, 32, 3)
    table = count_images(images)
    assert (table["train"] == 5000).all() and (table["test"] == 1000).all()
    assert [images.classes[label] for label in images.y_train[:3]] == ["frog", "truck", "truck"]
    assert [images.classes[label] for label in images.y_test[:2]] == ["cat", "ship"]
    mean = images.x_train.mean(axis=(0, 1, 2)) / 255  # published, red, green, blue
    assert mean.round(4).tolist() == [0.4914, 0.4822, 0.4465]
    assert images.x_train[0, 0, 0].tolist() == [59, 62, 63]  # of the frog, as Keras shows it
    assert count_duplicates(images) == {"within_train": 0, "within_test": 0, "across": 0}
