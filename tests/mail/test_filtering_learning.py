"""What users move into Junk or out of it is learnt: once each, and not lost while nobody learns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from imapclient import IMAPClient

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.waiting import until

UNIT = "postgresql@17-main.service"
QUERY = "select coalesce(sum(spam_count), 0), coalesce(sum(ham_count), 0) from bayes_vars"


@dataclass(frozen=True)
class Counts:
    """How many letters the Bayes store has learnt."""

    spam: int
    ham: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.spam + other.spam, self.ham + other.ham)


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person("anv")


@pytest.fixture
def mailbox(site: Site, official: Account) -> Iterator[IMAPClient]:
    """The official's mail program."""
    with clients.imap(site, official) as client:
        yield client


def counts(site: Site) -> Counts:
    """What the Bayes store counts now."""
    answer = remote.shell(
        site,
        clients.address_of(site, "database"),
        f'cd / && runuser -u postgres -- psql -XAtd bayes -c "{QUERY}"',
    )
    spam, ham = answer.strip().split("|")
    return Counts(int(spam), int(ham))


def waiting(site: Site) -> str:
    """Letters that wait for the learner on any store."""
    return "".join(
        remote.shell(site, store.address, "find /var/spool/site-learn -type f ! -name '.*'")
        for store in site.group("store")
    )


def taught(site: Site, expected: Counts) -> None:
    """Wait until everything was learnt, and compare."""
    until(lambda: counts(site) == expected, f"{expected}, not {counts(site)}", 120, pause=0.5)
    until(lambda: not waiting(site), "an empty spool", 60, pause=0.5)
    assert counts(site) == expected


def arrive(site: Site, official: Account, mailbox: IMAPClient, subject: str) -> int:
    """A letter from outside that nobody has judged yet; its UID in the inbox."""
    message = clients.foreign_letter(site, official.address, subject=subject)
    clients.send_from_outside(site, message)
    uid = clients.wait_for(mailbox, message)
    assert b"autolearn=no" in clients.raw(mailbox, uid)
    return uid


def move(mailbox: IMAPClient, uid: int, source: str, target: str) -> int:
    """Move a letter as a mail program does; its UID where it is then."""
    mailbox.select_folder(source)
    (identity,) = mailbox.fetch([uid], ["ENVELOPE"]).values()
    mailbox.move([uid], target)
    mailbox.select_folder(target)
    wanted = identity[b"ENVELOPE"].message_id.decode()
    return int(mailbox.search(["HEADER", "Message-ID", wanted])[0])


@pytest.mark.regulation("8")
def test_moving_into_junk_teaches_spam_and_back_ham_once_each(
    site: Site, official: Account, mailbox: IMAPClient
) -> None:
    uid = arrive(site, official, mailbox, "Quảng cáo không mong muốn")
    before = counts(site)
    uid = move(mailbox, uid, "INBOX", "Junk")
    taught(site, before + Counts(spam=1, ham=0))
    # Learnt as ham it is spam no more.
    uid = move(mailbox, uid, "Junk", "INBOX")
    taught(site, before + Counts(spam=0, ham=1))
    move(mailbox, uid, "INBOX", "Junk")
    taught(site, before + Counts(spam=1, ham=0))


def test_a_letter_that_is_read_or_filed_elsewhere_teaches_nothing(
    site: Site, official: Account, mailbox: IMAPClient
) -> None:
    uid = arrive(site, official, mailbox, "Thư thường")
    before = counts(site)
    mailbox.fetch([uid], ["BODY[]"])
    uid = move(mailbox, uid, "INBOX", "Trash")
    move(mailbox, uid, "Trash", "INBOX")
    assert not waiting(site)
    assert counts(site) == before


def test_what_is_moved_while_nobody_learns_is_learnt_later(
    site: Site, official: Account, mailbox: IMAPClient
) -> None:
    uid = arrive(site, official, mailbox, "Khi kho Bayes ngừng")
    before = counts(site)
    with remote.stopped(site, clients.address_of(site, "database"), UNIT):
        move(mailbox, uid, "INBOX", "Junk")
        until(lambda: waiting(site), "a letter in the spool")
        store = clients.store_of(site, official.address).address
        until(
            lambda: "wait in" in remote.shell(site, store, "journalctl -o cat -n 5 -u site-learn"),
            "the learner's complaint",
        )
        assert waiting(site)
    taught(site, before + Counts(spam=1, ham=0))
