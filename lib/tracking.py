"""One MLflow run per pipeline run: a mirror of the run folder.

Notebooks write to their run folder only. `mirror` copies what the folder holds to MLflow, once
per finished or failed stage: parameters, metrics, figures, the data's digest, notebooks with
their HTML, the model. It is called by whoever runs a notebook, may be called at any time, and
logs each stage's work once. A run that Airflow has begun is one MLflow run whatever happens to it
(a retry, a cleared task, a lost folder): it is found by its tags, and a parameter that has changed
since, which MLflow cannot overwrite, is noted as a tag. A run by hand, whose parameters somebody
has changed, gets a new one; the one before is closed.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lib.ground import git
from lib.ground.console import redact
from lib.ground.files import (
    copy,
    locked,
    look_into,
    now,
    outputs_dir,
    read_object,
    state_dir,
    write_json,
)
from lib.ground.folder import MAPPED, look_at
from lib.ground.handover import TAKEN
from lib.ground.parameters import Value
from lib.ground.runs import start_of
from lib.run import Run

from upath import UPath

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

warnings.filterwarnings("ignore", "IProgress not found")  # MLflow's progress bars are off

LINK = "mlflow.json"
CHANGED = "changed_parameters"  # tag: JSON of those that differ from what was logged first
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"  # without it MLflow makes a folder where it stands
METRIC_TAG = "metric."
ANSWER_S = 10.0
SMALL_FILES = {".json", ".csv", ".png", ".html"}


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or the SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_dir() / 'mlflow.db'}"


def artifact_root() -> str:
    """Return where the SQLite store's artifacts go: a folder or URL beside the runs."""
    return str(outputs_dir() / ".mlflow")


def settle() -> None:
    """Set what MLflow reads from the environment, as `open_client` does."""
    os.environ.setdefault("MLFLOW_ENABLE_TELEMETRY", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it asks for it
    os.environ[ARTIFACT_ROOT] = artifact_root()


def check() -> None:
    """See that the tracking server is there, if it is one: MLflow would ask for minutes.

    Raises
    ------
    ConnectionError
        If nobody answers; says what to do.
    """
    uri = tracking_uri()
    if not uri.startswith("http"):
        return
    import requests

    try:
        requests.head(uri, timeout=ANSWER_S)
    except (requests.exceptions.SSLError, requests.ReadTimeout):
        return  # somebody is there, whom MLflow may know how to trust
    except requests.RequestException as error:
        raise ConnectionError(
            f"{redact(uri)} does not answer: start what MLFLOW_TRACKING_URI names, or correct it"
        ) from error


def open_client() -> "MlflowClient":
    """Return a client of the tracking server and registry, whose database is ready to use."""
    settle()
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri())  # else MLflow looks for a database where it stands
    if given is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # which MLflow may have set
    if tracking_uri().startswith("http"):
        return mlflow.MlflowClient()
    with locked("mlflow"):  # it makes its database when it is asked first
        client = mlflow.MlflowClient()
        client.get_experiment("0")
    return client


