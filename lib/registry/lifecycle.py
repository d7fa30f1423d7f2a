"""From evaluated to in production: floors are obeyed, and every change of an alias is on record.

`register` makes the model of a run a version, with metrics, data digest and source as tags, and
moves ``@staging`` to it, and ``@production`` where its policy and its gate say so; `promote` and
`rollback` move ``@production`` by hand. What an alias points to is decided by
`lib.registry.ledger`, where an entry is written before anything moves: of two changes that collide
one is refused, on whatever machine they are made, and one that was cut off is completed by whoever
comes next.
"""

import getpass
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from lib import tracking
from lib.floors import GREATER_IS_BETTER, closest, reaches
from lib.registry import ledger
from lib.registry.ledger import Entry, EntryTaken, insist, serving
from lib.run import Run, now, told_briefly
from lib.runs import copied_from, is_by_hand

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PRODUCTION, STAGING = "production", "staging"
ALIASES = (PRODUCTION, STAGING)
POLICIES = ("auto", "staging", "approval", "never")
BACKED = ("first", "better")  # outcomes of the gate that need no override
MAX_REASON = 1500  # characters, so that an entry fits the ledger
PAUSE_S = 0.5  # in which a change under way elsewhere gets on, so that it is not taken for foreign
CURRENT: Final = -1  # whatever version is in production now


class GateError(ValueError):
    """A model did not reach its floors; the message gives metric, value and floor."""


class PromotionConflict(ValueError):
    """Another version has entered production meanwhile; the message says which, and why."""


def check(
    metrics: Mapping[str, float],
    floors: Mapping[str, float] | None = None,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
) -> dict:
    """Compare `metrics` with the floors and return the verdict.

    Parameters
    ----------
    metrics : mapping of str to float
        What the evaluation found.
    floors : mapping of str to float, optional
        Worst acceptable value by metric, where `lib.floors.GREATER_IS_BETTER` knows whether
        larger is better.
    minimum, maximum : mapping of str to float, optional
        Likewise, for any metric, one of your own too: the least value that is acceptable where
        larger is better, the largest where smaller is.

    Returns
    -------
    dict
        ``passed`` and ``checks``: a list of ``metric``, ``value``, ``threshold``,
        ``greater_is_better`` and ``passed``. A value that is not finite has failed.

    Raises
    ------
    ValueError
        If `metrics` has no metric of that name, nothing says whether larger is better, a metric
        has two floors, or a floor is no number.

    Examples
    --------
    >>> check({"rmse": 0.4, "uplift": 1.2}, {"rmse": 0.5}, minimum={"uplift": 1.0})["passed"]
    True
    """
    asked = [(m, least, GREATER_IS_BETTER[m]) for m, least in (floors or {}).items()]
    asked += [(metric, least, True) for metric, least in (minimum or {}).items()]
    asked += [(metric, most, False) for metric, most in (maximum or {}).items()]
    names = [metric for metric, _, _ in asked]
    checks = []
    for metric, threshold, larger in asked:
        if metric not in metrics:
            raise ValueError(
                f"a floor names the metric {metric}, which the evaluation has not measured"
                f"{closest(metric, metrics)}. It has {', '.join(sorted(metrics)) or 'none'}"
            )
        if names.count(metric) > 1:
            raise ValueError(f"the metric {metric} has two floors; give one")
        if isinstance(threshold, str) or not math.isfinite(threshold):
            raise ValueError(f"the floor of {metric} is {threshold!r}; expected a finite number")
        value = metrics[metric]
        checks.append(
            {
                "metric": metric,
                "value": value if math.isfinite(value) else None,
                "threshold": threshold,
                "greater_is_better": larger,
                "passed": reaches(value, threshold, greater_is_better=larger),
            }
        )
    return {"passed": bool(checks) and all(c["passed"] for c in checks), "checks": checks}


def explain(verdict: dict) -> str:
    """Return the verdict in words, one clause for each check."""
    clauses = []
    for one in verdict["checks"]:
        sign = ">=" if one["greater_is_better"] else "<="
        outcome = "passed" if one["passed"] else "FAILED"
        value = "missing" if one["value"] is None else f"{one['value']:.4g}"
        clauses.append(
            f"{one['metric']} = {value}, required {sign} {one['threshold']:g}: {outcome}"
        )
    return "; ".join(clauses) or "no check was made"


