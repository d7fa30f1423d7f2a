"""The run folder: one directory that holds everything one pipeline run produced.

Files appear whole or not at all, and every stage keeps a record of what it read and wrote, with
digests. A file is handed to a later stage only if the stage that wrote it finished, the file is
still what was written, and it was not made from files that have changed since.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lib.ground import attempts, layout
from lib.ground.console import is_interactive, told_briefly
from lib.ground.content import Content, check_metrics, decode, encode
from lib.ground.dataset import Dataset
from lib.ground.files import (
    copy,
    digest,
    digest_of,
    is_local,
    look_into,
    now,
    outputs_dir,
    put,
    read_bytes,
    read_whole,
    state_dir,
    write_bytes,
)
from lib.ground.parameters import Value

from upath import UPath

RECORDS = "stages"
FETCHED = "local"  # in the scratch folder: copies that a stage has fetched
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")
CHILD = re.compile(r"[0-9]{4,}")  # the folder of a child run, named after its map index
MAPPED = "mapped"  # in the record of a mapped stage: its child runs by index


class UnfinishedStage(ValueError):
    """A stage asked for a file that an earlier stage has not finished; says which to run."""


def look_at(run_dir: str) -> "Run":
    """Return the run folder `run_dir`, to be read; whether it exists is not asked.

    Raises
    ------
    ValueError
        If `run_dir` is not ``<pipeline>/<run>``: it may not leave `OUTPUTS_DIR`.
    """
    parts = run_dir.split("/")
    is_child = len(parts) == 3 and CHILD.fullmatch(parts[2])
    if not (len(parts) == 2 or is_child) or not all(NAME.fullmatch(part) for part in parts):
        raise ValueError(
            f"run_dir = {run_dir!r}: expected '<pipeline>/<run>', a folder below OUTPUTS_DIR, "
            "in letters, digits and . _ = + -, or '<pipeline>/<run>/<map index>' of a mapped stage"
        )
    return Run(outputs_dir().joinpath(*parts), parts[0], "/".join(parts[1:]))


def run_at(folder: UPath) -> "Run | None":
    """Return the run whose folder this is, opened to look at it; None where it is no run's."""
    try:
        return look_at(str(folder).removeprefix(f"{outputs_dir()}/"))
    except ValueError:
        return None


