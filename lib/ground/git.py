"""What git knows of this checkout; an export of it, without git, works as well."""

import shutil
import subprocess
from pathlib import Path

from lib.ground.files import ROOT


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
    head, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    if head is None or changes is None:
        return ""
    return head + ("+changes" if changes else "")
