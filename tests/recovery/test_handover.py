"""The mail of who departed, read by the successor: what is seen, refused, and on record.

Each test makes two people of its own, who are in no registry, and removes them afterwards.
"""

import html
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from smtplib import SMTPRecipientsRefused

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError
from imapclient.imap_utf7 import encode
from ldap3 import MODIFY_REPLACE

from roles.accounts.lifecycle import handover_group
from roles.common.site import Site
from roles.mailstore.settings import MailstoreSettings
from tests import clients, lmtp, remote
from tests.access import WITHIN, settle
from tests.clients import Account
from tests.mail.test_access_ends import works
from tests.mail.test_directory import GOOD, PERSON, bound, service
from tests.mail.test_mailstore import LOGINS
from tests.pages import Pages
from tests.waiting import until

SOON = 120
"""Seconds after which a store has given rights: `mailstore.units_refresh`, and its work."""
FOLDERS = ("Đề án", "Đề án/2026", "Trash", "Junk")


@dataclass(frozen=True)
class Newcomer:
    """Somebody who is in no registry."""

    site: Site
    number: str

    @property
    def dn(self) -> str:
        """The name of the entry."""
        return f"employeeNumber={self.number},ou=people,{self.site.base_dn}"

    @property
    def account(self) -> Account:
        """As a client logs in."""
        return Account(f"{self.number}@{self.site.domain}", "Nguyễn Văn Thử", "person", GOOD)

    @property
    def store(self) -> str:
        """The address of the host on which the mailbox lies."""
        return clients.store_of(self.site, "").address

    def write(self, **values: str | list[str]) -> None:
        """Change the entry as the registry does."""
        with bound(self.site, *service(self.site, "accounts")) as accounts:
            accounts.modify(
                self.dn,
                {
                    name: [(MODIFY_REPLACE, [value] if isinstance(value, str) else value)]
                    for name, value in values.items()
                },
            )

    def receive(self, subject: str = "Đề nghị", text: str = "Kính gửi.\n") -> EmailMessage:
        """A letter that reaches the mailbox."""
        address = self.account.address
        message = clients.foreign_letter(self.site, address, subject=subject, text=text)
        assert lmtp.deliver(self.site, address, message.as_bytes())[-1].startswith("250")
        return message


@contextmanager
def newcomers(site: Site, count: int) -> Iterator[list[Newcomer]]:
    """People who may use everything, with the password GOOD; nothing of them stays."""
    people = [Newcomer(site, f"thu-{secrets.token_hex(6)}") for _ in range(count)]
    try:
        for person in people:
            with bound(site, *service(site, "accounts")) as accounts:
                accounts.add(
                    person.dn,
                    PERSON,
                    {
                        "cn": "Nguyễn Văn Thử", "displayName": "Nguyễn Văn Thử", "sn": "Nguyễn",
                        "employeeNumber": person.number, "departmentNumber": "stttt",
                        "mail": person.account.address,
                        "mailLocalAddress": person.account.address,
                        "mailHost": clients.store_name(site, ""), "mailboxState": "active",
                        "mailboxService": [
                            "imap", "pop3", "sieve", "submission", "webmail", "lmtp",
                        ],
                        "userPassword": GOOD,
                    },
                )  # fmt: skip
        yield people
    finally:
        for person in people:
            with bound(site, *service(site, "accounts")) as accounts:
                accounts.delete(person.dn)
            remote.shell(site, person.store, f"rm -rf /var/vmail/people/{person.number}")


@dataclass(frozen=True)
class Handover:
    """A departed person's mailbox with one letter a folder, and the successor."""

    departed: Newcomer
    successor: Newcomer
    letters: dict[str, EmailMessage]
    """By folder; INBOX as well."""

    @property
    def folder(self) -> str:
        """Where the successor finds the inbox."""
        above = self.departed.site.of(MailstoreSettings).handover_folder
        return f"{above}/{self.departed.account.name} ({self.departed.number})"

    def seen(self) -> set[str]:
        """Folders of it that the successor's program lists."""
        with clients.imap(self.departed.site, self.successor.account) as client:
            return listed(client, self.folder)


def listed(client: IMAPClient, folder: str) -> set[str]:
    above = folder.rpartition("/")[0]
    return {name for _, _, name in client.list_folders() if name.startswith(above)}


@pytest.fixture(scope="module")
def handover(site: Site) -> Iterator[Handover]:
    """One for all tests that only look."""
    with newcomers(site, 2) as (departed, successor), handed_over(departed, successor) as made:
        yield made


