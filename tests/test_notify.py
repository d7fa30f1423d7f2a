"""Messages on failure and promotion: what they say, where they go, and what they never show."""

import email
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
from email import policy
from types import SimpleNamespace

from lib.commands import services
from lib.dag import notify
from lib.ground import outcome
from lib.ground.files import ROOT, write_bytes
from lib.run import open_run

import pytest
from whole_runs import prepare

BASE_URL = "http://airflow.example:8080"
HOSTILE = "no <!channel> {{ 6 * 7 }} ``` postgresql://me:geheim@db/x"


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE_URL)
    for name in (notify.EMAIL, notify.WEBHOOK):
        monkeypatch.delenv(name, raising=False)


def failed_run(pipeline="power", name="r1", ename="ValueError", text=HOSTILE):
    """Leave the executed notebook of a stage that has failed in its first cell."""
    run = open_run(f"{pipeline}/{name}")
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "x", "outputs": []}
    notebook = {"cells": [cell], "metadata": {"papermill": {}}, "nbformat": 4, "nbformat_minor": 5}
    outcome.mark_failed(notebook, 0, ename, text)
    outcome.write_notebook(run.path / "02_features.ipynb", notebook)
    return run


def registered_run(name="r2"):
    run = open_run(f"power/{name}")
    made = {"name": "household_power_lightgbm", "version": 3, "alias": "staging"}
    made |= {"uri": "models:/household_power_lightgbm@staging", "verdict": "rmse = 0.4: passed"}
    write_bytes(run.path / "registration.json", json.dumps(made).encode())
    return run


def context(pipeline="power", run_id="r1", **more):
    return {"dag": SimpleNamespace(dag_id=pipeline), "run_id": run_id, **more}


def test_nothing_is_called_and_nothing_is_sent_unless_a_receiver_is_named(monkeypatch):
    monkeypatch.setattr(notify, "send", lambda message: pytest.fail("sent"))
    assert notify.failure_callbacks() is None
    notify.tell_promotion(registered_run())


@pytest.mark.parametrize(
    "name, value", [("NOTIFY_EMAIL", "a@example.org"), ("NOTIFY_WEBHOOK", "notify_webhook")]
)
def test_failed_runs_are_told_when_a_receiver_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert notify.failure_callbacks() == [notify.tell_failure]


def test_an_address_in_place_of_a_connections_name_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv(notify.WEBHOOK, "https://hooks.example/services/T0/B0")
    with pytest.raises(ValueError, match="AIRFLOW_CONN_NOTIFY_WEBHOOK") as refused:
        notify.failure_callbacks()
    assert "services" not in str(refused.value)


def test_failure_names_the_stage_the_error_and_the_report():
    failed_run(text="column x is missing")
    told = notify.failure(context(ti=SimpleNamespace(task_id="02_features")))
    assert told.title == "power failed: 2 · Features"
    assert told.reason == "ValueError: column x is missing"
    assert told.link == f"{BASE_URL}/reports/run/power/r1"


def test_a_model_that_missed_its_floor_is_refused_rather_than_failed():
    failed_run(ename="GateError", text="m was not registered: rmse = 2, required <= 1: FAILED")
    told = notify.failure(context())
    assert told.title == "power refused: 2 · Features"
    assert told.reason == "m was not registered: rmse = 2, required <= 1: FAILED"


def test_failure_before_any_notebook_points_to_the_log_of_airflow():
    asked = context(ti=SimpleNamespace(task_id="01_load"), reason="task_failure")
    told = notify.failure(asked)
    assert told.what == "task 01_load" and told.reason.startswith("task_failure: no notebook")


def test_promotion_names_version_alias_verdict_and_report():
    told = notify.promotion(registered_run())
    assert told.title == "power registered: household_power_lightgbm version 3, now @staging"
    assert told.reason == "rmse = 0.4: passed"
    assert told.link == f"{BASE_URL}/reports/run/power/r2"


