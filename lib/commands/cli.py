"""The commands behind the Makefile: ``python -m lib.commands.cli --help``.

`COMMANDS` says of each how it is typed and which function carries it out; that is given what was
parsed, by name, and returns the exit status (None is 0). Its module is imported when the command
runs. A new command is one more entry, and a target of the Makefile.
"""

import argparse
import difflib
import importlib
import re
import signal
import sys
from dataclasses import dataclass
from typing import NoReturn

MODEL = "<model>"
PLACES = ("DATA_DIR", "OUTPUTS_DIR", "MLFLOW_TRACKING_URI", "PYTHON")
ARGUMENT = re.compile(r"\b([A-Z][A-Z_]*)=")


@dataclass(frozen=True)
class Command:
    """One command of the Makefile.

    Attributes
    ----------
    call : str
        ``module:function`` below `lib.commands`.
    usage : str
        How it is typed; what stands before an equals sign is what it takes.
    arguments : str
        What the function takes, in the order in which it is typed: see `ARGUMENTS`.
    """

    call: str
    usage: str
    arguments: str = ""

    @property
    def takes(self) -> list[str]:
        """The names of its arguments, as make knows them."""
        return list(dict.fromkeys(ARGUMENT.findall(self.usage)))


COMMANDS = {
    "run": Command(
        "pipelines:run",
        """make run [PIPELINE=power] [PARAMS='{"source": "sample", "horizon": 24}']""",
        "pipelines --params",
    ),
    "up": Command(
        "services:up",
        "make up [AIRFLOW_PORT=8080] [MLFLOW_PORT=5000] [LAB_PORT=8888]",
        "--airflow-port --mlflow-port --lab-port",
    ),
    "lab": Command("services:lab", "make lab [LAB_PORT=8888]", "--lab-port"),
    "prepare": Command("services:prepare", "make install"),
    "notebooks": Command("notebooks:refresh_all", "make notebooks [PIPELINE=power]", "pipelines"),
    "new": Command("new:main", "make new PIPELINE=wine [TASK=regression]", "name --task"),
    "doctor": Command("doctor:main", "make doctor"),
    "reports": Command("reports:write", "make reports [RUN=latest]", "run"),
    "compare": Command(
        "reports:compare",
        "make compare [A=power/<run>] [B=power/latest] [PIPELINE=power]",
        "a b --pipeline",
    ),
    "open": Command("workbench:main", "make open [RUN=latest] [STAGE=05_evaluate]", "run stage"),
    "keep": Command("keep:main", "make keep [NOTEBOOK=latest] [APPLY=1]", "notebook --apply"),
    "reproduce": Command("reproduce:main", "make reproduce [RUN=latest] [KEEP=1]", "run --keep"),
    "prune": Command(
        "prune:main", "make prune [LAST=10] [DAYS=30] [APPLY=1]", "--last --days --apply"
    ),
    "history": Command("models:history", f"make history MODEL={MODEL}", "model"),
    "champion": Command(
        "models:champion", f"make champion MODEL={MODEL} [AT=2026-11-01]", "model --at"
    ),
    "promote": Command(
        "models:promote",
        f'make promote MODEL={MODEL} VERSION=latest REASON="why"',
        "model version --reason",
    ),
    "rollback": Command(
        "models:rollback", f'make rollback MODEL={MODEL} [REASON="why"]', "model --reason"
    ),
    "reconcile": Command("models:reconcile", f"make reconcile [MODEL={MODEL}]", "model"),
}


def _number(text: str) -> int:
    """Return a whole number that was typed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


ARGUMENTS = {
    "pipelines": {"nargs": "*"},
    "--params": {"default": "{}"},
    "--apply": {"action": "store_true", "default": False},
    "--keep": {"action": "store_true", "default": False},
    "--last": {"type": _number, "default": 10},
    "--days": {"type": _number, "default": 30},
}
"""Every other argument is text, and "" where it was not typed."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments as every command does: an error, then its usage."""

    def error(self, message: str) -> NoReturn:
        known = re.sub(r"^argument --([a-z]+)", lambda found: found[1].upper(), message)
        sys.stderr.write(f"error: {known}\nusage: {usage(self.prog.split()[-1])}\n")
        sys.exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments` and run the command; return the exit status."""
    given = vars(_parser().parse_args(arguments))
    name, typed = given.pop("command"), given.pop("given").split()
    module, function = COMMANDS[name].call.split(":")
    try:
        check_names(name, typed)
        return getattr(importlib.import_module(f"lib.commands.{module}"), function)(**given) or 0
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        if type(error).__name__ != "PromotionConflict":  # which no other argument can settle
            sys.stderr.write(f"usage: {usage(name)}\n")
        return 2
    except (OSError, RuntimeError) as error:  # not by what was typed
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 128 + signal.SIGINT


def _parser() -> _Parser:
    parser = _Parser(prog="python -m lib.commands.cli", description=__doc__.split("\n")[0])
    parser.add_argument("--given", default="", help="arguments of make that were typed, by name")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.usage, usage=command.usage)
        for argument in command.arguments.split():
            usual = {"default": ""} | ({} if argument.startswith("--") else {"nargs": "?"})
            one.add_argument(argument, **usual | ARGUMENTS.get(argument, {}))
    return parser


def usage(name: str) -> str:
    """Return how a command is typed."""
    return COMMANDS[name].usage if name in COMMANDS else "make help"


def check_names(name: str, typed: list[str]) -> None:
    """Check that the arguments that were typed are those of the command.

    Make takes any ``NAME=value`` without a word, and one that is misspelt would be left out.

    Parameters
    ----------
    name : str
        Of the command.
    typed : list of str
        What stood before the equals signs. One that is like no argument of any command may be a
        variable of the environment, and is left alone.

    Raises
    ------
    ValueError
        If one is misspelt, or another command's.
    """
    takes = COMMANDS[name].takes
    others = {argument for command in COMMANDS.values() for argument in command.takes}
    for argument in typed:
        if argument in takes or argument in PLACES:
            continue
        close = difflib.get_close_matches(argument.upper(), takes, n=1, cutoff=0.75)
        if close:
            raise ValueError(f"make {name} knows no {argument}; did you mean {close[0]}?")
        if argument in others:
            some = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise ValueError(f"make {name} knows no {argument}; {some}")


if __name__ == "__main__":
    sys.exit(main())
