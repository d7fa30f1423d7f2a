"""Locks between schedulers and `make run`, runs whose process is gone, and the clock of DAGs."""

import os
import signal
import sqlite3
import subprocess
import sys

from lib.dag import database, scheduling
from lib.ground.files import ROOT, state_dir

import pendulum
import pytest
from late import Late
from whole_runs import TOY, prepare, wait_for

clock = Late("lib.dag.clock")
base = Late("airflow.timetables.base")
START = pendulum.datetime(2025, 12, 27, tz="UTC")


def night():
    return clock.LiveCronTimetable("30 3 * * *", timezone="UTC")


def at(text):
    return pendulum.parse(f"2026-11-{text}", tz="UTC")


@pytest.fixture
def now(monkeypatch):
    """Set the clock of the machine."""

    def turn(text):
        monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda: at(text))

    return turn


def following(*, last=None, catchup=False, latest=None):
    interval = base.DataInterval.exact(at(last)) if last else None
    found = night().next_dagrun_info(
        last_automated_data_interval=interval,
        restriction=base.TimeRestriction(START, latest and at(latest), catchup),
    )
    return found and found.run_after


@pytest.mark.parametrize("last", [None, "20T03:30", "27T03:30"])
def test_time_that_passed_while_a_dag_was_off_is_not_made_up_for(now, last):
    now("28T14:29")
    assert following(last=last) == at("29T03:30")


def test_run_may_begin_late_while_its_time_is_not_past(now):
    now("28T03:44")
    assert following(last="27T03:30") == at("28T03:30"), "a busy scheduler has not missed it"
    assert following(last="28T03:30") == at("29T03:30"), "nor does it make a run twice"
    now("28T03:46")
    assert following(last="27T03:30") == at("29T03:30")


def test_clock_ends_where_the_dag_ends_and_starts_where_it_starts(now):
    now("28T14:29")
    assert following(latest="28T20:00") is None
    early = base.TimeRestriction(at("30T00:00"), None, catchup=False)
    found = night().next_dagrun_info(last_automated_data_interval=None, restriction=early)
    assert found.run_after == at("30T03:30")


def test_backfill_makes_up_for_every_time(now):
    now("28T14:29")
    assert following(last="20T03:30", catchup=True) == at("21T03:30")


@pytest.fixture
def outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr(scheduling, "scheduler_lives", lambda: False)


@pytest.fixture
def holder(outputs):
    """Let another process hold a place, until its standard input is closed."""
    processes = []

    def start(place):
        code = (
            "import sys; from lib.dag import scheduling\n"
            "scheduling.scheduler_lives = lambda: False\n"
            f"with scheduling.{place}:\n    print('held', flush=True); sys.stdin.read()"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes))
        assert processes[-1].stdout.readline() == b"held\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_run_stays_in_its_process_where_no_scheduler_is_and_beside_another_run(holder):
    with scheduling.own_process() as is_own:
        assert is_own
    holder("own_process()")
    with scheduling.own_process() as is_own:
        assert is_own


@pytest.mark.slow
def test_run_leaves_its_tasks_to_a_scheduler_until_that_is_killed(holder):
    process = holder("scheduler_place(print)")
    with scheduling.own_process() as is_own:
        assert not is_own
    with pytest.raises(ValueError, match=r"a scheduler runs on this database already: `make up`"):
        with scheduling.scheduler_place(print):
            pass
    process.kill()
    process.wait()
    with scheduling.own_process() as is_own:
        assert is_own


@pytest.mark.slow
def test_scheduler_waits_for_a_run_and_says_so(holder):
    process = holder("own_process()")
    said = []

    def say(line):
        said.append(line)
        process.stdin.close()

    with scheduling.scheduler_place(say), scheduling.own_process() as is_own:
        assert not is_own
    assert said == ["waiting for `make run` in another terminal to end; a scheduler would race it"]


