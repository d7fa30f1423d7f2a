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
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from lib import layout, outcome
from lib.commands import which
from lib.files import ROOT, outputs_dir, read_object
from lib.folder import RECORDS, Run
from lib.handover import take
from lib.pages.summary import summarise
from lib.parameters import PASSWORD, Parameter, Value, read_parameters
from lib.run import OPENED, open_run
from lib.runs import STARTED, code_changed, list_runs, note_start, start_of

from upath import UPath

WORKBENCH = "workbench"
NEIGHBOUR = re.compile(r"\]\((?=\d+_\w+\.ipynb)")  # a card's link to another stage


def main(run: str = "", stage: str = "") -> int:
    """Open a stage, say where the notebook is and how to get there; return the exit status.

    Parameters
    ----------
    run : str, default ""
        As for `lib.commands.which.find_run`; by default the latest run.
    stage : str, default ""
        As for `lib.commands.which.find_stage`; by default the one that failed, else the evaluation.

    Raises
    ------
    ValueError
        As `open_stage`.
    """
    known = which.find_run(run)
    path = open_stage(known.run_dir, which.find_stage(summarise(known), stage))
    note = outcome.source_text(outcome.read_notebook(UPath(path))["cells"][0])
    place = lab_url(path) or f"make lab, then {path.relative_to(ROOT)}"
    sys.stdout.write(f"{note}\n\nnotebook  {path}\nopen      {place}\n")
    return 0


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


def find_stage(run_dir: str, stage: str) -> tuple[Run, dict]:
    """Return a run, opened to be read, and what is known of one of its stages.

    Parameters
    ----------
    run_dir : str
        ``<pipeline>/<run>``, below `OUTPUTS_DIR`.
    stage : str
        ``05_evaluate`` for example.

    Returns
    -------
    Run, dict
        The stage as in the ``stages`` of `lib.pages.summary.summarise`.

    Raises
    ------
    ValueError
        If there is no such run, or it has no such stage; names those that there are.
    """
    run = open_run(run_dir)
    if not (run.path / RECORDS).exists() and not (run.path / STARTED).exists():
        known = sorted(other.name for other in list_runs(run.pipeline))
        last = f"the last of {run.pipeline} are {', '.join(known[-5:])}"
        reason = last if known else f"it has none of {run.pipeline}"
        raise ValueError(f"{outputs_dir()} has no run {run_dir}; {reason}")
    stages = {found["name"]: found for found in summarise(run)["stages"]}
    if stage not in stages:
        raise ValueError(f"{run_dir} has no stage {stage!r}; it has {', '.join(stages)}")
    return run, stages[stage]


def open_stage(run_dir: str, stage: str, root: Path = ROOT) -> Path:
    """Make a copy of what a stage of a run was given, and a notebook to run the stage on it.

    Parameters
    ----------
    run_dir : str
        ``<pipeline>/<run>``, below `OUTPUTS_DIR`: any run, finished, failed or by hand.
    stage : str
        ``05_evaluate`` for example. The cells are those that the run has executed, or those of
        `notebooks/` where it holds no executed notebook of the stage.
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
    run, found = find_stage(run_dir, stage)
    place = _source(run, stage)
    source, declared = outcome.read_notebook(place), read_parameters(place)
    values = _values(run, stage, source, declared)
    earlier = {name: record for name, record in run.records().items() if name < stage}
    copy, path = _claim(run, stage, root)
    note_start(copy, run_type="opened", opened=run.run_dir)
    take(run, copy, earlier)
    note = _note(run, copy, found, source, declared, values)
    note += (
        f"\n- To keep a change, save it and `make keep NOTEBOOK={path.relative_to(root)}`: that "
        f"shows the difference, asks, and brings it into `notebooks/{run.pipeline}/{stage}.ipynb`."
    )
    notebook = _opened(source, values | {"run_dir": copy.run_dir}, note, run.pipeline)
    notebook["metadata"][OPENED] = {
        "run_dir": copy.run_dir,
        "stage": stage,
    }  # for `lib.commands.keep`
    outcome.write_notebook(copy.path / OPENED / f"{stage}.ipynb", notebook)
    outcome.write_notebook(UPath(path), notebook)
    return path


def _source(run: Run, stage: str) -> UPath:
    """Return the notebook to take the cells from: the run's own, or the one of `notebooks/`."""
    executed = run.path / f"{stage}.ipynb"
    return executed if executed.exists() else UPath(_committed(run, stage))


def _committed(run: Run, stage: str) -> Path:
    return layout.notebook(run.pipeline, stage)


def _values(
    run: Run, stage: str, source: Mapping, declared: Mapping[str, Parameter]
) -> dict[str, Value]:
    """Return the parameters of a stage, as far as the run tells them."""
    passed = source["metadata"].get("papermill", {}).get("parameters")
    if passed is not None:
        return {name: parameter.default for name, parameter in declared.items()} | passed
    known = read_object(run.path / "mlflow.json")
    values = {
        name: text if declared[name].type_name == "str" else json.loads(text)
        for name, text in known.get("values", {}).items()
        if name in declared
    }
    records = run.records()
    for record in [*records.values(), records.get(stage, {})]:
        used = record.get("parameters", {})
        values |= {name: value for name, value in used.items() if name in declared}
    return values


