"""The committed notebooks: executed on their defaults, cleaned, written back whole."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from lib.ground import layout
from lib.ground.console import say
from lib.ground.files import write_bytes

import nbformat
from nbformat import NotebookNode
from upath import UPath

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return `notebook` as it is committed: kernel, tags, ids, counts and outputs, nothing else."""
    from nbstripout import strip_output

    keys = ["metadata.language_info", "metadata.papermill", "cell.metadata.execution"]
    keys += ["cell.metadata.papermill", "cell.metadata.jupyter"]
    stripped = strip_output(
        notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=keys
    )
    stripped.metadata["kernelspec"] = dict(KERNEL)
    return stripped


@contextmanager
def apart() -> Iterator[None]:
    """Let notebooks run in an empty folder, with a registry of its own, that goes afterwards.

    What they write and register touches neither the runs nor the models of whoever calls.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="notebooks-") as folder:
        os.environ["OUTPUTS_DIR"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(path: Path, **parameters: str) -> NotebookNode:
    """Return the notebook `path`, executed from top to bottom on its own defaults, or `parameters`.

    Raises
    ------
    ValueError
        If a cell fails, or writes to stderr: warnings do not belong into a committed notebook.
    """
    from lib.machine.executor import execute_notebook
    from lib.machine.session import import_papermill

    import_papermill()
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / path.name
        try:
            execute_notebook(path, output, parameters, cwd=path.parent)
        except PapermillExecutionError as error:
            raise ValueError(f"{path.name} failed and was left as it was: {error}") from error
        notebook = nbformat.read(output, as_version=4)
    for number, cell in enumerate(notebook.cells, start=1):
        noise = [o.text for o in cell.get("outputs", ()) if o.get("name") == "stderr"]
        if noise:
            raise ValueError(f"{path.name}, cell {number} wrote to stderr: {noise[0].strip()}")
    return notebook


def begin(pipeline: str) -> None:
    """Execute the links that a pipeline begins with, in its folder: the notebooks after read it."""
    own = layout.own_stages(pipeline)
    for stage in takewhile(lambda stage: stage not in own, layout.planned(pipeline)):
        execute(layout.notebook(pipeline, stage), run_dir=f"{pipeline}/dev")


def refresh_all(pipelines: list[str]) -> None:
    """Execute and clean the notebooks of pipelines, all by default; say of each if it changed.

    A pipeline's stages share one folder, and its registry is empty at first: see `apart`. A
    notebook that fails, or that writes to stderr, is left as it was.

    Raises
    ------
    ValueError
        If there is no such pipeline, or as `execute`.
    """
    known = layout.pipelines()
    for name in pipelines:
        if name not in known:
            raise ValueError(f"no notebooks of {name!r}; there are those of {', '.join(known)}")
    for pipeline in pipelines or known:
        with apart():
            begin(pipeline)
            for stage in layout.own_stages(pipeline):
                path = layout.notebook(pipeline, stage)
                started = time.monotonic()
                word = "changed" if refresh(path) else "unchanged"
                seconds = time.monotonic() - started
                say(f"{pipeline}/{stage:14} {word:9} {seconds:5.1f} s")


def refresh(path: Path) -> bool:
    """Execute and clean the notebook `path`, write it back, and say whether it changed."""
    text = nbformat.writes(clean(execute(path))) + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    write_bytes(UPath(path), text.encode())
    return True
