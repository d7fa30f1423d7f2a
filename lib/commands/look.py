"""`make look`: what a source is as a pipeline reads it, before anything is trained on it.

The pipeline's own module says what it sees, in a function `look`; one without it is looked at
through its `load_rows`. A refusal goes on with the command that tries what it proposes.
"""

import json
import re

from lib.commands.pipelines import json_object
from lib.ground import layout
from lib.ground.console import say
from lib.ground.parameters import Parameter, Value, check_values, merge_parameters
from lib.looks import WAY, Look, command, look_at_frame
from lib.registry.rows import MissingPart, part
from lib.sources import list_files

import pandas as pd

LOAD, MOST_ROWS = "01_load", 2_000_000
PROPOSED = re.compile(
    r"""\b([a-z_]+)=(\[(?:"[^"]*"|'[^']*'|[^]"'])*\]|"[^"]*"|'[^']*'|True|-?[\d.]*\d\b)"""
)
"""A parameter and its value, as messages write them: ``layout=["time=ms"]``."""
START, N_LINES, N_SIGNS = 4_096, 3, 160


def main(source: str, pipeline: str, params: str, *, all: bool = False) -> int:
    """Show what a source is; return the exit status, 1 if it is refused.

    Parameters
    ----------
    source : str
        As the load stage of the pipeline takes it.
    pipeline : str
    params : str
        A JSON object of parameters.
    all : bool
        Whether to read every row, however many there are.

    Raises
    ------
    ValueError
        If there is no such pipeline, it loads no source, it declares no such parameters, or none is
        given.
    """
    if not pipeline or not source:
        raise ValueError("give SOURCE, a path, glob or URL, and PIPELINE, the one that reads it")
    declared = layout.declared(pipeline)
    if LOAD not in declared and source != "sample":
        raise ValueError(
            f"{pipeline} has no stage {LOAD} that takes a source: give the PIPELINE that reads it"
        )
    known = merge_parameters(declared)
    given = {k: v for k, v in json_object(params).items() if k != "source"}
    given = check_values(known, given, owner=pipeline)
    options = {name: one.default for name, one in known.items()} | given
    try:
        found = look(pipeline, source, options, 0 if all else MOST_ROWS)
    except MissingPart:
        raise
    except ValueError as error:
        return _refused(error, pipeline, source, given, known)
    say(f"{pipeline}  {source}\n\n{found}\n\nRun it:\n")
    say(command("run", pipeline, source, {**found.params, **given}))
    return 0


def look(pipeline: str, source: str, options: dict[str, Value], most_rows: int = MOST_ROWS) -> Look:
    """Return what a pipeline sees in a source.

    Parameters
    ----------
    pipeline, source : str
    options : dict
        A value for each parameter of the pipeline.
    most_rows : int
        After how many rows the pipeline may stop reading; 0 for none.

    Raises
    ------
    MissingPart
        If the pipeline has no module, or one with neither `look` nor `load_rows`.
    ValueError
        If the source is refused.
    """
    try:
        return part(pipeline, "look")(source, options, most_rows)
    except MissingPart:
        rows = part(pipeline, "load_rows")(source, options, None)
    n_rows = len(rows.inputs)
    n_known = int(rows.truth.index.isin(rows.keys).sum())
    counts = {"read": n_rows, "without_a_target": n_rows - n_known, "kept": n_known}
    return look_at_frame(pd.DataFrame(rows.inputs), counts, rows.facts)


def _refused(
    error: ValueError,
    pipeline: str,
    source: str,
    given: dict[str, Value],
    known: dict[str, Parameter],
) -> int:
    """Show why a source is refused, how it begins, and what to try next."""
    reason = str(error).partition(WAY)[0]
    say(f"refused: {reason}")
    beginning = _beginning(source)
    if beginning:
        say("\nIt begins:\n" + "\n".join(f"  {line}" for line in beginning))
    tried = given | proposed(reason, given, known)
    if tried != given:
        say(f"\nTo try what it proposes:\n\n{command('look', pipeline, source, tried)}")
    return 1


def proposed(
    message: str, given: dict[str, Value], known: dict[str, Parameter]
) -> dict[str, Value]:
    """Return the parameters that a message proposes first.

    What it leaves open, as ``columns=["price=..."]``, stays so: to be filled in.
    """
    found: dict[str, Value] = {}
    first = next((way for way in message.split("; or ") if PROPOSED.search(way)), "")
    for name, text in PROPOSED.findall(first):
        if name not in known or name in found:
            continue
        try:
            value = json.loads(text.replace("True", "true")) if text[0] != "'" else text[1:-1]
        except json.JSONDecodeError:
            value = re.findall(r"'([^']*)'", text) if text[0] == "[" else None
        try:
            value = known[name].check(value)
        except (ValueError, TypeError):
            continue
        if value == "..." and name in given:
            continue
        if known[name].many:
            before = given.get(name, [])
            value = [*before, *(item for item in value if item not in before)]
        found[name] = value
    return found


def _beginning(source: str) -> list[str]:
    """Return the first lines of a text, as they are; [] of anything else."""
    try:
        (_, opened), *_ = list_files(source)
        with opened() as stream:
            start = stream.read(START)
    except (ValueError, OSError):
        return []
    lines = start.decode("utf-8", "replace").splitlines()[:N_LINES]
    return [line[:N_SIGNS] for line in lines] if "\0" not in "".join(lines) else []
