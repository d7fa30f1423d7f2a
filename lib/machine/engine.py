"""A papermill engine whose executed notebooks tell the truth.

Papermill's own engine marks cells as completed that were never run. This one watches the cell
that runs (its kernel, its output, the clock, signals to this process) and, when it ends badly,
has `lib.ground.outcome` say so in the notebook. Importing it imports papermill, without storage
back ends.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import re
import signal
import time
from pathlib import Path
from queue import Empty

from lib.ground import outcome
from lib.ground.files import is_local
from lib.machine import provisioner, streams
from lib.machine.session import Session, StageStopped, StageTimeoutError, import_papermill

import_papermill()

import psutil  # noqa: E402
import zmq  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient.exceptions import CellExecutionError, DeadKernelError  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines  # noqa: E402
from papermill.exceptions import PapermillExecutionError  # noqa: E402

NAME = "truthful"
TICK_S = 0.1
MEMORY_S = 1.0
AUTOSAVE_S, REMOTE_AUTOSAVE_S = 0.5, 10.0  # between two saves; papermill waits longer for slow ones
POLITE_S = 5.0  # for a kernel to run its own exit handlers
ENDED_S = 0.005  # between two looks whether it has
GRACE_S = 3.0  # for a cell to say where it was, between an interrupt and the kill
# ipykernel 7 may answer a request for shutdown by waiting for a stopped thread; asked to exit, it
# waits for 0.1 s
END_KERNEL = "get_ipython().ask_exit(); get_ipython().kernel.io_loop.stop()"
START_S = 60
IOPUB_S = 60

logger = logging.getLogger("lib.machine.executor")


def register() -> None:
    """Make the engine known to papermill under its own name."""
    papermill_engines.register(NAME, TruthfulEngine)


class TruthfulEngine(Engine):
    """Engine for `papermill.execute_notebook`; takes one option more, `session`."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, *, session: Session, **_options: object
    ) -> NotebookNode:
        """Execute `nb`, save it while it runs, and leave it in a true state."""
        nb.metadata.papermill["input_path"] = session.input_path
        nb.metadata.papermill["output_path"] = str(session.output_path)
        manager = _Progress(nb, session)
        manager.notebook_start()
        client = _Client(manager, kernel_name=kernel_name, log=logger)
        try:
            client.execute()
        except BaseException as error:
            manager.fail(error)
            raise
        manager.notebook_complete()
        session.completed = True
        return nb


class _Progress(NotebookExecutionManager):
    """Keeps the state of notebook and cells, and writes it where the report goes."""

    def __init__(self, nb: NotebookNode, session: Session) -> None:
        pause = AUTOSAVE_S if is_local(session.output_path) else REMOTE_AUTOSAVE_S
        super().__init__(nb, progress_bar=False, autosave_cell_every=pause)
        self.session = session
        self.current: int | None = None
        self.changed = False

    def save(self, **_changes: object) -> None:
        """Write the notebook now; the watcher knows before whose it is."""
        self.session.tell(begun=self.nb.metadata.papermill["start_time"])
        self.session.save(self.nb)
        self.last_save_time = self.now()
        self.changed = False

    def autosave_cell(self) -> None:
        """Write the notebook if there is something new and papermill finds that it is time."""
        if self.changed:
            super().autosave_cell()

    def cell_start(self, cell: NotebookNode, cell_index: int = 0, **_rest: object) -> None:
        """Mark a cell as running."""
        self.current = cell_index
        started = self.now().isoformat()
        cell.metadata.papermill.update(start_time=started, status=self.RUNNING, exception=False)
        self.session.tell(cell=cell_index, started=started)
        self.changed = True
        self.autosave_cell()

    def cell_complete(self, cell: NotebookNode, cell_index: int = 0, **_rest: object) -> None:
        """Mark a cell as completed; called only when it is."""
        ended = self.now().isoformat()
        cell.metadata.papermill.update(end_time=ended, status=self.COMPLETED, exception=False)
        self.current = None
        self.session.tell(cell=None)

    def notebook_complete(self, **_rest: object) -> None:
        """Mark the notebook as ended well, and save it."""
        self.nb.metadata.papermill["exception"] = False
        self.nb.metadata.papermill["peak_memory_bytes"] = self.session.peak_memory_bytes
        super().notebook_complete()

    def fail(self, error: BaseException) -> None:
        """Mark the notebook as failed because of `error`, and save it."""
        if isinstance(error, PapermillExecutionError):
            ename, reason = error.ename, error.evalue
        else:
            ename, reason = type(error).__name__, str(error) or "no message"
        self.session.tell(stopping=f"{ename}: {reason}")
        outcome.mark_failed(self.nb, self.current, ename, reason, at=self.now())
        self.nb.metadata.papermill["peak_memory_bytes"] = self.session.peak_memory_bytes
        self.save()


