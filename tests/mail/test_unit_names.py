"""Under which name a unit mailbox is seen: the unit's, whatever that is and becomes.

Each test makes units of its own, which are in no registry, and removes them afterwards.
"""

import secrets
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient
from ldap3 import MODIFY_REPLACE

from roles.common.site import Site
from roles.mailstore.facts import UNITS
from roles.mailstore.settings import MailstoreSettings
from tests import clients, lmtp, remote
from tests.access import settle
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.mail.test_mailstore_units import folders, member
from tests.waiting import until

Person = Callable[[str], Account]

MEMBER, OTHER = "clv", "ddv"
"""Two people who are in no unit mailbox of the registry."""
SECONDS = 60
"""Within which a change counts: far below `mailstore.auth_cache`."""
CLASSES = ["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"]


@dataclass(frozen=True)
class Unit:
    """A unit mailbox that is in no registry, on the store of its member."""

    site: Site
    code: str
    host: str
    """What `mailHost` says."""

    @property
    def dn(self) -> str:
        """The name of the entry."""
        return f"cn={self.code},ou=mailboxes,{self.site.base_dn}"

    @property
    def address(self) -> str:
        """Where it gets letters."""
        return f"{self.code}@{self.site.domain}"

    @property
    def store(self) -> str:
        """The address of the host on which it lies."""
        return self.site.store_host(self.host.partition(".")[0]).address

    def folder(self, name: str) -> str:
        """What members see it as while it shows this name: its inbox."""
        above = self.site.of(MailstoreSettings).units_folder
        return f"{above}/{name} ({self.code})" if name else f"{above}/{self.code}"

    def rename(self, name: str) -> None:
        """Write another name into the directory, and let the store see it."""
        self.change("displayName", name)
        self.refresh()

    def change(self, attribute: str, value: str) -> None:
        """Write another value into the directory."""
        with bound(self.site, *service(self.site, "accounts")) as accounts:
            accounts.modify(self.dn, {attribute: [(MODIFY_REPLACE, [value])]})

    def refresh(self) -> None:
        """What the timer does within a minute."""
        remote.shell(self.site, self.store, UNITS)

    def receive(self) -> EmailMessage:
        """A letter that reaches it."""
        message = clients.foreign_letter(self.site, self.address, subject="Gửi Sở")
        said = lmtp.deliver(self.site, self.address, message.as_bytes())
        assert said[-1].startswith("250"), said
        return message


@contextmanager
def made(site: Site, account: Account, name: str) -> Iterator[Unit]:
    """A unit mailbox that somebody reads and files in; nothing of it stays."""
    unit = Unit(site, f"thu-{secrets.token_hex(4)}", clients.store_name(site, account.address))
    values = {
        "cn": unit.code, "displayName": name, "departmentNumber": unit.code,
        "mail": unit.address, "mailLocalAddress": unit.address, "mailHost": unit.host,
        "mailboxState": "active", "mailboxService": "lmtp",
    }  # fmt: skip
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(unit.dn, CLASSES, values)
    try:
        unit.refresh()
        with member(site, account, f"{unit.code}+file"):
            # The end of an earlier membership ends sessions.
            settle(site, account)
            yield unit
    finally:
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.delete(unit.dn)
        remote.shell(
            site, unit.store,
            f"rm -rf /var/vmail/mailboxes/{unit.code} /var/vmail/people/*/units/{unit.code}",
        )  # fmt: skip
        unit.refresh()


def units_seen(client: IMAPClient, site: Site) -> set[str]:
    """The units' inboxes that somebody sees."""
    above = f"{site.of(MailstoreSettings).units_folder}/"
    return {name for name in folders(client) if name.startswith(above) and name.count("/") == 1}


@pytest.mark.regulation("3.1a")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Sở Khoa học, Công nghệ và Môi trường", "Sở Khoa học, Công nghệ và Môi trường"),
        ("Ban QLDA 1/5 (cũ)", "Ban QLDA 1-5 [cũ]"),
        ('Trung tâm "A" 100% * & {b} $c ~ #1 @: \\', "Trung tâm A 100 & b c 1"),
        ("Phòng số 2.1 – “Một cửa”", "Phòng số 2.1 – “Một cửa”"),
        ("Trạm\u200b Y tế\u0007", "Trạm Y tế"),
        ("Ủy ban nhân dân xã " * 11, ("Ủy ban nhân dân xã " * 11)[:120].strip()),
        ("anv", "anv"),
        ("*", ""),
    ],
    ids=["plain", "separators", "wildcards", "punctuation", "invisible", "long", "address", "none"],
)
def test_a_unit_is_seen_under_its_name(site: Site, person: Person, name: str, shown: str) -> None:
    account = person(MEMBER)
    with made(site, account, name) as unit, clients.imap(site, account) as client:
        inbox = unit.folder(shown)
        assert units_seen(client, site) == {inbox}
        assert {entry[2] for entry in client.list_sub_folders()} >= {inbox, f"{inbox}/Sent"}
        # As a program asks that looks for one folder, and for what is in it.
        assert [entry[2] for entry in client.list_folders("", inbox)] == [inbox]
        assert f"{inbox}/Archive" in {entry[2] for entry in client.list_folders(f"{inbox}/", "*")}
        letter = unit.receive()
        uid = clients.wait_for(client, letter, inbox)
        client.create_folder(f"{inbox}/Năm 2026")
        client.move([uid], f"{inbox}/Năm 2026")
        clients.wait_for(client, letter, f"{inbox}/Năm 2026")
        client.delete_folder(f"{inbox}/Năm 2026")