def full_name(run: Run, name: str) -> str:
    """Return what the model of `run` is called: `name`, ending in ``_sample`` on sample data."""
    return f"{name}_sample" if run.read("dataset.json")["source"] == "sample" else name


def register(
    run: Run, name: str, *, promote: str = "auto", gate: dict | None = None, from_copy: bool = False
) -> dict:
    """Make the model of `run` a version of `name`, and move the aliases that its policy names.

    A retry finds the version that an earlier try has made and completes it. ``@staging`` never
    moves back to an older version. A run by hand never moves ``@production``, whatever policy and
    gate say: a person who wants that calls `promote`.

    Parameters
    ----------
    run : Run
        Holds `model`, `metrics.json`, `verdict.json` and `dataset.json`.
    name : str
        Registered model; see `full_name`.
    promote : {"auto", "staging", "approval", "never"}
        What may follow: ``@staging`` and, where the gate says so, ``@production``; ``@staging``
        only, with or without a person who decides later; no alias at all.
    gate : dict, optional
        Of `lib.registry.gate.decide`. Without it nothing enters production.
    from_copy : bool, default False
        Whether to register even from a copy that was opened to work on a stage, see
        `lib.commands.workbench`.

    Returns
    -------
    dict
        ``name``, ``version`` (int), ``alias`` ("production", "staging" or ""), ``uri``,
        ``verdict`` (of the floors, in words), ``policy``, ``outcome`` and ``reason`` (of the gate;
        "" without), ``promoted`` and ``champion`` (the version in production now, or None).

    Raises
    ------
    GateError
        If the verdict is not "passed"; nothing is registered.
    PromotionConflict
        If the champion is no longer the one that the gate has compared with. The version is
        registered, and not in production.
    ValueError
        If `run` is a copy, and `from_copy` was not given, or there is no such policy; nothing is
        registered.
    mlflow.MlflowException
        If the registry refuses or cannot be reached.
    """
    with told_briefly():
        floors = _check_run(run, name, promote, from_copy=from_copy)
    run.local("model")
    if gate and is_by_hand(run):
        gate = gate | {"by_hand": True, "promote": False}
    name = full_name(run, name)
    known = tracking.mirror(run)
    client = tracking.open_client()
    cause = {"run_dir": run.run_dir, "verdict": floors}
    with tracking.locked("registry"):  # a courtesy; what holds between machines is the ledger
        ledger.establish(client, name)
        version = _version_of(client, name, known, _facts(run, known, floors))
        _note_gate(client, name, version, gate)
        if promote != "never":
            _stage(client, name, version, cause)
        if promote == "auto" and gate and gate["promote"]:
            _enter_production(client, name, version, gate, cause)
        state = _look(client, name)
    return _account(state, name, version, promote, gate) | {"verdict": floors}


def promote(
    name: str,
    version: int | str,
    *,
    reason: str,
    who: str = "",
    run_dir: str = "",
    verdict: str = "",
    expected: int | None = CURRENT,
) -> Entry:
    """Put a version into production; the one it replaces is tagged ``archived``.

    Parameters
    ----------
    name : str
        Registered model, as it is called there.
    version : int or str
        A number, or an alias as ``@staging``.
    reason : str
        Why; must not be empty. Of a version that its gate has not found better it stays visible for
        ever, as the tag ``gate.override`` and in the ledger.
    who, run_dir : str
        Who or which run wants it; the user of this process where neither is given.
    verdict : str
        Of the floors, in words; what the version's tag says where it is not given.
    expected : int or None, optional
        The version that has to be in production for this to happen; None for none. Where it is not
        given: what is in production now.

    Returns
    -------
    Entry
        What now stands in the ledger.

    Raises
    ------
    PromotionConflict
        If another version than the one expected is in production.
    ValueError
        If there is no such version, it is in production already, or a reason is missing.
    """
    _check_reason(reason)
    if not reason.strip():
        raise ValueError(
            f"{name} version {version} was not promoted: no reason was given, and the ledger keeps "
            'one of every promotion. Say why, for example REASON="better on last week\'s data"'
        )
    client = tracking.open_client()
    chosen = _find_version(client, name, version)
    with tracking.locked("registry"):
        ledger.establish(client, name)
        return _move(
            client,
            name,
            PRODUCTION,
            int(chosen.version),
            expected=expected,
            action="promote",
            who=who or ("" if run_dir else _user()),
            run_dir=run_dir,
            reason=reason.strip(),
            verdict=verdict or chosen.tags.get("verdict", ""),
            override=chosen.tags.get("gate.outcome") not in BACKED,
        )


