"""Where this project keeps things, and files that appear whole or not at all.

The standard library and universal-pathlib are enough: every process rests on this module, also
those that start in a moment.
"""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

ROOT = Path(__file__).resolve().parents[2]
BYTECODE = "__pycache__"  # Python adds it to a model's code when the model is loaded
MANIFEST = "manifest.json"  # of a folder of parts, see `lib.ground.dataset`


def data_dir() -> Path:
    """Return the folder of raw data: `DATA_DIR`, or `data/` in the repository."""
    return ROOT / os.environ.get("DATA_DIR", "data")


def outputs_dir() -> UPath:
    """Return the folder of all runs: `OUTPUTS_DIR` (a path or fsspec URL), or `outputs/`."""
    text = os.environ.get("OUTPUTS_DIR", "outputs")
    if "://" in text:
        return UPath(text, use_listings_cache=False)  # other processes write there too
    return UPath(ROOT / text)


def state_dir() -> Path:
    """Return the local folder for databases and scratch files.

    It is `OUTPUTS_DIR` where that is local, and `outputs/` in the repository where it is remote.
    """
    outputs = outputs_dir()
    return Path(outputs.path) if is_local(outputs) else ROOT / "outputs"


def is_local(path: UPath) -> bool:
    """Say whether `path` lies on this machine's file system."""
    return path.protocol in ("", "file", "local")


def now() -> str:
    """Return the current time, UTC, as ISO 8601 text to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_bytes(path: UPath, data: bytes) -> None:
    """Write `data` to `path` so that no reader ever sees a part of it; make its folder."""
    if not is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    local = Path(path.path)
    local.parent.mkdir(parents=True, exist_ok=True)
    temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        temporary.replace(local)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: UPath, content: dict | list) -> None:
    """Write `content` to `path` as JSON for people, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def read_object(path: UPath | Path) -> dict:
    """Return the object in a JSON file; {} where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def files_in(path: UPath) -> list[UPath]:
    """Return the file `path`, or all files of the folder `path`, bytecode left out; in order."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    found = (p for p in path.rglob("*") if p.is_file() and BYTECODE not in p.parts)
    return sorted(found, key=str)


def sha256(file: UPath | Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(path: UPath) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents; "" if missing.

    A data set in parts counts by its manifest, which has the digests of the parts, and by the
    names and sizes of those that are there.
    """
    files = files_in(path)
    if not files:
        return ""
    if path / MANIFEST in files:
        return _digest_of_parts(path)
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.path[len(path.path) :]}\0{sha256(file)}\n".encode())
    return whole.hexdigest()


def _digest_of_parts(path: UPath) -> str:
    found = path.fs.find(path.path, detail=True)
    sizes = {name.rpartition("/")[2]: info["size"] for name, info in found.items()}
    sizes = {name: size for name, size in sorted(sizes.items()) if not name.startswith(".")}
    return hashlib.sha256(f"{sha256(path / MANIFEST)} {json.dumps(sizes)}".encode()).hexdigest()


def put(made: Path, target: UPath) -> None:
    """Move the local file or folder `made` to `target`, in place of what is there."""
    if not is_local(target):
        copy(UPath(made), target)
        return
    place = Path(target.path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rename(made.with_name(f"{made.name}.replaced"))
    made.replace(place)


def copy(source: UPath, target: UPath) -> None:
    """Copy a file or folder, if it exists, in place of what is there; bytecode is left out."""
    if target.is_dir():
        target.fs.rm(target.path, recursive=True)
    for file in files_in(source):
        below = file.path[len(source.path) :].lstrip("/")
        place = target / below if below else target
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.protocol == place.protocol:
            file.fs.cp_file(file.path, place.path)
        else:
            place.write_bytes(file.read_bytes())


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time through, of all that share `state_dir`: what `name` says is shared.

    A new database must not be made twice, nor an index written from an older look at the runs.
    """
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
