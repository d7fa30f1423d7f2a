"""What decides which ticks count, checked: the hours of which days, and what a good tick is."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from lib.dialect import to_zone

EARLIEST, LATEST = date(1900, 1, 1), date(2200, 1, 1)
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Session:
    """The hours of a day that count: from `opening` up to, and without, `closing`.

    Attributes
    ----------
    opening, closing : int
        Seconds of local clock time after midnight.
    zone : ZoneInfo
    """

    opening: int
    closing: int
    zone: ZoneInfo

    def instant(self, day: date, second: int = 0) -> int:
        """Return when the clock of the session's zone shows `second` of `day`, us since 1970."""
        days, rest = divmod(second, 86_400)
        clock = datetime.combine(day, time(), self.zone) + timedelta(days=days, seconds=rest)
        return round(clock.timestamp()) * 1_000_000

    def day_of(self, instant: int) -> date:
        """Return the session's date at `instant`, us since 1970."""
        return datetime.fromtimestamp(instant // 1_000_000, self.zone).date()


@dataclass(frozen=True)
class Rules:
    """What decides which ticks are kept, see `lib.tick.load.load_ticks`."""

    session: Session
    last_day: date
    drop_repeats: bool
    max_deviation: float
    max_dropped: float

    @property
    def is_open(self) -> bool:
        """Whether no last day is given: whatever there is may be seen."""
        return self.last_day == LATEST

    @property
    def end(self) -> int:
        """The first moment that may not be seen, us since 1970; if open, that cannot be yet."""
        last_day = datetime.now(self.session.zone).date() if self.is_open else self.last_day
        return self.session.instant(last_day + ONE_DAY)


def make_session(text: str, zone: str) -> Session:
    """Return the session ``HH:MM-HH:MM`` of a zone.

    Raises
    ------
    ValueError
        If it has another form, or there is no such zone.
    """
    hours = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text.replace(" ", ""))
    numbers = [int(part) for part in hours.groups()] if hours else [0, 99, 0, 99]
    opening, closing = (3_600 * h + 60 * m for h, m in (numbers[:2], numbers[2:]))
    if max(numbers[1::2]) > 59 or not opening < closing <= 86_400:
        raise ValueError(
            f"session is {text!r}: give HH:MM-HH:MM within one day, as 09:30-16:00 or "
            "00:00-24:00; hours that cross midnight do not in another session_zone"
        )
    return Session(opening, closing, to_zone("session_zone", zone))


def to_day(as_of: str) -> date:
    """Return the last day that may be seen; the option `as_of` is ISO 8601, or empty for any."""
    try:
        return date.fromisoformat(as_of) if as_of else LATEST
    except ValueError:
        raise ValueError(f'as_of is {as_of!r}: give a day as 2013-10-11, or ""') from None


def utc(instant: int) -> datetime:
    """Return a moment, us since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(instant))
