"""Sets of images: parts of them, counts, digests and splits, by hand and on the real ones."""

from dataclasses import replace

from lib.ground.files import data_dir
from lib.images.cifar_files import CLASSES
from lib.images.load import describe_images, load_images
from lib.images.sets import (
    ImageSet,
    count_duplicates,
    count_images,
    images_digest,
    split_validation,
)

import image_files
import numpy as np
import pytest
from image_files import ARRAYS, same

MNIST = data_dir() / "mnist.npz"


digits, objects, put = image_files.digits, image_files.objects, image_files.put


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
    objects["classes"] = np.array(CLASSES)
    table = count_images(load_images("cifar10", put(objects)))
    assert list(table.columns) == ["train", "test"] and table.index.name == "class"
    assert tuple(table.index) == CLASSES
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
        (np.array([0, 0, 1]), 1, "two rows or more of each"),
    ],
)
def test_split_that_is_impossible_says_what_is_possible(y, n_validation, message):
    with pytest.raises(ValueError, match=message):
        split_validation(y, n_validation, seed=0)


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
def test_real_objects_are_those_that_everyone_knows(real_objects):
    images = ImageSet(**np.load(real_objects))
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
