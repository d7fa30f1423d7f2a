"""Toy map: a list of things, two stages for each of them, and a table of all."""

from lib.dag.form import DAG_DEFAULTS, list_task, mapped_stages, notebook_params, notebook_task

from airflow.sdk import DAG, chain

with DAG(
    dag_id="toy_map",
    doc_md=__doc__,
    schedule=None,
    params=notebook_params("toy_map"),
    **DAG_DEFAULTS,
):
    things = list_task("toy_map", "things.json")
    chain(
        notebook_task("toy_map/01_list"),
        things,
        mapped_stages("toy_map/02_work", "toy_map/03_check", each=things),
        notebook_task("toy_map/04_table", trigger_rule="all_done_min_one_success"),
    )
