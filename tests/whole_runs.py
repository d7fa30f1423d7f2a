"""What tests of whole runs share: run a DAG, look at what it left, kill a kernel."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lib import tracking
from lib.commands import services
from lib.ground import layout, outcome
from lib.ground.files import ROOT, outputs_dir, state_dir
from lib.ground.runs import run_folder_name
from lib.once.choice import OPTIONS
from lib.run import open_run

import psutil
import pytest

TOY = ROOT / "tests" / "toy"  # a pipeline of two short stages, for `PIPELINES_DIR`
SMALL_TICK = {"sample_ticks": 8_000, "control_ticks": 8_000, "bar_size": 15.0, "window": 20}
SMALL_TICK |= {"epochs": 1}
SMALL_MNIST = {"model": "simple", "epochs": 4, "width": 16, "batch_size": 50, "n_validation": 200}
SMALL_MNIST |= {"n_baseline": 1000, "min_accuracy": 0.9}
SMALL_CIFAR = {"epochs": 3, "small_epochs": 1, "width": 8, "batch_size": 50, "batches_per_step": 2}
SMALL_CIFAR |= {"n_validation": 200, "n_baseline": 500, "min_accuracy": 0.5, "source": "sample"}


def prepare(folder=None):
    """Make the databases of Airflow and MLflow below `folder`, by default where runs go."""
    place = state_dir() if folder is None else Path(folder)
    new_store(place)
    ready = place / ".airflow" / "ready"
    if not ready.exists():
        _copy(".airflow/airflow.db", services.prepare, place)
        ready.touch()


def new_store(folder):
    """Make MLflow's database below `folder`, if there is none."""
    if not Path(folder, "mlflow.db").exists():
        _copy("mlflow.db", tracking.open_client, Path(folder))


def _copy(file, make, place):
    """Put a database below `place`: a copy of one that is made once, by `make`, for all tests.

    To make one takes as long as a run.
    """
    shared = Path(os.environ["PIPELINES_SHARED"])
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = shared / f"{Path(file).stem}.made"
        if not made.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OUTPUTS_DIR", str(shared / "making"))
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)
                make()
            made.touch()
    (place / file).parent.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(shared / "making" / file)) as source,
        closing(sqlite3.connect(place / file)) as copy,
    ):
        source.backup(copy)  # in contrast to a copied file, open connections take notice


def impatient(pipeline):
    """Return the DAG of `pipeline`, with no wait before a retry."""
    from lib.dag.dagrun import load_bag

    dag = load_bag(pipeline).dags[pipeline]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    return dag


def go(dag, **params):
    """Run `dag` and return the state of the run, its tasks and its folder."""
    from lib.dag.dagrun import configuration

    named = {k: v for k, v in params.items() if k not in ("horizont", *OPTIONS)}
    known = configuration(dag.dag_id, named)
    known |= {"force": True} | params  # by default nothing is taken from an earlier run
    done = dag.test(run_conf=known)
    tasks = {t.task_id: t for t in done.get_task_instances()}
    run = open_run(f"{dag.dag_id}/{run_folder_name(done.run_id)}")
    return done, tasks, run


def register_again(dag, earlier, **params):
    """Run the last stage and the promotion on a copy of a run; return as `go`."""
    (register,) = [name for name in dag.task_dict if name.endswith("_register")]
    return resume(dag, earlier, register, **params)


def resume(dag, earlier, first, **params):
    """Run the stages from `first` on with a copy of what a run has made before; return as `go`."""
    from lib.dag.dagrun import configuration

    moment = datetime.now(UTC)
    run = copied(earlier, first, f"manual__{moment.isoformat()}")
    values = {
        name: value
        for record in earlier.records().values()
        for name, value in record["parameters"].items()
        if name != "run_dir"
    }
    done = dag.test(
        run_conf=configuration(dag.dag_id, values | params) | {"force": True},
        mark_success_pattern="|".join(name for name in dag.task_dict if name < first),
        logical_date=moment,
        run_after=moment,
    )
    assert run_folder_name(done.run_id) == run.name
    return done, {t.task_id: t for t in done.get_task_instances()}, run


def copied(earlier, first, name):
    """Return a copy of a run, called `name`, without what its stages from `first` on have made.

    The copy is another run to the registry: with a folder, a model and an MLflow run of its own.
    """
    run = open_run(f"{earlier.pipeline}/{run_folder_name(name)}")
    again = [stage for stage in layout.planned(earlier.pipeline) if stage >= first]
    made = [name for stage in again for name in earlier.record(stage).get("writes", {})]
    left_out = [f"{stage}*" for stage in again] + made
    left_out += ["mlflow.json", "run.json", "promotion.json", "report.html", "summary.json"]
    shutil.copytree(earlier.path.path, run.path.path, ignore=shutil.ignore_patterns(*left_out))
    return run


def asset_events(done):
    """Return name and content of every asset event that a DAG run has caused."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(AssetEvent).where(
        AssetEvent.source_dag_id == done.dag_id, AssetEvent.source_run_id == done.run_id
    )
    with create_session() as session:
        return [(event.asset.name, event.extra) for event in session.scalars(query)]


def report(run, stage):
    """Return an executed notebook's state and its page's text."""
    notebook = outcome.read_notebook(run.path / f"{stage}.ipynb")
    return outcome.state(notebook), (run.path / f"{stage}.html").read_text()


def errors(run, stage):
    """Return what became of every attempt at a stage, a line or more each, to say why it failed."""
    told = []
    for path in sorted(run.path.glob(f"{stage}*.ipynb")):
        notebook = outcome.read_notebook(path)
        record = {k: v for k, v in notebook["metadata"]["papermill"].items() if k != "parameters"}
        marks = [outcome.source_text(c) for c in notebook["cells"] if outcome.is_marker(c)]
        told.append(f"{path.name}: {outcome.state(notebook)} {record} {marks}")
    return "\n".join(told)


def lines_of_training(run):
    """Return what training has printed of its epochs in its last report."""
    notebook = outcome.read_notebook(run.path / "03_train.ipynb")
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", ()) if "text" in o]
    text = "".join("".join(output["text"]) for output in outputs)
    return [line.split(": loss")[0] for line in text.splitlines() if ": loss" in line]


def kernels():
    """Yield the kernels that this process has started and that still run."""
    own = f"/kernel-{os.getpid()}-"  # in the name of the folder of its sockets
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone since it was listed
            command = " ".join(process.cmdline())
            if "lib/machine/kernel.py" in command and own in command:
                yield process


@contextlib.contextmanager
def kernel_killed_in(pipeline, stage, ready=lambda folder: True):
    """Kill the kernel once while `stage` of a run that starts now is under way; gives its pid.

    `ready` is given the run's folder and says whether the time has come.
    """
    before = set((outputs_dir() / pipeline).glob("*"))
    killed, over = [], threading.Event()

    def is_time(folder):
        record = folder / "stages" / f"{stage}.json"
        try:
            running = record.exists() and json.loads(record.read_text())["state"] != "finished"
            return running and ready(folder)
        except (OSError, ValueError):  # a file is just being written
            return False

    def watch():
        while not killed and not over.wait(0.02):
            for folder in set((outputs_dir() / pipeline).glob("*")) - before:
                if is_time(folder):
                    for process in kernels():
                        process.send_signal(signal.SIGKILL)
                        killed.append(process.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def mlflow_run(run):
    return tracking.open_client().get_run(tracking.link(run)["run_id"])


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")
