"""Of two attempts at a stage only the later one writes, on a local disk and on S3."""

from datetime import datetime, timedelta
from types import SimpleNamespace

from lib.ground import attempts
from lib.ground.folder import RECORDS
from lib.ground.outcome import encoded
from lib.machine import scratch
from lib.machine.session import Session
from lib.run import open_run

import pytest

STAGE = "01_load"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def outputs(request, monkeypatch, tmp_path):
    where = str(tmp_path)
    if request.param == "s3":
        where = f"s3://{request.getfixturevalue('bucket')}/runs"
    monkeypatch.setenv("OUTPUTS_DIR", where)
    monkeypatch.setenv(attempts.VARIABLE, "{}")  # taken back at the end


def begin(number, identity=""):
    return attempts.begin("toy/a", STAGE, number, identity or f"0{number}")


def record():
    return open_run("toy/a").records()[STAGE]


def test_later_attempt_takes_over_and_the_earlier_one_cannot_write(outputs):
    begin(1)
    early = open_run("toy/a", STAGE)
    early.write("numbers.json", [1])
    begin(2)
    late = open_run("toy/a", STAGE)
    late.write("numbers.json", [2])
    begin(1)  # as in the process of the first
    for write in (lambda: early.write("numbers.json", [3]), early.finish, early.start):
        with pytest.raises(attempts.StageGivenUp, match="attempt 1 at 01_load"):
            write()
    begin(2)
    late.finish()
    assert record()["attempt"]["number"] == 2 and late.read("numbers.json") == [2]


def test_clocks_of_machines_that_are_minutes_apart_order_no_attempts(outputs, monkeypatch):
    """Attempts go by the ids that the head gives: the first machine is ahead, the second behind."""

    def clock(minutes):
        moved = lambda zone: datetime.now(zone) + timedelta(minutes=minutes)  # noqa: E731
        monkeypatch.setattr("lib.ground.files.datetime", SimpleNamespace(now=moved))

    clock(5)
    begin(1)
    early = open_run("toy/a", STAGE)
    early.write("numbers.json", [1])
    clock(0)
    assert attempts.give_up(early.path / RECORDS / f"{STAGE}.json", STAGE, 1, "01")
    clock(-5)
    begin(2)
    late = open_run("toy/a", STAGE)
    late.write("numbers.json", [2])
    late.finish()
    clock(5)
    begin(1)
    with pytest.raises(attempts.StageGivenUp):
        early.finish()
    assert open_run("toy/a", "02_judge").read("numbers.json") == [2]


def test_attempt_that_begins_after_a_later_one_is_refused_at_once(outputs):
    begin(2)
    open_run("toy/a", STAGE)
    begin(1)
    with pytest.raises(attempts.StageGivenUp):
        open_run("toy/a", STAGE)


def test_attempt_that_was_given_up_cannot_write_though_no_other_has_begun(outputs):
    begin(1)
    run = open_run("toy/a", STAGE)
    place = run.path / RECORDS / f"{STAGE}.json"
    assert attempts.give_up(place, STAGE, 1, "01")
    with pytest.raises(attempts.StageGivenUp):
        run.write("numbers.json", [1])
    assert not (run.path / "numbers.json").exists()
    with pytest.raises(attempts.StageGivenUp):
        open_run("toy/a", STAGE)
    begin(2)
    open_run("toy/a", STAGE).finish()
    assert not attempts.give_up(place, STAGE, 1, "01"), "a later one has begun"
    assert not attempts.give_up(place, STAGE, 2, "02"), "it is finished"
    assert record()["state"] == "finished"


def test_attempt_that_was_given_up_before_it_wrote_anything_is_closed_too(outputs):
    place = open_run("toy/a").path / RECORDS / f"{STAGE}.json"
    assert attempts.give_up(place, STAGE, 1, "01")
    begin(1)
    with pytest.raises(attempts.StageGivenUp):
        open_run("toy/a", STAGE)


def test_other_stages_and_notebooks_run_by_hand_know_no_attempts(outputs):
    begin(1)
    open_run("toy/a", "02_judge").write("metrics.json", {"largest": 1.0})
    open_run("toy/b", STAGE).finish()
    assert "attempt" not in open_run("toy/a").records()["02_judge"]
    assert "attempt" not in open_run("toy/b").records()[STAGE]


def session(run, attempt):
    path = run.path / f"{STAGE}.ipynb"
    return Session("", path, "", None, None, log_output=False, attempt=attempt)


def test_executed_notebook_is_written_by_the_attempt_that_began_last(outputs):
    run = open_run("toy/a")
    first, second = (session(run, {"number": n, "host": "h"}) for n in (1, 2))
    first.save({"cells": [1]})
    first.save({"cells": [1, 1]})
    second.save({"cells": [2]})
    with pytest.raises(attempts.StageGivenUp):
        first.save({"cells": [1, 1, 1]})
    second.save({"cells": [2, 2]})
    assert (run.path / f"{STAGE}.ipynb").read_bytes() == encoded({"cells": [2, 2]})


def test_write_whose_answer_was_lost_counts(outputs):
    run, held = open_run("toy/a"), {}
    place, attempt = run.path / "x.json", {"number": 1, "host": "h"}
    attempts.keep(place, b"1", attempt, held)
    before = dict(held)
    attempts.keep(place, b"2", attempt, held)
    attempts.keep(place, b"2", attempt, before)  # tried again by the client
    assert before == held


def test_stages_from_other_code_are_named_but_for_those_that_were_taken():
    def of(code, **more):
        return {"attempt": {"code": code, "host": "a"}, **more}

    records = {"01_load": of("new"), "02_features": of("old"), "03_tune": {}}
    assert attempts.other_code(records, "new") == "02_features from old on a"
    assert attempts.other_code(records | {"02_features": of("old", **{"from": "x/y"})}, "new") == ""


@pytest.mark.slow
def test_scratch_files_go_on_elsewhere_and_are_removed_at_the_end(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/runs")
    monkeypatch.setattr(scratch, "EVERY_S", 0.05)
    machines = [tmp_path / name for name in "ab"]

    def on(machine):
        monkeypatch.setattr("lib.ground.folder.state_dir", lambda: machine)
        return open_run("toy/a")

    run = on(machines[0])
    (run.scratch / "of_before.txt").write_text("another stage's")
    with pytest.raises(RuntimeError), scratch.mirrored(run, STAGE, {"id": "01", "number": 1}):
        (run.scratch / "training").mkdir()
        (run.scratch / "training" / "2.weights").write_text("two")
        (run.scratch / "local" / STAGE).mkdir(parents=True)
        (run.scratch / "local" / STAGE / "model").write_text("a copy")
        raise RuntimeError
    left = run.path / ".scratch" / STAGE
    assert [p.name for p in left.rglob("*") if p.is_file()] == ["2.weights"]
    run = on(machines[1])
    with pytest.raises(RuntimeError), scratch.mirrored(run, STAGE, {"id": "02", "number": 2}):
        assert (run.scratch / "training" / "2.weights").read_text() == "two"
        (run.scratch / "training" / "2.weights").unlink()
        (run.scratch / "training" / "3.weights").write_text("three")
        raise RuntimeError
    run = on(machines[0])
    with scratch.mirrored(run, STAGE, {"id": "03", "number": 3}):
        names = sorted(p.name for p in run.scratch.rglob("*") if p.is_file())
        assert names == [f".{STAGE}.json", "3.weights", "of_before.txt"]
    assert not left.exists()
