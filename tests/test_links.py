"""Links of pages that were written before, once services run on other ports."""

import os

from lib.ground import addresses
from lib.pages import links

import pytest

USUAL = {name: f"http://127.0.0.1:{port}" for name, port in addresses.PORTS.items()}
ELSEWHERE = {"airflow": "http://127.0.0.1:8181", "mlflow": "http://127.0.0.1:5151"}
ELSEWHERE |= {"lab": "http://127.0.0.1:8989"}


def text(airflow, mlflow, lab):
    """Return a page as runs have it, and what must never be touched on one."""
    opened = addresses.open_stage_link("wind/a", "01_load", lab)
    return (
        f'<a href="{opened}">open</a> <a href="{mlflow}/#/experiments/1/runs/2">m</a>'
        f'<a href="{airflow}/dags/wind/runs/a">r</a> http://127.0.0.1:8888/open-stage?'
        f'<a href="{mlflow}/#/models/house/versions/2">v</a>'
        '<a href="http://127.0.0.1:8080/other"><a href="http://10.0.0.1:8888/open-stage?">'
    )


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page of a run in a fresh `OUTPUTS_DIR`, with the usual addresses."""
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    path = tmp_path / "wind" / "a" / "report.html"
    path.parent.mkdir(parents=True)
    path.write_text(text(**USUAL))
    os.utime(path, (1, 1))
    return path


def test_pages_follow_services_to_other_ports_and_back(page):
    assert links.follow(USUAL) == [] and links.follow({"lab": USUAL["lab"]}) == []
    assert links.follow(ELSEWHERE) == [page]
    assert page.read_text() == text(**ELSEWHERE)
    assert page.stat().st_mtime == 1, "the run has not changed"
    assert links.follow({"lab": USUAL["lab"]}) == [page]
    assert page.read_text() == text(**(ELSEWHERE | {"lab": USUAL["lab"]}))
    assert links.follow(USUAL) == [page] and page.read_text() == text(**USUAL)
    assert [p.name for p in page.parent.iterdir()] == ["report.html"]


def test_usual_ports_cost_no_look_at_the_pages(page, monkeypatch):
    monkeypatch.setattr(links, "_rewrite", lambda *given: pytest.fail("a page was read"))
    assert links.follow(USUAL) == []
    with pytest.raises(pytest.fail.Exception):
        links.follow(ELSEWHERE)


def test_page_that_is_written_meanwhile_is_left_to_its_writer(page, monkeypatch):
    real = links.moved

    def slow(old, addresses):
        page.write_text("the newer one")
        return real(old, addresses)

    monkeypatch.setattr(links, "moved", slow)
    assert links.follow(ELSEWHERE) == [] and page.read_text() == "the newer one"
