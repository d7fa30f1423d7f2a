"""What an executed notebook says about its own execution, and how to make it say the truth.

A notebook that did not run to its end says so itself: the cell that was running is `failed` and
ends in an `error` output with the reason, earlier cells are `completed`, later cells are `pending`
and empty, and a first cell gives reason, place and time. The same functions serve the executor, and
the watcher that finishes the report of a killed executor, so they need the standard library only
(and universal-pathlib for remote folders).
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from lib.ground.files import write_bytes

from upath import UPath

MARKER_TAG = "papermill-error-cell-tag"  # papermill removes cells with it when it runs them again
ANCHOR = "papermill-error-cell"
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TRACEBACK_LINES = 12


def read_notebook(path: UPath) -> dict:
    """Read a notebook as plain JSON; nothing is validated or upgraded."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_notebook(path: UPath, notebook: Mapping) -> None:
    """Write `notebook` to `path` as JSON, whole or not at all."""
    write_bytes(path, encoded(notebook))


def encoded(notebook: Mapping) -> bytes:
    """Return `notebook` as the bytes of its file."""
    text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)
    return (text + "\n").encode()


def is_marker(cell: Mapping) -> bool:
    """Say whether `cell` was added to report a failure and is not part of the notebook."""
    return MARKER_TAG in cell.get("metadata", {}).get("tags", [])


def state(notebook: Mapping) -> str:
    """Return how far an executed notebook came.

    Returns
    -------
    str
        ``"failed"``, ``"completed"``, ``"running"`` (or cut off: no end time was ever written) or
        ``"not executed"``.
    """
    record = notebook["metadata"].get("papermill", {})
    if record.get("exception"):
        return "failed"
    if record.get("end_time"):
        return "completed"
    return "running" if record.get("start_time") else "not executed"


def running_cell(notebook: Mapping) -> int | None:
    """Return the index of the code cell marked as running, or None between cells."""
    for index, cell in enumerate(notebook["cells"]):
        if cell["metadata"].get("papermill", {}).get("status") == "running":
            return index
    return None


def source_text(cell: Mapping) -> str:
    """Return the source of `cell`, which a notebook file stores as text or as a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def code(notebook: Mapping) -> list[str]:
    """Return the code of a notebook by cell, without what a run has put in."""
    return [
        source_text(cell)
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def clip(text: str, n_lines: int = TRACEBACK_LINES) -> str:
    """Return the last `n_lines` lines of `text`, without terminal colours."""
    return "\n".join(ANSI.sub("", text).rstrip().splitlines()[-n_lines:])


def mark_failed(
    notebook: dict,
    index: int | None,
    ename: str,
    reason: str,
    *,
    at: datetime | None = None,
    started: str | None = None,
) -> None:
    """Make `notebook` tell that its execution ended in cell `index`, for `reason`.

    Changes `notebook` itself. Calling it twice leaves one report, the later one.

    Parameters
    ----------
    notebook : dict
        An executed notebook (nbformat 4), as papermill keeps it: ``metadata.papermill`` in the
        notebook and in every cell.
    index : int or None
        Cell that was running, counted without earlier failure reports. None if no cell was.
    ename, reason : str
        Name of the error, and the reason in plain words.
    at : datetime, optional
        When it ended, with time zone; now by default.
    started : str, optional
        When the cell began (ISO 8601), where the notebook does not know yet.
    """
    at = at or datetime.now(UTC)
    cells = notebook["cells"] = [cell for cell in notebook["cells"] if not is_marker(cell)]
    for number, cell in enumerate(cells):
        if index is not None and number < index:
            cell["metadata"].setdefault("papermill", {}).update(status="completed", exception=False)
        elif index is None and cell["metadata"].get("papermill", {}).get("status") == "completed":
            continue
        elif number != index:
            _reset(cell)
    if index is not None:
        _fail(cells[index], ename, reason, at, started)

    record = notebook["metadata"].setdefault("papermill", {})
    seconds = _seconds(record.get("start_time"), at)
    record.update(exception=True, end_time=at.isoformat(), duration=seconds)
    text = _report(cells, index, ename, reason, at, seconds)
    if index is not None:
        anchor = f'<span id="{ANCHOR}">Execution stopped in the next cell.</span>'
        cells.insert(index, marker("failed-cell", anchor))
    cells.insert(0, marker("execution-failed", text))


def _reset(cell: dict) -> None:
    unknown = dict.fromkeys(("duration", "end_time", "exception", "start_time"))
    cell["metadata"]["papermill"] = unknown | {"status": "pending"}
    if cell["cell_type"] == "code":
        cell["outputs"] = []
        cell["execution_count"] = None


def _fail(cell: dict, ename: str, reason: str, at: datetime, started: str | None) -> None:
    record = cell["metadata"].setdefault("papermill", {})
    begun = record.get("start_time") or started
    facts = {"start_time": begun, "end_time": at.isoformat(), "duration": _seconds(begun, at)}
    record.update(facts, status="failed", exception=True)
    if cell["cell_type"] != "code":
        return
    last = cell["outputs"][-1] if cell["outputs"] else {}
    if last.get("output_type") != "error" or last.get("ename") != ename:
        line = f"{ename}: {reason}"
        cell["outputs"].append(
            {"output_type": "error", "ename": ename, "evalue": reason, "traceback": [line]}
        )


def _seconds(start: str | None, end: datetime) -> float | None:
    if not start:
        return None
    return round((end - datetime.fromisoformat(start)).total_seconds(), 6)


def marker(identity: str, text: str) -> dict:
    """Return a cell that says something about a notebook and is no part of it, see `is_marker`."""
    head = {"cell_type": "markdown", "id": identity, "metadata": {"tags": [MARKER_TAG]}}
    return head | {"source": text}


def _report(
    cells: list, index: int | None, ename: str, reason: str, at: datetime, seconds: float | None
) -> str:
    when = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    after = "" if seconds is None else f", {seconds:.1f} s after the start"
    where = "outside of any cell"
    if index is not None:
        count = cells[index].get("execution_count")
        prompt = f" (`In [{count}]`)" if count else ""
        where = f"in [cell {index + 1} of {len(cells)}](#{ANCHOR}){prompt}"
    text = clip(f"{ename}: {reason}")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, 1 + longest)
    return f"**Execution failed** {where}, {when}{after}.\n\n{fence}text\n{text}\n{fence}"
