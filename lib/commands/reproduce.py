"""A run made again from the same commit, lock file, data and seed, and whether the metrics agree.

`reproduce` takes everything from the run's folder, makes the run in a git worktree of its commit
with outputs and databases of its own, so that neither the run, nor the registry, nor MLflow is
touched, and compares every metric that is no timing. What cannot be had back (changes that were
never committed, other packages, other data) is said by name, before and after.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lib.commands import lockfile
from lib.commands.which import find_run
from lib.ground.console import redact, say
from lib.ground.files import ROOT, data_dir
from lib.ground.folder import Run
from lib.ground.git import git
from lib.ground.parameters import Value
from lib.pages.differences import data_words
from lib.pages.summary import summarise

import numpy as np
import pandas as pd
from upath import UPath

COMMIT = re.compile(r"[0-9a-f]{7,64}")
TIMING = re.compile(r".*(_s|_ms|_seconds|_mb)|.*per_s.*")
NOISE = 1e-9
NO_CAUSE = (
    "commit, packages, Python and data are the same: the run does not repeat exactly, or not here"
)
LEFT_OUT = ("AIRFLOW_HOME", "AIRFLOW__", "MLFLOW", "_MLFLOW", "NOTIFY_")
LEFT_OUT += ("TUNING_STORAGE", "DASK_SCHEDULER")  # whose workers do not see the new run


def main(run: str, *, keep: bool = False) -> int:
    """Make a run again, print what has changed since and whether the metrics agree.

    Parameters
    ----------
    run : str
        As for `lib.commands.which.find_run`; it must have metrics.
    keep : bool, default False
        Leave worktree and outputs where they are, and say where.

    Returns
    -------
    int
        0 if data and metrics agree, 1 if not.

    Raises
    ------
    ValueError
        If it cannot be done: no such run, no metrics, or the new run ended before it had any.
    """
    known = find_run(run)
    known = known.parent or known
    run_dir, before = known.run_dir, summarise(known)
    if not before["metrics"]:
        raise ValueError(
            f"{run_dir} has no metrics to agree with ({before['state']}): name a run that was "
            "evaluated"
        )
    values = pinned(run_parameters(known), before["dataset"])
    start = before["start"]
    commit, about_commit = known_commit(start.get("commit", ""), known.pipeline)
    with worktree(commit, keep=keep) as (tree, folder):
        changed = environment_changes(start, commit)
        values, about_source = find_source(values, tree)
        say(f"making {run_dir} again")
        _tell("commit", about_commit)
        for words in changed or ["same Python, same packages"]:
            _tell("environment", words)
        _tell("parameters", f"{len(values)}, seed {values.get('seed', 'unknown')}{about_source}")
        after = summarise(make(known.pipeline, values, tree, folder / "outputs"))
    if keep:
        say(f"kept: {folder}; to remove it: git worktree remove --force {tree}; rm -r {folder}")
    if not after["metrics"]:
        raise ValueError(
            f"{run_dir} could not be made again, the new run {after['state']}: {after['reason']}. "
            "With KEEP=1 its outputs stay"
        )
    same_data = before["dataset"].get("digest") in (None, after["dataset"].get("digest"))
    _tell("data", data_words(before["dataset"], after["dataset"], ("then", "now")))
    rows = agreement(before["metrics"], after["metrics"])
    say(rows.drop(columns="agrees").to_string(na_rep="", float_format="{:.8g}".format))
    causes = [] if about_commit == commit[:10] else ["the files"]
    causes += ["the environment"] if changed else []
    say(verdict(rows, causes, same_data=same_data))
    return 0 if rows["agrees"].all() and same_data else 1


def run_parameters(run: Run) -> dict[str, Value]:
    """Return the parameters that the stages of a run have used.

    Raises
    ------
    ValueError
        If two stages had different values of one parameter: one run cannot have both.
    """
    found: dict[str, Value] = {}
    for stage, record in run.records().items():
        for name, value in record.get("parameters", {}).items():
            if name != "run_dir" and found.setdefault(name, value) != value:
                raise ValueError(
                    f"{run.run_dir} cannot be made again in one go: {name} was "
                    f"{redact(str(found[name]))} in an earlier stage and {redact(str(value))} in "
                    f"{stage}"
                )
    if not found:
        raise ValueError(f"{run.run_dir} cannot be made again: no stage left its parameters")
    return found


def pinned(values: Mapping[str, Value], dataset: Mapping) -> dict[str, Value]:
    """Return parameters with those filled in that ``dataset.json`` has under their name.

    A pipeline whose data change in place leaves there what reads them as they were, for a parameter
    that was empty in the run: ``as_of``, the number of a snapshot.
    """
    return {name: value or dataset.get(name, value) for name, value in values.items()}


def known_commit(text: str, pipeline: str) -> tuple[str, str]:
    """Return the commit that can be checked out for a run, and a sentence about it.

    Parameters
    ----------
    text : str
        ``commit`` of `run.json`: a hash, with ``+changes`` where files differed, or "".
    pipeline : str
        The commit has to hold it.

    Returns
    -------
    commit : str
        "" if there is none: the files as they are must do.
    words : str
    """
    commit, as_now = text.partition("+")[0], "the files are taken as they are now"
    if not COMMIT.fullmatch(commit):
        return "", f"unknown; {as_now}"
    if git("cat-file", "-e", f"{commit}:./dags/{pipeline}.py") is None:
        return "", f"{commit[:10]} is not here, or has no pipeline {pipeline}; {as_now}"
    if "+" in text:
        return commit, f"{commit[:10]}, without the changes that were never committed"
    return commit, commit[:10]


@contextmanager
def worktree(commit: str, *, keep: bool) -> Iterator[tuple[Path, Path]]:
    """Give the project as it was at `commit`, and a folder for outputs; remove both at the end.

    Yields
    ------
    tree : Path
        A detached git worktree; the project itself where `commit` is "".
    folder : Path
        A new, empty folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="reproduce-"))
    tree, inside = folder / "tree", ROOT
    try:
        if commit:
            command = ["-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach"]
            if git(*command, str(tree), commit) is None:
                raise ValueError(
                    f"git cannot make a worktree of {commit[:10]} in {folder}: see what "
                    f"`git worktree add --detach {tree} {commit[:10]}` says"
                )
            inside = tree / (git("rev-parse", "--show-prefix") or "")
        yield inside, folder
    finally:
        if not keep:
            git("worktree", "remove", "--force", str(tree))
            shutil.rmtree(folder, ignore_errors=True)


