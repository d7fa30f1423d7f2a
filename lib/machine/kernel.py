"""Start an IPython kernel that opens no network port and drops no output.

Run as a script in place of ``ipykernel_launcher``, by a kernel manager with the IPC transport.
The channels are unix sockets then, but ipykernel also listens on a port of the loopback interface
for what forked children print; here that is one more unix socket, beside the others. And it drops
messages when too many wait to be read, the one that says that a cell is done among them; here
they wait as long as it takes. `lib.machine.warm` starts the same kernel in a process that it forks.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this script, whose modules are not meant to be at the top

import os
import select
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import zmq
from ipykernel import iostream, ipkernel, kernelapp
from zmq.eventloop.zmqstream import ZMQStream


class IOPubThread(iostream.IOPubThread):
    """Takes the output of forked children over a unix socket."""

    place = ""

    def _setup_pipe_in(self) -> None:
        """Listen for forked children."""
        self._pipe_uuid = b"child"  # only this user can open the folder
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(self.place)
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context, zmq.Socket]:
        """Connect to the parent, in a forked child."""
        context = zmq.Context()
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(self.place)
        return context, pipe


class App(kernelapp.IPKernelApp):
    """Keeps every message until it is read."""

    def init_iopub(self, context: zmq.Context) -> None:
        """Open the socket for outputs."""
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)


class _EndWith(threading.Thread):
    """Ends the kernel with the process that asked for it, which is not its parent."""

    def __init__(self, pidfd: int) -> None:
        super().__init__(daemon=True)
        self.pidfd = pidfd

    def run(self) -> None:
        """Wait for that process."""
        select.select([self.pidfd], [], [])
        os._exit(1)


def _with_modules(make: Callable, modules: Mapping[str, ModuleType]) -> Callable:
    """Return `make`, which makes a kernel, with `modules` for what it takes for its own.

    It looks at every module that there is, which copies most of the memory that they lie in.
    """

    def make_kernel(app: kernelapp.IPKernelApp) -> None:
        ipkernel.sys = SimpleNamespace(modules=modules)
        try:
            make(app)
        finally:
            ipkernel.sys = sys

    return make_kernel


def start(
    arguments: list[str],
    *,
    private: bool = True,
    asker: tuple[int, int] = (0, 0),
    modules: Mapping[str, ModuleType] | None = None,
) -> None:
    """Run a kernel to its end.

    Parameters
    ----------
    arguments : list of str
        As for ``ipykernel_launcher``: ``-f`` and the connection file, and options.
    private : bool, default True
        Whether the folder of the connection file is this kernel's alone, so that it may open a
        socket there instead of a port.
    asker : tuple of int and int, optional
        Process id and pidfd of whom the kernel has to end with, if that is not its parent.
    modules : mapping of str to module, optional
        What a kernel has imported for itself, which its debugger does not step into; by default all
        that there is.
    """
    app, (pid, pidfd) = kernelapp.IPKernelApp, asker
    if private:
        folder = Path(arguments[arguments.index("-f") + 1]).parent
        IOPubThread.place = f"ipc://{folder}/children"
        app, kernelapp.IOPubThread = App, IOPubThread
    options = {}
    if pid:
        app.init_poller = lambda self: setattr(self, "poller", _EndWith(pidfd))
        options["parent_handle"] = pid
    if modules:
        app.init_kernel = _with_modules(app.init_kernel, modules)
    app.launch_instance(arguments, **options)


if __name__ == "__main__":
    start(sys.argv[1:])
