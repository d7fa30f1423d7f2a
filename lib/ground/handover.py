"""What a stage begins with that a person runs by hand, in a folder where nothing ran before it.

`begin` takes over what the earlier stages have left in the newest run that fits: their files, and
their records with a note of where they come from, so that the folder is as if they had run there.
Only whole files of finished stages are taken, and only of a run that was made with the parameters
of the notebook. That run is only read. Where none fits, `way_on` says what to do.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from lib.ground import layout
from lib.ground.files import copy, now, write_json
from lib.ground.folder import RECORDS, Run, UnfinishedStage
from lib.ground.parameters import Value, read_parameters
from lib.ground.runs import STARTED, code_changed, list_runs, start_of

TAKEN = "from"  # in a stage's record: the run that it was taken from

Records = dict[str, dict]
Apart = list[tuple[str, Value | None, Value]]


def begin(run: Run) -> str:
    """Let a stage begin from the newest run that fits, if no earlier stage was run in its folder.

    Parameters
    ----------
    run : Run
        Opened for a stage. One that Airflow has begun, or that is a copy of another, is left as it
        is.

    Returns
    -------
    str
        Which run the earlier stages come from, in a line; "" where they come from none.

    Raises
    ------
    UnfinishedStage
        If they come from a run that was made with other parameters than the notebook has by now,
        and no other run fits.
    """
    earlier = _earlier(run)
    if not earlier or (run.path / STARTED).exists():
        return ""
    begun = run.records()
    here = {stage: begun[stage] for stage in earlier if begun.get(stage, {}).get("writes")}
    if any(TAKEN not in record for record in here.values()):
        return _has_taken(run, here)
    for source, records in _finished(run, earlier):
        if _apart(run, records):
            continue
        known = all(_is_taken(here.get(stage), records[stage], source) for stage in earlier)
        if known or _is_whole(source, records):
            if not known:
                noted = {TAKEN: source.run_dir, "taken": now()}
                take(source, run, {s: record | noted for s, record in records.items()})
            start = "goes on" if known else "begins"
            what = f"{source.run_dir} of {_moment(records)}: {', '.join(earlier)}"
            return f"{run.run_dir} {start} from {what}{_later_changes(source, earlier)}"
    if differing := _apart(run, here):
        state = f"{_has_taken(run, here)}, made with {_named(differing)}"
        raise UnfinishedStage(_none_fits(run, earlier, state))
    return _has_taken(run, here)


def way_on(run: Run, name: str, refusal: str) -> str:
    """Return what a person can do who was refused a file, the shortest way first.

    Parameters
    ----------
    run : Run
        Opened for a stage.
    name : str
        The file.
    refusal : str
        Why it was refused; what is returned where there is nothing to add.
    """
    earlier = _earlier(run)
    records = run.records()
    missing = [s for s in earlier if records.get(s, {}).get("state") != "finished"]
    is_unknown = not any(name in record["writes"] for record in records.values())
    if (run.path / STARTED).exists() or (is_unknown and not missing):
        return refusal
    if missing == earlier:
        return _none_fits(run, earlier, f"{run.run_dir} is empty")
    if missing:
        lacking = f"{run.run_dir} lacks {', '.join(missing)}"
        refusal = f"Run {missing[0]} next, to its last cell: {lacking}."
    newest, _ = next(_finished(run, earlier), (None, {}))
    return f"{refusal}\nOr, on the newest run: {_open(newest, run)}" if newest else refusal


def take(run: Run, target: Run, records: Mapping[str, Mapping]) -> None:
    """Copy what the stages of a run wrote to another run of the same pipeline, and their records.

    Parameters
    ----------
    run, target : Run
        Nothing done in `target` reaches `run` afterwards.
    records : mapping of str to mapping
        By stage, as they are to stand in `target`.
    """
    for name in sorted({name for record in records.values() for name in record["writes"]}):
        copy(run.place(name), target.path / name)
    for stage, record in records.items():  # after the files: a rest is not taken for the whole
        write_json(target.path / RECORDS / f"{stage}.json", record)


def _none_fits(run: Run, earlier: list[str], state: str) -> str:
    """Return what to do where a stage cannot begin by itself; `state` is how its folder is."""
    again = (
        f"{state}. {_command(run, earlier)} makes a run with the values of this notebook, from "
        "which it begins by itself."
    )
    newest, records = next(_finished(run, earlier), (None, {}))
    if newest is None:
        return f"{again}\nOr run {', '.join(earlier)} first: there is no finished run."
    differing = _apart(run, records)
    made = f"made with {_named(differing)}" if differing else "of which files are damaged or gone"
    return f"{_open(newest, run)} opens this stage on the newest run, {made}.\n{again}"


def _open(newest: Run, run: Run) -> str:
    return f"make open RUN={newest.run_dir} STAGE={run.stage}"


def _earlier(run: Run) -> list[str]:
    """Return the stages that come before this one, in order."""
    return [stage for stage in layout.planned(run.pipeline) if stage < run.stage]


def _wanted(run: Run, stages: Iterable[str]) -> dict[str, Value]:
    """Return the parameters that earlier stages have to have.

    They are their notebooks' own, but a parameter has one value in all stages: that of this one.
    """
    found: dict[str, Value] = {}
    for stage in stages:
        declared = read_parameters(layout.notebook(run.pipeline, stage))
        found |= {name: run.parameters.get(name, p.default) for name, p in declared.items()}
    return {name: value for name, value in found.items() if name != "run_dir"}


def _apart(run: Run, records: Records) -> Apart:
    """Return the parameters that differ: name, value in `records` (None if unknown), value here."""
    there: dict[str, Value] = {}
    for record in records.values():
        there |= record["parameters"]
    wanted = _wanted(run, records)
    return [(n, there.get(n), value) for n, value in wanted.items() if there.get(n) != value]


def _finished(run: Run, earlier: list[str]) -> Iterator[tuple[Run, Records]]:
    """Yield the other runs whose `earlier` stages are finished, with their records, newest first.

    Copies, and runs by hand that have taken a stage over themselves, are left out.
    """
    found = []
    for other in list_runs(run.pipeline):
        records = {stage: r for stage, r in other.records().items() if stage in earlier}
        is_own = bool(start_of(other).get("run_id"))  # what Airflow's runs take is as if run there
        done = [r for r in records.values() if r["state"] == "finished"]
        whole = [r for r in done if is_own or TAKEN not in r]
        if len(whole) == len(earlier) and other.name != run.name:
            found.append((max(r["finished"] for r in records.values()), other, records))
    for _, other, records in sorted(found, key=lambda one: one[0], reverse=True):
        yield other, records


def _is_taken(here: dict | None, record: dict, source: Run) -> bool:
    """Say whether a stage's record is the one that was taken from `source`, as it is there now."""
    keys = ("finished", "writes")
    return bool(here) and here[TAKEN] == source.run_dir and all(here[k] == record[k] for k in keys)


