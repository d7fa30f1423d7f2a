"""Pipelines made by `make new`: which names are refused, what is written, and all or nothing."""

import ast
import importlib
import importlib.util
import io
import subprocess
import sys
import tokenize
from types import SimpleNamespace

from lib import floors, metrics
from lib.commands import cli, new
from lib.ground.files import ROOT
from lib.ground.parameters import parse_parameters

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

MOST_LINES = 250
TASKS = sorted(new.TASKS)
each_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(scope="module", params=TASKS)
def made(request, tmp_path_factory):
    """The files of a pipeline in a folder of their own, with the settings of the linter."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for path, text in new.render("unmade", request.param).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def code_lines(text):
    """How many lines hold code, without docstrings, comments and blank lines."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = set()
    for token in tokens:
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "a letter first; 'red_wine' for example"),
        ("Wine", "lower-case letters"),
        ("red wine", "single underscores"),
        ("red-wine", "single underscores"),
        ("2wine", "a letter first"),
        ("../wine", "lower-case letters"),
        ("a" * 41, "at most 40"),
        ("lambda", "a word of Python"),
        ("latest", "how a run is named"),
        ("power", "notebooks/power is there already"),
        ("score", "notebooks/score is there already"),
        ("compare", "notebooks/compare is there already"),
        ("power_sample", "lib/pipelines/power_sample.py is there already"),
        ("json", "dags/json.py would hide"),
        ("pandas", "dags/pandas.py would hide"),
        ("lib", "dags/lib.py would hide"),
    ],
)
def test_name_that_cannot_be_is_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=reason):
        new.check_name(name)


def test_name_of_an_earlier_pipelines_runs_is_refused(tmp_path, monkeypatch):
    new.check_name("unmade")
    monkeypatch.setenv("OUTPUTS_DIR", str(tmp_path))
    (tmp_path / "unmade").mkdir()
    with pytest.raises(ValueError, match="holds runs of an earlier pipeline"):
        new.check_name("unmade")


def test_task_that_is_not_known_is_refused_by_the_command_with_its_usage(capsys):
    assert cli.main(["new", "--task", "ranking", "unmade"]) == 2
    told = capsys.readouterr().err
    assert "TASK=ranking: choose classification or regression" in told
    assert "usage: make new PIPELINE=wine [TASK=regression]" in told


@pytest.mark.slow
def test_pipeline_keeps_the_rules_of_the_linter(made):
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        done = subprocess.run(ruff, cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_pipeline_has_no_more_lines_of_code_than_promised(made):
    texts = [path.read_text("utf-8") for path in made.rglob("*.py")]
    for path in made.rglob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "code"]
    assert sum(map(code_lines, texts)) <= MOST_LINES


def test_what_is_imported_from_the_library_is_there(made):
    found = [path.read_text("utf-8") for path in made.rglob("*.py")]
    for path in made.rglob("*.ipynb"):
        found += [cell.source for cell in nbformat.read(path, as_version=4).cells[2:3]]
    nodes = [node for text in found for node in ast.walk(ast.parse(text))]
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("lib")]
    own = {"lib.pipelines.unmade"}
    for node in imports:
        for name in (alias.name for alias in node.names if node.module not in own):
            module = importlib.import_module(node.module)
            assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), name


def test_notebooks_hold_one_task_only(made):
    text = "".join(path.read_text("utf-8") for path in made.rglob("*.ipynb"))
    assert "{%" not in text and "{{" not in text and '"task"' not in text
    assert ("Classifier" in text) != ("Regressor" in text)


@each_task
def test_cells_are_prose_and_code_in_turns_with_their_tags(task):
    files = new.render("unmade", task)
    book = nbformat.reads(files[new.places("unmade")[0] / "04_evaluate.ipynb"], as_version=4)
    nbformat.validate(book)
    assert [cell.cell_type for cell in book.cells[:3]] == ["markdown", "code", "code"]
    assert book.cells[1].metadata.tags == ["parameters"]
    assert {tag for cell in book.cells for tag in cell.metadata.tags} == {
        "parameters",
        "nbval-ignore-output",
    }
    assert len({cell.id for cell in book.cells}) == len(book.cells)


