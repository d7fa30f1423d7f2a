"""Maintenance: tidy what pipelines keep outside of run folders, every week.

Of the lake: small files are put together, snapshots of more than 30 days are let go unless a tag
or a branch names them, and files that nothing refers to are deleted. `make tidy` says what it does.
"""

from lib.dag.form import DAG_DEFAULTS

from airflow.sdk import DAG, task

with DAG(
    dag_id="maintenance",
    doc_md=__doc__,
    schedule="0 5 * * 0",
    tags=["iceberg", "Sundays 05:00 UTC"],
    **DAG_DEFAULTS,
):

    @task
    def tidy() -> None:
        """Tidy, and print what there was, what went and what there is."""
        from lib.commands.tidy import main

        main(apply=True)

    tidy()
