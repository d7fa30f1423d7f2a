"""Who sits at this process, and what they are told."""

import getpass
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

PASSWORD = re.compile(r"(?s)(://[^:/?#@]*):.*@")
SECRET = re.compile(r"(?i)([?&][^=&#]*(?:pass|pwd|secret|token|key|sig|cred|auth)[^=&#]*=)[^&#]*")


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def account() -> str:
    """Return the name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def redact(source: str) -> str:
    """Return `source` fit for logs and messages: without passwords and keys.

    Examples
    --------
    >>> redact("sql:postgresql+psycopg://reader:geheim@db.example/energy#readings")
    'sql:postgresql+psycopg://reader:***@db.example/energy#readings'
    >>> redact("https://db.example/power.txt?token=geheim&part=2")
    'https://db.example/power.txt?token=***&part=2'
    """
    return SECRET.sub(r"\1***", PASSWORD.sub(r"\1:***@", source))


def shell() -> "InteractiveShell | None":
    """Return the IPython that runs here, if one does."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def is_interactive() -> bool:
    """Say whether a person runs the cells of this kernel, in JupyterLab for example.

    Papermill, nbval and whatever else only executes a notebook tells the kernel with each cell that
    nobody is there to answer a question.
    """
    kernel = getattr(shell(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return bool(request.get("content", {}).get("allow_stdin"))


@contextmanager
def told_briefly() -> Iterator[None]:
    """Let a person's notebook show a refusal as its message, without the way through `lib`.

    The reports of executed notebooks keep the whole traceback, and so does what is no refusal: an
    error of a library.
    """
    try:
        yield
    except ValueError as error:
        is_refusal = type(error) is ValueError or type(error).__module__.startswith("lib.")
        if is_refusal and is_interactive():
            error._render_traceback_ = partial(_only_message, error)  # IPython asks for it
        raise


def _only_message(error: ValueError) -> list[str]:
    return [f"\x1b[0;31m{type(error).__name__}\x1b[0m: {error}"]
