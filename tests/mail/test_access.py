"""Who may connect to what, seen by a stranger: from `outside1`, the rest of the Internet."""

import pytest

from roles.addressbook.settings import AddressBookSettings
from roles.common.site import Group, Site
from tests.remote import shell

SECONDS = 5
"""Without any answer for so long, a connection counts as dropped."""

INTERNAL: dict[Group, tuple[int, ...]] = {
    "directory": (22, 389, 636),
    "store": (22, 24, 12340, 12341, 12345),
    "mx": (22, 10025),
    "front": (22,),
    "database": (22, 5432),
    "backup": (22, 8000),
}
"""What no stranger may reach, wherever it runs."""

PUBLIC: dict[Group, tuple[int, ...]] = {
    "mx": (25,),
    "front": (80, 143, 443, 465, 587, 993, 995, 4190),
}
"""What a stranger may reach; in production `site.networks.clients` may narrow the front."""


def connections(site: Site, ports: dict[Group, tuple[int, ...]]) -> set[tuple[str, int]]:
    return {
        (host.address, port)
        for group, numbers in ports.items()
        for host in site.group(group)
        for port in numbers
    }


def dropped(site: Site, attempts: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of `attempts` that `outside1` makes and that nothing answers, not even a refusal."""
    assert site.lab is not None
    script = " ".join(
        f"(timeout {SECONDS} bash -c ': < /dev/tcp/{address}/{port}' 2>/dev/null;"
        f" echo {address} {port} $?) &"
        for address, port in sorted(attempts)
    )
    output = shell(site, str(site.lab.outside), f"{script} wait")
    rows = [line.split() for line in output.splitlines()]
    assert len(rows) == len(attempts)
    return {(address, int(port)) for address, port, code in rows if code == "124"}


@pytest.mark.regulation("3")
def test_a_stranger_reaches_nothing_that_is_internal(site: Site) -> None:
    attempts = connections(site, INTERNAL)
    assert dropped(site, attempts) == attempts


def test_a_stranger_reaches_mail_and_webmail(site: Site) -> None:
    books = {
        (host.address, site.of(AddressBookSettings, host.name).port) for host in site.group("front")
    }
    assert dropped(site, connections(site, PUBLIC) | books) == set()
