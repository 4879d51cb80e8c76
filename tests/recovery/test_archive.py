"""The end of a mailbox: archived when its time has come, found, restored, destroyed with a proof.

Each test makes people of its own, who are in no registry, and removes what is left of them.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from imapclient import IMAPClient
from ldap3 import MODIFY_ADD, MODIFY_REPLACE
from ldap3.core.exceptions import LDAPInsufficientAccessRightsResult

from deploy import archive
from roles.archive.settings import ArchiveSettings
from roles.common.site import Site
from tests import clients, lmtp, managesieve, remote
from tests.backups import by_hand
from tests.clients import Account
from tests.hosts.test_archive import damaged
from tests.mail.test_directory import bound, service
from tests.recovery.test_handover import Newcomer, newcomers

FOLDER = "/var/lib/site-archive"
SCRIPT = 'require "fileinto";\r\nfileinto "Đề án";\r\n'
LETTERS = {
    "INBOX": [
        b"From: dan@vidu.example\r\nTo: x@y.vn\r\nSubject: Thu thu nhat\r\n"
        b"Message-ID: <mot@vidu.example>\r\nDate: Mon, 5 Jan 2026 08:30:00 +0700\r\n\r\nMot.\r\n",
        # Neither valid MIME nor text of any encoding, and no end of line.
        b"Subject: =?utf-8?q?=C4=90=E1=BB=81_ngh=E1=BB=8B?=\r\n\r\n\xff\xfe\x80 {12}\r\n.\r\n..x",
    ],
    'Đề án "A&B"/2026': [b"Subject: \xe1\xba\xa0\r\n\r\n" + b"x" * 70000 + b"\r\n"],
    "Sent": [b"Subject: di\r\n\r\n)\r\n* 1 FETCH (\r\n"],
}
"""Letters as unlike each other as they may be."""
FLAGS = (rb"\Seen", rb"\Flagged", b"$Label1", b"Vi-du")
RECEIVED = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)
Digests = dict[str, list[tuple[str, frozenset[bytes], datetime]]]


@dataclass(frozen=True)
class Departed:
    """Somebody whose mail is due, and what it was."""

    person: Newcomer
    digests: Digests

    @property
    def site(self) -> Site:
        """Where."""
        return self.person.site

    @property
    def address(self) -> str:
        """Whose mailbox it was."""
        return self.person.account.address

    def entry(self) -> dict[str, list[str]]:
        """What the directory says."""
        return remote.entry(
            self.site, self.address, "mailboxState", "mailboxArchive", "mailboxRetainUntil",
            "mailboxPurgeRecord",
        )  # fmt: skip

    def state(self) -> str:
        """In which state the mailbox is."""
        return self.entry()["mailboxState"][0]

    def on_store(self) -> bool:
        """Whether the store has the mailbox."""
        home = f"/var/vmail/people/{self.person.number}"
        return bool(self.shell(f"test -e {home} && echo yes || true"))

    def shell(self, command: str, stdin: str = "", *, check: bool = True) -> str:
        """A command on the store."""
        return remote.shell(self.site, self.person.store, command, stdin=stdin, check=check)

    def files(self) -> list[str]:
        """Files of this mailbox below the archives' folder."""
        return self.shell(f"find {FOLDER} -name '*{self.person.number}*'").split()


@pytest.fixture(scope="module", autouse=True)
def no_night(site: Site) -> Iterator[None]:
    """No night comes by the clock, and no backup, which would hold the archives' lock."""
    with by_hand(site), ExitStack() as stack:
        for store in site.group("store"):
            stack.enter_context(remote.stopped(site, store.address, "site-archive.timer"))
        yield


def put_letters(client: IMAPClient) -> None:
    """File `LETTERS`, with flags and dates."""
    for folder, letters in LETTERS.items():
        if not client.folder_exists(folder):
            client.create_folder(folder)
        for number, letter in enumerate(letters):
            client.append(folder, letter, FLAGS[: 2 * number + 1], RECEIVED)


