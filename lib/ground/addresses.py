"""Which services of this project run now, and where: Airflow, MLflow and JupyterLab.

Who starts one puts it on record beside the runs, in `.services.json`, without any token or
password. What a killed process has left there is not believed: every answer is of processes that
live. Whoever writes a link to a service asks here.
"""

import json
import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from lib.ground.files import is_local, locked, outputs_dir, read_sound, state_dir

import psutil
from upath import UPath

HOST = "127.0.0.1"
PORTS = {"airflow": 8080, "mlflow": 5000, "lab": 8888}
TITLES = {"airflow": "Airflow", "mlflow": "MLflow", "lab": "JupyterLab"}
ADDRESSED = {"airflow": "airflow-api", "mlflow": "mlflow", "lab": "jupyterlab"}
SCHEDULER = "airflow-scheduler"
RECORD = ".services.json"
OPEN_STAGE = "open-stage"  # answered by `lib.commands.lab_extension`
SIGNED_S = 7 * 24 * 3600  # how long a signed address opens, the most that S3 takes
SAME_S = 1.0  # a process that began further from the noted time is another with the same number


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


def opens_at(page: UPath, view: str = "") -> str:
    """Return where a browser opens a page of a run, the index, or another page in `OUTPUTS_DIR`.

    Parameters
    ----------
    page : UPath
    view : str, default ""
        What Airflow calls it below ``/reports/view/``; by default as it lies in `OUTPUTS_DIR`.

    Returns
    -------
    str
        The file where it is local. Else its address in Airflow, where that runs or
        ``AIRFLOW__API__BASE_URL`` names another machine's; else an address that the store signs,
        which leads nowhere further; where it cannot, the URL.
    """
    if is_local(page):
        return str(page)
    named = os.environ.get("AIRFLOW__API__BASE_URL", "").rstrip("/")
    airflow = running().get("airflow") or (named if f"//{HOST}" not in named else "")
    if airflow:
        below = str(page).removeprefix(f"{outputs_dir()}/")
        return f"{airflow}/reports/view/{view or urllib.parse.quote(below)}"
    try:
        signed = page.fs.sign(page.path, expiration=SIGNED_S)
    except NotImplementedError:
        return str(page)
    return f"{signed} (opens for seven days; links from it need Airflow: make up)"


def open_stage_link(run_dir: str, stage: str, lab: str = "") -> str:
    """Return the address at which JupyterLab offers to open a stage of a run.

    `lab` is that of JupyterLab; by default the one that runs now, or would.
    """
    query = urllib.parse.urlencode({"run": run_dir, "stage": stage})
    return f"{lab or address('lab')}/{OPEN_STAGE}?{query}"


def processes() -> dict[str, dict]:
    """Return what is on record of every service whose process lives, by the service's name.

    Returns
    -------
    dict of str to dict
        ``pid``, ``created`` (seconds since 1970), ``address`` ("" where it has none) and ``by``,
        the command that has started it.
    """
    noted = read_sound(state_dir() / RECORD)  # {} where nothing runs; or somebody has edited it
    return {name: entry for name, entry in noted.items() if _lives(entry)}


def note(name: str, pid: int, *, at: str, by: str) -> None:
    """Put a service that has been started on record.

    Parameters
    ----------
    name : str
        ``airflow-api`` for example.
    pid : int
    at : str
        Its address, "" where it has none.
    by : str
        The command that has started it.

    Raises
    ------
    ValueError
        If another of that name lives: two were started at once, and this one came second.
    """
    created = psutil.Process(pid).create_time()
    with locked("services"):
        alive = processes()
        if name in alive:
            raise ValueError(runs_already({name: alive[name]}))
        entry = {"pid": pid, "created": created, "address": at, "by": by}
        _write(alive | {name: entry})


def forget(pids: set[int]) -> None:
    """Take services that have ended off the record."""
    with locked("services"):
        _write({name: entry for name, entry in processes().items() if entry["pid"] not in pids})


def runs_already(alive: Mapping[str, Mapping]) -> str:
    """Say that services, as `processes` returns them, run here already, and how to end them."""
    by = next(iter(alive.values()))["by"]
    where = "".join(
        f", {TITLES[name]} at {alive[key]['address']}"
        for name, key in ADDRESSED.items()
        if key in alive
    )
    pids = " ".join(str(entry["pid"]) for entry in alive.values())
    return (
        f"{by} runs already on {state_dir()}{where}; two schedulers on one database would take "
        "each other's tasks. Use that one, or end it first: Ctrl-C where it runs or, if its "
        f"terminal is gone, kill {pids}"
    )


def _lives(entry: Mapping) -> bool:
    """Say whether the process of an entry is still the one that was noted."""
    try:
        process = psutil.Process(entry["pid"])
        is_same = abs(process.create_time() - entry["created"]) < SAME_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _write(entries: Mapping[str, Mapping]) -> None:
    """Write the record whole or not at all, for its user only; remove it when nothing runs."""
    place = state_dir() / RECORD
    if not entries:
        place.unlink(missing_ok=True)
        return
    descriptor, temporary = tempfile.mkstemp(prefix=f"{RECORD}.", dir=state_dir())  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(entries, file, indent=1)
    Path(temporary).replace(place)