def test_two_units_of_one_name_are_told_apart(site: Site, person: Person) -> None:
    account, name = person(MEMBER), "Ủy ban nhân dân xã Tân Hội"
    with made(site, account, name) as one, made(site, account, name) as other:
        letters = [(unit, unit.receive()) for unit in (one, other)]
        with clients.imap(site, account) as client:
            assert units_seen(client, site) == {unit.folder(name) for unit in (one, other)}
            for unit, letter in letters:
                clients.wait_for(client, letter, unit.folder(name))
                assert len(client.search()) == 1


def test_a_renamed_unit_shows_its_new_name_and_what_each_has_read_stays(
    site: Site, person: Person
) -> None:
    accounts, former, name = [person(MEMBER), person(OTHER)], "Sở Bưu chính", "Sở Viễn thông"
    with made(site, accounts[0], former) as unit, ExitStack() as stack:
        stack.enter_context(member(site, accounts[1], unit.code))
        first, second = unit.receive(), unit.receive()
        with clients.imap(site, accounts[0]) as client:
            read = clients.wait_for(client, first, unit.folder(former))
            client.fetch([read], ["BODY[]"])
        with clients.imap(site, accounts[1]) as client:
            other = clients.wait_for(client, second, unit.folder(former))
            client.fetch([other], ["BODY[]"])
        unit.rename(name)
        for account, seen, unseen in zip(accounts, (read, other), (other, read), strict=True):
            with clients.imap(site, account) as client:
                inbox = unit.folder(name)
                assert units_seen(client, site) == {inbox}
                assert inbox in {entry[2] for entry in client.list_sub_folders()}
                # A program that still asks for what it knew gets the same.
                for folder in (inbox, unit.folder(former), unit.folder("")):
                    client.select_folder(folder, readonly=True)
                    assert client.search(["SEEN"]) == [seen]
                    assert client.search(["UNSEEN"]) == [unseen]
            with clients.imap(site, account) as client:
                # Asked for first, a former name hides nothing.
                client.select_folder(unit.folder(former), readonly=True)
                assert unit.folder(name) in folders(client)


def test_a_filter_goes_on_filing_into_a_unit_that_was_renamed(site: Site, person: Person) -> None:
    account, former = person(MEMBER), "Sở Bưu chính"
    with made(site, account, former) as unit:
        script = f'require "fileinto"; fileinto "{unit.folder(former)}/Archive";\n'
        (number,) = remote.entry(site, account.address, "employeeNumber")["employeeNumber"]
        home = f"/var/vmail/people/{number}"
        remote.shell(
            site, unit.store,
            f"test ! -e {home}/.dovecot.sieve && cat > {home}/.dovecot.sieve", stdin=script,
        )  # fmt: skip
        try:
            for name in (former, "Sở Viễn thông"):
                unit.rename(name)
                letter = clients.foreign_letter(site, account.address, subject="Báo cáo")
                said = lmtp.deliver(site, account.address, letter.as_bytes())
                assert said[-1].startswith("250"), said
                with clients.imap(site, account) as client:
                    clients.wait_for(client, letter, f"{unit.folder(name)}/Archive")
        finally:
            remote.shell(site, unit.store, f"rm -f {home}/.dovecot.sieve {home}/.dovecot.svbin")


def test_a_session_goes_on_while_its_unit_is_renamed(site: Site, person: Person) -> None:
    account, former, name = person(MEMBER), "Sở Bưu chính", "Sở Viễn thông"
    with made(site, account, former) as unit, clients.imap(site, account) as client:
        assert units_seen(client, site) == {unit.folder(former)}
        unit.rename(name)
        clients.wait_for(client, unit.receive(), unit.folder(former))
        assert units_seen(client, site) == {unit.folder(former)}
        clients.wait_for(client, unit.receive(), unit.folder(name))


def test_a_name_that_is_made_up_opens_nothing(site: Site, person: Person) -> None:
    account = person(MEMBER)
    above = site.of(MailstoreSettings).units_folder
    with made(site, account, "Sở Bưu chính") as unit, clients.imap(site, account) as client:
        for name in ("({0}*)", "(*)", "({0})(cn=*)", "{0})(cn=*", "({0}", "{0})", "({0}) x", "()"):
            with pytest.raises(IMAPClient.Error):
                client.select_folder(f"{above}/Sở {name.format(unit.code[:-1])}")
        client.select_folder(f"{above}/Sở ({unit.code})")


def test_a_unit_that_moved_away_is_seen_no_more(site: Site, person: Person) -> None:
    """What is remembered of it is forgotten, whatever the unit is called."""
    account, name = person(MEMBER), "Sở Bưu chính"

    def opens(folder: str) -> bool:
        with clients.imap(site, account) as client:
            try:
                client.select_folder(folder)
            except IMAPClient.Error:
                return False
        return True

    with made(site, account, name) as unit:
        assert opens(unit.folder(name))
        unit.change("mailHost", f"noi-khac.{site.domain}")
        until(lambda: not opens(unit.folder(name)), "a unit that is gone", SECONDS)


def test_names_are_composed(site: Site, person: Person) -> None:
    with clients.imap(site, person("anv")) as client:
        for name in folders(client):
            assert unicodedata.is_normalized("NFC", name)
