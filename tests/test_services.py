"""Airflow, MLflow and JupyterLab as `make up` starts them, and their settings."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from lib.commands import services
from lib.dag import database
from lib.ground import addresses

import psutil
import pytest
from executed import is_running
from whole_runs import wait_for


def test_free_port_skips_one_that_is_taken():
    with socket.socket() as taken:
        taken.bind((addresses.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert services.free_port(port) > port


@pytest.fixture
def sleeper(monkeypatch, tmp_path):
    """Start processes that do nothing, as services of a fresh `OUTPUTS_DIR`."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    started = []

    def start(name, address=""):
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        process = subprocess.Popen(command)
        started.append(process)
        addresses.note(name, process.pid, at=address, by="make up")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def taken():
    """A port that this process listens on."""
    with socket.socket() as holder:
        holder.bind((addresses.HOST, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_default_port_that_is_taken_gives_way_to_the_next_and_says_so(taken, monkeypatch, capsys):
    monkeypatch.setattr(services, "PORTS", {"airflow": taken, "mlflow": 8080})
    monkeypatch.setattr(services, "is_taken", lambda port: port == taken)
    chosen = services.choose_ports({"airflow": "", "mlflow": ""}, "make up")
    assert chosen["airflow"] > taken
    said = capsys.readouterr().out
    assert said.startswith(f"port {taken} is taken by process {os.getpid()}, ")
    assert said.rstrip().endswith(f"Airflow gets {chosen['airflow']}")


def test_port_that_was_asked_for_is_kept_from_the_other_services(taken):
    free = services.free_port(taken + 1)
    defaults = {"airflow": str(free), "mlflow": "", "lab": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "PORTS", {"airflow": 8080, "mlflow": free, "lab": free})
        chosen = services.choose_ports(defaults, "make up")
    assert chosen["airflow"] == free and len(set(chosen.values())) == 3


def test_port_that_was_asked_for_and_cannot_be_had_is_an_error_that_says_why(taken):
    holder = rf"AIRFLOW_PORT = {taken} is taken by process {os.getpid()}, .*make up AIRFLOW_PORT=\d"
    for asked, message in (
        ({"airflow": str(taken)}, holder),
        ({"mlflow": "80a"}, "MLFLOW_PORT = 80a: expected a port, a number from 1 to 65535"),
        ({"lab": "65536"}, "LAB_PORT = 65536: expected a port"),
        ({"mlflow": "61234", "lab": "61234"}, "LAB_PORT = 61234 is taken by another of these"),
    ):
        with pytest.raises(ValueError, match=message):
            services.choose_ports(asked, "make up")


def test_second_start_on_the_same_outputs_is_refused_with_what_to_do(sleeper):
    scheduler = sleeper("airflow-scheduler")
    sleeper("airflow-api", "http://127.0.0.1:8101")
    message = (
        r"make up runs already on .*, Airflow at http://127.0.0.1:8101; two schedulers on one "
        rf"database .* kill {scheduler.pid} \d+"
    )
    with pytest.raises(ValueError, match=message):
        services.up()
    assert "airflow-scheduler" in addresses.processes(), "the first one is still on record"
    with pytest.raises(ValueError, match="make up runs already"):  # two that begin at once
        addresses.note("airflow-scheduler", os.getpid(), at="", by="make up")


@pytest.mark.slow
def test_running_jupyterlab_is_pointed_to_rather_than_started_again(sleeper, capsys):
    sleeper("jupyterlab", "http://127.0.0.1:8901")
    assert services.lab() == 0 and services.lab("8902") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "JupyterLab  http://127.0.0.1:8901/lab/tree/notebooks"
    assert said[1].strip() == "runs already, by make up"


def test_airflow_listens_on_loopback_and_keeps_everything_below_the_outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    settings = services.airflow_settings(8123)
    assert settings["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert settings["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert Path(settings["AIRFLOW_HOME"]).is_relative_to(tmp_path)
    assert settings["MLFLOW_TRACKING_URI"].startswith(f"sqlite:///{tmp_path}")
    limits = ("CORE__DAGBAG_IMPORT_TIMEOUT", "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT")
    assert all(int(settings[f"AIRFLOW__{name}"]) >= 300 for name in limits), "a busy laptop's"


def test_airflow_waits_for_another_writer_of_its_database():
    from airflow import settings

    with settings.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 30_000  # ms


@pytest.mark.slow
def test_airflow_works_in_a_folder_that_was_moved_and_not_in_the_old_one(tmp_path, monkeypatch):
    """Its own file, which it has written there, names the first place."""
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    home = tmp_path / ".airflow"
    home.mkdir()
    (home / "airflow.cfg").write_text(
        "[database]\nsql_alchemy_conn = sqlite:////first/.airflow/airflow.db\n"
        "[logging]\nbase_log_folder = /first/.airflow/logs\n"
    )
    with closing(sqlite3.connect(home / "airflow.db")) as base:
        base.execute("CREATE TABLE here (number INTEGER)")
    assert database.ask("SELECT name FROM sqlite_master") == [("here",)]
    ask = "from airflow.configuration import conf; print(conf.get('logging', 'base_log_folder'), "
    ask += "conf.get('database', 'sql_alchemy_conn'), conf.get('logging', "
    ask += "'dag_processor_child_process_log_directory'))"
    said = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, **services.airflow_settings()},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said == [f"{home}/logs", f"sqlite:///{home}/airflow.db", f"{home}/logs/dag_processor"]


def test_databases_are_made_at_the_same_time_and_once(monkeypatch, tmp_path):
    both, asked = threading.Barrier(2), []

    def make(_, *arguments):
        both.wait(10)  # as long as one is made after the other, nobody comes
        asked.append(arguments[0])
        (tmp_path / "mlflow.db").touch()

    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(services, "ask", make)
    services.prepare()
    services.prepare()
    assert sorted(asked) == ["-c", "-m"] and (tmp_path / ".airflow" / "ready").exists()


def test_second_of_two_first_calls_waits_for_the_databases(monkeypatch, tmp_path):
    """Airflow takes no lock on SQLite: both would make the same tables."""
    at_once, most, lock = [], [], threading.Lock()

    def make(*_):
        with lock:
            at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.05)
        at_once.pop()

    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(services, "ask", make)
    with ThreadPoolExecutor() as pool:
        for one in [pool.submit(services.prepare) for _ in range(3)]:
            one.result()
    assert most == [1]


def test_databases_that_could_not_be_made_are_made_the_next_time(monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError("no space left")

    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(services, "ask", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        services.prepare()
    assert not (tmp_path / ".airflow" / "ready").exists()


def test_password_is_made_once_and_can_be_read_by_its_user_only(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    settings = services.airflow_settings()
    first = services._airflow_password(settings)
    assert len(first) >= 12 and services._airflow_password(settings) == first
    (file,) = Path(settings["AIRFLOW_HOME"]).glob("simple_auth*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.slow
def test_record_gives_the_addresses_of_living_services_and_defaults_for_the_others(sleeper):
    assert addresses.running() == {} and not addresses.processes()
    sleeper("jupyterlab", "http://127.0.0.1:8901")
    api = sleeper("airflow-api", "http://127.0.0.1:8101")
    assert "airflow" not in addresses.running(), "an Airflow without a scheduler runs nothing"
    assert services.airflow_settings()["AIRFLOW__API__PORT"] == "8080"
    sleeper("airflow-scheduler")
    assert addresses.running() == {
        "airflow": "http://127.0.0.1:8101",
        "lab": "http://127.0.0.1:8901",
    }
    assert services.airflow_settings()["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8101"
    assert addresses.address("mlflow") == "http://127.0.0.1:5000"
    api.kill()  # and not waited for: it stays as a zombie
    wait_for(lambda: "airflow" not in addresses.running(), 5, "the death to be seen")
    assert addresses.address("airflow") == "http://127.0.0.1:8080"


def test_record_of_killed_processes_is_ignored_though_their_numbers_are_in_use(sleeper, tmp_path):
    process = sleeper("airflow-scheduler")
    place = tmp_path / ".services.json"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    noted = json.loads(place.read_text())
    noted["airflow-scheduler"]["created"] -= 60  # another process had this number a minute ago
    place.write_text(json.dumps(noted))
    assert not addresses.processes()
    addresses.note("mlflow", process.pid, at="http://x", by="make up")
    assert list(json.loads(place.read_text())) == ["mlflow"]
    addresses.forget({process.pid})
    assert not place.exists() and addresses.running() == {}
    for edited in ("{", "[]"):
        place.write_text(edited)
        assert addresses.running() == {}, "a record that somebody has edited stops nobody"


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0.0, 0.3])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_second_signal_while_stopping_leaves_nothing_running(tmp_path, second, pause_s):
    code = f"""
import sys
from lib.commands import supervise

supervise.STOP_SECONDS = 1
service = supervise.Service("stubborn", [sys.executable, "-c", {STUBBORN!r}])
sys.exit(supervise.run_services([service], {{}}, "make up"))
"""
    made = {**os.environ, "OUTPUTS_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=made, stdout=subprocess.DEVNULL)
    log = tmp_path / ".logs" / "stubborn.log"
    wait_for(lambda: log.exists() and "begun" in log.read_text(), 20, "the service")
    (child,) = psutil.Process(process.pid).children()
    process.terminate()
    time.sleep(pause_s)
    process.send_signal(second)
    assert process.wait(20) == 0
    assert not child.is_running() and not (tmp_path / ".services.json").exists()


KEEP_UP = """
import sys
from lib.commands import supervise
from lib.commands.supervise import Service

supervise.SETTLED_S, supervise.PAUSE_S = float(sys.argv[1]), 0.1
command = [sys.executable, "-c", sys.argv[2]]
services = [Service("worker", command, is_kept_up=sys.argv[3] == "kept")]
sys.exit(supervise.run_services(services, {}, "make worker"))
"""
COUNT = """
import os, pathlib, signal, subprocess, sys, time

with open("begun", "a") as file:
    file.write("x")
if pathlib.Path("begun").stat().st_size == 3:
    time.sleep(1)  # until it is said that this one is started
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open("left", "a") as file:
    print(left.pid, file=file)
print("the broker is gone", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settled_s", "kept", "begun", "status"), [(0, "kept", 3, 0), (60, "kept", 1, 1), (0, "", 1, 1)]
)
def test_worker_that_ends_by_itself_is_started_again(tmp_path, settled_s, kept, begun, status):
    """Not in its first minute, which would be a mistake in the settings; nor is a server."""
    arguments = [str(settled_s), f"import os; os.chdir({str(tmp_path)!r})\n{COUNT}", kept]
    done = subprocess.run(
        [sys.executable, "-c", KEEP_UP, *arguments],
        env={**os.environ, "OUTPUTS_DIR": str(tmp_path / "outputs")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, (tmp_path / "begun").stat().st_size) == (status, begun), done
    assert "worker ended with status 0" in done.stdout and "the broker is gone" in done.stdout
    assert done.stdout.count("is started again") == begun - 1
    left = [int(pid) for pid in (tmp_path / "left").read_text().split()]
    assert len(left) == max(begun - 1, 1)
    wait_for(lambda: not any(map(is_running, left)), 5, "the rest of those that ended")
