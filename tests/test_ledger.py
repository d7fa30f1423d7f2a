"""The ledger and the aliases: nothing is lost, altered or decided twice, whatever is cut off."""

import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

from lib import tracking
from lib.commands import services
from lib.ground.files import ROOT
from lib.registry import aliases as moves
from lib.registry import ledger, lifecycle, standing
from lib.registry.aliases import PRODUCTION, STAGING, PromotionConflict
from lib.registry.ledger import EntryTaken

import pytest
from memory_store import MemoryClient
from mlflow import MlflowException
from whole_runs import new_store

NUMBERS = count(1)
SOURCE = "s3://nowhere/model"  # never read; a server takes no path of a run that it does not know


@pytest.fixture(scope="module", params=["memory", pytest.param("sqlite", marks=pytest.mark.kernel)])
def store(request, tmp_path_factory):
    """A store in memory, and MLflow's own, which takes much longer: the same tests on both."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
        patch.setenv("OUTPUTS_DIR", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(moves, "PAUSE_S", 0.0)
        if request.param == "memory":
            client = MemoryClient()
            patch.setattr(tracking, "open_client", lambda: client)
            patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # which is never asked
        else:
            new_store(folder)
        yield tracking.open_client()


@pytest.fixture
def in_memory(store):
    """Leave out what MLflow's own store cannot show."""
    if not isinstance(store, MemoryClient):
        pytest.skip("for the store in memory")
    store.delay_s = 0.002
    yield store
    store.delay_s = 0.0


@pytest.fixture
def model(store):
    """A registered model with four versions, all better than what is there."""
    return make_model(store, f"model_{next(NUMBERS)}")


def make_model(client, name, n_versions=4, outcome="better"):
    ledger.establish(client, name)
    for _ in range(n_versions):
        client.create_model_version(name, SOURCE, tags={"gate.outcome": outcome, "verdict": "ok"})
    return name


def put(name, *versions):
    for version in versions:
        lifecycle.promote(name, version, reason=f"for {version}", who="anna")


def aliases(name):
    found = tracking.open_client().get_registered_model(name).aliases
    return {alias: int(version) for alias, version in found.items()}


def changes(name):
    return [(e.action, e.alias, e.before, e.after) for e in lifecycle.history(name)]


def archived(name, version):
    return standing.standing_of(name, version, "")["archived"]


def troubles(name):
    return [t.removeprefix(f"{name}: ") for t in lifecycle.troubles() if t.startswith(f"{name}: ")]


def settled(name):
    """Say whether aliases and ledger agree, and every entry is finished."""
    entries = lifecycle.history(name)
    agree = aliases(name).get(PRODUCTION) == lifecycle.champion(name)
    return agree and not troubles(name) and all(e.done for e in entries)


# One change after another ----------------------------------------------------------------------


def test_promotion_is_on_record_before_and_after(model):
    put(model, 1)
    made = lifecycle.promote(model, 2, reason=" less error ", run_dir="power/r2")
    first, second = lifecycle.history(model)
    assert (second.before, second.after, second.reason) == (1, 2, "less error")
    assert (second.who, second.run_dir, second.verdict) == ("", "power/r2", "ok")
    assert (first.who, first.verdict) == ("anna", "ok")
    assert (made.number, made.id) == (second.number, second.id) and second.done
    assert datetime.fromisoformat(second.when).utcoffset() == timedelta(0)
    assert aliases(model) == {PRODUCTION: 2} and lifecycle.champion(model) == 2
    assert archived(model, 1) == second.when and archived(model, 2) == ""
    assert settled(model)


def test_version_that_returns_is_archived_no_more(model):
    put(model, 1, 2, 1)
    assert archived(model, 1) == "" and archived(model, 2)
    assert int(lifecycle.version(model, "@production").version) == 1


