"""Parts of convolutional networks: the same function, the right gradients, no layer left over."""

import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def convnet():
    from lib.images import network as convnet

    return convnet


@pytest.fixture(scope="module")
def keras(convnet):
    return convnet.keras


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def network(convnet, keras, size=8):
    layers = keras.layers
    x = images = keras.Input((size, size, 3))
    x = layers.Normalization(mean=[100.0, 90.0, 80.0], variance=[9.0, 16.0, 25.0])(x)
    for filters in (4, 6):
        x = convnet.convolve(x, filters)
        x = layers.MaxPooling2D(2)(x)
        x = keras.ops.gelu(layers.BatchNormalization(scale=False)(x))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(images, layers.Dense(5)(x))


def gradients(keras, layer, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        out = keras.ops.sum(layer(x) ** 2)
    return tape.gradient(out, [x, layer.kernel.value])


def test_fast_convolution_is_the_same_function_with_the_same_gradients(convnet, keras):
    x = keras.random.normal((4, 9, 7, 3), seed=1)
    usual = keras.layers.Conv2D(5, 3, padding="same", use_bias=False)
    fast = convnet.FastConv2D(5, 3, padding="same", use_bias=False)
    usual(x), fast(x)
    fast.set_weights(usual.get_weights())
    np.testing.assert_allclose(fast(x), usual(x), atol=1e-5)
    for ours, theirs in zip(gradients(keras, fast, x), gradients(keras, usual, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_first_filters_pass_their_channel_on(convnet, keras):
    keras.utils.set_random_seed(0)
    x = keras.random.normal((2, 5, 5, 3), seed=0)
    layer = keras.layers.Conv2D(
        7, 3, padding="same", use_bias=False, kernel_initializer=convnet.dirac
    )
    out = np.asarray(layer(x))
    np.testing.assert_allclose(out[..., :3], x, atol=1e-6)
    rest = np.asarray(layer.kernel)[..., 3:]
    assert 0 < np.abs(rest).max() <= 27**-0.5 and len(np.unique(rest)) == rest.size


def test_whitened_patches_are_uncorrelated_with_variance_one(convnet):
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (300, 10, 10, 3)).cumsum(axis=1).cumsum(axis=2) % 256
    images = smooth.astype(np.uint8)
    mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    kernel = convnet.whitening_kernel(images, mean, std, eps=0.0)
    assert kernel.shape == (2, 2, 3, 24) and kernel.dtype == np.float32
    patches = np.lib.stride_tricks.sliding_window_view((images - mean) / std, (2, 2), axis=(1, 2))
    out = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12) @ kernel.reshape(12, 24)
    np.testing.assert_allclose(out[:, :12].T @ out[:, :12] / len(out), np.eye(12), atol=2e-3)
    np.testing.assert_allclose(out[:, 12:], -out[:, :12], atol=1e-6)


def test_muon_moves_a_kernel_by_about_the_same_in_every_direction(convnet, keras):
    optimizer = convnet.Muon(0.1, bias_rate=1.0, matrix_rate=1.0)
    kernel = keras.Variable(np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype("f4"))
    before = kernel.numpy()
    gradient = np.random.default_rng(1).normal(size=(3, 3, 4, 8)).astype("f4")
    gradient[..., 0] *= 5  # one filter would swamp the others
    optimizer.apply([gradient], [kernel])
    step = before * (8**0.5 / np.linalg.norm(before)) - kernel.numpy()
    singular = np.linalg.svd(step.reshape(-1, 8), compute_uv=False) / 0.1
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_muon_is_sgd_with_nesterov_momentum_for_vectors_and_matrices(convnet, keras):
    for shape, rate in (((3,), 0.3), ((3, 2), 0.05)):
        ours = convnet.Muon(0.2, bias_rate=0.3, matrix_rate=0.05)
        peer = keras.optimizers.SGD(rate, momentum=0.85, nesterov=True)
        one, other = keras.Variable(np.ones(shape, "f4")), keras.Variable(np.ones(shape, "f4"))
        for k in range(4):
            gradient = np.full(shape, k - 1.0, "f4")
            ours.apply([gradient], [one] if k == 0 else None)
            peer.apply([gradient], [other] if k == 0 else None)
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5)
        assert not np.allclose(one.numpy(), 1)


def test_all_rates_fall_together_and_decay_pulls_to_zero(convnet, keras):
    optimizer = convnet.Muon(0.2, bias_rate=0.4, matrix_rate=0.1, weight_decay=0.01)
    optimizer.learning_rate = 0.1
    vector = keras.Variable(np.ones(3, "f4"))
    optimizer.apply([np.zeros(3, "f4")], [vector])
    np.testing.assert_allclose(vector.numpy(), 1 - 0.5 * 0.01 * 1.85, rtol=1e-6)


