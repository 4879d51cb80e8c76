"""What the backup host keeps, forgets and finds wrong; no host, no restic."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from roles.backup import growth
from roles.backup.copying import copy
from roles.backup.drills import compared, drill
from roles.backup.keeper import Keeper
from roles.backup.letters import Letters
from roles.backup.repositories import LABEL, Config, KeeperError
from roles.backup.retention import CLOCK, SMALL, Policy, Snapshot, doubts, retained
from roles.backup.settings import BackupSettings
from roles.backup.status import status, table
from roles.backup.targets import Target
from roles.common.rendering import render
from roles.common.site import load

NOW = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEEP = {"hourly": 3, "daily": 2, "weekly": 0, "monthly": 2, "yearly": 0}
LETTERS = Letters(
    sender="postmaster@x.vn", recipient="p@x.vn", relays=("mx",), timezone="Asia/Ho_Chi_Minh",
    authority="", certificate="", key="",
)  # fmt: skip
SECOND = Target(
    url="s3:https://s3.vidu.vn/x", passwords={"store1": "its-own"},
    environment={"AWS_ACCESS_KEY_ID": "k"}, authority="", ssh={}, upload_limit=7, stale=2 * 86400,
    prune=True, keep={**dict.fromkeys(KEEP, 0), "daily": 2},
)  # fmt: skip
POLICY = Policy(KEEP, 12 * HOUR, 0.5, ZoneInfo("Asia/Ho_Chi_Minh"))


def snapshot(name: str, age: timedelta, size: int = 1000) -> Snapshot:
    """One that took a minute."""
    written = NOW - age
    return Snapshot(name, "mail", written - timedelta(minutes=1), written, size, 10)


def test_of_each_period_the_last_is_kept() -> None:
    # 09:00 in the province, of which the day began at 17:00 UTC.
    every = [
        snapshot("now", timedelta()), snapshot("minutes", timedelta(minutes=10)),
        snapshot("hours", 2 * HOUR), snapshot("night", 8 * HOUR), snapshot("evening", 10 * HOUR),
        snapshot("old", 3 * DAY), snapshot("october", 30 * DAY), snapshot("september", 70 * DAY),
    ]  # fmt: skip
    assert retained(every, POLICY, NOW) == {"now", "minutes", "hours", "evening", "october"}


def test_the_last_is_never_forgotten() -> None:
    nothing = replace(POLICY, keep=dict.fromkeys(KEEP, 0))
    assert retained([snapshot("a", 99 * DAY), snapshot("b", 98 * DAY)], nothing, NOW) == {"b"}


@pytest.mark.parametrize("lag", [-DAY, -400 * DAY, 13 * HOUR, 400 * DAY])
def test_a_snapshot_whose_time_is_another_takes_no_place(lag: timedelta) -> None:
    """The attack on append-only repositories: times of many periods, so that true ones go."""
    true = [snapshot(f"true{hours}", hours * HOUR) for hours in range(1, 4)]
    false = [
        replace(snapshot(f"false{n}", timedelta(seconds=n)), taken=NOW - lag * (n + 1))
        for n in range(20)
    ]
    kept = retained([*true, *false], POLICY, NOW)
    assert {one.id for one in true} <= kept
    assert set(doubts([*true, *false], POLICY).values()) == {CLOCK}


def test_an_empty_snapshot_takes_no_place() -> None:
    true = [snapshot("true", timedelta(minutes=30)), snapshot("before", 20 * HOUR)]
    every = [*true, snapshot("empty", timedelta(minutes=2), size=10)]
    assert doubts(every, POLICY) == {"empty": SMALL}
    assert retained(every, POLICY, NOW) == {"true", "before", "empty"}


def test_what_shrank_for_good_is_doubtful_for_a_week_only() -> None:
    every = [snapshot("large", 9 * DAY), snapshot("small", 8 * DAY, 100)]
    assert doubts([*every, snapshot("later", DAY, 100)], POLICY) == {"small": SMALL}


def test_doubtful_ones_go_in_the_end() -> None:
    every = [snapshot("large", 100 * DAY), snapshot("small", 99 * DAY, 1), snapshot("now", 0 * DAY)]
    assert "small" not in retained(every, POLICY, NOW)


# -- comparing -------------------------------------------------------------------------------------


def line(content: bytes, path: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {len(content)} {path}\n"


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A restored stage of two files, one with a whole path."""
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / "một lá thư").write_bytes(b"a")
    (tmp_path / "archive").write_bytes(b"bc")
    (folder / "MANIFEST").write_text(line(b"bc", "/archive") + line(b"a", "một lá thư"))
    return folder


