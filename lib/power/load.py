"""`load_power`: household power readings from wherever they are, as the canonical frame.

See `lib.power.frame` for what that frame is and what is checked.
"""

import gzip
import zipfile
import zlib
from io import BytesIO

from lib.power.frame import RESOLUTIONS, Part, aggregate_power, join
from lib.power.sample import sample_power
from lib.power.sql import read_sql
from lib.power.table import CLOCKS, from_table
from lib.power.text import read_text
from lib.power.uci import TEXT, fetch_uci
from lib.sources import list_files, read_file

import pandas as pd
from pyarrow import ArrowInvalid


def load_power(
    source: str,
    *,
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
        - a path, glob or URL (``https://``, ``s3://``, ``memory://``, any fsspec scheme) of

          - UCI text: separated by semicolons, ``Date`` (day first) and ``Time``, ``?`` or nothing
            where a value is missing; plain, ``.gz``, or one text file in a ``.zip``;
          - CSV with an ISO 8601 ``datetime`` (or ``ts``) column instead, plain or packed alike;
          - Parquet with either kind of time column, or with the times as its index.

          A relative path is looked up in ``DATA_DIR`` and then in the repository. The files of a
          glob are put in order of time;
        - ``"sql:<SQLAlchemy URL>#<table or SELECT>"``, see `read_sql`.

        Columns go by UCI's names, in any case, or by the canonical ones; others are left out.
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
    if source == "sample":
        frame = sample_power(sample_days, seed=seed)
    elif source.startswith("sql:"):
        frame = join([read_sql(source)])
    elif source == "uci":
        frame = join([read_text(fetch_uci(), TEXT)])
    else:
        files = list_files(source, hint='give "sample" or "uci"')
        frame = join([read_part(read_file(opened, source), name) for name, opened in files])
    if resolution == "native":
        return frame
    return aggregate_power(frame, resolution, max_missing=max_missing)


def read_part(data: bytes, name: str) -> Part:
    """Read the content of one file, of whatever format its first bytes say it is."""
    if not data:
        raise ValueError(f"{name} is empty: was it written to the end? Fetch it again")
    try:
        if data.startswith(b"PAR1"):
            table = pd.read_parquet(BytesIO(data))
            has_index = {*table.index.names} & {*CLOCKS}
            return from_table(table.reset_index() if has_index else table, name)
        if data.startswith(b"PK\x03\x04"):
            data = _unzip(data, name)
        elif data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, zipfile.BadZipFile, OSError, RuntimeError, ArrowInvalid) as error:
        raise ValueError(f"{name} is cut short or damaged ({error}): fetch it again") from error
    return read_text(data, name)


def _unzip(data: bytes, name: str) -> bytes:
    """Return the one text file in a zip archive; its check sum is checked on the way."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = [m for m in archive.namelist() if m.lower().endswith((".txt", ".csv"))]
        members = [m for m in members if not m.startswith("__MACOSX/")]
        if len(members) != 1:
            raise ValueError(
                f"{name} must hold one .txt or .csv file and holds {members or archive.namelist()}"
            )
        return archive.read(members[0])
