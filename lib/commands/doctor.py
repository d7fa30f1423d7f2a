"""Check whether this machine is fit to run the pipelines, and say what is to be done.

Every check is one function without arguments that looks at one thing, changes nothing, and returns
a `Finding`: ok, a warning (it works, and may bite), or a problem, with what was found and how to
mend it. `main` makes all checks side by side and prints them. Nothing here needs the network, and
no password is shown.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lib.addresses import ADDRESSED, PORTS, TITLES, processes
from lib.commands.services import airflow_settings, is_taken, listener
from lib.dag.scheduling import ghosts
from lib.run import ROOT, data_dir, is_local, outputs_dir, state_dir, write_bytes
from lib.sources import redact
from lib.tracking import tracking_uri

import psutil
from upath import UPath

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LOCK = ROOT / "requirements.lock"
OPTIONS = " ".join(f"{name.upper()}_PORT=..." for name in PORTS)
KERNEL = ROOT / "lib" / "machine" / "kernel.py"
KERNEL_SECONDS = 60.0
BUSY_SECONDS = 3.0  # a run writes to the tracking database for less than that
FEW_BYTES, TOO_FEW_BYTES = 10e9, 1e9
SILENT = timedelta(hours=1)  # a cell that is silent for longer is stopped
QUEUED = timedelta(days=1)
CLOCK_STEP_S = 0.2
FUTURE = timedelta(minutes=2)
PAST = timedelta(days=5 * 365)
HEAVY = ("airflow", "lightgbm", "mlflow", "numpy", "pandas", "papermill", "tensorflow")
VARIABLES = {
    "PYTHONDONTWRITEBYTECODE": "every import is 2 to 3 times as slow",
    "PYTHONPATH": "modules of another place may be imported",
    "PYTHONHOME": "another Python's library is used",
}
SHOWN = 5

AIRFLOW_SCRIPT = """
import json, sys
from airflow.utils.db import check_migrations
from airflow.dag_processing.dagbag import DagBag
found = {"database": "", "errors": {}}
if sys.argv[2] == "yes":
    try:
        check_migrations(1)
    except Exception as error:
        found["database"] = f"{type(error).__name__}: {error}"
bag = DagBag(sys.argv[1])
found["errors"] = {name: text.strip().splitlines()[-1] for name, text in bag.import_errors.items()}
found["dags"] = sorted(bag.dags)
print("\\n" + json.dumps(found))
"""


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
    """Make all checks and print them, problems with their fixes last; return 1 if there is one."""
    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        findings = list(pool.map(make, CHECKS))
    _ask_airflow.cache_clear()
    for found in findings:
        mark = found.state.upper() if found.state == PROBLEM else found.state
        sys.stdout.write(f"{mark:<8} {found.name:<18} {found.what}\n")
    for found in sorted((f for f in findings if f.fix), key=lambda f: f.state == PROBLEM):
        sys.stdout.write(f"\n{found.state} {found.name}: {found.what}\n    fix: {found.fix}\n")
    count = {state: sum(f.state == state for f in findings) for state in (PROBLEM, WARNING)}
    sys.stdout.write(f"\n{count[PROBLEM]} problems, {count[WARNING]} warnings\n")
    return 1 if count[PROBLEM] else 0


def make(check: Callable[[], Finding]) -> Finding:
    """Return what `check` finds; a check that fails itself is a problem, and ends no other."""
    try:
        return check()
    except Exception as error:
        what = redact(f"the check itself failed: {type(error).__name__}: {error}")
        return Finding(check.__name__, PROBLEM, what, "see the error; it names what is broken")


def python() -> Finding:
    """Check the version of Python, that it is the project's own, and that there is make."""
    version = platform.python_version()
    wanted = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    from packaging.specifiers import SpecifierSet

    if version not in SpecifierSet(wanted):
        fix = "make clean, then make install PYTHON=python3.11 (or another one of that range)"
        return Finding("python", PROBLEM, f"Python {version}, expected {wanted}", fix)
    if sys.prefix == sys.base_prefix:
        what = f"Python {version} of {sys.prefix}, which is no environment of its own"
        return Finding("python", WARNING, what, "run commands by make, or by .venv/bin/python")
    if not shutil.which("make"):
        fix = "install make (apt install make, or xcode-select --install)"
        return Finding("python", WARNING, f"Python {version}, but there is no make", fix)
    return Finding("python", OK, f"Python {version} and make")


