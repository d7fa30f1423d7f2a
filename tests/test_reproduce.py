"""Runs made again, from a throwaway repository whose pipeline is a few lines.

A real run is made again in `test_whole_runs`.
"""

import hashlib
import json
import platform
import subprocess
from functools import partial
from types import SimpleNamespace

from lib.commands import lockfile, reproduce
from lib.ground import runs
from lib.ground.files import ROOT

import pytest

CLI = '''
"""Stands in for the pipelines: writes what a run leaves, with a metric of this commit."""
import json, os, pathlib, sys

values = json.loads(sys.argv[-1])
LEAKS = ("MLFLOW", "AIRFLOW_HOME", "NOTIFY", "TUNING_STORAGE", "DASK_SCHEDULER")
assert sys.argv[1:4] == ["run", "power", "--params"], sys.argv
if values.get("broken"):
    sys.exit("error: no such thing")
folder = pathlib.Path(os.environ["OUTPUTS_DIR"], "power", "manual__now")
(folder / "stages").mkdir(parents=True)
record = {"state": "finished", "parameters": values, "writes": {}}
(folder / "stages/01_load.json").write_text(json.dumps(record))
found = [name for name in os.environ if name.startswith(LEAKS)]
text = pathlib.Path(os.environ["DATA_DIR"], values["source"]).read_text()
metrics = {"rmse": RMSE, "seed": values["seed"], "leaks": len(found), "train_seconds": os.getpid()}
for name, content in {"metrics": metrics, "dataset": {"digest": text, "n_rows": 3}}.items():
    (folder / f"{name}.json").write_text(json.dumps(content))
print("01_load ok, done in", os.getcwd())
'''
LOCK = "numpy==2.3.1 \\\n    --hash=sha256:00\nwinonly==1.0 ; sys_platform == 'win32' \\\n"
METRICS = {"rmse": 0.5, "seed": 7, "leaks": 0, "train_seconds": 12.5}


