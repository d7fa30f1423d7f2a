"""Making the environment: what is said, what is kept quiet, and that two do not meet."""

import io
import os
import sys
import threading
import time
from pathlib import Path

from lib.commands import install
from lib.run import ROOT

import pytest

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
UV = """\
Resolved 365 packages in 1.22s
Downloading tensorflow (545.9MiB)
Downloading pygments (1.2MiB)
Downloading numpy (16.1MiB)
Downloading scipy (33.7MiB)
Downloading torch (0.9GiB)
 Downloaded scipy
Prepared 353 packages in 41.20s
Installed 353 packages in 8.37s
Bytecode compiled 30204 files in 61.10s
 + absl-py==2.3.1
"""


@pytest.mark.parametrize(
    ("n_lines", "text"),
    [
        (0, "looking what is needed"),
        (1, "downloading"),
        (3, "downloading tensorflow (545.9MiB), pygments (1.2MiB)"),
        (
            7,
            "downloading torch (0.9GiB), tensorflow (545.9MiB), numpy (16.1MiB) and 1 more",
        ),
        (8, "unpacking"),
        (9, "compiling"),
    ],
)
def test_progress_says_what_uv_is_at_and_the_largest_files_that_are_on_their_way(n_lines, text):
    assert install.phase(UV.splitlines()[:n_lines]) == text


def test_first_package_that_is_installed_is_pinned_by_its_hashes_alone():
    lines = install.pinned(LOCK, "uv").splitlines()
    assert lines[0].startswith("uv==") and len(lines) > 1
    assert all(line.startswith("    --hash=sha256:") for line in lines[1:])
    assert install.pinned("uv==1 \\\n    --hash=sha256:a\nuvloop==2\n", "uv").count("\n") == 2
    with pytest.raises(install.Failed, match="has no uv: it was not made by make lock"):
        install.pinned("uvloop==2\n", "uv")
    heads = [line for line in LOCK.splitlines() if line and not line.startswith(" ")]
    assert len(install.names(LOCK)) == len(heads) > 300


def test_program_that_works_is_quiet_and_one_that_fails_is_heard(capfd):
    install.call([sys.executable, "-c", "print('WARNING: noise')"])
    assert capfd.readouterr() == ("", "")
    code = "print(' + done==1'); print('no space left'); raise SystemExit(3)"
    for call in (install.call, install.call_with_progress):
        with pytest.raises(install.Failed, match="no space left") as failed:
            call([sys.executable, "-c", code])
        assert "\n + done==1" not in str(failed.value)


def test_long_step_says_now_and_then_what_it_is_at(monkeypatch, capsys):
    monkeypatch.setattr(install, "BEAT_S", 0.3)
    code = f"import time; print({UV!r}, end='', flush=True); time.sleep(1)"
    install.call_with_progress([sys.executable, "-c", code])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == "installed 353 packages in 8.37s"
    assert lines[-2].endswith("s  compiling"), lines


def test_second_install_waits_for_the_first_and_says_so(tmp_path):
    lock, said, order = tmp_path / "requirements.lock", io.StringIO(), []
    lock.touch()

    def second():
        with install.alone(lock, said):
            order.append("second")

    with install.alone(lock, said):
        other = threading.Thread(target=second)
        other.start()
        deadline = time.monotonic() + 10
        while not said.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert said.getvalue() == "another make is installing here; waiting for it to end\n"


def test_environment_is_whole_once_it_is_ready_and_until_the_lock_file_changes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("requirements.lock").write_text("none")
    assert not install.is_ready(tmp_path)
    (tmp_path / "ready").touch()
    assert install.is_ready(tmp_path)
    assert install.main([str(tmp_path)]) == 0, "whoever was waited for has made it"
    os.utime("requirements.lock", (time.time() + 60,) * 2)
    assert not install.is_ready(tmp_path)
    monkeypatch.setattr(install, "make_environment", lambda folder: None)
    assert install.main([str(tmp_path)]) == 1
    assert not (tmp_path / "ready").exists(), "what fails half-way is begun anew"
    assert "error: requirements.lock has no uv" in capsys.readouterr().err
