"""What only the lakehouse pipeline knows: where its lake is, and how a model of it is asked.

The lake of a sample lies in the scratch folder of its run and goes with it. The other one is the
catalog `lib.catalogs.LAKE`, and outlives all runs.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lib.catalogs import LAKE, lake_folder, local_catalog, open_catalog, snapshot_of
from lib.frames import frame_digest
from lib.ground.console import redact
from lib.ground.files import ROOT, data_dir
from lib.ground.parameters import Value
from lib.judged import time_keys
from lib.lakehouse import bronze, gold, landing, silver, tables, upkeep
from lib.lakehouse.feeds import FEEDS, POWER, Feed, standard_offset
from lib.lakehouse.peaks import PEAK, hours_by_day, peak_features, peaks
from lib.power.sample import sample_power
from lib.registry.rows import Rows
from lib.run import Run
from lib.sources import described
from lib.tick.sample import sample_days

import fsspec
import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from pyiceberg.catalog import Catalog

Options = Mapping[str, Value]
HOURLY = gold.TABLES[0]
START = "2007-02-15"  # of the sample: its days are of one season
WATCHED = (f"{PEAK}_lag_0", "peak_hour_lag_0", "mean_kw_lag_0")


def take_in(run: Run, options: Options) -> tuple[Catalog, pd.DataFrame]:
    """Take what has landed into the lake of a run; the sample's lake begins anew.

    Parameters
    ----------
    run : Run
    options : mapping
        Parameters of the first stage.

    Returns
    -------
    catalog : pyiceberg.catalog.Catalog
    arrived : pandas.DataFrame of shape (n_files, 5)
        ``feed``, ``delivery``, ``file``, ``digest`` and ``lines``, of what is new.

    Raises
    ------
    ValueError
        If nothing lies in the landing zone.
    """
    if options["source"] != "sample":
        zones = [] if options["as_of"] else [find_zone(options["source"])]
        catalog = _open_lake()
    else:
        catalog, zones = _sample(run.scratch, options)
    arrived = [
        bronze.take_in(catalog, feed, landing.landed(zone, feed))
        .to_pandas()
        .assign(feed=feed.name, delivery=number)
        for number, zone in enumerate(zones, start=1)
        for feed in FEEDS
    ]
    names = ["feed", "delivery", "file", "digest", "lines"]
    found = pd.concat([pd.DataFrame(columns=names), *(a for a in arrived if len(a))])
    return catalog, found[names].reset_index(drop=True)


def lake_of(run: Run, options: Options) -> Catalog:
    """Return the lake of a run; a sample's is made again where an earlier run has made it."""
    if options["source"] != "sample":
        return _open_lake()
    if not (run.scratch / LAKE / "catalog.db").exists():
        take_in(run, options)
    return local_catalog(run.scratch / LAKE)


def left(catalog: Catalog, options: Options, *tables_of: str) -> dict[str, int | None]:
    """Return the snapshots of tables as a stage leaves them, but of a lake that goes with its run.

    A stage is taken from an earlier run only while they are as that left them.
    """
    names = [] if options["source"] == "sample" or options["as_of"] else tables_of
    return {f"{LAKE}.{name}": tables.head(catalog.load_table(name)) for name in names}


def deliveries(catalog: Catalog, feed: Feed, options: Options) -> list[int | None]:
    """Return the snapshots of bronze that silver follows: each of a sample, else the last."""
    log = bronze.open_bronze(catalog, feed).history()
    return [one.snapshot_id for one in log[1:]] if options["source"] == "sample" else [None]


def find_zone(source: str) -> str:
    """Return where a landing zone is: a URL, or a folder below `DATA_DIR` or the repository.

    Raises
    ------
    ValueError
        If it is not there, or has no folder of a feed.
    """
    places = [source] if "://" in source else [str(data_dir() / source), str(ROOT / source)]
    for place in places:
        system, path = fsspec.url_to_fs(place)
        if any(system.isdir(f"{path}/{feed.name}") for feed in FEEDS):
            return place
    names = " and ".join(f"{feed.name}/" for feed in FEEDS)
    raise ValueError(
        f"{redact(source)} is no landing zone: a folder with {names} in it, or one of both, was "
        f"looked for in {' and '.join(map(redact, places))}"
    )


