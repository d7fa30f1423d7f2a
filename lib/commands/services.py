"""Airflow, MLflow and JupyterLab on this machine: their settings, databases and processes.

Settings are environment variables. What the caller has set stays as it is; the rest is set for
child processes only, so that the shell that called stays as it was. Servers listen on 127.0.0.1, or
where a setting says, which demands a password. What runs is put on record, see
`lib.ground.addresses`. The same on several machines: `lib.commands.cluster`.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from lib.commands.supervise import Service, is_taken, run_services
from lib.dag import database, scheduling
from lib.ground import addresses, layout
from lib.ground.addresses import ADDRESSED, HOST, PORTS, SCHEDULER, TITLES
from lib.ground.console import say
from lib.ground.files import ROOT, locked, state_dir
from lib.machine import provisioner
from lib.tracking import artifact_root, tracking_uri

import psutil

PASSWORD = "AIRFLOW_ADMIN_PASSWORD"
MLFLOW_PASSWORD = "MLFLOW_TRACKING_PASSWORD"
SIMPLE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE_S = "180"  # with a service that is silent because the machine has too much to do


def airflow_settings(port: int | None = None) -> dict[str, str]:
    """Return the environment variables that make Airflow use this project's folders.

    What the caller's environment says already stays.

    Parameters
    ----------
    port : int, optional
        Where Airflow's server listens; by default where `make up` has it now, else 8080.
    """
    given = database.said_by_caller()
    if port is None:
        noted = urlsplit(addresses.address("airflow")).port
        port = int(given.get("AIRFLOW__API__PORT", noted))
    home = database.home()
    wanted = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # parsing, on a laptop that is busy
        "AIRFLOW__CORE__DAGS_FOLDER": str(layout.pipelines_dir() / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
        "AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": PATIENCE_S,
        "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "900",
        database.ADDRESS: database.own_address(),  # airflow.cfg names where the folder was first
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "lib.dag.database.CONNECT",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "lib.dag.database.CONNECT",
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            home / "logs/dag_processor"
        ),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": PATIENCE_S,
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": PATIENCE_S,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "60",  # one every five seconds
    }
    settings = wanted | {name: given[name] for name in wanted if name in given}
    settings["AIRFLOW__API__PORT"] = str(port)
    here = {name: text for name, text in settings.items() if name not in given}
    return settings | {
        database.OURS: json.dumps(here),
        "MLFLOW_ENABLE_TELEMETRY": "false",
        "MLFLOW_TRACKING_URI": tracking_uri(),
    }


def check_listening(settings: Mapping[str, str]) -> None:
    """See that no server would be open to others without a password that its deployer has given.

    Raises
    ------
    ValueError
        If one would; says which, and what to set.
    """
    known = os.environ | settings
    manager = known.get("AIRFLOW__CORE__AUTH_MANAGER", "Simple")
    locks = {
        "AIRFLOW__API__HOST": ("Simple" not in manager or known.get(SIMPLE), PASSWORD),
        "MLFLOW_HOST": (False, MLFLOW_PASSWORD),
    }
    for name, (is_locked, password) in locks.items():
        host = known.get(name, HOST)
        if host not in LOOPBACK and not (is_locked or known.get(password)):
            raise ValueError(
                f"{name} = {host} is open to other machines: set {password} to a password of your "
                f"own, as a secret of the deployment, or leave {name} at {HOST}"
            )


def prepare() -> None:
    """Make the databases of Airflow and MLflow, once; a second call returns at once.

    Of two calls at the same time, the second waits.
    """
    done = state_dir() / ".airflow" / "ready"
    uri = tracking_uri()
    with locked("databases"):
        with ThreadPoolExecutor() as pool:  # each makes one in a process of its own
            making = []
            if uri.startswith("sqlite") and not Path(uri.removeprefix("sqlite:///")).exists():
                code = "from lib import tracking; tracking.open_client()"
                making += [pool.submit(ask, "MLflow could not make its database", "-c", code)]
            if not done.exists():
                making += [pool.submit(migrate)]
            for one in making:
                one.result()
        if not done.exists():
            done.parent.mkdir(parents=True, exist_ok=True)
            done.touch()


def migrate() -> None:
    """Make Airflow's database, or bring it to the version that is installed."""
    ask("Airflow could not make its database", "-m", "airflow", "db", "migrate")


