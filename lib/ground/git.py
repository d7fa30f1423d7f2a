"""What git knows of this checkout; an export of it, without git, works as well."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from lib.ground.files import ROOT
from lib.ground.layout import pipelines_dir


def git(*arguments: str, folder: Path = ROOT) -> str | None:
    """Return what git prints; None if there is no git, or it fails."""
    program = shutil.which("git")
    if not program:
        return None
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return None if done.returncode else done.stdout.strip()


def commit() -> str:
    """Return the checked-out commit, with ``+changes`` where files differ; "" outside of git."""
    return git("describe", "--always", "--abbrev=64", "--exclude=*", "--dirty=+changes") or ""


def version() -> str:
    """Return what code this checkout runs: its commit and, where files differ, a digest of them.

    Files are those of `lib/` and of the pipelines; without git it is their digest alone.
    """
    known = commit()
    return known if known and "+" not in known else f"{known or 'no commit'} {_digest()}"


def _digest() -> str:
    whole = hashlib.sha256()
    places = [ROOT / "lib", *(pipelines_dir() / part for part in ("dags", "notebooks"))]
    for place in places:
        for file in sorted(place.rglob("*")):
            if file.suffix in (".py", ".ipynb", ".toml") and file.is_file():
                whole.update(f"{file.relative_to(place)}\0".encode() + file.read_bytes())
    return whole.hexdigest()[:12]
