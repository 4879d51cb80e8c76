"""Unit mailboxes (regulation, article 3.1a): who sees them, what each may do and has read."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from smtplib import SMTPRecipientsRefused

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from roles.common.site import Site
from roles.mailstore.letters import QUOTA_LETTERS
from roles.mailstore.settings import MailstoreSettings
from tests import clients, lmtp, remote
from tests.access import settle
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.recovery.test_handover import Newcomer, newcomers
from tests.waiting import until

Person = Callable[[str], Account]

CODE = "stttt"
FILER, READER, STRANGER = "anv", "gvv", "clv"
"""One who reads, files and sends; one who reads; one of the unit who has no right."""


@pytest.fixture(scope="session")
def unit(site: Site) -> str:
    """The folder under which people see the unit mailbox: its inbox."""
    return clients.unit_folder(site, CODE)


@pytest.fixture
def filer(site: Site, person: Person) -> Iterator[IMAPClient]:
    with clients.imap(site, person(FILER)) as client:
        yield client


@pytest.fixture
def reader(site: Site, person: Person) -> Iterator[IMAPClient]:
    with clients.imap(site, person(READER)) as client:
        yield client


@pytest.fixture
def stranger(site: Site, person: Person) -> Iterator[IMAPClient]:
    with clients.imap(site, person(STRANGER)) as client:
        yield client


@pytest.fixture
def letter(site: Site, filer: IMAPClient, unit: str) -> Iterator[EmailMessage]:
    """A new letter in the unit's inbox, removed afterwards wherever it is."""
    message = clients.foreign_letter(site, f"{CODE}@{site.domain}", subject="Gửi Sở")
    assert lmtp.deliver(site, f"{CODE}@{site.domain}", message.as_bytes())[-1].startswith("250")
    yield message
    for folder in ("", "/Junk", "/Archive", "/Trash"):
        filer.select_folder(unit + folder)
        filer.delete_messages(filer.search(["HEADER", "Message-ID", message["Message-ID"]]))
        filer.expunge()


def open_at(client: IMAPClient, folder: str, message: EmailMessage) -> int:
    """Open a folder; the UID of a letter in it."""
    return clients.wait_for(client, message, folder)


def folders(client: IMAPClient) -> set[str]:
    return {name for _, _, name in client.list_folders()}


# -- who sees it -----------------------------------------------------------------------------------


@pytest.mark.regulation("3.1a")
@pytest.mark.parametrize("who", [FILER, READER, "btt"])
def test_members_see_the_unit_mailbox(site: Site, person: Person, unit: str, who: str) -> None:
    expected = {unit, *(f"{unit}/{name}" for name in ("Sent", "Drafts", "Archive", "Junk"))}
    with clients.imap(site, person(who)) as client:
        assert folders(client) >= expected
        # Programs that show subscribed folders only, such as webmail, show it without a hand.
        assert {name for _, _, name in client.list_sub_folders()} >= expected
        units = [name for name in folders(client) if name.startswith(unit.rpartition("/")[0])]
        assert not [name for name in units if ".EXPUNGED" in name]


@pytest.mark.regulation("13")
def test_others_do_not_see_it(stranger: IMAPClient, unit: str) -> None:
    assert not [name for name in folders(stranger) if name.startswith(unit.partition("/")[0])]


@pytest.mark.regulation("13")
@pytest.mark.parametrize("folder", ["", "/INBOX", "/Sent", "/.EXPUNGED"])
def test_others_do_not_open_it_by_its_name(stranger: IMAPClient, unit: str, folder: str) -> None:
    with pytest.raises(IMAPClientError):
        stranger.select_folder(unit + folder)
    with pytest.raises(IMAPClientError):
        stranger.folder_status(unit + folder)
    with pytest.raises(IMAPClientError):
        stranger.append(unit + folder, b"Subject: chen vao\r\n\r\nchen\r\n")


@pytest.mark.regulation("13")
def test_nobody_opens_a_colleagues_mailbox(stranger: IMAPClient, unit: str) -> None:
    folder = unit.rpartition("/")[0]
    with pytest.raises(IMAPClientError):
        stranger.select_folder(f"{folder}/{FILER}")