def environment_changes(start: Mapping, commit: str) -> list[str]:
    """Return what is not as it was when the run began, [] if nothing: Python and packages.

    Parameters
    ----------
    start : mapping
        ``python`` and ``lock`` of `run.json`.
    commit : str
        Where the run's lock file is; "" if unknown.
    """
    words = []
    python = platform.python_version()
    if start.get("python", "") != python:
        words.append(f"Python was {start.get('python') or 'not noted'}, now {python}")
    text = _lock_text(start.get("lock", ""), commit)
    if not text:
        words.append(
            "the run's lock file is neither here nor in its commit: no package is compared"
        )
    return words + [
        f"{name} was {was}, now {now or 'not installed'}"
        for name, was, now in lockfile.differences(text)
    ]


def find_source(values: Mapping[str, Value], tree: Path) -> tuple[dict[str, Value], str]:
    """Make the path in ``source`` absolute where only the project itself has it, not its worktree.

    Returns
    -------
    values : dict
        The parameters.
    words : str
        What was done; "" if nothing.
    """
    source = str(values.get("source", ""))
    head, path, table = re.fullmatch(r"(?s)(sql:sqlite:///|)([^#]*)(#.*|)", source).groups()
    if not path or not _exists(ROOT, path) or _exists(data_dir(), path) or _exists(tree, path):
        return dict(values), ""
    whole = f"{head}{ROOT / path}{table}"
    return {**values, "source": whole}, f", source is {redact(whole)}"