def test_rollback_goes_back_step_by_step_and_never_forth(model):
    put(model, 1, 2, 3)
    assert (lifecycle.rollback(model, who="bob").after, lifecycle.champion(model)) == (2, 2)
    undone = lifecycle.rollback(model, reason="slow")
    assert (undone.before, undone.after, undone.reason, undone.action) == (2, 1, "slow", "rollback")
    with pytest.raises(ValueError, match="version 1 is in production, and no earlier champion"):
        lifecycle.rollback(model)
    put(model, 4)
    assert lifecycle.rollback(model).after == 1, "not 2 or 3, which were rolled back from"
    assert settled(model) and archived(model, 1) == ""


def test_rollback_passes_over_what_was_deleted_and_says_when_nothing_is_left(store, model):
    with pytest.raises(ValueError, match="cannot be rolled back: no version is in production"):
        lifecycle.rollback(model)
    put(model, 1, 2, 3)
    store.delete_model_version(model, "2")
    assert lifecycle.rollback(model).after == 1
    put(model, 4)
    store.delete_model_version(model, "1")
    with pytest.raises(ValueError, match="no earlier champion is left. To choose another version"):
        lifecycle.rollback(model)
    assert lifecycle.champion(model) == 4 and settled(model)


def test_rollback_passes_over_what_serves_already_where_the_one_between_was_deleted(store, model):
    put(model, 3, 1, 2, 1)
    store.delete_model_version(model, "2")
    assert lifecycle.rollback(model).after == 3
    with pytest.raises(ValueError, match="no earlier champion is left"):
        lifecycle.rollback(model)


def test_champion_at_a_time_is_read_from_the_ledger(model, monkeypatch):
    days = iter(range(1, 30))
    monkeypatch.setattr(moves, "now", lambda: f"2026-11-{next(days):02}T00:00:00+00:00")
    put(model, 1)  # takes a day to the end
    put(model, 3)
    lifecycle.rollback(model)
    first, second, third = (datetime.fromisoformat(e.when) for e in lifecycle.history(model))
    moment = timedelta(seconds=1)
    assert lifecycle.champion(model, first - moment) is None
    assert lifecycle.champion(model, first) == lifecycle.champion(model, second - moment) == 1
    assert lifecycle.champion(model, second.replace(tzinfo=None)) == 3
    assert lifecycle.champion(model, third) == lifecycle.champion(model) == 1


def test_clock_that_goes_back_does_not_turn_the_order_round(model, monkeypatch):
    put(model, 1)
    monkeypatch.setattr(moves, "now", lambda: "2001-01-01T00:00:00.000+00:00")
    put(model, 2)
    first, second = lifecycle.history(model)
    assert second.when == first.when and lifecycle.champion(model, datetime.now(UTC)) == 2


def test_override_needs_a_reason_and_stays_visible(store):
    name = make_model(store, f"model_{next(NUMBERS)}", outcome="not_better")
    store.set_model_version_tag(name, "3", "gate.outcome", "better")
    with pytest.raises(ValueError, match="no reason was given"):
        lifecycle.promote(name, 1, reason="  ")
    assert lifecycle.history(name) == [] and aliases(name) == {}
    put(name, 1, 3)
    assert [e.override for e in lifecycle.history(name)] == [True, False]


def test_what_cannot_be_promoted_is_refused_by_name(model):
    put(model, 1)
    with pytest.raises(ValueError, match=rf"{model} version 1 is in production already"):
        put(model, 1)
    with pytest.raises(ValueError, match=rf"{model} has no version 9; there are: 1, 2, 3, 4, @pro"):
        put(model, 9)
    with pytest.raises(ValueError, match="has no version @canary"):
        put(model, "@canary")
    with pytest.raises(ValueError, match=rf"no registered model 'nobody'; there are: .*{model}"):
        put("nobody", 1)
    with pytest.raises(ValueError, match="does not fit the ledger, .*: give a shorter reason"):
        lifecycle.promote(model, 2, reason="x" * 6000)
    assert len(lifecycle.history(model)) == 1


def test_entry_cannot_be_changed_and_its_number_is_given_once(store, model):
    put(model, 1)
    (entry,) = lifecycle.history(model)
    run_id = store.get_registered_model(model).tags[ledger.TAG]
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        store.log_param(run_id, "000001", "{}")
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        store.log_param(run_id, "000001.done", "never")
    with pytest.raises(EntryTaken):
        ledger.append(store, run_id, ledger.Entry(**vars(entry) | {"id": "another"}))
    ledger.finish(store, run_id, entry)
    assert lifecycle.history(model) == [entry]


