"""What a stage's results depend on, as far as it is known before the stage runs: its key.

A stage may be taken from an earlier run if both have the same key, and what it read there has the
same digests here (`lib.once.known`): code that is the same, given the same, asks for the same. In
the key are

- the notebook's code cells and the code of `lib/`, and of modules beside it, that they reach, see
  `lib.once.code`;
- the values of the parameters that the notebook declares, but `run_dir`;
- the packages that this code imports, with all that they require, as they are installed; Python;
  and where they compute, the processor's features (`lib.once.environment`); Keras' backend;
- a fingerprint of the data that a parameter names (`lib.once.data`).

Not in it, and so nothing that a stage may depend on: the time of day, other environment variables,
chance without a seed, the number of cores, files that no parameter names, and what a registry or
database says. A stage that reaches `DOOR`, the way to the registry, acts on the outside: it is
taken only where somebody can check what it did (`lib.once.standing`). One whose data may be
another each time has no key at all.
"""

import json
import os
import platform
import time
from collections.abc import Mapping

from lib.ground import layout
from lib.ground.files import ROOT, digest, now, read_sound, state_dir, write_bytes
from lib.ground.folder import Run
from lib.ground.parameters import Value, read_parameters
from lib.once import data, environment
from lib.once.code import Code, code_of
from lib.once.told import shorten

from upath import UPath

KEYS = "keys"  # in the run folder
BACKEND = "KERAS_BACKEND"  # the one variable of the environment that counts
DOOR = "lib.tracking.open_client"
NAMED = {"cells": "cell", "code": "", "parameters": "parameter", "packages": "package"}
NAMED |= {"data": "data of", "machine": ""}


def key_of(pipeline: str, stage: str, values: Mapping[str, Value]) -> dict:
    """Return the key of a stage that is to run with `values`.

    Parameters
    ----------
    pipeline, stage : str
    values : mapping
        Of the parameters of all stages; of those it does not declare, none count.

    Returns
    -------
    dict
        ``key``, a digest, "" where there is none because data may be another each time; ``parts``,
        what it is made of: ``cells`` and by name ``code``, ``parameters``, ``packages``, ``data``
        and ``machine``; ``acts``, whether the stage acts on the outside.
    """
    notebook = layout.notebook(pipeline, stage)
    code = known_code(pipeline, stage)
    declared = read_parameters(notebook)
    own = {name: values[name] for name in declared if name in values and name != "run_dir"}
    return make(code, own, environment.installed())


def make(code: Code, own: Mapping[str, Value], known: environment.Installed) -> dict:
    """Return the key that code, parameters and installed packages make; see `key_of`."""
    backend = os.environ.get(BACKEND, "") if "keras" in code.packages else ""
    packages = environment.versions(code.packages | ({backend} if backend else set()), known)
    machine = {"Python": f"{platform.python_implementation()} {platform.python_version()}"}
    machine |= {BACKEND: backend} if backend else {}
    if processor := environment.machine(packages):
        machine["processor"] = processor
    parts = {
        "cells": code.cells,
        "code": code.reached,
        "parameters": dict(own),
        "packages": packages,
        "data": data.fingerprints(own),
        "machine": machine,
    }
    is_known = not any(one.startswith(data.UNKNOWN) for one in parts["data"].values())
    told = {**parts, "cells": [cell.partition(" ")[0] for cell in code.cells]}
    return {"key": shorten(told) if is_known else "", "parts": parts, "acts": DOOR in code.reached}


def keep(run: Run, stage: str, key: Mapping, why: list[str]) -> None:
    """Leave a stage's key in the run folder, with why the stage was not taken."""
    content = {**key, "why": why, "at": now()}
    write_bytes(run.path / KEYS / f"{stage}.json", json.dumps(content).encode())


def kept(run: Run, stage: str) -> dict:
    """Return what `keep` has left; {} where that is nothing, or damaged."""
    return read_sound(run.path / KEYS / f"{stage}.json")


def differences(before: Mapping, after: Mapping) -> list[str]:
    """Say in which parts two keys differ, a line for each: those of `before`, then of `after`."""
    told = []
    for part, word in NAMED.items():
        old, new = before.get("parts", {}).get(part, {}), after.get("parts", {}).get(part, {})
        if part == "cells":
            told += _cells(old, new)
            continue
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                told.append(
                    _difference(f"{word} {name}".strip(), part, old.get(name), new.get(name))
                )
    return told


def _difference(name: str, part: str, old: object, new: object) -> str:
    if part == "code":
        what = "is new" if old is None else "is used no more" if new is None else "has changed"
        return f"{name} {what}"
    if part == "data":
        is_unknown = str(new).startswith(data.UNKNOWN)
        return f"{name} {f'is {new}' if is_unknown else 'has changed'}"
    if name == "processor":
        return "the processor has other features"
    return f"{name}: {_shown(old)} before, {_shown(new)} now"


def _cells(old: list[str], new: list[str]) -> list[str]:
    """Name the cells that are not among those before, and how many of those are gone."""
    was, has = ([cell.partition(" ")[0] for cell in cells] for cells in (old, new))
    told = [
        f"cell {n} is another: {cell.partition(' ')[2]}"
        for n, cell in enumerate(new, start=2)  # the first holds the parameters
        if cell.partition(" ")[0] not in was
    ]
    gone = [cell for cell in old if cell.partition(" ")[0] not in has]
    if len(gone) > len(told):
        told.append(f"{len(gone) - len(told)} cells are gone: {gone[-1].partition(' ')[2]} …")
    return told or (["the cells are in another order"] if was != has else [])


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)[:60]


def known_code(pipeline: str, stage: str) -> Code:
    """Return a stage's code; as found last, if neither its files nor `lib.once` changed."""
    notebook = layout.notebook(pipeline, stage)
    place = UPath(state_dir() / environment.PLACE / f"{pipeline}--{stage}.json")
    walk = os.walk(ROOT / "lib")  # several times as fast as rglob, and folders do not count
    files = sorted(f"{at}/{name}" for at, _, names in walk for name in names)
    files = [name for name in files if not name.endswith(".pyc")]
    files = shorten([digest(UPath(ROOT / "lib" / "once")), *files])
    try:
        found = json.loads(place.read_text())
        as_then = found["of"] == files and str(notebook) in found["files"]
        if as_then and environment.is_as_seen(found):
            return Code(found["cells"], found["reached"], set(found["packages"]))
    except (OSError, ValueError, KeyError):
        pass
    at = time.time_ns()
    code = code_of(notebook)
    content = {
        **environment.seen(code.files, at),
        "of": files,
        "cells": code.cells,
        "reached": code.reached,
        "packages": sorted(code.packages),
    }
    write_bytes(place, json.dumps(content).encode())
    return code
