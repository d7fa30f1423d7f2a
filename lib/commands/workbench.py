"""A stage of a run, opened to work on: its own notebook, on a copy of what it was given.

`open_stage` makes a new run folder that holds what the stages before have left in the run, and
below `workbench/` a notebook with the cells and the parameters of the run, to be run cell by cell.
The run is only read: nothing done in the copy reaches it, and each call makes another copy. A
model made in a copy is registered only where the call says so (`lib.registry.lifecycle.register`).
"""

import itertools
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lib.commands import which
from lib.commands.templates import fill
from lib.ground import layout, outcome
from lib.ground.console import say
from lib.ground.files import ROOT, outputs_dir
from lib.ground.folder import Run
from lib.ground.handover import take
from lib.ground.parameters import PASSWORD, Parameter, Value, read_parameters
from lib.ground.runs import code_changed, note_start, start_of
from lib.pages.summary import summarise
from lib.run import OPENED, open_run

from nbformat.v4 import new_code_cell
from upath import UPath

WORKBENCH = "workbench"
NEIGHBOUR = re.compile(r"\]\((?=\d+_\w+\.ipynb)")  # a card's link to another stage


def main(run: str = "", stage: str = "") -> None:
    """Open a stage, and say where the notebook is and how to get there; as `open_stage`."""
    path = open_stage(run, stage)
    note = outcome.source_text(outcome.read_notebook(UPath(path))["cells"][0])
    place = lab_url(path) or f"make lab, then {path.relative_to(ROOT)}"
    say(f"{note}\n\nnotebook  {path}\nopen      {place}")


def lab_url(notebook: Path) -> str:
    """Return the address of `notebook` in a running JupyterLab; "" if none can show it."""
    from jupyter_server.serverapp import list_running_servers

    for server in list_running_servers():
        root = Path(server["root_dir"])
        if notebook.is_relative_to(root):
            below = urllib.parse.quote(notebook.relative_to(root).as_posix())
            token = f"?token={server['token']}" if server.get("token") else ""
            return f"{server['url']}lab/tree/{below}{token}"
    return ""


def open_stage(run: str, stage: str = "", root: Path = ROOT) -> Path:
    """Make a copy of what a stage of a run was given, and a notebook to run the stage on it.

    Parameters
    ----------
    run : str
        As for `lib.commands.which.find_run`: any run, finished, failed or by hand.
    stage : str, default ""
        As for `lib.commands.which.find_stage`. The cells are those that the run has executed, or
        those of `notebooks/` where it holds no executed notebook of the stage.
    root : Path, default the repository
        The folder that JupyterLab shows; the notebook goes to `workbench/` below it.

    Returns
    -------
    Path
        The notebook. Its first cell says what was opened and what has changed since.

    Raises
    ------
    ValueError
        If there is no such run or stage, or the run's notebook cannot be read.
    """
    origin = which.find_run(run)
    found = which.find_stage(summarise(origin), stage)
    name = found["name"]
    executed = origin.path / f"{name}.ipynb"
    place = executed if executed.exists() else UPath(layout.notebook(origin.pipeline, name))
    source, declared = outcome.read_notebook(place), read_parameters(place)
    values = _values(origin, name, source, declared)
    copy, path = _claim(origin, name, root)
    note_start(copy, run_type="opened", opened=origin.run_dir)
    take(origin, copy, {s: record for s, record in origin.records().items() if s < name})
    unknown = sorted(set(declared) - {"run_dir", *values})
    words = {"unknown": unknown, "notebook": path.relative_to(root)}
    note = _note(origin, copy, found, source, declared, **words)
    values["run_dir"] = copy.run_dir
    notebook = _opened(source, values, note, origin.pipeline)
    notebook["metadata"][OPENED] = {"run_dir": copy.run_dir, "stage": name}  # for `make keep`
    outcome.write_notebook(copy.path / OPENED / f"{name}.ipynb", notebook)
    outcome.write_notebook(UPath(path), notebook)
    return path


def _values(
    run: Run, stage: str, source: Mapping, declared: Mapping[str, Parameter]
) -> dict[str, Value]:
    """Return the parameters of a stage, as far as the run tells them."""
    passed = source["metadata"].get("papermill", {}).get("parameters")
    if passed is not None:
        return {name: parameter.default for name, parameter in declared.items()} | passed
    values: dict[str, Value] = {}
    records = run.records()
    for record in [*records.values(), records.get(stage, {})]:
        used = record.get("parameters", {})
        values |= {name: value for name, value in used.items() if name in declared}
    return values


