"""Images of other houses: idx, CSV, npz of other names, MATLAB, CIFAR's other versions."""

import gzip
import io
import pickle
import zipfile

from lib.images.load import describe_images, load_images
from lib.images.sets import count_duplicates

import image_files
import numpy as np
import pytest
from image_files import arrays_of, batches_of, idx_files, refuses, same, tar_of

digits, objects, put = image_files.digits, image_files.objects, image_files.put


def csv_of(x, y, header=True, separator=","):
    names = ["label", *(f"pixel{k}" for k in range(x[0].size))]
    rows = [[label, *image.ravel()] for image, label in zip(x, y, strict=True)]
    lines = [names, *rows] if header else rows
    return "".join(separator.join(map(str, line)) + "\n" for line in lines).encode()


# idx


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_folder_of_idx_is_read_packed_or_not(put, tmp_path, digits, pack):
    for name, data in idx_files(digits).items():
        put(pack(data), f"raw/{name}")
    put(b"by hand", "raw/README.md"), put(b"", "raw/.DS_Store")
    assert same(load_images("mnist", str(tmp_path / "raw")), digits)


def test_idx_of_other_length_than_its_head_says_is_refused(put, tmp_path, digits):
    files = idx_files(digits)
    for name, data in files.items():
        put(data, name)
    for data, word in ((files[name][:-1], "cut short"), (files[name] + b"x", "damaged")):
        put(data, name)
        refuses("mnist", str(tmp_path), f"{name} is {word}: by its head it holds 20 values in 28")


def test_images_without_labels_are_refused(put, tmp_path, digits):
    files = idx_files(digits)
    path = put(files["train-images-idx3-ubyte"], "train-images-idx3-ubyte")
    refuses("mnist", path, "as x_train and no y_train: give images and labels together")


def test_two_sets_in_a_folder_are_told_apart_by_a_glob(put, tmp_path, digits):
    for prefix in ("emnist-letters-", "emnist-digits-"):
        for name, data in idx_files(digits).items():
            put(data, prefix + name)
    refuses("mnist", str(tmp_path), "are both .*: name one of them as source, with the other")
    assert same(load_images("mnist", str(tmp_path / "emnist-letters-*")), digits)


def test_rows_and_columns_are_swapped_where_asked(put, digits):
    images = load_images("mnist", put(digits), transpose=True)
    np.testing.assert_array_equal(images.x_test, digits["x_test"].swapaxes(1, 2))


# Names of arrays


@pytest.mark.parametrize(
    "names",
    [
        "train_images train_labels test_images test_labels",
        "XTrain YTrain XTest YTest",
        "training_data training_targets testing_data testing_targets",
        "Xtrain ytrain Xtest ytest",
    ],
)
def test_other_names_are_read_where_they_say_what_they_are(put, digits, names):
    arrays = dict(zip(names.split(), digits.values(), strict=True))
    assert same(load_images("mnist", put(arrays)), digits)


def test_names_that_say_nothing_are_asked_for(put, digits):
    names = dict(zip("abcd", digits, strict=True))
    path = put({theirs: digits[ours] for theirs, ours in names.items()})
    refuses("mnist", path, r"images.npz: a .* is neither images nor labels .*columns=\[.x_train=…")
    columns = [f"{ours}={theirs}" for theirs, ours in names.items()]
    assert same(load_images("mnist", path, columns=columns), digits)


def test_array_beyond_both_parts_is_not_left_out(put, digits):
    path = put(digits | {"x_extra": digits["x_test"], "y_extra": digits["y_test"]})
    refuses("mnist", path, "x_extra in .* is neither")


def test_validation_is_learned_from_and_said(put, digits):
    extra = arrays_of((28, 28), 10, 10)
    path = put(digits | {"val_images": extra["x_train"], "val_labels": extra["y_train"]})
    images = load_images("mnist", path)
    assert len(images.y_train) == 110 and len(images.y_test) == 20
    assert images.notes == (
        "the 10 images of the validation part were joined to those of training",
    )
    del digits["x_test"], digits["y_test"]
    path = put(digits | {"val_images": extra["x_train"], "val_labels": extra["y_train"]})
    refuses("mnist", path, "has the parts train, validation: give train and test")


# Classes


def test_classes_are_those_of_the_data(put):
    made = arrays_of((20, 20), 60, 30)
    arrays = {k: a % 3 * 7 + 1 if k[0] == "y" else a for k, a in made.items()}
    images = load_images("mnist", put(arrays))
    assert images.classes == ("1", "8", "15") and set(images.y_train) == {0, 1, 2}
    np.testing.assert_array_equal(images.y_test, made["y_test"] % 3)
    named = load_images("mnist", put(arrays), classes=["cat", "dog", "sea horse"])
    assert named.classes[2] == "sea horse"
    np.testing.assert_array_equal(named.y_test, images.y_test)


