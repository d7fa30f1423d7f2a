"""A pipeline made by `make new`, in a copy of the project, and everything that can be done with it.

Nothing but the command makes it: what fails here needs an edit elsewhere, or a better template.
"""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

from lib.commands.reproduce import environment
from lib.ground.files import ROOT

import numpy as np
import pandas as pd
import pytest
from whole_runs import prepare

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1200)]
MODEL = "vintage_boosting_sample"
NEW = ["lib.commands.cli", "new"]
IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project's files, in git, with outputs of its own."""
    folder = tmp_path_factory.mktemp("project") / "tree"
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in git(ROOT, *listed).split("\0"):
        if (ROOT / name).is_file() and not name.startswith(("tests/data", "docs", "benchmarks")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, *IDENTITY, "commit", "--quiet", "--message", "Begin")
    prepare(folder.parent / "outputs")
    return folder


def git(folder, *arguments):
    git = ["git", *arguments]
    return subprocess.run(git, cwd=folder, capture_output=True, text=True, check=True).stdout


def start(project, *arguments, outputs="outputs"):
    """Begin Python in the copy."""
    settings = environment(project, project.parent / outputs)
    settings |= {"DATA_DIR": str(project.parent), "OMP_NUM_THREADS": "1"}
    for name in [name for name in settings if name.startswith("PYTEST")]:
        del settings[name]
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=project,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process, *, status=0):
    """Wait for what was begun, and return what it printed."""
    told, _ = process.communicate(timeout=900)
    assert process.returncode == status, told
    return told


def cli(project, *arguments, **options):
    return end(start(project, "-m", "lib.commands.cli", *arguments), **options)


RUNS = """
import json, sys
from lib.commands import pipelines

asked = json.loads(sys.argv[1])
sys.exit(max([pipelines.run([name], json.dumps(values)) for name, values in asked]))
"""


def run_all(project, *asked):
    """Run pipelines through Airflow in one process, which imports it once; return their folders."""
    return folders(project, end(start(project, "-c", RUNS, json.dumps(asked))))


def folders(project, told):
    """Return the run folders whose pages were named."""
    named = re.findall(r"/outputs/([^/\n]+/[^/\n]+)/report\.html$", told, re.MULTILINE)
    return [project.parent / "outputs" / run_dir for run_dir in named]


def read(folder, name):
    path = folder / name
    return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_parquet(path)


@pytest.fixture(scope="module")
def made(project):
    """Two new pipelines: one of classes, committed, and beside it one of numbers.

    While the first goes through everything, the tests of its notebooks run in another process.
    """
    numbers = start(project, "-m", *NEW, "--task", "regression", "orchard", outputs="o")
    told = cli(project, "new", "vintage")
    assert "vintage/05_register" in told and "Next: make run PIPELINE=vintage" in told
    added = ["notebooks/vintage", "dags/vintage.py", "lib/pipelines/vintage.py"]
    status = git(project, "status", "--porcelain", "--untracked-files=all", "--", *added)
    assert {line[:2] for line in status.splitlines()} == {"??"}
    git(project, "add", *added)
    git(project, *IDENTITY, "commit", "--quiet", "--message", "Add a pipeline")
    end(numbers)
    assert git(project, "diff", "--stat") == "", "a file that was there has changed"
    nbval = start(
        project, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "notebooks/vintage"
    )
    yield SimpleNamespace(nbval=nbval)
    nbval.kill()


@pytest.fixture(scope="module")
def told(made, project):
    """What the command line said of the first run, on the sample."""
    return cli(project, "run", "vintage")


@pytest.fixture(scope="module")
def first(told, project):
    """The folder of that run."""
    (folder,) = folders(project, told)
    return folder


FRUIT = {"source": "fruit.csv", "target": "price", "time_column": "when", "leave_out": ["no"]}


@pytest.fixture(scope="module")
def fruit(project):
    """A table with gaps, texts and times, and rows that came after it, in files."""
    rng = np.random.default_rng(0)
    n = 400
    table = pd.DataFrame(
        {
            "no": np.arange(n),
            "when": pd.date_range("2026-01-01", periods=n, freq="h"),
            "size": rng.normal(5, 1, n).round(3),
            "kind": rng.choice(["apple", "pear", "plum"], n),
        }
    )
    table["price"] = 3 * table["size"] + 5 * (table["kind"] == "pear") + rng.normal(0, 0.5, n)
    table.loc[::9, "size"] = np.nan
    table.loc[::11, "kind"] = None
    table.to_csv(project.parent / "fruit.csv", index=False)
    newer = table.assign(when=table["when"] + pd.Timedelta(days=30)).drop(columns="price").tail(50)
    newer.to_parquet(project.parent / "newer.parquet")
    return newer


