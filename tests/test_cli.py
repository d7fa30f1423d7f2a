"""The commands behind the Makefile: what they refuse, and what they print."""

import importlib
import inspect
import io
import logging
import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

from lib import tracking
from lib.commands import cli, pipelines
from lib.ground.files import ROOT
from lib.registry import ledger, lifecycle

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
    chosen = pipelines.choose([])
    assert {"power", "mnist"} <= set(chosen)
    others = sorted({p.stem for p in (ROOT / "dags").glob("*.py")} - set(chosen))
    assert others and pipelines.choose(others) == others, "by name they are run, too"


def test_pipeline_that_was_named_twice_is_run_once():
    assert pipelines.choose(["power", "mnist", "power"]) == ["power", "mnist"]


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert len(cli.COMMANDS) > 15 and all(f"    {name}" in text for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_takes_what_the_function_that_carries_it_out_does(name):
    module, function = cli.COMMANDS[name][0].split(":")
    call = getattr(importlib.import_module(f"lib.commands.{module}"), function)
    given = vars(cli._parser().parse_args([name]))
    inspect.signature(call).bind(**{k: given[k] for k in given.keys() - {"command", "given"}})


def test_commands_are_read_without_the_modules_that_carry_them_out():
    code = "import sys, lib.commands.cli; print(*[m for m in sys.modules if m.startswith('lib')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"lib", b"lib.commands", b"lib.commands.cli"]


def test_notebooks_of_no_pipeline_are_an_error_that_names_the_pipelines(capsys):
    assert cli.main(["notebooks", "powr"]) == 2
    told = capsys.readouterr().err
    assert (
        told.startswith("error: no notebooks of 'powr'; there are those of ") and "cifar10" in told
    )
    assert told.endswith("usage: make notebooks [PIPELINE=power]\n")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments, **environment):
    """Run make in the repository and return what it has done, as text."""
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_help_lists_every_target_in_groups_with_its_arguments():
    text = make("help").stdout
    targets = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
    assert len(targets) > 20
    for target in targets:
        assert re.search(rf"^  {target} +\S", text, re.MULTILINE), target
    for group in ("Start", "Runs", "Models", "Work on the project"):
        assert re.search(rf"^{group}\b", text, re.MULTILINE), group
    for name in cli.COMMANDS:
        for argument in cli.usage(name).split(" ", 2)[2:]:
            assert f"\n{'':14}{argument}\n" in text, name
    assert cli.USAGES.keys() >= cli.COMMANDS.keys() - {"prepare"}
    assert cli.usage("promote") == 'make promote MODEL=<model> VERSION=latest REASON="why"'


@pytest.mark.slow
def test_command_is_given_the_values_that_were_typed_and_none_of_the_environment(tmp_path):
    odd = make("-n", "promote", "MODEL=house", 'REASON=--it\'s "better"')
    assert odd.returncode == 0 and '--given "' in odd.stdout
    typed = re.search(r'--given "(.*?)"', odd.stdout)[1].split()
    assert sorted(typed) == ["MODEL", "REASON"]
    found = make("compare", "A=no/such", "B=no/other", OUTPUTS_DIR=str(tmp_path), PIPELINE="power")
    assert found.returncode == 2 and "there is no run 'no/such'" in found.stderr
    stray = make("compare", OUTPUTS_DIR=str(tmp_path), A="no/such", PIPELINE="tick")
    assert stray.stderr.startswith("error: there is no run yet"), "the shell's are no arguments"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run power", "no target power; make help lists what there is; a pipeline is named by P"),
        ("help reprots", "no target reprots; make help lists what there is."),
    ],
)
def test_word_that_is_no_target_is_an_error_before_anything_is_done(words, told):
    done = make(*words.split())
    assert done.returncode == 2 and told in done.stderr
    assert "make <target>" not in done.stdout, "help was not shown either"


def test_every_target_of_the_makefile_may_be_asked_for():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert set(re.search("^TARGETS := (.*)$", MAKEFILE, re.MULTILINE)[1].split()) == targets


@pytest.mark.parametrize("command", ["run", "notebooks"])
def test_quote_in_the_name_of_a_pipeline_is_refused_by_the_command_and_not_the_shell(command):
    done = make(command, "PIPELINE=it's")
    assert done.returncode == 2 and done.stderr.startswith("error: no ")
    assert '"it\'s"; there are ' in done.stderr


