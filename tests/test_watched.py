"""What is watched of a house, of bars and of images, and what an image is called."""

import math

from lib.images.watched import image_columns, image_keys
from lib.power.features import measured
from lib.power.frame import aggregate_power
from lib.power.sample import sample_power
from lib.power.watched import power_columns
from lib.tick.watched import bar_columns

import numpy as np
import pandas as pd
import pytest


def test_house_shows_a_changed_unit_by_its_power_factor():
    raw = aggregate_power(sample_power(28, seed=5, gaps=False), "hour")
    factor = power_columns(measured(raw))["power_factor"]
    assert factor.between(0.3, 1.05).all()
    lowered = raw.assign(voltage_v=120.0)
    assert power_columns(measured(lowered)).isna().all(axis=None)


def test_bars_are_watched_apart_from_the_level_of_their_prices():
    bars = pd.DataFrame(
        {
            "day": ["a", "a", "b"],
            "close": [100.0, 101.0, 50.0],
            "high": [100.0, 101.0, 50.0],
            "low": [100.0, 100.0, 50.0],
            "volume": [10.0, 0.0, 5.0],
            "count": [1.0, 1.0, 1.0],
            "signed_volume": [-10.0, 0.0, 5.0],
            "spread": [0.01, 0.0101, 0.005],
        }
    )
    found = bar_columns(bars)
    assert found["return_bps"].isna().tolist() == [True, False, True]
    assert found["return_bps"][1] == pytest.approx(1e4 * math.log(1.01))
    assert found["imbalance"].tolist()[::2] == [-1, 1] and math.isnan(found["imbalance"][1])
    assert found["spread_bps"].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 1), (5, 4, 4, 3)])
def test_images_are_watched_by_light_and_colour(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = image_columns(images)
    assert len(found.columns) == (6 if shape[-1] == 3 else 3)
    assert found["brightness"].to_numpy() == pytest.approx(images.reshape(5, -1).mean(axis=1))
    flat = image_columns(np.full(shape, 7, dtype=np.uint8))
    assert (flat["contrast"] == 0).all() and (flat["sharpness"] == 0).all()


def test_image_has_the_same_name_wherever_it_stands():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    keys = image_keys(images[[0, 1, 0, 2]])
    assert keys[2] == f"{keys[0]}/1" and keys.is_unique
    assert image_keys(images[::-1]).tolist() == [keys[3], keys[1], keys[0]]
