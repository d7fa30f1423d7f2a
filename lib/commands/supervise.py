"""The services of a command: started, watched until Ctrl-C, and ended with all that they began."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lib.ground import addresses
from lib.ground.addresses import HOST
from lib.ground.console import say
from lib.ground.files import ROOT, state_dir
from lib.pages import links

import psutil

STOP_SECONDS = 15
SETTLED_S, PAUSE_S = 60.0, 5.0


@dataclass(frozen=True)
class Service:
    """A long-running process.

    Attributes
    ----------
    name : str
        As in the record of `lib.ground.addresses`.
    command : list of str
    address : str
        Where it will answer, "" where it does not.
    line : str
        What to say once it answers.
    settings : mapping of str to str
        Environment variables that it alone has.
    is_kept_up : bool
        Whether it is started again, `PAUSE_S` after it has ended by itself; one that does so within
        the first `SETTLED_S` has another reason than what others do, and ends the command.
    """

    name: str
    command: list[str]
    address: str = ""
    line: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    is_kept_up: bool = False


def run_services(services: list[Service], settings: Mapping[str, str], by: str) -> int:
    """Start `services`, say when they answer, and stop all of them on Ctrl-C or if one ends.

    One that is to be kept up is started again instead.

    Parameters
    ----------
    services : list of Service
    settings : mapping of str to str
        Environment variables for all of them.
    by : str
        The command that starts them, for the record: "make up".

    Returns
    -------
    int
        0 after Ctrl-C or SIGTERM, 1 if a service ended by itself.

    Raises
    ------
    ValueError
        If one of them runs already on the same outputs.
    """
    logs = state_dir() / ".logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **settings}
    started: dict[str, subprocess.Popen] = {}
    is_ending = is_starting = False

    def end(*_: object) -> None:
        nonlocal is_ending
        if is_ending:
            return  # a second interrupt would leave some running
        is_ending = True
        if not is_starting:  # else nobody would know of what is begun
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # which nohup and a shell's `&` ask for
            signal.signal(number, end)

    def start(service: Service, mode: str) -> None:
        nonlocal is_starting
        is_starting = True
        with (logs / f"{service.name}.log").open(mode) as log:
            started[service.name] = subprocess.Popen(
                service.command,
                env={**environment, **service.settings},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        addresses.note(service.name, started[service.name].pid, at=service.address, by=by)
        is_starting = False
        if is_ending:
            raise KeyboardInterrupt

    try:
        for service in services:
            start(service, "wb")
        begun, waiting = time.monotonic(), [one for one in services if one.address]
        say(f"starting; logs are in {logs}")
        while True:
            _watch(started, waiting)
            is_settled = time.monotonic() - begun > SETTLED_S
            ended = [one for one in services if started[one.name].poll() is not None]
            for service in ended:
                _say_ended(service.name, started[service.name].returncode, logs)
            if not is_settled or not all(service.is_kept_up for service in ended):
                return 1
            time.sleep(PAUSE_S)
            for service in ended:
                stop([started[service.name]])  # what is left of it
                addresses.forget({started[service.name].pid})
                start(service, "ab")
                say(f"{service.name} is started again")
    except KeyboardInterrupt:
        say("stopping")
        return 0
    finally:
        is_ending = True
        stop(list(started.values()))
        addresses.forget({process.pid for process in started.values()})


def _watch(started: dict[str, subprocess.Popen], waiting: list[Service]) -> None:
    """Print each service's line when it answers; return when one has ended."""
    while all(process.poll() is None for process in started.values()):
        for service in list(waiting):
            place = urlsplit(service.address)
            if not is_taken(place.port, place.hostname):
                continue
            waiting.remove(service)
            say(service.line)
            if not waiting:
                say("all up; Ctrl-C stops everything")
                known = addresses.running()
                threading.Thread(target=links.follow, args=(known,), daemon=True).start()
        time.sleep(0.5)


def _say_ended(name: str, status: int, logs: Path) -> None:
    """Say that a service has ended by itself, and what it said last."""
    log = logs / f"{name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    say(f"{name} ended with status {status}; the end of {log}:\n{tail}")


def stop(processes: list[subprocess.Popen]) -> None:
    """End every process with its children: politely, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        psutil.wait_procs(processes, STOP_SECONDS)


def is_taken(port: int, host: str = HOST) -> bool:
    """Say whether somebody answers on a port of this machine, by default of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
