"""What numbers depend on beside code and data: installed packages, Python, the processor.

Versions are those of the environment, not of the lock file. A package counts with all that it
requires, as its own metadata says, however far down; one that is installed to be edited, or lies
on the path alone, by its files. What a package loads without requiring it,
environment variables, the number of cores and the operating system do not count.
"""

import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from lib.ground.files import digest, read_sound, state_dir, write_bytes
from lib.once.told import shorten

from upath import UPath

PLACE = ".once"  # in `state_dir`, what is quicker to read than to find out again
FEATURES = re.compile(r"^(avx|fma|amx|sse4|f16c|bf16|sve|asimd|neon)")
NUMERIC = {"numpy"}  # whoever requires it computes with the processor's own arithmetic
RECENT_NS = 2 * 10**9  # a file this young may change again without another size or time
_IN_MEMORY: dict = {}
Installed = Mapping[str, tuple[str, str, list[str]]]


def installed() -> Installed:
    """Return name, version and requirements of what can be imported, by import name."""
    places = [Path(place) for place in sys.path if Path(place).is_dir() and "-packages" in place]
    return _known({str(place): place.stat().st_mtime_ns for place in places})


def _known(seen: dict[str, int]) -> Installed:
    if _IN_MEMORY.get("places") == seen:
        return _IN_MEMORY["packages"]
    kept = UPath(state_dir() / PLACE / "installed.json")
    known = read_sound(kept)
    if (known.get("places"), known.get("python")) == (seen, sys.version):
        _IN_MEMORY.update(known)
        return known["packages"]
    _IN_MEMORY.update({"python": sys.version, "places": seen, "packages": _installed()})
    write_bytes(kept, json.dumps(_IN_MEMORY).encode())
    return _IN_MEMORY["packages"]


def _installed() -> dict[str, tuple[str, str, list[str]]]:
    from packaging.requirements import InvalidRequirement, Requirement

    found, by_distribution = {}, {}
    for distribution in importlib.metadata.distributions():
        name = _canonical(distribution.metadata["Name"] or "")
        needs = set()
        for text in distribution.requires or ():
            with suppress(InvalidRequirement):  # of a package from before there was a rule
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": ""}):
                    needs.add(_canonical(need.name))
        facts = (name, _version(distribution), sorted(needs))
        by_distribution.setdefault(name, facts)  # the first on the path is the one imported
    for name, owners in importlib.metadata.packages_distributions().items():
        keys = sorted(by_distribution.keys() & set(map(_canonical, owners)))
        if len(keys) == 1:
            found[name] = by_distribution[keys[0]]
        elif keys:  # several have a part of it
            _, versions, needs = zip(*(by_distribution[key] for key in keys), strict=True)
            found[name] = (name, " ".join(versions), sorted(set().union(*needs)))
    return by_distribution | found


def _version(distribution: importlib.metadata.Distribution) -> str:
    """Return what says which code is installed; "" where it lies elsewhere, to be edited."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")  # of no index
    if origin.get("dir_info", {}).get("editable"):
        return ""
    files = distribution.read_text("RECORD") if origin else None
    return f"{distribution.version} {shorten(files)}" if files else distribution.version


def _content(name: str) -> str:
    """Return a digest of what is imported by a name; "none" where nothing is."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    place = found and found.has_location and found.origin
    is_package = place and found.submodule_search_locations
    return digest(UPath(place).parent if is_package else UPath(place))[:16] if place else "none"


def versions(packages: Iterable[str], known: Installed) -> dict[str, str]:
    """Return the versions of packages by import name, and of all that they require; no library's.

    One of no index, whose version says nothing, has a digest for it; one that is not there "none".
    """
    waiting = sorted(name for name in packages if name not in sys.stdlib_module_names)
    found: dict[str, str] = {}
    seen = set()
    while waiting:
        wanted = waiting.pop()
        name, version, needs = known.get(wanted, (wanted, "", []))
        if name not in seen:
            seen.add(name)
            found[name] = version or _content(wanted)
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
    """Return how a file looks: times of its last change and writing, in ns, size and inode.

    Nobody can set the first and the last: they tell of a file that was put in the place of another
    of its size as old.
    """
    found = file.stat()
    return [found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino]


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
