"""Runs that are made up of a few files, and what the comparison says of them."""

import copy
import json

from lib.pages import code_diff, differences, two_runs
from lib.run import open_run

import pytest

PNG = b"\x89PNG\r\n\x1a\n"
METRICS = {"rmse": 0.5, "rmse_low": 0.4, "rmse_high": 0.6, "persistence_rmse": 0.8, "r2": 0.6}
DATA = {"source": "sample", "digest": "a" * 64, "n_rows": 1200, "start": "2007-01-01"}
START = {"started": "2026-01-02T03:04:05+00:00", "commit": "c" * 40, "lock": "1" * 64}


def code(text, *tags):
    return {
        "cell_type": "code",
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "execution_count": 1,
        "source": text,
    }


def notebook(*cells):
    heading = {"cell_type": "markdown", "metadata": {}, "source": "# Load"}
    times = {"start_time": "2026-01-02T03:04:05+00:00", "end_time": "2026-01-02T03:04:15+00:00"}
    record = {**times, "duration": 10.0, "peak_memory_bytes": 2**28}
    whole = {"cells": [heading, *cells], "metadata": {"papermill": record}}
    return whole | {"nbformat": 4, "nbformat_minor": 5}


FIRST = [code("import numpy as np"), code("x = 1\ny = 2"), code("print(x + y)")]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a run folder: parameters, files by name, and the first stage's code cells."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))

    def write(run_dir, parameters=None, cells=FIRST, figures=None, **files):
        folder = tmp_path / run_dir
        (folder / "stages").mkdir(parents=True)
        figures = figures or {}
        record = {"state": "finished", "parameters": parameters or {}, "writes": figures}
        (folder / "stages/01_load.json").write_text(json.dumps({**record, "writes": [*figures]}))
        (folder / "01_load.ipynb").write_text(json.dumps(notebook(*cells)))
        for name, data in figures.items():
            if ".." not in name:
                (folder / name).write_bytes(data)
        known = {"metrics": METRICS, "dataset": DATA, "run": START} | files
        for name, content in known.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return open_run(run_dir)

    return write


def change_of(name, a, b):
    return {row["metric"]: row for row in differences.metric_pairs(a, b)}[name]


@pytest.mark.parametrize(
    ("metric", "value", "change"),
    [("rmse", 0.4, "better"), ("rmse", 0.6, "worse"), ("r2", 0.7, "better"), ("r2", 0.6, "equal")],
)
def test_metric_is_better_or_worse_by_its_direction(metric, value, change):
    assert change_of(metric, METRICS, METRICS | {metric: value})["change"] == change


def test_difference_is_second_run_less_first():
    assert change_of("rmse", METRICS, METRICS | {"rmse": 0.75})["difference"] == 0.25


def test_metric_of_one_run_only_is_named_and_not_judged():
    row = change_of("mae", METRICS, METRICS | {"mae": 0.3})
    assert (row["change"], row["difference"]) == ("only in B", None)


def test_parameters_that_differ_are_listed_and_others_counted(make):
    a = make("power/a", {"horizon": 1, "lags": [1, 2], "source": "sample"})
    b = make("power/b", {"horizon": 24, "lags": [1, 2], "source": "sample", "extra": True})
    summaries = [two_runs.summarise(run) for run in (a, b)]
    pairs = differences.parameter_pairs(*(summary["parameters"] for summary in summaries))
    assert [(p["name"], p["a"], p["b"]) for p in pairs] == [
        ("horizon", "1", "24"),
        ("extra", None, "true"),
    ]
    page = two_runs.render(a, b)
    assert ">2 agree.<" in page and "1 only in B" in page and "extra = true" in page
    words = dict(differences.differences(*summaries, {}))["parameters"]
    assert words == "1 of 3 differ: horizon 1 → 24, 1 only in B"


def test_password_in_a_source_is_not_shown(make):
    secret = "sql:postgresql://reader:geheim@db.example/energy#readings"
    a, b = make("power/a", {"source": "sample"}), make("power/b", {"source": secret})
    page = two_runs.render(a, b)
    assert "geheim" not in page and "db.example" in page


def test_stage_that_was_taken_is_told_from_one_that_has_run(make):
    a, b = make("power/a"), make("power/b", run=START | {"run_id": "manual__2"})
    place = b.path / "stages/01_load.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"from": "power/a"}))
    assert "<td>passed</td><td>taken</td>" in two_runs.render(a, b)


