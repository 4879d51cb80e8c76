"""Restoring mail without a host: what comes back, what stays, and what a cut-off run leaves."""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deploy import restore_mail
from roles.backup import restoring
from roles.backup.restoring import Request, Restorer
from roles.backup.snapshots import RestoreError
from roles.backup.stages import MAIL_STAGE
from roles.common.errors import SiteError
from roles.common.site import load

HOME = "people/1042"
MINE = Request(HOME, "anv@tiengiang.gov.vn", "2026-11-20T08:00:00+07:00", restored="Khôi phục")
SNAPSHOTS = [
    {"time": "2026-11-20T00:30:00.123456789Z", "id": "a" * 64, "tags": ["part=mail"]},
    {"time": "2026-11-20T07:30:00.5+07:00", "id": "b" * 64, "tags": ["part=mail"]},
    {"time": "2026-11-20T09:00:00+07:00", "id": "c" * 64, "tags": ["part=mail"]},
]
Mailbox = dict[str, list[str]]
"""GUIDs by folder."""


class Fake:
    """What restic and doveadm do, as far as a restore asks them."""

    def __init__(self, path: Path, then: Mailbox, now: Mailbox) -> None:
        self.mail, self.then, self.now = path / "vmail", then, now
        self.backup = path / "backup"
        self.seen: Mailbox = {}
        self.read: Mailbox = {}
        """What a reader of a unit had read, and has."""
        self.commands: list[Sequence[str]] = []
        self.cut = -1
        """After how many imports the run is cut off."""
        for home, folders in ((self.backup / HOME, then), (self.mail / HOME, now)):
            for name in folders:
                restoring._box(home, name).mkdir(parents=True)

    def restorer(self, request: Request = MINE) -> Restorer:
        """Somebody who restores."""
        return Restorer(request, self.mail, self.run)

    def run(self, arguments: Sequence[str]) -> str:
        """A command."""
        self.commands.append(arguments)
        if "snapshots" in arguments:
            return json.dumps(SNAPSHOTS)
        if "ls" in arguments:
            path = Path(arguments[-1])
            below = self.backup / path.relative_to(MAIL_STAGE)
            names = [found.name for found in below.iterdir()] if below.is_dir() else []
            return "\n".join(
                json.dumps({"type": "dir", "name": name, "path": str(path / name)})
                for name in names
            )
        if "restore" in arguments:
            path = Path(arguments[arguments.index("restore") + 1].partition(":")[2])
            shutil.copytree(
                self.backup / path.relative_to(MAIL_STAGE),
                arguments[arguments.index("--target") + 1],
                symlinks=True, dirs_exist_ok=True,
            )  # fmt: skip
        if "fetch" in arguments:
            return self._fetch(arguments)
        if "import" in arguments:
            self.bring(arguments)
        if "flags" in arguments:
            folder = arguments[arguments.index("mailbox") + 1]
            self.read.setdefault(folder, []).extend(_guids(arguments))
        return ""

    def _fetch(self, arguments: Sequence[str]) -> str:
        folder = arguments[arguments.index("mailbox") + 1]
        if arguments[-1] == "seen":
            then = any("mail_index_private_path=" in word for word in arguments)
            found = (self.seen if then else self.read).get(folder, [])
            return json.dumps([{"guid": guid} for guid in found])
        box = self.then if any("mail_path=" in word for word in arguments) else self.now
        found = [guid for guid in box.get(folder, [])
                 if "header" not in arguments or guid in arguments]  # fmt: skip
        return json.dumps(
            [{"guid": g, "size.physical": "10", "hdr.subject.utf8": f"thư {g}"} for g in found]
        )

    def bring(self, arguments: Sequence[str]) -> None:
        """Letters come into the mailbox."""
        if self.cut == 0:
            raise RestoreError("cut off")
        self.cut -= 1
        start = arguments.index("mailbox")
        above, folder = arguments[start - 1], arguments[start + 1]
        guids = _guids(arguments)
        there = f"{above}/{folder}" if above else folder
        self.now.setdefault(there, []).extend(guids)
        restoring._box(self.mail / HOME, there).mkdir(parents=True, exist_ok=True)


def _guids(arguments: Sequence[str]) -> list[str]:
    return [arguments[n + 1] for n, word in enumerate(arguments) if word == "guid"]


@pytest.fixture(autouse=True)
def _no_chown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "chown", lambda *_: None)


def test_the_last_backup_not_after_the_time_counts(tmp_path: Path) -> None:
    plan = Fake(tmp_path, {"INBOX": ["a"]}, {"INBOX": []}).restorer().plan()
    assert plan.snapshot.id == "b" * 64
    assert plan.said()["taken"] == "2026-11-20T00:30:00.500000+00:00"
    early = replace(MINE, at="2026-11-19T08:00:00+07:00")
    with pytest.raises(RestoreError, match="no backup of mail as old as 2026-11-19"):
        Fake(tmp_path / "b", {"INBOX": []}, {}).restorer(early).plan()


