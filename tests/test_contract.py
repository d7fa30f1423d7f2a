"""What the registry needs of a pipeline, made by hand or by `make new`: what is missing is said."""

import inspect
import json
import re

from lib.ground import layout
from lib.registry import rows

import pytest

FUNCTIONS = {
    "load_rows": ["source", "options", "model"],
    "predict": ["model", "rows", "keys"],
    "watched": ["rows"],
}
"""Of ``lib/pipelines/<pipeline>.py``, with the arguments that the registry gives."""

CALLS = {
    r'run\.write\(\s*"dataset\.json"': "the load stage writes dataset.json: name, source and "
    "digest of the data stand with each version",
    r"drift\.keep_profile\(|\"profile\.json\"": "the features stage calls drift.keep_profile(run, "
    "frame, window_rows): new data are compared with that",
    r'run\.writing\(\s*"model"': 'the train stage makes its model in run.writing("model"): that '
    "folder is registered",
    r"judged\.write\(": "the evaluate stage calls judged.write(run, frame, kind=..., ...): the "
    "gate compares versions on these rows",
    r'run\.write\(\s*"metrics\.json"': "the evaluate stage writes metrics.json: pages and versions "
    "show it",
    r"floors\.verdict\(": "the evaluate stage calls floors.verdict(run, metrics, ...): without "
    "a floor nothing is registered",
    r"rematch\.against_production\(": "the register stage asks rematch.against_production(run, "
    "name): what serves is judged on the same rows",
    r"gate\.judge\(": "the register stage calls gate.judge(verdict, match, margin=margin)",
    r"lifecycle\.register\(": "the register stage calls lifecycle.register(run, name, ...)",
}
"""What the code of a pipeline's notebooks holds, and what for."""

PARAMETERS = {
    "source": "the load stage: where the data are",
    "model_name": "the register stage: under which name the model is registered",
    "promote": "the register stage: how far a version may go",
    "margin": "the register stage: the least improvement that counts",
}


def missing(pipeline):
    """A sentence for each thing that the pipeline lacks."""
    found = []
    for name, wanted in FUNCTIONS.items():
        try:
            takes = list(inspect.signature(rows.part(pipeline, name)).parameters)
        except rows.MissingPart as error:
            found.append(str(error))
        else:
            if takes[: len(wanted)] != wanted:
                found.append(f"{name} of lib/pipelines/{pipeline}.py takes {takes}, not {wanted}")
    stages = layout.planned(pipeline)
    cells = [
        "".join(cell["source"])
        for stage in stages
        for cell in json.loads(layout.notebook(pipeline, stage).read_text("utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    text = "\n".join(cells)
    found += [words for pattern, words in CALLS.items() if not re.search(pattern, text)]
    declared = {name for stage in layout.declared(pipeline).values() for name in stage}
    found += [f"no parameter {n} in {of}" for n, of in PARAMETERS.items() if n not in declared]
    if not layout.dag_file(pipeline).exists():
        found.append(f"there is no dags/{pipeline}.py, which chains the notebooks")
    if not (layout.folder(pipeline) / "README.md").exists():
        found.append(f"there is no notebooks/{pipeline}/README.md: data, licence, stages")
    return [f"{pipeline}: {words}" for words in found]


@pytest.mark.parametrize("pipeline", layout.pipelines(ending="_register"))
def test_pipeline_has_all_that_gate_compare_score_and_pages_ask_for(pipeline):
    assert missing(pipeline) == []


def test_pipeline_without_anything_is_told_all_it_lacks_and_what_for(tmp_path, monkeypatch):
    notebook = tmp_path / "notebooks/unmade/01_register.ipynb"
    notebook.parent.mkdir(parents=True)
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "outputs": []}
    cell |= {"source": 'run_dir: str = "unmade/dev"  # run folder', "execution_count": None}
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}}))
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    said = missing("unmade")
    assert len(said) == len(FUNCTIONS) + len(CALLS) + len(PARAMETERS) + 2
    assert said[0].startswith("unmade: there is no lib/pipelines/unmade.py with load_rows, which")
    assert any("calls judged.write(run, frame" in words for words in said)
    assert "unmade: there is no dags/unmade.py, which chains the notebooks" in said
