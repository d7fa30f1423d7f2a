"""What a command means by a run, a stage, a model and a version that are not named in full."""

import json

from lib import tracking
from lib.commands import which
from lib.commands.workbench import open_stage
from lib.registry import lifecycle
from lib.run import open_run

import pytest
from memory_store import MemoryClient

START = "2026-01-0{}T03:04:05+00:00"


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write a run folder that says when it was started, on such a day of January 2026."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))

    def write(run_dir, day, **facts):
        folder = tmp_path / run_dir
        (folder / "stages").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"started": START.format(day)} | facts))
        return folder

    return write


@pytest.fixture
def runs(put):
    """Four runs of two pipelines, a reference run and a copy that is younger than all."""
    for run_dir, day in (("wind/old", 1), ("wind/new", 4), ("sea/b", 2), ("sea/a", 3)):
        put(run_dir, day)
    put("wind/reference-2", 8)
    put("wind/open-01_load-of-old", 9, run_type="opened", opened="wind/old")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("text", "pipeline", "found"),
    [
        ("", "", "wind/new"),
        ("latest", "", "wind/new"),
        ("latest", "sea", "sea/a"),
        ("sea/latest", "", "sea/a"),
        ("sea", "", "sea/a"),
        ("sea/b/", "", "sea/b"),
        ("wind/reference-2", "", "wind/reference-2"),
    ],
)
def test_latest_is_the_run_that_was_started_last_and_neither_copy_nor_reference(
    text, pipeline, found
):
    assert which.find_run(text, pipeline).run_dir == found


def test_run_may_be_named_by_its_path_its_page_or_as_airflow_names_it(put, tmp_path, monkeypatch):
    folder = put("wind/manual__2026-01-02T03-04-05+00-00", 1)
    (folder / "report.html").touch()
    monkeypatch.chdir(tmp_path.parent)
    relative = folder.relative_to(tmp_path.parent)
    for text in (folder, f"{folder}/", relative, relative / "report.html"):
        assert which.find_run(str(text)).run_dir == f"wind/{folder.name}"
    assert which.find_run("wind/manual__2026-01-02T03:04:05+00:00").path.name == folder.name


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wind/knew", r"no run 'wind/knew' in .*; there are wind/new, sea/a, sea/b, wind/old"),
        ("rain/latest", r"no run of rain in .*; there are runs of sea, wind"),
        ("../x", "run_dir = '../x': expected"),
        ("wind/../../x", "expected '<pipeline>/<run>'"),
    ],
)
def test_run_that_is_not_there_is_answered_with_those_that_are(text, message):
    with pytest.raises(ValueError, match=message):
        which.find_run(text)


def test_where_no_run_was_made_the_command_that_makes_one_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"no run yet, make one: make run PIPELINE=power"):
        which.find_run("latest")
    with pytest.raises(ValueError, match=r"no run of tick .* make one: make run PIPELINE=tick"):
        which.find_run("tick/latest")
    with pytest.raises(ValueError, match=r"no run of tik in .*, and no such pipeline; there are c"):
        which.find_run("tik/latest")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("asked", "a", "b", "words"),
    [
        (("", ""), "wind/old", "wind/new", "wind/old is the newest other run of wind"),
        (("", "", "sea"), "sea/b", "sea/a", "sea/b is the newest other run of sea"),
        (("latest", ""), "wind/new", "wind/old", "wind/old is the newest other run of wind"),
        (("", "wind/old"), "wind/new", "wind/old", "wind/new is the newest other run of wind"),
        (("sea/latest", "latest"), "sea/a", "wind/new", ""),
    ],
)
def test_pair_that_was_not_named_is_the_last_two_runs_of_one_pipeline(asked, a, b, words):
    one, other, said = which.find_pair(*asked)
    assert (one.run_dir, other.run_dir, said) == (a, b, words)


def test_only_run_of_its_pipeline_has_nothing_to_be_compared_with(put):
    put("sea/a", 1)
    put("wind/a", 2)
    with pytest.raises(ValueError, match=r"wind/a is the only run of wind.*make run PIPELINE=wind"):
        which.find_pair("", "")


def stages(*states):
    names = ["01_load", "02_train", "03_evaluate", "04_register"]
    found = [
        {"name": name, "state": state, "started": None if state == "waiting" else "t"}
        for name, state in zip(names, states, strict=True)
    ]
    return [stage | {"notebook": None} for stage in found]


@pytest.mark.parametrize(
    ("states", "state", "stage"),
    [
        (("passed", "failed", "waiting", "waiting"), "failed", "02_train"),
        (("passed", "passed", "passed", "passed"), "passed", "03_evaluate"),
        (("passed", "passed", "passed", "failed"), "refused", "03_evaluate"),
        (("passed", "running", "waiting", "waiting"), "running", "02_train"),
    ],
)
def test_stage_to_open_is_the_one_that_failed_else_the_evaluation_else_the_last(
    states, state, stage
):
    summary = {"run_dir": "wind/a", "state": state, "stages": stages(*states)}
    assert which.find_stage(summary)["name"] == stage


def test_stage_may_be_named_by_its_number_or_its_verb_and_an_unknown_one_is_refused():
    summary = {"run_dir": "wind/a", "state": "passed", "stages": stages(*["passed"] * 4)}
    for text in ("02_train", "02", "train"):
        assert which.find_stage(summary, text)["name"] == "02_train"
    with pytest.raises(ValueError, match=r"wind/a has no stage 'tune'; it has 01_load, 02_train"):
        which.find_stage(summary, "tune")
    summary["stages"] = stages(*["waiting"] * 4)
    with pytest.raises(ValueError, match="nothing to open yet"):
        which.find_stage(summary)


def test_real_copy_of_a_stage_is_not_the_latest_run(put, tmp_path):
    put("power/a", 1)
    stage = open_run("power/a", stage="01_load")
    stage.finish()
    path = open_stage("power/a", "01_load", tmp_path / "root")
    assert path.exists() and which.newest_runs() == ["power/a"]


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A registry in memory, empty."""
    client = MemoryClient()
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    return client


def test_only_model_need_not_be_named_and_of_several_none_is_guessed(store):
    with pytest.raises(ValueError, match=r"no model is registered yet.*make run PIPELINE=power"):
        which.find_model("")
    store.create_registered_model("house")
    assert which.find_model("") == "house" and which.find_model("other") == "other"
    store.create_registered_model("garden")
    with pytest.raises(ValueError, match="no model was named, and there are several: garden, hous"):
        which.find_model("")


def test_version_is_a_number_an_alias_or_the_latest_and_never_guessed(store):
    store.create_registered_model("house")
    for _ in range(11):
        store.create_model_version("house", "", {})
    store.set_registered_model_alias("house", lifecycle.STAGING, "3")
    known = {"2": "2", "latest": "11", "@staging": "@staging", "x": "x"}
    assert {text: which.find_version("house", text) for text in known} == known
    with pytest.raises(ValueError, match=r"no version of house was named; .* 10, 11$"):
        which.find_version("house", "")
    with pytest.raises(ValueError, match="no registered model 'nobody'; there are: house"):
        which.find_version("nobody", "latest")