def packages() -> Finding:
    """Compare the installed packages with `requirements.lock`."""
    wanted = locked_versions(LOCK.read_text())
    found = {
        _normal(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()
    }
    wrong = [
        f"{name} is {found.get(name) or 'missing'}, expected {version}"
        for name, version in wanted.items()
        if found.get(name) != version
    ]
    if wrong:
        what = f"{len(wrong)} of {len(wanted)} differ from the lock: {_some(wrong, '; ')}"
        return Finding("packages", PROBLEM, what, "make clean install")
    return Finding("packages", OK, f"{len(wanted)} as the lock has them")


def locked_versions(lock: str) -> dict[str, str]:
    """Return the version of each package that a lock file wants on this machine, by name."""
    from packaging.requirements import Requirement

    found = {}
    for line in lock.splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            one = Requirement(line.rstrip("\\ "))
            if one.marker is None or one.marker.evaluate():
                found[_normal(one.name)] = str(one.specifier).removeprefix("==")
    return found


def bytecode() -> Finding:
    """Look whether the packages that are slow to import are compiled."""
    slow = [name for name in HEAVY if not _is_compiled(name)]
    if slow:
        fix = f"{sys.executable} -m compileall -q -j 0 {Path(_origin(slow[0])).parents[1]}"
        return Finding("bytecode", WARNING, f"not compiled: {', '.join(slow)}", fix)
    return Finding("bytecode", OK, "packages are compiled")


def environment() -> Finding:
    """Look for environment variables that make things slow or different."""
    bad = [f"{name} is set: {why}" for name, why in VARIABLES.items() if os.environ.get(name)]
    names = [name for name in VARIABLES if os.environ.get(name)]
    keras = os.environ.get("KERAS_BACKEND", "tensorflow")
    if keras != "tensorflow":
        what = f"KERAS_BACKEND is {keras}, and the networks are made for tensorflow"
        fix = f"unset {' '.join(['KERAS_BACKEND', *names])}"
        return Finding("environment", PROBLEM, "; ".join([what, *bad]), fix)
    if bad:
        return Finding("environment", WARNING, "; ".join(bad), f"unset {' '.join(names)}")
    return Finding("environment", OK, "no variable that bites")


def kernel() -> Finding:
    """Start a kernel as a stage does, over unix sockets, and let it calculate."""
    fix = "make clean install; a firewall or a sandbox may forbid unix sockets in the temp folder"
    began = time.monotonic()
    try:
        answer = run_in_kernel("print(1 + 1)", KERNEL_SECONDS)
    except (RuntimeError, TimeoutError, OSError) as error:
        return Finding("kernel", PROBLEM, f"no kernel answers: {error}", fix)
    if answer.strip() != "2":
        return Finding("kernel", PROBLEM, f"a kernel says that 1 + 1 is {answer.strip()!r}", fix)
    return Finding("kernel", OK, f"answers in {time.monotonic() - began:.1f} s")


def run_in_kernel(code: str, seconds: float) -> str:
    """Run `code` in a new kernel of this Python and return what it prints.

    Raises
    ------
    RuntimeError, TimeoutError
        If the kernel dies, or does not answer within so many `seconds`.
    """
    import queue

    from jupyter_client.manager import KernelManager

    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        manager = KernelManager(transport="ipc", connection_file=f"{folder}/k.json")
        script = str(KERNEL)
        manager.kernel_spec.argv = [sys.executable, script, "-f", "{connection_file}"]
        try:
            manager.start_kernel(cwd=ROOT, stderr=subprocess.DEVNULL)
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=seconds)
            client.execute(code)
            while True:
                try:
                    left = max(until - time.monotonic(), 0.1)
                    message = client.get_iopub_msg(timeout=left)
                except queue.Empty as error:
                    raise TimeoutError(f"no answer within {seconds:.0f} s") from error
                if message["msg_type"] == "stream":
                    return message["content"]["text"]
        finally:
            if manager.has_kernel:
                manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def tracking() -> Finding:
    """Ask the tracking server, or look whether its database opens, is current and not locked."""
    uri = tracking_uri()
    if uri.startswith("http"):
        return _tracking_server(uri)
    if not uri.startswith("sqlite:///"):
        return _tracking_schema(uri)
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
        return Finding("tracking", PROBLEM, f"{path}: {error} for {BUSY_SECONDS:.0f} s", fix)
    except sqlite3.DatabaseError as error:
        fix = f"restore {path} from a backup, or move it away: a new one is made, without old runs"
        return Finding("tracking", PROBLEM, f"{path}: {error}", fix)
    return _tracking_schema(uri)


