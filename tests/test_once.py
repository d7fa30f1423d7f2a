"""What is taken from an earlier run and what is not: by code, data and files, without a kernel."""

import importlib
import json
import os
import shutil
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

from lib import catalogs, tracking
from lib.ground.folder import look_at
from lib.ground.runs import list_runs, note_start
from lib.once import choice, data, environment, known, standing, taking
from lib.once import key as keys
from lib.once.code import Code, code_of
from lib.pages.run_page import render
from lib.pages.summary import summarise

import pytest

CARD = {"cell_type": "markdown", "metadata": {}, "source": "# Toy"}
DONE = {
    "papermill": {
        "start_time": "2026-01-02T03:04:05+00:00",
        "end_time": "2026-01-02T03:04:06+00:00",
    }
}
FIRST, SECOND = "01_load", "02_judge"


def cell(text, *tags):
    return {"cell_type": "code", "metadata": {"tags": [*tags]}, "source": text, "outputs": []}


def notebook(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [CARD, cell('run_dir: str = "toy/dev"  # folder\nn: int = 1  # a number', "parameters")]
    path.write_text(json.dumps({"cells": made + [cell(text) for text in cells], "metadata": {}}))
    return path


@pytest.fixture
def house(tmp_path):
    """A package `lib` with some modules; returns what a notebook with these cells reaches."""

    def reached(*cells, **modules):
        folder = tmp_path / "lib"
        folder.mkdir(exist_ok=True)
        for name, text in {"__init__": ""}.items() | modules.items():
            (folder / f"{name}.py").write_text(text)
        return code_of(notebook(tmp_path / "one.ipynb", *cells), tmp_path)

    return reached


USED = "from lib.a import f\nf()"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f():\n    return 1\n", 'def f():\n    """Text."""\n    # remark\n    return (1)\n'),
        ("def f():\n    return 1\n", "def g():\n    return 2\n\n\ndef f():\n    return 1\n"),
        ("X = 1\n\n\ndef f():\n    return 1\n", "X = 2\n\n\ndef f():\n    return 1\n"),
    ],
)
def test_what_is_not_reached_and_how_it_is_written_does_not_count(house, before, after):
    assert house(USED, a=before).reached == house(USED, a=after).reached


@pytest.mark.parametrize(
    ("cells", "before", "after"),
    [
        (USED, "def f():\n    return X\n\n\nX = 1\n", "def f():\n    return X\n\n\nX = 2\n"),
        (USED, "def f():\n    return 1\n", "def f():\n    return 1\n\n\nprint()\n"),
        (USED, "def f(x=1):\n    return x\n", "def f(x=2):\n    return x\n"),
        (
            "from lib import a\ngetattr(a, 'g')()",
            "def g():\n    return 1\n",
            "def g():\n    return 2\n",
        ),
        ("import lib.a\nlib.a.g()", "def g():\n    return 1\n", "def g():\n    return 2\n"),
        ("from lib.a import *\ng()", "def g():\n    return 1\n", "def g():\n    return 2\n"),
        (
            USED,
            "def f():\n    return eval('X')\n\n\nX = 1\n",
            "def f():\n    return eval('X')\n\n\nX = 2\n",
        ),
        ("names = ['a']", "def g():\n    return 1\n", "def g():\n    return 2\n"),
        ("%load_ext what", "def g():\n    return 1\n", "def g():\n    return 2\n"),
        (
            USED,
            "def f():\n    return 1\n\n\nclass B:\n    X = 1\n\n\nclass C(B):\n    pass\n",
            "def f():\n    return 1\n\n\nclass B:\n    X = 2\n\n\nclass C(B):\n    pass\n",
        ),
        (
            USED,
            "from math import sin as g\n\n\ndef f():\n    return g(1)\n",
            "from math import cos as g\n\n\ndef f():\n    return g(1)\n",
        ),
        *(
            (USED, before, before.replace("1", "2"))
            for before in (
                "if TYPE_CHECKING:\n    X = 0\nelse:\n    X = 1\n\n\ndef f():\n    return X\n",
                "if not TYPE_CHECKING:\n    X = 1\n\n\ndef f():\n    return X\n",
                "R = []\n\n\nclass A:\n    R.append(1)\n\n\ndef f():\n    return R\n",
                "X = 1\n\n\ndef f():\n    return sys.modules[__name__].X\n",
            )
        ),
        (USED, "from math import sin as f\n", "from math import cos as f\n"),
        (USED, "from math import *\n\nf = log\n", "from cmath import *\n\nf = log\n"),
    ],
)
def test_whatever_may_change_the_result_counts(house, cells, before, after):
    assert house(cells, a=before).reached != house(cells, a=after).reached


@pytest.mark.parametrize("argument", ['f"lib.{x}.m"', 'f"lib.{x}"', '".p.m", "lib"'])
def test_module_counts_that_is_imported_by_a_name_made_up(house, tmp_path, argument):
    named = f"from importlib import import_module\n\n\ndef f(x):\n    import_module({argument})\n"
    (tmp_path / "lib" / "p").mkdir(parents=True)
    found = []
    for n in "12":
        (tmp_path / "lib" / "p" / "m.py").write_text(f"def g():\n    return {n}\n")
        found.append(house(USED, a=named).reached)
    assert "lib.p.m.g" in found[0] and found[0] != found[1]


def test_cell_with_a_magic_command_counts_with_what_it_imports_and_runs(house, tmp_path):
    (tmp_path / "more").mkdir()
    found = []
    for n in "12":
        (tmp_path / "more" / "run.py").write_text(f"x = {n}")
        (tmp_path / "helpers.py").write_text(f"x = {n}")
        found.append(house("%%time\nimport scipy.stats as s", "%run -i more/run.py", a=""))
        found.append(house("%time x\nfrom helpers import x", a=""))
    assert "scipy" in found[0].packages
    assert found[0].reached != found[2].reached and found[1].reached != found[3].reached


@pytest.mark.parametrize(
    ("file", "reads"),
    [
        ("x.json", "Path(__file__).with_suffix('.json')"),
        ("t/u/x.json", "(Path(__file__).parent / 't' / 'u').glob('*')"),
        ("p/x.json", "resources.files('lib.p').joinpath('x.json')"),
        ("p/x.json", "ROOT / 'lib/p/x.json'"),
    ],
)
def test_file_of_the_package_that_is_no_python_counts_if_it_can_be_read(
    house, tmp_path, file, reads
):
    module = f"def f():\n    return {reads}\n\n\ndef g():\n    return 1\n"
    place, found = tmp_path / "lib" / file, []
    place.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "lib" / "p").mkdir(exist_ok=True)
    (tmp_path / "lib" / "p" / "__init__.py").touch()
    for n in "12":
        place.write_text(n)
        found.append((house(USED, a=module).reached, house("from lib.a import g\ng()").reached))
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1]


@pytest.mark.parametrize(
    ("file", "cells"),
    [
        ("helpers", "from helpers import g\ng()"),
        ("helpers", "import helpers\nhelpers.g()"),
        ("helpers", "from lib.a import f\nf()"),
        ("notebooks/toy/own", "from notebooks.toy import own\nown.g()"),
        ("notebooks/toy/own", "import notebooks.toy.own\nnotebooks.toy.own.g()"),
    ],
)
def test_module_beside_the_package_is_followed_too(house, tmp_path, file, cells):
    place, found = tmp_path / f"{file}.py", []
    place.parent.mkdir(parents=True, exist_ok=True)
    for n in "12":
        place.write_text(f"from lib import b\n\n\ndef g():\n    return b.x + {n}\n")
        a = "import helpers\n\n\ndef f():\n    return helpers.g()\n"
        found.append(house(cells, a=a, b="x = 1").reached)
    assert found[0] != found[1] and "lib.b.x" in found[0]


OR_ELSE = "try:\n    from lib.a import g\nexcept ImportError:\n    "


@pytest.mark.parametrize(
    ("cells", "b"),
    [
        ("import lib.a\nimport lib.b\nlib.a.g()", ""),
        ("import lib.a\nimport lib.b\ngetattr(lib, 'a').g()", ""),
        ("import lib.a\nlib.a.g()\n\ndef of():\n    import lib.b", ""),
        ("import lib.a\nlib.a.a()", ""),
        (f"{OR_ELSE}from lib.b import g\ng()", "g = 1"),
        ("from lib.b import g\ng()", f"{OR_ELSE}def g():\n        return 3"),
        ("import lib.b\nlib.b.f(1)", "def f(x):\n    import lib.a, lib.c\n    return lib.a.g(x)"),
    ],
)
def test_all_that_imports_give_one_name_counts(house, cells, b):
    before, after = (f"def g():\n    return {n}\n\n\ndef a():\n    pass\n" for n in "12")
    assert house(cells, a=before, b=b, c="").reached != house(cells, a=after, b=b, c="").reached


def test_a_function_is_followed_through_other_modules_and_named(house):
    modules = {
        "a": "from lib import b\n\n\ndef f():\n    return b.g()\n",
        "c": "def h():\n    return 1\n",
    }
    def_g = "def g():\n    from lib.c import h as inner\n    import pandas\n    return inner\n"
    found = house(USED, b=def_g, **modules)
    assert {"lib.a.f", "lib.b.g", "lib.c.h"} == found.reached.keys()
    assert "pandas" in found.packages


def test_of_a_module_that_gives_all_its_names_those_count_that_are_used(house):
    modules = {
        "a": "from lib.b import *\nfrom numpy import *\n\n\ndef f():\n    return g() + h()\n",
        "b": "from lib.c import *\n\n\ndef g():\n    return 1\n\n\ndef unused():\n    return 2\n",
        "c": "from lib.b import *\n\n\ndef h():\n    return 3\n\n\ndef unused():\n    return 4\n",
    }
    found = house(USED, **modules)
    assert found.reached.keys() == {"lib.a.f", "lib.b.g", "lib.c.h"}
    assert found.packages == {"numpy"}
    assert house("from lib.a import h\nh()", **modules).reached.keys() == {"lib.c.h"}


@pytest.mark.parametrize(
    ("cells", "is_same"),
    [
        (["x = 1", "y = 2  # remark"], True),
        (["x =  1", "y = (2)"], True),
        (["x = 1", "y = 3"], False),
        (["y = 2", "x = 1"], False),
        (["x = 1", "y = 2;"], False),
    ],
)
def test_cells_count_by_what_they_say(house, cells, is_same):
    def digests(*cells):
        return [one.partition(" ")[0] for one in house(*cells).cells]

    assert (digests("x = 1", "y = 2") == digests(*cells)) is is_same


@pytest.mark.parametrize("how", ["on the path", "to be edited", "of a folder"])
def test_package_of_no_index_counts_by_what_it_holds(tmp_path, monkeypatch, how):
    importlib.import_module("packaging.requirements")
    place, found = tmp_path / "dist-packages", []
    (place / "mine").mkdir(parents=True)
    noted = place / "mine_of_us-1.dist-info"
    monkeypatch.setattr(sys, "path", [str(place)])
    for n in "12":
        (place / "mine" / "__init__.py").write_text(f"x = {n}")
        if how != "on the path":
            noted.mkdir(exist_ok=True)
            requires = "Name: mine-of-us\nVersion: 1\nRequires-Dist: pytz (>dev)\n"
            (noted / "METADATA").write_text(requires)
            (noted / "top_level.txt").write_text("mine")
            (noted / "RECORD").write_text(f"mine/__init__.py,sha256={n},5\n")
            editable = {"editable": how == "to be edited"}
            content = {"url": "file:///there", "dir_info": editable}
            (noted / "direct_url.json").write_text(json.dumps(content))
        os.utime(place, (int(n), int(n)))
        importlib.invalidate_caches()
        found.append(environment.versions({"mine"}, environment.installed()))
    assert found[0].keys() == found[1].keys() != set() and found[0] != found[1]


def test_package_of_which_several_have_a_part_counts_with_all_of_them(tmp_path, monkeypatch):
    importlib.import_module("packaging.requirements")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for part in "ab":
        noted = tmp_path / f"{part}-1.dist-info"
        noted.mkdir()
        (noted / "METADATA").write_text(
            f"Name: {part}\nVersion: 1{part}\nRequires-Dist: of-{part}\n"
        )
        (noted / "top_level.txt").write_text("whole")
    found = environment.versions({"whole"}, environment._installed())
    assert found == {"whole": "1a 1b", "of-a": "none", "of-b": "none"}


def test_backend_that_somebody_has_chosen_for_keras_counts_with_its_version(monkeypatch):
    installed = {name: (name, "1", []) for name in ("keras", "pandas", "jax")}

    def made(package):
        return keys.make(Code(packages={package}), {}, installed)

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    before = made("keras"), made("pandas")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    after = made("keras"), made("pandas")
    assert before[0]["key"] != after[0]["key"] and after[0]["parts"]["packages"]["jax"] == "1"
    assert before[1] == after[1]


@pytest.mark.slow
def test_packages_count_with_all_that_they_require():
    installed = {"a": ("a", "1", ["b"]), "b": ("b", "2", ["a"]), "c": ("c", "3", [])}
    assert environment.versions({"a", "json", "gone"}, installed) == {
        "a": "1",
        "b": "2",
        "gone": "none",
    }
    real = environment.versions({"pandas"}, environment.installed())
    assert {"pandas", "numpy"} <= real.keys() and environment.machine(real)
    assert not environment.machine({"a"})


def test_file_is_read_again_only_where_size_or_times_have_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "RECENT_NS", 0)
    read, sha256 = [], data.sha256
    monkeypatch.setattr(data, "sha256", lambda file: read.append(file.name) or sha256(file))
    file = tmp_path / "data.csv"
    file.write_text("1,2")
    (first,) = data.fingerprints({"source": str(file), "n": 3, "what": "sample"}).values()
    assert data.fingerprints({"source": str(file)}) == {"source": first}
    assert read == ["data.csv"]
    time.sleep(0.02)  # longer than a tick of the clock of files
    file.write_text("1,4")
    assert data.fingerprints({"source": [str(file)]})["source"] != first
    file.write_text("1,2")
    assert data.fingerprints({"source": str(tmp_path)}) != data.fingerprints({"source": str(file)})
    (tmp_path / "more.csv").write_text("")
    assert data.fingerprints({"source": f"{tmp_path}/*.csv"})["source"] != first


def test_file_that_is_replaced_by_one_of_its_size_and_time_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "RECENT_NS", 0)
    monkeypatch.setattr(environment, "RECENT_NS", 0)
    file, found = tmp_path / "data.csv", []
    for text in ("1,2", "1,3"):
        new = tmp_path / "unpacked"  # as from an archive that gives all of its files one time
        new.write_text(text)
        os.utime(new, (0, 0))
        new.replace(file)
        seen = environment.seen([file], time.time_ns())
        found.append((data.fingerprints({"source": str(file)}), seen))
        assert environment.is_as_seen(seen)
    assert found[0][0] != found[1][0] and not environment.is_as_seen(found[0][1])


@pytest.fixture
def landed(tmp_path):
    """Files of two folders, one of which is a link to another place and leads back, too."""
    for name in ("t/a", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.csv").write_text("1")
    (tmp_path / "t" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "t")
    return tmp_path


@pytest.mark.parametrize("source", ["t/*/x.csv", "t/**/x.csv", "t/[a]/*.csv", "t/**", "t", "t/a"])
def test_file_counts_however_a_folder_or_a_pattern_reaches_it(landed, source):
    before = data.fingerprints({"source": f"{landed}/{source}"})
    assert before["source"] and before == data.fingerprints({"source": f"{landed}/{source}"})
    (landed / "t" / "a" / "x.csv").write_text("22")
    assert data.fingerprints({"source": f"{landed}/{source}"})["source"] != before["source"]


def test_files_of_a_folder_count_behind_a_link_too(landed):
    before = data.fingerprints({"source": f"{landed}/t"})
    (landed / "elsewhere" / "x.csv").write_text("22")
    assert data.fingerprints({"source": f"{landed}/t"}) != before


@pytest.mark.parametrize("text", ["é" * 200, "a/" * 3000, "~nobody-here/x", "a\0b", "**x", "[a"])
def test_text_that_can_be_no_file_stands_for_no_data(text):
    assert data.fingerprints({"note": text}) == {}


@pytest.mark.parametrize(
    "source", ["sql:sqlite:///x.db#t", "iceberg:no.such.table", "memory://x/*"]
)
def test_data_that_cannot_be_told_from_others_are_never_the_same(source):
    assert data.fingerprints({"source": source})["source"].startswith(data.UNKNOWN)


@pytest.mark.parametrize(
    ("header", "is_known"), [("ETag", True), ("Last-Modified", True), ("X", False)]
)
def test_address_has_the_fingerprint_that_its_server_gives(header, is_known):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header(header, '"abc"')
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found = data.fingerprints({"source": f"http://127.0.0.1:{server.server_port}/x.csv"})
    assert found["source"].startswith(data.UNKNOWN) is not is_known
    assert ("abc" in found["source"]) is is_known


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A pipeline of two stages in `PIPELINES_DIR`, and an empty `OUTPUTS_DIR`."""
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path / "outputs"))
    notebook(tmp_path / "notebooks" / "toy" / f"{FIRST}.ipynb", "x = n")
    notebook(tmp_path / "notebooks" / "toy" / f"{SECOND}.ipynb", "y = 1")
    return tmp_path


