"""Lists and further domains of the registry: who is in them, and on which days they count.

Those of the lab's registry, and further ones that are made for a test in the registry's name.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from ldap3 import MODIFY_REPLACE
from ldap3.core.exceptions import LDAPNoSuchObjectResult

from roles.accounts.deploy import site_registry
from roles.accounts.lifecycle import written
from roles.accounts.registry import Registry
from roles.common.site import Site
from tests import clients
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.mail.test_lists import arrived, assert_refused, at_submission, deliveries, from_outside
from tests.mail.test_mta_domains import hand_over
from tests.mail.test_mta_mx import rcpt
from tests.waiting import until

Person = Callable[[str], Account]
Maker = Callable[[dict[str, str | list[str]]], str]

OFFICE, OFFICER, MEMBER = "ktnt", "anv", "mhn"
"""Who may write to the province's lists, as head of its office; somebody else; one of a list."""
HEADS = (OFFICE, "btt", "ldq")
"""The heads of units in the lab's registry."""
MOMENT = timedelta(seconds=5)
"""How far ahead a date is set: longer than setting it takes, and no longer than a test waits."""
MINUTE = 60
"""Within so many seconds a date must have been acted upon."""


@pytest.fixture(scope="module")
def registry(site: Site) -> Registry:
    return site_registry(site)


@pytest.fixture
def made(site: Site) -> Iterator[tuple[Maker, Maker]]:
    """Make lists and domains in the registry's name: makers that return their DN."""
    dns: list[str] = []

    def add(dn: str, kind: str, values: dict[str, str | list[str]]) -> str:
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.add(dn, [kind], {"managedBy": "registry", **values})
        dns.append(dn)
        return dn

    def make_list(values: dict[str, str | list[str]]) -> str:
        return add(f"cn={name()},ou=lists,{site.base_dn}", "mailList", values)

    def make_domain(values: dict[str, str | list[str]]) -> str:
        dn = f"associatedDomain=cu-{secrets.token_hex(6)}.example,ou=domains,{site.base_dn}"
        return add(dn, "mailDomain", values)

    def name() -> str:
        return f"thu-{secrets.token_hex(6)}"

    yield make_list, make_domain
    with bound(site, *service(site, "accounts")) as accounts:
        for dn in dns:
            # A run of the registry, which does not know it, may have ended it.
            with suppress(LDAPNoSuchObjectResult):
                accounts.delete(dn)


def soon() -> str:
    """A moment that comes while a test waits."""
    return written(datetime.now(UTC) + MOMENT)


def ends(site: Site, dn: str) -> None:
    """Let a list or domain end in a moment."""
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.modify(dn, {"validUntil": [(MODIFY_REPLACE, [soon()])]})


# -- those of the registry -------------------------------------------------------------------------


@pytest.mark.regulation("8")
def test_the_list_of_all_unit_mailboxes_reaches_every_unit(
    site: Site, person: Person, registry: Registry
) -> None:
    address = f"donvi@{site.domain}"
    message = clients.letter(person(OFFICE).address, address, subject="Công văn chỉ đạo")
    clients.submit(site, person(OFFICE), message)
    found = until(lambda: deliveries(site, address, message), "the list", 180)
    assert found == {f"{code}@{site.domain}" for code in registry.units}


@pytest.mark.regulation("8")
def test_the_list_of_heads_reaches_the_heads(
    site: Site, person: Person, registry: Registry
) -> None:
    address = f"thutruong@{site.domain}"
    message = clients.letter(person(OFFICE).address, address)
    clients.submit(site, person(OFFICE), message)
    found = until(lambda: deliveries(site, address, message), "the list", 120)
    assert len({unit.head for unit in registry.units.values() if unit.head}) == len(HEADS)
    assert found == {f"{name}@{site.domain}" for name in HEADS}


@pytest.mark.regulation("13")
@pytest.mark.parametrize("name", ["donvi", "thutruong"])
def test_nobody_else_writes_to_them(site: Site, person: Person, name: str) -> None:
    address = f"{name}@{site.domain}"
    assert at_submission(site, person(OFFICE), address)[0] == 250
    assert_refused(at_submission(site, person(OFFICER), address))
    assert_refused(from_outside(site, address))


def test_members_write_to_each_other(site: Site, person: Person) -> None:
    address = f"tocongtac@{site.domain}"
    assert_refused(at_submission(site, person(OFFICE), address))
    message = clients.letter(person(MEMBER).address, address)
    clients.submit(site, person(MEMBER), message)
    found = until(lambda: deliveries(site, address, message), "the list", 120)
    assert found == {f"{name}@{site.domain}" for name in (OFFICER, MEMBER, "vpubnd.tttinhoc")}


def test_a_domain_of_the_registry_receives(site: Site, person: Person, registry: Registry) -> None:
    (domain,) = registry.domains
    address = f"{OFFICER}@{domain}"
    message = clients.foreign_letter(site, address)
    hand_over(site, message, address)
    arrived(site, person(OFFICER), message)


# -- days ------------------------------------------------------------------------------------------


def test_a_domain_begins_and_ends_within_a_minute_of_its_dates(
    site: Site, person: Person, made: tuple[Maker, Maker]
) -> None:
    dn = made[1]({"validFrom": soon(), "inForce": "FALSE"})
    address = f"{OFFICER}@{dn.partition(',')[0].partition('=')[2]}"
    code, words = rcpt(site, address)
    assert (code, "Relay access denied" in words) == (554, True), words
    until(lambda: rcpt(site, address)[0] == 250, "the domain to begin", MINUTE, pause=1)
    message = clients.foreign_letter(site, address)
    hand_over(site, message, address)
    arrived(site, person(OFFICER), message)
    ends(site, dn)
    until(lambda: rcpt(site, address)[0] == 554, "the domain to end", MINUTE, pause=1)


def test_a_list_begins_and_ends_within_a_minute_of_its_dates(
    site: Site, person: Person, made: tuple[Maker, Maker]
) -> None:
    address = f"thu-{secrets.token_hex(6)}@{site.domain}"
    values = {"mail": address, "mailLocalAddress": address, "listScope": "unit",
              "departmentNumber": "stttt", "validFrom": soon(), "inForce": "FALSE"}  # fmt: skip
    dn = made[0]({**values})
    author = person(OFFICER)
    code, words = at_submission(site, author, address)
    assert (code, words[:5]) == (550, "5.1.1"), words

    def answer() -> int:
        return at_submission(site, author, address)[0]

    until(lambda: answer() == 250, "the list to begin", MINUTE, pause=1)
    message = clients.letter(author.address, address)
    clients.submit(site, author, message)
    arrived(site, author, message)
    ends(site, dn)
    until(lambda: answer() == 550, "the list to end", MINUTE, pause=1)
    assert rcpt(site, address)[0] == 550
