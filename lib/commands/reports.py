"""What `make reports` and `make compare` write: pages of runs, and of two runs side by side."""

from lib.pages import run_page, two_runs


def write(run: str) -> int:
    """Write the page of one run anew, or those of all where `run` is empty; and the index."""
    return run_page.main(run)


def compare(a: str, b: str, pipeline: str) -> int:
    """Write a page that puts two runs side by side, see `lib.commands.which.find_pair`."""
    return two_runs.compare(a, b, pipeline)