@pytest.mark.parametrize(("loss", "passed"), [(0.2, False), (0.1, True)])
def test_model_that_knows_no_more_than_the_shares_of_the_classes_misses_a_floor(loss, passed):
    files = new.render("unmade", "classification")
    book = nbformat.reads(files[new.places("unmade")[0] / "04_evaluate.ipynb"], as_version=4)
    (cell,) = [cell.source for cell in book.cells if "floors.verdict" in cell.source]
    known = {name: one.default for name, one in parse_parameters(book.cells[1].source).items()}
    shares = {"accuracy": 0.95, "loss": 0.2}  # where one row of twenty is of the other class
    known["scores"] = {"model": shares | {"loss": loss}, "most_frequent": shares}
    written = {}
    run = SimpleNamespace(write=written.__setitem__, parameters={})
    exec(
        cell,
        known | {"floors": floors, "metrics": metrics, "run": run, "intervals": {}, "test": "x"},
    )
    assert written["verdict.json"]["passed"] == passed


def test_margin_of_a_number_is_in_its_unit_and_no_fraction():
    files = new.render("unmade", "regression")
    book = nbformat.reads(files[new.places("unmade")[0] / "05_register.ipynb"], as_version=4)
    margin = parse_parameters(book.cells[1].source)["margin"]
    assert margin.high > 1 and "unit" in margin.meaning


def test_target_with_a_class_for_each_row_is_shown_by_few_bars():
    files = new.render("unmade", "classification")
    book = nbformat.reads(files[new.places("unmade")[0] / "01_load.ipynb"], as_version=4)
    (cell,) = [cell.source for cell in book.cells if "plot.barh" in cell.source]
    run = SimpleNamespace(write=lambda name, content: None)
    table = pd.DataFrame({"price": [f"{k}.5" for k in range(200)]})
    exec(cell, known := {"plt": plt, "run": run, "table": table, "target": "price"})
    assert len(known["ax"].patches) == 30
    plt.close("all")


def test_no_unit_is_claimed_of_a_target_whose_unit_nobody_has_given():
    files = new.render("unmade", "regression")
    book = nbformat.reads(files[new.places("unmade")[0] / "04_evaluate.ipynb"], as_version=4)
    unit = parse_parameters(book.cells[1].source)["unit"].default
    (line,) = [one for one in book.cells[2].source.splitlines() if one.startswith("unit =")]
    exec(line, known := {"unit": unit, "split": {"target": "price"}})
    assert known["unit"] == "price"


def left_in(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, whose notebooks are not executed."""
    for name in ("notebooks", "dags", "lib/pipelines"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(new, "ROOT", tmp_path)
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    monkeypatch.setattr(new, "refresh_all", lambda pipelines: None)
    return tmp_path


def test_everything_is_written_and_what_to_do_next_is_said(project, capsys):
    assert not new.main("unmade", "")
    folder, module, dag = new.places("unmade")
    stages = {str(folder / f"{stage}.ipynb") for stage in new.STAGES}
    assert left_in(project) == {*stages, str(folder / "README.md"), str(module), str(dag)}
    told = capsys.readouterr().out
    assert "make run PIPELINE=unmade" in told and "Commit" in told
    with pytest.raises(ValueError, match="notebooks/unmade is there already"):
        new.main("unmade", "")


def test_notebooks_and_dag_are_made_where_pipelines_are_and_the_module_here(project, monkeypatch):
    others = project / "others"
    monkeypatch.setenv("PIPELINES_DIR", str(others))
    for name in ("notebooks", "dags"):
        (others / name).mkdir(parents=True)
    new.main("unmade", "")
    folder, module, dag = new.places("unmade")
    assert (others / folder / "01_load.ipynb").exists() and (others / dag).exists()
    assert (project / module).exists() and not (project / folder).exists()


@pytest.mark.parametrize("error", [ValueError("02_features.ipynb failed"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_pipeline_whose_notebooks_fail(project, monkeypatch, error):
    def fail(pipelines):
        assert (project / "notebooks/unmade/01_load.ipynb").exists()
        assert not (project / "dags/unmade.py").exists(), "Airflow may be looking"
        raise error

    monkeypatch.setattr(new, "refresh_all", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else RuntimeError):
        new.main("unmade", "")
    assert left_in(project) == set()


def test_a_pipeline_that_another_has_just_made_is_left_alone(project, monkeypatch):
    files = new.render("unmade", "regression")
    (project / "notebooks/unmade").mkdir()
    (project / "notebooks/unmade/01_load.ipynb").write_text("another's")
    with pytest.raises(OSError), new.placed("unmade", files):
        pass
    assert left_in(project) == {"notebooks/unmade/01_load.ipynb"}


@each_task
def test_stage_of_every_notebook_is_a_template(task):
    assert {path.stem for path in new.render("unmade", task) if path.suffix == ".ipynb"} == {
        *new.STAGES
    }
    found = {path.name.split(".")[0] for path in new.FOLDER.glob("0*.md.jinja")}
    assert found == set(new.STAGES)
