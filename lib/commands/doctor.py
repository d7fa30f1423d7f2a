"""Check whether this machine is fit to run the pipelines, and say what is to be done.

Every check is one function without arguments that looks at one thing, changes nothing, and returns
a `Finding`: ok, a warning (it works, and may bite), or a problem, with what was found and how to
mend it. `main` makes all checks side by side and prints them. Nothing here needs the network, and
no password is shown.
"""

import json
import os
import platform
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lib.commands import lockfile, notebooks
from lib.commands.services import airflow_settings, ask
from lib.ground.console import redact, say
from lib.ground.files import (
    ROOT,
    ChangedMeanwhile,
    is_local,
    outputs_dir,
    read_bytes,
    state_dir,
    write_if,
)
from lib.machine import provisioner
from lib.tracking import tracking_uri

import nbformat
import requests

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LOCK = ROOT / "requirements.lock"
BUSY_SECONDS = 3.0  # a run writes to the tracking database for less than that
FEW_BYTES, TOO_FEW_BYTES = 10e9, 1e9
SHOWN = 5
FIXES = {
    "is locked": "find who holds it (fuser {}) and let that end, or end it",
    "readonly": "let this user write to {} and to its folder",
    "is not a database": "restore {} from a backup, or move it away: a new one has no old runs",
    "out-of-date": "make a copy of it, then mlflow db upgrade, as it says",
}
"""What to do about a tracking database, by a part of what it says."""


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
    """Execute a cell as a stage does, in a kernel of its own, over unix sockets; then once more."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.ipynb"
        cells = [nbformat.v4.new_code_cell("assert 1 + 1 == 2", id="sum")]
        book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": notebooks.KERNEL})
        nbformat.write(book, path)
        try:
            notebooks.execute(path)
            first = time.monotonic()
            if provisioner.is_on():
                notebooks.execute(path)
        except Exception as error:  # of a process that may die in many ways
            fix = f"make clean install; a sandbox may forbid sockets in {tempfile.gettempdir()}"
            return Finding("kernel", PROBLEM, f"no kernel answers: {error}", fix)
    what = f"answers in {first - began:.1f} s"
    if not provisioner.is_on():
        return Finding("kernel", OK, f"{what}; {provisioner.VARIABLE}=0, each is started anew")
    if said := provisioner.troubles():
        fix = f"see the reason; {provisioner.VARIABLE}=0 does without warm processes"
        return Finding("kernel", WARNING, f"{what}; {_some(said, '; ')}", fix)
    forked = f"forked from a warm process in {time.monotonic() - first:.1f} s"
    return Finding("kernel", OK, f"{what}, the next one, {forked}")


def tracking() -> Finding:
    """Ask the tracking server, or look whether its database opens, is current and not locked."""
    uri = tracking_uri()
    place = redact(uri).removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and not Path(place).exists():
        fix = "make install, or the first run, makes it"
        return Finding("tracking", WARNING, f"{place} is not there yet", fix)
    try:
        _ask_tracking(uri)
    except Exception as error:  # whatever a server, a database or its driver raises
        reason = redact(str(getattr(error, "orig", error)))
        fixes = [fix for text, fix in FIXES.items() if text in reason]
        fix = fixes[0] if fixes else "start what MLFLOW_TRACKING_URI names, or correct it"
        return Finding("tracking", PROBLEM, f"{place}: {reason}", fix.format(place))
    return Finding("tracking", OK, f"{place} answers and is current")


def _ask_tracking(uri: str) -> None:
    """Raise whatever is wrong with a tracking server or database."""
    if uri.startswith("http"):
        requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
        return
    import sqlalchemy
    from mlflow.store.db.utils import _verify_schema

    engine = sqlalchemy.create_engine(uri)
    if engine.name == "sqlite":
        with sqlite3.connect(engine.url.database, BUSY_SECONDS, isolation_level=None) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("CREATE TABLE doctor (tried)")  # can it be written? Undone at once
            database.execute("ROLLBACK")
    _verify_schema(engine)


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
    if not ready.exists():
        what = f"there is no database in {ready.parent} yet"
        return Finding("airflow", WARNING, what, "the next make run or make up makes it")
    said = json.loads(ask("Airflow cannot be imported", "-m", "lib.dag.health").splitlines()[-1])
    wrong = [f"{Path(name).name}: {text}" for name, text in said["errors"].items()]
    fixes = ["mend the files that it names"] if wrong else []
    if said["database"]:
        wrong.append(said["database"])
        fixes.append(f"rm {ready}; the next make run or make up migrates the database")
    if wrong:
        return Finding("airflow", PROBLEM, redact(_some(wrong, "; ")), "; ".join(fixes))
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


def storage() -> Finding:
    """Write where runs go, and see that of two who write a file at once one is refused."""
    root = outputs_dir()
    if is_local(root):
        place = _existing(Path(root.path))
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            what = f"runs cannot be written to {root}: {place} is no folder of this user's"
            fix = "let OUTPUTS_DIR name a folder that this user may write to"
            return Finding("storage", PROBLEM, what, fix)
        return Finding("storage", OK, f"runs lie on this machine, in {root}")
    shown, probe = redact(str(root)), root / f".doctor-{uuid.uuid4().hex}"
    try:
        write_if(probe, b"", "")
        read_bytes(probe)
        try:
            write_if(probe, b"another", "")
        except ChangedMeanwhile:
            return Finding("storage", OK, f"{shown} can be written, and keeps writers apart")
        finally:
            probe.fs.rm_file(probe.path)
    except OSError as error:
        fix = "correct OUTPUTS_DIR, the credentials, or what they may do"
        return Finding("storage", PROBLEM, f"{shown} cannot be used: {error}", fix)
    what = f"{shown} does not refuse a conditional write (If-None-Match)"
    fix = "work from one machine at a time, or keep runs in a store that knows conditional writes"
    return Finding("storage", PROBLEM, what, fix)


CHECKS = (packages, kernel, tracking, registry, airflow, storage, disk)


def _some(names: list[str], separator: str = ", ") -> str:
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
