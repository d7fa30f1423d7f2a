"""Two versions on the same rows: the right rows, the right words, the right places."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

from lib import judged, tracking
from lib.frames import row_keys
from lib.ground.files import ROOT
from lib.packaging import LEARNED, key_digests
from lib.pages import run_page, summary
from lib.pipelines import power_sample
from lib.power.demo import N_NEW, sample_pair
from lib.registry import disagreement, side_by_side
from lib.registry import rows as rows_module
from lib.registry.paired import Test
from lib.registry.rows import NotComparable, Rows, about_training, load_rows
from lib.registry.standing import Version
from lib.run import open_run

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

mpl.use("agg")
NOTEBOOK = ROOT / "notebooks" / "compare" / "01_compare.ipynb"


CLOCK = [0.0]
POWER = {"kind": "regression", "metric": "rmse", "unit": "kW", "quantity": "power"}
POWER |= {"classes": [], "block_length": 24, "task": {"horizon": 1}, "options": {}}
TICK = POWER | {"kind": "ranking", "metric": "rank_ic", "unit": "bps", "quantity": "return"}
TICK |= {"block_length": 120}
IMAGES = POWER | {"kind": "classification", "metric": "accuracy", "unit": "", "block_length": 1}
IMAGES |= {"classes": ["ant", "bee", "cow"], "quantity": "animal"}


class Model:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, says=None, *, seconds: float = 0.0) -> None:
        self.says, self.seconds, self.asked = says, seconds, []

    def predict(self, inputs):
        self.asked.append(len(inputs))
        CLOCK[0] += self.seconds
        return inputs


def version(number: int | None = None, model: Model | None = None, test=POWER, **tags: str):
    tags = {"run_dir": "power/one", "source": "house.csv"} | tags
    made = Version("house", number, tags, test)
    vars(made)["model"] = model or Model()
    return made


def named(pair) -> list[str]:
    return [*side_by_side.called(pair).values()]


def power_rows(n: int = 240) -> Rows:
    times = pd.date_range("2024-01-01", periods=n, freq="h", name="ts")
    truth = pd.Series(np.random.default_rng(0).gamma(2.0, size=n), judged.time_keys(times))
    inputs = pd.DataFrame({"power_kw": truth.to_numpy()}, times)
    return Rows(inputs, truth.index, truth, {"source": "house.csv", "digest": "abc"})


def tick_rows() -> Rows:
    n = 600
    times = pd.DatetimeIndex(
        [
            *pd.date_range("2024-01-02 15:00", periods=n // 2, freq="5s", tz="UTC"),
            *pd.date_range("2024-01-03 15:00", periods=n // 2, freq="5s", tz="UTC"),
        ]
    )
    keys = judged.time_keys(times)
    truth = pd.Series(np.random.default_rng(1).normal(size=n), keys)
    days = pd.Series(np.repeat(["2024-01-02", "2024-01-03"], n // 2), keys)
    inputs = pd.DataFrame({"close": 100.0}, times)
    return Rows(inputs, keys, truth, {"source": "tick/SPY", "digest": "def"}, days)


def image_rows(shape=(4, 4), source="keras") -> Rows:
    keys = pd.Index([f"image-{k}" for k in range(6)])
    images = np.arange(6 * np.prod(shape)).reshape(6, *shape).astype(np.uint8)
    truth, facts = pd.Series([0, 1, 2, 0, 1, 2], keys), {"source": source, "digest": "abc"}
    return Rows(images, keys, truth, facts, parted_by={"test_seed": 0})


def all_of(rows: Rows, facts: dict, **changes) -> Test:
    return replace(Test.of(facts, rows.truth, rows.groups), **changes)


RIGHT_A = np.array([True, True, False, True, False, False])
RIGHT_B = np.array([True, False, True, True, True, False])


def probabilities(right: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Return answers to `image_test` that are right where they are told to be."""
    named = np.where(right, image_rows().truth, (image_rows().truth + 1) % 3)
    made = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
    made[np.arange(6), named] = sure
    return made


SURE_A = np.array([0.9, 0.9, 0.5, 0.9, 0.99, 0.9])
SURE_B = np.array([0.9, 0.7, 0.9, 0.9, 0.9, 0.9])