def test_labels_may_be_names(put, digits):
    words = np.array(["cat", "dog"])
    arrays = {k: words[a % 2] if k[0] == "y" else a for k, a in digits.items()}
    images = load_images("mnist", put(arrays))
    assert images.classes == ("cat", "dog")
    np.testing.assert_array_equal(images.y_train, digits["y_train"] % 2)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["a", "b"],
            "has 10 labels, 0, 1, 2, 3, 4, … 9, and 2 names of classes, a, b: give a name for each",
        ),
        (["a b", "a_b", *"cdefghij"], "two classes called 'a_b': give names that differ"),
    ],
)
def test_names_that_do_not_fit_are_refused(put, digits, classes, message):
    with pytest.raises(ValueError, match=message):
        load_images("mnist", put(digits), classes=classes)


@pytest.mark.parametrize(
    ("n_classes", "is_read"), [(1, False), (2, True), (200, True), (201, False)]
)
def test_two_to_two_hundred_classes_are_taken(put, n_classes, is_read):
    y = np.arange(2 * n_classes) % n_classes
    x = np.random.default_rng(0).integers(0, 256, (2 * n_classes, 16, 16), np.uint8)
    path = put({"x_train": x, "y_train": y, "x_test": x[:n_classes], "y_test": y[:n_classes]})
    if 2 <= n_classes <= 200:
        assert len(load_images("mnist", path).classes) == n_classes
    else:
        refuses("mnist", path, f"has {n_classes} different labels: give 2 to 200 classes")


@pytest.mark.parametrize("labels", [[1e300, 2e300], [1.0, np.nan], [2.0**53, 2.0**53 + 2]])
def test_labels_that_a_whole_number_cannot_hold_are_refused(put, digits, labels):
    y = np.array(labels)[digits["y_train"] % 2]
    refuses("mnist", put({"images": digits["x_train"], "labels": y}), "labels must be whole numb")


# CSV


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_of_labels_and_pixels_is_read(put, tmp_path, digits, separator):
    for part in ("train", "test"):
        content = csv_of(digits[f"x_{part}"], digits[f"y_{part}"], separator=separator)
        put(content, f"csv/{part}.csv")
    assert same(load_images("mnist", str(tmp_path / "csv")), digits)


def test_csv_without_a_header_is_asked_for_its_labels(put, tmp_path, digits):
    for part in ("train", "test"):
        put(csv_of(digits[f"x_{part}"], digits[f"y_{part}"], header=False), f"csv/{part}.csv")
    path = str(tmp_path / "csv")
    with pytest.raises(
        ValueError,
        match=r"line 1 has no column .label. among 785 .*, or by number, .*label=1",
    ):
        load_images("mnist", path)
    assert same(load_images("mnist", path, columns=["label=1"]), digits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace(b"\n3,", b"\n3,256,", 1),
            "line 2: Expected 785 columns, got 786. Each line must",
        ),
        (lambda text: text[:-900], r"line 101: Expected 785 columns, got \d+. Each .*cut short"),
        (
            lambda text: text.replace(b",0,", b",300,", 1),
            r"column pixel\d+: line 2: .* value .300.. Each .* from 0 to 255",
        ),
        (
            lambda text: text.replace(b",0,", b",,", 1),
            r"column pixel\d+: line 2: .* invalid value ..\.",
        ),
        (
            lambda text: text.replace(b"label", b"digit", 1),
            "line 1 has no column 'label' among",
        ),
        (lambda text: text.replace(b"pixel5,pixel6", b"pixel6,pixel5", 1), "'pixel5' comes after"),
        (
            lambda text: text.replace(b"\n", b",1\n"),
            "has 785 columns beside the label, which",
        ),
    ],
)
def test_csv_that_is_damaged_names_line_and_column(put, digits, change, message):
    refuses("mnist", put(change(csv_of(digits["x_train"], digits["y_train"])), "t.csv"), message)


# No test part


def test_test_is_split_off_by_what_is_in_an_image(put):
    made = arrays_of((16, 16), 400, 10)
    x, y = made["x_train"], made["y_train"]
    images = load_images("mnist", put({"images": x, "labels": y}))
    assert 50 < len(images.y_test) < 110 and len(images.y_test) + len(images.y_train) == 400
    (note,) = images.notes
    assert note.startswith(f"{len(images.y_test)} of 400 images were split off as a test")
    assert describe_images(images, "mnist", "x.npz")["notes"] == note
    turned = load_images("mnist", put({"images": x[::-1], "labels": y[::-1]}))
    assert {i.tobytes() for i in turned.x_test} == {i.tobytes() for i in images.x_test}
    other = load_images("mnist", put({"images": x, "labels": y}), test_seed=1)
    assert {i.tobytes() for i in other.x_test} != {i.tobytes() for i in images.x_test}
    more = load_images("mnist", put({"images": x, "labels": y}), test_share=0.5)
    assert {i.tobytes() for i in images.x_test} < {i.tobytes() for i in more.x_test}


