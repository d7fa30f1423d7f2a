"""The code that a notebook runs: its cells, and what they reach of `lib/`, by their syntax trees.

`code_of` follows every name from the cells to the functions, classes and constants that they use,
and on, in modules beside `lib/` too. Comments, formatting, docstrings and whatever else is never
reached do not count. What importing a module does counts where the module is imported: statements
that are no definition, constants that are computed by a call, unknown decorators, classes that
extend one of the project. Where names do not decide (a module handed on as an object, ``import
a.b``, `eval`, `globals`, a module named by a text), the whole module counts, and where nothing says
which, all of `lib`. Files of `lib` that are no Python count where a text names them, and where they
lie beside a module that says ``__file__`` or below it.
"""

import ast
import builtins
import functools
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib.ground import outcome
from lib.ground.files import ROOT, digest
from lib.once.environment import RECENT_NS, look
from lib.once.told import DEFINITIONS, short, tell

from upath import UPath

HARMLESS = {  # decorators that change nothing but what they decorate
    *("cache", "lru_cache", "contextmanager", "dataclass", "property", "staticmethod"),
    *("classmethod", "wraps", "overload", "total_ordering", "runtime_checkable", "cached_property"),
}
BLIND = {"globals", "eval", "exec", "locals", "vars"}  # see names that no syntax tree shows
IMPORTED = re.compile(r"^\s*(?:import|from|%load_ext)\s+(.+?)(?:\simport\s.*)?$", re.MULTILINE)
FIRST = re.compile(r"(?:^|,)\s*([\w.]+)")
WORD = re.compile(r"[\w./-]{1,200}")  # that may be a file's path
IMPORTERS = {"import_module", "__import__"}
TALKS = "lib.once.inputs"  # to a person alone: no result can depend on it
WHOLE = "*"  # in place of a name: the module with all that it has, bound by its first part
Place = tuple[str, str]  # a module, and a name in it; "" for the module itself, or `WHOLE`


@dataclass
class Code:
    """What a notebook runs.

    Attributes
    ----------
    cells : list of str
        Of every code cell but the parameters: a digest, a space, and its first line.
    reached : dict of str to str
        Digests by name: ``lib.splits.time_split``; a module's own where importing it does
        something, or where it counts as a whole.
    packages : set of str
        What is imported from elsewhere, by its top-level name.
    files : set of Path
        What was read to find this out.
    """

    cells: list[str] = field(default_factory=list)
    reached: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)


def code_of(notebook: Path, root: Path = ROOT, package: str = "lib") -> Code:
    """Return what a notebook runs.

    Parameters
    ----------
    notebook : Path
    root : Path
        The folder that holds the package.
    package : str, default "lib"
        What of all imports is followed.

    Raises
    ------
    SyntaxError
        If a module that is reached cannot be parsed.
    """
    walk = _Walk(root, package, Code(files={notebook}))
    content = outcome.read_notebook(UPath(notebook))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    tags = [set(cell["metadata"].get("tags", ())) for cell in cells]
    own = [
        outcome.source_text(cell).strip()
        for cell, tagged in zip(cells, tags, strict=True)
        if not tagged & {"parameters", "injected-parameters"}
    ]
    body: list[ast.stmt] = []
    for source in own:
        try:
            tree = ast.parse(source).body
            told = tell(tree, docstrings=True, seen=[]) + (";" if source.endswith(";") else "")
        except SyntaxError:  # a magic command of IPython
            tree, told = [], source
            walk.magic(source)
        body += tree
        walk.code.cells.append(f"{short(told)} {source.partition(chr(10))[0][:60]}")
    module = _Module("", body)
    walk.follow(module, _Use(body, module))
    walk.run()
    return walk.code


