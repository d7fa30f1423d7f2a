"""What `make run` leaves out of Airflow's own way to make a DAG run, and what stays the same."""

from lib.dag.lean import lean, open_bag
from lib.ground import layout

import pytest
from jsonschema import Draft202012Validator, SchemaError, validate


def test_bag_has_one_file_under_the_name_that_the_processor_of_airflow_gives_it():
    bag = open_bag("power")
    assert not bag.import_errors
    assert [*bag.dags] == ["power"]
    assert bag.dags["power"].relative_fileloc == "power.py"
    assert bag.dags["power"].fileloc == str(layout.dag_file("power"))


@pytest.mark.slow
def test_only_the_own_dag_is_saved_and_everything_is_as_it_was_afterwards():
    from airflow.api_fastapi.execution_api import versions
    from airflow.dag_processing import dagbag

    before = dagbag.BundleDagBag, versions.bundle, Draft202012Validator.check_schema
    bag = open_bag("power")
    with lean(bag):
        assert dagbag.BundleDagBag(dag_folder="any", bundle_path="any", bundle_name="any") is bag
    assert (dagbag.BundleDagBag, versions.bundle, Draft202012Validator.check_schema) == before


@pytest.mark.slow
def test_tasks_speak_a_version_of_the_api_that_is_built():
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.sdk.api.datamodels._generated import API_VERSION

    with lean(open_bag("power")):
        app = InProcessExecutionAPI().app
        app._cadwyn_initialize()
    served = app.router.versioned_routers
    assert next(iter(served)) == API_VERSION
    paths = {route.path for route in served[API_VERSION].routes}
    assert "/task-instances/{task_instance_id}/run" in paths
    assert "/task-instances/{task_instance_id}/state" in paths


@pytest.mark.slow
def test_schema_that_is_wrong_is_refused_every_time():
    with lean(open_bag("power")):
        for _ in range(2):
            validate(3, {"type": "integer"})
            with pytest.raises(SchemaError):
                validate(3, {"type": "whole"})