def rollback(name: str, *, reason: str = "", who: str = "") -> Entry:
    """Undo the last promotion: put the champion before this one into production again.

    Called again it goes one further back, and never to a version that was just rolled back from.
    Versions that have been deleted are passed over.

    Raises
    ------
    PromotionConflict
        If somebody promotes another version at the same moment.
    ValueError
        If nothing that is left served before.
    """
    _check_reason(reason)
    client = tracking.open_client()
    ledger.find_model(client, name)
    with tracking.locked("registry"):
        ledger.establish(client, name)
        entries = _reconcile(client, name)[0].entries
        current = serving(entries, PRODUCTION)
        left = (v for v in _earlier(entries) if _seek_version(client, name, v) is not None)
        target = next(left, None)
        if target is None:
            raise ValueError(
                f"{name} cannot be rolled back: {_named(current)} is in production, and no earlier "
                f"champion is left. To choose another version: {_command(name)}"
            )
        return _move(
            client,
            name,
            PRODUCTION,
            target,
            expected=current,
            action="rollback",
            who=who or _user(),
            reason=reason.strip() or f"undoes version {current}",
        )


def history(name: str) -> list[Entry]:
    """Return every change of an alias of `name`, the oldest first.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    return ledger.read(name)


def champion(name: str, at: datetime | None = None) -> int | None:
    """Return the version that is in production, or was at a time; None if there was none.

    Parameters
    ----------
    name : str
        Registered model.
    at : datetime, optional
        UTC where it has no time zone. What was before the ledger began is not known.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    client = tracking.open_client()
    state = _look(client, name)
    if at is None:
        return serving(state.entries, PRODUCTION) if state.run_id else state.aliases.get(PRODUCTION)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return serving((e for e in state.entries if datetime.fromisoformat(e.when) <= at), PRODUCTION)


def version(name: str, number_or_alias: int | str) -> "ModelVersion":
    """Return a version by its number, or by its alias as in ``@production``.

    Raises
    ------
    ValueError
        If there is no such model, version or alias; names those that there are.
    """
    return _find_version(tracking.open_client(), name, number_or_alias)


def find(uri: str) -> "ModelVersion":
    """Return the version that ``models:/<name>@<alias>`` or ``models:/<name>/<number>`` means.

    Raises
    ------
    mlflow.MlflowException
        If there is no such model, alias or version.
    """
    client, path = tracking.open_client(), uri.removeprefix("models:/")
    if "@" in path:
        return client.get_model_version_by_alias(*path.split("@"))
    return client.get_model_version(*path.rsplit("/", 1))


def reconcile(name: str) -> list[str]:
    """Finish what was cut off, and enter into the ledger what was changed past it.

    Returns
    -------
    list of str
        What has been done, in words; nothing where aliases and ledger agreed.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    client = tracking.open_client()
    model = ledger.find_model(client, name)
    if ledger.TAG not in model.tags and not set(ALIASES) & set(model.aliases):
        return []
    with tracking.locked("registry"):
        ledger.establish(client, name)
        return _reconcile(client, name)[1]


def troubles() -> list[str]:
    """Say, of every model whose aliases and ledger disagree, how; change nothing.

    A model that was made before there were ledgers is no trouble: it gets one on its next change.
    """
    client = tracking.open_client()
    found = []
    for model in ledger.models(client):
        if ledger.TAG in model.tags:
            try:
                state = _look(client, model.name)
            except ValueError as error:
                found.append(f"{model.name}: {error}")
            else:
                found += [f"{model.name}: {text}" for text in _disagreements(state)]
    return found


def _check_run(run: Run, name: str, policy: str, *, from_copy: bool) -> str:
    """See that the model of a run may become a version; return its floors in words."""
    if policy not in POLICIES:
        raise ValueError(f"promote = {policy!r}: expected one of {', '.join(POLICIES)}")
    verdict = run.read("verdict.json")
    floors = explain(verdict)
    if not verdict["passed"]:
        raise GateError(f"{name} was not registered: {floors}")
    original = copied_from(run)
    if original and not from_copy:
        raise ValueError(
            f"{name} was not registered: {run.run_dir} is a copy of {original}, opened to work on "
            "a stage. To register its model all the same, at @staging, call registry.register(..., "
            "from_copy=True)"
        )
    return floors


@dataclass(frozen=True)
class _State:
    """A model's ledger (its id, "" if none), its entries, and the aliases as they are."""

    run_id: str
    entries: list[Entry]
    aliases: dict[str, int]