def obtain(name, stage, values=None, **options):
    """Let a stage be taken, or be executed by hand; return what became of it."""
    run, values = look_at(f"toy/{name}"), {"n": 1} | (values or {})
    note_start(run, dag_id="toy", run_id=name)
    found = choice.obtain(run, stage, values, options)
    if not found.record:
        own = replace(run, stage=stage, parameters=values | {"run_dir": run.run_dir})
        own.start()
        if stage == FIRST:
            more = sum(one.endswith("+ 1") for one in found.key["parts"]["cells"])
            own.write("numbers.json", [min(values["n"] + more, 3)])
            with own.writing("model") as folder:
                folder.mkdir()
                (folder / "weights.txt").write_text("w" * 1000)
        else:
            own.record(FIRST)
            own.write("metrics.json", {"largest": float(max(own.read("numbers.json")))})
        own.finish()
        made = {"cells": [cell("x = n")], "metadata": DONE}
        (run.path / f"{stage}.ipynb").write_text(json.dumps(made))
        (run.path / f"{stage}.html").write_text("<html>")
        found.remember(run, stage, values)
    return found


def both(name, values=None, **options):
    return [bool(obtain(name, stage, values, **options).record) for stage in (FIRST, SECOND)]


def test_code_is_looked_for_again_only_where_it_or_what_finds_it_has_changed(place, monkeypatch):
    monkeypatch.setattr(environment, "RECENT_NS", 0)
    found = keys.known_code("toy", FIRST)
    monkeypatch.setattr(keys, "code_of", lambda _: Code(["another"]))
    assert keys.known_code("toy", FIRST).cells == found.cells
    monkeypatch.setattr(keys, "digest", lambda _: "another")
    assert keys.known_code("toy", FIRST).cells == ["another"]


