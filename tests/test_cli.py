"""The commands behind the Makefile: what they refuse, and what they print."""

import io
import logging
import os
import subprocess
from types import SimpleNamespace

from lib import cli
from lib.run import ROOT

import pytest


@pytest.mark.parametrize("text", ["{source: x}", "[1]", "", "null"])
def test_params_that_are_no_json_object_are_refused_with_an_example(text, capsys):
    assert cli.main(["run", "power", "--params", text]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: PARAMS is") and "Traceback" not in message


def test_unknown_pipeline_is_refused_with_the_known_ones(capsys):
    assert cli.main(["run", "powder"]) == 2
    assert "no pipeline 'powder'; there are" in capsys.readouterr().err


def test_every_dag_is_run_when_none_is_named():
    assert cli.pipelines([]) == sorted(p.stem for p in (ROOT / "dags").glob("*.py"))


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    commands = "run up lab prepare notebooks reports compare open reproduce prune doctor"
    assert all(f"    {command}" in text for command in commands.split())


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = "run test fast up lab open compare reproduce reports prune doctor notebooks regress"
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