def read_hours(catalog: Catalog, zone: str, as_of: str = "") -> tuple[pd.DataFrame, int]:
    """Return gold's hours by the house's clock, and the snapshot that they are of.

    Parameters
    ----------
    catalog : pyiceberg.catalog.Catalog
    zone : str
        Of the house.
    as_of : str, default ""
        A tag or the number of a snapshot; "" for the hours as they are.

    Raises
    ------
    ValueError
        If there are none.
    """
    table = catalog.load_table(HOURLY.name)
    snapshot = snapshot_of(table, as_of)
    rows = tables.scan(table, at=snapshot).sort("ts").to_pandas()
    if rows.empty:
        raise ValueError(
            f"{HOURLY.name} has no hours to forecast from: no reading of {POWER.name}/ has landed"
        )
    ts = rows["ts"].dt.tz_localize(None) + standard_offset(zone)
    names = [*gold.MEANS, *gold.SUMS, "readings"]
    found = rows[names].set_axis(pd.DatetimeIndex(ts, name="ts").as_unit("us"), axis=0)
    return found.reset_index(), snapshot


def describe(hours: pd.DataFrame, source: str) -> dict:
    """Return what there is to know about hours before their values, for ``dataset.json``."""
    return described("household_peak", source, frame_digest(hours), len(hours)) | {
        "n_missing": int(hours["power_kw"].isna().sum()),
        "start": hours["ts"].iloc[0].isoformat(),
        "end": hours["ts"].iloc[-1].isoformat(),
    }


def load_rows(source: str, options: Options, model: PyFuncModel | None) -> Rows:
    """Return the days of the lake's hours as they are now; the last day's peak is still to come."""
    del model  # any model takes hours
    with tempfile.TemporaryDirectory() as folder:
        if source == "sample":
            catalog, zones = _sample(Path(folder), options)
            bronze.take_in(catalog, POWER, landing.landed(zones[-1], POWER))
            silver.update(catalog, POWER, options["power_zone"])
            gold.update(catalog, HOURLY, options["power_zone"])
        else:
            catalog = _open_lake()
        hours, _ = read_hours(catalog, options["power_zone"])
    table = hours_by_day(hours.set_index("ts")["power_kw"])
    known = peaks(table)[PEAK].dropna()
    return Rows(
        inputs=hours,
        keys=time_keys(table.index + pd.Timedelta(days=1)),
        truth=known.set_axis(time_keys(known.index)),
        facts=describe(hours, source),
    )


def predict(model: PyFuncModel, rows: Rows, keys: pd.Index) -> np.ndarray:
    """Return the peak in kW of the days that keys name."""
    made = model.predict(rows.inputs[["ts", "power_kw"]])
    return made[PEAK].set_axis(time_keys(pd.DatetimeIndex(made["day"]))).reindex(keys).to_numpy()


def watched(rows: Rows) -> pd.DataFrame:
    """Return the peak, its hour and the mean load of each day, by the day that is forecast."""
    table = hours_by_day(rows.inputs.set_index("ts")["power_kw"])
    found = peak_features(table)[list(WATCHED)]
    return found.set_axis(time_keys(table.index + pd.Timedelta(days=1)), axis=0).loc[rows.keys]


def tidy(*, days: int, apply: bool) -> pd.DataFrame:
    """Tidy the lake, or say what would be done, see `lib.lakehouse.upkeep.tidy`."""
    return upkeep.tidy(_open_lake(), days=days, apply=apply)


def lake_to_tidy(run: Run, source: str, seed: int) -> Catalog:
    """Return the lake, or a small one of a sample, with two deliveries."""
    if source != "sample":
        return _open_lake()
    options = {"source": source, "sample_days": 40, "sample_ticks": 200, "seed": seed}
    catalog, _ = take_in(run, options)
    for at in deliveries(catalog, POWER, options):
        silver.update(catalog, POWER, "Europe/Paris", at=at)
    return catalog


def _open_lake() -> Catalog:
    if folder := lake_folder():
        folder.mkdir(parents=True, exist_ok=True)
    return open_catalog(LAKE)


def _sample(folder: Path, options: Options) -> tuple[Catalog, list[str]]:
    """Return an empty lake, and the landing zones of a sample, one for each delivery."""
    for name in (LAKE, "landing"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    seed = options["seed"]
    house = sample_power(options["sample_days"], start=START, seed=seed)
    trades = sample_days(3, n_ticks=options["sample_ticks"], seed=seed)
    zones = landing.make_sample(folder / "landing", house, trades, seed=seed)
    return local_catalog(folder / LAKE), [str(zone) for zone in zones]
