"""Work on parts of data, each by itself: here, in processes, or on the machines of a cluster.

What does the work is an executor of `concurrent.futures`: that of Dask's scheduler where
`DASK_SCHEDULER` names one (``tcp://host:8786``), or a pool of processes. Results come in the order
of the parts. The work must depend on nothing but the part: then it does not matter who does it, nor
how often. Dask gives the parts of a worker that was killed to another one.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from lib.ground import git
from lib.ground.files import ROOT

Item, Result = TypeVar("Item"), TypeVar("Result")
REPORT_EVERY_S = 20.0
WAIT_S = 60


def map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    n_workers: int = 1,
    report: Callable[[str], object] = print,
) -> Iterator[Result]:
    """Yield what a function makes of each item, in the order of the items.

    Parameters
    ----------
    function : callable
        Of a module, or a `functools.partial` of one: other processes import it.
    items : iterable
        Their `str` names them in messages.
    n_workers : int, default 1
        Processes of this machine; one is this process. With `DASK_SCHEDULER` its workers count.
    report : callable, default print
        Receives a line of progress at most every `REPORT_EVERY_S` seconds, the first one after
        so many.

    Raises
    ------
    RuntimeError
        If the function fails, or its process was killed: names the item. Or if no worker of the
        cluster can be asked.

    Notes
    -----
    No more than two items for each worker are under way, so results that are taken one by one do
    not gather in memory. A `ValueError` of the function goes on as it is.
    """
    items, began = list(items), time.monotonic()
    reported = began
    with _executor(min(n_workers, len(items))) as (submit, n_ahead):
        waiting: deque[Future] = deque()
        left = iter(items)
        try:
            for n_done, item in enumerate(items, 1):
                waiting.extend(
                    _handed_over(submit, function, one)
                    for one in islice(left, n_ahead - len(waiting))
                )
                yield _result(waiting.popleft(), item)
                if (now := time.monotonic()) - reported >= REPORT_EVERY_S:
                    reported = now
                    report(f"{n_done} of {len(items)} parts · {now - began:.0f} s elapsed")
        finally:
            for future in waiting:
                future.cancel()


class _Here(Executor):
    """Does the work at once, in this process."""

    def submit(self, function: Callable[..., Result], /, *args: object) -> Future:
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _executor(n_workers: int) -> Iterator[tuple[Callable[..., Future], int]]:
    """Give what takes work, and how much of it may be under way."""
    if address := os.environ.get("DASK_SCHEDULER"):
        with _dask(address) as given:
            yield given
    elif n_workers <= 1:
        yield _Here().submit, 1
    else:
        # a fork of this process would share locks of the threads of polars and Arrow
        with ProcessPoolExecutor(n_workers, get_context("spawn")) as pool:
            yield pool.submit, 2 * n_workers


@contextmanager
def _dask(address: str) -> Iterator[tuple[Callable[..., Future], int]]:
    try:
        from distributed import Client
    except ImportError:
        raise RuntimeError(
            f"DASK_SCHEDULER is {address}, and the package distributed is not installed: "
            "make .venv/cluster installs it; or unset DASK_SCHEDULER"
        ) from None
    try:
        client = Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"DASK_SCHEDULER is {address}, and no scheduler answers there ({error}): start it, or "
            "unset DASK_SCHEDULER"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError:
            raise RuntimeError(
                f"the scheduler {address} has no worker after {WAIT_S} s: start dask worker"
            ) from None
        executor = client.get_executor(pure=False)
        yield partial(executor.submit, _with_same_code, code()), 2 * sum(client.nthreads().values())


code = cache(git.version)
"""What code this process runs: that of its checkout when it first asked."""


def _with_same_code(known: str, function: Callable[[Item], Result], item: Item) -> Result:
    """Do the work on a cluster's worker, if it has the code of the stage that asks."""
    if code() != known:
        raise RuntimeError(
            f"a worker of DASK_SCHEDULER runs {code()}, in {ROOT}, and the stage {known}: bring "
            "both to one commit, and start the worker anew"
        )
    return function(item)


def _handed_over(
    submit: Callable[..., Future], function: Callable[[Item], Result], item: Item
) -> Future:
    """Hand an item over; if a process was killed already, the item's future says so."""
    try:
        return submit(function, item)
    except BrokenExecutor as error:
        future = Future()
        future.set_exception(error)
        return future


def _result(future: Future, item: object) -> object:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise RuntimeError(
            f"{item}: a process that works on parts was killed, most likely for want of memory: "
            "give fewer n_workers"
        ) from error
    except ValueError:  # which says itself what is wrong where
        raise
    except Exception as error:
        raise RuntimeError(f"{item}: {type(error).__name__}: {error}") from error
