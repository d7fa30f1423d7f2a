"""What has changed in the code of a run's notebooks, from one run to another.

Outputs, metadata and what a run puts into a notebook are no code of it.
"""

import difflib
from contextlib import suppress

from lib.ground import outcome
from lib.ground.folder import Run

CELL = "# %%"


def code_changes(a: Run, b: Run) -> dict[str, list[tuple[str, str]] | None]:
    """Return what has changed in the code of every stage, by stage.

    Parameters
    ----------
    a, b : Run

    Returns
    -------
    dict of str to list or None
        Lines as `line_diff` returns them, [] where the code is the same; a line `CELL` begins each
        cell. None where only one of the runs has a notebook that can be read. {} if the runs are of
        different pipelines.
    """
    if a.pipeline != b.pipeline:
        return {}
    one, other = _code(a), _code(b)
    return {
        stage: line_diff(one[stage], other[stage]) if stage in one and stage in other else None
        for stage in sorted({**one, **other})
    }


def line_diff(a: str, b: str) -> list[tuple[str, str]]:
    """Return the lines of a change with some context, each with its sign.

    Returns
    -------
    list of (str, str)
        ``"+"``, ``"-"``, ``" "`` or ``"…"`` (lines left out), and the line.
    """
    lines = difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm="")
    found = [(line[0], line[1:]) for line in list(lines)[2:]]
    return [("…", "") if sign == "@" else (sign, text) for sign, text in found][1:]


def _code(run: Run) -> dict[str, str]:
    """Return the code of the executed notebooks of a run, of those that can be read, by stage."""
    found = {}
    for path in run.path.glob("[0-9]*.ipynb"):
        if "." in path.stem:  # an earlier attempt
            continue
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # the summary names it
            cells = outcome.code(outcome.read_notebook(path))
            found[path.stem] = "\n".join(f"{CELL}\n{source}" for source in cells if source.strip())
    return found
