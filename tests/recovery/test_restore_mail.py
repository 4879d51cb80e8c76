"""Mail from the backup: consistent while mail goes on, and back without touching what is there.

Each test makes people of its own, who are in no registry, and removes what is left of them.
"""

import argparse
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from imapclient import IMAPClient

from deploy import restore_mail
from roles.backup.stages import MAIL
from roles.backup.stages import MAIL_STAGE as STAGE
from roles.base.settings import BaseSettings
from roles.common.site import Site
from roles.mailstore.settings import MailstoreSettings
from tests import clients, lmtp, managesieve, remote
from tests.access import settle
from tests.backups import no_clock
from tests.mail.test_directory import bound, service
from tests.recovery.test_archive import LETTERS, Digests, content, put_letters, unit_entry
from tests.recovery.test_handover import Newcomer, newcomers
from tests.waiting import until

__all__ = ["no_clock"]
"""A fixture."""
SCRIPT = 'require "fileinto";\r\nfileinto "Đề án";\r\n'
TAKE = (
    "runuser -u vmail -- sh -c 'cd /usr/local/lib/site-backup &&"
    f" python3 -B -m roles.backup.mail {{job}} --mail {MAIL} --stage {STAGE}"
    " --known /var/lib/site-backup/mail/known.sqlite'"
)
THEN = "doveadm -f pager -o acl_ignore=yes -o mail_path={home}/mail"


@pytest.fixture
def person(site: Site) -> Iterator[Newcomer]:
    with newcomers(site, 1) as (one,):
        # Sessions of somebody whom a host did not know before are ended by it.
        settle(site, one.account)
        yield one


def shell(person: Newcomer, command: str) -> str:
    return remote.shell(person.site, person.store, command)


def staged(person: Newcomer, job: str) -> dict[str, Any]:
    """What the part `mail` says."""
    answer: dict[str, Any] = json.loads(shell(person, TAKE.format(job=job)))
    return answer


def stage_of(person: Newcomer) -> str:
    return f"{STAGE}/people/{person.number}"


def backed_up(person: Newcomer) -> str:
    """Back the store's mail up; the time of it, as an operator types it."""
    shell(person, "site-backup run mail")
    return "now"


def fill(person: Newcomer) -> Digests:
    """Letters as unlike each other as they may be, with flags and dates."""
    with clients.imap(person.site, person.account) as client:
        put_letters(client)
    return content(person.site, person.account)


# -- the stage -------------------------------------------------------------------------------------


@contextmanager
def moving(person: Newcomer, folders: list[str]) -> Iterator[list[int]]:
    """Somebody's program that moves letters from folder to folder; how many it moved."""
    stop, moved = threading.Event(), [0]

    def work() -> None:
        with clients.imap(person.site, person.account) as client:
            while not stop.is_set():
                for source, target in zip(folders, [*folders[1:], folders[0]], strict=True):
                    client.select_folder(source)
                    if uids := client.search()[:20]:
                        client.move(uids, target)
                        moved[0] += len(uids)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        until(lambda: moved[0], "the first moves")
        yield moved
    finally:
        stop.set()
        worker.join()


def message_ids(person: Newcomer) -> set[str]:
    """Letters that Dovecot finds in the stage, and can read."""
    said = shell(
        person,
        f"{THEN.format(home=scratch(person))} fetch -u {person.account.address}"
        " 'hdr.message-id text' all",
    )
    # Not as JSON: over a text, Dovecot 2.4.1 breaks now and then (json_ostream_ascend_object).
    letters = (
        re.match(r"\s*hdr\.message-id: (<.+>)\ntext:\n\S", text) for text in said.split("\f")
    )
    return {letter[1] for letter in letters if letter}


def scratch(person: Newcomer) -> str:
    """A copy of the stage that Dovecot may write to."""
    copy = f"{MAIL}/.restore/{person.number}"
    shell(
        person,
        f"rm -rf {copy} && mkdir -p {MAIL}/.restore && cp -a {stage_of(person)} {copy}"
        f" && chown -R vmail: {MAIL}/.restore",
    )
    return copy


