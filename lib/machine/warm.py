"""A warm process: it has imported what notebooks import, and forks kernels that start at once.

Run as a script by `lib.machine.provisioner`, with a listening socket that is open already. It
imports, waits for requests of its own user, and forks: the child is the kernel, its parent tells
whoever asked how it ended. It forks only while it has one thread, and not once a file that it has
imported has changed: then, as when nobody asks for long or its owner has ended, it takes no more
requests, and ends with the last of its kernels. That kernel lives as long as who asked for it.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # as in `lib.machine.kernel`

import atexit
import builtins
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

REQUEST_BYTES = 1 << 20
MADV_COLLAPSE = 25  # which Python's mmap does not name
ALLOCATORS = ("JE_ARROW_MALLOC_CONF", "_RJEM_MALLOC_CONF")  # of pyarrow and polars
OF_A_KERNEL = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "argcomplete",
    "faulthandler",
    "ipykernel.debugger",
    "ipykernel.zmqshell",
    "pdb",
    "tornado.platform.asyncio",
    "traitlets.config.argcomplete_config",
)
POLARS_START = "__register_startup_deps"
HEAR_S = 5.0  # for a request, once somebody has connected


class Warm:
    """The process: what it was told, what it has imported and which kernels live.

    Parameters
    ----------
    order : dict
        ``imports`` (statements), ``backends`` (of `lib.backend`), ``watched`` (files beside what
        is imported), ``owner`` (a process id), ``idle_s``, ``place`` (of the socket) and ``fd``.
    """

    def __init__(self, order: dict) -> None:
        self.order = order
        self.began = time.time_ns()
        self.listener = socket.socket(fileno=order["fd"])
        self.owner = os.pidfd_open(order["owner"])
        self.kernels: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: process id, connection
        self.trouble = ""
        self.later: list[Callable[[], object]] = []
        self.seen: dict[str, tuple[int, ...] | None] = {}

    def import_all(self) -> None:
        """Import, and note the files that have been."""
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        os.environ.update(dict.fromkeys(ALLOCATORS, "background_thread:false"))
        before = dict(os.environ)
        builtins.get_ipython = lambda: SimpleNamespace(kernel=None)  # pandas asks, once, for it
        try:
            _import_kernel()
            found = sys.modules.items()
            self.of_a_kernel = {k: v for k, v in found if k.partition(".")[0] != "lib"}
            from lib import backend

            self.later = put_off_polars()
            backend.may_look = False
            for statement in self.order["imports"]:
                exec(statement, {"__name__": "warm"})
            for name in self.order["backends"]:
                importlib.import_module(name)
            backend.may_look = True
            if "airflow" in sys.modules:
                self.trouble = "Airflow is imported for it, which reads its settings only then"
        except BaseException as error:
            self.trouble = f"{type(error).__name__} while importing for it: {error}"
        finally:
            del builtins.get_ipython
        gc.collect()
        use_huge_pages()  # before any fork, after which they could not all be
        if not os.fork():  # numerical libraries end their threads before a fork, for good
            os._exit(0)
        os.wait()
        if not self.trouble and (others := _other_threads()):
            self.trouble = f"threads run once everything is imported: {', '.join(others)}"
        self.set_by_imports = {
            name: value
            for name, value in os.environ.items()
            if before.get(name) != value and name not in ALLOCATORS
        }
        self.seen = {file: _stat(file) for file in _files() | set(self.order["watched"])}
        self.toplevel = {name: _home(name) for name in sys.modules if "." not in name}
        gc.freeze()

    def serve(self) -> dict | None:
        """Fork until there is nothing more to do; return a request in a child, else None."""
        with suppress(OSError):  # the folder goes with its owner
            ready_mark(self.order["place"]).touch()
        idle_since, listening = time.monotonic(), True
        while listening or self.kernels:
            waited = [*self.kernels, *([self.listener, self.owner] if listening else [])]
            wait_s = self.order["idle_s"] if listening else None
            ready = select.select(waited, [], [], wait_s)[0]
            for pidfd in [one for one in ready if one in self.kernels]:
                self._reap(pidfd)
                idle_since = time.monotonic()
            if self.listener in ready:
                idle_since = time.monotonic()
                request = self._answer()
                if request:
                    return request
                if request is None:
                    listening = self._retire()
            over = time.monotonic() - idle_since >= self.order["idle_s"] and not self.kernels
            if listening and (self.owner in ready or over):
                listening = self._retire()
        if select.select([self.owner], [], [], 0)[0]:
            _clear(self.order)
        return None

    def _retire(self) -> bool:
        """Take no more requests."""
        for path in (Path(self.order["place"]), ready_mark(self.order["place"])):
            path.unlink(missing_ok=True)
        self.listener.close()
        return False

    def _answer(self) -> dict | None:
        """Hear one request; return it in the forked child, {} here, None if this is the end."""
        conn = self.listener.accept()[0]
        conn.settimeout(HEAR_S)
        credentials = conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid != os.getuid():
            conn.close()
            return {}
        fresh = all(is_same(self.began, file, known) for file, known in self.seen.items())
        state = {"trouble": self.trouble} if self.trouble and fresh else {"stale": not fresh}
        try:
            conn.send(json.dumps(state).encode())
            if self.trouble or not fresh:
                return {} if fresh else None
            text, fds, *_ = socket.recv_fds(conn, REQUEST_BYTES, 2)
        except OSError:
            return {}
        if not text or len(fds) != 2:  # it was not waited for
            return {}
        request = json.loads(text) | {"fds": fds, "asker": pid}
        try:
            self._check(request)
            child = self._fork(request, conn)
        except (OSError, ValueError) as error:
            with suppress(OSError):
                conn.send(json.dumps({"trouble": str(error)}).encode())
            child = -1
        for fd in fds if child else ():
            os.close(fd)
        return {} if child else request

    def _fork(self, request: dict, conn: socket.socket) -> int:
        if child := os.fork():
            self.kernels[os.pidfd_open(child)] = child, conn
            return child
        try:
            self._become_kernel(request, conn)
        except BaseException:
            os._exit(1)
        return 0

    def _check(self, request: dict) -> None:
        """Raise ValueError where threads run, or a new kernel would import or read other things."""
        if others := _other_threads():
            raise ValueError(f"threads have begun: {', '.join(others)}")
        cwd = Path(request["cwd"]).resolve()
        for name in {entry.name.partition(".")[0] for entry in os.scandir(cwd)}:
            home = self.toplevel.get(name)
            if home and cwd not in home.parents and _is_module(cwd, name):
                raise ValueError(f"{cwd} has a module {name}, which would hide {home}")
        if "matplotlib" in sys.modules and (cwd / "matplotlibrc").exists():
            raise ValueError(f"{cwd} has a matplotlibrc, which is read as matplotlib is imported")

    def _reap(self, pidfd: int) -> None:
        child, conn = self.kernels.pop(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(OSError):
            conn.send(json.dumps({"status": code}).encode())
        conn.close()
        os.close(pidfd)

    def _become_kernel(self, request: dict, conn: socket.socket) -> None:
        """Make a forked child what a process started anew would be, and say its process id."""
        os.setsid()
        self.listener.close()
        os.close(self.owner)
        for pidfd, (_, other) in self.kernels.items():
            os.close(pidfd)
            other.close()
        request["pidfd"] = os.pidfd_open(request["asker"])
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for target, fd in enumerate(request["fds"], start=1):
            os.dup2(fd, target)
            os.close(fd)
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                stream.reconfigure(line_buffering=True)
        os.chdir(request["cwd"])
        if process := sys.modules.get("multiprocessing.process"):
            process.ORIGINAL_DIR = request["cwd"]  # where processes that it spawns look for modules
        os.environ.clear()
        os.environ.update(request["env"] | self.set_by_imports)
        tempfile.tempdir = None
        if chance := sys.modules.get("numpy.random"):  # Python's own is seeded by a fork
            chance.seed()
        for call in self.later:
            call()
        sys.modules.pop("matplotlib_inline.backend_inline", None)  # tells IPython as it is imported
        _name_process(request["command"])
        sys.argv = request["command"][1:]
        gc.enable()
        conn.send(json.dumps({"pid": os.getpid()}).encode())
        conn.close()


def ready_mark(place: str) -> Path:
    """Return the file that is there while who listens at `place` answers at once."""
    return Path(f"{place}.ready")


def _other_threads() -> list[str]:
    """Return the names of all threads but this one."""
    tasks = Path("/proc/self/task").iterdir()
    return [(task / "comm").read_text().strip() for task in tasks if task.name != str(os.getpid())]


def _clear(order: dict) -> None:
    """Remove the folder of the sockets, whose owner has ended."""
    shutil.rmtree(Path(order["place"]).parent, ignore_errors=True)


def is_same(began: int, file: str, known: tuple[int, ...] | None) -> bool:
    """Say whether a file is as it was, and was not written while it was imported."""
    return _stat(file) == known and (known is None or known[0] < began)


def _stat(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - of thousands; a Path takes four times as long
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _files() -> set[str]:
    """Return the files of all modules, and all others that are mapped, libraries for example."""
    modules = [object.__getattribute__(module, "__dict__") for module in sys.modules.values()]
    found = {module.get("__file__") for module in modules}  # a lazy one stays as it is
    for line in Path("/proc/self/maps").read_text().splitlines():
        found.add(line[line.index("/") :] if "/" in line else None)
    if matplotlib := sys.modules.get("matplotlib"):
        found.add(matplotlib.matplotlib_fname())
    return {file for file in found if isinstance(file, str) and not file.startswith("/dev/")}


def _home(name: str) -> Path | None:
    file = object.__getattribute__(sys.modules[name], "__dict__").get("__file__")
    return Path(file).resolve() if file else None


def _is_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()


def _import_kernel() -> None:
    """Import what a kernel imports by and by."""
    from lib.machine import kernel  # noqa: F401

    for name in OF_A_KERNEL:
        importlib.import_module(name)
    import setproctitle

    setproctitle.getproctitle()  # it looks for its place while the environment is where it began


def use_huge_pages() -> None:
    """Put all memory into huge pages, where Linux can (from 6.1 on).

    A fork copies the map of all pages, and the end of a child takes it apart: half the work then.
    """
    size = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if not size.exists():
        return
    step, madvise = int(size.read_text()), ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, mode, *_, name = [*line.split(maxsplit=5), ""][:6]
        if mode == "rw-p" and name in ("", "[heap]"):
            begin, end = (int(one, 16) for one in place.split("-"))
            for address in range(-(-begin // step) * step, end - step + 1, step):
                madvise(ctypes.c_void_p(address), ctypes.c_size_t(step), MADV_COLLAPSE)


def put_off_polars() -> list[Callable[[], object]]:
    """Let polars be imported without its start, which begins a thread; return that, for children.

    It returns an empty list, which importing polars fills.
    """
    later: list[Callable[[], object]] = []

    def put_off(start: Callable, *args: object) -> None:
        later.append(functools.partial(start, *args))

    for name in ("compat", "64", "32"):  # in which order polars looks
        with suppress(ImportError):
            known = vars(importlib.import_module(f"_polars_runtime_{name}._polars_runtime"))
            known[POLARS_START] = functools.partial(put_off, known[POLARS_START])
            break
    return later


def _name_process(command: list[str]) -> None:
    """Show the command of a kernel, so that whoever looks for it finds it."""
    import setproctitle

    setproctitle.setproctitle(" ".join(command))


def main() -> None:
    """Import, serve and, in a child, run the kernel."""
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for its owner
    order = json.loads(sys.argv[1])
    try:
        warm = Warm(order)
    except ProcessLookupError:
        _clear(order)
        return
    warm.import_all()
    request = warm.serve()
    if request:
        from lib.machine import kernel

        signal.signal(signal.SIGINT, signal.default_int_handler)
        asker = request["asker"], request["pidfd"]
        try:
            kernel.start(
                request["command"][request["skip"] :],
                private=request["private"],
                asker=asker,
                modules=warm.of_a_kernel,
            )
        except BaseException:  # interrupted while it begins, for example; its sockets would wait
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        threading._shutdown()
        atexit._run_exitfuncs()
        gc.collect()
    os._exit(0)  # as Python ends, but for the teardown of all modules, which copies their memory


if __name__ == "__main__":
    main()
