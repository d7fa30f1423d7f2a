"""What is in production, and what there is to know of a version: asked for in this one place.

A version carries what its evaluate stage has written of its test as the tag ``test``, beside its
metrics and its data. One that was registered before loads and serves as ever, and can be compared
with nothing: `require_test` says so.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lib import tracking
from lib.registry import ledger
from lib.registry.aliases import ALIASES, PRODUCTION
from lib.registry.ledger import seek

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

TEST = "test"  # tag: JSON of the run's test.json
SAMPLE = "sample"
SUFFIX = "_sample"


@dataclass(frozen=True)
class Version:
    """A version of a registered model, or a model that stands for one.

    Attributes
    ----------
    name : str
        Registered model.
    number : int or None
        None where it is not registered.
    tags : mapping of str to str
        ``run_dir``, ``source``, ``data_digest``, ``learned_until``, metrics …
    test : dict
        What its evaluate stage has written of its test, see `lib.judged.write`; {} where it was
        registered before that.
    aliases : tuple of str
        That point to it now.
    run_id : str
        Of the MLflow run that made it, or "".
    place : str
        Folder of the model, where it is not registered.
    """

    name: str
    number: int | None
    tags: Mapping[str, str]
    test: dict
    aliases: tuple[str, ...] = ()
    run_id: str = ""
    place: str = ""

    @cached_property
    def model(self) -> "PyFuncModel":
        """The model, loaded when it is first asked for."""
        from lib.packaging import load_packed

        return load_packed(self.uri)

    @property
    def uri(self) -> str:
        """Where the model is, as MLflow finds it."""
        return self.place or f"models:/{self.name}/{self.number}"

    @property
    def words(self) -> str:
        """Which one it is, in few words."""
        return self.name if self.number is None else f"version {self.number}"

    @property
    def run_dir(self) -> str:
        """The run that made it."""
        return self.tags.get("run_dir", "")

    @property
    def pipeline(self) -> str:
        """The pipeline whose run made it."""
        return self.run_dir.split("/")[0]

    @property
    def source(self) -> str:
        """Where its training data came from."""
        return self.tags.get("source", "")

    @property
    def learned_until(self) -> str:
        """Last time it has learned from, ISO 8601; "" where rows have none, or it is not known."""
        return self.tags.get("learned_until", "")

    @property
    def metrics(self) -> dict[str, float]:
        """What its evaluation found."""
        return tracking.tagged_metrics(self.tags)


def full_name(name: str, source: str) -> str:
    """Return what a model is called that has learned from a source: sample data add a suffix."""
    return f"{name}{SUFFIX}" if source == SAMPLE and not name.endswith(SUFFIX) else name


def find_version(client: "MlflowClient", name: str, wanted: int | str) -> "ModelVersion":
    """Return a version by its number, or by its alias as in ``@production``.

    Raises
    ------
    ValueError
        If there is no such model, version or alias; names those that there are.
    """
    aliases = ledger.find_model(client, name).aliases
    text = str(wanted)
    number = str(aliases.get(text[1:], "") if text.startswith("@") else text)
    found = seek(client.get_model_version, name, number) if number.isdecimal() else None
    if found is None:
        numbers = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
        known = [str(number) for number in numbers] + [f"@{alias}" for alias in sorted(aliases)]
        raise ValueError(f"{name} has no version {text}; there are: {', '.join(known) or 'none'}")
    return found


def in_production(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """Return the version that serves; None where there is no such model, or none serves."""
    model = seek(client.get_registered_model, name)
    number = model.aliases.get(PRODUCTION) if model else None
    return seek(client.get_model_version, name, str(number)) if number else None


def open_version(name: str, which: str) -> Version:
    """Return what is known of a registered version.

    Parameters
    ----------
    name : str
        Registered model.
    which : str
        A number, or an alias with an ``@`` before it, which may move: from here on it is a number.

    Raises
    ------
    ValueError
        If there is no such version, or it does not say which run has made it.
    """
    return described(find_version(tracking.open_client(), name, which))


def described(found: "ModelVersion") -> Version:
    """Return a version of MLflow as this project knows it; raises as `open_version`."""
    tags = dict(found.tags)
    if "/" not in tags.get("run_dir", ""):
        raise ValueError(
            f"version {found.version} of {found.name} has no tag run_dir = <pipeline>/<run>, "
            "which every version that a register stage has made carries: it cannot be told what "
            "it forecasts"
        )
    return Version(
        name=found.name,
        number=int(found.version),
        tags=tags,
        test=json.loads(tags.get(TEST) or "{}"),
        aliases=tuple(sorted(getattr(found, "aliases", ()))),
        run_id=found.run_id or "",
    )


def require_test(version: Version) -> dict:
    """Return what a version knows of its test.

    Raises
    ------
    ValueError
        If it was registered before that was kept.
    """
    if not version.test:
        raise ValueError(
            f"{version.words} of {version.name} was registered before versions knew their test, so "
            f"nothing is compared with it or scored by it; newer runs of {version.pipeline} make "
            "versions that do"
        )
    return version.test


# What pages show ------------------------------------------------------------------------------


def serving(name: str) -> dict:
    """Return the version that serves under a name, asked once and not for minutes.

    Returns
    -------
    dict
        ``name``, ``version``, ``alias`` (``production``, else ``staging``), ``run_dir``,
        ``digest`` and ``metrics``; {} where there is no store, model or alias.

    Raises
    ------
    mlflow.MlflowException
        If the registry cannot be asked.
    """
    with _asked_once() as client:
        model = client and seek(client.get_registered_model, name)
        alias = next((a for a in ALIASES if model and a in model.aliases), "")
        found = seek(client.get_model_version, name, model.aliases[alias]) if alias else None
    if found is None:
        return {}
    tags = found.tags
    known = {"name": name, "version": int(found.version), "alias": alias}
    known |= {"run_dir": tags.get("run_dir", ""), "digest": tags.get("data_digest", "")}
    return known | {"metrics": tracking.tagged_metrics(tags)}


def standing_of(name: str, version: int, run_dir: str) -> dict:
    """Return what has become of a version that a run has made; asked as `serving`.

    Returns
    -------
    dict
        ``champion``, the version in production now, or None; ``archived``, since when this version
        has been replaced, or ""; ``changes``, the entries of the ledger, oldest first, by which
        others than the run put it into production. {} where there is no store, model or version.
    """
    with _asked_once() as client:
        model = client and seek(client.get_registered_model, name)
        found = seek(client.get_model_version, name, str(version)) if model else None
        if found is None:
            return {}
        known = model.tags.get(ledger.TAG)
        entries = ledger.entries(client, known) if known else []
    champion = int(model.aliases.get(PRODUCTION, 0)) or None
    ours = [entry for entry in entries if entry.alias == PRODUCTION]
    replaced = [entry.when for entry in ours if entry.before == version]
    return {
        "champion": champion,
        "archived": replaced[-1] if replaced and champion != version else "",
        "changes": [asdict(e) for e in ours if e.after == version and e.run_dir != run_dir],
    }


@contextmanager
def _asked_once() -> "Iterator[MlflowClient | None]":
    """Give a client that tries once, not for minutes; None where a store would have to be made."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as RETRIES
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT as TIMEOUT

    uri = tracking.tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri[len("sqlite:///") :]).exists():
        yield None
        return
    before = [(one, one.get_raw()) for one in (RETRIES, TIMEOUT)]
    RETRIES.set(0)
    TIMEOUT.set(5)
    try:
        yield tracking.open_client()
    finally:
        for one, value in before:
            one.unset() if value is None else one.set(value)