def edit(place, stage, *cells):
    notebook(place / "notebooks" / "toy" / f"{stage}.ipynb", *cells)


@pytest.mark.slow
def test_unchanged_stages_are_taken_and_stand_as_if_they_had_run_here(place):
    assert both("a") == [False, False] and both("b") == [True, True]
    here, there = look_at("toy/b"), look_at("toy/a")
    assert here.read("metrics.json") == {"largest": 1.0}
    inodes = {(run.path / "numbers.json").stat().st_ino for run in (here, there)}
    assert len(inodes) == 1, "a link, no copy"
    assert here.record(FIRST)["parameters"]["run_dir"] == "toy/b"
    page, content = (here.path / f"{FIRST}.html").read_text(), here.path / f"{FIRST}.ipynb"
    assert "taken from toy/a" in page and "../a/01_load.html" in page
    assert "taken from toy/a" in content.read_text()
    assert both("c") == [True, True]
    assert look_at("toy/c").record(SECOND)["from"] == "toy/a", "who has executed it"


@pytest.mark.slow
def test_what_is_written_anew_does_not_reach_the_origin(place):
    both("a")
    both("b")
    own = replace(look_at("toy/b"), stage=FIRST)
    own.write("numbers.json", [7])
    assert look_at("toy/a").read("numbers.json") == [1]


