"""Scratch files of a stage, kept beside the run as well, so that another machine can go on.

Where runs lie on a remote store, `run.scratch` is a folder of one machine, and a stage that begins
again on another one would start over. While it runs, what changes there is copied to the run
folder, to a place of the attempt's own, and a later attempt elsewhere begins with the copy. It goes
when the stage has ended well. Copies that a stage has fetched to read them go with it.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib.ground.attempts import StageGivenUp
from lib.ground.files import is_local, read_bytes, read_object, write_bytes, write_json
from lib.ground.folder import FETCHED, Run

from upath import UPath

EVERY_S = 20.0
FOLDER = ".scratch"  # in the run folder

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def mirrored(run: Run, stage: str, attempt: Mapping) -> Iterator[None]:
    """Keep the scratch files of a stage beside the run while its block executes it.

    Parameters
    ----------
    run : Run
    stage : str
    attempt : mapping
        Of `lib.ground.attempts.begin`.
    """
    if is_local(run.path):
        yield
        return
    mirror = _Mirror(run.scratch, run.path / FOLDER / stage, stage, attempt)
    mirror.bring()
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(EVERY_S):
            mirror.keep()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    outcome: BaseException | None = None
    try:
        yield
    except BaseException as error:
        outcome = error
        raise
    finally:
        ended.set()
        thread.join()
        shutil.rmtree(run.scratch / FETCHED / stage, ignore_errors=True)
        if outcome is None:
            mirror.forget()
        elif not isinstance(outcome, StageGivenUp):
            mirror.keep()


class _Mirror:
    """The scratch files of an attempt at a stage, here and beside the run."""

    def __init__(self, here: Path, place: UPath, stage: str, attempt: Mapping) -> None:
        self.here, self.place, self.attempt = here, place, attempt
        self.note = UPath(here / f".{stage}.json")
        self.kept: dict[str, list[int]] = {}

    def bring(self) -> None:
        """Begin with what the last attempt has left, if that was on another machine."""
        noted = read_object(self.note)
        self.before = noted.get("before", self._files())  # of the stages before
        tries = self._tries() if self.attempt["number"] > 1 else []
        if tries and tries[-1] != noted.get("attempt"):
            for name in self._files().keys() - self.before.keys():
                (self.here / name).unlink()
            last = self.place / tries[-1]
            for name in last.fs.find(last.path):
                below = name[len(last.path) :].lstrip("/")
                write_bytes(UPath(self.here / below), last.fs.cat_file(name))
            logger.info("scratch files come from attempt %s, on another machine", tries[-1])
        write_json(self.note, {"attempt": self.attempt["id"], "before": self.before})
        self.keep()
        for earlier in tries:
            if earlier != self.attempt["id"]:
                self._remove(self.place / earlier)

    def keep(self) -> None:
        """Copy what has changed here; without S3 later, if it does not answer."""
        try:
            found = self._files()
            for name, state in found.items():
                if state not in (self.kept.get(name), self.before.get(name)):
                    with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
                        data = read_bytes(UPath(self.here / name))
                        write_bytes(self.place / self.attempt["id"] / name, data)
                        self.kept[name] = state
            for name in self.kept.keys() - found.keys():
                self._remove(self.place / self.attempt["id"] / name)
                del self.kept[name]
        except Exception:
            logger.warning("Scratch files could not be kept beside the run", exc_info=True)

    def forget(self) -> None:
        """Remove the copies; the stage is done."""
        self.note.unlink(missing_ok=True)
        if self.kept:
            with contextlib.suppress(OSError):
                self._remove(self.place)

    def _files(self) -> dict[str, list[int]]:
        """Return time and size of every scratch file, by its name below the folder."""
        found = {}
        for path in self.here.rglob("*"):
            below = path.relative_to(self.here)
            if below.parts[0] == FETCHED or any(part.startswith(".") for part in below.parts):
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    state = path.stat()
                    found[str(below)] = [state.st_mtime_ns, state.st_size]
        return found

    def _tries(self) -> list[str]:
        """Return the attempts that have left files, in order."""
        found = self.place.fs.find(self.place.path)
        return sorted({name[len(self.place.path) :].lstrip("/").split("/")[0] for name in found})

    def _remove(self, place: UPath) -> None:
        with contextlib.suppress(FileNotFoundError):
            place.fs.rm(place.path, recursive=True)