@pytest.fixture(scope="module")
def later(first, fruit, project):
    """What is done after it: a run with other trees, and runs that work on the two versions."""
    table = read(first, "table.parquet").reset_index(drop=True)
    shifted = pd.concat([table.assign(alcohol=table["alcohol"] * 2, more="x")] * 2)
    known = read(first, "test.parquet").drop(columns="cultivar").iloc[:7]
    pd.concat([known, shifted[known.columns]]).to_csv(project.parent / "shifted.csv", index=False)
    done = run_all(
        project,
        ("vintage", {"max_leaves": 3}),
        ("compare", {"model": MODEL, "a": "1", "b": "2"}),
        ("score", {"model": MODEL}),
        ("score", {"model": MODEL, "source": "shifted.csv"}),
        ("orchard", FRUIT),
        ("score", {"model": "orchard_boosting", "source": "newer.parquet"}),
    )
    return SimpleNamespace(**dict(zip(LATER, done, strict=True)))


LATER = ("second", "compared", "scored", "shifted", "orchard", "newer")


def test_run_ends_in_a_registered_model_and_a_page(told, first):
    assert "1 of 1 passed" in told
    registered = read(first, "registration.json")
    assert registered["name"] == MODEL and registered["version"] == 1
    assert read(first, "gate.json")["outcome"] == "first"
    assert read(first, "metrics.json")["accuracy"] > 0.9
    page = (first / "report.html").read_text()
    assert "accuracy" in page and "vintage" in page and "lib/pipelines" not in page


def test_second_run_is_judged_against_the_first_on_the_same_rows(later):
    decision = read(later.second, "gate.json")
    assert decision["champion"]["version"] == 1
    assert decision["outcome"] in ("better", "not_better"), decision["reason"]
    assert decision["rows"][0]["metric"] == "accuracy"
    assert read(later.second, "registration.json")["version"] == 2


def test_two_runs_are_compared_on_a_page_and_two_versions_on_new_rows(first, later, project):
    told = cli(project, "compare", "--pipeline", "vintage")
    assert ".html" in told
    n_test = read(first, "metrics.json")["n_test"]
    assert read(later.compared, "metrics.json")["n_test"] == n_test
    assert "version" in read(later.compared, "comparison.json")["words"]


def test_rows_are_scored_once_and_shifted_ones_raise_the_alarm(first, later):
    n_test = read(first, "metrics.json")["n_test"]
    assert read(later.scored, "counts.json")["n_scored"] == n_test, "what was learned is not new"
    assert not read(later.scored, "watch.json")["drifted"]
    counts, watch = read(later.shifted, "counts.json"), read(later.shifted, "watch.json")
    assert counts["n_rows"] == 7 + 2 * len(read(first, "table.parquet"))
    assert counts["n_known"] == 7
    assert watch["drifted"] and any(why.startswith("alcohol ") for why in watch["why"])


def test_stage_is_opened_on_a_copy(later, project):
    cli(project, "open", f"vintage/{later.second.name}", "03_train")
    (opened,) = (project / "workbench").rglob("03_train.ipynb")
    assert "max_leaves = 3" in opened.read_text() or "max_leaves: int = 3" in opened.read_text()


def test_run_is_reproduced_from_its_commit_to_the_last_digit(first, project):
    told = cli(project, "reproduce", f"vintage/{first.name}")
    assert told.splitlines()[-1].startswith("REPRODUCED: all "), told
    table = told.partition("difference\n")[2].partition("REPRODUCED")[0]
    assert {line.split()[-1] for line in table.splitlines()} == {"0"}, told


def test_quick_tests_and_nbval_pass_on_the_new_pipelines(made, project):
    files = ["tests/test_pipelines.py", "tests/test_contract.py", "tests/test_notebooks.py"]
    told = end(
        start(project, "-m", "pytest", "-q", "-n0", *files, "-k", "vintage or orchard or score")
    )
    assert "passed" in told and "failed" not in told
    ruff = ["-m", "ruff", "check", "--no-cache", "notebooks", "dags", "lib"]
    end(start(project, *ruff))
    told = end(made.nbval)
    assert "passed" in told and "failed" not in told


def test_numbers_are_learned_from_a_file_with_gaps_texts_and_times(later, fruit):
    folder = later.orchard
    assert read(folder, "registration.json")["name"] == "orchard_boosting"
    metrics = read(folder, "metrics.json")
    assert metrics["rmse_vs_mean"] < 0.7 and metrics["rmse"] < 2.5
    facts = read(folder, "test.json")
    assert facts["learned_until"] == read(folder, "table.parquet")["when"].iloc[299].isoformat()
    assert read(later.newer, "counts.json")["n_scored"] == len(fruit) == 50
