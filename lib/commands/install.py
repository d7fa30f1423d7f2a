"""Make the project's environment, and say what is done: ``python -m lib.commands.install .venv``.

With ``requirements-cluster.lock`` after the folder, that is installed besides. Runs before anything
is installed, so it needs nothing but Python itself. Every package comes from a lock file, checked
by its hash. Two that start at once do not meet: the second waits for the first and finds its work.
One that was interrupted left no ``ready`` behind, and the next one begins anew.
"""

import fcntl
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK, READY = "requirements.lock", "ready"
N_STEPS = 4
SIZE = "about 1 GB to download, 4 GB on disk"  # measured on Linux, x86-64


class Failed(Exception):
    """A step did not work; the message says which, and what its program said."""


def main(folder: Path, more: str = "") -> int:
    """Make the environment in `folder`, or install the lock file `more` too; return the status."""
    try:
        with alone(Path(LOCK)):
            if more:
                add(folder, more)
            elif not is_ready(folder):  # else whoever was waited for has made it
                install(folder)
    except Failed as failure:
        sys.stderr.write(f"error: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the next make begins anew\n")
        return 130
    return 0


def install(folder: Path) -> None:
    """Make the environment in `folder`, step by step, each told before it is done.

    Raises
    ------
    Failed
        If a step did not work.
    """
    began = time.monotonic()
    python, lock = folder / "bin" / "python", Path(LOCK).read_text(encoding="utf-8")
    (folder / READY).unlink(missing_ok=True)
    with step(1, f"Python environment in {folder} (Python {sys.version.split()[0]})"):
        make_environment(folder)
    wanted = pinned(lock, "uv")
    with step(2, f"{wanted.split()[0].replace('==', ' ')}, which installs the rest"):
        (folder / "uv.lock").write_text(wanted, encoding="utf-8")
        call([python, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r",
              folder / "uv.lock"])  # fmt: skip
    uv = uv_install(folder)
    n_packages = len(re.findall(r"^\w.*==", lock, re.MULTILINE))
    with step(3, f"{n_packages} packages from {LOCK}, {SIZE} unless uv has them from before"):
        call([*uv, "--require-hashes", "-r", LOCK], shown=True)
        call([*uv, "--no-deps", "--no-build-isolation", "-e", "."])
    with step(4, "databases of Airflow and MLflow"):
        call([python, "-m", "lib.commands.cli", "prepare"])
    (folder / READY).touch()
    say(f"ready after {time.monotonic() - began:.0f} s")


def uv_install(folder: Path) -> list[str | Path]:
    """Return the command that installs into `folder`."""
    python = folder / "bin" / "python"
    return [folder / "bin" / "uv", "pip", "install", "--python", python, "--compile-bytecode"]


def add(folder: Path, lock: str) -> None:
    """Install another lock file, ``requirements-<what>.lock``, and note it as ``<what>``.

    Raises
    ------
    Failed
        If a package could not be installed.
    """
    say(f"packages of {lock}, on top of {LOCK}")
    call([*uv_install(folder), "--require-hashes", "-r", lock], shown=True)
    (folder / Path(lock).stem.removeprefix("requirements-")).touch()


def is_ready(folder: Path) -> bool:
    """Say whether the environment in `folder` is whole, and not older than the lock file."""
    ready = folder / READY
    return ready.exists() and ready.stat().st_mtime >= Path(LOCK).stat().st_mtime


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Let one process at a time into the block; say so where another one has to be waited for."""
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make is installing here; waiting for it to end")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def pinned(lock: str, name: str) -> str:
    """Return the lines of a lock file about one package: its version and its hashes."""
    found = re.search(rf"^{re.escape(name)}==.*\n(?:    --hash.*\n?)*", lock, re.MULTILINE)
    if not found:
        raise Failed(f"{LOCK} has no {name}: it was not made by make lock")
    return found[0]


@contextmanager
def step(number: int, what: str) -> Iterator[None]:
    """Say what a step is, and then how long it took."""
    began = time.monotonic()
    say(f"[{number}/{N_STEPS}] {what}")
    yield
    say(f"      done in {time.monotonic() - began:.0f} s")


def make_environment(folder: Path) -> None:
    """Make an empty environment with pip in it, in place of what is there.

    Raises
    ------
    Failed
        If Python's own `venv` cannot; says what to install.
    """
    if folder.is_symlink():  # somebody else's environment, which must not be emptied
        folder.unlink()
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(folder)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Failed(
            f"Python cannot make an environment: {error}\nOn Debian and Ubuntu: apt install "
            "python3-venv. Or try another Python: make PYTHON=python3.12"
        ) from error


def call(command: list[str | Path], *, shown: bool = False) -> None:
    """Run a program, quietly where all is well, or with its lines as they come if `shown`.

    The packages that uv lists in the end, one a line with its sign, are left out.

    Raises
    ------
    Failed
        If it fails, with everything that it said.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    lines = []
    for line in process.stdout:
        if not line.startswith((" + ", " - ", " ~ ")):
            lines.append(line.rstrip())
            if shown:
                say(f"      {line.rstrip()}")
    if process.wait():
        raise Failed("\n".join([" ".join(map(str, command)), *lines]))


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def environment() -> dict[str, str]:
    """Return the environment for pip and uv: without variables that would lead them elsewhere."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
