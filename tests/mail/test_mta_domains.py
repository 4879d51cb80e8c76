"""Further mail domains, such as that of a province that merged: x@ there is x@ here.

The domain is made for the tests and is nobody's in DNS: letters are handed to the mx directly.
"""

import re
import secrets
import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.mail.test_mta_authors import assert_refused, submitted
from tests.mail.test_mta_mx import greeted, rcpt, stranger
from tests.mail.test_mta_submission import asked, logged_in
from tests.mail.test_unit_mail import full
from tests.waiting import until

Person = Callable[[str], Account]

READER, OTHER, FULL = "anv", "clv", "giatnm"
"""Somebody with an alias; a colleague; one whom no other test needs."""


@pytest.fixture(scope="module")
def further(site: Site) -> Iterator[str]:
    """A further mail domain."""
    name = f"cu-{secrets.token_hex(6)}.example"
    dn = f"associatedDomain={name},ou=domains,{site.base_dn}"
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(dn, ["mailDomain"], {"managedBy": "thu"})
    first = site.group("directory")[0]
    for host in site.group("directory"):
        until(lambda at=host: remote.in_step(site, first, at), f"the domain at {host.name}")  # type: ignore[misc]
    yield name
    # A test stops the directory, and with it every connection.
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)


def hand_over(site: Site, message: EmailMessage, recipient: str) -> None:
    """Hand a letter to port 25 as a server on the Internet does."""
    with greeted(site) as client:
        client.send_message(message, f"nguoi.la@{stranger(site)}", [recipient])


@pytest.mark.parametrize(
    "local_part",
    ["anv", "ANV", "anv+tin", "vanthu.stttt", "stttt", "mytho.tanlong", "postmaster", "abuse"],
)
def test_everybody_is_known_there(site: Site, further: str, local_part: str) -> None:
    for domain in (further, further.upper()):
        code, words = rcpt(site, f"{local_part}@{domain}")
        assert code == 250, words


@pytest.mark.parametrize(
    "local_part", ["khong-ton-tai", "*", "anvx", '"anv)(mail=*"', "khong-ton-tai+tin"]
)
def test_nobody_else_is(site: Site, further: str, local_part: str) -> None:
    code, words = rcpt(site, f"{local_part}@{further}")
    assert code == 550, words
    assert words.startswith("5.1.1 "), words


def test_what_is_not_ours_is_not_passed_on(site: Site, further: str) -> None:
    for local_part in ("dan%vidu.example", '"dan@vidu.example"', "vidu.example!dan"):
        assert rcpt(site, f"{local_part}@{further}")[0] in {550, 554}, local_part
    for domain in (f"x.{further}", f"{further}.vidu.example", further.partition(".")[0]):
        code, words = rcpt(site, f"anv@{domain}")
        assert code in {504, 554}, (domain, words)


@pytest.mark.parametrize("local_part", ["anv", "vanthu.stttt", "anv+tin"])
def test_a_letter_arrives(site: Site, person: Person, further: str, local_part: str) -> None:
    address = f"{local_part}@{further}"
    message = clients.foreign_letter(site, address)
    hand_over(site, message, address)
    with clients.imap(site, person(READER)) as client:
        clients.wait_for(client, message)


def test_colleagues_write_there(site: Site, person: Person, further: str) -> None:
    """Whether or not DNS knows the domain."""
    message = clients.letter(person(OTHER).address, f"{READER}@{further}")
    clients.submit(site, person(OTHER), message)
    with clients.imap(site, person(READER)) as client:
        clients.wait_for(client, message)


def test_a_mistyped_colleague_there_is_told_at_once(
    site: Site, person: Person, further: str
) -> None:
    with logged_in(site, person(OTHER)) as client:
        code, words = asked(client, person(OTHER).address, f"khong-ton-tai@{further}")
    assert code == 550, words
    assert words.startswith("5.1.1 "), words


def test_a_full_mailbox_is_full_there_too(site: Site, person: Person, further: str) -> None:
    account = person(FULL)
    with full(site, account):
        code, words = rcpt(site, f"{FULL}@{further}")
    assert (code, words[:5]) == (552, "5.2.2"), words
    with clients.imap(site, account) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search())
        client.expunge()


@pytest.mark.regulation("13")
def test_nobody_sends_as_the_further_domain(site: Site, person: Person, further: str) -> None:
    """From outside it is a forgery, as our own would be; from inside there is no such address."""
    code, words = rcpt_from(site, f"{OTHER}@{further}", person(READER).address)
    assert code == 550, words
    assert "submission" in words
    account = person(READER)
    with logged_in(site, account) as client:
        code, words = asked(client, f"{READER}@{further}", account.address)
    assert code in {550, 553}, words
    head = f"From: {READER}@{further}"
    assert_refused(submitted(site, account, person(OTHER), ("{own}", head))[1])


def rcpt_from(site: Site, sender: str, recipient: str) -> tuple[int, str]:
    """The answer to RCPT, or to MAIL where that was refused."""
    with greeted(site) as client:
        return asked(client, sender, recipient)


def test_while_the_directory_is_away_it_is_asked_again(site: Site, further: str) -> None:
    """By the same smtpd, which does not remember that nobody answered."""
    directories = [host.address for host in site.group("directory")]
    with greeted(site) as client:
        client.mail(f"nguoi.la@{stranger(site)}")
        _switch(site, directories, "stop")
        try:
            code, words = client.rcpt(f"{READER}@{further}")
            assert code == 451, words
        finally:
            _switch(site, directories, "start")

        def taken() -> bool:
            return client.rcpt(f"{READER}@{further}")[0] == 250

        try:
            until(taken, "the directory to answer", 30, pause=2)
        except smtplib.SMTPServerDisconnected:
            pytest.fail("sent away")


def _switch(site: Site, directories: list[str], verb: str) -> None:
    for address in directories:
        remote.shell(site, address, f"systemctl {verb} slapd.service")


def test_without_it_the_domain_is_a_stranger(site: Site) -> None:
    code, words = rcpt(site, "anv@cu-khong-co.example")
    assert code == 554, words
    assert re.search("Relay access denied", words)
