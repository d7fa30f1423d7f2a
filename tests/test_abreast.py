"""Pipelines made side by side: one account after another, faults, interrupts, nothing left."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from unittest.mock import patch

from lib.commands import abreast, pipelines, services
from lib.dag import dagrun, lean, preloaded, scheduling
from lib.dag.account import Account
from lib.ground import aside
from lib.ground.files import ROOT
from lib.machine import provisioner
from lib.machine.turns import Turns

import psutil
import pytest
from executed import is_running, wait_for

HOLD = """
import os, sys, time
from pathlib import Path
from lib.commands import abreast

def work(name, console):
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(60)

abreast.work_on(["a"], work, sys.stdout, {"a": Path(os.devnull)}, 2)
"""


@pytest.fixture
def go(tmp_path):
    """Work on names, two at once; return the answers and what a console shows."""

    def call(names, work):
        path = tmp_path / "console"
        logs = {name: tmp_path / f"{name}.log" for name in names}
        with path.open("w") as console:
            answers = abreast.work_on(list(names), work, console, logs, 2)
        return answers, path.read_text()

    return call


def test_two_at_once_are_told_of_one_after_another(go, tmp_path):
    def work(name, console):
        console.write(f"{name} begins ")
        console.flush()
        os.write(1, f"{name} beside\n".encode())
        (tmp_path / f"{name} has begun").touch()
        if name == "a":
            wait_for((tmp_path / "b has begun").exists)
        console.write("and énds\n")
        return name.upper()

    answers, text = go("abc", work)
    assert answers == {"a": "A", "b": "B", "c": "C"} and [*answers] == ["a", "b", "c"]
    assert text == "".join(f"{name} begins and énds\n" for name in "abc")
    assert (tmp_path / "b.log").read_text() == "b beside\n"


def test_first_is_shown_as_it_goes_on(go, tmp_path):
    def work(name, console):
        console.write("begun")
        console.flush()
        wait_for(lambda: "begun" in (tmp_path / "console").read_text())
        return "passed"

    assert go("a", work)[0] == {"a": "passed"}


@pytest.mark.slow
def test_error_ends_what_has_not_begun(go, tmp_path):
    def work(name, _):
        (tmp_path / name).write_text(str(os.getpid()))
        if name == "a":
            raise ValueError("as it is")
        wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
        wait_for(lambda: not is_running(int((tmp_path / "a").read_text())))  # and has answered
        (tmp_path / f"{name} ended").touch()
        return "passed"

    with pytest.raises(ValueError, match="as it is"):
        go("abc", work)
    assert (tmp_path / "b ended").exists() and not (tmp_path / "c").exists()


@pytest.mark.slow
def test_process_that_is_killed_is_lost_and_the_others_go_on(go):
    def work(name, _):
        if name == "a":
            os.kill(os.getpid(), signal.SIGKILL)
        return "passed"

    assert go("ab", work)[0] == {"a": abreast.LOST, "b": "passed"}


def test_processes_end_where_nobody_can_be_told(tmp_path):
    def work(name, console):
        (tmp_path / name).write_text(str(os.getpid()))
        console.write("begun\n")
        time.sleep(20)

    read, write = os.pipe()
    os.close(read)
    began = time.monotonic()
    with os.fdopen(write, "w") as console, pytest.raises(BrokenPipeError):
        abreast.work_on(["a"], work, console, {"a": tmp_path / "a.log"}, 2)
    pid = int((tmp_path / "a").read_text())
    wait_for(lambda: not is_running(pid))
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_those_that_have_begun(go, tmp_path, number):
    def work(name, console):
        came = []
        (tmp_path / name).touch()
        time.sleep(0.3 if name == "b" else 0)  # a signal may come too early
        signal.signal(signal.SIGINT, lambda *_: came.append(1))
        wait_for(lambda: came)
        console.write(f"{name} stopped\n")
        return "cancelled"

    def interrupt():
        wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        os.kill(os.getpid(), number)

    thread, before = threading.Thread(target=interrupt), signal.getsignal(number)
    thread.start()
    answers, text = go("abc", work)
    thread.join()
    assert answers == {"a": "cancelled", "b": "cancelled"} and not (tmp_path / "c").exists()
    assert text == "a stopped\nb stopped\n" and signal.getsignal(number) == before


@pytest.mark.slow
def test_process_ends_with_its_parent(tmp_path):
    place = tmp_path / "pid"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], cwd=ROOT)
    wait_for(lambda: place.exists() and place.read_text())
    pid = int(place.read_text())
    assert os.getsid(pid) == pid != os.getsid(holder.pid), "the terminal's signals reach it"
    holder.kill()
    holder.wait()
    wait_for(lambda: not is_running(pid))


def test_stages_take_turns_and_one_that_is_killed_leaves_its_place(go, tmp_path):
    turns = Turns(1)

    def work(name, _):
        turns.take()
        turns.take()  # it is held already
        with (tmp_path / "order").open("a") as file:
            file.write(f"{name}+")
        (tmp_path / f"{name} holds").touch()
        if name == "a":
            wait_for((tmp_path / "b waits").exists)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        with (tmp_path / "order").open("a") as file:
            file.write(f"{name}-")
        turns.give()
        turns.give()
        return "passed"

    def late(name, console):
        if name == "b":
            wait_for((tmp_path / "a holds").exists)
            (tmp_path / "b waits").touch()
        return work(name, console)

    assert go("ab", late)[0] == {"a": abreast.LOST, "b": "passed"}
    assert (tmp_path / "order").read_text() == "a+b+b-"


def test_as_many_at_once_as_there_is_memory_for_if_there_are_two_processors(monkeypatch):
    def most(processors, gigabytes):
        memory = type("Memory", (), {"available": gigabytes * 2**30})
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        return abreast.most_at_once()

    assert [most(2, 64), most(8, 5), most(8, 1), most(1, 64)] == [32, 2, 1, 1]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert most(8, 64) == 1


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Let `make run` make two pipelines by a function; return its status and what it prints."""

    def call(make):
        monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
        monkeypatch.setattr(dagrun, "run_dag", lambda name, *given: make(name, given[1]))
        for module, name in ((services, "prepare"), (preloaded, "import_packages")):
            monkeypatch.setattr(module, name, lambda: None)
        monkeypatch.setattr(aside, "aside", lambda _: nullcontext())
        monkeypatch.setattr(lean, "build_api", lambda: None)
        monkeypatch.setattr(lean, "save", lambda _: None)
        monkeypatch.setattr(provisioner, "prepare", lambda _: None)
        monkeypatch.setattr(scheduling, "own_process", lambda: nullcontext(True))
        monkeypatch.setattr(scheduling, "close_ghosts", lambda tell: tell("looked for ghosts\n"))
        monkeypatch.setattr(abreast, "most_at_once", lambda: 2)
        with patch.dict(os.environ):
            status = pipelines.run(["power", "tick"], "{}")
        return status, capfd.readouterr().out

    return call


