"""The last task of a training DAG: a registered version enters production, or it is said why not.

`PromotionOperator` asks a person where the policy is ``approval``, and otherwise notes what the
register notebook has done. It always leaves `promotion.json` in the run folder. It succeeds, and so
updates its assets, only if a version is in production because of this run. A "no" is no failure:
the task is skipped. An answer to a question that no longer stands fails, and promotes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from lib.dag.notify import report_link, tell_promotion
from lib.dag.operator import interrupt_is_final, run_of, runs_without_server
from lib.dag.telling import note_decision, publish_page, told_before
from lib.ground.files import look_into
from lib.registry.gate import PROMOTED, how_to_promote, markdown

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from lib.run import Run

    from airflow.sdk import Context


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

    @interrupt_is_final()
    def execute(self, context: "Context") -> str:
        """Note what was done, or ask a person and wait; return the version in words."""
        case = _Case.of(run_of(self.pipeline, context))
        registered = case.registered
        if earlier := told_before(case.run):
            case.note(*earlier)
            raise AirflowSkipException(earlier[1])
        if registered["policy"] != "approval":
            if registered["champion"] != registered["version"]:
                case.leave("kept", registered["reason"])
            return self._enter(context, case, registered["reason"])
        if runs_without_server(context):
            case.leave(
                "waiting",
                "it waits at @staging for a person, and no Airflow server runs to answer at: "
                f"{how_to_promote(registered)} promotes it",
            )
        self.subject, self.body = question(case.run, registered, case.gate)
        return super().execute(context)

    def execute_complete(self, context: "Context", event: dict) -> str:
        """Do what the person has answered; return the version in words."""
        from lib.registry import lifecycle

        answer = super().execute_complete(context, event)
        case = _Case.of(run_of(self.pipeline, context))
        who = (answer["responded_by_user"] or {}).get("name", "")
        reason = str(answer["params_input"].get("reason") or "").strip()
        if answer["chosen_options"] != [self.APPROVE]:
            if event.get("timedout"):
                days = self.response_timeout / timedelta(days=1)
                case.leave("expired", f"nobody answered within {days:g} days")
            case.leave("rejected", reason or "no reason was given", who)
        if not reason and case.gate["outcome"] not in PROMOTED:
            case.refuse(
                f"{case.version} was not promoted: the gate says "
                f"{case.gate['outcome'].replace('_', ' ')}, and to promote it all the same a "
                "reason is needed. Clear this task to be asked again, or "
                f"{how_to_promote(case.registered)}",
                who,
            )
        reason = reason or f"approved: {case.gate['reason']}"
        name, version = case.registered["name"], case.registered["version"]
        champion = case.gate["champion"]
        lifecycle.reconcile(name)  # so that a retry sees what an interrupted try has done
        if lifecycle.champion(name) != version:
            try:
                lifecycle.promote(
                    name,
                    version,
                    reason=reason,
                    who=who,
                    run_dir=case.run.run_dir,
                    expected=champion["version"] if champion else None,
                )
            except ValueError as error:  # a conflict, or a reason that is too long
                case.refuse(str(error), who)
        made = self._enter(context, case, reason, who)
        tell_promotion(case.run)
        return made

    def _enter(self, context: "Context", case: "_Case", reason: str, who: str = "") -> str:
        """Note that the version is in production, and say so to who waits for the asset."""
        case.note("promoted", reason, who)
        facts = {key: case.registered[key] for key in ("name", "version")}
        for asset in self.outlets:
            context["outlet_events"][asset].extra = facts | {"run_dir": case.run.run_dir}
        return case.version


@dataclass(frozen=True)
class _Case:
    """What is decided: the version that a run has registered, and what the gate said of it."""

    run: "Run"
    registered: dict
    gate: dict

    @classmethod
    def of(cls, run: "Run") -> "_Case":
        """Return that of a run."""
        with look_into(run.path):
            return cls(run, run.read("registration.json"), run.read("gate.json"))

    @property
    def version(self) -> str:
        """The version in words."""
        return f"{self.registered['name']} version {self.registered['version']}"

    def leave(self, outcome: str, reason: str, who: str = "") -> NoReturn:
        """Note why nothing was promoted, and skip the task."""
        self.note(outcome, reason, who)
        raise AirflowSkipException(f"{self.version} was not promoted: {reason}")

    def refuse(self, reason: str, who: str) -> NoReturn:
        """Note why a promotion that was asked for is not possible, and fail for good."""
        self.note("refused", reason, who)
        raise AirflowFailException(reason)

    def note(self, outcome: str, reason: str, who: str = "") -> None:
        """Write `promotion.json`, and the page of the run, which shows it."""
        note_decision(self.run, self.registered, outcome, reason, who)
        publish_page(self.run, complete=True)


def question(run: "Run", registered: dict, gate: dict) -> tuple[str, str]:
    """Return subject and body (Markdown) of the request that a person answers.

    Parameters
    ----------
    run : Run
        Of the version.
    registered, gate : dict
        The content of `registration.json` and `gate.json`.
    """
    champion, link = gate["champion"], report_link(run)
    serving = f"version {champion['version']} serves now" if champion else "no version serves now"
    lines = [markdown(gate), f"Registered by run `{run.run_dir}`; {serving}."]
    if link:
        lines.append(f"[Report of the run]({link})")
    if gate["outcome"] not in PROMOTED:
        lines.append("**The gate did not find it better: to promote it, give a reason.**")
    return f"Promote {registered['name']} version {registered['version']}?", "\n\n".join(lines)
