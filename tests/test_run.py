"""Run folders: whole files only, from finished stages, made from what is there now."""

import json
import os
import resource
import struct
import subprocess
import sys
import threading
from pathlib import Path

from lib.ground import files, folder, runs
from lib.run import UnfinishedStage, open_run

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def outputs(request, tmp_path, monkeypatch):
    """An outputs folder on every kind of file system that is promised to work."""
    if request.param == "local":
        place = str(tmp_path / "outputs")
    elif request.param == "memory":
        place = f"memory://{tmp_path.name}"
    else:
        place = f"s3://{request.getfixturevalue('bucket')}/outputs"
    monkeypatch.setenv("OUTPUTS_DIR", place)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return place


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def finished(stage, **files):
    run = open_run("power/dev", stage=stage)
    for name, content in files.items():
        run.write(name.replace("__", "."), content)
    run.finish()
    return run


FRAME = pd.DataFrame({"power_kw": [1.5, np.nan]}, index=pd.Index([3, 4], name="ts"))


def test_table_arrays_and_json_come_back_as_they_were(outputs):
    arrays = {"x": np.arange(6, dtype="uint8").reshape(2, 3), "y": np.array([0.5])}
    finished("01_load", raw__parquet=FRAME, images__npz=arrays, facts__json={"n": [1, None]})
    reader = open_run("power/dev")
    pd.testing.assert_frame_equal(reader.read("raw.parquet"), FRAME)
    back = reader.read("images.npz")
    assert {k: (v.dtype, v.tolist()) for k, v in back.items()} == {
        k: (v.dtype, v.tolist()) for k, v in arrays.items()
    }
    assert reader.read("facts.json") == {"n": [1, None]}


def test_folder_written_by_a_library_comes_back_whole(outputs):
    run = open_run("power/dev", stage="04_train")
    for text in ("first", "second"):
        with run.writing("model") as path:
            (path / "data").mkdir(parents=True)
            (path / "MLmodel").write_text(text)
            (path / "data" / f"{text}.txt").write_text(text)
    run.finish()
    copy = open_run("power/dev").local("model")
    found = sorted(str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file())
    assert found == ["MLmodel", "data/second.txt"]
    assert (copy / "MLmodel").read_text() == "second"


def test_block_that_raises_leaves_the_earlier_file_and_no_rest(local):
    finished("01_load", facts__json={"n": 1})
    run = open_run("power/dev", stage="04_train")
    with pytest.raises(RuntimeError), run.writing("model") as path:
        path.write_text("half")
        raise RuntimeError
    assert sorted(p.name for p in (local / "power/dev").iterdir()) == ["facts.json", "stages"]


def test_file_of_an_unfinished_stage_is_refused_and_the_stage_is_named(outputs):
    open_run("power/dev", stage="01_load").write("raw.parquet", FRAME)
    with pytest.raises(UnfinishedStage, match="raw.parquet.*belongs to 01_load.*has not finished"):
        open_run("power/dev", stage="02_features").read("raw.parquet")


def test_missing_file_names_the_notebook_whose_card_promises_it(local):
    with pytest.raises(UnfinishedStage, match=r"raw.parquet is not in .*run 01_load first"):
        open_run("power/dev", stage="02_features").read("raw.parquet")


def test_killed_stage_does_not_leave_its_old_results_valid(local):
    finished("01_load", raw__parquet=FRAME, facts__json={})
    open_run("power/dev", stage="01_load").write("facts.json", {"n": 2})
    reader = open_run("power/dev", stage="02_features")
    with pytest.raises(UnfinishedStage, match="01_load"):
        reader.read("raw.parquet")


def test_opening_a_finished_stage_again_keeps_its_results_until_it_writes(local):
    finished("01_load", raw__parquet=FRAME)
    open_run("power/dev", stage="01_load")
    assert len(open_run("power/dev", stage="02_features").read("raw.parquet")) == 2


