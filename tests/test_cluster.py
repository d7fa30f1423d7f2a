"""Several machines: one head and two workers in clones of their own, and what becomes of faults.

One cluster for all tests of the module, with PostgreSQL, Redis and S3 as real servers.
"""

import html
import json
import re
import signal
import time

from lib.ground.files import ROOT

import pytest
import requests
from clusters import SILENT_S, Cluster

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
DAGS = {"toy", "toy_map", "power_search", "mnist", "count"}
PAGES_OF_A_CHILD = ("report", "02_work")
MNIST = {"model": "simple", "epochs": 2, "width": 8, "batch_size": 50, "n_validation": 200}
MNIST |= {"n_baseline": 500, "min_accuracy": 0.2, "max_calibration_error": 1.0}
MNIST |= {"min_ahead_of_logistic": -1.0}


@pytest.fixture(scope="module")
def cluster(s3_server, tmp_path_factory):
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("pipelines-cluster")
    made = Cluster(tmp_path_factory.mktemp("cluster"), s3_server, "pipelines-cluster")
    try:
        made.start_head()
        made.machine("a", ["worker", "--queues", "default,a"])
        made.machine("b", ["worker", "--queues", "default,b"])

        def is_parsed():
            errors = made.call("importErrors")["import_errors"]
            assert not errors, errors
            return {dag["dag_id"] for dag in made.call("dags")["dags"]} == DAGS

        made.wait(is_parsed, 120, "the DAGs to be parsed")
        yield made
    finally:
        made.close()


def test_probes_of_kubernetes_are_answered(cluster):
    text = (ROOT / "deploy" / "kubernetes" / "head.yaml").read_text(encoding="utf-8")
    probes = re.findall(r"httpGet: {path: (\S+), port: (\w+)}", text)
    assert len(probes) == 3
    for path, server in probes:
        url = f"http://127.0.0.1:{cluster.ports[server]}{path}"
        assert requests.get(url, timeout=30).status_code == 200, url
    users = f"{cluster.settings['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
    assert requests.get(users, timeout=30).status_code == 401, "MLflow is for those who log in"


def test_stages_take_turns_between_two_machines_which_search_together(cluster):
    """The search is on PostgreSQL; all else of `power_search` is as in `power`."""
    run_id = cluster.trigger("power_search", n_trials=8, n_workers=2)
    assert cluster.wait_for_run("power_search", run_id, 700) == "success", cluster.logs()
    tasks = cluster.tasks("power_search", run_id)
    own = [name for name in sorted(tasks) if name[0] == "0" and name != "03_search"]
    assert "".join(tasks[name]["queue"] for name in own) == "babbaba"
    folder = cluster.run_folder("power_search", run_id)
    states = [line.split(",")[1] for line in (folder / "trials.csv").read_text().splitlines()[1:]]
    assert states.count("complete") == 8 and {*states} <= {"complete", "fail"}, states
    done = [json.loads((folder / f"000{k}/worker.json").read_text())["n_trials"] for k in (0, 1)]
    if {*states} == {"complete"}:  # else a busy machine was given up in between
        assert sum(done) == 7, "and the first one at the beginning"
    registered = json.loads((folder / "registration.json").read_text())
    assert registered["version"] == 1
    assert (folder / "report.html").exists() and (folder / "06_register.html").exists()


def test_mnist_is_trained_and_registered_once_though_the_head_is_killed_meanwhile(cluster):
    run_id = cluster.trigger("mnist", **MNIST)
    folder = cluster.run_folder("mnist", run_id)
    cluster.wait(lambda: record_of(folder, "03_train"), 400, "the training to begin")
    cluster.kill("head")
    assert record_of(folder, "03_train")["state"] == "running", "or the test tests nothing"
    cluster.start_head()
    assert cluster.wait_for_run("mnist", run_id, 600) == "success", cluster.logs()
    tasks = cluster.tasks("mnist", run_id)
    own = [name for name in sorted(tasks) if name[0] == "0"]
    assert "".join(tasks[name]["queue"] for name in own) == "babab"
    registered = json.loads((folder / "registration.json").read_text())
    asked = {"filter": f"name = '{registered['name']}'"}
    (version,) = cluster.mlflow("model-versions/search", **asked)["model_versions"]
    assert registered["version"] == int(version["version"]) == 1


