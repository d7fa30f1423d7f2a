"""Airflow's worker of Celery, which outlives the loss of its broker.

``python -m lib.dag.worker celery worker`` is ``airflow celery worker``. When a task is over whose
message came before the broker was lost, the worker acknowledges the message on a channel that went
with the old connection. Celery expects an error of the connection there, logs it and goes on. Where
the message had been given out twice, kombu 5.7 raises an AttributeError instead (for Redis), of
which the worker ends.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from lib.dag import preloaded

if TYPE_CHECKING:
    from kombu.transport.redis import Channel


def lasting(answer: Callable) -> Callable:
    """Return what a channel does with a message, with the error that Celery knows if it is closed.

    Parameters
    ----------
    answer : callable
        ``basic_ack`` or ``basic_reject`` of kombu's channel.
    """
    from redis import exceptions

    @wraps(answer)
    def lasting_answer(self: "Channel", *args: object, **options: object) -> None:
        if self.connection is None:
            raise exceptions.ConnectionError("the connection that the message came by is closed")
        answer(self, *args, **options)

    return lasting_answer


def main() -> None:
    """Be Airflow's command line, with packages that are imported."""
    preloaded.load()
    from kombu.transport.redis import Channel

    Channel.basic_ack = lasting(Channel.basic_ack)
    Channel.basic_reject = lasting(Channel.basic_reject)
    from airflow.__main__ import main as airflow

    airflow()


if __name__ == "__main__":
    main()
