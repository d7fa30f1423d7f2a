"""What is done with a stage of a run: taken over, left as it is, left out, or executed, and why.

`obtain` decides, by the key of the stage and by what somebody has asked for: four options that
stand beside a DAG run's parameters, `OPTIONS`. A stage that had finished in this very run and is to
run once more, as one that was cleared in Airflow, is executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lib.ground import aside, layout
from lib.ground.folder import Run, asked_of, look_at
from lib.ground.handover import TAKEN
from lib.ground.parameters import Value
from lib.ground.runs import counterpart, list_runs, run_folder_name, start_of
from lib.once import key as keys
from lib.once import known, standing, taking

OPTIONS = {
    "from_stage": "Begin with this stage: those before it are taken as they are, whatever changed",
    "until_stage": "End with this stage",
    "force": "Execute every stage, take none from an earlier run",
    "of": "The run whose stages are taken, or latest; empty for any that has the same results",
    "resume": "",
}
"""By name, with what a form says; ``resume`` is set where a run that has ended goes on."""
LATEST, HERE = "latest", "done before, in this run"


@dataclass(frozen=True)
class Found:
    """What became of a stage: its record where nothing is left to do, and why else not."""

    record: dict = field(default_factory=dict)
    key: dict = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    told: str = ""

    def remember(self, run: Run, stage: str, values: Mapping[str, Value]) -> None:
        """Note that the stage was executed, if what it depends on is still what it was."""
        if self.key and keys.key_of(run.pipeline, stage, values)["key"] == self.key["key"]:
            known.remember(run, stage, self.key["key"])


def split(conf: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return the options among what a DAG run was triggered with, without empty ones; the rest."""
    options = {name: value for name, value in conf.items() if name in OPTIONS and value}
    return options, {name: value for name, value in conf.items() if name not in OPTIONS}


def check(pipeline: str, options: Mapping[str, Value]) -> None:
    """See that the options name stages and runs that there are.

    Raises
    ------
    ValueError
        If not; names those that there are.
    """
    stages = layout.planned(pipeline)
    for name in ("from_stage", "until_stage"):
        if options.get(name) and options[name] not in stages:
            raise ValueError(
                f"{pipeline} has no stage {options[name]!r}; it has {', '.join(stages)}"
            )
    first, last = options.get("from_stage", ""), options.get("until_stage", "")
    if first and last and last < first:
        raise ValueError(f"a run from {first} until {last} has no stage: put them in order")
    if options.get("force") and (first or options.get("of")):
        raise ValueError("FORCE takes no stage from an earlier run, FROM and OF do: give one")
    before = stages[stages.index(first) - 1] if first and first != stages[0] else ""
    if before or options.get("of", LATEST) != LATEST:
        _named(pipeline, str(options.get("of", LATEST)), before)


def is_left_out(stage: str, options: Mapping[str, Value]) -> bool:
    """Say whether a stage comes after the last one that was asked for."""
    return bool(options.get("until_stage")) and stage > str(options["until_stage"])


def obtain(
    run: Run,
    stage: str,
    values: Mapping[str, Value],
    options: Mapping[str, Value],
    key: dict | None = None,
) -> Found:
    """Take a stage over if that is possible and wanted.

    Parameters
    ----------
    run : Run
        Where the stage is to stand.
    stage : str
    values : mapping
        Of the parameters of all stages.
    options : mapping
        As `split` returns them.
    key : dict, optional
        Of `lib.once.key.key_of`, where it is known.

    Raises
    ------
    ValueError
        If somebody wants it taken from a run that does not have it whole.
    """
    own, first = run.record(stage), str(options.get("from_stage", ""))
    key = keys.key_of(run.pipeline, stage, values) if key is None else key
    is_here = own.get("state") == "finished"
    stays = is_here and options.get("resume") and _is_same(run, stage, key, run)
    if stays and taking.take(run, run, stage):
        return Found(own, key, told=HERE)
    if stage < first:
        return _as_asked(run, stage, key, str(options.get("of", LATEST)))
    if options.get("force"):
        why = ["FORCE was asked for"]
    elif stage == first:
        why = ["FROM begins here"]
    elif is_here and not options.get("resume"):
        why = ["it was asked for again, in this run"]
    else:
        origins = known.find(run, stage, key["key"])
        if options.get("of"):
            chosen = _origin(run, str(options["of"]), stage)
            origins = [chosen] if _is_same(run, stage, key, chosen) else []
        for origin in origins:
            is_open = not standing.acts(origin, stage, key)
            is_open = is_open or aside.call(standing.stands, origin, stage)
            if is_open and (record := taking.take(origin, run, stage)):
                keys.keep(run, stage, key, [])
                known.remember(run, stage, key["key"])
                is_here = TAKEN not in record
                return Found(record, key, told=HERE if is_here else taking.words(record))
        why = reasons(run, stage, key)
    keys.keep(run, stage, key, why)
    return Found(key=key, why=why)