@pytest.mark.parametrize(
    ("made", "title", "reason"),
    [
        (
            {"promoted": True},
            "promoted: m version 3, now @production",
            "Promoted: it is the first.",
        ),
        ({"policy": "approval"}, "registered: m version 3, now @staging", "Waits for a person"),
        ({"alias": ""}, "registered: m version 3, without an alias", "First: it is the first."),
    ],
)
def test_promotion_says_what_the_gate_said_and_what_followed(made, title, reason):
    run = open_run("power/r3")
    decision = {"outcome": "first", "reason": "it is the first", "rows": [], "champion": None}
    decision |= {"margin": 0.0, "level": 0.95, "notes": []}
    registered = {"name": "m", "version": 3, "alias": "staging", "verdict": "rmse = 0.4: passed"}
    for name, content in (("gate", decision), ("registration", registered | made)):
        write_bytes(run.path / f"{name}.json", json.dumps(content).encode())
    told = notify.promotion(run)
    assert told.title == f"power {title}" and reason in told.reason
    assert told.reason.endswith("rmse = 0.4: passed")


def test_promotion_is_silent_about_a_run_that_registered_nothing(monkeypatch):
    monkeypatch.setenv(notify.WEBHOOK, "notify_webhook")
    monkeypatch.setattr(notify, "send", lambda message: pytest.fail("sent"))
    notify.tell_promotion(failed_run())


def test_reason_is_cut_and_shows_no_password():
    text = "\n".join(["ValueError: postgresql://me:geheim@db/x", "2" * 600])
    short = notify.shorten(text)
    assert short.startswith("ValueError: postgresql://me:***@db/x\n2222")
    assert short.endswith("222 …") and len(short) == 602


def test_message_shows_an_error_as_text_and_lets_it_mention_nobody():
    failed_run()
    told = notify.text(notify.failure(context()))
    assert told.startswith("power failed: 2 · Features\nrun `r1`\n```\nValueError: ")
    assert "&lt;!channel&gt;" in told and "<" not in told
    assert told.count("```") == 2 and told.endswith("/reports/run/power/r1")


def test_a_run_is_not_harmed_when_its_message_cannot_be_made(monkeypatch, caplog):
    monkeypatch.setenv(notify.WEBHOOK, "notify_webhook")

    def break_down(run):
        raise ConnectionError("https://hooks.example/services/T0")

    monkeypatch.setattr(notify, "promotion", break_down)
    with caplog.at_level(logging.ERROR):
        notify.tell_promotion(registered_run())
    assert "about the model of power/r2 was not sent" in caplog.text


def test_errors_that_may_hold_the_address_are_named_only():
    try:
        try:
            raise ValueError("https://hooks.example/services/T0")
        except ValueError as error:
            raise ConnectionError("url: /services/T0") from error
    except ConnectionError as error:
        assert notify.describe(error).startswith("ValueError; its text is withheld")
    assert notify.describe(ConnectionRefusedError(111, "refused")) == (
        "ConnectionRefusedError: [Errno 111] refused"
    )


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what it gets; answers 500, with the path in its text, below /broken."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(content)))
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def receivers(monkeypatch):
    """A mail server and a webhook on this machine, and Airflow's connections to them."""
    from aiosmtpd.controller import Controller

    class Mailbox:
        async def handle_DATA(self, server, session, envelope):
            mails.append(envelope)
            return "250 OK"

    mails = []
    mail = Controller(Mailbox(), hostname="127.0.0.1", port=services.free_port(20025))
    mail.start()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    web.got = []
    threading.Thread(target=web.serve_forever, daemon=True).start()
    extra = {"from_email": "ml@example.org", "disable_ssl": True, "disable_tls": True}
    smtp = {"conn_type": "smtp", "host": "127.0.0.1", "port": mail.port, "extra": extra}
    hook = {"conn_type": "http", "host": f"http://127.0.0.1:{web.server_port}/hooks/T0SECRET"}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(smtp))
    monkeypatch.setenv("AIRFLOW_CONN_NOTIFY_WEBHOOK", json.dumps(hook))
    monkeypatch.setenv(notify.EMAIL, "a@example.org, b@example.org")
    monkeypatch.setenv(notify.WEBHOOK, "notify_webhook")
    yield SimpleNamespace(mails=mails, hooks=web.got, port=web.server_port)
    web.shutdown()
    web.server_close()
    mail.stop()