@pytest.mark.slow
def test_dollar_that_was_typed_reaches_the_command_as_it_is(tmp_path):
    """Make would look for a variable there, and for a command."""
    source = "$(shell touch made)/a$2024 $HOME"
    found = make("look", "PIPELINE=power", f"SOURCE={source}", OUTPUTS_DIR=str(tmp_path))
    assert found.returncode == 2 and source in found.stdout and not (ROOT / "made").exists()


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        ("run", "PIPELIN", r"make run knows no PIPELIN; did you mean PIPELINE\?"),
        ("run", "pipeline", r"did you mean PIPELINE\?"),
        ("compare", "RUN", "make compare knows no RUN; it takes A, B, PIPELINE"),
        ("doctor", "RUN", "make doctor knows no RUN; it takes none"),
        ("up", "PARAMS", "it takes AIRFLOW_PORT, MLFLOW_PORT, LAB_PORT"),
    ],
)
def test_argument_that_a_command_does_not_know_is_an_error(command, name, message):
    with pytest.raises(ValueError, match=message):
        cli.check_names(command, ["OUTPUTS_DIR", name])


def test_misspelt_argument_of_make_is_an_error_before_anything_is_done(tmp_path):
    done = make("compare", "PIPELIN=power", OUTPUTS_DIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: make compare knows no PIPELIN; did you mean PIPELINE?\n")
    assert f"\nusage: {cli.usage('compare')}\n" in done.stderr


def test_arguments_that_a_command_knows_and_variables_of_others_are_let_through():
    for name in cli.COMMANDS:
        cli.check_names(name, [*cli.takes(name), "DATA_DIR", "NOTIFY_EMAIL", "CUDA_HOME"])


@pytest.mark.parametrize(
    ("arguments", "message", "usage"),
    [
        ("prune --days x", "DAYS: 'x': expected a whole number", "make prune [LAST"),
        ("prune --days 999999", "'999999': expected a whole number, 0 to 99999", "make prune [L"),
        ("open --nothing", "unrecognized arguments: --nothing", "make help"),
        ("nothing", "invalid choice: 'nothing'", "make help"),
        ("run --params", "PARAMS: expected one argument", "make run [PIPELINE"),
    ],
)
def test_what_cannot_be_parsed_is_an_error_with_the_usage_of_make(
    arguments, message, usage, capsys
):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    error, line = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and error.startswith("error: ") and message in error
    assert line.startswith(f"usage: {usage}")


@pytest.mark.parametrize("command", ["compare", "open", "reproduce", "reports latest"])
def test_without_any_run_every_command_says_how_to_make_one(command, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    assert cli.main(command.split()) == 2
    error, usage = capsys.readouterr().err.splitlines()
    assert error == "error: there is no run yet, make one: make run PIPELINE=power"
    assert usage == f"usage: {cli.usage(command.split()[0])}"


@pytest.mark.parametrize("command", ["compare", "why", "reports"])
def test_outputs_that_are_no_folder_are_an_error_that_says_what_to_set(
    command, capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "file"))
    assert cli.main([command]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in error
    assert error.endswith("OUTPUTS_DIR must name a folder that this user may write to")


def test_usage_of_help_is_that_of_make(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {cli.usage('compare')}\n")


def test_console_keeps_the_log_out_and_gives_output_back_afterwards(tmp_path, capfd):
    with pipelines._console(tmp_path / "log") as console:
        os.write(1, b"to the log\n")
        console.write("to the console\n")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "to the console\nafter\n"
    assert (tmp_path / "log").read_text() == "to the log\n"


def test_account_shows_tasks_and_what_their_notebooks_print():
    from lib.dag.account import Account

    console = io.StringIO()
    account = Account(console)
    ids = {"map_index": -1, "dag_id": "power", "run_id": "never"}
    first, second = (SimpleNamespace(task_id=t, **ids) for t in ("01_load", "02_features"))
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


def test_task_that_was_interrupted_before_its_notebook_began_is_not_tried_again(tmp_path):
    """Airflow would wait for a minute, then run the notebook and all that come after it."""
    from lib.dag.account import Account

    task = SimpleNamespace(task_id="01_load", map_index=-1, dag_id="power", run_id="never")
    with (tmp_path / "console").open("w") as console:
        account = Account(console)
        account.on_task_instance_failed("running", task, KeyboardInterrupt())  # is tried again
        account.interject("interrupted: stopping, a moment")
        account.on_task_instance_failed("running", task, AirflowFailException("final as it is"))
        with pytest.raises(KeyboardInterrupt):
            account.on_task_instance_failed("running", task, KeyboardInterrupt())
    said = (tmp_path / "console").read_text()
    assert said.count("FAILED") == 3 and "interrupted\n" in said and "final as it is" in said


class AirflowFailException(Exception):
    """Stands for Airflow's own, which takes long to import."""


# Models ----------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A registry in memory with the model `house`: version 1 passed its gate, 2 and 3 did not."""
    client = MemoryClient()
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr(tracking, "open_client", lambda: client)
    monkeypatch.setattr("lib.registry.aliases.PAUSE_S", 0.0)
    monkeypatch.setattr(lifecycle, "account", lambda: "anna")
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
    lifecycle.promote("house", 2, reason="a\ntrial", who="bob", run_dir="power/r2")
    lines = said("history", "house")
    assert lines[0] == "house: version 2 in production; 2 changes on record"
    assert lines[1].split("  ")[0] == "when (UTC)"
    when = lifecycle.history("house")[0].when[:16].replace("T", " ")
    assert lines[2] == f"{when}  production  - -> 1 promote  anna               the first"
    assert "1 -> 2 promote  bob, run power/r2  OVERRIDE: a trial (NOT FINISHED)" in lines[3]
    assert lines[4] == "To finish what was cut off: make reconcile MODEL=house"


def test_champion_is_one_line_for_now_or_for_a_time(store, said, monkeypatch):
    assert said("champion", "house") == ["house: no version in production"]
    assert said("champion", "house", "--at", "2026-11-01")[0].endswith("the ledger has no entry")
    monkeypatch.setattr("lib.registry.aliases.now", lambda: "2026-11-01T12:00:00.000+00:00")
    lifecycle.promote("house", 1, reason="the first")
    monkeypatch.setattr("lib.registry.aliases.now", lambda: "2026-11-02T12:00:00.000+00:00")
    lifecycle.promote("house", 2, reason="the second")
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
    error, usage = told.err.splitlines()
    assert error.startswith("error: ") and message in error and not told.out
    assert usage.startswith(f"usage: make {arguments.split()[0]} ")
    assert lifecycle.history("house") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote"], "no version of house was named; there are: 1, 2, 3"),
        (["promote", "", ""], "no version of house was named"),
        (["promote", "", "latest"], "house version 3 was not promoted: no reason was given"),
        (["rollback"], "house cannot be rolled back"),
        (["champion", "--at", "x"], "'x' is no time"),
    ],
)
def test_only_model_there_is_need_not_be_named(store, capsys, arguments, message):
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told and f"usage: make {arguments[0]} MODEL=<model>" in told


def test_latest_version_can_be_promoted_by_that_word(store, said):
    assert said("promote", "", "latest", "--reason", "newest")[0].startswith("house: version 3 ser")


def test_several_models_are_listed_where_none_was_named(store, capsys):
    ledger.establish(store, "garden")
    for command in ("history", "champion", "promote", "rollback"):
        assert cli.main([command]) == 2
        error, usage = capsys.readouterr().err.splitlines()
        assert error == "error: no model was named, and there are several: garden, house"
        assert usage.startswith(f"usage: make {command} MODEL=<model>")


def test_registry_that_refuses_is_named_without_its_password(store, capsys, monkeypatch):
    def refuse():
        raise MlflowException("connection refused")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@registry.example")
    monkeypatch.setattr(tracking, "open_client", refuse)
    monkeypatch.setattr(tracking, "check", lambda: None)
    assert cli.main(["history", "house"]) == 2
    told = capsys.readouterr().err
    assert "registry.example could not do it: connection refused" in told and "geheim" not in told
    assert "usage:" not in told, "no other argument would help"


@pytest.mark.parametrize("command", ["run power", "history", "prune"])
def test_tracking_server_that_is_not_there_is_an_error_at_once(command, capsys, monkeypatch):
    """MLflow would ask it again for minutes, without a word."""

    def begin():
        pytest.fail("nothing begins")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens nowhere
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:geheim@{place}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("lib.tracking.open_client", begin)
        monkeypatch.setattr("lib.commands.services.prepare", begin)
        assert cli.main(command.split()) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: http://me:***@{place} does not answer: start what MLFLOW_TRACK")
