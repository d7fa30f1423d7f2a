"""What a command is about, where not all of it was typed: the latest run, the only model.

Every command that takes a run, a stage, a model or a version asks here, so that ``latest`` means
the same everywhere and what cannot be found is answered with what there is.
"""

from collections.abc import Mapping
from pathlib import Path

from lib.ground import layout
from lib.ground.files import is_local, outputs_dir
from lib.ground.runs import list_runs, run_folder_name
from lib.once.choice import LATEST
from lib.pages.run_index import read_rows
from lib.pages.summary import read_summary, stage_to_open
from lib.run import Run, open_run

REFERENCE = "reference"
SHOWN = 5


def newest_runs(pipeline: str = "") -> list[str]:
    """Return every run, of one pipeline or of all, the one that was started last first.

    Reference runs, and copies that were opened to work on a stage, are left out.
    """
    runs = [run for run in list_runs(pipeline) if not run.name.startswith(REFERENCE)]
    known = {f"{row['pipeline']}/{row['name']}": row["started"] for row in read_rows()}
    started = {
        run.run_dir: known.get(run.run_dir) or read_summary(run).get("started") or ""
        for run in runs
    }
    return sorted(started, key=lambda run_dir: (started[run_dir], run_dir), reverse=True)


def find_run(text: str, pipeline: str = "") -> Run:
    """Return the run that `text` means, to look at it.

    Parameters
    ----------
    text : str
        ``<pipeline>/<run>``, also as the path of its folder or of a file in it, or with the run's
        id as Airflow shows it; ``latest`` or "" for the one that was started last;
        of a child run with its map index, ``<pipeline>/<run>/0007``;
        ``<pipeline>/latest`` or ``<pipeline>`` for the last of a pipeline.
    pipeline : str, default ""
        The only pipeline to look for the latest in.

    Raises
    ------
    ValueError
        If there is no such run; names those that there are.
    """
    text = _below_outputs(text.strip())
    first, _, name = text.partition("/")
    if first in ("", LATEST) and not name:
        return open_run(_latest(pipeline))
    name, _, index = name.partition("/")
    child = index and f"/{index}"
    if name in ("", LATEST):
        return open_run(f"{_latest(first)}{child}")
    run = open_run(f"{first}/{run_folder_name(name)}{child}")
    if run.path.exists():
        return run
    known = ", ".join(newest_runs()[:SHOWN])
    hint = f"; there are {known}" if known else f": {_none('')}"
    raise ValueError(f"there is no run {text!r} in {outputs_dir()}{hint}")


def find_pair(a: str, b: str, pipeline: str = "") -> tuple[Run, Run, str]:
    """Return two runs to compare, the older one first where that was left open.

    Parameters
    ----------
    a, b : str
        As in `find_run`. Where both are empty: the last two runs of the pipeline that ran last;
        where one is: the newest other run of the same pipeline.
    pipeline : str, default ""
        The only pipeline to look in.

    Returns
    -------
    a, b : Run
    words : str
        Which were taken for what was not named, "" where both were.

    Raises
    ------
    ValueError
        If there is no such run, or no other one to compare with.
    """
    if a and b:
        return find_run(a, pipeline), find_run(b, pipeline), ""
    one = find_run(a or b, pipeline)
    others = [run for run in newest_runs(one.pipeline) if run != one.run_dir]
    if not others:
        raise ValueError(
            f"{one.run_dir} is the only run of {one.pipeline}, there is nothing to compare it "
            f"with: make another one (make run PIPELINE={one.pipeline}), or name two runs"
        )
    words = f"{others[0]} is the newest other run of {one.pipeline}"
    return (one, open_run(others[0]), words) if a else (open_run(others[0]), one, words)


def find_stage(summary: Mapping, text: str = "") -> Mapping:
    """Return the stage of a run that `text` means.

    Parameters
    ----------
    summary : mapping
        Of `lib.pages.summary.summarise`.
    text : str, default ""
        A stage, or a part of its name that no other has: ``05_evaluate``, ``05``, ``evaluate``.
        Empty for the one that a reader will want to open: the one that failed, else the
        evaluation, else the last one that has run.

    Returns
    -------
    mapping
        As in the ``stages`` of the summary.

    Raises
    ------
    ValueError
        If there is none, or more than one; names those that there are.
    """
    stages = {stage["name"]: stage for stage in summary["stages"]}
    if text:
        found = [name for name in stages if text in (name, *name.split("_", 1))]
        if len(found) != 1:
            there = ", ".join(stages) or "none"
            raise ValueError(f"{summary['run_dir']} has no stage {text!r}; it has {there}")
        return stages[found[0]]
    begun = [stage for stage in stages.values() if stage["notebook"] or stage["started"]]
    wanted = stage_to_open(summary["state"], begun)
    if not wanted:
        raise ValueError(f"no stage of {summary['run_dir']} has run: there is nothing to open yet")
    return wanted


def model_names() -> list[str]:
    """Return the names of all registered models, in the alphabet's order."""
    from lib import tracking
    from lib.registry import ledger

    return sorted(model.name for model in ledger.models(tracking.open_client()))


def find_model(text: str) -> str:
    """Return the registered model that `text` means: that one or, where empty, the only one.

    Raises
    ------
    ValueError
        If `text` is empty and there are several models, or none.
    """
    if text:
        return text
    known = model_names()
    if len(known) == 1:
        return known[0]
    if not known:
        raise ValueError(
            "no model is registered yet: a run that passes its gate registers one, for example "
            "make run PIPELINE=power"
        )
    raise ValueError(f"no model was named, and there are several: {', '.join(known)}")


def find_version(model: str, text: str) -> str:
    """Return the version of a model that `text` means.

    Parameters
    ----------
    model : str
        A registered model.
    text : str
        A number, an alias as ``@staging``, or ``latest``.

    Raises
    ------
    ValueError
        If there is no such model, no version was named, or there is none; names those that there
        are.
    """
    from lib import tracking
    from lib.registry import ledger

    if text not in ("", LATEST):
        return text  # the registry refuses what it does not know, and names what there is
    client = tracking.open_client()
    ledger.find_model(client, model)
    found = client.search_model_versions(f"name = '{model}'")
    numbers = sorted(int(version.version) for version in found)
    if text and numbers:
        return str(numbers[-1])
    known = ", ".join(map(str, numbers)) or "none"
    raise ValueError(f"no version of {model} was named; there are: {known}")


def _latest(pipeline: str) -> str:
    runs = newest_runs(pipeline)
    if not runs:
        raise ValueError(_none(pipeline))
    return runs[0]


def _none(pipeline: str) -> str:
    """Say that there is no run, and what there is or how to make one."""
    others = sorted({run.partition("/")[0] for run in newest_runs()}) if pipeline else []
    what = f"there is no run of {pipeline} in {outputs_dir()}" if pipeline else "there is no run"
    if others:
        return f"{what}; there are runs of {', '.join(others)}"
    known = layout.pipelines()
    if pipeline and pipeline not in known:
        return f"{what}, and no such pipeline; there are {', '.join(known)}"
    return f"{what} yet, make one: make run PIPELINE={pipeline or 'power'}"


def _below_outputs(text: str) -> str:
    """Return ``<pipeline>/<run>`` of a path in a run folder; any other text as it is."""
    root, path = outputs_dir(), Path(text)
    if text and is_local(root) and path.exists():
        place, outputs = path.resolve(), Path(root.path).resolve()
        if place.is_relative_to(outputs) and place != outputs:
            return "/".join(place.relative_to(outputs).parts[:2])
    return text.strip("/")
