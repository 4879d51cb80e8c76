"""Commands on the lab's hosts, for tests that break something there."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from roles.common.site import Site, SiteHost
from tests.waiting import until

LDAP = "-Q -Y EXTERNAL -H ldapi:///"
"""How ldap-utils bind as the root of a directory host."""
_PATIENCE = 600
"""Seconds after which a command that hangs fails, so that the tests go on."""


def shell(site: Site, address: str, command: str, *, check: bool = True, stdin: str = "") -> str:
    """Run a command as root on a host and return what it prints.

    Args:
        site: the site.
        address: the host's address.
        command: for the host's shell.
        check: whether it must succeed.
        stdin: what it reads.

    Raises:
        AssertionError: it failed, and `check` is set; with what it said.
        TimeoutExpired: it hung.
    """
    done = subprocess.run(
        [
            "ssh",
            *("-o", "BatchMode=yes"),
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=60"),
            *_known(site, address),
            command,
        ],
        capture_output=True,
        input=stdin,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{address}: {command}: {done.stderr.strip()}")
    return done.stdout


def hang_up(site: Site, *addresses: str) -> None:
    """Close the connections that are kept to hosts which were lost: the next is a new one."""
    for address in addresses:
        # Where none is kept, ssh fails, and all is well.
        subprocess.run(
            ["ssh", "-O", "exit", *_known(site, address)], capture_output=True, check=False
        )


def _known(site: Site, address: str) -> list[str]:
    """Whom ssh speaks to, with which keys, and by which connection that is kept."""
    state = site.state / "ssh"
    return [
        *("-i", str(state / "id_ed25519")),
        *("-o", f"UserKnownHostsFile={state / 'known_hosts'}"),
        *("-o", f"ControlPath={state / 'control-%h'}"),
        f"root@{address}",
    ]


@contextmanager
def stopped(site: Site, address: str, *units: str) -> Iterator[None]:
    """Units that do not run inside the block, and run again behind it."""
    shell(site, address, f"systemctl stop {' '.join(units)}")
    try:
        yield
    finally:
        shell(site, address, f"systemctl start {' '.join(units)}")


def run_anew(site: Site, address: str, *units: str) -> None:
    """Run units that end by themselves, from their beginning to their end.

    `systemctl start` alone is content with a run that is under way, by a timer, and which may have
    looked before what it shall see.
    """
    names = " ".join(units)
    shell(
        site, address,
        f"while systemctl show -P ActiveState {names} | grep -q activating; do sleep 0.1; done; "
        f"systemctl start {names}",
    )  # fmt: skip


def modify(site: Site, ldif: str, told: SiteHost | None = None) -> None:
    """Change the directory on one of its hosts, and wait until all others know.

    Args:
        site: the site.
        ldif: the change, as `ldapmodify` reads it.
        told: the host; by default the first.
    """
    told = told or site.group("directory")[0]
    shell(site, told.address, f"ldapmodify {LDAP} >/dev/null", stdin=ldif)
    followed(site, told)


def followed(site: Site, told: SiteHost) -> None:
    """Wait until all directory hosts know what one of them was told."""
    for host in site.group("directory"):
        until(lambda at=host: in_step(site, told, at), f"the change at {host.name}")  # type: ignore[misc]


def in_step(site: Site, first: SiteHost, second: SiteHost) -> bool:
    """Whether two directories know the same changes, by the number (CSN) of each host's last."""
    search = (
        f"ldapsearch {LDAP} -LLL -s base -b {site.base_dn} contextCSN | grep ^contextCSN | sort"
    )
    return shell(site, first.address, search) == shell(site, second.address, search)


def entry(site: Site, address: str, *attributes: str) -> dict[str, list[str]]:
    """The entry of a mailbox: its `dn`, and attributes whose values are ASCII.

    Args:
        site: the site.
        address: the mailbox's primary address.
        attributes: names of attributes.
    """
    found = shell(
        site,
        site.group("directory")[0].address,
        f"ldapsearch {LDAP} -LLL -o ldif_wrap=no -b {site.base_dn} '(mail={address})'"
        f" {' '.join(attributes) or '1.1'}",
    )
    result: dict[str, list[str]] = {}
    for line in found.splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            result.setdefault(name, []).append(value)
    return result
