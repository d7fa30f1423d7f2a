"""Ticks by parts: the same bits however the files were cut, and whoever has read them."""

from datetime import date
from itertools import pairwise

from lib.ground.dataset import Dataset
from lib.ground.files import MANIFEST
from lib.tick.bars import bars_of_days, to_bars
from lib.tick.load import iter_ticks, load_ticks
from lib.tick.sample import sample_ticks

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

DAYS = [date(2024, 5, day) for day in (1, 2, 3)]
WHOLE = pl.concat(sample_ticks(day, n_ticks=200) for day in DAYS).rename({"ts": "timestamp"})
ZONES = {"session": "00:00-24:00", "session_zone": "Asia/Tokyo"}
"""Sessions of New York, each of two days in Tokyo, the first of which ends in the next file."""


def put(folder, cuts):
    """Write the ticks into files, cut before the given rows."""
    folder.mkdir()
    borders = sorted({0, *cuts, len(WHOLE)})
    for begin, end in pairwise(borders):
        WHOLE[begin:end].drop("day").write_parquet(folder / f"{begin:04}.parquet")
    return str(folder)


def loaded(folder, source, **options):
    """Load; return what there is to compare."""
    ticks = Dataset(UPath(folder))
    report = load_ticks(source, ticks, **ZONES, **options)
    manifest = (folder / MANIFEST).read_bytes()
    return report.digest, report.rows, report.days.to_csv(), manifest


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, len(WHOLE) - 1), max_size=9), st.integers(0, 4))
def test_files_cut_anywhere_give_the_same_parts(tmp_path_factory, cuts, n_days):
    place = tmp_path_factory.mktemp("cut")
    whole = loaded(place / "whole", put(place / "one", []), n_days=n_days)
    cut = loaded(place / "parts", put(place / "many", cuts), n_days=n_days)
    assert cut[0] == whole[0] and cut[3] == whole[3]
    if not n_days:  # otherwise files of earlier days are left unopened
        assert cut == whole


@pytest.mark.slow
def test_four_processes_give_the_same_parts(tmp_path):
    source = put(tmp_path / "raw", [150, 350, 500])
    alone = loaded(tmp_path / "alone", source)
    assert loaded(tmp_path / "four", source, n_workers=4) == alone


@pytest.mark.slow
def test_bars_of_days_are_those_of_all_ticks(tmp_path):
    ticks = Dataset(UPath(tmp_path / "ticks"))
    load_ticks("sample", ticks, sample={"n_days": 3, "n_ticks": 2_000})
    for kind, size in (("time", 5), ("tick", 7), ("volume", 900), ("dollar", 1e5)):
        (found,) = bars_of_days(ticks.parts, kind=kind, size=size)
        pd.testing.assert_frame_equal(found, to_bars(iter_ticks(ticks.parts), kind=kind, size=size))
    first, second = bars_of_days(ticks.parts, size=5, n_phases=2)
    assert set((first.index.asi8 // 500_000) % 10) == {0}
    assert set((second.index.asi8 // 500_000) % 10) == {5}
    assert first["count"].sum() == second["count"].sum() == 6_000