@contextmanager
def handed_over(departed: Newcomer, successor: Newcomer) -> Iterator[Handover]:
    """Let somebody depart as the registry does, and wait until the successor sees the mail."""
    site = departed.site
    # That somebody is new, and has changed since, ends sessions.
    settle(site, departed.account)
    letters = {"INBOX": departed.receive(subject="Trong hộp thư đến")}
    with clients.imap(site, departed.account) as client:
        clients.wait_for(client, letters["INBOX"])
        for folder in FOLDERS:
            if not client.folder_exists(folder):
                client.create_folder(folder)
            message = clients.letter(departed.account.address, "dan@vidu.example", subject=folder)
            client.append(folder, message.as_bytes(), [rb"\Flagged"])
            letters[folder] = message
    departed.write(mailboxState="departed", mailboxSuccessor=successor.dn)
    successor.write(mailboxGroup=handover_group(departed.number))
    # In the place of what was there before, which ends sessions, too.
    settle(site, successor.account)
    made = Handover(departed, successor, letters)
    # Its timer comes within a minute, too.
    remote.shell(site, departed.store, "systemctl start site-units.service")
    until(lambda: made.folder in made.seen(), "the mail to be handed over", SOON, pause=2)
    yield made


@pytest.fixture
def reader(site: Site, handover: Handover) -> Iterator[IMAPClient]:
    with clients.imap(site, handover.successor.account) as client:
        yield client


@pytest.mark.regulation("8")
def test_the_successor_reads_every_folder_but_what_was_thrown_away(
    handover: Handover, reader: IMAPClient
) -> None:
    inbox = handover.folder
    expected = {inbox, f"{inbox}/Đề án", f"{inbox}/Đề án/2026"}
    shown = listed(reader, inbox)
    assert shown >= expected
    units = handover.departed.site.of(MailstoreSettings).units_folder
    assert not [name for _, _, name in reader.list_folders() if name.startswith(units)]
    thrown_away = {"Trash", "Junk", ".EXPUNGED"}
    assert not [name for name in shown if name.rpartition("/")[2] in thrown_away]
    assert {name for _, _, name in reader.list_sub_folders()} >= expected
    for folder in ("INBOX", "Đề án", "Đề án/2026"):
        name = inbox if folder == "INBOX" else f"{inbox}/{folder}"
        uid = clients.wait_for(reader, handover.letters[folder], name)
        assert handover.letters[folder]["Message-ID"].encode() in clients.raw(reader, uid)
    for folder in thrown_away:
        with pytest.raises(IMAPClientError):
            reader.select_folder(f"{inbox}/{folder}", readonly=True)
    # By no name as a unit, either.
    for name in (handover.departed.number, inbox.rpartition("/")[2]):
        with pytest.raises(IMAPClientError):
            reader.select_folder(f"{units}/{name}", readonly=True)


@pytest.mark.regulation("8")
def test_the_successor_reads_it_in_the_webmail(site: Site, handover: Handover) -> None:
    who = handover.successor.account
    pages = Pages(site, who)
    folders = pages.page({"_task": "mail"}).text
    assert "Hộp thư bàn giao" in html.unescape(folders)
    assert handover.folder.rpartition("/")[2] in html.unescape(folders)
    with clients.imap(site, who) as client:
        name = f"{handover.folder}/Đề án"
        uid = clients.wait_for(client, handover.letters["Đề án"], name)
    show = {"_task": "mail", "_mbox": encode(name).decode(), "_uid": str(uid), "_action": "show"}
    said = html.unescape(pages.page(show).text)
    assert "Kính gửi quý cơ quan." in said


