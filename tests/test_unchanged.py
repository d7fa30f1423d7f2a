"""Runs in which nothing has changed: made without Airflow, and the same to whoever looks."""

import importlib
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from lib import tracking
from lib.dag import dagrun, unchanged
from lib.dag.database import Result, Twin, ask
from lib.ground.files import outputs_dir
from lib.ground.folder import look_at
from lib.ground.runs import run_folder_name
from lib.pages import run_index
from lib.pages.summary import summarise

import pytest
from late import Late
from whole_runs import mlflow_run

sdk, form = Late("airflow.sdk"), Late("lib.dag.form")
TABLES = ("dag_run", "task_instance", "xcom", "rendered_task_instance_fields", "log")
OWN = {  # columns in which two runs of the same DAG differ, or that say when and where
    *("id", "run_id", "dag_run_id", "logical_date", "conf", "context_carrier", "dttm", "timestamp"),
    *("run_after", "data_interval_start", "data_interval_end", "last_scheduling_decision"),
    *("created_at", "updated_at", "start_date", "end_date", "duration", "scheduled_dttm"),
    *("last_heartbeat_at", "value"),
}


@pytest.fixture(scope="module")
def executed(place):
    """The folder of a run that was executed, by Airflow, in a process younger than `place`."""
    young = SimpleNamespace(Process=lambda: SimpleNamespace(create_time=lambda: time.time() + 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unchanged, "psutil", young)
        assert dagrun.run_dag("toy", {"n": 40}, sys.stdout) == "passed"
        yield newest()


def newest():
    found = max((outputs_dir() / "toy").glob("manual*"), key=lambda path: path.name)
    return look_at(f"toy/{found.name}")


def rows(table, run):
    """Return what Airflow's database holds of a run, without what is its own."""
    names = [name for _, name, *_ in ask(f"PRAGMA table_info({table})")]
    run_id = next(i for (i,) in ask("SELECT run_id FROM dag_run") if run_folder_name(i) == run.name)
    found = ask(f"SELECT * FROM {table} WHERE run_id = ?", run_id)
    kept = [{n: v for n, v in zip(names, row, strict=True) if n not in OWN} for row in found]
    return sorted(map(str, kept))


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_run_looks_to_everybody_as_if_airflow_had_made_it(executed, cli, monkeypatch):
    monkeypatch.setattr(unchanged, "make", lambda *_: False)
    cli("run", "toy", "--params", '{"n": 40}')
    long = newest()
    monkeypatch.undo()
    monkeypatch.setattr(dagrun, "_test", lambda *_: pytest.fail("Airflow made the run"))
    said = cli("run", "toy", "--params", '{"n": 40}')
    short = newest()
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(f"taken from {executed.run_dir}, executed at") == 2
    assert f"  MLflow   run {tracking.link(short)['run_id']}" in said.stdout
    assert short.name > long.name > executed.name
    for table in TABLES:
        assert rows(table, short) == rows(table, long) != [], table
    assert summarise(short)["state"] == "passed"
    assert {p.name for p in short.path.iterdir()} == {p.name for p in long.path.iterdir()}
    mine, others = mlflow_run(short), mlflow_run(long)
    assert mine.info.status == "FINISHED" and mine.data.metrics == others.data.metrics
    assert mine.data.params == others.data.params
    assert mine.data.tags.keys() == others.data.tags.keys()
    assert {long.name, short.name} <= {row["name"] for row in run_index.read_rows()}
    (value,) = ask(
        "SELECT value FROM xcom WHERE task_id = ? AND value LIKE ?", "02_judge", f"%{short.name}%"
    )
    assert value == (f'"{short.run_dir}/02_judge.html"',)


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_stage_that_cannot_be_taken_leaves_nothing_and_airflow_makes_the_run(
    executed, monkeypatch, capsys
):
    damaged = [path for path in (outputs_dir() / "toy").glob("*/metrics.json")]
    kept = {path: path.read_bytes() for path in damaged}
    for path in damaged:
        path.unlink()
        path.write_bytes(b"{}")
    before = (
        ask("SELECT count(*) FROM dag_run"),
        {p.name for p in (outputs_dir() / "toy").iterdir()},
    )
    make, ways = unchanged._make, []
    monkeypatch.setattr(unchanged, "_make", lambda *given: ways.append("short") or make(*given))
    monkeypatch.setattr(dagrun, "_test", lambda *_: ways.append("long") or "failed")
    assert dagrun.run_dag("toy", {"n": 40}, sys.stdout) == "failed"
    after = ask("SELECT count(*) FROM dag_run"), {p.name for p in (outputs_dir() / "toy").iterdir()}
    for path, content in kept.items():
        path.write_bytes(content)
    assert ways == ["short", "long"] and before == after
    assert "02_judge" not in capsys.readouterr().out.split("source")[1].split("report")[0]


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_interrupt_closes_the_run_in_airflow_too(executed, monkeypatch):
    monkeypatch.setattr(unchanged, "_make", lambda *_: signal.raise_signal(signal.SIGINT))
    console = os.fdopen(os.dup(1), "w")
    assert dagrun.run_dag("toy", {"n": 40}, console) == "cancelled"
    (state,) = ask("SELECT state FROM dag_run ORDER BY logical_date DESC LIMIT 1")
    assert state == ("failed",)


@pytest.mark.kernel
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["setting", "option", "template", "airflow", "dag"])
def test_what_has_changed_takes_the_long_way(executed, place, monkeypatch, what):
    went = []
    monkeypatch.setattr(dagrun, "_test", lambda *_: went.append(1) or "passed")
    params, options, file = {"n": 40}, {}, place / "dags" / "toy.py"
    if what == "dag":
        os.utime(file)
    elif what == "setting":
        monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT", "1")
    elif what == "option":
        options = {"until_stage": "01_load"}
    elif what == "template":
        monkeypatch.setattr(unchanged, "TEMPLATE", ("s",))
    else:
        monkeypatch.setattr("lib.dag.database.REVISION", "another")
    dagrun.run_dag("toy", params, sys.stdout, options)
    assert went == [1]


