"""Times as the help desk types and reads them, by the province's clock."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from roles.base.settings import BaseSettings
from roles.common.errors import SiteError
from roles.common.site import Site

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
_AGO = re.compile(r"-?\s*(?P<count>\d+)\s*(?P<unit>m|min|phút|h|giờ|d|ngày|w|tuần)", re.IGNORECASE)
_UNITS = {
    "m": timedelta(minutes=1), "min": timedelta(minutes=1), "phút": timedelta(minutes=1),
    "h": timedelta(hours=1), "giờ": timedelta(hours=1),
    "d": timedelta(days=1), "ngày": timedelta(days=1),
    "w": timedelta(weeks=1), "tuần": timedelta(weeks=1),
}  # fmt: skip
_DAYS = {"today": 0, "hôm nay": 0, "yesterday": 1, "hôm qua": 1}
_DAY_FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%d-%m-%Y")
_CLOCK_FORMATS = ("%H:%M", "%H:%M:%S")


def moment(text: str, now: datetime, *, end: bool = False) -> datetime:
    """The moment that somebody means: `2026-11-20`, `20/11/2026 14:00`, `14:00`, `-2h`, `hôm qua`.

    Args:
        text: as it was typed.
        now: with the province's time zone, in which the text is read.
        end: whether a day without a clock means its end.

    Raises:
        SiteError: it is no time; with what is expected.
    """
    words = " ".join(text.lower().split())
    if words in ("now", "bây giờ"):
        return now
    if ago := _AGO.fullmatch(words):
        return now - int(ago["count"]) * _UNITS[ago["unit"]]
    if clock := _clock(words):
        today = datetime.combine(now.date(), clock, now.tzinfo)
        # What has not come yet was yesterday.
        return today if today <= now else today - timedelta(days=1)
    head, _, tail = (
        words.replace("t", " ").partition(" ") if words[:1].isdigit() else (words, "", "")
    )
    day, clock = _day(head, now), _clock(tail) if tail else None
    if day is None or (tail and clock is None):
        raise SiteError(
            f"{text!r} không phải là thời gian; cần dạng 2026-11-20, '2026-11-20 14:00', "
            "20/11/2026, 14:00, -2h, -7d hoặc 'hôm qua'"
        )
    if clock is None and end:
        return datetime.combine(day + timedelta(days=1), time(), now.tzinfo)
    return datetime.combine(day, clock or time(), now.tzinfo)


def zone(site: Site) -> ZoneInfo:
    """The province's clock."""
    return ZoneInfo(site.of(BaseSettings).timezone)


def passed(text: str, now: datetime) -> datetime:
    """The moment that `--at` means.

    Args:
        text: as it was typed.
        now: with the province's time zone.

    Raises:
        SiteError: it is no time, or it has not come yet.
    """
    found = moment(text, now)
    if found > now:
        raise SiteError(f"--at {text!r}: is yet to come; expected a time that has passed")
    return found


def _clock(words: str) -> time | None:
    return next((found.time() for found in _read(words, _CLOCK_FORMATS)), None)


def _day(words: str, now: datetime) -> date | None:
    if words in _DAYS:
        return now.date() - timedelta(days=_DAYS[words])
    return next((found.date() for found in _read(words, _DAY_FORMATS)), None)


def _read(words: str, formats: tuple[str, ...]) -> list[datetime]:
    found = []
    for format_ in formats:
        try:
            found.append(datetime.strptime(words, format_))
        except ValueError:
            continue
    return found


def at(generalized: str) -> datetime:
    """A GeneralizedTime of the directory, or one of a journal's record."""
    return datetime.strptime(generalized[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def day(generalized: str, zone: ZoneInfo = VIETNAM) -> str:
    """A GeneralizedTime to the minute by a clock, empty where there is none: `14:05 20/11/2026`."""
    return at(generalized).astimezone(zone).strftime("%H:%M %d/%m/%Y") if generalized else ""


def second(generalized: str, zone: ZoneInfo) -> str:
    """A GeneralizedTime to the second by a clock: `20/11/2026 14:05:00`."""
    return at(generalized).astimezone(zone).strftime("%d/%m/%Y %H:%M:%S")


def joined(arguments: Sequence[str]) -> list[str]:
    """A command line in which `--since -2h` means `--since=-2h`."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] in ("--at", "--since", "--until") and re.match(r"-\d", argument):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result
