"""The run folder: one directory that holds everything one pipeline run produced.

`open_run` gives a notebook its folder, the same one under JupyterLab, papermill, nbval and
Airflow. Files appear whole or not at all, and every stage keeps a record of what it read and
wrote, with digests. A file is handed to a later stage only if the stage that wrote it finished,
the file is still what was written, and it was not made from files that have changed since. Who
works by hand is told at once what to do, and may begin from a run that is there
(`lib.machine.handover`).
"""

import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lib.parameters import Value, check_values, read_parameters

from upath import UPath

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.figure import Figure

    Content = pd.DataFrame | dict[str, np.ndarray] | dict | list | Figure

ROOT = Path(__file__).resolve().parents[1]
RECORDS = "stages"
STARTED = "run.json"  # what only the starter of a run knows, see `lib.pages.summary.note_start`
OPENED = "opened"  # in a copy made to work on a stage: its notebook as it was in the run, or kept
BYTECODE = "__pycache__"  # Python adds it to a model's code when the model is loaded
DPI = 160  # of figures in the run folder, which pages enlarge; a notebook shows them at 80
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")
AIRFLOW_ID = re.compile(r"[a-z_]+__[0-9T:.+-]+(_\w+)?")
WRITES = re.compile(r"\*\*Writes\*\*(.*?)(?:\*\*Reads\*\*|\Z)", re.DOTALL)


class UnfinishedStage(ValueError):
    """A stage asked for a file that an earlier stage has not finished; says which to run."""


def data_dir() -> Path:
    """Return the folder of raw data: `DATA_DIR`, or `data/` in the repository."""
    return ROOT / os.environ.get("DATA_DIR", "data")


def outputs_dir() -> UPath:
    """Return the folder of all runs: `OUTPUTS_DIR` (a path or fsspec URL), or `outputs/`."""
    text = os.environ.get("OUTPUTS_DIR", "outputs")
    if "://" in text:
        return UPath(text, use_listings_cache=False)  # other processes write there too
    return UPath(ROOT / text)


def state_dir() -> Path:
    """Return the local folder for databases and scratch files.

    It is `OUTPUTS_DIR` where that is local, and `outputs/` in the repository where it is remote.
    """
    outputs = outputs_dir()
    return Path(outputs.path) if is_local(outputs) else ROOT / "outputs"


def run_folder_name(run_id: str) -> str:
    """Return a folder name for an Airflow `run_id`, which may hold colons, plus signs or worse.

    Examples
    --------
    >>> run_folder_name("manual__2026-01-02T03:04:05+00:00")
    'manual__2026-01-02T03-04-05+00-00'
    """
    name = re.sub(r"[^A-Za-z0-9._=+-]", "-", run_id)
    if (not AIRFLOW_ID.fullmatch(run_id) and name != run_id) or not NAME.fullmatch(name):
        name = f"run-{name.lstrip('._=+-')}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
    return name


def run_of_airflow(dag_id: str, run_id: str) -> "Run":
    """Return the run folder of a DAG run, opened to look at it."""
    return open_run(f"{dag_id}/{run_folder_name(run_id)}")


def stage_title(stage: str) -> str:
    """Return a stage as pages and forms call it.

    Examples
    --------
    >>> stage_title("05_evaluate")
    '5 \N{MIDDLE DOT} Evaluate'
    """
    number, _, verb = stage.partition("_")
    return f"{int(number)} \N{MIDDLE DOT} {verb.replace('_', ' ').capitalize()}"


