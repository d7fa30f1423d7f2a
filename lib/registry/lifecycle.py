"""From evaluated to in production: floors are obeyed, and every change of an alias is on record.

`register` makes the model of a run a version, with metrics, data digest and source as tags, and
moves ``@staging`` to it, and ``@production`` where its policy and its gate say so; `promote` and
`rollback` move ``@production`` by hand. What an alias points to is decided by
`lib.registry.ledger`, where an entry is written before anything moves: of two changes that collide
one is refused, on whatever machine they are made, and one that was cut off is completed by whoever
comes next.
"""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lib import tracking
from lib.floors import explain
from lib.ground.console import account, told_briefly
from lib.ground.files import look_into
from lib.ground.runs import copied_from, is_by_hand
from lib.registry import aliases, ledger
from lib.registry.aliases import (
    ALIASES,
    CURRENT,
    PRODUCTION,
    STAGING,
    PromotionConflict,
    State,
    look,
    move,
)
from lib.registry.gate import PROMOTED, how_to_promote, is_held, markdown
from lib.registry.ledger import Entry, named, seek, serving
from lib.registry.standing import TEST, find_version, full_name
from lib.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

POLICIES = ("auto", "staging", "approval", "never")


class GateError(ValueError):
    """A model did not reach its floors; the message gives metric, value and floor."""


def register(
    run: Run, name: str, *, promote: str = "auto", gate: dict | None = None, from_copy: bool = False
) -> dict:
    """Make the model of `run` a version of `name`, and move the aliases that its policy names.

    A retry finds the version that an earlier try has made and completes it; so does a run that has
    taken its model from another one, which has registered it. ``@staging`` never
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
        ``model_id``, ``verdict`` (of the floors, in words), ``policy``, ``outcome`` and ``reason``
        (of the gate; "" without), ``promoted`` and ``champion`` (the version in production now, or
        None).

    Raises
    ------
    GateError
        If the verdict is not "passed"; nothing is registered.
    PromotionConflict
        If the champion is no longer the one that the gate has compared with. The version is
        registered, and not in production.
    ValueError
        If `run` is a copy, and `from_copy` was not given, there is no such policy, or the name has
        an apostrophe; nothing is registered.
    mlflow.MlflowException
        If the registry refuses or cannot be reached.
    """
    with look_into(run.path):
        return _register(run, name, promote, gate, from_copy=from_copy)


def _register(run: Run, name: str, promote: str, gate: dict | None, *, from_copy: bool) -> dict:
    with told_briefly():
        floors = _check_run(run, name, promote, from_copy=from_copy)
    run.local("model")
    if gate and is_by_hand(run):
        gate = gate | {"by_hand": True, "promote": False}
    name = full_name(name, run.read("dataset.json")["source"])
    known = tracking.mirror(run)
    client = tracking.open_client()
    cause = {"run_dir": run.run_dir, "verdict": floors}
    with tracking.locked("registry"):  # a courtesy; what holds between machines is the ledger
        ledger.establish(client, name)
        version = _version_of(client, name, known, _facts(run, known, floors), gate)
        state = look(client, name) if promote == "never" else _stage(client, name, version, cause)
        if promote == "auto" and gate and gate["promote"]:
            state = _enter_production(client, name, version, gate, cause, state)
    more = {"verdict": floors, "model_id": known["model_id"]}
    return _account(state, name, version, promote, gate) | more


def promote(
    name: str,
    version: int | str,
    *,
    reason: str,
    who: str = "",
    run_dir: str = "",
    expected: int | None = CURRENT,
) -> Entry:
    """Put a version into production.

    Parameters
    ----------
    name : str
        Registered model, as it is called there.
    version : int or str
        A number, or an alias as ``@staging``.
    reason : str
        Why; must not be empty.
    who, run_dir : str
        Who or which run wants it; the user of this process where neither is given.
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
    if not reason.strip():
        raise ValueError(
            f"{name} version {version} was not promoted: no reason was given, and the ledger keeps "
            'one of every promotion. Say why, for example REASON="better on last week\'s data"'
        )
    client = tracking.open_client()
    chosen = find_version(client, name, version)
    with tracking.locked("registry"):
        ledger.establish(client, name)
        entry, _ = move(
            client,
            name,
            PRODUCTION,
            int(chosen.version),
            expected=expected,
            action="promote",
            who=who or ("" if run_dir else account()),
            run_dir=run_dir,
            reason=reason.strip(),
            verdict=chosen.tags.get("verdict", ""),
            override=chosen.tags.get("gate.outcome") not in PROMOTED,
        )
    return entry


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
    client = tracking.open_client()
    ledger.find_model(client, name)
    with tracking.locked("registry"):
        ledger.establish(client, name)
        entries = aliases.reconcile(client, name)[0].entries
        current = serving(entries, PRODUCTION)
        for target in aliases.earlier_champions(entries):
            if target != current and seek(client.get_model_version, name, str(target)):
                break
        else:
            command = how_to_promote({"name": name, "version": "<number>"})
            raise ValueError(
                f"{name} cannot be rolled back: {named(current)} is in production, and no earlier "
                f"champion is left. To choose another version: {command}"
            )
        entry, _ = move(
            client,
            name,
            PRODUCTION,
            target,
            expected=current,
            action="rollback",
            who=who or account(),
            reason=reason.strip() or f"undoes version {current}",
        )
    return entry


def history(name: str) -> list[Entry]:
    """Return every change of an alias of `name`, the oldest first.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    return look(tracking.open_client(), name).entries


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
    state = look(client, name)
    if at is None:
        return serving(state.entries, PRODUCTION) if state.run_id else state.aliases.get(PRODUCTION)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return serving((e for e in state.entries if datetime.fromisoformat(e.when) <= at), PRODUCTION)


