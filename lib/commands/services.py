"""Airflow, MLflow and JupyterLab on this machine: their settings, databases and processes.

Everything listens on 127.0.0.1. Settings are environment variables, set for child processes
only, so that the shell that called stays as it was. What runs is put on record, see
`lib.addresses`.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib import addresses
from lib.addresses import ADDRESSED, HOST, PORTS, SCHEDULER, TITLES
from lib.dag import scheduling
from lib.run import ROOT, state_dir
from lib.tracking import artifact_root, open_client, tracking_uri

import psutil

STOP_SECONDS = 15


@dataclass(frozen=True)
class Service:
    """A long-running process: what it is called, how it is started and where it will answer."""

    name: str
    command: list[str]
    address: str = ""


def airflow_settings(port: int | None = None) -> dict[str, str]:
    """Return the environment variables that make Airflow use this project's folders.

    Parameters
    ----------
    port : int, optional
        Where Airflow's server listens; by default where `make up` has it now, else 8080.
    """
    if port is None:
        port = urlsplit(addresses.address("airflow")).port
    home = state_dir() / ".airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # parsing, on a laptop that is busy
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
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
        if not is_taken(port):
            return port
    raise OSError(f"no free port from {wanted} to {wanted + 99} on {HOST}")


def choose_ports(asked: Mapping[str, str], command: str) -> dict[str, int]:
    """Return the port of each service: the one that was asked for, else the next free one.

    Parameters
    ----------
    asked : mapping of str to str
        What was typed, by name: ``airflow``, ``mlflow``, ``lab``; "" for the default, of which
        the next free one is taken, and it is said that it was.
    command : str
        For the messages: "make up".

    Raises
    ------
    ValueError
        If one that was asked for is no port, is asked for twice, or is taken; says by whom.
    """
    chosen: dict[str, int] = {}
    for name, text in asked.items():
        if text:
            chosen[name] = _asked_port(name, text, chosen, command)
    for name, text in asked.items():
        if not text:
            port = free_port(PORTS[name])
            while port in chosen.values():
                port = free_port(port + 1)
            if port != PORTS[name]:
                taken = is_taken(PORTS[name])
                why = f"is taken by {listener(PORTS[name])}" if taken else "is another's"
                _say(f"port {PORTS[name]} {why}: {TITLES[name]} gets {port}")
            chosen[name] = port
    return chosen


def _asked_port(name: str, text: str, others: Mapping[str, int], command: str) -> int:
    option = f"{name.upper()}_PORT"
    port = int(text) if text.isdecimal() else 0
    if not 0 < port < 65536:
        raise ValueError(f"{option} = {text}: expected a port, a number from 1 to 65535")
    if port in others.values():
        raise ValueError(f"{option} = {port} is asked for twice: each service needs a port")
    if is_taken(port):
        holder = listener(port)
        raise ValueError(
            f"{option} = {port} is taken by {holder}. Choose another one, for example "
            f"{command} {option}={free_port(port + 1)}, or leave it out"
        )
    return port


def is_taken(port: int) -> bool:
    """Say whether a port on 127.0.0.1 cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def listener(port: int) -> str:
    """Return who listens on `port`, as far as this user may know."""
    try:
        connections = psutil.net_connections("inet")
    except psutil.AccessDenied:
        return "somebody"
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
            try:
                return f"process {one.pid}, {psutil.Process(one.pid).name()}"
            except psutil.NoSuchProcess:
                break
    return "a process of somebody else"


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

    Raises
    ------
    ValueError
        If one of them runs already on the same outputs.
    """
    logs = state_dir() / ".logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **settings}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup asks for
        signal.signal(signal.SIGHUP, signal.default_int_handler)
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
            addresses.note(service.name, started[service.name].pid, at=service.address, by=by)
        return _watch(started, dict(ready), logs)
    except KeyboardInterrupt:
        _say("stopping")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave some running
        _stop(list(started.values()))
        addresses.forget({process.pid for process in started.values()})


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
            threading.Thread(target=_let_links_follow, daemon=True).start()
        time.sleep(0.5)


def _let_links_follow() -> None:
    from lib.pages import links

    links.follow(addresses.running())


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
        "ServerApp.jpserver_extensions": {"lib.commands.lab_extension": True},
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "jupyterlab", *flags]
    return Service("jupyterlab", command, f"http://{HOST}:{port}")


def lab(lab_port: str = "") -> int:
    """Run JupyterLab alone until Ctrl-C; where it runs already, only say where.

    Parameters
    ----------
    lab_port : str, default ""
        Where it shall listen; by default on 8888 or the next free one.

    Raises
    ------
    ValueError
        If that is no port or is taken, or JupyterLab runs already on another one.
    """
    alive = addresses.processes().get(ADDRESSED["lab"])
    if alive:
        if lab_port not in ("", str(urlsplit(alive["address"]).port)):
            raise ValueError(
                f"JupyterLab runs already at {alive['address']}, by {alive['by']} (process "
                f"{alive['pid']}): end that first to have it on port {lab_port}"
            )
        _say(f"{_lab_line(alive)}\n            runs already, by {alive['by']}")
        return 0
    chosen, token = choose_ports({"lab": lab_port}, "make lab")["lab"], secrets.token_urlsafe(16)
    service = _lab(chosen, token)
    return run_services(
        [service],
        {"MLFLOW_TRACKING_URI": tracking_uri()},
        {"jupyterlab": (chosen, _lab_address(service.address, token))},
        "make lab",
    )


def up(airflow_port: str = "", mlflow_port: str = "", lab_port: str = "") -> int:
    """Run Airflow, an MLflow server and JupyterLab until Ctrl-C.

    A JupyterLab that `make lab` runs is used as it is.

    Parameters
    ----------
    airflow_port, mlflow_port, lab_port : str, default ""
        As for `choose_ports`.

    Raises
    ------
    ValueError
        If a port is no port or is taken, or this runs already on the same outputs.
    """
    alive = addresses.processes()
    own_lab = alive.pop(ADDRESSED["lab"], None)
    if alive:
        raise ValueError(addresses.runs_already(alive))
    wanted = {"airflow": airflow_port, "mlflow": mlflow_port, "lab": lab_port}
    has_server = tracking_uri().startswith("http")
    if has_server:
        wanted.pop("mlflow")
    if own_lab:
        wanted.pop("lab")
    ports = choose_ports(wanted, "make up")
    with scheduling.scheduler_place(_say):
        prepare()
        settings = airflow_settings(ports["airflow"])
        _tidy_up(settings)
        return _serve(ports, settings, own_lab)


def _tidy_up(settings: Mapping[str, str]) -> None:
    """Close runs whose process is gone, before a scheduler waits for them; say which.

    Raises
    ------
    RuntimeError
        If that fails; says why.
    """
    if not scheduling.may_need_tidying():
        return
    command = [sys.executable, "-m", "lib.dag.scheduling"]
    environment = {**os.environ, **settings}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Airflow's database could not be tidied:\n{done.stdout}{done.stderr}")
    for line in done.stdout.splitlines():
        if line.startswith("closed "):
            _say(line)


def _serve(ports: Mapping[str, int], settings: Mapping[str, str], own_lab: dict | None) -> int:
    """Start everything, JupyterLab only where there is none, and stop it in the end."""
    has_server = "mlflow" not in ports
    password = _airflow_password(settings)
    url, airflow = settings["AIRFLOW__API__BASE_URL"], [sys.executable, "-m", "airflow"]
    services = [
        Service("airflow-api", [*airflow, "api-server"], url),
        Service(SCHEDULER, [*airflow, "scheduler", "--skip-serve-logs"]),
        Service("airflow-dag-processor", [*airflow, "dag-processor"]),
        Service("airflow-triggerer", [*airflow, "triggerer", "--skip-serve-logs"]),
    ]
    line = f"Airflow     {url}  (user admin, password {password})"
    ready = {"airflow": (ports["airflow"], line)}
    if own_lab:
        _say(f"{_lab_line(own_lab)}\n            runs already, by {own_lab['by']}")
    else:
        token = secrets.token_urlsafe(16)
        services.append(_lab(ports["lab"], token))
        ready["lab"] = (ports["lab"], _lab_address(services[-1].address, token))
    if has_server:
        _say(f"MLflow      {tracking_uri()}  (from MLFLOW_TRACKING_URI)")
    else:
        services.append(_mlflow_server(ports["mlflow"]))
        ready["mlflow"] = (ports["mlflow"], f"MLflow      {services[-1].address}")
    return run_services(services, settings, ready, "make up")


def _lab_address(url: str, token: str) -> str:
    """Return the line that says where JupyterLab is, for its user's eyes only."""
    return f"JupyterLab  {url}/lab/tree/notebooks{token and f'?token={token}'}"


def _lab_line(entry: Mapping) -> str:
    """Return the line of a JupyterLab on record, with the token that its own process keeps."""
    from jupyter_server.serverapp import list_running_servers

    tokens = [s.get("token", "") for s in list_running_servers() if s.get("pid") == entry["pid"]]
    return _lab_address(entry["address"], tokens[0] if tokens else "")


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
