"""A second process for calls that need what takes long to import, as MLflow does.

It is forked before this one imports Airflow, so that both import at the same time. It ends with
this one. Where there is none, or it has died, a call is made here.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from typing import TypeVar

Answer = TypeVar("Answer")
_open: list[ProcessPoolExecutor] = []


@contextmanager
def aside(first: Callable[[], object]) -> Iterator[None]:
    """Have the process while a block goes on; it begins with a call whose answer nobody needs."""
    with ProcessPoolExecutor(1, get_context("fork"), begin) as pool:
        pool.submit(_forget, first)
        _open.append(pool)
        try:
            yield
        finally:
            _open.clear()


def call(function: Callable[..., Answer], *arguments: object, **named: object) -> Answer:
    """Return what a function of a module answers, or raise what it raises there."""
    if _open:
        with suppress(BrokenProcessPool):
            return _open[0].submit(function, *arguments, **named).result()
    return function(*arguments, **named)


def begin() -> None:
    """Leave signals of the terminal to the parent, and end with it."""
    _open.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent_process().join()
    os._exit(1)


def _forget(first: Callable[[], object]) -> None:
    first()
