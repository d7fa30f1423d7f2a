"""The commands behind the Makefile: ``python -m lib.cli --help``.

Each command is a function that returns the exit status. Heavy imports happen in the command that
needs them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lib.run import ROOT, outputs_dir

INTERRUPTED = 130  # exit status of a command that Ctrl-C has ended


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments` and run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.cli", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run pipelines through Airflow, in this process")
    run.add_argument("pipeline", nargs="*", help="by default all that register a model")
    run.add_argument(
        "--params", default="{}", help='parameters as a JSON object, {"source": "..."} for example'
    )
    run.set_defaults(call=lambda given: run_pipelines(given.pipeline, given.params))
    everything = commands.add_parser("up", help="run Airflow, MLflow and JupyterLab until Ctrl-C")
    for service in ("airflow", "mlflow", "lab"):
        everything.add_argument(f"--{service}-port", default="", help="by default the next free")
    everything.set_defaults(
        call=lambda given: up(given.airflow_port, given.mlflow_port, given.lab_port)
    )
    alone = commands.add_parser("lab", help="run JupyterLab until Ctrl-C")
    alone.add_argument("--lab-port", default="", help="by default 8888 or the next free")
    alone.set_defaults(call=lambda given: lab(given.lab_port))
    first = commands.add_parser("prepare", help="make the databases of Airflow and MLflow, once")
    first.set_defaults(call=lambda _: prepare())
    notebooks = commands.add_parser("notebooks", help="re-execute the committed notebooks in place")
    notebooks.add_argument("pipeline", nargs="*", help="folders below notebooks/; all by default")
    notebooks.set_defaults(call=lambda given: refresh_notebooks(given.pipeline))
    _add_commands_on_runs(commands)
    _add_commands_on_models(commands)
    given = parser.parse_args(arguments)
    try:
        return given.call(given)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED


def _add_commands_on_runs(commands: "argparse._SubParsersAction") -> None:
    """Add what can be done with runs that have been made."""
    run = {"help": "<pipeline>/<run>, below OUTPUTS_DIR"}
    reports = commands.add_parser("reports", help="write the page of every run anew, or of one")
    reports.add_argument("run", nargs="?", default="", **run)
    reports.set_defaults(call=lambda given: write_reports(given.run))
    compare = commands.add_parser("compare", help="put two runs side by side on a page")
    compare.add_argument("a", **run)
    compare.add_argument("b", **run)
    compare.set_defaults(call=lambda given: compare_runs(given.a, given.b))
    opened = commands.add_parser("open", help="a stage of a run as a notebook, on a copy")
    opened.add_argument("run", **run)
    opened.add_argument("stage", help="05_evaluate for example")
    opened.set_defaults(call=lambda given: open_stage(given.run, given.stage))
    again = commands.add_parser("reproduce", help="make a run again and compare its metrics")
    again.add_argument("run", **run)
    again.add_argument("--keep", action="store_true", help="keep the checkout and what it made")
    again.set_defaults(call=lambda given: reproduce(given.run, keep=given.keep))
    prune = commands.add_parser("prune", help="say which old runs nothing refers to")
    prune.add_argument("--keep-last", type=int, default=10, help="of each pipeline (%(default)s)")
    prune.add_argument("--days", type=int, default=30, help="younger ones stay (%(default)s)")
    prune.add_argument("--apply", action="store_true", help="delete them")
    prune.set_defaults(
        call=lambda given: prune_runs(given.keep_last, given.days, apply=given.apply)
    )
    doctor = commands.add_parser("doctor", help="check this machine, and name what to mend")
    doctor.set_defaults(call=lambda _: check_machine())


def _add_commands_on_models(commands: "argparse._SubParsersAction") -> None:
    """Add what can be done with registered models."""
    reason = {"default": "", "help": "why; it stays on record"}
    history = commands.add_parser("history", help="every change of an alias of a model")
    champion = commands.add_parser("champion", help="which version of a model is in production")
    promote = commands.add_parser("promote", help="put a version of a model into production")
    rollback = commands.add_parser("rollback", help="put the champion before this one back")
    reconcile = commands.add_parser("reconcile", help="finish changes of aliases that were cut off")
    for command in (history, champion, promote, rollback):
        command.add_argument("model", help="name of the registered model")
    champion.add_argument("--at", default="", help="at that time, UTC: 2026-11-01 for example")
    promote.add_argument("version", help="a number, or an alias as @staging")
    promote.add_argument("--reason", **reason)
    rollback.add_argument("--reason", **reason)
    reconcile.add_argument("model", nargs="?", default="", help="all by default")
    history.set_defaults(call=lambda given: show_history(given.model))
    champion.set_defaults(call=lambda given: show_champion(given.model, given.at))
    promote.set_defaults(
        call=lambda given: promote_version(given.model, given.version, given.reason)
    )
    rollback.set_defaults(call=lambda given: roll_back(given.model, given.reason))
    reconcile.set_defaults(call=lambda given: reconcile_models(given.model))


def write_reports(run_dir: str) -> int:
    """Write the page of one run anew, or those of all runs; and the index."""
    from lib import run_page

    return run_page.main(run_dir)


def compare_runs(a: str, b: str) -> int:
    """Write a page that puts two runs side by side."""
    from lib import compare

    return compare.compare(a, b)


def open_stage(run_dir: str, stage: str) -> int:
    """Write a notebook that opens a stage of a run, on a copy of its inputs."""
    from lib import workbench

    return workbench.main(run_dir, stage)


def reproduce(run_dir: str, *, keep: bool) -> int:
    """Make a run again; return 1 if its metrics differ, 2 if it cannot be made."""
    from lib import reproduce

    return reproduce.reproduce(run_dir, keep=keep)


def prune_runs(keep_last: int, days: int, *, apply: bool) -> int:
    """Say which runs the rule lets go, and delete them where `apply` says so."""
    from lib import prune

    return prune.main(keep_last=keep_last, older_than_days=days, apply=apply)


def show_history(model: str) -> int:
    """Print every change of an alias of a model."""
    from lib import registry_commands

    return registry_commands.history(model)


def show_champion(model: str, at: str) -> int:
    """Print which version of a model is in production, or was at a time."""
    from lib import registry_commands

    return registry_commands.champion(model, at)


def promote_version(model: str, version: str, reason: str) -> int:
    """Put a version of a model into production."""
    from lib import registry_commands

    return registry_commands.promote(model, version, reason)


def roll_back(model: str, reason: str) -> int:
    """Undo the last promotion of a model."""
    from lib import registry_commands

    return registry_commands.rollback(model, reason)


def reconcile_models(model: str) -> int:
    """Finish changes of aliases that were cut off, of one model or of all."""
    from lib import registry_commands

    return registry_commands.reconcile(model)


def check_machine() -> int:
    """Check everything that a run needs; return 1 if there is a problem."""
    from lib import doctor

    return doctor.main()


def pipelines(asked: list[str]) -> list[str]:
    """Return the `asked` pipelines, or all of those with a DAG file that register a model.

    Those that train no network come first: there is something to look at soonest.

    Raises
    ------
    ValueError
        If there is no such pipeline; names those that there are.
    """
    known = sorted(p.stem for p in (ROOT / "dags").glob("*.py"))
    for name in asked:
        if name not in known:
            raise ValueError(f"no pipeline {name!r}; there are {', '.join(known)}")
    if asked:
        return asked
    folders = [ROOT / "notebooks" / name for name in known]
    training = [folder for folder in folders if [*folder.glob("*_register.ipynb")]]
    return [folder.name for folder in sorted(training, key=_is_heavy)]


def _is_heavy(folder: Path) -> bool:
    """Say whether a notebook of a pipeline trains a network."""
    return any("keras" in path.read_text(encoding="utf-8") for path in folder.glob("*.ipynb"))


def prepare() -> int:
    """Make the databases of Airflow and MLflow."""
    from lib import services

    services.prepare()
    return 0


def up(airflow: str, mlflow: str, lab: str) -> int:
    """Run all services, on the ports that were asked for."""
    from lib import services

    return services.up({"airflow": airflow, "mlflow": mlflow, "lab": lab})


def lab(port: str) -> int:
    """Run JupyterLab alone."""
    from lib import services

    return services.lab(port)


def run_pipelines(asked: list[str], params: str) -> int:
    """Run pipelines one after another through Airflow; return 1 if any failed.

    In this process; by the scheduler where one works on the same database (`make up`).

    Parameters
    ----------
    asked : list of str
        Pipelines; all that register a model when empty.
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
    from lib import services

    values = _json_object(params)
    names = pipelines(asked)
    started = time.monotonic()
    services.prepare()
    os.environ.update(services.airflow_settings())
    state = services.state_dir() / ".logs"
    state.mkdir(parents=True, exist_ok=True)
    log = state / f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    ended: dict[str, str] = {}
    with _console(log) as console:
        from lib import scheduling
        from lib.dagrun import run_by_scheduler, run_dag

        with scheduling.own_process() as is_own:
            for ghost in scheduling.close_ghosts() if is_own else ():
                console.write(f"closed {ghost.run_dir}: its process is gone\n")
            for name in names:
                ended[name] = (run_dag if is_own else run_by_scheduler)(name, values, console)
                if ended[name] == "cancelled":
                    break
    failed = [name for name, state in ended.items() if state == "failed"]
    n_passed = sum(state == "passed" for state in ended.values())
    total = time.monotonic() - started
    sys.stdout.write(f"\n{n_passed} of {len(names)} passed in {total:.0f} s\n")
    if failed:
        sys.stdout.write(f"failed: {', '.join(failed)}; Airflow's log: {log}\n")
    sys.stdout.write(f"all runs: {outputs_dir() / 'index.html'}\n")
    if "cancelled" in ended.values():
        return INTERRUPTED
    return 1 if failed else 0


def refresh_notebooks(asked: list[str]) -> int:
    """Execute the committed notebooks on their defaults and write them back, cleaned.

    A notebook that fails, or that writes to stderr, is left as it was.
    """
    from lib.notebooks import refresh

    for pipeline in asked or sorted(p.name for p in (ROOT / "notebooks").iterdir() if p.is_dir()):
        for path in sorted((ROOT / "notebooks" / pipeline).glob("[0-9]*.ipynb")):
            started = time.monotonic()
            changed = refresh(path)
            word = "changed" if changed else "unchanged"
            sys.stdout.write(
                f"{pipeline}/{path.stem:14} {word:9} {time.monotonic() - started:5.1f} s\n"
            )
            sys.stdout.flush()
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
