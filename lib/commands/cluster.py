"""Head and workers of a deployment on several machines, with the settings of `deploy/cluster.env`.

The head has Airflow's servers and MLflow's, a worker takes stages from Celery's queue and runs them
on its own machine. Both need PostgreSQL, Redis and S3, which `deploy/README.md` sets up. What only
the deployer can know is asked for by name before anything starts.
"""

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from lib.commands import services
from lib.commands.supervise import Service, run_services
from lib.dag import scheduling
from lib.ground import addresses
from lib.ground.addresses import ADDRESSED, PORTS
from lib.ground.console import say
from lib.ground.files import is_local, outputs_dir
from lib.machine import provisioner
from lib.tracking import tracking_uri

WORKER = "airflow-worker"
SHARED = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "Airflow's database, PostgreSQL",
    "AIRFLOW__CELERY__BROKER_URL": "Celery's broker, redis://…",
    "AIRFLOW__CELERY__RESULT_BACKEND": "where Celery keeps results, db+postgresql+psycopg://…",
    "AIRFLOW__CORE__FERNET_KEY": "the key of Airflow's connections, the same on all machines",
    "AIRFLOW__API__SECRET_KEY": "the key of Airflow's sessions, the same on all machines",
    "AIRFLOW__API_AUTH__JWT_SECRET": "the key of tasks' tokens, the same on all machines",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "where workers reach the head",
    "OUTPUTS_DIR": "a URL that all machines reach, s3://… for example",
    "MLFLOW_TRACKING_URI": "the MLflow server, http://…",
}
"""What has to be the same on all machines, and cannot be guessed."""


def head() -> int:
    """Run Airflow's servers and an MLflow server until Ctrl-C.

    The MLflow server is left out where `MLFLOW_BACKEND_STORE_URI` names no database for it, and
    another one is used.

    Raises
    ------
    ValueError
        If a setting is missing, a port is taken, or this runs already.
    """
    settings = _settings()
    services.check_listening(settings)
    alive = {name: one for name, one in addresses.processes().items() if name != WORKER}
    alive.pop(ADDRESSED["lab"], None)
    if alive:
        raise ValueError(addresses.runs_already(alive))
    asked = {"airflow": settings["AIRFLOW__API__PORT"]}
    store = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    if store:
        asked["mlflow"] = str(urlsplit(tracking_uri()).port or PORTS["mlflow"])
    ports = services.choose_ports(asked, "make head")
    services.migrate()
    scheduling.forget_past_times()
    started = services.airflow(settings)
    if store:
        started.append(services.mlflow_server(ports["mlflow"], store))
    else:
        say(f"MLflow      {tracking_uri()}  (from MLFLOW_TRACKING_URI)")
    return run_services(started, settings, "make head")


def worker(queues: str = "") -> int:
    """Run one worker of Celery until Ctrl-C; stages that it runs then begin again elsewhere.

    One that ends by itself is started again: Celery's does, with status 0, on some of what can
    happen while it loses its broker.

    Parameters
    ----------
    queues : str, default ""
        Which queues it takes tasks from, separated by commas; by default the one of all tasks.

    Raises
    ------
    ValueError
        If a setting is missing, or a worker runs here already.
    """
    settings = _settings()
    if provisioner.is_on():
        provisioner.own_folder()  # this process is the owner, for all that it starts
    command = [sys.executable, "-m", "lib.dag.worker", "celery", "worker", "--skip-serve-logs"]
    command += ["--celery-hostname", f"worker-{os.getpid()}@%h"]  # two may share a host
    command += ["--queues", queues] if queues else []
    service = Service(WORKER, command, is_kept_up=True)
    return run_services([service], settings, "make worker")


def _settings() -> Mapping[str, str]:
    """Return the settings of this machine, once sure that none is missing.

    Raises
    ------
    ValueError
        If one is; names all of them.
    """
    settings = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"} | services.airflow_settings()
    missing = [f"{name} ({what})" for name, what in SHARED.items() if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"not set: {', '.join(missing)}. deploy/cluster.env says what they are; "
            "`set -a; . deploy/cluster.env; set +a` sets most of them"
        )
    if is_local(outputs_dir()):  # which holds databases and locks of one machine besides
        raise ValueError(f"OUTPUTS_DIR = {outputs_dir()}: expected a URL, s3://… for example")
    return settings