@pytest.mark.slow
def test_only_what_has_changed_runs_and_an_edit_undone_is_taken(place):
    both("a")
    edit(place, SECOND, "y = 2")
    assert both("b") == [True, False]
    assert both("c", {"n": 5}) == [False, False]
    edit(place, SECOND, "y = 1  # as before")
    assert both("d") == [True, True]
    assert look_at("toy/d").record(SECOND)["from"] == "toy/a"


@pytest.mark.slow
def test_consumer_is_taken_if_its_producer_gives_the_same_bytes_and_only_then(place):
    both("a")
    edit(place, FIRST, "x = n + 0")
    assert both("b") == [False, True], "it ran again, and wrote the same"
    edit(place, FIRST, "x = n + 1")
    assert both("c") == [False, False], "it wrote something else"


@pytest.mark.slow
def test_consumer_that_asked_for_parameters_of_another_stage_runs_where_they_differ(place):
    both("a")
    assert obtain("b", FIRST).record
    path = look_at("toy/b").path / "stages" / f"{FIRST}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"parameters": {"n": 1, "only_here": 2}}))
    found = obtain("b", SECOND)
    assert not found.record, "the bytes are the same, what it asked for is not"
    assert found.why == ["compared with toy/a: the parameters of 01_load are others"]


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["damaged", "pruned", "no notebook", "no record", "index"])
def test_origin_that_is_not_whole_is_a_miss_and_leaves_nothing(place, harm):
    both("a")
    run = look_at("toy/a")
    if harm == "damaged":
        (run.path / "model" / "weights.txt").write_text("x" * 1000)
    elif harm == "pruned":
        shutil.rmtree(run.path.path)
    elif harm == "no notebook":
        (run.path / f"{FIRST}.ipynb").write_text("{")
    elif harm == "no record":
        (run.path / "stages" / f"{FIRST}.json").unlink()
    else:
        for path in (place / "outputs" / known.FOLDER).rglob("*.json"):
            path.write_text('[{"reads": 3}')
    found = choice.obtain(look_at("toy/b"), FIRST, {"n": 1}, {})
    assert not found.record and found.why
    left = {path.name for path in look_at("toy/b").path.iterdir()}
    assert left <= {"keys"}, left
    assert both("b")[0] is False and look_at("toy/b").read("numbers.json") == [1]


