"""The last task of a training DAG: a registered version enters production, or it is said why not.

`PromotionOperator` asks a person where the policy is ``approval``, and otherwise notes what the
register notebook has done. It always leaves `promotion.json` in the run folder. It succeeds, and so
updates its assets, only if a version is in production because of this run. A "no" is no failure:
the task is skipped. An answer to a question that no longer stands fails, and promotes nothing.
"""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from lib.dag.notify import report_link, tell_promotion
from lib.dag.operator import (
    interrupt_is_final,
    open_run_of,
    publish_page,
    runs_without_server,
)
from lib.files import now, write_bytes
from lib.registry.gate import PROMOTED, how_to_promote, markdown

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from lib.run import Run

    from airflow.sdk import Context

DECISION = "promotion.json"
AGREED = ("approved", "promoted")


class PromotionOperator(ApprovalOperator):
    """Put the version that the run has registered into production, as its policy says.

    Parameters
    ----------
    pipeline : str
        A folder below `notebooks/`, whose run registers a model.
    response_timeout : timedelta
        How long a person may take to answer; then the answer is "no".
    **kwargs
        Passed to Airflow's `BaseOperator`.

    Notes
    -----
    `promotion.json` holds ``outcome``, ``name``, ``version``, ``policy``, ``who`` (a person, or
    ""), ``reason`` in words and ``when``. The outcomes:

    ``promoted``
        The version is in production.
    ``kept``
        The policy or the gate did not promote it.
    ``rejected``, ``expired``
        A person said no, or nobody answered in time.
    ``waiting``
        There is no server to answer at: `make promote` decides.
    ``approved``
        A person has agreed, and the promotion is under way; a retry goes on from here.
    ``refused``
        A person has agreed, but the promotion was not possible any more.
    """

    template_fields = ()  # a verdict is text, never a template
    ui_color = "#e6f2e6"

    def __init__(self, *, pipeline: str, response_timeout: timedelta, **kwargs: object) -> None:
        reason = Param(
            "",
            source="task",
            type=["string", "null"],  # else the form demands one for every answer
            title="Reason",
            description="Why. Needed to promote a version that the gate did not find better",
        )
        super().__init__(
            subject=f"Promote the model of {pipeline}?",
            defaults=self.REJECT,
            response_timeout=response_timeout,
            **(kwargs | {"params": {"reason": reason}}),  # Airflow hands the DAG's own in
        )
        self.pipeline = pipeline

    def execute(self, context: "Context") -> str:
        """Note what was done, or ask a person and wait; return the version in words."""
        with interrupt_is_final():
            return self._decide(context)

    def _decide(self, context: "Context") -> str:
        run = open_run_of(self.pipeline, context)
        registered, gate = run.read("registration.json"), run.read("gate.json")
        if registered["policy"] != "approval":
            return self._take_over(context, run, registered)
        earlier = read_decision(run)
        if earlier.get("outcome") in AGREED and _same(earlier, registered):
            return self._promote(context, run, registered, earlier["who"], earlier["reason"])
        if runs_without_server(context):
            self._leave(run, registered, "waiting", reason=_how_to_decide(registered))
        self.subject, self.body = question(run, registered, gate)
        return super().execute(context)

    def execute_complete(self, context: "Context", event: dict) -> str:
        """Do what the person has answered; return the version in words."""
        answer = super().execute_complete(context, event)
        run = open_run_of(self.pipeline, context)
        registered, gate = run.read("registration.json"), run.read("gate.json")
        who = (answer["responded_by_user"] or {}).get("name", "")
        reason = str(answer["params_input"].get("reason") or "").strip()
        if answer["chosen_options"] != [self.APPROVE]:
            self._decline(run, registered, who, reason, late=bool(event.get("timedout")))
        if not reason and gate["outcome"] not in PROMOTED:
            text = (
                f"{_version(registered)} was not promoted: the gate says "
                f"{gate['outcome'].replace('_', ' ')}, and to promote it all the same a reason is "
                f"needed. Clear this task to be asked again, or {how_to_promote(registered)}"
            )
            self._refuse(run, registered, who, text)
        reason = reason or f"approved: {gate['reason']}"
        _note(run, registered, "approved", who=who, reason=reason)
        return self._promote(context, run, registered, who, reason)

    def _take_over(self, context: "Context", run: "Run", registered: dict) -> str:
        """Note what the register notebook has done by itself."""
        if registered["champion"] != registered["version"]:
            self._leave(run, registered, "kept", reason=registered["reason"])
        return self._enter(context, run, registered, who="", reason=registered["reason"])

    def _promote(
        self, context: "Context", run: "Run", registered: dict, who: str, reason: str
    ) -> str:
        from lib.registry import lifecycle

        name, version = registered["name"], registered["version"]
        champion = run.read("gate.json")["champion"]
        lifecycle.reconcile(name)  # so that a retry sees what an interrupted try has done
        if lifecycle.champion(name) != version:
            try:
                lifecycle.promote(
                    name,
                    version,
                    reason=reason,
                    who=who,
                    run_dir=run.run_dir,
                    verdict=registered["verdict"],
                    expected=champion["version"] if champion else None,
                )
            except ValueError as error:  # a conflict, or a reason that is too long
                self._refuse(run, registered, who, str(error))
        made = self._enter(context, run, registered, who=who, reason=reason)
        tell_promotion(run)
        return made

    def _enter(
        self, context: "Context", run: "Run", registered: dict, *, who: str, reason: str
    ) -> str:
        """Note that the version is in production, and say so to who waits for the asset."""
        _note(run, registered, "promoted", who=who, reason=reason)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {
                "name": registered["name"],
                "version": registered["version"],
                "run_dir": run.run_dir,
            }
        return _version(registered)

    def _decline(
        self, run: "Run", registered: dict, who: str, reason: str, *, late: bool
    ) -> NoReturn:
        if late:
            days = self.response_timeout / timedelta(days=1)
            self._leave(run, registered, "expired", reason=f"nobody answered within {days:g} days")
        self._leave(run, registered, "rejected", who=who, reason=reason or "no reason was given")

    def _leave(
        self, run: "Run", registered: dict, outcome: str, *, reason: str, who: str = ""
    ) -> NoReturn:
        """Note why nothing was promoted, and skip the task."""
        _note(run, registered, outcome, who=who, reason=reason)
        raise AirflowSkipException(f"{_version(registered)} was not promoted: {reason}")

    def _refuse(self, run: "Run", registered: dict, who: str, reason: str) -> NoReturn:
        """Note why a promotion that was asked for is not possible, and fail for good."""
        _note(run, registered, "refused", who=who, reason=reason)
        raise AirflowFailException(reason)


