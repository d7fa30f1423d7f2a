"""The clock of a DAG: a run starts at its time, or not at all.

Airflow's own clocks make up for the run that was due last as soon as a DAG is switched on, which
whoever switches it on to trigger a run has not asked for. `LiveCronTimetable` lets a time pass
when nothing was there to keep it: the DAG was off, or nothing ran. Loaded by every component of
Airflow (`plugins/clock.py` registers it), so it imports little.
"""

from datetime import datetime, timedelta

from airflow.timetables.trigger import CronTriggerTimetable

GRACE = timedelta(minutes=15)
"""How late a run may start: a busy scheduler needs minutes, and a run before it may still go on."""


class LiveCronTimetable(CronTriggerTimetable):
    """Run at the times of a cron expression, and never for a time that is past by `GRACE`.

    Parameters are those of Airflow's `CronTriggerTimetable`. A backfill is not affected.
    """

    def _align_to_prev(self, current: datetime) -> datetime:
        """Return the first time that is not past; Airflow begins from it, if it does not make up.

        Airflow's own returns the last time that is.
        """
        return self._align_to_next(current - GRACE)
