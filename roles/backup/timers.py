"""Programs that run by the clock."""

from collections.abc import Iterable, Mapping

from roles.common.files import Check, ConfigFile, configure
from roles.common.services import service

UNITS = "/etc/systemd/system"
KINDS = ("service", "timer")
"""Of units, each program has one of either."""


def by_the_clock(
    what: Mapping[str, str], units: Mapping[str, list[ConfigFile]], schedules: Iterable[str]
) -> None:
    """Deploy programs that run by the clock.

    Args:
        what: what each does, by its unit's name.
        units: the files of each one's units.
        schedules: every calendar expression (OnCalendar) in them.
    """
    calendars = " ".join(f"'{schedule}'" for schedule in schedules)
    described = configure(
        [file for files in units.values() for file in files],
        check=Check(f"systemd-analyze calendar {calendars} >/dev/null"),
        name=f"Units: {', '.join(units)}",
    )
    for name, files in units.items():
        service(
            f"{name}.timer",
            config=[file.path for file in files],
            after=[described],
            name=f"{what[name]}, by the clock",
        )
