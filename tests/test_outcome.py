"""What an executed notebook says of itself once it is marked as failed."""

from lib.ground import outcome
from lib.machine import session

import nbformat
from executed import AT, stuck_notebook


def test_marking_a_stuck_notebook_fails_its_cell_and_empties_later_ones():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    nbformat.validate(nbformat.from_dict(notebook))
    cells = [cell for cell in notebook["cells"] if not outcome.is_marker(cell)]
    assert [c["metadata"]["papermill"]["status"] for c in cells] == [
        "completed",
        "completed",
        "failed",
        "pending",
    ]
    assert [len(cell["outputs"]) for cell in cells] == [1, 1, 2, 0]
    assert cells[2]["outputs"][1]["evalue"] == "it was killed"
    assert cells[2]["metadata"]["papermill"]["duration"] == 10.5
    assert notebook["metadata"]["papermill"]["duration"] == 15.5
    assert notebook["metadata"]["papermill"]["end_time"] == "2026-01-02T03:04:15.500000+00:00"
    assert notebook["cells"][0]["source"] == (
        "**Execution failed** in [cell 3 of 4](#papermill-error-cell), 2026-01-02 03:04:15 UTC, "
        "15.5 s after the start.\n\n```text\nStageKilled: it was killed\n```"
    )


def test_marking_twice_leaves_one_report():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    assert sum(outcome.is_marker(cell) for cell in notebook["cells"]) == 2
    assert len(notebook["cells"]) == 6
    assert len(notebook["cells"][4]["outputs"]) == 2


def test_marking_outside_of_cells_keeps_what_was_completed():
    notebook = stuck_notebook(running=9)
    outcome.mark_failed(notebook, None, "DeadKernelError", "no kernel", at=AT)
    cells = notebook["cells"][1:]
    assert {cell["metadata"]["papermill"]["status"] for cell in cells} == {"completed"}
    assert "outside of any cell" in notebook["cells"][0]["source"]
    assert outcome.state(notebook) == "failed"


def test_report_cannot_be_broken_by_backticks_in_an_error():
    notebook = stuck_notebook()
    outcome.mark_failed(notebook, 2, "ValueError", "a ```fence``` inside\n# no heading", at=AT)
    assert "\n````text\n" in notebook["cells"][0]["source"]
    from lib.pages import notebook as reports

    page = reports.render(notebook, "x")
    assert "<h1" not in page
    assert "```fence```" in page


def test_papermill_removes_the_report_when_it_runs_the_notebook_again():
    session.import_papermill()
    from papermill.execute import remove_error_markers

    notebook = nbformat.from_dict(stuck_notebook())
    outcome.mark_failed(notebook, 2, "StageKilled", "it was killed", at=AT)
    notebook = nbformat.from_dict(notebook)
    assert len(notebook.cells) == 6
    assert len(remove_error_markers(notebook).cells) == 4
