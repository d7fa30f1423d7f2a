"""Tell people that a run has failed, or what became of its model, with the report's link.

Off unless the environment of Airflow names a receiver. Messages go through Airflow's own notifiers
and connections, so addresses and passwords stay where Airflow keeps its secrets:

- ``NOTIFY_EMAIL``: addresses, separated by commas. Sent by the connection of type SMTP that Airflow
  uses for mail, ``smtp_default``; its extra field ``from_email`` is the sender. For example
  ``AIRFLOW_CONN_SMTP_DEFAULT='{"conn_type": "smtp", "host": "mail.example.org", "port": 587,
  "login": "…", "password": "…", "extra": {"from_email": "ml@example.org", "disable_ssl": true}}'``
- ``NOTIFY_WEBHOOK``: the name of a connection of type HTTP, ``notify_webhook`` for example, then
  ``AIRFLOW_CONN_NOTIFY_WEBHOOK='{"conn_type": "http", "host": "https://chat.example.org/hooks/…"}'``.
  It gets JSON by POST: ``text`` as Slack and Mattermost show it, and ``event``, ``pipeline``,
  ``run``, ``what``, ``reason``, ``link`` for a program.

A message that cannot be sent is an error in the log and changes nothing of the run. What a message
says may come from an error of anybody's code: it is never taken for a template, for markup or for
a mention, and passwords in addresses are starred.
"""

import html
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from lib.ground.console import redact
from lib.ground.runs import run_of_airflow
from lib.pages.summary import decision, summarise
from lib.registry.gate import is_promoted
from lib.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

EMAIL, WEBHOOK = "NOTIFY_EMAIL", "NOTIFY_WEBHOOK"
REASON_CHARACTERS = 600
POST_S = 10  # Airflow stops a callback that takes longer than its DAG file may

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """What is told: an event, the facts, and where to read on.

    Attributes
    ----------
    event : {"failed", "refused", "registered", "promoted"}
    pipeline, run : str
        The names.
    what : str
        Which stage, or which version of which model.
    reason : str
        The error, or what the gate said and what followed, in few words.
    link : str
        The report's address, "" where Airflow's is unknown.
    """

    event: str
    pipeline: str
    run: str
    what: str
    reason: str
    link: str

    @classmethod
    def about(cls, run: Run, event: str, what: str, reason: str) -> "Message":
        """Return the message about a run."""
        return cls(event, run.pipeline, run.name, what, shorten(reason), report_link(run))

    @property
    def title(self) -> str:
        """The message in one line."""
        return f"{self.pipeline} {self.event}: {self.what}"


def failure_callbacks() -> "list[Callable[[Context], None]] | None":
    """Return what a DAG calls when a run has failed; None, Airflow's own default, when off.

    Airflow calls it in its DAG processor, and in `dag.test` in the process itself.

    Raises
    ------
    ValueError
        If `NOTIFY_WEBHOOK` holds an address, which is a secret, in place of a connection's name.
    """
    return [tell_failure] if receivers() else None


def receivers() -> dict[str, str]:
    """Return what is set of `NOTIFY_EMAIL` and `NOTIFY_WEBHOOK`.

    Raises
    ------
    ValueError
        As `failure_callbacks`.
    """
    found = {name: os.environ.get(name, "").strip() for name in (WEBHOOK, EMAIL)}
    if not found[WEBHOOK].replace("_", "").replace("-", "").isalnum() and found[WEBHOOK]:
        raise ValueError(
            f"{WEBHOOK} is no name of a connection of Airflow: put the address into the variable "
            f"AIRFLOW_CONN_NOTIFY_WEBHOOK and set {WEBHOOK}=notify_webhook"
        )
    return {name: value for name, value in found.items() if value}


def tell_failure(context: "Context") -> None:
    """Send a message about the failed DAG run of `context`; never raise."""
    with _only_logged("about a failed run"):
        send(failure(context))


def tell_promotion(run: Run) -> None:
    """Send a message about the version that `run` has registered, if it has; never raise."""
    with _only_logged(f"about the model of {run.run_dir}"):
        if receivers() and (message := promotion(run)):
            send(message)


