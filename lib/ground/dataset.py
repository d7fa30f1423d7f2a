"""A data set in parts: a folder of Parquet files, and a manifest that says what each of them is.

Parts are written by any process of any machine that reaches the folder. A part appears whole, under
a name that ends in its digest, so none is ever written in the place of another. The manifest comes
last: what is half-written has none, and is never read. A part is compared with its digest before
its rows are given to anybody.
"""

import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.ground.files import MANIFEST, is_local, sha256, write_json

from upath import UPath

if TYPE_CHECKING:
    import pyarrow as arrow

GROUP_ROWS = 250_000
"""Rows of a row group, which memory holds at once."""


@dataclass(frozen=True)
class Part:
    """A part, as it was written.

    Attributes
    ----------
    name : str
        What it holds.
    path : UPath
    rows, size : int
        Of the file: its rows and bytes.
    sha256 : str
    """

    name: str
    path: UPath
    rows: int
    size: int
    sha256: str

    def __str__(self) -> str:
        return self.name

    def batches(self) -> Iterator["arrow.RecordBatch"]:
        """Yield the rows in batches.

        Raises
        ------
        ValueError
            If the file is not what was written; no row is given then.
        """
        import pyarrow.parquet as parquet

        with _here(self.path) as file:
            if sha256(file) != self.sha256:
                raise _run_again(f"{self.path.name} is not what was written", self.path.parent)
            with parquet.ParquetFile(file) as content:
                yield from content.iter_batches(GROUP_ROWS)


@dataclass(frozen=True)
class Dataset:
    """A folder of parts; a run has its own, see `lib.ground.folder.Run.dataset`.

    Attributes
    ----------
    path : UPath
        The folder, local or not.
    """

    path: UPath

    @property
    def parts(self) -> list[Part]:
        """The parts, in order of their names.

        Raises
        ------
        ValueError
            If there is no manifest.
        """
        manifest = self.path / MANIFEST
        if not manifest.exists():
            raise _run_again(f"{MANIFEST} is missing, it was not written to its end", self.path)
        parts = json.loads(manifest.read_text(encoding="utf-8"))["parts"]
        return [Part(name, self.path / file, *facts) for name, (file, *facts) in parts.items()]

    def write(self, name: str, tables: Iterable["arrow.Table"]) -> Part:
        """Write a part, whole or not at all; it counts once the manifest has it.

        Parameters
        ----------
        name : str
        tables : iterable of pyarrow.Table
            Of one schema, one or more. Where they are cut changes no byte of the file.
        """
        import pyarrow.parquet as parquet

        groups, n_rows = _row_groups(tables), 0
        with _being_made(self.path) as made:
            group = next(groups)
            # numbers rarely repeat: to look for those that do takes longer than all the rest
            options = {"use_dictionary": False, "compression": "zstd"}
            with parquet.ParquetWriter(made, group.schema, **options) as writer:
                while group is not None:
                    writer.write_table(group)
                    n_rows += len(group)
                    group = next(groups, None)
            digest, size = sha256(made), made.stat().st_size
            path = self.path / f"{name}-{digest[:12]}.parquet"
            if is_local(path):
                made.replace(path.path)
            else:
                path.fs.put_file(str(made), path.path)
        return Part(name, path, n_rows, size, digest)

    def seal(self, parts: Iterable[Part]) -> None:
        """Write the manifest: these parts are the data set, and others are removed.

        Raises
        ------
        FileNotFoundError
            If a part is not there: another machine has written it to a folder of its own.
        """
        named = {part.path.name: part for part in sorted(parts, key=lambda part: part.name)}
        found = {file.name: file for file in self.path.iterdir()}
        if missing := named.keys() - found:
            raise FileNotFoundError(
                f"{len(missing)} of {len(named)} parts, as {min(missing)}, are not in {self.path}, "
                "where a worker has written them: OUTPUTS_DIR must name a place that all machines "
                "see, as s3://bucket/runs"
            )
        for name in found.keys() - named:
            found[name].unlink()
        facts = {p.name: [name, p.rows, p.size, p.sha256] for name, p in named.items()}
        write_json(self.path / MANIFEST, {"parts": facts})


def _row_groups(tables: Iterable["arrow.Table"]) -> Iterator["arrow.Table"]:
    """Yield the same rows in tables of `GROUP_ROWS`, the last one shorter."""
    import pyarrow as arrow

    rest = None
    for table in tables:
        rest = arrow.concat_tables([rest, table]) if rest else table
        while len(rest) >= GROUP_ROWS:
            yield rest[:GROUP_ROWS].combine_chunks()
            rest = rest[GROUP_ROWS:]
    if rest:
        yield rest.combine_chunks()


@contextmanager
def _being_made(folder: UPath) -> Iterator[Path]:
    """Give a local path for a file that moves to `folder`; nothing is left there at the end."""
    if not is_local(folder):
        with tempfile.TemporaryDirectory() as place:
            yield Path(place, "part")
        return
    made = Path(folder.path, f".{uuid.uuid4().hex}")
    made.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


@contextmanager
def _here(path: UPath) -> Iterator[Path]:
    """Give a local path of a file, a copy where it is remote."""
    if is_local(path):
        yield Path(path.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path.fs.get_file(path.path, str(Path(folder, path.name)))
        yield Path(folder, path.name)


def _run_again(what: str, dataset: UPath) -> ValueError:
    return ValueError(
        f"{dataset.name}: {what}. Run the stage that writes {dataset.name} again, to its last cell"
    )
