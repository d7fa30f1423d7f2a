"""A small process that outlives a killed executor and finishes its report.

`start` begins a session of its own and gives it the read end of a pipe. As long as the executor
lives nothing happens; a goodbye ends the watcher. When the pipe closes without one, the executor
was killed: the watcher stops the kernel with all its children, removes the private folder of the
kernel's sockets, and makes the saved notebook, its HTML and the run's page say what happened. Until
then it has imported next to nothing, so that it starts at once and waits in little memory.
"""

import json
import os
import sys

GOODBYE = "goodbye\n"


def _wait() -> dict | None:
    """Read reports from standard input until it closes; return them, or None after a goodbye."""
    known: dict = {}
    for line in sys.stdin:
        if line == GOODBYE:
            return None
        if line.endswith("\n"):  # else it was being written
            known.update(json.loads(line))
    return known


def _become_finisher(known: dict) -> None:
    """Replace this bare interpreter by one with all packages, which writes the report."""
    environment = dict(os.environ)
    paths = [known["root"], environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-m", "lib.machine.watcher", "--finish", json.dumps(known)]
    os.execve(sys.executable, command, environment)


def _finish(known: dict) -> None:
    """Stop the kernel, remove its sockets and finish the notebook, its HTML and the run's page."""
    import shutil

    from lib.machine.executor import finish_report
    from lib.pages import publish

    from upath import UPath

    if kernel := known.get("kernel"):
        stop_kernel(kernel, known["sockets"])
    shutil.rmtree(known["sockets"], ignore_errors=True)
    path = UPath(known["output"])
    killed = (
        "the process that executed this notebook was killed from outside (SIGKILL, for example by "
        "the scheduler or for lack of memory); output of its last seconds may be missing"
    )
    finish_report(path, known.get("stopping") or killed, known)
    publish.beside(path)


def stop_kernel(pid: int, sockets: str) -> None:
    """Kill the kernel and every process it started, and wait until the kernel is gone.

    Parameters
    ----------
    pid : int
        Process id of the kernel, which leads a process group of its own.
    sockets : str
        Its private folder, named in its command line: a process without it is somebody else's.
    """
    import contextlib
    import signal

    import psutil

    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        kernel = psutil.Process(pid)
        command = kernel.cmdline()
        if command and not any(sockets in word for word in command):
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(pid).wait(timeout=5)


if __name__ == "__main__":
    if "--finish" in sys.argv:
        _finish(json.loads(sys.argv[2]))
    elif (reports_received := _wait()) is not None:
        _become_finisher(reports_received)
