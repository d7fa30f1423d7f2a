"""Which attempt at a stage may write: one that was given up cannot any more.

Airflow gives an attempt up of which it hears nothing, though it may live on, cut off from the
network for a while, and begins another one elsewhere. So the record of a stage names its attempt,
and is written only as it was read: as soon as a later attempt has written it, or `give_up` has
closed it, the earlier one gets `StageGivenUp` in place of its next write. The executed notebook is
kept in the same way. An attempt has the id that Airflow gives it, which grows with time. Outside of
Airflow there are no attempts, and everybody may write.
"""

import json
import os
import platform

from lib.ground import git
from lib.ground.files import ChangedMeanwhile, encoded, now, read_tagged, write_if, write_json

from upath import UPath

VARIABLE = "AIRFLOW_CTX_ATTEMPT"  # in the environment of a task and of its kernel, JSON
ATTEMPT = "attempt"  # in a stage's record


class StageGivenUp(Exception):
    """An attempt at a stage that counts for nothing any more; what runs of it is to end."""


def begin(run_dir: str, stage: str, number: int, identity: str) -> dict:
    """Let this process, and kernels that it starts, write as an attempt at a stage.

    Parameters
    ----------
    run_dir, stage : str
    number : int
        Airflow's count of tries, for people.
    identity : str
        Airflow's id of the try.

    Returns
    -------
    dict
        What the stage's record will say of it: ``number``, ``id``, ``host`` and ``code``, which is
        that of `lib.ground.git.version`.
    """
    about = {"number": number, "id": identity, "host": platform.node(), "code": git.version()}
    os.environ[VARIABLE] = json.dumps({"of": f"{run_dir}/{stage}", ATTEMPT: about})
    return about


def mine(run_dir: str, stage: str) -> dict:
    """Return the attempt at a stage as which this process writes; {} outside of Airflow."""
    known = json.loads(os.environ.get(VARIABLE, "{}"))
    return known[ATTEMPT] if known.get("of") == f"{run_dir}/{stage}" else {}


def write_record(path: UPath, record: dict, attempt: dict, held: dict[str, str]) -> None:
    """Write the record of a stage, for an attempt that may.

    Parameters
    ----------
    path : UPath
    record : dict
    attempt : dict
        Of `mine`.
    held : dict
        What was read or written last, kept here from call to call; {} at first.

    Raises
    ------
    StageGivenUp
        If the attempt may not write any more; nothing was written.
    """
    if not attempt:
        write_json(path, record)
        return
    if not held:
        data, held["tag"] = read_tagged(path)
        last = json.loads(data or "{}").get(ATTEMPT, {})
        if last.get("id", "") > attempt["id"] or (
            "given_up" in last and last["id"] == attempt["id"]
        ):
            raise StageGivenUp(_refusal(path, attempt))
    keep(path, encoded(record | {ATTEMPT: attempt}), attempt, held)


def keep(path: UPath, data: bytes, attempt: dict, held: dict[str, str]) -> None:
    """Write a file of an attempt, if nobody else has written it since `held`; as `write_record`."""
    try:
        held["tag"] = write_if(path, data, held.get("tag", ""))
    except ChangedMeanwhile as error:
        found, tag = read_tagged(path)
        if found != data:  # a write whose answer was lost is tried again by the client
            raise StageGivenUp(_refusal(path, attempt)) from error
        held["tag"] = tag


def give_up(path: UPath, stage: str, number: int, identity: str) -> bool:
    """Close the record of a stage to an attempt of which Airflow hears nothing any more.

    Returns
    -------
    bool
        Whether it was still open to it: not if the stage is finished, or a later attempt has begun.
    """
    while True:
        data, tag = read_tagged(path)
        record = json.loads(data or "{}")
        last = record.get(ATTEMPT, {})
        if last.get("id", "") > identity or record.get("state") == "finished":
            return False
        blank = {"stage": stage, "state": "running", "started": now(), "parameters": {}}
        blank |= {"reads": {}, "writes": {}}
        closed = {"number": number, **last, "id": identity, "given_up": now()}
        try:
            write_if(path, encoded(blank | record | {ATTEMPT: closed}), tag)
        except ChangedMeanwhile:  # it lives
            continue
        return True


def other_code(records: dict[str, dict], code: str) -> str:
    """Say which stages of a run were executed from other code than `code`; "" if none was."""
    apart = {
        stage: record[ATTEMPT]
        for stage, record in records.items()
        if record.get(ATTEMPT, {}).get("code", code) != code and "from" not in record
    }
    return ", ".join(f"{s} from {one['code']} on {one['host']}" for s, one in apart.items())


def _refusal(path: UPath, attempt: dict) -> str:
    return (
        f"attempt {attempt['number']} at {path.stem} on {attempt['host']}: another attempt has "
        "begun, or Airflow has given this one up. Nothing was written"
    )
