"""From evaluated to registered: the gate is obeyed, and a version says where it came from.

`register` takes a run whose evaluation has passed its floors and makes its model a version of a
registered model, with metrics, data digest and source as tags and the alias ``@staging``. A model
that was trained on sample data gets a name of its own, which ends in ``_sample``.
"""

import math
from typing import TYPE_CHECKING

from lib import tracking
from lib.directions import GREATER_IS_BETTER
from lib.run import Run
from lib.workbench import copied_from

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "staging"


class GateError(ValueError):
    """A model did not reach its floors; the message gives metric, value and floor."""


def check(metrics: dict[str, float], floors: dict[str, float]) -> dict:
    """Compare `metrics` with `floors` and return the verdict.

    Parameters
    ----------
    metrics : dict of str to float
        What the evaluation found.
    floors : dict of str to float
        Worst acceptable value by metric; whether larger is better is known from
        `lib.directions.GREATER_IS_BETTER`.

    Returns
    -------
    dict
        ``passed`` and ``checks``: a list of ``metric``, ``value``, ``threshold``,
        ``greater_is_better`` and ``passed``. A value that is missing or not finite has failed.
    """
    checks = []
    for metric, threshold in floors.items():
        value = metrics.get(metric, math.nan)
        larger = GREATER_IS_BETTER[metric]
        passed = value >= threshold if larger else value <= threshold
        checks.append(
            {
                "metric": metric,
                "value": value if math.isfinite(value) else None,
                "threshold": threshold,
                "greater_is_better": larger,
                "passed": bool(passed),
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


def register(run: Run, name: str, *, from_copy: bool = False) -> dict:
    """Register the model of `run` as a new version of `name` and point ``@staging`` to it.

    A retry finds the version that an earlier try has made and completes it.

    Parameters
    ----------
    run : Run
        Holds `model`, `metrics.json`, `verdict.json` and `dataset.json`.
    name : str
        Registered model; ``_sample`` is appended when the data source is ``sample``.
    from_copy : bool, default False
        Whether to register even from a copy that was opened to work on a stage, see
        `lib.workbench`.

    Returns
    -------
    dict
        ``name``, ``version`` (int), ``alias``, ``uri`` and ``verdict`` in words.

    Raises
    ------
    GateError
        If the verdict is not "passed"; nothing is registered.
    ValueError
        If `run` is a copy, and `from_copy` was not given; nothing is registered.
    mlflow.MlflowException
        If the registry refuses or cannot be reached.
    """
    verdict, metrics, data = (
        run.read(f"{file}.json") for file in ("verdict", "metrics", "dataset")
    )
    reason = explain(verdict)
    if not verdict["passed"]:
        raise GateError(f"{name} was not registered: {reason}")
    original = copied_from(run)
    if original and not from_copy:
        raise ValueError(
            f"{name} was not registered: {run.run_dir} is a copy of {original}, opened to work on "
            "a stage. To register its model all the same, call registry.register(..., "
            "from_copy=True)"
        )
    run.local("model")
    name = f"{name}_sample" if data["source"] == "sample" else name
    known = tracking.mirror(run)
    client = tracking.open_client()
    tags = {
        "run_dir": run.run_dir,
        "model_id": known["model_id"],
        "source": data["source"],
        "data_digest": data["digest"],
        "verdict": reason,
        **{f"metric.{metric}": f"{value:.6g}" for metric, value in metrics.items()},
    }
    with tracking.locked("registry"):  # so that the alias is never moved back to an earlier version
        version = _version_of(client, name, known, tags)
        client.set_registered_model_alias(name, ALIAS, version)
    uri = f"models:/{name}@{ALIAS}"
    return {"name": name, "version": version, "alias": ALIAS, "uri": uri, "verdict": reason}


def find(uri: str) -> "ModelVersion":
    """Return the version that ``models:/<name>@<alias>`` points to.

    Raises
    ------
    mlflow.MlflowException
        If there is no such model or alias.
    """
    name, alias = uri.removeprefix("models:/").split("@")
    return tracking.open_client().get_model_version_by_alias(name, alias)


def _version_of(client: "MlflowClient", name: str, known: dict, tags: dict[str, str]) -> int:
    """Return the version made from this run's model, made now unless an earlier try did."""
    from mlflow import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    for version in client.search_model_versions(f"run_id = '{known['run_id']}'"):
        if version.name == name and version.tags.get("model_id") == known["model_id"]:
            return int(version.version)
    made = client.create_model_version(
        name,
        f"models:/{known['model_id']}",
        run_id=known["run_id"],
        tags=tags,
        description=tags["verdict"],
        model_id=known["model_id"],
    )
    return int(made.version)
