"""Which runs go by the rule, which stay and why, and that deleting touches nothing else."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from lib import tracking
from lib.commands import prune, services
from lib.ground.files import write_bytes
from lib.run import open_run

import pytest

NOW = datetime.now(UTC)
DAYS_AGO = {days: (NOW - timedelta(days=days)).isoformat() for days in range(100)}


@pytest.fixture(autouse=True)
def outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "outputs"


class Registry:
    """Answers as MLflow's client does, a page of one version at a time."""

    def __init__(self, *versions):
        self.versions = versions
        self.deleted = []

    def search_model_versions(self, max_results, page_token=None):
        first = int(page_token or 0)
        more = first + 1 < len(self.versions)
        page = type("Page", (list,), {"token": str(first + 1) if more else None})
        return page(self.versions[first : first + 1])

    def get_run(self, run_id):
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage="active"))

    def delete_run(self, run_id):
        self.deleted.append(run_id)


@pytest.fixture
def registry(monkeypatch):
    made = Registry()
    monkeypatch.setattr(prune, "_ask_registry", lambda: made)
    return made


def version(run_dir="", run_id=""):
    return SimpleNamespace(tags={"run_dir": run_dir} if run_dir else {}, run_id=run_id)


def make_run(days, name=None, pipeline="made_up", state="finished", run_id="", **start):
    """Leave a run whose only stage began and ended `days` ago."""
    run = open_run(f"{pipeline}/{name or f'run-{days:02}'}")
    record = {"stage": "01_load", "state": state, "started": DAYS_AGO[days]}
    record |= {"finished": DAYS_AGO[days], "parameters": {}, "reads": {}, "writes": {}}
    write_bytes(run.path / "stages" / "01_load.json", json.dumps(record).encode())
    if start:
        write_bytes(run.path / "run.json", json.dumps(start).encode())
    if run_id:
        link = {"tracking_uri": tracking.tracking_uri(), "run_id": run_id}
        write_bytes(run.path / "mlflow.json", json.dumps(link).encode())
    return run


def left(outputs):
    return sorted(path.name for path in (outputs / "made_up").iterdir())


def test_old_runs_go_except_the_last_ones_of_their_pipeline(outputs, registry):
    for days in (50, 40, 35, 29):
        make_run(days)
    make_run(90, pipeline="another")
    prune.main(last=2, days=30, apply=True)
    assert left(outputs) == ["run-29", "run-35"]
    assert (outputs / "another" / "run-90").exists()


def test_nothing_is_deleted_unless_it_is_asked_for(outputs, registry, capsys):
    run = make_run(50)
    write_bytes(run.path / "data.parquet", bytes(2_000_000))
    prune.main(last=0)
    told = capsys.readouterr().out
    assert left(outputs) == ["run-50"]
    assert f"goes     {DAYS_AGO[50][:10]}       2.0 MB  made_up/run-50" in told
    assert "1 of 1 runs go, 2.0 MB" in told and "--apply" in told


def test_reasons_to_stay_are_counted(outputs, registry, capsys):
    make_run(50, name="dev")
    make_run(50, name="reference-2")
    make_run(2)
    make_run(3)
    prune.main(last=0)
    told = capsys.readouterr().out
    assert "    1 stay: it is where notebooks run by hand" in told
    assert "    1 stay: its files are kept in git" in told
    assert "    2 stay: not old enough" in told
    assert "0 of 4 runs go" in told and "--apply" not in told


@pytest.mark.parametrize("by_tag", [True, False])
def test_a_run_that_any_registered_version_refers_to_stays(outputs, registry, by_tag):
    make_run(50, run_id="a1")
    make_run(60, run_id="a2")
    other = version("made_up/elsewhere", "a9")
    mine = version("made_up/run-50") if by_tag else version(run_id="a1")
    registry.versions = (other, mine)  # on the second page
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]
    assert registry.deleted == ["a2"]


def test_a_run_that_another_tracking_server_knows_stays(outputs, registry):
    run = make_run(50)
    link = {"tracking_uri": "http://another.example", "run_id": "a1"}
    write_bytes(run.path / "mlflow.json", json.dumps(link).encode())
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]


def test_a_run_that_is_going_on_stays(outputs, registry):
    make_run(50, state="running")
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]


def test_an_old_run_that_was_worked_on_lately_stays(outputs, registry):
    run = make_run(50)
    record = run.record("01_load") | {"opened": DAYS_AGO[1]}
    write_bytes(run.path / "stages" / "01_load.json", json.dumps(record).encode())
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]


def test_a_run_stays_as_long_as_a_younger_copy_opened_from_it(outputs, registry):
    make_run(50)
    make_run(3, name="open-1", opened="made_up/run-50", started=DAYS_AGO[3])
    make_run(60)
    make_run(40, name="open-2", opened="made_up/run-60", started=DAYS_AGO[40])
    prune.main(last=0, apply=True)
    assert left(outputs) == ["open-1", "run-50"]


def test_opened_copies_do_not_count_among_the_last_runs(outputs, registry):
    make_run(60)
    make_run(40, name="open-1", opened="made_up/run-60", started=DAYS_AGO[40])
    prune.main(last=1, apply=True)
    assert left(outputs) == ["run-60"]