def registry() -> Finding:
    """Compare the aliases of the registered models with their ledgers."""
    found = tracking()
    if found.state != OK:
        what = "not looked at: see what is said of tracking"
        return Finding("registry", WARNING, what, "mend tracking, and look again")
    from lib.registry.lifecycle import troubles

    said = troubles()
    if said:
        fix = "make reconcile: it finishes what was cut off, and enters what was moved by hand"
        return Finding("registry", PROBLEM, redact(_some(said, "; ")), fix)
    return Finding("registry", OK, "aliases are where the ledgers say")


def airflow_database() -> Finding:
    """Look whether Airflow's database is there and of this version."""
    if not _airflow_is_ready():
        what = f"there is none in {airflow_settings()['AIRFLOW_HOME']} yet"
        return Finding("airflow database", WARNING, what, "the next make run or make up makes it")
    error = _ask_airflow(str(ROOT / "dags"))["database"]
    if error:
        home = airflow_settings()["AIRFLOW_HOME"]
        fix = f"rm {home}/ready; the next make run or make up migrates it"
        return Finding("airflow database", PROBLEM, redact(error), fix)
    return Finding("airflow database", OK, "ready and migrated")


def dags() -> Finding:
    """Import the DAG files as Airflow does."""
    found = _ask_airflow(str(ROOT / "dags"))
    if found["errors"]:
        each = [f"{Path(name).name}: {text}" for name, text in found["errors"].items()]
        return Finding("dags", PROBLEM, redact(_some(each, "; ")), "mend the files that it names")
    return Finding("dags", OK, f"{', '.join(found['dags'])} can be imported")


def ports() -> Finding:
    """Look which services run, and who else listens on the ports that `make up` asks for."""
    alive = processes()
    own = {name: alive[key] for name, key in ADDRESSED.items() if key in alive}
    said = [f"{TITLES[name]} runs at {e['address']}, by {e['by']}" for name, e in own.items()]
    others = {name: port for name, port in PORTS.items() if name not in own}
    taken = [
        f"{port} ({TITLES[name]}) by {listener(port)}"
        for name, port in others.items()
        if is_taken(port) and not any(e["address"].endswith(f":{port}") for e in own.values())
    ]
    if taken:
        what = "; ".join([f"taken: {', '.join(taken)}", *said])
        fix = "nothing: make up and make lab take the next free port, or the one that they are told"
        return Finding("ports", WARNING, what, f"{fix}, make up {OPTIONS}; or end that process")
    free = f"{', '.join(map(str, others.values()))} are free" if others else ""
    return Finding("ports", OK, "; ".join(filter(None, [*said, free])))


def access() -> Finding:
    """Write to the folder of runs and to the temporary folder, and look into the data."""
    wrong = []
    outputs = outputs_dir()
    if is_local(outputs):
        outputs = UPath(_existing(Path(outputs.path)))
    for name, place in (("OUTPUTS_DIR", outputs), ("TMPDIR", UPath(tempfile.gettempdir()))):
        probe = place / f".doctor-{os.getpid()}"
        try:
            write_bytes(probe, b"")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or redact(str(error))
            wrong.append(f"{name}, {redact(str(place))}, cannot be written: {reason}")
    data = data_dir()
    if data.exists() and not (data.is_dir() and os.access(data, os.R_OK | os.X_OK)):
        wrong.append(f"DATA_DIR, {data}, cannot be read")
    if wrong:
        fix = "give this user the right to, or set the variable to a folder that it may use"
        return Finding("access", PROBLEM, "; ".join(wrong), fix)
    if not data.exists():
        fix = "nothing, for sample data; else put the data there, or set DATA_DIR"
        return Finding("access", WARNING, f"DATA_DIR, {data}, is not there", fix)
    return Finding("access", OK, "runs can be written, data can be read")


def disk() -> Finding:
    """Look how much space is left for runs and temporary files."""
    places = {state_dir(), Path(tempfile.gettempdir())}
    free = {place: shutil.disk_usage(_existing(place)).free for place in places}
    place, least = min(free.items(), key=lambda item: item[1])
    what = f"{least / 1e9:.1f} GB free for {place}"
    fix = "make prune tells which old runs can go; a large run takes about 1 GB"
    if least < TOO_FEW_BYTES:
        return Finding("disk", PROBLEM, what, fix)
    return Finding("disk", WARNING, what, fix) if least < FEW_BYTES else Finding("disk", OK, what)


