"""Several machines: one head and two workers in clones of their own, and what becomes of faults.

One cluster for all tests of the module, with PostgreSQL, Redis and S3 as real servers.
"""

import json
import signal
import time

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
            return {dag["dag_id"] for dag in made.call("dags")["dags"]} == {"toy", "power", "count"}

        made.wait(is_parsed, 120, "the DAGs to be parsed")
        yield made
    finally:
        made.close()


def test_stages_of_power_take_turns_between_two_machines_and_a_version_is_registered(cluster):
    run_id = cluster.trigger("power", n_trials=4)
    assert cluster.wait_for_run("power", run_id, 700) == "success", cluster.logs()
    tasks = cluster.tasks("power", run_id)
    queues = [tasks[name]["queue"] for name in sorted(tasks) if name[0] == "0"]
    assert queues == ["b", "a", "b", "a", "b", "a"]
    folder = cluster.run_folder("power", run_id)
    registered = json.loads((folder / "registration.json").read_text())
    assert registered["version"] == "1"
    assert (folder / "report.html").exists() and (folder / "06_register.html").exists()


def record_of(folder, stage):
    path = folder / "stages" / f"{stage}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def machine_of(cluster, name):
    """Return the process of a machine that runs a notebook's kernel."""
    return [one for one in cluster.family(name) if "kernel.py" in " ".join(one.cmdline())]


def begin_count(cluster, n):
    """Begin a slow count; return its folder, and the machine that counts, once it has begun to."""
    run_id = cluster.trigger("count", n=n, wait_s=1.0)
    folder = cluster.run_folder("count", run_id)
    rows = lambda: len(record_of(folder, "01_count").get("writes", ()))  # noqa: E731
    cluster.wait(rows, 120, "the count to begin")
    kernels = {name: machine_of(cluster, name) for name in ("a", "b") if name in cluster.machines}
    (name,) = [name for name, found in kernels.items() if found]
    return run_id, folder, name


def test_machine_that_is_cut_off_is_given_up_and_can_write_no_more(cluster):
    """Its stage goes on elsewhere from where it was, and the report says what happened."""
    run_id, folder, name = begin_count(cluster, n=60)
    cluster.wait(lambda: list(folder.glob(".scratch/01_count/*/counted.txt")), 60, "the mirror")
    cluster.signal(name, signal.SIGSTOP)
    cut_off = time.monotonic()

    def is_told():
        page = folder / "01_count.attempt-1.html"
        now = page if page.exists() else folder / "01_count.html"
        return now.exists() and "nothing was heard for 15 s" in now.read_text()

    cluster.wait(is_told, 90, "the report to say so")
    took = time.monotonic() - cut_off
    print(f"the report said so after {took:.0f} s")
    assert took < 15 + 45
    other = "b" if name == "a" else "a"
    cluster.wait(lambda: machine_of(cluster, other), 120, "the stage to begin elsewhere")
    cluster.signal(name, signal.SIGCONT)
    assert cluster.wait_for_run("count", run_id) == "success", cluster.logs()
    cluster.wait(lambda: not machine_of(cluster, name), 60, "the old kernel to end")
    record = record_of(folder, "01_count")
    assert record["attempt"]["number"] == 2 and record["state"] == "finished"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["first"] < 60 and metrics["largest"] == 60
    assert not list(folder.glob(".scratch/**/counted.txt")), "the copies go with the stage"
    assert len(list(folder.glob("01_count*.ipynb"))) == 2
