"""What a terminal is told of a run that has ended, whatever the run has left."""

import io
from types import SimpleNamespace

from lib.dag import dagrun
from lib.pages.summary import write_summary
from lib.registry import lifecycle
from lib.run import open_run
from lib.tracking import tracking_uri

import pytest
from run_pages import MADE, make_run, outputs, verdict

__all__ = ["outputs"]


def told(run, state="failed"):
    out = io.StringIO()
    dagrun._tell(run, state, out)
    return out.getvalue()


def test_evaluation_that_failed_after_its_verdict_is_not_told_as_passed():
    error = ("AssertionError", "a leak: forecasts change\nSome feature looks ahead")
    said = told(make_run(error=error, verdict=verdict()))
    assert "verdict  rmse = 0.4, required <= 0.5: passed" in said
    assert "  failed   2 · Evaluate: AssertionError: a leak: forecasts change Some feature" in said


@pytest.mark.parametrize("text", ["", "\n", "\n\nfirst\nsecond", "word " * 1000])
@pytest.mark.parametrize(
    "left", [{}, {"passed": True}, verdict(value=None), verdict(threshold=None)]
)
def test_evaluation_that_failed_is_told_in_one_line_whatever_its_verdict(text, left):
    run = make_run(error=("ValueError", text), **({"verdict": left} if left else {}))
    (line,) = [line for line in told(run).splitlines() if line.startswith("  failed   ")]
    assert line.startswith("  failed   2 · Evaluate: ValueError:") and len(line) < 520
    assert "first" not in text or "first second" in line


def test_model_below_its_floor_is_told_once_with_the_parameter_that_sets_it():
    missed = verdict(value=0.9, passed=False, parameter="max_rmse")
    error = (lifecycle.GateError.__name__, "wind was not registered")
    lines = told(make_run(error=error, verdict=missed)).splitlines()
    said = "  verdict  rmse = 0.9, required <= 0.5: FAILED (the parameter max_rmse sets this floor)"
    assert lines[1:] == [said]


def test_files_that_were_cut_off_are_no_reason_to_tell_nothing(outputs):
    run = make_run(
        error=("ValueError", "no rows"), registration={"name": "wind"}, promotion={"x": 1}
    )
    (run.path / "mlflow.json").write_text('{"tracking_uri": ')
    (run.path / "summary.json").write_text("{")
    said = told(run)
    assert "model    wind version ?, ?" in said and "2 · Evaluate: ValueError: no rows" in said


def test_run_that_was_cancelled_before_it_had_a_folder_is_not_to_be_resumed():
    said = told(open_run("wind/never"), "cancelled")
    assert said == "  cancelled before its first stage began; nothing was kept of it\n"
    run = make_run()
    assert f"  go on    make run RESUME={run.run_dir}\n" in told(run, "cancelled")


def test_summary_of_an_earlier_stage_is_not_taken_for_the_end():
    run = make_run()
    write_summary(run)
    make_run(error=("ValueError", "no rows"))
    assert "ValueError: no rows" in told(run)


def test_run_that_passed_is_told_with_its_model_and_its_mlflow_run():
    known = {"tracking_uri": tracking_uri(), "run_id": "ab12"}
    made = MADE | {"uri": "models:/wind_gbm@staging"}
    said = told(make_run(verdict=verdict(), mlflow=known, registration=made), "passed")
    assert f"MLflow   run ab12 in {tracking_uri()}" in said and "failed" not in said
    assert "model    wind_gbm version 5, models:/wind_gbm@staging" in said


def test_run_without_a_verdict_is_told_by_its_result():
    watch = {"name": "wind_gbm", "version": 3, "note": "nothing unusual"}
    said = told(make_run(watch=watch, metrics={"n_scored": 12}), "passed")
    assert "  result   12 new rows were scored by version 3 of wind_gbm; nothing unusual" in said


@pytest.mark.parametrize(("dags", "words"), [({}, "no DAG"), ({"a": 1, "b": 2}, "a, b")])
def test_dag_file_that_defines_another_dag_or_none_is_an_error_that_says_which(
    dags, words, monkeypatch
):
    bag = SimpleNamespace(import_errors={}, dags=dags)
    monkeypatch.setattr("lib.dag.lean.open_bag", lambda _: bag)
    with pytest.raises(ValueError, match=f"dags/wind.py defines {words}, expected wind"):
        dagrun.load_bag("wind")
