"""Kernels forked from a warm process: like those started anew, and none where that is not safe."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from lib.commands import services, supervise
from lib.ground import layout
from lib.machine import provisioner, warm

import psutil
import pytest
from executed import ROOT, assert_truth, own_cells, read, run, save_notebook, wait_for
from jupyter_client.manager import KernelManager

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]
IMPORTS = "import numpy as np\nimport numpy.random\nimport matplotlib.pyplot as plt\nimport helper"
IMPORTS += "\nimport multiprocessing"
HELPER = """
import os, sys
VALUE, KNOWN = 1, set()  # the modules that a forked kernel begins with
os.register_at_fork(after_in_child=lambda: KNOWN.update(sys.modules))
"""
NEW = "\nimport helper, sys\nnew = sorted(set(sys.modules) - helper.KNOWN)\n"


@contextlib.contextmanager
def owning(folder):
    """A process that owns warm processes, for notebooks that import a module `helper`.

    With it comes the environment in which such kernels are started.
    """
    process = subprocess.Popen(["sleep", "3600"])
    base = tempfile.mkdtemp(prefix=f"warm-{process.pid}-", dir="/tmp")
    (folder / "path").mkdir()
    (folder / "path/helper.py").write_text(HELPER)
    (folder / "notebooks/toy").mkdir(parents=True)
    save_notebook(folder / "notebooks/toy/01_load.ipynb", IMPORTS)
    paths = {"PIPELINES_DIR": str(folder), "PYTHONPATH": str(folder / "path")}
    yield process, paths | {"WARM_KERNELS": base}
    begun = own(process)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(alive, begun)), 30)
    assert not (begun and Path(base).exists())
    shutil.rmtree(base, ignore_errors=True)


def owner_of(owned, patch):
    process, environment = owned
    for name, value in environment.items():
        patch.setenv(name, value)
    patch.setattr(provisioner, "_told", set())
    return process


@pytest.fixture
def owner(monkeypatch, tmp_path):
    """One for a test that ends or replaces what it owns."""
    with owning(tmp_path) as owned:
        yield owner_of(owned, monkeypatch)


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    with owning(tmp_path_factory.mktemp("owned")) as owned:
        yield owned


@pytest.fixture
def shared(owned, monkeypatch):
    """One for all tests that leave its warm process as it is."""
    return owner_of(owned, monkeypatch)


def own(owner):
    """The warm processes of an owner; a kernel has another command."""
    return [
        process
        for process in psutil.process_iter()
        if (words := command(process))[1:2] == [provisioner.WARM]
        and json.loads(" ".join(words[2:]))["owner"] == owner.pid
    ]


def command(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def alive(process):
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def value(folder, source):
    """What the JSON that a cell prints says, in a kernel that runs `source`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run(folder, f"import json\n{source}")
    return json.loads(read(folder / "out.ipynb").cells[3].outputs[0].text)


PARENT = "import os, psutil\nprint(json.dumps(psutil.Process(os.getppid()).cmdline()))"


def forked(folder):
    return value(folder, PARENT)[1:2] == [provisioner.WARM]


LOOK = """
import os, psutil, random, resource, signal, sys, tempfile, threading
me = psutil.Process()
status = open("/proc/self/status").read().splitlines()
kept = ("Umask", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list", "Seccomp", "NoNewPrivs")
print(json.dumps({
    "leads": [os.getpid() == os.getpgid(0) == os.getsid(0)],
    "cwd": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items()},
    "argv": [word for word in sys.argv if not word.endswith("k.json")],
    "path": sys.path,
    "main": [name for name in vars(sys.modules["__main__"]) if name.startswith("__")],
    "flags": str(sys.flags),
    "signals": {n: str(signal.getsignal(n)) for n in (1, 2, 13, 15, 17)},
    "status": [line for line in status if line.startswith(kept)],
    "limits": [resource.getrlimit(n) for n in range(16)],
    "streams": [os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in (1, 2)],
    "threads": sorted(t.name.rstrip("1234") for t in threading.enumerate()),
    "temporary": tempfile.gettempdir(),
    "buffered": [s.line_buffering for s in (sys.__stdout__, sys.__stderr__)],
    "hash": hash("a text"),
    "processes": [c.pid for c in me.children()],
    "collected": __import__("gc").isenabled(),
    "debugger passes by": [
        name for name in ("ipykernel", "numpy")
        if any(f"/{name}/" in file for file in get_ipython().kernel._kernel_modules)
    ],
    "spawned in": __import__("multiprocessing.process").process.ORIGINAL_DIR,
    "columns": __import__("pandas").get_option("display.max_columns"),
}))
"""