class _Client(PapermillNotebookClient):
    """Runs the cells one by one, each under watch."""

    def __init__(self, progress: _Progress, *, kernel_name: str, log: logging.Logger) -> None:
        super().__init__(
            progress,
            kernel_name=kernel_name,
            log=log,
            log_output=progress.session.log_output,
            startup_timeout=START_S,
            iopub_timeout=IOPUB_S,
            ipython_hist_file="",
            extra_arguments=["--HistoryManager.enabled=False"],
        )
        self.progress = progress
        self.session = progress.session
        self.deadline = float("inf")
        self.last_output = 0.0
        self.kernel_pid = 0
        self.memory_at = 0.0
        self.left_out: dict[int, int] = {}
        self.logs = {
            "stdout": streams.LineLog(logging.INFO),
            "stderr": streams.LineLog(logging.WARNING),
        }

    def execute(self, **_options: object) -> NotebookNode:
        """Run all cells; raise what ended them, if not the last cell did.

        Every notebook has an event loop of its own, which ends with it, however it ends: nothing
        that still waits can reach the next one. What a signal handler raises (Airflow's limit of a
        task) ends the loop, and that ends the kernel.
        """
        self.reset_execution_trackers()
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._execute())
        return self.nb

    async def _execute(self) -> None:
        try:
            await self._start()
            if self.session.timeout_s:
                self.deadline = time.monotonic() + self.session.timeout_s
            for index, cell in enumerate(self.nb.cells):
                if cell.cell_type == "code" and cell.source.strip():
                    self.progress.cell_start(cell, index)
                    await self._run_cell(cell, index)
                self.progress.cell_complete(cell, index)
        except BaseException:
            self._kill()
            raise
        finally:
            await self._shut_down()
        self.set_widgets_metadata()

    def create_kernel_manager(self) -> AsyncKernelManager:
        """Return a manager whose kernel talks over unix sockets in the private folder."""
        provisioner.use(provisioner.PATIENCE_S)
        folder = Path(self.session.sockets)
        self.km = AsyncKernelManager(kernel_name=self.kernel_name, config=self.config)
        self.km.transport = "ipc"
        self.km.context.setsockopt(zmq.RCVHWM, 0)  # no output is dropped, however fast it comes
        self.km.connection_file = str(folder / "k.json")
        command = self.km.kernel_spec.argv if self.km.kernel_spec else []
        if command[1:3] == ["-m", "ipykernel_launcher"]:
            command[1:3] = [str(Path(__file__).with_name("kernel.py"))]
        return self.km

    async def _start(self) -> None:
        self.create_kernel_manager()
        environment = {**os.environ, "JPY_SESSION_NAME": self.session.input_path}
        await self.async_start_new_kernel(cwd=self.session.cwd, env=environment)
        self.kernel_pid = self.km.provisioner.pid
        self.session.tell(kernel=self.kernel_pid)
        from lib.pages import notebook as reports  # noqa: F401  imported while the kernel starts

        work = asyncio.ensure_future(self._connect())
        while not work.done():
            await asyncio.wait({work}, timeout=TICK_S)
            self._check_signal()
        try:
            work.result()
        except (RuntimeError, DeadKernelError) as error:
            raise DeadKernelError(f"the kernel did not start: {error}") from error

    async def _connect(self) -> None:
        """Open the channels to the kernel and wait until it answers on both that cells need.

        As nbclient does it, but for 0.2 s of listening that follow there.
        """
        self.kc = self.km.client()
        self.kc.start_channels()
        self.kc.allow_stdin = False
        deadline = time.monotonic() + START_S
        while True:
            self.kc.kernel_info()
            with contextlib.suppress(Empty):
                info = await self.kc.shell_channel.get_msg(timeout=1)
                await self.kc.iopub_channel.get_msg(timeout=0.2)  # else outputs could be missed
                break
            if not await self.km.is_alive():
                raise RuntimeError("it ended before it answered")
            if time.monotonic() > deadline:
                raise RuntimeError(f"it did not answer in {START_S} seconds")
        self.nb.metadata["language_info"] = info["content"]["language_info"]

    async def _run_cell(self, cell: NotebookNode, index: int) -> None:
        """Execute one cell and watch it; raise what ended it."""
        begun = self.last_output = time.monotonic()
        logger.debug("Cell %d of %d", index + 1, len(self.nb.cells))
        work = asyncio.ensure_future(self.async_execute_cell(cell, index))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=TICK_S)
                if not work.done():
                    self._sample_memory()
                    self.progress.autosave_cell()
                    await self._check_cell(cell, index, work, begun)
            work.result()
        except CellExecutionError as error:
            trace = [line for out in cell.outputs for line in out.get("traceback", ())]
            raise PapermillExecutionError(
                index, cell.execution_count, cell.source, error.ename, error.evalue, trace
            ) from None
        except DeadKernelError as error:
            raise await self._death(index) from error
        except asyncio.CancelledError as error:  # what waits for a kernel may end so when it dies
            if await self.km.is_alive():
                raise
            raise await self._death(index) from error
        finally:
            while not work.done():  # it misses a call that comes as a message does, or a time-out
                work.cancel()
                await asyncio.wait({work}, timeout=TICK_S)
            await asyncio.gather(work, return_exceptions=True)
            self._sample_memory(now=True)
            cell.metadata.papermill["duration"] = round(time.monotonic() - begun, 6)
            for log in self.logs.values():
                log.flush()

    async def _check_cell(
        self, cell: NotebookNode, index: int, work: asyncio.Future, begun: float
    ) -> None:
        """Raise if the running cell has to end here: limits, signals, a dead kernel."""
        self._check_signal()
        if not await self.km.is_alive():
            await asyncio.wait({work}, timeout=2 * TICK_S)  # read what it still said
            raise await self._death(index)
        now = time.monotonic()
        where = f"cell {index + 1} of {len(self.nb.cells)}"
        session = self.session
        if now >= self.deadline:
            name, limit = "timeout_s", session.timeout_s
            text = (
                f"the notebook reached its limit of {limit:g} s in {where}, "
                f"which had been running for {now - begun:.1f} s"
            )
        elif session.silent_timeout_s and now - self.last_output >= session.silent_timeout_s:
            name, limit = "silent_timeout_s", session.silent_timeout_s
            text = (
                f"{where} gave no output for {limit:g} s, the limit for a silent cell; "
                f"it had been running for {now - begun:.1f} s"
            )
        else:
            return
        session.tell(stopping=f"StageTimeoutError: {text}")
        await self.km.interrupt_kernel()
        await asyncio.wait({work}, timeout=GRACE_S)
        raise StageTimeoutError(text, name)

    def _check_signal(self) -> None:
        if (number := self.session.stop_signal) is not None:
            name = signal.Signals(number).name
            raise StageStopped(f"the process that executed this notebook was told to stop ({name})")

    async def _death(self, index: int) -> DeadKernelError:
        """Return the error that says how the kernel ended."""
        process = self.km.provisioner.process
        code = process.poll()
        for _ in range(10):
            if code is None:
                await asyncio.sleep(TICK_S)
                code = process.poll()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            how = f"it was ended by {name}"
            if name == "SIGKILL":
                how += ", most often for lack of memory"
        elif code == provisioner.UNKNOWN:
            how = "how, nobody can tell: the process that it was forked from is gone, too"
        else:
            how = f"it exited with status {code}"
        memory = self.session.peak_memory_bytes / 2**20
        return DeadKernelError(
            f"the kernel died in cell {index + 1} of {len(self.nb.cells)}: {how}; "
            f"the most memory it was seen to use was {memory:,.0f} MiB"
        )

    def _sample_memory(self, *, now: bool = False) -> None:
        """Keep the largest memory use of the kernel and its children."""
        if not now and time.monotonic() - self.memory_at < MEMORY_S:
            return
        self.memory_at = time.monotonic()
        with contextlib.suppress(psutil.Error):
            kernel = psutil.Process(self.kernel_pid)
            used = 0
            for process in (kernel, *kernel.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    used += process.memory_info().rss
            peak = max(used, _high_water_mark(self.kernel_pid))
            self.session.peak_memory_bytes = max(self.session.peak_memory_bytes, peak)

    def _kill(self) -> None:
        """End the kernel and all it started, at once."""
        if self.kernel_pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.kernel_pid, signal.SIGKILL)

    async def _shut_down(self) -> None:
        """Stop the kernel, politely if it is idle, within a few seconds, and close its sockets."""
        if self.km is None:
            return
        try:
            if self.kc is not None and await self.km.is_alive():
                self.kc.execute(END_KERNEL, silent=True, store_history=False)
                await self._gone()
            self._kill()
            await self._gone()
            if self.kc is not None:
                self.kc.stop_channels()
            await self.km.cleanup_resources()
        except Exception:
            logger.warning("The kernel did not shut down cleanly", exc_info=True)
        finally:
            self._kill()

    async def _gone(self) -> None:
        """Wait until the kernel has ended, for `POLITE_S` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLITE_S):
                while self.km.has_kernel and await self.km.is_alive():
                    await asyncio.sleep(ENDED_S)

    def output(
        self, outs: list, msg: dict, display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        """Add an output; text that continues a stream is joined to it as a terminal would."""
        count = len(outs)
        out = super().output(outs, msg, display_id, cell_index)
        if out is None or out.output_type != "stream" or len(outs) != count + 1:
            return out
        said, out.text, left_out = NotebookNode(out), "", 0
        for earlier in itertools.takewhile(lambda one: one.output_type == "stream", outs[-2::-1]):
            if earlier.name == out.name:
                outs.pop()
                out, left_out = earlier, self.left_out.get(id(earlier), 0)
                break
        out.text, self.left_out[id(out)] = streams.join(out.text, said.text, left_out)
        return said

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> object:
        """Note that the cell said something, and take it in."""
        self.last_output = time.monotonic()
        self.progress.changed = True
        return super().process_message(msg, cell, cell_index)

    def log_output_message(self, output: NotebookNode) -> None:
        """Write text output to the log."""
        if self.log_output and output.output_type == "stream":
            self.logs[output.name].add(output.text)


def _high_water_mark(pid: int) -> int:
    """Return the largest resident memory of process `pid` so far, in bytes; 0 if unknown."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        if match := re.search(r"VmHWM:\s*(\d+) kB", status):
            return int(match[1]) * 1024
    return 0
