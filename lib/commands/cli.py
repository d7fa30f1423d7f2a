"""The commands behind the Makefile: ``python -m lib.commands.cli --help``.

Each command is a function that returns the exit status. Heavy imports happen in the command that
needs them.
"""

import argparse
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

from lib.run import ROOT, outputs_dir

INTERRUPTED = 130  # exit status of a command that Ctrl-C has ended
MODEL = "<model>"
USAGE = {
    "run": """make run [PIPELINE=power] [PARAMS='{"source": "sample", "horizon": 24}']""",
    "up": "make up [AIRFLOW_PORT=8080] [MLFLOW_PORT=5000] [LAB_PORT=8888]",
    "lab": "make lab [LAB_PORT=8888]",
    "doctor": "make doctor",
    "notebooks": "make notebooks [PIPELINE=power]",
    "reports": "make reports [RUN=latest]",
    "compare": "make compare [A=power/<run>] [B=power/latest] [PIPELINE=power]",
    "open": "make open [RUN=latest] [STAGE=05_evaluate]",
    "keep": "make keep [NOTEBOOK=latest] [APPLY=1]",
    "reproduce": "make reproduce [RUN=latest] [KEEP=1]",
    "prune": "make prune [LAST=10] [DAYS=30] [APPLY=1]",
    "history": f"make history MODEL={MODEL}",
    "champion": f"make champion MODEL={MODEL} [AT=2026-11-01]",
    "promote": f'make promote MODEL={MODEL} VERSION=latest REASON="why"',
    "rollback": f'make rollback MODEL={MODEL} [REASON="why"]',
    "reconcile": f"make reconcile [MODEL={MODEL}]",
}
"""How each command is typed; what stands before an equals sign is what it takes."""

