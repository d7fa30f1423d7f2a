"""Opening a stage: its notebook with the run's parameters, on a copy that leaves the run alone."""

import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from lib import tracking
from lib.commands import workbench
from lib.commands.workbench import open_stage
from lib.ground import outcome
from lib.ground.addresses import open_stage_link
from lib.ground.files import write_bytes
from lib.ground.runs import copied_from
from lib.pages.summary import summarise
from lib.registry import lifecycle
from lib.run import UnfinishedStage, open_run

import IPython
import pandas as pd
import pytest
from opened import (
    FRAME,
    ODD,
    PARAMETERS,
    assigned,
    cell,
    copies,
    executed,
    fingerprint,
    make_run,
    sources,
)
from upath import UPath


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def test_opened_notebook_has_the_cells_and_parameters_of_the_run_and_no_outputs(outputs, tmp_path):
    make_run()
    path = open_stage("power/r1", "02_features", tmp_path)
    assert path == tmp_path / "workbench/power-r1/02_features.ipynb"
    assert assigned(path)["block_days"] == 9
    assert assigned(path)["run_dir"] == "power/open-02_features-of-r1"
    assert sources(path)[2] == PARAMETERS and sources(path)[4:] == ["print('seen')"]
    code = [c for c in outcome.read_notebook(UPath(path))["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    assert all(list(c["metadata"]) == ["tags"] for c in code)


def test_links_to_other_stages_lead_to_their_notebooks(outputs, tmp_path):
    make_run()
    card = sources(open_stage("power/r1", "02_features", tmp_path))[1]
    assert card == "# Card\n[1 · Load](../../notebooks/power/01_load.ipynb)"


def test_opened_notebook_is_a_valid_notebook(outputs, tmp_path):
    import nbformat

    make_run()
    for stage in ("02_features", "05_evaluate"):
        nbformat.validate(nbformat.read(open_stage("power/r1", stage, tmp_path), as_version=4))


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def anywhere(request, tmp_path, monkeypatch):
    """An outputs folder on every kind of file system that is promised to work."""
    place = {"local": str(tmp_path / "outputs"), "memory": f"memory://{tmp_path.name}"}
    if request.param == "s3":
        place["s3"] = f"s3://{request.getfixturevalue('bucket')}/outputs"
    monkeypatch.setenv("OUTPUTS_DIR", place[request.param])


@pytest.mark.slow
def test_copy_holds_what_the_earlier_stages_left_and_lets_the_stage_read_it(anywhere, tmp_path):
    make_run()
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1", stage="03_tune")
    pd.testing.assert_frame_equal(copy.read("features.parquet"), FRAME)
    assert (copy.local("tables") / "one.txt").read_text() == "1"
    assert not (copy.path / "trials.csv").exists(), "of the stage itself"
    assert not (copy.path / "mlflow.json").exists(), "it would lead to the MLflow run of the run"


@pytest.mark.slow
def test_second_call_makes_another_copy_on_every_file_system(anywhere, tmp_path):
    make_run()
    first = open_stage("power/r1", "02_features", tmp_path)
    first.write_text("my edits")
    second = open_stage("power/r1", "02_features", tmp_path)
    assert first.read_text() == "my edits" and second.name == "02_features-2.ipynb"
    assert assigned(second)["run_dir"] == "power/open-02_features-of-r1-2"


def test_notebook_whose_copy_is_gone_is_not_overwritten(outputs, tmp_path):
    make_run()
    open_stage("power/r1", "02_features", tmp_path).write_text("my edits")
    shutil.rmtree(outputs / "power/open-02_features-of-r1")
    assert open_stage("power/r1", "02_features", tmp_path).name == "02_features-2.ipynb"
    assert (tmp_path / "workbench/power-r1/02_features.ipynb").read_text() == "my edits"


def test_first_stage_is_opened_without_any_input(outputs, tmp_path):
    make_run()
    open_stage("power/r1", "01_load", tmp_path)
    folder = outputs / "power/open-01_load-of-r1"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {"run.json", "opened/01_load.ipynb"}


def test_run_stays_as_it_was_whatever_is_done_in_the_copy(outputs, tmp_path):
    make_run()
    before = fingerprint(outputs / "power/r1")
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1", stage="02_features")
    copied = outputs / "power/open-03_tune-of-r1/raw.parquet"
    with copied.open("r+b") as file:
        file.write(b"edited in place")
    copy.write("features.parquet", FRAME + 1)
    copy.finish()
    assert fingerprint(outputs / "power/r1") == before


@pytest.mark.slow
def test_copy_says_what_it_is_a_copy_of_and_counts_as_a_run_by_hand(outputs, tmp_path):
    run = make_run()
    open_stage("power/r1", "03_tune", tmp_path)
    copy = open_run("power/open-03_tune-of-r1")
    assert copied_from(copy) == "power/r1" and copied_from(run) == ""
    assert summarise(copy)["state"] == "unfinished" and summarise(copy)["problems"] == []


@pytest.mark.parametrize("run_dir", ["power/absent", "../power", "power/..", "/etc/x"])
def test_unknown_run_is_refused_and_nothing_is_made(outputs, tmp_path, run_dir):
    make_run()
    with pytest.raises(ValueError, match=r"run_dir|no run '.*' in .*; there are power/r1"):
        open_stage(run_dir, "02_features", tmp_path)
    assert not (tmp_path / "workbench").exists() and copies(outputs) == []


@pytest.mark.parametrize("stage", ["05_evaluat", "../01_load", "stages/01_load"])
def test_unknown_stage_is_refused_with_those_that_there_are(outputs, tmp_path, stage):
    make_run()
    with pytest.raises(ValueError, match=r"power/r1 has no stage .*01_load, .*, 06_register"):
        open_stage("power/r1", stage, tmp_path)
    assert not (tmp_path / "workbench").exists() and copies(outputs) == []


def test_odd_name_of_a_run_is_kept_in_folder_and_address(outputs, tmp_path):
    make_run(ODD)
    path = open_stage(ODD, "02_features", tmp_path)
    assert path == tmp_path / "workbench/power-run-a.b=c+d-0f/02_features.ipynb"
    assert open_run(assigned(path)["run_dir"]).read("raw.parquet").equals(FRAME)
    found = urllib.parse.parse_qs(urllib.parse.urlsplit(open_stage_link(ODD, "02_features")).query)
    assert found == {"run": [ODD], "stage": ["02_features"]}


def test_failed_stage_shows_its_error_and_marks_the_cell_once(outputs, tmp_path):
    run = make_run()
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'kW'", "traceback": []}
    ran = executed(cell("fine = 1"), cell("bad", outputs=[error]), cell("after"), run_dir="x/y")
    outcome.mark_failed(ran, 4, "KeyError", "'kW'")
    outcome.write_notebook(run.path / "02_features.ipynb", ran)
    found = sources(open_stage("power/r1", "02_features", tmp_path))
    assert "KeyError: 'kW'" in found[0]
    assert found[4:] == ["fine = 1", "**In the run, the next cell failed.**", "bad", "after"]


def test_stage_that_was_not_executed_gets_what_the_run_knows_of_its_parameters(outputs, tmp_path):
    run = make_run()
    record = run.records()["01_load"]
    record["parameters"] = {"seed": 3, "max_rmse_vs_persistence": 0.5, "source": "sample"}
    write_bytes(run.path / "stages/01_load.json", json.dumps(record).encode())
    path = open_stage("power/r1", "05_evaluate", tmp_path)
    values = {name: assigned(path).get(name) for name in ("max_rmse_vs_persistence", "seed")}
    assert values == {"max_rmse_vs_persistence": 0.5, "seed": 3}
    assert "source" not in assigned(path), "the stage has no such parameter"
    note = sources(path)[0]
    assert "the cells are of `notebooks/power/05_evaluate.ipynb`" in note
    assert "defaults are taken: block_length, min_judged, n_explained, n_resamples." in note
    assert "Not finished in the run: 03_tune, 04_train" in note


@pytest.mark.slow
def test_notebook_that_has_changed_since_is_named_with_its_parameters(outputs, tmp_path):
    make_run()
    note = sources(open_stage("power/r1", "02_features", tmp_path))[0]
    assert re.search(r"02_features.ipynb` now declares otherwise: .*block_days.*horizon", note)
    assert "The code of `notebooks/power/02_features.ipynb` has changed since" in note
    note = sources(open_stage("power/r1", "01_load", tmp_path))[0]
    assert "declares otherwise" not in note and "has changed" not in note


def test_other_commit_is_named_with_the_way_to_run_the_stage_as_it_was(outputs, tmp_path):
    run = make_run()
    assert "is that of commit" not in sources(open_stage("power/r1", "02_features", tmp_path))[0]
    started = {"commit": "5ff2590f57069bf0", "started": "2026-01-02T03:04"}
    write_bytes(run.path / "run.json", json.dumps(started).encode())
    note = sources(open_stage("power/r1", "02_features", tmp_path))[0]
    assert "the run began with 5ff2590f57069bf0" in note
    assert "`make reproduce RUN=power/r1 KEEP=1` runs it as it was" in note


def test_copy_takes_the_values_that_its_own_parameters_cell_allows(outputs, tmp_path, monkeypatch):
    make_run()
    path = open_stage("power/r1", "02_features", tmp_path)
    kernel = assigned(path) | {"lags": "not a list any more"}
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(user_ns=kernel))
    run = open_run(kernel["run_dir"], stage="02_features")
    assert run.record("02_features")["parameters"]["block_days"] == 9
    with pytest.raises(ValueError, match="lags"):
        open_run("power/other", stage="02_features")
    kernel["block_days"] = 61
    with pytest.raises(ValueError, match="block_days"):
        open_run(kernel["run_dir"], stage="02_features")


def test_damaged_input_stays_refused_in_the_copy(outputs, tmp_path):
    run = make_run()
    (run.path / "raw.parquet").write_bytes(b"short")
    open_stage("power/r1", "02_features", tmp_path)
    with pytest.raises(UnfinishedStage, match="damaged"):
        open_run("power/open-02_features-of-r1", stage="02_features").read("raw.parquet")


def test_model_of_a_copy_is_registered_only_when_asked_for_in_words(outputs, tmp_path, monkeypatch):
    run = open_run("power/r1", stage="01_load")
    run.write("dataset.json", {"source": "sample", "digest": "d"})
    run.write("metrics.json", {"rmse": 1.0})
    run.write("verdict.json", {"passed": True, "checks": []})
    with run.writing("model") as path:
        path.mkdir()
        (path / "MLmodel").write_text("x")
    run.finish()
    open_stage("power/r1", "06_register", tmp_path)
    monkeypatch.setattr(tracking, "mirror", lambda run: {}["reached MLflow"])
    copy = open_run("power/open-06_register-of-r1", stage="06_register")
    with pytest.raises(ValueError, match=r"not registered: .* is a copy of power/r1.*from_copy"):
        lifecycle.register(copy, "household")
    for given, options in ((copy, {"from_copy": True}), (open_run("power/r1"), {})):
        with pytest.raises(KeyError, match="reached MLflow"):
            lifecycle.register(given, "household", **options)
    assert "from_copy=True" in sources(tmp_path / "workbench/power-r1/06_register.ipynb")[0]


def test_running_lab_that_can_show_the_notebook_is_found(tmp_path, monkeypatch):
    servers = [
        {"root_dir": "/elsewhere", "url": "http://127.0.0.1:1/", "token": "t"},
        {"root_dir": str(tmp_path), "url": "http://127.0.0.1:2/base/", "token": "t"},
    ]
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: iter(servers))
    path = tmp_path / "workbench/power-a+b/01_load.ipynb"
    expected = "http://127.0.0.1:2/base/lab/tree/workbench/power-a%2Bb/01_load.ipynb?token=t"
    assert workbench.lab_url(path) == expected
    assert workbench.lab_url(Path("/other/01_load.ipynb")) == ""


def test_command_prints_the_note_the_notebook_and_how_to_open_it(
    outputs, tmp_path, monkeypatch, capsys
):
    make_run()
    monkeypatch.setattr(workbench, "open_stage", lambda *a: open_stage(*a, tmp_path))
    monkeypatch.setattr(workbench, "ROOT", tmp_path)
    monkeypatch.setattr(workbench, "lab_url", lambda path: "")
    workbench.main("power/r1", "02_features")
    printed = capsys.readouterr().out
    assert "Stage `02_features` of `power/r1`" in printed
    assert "open      make lab, then workbench/power-r1/02_features.ipynb" in printed
