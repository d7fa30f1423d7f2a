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
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from lib.ground import outcome
from lib.ground.attempts import StageGivenUp
from lib.ground.files import look_into
from lib.machine.session import SIGNALS, Session, Watcher, answering, import_papermill

from upath import UPath

logger = logging.getLogger(__name__)

ATTEMPT = re.compile(r"\.attempt-(\d+)\.(?:ipynb|html)$")  # how the reports of attempts end


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
    with look_into(path.parent):
        return _archive(path, path.with_suffix(".html"))


def _archive(path: UPath, html: UPath) -> UPath | None:
    if not path.exists() and not html.exists():
        return None
    finish_report(
        path,
        "execution was cut off and nobody was left to say why (the machine or container stopped); "
        "the time given is when this was noticed",
    )
    earlier = [ATTEMPT.search(found.name) for found in path.parent.glob(f"{path.stem}.attempt-*")]
    number = 1 + max((int(found[1]) for found in earlier if found), default=0)
    moved = path.with_name(f"{path.stem}.attempt-{number}.ipynb")
    for old, new in ((path, moved), (html, moved.with_suffix(".html"))):
        if old.exists():
            old.rename(new)
    return moved


def finish_report(path: UPath, reason: str, known: Mapping | None = None) -> None:
    """Mark a notebook that says `running` and that nobody runs any more as failed; write its HTML.

    Parameters
    ----------
    path : UPath
        The notebook. What is no notebook is left as it is.
    reason : str
        Why it was killed, in plain words.
    known : mapping, optional
        ``begun``, when the killed execution began: a notebook of another one, which may live, is
        left as it is. ``cell``, the one that was running, and when it ``started``, where somebody
        was told. By default what the notebook itself says.
    """
    from lib.pages import notebook as reports

    try:
        notebook = outcome.read_notebook(path)
        is_cut_off = outcome.state(notebook) == "running"
        begun = notebook["metadata"].get("papermill", {}).get("start_time")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if known is not None and known.get("begun") != begun:
        return
    if is_cut_off:
        known = {"cell": outcome.running_cell(notebook)} if known is None else known
        cell, started = known.get("cell"), known.get("started")
        outcome.mark_failed(notebook, cell, "StageKilled", reason, started=started)
        outcome.write_notebook(path, notebook)
    if is_cut_off or not path.with_suffix(".html").exists():
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
    attempt: Mapping | None = None,
) -> Session:
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
    attempt : mapping, optional
        Of `lib.ground.attempts`: the notebook is written only as long as this attempt may.

    Returns
    -------
    Session
        With ``output_path``, ``seconds`` and ``peak_memory_bytes``.

    Raises
    ------
    papermill.exceptions.PapermillExecutionError
        A cell raised an error.
    nbclient.exceptions.DeadKernelError
        The kernel died or did not start.
    StageTimeoutError
        `timeout_s` or `silent_timeout_s` was reached.
    StageStopped
        A signal came whose earlier handler let the process go on.
    StageGivenUp
        Another attempt has begun.
    """
    begun, path = time.monotonic(), UPath(output_path)
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
        log_output=log_output,
        attempt=attempt or {},
    )
    base = tempfile.gettempdir()
    base = base if len(base) <= 60 else "/tmp"  # a unix socket's path may have 107 bytes at most
    private = tempfile.TemporaryDirectory(
        prefix=f"kernel-{os.getpid()}-", dir=base, ignore_cleanup_errors=True
    )
    with _signals_noted(session), private as session.sockets:
        session.watcher = Watcher(path, session.sockets)
        try:
            _run(session, parameters)
        except BaseException as error:
            error.add_note(f"Executed notebook: {path}")
            raise
        finally:
            session.watcher.dismiss()
    session.seconds = time.monotonic() - begun
    return session


def _run(session: Session, parameters: Mapping[str, object] | None) -> None:
    """Execute through papermill; write the HTML whatever comes of it."""
    import_papermill()
    from lib.machine import engine
    from lib.pages import notebook as reports

    import papermill
    from papermill.exceptions import PapermillExecutionError

    engine.register()
    # its "Output Notebook: will not be saved" misleads
    logging.getLogger("papermill").setLevel(logging.WARNING)
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
        ours = not isinstance(sys.exception(), StageGivenUp)
        if ours and session.output_path.exists():
            try:
                reports.write_html(session.output_path)
            except Exception:
                logger.exception("No HTML could be written for %s", session.output_path)


@contextlib.contextmanager
def _signals_noted(session: Session) -> Iterator[None]:
    """Note SIGTERM and SIGINT in `session`, and deliver them again when the report is written."""
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        session.stop_signal = session.stop_signal or number

    if threading.current_thread() is threading.main_thread():
        signals += [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    try:
        with answering(signals, note):
            yield
    finally:
        if session.stop_signal is not None:
            os.kill(os.getpid(), session.stop_signal)