ARGUMENT = re.compile(r"\b([A-Z][A-Z_]*)=")
PLACES = ("DATA_DIR", "OUTPUTS_DIR", "MLFLOW_TRACKING_URI", "PYTHON")


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments` and run the command; return the exit status."""
    parser = _Parser(prog="python -m lib.commands.cli", description=__doc__.split("\n")[0])
    parser.add_argument("--given", default="", help="arguments of make that were typed, by name")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_commands_to_start(commands)
    _add_commands_on_runs(commands)
    _add_commands_on_models(commands)
    given = parser.parse_args(arguments)
    try:
        check_names(given.command, given.given.split())
        return given.call(given)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        if type(error).__name__ != "PromotionConflict":  # which no other argument can settle
            sys.stderr.write(f"usage: {usage(given.command, getattr(given, 'model', ''))}\n")
        return 2
    except (OSError, RuntimeError) as error:  # not by what was typed
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments as every command does: an error, then its usage."""

    def error(self, message: str) -> NoReturn:
        known = re.sub(r"^argument --([a-z]+)", lambda found: found[1].upper(), message)
        sys.stderr.write(f"error: {known}\nusage: {usage(self.prog.split()[-1])}\n")
        sys.exit(2)


def usage(command: str, model: str = "") -> str:
    """Return how a command is typed, with a registered model, the one most like `model`."""
    text = USAGE.get(command, "make help")
    if MODEL in text:
        from lib.commands import which

        from mlflow import MlflowException

        try:
            known = which.model_names()
            close = difflib.get_close_matches(model, known, n=1, cutoff=0.0 if model else 1.0)
            return text.replace(MODEL, [*close, *known][0])
        except (IndexError, OSError, MlflowException):  # none yet, or nobody to ask
            return text
    return text


def check_names(command: str, names: list[str]) -> None:
    """Check that the arguments that were typed are those of the command.

    Make takes any ``NAME=value`` without a word, and one that is misspelt would be left out.

    Parameters
    ----------
    command : str
    names : list of str
        What stood before the equals signs. One that is like no argument of any command may be a
        variable of the environment, and is left alone.

    Raises
    ------
    ValueError
        If one is misspelt, or another command's.
    """
    if command not in USAGE:
        return
    takes, others = (
        takes_of(command),
        {n for text in USAGE.values() for n in ARGUMENT.findall(text)},
    )
    for name in names:
        if name in takes or name in PLACES:
            continue
        (close, *_) = [*difflib.get_close_matches(name.upper(), takes, n=1, cutoff=0.75), ""]
        if close:
            raise ValueError(f"make {command} knows no {name}; did you mean {close}?")
        if name in others:
            some = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise ValueError(f"make {command} knows no {name}; {some}")


def takes_of(command: str) -> list[str]:
    """Return the names of the arguments that a command takes, as make knows them."""
    return list(dict.fromkeys(ARGUMENT.findall(USAGE[command])))


def _add_command(
    commands: "argparse._SubParsersAction", name: str, text: str, call: Callable[..., int]
) -> argparse.ArgumentParser:
    """Add a command that `call` carries out, given what was parsed, by name."""
    command = commands.add_parser(name, help=text, description=text, usage=USAGE.get(name))
    command.set_defaults(call=call)
    return command


def _add_commands_to_start(commands: "argparse._SubParsersAction") -> None:
    """Add what runs pipelines, services and checks."""
    run = _add_command(
        commands,
        "run",
        "run pipelines through Airflow",
        lambda given: run_pipelines(given.pipeline, given.params),
    )
    run.add_argument("pipeline", nargs="*", help="by default all that register a model")
    run.add_argument(
        "--params", default="{}", help='parameters as a JSON object, {"source": "..."} for example'
    )
    everything = _add_command(
        commands,
        "up",
        "run Airflow, MLflow and JupyterLab until Ctrl-C",
        lambda given: up(given.airflow_port, given.mlflow_port, given.lab_port),
    )
    for service in ("airflow", "mlflow", "lab"):
        everything.add_argument(f"--{service}-port", default="", help="by default the next free")
    alone = _add_command(
        commands, "lab", "run JupyterLab until Ctrl-C", lambda given: lab(given.lab_port)
    )
    alone.add_argument("--lab-port", default="", help="by default 8888 or the next free")
    _add_command(
        commands, "prepare", "make the databases of Airflow and MLflow, once", lambda _: prepare()
    )
    notebooks = _add_command(
        commands,
        "notebooks",
        "re-execute the committed notebooks in place",
        lambda given: refresh_notebooks(given.pipeline),
    )
    notebooks.add_argument("pipeline", nargs="*", help="folders below notebooks/; all by default")
    _add_command(
        commands, "doctor", "check this machine, and name what to mend", lambda _: check_machine()
    )


def _add_commands_on_runs(commands: "argparse._SubParsersAction") -> None:
    """Add what can be done with runs that have been made."""
    run = {"nargs": "?", "default": "", "help": "<pipeline>/<run>, latest, or <pipeline>/latest"}
    reports = _add_command(
        commands,
        "reports",
        "write the page of every run anew, or of one",
        lambda given: write_reports(given.run),
    )
    reports.add_argument("run", **run)
    two_runs = _add_command(
        commands,
        "compare",
        "put two runs side by side on a page, by default the last two",
        lambda given: compare_runs(given.a, given.b, given.pipeline),
    )
    two_runs.add_argument("a", **run)
    two_runs.add_argument("b", **run)
    two_runs.add_argument("--pipeline", default="", help="where to look for the last two")
    opened = _add_command(
        commands,
        "open",
        "a stage of a run as a notebook, on a copy",
        lambda given: open_stage(given.run, given.stage),
    )
    opened.add_argument("run", **run)
    opened.add_argument(
        "stage", nargs="?", default="", help="by default the failed one, else the evaluation"
    )
    kept = _add_command(
        commands,
        "keep",
        "bring what has changed in an opened stage into notebooks/",
        lambda given: keep_changes(given.notebook, apply=given.apply),
    )
    kept.add_argument("notebook", nargs="?", default="", help="below workbench/, or latest")
    kept.add_argument("--apply", action="store_true", help="write it, ask nothing")
    again = _add_command(
        commands,
        "reproduce",
        "make a run again and compare its metrics",
        lambda given: reproduce(given.run, keep=given.keep),
    )
    again.add_argument("run", **run)
    again.add_argument("--keep", action="store_true", help="keep the checkout and what it made")
    prune = _add_command(
        commands,
        "prune",
        "say which old runs nothing refers to",
        lambda given: prune_runs(given.last, given.days, apply=given.apply),
    )
    prune.add_argument("--last", type=_number, default=10, help="of each pipeline")
    prune.add_argument("--days", type=_number, default=30, help="younger ones stay")
    prune.add_argument("--apply", action="store_true", help="delete them")


def _add_commands_on_models(commands: "argparse._SubParsersAction") -> None:
    """Add what can be done with registered models."""
    reason = {"default": "", "help": "why; it stays on record"}
    history = _add_command(
        commands,
        "history",
        "every change of an alias of a model",
        lambda given: show_history(given.model),
    )
    champion = _add_command(
        commands,
        "champion",
        "which version of a model is in production",
        lambda given: show_champion(given.model, given.at),
    )
    promote = _add_command(
        commands,
        "promote",
        "put a version of a model into production",
        lambda given: promote_version(given.model, given.version, given.reason),
    )
    rollback = _add_command(
        commands,
        "rollback",
        "put the champion before this one back",
        lambda given: roll_back(given.model, given.reason),
    )
    reconcile = _add_command(
        commands,
        "reconcile",
        "finish changes of aliases that were cut off",
        lambda given: reconcile_models(given.model),
    )
    for command in (history, champion, promote, rollback):
        command.add_argument("model", nargs="?", default="", help="by default the only one")
    champion.add_argument("--at", default="", help="at that time, UTC: 2026-11-01 for example")
    promote.add_argument("version", nargs="?", default="", help="a number, @staging or latest")
    promote.add_argument("--reason", **reason)
    rollback.add_argument("--reason", **reason)
    reconcile.add_argument("model", nargs="?", default="", help="all by default")


def _number(text: str) -> int:
    """Return a whole number that was typed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def write_reports(run_dir: str) -> int:
    """Write the page of one run anew, or those of all runs; and the index."""
    from lib.commands.which import find_run
    from lib.pages import run_page
    from lib.pages.summary import list_runs

    run_page.write_pages([find_run(run_dir)] if run_dir else list_runs())
    return 0


def compare_runs(a: str, b: str, pipeline: str) -> int:
    """Write a page that puts two runs side by side."""
    from lib.pages import two_runs

    return two_runs.compare(a, b, pipeline)


def open_stage(run_dir: str, stage: str) -> int:
    """Write a notebook that opens a stage of a run, on a copy of its inputs."""
    from lib.commands import workbench

    return workbench.main(run_dir, stage)


def keep_changes(notebook: str, *, apply: bool) -> int:
    """Show what an opened notebook would change in the committed one, ask, and write it."""
    from lib.commands import keep

    return keep.main(notebook, apply=apply)


def reproduce(run_dir: str, *, keep: bool) -> int:
    """Make a run again; return 1 if its metrics differ, 2 if it cannot be made."""
    from lib.commands import reproduce

    return reproduce.reproduce(run_dir, keep=keep)


def prune_runs(keep_last: int, days: int, *, apply: bool) -> int:
    """Say which runs the rule lets go, and delete them where `apply` says so."""
    from lib.commands import prune

    return prune.main(keep_last=keep_last, older_than_days=days, apply=apply)


def show_history(model: str) -> int:
    """Print every change of an alias of a model."""
    from lib.commands import models

    return models.history(model)


def show_champion(model: str, at: str) -> int:
    """Print which version of a model is in production, or was at a time."""
    from lib.commands import models

    return models.champion(model, at)


def promote_version(model: str, version: str, reason: str) -> int:
    """Put a version of a model into production."""
    from lib.commands import models

    return models.promote(model, version, reason)


def roll_back(model: str, reason: str) -> int:
    """Undo the last promotion of a model."""
    from lib.commands import models

    return models.rollback(model, reason)


def reconcile_models(model: str) -> int:
    """Finish changes of aliases that were cut off, of one model or of all."""
    from lib.commands import models

    return models.reconcile(model)


def check_machine() -> int:
    """Check everything that a run needs; return 1 if there is a problem."""
    from lib.commands import doctor

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
    from lib.commands import services

    services.prepare()
    return 0


def up(airflow: str, mlflow: str, lab: str) -> int:
    """Run all services, on the ports that were asked for."""
    from lib.commands import services

    return services.up({"airflow": airflow, "mlflow": mlflow, "lab": lab})


def lab(port: str) -> int:
    """Run JupyterLab alone."""
    from lib.commands import services

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
    from lib.commands import services

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
        from lib.dag import scheduling
        from lib.dag.dagrun import run_by_scheduler, run_dag

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
    from lib.commands.notebooks import refresh_all

    refresh_all(asked or sorted(p.name for p in (ROOT / "notebooks").iterdir() if p.is_dir()))
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