def version(name: str, which: int | str) -> "ModelVersion":
    """Return a version by its number, or by its alias as in ``@production``.

    Raises
    ------
    ValueError
        If there is no such model, version or alias; names those that there are.
    """
    return find_version(tracking.open_client(), name, which)


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
        return aliases.reconcile(client, name)[1]


def troubles() -> list[str]:
    """Say, of every model whose aliases and ledger disagree, how; change nothing.

    A model that was made before there were ledgers is no trouble: it gets one on its next change.
    """
    client = tracking.open_client()
    found = []
    for model in ledger.models(client):
        if ledger.TAG in model.tags:
            try:
                state = look(client, model.name)
            except ValueError as error:
                found.append(f"{model.name}: {error}")
            else:
                found += [f"{model.name}: {text}" for text in aliases.disagreements(state)]
    return found


def _check_run(run: Run, name: str, policy: str, *, from_copy: bool) -> str:
    """See that the model of a run may become a version; return its floors in words."""
    if policy not in POLICIES:
        raise ValueError(f"promote = {policy!r}: expected one of {', '.join(POLICIES)}")
    if "'" in name:
        raise ValueError(f"model_name = {name!r}: MLflow finds no name with an apostrophe")
    verdict = run.read("verdict.json")
    floors = explain(verdict)
    if not verdict["passed"]:
        raise GateError(f"{name} was not registered: {floors}")
    original = copied_from(run)
    if original and not from_copy:
        raise ValueError(
            f"{name} was not registered: {run.run_dir} is a copy of {original}, opened to work on "
            "a stage. To register its model all the same, at @staging, call "
            "lifecycle.register(..., from_copy=True)"
        )
    return floors


def _facts(run: Run, known: dict, floors: str) -> dict[str, str]:
    """Return the tags of a version: where it comes from, and how good it is."""
    from lib.judged import FACTS, read_facts

    metrics, data = run.read("metrics.json"), run.read("dataset.json")
    test = read_facts(run) if (run.path / FACTS).exists() else {}
    tags = {
        "run_dir": run.run_dir,
        "model_id": known["model_id"],
        "source": data["source"],
        "data_digest": data["digest"],
        "verdict": floors,
        "learned_until": test.get("learned_until", ""),
        TEST: json.dumps(test) if test else "",
        **tracking.metric_tags(metrics),
    }
    return {key: value for key, value in tags.items() if value}


def _version_of(
    client: "MlflowClient", name: str, known: dict, tags: dict[str, str], gate: dict | None
) -> int:
    """Return the version of this very model, made now unless a try or run before has done it.

    The gate's decision stands on it; one in production keeps what brought it there.
    """
    decided = {"gate.outcome": gate["outcome"]} if gate else {}
    words = markdown(gate) if gate else tags["verdict"]
    same = f"name = '{name}' and tags.`model_id` = '{known['model_id']}'"
    for found in client.search_model_versions(same):
        if gate and serving(look(client, name).entries, PRODUCTION) != int(found.version):
            client.set_model_version_tag(name, found.version, "gate.outcome", gate["outcome"])
            client.update_model_version(name, found.version, words)
        return int(found.version)
    client.create_model_version(
        name,
        f"models:/{known['model_id']}",
        run_id=known["run_id"],
        tags=tags | decided,
        description=words,
        model_id=known["model_id"],
    )
    # a request that was answered late is sent again, and a try that was given up may go on a while
    first, *twins = sorted(int(found.version) for found in client.search_model_versions(same))
    for twin in twins:
        client.delete_model_version(name, str(twin))
    return first


def _stage(client: "MlflowClient", name: str, number: int, cause: dict[str, str]) -> State:
    """Move ``@staging`` to a version, unless a newer one has it; return the state."""
    facts = {"action": "register", "reason": "registered", **cause}
    while True:
        state, _ = aliases.reconcile(client, name)
        if ((seen := serving(state.entries, STAGING)) or 0) >= number:
            return state
        try:
            return move(client, name, STAGING, number, expected=seen, state=state, **facts)[1]
        except PromotionConflict:
            continue  # another registration; look which one is newer


def _enter_production(
    client: "MlflowClient", name: str, number: int, gate: dict, cause: dict[str, str], state: State
) -> State:
    """Promote a version as its gate says, unless an earlier try has done it; return the state."""
    if serving(state.entries, PRODUCTION) == number:
        return state
    compared = int(gate["champion"]["version"]) if gate["champion"] else None
    facts = {"action": "promote", "reason": gate["reason"]}
    return move(client, name, PRODUCTION, number, expected=compared, state=state, **facts, **cause)[
        1
    ]


def _account(state: State, name: str, number: int, policy: str, gate: dict | None) -> dict:
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
    if gate["outcome"] in PROMOTED and policy in ("staging", "never"):
        return f"{gate['reason']}; the policy {policy!r} leaves it there"
    if is_held(gate):
        return f"{gate['reason']}; run by hand, so not promoted: {how_to_promote(version)}"
    return gate["reason"]
