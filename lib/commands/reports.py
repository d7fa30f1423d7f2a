"""What `make reports` and `make compare` write: pages of runs, and of two runs side by side."""

from lib.commands.which import find_pair, find_run
from lib.ground.runs import list_runs
from lib.pages import publish, two_runs


def write(run: str) -> None:
    """Write the page of one run anew, or those of all where `run` is empty; and the index."""
    publish.write_pages([find_run(run)] if run else list_runs())


def compare(a: str, b: str, pipeline: str) -> None:
    """Write a page that puts two runs side by side, see `lib.commands.which.find_pair`."""
    two_runs.compare(*find_pair(a, b, pipeline))
