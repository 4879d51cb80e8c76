"""Mailboxes move to another store: nothing of them is lost, nobody is refused, no letter bounces.

Each test makes people of its own, who are in no registry, and removes what is left of them. Where
an environment has one store, there is nothing to be moved, and the tests are skipped.
"""

import poplib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from deploy import move_mailbox
from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR
from deploy.run import run as deployed
from roles.accounts.deploy import site_registry
from roles.common.errors import SiteError
from roles.common.site import ROOT, Site, SiteHost
from roles.mailstore.settings import MailstoreSettings
from tests import clients, managesieve, remote
from tests.access import settle
from tests.backups import backup_of
from tests.clients import Account
from tests.mail.test_access_ends import works
from tests.recovery.test_archive import put_letters
from tests.recovery.test_handover import Newcomer, handed_over, newcomers
from tests.recovery.test_restore_mail import SCRIPT, asked, lose, restored, unit
from tests.waiting import until

FOLDER = "Đề án/Năm 2026"


@pytest.fixture(autouse=True)
def several(site: Site) -> None:
    """Skip where there is one store."""
    if len(site.group("store")) < 2:
        pytest.skip(f"{site.environment} has one store")


@contextmanager
def people(site: Site, count: int) -> Iterator[list[Newcomer]]:
    """People who may use everything; nothing of them stays on any store."""
    with newcomers(site, count) as made:
        for one in made:
            settle(site, one.account)
        try:
            yield made
        finally:
            for one in made:
                swept(site, f"people/{one.number}")


def swept(site: Site, place: str) -> None:
    """Remove what is left of a mailbox on all stores."""
    name = place.replace("/", "-")
    for store in site.group("store"):
        remote.shell(
            site, store.address,
            f"{move_mailbox.COMMAND} reopen {place} >/dev/null; cd /var/vmail && "
            f"rm -rf {place} .moving/{name}.* .moved/{name}-* .restore/{name}-*",
        )  # fmt: skip


@pytest.fixture(scope="module")
def mover(site: Site) -> Iterator[Newcomer]:
    """Somebody with letters, who moves to and fro."""
    with people(site, 1) as (one,):
        fill(one)
        yield one


def alias(person: Newcomer, address: str = "") -> str:
    """The store on which the directory says that a mailbox lies."""
    entry = remote.entry(person.site, address or person.account.address, "mailHost")
    return entry["mailHost"][0].partition(".")[0]


def other(person: Newcomer, address: str = "") -> str:
    """A store on which it does not lie."""
    here = alias(person, address)
    return next(name for name in person.site.table.stores if name != here)


def host(site: Site, name: str) -> SiteHost:
    return site.store_host(name)


def moved(site: Site, to: str, *who: str) -> int:
    """Move mailboxes as an operator does."""
    return move_mailbox.main(["apply", "--env", site.environment, "--to", to, *who])


def from_outside(site: Site, address: str) -> EmailMessage:
    """A letter that an mx takes."""
    sender = f"nguoi.la@tester.{clients.foreign_domain(site)}"
    message = clients.letter(sender, address, subject="Trong lúc chuyển")
    with clients.mx(site) as client:
        assert not client.send_message(message)
    return message


def fill(person: Newcomer) -> None:
    """Letters of all kinds, in folders of all kinds; scripts, one of them active."""
    site = person.site
    person.receive(subject="Đề nghị", text="Kính gửi: đề nghị chuyển hộp thư.\n")
    with clients.imap(site, person.account) as client:
        put_letters(client)
        # Where the script files what comes.
        client.create_folder("Đề án")
        client.create_folder(FOLDER)
        client.subscribe_folder(FOLDER)
        client.unsubscribe_folder("Archive")
        client.append(FOLDER, b"Subject: mot\r\n\r\nmot\r\n", [rb"\Flagged", "$Viec"])
        client.append("Trash", b"Subject: da bo\r\n\r\nbo\r\n")
        client.append(FOLDER, b"Subject: xoa han\r\n\r\nxoa\r\n")
        client.select_folder(FOLDER)
        # A gap among the UIDs, and a letter for the help desk.
        client.delete_messages(client.search(["SUBJECT", "xoa han"]))
        client.expunge()
    with managesieve.logged_in(site, person.account) as sieve:
        assert sieve.put("thu", SCRIPT).startswith("OK")
        assert sieve.put("khac", "keep;\r\n").startswith("OK")
        assert sieve.ask('SETACTIVE "thu"')[-1].startswith("OK")


