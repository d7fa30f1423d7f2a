"""What surrounds an execution: earlier reports, the watcher, papermill's import."""

import json
import subprocess
import sys
import time
from pathlib import Path

from lib.ground import outcome
from lib.ground.files import write_bytes
from lib.machine import executor, session

import pytest
from executed import AT, BEGUN, ROOT, read, statuses, stuck_notebook
from upath import UPath


@pytest.mark.parametrize("base", ["local", "memory"])
def test_archive_gives_the_first_free_number_and_never_overwrites(tmp_path, base):
    folder = UPath(tmp_path) if base == "local" else UPath(f"memory://{tmp_path.name}")
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "01_load.ipynb"
    assert executor.archive_previous(output) is None
    (folder / "01_load.attempt-1.html").write_text("an older page alone")
    done = stuck_notebook()
    outcome.mark_failed(done, 2, "ValueError", "first", at=AT)
    outcome.write_notebook(output, done)
    output.with_suffix(".html").write_text("page")
    moved = executor.archive_previous(output)
    assert moved.name == "01_load.attempt-2.ipynb"
    assert not output.exists()
    assert not output.with_suffix(".html").exists()
    assert outcome.read_notebook(moved) == json.loads(json.dumps(done))
    assert (folder / "01_load.attempt-2.html").read_text() == "page"
    outcome.write_notebook(output, done)
    assert executor.archive_previous(output).name == "01_load.attempt-3.ipynb"
    assert (folder / "01_load.attempt-1.html").read_text() == "an older page alone"


def test_archive_closes_a_notebook_that_was_cut_off(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    moved = executor.archive_previous(output)
    notebook = outcome.read_notebook(moved)
    assert outcome.state(notebook) == "failed"
    assert "nobody was left" in notebook["cells"][0]["source"]
    assert "nobody was left" in moved.with_suffix(".html").read_text()


def test_archive_moves_even_what_is_no_notebook(tmp_path):
    (tmp_path / "a.ipynb").write_text("{half a note")
    assert executor.archive_previous(tmp_path / "a.ipynb").read_text() == "{half a note"


def test_archive_counts_no_copy_that_a_person_made_of_an_attempt(tmp_path):
    for name in ("1.ipynb", "1-Copy1.ipynb", "9 (old).html", "7.txt"):
        (tmp_path / f"a.attempt-{name}").write_text("")
    (tmp_path / "a.ipynb").write_text("")
    assert executor.archive_previous(tmp_path / "a.ipynb").name == "a.attempt-2.ipynb"


def test_writing_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    target = UPath(tmp_path / "a.txt")
    write_bytes(target, b"old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(target, b"new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.slow
def test_watcher_finishes_the_report_when_its_pipe_closes_without_goodbye(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    watcher = session.Watcher(UPath(output), str(sockets))
    watcher.tell({"begun": BEGUN, "cell": 1, "started": "2026-01-02T03:04:05+00:00"})
    watcher.tell({"cell": 2, "started": "2026-01-02T03:04:06+00:00"})
    watcher._process.stdin.close()
    assert watcher._process.wait(timeout=30) == 0
    notebook = read(output)
    assert statuses(notebook) == ["completed", "completed", "failed", "pending"]
    assert "SIGKILL" in notebook.cells[0].source
    assert "SIGKILL" in output.with_suffix(".html").read_text()
    assert not sockets.exists()


@pytest.mark.slow
def test_watcher_repeats_the_reason_that_it_was_told(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    watcher = session.Watcher(UPath(output), str(tmp_path / "none"))
    watcher.tell({"begun": BEGUN, "cell": 2, "stopping": "StageStopped: told to stop (SIGTERM)"})
    watcher._process.stdin.close()
    watcher._process.wait(timeout=30)
    assert "told to stop (SIGTERM)" in read(output).cells[0].source


def test_watcher_leaves_the_notebook_of_a_later_execution_alone(tmp_path):
    path = UPath(tmp_path / "a.ipynb")
    outcome.write_notebook(path, stuck_notebook())
    before = path.read_bytes()
    for known in ({"begun": "2026-01-02T03:03:00+00:00", "cell": 1}, {}):
        executor.finish_report(path, "killed", known)
    assert path.read_bytes() == before and not path.with_suffix(".html").exists()
    executor.finish_report(path, "killed", {"begun": BEGUN, "cell": 1})
    assert outcome.state(outcome.read_notebook(path)) == "failed"


def test_watcher_starts_at_once_and_leaves_a_finished_execution_alone(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    before = output.read_bytes()
    taken_s = []
    for _ in range(3):  # a process that is begun may wait for a core
        begun = time.perf_counter()
        watcher = session.Watcher(UPath(output), str(tmp_path / "none"))
        taken_s.append(time.perf_counter() - begun)
        watcher.dismiss()
        assert watcher._process.returncode == 0
    assert min(taken_s) < 0.1
    assert output.read_bytes() == before


@pytest.mark.slow
def test_papermill_is_imported_without_storage_back_ends():
    code = (
        "import sys; from lib.machine.session import import_papermill; import_papermill(); "
        "assert 'papermill' in sys.modules; print(*[name for name in "
        "('boto3', 'azure', 'gcsfs', 'github', 'pyarrow') if name in sys.modules]); "
        "from papermill.iorw import papermill_io, S3\n"
        "try: S3()\nexcept Exception as error: print(type(error).__name__)\n"
        "import pyarrow.fs, gcsfs"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PapermillOptionalDependencyException"]


def test_carriage_returns_leave_what_a_terminal_shows():
    from lib.machine.streams import as_shown

    assert as_shown("1 %\r2 %\r3 %") == "3 %"
    assert as_shown("1 %\r2 %\r") == "2 %\r"  # still there until something is written over it
    assert as_shown("a\rb\nc\r\nd") == "b\nc\r\nd"
    assert as_shown("plain\ntext") == "plain\ntext"
