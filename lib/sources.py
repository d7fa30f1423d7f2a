"""What a `source` names: files below `DATA_DIR`, globs, URLs; and how it may be shown.

Nothing is parsed here. A source may hold a password or a key, so everything that is logged or
raised shows `redact(source)` instead.
"""

import posixpath
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lib.ground.console import redact, say
from lib.ground.files import ROOT, data_dir, state_dir

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath


def without_secrets(message: str, source: str, shown: str, *secrets: str | None) -> str:
    """Return `message` with `source` as it may be shown and every secret starred."""
    message = message.replace(source, shown)
    for secret in secrets:
        message = message.replace(str(secret), "***") if secret else message
    return redact(message)


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
    source: str,
    *,
    folder: str = "",
    endings: Sequence[str] = (),
    hint: str = "",
    deep: bool = False,
) -> list[tuple[str, Callable[[], BinaryIO]]]:
    """Return the name of every file that `source` stands for, and how to open it; read nothing.

    Parameters
    ----------
    source : str
        A path, glob, folder or fsspec URL of either.
    folder : str
        Of a folder take the files in this folder within it, where there is one.
    endings : sequence of str
        How the names of the files in a folder end; others are left out. Without it a folder is
        refused.
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
    import fsspec

    shown = redact(source)
    places = [source] if "://" in source else [str(place) for place in _places(source)]
    for place in places:
        try:
            system, path = fsspec.url_to_fs(place)
            is_web = place.startswith("http")  # which knows neither folders nor globs
            if system.isfile(path):
                found = [path]
            elif deep and not is_web and system.isdir(path):
                found = sorted(system.find(path))
                if not found:
                    raise ValueError(f"{shown} is an empty folder: name one that holds the data")
            elif not is_web and system.isdir(path):
                found = _files_in(system, path, shown, folder, endings)
            elif not is_web and any(sign in path for sign in "*["):
                found = sorted(match for match in system.glob(path) if system.isfile(match))
            else:
                found = []
        except ValueError:
            raise
        except Exception as error:  # every file system and protocol has errors of its own
            raise _unreadable(error, place, shown) from None
        if found:
            inside = deep and system.isdir(path)
            names = [_name_in(path, file) for file in found] if inside else _names(found, folder)
            names = [redact(name) for name in names]
            opens = [partial(system.open, file, "rb") for file in found]
            return list(zip(names, opens, strict=True))
    if "://" in source:
        raise ValueError(f"no file matches {shown}: correct the address")
    raise _nothing_found(source, hint)


def _names(paths: list[str], folder: str) -> list[str]:
    """Return paths without the folders that all have, except for `folder`."""
    parents = [path.split("/")[:-1] for path in paths]
    n_same = len(posixpath.commonprefix(parents))
    n_same -= bool(folder) and parents[0][:n_same][-1:] == [folder]
    return ["/".join(path.split("/")[n_same:]) for path in paths]


def read_file(opened: Callable[[], BinaryIO], source: str) -> bytes:
    """Return the content of a file that `list_files` found for `source`."""
    try:
        with opened() as stream:
            return stream.read()
    except Exception as error:  # every file system and protocol has errors of its own
        raise _unreadable(error, source, redact(source)) from None


def _files_in(
    system: "AbstractFileSystem", path: str, shown: str, folder: str, endings: Sequence[str]
) -> list[str]:
    """Return the files in the folder `path`, or in its `folder`; there must be one."""
    if not endings:
        raise ValueError(f"{shown} is a folder: name a file in it, or a glob: {shown}/*")
    if folder and system.isdir(f"{path}/{folder}"):
        path, shown = f"{path}/{folder}", f"{shown}/{folder}"
    inside = {item["name"].rstrip("/"): item["type"] for item in system.ls(path, detail=True)}
    files = sorted(name for name, kind in inside.items() if kind == "file")
    found = [name for name in files if name.lower().endswith(tuple(endings))]
    if not found:
        folders = sorted(name.rsplit("/", 1)[-1] for name in inside.keys() - {*files})
        within = f"; it holds the folders {', '.join(folders)}" if folders else ""
        raise ValueError(
            f"no file in the folder {shown} ends in {', '.join(endings)}{within}: name one of them"
        )
    return found


def _name_in(path: str, file: str) -> str:
    """Return what a file is called in the folder `path`, with its folders where `path` is one."""
    within = file.removeprefix(path.rstrip("/") + "/")
    return within if within != file else _base(file)


def _base(file: str) -> str:
    return file.rsplit("/", 1)[-1]


def _places(source: str) -> "list[Path | UPath]":
    """Return where a path is looked for: relative ones in `DATA_DIR`, then in the repository."""
    path = Path(source).expanduser()
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