def clock() -> Finding:
    """Compare the clock with the last commit, with the files of runs, and with itself."""
    fix = "set the clock (timedatectl set-ntp true); schedules and run names follow it"
    wall, steady = time.time(), time.monotonic()
    time.sleep(CLOCK_STEP_S)
    gap = abs(time.time() - wall - (time.monotonic() - steady))
    if gap > CLOCK_STEP_S / 2:
        return Finding("clock", PROBLEM, f"it has just jumped by {gap:.1f} s", fix)
    now = datetime.now(UTC)
    for name, then in _known_times().items():
        if then > now + FUTURE:
            what = f"{now:%Y-%m-%d %H:%M} UTC is before {name}, {then:%Y-%m-%d %H:%M}"
            return Finding("clock", PROBLEM, what, fix)
    newest = max(_known_times().values(), default=now)
    if now - newest > PAST:
        what = f"{now:%Y-%m-%d} is years after anything here was changed, {newest:%Y-%m-%d}"
        return Finding("clock", WARNING, what, fix)
    return Finding("clock", OK, f"{now:%Y-%m-%d %H:%M} UTC, after every file and the last commit")


def stuck_runs() -> Finding:
    """Look for runs that say that they are running, where nobody has written for long."""
    found = [run for run, silent in _running() if silent]
    if found:
        fix = (
            "clear the failed task in Airflow, or run the stage again; a folder that nobody needs "
            "can be deleted"
        )
        what = f"{len(found)} say that they are running and are not: {_some(sorted(found))}"
        return Finding("stuck runs", WARNING, what, fix)
    return Finding("stuck runs", OK, "no run says that it is running and is not")


def ghost_runs() -> Finding:
    """Look for runs that Airflow believes to be going on, and whose process is gone."""
    found = [ghost.run_dir for ghost in ghosts()]
    if found:
        what = f"{len(found)} going on in Airflow, without a process: {_some(sorted(found))}"
        fix = "make run or make up: either closes them before it begins"
        return Finding("ghost runs", WARNING, what, fix)
    return Finding("ghost runs", OK, "every run that Airflow believes in has a process")


def leftovers() -> Finding:
    """Look for what killed processes have left half-written, and for scratch files of no run."""
    root = state_dir()
    scratch = [
        folder
        for folder in root.glob(".scratch/*/*")
        if any(folder.iterdir()) and not (outputs_dir() / folder.parent.name / folder.name).exists()
    ]
    dead = [path for path in [*_half_written(root), *scratch] if _silent_for(path) > SILENT]
    found = [str(path.relative_to(root)) for path in dead]
    if found:
        fix = f"cd {root} && rm -r {' '.join(found)}"
        what = f"{len(found)} left by runs that were killed or are gone: {_some(found)}"
        return Finding("leftovers", WARNING, what, fix)
    return Finding("leftovers", OK, "nothing half-written, no scratch files without a run")


def locks() -> Finding:
    """Look whether somebody holds a lock on the state that processes share."""
    import fcntl

    held = []
    for path in sorted(state_dir().glob(".*.lock")):
        with path.open("rb") as file:
            until = time.monotonic() + BUSY_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        held.append(str(path))
                        break
                    time.sleep(0.1)
    if held:
        fix = f"find who holds it (fuser -v {' '.join(held)}) and let that end, or end it"
        what = f"held for more than {BUSY_SECONDS:.0f} s: {', '.join(held)}"
        return Finding("locks", PROBLEM, what, fix)
    return Finding("locks", OK, "none is held")


def kernels() -> Finding:
    """Look for kernels of stages whose executor is gone."""
    script = str(KERNEL)
    lost = [
        str(process.pid)
        for process, command in _processes()
        if script in command and _is_orphan(process)
    ]
    if lost:
        what = f"{len(lost)} kernels whose stage is gone: process {', '.join(lost)}"
        return Finding("kernels", WARNING, what, f"kill {' '.join(lost)}")
    return Finding("kernels", OK, "no kernel without its stage")


def worktrees() -> Finding:
    """Look for git worktrees that are gone, or have been in a temporary folder for long."""
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        return Finding("worktrees", OK, "not a checkout of git")
    command = [git, "worktree", "list", "--porcelain"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    others = re.findall(r"^worktree (.*)$", text, re.MULTILINE)[1:]
    temporary, now = Path(tempfile.gettempdir()).resolve(), datetime.now(UTC)
    left = [
        place
        for place in others
        if not Path(place).exists()
        or (Path(place).is_relative_to(temporary) and now - _changed(Path(place)) > QUEUED)
    ]
    if left:
        removals = [f"git worktree remove --force {p}" for p in left if Path(p).exists()]
        fix = "; ".join([*removals, "git worktree prune"])
        return Finding("worktrees", WARNING, f"{len(left)} left: {_some(left)}", fix)
    return Finding("worktrees", OK, "none is left")


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    packages,
    bytecode,
    environment,
    kernel,
    tracking,
    registry,
    airflow_database,
    dags,
    ports,
    access,
    disk,
    clock,
    stuck_runs,
    ghost_runs,
    leftovers,
    locks,
    kernels,
    worktrees,
)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: list[str], separator: str = ", ") -> str:
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _origin(package: str) -> str:
    found = importlib.util.find_spec(package)
    return (found and found.origin) or ""


