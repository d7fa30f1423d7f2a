"""A worker of Celery whose broker was lost while a task went on."""

import logging
import subprocess

from lib.dag import worker

import pytest
from clusters import answers, programs
from executed import free_ports
from whole_runs import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path):
    """Start Redis; return its address."""
    (port,) = free_ports(1)
    command = [programs(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_for(lambda: answers(port), 10, "Redis")
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()


def test_message_of_a_connection_that_is_gone_is_not_acknowledged_and_nothing_ends(
    broker, monkeypatch, caplog
):
    """It was given out twice, so that the channel no longer knows it when it is closed."""
    from kombu import Connection
    from kombu.transport.redis import Channel

    monkeypatch.setattr(Channel, "basic_ack", worker.lasting(Channel.basic_ack))
    with Connection(broker, transport_options={"visibility_timeout": 0}) as connection:
        queue, known = connection.SimpleQueue("tasks"), connection.connection_errors
        queue.put("task")
        message = queue.get(timeout=10)
        queue.channel.qos.restore_visible(interval=1)
        again = queue.get(timeout=10)
        assert again.delivery_tag == message.delivery_tag
        again.ack_log_error(logging.getLogger("test"), known)
        assert again.acknowledged and not caplog.records
        connection.collect()  # as a worker does that has lost its broker
        message.ack_log_error(logging.getLogger("test"), known)
    (said,) = [one.getMessage() for one in caplog.records if one.name == "test"]
    assert said.startswith("Couldn't ack") and not message.acknowledged
