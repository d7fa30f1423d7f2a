"""Whole runs through Airflow: what reaches the run folder, MLflow and the registry, and faults.

Every fault must end red, leave a report that says why, register nothing, and be gone when the
run is made again without it.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from lib import judged, outcome, tracking
from lib.commands import reproduce, services
from lib.registry import lifecycle
from lib.run import ROOT, data_dir, outputs_dir

import mlflow
import pandas as pd
import pytest
from upath import UPath
from whole_runs import (
    asset_events,
    go,
    impatient,
    kernel_killed_in,
    mlflow_run,
    register_again,
    report,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
HOURLY = data_dir() / "power" / "household_power_hourly.csv.gz"
SAMPLE = {"source": "sample"}


@pytest.fixture(scope="module", autouse=True)
def airflow():
    services.prepare()


@pytest.fixture
def power():
    return impatient("power")


def n_versions(name="household_power_lightgbm_sample"):
    return len(tracking.open_client().search_model_versions(f"name = '{name}'"))


def test_command_line_runs_the_sample_and_says_where_everything_is():
    params = {"model_name": "power_by_command"}  # the first of its name, so it is promoted
    done = subprocess.run(
        [sys.executable, "-m", "lib.commands.cli", "run", "power", "--params", json.dumps(params)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = sorted(p.stem for p in (ROOT / "notebooks/power").glob("[0-9]*.ipynb"))
    assert all(f"{stage} " in done.stdout for stage in stages)
    assert done.stdout.count(" ok ") == len(stages) + 1, "the stages, and the promotion"
    assert "verdict  rmse_vs_persistence" in done.stdout
    assert "promote  promoted: " in done.stdout
    assert os.environ["OUTPUTS_DIR"] in done.stdout
    assert "power_by_command_sample version 1, models:/power_by_command_sample@production" in (
        done.stdout
    )
    assert "/report.html\n" in done.stdout
    assert "1 of 1 passed" in done.stdout


@pytest.fixture(scope="module")
def sample():
    """A run of the sample as by hand in Airflow, without a logical date: state, tasks, folder."""
    before = n_versions()
    return *go(impatient("power"), logical_date=None), before


def test_sample_run_leaves_folder_mlflow_run_and_staging_model(sample):
    done, tasks, run, before = sample
    assert done.state == "success" and done.logical_date is None
    assert tasks.pop("promote").state in ("success", "skipped"), "as other runs have left it"
    for stage in tasks:
        state, page = report(run, stage)
        assert state == "completed"
        assert "<html" in page and 'src="http' not in page
        assert run.record(stage)["state"] == "finished"
    metrics = run.read("metrics.json")
    logged = mlflow_run(run)
    assert logged.info.status == "FINISHED"
    assert {k: logged.data.metrics[k] for k in metrics} == pytest.approx(metrics)
    assert metrics["rmse"] < metrics["persistence_rmse"]
    for stage in tasks:
        assert logged.data.metrics[f"{stage}_seconds"] > 0
        assert logged.data.metrics[f"{stage}_peak_memory_mb"] > 50
    assert logged.data.params["source"] == "sample" and "run_dir" not in logged.data.params
    assert logged.data.tags["airflow_run"] == done.run_id
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.digest == run.read("dataset.json")["digest"][:36]
    client = tracking.open_client()
    pages = {f.path for f in client.list_artifacts(logged.info.run_id, "notebooks")}
    assert pages == {f"notebooks/{s}.{e}" for s in tasks for e in ("ipynb", "html")}
    assert client.list_artifacts(logged.info.run_id, "figures")
    assert "report.html" in {f.path for f in client.list_artifacts(logged.info.run_id)}
    page = (run.path / "report.html").read_text()
    assert '<section class="verdict passed">' in page and tracking.link(run)["run_id"] in page
    assert f'"power","{run.name}","passed"' in (outputs_dir() / "index.html").read_text()
    assert n_versions() == before + 1
    version = lifecycle.version("household_power_lightgbm_sample", "@staging")
    assert version.tags["run_dir"] == run.run_dir


def test_registered_model_forecasts_what_the_notebook_evaluated(sample):
    run = sample[2]
    model = mlflow.pyfunc.load_model(run.read("registration.json")["uri"])
    raw = run.read("raw.parquet").reset_index()
    columns = model.metadata.get_input_schema().input_names()
    made = model.predict(raw[columns]).set_index("ts")["power_kw"]
    evaluated = judged.by_time(judged.read(run)[0]["model"])
    both = pd.concat([made.rename("made"), evaluated.rename("evaluated")], axis=1).dropna()
    assert len(both) > 100
    assert both["made"].to_numpy() == pytest.approx(both["evaluated"].to_numpy(), abs=1e-6)


# What becomes of a version --------------------------------------------------------------------

GATED = "power_gated_sample"


@pytest.fixture(scope="module")
def weak():
    """A run whose model, which has learned for a short time only, is the first of its name."""
    values = {"n_trials": 2, "objective": "regression_l1", "max_rounds": 20}
    return go(impatient("power"), model_name="power_gated", **values)


def events(done):
    return [(name, extra["version"]) for name, extra in asset_events(done)]


def test_first_version_enters_production_with_a_record_and_an_event(weak):
    done, tasks, run = weak
    assert done.state == "success" and tasks["promote"].state == "success"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert (decision["outcome"], made["alias"], made["version"]) == ("first", "production", 1)
    entry = lifecycle.history(GATED)[-1]
    assert (entry.alias, entry.before, entry.after) == ("production", None, 1)
    assert entry.run_dir == run.run_dir and entry.done
    assert events(done) == [("models/power", 1)]


def test_better_version_takes_over_and_the_page_shows_by_how_much(weak, sample, power):
    done, tasks, run = register_again(power, sample[2], model_name="power_gated")
    assert tasks["promote"].state == "success"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert decision["outcome"] == "better" and decision["champion"]["version"] == 1
    (rmse,) = [row for row in decision["rows"] if row["decisive"]]
    assert rmse["metric"] == "rmse" and rmse["high"] < 0
    assert rmse["champion"] == pytest.approx(weak[2].read("metrics.json")["rmse"])
    assert rmse["candidate"] == pytest.approx(run.read("metrics.json")["rmse"])
    assert (made["alias"], made["version"], lifecycle.champion(GATED)) == ("production", 2, 2)
    assert lifecycle.version(GATED, 1).tags["archived"]
    assert events(done) == [("models/power", 2)]
    page = (run.path / "report.html").read_text()
    assert "version 1" in page and "better" in page


def test_worse_version_stops_at_staging_and_the_champion_stays(weak, sample, power):
    champion = lifecycle.champion(GATED)
    done, tasks, run = register_again(power, weak[2])
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision, made = run.read("gate.json"), run.read("registration.json")
    assert (decision["outcome"], made["alias"]) == ("not_better", "staging")
    assert lifecycle.champion(GATED) == champion and not events(done)
    assert int(lifecycle.version(GATED, "@staging").version) == made["version"]
    assert json.loads((run.path / "promotion.json").read_text())["outcome"] == "kept"


@pytest.mark.parametrize(("policy", "alias"), [("staging", "staging"), ("never", "")])
def test_policy_that_stops_before_production_stops(weak, sample, power, policy, alias):
    before = lifecycle.version(GATED, "@staging").version
    done, tasks, run = register_again(power, sample[2], model_name="power_gated", promote=policy)
    assert done.state == "success" and tasks["promote"].state == "skipped"
    made = run.read("registration.json")
    assert (made["alias"], made["policy"]) == (alias, policy)
    moved = lifecycle.version(GATED, "@staging").version != before
    assert moved == (policy == "staging") and not events(done)


def test_approval_by_command_line_says_how_to_decide(weak, sample, power):
    done, tasks, run = register_again(
        power, sample[2], model_name="power_gated", promote="approval"
    )
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision = json.loads((run.path / "promotion.json").read_text())
    version = run.read("registration.json")["version"]
    assert decision["outcome"] == "waiting"
    assert f"make promote MODEL={GATED} VERSION={version} REASON=" in decision["reason"]


def test_champion_that_no_longer_loads_leaves_the_decision_to_a_person(weak, sample, power):
    name = "power_lost"
    first = register_again(power, weak[2], model_name=name)
    assert first[1]["promote"].state == "success"
    version = lifecycle.version(f"{name}_sample", "@production")
    folder = Path(tracking.open_client().get_model_version_download_uri(version.name, 1))
    (folder / "MLmodel").write_text("damaged")
    done, tasks, run = register_again(power, sample[2], model_name=name)
    assert done.state == "success" and tasks["promote"].state == "skipped"
    decision = run.read("gate.json")
    assert decision["outcome"] == "undecided" and "cannot be loaded" in decision["reason"]
    assert lifecycle.champion(version.name) == 1
    assert "cannot be loaded" in (run.path / "report.html").read_text()


# Runs made again, real data, faults -----------------------------------------------------------


def test_sample_run_is_made_again_to_the_last_digit(sample, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    shutil.copytree(sample[2].path.path, tmp_path / "power/then")
    start = tmp_path / "power/then/run.json"
    if "+" in json.loads(start.read_text())["commit"]:
        start.unlink()  # where somebody works on the files, take them as they are
    status = reproduce.main("power/then")
    said = capfd.readouterr().out
    assert status == 0 and "REPRODUCED: all" in said and "float noise" not in said, said


@pytest.mark.real
@pytest.mark.skipif(not HOURLY.exists(), reason="no real data")
def test_real_hourly_data_reach_the_registry_under_the_real_name(power):
    done, _, run = go(power, source=str(HOURLY), n_trials=4, n_models=2, min_voltage_v=0)
    assert done.state == "success"
    metrics = run.read("metrics.json")
    assert metrics["rmse"] < 0.74 * metrics["persistence_rmse"]
    assert metrics["persistence_rmse"] == pytest.approx(0.591, abs=0.002)
    registered = run.read("registration.json")
    assert registered["name"] == "household_power_lightgbm"
    assert mlflow_run(run).data.tags["source"].endswith("household_power_hourly.csv.gz")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"horizont": 3}, "power has no parameter 'horizont'"),
        ({"run_dir": "power/mine"}, "power has no parameter 'run_dir'"),
        ({"horizon": 0}, "in 1..168"),
        ({"horizon": "1"}, "type int"),
    ],
)
def test_bad_parameter_starts_nothing(params, reason):
    before = {path.name for path in (outputs_dir() / "power").glob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "lib.commands.cli", "run", "power", "--params", json.dumps(params)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert reason in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in (outputs_dir() / "power").glob("*")} == before


def test_unknown_parameter_of_a_triggered_run_fails_before_a_kernel_starts(power):
    done, tasks, run = go(power, horizont=3)
    assert done.state == "failed"
    assert tasks["01_load"].state == "failed" and tasks["01_load"].try_number == 1
    state, page = report(run, "01_load")
    assert state == "failed" and "power has no parameter 'horizont'" in page
    assert "power has no parameter &#x27;horizont&#x27;" in (run.path / "report.html").read_text()
    assert not (run.path / "stages").exists()


def test_truncated_input_file_fails_the_first_stage_with_file_and_reason(power, tmp_path):
    from lib.power.sample import sample_power, write_uci_text

    path = tmp_path / "power.txt"
    write_uci_text(sample_power(n_days=40, seed=1), path)
    path.write_bytes(path.read_bytes()[:-20])
    before = n_versions("household_power_lightgbm")
    done, tasks, run = go(power, source=str(path))
    assert done.state == "failed"
    assert tasks["01_load"].try_number == 1, "an error of the notebook's own is not tried again"
    state, page = report(run, "01_load")
    assert state == "failed" and "power.txt" in page
    assert "failed" in tasks["02_features"].state
    assert n_versions("household_power_lightgbm") == before
    assert mlflow_run(run).info.status == "FAILED"


def test_kernel_killed_in_training_is_tried_again_and_both_reports_stay(power):
    with kernel_killed_in("power", "04_train") as killed:
        done, tasks, run = go(power)
    assert killed, "the test found no kernel to kill"
    assert done.state == "success"
    assert tasks["04_train"].try_number == 2
    first = outcome.read_notebook(run.path / "04_train.attempt-1.ipynb")
    assert outcome.state(first) == "failed" and "Execution failed" in first["cells"][0]["source"]
    assert (run.path / "04_train.attempt-1.html").exists()
    assert report(run, "04_train")[0] == "completed"
    client = tracking.open_client()
    found = client.search_runs(
        [tracking.link(run)["experiment_id"]], f"tags.run_dir = '{run.run_dir}'"
    )
    assert len(found) == 1 and found[0].info.status == "FINISHED"


def test_notebook_over_its_time_limit_fails_with_the_limit_and_registers_nothing(power):
    before = n_versions()
    power.task_dict["03_tune"].timeout = timedelta(seconds=2)
    done, tasks, run = go(power, n_trials=500)
    assert done.state == "failed" and tasks["03_tune"].try_number == 1
    state, page = report(run, "03_tune")
    assert state == "failed" and "StageTimeoutError" in page
    assert n_versions() == before and mlflow_run(run).info.status == "FAILED"


def test_model_below_its_floor_is_red_and_not_registered(power):
    before = n_versions()
    done, tasks, run = go(power, max_rmse_vs_persistence=0.1)
    assert done.state == "failed" and tasks["06_register"].state == "failed"
    assert "GateError" in report(run, "06_register")[1]
    assert "rmse_vs_persistence" in report(run, "06_register")[1]
    assert n_versions() == before


def test_unwritable_run_folder_is_red_and_named(power, monkeypatch, tmp_path):
    from lib.dag.account import Account

    from airflow.sdk.listener import get_listener_manager

    account = Account(io.StringIO())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri())
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "file"))
    get_listener_manager().add_listener(account)
    try:
        done = power.test(run_conf=SAMPLE)
    finally:
        get_listener_manager().pm.unregister(account)
    assert done.state == "failed"
    text = account.console.getvalue()
    assert text.count(f"cannot write to the run folder {tmp_path}/file/power/") == 3, text


def test_two_runs_at_once_both_pass_and_share_nothing():
    command = [sys.executable, "-m", "lib.commands.cli", "run", "power"]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(texts)
    folders = {line.split()[1] for text in texts for line in text.splitlines() if "report" in line}
    assert len(folders) == 2


def test_killed_task_leaves_a_finished_report(power, tmp_path):
    """SIGKILL to the process that runs the task: the watcher completes the report."""
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "lib.commands.cli",
                "run",
                "power",
                "--params",
                '{"n_trials": 500}',
            ],
            cwd=ROOT,
            stdout=file,
            stderr=file,
        )
    known = set((outputs_dir() / "power").glob("*"))
    running = None
    deadline = time.monotonic() + 200
    while running is None and time.monotonic() < deadline:
        time.sleep(0.2)
        for folder in set((outputs_dir() / "power").glob("*")) - known:
            if (folder / "stages/03_tune.json").exists():
                running = folder
    assert running, log.read_text()
    time.sleep(1)
    process.kill()
    process.wait()
    path = Path(str(running)) / "03_tune.ipynb"
    deadline = time.monotonic() + 30
    while outcome.state(outcome.read_notebook(path)) == "running":
        assert time.monotonic() < deadline, "the report still says that it is running"
        time.sleep(0.2)
    notebook = outcome.read_notebook(path)
    assert outcome.state(notebook) == "failed" and "SIGKILL" in json.dumps(notebook)
    page = Path(str(running)) / "report.html"
    while "SIGKILL" not in page.read_text():
        assert time.monotonic() < deadline, "the page of the run does not say what happened"
        time.sleep(0.2)


def test_run_folder_on_s3_holds_the_same_run(bucket, tmp_path):
    """Runs a copy of the project, whose databases and scratch files lie beside it."""
    for part in ("lib", "dags", "notebooks", "plugins"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MLFLOW"))}
    environment |= {"OUTPUTS_DIR": f"s3://{bucket}/outputs", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "lib.commands.cli", "run", "power", "--params", '{"n_trials": 2}'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = UPath(f"s3://{bucket}/outputs/power").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"01_load.ipynb", "06_register.html", "metrics.json", "model", "raw.parquet"} <= names
    assert outcome.state(outcome.read_notebook(folder / "06_register.ipynb")) == "completed"
    assert not list((tmp_path / "outputs").glob("power/*"))
    known = json.loads((folder / "mlflow.json").read_text())
    client = mlflow.MlflowClient(known["tracking_uri"])
    artifacts = client.get_run(known["run_id"]).info.artifact_uri
    assert artifacts.startswith(f"s3://{bucket}/outputs/.mlflow/")