def test_run_with_damaged_records_stops_no_other(place):
    both("a")
    run = look_at("toy/a")
    for file in (run.path / "stages" / f"{SECOND}.json", run.path / "run.json"):
        file.write_text("")  # as after a loss of power
    assert [*run.records()] == [FIRST] and [one.name for one in list_runs("toy")] == ["a"]
    assert both("b", {"n": 2}) == [False, False]


@pytest.mark.slow
def test_second_run_that_took_it_serves_where_the_first_is_gone(place):
    both("a")
    both("b")
    shutil.rmtree(look_at("toy/a").path.path)
    assert both("c") == [True, True]


@pytest.mark.slow
def test_crash_between_two_files_leaves_nothing_that_can_be_read(place, monkeypatch):
    both("a")
    real, moved = taking.put, []

    def put(made, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(real(made, target))

    monkeypatch.setattr(taking, "put", put)
    with pytest.raises(KeyboardInterrupt):
        choice.obtain(look_at("toy/b"), FIRST, {"n": 1}, {})
    with pytest.raises(ValueError, match="run 01_load first|not in the run folder"):
        look_at("toy/b").read("model" if moved == ["model"] else "numbers.json")
    assert not [path for path in look_at("toy/b").path.iterdir() if path.name.startswith(".taking")]
    monkeypatch.setattr(taking, "put", real)
    assert both("b") == [True, True]


def test_nothing_is_noted_of_a_stage_whose_code_changed_while_it_ran(place):
    run, values = look_at("toy/a"), {"n": 1}
    found = choice.obtain(run, FIRST, values, {})
    edit(place, FIRST, "x = n + 1")
    own = replace(run, stage=FIRST, parameters=values)
    own.start()
    own.finish()
    found.remember(run, FIRST, values)
    edit(place, FIRST, "x = n")
    assert not [*known.find(look_at("toy/b"), FIRST, found.key["key"])]


@pytest.mark.slow
def test_options_say_what_runs(place):
    both("a")
    assert both("b", force=True) == [False, False]
    edit(place, FIRST, "x = n + 1")
    assert both("c", from_stage=SECOND) == [True, False], "whatever changed"
    found = obtain("d", FIRST, from_stage=SECOND, of="a")
    assert found.record["from"] == "toy/a" and "cell 2 is another: x = n + 1" in found.told
    assert choice.is_left_out(SECOND, {"until_stage": FIRST})
    assert not choice.is_left_out(FIRST, {"until_stage": FIRST})


@pytest.mark.slow
def test_what_was_taken_as_asked_is_not_taken_for_the_result_of_new_code(place):
    both("a")
    edit(place, FIRST, "x = n + 1")
    both("b", from_stage=SECOND)
    assert both("c")[0] is False


@pytest.mark.slow
def test_named_run_alone_is_taken_from(place):
    both("a")
    both("b", {"n": 2})
    assert both("c", of="b") == [False, False]
    assert both("d", {"n": 2}, of="toy/b") == [True, True]
    assert both("e", of="latest") == [False, False], "the latest was made with n = 2"
    assert both("f", of="latest") == [True, True]


@pytest.mark.slow
def test_latest_run_is_the_one_that_finished_last_though_its_data_have_no_key(place, monkeypatch):
    both("a")
    with monkeypatch.context() as patch:
        patch.setattr(data, "fingerprints", lambda _: {"source": f"{data.UNKNOWN}a database"})
        assert both("b", {"n": 2}) == both("c", {"n": 2}) == [False, False]
        assert obtain("d", FIRST, {"n": 2}, from_stage=SECOND).record["from"] == "toy/c"
        (why,) = keys.kept(look_at("toy/c"), FIRST)["why"]
    assert why == "compared with toy/b: never the same: a database"
    assert both("e") == [True, True]


@pytest.mark.slow
def test_latest_run_is_the_newest_of_all_where_none_is_noted(place):
    for name in ("b", "c", "a"):
        obtain(name, FIRST, force=True)
    shutil.rmtree(place / "outputs" / known.FOLDER)
    assert obtain("d", FIRST, from_stage=SECOND).record["from"] == "toy/a"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_stage": "03_x"}, "toy has no stage '03_x'; it has 01_load, 02_judge"),
        ({"from_stage": SECOND, "until_stage": FIRST}, "put them in order"),
        ({"from_stage": SECOND}, "there is no run of toy to take 01_load from"),
        ({"of": "gone"}, "there is no run toy/gone"),
        ({"force": True, "of": "latest"}, "FORCE takes no stage"),
    ],
)
def test_options_that_make_no_sense_are_refused(place, options, message):
    with pytest.raises(ValueError, match=message):
        choice.check("toy", options)