def ask(failure: str, *arguments: str) -> str:
    """Run this Python to its end, with Airflow's settings; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **airflow_settings()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{failure}:\n{done.stdout}{done.stderr}")
    return done.stdout


def free_port(wanted: int, others: Collection[int] = ()) -> int:
    """Return `wanted`, or the next port on 127.0.0.1 that nothing listens on; none of `others`."""
    for port in range(wanted, wanted + 100):
        if port not in others and not is_taken(port):
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
        If one that was asked for is no port, or is taken; says by whom.
    """
    chosen: dict[str, int] = {}
    for name in sorted(asked, key=lambda name: not asked[name]):  # who was named comes first
        option, text = f"{name.upper()}_PORT", asked[name] or str(PORTS[name])
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise ValueError(f"{option} = {text}: expected a port, a number from 1 to 65535")
        wanted, others = int(text), set(chosen.values())
        port = chosen[name] = free_port(wanted, others)
        if port == wanted:
            continue
        by = "another of these services" if wanted in others else listener(wanted)
        if asked[name]:
            raise ValueError(
                f"{option} = {wanted} is taken by {by}. Choose another one, for example {command} "
                f"{option}={port}, or leave it out"
            )
        say(f"port {wanted} is taken by {by}: {TITLES[name]} gets {port}")
    return chosen


def reached(host: str, port: int) -> str:
    """Return the address at which this machine reaches a server of its own that listens so."""
    return f"http://{HOST if host in ('0.0.0.0', *LOOPBACK) else host}:{port}"