def test_no_letter_is_missing_while_mail_moves(person: Newcomer) -> None:
    folders = ["INBOX", "Sent", "Đề án"]
    before = set()
    with clients.imap(person.site, person.account) as client:
        client.create_folder("Đề án")
        for number in range(150):
            message = clients.letter("dan@vidu.example", person.account.address)
            client.append(folders[number % 3], message.as_bytes())
            before.add(str(message["Message-ID"]))
    try:
        with moving(person, folders) as moved:
            for _ in range(5):
                since = moved[0]
                person.receive()
                done = staged(person, "take")
                assert not done["failed"]
                # The load was there all the time.
                until(lambda since=since: moved[0] > since, "more moves")  # type: ignore[misc]
                assert before <= message_ids(person)
                staged(person, "release")
    finally:
        shell(person, f"rm -rf {MAIL}/.restore/{person.number}")
    said = shell(person, "journalctl -q -u dovecot -p warning --since -2min --no-pager")
    assert person.number not in said


def test_the_help_desk_still_finds_what_is_deleted(person: Newcomer) -> None:
    """A link of the stage would count as another instance: lazy_expunge would keep nothing."""
    fill(person)
    staged(person, "take")
    staged(person, "release")
    with clients.imap(person.site, person.account) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search(["SUBJECT", "Thu thu nhat"]))
        client.expunge()
        assert client.select_folder(".EXPUNGED")[b"EXISTS"] == 1


def test_what_is_deleted_while_a_backup_runs_is_named(person: Newcomer) -> None:
    fill(person)
    staged(person, "take")
    try:
        with clients.imap(person.site, person.account) as client:
            client.select_folder("INBOX")
            client.delete_messages(client.search(["SUBJECT", "Thu thu nhat"]))
            client.expunge()
    finally:
        alone = [path for path in staged(person, "release")["alone"] if person.number in path]
    assert len(alone) == 1


def test_retention_counts_as_before(person: Newcomer) -> None:
    with clients.imap(person.site, person.account) as client:
        client.append("Trash", LETTERS["INBOX"][0])
    letter = f"{MAIL}/people/{person.number}/mail/mailboxes/Trash/dbox-Mails/u.1"
    before = shell(person, f"stat -c '%.9Z %h' {letter}")
    staged(person, "take")
    staged(person, "release")
    assert shell(person, f"stat -c '%.9Z %h' {letter}") == before


# -- back again ------------------------------------------------------------------------------------


def asked(person: Newcomer, *words: str, address: str = "") -> argparse.Namespace:
    """What an operator types."""
    parser = argparse.ArgumentParser()
    restore_mail.add_jobs(parser.add_subparsers(dest="job"))
    job, *rest = words
    options = parser.parse_args([job, address or person.account.address, *rest])
    options.action = "apply"
    return options


def restored(person: Newcomer, *words: str, address: str = "") -> None:
    """Restore as an operator does."""
    assert restore_mail.run(person.site, asked(person, *words, address=address))


def lose(client: IMAPClient, *folders: str) -> None:
    """Delete for good."""
    for folder in folders:
        client.select_folder(folder)
        client.delete_messages(client.search())
        client.expunge()


def test_a_mailbox_comes_back_while_its_owner_works(person: Newcomer) -> None:
    site = person.site
    with managesieve.logged_in(site, person.account) as sieve:
        assert sieve.put("thu", SCRIPT).startswith("OK")
    before = fill(person)
    at = backed_up(person)
    with clients.imap(site, person.account) as client:
        lose(client, *LETTERS)
        client.delete_folder('Đề án "A&B"/2026')
        later = person.receive()
        clients.wait_for(client, later)
        restored(person, "mailbox", "--at", at)
        client.select_folder("INBOX")
        assert len(client.search()) == len(LETTERS["INBOX"]) + 1
        clients.wait_for(client, later)
        lose_later = client.search(["HEADER", "Message-ID", later["Message-ID"]])
        client.delete_messages(lose_later)
        client.expunge()
    again = content(site, person.account)
    assert {name: sorted(map(str, again[name])) for name in before} == {
        name: sorted(map(str, letters)) for name, letters in before.items()
    }


def test_a_second_restore_brings_nothing(
    person: Newcomer, capsys: pytest.CaptureFixture[str]
) -> None:
    person.receive()
    with clients.imap(person.site, person.account) as client:
        at = backed_up(person)
        lose(client, "INBOX")
    words = asked(person, "folder", "INBOX", "--at", at)
    for said in ("1 of 1", "0 of 1"):
        assert restore_mail.run(person.site, words) == (said == "1 of 1")
        assert said in capsys.readouterr().out


