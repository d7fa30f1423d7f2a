"""MLflow's registry and runs in memory: what the ledger asks of a store, and nothing else.

Every call is atomic and takes a moment, so that callers that run at once come between each other's
calls. The tests that use it run on MLflow's own store, too, which shows that it behaves alike.
"""

import random
import threading
import time
from types import SimpleNamespace

from mlflow import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

LOCK = threading.Lock()


class Page(list):
    token = None


def at_once(method):
    """Let one call at a time through, after a moment."""

    def call(self, *given, **options):
        time.sleep(random.random() * self.delay_s)
        with LOCK:
            return method(self, *given, **options)

    return call


def missing(what):
    return MlflowException(f"{what} not found", RESOURCE_DOES_NOT_EXIST)


class MemoryClient:
    def __init__(self):
        self.delay_s = 0.0
        self.models, self.versions, self.runs, self.experiments = {}, {}, {}, {}

    @at_once
    def create_registered_model(self, name, tags=None):
        if name in self.models:
            raise MlflowException(f"{name} exists", RESOURCE_ALREADY_EXISTS)
        self.models[name] = SimpleNamespace(name=name, tags=dict(tags or {}), aliases={})

    @at_once
    def get_registered_model(self, name):
        model = self._model(name)
        return SimpleNamespace(name=name, tags=dict(model.tags), aliases=dict(model.aliases))

    @at_once
    def search_registered_models(self, page_token=None):
        return Page(self.models.values())

    @at_once
    def set_registered_model_tag(self, name, key, value):
        self._model(name).tags[key] = value

    @at_once
    def set_registered_model_alias(self, name, alias, version):
        self._version(name, version)
        self._model(name).aliases[alias] = version

    @at_once
    def delete_registered_model_alias(self, name, alias):
        self._model(name).aliases.pop(alias, None)

    @at_once
    def create_model_version(self, name, source, tags=None):
        number = str(1 + sum(n == name for n, _ in self.versions))
        made = SimpleNamespace(name=name, version=number, tags=dict(tags or {}))
        self.versions[name, number] = made
        return made

    @at_once
    def get_model_version(self, name, version):
        found = self._version(name, version)
        return SimpleNamespace(name=name, version=found.version, tags=dict(found.tags))

    @at_once
    def search_model_versions(self, text):
        return [v for v in self.versions.values() if v and text == f"name = '{v.name}'"]

    @at_once
    def set_model_version_tag(self, name, version, key, value):
        self._version(name, version).tags[key] = value

    @at_once
    def delete_model_version(self, name, version):
        self.versions[name, version] = None
        aliases = self._model(name).aliases
        for alias in [a for a, v in aliases.items() if v == version]:
            del aliases[alias]

    @at_once
    def create_experiment(self, name, tags=None):
        if name in self.experiments:
            raise MlflowException(f"{name} exists", RESOURCE_ALREADY_EXISTS)
        self.experiments[name] = SimpleNamespace(experiment_id=name, tags=dict(tags or {}))
        return name

    @at_once
    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    @at_once
    def create_run(self, experiment_id, run_name, tags):
        run_id = f"{len(self.runs):032}"
        info = SimpleNamespace(run_id=run_id, lifecycle_stage="active", experiment=experiment_id)
        data = SimpleNamespace(params={}, tags=tags)
        self.runs[run_id] = SimpleNamespace(info=info, data=data)
        return self.runs[run_id]

    def set_terminated(self, run_id):
        self._run(run_id)

    @at_once
    def get_run(self, run_id):
        run = self._run(run_id)
        data = SimpleNamespace(params=dict(run.data.params), tags=run.data.tags)
        return SimpleNamespace(info=run.info, data=data)

    @at_once
    def search_runs(self, experiment_ids, text):
        return [
            run
            for run in self.runs.values()
            if run.info.experiment in experiment_ids
            and run.info.lifecycle_stage == "active"
            and text == f"tags.registered_model = '{run.data.tags['registered_model']}'"
        ]

    @at_once
    def delete_run(self, run_id):
        self._run(run_id).info.lifecycle_stage = "deleted"

    @at_once
    def restore_run(self, run_id):
        self._run(run_id).info.lifecycle_stage = "active"

    @at_once
    def log_param(self, run_id, key, value, synchronous=True):
        if self._run(run_id).data.params.setdefault(key, value) != value:
            raise MlflowException(
                f"Changing param values is not allowed: {key}", INVALID_PARAMETER_VALUE
            )

    def _model(self, name):
        if name not in self.models:
            raise missing(name)
        return self.models[name]

    def _version(self, name, version):
        found = self.versions.get((name, str(version)))
        if found is None:
            raise missing(f"{name} version {version}")
        return found

    def _run(self, run_id):
        if run_id not in self.runs:
            raise missing(run_id)
        return self.runs[run_id]