def test_runs_in_git_stay(outputs, registry, monkeypatch):
    make_run(50)
    make_run(60)
    subprocess.run(["git", "init", "-q"], cwd=outputs, check=True)
    add = ["git", "add", "-f", "made_up/run-50/stages/01_load.json"]
    subprocess.run(add, cwd=outputs, check=True)
    monkeypatch.setattr(prune, "ROOT", outputs.parent)
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]


def test_a_linked_run_folder_is_neither_followed_nor_deleted(outputs, registry, tmp_path):
    run = make_run(50)
    elsewhere = tmp_path / "elsewhere"
    Path(run.path.path).rename(elsewhere)
    Path(run.path.path).symlink_to(elsewhere)
    prune.main(last=0, apply=True)
    assert (elsewhere / "stages").exists() and left(outputs) == ["run-50"]
    with pytest.raises(ValueError, match="is a link or not in"):
        prune.delete(run, registry)


def test_a_linked_pipeline_folder_is_neither_followed_nor_deleted(outputs, registry, tmp_path):
    make_run(50)
    (outputs / "made_up").rename(tmp_path / "elsewhere")
    (outputs / "made_up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / ".pruned-x").mkdir()
    prune.main(last=0, apply=True)
    assert left(outputs) == [".pruned-x", "run-50"]


def test_links_within_a_run_are_removed_and_what_they_point_to_stays(outputs, registry, tmp_path):
    run = make_run(50)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(bytes(1000))
    (Path(run.path.path) / "link").symlink_to(tmp_path / "precious")
    assert prune.size(run) < 1000
    prune.main(last=0, apply=True)
    assert left(outputs) == [] and (tmp_path / "precious" / "file").exists()


def test_scratch_files_go_with_their_run(outputs, registry):
    for days in (50, 5):
        (make_run(days).scratch / "study.log").write_bytes(b"x")
    prune.main(last=0, apply=True)
    assert [p.name for p in (outputs / ".scratch" / "made_up").iterdir()] == ["run-05"]


def test_a_deletion_that_was_cut_off_is_finished_by_the_next(outputs, registry):
    make_run(5)
    (outputs / "made_up" / ".pruned-run-50" / "model").mkdir(parents=True)
    prune.main(apply=True)
    assert left(outputs) == ["run-05"]


def test_a_deletion_that_is_cut_off_leaves_no_half_a_run(outputs, registry, monkeypatch):
    make_run(50)

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(prune.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        prune.main(last=0, apply=True)
    assert left(outputs) == [".pruned-run-50"]


def test_the_index_is_written_anew_without_the_runs_that_went(outputs, registry):
    make_run(50)
    make_run(5)
    prune.main(last=0, apply=True)
    page = (outputs / "index.html").read_text()
    assert "run-05" in page and "run-50" not in page


def test_nothing_is_deleted_where_there_is_no_registry_to_ask(outputs):
    make_run(50)
    with pytest.raises(
        ValueError, match="sqlite:///.* cannot be asked .*Nothing was deleted. it is not there"
    ):
        prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_registered_run_stays_and_the_others_mlflow_run_can_be_restored(outputs, monkeypatch):
    client = tracking.open_client()
    made, sources = {}, {}
    for days in (50, 60):
        run = client.create_run("0")
        made[days] = run.info.run_id
        sources[days] = f"{run.info.artifact_uri}/model"
        make_run(days, run_id=run.info.run_id)
    make_run(70, run_id="0" * 32)  # its MLflow run is gone already
    client.create_registered_model("m")
    client.create_model_version("m", sources[50], run_id=made[50])
    prune.main(last=0, apply=True)
    assert left(outputs) == ["run-50"]
    assert client.get_run(made[50]).info.lifecycle_stage == "active"
    assert client.get_run(made[60]).info.lifecycle_stage == "deleted"
    client.restore_run(made[60])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{services.free_port(20080)}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ConnectionError, match="does not answer"):
        prune.main(last=0, apply=True)


def taking(days, origin, **more):
    """Leave a run that has taken its stage from another."""
    run = make_run(days, run_id=f"m{days}", dag_id="made_up", **more)
    write_bytes(run.path / "run.json", json.dumps({"dag_id": "made_up", "run_id": "r"}).encode())
    record = run.record("01_load") | {"from": f"made_up/{origin}", "taken": DAYS_AGO[days]}
    write_bytes(run.path / "stages" / "01_load.json", json.dumps(record).encode())
    return run


def test_run_that_others_have_taken_stages_from_stays_as_long_as_they_do(outputs, registry, capsys):
    make_run(90)
    taking(80, "run-90")
    taking(70, "run-80")
    taking(60, "run-90")
    make_run(55)
    prune.main(last=3, days=30)
    assert "1 stay: a run that stays has taken stages from it" not in capsys.readouterr().out
    prune.main(last=2, days=30)  # those of 55 and 60 days are the last
    told = capsys.readouterr().out
    assert "1 stay: a run that stays has taken stages from it" in told
    assert "2 of 5 runs go" in told
    prune.main(last=1, days=30, apply=True)
    assert left(outputs) == ["run-55"]


def test_runs_that_are_needed_by_one_that_is_needed_stay_too(outputs, registry, capsys):
    make_run(90)
    taking(80, "run-90")
    taking(20, "run-80")
    prune.main(last=0, days=30, apply=True)
    assert left(outputs) == ["run-20", "run-80", "run-90"]
    assert "2 stay: a run that stays has taken stages from it" in capsys.readouterr().out