def _claim(run: Run, stage: str, root: Path) -> tuple[Run, Path]:
    """Return a new run folder, and the place of a notebook that does not exist yet."""
    name = run.name.replace("/", "-")  # of a child run
    for number in itertools.count(1):
        ending = f"-{number}" if number > 1 else ""
        copy = open_run(f"{run.pipeline}/open-{stage}-of-{name}{ending}")
        path = root / WORKBENCH / f"{run.pipeline}-{name}" / f"{stage}{ending}.ipynb"
        if not path.exists():
            with suppress(FileExistsError):
                copy.path.mkdir(parents=True)
                break
    return copy, path


def _opened(source: Mapping, values: Mapping[str, Value], note: str, pipeline: str) -> dict:
    """Return a notebook that is yet to run, with `values` after its parameters and `note` first."""
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    place = os.environ.get("OUTPUTS_DIR", "")
    if place and not PASSWORD.search(place):
        there = json.dumps(str(outputs_dir()))
        place = f'os.environ["OUTPUTS_DIR"] = {there}  # where run_dir lies'
        lines = ["import os", "", place, *lines]
    tag = "injected-parameters"
    injected = new_code_cell("\n".join(lines), id=tag, metadata={"tags": [tag]})
    failed = [
        cell.get("id")
        for cell in source["cells"]
        if cell["metadata"].get("papermill", {}).get("status") == "failed"
    ]
    cells = [outcome.marker("opened-stage", note)]
    for cell in bare(source, pipeline)["cells"]:
        if cell.get("id") in failed:
            cells.append(outcome.marker("failed-cell", "**In the run, the next cell failed.**"))
        if cell["cell_type"] != "code":
            cell["source"] = NEIGHBOUR.sub(f"](../../notebooks/{pipeline}/", cell["source"])
        cells.append(cell)
        if "parameters" in cell["metadata"]["tags"]:
            cells.append(injected)
    kernel = {key: source["metadata"][key] for key in ("kernelspec",) if key in source["metadata"]}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def bare(notebook: Mapping, pipeline: str) -> dict:
    """Return a notebook's own cells: no outputs, nothing that a run or opening has put in.

    Parameters
    ----------
    notebook : mapping
        Committed, executed or opened; of nbformat 4, as JSON.
    pipeline : str
        Links that opening has turned to this folder of `notebooks/` are turned back.
    """
    cells = []
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if outcome.is_marker(cell) or "injected-parameters" in tags:
            continue
        kept = {key: cell[key] for key in ("cell_type", "id", "attachments") if key in cell}
        kept |= {"metadata": {"tags": tags}, "source": outcome.source_text(cell)}
        if cell["cell_type"] == "code":
            kept |= {"outputs": [], "execution_count": None}
        else:
            kept["source"] = kept["source"].replace(f"](../../notebooks/{pipeline}/", "](")
        cells.append(kept)
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def _note(
    run: Run,
    copy: Run,
    stage: Mapping,
    source: Mapping,
    declared: Mapping[str, Parameter],
    **words: object,
) -> str:
    """Return what was opened, what has changed since, and what to see to before the cells run."""
    name, committed = stage["name"], layout.notebook(run.pipeline, stage["name"])
    now = read_parameters(committed) if committed.exists() else declared
    states = {stage: record["state"] for stage, record in copy.records().items()}
    earlier = sorted({*states, *(s for s in layout.planned(run.pipeline) if s < name)})
    error = stage["error"] and outcome.clip(f"{stage['error']['ename']}: {stage['error']['text']}")
    return fill(
        "opened.md",
        stage=name,
        run=run.run_dir,
        copy=copy.run_dir,
        error=error,
        committed=f"notebooks/{run.pipeline}/{name}.ipynb",
        is_committed=committed.exists(),
        is_executed=stage["notebook"],
        redeclared=[p for p in declared | now if declared.get(p) != now.get(p)],
        code_changed=code_changed(run, name),
        then=start_of(run).get("commit", ""),
        here=start_of(copy)["commit"],
        unfinished=[name for name in earlier if states.get(name) != "finished"],
        registers=any("lifecycle.register(" in cell for cell in outcome.code(source)),
        **words,
    ).rstrip()
