"""One of two hosts is down: whoever uses the system does not notice, and nothing is lost.

Each test is skipped where the environment has only one host of the group that it stops.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.message import EmailMessage

import pytest

from roles.common.site import Group, Site, SiteHost
from tests import clients, managesieve, remote
from tests.clients import Account
from tests.faults.test_outages import flushed, offer
from tests.mail.test_pair import (
    PEOPLE,
    Person,
    Several,
    entitled,
    several,
    stored,
    title,
    web_log_in,
    web_page,
)
from tests.waiting import until

__all__ = ["several"]  # a fixture

FORWARDERS = ("thutnq", "thuda")
"""Of different stores, where there are several; nobody else minds their scripts."""
SLAPD = ("slapd.service",)
MX = {
    "postfix": ("postfix.service",),
    "milter": ("mimedefang.service", "mimedefang-multiplexor.service"),
    "clamd": ("clamav-daemon.socket", "clamav-daemon.service"),
}
"""What of an mx may be down; the other mx does its work then."""


def arrived(site: Site, account: Account, message: EmailMessage, front: str = "") -> bytes:
    """Wait for a letter in its mailbox: there once, scanned, on no store but its own."""
    with clients.imap(site, account, front) as client:
        content = clients.raw(client, clients.wait_for(client, message))
    assert b"X-Spam-Status:" in content, "passed unscanned"
    home = clients.store_of(site, account.address)
    for store in site.group("store"):
        times = stored(site, store, account.address, message["Message-ID"])
        assert times == (store == home), store.name
    return content


def forget(site: Site, account: Account) -> None:
    """Let stores and fronts forget what they remember of an account."""
    for host in site.group("store", "front"):
        remote.shell(site, host.address, f"doveadm auth cache flush {account.address}")


@contextmanager
def down(
    site: Site, several: Callable[[Group], list[SiteHost]], group: Group, number: int, *units: str
) -> Iterator[tuple[SiteHost, SiteHost]]:
    """Inside the block the units of one of a group's two hosts do not run; that one, the other."""
    hosts = several(group)
    with remote.stopped(site, hosts[number].address, *units):
        yield hosts[number], hosts[1 - number]


# -- directory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_with_one_directory_all_goes_on(
    site: Site, several: Several, person: Person, number: int
) -> None:
    with down(site, several, "directory", number, *SLAPD):
        for name in PEOPLE:
            account = person(name)
            forget(site, account)
            for front in site.group("front"):
                with clients.imap(site, account, front.address) as client:
                    client.select_folder("INBOX")
                message = clients.letter(account.address, account.address, subject="Một danh bạ")
                clients.submit(site, account, message, front.address)
                arrived(site, account, message, front.address)
            for mx in site.group("mx"):
                stranger = f"nguoi.la@tester.{clients.foreign_domain(site)}"
                unknown = clients.letter(stranger, f"khong-co-ai@{site.domain}")
                assert offer(site, unknown, mx) == 550
                message = clients.letter(stranger, account.address, subject="Một danh bạ")
                assert offer(site, message, mx) == 250
                arrived(site, account, message)


@pytest.mark.parametrize("number", [0, 1])
def test_a_directory_that_was_down_learns_what_it_missed(
    site: Site, several: Several, number: int
) -> None:
    words = f"Vang {number}"
    with ExitStack() as stack:
        with down(site, several, "directory", number, *SLAPD) as (absent, other):
            stack.enter_context(entitled(site, other, "1039", words))
        until(
            lambda: title(site, absent, "1039") == f"title: {words}", f"the change at {absent.name}"
        )
        until(lambda: remote.in_step(site, absent, other), "both in step")


# -- mx --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", MX)
@pytest.mark.parametrize("number", [0, 1])
def test_with_one_mx_mail_comes_and_goes(
    site: Site, several: Several, person: Person, number: int, what: str
) -> None:
    official = person(PEOPLE[0])
    with down(site, several, "mx", number, *MX[what]) as (_, other):
        inbound = clients.foreign_letter(site, official.address, subject=f"Không {what}")
        clients.send_from_outside(site, inbound)
        for front in site.group("front"):
            own = clients.letter(official.address, official.address, subject=f"Không {what}")
            clients.submit(site, official, own, front.address)
            assert f"by {other.fqdn} ".encode() in arrived(site, official, own)
        citizen = f"dan@{clients.foreign_domain(site)}"
        outbound = clients.letter(official.address, citizen, subject=f"Không {what}")
        clients.submit(site, official, outbound)
        assert f"by {other.fqdn} ".encode() in arrived(site, official, inbound)
        with clients.foreign_imap(site, citizen) as client:
            content = clients.raw(client, clients.wait_for(client, outbound))
        assert f"by {other.fqdn} ".encode() in content


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", FORWARDERS)
def test_what_is_forwarded_while_an_mx_is_down_is_not_lost(
    site: Site, several: Several, person: Person, number: int, name: str
) -> None:
    """A store sends by one mx: without it what would be forwarded waits with the other mx."""
    account, citizen = person(name), f"dan@{clients.foreign_domain(site)}"
    script = f'require "copy";\nredirect :copy "{citizen}";\n'
    stranger = f"nguoi.la@tester.{clients.foreign_domain(site)}"
    message = clients.letter(stranger, account.address, subject="Chuyển tiếp")
    with managesieve.logged_in(site, account) as client:
        assert client.put("thu", script).startswith("OK")
        client.ask('SETACTIVE "thu"')
    try:
        with down(site, several, "mx", number, *MX["postfix"]) as (_, other):
            assert offer(site, message, other) == 250
        until(lambda: flushed(site, account, [message]), "arrival", 180, pause=1)
        arrived(site, account, message)
        with clients.foreign_imap(site, citizen) as client_outside:
            clients.wait_for(client_outside, message)
            wanted = ["HEADER", "Message-ID", message["Message-ID"]]
            assert len(client_outside.search(wanted)) == 1
    finally:
        with managesieve.logged_in(site, account) as client:
            client.ask('SETACTIVE ""')
            client.ask('DELETESCRIPT "thu"')


# -- stores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_without_a_store_the_others_people_notice_nothing(
    site: Site, several: Several, person: Person, number: int
) -> None:
    account = {clients.store_of(site, person(name).address): person(name) for name in PEOPLE}
    with down(site, several, "store", number, "dovecot.service") as (absent, other):
        waiting = []
        for mx in site.group("mx"):
            sender = f"nguoi.la@tester.{clients.foreign_domain(site)}"
            for home in (absent, other):
                message = clients.letter(sender, account[home].address, subject="Một kho")
                assert offer(site, message, mx) == 250
                if home == absent:
                    waiting.append(message)
                else:
                    arrived(site, account[home], message)
        message = clients.letter(account[other].address, account[other].address, subject="Một kho")
        clients.submit(site, account[other], message)
        arrived(site, account[other], message)
    for message in waiting:
        until(lambda: flushed(site, account[absent], [message]), "arrival", 180, pause=1)  # noqa: B023
        arrived(site, account[absent], message)


# -- fronts ----------------------------------------------------------------------------------------


def test_a_webmail_session_survives_its_front(site: Site, several: Several, person: Person) -> None:
    first, other = several("front")[:2]
    cookies = web_log_in(site, first, person(PEOPLE[0]))
    with down(site, several, "front", 0, "nginx.service", "dovecot.service", "postfix.service"):
        assert web_page(site, other, cookies) == "mail"
    assert web_page(site, first, cookies) == "mail"
