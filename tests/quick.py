"""Loaded before every plugin of pytest: compile tests once, whatever the shell says.

With `PYTHONDONTWRITEBYTECODE`, which some images set, every process compiles all of them each time.
Nothing that is imported to know the tests becomes garbage: nobody looks for any among it.
"""

import gc
import sys

import pytest

sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection():
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