def test_forked_kernel_is_as_one_started_anew(owner, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    found = []
    for name in ("cold", "warm"):
        monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
        with monkeypatch.context() as patch:
            if name == "cold":
                patch.setenv("WARM_KERNELS", "0")
            found.append(value(tmp_path / "x", LOOK))
    cold, other = found
    differ = cold["environment"].items() ^ other["environment"].items()
    assert {name for name, _ in differ} == {"WARM_KERNELS"}
    cold["environment"] = other["environment"]
    assert len(own(owner)) == 1, "the second was not forked"
    assert other == cold


def test_figure_of_a_forked_kernel_is_shown(shared, tmp_path):
    run(tmp_path, IMPORTS, "plt.plot([1, 2]);", "import threading\nplt.get_backend()")
    cells = read(tmp_path / "out.ipynb").cells
    assert len(own(shared)) == 1
    assert "image/png" in cells[4].outputs[0].data
    assert "inline" in cells[5].outputs[0].data["text/plain"]


def test_forked_kernel_imports_nothing_that_the_warm_process_could_have(shared, tmp_path):
    assert value(tmp_path / "x", f"{IMPORTS}{NEW}print(json.dumps(new))") == []


def test_each_forked_kernel_has_chances_of_its_own(shared, tmp_path):
    source = (
        "import os, random, uuid, numpy as np, tempfile\n"
        "print(json.dumps([random.random(), np.random.rand(), str(uuid.uuid4()), "
        "os.urandom(8).hex(), np.random.default_rng().random(), tempfile.mktemp()]))"
    )
    drawn = [value(tmp_path / "x", source) for _ in range(3)]
    assert len(own(shared)) == 1
    for values in zip(*drawn, strict=True):
        assert len(set(values)) == 3


TRAIN = f"""
from lib.backend import import_keras
import numpy as np
import tensorflow as tf
keras = import_keras()
{NEW}free = [float(keras.random.uniform(())), float(tf.random.uniform(())), float(np.random.rand())]
keras.utils.set_random_seed(3)
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
model.compile("adam", "mse", jit_compile=False)
x = np.random.default_rng(0).normal(size=(64, 4))
losses = model.fit(x, x[:, 0], epochs=2, verbose=0).history["loss"]
print(json.dumps([free, [*losses, float(tf.random.uniform(()))], new]))
"""


def test_keras_learns_in_a_forked_kernel_what_it_learns_in_a_new_one(owner, tmp_path, monkeypatch):
    save_notebook(tmp_path / "notebooks/toy/02_train.ipynb", TRAIN)
    (one, learned, new), (another, again, _) = (value(tmp_path / "x", TRAIN) for _ in range(2))
    assert len(own(owner)) == 1
    assert new == [], "the set-up cell has nothing left to import"
    monkeypatch.setenv("WARM_KERNELS", "0")
    _, anew, _ = value(tmp_path / "x", TRAIN)
    assert learned == again == anew
    assert not set(one) & set(another), "what has no seed differs"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("os._exit(3)", "exited with status 3"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
            "x = [bytearray(1 << 20) for _ in range(2000)]",
            "MemoryError",
        ),
    ],
)
def test_end_of_a_forked_kernel_is_told(shared, tmp_path, source, words):
    with pytest.raises(Exception, match=words):
        run(tmp_path, f"import os, time\nprint('before', flush=True)\ntime.sleep(0.5)\n{source}")
    (process,) = own(shared)
    assert not process.children()
    cells = assert_truth(tmp_path / "out.ipynb", 3, words)
    assert cells[3].outputs[0].text == "before\n"


