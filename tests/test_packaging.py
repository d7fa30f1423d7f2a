"""Code that travels with a model: complete, and under a name that nothing else has."""

import importlib
import runpy
import sys

from lib.packaging import packed_code

import pytest


def test_copy_can_be_imported_beside_the_project_and_is_gone_afterwards():
    before = list(sys.path)
    with packed_code(["packaging"], "packaging.Nothing") as (script, package):
        copy = importlib.import_module(f"{package.name}.packaging")
        assert copy.packed_code is not packed_code
        assert f"from {package.name}.packaging import Nothing" in script.read_text()
    assert sys.path == before and not package.exists()


def test_module_that_needs_another_one_cannot_be_run_without_it():
    with (
        packed_code(["packaging", "power.model"], "power.model.PowerForecaster") as (script, _),
        pytest.raises(ModuleNotFoundError, match=r"model_code_\w+\.power\.columns"),
    ):
        runpy.run_path(str(script))