@pytest.mark.slow
def test_run_is_alive_while_its_process_holds_it_and_unknown_afterwards(outputs):
    run = ("power", "manual__2026-01-02T03:04:05+00:00")
    assert scheduling.is_alive(*run) is None
    code = (
        "import sys, time; from lib.dag import scheduling\n"
        f"with scheduling.alive(*{run!r}):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    assert scheduling.is_alive(*run) is True
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert scheduling.is_alive(*run) is False, "killed, so a ghost"
    with scheduling.alive(*run):
        pass
    assert scheduling.is_alive(*run) is None, "ended, and nothing is left of it"


def test_scheduler_that_stopped_reporting_is_none(monkeypatch):
    def reports(*silences):
        said = iter(silences)
        monkeypatch.setattr(scheduling, "silence_s", lambda: next(said))
        return scheduling.scheduler_lives()

    monkeypatch.setattr(scheduling.time, "sleep", lambda seconds: None)
    assert not reports(float("inf")) and not reports(3600.0)
    assert not reports(14.0, 14.5, 15.0), "killed a moment ago: no further sign of life"
    assert reports(3.0, 3.5, 0.1)


@pytest.mark.parametrize("ahead_s", [300.0, -300.0])
def test_scheduler_of_another_machine_is_known_by_its_signs_whatever_its_clock(
    monkeypatch, ahead_s
):
    """This machine's clock is `ahead_s` before that of the scheduler."""
    moment = [0.0]
    monkeypatch.setattr("airflow.settings.SQL_ALCHEMY_CONN", "postgresql+psycopg://head/airflow")
    monkeypatch.setattr(scheduling.time, "monotonic", lambda: moment[0])

    def sleep(seconds):
        moment[0] += seconds

    monkeypatch.setattr(scheduling.time, "sleep", sleep)
    monkeypatch.setattr(scheduling, "silence_s", lambda: ahead_s + moment[0] % 5)
    assert scheduling.scheduler_lives()
    moment[0] = 0.0
    monkeypatch.setattr(scheduling, "silence_s", lambda: ahead_s + moment[0])
    assert not scheduling.scheduler_lives() and moment[0] < 20, "dead, and told soon"


def test_before_a_scheduler_starts_times_are_forgotten_and_ghosts_are_known(outputs):
    scheduling.forget_past_times()
    assert scheduling.ghosts() == [], "no database yet"
    file = state_dir() / ".airflow" / "airflow.db"
    file.parent.mkdir()

    def change(*statements):
        with sqlite3.connect(file) as database:
            for statement in statements:
                database.execute(statement)

    names = "dag_id, run_id, start_date, queued_at, triggering_user_name, state"
    old = "'power', 'a', '2026-01-02 03:04:05.000000', NULL"
    change(
        f"CREATE TABLE dag_run ({names})",
        "CREATE TABLE dag (dag_id, next_dagrun_create_after)",
        f"INSERT INTO dag_run VALUES ({old}, 'dag_test', 'success'), ({old}, 'admin', 'running')",
        "INSERT INTO dag VALUES ('power', '2999-01-01 00:00:00.000000'), ('compare', NULL)",
    )
    change("INSERT INTO dag VALUES ('tick', '2026-01-01 00:00:00.000000')")
    scheduling.forget_past_times()
    kept = dict(database.ask("SELECT * FROM dag"))
    assert kept == {"power": "2999-01-01 00:00:00.000000", "compare": None, "tick": None}
    change(f"INSERT INTO dag_run VALUES ({old}, 'dag_test', 'running')")
    assert scheduling.ghosts() == [], "nobody has ever held it: it is not ours"
    scheduling._mark("power", "a").touch()
    assert scheduling.ghosts() == [("power", "a")]


COMMAND = [sys.executable, "-m", "lib.commands.cli", "run", "--force", "toy"]
SLOWLY = ["--params", '{"wait_s": 30.0}']


def environment_of(folder):
    return {**os.environ, "OUTPUTS_DIR": str(folder), "PIPELINES_DIR": str(TOY)}


def start(folder):
    """Start a run in a process of its own and give it back once its notebook runs."""
    before = len([*folder.glob("toy/*/stages/01_load.json")])
    environment = environment_of(folder)
    log = (folder / "said").open("wb")
    process = subprocess.Popen(
        [*COMMAND, *SLOWLY],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )

    def is_running():
        assert process.poll() is None, (folder / "said").read_text()
        return len([*folder.glob("toy/*/stages/01_load.json")]) > before

    wait_for(is_running, 120, "the notebook to run")
    return process


def states(folder):
    """Return state and folder name of every DAG run in the database below `folder`."""
    with sqlite3.connect(folder / ".airflow" / "airflow.db") as database:
        return [s for (s,) in database.execute("SELECT state FROM dag_run ORDER BY run_after")]


def mlflow_states(folder):
    with sqlite3.connect(folder / "mlflow.db") as database:
        query = "SELECT status FROM runs JOIN experiments USING (experiment_id) "
        query += "WHERE experiments.name = 'toy' ORDER BY start_time"
        return [status for (status,) in database.execute(query)]


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_one_interrupt_ends_a_run_for_good_and_a_killed_one_is_closed_by_the_next(tmp_path):
    prepare(tmp_path)
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)  # which Airflow takes for itself while a task runs
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    assert said.count("interrupted: stopping") == 1
    assert "cancelled; what its finished stages made stays in" in said and "  go on " in said
    assert states(tmp_path) == ["failed"] and mlflow_states(tmp_path) == ["KILLED"]
    (page,) = tmp_path.glob("toy/*/report.html")
    assert "cancelled" in page.read_text()

    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert states(tmp_path)[-1] == "running", "nobody was left to say so"
    environment = environment_of(tmp_path)
    done = subprocess.run(
        COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("closed toy/manual__") and "1 of 1 passed" in done.stdout
    assert states(tmp_path) == ["failed", "failed", "success"]
    assert mlflow_states(tmp_path)[-1] == "FINISHED" and "RUNNING" not in mlflow_states(tmp_path)
    pages = sorted(tmp_path.glob("toy/*/report.html"))
    assert "lost" in pages[1].read_text()