def test_two_half_batches_make_the_step_of_one(convnet, keras):
    halves = convnet.Muon(0.1, bias_rate=1.0, matrix_rate=1.0, every=2)
    whole = convnet.Muon(0.1, bias_rate=1.0, matrix_rate=1.0)
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 3, 2, 4)).astype("f4")
    one, two = keras.Variable(start), keras.Variable(start)
    parts = [rng.normal(size=start.shape).astype("f4") for _ in range(2)]
    for k, part in enumerate(parts):
        halves.apply([part], [one] if k == 0 else None)
        assert np.array_equal(one.numpy(), start) == (k == 0)
    whole.apply([(parts[0] + parts[1]) / 2], [two])
    np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-6)


def test_deployable_network_is_the_same_function_in_stock_layers(convnet, keras, images):
    made = network(convnet, keras)
    made.compile("sgd", "mse", jit_compile=False)
    made.train_on_batch(images, np.ones((6, 5)))  # so that moving means are not those of the start
    stock = convnet.deployable(made)
    assert not [layer for layer in stock.layers if type(layer).__module__.startswith("lib")]
    np.testing.assert_allclose(stock(images), made(images), atol=1e-5)


def test_views_are_averaged_and_load_in_a_process_of_their_own(convnet, keras, images, tmp_path):
    stock = convnet.deployable(network(convnet, keras))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    seen = {"one": [(images, 1.0)], "mirror": [(images, 0.5), (images[:, :, ::-1], 0.5)]}
    seen["six"] = [
        (view[:, :, ::step], weight / 2)
        for view, weight in ((images, 0.5), (padded[:, :8, :8], 0.25), (padded[:, 2:, 2:], 0.25))
        for step in (1, -1)
    ]
    expected = {}
    for views, weighted in seen.items():
        model = convnet.with_views(stock, (8, 8, 3), views)
        expected[views] = sum(weight * np.asarray(stock(view)) for view, weight in weighted)
        np.testing.assert_allclose(model(images), expected[views], atol=1e-5, err_msg=views)
        cooler = convnet.with_views(stock, (8, 8, 3), views, temperature=0.5)
        np.testing.assert_allclose(cooler(images), 2 * expected[views], atol=1e-4, err_msg=views)
        model.save(tmp_path / f"{views}.keras")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import keras, numpy as np\n"
        "from pathlib import Path\n"
        "for file in Path().glob('*.keras'):\n"
        "    model = keras.saving.load_model(file, compile=False, safe_mode=True)\n"
        "    np.save(file.with_suffix('.npy'), model(np.load('images.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    for views, answer in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{views}.npy"), answer, atol=1e-5)


def test_networks_give_their_mean_answer_and_are_kept_as_one_model(
    convnet, keras, images, tmp_path
):
    parts = []
    for seed in (1, 2, 3):
        keras.utils.clear_session()  # as a trainer does: layers of all networks have the same names
        keras.utils.set_random_seed(seed)
        parts.append(convnet.deployable(network(convnet, keras)))
    answers = [np.asarray(part(images)) for part in parts]
    assert np.abs(answers[0] - answers[1]).max() > 0.01
    whole = convnet.with_views(convnet.mean_of(parts), (8, 8, 3), "one")
    np.testing.assert_allclose(whole(images), np.mean(answers, axis=0), atol=1e-5)
    whole.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(again(images), np.mean(answers, axis=0), atol=1e-5)
    assert convnet.mean_of(parts[:1]) is parts[0]


def test_networks_of_others_are_built_from_a_file_and_a_wrong_file_is_refused(
    convnet, keras, tmp_path
):
    for name, make in (("vgg16", "VGG16"), ("resnet50", "ResNet50")):
        file = tmp_path / f"{name}.weights.h5"
        known = getattr(keras.applications, make)(include_top=False, weights=None)
        known.save_weights(file)
        network, prepare = convnet.pretrained(name, 32, str(file))
        assert network.name == name and network.input_shape == (None, 32, 32, 3)
        np.testing.assert_array_equal(network.get_weights()[0], known.get_weights()[0])
        assert np.mean(prepare(np.zeros((1, 2, 2, 3), "f4"))) < -100
    with pytest.raises(ValueError, match="does not hold weights of vgg16"):
        convnet.pretrained("vgg16", 32, str(tmp_path / "resnet50.weights.h5"))
    with pytest.raises(ValueError, match="no file matches"):
        convnet.pretrained("vgg16", 32, str(tmp_path / "none.h5"))