def test_pool_limits_how_many_children_run_at_once_and_their_pages_open(cluster):
    """Two machines of two places each would run all three."""
    cluster.call("pools", {"name": "pair", "slots": 2})
    run_id = cluster.trigger("toy_map", n=3, wait_s=4.0)
    assert cluster.wait_for_run("toy_map", run_id) == "success", cluster.logs()
    found = cluster.call(f"dags/toy_map/dagRuns/{run_id}/taskInstances")["task_instances"]
    times = [(one["start_date"], one["end_date"]) for one in found if one["map_index"] >= 0]
    assert len(times) == 6
    at_once = [sum(start <= moment < end for start, end in times) for moment, _ in times]
    assert max(at_once) == 2, times
    folder = cluster.run_folder("toy_map", run_id)
    address = f"http://127.0.0.1:{cluster.ports['airflow']}/reports/page/toy_map/{folder.name}"
    for page in [f"{child:04d}/{name}.html" for child in range(3) for name in PAGES_OF_A_CHILD]:
        assert (folder / page).exists(), page
        answer = requests.get(f"{address}/{page}", headers=cluster.headers(), timeout=60)
        assert answer.status_code == 200 and f"thing {int(page[:4])}" in answer.text, page


def record_of(folder, stage):
    path = folder / "stages" / f"{stage}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def begin_count(cluster, n):
    """Begin a slow count; return its folder, and the machine that counts, once it has begun to."""
    run_id = cluster.trigger("count", n=n, wait_s=1.0)
    folder = cluster.run_folder("count", run_id)
    rows = lambda: len(record_of(folder, "01_count").get("writes", ()))  # noqa: E731
    cluster.wait(rows, 300, "the count to begin")
    kernels = {name: cluster.kernels(name) for name in ("a", "b") if name in cluster.machines}
    (name,) = [name for name, found in kernels.items() if found]
    return run_id, folder, name


def test_machine_that_is_cut_off_is_given_up_and_can_write_no_more(cluster):
    """Its stage goes on elsewhere from where it was, and the report says what happened."""
    run_id, folder, name = begin_count(cluster, n=60)
    cluster.wait(lambda: list(folder.glob(".scratch/01_count/*/counted.txt")), 120, "the mirror")
    cluster.signal(name, signal.SIGSTOP)
    cut_off = time.monotonic()

    def is_told():
        page = folder / "01_count.attempt-1.html"
        now = page if page.exists() else folder / "01_count.html"
        return now.exists() and f"nothing was heard for {SILENT_S} s" in now.read_text()

    cluster.wait(is_told, 180, "the report to say so")
    took = time.monotonic() - cut_off
    print(f"the report said so after {took:.0f} s")
    assert took < SILENT_S + 40
    other = "b" if name == "a" else "a"
    cluster.wait(lambda: cluster.kernels(other), 300, "the stage to begin elsewhere")
    cluster.signal(name, signal.SIGCONT)
    assert cluster.wait_for_run("count", run_id) == "success", cluster.logs()
    cluster.wait(lambda: not cluster.kernels(name), 60, "the old kernel to end")
    record = record_of(folder, "01_count")
    number = record["attempt"]["number"]  # a busy machine may be given up, too
    assert number >= 2 and record["state"] == "finished"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["first"] < 60 and metrics["largest"] == 60
    assert not list(folder.glob(".scratch/**/counted.txt")), "the copies go with the stage"
    assert len(list(folder.glob("01_count*.ipynb"))) == number


def test_stage_from_other_code_than_those_before_it_is_refused(cluster):
    file = cluster.machines["a"] / "lib" / "plots.py"
    before = file.read_text()
    file.write_text(f"{before}# changed on one machine\n")
    try:
        run_id = cluster.trigger("toy")
        assert cluster.wait_for_run("toy", run_id) == "failed"
    finally:
        file.write_text(before)
    folder = cluster.run_folder("toy", run_id)
    page = html.unescape((folder / "report.html").read_text())
    assert "02_judge would be executed from" in page and "bring all workers to one" in page
    assert cluster.tasks("toy", run_id)["02_judge"]["try_number"] == 1
    cluster.clear("toy", run_id, "02_judge")
    assert cluster.wait_for_run("toy", run_id) == "success", "cleared, with the same code again"


