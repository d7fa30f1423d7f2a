"""What `make run` does: pipelines, run through Airflow.

In this process, with Airflow's own output in a log; several that have to be executed in processes
of their own, a few at once, as far as processors and memory go. Or by the scheduler, where one
works on the same database (`make up`).
"""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from lib import tracking
from lib.commands import abreast, services
from lib.commands.which import find_run
from lib.ground import addresses, aside, layout
from lib.ground.addresses import SCHEDULER
from lib.ground.console import say
from lib.ground.files import is_local, outputs_dir, state_dir
from lib.ground.folder import Run
from lib.ground.parameters import Value
from lib.ground.runs import list_runs
from lib.machine import provisioner
from lib.machine.turns import Turns
from lib.once.choice import LATEST
from lib.pages.run_index import INDEX

INTERRUPTED = 128 + signal.SIGINT


def run(
    pipelines: list[str],
    params: str,
    start: str = "",
    until: str = "",
    of: str = "",
    resume: str = "",
    *,
    force: bool = False,
) -> int:
    """Run pipelines; return the exit status.

    Parameters
    ----------
    pipelines : list of str
        All that register a model when empty.
    params : str
        A JSON object of parameters. Where it names no source, data is "sample".
    start, until : str, default ""
        The first stage to execute, those before it are taken whatever has changed; the last one.
    of : str, default ""
        A run, whose stages and parameters are taken, or "latest"; empty for any run with the same
        results.
    resume : str, default ""
        A run that goes on where it has ended.
    force : bool, default False
        Execute every stage.

    Returns
    -------
    int
        0 if all passed, 1 if any failed, 130 if somebody interrupted: the rest is not begun then.

    Raises
    ------
    ValueError
        If `params` is no JSON object, or no notebook declares a parameter of that name, type and
        domain. Nothing has been started then.
    ConnectionError
        If the tracking server is not there.
    """
    values, names = json_object(params), choose(pipelines)
    options = {"from_stage": start, "until_stage": until, "of": of, "force": force}
    options = {name: value for name, value in options.items() if value}
    if resume:
        names, options = _resumed(resume, pipelines, values, options)
    elif (start or until or of) and len(pipelines) != 1:
        raise ValueError("FROM, UNTIL and OF are about one pipeline: name it with PIPELINE=")
    elif of and of != LATEST:
        origin = find_run(of, names[0])
        origin = origin.parent or origin
        if origin.pipeline != names[0]:
            raise ValueError(f"OF={of} is no run of {names[0]}")
        values, options["of"] = known_parameters(origin) | values, origin.run_dir
    started = time.monotonic()
    gc.set_threshold(50_000)  # of what is imported from here on, nearly nothing is ever garbage
    tracking.settle()
    tracking.check()
    if len(names) > 1:  # each may be made in a fork of this process: no connection is kept open
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    services.prepare()
    os.environ.update(services.airflow_settings())
    log = state_dir() / ".logs" / f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    logs = dict.fromkeys(names, log)
    ended: dict[str, str] = {}
    with _console(log) as console, ExitStack() as stack:
        from lib.dag import dagrun

        most = 1
        if SCHEDULER not in addresses.processes():
            if force or not all(list_runs(name) for name in names):  # else who executes first does
                notebooks = [layout.notebook(n, s) for n in names for s in layout.planned(n)]
                provisioner.prepare(notebooks)
            if is_local(outputs_dir()):  # what talks to object storage is not to be forked
                if len(names) > 1:
                    due = [name for name in names if dagrun.is_due(name, values, options)]
                    most = min(len(due), abreast.most_at_once())
                if most < 2:
                    stack.enter_context(aside.aside(tracking.open_client))
        from lib.dag import lean, preloaded, scheduling

        is_own = stack.enter_context(scheduling.own_process())
        if is_own:
            scheduling.close_ghosts(console.write)
        make = dagrun.run_dag if is_own else dagrun.run_by_scheduler
        if is_own and most > 1:
            preloaded.import_packages()
            lean.build_api()
            lean.save(dagrun.load_bag(name) for name in names)
            logs = {name: log.with_name(f"{log.stem}-{name}.log") for name in names}

            turns = Turns(abreast.processors())

            def work(name: str, console: TextIO) -> str:
                return dagrun.run_dag(name, values, console, options, turns)

            ended = abreast.work_on(names, work, console, logs, most)
            if abreast.LOST in ended.values():
                scheduling.close_ghosts(console.write)
        else:
            for name in names:
                ended[name] = make(name, values, console, options)
                if ended[name] == "cancelled":
                    break
    states, total = list(ended.values()), time.monotonic() - started
    say(f"\n{states.count('passed')} of {len(names)} passed in {total:.0f} s")
    failed = [name for name in ended if ended[name] in ("failed", abreast.LOST)]
    for log in dict.fromkeys(logs[name] for name in failed):
        these = [name for name in failed if logs[name] == log]
        say(f"failed: {', '.join(these)}; Airflow's log: {log}")
    say(f"all runs: {outputs_dir() / INDEX}")
    if "cancelled" in states or len(ended) < len(names):  # Ctrl-C before all had begun
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
    asked = list(dict.fromkeys(asked))  # one that was named twice is run once
    return asked or [name for name in layout.pipelines(ending="_register") if name in known]


def _resumed(
    resume: str, pipelines: list[str], values: dict, options: dict
) -> tuple[list[str], dict]:
    """Return the pipeline of a run that is to go on, and the option that says so."""
    if values or options:
        raise ValueError(
            "RESUME goes on with the run's own parameters and options: leave out PARAMS, FROM, "
            "UNTIL, OF and FORCE, or begin a new run with FROM and OF"
        )
    found = find_run(resume, *pipelines[:1])
    found = found.parent or found
    if pipelines and pipelines != [found.pipeline]:
        raise ValueError(f"RESUME={resume} is a run of {found.pipeline}, not of {pipelines[0]}")
    return [found.pipeline], {"resume": found.run_dir}


def known_parameters(run: Run) -> dict[str, Value]:
    """Return the parameters that the stages of a run have used."""
    found: dict[str, Value] = {}
    for record in run.records().values():
        found |= record.get("parameters", {})
    return {name: value for name, value in found.items() if name != "run_dir"}


def json_object(text: str) -> dict:
    """Return the parameters that were typed as JSON; raises a ValueError if they are none."""
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
