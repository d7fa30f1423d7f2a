"""Two versions on the same rows: the right rows, the right words, the right places."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

from lib import tracking
from lib.commands import services
from lib.pages import run_page, summary
from lib.registry import scoring, versions
from lib.registry.scoring import IMAGE_PIPELINES, NotComparable, TestSet
from lib.registry.versions import Contender
from lib.run import ROOT, open_run

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

mpl.use("agg")
NOTEBOOK = ROOT / "notebooks" / "compare" / "01_compare.ipynb"


CLOCK = [0.0]


class Model:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, says=None, *, needed_rows: int = 1, seconds: float = 0.0) -> None:
        self.says, self.seconds, self.asked = says, seconds, []
        self.python_model = SimpleNamespace(spec={"needed_rows": needed_rows})

    def unwrap_python_model(self):
        return self.python_model

    def predict(self, inputs):
        self.asked.append(len(inputs))
        CLOCK[0] += self.seconds
        return inputs


def contender(label: str, number: int | None = None, model: Model | None = None, **tags: str):
    tags = {"run_dir": "power/one", "source": "house.csv"} | tags
    return Contender(label, "house", number, model or Model(), 2_500_000, tags)


def power_test(n: int = 240, **changes) -> TestSet:
    times = pd.date_range("2024-01-01", periods=n, freq="h", name="ts")
    rng = np.random.default_rng(0)
    truth = pd.Series(rng.gamma(2.0, size=n), times, name="truth")
    inputs = pd.DataFrame({"ts": times, "power_kw": truth.to_numpy()})
    task = {"horizon": 1, "step_s": 3600.0}
    values = ("power", inputs, truth, None, task, 24, times[0].isoformat(), "house.csv", "abc")
    return replace(TestSet(*values), **changes)


def tick_test() -> TestSet:
    n = 600
    times = pd.DatetimeIndex(
        [
            *pd.date_range("2024-01-02 15:00", periods=n // 2, freq="5s", tz="UTC"),
            *pd.date_range("2024-01-03 15:00", periods=n // 2, freq="5s", tz="UTC"),
        ]
    )
    truth = pd.Series(np.random.default_rng(1).normal(size=n), times, name="truth")
    inputs = pd.DataFrame({"ts": times, "close": 100.0})
    days = np.repeat(["2024-01-02", "2024-01-03"], n // 2)
    start, rows = times[0].isoformat(), np.arange(n)
    task = {"horizon": 1}
    return TestSet("tick", inputs, truth, days, task, 120, start, "tick/SPY", "def", rows)


def image_test(pipeline: str = "mnist") -> TestSet:
    truth = pd.Series([0, 1, 2, 0, 1, 2], pd.RangeIndex(6, name="image"), name="truth")
    images = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    task = {"classes": ["ant", "bee", "cow"], "image_shape": [4, 4]}
    return TestSet(pipeline, images, truth, None, task, 1, "", "keras", "abc")


RIGHT_A = np.array([True, True, False, True, False, False])
RIGHT_B = np.array([True, False, True, True, True, False])


def probabilities(right: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Return answers to `image_test` that are right where they are told to be."""
    named = np.where(right, image_test().truth, (image_test().truth + 1) % 3)
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
    assert versions.better(one, 0.95) == winner


def test_words_name_the_winner_what_it_reaches_and_by_how_much():
    pair = contender("A", 3), contender("B", 4)
    rows = [row("mae", 0.1, 0.2, decisive=False), row("rmse", -0.03, -0.01)]
    assert versions.explain(rows, pair) == (
        "B (version 4) is better: rmse is 0.48 against 0.5 of A (version 3), lower by 0.02 "
        "(0.01 to 0.03)."
    )
    rows = [row("accuracy", -0.03, -0.01, larger=True, p=0.002)]
    assert versions.explain(rows, pair) == (
        "A (version 3) is better: accuracy is 0.5 against 0.48 of B (version 4), higher by 0.02 "
        "(0.01 to 0.03), McNemar's p = 0.002."
    )


def test_words_say_when_it_cannot_be_told():
    pair = contender("A"), contender("B", 4)
    assert versions.explain([row("rmse", -0.03, 0.01)], pair) == (
        "It cannot be told which is better: rmse is 0.5 of A (house) and 0.49 of B (version 4), "
        "B less A is -0.01 (-0.03 to +0.01)."
    )


