"""What `make run` does: pipelines, run one after another through Airflow.

In this process, with Airflow's own output in a log; or by the scheduler, where one works on the
same database (`make up`).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lib.commands import services
from lib.ground import addresses, layout
from lib.ground.addresses import SCHEDULER
from lib.ground.console import say
from lib.ground.files import outputs_dir, state_dir
from lib.machine import provisioner
from lib.pages.run_index import INDEX

INTERRUPTED = 128 + signal.SIGINT


def run(pipelines: list[str], params: str) -> int:
    """Run pipelines one after another; return the exit status.

    Parameters
    ----------
    pipelines : list of str
        All that register a model when empty.
    params : str
        A JSON object of parameters. Where it names no source, data is "sample".

    Returns
    -------
    int
        0 if all passed, 1 if any failed, 130 if somebody interrupted: the rest is not begun then.

    Raises
    ------
    ValueError
        If `params` is no JSON object, or no notebook declares a parameter of that name, type and
        domain. Nothing has been started then.
    """
    values, names = _json_object(params), choose(pipelines)
    started = time.monotonic()
    services.prepare()
    os.environ.update(services.airflow_settings())
    log = state_dir() / ".logs" / f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    ended: dict[str, str] = {}
    with _console(log) as console:
        if SCHEDULER not in addresses.processes():
            provisioner.prepare([layout.notebook(n, s) for n in names for s in layout.planned(n)])
        from lib.dag import dagrun, scheduling  # Airflow reads its settings, and prints, now

        with scheduling.own_process() as is_own:
            if is_own:
                scheduling.close_ghosts(console.write)
            make = dagrun.run_dag if is_own else dagrun.run_by_scheduler
            for name in names:
                ended[name] = make(name, values, console)
                if ended[name] == "cancelled":
                    break
    states, total = list(ended.values()), time.monotonic() - started
    say(f"\n{states.count('passed')} of {len(names)} passed in {total:.0f} s")
    failed = [name for name in ended if ended[name] == "failed"]
    if failed:
        say(f"failed: {', '.join(failed)}; Airflow's log: {log}")
    say(f"all runs: {outputs_dir() / INDEX}")
    if "cancelled" in states:
        return INTERRUPTED
    return 1 if failed else 0


def choose(asked: list[str]) -> list[str]:
    """Return the `asked` pipelines, or all of those with a DAG file that register a model.

    Raises
    ------
    ValueError
        If there is no such pipeline; names those that there are.
    """
    known = [name for name in layout.pipelines() if layout.dag_file(name).exists()]
    for name in asked:
        if name not in known:
            raise ValueError(f"no pipeline {name!r}; there are {', '.join(known)}")
    return asked or [name for name in layout.pipelines(ending="_register") if name in known]


def _json_object(text: str) -> dict:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"PARAMS is not JSON: {error}; expected for example "
            """PARAMS='{"source": "sample", "horizon": 24}'"""
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"PARAMS is {text}; expected a JSON object, in curly braces")
    return values


@contextmanager
def _console(log: Path) -> Iterator[TextIO]:
    """Send everything that is printed to `log`, also by child processes, and give the console."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    console = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        os.close(kept[0])
        os.close(kept[1])
        console.close()
