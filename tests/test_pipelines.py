"""Notebooks and DAGs agree, and every notebook keeps the house anatomy. Starts no kernel."""

import ast
import functools
import itertools
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from lib.ground import layout
from lib.ground.files import ROOT
from lib.ground.parameters import merge_parameters, read_parameters
from lib.once.choice import OPTIONS

import jinja2
import nbformat
import pytest
from late import Late

sdk, assets = Late("airflow.sdk"), Late("lib.dag.assets")
dag_form, promotion = Late("lib.dag.form"), Late("lib.dag.promotion")
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").glob("*/*.ipynb") if not p.is_symlink())
PIPELINES = sorted({path.parent.name for path in NOTEBOOKS})
TRAINING = sorted({p.parent.name for p in NOTEBOOKS if p.stem.endswith("_register")})
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
BY_HAND = {"compare", "power_search"}  # runs when somebody asks, by no clock
MAX_LINES = 25
MAX_KB = 500
IMAGE = "image/png"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parts[-2]}/{p.stem}")
each_pipeline = pytest.mark.parametrize("pipeline", PIPELINES)
each_training = pytest.mark.parametrize("pipeline", TRAINING)
each_dag_file = pytest.mark.parametrize("path", DAG_FILES, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def dags():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags")
    assert bag.import_errors == {}
    return bag.dags


@functools.cache
def cells(path):
    """Return the cells of a notebook, which is read and validated once."""
    return nbformat.read(path, as_version=4).cells


def code_cells(path):
    return [c for c in cells(path) if c.cell_type == "code"]


def card(path):
    return cells(path)[0].source


def named_files(text, word):
    part = re.search(rf"\*\*{word}\*\*(.*?)(?=\*\*(?:Reads|Writes)\*\*|\Z)", text, re.DOTALL)
    return set(re.findall(r"`([\w./-]+)`", part[1])) if part else set()


@each_notebook
def test_notebook_opens_with_card_then_parameters_then_set_up(path):
    first, second, third = cells(path)[:3]
    number, stage = path.stem.split("_", 1)
    assert re.match(
        rf"# [\w-]+ · {int(number)} · {stage.replace('_', ' ').capitalize()}\n\n> .+\n\n",
        first.source,
    )
    assert "**Reads**" in first.source or number == "01"
    assert "**Writes**" in first.source
    assert second.metadata.get("tags") == ["parameters"]
    assert f'open_run(run_dir, stage="{path.stem}")' in third.source


@each_notebook
def test_card_links_exist(path):
    for target in re.findall(r"\]\(([^)#]+)\)", card(path)):
        assert (path.parent / target).exists(), target


@each_notebook
def test_card_names_the_files_that_the_code_reads_and_writes(path):
    code = "\n".join(c.source for c in code_cells(path))
    written = set(re.findall(r'run\.(?:write|writing)\(\s*"([\w./-]+)"', code))
    read = set(re.findall(r'run\.(?:read|local)\(\s*"([\w./-]+)"', code)) - written
    pictures = {name for name in written if name.endswith((".png", ".chart.json"))}
    assert written - pictures <= named_files(card(path), "Writes"), "written but not on the card"
    assert read <= named_files(card(path), "Reads"), "read but not on the card"


@each_notebook
def test_one_title_and_no_heading_deeper_than_two(path):
    prose = "\n".join(c.source for c in cells(path) if c.cell_type == "markdown")
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1
    assert not re.findall(r"^###", prose, re.MULTILINE)
    assert re.findall(r"^## Result$", prose, re.MULTILINE), "no Result section"


@each_notebook
def test_parameters_start_with_run_dir_and_end_with_seed(path):
    names = list(read_parameters(path))
    assert names[0] == "run_dir"
    assert "seed" not in names[:-1]
    assert read_parameters(path)["run_dir"].default == f"{path.parent.name}/dev"


@each_notebook
def test_imports_stand_in_the_set_up_cell_only(path):
    for number, cell in enumerate(code_cells(path), start=1):
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert number == 2 or not kinds & {ast.Import, ast.ImportFrom}, f"import in In [{number}]"
        assert "import *" not in cell.source and "sys.path" not in cell.source


@each_notebook
def test_code_cells_are_short_and_the_last_one_finishes_the_stage(path):
    found = code_cells(path)
    for number, cell in enumerate(found, start=1):
        assert len(cell.source.splitlines()) <= MAX_LINES, f"In [{number}] is too long"
    assert found[-1].source.splitlines()[-1] == "run.finish()"


@each_notebook
def test_result_holds_an_assert(path):
    assert any("assert " in cell.source for cell in code_cells(path)[-3:])


@each_notebook
def test_committed_outputs_come_from_one_clean_run(path):
    found = code_cells(path)
    assert [c.execution_count for c in found] == list(range(1, len(found) + 1))
    for cell in found:
        assert not [o for o in cell.outputs if o.get("name") == "stderr"]
        assert not [o for o in cell.outputs if o.output_type == "error"]
        assert not set(cell.metadata) - {"tags"}
    assert sum(IMAGE in o.get("data", {}) for c in found for o in c.outputs) <= 3
    assert path.stat().st_size < MAX_KB * 1024


@each_notebook
def test_notebook_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not re.search(r'["\s(](?:/home/|/root/|/tmp/|/Users/|C:\\\\)', text)
    assert not re.search(r"object at 0x|<Axes:", text)


@each_notebook
def test_only_the_kernel_is_kept_of_the_notebooks_metadata(path):
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert list(metadata) == ["kernelspec"]
    assert metadata["kernelspec"]["name"] == "python3"


@each_pipeline
def test_dag_runs_the_folder_in_order_and_is_named_like_it(pipeline, dags):
    tasks = dags[pipeline].topological_sort()
    ran = [(task.pipeline, task.stage) for task in tasks if hasattr(task, "stage")]
    assert ran == [(pipeline, stage) for stage in layout.planned(pipeline)]
    for before, after in itertools.pairwise(tasks):
        others = [dags[pipeline].get_task(i) for i in after.upstream_task_ids - {before.task_id}]
        assert before.task_id in after.upstream_task_ids
        assert not any(hasattr(task, "stage") for task in others), "a list alone feeds more tasks"


@each_training
def test_training_ends_in_a_promotion_that_updates_the_asset_of_the_model(pipeline, dags):
    last = dags[pipeline].topological_sort()[-1]
    assert isinstance(last, promotion.PromotionOperator) and last.pipeline == pipeline
    assert last.outlets == [assets.model_asset(pipeline)]
    assert last.response_timeout == timedelta(days=3) and last.defaults == ["Reject"]


def clock_tag(cron):
    """Return a daily or weekly cron expression (UTC) in words."""
    minute, hour, _, _, day = cron.split()
    days = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
    when = "daily" if day == "*" else days[int(day) % 7]
    return f"{when} {int(hour):02}:{int(minute):02} UTC"


@each_training
def test_training_starts_by_the_clock_when_data_arrive_and_when_they_drift(pipeline, dags):
    schedule = dags[pipeline].schedule
    assert schedule.asset_condition == sdk.AssetAny(
        assets.data_asset(pipeline), assets.drift_asset(pipeline)
    )
    assert re.fullmatch(r"[\d *]+", schedule.timetable.summary)
    assert clock_tag(schedule.timetable.summary) in dags[pipeline].tags, "lists show no clock"
    assert str(schedule.timetable.serialize()["timezone"]) == "UTC"


@each_training
def test_register_stage_offers_how_far_a_version_may_go(pipeline):
    form = dag_form.notebook_params(pipeline)
    assert form["promote"].schema["enum"] == ["auto", "staging", "approval", "never"]
    assert form["promote"].value == "auto" and form["margin"].value == 0.0


def test_templates_of_dag_files_hold_without_a_logical_date():
    """A run that an asset has started has none."""
    run = SimpleNamespace(logical_date=None, run_after=datetime(2026, 11, 3, 4, tzinfo=UTC))
    assert jinja2.Template(dag_form.RUN_DATE).render(dag_run=run) == "2026-11-03"


@each_pipeline
def test_trigger_form_offers_every_parameter_but_the_run_folder(pipeline, dags):
    declared = merge_parameters(layout.declared(pipeline))
    form = dags[pipeline].params
    form.validate()  # so it can be sent as it is
    offered = [name for name, text in OPTIONS.items() if text]
    assert list(form) == [*declared, *offered] and "run_dir" not in form
    assert form.get_param("from_stage").schema["enum"] == ["", *layout.planned(pipeline)]
    assert not any(form[name] for name in offered), "as it is, it asks for nothing of them"
    for name, parameter in declared.items():
        param = form.get_param(name)
        assert param.schema["title"] == name
        assert re.fullmatch(r"\d+ · [A-Z][a-z ]+", param.schema["section"])
        for key, value in parameter.schema().items():
            assert param.schema[key] == value


@each_pipeline
def test_dag_has_the_defaults_that_were_asked_for(pipeline, dags):
    dag = dags[pipeline]
    assert dag.start_date == datetime(2025, 12, 27, tzinfo=UTC)
    assert dag.catchup is False and dag.max_active_runs == 1 and dag.tags
    assert bool(dag.schedule) == (pipeline not in BY_HAND) and dag.doc_md
    for task in dag.tasks:
        assert task.retries == 2 and task.retry_delay == timedelta(minutes=1)


@each_dag_file
def test_dag_file_is_short_and_imports_airflow_from_its_sdk_only(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 50
    imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
    assert set(imported) <= {"lib.dag.form", "airflow.sdk"}


def test_values_of_a_run_do_not_pass_for_those_that_the_dag_file_writes():
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(ROOT / "dags" / "power.py").dags["power"]
    (tune,) = [task for task in dag.tasks if task.task_id == "03_tune"]
    dag.params["n_trials"] = 7  # as Airflow does with what a run was triggered with
    assert tune.written["n_trials"] == 40 and tune.written["source"] == "uci"


PARSE = """
import json, os, runpy, sys
import airflow.sdk

for path in sys.argv[1:]:
    if not os.fork():
        runpy.run_path(path)
        print(json.dumps([path, *sys.modules]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, path
"""


@pytest.mark.slow
def test_parsing_a_dag_file_imports_nothing_heavy():
    """Each in a fork of a process that has imported Airflow's SDK alone."""
    heavy = {"pandas", "mlflow", "matplotlib", "lightgbm", "tensorflow", "keras", "sklearn"}
    heavy |= {"optuna", "boto3", "gcsfs", "azure", "scipy", "nbconvert"}
    command = [sys.executable, "-c", PARSE, *map(str, DAG_FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {path: names for path, *names in map(json.loads, done.stdout.splitlines())}
    for path in map(str, DAG_FILES):
        assert "lib.dag.form" in imported[path] and heavy.isdisjoint(imported[path]), path


def test_override_that_no_notebook_declares_is_refused():
    with pytest.raises(ValueError, match="power has no parameter 'horizont'"):
        dag_form.notebook_params("power", horizont=3)


def test_override_outside_of_its_domain_is_refused():
    with pytest.raises(ValueError, match=r"horizon = 0 .*1\.\.168"):
        dag_form.notebook_params("power", horizon=0)


def test_unknown_pipeline_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'powder'.*power"):
        dag_form.notebook_params("powder")


@each_notebook
def test_figure_cells_end_in_a_call_that_returns_nothing(path):
    """A semicolon hides a returned artist from people, but not from nbval."""
    for number, cell in enumerate(code_cells(path), start=1):
        last = cell.source.rstrip().splitlines()[-1]
        assert not last.endswith(";") or last.startswith("run.write("), f"In [{number}]"