def test_metrics_are_flat_and_named_after_the_version():
    costs = pd.DataFrame(
        {"A": [2.0, 0.5, 3.0], "B": [4.0, 1.0, 6.0]},
        ["latency_ms", "batch_latency_ms", "size_mb"],
    )
    found = versions.flat_metrics([row("accuracy", 0.0, 0.02, larger=True, p=0.5)], costs)
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
        contender("A", learned_until="2024-01-03T00:00:00"),
        contender("B", learned_until="2024-01-04T05:00:00"),
    )
    test, notes = versions.unseen(power_test(), pair)
    assert test.truth.index[0] == pd.Timestamp("2024-01-04 06:00")
    assert test.start == "2024-01-04T06:00:00"
    assert len(test.truth) == 240 - 3 * 24 - 6
    assert notes == ["162 of 240 rows are judged: those after 2024-01-04 05:00:00."]


def test_times_with_a_zone_are_compared_in_utc():
    pair = (
        contender("A", learned_until="2024-01-02T16:00:00+01:00"),
        contender("B", learned_until="2024-01-02T15:00:10+00:00"),
    )
    test, _ = versions.unseen(tick_test(), pair)
    assert test.truth.index[0] == pd.Timestamp("2024-01-02 15:00:15", tz="UTC")
    assert len(test.truth) == len(test.rows) == len(test.groups) == 597


def test_a_version_of_which_it_is_not_known_what_it_learned_is_named():
    pair = contender("A", 3), contender("B", 4, learned_until="2024-01-03T00:00:00")
    test, notes = versions.unseen(power_test(), pair)
    assert len(test.truth) == 240 - 49
    assert [note for note in notes if "not known until when A (version 3) has learned" in note]
    assert not [note for note in notes if "B (version 4)" in note]


def test_data_without_a_new_row_are_refused():
    pair = contender("A"), contender("B", learned_until="2025-01-01T00:00:00")
    with pytest.raises(ValueError, match="no row is new to both. Give newer data"):
        versions.unseen(power_test(), pair)


def test_sample_images_of_another_seed_may_be_among_those_learned():
    drawn = replace(image_test(), source="sample")
    tags = {"run_dir": "mnist/a", "source": "sample"}
    same, other = (versions._about_images(drawn, tagged(tags, d)) for d in ("abc", "def"))
    assert "keeps its test images apart" in same
    assert "is not known" in other


def tagged(tags, digest):
    return SimpleNamespace(words="A", tags=tags | {"data_digest": digest})


def test_images_are_all_judged_and_other_training_data_are_named():
    pair = contender("A", 3, source="keras"), contender("B", 4, source="photos.npz")
    test, notes = versions.unseen(image_test(), pair)
    assert len(test.truth) == 6
    assert "A (version 3) has learned from the training images of this source" in notes[0]
    assert "B (version 4) has learned from other data, photos.npz" in notes[1]


def test_a_version_for_another_task_is_named(monkeypatch):
    def predictions(model: Model, test: TestSet) -> np.ndarray:
        if model.says is None:
            raise NotComparable("it is made for another task: horizon 24 instead of 1")
        return model.says

    monkeypatch.setattr(scoring, "predictions", predictions)
    test = power_test()
    pair = contender("A", 3, Model(test.truth.to_numpy())), contender("B", 4)
    with pytest.raises(NotComparable, match=r"B \(version 4\) cannot be judged.*horizon 24"):
        versions.answer(test, pair)


def test_rows_that_one_cannot_answer_are_left_out_for_both(monkeypatch):
    monkeypatch.setattr(scoring, "predictions", lambda model, test: model.says)
    test = power_test(6, block_length=2)
    says = np.array([np.nan, 1, 2, 3, 4, 5])
    pair = contender("A", 1, Model(says)), contender("B", 2, Model(np.arange(6.0)))
    shared, a, b, notes = versions.answer(test, pair)
    assert a.tolist() == b.tolist() == [1, 2, 3, 4, 5]
    assert shared.truth.equals(test.truth.iloc[1:])
    assert notes == ["1 rows that one of them cannot answer are left out."]


@pytest.mark.parametrize(
    ("test", "length"),
    [(power_test(240), 24), (power_test(30), 15), (tick_test(), 120), (image_test(), 1)],
    ids=["enough", "few", "days", "images"],
)
def test_blocks_are_shortened_where_rows_are_few_and_it_is_said(monkeypatch, test, length):
    monkeypatch.setattr(scoring, "predictions", lambda model, test: test.truth.to_numpy())
    shared, _, _, notes = versions.answer(test, (contender("A", 1), contender("B", 2)))
    assert shared.block_length == length
    assert bool(notes) == (length != test.block_length)


@pytest.fixture
def loaded(monkeypatch):
    """What the loader was asked for."""
    asked = {}

    def load_test(pipeline, source, model, **more):
        asked.update(pipeline=pipeline, source=source, model=model, **more)
        return power_test()

    monkeypatch.setattr(scoring, "load_test", load_test)
    return asked