def row(metric: str, low: float, high: float, *, larger=False, p=None, decisive=True) -> dict:
    middle = (low + high) / 2
    return {
        "metric": metric,
        "greater_is_better": larger,
        "candidate": 0.5 + middle,
        "champion": 0.5,
        "difference": middle,
        "low": low,
        "high": high,
        "decisive": decisive,
        "p_value": p,
    }


# Which is better ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "winner"),
    [
        (row("rmse", -0.03, -0.01), "B"),
        (row("rmse", 0.01, 0.03), "A"),
        (row("rmse", -0.03, 0.01), ""),
        (row("rank_ic", 0.01, 0.03, larger=True), "B"),
        (row("rank_ic", -0.03, -0.01, larger=True), "A"),
        (row("accuracy", 0.01, 0.03, larger=True, p=0.01), "B"),
        (row("accuracy", 0.01, 0.03, larger=True, p=0.06), ""),
    ],
    ids=["lower", "higher", "unsure", "larger", "smaller", "mcnemar agrees", "mcnemar does not"],
)
def test_better_follows_the_direction_of_the_metric_and_both_tests(one, winner):
    assert side_by_side.better(one, 0.95) == winner


def test_words_name_the_winner_what_it_reaches_and_by_how_much():
    pair = version(3), version(4)
    rows = [row("rmse", -0.03, -0.01), row("mae", 0.1, 0.2, decisive=False)]
    assert side_by_side.explain(rows, pair) == (
        "B (version 4) is better: rmse is 0.5 of A (version 3) and 0.48 of B (version 4), "
        "B less A is -0.02 (-0.03 to -0.01)."
    )
    rows = [row("accuracy", -0.03, -0.01, larger=True, p=0.002)]
    assert side_by_side.explain(rows, pair) == (
        "A (version 3) is better: accuracy is 0.5 of A (version 3) and 0.48 of B (version 4), "
        "B less A is -0.02 (-0.03 to -0.01), McNemar's p = 0.002."
    )


def test_words_say_when_it_cannot_be_told():
    pair = version(), version(4)
    assert side_by_side.explain([row("rmse", -0.03, 0.01)], pair) == (
        "It cannot be told which is better: rmse is 0.5 of A (house) and 0.49 of B (version 4), "
        "B less A is -0.01 (-0.03 to +0.01)."
    )


def test_metrics_are_flat_and_named_after_the_version():
    costs = pd.DataFrame(
        {"A": [2.0, 0.5, 3.0], "B": [4.0, 1.0, 6.0]},
        ["latency_ms", "batch_latency_ms", "size_mb"],
    )
    found = side_by_side.flat_metrics([row("accuracy", 0.0, 0.02, larger=True, p=0.5)], costs)
    assert found == {
        "a_accuracy": 0.5,
        "b_accuracy": pytest.approx(0.51),
        "difference_accuracy": 0.01,
        "difference_accuracy_low": 0.0,
        "difference_accuracy_high": 0.02,
        "p_accuracy": 0.5,
        "a_latency_ms": 2.0,
        "a_batch_latency_ms": 0.5,
        "a_size_mb": 3.0,
        "b_latency_ms": 4.0,
        "b_batch_latency_ms": 1.0,
        "b_size_mb": 6.0,
    }


# The rows to judge by -------------------------------------------------------------------------


def test_only_rows_after_what_either_has_learned_are_judged():
    pair = (
        version(1, learned_until="2024-01-03T00:00:00"),
        version(2, learned_until="2024-01-04T05:00:00"),
    )
    test, notes = side_by_side.unseen(power_rows(), pair)
    assert test.truth.index[0] == "2024-01-04T06:00:00"
    assert len(test.truth) == 240 - 3 * 24 - 6
    assert notes == ["162 of 240 rows are judged: those after 2024-01-04 05:00:00."]


def test_times_with_a_zone_are_compared_in_utc():
    pair = (
        version(1, test=TICK, learned_until="2024-01-02T16:00:00+01:00"),
        version(2, test=TICK, learned_until="2024-01-02T15:00:10+00:00"),
    )
    test, _ = side_by_side.unseen(tick_rows(), pair)
    assert test.truth.index[0] == "2024-01-02T15:00:15"
    assert len(test.truth) == len(test.groups) == 597


