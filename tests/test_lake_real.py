"""The lake on real data: a slice of the house and of SPY, cut into daily files."""

from lib.ground.files import data_dir
from lib.power.load import load_power

import numpy as np
import polars as pl
import pytest
import real_landing
from lake_files import Lake

HAS_DATA = (data_dir() / real_landing.POWER).exists() and (data_dir() / real_landing.TICKS).is_dir()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(not HAS_DATA, reason="no real data below DATA_DIR"),
]
N_DAYS = 21


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake(tmp_path_factory.mktemp("real"))
    real_landing.cut(made.zone, days=N_DAYS, tick_days=1)
    made.told = made.run()
    return made


def test_every_line_of_the_house_and_of_spy_is_found_again(lake):
    power, ticks = lake.told["power lines"], lake.told["tick lines"]
    minutes = (N_DAYS - 1) * 1440 + 396  # the first day begins at 17:24
    assert (power["rows"], power["header"], power["refused"]) == (minutes, N_DAYS, 0)
    assert ticks["rows"] == ticks["lines"] - 1 > 200_000 and ticks["repeats"] == 0
    zone = lake.zone / real_landing.TICKS
    raw = pl.read_csv(next(zone.iterdir()), infer_schema_length=0)
    found = lake.rows("tick.silver")
    assert found["size"].sum() == raw["size"].cast(pl.Float64).sum()
    assert found["price"].sum() == pytest.approx(raw["price"].cast(pl.Float64).sum())


def test_hours_are_those_that_the_power_pipeline_makes_of_the_same_text(lake):
    hourly = lake.rows("power.hourly").sort("ts").to_pandas()
    text = load_power(real_landing.POWER, resolution="hour").iloc[: len(hourly)]
    assert (hourly["ts"].dt.tz_convert("Etc/GMT-1").dt.tz_localize(None) == text.index).all()
    columns = list(text.columns)
    values, expected = hourly[columns].to_numpy(float), text[columns].to_numpy()
    assert np.allclose(values, expected, rtol=1e-9, equal_nan=True)


def test_bars_hold_every_share_and_the_prices_of_the_trades(lake):
    bars, ticks = lake.rows("tick.bars_5s"), lake.rows("tick.silver")
    assert bars["volume"].sum() == ticks["size"].sum() and bars["count"].sum() == len(ticks)
    assert (bars["low"].min(), bars["high"].max()) == (ticks["price"].min(), ticks["price"].max())
    (day,) = lake.rows("tick.daily").to_dicts()
    order = ticks.sort("ts", "line")["price"]
    assert (day["open"], day["close"]) == (order[0], order[-1])
