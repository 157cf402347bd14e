"""Days on which banks settle payments in euro: TARGET's closing days, by rule. Pure."""

from datetime import UTC, date, datetime, timedelta

_SATURDAY = 5
#: 1 January, 1 May, 25 and 26 December.
_FIXED = frozenset({(1, 1), (5, 1), (12, 25), (12, 26)})
_SECOND_US = 1_000_000


def easter_sunday(year: int) -> date:
    """Return Easter Sunday of the Gregorian calendar (the anonymous Gregorian computus)."""
    golden = year % 19
    century, year_of_century = divmod(year, 100)
    leap_centuries, century_rest = divmod(century, 4)
    correction = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - leap_centuries - correction + 15) % 30
    leap_years, year_rest = divmod(year_of_century, 4)
    weekday = (32 + 2 * century_rest + 2 * leap_years - epact - year_rest) % 7
    late = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def is_target_day(day: date) -> bool:
    """Say whether TARGET is open.

    It is not on weekends, 1 January, Good Friday, Easter Monday, 1 May, 25 and 26 December.
    """
    if day.weekday() >= _SATURDAY or (day.month, day.day) in _FIXED:
        return False
    from_easter = (day - easter_sunday(day.year)).days
    return from_easter not in (-2, 1)


def next_target_day(after_us: int) -> date:
    """Return the first TARGET day after the day (UTC) of a time in microseconds since the epoch."""
    day = datetime.fromtimestamp(after_us // _SECOND_US, tz=UTC).date() + timedelta(days=1)
    while not is_target_day(day):
        day += timedelta(days=1)
    return day
