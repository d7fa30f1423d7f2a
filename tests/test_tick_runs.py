"""Whole runs of the tick pipeline through Airflow."""

from datetime import UTC, date, datetime

from lib import judged, tracking
from lib.ground.files import data_dir, state_dir
from lib.ground.runs import run_folder_name
from lib.registry import lifecycle
from lib.run import open_run
from lib.tick.sample import sample_ticks

import mlflow
import numpy as np
import polars as pl
import pytest
from serving import evaluated, executed_here
from whole_runs import (
    SMALL_TICK,
    asset_events,
    copied,
    errors,
    impatient,
    lines_of_training,
    mlflow_run,
    prepare,
    report,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]
SPY = data_dir() / "tick" / "SPY"


@pytest.fixture(scope="module", autouse=True)
def airflow():
    prepare()


@pytest.fixture
def tick():
    return impatient("tick")


def test_sample_run_registers_what_it_evaluated(tick_run):
    done, tasks, run = tick_run
    assert done.state == "success"
    assert all(report(run, stage)[0] == "completed" for stage in run.records())
    metrics, logged = run.read("metrics.json"), mlflow_run(run)
    assert logged.info.status == "FINISHED"
    assert {k: logged.data.metrics[k] for k in metrics} == pytest.approx(metrics)
    assert metrics["mse"] < metrics["persistence_mse"] and metrics["planted_share_of_best"] > 0.9
    assert abs(metrics["random_walk_rank_ic"]) < 0.06
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.digest == run.read("dataset.json")["digest"][:36]
    registered = run.read("registration.json")
    assert registered["name"] == "tick_first_sample"
    assert (registered["alias"], tasks["promote"].state) == ("production", "success")
    assert [name for name, _ in asset_events(done)] == ["models/tick"]
    assert (
        lifecycle.version(registered["name"], registered["version"]).tags["run_dir"] == run.run_dir
    )
    model = mlflow.pyfunc.load_model(registered["uri"])
    bars, (frame, _) = run.read("bars.parquet"), judged.read(run)
    test = bars[bars["day"].isin(run.read("split.json")["test_days"])]
    made = model.predict(test.reset_index())["expected_return_bps"]
    made = made.set_axis(judged.time_keys(test.index))
    evaluated = frame["gru"] if "gru" in frame else frame["model"]
    assert len(evaluated) > 1000
    np.testing.assert_allclose(made.loc[frame.index], evaluated, atol=1e-6)


def test_network_is_compared_again_with_itself_and_stays_at_staging(tick_run):
    again = copied(tick_run[2], "05_register", "again")
    executed_here(again.run_dir, "05_register", model_name="tick_first")
    assert again.read("registration.json")["alias"] == "staging"
    decision, before = again.read("gate.json"), tick_run[2].read("registration.json")
    assert decision["outcome"] == "not_better"
    assert decision["champion"]["version"] == before["version"]
    (row,) = [row for row in decision["rows"] if row["decisive"]]
    assert row["metric"] == "rank_ic" and row["candidate"] == pytest.approx(row["champion"])


def test_killed_training_goes_on_from_its_last_epoch(tick_run):
    done, tasks, run = tick_run
    assert done.state == "success", errors(run, "03_train")
    assert tasks["03_train"].try_number == 2, errors(run, "03_train")
    lines = lines_of_training(run)
    assert "epoch 1 of 6" not in lines[0], "training began anew"
    assert lines[-1].endswith("epoch 6 of 6")
    assert "DeadKernelError" in report(run, "03_train.attempt-1")[1]
    assert run.record("03_train")["state"] == "finished"
    assert not (state_dir() / ".scratch" / "tick" / run.name / "training").exists()