def test_kernel_outlives_the_warm_process_and_then_nobody_can_tell_how_it_ended(owner, tmp_path):
    kill = "import os\nos.kill(os.getppid(), 9)\nprint('on its own')"
    run(tmp_path, kill)
    assert own_cells(read(tmp_path / "out.ipynb"))[3].outputs[0].text == "on its own\n"
    assert forked(tmp_path / "x"), "a warm process that is gone is started anew"
    with pytest.raises(Exception, match="nobody can tell"):
        run(tmp_path, kill, "os._exit(0)")
    assert_truth(tmp_path / "out.ipynb", 4, "DeadKernelError", "nobody can tell")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_an_executor_that_ends(owner, tmp_path, number):
    """The kernel and its child end, with the report; the warm process waits for the next."""
    from test_engine import start_elsewhere_with

    process, pids = start_elsewhere_with(
        tmp_path,
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
        "print(child.pid, flush=True)\ntime.sleep(300)",
    )
    (parent,) = own(owner)
    (kernel,) = parent.children()
    started = [kernel, *kernel.children()]
    assert len(started) == 2 and len(pids) >= 1
    process.send_signal(number)
    process.wait(timeout=30)
    wait_for(lambda: not any(map(alive, started)), 20)
    words = "killed from outside (SIGKILL" if number == signal.SIGKILL else "told to stop (SIGTERM)"
    wait_for((tmp_path / "out.html").exists, 30)
    assert_truth(tmp_path / "out.ipynb", 3, words)
    assert alive(parent) and forked(tmp_path / "x") and own(owner) == [parent]


def test_changed_file_replaces_the_warm_process(owner, tmp_path):
    show = "import helper\nprint(json.dumps(helper.VALUE))"
    assert value(tmp_path / "x", show) == 1
    (first,) = own(owner)
    assert value(tmp_path / "x", show) == 1 and own(owner) == [first]
    (tmp_path / "path/helper.py").write_text("VALUE = 12\n")
    assert value(tmp_path / "x", show) == 12
    wait_for(lambda: not alive(first), 10)
    assert len(own(owner)) == 1


def test_other_environment_or_other_imports_mean_another_warm_process(owner, tmp_path, monkeypatch):
    assert forked(tmp_path / "x")
    others = ("MLFLOW_TRACKING_URI", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "AWS_DEFAULT_REGION")
    for name in ("AIRFLOW_CTX_TRY_NUMBER", "DATA_DIR", "OUTPUTS_DIR", *others):
        monkeypatch.setenv(name, "2")  # which no import reads
        assert value(tmp_path / "x", f"import os\nprint(os.environ['{name}'])") == 2
    assert forked(tmp_path / "x") and len(own(owner)) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert forked(tmp_path / "x") and len(own(owner)) == 2
    save_notebook(tmp_path / "notebooks/toy/02_more.ipynb", "import wave")
    look = "import sys\nprint(json.dumps('wave' in sys.modules))"
    assert value(tmp_path / "x", look) and len(own(owner)) == 3


FORK_FAILS = """
import os
forks, fork = [], os.fork
def fail():
    forks.append(1)
    if len(forks) > 1:  # the first is for libraries that end their threads before a fork
        raise OSError(12, "Cannot allocate memory")
    return fork()
os.fork = fail
"""


