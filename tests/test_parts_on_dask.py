"""Stages by parts on a Dask cluster of real processes: the same bits, also when one is killed."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from lib import parts
from lib.run import open_run

import pytest
from serving import executed_here

distributed = pytest.importorskip("distributed", reason="no distributed: make .venv/cluster")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TICKS = {"sample_ticks": 2_000, "train_days": 4, "control_ticks": 1_000, "n_phases": 2}


@pytest.fixture(scope="module")
def client():
    """A scheduler with two workers."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(host="127.0.0.1", **options) as cluster:
        with distributed.Client(cluster, set_as_default=False) as client:
            yield client


def kill_at(module, name, mark, number):
    """Let a worker be killed when it calls a function for the nth time, one worker only."""
    import importlib

    holder, calls = importlib.import_module(module), []
    function = getattr(holder, name)

    def mortal(*given, **options):
        calls.append(None)
        if len(calls) == number:
            with suppress(FileExistsError):  # another one was the first
                Path(mark).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **options)

    setattr(holder, name, mortal)


def stages(run_dir, **params):
    """Run the first two stages of tick; return the digests of all that they wrote but figures."""
    for stage in ("01_load", "02_features"):
        executed_here(run_dir, stage, **TICKS, **params)
    written = {}
    for record in open_run(run_dir).records().values():
        written |= record["writes"]
    return {name: digest for name, digest in written.items() if not name.endswith(".png")}


def test_stages_whose_workers_are_killed_write_the_same_bits(client, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    here = stages("tick/here")
    monkeypatch.setenv("DASK_SCHEDULER", client.scheduler.address)
    marks = [str(tmp_path / "load"), str(tmp_path / "bars")]
    client.run(kill_at, "lib.tick.load", "write_days", marks[0], 2)
    client.run(kill_at, "lib.tick.bars", "to_bars", marks[1], 2)
    assert stages("tick/cluster") == here
    assert all(Path(mark).exists() for mark in marks), "nobody was killed"


def fail(number):
    raise TypeError("cannot be")


def test_error_of_a_worker_names_its_part_and_other_code_is_refused(client, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER", client.scheduler.address)
    with pytest.raises(RuntimeError, match="^7: TypeError: cannot be$"):
        list(parts.map(fail, [7]))
    monkeypatch.setattr(parts, "code", lambda: "another commit")
    with pytest.raises(
        RuntimeError, match="^7: RuntimeError: .* and the stage another commit: bring"
    ):
        list(parts.map(fail, [7]))


def test_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER", "tcp://127.0.0.1:9")
    monkeypatch.setattr(parts, "WAIT_S", 1)
    with pytest.raises(RuntimeError, match="tcp://127.0.0.1:9, and no scheduler answers there"):
        list(parts.map(fail, [7]))
