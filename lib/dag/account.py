"""What a terminal is told of a DAG run that goes on: its tasks, and what their notebooks print."""

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, TextIO

from lib.ground.handover import TAKEN
from lib.ground.runs import run_of_airflow
from lib.machine.turns import Turns
from lib.once.taking import words

from pluggy import HookimplMarker

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

hookimpl = HookimplMarker("airflow")  # Airflow's own, which takes long to import


def became(task: "RuntimeTaskInstance | TaskInstance") -> tuple[str, str]:
    """Return what to print of a task that has succeeded: "ok", or "taken" and where from."""
    record = run_of_airflow(task.dag_id, task.run_id, task.map_index).record(task.task_id)
    return ("taken", words(record)) if TAKEN in record else ("ok", "")


def label(task: "RuntimeTaskInstance | TaskInstance") -> str:
    """Return what to call a task: its id, with the index of a mapped one."""
    return task.task_id if task.map_index < 0 else f"{task.task_id} {task.map_index}"


class Account(logging.Handler):
    """Prints one line when a task starts and ends, and what its notebook prints meanwhile.

    As a listener of Airflow and a handler of a log it needs nobody who calls it.

    Parameters
    ----------
    console : file
    turns : Turns, optional
        What tasks wait for before they begin, where runs are made side by side.
    """

    def __init__(self, console: TextIO, turns: Turns | None = None) -> None:
        super().__init__(logging.INFO)
        self.console, self.turns = console, turns
        self.started = 0.0
        self.open_line = ""
        self.is_interrupted = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line that a notebook has printed; what goes to stderr stays in the log."""
        if record.levelno == logging.INFO:
            self.cut_off()
            self.console.write(f"    {record.getMessage()}\n")

    def interject(self, line: str) -> None:
        """Show a line from a signal handler, which may come while another one is being written.

        No task is tried again from then on.
        """
        self.is_interrupted = True
        start, self.open_line = "\n" * bool(self.open_line), ""
        os.write(self.console.fileno(), f"{start}    {line}\n".encode())

    def cut_off(self) -> None:
        """End the line of a task that is still open."""
        self.console.write("\n" if self.open_line else "")
        self.open_line = ""

    def begin(self, task_id: str) -> None:
        """Begin the line of a task."""
        self.cut_off()
        self.started = time.monotonic()
        self.open_line = f"  {task_id:<14} "
        self.console.write(self.open_line)
        self.console.flush()

    def end(self, task_id: str, outcome: str, reason: str = "", seconds: float = -1) -> None:
        """End the line of a task: what became of it, how long it took and, below, why."""
        seconds = time.monotonic() - self.started if seconds < 0 else seconds
        if not self.open_line:
            self.begin(task_id)
        self.console.write(f"{outcome:<7} {seconds:5.1f} s\n")
        self.console.write(f"    {reason}\n" if reason else "")
        self.open_line = ""
        if self.turns:
            self.turns.give()

    @hookimpl
    def on_task_instance_running(self, previous_state: str, task_instance: object) -> None:
        """Say that a task has begun; a SIGTERM ends the run from now on, as Ctrl-C does.

        Airflow has just made it end the task alone, which would be tried again then.
        """
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        if self.turns:
            self.turns.take()
        self.begin(label(task_instance))

    @hookimpl
    def on_task_instance_success(self, previous_state: str, task_instance: object) -> None:
        """Say that a task has ended well."""
        self.end(label(task_instance), *became(task_instance))

    @hookimpl
    def on_task_instance_failed(
        self, previous_state: str, task_instance: object, error: object
    ) -> None:
        """Say that a try has failed, and why; end the run where Airflow would wait and try again.

        An interrupt that comes before a notebook has begun, while a task waits for its turn for
        example, is like any other error to Airflow.
        """
        nothing = "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error)
        reason = (str(error).strip().splitlines() or [nothing])[-1]
        self.end(label(task_instance), "FAILED", reason)
        if self.is_interrupted and type(error).__name__ != "AirflowFailException":
            raise KeyboardInterrupt

    @hookimpl
    def on_task_instance_skipped(self, previous_state: str, task_instance: object) -> None:
        """Say that a task had nothing to do; why is told at the end."""
        self.end(label(task_instance), "skipped")