def test_longest_entry_fits(store, model):
    store.set_model_version_tag(model, "1", "verdict", "v" * 2000)
    made = lifecycle.promote(model, 1, reason='"\n' * 750, run_dir="p/" + "r" * 250)
    assert lifecycle.history(model)[0].reason == made.reason == ('"\n' * 750).strip()


# Changes made past the ledger -------------------------------------------------------------------


def test_alias_moved_by_hand_is_seen_entered_and_can_be_undone(store, model):
    put(model, 1, 2)
    store.set_registered_model_alias(model, PRODUCTION, "4")
    assert troubles(model) == ["@production points to version 4, the ledger says version 2"]
    assert lifecycle.champion(model) == 2
    (said,) = lifecycle.reconcile(model)
    assert said.startswith("entered into the ledger: @production from version 2 to version 4")
    assert changes(model)[-1] == ("found", PRODUCTION, 2, 4) and settled(model)
    assert lifecycle.reconcile(model) == []
    assert lifecycle.rollback(model).after == 2


def test_history_survives_the_deletion_of_the_alias(store, model):
    put(model, 1, 2)
    store.delete_registered_model_alias(model, PRODUCTION)
    assert troubles(model)
    lifecycle.reconcile(model)
    assert changes(model)[-1] == ("found", PRODUCTION, 2, None)
    assert lifecycle.champion(model) is None and settled(model)
    assert lifecycle.rollback(model).after == 2 and lifecycle.rollback(model).after == 1


def test_deleted_champion_leaves_none_and_the_way_back(store, model):
    put(model, 1, 2)
    store.delete_model_version(model, "2")
    lifecycle.reconcile(model)
    assert lifecycle.champion(model) is None
    assert lifecycle.rollback(model).after == 1


def test_promotion_sees_what_was_moved_by_hand(store, model):
    put(model, 1)
    store.set_registered_model_alias(model, PRODUCTION, "2")
    with pytest.raises(PromotionConflict, match="version 1 was expected .* version 2 is there"):
        lifecycle.promote(model, 3, reason="better", expected=1)
    put(model, 3)
    assert changes(model)[1:] == [("found", PRODUCTION, 1, 2), ("promote", PRODUCTION, 2, 3)]


def test_model_from_before_gets_a_ledger_on_its_first_change(store):
    name = f"model_{next(NUMBERS)}"
    store.create_registered_model(name)
    for _ in range(3):
        store.create_model_version(name, SOURCE)
    assert lifecycle.reconcile(name) == [] and lifecycle.history(name) == []
    assert ledger.TAG not in store.get_registered_model(name).tags
    store.set_registered_model_alias(name, PRODUCTION, "1")
    store.set_registered_model_alias(name, STAGING, "2")
    assert lifecycle.champion(name) == 1
    assert not troubles(name)
    put(name, 3)
    assert changes(name) == [
        ("found", PRODUCTION, None, 1),
        ("found", STAGING, None, 2),
        ("promote", PRODUCTION, 1, 3),
    ]
    assert lifecycle.history(name)[-1].override and settled(name)


@pytest.mark.parametrize("old", [False, True])
def test_everyone_who_begins_a_ledger_gets_the_same_one(store, old):
    name = f"model_{next(NUMBERS)}"
    if old:
        store.create_registered_model(name)
    found = together(lambda _: ledger.establish(tracking.open_client(), name), range(4))
    assert len(set(found)) == 1
    assert store.get_registered_model(name).tags[ledger.TAG] == found[0]
    experiment = store.get_experiment_by_name(ledger.EXPERIMENT).experiment_id
    runs = store.search_runs([experiment], f"tags.registered_model = '{name}'")
    assert [run.info.run_id for run in runs] == [found[0]], "the losers' runs are deleted"


