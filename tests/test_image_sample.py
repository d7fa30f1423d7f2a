"""The sample images: real digits as MNIST's, and shapes that only their form tells apart."""

import time

from lib.images.load import load_images
from lib.images.sample import PATTERNS, sample_digits, sample_objects
from lib.images.sets import count_duplicates, count_images, images_digest

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier


@pytest.fixture(scope="module")
def digits():
    return sample_digits()


@pytest.fixture(scope="module")
def objects():
    return sample_objects()


# Digits


def test_digits_have_the_form_of_mnist(digits):
    assert digits.x_train.shape == (1297, 28, 28) and digits.x_test.shape == (500, 28, 28)
    assert {a.dtype for a in (digits.x_train, digits.y_train, digits.x_test)} == {np.dtype("u1")}
    assert digits.classes == tuple("0123456789") and digits.x_train.max() == 255
    frame = np.ones((28, 28), bool)
    frame[4:24, 4:24] = False
    assert not digits.x_train[:, frame].any() and digits.x_train.any(axis=(0, 1))[4:24].all()


def test_digits_are_enlarged_by_linear_interpolation(digits):
    small = load_digits().images
    at = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    rows, columns = np.meshgrid(at, at, indexing="ij")
    found = {x.tobytes(): k for k, x in enumerate(digits.x_train)}
    n_same = 0
    for image, label in zip(small[:200], load_digits().target, strict=False):
        large = map_coordinates(image, [rows, columns], order=1, mode="nearest") * 255 / 16
        padded = np.pad(np.floor(large + 0.5 + 1e-9).astype(np.uint8), 4)
        row = found.get(padded.tobytes())
        n_same += row is not None and digits.y_train[row] == label
    assert 130 <= n_same <= 160  # 144 of 200 are expected to be for training


def test_both_parts_of_the_digits_are_the_bundled_ones_each_once(digits):
    table = count_images(digits).sum(axis=1)
    assert table.tolist() == np.bincount(load_digits().target).tolist()
    assert count_duplicates(digits) == {"within_train": 0, "within_test": 0, "across": 0}
    share = count_images(digits)["test"] / table
    assert share.between(0.27, 0.29).all()  # 500 of 1,797 are 0.278


def test_digits_are_learnable_and_the_test_is_fair(digits):
    flat = digits.x_train.reshape(1297, -1).astype(float)
    model = KNeighborsClassifier(1).fit(flat, digits.y_train)
    assert model.score(digits.x_test.reshape(500, -1), digits.y_test) > 0.97


def test_more_digits_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="the sample of mnist has 1,297 train images"):
        sample_digits(n_train=1298)
    with pytest.raises(ValueError, match="the sample of mnist has 500 test images"):
        load_images("mnist", "sample", n_test=501)


def test_part_of_the_digits_is_a_part_of_all(digits):
    part = sample_digits(n_train=100, n_test=50)
    assert (len(part.y_train), len(part.y_test)) == (100, 50)
    assert {x.tobytes() for x in part.x_train} < {x.tobytes() for x in digits.x_train}
    assert count_images(part)["train"].between(9, 11).all()


# Objects

SHAPES = {
    ("triangle", 2): """
        .......
        ...#...
        ...#...
        ..###..
        ..###..
        .#####.
        .......""",
    ("disc", 2): """
        .......
        ...#...
        ..###..
        .#####.
        ..###..
        ...#...
        .......""",
    ("square", 2): """
        .......
        .#####.
        .#####.
        .#####.
        .#####.
        .#####.
        .......""",
    ("cross", 2): """
        .......
        ...#...
        ...#...
        .#####.
        ...#...
        ...#...
        .......""",
    ("rows", 2): """
        #######
        .......
        .......
        #######
        #######
        .......
        .......""",
    ("columns", 3): """
        ...###.
        ...###.
        ...###.
        ...###.
        ...###.
        ...###.
        ...###.""",
    ("diagonals", 4): """
        ##....#
        #....##
        ....###
        ...####
        ..####.
        .####..
        ####...""",
    ("checkers", 3): """
        ###...#
        ###...#
        ###...#
        ...###.
        ...###.
        ...###.
        ###...#""",
    ("rings", 2): """
        #.....#
        .......
        ..###..
        ..###..
        ..###..
        .......
        #.....#""",
    ("dots", 6): """
        ###.###
        ##...##
        #.....#
        .......
        #.....#
        ##...##
        ###.###""",
}


