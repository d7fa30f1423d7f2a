"""Which runs have done a stage already: one file for each key, however many runs there are.

`OUTPUTS_DIR/.known/<pipeline>/<stage>/<key>.json` holds, for each different set of inputs that the
stage has read under this key, which runs have the results: the one that executed it first, then
the latest that took them. Child runs have a file for each of the values that were given to one,
where hundreds would push each other out. It only says where to look: whatever is lost or damaged
there, or in the runs that it names, makes a stage run.
"""

import json
from collections.abc import Iterator, Mapping

from lib.ground.files import locked, outputs_dir, read_bytes, write_bytes
from lib.ground.folder import Run, asked_of, look_at
from lib.ground.handover import TAKEN
from lib.ground.runs import start_of
from lib.once.told import shorten

from upath import UPath

FOLDER = ".known"
LATEST = "latest"
MOST_TRACES, MOST_RUNS, MOST_TOLD = 32, 4, 5


def remember(run: Run, stage: str, key: str) -> None:
    """Note that a run holds a stage that has finished under `key`; without one, as latest alone."""
    record = run.record(stage)
    if record.get("state") != "finished":
        return
    with locked("known"):
        if key:
            _trace(run, stage, key, record)
        whole = (run.parent or run).run_dir
        before = latest(run.pipeline, stage)
        others = [name for name in before if not f"{name}/".startswith(f"{whole}/")]
        runs = [run.run_dir, *others]
        write_bytes(_place(run.pipeline, stage, LATEST), json.dumps(runs[:MOST_TOLD]).encode())


def _trace(run: Run, stage: str, key: str, record: Mapping) -> None:
    """Note which inputs a stage has read under `key` in a run, first of all others."""
    place = _place(run.pipeline, stage, _name(run, key))
    trace = {"reads": record["reads"], "asked": record.get("asked", {})}
    traces = _traces(place)
    same = [one for one in traces if _is_same(one, trace)]
    others = [one for one in traces if not _is_same(one, trace)]
    names = [name for one in same for name in one["runs"] if name != run.run_dir]
    first = record.get(TAKEN, run.run_dir)
    names = [first, *(name for name in (run.run_dir, *names) if name != first)]
    noted = {**trace, "runs": names[:MOST_RUNS]}
    write_bytes(place, json.dumps([noted, *others][:MOST_TRACES]).encode())


def latest(pipeline: str, stage: str) -> list[str]:
    """Return the latest runs that hold a finished stage, whatever its key, newest first.

    Of the child runs of one run there is the last alone.
    """
    try:
        return [str(name) for name in json.loads(read_bytes(_place(pipeline, stage, LATEST)))]
    except (OSError, ValueError, TypeError):
        return []


def is_noted(pipeline: str, stage: str, key: str) -> bool:
    """Say whether any run has done a stage under `key`, with whatever inputs."""
    return bool(key) and _place(pipeline, stage, key).exists()


def find(run: Run, stage: str, key: str) -> Iterator[Run]:
    """Yield the runs that have done a stage under `key`, with inputs as they are in `run`."""
    if not key:
        return
    records = run.records()
    written: dict[str, str] = {}
    for name, record in records.items():
        if name < stage and record.get("state") == "finished":
            written |= record["writes"]
    for trace in _traces(_place(run.pipeline, stage, _name(run, key))):
        asked = {name: asked_of(records.get(name, {})) for name in trace["asked"]}
        if asked == trace["asked"] and trace["reads"].items() <= written.items():
            for run_dir in trace["runs"]:
                yield look_at(run_dir)


def _is_same(one: Mapping, other: Mapping) -> bool:
    return one["reads"] == other["reads"] and one["asked"] == other["asked"]


def _name(run: Run, key: str) -> str:
    """Return the key, of a child run with a digest of the values that it was given."""
    return f"{key}-{shorten(start_of(run).get('values'))}" if run.parent else key


def _place(pipeline: str, stage: str, key: str) -> UPath:
    return outputs_dir() / FOLDER / pipeline / stage / f"{key}.json"


def _traces(place: UPath) -> list[dict]:
    """Return what is noted under a key; what is damaged counts for nothing."""
    try:
        found = json.loads(read_bytes(place))
        return [
            {"reads": dict(one["reads"]), "asked": dict(one["asked"]), "runs": list(one["runs"])}
            for one in found
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
