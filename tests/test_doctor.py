"""Every check of the doctor: what is broken on purpose is found, named, and has a fix."""

import http.server
import inspect
import json
import sqlite3
import threading
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from lib.commands import doctor, services
from lib.machine import engine, provisioner

import pytest
from whole_runs import prepare


@pytest.fixture(autouse=True)
def outputs(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(doctor, "BUSY_SECONDS", 0.2)
    return tmp_path / "outputs"


def is_problem(found, *texts):
    return _is(found, doctor.PROBLEM, texts)


def is_warning(found, *texts):
    return _is(found, doctor.WARNING, texts)


def _is(found, state, texts):
    whole = f"{found.what} | {found.fix}"
    assert found.state == state and found.fix, found
    assert all(text in whole for text in texts), found
    return True


def is_ok(found):
    assert found.state == doctor.OK and not found.fix, found
    return True


def test_every_check_is_made():
    checks = [
        function
        for name, function in inspect.getmembers(doctor, inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == "lib.commands.doctor"
        and inspect.signature(function).return_annotation is doctor.Finding
        and not inspect.signature(function).parameters
    ]
    assert checks and set(checks) == set(doctor.CHECKS)


def test_warnings_alone_are_no_failure(monkeypatch, capsys):
    def good():
        return doctor.Finding("one", doctor.OK, "is well")

    def fair():
        return doctor.Finding("two", doctor.WARNING, "may bite", "look")

    monkeypatch.setattr(doctor, "CHECKS", (good, fair))
    assert doctor.main() == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["ok", "one", "is", "well"]
    assert told[1:3] == [f"warning  {'two':<11} may bite", f"{'':<20} fix: look"]
    assert told[-1] == "0 problems, 1 warnings"


def test_a_check_that_fails_itself_is_a_problem_and_ends_no_other(monkeypatch, capsys):
    def breaks():
        raise KeyError("postgresql://me:geheim@db")

    def good():
        return doctor.Finding("two", doctor.OK, "is well")

    monkeypatch.setattr(doctor, "CHECKS", (breaks, good))
    assert doctor.main() == 1
    told = capsys.readouterr().out
    assert "PROBLEM  breaks" in told and "ok       two" in told and "geheim" not in told


@pytest.mark.slow
def test_packages_that_differ_from_the_lock_are_named(monkeypatch, tmp_path):
    lock = tmp_path / "requirements.lock"
    monkeypatch.setattr(doctor, "LOCK", lock)
    lines = [
        f"pytest=={version('pytest')} \\",
        "    --hash=sha256:00",
        "no-such==1 ; os_name == 'x'",
    ]
    lock.write_text("\n".join(lines))
    assert is_ok(doctor.packages())
    lock.write_text("\n".join([*lines, "NumPy==0.1 \\", "no_such.package==1 ; os_name != 'x'"]))
    found = doctor.packages()
    assert is_problem(found, "2 of 3 differ", "no-such-package is missing, expected 1", "install")
    assert f"numpy is {version('numpy')}, expected 0.1" in found.what


def database(outputs, revision):
    outputs.mkdir()
    with sqlite3.connect(outputs / "mlflow.db") as made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES (?)", [revision])
    made.close()
    return outputs / "mlflow.db"


@pytest.mark.slow
def test_tracking_database_is_well_when_it_opens_and_is_current(outputs):
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert is_warning(doctor.tracking(), "not there yet")
    database(outputs, _get_latest_schema_revision())
    assert is_ok(doctor.tracking())


def test_tracking_database_of_another_version_is_a_problem(outputs):
    database(outputs, "0123456789ab")
    assert is_problem(doctor.tracking(), "found version 0123456789ab", "mlflow db upgrade")


def test_tracking_database_that_is_locked_is_a_problem(outputs):
    path = database(outputs, "a")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert is_problem(doctor.tracking(), "database is locked", f"fuser {path}")
    holder.close()


def test_tracking_database_that_is_damaged_is_a_problem(outputs):
    outputs.mkdir()
    (outputs / "mlflow.db").write_bytes(b"no database " * 100)
    assert is_problem(doctor.tracking(), "file is not a database", "backup")


def test_tracking_database_without_tables_is_a_problem(outputs):
    outputs.mkdir()
    sqlite3.connect(outputs / "mlflow.db").close()
    (outputs / "mlflow.db").touch()
    assert is_problem(doctor.tracking(), "found version None", "mlflow db upgrade")


def test_tracking_database_that_cannot_be_written_is_a_problem(outputs, monkeypatch):
    path = database(outputs, "a")
    connect = sqlite3.connect

    def read_only(place, *given, **options):
        return connect(f"file:{place}?mode=ro", *given, uri=True, **options)

    monkeypatch.setattr(doctor.sqlite3, "connect", read_only)
    assert is_problem(doctor.tracking(), "readonly database", f"write to {path}")


@pytest.mark.slow
def test_tracking_server_is_asked(monkeypatch):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert is_ok(doctor.tracking())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/other")
    assert is_problem(doctor.tracking(), "404")
    server.shutdown()
    server.server_close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert is_problem(doctor.tracking(), "refused", "start what MLFLOW_TRACKING_URI names")


def test_aliases_that_are_not_where_the_ledger_says_are_a_problem(monkeypatch):
    from lib.registry import lifecycle

    said = []
    monkeypatch.setattr(
        doctor, "tracking", lambda: doctor.Finding("tracking", doctor.OK, "is well")
    )
    monkeypatch.setattr(lifecycle, "troubles", lambda: said)
    assert is_ok(doctor.registry())
    said.append("house: @production points to version 3, the ledger says version 2")
    assert is_problem(doctor.registry(), "house: @production points to version 3", "make reconcile")


def test_registry_is_not_asked_where_tracking_is_not_well(outputs):
    database(outputs, "0123456789ab")
    assert is_warning(doctor.registry(), "not looked at")
    assert [path.name for path in outputs.iterdir()] == ["mlflow.db"]


@pytest.fixture
def airflow_says(monkeypatch):
    """What Airflow says in its own process, to be changed by the test."""
    said = {"database": "", "errors": {}, "dags": ["power"]}
    monkeypatch.setattr(doctor, "ask", lambda failure, *arguments: json.dumps(said))
    return said


def test_missing_database_of_airflow_is_a_warning(outputs):
    assert is_warning(doctor.airflow(), "make run")


def test_what_airflow_says_of_its_database_and_of_dag_files_is_told(outputs, airflow_says):
    (outputs / ".airflow").mkdir(parents=True)
    (outputs / ".airflow" / "ready").touch()
    assert is_ok(doctor.airflow())
    airflow_says["database"] = "TimeoutError: There are still unapplied migrations"
    assert is_problem(doctor.airflow(), "unapplied migrations", "make up migrates the database")
    airflow_says["errors"] = {"/x/dags/power.py": "ImportError: no lib.dog"}
    assert is_problem(doctor.airflow(), "power.py: ImportError: no lib.dog", "mend the files")


def test_little_space_is_a_warning_and_none_a_problem(monkeypatch):
    for free, is_expected in ((9e9, is_warning), (9e8, is_problem)):
        monkeypatch.setattr(
            doctor.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free)
        )
        assert is_expected(doctor.disk(), f"{free / 1e9:.1f} GB free", "prune")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e11))
    assert is_ok(doctor.disk())