def test_a_version_of_which_it_is_not_known_what_it_learned_is_named():
    pair = version(3), version(4, learned_until="2024-01-03T00:00:00")
    test, notes = side_by_side.unseen(power_rows(), pair)
    assert len(test.truth) == 240 - 49
    assert [note for note in notes if "not known until when A (version 3) has learned" in note]
    assert not [note for note in notes if "B (version 4)" in note]


def test_data_without_a_new_row_are_refused():
    pair = version(1), version(2, learned_until="2025-01-01T00:00:00")
    rows = power_rows()
    by_group = replace(rows, keys=rows.keys[::-1], truth=rows.truth[::-1])
    for one in (rows, by_group):
        with pytest.raises(ValueError, match="ends at 2024-01-10 23:00.* no row is new to both"):
            side_by_side.unseen(one, pair)
    rows = replace(power_rows(), truth=pd.Series(dtype=float))
    with pytest.raises(ValueError, match=r"no row of house\.csv has a known truth"):
        side_by_side.unseen(rows, pair)


def test_sample_rows_of_another_seed_may_be_among_those_learned():
    rows = image_rows(source="sample")
    made = (version(1, source="sample", data_digest=digest) for digest in ("abc", "def"))
    same, other = (about_training("A", one, rows) for one in made)
    assert "keeps its test rows apart" in same
    assert "is not known" in other


def test_source_that_has_grown_keeps_its_test_apart_only_where_options_part_it():
    def told(parted_by, test_seed):
        test = IMAGES | {"options": {"test_seed": test_seed, "size": 28}}
        before = version(1, test=test, source="keras", data_digest="before")
        return about_training("A", before, replace(image_rows(), parted_by=parted_by))

    assert "keeps its test rows apart" in told({"test_seed": 0}, 0)
    unknown = "A has learned from another state of keras: whether any of these rows was there is"
    assert unknown in told({"test_seed": 0}, 1)
    assert unknown in told(None, 0)


def keeper(learned: pd.DataFrame):
    """What stands for a model of a table: it knows the rows that it has learned from."""
    raw = SimpleNamespace(**{LEARNED: key_digests(pd.Index(row_keys(learned)))})
    schema = SimpleNamespace(input_names=lambda: [*learned])
    facts = SimpleNamespace(get_input_schema=lambda: schema)
    return SimpleNamespace(get_raw_model=lambda: raw, metadata=facts)


def test_row_that_either_has_learned_from_is_not_judged():
    inputs = pd.DataFrame({"x": np.arange(6.0), "y": np.arange(6.0) ** 2})
    inputs.index = pd.Index(row_keys(inputs))
    truth = pd.Series(0, inputs.index)
    rows = Rows(inputs.assign(truth=truth), inputs.index, truth, {"source": "t", "digest": "abc"})
    facts = {"test": IMAGES, "source": "t", "data_digest": "before"}
    older = version(3, keeper(inputs[["x"]].iloc[[1, 2]]), **facts)  # which takes one column
    pair = older, version(4, keeper(inputs.iloc[[4]]), **facts)
    test, notes = side_by_side.unseen(rows, pair)
    assert test.truth.index.equals(inputs.index[[0, 3, 5]])
    said = "another state of t; the rows that it has learned from are left out."
    assert [note.partition("learned from ")[2] for note in notes] == [said, said]
    with pytest.raises(ValueError, match="has learned from every row of t: give newer data"):
        side_by_side.unseen(rows, (older, version(4, keeper(inputs), **facts)))
    other = version(4, keeper(inputs.rename(columns={"y": "z"})), **facts)
    with pytest.raises(NotComparable, match="version 4 takes the column 'z', which is not there"):
        side_by_side.unseen(rows, (older, other))


def test_rows_without_a_time_are_all_judged_and_other_training_data_are_named():
    facts = IMAGES | {"options": {"test_seed": 0}}
    pair = version(3, test=facts, source="keras"), version(4, test=facts, source="photos.npz")
    test, notes = side_by_side.unseen(image_rows(), pair)
    assert len(test.truth) == 6 and test.classes == ["ant", "bee", "cow"]
    assert "A (version 3) has learned from the training rows of this source" in notes[0]
    assert "B (version 4) has learned from other data, photos.npz" in notes[1]


@pytest.fixture
def told(monkeypatch):
    """Models that say what they are told, row by row of the test."""

    def predict(pipeline, model, rows, keys):
        found = pd.Series([*model.says], rows.keys, dtype=object)[keys]
        return np.stack(found.to_list()).astype(float)

    monkeypatch.setattr(side_by_side, "predict", predict)