def test_changed_added_and_removed_lines_are_told_cell_by_cell(make):
    cells = [code("import os\nprint(os.name)"), FIRST[0], code("x = 1\ny = 3")]
    found = code_diff.code_changes(make("power/a"), make("power/b", cells=cells))
    assert found == {
        "01_load": [
            *(("+", "# %%"), ("+", "import os"), ("+", "print(os.name)")),
            *((" ", "# %%"), (" ", "import numpy as np"), (" ", "# %%"), (" ", "x = 1")),
            *(("-", "y = 2"), ("-", "# %%"), ("-", "print(x + y)"), ("+", "y = 3")),
        ]
    }
    words = differences.differences(
        *(two_runs.summarise(open_run(f"power/{n}")) for n in "ab"), found
    )
    assert dict(words)["code"] == "01_load 4 lines added, 3 removed"


def test_outputs_parameters_of_the_run_and_failure_reports_are_no_change_of_code(make):
    other = copy.deepcopy(FIRST)
    other[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "3\n"}]
    other.insert(1, code("x = 5", "injected-parameters"))
    marker = {"cell_type": "markdown", "metadata": {"tags": ["papermill-error-cell-tag"]}}
    other.insert(0, marker | {"source": "**Execution failed**"})
    runs = make("power/a"), make("power/b", cells=other)
    assert code_diff.code_changes(*runs) == {"01_load": []}
    assert "No code cell differs in 01_load" in two_runs.render(*runs)


def test_lines_far_from_a_change_are_left_out():
    before = [f"line {number}" for number in range(20)]
    after = ["first", *before[1:19], "last"]
    lines = code_diff.line_diff("\n".join(before), "\n".join(after))
    assert [sign for sign, _ in lines] == ["-", "+", *"   ", "…", *"   ", "-", "+"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": DATA | {"digest": "b" * 64}}, "the data differ"),
        ({"metrics": METRICS | {"persistence_rmse": 0.9}}, "persistence_rmse differs"),
        ({"metrics": METRICS | {"rmse": 0.4}}, ""),
    ],
)
def test_runs_with_different_tests_are_not_compared_without_a_warning(make, change, reason):
    runs = make("power/a"), make("power/b", **change)
    said = differences.unlike_tests(*(two_runs.summarise(run) for run in runs))
    assert said.startswith(reason) and bool(said) == bool(reason)
    assert ("Take care" in two_runs.render(*runs)) == bool(reason)


def test_baseline_that_differs_is_no_achievement():
    row = change_of("persistence_rmse", METRICS, METRICS | {"persistence_rmse": 0.9})
    assert (row["kind"], row["change"]) == ("baseline", "differs")


def test_damaged_metric_is_left_out():
    assert change_of("rmse", METRICS, METRICS | {"rmse": "?"})["change"] == "only in A"
    assert change_of("rmse", METRICS | {"rmse": float("nan")}, METRICS)["change"] == "only in B"


def test_numbers_of_a_metric_have_like_decimals_and_zero_is_zero(make):
    runs = [{"accuracy": 1.0, "loss": 0.1}, {"accuracy": 0.99, "loss": 1.388e-17}]
    a, b = (make(f"power/{n}", metrics=m) for n, m in zip("ab", runs, strict=True))
    page = two_runs.render(a, b)
    assert "<td>1.00</td><td>0.99</td>" in page and "<td>0.1</td><td>0</td>" in page
    assert "e-" not in page[page.index("<tbody>") : page.index("</tbody>")]


@pytest.mark.parametrize(
    ("value", "text"), [(0.4, "20%"), (0.5002, "0.04%"), (0.5, ""), (0.517, "3.4%"), (1.5, "200%")]
)
def test_share_that_is_small_is_not_said_to_be_none(value, text):
    assert change_of("rmse", METRICS, METRICS | {"rmse": value})["share"] == text


def test_numbers_that_differ_by_rounding_are_equal():
    row = change_of("loss", {"loss": 0.0}, {"loss": 1.388e-17})
    assert (row["change"], row["difference"]) == ("equal", 0.0)
    assert change_of("loss", {"loss": 0.1 + 0.2}, {"loss": 0.3})["change"] == "equal"
    assert change_of("loss", {"loss": 0.3}, {"loss": 0.300001})["change"] == "worse"


