"""What the switch itself puts into DE7, DE12, DE13, DE15 and DE37 of a message, where a link's field rules say so.

DE7 is UTC (ISO 8583:1987 and 1993, data element 7: "transmission date and time" in GMT); DE12 and DE13 are local, at an
offset that the rule gives. DE37 is YDDDhh and six digits of the STAN, the practice of the card networks (Visa, field 37:
last digit of the year, day of the year, hour of field 7, then field 11). A reversal has its original's DE12, DE13, DE15
and DE37: they come from what is kept of the original for DE90 or DE56, so that nothing more must be remembered.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import msgspec

from messages.iso8583.dialect import Dialect

_FORMS = {  # of a date and time by data element and length: 1987, 1993, 2003
    7: {10: "%m%d%H%M%S"},
    12: {6: "%H%M%S", 12: "%y%m%d%H%M%S", 14: "%Y%m%d%H%M%S"},
    13: {4: "%m%d"},
    15: {4: "%m%d", 6: "%y%m%d", 8: "%Y%m%d"},
}
_HALF_YEAR = 6  # months


class Sent(Protocol):
    """What names an earlier message: values of fields as it was sent, "" where it had none."""

    @property
    def stan(self) -> str: ...
    @property
    def transmission(self) -> str: ...  # DE7
    @property
    def local_time(self) -> str: ...  # DE12
    @property
    def date(self) -> str: ...  # DE15


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When, and under which STAN, a message is sent."""

    utc: float = 0.0  # seconds since the epoch; 0: no time is given, and fields of time stay as they are
    stan: int = 0
    date: str = ""  # the link's business date, as in DE15
    original: Sent | None = None  # what a reversal reverses


Stamp = Callable[[dict[int, str], Moment], str]  # the value, from the message as it stands


def stamp(number: int, dialect: Dialect, offset_minutes: int = 0) -> Stamp:
    """What makes the switch's own value of this data element. Raises ValueError for one that is not the switch's."""
    offset = 60 * offset_minutes
    if number == 37:
        return _retrieval_reference(dialect.version)
    length = dialect.fields[number].notation.length
    form = _FORMS.get(number, {}).get(length)
    if form is None or (number == 13 and dialect.version != "1987"):
        raise ValueError(f"DE{number} is none that the switch gives: DE7, DE12, DE15 and DE37, in 1987 also DE13")
    match number:
        case 7:
            return lambda fields, moment: _told(moment.utc, form)
        case 12:
            return _of_original("local_time", length, offset, form)
        case 13:
            return lambda fields, moment: _told((_sent_at(moment) or moment.utc) + offset, form)
        case _:
            return _of_original("date", length, offset, form)


def _told(at: float, form: str) -> str:
    return _told_second(int(at), form)


@lru_cache(maxsize=64)  # the messages of one second share them
def _told_second(at: int, form: str) -> str:
    return time.strftime(form, time.gmtime(at))


def _of_original(name: str, length: int, offset: int, form: str) -> Stamp:
    """The original's; for DE15 else the link's business date; else the local one."""

    def make(fields: dict[int, str], moment: Moment) -> str:
        own = getattr(moment.original, name, "")
        if len(own) == length:
            return str(own)
        if name == "date" and len(moment.date) == length:
            return moment.date
        return _told((_sent_at(moment) or moment.utc) + offset, form)

    return make


def _sent_at(moment: Moment) -> float | None:
    """When the original was sent, in seconds since the epoch."""
    if moment.original is None:
        return None
    found = _parsed(moment.original.transmission, moment.utc)
    return found.timestamp() if found else None


def _retrieval_reference(version: str) -> Stamp:
    number, name = (7, "transmission") if version == "1987" else (12, "local_time")

    def make(fields: dict[int, str], moment: Moment) -> str:
        stan, at = f"{moment.stan:06d}", fields.get(number, "")
        if moment.original is not None:
            stan, at = moment.original.stan or stan, getattr(moment.original, name) or at
        return _day_and_hour(at, int(moment.utc)) + stan[-6:]

    return make


@lru_cache(maxsize=64)
def _day_and_hour(text: str, utc: int) -> str:
    found = _parsed(text, utc) or datetime.fromtimestamp(utc, UTC)
    return f"{found.year % 10}{found.timetuple().tm_yday:03d}{found.hour:02d}"


def is_date(text: str) -> bool:
    """Whether it may be a date: MMDD, YYMMDD or CCYYMMDD. The 29th of February is one where no year is given."""
    century_and_year = {4: "2000", 6: "20", 8: ""}.get(len(text))
    if century_and_year is None or not text.isdecimal():
        return False
    try:
        datetime.strptime(century_and_year + text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _parsed(text: str, utc: float) -> datetime | None:
    """MMDDhhmmss (in the year that brings it near `utc`), YYMMDDhhmmss or CCYYMMDDhhmmss, taken as UTC."""
    if not text.isdecimal() or len(text) not in (10, 12, 14):
        return None
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(len(text) - 10, len(text), 2))
    now = time.gmtime(utc)
    if len(text) == 10:
        year = now.tm_year + (month - now.tm_mon < -_HALF_YEAR) - (month - now.tm_mon > _HALF_YEAR)
    else:
        year = int(text[:-10]) if len(text) == 14 else 100 * (now.tm_year // 100) + int(text[:2])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
