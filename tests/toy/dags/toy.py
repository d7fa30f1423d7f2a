"""Toy: two short stages that need no library, to see what becomes of faults."""

from lib.dag.form import DAG_DEFAULTS, notebook_params, notebook_task

from airflow.sdk import DAG, chain

with DAG(
    dag_id="toy", doc_md=__doc__, schedule=None, params=notebook_params("toy"), **DAG_DEFAULTS
):
    chain(notebook_task("toy/01_load"), notebook_task("toy/02_judge"))
