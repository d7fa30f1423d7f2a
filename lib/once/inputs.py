"""What a stage reads that is older than the code which makes it, for who runs the stage by hand.

The code of an earlier stage then is what its run has noted with its key; of one that was run by
hand, what it reached of `lib/` when it began: which of its cells have run, nobody can tell.
"""

from lib.ground import layout, outcome
from lib.ground.folder import Run, look_at
from lib.ground.handover import TAKEN
from lib.once import key as keys

from upath import UPath

CODE = ("cells", "code")


def begin(run: Run) -> str:
    """Note what code a stage begins with; return in a sentence which inputs are older than theirs.

    Parameters
    ----------
    run : Run
        Opened for a stage that a person runs.

    Returns
    -------
    str
        "" where none is, as far as is known.
    """
    notebook = layout.notebook(run.pipeline, run.stage)
    if not notebook.exists():
        return ""
    code = keys.known_code(run.pipeline, run.stage)
    keys.keep(run, run.stage, {"key": "", "parts": {"code": code.reached}, "acts": False}, [])
    card = outcome.source_text(outcome.read_notebook(UPath(notebook))["cells"][0])
    read, told = card.partition("**Writes**")[0], []
    for stage, record in run.records().items():
        files = [name for name in record.get("writes", ()) if f"`{name}`" in read]
        if stage < run.stage and files and (changed := _changes(run, stage, record)):
            told.append(f"{', '.join(files)} ({stage}: {changed[0]})")
    return f"Older than the code that makes them: {'; '.join(told)}" if told else ""


def _changes(run: Run, stage: str, record: dict) -> list[str]:
    """Say how the code of a stage differs from that which has made what is here of it."""
    before = keys.kept(look_at(record.get(TAKEN, run.run_dir)), stage).get("parts", {})
    known = keys.known_code(run.pipeline, stage)
    now = {"cells": known.cells, "code": known.reached}
    then = {part: before[part] for part in CODE if part in before}
    return keys.differences({"parts": then}, {"parts": {part: now[part] for part in then}})
