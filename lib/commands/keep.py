"""A change made in an opened stage, brought back into the committed notebook.

`keep` shows what would change in `notebooks/<pipeline>/<stage>.ipynb`, cell by cell, and writes it
only after a yes. What opening has put in (parameters of the run, note, marks) stays out. Whoever
has changed the committed notebook since keeps their changes: both are merged, and where both have
changed the same lines nothing is written.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from lib.commands.workbench import WORKBENCH, bare
from lib.ground import layout, outcome
from lib.ground.console import say
from lib.ground.files import ROOT, write_bytes
from lib.ground.parameters import declared_in
from lib.once.choice import LATEST
from lib.run import OPENED, open_run

import nbformat
from upath import UPath


@dataclass(frozen=True)
class Proposal:
    """What bringing back an opened notebook comes to; made by `propose`.

    Attributes
    ----------
    target : Path
        The committed notebook.
    text : str
        What it holds now.
    before, after : dict
        It as it is, and as it would be, see `bare`.
    base : UPath
        Where it stands what the opened notebook and the committed one have in common.
    edited : dict
        The opened notebook, bare.
    """

    target: Path
    text: str
    before: dict
    after: dict
    base: UPath
    edited: dict


def main(notebook: str, *, apply: bool) -> None:
    """Show what an opened notebook would change, ask, and write it.

    Parameters
    ----------
    notebook : str
        A notebook below `workbench/`, or ``latest`` or "" for the one that was saved last.
    apply : bool
        Whether to write without asking, as where nobody can be asked.

    Raises
    ------
    ValueError
        As `propose` and `write`.
    """
    path = find(notebook)
    found = propose(path)
    opened, name = path.relative_to(ROOT), f"notebooks/{'/'.join(found.target.parts[-2:])}"
    if found.before == found.after:
        say(f"nothing to keep: {opened}, as it was saved, has nothing that {name} has not")
        return
    say(f"{opened} would change {name}:\n")
    show(found.before, found.after)
    if not apply and not sys.stdin.isatty():
        say("\nnothing was written; APPLY=1 writes it")
        return
    if not apply:
        say(f"\nWrite this into {name}? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing was written")
            return
    keeps_outputs = write(found)
    say(f"\nwritten   {name}")
    if not keeps_outputs:
        pipeline = found.target.parent.name
        say(f"next      make notebooks PIPELINE={pipeline}, which makes its outputs anew: they are")
        say("          cleared, as its code has changed")


def find(notebook: str) -> Path:
    """Return the path of an opened notebook.

    Raises
    ------
    ValueError
        If there is none.
    """
    saved = sorted((ROOT / WORKBENCH).glob("*/*.ipynb"), key=lambda path: -path.stat().st_mtime)
    if notebook in ("", LATEST):
        opened = (p for p in saved if OPENED in outcome.read_notebook(UPath(p))["metadata"])
        if found := next(opened, None):
            return found
        raise ValueError(f"no opened stage below {WORKBENCH}/: make open first")
    path = ROOT / notebook
    if not path.is_file():
        known = ", ".join(str(one.relative_to(ROOT)) for one in saved[:3]) or "none"
        raise ValueError(f"no notebook {notebook}; the last saved below {WORKBENCH}/: {known}")
    return path


def propose(path: Path) -> Proposal:
    """Return what the committed notebook of an opened one would become.

    Raises
    ------
    ValueError
        If the notebook was not opened from a run, its copy or the committed notebook is gone, both
        have changed the same lines, or its parameters cell is malformed.
    """
    opened = outcome.read_notebook(UPath(path))
    origin = opened["metadata"].get(OPENED, {})
    if not {"run_dir", "stage"} <= origin.keys():
        raise ValueError(f"{path} does not say what it was opened from; open the stage anew")
    copy, stage = open_run(origin["run_dir"]), origin["stage"]
    target = layout.notebook(copy.pipeline, stage)
    base = copy.path / OPENED / f"{stage}.ipynb"
    for needed, what in ((base, "the notebook as it was opened"), (target, "the notebook")):
        if not needed.exists():
            raise ValueError(f"{path.name} cannot be kept: {what} is gone, {needed}")
    text = target.read_text(encoding="utf-8")
    before = bare(outcome.read_notebook(UPath(target)), copy.pipeline)
    common = bare(outcome.read_notebook(base), copy.pipeline)
    edited = bare(opened, copy.pipeline)
    after = edited if before == common else _merge(common, before, edited, target)
    declared_in(after["cells"], str(path))  # one cell that the rest of the project can read
    return Proposal(target, text, before, after, base, edited)


def show(before: Mapping, after: Mapping) -> None:
    """Print how two bare notebooks differ, cell by cell, in colours on a terminal."""
    from nbdime import diff_notebooks
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_diff

    one, other = map(nbformat.from_dict, (before, after))
    config = PrettyPrintConfig(sys.stdout, use_color=sys.stdout.isatty())
    pretty_print_diff(one, diff_notebooks(one, other), "", config)


def write(found: Proposal) -> bool:
    """Write the committed notebook, whole or not at all; say whether it keeps its outputs.

    It does where no code has changed. From then on it is what later changes are told from.

    Raises
    ------
    ValueError
        If somebody has changed it since `found` was made.
    """
    if found.target.read_text(encoding="utf-8") != found.text:
        raise ValueError(
            f"{found.target.name} was changed just now; nothing was written, try again"
        )
    notebook = nbformat.reads(found.text, as_version=4)
    is_run = _code(found.before) == _code(found.after)
    run = {cell.id: cell for cell in notebook.cells if is_run and cell.cell_type == "code"}
    notebook.cells = [run.get(c["id"]) or nbformat.from_dict(c) for c in found.after["cells"]]
    nbformat.validate(notebook)
    write_bytes(UPath(found.target), f"{nbformat.writes(notebook)}\n".encode())
    outcome.write_notebook(found.base, found.edited)
    return is_run


def _merge(common: dict, committed: dict, edited: dict, target: Path) -> dict:
    """Return the changes of both since what they have in common, or say where they collide."""
    from nbdime.merging.notebooks import merge_notebooks

    options = SimpleNamespace(log_level="WARNING", ignore_transients=True)
    options.merge_strategy = "mergetool"  # leaves conflicts open
    options.input_strategy = options.output_strategy = None
    three = [nbformat.from_dict(notebook) for notebook in (common, committed, edited)]
    merged, decisions = merge_notebooks(*three, options)
    paths = ["/".join(map(str, one.common_path)) for one in decisions if one.conflict]
    if paths:
        raise ValueError(
            f"notebooks/{target.parent.name}/{target.name} has changed since the stage was opened, "
            f"in the same place as the opened notebook: {', '.join(paths)}. Nothing was written. "
            "Make your change there by hand, or open the stage anew"
        )
    return bare(merged, target.parent.name)


def _code(notebook: Mapping) -> Sequence[tuple[str, str, Mapping]]:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [(cell["id"], cell["source"], cell["metadata"]) for cell in code]
