"""A run with stages to open, and what an opened notebook holds."""

from lib.ground import outcome
from lib.ground.files import write_bytes
from lib.run import open_run

import pandas as pd
from upath import UPath

FRAME = pd.DataFrame({"power_kw": [1.5, 2.5]}, index=pd.Index([3, 4], name="ts"))
ODD = "power/run-a.b=c+d-0f"
PARAMETERS = 'run_dir: str = "power/dev"  # run folder\nblock_days: int = 7  # length, days [1..60]'


def cell(text, status="completed", kind="code", **more):
    """A cell of an executed notebook, as papermill leaves it."""
    made = {"cell_type": kind, "id": f"c{abs(hash(text))}", "source": text, "metadata": {}}
    made["metadata"] = {"tags": more.pop("tags", []), "papermill": {"status": status}}
    if kind == "code":
        made |= {"outputs": more.pop("outputs", []), "execution_count": 3}
    return made


def executed(*cells, **parameters):
    record = {"parameters": parameters, "start_time": "2026-01-02T03:04:05+00:00"}
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}}
    metadata |= {"papermill": record | {"end_time": "2026-01-02T03:05:05+00:00"}}
    whole = [
        cell("# Card\n[1 · Load](01_load.ipynb)", kind="markdown"),
        cell(PARAMETERS, tags=["parameters"]),
        cell("# Parameters\nblock_days = 9", tags=["injected-parameters"]),
        *cells,
    ]
    return {"cells": whole, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def make_run(run_dir="power/r1"):
    """A run with two stages finished, a third begun, and the executed notebook of the second."""
    run = open_run(run_dir, stage="01_load")
    run.write("raw.parquet", FRAME)
    run.finish()
    run = open_run(run_dir, stage="02_features")
    run.write("features.parquet", run.read("raw.parquet"))
    with run.writing("tables") as path:
        path.mkdir()
        (path / "one.txt").write_text("1")
    run.finish()
    text = [{"output_type": "stream", "name": "stdout", "text": "seen"}]
    ran = executed(cell("print('seen')", outputs=text), block_days=9, run_dir=run_dir)
    outcome.write_notebook(run.path / "02_features.ipynb", ran)
    open_run(run_dir, stage="03_tune").write("trials.csv", FRAME)
    write_bytes(run.path / "mlflow.json", b'{"run_id": "x", "values": {}}')
    return run


def sources(path):
    return [outcome.source_text(found) for found in outcome.read_notebook(UPath(path))["cells"]]


def assigned(path):
    """Return what the cell of injected parameters sets."""
    cells = outcome.read_notebook(UPath(path))["cells"]
    (text,) = [c["source"] for c in cells if "injected-parameters" in c["metadata"]["tags"]]
    values = {}
    exec(text, values)
    return values


def copies(outputs):
    return sorted(p.name for p in (outputs / "power").iterdir() if p.name.startswith("open-"))


def fingerprint(folder):
    """Name, content and time of change of everything in a folder."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes())
        for p in sorted(folder.rglob("*"))
    }
