"""A deployment on several machines, in small: real servers, a head, and workers from clones.

PostgreSQL and Redis are Debian's. Settings are those of `deploy/cluster.env`, with the addresses
of this machine in place of host names. Each machine is a clone of the project in a folder of its
own, with its own temporary files.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from lib.commands.notebooks import KERNEL
from lib.ground.files import ROOT
from lib.ground.runs import run_folder_name

import nbformat
import postgres
import psutil
import pytest
import requests
from executed import free_ports
from nbformat import v4
from upath import UPath
from whole_runs import wait_for

CLI = [sys.executable, "-m", "lib.commands.cli"]
SILENT_S = 25
PASSWORD = "correct horse battery"
POLICY = """
from datetime import timedelta

from lib.machine import scratch


def task_policy(task):
    scratch.EVERY_S = 5.0
    task.retry_delay = timedelta(seconds=1)
    mapped = task.get_closest_mapped_task_group()
    if task.dag_id != "count" and not mapped:  # these go where there is room, others take turns
        task.queue = "ab"[int(task.task_id[1]) % 2] if task.task_id[0] == "0" else "a"
"""
COUNT = """
import time
from lib.run import open_run

run = open_run(run_dir, stage="01_count")
kept = run.scratch / "counted.txt"
done = len(kept.read_text().split()) if kept.exists() else 0
print(f"goes on after {done}")
for number in range(done, n):
    time.sleep(wait_s / 4 if done else wait_s)
    with kept.open("a") as file:
        file.write(f"{number}\\n")
    run.write("dataset.json", {"name": "count", "source": source, "digest": "", "n_rows": number})
run.write("metrics.json", {"first": done, "largest": float(n)})
run.finish()
"""
COUNT_PARAMETERS = """run_dir: str = "count/dev"  # run folder, below OUTPUTS_DIR
source: str = "sample"  # of nothing
n: int = 3  # numbers to count to [1..1000]
wait_s: float = 0.0  # time before each, s [0..100]"""
COUNT_DAG = """
from lib.dag.form import DAG_DEFAULTS, notebook_params, notebook_task

from airflow.sdk import DAG

with DAG("count", schedule=None, params=notebook_params("count"), **DAG_DEFAULTS):
    notebook_task("count/01_count")
"""


def programs():
    """Return Redis' server, or skip where it, PostgreSQL or Celery is not installed."""
    redis = shutil.which("redis-server")
    if not postgres.programs() or not redis or not importlib.util.find_spec("celery"):
        pytest.skip("no PostgreSQL/Redis, or no make .venv/cluster")
    return redis


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def changed_files():
    """Return the files that are not as they were committed, new ones too."""
    found = ""
    for command in ("diff --name-only HEAD", "ls-files -o --exclude-standard"):
        found += subprocess.run(
            ["git", *command.split()], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    return found.splitlines()


def write_count(folder):
    """Write a pipeline of one stage, which counts slowly and keeps in scratch how far it came."""
    first = v4.new_code_cell(COUNT_PARAMETERS, metadata={"tags": ["parameters"]}, id="parameters")
    cells = [v4.new_markdown_cell("# Count", id="head"), first, v4.new_code_cell(COUNT, id="count")]
    place = folder / "notebooks" / "count" / "01_count.ipynb"
    place.parent.mkdir()
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), place)
    (folder / "dags" / "count.py").write_text(COUNT_DAG)


def put_into_pool(dag_file):
    """Let the children of a DAG run in Airflow's pool `pair`, instead of a link to its file."""
    text = dag_file.read_text()
    dag_file.unlink()
    dag_file.write_text(text.replace("each=things)", 'each=things, pool="pair")'))


