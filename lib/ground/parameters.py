"""The parameters cell: the only place where a parameter is written.

A parameters cell holds lines ``name: type = default  # meaning [domain]``. They are read without
running them, by the standard library alone, so that Airflow can parse a DAG file quickly. From
them come the trigger form, the check before a kernel starts, and what is logged to MLflow.
"""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

TYPES = {"int": int, "float": float, "str": str, "bool": bool}
JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
Scalar = int | float | str | bool
Value = Scalar | list[int] | list[float] | list[str]

RANGE = re.compile(r"^\s*(-?[0-9.eE+-]+?)\s*\.\.\s*(-?[0-9.eE+-]+)\s*$")
PASSWORD = re.compile(  # in a URL, unless it is the name of an environment variable, ${NAME}
    r"://[^/?#@\s:]*:(?!\$\{\w+\}@)[^/?#@\s]+@"
    r"|(?i:[?&][^=&#\s]*(?:pass|pwd|secret|token|key|sig|cred|auth)[^=&#\s]*=)"
)
COMMENT = re.compile(r"^#\s*(?P<meaning>.*?)\s*(?:\[(?P<domain>[^\[\]]*)\])?\s*$")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    Attributes
    ----------
    name : str
        Lower-case identifier.
    kind : str
        ``int``, ``float``, ``str`` or ``bool``: the type of the value or of each list item.
    many : bool
        Whether the value is a list.
    default : int, float, str, bool or list
        The value for the laptop run.
    meaning : str
        The comment without its domain.
    domain : str
        The domain as it is written in the cell, without brackets; empty where there is none.
    low, high : float or None
        Inclusive range of the value, or of each list item.
    choices : tuple of str
        The allowed values; empty where any value is.
    """

    name: str
    kind: str
    many: bool
    default: Value
    meaning: str
    domain: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        """The type as it is written in the cell, ``float`` or ``list[int]`` for example."""
        return f"list[{self.kind}]" if self.many else self.kind

    @property
    def may_be_empty(self) -> bool:
        """Whether no text, or no item, is a value: where the notebook's own is such."""
        return self.default in ("", [])

    def check(self, value: Value) -> Value:
        """Return `value` in the declared type, or say what is wrong with it.

        A whole number is accepted, and converted, where a float is declared, and None where the
        notebook's own value is empty: a form sends it for a field that was emptied. Nothing else
        is converted. Parameters are kept in notebooks, logs and MLflow, so a URL with a password in
        it is refused.

        Raises
        ------
        ValueError
            If the type differs from the declared one, the value lies outside of the domain, or it
            holds a password.
        """
        if value is None and self.may_be_empty:
            return self.default
        if self.many:
            if not isinstance(value, list):
                raise ValueError(self._complaint(value, f"a {self.type_name}"))
            return [self._check_item(item) for item in value]
        return self._check_item(value)

    def _check_item(self, value: Scalar) -> Scalar:
        expected = TYPES[self.kind]
        if self.kind == "float" and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ValueError(self._complaint(value, f"a value of type {self.kind}"))
        if isinstance(value, str) and PASSWORD.search(value):
            raise ValueError(
                f"parameter {self.name} holds a password, which would be kept in notebooks, logs "
                "and MLflow: leave it out and give it by the driver's own environment variable or "
                "file (PGPASSWORD or ~/.pgpass for PostgreSQL), or name a variable in its place, "
                "${NAME}"
            )
        if self.choices and value not in self.choices:
            raise ValueError(self._complaint(value, "one of " + ", ".join(self.choices)))
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(self._complaint(value, "a finite number"))
        if self.low is not None and not self.low <= value <= self.high:
            raise ValueError(self._complaint(value, f"a value in {self.domain}"))
        return value

    def _complaint(self, value: Value, expected: str) -> str:
        what = f"{self.name} = {value!r} ({type(value).__name__})"
        return f"parameter {what}: expected {expected}; {self.name} is {self.meaning}"

    def schema(self) -> dict[str, str | float | list[str] | dict]:
        """Return the JSON schema of the value, for Airflow's trigger form."""
        item: dict = {"type": JSON_TYPES[self.kind]}
        if self.choices:
            item["enum"] = list(self.choices)
        if self.low is not None:
            number = int if self.kind == "int" else float
            item |= {"minimum": number(self.low), "maximum": number(self.high)}
        whole: dict = {"type": "array", "items": item} if self.many else item
        if self.may_be_empty:
            whole["type"] = [whole["type"], "null"]  # else the form demands that it be filled in
        return whole


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters that `notebook` declares, in the order of its parameters cell.

    Raises
    ------
    ValueError
        If the file is no notebook, has no cell tagged ``parameters``, or a line of that cell is
        not of the form ``name: type = default  # meaning [domain]``; names file and line.
    """
    where = f"{notebook.parent.name}/{notebook.name}"
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not a notebook: {error}") from error
    return declared_in(cells, where)


def declared_in(cells: list[dict], where: str) -> dict[str, Parameter]:
    """Return the parameters that the cells of a notebook declare; see `read_parameters`."""
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{where} has {len(tagged)} cells tagged 'parameters', expected one")
    return parse_parameters("".join(tagged[0]["source"]), where)


def parse_parameters(source: str, where: str = "parameters cell") -> dict[str, Parameter]:
    """Return the parameters declared by the `source` text of a parameters cell.

    Raises
    ------
    ValueError
        If it is no Python, a line is not a declaration, or its default lies outside of its own
        domain. The message starts with `where` and the line number.
    """
    try:
        tree, comments = ast.parse(source), _comments(source)
    except SyntaxError as error:
        raise ValueError(f"{where}, parameters cell line {error.lineno}: {error.msg}") from error
    found: dict[str, Parameter] = {}
    for node in tree.body:
        place = f"{where}, parameters cell line {node.lineno}"
        if not (
            isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name)
        ):
            raise ValueError(f"{place}: expected `name: type = default  # meaning [domain]`")
        name = node.target.id
        if name in found:
            raise ValueError(f"{place}: {name} is declared twice")
        comment = comments.get(node.end_lineno or node.lineno, "")
        found[name] = _declaration(name, node, comment, place)
    return found


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}


def _declaration(name: str, node: ast.AnnAssign, comment: str, place: str) -> Parameter:
    annotation = ast.unparse(node.annotation)
    many = annotation.startswith("list[") and annotation.endswith("]")
    kind = annotation[5:-1] if many else annotation
    if kind not in TYPES or (many and kind == "bool"):
        raise ValueError(
            f"{place}: {name} has type {annotation}; expected int, float, str, bool, or a list "
            "of numbers or text"
        )
    matched = COMMENT.match(comment)
    if not matched or not matched["meaning"]:
        raise ValueError(f"{place}: {name} has no comment that says what it means")
    try:
        default = ast.literal_eval(node.value)
    except ValueError as error:
        raise ValueError(f"{place}: the default of {name} is not a plain value") from error
    domain = _domain(matched["domain"], kind, f"{place}: {name}")
    parameter = Parameter(name, kind, many, default, matched["meaning"], **domain)
    try:
        return replace(parameter, default=parameter.check(default))
    except ValueError as error:
        raise ValueError(f"{place}: default {error}") from error


def _domain(text: str | None, kind: str, place: str) -> dict[str, str | float | tuple[str, ...]]:
    """Return the facts of a `Parameter` that its domain states."""
    if text is None:
        return {}
    text = " ".join(text.split())
    matched = RANGE.match(text)
    if matched and kind in ("int", "float"):
        low, high = float(matched[1]), float(matched[2])
        if low > high:
            raise ValueError(f"{place} has the empty range [{text}]")
        return {"domain": text, "low": low, "high": high}
    choices = tuple(choice.strip() for choice in text.split("|"))
    if kind == "str" and len(choices) > 1 and all(choices):
        return {"domain": text, "choices": choices}
    raise ValueError(f"{place} has the domain [{text}]; expected [low..high] or [one | other]")


def merge_parameters(notebooks: Mapping[str, Mapping[str, Parameter]]) -> dict[str, Parameter]:
    """Return every parameter of a pipeline once, from its stages' parameters in order.

    `run_dir` is left out: it follows from the run.

    Parameters
    ----------
    notebooks : mapping of str to mapping of str to Parameter
        The declarations of each stage, by stage name.

    Raises
    ------
    ValueError
        If two stages declare the same name with another type, default or domain.
    """
    merged: dict[str, Parameter] = {}
    first: dict[str, str] = {}
    for stage, declared in notebooks.items():
        for name, parameter in declared.items():
            if name == "run_dir":
                continue
            known = merged.setdefault(name, parameter)
            first.setdefault(name, stage)
            facts = [(p.type_name, p.default, p.domain) for p in (known, parameter)]
            if facts[0] != facts[1]:
                raise ValueError(
                    f"{name} is declared as {facts[0]} in {first[name]} and as {facts[1]} in "
                    f"{stage}; notebooks that share a parameter must agree on type, default, domain"
                )
    return merged


def check_values(
    declared: Mapping[str, Parameter], values: Mapping[str, Value], *, owner: str
) -> dict[str, Value]:
    """Return `values` in their declared types, or raise one error that lists all complaints.

    Parameters
    ----------
    declared : mapping of str to Parameter
        The known parameters.
    values : mapping of str to value
        What a DAG, a person or a command line asked for.
    owner : str
        Who declares the parameters, for the message: a pipeline or a notebook.

    Raises
    ------
    ValueError
        If a name is unknown, a type is wrong, or a value lies outside of its domain.
    """
    checked: dict[str, Value] = {}
    complaints: list[str] = []
    for name, value in values.items():
        if name not in declared:
            known = ", ".join(declared)
            complaints.append(f"{owner} has no parameter {name!r}; it has {known}")
            continue
        try:
            checked[name] = declared[name].check(value)
        except ValueError as error:
            complaints.append(str(error))
    if complaints:
        raise ValueError("; ".join(complaints))
    return checked


def values_of_run(
    declared: Mapping[str, Parameter],
    written: Mapping[str, Value],
    asked: Mapping[str, Value | None],
) -> dict[str, Value | None]:
    r"""Return the values that a run uses: what was asked for, else what its DAG file writes.

    A DAG file writes values for real data. With ``source="sample"`` a parameter that nobody has
    changed takes the notebook's own value, which is made for the sample. Airflow's form sends
    every parameter; there, one that is as the DAG file has it counts as not changed.

    Parameters
    ----------
    declared : mapping of str to Parameter
        Every parameter of the pipeline, ``run_dir`` left out.
    written : mapping of str to value
        The values in the DAG file, templates included.
    asked : mapping of str to value
        What the DAG run was triggered with.

    Returns
    -------
    dict
        As asked for or written, not checked yet.

    Examples
    --------
    >>> cell = 'source: str = "sample"  # data\nn_trials: int = 3  # trials [1..100]\n'
    >>> declared, written = parse_parameters(cell), {"source": "uci", "n_trials": 40}
    >>> values_of_run(declared, written, {})
    {'source': 'uci', 'n_trials': 40}
    >>> values_of_run(declared, written, {"source": "sample", "n_trials": 40})
    {'source': 'sample', 'n_trials': 3}
    >>> values_of_run(declared, written, {"source": "sample", "n_trials": 5})
    {'source': 'sample', 'n_trials': 5}
    """
    values = {**written, **asked}
    if values.get("source") != "sample":
        return values
    is_form = set(written) <= set(asked)
    for name, parameter in declared.items():
        if name not in asked or (is_form and asked[name] == written.get(name)):
            values[name] = parameter.default
    return values | {"source": "sample"}
