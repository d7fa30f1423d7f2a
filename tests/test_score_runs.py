"""Scoring as a whole: through Airflow with its alarm, and with a version from a registry."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

from lib import tracking
from lib.ground.files import outputs_dir
from lib.pipelines import power_sample
from lib.power.demo import N_NEW, sample_pair
from lib.power.features import measured
from lib.power.watched import power_columns
from lib.registry import drift, standing, store

import jinja2
import pandas as pd
import pytest
from late import Late
from whole_runs import asset_events, go, impatient, prepare, resume

form = Late("lib.dag.form")
context = Late("airflow.sdk.execution_time.context")
NAME = "house_sample"


def promoted(pipeline, name, day):
    return SimpleNamespace(
        asset=form.model_asset(pipeline),
        source_aliases=[],
        extra={"name": name, "version": 1},
        timestamp=datetime(2026, 11, day, tzinfo=UTC),
    )


def test_model_is_the_one_whose_promotion_came_last():
    template = jinja2.Template(form.PROMOTED_MODEL % "by_the_clock")
    given = [promoted("mnist", "mnist_cnn", 3), promoted("tick", "tick_lstm", 5)]
    given += [promoted("mnist", "mnist_residual", 4)]
    for events, expected in ((given, "tick_lstm"), (given[::2], "mnist_residual")):
        known = context.TriggeringAssetEventsAccessor.build(events)
        assert template.render(triggering_asset_events=known) == expected
    none = context.TriggeringAssetEventsAccessor.build([])
    assert template.render(triggering_asset_events=none) == "by_the_clock"


@pytest.fixture(scope="module")
def airflow():
    prepare()


@pytest.mark.kernel
def test_undisturbed_data_skip_the_alarm_and_a_grown_error_updates_the_asset(airflow):
    dag = impatient("score")
    done, tasks, run = go(dag)
    assert done.state == "success" and tasks["alarm"].state == "skipped"
    assert asset_events(done) == []
    assert run.read("counts.json")["n_scored"] == len(run.read("predictions.parquet")) == 337
    assert run.read("watch.json")["why"] == []

    done, tasks, run = resume(dag, run, "02_watch", max_growth=0.0)
    assert done.state == "success" and tasks["alarm"].state == "success"
    ((name, extra),) = asset_events(done)
    assert name == form.drift_asset("power").name
    assert extra["run_dir"] == run.run_dir and extra["name"] == "sample"
    assert extra["why"] == run.read("watch.json")["why"] and len(extra["why"]) == 1


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A small forecaster as a version in production, and a file of readings that are new to it."""
    folder = tmp_path_factory.mktemp("house")
    few, many, raw = sample_pair(folder)
    raw = raw.iloc[-N_NEW - 200 :]
    raw.to_parquet(folder / "new.parquet")
    profile = drift.profile(power_columns(measured(raw)), 168)
    (folder / "profile.json").write_text(json.dumps(profile))
    client = tracking.open_client()
    made = client.create_run(client.create_experiment("house"))
    client.log_artifact(made.info.run_id, str(folder / "profile.json"), "results")
    client.create_registered_model(NAME)
    until = raw.index[-28 * 24 - 1].isoformat()
    for path in (few, many):
        client.create_model_version(
            NAME,
            str(path),
            run_id=made.info.run_id,
            tags={
                "run_dir": "power/house",
                "source": str(folder / "new.parquet"),
                "learned_until": until,
                "test": json.dumps(power_sample.TEST),
                "metric.rmse": "0.5",
            },
        )
    client.set_registered_model_alias(NAME, "production", "2")
    return raw


@pytest.mark.kernel
def test_version_in_production_scores_its_own_source_once(registered, airflow):
    served = standing.open_version(NAME, "@production")
    assert (served.number, served.pipeline, served.metrics) == (2, "power", {"rmse": 0.5})
    assert store.profile_of(served)["window_rows"] == 168
    dag = impatient("score")
    done, _, run = go(dag, model=NAME)
    assert done.state == "success"
    mine = run.read("predictions.parquet")
    counts = run.read("counts.json")
    assert counts["n_scored"] == len(mine) and set(mine["version"]) == {2}
    assert counts["n_scored"] + counts["n_without"] == 28 * 24 + 1
    whole = served.model.predict(registered.reset_index()).set_index("ts")["power_kw"]
    expected = whole[pd.DatetimeIndex(mine.index)]
    assert mine["power_kw"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)

    done, _, run = go(dag, model=NAME, version="1")
    assert run.read("counts.json")["n_scored"] == 0 and run.read("predictions.parquet").empty
    assert run.read("watch.json")["version"] == 1
    kept = store.Store(outputs_dir() / "score" / "store" / NAME)
    assert kept.keys().is_unique and len(kept.keys()) == len(mine)
