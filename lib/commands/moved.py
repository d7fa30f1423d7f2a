"""What the code of an older notebook asks of `lib` that is not there any more.

Nothing is imported for it: the code and the modules of `lib` are read as text.
"""

import ast
import symtable
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lib.ground.files import ROOT


def moved_names(cells: Iterable[str]) -> list[str]:
    """Return what cells import from `lib`, or use of its modules, and `lib` has no more.

    Parameters
    ----------
    cells : iterable of str
        The code of a notebook. A cell that is no plain Python is left out.

    Returns
    -------
    list of str
        ``lib.registry.register`` for example, in order, each once.
    """
    modules: dict[str, str] = {}  # of `lib`, by the names that they have in the notebook
    gone: dict[str, None] = {}
    for node in _nodes(cells):
        asked = []
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module):
            asked = [(node.module, name.name, name.asname or name.name) for name in node.names]
        elif isinstance(node, ast.Import):
            ours = [name for name in node.names if _is_ours(name.name)]
            asked = [(*name.name.rpartition(".")[::2], name.asname or "") for name in ours]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules:
                asked = [(modules[node.value.id], node.attr, "")]
        for module, name, known_as in asked:
            whole = f"{module}.{name}".lstrip(".")
            if not _has(module, name):
                gone[whole] = None
            elif _place(whole) and known_as:
                modules[known_as] = whole
    return list(gone)


def _nodes(cells: Iterable[str]) -> Iterator[ast.AST]:
    """Yield what the cells hold, in order, imports and uses alike."""
    for text in cells:
        try:
            yield from ast.walk(ast.parse(text))
        except SyntaxError:  # a line for IPython, as %time
            continue


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "lib"


def _has(module: str, name: str) -> bool:
    """Say whether a module of `lib` has a name, or a package a module of that name."""
    if _place(f"{module}.{name}".lstrip(".")):
        return True
    place = _place(module)
    return place is not None and place.is_file() and name in _defined(place)


def _place(module: str) -> Path | None:
    """Return where a module is, a file or a folder; None if there is none."""
    place = ROOT / module.replace(".", "/")
    return next((path for path in (place.with_suffix(".py"), place) if path.exists()), None)


@cache
def _defined(file: Path) -> set[str]:
    """Return what the top level of a module assigns, defines or imports."""
    table = symtable.symtable(file.read_text(encoding="utf-8"), str(file), "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