@pytest.mark.parametrize(
    ("then", "now", "back"),
    [
        ({"INBOX": ["a", "b"]}, {"INBOX": ["b", "new"]}, [("INBOX", "a")]),
        # Filed anew: it stays where its owner put it.
        ({"INBOX": ["a"]}, {"INBOX": [], "Đề án": ["a"]}, []),
        ({"INBOX": ["a"]}, {"Trash": ["a"]}, [("INBOX", "a")]),
        ({"INBOX": ["a"]}, {".EXPUNGED": ["a"]}, [("INBOX", "a")]),
        ({"INBOX": ["a"]}, {"Khôi phục/2026-11-19 0800/INBOX": ["a"]}, [("INBOX", "a")]),
        ({"Trash": ["a"]}, {"Trash": ["a"]}, []),
        ({"INBOX": ["a"], ".EXPUNGED": ["x"], "Khôi phục/1/INBOX": ["y"]}, {}, [("INBOX", "a")]),
    ],
)
def test_what_comes_back_in_place(
    tmp_path: Path, then: Mailbox, now: Mailbox, back: list[tuple[str, str]]
) -> None:
    plan = Fake(tmp_path, then, now).restorer().plan()
    assert [(letter.folder, letter.guid) for letter in plan.letters] == back


def test_a_plan_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a"], "Cũ": []}, {"INBOX": []})
    restorer = fake.restorer()
    said = restorer.plan().said()
    restorer.forget()
    assert said["letters"] == said["then"] == 1
    assert said["bytes"] == 10
    assert said["by_folder"] == {"INBOX": 1}
    assert said["folders"] == ["Cũ"]
    assert fake.now == {"INBOX": []}
    assert list((fake.mail / ".restore").iterdir()) == []


