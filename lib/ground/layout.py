"""Where the pipelines are, and what their notebooks say before they run.

A pipeline is a folder of numbered notebooks below `notebooks/`, its stages, and a DAG file of the
same name in `dags/`. Both lie in the repository, or in `PIPELINES_DIR`. A stage may be a symbolic
link to one of another pipeline, which then runs in the folders of this one.
"""

import os
import re
from pathlib import Path

from lib.ground import outcome
from lib.ground.files import ROOT
from lib.ground.parameters import Parameter, read_parameters

from upath import UPath

WRITES = re.compile(r"\*\*Writes\*\*(.*?)(?:\*\*Reads\*\*|\Z)", re.DOTALL)


def pipelines_dir() -> Path:
    """Return the folder that holds `notebooks/` and `dags/`."""
    return ROOT / os.environ.get("PIPELINES_DIR", "")


def folder(pipeline: str) -> Path:
    """Return the folder of a pipeline's notebooks."""
    return pipelines_dir() / "notebooks" / pipeline


def notebook(pipeline: str, stage: str) -> Path:
    """Return the notebook of a stage, ``power`` and ``01_load`` for example; of a link, its end."""
    path = folder(pipeline) / f"{stage}.ipynb"
    return path.resolve() if path.is_symlink() else path


def dag_file(pipeline: str) -> Path:
    """Return the file that defines the DAG of a pipeline."""
    return pipelines_dir() / "dags" / f"{pipeline}.py"


def pipelines(*, ending: str = "") -> list[str]:
    """Return the pipelines with a stage of their own whose name ends in `ending`, in order."""
    names = sorted(path.name for path in folder("").iterdir() if path.is_dir())
    return [name for name in names if any(stage.endswith(ending) for stage in own_stages(name))]


def planned(pipeline: str) -> list[str]:
    """Return the names of a pipeline's stages in order; [] where it has no notebooks."""
    return sorted(path.stem for path in folder(pipeline).glob("[0-9]*.ipynb"))


def own_stages(pipeline: str) -> list[str]:
    """Return those of a pipeline's stages, in order, that are no links to another's."""
    stages = planned(pipeline)
    return [stage for stage in stages if not (folder(pipeline) / f"{stage}.ipynb").is_symlink()]


def owner(pipeline: str) -> str:
    """Return whose models a pipeline makes: another's, where its register stage is a link there."""
    made = (notebook(pipeline, one) for one in planned(pipeline) if one.endswith("_register"))
    return next((path.parent.name for path in made), pipeline)


def declared(pipeline: str) -> dict[str, dict[str, Parameter]]:
    """Return the declared parameters of every notebook of a pipeline, by stage, in order.

    Raises
    ------
    ValueError
        If there is no such notebook, or a parameters cell is malformed.
    """
    found = {stage: read_parameters(notebook(pipeline, stage)) for stage in planned(pipeline)}
    if not found:
        known = sorted(path.name for path in folder("").glob("*") if path.is_dir())
        raise ValueError(f"no notebooks for pipeline {pipeline!r}; there are {', '.join(known)}")
    return found


def stage_title(stage: str) -> str:
    """Return a stage as pages and forms call it.

    Examples
    --------
    >>> stage_title("05_evaluate")
    '5 \N{MIDDLE DOT} Evaluate'
    """
    number, _, verb = stage.partition("_")
    return f"{int(number)} \N{MIDDLE DOT} {verb.replace('_', ' ').capitalize()}"


def stage_that_writes(pipeline: str, name: str) -> str:
    """Return the stage whose card says that it writes `name`, or a hint where none does."""
    for stage in planned(pipeline):
        content = outcome.read_notebook(UPath(notebook(pipeline, stage)))
        written = WRITES.search(outcome.source_text(content["cells"][0]))
        if written and f"`{name}`" in written[1]:
            return stage
    return f"the stage of {pipeline} that writes {name}"