def test_forced_stage_that_is_not_whole_is_an_error_that_says_what_to_do(place):
    both("a")
    (look_at("toy/a").path / "numbers.json").unlink()
    with pytest.raises(ValueError, match=r"01_load cannot be taken from toy/a.*OF="):
        obtain("b", FIRST, from_stage=SECOND)


def test_run_that_goes_on_keeps_what_is_whole_and_a_cleared_stage_runs_again(place):
    obtain("a", FIRST)
    assert obtain("a", FIRST, resume="toy/a").told == choice.HERE
    assert not obtain("a", FIRST).record, "cleared in Airflow"
    (look_at("toy/a").path / "numbers.json").write_text("[3]")
    assert not obtain("a", FIRST, resume="toy/a").record


@pytest.mark.slow
def test_why_names_the_part_that_differs_and_who_wrote_an_input(place):
    both("a")
    edit(place, SECOND, "y = 2")
    both("c", {"n": 4})
    kept = keys.kept(look_at("toy/c"), SECOND)["why"]
    assert any("parameter n: 1 before, 4 now" in one for one in kept), kept
    assert any("input numbers.json is another: 01_load, which has run, wrote it" in o for o in kept)
    (first, *_) = keys.kept(look_at("toy/c"), FIRST)["why"]
    assert first == "compared with toy/a: parameter n: 1 before, 4 now"