def test_copies_of_an_image_are_in_one_part(put):
    made = arrays_of((16, 16), 100, 10)
    x, y = np.tile(made["x_train"], (3, 1, 1)), np.tile(made["y_train"], 3)
    found = count_duplicates(load_images("mnist", put({"images": x, "labels": y})))
    assert found["across"] == 0 and found["within_train"] + found["within_test"] == 200


def test_class_that_cannot_be_in_both_parts_is_named(put, digits):
    y = np.where(np.arange(100) == 7, 11, digits["y_train"])
    path = put({"images": digits["x_train"], "labels": y})
    refuses("mnist", path, "none can be split off: label 11 has no two different images")


# CIFAR, MATLAB


def binary_of(x, y, before=b""):
    planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return b"".join(
        before + bytes([int(label)]) + row.tobytes() for row, label in zip(planes, y, strict=True)
    )


@pytest.fixture
def binary(objects):
    x, y = objects["x_train"], objects["y_train"]
    parts = {f"data_batch_{k}.bin": slice(20 * k - 20, 20 * k) for k in range(1, 6)}
    files = {name: binary_of(x[rows], y[rows]) for name, rows in parts.items()}
    return files | {"test_batch.bin": binary_of(objects["x_test"], objects["y_test"])}


def test_binary_version_is_read_from_folder_and_archive(put, tmp_path, objects, binary):
    path = put(gzip.compress(tar_of(binary, "cifar-10-batches-bin")), "cifar-10-binary.tar.gz")
    images = load_images("cifar10", path)
    assert same(images, objects) and images.classes[6] == "frog"
    for name, data in binary.items():
        put(data, f"bin/{name}")
    put(b"\n".join(b"class %d" % k for k in range(10)).replace(b" ", b"-"), "bin/batches.meta.txt")
    images = load_images("cifar10", str(tmp_path / "bin"))
    assert same(images, objects) and images.classes[6] == "class-6"


def test_binary_version_that_is_cut_is_refused(put, binary):
    whole = binary["data_batch_3.bin"]
    for size, message in (
        (-1, "no batch of CIFAR .*cannot reshape"),
        (-3073, "has 19 images and another 20"),
    ):
        path = put(tar_of(binary | {"data_batch_3.bin": whole[:size]}), "x.tar")
        refuses("cifar10", path, f"data_batch_3.bin .*{message}")
    del binary["data_batch_4.bin"]
    refuses("cifar10", put(tar_of(binary), "x.tar"), "x.tar has no data_batch_4.bin: CIFAR is ")


def test_hundred_classes_are_read_for_python_and_binary(put):
    made = arrays_of((32, 32, 3), 200, 100)
    y = {part: np.arange(len(made[f"y_{part}"])) % 100 for part in ("train", "test")}
    names = [f"thing_{k}" for k in range(100)]
    planes = {p: made[f"x_{p}"].transpose(0, 3, 1, 2).reshape(len(y[p]), -1) for p in y}
    python = {p: pickle.dumps({"data": planes[p], "fine_labels": y[p].tolist()}) for p in y}
    python["meta"] = pickle.dumps({"fine_label_names": names})
    records = {f"{p}.bin": binary_of(made[f"x_{p}"], y[p], b"\7") for p in y}
    records["fine_label_names.txt"] = "\n".join(names).encode()
    for files in (python, records):
        images = load_images("cifar10", put(tar_of(files), "x.tar"))
        assert images.classes == tuple(names)
        np.testing.assert_array_equal(images.y_train, y["train"])
        np.testing.assert_array_equal(images.x_test, made["x_test"])


def test_no_pickle_but_a_batch_is_opened(put, tmp_path):
    path = put(pickle.dumps({"data": 1}), "digits.pkl")
    refuses(
        "mnist", path, "digits.pkl is a Python pickle, which is not opened as it could run anything"
    )


def test_names_of_batches_are_those_of_the_archive(put, objects):
    meta = {"batches.meta": pickle.dumps({"label_names": list("abcdefghij")})}
    images = load_images("cifar10", put(tar_of(batches_of(objects) | meta), "x.tar"))
    assert images.classes == tuple("abcdefghij")


# Colours


def test_images_of_the_other_pipeline_are_sent_there(put, digits, objects):
    refuses("mnist", put(objects), "has colours, .* run PIPELINE=cifar10 with the same source")
    refuses("cifar10", put(digits), "is grey, .* run PIPELINE=mnist with the same source")
    grey = {k: np.stack([a] * 3, axis=-1) if k[0] == "x" else a for k, a in digits.items()}
    assert same(load_images("mnist", put(grey)), digits)


def test_zip_of_any_form_is_read(put, digits):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in idx_files(digits).items():
            archive.writestr(f"raw/{name}.gz", gzip.compress(data))
    assert same(load_images("mnist", put(packed.getvalue(), "x.zip")), digits)
