"""Check whether this machine is fit to run the pipelines, and say what is to be done.

Every check is one function without arguments that looks at one thing, changes nothing, and returns
a `Finding`: ok, a warning (it works, and may bite), or a problem, with what was found and how to
mend it. `main` makes all checks side by side and prints them. Nothing here needs the network, and
no password is shown.
"""

import fcntl
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lib.commands import lockfile
from lib.commands.services import airflow_settings
from lib.dag import health
from lib.dag.scheduling import ghosts
from lib.ground import layout
from lib.ground.console import redact, say
from lib.ground.files import ROOT, state_dir
from lib.tracking import tracking_uri

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LOCK = ROOT / "requirements.lock"
KERNEL = ROOT / "lib" / "machine" / "kernel.py"
KERNEL_SECONDS = 60.0
BUSY_SECONDS = 3.0  # a run writes to the tracking database for less than that
FEW_BYTES, TOO_FEW_BYTES = 10e9, 1e9
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes
    ----------
    name : str
    state : {"ok", "warning", "problem"}
    what : str
        What was found, in a line.
    fix : str
        What to do about it; "" when there is nothing to do.
    """

    name: str
    state: str
    what: str
    fix: str = ""


def main() -> int:
    """Make all checks and print them, each problem with its fix; return 1 if there is one."""
    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        findings = list(pool.map(make, CHECKS))
    for found in findings:
        mark = found.state.upper() if found.state == PROBLEM else found.state
        say(f"{mark:<8} {found.name:<11} {found.what}")
        if found.fix:
            say(f"{'':<20} fix: {found.fix}")
    n_problems, n_warnings = (sum(f.state == s for f in findings) for s in (PROBLEM, WARNING))
    say(f"\n{n_problems} problems, {n_warnings} warnings")
    return 1 if n_problems else 0


def make(check: Callable[[], Finding]) -> Finding:
    """Return what `check` finds; a check that fails itself is a problem, and ends no other."""
    try:
        return check()
    except Exception as error:
        what = redact(f"the check itself failed: {type(error).__name__}: {error}")
        return Finding(check.__name__, PROBLEM, what, "see the error; it names what is broken")


def packages() -> Finding:
    """Compare the installed packages with `requirements.lock`."""
    lock = LOCK.read_text()
    wrong = [
        f"{name} is {found or 'missing'}, expected {wanted}"
        for name, wanted, found in lockfile.differences(lock)
    ]
    n_wanted = len(lockfile.wanted(lock))
    if wrong:
        what = f"{len(wrong)} of {n_wanted} differ from the lock: {_some(wrong, '; ')}"
        return Finding("packages", PROBLEM, what, "make clean install")
    what = f"Python {platform.python_version()}, {n_wanted} packages as the lock has them"
    return Finding("packages", OK, what)


def kernel() -> Finding:
    """Start a kernel as a stage does, over unix sockets, and let it calculate."""
    fix = "make clean install; a firewall or a sandbox may forbid unix sockets in the temp folder"
    began = time.monotonic()
    try:
        answer = run_in_kernel("print(1 + 1)", KERNEL_SECONDS).strip()
    except (RuntimeError, TimeoutError, OSError) as error:
        return Finding("kernel", PROBLEM, f"no kernel answers: {error}", fix)
    if answer != "2":
        return Finding("kernel", PROBLEM, f"a kernel says that 1 + 1 is {answer!r}", fix)
    return Finding("kernel", OK, f"answers in {time.monotonic() - began:.1f} s")


def run_in_kernel(code: str, seconds: float) -> str:
    """Run `code` in a new kernel of this Python and return what it prints.

    Raises
    ------
    RuntimeError, TimeoutError
        If the kernel dies, or does not answer within so many `seconds`.
    """
    from jupyter_client.manager import KernelManager

    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        manager = KernelManager(transport="ipc", connection_file=f"{folder}/k.json")
        manager.kernel_spec.argv = [sys.executable, str(KERNEL), "-f", "{connection_file}"]
        printed = []
        try:
            manager.start_kernel(cwd=ROOT, stderr=subprocess.DEVNULL)
            client = manager.blocking_client()
            client.start_channels()
            client.wait_for_ready(timeout=seconds)
            client.execute_interactive(
                code,
                timeout=seconds,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )
        finally:
            if manager.has_kernel:
                manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
    return "".join(printed)


def tracking() -> Finding:
    """Ask the tracking server, or look whether its database opens, is current and not locked."""
    uri = tracking_uri()
    if uri.startswith("http"):
        return _tracking_server(uri)
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            what = f"{path} is not there yet"
            return Finding("tracking", WARNING, what, "make install, or the first run, makes it")
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            fix = f"let this user write to {path} and to its folder"
            return Finding("tracking", PROBLEM, f"{path} cannot be written", fix)
        try:
            with sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            fix = f"find who holds it (fuser {path}) and let that end, or end it"
            return Finding("tracking", PROBLEM, f"{path}: {error}", fix)
        except sqlite3.DatabaseError as error:
            fix = f"restore {path} from a backup, or move it away: a new one has no old runs"
            return Finding("tracking", PROBLEM, f"{path}: {error}", fix)
    return _tracking_tables(uri)


def _tracking_server(uri: str) -> Finding:
    import requests

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        fix = "start it (make up, or whoever keeps it), or correct MLFLOW_TRACKING_URI"
        return Finding("tracking", PROBLEM, f"{redact(uri)} does not answer: {error}", fix)
    return Finding("tracking", OK, f"{redact(uri)} answers")


def _tracking_tables(uri: str) -> Finding:
    """Compare the version of the database's tables with the one that MLflow wants."""
    import sqlalchemy
    from mlflow.store.db.utils import _get_latest_schema_revision

    shown = redact(uri)
    try:
        with sqlalchemy.create_engine(uri).connect() as database:
            known = database.execute(sqlalchemy.text("SELECT version_num FROM alembic_version"))
            found = known.scalar()
    except sqlalchemy.exc.SQLAlchemyError as error:
        fix = "correct MLFLOW_TRACKING_URI, or start the database; a new one is made by a first run"
        reason = redact(str(getattr(error, "orig", error)))
        return Finding("tracking", PROBLEM, f"{shown}: {reason}", fix)
    if found != _get_latest_schema_revision():
        fix = f"make a copy of it, then {sys.executable} -m mlflow db upgrade {shown}"
        return Finding("tracking", PROBLEM, f"{shown} has tables of version {found}", fix)
    return Finding("tracking", OK, f"{shown} opens and is current")


