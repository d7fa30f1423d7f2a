"""Notebooks to execute, and what tests ask of those that were executed."""

import contextlib
import random
import time
from datetime import UTC, datetime
from pathlib import Path

from lib.commands import services
from lib.ground import outcome
from lib.machine import executor

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from upath import UPath

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3 (ipykernel)"}


def free_ports(n):
    """Ports on which nothing listens, none of those that the system gives out by itself."""
    ports = []
    for _ in range(n):
        ports.append(services.free_port(random.SystemRandom().randrange(12_000, 32_000), ports))
    return ports


def save_notebook(path, *sources, tags=()):
    """A notebook: title, parameters cell, `sources`, a closing text and a last cell."""
    cells = [new_markdown_cell("# Title"), new_code_cell("n: int = 1  # a number")]
    cells[1].metadata.tags = ["parameters"]
    for source in sources:
        cell = new_code_cell(source)
        cell.metadata.tags = list(tags)
        cells.append(cell)
    cells += [new_markdown_cell("The end."), new_code_cell("'last'")]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def read(path):
    """The executed notebook, checked against nbformat's schema."""
    notebook = nbformat.reads(UPath(path).read_text(), as_version=4)
    nbformat.validate(notebook)
    return notebook


def statuses(notebook):
    return [
        cell.metadata.papermill.status for cell in notebook.cells if not outcome.is_marker(cell)
    ]


def own_cells(notebook):
    return [cell for cell in notebook.cells if not outcome.is_marker(cell)]


def assert_truth(output, failed, *words):
    """The report in `output` says that cell `failed` failed, for a reason with these `words`."""
    notebook = read(output)
    cells = own_cells(notebook)
    n_after = len(cells) - failed - 1
    assert statuses(notebook) == ["completed"] * failed + ["failed"] + ["pending"] * n_after
    last = cells[failed].outputs[-1]
    assert last.output_type == "error"
    page = UPath(output).with_suffix(".html").read_text()
    top = notebook.cells[0]
    assert top.metadata.tags == ["papermill-error-cell-tag"]
    assert f"[cell {failed + 1} of {len(cells)}](#papermill-error-cell)" in top.source
    assert page.index('class="report"') < page.index("Title</h1>")
    for word in words:
        assert word in f"{last.ename}: {last.evalue}"
        assert word in top.source
        assert word in page
    assert all(not cell.outputs for cell in cells[failed + 1 :] if cell.cell_type == "code")
    assert all(cell.get("execution_count") is None for cell in cells[failed + 1 :])
    record = notebook.metadata.papermill
    assert record.exception is True
    assert datetime.fromisoformat(record.end_time) <= datetime.now(UTC)
    assert sum(outcome.is_marker(cell) for cell in notebook.cells) == 2
    anchor = next(i for i, cell in enumerate(notebook.cells) if 'id="papermill-' in cell.source)
    assert notebook.cells[anchor + 1] is cells[failed]
    return cells


def stuck_notebook(n_cells=4, running=2):
    """What an executor leaves behind that dies while cell `running` runs."""
    cells = []
    for index in range(n_cells):
        status = "completed" if index < running else "pending"
        status = "running" if index == running else status
        cell = new_code_cell(f"step({index})", metadata={"papermill": {"status": status}})
        cell.metadata.papermill["start_time"] = "2026-01-02T03:04:05+00:00"
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {index}\n")]
        cells.append(cell)
    metadata = {"papermill": {"start_time": BEGUN, "end_time": None}}
    return new_notebook(cells=cells, metadata=metadata)


BEGUN = "2026-01-02T03:04:00+00:00"
AT = datetime(2026, 1, 2, 3, 4, 15, 500_000, tzinfo=UTC)


def is_running(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def run(folder, *sources, tags=(), output=None, **options):
    source = save_notebook(folder / "in.ipynb", *sources, tags=tags)
    output = output or folder / "out.ipynb"
    return executor.execute_notebook(source, output, {"n": 5}, cwd=folder, **options)
