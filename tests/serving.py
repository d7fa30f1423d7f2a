"""A model that is served as anyone would serve it, how it is asked, and a run to take it from.

Both ways to serve one give a client of HTTP: from a process of its own, or in this one, which costs
no start of MLflow and TensorFlow.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib.ground.files import ROOT
from lib.ground.parameters import read_parameters
from lib.run import open_run

import httpx
import pytest
from executed import free_ports


@contextlib.contextmanager
def served_here(model):
    """Serve `model`, a folder or URI, in this process by MLflow's own application."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import load_model, scoring_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # which the next line leaves set
        with TestClient(scoring_server.init(load_model(str(model)))) as client:
            yield client


@contextlib.contextmanager
def served(model, place, *, by_command=False, **environment):
    """Serve `model`, a folder or URI, from a process where importing this project is an error.

    `place` is a folder for the server's own files. The process is the one that MLflow's command
    starts; with `by_command` it is left to do so, which imports MLflow once more.
    """
    from mlflow.pyfunc import scoring_server

    (place / "path").mkdir()
    (place / "path" / "lib.py").write_text("raise ImportError('the project is not here')\n")
    (port,) = free_ports(1)
    if by_command:
        command = ["mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    else:
        command = ["uvicorn", "mlflow.pyfunc.scoring_server.app:app"]
        environment |= {scoring_server._SERVER_MODEL_PATH: str(model)}
    command = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
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
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_for(client, process, log)
            yield client
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(client, process, log):
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            client.get("/ping")
            return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"the server does not answer:\n{log.read_text()[-3000:]}")


def ask(client, content):
    """Return status and text of the answer to `content`, JSON."""
    kind = {"Content-Type": "application/json"}
    answer = client.post("/invocations", content=json.dumps(content), headers=kind)
    return answer.status_code, answer.text


def refusal(client, content):
    """Return what the server says is wrong with `content`: 400, and never a stack trace."""
    status, text = ask(client, content)
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
    unused = set(params)
    for path in sorted((ROOT / "notebooks" / run_dir.split("/")[0]).glob("*.ipynb")):
        if not path.stem.endswith("_register"):
            unused -= executed_here(run_dir, path.stem, **params)
    assert not unused, f"no notebook has such parameters: {unused}"
    return open_run(run_dir)


def executed_here(run_dir, stage, **params):
    """Run a stage in this process, with those of `params` that it has; return their names."""
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    path = ROOT / "notebooks" / run_dir.split("/")[0] / f"{stage}.ipynb"
    names, known = {"__name__": "__main__"}, {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        exec(compile("".join(cell["source"]), path.stem, "exec"), names)
        if "run" in names:  # which asks a kernel for them
            names["run"].parameters.update({name: names[name] for name in read_parameters(path)})
        if "parameters" in cell["metadata"].get("tags", ()):
            known = {name: value for name, value in params.items() if name in names}
            names |= known | {"run_dir": run_dir}
    plt.close("all")
    return known.keys()