def test_outputs_that_cannot_be_written_are_a_problem(monkeypatch, outputs):
    assert is_ok(doctor.storage())
    outputs.touch()
    assert is_problem(doctor.storage(), f"{outputs} is no folder of this user's", "OUTPUTS_DIR")
    monkeypatch.setenv("OUTPUTS_DIR", str(outputs.parent))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert is_problem(doctor.storage(), str(outputs.parent), "may write to")


@pytest.mark.kernel
def test_how_kernels_start_is_told(monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    monkeypatch.setenv("WARM_KERNELS", "0")
    found = doctor.kernel()
    assert is_ok(found) and "WARM_KERNELS=0" in found.what
    monkeypatch.setattr(provisioner, "_told", set())
    monkeypatch.setattr(provisioner, "IDLE_S", 3)
    monkeypatch.setenv("WARM_KERNELS", "1")
    found = doctor.kernel()
    assert is_ok(found) and "forked from a warm process in" in found.what
    monkeypatch.setattr(provisioner, "WARM", str(tmp_path / "none.py"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # means another warm process, which cannot start
    assert is_warning(doctor.kernel(), "ends as soon as it is asked", "WARM_KERNELS=0")


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_a_kernel_that_dies_or_is_silent_is_a_problem(monkeypatch, tmp_path):
    script = tmp_path / "kernel.py"
    monkeypatch.setattr(engine, "__file__", str(tmp_path / "engine.py"))
    script.write_text("raise SystemExit(3)")
    assert is_problem(doctor.kernel(), "the kernel did not start", "make clean install")
    monkeypatch.setattr(engine, "START_S", 2)
    script.write_text("import time; time.sleep(60)")
    assert is_problem(doctor.kernel(), "did not start")


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_a_prepared_machine_is_well_until_airflow_is_broken(monkeypatch, tmp_path, capsys):
    prepare()
    assert doctor.main() == 0, capsys.readouterr().out
    assert f"ok       {'kernel':<11} answers in" in capsys.readouterr().out

    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "broken.py").write_text("from airflow.sdk import DAG\nimport no_such_module\n")
    with sqlite3.connect(Path(services.airflow_settings()["AIRFLOW_HOME"]) / "airflow.db") as base:
        base.execute("UPDATE alembic_version SET version_num = '937cbd173ca1'")
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    reason = "broken.py: ModuleNotFoundError: No module named 'no_such_module'"
    assert is_problem(doctor.airflow(), reason, "unapplied migrations")