@pytest.mark.parametrize(
    ("part", "old", "new", "told"),
    [
        ("code", {"lib.a.f": "1"}, {"lib.a.f": "2"}, "lib.a.f has changed"),
        ("packages", {"numpy": "1"}, {"numpy": "2"}, 'package numpy: "1" before, "2" now'),
        ("data", {"source": "1"}, {"source": "2"}, "data of source has changed"),
        ("cells", ["1 x = 1", "2 y"], ["1 x = 1"], "1 cells are gone: y …"),
        ("machine", {"processor": "a"}, {"processor": "b"}, "the processor has other features"),
    ],
)
def test_differences_are_named(part, old, new, told):
    assert keys.differences({"parts": {part: old}}, {"parts": {part: new}}) == [told]


@pytest.mark.slow
def test_page_and_summary_say_where_a_stage_was_executed(place):
    both("a")
    edit(place, SECOND, "y = 2")
    both("b")
    first, second = summarise(look_at("toy/b"))["stages"]
    assert (first["taken"], second["taken"], first["seconds"]) == ("toy/a", "", None)
    page = render(summarise(look_at("toy/b")))
    assert "../../toy/a/01_load.html" in page and ">taken</span>" in page
    assert "cell 2 is another: y = 2" in page
    assert "make run PIPELINE=toy FROM=02_judge OF=toy/b" in page


@pytest.mark.slow
def test_stage_without_inputs_in_place_waits_for_nothing_of_later_runs(place):
    """Growth: what is looked at does not grow with the number of runs."""
    both("a")
    for n in range(8):
        assert both(f"b{n}") == [True, True]
    (file,) = [
        f
        for f in (place / "outputs" / known.FOLDER / "toy" / FIRST).glob("*.json")
        if f.stem != "latest"
    ]
    (trace,) = json.loads(file.read_text())
    assert trace["runs"][0] == "toy/a" and len(trace["runs"]) == known.MOST_RUNS