def _look(client: "MlflowClient", name: str) -> _State:
    model = ledger.find_model(client, name)
    run_id = model.tags.get(ledger.TAG, "")
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return _State(run_id, ledger.entries(client, run_id) if run_id else [], aliases)


def _move(
    client: "MlflowClient",
    name: str,
    alias: str,
    after: int,
    *,
    expected: int | None = CURRENT,
    **facts: str | bool,
) -> Entry:
    """Write the entry that moves `alias`, as soon as nobody else writes one; then move it.

    Entries about the other alias that come between do not matter. One about this alias does: what
    was expected no longer holds.
    """
    state, _ = _reconcile(client, name)
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
            state = _look(client, name)
        else:
            _settle(client, name, replace(state, entries=[*state.entries, entry]))
            return replace(entry, done=now())


def _entry(
    entries: list[Entry], alias: str, before: int | None, after: int | None, **facts: str | bool
) -> Entry:
    """Return the next entry; its time is never before the last one's, whatever the clocks say."""
    when = max(now(), entries[-1].when) if entries else now()
    empty = {"who": "", "run_dir": "", "verdict": "", "override": False}
    head = {"number": len(entries) + 1, "when": when, "id": uuid4().hex}
    return Entry(alias=alias, before=before, after=after, **head, **(empty | facts))


def _settle(client: "MlflowClient", name: str, state: _State) -> _State:
    """Bring aliases and tags to what the ledger says, and note what is done.

    Anyone may do this for anyone, and again. Whoever has moved an alias looks once more whether the
    ledger has gone on meanwhile, so the last one to move it has moved it to the right version.
    """
    since: dict[str, int] = {}
    n_seen = 0
    while n_seen < len(state.entries):
        for entry in state.entries[n_seen:]:
            if not entry.done or n_seen:
                since.setdefault(entry.alias, entry.number)
        if not since:
            return state
        for alias, number in since.items():
            _apply(client, name, alias, number, state.entries)
        n_seen, state = len(state.entries), _look(client, name)
    for entry in state.entries:
        if not entry.done:
            ledger.finish(client, state.run_id, entry)
    return state


def _apply(client: "MlflowClient", name: str, alias: str, since: int, entries: list[Entry]) -> None:
    """Point `alias` to where the ledger says; tag the versions that moved from `since` on."""
    target = serving(entries, alias)
    if target is None:
        insist(client.delete_registered_model_alias, name, alias)
    else:
        insist(client.set_registered_model_alias, name, alias, str(target))
    if alias != PRODUCTION:
        return
    moved = [entry for entry in entries if entry.alias == alias and entry.number >= since]
    for number in {v for entry in moved for v in (entry.before, entry.after)} - {None}:
        _tag(client, name, number, entries)


def _tag(client: "MlflowClient", name: str, number: int, entries: list[Entry]) -> None:
    """Tag a version with when it was replaced, and with why its gate was overridden."""
    found = _seek_version(client, name, number)
    if found is None:
        return
    ours = [entry for entry in entries if entry.alias == PRODUCTION]
    replaced = [entry.when for entry in ours if entry.before == number]
    overrides = [entry.reason for entry in ours if entry.override and entry.after == number]
    wanted = {
        "archived": replaced[-1] if replaced and serving(ours, PRODUCTION) != number else "",
        "gate.override": overrides[-1] if overrides else "",
    }
    for key, value in wanted.items():
        if value and found.tags.get(key) != value:
            insist(client.set_model_version_tag, name, str(number), key, value)
        elif not value and key in found.tags:
            insist(client.delete_model_version_tag, name, str(number), key)


