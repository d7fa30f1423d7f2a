"""The house: wings import one way only, and what is shared knows no pipeline's name."""

import ast
import functools
import graphlib
import re

from lib.ground import layout
from lib.ground.files import ROOT

LIB = ROOT / "lib"
WINGS = (
    "ground",
    "shelf",
    "power",
    "tick",
    "images",
    "lakehouse",
    "registry",
    "pages",
    "once",
    "machine",
    "dag",
    "commands",
)
DATA = ("power", "tick", "images", "lakehouse")  # which do not know each other
BESIDE = "pipelines"  # imports data and registry, and is loaded by name only
MOST_LINES, MOST_FLOORS = 500, 9
EXAMPLES = {"lib.commands.cli", "lib.commands.which"}  # which show commands as one would type them


def modules():
    return sorted(path for path in LIB.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wing_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (LIB / parts[1]).is_dir() else "shelf"


KNOWN = {name_of(path) for path in modules()}


@functools.cache
def nodes_of(path):
    """Return everything in a module's code, from the module itself on."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@functools.cache
def imported(path):
    """Return the modules of lib that a module imports, inside of functions too."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & KNOWN) - {name_of(path), "lib"}


def test_imports_run_one_way():
    for path in modules():
        wing = wing_of(name_of(path))
        if wing == BESIDE:
            continue
        allowed = WINGS[: WINGS.index(wing) + 1]
        if wing in DATA:
            allowed = ("ground", "shelf", wing)
        wrong = {one for one in imported(path) if wing_of(one) not in allowed}
        assert not wrong, f"{name_of(path)} may import {', '.join(allowed)}"


def test_pipelines_are_loaded_by_name_only():
    users = {name_of(p) for p in modules() if any(wing_of(m) == BESIDE for m in imported(p))}
    assert {wing_of(name) for name in users} <= {BESIDE}


def test_there_is_no_circle():
    graphlib.TopologicalSorter({name_of(p): imported(p) for p in modules()}).prepare()


def test_the_house_has_few_floors():
    """A room stands above all that it imports; a wing counts as one room."""

    def room_of(name):
        wing = wing_of(name)
        return name if wing == "shelf" else wing

    below = {}
    for path in modules():
        room = room_of(name_of(path))
        below.setdefault(room, set()).update({room_of(one) for one in imported(path)} - {room})
    floors = {}
    for room in graphlib.TopologicalSorter(below).static_order():
        floors[room] = 1 + max((floors[one] for one in below[room]), default=0)
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_only_one_wing_knows_airflow():
    knowing = {
        name_of(path)
        for path in modules()
        if re.search(r"^\s*(from|import) airflow\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert {wing_of(name) for name in knowing} <= {"dag"}


def words_of(path):
    """Return every name and text of a module's code, docstrings apart, with its line."""
    nodes = nodes_of(path)
    told = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, told) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in nodes:
        if id(node) in docstrings:
            continue
        for field in ("value", "id", "attr", "arg", "name", "module"):
            text = getattr(node, field, None)
            if isinstance(text, str):
                yield getattr(node, "lineno", 0), text


def test_shared_code_knows_no_pipeline_by_name():
    """What one pipeline needs stands in its wing, or in lib/pipelines; examples are no code.

    What `make new` has made may have any name, `scores` too.
    """
    own = LIB / BESIDE
    made = {path.stem for path in own.glob("*.py") if "table_loader(" in path.read_text("utf-8")}
    known = [name for name in layout.pipelines(ending="_register") if name not in made]
    names = re.compile(rf"\b({'|'.join(map(re.escape, known))})\b")
    found = [
        f"{path}, line {line}: {text}"
        for path in modules()
        if wing_of(name_of(path)) not in (*DATA, BESIDE) and name_of(path) not in EXAMPLES
        for line, text in words_of(path)
        if names.search(text)
    ]
    assert not found, "\n".join(found)


def test_no_module_is_too_long():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert not {path: n for path, n in lengths.items() if n > MOST_LINES}