def listener(port: int) -> str:
    """Return who listens on `port`, as far as this user may know."""
    with suppress(psutil.Error):  # not ours to see, or gone meanwhile
        for one in psutil.net_connections("inet"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return f"process {one.pid}, {psutil.Process(one.pid).name()}"
    return "a process of somebody else"


def _lab(port: int) -> Service:
    token = secrets.token_urlsafe(16)
    options = {
        "ServerApp.ip": HOST,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": ROOT,
        "ServerApp.allow_root": True,
        "LabApp.default_url": "/lab/tree/notebooks",
        "KernelManager.transport": "ipc",
        "ServerApp.jpserver_extensions": {"lib.commands.lab_extension": True},
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command, address = [sys.executable, "-m", "jupyterlab", *flags], f"http://{HOST}:{port}"
    own = {"JUPYTER_TOKEN": token}  # others may read the command line
    return Service("jupyterlab", command, address, _lab_line(address, token), own)


def lab(lab_port: str = "") -> int:
    """Run JupyterLab alone until Ctrl-C; where it runs already, only say where.

    Parameters
    ----------
    lab_port : str, default ""
        Where it shall listen; by default on 8888 or the next free one.

    Raises
    ------
    ValueError
        If that is no port or is taken.
    """
    alive = addresses.processes().get(ADDRESSED["lab"])
    if alive:
        _say_running(alive)
        return 0
    service = _lab(choose_ports({"lab": lab_port}, "make lab")["lab"])
    return run_services([service], {"MLFLOW_TRACKING_URI": tracking_uri()}, "make lab")


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
    airflow_port = airflow_port or database.said_by_caller().get("AIRFLOW__API__PORT", "")
    wanted = {"airflow": airflow_port, "mlflow": mlflow_port, "lab": lab_port}
    if tracking_uri().startswith("http"):
        wanted.pop("mlflow")
    if own_lab:
        wanted.pop("lab")
    ports = choose_ports(wanted, "make up")
    settings = airflow_settings(ports["airflow"])
    check_listening(settings)
    with scheduling.scheduler_place(say):
        prepare()
        scheduling.forget_past_times()
        if scheduling.ghosts():  # a scheduler would wait for runs without a process
            said = ask("Runs without a process could not be closed", "-m", "lib.dag.scheduling")
            for line in said.splitlines():
                if line.startswith("closed "):
                    say(line)
        if provisioner.is_on():
            provisioner.own_folder()  # this process is the owner, for all that it starts
        services = airflow(settings)
        if own_lab:
            _say_running(own_lab)
        else:
            services.append(_lab(ports["lab"]))
        if "mlflow" in ports:
            services.append(mlflow_server(ports["mlflow"], tracking_uri()))
        else:
            say(f"MLflow      {tracking_uri()}  (from MLFLOW_TRACKING_URI)")
        return run_services(services, settings, "make up")


def airflow(settings: Mapping[str, str]) -> list[Service]:
    """Return what Airflow consists of, workers apart."""
    command = [sys.executable, "-m", "airflow"]
    preloaded = [sys.executable, "-m", "lib.dag.preloaded"]  # what they fork begins at once
    url = reached(settings["AIRFLOW__API__HOST"], int(settings["AIRFLOW__API__PORT"]))
    line = f"Airflow     {url}  ({_airflow_login(settings)})"
    return [
        Service("airflow-api", [sys.executable, "-m", "lib.dag.api", "api-server"], url, line),
        Service(SCHEDULER, [*preloaded, "scheduler", "--skip-serve-logs"]),
        Service("airflow-dag-processor", [*preloaded, "dag-processor"]),
        Service("airflow-triggerer", [*command, "triggerer", "--skip-serve-logs"]),
    ]


def mlflow_server(port: int, store: str) -> Service:
    """Return an MLflow server on the database `store`, for users with a password if one is set."""
    host = os.environ.get("MLFLOW_HOST", HOST)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--default-artifact-root", artifact_root(), "--no-serve-artifacts"]
    command += ["--workers", "1"]
    settings = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if password := os.environ.get(MLFLOW_PASSWORD):
        command += ["--app-name", "basic-auth"]
        users = state_dir() / ".mlflow-auth.ini"
        users.write_text(  # a password is hashed, for 0.1 s, once a minute instead of every time
            f"[mlflow]\ndefault_permission = MANAGE\ndatabase_uri = {store.replace('%', '%%')}\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        settings |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(users),
            "MLFLOW_AUTH_ADMIN_USERNAME": os.environ.get("MLFLOW_TRACKING_USERNAME", "admin"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        }
    url = reached(host, port)
    return Service("mlflow", command, url, f"MLflow      {url}", settings)


def _lab_line(url: str, token: str) -> str:
    """Return the line that says where JupyterLab is, for its user's eyes only."""
    return f"JupyterLab  {url}/lab/tree/notebooks{token and f'?token={token}'}"


def _say_running(entry: Mapping) -> None:
    """Say where a JupyterLab on record is, with the token that its own process keeps."""
    from jupyter_server.serverapp import list_running_servers

    tokens = [s.get("token", "") for s in list_running_servers() if s.get("pid") == entry["pid"]]
    say(_lab_line(entry["address"], tokens[0] if tokens else ""))
    say(f"            runs already, by {entry['by']}")


def _airflow_login(settings: Mapping[str, str]) -> str:
    """Say how to log in to Airflow; a password that the deployer gives is not said."""
    if "Simple" not in os.environ.get("AIRFLOW__CORE__AUTH_MANAGER", "Simple"):
        return "its auth manager knows the users"
    if SIMPLE in os.environ:
        return f"passwords are in {SIMPLE}"
    password = _airflow_password(settings)
    return f"user admin, password {'as in ' + PASSWORD if PASSWORD in os.environ else password}"


def _airflow_password(settings: Mapping[str, str]) -> str:
    """Return the password of Airflow's user `admin`: given, or made and kept on first use."""
    file = Path(settings["AIRFLOW_HOME"]) / "simple_auth_manager_passwords.json.generated"
    given = os.environ.get(PASSWORD)
    if given or not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        known = {"admin": given or secrets.token_urlsafe(9)}
        file.write_text(json.dumps(known), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))["admin"]
