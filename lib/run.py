"""What a notebook begins with: `open_run` gives it its run folder.

It is the same folder under JupyterLab, papermill, nbval and Airflow. Who works by hand is told at
once what to do, and may begin from a run that is there (`lib.ground.handover`).
"""

import importlib
from dataclasses import replace

from lib.ground import handover, layout
from lib.ground.console import is_interactive, say, shell, told_briefly
from lib.ground.folder import Run, UnfinishedStage, look_at
from lib.ground.parameters import Value, check_values, read_parameters
from lib.ground.runs import COPY

__all__ = ["Run", "UnfinishedStage", "open_run"]

OPENED = "opened"  # in a copy made to work on a stage: its notebook as it was in the run, or kept


def open_run(run_dir: str, stage: str = "") -> Run:
    """Open the run folder `run_dir` for `stage`, creating it if needed.

    Under IPython the values of the notebook's parameters cell are checked against their declared
    types and domains, and kept in the stage's record. Where a person runs the notebook and the
    folder has nothing of the earlier stages, it begins from the newest run that fits, and says so:
    see `lib.ground.handover`. It also says which inputs are older than the code that makes them:
    see `lib.once.inputs`.

    Parameters
    ----------
    run_dir : str
        ``<pipeline>/<run>``, below `OUTPUTS_DIR`.
    stage : str, default ""
        Name of the notebook that is running, ``02_features`` for example. Empty to look at a run
        without writing to it.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If `run_dir` is not of that form (it may not leave `OUTPUTS_DIR`), or a parameter lies
        outside of its domain.
    UnfinishedStage
        If the folder has begun from a run whose parameters are no longer those of this notebook.
    OSError
        If the folder cannot be created or written; names the folder.
    """
    with told_briefly():
        run = look_at(run_dir)
        if stage:
            values = _notebook_parameters(run, stage)
            run = replace(run, stage=stage, parameters=values, way_on=handover.way_on)
            run.prepare()
            if is_interactive():
                older = importlib.import_module("lib.once.inputs").begin
                for line in filter(None, (handover.begin(run), older(run))):
                    say(line)
            run.start()
    return run


def _notebook_parameters(run: Run, stage: str) -> dict[str, Value]:
    """Return the checked values of the parameters cell of the notebook that runs here."""
    running = shell()
    if running is None:
        return {}
    own = run.path / OPENED / f"{stage}.ipynb"
    is_own = run.name.startswith(COPY) and own.exists()
    notebook = own if is_own else layout.notebook(run.pipeline, stage)
    if not notebook.exists():
        return {}
    declared = read_parameters(notebook)
    values = {name: running.user_ns[name] for name in declared if name in running.user_ns}
    return check_values(declared, values, owner=f"{run.pipeline}/{stage}")
