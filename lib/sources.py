"""What a `source` names: files below `DATA_DIR`, globs, URLs; and how it may be shown.

Nothing is parsed here. A source may hold a password or a key, so everything that is logged or
raised shows `redact(source)` instead.
"""

import posixpath
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lib.ground.console import redact, say
from lib.ground.files import ROOT, data_dir, state_dir

import fsspec
from fsspec import AbstractFileSystem
from upath import UPath

TABLES = re.compile(r"\.(parquet|zip|(csv|txt|tsv)(\.(gz|zip|bz2|xz|zst))?)$", re.IGNORECASE)
"""How the files of a folder end that are read as tables."""
TABLE = "table, .csv, .txt or .tsv, packed or not, .parquet or .zip"
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""What operating systems leave behind, beside names that begin with a dot."""


def without_secrets(message: str, source: str, shown: str, *secrets: str | None) -> str:
    """Return `message` with `source` as it may be shown and every secret starred."""
    message = message.replace(source, shown)
    for secret in secrets:
        message = message.replace(str(secret), "***") if secret else message
    return redact(message)


def described(name: str, source: str, digest: str, n_rows: int) -> dict[str, str | int]:
    """Return what ``dataset.json`` begins with, of any data.

    A sample's name ends in ``_sample``, the source is shown without its secrets, and `digest` is
    that of the values.
    """
    name = f"{name}_sample" if source == "sample" else name
    return {"name": name, "source": redact(source), "digest": digest, "n_rows": n_rows}


def local_data(name: str) -> Path:
    """Return where a file below `DATA_DIR` lies on this machine, or would if it were there.

    Of a remote one it is a copy in `.data/` beside the databases, which is said, and made anew when
    the file is another.
    """
    place = data_dir() / name
    if isinstance(place, Path):
        return place
    copy = state_dir() / ".data" / name
    noted = copy.with_name(f".{copy.name}.tag")
    if not place.is_file():
        return copy
    tag = place.fs.ukey(place.path)
    if not (copy.exists() and noted.exists() and noted.read_text() == tag):
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_name(f".{copy.name}.part")
        place.fs.get_file(place.path, str(part))
        part.replace(copy)
        noted.write_text(tag)
        say(f"copied {redact(str(place))}, {copy.stat().st_size / 1e6:,.1f} MB, to {copy}")
    return copy


def download(url: str, name: str, sha256: str, hint: str) -> Path:
    """Return where a file below `DATA_DIR` lies, downloaded if it is not there yet.

    Parameters
    ----------
    url : str
        Where it is from.
    name : str
        Its place below `DATA_DIR`, see `local_data`.
    sha256 : str
        Its digest: a file with another one is downloaded anew. "" takes any file.
    hint : str
        What to give without a network, beside "sample".

    Raises
    ------
    ValueError
        If it cannot be downloaded, or what comes is not the file expected.
    """
    import pooch

    place = local_data(name)
    try:
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(url, known_hash=sha256 or None, fname=place.name, path=place.parent)
    except Exception as error:  # requests, urllib3, pooch and the operating system raise their own
        wanted = f"{place.name}, of SHA-256 {sha256}," if sha256 else place.name
        raise ValueError(
            f"{wanted} cannot be had from {url} ({type(error).__name__}: {error}). Without a "
            f'network give {hint}, or "sample"'
        ) from error
    return place


def find_file(path: str, *, hint: str = "") -> Path:
    """Return the one file that `path` names: below `DATA_DIR`, or in the repository.

    Of a remote `DATA_DIR` it is a copy, see `local_data`.

    Raises
    ------
    ValueError
        If it is in neither; `hint` says what else the caller takes.
    """
    local = [place if isinstance(place, Path) else local_data(path) for place in _places(path)]
    found = [place for place in local if place.is_file()]
    if not found:
        raise _nothing_found(path, hint)
    return found[0]


def list_files(
    source: str, *, folder: str = "", hint: str = "", deep: bool = False
) -> list[tuple[str, Callable[[], BinaryIO]]]:
    """Return the name of every file that `source` stands for, and how to open it; read nothing.

    Parameters
    ----------
    source : str
        A path, glob, folder or fsspec URL of either. Of a folder the files count whose names end
        as those of tables do, see `TABLES`. What operating systems leave behind never does.
    folder : str
        Of a folder take the files in this folder within it, where there is one.
    hint : str
        What else the caller takes, for the message about a path where nothing is.
    deep : bool
        Of a folder take all files, those of the folders in it too; they are named by their path
        within it.

    Returns
    -------
    list of (str, callable)
        In order of the paths; in the names stand the folders that are not the same for all, and
        `folder`. The callable opens the file as a stream of bytes.

    Raises
    ------
    ValueError
        If there is no such file, or the folder holds none; lists the folders that it holds.
    """
    shown = redact(source)
    places = [source] if "://" in source else [str(place) for place in _places(source)]
    for place in places:
        try:
            system, path = fsspec.url_to_fs(place)
            is_web = place.startswith("http")  # which knows neither folders nor globs
            if system.isfile(path):
                return [(redact(path.rsplit("/", 1)[-1]), partial(system.open, path, "rb"))]
            is_folder = not is_web and system.isdir(path)
            if is_folder and deep:
                found = sorted(system.find(path))
            elif is_folder:
                found = _tables_in(system, path, folder)
            elif not is_web and any(sign in path for sign in "*[?"):
                found = sorted(match for match in system.glob(path) if system.isfile(match))
            else:
                continue
        except Exception as error:  # every file system and protocol has errors of its own
            raise _unreadable(error, place, shown) from None
        root = path.rstrip("/") if is_folder and deep else _shared(found, folder)
        named = [(file.removeprefix(root).lstrip("/"), file) for file in found]
        named = [(name, file) for name, file in named if not is_litter(name)]
        if named:
            return [(redact(name), partial(system.open, file, "rb")) for name, file in named]
        if is_folder:
            raise _none_in(system, path, shown, "file" if deep else TABLE)
    if "://" in source:
        raise ValueError(f"no file matches {shown}: correct the address")
    raise _nothing_found(source, hint)


def is_litter(path: str) -> bool:
    """Whether a file, by its path in a source, is none that a person has put there."""
    return any(part in LITTER or re.match(r"\.+[^.]", part) for part in path.split("/"))


def _shared(paths: list[str], folder: str) -> str:
    """Return the folder that holds all paths, without `folder`, which stays in their names."""
    shared = posixpath.commonprefix([path.split("/")[:-1] for path in paths])
    return "/".join(shared[:-1] if folder and shared[-1:] == [folder] else shared)


def read_file(opened: Callable[[], BinaryIO], source: str) -> bytes:
    """Return the content of a file that `list_files` found for `source`."""
    try:
        with opened() as stream:
            return stream.read()
    except Exception as error:  # every file system and protocol has errors of its own
        raise _unreadable(error, source, redact(source)) from None


def _tables_in(system: AbstractFileSystem, path: str, folder: str) -> list[str]:
    """Return the files of tables in a folder, or in the `folder` within it."""
    path = f"{path}/{folder}" if folder and system.isdir(f"{path}/{folder}") else path
    files = (item["name"] for item in system.ls(path, detail=True) if item["type"] == "file")
    return sorted(name for name in files if TABLES.search(name))


def _none_in(system: AbstractFileSystem, path: str, shown: str, what: str) -> ValueError:
    inside = system.ls(path, detail=True)
    folders = sorted(item["name"].rstrip("/") for item in inside if item["type"] == "directory")
    names = ", ".join(name.rsplit("/", 1)[-1] for name in folders)
    way = f"; it holds the folders {names}: name one of them" if folders else ": name another one"
    return ValueError(f"the folder {shown} holds no {what}{way}")


def _places(source: str) -> list[Path | UPath]:
    """Return where a path is looked for: relative ones in `DATA_DIR`, then in the repository."""
    path = Path(source)
    with suppress(RuntimeError):  # "~" of nobody
        path = path.expanduser()
    return [path] if path.is_absolute() else [data_dir() / source, ROOT / path]


def _nothing_found(source: str, hint: str) -> ValueError:
    places = " and ".join(redact(str(place)) for place in _places(source))
    return ValueError(
        f"no file matches {source!r}: looked for {places}. Correct the path or set DATA_DIR to the "
        f"folder that holds it{', or ' + hint if hint else ''}"
    )


def _unreadable(error: Exception, source: str, shown: str) -> ValueError:
    reason = without_secrets(f"{type(error).__name__}: {error}", source, shown)
    return ValueError(f"{shown} cannot be read: {reason}")
