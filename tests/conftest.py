"""Fixtures that several test modules share."""

import os
import re
import shutil
import subprocess
import uuid
from types import SimpleNamespace
from unittest.mock import patch

import pytest


@pytest.fixture
def cli(capfd):
    """Run the command line in this process, which has imported Airflow; return as a process."""
    from lib.commands.cli import main

    def call(*arguments):
        capfd.readouterr()
        with patch.dict(os.environ):  # a run sets what Airflow needs
            status = main(list(arguments))
        said, err = capfd.readouterr()
        out = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[.*\n", "", said)  # Airflow's log
        return SimpleNamespace(returncode=status, stdout=out, stderr=err)

    return call


@pytest.fixture
def folder(tmp_path):
    """A folder for files of ticks."""
    from tick_files import Folder

    return Folder(tmp_path)


@pytest.fixture
def put(folder):
    """Write a file of ticks."""
    return folder.put


@pytest.fixture
def load(folder):
    """Load ticks; return the report and what was kept."""
    return folder.load


@pytest.fixture
def week(folder):
    """Files of five days."""
    return folder.put_week()


@pytest.fixture(scope="session")
def s3_server():
    """A local S3 server, with the credentials and address in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server):
    """A new, empty bucket on the local S3 server."""
    from lib.ground.bucket import Bucket

    import s3fs

    Bucket.clear_instance_cache()  # of another server, perhaps
    name = f"runs-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return name


@pytest.fixture(scope="module")
def postgres_url():
    """The URL of a database of PostgreSQL, "" where its programs are not installed."""
    import postgres
    from whole_runs import wait_for

    if not postgres.programs():
        yield ""
        return
    place, command = postgres.prepare("postgres")
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, stderr=log, cwd=place)
    try:
        ready = "ready to accept connections"
        wait_for(lambda: ready in (place / "log").read_text(), 30, "PostgreSQL")
        yield f"postgresql+psycopg://postgres@/postgres?host={place}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium for the tests of a module: while it runs, asyncio cannot be used."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("no chromium")
    from playwright.sync_api import sync_playwright

    options = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    quiet = "--disable-background-networking --disable-component-update"
    args = [*options.split(), *quiet.split()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=args)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser):
    """A page of a headless Chromium, and the list of what goes wrong on it, policies included."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    yield page, messages
    page.close()