def test_what_is_as_it_was_is_counted(stage: Path) -> None:
    assert compared(stage / "MANIFEST", stage.parent) == (2, 3)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("archive", b"bd", "archive: is not what was backed up"),
        ("archive", b"b", "archive: is not what was backed up"),
        ("archive", None, "archive: is missing"),
        ("stage/more", b"", "stage/more: is not in the MANIFEST"),
        ("stage/MANIFEST", b"abc 1 x\n", "MANIFEST:1: 'abc 1 x'; expected SHA256 SIZE PATH"),
    ],
)
def test_what_differs_is_named(stage: Path, path: str, content: bytes | None, words: str) -> None:
    target = stage.parent / path
    if content is None:
        target.unlink()
    else:
        target.write_bytes(content)
    with pytest.raises(KeeperError, match=words):
        compared(stage / "MANIFEST", stage.parent)


# -- a keeper with a restic of its own -------------------------------------------------------------


class Restic:
    """Answers as restic does, and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[list[str]] = []
        self.items: list[dict[str, Any]] = []
        self.failing: set[str] = set()
        self.there: list[dict[str, Any]] | None = None
        """Snapshots of a further target; None: it has no repository yet."""
        self.environment: Mapping[str, str] = {}

    def add(self, name: str, age: timedelta, *, size: int = 1000, part: str = "mail") -> None:
        """A snapshot that was written so long ago."""
        written = NOW - age
        path = self.folder / "store1" / "snapshots" / name
        path.touch()
        os.utime(path, (written.timestamp(), written.timestamp()))
        self.items.append({
            "id": name, "time": written.isoformat(), "hostname": "store1",
            "tags": [f"part={part}"],
            "summary": {"total_bytes_processed": size, "data_added_packed": 7},
        })  # fmt: skip

    def __call__(
        self, command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({}), /
    ) -> str:
        """Answer a command line."""
        self.asked.append(list(command))
        for word in self.failing:
            if word in command:
                raise KeeperError(f"{word}: broken")
        if "RESTIC_REPOSITORY" in environment:
            self.environment = environment
            return self._elsewhere(command)
        return json.dumps(self.items) if "snapshots" in command else ""

    def _elsewhere(self, command: Sequence[str]) -> str:
        if "init" in command and self.there is None:
            self.there = []
        if self.there is None:
            raise KeeperError("there is no repository")
        if "copy" in command:
            self.there += [item for item in self.items if item["id"] in command]
        return json.dumps(self.there) if "snapshots" in command else ""

    def jobs(self, *names: str) -> list[str]:
        """Which of these it was told to do, in turn."""
        return [word for command in self.asked for word in command if word in names]

    def forgotten(self) -> set[str]:
        """The ids that it was told to forget."""
        return {
            word
            for command in self.asked
            if "forget" in command
            for word in command[command.index("forget") + 1 :]
            if not word.startswith("--")
        }


@pytest.fixture
def restic(tmp_path: Path) -> Restic:
    """A repository of one host."""
    (tmp_path / "store1" / "snapshots").mkdir(parents=True)
    return Restic(tmp_path)


@pytest.fixture
def keeper(tmp_path: Path, restic: Restic) -> Keeper:
    """Its keeper."""
    config = Config(
        folder=tmp_path, password=Path("/password"), state=tmp_path, hosts={"store1": ["mail"]},
        keep=KEEP, small=0.5, patience=43200, stale=4 * 3600, drilled=15 * 86400, free=0.0,
        growth=0.0,
        shares=3, letters=LETTERS, targets={},
    )  # fmt: skip
    return Keeper(config, restic, lambda: NOW)


def test_the_role_writes_what_the_keeper_reads(tmp_path: Path) -> None:
    text = render(
        "backup/etc/site-backup/keeper.toml.j2",
        {
            "settings": BackupSettings(), "password": "/p", "state": "/s",
            "parts": {"store1": ["mail", "keys"]},
        },
    )  # fmt: skip
    (tmp_path / "keeper.toml").write_text(text)
    (tmp_path / "letters.toml").write_text(
        render(
            "backup/etc/site-backup/letters.toml.j2",
            {
                "site": load("local"), "timezone": "Asia/Ho_Chi_Minh",
                "relays": ["mx1.vidu.vn", "mx2.vidu.vn"],
            },
        )
    )  # fmt: skip
    (tmp_path / "targets.json").write_text("{}")
    read = Config.read(
        tmp_path / "keeper.toml", tmp_path / "letters.toml", tmp_path / "targets.json"
    )
    assert read.hosts == {"store1": ["mail", "keys"]}
    assert read.letters.relays == ("mx1.vidu.vn", "mx2.vidu.vn")
    assert read.letters.recipient == "postmaster@tiengiang.gov.vn"
    assert read.policy.keep["hourly"] == 48
    # Tests with a copy of it cut it off behind this line.
    assert text.partition("[hosts]")[2].count("[") == 1


def test_restic_is_told_which_key_is_the_keepers(keeper: Keeper, restic: Restic) -> None:
    status(keeper)
    assert not any("--key-hint" in word for word in restic.asked[-1])
    keys = restic.folder / "store1" / "keys"
    keys.mkdir()
    for name, label in (("a1", f"{LABEL}0123"), ("b2", "restic-rest-server"), ("c3", f"{LABEL}4")):
        (keys / name).write_text(json.dumps({"username": label, "hostname": "store1"}))
    (keys / "a0").write_text("{damaged")
    status(keeper)
    assert "--key-hint=b2" in restic.asked[-1]


def kinds(keeper: Keeper) -> list[str]:
    return [one["kind"] for one in status(keeper)["alarms"]]


def test_a_good_backup_is_no_alarm(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", 30 * HOUR, size=900)
    restic.add("b", HOUR)
    found = status(keeper)
    assert found["alarms"] == []
    (row,) = found["rows"]
    assert (row["age"], row["size"], row["growth"], row["added"]) == (3600, 1000, 100, 7)
    assert "0d 1h 0min" in table(found)[1]


def watched_since(age: timedelta, keeper: Keeper, restic: Restic) -> None:
    """The keeper has watched for so long; it wrote to nobody at its beginning."""
    letters: list[EmailMessage] = []
    assert Keeper(keeper.config, restic, lambda: NOW - age).watch(letters.append) == 0
    assert letters == []


def test_a_part_that_is_new_has_time_for_its_first_backup(keeper: Keeper, restic: Restic) -> None:
    """The watch of a site that was deployed a minute ago neither writes nor fails."""
    assert kinds(keeper) == []
    watched_since(3 * HOUR, keeper, restic)
    assert kinds(keeper) == []
    later = replace(keeper.config, hosts={"store1": ["mail", "archive"]})
    assert Keeper(later, restic, lambda: NOW).watch(lambda _: None) == 0
    after = status(Keeper(later, restic, lambda: NOW + 2 * HOUR))["alarms"]
    assert [(one["part"], one["kind"]) for one in after] == [("mail", "missing")]


def test_what_is_missing_or_stale_or_small_is_an_alarm(keeper: Keeper, restic: Restic) -> None:
    watched_since(5 * HOUR, keeper, restic)
    assert kinds(keeper) == ["missing"]
    restic.add("a", 5 * HOUR)
    assert kinds(keeper) == ["stale"]
    restic.add("b", HOUR, size=499)
    assert kinds(keeper) == ["small"]
    restic.add("c", HOUR / 2)
    assert kinds(keeper) == []


def test_a_false_time_hides_nothing(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", 5 * HOUR)
    restic.add("b", HOUR)
    restic.items[-1]["time"] = (NOW + DAY).isoformat()
    assert kinds(keeper) == ["stale", "clock"]


def test_what_is_no_part_of_ours_is_told_and_kept(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", HOUR)
    restic.add("b", 900 * DAY, part="other")
    assert kinds(keeper) == ["strange"]
    keeper.prune("store1")
    assert restic.forgotten() == set()


def test_an_unreadable_repository_is_an_alarm(keeper: Keeper, restic: Restic) -> None:
    restic.failing = {"snapshots"}
    assert kinds(keeper) == ["unreadable"]


def test_nobody_restored_for_long_is_an_alarm(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", 16 * DAY)
    restic.add("b", HOUR)
    assert kinds(keeper) == ["unverified"]


def test_only_what_the_policy_does_not_keep_is_forgotten(keeper: Keeper, restic: Restic) -> None:
    for name, hours in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
        restic.add(name, hours * HOUR)
    keeper.prune("store1")
    assert restic.forgotten() == {"d"}
    assert "prune" in restic.asked[-1]


def test_a_damaged_repository_is_not_pruned(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", HOUR)
    restic.failing = {"check"}
    with pytest.raises(KeeperError, match="share 1 of 3: check: broken"):
        keeper.check("store1")
    assert kinds(keeper) == ["damaged"]
    with pytest.raises(KeeperError, match="nothing is forgotten before it is mended"):
        keeper.prune("store1")
    assert restic.forgotten() == set()
    restic.failing = set()
    keeper.check("store1")
    assert kinds(keeper) == []


def test_each_check_reads_the_next_share(keeper: Keeper, restic: Restic) -> None:
    for _ in range(4):
        keeper.check("store1")
    checks = [command for command in restic.asked if "check" in command]
    assert [command[-1].rpartition("=")[2] for command in checks] == ["1/3", "2/3", "3/3", "1/3"]


def test_a_lock_that_somebody_left_does_not_fail_a_check(keeper: Keeper, restic: Restic) -> None:
    """A check that failed keeps from forgetting, whose run would take the lock away."""
    keeper.check("store1")
    assert ["unlock" in command for command in restic.asked] == [True, False]


def test_a_drill_that_fails_is_an_alarm_and_leaves_nothing(
    keeper: Keeper, restic: Restic, tmp_path: Path
) -> None:
    restic.add("a", HOUR)
    with pytest.raises(KeeperError, match="snapshot a has no MANIFEST"):
        drill(keeper, "store1")
    assert kinds(keeper) == ["drill"]
    assert not (tmp_path / "drill").exists()


def test_a_drill_asks_for_room_first(keeper: Keeper, restic: Restic) -> None:
    restic.add("a", HOUR, size=1 << 60)
    with pytest.raises(KeeperError, match="MiB are free; expected"):
        drill(keeper, "store1")
    assert not any("restore" in command for command in restic.asked)


def test_an_alarm_is_told_once_and_its_end_as_well(keeper: Keeper, restic: Restic) -> None:
    letters: list[EmailMessage] = []
    watched_since(5 * HOUR, keeper, restic)
    assert keeper.watch(letters.append) == 2
    assert keeper.watch(letters.append) == 2
    assert [letter["Subject"] for letter in letters] == ["Sao lưu: 1 cảnh báo"]
    assert "store1/mail: missing" in letters[0].get_content()
    restic.add("a", HOUR)
    assert keeper.watch(letters.append) == 0
    assert keeper.watch(letters.append) == 0
    assert [letter["Subject"] for letter in letters[1:]] == ["Sao lưu: đã bình thường"]


def test_a_letter_that_was_not_taken_is_written_again(keeper: Keeper, restic: Restic) -> None:
    watched_since(5 * HOUR, keeper, restic)

    def refuse(_: EmailMessage) -> None:
        raise KeeperError("nobody took it")

    with pytest.raises(KeeperError):
        keeper.watch(refuse)
    letters: list[EmailMessage] = []
    keeper.watch(letters.append)
    assert len(letters) == 1


# -- growth ----------------------------------------------------------------------------------------


class Clock:
    """A time that goes on by hand."""

    now = NOW

    def __call__(self) -> datetime:
        """The time."""
        return self.now


@pytest.fixture
def disk(keeper: Keeper, restic: Restic, monkeypatch: pytest.MonkeyPatch) -> tuple[Keeper, Clock]:
    """A keeper on a disk of 1000 bytes, of which a host may add 200 in a day."""
    for name in ("data/00", "keys"):
        (restic.folder / "store1" / name).mkdir(parents=True)
    usage = shutil.disk_usage(restic.folder)._replace(total=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    clock = Clock()
    return Keeper(replace(keeper.config, growth=0.2), restic, clock), clock


def fill(restic: Restic, number: int) -> None:
    """Add so many bytes, as the server does."""
    name = len(list(restic.folder.glob("store1/data/00/*")))
    (restic.folder / "store1" / "data/00" / str(name)).write_bytes(bytes(number))


def test_who_fills_the_disk_is_shut_out(disk: tuple[Keeper, Clock], restic: Restic) -> None:
    keeper, clock = disk
    letters: list[EmailMessage] = []
    # The first backup of everything may be as large as it is.
    keeper.watch(letters.append)
    fill(restic, 500)
    keeper.watch(letters.append)
    restic.add("a", HOUR)
    keeper.watch(letters.append)
    for _ in range(2):
        clock.now += HOUR
        fill(restic, 100)
        keeper.guard()
        assert "shut" not in kinds(keeper)
    clock.now += HOUR
    fill(restic, 1)
    keeper.watch(letters.append)
    assert "shut" in kinds(keeper)
    assert "store1: shut: it grew too fast" in letters[-1].get_content()
    for folder in (restic.folder / "store1").rglob("*"):
        assert not folder.is_dir() or not folder.stat().st_mode & 0o222
    # Nothing that would write; least of all a check that would call it damaged.
    copying = Keeper(replace(keeper.config, targets={"second": SECOND}), restic, clock)
    for job in (keeper.prune, keeper.check, partial(copy, copying)):
        with pytest.raises(KeeperError, match="it is shut: site-backup-keeper open store1"):
            job("store1")
    assert "damaged" not in kinds(keeper)
    keeper.open("store1")
    assert "shut" not in kinds(keeper)
    assert (restic.folder / "store1/data/00").stat().st_mode & 0o200
    keeper.guard()
    assert "shut" not in kinds(keeper)
    fill(restic, 201)
    keeper.guard()
    assert "shut" in kinds(keeper)


def test_what_was_added_longer_ago_does_not_count(
    disk: tuple[Keeper, Clock], restic: Restic
) -> None:
    keeper, clock = disk
    restic.add("a", HOUR)
    for _ in range(4):
        keeper.guard()
        clock.now += 13 * HOUR
        fill(restic, 90)
    keeper.guard()
    assert "shut" not in kinds(keeper)


def test_a_repository_that_cannot_be_read_any_more_is_measured_nevertheless(
    disk: tuple[Keeper, Clock], restic: Restic
) -> None:
    """Rubbish among its snapshots is no way out."""
    keeper, _ = disk
    restic.add("a", HOUR)
    keeper.guard()
    restic.failing = {"snapshots"}
    fill(restic, 300)
    keeper.guard()
    assert growth.is_shut(restic.folder / "store1")


def test_a_run_that_was_cut_off_while_it_shut_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data/00", "locks"):
        (tmp_path / name).mkdir(parents=True)
    change = Path.chmod

    def cut_off(path: Path, mode: int) -> None:
        if path.name == "00":
            raise KeyboardInterrupt
        change(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "chmod", cut_off)
        with pytest.raises(KeyboardInterrupt):
            growth.shut(tmp_path)
    assert not growth.is_shut(tmp_path)
    growth.shut(tmp_path)
    assert growth.is_shut(tmp_path)
    growth.reopen(tmp_path)
    assert (tmp_path / "locks").stat().st_mode & 0o200


# -- further targets -------------------------------------------------------------------------------


@pytest.fixture
def copier(keeper: Keeper, restic: Restic) -> Keeper:
    """The keeper, with a second place."""
    return Keeper(replace(keeper.config, targets={"second": SECOND}), restic, lambda: NOW)


def test_the_last_true_backup_of_each_part_is_copied(copier: Keeper, restic: Restic) -> None:
    restic.add("a", 3 * HOUR)
    restic.add("b", 2 * HOUR)
    restic.add("false", HOUR)
    restic.items[-1]["time"] = (NOW + DAY).isoformat()
    copy(copier, "store1")
    assert restic.there is not None
    assert [item["id"] for item in restic.there] == ["b"]
    assert restic.environment["RESTIC_REPOSITORY"] == "s3:https://s3.vidu.vn/x/store1"
    assert restic.environment["RESTIC_PASSWORD"] == "its-own"
    (command,) = [words for words in restic.asked if "copy" in words]
    assert "--limit-upload=7" in command
    assert not any("its-own" in word for words in restic.asked for word in words)
    # Made once, not each time; and left to itself while nothing is to be forgotten.
    copy(copier, "store1")
    assert restic.jobs("init", "copy", "forget", "prune") == ["init", "copy", "copy"]


def test_one_target_may_be_copied_to_alone(copier: Keeper, restic: Restic) -> None:
    restic.add("a", 3 * HOUR)
    with pytest.raises(KeeperError, match="third: no further target; expected one of second"):
        copy(copier, "store1", "third")
    assert restic.there is None
    both = {"second": SECOND, "third": replace(SECOND, url="s3:https://s3.vidu.vn/y")}
    copy(Keeper(replace(copier.config, targets=both), restic, lambda: NOW), "store1", "third")
    assert restic.environment["RESTIC_REPOSITORY"] == "s3:https://s3.vidu.vn/y/store1"
    assert restic.jobs("copy") == ["copy"]


def test_before_the_first_backup_there_is_nothing_to_copy(copier: Keeper, restic: Restic) -> None:
    copy(copier, "store1")
    assert restic.jobs("init", "copy") == []
    assert kinds(copier) == []
    # Snapshots that are none of ours are no backup; true ones with a false time are.
    restic.add("strange", HOUR, part="other")
    copy(copier, "store1")
    restic.add("false", HOUR)
    restic.items[-1]["time"] = (NOW + DAY).isoformat()
    with pytest.raises(KeeperError, match="no backup that could be copied"):
        copy(copier, "store1")


def test_where_no_further_target_is_set_nothing_is_read(keeper: Keeper, restic: Restic) -> None:
    restic.failing = {"snapshots"}
    copy(keeper, "store1")
    assert restic.asked == []


def old(restic: Restic) -> list[dict[str, Any]]:
    """Copies of two days before, of which the second place keeps one besides the newest."""
    return [
        {**restic.items[0], "id": name, "time": (NOW - age).isoformat()}
        for name, age in (("oldest", 9 * DAY), ("older", 8 * DAY))
    ]


def test_there_the_places_own_numbers_count(copier: Keeper, restic: Restic) -> None:
    restic.add("now", HOUR)
    restic.there = old(restic)
    copy(copier, "store1")
    assert restic.forgotten() == {"oldest"}
    assert restic.jobs("copy", "forget", "prune") == ["copy", "forget", "prune"]


def test_a_place_that_takes_no_deletion_is_asked_for_none(copier: Keeper, restic: Restic) -> None:
    restic.add("now", HOUR)
    restic.there = old(restic)
    target = replace(SECOND, prune=False)
    copy(Keeper(replace(copier.config, targets={"second": target}), restic, lambda: NOW), "store1")
    assert restic.forgotten() == set()


def test_the_copies_of_a_damaged_repository_are_not_forgotten(
    copier: Keeper, restic: Restic
) -> None:
    restic.add("now", HOUR)
    restic.there = old(restic)
    restic.failing = {"check"}
    with pytest.raises(KeeperError):
        copier.check("store1")
    restic.failing = set()
    copy(copier, "store1")
    assert restic.forgotten() == set()


def test_a_copy_that_fails_or_is_too_old_is_an_alarm(copier: Keeper, restic: Restic) -> None:
    restic.add("a", 3 * DAY)
    restic.add("b", HOUR)
    assert kinds(copier) == ["uncopied"]
    copy(copier, "store1")
    found = status(copier)
    assert found["alarms"] == []
    assert found["copies"] == [
        {"target": "second", "host": "store1", "copied": NOW.isoformat(), "age": 0}
    ]
    (shown,) = [line for line in table(found) if "second" in line]
    assert shown == f"copy at second: store1: last {NOW.isoformat()}, age 0d 0h 0min"
    restic.failing = {"copy"}
    with pytest.raises(KeeperError, match="second: copy: broken"):
        copy(copier, "store1")
    found = status(copier)
    assert [one["kind"] for one in found["alarms"]] == ["copy"]
    assert found["copies"][0]["copied"] == NOW.isoformat()
    later = Keeper(copier.config, restic, lambda: NOW + 3 * DAY)
    assert {"copy", "uncopied"} <= set(kinds(later))


def test_why_a_place_is_not_reached_is_said_not_that_it_is_not_made(
    copier: Keeper, restic: Restic
) -> None:
    restic.add("a", HOUR)
    restic.failing = {"cat", "init"}
    with pytest.raises(KeeperError, match="second: cat: broken"):
        copy(copier, "store1")


def test_an_unknown_host_is_named(keeper: Keeper) -> None:
    with pytest.raises(KeeperError, match="store9: no repository; expected some of store1"):
        keeper.each(["store9"], lambda _: None)
