"""What `make history`, `champion`, `promote`, `rollback` and `reconcile` print.

Nothing is decided here: each function does what its command says through
`lib.registry.lifecycle`. A model and a version are what `lib.commands.which` understands, "" for
the only model there is. What cannot be done is a `ValueError`, whose message names what there is; a
registry that cannot be asked is a `ConnectionError`. After a change the pages of the runs that made
the versions say which of them serves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from lib import tracking
from lib.commands import which
from lib.ground.console import redact, say
from lib.pages import publish
from lib.pages.html import when
from lib.registry import lifecycle
from lib.registry.ledger import Entry
from lib.registry.lifecycle import PRODUCTION
from lib.run import open_run

HEADINGS = ("when (UTC)", "alias", "change", "by", "why")


def history(model: str) -> None:
    """Print every change of an alias of a model as a table, the oldest first."""
    with _asked():
        model = which.find_model(model)
        entries, serves = lifecycle.history(model), lifecycle.champion(model)
    say(f"{model}: {_serves(serves)}; {len(entries)} changes on record")
    rows = [HEADINGS, *map(_row, entries)] if entries else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("  ".join(cells).rstrip())
    if any(not entry.done for entry in entries):
        say(f"To finish what was cut off: make reconcile MODEL={model}")


def champion(model: str, at: str) -> None:
    """Print which version is in production, or was at the time `at`, since when and why."""
    moment = _moment(at) if at else datetime.now(UTC)
    with _asked():
        model = which.find_model(model)
        number = lifecycle.champion(model, moment if at else None)
        entries = [e for e in lifecycle.history(model) if e.alias == PRODUCTION]
    known = [e for e in entries if datetime.fromisoformat(e.when) <= moment]
    words = f" at {when(moment.isoformat())} UTC" if at else ""
    if number is not None and known:
        last = known[-1]
        words += f", since {when(last.when)} UTC by {last.by}: {_one_line(last.reason)}"
    elif at and not known:
        begins = f"begins at {when(entries[0].when)} UTC" if entries else "has no entry"
        words += f", as far as is known: the ledger {begins}"
    say(f"{model}: {_serves(number)}{words}")


def promote(model: str, version: str, reason: str) -> None:
    """Put a version into production, and say what it replaces and how to undo that."""
    with _asked():
        model = which.find_model(model)
        version = which.find_version(model, version)
        entry = lifecycle.promote(model, version, reason=reason)
        outcome = lifecycle.version(model, entry.after).tags.get("gate.outcome", "")
        _publish(model, entry)
    _tell_change(model, entry)
    if entry.override:
        said = f"its gate says {outcome!r}" if outcome else "it has passed no gate"
        say(f"  override  {said}; the reason stays on record")
    if entry.before is not None:
        say(f"  undo      make rollback MODEL={model}")


def rollback(model: str, reason: str) -> None:
    """Put the champion before this one into production, and say how to undo that."""
    with _asked():
        model = which.find_model(model)
        entry = lifecycle.rollback(model, reason=reason)
        _publish(model, entry)
    _tell_change(model, entry)
    say(f'  undo      make promote MODEL={model} VERSION={entry.before or "..."} REASON="..."')


def reconcile(model: str) -> None:
    """Finish what was cut off, of one model or of all where `model` is empty; say what was done."""
    with _asked():
        names = [model] if model else which.model_names()
        done = [f"{one}: {text}" for one in names for text in lifecycle.reconcile(one)]
    for line in done or ["nothing to do: aliases and ledger agree"]:
        say(line)


@contextmanager
def _asked() -> Iterator[None]:
    """Turn what a tracking server or database refuses into an error that names it."""
    tracking.check()
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        raise ConnectionError(
            f"{redact(tracking.tracking_uri())} could not do it: {redact(str(error))}. Look with "
            "make doctor; what was begun is finished by make reconcile"
        ) from error


def _publish(name: str, entry: Entry) -> None:
    """Write anew the pages of the runs that made the versions, where those runs are still there."""
    left = tracking.open_client().search_model_versions(f"name = '{name}'")
    changed = [v for v in left if int(v.version) in (entry.before, entry.after)]
    folders = {version.tags["run_dir"] for version in changed if "run_dir" in version.tags}
    for run in map(open_run, sorted(folders)):
        if run.path.exists():
            publish.publish(run)


def _tell_change(name: str, entry: Entry) -> None:
    before = "none did before" if entry.before is None else f"version {entry.before} did before"
    say(f"{name}: version {entry.after} serves now, {before}")
    say(f"  why       {_one_line(entry.reason)}")


def _row(entry: Entry) -> tuple[str, ...]:
    change = f"{entry.before or '-'} -> {entry.after or '-'}"
    why = "OVERRIDE: " if entry.override else ""
    why += _one_line(entry.reason) + ("" if entry.done else " (NOT FINISHED)")
    return when(entry.when), entry.alias, f"{change} {entry.action}", entry.by, why


def _serves(number: int | None) -> str:
    return "no version in production" if number is None else f"version {number} in production"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no time: expected a date or more, as 2026-11-01 (its first moment, UTC) "
            "or 2026-11-01T18:30+01:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _one_line(text: str) -> str:
    return " ".join(text.split())
