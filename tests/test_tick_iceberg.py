"""Ticks in Iceberg tables: the right files, in order, and no more."""

import pickle
from datetime import UTC, datetime, timedelta

from lib.tick.read import tick_format
from lib.tick.rules import EARLIEST, LATEST, Rules, make_session
from lib.tick.sample import sample_days
from lib.tick.stream import find_ticks

import polars as pl
import pytest
from tick_files import refuses


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables `utc` and `local` of two symbols and three days, two files for each of both."""
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    folder = tmp_path_factory.mktemp("iceberg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYICEBERG_CATALOG__LOCAL__URI", f"sqlite:///{folder}/catalog.db")
        patch.setenv("PYICEBERG_CATALOG__LOCAL__WAREHOUSE", f"file://{folder}/warehouse")
        patch.setattr(catalog, "_ENV_CONFIG", Config())  # which was read at import
        local = catalog.load_catalog("local")
        local.create_namespace("market")
        days = {s: list(sample_days(3, n_ticks=50, seed=k)) for k, s in enumerate(["AAA", "BBB"])}
        for name in ("utc", "local"):
            made = None
            for symbol, day in [(s, day) for s, of_s in days.items() for day in of_s[::-1]]:
                time = pl.col("ts")
                if name == "local":
                    time = time.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
                frame = day.select(time.alias("time"), "price", "size", symbol=pl.lit(symbol))
                rows = frame.to_arrow()
                made = made or local.create_table(f"market.{name}", rows.schema)
                made.append(rows[25:])
                made.append(rows[:25])
        # two files of both symbols, of which the second begins first, but not for BBB
        made = None
        for parts in ((("AAA", 2), ("BBB", 1)), (("AAA", 0), ("BBB", 2))):
            frames = [
                days[name][k].select(time="ts", price="price", size="size", symbol=pl.lit(name))
                for name, k in parts
            ]
            rows = pl.concat(frames).to_arrow()
            made = made or local.create_table("market.mixed", rows.schema)
            made.append(rows)
        for shift in ("0d", "100y"):
            rows = days["AAA"][0].select(pl.col("ts").dt.offset_by(shift), "price", "size")
            made = local.create_table_if_not_exists("market.late", rows.to_arrow().schema)
            made.append(rows.to_arrow())
        yield


@pytest.fixture
def opened(monkeypatch):
    """The data files that pyiceberg was asked for."""
    from pyiceberg.io.pyarrow import ArrowScan

    files, read = [], ArrowScan.to_record_batches

    def watched(self, tasks):
        tasks = list(tasks)
        files.extend(task.file for task in tasks)
        return read(self, tasks)

    monkeypatch.setattr(ArrowScan, "to_record_batches", watched)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("name", ["utc", "local"])
def test_iceberg_table_is_read_by_day_and_symbol_and_no_more(tables, opened, load, name):
    options = {"columns": ["timestamp=time"], "symbol": "BBB", "n_days": 1, "as_of": "2025-12-18"}
    report, ticks = load(f"iceberg:local.market.{name}", **options)
    assert report.days["kept"].to_dict() == {"2025-12-18": 50} and report.symbol == "BBB"
    made = list(sample_days(3, n_ticks=50, seed=1))[1]
    assert ticks.select("ts", "price").equals(made.select("ts", "price"))
    assert len(opened) == 2


@pytest.mark.slow
def test_iceberg_days_are_read_in_order_whatever_the_order_of_the_files(tables, load):
    options = {"columns": ["timestamp=time"], "symbol": "AAA", "batch_rows": 7}
    ticks = load("iceberg:local.market.utc", **options)[1]
    made = pl.concat(list(sample_days(3, n_ticks=50, seed=0)))
    assert ticks.select("ts", "price").equals(made.select("ts", "price"))


@pytest.mark.parametrize("n_days", [0, 1, 2])
def test_iceberg_files_of_several_symbols_are_put_in_order_of_the_one_wanted(tables, load, n_days):
    options = {"columns": ["timestamp=time"], "symbol": "BBB", "n_days": n_days}
    report, ticks = load("iceberg:local.market.mixed", **options)
    made = pl.concat(list(sample_days(3, n_ticks=50, seed=1))[1:][-n_days:])
    assert ticks.select("ts", "price").equals(made.select("ts", "price"))
    assert report.rows["read"] == sum(report.rows.values()) / 2


def test_iceberg_file_of_the_future_is_not_left_out_silently(tables, load, tmp_path):
    source, columns = "iceberg:local.market.late", ["timestamp=ts"]
    refuses(
        tmp_path, source, "row 1: the timestamp is '2125-12-17.* in the future", columns=columns
    )
    assert load(source, columns=columns, as_of="2025-12-18")[0].n_ticks == 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["utc", "local"])
def test_iceberg_days_of_another_zone_are_whole(tables, load, name):
    options = {"columns": ["timestamp=time"], "symbol": "AAA", "n_days": 1, "as_of": "2025-12-18"}
    options |= {"session": "00:00-24:00", "session_zone": "Asia/Tokyo", "max_deviation": 1.0}
    ticks = load(f"iceberg:local.market.{name}", **options)[1]
    made = pl.concat(list(sample_days(3, n_ticks=50, seed=0)))
    border = datetime(2025, 12, 17, 15, tzinfo=UTC)
    expected = made.filter(pl.col("ts").is_between(border, border + timedelta(days=1)))
    assert ticks.select("ts", "price").equals(expected.select("ts", "price"))


def test_iceberg_table_without_a_symbol_named_is_mixed(tables, tmp_path):
    source, message = "iceberg:local.market.utc", "several symbols, AAA, BBB"
    refuses(tmp_path, source, message, columns=["timestamp=time"])


def test_iceberg_table_that_is_not_there_is_named(tables, tmp_path):
    for name in ("local.market.none", "local.none.ticks", "other.market.utc"):
        catalog, _, table = name.partition(".")
        refuses(tmp_path, f"iceberg:{name}", f"catalog '{catalog}' gives no table '{table}'")
    refuses(tmp_path, "iceberg:ticks", "give iceberg:<catalog>.<namespace>.<table>")


def test_iceberg_table_without_the_column_says_which_there_are(tables, tmp_path):
    message = "no column 'timestamp' for timestamp, it has 'time', 'price', 'size'"
    refuses(tmp_path, "iceberg:local.market.utc", message)
    refuses(
        tmp_path,
        "iceberg:local.market.utc",
        "price is of type double, timestamp or timestamptz was expected",
        columns=["timestamp=price"],
    )


@pytest.mark.slow
def test_data_files_are_read_in_other_processes(tables):
    rules = Rules(make_session("09:30-16:00", "America/New_York"), LATEST, False, 0.005, 0.2)
    form = tick_format("trades", ["timestamp=time"], "UTC")
    found = find_ticks("iceberg:local.market.utc", "AAA", form, rules)
    stretches = found.stretches(EARLIEST)
    assert [len(stretch.files) for stretch in stretches] == [2, 2, 2]
    again, reader = pickle.loads(pickle.dumps((stretches, found.reader.anew())))
    ticks = pl.concat(batch for stretch in again for batch in reader.ticks(stretch, None))
    expected = pl.concat(sample_days(3, n_ticks=50, seed=0))
    assert ticks["ts"].equals(expected["ts"]) and ticks["price"].equals(expected["price"])
