"""Old run folders go by a stated rule, and nothing goes that anything refers to.

A run goes when its last stage ended more than N days ago, it is not among the last K of its
pipeline, and none of `REASONS` keeps it. Copies that were opened to work on a stage do not count
among the last K. Where the registry cannot be asked, nothing goes. The rule is applied to what is
found when it is asked for; without `apply` it is only told.

The folder goes with its scratch files, and its MLflow run is marked as deleted. That can be undone
(`mlflow.MlflowClient().restore_run`), until ``mlflow gc`` removes such runs and their artifacts.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lib import tracking
from lib.commands.which import REFERENCE
from lib.ground.console import redact, say
from lib.ground.files import ROOT, is_local, look_into, outputs_dir, state_dir
from lib.ground.folder import Run
from lib.ground.git import git
from lib.ground.runs import list_runs
from lib.pages.run_index import write_index
from lib.pages.summary import summarise
from lib.registry import ledger

from upath import UPath

if TYPE_CHECKING:
    from mlflow import MlflowClient

BY_HAND = "dev"
PRUNED = ".pruned-"
NEVER = datetime.min.replace(tzinfo=UTC)
REASONS = {
    "by hand": "it is where notebooks run by hand",
    "in git": "its files are kept in git, or it is a reference run",
    "link": "its folder is a link, or lies outside of OUTPUTS_DIR",
    "running": "it says that it is running",
    "registered": "a registered model version refers to it",
    "elsewhere": "another tracking server than the one that is asked may refer to it",
    "opened": "a younger copy was opened from it",
    "unknown": "it does not say when it ran",
    "last": "among the last of its pipeline",
    "young": "not old enough",
    "taken": "a run that stays has taken stages from it",
}
"""Why a run stays, the first that applies."""


@dataclass(frozen=True)
class Found:
    """A run, as far as the rule is about it.

    Attributes
    ----------
    run : Run
    kept : str
        A key of `REASONS` that holds whatever its age, or "".
    last : datetime
        When something last ended, began or was opened in it (UTC); `NEVER` where it does not say.
    origin : str
        The ``run_dir`` it was opened from; "" for a run of its own.
    taken : frozenset of str
        The runs that it has taken stages from: its page leads there, and MLflow has its model
        there. Its files are its own.
    """

    run: Run
    kept: str
    last: datetime
    origin: str
    taken: frozenset[str] = frozenset()


def main(*, last: int = 10, days: int = 30, apply: bool = False) -> None:
    """Tell which runs go by the rule, and with `apply` delete them.

    Parameters
    ----------
    last : int, default 10
        So many of each pipeline stay however old they are.
    days : int, default 30
        Runs that ended within so many days stay.
    apply : bool, default False
        Delete; else nothing is changed.

    Raises
    ------
    ValueError, ConnectionError
        If the registry cannot be asked. Nothing has been deleted then.
    """
    client = _ask_registry()
    referred = _referred(client)
    runs = [look(run, *referred) for run in list_runs(copies=True)]
    decided = decide(runs, last, datetime.now(UTC) - timedelta(days=days))
    going = [found for found, reason in decided if not reason]
    say(f"Older than {days} days, not of the last {last} of a pipeline, and not referred to, go:")
    sizes = [size(found.run) for found in going]
    for found, n_bytes in zip(going, sizes, strict=True):
        say(f"goes     {found.last:%Y-%m-%d} {n_bytes / 1e6:>9,.1f} MB  {found.run.run_dir}")
    stay = Counter(reason for _, reason in decided)
    for reason, text in REASONS.items():
        if stay[reason]:
            say(f"{stay[reason]:>5} stay: {text}")
    say(f"{len(going)} of {len(decided)} runs go, {sum(sizes) / 1e6:,.1f} MB")
    if not apply:
        if going:
            say("Nothing was deleted. To delete it: make prune APPLY=1, or --apply")
        return
    for place in leftovers():
        _remove(place)
    for found in going:
        delete(found.run, client)
        say(f"deleted  {found.run.run_dir}")
    if going:
        say("Their MLflow runs are marked as deleted; `mlflow gc` removes them for good")
        write_index()


def look(run: Run, run_dirs: set[str], mlflow_runs: set[str], tracked: set[str]) -> Found:
    """Return what the rule has to know of `run`.

    Parameters
    ----------
    run : Run
    run_dirs, mlflow_runs : set of str
        What registered versions refer to: run folders, and ids of MLflow runs.
    tracked : set of str
        Run folders with files in git.
    """
    with look_into(run.path):
        summary = summarise(run)
        opened = [record.get("opened") for record in _records(run).values()]
    start, link = summary["start"], summary["mlflow"]
    times = [summary["ended"], summary["started"], start.get("started"), *opened]
    here = tracking.tracking_uri()
    reasons = {
        "by hand": run.name == BY_HAND,
        "in git": run.run_dir in tracked or run.name.startswith(REFERENCE),
        "link": not _is_own(run),
        "running": summary["state"] == "running",
        "registered": run.run_dir in run_dirs or link.get("run_id") in mlflow_runs,
        "elsewhere": link.get("tracking_uri", here) != here,
    }
    kept = next((reason for reason, holds in reasons.items() if holds), "")
    last = max((datetime.fromisoformat(time) for time in times if time), default=NEVER)
    stages = [s for one in (summary, *summary["children"]) for s in one["stages"]]
    taken = frozenset("/".join(s["taken"].split("/")[:2]) for s in stages if s["taken"])
    return Found(run, kept, last, start.get("opened", ""), taken)


def decide(runs: Iterable[Found], keep_last: int, before: datetime) -> list[tuple[Found, str]]:
    """Apply the rule; the oldest run comes first.

    Parameters
    ----------
    runs : iterable of Found
    keep_last : int
        How many of each pipeline stay.
    before : datetime
        Runs that were last worked on before this time (UTC) are old.

    Returns
    -------
    list of (Found, str)
        With a key of `REASONS`, or "" where the run goes.
    """
    ordered = sorted(runs, key=lambda found: (found.last, found.run.run_dir))
    origins = {found.origin for found in ordered if found.last >= before}
    last: dict[str, list[str]] = {}
    for found in reversed(ordered):
        if not found.origin and found.kept not in ("by hand", "in git", "link"):
            last.setdefault(found.run.pipeline, []).append(found.run.run_dir)
    decided = []
    for found in ordered:
        reasons = {
            "opened": found.run.run_dir in origins,
            "unknown": found.last == NEVER,
            "last": found.run.run_dir in last.get(found.run.pipeline, [])[:keep_last],
            "young": found.last >= before,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), "")
        decided.append((found, found.kept or reason))
    while True:  # what is kept so may have taken stages from others itself
        needed = {run_dir for found, reason in decided if reason for run_dir in found.taken}
        going = [found for found, reason in decided if not reason and found.run.run_dir in needed]
        if not going:
            return decided
        decided = [(found, "taken" if found in going else reason) for found, reason in decided]


def delete(run: Run, client: "MlflowClient") -> None:
    """Delete a run folder with its scratch files, and mark its MLflow run as deleted.

    Raises
    ------
    ValueError
        If the folder is a link, or lies outside of `OUTPUTS_DIR`.
    """
    if not _is_own(run):
        raise ValueError(f"{run.path} is a link or not in {outputs_dir()}: delete it by hand")
    for one in (run, *run.children()):
        known = tracking.link(one)
        if known and ledger.seek(client.get_run, known["run_id"]):
            client.delete_run(known["run_id"])
    _remove(run.path)
    _remove(UPath(_scratch(run)))


def leftovers() -> list[UPath]:
    """Return what an earlier deletion that was cut off has left."""
    root = outputs_dir()
    found = root.glob(f"*/{PRUNED}*") if is_local(root) and root.exists() else ()
    return [path for path in found if not path.is_symlink() and not path.parent.is_symlink()]


def size(run: Run) -> int:
    """Return the bytes of a run's own files, scratch files included; links are not followed."""
    if not is_local(run.path):
        return run.path.fs.du(run.path.path)
    places = [Path(run.path.path), _scratch(run)]
    files = (file for place in places for file in place.rglob("*"))
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _ask_registry() -> "MlflowClient":
    """Return a client whose registry answers."""
    from mlflow import MlflowException

    tracking.check()
    uri = tracking.tracking_uri()
    try:
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            raise FileNotFoundError("it is not there; MLFLOW_TRACKING_URI says where models are")
        client = tracking.open_client()
        client.search_model_versions(max_results=1)
    except (MlflowException, OSError) as error:
        raise ValueError(
            f"{redact(uri)} cannot be asked which runs a registered version refers to. Nothing was "
            f"deleted. {redact(str(error))}"
        ) from error
    return client


