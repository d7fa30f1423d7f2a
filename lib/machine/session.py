"""One execution of a notebook: what was asked for, what has happened, and what can end it.

Importing it is cheap: papermill is imported when it is needed, without storage back ends.
"""

import contextlib
import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from lib.ground import attempts, outcome
from lib.ground.files import ROOT, read_tagged

from upath import UPath

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What asks a process to end."""
UNUSED = (
    "papermill.s3",
    "papermill.adl",
    "papermill.abs",
    "gcsfs",
    "github",
    "pyarrow.fs",
)


class StageTimeoutError(Exception):
    """A notebook ran longer than it may, or one of its cells was silent for too long.

    Parameters
    ----------
    message : str
    limit : str
        The one that was passed: ``"timeout_s"`` or ``"silent_timeout_s"``.
    """

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class StageStopped(Exception):
    """The executing process was told to stop (SIGTERM or SIGINT) while a notebook ran."""


@dataclass
class Session:
    """One execution: what was asked for, what happened so far, and the watcher that is told.

    `peak_memory_bytes` is the largest resident memory of the kernel, with the processes it started
    where it had any. `attempt` is that of `lib.ground.attempts`.
    """

    input_path: str
    output_path: UPath
    cwd: str
    timeout_s: float | None
    silent_timeout_s: float | None
    log_output: bool
    attempt: Mapping = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    sockets: str = ""
    watcher: "Watcher | None" = None
    stop_signal: int | None = None
    completed: bool = False
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def save(self, notebook: Mapping) -> None:
        """Write the executed notebook.

        Raises
        ------
        StageGivenUp
            If this is no longer the attempt that may: another one has begun, elsewhere perhaps.
        """
        if self.attempt:
            data = outcome.encoded(notebook)
            self.held.setdefault("tag", read_tagged(self.output_path)[1])
            attempts.keep(self.output_path, data, self.attempt, self.held)
        else:
            outcome.write_notebook(self.output_path, notebook)

    def tell(self, **facts: str | int | None) -> None:
        """Tell the watcher what it must know if this process dies now."""
        self.watcher.tell(facts)


class Watcher:
    """The process of `lib.machine.watcher`, and the pipe it reads."""

    def __init__(self, output_path: UPath, sockets: str) -> None:
        script = Path(__file__).with_name("watcher.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.tell({"root": str(ROOT), "output": str(output_path), "sockets": sockets})

    def tell(self, facts: Mapping[str, str | int | None]) -> None:
        """Send `facts`; later ones replace earlier ones of the same name."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(facts).encode() + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Say goodbye and wait until the watcher is gone."""
        try:
            self._process.communicate(b"goodbye\n", timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def import_papermill() -> None:
    """Import papermill without the storage back ends that this project does not use.

    Papermill imports boto3, azure, gcsfs, PyGithub and pyarrow's HDFS at import, and treats each
    as optional: a failed import is replaced by a stub that says which package is missing. Here
    they fail on purpose, through ``sys.modules[name] = None``, Python's documented way to block
    an import, and only while papermill itself is imported. Notebooks go to remote folders through
    universal-pathlib instead. Nothing is blocked that is imported already.
    """
    if "papermill" in sys.modules:
        return
    blocked = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]
    try:
        importlib.import_module("papermill")
    finally:
        for name in blocked:
            del sys.modules[name]


@contextlib.contextmanager
def answering(signals: Iterable[int], answer: Callable[[int, FrameType | None], None]) -> Iterator:
    """Let `answer` handle signals while a block goes on; handlers are then as they were."""
    before = {number: signal.signal(number, answer) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
