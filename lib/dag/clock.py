"""The clock of a DAG: a run starts at its time, or not at all.

Airflow's own clocks make up for the run that was due last as soon as a DAG is switched on, which
whoever switches it on to trigger a run has not asked for. `LiveCronTimetable` lets a time pass
when nothing was there to keep it: the DAG was off, or nothing ran. Loaded by every component of
Airflow (`plugins/clock.py` registers it), so it imports little.
"""

from datetime import timedelta

from airflow.sdk import timezone
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

GRACE = timedelta(minutes=15)
"""How late a run may start: a busy scheduler needs minutes, and a run before it may still go on."""


class LiveCronTimetable(CronTriggerTimetable):
    """Run at the times of a cron expression, and never for a time that is past by `GRACE`.

    Parameters are those of Airflow's `CronTriggerTimetable`. A backfill is not affected.
    """

    def next_dagrun_info(
        self,
        *,
        last_automated_data_interval: DataInterval | None,
        restriction: TimeRestriction,
    ) -> DagRunInfo | None:
        """Return the next run: the first time that is neither past nor taken."""
        if restriction.catchup:
            return super().next_dagrun_info(
                last_automated_data_interval=last_automated_data_interval, restriction=restriction
            )
        times = [self._align_to_next(timezone.coerce_datetime(timezone.utcnow() - GRACE))]
        if last_automated_data_interval is not None:
            times.append(self._get_next(last_automated_data_interval.end))
        if restriction.earliest is not None:
            times.append(self._align_to_next(restriction.earliest))
        start = max(times)
        if restriction.latest is not None and restriction.latest < start:
            return None
        return DagRunInfo.interval(timezone.coerce_datetime(start - self._interval), start)
