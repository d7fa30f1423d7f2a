"""The commands behind the Makefile: ``python -m lib.commands.cli --help``.

`COMMANDS` says of each which function carries it out; that is given what was parsed, by name, and
returns the exit status (None is 0). Its module is imported when the command runs. How a command is
typed stands in the Makefile alone. A new command is one more entry here, and a target there.
"""

import argparse
import difflib
import importlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn

PLACES = ("DATA_DIR", "OUTPUTS_DIR", "MLFLOW_TRACKING_URI", "PYTHON")
MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"
TARGET = re.compile(r"^([a-z]+):[^|\n]*(?:\| (.*))?$", re.MULTILINE)
USAGES = dict(TARGET.findall(MAKEFILE.read_text(encoding="utf-8")))
"""What is typed after ``make <target>``, by target, as `make help` shows it."""

COMMANDS = {
    "run": ("pipelines:run", "pipelines --params --from --until --of --resume --force"),
    "up": ("services:up", "--airflow-port --mlflow-port --lab-port"),
    "lab": ("services:lab", "--lab-port"),
    "head": ("cluster:head", ""),
    "worker": ("cluster:worker", "--queues"),
    "prepare": ("services:prepare", ""),
    "notebooks": ("notebooks:refresh_all", "pipelines"),
    "look": ("look:main", "source --pipeline --params --all"),
    "new": ("new:main", "name --task"),
    "doctor": ("doctor:main", ""),
    "reports": ("reports:write", "run"),
    "compare": ("reports:compare", "a b --pipeline"),
    "open": ("workbench:main", "run stage"),
    "keep": ("keep:main", "notebook --apply"),
    "reproduce": ("reproduce:main", "run --keep"),
    "why": ("why:main", "run stage"),
    "prune": ("prune:main", "--last --days --apply"),
    "tidy": ("tidy:main", "--days --apply"),
    "history": ("models:history", "model"),
    "champion": ("models:champion", "model --at"),
    "promote": ("models:promote", "model version --reason"),
    "rollback": ("models:rollback", "model --reason"),
    "reconcile": ("models:reconcile", "model"),
}
"""By name: ``module:function`` below `lib.commands`, and what it takes, see `ARGUMENTS`."""


def _number(text: str) -> int:
    """Return a whole number that was typed; so many days ago there still was a calendar."""
    if not text.isdecimal() or len(text) > 5:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 to 99999")
    return int(text)


ARGUMENTS = {
    "pipelines": {"nargs": "*"},
    "--params": {"default": "{}"},
    "--from": {"dest": "start"},
    "--force": {"action": "store_true", "default": False},
    "--apply": {"action": "store_true", "default": False},
    "--all": {"action": "store_true", "default": False},
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
    module, function = COMMANDS[name][0].split(":")
    try:
        check_names(name, typed)
        return getattr(importlib.import_module(f"lib.commands.{module}"), function)(**given) or 0
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        if type(error).__name__ != "PromotionConflict":  # which no other argument can settle
            sys.stderr.write(f"usage: {usage(name)}\n")
        return 2
    except (OSError, RuntimeError) as error:  # not by what was typed
        from lib.ground.files import outputs_dir

        at = getattr(error, "filename", None) if os.environ.get("OUTPUTS_DIR") else None
        is_there = at and Path(str(at)).is_relative_to(Path(outputs_dir().path))
        is_there = is_there and not isinstance(error, FileNotFoundError)
        hint = ". OUTPUTS_DIR must name a folder that this user may write to" if is_there else ""
        sys.stderr.write(f"error: {error}{hint}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 128 + signal.SIGINT


def _parser() -> _Parser:
    parser = _Parser(prog="python -m lib.commands.cli", description=__doc__.split("\n")[0])
    parser.add_argument("--given", default="", help="arguments of make that were typed, by name")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, (_, arguments) in COMMANDS.items():
        one = commands.add_parser(name, help=usage(name), usage=usage(name))
        for argument in arguments.split():
            usual = {"default": ""} | ({} if argument.startswith("--") else {"nargs": "?"})
            one.add_argument(argument, **usual | ARGUMENTS.get(argument, {}))
    return parser


def usage(name: str) -> str:
    """Return how a command is typed."""
    return f"make {name} {USAGES[name]}".rstrip() if name in USAGES else "make help"


def takes(name: str) -> list[str]:
    """Return the names of a command's arguments, as make knows them."""
    return list(dict.fromkeys(re.findall(r"\b([A-Z][A-Z_]*)=", usage(name))))


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
    known = takes(name)
    others = {argument for command in COMMANDS for argument in takes(command)}
    for argument in typed:
        if argument in known or argument in PLACES:
            continue
        close = difflib.get_close_matches(argument.upper(), known, n=1, cutoff=0.75)
        if close:
            raise ValueError(f"make {name} knows no {argument}; did you mean {close[0]}?")
        if argument in others:
            some = ", ".join(known) or "none"
            raise ValueError(f"make {name} knows no {argument}; it takes {some}")


if __name__ == "__main__":
    sys.exit(main())