def test_rows_that_one_cannot_answer_are_left_out_for_both(told):
    rows = power_rows(6)
    says = np.array([np.nan, 1, 2, 3, 4, 5])
    pair = version(1, Model(says)), version(2, Model(np.arange(6.0)))
    test = all_of(rows, POWER, block_length=2)
    shared, a, b, notes = side_by_side.answer(rows, test, pair)
    assert a.tolist() == b.tolist() == [1, 2, 3, 4, 5]
    assert shared.truth.equals(rows.truth.iloc[1:])
    assert notes == ["1 rows that one of them cannot answer are left out."]


@pytest.fixture
def loaded(monkeypatch):
    """What the loader was asked for."""
    asked = {}

    def load_rows(source, options, model):
        asked.update(source=source, options=options, model=model)
        return power_rows()

    monkeypatch.setattr(rows_module, "part", lambda pipeline, name: load_rows)
    return asked


def test_data_are_read_as_the_run_of_the_newer_version_has_read_its_own(loaded):
    options = {"resolution": "minute", "max_missing": 0.2, "seed": 7}
    model = Model()
    a = version(12, model, POWER | {"options": options}, source="new.csv")
    load_rows(side_by_side.newer((a, version(9, source="old.csv"))))
    assert loaded == {"source": "new.csv", "options": options, "model": model}


def test_data_that_are_named_take_the_seed_that_was_given(loaded):
    options = {"resolution": "hour", "seed": 7}
    load_rows(version(2, test=POWER | {"options": options}), "sample", seed=3)
    assert (loaded["source"], loaded["options"]) == ("sample", options | {"seed": 3})


def test_a_version_that_names_no_data_needs_a_source(loaded):
    with pytest.raises(ValueError, match=r"version 2 does not name the data.*give source"):
        load_rows(version(2, source=""))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((version(3), version(3)), "are both version 3 of house"),
        ((version(3), version(4, run_dir="tick/x")), "3 is made .* pipeline power instead of tick"),
        (
            (version(4), version(3, test=POWER | {"task": {"horizon": 24}})),
            "3 is made for another task: horizon 24 instead of 1",
        ),
        (
            (version(3), version(4, test={})),
            "version 4 of house was registered before",
        ),
    ],
    ids=["the same", "two pipelines", "another task", "before"],
)
def test_versions_that_cannot_be_compared_are_refused(monkeypatch, found, message):
    answers = dict(zip(("@production", "@staging"), found, strict=True))
    monkeypatch.setattr(side_by_side, "open_version", lambda name, which: answers[which])
    with pytest.raises(ValueError, match=message):
        side_by_side.open_pair("house", "@production", "@staging")


# Where they disagree --------------------------------------------------------------------------


def forecasts(n: int, length: int, groups=None) -> Test:
    truth = pd.Series(np.zeros(n))
    return Test(truth, "regression", "rmse", "kW", "power", block_length=length, groups=groups)


def test_stretches_are_the_furthest_apart_in_order_and_do_not_overlap():
    a, b = np.zeros(100), np.zeros(100)
    a[70:75], b[20:25], a[73] = 2.0, 1.0, 9.0
    assert disagreement.stretches(forecasts(100, 5), a, b) == [slice(20, 25), slice(70, 75)]


def test_no_stretch_crosses_from_one_day_to_the_next():
    distance, days = np.zeros(20), np.repeat(["a", "b"], 10)
    distance[8:12] = 5.0
    distance[8] = 6.0
    test = forecasts(20, 4, days)
    assert disagreement.stretches(test, distance, np.zeros(20), n=1) == [slice(6, 10)]


def test_stretches_of_a_short_test_are_the_whole_test():
    found = disagreement.stretches(forecasts(3, 72), np.ones(3), np.zeros(3))
    assert found == [slice(0, 3)]


def test_images_that_one_names_rightly_come_with_the_surest_error_first():
    a, b = probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)
    truth = image_rows().truth.to_numpy()
    assert disagreement.one_sided(truth, a, b).tolist() == [4, 1, 2]
    assert disagreement.one_sided(truth, a, b, 2).tolist() == [4, 1]
    assert disagreement.one_sided(truth, a, a, 3).tolist() == [0, 1, 2]


