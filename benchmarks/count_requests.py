"""How many requests a run makes to object storage and to MLflow: by stage, and by kind.

Run with ``python benchmarks/count_requests.py [--pipeline power] [--params '{…}']``. It makes three
runs on sample data, as `make run` does: the first ever, the same again, whose stages are taken, and
one that executes them all beside a model that serves. `OUTPUTS_DIR` and MLflow's artifacts are on a
local S3 server, MLflow is behind a server of its own, and every request of every process is counted
where it arrives, artifacts among those of S3. A stage's are those from the end of the one before to
its own end, so that the first has the start of the run, too.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lib.commands.services import free_port

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("lib", "plugins", "Makefile", "requirements.lock")
END = "end"
SERVER_S = 300.0


@dataclass
class Counted:
    """What a run has asked for: when it was, of whom ("S3", "MLflow"), by which method, and what.

    Attributes
    ----------
    output : str
        What the run has printed.
    returncode : int
    requests : list of (float, str, str, str)
    ends : dict of str to float
        When each stage has ended.
    """

    output: str = ""
    returncode: int = 0
    requests: list[tuple[float, str, str, str]] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)

    def of(self, service: str, stage: str = "") -> Counter:
        """Return how often each method was asked of a service, in one stage or in all."""
        limits = {**self.ends, END: float("inf")}
        found = Counter()
        for at, of, method, _ in self.requests:
            where = next(name for name, end in limits.items() if at <= end)
            if of == service and stage in ("", where):
                found[method] += 1
        return found


@contextmanager
def s3_server(requests: list) -> Iterator[dict[str, str]]:
    """Serve S3 and note each request in `requests`; give the settings that lead there."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    def note(handler: WSGIRequestHandler, code: object = "-", size: object = "-") -> None:
        requests.append((time.time(), "S3", handler.command, f"{handler.path} {code}"))

    before, WSGIRequestHandler.log_request = WSGIRequestHandler.log_request, note
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()
        WSGIRequestHandler.log_request = before


@contextmanager
def mlflow_server(folder: Path, artifacts: str, env: Mapping[str, str]) -> Iterator[str]:
    """Serve MLflow, as `make up` does; give its address. Its requests are in `folder`/access."""
    port = free_port(20_500)
    form = {"()": "uvicorn.logging.AccessFormatter", "use_colors": False}
    form["fmt"] = "%(created)f %(request_line)s"
    to_file = {"class": "logging.FileHandler", "filename": str(folder / "access"), "formatter": "a"}
    log = {"version": 1, "formatters": {"a": form}, "handlers": {"a": to_file}}
    log["loggers"] = {"uvicorn.access": {"handlers": ["a"], "level": "INFO", "propagate": False}}
    (folder / "log.json").write_text(json.dumps(log))
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--no-serve-artifacts"]
    command += ["--default-artifact-root", artifacts]
    command += ["--uvicorn-opts", f"--log-config {folder / 'log.json'}"]
    settings = {**env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as said:
        server = subprocess.Popen(command, env=settings, cwd=folder, stdout=said, stderr=said)
    try:
        _wait_for(port, server, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SERVER_S
    while True:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"MLflow does not answer: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def project(folder: Path) -> Path:
    """Copy the project without its runs into `folder`: what is local of a run lies beside it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            hidden = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=hidden)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def count(tree: Path, arguments: list[str], settings: Mapping[str, str], requests: list) -> Counted:
    """Make a run of the project in `tree`; return what it has asked for.

    Parameters
    ----------
    tree : Path
        Of `project`.
    arguments : list of str
        Of the command `run`.
    settings : mapping of str to str
        Environment of the run.
    requests : list
        Where the S3 server notes requests.
    """
    left_out = ("AIRFLOW", "MLFLOW", "_MLFLOW")
    env = {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | {
        "PIPELINES_DIR": str(ROOT),
        "PYTHONPATH": str(tree),
        "PYTHONUNBUFFERED": "1",
    }
    requests.clear()
    found = Counted(requests=requests)
    with subprocess.Popen(
        [sys.executable, "-m", "lib.commands.cli", "run", *arguments],
        env=env | dict(settings),
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        for line in run.stdout:
            found.output += line
            words = line.split()
            if line.startswith("  ") and words[1:2] in (["ok"], ["taken"], ["FAILED"], ["skipped"]):
                found.ends[words[0]] = time.time()
    found.returncode = run.returncode
    return found


def logged(access: Path, since: float) -> list[tuple[float, str, str, str]]:
    """Return the requests to MLflow that its server has logged, each by its name."""
    found = []
    for line in access.read_text().splitlines():
        at, method, path, *_ = line.split()
        if float(at) >= since and "/api/" in path:
            name = path.split("?")[0].rpartition("/mlflow/")[2]
            found.append((float(at), "MLflow", name, f"{method} {path}"))
    return found


@contextmanager
def counting(folder: Path) -> Iterator:
    """Give a function that makes a run, by the arguments of `run`, and the settings of the stores.

    The project is copied to `folder`/project.
    """
    requests: list = []
    with s3_server(requests) as settings:
        env = {**os.environ, **settings}
        make = "import s3fs; s3fs.S3FileSystem().mkdir('runs')"
        subprocess.run([sys.executable, "-c", make], env=env, check=True)
        with mlflow_server(folder, "s3://runs/artifacts", env) as address:
            tree = folder / "project"
            tree.mkdir()
            project(tree)
            places = {"OUTPUTS_DIR": "s3://runs/outputs", "MLFLOW_TRACKING_URI": address}

            def make_run(*arguments: str, **more: str) -> Counted:
                begun = time.time()
                found = count(tree, list(arguments), settings | places | more, requests)
                found.requests = [*requests, *logged(folder / "access", begun)]
                return found

            yield make_run, settings


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pipeline", default="power")
    parser.add_argument("--params", default="{}")
    parser.add_argument("--each", help="write every request to files that begin so")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, counting(Path(folder)) as (make_run, _):
        for which in ("first", "again", "forced"):
            start, force = time.monotonic(), ["--force"] if which == "forced" else []
            found = make_run(*force, asked.pipeline, "--params", asked.params)
            took = f"{time.monotonic() - start:.0f} s, exit {found.returncode}"
            print(f"{asked.pipeline}, {which}: {took}", flush=True)
            if found.returncode:
                print(found.output)
            for stage in (*found.ends, END, ""):
                s3, mlflow = found.of("S3", stage), found.of("MLflow", stage)
                kinds = ", ".join(f"{kind} {n}" for kind, n in s3.most_common())
                name, most = stage or "together", mlflow.most_common(3 if stage else 0)
                told = ", ".join(f"{kind} {n}" for kind, n in most)
                print(f"  {name:<12} S3 {s3.total():5}  MLflow {mlflow.total():4}  {kinds}  {told}")
            if asked.each:
                lines = [" ".join(map(str, one)) for one in sorted(found.requests)]
                Path(f"{asked.each}.{which}").write_text("\n".join(lines) + f"\n{found.ends}\n")


if __name__ == "__main__":
    main()
