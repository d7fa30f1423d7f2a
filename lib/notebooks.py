"""The committed notebooks: executed on their defaults, cleaned, written back whole."""

import os
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

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


def execute(path: Path) -> NotebookNode:
    """Return the notebook `path`, executed from top to bottom on its own defaults.

    Raises
    ------
    ValueError
        If a cell fails, or writes to stderr: warnings do not belong into a committed notebook.
    """
    from lib.executor import execute_notebook, import_papermill

    import_papermill()
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / path.name
        try:
            execute_notebook(path, output, cwd=path.parent)
        except PapermillExecutionError as error:
            raise ValueError(f"{path.name} failed and was left as it was: {error}") from error
        notebook = nbformat.read(output, as_version=4)
    for number, cell in enumerate(notebook.cells, start=1):
        noise = [o.text for o in cell.get("outputs", ()) if o.get("name") == "stderr"]
        if noise:
            raise ValueError(f"{path.name}, cell {number} wrote to stderr: {noise[0].strip()}")
    return notebook


def refresh(path: Path) -> bool:
    """Execute and clean the notebook `path`, write it back, and say whether it changed."""
    text = nbformat.writes(clean(execute(path))) + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return True
