"""Beginning by hand: from the newest run that fits, or with the way on in the first line."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

from lib.commands import workbench
from lib.ground.files import ROOT, write_bytes
from lib.ground.parameters import read_parameters
from lib.ground.runs import note_start
from lib.run import UnfinishedStage, open_run

import IPython
import pytest

STAGES = ["01_load", "02_features", "03_tune", "04_train", "05_evaluate"]
OLD, NEW = "power/manual__2026-01-02T03-04-05", "power/manual__2026-01-03T03-04-05"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


@pytest.fixture
def kernel(monkeypatch):
    """Let this process be a kernel, of a person or of papermill; return its run.

    What is older than the code that makes it is not looked for: no run here has a key.
    """
    monkeypatch.setattr("lib.once.inputs.begin", lambda run: "")

    def enter(stage, *, person=True, run_dir="power/dev", **changed):
        declared = read_parameters(ROOT / "notebooks" / "power" / f"{stage}.ipynb")
        names = {name: p.default for name, p in declared.items()} | {"run_dir": run_dir} | changed
        request = {"content": {"allow_stdin": person}}
        shell = SimpleNamespace(user_ns=names)
        shell.kernel = SimpleNamespace(get_parent=lambda channel: request)
        monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
        return open_run(run_dir, stage=stage)

    return enter


def make_run(run_dir, day="02", stages=STAGES, **changed):
    """Leave a run as `make run` does: every stage reads the file of the one before."""
    note_start(open_run(run_dir), dag_id="power", run_id=run_dir)
    for number, stage in enumerate(stages):
        run = open_run(run_dir, stage=stage)
        declared = read_parameters(ROOT / "notebooks" / "power" / f"{stage}.ipynb")
        values = {name: p.default for name, p in declared.items()}
        known = {name: changed[name] for name in changed if name in values}
        run.parameters.update(values | known | {"run_dir": run_dir})
        before = run.read(f"{stages[number - 1]}.json") if number else {}
        run.write(f"{stage}.json", before | {stage: run_dir})
        if stage == "04_train":
            with run.writing("model") as path:
                path.mkdir()
                (path / "MLmodel").write_text(run_dir)
        run.finish()
        times = {"started": f"2026-01-{day}T03:0{number}:00+00:00"}
        times |= {"finished": f"2026-01-{day}T03:0{number}:30+00:00"}
        record = run.record(stage) | times
        write_bytes(run.path / "stages" / f"{stage}.json", json.dumps(record).encode())
    return open_run(run_dir)


def fingerprint(folder):
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes())
        for p in sorted(folder.rglob("*"))
    }


def test_empty_folder_begins_from_the_newest_run_that_fits(outputs, kernel, capsys):
    make_run(OLD)
    make_run(NEW, day="03")
    make_run("power/manual__2026-01-04", day="04", horizon=24)
    before = fingerprint(outputs / NEW)
    run = kernel("05_evaluate")
    assert capsys.readouterr().out == (
        f"power/dev begins from {NEW} of 03 Jan 03:00 UTC: 01_load, 02_features, 03_tune, "
        "04_train\n"
    )
    assert run.read("04_train.json")["04_train"] == NEW
    assert (run.local("model") / "MLmodel").read_text() == NEW
    assert {s: r.get("from") for s, r in run.records().items()} == {
        **dict.fromkeys(STAGES[:4], NEW),
        "05_evaluate": None,
    }
    assert not (outputs / "power/dev/05_evaluate.json").exists(), "of the stage itself"
    run.write("04_train.json", {"mine": 1})
    (outputs / "power/dev/model/MLmodel").write_text("mine")
    assert fingerprint(outputs / NEW) == before


def test_notebook_that_is_only_executed_takes_nothing_and_fails_as_before(outputs, kernel, capsys):
    make_run(OLD)
    run = kernel("05_evaluate", person=False)
    with pytest.raises(
        UnfinishedStage, match=r"raw.parquet is not in .*: run 01_load first, to its last cell$"
    ) as caught:
        run.read("raw.parquet")
    assert not hasattr(caught.value, "_render_traceback_"), "its report keeps the traceback"
    assert capsys.readouterr().out == "" and list(run.records()) == ["05_evaluate"]


@pytest.mark.slow
def test_folder_goes_on_from_its_run_until_there_is_a_newer_one(outputs, kernel, capsys):
    make_run(OLD)
    kernel("03_tune")
    kernel("05_evaluate")
    kernel("05_evaluate")
    make_run(NEW, day="03")
    run = kernel("05_evaluate")
    assert [line.partition(" of ")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"power/dev begins from {OLD}",
        f"power/dev begins from {OLD}",
        f"power/dev goes on from {OLD}",
        f"power/dev begins from {NEW}",
    ]
    assert (run.local("model") / "MLmodel").read_text() == NEW


@pytest.mark.slow
def test_run_that_was_made_again_in_its_folder_is_taken_anew(outputs, kernel, capsys):
    make_run(OLD)
    kernel("05_evaluate")
    make_run(OLD, day="05")
    capsys.readouterr()
    kernel("05_evaluate")
    assert capsys.readouterr().out.startswith(f"power/dev begins from {OLD} of 05 Jan")


def test_folder_that_has_taken_stages_is_no_run_to_begin_from(outputs, kernel, capsys):
    make_run(OLD)
    kernel("05_evaluate", run_dir="power/mine")
    shutil.rmtree(outputs / OLD)
    capsys.readouterr()
    kernel("05_evaluate")
    assert capsys.readouterr().out == ""


def test_stage_run_by_hand_is_never_replaced(outputs, kernel, capsys):
    make_run(OLD)
    run = kernel("02_features")
    run.write("02_features.json", run.read("01_load.json") | {"mine": 1})
    run.finish()
    make_run(NEW, day="03")
    capsys.readouterr()
    run = kernel("03_tune")
    assert capsys.readouterr().out == f"power/dev has 01_load from {OLD}\n"
    assert run.read("02_features.json")["mine"] == 1


def test_next_stage_by_hand_reads_what_was_done_and_what_was_taken(outputs, kernel, capsys):
    make_run(OLD)
    run = kernel("05_evaluate")
    run.write("metrics.json", {"rmse": float(len(run.read("04_train.json")))})
    run.finish()
    capsys.readouterr()
    run = kernel("06_register")
    assert capsys.readouterr().out == f"power/dev has {', '.join(STAGES[:4])} from {OLD}\n"
    assert run.read("metrics.json") == {"rmse": 4.0} and run.local("model").is_dir()


def spoil(run, how):
    match how:
        case "a file is damaged":
            (run.path / "02_features.json").write_text("{}")
        case "a file is gone":
            shutil.rmtree(run.path / "model")
        case "a stage has not finished":
            open_run(run.run_dir, stage="03_tune").write("03_tune.json", {})
        case "a stage is missing":
            (run.path / "stages/02_features.json").unlink()
        case "it is a copy":
            workbench.open_stage(run.run_dir, "05_evaluate", Path(run.path.path).parents[2])
            shutil.rmtree(run.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "a file is damaged",
        "a file is gone",
        "a stage has not finished",
        "a stage is missing",
        "it is a copy",
    ],
)
def test_run_that_is_not_whole_is_passed_over(outputs, kernel, capsys, how):
    make_run(OLD)
    spoil(make_run(NEW, day="03"), how)
    kernel("05_evaluate")
    assert f"begins from {OLD} " in capsys.readouterr().out


def test_parameters_that_differ_are_named_with_the_way_out_first(outputs, kernel, capsys):
    make_run(OLD, horizon=24, seed=3)
    run = kernel("05_evaluate", seed=1, block_length=72)
    with pytest.raises(UnfinishedStage) as caught:
        run.read("raw.parquet")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"make open RUN={OLD} STAGE=05_evaluate opens this stage")
    assert first.endswith("made with seed = 3 (here 1), horizon = 24 (here 1).")
    assert second.startswith(
        """power/dev is empty. make run PIPELINE=power PARAMS='{"seed": 1}' makes a run with"""
    )
    (shown,) = caught.value._render_traceback_()
    assert shown == f"\x1b[0;31mUnfinishedStage\x1b[0m: {caught.value}"
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_parameter_changed_after_beginning_is_refused(outputs, kernel):
    make_run(OLD)
    kernel("05_evaluate", n_resamples=100)
    with pytest.raises(UnfinishedStage, match=rf"power/dev has .* from {OLD}, made with seed = 0 "):
        kernel("05_evaluate", seed=1)
    kernel("05_evaluate", n_resamples=200)


def test_without_any_run_the_stages_to_run_are_named(outputs, kernel):
    run = kernel("05_evaluate")
    with pytest.raises(UnfinishedStage) as caught:
        run.read("raw.parquet")
    assert str(caught.value).splitlines() == [
        "power/dev is empty. make run PIPELINE=power makes a run with the values of this notebook, "
        "from which it begins by itself.",
        "Or run 01_load, 02_features, 03_tune, 04_train first: there is no finished run.",
    ]


def test_stages_run_in_part_name_the_next_one_first(outputs, kernel):
    make_run(OLD)
    for stage in STAGES[:2]:
        run = open_run("power/dev", stage=stage)
        run.write(f"{stage}.json", {})
        run.finish()
    run = kernel("05_evaluate")
    with pytest.raises(UnfinishedStage) as caught:
        run.read("model")
    assert str(caught.value).splitlines() == [
        "Run 03_tune next, to its last cell: power/dev lacks 03_tune, 04_train.",
        f"Or, on the newest run: make open RUN={OLD} STAGE=05_evaluate",
    ]


def test_stage_made_from_older_files_says_first_which_to_run_again(outputs, kernel):
    make_run(OLD)
    kernel("05_evaluate")
    run = kernel("03_tune")
    run.write("03_tune.json", {"mine": 1})
    run.finish()
    run = kernel("05_evaluate")
    with pytest.raises(UnfinishedStage) as caught:
        run.read("04_train.json")
    first, second = str(caught.value).splitlines()
    assert "was made from an older 03_tune.json" in first and "run 04_train again" in first
    assert second == f"Or, on the newest run: make open RUN={OLD} STAGE=05_evaluate"


def test_misspelt_file_is_only_refused(outputs, kernel):
    make_run(OLD)
    run = kernel("05_evaluate")
    with pytest.raises(UnfinishedStage) as caught:
        run.read("raw.parket")
    assert "make open" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("facts", [{"dag_id": "power"}, {"opened": "power/x"}])
def test_runs_of_airflow_and_copies_are_left_as_they_are(outputs, kernel, capsys, facts):
    make_run(OLD)
    note_start(open_run("power/other"), **facts)
    run = kernel("05_evaluate", run_dir="power/other")
    assert capsys.readouterr().out == "" and list(run.records()) == ["05_evaluate"]
    with pytest.raises(UnfinishedStage, match="run 01_load first, to its last cell$"):
        run.read("raw.parquet")


def test_code_that_has_changed_since_is_named(outputs, kernel, capsys):
    run = make_run(OLD)
    for stage in STAGES[:3]:
        shutil.copy(ROOT / f"notebooks/power/{stage}.ipynb", run.path.path)
    path = run.path / "02_features.ipynb"
    changed = json.loads(path.read_text())
    changed["cells"][-1]["source"] = ["run.finish()  # as it was"]
    path.write_text(json.dumps(changed))
    kernel("05_evaluate")
    assert capsys.readouterr().out.endswith("04_train; 02_features changed since\n")


def test_first_stage_has_nothing_to_begin_from(outputs, kernel, capsys):
    make_run(OLD)
    run = kernel("01_load")
    assert capsys.readouterr().out == "" and list(run.records()) == ["01_load"]


def test_wrong_parameter_is_told_briefly_to_a_person_only(outputs, kernel):
    for person in (True, False):
        with pytest.raises(ValueError, match="block_length = -1") as caught:
            kernel("05_evaluate", person=person, block_length=-1)
        assert hasattr(caught.value, "_render_traceback_") is person


def test_error_of_a_library_keeps_its_traceback(outputs, kernel, monkeypatch):
    make_run(OLD)
    run = kernel("05_evaluate")
    monkeypatch.setattr("lib.ground.layout.stage_that_writes", lambda *_: json.loads("{"))
    with pytest.raises(json.JSONDecodeError) as caught:
        run.read("nothing.json")
    assert not hasattr(caught.value, "_render_traceback_")
