"""Keeping a change: shown first, merged with what others did, and nothing of the run in it."""

import json
import os
import shutil

from lib.commands import cli, keep, workbench
from lib.commands.workbench import open_stage
from lib.ground import outcome
from lib.ground.files import ROOT
from lib.run import open_run

import nbformat
import pytest
from upath import UPath

COMMITTED = "notebooks/power/05_evaluate.ipynb"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own: the notebooks of power, and a run of them."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    for module in (workbench, keep):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    shutil.copytree(ROOT / "notebooks/power", tmp_path / "notebooks/power")
    for stage in ("01_load", "02_features", "03_tune", "04_train"):
        run = open_run("power/r1", stage=stage)
        run.write(f"{stage}.json", {})
        run.finish()
    ran = json.loads((tmp_path / COMMITTED).read_text())
    given = {"run_dir": "power/r1", "block_length": 9}
    ran["metadata"]["papermill"] = {"parameters": given}
    injected = {"cell_type": "code", "id": "in", "source": "block_length = 9", "outputs": []}
    injected |= {"metadata": {"tags": ["injected-parameters"]}, "execution_count": 2}
    ran["cells"].insert(2, injected)
    outcome.mark_failed(ran, 6, "KeyError", "'kW'")
    outcome.write_notebook(run.path / "05_evaluate.ipynb", ran)
    return tmp_path


@pytest.fixture
def opened(project):
    return open_stage("power/r1", "05_evaluate", project)


def cells(path):
    return {cell["id"]: cell for cell in outcome.read_notebook(UPath(path))["cells"]}


def edit(path, identity, old, new):
    """Replace text in a cell, as somebody does in JupyterLab, and leave outputs there."""
    notebook = outcome.read_notebook(UPath(path))
    (cell,) = [cell for cell in notebook["cells"] if cell["id"] == identity]
    source = outcome.source_text(cell)
    assert old in source
    cell["source"] = source.replace(old, new, 1).splitlines(keepends=True)
    if cell["cell_type"] == "code" and "workbench" in str(path):
        cell |= {"execution_count": 41, "metadata": cell["metadata"] | {"scrolled": True}}
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["mine"]}]
    path.write_text(json.dumps(notebook))


def insert(path, after, identity, source):
    notebook = outcome.read_notebook(UPath(path))
    at = next(i for i, cell in enumerate(notebook["cells"], 1) if cell["id"] == after)
    new = {"cell_type": "code", "id": identity, "metadata": {}, "source": source}
    notebook["cells"].insert(at, new | {"outputs": [], "execution_count": None})
    path.write_text(json.dumps(notebook))


def test_notebook_as_it_was_opened_has_nothing_to_keep(project, opened, capsys):
    before = (project / COMMITTED).read_bytes()
    keep.main("latest", apply=True)
    assert "nothing to keep" in capsys.readouterr().out
    assert (project / COMMITTED).read_bytes() == before


