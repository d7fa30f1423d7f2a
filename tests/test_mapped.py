"""Mapped stages: the same notebooks for each of many values, each in a child run of its own."""

import re
import shutil

from lib import tracking
from lib.ground import outcome
from lib.ground.files import ROOT
from lib.pages.summary import CHILDREN, read_summary, summarise

import pytest
from whole_runs import TOY, errors, go, impatient, kernel_killed_in, mlflow_run, prepare

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def airflow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINES_DIR", str(TOY))
        patch.setattr("airflow.settings.DAGS_FOLDER", str(TOY / "dags"))
        prepare()
        yield


def run_map(pipeline="toy_map", **params):
    """Run the DAG; return state, its tasks by id and map index, and the run's folder."""
    done, _, run = go(impatient(pipeline), **params)
    tasks = {(task.task_id, task.map_index): task.state for task in done.get_task_instances()}
    return done.state, tasks, run


def why(run):
    return "\n".join(errors(one, "0") for one in (run, *run.children()))


@pytest.fixture(scope="module")
def whole():
    """A run in which one of three things cannot be scored, which the last stage lets pass."""
    return run_map(broken="thing 1", max_failed=1)


def test_each_value_goes_its_way_in_a_child_run_whatever_becomes_of_the_others(whole):
    state, tasks, run = whole
    assert state == "success", why(run)
    assert [tasks["02_work", k] for k in range(3)] == ["success", "failed", "success"]
    assert [tasks["03_check", k] for k in range(3)] == ["success", "upstream_failed", "success"]
    first, broken, last = run.children()
    assert [child.name for child in run.children()] == [f"{run.name}/000{k}" for k in range(3)]
    assert first.read("metrics.json") == {"score": 0} and last.read("metrics.json") == {"score": 20}
    assert last.record("02_work")["reads"] == {
        "scale.json": run.record("01_list")["writes"]["scale.json"]
    }
    assert outcome.state(outcome.read_notebook(broken.path / "02_work.ipynb")) == "failed"
    assert not (run.path / "02_work.ipynb").exists()
    assert summarise(run)["state"] == "passed"


def test_later_stage_reads_what_all_children_wrote_and_knows_which_failed(whole):
    run = whole[2]
    table = run.read("table.json")
    done = {"stage": "03_check", "state": "finished"}
    assert table["0000"] == {"name": "thing 0", "score": 0} | done
    assert table["0001"] == {"name": "thing 1", "stage": "02_work", "state": "failed"}
    assert table["0002"] == {"name": "thing 2", "score": 20} | done
    reads = run.record("04_table")["reads"]
    assert set(reads) == {"0000/metrics.json", "0002/metrics.json"}


def test_children_are_child_runs_of_the_mlflow_run(whole):
    run = whole[2]
    assert mlflow_run(run).info.status == "FINISHED"
    first, broken, last = map(mlflow_run, run.children())
    parents = {one.data.tags["mlflow.parentRunId"] for one in (first, broken, last)}
    assert parents == {tracking.link(run)["run_id"]}
    assert (first.info.status, broken.info.status) == ("FINISHED", "FAILED")
    assert last.data.params["name"] == "thing 2" and last.data.metrics["score"] == 20.0


def test_children_are_taken_from_an_earlier_run_that_gave_the_same_values(whole):
    earlier = whole[2]
    state, _, run = run_map(broken="thing 1", max_failed=1, n=4, force=False)
    assert state == "success", why(run)
    taken = [child.own_records()["03_check"].get("from") for child in run.children()[::2]]
    assert taken == [f"{earlier.run_dir}/0000", f"{earlier.run_dir}/0002"]
    assert "from" not in run.child(3).record("03_check")
    assert "from" not in run.record("04_table"), "there is one child more"
    text = (run.child(0).path / "03_check.html").read_text()
    assert f"../../{earlier.name}/0000/03_check.html" in text


