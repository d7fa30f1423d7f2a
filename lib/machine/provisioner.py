"""Start kernels by forking a warm process, and as ever where that is not possible.

`WarmProvisioner` takes the place of Jupyter's `LocalProvisioner`, of which it is one: see `use`.
There is a warm process (`lib.machine.warm`) for every set of imports of the notebooks of this
project (with and without Keras, for example) and every environment, but for variables that no
import reads: see `OWN`. The first kernel that needs it starts it, for the process that owns it:
`make up`, `make lab`, or else the one that starts kernels. `WARM_KERNELS=0` switches all this off.
"""

import ast
import asyncio
import atexit
import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

from lib.ground import layout, outcome
from lib.ground.files import ROOT
from lib.machine.warm import ready_mark

import zmq
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from upath import UPath

VARIABLE = "WARM_KERNELS"
NAME = "warm-provisioner"
IDLE_S = 600.0
PATIENCE_S = 60.0
ATTEMPTS = 3
GONE_S = 1.0  # for a kernel that was killed
BUSY_S = 5.0  # for a warm process on a machine with too much to do
END_S = 0.3  # for one that was asked to end
RECONNECT_MS = 5  # between two tries to reach a kernel, which has its sockets in a moment
HEAVY = ("jax", "keras", "tensorflow", "torch")  # imported only for notebooks that name them
OWN = (
    "AIRFLOW_",
    "AWS_",
    "COLUMNS",
    "DATA_DIR",
    "JPY_",
    "JUPYTER_TOKEN",
    "LINES",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "MLFLOW_TRACKING_URI",
    "OLDPWD",
    "OUTPUTS_DIR",
    "PIPELINES_",
    "PWD",
    "PYTEST_",
    "SHLVL",
    VARIABLE,
    "_",
)
"""Beginnings of variables that differ from kernel to kernel, and that nothing reads at import."""
FOLDER = re.compile(r"/.*/warm-(\d+)-\w+")  # of sockets, with its owner
UNKNOWN = 1 << 16  # in place of an exit status that nobody can tell
KERNEL, WARM = (str(Path(__file__).with_name(name)) for name in ("kernel.py", "warm.py"))

logger = logging.getLogger("lib.machine.executor")
_told: set[str] = set()
_started: list[subprocess.Popen] = []


class ColdError(Exception):
    """There is no warm process to fork from; the message says why."""


