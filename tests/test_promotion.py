"""After registration: who promotes what when, what is asked, and who is told by an asset."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from lib.dag.telling import DECISION
from lib.ground.files import read_object
from lib.registry import lifecycle
from lib.run import open_run

import pytest
from late import Late
from whole_runs import asset_events, impatient, prepare

form, promotion = Late("lib.dag.form"), Late("lib.dag.promotion")
exceptions = Late("airflow.sdk.exceptions")
NAME = "household_power_lightgbm_sample"
ROWS = [
    {
        "metric": "rmse",
        "greater_is_better": False,
        "floor": None,
        "candidate": 0.41,
        "champion": 0.45,
        "difference": -0.04,
        "low": -0.06,
        "high": -0.02,
        "p_value": None,
        "decisive": True,
        "passed": True,
    }
]


def read_decision(run):
    return read_object(run.path / DECISION)


def gate(outcome="better", champion=1):
    return {
        "outcome": outcome,
        "promote": outcome in ("first", "better"),
        "reason": f"the gate says {outcome}",
        "champion": {"name": NAME, "version": champion} if champion else None,
        "rows": ROWS,
        "margin": 0.0,
        "level": 0.95,
        "notes": [],
    }


def registration(policy="approval", version=2, champion=1):
    return {
        "name": NAME,
        "version": version,
        "alias": "staging",
        "uri": f"models:/{NAME}@staging",
        "verdict": "rmse_vs_persistence = 0.7, required <= 0.9: passed",
        "policy": policy,
        "outcome": "better",
        "reason": "the gate says better",
        "promoted": champion == version,
        "champion": champion,
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr(promotion, "publish_page", lambda run, complete: None)
    return open_run("power/manual__1")


def leave(run, registered, verdict):
    """Write what a register notebook leaves."""
    stage = open_run(run.run_dir, stage="06_register")
    stage.write("registration.json", registered)
    stage.write("gate.json", verdict)
    stage.finish()


@pytest.fixture
def promoted(monkeypatch):
    """What the registry was told; its champion is version 1 at first."""
    calls, champion = [], [1]

    def promote(name, version, *, expected, **more):
        if champion[0] != expected:
            raise lifecycle.PromotionConflict(
                f"{name}: version {champion[0]} was promoted meanwhile"
            )
        calls.append({"name": name, "version": version} | more)
        champion[0] = version

    monkeypatch.setattr(lifecycle, "promote", promote)
    monkeypatch.setattr(lifecycle, "reconcile", lambda name: [])
    monkeypatch.setattr(lifecycle, "champion", lambda name: champion[0])
    return SimpleNamespace(calls=calls, champion=champion)


@pytest.fixture
def context():
    asset = form.model_asset("power")
    return {
        "run_id": "manual__1",
        "dag_run": SimpleNamespace(triggering_user_name="alice"),
        "task_instance": (task := SimpleNamespace(id="0", map_index=-1)),
        "ti": task,
        "outlet_events": {asset: SimpleNamespace(extra={})},
    }


def event(option, who="bob", reason="", **more):
    user = {"id": who, "name": who} if who else None
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": datetime(2026, 11, 1, tzinfo=UTC),
        "responded_by_user": user,
    } | more


def answered(context, *event_parts, **event_facts):
    return form.promotion_task("power").execute_complete(
        context, event(*event_parts, **event_facts)
    )


def execute(context):
    return promotion.PromotionOperator.execute.__wrapped__(form.promotion_task("power"), context)


@pytest.mark.parametrize("policy", ["auto", "staging", "never"])
def test_version_that_was_not_promoted_skips_the_task_and_says_why(run, promoted, context, policy):
    leave(run, registration(policy), gate("not_better"))
    with pytest.raises(
        exceptions.AirflowSkipException, match="version 2 was not promoted: the gate says"
    ):
        execute(context)
    assert read_decision(run)["outcome"] == "kept" and not promoted.calls


def test_version_that_the_notebook_has_promoted_updates_the_asset(run, promoted, context):
    leave(run, registration("auto", champion=2), gate())
    assert execute(context) == f"{NAME} version 2"
    extra = context["outlet_events"][form.model_asset("power")].extra
    assert extra == {"name": NAME, "version": 2, "run_dir": run.run_dir}
    assert read_decision(run)["outcome"] == "promoted"
    assert not promoted.calls, "the notebook has done it"


def test_person_is_asked_with_the_verdict_and_a_limit(run, promoted, context, monkeypatch):
    asked = {}
    place = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    monkeypatch.setattr(place, lambda **facts: asked.update(facts))
    leave(run, registration(), gate())
    with pytest.raises(exceptions.TaskAwaitingInput) as waiting:
        execute(context)
    assert waiting.value.timeout == timedelta(days=3)
    assert asked["subject"] == f"Promote {NAME} version 2?"
    assert "rmse" in asked["body"] and "0.41" in asked["body"] and "version 1" in asked["body"]
    assert asked["options"] == ["Approve", "Reject"] and asked["defaults"] == ["Reject"]
    assert list(asked["params"]) == ["reason"]
    assert (
        "null"
        in promotion.PromotionOperator(
            task_id="promote", pipeline="power", response_timeout=timedelta(days=3)
        )
        .params.get_param("reason")
        .schema["type"]
    ), "no reason is needed for what the gate has found"
    assert not promoted.calls and not read_decision(run)


def test_question_says_when_the_gate_is_against_it(run):
    assert "give a reason" in promotion.question(run, registration(), gate("undecided"))[1]
    assert "give a reason" not in promotion.question(run, registration(), gate("better"))[1]
    body = promotion.question(run, registration(champion=None), gate("first", champion=None))[1]
    assert "no version serves now" in body


def test_text_of_a_verdict_is_never_taken_for_a_template():
    assert not promotion.PromotionOperator.template_fields


def test_approval_promotes_and_records_the_person(run, promoted, context):
    leave(run, registration(), gate())
    assert answered(context, "Approve", reason="looks good") == f"{NAME} version 2"
    (call,) = promoted.calls
    assert call["who"] == "bob" and call["reason"] == "looks good"
    assert call["run_dir"] == run.run_dir
    decision = read_decision(run)
    assert (decision["outcome"], decision["who"]) == ("promoted", "bob")
    assert context["outlet_events"][form.model_asset("power")].extra["version"] == 2


def test_approval_of_what_the_gate_backs_needs_no_reason(run, promoted, context):
    leave(run, registration(), gate())
    answered(context, "Approve")
    assert promoted.calls[0]["reason"] == "approved: the gate says better"


@pytest.mark.parametrize("outcome", ["not_better", "undecided"])
def test_approval_against_the_gate_without_a_reason_is_refused(run, promoted, context, outcome):
    leave(run, registration(), gate(outcome))
    with pytest.raises(
        exceptions.AirflowFailException, match=r"a reason is needed.*make promote MODEL="
    ):
        answered(context, "Approve", reason="  ")
    assert read_decision(run)["outcome"] == "refused" and not promoted.calls
    answered(context, "Approve", reason="the drop in the test week is a broken meter")
    assert promoted.calls[0]["reason"].startswith("the drop")


def test_rejection_is_no_failure_and_names_the_person(run, promoted, context):
    leave(run, registration(), gate())
    with pytest.raises(exceptions.AirflowSkipException, match="too early"):
        answered(context, "Reject", reason="too early")
    decision = read_decision(run)
    assert (decision["outcome"], decision["who"]) == ("rejected", "bob") and not promoted.calls


def test_no_answer_in_time_is_a_no(run, promoted, context):
    leave(run, registration(), gate())
    with pytest.raises(exceptions.AirflowSkipException, match="nobody answered within 3 days"):
        answered(context, "Reject", who="", timedout=True)
    assert read_decision(run)["outcome"] == "expired" and not promoted.calls


def test_approval_after_the_champion_has_changed_is_refused_and_says_so(run, promoted, context):
    leave(run, registration(), gate())
    promoted.champion[0] = 3
    with pytest.raises(exceptions.AirflowFailException, match="version 3 was promoted meanwhile"):
        answered(context, "Approve")
    decision = read_decision(run)
    assert decision["outcome"] == "refused" and "version 3" in decision["reason"]


def test_second_approval_after_the_alias_has_moved_promotes_once(run, promoted, context):
    leave(run, registration(), gate())
    for _ in range(2):
        assert answered(context, "Approve") == f"{NAME} version 2"
    assert len(promoted.calls) == 1


def test_run_without_a_server_does_not_wait_and_says_who_decides(run, promoted, context):
    context["dag_run"].triggering_user_name = "dag_test"
    leave(run, registration(), gate())
    with pytest.raises(
        exceptions.AirflowSkipException, match=f"make promote MODEL={NAME} VERSION=2 REASON="
    ):
        execute(context)
    assert read_decision(run)["outcome"] == "waiting"


# Through Airflow ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def airflow():
    prepare()


@pytest.fixture
def power(airflow, run, promoted, monkeypatch):
    """Run the power DAG's last task alone, on the run folder of the test; gives its state."""
    monkeypatch.setattr(promotion, "run_of", lambda pipeline, context: run)
    dag = impatient("power")

    def go():
        done = dag.test(mark_success_pattern=r"\d+_\w+", run_conf={"source": "sample"})
        return done, {t.task_id: t.state for t in done.get_task_instances()}["promote"]

    return go


