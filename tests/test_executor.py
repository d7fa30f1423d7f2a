"""One notebook, executed: whatever happens, its report says what happened."""

import ast
import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from lib import outcome
from lib.machine import executor, session
from lib.run import write_bytes

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from upath import UPath
from whole_runs import kernels

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3 (ipykernel)"}


def save_notebook(path, *sources, tags=()):
    """A notebook: title, parameters cell, `sources`, a closing text and a last cell."""
    cells = [new_markdown_cell("# Title"), new_code_cell("n: int = 1  # a number")]
    cells[1].metadata.tags = ["parameters"]
    for source in sources:
        cell = new_code_cell(source)
        cell.metadata.tags = list(tags)
        cells.append(cell)
    cells += [new_markdown_cell("The end."), new_code_cell("'last'")]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def read(path):
    """The executed notebook, checked against nbformat's schema."""
    notebook = nbformat.reads(UPath(path).read_text(), as_version=4)
    nbformat.validate(notebook)
    return notebook


def statuses(notebook):
    return [
        cell.metadata.papermill.status for cell in notebook.cells if not outcome.is_marker(cell)
    ]


def own_cells(notebook):
    return [cell for cell in notebook.cells if not outcome.is_marker(cell)]


def assert_truth(output, failed, *words):
    """The report in `output` says that cell `failed` failed, for a reason with these `words`."""
    notebook = read(output)
    cells = own_cells(notebook)
    n_after = len(cells) - failed - 1
    assert statuses(notebook) == ["completed"] * failed + ["failed"] + ["pending"] * n_after
    last = cells[failed].outputs[-1]
    assert last.output_type == "error"
    page = UPath(output).with_suffix(".html").read_text()
    top = notebook.cells[0]
    assert top.metadata.tags == ["papermill-error-cell-tag"]
    assert f"[cell {failed + 1} of {len(cells)}](#papermill-error-cell)" in top.source
    assert page.index('class="report"') < page.index("Title</h1>")
    for word in words:
        assert word in f"{last.ename}: {last.evalue}"
        assert word in top.source
        assert word in page
    assert all(not cell.outputs for cell in cells[failed + 1 :] if cell.cell_type == "code")
    assert all(cell.get("execution_count") is None for cell in cells[failed + 1 :])
    record = notebook.metadata.papermill
    assert record.exception is True
    assert datetime.fromisoformat(record.end_time) <= datetime.now(UTC)
    assert sum(outcome.is_marker(cell) for cell in notebook.cells) == 2
    anchor = next(i for i, cell in enumerate(notebook.cells) if 'id="papermill-' in cell.source)
    assert notebook.cells[anchor + 1] is cells[failed]
    return cells


# --- without a kernel --------------------------------------------------------------------------


def stuck_notebook(n_cells=4, running=2):
    """What an executor leaves behind that dies while cell `running` runs."""
    cells = []
    for index in range(n_cells):
        status = "completed" if index < running else "pending"
        status = "running" if index == running else status
        cell = new_code_cell(f"step({index})", metadata={"papermill": {"status": status}})
        cell.metadata.papermill["start_time"] = "2026-01-02T03:04:05+00:00"
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {index}\n")]
        cells.append(cell)
    metadata = {"papermill": {"start_time": "2026-01-02T03:04:00+00:00", "end_time": None}}
    return new_notebook(cells=cells, metadata=metadata)


AT = datetime(2026, 1, 2, 3, 4, 15, 500_000, tzinfo=UTC)


def test_marking_a_stuck_notebook_fails_its_cell_and_empties_later_ones():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    nbformat.validate(nbformat.from_dict(notebook))
    cells = [cell for cell in notebook["cells"] if not outcome.is_marker(cell)]
    assert [c["metadata"]["papermill"]["status"] for c in cells] == [
        "completed",
        "completed",
        "failed",
        "pending",
    ]
    assert [len(cell["outputs"]) for cell in cells] == [1, 1, 2, 0]
    assert cells[2]["outputs"][1]["evalue"] == "it was killed"
    assert cells[2]["metadata"]["papermill"]["duration"] == 10.5
    assert notebook["metadata"]["papermill"]["duration"] == 15.5
    assert notebook["metadata"]["papermill"]["end_time"] == "2026-01-02T03:04:15.500000+00:00"
    assert notebook["cells"][0]["source"] == (
        "**Execution failed** in [cell 3 of 4](#papermill-error-cell), 2026-01-02 03:04:15 UTC, "
        "15.5 s after the start.\n\n```text\nStageKilled: it was killed\n```"
    )


