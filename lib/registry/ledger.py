"""The ledger of a registered model: every change of an alias, written once and never altered.

A ledger is one MLflow run in the experiment "registry", and entry n is its parameter n. MLflow
never changes a parameter, so nothing that stands there can be altered, and of two who write entry n
one is refused, on whatever machine they are. An entry is written before anything moves; the
parameter ``n.done`` follows when everything has.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from lib.ground.files import now
from lib.tracking import experiment_of

if TYPE_CHECKING:
    from mlflow import MlflowClient, MlflowException
    from mlflow.entities.model_registry import RegisteredModel

Found = TypeVar("Found")
EXPERIMENT = "registry"
TAG = "ledger_run"
KEY = re.compile(r"\d{6}")
EXISTS, TAKEN = "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
MAX_CHARACTERS = 6000  # of an MLflow parameter


class EntryTaken(ValueError):
    """Somebody else has written the entry of this number first."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of an alias.

    Attributes
    ----------
    number : int
        Counts from 1 without gaps.
    when : str
        ISO 8601, UTC; never before the entry ahead of it.
    action : {"register", "promote", "rollback", "found"}
        "found" is a change that was made past this project, noted when it was seen.
    alias : str
    before, after : int or None
        Versions; None where the alias points nowhere.
    who : str
        A person, or "".
    run_dir : str
        The run that caused it, or "".
    reason, verdict : str
        Why; and what the floors said.
    override : bool
        Whether the gate had not found the version better.
    id : str
        Random, so that no two entries are ever equal.
    done : str
        When the alias was in place; "" before.
    """

    number: int
    when: str
    action: str
    alias: str
    before: int | None
    after: int | None
    who: str = ""
    run_dir: str = ""
    reason: str
    verdict: str = ""
    override: bool = False
    id: str
    done: str = ""

    @property
    def by(self) -> str:
        """Who or which run has made it."""
        parts = [self.who, self.run_dir and f"run {self.run_dir}"]
        return ", ".join(part for part in parts if part) or "somebody unknown"

    @property
    def change(self) -> str:
        """What it changes, in words."""
        return f"@{self.alias} from {named(self.before)} to {named(self.after)}"


def entries(client: "MlflowClient", run_id: str) -> list[Entry]:
    """Return all entries of the ledger that is the MLflow run `run_id`, in their order.

    Raises
    ------
    ValueError
        If the run is gone or deleted.
    """
    run = seek(client.get_run, run_id)
    if run is None or run.info.lifecycle_stage != "active":
        raise ValueError(
            f"the ledger, MLflow run {run_id}, has been deleted or is gone. Restore it (mlflow "
            f"runs restore --run-id {run_id}) or the tracking database; or, to begin a new ledger, "
            f"delete the tag {TAG} of the registered model"
        )
    texts = run.data.params
    return [
        Entry(number=int(key), done=texts.get(f"{key}.done", ""), **json.loads(texts[key]))
        for key in sorted(filter(KEY.fullmatch, texts))
    ]


def append(client: "MlflowClient", run_id: str, entry: Entry) -> None:
    """Write `entry` under its number, for good.

    Raises
    ------
    EntryTaken
        If there is another entry of that number.
    ValueError
        If it is too long for MLflow.
    """
    facts = asdict(entry)
    key = f"{facts.pop('number'):06}"
    del facts["done"]
    text = json.dumps(facts, ensure_ascii=False)
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"an entry of {len(text)} characters does not fit the ledger, which takes "
            f"{MAX_CHARACTERS}: give a shorter reason"
        )
    refused = _refused(TAKEN, client.log_param, run_id, key, text, synchronous=True)
    if refused and client.get_run(run_id).data.params.get(key, text) == text:
        raise refused
    if refused:
        raise EntryTaken(f"entry {entry.number} has been written by somebody else") from refused


def finish(client: "MlflowClient", run_id: str, entry: Entry) -> None:
    """Note that everything `entry` says has been done, unless that has been noted."""
    key = f"{entry.number:06}.done"
    _refused(TAKEN, client.log_param, run_id, key, now(), synchronous=True)


def serving(written: Iterable[Entry], alias: str) -> int | None:
    """Return the version that `alias` points to when all of `written` has been done."""
    return next((entry.after for entry in reversed([*written]) if entry.alias == alias), None)


def named(number: int | None) -> str:
    """Return a version in words."""
    return "no version" if number is None else f"version {number}"


def seek(fetch: Callable[..., Found], *given: str) -> Found | None:
    """Return what `fetch` finds in the registry, None where nothing is called so.

    Raises
    ------
    mlflow.MlflowException
        If the registry says anything else, or cannot be asked.
    """
    from mlflow import MlflowException

    try:
        return fetch(*given)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def find_model(client: "MlflowClient", name: str) -> "RegisteredModel":
    """Return the registered model `name`.

    Raises
    ------
    ValueError
        If there is none; names those that there are.
    """
    model = seek(client.get_registered_model, name)
    if model is None:
        known = ", ".join(sorted(model.name for model in models(client))) or "none yet"
        raise ValueError(f"no registered model {name!r}; there are: {known}")
    return model


def models(client: "MlflowClient") -> list["RegisteredModel"]:
    """Return all registered models."""
    found, page = [], None
    while page is None or page.token:
        page = client.search_registered_models(page_token=page.token if page else None)
        found += page
    return found


def establish(client: "MlflowClient", name: str) -> str:
    """Return the id of the ledger of the model `name`; make both where they are missing.

    However many do this at once, they all get the same ledger: a new model is created with its
    ledger as a tag, and for one that was made without, an experiment of its name is the claim.
    """
    model = seek(client.get_registered_model, name)
    if model is not None and TAG in model.tags:
        return model.tags[TAG]
    run_id, claim = _make_run(client, name), f"{EXPERIMENT}/{name}"
    make = client.create_registered_model if model is None else client.create_experiment
    if _refused(EXISTS, make, name if model is None else claim, tags={TAG: run_id}):
        client.delete_run(run_id)
        if model is None:
            return establish(client, name)
    elif model is None:
        return run_id
    winner = client.get_experiment_by_name(claim).tags[TAG]
    insist(client.set_registered_model_tag, name, TAG, winner)
    return winner


def insist(change: Callable[..., None], *given: str) -> None:
    """Make a change that may be made twice, and once more if the store refuses it.

    MLflow's store refuses one of two that add the same tag or alias at the same moment; the second
    time it finds what the other has added.
    """
    from mlflow import MlflowException

    try:
        change(*given)
    except MlflowException:
        change(*given)


def _refused(
    code: str, change: Callable[..., object], *given: object, **options: dict
) -> "MlflowException | None":
    """Make a change; return the error if the store refuses it with this code."""
    from mlflow import MlflowException

    try:
        change(*given, **options)
    except MlflowException as error:
        if error.error_code != code:
            raise
        return error
    return None


def _make_run(client: "MlflowClient", name: str) -> str:
    tags = {"registered_model": name}
    run = client.create_run(
        experiment_of(client, EXPERIMENT), run_name=f"ledger of {name}", tags=tags
    )
    client.set_terminated(run.info.run_id)  # else it seems to run for ever
    return run.info.run_id