def test_rights_follow_the_directory_without_a_deployment(
    site: Site, person: Person, unit: str
) -> None:
    account = person(STRANGER)
    with member(site, account), clients.imap(site, account) as client:
        assert unit in folders(client)
        client.select_folder(unit)
    # The end of the right ends sessions, too: not the one below.
    settle(site, account)
    with clients.imap(site, account) as client:
        assert unit not in folders(client)


@contextmanager
def member(site: Site, account: Account, code: str = CODE) -> Iterator[None]:
    """Inside the block the directory names the account as a reader of a unit mailbox."""
    (dn,) = remote.entry(site, account.address)["dn"]
    store = clients.store_of(site, account.address)

    def change(verb: str) -> None:
        remote.modify(
            site, f"dn: {dn}\nchangetype: modify\n{verb}: mailboxGroup\nmailboxGroup: {code}\n"
        )
        remote.shell(site, store.address, f"doveadm auth cache flush {account.address}")

    change("add")
    try:
        yield
    finally:
        change("delete")


# -- to the unit and back --------------------------------------------------------------------------


@pytest.fixture
def inquiry(site: Site, filer: IMAPClient, unit: str) -> Iterator[EmailMessage]:
    """A letter that a foreign mail server sends to the unit; removed in the end."""
    message = clients.foreign_letter(site, f"{CODE}@{site.domain}", subject="Gửi Sở")
    clients.send_from_outside(site, message)
    yield message
    filer.select_folder(unit)
    filer.delete_messages(filer.search(["HEADER", "Message-ID", message["Message-ID"]]))
    filer.expunge()


@pytest.mark.regulation("3.1a")
def test_a_citizens_letter_reaches_the_unit_and_a_member_answers_for_it(
    site: Site, person: Person, filer: IMAPClient, unit: str, inquiry: EmailMessage
) -> None:
    uid = open_at(filer, unit, inquiry)
    assert b"X-Spam-Status:" in clients.raw(filer, uid), "passed unscanned"
    # Read by one, and not by the other.
    filer.fetch([uid], ["BODY[]"])
    assert uid not in filer.search(["UNSEEN"])
    with clients.imap(site, person(READER)) as reader:
        assert open_at(reader, unit, inquiry) == uid
        assert uid in reader.search(["UNSEEN"])

    citizen = f"dan@{clients.foreign_domain(site)}"
    answer = clients.letter(f"{CODE}@{site.domain}", citizen, subject="Trả lời")
    answer["In-Reply-To"] = answer["References"] = inquiry["Message-ID"]
    for account in (person(READER), person(STRANGER)):
        # One reads the unit's mail, the other is of the unit: neither sends as it.
        with pytest.raises(SMTPRecipientsRefused, match="553"):
            clients.submit(site, account, answer)
    clients.submit(site, person(FILER), answer)
    with clients.foreign_imap(site, citizen) as inbox:
        received = message_from_bytes(
            clients.raw(inbox, clients.wait_for(inbox, answer)), policy=policy.default
        )
    assert received["From"] == f"{CODE}@{site.domain}"
    assert received["Return-Path"] == f"<{CODE}@{site.domain}>"
    assert received["In-Reply-To"] == inquiry["Message-ID"]
    # Who of the unit wrote it is not for the citizen to know.
    assert person(FILER).address not in "".join(map(str, received.values()))


# -- what each may do ------------------------------------------------------------------------------


@pytest.mark.regulation("3.1a")
def test_each_has_read_what_they_have_read(
    filer: IMAPClient, reader: IMAPClient, unit: str, letter: EmailMessage
) -> None:
    uid = open_at(filer, unit, letter)
    assert open_at(reader, unit, letter) == uid
    assert uid in filer.search(["UNSEEN"])
    filer.fetch([uid], ["BODY[]"])
    filer.noop()
    reader.noop()
    assert uid not in filer.search(["UNSEEN"])
    assert uid in reader.search(["UNSEEN"])
    reader.add_flags([uid], [rb"\Seen"])
    filer.remove_flags([uid], [rb"\Seen"])
    reader.noop()
    filer.noop()
    assert uid in filer.search(["UNSEEN"])
    assert uid not in reader.search(["UNSEEN"])