def git(folder, *arguments):
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *author, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def install(monkeypatch, **packages):
    """Let these packages be installed, and no others."""
    found = [SimpleNamespace(name=name, version=version) for name, version in packages.items()]
    monkeypatch.setattr(lockfile.metadata, "distributions", lambda: found)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits: the pipeline gives an RMSE of 0.5 in the first and of 0.6 in the second."""
    folder = tmp_path / "project"
    (folder / "lib" / "commands").mkdir(parents=True)
    (folder / "lib/__init__.py").touch()
    (folder / "lib/commands/__init__.py").touch()
    (folder / "requirements.lock").write_text(LOCK)
    (folder / "dags").mkdir()
    (folder / "dags/power.py").touch()
    git(folder, "init", "--quiet")
    for rmse in (0.5, 0.6):
        (folder / "lib/commands/cli.py").write_text(CLI.replace("RMSE", str(rmse)))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", f"Reach {rmse}")
    for module in (reproduce, runs):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.setattr(reproduce, "git", partial(reproduce.git, folder=folder))
    install(monkeypatch, numpy="2.3.1")
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://registry.example")
    monkeypatch.setenv("NOTIFY_EMAIL", "somebody@example.org")
    monkeypatch.setenv("TUNING_STORAGE", "postgresql+psycopg://head/optuna")
    monkeypatch.setenv("DASK_SCHEDULER", "tcp://head:8786")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/power.txt").write_text("digest of then")
    return folder


@pytest.fixture
def run(repository, tmp_path):
    """A run of the first commit."""
    folder = tmp_path / "outputs/power/then"
    values = {"run_dir": "power/then", "source": "power.txt", "seed": 7}
    start = {
        "commit": git(repository, "rev-parse", "HEAD~1"),
        "lock": hashlib.sha256(LOCK.encode()).hexdigest(),
        "python": platform.python_version(),
    }
    write(folder, "stages/01_load", {"state": "finished", "parameters": values, "writes": {}})
    write(folder, "metrics", METRICS)
    write(folder, "dataset", {"digest": "digest of then", "n_rows": 3})
    write(folder, "run", start)
    return folder


def write(folder, name, content):
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change(folder, name, **values):
    write(folder, name, json.loads((folder / f"{name}.json").read_text()) | values)


@pytest.mark.slow
def test_run_that_lies_on_s3_is_made_again_here_and_leaves_nothing_there(
    run, bucket, tmp_path, monkeypatch, capfd
):
    import s3fs

    s3 = s3fs.S3FileSystem(skip_instance_cache=True)
    s3.put(f"{tmp_path / 'outputs'}/", f"{bucket}/outputs", recursive=True)
    before = s3.find(bucket)
    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/outputs")
    assert reproduce.main("power/then") == 0
    assert capfd.readouterr().out.splitlines()[-1] == "REPRODUCED: all 3 metrics agree"
    s3.invalidate_cache()
    assert len(before) == 4 and s3.find(bucket) == before


def test_run_is_made_again_from_its_own_commit_and_agrees(run, repository, tmp_path, capfd):
    assert reproduce.main("power/then") == 0
    said = capfd.readouterr().out
    assert "01_load ok, done in" in said, "what the new run prints is shown"
    assert said.splitlines()[-1] == "REPRODUCED: all 3 metrics agree"
    assert "environment  same Python, same packages" in said
    assert "train_seconds" not in said
    assert git(repository, "worktree", "list").count("\n") == 0
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_tampered_metric_is_reported_as_different_with_the_distance(run, capfd):
    change(run, "metrics", rmse=0.4)
    assert reproduce.main("power/then") == 1
    said = capfd.readouterr().out
    assert "NOT REPRODUCED: 1 of 3 metrics differ: rmse; " in said
    assert reproduce.NO_CAUSE in said


@pytest.mark.slow
def test_changed_data_are_said(run, tmp_path, capfd):
    (tmp_path / "data/power.txt").write_text("digest of now")
    assert reproduce.main("power/then") == 1
    said = capfd.readouterr().out
    assert "data         different: 3 rows then, 3 rows now" in said
    assert "NOT REPRODUCED: the data have changed" in said


@pytest.mark.slow
def test_commit_with_changes_is_taken_without_them_and_that_is_said(run, capfd):
    commit = json.loads((run / "run.json").read_text())["commit"]
    change(run, "run", commit=f"{commit}+changes")
    assert reproduce.main("power/then") == 0
    said = capfd.readouterr().out
    assert f"{commit[:10]}, without the changes that were never committed" in said
    assert "all 3 metrics agree, not known to be the same: the files" in said


@pytest.mark.slow
@pytest.mark.parametrize("commit", ["", "f" * 40, "--help"])
def test_unknown_commit_means_the_files_as_they_are(run, commit, capfd):
    change(run, "run", commit=commit)
    assert reproduce.main("power/then") == 1
    said = capfd.readouterr().out
    assert "the files are taken as they are now" in said
    assert "not known to be the same: the files" in said and "0.6" in said


@pytest.mark.slow
def test_changed_packages_and_python_are_named(run, monkeypatch, capfd):
    install(monkeypatch, numpy="2.4.0")
    change(run, "run", python="3.10.1")
    assert reproduce.main("power/then") == 0
    said = capfd.readouterr().out
    assert "numpy was 2.3.1, now 2.4.0" in said
    assert f"Python was 3.10.1, now {platform.python_version()}" in said
    assert "agree, not known to be the same: the environment" in said


@pytest.mark.slow
def test_lock_file_that_was_never_committed_is_said(run, capfd):
    change(run, "run", lock="1" * 64)
    reproduce.main("power/then")
    assert "lock file is neither here nor in its commit" in capfd.readouterr().out


@pytest.mark.slow
def test_outputs_stay_when_asked_for(run, repository, tmp_path, capfd):
    assert reproduce.main("power/then", keep=True) == 0
    (kept,) = (tmp_path / "temporary").iterdir()
    assert (kept / "outputs/power/manual__now/metrics.json").exists()
    assert f"git worktree remove --force {kept}/tree" in capfd.readouterr().out
    assert git(repository, "worktree", "list").count("\n") == 1


@pytest.mark.slow
def test_run_that_does_not_start_is_an_error_and_leaves_nothing(run, repository, tmp_path):
    record = json.loads((run / "stages/01_load.json").read_text())
    change(run, "stages/01_load", parameters=record["parameters"] | {"broken": True})
    with pytest.raises(ValueError, match="power did not start in"):
        reproduce.main("power/then")
    assert git(repository, "worktree", "list").count("\n") == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_commit_without_the_pipeline_means_the_files_as_they_are(run, repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert reproduce.known_commit(commit, "power") == (commit, commit[:10])
    found, words = reproduce.known_commit(commit, "wine")
    assert found == "" and "has no pipeline wine; the files are taken as they are now" in words


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics", {}, "power/then has no metrics"),
        ("stages/01_load", {"parameters": {}, "writes": {}}, "no stage left its parameters"),
        ("stages/02_train", {"parameters": {"seed": 8}, "writes": {}}, "seed was 7 .*8 in 02_tra"),
    ],
)
def test_run_that_cannot_be_made_again_is_an_error_that_says_why(run, name, content, reason):
    write(run, name, content)
    with pytest.raises(ValueError, match=reason):
        reproduce.main("power/then")


def test_metrics_agree_within_float_noise_and_timings_do_not_count():
    then = {"rmse": 0.5, "mae": 1.0, "r2": 0.5, "old": 1, "fit_s": 3, "peak_mb": 9, "rows_per_s": 1}
    now = {"rmse": 0.5 + 1e-12, "mae": 1.0, "r2": 0.5 + 1e-8, "new": 2, "fit_s": 4}
    found = reproduce.agreement(then, now)["agrees"].to_dict()
    assert found == {"mae": True, "new": False, "old": False, "r2": False, "rmse": True}


def test_lock_file_is_compared_for_this_machine_only_and_by_normal_names(monkeypatch):
    lock = "Foo.Bar==1.0 \\\n    --hash=sha256:1\nonly-windows==2 ; sys_platform == 'win32' \\\n"
    install(monkeypatch, foo_bar="1.0")
    assert lockfile.differences(lock) == []
    install(monkeypatch)
    assert lockfile.differences(lock) == [("foo-bar", "1.0", "")]


@pytest.mark.slow
def test_every_package_of_the_lock_file_of_this_project_is_understood():
    lock = (ROOT / "requirements.lock").read_text()
    packages = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert len(packages) >= len(lockfile.wanted(lock)) > 100
    assert lockfile.differences(lock) == [], "this environment was made from it"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("mine.txt", "{root}/mine.txt"),
        ("*.txt", "{root}/*.txt"),
        ("sql:sqlite:///mine.txt#readings", "sql:sqlite:///{root}/mine.txt#readings"),
        ("power.txt", "power.txt"),  # DATA_DIR has it
        ("requirements.lock", "requirements.lock"),  # the worktree has it
        ("sample", "sample"),
        ("https://example.org/mine.txt", "https://example.org/mine.txt"),
        ("/mine.txt", "/mine.txt"),
    ],
)
def test_source_that_only_the_project_has_is_still_found(repository, tmp_path, source, found):
    for name in ("mine.txt", "power.txt"):
        (repository / name).touch()
    if source == "*.txt":
        (tmp_path / "data/power.txt").unlink()
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", "--quiet", "--detach", str(tree), "HEAD")
    values, words = reproduce.find_source({"source": source}, tree)
    assert values == {"source": found.format(root=repository)}
    assert bool(words) == (values["source"] != source)
