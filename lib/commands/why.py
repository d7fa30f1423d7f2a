"""What `make why` says: why the stages of a run were executed, or from where they were taken."""

from lib.commands.which import find_run, find_stage
from lib.ground.console import say
from lib.ground.handover import TAKEN
from lib.once import key as keys
from lib.once.taking import words
from lib.pages.summary import summarise


def main(run: str, stage: str) -> None:
    """Print, for one stage or for all, what of its key differs from the nearest earlier run.

    Parameters
    ----------
    run, stage : str
        As for `lib.commands.which.find_run` and `find_stage`; all stages if empty.
    """
    found = find_run(run)
    summary = summarise(found)
    stages = [find_stage(summary, stage)] if stage else summary["stages"]
    records = found.records()
    say(found.run_dir)
    for name in (one["name"] for one in stages):
        record, key = records.get(name, {}), keys.kept(found, name)
        if TAKEN in record:
            lines = [words(record), *key.get("why", [])]
        elif key:
            lines = ["executed", *key["why"]]
        else:
            lines = ["has not run" if not record else "executed; it has noted no key"]
        say(f"  {name:<14} {lines[0]}")
        for line in lines[1:]:
            say(f"  {'':<14} {line}")