def test_marking_twice_leaves_one_report():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    assert sum(outcome.is_marker(cell) for cell in notebook["cells"]) == 2
    assert len(notebook["cells"]) == 6
    assert len(notebook["cells"][4]["outputs"]) == 2


def test_marking_outside_of_cells_keeps_what_was_completed():
    notebook = stuck_notebook(running=9)
    outcome.mark_failed(notebook, None, "DeadKernelError", "no kernel", at=AT)
    cells = notebook["cells"][1:]
    assert {cell["metadata"]["papermill"]["status"] for cell in cells} == {"completed"}
    assert "outside of any cell" in notebook["cells"][0]["source"]
    assert outcome.state(notebook) == "failed"


def test_report_cannot_be_broken_by_backticks_in_an_error():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "ValueError", "a ```fence``` inside\n# no heading", at=AT)
    assert "\n````text\n" in notebook["cells"][0]["source"]
    from lib.pages import notebook as reports

    page = reports.render(notebook, "x")
    assert "<h1" not in page
    assert "```fence```" in page


def test_papermill_removes_the_report_when_it_runs_the_notebook_again():
    session.import_papermill()
    from papermill.execute import remove_error_markers

    notebook = nbformat.from_dict(stuck_notebook())
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    notebook = nbformat.from_dict(notebook)
    assert len(notebook.cells) == 6
    assert len(remove_error_markers(notebook).cells) == 4


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


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_watcher_finishes_the_report_when_its_pipe_closes_without_goodbye(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    watcher = session.Watcher(UPath(output), str(sockets))
    watcher.tell({"cell": 1, "started": "2026-01-02T03:04:05+00:00"})
    watcher.tell({"cell": 2, "started": "2026-01-02T03:04:06+00:00"})
    watcher._process.stdin.close()
    assert watcher._process.wait(timeout=30) == 0
    notebook = read(output)
    assert statuses(notebook) == ["completed", "completed", "failed", "pending"]
    assert "SIGKILL" in notebook.cells[0].source
    assert "SIGKILL" in output.with_suffix(".html").read_text()
    assert not sockets.exists()


def test_watcher_repeats_the_reason_that_it_was_told(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    watcher = session.Watcher(UPath(output), str(tmp_path / "none"))
    watcher.tell({"cell": 2, "stopping": "StageStopped: told to stop (SIGTERM)"})
    watcher._process.stdin.close()
    watcher._process.wait(timeout=30)
    assert "told to stop (SIGTERM)" in read(output).cells[0].source


def test_watcher_starts_at_once_and_leaves_a_finished_execution_alone(tmp_path):
    output = tmp_path / "a.ipynb"
    outcome.write_notebook(UPath(output), stuck_notebook())
    before = output.read_bytes()
    begun = time.perf_counter()
    watcher = session.Watcher(UPath(output), str(tmp_path / "none"))
    assert time.perf_counter() - begun < 0.1
    watcher.dismiss()
    assert watcher._process.returncode == 0
    assert output.read_bytes() == before


def test_papermill_is_imported_without_storage_back_ends():
    code = (
        "import sys; from lib.machine.session import import_papermill; import_papermill(); "
        "assert 'papermill' in sys.modules; print(*[name for name in "
        "('boto3', 'azure', 'gcsfs', 'github', 'pyarrow', 'rfc3987_syntax', 'lark') "
        "if name in sys.modules]); from papermill.iorw import papermill_io, S3\n"
        "try: S3()\nexcept Exception as error: print(type(error).__name__)\n"
        "import pyarrow.fs, gcsfs"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PapermillOptionalDependencyException"]


def test_carriage_returns_leave_what_a_terminal_shows():
    from lib.machine.engine import as_shown

    assert as_shown("1 %\r2 %\r3 %") == "3 %"
    assert as_shown("1 %\r2 %\r") == "2 %\r"  # still there until something is written over it
    assert as_shown("a\rb\nc\r\nd") == "b\nc\r\nd"
    assert as_shown("plain\ntext") == "plain\ntext"


# --- with a kernel -----------------------------------------------------------------------------


def run(folder, *sources, tags=(), output=None, **options):
    source = save_notebook(folder / "in.ipynb", *sources, tags=tags)
    output = output or folder / "out.ipynb"
    return executor.execute_notebook(source, output, {"n": 5}, cwd=folder, **options)


LOOK = """
import os, socket, sys
import psutil
sys.stdout.flush()
if os.fork() == 0:
    print("said by a child", flush=True)
    os._exit(0)
os.wait()
(n, os.getcwd(), psutil.Process().net_connections("inet"))
"""


@pytest.mark.kernel
def test_completed_notebook_with_a_difficult_path(tmp_path, capfd):
    source = save_notebook(tmp_path / "in {x}.ipynb", LOOK)
    before = source.read_bytes()
    output = tmp_path / "manual__2026-01-02T03:04:05+00:00{}" / "01_load.ipynb"
    result = executor.execute_notebook(source, output, {"n": 5}, cwd=tmp_path)
    assert source.read_bytes() == before
    notebook = read(output)
    assert statuses(notebook) == ["completed"] * len(notebook.cells)
    assert notebook.metadata.papermill.exception is False
    looked = notebook.cells[3].outputs
    shown = ast.literal_eval(looked[-1].data["text/plain"])  # broken into lines if it is long
    assert shown == (5, str(tmp_path), []), "no port is open"
    assert "said by a child" in "".join(o.text for o in looked if o.output_type == "stream")
    assert result.html_path.exists()
    assert result.n_cells == 4  # the parameters' cell, the injected one, two more
    assert 0 < result.cell_seconds < result.seconds
    assert 0 < result.kernel_start_seconds < result.seconds
    assert 20e6 < result.peak_memory_bytes < 500e6
    assert "encryption" not in capfd.readouterr().err
    assert sorted(p.name for p in output.parent.iterdir()) == ["01_load.html", "01_load.ipynb"]


@pytest.mark.kernel
def test_error_in_a_cell(tmp_path):
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError, match="no such column: 'x'") as caught:
        run(tmp_path, "print('before')", "raise ValueError(\"no such column: 'x'\")")
    assert caught.value.ename == "ValueError"
    assert str(tmp_path / "out.ipynb") in caught.value.__notes__[0]
    cells = assert_truth(tmp_path / "out.ipynb", 4, "ValueError", "no such column: ")
    assert cells[3].outputs[0].text == "before\n"
    assert [output.output_type for output in cells[4].outputs] == ["error"]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import os; os._exit(3)", "exited with status 3"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
    ],
)
def test_dead_kernel(tmp_path, source, words):
    from nbclient.exceptions import DeadKernelError

    begun = time.monotonic()
    with pytest.raises(DeadKernelError, match=words):
        run(tmp_path, f"print('before', flush=True)\nimport time; time.sleep(0.3)\n{source}")
    assert time.monotonic() - begun < 15
    cells = assert_truth(tmp_path / "out.ipynb", 3, "DeadKernelError", words)
    assert cells[3].outputs[0].text == "before\n"