def text_of(envelope):
    whole = email.message_from_bytes(envelope.content, policy=policy.default)
    return whole["Subject"], whole.get_body(("html",)).get_content()


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_failed_dag_run_is_told_by_mail_and_webhook_with_the_report(receivers, tmp_path):
    prepare()
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "broken.py").write_text(
        "from lib.dag.notify import failure_callbacks\n"
        "from tests.test_notify import failed_run\n"
        "from lib.ground.runs import run_folder_name\n"
        "from airflow.sdk import DAG, task\n"
        "with DAG('broken', schedule=None, on_failure_callback=failure_callbacks()):\n"
        "    @task(task_id='02_features')\n"
        "    def fail(run_id=None):\n"
        "        failed_run('broken', run_folder_name(run_id))\n"
        "        raise ValueError('stop')\n"
        "    fail()\n"
    )
    script = (  # the second call is what Airflow's DAG processor does
        "import sys, structlog\n"
        "from airflow.callbacks.callback_requests import DagCallbackRequest\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from airflow.dag_processing.processor import _execute_dag_callbacks\n"
        "bag = DagBag(sys.argv[1])\n"
        "done = bag.dags['broken'].test()\n"
        "request = DagCallbackRequest(filepath=sys.argv[1], dag_id='broken', run_id=done.run_id,"
        " bundle_name='dags-folder', bundle_version=None, msg='task_failure')\n"
        "_execute_dag_callbacks(bag, request, structlog.get_logger())\n"
        "print('ended', done.state)\n"
    )
    settings = services.airflow_settings() | {
        "AIRFLOW__API__BASE_URL": BASE_URL,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(dags / "broken.py")],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    log = done.stdout + done.stderr
    assert "ended failed" in log, log[-3000:]
    assert "T0SECRET" not in log

    (run,) = (tmp_path / "outputs" / "broken").iterdir()
    link = f"{BASE_URL}/reports/run/broken/{run.name}".replace("+", "%2B")
    assert len(receivers.hooks) == len(receivers.mails) == 2
    for path, kind, content in receivers.hooks:
        assert (path, kind) == ("/hooks/T0SECRET", "application/json")
        assert content["text"].startswith("broken failed: 2 · Features\n")
        assert content["event"] == "failed" and content["run"] == run.name
        assert content["link"] == link and link in content["text"]
        assert content["reason"] == "ValueError: " + HOSTILE.replace("geheim", "***")
    for envelope in receivers.mails:
        assert envelope.mail_from == "ml@example.org"
        assert envelope.rcpt_tos == ["a@example.org", "b@example.org"]
        subject, text = text_of(envelope)
        assert subject == "broken failed: 2 · Features"
        assert "&lt;!channel&gt; {{ 6 * 7 }}" in text and link in text


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_promotion_is_told_by_mail_even_if_the_webhook_is_broken(
    receivers, monkeypatch, capfd, caplog
):
    for address, reason in (
        (f"http://127.0.0.1:{receivers.port}/broken/T0SECRET", "the answer was 500"),
        ("http://127.0.0.1:9/T0SECRET", "Connection refused"),
    ):
        hook = {"conn_type": "http", "host": address}
        monkeypatch.setenv("AIRFLOW_CONN_NOTIFY_WEBHOOK", json.dumps(hook))
        notify.tell_promotion(registered_run())
        printed = "".join(capfd.readouterr())  # where Airflow sends it
        log = caplog.text + printed
        caplog.clear()
        assert reason in log and "T0SECRET" not in log
        assert text_of(receivers.mails.pop())[0].startswith("power registered: household_power")
        assert not receivers.mails