def settings_file():
    """Return `deploy/cluster.env` as a dictionary."""
    lines = (ROOT / "deploy" / "cluster.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Cluster:
    """Servers and machines; `close` ends all of them."""

    def __init__(self, folder, s3, bucket):
        self.folder, self.processes, self.machines = Path(folder), {}, {}
        self.redis = programs()
        names = ("postgres", "redis", "airflow", "mlflow")
        self.ports = dict(zip(names, free_ports(4), strict=True))
        self.bucket = bucket
        self.settings = self._settings(s3)
        self.start_postgres()
        self.start_redis()

    def _settings(self, s3):
        text = json.dumps(settings_file())
        for name, port in (("postgres:5432", "postgres"), ("head:8080", "airflow"),
                           ("head:5000", "mlflow")):  # fmt: skip
            text = text.replace(name, f"127.0.0.1:{self.ports[port]}")
        text = text.replace("s3://pipelines", f"s3://{self.bucket}")
        secrets = {
            "AIRFLOW__CELERY__BROKER_URL": f"redis://:secret@127.0.0.1:{self.ports['redis']}/0",
            "AIRFLOW__CORE__FERNET_KEY": "1V3vT6yXjZ0q4mD2sK8bW5nR7cF9gH1pL0aE6uY3iOk=",
            "AIRFLOW__API__SECRET_KEY": "of sessions " * 4,
            "AIRFLOW__API_AUTH__JWT_SECRET": "of tokens " * 7,
            "PGPASSWORD": "secret",
            "AIRFLOW_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of forms " * 5,
        }
        here = {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "MLFLOW_HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports["airflow"]),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(SILENT_S),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "45",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "3",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": s3,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
                {"conn_type": "aws", "extra": {"endpoint_url": s3}}
            ),
            "PIPELINES_DIR": "chosen",
            "WARM_KERNELS": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        return json.loads(text) | secrets | here

    def run(self, name, command, **options):
        """Start a process and keep it under `name`; what it says goes into a file of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **options
            )
        return self.processes[name]

    def start_postgres(self):
        options = {"listen_addresses": "127.0.0.1", "port": self.ports["postgres"]}
        self.place, command = postgres.prepare(
            "pipelines", password="secret", max_connections=200, **options
        )
        self.run("postgres", command, cwd=self.place)
        wait_for(lambda: self.sql("SELECT 1", "postgres"), 30, "PostgreSQL")
        for name in ("airflow", "mlflow", "celery", "optuna"):
            self.sql(f"CREATE DATABASE {name}", "postgres")

    def sql(self, query, database="airflow"):
        """Return the rows that PostgreSQL answers; None while it does not."""
        import psycopg

        place = f"postgresql://pipelines:secret@127.0.0.1:{self.ports['postgres']}/{database}"
        try:
            with psycopg.connect(place, autocommit=True) as connection:
                answer = connection.execute(query)
                return answer.fetchall() if answer.description else []
        except psycopg.OperationalError:
            return None

    def start_redis(self):
        options = {"port": self.ports["redis"], "bind": "127.0.0.1", "save": "", "dir": self.folder}
        options |= {"requirepass": "secret", "appendonly": "no"}
        flags = [str(part) for name, text in options.items() for part in (f"--{name}", text)]
        self.run("redis", [self.redis, *flags])
        wait_for(lambda: answers(self.ports["redis"]), 10, "Redis")

    def machine(self, name, command, **more):
        """Clone the project into a folder of its own, once, and run a command of it there."""
        clone = self.folder / name
        if name not in self.machines:
            self.machines[name] = clone
            subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
            for file in changed_files():
                (clone / file).parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / file).exists():
                    shutil.copy(ROOT / file, clone / file)
            for part in ("notebooks", "dags"):
                (clone / "chosen" / part).mkdir(parents=True)
                ours, toys = clone / part, clone / "tests" / "toy" / part
                for one in (ours / "power_search", ours / "mnist", toys / "toy", toys / "toy_map"):
                    one = one.with_suffix("" if part == "notebooks" else ".py")
                    (clone / "chosen" / part / one.name).symlink_to(one)
            write_count(clone / "chosen")
            put_into_pool(clone / "chosen" / "dags" / "toy_map.py")
            (self.folder / f"{name}.tmp").mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MLFLOW"))}
        kept.pop("OUTPUTS_DIR")
        place = {"TMPDIR": str(self.folder / f"{name}.tmp"), "PYTHONPATH": str(clone)}
        place["AIRFLOW_HOME"] = str(clone / ".airflow")
        (clone / ".airflow" / "config").mkdir(parents=True, exist_ok=True)
        (clone / ".airflow" / "config" / "airflow_local_settings.py").write_text(POLICY)
        environment = kept | self.settings | place | more
        return self.run(name, [*CLI, *command], cwd=clone, env=environment)

    def start_head(self):
        """Start the head, once more if it has been killed, and wait until its servers answer."""
        log, up = self.folder / "head.log", "all up"
        before = log.read_text().count(up) if log.exists() else 0
        head = self.machine("head", ["head"])

        def is_up():
            assert head.poll() is None, self.logs()
            return log.read_text().count(up) > before

        self.wait(is_up, 240, "the head")

    def logs(self):
        """Return the end of every log, to say why something failed."""
        found = [*self.folder.glob("*.log"), *self.folder.glob("*/outputs/.logs/*.log")]
        return "\n".join(
            f"--- {path}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(found)
        )

    def family(self, name):
        """Return every process of a machine; many lead a session of their own, or have no parent.

        Some write a title over their environment, and are found by their command or their parent.
        """
        tmp, code, found = str(self.folder / f"{name}.tmp"), str(self.folder / name), set()
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.environ().get("TMPDIR") == tmp or code in " ".join(one.cmdline()):
                    found |= {one, *one.children(recursive=True)}
        return found

    def kernels(self, name):
        """Return the kernels that a machine runs."""
        found = set()
        for one in self.family(name):
            with contextlib.suppress(psutil.Error):
                if "warm.py" in " ".join(one.cmdline()):
                    found |= set(one.children())
        return found

    def signal(self, name, number):
        """Send a signal to every process of a machine."""
        for one in self.family(name):
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)

    @contextlib.contextmanager
    def paused(self, server):
        """Let a server of the head answer nothing while the block goes on."""
        found = [
            p for p in self.family("head") if server in " ".join(p.cmdline()).replace("_", " ")
        ]
        assert found
        for one in found:
            one.suspend()
        try:
            yield
        finally:
            for one in found:
                one.resume()

    @contextlib.contextmanager
    def s3_refuses(self):
        """Let S3 answer every request with 503 while the block goes on."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication as App

        def refuse(app, environ, start_response):
            start_response("503 Slow Down", [("Content-Type", "text/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>"]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(App, "__call__", refuse)
            yield

    def give_out_again(self):
        """Give out each message of which no worker has said that it is done.

        This is what a worker does with those that were given out `VISIBILITY_TIMEOUT` ago.
        """
        from kombu import Connection

        broker = self.settings["AIRFLOW__CELERY__BROKER_URL"]
        with Connection(broker, transport_options={"visibility_timeout": 0}) as connection:
            connection.default_channel.qos.restore_visible(interval=1)

    def log_of(self, name):
        """Return what the worker of a machine has said."""
        return (self.folder / name / "outputs/.logs/airflow-worker.log").read_text()

    def kill(self, name):
        """Kill everything of a machine at once, as a power failure does."""
        self.signal(name, signal.SIGSTOP)  # so that nobody sees another one die
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait()

    def close(self):
        """End everything."""
        for name in [n for n in self.processes if n not in ("postgres", "redis")]:
            self.kill(name)
        for process in self.processes.values():
            os.killpg(process.pid, signal.SIGINT)
            process.wait(20)
        shutil.rmtree(self.place, ignore_errors=True)

    def headers(self):
        """Return what names Airflow's user `admin`."""
        login = {"username": "admin", "password": PASSWORD}
        self.token = getattr(self, "token", "") or self.call("/auth/token", login)["access_token"]
        return {"Authorization": f"Bearer {self.token}"}

    def call(self, path, body=None, method=None):
        """Ask Airflow's REST API as its user `admin`."""
        base = f"http://127.0.0.1:{self.ports['airflow']}"
        headers = {"Content-Type": "application/json"}
        if path != "/auth/token":
            headers |= self.headers()
            path = f"/api/v2/{path}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(base + path, data=data, headers=headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return json.load(answer)

    def trigger(self, dag_id, **conf):
        """Begin a DAG run; return its id."""
        body = {"conf": {"source": "sample", "force": True} | conf, "logical_date": None}
        return self.call(f"dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def clear(self, dag_id, run_id, task_id):
        """Let a task of a DAG run, and those after it, run once more."""
        body = {"dag_run_id": run_id, "task_ids": [task_id], "dry_run": False}
        self.call(
            f"dags/{dag_id}/clearTaskInstances",
            body | {"only_failed": False, "include_downstream": True},
            "POST",
        )

    def mlflow(self, page, /, **query):
        """Ask MLflow's REST API."""
        answer = requests.get(
            f"{self.settings['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{page}",
            params=query,
            auth=("admin", PASSWORD),
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json()

    def tasks(self, dag_id, run_id):
        """Return the task instances of a DAG run, by id."""
        found = self.call(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {one["task_id"]: one for one in found}

    def wait_for_run(self, dag_id, run_id, seconds=400):
        """Return the state in which a DAG run has ended."""

        def ended():
            try:
                state = self.call(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
            except (urllib.error.URLError, OSError):
                return None  # the API server is away
            return state if state in ("success", "failed") else None

        return self.wait(ended, seconds, f"{dag_id} {run_id} to end")

    def wait(self, condition, seconds, what):
        """Wait as `wait_for`; say what the logs say if it is in vain."""
        try:
            return wait_for(condition, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def run_folder(self, dag_id, run_id):
        return UPath(
            f"s3://{self.bucket}/runs/{dag_id}/{run_folder_name(run_id)}", use_listings_cache=False
        )