def _is_compiled(package: str) -> bool:
    """Say whether the modules at the top of a package are compiled; a missing package counts."""
    origin = _origin(package)
    modules = Path(origin).parent.glob("*.py") if origin else ()
    return all(Path(importlib.util.cache_from_source(str(path))).exists() for path in modules)


def _tracking_server(uri: str) -> Finding:
    shown = redact(uri)
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        fix = "start it (make up, or whoever keeps it), or correct MLFLOW_TRACKING_URI"
        reason = getattr(error, "reason", error)
        return Finding("tracking", PROBLEM, f"{shown} does not answer: {reason}", fix)
    if status != 200:
        fix = "see the server's own log; MLFLOW_TRACKING_URI may name something else"
        return Finding("tracking", PROBLEM, f"{shown} answers with status {status}", fix)
    return Finding("tracking", OK, f"{shown} answers")


def _tracking_schema(uri: str) -> Finding:
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
    wanted = _get_latest_schema_revision()
    if found != wanted:
        fix = f"make a copy of it, then {sys.executable} -m mlflow db upgrade {shown}"
        return Finding("tracking", PROBLEM, f"{shown} has tables of version {found}", fix)
    return Finding("tracking", OK, f"{shown} opens and is current")


def _airflow_is_ready() -> bool:
    return (Path(airflow_settings()["AIRFLOW_HOME"]) / "ready").exists()


@functools.cache
def _ask_airflow(folder: str) -> Mapping:
    """Return Airflow's word on its database and on the DAG files in `folder`, from a process."""
    with tempfile.TemporaryDirectory() as elsewhere:
        settings = airflow_settings()
        ready = _airflow_is_ready()
        if not ready:
            settings["AIRFLOW_HOME"] = elsewhere  # which Airflow fills at import
        done = subprocess.run(
            [sys.executable, "-c", AIRFLOW_SCRIPT, folder, "yes" if ready else "no"],
            env={**os.environ, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"Airflow cannot be imported: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _known_times() -> dict[str, datetime]:
    """Return times that must lie in the past, by what they are of."""
    found = {}
    git = shutil.which("git")
    if git:
        command = [git, "log", "-1", "--format=%ct"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.stdout.strip():
            found["the last commit"] = datetime.fromtimestamp(int(done.stdout), UTC)
    for path in [LOCK, *state_dir().glob("*/*/stages")]:
        if path.exists():
            found[f"the time of {path}"] = _changed(path)
    return found


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _silent_for(path: Path) -> timedelta:
    """Return how long ago anything in `path` was changed."""
    places = [path, *path.rglob("*")] if path.is_dir() else [path]
    times = [_changed(place) for place in places if place.exists()]
    return datetime.now(UTC) - max(times, default=datetime.now(UTC))


def _half_written(root: Path) -> Iterator[Path]:
    """Yield what is moved into place, or away, as soon as it is whole."""
    for path in root.glob("*/*/.*"):
        if re.search(r"^\.writing-|\.[0-9a-f]{8}$", path.name):
            yield path
    yield from root.glob("*/.pruned-*")


def _running() -> list[tuple[str, bool]]:
    """Return each run that says that it is running, and whether it has been silent for long.

    A notebook that somebody runs by hand may wait for as long as it likes.
    """
    from lib.pages.summary import list_runs, read_summary, summarise

    found = []
    for run in list_runs():
        if not is_local(run.path) or read_summary(run)["state"] != "running":
            continue
        summary = summarise(run)  # the one that was written may be older
        begun = any(s["state"] == "running" and s["notebook"] for s in summary["stages"])
        if summary["state"] == "running" and (begun or summary["start"].get("run_id")):
            silent = _silent_for(Path(run.path.path)) > (SILENT if begun else QUEUED)
            found.append((run.run_dir, silent))
    return found


def _processes() -> Iterable[tuple[psutil.Process, list[str]]]:
    for process in psutil.process_iter():
        try:
            yield process, process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def _is_orphan(process: psutil.Process) -> bool:
    """Say whether the process that started `process`, as it was told then, is gone."""
    try:
        parent = process.ppid()
        return parent == 1 or process.environ().get("JPY_PARENT_PID", f"{parent}") != f"{parent}"
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