@pytest.mark.slow
def test_remote_folder_is_taken_whole_or_not_at_all(place, bucket, monkeypatch):
    monkeypatch.setenv("OUTPUTS_DIR", f"s3://{bucket}/runs")
    assert both("a") == [False, False] and both("b") == [True, True]
    assert look_at("toy/b").read("metrics.json") == {"largest": 1.0}
    (look_at("toy/a").path / "model" / "weights.txt").write_text("damaged")
    (look_at("toy/b").path / "model" / "weights.txt").write_text("damaged")
    assert not choice.obtain(look_at("toy/c"), FIRST, {"n": 1}, {}).record
    left = [path.name for path in look_at("toy/c").path.iterdir()]
    assert set(left) <= {"keys"}, left


@pytest.mark.slow
def test_registry_is_asked_only_for_what_acts_on_it():
    from lib.ground import layout

    acts = {
        stage
        for stage in layout.planned("power")
        if keys.DOOR in code_of(layout.notebook("power", stage)).reached
    }
    assert acts == {"06_register"}
    module, _, name = keys.DOOR.rpartition(".")
    assert module == tracking.__name__ and callable(getattr(tracking, name))


@pytest.fixture
def registered(place, monkeypatch):
    """A run that has registered version 3, which is in production; the registry, to be changed."""
    from lib.ground.files import write_json
    from lib.registry import lifecycle

    registry = {"versions": {3}, "champion": 3}
    made = {"name": "wind", "version": 3, "champion": 3, "policy": "auto", "reason": "better"}
    run = replace(look_at("toy/a"), stage=SECOND)
    run.start()
    run.write("registration.json", made)
    run.finish()

    def version(_name, number):
        if number not in registry["versions"]:
            raise ValueError("there is no such version")
        return SimpleNamespace(version=str(number))

    monkeypatch.setattr(lifecycle, "version", version)
    monkeypatch.setattr(lifecycle, "champion", lambda _name: registry["champion"])
    registry["note"] = lambda **facts: write_json(run.path / "promotion.json", facts)
    return registry


def test_registration_stands_while_its_version_and_production_are_as_they_were(registered):
    assert standing.stands(look_at("toy/a"), SECOND)
    registered["champion"] = 4
    assert not standing.stands(look_at("toy/a"), SECOND)
    registered |= {"champion": 3, "versions": {4}}
    assert not standing.stands(look_at("toy/a"), SECOND)


def test_what_a_stage_did_elsewhere_is_never_taken_for_done(place):
    both("a")
    assert not standing.stands(look_at("toy/a"), SECOND)
    assert not standing.stands(look_at("toy/gone"), SECOND)


def test_tables_that_a_stage_has_left_stand_while_nobody_has_moved_them(place, monkeypatch):
    both("a")
    run, key = replace(look_at("toy/a"), stage=SECOND), {"acts": False}
    assert not standing.acts(run, SECOND, key)
    run.start()
    run.write("wind.tables.json", {"lake.wind.hourly": 7})
    run.finish()
    assert standing.acts(run, SECOND, key) and not standing.acts(look_at("toy/gone"), SECOND, key)

    now = {"lake.wind.hourly": 7}

    def load_table(name):
        if name not in now:
            raise ValueError(f"there is no {name}, its lake is gone")
        return name, now[name]

    monkeypatch.setattr(catalogs, "load_table", load_table)
    assert standing.stands(run, SECOND)
    now["lake.wind.hourly"] = 8
    assert not standing.stands(run, SECOND)
    now.clear()
    assert not standing.stands(run, SECOND)


def test_promotion_is_told_once_and_not_lost_where_it_never_happened(registered):
    from lib.dag.telling import told_before
    from lib.ground.files import write_json

    record = look_at("toy/a").record(SECOND)
    assert told_before(look_at("toy/a")) is None, "what a run has registered itself is new"
    for name in ("b", "c"):
        taken = record | {"from": "toy/a", "taken": record["finished"]}
        write_json(look_at(f"toy/{name}").path / "stages" / f"{SECOND}.json", taken)
    assert told_before(look_at("toy/b")) is None, "the earlier run was cut off before it promoted"
    registered["note"](outcome="promoted", reason="better")
    outcome, reason = told_before(look_at("toy/c"))
    assert outcome == "promoted" and reason.startswith("nothing is new, taken from toy/a")
    assert reason.endswith(": better")


@pytest.mark.slow
def test_stage_that_acts_on_the_outside_is_taken_only_if_what_it_did_stands(place, monkeypatch):
    real = keys.key_of
    monkeypatch.setattr(keys, "key_of", lambda *given: real(*given) | {"acts": given[1] == SECOND})
    both("a")
    assert both("b") == [True, False], "it has registered nothing that could be looked at"
    monkeypatch.setattr(standing, "stands", lambda run, stage: stage == SECOND)
    assert both("c") == [True, True]
