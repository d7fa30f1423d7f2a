"""The saved classifier says what its network does of raw images, needs nothing of this project,
serves, and refuses what is no image with a message instead of a wrong answer."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import lib.images.model
from lib.images.model import (
    BadImages,
    image_signature,
    predict_probabilities,
    save_image_classifier,
)
from lib.packaging import load_packed

import numpy as np
import pandas as pd
import pytest
from serving import ask, refusal, served_here

pytestmark = pytest.mark.slow  # imports TensorFlow
CLASSES, SHAPE = ["t-shirt", "ankle boot", "bag"], (7, 5)  # no side is as long as another
COLUMNS = ["probability_t-shirt", "probability_ankle_boot", "probability_bag"]


def made_model(shape=SHAPE, n_outputs=3, *, dtype="uint8", last=(), seed=0):
    """A small network whose answers differ in training, between images and where one is turned."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            layers.Rescaling(1 / 50, offset=-2),
            layers.Reshape((*shape[:2], -1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(n_outputs),
            *last,
        ]
    )
    rng = np.random.default_rng(seed)
    norm = model.layers[3]
    norm.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in norm.get_weights()])
    return model


def saved(model, path: Path) -> Path:
    model.save(path)
    return path


def made_images(n: int, shape=SHAPE, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def softmax(logits) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory) -> Path:
    return saved(made_model(), tmp_path_factory.mktemp("network") / "best.keras")