def trained(name: str, **parameters) -> str:
    """Leave the record of a load stage, and return its run."""
    folder = open_run(f"power/{name}").path / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"state": "finished", "writes": {}, "parameters": parameters})
    (folder / "01_load.json").write_text(text)
    return f"power/{name}"


def test_data_are_read_as_the_run_of_the_newer_version_has_read_its_own(loaded):
    old = trained("older", resolution="hour", max_missing=0.1, seed=5)
    new = trained("newer", resolution="minute", max_missing=0.2, seed=7, source="other")
    hungry = Model(needed_rows=200)
    a = contender("A", 12, Model(needed_rows=50), run_dir=new, source="new.csv")
    b = contender("B", 9, hungry, run_dir=old, source="old.csv")
    versions.open_test((a, b), last_days=3)
    options = {"resolution": "minute", "max_missing": 0.2}
    assert loaded == {
        "pipeline": "power",
        "source": "new.csv",
        "model": hungry,
        "last_days": 3,
        "seed": 7,
        "options": options,
    }


def test_data_that_are_named_take_the_seed_that_was_given(loaded):
    pair = contender("A", 1, run_dir="power/gone"), contender("B", 2, run_dir="power/gone")
    versions.open_test(pair, "sample", seed=3)
    assert (loaded["source"], loaded["seed"], loaded["options"]) == ("sample", 3, {})


def test_a_version_that_names_no_data_needs_a_source(loaded):
    pair = contender("A", 1), contender("B", 2, source="")
    with pytest.raises(ValueError, match=r"B \(version 2\) does not name the data.*give source"):
        versions.open_test(pair)


def registered(number: str, run_dir: str = "power/one") -> SimpleNamespace:
    return SimpleNamespace(
        name="house", version=number, tags={"run_dir": run_dir} if run_dir else {}
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((registered("3"), registered("3")), "are both version 3 of house"),
        ((registered("3"), registered("4", "tick/x")), "3 was made by power and version 4 by tick"),
        ((registered("3", ""), registered("4")), "version 3 of house has no tag run_dir"),
    ],
    ids=["the same", "two pipelines", "no run"],
)
def test_versions_that_cannot_be_compared_are_refused(monkeypatch, found, message):
    from lib.registry import lifecycle

    answers = dict(zip(("@production", "@staging"), found, strict=True))
    monkeypatch.setattr(lifecycle, "version", lambda name, which: answers[which])
    with pytest.raises(ValueError, match=message):
        versions.open_pair("house", "@production", "@staging")


# Where they disagree --------------------------------------------------------------------------


def test_stretches_are_the_furthest_apart_in_order_and_do_not_overlap():
    distance = np.zeros(100)
    distance[70:75], distance[20:25], distance[73] = 2.0, 1.0, 9.0
    assert versions.stretches(distance, length=5) == [slice(20, 25), slice(70, 75)]


def test_no_stretch_crosses_from_one_day_to_the_next():
    distance, days = np.zeros(20), np.repeat(["a", "b"], 10)
    distance[8:12] = 5.0
    distance[8] = 6.0
    assert versions.stretches(distance, length=4, n=1, groups=days) == [slice(6, 10)]


def test_stretches_of_a_short_test_are_the_whole_test():
    assert versions.stretches(np.ones(3), length=72) == [slice(0, 3)]


def test_images_that_one_names_rightly_come_with_the_surest_error_first():
    a, b = probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)
    truth = image_test().truth.to_numpy()
    assert versions.one_sided(truth, a, b).tolist() == [4, 1, 2]
    assert versions.one_sided(truth, a, b, 2).tolist() == [4, 1]
    assert versions.one_sided(truth, a, a, 3).tolist() == [0, 1, 2]


def test_images_are_counted_by_who_names_them():
    a, b = probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)
    test = image_test()
    assert versions.agreement(test, a, b) == {"both": 2, "only A": 1, "only B": 2, "neither": 1}
    counts = versions.only_one_right(test, a, b)
    assert counts.to_dict("list") == {"only A": [0, 1, 0], "only B": [0, 1, 1]}
    assert versions.captions(test, a, b, np.array([4])) == ["A cow 0.99\nB bee 0.90\nis bee"]


def test_forecasts_are_compared_in_their_own_unit():
    truth = pd.Series([1.0, 2.0, 3.0, 4.0], power_test(4).truth.index)
    test = power_test(4, truth=truth)
    found = versions.agreement(test, np.array([1.0, 2, 3, 8]), np.array([1.5, 2.5, 3.5, 4]))
    assert found["mean distance, kW"] == pytest.approx((0.5 * 3 + 4) / 4)
    assert found["rows where B is nearer, fraction"] == 0.25


# What an answer costs -------------------------------------------------------------------------


