"""Executing the committed notebooks: apart from the runs and models of whoever does it."""

import os
from pathlib import Path

from lib.commands import notebooks

import nbformat
import pytest


def test_notebooks_run_in_an_empty_place_that_goes_and_settings_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team.example")
    with pytest.raises(KeyError), notebooks.apart():
        place = Path(os.environ["OUTPUTS_DIR"])
        assert place != tmp_path and list(place.iterdir()) == []
        assert "MLFLOW_TRACKING_URI" not in os.environ, "it would be the team's registry"
        raise KeyError
    assert not place.exists() and os.environ["OUTPUTS_DIR"] == str(tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://team.example"
    monkeypatch.delenv("OUTPUTS_DIR")
    with notebooks.apart():
        pass
    assert "OUTPUTS_DIR" not in os.environ


@pytest.mark.kernel
@pytest.mark.timeout(120)
def test_stages_share_a_folder_and_the_user_s_own_stays_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    start = "from pathlib import Path\nimport os\nfile = Path(os.environ['OUTPUTS_DIR'], 'x')\n"
    for name, last in (("01_load", "file.write_text('four')"), ("02_read", "file.read_text()")):
        cells = [nbformat.v4.new_code_cell(start + last, id=name)]
        path = tmp_path / "notebooks/wind" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"kernelspec": notebooks.KERNEL}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    for word in ("changed", "unchanged"):
        notebooks.refresh_all(["wind"])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines] == [
            ["wind/01_load", word],
            ["wind/02_read", word],
        ]
    shown = nbformat.read(tmp_path / "notebooks/wind/02_read.ipynb", as_version=4)
    assert shown.cells[0].outputs[0].data["text/plain"] == "'four'"
    assert not (tmp_path / "outputs").exists()