def _reconcile(client: "MlflowClient", name: str) -> tuple[_State, list[str]]:
    """Do what `reconcile` does, where the model has a ledger; return its state, too."""
    state = _look(client, name)
    said = [
        f"entry {entry.number} was cut off and is finished: {_change(entry)}"
        for entry in state.entries
        if not entry.done
    ]
    for alias in ALIASES:
        state, text = _note_found(client, name, alias, state)
        said += [text] if text else []
    return _settle(client, name, state), said


def _note_found(client: "MlflowClient", name: str, alias: str, state: _State) -> tuple[_State, str]:
    """Enter a change of `alias` that was made past the ledger; return it in words, or ""."""
    while _is_foreign(client, name, state, alias):
        time.sleep(PAUSE_S)
        earlier, state = state, _look(client, name)
        if state != earlier:
            continue
        before, after = serving(state.entries, alias), state.aliases.get(alias)
        reason = "changed past the ledger, by other means than this project's"
        if not any(entry.alias == alias for entry in state.entries):
            reason = "found where it was when the ledger was begun"
        entry = _entry(state.entries, alias, before, after, action="found", reason=reason)
        try:
            ledger.append(client, state.run_id, entry)
        except EntryTaken:
            state = _look(client, name)
        else:
            text = f"entered into the ledger: {_change(entry)}, {reason}"
            return _look(client, name), text
    return state, ""


def _is_foreign(client: "MlflowClient", name: str, state: _State, alias: str) -> bool:
    """Say whether `alias` is neither where the ledger says nor where a change was cut off."""
    actual, target = state.aliases.get(alias), serving(state.entries, alias)
    if actual == target:
        return False
    if target is not None and _seek_version(client, name, target) is None:
        return True
    return actual not in _cut_off(state, alias)


def _cut_off(state: _State, alias: str) -> set[int | None]:
    """Return where an alias may be while changes of it are not finished: where they began."""
    return {
        entry.before
        for entry in state.entries
        if entry.alias == alias and not entry.done and entry.action != "found"
    }


def _disagreements(state: _State) -> list[str]:
    """Return in words where aliases and ledger disagree, and which entries are not finished."""
    said = [f"entry {e.number} was cut off: {_change(e)}" for e in state.entries if not e.done]
    for alias in ALIASES:
        actual, target = state.aliases.get(alias), serving(state.entries, alias)
        if actual != target and actual not in _cut_off(state, alias):
            said.append(f"@{alias} points to {_named(actual)}, the ledger says {_named(target)}")
    return said


def _earlier(entries: Iterable[Entry]) -> list[int]:
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


def _facts(run: Run, known: dict, floors: str) -> dict[str, str]:
    """Return the tags of a version: where it comes from, and how good it is."""
    from lib.registry.scoring import learned_until

    metrics, data = run.read("metrics.json"), run.read("dataset.json")
    tags = {
        "run_dir": run.run_dir,
        "model_id": known["model_id"],
        "source": data["source"],
        "data_digest": data["digest"],
        "verdict": floors,
        "learned_until": learned_until(run) if (run.path / "split.json").exists() else "",
        **tracking.metric_tags(metrics),
    }
    return {key: value for key, value in tags.items() if value}


def _version_of(client: "MlflowClient", name: str, known: dict, tags: dict[str, str]) -> int:
    """Return the version made from this run's model, made now unless an earlier try did."""
    for found in client.search_model_versions(f"run_id = '{known['run_id']}'"):
        if found.name == name and found.tags.get("model_id") == known["model_id"]:
            return int(found.version)
    made = client.create_model_version(
        name,
        f"models:/{known['model_id']}",
        run_id=known["run_id"],
        tags=tags,
        description=tags["verdict"],
        model_id=known["model_id"],
    )
    return int(made.version)


def _note_gate(client: "MlflowClient", name: str, number: int, gate: dict | None) -> None:
    """Write the gate's decision on a version; one in production keeps what brought it there."""
    if gate is None or serving(_look(client, name).entries, PRODUCTION) == number:
        return
    from lib.registry.gate import markdown

    client.set_model_version_tag(name, str(number), "gate.outcome", gate["outcome"])
    client.set_model_version_tag(name, str(number), "gate.reason", gate["reason"])
    client.update_model_version(name, str(number), markdown(gate))


