"""The lake as others see it: its sample, its catalog, its tables as sources, and as they were."""

from itertools import pairwise
from types import SimpleNamespace

from lib.catalogs import load_table, open_catalog, snapshot_of
from lib.commands.reproduce import pinned
from lib.lakehouse import gold, silver, tables
from lib.lakehouse.changes import changes, pruned
from lib.lakehouse.feeds import POWER, TICK
from lib.lakehouse.plots import plot_changes
from lib.once import data
from lib.pipelines import lakehouse
from lib.power.load import load_power
from lib.power.look import look_at_power

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from lake_files import HOUR, Lake, readings, trades
from pandas.testing import assert_frame_equal

pytestmark = pytest.mark.slow
OPTIONS = {"source": "sample", "as_of": "", "sample_days": 40, "sample_ticks": 200, "seed": 0}
OPTIONS |= {"power_zone": "Europe/Paris", "tick_zone": "America/New_York"}


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """The lake below `DATA_DIR`, with a landing zone beside it."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    made = Lake(tmp_path / "lake")
    made.zone = tmp_path / "landing"
    return made


def test_sample_holds_all_that_goes_wrong_and_every_line_of_it_is_found(tmp_path):
    run = SimpleNamespace(scratch=tmp_path)
    catalog, arrived = lakehouse.take_in(run, OPTIONS)
    assert sorted(arrived["delivery"].unique()) == [1, 2] and (arrived["lines"] == 0).sum() == 1
    table = silver.open_silver(catalog, POWER)
    for at in lakehouse.deliveries(catalog, POWER, OPTIONS):
        before = tables.head(table)
        silver.update(catalog, POWER, "Europe/Paris", at=at)
        table.refresh()
    totals = silver.totals(catalog, POWER)
    assert (totals["replaced"], totals["repeats"], totals["corrected"]) == (1437, 30, 30)
    assert totals["refused"] == 18 and totals["rows"] == 40 * 1440 - 15, "3 are of a replaced file"
    found = changes(table, POWER.key, before, tables.head(table))
    assert found.select(pl.col("added", "removed").sum()).row(0) == (2 * 1440 + 3, 0)
    assert 1000 < found["corrected"].sum() <= 1470 and len(found) == 4
    rows = tables.scan(table, columns=("day", "outdoor_temperature_c"))
    known = rows.drop_nulls()["day"]
    assert known.min() == rows["day"].unique().sort()[31]
    assert pruned(table) == (1, 40)
    again, _ = lakehouse.take_in(run, OPTIONS)
    assert tables.head(silver.open_silver(again, POWER)) is None, "the sample begins anew"


def test_power_reads_gold_as_it_reads_the_files_themselves(lake):
    day = [*range(0, 900), *range(960, 1440)]
    for number in (1, 2):
        lake.land(f"power/{number}.txt", readings(number, day if number == 1 else range(600), 1.5))
    lake.run([POWER])
    source = "iceberg:lake.power.hourly"
    options = {"time_zone": "Europe/Paris", "resolution": "hour"}
    found = load_power(source, **options)
    wanted = load_power("landing/power/*.txt", resolution="hour")
    assert_frame_equal(found, wanted.loc[: found.index[-1]], check_freq=False)
    assert found["power_kw"].isna().sum() == 1
    assert "Iceberg" in repr(look_at_power(source, {**options, "columns": [], "layout": []}))


def test_tick_reads_the_checked_trades_as_it_reads_the_files_themselves(lake, load):
    lake.land("tick/A/2013-10-07.csv", trades(7, [10.0, 10.0] + [10.01] * 48 + [10.02] * 10))
    lake.run([TICK])
    options = {"columns": ["timestamp=ts"], "symbol": "A"}
    found, ticks = load("iceberg:lake.tick.silver", **options)
    wanted, _ = load(str(lake.zone / "tick/A/2013-10-07.csv"))
    assert found.digest == wanted.digest and len(ticks) == 60
    options["columns"] += ["price=close", "size=volume"]
    _, of_bars = load("iceberg:lake.tick.bars_5s", **options)
    assert of_bars["price"].to_list() == [10.01, 10.02]


def test_tables_are_read_as_they_were_by_tag_and_by_number(lake):
    lake.land("power/1.txt", readings(1, HOUR, 1.0))
    lake.run([POWER])
    then, snapshot = lakehouse.read_hours(lake.catalog, "Europe/Paris")
    for _ in range(2):
        assert tables.tag(lake.table("power.hourly"), snapshot, "forest-3") == "forest-3"
    lake.land("power/2.txt", readings(2, HOUR, 2.0))
    lake.run([POWER])
    now, other = lakehouse.read_hours(lake.catalog, "Europe/Paris")
    assert other != snapshot and len(now) == 2 and then["ts"][0].hour == 10
    for moment in ("forest-3", str(snapshot)):
        assert lakehouse.read_hours(lake.catalog, "Europe/Paris", moment)[0].equals(then)
        assert load_table(f"lake.power.hourly@{moment}")[1] == snapshot
    sources = ["iceberg:lake.power.hourly@forest-3", "iceberg:lake.power.hourly"]
    marks = {data.fingerprints({"source": source})["source"] for source in sources}
    assert len(marks) == 2
    with pytest.raises(ValueError, match="no snapshot 'forest-4'.*forest-3, main"):
        snapshot_of(lake.table("power.hourly"), "forest-4")


def test_snapshot_of_a_version_that_another_registry_has_too_is_tagged_with_its_number(lake):
    """A registry that begins anew counts from 1, and the lake outlives it."""
    table = tables.open_table(lake.catalog, "x.y", {"day": silver.DateType()})
    for _ in range(3):
        table.append(table.schema().as_arrow().empty_table())
    first, *others = [one.snapshot_id for one in table.snapshots()]
    assert tables.tag(table, first, "forest-1") == "forest-1"
    for other in (*others, *others):
        assert tables.tag(table, other, "forest-1") == f"forest-1-{other}"
        assert snapshot_of(table, f"forest-1-{other}") == other
    assert snapshot_of(table, "forest-1") == first
    with pytest.raises(ValueError, match="x.y has no snapshot 17 .* to call forest-1"):
        tables.tag(table, 17, "forest-1")


def test_run_is_made_again_from_the_snapshot_that_its_data_name():
    values = {"source": "landing", "as_of": "", "seed": 0, "target": "kw"}
    dataset = {"as_of": "17", "source": "landing", "name": "x", "target": "other"}
    assert pinned(values, dataset) == values | {"as_of": "17"}


def test_run_of_a_moment_takes_nothing_in(lake):
    lake.land("power/1.txt", readings(1, HOUR, 1.0))
    options = OPTIONS | {"source": "landing"}
    _, arrived = lakehouse.take_in(None, options | {"as_of": "17", "source": "no/longer/there"})
    assert arrived.empty
    _, arrived = lakehouse.take_in(None, options)
    assert arrived["file"].to_list() == ["1.txt"]


def test_landing_zone_of_one_feed_alone_is_enough_and_of_trades_alone_has_no_hours(lake):
    lake.land("tick/A/1.csv", trades(7, [10.0]))
    lake.run()
    assert pruned(lake.table("power.silver")) == (0, 0) and pruned(lake.table("tick.silver"))
    with pytest.raises(ValueError, match=r"no hours to forecast from: no reading of power/ has"):
        lakehouse.read_hours(lake.catalog, "Europe/Paris")


@pytest.mark.parametrize("n_days", [3, 120])
def test_days_below_the_changes_can_be_read_where_two_plots_share_a_page(n_days):
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), dpi=80, layout="constrained")
    days = pd.date_range("2007-02-15", periods=n_days).date
    changed = pd.DataFrame({"day": days, "added": 9, "corrected": 0, "removed": 0})
    ax = plot_changes(changed, ax=axes[1])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    plt.close(figure)
    assert len(boxes) > 2
    assert all(one.x1 < following.x0 for one, following in pairwise(boxes))


def test_folder_that_is_no_landing_zone_is_refused(lake, tmp_path):
    with pytest.raises(ValueError, match=r"nothing is no landing zone: a folder with power/ and"):
        lakehouse.find_zone("nothing")


def test_lake_is_where_pyiceberg_s_settings_say(lake, tmp_path, monkeypatch):
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", f"file://{tmp_path}/other")
    monkeypatch.setattr(catalog, "_ENV_CONFIG", Config())  # which was read at import
    tables.open_table(open_catalog("lake"), "x.y", {"day": silver.DateType()})
    assert (tmp_path / "other.db").exists()
    monkeypatch.delenv("PYICEBERG_CATALOG__LAKE__URI")
    monkeypatch.delenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE")
    monkeypatch.setenv("DATA_DIR", "memory://data")
    with pytest.raises(ValueError, match="is no folder for SQLite: say where the catalog lake is"):
        open_catalog("lake")


def test_lake_on_s3_is_as_one_on_local_files(tmp_path, bucket, s3_server, postgres_url):
    """With the catalog in PostgreSQL, or in SQLite where that is not installed."""
    from pyiceberg.catalog import load_catalog

    uri = postgres_url or f"sqlite:///{tmp_path}/s3.db"
    local, remote = Lake(tmp_path / "local"), Lake(tmp_path / "remote")
    place = {"uri": uri, "warehouse": f"s3://{bucket}", "s3.endpoint": s3_server}
    place |= {"s3.region": "us-east-1"}  # else Amazon is asked, and each file system made at length
    place |= {"s3.access-key-id": "testing", "s3.secret-access-key": "testing"}
    remote.catalog = load_catalog("s3", type="sql", **place)
    for lake in (local, remote):
        lake.land("power/1.txt", readings(1, HOUR, 1.0) + "x\n")
        lake.land("tick/A/1.csv", trades(7, [10.0, 10.0, 10.5]))
        lake.run()
    assert remote.table("power.silver").location().startswith(f"s3://{bucket}")
    assert remote.content() == local.content()
    for lake in (local, remote):
        lake.land("power/1.txt", readings(1, HOUR, 2.0), hour=1)
        assert lake.run([POWER])["power"]["days"] == 1
    told = lakehouse.upkeep.tidy(remote.catalog, days=0, apply=True)
    assert (told["orphans"] == 0).all() and (told["mb_after"] >= 0).all()
    assert remote.content() == local.content()


def test_rows_of_the_registry_are_days_and_the_next_day_can_be_asked_about(lake):
    for day in range(1, 4):
        lake.land(f"power/{day}.txt", readings(day, range(1440), day))
    lake.run([POWER])
    rows = lakehouse.load_rows("landing", OPTIONS | {"source": "landing"}, None)
    assert rows.keys.tolist() == [f"2007-01-0{day}T00:00:00" for day in (2, 3, 4)]
    assert rows.truth.to_dict() == {f"2007-01-0{day}T00:00:00": day for day in (1, 2, 3)}
    assert lakehouse.watched(rows)["peak_kw_lag_0"].tolist() == [1, 2, 3]

    def forecast(hours):  # one day more than it has, the peak of the day before
        peak = hours.set_index("ts")["power_kw"].resample("D").max()
        return pd.DataFrame({"day": peak.index + pd.Timedelta(days=1), "peak_kw": peak.to_numpy()})

    model = SimpleNamespace(predict=forecast)
    assert lakehouse.predict(model, rows, rows.keys[::-1]).tolist() == [3, 2, 1]
    assert np.isnan(lakehouse.predict(model, rows, pd.Index(["2007-01-01T00:00:00"]))).all()
    assert gold.TABLES[0] is lakehouse.HOURLY
