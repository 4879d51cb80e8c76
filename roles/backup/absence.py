"""A host without new backups says so itself: who else would, when the backup host is away?

`site-backup run` notes when each part succeeded; `site-backup alarm` runs by a timer of its own,
which goes on while a run hangs. One letter is written when the first part is without a backup for
too long, and one when all have new ones again. A letter that no mx takes is written the next time.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from zoneinfo import ZoneInfo

from roles.backup import records
from roles.backup.letters import Letters

_HINT = "Máy sao lưu có thể đang không hoạt động. Xem: make backup-status ENV=…; docs/van-hanh.md."

log = logging.getLogger("site-backup")


class Absence:
    """What a host knows of its own backups."""

    def __init__(self, folder: Path, host: str, parts: Sequence[str], limit: int) -> None:
        """Nothing is read yet.

        Args:
            folder: where it is noted.
            host: this host's name.
            parts: what it holds.
            limit: seconds without a success after which a part is overdue.
        """
        self._successes = folder / "successes.json"
        self._told = folder / "told.json"
        self._host = host
        self._parts = parts
        self._limit = timedelta(seconds=limit)

    def succeeded(self, part: str, now: datetime) -> None:
        """Note that a part was backed up."""
        records.write(self._successes, {**records.read(self._successes), part: now.isoformat()})

    def overdue(self, now: datetime) -> dict[str, datetime]:
        """Parts without a success for too long, with the time of the last one.

        Of a part that never succeeded, that is when it was asked about first.
        """
        since = records.read(self._told).get("since", {})
        last = {**since, **records.read(self._successes)}
        found = {part: datetime.fromisoformat(last.get(part) or f"{now}") for part in self._parts}
        return {part: at for part, at in found.items() if now - at > self._limit}

    def tell(
        self, letters: Letters, post: Callable[[EmailMessage], None], now: datetime
    ) -> dict[str, datetime]:
        """Log what is overdue, and write when that begins or ends.

        Args:
            letters: how they are written.
            post: hands one over; what it raises is raised.
            now: with a time zone.

        Returns:
            What is overdue.
        """
        known = records.read(self._told)
        since = {
            part: known.get("since", {}).get(part, now.isoformat()) for part in self._parts
        }  # fmt: skip
        told = bool(known.get("told"))
        records.write(self._told, {"since": since, "told": told})
        found = self.overdue(now)
        zone = ZoneInfo(letters.timezone)
        for part, at in found.items():
            log.error("%s: no backup since %s", part, at.isoformat(timespec="seconds"))
        if bool(found) != told:
            lines = [
                f"{self._host}/{part}: không có bản sao lưu mới kể từ "
                f"{at.astimezone(zone):%H:%M %d/%m/%Y}"
                for part, at in found.items()
            ]
            post(letters.alarm(f"Sao lưu {self._host}", lines, _HINT, now))
            records.write(self._told, {"since": since, "told": bool(found)})
        return found
