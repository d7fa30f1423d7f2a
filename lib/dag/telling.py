"""What is told of a run when something of it has ended: its page, and what became of its model.

Airflow is not imported for it: a run that takes every stage needs none, see `lib.dag.unchanged`.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.ground import aside
from lib.ground.files import look_into, now, read_object, write_json
from lib.ground.folder import look_at
from lib.ground.handover import TAKEN
from lib.once.standing import REGISTRATION
from lib.once.taking import words
from lib.pages.summary import PAGE

if TYPE_CHECKING:
    from lib.run import Run

DECISION = "promotion.json"

logger = logging.getLogger(__name__)


def publish_page(run: "Run", *, complete: bool = False) -> None:
    """Write the page of `run` and the index; a failure to do so is no failure of the stage.

    The page is there at once. A `complete` one, which waits for MLflow, names the run's MLflow
    run, compares with the version that serves, and is logged.
    """
    from lib import tracking
    from lib.pages import publish

    try:
        if complete:
            aside.call(publish.publish, run)
            aside.call(tracking.log_page, run, PAGE)
        else:
            publish.publish(run, ask_registry=False)
    except Exception:
        logger.exception("The page of the run could not be written or logged")


def note_decision(
    run: "Run", registered: Mapping, outcome: str, reason: str, who: str = ""
) -> None:
    """Write what became of a version that a run has registered; see `lib.dag.promotion`."""
    from lib import tracking

    facts = {key: registered[key] for key in ("name", "version", "policy")}
    said = {"outcome": outcome, **facts, "who": who, "reason": reason, "when": now()}
    with look_into(run.path):
        write_json(run.path / DECISION, said)
        aside.call(tracking.log_page, run, DECISION)


def told_before(run: "Run") -> tuple[str, str] | None:
    """Return outcome and reason where a registration was taken from a run that has settled it."""
    made = [one for one in run.records().values() if REGISTRATION in one["writes"]]
    if not made or TAKEN not in made[-1]:
        return None
    settled = read_object(look_at(made[-1][TAKEN]).path / DECISION)
    if not settled:
        return None
    return settled["outcome"], f"nothing is new, {words(made[-1])}: {settled['reason']}"