def now() -> str:
    """Return the current time, UTC, as ISO 8601 text to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def is_interactive() -> bool:
    """Say whether a person runs the cells of this kernel, in JupyterLab for example.

    Papermill, nbval and whatever else only executes a notebook tells the kernel with each cell that
    nobody is there to answer a question.
    """
    kernel = getattr(_shell(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return bool(request.get("content", {}).get("allow_stdin"))


@contextmanager
def told_briefly() -> Iterator[None]:
    """Let a person's notebook show a refusal as its message, without the way through `lib`.

    The reports of executed notebooks keep the whole traceback, and so does what is no refusal: an
    error of a library.
    """
    try:
        yield
    except ValueError as error:
        is_refusal = type(error) is ValueError or type(error).__module__.startswith("lib.")
        if is_refusal and is_interactive():
            error._render_traceback_ = partial(_only_message, error)  # IPython asks for it
        raise


def open_run(run_dir: str, stage: str = "") -> "Run":
    """Open the run folder `run_dir` for `stage`, creating it if needed.

    Under IPython the values of the notebook's parameters cell are checked against their declared
    types and domains, and kept in the stage's record. Where a person runs the notebook and the
    folder has nothing of the earlier stages, it begins from the newest run that fits, and says so:
    see `lib.machine.handover`.

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
        parts = run_dir.split("/")
        if len(parts) != 2 or not all(NAME.fullmatch(part) for part in parts):
            raise ValueError(
                f"run_dir = {run_dir!r}: expected '<pipeline>/<run>', a folder below OUTPUTS_DIR, "
                "in letters, digits and . _ = + -"
            )
        run = Run(outputs_dir() / parts[0] / parts[1], parts[0], parts[1], stage)
        if stage:
            run._start()
    return run