def answer_from_outside(option, **params):
    """Answer the next request that is open, as Airflow's own page does."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    waiting = select(TaskInstance).where(TaskInstance.state == "awaiting_input")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.2)
        with create_session() as session:
            found = session.scalars(waiting).first()
            if found:
                update_hitl_detail(
                    dag_id=found.dag_id,
                    dag_run_id=found.run_id,
                    task_id=found.task_id,
                    update_hitl_detail_payload=UpdateHITLDetailPayload(
                        chosen_options=[option], params_input=params
                    ),
                    user=SimpleAuthManagerUser(username="carol", role="admin"),
                    session=session,
                )
                return


@pytest.fixture
def carol(monkeypatch):
    """Let a run wait for a person, and have Carol answer."""
    monkeypatch.setattr(promotion, "runs_without_server", lambda context: False)
    threads = []

    def answers(option, **params):
        thread = threading.Thread(target=answer_from_outside, args=(option,), kwargs=params)
        thread.start()
        threads.append(thread)

    yield answers
    for thread in threads:
        thread.join()


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_asset_is_updated_after_a_promotion_and_not_otherwise(power, run):
    leave(run, registration("auto"), gate("not_better"))
    done, state = power()
    assert (done.state, state) == ("success", "skipped") and asset_events(done) == []
    leave(run, registration("auto", champion=2), gate())
    done, state = power()
    assert (done.state, state) == ("success", "success")
    expected = {"name": NAME, "version": 2, "run_dir": run.run_dir}
    assert asset_events(done) == [("models/power", expected)]


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_run_waits_for_a_person_whose_answer_decides(power, run, carol, promoted):
    leave(run, registration(), gate())
    carol("Reject", reason="not on a Friday")
    done, state = power()
    assert (done.state, state) == ("success", "skipped") and asset_events(done) == []
    assert read_decision(run)["who"] == "carol" and not promoted.calls
    carol("Approve", reason="Monday")
    done, state = power()
    assert (done.state, state) == ("success", "success")
    assert [(c["who"], c["reason"]) for c in promoted.calls] == [("carol", "Monday")]
    assert [name for name, _ in asset_events(done)] == ["models/power"]
