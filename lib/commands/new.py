"""A new pipeline for tabular data, made from the templates beside this file.

What is made works at once and is the project's own from then on: nothing refers back to the
templates. Either all of it is there afterwards or nothing of it.
"""

import importlib.util
import keyword
import re
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.commands.notebooks import KERNEL, refresh_all
from lib.commands.templates import FOLDER, fill
from lib.ground import layout
from lib.ground.console import say
from lib.ground.files import ROOT, outputs_dir, write_bytes

import nbformat
from upath import UPath

STAGES = ("01_load", "02_features", "03_train", "04_evaluate", "05_register")
NAME = re.compile(r"(?=.{1,40}$)[a-z][a-z0-9]*(_[a-z0-9]+)*")
CELL = re.compile(r"^```python *([a-z-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TASKS = tomllib.loads((FOLDER / "tasks.toml").read_text(encoding="utf-8"))


def main(name: str, task: str) -> None:
    """Make the pipeline `name`, execute its notebooks and say what to do next.

    Raises
    ------
    ValueError
        As `check_name` and `render`.
    RuntimeError
        If a notebook fails; then nothing is left of the pipeline.
    """
    check_name(name)
    files = render(name, task or "classification")
    say(f"{name}: executing its notebooks, which takes a while")
    with placed(name, files):
        try:
            refresh_all([name])
        except ValueError as error:
            raise RuntimeError(f"nothing was made: {error}") from error
    for path in files:
        say(f"made {path}")
    say(f"Next: make run PIPELINE={name}, and for data of yours with")
    say("""  PARAMS='{"source": "rows.csv", "target": "<column to predict>"}'""")
    say(f"Change what you like in notebooks/{name}/, then make notebooks PIPELINE={name}.")
    say("Commit the new files: make reproduce makes a run again from its commit.")


def check_name(name: str) -> None:
    """Check that a pipeline may be called `name`.

    Raises
    ------
    ValueError
        If it is no name of a module, is taken, or means something else; says which.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"PIPELINE={name}: a pipeline's name is at most 40 lower-case letters, digits and "
            "single underscores, a letter first; 'red_wine' for example"
        )
    reasons = [f"{path} is there already" for path in places(name) if where(path).exists()]
    if keyword.iskeyword(name):
        reasons.append("a word of Python is no name of a module")
    if name in ("latest", "dev"):
        reasons.append("that is how a run is named")
    if importlib.util.find_spec(name):  # dags/ is on the path of Airflow's processes
        reasons.append(f"Python has a module of that name, which dags/{name}.py would hide")
    if (outputs_dir() / name).exists():
        reasons.append(f"{outputs_dir() / name} holds runs of an earlier pipeline")
    if reasons:
        raise ValueError(f"PIPELINE={name}: {reasons[0]}; choose another name")


def places(name: str) -> list[Path]:
    """Return the folder and the files that a pipeline consists of; see `where`."""
    return [Path("notebooks", name), Path("lib/pipelines", f"{name}.py"), Path(f"dags/{name}.py")]


def where(path: Path) -> Path:
    """Return where a file of a pipeline stands: its module here, the others by `PIPELINES_DIR`."""
    return (ROOT if path.parts[0] == "lib" else layout.pipelines_dir()) / path


def render(name: str, task: str) -> dict[Path, str]:
    """Return the content of every file of a pipeline, by its path; see `where`.

    Raises
    ------
    ValueError
        If the task is not known.
    """
    if task not in TASKS:
        raise ValueError(f"TASK={task}: choose {' or '.join(TASKS)}")
    words = {"name": name, "title": name.capitalize(), **TASKS[task]}
    folder, module, dag = places(name)
    found = {
        folder / f"{stage}.ipynb": notebook(stage, fill(f"{stage}.md", **words)) for stage in STAGES
    }
    found[folder / "README.md"] = fill("README.md", **words)
    return found | {module: fill("pipeline.py", **words), dag: fill("dag.py", **words)}


def notebook(stage: str, text: str) -> str:
    """Return a notebook without outputs: code in fences, with its tag, and prose around them."""
    cells = []
    parts = CELL.split(text)  # prose, then tag, code and prose in turns
    for k, part in enumerate(parts):
        if k % 3 == 0 and part.strip():
            cells.append(nbformat.v4.new_markdown_cell(part.strip(), metadata={"tags": []}))
        elif k % 3 == 2:
            tags = [parts[k - 1]] if parts[k - 1] else []
            cells.append(nbformat.v4.new_code_cell(part.strip(), metadata={"tags": tags}))
    for k, cell in enumerate(cells, start=1):
        cell["id"] = f"{stage[3:]}-{k:02d}"
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    return nbformat.writes(made) + "\n"


@contextmanager
def placed(name: str, files: dict[Path, str]) -> Iterator[None]:
    """Put the files of a pipeline where they belong for a block; if it fails, take them away.

    The folder of notebooks comes first, as it can be made only once, and the DAG file last, after
    the block: Airflow may be looking.
    """
    folder, module, dag = places(name)
    where(folder).mkdir()
    try:
        for path in files.keys() - {dag}:
            where(path).write_text(files[path], encoding="utf-8")
        yield
        write_bytes(UPath(where(dag)), files[dag].encode())
    except BaseException:  # Ctrl-C included
        shutil.rmtree(where(folder))
        where(module).unlink(missing_ok=True)
        raise