@pytest.mark.parametrize(
    ("helper", "reason"),
    [
        ("import threading\nthreading.Timer(60, print).start()", "threads run"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise MemoryError('no room')", "MemoryError while importing"),
        (FORK_FAILS, "Cannot allocate memory"),
        ("import sys\nsys.modules['airflow'] = sys", "Airflow is imported"),
    ],
)  # fmt: skip
def test_what_is_not_safe_to_fork_is_started_anew_and_said_once(
    owner, tmp_path, caplog, helper, reason
):
    (tmp_path / "path/helper.py").write_text(helper)
    for _ in range(2):
        assert not forked(tmp_path / "x")
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1 and reason in said[0]
    (tmp_path / "notebooks/toy/01_load.ipynb").unlink()
    assert forked(tmp_path / "x"), "without that import it works"


def test_module_of_the_working_directory_is_imported_as_ever(shared, tmp_path):
    from lib.machine import executor

    show = "import cycler\nprint(json.dumps(hasattr(cycler, 'mine')))"
    assert value(tmp_path / "x", show) is False
    (tmp_path / "x/cycler.py").write_text("mine = True")  # matplotlib has imported another one
    executor.execute_notebook(tmp_path / "x/in.ipynb", tmp_path / "y/out.ipynb", cwd=tmp_path / "x")
    assert read(tmp_path / "y/out.ipynb").cells[2].outputs[0].text == "true\n"


def test_settings_of_the_working_directory_are_read_by_a_new_kernel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(warm, "_other_threads", list)
    process = SimpleNamespace(toplevel={})
    warm.Warm._check(process, {"cwd": str(tmp_path)})
    (tmp_path / "matplotlibrc").touch()
    with pytest.raises(ValueError, match="matplotlibrc"):
        warm.Warm._check(process, {"cwd": str(tmp_path)})


def test_zero_switches_it_off(owner, tmp_path, monkeypatch):
    monkeypatch.setenv("WARM_KERNELS", "0")
    assert not forked(tmp_path / "x") and not own(owner)


@pytest.mark.parametrize("named", ["", "1", "yes", "/tmp/warm-999999999-abc", "/tmp"])
def test_any_other_value_means_a_folder_of_its_own(monkeypatch, named):
    monkeypatch.setenv("WARM_KERNELS", named)
    folder = provisioner.own_folder()
    assert folder.name.startswith(f"warm-{os.getpid()}-") and folder.stat().st_mode & 0o777 == 0o700
    assert provisioner.own_folder() == folder, "from then on, also for what this process starts"


def test_folder_that_others_can_open_is_not_used(owner, tmp_path, monkeypatch, caplog):
    Path(os.environ["WARM_KERNELS"]).chmod(0o755)
    assert not forked(tmp_path / "x") and not own(owner)
    assert "not a folder that this user alone can open" in caplog.text
    Path(os.environ["WARM_KERNELS"]).chmod(0o700)
    assert forked(tmp_path / "x"), "else nothing would take the folder away"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_answered(owner):
    provisioner.connect((), os.environ).close()
    folder = Path(os.environ["WARM_KERNELS"])
    code = (
        "import os, socket, sys; os.chdir('/'); os.setgroups([]); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(60)\n"
        "s.connect(sys.argv[1]); print(s.recv(100))"
    )
    (place,) = [path for path in folder.iterdir() if path.is_socket()]

    def ask():
        return subprocess.run(
            [sys.executable, "-c", code, place],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )

    assert "PermissionError" in ask().stderr
    folder.chmod(0o755)
    place.chmod(0o777)
    assert ask().stdout == "b''\n", "the folder was opened, and the process refuses"
    folder.chmod(0o700)


def test_kernel_that_is_asked_to_end_does_so_at_once(shared, tmp_path):
    """Jupyter's own way sets a timer, which here never fires; exit handlers run."""
    run(
        tmp_path,
        "import atexit, pathlib\natexit.register(pathlib.Path('ended').touch)\n"
        "get_ipython().kernel.io_loop.call_later = lambda *_: None",
    )
    assert (tmp_path / "ended").exists()


def test_memory_goes_into_huge_pages():
    """A fork copies one entry for each then, not 512."""
    kernel = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
    pages = Path("/sys/kernel/mm/transparent_hugepage")
    if kernel < (6, 1) or "[never]" in (pages / "enabled").read_text():
        pytest.skip("this Linux cannot")
    code = (
        "from lib.machine import warm\nkept = [bytes(1000) + b'x' for _ in range(40_000)]\n"
        "warm.use_huge_pages()\nassert all(one[-1] == 120 for one in kept)\n"
        "print(open('/proc/self/smaps_rollup').read())"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    huge = next(line for line in shown.splitlines() if line.startswith("AnonHugePages"))
    assert int(huge.split()[1]) > 20_000


def test_idle_warm_process_ends(owner, monkeypatch):
    monkeypatch.setattr(provisioner, "IDLE_S", 0.3)
    provisioner.connect((), os.environ).close()
    (process,) = own(owner)
    wait_for(lambda: not alive(process), 30)
    assert [p.suffix for p in Path(os.environ["WARM_KERNELS"]).iterdir() if p.is_socket()] == []
    monkeypatch.setattr(provisioner, "IDLE_S", 600)
    provisioner.connect((), os.environ).close()


def test_two_hundred_forks_leave_nothing_behind(shared, tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import forks
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    before, after = forks.fork_many(200)
    assert after["descriptors"] == before["descriptors"]
    assert after["own descriptors"] == before["own descriptors"]
    assert after["processes"] == before["processes"] == 0
    assert after["files"] == before["files"]
    assert after["memory, kB"] - before["memory, kB"] < 2000


def test_warm_process_that_is_busy_for_a_moment_is_waited_for(shared, tmp_path):
    """Where JupyterLab starts kernels, one that still imports is not."""
    assert forked(tmp_path / "first")
    provisioner.use()
    (process,) = own(shared)
    process.suspend()
    threading.Timer(1, process.resume).start()
    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.start_kernel()
    try:
        assert isinstance(manager.provisioner.process, provisioner.Forked)
        began = time.monotonic()
        manager.restart_kernel()
        assert isinstance(manager.provisioner.process, provisioner.Forked)
        assert time.monotonic() - began < 2, "it ends as soon as it is asked to"
    finally:
        manager.shutdown_kernel(now=True)


def test_kernel_that_is_interrupted_while_it_begins_ends_at_once(owner, tmp_path):
    """As where somebody restarts it twice: Jupyter interrupts a kernel before it asks it to end."""
    interrupted = """
import atexit, time
from lib.machine import kernel

def start(*_, **__):
    time.sleep(1)
    atexit.register(time.sleep, 20)  # as a context waits for its sockets
    raise KeyboardInterrupt

kernel.start = start
"""
    (tmp_path / "path/helper.py").write_text(HELPER + interrupted)
    manager = KernelManager(kernel_name="python3", transport="ipc")
    provisioner.use(provisioner.PATIENCE_S)
    with (tmp_path / "said").open("w") as said:
        manager.start_kernel(stderr=said)
    kernel = manager.provisioner.process
    assert isinstance(kernel, provisioner.Forked) and kernel.wait(10) == 1
    assert "KeyboardInterrupt" in (tmp_path / "said").read_text()
    manager.cleanup_resources()


def test_kernel_that_jupyterlab_starts_again_is_forked(owner, tmp_path):
    """The first is started anew, while the warm process imports; none survives the server."""
    port = services.free_port(18888)
    lab = services._lab(port)
    token = lab.line.rpartition("token=")[2]
    with (tmp_path / "log").open("w") as log:
        made = os.environ | lab.settings
        server = subprocess.Popen(lab.command, cwd=ROOT, env=made, stdout=log, stderr=log)
    assert token not in str(lab.command), "others may read it"

    def call(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{lab.address}/api/{path}", data)
        request.add_header("Authorization", f"token {token}")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    try:
        wait_for(lambda: supervise.is_taken(port), 60)
        kernel = {"name": "python3"}
        notebook = {"path": "toy.ipynb", "name": "toy.ipynb"}
        made = call("sessions", notebook | {"type": "notebook", "kernel": kernel})["kernel"]
        (first,) = [p for p in psutil.Process(server.pid).children() if "-f" in command(p)]
        (parent,) = own(owner)

        def again():  # a warm process that still imports may have a child of another kind
            call(f"kernels/{made['id']}/restart", {})
            named = f"kernel-{made['id']}.json"
            return [p for p in parent.children() if named in " ".join(command(p))]

        wait_for(again, 60)
        assert not alive(first)
        (forked_one,) = parent.children()
    finally:
        server.terminate()
        server.wait(30)
    wait_for(lambda: not alive(forked_one), 10)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("warm_kernels", "n_stages"), [("1", 1), ("0", 2)])
def test_committed_outputs_are_those_of_kernels_forked_and_anew(warm_kernels, n_stages, tmp_path):
    """In every other test of nbval kernels are forked, as people have them."""
    paths = [f"notebooks/mnist/{stage}.ipynb" for stage in layout.planned("mnist")[:n_stages]]
    log = [f"--log-file={tmp_path / 'log'}", "--log-file-level=DEBUG"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", *log, *paths],
        env=os.environ | ({} if warm_kernels == "1" else {"WARM_KERNELS": "0"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "log").read_text().count("was forked") == len(paths) * int(warm_kernels)


def test_file_written_while_it_is_imported_counts_as_changed(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("x = 1")
    known = warm._stat(str(file))
    assert warm.is_same(time.time_ns() + 10**9, str(file), known)
    assert not warm.is_same(known[0], str(file), known)
    assert warm.is_same(0, str(tmp_path / "none"), None)
    file.write_text("x = 22")
    assert not warm.is_same(time.time_ns() + 10**9, str(file), known)


def test_file_that_a_module_reads_as_it_is_imported_is_watched():
    assert str(ROOT / "lib/ground/chart_file.json") in provisioner.watched()


def test_backends_are_those_of_the_first_cell_that_imports(tmp_path):
    def of(*sources):
        return provisioner.backends_of(save_notebook(tmp_path / "a.ipynb", *sources))

    assert of("import pandas as pd", "import keras") == ()
    assert of("x = 1", "from lib.backend import import_keras\nkeras = import_keras()") == ("keras",)
    assert of("import tensorflow.data as data\nfrom torch import nn") == ("tensorflow", "torch")
    assert of("%matplotlib inline", "import keras") == ("keras",)
    assert provisioner.backends_of(tmp_path / "none.ipynb") == ()
    (tmp_path / "b.ipynb").write_text("{half a note")
    assert provisioner.backends_of(tmp_path / "b.ipynb") == ()
    assert provisioner.backends_of("") == ()
