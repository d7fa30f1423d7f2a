"""Where this project keeps things, and files that appear whole or not at all.

The standard library and universal-pathlib are enough: every process rests on this module, also
those that start in a moment. ``s3://`` is asked by `lib.ground.bucket`, which counts requests.
"""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import fsspec
from upath import UPath

ROOT = Path(__file__).resolve().parents[2]
WHOLE_BYTES = 64 * 2**20  # what is larger is read and sent in parts
BYTECODE = "__pycache__"  # Python adds it to a model's code when the model is loaded
MANIFEST = "manifest.json"  # of a folder of parts, see `lib.ground.dataset`

fsspec.register_implementation("s3", "lib.ground.bucket.Bucket", clobber=True)


class ChangedMeanwhile(ValueError):
    """A file is no longer what was read of it: somebody else has written it."""


def data_dir() -> Path | UPath:
    """Return the folder of raw data: `DATA_DIR` (a path or fsspec URL), or `data/`."""
    return _named("DATA_DIR", "data")


def outputs_dir() -> UPath:
    """Return the folder of all runs: `OUTPUTS_DIR` (a path or fsspec URL), or `outputs/`."""
    return UPath(_named("OUTPUTS_DIR", "outputs"))


def _named(variable: str, usual: str) -> Path | UPath:
    """Return the folder that a variable names, where it is set to anything, else the usual one."""
    text = os.environ.get(variable) or usual
    return UPath(text.rstrip("/")) if "://" in text else ROOT / Path(text).expanduser()


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


def look_into(folder: UPath) -> AbstractContextManager:
    """Let one listing answer what there is below a folder, where asking costs; see `Bucket`."""
    return folder.fs.look(folder.path) if hasattr(folder.fs, "look") else nullcontext()


def read_bytes(path: UPath) -> bytes:
    """Return the content of a file in one request; FileNotFoundError where there is none."""
    return Path(path.path).read_bytes() if is_local(path) else path.fs.cat_file(path.path)


def write_bytes(path: UPath, data: bytes) -> None:
    """Write `data` to `path` so that no reader ever sees a part of it; make its folder.

    Raises
    ------
    OSError
        If it cannot be written; names the file and the reason.
    """
    try:
        _write(Path(path.path), data) if is_local(path) else path.fs.pipe_file(path.path, data)
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error}") from error


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def read_tagged(path: UPath) -> tuple[bytes, str]:
    """Return the content of a file and the tag by which `write_if` knows it; b"" and "" if none."""
    try:
        if is_local(path) or not hasattr(path.fs, "tagged"):
            data = read_bytes(path)
            return data, hashlib.sha256(data).hexdigest()
        return path.fs.tagged(path.path)
    except FileNotFoundError:
        return b"", ""


def write_if(path: UPath, data: bytes, tag: str) -> str:
    """Write a file only if it still is what was read; of several who do so, one succeeds.

    On S3 the store compares, on a local disk all processes of this project on this machine take
    turns; another file system is compared with just before, which two at once may both pass.

    Parameters
    ----------
    path : UPath
    data : bytes
    tag : str
        Of `read_tagged`, or of the write before; "" where there must be no such file.

    Returns
    -------
    str
        The tag of what has been written.

    Raises
    ------
    ChangedMeanwhile
        If the file is another; nothing has been written.
    """
    if hasattr(path.fs, "write_if"):
        written = path.fs.write_if(path.path, data, tag)
    else:
        with locked("write") if is_local(path) else nullcontext():
            written = hashlib.sha256(data).hexdigest() if read_tagged(path)[1] == tag else ""
            if written:
                write_bytes(path, data)
    if not written:
        raise ChangedMeanwhile(f"{path} was written by somebody else meanwhile")
    return written


def write_json(path: UPath, content: dict | list) -> None:
    """Write `content` to `path` as JSON for people, whole or not at all."""
    write_bytes(path, encoded(content))


def encoded(content: dict | list) -> bytes:
    """Return `content` as the bytes of a JSON file for people."""
    return (json.dumps(content, indent=2) + "\n").encode()


def read_object(path: UPath | Path) -> dict:
    """Return the object in a JSON file; {} where there is no file."""
    try:
        return json.loads(read_bytes(UPath(path)))
    except FileNotFoundError:
        return {}


def read_whole(path: UPath | Path) -> dict:
    """Return the object in a JSON file; {} where there is none, or a loss of power damaged it."""
    try:
        found = read_object(path)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_sound(path: UPath | Path) -> dict:
    """Return the object in a JSON file; {} where there is none, or it cannot be read."""
    try:
        return read_whole(path)
    except OSError:
        return {}


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


def digest_of(data: bytes) -> str:
    """Return the digest of a file with this content, as `digest` does."""
    return hashlib.sha256(f"\0{hashlib.sha256(data).hexdigest()}\n".encode()).hexdigest()


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
        if is_local(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        if file.protocol == place.protocol:
            file.fs.cp_file(file.path, place.path)
        elif file.stat().st_size > WHOLE_BYTES and is_local(file):
            place.fs.put_file(file.path, place.path)
        elif is_local(place):
            file.fs.get_file(file.path, place.path)
        else:
            write_bytes(place, file.read_bytes())


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time through, of all that share `state_dir`: what `name` says is shared.

    A new database must not be made twice, nor an index written from an older look at the runs.
    """
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
