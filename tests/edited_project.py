"""A made-up project of notebooks and a library, to be edited at random and run without kernels.

`Project` is what it means: functions with constants, which call each other in many ways, stages
that call functions, read and write, parameters, packages, data. `write` makes the files of it, and
`execute` runs a stage of these files. `truth` is what a stage's result depends on, by the meaning.
"""

import functools
import json
import random
import sys
import types
from copy import deepcopy
from dataclasses import dataclass, field

STYLES = (
    *("from", "alias", "package", "inside", "default", "table", "method", "getattr"),
    *("decorator", "registry", "star", "named", "dotted"),
)
REGISTERS, OBJECTS = ("decorator", "registry"), ("getattr", "named", "dotted")
PACKAGES = ("pack_a", "pack_b", "pack_c")
MODULES = ("a", "b", "c", "d")
N_FUNCTIONS, N_STAGES = 14, 4
PRIME = 1_000_003


@dataclass
class Function:
    module: str
    name: str
    constant: int
    calls: list[tuple[int, str]]  # which, and how
    package: str = ""
    noise: int = 0


@dataclass
class Stage:
    calls: list[int]
    constants: list[int]
    reads: list[int]  # of earlier stages; the first reads the data
    same: int = 0  # how it is written, not what it does
    noise: int = 0
    cut: int = 1  # of its result, so that another one may have the same bytes