class _Module:
    """A module's definitions, what it imports, and what importing it does."""

    def __init__(
        self, name: str, body: list[ast.stmt], folder: str = "", *, docstrings: bool = False
    ) -> None:
        self.name, self.folder = name, folder
        self.uses: dict[str, _Use] = {}
        self.symbols: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, list[Place]] = {}
        self.effects: list[ast.stmt] = []
        self.stars: list[str] = []
        self.required: list[str] = []
        self.docstrings = docstrings
        for statement in body:
            self._sort(statement)

    def use(self, name: str) -> "_Use":
        """Return what a definition uses; with "" what importing the module does."""
        if name not in self.uses:
            self.uses[name] = _Use(self.symbols[name] if name else self.effects, self)
        return self.uses[name]

    def _sort(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.If) and _last_name(statement.test) == "TYPE_CHECKING":
            for other in statement.orelse:
                self._sort(other)
            return
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return self._imported(statement)
        nodes = [statement]
        if statement.__class__ not in DEFINITIONS:
            nodes = [*ast.walk(statement)]  # once: it is most of the time of reading a module
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._imported(node)
        for name in _bound(nodes):
            self.symbols.setdefault(name, []).append(statement)
        if not self._is_quiet(statement, nodes):
            self.effects.append(statement)

    def _imported(self, statement: ast.Import | ast.ImportFrom) -> None:
        _bind(self.imports, statement, self.folder)
        self.required += [module for module, _ in _required(statement, self.folder)]
        self.stars += [m for m, name in _required(statement, self.folder) if name == "*"]

    def _is_quiet(self, statement: ast.stmt, nodes: Iterable[ast.AST] = ()) -> bool:
        """Say whether a statement only gives a name to something; `nodes` are all in it."""
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            known = {_last_name(one) for one in statement.decorator_list} <= HARMLESS
            bases = getattr(statement, "bases", [])
            own = {n.id for base in bases for n in ast.walk(base) if isinstance(n, ast.Name)}
            is_own = own & (self.imports.keys() | self.symbols.keys()) - set(dir(builtins))
            foreign = {n for n in is_own if n in self.imports and not self._is_followed(n)}
            inner = statement.body if isinstance(statement, ast.ClassDef) else ()
            told = (ast.Assign, ast.AnnAssign, *DEFINITIONS)
            acts = any(not isinstance(one, told) and not self._is_quiet(one) for one in inner)
            keywords = getattr(statement, "keywords", [])
            return known and not (is_own - foreign or keywords or acts)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            calls = (ast.Call, ast.Await, ast.Yield, ast.NamedExpr)
            return bool(_bound(nodes)) and not any(isinstance(node, calls) for node in nodes)
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        return is_text or type(statement).__name__ in ("Pass", "TypeAlias")

    def _is_followed(self, name: str) -> bool:
        own = self.name.split(".")[0]
        return any(module.split(".")[0] == own for module, _ in self.imports[name])


class _Use:
    """Some statements of a module: a digest, also of what imports bind, and what they use."""

    def __init__(self, statements: list[ast.stmt], module: _Module) -> None:
        nodes: list[ast.AST] = []
        told = tell(statements, docstrings=module.docstrings, seen=nodes)
        self.local: dict[str, list[Place]] = {}
        self.used: dict[str, set[str]] = {}
        self.required: list[str] = []
        self.special: list[ast.AST] = []
        inner = {id(node.value) for node in nodes if node.__class__ is ast.Attribute}
        for node in nodes:
            kind = node.__class__
            if kind is ast.Name:
                if id(node) not in inner:
                    self.used.setdefault(node.id, set()).add("")
                if node.id == "__file__":
                    self.special.append(node)
            elif kind is ast.Attribute:
                if node.value.__class__ is ast.Name:
                    self.used.setdefault(node.value.id, set()).add(node.attr)
            elif kind is ast.Import or kind is ast.ImportFrom:
                _bind(self.local, node, module.folder)
                self.required += [name for name, _ in _required(node, module.folder)]
            elif _may_name(node):
                self.special.append(node)
        bound = {name: module.imports[name] for name in sorted(self.used.keys() & module.imports)}
        self.digest = short(f"{told} {bound} {module.stars}")


