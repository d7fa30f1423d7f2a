"""The commands behind the Makefile: what they refuse, and what they print."""

import io
import logging
import os
import subprocess
from types import SimpleNamespace

from lib import cli, ledger, registry, tracking
from lib.run import ROOT

import pytest
from memory_store import MemoryClient
from mlflow import MlflowException


@pytest.mark.parametrize("text", ["{source: x}", "[1]", "", "null"])
def test_params_that_are_no_json_object_are_refused_with_an_example(text, capsys):
    assert cli.main(["run", "power", "--params", text]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: PARAMS is") and "Traceback" not in message


def test_unknown_pipeline_is_refused_with_the_known_ones(capsys):
    assert cli.main(["run", "powder"]) == 2
    assert "no pipeline 'powder'; there are" in capsys.readouterr().err


def test_every_dag_that_registers_a_model_is_run_when_none_is_named():
    assert cli.pipelines([]) == ["power", "cifar10", "mnist", "tick"], "without networks first"
    others = {p.stem for p in (ROOT / "dags").glob("*.py")} - set(cli.pipelines([]))
    assert others and cli.pipelines(sorted(others)) == sorted(others), "by name they are run, too"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    commands = "run up lab prepare notebooks reports compare open reproduce prune doctor "
    commands += "history champion promote rollback reconcile"
    assert all(f"    {command}" in text for command in commands.split())


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = "run test fast up lab open compare reproduce reports prune doctor notebooks regress "
    targets += "history champion promote rollback reconcile"
    for target in f"{targets} format lock".split():
        assert f"\n{target} " in f"\n{done.stdout}"


def test_console_keeps_the_log_out_and_gives_output_back_afterwards(tmp_path, capfd):
    with cli._console(tmp_path / "log") as console:
        os.write(1, b"to the log\n")
        console.write("to the console\n")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "to the console\nafter\n"
    assert (tmp_path / "log").read_text() == "to the log\n"


def test_account_shows_tasks_and_what_their_notebooks_print():
    from lib.dagrun import Account

    console = io.StringIO()
    account = Account(console)
    first, second = SimpleNamespace(task_id="01_load"), SimpleNamespace(task_id="02_features")
    account.on_task_instance_running("queued", first)
    account.on_task_instance_success("running", first)
    account.on_task_instance_running("queued", second)
    for level, text in ((logging.INFO, "trial 1/2"), (logging.WARNING, "noise")):
        account.handle(logging.LogRecord("x", level, "", 0, text, None, None))
    account.on_task_instance_failed("running", second, ValueError("many lines\nthe reason"))
    lines = [line.rstrip() for line in console.getvalue().splitlines()]
    assert lines[0].split()[:2] == ["01_load", "ok"]
    assert lines[1:3] == ["  02_features", "    trial 1/2"]
    assert lines[3].split()[:2] == ["02_features", "FAILED"]
    assert lines[4] == "    the reason" and len(lines) == 5


# Models ----------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A registry in memory with the model `house`: version 1 passed its gate, 2 and 3 did not."""
    client = MemoryClient()
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    monkeypatch.setattr(registry, "PAUSE_S", 0.0)
    monkeypatch.setattr(registry, "_user", lambda: "anna")
    ledger.establish(client, "house")
    for outcome in ("first", "not_better", ""):
        client.create_model_version("house", "", {"gate.outcome": outcome} if outcome else {})
    return client


@pytest.fixture
def said(capsys):
    """Run a command that must end well, and return the lines that it has printed."""

    def run(*arguments):
        assert cli.main([*arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_promotion_and_rollback_say_what_changed_and_how_to_undo_it(store, said):
    assert said("promote", "house", "1", "--reason", "the first\none") == [
        "house: version 1 serves now, none did before",
        "  why       the first one",
    ]
    assert said("promote", "house", "2", "--reason", "for a trial") == [
        "house: version 2 serves now, version 1 did before",
        "  why       for a trial",
        "  override  its gate says 'not_better'; the reason stays on record",
        "  undo      make rollback MODEL=house",
    ]
    assert said("rollback", "house") == [
        "house: version 1 serves now, version 2 did before",
        "  why       undoes version 2",
        '  undo      make promote MODEL=house VERSION=2 REASON="..."',
    ]
    store.set_registered_model_alias("house", "staging", "3")
    lines = said("promote", "house", "@staging", "--reason", "newest")
    assert lines[0].startswith("house: version 3 serves") and "passed no gate" in lines[2]


def test_pages_of_the_runs_follow_a_promotion_where_the_runs_are_still_there(store, said, tmp_path):
    for number, run_dir in (("1", "power/here"), ("2", "power/gone")):
        store.set_model_version_tag("house", number, "run_dir", run_dir)
    (tmp_path / "power" / "here" / "stages").mkdir(parents=True)
    said("promote", "house", "1", "--reason", "the first")
    page = tmp_path / "power" / "here" / "report.html"
    assert page.exists()
    page.unlink()
    said("promote", "house", "2", "--reason", "for a trial")
    assert page.exists(), "the run whose version no longer serves"
    assert not (tmp_path / "power" / "gone").exists()


def test_history_is_a_table_that_shows_overrides_and_what_is_not_finished(store, said, monkeypatch):
    assert said("history", "house") == ["house: no version in production; 0 changes on record"]
    said("promote", "house", "1", "--reason", "the first")
    monkeypatch.setattr(ledger, "finish", lambda *given: None)
    registry.promote("house", 2, reason="a\ntrial", who="bob", run_dir="power/r2")
    lines = said("history", "house")
    assert lines[0] == "house: version 2 in production; 2 changes on record"
    assert lines[1].split("  ")[0] == "when (UTC)"
    when = registry.history("house")[0].when[:16].replace("T", " ")
    assert lines[2] == f"{when}  production  - -> 1 promote  anna               the first"
    assert "1 -> 2 promote  bob, run power/r2  OVERRIDE: a trial (NOT FINISHED)" in lines[3]
    assert lines[4] == "To finish what was cut off: make reconcile MODEL=house"


def test_champion_is_one_line_for_now_or_for_a_time(store, said, monkeypatch):
    assert said("champion", "house") == ["house: no version in production"]
    assert said("champion", "house", "--at", "2026-11-01")[0].endswith("the ledger has no entry")
    monkeypatch.setattr(registry, "now", lambda: "2026-11-01T12:00:00.000+00:00")
    registry.promote("house", 1, reason="the first")
    monkeypatch.setattr(registry, "now", lambda: "2026-11-02T12:00:00.000+00:00")
    registry.promote("house", 2, reason="the second")
    since = "since 2026-11-01 12:00 UTC by anna: the first"
    (line,) = said("champion", "house", "--at", "2026-11-02")
    assert line == f"house: version 1 in production at 2026-11-02 00:00 UTC, {since}"
    (line,) = said("champion", "house", "--at", "2026-11-02T13:00+01:00")
    assert line.startswith("house: version 2 in production at 2026-11-02 12:00 UTC")
    (line,) = said("champion", "house", "--at", "2026-11-01")
    assert line == (
        "house: no version in production at 2026-11-01 00:00 UTC, as far as is known: the ledger "
        "begins at 2026-11-01 12:00 UTC"
    )
    (line,) = said("champion", "house")
    assert line == "house: version 2 in production, since 2026-11-02 12:00 UTC by anna: the second"


def test_reconciliation_says_what_it_has_done_for_one_model_or_all(store, said):
    said("promote", "house", "1", "--reason", "the first")
    store.set_registered_model_alias("house", "production", "2")
    (line,) = said("reconcile")
    assert line.startswith(
        "house: entered into the ledger: @production from version 1 to version 2"
    )
    assert said("reconcile", "house") == ["nothing to do: aliases and ledger agree"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("history nobody", "no registered model 'nobody'; there are: house"),
        ("champion nobody", "no registered model 'nobody'"),
        ("promote nobody 1 --reason x", "no registered model 'nobody'"),
        ("promote house 7 --reason x", "house has no version 7; there are: 1, 2, 3"),
        ("promote house x --reason x", "house has no version x"),
        ("promote house 1", "no reason was given"),
        ("rollback nobody", "no registered model 'nobody'"),
        ("rollback house", "house cannot be rolled back: no version is"),
        ("reconcile nobody", "no registered model 'nobody'"),
        ("champion house --at yesterday", "'yesterday' is no time: expected a date"),
    ],
)
def test_what_cannot_be_done_ends_with_status_2_and_changes_nothing(
    store, capsys, arguments, message
):
    assert cli.main(arguments.split()) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and message in told.err and not told.out
    assert registry.history("house") == []


def test_registry_that_refuses_is_named_without_its_password(store, capsys, monkeypatch):
    def refuse():
        raise MlflowException("connection refused")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@registry.example")
    monkeypatch.setattr(tracking, "open_client", refuse)
    assert cli.main(["history", "house"]) == 2
    told = capsys.readouterr().err
    assert "registry.example could not do it: connection refused" in told and "geheim" not in told