CUT = """
import io, os, sys
sys.path.insert(0, "/usr/local/lib/site-backup")
from roles.backup import restoring
restoring._BATCH = 1
whole = restoring.Restorer._doveadm
def cut(self, *arguments, **options):
    said = whole(self, *arguments, **options)
    if arguments[0] == "import":
        os.kill(os.getpid(), 9)
    return said
restoring.Restorer._doveadm = cut
sys.stdin = io.StringIO({request!r})
restoring.main(["apply"])
"""
"""The store's program, killed when one letter has come."""


def test_a_restore_that_is_killed_is_completed_by_the_next(
    person: Newcomer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fill(person)
    at = backed_up(person)
    with clients.imap(person.site, person.account) as client:
        lose(client, *LETTERS)
    options = asked(person, "mailbox", "--at", at)
    now = datetime.now(ZoneInfo(person.site.of(BaseSettings).timezone))
    _, request = restore_mail.request(person.site, options, now)
    code = CUT.format(request=json.dumps(request))
    remote.shell(person.site, person.store, "python3 -B - || test $? = 137", stdin=code)
    there = sum(len(letters) for name, letters in content(person.site, person.account).items()
                if name != ".EXPUNGED")  # fmt: skip
    assert there == 1
    restored(person, "mailbox", "--at", at)
    assert "3 of 4 letters come back" in capsys.readouterr().out
    again = content(person.site, person.account)
    for name, letters in before.items():
        assert sorted(map(str, again[name])) == sorted(map(str, letters))
    assert not shell(person, f"find {MAIL}/.restore -mindepth 1 -name '*{person.number}*'")


def test_beside(person: Newcomer) -> None:
    before = fill(person)
    at = backed_up(person)
    restored(person, "mailbox", "--at", at, "--beside")
    again = content(person.site, person.account)
    above = next(name for name in again if name.startswith("Khôi phục/")).split("/")[1]
    for name, letters in before.items():
        assert again[name] == letters
        assert again[f"Khôi phục/{above}/{name}"] == letters


def test_one_letter(person: Newcomer) -> None:
    fill(person)
    at = backed_up(person)
    with clients.imap(person.site, person.account) as client:
        lose(client, *LETTERS)
        wanted = ["--message-id", "<mot@vidu.example>"]
        restored(person, "message", "--at", at, *wanted)
        client.select_folder("INBOX")
        assert len(client.search()) == 1


def test_a_unit_has_its_readers_states_again(site: Site) -> None:
    with newcomers(site, 2) as (head, clerk), unit(site, head, clerk) as address:
        name = address.partition("@")[0]
        box = f"{site.of(MailstoreSettings).units_folder}/{name}"
        for subject in ("nhat", "hai", "ba", "bon"):
            letter = clients.foreign_letter(site, address, subject=subject)
            assert lmtp.deliver(site, address, letter.as_bytes())[-1].startswith("250")
        read = [(head, {"nhat", "hai"}), (clerk, {"hai", "ba"})]
        for person, subjects in read:
            with clients.imap(site, person.account) as client:
                client.select_folder(box)
                for subject in subjects:
                    assert client.add_flags(client.search(["SUBJECT", subject]), [rb"\Seen"])
        at = backed_up(head)
        with clients.imap(site, head.account) as client:
            lose(client, box)
        restored(head, "mailbox", "--at", at, address=address)
        for person, subjects in read:
            with clients.imap(site, person.account) as client:
                client.select_folder(box)
                assert len(client.search()) == 4
                seen = client.fetch(client.search(["SEEN"]), ["ENVELOPE"]).values()
                found = {item[b"ENVELOPE"].subject.decode() for item in seen}
                assert found == subjects


@contextmanager
def unit(site: Site, *members: Newcomer) -> Iterator[str]:
    """A unit mailbox that these people may file in; its address."""
    code = f"thu{secrets.token_hex(6)}"
    dn, address = f"cn={code},ou=mailboxes,{site.base_dn}", f"{code}@{site.domain}"
    store = clients.store_of(site, "").address
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(dn, *unit_entry(site, address))
    try:
        for member in members:
            member.write(mailboxGroup=[code, f"{code}+file"])
        remote.run_anew(site, store, "site-units.service")
        for member in members:
            # Sessions of somebody new whose entry was changed are ended.
            settle(site, member.account)
        yield address
    finally:
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.delete(dn)
        remote.shell(site, store, f"rm -rf /var/vmail/mailboxes/{code}")
        remote.shell(site, store, "systemctl start site-units.service")
