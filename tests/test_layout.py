"""Where pipelines lie, and what their notebooks say before they run."""

import json

from lib.ground import layout
from lib.ground.files import ROOT

import pytest


def save(path, card="", code=("a: int = 1  # rows [0..9]",)):
    """Write a notebook with a card, a parameters cell and no more."""
    cells = [{"cell_type": "markdown", "metadata": {}, "source": card}]
    for source in code:
        tags = {"tags": ["parameters"]}
        cells.append({"cell_type": "code", "metadata": tags, "source": source, "outputs": []})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Two pipelines in a folder of their own, of which one registers a model."""
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    save(layout.notebook("wind", "01_load"), "**Reads** nothing. **Writes** `raw.parquet`.")
    save(layout.notebook("wind", "02_register"), "**Reads** `raw.parquet`. **Writes** `x.json`.")
    save(layout.notebook("look", "01_look"))
    return tmp_path


def test_pipelines_lie_in_the_repository_unless_it_is_said_where(monkeypatch):
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    assert layout.dag_file("score") == ROOT / "dags" / "score.py"
    assert set(layout.pipelines(ending="_register")) < set(layout.pipelines())


def test_stages_are_the_numbered_notebooks_of_a_folder_in_order(elsewhere):
    save(layout.folder("wind") / "notes.ipynb")
    assert layout.planned("wind") == ["01_load", "02_register"]
    assert list(layout.declared("wind")) == ["01_load", "02_register"]
    assert layout.pipelines() == ["look", "wind"] and layout.planned("none") == []
    assert layout.pipelines(ending="_register") == ["wind"]
    assert layout.dag_file("wind") == elsewhere / "dags" / "wind.py"


def test_pipeline_without_notebooks_is_refused_with_those_that_there_are(elsewhere):
    with pytest.raises(ValueError, match="no notebooks for pipeline 'wnd'; there are look, wind"):
        layout.declared("wnd")


def test_card_says_which_stage_writes_a_file(elsewhere):
    assert layout.stage_that_writes("wind", "raw.parquet") == "01_load"
    assert layout.stage_that_writes("wind", "y.json") == "the stage of wind that writes y.json"
