"""The tables of a run's page: the gate, and the metrics with what they are compared with."""

import json
import re

from lib.pages import publish, run_page, tables
from lib.pages.summary import summarise
from tests import run_pages
from tests.run_pages import DECIDED, MADE, METRICS, gated_run, make_run, row_of, text_of, verdict

import pytest

outputs = run_pages.outputs


def test_changes_are_marked_by_the_direction_of_the_metric():
    summary = summarise(make_run(metrics=METRICS, verdict=verdict()))
    previous = summarise(
        make_run("wind/before", metrics={"rmse": 0.42, "r2": 0.95}, dataset={"digest": "e" * 64})
    )
    served = {"name": "wind_gbm", "version": 2, "alias": "production", "run_dir": "wind/old"}
    served |= {"metrics": {"rmse": 0.5, "r2": 0.9}, "digest": "d" * 64}
    page = run_page.render(summary, previous=previous, served=served)
    assert row_of(page, "rmse") == [
        "rmse ↓",
        "0.40 0.35 to 0.45",
        "0.42 \N{MINUS SIGN}0.02 better, inside the interval",
        "0.50 \N{MINUS SIGN}0.10 better",
        "0.80",
    ]
    assert row_of(page, "r2") == [
        "r2 ↑",
        "0.90",
        "0.95 \N{MINUS SIGN}0.05 worse",
        "0.90 no change",
    ]
    head = text_of(page[: page.index("<tbody>")] + "</main>")
    assert "Previous run 2026-01-02 03:04, other data" in head
    assert "@production, version 2 same data" in head
    assert 'href="../../wind/before/report.html"' in page
    assert 'href="../../wind/old/report.html"' in page


def test_previous_run_that_is_in_production_stands_there_once():
    summary = summarise(make_run(metrics=METRICS))
    previous = summarise(make_run("wind/before", metrics={"rmse": 0.42}))
    served = {"name": "wind_gbm", "version": 2, "alias": "production", "run_dir": "wind/before"}
    page = run_page.render(summary, previous=previous, served=served | {"metrics": {"rmse": 0.42}})
    assert len(row_of(page, "rmse")) == 4 and "@production, version 2; same data" in text_of(page)


def shown(**metrics):
    return run_page.render(summarise(make_run(metrics=metrics)))


def bold_of(page, metric):
    """Return the numbers of a metric's row that are bold."""
    row = re.search(rf'<tr[^>]*><th scope="row">{metric} .*?</tr>', page)[0]
    return re.findall(r'class="?(?:number )?best"?>([\d.]+)', row)


def test_numbers_of_a_metric_have_like_decimals_and_a_tie_is_a_tie():
    page = shown(accuracy=1.0, logistic_accuracy=0.284, one_view_accuracy=1.0, most_accuracy=0.1)
    assert row_of(page, "accuracy") == ["accuracy ↑", "1.000", "0.284", "1.000", "0.100"]
    assert bold_of(page, "accuracy") == ["1.000", "1.000"]
    page = shown(mse=1.13205, gru_mse=1.13179, persistence_mse=1.24488)
    assert row_of(page, "mse")[1:] == ["1.132", "1.132", "1.245"]
    assert bold_of(page, "mse") == ["1.132", "1.132"]
    assert bold_of(shown(mse=0.5, gru_mse=0.50000001), "mse") == [], "nothing to tell apart"


def test_what_rounding_leaves_of_a_zero_is_zero():
    found = {"expected_calibration_error": 5.5e-05, "most_expected_calibration_error": 1.388e-17}
    page = shown(**found, logistic_expected_calibration_error=0.07719)
    row = row_of(page, "expected_calibration_error")
    assert row == ["expected_calibration_error ↓", "0.000055", "0", "0.077190"]
    assert "e-" not in text_of(page)


def test_metrics_without_baselines_have_no_columns_for_them():
    page = shown(**METRICS, persistence_r2_extra=1.0)
    first, second = re.findall(r"(?s)<table.*?</table>", page[page.index("Metrics</h2>") :])[:2]
    assert "persistence" in first and ">rmse ↓" in first and ">r2" not in first
    assert "persistence" not in second and ">r2 ↑" in second and ">rmse" not in second


def test_every_baseline_has_a_column_empty_where_a_metric_lacks_it():
    planted = {"planted_rank_ic": 0.35, "gru_rank_ic": 0.31}
    page = shown(rank_ic=0.3, mae=0.8, gru_mae=0.7, **planted)
    assert row_of(page, "rank_ic") == ["rank_ic ↑", "0.30", "0.35", "0.31"]
    assert row_of(page, "mae") == ["mae ↓", "0.8", "", "0.7"]
    assert bold_of(page, "rank_ic") == ["0.35"]


def test_metric_of_unknown_direction_is_shown_without_an_arrow():
    page = shown(
        uplift_at_ten=0.91234, uplift_at_ten_low=0.9, uplift_at_ten_high=0.92, n_test=12345.0
    )
    words = text_of(page)
    assert "uplift_at_ten 0.9123 0.9000 to 0.9200" in words and "n_test 12,345" in words
    assert not {"↑", "↓"} & set(words[words.index("Metrics") :])
    page = shown(rmse=0.4, uplift_at_ten=0.9, validation_rmse=0.5, gru_rmse=0.6, gru_rmse_low=0.5)
    words = text_of(page)
    assert "uplift_at_ten 0.9 validation_rmse 0.5" in words and "gru_rmse_low" not in words


