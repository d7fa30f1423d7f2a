"""What numbers depend on beside code and data: installed packages, Python, the processor.

Versions are those of the environment, not of the lock file. A package counts with all that it
requires, as its own metadata says, however far down. What a package loads without requiring it,
environment variables, the number of cores and the operating system do not count.
"""

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lib.ground.files import read_sound, state_dir, write_bytes

from upath import UPath

PLACE = ".once"  # in `state_dir`, what is quicker to read than to find out again
FEATURES = re.compile(r"^(avx|fma|amx|sse4|f16c|bf16|sve|asimd|neon)")
NUMERIC = {"numpy"}  # whoever requires it computes with the processor's own arithmetic
RECENT_NS = 2 * 10**9  # a file this young may change again without another size or time
_IN_MEMORY: dict = {}
Installed = Mapping[str, tuple[str, str, list[str]]]


def installed() -> Installed:
    """Return name, version and requirements of what can be imported, by import name."""
    places = [Path(place) for place in sys.path if Path(place).is_dir() and "site-" in place]
    return _known({str(place): place.stat().st_mtime_ns for place in places})


def _known(seen: dict[str, int]) -> Installed:
    if _IN_MEMORY.get("places") == seen:
        return _IN_MEMORY["packages"]
    kept = UPath(state_dir() / PLACE / "packages.json")
    known = read_sound(kept)
    if (known.get("places"), known.get("python")) == (seen, sys.version):
        _IN_MEMORY.update(known)
        return known["packages"]
    _IN_MEMORY.update({"python": sys.version, "places": seen, "packages": _installed()})
    write_bytes(kept, json.dumps(_IN_MEMORY).encode())
    return _IN_MEMORY["packages"]


def _installed() -> dict[str, tuple[str, str, list[str]]]:
    from packaging.requirements import Requirement

    found, by_distribution = {}, {}
    for distribution in importlib.metadata.distributions():
        name = _canonical(distribution.metadata["Name"] or "")
        wanted = [Requirement(text) for text in distribution.requires or ()]
        needs = [w for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})]
        facts = (name, distribution.version, sorted({_canonical(need.name) for need in needs}))
        by_distribution.setdefault(name, facts)  # the first on the path is the one imported
    for name, owners in importlib.metadata.packages_distributions().items():
        for owner in sorted(set(owners)):
            if (key := _canonical(owner)) in by_distribution:
                found.setdefault(name, by_distribution[key])
    return by_distribution | found


def versions(packages: Iterable[str], known: Installed) -> dict[str, str]:
    """Return the versions of packages by import name, and of all that they require; no library's.

    One that is not installed has the version "none".
    """
    waiting = sorted(name for name in packages if name not in sys.stdlib_module_names)
    found: dict[str, str] = {}
    seen = set()
    while waiting:
        wanted = waiting.pop()
        name, version, needs = known.get(wanted, (wanted, "none", []))
        if name not in seen:
            seen.add(name)
            found[name] = version
            waiting += needs
    return dict(sorted(found.items()))


def machine(packages: Iterable[str]) -> str:
    """Return what of the processor can change numbers; "" where no package computes with it."""
    if not NUMERIC & set(packages):
        return ""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = sorted(flag for flag in (line[1].split() if line else ()) if FEATURES.match(flag))
    return " ".join([platform.machine(), *flags])


def look(file: Path) -> list[int]:
    """Return how a file looks: times of its last change and writing, in ns, and its size.

    Nobody can set the first: it tells of a file that was put in the place of another as old.
    """
    found = file.stat()
    return [found.st_ctime_ns, found.st_mtime_ns, found.st_size]


def seen(files: Iterable[Path], at: int) -> dict:
    """Return how files look, for `is_as_seen`; they were read at a time, in ns, or later."""
    return {"at": at, "files": {str(path): look(path) for path in files}}


def is_as_seen(noted: Mapping) -> bool:
    """Say whether files look as `seen` has noted, so that they hold what was read then.

    Raises
    ------
    OSError
        If one is gone.
    """
    for path, then in noted["files"].items():
        if look(Path(path)) != then or max(then[:2]) >= noted["at"] - RECENT_NS:
            return False
    return True


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
