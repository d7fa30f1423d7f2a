"""Data sets in parts: written by anybody, whole or never read, and one file to the record."""

from itertools import pairwise

from lib.ground import dataset, outcome
from lib.ground.dataset import Dataset
from lib.ground.files import MANIFEST, digest
from lib.once.taking import take
from lib.run import UnfinishedStage, open_run

import numpy as np
import pyarrow as arrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

ROWS = arrow.table({"x": np.arange(1_000.0), "side": np.tile([-1, 1], 500).astype("int8")})


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def outputs(request, tmp_path, monkeypatch):
    """Runs on every kind of file system that is promised to work."""
    place = {"local": str(tmp_path), "memory": f"memory://{tmp_path.name}"}.get(request.param)
    place = place or f"s3://{request.getfixturevalue('bucket')}/outputs"
    monkeypatch.setenv("OUTPUTS_DIR", place)


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    return tmp_path


def written(*names, run_dir="toy/dev", rows=ROWS):
    """Write a data set in a stage that finishes; return the run."""
    run = open_run(run_dir, stage="01_load")
    with run.writing_dataset("ticks") as ticks:
        ticks.seal([ticks.write(name, [rows]) for name in names])
    run.finish()
    return run


def rows_of(part):
    return arrow.Table.from_batches(part.batches())


def refused():
    with pytest.raises(UnfinishedStage, match="ticks in toy/dev is damaged.*run 01_load again"):
        open_run("toy/dev", stage="02_features").dataset("ticks")


def test_parts_come_back_in_order_of_their_names(outputs):
    run = written("b", "a")
    parts = open_run("toy/dev").dataset("ticks").parts
    assert [(part.name, part.rows) for part in parts] == [("a", 1_000), ("b", 1_000)]
    assert all(rows_of(part).equals(ROWS) for part in parts)
    assert run.record("01_load")["writes"] == {"ticks": digest(run.path / "ticks")}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 29), max_size=6))
def test_file_of_a_part_does_not_depend_on_how_its_rows_were_cut(tmp_path_factory, cuts):
    rows, borders = arrow.table({"x": np.arange(30.0)}), [0, *sorted(cuts), 30]
    pieces = [rows[begin:end] for begin, end in pairwise(borders)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "GROUP_ROWS", 8)
        ticks = Dataset(UPath(tmp_path_factory.mktemp("ticks")))
        assert ticks.write("a", pieces) == ticks.write("a", [rows])


def test_file_of_a_large_part_does_not_depend_on_how_its_rows_were_cut(tmp_path):
    ticks = Dataset(UPath(tmp_path))
    rows = arrow.table({"x": np.random.default_rng(0).normal(size=300_000)})
    pieces = [rows[begin : begin + 777] for begin in range(0, 300_000, 777)]
    assert ticks.write("a", pieces) == ticks.write("a", [rows])


def test_part_that_was_cut_or_is_foreign_or_gone_is_refused(local):
    for spoil in (
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.with_name("foreign.parquet").write_bytes(b"rows"),
        lambda file: file.unlink(),
        lambda file: (file.parent / MANIFEST).unlink(),
        lambda file: (file.parent / MANIFEST).write_text('{"parts": {}}'),
    ):
        written("a", "b")
        spoil(min((local / "toy/dev/ticks").glob("*.parquet")))
        refused()
    written("a", "b")
    assert len(open_run("toy/dev").dataset("ticks").parts) == 2


def test_part_of_the_same_size_with_another_content_is_refused_when_it_is_read(local):
    written("a")
    (file,) = (local / "toy/dev/ticks").glob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (part,) = open_run("toy/dev").dataset("ticks").parts
    with pytest.raises(ValueError, match=f"{file.name} is not what was written. Run the"):
        next(part.batches())


def test_data_set_that_is_half_written_is_never_read(outputs):
    written("a", "b")
    run = open_run("toy/dev", stage="01_load")
    with pytest.raises(KeyboardInterrupt), run.writing_dataset("ticks") as ticks:
        ticks.write("a", [ROWS])
        with pytest.raises(ValueError, match=f"{MANIFEST} is missing.*to its last cell"):
            _ = ticks.parts
        raise KeyboardInterrupt
    assert not (run.path / "ticks").exists()
    with pytest.raises(UnfinishedStage, match="01_load, which started .* has not finished"):
        open_run("toy/dev").dataset("ticks")


def test_data_set_that_is_not_sealed_is_no_data_set(local):
    run = open_run("toy/dev", stage="01_load")
    with pytest.raises(ValueError, match=f"{MANIFEST} is missing"):
        with run.writing_dataset("ticks") as ticks:
            ticks.write("a", [ROWS])


def test_sealing_removes_what_a_killed_worker_has_left_and_misses_what_is_elsewhere(local):
    ticks = Dataset(UPath(local / "ticks"))
    kept = ticks.write("a", [ROWS])
    (local / "ticks" / ".3f2a").write_bytes(b"half")
    ticks.write("b", [ROWS])
    ticks.seal([kept])
    assert {file.name for file in (local / "ticks").iterdir()} == {kept.path.name, MANIFEST}
    elsewhere = Dataset(UPath(local / "elsewhere")).write("c", [ROWS])
    with pytest.raises(FileNotFoundError, match=r"1 of 2 parts, as c-\w+.parquet, .* OUTPUTS_DIR"):
        ticks.seal([kept, elsewhere])


def test_rows_of_another_type_in_the_middle_leave_nothing(local):
    ticks = Dataset(UPath(local / "ticks"))
    with pytest.raises(arrow.ArrowInvalid):
        ticks.write("a", [ROWS, arrow.table({"y": [1]})])
    assert not list((local / "ticks").iterdir())


def test_same_parts_have_the_same_digest_and_other_parts_another(local):
    first, second = written("a", "b"), written("b", "a", run_dir="toy/again")
    other = written("a", "b", run_dir="toy/other", rows=ROWS[1:])
    digests = [run.record("01_load")["writes"]["ticks"] for run in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]


def test_stage_that_wrote_a_data_set_is_taken_whole_or_not_at_all(local):
    origin, target = written("a", "b", run_dir="toy/one"), open_run("toy/two")
    made = {"cells": [], "metadata": {"papermill": {"end_time": "2026-11-29T08:00:00"}}}
    outcome.write_notebook(origin.path / "01_load.ipynb", made)
    assert take(origin, target, "01_load")["from"] == "toy/one"
    assert [part.rows for part in open_run("toy/two").dataset("ticks").parts] == [1_000, 1_000]
    min((local / "toy/one/ticks").glob("*.parquet")).unlink()
    assert take(origin, open_run("toy/three"), "01_load") == {}
