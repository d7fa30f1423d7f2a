"""Airflow, MLflow and JupyterLab on this machine: their settings, databases and processes.

Everything listens on 127.0.0.1. Settings are environment variables, set for child processes
only, so that the shell that called stays as it was. What runs is on record beside the runs, in
`.services.json`: `running` gives the addresses, of living processes only. No record holds a token
or a password.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib.run import ROOT, state_dir
from lib.tracking import artifact_root, open_client, tracking_uri

import psutil

HOST = "127.0.0.1"
PORTS = {"airflow": 8080, "mlflow": 5000, "lab": 8888}
STOP_SECONDS = 15
RECORD, RECORD_LOCK = ".services.json", ".services.lock"
SCHEDULER = "airflow-scheduler"
ADDRESSED = {"airflow": "airflow-api", "mlflow": "mlflow", "lab": "jupyterlab"}
SAME_S = 1.0  # a process that began further from the noted time is another with the same number


@dataclass(frozen=True)
class Service:
    """A long-running process: what it is called, how it is started and where it will answer."""

    name: str
    command: list[str]
    address: str = ""


def running() -> dict[str, str]:
    """Return the addresses of those services of this project that run now.

    "Of this project" means: started by `make up` or `make lab` on the same `OUTPUTS_DIR`. One that
    has just been started may not answer yet.

    Returns
    -------
    dict of str to str
        ``airflow``, ``mlflow``, ``lab``: ``http://127.0.0.1:8080`` for example. ``airflow`` is
        there only while the scheduler lives too. A server that `MLFLOW_TRACKING_URI` names is not
        ours, and is left out.
    """
    alive = processes()
    found = {name: alive[key]["address"] for name, key in ADDRESSED.items() if key in alive}
    if SCHEDULER not in alive:
        found.pop("airflow", None)
    return found


def address(name: str) -> str:
    """Return where a service answers, or would by default: ``airflow``, ``mlflow`` or ``lab``."""
    return running().get(name, f"http://{HOST}:{PORTS[name]}")


def scheduler_is_alive() -> bool:
    """Say whether a scheduler that `make up` has started works on this database."""
    return SCHEDULER in processes()


def processes() -> dict[str, dict]:
    """Return what is on record of every service whose process lives, by the service's name.

    Returns
    -------
    dict of str to dict
        ``pid``, ``created`` (seconds since 1970), ``address`` ("" where it has none) and ``by``,
        the command that has started it. What a killed process has left behind is not in it.
    """
    try:
        noted = json.loads((state_dir() / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # nothing runs; or somebody has edited it
        return {}
    return {name: entry for name, entry in noted.items() if _lives(entry)}


def _lives(entry: Mapping) -> bool:
    """Say whether the process of an entry is still the one that was noted."""
    try:
        process = psutil.Process(entry["pid"])
        is_same = abs(process.create_time() - entry["created"]) < SAME_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _note(service: Service, pid: int, by: str) -> None:
    """Put a service that has been started on record."""
    created = psutil.Process(pid).create_time()
    entry = {"pid": pid, "created": created, "address": service.address, "by": by}
    with _record_lock():
        _write_record(processes() | {service.name: entry})


def _forget(pids: set[int]) -> None:
    """Take services that have ended off the record."""
    with _record_lock():
        _write_record({n: entry for n, entry in processes().items() if entry["pid"] not in pids})


@contextmanager
def _record_lock() -> Iterator[None]:
    """Let one process at a time change the record."""
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / RECORD_LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_record(entries: Mapping[str, Mapping]) -> None:
    """Write the record whole or not at all, for its user only; remove it when nothing runs."""
    place = state_dir() / RECORD
    if not entries:
        place.unlink(missing_ok=True)
        return
    descriptor, temporary = tempfile.mkstemp(prefix=f"{RECORD}.", dir=state_dir())  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(entries, file, indent=1)
    Path(temporary).replace(place)


def airflow_settings(port: int | None = None) -> dict[str, str]:
    """Return the environment variables that make Airflow use this project's folders.

    Parameters
    ----------
    port : int, optional
        Where Airflow's server listens; by default where `make up` has it now, else 8080.
    """
    if port is None:
        port = urlsplit(address("airflow")).port
    home = state_dir() / ".airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_ENABLE_TELEMETRY": "false",
        "MLFLOW_TRACKING_URI": tracking_uri(),
    }


def prepare() -> None:
    """Make the databases of Airflow and MLflow, once; a second call returns at once."""
    done = state_dir() / ".airflow" / "ready"
    if tracking_uri().startswith("sqlite"):
        open_client()
    if done.exists():
        return
    settings = {**os.environ, **airflow_settings()}
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    made = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"Airflow could not make its database:\n{made.stdout}{made.stderr}")
    done.touch()


def free_port(wanted: int) -> int:
    """Return `wanted`, or the next port on 127.0.0.1 that nothing listens on."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {wanted} to {wanted + 99} on {HOST}")


