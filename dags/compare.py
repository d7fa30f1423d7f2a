"""Compare: two versions of a registered model on the same rows, when somebody asks.

Name the model and two versions, by number or alias; on the values of the form it compares two small
ones on made-up readings. It registers nothing and moves no alias. Notebook: `notebooks/compare/`;
run folders: `outputs/compare/`.
"""

from lib.dag.form import DAG_DEFAULTS, notebook_params, notebook_task

from airflow.sdk import DAG

with DAG(
    dag_id="compare",
    doc_md=__doc__,
    schedule=None,
    tags=["registry"],
    params=notebook_params("compare"),
    **DAG_DEFAULTS,
):
    notebook_task("compare/01_compare")
