"""Tests never touch the user's runs: every location points to a folder of this test session."""

import os
import shutil
import tempfile
from pathlib import Path

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