def test_images_are_counted_by_who_names_them():
    a, b = probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)
    test = all_of(image_rows(), IMAGES)
    expected = {"both": 2, "only A": 1, "only B": 2, "neither": 1}
    assert disagreement.agreement(test, a, b) == expected
    said = disagreement.captions(test, a, b, np.array([4]))
    assert said == ["A cow 0.99\nB bee 0.90\nis bee"]


def test_forecasts_are_compared_in_their_own_unit():
    truth = pd.Series([1.0, 2.0, 3.0, 4.0])
    test = replace(forecasts(4, 1), truth=truth)
    found = disagreement.agreement(test, np.array([1.0, 2, 3, 8]), np.array([1.5, 2.5, 3.5, 4]))
    assert found["mean distance, kW"] == pytest.approx((0.5 * 3 + 4) / 4)
    assert found["rows where B is nearer, fraction"] == 0.25


# What an answer costs -------------------------------------------------------------------------


def test_both_are_timed_on_the_history_that_each_needs(monkeypatch):
    """Its pipeline hands a model the rows that are asked and the history before them."""

    def predict(pipeline, model, rows, keys):
        needed = {0.001: 10, 0.004: 30}[model.seconds] + len(keys) - 1
        return model.predict(rows.inputs.tail(needed))

    monkeypatch.setattr(disagreement, "predict", predict)
    monkeypatch.setattr(disagreement, "_size", lambda uri: 2_500_000)
    monkeypatch.setattr(disagreement.time, "perf_counter", lambda: CLOCK[0])
    pair = version(1, Model(seconds=0.001)), version(2, Model(seconds=0.004))
    rows = power_rows()
    test = all_of(rows, POWER)
    costs = disagreement.measure_costs(pair, rows, test, batch_rows=8, n_repeats=3)
    assert pair[0].model.asked == [10] * 4 + [17] * 4
    assert pair[1].model.asked == [30] * 4 + [37] * 4
    assert costs["A"].tolist() == pytest.approx([1.0, 0.125, 2.5])
    assert costs["B"].tolist() == pytest.approx([4.0, 0.5, 2.5])
    assert list(costs.index) == ["latency_ms", "batch_latency_ms", "size_mb"]


# The notebook ---------------------------------------------------------------------------------


def noisy(rows: Rows, spread: float) -> np.ndarray:
    noise = np.random.default_rng(round(100 * spread)).normal(size=len(rows.truth))
    return rows.truth.to_numpy() + spread * noise


A, B = probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)
WINES = replace(image_rows(), inputs=pd.DataFrame({"acid": range(6)}))
CASES = {
    "power": (POWER, power_rows(), noisy(power_rows(), 0.8), noisy(power_rows(), 0.1)),
    "tick": (TICK, tick_rows(), noisy(tick_rows(), 2.0), noisy(tick_rows(), 0.5)),
    "mnist": (IMAGES, image_rows(), A, B),
    "cifar10": (IMAGES, image_rows((4, 4, 3)), B, B),
    "wine": (IMAGES, WINES, A, B),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def compared(request):
    """A run of the notebook's code in this process; the versions say what they are told."""
    import matplotlib.pyplot as plt

    facts, rows, of_a, of_b = CASES[request.param]
    tags = {"run_dir": f"{request.param}/a"}
    pair = version(3, Model(of_a), facts, **tags), version(4, Model(of_b), facts, **tags)
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    first, *others = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    space: dict = {}
    exec(first, space)
    space |= {"run_dir": f"compare/{request.param}", "model": "house", "n_repeats": 1}
    space["n_resamples"] = 200
    predict = lambda pipeline, model, rows, keys: model.predict(model.says)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "open_pair", lambda model, a, b: pair)
        patch.setattr(rows_module, "load_rows", lambda version, source, **more: rows)
        patch.setattr(side_by_side, "predict", predict)
        patch.setattr(disagreement, "predict", predict)
        patch.setattr(disagreement, "_size", lambda uri: 2_500_000)
        for source in others:
            exec(source, space)
    plt.close("all")
    return request.param, open_run(f"compare/{request.param}")


