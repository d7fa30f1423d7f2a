"""Calls in a second process: answered there, here where it is gone, and nothing left of it."""

import os
import signal
import subprocess
import sys
import time

from lib.ground import aside
from lib.ground.files import ROOT

import psutil
import pytest
from executed import is_running

HOLD = """
import os, time
from lib.ground import aside
with aside.aside(os.getpid):
    print(aside.call(os.getpid), flush=True)
    time.sleep(60)
"""


def fail():
    raise ValueError("as it is")


def test_call_is_answered_by_another_process_while_the_block_goes_on():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    assert aside.call(os.getpid) == os.getpid()
    with aside.aside(os.getpid):
        pid = aside.call(os.getpid)
        assert pid != os.getpid() and aside.call(os.getpid) == pid
        assert aside.call(int, "11", base=2) == 3
        with pytest.raises(ValueError, match="as it is"):
            aside.call(fail)
        os.kill(pid, signal.SIGINT)  # of the terminal, to all that run in it
        assert aside.call(os.getpid) == pid
    signal.signal(signal.SIGINT, before)
    assert not psutil.pid_exists(pid) and aside.call(os.getpid) == os.getpid()


def test_call_is_made_here_where_the_process_has_died():
    with aside.aside(fail):
        os.kill(aside.call(os.getpid), signal.SIGKILL)
        assert aside.call(os.getpid) == os.getpid()


def test_process_ends_with_one_that_is_killed():
    holder = subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE)
    pid = int(holder.stdout.readline())
    assert psutil.Process(pid).ppid() == holder.pid
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)
