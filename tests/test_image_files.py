"""Files of images that are damaged, incomplete or evil: refused, by name and with the reason."""

import gzip
import io
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

from lib.formats import OTHERS

import image_files
import numpy as np
import pytest
from image_files import FOLDER, PACK, batches_of, refuses, tar_of

digits, objects, put = image_files.digits, image_files.objects, image_files.put


def test_missing_array_is_named(put, digits):
    del digits["y_test"]
    refuses(
        "mnist", put(digits), r"x_test as x_test and no y_test: .*columns=\[.x_test=…., .y_test"
    )


def test_zip_of_anything_else_is_no_npz(put):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("readme.txt", "text")
    refuses("mnist", put(packed.getvalue()), "images.npz: readme.txt is cut short, or of no form")


def test_npz_of_python_objects_is_refused(put, digits):
    digits["y_train"] = digits["y_train"].astype(object)
    refuses("mnist", put(digits), "y_train holds Python objects, which are not unpickled")


def test_file_of_another_kind_is_refused(put):
    refuses("mnist", put(b"\x1f\x8b\x08\x00rest", "x.gz"), "cut short or damaged")
    refuses("cifar10", put(b"no archive at all", "x.tar"), "or of no form that is known: make an")
    for dataset in ("mnist", "cifar10"):
        refuses(dataset, put(b"", "x.npz"), "is cut short, or of no form that is known")
    for begin, (words, _) in OTHERS.items():
        if not begin.startswith((b"PK", b"\x93NUMPY")):
            words = re.escape(words)
            refuses("mnist", put(begin + bytes(99), "x.bin"), f"x.bin is {words}: make an .npz")


@pytest.mark.parametrize(
    "content",
    [b"\0\0\x08", b"\0\0\x08\x20" + bytes(range(1, 129)), b"\0\0\x08\x03\0"],
    ids=["no dimension", "too many", "cut"],
)
def test_head_of_idx_that_cannot_be_is_refused(put, content):
    refuses("mnist", put(content, "train-images-idx3-ubyte"), "cut short")


def test_npz_that_is_cut_or_changed_is_refused(put, digits):
    whole = Path(put(digits)).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for data in (whole[:3], whole[: len(whole) // 2], whole[:-10], bytes(changed)):
        refuses("mnist", put(data, "cut.npz"), "is (an archive that is )?cut short")


@pytest.mark.parametrize("ending", PACK)
def test_archive_that_is_cut_is_refused(put, objects, ending):
    whole = PACK[ending](tar_of(batches_of(objects)))
    for size in (3, 700, len(whole) // 2, len(whole) - 2):
        if ending == "tar" and size > len(whole) - 1024:
            continue  # it ends in padding, without which it is whole
        refuses("cifar10", put(whole[:size], "cut"), "cut short|of no form")


@pytest.mark.parametrize("ending", ["tar.gz", "tar.bz2", "tar.xz"])
def test_archive_with_a_changed_byte_is_refused(put, objects, ending):
    changed = bytearray(PACK[ending](tar_of(batches_of(objects))))
    changed[len(changed) // 2] ^= 255
    refuses(
        "cifar10", put(bytes(changed), "changed"), "cut short(, damaged or no batch| or damaged)"
    )


def test_check_sum_at_the_end_of_an_archive_is_looked_at(put, objects):
    changed = bytearray(gzip.compress(tar_of(batches_of(objects))))
    changed[-6] ^= 255
    refuses("cifar10", put(bytes(changed), "x.tar.gz"), "CRC check failed")


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_missing_batch_is_named_in_archive_and_folder(put, tmp_path, objects, name):
    files = batches_of(objects)
    del files[name]
    refuses("cifar10", put(tar_of(files), "x.tar"), f"has no {name}: CIFAR is data_batch_1, ")
    for other, data in files.items():
        put(data, f"{FOLDER}/{other}")
    refuses("cifar10", str(tmp_path / FOLDER), f"has no {name}: CIFAR is ")


def test_link_in_place_of_a_batch_is_not_followed(put, objects):
    files = batches_of(objects)
    link = tarfile.TarInfo(f"{FOLDER}/data_batch_2")
    link.type, link.linkname = tarfile.SYMTYPE, "data_batch_1"
    refuses("cifar10", put(tar_of(files | {"data_batch_2": link}), "x.tar"), "has no data_batch_2")


def test_batch_that_is_there_twice_is_refused(put, objects):
    files = batches_of(objects)
    twice = {**files, "again/data_batch_1": files["data_batch_2"]}
    refuses(
        "cifar10", put(tar_of(twice), "x.tar"), "x.tar has 2 data_batch_1: CIFAR is .*, each once"
    )


PLANES = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1, 2]}, "no batch of CIFAR .KeyError: 'data'"),
        ({"data": PLANES[:, :3000], "labels": [1, 2]}, "no batch of CIFAR .*cannot reshape"),
        ({"data": PLANES}, "no batch of CIFAR .KeyError: 'labels'"),
        (
            {"data": PLANES, "labels": [1, 2.5]},
            "labels must be whole numbers or names, one for each of the 2",
        ),
        ({"data": PLANES, "labels": [1]}, "labels must be .* one for each of the 2 images"),
        ({"data": PLANES, "labels": [1, 10]}, "labels must be from 0 to 9: row 1 has 10"),
        (
            {"data": PLANES, "labels": [1, 10**30]},
            "labels must be whole numbers or names, one for each of the 2",
        ),
        ([1, 2], "no batch of CIFAR .TypeError"),
    ],
)
def test_batch_that_breaks_a_rule_is_named(put, objects, content, message):
    files = batches_of(objects) | {"data_batch_3": pickle.dumps(content)}
    refuses("cifar10", put(tar_of(files), "x.tar"), f"x.tar: {FOLDER}/data_batch_3.*{message}")


def test_batch_that_is_cut_is_named(put, tmp_path, objects):
    files = batches_of(objects)
    whole = files["data_batch_5"]
    for data in (b"", whole[: len(whole) // 2], whole[:-1], b"text", whole[:10] + b"\xff" * 50):
        path = put(tar_of(files | {"data_batch_5": data}), "x.tar")
        refuses("cifar10", path, f"x.tar: {FOLDER}/data_batch_5 is cut short, damaged or no batch")


class Call:
    """What pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
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


@pytest.mark.parametrize("code", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_pickle_that_asks_for_memory_without_end_is_refused(put, objects, code):
    data = pickle.PROTO + b"\2" + pickle.EMPTY_DICT + code + pickle.STOP
    path = put(tar_of(batches_of(objects) | {"data_batch_2": data}), "x.tar")
    refuses("cifar10", path, "data_batch_2 is .* no batch of CIFAR .*more memory than it can fill")


def test_types_cannot_be_changed_by_a_pickle(put, objects):
    files = batches_of(objects)
    for name in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"):
        files["data_batch_1"] = name + b"}(V__setstate__\nI1\nub."  # sets an attribute of the class
        refuses("cifar10", put(tar_of(files), "x.tar"), "data_batch_1 is cut short, damaged")
    assert callable(np.ndarray.__setstate__) and callable(np.dtype.__setstate__)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_column_of_labels_is_asked_for_where_there_are_columns(put, digits, objects, dataset):
    path = put(digits if dataset == "mnist" else objects)
    refuses(dataset, path, r'has no columns, and columns=\["label=kind"\]', columns=["label=kind"])