@dataclass(frozen=True)
class Run:
    """An open run folder; made by `open_run`.

    Attributes
    ----------
    path : UPath
        The folder itself.
    pipeline, name : str
        The two parts of `run_dir`.
    stage : str
        The stage that writes; empty for a reader.
    """

    path: UPath
    pipeline: str
    name: str
    stage: str
    _started: str = field(default_factory=now, repr=False)
    _parameters: dict[str, Value] = field(default_factory=dict, repr=False)
    _reads: dict[str, str] = field(default_factory=dict, repr=False)
    _writes: dict[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def run_dir(self) -> str:
        """The folder as notebooks name it: ``<pipeline>/<run>``."""
        return f"{self.pipeline}/{self.name}"

    @property
    def parameters(self) -> dict[str, Value]:
        """The values of the notebook that runs, checked; {} outside of one."""
        return dict(self._parameters)

    @property
    def scratch(self) -> Path:
        """A local folder for files that grow, which outlives a killed stage and its retry."""
        path = state_dir() / ".scratch" / self.pipeline / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def prepare(self) -> None:
        """Make the folder and see that it can be written.

        Raises
        ------
        OSError
            If not; names the folder and the reason.
        """
        probe = self.path / ".writable"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_bytes(probe, b"")
            probe.unlink()
        except OSError as error:
            raise OSError(
                f"cannot write to the run folder {self.path}: {error}. OUTPUTS_DIR must name a "
                "folder that this user may write to"
            ) from error

    def write(self, name: str, content: "Content") -> None:
        """Write `content` to the file `name`, in the format that the ending of `name` says.

        Parameters
        ----------
        name : str
            Ends in ``.parquet`` or ``.csv`` (DataFrame), ``.npz`` (dict of arrays), ``.json`` (dict
            or list) or ``.png`` (figure). ``metrics.json`` must be flat and finite.
        content : DataFrame, dict, list or Figure

        Raises
        ------
        ValueError
            If the ending is unknown, or `metrics.json` is not one flat object of finite numbers.
        """
        if name == "metrics.json":
            _check_metrics(content)
        data = _encode(name, content)
        self._claim(name)
        write_bytes(self.path / name, data)
        self._settle(name)

    def read(self, name: str) -> "Content":
        """Return the content of the file `name` that this or an earlier stage wrote.

        Raises
        ------
        UnfinishedStage
            If the file is missing, its stage did not finish, the file is not what that stage
            wrote, or it was made from files that have changed since. Says which stage to run.
        """
        self.check(name)
        return _decode(name, (self.path / name).read_bytes())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a local path to fill with a file or folder; put it in place when the block ends.

        If the block raises, nothing of it is kept.
        """
        self._claim(name)
        parent = Path(self.path.path) if is_local(self.path) else self.scratch
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            made = folder / Path(name).name
            yield made
            if not made.exists():
                raise FileNotFoundError(f"the block that writes {name} made no such file")
            _put(made, self.path / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._settle(name)

    def local(self, name: str) -> Path:
        """Return a local path of the file or folder `name`, a copy where the run is remote.

        Raises
        ------
        UnfinishedStage
            As `read`.
        """
        self.check(name)
        if is_local(self.path):
            return Path((self.path / name).path)
        copy = self.scratch / "local" / name
        shutil.rmtree(copy, ignore_errors=True)
        for file in _files(self.path / name):
            target = copy / file.path[len((self.path / name).path) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        return copy

    def check(self, name: str) -> None:
        """See that the file or folder `name` may be read, and note in the record that it is.

        Raises
        ------
        UnfinishedStage
            As `read`. A person is told the shortest way on first.
        """
        with told_briefly():
            _check_name(name)
            records = self.records()
            try:
                writer = self._writer(name, records)
                self._refuse_stale(name, writer, records)
            except UnfinishedStage as error:
                if not self.stage or not is_interactive():
                    raise
                from lib.machine import handover

                raise UnfinishedStage(handover.way_on(self, name, str(error))) from error
        if writer != self.stage:
            self._reads[name] = records[writer]["writes"][name]

    def finish(self) -> None:
        """Mark the stage finished: later stages may now read what it wrote."""
        self._save_record("finished", {"finished": now()})

    def record(self, stage: str) -> dict:
        """Return what `stage` noted of itself: state, times, parameters, files; {} if nothing."""
        path = self.path / RECORDS / f"{stage}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def records(self) -> dict[str, dict]:
        """Return the record of every stage that has started in this run, in stage order."""
        folder = self.path / RECORDS
        names = sorted(path.stem for path in folder.iterdir()) if folder.exists() else []
        return {name: self.record(name) for name in names if not name.startswith(".")}

    def _start(self) -> None:
        """Check the parameters and that the folder can be written; old results stay valid."""
        self._parameters.update(_notebook_parameters(self))
        self.prepare()
        if is_interactive():
            from lib.machine import handover

            if line := handover.begin(self):
                sys.stdout.write(f"{line}\n")
        record = self.record(self.stage)
        if record.get("state") == "finished":
            self._write_record(record | {"opened": now()})
        else:
            self._save_record("running", {})

    def _save_record(self, state: str, more: dict) -> None:
        files = {"reads": self._reads, "writes": self._writes}
        head = {"stage": self.stage, "state": state, "started": self._started}
        self._write_record(head | more | {"parameters": self._parameters} | files)

    def _write_record(self, record: dict) -> None:
        text = json.dumps(record, indent=2) + "\n"
        write_bytes(self.path / RECORDS / f"{self.stage}.json", text.encode())

    def _claim(self, name: str) -> None:
        """Record that the stage is about to write `name`, which unfinishes the stage."""
        if not self.stage:
            raise ValueError(f"this run was opened to be read; to write {name}, name the stage")
        _check_name(name)
        self._writes[name] = None
        self._save_record("running", {})

    def _settle(self, name: str) -> None:
        self._writes[name] = digest(self.path / name)
        self._save_record("running", {})

    def _writer(self, name: str, records: dict[str, dict]) -> str:
        """Return the stage that wrote `name`, once sure that the file is whole."""
        writers = [stage for stage, record in records.items() if name in record["writes"]]
        if not writers:
            stage = _stage_that_writes(self.pipeline, name)
            raise UnfinishedStage(
                f"{name} is not in the run folder {self.run_dir}: run {stage} first, to its last "
                "cell"
            )
        writer = writers[-1]
        record = records[writer]
        if writer != self.stage and record["state"] != "finished":
            raise UnfinishedStage(
                f"{name} in {self.run_dir} belongs to {writer}, which started at "
                f"{record['started']} and has not finished: run {writer} again, to its last cell"
            )
        found = digest(self.path / name)
        if found != record["writes"][name]:
            state = "damaged: not what was written" if found else "missing"
            raise UnfinishedStage(
                f"{name} in {self.run_dir} is {state}: run {writer} again, to its last cell"
            )
        return writer

    def _refuse_stale(self, name: str, stage: str, records: dict[str, dict]) -> None:
        """Refuse `name`, written by `stage`, if anything it was made from has changed since."""
        for source, known in records[stage]["reads"].items():
            for other in [s for s in records if s < stage and source in records[s]["writes"]]:
                if records[other]["writes"][source] != known:
                    raise UnfinishedStage(
                        f"{name} in {self.run_dir} was made from an older {source}, which {other} "
                        f"has written anew: run {stage} again, to its last cell"
                    )
                self._refuse_stale(name, other, records)


def write_bytes(path: UPath, data: bytes) -> None:
    """Write `data` to `path` so that no reader ever sees a part of it; make its folder."""
    if not is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    local = Path(path.path)
    local.parent.mkdir(parents=True, exist_ok=True)
    temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        temporary.replace(local)
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: UPath) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents; "" if missing."""
    files = _files(path)
    if not files:
        return ""
    whole = hashlib.sha256()
    for file in files:
        content = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
        whole.update(f"{file.path[len(path.path) :]}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()


def is_local(path: UPath) -> bool:
    """Say whether `path` lies on this machine's file system."""
    return path.protocol in ("", "file", "local")


def _files(path: UPath) -> list[UPath]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    found = (p for p in path.rglob("*") if p.is_file() and BYTECODE not in p.parts)
    return sorted(found, key=str)


def _put(made: Path, target: UPath) -> None:
    if not is_local(target):
        if target.is_dir():
            target.fs.rm(target.path, recursive=True)
        for file in _files(UPath(made)):
            below = file.path[len(str(made)) :].lstrip("/")
            write_bytes(target / below if below else target, file.read_bytes())
        return
    place = Path(target.path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rename(made.with_name(f"{made.name}.replaced"))
    made.replace(place)


def _check_name(name: str) -> None:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is no file name within a run folder: use letters, digits . _ -")


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ValueError(f"metrics.json: {name} = {value!r}, expected a finite number")


def _encode(name: str, content: "Content") -> bytes:
    buffer = io.BytesIO()
    match Path(name).suffix:
        case ".parquet":
            content.to_parquet(buffer)
        case ".csv":
            buffer.write(content.to_csv().encode())
        case ".npz":
            import numpy as np

            np.savez_compressed(buffer, **content)
        case ".json":
            style = {"separators": (",", ":")} if name.endswith(".chart.json") else {"indent": 2}
            buffer.write((json.dumps(content, allow_nan=False, **style) + "\n").encode())
        case ".png":
            content.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        case suffix:
            raise ValueError(
                f"{name}: no format for {suffix!r}; use .parquet, .csv, .npz, .json or .png, or "
                "run.writing() for other files"
            )
    return buffer.getvalue()


def _decode(name: str, data: bytes) -> "Content":
    match Path(name).suffix:
        case ".parquet":
            import pandas as pd

            return pd.read_parquet(io.BytesIO(data))
        case ".csv":
            import pandas as pd

            return pd.read_csv(io.BytesIO(data), index_col=0)
        case ".npz":
            import numpy as np

            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return dict(arrays)
        case ".json":
            return json.loads(data)
        case suffix:
            raise ValueError(f"{name}: no reader for {suffix!r}; use run.local() for its path")


def _notebook_parameters(run: Run) -> dict[str, Value]:
    """Return the checked values of the parameters cell of the notebook that runs here."""
    shell = _shell()
    if shell is None:
        return {}
    own = run.path / OPENED / f"{run.stage}.ipynb"
    notebook = own if own.exists() else ROOT / "notebooks" / run.pipeline / f"{run.stage}.ipynb"
    if not notebook.exists():
        return {}
    declared = read_parameters(notebook)
    values = {name: shell.user_ns[name] for name in declared if name in shell.user_ns}
    return check_values(declared, values, owner=f"{run.pipeline}/{run.stage}")


def _shell() -> "InteractiveShell | None":
    """Return the IPython that runs here, if one does."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _only_message(error: ValueError) -> list[str]:
    return [f"\x1b[0;31m{type(error).__name__}\x1b[0m: {error}"]


def _stage_that_writes(pipeline: str, name: str) -> str:
    """Return the stage whose card says that it writes `name`, or a hint where none does."""
    for notebook in sorted((ROOT / "notebooks" / pipeline).glob("*.ipynb")):
        card = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
        written = WRITES.search(card)
        if written and f"`{name}`" in written[1]:
            return notebook.stem
    return f"the stage of {pipeline} that writes {name}"