def reasons(run: Run, stage: str, key: Mapping) -> list[str]:
    """Say why no earlier run has the results of a stage: how the nearest of them differs.

    Parameters
    ----------
    run : Run
    stage : str
    key : mapping
        Of `lib.once.key.key_of`.
    """
    told: list[list[str]] = []
    for run_dir in known.latest(run.pipeline, stage):
        whole = look_at(run_dir)
        other = counterpart(run, whole.parent or whole)
        if not other or other.run_dir == run.run_dir:
            continue
        if before := keys.kept(other, stage):
            differing = keys.differences(before, key) + _inputs(run, other, stage)
            told.append(differing or _without_difference(run_dir, key))
            told[-1][0] = f"compared with {other.run_dir}: {told[-1][0]}"
    return min(told, key=len, default=["no earlier run has noted its key"])


def _without_difference(run_dir: str, key: Mapping) -> list[str]:
    if not key["key"]:
        return [next(one for one in key["parts"]["data"].values() if one.startswith("never"))]
    if key["acts"]:
        return ["nothing differs; what it does on the outside is looked at again"]
    return ["nothing differs, but its files are gone or damaged"]


def _inputs(run: Run, other: Run, stage: str) -> list[str]:
    """Name what a stage has read in another run that is not the same here, and who wrote it."""
    here, read = run.records(), other.records().get(stage, {})
    told = []
    for name, then in sorted(read.get("reads", {}).items()):
        writer, now = _writer(here, stage, name)
        if now != then:
            how = "was taken" if TAKEN in here.get(writer, {}) else "has run"
            gone = f"input {name} is not there"
            told.append(
                f"input {name} is another: {writer}, which {how}, wrote it" if now else gone
            )
    for asked, then in read.get("asked", {}).items():
        if asked_of(here.get(asked, {})) != then:
            told.append(f"the parameters of {asked} are others")
    return told


def _writer(records: Mapping[str, Mapping], stage: str, name: str) -> tuple[str, str]:
    found = [
        (s, r["writes"][name]) for s, r in records.items() if s < stage and name in r["writes"]
    ]
    return found[-1] if found else ("", "")


def _is_same(run: Run, stage: str, key: Mapping, origin: Run) -> bool:
    """Say whether a stage of `origin` has the key, and has read what it would read in `run`.

    In `run` itself it may have read data that cannot be told from others: it was just there.
    """
    here, record, before = run.records(), origin.record(stage), keys.kept(origin, stage)
    if record.get("state") != "finished":
        return False
    is_same = all(_writer(here, stage, n)[1] == digest for n, digest in record["reads"].items())
    is_same &= all(asked_of(here.get(n, {})) == then for n, then in record.get("asked", {}).items())
    if not is_same or not before or record.get(taking.ASKED):
        return is_same and origin.run_dir == run.run_dir
    if key["key"] or origin.run_dir != run.run_dir:
        return before["key"] == key["key"] != ""
    return all(keys.data.UNKNOWN in one for one in keys.differences(before, key))


def _as_asked(run: Run, stage: str, key: dict, of: str) -> Found:
    """Take a stage from the run that was asked for, whatever has changed, and say what has."""
    origin = _origin(run, of, stage)
    record = taking.take(origin, run, stage, as_asked=True)
    if not record:
        raise ValueError(
            f"{stage} cannot be taken from {origin.run_dir}: it has not finished there, or its "
            "files are damaged or gone. Name another run with OF=, or an earlier stage with FROM="
        )
    before = keys.kept(origin, stage)
    changed = keys.differences(before, key) if before else ["what has changed is not known"]
    why = [f"as FROM asks; {'; '.join(changed) or 'nothing has changed'}"]
    keys.keep(run, stage, before, why)
    return Found(record, before, why, f"{taking.words(record)}, {why[0]}")


def _origin(run: Run, of: str, stage: str) -> Run:
    """Return the run that `of` means, to take a stage from; for a child run that one's child."""
    found = _named(run.pipeline, of, stage, but=(run.parent or run).run_dir)
    origin = counterpart(run, found.parent or found)
    if origin is None:
        values = ", ".join(f"{name} = {value}" for name, value in start_of(run)["values"].items())
        raise ValueError(
            f"{stage} cannot be taken from {found.run_dir}: no child of it was given {values}"
        )
    return origin


def _named(pipeline: str, of: str, stage: str, but: str = "") -> Run:
    """Return the run that `of` means; of the latest, the last one in which `stage` has finished."""
    if of != LATEST:
        name = of.removeprefix(f"{pipeline}/")
        found = look_at(f"{pipeline}/{run_folder_name(name)}")
        if not found.path.exists():
            raise ValueError(f"there is no run {found.run_dir} to take stages from")
        return found
    runs = [look_at(run_dir) for run_dir in known.latest(pipeline, stage)] if stage else []
    runs = runs or sorted(list_runs(pipeline), key=_began, reverse=True)
    for run in runs:
        record = run.record(stage) if stage else {}
        is_other = but not in (run.run_dir, run.parent and run.parent.run_dir)
        if is_other and record.get("state") == "finished":
            return run
    raise ValueError(
        f"there is no run of {pipeline} to take {stage or 'stages'} from: make run "
        f"PIPELINE={pipeline}"
    )


def _began(run: Run) -> str:
    """Return when a run began, ISO 8601; "" of one by hand, which nobody has noted."""
    return start_of(run).get("started", "")