@pytest.mark.kernel
def test_notebook_limit_stops_a_cell_that_keeps_printing(tmp_path):
    loop = "import time\nfor i in range(600):\n    print(i, flush=True)\n    time.sleep(0.1)"
    with pytest.raises(session.StageTimeoutError, match=r"limit of 1\.5 s in cell 4") as caught:
        run(tmp_path, loop, timeout_s=1.5, silent_timeout_s=0.8)
    assert (caught.value.limit, caught.value.seconds, caught.value.cell) == ("timeout_s", 1.5, 4)
    cells = assert_truth(tmp_path / "out.ipynb", 3, "StageTimeoutError", "limit of 1.5 s")
    assert cells[3].outputs[0].text.startswith("0\n1\n2\n")
    assert cells[3].outputs[1].ename == "KeyboardInterrupt"  # shows the line that was running


@pytest.mark.kernel
def test_silent_limit_stops_even_a_cell_that_will_not_be_interrupted(tmp_path):
    source = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "print(child.pid, flush=True)\ntime.sleep(300)"
    )
    with pytest.raises(session.StageTimeoutError, match="no output for 1 s") as caught:
        run(tmp_path, source, timeout_s=60, silent_timeout_s=1)
    assert caught.value.limit == "silent_timeout_s"
    cells = assert_truth(tmp_path / "out.ipynb", 3, "StageTimeoutError", "no output for 1 s")
    child = int(cells[3].outputs[0].text)
    wait_for(lambda: not is_running(child), 5)