@pytest.mark.regulation("8", "13")
def test_the_successor_changes_nothing(handover: Handover, reader: IMAPClient) -> None:
    folder = f"{handover.folder}/Đề án"
    uid = clients.wait_for(reader, handover.letters["Đề án"], folder)
    reader.fetch([uid], ["BODY[]"])
    assert uid not in reader.search(["UNSEEN"]), "the successor's own state"
    reader.add_flags([uid], [rb"\Deleted", rb"\Answered", "$Xong"])
    reader.remove_flags([uid], [rb"\Flagged"])
    reader.expunge()
    refused: list[Callable[[], object]] = [
        lambda: reader.append(folder, b"Subject: chen vao\r\n\r\nchen\r\n"),
        lambda: reader.move([uid], "Trash"),
        lambda: reader.create_folder(f"{folder}/Moi"),
        lambda: reader.rename_folder(folder, f"{handover.folder}/Khac"),
        lambda: reader.delete_folder(folder),
        lambda: reader.setacl(folder, handover.successor.account.address, "lrswipkxtea"),
    ]
    for attempt in refused:
        with pytest.raises(IMAPClientError):
            attempt()
    # As the mailbox itself has it.
    flags = remote.shell(
        handover.departed.site, handover.departed.store,
        f"doveadm -f tab fetch -u {handover.departed.account.address} 'uid flags'"
        " mailbox 'Đề án' | tail -n +2",
    )  # fmt: skip
    assert flags.split() == [str(uid), r"\Flagged"]


@pytest.mark.regulation("12", "13")
def test_what_the_successor_opened_is_on_record(handover: Handover, reader: IMAPClient) -> None:
    folder = f"{handover.folder}/Đề án/2026"
    uid = clients.wait_for(reader, handover.letters["Đề án/2026"], folder)
    reader.fetch([uid], ["BODY.PEEK[]"])

    def trail() -> list[str]:
        said = remote.shell(
            handover.departed.site, handover.departed.store,
            f"journalctl -u dovecot -o cat -n 5000 | grep -F 'Mailbox {folder}: ' || true",
        )  # fmt: skip
        return said.splitlines()

    who = f"imap({handover.successor.account.address})"
    until(
        lambda: [
            line for line in trail() if line.startswith(who) and f"UID {uid}: Opened mail" in line
        ],
        "the letter on record",
    )
    assert [line for line in trail() if line.startswith(who) and "Mailbox opened" in line]


@pytest.mark.regulation("13")
def test_nobody_else_reads_it_and_nobody_sends_as_who_departed(
    site: Site, handover: Handover, person: Callable[[str], Account]
) -> None:
    departed = handover.departed.account
    with clients.imap(site, person("clv")) as client:
        assert not listed(client, handover.folder)
        with pytest.raises(IMAPClientError):
            client.select_folder(handover.folder, readonly=True)
    letter = clients.letter(departed.address, f"dan@{clients.foreign_domain(site)}")
    with pytest.raises(SMTPRecipientsRefused, match="553"):
        clients.submit(site, handover.successor.account, letter)

    def refused_by_the_front() -> str:
        # A client is told the same where the front lets it in and the store refuses.
        if not LOGINS["imap"](site, departed.address, GOOD):
            return ""
        return remote.shell(
            site, clients.address_of(site, "front"),
            "journalctl -u dovecot -o cat -n 5000 | grep -F '(auth failed, '"
            f" | grep -F 'user=<{departed.address}>' || true",
        )  # fmt: skip

    until(refused_by_the_front, "the end of log-ins", WITHIN, pause=1)


@pytest.mark.regulation("8")
def test_who_succeeds_two_has_read_of_each_what_was_read(site: Site) -> None:
    with (
        newcomers(site, 3) as (first, second, successor),
        handed_over(first, successor) as one,
        handed_over(second, successor) as other,
    ):
        successor.write(mailboxGroup=[handover_group(who.number) for who in (first, second)])
        until(lambda: one.folder in other.seen(), "both mailboxes", SOON, pause=2)
        with clients.imap(site, successor.account) as client:
            uid = clients.wait_for(client, one.letters["INBOX"], one.folder)
            client.fetch([uid], ["BODY[]"])
            assert clients.wait_for(client, other.letters["INBOX"], other.folder) == uid
            assert uid in client.search(["UNSEEN"])
            client.select_folder(one.folder)
            assert uid not in client.search(["UNSEEN"])


@pytest.mark.regulation("8", "13")
def test_the_end_of_a_handover_ends_open_sessions_within_a_minute(site: Site) -> None:
    with newcomers(site, 2) as (departed, successor), handed_over(departed, successor) as made:
        with clients.imap(site, successor.account) as client:
            client.select_folder(made.folder, readonly=True)
            # What is given and taken between two looks at the directory is not seen.
            settle(site, successor.account)
            departed.write(mailboxSuccessor=[])
            successor.write(mailboxGroup=[])
            until(lambda: not works(client.noop), "the end of the session", WITHIN, pause=1)
        # A front may have acted a moment before the store, which ends what is open by then.
        settle(site, successor.account)
        until(lambda: not made.seen(), "the end of the handover", WITHIN, pause=1)
