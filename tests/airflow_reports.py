"""A run to report on, and a client of the reports as Airflow mounts them."""

import base64
import json
import os
from pathlib import Path

from lib.ground.runs import run_folder_name

import pytest
from run_pages import PIXEL

RUN_ID = "manual__2026-01-02T03:04:05+00:00"

RUN = f"power/{run_folder_name(RUN_ID)}"

REPORT = f"{RUN}/report.html"

SECRET = "do not show this"


def notebook(*outputs, state="running"):
    """An executed notebook with one code cell for each text that was printed, and one to come."""
    status = [*["completed"] * len(outputs), "pending"]
    cells = [
        {
            "cell_type": "code",
            "id": str(number),
            "execution_count": number,
            "source": f"step_{number}()",
            "metadata": {"papermill": {"status": found}},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": text}] if text else [],
        }
        for number, (text, found) in enumerate(zip((*outputs, ""), status, strict=True))
    ]
    record = {"start_time": "2026-01-02T03:04:05+00:00"}
    if state != "running":
        record["end_time"] = "2026-01-02T03:04:09+00:00"
    metadata = {"kernelspec": {"language": "python"}, "papermill": record}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


CHART = {
    "x": {"label": "hour", "time": False, "start": 0, "steps": 1},
    "y": {"label": "power (kW)"},
    "series": [
        {"label": "power", "kind": "line", "muted": False, "hidden": False, "values": [1, 2, 3]}
    ],
    "note": "",
}


def with_figure(*outputs):
    """The same, with a figure that the first cell has written."""
    made = notebook(*outputs)
    cell = made["cells"][0]
    cell["source"] = 'run.write("forecast.png", figure);'
    image = base64.b64encode(PIXEL).decode()
    cell["outputs"].append({"output_type": "display_data", "data": {"image/png": image}})
    return made


def begin(outputs, pipeline):
    """Make the folder of a run that goes on; return it."""
    path = Path(outputs, pipeline, run_folder_name(RUN_ID))
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"dag_id": pipeline, "run_id": RUN_ID}))
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words")))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of one run, going on, below an `OUTPUTS_DIR` of its own."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    (tmp_path / "secret.ipynb").write_text(json.dumps(notebook(SECRET)))
    return begin(tmp_path / "outputs", "power")


@pytest.fixture(scope="module")
def tokens():
    """Tokens that Airflow has signed for a viewer and for an administrator."""
    from airflow import models, settings
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models.base import Base

    models.import_all_models()
    Path(os.environ["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True)
    Base.metadata.create_all(settings.engine)
    manager = init_auth_manager()
    return {
        role: manager.generate_jwt(SimpleAuthManagerUser(username=role, role=role))
        for role in ("viewer", "admin")
    }


@pytest.fixture
def client(tokens):
    """A client of the reports as Airflow mounts them; it follows no redirect."""
    from lib.dag.reports import reports

    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.mount("/reports", reports())
    return TestClient(app, follow_redirects=False)


@pytest.fixture
def get(client, tokens):
    """Ask for a path as somebody who is logged in."""
    return lambda path, **headers: client.get(
        f"/reports/{path}", headers={"Cookie": f"_token={tokens['viewer']}"} | headers
    )
