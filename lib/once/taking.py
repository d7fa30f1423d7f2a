"""Take a stage over from a run that has done it: files, executed notebook, page and record.

Files are hard links where the file system has them, else copies; on a remote one it copies by
itself. They are compared with their digests after they have arrived and before the record, which
comes last, lets anybody read them. What is not whole is not taken, and nothing of it is left.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lib.ground import outcome
from lib.ground.files import copy, digest, files_in, is_local, look_into, now, put, write_json
from lib.ground.folder import RECORDS, Run
from lib.ground.handover import TAKEN

from upath import UPath

ASKED = "as_asked"  # in a stage's record: taken though something may have changed


def take(origin: Run, target: Run, stage: str, *, as_asked: bool = False) -> dict:
    """Take a stage over; return its record as it stands in `target` now, {} where it cannot be.

    Parameters
    ----------
    origin : Run
        Where the stage has finished. It is only read; it may be `target` itself, where the stage
        stays as it is if it is whole.
    target : Run
    stage : str
    as_asked : bool, default False
        Whether somebody wants it whatever has changed, which the record keeps.
    """
    try:
        with look_into(origin.path), look_into(target.path):
            return _take(origin, target, stage, as_asked=as_asked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # pruned meanwhile, or damaged


def _take(origin: Run, target: Run, stage: str, *, as_asked: bool) -> dict:
    record = origin.record(stage)
    notebook = outcome.read_notebook(origin.path / f"{stage}.ipynb")
    is_done = record["state"] == "finished" and outcome.state(notebook) == "completed"
    names = sorted(record["writes"])
    if not is_done:
        return {}
    if origin.run_dir == target.run_dir:
        is_whole = all(digest(target.path / name) == record["writes"][name] for name in names)
        return record if is_whole else {}
    with _arriving(origin, target, names) as arrived:
        if any(digest(arrived[name]) != record["writes"][name] for name in names):
            return {}
        for name in names:
            if arrived[name] != target.path / name:
                put(Path(arrived[name].path), target.path / name)
        source = record.get(TAKEN, origin.run_dir)
        executed = record["finished"]
        up = "../" * target.run_dir.count("/")
        link = f"{up}{source.partition('/')[2]}/{stage}.html"
        _write_report(notebook, target.path / f"{stage}.ipynb", source, executed, link)
        values = record["parameters"] | (
            {"run_dir": target.run_dir} if "run_dir" in record["parameters"] else {}
        )
        taken = {TAKEN: source, "taken": now(), "parameters": values, ASKED: as_asked}
        write_json(target.path / RECORDS / f"{stage}.json", record | taken)
        arrived.clear()  # they stay
    return record | taken


def words(record: dict) -> str:
    """Say where a taken stage comes from."""
    moment = datetime.fromisoformat(record["finished"]).astimezone(UTC)
    return f"taken from {record[TAKEN]}, executed at {moment:%Y-%m-%d %H:%M:%S} UTC"


@contextlib.contextmanager
def _arriving(origin: Run, target: Run, names: list[str]) -> Iterator[dict[str, UPath]]:
    """Give links or copies of files, by name; what still is in the dictionary goes at the end."""
    if is_local(target.path) and is_local(origin.path):
        target.path.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".taking-", dir=target.path.path))
        try:
            for name in names:
                _link(origin.path / name, folder / name)
            yield {name: UPath(folder / name) for name in names}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    arrived = {name: target.path / name for name in names}
    try:
        for name in names:
            copy(origin.path / name, arrived[name])
        yield arrived
    finally:
        for path in arrived.values():
            if path.exists():
                path.fs.rm(path.path, recursive=True)


def _link(source: UPath, place: Path) -> None:
    for file in files_in(source):
        below = file.path[len(source.path) :].lstrip("/")
        target = place / below if below else place
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.path, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file.path, target)


def _write_report(notebook: dict, place: UPath, source: str, executed: str, link: str) -> None:
    """Write an executed notebook that says where it was executed, and its page."""
    from lib.pages import notebook as reports

    told = words({TAKEN: source, "finished": executed})
    text = f"Not executed here: {told}. [The original]({link})"
    notebook["cells"] = [cell for cell in notebook["cells"] if cell.get("id") != "taken"]
    notebook["cells"].insert(0, outcome.marker("taken", text))
    outcome.write_notebook(place, notebook)
    reports.write_html(place)
