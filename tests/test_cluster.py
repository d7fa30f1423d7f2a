"""Several machines: one head and two workers in clones of their own, and what becomes of faults.

One cluster for all tests of the module, with PostgreSQL, Redis and S3 as real servers.
"""

import json

from lib.ground.files import ROOT

import pytest
from clusters import Cluster

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(s3_server, tmp_path_factory):
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("pipelines-cluster")
    made = Cluster(tmp_path_factory.mktemp("cluster"), s3_server, "pipelines-cluster")
    try:
        made.machine("head", ["head"])

        def is_up():
            assert made.processes["head"].poll() is None, made.logs()
            return "all up" in (made.folder / "head.log").read_text()

        made.wait(is_up, 240, "the head")
        made.machine("a", ["worker", "--queues", "default,a"])
        made.machine("b", ["worker", "--queues", "default,b"])

        def is_parsed():
            errors = made.call("importErrors")["import_errors"]
            assert not errors, errors
            return {dag["dag_id"] for dag in made.call("dags")["dags"]} == {"toy", "power"}

        made.wait(is_parsed, 120, "the DAGs to be parsed")
        yield made
    finally:
        made.close()


def test_stages_of_power_take_turns_between_two_machines_and_a_version_is_registered(cluster):
    run_id = cluster.trigger("power", n_trials=4)
    assert cluster.wait_for_run("power", run_id) == "success", cluster.logs()
    tasks = cluster.tasks("power", run_id)
    queues = [tasks[name]["queue"] for name in sorted(tasks) if name[0] == "0"]
    assert queues == ["b", "a", "b", "a", "b", "a"]
    folder = cluster.run_folder("power", run_id)
    registered = json.loads((folder / "registration.json").read_text())
    assert registered["version"] == "1"
    assert (folder / "report.html").exists() and (folder / "06_register.html").exists()