def test_both_are_timed_on_the_history_that_the_hungrier_one_needs(monkeypatch):
    monkeypatch.setattr(versions.time, "perf_counter", lambda: CLOCK[0])
    quick = contender("A", 1, Model(needed_rows=10, seconds=0.001))
    slow = contender("B", 2, Model(needed_rows=30, seconds=0.004))
    costs = versions.measure_costs((quick, slow), power_test(), batch_rows=8, n_repeats=3)
    assert quick.model.asked == slow.model.asked == [30] * 4 + [37] * 4
    assert costs["A"].tolist() == pytest.approx([1.0, 0.125, 2.5])
    assert costs["B"].tolist() == pytest.approx([4.0, 0.5, 2.5])
    assert list(costs.index) == ["latency_ms", "batch_latency_ms", "size_mb"]


def test_images_are_timed_one_by_one_and_no_more_at_once_than_there_are():
    one = contender("A", 1)
    versions.measure_costs((one, contender("B", 2)), image_test(), n_repeats=1)
    assert one.model.asked == [1, 1, 6, 6]


# The notebook ---------------------------------------------------------------------------------


def noisy(test: TestSet, spread: float) -> np.ndarray:
    noise = np.random.default_rng(round(100 * spread)).normal(size=len(test.truth))
    return test.truth.to_numpy() + spread * noise


CASES = {
    "power": (power_test(), noisy(power_test(), 0.8), noisy(power_test(), 0.1)),
    "tick": (tick_test(), noisy(tick_test(), 2.0), noisy(tick_test(), 0.5)),
    "mnist": (image_test(), probabilities(RIGHT_A, SURE_A), probabilities(RIGHT_B, SURE_B)),
    "cifar10": (
        replace(
            image_test("cifar10"), inputs=np.zeros((6, 4, 4, 3), np.uint8), truth=image_test().truth
        ),
        probabilities(RIGHT_B, SURE_B),
        probabilities(RIGHT_B, SURE_B),
    ),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def compared(request):
    """A run of the notebook's code in this process; the versions say what they are told."""
    import matplotlib.pyplot as plt

    test, of_a, of_b = CASES[request.param]
    pair = contender("A", 3, Model(of_a)), contender("B", 4, Model(of_b))
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    first, *others = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    space: dict = {}
    exec(first, space)
    space |= {"run_dir": f"compare/{request.param}", "model": "house", "n_repeats": 1}
    space["n_resamples"] = 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "open_pair", lambda model, a, b: pair)
        patch.setattr(versions, "open_test", lambda pair, source, **more: test)
        patch.setattr(scoring, "predictions", lambda model, test: model.says)
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


def test_page_of_a_comparison_leads_with_the_answer_and_shows_the_paired_metrics(compared):
    pipeline, run = compared
    said = summary.summarise(run)
    page = run_page.render(said)
    assert (said["state"], said["reason"]) == ("passed", run.read("comparison.json")["words"])
    assert f"<p>{escape(said['reason'])}</p>" in page
    assert said["headline"]["metric"].startswith("difference_")
    assert "no check was made" not in page and "B less A<small>95 % interval" in page
    assert ("McNemar p = " in page) == (pipeline in IMAGE_PIPELINES)
    best = re.findall(r'<tr class="gate">.*?<td class="number( best)?">.*?number( best)?">', page)
    assert best == [("", "" if pipeline == "cifar10" else " best")]


# A registry and a DAG ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A registered model with two versions; file of what was measured since, sizes of both."""
    few, many, raw = scoring.sample_pair(tmp_path_factory.mktemp("house"))
    data = few.parent / "house.parquet"
    raw.to_parquet(data)
    client = tracking.open_client()
    client.create_registered_model("house")
    learned = raw.index[len(raw) - 28 * 24 - 1]
    for number, path in enumerate((few, many), start=1):
        made = client.create_logged_model("0", name="model")
        client.log_model_artifacts(made.model_id, str(path))
        client.finalize_logged_model(made.model_id, "READY")
        tags = {"run_dir": f"power/{path.name}", "source": str(data), "gate.outcome": "first"}
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
    from whole_runs import go, impatient

    services.prepare()
    values = {"model": "house", "a": "1", "b": "@staging", "n_repeats": 1, "last_days": 27}
    done, _, run = go(impatient("compare"), **values)
    assert done.state == "success"
    found, metrics = run.read("comparison.json"), run.read("metrics.json")
    assert found["better"] == "B" and found["words"].startswith("B (version 2) is better: rmse")
    assert [note for note in found["notes"] if "until when A (version 1) has learned" in note]
    assert found["n_rows"] == metrics["n_test"] == 27 * 24
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
        versions.open_pair("house", "@production", "@staging")
