"""A further target for `python -m deploy.restore … --from NAME`: hosts know none by themselves.

A host gets what opens its own repository there, in a file that root alone reads and that is gone
with a reboot; it is taken away again when the restore ends. The credentials of SFTP or S3 are those
of the backup host: while a restore runs, its host could do at the target what they allow.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deploy.hosts import everywhere, shell
from roles.backup import target_file
from roles.backup.targets import ON_CLIENT
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost


def check(site: Site, source: str) -> None:
    """See that a target is set, and that its credentials are known.

    Raises:
        SiteError: it is not, or they are not.
    """
    target_file.text(site, [source], [])


def put(site: Site, hosts: Sequence[SiteHost], source: str) -> None:
    """Tell hosts how a target is reached.

    Raises:
        SiteError: there is no such target, its credentials are not known, or a host did not answer.
    """
    kept = f"umask 077; cat >{ON_CLIENT}.new && mv {ON_CLIENT}.new {ON_CLIENT}"
    for host in hosts:
        text = target_file.text(site, [source], [host])
        shell(site, host, kept, text)


def take_away(site: Site, hosts: Sequence[SiteHost]) -> bool:
    """Make hosts forget it; whether all did. Which did not is printed."""
    _, faults = everywhere(site, hosts, f"rm -f {ON_CLIENT} {ON_CLIENT}.new")
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    return not faults


@contextmanager
def reached(site: Site, hosts: Sequence[SiteHost], source: str) -> Iterator[None]:
    """Inside the block hosts know how to reach a target; nothing is done where none is named.

    Raises:
        SiteError: as `put`; or a host that did not forget it.
    """
    if not source:
        yield
        return
    # Also where the last of several did not answer.
    try:
        put(site, hosts, source)
        yield
    finally:
        forgotten = take_away(site, hosts)
    if not forgotten:
        raise SiteError(f"--from {source}: not every host forgot how it is reached; see above")
