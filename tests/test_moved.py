"""What an older notebook asks of `lib` that is not there any more."""

import json

from lib.commands.moved import moved_names
from lib.ground.files import ROOT

import pytest


@pytest.mark.parametrize(
    ("code", "gone"),
    [
        ("from lib.run import open_run\nimport lib.run, numpy as np", []),
        ("from lib.data.images import load_images", ["lib.data.images.load_images"]),
        ("from lib.run import open_run, close_run", ["lib.run.close_run"]),
        ("from lib import lamp", ["lib.lamp"]),
        ("import lib.data.power", ["lib.data.power"]),
        ("from lib import registry\nregistry.register(run)", ["lib.registry.register"]),
        ("from lib import registry\nregistry.lifecycle.register(run)", []),
        (
            "from lib import tracking as t\nt.open_client()\nt.open_klient()",
            ["lib.tracking.open_klient"],
        ),
        (
            "from lib import lamp, lamp\nfrom lib.x import lamp\nlamp.on()",
            ["lib.lamp", "lib.x.lamp"],
        ),
        ("%time\nfrom lib import lamp", []),
    ],
)
def test_names_that_lib_has_no_more_are_found_without_an_import(code, gone):
    assert moved_names([code]) == gone


def test_uses_in_later_cells_are_found_and_a_cell_for_ipython_hides_no_other():
    cells = ["from lib import registry", "%matplotlib inline", "registry.register(1)"]
    assert moved_names(cells) == ["lib.registry.register"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*/*.ipynb")), ids=lambda p: p.stem)
def test_committed_notebooks_ask_for_nothing_that_has_moved(path):
    cells = json.loads(path.read_text())["cells"]
    assert moved_names("".join(c["source"]) for c in cells if c["cell_type"] == "code") == []