def _stage(client: "MlflowClient", name: str, number: int, cause: dict[str, str]) -> None:
    """Move ``@staging`` to a version, unless a newer one has it."""
    facts = {"action": "register", "reason": "registered", **cause}
    while ((seen := serving(_reconcile(client, name)[0].entries, STAGING)) or 0) < number:
        try:
            _move(client, name, STAGING, number, expected=seen, **facts)
        except PromotionConflict:
            continue  # another registration; look which one is newer


def _enter_production(
    client: "MlflowClient", name: str, number: int, gate: dict, cause: dict[str, str]
) -> None:
    """Promote a version as its gate says, unless an earlier try has done it."""
    if serving(_reconcile(client, name)[0].entries, PRODUCTION) == number:
        return
    compared = int(gate["champion"]["version"]) if gate["champion"] else None
    facts = {"action": "promote", "reason": _shortened(gate["reason"])}
    _move(client, name, PRODUCTION, number, expected=compared, **facts, **cause)


def _account(state: _State, name: str, number: int, policy: str, gate: dict | None) -> dict:
    """Return what `register` returns, of a model in this state."""
    points = {alias: serving(state.entries, alias) for alias in ALIASES}
    alias = next((alias for alias in ALIASES if points[alias] == number), "")
    return {
        "name": name,
        "version": number,
        "alias": alias,
        "uri": f"models:/{name}@{alias}" if alias else f"models:/{name}/{number}",
        "policy": policy,
        "outcome": gate["outcome"] if gate else "",
        "reason": _why(gate, policy, {"name": name, "version": number}) if gate else "",
        "promoted": points[PRODUCTION] == number,
        "champion": points[PRODUCTION],
    }


def _why(gate: dict, policy: str, version: dict) -> str:
    """Return the gate's reason, and what else has kept a version back."""
    from lib.registry.gate import how_to_promote, is_held

    if gate["outcome"] in BACKED and policy in ("staging", "never"):
        return f"{gate['reason']}; the policy {policy!r} leaves it there"
    if is_held(gate):
        return f"{gate['reason']}; run by hand, so not promoted: {how_to_promote(version)}"
    return gate["reason"]


def _conflict(name: str, after: int, expected: int | None, entries: list[Entry]) -> str:
    """Say who has promoted what meanwhile, and what to do."""
    last = next((entry for entry in reversed(entries) if entry.alias == PRODUCTION), None)
    head = f"{name} version {after} was not promoted: {_named(expected)} was expected in production"
    if last is None:
        return f"{head}, but none is. Run the register stage again"
    return (
        f"{head}, but {_named(last.after)} is there since {last.when} ({last.action} by "
        f"{caused_by(last)}: {last.reason}). Run the register stage again, which compares with "
        "what is there now"
    )


def caused_by(entry: Entry) -> str:
    """Return who or which run has made an entry."""
    parts = [entry.who, entry.run_dir and f"run {entry.run_dir}"]
    return ", ".join(part for part in parts if part) or "somebody unknown"


def _change(entry: Entry) -> str:
    return f"@{entry.alias} from {_named(entry.before)} to {_named(entry.after)}"


def _named(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def _command(name: str) -> str:
    return f'make promote MODEL={name} VERSION=<number> REASON="..."'


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON:
        raise ValueError(
            f"a reason of {len(reason)} characters is too long for the ledger: use at most "
            f"{MAX_REASON}"
        )


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}..."


def _user() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, in a container for example
        return f"uid {os.getuid()}"


def _seek_version(client: "MlflowClient", name: str, number: int) -> "ModelVersion | None":
    from mlflow import MlflowException

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if not ledger.is_code(error, "RESOURCE_DOES_NOT_EXIST"):
            raise
        return None


def _find_version(client: "MlflowClient", name: str, wanted: int | str) -> "ModelVersion":
    aliases = ledger.find_model(client, name).aliases
    text = str(wanted)
    number = aliases.get(text[1:], "") if text.startswith("@") else text
    found = _seek_version(client, name, int(number)) if str(number).isdecimal() else None
    if found is None:
        numbers = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
        known = [str(number) for number in numbers] + [f"@{alias}" for alias in sorted(aliases)]
        raise ValueError(f"{name} has no version {text}; there are: {', '.join(known) or 'none'}")
    return found