def is_running(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def start_elsewhere(folder, source):
    """Execute a notebook in a process of its own; return it, and the pids of all it started."""
    save_notebook(folder / "in.ipynb", source)
    code = (
        "from lib.machine.executor import execute_notebook; "
        f"execute_notebook({str(folder / 'in.ipynb')!r}, {str(folder / 'out.ipynb')!r}, "
        f"{{'n': 5}}, cwd={str(folder)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)

    def said():
        with contextlib.suppress(FileNotFoundError, IndexError):
            return bool(own_cells(read(folder / "out.ipynb"))[3].outputs)

    wait_for(said, 40)
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(children) == 3  # the watcher, the kernel, and the kernel's own child
    return process, children


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ("StageStopped", "told to stop (SIGTERM)")),
        (signal.SIGINT, ("StageStopped", "told to stop (SIGINT)")),
        (signal.SIGKILL, ("StageKilled", "killed from outside (SIGKILL")),
    ],
)
def test_executor_that_is_stopped_or_killed(tmp_path, number, words):
    process, children = start_elsewhere(
        tmp_path,
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
        "print('before', flush=True)\ntime.sleep(300)",
    )
    commands = [psutil.Process(child).cmdline() for child in children]
    sockets = next(Path(command[3]).parent for command in commands if "-f" in command)
    assert sockets.is_dir()
    begun = time.monotonic()
    process.send_signal(number)
    try:
        assert process.wait(timeout=30) == -number  # as if nobody had looked after the signal
    finally:
        process.kill()
    if number != signal.SIGKILL:
        assert time.monotonic() - begun < 4.5  # Airflow kills five seconds after it asked
    wait_for(lambda: not any(map(is_running, children)))
    cells = assert_truth(tmp_path / "out.ipynb", 3, *words)
    assert cells[3].outputs[0].text == "before\n"
    assert not sockets.exists()


@pytest.mark.kernel
def test_handler_that_lets_the_process_go_on_gets_the_signal_and_the_caller_an_error(tmp_path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(outcome.state(report())))

    def report():
        return outcome.read_notebook(UPath(tmp_path / "out.ipynb"))

    source = f"import os, time\nos.kill({os.getpid()}, 15)\ntime.sleep(300)"
    try:
        with pytest.raises(session.StageStopped, match="SIGTERM"):
            run(tmp_path, source)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["failed"]  # called once, when the report was finished