def failure(context: "Context") -> Message:
    """Return the message about the failed DAG run that `context` describes."""
    pipeline, run_id = context["dag"].dag_id, context["run_id"]
    run = run_of_airflow(pipeline, run_id)
    summary = summarise(run)
    failed = [stage for stage in summary["stages"] if stage["state"] == "failed"]
    task = getattr(context.get("ti"), "task_id", "")
    reason = summary["reason"] or str(context.get("reason") or "no reason was given")
    if failed:
        what = failed[0]["title"]
        reason = reason.removeprefix(f"{what}: ")
    else:
        what = f"task {task}" if task else "before its first task"
        reason = f"{reason}: no notebook has failed, Airflow's log says why"
    event = "refused" if summary["state"] == "refused" else "failed"
    return Message.about(run, event, what, reason)


def promotion(run: Run) -> Message | None:
    """Return the message about the version that `run` has registered; None if it has not."""
    summary = summarise(run)
    made = summary["registration"]
    if not made:
        return None
    decided = decision(summary)
    event, alias = "registered", made["alias"]
    if is_promoted(made, summary["promotion"]):
        event, alias = "promoted", "production"
    where = f"now @{alias}" if alias else "without an alias"
    what = f"{made['name']} version {made['version']}, {where}"
    return Message.about(run, event, what, "\n".join([*decided, made.get("verdict", "")]))


def send(message: Message) -> None:
    """Send `message` to every receiver; what one of them does not take is in the log."""
    for name, receiver in receivers().items():
        with _only_logged(f"{message.title!r} by {name}"):
            (_post if name == WEBHOOK else _mail)(receiver, message)
            logger.info("Sent %r by %s", message.title, name)


def shorten(text: str) -> str:
    """Return the beginning of `text`, without passwords in addresses."""
    whole = "\n".join(map(redact, text.strip().splitlines()))
    return whole if len(whole) <= REASON_CHARACTERS else f"{whole[:REASON_CHARACTERS]} …"


def text(message: Message) -> str:
    """Return the message as text, safe in HTML and where chats look for mentions; error fenced."""
    reason = message.reason.replace("```", "'''")
    lines = [message.title, f"run `{message.run}`", f"```\n{reason}\n```", message.link]
    return html.escape("\n".join(lines), quote=False)


def _mail(receiver: str, message: Message) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    SmtpNotifier(
        to=receiver,
        subject=" ".join(message.title.split()),
        html_content=f'<pre style="white-space: pre-wrap">{text(message)}</pre>',
    ).notify({})  # as it is: calling it would take the text for a template


def _post(connection: str, message: Message) -> None:
    """Post a message to a webhook, of whose address the path is the password: it is never logged.

    Airflow's own notifier logs it when nobody answers, and whatever a server answers to an error.
    """
    from airflow.providers.http.hooks.http import HttpHook
    from airflow.sdk.log import mask_secret

    hook = HttpHook(http_conn_id=connection)
    session = hook.get_conn()
    mask_secret(urlsplit(hook.base_url).path.strip("/"))
    content = {"text": text(message)} | asdict(message)
    answer = session.post(hook.base_url, json=content, timeout=POST_S)
    if answer.status_code >= 400:
        raise ConnectionError(f"the answer was {answer.status_code} {answer.reason}")


def report_link(run: Run) -> str:
    """Return the address of the report of `run` in Airflow, "" where Airflow's is unknown."""
    from airflow.sdk.configuration import conf

    url = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{url}/reports/run/{run.pipeline}/{quote(run.name)}" if url else ""


@contextmanager
def _only_logged(what: str) -> Iterator[None]:
    """Log what goes wrong in the block, without its details where they may hold a secret."""
    try:
        yield
    except Exception as error:  # a run is as good as it was
        logger.error("The message %s was not sent: %s", what, describe(error))


def describe(error: BaseException) -> str:
    """Return the cause of `error`, its text only where that cannot hold an address or a key."""
    cause = error
    while deeper := cause.__cause__ or cause.__context__:
        cause = deeper
    origin = type(cause).__module__.split(".")[0]
    telling = isinstance(cause, OSError) and origin in ("builtins", "socket", "ssl", "smtplib")
    if telling or origin == "airflow":
        return f"{type(cause).__name__}: {cause}"
    return (
        f"{type(cause).__name__}; its text is withheld, since it may hold the address: see that "
        "Airflow's connection is complete (host, port, for mail also from_email)"
    )
