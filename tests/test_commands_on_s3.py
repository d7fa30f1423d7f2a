"""Commands on runs that lie on object storage: they work, ask little, and print links that open."""

import urllib.request
from contextlib import nullcontext
from datetime import UTC, datetime
from urllib.parse import unquote

from lib import tracking
from lib.commands import doctor, prune, reports, which
from lib.ground import addresses, files
from lib.ground.files import outputs_dir, read_tagged, write_if
from lib.pages import publish, run_index
from tests.run_pages import METRICS, PIXEL, make_run, verdict

import pytest
from werkzeug.serving import WSGIRequestHandler
from whole_runs import new_store

pytestmark = pytest.mark.slow


@pytest.fixture
def s3(bucket, tmp_path, monkeypatch):
    """An empty `OUTPUTS_DIR` in a bucket; nothing of Airflow runs."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/outputs")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    return outputs_dir()


@pytest.fixture
def asked(s3, monkeypatch):
    """The requests that reach the local S3 server."""
    found = []

    def note(handler, code="-", size="-"):
        found.append(f"{handler.command} {handler.path}")

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    return found


def ended(name, **facts):
    """Make a run that has passed, and publish it."""
    run = make_run(f"wind/{name}", figures=["errors.png"], metrics=METRICS, **facts)
    (run.path / "errors.png").write_bytes(PIXEL)
    publish.publish(run, ask_registry=False)
    return run


def test_page_is_published_with_one_listing_and_what_has_changed(asked):
    run = ended("a", verdict=verdict())
    asked.clear()
    publish.publish(run, ask_registry=False)
    lists = [one for one in asked if "list-type" in one]
    assert len(lists) == 1 and sum("PUT" in one for one in asked) == 2, asked
    assert len(asked) <= 5, asked


def test_run_enters_its_own_row_and_reads_no_other_run(asked):
    for k in range(5):
        ended(f"r{k}")
    asked.clear()
    run = ended("last")
    others = [one for one in asked if "/wind/r" in one and "summary.json" not in one]
    assert not others, "but the one before, with which its page compares"
    assert not [one for one in asked if "prefix=outputs/wind/&" in unquote(one)], asked
    assert {row["name"] for row in run_index.read_rows()} == {
        "r0",
        "r1",
        "r2",
        "r3",
        "r4",
        run.name,
    }


def test_index_that_another_machine_writes_meanwhile_loses_no_run(s3, monkeypatch):
    ended("first")
    theirs = []

    def late(path, data, tag):
        if not theirs:  # between our look and our write
            theirs.append(tag)
            rows, known = read_tagged(path)
            write_if(path, rows.replace(b"wind/first", b"wind/other"), known)
        return write_if(path, data, tag)

    monkeypatch.setattr(run_index, "write_if", late)
    ended("second")
    rows = run_index._kept(read_tagged(s3 / run_index.ROWS)[0])
    assert theirs and set(rows) == {"wind/other", "wind/second"}


def test_index_page_is_not_left_older_than_its_rows(s3, monkeypatch):
    ended("first")
    write_bytes = files.write_bytes

    def late(path, data):
        write_bytes(path, data)
        if path.name == run_index.INDEX and b"later" not in data:
            monkeypatch.setattr(run_index, "write_bytes", write_bytes)
            ended("later")
            write_bytes(path, data)  # ours arrives after theirs

    monkeypatch.setattr(run_index, "locked", lambda name: nullcontext())  # of one machine
    monkeypatch.setattr(run_index, "write_bytes", late)
    ended("second")
    page = (s3 / run_index.INDEX).read_text()
    assert "later" in page and "second" in page


def test_watcher_finds_the_run_of_a_notebook(s3, monkeypatch):
    run = ended("killed")
    (run.path / "report.html").unlink()
    monkeypatch.setenv("OUTPUTS_DIR", f"{s3}/")
    publish.beside(type(s3)(f"{run.path}/02_evaluate.ipynb"))
    assert (run.path / "report.html").exists()


def test_reports_and_compare_print_addresses_that_open(s3, capsys, monkeypatch):
    for name in ("a", "b"):
        ended(name)
    reports.write("")
    reports.compare("wind/a", "wind/b", "")
    lines = [line for line in capsys.readouterr().out.splitlines() if "http" in line]
    assert len(lines) == 4, "two pages, the index, the comparison"
    for line in lines:
        assert line.endswith("(opens for seven days; links from it need Airflow: make up)")
        address = line[line.index("http") :].split()[0]
        with urllib.request.urlopen(address) as answer:
            assert answer.headers["Content-Type"] == "text/html"
            assert b"<!doctype html>" in answer.read()[:20].lower()
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    reports.compare("wind/a", "wind/b", "")
    address = "https://airflow.example/reports/view/compare?a=wind%2Fa&b=wind%2Fb"
    assert address in capsys.readouterr().out
    page = s3 / "wind" / "a" / "report.html"
    assert addresses.opens_at(page) == "https://airflow.example/reports/view/wind/a/report.html"


def test_latest_run_is_found_by_the_index(asked):
    for k in range(4):
        ended(f"r{k}", started=f"2026-01-02T03:04:0{k}+00:00")
    asked.clear()
    assert which.find_run("latest").run_dir == "wind/r3"
    assert len(asked) <= 8 and not any("summary.json" in one for one in asked), asked


def test_prune_deletes_what_is_old_and_keeps_the_rest(s3, tmp_path, capsys):
    new_store(tmp_path / "outputs")
    ended("old")
    young = ended("young", started=datetime.now(UTC).isoformat())
    logged = tracking.open_client().get_run(tracking.mirror(young)["run_id"]).info.artifact_uri
    assert logged.startswith(f"{s3}/.mlflow/"), "beside the runs, where no server says otherwise"
    prune.main(last=0, days=30)
    assert "wind/old" in capsys.readouterr().out and (s3 / "wind" / "old").exists()
    prune.main(last=0, days=30, apply=True)
    assert not (s3 / "wind" / "old").exists() and (s3 / "wind" / "young").exists()
    assert [row["name"] for row in run_index.read_rows()] == ["young"]


def test_doctor_tells_whether_runs_can_be_kept_there(s3, monkeypatch):
    found = doctor.storage()
    assert found.state == doctor.OK and str(s3) in found.what and not list(s3.glob(".doctor-*"))
    monkeypatch.setattr(doctor, "write_if", lambda path, data, tag: files.write_bytes(path, data))
    found = doctor.storage()
    assert found.state == doctor.PROBLEM and "conditional write" in found.what and found.fix
    monkeypatch.setenv("OUTPUTS_DIR", "s3://no-such-bucket-here/outputs")
    found = doctor.storage()
    assert found.state == doctor.PROBLEM and "no-such-bucket-here" in found.what