def test_a_reader_changes_nothing_for_others(
    filer: IMAPClient, reader: IMAPClient, unit: str, letter: EmailMessage
) -> None:
    uid = open_at(reader, unit, letter)
    reader.add_flags([uid], [rb"\Flagged", rb"\Deleted", "$Done"])
    with pytest.raises(IMAPClientError, match="NOPERM"):
        reader.move([uid], "Trash")
    with pytest.raises(IMAPClientError, match="NOPERM"):
        reader.append(unit, b"Subject: chen vao\r\n\r\nchen\r\n")
    with pytest.raises(IMAPClientError, match="NOPERM"):
        reader.create_folder(f"{unit}/Moi")
    with pytest.raises(IMAPClientError, match="NOPERM"):
        reader.delete_folder(f"{unit}/Archive")
    assert open_at(filer, unit, letter) == uid
    assert set(filer.get_flags([uid])[uid]) <= {rb"\Seen", rb"\Recent"}


@pytest.mark.regulation("3.1a")
def test_what_was_sent_for_the_unit_is_filed_there(
    site: Site, filer: IMAPClient, reader: IMAPClient, unit: str
) -> None:
    """Any member who may send files it; only who may file removes it."""
    sent = clients.letter(f"{CODE}@{site.domain}", f"dan@{clients.foreign_domain(site)}")
    reader.append(f"{unit}/Sent", sent.as_bytes(), [rb"\Seen"])
    uid = open_at(filer, f"{unit}/Sent", sent)
    filer.delete_messages([uid])
    filer.expunge()


def test_a_filer_files_and_deletes(
    filer: IMAPClient, reader: IMAPClient, unit: str, letter: EmailMessage
) -> None:
    uid = open_at(filer, unit, letter)
    filer.add_flags([uid], [rb"\Flagged"])
    open_at(reader, unit, letter)
    assert rb"\Flagged" in reader.get_flags([uid])[uid]
    folder = f"{unit}/Năm 2026"
    filer.create_folder(folder)
    try:
        filer.move([uid], folder)
        assert folder in folders(reader)
        uid = open_at(reader, folder, letter)
        filer.select_folder(folder)
        filer.delete_messages([uid])
        filer.expunge()
    finally:
        filer.select_folder("INBOX")
        filer.delete_folder(folder)


@pytest.mark.regulation("12")
def test_who_did_it_is_on_record(
    site: Site, filer: IMAPClient, unit: str, letter: EmailMessage
) -> None:
    uid = open_at(filer, unit, letter)
    filer.delete_messages([uid])
    filer.expunge()
    store = clients.store_of(site, f"{CODE}@{site.domain}").address
    wanted = letter["Message-ID"].strip("<>")

    def trail() -> str:
        return remote.shell(
            site, store, f"journalctl -u dovecot -o cat -n 500 | grep -F '{wanted}' || true"
        )

    line = until(
        lambda: [line for line in trail().splitlines() if ": expunge: " in line], "the trail"
    )[0]
    assert line.startswith(f"imap({FILER}@{site.domain})")
    assert f"box={unit}," in line


def test_a_search_ignores_diacritics_there_too(
    reader: IMAPClient, unit: str, letter: EmailMessage
) -> None:
    uid = open_at(reader, unit, letter)
    assert uid in reader.search(["TEXT", "gui so"], charset="UTF-8")


# -- teaching the filter ---------------------------------------------------------------------------


SPOOL = "/var/spool/site-learn"


@pytest.fixture(scope="module")
def nobody_learns(site: Site) -> Iterator[None]:
    """What is moved stays in the spool, and is thrown away in the end."""
    store = clients.store_of(site, f"{CODE}@{site.domain}").address
    with remote.stopped(site, store, "site-learn.path"):
        busy = f"find {SPOOL} -type f; pgrep -x sa-learn || true"
        until(lambda: not remote.shell(site, store, busy), "an empty spool")
        yield
        remote.shell(site, store, f"find {SPOOL} -type f -delete")


@pytest.fixture
def spool(site: Site, nobody_learns: None) -> Iterator[Callable[[], tuple[int, int]]]:  # noqa: ARG001
    """Count the letters that wait to be learnt as spam and as ham."""
    store = clients.store_of(site, f"{CODE}@{site.domain}").address

    def counted() -> tuple[int, int]:
        spam, ham = (
            remote.shell(site, store, f"find {SPOOL}/{kind} -type f -name '[!.]*.eml'")
            for kind in ("spam", "ham")
        )
        return len(spam.splitlines()), len(ham.splitlines())

    yield counted
    remote.shell(site, store, f"find {SPOOL} -type f -delete")


