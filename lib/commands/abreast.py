"""Work on several pipelines at once: each in a forked process, told of one after another.

What a process says is shown once all that were asked for before it have ended: a console shows the
first that goes on as it does so, and then the next from its beginning.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TextIO

from lib.ground import aside
from lib.machine.session import SIGNALS, answering

import psutil

MEMORY_BYTES = 2 * 2**30  # of a run: its process, and a kernel that trains
LOOK_S = 0.1
AGAIN_S = 1.0  # a signal may come before the work can be interrupted
LOST = "lost"

Work = Callable[[str, TextIO], str]


def most_at_once() -> int:
    """Return how many runs this machine makes at once: by its memory, if it has two processors."""
    if not sys.platform.startswith("linux"):  # libraries of macOS do not survive a fork
        return 1
    by_memory = psutil.virtual_memory().available // MEMORY_BYTES
    return max(1, by_memory) if processors() > 1 else 1


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def work_on(
    names: list[str], work: Work, console: TextIO, logs: dict[str, Path], most: int
) -> dict[str, str]:
    """Do `work` on every name, on so many at once at most.

    After Ctrl-C or SIGTERM those that have begun are interrupted, and no other begins.

    Parameters
    ----------
    names : list of str
    work : callable
        Takes a name and where to tell of it, and returns a word. It is called in a process of its
        own, and sees to interrupts itself: SIGINT does nothing there until it does.
    console : file
    logs : dict
        By name, where whatever else is printed goes.
    most : int

    Returns
    -------
    dict
        By name, the word; "lost" where the process was killed. Those that have not begun are left
        out.

    Raises
    ------
    Exception
        What `work` has raised on the first name that it has on, once all that had begun have ended.
    """
    begun: dict[str, _Process] = {}
    came: list[int] = []
    try:
        with answering(SIGNALS, lambda number, _frame: came.append(number)):
            _go_on(names, begun, lambda name: _Process(name, work, logs[name]), console, most, came)
    except BaseException:
        for one in begun.values():
            one.process.terminate()
        raise
    for one in begun.values():
        if isinstance(one.answer, Exception):
            raise one.answer
    return {name: str(one.answer) for name, one in begun.items()}


def _go_on(
    names: list[str],
    begun: "dict[str, _Process]",
    begin: "Callable[[str], _Process]",
    console: TextIO,
    most: int,
    came: list[int],
) -> None:
    """Begin as many as may be at once, show what they say, and wait, until all have ended."""
    waiting, shown = [*names], [*names]
    while True:
        running = [one for one in begun.values() if one.answer is None]
        failed = any(isinstance(one.answer, Exception) for one in begun.values())
        while waiting and len(running) < most and not came and not failed:
            name = waiting.pop(0)
            begun[name] = begin(name)
            running.append(begun[name])
        while shown and shown[0] in begun:
            one = begun[shown[0]]
            is_over = one.answer is not None  # known before what it said is read
            one.show(console)
            if not is_over:
                break
            shown.pop(0)
        if not running:
            return
        ended = connection.wait([one.answers for one in running], LOOK_S)
        for one in running:
            if one.answers in ended:
                one.end()
            elif came:
                one.interrupt()


class _Process:
    """A process that works on one name: what it says, and at last its answer."""

    def __init__(self, name: str, work: Work, log: Path) -> None:
        context = get_context("fork")
        self.said, self.shown, self.interrupted_at = tempfile.TemporaryFile(), 0, 0.0
        self.answer: str | Exception | None = None
        self.answers, answers = context.Pipe(duplex=False)
        given = (work, name, self.said.fileno(), log, answers)
        self.process = context.Process(target=_begin, args=given)
        self.process.start()
        answers.close()

    def show(self, console: TextIO) -> None:
        """Show what it has said since the last time."""
        console.flush()
        while text := os.pread(self.said.fileno(), 1 << 16, self.shown):
            self.shown += len(text)
            while text:
                text = text[os.write(console.fileno(), text) :]

    def interrupt(self) -> None:
        """Interrupt it, and once more after a while: it swallows what comes later."""
        if time.monotonic() - self.interrupted_at > AGAIN_S:
            self.interrupted_at = time.monotonic()
            os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """Take its answer, which it has given or never will."""
        try:
            self.answer = self.answers.recv()
        except EOFError:
            self.answer = LOST
        self.process.join()


def _begin(work: Work, name: str, said: int, log: Path, answers: connection.Connection) -> None:
    """Work on one name in a process that was forked for it, which ends with its parent."""
    os.setsid()  # signals of the terminal are for the parent
    aside.begin()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with os.fdopen(said, "w", encoding="utf-8", buffering=1, closefd=False) as console:
        try:
            answer: str | Exception = work(name, console)
        except Exception as error:
            answer = error
    answers.send(answer)