def test_file_that_was_cut_short_afterwards_is_refused(outputs):
    run = finished("01_load", raw__parquet=FRAME)
    path = run.path / "raw.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnfinishedStage, match=r"raw.parquet.*damaged.*run 01_load again"):
        open_run("power/dev", stage="02_features").read("raw.parquet")


def test_result_of_older_inputs_is_refused_down_the_chain(local):
    finished("01_load", raw__parquet=FRAME)
    for stage, source, target in (
        ("02_features", "raw.parquet", "features.parquet"),
        ("03_train", "features.parquet", "history.parquet"),
    ):
        run = open_run("power/dev", stage=stage)
        run.write(target, run.read(source))
        run.finish()
    finished("01_load", raw__parquet=FRAME + 1)
    with pytest.raises(UnfinishedStage, match=r"older raw.parquet, .*run 02_features again"):
        open_run("power/dev", stage="04_evaluate").read("history.parquet")


def test_running_a_stage_again_with_equal_results_keeps_later_stages_valid(local):
    finished("01_load", raw__parquet=FRAME)
    run = open_run("power/dev", stage="02_features")
    run.write("features.parquet", run.read("raw.parquet"))
    run.finish()
    finished("01_load", raw__parquet=FRAME)
    assert len(open_run("power/dev", stage="03_train").read("features.parquet")) == 2


@pytest.mark.slow
def test_killed_writer_leaves_no_part_of_a_file(local):
    code = (
        "import os, pandas as pd, lib.run as r\n"
        "run = r.open_run('power/dev', stage='01_load')\n"
        "run.write('raw.parquet', pd.DataFrame({'a': [1]}))\n"
        "with run.writing('big.bin') as path:\n"
        "    path.write_bytes(b'x' * 1000); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert done.returncode == -9
    assert not (local / "power/dev/big.bin").exists()
    with pytest.raises(UnfinishedStage, match="01_load"):
        open_run("power/dev", stage="02_features").read("raw.parquet")


@pytest.mark.parametrize(
    "run_dir", ["../x", "power", "power/..", "/etc/x", "power/a/b", "power/.hidden", "", "a b/c"]
)
def test_run_dir_that_leaves_the_outputs_is_refused(local, run_dir):
    with pytest.raises(ValueError, match="run_dir"):
        open_run(run_dir)


@pytest.mark.parametrize("name", ["../x.json", "/x.json", ".x.json", "a/../../x.json"])
def test_file_name_that_leaves_the_run_folder_is_refused(local, name):
    with pytest.raises(ValueError, match="file name"):
        open_run("power/dev", stage="01_load").write(name, {})


def test_unwritable_run_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot write to the run folder .*file/power/dev"):
        open_run("power/dev", stage="01_load")


def test_file_that_the_disk_has_no_room_for_is_named_and_leaves_nothing(local):
    run = open_run("power/dev", stage="01_load")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a full disk would
    try:
        with pytest.raises(OSError, match=r"cannot write \S*/power/dev/numbers\.json: .*too large"):
            run.write("numbers.json", [1.0] * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in run.path.iterdir()] == ["stages"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True, {"rmse": 1}])
def test_metrics_must_be_finite_numbers(local, value):
    with pytest.raises(ValueError, match="rmse"):
        open_run("power/dev", stage="05_evaluate").write("metrics.json", {"rmse": value})


def test_figure_is_written_the_same_every_time(local):
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    run = open_run("power/dev", stage="05_evaluate")
    pictures = []
    for _ in range(2):
        run.write("line.png", figure)
        pictures.append((run.path / "line.png").read_bytes())
    assert struct.unpack(">2I", pictures[0][16:24]) == (320, 160)  # twice what a notebook shows
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"\x89PNG")


def test_unknown_ending_is_refused_with_the_known_ones(local):
    with pytest.raises(ValueError, match=r"\.pkl.*\.parquet"):
        open_run("power/dev", stage="01_load").write("x.pkl", {})


