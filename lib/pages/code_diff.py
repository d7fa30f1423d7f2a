"""What has changed in the code cells of a notebook, from one run to another.

Outputs, metadata and what a run puts into a notebook are no code of it.
"""

import difflib
from collections.abc import Mapping

from lib.ground import outcome
from lib.ground.folder import Run

CONTEXT_LINES = 3


def code_changes(a: Run, b: Run) -> dict[str, list[dict] | str]:
    """Return what has changed in the code cells of every stage, by stage.

    Parameters
    ----------
    a, b : Run

    Returns
    -------
    dict of str to list or str
        What `cell_changes` returns, [] where the code is the same; a sentence where a stage
        cannot be compared. {} if the runs are of different pipelines.
    """
    if a.pipeline != b.pipeline:
        return {}
    found: dict[str, list[dict] | str] = {}
    one, other = _notebooks(a), _notebooks(b)
    for stage in sorted({**one, **other}):
        pair = one.get(stage), other.get(stage)
        if None not in pair:
            found[stage] = cell_changes(*pair)
        else:
            lacking = [name for name, half in zip("AB", pair, strict=True) if half is None]
            found[stage] = f"no readable notebook in {' and '.join(lacking)}"
    return found


def cell_changes(a: Mapping, b: Mapping) -> list[dict]:
    """Return the code cells that differ between two notebooks, outputs and metadata aside.

    Cells that report a failure or carry the injected parameters are no code of the notebook.

    Parameters
    ----------
    a, b : mapping
        Notebooks of nbformat 4 as JSON.

    Returns
    -------
    list of dict
        In order: ``change`` (``changed``, ``added`` or ``removed``), ``cell`` (number in B, in A
        if removed; from 1, markdown counted) and ``lines`` as `line_diff` returns them.
    """
    from nbdime import diff_notebooks

    one, other = _code_cells(a), _code_cells(b)
    ops = diff_notebooks(_bare(one), _bare(other))
    cells = next((op["diff"] for op in ops if op["key"] == "cells"), [])
    found = []
    shift = 0  # of the position in B against that in A
    for op in cells:
        at = op["key"]
        if op["op"] == "addrange":
            for number, source in other[at + shift : at + shift + len(op["valuelist"])]:
                found.append(_change("added", number, "", source))
            shift += len(op["valuelist"])
        elif op["op"] == "removerange":
            for number, source in one[at : at + op["length"]]:
                found.append(_change("removed", number, source, ""))
            shift -= op["length"]
        elif one[at][1] != other[at + shift][1]:
            number, source = other[at + shift]
            found.append(_change("changed", number, one[at][1], source))
    return found


def line_diff(a: str, b: str) -> list[tuple[str, str]]:
    """Return the lines of a change with some context, each with its sign.

    Returns
    -------
    list of (str, str)
        ``"+"``, ``"-"``, ``" "`` or ``"…"`` (lines left out), and the line.
    """
    lines = difflib.unified_diff(a.splitlines(), b.splitlines(), n=CONTEXT_LINES, lineterm="")
    found = [(line[0], line[1:]) for line in list(lines)[2:]]
    return [("…", "") if sign == "@" else (sign, text) for sign, text in found][1:]


def _notebooks(run: Run) -> dict[str, dict | None]:
    """Return the executed notebooks of a run by stage; None for one that cannot be read."""
    found: dict[str, dict | None] = {}
    for path in run.path.glob("[0-9]*.ipynb"):
        if "." in path.stem:  # an earlier attempt
            continue
        try:
            notebook = outcome.read_notebook(path)
            found[path.stem] = notebook if isinstance(notebook.get("cells"), list) else None
        except (ValueError, AttributeError):
            found[path.stem] = None
    return found


def _code_cells(notebook: Mapping) -> list[tuple[int, str]]:
    """Return number and source of every code cell that is the notebook's own and not empty."""
    own = [
        cell
        for cell in notebook["cells"]
        if not outcome.is_marker(cell)
        and "injected-parameters" not in cell.get("metadata", {}).get("tags", [])
    ]
    code = [(i, outcome.source_text(c)) for i, c in enumerate(own, 1) if c["cell_type"] == "code"]
    return [(number, source) for number, source in code if source.strip()]


def _bare(cells: list[tuple[int, str]]) -> dict:
    """Return a notebook of nothing but the sources of `cells`."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**empty, "source": source} for _, source in cells]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def _change(change: str, number: int, a: str, b: str) -> dict:
    return {"change": change, "cell": number, "lines": line_diff(a, b)}