def registry() -> Finding:
    """Compare the aliases of the registered models with their ledgers."""
    if tracking().state != OK:
        what = "not looked at: see what is said of tracking"
        return Finding("registry", WARNING, what, "mend tracking, and look again")
    from lib.registry.lifecycle import troubles

    said = troubles()
    if said:
        fix = "make reconcile: it finishes what was cut off, and enters what was moved by hand"
        return Finding("registry", PROBLEM, redact(_some(said, "; ")), fix)
    return Finding("registry", OK, "aliases are where the ledgers say")


def airflow() -> Finding:
    """Look whether Airflow's database is of this version, and import the DAG files as it does."""
    settings = airflow_settings()
    ready = Path(settings["AIRFLOW_HOME"]) / "ready"
    said = health.ask(layout.pipelines_dir() / "dags", settings)
    wrong = [f"{Path(name).name}: {text}" for name, text in said["errors"].items()]
    fixes = ["mend the files that it names"] if wrong else []
    if said["database"]:
        wrong.append(said["database"])
        fixes.append(f"rm {ready}; the next make run or make up migrates the database")
    if wrong:
        return Finding("airflow", PROBLEM, redact(_some(wrong, "; ")), "; ".join(fixes))
    if not ready.exists():
        what = f"there is no database in {ready.parent} yet"
        return Finding("airflow", WARNING, what, "the next make run or make up makes it")
    return Finding("airflow", OK, f"database migrated; {', '.join(said['dags'])} can be imported")


def disk() -> Finding:
    """Look how much space is left for runs and temporary files."""
    places = {state_dir(), Path(tempfile.gettempdir())}
    free = {place: shutil.disk_usage(_existing(place)).free for place in places}
    place, least = min(free.items(), key=lambda item: item[1])
    what = f"{least / 1e9:.1f} GB free for {place}"
    if least >= FEW_BYTES:
        return Finding("disk", OK, what)
    fix = "make prune tells which old runs can go; a large run takes about 1 GB"
    return Finding("disk", PROBLEM if least < TOO_FEW_BYTES else WARNING, what, fix)


def ghost_runs() -> Finding:
    """Look for runs that Airflow believes to be going on, and whose process is gone."""
    found = [ghost.run_dir for ghost in ghosts()]
    if found:
        what = f"{len(found)} going on in Airflow, without a process: {_some(sorted(found))}"
        fix = "make run or make up: either closes them before it begins"
        return Finding("ghost runs", WARNING, what, fix)
    return Finding("ghost runs", OK, "every run that Airflow believes in has a process")


def locks() -> Finding:
    """Look whether somebody holds a lock on the state that processes share."""
    held = [str(p) for p in sorted(state_dir().glob(".*.lock")) if not _is_free_soon(p)]
    if held:
        fix = f"find who holds it (fuser -v {' '.join(held)}) and let that end, or end it"
        what = f"held for more than {BUSY_SECONDS:.0f} s: {', '.join(held)}"
        return Finding("locks", PROBLEM, what, fix)
    return Finding("locks", OK, "none is held")


CHECKS = (packages, kernel, tracking, registry, airflow, disk, ghost_runs, locks)


def _is_free_soon(lock: Path) -> bool:
    until = time.monotonic() + BUSY_SECONDS
    with lock.open("rb") as file:
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.1)
    return False


def _some(names: list[str], separator: str = ", ") -> str:
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