def test_model_of_quotes_below_its_floor_is_not_registered(tmp_path):
    middle = pl.col("price")
    for day in (1, 2, 3):
        made = sample_ticks(date(2024, 5, day), n_ticks=8_000)
        quotes = made.select(timestamp="ts", bid=middle - 0.005, ask=middle + 0.005)
        quotes.write_parquet(tmp_path / f"{day}.parquet")
    asked = {"source": str(tmp_path), "kind": "quotes", "train_days": 2}
    asked |= {"test_days": 1, "n_folds": 1, "n_phases": 1, "min_rank_ic_low": 0.9, "model": "gru"}
    run = evaluated("tick/quotes", **SMALL_TICK, **asked)
    assert run.read("split.json")["quotes"]
    with pytest.raises(lifecycle.GateError, match="rank_ic_low"):
        executed_here("tick/quotes", "05_register")
    assert not tracking.open_client().search_model_versions("name = 'tick_gru'")


def test_bars_that_end_at_the_same_moment_are_each_judged_once(tmp_path):
    for day in (1, 2, 3):
        made = sample_ticks(date(2024, 5, day), n_ticks=8_000)
        stamped = made.select(pl.col("ts").dt.truncate("10s").alias("timestamp"), "price", "size")
        stamped.write_parquet(tmp_path / f"{day}.parquet")
    asked = {"source": str(tmp_path), "train_days": 2, "test_days": 1, "n_folds": 1, "n_phases": 1}
    asked |= {"bar": "volume", "bar_size": 1000.0, "model": "gru"}
    asked |= {"min_rank_ic_low": -1.0, "max_mse_vs_persistence": 2.0}
    run = evaluated("tick/sweeps", **SMALL_TICK | asked)
    bars, (rows, _) = run.read("bars.parquet"), judged.read(run)
    assert bars.index.duplicated().mean() > 0.1
    assert len(run.read("features.parquet")) == len(bars)
    close = bars["close"].set_axis(judged.time_keys(bars.index))
    moved = 1e4 * np.log(close.shift(-1) / close)
    np.testing.assert_allclose(rows["truth"], moved[rows.index])
    executed_here("tick/sweeps", "05_register")


@pytest.mark.real
@pytest.mark.skipif(not SPY.exists(), reason="no real data")
def test_back_fill_of_a_day_sees_nothing_later_and_finds_the_bounce(tick):
    params = {"source": str(SPY), "n_phases": 1, "n_models": 1, "train_days": 3, "test_days": 1}
    params = SMALL_TICK | params | {"bar_size": 5.0, "model": "gru", "n_folds": 1}
    for scheduled in (tick, *tick.tasks):
        scheduled.start_date = datetime(2013, 1, 1, tzinfo=UTC)  # Airflow runs no task before it
    date = datetime(2013, 10, 10, 22, 30, tzinfo=UTC)
    done = tick.test(run_conf=params, logical_date=date)
    run = open_run(f"tick/{run_folder_name(done.run_id)}")
    assert done.state == "success"
    assert run.record("01_load")["parameters"]["as_of"] == "2013-10-10"
    assert mlflow_run(run).data.params["as_of"] == "2013-10-10"
    days = run.read("bars.parquet")["day"].unique().tolist()
    assert days == ["2013-10-07", "2013-10-08", "2013-10-09", "2013-10-10"]
    metrics = run.read("metrics.json")
    assert metrics["rank_ic_low"] > 0.15 and metrics["mse_vs_persistence"] < 0.97
    assert metrics["break_even_bps"] < metrics["spread_bps"], "the bounce is not to be earned"
    assert run.read("registration.json")["name"] in (
        "tick_gru",
        "tick_ridge",
        "tick_lightgbm",
    )


@pytest.mark.parametrize("content", ["timestamp,price\n", ""])
def test_bad_ticks_end_the_first_stage_with_the_file(tmp_path, content):
    (tmp_path / "2013-10-07.csv").write_text(content)
    with pytest.raises(ValueError, match=r"2013-10-07\.csv"):
        evaluated("tick/bad", source=str(tmp_path))
    run = open_run("tick/bad")
    assert not (run.path / "ticks").exists()
    assert run.record("01_load")["state"] != "finished"
