"""What makes `make fast` fast: modules that it does not import, or in one process, or late."""

import sys
from types import SimpleNamespace

from lib.ground.files import ROOT

import pytest
from late import Late


@pytest.fixture
def root(request):
    """The project's own `conftest.py`."""
    return request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))


@pytest.mark.parametrize(
    ("mark", "is_left_out"),
    [
        ("pytestmark = pytest.mark.slow  # imports TensorFlow", True),
        ("pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]", True),
        ("pytestmark = [\n    pytest.mark.slow,\n    pytest.mark.real,\n]", True),
        ("pytestmark = pytest.mark.timeout(300)", False),
        ("@pytest.mark.slow\ndef test_one(): ...", False),
    ],
)
def test_module_is_left_out_if_it_says_that_none_of_its_tests_is_quick(
    root, tmp_path, mark, is_left_out
):
    file = tmp_path / "tests" / "test_one.py"
    file.parent.mkdir()
    file.write_text(f"import pytest\n\n{mark}\n")
    asked = {"": None, "slow": None, root.QUICK: is_left_out or None}
    for expression, answer in asked.items():
        config = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
        assert root.pytest_ignore_collect(file, config) is answer, expression
    assert f'-m "{root.QUICK}"\n' in (ROOT / "Makefile").read_text()


def test_what_imports_airflow_is_told_by_the_text(root):
    assert root.imports_airflow("tests/test_pipelines.py")
    assert root.imports_airflow("tests/test_airflow_reports.py")
    assert not root.imports_airflow("tests/test_ticks.py")


def test_late_module_is_imported_when_asked_and_can_be_changed(tmp_path, monkeypatch):
    (tmp_path / "seldom.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    seldom = Late("seldom")
    assert not hasattr(seldom, "__test__"), "which pytest asks"
    assert "seldom" not in sys.modules
    assert seldom.answer == 42
    with monkeypatch.context() as patch:
        patch.setattr(seldom, "answer", 43)
        assert sys.modules["seldom"].answer == 43
    assert sys.modules.pop("seldom").answer == 42