def make(pipeline: str, values: Mapping[str, Value], tree: Path, outputs: Path) -> Run:
    """Run `pipeline` of the project in `tree`, printing as it goes, and return the new run.

    Raises
    ------
    ValueError
        If no run folder appears.
    """
    older = (tree / "lib" / "cli.py").exists()  # where the commands were once
    module = "lib.cli" if older else "lib.commands.cli"
    command = [sys.executable, "-m", module, "run", pipeline, "--params", json.dumps(values)]
    settings = environment(tree, outputs)
    subprocess.run(command, cwd=tree, env=settings, check=False)  # a refused model ends in 1, too
    made = list((outputs / pipeline).glob("[!.]*"))
    if len(made) != 1:
        raise ValueError(f"{pipeline} did not start in {tree}; what it printed says why")
    return Run(UPath(made[0]), pipeline, made[0].name, "")


def environment(tree: Path, outputs: Path) -> dict[str, str]:
    """Return the environment variables for a run of the project in `tree`.

    Nothing in them leads to the tracking server, the databases or the people of the real runs.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith(LEFT_OUT)}
    places = {"PYTHONPATH": tree, "OUTPUTS_DIR": outputs, "DATA_DIR": data_dir()}
    return kept | {name: str(place) for name, place in places.items()}


def agreement(before: Mapping[str, float], after: Mapping[str, float]) -> pd.DataFrame:
    """Return every metric that is no timing, with both values.

    Parameters
    ----------
    before, after : mapping of str to float
        Content of the two runs' `metrics.json`.

    Returns
    -------
    pandas.DataFrame
        By metric: ``then``, ``now``, ``difference``, NaN where a run has no such metric, and
        ``agrees``, which leaves room for `NOISE`, relative.
    """
    names = [name for name in sorted({**before, **after}) if not TIMING.fullmatch(name)]
    rows = pd.DataFrame({"then": before, "now": after}, names, dtype="float64")
    rows["difference"] = rows["now"] - rows["then"]
    rows["agrees"] = np.isclose(rows["now"], rows["then"], rtol=NOISE, atol=1e-15)
    return rows


def verdict(rows: pd.DataFrame, causes: list[str], *, same_data: bool) -> str:
    """Return the last line: reproduced or not, and what may be the reason.

    Parameters
    ----------
    rows : pandas.DataFrame
        What `agreement` returns.
    causes : list of str
        What is not as it was, data aside.
    same_data : bool
        Whether the digests of the data agree.
    """
    count, unlike = f"{len(rows)} metrics", rows.index[~rows["agrees"]]
    changed = [*([] if same_data else ["the data"]), *causes]
    unsure = f"not known to be the same: {', '.join(changed)}"
    if len(unlike):
        reason = unsure if changed else NO_CAUSE
        return f"NOT REPRODUCED: {len(unlike)} of {count} differ: {', '.join(unlike)}; {reason}"
    if not same_data:
        return f"NOT REPRODUCED: the data have changed, though all {count} agree"
    return f"REPRODUCED: all {count} agree{f', {unsure}' if causes else ''}"


def _lock_text(lock: str, commit: str) -> str:
    """Return the lock file of this digest, from here or from `commit`; "" if neither has it."""
    here = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    then = git("show", f"{commit}:./requirements.lock") if commit else None
    digests = {hashlib.sha256(text.encode()).hexdigest(): text for text in (here, f"{then}\n")}
    return digests.get(lock, "")


def _tell(topic: str, words: str) -> None:
    say(f"  {topic:<12} {words}")


def _exists(folder: Path, path: str) -> bool:
    return (folder / path).exists() or ("*" in path and any(folder.glob(path)))
