"""Runs of Airflow that take what earlier runs have done: by the toy pipeline, with kernels."""

import sys

from lib import tracking
from lib.ground import outcome
from lib.ground.files import outputs_dir
from lib.ground.folder import look_at
from lib.pages.summary import summarise

import pytest
from test_opened_notebooks import run_all
from upath import UPath
from whole_runs import errors, go, impatient, mlflow_run

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def first(place):
    """A run that takes nothing."""
    done, _, run = go(impatient("toy"), n=4)
    assert done.state == "success", errors(run, "01_load")
    return run


def again(**asked):
    return go(impatient("toy"), **({"n": 4, "force": False} | asked))


def edit(place, stage, old, new):
    path = UPath(place / "notebooks" / "toy" / f"{stage}.ipynb")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def taken(run):
    return [run.record(stage).get("from", "") for stage in ("01_load", "02_judge")]


def test_unchanged_run_takes_every_stage_and_says_so_everywhere(first):
    done, tasks, run = again()
    assert done.state == "success" and {t.state for t in tasks.values()} == {"success"}
    assert taken(run) == [first.run_dir] * 2
    assert run.read("metrics.json") == {"largest": 3.0}
    notebook = outcome.read_notebook(run.path / "02_judge.ipynb")
    assert outcome.state(notebook) == "completed"
    assert f"taken from {first.run_dir}" in (run.path / "02_judge.html").read_text()
    logged = mlflow_run(run)
    assert logged.info.status == "FINISHED" and logged.data.metrics["largest"] == 3.0
    assert logged.data.tags["taken.02_judge"].startswith(f"from {first.run_dir}, executed at")
    assert summarise(run)["state"] == "passed"
    assert f"../../{first.run_dir}/01_load.html" in (run.path / "report.html").read_text()


def test_console_says_what_was_taken_and_why_tells_the_rest(first, cli):
    said = cli("run", "toy", "--params", '{"n": 4}')
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(f"taken from {first.run_dir}, executed at") == 2
    assert "01_load        taken" in said.stdout
    told = cli("why", "toy/latest", "01_load").stdout
    assert f"taken from {first.run_dir}" in told
    said = cli("run", "toy", "--params", '{"n": 5}', "--until", "01_load")
    assert "02_judge       skipped" in said.stdout and said.returncode == 0
    assert "parameter n: 4 before, 5 now" in cli("why", "toy/latest", "01_load").stdout
    assert "has not run" in cli("why", "toy/latest", "02_judge").stdout


def test_edit_of_a_stage_lets_it_run_and_what_reads_other_bytes_from_it(place, first):
    edit(place, "02_judge", "time.sleep(wait_s)", "time.sleep(wait_s + 0)")
    done, _, run = again()
    assert done.state == "success" and taken(run) == [first.run_dir, ""]
    (why,) = summarise(run)["stages"][1]["why"]
    assert why.startswith("compared with toy/") and "cell 2 is another" in why
    edit(place, "02_judge", "time.sleep(wait_s + 0)", "time.sleep(wait_s)")
    assert taken(again()[2])[0] == first.run_dir


def test_until_ends_a_run_well_and_force_takes_nothing(first):
    done, tasks, run = again(until_stage="01_load")
    assert done.state == "success" and tasks["02_judge"].state == "skipped"
    found = summarise(run)
    assert found["state"] == "passed"
    assert [stage["state"] for stage in found["stages"]] == ["passed", "not run"]
    assert taken(again(force=True)[2]) == ["", ""]


def test_from_takes_what_is_before_whatever_changed(place, first):
    edit(place, "01_load", "# of nothing", "# of nothing at all")
    edit(place, "01_load", "digest = ", "other = digest = ")
    done, _, run = again(from_stage="02_judge", of=first.run_dir)
    assert done.state == "success" and taken(run) == [first.run_dir, ""]
    assert "cell 2 is another" in summarise(run)["stages"][0]["why"][0]
    done, _, run = again(from_stage="02_judge", of="toy/gone")
    assert done.state == "failed"
    assert "there is no run toy/gone" in errors(run, "01_load")


def test_failed_run_goes_on_in_its_folder_where_it_failed(place, cli):
    failed = cli("run", "toy", "--params", '{"n": 6, "min_largest": 6}')
    assert failed.returncode == 1
    newest = max((outputs_dir() / "toy").glob("manual*"), key=lambda path: path.name)
    run = look_at(f"toy/{newest.name}")
    before, mlflow_id = run.record("01_load"), tracking.link(run)["run_id"]
    assert f"make run RESUME={run.run_dir}" in (run.path / "report.html").read_text()
    edit(place, "02_judge", 'metrics[\\"largest\\"] >= min_largest', 'metrics[\\"largest\\"] < 9')
    said = cli("run", "--resume", run.run_dir)
    assert said.returncode == 0, said.stdout + said.stderr
    assert run.record("01_load") == before, "it stays as it is"
    assert run.record("02_judge")["state"] == "finished"
    assert (run.path / "02_judge.attempt-1.ipynb").exists()
    assert tracking.link(run)["run_id"] == mlflow_id
    assert summarise(run)["state"] == "passed" and mlflow_run(run).info.status == "FINISHED"
    assert cli("run", "--resume", run.run_dir, "--force").returncode == 2


def test_person_is_told_of_inputs_that_are_older_than_the_code_which_makes_them(place):
    made, load = again(n=3)[2], place / "notebooks" / "toy" / "01_load.ipynb"
    change = f"""import pathlib
load = pathlib.Path({str(load)!r})
before = load.read_text()
written = load.write_text(before.replace("digest = ", "other = digest = "))"""
    look, undo = "run = open_run(run_dir, stage='02_judge')", "written = load.write_text(before)"
    shown = run_all(load.with_name("02_judge.ipynb"), place, change, look, undo, look)
    said = [line for one in shown for line in one.get("text", "").splitlines()]
    assert said[0].startswith(f"toy/dev begins from {made.run_dir}")
    older = [n for n, line in enumerate(said) if line.startswith("Older")]
    assert older == [2], "not before the change, and not where it is undone"
    assert said[2].endswith("numbers.json (01_load: cell 2 is another: import hashlib)")


def test_run_that_airflow_does_not_know_cannot_go_on(place):
    from lib.dag import dagrun

    with pytest.raises(ValueError, match="Airflow does not know it"):
        dagrun.run_dag("toy", {}, sys.stdout, {"resume": "toy/unknown"})