class Forked:
    """A kernel that was forked for this process, as `subprocess.Popen` would show it."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid, self.connection = pid, connection
        self.returncode: int | None = None
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # gone already; how is in the connection
            self.pidfd = -1

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the kernel runs."""
        if self.returncode is None and (code := self._ended()) is not None:
            self.returncode = code
            self.connection.close()
            if self.pidfd >= 0:
                os.close(self.pidfd)
        return self.returncode

    def _ended(self) -> int | None:
        try:
            text = self.connection.recv(1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            text = b""
        if text:
            return json.loads(text)["status"]
        ended = select.poll()  # the warm process is gone, and the kernel perhaps not
        if self.pidfd >= 0:
            ended.register(self.pidfd, select.POLLIN)
        return UNKNOWN if self.pidfd < 0 or ended.poll(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the kernel has ended."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("kernel", timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def terminate(self) -> None:
        """Ask the kernel to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the kernel."""
        self.send_signal(signal.SIGKILL)


class WarmProvisioner(LocalProvisioner):
    """Forks kernels of this Python where it can; any other is started as `LocalProvisioner` does.

    `patience_s` says how long a warm process that still imports is waited for. Where it is 0, such
    a kernel is started anew meanwhile. One that has imported is busy for a moment at most.
    """

    patience_s = 0.0

    async def launch_kernel(self, cmd: list[str], **kwargs: object) -> KernelConnectionInfo:
        """Launch a kernel with a command."""
        skip = 2 if cmd[1:2] == [KERNEL] else 3 if cmd[1:3] == ["-m", "ipykernel_launcher"] else 0
        self.process = None
        if skip and cmd[0] == sys.executable and is_on():
            try:
                self.process = await self._fork(cmd, skip, kwargs)
            except (ColdError, OSError) as error:
                tell_once(f"kernels start without a warm process: {error}")
            if self.process:
                logger.debug("kernel %d was forked", self.process.pid)
                self.parent.context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
                self.pid = self.pgid = self.process.pid
                self.cwd = kwargs.get("cwd") or str(Path.cwd())
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    async def shutdown_requested(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002
        """Wait a moment for a kernel that was asked to end; Jupyter looks after it every 0.1 s."""
        await super().shutdown_requested(restart)
        await self._gone(END_S)

    async def kill(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002 - as Jupyter has it
        """Kill the kernel; a forked one is gone then, of which Jupyter would take notice later."""
        await super().kill(restart)
        await self._gone(GONE_S)

    async def _gone(self, seconds: float) -> None:
        """Wait until a forked kernel has ended, for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while isinstance(self.process, Forked) and self.process.poll() is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.002)

    async def _fork(self, cmd: list[str], skip: int, kwargs: Mapping) -> Forked | None:
        """Return a forked kernel, None if the warm process still imports.

        Raises
        ------
        ColdError
            If there can be none.
        """
        environment = dict(kwargs.get("env") or os.environ)
        notebook = environment.get("JPY_SESSION_NAME", "")
        deadline = time.monotonic() + self.patience_s
        for _ in range(ATTEMPTS):
            try:
                connection = connect(backends_of(notebook), environment)
            except ConnectionRefusedError:  # it has ended since it was started
                continue
            is_ready = ready_mark(connection.getpeername()).exists()
            busy = time.monotonic() + BUSY_S if is_ready else 0
            try:
                state = await _hear(connection, max(deadline, busy))
                if state is None:
                    return None
                if state.get("stale"):  # its socket is gone now: the next one is asked
                    continue
                request = {
                    "command": cmd,
                    "skip": skip,
                    "private": skip == 2,
                    "cwd": str(kwargs.get("cwd") or Path.cwd()),
                    "env": environment | {"JPY_PARENT_PID": str(os.getpid())},
                }
                streams = _number(kwargs.get("stdout"), 1), _number(kwargs.get("stderr"), 2)
                socket.send_fds(connection, [json.dumps(request).encode()], streams)
                said = await _hear(connection, time.monotonic() + PATIENCE_S)
                if said and "pid" in said:
                    kept, connection = connection, None
                    return Forked(said["pid"], kept)
                raise ColdError(f"the kernel that was forked ended before it began: {said}")
            finally:
                if connection:
                    connection.close()
        raise ColdError(f"a warm process ends as soon as it is asked, {ATTEMPTS} times in a row")


async def _hear(connection: socket.socket, deadline: float) -> dict | None:
    """Return what the warm process says, None if that takes too long.

    Raises
    ------
    ColdError
        If it is in trouble.
    """
    connection.settimeout(0)
    wait_s = max(deadline - time.monotonic(), 0.05)
    try:
        async with asyncio.timeout(wait_s):
            text = await asyncio.get_running_loop().sock_recv(connection, 65536)
    except TimeoutError:
        return None
    except ConnectionResetError:
        text = b""
    said = json.loads(text or b'{"stale": true}')
    if said.get("trouble"):
        raise ColdError(said["trouble"])
    return said


def use(patience_s: float = 0.0) -> None:
    """Make this provisioner the one of all kernels that this process starts from now on."""
    WarmProvisioner.patience_s = patience_s
    factory = KernelProvisionerFactory.instance()
    group = factory.GROUP_NAME
    factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:WarmProvisioner", group)
    factory.default_provisioner_name = NAME


def prepare(notebooks: Iterable[Path]) -> None:
    """Start the warm processes that notebooks will need, and do not wait for them."""
    if not is_on():
        return
    for backends in {backends_of(str(path)) for path in notebooks}:
        try:
            connect(backends, os.environ).close()
        except (ColdError, OSError) as error:
            tell_once(f"kernels start without a warm process: {error}")


def troubles() -> list[str]:
    """Return why kernels of this process were started anew, if any had to be."""
    return sorted(_told)


def tell_once(text: str) -> None:
    """Write a warning to the log, unless it has been written."""
    if text not in _told:
        _told.add(text)
        logger.warning("%s", text)


def connect(backends: tuple[str, ...], environment: Mapping[str, str]) -> socket.socket:
    """Return a connection to the warm process for `backends`, which is started if need be.

    Raises
    ------
    ColdError
        If this machine cannot have one, or its folder is not this user's alone.
    """
    if not hasattr(os, "pidfd_open") or not Path("/proc/self/limits").exists():
        raise ColdError("forking needs Linux")
    folder = own_folder()
    imports = imports_for(backends)
    kept = {k: v for k, v in sorted(environment.items()) if not k.startswith(OWN)}
    whole = json.dumps([imports, backends, kept, _inherited(), sys.executable])
    place = folder / hashlib.sha256(whole.encode()).hexdigest()[:16]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(place))
        except (FileNotFoundError, ConnectionRefusedError):
            _start(place, imports, backends, kept)
            connection.connect(str(place))
    return connection


def _start(place: Path, imports: list[str], backends: tuple[str, ...], env: dict) -> None:
    """Start a warm process, whose socket is open at once."""
    for path in (place, ready_mark(str(place))):
        path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        listener.listen(64)
        order = {
            "imports": imports,
            "backends": backends,
            "watched": watched(),
            "owner": int(FOLDER.fullmatch(str(place.parent))[1]),
            "idle_s": IDLE_S,
            "place": str(place),
            "fd": listener.fileno(),
        }
        with place.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, WARM, json.dumps(order)],
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
    _started[:] = [one for one in _started if one.poll() is None] + [process]


def watched() -> list[str]:
    """Return what a new kernel would read anew, beside Python: modules may do so at import."""
    beside = (path for path in (ROOT / "lib").rglob("*.*") if path.suffix not in (".py", ".pyc"))
    return [*map(str, (ROOT / "requirements.lock", Path(sys.prefix) / "pyvenv.cfg", *beside))]


def own_folder() -> Path:
    """Return the folder of the warm processes' sockets: the one named to this process, or its own.

    Raises
    ------
    ColdError
        If somebody else could open it.
    """
    name = os.environ.get(VARIABLE, "")
    named = FOLDER.fullmatch(name)
    if not named or not Path("/proc", named[1]).exists():  # of its owner
        base = tempfile.gettempdir()
        base = base if len(base) <= 60 else "/tmp"  # as for the sockets of a kernel
        name = tempfile.mkdtemp(prefix=f"warm-{os.getpid()}-", dir=base)
        os.environ[VARIABLE] = name  # for the processes that this one starts
        atexit.register(_remove, name, os.getpid())
    folder = Path(name)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ColdError(f"{folder} is not a folder that this user alone can open")
    return folder


def _remove(name: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(name, ignore_errors=True)


def is_on() -> bool:
    """Say whether `WARM_KERNELS` allows warm processes."""
    return os.environ.get(VARIABLE, "1") != "0"


def _inherited() -> list:
    """Return what a process hands to those that it starts, beside its environment."""
    status = Path("/proc/self/status").read_text()
    umask = next(line for line in status.splitlines() if line.startswith("Umask"))
    cpus, nice = sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)
    places = [Path(f"/proc/self/{name}").read_text() for name in ("limits", "cgroup")]
    return [umask, cpus, nice, os.getgroups(), *places]


def backends_of(notebook: Path | str) -> tuple[str, ...]:
    """Return which of `HEAVY` the set-up cell of a notebook imports."""
    return _set_up(Path(notebook))[1]


def imports_for(backends: tuple[str, ...]) -> list[str]:
    """Return the import statements of all notebooks of this project that need no other backend."""
    found = set()
    for path in layout.folder("").glob("*/*.ipynb"):
        statements, needed = _set_up(path)
        if set(needed) <= set(backends):
            found.update(statements)
    return sorted(found)


def _set_up(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the import statements of a notebook's first code cell that has any, and its backends.

    ``import_keras`` of `lib.backend` counts as an import of Keras, for that is what it does.
    """
    try:
        seen = path.stat()
    except OSError:
        return [], ()
    return _known_set_up(path, seen.st_mtime_ns, seen.st_size)


@functools.lru_cache(maxsize=1024)
def _known_set_up(path: Path, _mtime: int, _size: int) -> tuple[list[str], tuple[str, ...]]:
    try:
        cells = outcome.read_notebook(UPath(path))["cells"] if path.suffix == ".ipynb" else []
    except (OSError, ValueError, KeyError):
        cells = []
    for cell in cells:
        if cell.get("cell_type") != "code":
            continue
        try:
            nodes = ast.parse(outcome.source_text(cell)).body
        except SyntaxError:
            continue
        nodes = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        if nodes:
            names = {alias.name for node in nodes for alias in node.names}
            names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
            names = {name.removeprefix("import_").partition(".")[0] for name in names}
            return [ast.unparse(node) for node in nodes], tuple(sorted(names & set(HEAVY)))
    return [], ()


def _number(stream: object, default: int) -> int:
    """Return the file descriptor of a stream that `subprocess.Popen` would take."""
    if stream is None:
        return default
    return stream if isinstance(stream, int) else stream.fileno()
