"""Varied images: what is changed, by how much, and the same again for every epoch."""

from lib.images.augment import Augmentation, ImageBatches, resize, rotate, shift

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)


@pytest.fixture
def labels():
    return np.arange(40) % 4


def batches(images, labels, **options):
    options = {"n_classes": 4, "batch_size": 8} | options
    return ImageBatches(images, labels, **options)


def shown(made, epoch):
    made.begin_epoch(epoch)
    return np.concatenate([made[k][0] for k in range(len(made))])


def test_without_augmentation_an_epoch_shows_every_image_once_with_its_label(images, labels):
    made = batches(images, labels, seed=3)
    seen = [made[k] for k in range(len(made))]
    assert len(made) == 5 and made.n_items == 40
    for x, y in seen:
        assert x.dtype == np.uint8 and y.dtype == np.float32 and (y.sum(axis=1) == 1).all()
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    found = [(i.tobytes(), row.argmax()) for x, y in seen for i, row in zip(x, y, strict=True)]
    assert dict(found) == known


def test_epochs_differ_and_the_same_epoch_is_the_same(images, labels):
    augmentation = Augmentation(flip=True, shift=2, rotation=10.0)
    one, other = (batches(images, labels, augmentation=augmentation, seed=5) for _ in range(2))
    third = shown(one, 3)
    assert not np.array_equal(third, shown(one, 4))
    np.testing.assert_array_equal(third, shown(other, 3))
    np.testing.assert_array_equal(third, shown(one, 3))
    assert not np.array_equal(third, shown(batches(images, labels, seed=6), 3))


def test_asking_again_for_a_batch_gives_the_same(images, labels):
    made = batches(images, labels, augmentation=Augmentation(shift=2, rotation=10.0))
    np.testing.assert_array_equal(made[1][0], made[1][0])


def test_every_image_is_seen_both_ways_within_two_epochs(images, labels):
    made = batches(images, labels, augmentation=Augmentation(flip=True))
    first = {image.tobytes() for image in shown(made, 0)}
    second = {image.tobytes() for image in shown(made, 1)}
    as_they_are = {image.tobytes() for image in images}
    mirrored = {image.tobytes() for image in np.ascontiguousarray(images[:, :, ::-1])}
    assert len(first & as_they_are) not in (0, 40), "a random half is mirrored"
    assert first | second == as_they_are | mirrored


def test_what_does_not_fill_a_step_is_left_out_and_changes_with_the_epoch(images, labels):
    made = batches(images, labels, batch_size=6, multiple=2)
    assert len(made) == 6 and made.n_items == 36
    left = []
    for epoch in (0, 1):
        made.begin_epoch(epoch)
        left.append(set(range(40)) - set(made.order[:36]))
    assert left[0] != left[1]


def test_shift_moves_by_whole_pixels_and_mirrors_at_the_edge():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    moved = shift(image, np.array([[-1, 1]]))[0]  # one down, one to the left
    assert moved.tolist() == [[5, 6, 7, 6], [1, 2, 3, 2], [5, 6, 7, 6], [9, 10, 11, 10]]


def test_shift_of_the_middle_leaves_the_image(images):
    offsets = np.zeros((40, 2), int)
    offsets[0] = 2
    np.testing.assert_array_equal(shift(images, offsets)[1:], images[1:])


@pytest.mark.slow
def test_shifts_reach_as_far_as_asked_and_no_farther(labels):
    image = np.zeros((40, 9, 9), np.uint8)
    image[:, 4, 4] = 255
    made = batches(image, labels, augmentation=Augmentation(shift=2))
    places = {tuple(np.argwhere(i == 255)[0]) for e in range(40) for i in shown(made, e)}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def test_shifts_of_a_batch_do_not_depend_on_its_other_images(images):
    offsets = np.array([[0, 1], [2, -2], [1, 0]])
    together = shift(images[:3], offsets)
    for k in range(3):
        np.testing.assert_array_equal(shift(images[k : k + 1], offsets[k : k + 1])[0], together[k])


def test_a_quarter_turn_is_exact(images):
    turned = rotate(images, np.full(40, 90.0))
    np.testing.assert_array_equal(turned, np.rot90(images, axes=(1, 2)))


def test_rotation_agrees_with_scipy(images):
    smooth = ndimage.gaussian_filter(images.astype(float), (0, 2, 2, 0)).round().astype(np.uint8)
    angle = np.deg2rad(17.0)
    turned = rotate(smooth, np.full(40, 17.0)).astype(int)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = 5.5 - matrix @ [5.5, 5.5]
    for k, channel in ((0, 0), (7, 2)):
        oracle = ndimage.affine_transform(
            smooth[k, ..., channel].astype(float), matrix, offset, order=1, mode="nearest"
        )
        assert np.abs(turned[k, 1:-1, 1:-1, channel] - oracle[1:-1, 1:-1]).max() <= 1


def test_rotation_keeps_the_shape_of_grey_images(images):
    grey = images[..., 0]
    assert rotate(grey, np.linspace(-20, 20, 40)).shape == grey.shape
    np.testing.assert_array_equal(rotate(grey, np.zeros(40)), grey)


def test_half_size_is_the_mean_of_four_pixels(images):
    small = resize(images, 6)
    means = images.reshape(40, 6, 2, 6, 2, 3).mean(axis=(2, 4))
    assert small.dtype == np.uint8 and np.abs(small - means).max() <= 0.5
    np.testing.assert_array_equal(resize(images[..., 0], 6), small[..., 0])


def test_resize_keeps_constant_images_constant():
    image = np.full((2, 32, 32, 3), 77, np.uint8)
    for size in (7, 20, 24, 31):
        assert (resize(image, size) == 77).all()


def test_sizes_hold_for_their_epochs_and_the_last_for_the_rest(images, labels):
    made = batches(images, labels, sizes=[6, 6, 12])
    assert [shown(made, epoch).shape[1] for epoch in range(5)] == [6, 6, 12, 12, 12]
    assert made.changes == [2]


def test_digest_changes_with_everything_that_changes_the_batches(images, labels):
    ways = [
        batches(images, labels),
        batches(images, labels, seed=1),
        batches(images, labels, batch_size=4),
        batches(images, labels, multiple=2),
        batches(images, labels, sizes=[6]),
        batches(images, labels, augmentation=Augmentation(shift=1)),
        batches(images, labels[::-1]),
        batches(images[::-1], labels),
    ]
    assert len({made.digest() for made in ways}) == len(ways)
    assert batches(images, labels).digest() == ways[0].digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 41}, "there are 40"), ({"batch_size": 8, "multiple": 6}, "8 x 6")],
)
def test_too_few_images_for_a_step_are_refused(images, labels, change, message):
    with pytest.raises(ValueError, match=message):
        batches(images, labels, **change)