def run_services(services: list[Service], settings: Mapping[str, str], ready: dict, by: str) -> int:
    """Start `services`, say when they answer, and stop all of them on Ctrl-C or if one ends.

    Parameters
    ----------
    services : list of Service
    settings : mapping of str to str
        Environment variables for all of them.
    ready : dict of str to (int, str)
        What to wait for: a port and the line to print once it answers, by name.
    by : str
        The command that starts them, for the record: "make up".

    Returns
    -------
    int
        0 after Ctrl-C or SIGTERM, 1 if a service ended by itself.
    """
    logs = state_dir() / ".logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **settings}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started: dict[str, subprocess.Popen] = {}
    try:
        for service in services:
            with (logs / f"{service.name}.log").open("wb") as log:
                started[service.name] = subprocess.Popen(
                    service.command,
                    env=environment,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            _note(service, started[service.name].pid, by)
        return _watch(started, dict(ready), logs)
    except KeyboardInterrupt:
        _say("stopping")
        return 0
    finally:
        _stop(list(started.values()))
        _forget({process.pid for process in started.values()})


def _watch(started: dict[str, subprocess.Popen], waiting: dict, logs: Path) -> int:
    """Print each service's line when it answers; return 1 when one has ended."""
    _say(f"starting; logs are in {logs}")
    any_waiting = bool(waiting)
    while True:
        for name, process in started.items():
            if process.poll() is not None:
                log = logs / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                _say(f"{name} ended with status {process.returncode}; the end of {log}:\n{tail}")
                return 1
        for name, (port, line) in list(waiting.items()):
            if _answers(port):
                del waiting[name]
                _say(line)
        if any_waiting and not waiting:
            any_waiting = False
            _say("all up; Ctrl-C stops everything")
        time.sleep(0.5)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def _stop(processes: list[subprocess.Popen]) -> None:
    """End every process with its children: politely, then by force."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _lab(port: int, token: str) -> Service:
    options = {
        "ServerApp.ip": HOST,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": ROOT,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": token,
        "LabApp.default_url": "/lab/tree/notebooks",
        "KernelManager.transport": "ipc",
        "ServerApp.jpserver_extensions": {"lib.lab_extension": True},
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "jupyterlab", *flags]
    return Service("jupyterlab", command, f"http://{HOST}:{port}")


def lab() -> int:
    """Run JupyterLab alone until Ctrl-C."""
    port, token = free_port(PORTS["lab"]), secrets.token_urlsafe(16)
    line = f"JupyterLab  http://{HOST}:{port}/lab/tree/notebooks?token={token}"
    return run_services(
        [_lab(port, token)],
        {"MLFLOW_TRACKING_URI": tracking_uri()},
        {"jupyterlab": (port, line)},
        "make lab",
    )


def up() -> int:
    """Run Airflow, an MLflow server and JupyterLab until Ctrl-C."""
    prepare()
    ports = {name: free_port(port) for name, port in PORTS.items()}
    token = secrets.token_urlsafe(16)
    settings = airflow_settings(ports["airflow"])
    password = _airflow_password(settings)
    airflow = [sys.executable, "-m", "airflow"]
    services = [
        Service("airflow-api", [*airflow, "api-server"], settings["AIRFLOW__API__BASE_URL"]),
        Service(SCHEDULER, [*airflow, "scheduler", "--skip-serve-logs"]),
        Service("airflow-dag-processor", [*airflow, "dag-processor"]),
        Service("airflow-triggerer", [*airflow, "triggerer", "--skip-serve-logs"]),
        _lab(ports["lab"], token),
    ]
    ready = {
        "airflow": (
            ports["airflow"],
            f"Airflow     http://{HOST}:{ports['airflow']}  (user admin, password {password})",
        ),
        "lab": (
            ports["lab"],
            f"JupyterLab  http://{HOST}:{ports['lab']}/lab/tree/notebooks?token={token}",
        ),
    }
    if tracking_uri().startswith("http"):
        _say(f"MLflow      {tracking_uri()}  (from MLFLOW_TRACKING_URI)")
    else:
        services.append(_mlflow_server(ports["mlflow"]))
        ready["mlflow"] = (ports["mlflow"], f"MLflow      http://{HOST}:{ports['mlflow']}")
    return run_services(services, settings, ready, "make up")


def _mlflow_server(port: int) -> Service:
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    store = ["--backend-store-uri", tracking_uri(), "--default-artifact-root", artifact_root()]
    options = ["--no-serve-artifacts", "--workers", "1"]
    return Service("mlflow", [*command, *store, *options], f"http://{HOST}:{port}")


def _airflow_password(settings: dict[str, str]) -> str:
    """Return the password of Airflow's user `admin`, made and kept on first use."""
    file = Path(settings["AIRFLOW_HOME"]) / "simple_auth_manager_passwords.json.generated"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump({"admin": secrets.token_urlsafe(9)}, stream)
    return json.loads(file.read_text(encoding="utf-8"))["admin"]
