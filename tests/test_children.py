"""Child runs of mapped stages, and what a later stage reads of them. Starts no kernel."""

import html
import json
import os
import re
import sys
import time

from lib.commands import prune
from lib.ground.files import write_json
from lib.ground.folder import MAPPED, UnfinishedStage, look_at, run_at
from lib.ground.runs import close_run, counterpart, gather, note_start
from lib.once import choice, known
from lib.once import key as keys
from lib.pages import notebook as reports
from lib.pages import publish, run_index
from lib.pages.summary import CHILDREN, SUMMARY, summarise
from lib.run import open_run

import pytest
from run_pages import executed, outputs  # noqa: F401  (a fixture)

STAGES = ["02_work", "03_check"]
opened = []  # files, by whoever opens one


@sys.addaudithook
def _note(event, given):
    if event == "open" and isinstance(given[0], str):
        opened.append(given[0])


def stage_of(run_dir, stage, **files):
    """Let a stage of a run write files, and leave an executed notebook."""
    run = open_run(run_dir, stage)
    for name, content in files.items():
        run.write(f"{name}.json", content)
    run.finish()
    write_json(run.path / f"{stage}.ipynb", executed())
    return run


def begin(run_dir="wind/a", n=2):
    """Make a run whose first stage has finished, and which has n child runs that have begun."""
    run = stage_of(run_dir, "01_list", scale={"by": 10}, metrics={"n": n})
    facts = {"dag_id": "wind", "run_id": "x", MAPPED: STAGES}
    note_start(look_at(run_dir), **facts)
    for index in range(n):
        values = {"name": f"thing {index}"}
        note_start(run.child(index), **facts, map_index=str(index), values=values)
    return look_at(run_dir)


def work(run, index, score):
    """Let the first mapped stage of a child read what all children share, and write its own."""
    child = open_run(run.child(index).run_dir, "02_work")
    child.write("metrics.json", {"score": score * child.read("scale.json")["by"]})
    child.finish()
    write_json(child.path / "02_work.ipynb", executed())


def test_child_run_lies_below_its_run_and_nowhere_else():
    child = look_at("wind/a/0012")
    assert child.parent.run_dir == "wind/a" and run_at(child.path).run_dir == "wind/a/0012"
    assert look_at("wind/a").parent is None and run_at(child.path.parent.parent) is None
    assert child.scratch != child.parent.scratch
    for wrong in ("wind/a/12", "wind/a/b", "wind/a/0001/0002"):
        with pytest.raises(ValueError, match="expected '<pipeline>/<run>'"):
            look_at(wrong)


def test_page_of_the_run_follows_its_children_though_the_store_has_a_clock_ahead():
    run = begin()
    publish.publish(run, ask_registry=False)
    summary = run.path / SUMMARY
    ahead = time.time() + 300
    os.utime(summary, (ahead, ahead))
    publish.publish(run.child(0), ask_registry=False)
    assert summary.stat().st_mtime < ahead - 200


@pytest.mark.slow
def test_page_of_the_run_rests_the_longer_the_more_children_but_tells_of_a_failure_at_once():
    run = begin()
    publish.publish(run, ask_registry=False)

    def follows(child, age_s):
        then = time.time() - age_s
        os.utime(run.path / SUMMARY, (then, then))
        publish.publish(child, ask_registry=False)
        return (run.path / SUMMARY).stat().st_mtime > then

    assert not follows(run.child(0), 1) and follows(run.child(0), 9)
    for index in range(2, 100):
        run.child(index).path.mkdir()
    assert not follows(run.child(0), 9) and follows(run.child(0), 11)
    write_json(run.child(1).path / "02_work.ipynb", executed(("ValueError", "no")))
    assert follows(run.child(1), 0)
    assert summarise(run)["state"] == "failed"


def test_child_reads_what_was_written_before_it_and_writes_for_itself():
    run = begin()
    work(run, 0, 1)
    work(run, 1, 2)
    assert [child.read("metrics.json") for child in run.children()] == [
        {"score": 10},
        {"score": 20},
    ]
    assert run.read("metrics.json") == {"n": 2}, "its own, of the stage before"
    own = run.child(0).record("02_work")
    assert own["reads"] == {"scale.json": run.record("01_list")["writes"]["scale.json"]}
    assert run.child(0).local("scale.json").parent == run.child(1).local("scale.json").parent
    assert list(run.child(0).own_records()) == ["02_work"]
    stage_of("wind/a", "04_table", metrics={"sum": 30})
    assert run.child(0).read("metrics.json") == {"score": 10}, "the table came later"