def read_decision(run: "Run") -> dict:
    """Return the content of `promotion.json`; {} if there is none."""
    path = run.path / DECISION
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def question(run: "Run", registered: dict, gate: dict) -> tuple[str, str]:
    """Return subject and body (Markdown) of the request that a person answers.

    Parameters
    ----------
    run : Run
        Of the version.
    registered, gate : dict
        The content of `registration.json` and `gate.json`.
    """
    champion = gate["champion"]
    serving = f"version {champion['version']} serves now" if champion else "no version serves now"
    lines = [markdown(gate), f"Registered by run `{run.run_dir}`; {serving}."]
    link = report_link(run)
    if link:
        lines.append(f"[Report of the run]({link})")
    if gate["outcome"] not in PROMOTED:
        lines.append("**The gate did not find it better: to promote it, give a reason.**")
    return f"Promote {_version(registered)}?", "\n\n".join(lines)


def _note(run: "Run", registered: dict, outcome: str, *, who: str, reason: str) -> None:
    """Write `promotion.json`, and the page of the run, which shows it."""
    from lib import tracking

    decision = {
        "outcome": outcome,
        "name": registered["name"],
        "version": registered["version"],
        "policy": registered["policy"],
        "who": who,
        "reason": reason,
        "when": now(),
    }
    write_bytes(run.path / DECISION, (json.dumps(decision, indent=2) + "\n").encode())
    tracking.log_page(run, DECISION)
    publish_page(run, complete=True)


def _same(decision: dict, registered: dict) -> bool:
    return all(decision[key] == registered[key] for key in ("name", "version"))


def _version(registered: dict) -> str:
    return f"{registered['name']} version {registered['version']}"


def _how_to_decide(registered: dict) -> str:
    return (
        f"it waits at @staging for a person, and no Airflow server runs to answer at: "
        f"{how_to_promote(registered)} promotes it"
    )
