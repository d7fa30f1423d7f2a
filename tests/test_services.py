"""Airflow, MLflow and JupyterLab as `make up` starts them, and their settings."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from lib import services
from lib.run import ROOT, open_run, run_folder_name

import psutil
import pytest


def call(url, token=None, body=None, method=None):
    """Send a request to a server of our own and return its JSON."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")


def test_free_port_skips_one_that_is_taken():
    with socket.socket() as taken:
        taken.bind((services.HOST, 0))
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
        services._note(services.Service(name, command, address), process.pid, "make up")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def taken():
    """A port that this process listens on."""
    with socket.socket() as holder:
        holder.bind((services.HOST, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_default_port_that_is_taken_gives_way_to_the_next_and_says_so(taken, monkeypatch, capsys):
    monkeypatch.setattr(services, "PORTS", {"airflow": taken, "mlflow": taken + 200})
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
        ({"mlflow": "61234", "lab": "61234"}, "LAB_PORT = 61234 is asked for twice"),
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
    assert services.scheduler_is_alive(), "the first one is still on record"
    with pytest.raises(ValueError, match="make up runs already"):  # two that begin at once
        services._note(services.Service("airflow-scheduler", []), os.getpid(), "make up")


def test_running_jupyterlab_is_pointed_to_rather_than_started_again(sleeper, capsys):
    process = sleeper("jupyterlab", "http://127.0.0.1:8901")
    assert services.lab() == 0 and services.lab("8901") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "JupyterLab  http://127.0.0.1:8901/lab/tree/notebooks"
    assert said[1].strip() == "runs already, by make up"
    with pytest.raises(ValueError, match=rf"8901, by make up \(process {process.pid}\): end that"):
        services.lab("8902")


def test_airflow_listens_on_loopback_and_keeps_everything_below_the_outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    settings = services.airflow_settings(8123)
    assert settings["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert settings["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert Path(settings["AIRFLOW_HOME"]).is_relative_to(tmp_path)
    assert settings["MLFLOW_TRACKING_URI"].startswith(f"sqlite:///{tmp_path}")


def test_password_is_made_once_and_can_be_read_by_its_user_only(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    settings = services.airflow_settings()
    first = services._airflow_password(settings)
    assert len(first) >= 12 and services._airflow_password(settings) == first
    (file,) = Path(settings["AIRFLOW_HOME"]).glob("simple_auth*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_record_gives_the_addresses_of_living_services_and_defaults_for_the_others(sleeper):
    assert services.running() == {} and not services.scheduler_is_alive()
    sleeper("jupyterlab", "http://127.0.0.1:8901")
    api = sleeper("airflow-api", "http://127.0.0.1:8101")
    assert "airflow" not in services.running(), "an Airflow without a scheduler runs nothing"
    assert services.airflow_settings()["AIRFLOW__API__PORT"] == "8080"
    sleeper("airflow-scheduler")
    assert services.scheduler_is_alive()
    assert services.running() == {
        "airflow": "http://127.0.0.1:8101",
        "lab": "http://127.0.0.1:8901",
    }
    assert services.airflow_settings()["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8101"
    assert services.address("mlflow") == "http://127.0.0.1:5000"
    api.kill()  # and not waited for: it stays as a zombie
    wait_for(lambda: "airflow" not in services.running(), 5, "the death to be seen")
    assert services.address("airflow") == "http://127.0.0.1:8080"


def test_record_of_killed_processes_is_ignored_though_their_numbers_are_in_use(sleeper, tmp_path):
    process = sleeper("airflow-scheduler")
    place = tmp_path / ".services.json"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    noted = json.loads(place.read_text())
    noted["airflow-scheduler"]["created"] -= 60  # another process had this number a minute ago
    place.write_text(json.dumps(noted))
    assert not services.scheduler_is_alive()
    services._note(services.Service("mlflow", [], "http://x"), process.pid, "make up")
    assert list(json.loads(place.read_text())) == ["mlflow"]
    services._forget({process.pid})
    assert not place.exists() and services.running() == {}
    place.write_text("{")
    assert services.running() == {}, "a record that somebody has edited stops nobody"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """All services, started as `make up` starts them, with their log-ins."""
    folder = tmp_path_factory.mktemp("up")
    log = folder / "log"
    patch = pytest.MonkeyPatch()
    patch.setenv("OUTPUTS_DIR", str(folder / "outputs"))  # no unfinished runs of other tests
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.cli", "up"], cwd=ROOT, stdout=file, stderr=file
        )

    def started():
        assert process.poll() is None, log.read_text()
        return "all up" in log.read_text()

    try:
        wait_for(started, 180, f"the services: {log.read_text()}")
        text = log.read_text()
        found = {
            "process": process,
            "log": log,
            "airflow": re.search(r"Airflow +(\S+)", text)[1],
            "password": re.search(r"password (\S+)\)", text)[1],
            "mlflow": re.search(r"MLflow +(\S+)", text)[1],
            "lab": re.search(r"JupyterLab +(\S+)/lab/\S+token=(\S+)", text).groups(),
        }
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        patch.undo()


@pytest.mark.kernel
@pytest.mark.timeout(900)
def test_nothing_listens_beyond_this_machine(up):
    parent = psutil.Process(up["process"].pid)
    listening = set()
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a DAG processor's child that has ended
            listening |= {
                connection.laddr.ip
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


@pytest.mark.kernel
@pytest.mark.timeout(900)
def test_scheduler_runs_a_triggered_dag_to_its_end(up):
    login = {"username": "admin", "password": up["password"]}
    token = call(f"{up['airflow']}/auth/token", body=login)["access_token"]
    api = f"{up['airflow']}/api/v2"

    def parsed():
        dags = call(f"{api}/dags", token)["dags"]
        assert not call(f"{api}/importErrors", token)["import_errors"]
        return any(dag["dag_id"] == "power" for dag in dags)

    wait_for(parsed, 120, "the DAG to be parsed")
    call(f"{api}/dags/power", token, {"is_paused": False}, "PATCH")
    small = {"source": "sample", "n_trials": 2, "n_models": 1, "final_learning_rate": 0.1}
    body = {"logical_date": None, "conf": small}
    run_id = call(f"{api}/dags/power/dagRuns", token, body)["dag_run_id"]

    def ended():
        state = call(f"{api}/dags/power/dagRuns/{run_id}", token)["state"]
        return state if state in ("success", "failed") else None

    assert wait_for(ended, 600, "the run to end") == "success"
    run = open_run(f"power/{run_folder_name(run_id)}")
    assert run.read("registration.json")["name"] == "household_power_lightgbm_sample"


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_mlflow_server_shows_what_a_run_without_it_has_logged(up):
    found = call(f"{up['mlflow']}/api/2.0/mlflow/experiments/search", body={"max_results": 10})
    assert any(e["name"] == "power" for e in found["experiments"])


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_kernel_of_jupyterlab_answers(up):
    import websocket

    url, token = up["lab"]
    kernel = call(f"{url}/api/kernels?token={token}", body={"name": "python3"})
    address = f"{url.replace('http', 'ws')}/api/kernels/{kernel['id']}/channels?token={token}"
    socket_ = websocket.create_connection(address, timeout=60)
    header = {"msg_id": "1", "msg_type": "execute_request", "session": "s", "version": "5.3"}
    content = {"code": "import lib.run; print(6 * 7)", "silent": False, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    socket_.send(json.dumps(request | {"channel": "shell", "buffers": []}))
    text = ""
    while "42" not in text:
        message = json.loads(socket_.recv())
        text += message["content"].get("text", "") + message["content"].get("evalue", "")
    socket_.close()
    assert text == "42\n"


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_interrupt_stops_every_process(up):
    own = psutil.Process(up["process"].pid).children(recursive=True)
    assert len(own) >= 6
    up["process"].send_signal(signal.SIGINT)
    assert up["process"].wait(60) == 0
    _, alive = psutil.wait_procs(own, timeout=10)
    assert not alive, [p.cmdline() for p in alive]
