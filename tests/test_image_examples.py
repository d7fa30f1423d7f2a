"""Other people's sets, by the very commands of the READMEs, on made-up files of a few images."""

import gzip
import io
import json
import pickle
import re

from lib.ground.files import ROOT
from lib.images.load import load_images

import numpy as np
import pytest
from image_files import arrays_of, idx_files, tar_of, write
from PIL import Image
from scipy.io import savemat

READMES = {
    name: (ROOT / "notebooks" / name / "README.md").read_text(encoding="utf-8")
    for name in ("mnist", "cifar10")
}
COMMAND = r"^\| ([^|]+) \| [^|]+ \| `make run PIPELINE=\w+ PARAMS='(.*)'` \|$"
ROWS = {
    match[1]: (name, json.loads(match[2]))
    for name, text in READMES.items()
    for match in re.finditer(COMMAND, text, re.M)
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a set as the command of its row would."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def loaded(row):
        pipeline, given = ROWS[row]
        names = load_images.__kwdefaults__.keys() | {"source"}
        return load_images(pipeline, **{k: v for k, v in given.items() if k in names})

    return loaded


def digits(n_classes=10, first=0, side=28):
    made = arrays_of((side, side), 4 * n_classes, 2 * n_classes)
    for part in ("train", "test"):
        labels = np.arange(len(made[f"y_{part}"])) % n_classes + first
        made[f"y_{part}"] = labels.astype(np.uint8)
    return made


def parameters(pipeline):
    sources = (ROOT / "notebooks" / pipeline).glob("*.ipynb")
    cells = [json.loads(path.read_text(encoding="utf-8"))["cells"][1]["source"] for path in sources]
    return set(re.findall(r"^(\w+):", "".join("".join(cell) + "\n" for cell in cells), re.M))


@pytest.mark.parametrize("row", ROWS)
def test_commands_name_parameters_that_exist(row):
    pipeline, given = ROWS[row]
    assert given.keys() <= parameters(pipeline)


def test_fashion(tmp_path, load):
    for name, data in idx_files(digits()).items():
        write(tmp_path, gzip.compress(data), f"fashion/{name}.gz")
    images = load("Fashion-MNIST")
    assert images.classes[9] == "ankle boot" and images.x_train.shape == (40, 28, 28)


@pytest.mark.parametrize("form", ["idx", "npz"])
def test_kmnist(tmp_path, load, form):
    made = digits()
    if form == "idx":
        for name, data in idx_files(made).items():
            write(tmp_path, gzip.compress(data), f"kmnist/{name}.gz")
    else:
        for key, name in {"x_train": "train-imgs", "y_train": "train-labels"}.items():
            write(tmp_path, {"arr_0": made[key]}, f"kmnist/kmnist-{name}.npz")
        for key, name in {"x_test": "test-imgs", "y_test": "test-labels"}.items():
            write(tmp_path, {"arr_0": made[key]}, f"kmnist/kmnist-{name}.npz")
    images = load("KMNIST")
    assert images.classes[:2] == ("o", "ki")
    np.testing.assert_array_equal(images.x_test, made["x_test"])


def test_emnist_letters(tmp_path, load):
    made = digits(26, first=1)
    for name, data in idx_files(made).items():
        write(tmp_path, gzip.compress(data), f"emnist/emnist-letters-{name}.gz")
        write(tmp_path, gzip.compress(data), f"emnist/emnist-digits-{name}.gz")
    write(tmp_path, b"1 65 97", "emnist/emnist-letters-mapping.txt")
    images = load("EMNIST letters")
    assert "".join(images.classes) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    np.testing.assert_array_equal(images.y_train, made["y_train"] - 1)
    np.testing.assert_array_equal(images.x_train, made["x_train"].swapaxes(1, 2))


def test_kaggles_digits(tmp_path, load):
    made = digits()
    names = ["label", *(f"pixel{k}" for k in range(784))]
    rows = np.column_stack([made["y_train"], made["x_train"].reshape(40, -1)])
    lines = [",".join(map(str, row)) for row in (names, *rows)]
    write(tmp_path, "\n".join(lines).encode(), "train.csv")
    images = load("Kaggle's digits")
    assert len(images.y_train) + len(images.y_test) == 40 and "split off" in images.notes[0]


def test_usps(tmp_path, load, monkeypatch):
    made = digits(side=16)
    for part in ("train", "test"):
        x = made[f"x_{part}"].reshape(-1, 256) / 127.5 - 1
        rows = np.column_stack([made[f"y_{part}"], x])
        lines = "\n".join(" ".join(f"{value:.4f}" for value in row) for row in rows)
        write(tmp_path, gzip.compress(lines.encode()), f"zip.{part}.gz")
    with pytest.raises(
        ValueError, match="zip.train.gz is .* of no form that is known: make an .npz"
    ):
        load_images("mnist", "zip.train.gz")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", READMES["mnist"], re.S)[1], {})
    images = load("USPS")
    np.testing.assert_array_equal(images.x_train, made["x_train"])
    np.testing.assert_array_equal(images.y_test, made["y_test"])


def test_svhn(tmp_path, load):
    made = arrays_of((32, 32, 3), 40, 20)
    (tmp_path / "svhn").mkdir()
    for part in ("train", "test"):
        y = made[f"y_{part}"].astype(np.uint8)
        written = {
            "X": np.moveaxis(made[f"x_{part}"], 0, -1),
            "y": np.where(y == 0, 10, y)[:, None],
        }
        savemat(tmp_path / "svhn" / f"{part}_32x32.mat", written)
    images = load("SVHN")
    np.testing.assert_array_equal(images.x_train, made["x_train"])
    digits_ = np.array([int(images.classes[k]) for k in images.y_train])
    np.testing.assert_array_equal(digits_, made["y_train"])


def test_cifar100(tmp_path, load):
    made = arrays_of((32, 32, 3), 200, 100)
    files = {"meta": pickle.dumps({"fine_label_names": [f"thing_{k}" for k in range(100)]})}
    for part in ("train", "test"):
        x = made[f"x_{part}"].transpose(0, 3, 1, 2).reshape(len(made[f"x_{part}"]), -1)
        labels = [k % 100 for k in range(len(x))]
        files[part] = pickle.dumps({"data": x, "fine_labels": labels})
    write(tmp_path, gzip.compress(tar_of(files)), "cifar-100-python.tar.gz")
    assert load("CIFAR-100").classes[99] == "thing_99"


def test_photographs(tmp_path, load):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for k in range(6):
            packed = io.BytesIO()
            pixels = rng.integers(0, 256, (80, 120, 3), np.uint8)
            Image.fromarray(pixels).save(packed, "JPEG")
            write(tmp_path, packed.getvalue(), f"photos/{name}/{k}.jpg")
    images = load("photographs")
    assert images.x_train.shape[1:] == (64, 64, 3) and images.classes == ("cat", "dog")