def test_deleted_ledger_is_a_trouble_that_says_how_to_restore_it(store, model):
    put(model, 1)
    run_id = store.get_registered_model(model).tags[ledger.TAG]
    store.delete_run(run_id)
    (said,) = troubles(model)
    assert f"mlflow runs restore --run-id {run_id}" in said
    with pytest.raises(ValueError, match="has been deleted"):
        put(model, 2)
    store.restore_run(run_id)
    put(model, 2)
    store.set_registered_model_tag(model, ledger.TAG, "f" * 32)
    with pytest.raises(ValueError, match=f"is gone.*delete the tag {ledger.TAG}"):
        lifecycle.history(model)
    store.set_registered_model_tag(model, ledger.TAG, run_id)


# Several at once --------------------------------------------------------------------------------


def together(call, values):
    """Call `call` with each of `values` in a thread of its own; return what each gave or raised."""
    barrier, results = threading.Barrier(len(values)), {}

    def one(value):
        barrier.wait()
        try:
            results[value] = call(value)
        except Exception as error:
            results[value] = error

    threads = [threading.Thread(target=one, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[value] for value in values]


@pytest.fixture
def unlocked(monkeypatch):
    """As between machines: no lock of this project is shared."""
    monkeypatch.setattr(lifecycle.tracking, "locked", lambda name: nullcontext())


def test_of_promotions_at_once_one_wins_and_the_others_are_told(model, unlocked):
    put(model, 1)
    made = together(
        lambda v: lifecycle.promote(model, v, reason="better", who=f"user {v}", expected=1),
        [2, 3, 4],
    )
    (winner,) = (one for one in made if not isinstance(one, Exception))
    for error in made:
        if error is not winner:
            assert isinstance(error, PromotionConflict), error
            assert f"version {winner.after} is there since" in str(error)
            assert f"user {winner.after}" in str(error) and "again" in str(error)
    assert lifecycle.champion(model) == winner.after and len(lifecycle.history(model)) == 2
    assert settled(model)


def test_alias_that_another_adds_at_the_same_moment_is_no_failure(store, model, monkeypatch):
    """MLflow's store refuses the second of two that add the same row."""
    refused = set()
    move = type(store).set_registered_model_alias

    def refuse_once(*given):
        move(*given)
        if given[1:] not in refused:
            refused.add(given[1:])
            raise MlflowException("UNIQUE constraint failed")

    monkeypatch.setattr(type(store), "set_registered_model_alias", refuse_once)
    put(model, 1, 2)
    assert len(refused) == 2 and settled(model)


def test_staging_at_the_same_time_does_not_make_a_promotion_fail(model, unlocked):
    def move(version):
        client = tracking.open_client()
        if version > 1:
            return lifecycle._stage(client, model, version, {})
        return lifecycle.promote(model, 1, reason="better", expected=None)

    made = together(move, [1, 2, 3, 4])
    assert not [one for one in made if isinstance(one, Exception)]
    assert aliases(model) == {PRODUCTION: 1, STAGING: 4} and settled(model)
    staged = [after for _, alias, _, after in changes(model) if alias == STAGING]
    assert staged == sorted(staged), "never back to an older version"


def test_promotion_that_was_overtaken_moves_the_alias_no_further_back(store, model, monkeypatch):
    """The first is held up just before it moves the alias; the second does it all meanwhile."""
    put(model, 1)
    held, go_on = threading.Event(), threading.Event()
    move = type(store).set_registered_model_alias

    def hold(client, name, alias, version):
        if version == "2" and threading.current_thread().name == "held":
            held.set()
            go_on.wait(30)
        move(client, name, alias, version)

    monkeypatch.setattr(type(store), "set_registered_model_alias", hold)
    monkeypatch.setattr(lifecycle.tracking, "locked", lambda name: nullcontext())
    slow = threading.Thread(target=put, args=(model, 2), name="held")
    slow.start()
    assert held.wait(30)
    put(model, 3)
    go_on.set()
    slow.join()
    assert changes(model)[1:] == [("promote", PRODUCTION, 1, 2), ("promote", PRODUCTION, 2, 3)]
    assert lifecycle.champion(model) == 3 and settled(model)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_between_registry_and_ledger_end_up_agreeing(
    in_memory, unlocked, monkeypatch, seed
):
    """Promotions, a rollback, registrations and a reconciliation, between each other's calls."""
    monkeypatch.setattr(moves, "PAUSE_S", 0.05)
    random.seed(seed)
    name = make_model(in_memory, f"model_{next(NUMBERS)}", n_versions=6)
    put(name, 1, 2)
    calls = {
        "first": lambda: lifecycle.promote(name, 3, reason="better", who="anna", expected=2),
        "second": lambda: lifecycle.promote(name, 4, reason="better", who="bob", expected=2),
        "third": lambda: lifecycle.rollback(name),
        "older": lambda: lifecycle._stage(in_memory, name, 5, {}),
        "newer": lambda: lifecycle._stage(in_memory, name, 6, {}),
        "doctor": lambda: lifecycle.reconcile(name),
    }
    made = dict(zip(calls, together(lambda key: calls[key](), list(calls)), strict=True))
    errors = [e for e in made.values() if isinstance(e, Exception)]
    assert all(isinstance(e, PromotionConflict) for e in errors), errors
    assert not {"older", "newer", "doctor"} & {k for k, v in made.items() if v in errors}
    entries = lifecycle.history(name)
    assert [e.number for e in entries] == list(range(1, len(entries) + 1))
    for alias in (PRODUCTION, STAGING):
        ours = [e for e in entries if e.alias == alias]
        assert [e.before for e in ours] == [None, *(e.after for e in ours[:-1])], "a chain"
    assert not [e for e in entries if e.action == "found"]
    assert aliases(name)[STAGING] == 6 and settled(name)


PROMOTE = """
import sys
from contextlib import nullcontext
from lib import tracking
from lib.registry import lifecycle as registry
tracking.open_client()
tracking.locked = lambda name: nullcontext()
print("ready", flush=True)
sys.stdin.readline()
try:
    registry.promote(sys.argv[1], sys.argv[2], reason="better", who=sys.argv[2], expected=1)
except registry.PromotionConflict as error:
    print("conflict", error)
else:
    print("won")
"""


def in_processes(name, versions):
    """Let a process for each of `versions` promote it at the same moment; return what they say."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen([sys.executable, "-c", PROMOTE, name, str(v)], cwd=ROOT, **pipes)
        for v in versions
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0] for process in running]


@pytest.mark.kernel
def test_of_processes_at_once_one_wins(store, model):
    if isinstance(store, MemoryClient):
        pytest.skip("of one process only")
    put(model, 1)
    said = in_processes(model, [2, 3])
    assert sorted(text.split()[0] for text in said) == ["conflict", "won"]
    winner = lifecycle.champion(model)
    assert said[winner - 2] == "won\n"
    assert all(f"version {winner} is there" in text for text in said if text != "won\n")
    assert len(lifecycle.history(model)) == 2 and settled(model)


# Cut off ----------------------------------------------------------------------------------------

CHANGING = (
    "log_param",
    "set_registered_model_alias",
    "delete_registered_model_alias",
)


class Killed(BaseException):
    """What no handler of errors holds up, as a kill would be."""


@contextmanager
def killed_after(n_calls):
    """Let `n_calls` changes reach the store, and cut off the next."""
    left = iter(range(n_calls))
    kind = type(tracking.open_client())
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGING:
            made = getattr(kind, name)

            def call(*given, made=made, **options):
                if next(left, None) is None:
                    raise Killed
                return made(*given, **options)

            patch.setattr(kind, name, call)
        try:
            yield
        except Killed:
            pass


def do(action, name):
    if action == "promote":
        lifecycle.promote(name, 3, reason="better", who="anna")
    elif action == "rollback":
        lifecycle.rollback(name)
    elif action == "found":
        lifecycle.reconcile(name)
    else:
        lifecycle._stage(tracking.open_client(), name, 4, {})


@pytest.mark.parametrize(
    ("action", "after", "n_steps"),
    [("promote", 3, 3), ("rollback", 1, 3), ("found", 4, 3), ("stage", 2, 3)],
)
def test_cut_off_at_any_step_can_be_finished_and_loses_nothing(store, action, after, n_steps):
    if action != "promote" and not isinstance(store, MemoryClient):
        pytest.skip("the same calls as of a promotion, which takes seconds here")
    for n_calls in range(n_steps + 1):
        name = make_model(store, f"model_{next(NUMBERS)}")
        put(name, 1, 2)
        if action == "found":
            store.set_registered_model_alias(name, PRODUCTION, "4")
        with killed_after(n_calls):
            do(action, name)
        written = [replace(entry, done="") for entry in lifecycle.history(name)]
        said = troubles(name)
        assert bool(said) == (n_calls < n_steps and (n_calls > 0 or action == "found")), n_calls
        assert aliases(name)[PRODUCTION] in (2, after), "one champion, the old or the new one"
        assert bool(lifecycle.reconcile(name)) == bool(said)
        kept = [replace(entry, done="") for entry in lifecycle.history(name)]
        assert kept[: len(written)] == written, "nothing is lost or altered"
        assert settled(name) and lifecycle.reconcile(name) == []
        done = n_calls > 0 or action == "found"
        assert lifecycle.champion(name) == (after if done else 2)
        assert aliases(name).get(STAGING) == (4 if done and action == "stage" else None)


def test_next_change_finishes_what_was_cut_off(model):
    put(model, 1)
    with killed_after(1):
        lifecycle.promote(model, 2, reason="better", who="anna")
    assert aliases(model)[PRODUCTION] == 1 and lifecycle.champion(model) == 2
    lifecycle.promote(model, 3, reason="better still", who="bob", expected=2)
    assert [e.after for e in lifecycle.history(model)] == [1, 2, 3] and settled(model)


def test_cut_off_promotion_of_a_version_since_deleted_ends_where_the_alias_is(store, model):
    put(model, 1)
    with killed_after(1):
        lifecycle.promote(model, 2, reason="better", who="anna")
    store.delete_model_version(model, "2")
    lifecycle.reconcile(model)
    assert changes(model)[-1] == ("found", PRODUCTION, 2, 1)
    assert lifecycle.champion(model) == 1 and settled(model)


# A server ---------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """An MLflow server on loopback with a store of its own."""
    folder = tmp_path_factory.mktemp("server")
    new_store(folder)
    port = services.free_port(5600)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as of `make up`: many processes
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", str(folder / "artifacts")]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(moves, "PAUSE_S", 0.0)
    wait_for(port, process)
    yield tracking.open_client()
    process.terminate()
    process.wait(60)


def wait_for(port, process):
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError("the server does not answer")


@pytest.mark.kernel
def test_all_of_it_through_a_server(server, unlocked):
    name = make_model(server, "served")
    with pytest.raises(ValueError, match="no registered model 'nobody'; there are: served"):
        lifecycle.history("nobody")
    with pytest.raises(ValueError, match="served has no version 9"):
        put(name, 9)
    put(name, 1)
    made = together(lambda v: lifecycle.promote(name, v, reason="better", expected=1), [2, 3])
    assert sum(isinstance(one, PromotionConflict) for one in made) == 1
    assert lifecycle.rollback(name).after == 1
    with pytest.raises(ValueError, match="no earlier champion"):
        lifecycle.rollback(name)
    run_id = server.get_registered_model(name).tags[ledger.TAG]
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        server.log_param(run_id, "000001", "{}")
    for n_calls in (1, 3):  # the third call is the last
        with killed_after(n_calls):
            lifecycle.promote(name, 4, reason="better", who="anna")
        assert bool(troubles(name)) == bool(lifecycle.reconcile(name)) == (n_calls < 3)
        assert lifecycle.champion(name) == 4 and settled(name)
        lifecycle.rollback(name)
    server.set_registered_model_alias(name, PRODUCTION, "2")
    assert lifecycle.reconcile(name) and changes(name)[-1][0] == "found" and settled(name)
    server.create_registered_model("older")
    server.create_model_version("older", SOURCE)
    server.set_registered_model_alias("older", PRODUCTION, "1")
    assert lifecycle.reconcile("older") and lifecycle.champion("older") == 1 and settled("older")