@pytest.mark.slow
def test_notebook_compares_models_of_every_pipeline(compared):
    pipeline, run = compared
    found, metrics = run.read("comparison.json"), run.read("metrics.json")
    first = {"power": "rmse", "tick": "rank_ic"}.get(pipeline, "accuracy")
    better = {"power": "B", "tick": "B"}.get(pipeline, "")
    assert (found["better"], found["model"]) == (better, "house")
    assert found["rows"][0]["metric"] == first
    assert (found["a"]["version"], found["b"]["version"]) == (3, 4)
    difference = metrics[f"b_{first}"] - metrics[f"a_{first}"]
    assert metrics[f"difference_{first}"] == pytest.approx(difference)
    assert metrics["n_test"] == found["n_rows"] == len(run.read("answers.parquet"))
    assert run.record("01_compare")["state"] == "finished"


@pytest.mark.slow
def test_page_of_a_comparison_leads_with_the_answer_and_shows_the_paired_metrics(compared):
    pipeline, run = compared
    said = summary.summarise(run)
    page = run_page.render(said)
    assert (said["state"], said["reason"]) == ("passed", run.read("comparison.json")["words"])
    assert f"<p>{escape(said['reason'])}</p>" in page
    assert said["headline"]["metric"].startswith("difference_")
    assert "no check was made" not in page and "B less A<small>95 % interval" in page
    assert ("McNemar" in page) == (CASES[pipeline][0] is IMAGES)
    best = re.findall(r'<tr class="gate">.*?<td class="number( best)?">.*?number( best)?">', page)
    assert best == [("", "" if pipeline == "cifar10" else " best")]


# A registry and a DAG ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A registered model with two versions; file of what was measured since, sizes of both."""
    few, many, raw = sample_pair(tmp_path_factory.mktemp("house"))
    data = few.parent / "house.parquet"
    raw = raw.iloc[-N_NEW - 200 :]
    raw.to_parquet(data)
    client = tracking.open_client()
    client.create_registered_model("house")
    learned = raw.index[len(raw) - 28 * 24 - 1]
    for number, path in enumerate((few, many), start=1):
        made = client.create_logged_model("0", name="model")
        client.log_model_artifacts(made.model_id, str(path))
        client.finalize_logged_model(made.model_id, "READY")
        tags = {"run_dir": f"power/{path.name}", "source": str(data), "gate.outcome": "first"}
        tags["test"] = json.dumps(power_sample.TEST)
        tags |= {"learned_until": learned.isoformat()} if number == 2 else {}
        client.create_model_version(
            "house", f"models:/{made.model_id}", tags=tags, model_id=made.model_id
        )
    client.set_registered_model_alias("house", "staging", "2")
    files = [[f for f in path.rglob("*") if f.is_file()] for path in (few, many)]
    assert not [f for f in files[0] + files[1] if f.suffix == ".pyc"], "nothing has loaded them"
    return data, [sum(file.stat().st_size for file in one) for one in files]


@pytest.mark.kernel
def test_registered_versions_are_compared_by_the_dag_and_leave_a_report(house):
    from whole_runs import go, impatient, prepare

    prepare()
    values = {"model": "house", "a": "1", "b": "@staging", "n_repeats": 1}
    done, _, run = go(impatient("compare"), **values)
    assert done.state == "success"
    found, metrics = run.read("comparison.json"), run.read("metrics.json")
    assert found["better"] == "B" and found["words"].startswith("B (version 2) is better: rmse")
    assert [note for note in found["notes"] if "until when A (version 1) has learned" in note]
    assert found["n_rows"] == metrics["n_test"] == 28 * 24
    assert found["source"] == str(house[0])
    sizes = [metrics["a_size_mb"], metrics["b_size_mb"]]
    assert sizes == pytest.approx([size / 1e6 for size in house[1]], rel=0.02)
    assert metrics["a_latency_ms"] > metrics["a_batch_latency_ms"] > 0
    page = (run.path / "report.html").read_text()
    assert escape(found["words"]) in page and "house: two versions" in page
    logged = tracking.open_client().get_run(tracking.link(run)["run_id"])
    assert logged.data.metrics["difference_rmse"] == pytest.approx(metrics["difference_rmse"])


@pytest.mark.kernel
def test_an_alias_that_nothing_has_is_an_error_that_names_those_there_are(house):
    with pytest.raises(ValueError, match="production"):
        side_by_side.open_pair("house", "@production", "@staging")