@pytest.fixture(scope="module")
def folder(keras_file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    save_image_classifier(path, keras_file, classes=CLASSES, image_shape=SHAPE)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return load_packed(folder)


# Probabilities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [SHAPE, (7, 5, 3)])
def test_probabilities_are_the_softmax_of_the_logits_of_raw_images(monkeypatch, shape, dtype):
    network, images = made_model(shape, dtype=dtype), made_images(11, shape)
    expected = softmax(network(images, training=False))
    assert expected.max() - expected.min() > 0.5
    for batch_size in (1, 4, 11, 500):
        monkeypatch.setattr(lib.images.model, "BATCH", batch_size)
        found = predict_probabilities(network, images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_probabilities_of_a_network_in_bfloat16_are_made_in_float32():
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = made_model(seed=3)
    finally:
        keras.config.set_dtype_policy("float32")
    logits, images = network(made_images(40), training=False), made_images(40)
    assert "bfloat16" in str(logits.dtype)
    found = predict_probabilities(network, images)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)  # bfloat16: off by up to 4e-3
    np.testing.assert_allclose(found, softmax(logits.numpy()), rtol=0.05, atol=1e-3)


def test_network_is_traced_once_for_batches_of_any_length(monkeypatch):
    import tensorflow as tf

    network, made, real = made_model(), [], tf.function

    def function(*args, **options):
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(tf, "function", function)
    monkeypatch.setattr(lib.images.model, "BATCH", 3)
    assert predict_probabilities(network, made_images(8)).shape == (8, 3)
    assert made[0].experimental_get_tracing_count() == 1  # Keras makes others while it traces


def test_probabilities_of_what_is_no_raw_image_are_refused():
    network = made_model()
    for images, message in (
        (made_images(2) / 255, "expected integers 0..255 of a dtype like uint8, got float64"),
        (made_images(2).astype(np.int32) + 200, r"got [234]\d\d in image 0 at "),
        (made_images(2, (5, 7)), r"expected \(n, 7, 5\), got \(2, 5, 7\)"),
    ):
        with pytest.raises(BadImages, match=message):
            predict_probabilities(network, images)


# The saved model -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, (7, 5, 3)])
def test_saved_model_names_the_most_probable_class(shape, tmp_path):
    network = made_model(shape, seed=1)
    file = saved(network, tmp_path / "a.keras")
    save_image_classifier(tmp_path / "model", file, classes=CLASSES, image_shape=shape)
    images = made_images(30, shape)
    found = load_packed(tmp_path / "model").predict(images)
    assert list(found) == ["label", *COLUMNS]
    assert (found.dtypes[1:] == np.float64).all()
    expected = softmax(network(images, training=False))
    np.testing.assert_allclose(found[COLUMNS], expected, rtol=1e-4, atol=1e-6)
    assert found["label"].tolist() == [CLASSES[k] for k in expected.argmax(axis=1)]
    assert set(found["label"]) == set(CLASSES)


def test_images_beyond_one_batch_change_nothing(model, monkeypatch):
    images = made_images(20)
    whole = model.predict(images)
    code = sys.modules[type(model.unwrap_python_model()).__module__]
    assert code.__name__.startswith("model_code_")
    monkeypatch.setattr(code, "BATCH", 6)
    pd.testing.assert_frame_equal(model.predict(images), whole, rtol=1e-4)


def test_integers_of_any_dtype_and_one_channel_of_grey_are_the_same_images(model):
    images = made_images(5)
    expected = model.predict(images)
    for other in (np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, object):
        same = (images // 2).astype(other)
        pd.testing.assert_frame_equal(model.predict(same), model.predict(images // 2))
        grey = images.astype(object if other is object else np.int64)[..., None]
        pd.testing.assert_frame_equal(model.predict(grey), expected)
    inner = model.unwrap_python_model()
    for given in (images.tolist(), list(images), images.astype(np.int64), {"images": images}):
        pd.testing.assert_frame_equal(inner.predict(None, given), expected)


def with_pixel(value: object) -> list:
    images = made_images(3).tolist()
    images[2][6][4] = value
    return images


def ragged() -> list:
    images = made_images(2).tolist()
    images[1][3].pop()
    return images


PLACE = r" in image 2 at \(6, 4\)"
BAD = {
    "too large": (with_pixel(300), "expected integers 0..255, got 300" + PLACE),
    "just too large": (with_pixel(256), "expected integers 0..255, got 256" + PLACE),
    "enormous": (with_pixel(10**30), "expected integers 0..255, got 1000" + ".*" + PLACE),
    "negative": (with_pixel(-1), "expected integers 0..255, got -1" + PLACE),
    "a fraction": (with_pixel(0.5), "expected integers 0..255, got 0.5" + PLACE),
    "a large fraction": (with_pixel(300.0), "expected integers 0..255, got 300.0" + PLACE),
    "not a number": (with_pixel(float("nan")), "expected integers 0..255, got nan" + PLACE),
    "infinite": (with_pixel(float("inf")), "expected integers 0..255, got inf" + PLACE),
    "nothing": (with_pixel(None), "expected integers 0..255, got None" + PLACE),
    "true": (with_pixel(True), "expected integers 0..255, got True" + PLACE),
    "text": (with_pixel("white"), "expected integers 0..255, got 'white'" + PLACE),
    "digits": (with_pixel("7"), "expected integers 0..255, got '7'" + PLACE),
    "long text": (with_pixel("w" * 999), r"expected integers 0..255, got 'w+\.\.\.w+'" + PLACE),
    "one image": (made_images(1)[0].tolist(), r"\(n, 7, 5\), got \(7, 5\): put it into a list$"),
    "one grey image": (
        made_images(1)[0][..., None].tolist(),
        r"expected \(n, 7, 5\), got \(7, 5, 1\): put it into a list$",
    ),
    "turned": (made_images(2, (5, 7)).tolist(), r"expected \(n, 7, 5\), got \(2, 5, 7\)$"),
    "flat": (made_images(2, (35,)).tolist(), r"expected \(n, 7, 5\), got \(2, 35\)$"),
    "colour": (made_images(2, (7, 5, 3)).tolist(), r"\(n, 7, 5\), got \(2, 7, 5, 3\)$"),
    "no image": ([], r"expected \(n, 7, 5\) with at least one image, got none: \(0,\)"),
    "no pixel": ([[]], r"expected \(n, 7, 5\), got \(1, 0\)$"),
    "a short row": (ragged(), r"expected \(n, 7, 5\), got lists of different lengths"),
    "a list as pixel": (with_pixel([1]), r"expected \(n, 7, 5\), got lists of different lengths"),
    "an empty list as pixel": (with_pixel([]), "got lists of different lengths"),
    "a number": (5, r"expected \(n, 7, 5\), got 5$"),
    "a word": ("cat", r"expected \(n, 7, 5\), got 'cat'$"),
    "null": (None, r"expected \(n, 7, 5\), got None$"),
    "forty axes": (json.loads("[" * 40 + "1" + "]" * 40), r"expected \(n, 7, 5\), got \(1, 1, "),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_with_its_place(model, name):
    images, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        model.unwrap_python_model().predict(None, images)
    assert error.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (made_images(2).astype(np.int64) + 256, "expected integers 0..255, got"),
        (made_images(2).astype(np.int8), "expected integers 0..255, got -"),
        (made_images(2) / 255, "got float64"),
        (made_images(2) > 100, "got bool"),
        (made_images(2).astype(str), "got <U3"),
        (made_images(2)[:0], r"at least one image, got none: \(0, 7, 5\)"),
        (made_images(2)[0], r"got \(7, 5\): put it into a list"),
    ],
)
def test_arrays_that_are_no_raw_images_are_refused(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.predict(images)


def test_list_of_arrays_of_different_shapes_is_refused(model):
    images = [made_images(1)[0], made_images(1, (7, 4))[0]]
    with pytest.raises(ValueError, match=r"expected \(n, 7, 5\), got arrays of different shapes"):
        model.unwrap_python_model().predict(None, images)


# What can be saved -----------------------------------------------------------------------------


def refused(file: Path, message: str, *, classes=CLASSES, shape=SHAPE) -> None:
    path = file.parent / "refused"
    with pytest.raises(ValueError, match=f"{file.name} {message}") as error:
        save_image_classifier(path, file, classes=classes, image_shape=shape)
    assert len(str(error.value)) < 400 and "Traceback" not in str(error.value)
    assert not path.exists()


def test_network_of_another_shape_is_refused(keras_file, tmp_path):
    refused(keras_file, r"takes \(None, 7, 5\): \(None, 5, 7\) is needed", shape=(5, 7))
    refused(keras_file, r"takes \(None, 7, 5\): \(None, 7, 5, 1\)", shape=(7, 5, 1))
    refused(keras_file, r"gives \(None, 3\): \(None, 2\) is needed", classes=CLASSES[:2])
    import keras

    x = keras.Input((7, 5), batch_size=4, dtype="uint8")
    fixed = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    refused(saved(fixed, tmp_path / "fixed.keras"), r"takes \(4, 7, 5\)")
    one, two = keras.Input((7, 5)), keras.Input((7, 5))
    both = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Add()([one, two])))
    refused(saved(keras.Model([one, two], both), tmp_path / "two.keras"), r"takes \[")


def test_file_that_holds_no_model_is_refused(keras_file, tmp_path):
    torn = tmp_path / "torn.keras"
    torn.write_bytes(keras_file.read_bytes()[:100])
    other = tmp_path / "model.h5"
    other.write_bytes(b"weights")
    for file in (torn, other, tmp_path / "missing.keras"):
        refused(file, "is no .keras file of a model")


def test_network_that_gives_probabilities_or_nothing_finite_is_refused(tmp_path):
    import keras

    softmaxed = made_model(last=[keras.layers.Softmax()])
    refused(saved(softmaxed, tmp_path / "softmax.keras"), "gives probabilities: logits are needed")
    broken = made_model()
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    refused(saved(broken, tmp_path / "broken.keras"), "gives nan for an image")


def test_network_that_needs_code_of_its_own_is_refused(tmp_path):
    import keras

    class Plain(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def cubed(x):
        return x**3

    for name, layer, reason in (
        ("plain", Plain(), "Could not locate class 'Plain'"),
        ("nested", keras.Sequential([Plain()]), "Could not locate class 'Plain'"),
        ("function", keras.layers.Dense(3, cubed), "Could not locate function 'cubed'"),
        ("code", keras.layers.Lambda(lambda x: 2 * x), ".*[Ll]ambda"),
    ):
        file = saved(made_model(last=[layer]), tmp_path / f"{name}.keras")
        refused(file, f"is no .keras file of a model of Keras's own layers.*: {reason}")


def test_loss_of_the_training_does_not_have_to_be_known(tmp_path):
    import keras

    def own(y_true, y_pred):
        return keras.ops.mean(y_pred, axis=-1)

    network = made_model()
    network.compile("sgd", own, jit_compile=False)
    network.fit(made_images(4), np.zeros(4), verbose=0)
    file = saved(network, tmp_path / "trained.keras")
    save_image_classifier(tmp_path / "model", file, classes=CLASSES, image_shape=SHAPE)
    found = load_packed(tmp_path / "model").predict(made_images(4))
    expected = softmax(network(made_images(4), training=False))
    np.testing.assert_allclose(found[COLUMNS], expected, rtol=1e-4, atol=1e-6)


def test_model_folder_names_its_packages_at_the_installed_versions(folder):
    names = ["mlflow", "pandas", "numpy", "keras", "tensorflow"]
    lines = (folder / "requirements.txt").read_text().split()
    assert lines == [f"{name}=={metadata.version(name)}" for name in names]


def test_model_folder_holds_no_pickle_and_only_the_modules_it_needs(folder, keras_file):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    code = {name for name in files if name.startswith("code/") and "__pycache__" not in name}
    (package,) = {name.split("/")[1] for name in code}
    modules = ("__init__", "backend", "images/__init__", "images/model", "packaging")
    assert code == {f"code/{package}/{name}.py" for name in modules}
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in files)
    assert (folder / "artifacts" / keras_file.name).read_bytes() == keras_file.read_bytes()
    spec = json.loads((folder / "artifacts" / "spec.json").read_text())
    assert spec == {"classes": CLASSES, "image_shape": list(SHAPE)}


def test_signature_names_one_tensor_and_the_columns(model):
    signature = model.metadata.signature
    assert signature == image_signature(CLASSES)
    assert [str(x) for x in signature.inputs.inputs] == ["'images': Tensor('object', (-1,))"]
    assert signature.outputs.input_names() == ["label", *COLUMNS]
    types = [str(kind) for kind in signature.outputs.input_types()]
    assert types == ["DataType.string", *["DataType.double"] * 3]


# Served ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(folder):
    with served_here(folder) as client:
        yield client


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": made_images(3).tolist()},
        {"instances": made_images(3).tolist()},
        {"inputs": {"images": made_images(3).tolist()}},
        {"instances": [{"images": image.tolist()} for image in made_images(3)]},
        {"inputs": made_images(3)[..., None].tolist()},
    ],
    ids=["inputs", "instances", "named inputs", "named instances", "one channel"],
)
def test_served_model_answers_as_the_loaded_one(server, model, content):
    expected = model.predict(made_images(3))
    status, text = ask(server, content)
    assert status == 200, text
    answer = pd.DataFrame(json.loads(text)["predictions"])
    assert list(answer) == list(expected)
    assert answer["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(answer[COLUMNS].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(answer[COLUMNS], expected[COLUMNS], rtol=1e-5)


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("name", BAD)
def test_served_model_answers_what_is_wrong(server, name, key):
    images, message = BAD[name]
    said = refusal(server, {key: images})
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inputs": {"pictures": [1]}}, r"missing inputs \['images'\]"),
        ({"dataframe_records": [{"images": made_images(1)[0].tolist()}]}, "tensor spec input"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, r"missing inputs \['images'\]"),
        ({"pictures": [1]}, "exactly one of the input fields"),
        ([1], "exactly one of the input fields"),
    ],
)
def test_served_model_refuses_other_formats(server, content, message):
    said = refusal(server, content)
    assert re.search(message, said), said
