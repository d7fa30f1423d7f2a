"""Work on parts: the same with one worker or four, here or on a cluster, and when one is killed."""

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

from lib import parts
from lib.parts import map as over

import pytest
from executed import wait_for


def square(number):
    return number * number


def fail(number):
    if number == 3:
        raise TypeError("cannot be")
    return number


def die_once(marks, number):
    """End the process that works on the third item, the first time."""
    mark = Path(marks, "died")
    if number == 3 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_when_told(marks, number):
    """End the process that works on the third item, once a file says when."""
    if number == 3:
        wait_for(Path(marks, "now").exists)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_items_and_one_by_one():
    seen = []
    found = over(lambda item: seen.append(item) or square(item), range(5))
    assert next(found) == 0 and seen == [0]
    assert list(found) == [1, 4, 9, 16]


def test_error_names_its_part_unless_it_says_itself_what_is_wrong():
    with pytest.raises(RuntimeError, match="^3: TypeError: cannot be$"):
        list(over(fail, range(5)))
    with pytest.raises(ValueError, match="^invalid literal"):
        list(over(int, ["c"]))


def test_progress_is_reported(monkeypatch):
    monkeypatch.setattr(parts, "REPORT_EVERY_S", 0)
    lines = []
    list(over(square, range(2), report=lines.append))
    assert lines == ["1 of 2 parts · 0 s elapsed", "2 of 2 parts · 0 s elapsed"]


@pytest.mark.slow
def test_processes_name_the_part_that_failed_or_whose_process_was_killed(tmp_path):
    with pytest.raises(RuntimeError, match="^3: TypeError: cannot be$"):
        list(over(fail, range(5), n_workers=2))
    with pytest.raises(RuntimeError, match=r"^\d+: .* killed, most likely for want of memory"):
        list(over(partial(die_once, tmp_path), range(20), n_workers=2))


@pytest.mark.slow
def test_process_that_was_killed_between_two_results_is_told_as_well(tmp_path):
    done = over(partial(die_when_told, tmp_path), range(20), n_workers=2)
    assert next(done) == 0
    pool = multiprocessing.active_children()
    Path(tmp_path, "now").write_text("")
    wait_for(lambda: not any(process.is_alive() for process in pool), 30)
    with pytest.raises(RuntimeError, match=r"^\d+: .* killed, most likely for want of memory"):
        list(done)
