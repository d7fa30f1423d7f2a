"""What a house's readings are, as they will be read, and what is odd about them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from lib.dialect import fields_of, shown
from lib.formats import START, unpack
from lib.frames import gap_report, grid_step
from lib.ground.parameters import Value
from lib.looks import Look, column_row, model_name, odd_columns
from lib.power.columns import COLUMNS
from lib.power.features import PowerOptions
from lib.power.frame import N_RISING, with_hours
from lib.power.load import load_power, read_parquet, read_part
from lib.power.reach import check_rows, fitting
from lib.power.source import TIME, Source, columns_of, describe_source, hours_of
from lib.power.text import header_of
from lib.sources import list_files, read_file

import pandas as pd

Files = Sequence[tuple[str, Callable[[], BinaryIO]]]
WRITTEN = ("columns", "layout", "time_zone")
OPTIONS = (*WRITTEN, "min_power_kw", "max_power_kw", "bin_s", "resolution", "max_missing")
OPTIONS += ("sample_days", "seed")
HIGH_KW, LEAST_KW, LOW_V = 8.0, 0.1, 207.0
MADE, KINDS = ("sample", "uci"), {"sql": "SQL", "iceberg": "Iceberg"}


def look_at_power(source: str, options: Mapping[str, Value], most_rows: int = 0) -> Look:
    """Look at readings as `lib.power.load.load_power` reads them, which is always all of them.

    Parameters
    ----------
    source : str
    options : mapping
        Parameters of the pipeline; those of `load_power` count.
    most_rows : int
        Not used: what the rows are is known when all have been read, in about a second for two
        million.

    Raises
    ------
    ValueError
        As `load_power`.
    """
    frame = load_power(source, **{name: options[name] for name in OPTIONS if name in options})
    kind = source.partition(":")[0]
    facts, columns = {"source": KINDS.get(kind, kind)}, pd.DataFrame()
    if kind not in (*MADE, *KINDS):
        written = describe_source(*(options[name] for name in WRITTEN))
        facts, columns = _recognised(source, written)
    facts["rows"] = f"of {grid_step(frame)}, from {frame.index[0]} to {frame.index[-1]}"
    odd, params = _odd(frame), {}
    if source not in MADE:
        stem = PurePosixPath(source).name.partition(".")[0]
        params["model_name"] = model_name("power", stem)
    params |= _enough(frame, options, odd)
    return Look(facts, columns, frame, frame.attrs["rows"], odd, params)


def _recognised(source: str, written: Source) -> tuple[dict[str, str], pd.DataFrame]:
    """Return what the first file is, and its columns by what they hold in its first row."""
    files = list_files(source)
    name, opened = files[0]
    data = read_file(opened, source)
    facts = {"file": name + (f", the first of {len(files):,}" if len(files) > 1 else "")}
    told, content = unpack(data, name)
    if told.is_parquet:
        facts["format"] = "Parquet"
        row = read_parquet(content, name, written).iloc[0]
        names, values = [str(column) for column in row.index], list(map(str, row))
    else:
        header = header_of(content, name, written)
        line = content[header.n_bytes : header.n_bytes + START].splitlines()[0]
        names = header.names
        values = fields_of(line.decode("utf-8", "replace"), header.separator)
        facts |= header.facts
    if told.packed:
        facts["packed by"] = told.packed
    times, places = columns_of(names, name, written)
    first = _first_row(data, files, source, written)
    units = {ours: column.unit for ours, column in written.columns.items()}
    places_of = {TIME: times, **{ours: [at] for ours, at in places.items()}}
    columns = [
        column_row(
            ours,
            [names[k] for k in at],
            units.get(ours, ""),
            " ".join(values[k] for k in at),
            first.name if ours == TIME else first[ours],
        )
        for ours, at in places_of.items()
    ]
    unread = [n for k, n in enumerate(names) if k not in {*times, *places.values()}]
    if written.time_zone:
        facts["zone"] = f"{written.time_zone}, its standard time all year"
    facts |= {"not read": shown(unread)} if unread else {}
    absent = ", ".join(column for column in COLUMNS if column not in places)
    facts |= {"not measured": absent} if absent else {}
    return facts, pd.DataFrame(columns).set_index("column")


def _first_row(data: bytes, files: Files, source: str, written: Source) -> pd.Series:
    """Return the first row of the first file, whose content is `data`, in standard units."""
    (name, _), *others = files
    rows, hours = read_part(data, name, written).frame, hours_of(written)
    if not hours:
        return rows.iloc[0]
    times = rows.index
    if len(rows) == 1:  # then the next file tells how long a row is
        name, opened = others[0]
        times = times.append(read_part(read_file(opened, source), name, written).frame.index)
    step = times.sort_values().to_series().diff().mode()[0]
    return with_hours(rows[:1], step // pd.Timedelta("1us"), hours).iloc[0]


def _odd(frame: pd.DataFrame) -> list[str]:
    power, voltage = frame["power_kw"], frame["voltage_v"]
    measured = frame.dropna(axis=1, how="all")
    odd = odd_columns(measured)
    gaps = gap_report(power)
    if len(gaps):
        longest = gaps.iloc[0]
        odd.append(
            f"{power.isna().mean():.1%} of the rows have no reading of power; the longest of "
            f"{len(gaps):,} gaps is from {longest['start']} to {longest['end']}"
        )
    if power.median() > HIGH_KW:
        odd.append(
            f"half of the time the power is above {power.median():.3g} kW, much for a house: is "
            'its unit another, as columns=["power_kw=<name> [W]"]?'
        )
    if power.max() < LEAST_KW:
        odd.append(
            f"the power is never above {power.max():.3g} kW, little for a house: is its unit "
            'another, as columns=["power_kw=<name> [kW]"]?'
        )
    known = power.dropna()
    if known.is_monotonic_increasing and known.nunique() > N_RISING:
        odd.append("the power never falls: does the meter count up? Then give the differences")
    low = int((voltage < LOW_V).sum())
    if low:
        odd.append(
            f"{low:,} rows are below {LOW_V:g} V, and a run takes them for no readings: see "
            "min_voltage_v"
        )
    if (power < 0).any():
        odd.append('the power is below 0 at times: a run needs "objective": "regression"')
    return odd


def _enough(frame: pd.DataFrame, options: Mapping[str, Value], odd: list[str]) -> dict:
    """Return the parameters with which the rows are enough to learn from; say where none are."""
    if "min_rows" not in options:
        return {}
    features = {name: options[name] for name in PowerOptions.__annotations__}
    fractions = {name: options[name] for name in ("valid_fraction", "test_fraction")}
    try:
        check_rows(frame.index, features, **fractions, min_rows=options["min_rows"])
    except ValueError as error:
        better = fitting(frame.index, features, fractions, options["min_rows"])
        odd += [] if better else [str(error)]
        return better
    return {}
