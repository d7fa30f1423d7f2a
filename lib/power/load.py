"""`load_power`: household power readings from wherever they are, as the canonical frame.

See `lib.power.frame` for what that frame is and what is checked.
"""

from collections.abc import Sequence
from io import BytesIO

from lib.formats import reading, unpack
from lib.looks import names_look
from lib.power.frame import POWER_KW, RESOLUTIONS, Part, aggregate_power, count_rows, join
from lib.power.sample import sample_power
from lib.power.source import AS_IT_IS, TIME, Source, clock_of, describe_source, hours_of
from lib.power.table import from_table
from lib.power.text import read_text
from lib.power.uci import TEXT, fetch_uci
from lib.sources import list_files, read_file

import pandas as pd

ICEBERG = "iceberg:"


@names_look("power")
def load_power(
    source: str,
    *,
    columns: Sequence[str] = (),
    layout: Sequence[str] = (),
    time_zone: str = "",
    min_power_kw: float = POWER_KW[0],
    max_power_kw: float = POWER_KW[1],
    bin_s: int = 0,
    resolution: str = "native",
    seed: int = 0,
    sample_days: int = 430,
    max_missing: float = 0.25,
) -> pd.DataFrame:
    """Load household power readings as the canonical frame.

    Parameters
    ----------
    source : str
        One of

        - ``"sample"``: made-up readings, see `lib.power.sample`;
        - ``"uci"``: UCI's archive 235, downloaded once, see `fetch_uci`;
        - a path, folder, glob or URL (``https://``, ``s3://``, ``memory://``, any fsspec scheme) of

          - text with a header, ``Date`` (day first, or ISO 8601) and ``Time``, or one column
            ``datetime`` (``ts``, ``timestamp``, ``time``, ``date``) in ISO 8601, without a zone;
            separated by semicolons, commas, tabs or ``|``, with a decimal point, or a comma where
            it parts no columns; ``?``, ``NULL``, ``NA`` and the like or nothing where a value is
            missing; plain, ``.gz``, ``.bz2``, ``.xz``, or one text file in a ``.zip``;
          - Parquet with either kind of time column, or with the times as its index.

          A relative path is looked up in ``DATA_DIR`` and then in the repository. The files of a
          folder or glob are put in order of time;
        - ``"sql:<SQLAlchemy URL>#<table or SELECT>"``, see `lib.power.sql.read_sql`;
        - ``"iceberg:<catalog>.<namespace>.<table>"``, see `lib.catalogs.load_table`.

        Columns go by UCI's names, in any case, or by the canonical ones; others are left out.
    columns, layout : sequence of str
        What else its columns are called or measured in, which are not there, and how its text is
        written, see `lib.dialect`; the standard names are those of `COLUMNS` and ``timestamp``,
        the units those of `lib.power.source.UNITS`. The sample and UCI's archive need none.
        With `columns`, those of the seven that are neither named nor found are missing throughout;
        without it they are an error.
    time_zone : str
        IANA zone of the house, for times that carry a zone, count from 1970, or repeat an hour in
        autumn: its standard time is kept all year.
    min_power_kw, max_power_kw : float
        What the power may be; below 0 for a house that feeds in.
    bin_s : int
        Of readings at no fixed times, the length in seconds of the rows that their means become;
        0 for readings that keep a step.
    resolution : {"native", "minute", "hour", "day"}
        Length of a row, see `aggregate_power`.
    seed : int
        Of the sample; other sources do not use it.
    sample_days : int
        Length of the sample in days; other sources do not use it.
    max_missing : float
        Largest fraction of missing readings in an aggregated row, see `aggregate_power`.

    Returns
    -------
    DataFrame of shape (n_rows, 7)
        float64 columns `COLUMNS`: ``power_kw`` (kW), ``reactive_power_kvar`` (kVAr),
        ``voltage_v`` (V), ``current_a`` (A), ``sub_metering_1_wh`` to ``sub_metering_3_wh`` (Wh
        per row). Index ``ts``: datetime64[us], naive local time, the start of the row's interval.
        Its ``attrs["rows"]`` say where each row of the source is, see `count_rows`.

    Raises
    ------
    ValueError
        When the source is not found or not readable, is cut short, or breaks a rule of
        `check_power`; the message names the place, the value, the rule and the remedy, and never
        holds a password. A text file that was cut exactly between two lines cannot be told from
        a shorter complete one.
    """
    if resolution not in ("native", *RESOLUTIONS):
        choices = ", ".join(("native", *RESOLUTIONS))
        raise ValueError(f"resolution is {resolution!r}: give one of {choices}")
    written, power_kw = describe_source(columns, layout, time_zone), (min_power_kw, max_power_kw)
    if bin_s and hours_of(written):
        raise ValueError(
            "bin_s is for readings of power at no fixed times; energy by the row needs rows of one "
            "length: give bin_s=0"
        )
    if source == "sample":
        parts = [Part(source, sample_power(sample_days, seed=seed))]
    elif source.startswith("sql:"):
        from lib.power.sql import read_sql

        parts = [read_sql(source, written)]
    elif source.startswith(ICEBERG):
        parts = [read_iceberg(source, written)]
    elif source == "uci":
        written, bin_s = AS_IT_IS, 0
        parts = [read_text(fetch_uci(), TEXT, written)]
    else:
        files = list_files(source, hint='give "sample" or "uci"')
        parts = [read_part(read_file(opened, source), name, written) for name, opened in files]
    frame = parts[0].frame if source == "sample" else join(parts, power_kw, bin_s, written)
    if resolution != "native":
        frame = aggregate_power(frame, resolution, max_missing=max_missing)
    frame.attrs["rows"] = count_rows(parts, frame)
    return frame


def read_iceberg(source: str, written: Source) -> Part:
    """Read a table of an Iceberg catalog, as it is or as it once was; rows may be in any order.

    Parameters
    ----------
    source : str
        ``iceberg:`` and a name as `lib.catalogs.load_table` takes it.
    written : lib.power.source.Source
        What its columns are. Those that are named otherwise are left out, as in files.

    Raises
    ------
    ValueError
        If table or snapshot are not there, or a column cannot be read.
    """
    from lib.catalogs import load_table

    table, snapshot = load_table(source.removeprefix(ICEBERG))
    part = from_table(table.scan(snapshot_id=snapshot).to_pandas(), source, written)
    return Part(part.name, part.frame.sort_index(kind="stable"), "row in order of time")


def read_part(data: bytes, name: str, source: Source) -> Part:
    """Read the content of one file, of whatever format its first bytes say it is."""
    told, content = unpack(data, name)
    if told.is_parquet:
        return from_table(read_parquet(content, name, source), name, source)
    return read_text(content, name, source)


def read_parquet(content: bytes, name: str, source: Source) -> pd.DataFrame:
    """Return a table with its index as a column, where it has a name or is its time."""
    with reading(name, (Exception,)):  # a damaged file may raise nearly anything
        table = pd.read_parquet(BytesIO(content))
    has_clock = TIME in source.columns or clock_of([str(c).lower() for c in table.columns])
    if isinstance(table.index, pd.DatetimeIndex) and not has_clock:
        return table.rename_axis("ts").reset_index()
    return table.reset_index(allow_duplicates=True) if any(table.index.names) else table