def test_members_teach_the_filter(
    filer: IMAPClient, unit: str, letter: EmailMessage, spool: Callable[[], tuple[int, int]]
) -> None:
    filer.move([open_at(filer, unit, letter)], f"{unit}/Junk")
    assert spool() == (1, 0)
    filer.move([open_at(filer, f"{unit}/Junk", letter)], f"{unit}/Archive")
    assert spool() == (0, 1)


@pytest.mark.parametrize(
    "case",
    [
        ("INBOX", "Junk", (1, 0)),
        ("Junk", "INBOX", (0, 1)),
        ("Junk", "Archive", (0, 1)),
        ("Junk", "Trash", (0, 0)),
        ("INBOX", "Archive", (0, 0)),
        ("INBOX", "Trash", (0, 0)),
    ],
)
def test_only_moves_by_a_user_teach(
    site: Site,
    filer: IMAPClient,
    person: Person,
    spool: Callable[[], tuple[int, int]],
    case: tuple[str, str, tuple[int, int]],
) -> None:
    account, (source, target, expected) = person(FILER), case
    message = clients.letter(account.address, account.address, subject="Dạy bộ lọc")
    if source == "Junk":
        # Filed by the filter and not by the user.
        message["X-Spam-Flag"] = "YES"
    lmtp.deliver(site, account.address, message.as_bytes())
    uid = open_at(filer, source, message)
    assert spool() == (0, 0)
    filer.move([uid], target)
    uid = open_at(filer, target, message)
    assert spool() == expected
    filer.delete_messages([uid])
    filer.expunge()
    assert spool() == expected


# -- quota -----------------------------------------------------------------------------------------

ROOM, OWN = 2 * 2**20, 2**20
"""Bytes that the unit's mailbox below and its member's own may hold."""


@dataclass(frozen=True)
class Office:
    """A unit that is in no registry, and its only member, who files there."""

    site: Site
    code: str
    member: Newcomer

    @property
    def address(self) -> str:
        """The unit's."""
        return f"{self.code}@{self.site.domain}"

    @property
    def folder(self) -> str:
        """Where the member sees its inbox."""
        return f"{self.site.of(MailstoreSettings).units_folder}/Phòng Thử ({self.code})"

    def seen(self) -> bool:
        """Whether the member sees it."""
        with clients.imap(self.site, self.member.account) as client:
            return self.folder in folders(client)


@pytest.fixture
def office(site: Site) -> Iterator[Office]:
    with newcomers(site, 1) as (member,):
        made = Office(site, f"thu{secrets.token_hex(6)}", member)
        dn = f"cn={made.code},ou=mailboxes,{site.base_dn}"
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.add(
                dn,
                ["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"],
                {
                    "mail": made.address, "mailLocalAddress": made.address,
                    "mailHost": clients.store_name(site, ""), "mailboxState": "active",
                    "mailboxService": "lmtp", "displayName": "Phòng Thử",
                    "mailboxQuota": str(ROOM),
                },
            )  # fmt: skip
        member.write(mailboxGroup=[made.code, f"{made.code}+file"], mailboxQuota=str(OWN))
        try:
            # What changed of its member ends sessions, too.
            settle(site, member.account)
            looked(made)
            until(made.seen, "the unit's mailbox", 120, pause=1)
            yield made
        finally:
            with bound(site, *service(site, "accounts")) as accounts:
                accounts.delete(dn)
            remote.shell(
                site, member.store,
                "systemctl start site-units.service;"
                f" rm -rf /var/vmail/mailboxes/{made.code}",
            )  # fmt: skip


