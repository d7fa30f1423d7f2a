"""What a run's page says of the version in production, and of its own."""

import json
from types import SimpleNamespace

from lib import tracking
from lib.pages import publish, run_index, run_page
from lib.pages.summary import summarise
from lib.registry import ledger
from tests import run_pages
from tests.run_pages import MADE, METRICS, STAMP, gated_run, make_run, text_of

import pytest

outputs = run_pages.outputs


def registry_of(monkeypatch, aliases, run_dir="wind/old"):
    """Put a registry with one model in the place of MLflow's."""
    tags = {"metric.rmse": "0.5", "run_dir": run_dir, "data_digest": "d" * 64}
    client = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(aliases=aliases),
        get_model_version=lambda name, version: SimpleNamespace(tags=tags, version=version),
    )
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("aliases", "run_dir", "found"),
    [
        ({"production": "2", "staging": "3"}, "wind/old", ("production", 2)),
        ({"staging": "3"}, "wind/old", ("staging", 3)),
        ({}, "wind/old", None),
        ({"production": "2"}, "wind/a", None),  # this run's own version
    ],
)
def test_version_to_compare_with_is_in_production_or_else_staging(
    monkeypatch, aliases, run_dir, found
):
    registry_of(monkeypatch, aliases, run_dir)
    summary = summarise(make_run(metrics=METRICS, registration={"name": "wind_gbm"}))
    served = publish._serving(summary, run_index.read_rows())
    assert (served.get("alias"), served.get("version")) == (found or (None, None))
    assert not found or served["metrics"] == {"rmse": 0.5}


def test_refused_run_is_compared_with_the_model_of_the_last_registration(monkeypatch):
    registry_of(monkeypatch, {"production": "2"})
    publish.publish(make_run("wind/old", registration={"name": "wind_gbm", "version": 2}))
    publish.publish(make_run("tide/b", registration={"name": "tide_gbm", "version": 9}))
    summary = summarise(make_run("wind/new", metrics=METRICS))
    assert publish._serving(summary, run_index.read_rows())["name"] == "wind_gbm"


def test_missing_store_is_no_problem_and_is_not_made(outputs):
    run = make_run(metrics=METRICS, registration={"name": "wind_gbm"})
    assert "could not be read" not in publish.build(run)
    assert not (outputs / "mlflow.db").exists()


def test_broken_registry_costs_no_page_and_is_named_without_its_password(monkeypatch):
    def refuse():
        raise OSError("cannot reach http://me:secret@db/api")

    registry_of(monkeypatch, {})
    monkeypatch.setattr(tracking, "open_client", refuse)
    page = publish.build(make_run(metrics=METRICS, registration={"name": "wind_gbm"}))
    assert "the registry could not be asked: OSError: cannot reach http://db/api" in page
    assert "secret" not in page


def test_page_never_says_that_nothing_is_and_something_is_in_production():
    run = gated_run(champion=(), registration=MADE | {"promoted": True})
    decision = json.loads((run.path / "gate.json").read_text())
    decision["notes"] = ["nothing is in production under this name"]
    (run.path / "gate.json").write_text(json.dumps(decision))
    standing = {"champion": 5, "archived": "", "changes": []}
    words = text_of(run_page.render(summarise(run), standing=standing))
    assert "in production now" in words and "Nothing was in production under this name." in words
    assert "othing is in production" not in words


def test_undecided_run_waits_for_a_person_and_says_why():
    words = text_of(publish.build(gated_run(problem="it has no signature", registration=MADE)))
    assert "Undecided, a person must decide: it has no signature. Waits for a person" in words


ENTRY = {"action": "promote", "who": "alice", "when": STAMP, "reason": "needed", "override": True}


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"champion": 5}, "version 5, in production now."),
        ({"champion": 6}, "version 5; version 6 is in production now."),
        ({"champion": None}, "version 5; nothing is in production now."),
        (
            {"champion": 6, "archived": STAMP},
            "version 5, replaced 2026-01-02 03:04 UTC; version 6 is in production now.",
        ),
        (
            {"champion": 5, "changes": [ENTRY]},
            "now. Promoted against the gate by alice, 2026-01-02 03:04 UTC: needed",
        ),
        (
            {"champion": 5, "changes": [ENTRY | {"action": "rollback", "override": False}]},
            "now. Put back into production by alice, 2026-01-02 03:04 UTC: needed",
        ),
    ],
)
def test_page_says_whether_the_version_serves_now_and_who_put_it_there(standing, said):
    summary = summarise(gated_run(registration=MADE))
    whole = {"archived": "", "changes": []} | standing
    assert said in text_of(run_page.render(summary, standing=whole))


def test_standing_is_asked_of_registry_and_ledger(monkeypatch):
    entry = {
        "when": STAMP,
        "alias": "production",
        "before": 4,
        "after": 5,
        "verdict": "",
        "id": "x",
    }
    entry |= {"action": "promote", "who": "alice", "reason": "needed", "override": True}
    own = entry | {"who": "", "run_dir": "wind/a"}
    lines = [own, entry | {"run_dir": ""}, entry | {"run_dir": "", "before": 5, "after": 6}]
    texts = {f"{n:06}": json.dumps(line) for n, line in enumerate(lines, start=1)}
    ledger_run = SimpleNamespace(
        info=SimpleNamespace(lifecycle_stage="active"), data=SimpleNamespace(params=texts)
    )
    client = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(
            aliases={"production": "6"}, tags={ledger.TAG: "abc"}
        ),
        get_model_version=lambda name, version: SimpleNamespace(tags={}),
        get_run=lambda run_id: ledger_run,
    )
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = publish._standing(summarise(gated_run(registration=MADE)))
    assert (found["champion"], found["archived"]) == (6, STAMP)
    assert [(change["who"], change["number"]) for change in found["changes"]] == [("alice", 2)]
    assert publish._standing(summarise(make_run("wind/new"))) == {}


def test_page_says_what_a_pipeline_without_a_part_of_its_own_cannot_do():
    page = publish.build(make_run(registration=MADE), ask_registry=False)
    assert text_of(page).count("There is no lib/pipelines/wind.py: versions of wind can") == 1
    assert "lib/pipelines" not in publish.build(make_run("wind/b"), ask_registry=False)
    own = make_run("power/a", registration=MADE)
    assert "lib/pipelines" not in publish.build(own, ask_registry=False)