def test_metric_of_unknown_direction_is_shown_and_not_judged(make):
    a, b = (make(f"power/{n}", metrics={"uplift": v}) for n, v in (("a", 0.1), ("b", 0.2)))
    page = two_runs.render(a, b)
    assert '<td class="differs">differs</td>' in page and "is better" not in page


def test_numbers_that_differ_look_different():
    assert differences.places(0.6943756, 0.6943766) == 6
    assert differences.places(10320.0, None) == 0


def test_data_and_environment_are_put_in_words():
    other = DATA | {"digest": "b" * 64, "n_rows": 1100}
    assert differences.data_words(DATA, DATA) == "the same, 1,200 rows, digest aaaaaaaaaaaa"
    words = differences.data_words(DATA, other)
    assert words.startswith("different: 1,200 rows in A, 1,100 rows in B, although both are from")
    words = differences.environment_words(START, START | {"commit": "d" * 40, "python": "3.12.1"})
    assert words == "commit cccccccccccc… and dddddddddddd…, same lock file, Python unknown"


def test_names_and_code_from_runs_are_escaped(make):
    evil = "</pre><script>alert(1)</script>"
    a = make("power/a", {"country": evil})
    b = make("power/b", cells=[*FIRST, code(evil)], dataset=DATA | {"source": evil, "digest": evil})
    page = two_runs.render(a, b)
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") >= 3


def test_figures_stand_beside_each_other_unless_they_are_the_same(make):
    a = make("power/a", figures={"forecast.png": PNG + b"a", "errors.png": PNG, "old.png": PNG})
    b = make("power/b", figures={"forecast.png": PNG + b"b", "errors.png": PNG})
    page = two_runs.render(a, b)
    assert page.count("<img") == 4  # forecast twice, errors once, old of A
    assert "1 of 3 are the same" in page and "B: no figure" in page


def test_figure_outside_of_the_run_folder_is_not_read(make, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    runs = [make(f"power/{name}", figures={"../../secret.png": b""}) for name in "ab"]
    assert "<img" not in two_runs.render(*runs)


def test_runs_of_different_pipelines_are_compared_without_code_and_told_apart(make):
    runs = make("power/a", {"seed": 0}), make("tick/a", {"seed": 1})
    page = two_runs.render(*runs)
    assert "the pipelines differ: the runs were not judged by the same test" in page
    assert 'id="code"' not in page and ">seed<" in page


def test_damaged_run_still_has_a_page_that_names_the_damage(make):
    a, b = make("power/a"), make("power/b")
    (b.path / "metrics.json").write_text("{")
    (b.path / "01_load.ipynb").write_text("{")
    page = two_runs.render(a, b)
    assert "metrics.json cannot be read" in page
    assert "01_load is not compared: only one of the runs" in page


@pytest.mark.slow
def test_command_writes_the_page_and_prints_what_differs(make, tmp_path, capsys):
    verdict = {"metric": "rmse", "value": 0.5, "threshold": 0.9, "greater_is_better": False}
    verdict = {"passed": True, "checks": [verdict | {"passed": True}]}
    make("power/a", {"horizon": 1}, verdict=verdict)
    make("power/b", {"horizon": 2}, verdict=verdict, metrics=METRICS | {"rmse": 0.4})
    two_runs.compare(open_run("power/a"), open_run("power/b"), "B is the newest")
    page = tmp_path / ".compare/power.a--power.b.html"
    assert page.read_text().endswith("</html>\n")
    said = capsys.readouterr().out
    assert "rmse 0.5 in A, 0.4 in B: better by 0.1, 20%; of 2 metrics" in said
    assert "1 of 1 differ: horizon 1 → 2" in said and str(page) in said
    assert "chosen       B is the newest" in said


def test_run_against_itself_is_refused(make):
    run = make("power/a")
    with pytest.raises(ValueError, match="name two different ones"):
        two_runs.compare(run, run)


def test_page_names_of_long_runs_fit_and_differ():
    names = [two_runs.page_name(f"power/{'x' * 240}{end}", "power/b") for end in "12"]
    assert len(names[0].encode()) < 255 and names[0] != names[1]
