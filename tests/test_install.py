"""Making the environment: what is said, what is kept quiet, and that two do not meet."""

import os
import re
import sys
import threading
import time
from pathlib import Path

from lib.commands import install
from lib.ground.files import ROOT

import pytest

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_first_package_that_is_installed_is_pinned_by_its_hashes_alone():
    lines = install.pinned(LOCK, "uv").splitlines()
    assert lines[0].startswith("uv==") and len(lines) > 1
    assert all(line.startswith("    --hash=sha256:") for line in lines[1:])
    assert install.pinned("uv==1 \\\n    --hash=sha256:a\nuvloop==2\n", "uv").count("\n") == 2
    with pytest.raises(install.Failed, match="has no uv: it was not made by make lock"):
        install.pinned("uvloop==2\n", "uv")


def test_program_that_works_is_quiet_and_one_that_fails_is_heard(capfd):
    install.call([sys.executable, "-c", "print('WARNING: noise')"])
    assert capfd.readouterr() == ("", "")
    code = "print(' + done==1'); print('no space left'); raise SystemExit(3)"
    with pytest.raises(install.Failed, match="no space left") as failed:
        install.call([sys.executable, "-c", code])
    assert "\n + done==1" not in str(failed.value)


def test_long_step_shows_what_uv_says_as_it_says_it_but_no_list_of_packages(capsys):
    code = "print('Downloading torch (0.9GiB)\\n + absl-py==2.3.1\\nInstalled 353 packages')"
    install.call([sys.executable, "-c", code], shown=True)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Downloading torch (0.9GiB)", "Installed 353 packages"]


def test_second_install_waits_for_the_first_and_says_so(tmp_path, monkeypatch):
    lock, said, order = tmp_path / "requirements.lock", [], []
    monkeypatch.setattr(install, "say", said.append)
    lock.touch()

    def second():
        with install.alone(lock):
            order.append("second")

    with install.alone(lock):
        other = threading.Thread(target=second)
        other.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert said == ["another make is installing here; waiting for it to end"]


def test_environment_that_is_a_link_to_another_is_replaced_and_the_other_left(
    tmp_path, monkeypatch
):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "python").touch()
    (tmp_path / "own").symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(install.venv.EnvBuilder, "create", lambda self, folder: folder.mkdir())
    install.make_environment(tmp_path / "own")
    assert (tmp_path / "theirs" / "python").exists() and not (tmp_path / "own").is_symlink()


def test_environment_is_whole_once_it_is_ready_and_until_the_lock_file_changes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("requirements.lock").write_text("none")
    assert not install.is_ready(tmp_path)
    (tmp_path / "ready").touch()
    assert install.is_ready(tmp_path)
    assert install.main(tmp_path) == 0, "whoever was waited for has made it"
    os.utime("requirements.lock", (time.time() + 60,) * 2)
    assert not install.is_ready(tmp_path)
    monkeypatch.setattr(install, "make_environment", lambda folder: None)
    assert install.main(tmp_path) == 1
    assert not (tmp_path / "ready").exists(), "what fails half-way is begun anew"
    assert "error: requirements.lock has no uv" in capsys.readouterr().err


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda p: p.name)
def test_check_that_takes_seconds_to_import_is_not_installed(lock):
    text = lock.read_text(encoding="utf-8")
    assert re.search("^jsonschema==", text, re.MULTILINE), "which Airflow and Jupyter import"
    assert not re.search("^rfc3987-syntax==", text, re.MULTILINE), "see tool.uv in pyproject.toml"