@pytest.mark.parametrize(
    ("run_id", "folder"),
    [
        ("manual__2026-01-02T03:04:05.678901+00:00", "manual__2026-01-02T03-04-05.678901+00-00"),
        ("scheduled__2026-01-02T03:30:00+00:00", "scheduled__2026-01-02T03-30-00+00-00"),
        ("nightly-7", "nightly-7"),
    ],
)
def test_usual_run_ids_keep_their_look_in_folder_names(run_id, folder):
    assert runs.run_folder_name(run_id) == folder


def test_unusual_run_ids_never_share_a_folder_and_never_leave_it():
    odd = ["a/b", "a:b", "a b", "a{}b", "../b", "..", ".", "", "-", "a\nb"]
    names = [runs.run_folder_name(run_id) for run_id in odd]
    assert len(set(names)) == len(odd)
    assert all(folder.NAME.fullmatch(name) for name in names)


def test_folder_is_the_same_from_every_working_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert Path(files.outputs_dir().path) == files.ROOT / "elsewhere"


@pytest.mark.parametrize(
    ("text", "place"),
    [("", "{usual}"), ("~/runs", "/home/anna/runs"), ("/", "/"), ("s3://runs/a/", "s3://runs/a")],
)
def test_variable_that_is_empty_or_begins_at_home_names_what_is_meant(text, place, monkeypatch):
    """And not the repository itself, nor a folder in it that is called ~."""
    monkeypatch.setenv("HOME", "/home/anna")
    for variable, named in (("OUTPUTS_DIR", files.outputs_dir), ("DATA_DIR", files.data_dir)):
        monkeypatch.setenv(variable, text)
        usual = files.ROOT / variable.partition("_")[0].lower()
        assert str(named()) == place.format(usual=usual)


def test_record_tells_state_times_and_files(local):
    finished("01_load", raw__parquet=FRAME)
    run = open_run("power/dev", stage="02_features")
    run.read("raw.parquet")
    run.write("features.parquet", FRAME)
    run.finish()
    record = json.loads((local / "power/dev/stages/02_features.json").read_text())
    assert record["state"] == "finished" and record["started"] <= record["finished"]
    assert list(record["reads"]) == ["raw.parquet"]
    assert list(record["writes"]) == ["features.parquet"]


def test_bytecode_beside_a_models_code_is_no_damage(local):
    run = open_run("power/dev", stage="04_train")
    with run.writing("model") as path:
        path.mkdir()
        (path / "MLmodel").write_text("x")
    run.finish()
    cache = local / "power/dev/model/__pycache__"
    cache.mkdir()
    (cache / "code.pyc").write_bytes(b"1")
    assert open_run("power/dev", stage="05_evaluate").local("model").is_dir()


@pytest.mark.slow
def test_reader_never_sees_a_part_of_a_file(local):
    run = open_run("power/dev", stage="01_load")
    path = run.path / "big.bin"
    contents = [bytes([k]) * 3_000_000 for k in range(2)]
    files.write_bytes(path, contents[0])
    done = threading.Event()
    seen = set()

    def read():
        while not done.is_set():
            data = path.read_bytes()
            seen.add((len(data), data[:1], data[-1:]))

    reader = threading.Thread(target=read)
    reader.start()
    for k in range(60):
        files.write_bytes(path, contents[k % 2])
    done.set()
    reader.join()
    assert seen <= {(3_000_000, c[:1], c[:1]) for c in contents}


@pytest.mark.slow
def test_record_written_by_another_process_is_seen(bucket, monkeypatch):
    import s3fs

    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/outputs")
    finished("01_load", facts__json={"n": 1})
    reader = open_run("power/dev")
    assert list(reader.records()) == ["01_load"]
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe(f"{bucket}/outputs/power/dev/stages/02_features.json", b'{"state": "running"}')
    assert list(reader.records()) == ["01_load", "02_features"]
