"""Maintenance of the lake, every week: small files, old snapshots, files of nobody.

What a tag or a branch names stays. Notebook: `notebooks/maintenance/`; run folders:
`outputs/maintenance/`.
"""

from lib.dag.form import DAG_DEFAULTS, clock_or, notebook_params, notebook_task

from airflow.sdk import DAG, chain

with DAG(
    dag_id="maintenance",
    doc_md=__doc__,
    schedule=clock_or("0 5 * * 0"),
    tags=["iceberg", "Sundays 05:00 UTC"],
    params=notebook_params("maintenance", source="lake", days=30, apply=True),
    **DAG_DEFAULTS,
):
    chain(notebook_task("maintenance/01_tidy"))
