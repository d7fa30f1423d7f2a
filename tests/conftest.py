"""Fixtures that several test modules share."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
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


@pytest.fixture(scope="session")
def real_objects():
    """The whole of CIFAR-10 as `load_images` reads its archive: a file of arrays, made once.

    To unpack the archive takes longer than all else that tests do with it.
    """
    from lib.ground.files import data_dir
    from lib.images.load import load_images

    import numpy as np

    archive = data_dir() / "cifar-10-python.tar.xz"
    if not archive.is_file():
        pytest.skip("no real data")
    shared = Path(os.environ["PIPELINES_SHARED"])
    file, part = shared / "cifar10.npz", shared / "cifar10.part.npz"
    with (shared / "cifar10.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            images = load_images("cifar10", str(archive.resolve()))
            np.savez(part, **{k: v for k, v in vars(images).items() if k != "notes"})
            part.rename(file)
    return file


# One whole run of a pipeline through Airflow, for all tests that look at one: see `group_of` -----


@pytest.fixture(scope="session")
def typed():
    """The sample of power, run by the command line: what was printed."""
    from lib.ground.files import ROOT

    from whole_runs import prepare

    prepare()
    command = [sys.executable, "-m", "lib.commands.cli", "run", "power", "--force"]
    named = {"model_name": "power_by_command"}  # the first of its name, so it is promoted
    return subprocess.run(
        [*command, "--params", json.dumps(named)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.fixture(scope="session")
def power_run(typed):
    """The folder of that run."""
    from lib.run import open_run

    assert typed.returncode == 0, typed.stdout + typed.stderr
    return open_run(re.search(r"/(power/[^/]+)/report\.html\n", typed.stdout)[1])


@pytest.fixture(scope="session")
def tick_run():
    """State, tasks and folder of a run whose kernel is killed while its first network learns."""
    from lib.ground.files import state_dir

    from whole_runs import SMALL_TICK, go, impatient, kernel_killed_in, prepare

    def first_epoch_is_over(folder):
        scratch = state_dir() / ".scratch" / "tick" / folder.name / "training"
        return any(scratch.glob("*/*.backup/1.weights.h5"))

    prepare()
    asked = SMALL_TICK | {"epochs": 6, "register_model": "network", "model_name": "tick_first"}
    with kernel_killed_in("tick", "03_train", first_epoch_is_over) as killed:
        done = go(impatient("tick"), **asked)
    assert killed, "there was no kernel to kill"
    return done


@pytest.fixture(scope="session")
def mnist_run():
    """State, tasks and folder of a run on the sample."""
    from whole_runs import SMALL_MNIST, go, impatient, prepare

    prepare()
    return go(impatient("mnist"), source="sample", **SMALL_MNIST)


@pytest.fixture(scope="session")
def cifar10_run():
    """State, tasks and folder of a run whose kernel is killed while its second network learns."""
    from lib.ground.files import state_dir

    from whole_runs import SMALL_CIFAR, go, impatient, kernel_killed_in, prepare

    def second_epoch_is_over(folder):
        backups = state_dir() / ".scratch" / "cifar10" / folder.name / "training"
        return (backups / "2" / "fast.backup" / "2.weights.h5").exists()

    prepare()
    with kernel_killed_in("cifar10", "03_train", second_epoch_is_over) as killed:
        done = go(impatient("cifar10"), **(SMALL_CIFAR | {"epochs": 4, "n_networks": 2}))
    assert killed, "there was no kernel to kill"
    return done


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
def place(tmp_path_factory):
    """A copy of the toy pipeline, which tests of a module edit, with runs of its own."""
    from whole_runs import TOY, prepare

    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINES_DIR", str(folder))
        patch.setattr("airflow.settings.DAGS_FOLDER", str(folder / "dags"))
        prepare()
        yield folder


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