def test_faults_that_pass_delay_what_waits_and_end_nothing(cluster):
    """One stage lives through all of them in its first attempt.

    A broker that is lost has forgotten all it held.
    """
    running, folder, _ = begin_count(cluster, n=60)

    def goes_on():
        record = record_of(folder, "01_count")
        assert (record["state"], record["attempt"]["number"]) == ("running", 1), record

    with cluster.paused("airflow api"):
        time.sleep(10)
    goes_on()
    with cluster.s3_refuses():
        time.sleep(15)
    goes_on()
    cluster.give_out_again()
    cluster.wait(
        lambda: any("ignoring redelivered message" in cluster.log_of(name) for name in ("a", "b")),
        60,
        "the message to be ignored",
    )
    goes_on()
    for name in ("a", "b"):
        cluster.signal(name, signal.SIGSTOP)
    waiting = cluster.trigger("toy")
    cluster.wait(
        lambda: cluster.tasks("toy", waiting)["01_load"]["state"] == "queued", 30, "the queue"
    )
    broker = cluster.processes.pop("redis")
    broker.kill()
    broker.wait()
    cluster.start_redis()  # empty
    for name in ("a", "b"):
        cluster.signal(name, signal.SIGCONT)
    goes_on()
    assert cluster.wait_for_run("toy", waiting) == "success"
    assert cluster.tasks("toy", waiting)["01_load"]["try_number"] == 1
    assert cluster.wait_for_run("count", running) == "success"
    assert record_of(folder, "01_count")["attempt"]["number"] == 1
    assert not list(folder.glob("01_count.attempt-*"))
    for name in ("a", "b"):  # of which one has told a lost broker what it had done
        assert "ended with status" not in (cluster.folder / f"{name}.log").read_text()


def test_api_server_that_is_away_for_longer_costs_an_attempt_which_says_so(cluster):
    """What was counted by then is not counted again."""
    run_id, folder, _ = begin_count(cluster, n=60)  # longer than until the scheduler gives it up
    cluster.wait(lambda: list(folder.glob(".scratch/01_count/*/counted.txt")), 120, "the mirror")
    with cluster.paused("airflow api"):
        time.sleep(SILENT_S + 15)
    assert cluster.wait_for_run("count", run_id) == "success"
    assert record_of(folder, "01_count")["attempt"]["number"] == 2
    page = (folder / "01_count.attempt-1.html").read_text()
    assert f"nothing was heard for {SILENT_S} s" in page
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["first"] > 0 and metrics["largest"] == 60


def test_mlflow_that_is_away_for_longer_than_a_stage_is_told_by_the_next_one(cluster):
    with cluster.paused("mlflow"):
        run_id = cluster.trigger("toy", n=1, wait_s=10.0)
        cluster.wait(
            lambda: cluster.tasks("toy", run_id)["02_judge"]["state"] == "running", 180, "02_judge"
        )
    assert cluster.wait_for_run("toy", run_id) == "success"
    assert {one["try_number"] for one in cluster.tasks("toy", run_id).values()} == {1}
    known = json.loads((cluster.run_folder("toy", run_id) / "mlflow.json").read_text())
    run = cluster.mlflow("runs/get", run_id=known["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    found = cluster.mlflow("artifacts/list", run_id=known["run_id"], path="notebooks")["files"]
    assert {"notebooks/01_load.ipynb", "notebooks/02_judge.html"} <= {one["path"] for one in found}


def test_machine_that_is_killed_with_everything_on_it_loses_its_stage_to_another(cluster):
    """The last test: nobody starts the machine again."""
    run_id, folder, name = begin_count(cluster, n=60)
    cluster.wait(lambda: list(folder.glob(".scratch/01_count/*/counted.txt")), 120, "the mirror")
    cluster.kill(name)
    assert cluster.wait_for_run("count", run_id) == "success"
    assert json.loads((folder / "metrics.json").read_text())["first"] > 0
    page = (folder / "01_count.attempt-1.html").read_text()
    assert "it was killed, or its machine is down" in page
