"""What the registry says of a run's model: which version serves now, and what became of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lib.pages import run_index
from lib.tracking import open_client, tagged_metrics, tracking_uri

ALIASES = ("production", "staging")


def serving(summary: Mapping) -> dict:
    """Return the version of this run's registered model that serves, made by another run.

    Parameters
    ----------
    summary : mapping
        Names the model; where it does not, the pipeline's last registration on like data does.

    Returns
    -------
    dict
        ``name``, ``version``, ``alias`` (``production``, else ``staging``), ``run_dir`` and
        ``metrics``; {} where there is no store, model, alias, or it is this run's own version.

    Raises
    ------
    mlflow.MlflowException
        If the registry cannot be asked.
    """
    name = summary["registration"].get("name") or _model_name(summary)
    if not name or not _has_registry():
        return {}
    from mlflow import MlflowException

    with _impatient():
        client = open_client()
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        alias = next((alias for alias in ALIASES if alias in aliases), "")
        if not alias:
            return {}
        tags = client.get_model_version(name, aliases[alias]).tags
    if tags.get("run_dir") == summary["run_dir"]:
        return {}
    found = {"name": name, "version": int(aliases[alias]), "alias": alias}
    found |= {"metrics": tagged_metrics(tags), "run_dir": tags.get("run_dir", "")}
    return found | {"digest": tags.get("data_digest", "")}


def standing_of(summary: Mapping) -> dict:
    """Return what has become of the version that this run has registered.

    Returns
    -------
    dict
        ``champion``, the version in production now, or None; ``archived``, since when the run's own
        version has been replaced, or ""; ``changes``, the entries of the ledger, oldest first, by
        which others than this run put it into production. {} where the run has registered nothing,
        or there is no store, model or version.

    Raises
    ------
    mlflow.MlflowException
        If the registry cannot be asked.
    """
    name, version = (summary["registration"].get(key) for key in ("name", "version"))
    if not name or not version or not _has_registry():
        return {}
    from lib.registry import ledger

    from mlflow import MlflowException

    with _impatient():
        client = open_client()
        try:
            model = client.get_registered_model(name)
            tags = client.get_model_version(name, str(version)).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        known = model.tags.get(ledger.TAG)
        entries = ledger.entries(client, known) if known else []
    champion = model.aliases.get(ALIASES[0])
    return {
        "champion": int(champion) if champion else None,
        "archived": tags.get("archived", ""),
        "changes": [
            asdict(entry)
            for entry in entries
            if (entry.alias, entry.after) == (ALIASES[0], version)
            and entry.run_dir != summary["run_dir"]
        ],
    }


def _has_registry() -> bool:
    """Say whether there is a store to ask: one of files is not made by looking."""
    uri = tracking_uri()
    return not uri.startswith("sqlite:///") or Path(uri[len("sqlite:///") :]).exists()


def _model_name(summary: Mapping) -> str:
    """Return the registered model that this pipeline's last registration on like data names."""
    mine = run_index.row(summary)
    for row in reversed(run_index.read_rows()):
        like = (row["source"] == "sample") == (mine["source"] == "sample")
        if row["model"] and row["pipeline"] == mine["pipeline"] and like:
            return row["model"]
    return ""


@contextmanager
def _impatient() -> Iterator[None]:
    """Let MLflow try once, not for minutes: a page must not wait for a server that is down."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as RETRIES
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT as TIMEOUT

    before = [(one, one.get_raw()) for one in (RETRIES, TIMEOUT)]
    RETRIES.set(0)
    TIMEOUT.set(5)
    try:
        yield
    finally:
        for one, value in before:
            one.unset() if value is None else one.set(value)
