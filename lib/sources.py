"""What a `source` names: files below `DATA_DIR`, globs, URLs; and how it may be shown.

Nothing is parsed here. A source may hold a password or a key, so everything that is logged or
raised shows `redact(source)` instead.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lib.console import redact
from lib.files import ROOT, data_dir

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def without_secrets(message: str, source: str, shown: str, *secrets: str | None) -> str:
    """Return `message` with `source` as it may be shown and every secret starred."""
    message = message.replace(source, shown)
    for secret in secrets:
        message = message.replace(str(secret), "***") if secret else message
    return message


def find_files(source: str, *, hint: str = "") -> list[tuple[str, bytes | Path]]:
    """Return name and content, or place, of every file that a path, glob or URL stands for.

    The `hint` ends the message about a path where nothing is: what else the caller takes.
    """
    if "://" in source:
        return _remote_files(source)
    for place in _places(source):
        if place.is_dir():
            raise ValueError(f"{source} is a folder: name a file in it, or a glob: {source}/*.txt")
        if place.is_file():
            found = [place]
        else:
            whole = place.resolve()
            matches = Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))
            found = sorted(match for match in matches if match.is_file())
        if found:
            names = [source] if len(found) == 1 else [match.name for match in found]
            return list(zip(names, found, strict=True))
    raise _nothing_found(source, hint)


def list_files(
    source: str, *, folder: str = "", endings: Sequence[str], hint: str = ""
) -> list[tuple[str, Callable[[], BinaryIO]]]:
    """Return the name of every file that `source` stands for, and how to open it; read nothing.

    Parameters
    ----------
    source : str
        A path, glob, folder or fsspec URL of either.
    folder : str
        Of a folder take the files in this folder within it, where there is one.
    endings : sequence of str
        How the names of the files in a folder end; others are left out.
    hint : str
        What else the caller takes, for the message about a path where nothing is.

    Returns
    -------
    list of (str, callable)
        In order of the paths. The callable opens the file as a stream of bytes.

    Raises
    ------
    ValueError
        If there is no such file, or the folder holds none; lists the folders that it holds.
    """
    import fsspec

    shown = redact(source)
    places = [source] if "://" in source else [str(place) for place in _places(source)]
    for place in places:
        try:
            system, path = fsspec.url_to_fs(place)
            is_web = place.startswith("http")  # which knows neither folders nor globs
            if not is_web and system.isdir(path):
                found = _files_in(system, path, shown, folder, endings)
            elif not is_web and any(sign in path for sign in "*["):
                found = sorted(match for match in system.glob(path) if system.isfile(match))
            else:
                found = [path] if system.isfile(path) else []
        except ValueError:
            raise
        except Exception as error:  # every file system and protocol has errors of its own
            reason = without_secrets(f"{type(error).__name__}: {error}", place, shown)
            raise ValueError(f"{shown} cannot be read: {redact(reason)}") from None
        if found:
            names = [redact(file.rsplit("/", 1)[-1]) for file in found]
            opens = [partial(system.open, file, "rb") for file in found]
            return list(zip(names, opens, strict=True))
    if "://" in source:
        raise ValueError(f"no file matches {shown}: correct the address")
    raise _nothing_found(source, hint)


def _files_in(
    system: "AbstractFileSystem", path: str, shown: str, folder: str, endings: Sequence[str]
) -> list[str]:
    """Return the files in the folder `path`, or in its `folder`; there must be one."""
    if folder and system.isdir(f"{path}/{folder}"):
        path, shown = f"{path}/{folder}", f"{shown}/{folder}"
    inside = system.ls(path, detail=True)
    found = sorted(i["name"] for i in inside if i["type"] == "file")
    found = [name for name in found if name.lower().endswith(tuple(endings))]
    if found:
        return found
    folders = sorted(
        i["name"].rstrip("/").rsplit("/", 1)[-1] for i in inside if i["type"] != "file"
    )
    within = f"; it holds the folders {', '.join(folders)}" if folders else ""
    raise ValueError(
        f"no file in the folder {shown} ends in {', '.join(endings)}{within}: name one of them"
    )


def _places(source: str) -> list[Path]:
    """Return where a path is looked for: relative ones in `DATA_DIR`, then in the repository."""
    path = Path(source).expanduser()
    return [path] if path.is_absolute() else [data_dir() / path, ROOT / path]


def _nothing_found(source: str, hint: str) -> ValueError:
    places = " and ".join(str(place) for place in _places(source))
    return ValueError(
        f"no file matches {source!r}: looked for {places}. Correct the path"
        f"{', or' if not hint else ','} set DATA_DIR to the folder that holds it"
        f"{', or ' + hint if hint else ''}"
    )


def _remote_files(source: str) -> list[tuple[str, bytes | Path]]:
    """Return name and content of every file at an fsspec URL; globs work where listing does."""
    import fsspec

    shown = redact(source)
    try:
        system, path = fsspec.url_to_fs(source)
        is_glob = not source.startswith("http") and any(c in path for c in "*[")
        paths = sorted(system.glob(path)) if is_glob else [path]
        found = [(p.rsplit("/", 1)[-1] if is_glob else shown, system.cat_file(p)) for p in paths]
    except Exception as error:  # every file system and protocol has errors of its own
        reason = without_secrets(f"{type(error).__name__}: {error}", source, shown)
        raise ValueError(f"{shown} cannot be read: {reason}") from None
    if not found:
        raise ValueError(f"no file matches {shown}: correct the address")
    return found