def test_child_refuses_a_file_that_an_earlier_stage_has_written_anew():
    run = begin()
    work(run, 0, 1)
    stage_of("wind/a", "01_list", scale={"by": 11})
    check = open_run("wind/a/0000", "03_check")
    with pytest.raises(UnfinishedStage, match=r"older scale\.json, which 01_list has written anew"):
        check.read("metrics.json")


@pytest.mark.slow
def test_later_stage_reads_the_files_of_all_children_and_depends_on_who_they_are():
    run = begin(n=3)
    work(run, 0, 1)
    work(run, 2, 3)
    open_run("wind/a/0001", "02_work").write("metrics.json", {"score": 7})  # and fails
    gather(run, STAGES)
    table = open_run("wind/a", "04_table")
    assert table.read_all("metrics.json") == {"0000": {"score": 10}, "0002": {"score": 30}}
    failed = {"name": "thing 1", "stage": "02_work", "state": "failed"}
    assert table.mapped()["0001"] == failed and len(table.mapped()) == 3
    table.finish()
    record = run.record("04_table")
    assert set(record["reads"]) == {"0000/metrics.json", "0002/metrics.json"}
    known.remember(run, "04_table", "key")
    assert [found.run_dir for found in known.find(run, "04_table", "key")] == ["wind/a"]
    note_start(run.child(3), dag_id="wind", run_id="x", map_index="3", values={"name": "thing 3"})
    work(run, 3, 4)
    gather(run, STAGES)
    assert not list(known.find(run, "04_table", "key")), "there is one child more"
    work(run, 0, 5)
    with pytest.raises(UnfinishedStage, match="damaged: not what was written"):
        open_run("wind/a", "04_table").read_all("metrics.json")


def test_of_a_mapped_stage_a_run_keeps_the_parameters_that_all_children_share():
    run = begin()
    for index in range(2):
        work(run, index, 1)
        place = run.child(index).path / "stages" / "02_work.json"
        values = {"run_dir": "x", "name": f"thing {index}", "epochs": 3}
        write_json(place, json.loads(place.read_text()) | {"parameters": values})
    gather(run, STAGES)
    assert run.record("02_work")["parameters"] == {"epochs": 3}


def test_stage_is_taken_from_the_child_that_was_given_the_same_values():
    earlier, run = begin("wind/a", 3), begin("wind/b", 1)
    other = counterpart(run.child(0), earlier)
    assert other.run_dir == "wind/a/0000"
    work(earlier, 0, 1)
    known.remember(earlier.child(0), "02_work", "key")
    assert choice._origin(run.child(0), "latest", "02_work").run_dir == "wind/a/0000"
    assert choice._origin(run.child(0), "wind/a", "02_work").run_dir == "wind/a/0000"
    note_start(run.child(7), dag_id="wind", run_id="x", map_index="7", values={"name": "new"})
    with pytest.raises(ValueError, match="no child of it was given name = new"):
        choice._origin(run.child(7), "wind/a", "02_work")


def check(run, index):
    """Let the second mapped stage of a child read what the first has written."""
    child = open_run(run.child(index).run_dir, "03_check")
    child.read("metrics.json")
    child.finish()
    return look_at(child.run_dir)


@pytest.mark.slow
def test_all_of_many_children_that_did_a_stage_under_the_same_key_are_found_again():
    n = known.MOST_TRACES + 2
    earlier, run = begin("wind/a", n), begin("wind/b", n)
    for index in range(n):
        work(earlier, index, index)
        known.remember(check(earlier, index), "03_check", "key")
        work(run, index, index)
    for child in run.children():
        (found, *_) = known.find(child, "03_check", "key")
        assert found.run_dir == child.run_dir.replace("wind/b", "wind/a")


