"""Keras, imported when it is needed and without noise.

TensorFlow writes lines about the machine to the standard error of the process, before any setting
of its own is read; in a notebook they would be taken for warnings of the cell. Importing this
module imports nothing.
"""

import importlib
import os
import shutil
import sys
import tempfile
from types import ModuleType

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # errors still show


def import_keras() -> ModuleType:
    """Return the module `keras`, with TensorFlow as its backend unless ``KERAS_BACKEND`` is set.

    What is written to standard error meanwhile is left out if the import goes well, and shown if
    it does not.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            keras = importlib.import_module("keras")
            keras.distribution.list_devices()  # looking for GPUs is as noisy, and is done once
            return keras
        except BaseException:
            noise.seek(0)
            with os.fdopen(os.dup(kept), "wb") as shown:
                shutil.copyfileobj(noise, shown)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