def _is_whole(source: Run, records: Records) -> bool:
    """Say whether every file that the stages wrote is there, as they wrote it."""
    try:
        for name in {name for record in records.values() for name in record["writes"]}:
            source.check(name)
    except UnfinishedStage:
        return False
    return True


def _has_taken(run: Run, here: Records) -> str:
    """Say which stages in the folder come from which run; "" if none does."""
    origins = sorted({record[TAKEN] for record in here.values() if TAKEN in record})
    taken = [stage for stage, record in here.items() if TAKEN in record]
    return f"{run.run_dir} has {', '.join(taken)} from {' and '.join(origins)}" if taken else ""


def _later_changes(source: Run, earlier: list[str]) -> str:
    changed = [stage for stage in earlier if code_changed(source, stage)]
    return f"; {', '.join(changed)} changed since" if changed else ""


def _moment(records: Records) -> str:
    started = min(record["started"] for record in records.values())
    return f"{datetime.fromisoformat(started).astimezone(UTC):%d %b %H:%M} UTC"


def _named(differing: Apart) -> str:
    return ", ".join(
        f"{name} = {'unknown' if there is None else json.dumps(there)} (here {json.dumps(value)})"
        for name, there, value in differing
    )


def _command(run: Run, earlier: list[str]) -> str:
    """Return the command that makes a run with the values of the notebook."""
    own, shared = layout.notebook(run.pipeline, run.stage), _wanted(run, earlier)
    changed = {
        name: run.parameters[name]
        for name, parameter in read_parameters(own).items()
        if name in shared and run.parameters.get(name, parameter.default) != parameter.default
    }
    params = f" PARAMS={shlex.quote(json.dumps(changed))}" if changed else ""
    return f"make run PIPELINE={run.pipeline}{params}"
