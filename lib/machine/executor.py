"""Execute one notebook in a kernel of its own, and leave a report that tells the truth.

`execute_notebook` runs a notebook through papermill with the engine of `lib.machine.engine`.
Whatever happens (an error in a cell, a dead kernel, a time limit, a signal, even a SIGKILL), the
executed notebook and its HTML say what ran, what failed and why. The input is never modified, the
kernel talks over unix sockets only, and nothing that the notebook started survives it. Importing
this module is cheap: papermill is imported when it is needed, without storage back ends.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lib import outcome
from lib.machine.session import (
    SIGNALS,
    Session,
    Watcher,
    import_papermill,
)

from upath import UPath

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """What executing one notebook took.

    Attributes
    ----------
    output_path, html_path : UPath
        The executed notebook and its HTML.
    n_cells : int
        Code cells executed.
    seconds : float
        Wall time of the whole call.
    cell_seconds : float
        Sum of the code cells' own wall times; the rest is overhead.
    kernel_start_seconds : float
        From launching the kernel until it answered.
    peak_memory_bytes : int
        Largest resident memory of the kernel, with the processes it started where it had any.
    """

    output_path: UPath
    html_path: UPath
    n_cells: int
    seconds: float
    cell_seconds: float
    kernel_start_seconds: float
    peak_memory_bytes: int


def html_path(output_path: UPath) -> UPath:
    """Return where the HTML of an executed notebook lies: beside it, with suffix ``.html``."""
    return output_path.with_suffix(".html")


def archive_previous(output_path: UPath | str) -> UPath | None:
    """Move the report of an earlier attempt out of the way, so that it is never overwritten.

    The executed notebook and its HTML become ``<stem>.attempt-<n>.ipynb`` and ``.html``, with the
    first free `n` from 1. A notebook that still says `running` was cut off together with its
    watcher (a machine that went down): it is marked as failed first.

    Parameters
    ----------
    output_path : UPath or str
        Where the next attempt will write its notebook.

    Returns
    -------
    UPath or None
        The moved notebook; None if there was nothing to move.
    """
    path = UPath(output_path)
    html = html_path(path)
    if not path.exists() and not html.exists():
        return None
    if path.exists():
        _close_cut_off(path)
    number = 1
    while any(
        (path.parent / f"{path.stem}.attempt-{number}{suffix}").exists()
        for suffix in (".ipynb", ".html")
    ):
        number += 1
    moved = path.parent / f"{path.stem}.attempt-{number}.ipynb"
    if path.exists():
        path.rename(moved)
    if html.exists():
        html.rename(html_path(moved))
    return moved


def _close_cut_off(path: UPath) -> None:
    """Mark a notebook that was never finished as failed, and write its HTML."""
    from lib.pages import notebook as reports

    try:
        notebook = outcome.read_notebook(path)
        state = outcome.state(notebook)
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not a notebook: it is moved as it is
    if state == "running":
        outcome.mark_failed(
            notebook,
            outcome.running_cell(notebook),
            "StageKilled",
            "execution was cut off and nobody was left to say why (the machine or container "
            "stopped); the time given is when this was noticed",
        )
        outcome.write_notebook(path, notebook)
        reports.write_html(path)


def execute_notebook(
    input_path: Path | str,
    output_path: UPath | str,
    parameters: Mapping[str, object] | None = None,
    *,
    cwd: Path | str,
    timeout_s: float | None = None,
    silent_timeout_s: float | None = None,
    log_output: bool = False,
    autosave_s: float = 5,
) -> StageResult:
    """Execute a notebook with `parameters` and write it, with HTML beside it.

    The report of an earlier attempt at the same place is kept: see `archive_previous`. SIGTERM
    and SIGINT stop the kernel, finish the report, and are then delivered again to whoever handled
    them before. Call it from the main thread; in another one, signals are not looked after.

    Parameters
    ----------
    input_path : Path or str
        The notebook; it is never modified.
    output_path : UPath or str
        Where the executed notebook goes: a path or an fsspec URL. Its folder is made if needed.
    parameters : mapping, optional
        Values for the cell tagged ``parameters``.
    cwd : Path or str
        Working directory of the kernel.
    timeout_s : float, optional
        Seconds that all cells together may run.
    silent_timeout_s : float, optional
        Seconds that a cell may run without any output; a cell that keeps printing may run on.
    log_output : bool, default False
        Also write the cells' text output to the log, line by line as it comes.
    autosave_s : float, default 5
        Seconds between two saves while a cell runs.

    Returns
    -------
    StageResult

    Raises
    ------
    papermill.exceptions.PapermillExecutionError
        A cell raised an error.
    nbclient.exceptions.DeadKernelError
        The kernel died or did not start.
    StageTimeoutError
        `timeout_s` or `silent_timeout_s` was reached, or output came too slowly to be stored.
    StageStopped
        A signal came whose earlier handler let the process go on.
    """
    path = UPath(output_path)
    if "://" not in str(output_path):
        path = UPath(Path(str(output_path)).absolute())
    path.parent.mkdir(parents=True, exist_ok=True)
    archive_previous(path)
    session = Session(
        input_path=str(Path(input_path).absolute()),
        output_path=path,
        cwd=str(Path(cwd).absolute()),
        timeout_s=timeout_s,
        silent_timeout_s=silent_timeout_s,
        autosave_s=autosave_s,
        log_output=log_output,
    )
    with _signals_noted(session), _socket_folder(session):
        session.watcher = Watcher(path, session.sockets)
        try:
            _run(session, parameters)
        except BaseException as error:
            error.add_note(f"Executed notebook: {path}")
            raise
        finally:
            session.watcher.dismiss()
    return StageResult(
        output_path=path,
        html_path=html_path(path),
        n_cells=session.n_cells,
        seconds=time.monotonic() - session.begun,
        cell_seconds=session.cell_seconds,
        kernel_start_seconds=session.kernel_start_seconds,
        peak_memory_bytes=session.peak_memory_bytes,
    )


def _run(session: Session, parameters: Mapping[str, object] | None) -> None:
    """Execute through papermill; write the HTML whatever comes of it."""
    import_papermill()
    from lib.machine import engine
    from lib.pages import notebook as reports

    import papermill
    from papermill.exceptions import PapermillExecutionError

    engine.register()
    papermill_log = logging.getLogger("papermill")
    level = papermill_log.level
    papermill_log.setLevel(logging.WARNING)  # its "Output Notebook: will not be saved" misleads
    escaped = session.input_path.replace("{", "{{").replace("}", "}}")  # papermill formats paths
    try:
        papermill.execute_notebook(
            escaped,
            None,  # the engine alone writes the notebook
            parameters=dict(parameters or {}),
            engine_name=engine.NAME,
            progress_bar=False,
            cwd=session.cwd,
            session=session,
        )
    except PapermillExecutionError:
        if not session.completed:  # papermill refuses errors that a cell's tag allows
            raise
    finally:
        papermill_log.setLevel(level)
        if session.output_path.exists():
            try:
                reports.write_html(session.output_path)
            except Exception:
                logger.exception("No HTML could be written for %s", session.output_path)


@contextlib.contextmanager
def _socket_folder(session: Session) -> Iterator[None]:
    """Make a private folder with a short path, for unix sockets, for one execution."""
    base = tempfile.gettempdir()
    if len(base) > 60:  # a unix socket's path may have 107 bytes at most
        base = "/tmp"
    session.sockets = tempfile.mkdtemp(prefix="kernel-", dir=base)
    try:
        yield
    finally:
        shutil.rmtree(session.sockets, ignore_errors=True)


@contextlib.contextmanager
def _signals_noted(session: Session) -> Iterator[None]:
    """Note SIGTERM and SIGINT in `session`, and deliver them again when the report is written."""
    before = {}

    def note(number: int, _frame: FrameType | None) -> None:
        session.stop_signal = session.stop_signal or number

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN and handler is not None:
                before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if session.stop_signal is not None:
            os.kill(os.getpid(), session.stop_signal)