def metric_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return metrics as tags of a version, which a registry can be asked for without the run."""
    return {f"{METRIC_TAG}{name}": f"{value:.6g}" for name, value in metrics.items()}


def tagged_metrics(tags: Mapping[str, str]) -> dict[str, float]:
    """Return the metrics among the tags of a version, see `metric_tags`."""
    return {
        name.removeprefix(METRIC_TAG): float(value)
        for name, value in tags.items()
        if name.startswith(METRIC_TAG)
    }


def link(run: Run) -> dict:
    """Return what the run folder knows of its MLflow run: ids and what was logged; {} if none."""
    known = read_object(run.path / LINK)
    return known if known.get("tracking_uri") == tracking_uri() else {}


def mirror(
    run: Run,
    *,
    status: str | None = None,
    metrics: Mapping[str, float] | None = None,
    parameters: Mapping[str, Value] | None = None,
) -> dict:
    """Log to MLflow what the run folder holds and MLflow does not have yet.

    Where that is nothing, MLflow is not asked. The stage for which `run` is open is not logged
    before it is finished.

    Parameters
    ----------
    run : Run
    status : {"RUNNING", "FINISHED", "FAILED", "KILLED"}, optional
        State of the whole pipeline run. By default "RUNNING" where Airflow has begun it and will
        say how it ends, and "FINISHED" where nobody will: a run by hand.
    metrics : mapping, optional
        What only the caller knows: a stage's time and memory.
    parameters : mapping, optional
        All parameters of the pipeline run, where the caller knows them. Values that the stages
        have used take precedence.

    Returns
    -------
    dict
        ``experiment_id``, ``run_id``, ``model_id`` (once there is a model) and ``logged``.

    Raises
    ------
    mlflow.MlflowException
        If the tracking server refuses or cannot be reached.
    """
    with look_into(run.path):
        return _mirror(run, status, metrics or {}, parameters or {})


def _mirror(
    run: Run, status: str | None, metrics: Mapping[str, float], parameters: Mapping[str, Value]
) -> dict:
    from mlflow.entities import Metric, Param, RunTag

    client = open_client()
    own = run.own_records()
    records = {stage: record for stage, record in own.items() if MAPPED not in record}
    values = dict(parameters)
    for record in records.values():
        values |= record["parameters"]
    values.pop("run_dir", None)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    start = start_of(run)
    identity = _identity(start)
    known = _open_mlflow_run(client, run, texts, identity)
    changed = {k: v for k, v in texts.items() if known["values"].get(k, v) != v}
    tags = _tags(run) | identity | {"mlflow.runName": _title(run, start, records, values)}
    for stage, record in records.items():
        if _is_taken(run, record):  # its notebook and figures are logged there
            tags[f"taken.{stage}"] = f"from {record[TAKEN]}, executed at {record['finished']}"
    if changed:  # which MLflow cannot take any more
        tags[CHANGED] = json.dumps(changed, sort_keys=True)
    fresh = {
        stage: record
        for stage, record in records.items()
        if stage != run.stage or record["state"] == "finished"
        if known["logged"].get(stage) != _fingerprint(run, stage, record)
    }
    status = status or ("RUNNING" if identity else "FINISHED")
    if not (fresh or metrics or changed or texts.keys() - known["values"].keys()):
        if known.get("status") == status:
            return known
    _log_models(client, run, known, fresh)
    written = {name for r in fresh.values() if r["state"] == "finished" for name in r["writes"]}
    measured = read_object(run.path / "metrics.json") if "metrics.json" in written else {}
    if "dataset.json" in written:  # where the rows of the source are
        facts = read_object(run.path / "dataset.json").items()
        measured |= {name: value for name, value in facts if name.startswith("rows_")}
    stamp, model = int(time.time() * 1000), known.get("model_id")
    client.log_batch(
        known["run_id"],
        metrics=[
            Metric(k, float(v), stamp, 0, model_id=model)
            for k, v in {**metrics, **measured}.items()
        ],
        params=[Param(k, v) for k, v in texts.items() if k not in known["values"]],
        tags=[RunTag(k, str(v)) for k, v in tags.items()],
    )
    if "dataset.json" in written:
        client.log_inputs(known["run_id"], [_dataset_input(run)])
    executed = {stage: record for stage, record in fresh.items() if not _is_taken(run, record)}
    _log_files(client, run, known["run_id"], executed)
    _set_status(client, known, status)
    known["logged"] |= {s: _fingerprint(run, s, r) for s, r in fresh.items()}
    known["values"] = texts | known["values"]  # what MLflow holds: the first value of each
    write_json(run.path / LINK, known)
    return known


def close(run: Run, status: str = "KILLED") -> None:
    """End the MLflow run of `run`, if it has one that says it is going on, and its children's."""
    known, start = link(run), start_of(run)
    for child in run.children() if MAPPED in start else ():
        close(child, status)
    identity = _identity(start)
    if not known and not identity:
        return
    client = open_client()
    known = known or _found(client, run, identity)
    if known and client.get_run(known["run_id"]).info.status == "RUNNING":
        client.set_terminated(known["run_id"], status=status)
        write_json(run.path / LINK, known | {"status": status})


