"""Statements as texts that formatting does not change, and short digests."""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping

UNTOLD = {"kind", "type_comment", "ctx"}  # of a node
NAMING = {ast.Import, ast.ImportFrom, ast.Attribute, ast.Name, ast.Call, ast.Constant}
NAMING |= {ast.List, ast.Tuple, ast.Set}  # kinds of nodes that may name something
DEFINITIONS = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef}


def tell(statements: Iterable[ast.stmt], *, docstrings: bool, seen: list[ast.AST]) -> str:
    """Return statements as a text that formatting and, if wanted, docstrings do not change.

    Those of their nodes that may name something are added to `seen`: a second walk takes as long.
    """
    texts = []
    for statement in statements:
        parts: list[str] = []
        _dump(statement, docstrings, seen, parts)
        texts.append("".join(parts))
    return "\n".join(texts)


@functools.cache
def _shape(kind: type) -> tuple[list[tuple[str, str]], bool, bool]:
    """Return the fields of a kind of node, with what is said before each, and two facts.

    These are whether such nodes may name something, and whether they may have a docstring.
    """
    names = [name for name in kind._fields if name not in UNTOLD]
    before = [f"{kind.__name__}(", *[","] * len(names)]
    fields = [(name, f"{start}{name}=") for name, start in zip(names, before, strict=False)]
    return fields, kind in NAMING, kind in DEFINITIONS


def _dump(node: ast.AST, docstrings: bool, seen: list, parts: list[str]) -> None:  # noqa: FBT001
    """Add what a node is to `parts`, as short as is possible: most of the time is spent here."""
    fields, names, defines = _shape(node.__class__)
    if names:
        seen.append(node)
    if not fields:
        parts.append(f"{node.__class__.__name__}(")
    for name, before in fields:
        value = getattr(node, name)
        parts.append(before)
        if value.__class__ is list:
            if defines and name == "body" and not docstrings:
                value = value[1:] if ast.get_docstring(node, clean=False) else value
            between = "["
            for one in value:
                parts.append(between)
                if isinstance(one, ast.AST):
                    _dump(one, docstrings, seen, parts)
                else:
                    parts.append(repr(one))
                between = ","
            parts.append("]" if value else "[]")
        elif isinstance(value, ast.AST):
            _dump(value, docstrings, seen, parts)
        else:
            parts.append(repr(value))
    parts.append(")")


def short(text: str) -> str:
    """Return a short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shorten(content: Mapping | list | str) -> str:
    """Return a short digest of what can be written as JSON."""
    return short(json.dumps(content, sort_keys=True))
