"""Start an IPython kernel that opens no network port and drops no output.

Run as a script in place of ``ipykernel_launcher``, by a kernel manager with the IPC transport.
The channels are unix sockets then, but ipykernel also listens on a port of the loopback interface
for what forked children print; here that is one more unix socket, beside the others. And it drops
messages when too many wait to be read, the one that says that a cell is done among them; here
they wait as long as it takes.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this script, whose modules are not meant to be at the top

    from pathlib import Path

    import zmq
    from ipykernel import iostream, kernelapp
    from zmq.eventloop.zmqstream import ZMQStream

    FOLDER = Path(sys.argv[sys.argv.index("-f") + 1]).parent

    class IOPubThread(iostream.IOPubThread):
        """Takes the output of forked children over a unix socket."""

        def _setup_pipe_in(self) -> None:
            """Listen for forked children."""
            self._pipe_uuid = b"child"  # only this user can open the folder
            pipe = self.socket.context.socket(zmq.PULL)
            pipe.linger = 0
            pipe.bind(f"ipc://{FOLDER}/children")
            self._pipe_in = ZMQStream(pipe, self.io_loop)
            self._pipe_in.on_recv(self._handle_pipe_msg)

        def _setup_pipe_out(self) -> tuple[zmq.Context, zmq.Socket]:
            """Connect to the parent, in a forked child."""
            context = zmq.Context()
            pipe = context.socket(zmq.PUSH)
            pipe.linger = 3000
            pipe.connect(f"ipc://{FOLDER}/children")
            return context, pipe

    class App(kernelapp.IPKernelApp):
        """Keeps every message until it is read."""

        def init_iopub(self, context: zmq.Context) -> None:
            """Open the socket for outputs."""
            context.setsockopt(zmq.SNDHWM, 0)
            super().init_iopub(context)

    kernelapp.IOPubThread = IOPubThread
    App.launch_instance()