@pytest.mark.slow
def test_change_of_code_is_written_alone_and_outputs_are_cleared(project, opened, capsys):
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    before = cells(project / COMMITTED)
    keep.main(str(opened.relative_to(project)), apply=True)
    after = cells(project / COMMITTED)
    assert list(after) == list(before), "the cells and their ids, and none of the run's"
    changed = [i for i in before if before[i]["source"] != after[i]["source"]]
    assert changed == ["evaluate-10"] and "0.6 * n_test" in "".join(after[changed[0]]["source"])
    assert all(before[i]["metadata"] == after[i]["metadata"] for i in before)
    code = [cell for cell in after.values() if cell["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    nbformat.validate(nbformat.read(project / COMMITTED, as_version=4))
    printed = capsys.readouterr().out
    assert "modified /cells/9/source" in printed and "make notebooks PIPELINE=power" in printed
    shown = [line for line in printed.splitlines() if line.startswith(("+", "-"))]
    found = [("0.6 *" in line, "min_judged *" in line) for line in shown]
    assert found == [(False, True), (True, False)]


def test_change_of_prose_keeps_the_outputs_and_the_bytes_of_all_else(project, opened, capsys):
    edit(opened, "evaluate-11", "Watch the evening", "Mind the evening")
    expected = (project / COMMITTED).read_text().replace("Watch the evening", "Mind the evening")
    keep.main("latest", apply=True)
    assert (project / COMMITTED).read_text() == expected
    printed = capsys.readouterr().out
    assert "modified /cells/12/source" in printed and "make notebooks" not in printed


def test_values_of_the_run_stay_out_and_a_default_changes_where_it_is_written(project, opened):
    parameters = "injected-parameters"
    edit(opened, parameters, "block_length = 9", "block_length = 30")
    keep.main("latest", apply=True)
    assert "block_length: int = 0" in "".join(cells(project / COMMITTED)["evaluate-02"]["source"])
    edit(opened, "evaluate-02", "block_length: int = 0", "block_length: int = 14")
    keep.main("latest", apply=True)
    assert "block_length: int = 14" in "".join(cells(project / COMMITTED)["evaluate-02"]["source"])


def test_links_to_other_stages_are_those_of_the_committed_notebook(project, opened):
    edit(opened, "evaluate-01", "Judge the saved model", "Judge the model")
    card = "".join(cells(project / COMMITTED)["evaluate-01"]["source"])
    keep.main("latest", apply=True)
    kept = "".join(cells(project / COMMITTED)["evaluate-01"]["source"])
    assert kept == card.replace("Judge the saved model", "Judge the model")


def test_cells_that_came_went_and_moved_are_shown_and_written(project, opened, capsys):
    insert(opened, "evaluate-09", "new1", "len(forecasts)")
    notebook = outcome.read_notebook(UPath(opened))
    (gone,) = [cell for cell in notebook["cells"] if cell["id"] == "evaluate-24"]
    notebook["cells"].remove(gone)
    (moved,) = [cell for cell in notebook["cells"] if cell["id"] == "evaluate-17"]
    notebook["cells"].remove(moved)
    notebook["cells"].insert(-1, moved)
    opened.write_text(json.dumps(notebook))
    keep.main("latest", apply=True)
    kept = list(cells(project / COMMITTED))
    assert kept[9] == "new1" and kept[-2] == "evaluate-17" and "evaluate-24" not in kept
    printed = capsys.readouterr().out
    assert "inserted before /cells/9" in printed and printed.count("## deleted /cells/") == 2


def test_change_that_somebody_made_meanwhile_is_kept_beside_mine(project, opened, capsys):
    edit(project / COMMITTED, "evaluate-05", "run.local", "run . local")
    edit(opened, "evaluate-05", "made.loc[split", "made . loc[split")
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    keep.main("latest", apply=True)
    source = "".join(cells(project / COMMITTED)["evaluate-05"]["source"])
    assert "run . local" in source and "made . loc[split" in source
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("-")]
    assert not [line for line in shown if "run . local" in line], "only mine is shown"


def test_same_lines_changed_by_both_are_refused_and_nothing_is_written(project, opened):
    edit(project / COMMITTED, "evaluate-10", "min_judged * n_test", "0.4 * n_test")
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    before = (project / COMMITTED).read_bytes()
    with pytest.raises(ValueError, match=r"has changed since .*: cells/9/source/1\. Nothing"):
        keep.main("latest", apply=True)
    assert (project / COMMITTED).read_bytes() == before


def test_cell_deleted_there_and_changed_here_is_refused(project, opened):
    notebook = outcome.read_notebook(UPath(project / COMMITTED))
    notebook["cells"] = [c for c in notebook["cells"] if c["id"] != "evaluate-10"]
    (project / COMMITTED).write_text(json.dumps(notebook))
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    with pytest.raises(ValueError, match="in the same place as the opened notebook: cells"):
        keep.main("latest", apply=True)


@pytest.mark.slow
def test_kept_change_can_be_changed_and_kept_again(project, opened, capsys):
    insert(opened, "evaluate-09", "new1", "len(forecasts)")
    keep.main("latest", apply=True)
    keep.main("latest", apply=True)
    assert "nothing to keep" in capsys.readouterr().out
    edit(project / COMMITTED, "evaluate-05", "run.local", "run . local")
    edit(opened, "new1", "len(forecasts)", "judged.shape")
    keep.main("latest", apply=True)
    after = cells(project / COMMITTED)
    assert "".join(after["new1"]["source"]) == "judged.shape"
    assert "run . local" in "".join(after["evaluate-05"]["source"])


def test_change_of_others_alone_is_nothing_to_keep_and_stays(project, opened, capsys):
    edit(project / COMMITTED, "evaluate-10", "min_judged * n_test", "0.4 * n_test")
    before = (project / COMMITTED).read_bytes()
    keep.main("latest", apply=True)
    assert "nothing to keep" in capsys.readouterr().out
    assert (project / COMMITTED).read_bytes() == before


def test_committed_notebook_that_changes_while_one_is_asked_is_left(project, opened):
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    found = keep.propose(opened)
    edit(project / COMMITTED, "evaluate-11", "Watch", "Mind")
    before = (project / COMMITTED).read_bytes()
    with pytest.raises(ValueError, match="was changed just now; nothing was written"):
        keep.write(found)
    assert (project / COMMITTED).read_bytes() == before


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False), ("", False)])
def test_person_at_a_terminal_is_asked(project, opened, monkeypatch, capsys, answer, written):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    keep.main("latest", apply=False)
    assert f"Write this into {COMMITTED}? [y/N]" in capsys.readouterr().out
    assert ("0.6 * n_test" in (project / COMMITTED).read_text()) is written