@pytest.mark.slow
def test_status_says_whether_all_have_passed(run, tmp_path):
    def make(name, console):
        console.write(f"{name}\n")
        os.write(1, b"why\n")
        if name == "tick":
            os.kill(os.getpid(), signal.SIGKILL)
        return "passed"

    status, text = run(make)
    assert status == 1 and text.startswith("looked for ghosts\npower\ntick\nlooked for ghosts\n")
    assert "\n1 of 2 passed in " in text
    log = Path(text.split("failed: tick; Airflow's log: ")[1].split("\n")[0])
    assert log.parent == tmp_path / ".logs" and log.read_text() == "why\n"


@pytest.mark.slow
def test_status_of_an_interrupt_is_that_of_a_signal(run, tmp_path):
    def make(name, _):
        with dagrun.interruptible(Account(sys.stdout)) as came:
            (tmp_path / f"{name} goes on").touch()
            with suppress(KeyboardInterrupt):
                time.sleep(20)
        return "cancelled" if came else "passed"

    def interrupt():
        wait_for(lambda: len([*tmp_path.glob("* goes on")]) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status, text = run(make)
    thread.join()
    assert status == pipelines.INTERRUPTED and "0 of 2 passed" in text


def test_pipelines_of_which_one_is_due_are_made_in_this_process(run, monkeypatch):
    pid = os.getpid()
    monkeypatch.setattr(dagrun, "is_due", lambda name, *_: name == "tick")
    assert run(lambda *_: "passed" if os.getpid() == pid else "failed")[0] == 0


TWO = """
import sys
from lib.commands import abreast, pipelines
abreast.processors = lambda: 2
abreast.most_at_once = lambda: 2
sys.exit(pipelines.run(["toy", "toy_map"], "{}"))
"""


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_pipelines_side_by_side_end_as_they_would_alone(place):
    judge = place / "notebooks" / "toy" / "02_judge.ipynb"
    text = judge.read_text()
    judge.write_text(text.replace("min_largest: float = 0.0", "min_largest: float = 100.0"))
    done = subprocess.run([sys.executable, "-c", TWO], cwd=ROOT, capture_output=True, text=True)
    judge.write_text(text)
    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    first, second = said.split("toy_map  source sample\n")
    assert first.startswith("toy  source sample\n  01_load ")
    assert "02_judge       FAILED" in first and "the largest number is too small" in first
    assert "1 of 2 passed in " in second and "FAILED" not in second
    log = Path(second.split("failed: toy; Airflow's log: ")[1].split("\n")[0])
    assert log.name.endswith("-toy.log") and "too small" in log.read_text()
    assert log.with_name(log.name.replace("-toy.log", "-toy_map.log")).exists()
