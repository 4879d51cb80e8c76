"""Backups for tests that restore: another run, by the clock or a test, may come between."""

import json
import math
from datetime import datetime

from deploy import moments
from roles.common.site import Site, SiteHost
from tests.remote import shell
from tests.waiting import until


def backup_of(site: Site, host: SiteHost, part: str) -> str:
    """Back a part of a host up as it is now.

    Returns:
        The time of it as an operator types it: the second in which all of it was read is over.
    """
    shell(site, host.address, f"site-backup run {part}")
    found = json.loads(shell(site, host.address, "site-restore snapshots"))
    settled = max(item["settled"] for item in found if item["part"] == part)
    zone = moments.zone(site)
    second = math.ceil(datetime.fromisoformat(settled).timestamp())
    moment = datetime.fromtimestamp(second, zone)
    until(lambda: datetime.now(zone) > moment, "the end of a second")
    return f"{moment:%Y-%m-%d %H:%M:%S}"
