"""Small image sets in every form that is read: arrays, Keras' .npz, batches, archives."""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
from functools import partial
from pathlib import Path

from lib.images.load import load_images

import numpy as np
import pytest

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
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


def write(folder, content, name="images.npz"):
    """Write arrays or bytes to a file of a folder and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez_compressed(path, **content)
    return str(path)


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
    return write({"data": planes.copy(), "labels": [int(label) for label in y]})


def batches_of(arrays, write=pickle.dumps):
    """What the files of the official folder hold, by their names."""
    x, y = arrays["x_train"], arrays["y_train"]
    size = len(x) // 5
    parts = {f"data_batch_{k + 1}": slice(k * size, (k + 1) * size) for k in range(5)}
    files = {name: batch(x[rows], y[rows], write) for name, rows in parts.items()}
    return files | {"test_batch": batch(arrays["x_test"], arrays["y_test"], write)}


def idx_files(arrays):
    """What MNIST's four files hold, by their names."""
    files = {}
    for part, word in (("train", "train"), ("test", "t10k")):
        for key, name in (("x", "images-idx3"), ("y", "labels-idx1")):
            array = arrays[f"{key}_{part}"]
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            files[f"{word}-{name}-ubyte"] = head + array.tobytes()
    return files


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


def refuses(dataset, path, message, **options):
    """Loading raises the message, which names the file."""
    with pytest.raises(ValueError, match=message) as caught:
        load_images(dataset, path, **options)
    assert Path(path).name in str(caught.value)
    return str(caught.value)


@pytest.fixture
def digits():
    return arrays_of((28, 28))


@pytest.fixture
def objects():
    return arrays_of((32, 32, 3))


@pytest.fixture
def put(tmp_path):
    return partial(write, tmp_path)
