"""Tests never touch the user's runs: every location points to a folder of this test session."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(tempfile.mkdtemp(prefix="pipelines-"))
os.environ["OUTPUTS_DIR"] = str(FOLDER / "outputs")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from lib.services import airflow_settings  # noqa: E402

os.environ.update(airflow_settings())  # before anything imports Airflow
del os.environ["MLFLOW_TRACKING_URI"]  # follows OUTPUTS_DIR, which some tests change


def pytest_unconfigure() -> None:
    """Remove what the tests made."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, in one process, what belongs together, the longest first.

    A pipeline's notebooks read what the ones before them wrote. Tests of a module share a run.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        path = Path(item.path)
        name = path.parent.name if path.suffix == ".ipynb" else path.stem
        item.add_marker(pytest.mark.xdist_group(name))
        groups.setdefault(name, []).append(item)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        by_length = sorted(groups.values(), key=_n_long, reverse=True)
        items[:] = [item for group in by_length for item in group]


def _n_long(items: list[pytest.Item]) -> int:
    """Return how many of `items` start a kernel, as the cells of a notebook do."""
    return sum(
        item.get_closest_marker("kernel") is not None or Path(item.path).suffix == ".ipynb"
        for item in items
    )