@dataclass
class Project:
    functions: list[Function]
    stages: list[Stage]
    parameters: dict[str, int]
    versions: dict[str, int]
    data: int = 0
    effects: dict[str, int] = field(default_factory=dict)

    @classmethod
    def random(cls, seed):
        dice = random.Random(seed)
        functions = []
        for n in range(N_FUNCTIONS):
            below = dice.sample(range(n), min(n, dice.choice([0, 0, 1, 1, 2])))
            calls = [(one, dice.choice(STYLES)) for one in below]
            package = dice.choice(["", "", *PACKAGES])
            functions.append(Function(MODULES[n * 4 // N_FUNCTIONS], f"f{n}", n, calls, package))
        stages = [
            Stage(
                calls=dice.sample(range(N_FUNCTIONS), 2),
                constants=[k, k + 1],
                reads=sorted(dice.sample(range(k), min(k, dice.choice([1, 1, 2])))),
                cut=dice.choice([1, 1, 50]),
            )
            for k in range(N_STAGES)
        ]
        parameters = {f"p{k}": k for k in range(N_STAGES + 1)}
        effects = dict.fromkeys(MODULES, 0)
        return cls(functions, stages, parameters, dict.fromkeys(PACKAGES, 1), 0, effects)

    def edit(self, seed, before):
        """Change one thing; return what kind of thing."""
        dice = random.Random(seed)
        kind = dice.choice(EDITS)
        one, stage = dice.choice(self.functions), dice.choice(self.stages)
        if kind == "cell":
            stage.constants[dice.randrange(2)] += dice.choice([1, 100])
        elif kind == "cell, same result":
            stage.same += 1
        elif kind == "comment in a cell":
            stage.noise += 1
        elif kind == "function":
            one.constant += 1
        elif kind == "comment in a function":
            one.noise += 1
        elif kind == "parameter":
            self.parameters[dice.choice([*self.parameters])] += 1
        elif kind == "data":
            self.data += 1
        elif kind == "lock":
            self.versions[dice.choice(PACKAGES)] += 1
        elif kind == "rename":
            one.name += "x"
        elif kind == "call":
            n = self.functions.index(one)
            one.calls = [(dice.randrange(n), dice.choice(STYLES))] if n else []
        elif kind == "effect":
            self.effects[dice.choice(MODULES)] += 1
        elif kind == "undo":
            self.__dict__.update(deepcopy(dice.choice(before)).__dict__)
        return kind

    def calls(self, n):
        """Return which functions one calls, and how; within a module in one way alone."""
        module = self.functions[n].module
        return [
            (below, "table" if self.functions[below].module == module else style)
            for below, style in self.functions[n].calls
        ]

    def reached(self, called, blind=()):
        """Return the functions that calling some of them reaches, in order.

        Where one is called in a way that is among `blind`, so is all else of its module.
        """
        found, waiting = set(), list(called)
        while waiting:
            n = waiting.pop()
            if n not in found:
                found.add(n)
                for below, style in self.calls(n):
                    waiting += self.within({self.functions[below].module}) * (style in blind)
                    waiting.append(below)
        return sorted(found)

    def within(self, modules):
        """Return the functions of some modules."""
        return [n for n, function in enumerate(self.functions) if function.module in modules]

    def loaded(self, used):
        """Return the modules that are imported where these functions are."""
        found, waiting = set(), {self.functions[n].module for n in used}
        while waiting:
            module = waiting.pop()
            found.add(module)
            below = {n for one in self.within({module}) for n, _ in self.calls(one)}
            waiting |= {self.functions[n].module for n in below} - found
        return found

    def truth(self, k, inputs):
        """Return what the result of a stage depends on, as far as anybody can demand it.

        No text shows which of the things that importing registers a stage asks for, nor what it
        does with a module that is handed on as an object.
        """
        stage = self.stages[k]
        loaded = self.loaded(self.reached(stage.calls))
        registered = [
            (self.functions[n].name, below, style)
            for n in self.within(loaded)
            for below, style in self.calls(n)
            if style in REGISTERS
        ]
        reached = self.reached([*stage.calls, *(n for _, n, _ in registered)], OBJECTS)
        used = [self.functions[n] for n in reached]
        code = [
            (n, f.module, f.name, f.constant, f.calls) for n, f in zip(reached, used, strict=True)
        ]
        packages = {f.package: self.versions[f.package] for f in used if f.package}
        return json.dumps(
            [
                *(stage.calls, stage.constants, stage.reads, stage.same, stage.cut, code, packages),
                *(self.parameters[f"p{k}"], inputs, self.data if k == 0 else 0),
                *(sorted((m, self.effects[m]) for m in loaded), registered),
            ],
            sort_keys=True,
        )


EDITS = (
    *("cell", "cell, same result", "comment in a cell", "function", "comment in a function"),
    *("parameter", "data", "lock", "rename", "call", "effect", "undo"),
)


def _put(path, text):
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write(project, root):
    """Write the files of a project below `root`, those that are others."""
    package = root / "proj"
    package.mkdir(parents=True, exist_ok=True)
    _put(package / "__init__.py", "")
    register = "def register(f):\n    KNOWN[f.__name__] = f\n    return f\n"
    _put(package / "registry.py", f"KNOWN = {{}}\n\n\n{register}")
    for module in MODULES:
        _put(package / f"{module}.py", _module(project, module))
    for k in range(len(project.stages)):
        _put(root / f"{stage_name(k)}.ipynb", json.dumps(_notebook(project, k)))
    _put(root / "data.txt", str(project.data))


def stage_name(k):
    return f"{k + 1:02}_stage"


def _module(project, module):
    own = [f for f in project.functions if f.module == module]
    head, body = ["from proj.registry import KNOWN, register"], []
    head += [f"import {p}" for p in sorted({f.package for f in own if f.package})]
    for f in own:
        lines, terms = [], [f"x * 31 + {f.constant}"]
        arguments = "x"
        for n, style in f.calls:
            other, here = project.functions[n], project.functions[n].module == module
            name, place = other.name, f"proj.{other.module}"
            if style == "table" or here:
                body.append(f"T_{f.name}_{name} = {{'f': {name}}}")
                head += [] if here else [f"from {place} import {name}"]
                terms.append(f"T_{f.name}_{name}['f'](x)")
            elif style == "from":
                head.append(f"from {place} import {name} as imported_{name}")
                terms.append(f"imported_{name}(x)")
            elif style == "alias":
                head.append(f"import {place} as al_{other.module}")
                terms.append(f"al_{other.module}.{name}(x)")
            elif style == "package":
                head.append(f"from proj import {other.module}")
                terms.append(f"{other.module}.{name}(x)")
            elif style == "dotted":
                head.append(f"import {place}")
                terms.append(f"{place}.{name}(x)")
            elif style == "inside":
                lines.append(f"    from {place} import {name} as inner_{name}")
                terms.append(f"inner_{name}(x)")
            elif style == "default":
                head.append(f"from {place} import {name}")
                arguments += f", g_{name}={name}"
                terms.append(f"g_{name}(x)")
            elif style == "method":
                head.append(f"from {place} import {name}")
                body.append(
                    f"class C_{f.name}_{name}:\n    def m(self, x):\n        return {name}(x)"
                )
                terms.append(f"C_{f.name}_{name}().m(x)")
            elif style == "getattr":
                head.append(f"from proj import {other.module}")
                terms.append(f"getattr({other.module}, '{name[:1]}' + '{name[1:]}')(x)")
            elif style == "decorator":
                head.append(f"from {place} import {name}")
                body.append(f"@register\ndef d_{f.name}_{name}(x):\n    return {name}(x)")
                terms.append(f"KNOWN['d_{f.name}_{name}'](x)")
            elif style == "registry":
                head.append(f"from {place} import {name}")
                body.append(f"KNOWN['r_{f.name}_{name}'] = {name}")
                terms.append(f"KNOWN['r_{f.name}_{name}'](x)")
            elif style == "star":
                head.append(f"from {place} import *")
                terms.append(f"{name}(x)")
            elif style == "named":
                head.append("from importlib import import_module")
                terms.append(f"getattr(import_module('{place}'), '{name}')(x)")
        if f.package:
            terms.append(f"{f.package}.VALUE")
        noise = f'    """Text {f.noise}."""\n    # comment {f.noise}' if f.noise else ""
        calls = "\n".join([*filter(None, [noise]), *lines])
        body.append(
            f"def {f.name}({arguments}):\n{calls}\n    return ({' + '.join(terms)}) % {PRIME}"
        )
    body.append(f"KNOWN['{module}'] = {project.effects[module]}")
    return "\n".join(dict.fromkeys(head)) + "\n\n\n" + "\n\n\n".join(body) + "\n"


def _notebook(project, k):
    stage = project.stages[k]
    functions = [project.functions[n] for n in stage.calls]
    imports = [f"from proj.{f.module} import {f.name}" for f in functions]
    imports += ["from proj.registry import KNOWN"]
    one, other = stage.constants
    reads = [f"read('{stage_name(j)}.json')" for j in stage.reads] or [f"data('data.txt') + {k}"]
    zero = " + ".join(["0"] * (1 + stage.same))
    noise = f"  # remark {stage.noise}" if stage.noise else ""
    cells = [
        f"p{k}: int = {k}  # a parameter",
        "\n".join(imports),
        f"x = {' + '.join(reads)} + p{k} + {one} + {zero}{noise}",
        f"y = {functions[0].name}(x) + {functions[1].name}(x + {other})\n"
        f"y += sum(v for v in KNOWN.values() if isinstance(v, int))",
        f"write('{stage_name(k)}.json', y // {stage.cut} if {stage.cut} == 1 else y % 3)",
    ]
    made = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"] * (n == 0)}, "source": text}
        for n, text in enumerate(cells)
    ]
    text = {"cell_type": "markdown", "metadata": {}, "source": f"Text {stage.noise}"}
    return {"cells": [text, *made], "metadata": {}}


@functools.cache
def compiled(text, file):
    """Return the code of a text, most of which an edit leaves as it was."""
    return compile(text, file, "exec")


def execute(project, root, k, read, write_file):
    """Run the cells of a stage, with the library and the packages as they are now."""
    for name in [name for name in sys.modules if name.split(".")[0] == "proj"]:
        del sys.modules[name]
    for package in PACKAGES:
        module = sys.modules[package] = types.ModuleType(package)
        module.VALUE = project.versions[package]
    loader = _Loader(root)
    sys.meta_path.insert(0, loader)
    try:
        space = {
            "read": read,
            "write": write_file,
            "data": lambda name: int((root / name).read_text()),
            f"p{k}": project.parameters[f"p{k}"],
        }
        notebook = json.loads((root / f"{stage_name(k)}.ipynb").read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code" and not cell["metadata"]["tags"]:
                exec(compiled(cell["source"], "cell"), space)
    finally:
        sys.meta_path.remove(loader)
        for package in PACKAGES:
            del sys.modules[package]


class _Loader:
    """Imports modules of the project from their text, as it is now."""

    def __init__(self, root):
        self.root = root

    def find_spec(self, name, path=None, target=None):
        from importlib.machinery import ModuleSpec

        if name.split(".")[0] != "proj":
            return None
        spec = ModuleSpec(name, self, is_package=name == "proj")
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        parts = module.__name__.split(".")
        file = self.root.joinpath(*parts, "__init__.py") if len(parts) == 1 else None
        file = file or self.root.joinpath(*parts).with_suffix(".py")
        exec(compiled(file.read_text(), str(file)), module.__dict__)