@dataclass(frozen=True)
class Run:
    """An open run folder; made by `lib.run.open_run`.

    A mapped stage runs once for each map index, in a child run: a folder below that of its run,
    with records, notebooks and files of its own. It reads what earlier stages of the run wrote as
    if it were its own, and a later stage of the run reads what all children wrote by `read_all`.

    Attributes
    ----------
    path : UPath
        The folder itself.
    pipeline, name : str
        The two parts of `run_dir`; the name of a child run ends in ``/<map index>``.
    stage : str
        The stage that writes; empty for a reader.
    parameters : dict
        The values of the notebook that runs, checked; {} outside of one.
    way_on : callable
        Returns what to tell a person who was refused a file, from run, file and refusal.
    """

    path: UPath
    pipeline: str
    name: str
    stage: str = ""
    parameters: dict[str, Value] = field(default_factory=dict, repr=False)
    way_on: "Callable[[Run, str, str], str] | None" = field(default=None, repr=False)
    _started: str = field(default_factory=now, repr=False)
    _reads: dict[str, str] = field(default_factory=dict, repr=False)
    _asked: dict[str, str] = field(default_factory=dict, repr=False)
    _writes: dict[str, str | None] = field(default_factory=dict, repr=False)
    _held: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def run_dir(self) -> str:
        """The folder as notebooks name it: ``<pipeline>/<run>``."""
        return f"{self.pipeline}/{self.name}"

    @property
    def parent(self) -> "Run | None":
        """The run that a child run belongs to, opened to look at it; None of any other run."""
        name, _, index = self.name.partition("/")
        return Run(self.path.parent, self.pipeline, name) if index else None

    def child(self, index: int) -> "Run":
        """Return the child run of a map index, opened to look at it."""
        return look_at(f"{self.run_dir}/{index:04d}")

    def children(self) -> "list[Run]":
        """Return the child runs that have begun, in order of their index."""
        folders = self.path.iterdir() if self.path.exists() else ()
        indices = sorted(int(path.name) for path in folders if CHILD.fullmatch(path.name))
        return [self.child(index) for index in indices]

    @property
    def scratch(self) -> Path:
        """A local folder for files that grow, which outlives a killed stage and its retry."""
        path = state_dir() / ".scratch" / self.pipeline / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def prepare(self) -> None:
        """Make the folder and see that it can be written; a remote one says so when it is.

        Raises
        ------
        OSError
            If not; names the folder and the reason.
        """
        probe = self.path / ".writable"
        if not is_local(probe):
            return
        try:
            write_bytes(probe, b"")  # makes the folder
            probe.unlink()
        except OSError as error:
            raise OSError(
                f"cannot write to the run folder {self.path}: {error}. OUTPUTS_DIR must name a "
                "folder that this user may write to"
            ) from error

    def write(self, name: str, content: Content) -> None:
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
            check_metrics(content)
        data = encode(name, content)
        self._claim(name)
        write_bytes(self.path / name, data)
        self._writes[name] = digest_of(data)

    def read(self, name: str) -> Content:
        """Return the content of the file `name` that this or an earlier stage wrote.

        Raises
        ------
        UnfinishedStage
            If the file is missing, its stage did not finish, the file is not what that stage
            wrote, or it was made from files that have changed since. Says which stage to run.
        """
        return self._read(name, self._known())

    def _read(self, name: str, known: tuple[dict, dict]) -> Content:
        data = b""

        def found(place: UPath) -> str:
            nonlocal data
            try:
                data = read_bytes(place)
            except FileNotFoundError:
                return ""
            return digest_of(data)

        self._check(name, found, known)
        return decode(name, data)

    def read_all(self, name: str) -> dict[str, Content]:
        """Return the content of the file `name` of every child run that wrote it, by map index.

        Raises
        ------
        UnfinishedStage
            As `read`.
        """
        self.mapped()
        with look_into(self.path):
            known = self._known()
            files = sorted({file for record in known[0].values() for file in record["writes"]})
            parts = [file.partition("/") for file in files]
            found = [index for index, _, own in parts if own == name and CHILD.fullmatch(index)]
            return {index: self._read(f"{index}/{name}", known) for index in found}

    def mapped(self) -> dict[str, dict[str, Value]]:
        """Return what became of every child run, by map index.

        Returns
        -------
        dict
            The values that the child was given, the last ``stage`` that has begun in it, and that
            stage's ``state``: ``finished`` or ``failed``.
        """
        found: dict[str, dict[str, Value]] = {}
        for stage, record in self.records().items():
            if MAPPED in record:
                self._asked[stage] = asked_of(record)
                found |= record[MAPPED]
        return found

    def place(self, name: str) -> UPath:
        """Return where the file or folder `name` lies: of a child run, it may be its parent's."""
        return self._place(name, *self._known()) if self.parent else self.path / name

    def _place(self, name: str, own: dict[str, dict], shared: dict[str, dict]) -> UPath:
        is_own = any(name in record["writes"] for record in own.values())
        is_shared = any(name in record["writes"] for record in shared.values())
        return (self.parent.path if is_shared and not is_own else self.path) / name

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
            written = digest(UPath(made))
            put(made, self.path / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._writes[name] = written

    def dataset(self, name: str) -> Dataset:
        """Return the data set `name` that this or an earlier stage wrote, to be read by parts.

        Raises
        ------
        UnfinishedStage
            As `read`. What a part holds is looked at when it is read.
        """
        place = self.place(name)
        with look_into(place):
            self.check(name)
        return Dataset(place)

    @contextmanager
    def writing_dataset(self, name: str) -> Iterator[Dataset]:
        """Give an empty data set to write parts of, in any process, and to seal in the block.

        If the block raises, nothing of it is kept.
        """
        self._claim(name)
        made = Dataset(self.path / name)
        _remove(made.path)
        try:
            yield made
            _ = made.parts  # which there are once it is sealed
            with look_into(made.path):
                self._writes[name] = digest(made.path)
        except BaseException:
            _remove(made.path)
            raise

    def local(self, name: str) -> Path:
        """Return a local path of the file or folder `name`, a copy where the run is remote.

        Raises
        ------
        UnfinishedStage
            As `read`.
        """
        if is_local(self.path):
            return Path(self._check(name, digest).path)
        here = self.scratch / FETCHED / self.stage / name

        def found(place: UPath) -> str:
            with look_into(place):
                copy(place, UPath(here))
            return digest(UPath(here))

        self._check(name, found)
        return here

    def check(self, name: str) -> None:
        """See that the file or folder `name` may be read, and note in the record that it is.

        Raises
        ------
        UnfinishedStage
            As `read`. A person is told the shortest way on first.
        """
        self._check(name, digest)

    def _check(
        self,
        name: str,
        found: Callable[[UPath], str],
        known: tuple[dict[str, dict], dict[str, dict]] | None = None,
    ) -> UPath:
        """Do as `check`, and return where the file lies.

        `found` gives the digest of what is there, "" where nothing is; `known` is of `_known`.
        """
        with told_briefly(), look_into(self.path):
            _check_name(name)
            own, shared = known or self._known()
            records, place = shared | own, self._place(name, own, shared)
            try:
                writer = self._writer(name, records, lambda: found(place))
                self._refuse_stale(name, writer, records)
            except UnfinishedStage as error:
                if not self.way_on or not is_interactive():
                    raise
                raise UnfinishedStage(self.way_on(self, name, str(error))) from error
        if writer != self.stage:
            self._reads[name] = records[writer]["writes"][name]
        return place

    def start(self) -> None:
        """Note that the stage has been opened; what it has left before stays valid."""
        record = self.record(self.stage)
        if record.get("state") == "finished":
            self._write_record(record | {"opened": now()})
        else:
            self._save_record("running", {})

    def finish(self) -> None:
        """Mark the stage finished: later stages may now read what it wrote."""
        self._save_record("finished", {"finished": now()})

    def record(self, stage: str) -> dict:
        """Return what `stage` noted of itself: state, times, parameters, files; {} if nothing.

        A stage that is running is told of another one's ``parameters`` alone, and that it has
        asked is noted: the rest may differ where the results are the same.
        """
        found = self._record(stage)
        if not self.stage or stage == self.stage:
            return found
        self._asked[stage] = asked_of(found)
        return {"stage": stage, "parameters": found.get("parameters", {})}

    def records(self) -> dict[str, dict]:
        """Return the record of every stage that has started in this run, in stage order.

        Those of a child run begin with its parent's of the stages before, whose files it may read.
        """
        own, shared = self._known()
        return shared | own

    def _known(self) -> tuple[dict[str, dict], dict[str, dict]]:
        """Return this run's own records, and those that it shares with its siblings."""
        own = self.own_records()
        return own, self._shared(own)

    def own_records(self) -> dict[str, dict]:
        """Return the records that lie in this very folder, in stage order."""
        folder = self.path / RECORDS
        with look_into(folder):
            names = sorted(path.stem for path in folder.glob("*.json"))
            shown = (name for name in names if not name.startswith("."))
            return {name: record for name in shown if (record := self._own_record(name))}

    def _shared(self, own: Mapping[str, dict]) -> dict[str, dict]:
        """Return the records that a child run shares with the others, given its own."""
        known = self.parent.own_records() if self.parent else {}
        first = min((stage for stage in (self.stage, *own) if stage), default="~")
        return {s: one for s, one in known.items() if s < first and MAPPED not in one}

    def _own_record(self, stage: str) -> dict:
        return read_whole(self.path / RECORDS / f"{stage}.json")

    def _record(self, stage: str) -> dict:
        found = self._own_record(stage)
        return self.records().get(stage, {}) if self.parent and not found else found

    def _save_record(self, state: str, more: dict) -> None:
        files = {"reads": self._reads, "writes": self._writes}
        files |= {"asked": self._asked} if self._asked else {}
        head = {"stage": self.stage, "state": state, "started": self._started}
        self._write_record(head | more | {"parameters": self.parameters} | files)

    def _write_record(self, record: dict) -> None:
        attempt = attempts.mine(self.run_dir, self.stage)
        place = self.path / RECORDS / f"{self.stage}.json"
        attempts.write_record(place, record, attempt, self._held)

    def _claim(self, name: str) -> None:
        """Record that the stage is about to write `name`, which unfinishes the stage.

        What it has written before stands there with its digest; that of the last file, `finish`
        puts there.
        """
        if not self.stage:
            raise ValueError(f"this run was opened to be read; to write {name}, name the stage")
        _check_name(name)
        self._writes[name] = None
        self._save_record("running", {})

    def _writer(self, name: str, records: dict[str, dict], found: Callable[[], str]) -> str:
        """Return the stage that wrote `name`, once sure that the file is whole."""
        writers = [stage for stage, record in records.items() if name in record["writes"]]
        if not writers:
            stage = layout.stage_that_writes(self.pipeline, name)
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
        known = record["writes"] | (self._writes if writer == self.stage else {})
        if (is_there := found()) != known[name]:
            state = "damaged: not what was written" if is_there else "missing"
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


def asked_of(record: Mapping) -> str:
    """Return a digest of what a run tells one stage of another, `run_dir` left out."""
    values = {k: v for k, v in record.get("parameters", {}).items() if k != "run_dir"}
    values |= {MAPPED: record[MAPPED]} if MAPPED in record else {}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _remove(folder: UPath) -> None:
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def _check_name(name: str) -> None:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is no file name within a run folder: use letters, digits . _ -")
