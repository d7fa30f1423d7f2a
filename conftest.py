"""Tests never touch the user's runs: every location points to a folder of this test session."""

import functools
import os
import re
import shutil
import signal
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

MINUTES = (
    "cluster",
    "up",
    "image_runs",
    "whole_runs",
    "new_runs",
    "tick_runs",
    "edits",
    "mapped",
    "training",
    "lake",
    "warm",
    "ledger",
    "faults",
    "lake_runs",
)
SERVED = {
    "power": "whole_runs",
    "tick": "tick_runs",
    "mnist": "image_runs",
    "cifar10": "image_runs",
}  # where the run is made whose model is served
LONGEST = [f"tests/test_{name}.py" for name in MINUTES]  # the others take less than a minute
QUICK = "not kernel and not slow"  # what `make fast` asks for
WHOLE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(?:kernel|slow)\b", re.MULTILINE)
BEGUN: set[str] = set()  # pipelines whose notebooks are tested
FOLDER = Path(tempfile.mkdtemp(prefix="pipelines-"))
SHARED = Path(os.environ.setdefault("PIPELINES_SHARED", str(FOLDER)))  # by all processes of tests
os.environ["OUTPUTS_DIR"] = str(FOLDER / "outputs")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # others need the cores on which threads spin
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs beside it
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ |= {  # as it would be after a test has imported Keras: other kernels share no process
    "ENABLE_RUNTIME_UPTIME_TELEMETRY": "1",
    "HDF5_PLUGIN_PATH": "disable",
    "KMP_DUPLICATE_LIB_OK": "True",
    "KMP_INIT_AT_FORK": "FALSE",
    "TF2_BEHAVIOR": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TPU_ML_PLATFORM": "Tensorflow",
    "TPU_ML_PLATFORM_VERSION": version("tensorflow"),
}

from lib.commands.notebooks import begin  # noqa: E402
from lib.commands.services import airflow_settings  # noqa: E402
from lib.machine import provisioner  # noqa: E402

os.environ.update(airflow_settings())  # before anything imports Airflow
if provisioner.is_on():
    provisioner.own_folder()  # one warm process of a kind for all processes of tests
del os.environ["MLFLOW_TRACKING_URI"]  # follows OUTPUTS_DIR, which some tests change


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Name the notebook whose cells come next to the kernel that nbval starts, as JupyterLab does.

    A kernel that is forked comes from the process that has its imports. The links that a pipeline
    begins with are executed before its first notebook.
    """
    if item.path.suffix == ".ipynb":
        folder = item.path.parent.name
        if folder not in BEGUN:
            BEGUN.add(folder)
            begin(folder)
        os.environ["JPY_SESSION_NAME"] = str(item.path)
        provisioner.use(provisioner.PATIENCE_S)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a stage that is a link to one of another pipeline: it is tested there.

    `make fast` need not import a module either of which it would run nothing.
    """
    if collection_path.is_symlink():
        return True
    if config.option.markexpr != QUICK or not collection_path.match("tests/test_*.py"):
        return None
    return True if WHOLE.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_unconfigure() -> None:
    """Remove what the tests made."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest groups come first, where several processes share the work."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid), []).append(item)
    by_length = sorted(groups, key=lambda group: _length(group, groups[group]), reverse=True)
    items[:] = [item for group in by_length for item in groups[group]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share `make test` among one process more than there are cores: it often waits for others."""
    return (os.cpu_count() or 1) + bool(config.getoption("nbval", default=False))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep together, in one process, what belongs together: see `group_of`."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = group_of(nodeid)
            quick = config.option.markexpr == QUICK
            return "airflow" if quick and imports_airflow(group) else group

    config.option.loadscopereorder = False
    return Together(config, log)


def group_of(nodeid: str) -> str:
    """Return what a test has to run beside: a pipeline's notebooks, or the tests of its module.

    A notebook reads what the ones before it wrote. Tests of a module share a run, and so do those
    that look at the whole run of a pipeline.
    """
    path = nodeid.split("::")[0]
    if path.endswith(".ipynb"):
        return path.rpartition("/")[0]
    if path == "tests/test_serving.py":
        path = f"tests/test_{SERVED[nodeid.rpartition('[')[2].rstrip(']')]}.py"
    return "tests/test_whole_runs.py" if path == "tests/test_opened_notebooks.py" else path


@functools.cache
def imports_airflow(group: str) -> bool:
    """Whether a module of tests needs Airflow: of quick ones, one process alone imports it."""
    text = (Path(__file__).parent / group).read_text(encoding="utf-8")
    return re.search(r"\bairflow(\.|_reports\b| import)|Late\(\"lib\.dag", text) is not None


def _length(group: str, items: list[pytest.Item]) -> tuple[int, int]:
    """Return what the length of a group grows with.

    That is its place among the longest, and the number of `items` that start a kernel, as the
    cells of a notebook do.
    """
    place = LONGEST[::-1].index(group) + 1 if group in LONGEST else 0
    return place, sum(
        item.get_closest_marker("kernel") is not None or ".ipynb" in item.nodeid for item in items
    )
