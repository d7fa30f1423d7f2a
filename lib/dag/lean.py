"""`dag.test` of Airflow without what it does for others: less to wait for before a run begins.

It reads and saves every DAG file, builds every version of the API that tasks talk to, and checks
each parameter's schema anew wherever a parameter is looked at. One run needs its own DAG, the
version that its own tasks speak, and one check of a schema.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from types import ModuleType
from typing import TYPE_CHECKING

from lib.ground import layout

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from cadwyn import VersionBundle

BUNDLE = "dags-folder"  # Airflow's name of the folder of DAG files
SPOKEN = 2  # versions of the API: the newest, and the one before, whose routes it is checked with


def open_bag(pipeline: str) -> "DagBag":
    """Return what the DAG file of `pipeline` defines, as Airflow's own processor would read it."""
    from airflow.dag_processing.dagbag import BundleDagBag

    file = layout.dag_file(pipeline)
    return BundleDagBag(file, bundle_path=file.parent, bundle_name=BUNDLE)


@contextmanager
def lean(bag: "DagBag") -> Iterator[None]:
    """Let `dag.test` of a DAG in `bag` save that bag alone, and do nothing twice."""
    from airflow.api_fastapi.execution_api import versions
    from airflow.dag_processing import dagbag

    check = _once(Draft202012Validator.check_schema)
    with ExitStack() as stack:
        stack.enter_context(_replaced(dagbag, "BundleDagBag", lambda **_: bag))
        stack.enter_context(_replaced(versions, "bundle", _newest(versions.bundle)))
        stack.enter_context(_replaced(Draft202012Validator, "check_schema", check))
        yield


def save(bags: Iterable["DagBag"]) -> None:
    """Save DAGs, and what they share, before processes are forked that run one each.

    Each saves its own again, by `dag.test`. Of two that are the first to save a bundle or an asset,
    both would add it.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    for bag in bags:
        sync_bag_to_db(bag, BUNDLE, None)


def build_api() -> None:
    """Build what the tasks of this process talk to, and of those that are forked from it."""
    from airflow.api_fastapi.execution_api import versions
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    with _replaced(versions, "bundle", _newest(versions.bundle)):
        in_process_api_server().app  # noqa: B018 - which keeps it


@contextmanager
def _replaced(owner: ModuleType | type, name: str, value: object) -> Iterator[None]:
    """Let an attribute be another while a block goes on."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _newest(bundle: "VersionBundle") -> "VersionBundle":
    """Return a bundle of those versions alone that tasks of the same Airflow speak."""
    kept = copy(bundle)
    kept.versions = bundle.versions[:SPOKEN]
    return kept


def _once(check: Callable) -> Callable:
    """Return a check of schemas that passes what it has passed before."""
    passed: set[str] = set()

    def check_once(schema: object, **options: object) -> None:
        text = json.dumps(schema, sort_keys=True, default=repr)
        if text not in passed:
            check(schema, **options)
            passed.add(text)

    return check_once
