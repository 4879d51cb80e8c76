"""How long a whole site is away: every host but the backup host is lost, and restored.

Of a deployed lab, with whatever mail others have measured with. To make the machines is
not in it, here as little as in the first deploy that it stands beside.
"""

from dataclasses import dataclass

from deploy import backup, restore
from roles.backup.deploy import server
from roles.common.site import Site
from tests import remote
from tests.bench.timing import timed
from tests.lab.lab import LabInstance


@dataclass(frozen=True)
class Rebuilt:
    """What it took, and what came back."""

    seconds: float
    """From new machines to a whole site: the RTO."""
    mail: int
    """Bytes in the mailboxes."""


def measure(site: Site, lab: LabInstance) -> Rebuilt:
    """Back everything up, lose it, and bring it back.

    Raises:
        AssertionError: a command failed, or not all of the mail is there.
    """
    before = _mail(site)
    assert backup.main(["--env", site.environment, "now"]) == 0
    lost = [host for host in site.hosts.values() if host != server(site)]
    lab.lose(*(host.name for host in lost))
    remote.hang_up(site, *(host.address for host in lost))
    lab.up()
    seconds, code = timed(lambda: restore.main(["--env", site.environment, "apply", "site"]))
    assert code == 0
    after = _mail(site)
    assert after >= before, f"{before} bytes of letters before, {after} afterwards"
    return Rebuilt(seconds, after)


def _mail(site: Site) -> int:
    """Bytes of the letters on all stores; a letter's file never changes."""
    command = "find /var/vmail -path '*/dbox-Mails/u.*' -printf '%s\\n'"
    return sum(
        int(size)
        for store in site.group("store")
        for size in remote.shell(site, store.address, command).split()
    )