def test_from_and_until_count_for_mapped_stages_too(whole):
    earlier = whole[2]
    asked = {"from_stage": "03_check", "of": earlier.run_dir, "force": False}
    _, tasks, run = run_map(until_stage="03_check", **asked)
    assert tasks["02_work", 2] == "success" and tasks["04_table", -1] == "skipped"
    assert run.child(2).record("02_work")["from"] == earlier.child(2).run_dir
    assert "from" not in run.child(2).record("03_check")
    assert "has not finished there" in why(run), "one of the children has failed there"


def test_killed_kernel_of_a_child_is_tried_again_and_its_report_kept():
    with kernel_killed_in("toy_map", "../0000/stages/02_work") as killed:
        state, _, run = run_map(n=1, wait_s=1.0)
    assert killed and state == "success", why(run)
    assert (run.path / "0000" / "02_work.attempt-1.ipynb").exists()
    assert run.read("table.json")["0000"]["score"] == 0


def test_run_whose_children_have_all_failed_says_so_and_gathers_nothing():
    state, tasks, run = run_map(n=1, broken="thing 0")
    assert state == "failed" and tasks["04_table", -1] == "upstream_failed"
    summary = read_summary(run)
    assert (summary["state"], summary["reason"]) == ("failed", "2 · Work: 1 of 1 failed")


@pytest.fixture
def symbols(tmp_path, monkeypatch):
    """Make the pipeline of many symbols end with their data: to learn takes minutes for each."""
    place = tmp_path / "notebooks" / "tick_symbols"
    place.mkdir(parents=True)
    (place.parent / "tick").symlink_to(ROOT / "notebooks" / "tick")
    for name in ("00_symbols", "01_load", "06_table"):
        one = ROOT / "notebooks" / "tick_symbols" / f"{name}.ipynb"
        shutil.copy(one, place / one.name, follow_symlinks=False)
    text = (ROOT / "dags" / "tick_symbols.py").read_text()
    text = re.sub(r"stages = \(.*\)", 'stages = ("01_load",)', text)
    text = re.sub(r", promote=True|(model|n_folds)=.*,", "", text)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "tick_symbols.py").write_text(text)
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path / "dags"))
    return [f"S{k:02d}" for k in range(50)]


def test_fifty_symbols_have_all_that_a_run_has_and_share_one_page(symbols):
    small = {"sample_ticks": 1000, "train_days": 2, "test_days": 1}
    with kernel_killed_in("tick_symbols", "../0025/stages/01_load") as killed:
        state, tasks, run = run_map("tick_symbols", source="sample", symbols=symbols, **small)
    assert killed and state == "success", why(run)
    assert [tasks["01_load", k] for k in range(50)] == 50 * ["success"]
    names = [f"{k:04d}" for k in range(50)]
    children = run.children()
    assert [child.path.name for child in children] == names
    assert [child.record("01_load")["state"] for child in children] == 50 * ["finished"]
    assert all((child.path / "report.html").exists() for child in children)
    tried = [path.parent.name for path in run.path.glob("*/01_load.attempt-1.ipynb")]
    assert tried == ["0025"]
    assert len({child.read("dataset.json")["digest"] for child in children}) == 50
    assert run.read("symbols.csv")["symbol"].tolist() == symbols
    assert run.read("metrics.json")["n_symbols"] == 50
    page = (run.path / CHILDREN).read_text()
    assert re.findall(r'href="(\d{4})/report\.html"', page) == names
    (row,) = [stage for stage in summarise(run)["stages"] if stage["mapped"]]
    assert row["mapped"] == {"passed": 50} and (run.path / "report.html").exists()
    whole = tracking.link(run)
    found = tracking.open_client().search_runs(
        [whole["experiment_id"]], f"tags.mlflow.parentRunId = '{whole['run_id']}'"
    )
    logged = {int(one.data.tags["map_index"]): one for one in found}
    assert sorted(logged) == [*range(50)] and len(found) == 50
    assert {one.info.status for one in found} == {"FINISHED"}
    assert [logged[k].data.params["symbol"] for k in range(50)] == symbols