def _may_name(node: ast.AST) -> bool:
    """Say whether a node may name a module by a text."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and "." in node.value and " " not in node.value
    if isinstance(node, ast.Call):
        return _last_name(node.func) in IMPORTERS
    return bool(node.elts) and all(isinstance(one, ast.Constant) for one in node.elts)


class _Walk:
    """Goes from a notebook to all that it reaches."""

    def __init__(self, root: Path, package: str, code: Code) -> None:
        self.root, self.package, self.code = root, package, code
        self.seen: set[Place] = set()
        self.imported: set[str] = set()
        self.wanted: list[Place] = []
        self.places: dict[str, Path | None] = {}
        self.modules: dict[str, _Module | None] = {}

    @functools.cached_property
    def others(self) -> dict[str, list[tuple[Path, Path]]]:
        """The files of the package that are no Python, by name, with the folder of their module."""
        found: dict[str, list[tuple[Path, Path]]] = {}
        homes: dict[Path, Path] = {}
        for folder, _, names in os.walk(self.root / self.package):
            place = Path(folder)
            homes[place] = place if "__init__.py" in names else homes.get(place.parent, self.root)
            for name in names:
                if not name.endswith((".py", ".pyc")):
                    found.setdefault(name, []).append((place / name, homes[place]))
        return found

    def run(self) -> None:
        while self.wanted:
            self._reach(*self.wanted.pop())

    def everything(self, below: str = "") -> None:
        """Count all of the package, or of one in it: what is used cannot be told."""
        for path in self.root.joinpath(*(below or self.package).split(".")).rglob("*.py"):
            parts = path.relative_to(self.root).with_suffix("").parts
            self._want(".".join(parts[:-1] if parts[-1] == "__init__" else parts), "")

    def magic(self, source: str) -> None:
        """Count all of the package, and what a cell that is no plain Python imports or names."""
        self.everything()
        for names in IMPORTED.findall(source):
            for name in FIRST.findall(names):
                self._through((name, ""), {""})
        named = (self.root / word for word in WORD.findall(source))
        self._count(file for file in named if os.access(file, os.R_OK) and file.is_file())

    def follow(self, module: _Module, use: _Use) -> None:
        """Note what some statements of a module use."""
        for name in use.required:
            self._import(name)
            if not self._is_own(name):
                self.code.packages.add(name.split(".")[0])
        for name, attributes in use.used.items():
            for place in [*use.local.get(name, ()), *module.imports.get(name, ())]:
                self._through(place, attributes)
            for place in self._offered(module, name):
                self._through(place, {""})
            if name in module.symbols and module.name:
                self._want(module.name, name)
            if name in BLIND and module.name:
                self._want(module.name, "")
        if "modules" in use.used.get("sys", ()) and "__name__" in use.used and module.name:
            self._want(module.name, "")
        for node in use.special:
            self._look_through(module, node)

    def _look_through(self, module: _Module, node: ast.AST) -> None:
        """Note modules and files that are named by a text, and files beside a module."""
        if isinstance(node, ast.Call) and _last_name(node.func) in IMPORTERS:
            self._imported_by_name(node.args[0] if node.args else None)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            named = [self._module_named(e.value) for e in node.elts if isinstance(e.value, str)]
            if all(named) and len(named) == len(node.elts):
                for name in named:
                    self._want(name, "")
        elif isinstance(node, ast.Constant):
            for text in (node.value, node.value.rpartition(".")[0]):
                if "." in text and (name := self._module_named(text)):
                    self._want(name, "")
            self._count(path for path, _ in self.others.get(node.value.rpartition("/")[2], ()))
        elif isinstance(node, ast.Name) and node.id == "__file__" and module.name:
            folder = self.root.joinpath(*module.folder.split("."))
            files = (path for path in folder.iterdir() if path.is_file())
            self._count(path for path in files if path.suffix != ".py")
            others = (one for same in self.others.values() for one in same)
            self._count(path for path, home in others if home == folder)

    def _count(self, files: Iterable[Path]) -> None:
        """Note files by what they hold."""
        for path in files:
            self.code.files.add(path)
            name = str(path).removeprefix(f"{self.root}/")
            self.code.reached[name] = digest(UPath(path))[:16]

    def _imported_by_name(self, argument: ast.expr | None) -> None:
        is_whole = isinstance(argument, ast.Constant)
        first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
        text = first.value if isinstance(first, ast.Constant) else ""
        if is_whole and text.split(".")[0] == self.package and self._file(text):
            self._want(text, "")
        elif is_whole and not text.startswith("."):
            self.code.packages.add(text.split(".")[0])
        else:
            is_below = text.startswith(f"{self.package}.") and text.endswith(".")
            self.everything(text[:-1] if is_below else "")

    def _module_named(self, text: str) -> str:
        """Return the module of the package that a text names, with or without it; "" if none."""
        if not all(part.isidentifier() for part in text.split(".")):
            return ""
        full = text if text.startswith(f"{self.package}.") else f"{self.package}.{text}"
        return full if self._file(full) else ""

    def _through(self, place: Place, attributes: set[str]) -> None:
        """Note what is used of an imported thing: these of its attributes; "" for the thing."""
        module, name = place
        if not self._is_own(module, name):
            self.code.packages.add(module.split(".")[0])
            return
        if name == WHOLE:
            if attributes & {"", module.split(".")[1]}:
                self._want(module, "")
            return
        inner = f"{module}.{name}" if name else module
        if name and not self._file(inner):
            self._want(module, name)
            return
        for attribute in attributes:  # of a module
            self._want(inner, attribute)

    def _offered(self, module: _Module, name: str) -> list[Place]:
        """Return where a name may come from that a module has by ``import *``."""
        stars = [*module.stars]
        for star in stars:  # which grows
            other = self._module(star)
            stars += [one for one in (other.stars if other else ()) if one not in stars]
        modules = {star: self._module(star) for star in stars}
        return [
            (star, name)
            for star, other in modules.items()
            if other is None or name in other.symbols or name in other.imports
        ]

    def _want(self, module: str, name: str) -> None:
        if (module, name) not in self.seen and module != TALKS:
            self.seen.add((module, name))
            self.wanted.append((module, name))

    def _reach(self, module_name: str, name: str) -> None:
        module = self._module(module_name)
        if module is None:
            return
        self._import(module_name)
        for place in module.imports.get(name, ()):
            self._through(place, {""})
            self.code.reached[f"{module_name}.{name}"] = short(f"{module.imports[name]}")
        if name in module.symbols:
            use = module.use(name)
            self.code.reached[f"{module_name}.{name}"] = use.digest
            self.follow(module, use)
        elif name in module.imports:
            return
        elif name and self._file(f"{module_name}.{name}"):
            self._want(f"{module_name}.{name}", "")
        elif name and (offered := self._offered(module, name)):
            for place in offered:
                self._through(place, {""})
        else:
            for symbol in module.symbols:
                self._want(module_name, symbol)
            imported = [place for places in module.imports.values() for place in places]
            for place in [*imported, *((star, "") for star in module.stars)]:
                self._through(place, {""})

    def _import(self, name: str) -> None:
        """Note what importing a module does, and that of all that it imports."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self.imported or (module := self._module(name)) is None:
                continue
            self.imported.add(name)
            parents = name.split(".")
            waiting += [".".join(parents[:n]) for n in range(1, len(parents))] + module.required
            if module.effects:
                use = module.use("")
                self.code.reached[name] = use.digest
                self.follow(module, use)

    def _file(self, module: str) -> Path | None:
        if module not in self.places:
            path = f"{self.root}/{module.replace('.', '/')}"
            options = (Path(f"{path}.py"), Path(f"{path}/__init__.py"))
            self.places[module] = next((option for option in options if option.exists()), None)
        return self.places[module]

    def _is_own(self, module: str, name: str = "") -> bool:
        """Say whether a module lies here, in the package or beside it."""
        return any(map(self._file, (module.split(".")[0], module, f"{module}.{name}")))

    def _module(self, name: str) -> _Module | None:
        if name not in self.modules:
            self.modules[name] = None
            if file := self._file(name):
                self.code.files.add(file)
                seen = look(file)
                is_new = time.time_ns() - max(seen[:2]) < RECENT_NS
                parse = _parsed.__wrapped__ if is_new else _parsed
                self.modules[name] = parse(name, file, *seen)
        return self.modules[name]