def log_page(run: Run, name: str) -> None:
    """Log the file `name` of the run folder to the run's MLflow run, if it has one by now."""
    known = link(run)
    if known:
        text = (run.path / name).read_text(encoding="utf-8")
        open_client().log_text(known["run_id"], text, name)


def _tags(run: Run) -> dict[str, str]:
    facts = read_object(run.path / "dataset.json")
    tags = {
        "pipeline": run.pipeline,
        "run_dir": run.run_dir,
        "mlflow.source.name": f"notebooks/{run.pipeline}",
        "source": facts.get("source", ""),
        "data_digest": facts.get("digest", ""),
    }
    commit = git.commit()
    if commit:
        tags |= {"git_commit": commit, "mlflow.source.git.commit": commit.split("+")[0]}
    return {name: value for name, value in tags.items() if value}


def _identity(start: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that name the Airflow run which has begun so; {} for a run by hand."""
    found = {"airflow_dag": start.get("dag_id"), "airflow_run": start.get("run_id")}
    if "map_index" in start:
        found["map_index"] = str(start["map_index"])
    return found if all(found.values()) else {}


def _open_mlflow_run(
    client: "MlflowClient", run: Run, values: dict[str, str], identity: dict[str, str]
) -> dict:
    """Return the link of the run's MLflow run: the one it has, or a new one.

    Only a run by hand gets another one where `values` differ from what was logged.
    """
    known = link(run)
    kept = known.get("values", {})
    if known and (identity or all(kept.get(k, v) == v for k, v in values.items())):
        return known
    if known:  # by hand, with other parameters: a run of its own
        close(run, "FINISHED")
    tags, above = {"run_dir": run.run_dir, **identity}, {}
    if parent := run.parent:
        whole = _open_mlflow_run(client, parent, {}, _identity(start_of(parent)))
        above = {"mlflow.parentRunId": whole["run_id"]}
    with locked("mlflow-run"):
        known = _found(client, run, tags) if identity else {}
        known = known or _made(client, run, tags | above)
        write_json(run.path / LINK, known)
    return known


def _found(client: "MlflowClient", run: Run, tags: dict[str, str]) -> dict:
    """Return the link of the MLflow run with these tags; {} if there is none."""
    experiment = client.get_experiment_by_name(run.pipeline)
    if not experiment:
        return {}
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    for found in client.search_runs([experiment.experiment_id], wanted, max_results=1):
        return _link_to(found)
    return {}


def _made(client: "MlflowClient", run: Run, tags: dict[str, str]) -> dict:
    """Return the link of a new MLflow run."""
    return _link_to(client.create_run(experiment_of(client, run.pipeline), None, tags, run.name))


def _link_to(found: "MlflowRun") -> dict:
    info = found.info
    known = {"tracking_uri": tracking_uri(), "experiment_id": info.experiment_id}
    known |= {"run_id": info.run_id, "status": info.status}
    return known | {"logged": {}, "values": dict(found.data.params)}


def _set_status(client: "MlflowClient", known: dict, status: str) -> None:
    """Let an MLflow run have a status, and its link say so."""
    if status != "RUNNING":
        client.set_terminated(known["run_id"], status=status)
    elif known.get("status") != status:
        client.update_run(known["run_id"], status=status)
    known["status"] = status


def _title(
    run: Run, start: Mapping[str, str], records: Mapping[str, dict], values: Mapping[str, Value]
) -> str:
    """Return what to call a run in a list: pipeline, time (UTC), first metric, the data."""
    begun = [start.get("started"), *(record.get("started") for record in records.values())]
    moment = min((time for time in begun if time), default=now())
    by = "" if start.get("run_id") else " by hand"
    parts = [f"{run.pipeline}{by} {datetime.fromisoformat(moment):%d %b %H:%M}"]
    parts += [str(value) for value in start.get("values", {}).values()]
    parts += [text for text in (_headline(run), _short_source(values)) if text]
    return " \N{MIDDLE DOT} ".join(parts)


def _headline(run: Run) -> str:
    """Return the first metric of the gate, as "rmse 0.435"; "" if unknown."""
    for check in read_object(run.path / "verdict.json").get("checks", ()):
        value = "missing" if check["value"] is None else f"{check['value']:.3g}"
        return f"{check['metric']} {value}"
    return ""


def _short_source(values: Mapping[str, Value]) -> str:
    """Return the name of the data: the last part of a path or address, without what follows it."""
    source = str(values.get("source", ""))
    return source.split("?")[0].rstrip("/").rpartition("/")[2][:40]


def experiment_of(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, made now where there is none: on two machines, by one."""
    from mlflow import MlflowException

    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    try:
        return client.create_experiment(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name).experiment_id


def _log_models(client: "MlflowClient", run: Run, known: dict, fresh: dict[str, dict]) -> None:
    """Log the finished stages' model folders; the last one is the run's model."""
    for record in fresh.values():
        for name in record["writes"] if record["state"] == "finished" else ():
            if not (run.path / name / "MLmodel").exists():
                continue
            if taken := _is_taken(run, record) and link(look_at(record[TAKEN])).get("model_id"):
                known["model_id"] = taken  # the very model: it is logged there
                continue
            model = client.create_logged_model(
                known["experiment_id"], name=name, source_run_id=known["run_id"]
            )
            client.log_model_artifacts(model.model_id, str(run.local(name)))
            client.finalize_logged_model(model.model_id, "READY")
            known["model_id"] = model.model_id


def _log_files(client: "MlflowClient", run: Run, run_id: str, stages: dict[str, dict]) -> None:
    """Log small results as they are, and the executed notebooks with their HTML."""
    with tempfile.TemporaryDirectory() as folder:
        for stage, record in stages.items():
            reports = [p for p in run.path.glob(f"{stage}*") if p.suffix in (".ipynb", ".html")]
            written = record.get("writes", ())
            small = [name for name in written if Path(name).suffix in SMALL_FILES]
            for path in reports:
                copy(path, UPath(folder, "notebooks", path.name))
            for name in small:
                below = "figures" if name.endswith(".png") else "results"
                copy(run.path / name, UPath(folder, below, name))
        if any(Path(folder).iterdir()):
            client.log_artifacts(run_id, folder)


def _is_taken(run: Run, record: Mapping) -> bool:
    """Say whether a run of Airflow has taken a stage over from one that has logged it."""
    return TAKEN in record and bool(_identity(start_of(run)))


def _dataset_input(run: Run) -> "DatasetInput":
    """Return the data as MLflow knows it: name, digest, source and number of rows."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = read_object(run.path / "dataset.json")
    text = facts["source"]
    is_web = text.startswith(("http://", "https://"))
    source = HTTPDatasetSource(text) if is_web else CodeDatasetSource({"source": text})
    dataset = Dataset(
        facts["name"],
        facts["digest"][:36],
        source._get_source_type(),
        source.to_json(),
        profile=json.dumps({"num_rows": facts["n_rows"]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _fingerprint(run: Run, stage: str, record: dict) -> str:
    """Say in few characters what a stage has left, its executed notebook included."""
    report = run.path / f"{stage}.ipynb"
    seen = report.stat().st_mtime if report.exists() else 0
    state = [record["state"], record["started"], record["writes"], seen]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