@pytest.mark.parametrize(("name", "width"), SHAPES)
def test_shapes_are_as_drawn_by_hand(name, width):
    y, x = np.mgrid[-3:4, -3:4]
    found = PATTERNS[name][2](x, y, np.array(width))
    drawn = [[sign == "#" for sign in line] for line in SHAPES[name, width].split()]
    assert np.broadcast_to(found, (7, 7)).tolist() == drawn


@pytest.mark.slow
def test_objects_have_the_form_of_cifar(objects):
    assert objects.x_train.shape == (2000, 32, 32, 3) and objects.x_test.shape == (500, 32, 32, 3)
    assert {a.dtype for a in (objects.x_train, objects.y_train, objects.x_test)} == {np.dtype("u1")}
    table = count_images(objects)
    assert (table["train"] == 200).all() and (table["test"] == 50).all()
    assert len(set(objects.classes)) == 10
    assert count_duplicates(objects) == {"within_train": 0, "within_test": 0, "across": 0}


def test_stripes_run_the_way_their_names_say(objects):
    grey = objects.x_train.mean(axis=-1)
    down, right = (abs(np.diff(grey.mean(axis=axis))).max(axis=1) for axis in (2, 1))
    rows, columns = (objects.y_train == objects.classes.index(n) for n in ("rows", "columns"))
    assert down[rows].min() > 40 > 20 > right[rows].max()  # from one row, or column, to the next
    assert right[columns].min() > 40 > 20 > down[columns].max()


def test_numbers_of_pictures_are_those_asked_for():
    images = load_images("cifar10", "sample", n_train=123, n_test=45)
    assert (len(images.y_train), len(images.y_test)) == (123, 45)
    assert count_images(images)["train"].between(12, 13).all()


def flat(x):
    return x.reshape(len(x), -1) / np.float32(255)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_linear_model_of_the_pixels_learns_next_to_nothing(objects):
    model = LogisticRegression(max_iter=15, C=0.01)
    model.fit(flat(objects.x_train), objects.y_train)
    assert 0.05 < model.score(flat(objects.x_test), objects.y_test) < 0.30


@pytest.mark.slow
def test_colour_says_nothing_and_brightness_little(objects):
    def colours(x):
        return np.hstack([x.mean(axis=(1, 2)), x.std(axis=(1, 2))])

    model = RandomForestClassifier(50, random_state=0)
    model.fit(colours(objects.x_train), objects.y_train)
    assert model.score(colours(objects.x_test), objects.y_test) < 0.45
    centre = np.array([objects.x_train[objects.y_train == k].mean() for k in range(10)])
    assert np.ptp(centre) < 15


def edges(x):
    """How much edge there is in each of eight directions, as shares and in all."""
    grey = x.mean(axis=-1)
    right = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    strength = np.hypot(right, down)
    strength *= strength > 60
    angle = np.mod(np.arctan2(down, right) / np.pi * 8 + 0.5, 8).astype(int)
    bins = np.stack([(strength * (angle == k)).sum(axis=(1, 2)) for k in range(8)], axis=1)
    total = bins.sum(axis=1, keepdims=True) + 1
    return np.hstack([bins / total, np.log(total)])


@pytest.mark.slow
def test_directions_of_edges_tell_the_classes_apart(objects):
    model = RandomForestClassifier(50, random_state=0)
    model.fit(edges(objects.x_train), objects.y_train)
    assert model.score(edges(objects.x_test), objects.y_test) > 0.95


# Both


@pytest.mark.parametrize("sample", [sample_digits, sample_objects])
def test_sample_depends_on_the_seed_alone(sample):
    one, again, other = (images_digest(sample(50, 20, seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_training_pictures_do_not_depend_on_the_number_of_test_pictures():
    one, other = sample_objects(50, 20), sample_objects(50, 40)
    np.testing.assert_array_equal(one.x_train, other.x_train)


@pytest.mark.parametrize(
    ("sample", "digest"),
    [(sample_digits, "7cfafea31b89b9fd"), (sample_objects, "e92a4ba1f756d075")],
)
def test_sample_is_the_same_on_every_machine(sample, digest):
    assert images_digest(sample(200, 100, 7)).startswith(digest)


@pytest.mark.slow
def test_pictures_are_made_in_less_than_a_second():
    times = []
    for seed in range(3):
        start = time.perf_counter()
        sample_objects(2000, 500, seed)
        times.append(time.perf_counter() - start)
    assert min(times) < 1
