"""Instants: ISO 8601 texts, epoch times, and Elasticsearch's date math, all to milliseconds since 1970 UTC.

A text that leaves out parts (`2026-03`, `2026-03-01T10:00`) means the first instant it could be, or, rounded up, the last
millisecond; so does math that rounds: `now-1d/d` is the beginning of yesterday, or its end. Which of the two a bound of a range
takes is Elasticsearch's rule: `gte` and `lt` the first, `gt` and `lte` the last.

Pure: now is an argument. Time zones by name come from the system's database, or from the package tzdata.
Years 1 to 9999; a fraction of a second counts down to its milliseconds.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from chronik.search.query import QueryError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
MIN_MS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
MAX_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?",
    re.ASCII,
)
_EPOCH_IN_RECORDS = re.compile(r"-?\d{5,17}", re.ASCII)
_EPOCH_IN_QUERIES = re.compile(r"-?\d{1,18}", re.ASCII)
_SHIFT = re.compile(r"([+-])(\d{0,9})([yMwdhHms])|/([yMwdhHms])", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_FIXED = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "H": 3_600_000, "m": 60_000, "s": 1000}
_LONGEST_MATH = 100


def is_date(text: str) -> bool:
    """Whether a text in a query is a date, and no mere number or word: `now…`, or an ISO date with a dash in it."""
    if text.startswith("now"):
        return _math_of(text[3:]) is not None
    return is_iso_date(text)


def is_iso_date(text: str) -> bool:
    """Whether a text in a query is an ISO date with a dash in it, with or without math."""
    date, anchor, math = text.partition("||")
    match = _ISO.fullmatch(date) if "-" in date[4:] else None
    if match is None or _instant(match, UTC, round_up=False) is None:
        return False
    return not anchor or _math_of(math) is not None


def parse_date(text: str, seconds: bool = False) -> int | None:
    """The instant that a text in a record is, in ms, else None: an ISO date, or five digits and more of epoch milliseconds.

    `seconds`: bare digits are those.
    """
    match = _ISO.fullmatch(text)
    if match is not None:
        return _instant(match, UTC, round_up=False)
    return _epoch(text, seconds) if _EPOCH_IN_RECORDS.fullmatch(text) else None


def instant_of_number(number: int | Decimal, seconds: bool = False) -> int | None:
    """The instant that a number in a record is, in ms; None for one beyond all time."""
    if isinstance(number, Decimal):
        if not -30 < number.adjusted() < 30:
            return None
        return math.floor(number * 1000 if seconds else number)
    return number * 1000 if seconds else number


def resolve_date(text: str, now_ms: int, round_up: bool = False, zone: tzinfo = UTC, seconds: bool = False) -> int:
    """The instant that a text in a query is, in ms: ISO, any digits, or either with math. Raises QueryError."""
    if text.startswith("now"):
        start, math = now_ms, text[3:]
        shifted = ""
    else:
        shifted, _, math = text.partition("||")
        match = _ISO.fullmatch(shifted)
        found = _instant(match, zone, round_up and not math) if match is not None else None
        if found is None and _EPOCH_IN_QUERIES.fullmatch(shifted):
            found = _epoch(shifted, seconds)
        if found is None:
            raise QueryError(
                f"`{text:.80}` is no date: ISO 8601, epoch milliseconds, or now with math such as now-1h/d"
            )
        start = found
    steps = _math_of(math)
    if steps is None:
        raise QueryError(f"`{text:.80}` is no date: `{math}` is no date math (such as +1d-2h/d)")
    try:
        for sign, count, unit, rounding in steps:
            start = (
                round_down(start, rounding, zone, round_up) if rounding else _shifted(start, sign, count, unit, zone)
            )
    except (OverflowError, ValueError):
        raise QueryError(f"`{text:.80}` is beyond the years 1 to 9999") from None
    return start


def _epoch(digits: str, seconds: bool) -> int:
    return int(digits) * (1000 if seconds else 1)


def format_date(ms: int, zone: tzinfo = UTC) -> str:
    """An instant as ISO 8601 with milliseconds; beyond the years 1 to 9999 the bare number."""
    try:
        moment = at(ms, zone)
    except (OverflowError, ValueError):
        return str(ms)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + _zone_suffix(moment)


def _zone_suffix(moment: datetime) -> str:
    offset = moment.utcoffset() or timedelta()
    if not offset:
        return "Z"
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


@lru_cache(maxsize=256)
def parse_zone(text: str) -> tzinfo:
    """A time zone, by its offset (`+02:00`) or its name (`Europe/Berlin`). Raises QueryError."""
    if text in ("Z", "UTC"):
        return UTC
    match = _OFFSET.fullmatch(text)
    if match is not None and int(match[2]) <= 18 and int(match[3]) < 60:
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # KeyError is ZoneInfoNotFoundError's base
        raise QueryError(
            f"`{text:.50}` is no time zone: an offset such as +02:00 is one, or a name such as Europe/Berlin"
        ) from None


def at(ms: int, zone: tzinfo) -> datetime:
    """The instant in a zone. Raises OverflowError beyond the years 1 to 9999."""
    return (_EPOCH + ms * _MILLISECOND).astimezone(zone)


def to_ms(moment: datetime) -> int:
    """An aware datetime as ms, counted down."""
    return (moment - _EPOCH) // _MILLISECOND


def round_down(ms: int, unit: str, zone: tzinfo, to_end: bool = False) -> int:
    """The first instant of the second, minute, hour, day, week (Monday's), month, quarter or year; or its last millisecond.

    Units are `s m h d w M q y`. Raises OverflowError beyond the years 1 to 9999.
    """
    at_once = unit in "smhH" and zone is UTC
    first = ms - ms % _FIXED[unit] if at_once else to_ms(_floor(at(ms, zone), unit))
    return _end(first, unit, zone) if to_end else first


def _end(first: int, unit: str, zone: tzinfo) -> int:
    """The last millisecond of the unit that begins at `first`."""
    try:
        return next_start(first, unit, zone) - 1
    except (OverflowError, ValueError):  # time ends
        return MAX_MS


def next_start(first: int, unit: str, zone: tzinfo) -> int:
    """The first instant of the unit after the one that begins at `first`. OverflowError or ValueError beyond the year 9999."""
    if unit in "smhH":
        return first + _FIXED[unit]
    moment = at(first, zone).replace(tzinfo=None)
    if unit in "dw":
        moved = moment + timedelta(days=1 if unit == "d" else 7)
    else:
        moved = _months_later(moment, {"M": 1, "q": 3, "y": 12}[unit])
    return to_ms(moved.replace(tzinfo=zone))


def _floor(moment: datetime, unit: str) -> datetime:
    if unit == "s":
        return moment.replace(microsecond=0)
    if unit == "m":
        return moment.replace(second=0, microsecond=0)
    if unit in "hH":
        return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if unit == "d":
        return day
    if unit == "w":
        return day - timedelta(days=day.weekday())
    if unit == "M":
        return day.replace(day=1)
    if unit == "q":
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    return day.replace(month=1, day=1)


def _months_later(moment: datetime, months: int) -> datetime:
    """The same day of a later month, or its last day where it has no such day."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    first = moment.replace(year=year, month=month + 1, day=1)
    return first + timedelta(days=min(moment.day, _days_of(year, month + 1)) - 1)


def _days_of(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _shifted(ms: int, sign: str, count: str, unit: str, zone: tzinfo) -> int:
    number = int(count or 1) * (-1 if sign == "-" else 1)
    if unit in "hHms" or (unit in "wd" and zone is UTC):
        return ms + number * _FIXED[unit]
    local = at(ms, zone).replace(tzinfo=None)
    if unit in "wd":
        moved = local + timedelta(days=number * (7 if unit == "w" else 1))
    else:
        moved = _months_later(local, number * (12 if unit == "y" else 1))
    return to_ms(moved.replace(tzinfo=zone))


def _math_of(text: str) -> list[tuple[str, str, str, str]] | None:
    """The steps of date math: sign, count, unit, or a unit to round to; None for what is no date math."""
    if len(text) > _LONGEST_MATH:
        return None
    steps: list[tuple[str, str, str, str]] = []
    position = 0
    while position < len(text):
        match = _SHIFT.match(text, position)
        if match is None:
            return None
        steps.append((match[1] or "", match[2] or "", match[3] or "", match[4] or ""))
        position = match.end()
    return steps


def _instant(match: re.Match[str], zone: tzinfo, round_up: bool) -> int | None:
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int(fraction.ljust(6, "0")[:6]) if fraction else 0,
        )
        if offset is None:
            moment = moment.replace(tzinfo=zone)
        elif offset == "Z":
            moment = moment.replace(tzinfo=UTC)
        else:
            hours, minutes = int(offset[1:3]), int(offset[-2:]) if len(offset) > 3 else 0
            if hours > 18 or minutes > 59:
                return None
            shift = timedelta(hours=hours, minutes=minutes)
            moment = moment.replace(tzinfo=timezone(-shift if offset[0] == "-" else shift))
        ms = to_ms(moment)
        if not round_up or fraction is not None:
            return ms
    except (ValueError, OverflowError):
        return None
    units = ((second, "s"), (minute, "m"), (hour, "h"), (day, "d"), (month, "M"), (year, "y"))
    return _end(ms, next(unit for given, unit in units if given is not None), moment.tzinfo or UTC)