def _claim(run: Run, stage: str, root: Path) -> tuple[Run, Path]:
    """Return a new run folder, and the place of a notebook that does not exist yet."""
    for number in itertools.count(1):
        ending = f"-{number}" if number > 1 else ""
        copy = open_run(f"{run.pipeline}/open-{stage}-of-{run.name}{ending}")
        path = root / WORKBENCH / f"{run.pipeline}-{run.name}" / f"{stage}{ending}.ipynb"
        if path.exists():
            continue
        try:
            copy.path.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    return copy, path


def _opened(source: Mapping, values: Mapping[str, Value], note: str, pipeline: str) -> dict:
    """Return a notebook that is yet to run, with `values` after its parameters and `note` first."""
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    place = os.environ.get("OUTPUTS_DIR", "")
    if place and not PASSWORD.search(place):
        there = json.dumps(str(outputs_dir()))
        lines = [
            "import os",
            "",
            f'os.environ["OUTPUTS_DIR"] = {there}  # where run_dir lies',
            *lines,
        ]
    injected = _code_cell({"id": "injected-parameters"}, "\n".join(lines), "injected-parameters")
    cells = [_marker("opened-stage", note)]
    for cell in source["cells"]:
        tags = cell["metadata"].get("tags", [])
        if outcome.is_marker(cell) or "injected-parameters" in tags:
            continue
        if cell["metadata"].get("papermill", {}).get("status") == "failed":
            cells.append(_marker("failed-cell", "**In the run, the next cell failed.**"))
        kept = {key: cell[key] for key in ("id", "attachments") if key in cell}
        text = outcome.source_text(cell)
        if cell["cell_type"] == "code":
            cells.append(_code_cell(kept, text, *tags))
        else:
            kind = {"cell_type": cell["cell_type"], "metadata": {"tags": tags}}
            text = NEIGHBOUR.sub(f"](../../notebooks/{pipeline}/", text)
            cells.append(kept | kind | {"source": text})
        if "parameters" in tags:
            cells.append(injected)
    kernel = {key: source["metadata"][key] for key in ("kernelspec",) if key in source["metadata"]}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def _code_cell(kept: Mapping, source: str, *tags: str) -> dict:
    head = {"cell_type": "code", "metadata": {"tags": list(tags)}}
    return dict(kept) | head | {"source": source, "outputs": [], "execution_count": None}


def _marker(identity: str, text: str) -> dict:
    head = {"cell_type": "markdown", "id": identity, "metadata": {"tags": [outcome.MARKER_TAG]}}
    return head | {"source": text}


def _note(
    run: Run,
    copy: Run,
    stage: dict,
    source: Mapping,
    declared: Mapping[str, Parameter],
    values: Mapping[str, Value],
) -> str:
    """Return what a reader of the opened notebook has to know, in Markdown."""
    name, error = stage["name"], stage["error"]
    committed = f"`notebooks/{run.pipeline}/{name}.ipynb`"
    lines = [
        f"**Opened from a run.** Stage `{name}` of `{run.run_dir}`, with its parameters and a copy "
        f"of its inputs in `{copy.run_dir}`. Nothing that is done here touches the run.",
        "",
    ]
    if error:
        text = outcome.clip(f"{error['ename']}: {error['text']}").replace("\n", "\n      ")
        lines += ["- In the run this stage failed:", "", f"      {text}", ""]
    if not stage["notebook"]:
        lines.append(f"- The run holds no executed notebook of it: the cells are of {committed}.")
    unknown = [p for p in declared if p != "run_dir" and p not in values]
    if unknown:
        lines.append(f"- The run does not say, so the defaults are taken: {', '.join(unknown)}.")
    lines += _changes(run, copy, name, source, declared)
    open_ends = [s for s, record in copy.records().items() if record["state"] != "finished"]
    open_ends += [s for s in layout.planned(run.pipeline) if s < name and s not in copy.records()]
    if open_ends:
        lines.append(f"- Not finished in the run: {', '.join(open_ends)}; open the first instead.")
    if any("lifecycle.register(" in outcome.source_text(c) for c in source["cells"]):
        lines.append(
            "- `lifecycle.register` refuses a copy, unless you add `from_copy=True`: that makes a "
            "new version of the registered model and moves `@staging` to it."
        )
    return "\n".join(lines)


def _changes(
    run: Run, copy: Run, stage: str, source: Mapping, declared: Mapping[str, Parameter]
) -> list[str]:
    """Return what differs between the run's time and now, as lines of Markdown."""
    path, lines = _committed(run, stage), []
    name = f"`notebooks/{run.pipeline}/{stage}.ipynb`"
    if not path.exists():
        lines.append(f"- {name} does not exist any more.")
    else:
        now = read_parameters(path)
        changed = [p for p in declared | now if declared.get(p) != now.get(p)]
        if changed:
            lines.append(f"- {name} now declares otherwise: {', '.join(changed)}.")
        if code_changed(run, stage):
            lines.append(f"- The code of {name} has changed since the run.")
    then, here = start_of(run).get("commit", ""), start_of(copy)["commit"]
    if then != here and then:
        lines.append(f"- `lib` is that of commit {here or 'unknown'}; the run began with {then}.")
    return lines
