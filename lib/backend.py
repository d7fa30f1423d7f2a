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
from pathlib import Path
from types import ModuleType

_has_looked = False
may_look = True
"""Whether importing Keras may look for devices, which begins threads: not before a fork."""


def import_keras() -> ModuleType:
    """Return the module `keras`, with TensorFlow as its backend unless ``KERAS_BACKEND`` is set.

    What is written to standard error meanwhile is left out if the import goes well, and shown if
    it does not.
    """
    global _has_looked
    if "keras" in sys.modules and (_has_looked or not may_look):
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors still show
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            keras = importlib.import_module("keras")
            if may_look:
                keras.distribution.list_devices()  # looking for GPUs is as noisy, and is done once
                _has_looked = True
            return keras
        except BaseException:
            noise.seek(0)
            with os.fdopen(os.dup(kept), "wb") as shown:
                shutil.copyfileobj(noise, shown)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def choose_precision(asked: str) -> str:
    """Return the Keras dtype policy for a precision, and what ``auto`` means on this machine.

    Parameters
    ----------
    asked : {"auto", "float32", "bfloat16"}
        ``auto`` is bfloat16 where there is a GPU, or a processor that multiplies bfloat16 itself
        (AVX512-BF16 or AMX), and float32 elsewhere: there bfloat16 is many times slower.

    Returns
    -------
    {"float32", "mixed_bfloat16"}
    """
    if asked == "auto":
        asked = "bfloat16" if _has_bfloat16() else "float32"
    return {"float32": "float32", "bfloat16": "mixed_bfloat16"}[asked]


def _has_bfloat16() -> bool:
    if any("gpu" in device.lower() for device in import_keras().distribution.list_devices()):
        return True
    facts = Path("/proc/cpuinfo")
    flags = facts.read_text(encoding="utf-8") if facts.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
