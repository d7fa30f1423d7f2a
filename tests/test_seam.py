"""A fifth pipeline, which nothing in lib knows: its own module is enough to be gated, compared,
scored and watched, and without it each says in a sentence what is missing."""

import json
import sys
import textwrap
from types import SimpleNamespace

from lib import judged, packaging, tracking
from lib.registry import drift, gate, paired, rematch, rows, side_by_side, store
from lib.registry.rows import MissingPart
from lib.registry.standing import Version
from lib.run import open_run

import numpy as np
import pandas as pd
import pytest

MODULE = """
    from lib.registry.rows import Rows

    import numpy as np
    import pandas as pd


    def load_rows(source, options, model):
        table = pd.read_csv(source, index_col="bottle").head(options["n_rows"])
        facts = {"name": "unmade", "source": str(source), "digest": "d", "n_rows": len(table)}
        return Rows(table[["acid"]], table.index, table["white"], facts)


    def predict(model, rows, keys):
        return model.predict(rows.inputs.loc[keys])


    def watched(rows):
        return rows.inputs.loc[rows.keys]
"""
CLASSES = ["red", "white"]
PASSED = {"passed": True, "checks": []}


class Threshold:
    """Says white where there is more acid than that."""

    def __init__(self, least):
        self.least = least

    def predict(self, table):
        is_white = table["acid"].to_numpy() > self.least
        return np.where(np.eye(2)[is_white.astype(int)] > 0, 0.9, 0.1)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Wine that is white above 0.5, as a file; run folders of the test."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    acid = np.random.default_rng(0).uniform(size=400)
    found = pd.DataFrame(
        {"acid": acid, "white": (acid > 0.5).astype(int)},
        pd.Index([f"no-{k:03}" for k in range(400)], name="bottle"),
    )
    found.to_csv(tmp_path / "wine.csv")
    return found


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The one file that a pipeline adds."""
    import lib.pipelines

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "unmade.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setattr(lib.pipelines, "__path__", [*lib.pipelines.__path__, str(tmp_path / "own")])
    yield
    sys.modules.pop("lib.pipelines.unmade", None)


def evaluated(name, model, table, source):
    """Return an evaluated run of the model."""
    run = open_run(f"unmade/{name}", stage="04_evaluate")
    test = table.iloc[300:]
    run.write("test.parquet", test[["acid"]])
    run.write("dataset.json", {"name": "unmade", "source": source, "digest": "d", "n_rows": 400})
    said = pd.DataFrame({"truth": test["white"], "model": list(model.predict(test))}, test.index)
    facts = {"kind": "classification", "metric": "accuracy", "classes": CLASSES}
    place = {"inputs": {"file": "test.parquet"}, "options": {"n_rows": 400}}
    judged.write(run, said, **facts, **place, task={"column": "acid"})
    run.finish()
    return open_run(f"unmade/{name}", stage="05_register")


def version(number, model, run, source):
    tags = {"run_dir": run.run_dir, "source": source, "data_digest": "d"}
    made = Version("wine_rule", number, tags, run.read("test.json"))
    vars(made)["model"] = model
    return made


@pytest.fixture
def pair(table, tmp_path):
    source = str(tmp_path / "wine.csv")
    models = Threshold(0.7), Threshold(0.51)
    runs = [evaluated(f"r{k}", one, table, source) for k, one in enumerate(models)]
    return tuple(version(k + 1, models[k], runs[k], source) for k in range(2)), runs[1]


def test_it_is_gated_against_the_version_in_production(pair, module, monkeypatch):
    (before, _), run = pair
    tags = {**before.tags, "test": json.dumps(before.test)}
    found = SimpleNamespace(name="wine_rule", version="1", tags=tags, run_id="")
    registry = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(aliases={"production": "1"}),
        get_model_version=lambda name, number: found,
    )
    monkeypatch.setattr(tracking, "open_client", lambda: registry)
    monkeypatch.setattr(packaging, "load_packed", lambda uri: before.model)
    match = rematch.against_production(run, "wine_rule")
    decision = gate.judge(PASSED, match)
    assert (match["problem"], decision["outcome"]) == ("", "better")
    assert match["notes"] == ["version 1 was trained on the same data"]


def test_it_is_compared_on_the_rows_of_its_source(pair, module):
    pair, _ = pair
    loaded = rows.load_rows(side_by_side.newer(pair))
    test, notes = side_by_side.unseen(loaded, pair)
    test, of_a, of_b, _ = side_by_side.answer(loaded, test, pair)
    found = paired.compare(test, of_b, of_a)
    assert len(test.truth) == 400 and "training rows of this source" in notes[0]
    assert side_by_side.explain(found, pair).startswith("B (version 2) is better: accuracy")


@pytest.mark.slow
def test_it_is_scored_and_watched(pair, module, table):
    (_, served), run = pair
    served.test["options"]["n_rows"] = 50
    loaded = rows.load_rows(served)
    keys, kept = store.new_keys(served, loaded), store.store_of(served, run)
    counts = store.score(served, loaded, keys, kept, run_dir="score/a", batch_rows=20)
    assert counts == {"n_rows": 50, "n_known": 0, "n_scored": 50, "n_without": 0}
    live = store.scored(served, loaded, kept).dropna(subset="truth")
    assert set(live["truth"]) == set(CLASSES) and (live["truth"] == live["predicted"]).mean() > 0.9
    shown = drift.keep_profile(open_run("unmade/r2", stage="02_features"), table[["acid"]], 50)
    assert shown.index.tolist() == ["acid"]
    watched = rows.watched("unmade", loaded).loc[keys]
    columns, _ = drift.compare(drift.profile(table[["acid"]], 50), watched)
    assert not columns["drifted"].any()


def test_without_its_module_each_says_what_is_missing(pair):
    pair, run = pair
    with pytest.raises(MissingPart, match=r"lib/pipelines/unmade\.py with load_rows, which loads"):
        rows.load_rows(side_by_side.newer(pair))
    with pytest.raises(MissingPart, match=r"lib/pipelines/unmade\.py with predict, which says"):
        rows.predict("unmade", None, rows.rows_of_run(run)[0], pd.Index([]))
    with pytest.raises(MissingPart, match=r"lib/pipelines/unmade\.py with watched, which says"):
        rows.watched("unmade", rows.rows_of_run(run)[0])