@pytest.mark.kernel
def test_retry_keeps_the_report_of_the_failed_attempt(tmp_path):
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError):
        run(tmp_path, "1 / 0")
    run(tmp_path, "1 / 1")
    names = {"in.ipynb", "out.ipynb", "out.html", "out.attempt-1.ipynb", "out.attempt-1.html"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert_truth(tmp_path / "out.attempt-1.ipynb", 3, "ZeroDivisionError")
    assert outcome.state(read(tmp_path / "out.ipynb")) == "completed"


@pytest.mark.kernel
def test_outputs_and_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lib.machine.executor")
    bars = "import sys\nfor i in range(5000):\n    print(f'\\r{i + 1}/5000', end='', flush=True)"
    lines = "for i in range(100_000):\n    print('line', i)"
    slow = "import time\nprint('one')\ntime.sleep(1.5)\nprint('two')"
    both = (
        "for i in range(20):\n    print(i, file=sys.stderr)\n    print(i)\n    sys.stdout.flush()"
    )
    bye = tmp_path / "bye"
    at_exit = f"import atexit\natexit.register(lambda: open({str(bye)!r}, 'w').close())"
    run(tmp_path, bars, lines, slow, both, at_exit, log_output=True)
    cells = read(tmp_path / "out.ipynb").cells
    assert cells[3].outputs[0].text == "5000/5000"
    text = cells[4].outputs[0].text
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 99998\nline 99999\n")
    assert "characters left out" in text
    assert len(text) < 1_100_000
    assert {output.name: output.text for output in cells[6].outputs} == dict.fromkeys(
        ["stdout", "stderr"], "".join(f"{i}\n" for i in range(20))
    )
    logged = {record.getMessage(): record.created for record in caplog.records}
    assert "5000/5000" in logged
    assert sum("/5000" in message for message in logged) < 10
    assert logged["two"] - logged["one"] > 1.2  # streamed, not held until the cell ends
    assert bye.exists()  # the kernel ended politely


@pytest.mark.kernel
def test_no_output_is_lost_when_it_comes_faster_than_it_is_read(tmp_path, monkeypatch):
    session.import_papermill()
    from lib.machine import engine

    read_message = engine._Client.process_message

    def read_slowly(self, *arguments):
        time.sleep(0.001)
        return read_message(self, *arguments)

    monkeypatch.setattr(engine, "IOPUB_S", 10)
    monkeypatch.setattr(engine._Client, "process_message", read_slowly)
    run(tmp_path, "for i in range(4000):\n    print(i, flush=True)")
    text = read(tmp_path / "out.ipynb").cells[3].outputs[0].text
    assert text == "".join(f"{i}\n" for i in range(4000))


@pytest.mark.kernel
def test_errors_that_a_tag_allows_and_an_early_end_are_no_failures(tmp_path):
    run(tmp_path, "1 / 0", tags=["raises-exception"])
    notebook = read(tmp_path / "out.ipynb")
    assert set(statuses(notebook)) == {"completed"}
    assert notebook.cells[3].outputs[0].ename == "ZeroDivisionError"
    run(tmp_path, "import sys; sys.exit(0)")
    notebook = read(tmp_path / "out.ipynb")
    assert statuses(notebook) == ["completed"] * 4 + ["pending"] * 2
    assert outcome.state(notebook) == "completed"


@pytest.mark.kernel
@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_exception_from_a_timer_of_the_caller_ends_kernel_and_report(tmp_path, inside_a_loop):
    class TaskTimeout(BaseException):
        pass

    def alarm(*_):
        raise TaskTimeout("the task's own limit")

    def too_long():
        run(tmp_path, "import time; time.sleep(300)")

    async def in_a_loop():
        too_long()

    before = signal.signal(signal.SIGALRM, alarm)
    session.import_papermill()
    from lib.machine import engine  # noqa: F401  no import while the clock ticks

    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        with pytest.raises(TaskTimeout):
            if inside_a_loop:
                asyncio.run(in_a_loop())
            else:
                too_long()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < 20
    assert_truth(tmp_path / "out.ipynb", 3, "TaskTimeout", "the task's own limit")
    assert not list(kernels())


@pytest.mark.kernel
def test_kernel_that_cannot_start_is_told_in_the_report(tmp_path, monkeypatch):
    from nbclient.exceptions import DeadKernelError

    broken = tmp_path / "kernels" / "python3"
    broken.mkdir(parents=True)
    argv = [sys.executable, "-c", "import sys; sys.exit(7)", "{connection_file}"]
    (broken / "kernel.json").write_text(json.dumps({**KERNEL, "argv": argv}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(DeadKernelError, match="did not start"):
        run(tmp_path, "1")
    notebook = read(tmp_path / "out.ipynb")
    assert set(statuses(notebook)) == {"pending"}
    assert "did not start" in notebook.cells[0].source
    assert "did not start" in (tmp_path / "out.html").read_text()


@pytest.mark.kernel
def test_report_goes_to_a_remote_folder(tmp_path, bucket):
    from papermill.exceptions import PapermillExecutionError

    for base in (f"s3://{bucket}", f"memory://{tmp_path.name}"):
        output = f"{base}/power/a run: {{}}+1/01_load.ipynb"
        with pytest.raises(PapermillExecutionError):
            run(tmp_path, "print('x')", "1 / 0", output=output)
        result = run(tmp_path, "print('x')", "1 / 1", output=output)
        assert outcome.state(read(result.output_path)) == "completed"
        assert result.html_path.exists()
        archived = result.output_path.parent / "01_load.attempt-1.ipynb"
        assert_truth(archived, 4, "ZeroDivisionError")