def dag(*tasks, **more):
    """Return a DAG of tasks in a row, each made by a function."""
    with sdk.DAG(dag_id="power", schedule=None, **form.DAG_DEFAULTS | more) as made:
        sdk.chain(*[one() for one in tasks]) if len(tasks) > 1 else tasks[0]()
    return made


def load(**more):
    return lambda: form.notebook_task("power/01_load", **more)


def features(**more):
    return lambda: form.notebook_task("power/02_features", **more)


def bringing():
    made = form.notebook_task("power/02_features")
    made.outlets = [sdk.Asset("news")]
    return made


def other():
    return sdk.task(lambda: None, task_id="other")()


KNOWN = {
    "one stage": lambda: dag(load()),
    "stages": lambda: dag(load(), features(pool="small")),
    "promotion": lambda: dag(load(), features(), lambda: form.promotion_task("power")),
}
UNKNOWN = {
    "another task": lambda: dag(load(), other),
    "promotion amid": lambda: dag(lambda: form.promotion_task("power"), load()),
    "side by side": lambda: dag(lambda: [load()(), features()()]),
    "a rule": lambda: dag(load(), features(trigger_rule="all_done")),
    "a callback": lambda: dag(load(), features(on_success_callback=print)),
    "a hook": lambda: dag(load(), features(post_execute=print)),
    "an asset": lambda: dag(load(), bringing),
    "who hears of a run": lambda: dag(load(), on_success_callback=print),
}


@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
def test_only_what_is_known_of_a_dag_is_noted(name, monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    unchanged.note((KNOWN | UNKNOWN)[name](), "manual__1")
    assert unchanged._place("power").exists() == (name in KNOWN)


def test_module_beside_a_dag_file_counts_as_the_dag_file_does(tmp_path, monkeypatch):
    (tmp_path / "values_of_dags.py").write_text("N_TRIALS = 40")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("values_of_dags")
    files = unchanged._files("power")
    del sys.modules["values_of_dags"]
    assert Path(module.__file__) in files and Path(unchanged.__file__) in files
    assert not any("site-packages" in file.parts for file in files)


def test_what_another_checkout_has_noted_counts_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    monkeypatch.setattr(unchanged, "is_as_seen", lambda _: True)
    monkeypatch.setattr(unchanged.keys, "key_of", lambda *_: {"key": ""})
    unchanged.note(dag(load(), features()), "manual__1")
    assert unchanged._look("power", {"source": "sample"})[0]
    monkeypatch.setattr(unchanged.layout, "dag_file", lambda name: tmp_path / f"{name}.py")
    assert not unchanged._look("power", {"source": "sample"})[0]


@pytest.mark.slow
def test_twin_of_a_run_that_is_gone_or_has_other_tasks_is_not_possible(place):
    moment = datetime.now(UTC)
    twin = Twin("toy", "manual__2", "manual__gone", moment, {})
    assert not twin.is_possible([]) and not twin.is_possible(["01_load"])
    twin.begin()
    twin.end({"01_load": Result("success", "", moment, moment + timedelta(seconds=1))})
    assert not ask("SELECT * FROM dag_run WHERE run_id = ?", "manual__2")