@functools.lru_cache(maxsize=1024)
def _parsed(name: str, file: Path, *_seen: int) -> _Module:
    folder = name if file.name == "__init__.py" else name.rpartition(".")[0]
    text = file.read_bytes()
    return _Module(name, ast.parse(text).body, folder, docstrings=b"__doc__" in text)


def _bound(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the names that a statement at the top of a module, of these nodes, gives a meaning."""
    found = []
    for node in nodes:
        if node.__class__ in DEFINITIONS:
            found.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.append(node.id)
    return list(dict.fromkeys(found))


def _required(node: ast.Import | ast.ImportFrom, folder: str) -> list[Place]:
    """Return the modules that an import statement loads, with what it wants of them."""
    if isinstance(node, ast.Import):
        return [(alias.name, "") for alias in node.names]
    above = folder.split(".")[: len(folder.split(".")) + 1 - node.level] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [(base, a.name) for a in node.names] + [(f"{base}.{a.name}", "") for a in node.names]


def _bind(known: dict[str, list[Place]], node: ast.Import | ast.ImportFrom, folder: str) -> None:
    """Add what an import statement binds to what is known, by name.

    One name may stand for several: as an ``except ImportError`` gives it, or where `import a.b` and
    `import a.c` bind `a`. Of these, `a.b` counts as a whole where `a.b` or `a` alone is used.
    """
    for alias, place in zip(node.names, _required(node, folder), strict=False):
        if alias.name == "*":
            continue
        first, dot, _ = alias.name.partition(".")
        if isinstance(node, ast.Import) and dot and not alias.asname:
            known.setdefault(first, []).extend([(first, ""), (alias.name, WHOLE)])
        else:
            known.setdefault(alias.asname or alias.name, []).append(place)


def _last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, of a call's too; "" of anything else."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    return getattr(node, "attr", getattr(node, "id", ""))
