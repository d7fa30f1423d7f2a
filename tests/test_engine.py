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
from pathlib import Path

from lib.ground import outcome
from lib.machine import executor, session

import psutil
import pytest
from executed import (
    KERNEL,
    ROOT,
    assert_truth,
    is_running,
    own_cells,
    read,
    run,
    save_notebook,
    statuses,
    wait_for,
)
from upath import UPath
from whole_runs import kernels

LOOK = """
import os, socket, sys
import psutil
sys.stdout.flush()
if os.fork() == 0:
    print("said by a child", flush=True)
    os._exit(0)
os.wait()
__import__("time").sleep(0.5)  # its text comes by another way than the end of the cell
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
    assert result.seconds > 0
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
    assert caught.value.limit == "timeout_s"
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


def start_elsewhere(folder, source):
    """As `start_elsewhere_with`, where the kernel is the process's own child."""
    process, children = start_elsewhere_with(folder, source, WARM_KERNELS="0")
    assert len(children) == 3  # the watcher, the kernel, and the kernel's own child
    return process, children


def start_elsewhere_with(folder, source, **environment):
    """Execute a notebook in a process of its own; return it, and the pids of all it started."""
    save_notebook(folder / "in.ipynb", source)
    code = (
        "from lib.machine.executor import execute_notebook; "
        f"execute_notebook({str(folder / 'in.ipynb')!r}, {str(folder / 'out.ipynb')!r}, "
        f"{{'n': 5}}, cwd={str(folder)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
    )

    def said():
        with contextlib.suppress(FileNotFoundError, IndexError):
            return bool(own_cells(read(folder / "out.ipynb"))[3].outputs)

    wait_for(said, 40)
    return process, [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


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
def test_cell_that_does_not_hear_that_it_is_given_up_is_told_again(tmp_path, monkeypatch):
    """What waits for a message misses it where a message, or the end of its wait, comes then."""
    from lib.machine import engine

    async def wait_on(*_):
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            await asyncio.sleep(300)

    monkeypatch.setattr(engine._Client, "async_execute_cell", wait_on)
    begun = time.monotonic()
    with pytest.raises(session.StageTimeoutError, match="reached its limit of 1 s"):
        run(tmp_path, "1", timeout_s=1)
    assert time.monotonic() - begun < 200


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
    lines = "for i in range(11_000):\n    print('line', i, 90 * '.')"
    slow = "import time\nprint('one')\ntime.sleep(2.5)\nprint('two')"
    both = (
        "for i in range(20):\n    print(i, file=sys.stderr)\n    print(i)\n    sys.stdout.flush()"
    )
    bye = tmp_path / "bye"
    at_exit = f"import atexit\natexit.register(lambda: open({str(bye)!r}, 'w').close())"
    run(tmp_path, bars, lines, slow, both, at_exit, log_output=True)
    cells = read(tmp_path / "out.ipynb").cells
    assert cells[3].outputs[0].text == "5000/5000"
    text = cells[4].outputs[0].text
    dots = f" {90 * '.'}\n"
    assert text.startswith(f"line 0{dots}line 1{dots}")
    assert text.endswith(f"line 10998{dots}line 10999{dots}")
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
def test_long_text_of_one_message_is_cut_as_that_of_many_is(tmp_path, caplog):
    """A fast kernel sends as much at once."""
    caplog.set_level(logging.INFO, logger="lib.machine.executor")
    code = "import sys\nsys.stdout.write('wrong\\rright\\n' + 1_200_000 * '.' + '\\nend\\n')"
    run(tmp_path, code + "\nsys.stdout.flush()", log_output=True)
    (output,) = read(tmp_path / "out.ipynb").cells[3].outputs
    assert output.text.startswith("right\n...") and output.text.endswith("...\nend\n")
    assert "characters left out" in output.text and len(output.text) < 500_000
    assert {"right", "end"} <= {record.getMessage() for record in caplog.records}


@pytest.mark.kernel
def test_no_output_is_lost_when_it_comes_faster_than_it_is_read(tmp_path, monkeypatch):
    session.import_papermill()
    from lib.machine import engine

    read_message = engine._Client.process_message

    def read_slowly(self, *arguments):
        time.sleep(0.001)
        return read_message(self, *arguments)

    monkeypatch.setattr(engine, "IOPUB_S", 30)
    monkeypatch.setattr(engine._Client, "process_message", read_slowly)
    run(tmp_path, "for i in range(4000):\n    print(i, flush=True)")
    text = read(tmp_path / "out.ipynb").cells[3].outputs[0].text
    assert text == "".join(f"{i}\n" for i in range(4000))


@pytest.mark.kernel
def test_errors_that_a_tag_allows_are_no_failures(tmp_path):
    run(tmp_path, "1 / 0", tags=["raises-exception"])
    notebook = read(tmp_path / "out.ipynb")
    assert set(statuses(notebook)) == {"completed"}
    assert notebook.cells[3].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.kernel
def test_exception_from_a_timer_of_the_caller_ends_kernel_and_report(tmp_path):
    class TaskTimeout(BaseException):
        pass

    def alarm(*_):
        raise TaskTimeout("the task's own limit")

    before = signal.signal(signal.SIGALRM, alarm)
    session.import_papermill()
    from lib.machine import engine  # noqa: F401  no import while the clock ticks

    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        with pytest.raises(TaskTimeout):
            run(tmp_path, "import time; time.sleep(300)")
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
        assert result.output_path.with_suffix(".html").exists()
        archived = result.output_path.parent / "01_load.attempt-1.ipynb"
        assert_truth(archived, 4, "ZeroDivisionError")
