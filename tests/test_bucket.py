"""Files on object storage: what is asked of it, what is kept here, and who may write."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from lib.ground import bucket as kept
from lib.ground import files
from lib.ground.files import ChangedMeanwhile, look_into, read_tagged, write_bytes, write_if

import pytest
from upath import UPath
from werkzeug.serving import WSGIRequestHandler

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(monkeypatch):
    """The requests that reach the local S3 server."""
    found = []

    def note(handler, code="-", size="-"):
        found.append(f"{handler.command} {handler.path.split('?')[0].rpartition('/')[2]}")

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    return found


@pytest.fixture
def folder(bucket, tmp_path, monkeypatch):
    """A folder with three files, which this machine has never seen."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/outputs")
    root = UPath(f"s3://{bucket}/outputs/power/r1")
    for name in ("run.json", "stages/01_load.json", "model/deep/weights"):
        write_bytes(root / name, name.encode())
    for file in (tmp_path / "outputs" / kept.KEPT).iterdir():
        file.unlink()
    return root


def test_look_answers_everything_from_one_listing(folder, asked):
    with look_into(folder):
        assert (folder / "run.json").exists() and not (folder / "report.html").exists()
        assert not (folder / "keys" / "01_load.json").exists()
        assert sorted(p.name for p in folder.iterdir()) == ["model", "run.json", "stages"]
        assert (folder / "model").is_dir() and not (folder / "run.json").is_dir()
        assert [p.name for p in folder.glob("stages/[0-9]*.json")] == ["01_load.json"]
        assert [p.name for p in (folder / "model").rglob("*") if p.is_file()] == ["weights"]
        with look_into(folder / "model"):
            assert (folder / "model" / "deep" / "weights").exists()
    assert len(asked) == 1
    assert (folder / "run.json").exists() and len(asked) == 2, "afterwards it is asked again"


def test_look_knows_what_its_own_thread_has_done_meanwhile(folder, asked):
    with look_into(folder):
        write_bytes(folder / "summary.json", b"{}")
        (folder / "summary.json").fs.rm_file((folder / "run.json").path)
        files.copy(folder / "stages", folder / "earlier")
        names = sorted(p.name for p in folder.iterdir())
        assert names == ["earlier", "model", "stages", "summary.json"]
        assert (folder / "earlier" / "01_load.json").read_text() == "stages/01_load.json"
        (folder / "model").fs.rm((folder / "model").path, recursive=True)
        assert not (folder / "model").exists()
    assert sorted(p.name for p in folder.iterdir()) == ["earlier", "stages", "summary.json"]


def test_what_has_not_changed_is_fetched_once(folder, asked):
    for _ in range(3):
        with look_into(folder):
            assert (folder / "run.json").read_text() == "run.json"
    assert asked.count("GET run.json") == 1
    UPath(str(folder / "run.json")).fs.pipe_file((folder / "run.json").path, b"other")
    with look_into(folder):
        assert (folder / "run.json").read_text() == "other"
    assert asked.count("GET run.json") == 1, "it was written here"


def test_what_another_machine_writes_is_seen(folder, bucket):
    import s3fs

    with look_into(folder):
        assert (folder / "run.json").read_text() == "run.json"
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe((folder / "run.json").path, b"theirs")
    with look_into(folder):
        assert (folder / "run.json").read_text() == "theirs"
    assert (folder / "run.json").read_text() == "theirs"


def test_little_is_kept_for_long(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    monkeypatch.setattr(kept, "WHOLE_BYTES", 500)
    for k in range(5):
        write_bytes(folder / f"{k}.bin", bytes([k]) * 300)
        time.sleep(0.01)
    write_bytes(folder / "large.bin", b"9" * 501)
    left = [file.read_bytes()[:1] for file in (tmp_path / "outputs" / kept.KEPT).iterdir()]
    assert sorted(left) == [b"\2", b"\3", b"\4"]
    assert (folder / "large.bin").read_bytes() == b"9" * 501, "it is read from where it is"


def test_full_disk_stops_nothing(folder, tmp_path):
    kept_here = tmp_path / "outputs" / kept.KEPT
    kept_here.rmdir()
    kept_here.touch()  # nothing can be written below a file
    write_bytes(folder / "run.json", b"anew")
    with look_into(folder):
        assert (folder / "run.json").read_bytes() == b"anew"


@pytest.fixture(params=["local", "memory", "s3"])
def file(request, tmp_path, monkeypatch):
    """A file that is not there, on every kind of file system that is promised to work."""
    place = {"local": str(tmp_path / "outputs"), "memory": f"memory://{tmp_path.name}"}
    if request.param == "s3":
        place["s3"] = f"s3://{request.getfixturevalue('bucket')}/outputs"
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setenv("OUTPUTS_DIR", place[request.param])
    return files.outputs_dir() / "power" / "r1" / "record.json"


def test_file_is_written_only_as_it_was_read(file):
    assert read_tagged(file) == (b"", "")
    first = write_if(file, b"one", "")
    assert read_tagged(file) == (b"one", first)
    with pytest.raises(ChangedMeanwhile, match=r"record\.json was written by somebody else"):
        write_if(file, b"mine", "")
    second = write_if(file, b"two", first)
    with pytest.raises(ChangedMeanwhile):
        write_if(file, b"mine", first)
    assert read_tagged(file) == (b"two", second)
    file.fs.rm(file.path)
    with pytest.raises(ChangedMeanwhile):
        write_if(file, b"mine", second)
    assert not file.exists()


def test_of_several_who_write_at_once_one_succeeds(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    file, start = UPath(tmp_path / "record.json"), threading.Barrier(4)

    def add(name):
        start.wait()
        for _ in range(25):
            written = ""
            while not written:
                data, tag = read_tagged(file)
                with suppress(ChangedMeanwhile):
                    written = write_if(file, data + name, tag)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [b"a", b"b", b"c", b"d"]))
    assert sorted(file.read_text()) == sorted("abcd" * 25), "nothing is lost"


def test_request_that_was_sent_twice_is_not_taken_for_somebody_elses(bucket):
    file = UPath(f"s3://{bucket}/record.json")
    tag = write_if(file, b"one", "")
    write_bytes(file, b"two")
    assert write_if(file, b"two", tag) == read_tagged(file)[1], "the first answer was lost"
