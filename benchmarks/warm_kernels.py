"""How long it takes until a notebook's report is there: forked kernels beside papermill's own way.

``python benchmarks/warm_kernels.py`` measures in turn, 20 times, on one notebook that imports Keras
and does nothing else: papermill's command line, the executor with forked kernels, and (5 times)
with kernels started anew; then how soon the set-up cell of ``tick/03_train`` has run in a kernel
that a server of JupyterLab starts again. It prints medians, and how busy the machine was.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from lib.commands import services, supervise
from lib.ground import layout
from lib.ground.files import ROOT
from lib.machine import provisioner
from lib.machine.executor import execute_notebook

import nbformat
import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

WARM_UP_S = 20  # until the warm process of JupyterLab has imported
SELDOM = 4  # what is neither the peer nor the own way is measured so much less often
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3 (ipykernel)"}
SOURCE = "from lib.backend import import_keras\n\nkeras = import_keras()"


def write_notebook(path: Path) -> Path:
    """Write the notebook that imports Keras and does nothing."""
    cells = [nbformat.v4.new_code_cell(SOURCE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def by_papermill(source: Path, target: Path) -> None:
    """Execute by papermill's command line."""
    command = [sys.executable, "-m", "papermill", str(source), str(target)]
    subprocess.run([*command, "--cwd", str(ROOT)], check=True, capture_output=True)


def by_executor(source: Path, target: Path) -> None:
    """Execute as a stage is executed, to the HTML of its report."""
    execute_notebook(source, target, cwd=ROOT)
    assert target.with_suffix(".html").exists()


def anew(source: Path, target: Path) -> None:
    """Execute as a stage is executed, in a kernel that is started anew."""
    kept = os.environ.get(provisioner.VARIABLE, "1")
    os.environ[provisioner.VARIABLE] = "0"
    try:
        by_executor(source, target)
    finally:
        os.environ[provisioner.VARIABLE] = kept


def measure(work: Callable[[Path, Path], None], source: Path) -> float:
    """Return the seconds that a way to execute takes."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        work(source, Path(folder) / "out.ipynb")
        return time.perf_counter() - begun


def set_up_source(notebook: Path) -> str:
    """Return the imports of a notebook's set-up cell, and what it makes of Keras."""
    cells = nbformat.read(notebook, as_version=4).cells
    whole = next(c.source for c in cells if "import_keras()" in c.source)
    return whole[: whole.index("import_keras()") + len("import_keras()")]


async def restarts(notebook: Path, count: int) -> list[float]:
    """Return how long it takes from "restart" until the set-up cell has run, each time.

    A server of JupyterLab is asked for it as its page in a browser asks: to restart the kernel,
    then, over a new websocket, to run the cell.
    """
    lab, seconds = services._lab(services.free_port(18888)), []
    header = {"Authorization": f"token {lab.line.rpartition('token=')[2]}"}
    made = os.environ | lab.settings
    with subprocess.Popen(lab.command, cwd=ROOT, env=made, stderr=subprocess.DEVNULL) as server:
        try:
            while not supervise.is_taken(urlsplit(lab.address).port):
                await asyncio.sleep(0.1)
            path = {"path": str(notebook.relative_to(ROOT)), "name": notebook.name}
            about = path | {"type": "notebook", "kernel": {"name": "python3"}}
            made = await post(f"{lab.address}/api/sessions", about, header)
            kernel = f"{lab.address}/api/kernels/{made['kernel']['id']}"
            await run_cell(kernel, set_up_source(notebook), header)
            await asyncio.sleep(WARM_UP_S)
            for _ in range(count):
                begun = time.perf_counter()
                await post(f"{kernel}/restart", {}, header)
                await run_cell(kernel, set_up_source(notebook), header)
                seconds.append(time.perf_counter() - begun)
        finally:
            server.terminate()
    return seconds


async def post(url: str, content: dict, header: dict[str, str]) -> dict:
    """Return what a server answers."""
    asked = HTTPRequest(url, "POST", header, json.dumps(content), request_timeout=120)
    return json.loads((await AsyncHTTPClient().fetch(asked)).body)


async def run_cell(kernel: str, source: str, header: dict[str, str]) -> None:
    """Run a cell in a kernel, and wait until it has."""
    known = {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": "", "date": ""}
    known |= {"msg_type": "execute_request", "version": "5.3"}
    message = {"header": known, "parent_header": {}, "metadata": {}, "channel": "shell"}
    url = f"ws{kernel.removeprefix('http')}/channels?session_id={known['session']}"
    page = await websocket_connect(HTTPRequest(url, headers=header))
    await page.write_message(json.dumps(message | {"content": {"code": source}}))
    while said := json.loads(await page.read_message()):
        if said["parent_header"].get("msg_id") == known["msg_id"] and said["channel"] == "shell":
            assert said["content"]["status"] == "ok", said["content"]
            return page.close()


def tell(what: str, seconds: list[float]) -> None:
    """Print the median of times, and their range."""
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} times"
    print(f"{what:44} {middle:7.2f} s  ({spread})", flush=True)


def main(count: int) -> None:
    """Measure everything, `count` times each."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians of {count}")
    with tempfile.TemporaryDirectory() as folder:
        source = write_notebook(Path(folder) / "in.ipynb")
        begun = time.perf_counter()
        by_executor(source, Path(folder) / "out.ipynb")  # the warm process is started, and imports
        print(
            f"{'first notebook, with all that is imported':44} {time.perf_counter() - begun:7.2f} s"
        )
        ways = {
            "papermill's command line": by_papermill,
            "executor, kernel started anew": anew,
            "executor, kernel forked": by_executor,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(count):
            for name, way in ways.items():
                if way is not anew or turn % SELDOM == 0:
                    found[name].append(measure(way, source))
        for name, seconds in found.items():
            tell(name, seconds)
        peer, own = (statistics.median(found[n]) for n in list(ways)[::2])
        print(f"{'papermill over forked':44} {peer / own:7.1f}")
    notebook = layout.notebook("tick", "03_train")
    kept = os.environ[provisioner.VARIABLE]
    for name, value, times in (("anew", "0", -(-count // SELDOM)), ("forked", kept, count)):
        os.environ[provisioner.VARIABLE] = value
        what = f"restart, set-up cell of tick/03_train, {name}"
        tell(what, asyncio.run(restarts(notebook, times)))
    for process in psutil.Process().children():
        if provisioner.WARM in process.cmdline():
            used = process.memory_full_info()
            print(f"a warm process: {used.pss / 1e6:.0f} MB, {used.rss / 1e6:.0f} MB resident")
    for text in provisioner.troubles():
        print(text)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