@pytest.mark.slow
def test_what_a_child_looks_at_does_not_grow_with_their_number(monkeypatch):
    monkeypatch.setattr(publish, "REST_S", 1000)

    def number(n):
        earlier, run = begin(f"wind{n}/a", n), begin(f"wind{n}/b", n)
        for index in range(n):
            work(earlier, index, index)
            key = {"key": "key", "parts": {}, "acts": False}
            keys.keep(earlier.child(index), "02_work", key, [])
            known.remember(earlier.child(index), "02_work", "key")
        gather(earlier, STAGES)
        close_run(earlier, "cancelled", "somebody stopped it")
        publish.publish(earlier, ask_registry=False)
        publish.publish(run, ask_registry=False)
        child = open_run(run.child(n - 1).run_dir, "02_work")
        child.write("metrics.json", {"score": 1})
        child.finish()
        before = len(opened)
        told = choice.reasons(look_at(child.run_dir), "02_work", key)
        publish.publish(look_at(child.run_dir), ask_registry=False)
        n_opened = len(opened) - before
        like = f"wind{n}/a/{n - 1:04d}"
        assert told[0].startswith(f"compared with {like}: ")
        assert publish.previous_run(summarise(child), run_index.read_rows())["run_dir"] == like
        return n_opened

    assert number(3) == number(30)


def test_child_reads_each_record_once_for_a_file():
    run = begin()
    work(run, 0, 1)
    child, before = look_at("wind/a/0000"), len(opened)
    assert child.read("scale.json") == {"by": 10} and child.read("metrics.json") == {"score": 10}
    names = [one.rpartition("wind/a/")[2] for one in opened[before:] if "wind/a/" in one]
    records = ["0000/stages/02_work.json", "stages/01_list.json"]
    assert names == [*records, "scale.json", *records, "0000/metrics.json"]


@pytest.mark.slow
def test_pages_show_a_row_for_a_mapped_stage_and_a_page_of_all_children():
    run = begin(n=3)
    for index in range(3):
        work(run, index, index)
        child = run.child(index)
        error = ("ValueError", "<b> cannot be checked") if index == 1 else None
        write_json(child.path / "03_check.ipynb", executed(error))
        reports.write_html(child.path / "02_work.ipynb")
        publish.publish(child, ask_registry=False)
    publish.publish(run, ask_registry=False)
    found = {stage["name"]: stage for stage in summarise(run)["stages"]}
    assert found["02_work"]["mapped"] == {"passed": 3}
    assert found["03_check"]["mapped"] == {"passed": 2, "failed": 1}
    assert found["03_check"]["state"] == "failed" and found["03_check"]["page"] == CHILDREN
    assert f'href="{CHILDREN}"' in (run.path / "report.html").read_text()
    text = (run.path / CHILDREN).read_text()
    assert re.findall(r'href="(\d{4})/report\.html"', text) == ["0000", "0001", "0002"]
    assert "<b> cannot" in html.unescape(text) and "<b> cannot" not in text
    assert 'href="0002/02_work.html"' in text
    child = (run.path / "0002" / "report.html").read_text()
    assert 'href="../../../index.html"' in child and 'href="../report.html"' in child
    assert 'FROM=03_check OF=wind/a"' in child, "a whole run is taken from"
    stage_of("wind/a", "04_table")
    assert summarise(run)["state"] == "passed", "the last stage knows of the failure"


def test_closed_run_closes_its_children_which_say_so():
    run = begin()
    work(run, 0, 1)
    note = executed()
    note["metadata"]["papermill"].pop("end_time")
    write_json(run.child(1).path / "02_work.ipynb", note)
    assert summarise(run)["state"] == "running"
    close_run(run, "lost", "its process is gone")
    children = summarise(run)["children"]
    assert [child["state"] for child in children] == ["lost", "lost"]
    assert children[1]["reason"] == "its process is gone"


def test_run_stays_while_a_version_or_another_run_refers_to_one_of_its_children():
    run = begin()
    work(run, 0, 1)
    taken = {"from": "wind/z/0004", "taken": "2026-01-02T03:04:05+00:00"}
    place = run.child(0).path / "stages" / "02_work.json"
    write_json(place, json.loads(place.read_text()) | taken)
    assert prune.look(run, set(), set(), set()).taken == {"wind/z"}

    class Client:
        def search_model_versions(self, **_options):
            class Page(list):
                token = None

            version = type("Version", (), {"tags": {"run_dir": "wind/a/0000"}, "run_id": "m"})
            return Page([version()])

    assert prune._referred(Client())[0] == {"wind/a"}