@pytest.mark.slow
def test_where_nobody_can_be_asked_it_is_shown_and_nothing_is_written(project, opened, capsys):
    edit(opened, "evaluate-10", "min_judged * n_test", "0.6 * n_test")
    assert cli.main(["keep"]) == 0
    printed = capsys.readouterr().out
    assert "0.6 * n_test" in printed and "nothing was written; APPLY=1 writes it" in printed
    assert "0.6 * n_test" not in (project / COMMITTED).read_text()
    assert cli.main(["keep", "latest", "--apply"]) == 0
    assert "0.6 * n_test" in (project / COMMITTED).read_text()


@pytest.mark.slow
def test_latest_is_the_notebook_that_was_saved_last(project, opened):
    second = open_stage("power/r1", "05_evaluate", project)
    os.utime(opened, (2e9, 2e9))
    assert keep.find("latest") == opened
    os.utime(second, (3e9, 3e9))
    shutil.copy(project / COMMITTED, second.with_name("other.ipynb"))
    os.utime(second.with_name("other.ipynb"), (4e9, 4e9))
    assert keep.find("latest") == second


@pytest.mark.parametrize(
    "given", ["latest", "workbench/power-r1/05_evaluat.ipynb", "", "notebooks"]
)
def test_notebook_that_is_not_there_is_refused(project, given):
    with pytest.raises(ValueError, match=r"workbench/"):
        keep.find(given)


def test_notebook_that_was_not_opened_from_a_run_is_refused(project, opened):
    with pytest.raises(ValueError, match="does not say what it was opened from"):
        keep.main(COMMITTED, apply=True)
    shutil.rmtree(project / "outputs/power/open-05_evaluate-of-r1")
    with pytest.raises(ValueError, match="the notebook as it was opened is gone"):
        keep.main("latest", apply=True)


def test_parameters_cell_that_airflow_could_not_read_is_refused(project, opened):
    before = (project / COMMITTED).read_bytes()
    edit(opened, "evaluate-02", "block_length: int = 0", "block_length = 0")
    with pytest.raises(ValueError, match="parameters cell line 4: expected `name: type"):
        keep.main("latest", apply=True)
    assert (project / COMMITTED).read_bytes() == before


def test_opened_notebook_names_the_command(project, opened):
    note = outcome.source_text(outcome.read_notebook(UPath(opened))["cells"][0])
    assert "make keep NOTEBOOK=workbench/power-r1/05_evaluate.ipynb" in note
    assert COMMITTED in note