def _referred(client: "MlflowClient") -> tuple[set[str], set[str], set[str]]:
    """Return run folders and MLflow runs of every registered version, and run folders in git."""
    page = client.search_model_versions(max_results=1000)
    versions = list(page)
    while page.token:
        page = client.search_model_versions(max_results=1000, page_token=page.token)
        versions += page
    names = (version.tags.get("run_dir", "").split("/") for version in versions)
    run_dirs = {"/".join(parts[:2]) for parts in names}  # of a child run, that of its parent
    return run_dirs, {version.run_id for version in versions if version.run_id}, _tracked()


def _tracked() -> set[str]:
    """Return the run folders, below `OUTPUTS_DIR`, that have files in git."""
    root = outputs_dir()
    if not is_local(root) or not Path(root.path).is_relative_to(ROOT):
        return set()
    files = git("ls-files", "-z", "--", ".", folder=Path(root.path)) or ""
    names = [name.split("/") for name in files.split("\0")]
    return {"/".join(parts[:2]) for parts in names if len(parts) > 2}


def _records(run: Run) -> Mapping[str, dict]:
    try:
        return run.records()
    except (OSError, ValueError):  # damaged: its age is known from the rest
        return {}


def _is_own(run: Run) -> bool:
    """Say whether the folder lies in `OUTPUTS_DIR` itself, and is no link to somewhere else."""
    if not is_local(run.path):
        return True
    place = Path(run.path.path)
    return place.resolve() == Path(outputs_dir().path).resolve() / run.pipeline / run.name


def _scratch(run: Run) -> Path:
    return state_dir() / ".scratch" / run.pipeline / run.name


def _remove(path: UPath) -> None:
    """Remove a folder; what is left after a cut is no run, and found by `leftovers`."""
    if not is_local(path):
        path.fs.rm(path.path, recursive=True)
        return
    place = Path(path.path)
    if place.is_dir() and not place.is_symlink():
        if not place.name.startswith(PRUNED):
            place = place.rename(place.with_name(f"{PRUNED}{place.name}"))
        shutil.rmtree(place)
