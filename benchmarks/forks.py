"""Fork thousands of kernels from one warm process, and count what is left of them.

``python benchmarks/forks.py [10000]`` prints what the warm process and this one hold, before and
after: processes, descriptors, files of sockets, memory. Each kernel is ended as soon as it lives.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from lib.machine import provisioner

import psutil
from jupyter_client.manager import AsyncKernelManager

WARM_UP = 20


def fork_many(count: int) -> tuple[dict[str, int], dict[str, int]]:
    """Fork `count` kernels one after another, and return what is held before and after."""
    provisioner.use(provisioner.PATIENCE_S)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        pid = asyncio.run(_fork(WARM_UP, Path(folder)))  # what is made once, is made now
        before = held(pid)
        assert asyncio.run(_fork(count, Path(folder))) == pid, "it was replaced meanwhile"
        return before, held(pid)


async def _fork(count: int, folder: Path) -> int:
    """Fork kernels and end them; return the process id of the warm process."""
    parent = 0
    for _ in range(count):
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
        manager.connection_file = str(folder / "k.json")
        await manager.start_kernel(cwd=str(folder))
        kernel = manager.provisioner.process
        if not isinstance(kernel, provisioner.Forked):
            raise RuntimeError("a kernel was started anew; the log says why")
        parent = parent or psutil.Process(kernel.pid).ppid()
        kernel.kill()
        kernel.wait(10)
        await manager.cleanup_resources()
    return parent


def held(pid: int) -> dict[str, int]:
    """Return what the warm process and this process hold."""
    warm = psutil.Process(pid)
    return {
        "processes": len(warm.children(recursive=True)),
        "descriptors": warm.num_fds(),
        "own descriptors": psutil.Process().num_fds(),
        "files": len(list(provisioner.own_folder().iterdir())),
        "memory, kB": warm.memory_info().rss // 1024,
    }


if __name__ == "__main__":
    n_forks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    began = time.monotonic()
    first, last = fork_many(n_forks)
    seconds = time.monotonic() - began
    print(f"{n_forks} forks in {seconds:.0f} s, {seconds / n_forks * 1000:.0f} ms each")
    for what, amount in first.items():
        print(f"{what:16} {amount:10,} before {last[what]:10,} after")
