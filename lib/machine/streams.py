"""What a kernel prints, as a terminal would show it: in a notebook and, line by line, in a log."""

import logging

LIMIT = 1_000_000  # characters of one stream output that are kept
HEAD = 200_000

logger = logging.getLogger("lib.machine.executor.stream")


class LineLog:
    """Writes a stream to the log in whole lines; of a progress bar, only what it ends with."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.rest = ""

    def add(self, text: str) -> None:
        """Log the lines that `text` completes."""
        *lines, self.rest = as_shown(self.rest + text).split("\n")
        for line in lines:
            logger.log(self.level, "%s", line.rstrip("\r"))

    def flush(self) -> None:
        """Log what is left."""
        if self.rest.strip():
            logger.log(self.level, "%s", self.rest.strip("\r"))
        self.rest = ""


def join(before: str, text: str, left_out: int) -> tuple[str, int]:
    """Return what is shown once `text` follows `before`; of a very long stream drop the middle.

    Parameters
    ----------
    before, text : str
    left_out : int
        Characters that `before` lacks already.

    Returns
    -------
    str
        The whole.
    int
        Characters that it lacks.
    """
    start = before.rfind("\n") + 1
    joined = before[:start] + as_shown(before[start:] + text)
    if len(joined) <= LIMIT:
        return joined, left_out
    tail_start = HEAD + len(_note(left_out))
    tail = joined[tail_start:][-HEAD:]
    left_out += len(joined) - tail_start - len(tail)
    return joined[:HEAD] + _note(left_out) + tail, left_out


def as_shown(text: str) -> str:
    """Return what a terminal shows of `text`: what follows the last carriage return of a line."""
    if "\r" not in text:
        return text
    return "\n".join(map(_last_part, text.split("\n")))


def _last_part(line: str) -> str:
    body = line.rstrip("\r")  # a return at the end overwrites nothing yet
    return body.rpartition("\r")[2] + ("\r" if len(line) > len(body) else "")


def _note(left_out: int) -> str:
    return f"\n[... {left_out:,} characters left out ...]\n" if left_out else ""
