"""Links of pages that were written before lead to the services that run now.

A page names Airflow, MLflow and JupyterLab by the addresses of its time. Where services begin on
other ports than the usual ones, or did so the last time, `follow` puts the new addresses into the
pages of all runs. Pages that are shown inside Airflow need none of this: they are made when asked
for.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lib.ground.addresses import HOST, PORTS
from lib.ground.files import is_local, outputs_dir, state_dir, write_bytes

from upath import UPath

MARK = ".links-elsewhere"  # pages may hold other addresses than the usual ones
KINDS = {"/open-stage?": "lab", "/#/": "mlflow", "/dags/": "airflow"}
LINK = re.compile(rf'(href=")http://{re.escape(HOST)}:\d+({"|".join(map(re.escape, KINDS))})')


def follow(addresses: Mapping[str, str]) -> list[Path]:
    """Let the pages of all runs lead to `addresses`; return those that were changed.

    Parameters
    ----------
    addresses : mapping of str to str
        As `lib.ground.addresses.running` returns them; links to other services stay as they are.
    """
    usual = {name: f"http://{HOST}:{port}" for name, port in PORTS.items()}
    mark, is_usual = state_dir() / MARK, addresses.items() <= usual.items()
    if not is_local(outputs_dir()) or (is_usual and not mark.exists()):
        return []
    if not is_usual:
        mark.touch()
    pages = [p for depth in ("*/*", "*/*/*") for p in state_dir().glob(f"{depth}/[!.]*.html")]
    changed = [page for page in sorted(pages) if _rewrite(page, addresses)]
    if addresses == usual:
        mark.unlink(missing_ok=True)
    return changed


def moved(text: str, addresses: Mapping[str, str]) -> str:
    """Return a page whose links to services lead to `addresses`."""

    def new(link: re.Match) -> str:
        address = addresses.get(KINDS[link[2]])
        return f"{link[1]}{address}{link[2]}" if address else link[0]

    return LINK.sub(new, text)


def _rewrite(page: Path, addresses: Mapping[str, str]) -> bool:
    """Change one page, unless it is being written anew; say whether it was changed."""
    try:
        before = page.stat()
        text = page.read_text(encoding="utf-8")
        new = moved(text, addresses)
        is_newer = page.stat().st_mtime_ns != before.st_mtime_ns
        if new == text or is_newer or page.is_symlink():
            return False
        write_bytes(UPath(page), new.encode())
        os.utime(page, ns=(before.st_atime_ns, before.st_mtime_ns))
    except (OSError, UnicodeDecodeError):  # deleted meanwhile, or no page of ours
        return False
    return True
