"""A model that is served as anyone would serve it, how it is asked, and a run to take it from."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from lib.ground.files import ROOT
from lib.run import open_run

import pytest


@contextlib.contextmanager
def served(model, place, **environment):
    """Serve `model`, a folder or URI, from a process where importing this project is an error.

    Gives the address; `place` is a folder for the server's own files.
    """
    (place / "path").mkdir()
    (place / "path" / "lib.py").write_text("raise ImportError('the project is not here')\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    known = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(place),
        "PYTHONPATH": str(place / "path"),
    }
    log = place / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=place,
            env=known | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/ping", process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url, content):
    """Return status and text of the answer to `content`, JSON."""
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _wait_for(url, process, log):
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server does not answer:\n{log.read_text()[-3000:]}")


def refusal(url, content):
    """Return what the server says is wrong with `content`: 400, and never a stack trace."""
    status, text = ask(url, content)
    assert status == 400 and "stack_trace" not in text and "Traceback" not in text, text
    return json.loads(text)["message"]


def split_of(frame):
    """Return a frame as a body that MLflow's servers take, as exactly as JSON can say it."""
    exact = {"date_format": "iso", "date_unit": "us", "double_precision": 15}
    split = json.loads(frame.to_json(orient="split", index=False, **exact))
    return {"dataframe_split": split}


def evaluated(run_dir, **params):
    """Run a pipeline's notebooks up to its evaluation, in this process; return the run.

    Only kernels, reports and the check of parameters are left out, which others test.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    unused = set(params)
    for path in sorted((ROOT / "notebooks" / run_dir.split("/")[0]).glob("*.ipynb")):
        if path.stem.endswith("_register"):
            break
        names = {"__name__": "__main__"}
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] != "code":
                continue
            exec(compile("".join(cell["source"]), path.stem, "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                unused -= names.keys()
                names |= {k: v for k, v in params.items() if k in names} | {"run_dir": run_dir}
        plt.close("all")
    assert not unused, f"no notebook has such parameters: {unused}"
    return open_run(run_dir)
