"""What an alias points to, decided by the ledger: moves that nobody can undo unseen, and repair.

An entry is written first, then the alias moves. A move that was cut off is completed by whoever
comes next, and what was changed past the ledger is entered into it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from lib.ground.files import now
from lib.registry import ledger
from lib.registry.ledger import Entry, EntryTaken, insist, named, seek, serving

if TYPE_CHECKING:
    from mlflow import MlflowClient

PRODUCTION, STAGING = "production", "staging"
ALIASES = (PRODUCTION, STAGING)
PAUSE_S = 0.5  # in which a change under way elsewhere gets on, so that it is not taken for foreign
CURRENT: Final = -1  # whatever version is in production now


class PromotionConflict(ValueError):
    """Another version has entered production meanwhile; the message says which, and why."""


@dataclass(frozen=True)
class State:
    """A model's ledger (its id, "" if none), its entries, and the aliases as they are."""

    run_id: str
    entries: list[Entry]
    aliases: dict[str, int]


def look(client: "MlflowClient", name: str) -> State:
    """Return the state of a model now; raises ValueError if there is none of this name."""
    model = ledger.find_model(client, name)
    run_id = model.tags.get(ledger.TAG, "")
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return State(run_id, ledger.entries(client, run_id) if run_id else [], aliases)


def move(
    client: "MlflowClient",
    name: str,
    alias: str,
    after: int,
    *,
    expected: int | None = CURRENT,
    state: State | None = None,
    **facts: str | bool,
) -> tuple[Entry, State]:
    """Write the entry that moves `alias`, as soon as nobody else writes one; then move it.

    Entries about the other alias that come between do not matter. One about this alias does: what
    was expected no longer holds, which is a `PromotionConflict`. `state` is what `reconcile` or
    another move has just left; the one that this move leaves is returned beside the entry.
    """
    state = state or reconcile(client, name)[0]
    expected = serving(state.entries, alias) if expected == CURRENT else expected
    while True:
        before = serving(state.entries, alias)
        if before != expected:
            raise PromotionConflict(_conflict(name, after, expected, state.entries))
        if before == after:
            raise ValueError(f"{name} version {after} is in {alias} already; nothing was changed")
        entry = _entry(state.entries, alias, before, after, **facts)
        try:
            ledger.append(client, state.run_id, entry)
        except EntryTaken:
            state = look(client, name)
        else:
            state = _settle(client, name, replace(state, entries=[*state.entries, entry]))
            return state.entries[entry.number - 1], state


def _entry(
    entries: list[Entry], alias: str, before: int | None, after: int | None, **facts: str | bool
) -> Entry:
    """Return the next entry; its time is never before the last one's, whatever the clocks say."""
    when = max(now(), entries[-1].when) if entries else now()
    head = {"number": len(entries) + 1, "when": when, "id": uuid4().hex}
    return Entry(alias=alias, before=before, after=after, **head, **facts)


def _settle(client: "MlflowClient", name: str, state: State) -> State:
    """Bring aliases to where the ledger says, and note what is done.

    Anyone may do this for anyone, and again. Whoever has moved an alias looks once more whether the
    ledger has gone on meanwhile, so the last one to move it has moved it to the right version.
    """
    moved: set[str] = set()
    n_seen = 0
    while n_seen < len(state.entries):
        moved |= {entry.alias for entry in state.entries[n_seen:] if n_seen or not entry.done}
        if not moved:
            return state
        for alias in moved:
            target = serving(state.entries, alias)
            if target is None:
                insist(client.delete_registered_model_alias, name, alias)
            else:
                insist(client.set_registered_model_alias, name, alias, str(target))
        n_seen, state = len(state.entries), look(client, name)
    for entry in state.entries:
        if not entry.done:
            ledger.finish(client, state.run_id, entry)
    return replace(state, entries=[replace(one, done=one.done or now()) for one in state.entries])


def reconcile(client: "MlflowClient", name: str) -> tuple[State, list[str]]:
    """Finish what was cut off, and enter what was changed past the ledger, which there must be.

    Returns
    -------
    State
    list of str
        What has been done, in words.
    """
    state = look(client, name)
    said = [f"{text} and is finished" for text in _unfinished(state)]
    for alias in ALIASES:
        state, text = _note_found(client, name, alias, state)
        said += [text] if text else []
    return _settle(client, name, state), said


def _note_found(client: "MlflowClient", name: str, alias: str, state: State) -> tuple[State, str]:
    """Enter a change of `alias` that was made past the ledger; return it in words, or ""."""
    while _strays(state, alias) or _is_deleted(client, name, alias, state):
        time.sleep(PAUSE_S)
        earlier, state = state, look(client, name)
        if state != earlier:
            continue
        before, after = serving(state.entries, alias), state.aliases.get(alias)
        reason = "found so, and not changed by way of this ledger"
        entry = _entry(state.entries, alias, before, after, action="found", reason=reason)
        try:
            ledger.append(client, state.run_id, entry)
        except EntryTaken:
            state = look(client, name)
        else:
            text = f"entered into the ledger: {entry.change}, {reason}"
            return look(client, name), text
    return state, ""


def _strays(state: State, alias: str) -> bool:
    """Say whether `alias` is neither where the ledger says nor where a change was cut off."""
    ours = [entry for entry in state.entries if entry.alias == alias]
    begun = {entry.before for entry in ours if not entry.done and entry.action != "found"}
    return state.aliases.get(alias) not in {serving(ours, alias), *begun}


def _is_deleted(client: "MlflowClient", name: str, alias: str, state: State) -> bool:
    """Say whether the version to which the ledger has moved `alias` is gone."""
    target = serving(state.entries, alias)
    if target in (None, state.aliases.get(alias)):
        return False
    return seek(client.get_model_version, name, str(target)) is None


def _unfinished(state: State) -> list[str]:
    """Return in words which entries are not finished."""
    return [f"entry {e.number} was cut off: {e.change}" for e in state.entries if not e.done]


def disagreements(state: State) -> list[str]:
    """Return in words where aliases and ledger disagree, and which entries are not finished."""
    said = _unfinished(state)
    for alias in ALIASES:
        if _strays(state, alias):
            actual, target = state.aliases.get(alias), serving(state.entries, alias)
            said.append(f"@{alias} points to {named(actual)}, the ledger says {named(target)}")
    return said


def earlier_champions(entries: Iterable[Entry]) -> list[int]:
    """Return the champions that rollbacks go to, the next one first."""
    champions: list[int] = []
    current = None
    for entry in entries:
        if entry.alias == PRODUCTION:
            current = entry.after
            if entry.action == "rollback":
                while champions[-1] != current:
                    champions.pop()
            elif current is not None and champions[-1:] != [current]:
                champions.append(current)
    return (champions if current is None else champions[:-1])[::-1]


def _conflict(name: str, after: int, expected: int | None, entries: list[Entry]) -> str:
    """Say who has promoted what meanwhile, and what to do."""
    last = next((entry for entry in reversed(entries) if entry.alias == PRODUCTION), None)
    found = "none is"
    if last:
        by = f"{last.action} by {last.by}: {last.reason}"
        found = f"{named(last.after)} is there since {last.when} ({by})"
    return (
        f"{name} version {after} was not promoted: {named(expected)} was expected in production, "
        f"but {found}. Run the register stage again, which compares with what is there now"
    )