def test_it_comes_back_and_what_is_there_stays(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a", "b"], "Đề án": ["c"]}, {"INBOX": ["new", "b"]})
    assert len(fake.restorer().apply().letters) == 2
    assert fake.now == {"INBOX": ["new", "b", "a"], "Đề án": ["c"]}
    assert list((fake.mail / ".restore").iterdir()) == []
    assert fake.restorer().apply().letters == ()


def test_what_was_prepared_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("1")
    monkeypatch.setattr(restoring, "_BOOT", boot)
    fake = Fake(tmp_path, {"INBOX": ["a", "b"]}, {"INBOX": []})

    def fetched() -> int:
        return sum("restore" in words for words in fake.commands)

    fake.restorer().plan()
    fake.restorer().plan()
    assert fetched() == 1
    # Of what was written before a power failure, some may be missing.
    boot.write_text("2")
    assert len(fake.restorer().apply().letters) == 2
    assert fetched() == 2
    assert list((fake.mail / ".restore").iterdir()) == []


def test_beside_everything_of_that_time_appears_once(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a", "b"]}, {"INBOX": ["b"]})
    beside = replace(MINE, beside="Khôi phục/2026-11-20 0800")
    for count in (2, 0):
        assert len(fake.restorer(beside).apply().letters) == count
    assert fake.now["Khôi phục/2026-11-20 0800/INBOX"] == ["a", "b"]
    assert fake.now["INBOX"] == ["b"]


def test_one_folder_has_those_below_it(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"A": ["a"], "A/B": ["b"], "AB": ["c"]}, {})
    plan = fake.restorer(replace(MINE, folder="A")).plan()
    assert [letter.guid for letter in plan.letters] == ["a", "b"]
    with pytest.raises(RestoreError, match="Không có: no such folder"):
        fake.restorer(replace(MINE, folder="Không có")).plan()


def test_one_letter_alone(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a", "b"], "Sent": ["c"]}, {})
    plan = fake.restorer(replace(MINE, message_id="b")).plan()
    assert [letter.guid for letter in plan.letters] == ["b"]
    # Folders, scripts and subscriptions are the whole mailbox' business.
    assert (plan.folders, plan.subscriptions, plan.scripts) == ((), (), ())


def test_letters_by_words_of_the_subject(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["Đề án 5", "Đề án 6"]}, {})
    plan = fake.restorer(replace(MINE, subject="THƯ de an 5")).plan()
    assert [letter.guid for letter in plan.letters] == ["Đề án 5"]
    assert plan.folders == ()


def test_scripts_and_subscriptions_that_are_missing_come_back(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": [], "Đề án/2026": []}, {"INBOX": []})
    home = fake.backup / HOME
    (home / "sieve").mkdir()
    for name in ("cũ.sieve", "thu.sieve"):
        (home / "sieve" / name).write_text("keep;")
    (home / ".dovecot.sieve").symlink_to("sieve/cũ.sieve")
    (home / "mail/subscriptions").write_text("V\t2\n\nINBOX\nĐề án\t2026\nGone\n")
    (fake.mail / HOME / "sieve").mkdir()
    (fake.mail / HOME / "sieve/thu.sieve").write_text("discard;")
    (fake.mail / HOME / "mail/subscriptions").write_text("V\t2\n\nINBOX\n")
    plan = fake.restorer().apply()
    assert plan.scripts == ("cũ.sieve",)
    assert plan.subscriptions == ("Đề án/2026",)
    ends = [list(words[-2:]) for words in fake.commands]
    assert [MINE.address, "cũ"] in ends
    assert any(words[-3:-1] == ["-u", MINE.address] and words[-1] == "Đề án/2026"
               for words in map(list, fake.commands))  # fmt: skip


def test_a_run_that_is_cut_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_BATCH", 2)
    unit = Request(HOME, "stttt@tiengiang.gov.vn", MINE.at, units="Đơn vị",
                   readers={"people/17": "btt@tiengiang.gov.vn"})  # fmt: skip
    fake = Fake(tmp_path, {"INBOX": list("abcde")}, {"INBOX": ["e"]})
    # What a reader has read lies below the name of the home, whatever the unit's address.
    (fake.backup / "people/17/units" / HOME.partition("/")[2]).mkdir(parents=True)
    fake.seen = {"Đơn vị/stttt": ["a", "d", "e"]}
    fake.cut = 1
    with pytest.raises(RestoreError, match="cut off"):
        fake.restorer(unit).apply()
    assert fake.now["INBOX"] == ["e", "a", "b"]
    # Who plans meanwhile takes nothing away.
    other = fake.restorer(unit)
    other.plan()
    other.forget()
    fake.cut = -1
    fake.commands.clear()
    assert [letter.guid for letter in fake.restorer(unit).apply().letters] == ["c", "d"]
    assert sorted(fake.now["INBOX"]) == list("abcde")
    # Read again for its reader: what either run brought, and nothing that was there.
    (flags,) = [words for words in fake.commands if "flags" in words]
    assert _guids(flags) == ["a", "d"]
    assert list((fake.mail / ".restore").iterdir()) == []


def test_letters_that_do_not_come_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a"]}, {"INBOX": []})
    monkeypatch.setattr(fake, "bring", lambda _: None)
    with pytest.raises(RestoreError, match="INBOX: 1 letters did not come; run it again"):
        fake.restorer().apply()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no request"),
        ('{"home": "people/1"}', "no request"),
        (json.dumps({"home": "../x", "address": "", "at": ""}), "home: '../x'; expected such as"),
        (json.dumps({"home": "people/1", "address": "", "at": "", "readers": {"x": ""}}), "'x'"),
    ],
)
def test_what_is_no_request_is_refused(text: str, message: str) -> None:
    with pytest.raises(RestoreError, match=message):
        Request.read(text)


# -- the operator's side ---------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, 9, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    restore_mail.add_jobs(parser.add_subparsers(dest="job"))
    return parser.parse_args(words)


@pytest.fixture
def _directory(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"mail": ["stttt@tiengiang.gov.vn"], "mailHost": [load("local").store_names[0]],
             "mailboxState": ["active"]}  # fmt: skip
    dn = "cn=stttt,ou=mailboxes,dc=tiengiang,dc=gov,dc=vn"
    monkeypatch.setattr(restore_mail, "mailbox", lambda *_: (dn, entry))
    reader = "employeeNumber=17,ou=people,dc=tiengiang,dc=gov,dc=vn"
    monkeypatch.setattr(restore_mail, "search", lambda *_: [(reader, {"mail": ["btt@x.vn"]})])


@pytest.mark.usefixtures("_directory")
def test_a_request_is_read_as_it_was_written() -> None:
    site = load("local")
    words = options("mailbox", "stttt", "--at", "2026-11-20 08:00", "--beside")
    store, what = restore_mail.request(site, words, NOW)
    read = Request.read(json.dumps(what))
    assert store.name == "store1"
    assert read.home == "mailboxes/stttt"
    assert read.at == "2026-11-20T08:00:00+07:00"
    assert read.beside == "Khôi phục/2026-11-20 0800"
    assert read.readers == {"people/17": "btt@x.vn"}
    assert not read.whole
    assert Request.read(json.dumps({**what, "beside": ""})).whole