def large(size: int, subject: str = "lon") -> bytes:
    """A letter of about so many bytes."""
    return f"Subject: {subject}\r\n\r\n".encode() + (b"x" * 76 + b"\r\n") * (size // 78)


def looked(office: Office) -> None:
    """Let the store look how full it is; its timer does each minute."""
    remote.run_anew(office.site, office.member.store, "site-units.service")


def refused(client: IMAPClient, folder: str) -> bool:
    """Whether nothing may be filed there; at the latest when Dovecot has read the rights again."""
    try:
        client.append(folder, b"Subject: them\r\n\r\nthem\r\n")
    except client.Error as error:
        return "NOPERM" in str(error)
    return False


def warnings(client: IMAPClient, folder: str) -> list[str]:
    """What letters in a folder say of its quota, oldest first: their subjects."""
    client.select_folder(folder)
    found = client.fetch(client.search(["SMALLER", 10_000]), ["BODY[]"])
    letters = (message_from_bytes(found[uid][b"BODY[]"], policy=policy.default) for uid in found)
    return [letter["Subject"] for letter in letters if "<quota-" in letter["Message-ID"]]


def test_members_are_warned_before_what_they_file_fills_a_unit_mailbox(
    site: Site, office: Office
) -> None:
    soon, nearly = (QUOTA_LETTERS[level].subject for level in ("80", "95"))
    with clients.imap(site, office.member.account) as client:

        def told() -> list[str]:
            # Twice: what was said is not said again.
            for _ in range(2):
                looked(office)
            return warnings(client, office.folder)

        def put(way: str, percent: int, folder: str) -> None:
            """File so much of what the mailbox may hold."""
            size = ROOM * percent // 100
            if way == "append":
                client.append(folder, large(size))
                return
            client.append("INBOX", large(size, "cua toi"))
            client.select_folder("INBOX")
            getattr(client, way)(client.search(["SUBJECT", "cua toi"])[-1:], folder)

        # Each of these is needed for the level, by whichever way it came.
        put("append", 70, office.folder)
        assert told() == []
        put("append", 6, f"{office.folder}/Archive")
        assert told() == []
        put("copy", 6, f"{office.folder}/Archive")
        assert told() == [soon]
        put("copy", 7, office.folder)
        assert told() == [soon]
        put("move", 7, office.folder)
        assert told() == [soon, nearly]
        client.delete_messages(client.search(["SUBJECT", "lon"]))
        client.expunge()
        assert told() == [soon, nearly]
        # It fills up again, by a letter that arrives: Dovecot says it, and nobody else.
        answers = lmtp.deliver(site, office.address, large(ROOM * 60 // 100))
        assert answers[-1].startswith("250")
        until(lambda: len(warnings(client, office.folder)) == 3, "the letter about it")
        assert told() == [soon, nearly, soon]


def test_a_full_unit_mailbox_takes_nothing_from_its_members_either(
    site: Site, office: Office
) -> None:
    unit, trash = office.folder, f"{office.folder}/Trash"
    with clients.imap(site, office.member.account) as client:
        # The member's own mailbox has less room: that is another matter.
        for _ in range(2):
            client.append(unit, large(ROOM * 3 // 4))
        client.append("INBOX", large(OWN // 4, "cua toi"))
        looked(office)
        until(lambda: refused(client, unit), "the end of filing", 60, pause=1)
        assert lmtp.deliver(site, office.address)[0].startswith("552 5.2.2")
        for folder in ("/Sent", "/Archive"):
            with pytest.raises(client.Error, match="NOPERM"):
                client.append(unit + folder, large(1000))
        client.select_folder("INBOX")
        own = client.search(["SUBJECT", "cua toi"])
        for put in (client.copy, client.move):
            with pytest.raises(client.Error, match="NOPERM"):
                put(own, unit)
        assert client.search(["SUBJECT", "cua toi"]) == own
        # Its members learn why.
        client.select_folder(unit)
        until(lambda: client.noop() and client.search(["SUBJECT", "da day"]), "a letter about it")
        # It can be tidied, as programs do it.
        client.move(client.search(["SUBJECT", "lon"]), trash)
        client.select_folder(trash)
        client.delete_messages(client.search())
        client.expunge()
        looked(office)
        until(lambda: not refused(client, unit), "filing to be possible again", 60, pause=1)
        assert lmtp.deliver(site, office.address, large(1000))[-1].startswith("250")


def test_what_is_in_the_trash_of_a_full_unit_mailbox_counts_too(site: Site, office: Office) -> None:
    trash = f"{office.folder}/Trash"
    with clients.imap(site, office.member.account) as client:
        client.append(trash, large(ROOM * 6 // 5))
        looked(office)

        until(lambda: refused(client, trash), "the end of filing there", 60, pause=1)