def content(site: Site, account: Account, above: str = "") -> Digests:
    """Every letter by folder: digest, flags, when received."""
    result: Digests = {}
    with clients.imap(site, account) as client:
        for flags, _, name in client.list_folders():
            if not name.startswith(above) or rb"\Noselect" in flags:
                continue
            client.select_folder(name, readonly=True)
            got = client.fetch(client.search(), ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
            if got:
                result[name.removeprefix(above)] = [
                    (
                        sha256(item[b"BODY[]"]).hexdigest(),
                        frozenset(item[b"FLAGS"]) - {rb"\Recent"},
                        item[b"INTERNALDATE"],
                    )
                    for _, item in sorted(got.items())
                ]
    return result


@contextmanager
def made(site: Site, until_: datetime | None = None) -> Iterator[Departed]:
    """A mailbox with letters, whose owner departed."""
    with newcomers(site, 1) as (person,):
        with clients.imap(site, person.account) as client:
            put_letters(client)
            client.select_folder("INBOX")
            client.append("INBOX", b"Subject: bo di\r\n\r\nbo\r\n")
            client.delete_messages(client.search(["SUBJECT", "bo di"]))
            client.expunge()
        with managesieve.logged_in(site, person.account) as sieve:
            assert sieve.put("thu", SCRIPT).startswith("OK")
        digests = content(site, person.account)
        end = until_ or datetime.now(UTC) - timedelta(days=1)
        person.write(
            mailboxState="departed", mailboxStateSince="20250101000000Z",
            mailboxRetainUntil=f"{end.astimezone(UTC):%Y%m%d%H%M%SZ}",
        )  # fmt: skip
        departed = Departed(person, digests)
        try:
            yield departed
        finally:
            departed.shell(f"find {FOLDER} -name '*{person.number}*' -delete")


@pytest.fixture
def departed(site: Site) -> Iterator[Departed]:
    with made(site) as one:
        yield one


def nightly(departed: Departed) -> bool:
    """A run of the night; whether nothing failed. The unit says the same."""
    departed.shell("systemctl start site-archive.service", check=False)
    said = departed.shell("systemctl is-failed site-archive.service || true").strip()
    departed.shell("systemctl reset-failed site-archive.service 2>/dev/null || true")
    return said != "failed"


def ask(site: Site, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What a command of the operator answers."""
    capsys.readouterr()
    assert archive.main(["--env", site.environment, "--json", *words]) == 0, capsys.readouterr().err
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def restored(departed: Departed, capsys: pytest.CaptureFixture[str], *options: str) -> Digests:
    """What of the archive somebody else gets who asks for it."""
    with newcomers(departed.site, 1) as (other,):
        said = ask(
            departed.site, capsys, "restore", departed.address, "--to", other.number, *options
        )
        above = str(said["vào thư mục"])
        return content(departed.site, other.account, f"{above}/")


def without_deleted(digests: Digests) -> Digests:
    return {folder: letters for folder, letters in digests.items() if folder != ".EXPUNGED"}


@pytest.mark.regulation("8")
def test_a_mailbox_is_archived_found_and_restored_byte_for_byte(
    departed: Departed, capsys: pytest.CaptureFixture[str]
) -> None:
    site = departed.site
    assert sorted(departed.digests) == sorted(LETTERS)
    assert nightly(departed)
    entry = departed.entry()
    assert entry["mailboxState"] == ["archived"]
    kept = datetime.strptime(entry["mailboxRetainUntil"][0] + "+0000", "%Y%m%d%H%M%SZ%z")
    keep = timedelta(seconds=site.of(ArchiveSettings).archive_keep)
    assert abs(kept - datetime.now(UTC) - keep) < timedelta(hours=1)
    assert not departed.on_store()
    # The directory names it, and what names no letter is in clear.
    (name,) = entry["mailboxArchive"]
    said = json.dumps(ask(site, capsys, "list", departed.address), ensure_ascii=False)
    assert name in said
    assert "từ 2026-01-05 đến" in said
    assert sorted(path.rpartition(".")[2] for path in departed.files()) == ["age", "age", "json"]
    assert departed.shell(f"head -c 21 {FOLDER}/{name}.tar.zst.age") == "age-encryption.org/v1"
    assert not departed.shell(f"grep -rla 'vidu.example' {FOLDER} || true")
    # One letter by its index.
    found = ask(
        site, capsys, "find", departed.address, "--subject", "de nghi", "--since", "2026-01-05",
        "--until", "2026-01-05",
    )  # fmt: skip
    assert found["số thư tìm thấy"] == 1
    (row,) = found["thư"]
    assert row["tiêu đề"] == "Đề nghị"
    assert ask(site, capsys, "find", departed.address, "--until", "2026-01-04")["thư"] == []
    # By address, and by its mark.
    named = {"--from": "dan@VIDU", "--to": "x@y.vn", "--message-id": "<mot@vidu.example>"}
    for option, words in named.items():
        (first,) = ask(site, capsys, "find", departed.address, option, words)["thư"]
        assert first["tiêu đề"] == "Thu thu nhat"
        assert ask(site, capsys, "find", departed.address, option, f"{words}x")["thư"] == []
    one = restored(departed, capsys, "--letters", row["số"])
    assert one == {"INBOX": [departed.digests["INBOX"][1]]}
    # And all of them.
    everything = restored(departed, capsys)
    assert without_deleted(everything) == departed.digests
    assert len(everything[".EXPUNGED"]) == 1


@pytest.mark.regulation("8")
def test_the_key_and_the_scripts(departed: Departed) -> None:
    """What opens an archive is on no host; the archive holds the Sieve scripts as well."""
    assert nightly(departed)
    secret = departed.site.secrets.archive_identity.get_secret_value()
    for host in departed.site.hosts.values():
        found = remote.shell(
            departed.site, host.address,
            "grep -rlsF -f - /etc /var/lib/site-archive /usr/local /root /run/site-archive || true",
            stdin=secret,
        )  # fmt: skip
        assert not found
    (name,) = departed.entry()["mailboxArchive"]
    names = departed.shell(
        "identity=$(mktemp) && cat >$identity"
        f" && age -d -i $identity {FOLDER}/{name}.tar.zst.age | zstd -d | tar t; rm $identity",
        stdin=secret,
    ).split()
    assert "sieve/thu.sieve" in names
    assert len([name for name in names if name.endswith(".eml")]) == 5


CUT = """
import os, sys
sys.path.insert(0, "/usr/local/lib/site-archive")
from roles.archive import container, program
owner, name = {owner}, {name!r}
whole, count = getattr(owner, name), 0
def cut(*arguments, **options):
    global count
    count += 1
    if count > {after}:
        os.kill(os.getpid(), 9)
    return whole(*arguments, **options)
setattr(owner, name, cut)
program.main(["nightly"])
"""
"""The program, killed when it calls something for the time after a number of times."""
POINTS = {
    "while letters are read": ("container", "letter", 2),
    "before it is read back": ("container", "compare", 0),
    "before it has a description": ("program.Store", "_put", 0),
    "before the directory knows": ("program.Directory", "change", 0),
    "before the mailbox goes": ("program.Store", "remove", 0),
    "while the mailbox goes": ("program.shutil", "rmtree", 1),
}


@pytest.mark.regulation("8")
@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_killed_is_completed_by_the_next(
    departed: Departed, capsys: pytest.CaptureFixture[str], point: str
) -> None:
    owner, name, after = POINTS[point]
    code = CUT.format(owner=owner, name=name, after=after)
    departed.shell("python3 -B - || test $? = 137", stdin=code)
    archived = departed.state() == "archived"
    assert archived == (point in {"before the mailbox goes", "while the mailbox goes"})
    assert departed.on_store() == (point != "while the mailbox goes")
    assert nightly(departed)
    assert departed.state() == "archived"
    assert not departed.on_store()
    assert len(departed.files()) == 3
    assert not departed.shell("find /var/vmail/.archived -mindepth 1 2>/dev/null || true")
    assert without_deleted(restored(departed, capsys)) == departed.digests


def unit_entry(site: Site, address: str) -> tuple[list[str], dict[str, str]]:
    """Classes and attributes of a unit mailbox that is in no registry."""
    return ["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"], {
        "mail": address, "mailLocalAddress": address, "mailHost": clients.store_name(site, ""),
        "mailboxState": "active", "mailboxService": "lmtp", "displayName": "Phòng thử",
    }  # fmt: skip


@pytest.mark.regulation("8")
def test_a_unit_that_was_closed_is_archived_as_well(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"thu{secrets.token_hex(6)}"
    dn, address = f"cn={code},ou=mailboxes,{site.base_dn}", f"{code}@{site.domain}"
    store = clients.store_of(site, "").address
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(dn, *unit_entry(site, address))
    home = f"/var/vmail/mailboxes/{code}"
    try:
        remote.run_anew(site, store, "site-units.service")
        letter = clients.foreign_letter(site, address, subject="Gửi phòng")
        assert lmtp.deliver(site, address, letter.as_bytes())[-1].startswith("250")
        with bound(site, *service(site, "accounts")) as accounts:
            end = {"mailboxState": "departed", "mailboxRetainUntil": "20260101000000Z"}
            accounts.modify(dn, {name: [(MODIFY_REPLACE, [end[name]])] for name in end})
        remote.shell(site, store, "systemctl start site-archive.service")
        assert remote.entry(site, address, "mailboxState")["mailboxState"] == ["archived"]
        remote.run_anew(site, store, "site-units.service")
        assert not remote.shell(site, store, f"test -e {home} && echo yes || true")
        found = ask(site, capsys, "find", address)["thư"]
        assert [row["tiêu đề"] for row in found] == ["Gửi phòng"]
    finally:
        with bound(site, *service(site, "accounts")) as accounts:
            accounts.delete(dn)
        remote.shell(site, store, f"rm -rf {home}; find {FOLDER} -name '*{code}*' -delete")


@pytest.mark.regulation("8")
def test_a_mailbox_stays_where_its_archive_is_damaged(departed: Departed) -> None:
    code = CUT.format(owner="program.Store", name="remove", after=0)
    departed.shell("python3 -B - || test $? = 137", stdin=code)
    (name,) = departed.entry()["mailboxArchive"]
    departed.shell(f"printf x >>{FOLDER}/{name}.tar.zst.age")
    assert not nightly(departed)
    assert departed.on_store()


@pytest.mark.regulation("8")
def test_what_is_held_is_not_archived(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with made(site) as departed:
        later = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
        ask(site, capsys, "hold", departed.address, "--until", later, "--reason", "thanh tra")
        assert nightly(departed)
        assert departed.state() == "departed"
        assert departed.on_store()
        # By order it is, and whoever is in service is not.
        ask(site, capsys, "now", departed.address)
        assert departed.state() == "archived"
        departed.person.write(mailboxState="active", mailboxRetainUntil=[])
        assert archive.main(["--env", site.environment, "now", departed.address]) == 1
        # The archive of somebody who came back has its own end.
        ask(site, capsys, "hold", departed.address, "--until", "2026-01-31", "--reason", "thử")
        assert nightly(departed)
        assert departed.state() == "active"
        assert "mailboxArchive" not in departed.entry()
        assert len(departed.entry()["mailboxPurgeRecord"]) == 1


@pytest.mark.regulation("8")
def test_an_archive_is_destroyed_when_its_time_is_over_with_a_certificate(
    departed: Departed,
) -> None:
    assert nightly(departed)
    (name,) = departed.entry()["mailboxArchive"]
    digest = departed.shell(f"sha256sum {FOLDER}/{name}.tar.zst.age").split()[0]
    assert nightly(departed)
    assert departed.state() == "archived"
    departed.person.write(mailboxRetainUntil="20260101000000Z")
    assert nightly(departed)
    entry = departed.entry()
    assert entry["mailboxState"] == ["purged"]
    assert "mailboxArchive" not in entry
    assert "mailboxRetainUntil" not in entry
    (record,) = entry["mailboxPurgeRecord"]
    assert sorted(departed.files()) == [
        f"{FOLDER}/certificates/{record}.json", f"{FOLDER}/certificates/{record}.txt",
    ]  # fmt: skip
    text = departed.shell(f"cat {FOLDER}/certificates/{record}.txt")
    for part in (departed.address, "Số thư: 5", digest, "archive.archive_keep", "site-archive"):
        assert part in text


@pytest.mark.regulation("8")
@pytest.mark.parametrize(("name", "after"), [("_unlink", 0), ("_put", 1)])
def test_a_destruction_that_is_cut_off_is_completed(
    departed: Departed, name: str, after: int
) -> None:
    assert nightly(departed)
    departed.person.write(mailboxRetainUntil="20260101000000Z")
    code = CUT.format(owner="program.Store", name=name, after=after)
    departed.shell("python3 -B - || test $? = 137", stdin=code)
    assert departed.state() == "archived"
    assert nightly(departed)
    assert departed.state() == "purged"
    assert sorted(path.rpartition(".")[2] for path in departed.files()) == ["json", "txt"]


def test_two_runs_do_not_meet_and_the_catalogue_is_always_readable(
    departed: Departed, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = f"flock {FOLDER}/lock"
    place = f"people/{departed.person.number}"
    said = departed.shell(f"{lock} site-archive now {place} 2>&1; echo $?")
    assert "another run is at work" in said
    assert said.split()[-1] == "1"
    assert departed.shell(f"{lock} site-archive list").startswith("[")
    assert departed.state() == "departed"
    ask(departed.site, capsys, "now", departed.address)
    assert departed.state() == "archived"


@pytest.mark.regulation("8")
def test_an_operator_destroys_an_archive_with_a_reason(
    departed: Departed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightly(departed)
    reason = 'Quyết định số 12/QĐ-VP; "hủy"'
    said = ask(departed.site, capsys, "purge", departed.address, "--reason", reason)
    path = str(said["biên bản"]).partition(":")[2]
    text = departed.shell(f"cat '{path}'")
    assert f"Căn cứ: {reason}" in text
    assert f"Người thực hiện: {archive.operator()}" in text
    assert departed.state() == "purged"


@pytest.mark.regulation("8", "13")
def test_the_archives_service_ends_mailboxes_and_does_nothing_else(site: Site) -> None:
    with newcomers(site, 1) as (person,), bound(site, *service(site, "archive")) as connection:
        attempts = (
            {"mailboxState": [(MODIFY_REPLACE, ["archived"])]},
            {"mailboxRetainUntil": [(MODIFY_REPLACE, ["20200101000000Z"])]},
            {"mailboxArchive": [(MODIFY_ADD, ["people/x-20260101000000Z"])]},
        )
        for change in attempts:
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.modify(person.dn, change)
        person.write(mailboxState="departed")
        for change in (
            {"mailboxState": [(MODIFY_REPLACE, ["active"])]},
            {"mailboxGroup": [(MODIFY_ADD, ["stttt"])]},
            {"mail": [(MODIFY_REPLACE, ["khac@vidu.example"])]},
            {"userPassword": [(MODIFY_REPLACE, ["Mat khau du dai 3"])]},
        ):
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.modify(person.dn, change)
        connection.modify(
            person.dn, {"mailboxRetainUntil": [(MODIFY_REPLACE, ["20300101000000Z"])]}
        )


@pytest.mark.regulation("8")
def test_what_fails_is_seen_and_the_others_do_not_wait(site: Site) -> None:
    """A letter that cannot be read: nothing of that mailbox goes, and the next night takes it."""
    with made(site) as one, made(site) as other:
        letter = f"/var/vmail/people/{one.person.number}/mail/mailboxes/INBOX/dbox-Mails/u.1"
        one.shell(f"mv {letter} {letter}.away")
        began = one.shell("date +%s").strip()
        assert not nightly(one)
        log = one.shell(f"journalctl -q -o cat -t site-archive --since=@{began}")
        assert f"people/{one.person.number}: " in log
        assert (one.state(), one.on_store(), one.files()) == ("departed", True, [])
        assert (other.state(), other.on_store()) == ("archived", False)
        one.shell(f"mv {letter}.away {letter}")
        one.shell(f"doveadm force-resync -u {one.address} INBOX")
        assert nightly(one)
        assert one.state() == "archived"


@pytest.mark.regulation("8")
def test_what_is_wrong_with_an_archive_is_seen(departed: Departed) -> None:
    """What `make verify` asks of every store, of an archive that is not as it was made."""
    assert nightly(departed)
    (name,) = departed.entry()["mailboxArchive"]
    archive_, index = f"{name}.tar.zst.age", f"{name}.index.gz.age"

    def seen() -> list[str]:
        found = damaged(departed.shell, FOLDER)
        return [fault for fault in found if departed.person.number in fault]

    for change, back, faults in (
        (
            f"printf x >>{archive_}", f"truncate -s -1 {archive_}",
            [f"{archive_} has another size than is described"],
        ),
        (f"mv {index} away", f"mv away {index}", [f"{index} is missing"]),
        (
            f"cp -p {index} away && printf mo >{index}", f"mv away {index}",
            [f"{index} is not encrypted"],
        ),
        (
            f"mv {name}.json away", f"mv away {name}.json",
            [f"{archive_} belongs to no description", f"{index} belongs to no description"],
        ),
    ):  # fmt: skip
        assert seen() == []
        departed.shell(f"cd {FOLDER} && {change}")
        assert sorted(seen()) == sorted(faults)
        departed.shell(f"cd {FOLDER} && {back}")
    assert seen() == []
