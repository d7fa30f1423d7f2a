"""How long what has not changed takes: a run that takes every stage, its keys, many runs before.

Run with ``python benchmarks/unchanged_runs.py [--repeats 5]``. It makes one run of `power` on
sample data in a folder of its own, and then, by the command line as `make run` does it, the same
again. Medians, in seconds; "stages" is what the stages alone took, the rest is the start and what
MLflow is told; "processor" is what all processes of the run used. The keys are those of a process
that has just begun, with and without what earlier ones have kept on disk. Growth is the time to
find and take a stage after so many earlier runs.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEYS = """
import sys, time
from lib.ground import layout
from lib.ground.parameters import merge_parameters
from lib.once.key import key_of
values = {n: p.default for n, p in merge_parameters(layout.declared("power")).items()}
for stage in layout.planned("power"):
    start = time.perf_counter()
    key_of("power", stage, values)
    print(time.perf_counter() - start)
"""
GROWTH = (0, 500, 5000)
PIPELINE, STAGE = "power", "02_features"


def run(arguments: list[str], env: dict[str, str]) -> tuple[float, float, str]:
    """Return how long a command took, and what of the processor, in seconds; what it printed."""
    start, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    now = os.times()
    busy = now.children_user - used.children_user + now.children_system - used.children_system
    return time.perf_counter() - start, busy, done.stdout


def growth(folder: Path, n_runs: int) -> float:
    """Return the seconds to take a stage over with `n_runs` runs before it that have done so."""
    from lib.ground import layout
    from lib.ground.folder import look_at
    from lib.ground.parameters import merge_parameters
    from lib.once import choice

    values = {n: p.default for n, p in merge_parameters(layout.declared(PIPELINE)).items()}
    (origin,) = (path for path in (folder / PIPELINE).iterdir() if path.name.startswith("manual"))
    known = len([path for path in (folder / PIPELINE).iterdir() if path.name.startswith("copy")])
    for number in range(known, n_runs):
        target = folder / PIPELINE / f"copy-{number:05}"
        (target / "stages").mkdir(parents=True)
        (target / "run.json").write_text((origin / "run.json").read_text())
        for stage in ("01_load", STAGE):
            record = (origin / "stages" / f"{stage}.json").read_text()
            (target / "stages" / f"{stage}.json").write_text(record)
    taken = []
    for number in range(5):
        run = look_at(f"{PIPELINE}/taken-{n_runs}-{number}")
        choice.obtain(run, "01_load", values, {})
        start = time.perf_counter()
        found = choice.obtain(run, STAGE, values, {})
        taken.append(time.perf_counter() - start)
        assert found.record["from"] == f"{PIPELINE}/{origin.name}", found.why
        shutil.rmtree(run.path.path)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OUTPUTS_DIR"] = folder
        env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        command = ["-m", "lib.commands.cli", "run", PIPELINE]
        first, *_ = run(command, env)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        print(f"{PIPELINE} on sample data, executed      {first:6.1f}")
        totals, busy, stages = [], [], []
        for _ in range(repeats):
            total, used, said = run(command, env)
            times = re.findall(r"^  \d\d_\w+ +taken +([\d.]+) s", said, re.MULTILINE)
            assert len(times) == 6, said
            totals.append(total)
            busy.append(used)
            stages.append(sum(map(float, times)))
        print(f"the same again, six stages taken  {statistics.median(totals):6.1f}")
        print(f"  stages                          {statistics.median(stages):6.1f}")
        print(f"  processor                       {statistics.median(busy):6.1f}")
        keys = []
        for _ in range(repeats):
            keys.append(statistics.median(map(float, run(["-c", KEYS], env)[2].split())))
        print(f"key of a stage, as kept           {statistics.median(keys):8.3f}")
        fresh = []
        for _ in range(repeats):
            for path in Path(folder, ".once").glob(f"{PIPELINE}--*"):
                path.unlink()
            fresh.append(statistics.median(map(float, run(["-c", KEYS], env)[2].split())))
        print(f"key of a stage, found out anew    {statistics.median(fresh):8.3f}")
        for path in Path(folder, PIPELINE).iterdir():  # the first alone stays
            if path.is_dir() and path != min(Path(folder, PIPELINE).glob("manual*")):
                shutil.rmtree(path)
        for n_runs in GROWTH:
            print(f"one stage taken, {n_runs:>5} runs before {growth(Path(folder), n_runs):8.3f}")


if __name__ == "__main__":
    main()