def as_seen(site: Site, account: Account) -> dict[str, Any]:
    """Everything of a mailbox that its owner's programs see."""
    folders = {}
    with clients.imap(site, account) as client:
        names = [name for flags, _, name in client.list_folders() if rb"\Noselect" not in flags]
        for name in (*names, ".EXPUNGED"):
            answer = client.select_folder(name, readonly=True)
            got = (
                client.fetch(client.search(), ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
                if answer[b"EXISTS"]
                else {}
            )
            folders[name] = answer[b"UIDVALIDITY"], answer[b"UIDNEXT"], {
                uid: (
                    sha256(item[b"BODY[]"]).hexdigest(),
                    frozenset(item[b"FLAGS"]) - {rb"\Recent"},
                    item[b"INTERNALDATE"],
                )
                for uid, item in got.items()
            }  # fmt: skip
        client.select_folder("INBOX", readonly=True)
        result = {
            "folders": folders,
            "subscribed": {name for _, _, name in client.list_sub_folders()},
            "quota": str(client.get_quota("INBOX")),
            "found": client.search(["BODY", "de nghi chuyen"]),
        }
    with managesieve.logged_in(site, account) as sieve:
        result["scripts"] = sieve.ask("LISTSCRIPTS"), sieve.ask('GETSCRIPT "thu"')
    return result


def rights(site: Site, store: str, address: str) -> str:
    """Whom a mailbox's folders are open to."""
    folders = "INBOX Sent Trash .EXPUNGED"
    command = f"for folder in {folders}; do doveadm -f tab acl get -u {address} $folder; done"
    return remote.shell(site, host(site, store).address, command)


def opens(site: Site, store: str, address: str) -> bool:
    """Whether a store opens a mailbox."""
    command = f"doveadm mailbox list -u {address} >/dev/null 2>&1 && echo yes || true"
    return bool(remote.shell(site, host(site, store).address, command))


# -- everything moves ------------------------------------------------------------------------------


def test_everything_of_a_mailbox_moves(
    site: Site, mover: Newcomer, capsys: pytest.CaptureFixture[str]
) -> None:
    before, source, target = as_seen(site, mover.account), alias(mover), other(mover)
    assert before["found"]
    assert before["folders"][FOLDER][2]
    assert before["folders"][".EXPUNGED"][2]
    plan = ["plan", "--env", site.environment, "--to", target, mover.number]
    assert move_mailbox.main(plan) == EXIT_CHANGES
    assert as_seen(site, mover.account) == before
    assert moved(site, target, mover.account.address) == EXIT_DONE
    said = capsys.readouterr().out
    assert alias(mover) == target
    assert as_seen(site, mover.account) == before
    assert opens(site, target, mover.account.address)
    assert not opens(site, source, mover.account.address)
    # The old copy is whole, and out of the way.
    old = said.rpartition("its old copy is ")[2].split()[0].partition(":")[2]
    assert Path(old).parent == Path("/var/vmail/.moved")
    old_host, new_host = host(site, source).address, host(site, target).address
    digests = "find mail sieve -name 'u.*' -o -name '*.sieve' | sort | xargs -d '\\n' sha256sum"
    assert remote.shell(site, old_host, f"cd {old} && {digests}") == remote.shell(
        site, new_host, f"cd /var/vmail/people/{mover.number} && {digests}"
    )
    # And it is like any other mailbox: letters come, are filed, are deleted.
    message = from_outside(site, mover.account.address)
    with clients.imap(site, mover.account) as client:
        # The script that is active files what comes.
        clients.wait_for(client, message, "Đề án")


def test_a_second_run_has_nothing_to_do(
    site: Site, mover: Newcomer, capsys: pytest.CaptureFixture[str]
) -> None:
    here = alias(mover)
    for action in ("plan", "apply"):
        words = [action, "--env", site.environment, "--to", here, mover.number]
        assert move_mailbox.main(words) == EXIT_DONE
        assert "lies on" in (said := capsys.readouterr().out)
        assert "nothing to do" in said


def test_a_unit_moves_with_everybody_who_reads_it(site: Site) -> None:
    with people(site, 2) as (head, clerk), unit(site, head, clerk) as address:
        code = address.partition("@")[0]
        box = f"{site.of(MailstoreSettings).units_folder}/{code}"
        for subject in ("nhat", "hai"):
            message = clients.letter("dan@vidu.example", address, subject=subject)
            with clients.imap(site, head.account) as client:
                client.append(box, message.as_bytes())
        with clients.imap(site, clerk.account) as client:
            client.select_folder(box)
            client.add_flags(client.search(["SUBJECT", "hai"]), [rb"\Seen"])
            client.add_flags(client.search(["SUBJECT", "nhat"]), [rb"\Flagged"])

        def seen(person: Newcomer) -> dict[int, tuple[bytes, ...]]:
            with clients.imap(site, person.account) as client:
                client.select_folder(box, readonly=True)
                flags = client.get_flags(client.search())
            return {uid: tuple(sorted(set(of) - {rb"\Recent"})) for uid, of in flags.items()}

        source, target = alias(head, address), other(head, address)
        before, given = (seen(head), seen(clerk)), rights(site, source, address)
        assert before[0] != before[1]
        try:
            assert moved(site, target, "--with-readers", code) == EXIT_DONE
            assert {alias(head), alias(clerk), alias(head, address)} == {target}
            assert (seen(head), seen(clerk)) == before
            assert rights(site, target, address) == given
            message = from_outside(site, address)
            with clients.imap(site, clerk.account) as client:
                uid = clients.wait_for(client, message, box)
                client.copy([uid], "INBOX")
        finally:
            swept(site, f"mailboxes/{code}")


def test_what_a_successor_reads_moves_as_well(site: Site) -> None:
    with people(site, 2) as (departed, successor), handed_over(departed, successor) as made:

        def seen() -> dict[int, tuple[bytes, ...]]:
            with clients.imap(site, successor.account) as client:
                client.select_folder(made.folder)
                if not client.search(["SEEN"]):
                    client.fetch(client.search()[:1], ["BODY[]"])
                flags = client.get_flags(client.search())
            return {uid: tuple(sorted(set(of) - {rb"\Recent"})) for uid, of in flags.items()}

        before, folders = seen(), made.seen()
        target = other(departed)
        assert moved(site, target, "--with-readers", departed.number) == EXIT_DONE
        assert {alias(departed), alias(successor)} == {target}
        assert made.seen() == folders
        assert seen() == before


# -- while it moves --------------------------------------------------------------------------------


def closed(site: Site, person: Newcomer) -> None:
    """Close a mailbox as a move does, and leave it so."""
    remote.shell(
        site, host(site, alias(person)).address,
        f"{move_mailbox.COMMAND} close people/{person.number} {person.account.address}",
    )  # fmt: skip


def test_letters_that_come_meanwhile_come_once(site: Site, mover: Newcomer) -> None:
    """A letter a moment from before to behind the move: none is lost, none is there twice."""
    sent: list[EmailMessage] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sent.append(from_outside(site, mover.account.address))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        until(lambda: len(sent) > 2, "the first letters")
        assert moved(site, other(mover), mover.number) == EXIT_DONE
        behind = len(sent)
        until(lambda: len(sent) > behind + 2, "letters behind the move")
    finally:
        stop.set()
        worker.join()
    with clients.imap(site, mover.account) as client:
        clients.wait_for(client, sent[-1], "Đề án")
        wanted = {str(message["Message-ID"]) for message in sent}

        def came() -> list[str]:
            client.select_folder("Đề án", readonly=True)
            got = client.fetch(client.search(), ["ENVELOPE"]).values()
            names = [item[b"ENVELOPE"].message_id or b"" for item in got]
            return [name.decode() for name in names if name.decode() in wanted]

        until(lambda: len(came()) >= len(wanted), "all letters")
        assert sorted(came()) == sorted(wanted)


def test_a_letter_to_a_closed_mailbox_waits_on_mx(site: Site, mover: Newcomer) -> None:
    closed(site, mover)
    message = from_outside(site, mover.account.address)
    until(
        lambda: move_mailbox.waiting(site, {mover.account.address}, 0)[1],
        "the letter to be put off",
    )
    said = remote.shell(site, site.group("mx")[0].address, "postqueue -j")
    assert "said: 451 " in said
    # The run that completes it lets the queues try again.
    assert moved(site, other(mover), mover.number) == EXIT_DONE
    assert move_mailbox.waiting(site, {mover.account.address}, 0) == (0, 0)
    with clients.imap(site, mover.account) as client:
        clients.wait_for(client, message, "Đề án")


def test_a_closed_mailbox_is_a_temporary_failure(site: Site, mover: Newcomer) -> None:
    """No program takes it for a wrong password, and none of what is remembered gets in."""
    with clients.imap(site, mover.account) as client:
        client.select_folder("INBOX")
        closed(site, mover)
        # It is over: at the latest when it is used.
        until(lambda: not works(client.noop), "the session's end", seconds=10)
    with pytest.raises(LoginError, match="UNAVAILABLE"), clients.imap(site, mover.account):
        pass
    pop = poplib.POP3_SSL(
        clients.address_of(site, "front"), 995, context=clients.context(site), timeout=30
    )
    with closing(pop):
        pop.user(mover.account.address)
        with pytest.raises(poplib.error_proto, match=r"SYS/TEMP"):
            pop.pass_(mover.account.password)
    with (
        pytest.raises(AssertionError, match="TRYLATER"),
        managesieve.logged_in(site, mover.account),
    ):
        pass
    # Moved to where it is: it is opened there again.
    assert moved(site, alias(mover), mover.number) == EXIT_DONE
    assert as_seen(site, mover.account)["found"]


def test_a_session_ends_and_the_next_log_in_is_on_the_new_store(
    site: Site, mover: Newcomer
) -> None:
    target = other(mover)
    with clients.imap(site, mover.account) as client:
        client.select_folder("INBOX")
        client.idle()
        assert moved(site, target, mover.number) == EXIT_DONE
        with pytest.raises((IMAPClient.AbortError, OSError)):
            client.idle_done()
    with ExitStack() as sessions:
        opened = [
            sessions.enter_context(clients.imap(site, mover.account, at=front.address))
            for front in site.group("front")
        ]
        for client in opened:
            client.select_folder("INBOX")
            who = f"doveadm -f flow who {mover.account.address}"
            assert mover.number in remote.shell(site, host(site, target).address, who)
        # Nor does it end once site-access has learnt where the mailbox lies now.
        settle(site, mover.account)
        for client in opened:
            client.noop()


# -- the backup ------------------------------------------------------------------------------------


def test_the_backup_takes_it_and_knows_it_as_it_was(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with people(site, 1) as (person,):
        fill(person)
        source, target = alias(person), other(person)
        at = backup_of(site, host(site, source), "mail")
        with clients.imap(site, person.account) as client:
            lose(client, FOLDER)
        assert moved(site, target, person.number) == EXIT_DONE
        # From before it moved: the old store's backups have it, today's store brings it back.
        restored(person, "folder", FOLDER, "--at", at)
        said = capsys.readouterr()
        assert "1 of 1 letters come back" in said.out
        assert f"it lay on {host(site, source).name} then" in said.err
        with clients.imap(site, person.account) as client:
            client.select_folder(FOLDER)
            assert len(client.search(["SUBJECT", "mot"])) == 1
        # Nothing of what was carried over stays.
        for store in site.group("store"):
            found = f"find /var/vmail/.restore -name '*{person.number}*' 2>/dev/null || true"
            assert not remote.shell(site, store.address, found)
        # From now on the new store's do.
        at = backup_of(site, host(site, target), "mail")
        with clients.imap(site, person.account) as client:
            lose(client, FOLDER)
        restored(person, "folder", FOLDER, "--at", at)
        said = capsys.readouterr()
        assert "1 of 1 letters come back" in said.out
        assert "then:" not in said.err
        assert asked(person, "mailbox", "--at", "now").job == "mailbox"


# -- what is refused, before anything is done ------------------------------------------------------


def refused(site: Site, capsys: pytest.CaptureFixture[str], to: str, *who: str) -> str:
    """Why a move does not begin."""
    capsys.readouterr()
    assert moved(site, to, *who) == EXIT_ERROR
    said = capsys.readouterr()
    assert not said.out
    return said.err


def test_the_registry_must_say_the_same(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader is not parted from a unit; a row that names the old store is named."""
    address = f"anv@{site.domain}"
    here = clients.store_name(site, address).partition(".")[0]
    there = next(name for name in site.table.stores if name != here)
    said = refused(site, capsys, there, "1001")
    assert "person 1001 reads the mailbox of stttt, but lies on" in said
    assert "--with-readers" in said
    registry = site_registry(site)
    row = replace(registry.people["1040"], store=here)
    stated = replace(registry, people={**registry.people, "1040": row})
    monkeypatch.setattr("deploy.move_mailbox.site_registry", lambda _: stated)
    said = refused(site, capsys, there, "1040")
    assert "people.csv: line " in said
    assert f"column store: {here!r}, but " in said
    assert f"expected {there!r}, or nothing" in said


def test_what_is_not_there_is_named(
    site: Site, mover: Newcomer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected one of" in refused(site, capsys, "store-z", mover.number)
    target = other(mover)
    assert "'khong-co': 0 mailboxes (none); expected" in refused(site, capsys, target, "khong-co")


def test_too_little_room_is_seen_before(
    site: Site, mover: Newcomer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move_mailbox, "SPARE", 1.0)
    target, before = other(mover), alias(mover)
    # Of an earlier move, which would be gone on with.
    swept_in(site, target, mover)
    said = refused(site, capsys, target, mover.number)
    assert said.startswith(f"{host(site, target).name}: /var/vmail: ")
    assert "make room there" in said
    assert alias(mover) == before


def swept_in(site: Site, store: str, person: Newcomer) -> None:
    """Forget what a store has gathered."""
    command = f"rm -rf /var/vmail/.moving/people-{person.number}.in"
    remote.shell(site, host(site, store).address, command)


def test_the_registry_agrees_afterwards(site: Site) -> None:
    """Somebody of the registry: the reconciler finds nothing to do, here and there."""
    address = reader_of_nothing(site)
    here = clients.store_name(site, address).partition(".")[0]
    there = next(name for name in site.table.stores if name != here)
    try:
        assert moved(site, there, address) == EXIT_DONE
        assert deployed("plan", "accounts", site.environment, [], sys.stdout) == EXIT_DONE
    finally:
        assert moved(site, here, address) == EXIT_DONE
        for store in site.group("store"):
            remote.shell(site, store.address, "rm -rf /var/vmail/.moved/people-1040-*")


def reader_of_nothing(site: Site) -> str:
    """Somebody who reads no unit's mailbox."""
    found = remote.shell(
        site, site.group("directory")[0].address,
        f"ldapsearch {remote.LDAP} -LLL -b employeeNumber=1040,ou=people,{site.base_dn} -s base"
        " mail mailboxGroup",
    )  # fmt: skip
    assert "mailboxGroup" not in found
    return found.partition("mail: ")[2].split()[0]


# -- cut off ---------------------------------------------------------------------------------------

CUT = """
import os, sys
from deploy import move_mailbox as job
name, step, moment = sys.argv[1:4]
whole = getattr(job, name)
def cut(*arguments, **options):
    wanted = not step or step in arguments
    if wanted and moment == "before":
        os.kill(os.getpid(), 9)
    said = whole(*arguments, **options)
    if wanted:
        os.kill(os.getpid(), 9)
    return said
setattr(job, name, cut)
job.main(sys.argv[4:])
"""
"""The operator's program, killed before or behind a step."""


@pytest.mark.parametrize(
    ("name", "step", "when"),
    [
        ("passed_on", "", "behind"),
        ("told", "close", "behind"),
        ("told", "place", "behind"),
        ("modify", "", "behind"),
    ],
)
def test_a_move_that_is_killed_is_completed_by_the_next(
    site: Site, mover: Newcomer, name: str, step: str, when: str
) -> None:
    before, source, target = as_seen(site, mover.account), alias(mover), other(mover)
    swept_in(site, target, mover)
    words = ["apply", "--env", site.environment, "--to", target, mover.number]
    done = subprocess.run(
        [sys.executable, "-c", CUT, name, step, when, *words], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    # Never on both: what is half-done is reached by nobody.
    assert not (
        opens(site, source, mover.account.address) and opens(site, target, mover.account.address)
    )
    message = from_outside(site, mover.account.address)
    assert moved(site, target, mover.number) == EXIT_DONE
    assert alias(mover) == target
    assert not opens(site, source, mover.account.address)
    with clients.imap(site, mover.account) as client:
        uid = clients.wait_for(client, message, "Đề án")
        client.delete_messages([uid])
    after = as_seen(site, mover.account)
    for folder, (validity, _, letters) in before["folders"].items():
        now_validity, _, now = after["folders"][folder]
        assert now_validity == validity
        assert {uid: now[uid] for uid in letters} == letters, folder
    assert after["scripts"] == before["scripts"]
    left = remote.shell(site, host(site, target).address, "ls /var/vmail/.moving 2>/dev/null || :")
    assert mover.number not in left


@pytest.mark.parametrize("failing", ["passed_on", "place"])
def test_a_target_that_fails_in_the_last_step_changes_nothing(
    site: Site, mover: Newcomer, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], failing: str,
) -> None:  # fmt: skip
    """As when it is away, or its disk is full: the mailbox is open where it was, as it was."""
    before, source, target = as_seen(site, mover.account), alias(mover), other(mover)
    swept_in(site, target, mover)
    whole = move_mailbox.told

    def told(*arguments: Any, **options: Any) -> Any:
        if failing in arguments:
            raise SiteError(f"{target}: is away")
        return whole(*arguments, **options)

    def passed_on(*_: Any) -> None:
        raise SiteError(f"{target}: No space left on device")

    if failing == "passed_on":
        monkeypatch.setattr(move_mailbox, "passed_on", passed_on)
    monkeypatch.setattr(move_mailbox, "told", told)
    assert moved(site, target, mover.number) == EXIT_ERROR
    said = capsys.readouterr()
    assert target in said.err
    assert "is open on" in said.out or failing == "passed_on"
    monkeypatch.undo()
    assert alias(mover) == source
    assert as_seen(site, mover.account) == before
    assert moved(site, target, mover.number) == EXIT_DONE
    assert as_seen(site, mover.account) == before


def test_who_still_has_it_open_is_waited_for(site: Site, mover: Newcomer) -> None:
    """A letter that is just being filed is in the copy; who does not end is named."""
    source = host(site, alias(mover))
    log = f"/var/vmail/people/{mover.number}/mail/mailboxes/INBOX/dbox-Mails/dovecot.index.log"
    program = (
        "import importlib.machinery as m, importlib.util as u;"
        "l = m.SourceFileLoader('move', '/usr/local/lib/site-mailstore/move');"
        "s = u.spec_from_loader('move', l); k = u.module_from_spec(s); l.exec_module(k);"
        f"f = open({log!r}, 'r+');"
        f"v = k.Move('people/{mover.number}', patience=1);"
        f"v.close(['{mover.account.address}'])"
    )
    said = remote.shell(
        site, source.address, f"timeout 60 python3 -c {shlex.quote(program)} 2>&1 | tail -n 1"
    )
    assert "dovecot.index.log: is open for" in said
    assert "python3" in said
    # And it is open, as before.
    assert as_seen(site, mover.account)["found"]
