"""Reports inside Airflow: what they show of a run, and when they are shown anew."""

import json
import shutil

from lib.ground import runs
from lib.ground.files import ROOT, outputs_dir
from lib.pages import html
from lib.run import open_run
from tests import airflow_reports
from tests.airflow_reports import REPORT, RUN, RUN_ID, notebook

import pytest

folder = airflow_reports.folder
tokens = airflow_reports.tokens
client = airflow_reports.client
get = airflow_reports.get


def test_run_that_has_not_begun_waits_and_is_live(get, folder):
    shutil.rmtree(folder)
    assert "its first stage" in get(f"page/{REPORT}").text
    assert get(f"state/{REPORT}").json()["live"] is True


def test_stage_that_has_not_begun_waits_and_one_that_does_not_exist_is_not_found(get, folder):
    assert "02_features" in get(f"page/{RUN}/02_features.html").text
    assert get(f"page/{RUN}/99_nothing.html").status_code == 404
    assert get("page/nothing/x/report.html").status_code == 404


def test_stage_that_will_not_be_run_is_not_waited_for(get, folder):
    failed = notebook("first words", state="ended")
    failed["metadata"]["papermill"]["exception"] = True
    (folder / "01_load.ipynb").write_text(json.dumps(failed))
    text = get(f"page/{RUN}/02_features.html").text
    assert "not run" in text and "02_features was not run: the run has failed." in text
    assert "Waiting" not in text and ">waiting<" not in get(f"page/{REPORT}").text
    assert get(f"state/{REPORT}").json()["live"] is False


def test_run_that_was_closed_is_live_no_more(get, folder):
    before = get(f"state/{REPORT}").json()
    runs.close_run(open_run(RUN), "lost", "The machine went down")
    after = get(f"state/{REPORT}").json()
    assert before["live"] and not after["live"] and after["version"] != before["version"]
    assert "The machine went down" in get(f"page/{REPORT}").text
    assert "The machine went down" in get(f"page/{RUN}/02_features.html").text


@pytest.mark.parametrize("stage", ["01_load", "02_features"])
def test_page_of_a_stage_leads_on_by_itself(get, folder, stage):
    text = get(f"page/{RUN}/{stage}.html").text
    nav = text[text.index("<nav") : text.index("</nav>")]
    assert 'href="../../index.html"' in nav and 'href="report.html"' in nav
    other = "02_features" if stage == "01_load" else "01_load"
    assert f'href="{other}.html"' in nav
    assert "All runs" not in get(f"view/{RUN}/{stage}.html").text, "said once"


def test_page_of_a_run_that_goes_on_links_the_stage_that_is_running(get, folder):
    text = get(f"page/{REPORT}").text
    assert 'href="01_load.html"' in text and 'href="02_features.html"' not in text


@pytest.mark.slow
def test_two_runs_are_compared_under_links_that_lead_back_to_them(get, folder):
    shutil.copytree(folder, folder.parent / "run-1")
    (folder.parent / "run-1" / "report.html").touch()
    text = get(f"page/compare?a=power/run-1&b={RUN.replace('+', '%2B')}").text
    assert 'href="power/run-1/report.html"' in text


def test_runs_on_a_remote_file_system_are_shown_and_have_versions(get, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", "memory://reports-test")
    path = outputs_dir() / "power" / "run-1"
    path.mkdir(parents=True)
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words")))
    before = get("state/power/run-1/report.html").json()["version"]
    assert "first words" in get("page/power/run-1/01_load.html").text
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    assert get("state/power/run-1/report.html").json()["version"] != before


@pytest.mark.parametrize(("state", "is_stored"), [("passed", True), ("running", False)])
def test_remote_run_that_has_ended_is_shown_as_it_is_stored(get, monkeypatch, state, is_stored):
    monkeypatch.setenv("OUTPUTS_DIR", f"memory://reports-{state}")
    path = outputs_dir() / "power" / "run-1"
    (path / "stages").mkdir(parents=True)
    (path / "01_load.ipynb").write_text(json.dumps(notebook("first words")))
    (path / "summary.json").write_text(json.dumps({"run_dir": "power/run-1", "state": state}))
    for name in ("report.html", "01_load.html"):
        (path / name).write_text(html.document("Stored", "as stored"))
        assert ("as stored" in get(f"page/power/run-1/{name}").text) == is_stored


def test_version_changes_with_the_notebook_and_live_ends_with_the_run(get, folder):
    before = get(f"state/{REPORT}").json()
    assert before == get(f"state/{REPORT}").json() and before["live"] is True
    (folder / "01_load.ipynb").write_text(json.dumps(notebook("first words", "second words")))
    after = get(f"state/{REPORT}").json()
    assert after["version"] != before["version"] and after["live"] is True
    assert "second words" in get(f"page/{RUN}/01_load.html").text
    for stage in sorted((ROOT / "notebooks" / "power").glob("[0-9]*.ipynb")):
        (folder / stage.name).write_text(json.dumps(notebook("done", state="ended")))
    assert get(f"state/{REPORT}").json()["live"] is False


def test_notebook_comes_as_a_file_to_keep(get, folder):
    answer = get(f"page/{RUN}/01_load.ipynb")
    assert answer.json() == notebook("first words")
    assert answer.headers["content-disposition"].startswith('attachment; filename="power-manual')


@pytest.mark.parametrize(("task", "name"), [("", "report.html"), ("/01_load", "01_load.html")])
def test_ids_of_airflow_lead_to_the_run_folder(get, task, name):
    answer = get(f"run/power/manual__2026-01-02T03%3A04%3A05%2B00%3A00{task}")
    assert answer.headers["location"] == f"/reports/view/{RUN.replace('+', '%2B')}/{name}"


@pytest.mark.parametrize("task", ["..%2fsecret", "wait", "01_load.x"])
def test_task_that_is_no_notebook_has_no_report(get, folder, task):
    answer = get(f"run/power/{RUN_ID}/{task}")
    assert answer.status_code == 404 or get(answer.headers["location"][9:]).status_code == 404
