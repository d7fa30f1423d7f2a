"""A fingerprint of data from outside that is cheap and sound, by what a parameter names.

A local file, folder or glob (below `DATA_DIR` or the repository, or absolute) has the digest of
its names and contents; a file whose size and times are those of the last look is not read again. A
URL has its ETag or, without one, its Last-Modified and length; a file on another file system, also
one below a `DATA_DIR` that is a URL, what that says of it; an Iceberg table its snapshot. A
database, a page that says nothing of itself and what cannot be asked have none: they may be another
each time, which `UNKNOWN` says. Words that name nothing of all this ("sample", "uci") stand for
data that code makes, or checks itself.
"""

import errno
import hashlib
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib.ground.files import ROOT, data_dir, read_sound, sha256, state_dir, write_json
from lib.ground.parameters import Value
from lib.once.environment import PLACE, RECENT_NS, look

import fsspec
from upath import UPath

UNKNOWN = "never the same: "
NO_FILE = f"{UNKNOWN}there is no such file"
ASK_S = 10
MOST_KNOWN = 20_000
Known = dict[str, list]


def fingerprints(values: Mapping[str, Value]) -> dict[str, str]:
    """Return a fingerprint of every parameter that names data from outside, by its name."""
    kept = UPath(state_dir() / PLACE / "files.json")
    known = read_sound(kept)
    before = dict(known)
    found, remote = {}, _names_in_remote_data()
    for name, value in values.items():
        texts = [text for text in (value if isinstance(value, list) else [value]) if text]
        each = [_fingerprint(text, known, remote) for text in texts if isinstance(text, str)]
        if any(each):
            unknown = [one for one in each if one.startswith(UNKNOWN)]
            found[name] = unknown[0] if unknown else " ".join(each)
    if known != before:
        write_json(kept, dict(list(known.items())[-MOST_KNOWN:]))
    return found


def _fingerprint(text: str, known: Known, remote: set[str]) -> str:
    if text.startswith("iceberg:"):
        return _of_iceberg(text.removeprefix("iceberg:"))
    if text.startswith("sql:"):
        return f"{UNKNOWN}a database does not say whether it has changed"
    if text.startswith(("http://", "https://")):
        return _of_url(text)
    if "://" in text:
        return _of_remote(text)
    first = text.split("/")[0]
    if first in remote or (remote and any(sign in first for sign in "*[?")):
        found = _of_remote(f"{data_dir()}/{text}")
        if found != NO_FILE:
            return found
    return _of_files(text, known)


def _names_in_remote_data() -> set[str]:
    """Return what lies in `DATA_DIR` itself where that is a URL; nothing where it is a path."""
    folder = data_dir()
    try:
        return set() if isinstance(folder, Path) else {path.name for path in folder.iterdir()}
    except OSError:  # it is empty, or cannot be asked; the stage will say so
        return set()


def _of_files(text: str, known: Known) -> str:
    try:
        path, files = _named(text)
    except (RuntimeError, ValueError):  # "~" of nobody, or what no path and no pattern can be
        return ""
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a text, which no file can be called
            return ""
        raise
    each = (f"{os.path.relpath(file, path.parent)}\0{_digest(file, known)}" for file in files)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()[:16] if files else ""


def _named(text: str) -> tuple[Path, list[Path]]:
    """Return where on this machine a text names files, and these in order; [] where it does not."""
    place = Path(text).expanduser()
    folders = [folder for folder in (data_dir(), ROOT) if isinstance(folder, Path)]
    for path in [place] if place.is_absolute() else [folder / place for folder in folders]:
        if ROOT.is_relative_to(path.resolve()):
            continue  # no data: it holds all of the project
        if path.is_file():
            return path, [path]
        if path.is_dir():
            found = _below(path)
        else:
            is_pattern = any(sign in text for sign in "*[?")  # which means what `list_files` reads
            found = map(Path, fsspec.filesystem("file").glob(str(path)) if is_pattern else ())
        if files := sorted(file for file in found if file.is_file()):
            return path, files
    return place, []


def _below(path: Path) -> Iterator[Path]:
    """Yield what lies in a folder, however deep, behind links too; not where one leads back up."""
    above: dict[Path, set[Path]] = {}
    for name, inner, names in os.walk(path, followlinks=True):
        folder = Path(name)
        here = above[folder] = above.get(folder.parent, set()) | {folder.resolve()}
        inner[:] = [one for one in inner if (folder / one).resolve() not in here]
        yield from (folder / one for one in names)


def _digest(file: Path, known: Known) -> str:
    """Return the SHA-256 of a file; of one that looks as at the last time, the one from then."""
    seen, now = look(file), time.time_ns()
    *then, looked, old = known.get(str(file), (0, ""))
    if then == seen and looked - max(then[:2]) > RECENT_NS:
        return old
    found = sha256(file)
    known.pop(str(file), None)
    known[str(file)] = [*seen, now, found]
    return found


def _of_url(url: str) -> str:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:
            head = answer.headers
    except (OSError, ValueError) as error:
        return f"{UNKNOWN}the address does not answer ({type(error).__name__})"
    tag = head.get("ETag") or head.get("Last-Modified")
    if not tag:
        return f"{UNKNOWN}the page says neither ETag nor Last-Modified"
    return f"{tag} {head.get('Content-Length', '')}".strip()


def _of_remote(text: str) -> str:
    try:
        system, path = fsspec.url_to_fs(text)
        system.invalidate_cache()
        files = system.glob if "*" in path else system.find
        facts = sorted(files(path, detail=True).items())
        each = [
            (file, str(tag))
            for file, info in facts
            if (tag := info.get("ETag") or info.get("etag") or info.get("md5"))
        ]
    except Exception as error:  # every file system has errors of its own
        return f"{UNKNOWN}it cannot be asked ({type(error).__name__})"
    if not facts:
        return NO_FILE
    if len(each) < len(facts):
        return f"{UNKNOWN}its file system keeps no digests"
    return hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16]


def _of_iceberg(name: str) -> str:
    from lib.catalogs import load_table

    try:
        table, snapshot = load_table(name)
    except ValueError as error:
        return f"{UNKNOWN}{error}"
    return f"snapshot {snapshot} {table.metadata.current_schema_id}"