def test_direction_and_unit_of_a_metric_are_what_its_run_has_stated():
    test = {"metric": "uplift", "greater_is_better": True, "unit": "points", "kind": "ranking"}
    run = make_run(metrics={"uplift": 0.9, "persistence_uplift": 0.8}, test=test)
    page = publish.build(run, ask_registry=False)
    assert row_of(page, "uplift") == ["uplift (points) ↑", "0.9", "0.8"]
    assert bold_of(page, "uplift") == ["0.9"]
    (run.path / "test.json").write_text(json.dumps(test | {"greater_is_better": False}))
    assert bold_of(publish.build(run, ask_registry=False), "uplift") == ["0.8"]


def test_unit_of_the_truth_is_that_of_its_errors_and_of_no_rank():
    test = {"metric": "rank_ic", "greater_is_better": True, "unit": "bps", "kind": "ranking"}
    run = make_run(metrics={"rank_ic": 0.3, "mae": 2.0, "mse": 9.0, "r2": 0.1}, test=test)
    page = publish.build(run, ask_registry=False)
    heads = [row_of(page, name)[0] for name in ("rank_ic", "mae", "mse", "r2")]
    assert heads == ["rank_ic ↑", "mae (bps) ↓", "mse (bps²) ↓", "r2 ↑"]


def test_damaged_metric_costs_no_page():
    words = text_of(shown(rmse="?", mae=0.5, r2=None))
    assert "mae ↓ 0.5" in words and "rmse" not in words


def test_gate_stands_right_below_the_sentence_that_says_what_followed():
    promotion = DECIDED | {"outcome": "promoted"}
    run = gated_run(registration=MADE | {"promoted": True}, promotion=promotion)
    page = publish.build(run)
    first = page[page.index('<section class="verdict passed">\n<p>') :].partition("<p>")[2]
    assert first.startswith("Promoted: rmse 0.4312 kW against 0.4390 of version 4, better")
    words = text_of(page)
    expected = [
        "better by +0.0078 (+0.0051 to +0.0104).",
        "bob has agreed: a <b> idea.",
        "Registered as wind_gbm version 5, @staging",
        "Gate Metric Result Floor Candidate In production then version 4 Difference 95 % interval",
        "rmse (kW) ↓ passed 0.4312 0.4390 \N{MINUS SIGN}0.0078 \N{MINUS SIGN}0.0104 to",
        "rmse_vs_persistence ↓ passed ≤ 0.5 0.4",
        "Margin: 0.001. Version 4 is old.",
        "Started by jane",
        "Metrics",
    ]
    places = [words.index(text) for text in expected]
    assert places == sorted(places)
    assert '<a href="../../wind/old/report.html">In production then</a>' in page
    assert "less version 4, which was in production when this was decided" in words
    assert "a &lt;b&gt; idea" in page


def test_gate_without_a_champion_shows_floors_only():
    words = text_of(publish.build(gated_run(champion=(), registration=MADE | {"promoted": True})))
    assert "Promoted: nothing was in production, and every floor was reached." in words
    assert "Gate Metric Result Floor Candidate rmse_vs_persistence" in words
    assert "Difference" not in words and "In production" not in words


def metrics_of(page):
    """Return the part of a page that is below the gate's table."""
    return page[page.index("Metrics</h2>") :]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ({}, "0.4390 \N{MINUS SIGN}0.0078 better"),
        ({"champion": 0.4312, "difference": 0.0}, "0.4312 no change"),
    ],
)
@pytest.mark.parametrize("column", ["previous", "served"])
def test_metrics_show_of_the_champion_what_the_gate_has_found_on_the_same_rows(pair, said, column):
    metrics = METRICS | {"rmse": 0.4312, "r2": 0.88, "r2_low": 0.8, "r2_high": 0.95}
    run = gated_run(registration=MADE)
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    decision = json.loads((run.path / "gate.json").read_text())
    decision["rows"][0] |= pair
    (run.path / "gate.json").write_text(json.dumps(decision))
    other = {"rmse": 0.44, "r2": 0.9}
    before = {"served": {"name": "wind_gbm", "version": 4, "alias": "production", "run_dir": ""}}
    before["served"] |= {"metrics": other}
    before["previous"] = summarise(make_run("wind/old", metrics=other))
    page = metrics_of(run_page.render(summarise(run), **{column: before[column]}))
    assert row_of(page, "rmse")[2] == said
    assert row_of(page, "r2")[2].endswith("worse, inside the interval"), "not compared by the gate"
    far = {"previous": before["previous"] | {"run_dir": "wind/else"}}
    page = metrics_of(run_page.render(summarise(run), **far))
    assert row_of(page, "rmse")[2].endswith("better"), "another run: the gate knows nothing of it"


def test_damaged_gate_is_named_and_costs_nothing_else():
    words = text_of(publish.build(make_run(metrics=METRICS, verdict=verdict(), gate={"rows": 3})))
    assert "gate.json cannot be shown" in words
    assert "rmse = 0.4, 0.1 below the 0.5 that is allowed at most: passed" in words


def test_metrics_stand_beside_their_baselines_and_intervals():
    rows = tables.metric_rows(
        {
            "mse": 4.0,
            "accuracy": 0.9,
            "accuracy_low": 0.8,
            "accuracy_high": 0.95,
            "logistic_accuracy": 0.7,
            "validation_accuracy": 0.91,
            "n_test": 10.0,
        }
    )
    assert [row["metric"] for row in rows] == ["accuracy", "mse"]
    assert rows[0] == {
        "metric": "accuracy",
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "greater_is_better": True,
        "baselines": {"logistic": 0.7},
    }