@pytest.mark.usefixtures("_directory")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["message", "stttt", "--at", "2026-11-20"], "names no letter"),
        (["message", "stttt", "--at", "2026-11-20", "--subject", "x", "--day", "20.11"], "--day"),
        (["mailbox", "stttt", "--at", "2026-11-22"], "is yet to come"),
        (["mailbox", "stttt", "--at", "bao giờ"], "không phải là thời gian"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(SiteError, match=message):
        restore_mail.request(load("local"), options(*words), NOW)


def test_a_plan_in_words() -> None:
    answer = {
        "taken": "2026-11-20T00:30:00+00:00", "letters": 2, "then": 5, "bytes": 2**20,
        "by_folder": {"INBOX": 2}, "folders": ["Đề án"], "subscriptions": [], "scripts": [],
    }  # fmt: skip
    zone = ZoneInfo("Asia/Ho_Chi_Minh")
    assert restore_mail.shown(answer, {"address": "a@b.vn", "beside": ""}, zone) == [
        "a@b.vn as it was at 2026-11-20 07:30, in place:",
        "  2 of 5 letters come back, 1.0 MiB",
        "    INBOX: 2",
        "  folders that are made: Đề án",
    ]


# -- a mailbox that lay on another store -----------------------------------------------------------


def test_a_store_says_which_backup_has_it(tmp_path: Path) -> None:
    fake = Fake(tmp_path, {"INBOX": ["a"]}, {})
    found = fake.restorer().holds()
    assert found.pop("latest")
    assert found["snapshot"] == "b" * 64
    assert Fake(tmp_path / "b", {}, {}).restorer(replace(MINE, home="people/9")).holds() == {}
    # While it was being moved, a backup of neither store had it: the one before counts.
    whole = fake.run

    def without_the_last(arguments: Sequence[str]) -> str:
        return "" if "ls" in arguments and "b" * 64 in arguments else whole(arguments)

    earlier = Restorer(MINE, fake.mail, without_the_last).holds()
    assert (earlier["snapshot"], earlier["latest"]) == ("a" * 64, False)
    pinned = {name: str(value) for name, value in earlier.items() if name != "latest"}
    assert fake.restorer(replace(MINE, pinned=pinned)).plan().snapshot.id == "a" * 64


def test_what_another_store_fetched_is_brought_back_here(tmp_path: Path) -> None:
    there = Fake(tmp_path / "there", {"INBOX": ["a", "b"]}, {})
    held = {name: value for name, value in there.restorer().holds().items() if name != "latest"}
    folder = Path(there.restorer(replace(MINE, pinned=held)).bring()["folder"])
    here = Fake(tmp_path / "here", {"INBOX": ["a", "b"]}, {"INBOX": ["b"]})
    shutil.rmtree(here.backup)
    request = replace(MINE, pinned=held, elsewhere=True)
    with pytest.raises(RestoreError, match="expected what was carried over"):
        here.restorer(request).plan()
    shutil.copytree(folder, here.mail / ".restore" / folder.name)
    there.restorer(replace(MINE, pinned=held)).forget_fetched()
    assert not folder.exists()
    assert [letter.guid for letter in here.restorer(request).apply().letters] == ["a"]
    assert not any(word in words for words in here.commands for word in ("snapshots", "ls"))


def test_the_store_that_had_it_last_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    site = load("pair")
    home, other = site.hosts["store1"], site.hosts["store2"]
    what = {"source": "", "home": "people/1"}
    moments_ = {"early": "2026-11-20T01:00:00+00:00", "late": "2026-11-20T08:30:00+07:00"}

    def asked(held: dict[str, dict[str, object]]) -> tuple[object, list[str]]:
        carried: list[str] = []
        monkeypatch.setattr(
            restore_mail, "asked",
            lambda _site, store, _job, _what: dict(held.get(store.name, {})),
        )  # fmt: skip
        monkeypatch.setattr(
            restore_mail, "carried", lambda _site, source, *_: carried.append(source.name)
        )
        with restore_mail.found(site, home, dict(what)) as result:
            return result, carried

    def backup(name: str, *, latest: bool) -> dict[str, object]:
        return {"snapshot": name, "settled": moments_[name], "latest": latest}

    # The store where it lies has it: nobody else is asked.
    late, early = backup("late", latest=True), backup("early", latest=False)
    assert asked({home.name: late, other.name: late}) == (what, [])
    pinned = {name: value for name, value in late.items() if name != "latest"}
    elsewhere = what | {"pinned": pinned, "elsewhere": True}
    assert asked({other.name: late}) == (elsewhere, [other.name])
    assert asked({home.name: early, other.name: late}) == (elsewhere, [other.name])
    mine = {name: value for name, value in early.items() if name != "latest"}
    assert asked({home.name: early}) == (what | {"pinned": mine}, [])
    # Nobody has it: the store says so itself.
    assert asked({}) == (what | {"pinned": {}}, [])
