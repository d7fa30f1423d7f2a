"""What Airflow sees: DAG files, operators, runs. The only place that imports Airflow."""
