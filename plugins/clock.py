"""The clock of this project's DAGs, which Airflow must know by name."""

from lib.dag.clock import LiveCronTimetable

from airflow.sdk.plugins_manager import AirflowPlugin


class ClockPlugin(AirflowPlugin):
    """A clock that does not make up for what is past."""

    name = "clock"
    timetables = [LiveCronTimetable]  # noqa: RUF012
