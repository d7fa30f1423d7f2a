"""Code that travels with a model: complete, and under a name that nothing else has."""

import importlib
import runpy
import sys

from lib import packaging
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


def test_import_within_a_function_goes_to_the_copy_and_one_of_all_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packaging, "LIB", tmp_path)
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "a.py").write_text("def f():\n    from lib.b import x\n\n    return x\n")
    with packed_code(["a", "b"], "a.f") as (_, package):
        assert importlib.import_module(f"{package.name}.a").f() == 1
    for other in ("import lib.b", "from lib import b"):
        (tmp_path / "a.py").write_text(f"def f():\n    {other}\n")
        with pytest.raises(ValueError, match=f"lib.a .*{other}"), packed_code(["a", "b"], "a.f"):
            pass
