"""What Airflow's scheduler and DAG processor have imported before they fork."""

import json
import os
import subprocess
import sys

from lib.ground import layout
from lib.ground.files import ROOT

import pytest

CODE = """
import json, sys
from lib.dag import preloaded
preloaded.load()
left = [name for name in sys.modules if name.partition(".")[0] == "lib"]
before = set(sys.modules)
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
from jupyter_client.manager import AsyncKernelManager
from papermill.translators import PythonTranslator
before = set(sys.modules)
PythonTranslator.codify({"n": 1})
AsyncKernelManager(kernel_name="python3").kernel_spec
late = sorted(set(sys.modules) - before)
import mlflow
again = "lib.dag.form" in sys.modules
print(json.dumps([left, list(bag.dags), bag.import_errors, new, late, again]))
"""


@pytest.mark.slow
def test_reading_a_dag_file_imports_this_project_and_nothing_else():
    command = [sys.executable, "-c", CODE, layout.dag_file("power")]
    done = subprocess.run(
        command, env=os.environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    left, dags, errors, new, late, again = json.loads(done.stdout.splitlines()[-1])
    assert left == [] and again, "a change of this project counts from the next task on"
    assert dags == ["power"] and errors == {}
    assert late == [], "what papermill and Jupyter import only as they are used"
    assert {name for name in new if not name.startswith("unusual_prefix")} <= {"lib", "airflow"}
