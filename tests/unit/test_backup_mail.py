"""The stage of mailboxes, with a stand-in that locks, saves, moves and expunges as Dovecot does."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roles.backup import mail
from roles.backup.mail import Stage
from roles.backup.stages import MANIFEST
from roles.common.site import ROOT
from tests.waiting import until

LOG = "dovecot.index.log"
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
TRY = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""
MOVE = """
import fcntl, os, sys
from pathlib import Path

def change(folder, act):
    with (folder / "dovecot.index.log").open("r+b") as log:
        fcntl.lockf(log, fcntl.LOCK_EX)
        uids = set(log.read().split())
        act(uids)
        log.seek(0)
        log.truncate()
        log.write(b" ".join(sorted(uids)))
        log.flush()

folders = [Path(name) for name in sys.argv[1:]]
uid = 1000
print("moving", flush=True)
while True:
    for source, target in zip(folders, [*folders[1:], folders[0]]):
        for letter in sorted(source.glob("u.*"))[:2]:
            uid += 1
            new = target / f"u.{uid}"
            def save(uids):
                os.link(letter, new)
                uids.add(b"%d" % uid)
            change(target, save)
            change(source, lambda uids: uids.remove(letter.name[2:].encode()))
            # As Dovecot does: when the index does not name it any more, without the lock.
            letter.unlink()
"""


class Store:
    """A store of a few homes, and its stage."""

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        self.mail, self.folder = path / "vmail", path / "vmail" / ".backup"
        self.mail.mkdir()
        self.stage = Stage(self.mail, self.folder, path / "known.sqlite", patience)

    def box(self, home: str, folder: str) -> Path:
        """Where a folder's letters lie."""
        return self.mail / home / "mail/mailboxes" / folder / "dbox-Mails"

    def staged(self, home: str, folder: str) -> Path:
        """Where they lie in the stage."""
        return self.folder / home / "mail/mailboxes" / folder / "dbox-Mails"

    def save(self, home: str, folder: str, *contents: str) -> Path:
        """Letters in a folder, by UIDs from 1."""
        box = self.box(home, folder)
        box.mkdir(parents=True, exist_ok=True)
        for uid, content in enumerate(contents, start=1):
            (box / f"u.{uid}").write_text(content)
        (box / LOG).write_text(" ".join(str(uid) for uid, _ in enumerate(contents, start=1)))
        (box / "dovecot.index").write_text("index")
        return box


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@contextmanager
def process(program: str, *arguments: Path | str) -> Iterator[subprocess.Popen[str]]:
    """A process beside, which has begun."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=pipe, stdout=pipe, text=True
    ) as beside:
        assert beside.stdout is not None
        beside.stdout.readline()
        try:
            yield beside
        finally:
            beside.kill()


def free(log: Path) -> bool:
    """Whether Dovecot would get the lock at once."""
    done = subprocess.run([sys.executable, "-c", TRY, log], check=False)
    assert done.returncode in (0, 3)
    return done.returncode == 0


def test_letters_are_linked_and_what_changes_is_copied(store: Store) -> None:
    box = store.save("people/1", "Đề án/2026", "a", "bc")
    done = store.stage.take()
    staged = store.staged("people/1", "Đề án/2026")
    assert done.homes == 1
    assert done.letters == 2
    assert (staged / "u.1").samefile(box / "u.1")
    assert (staged / LOG).read_bytes() == (box / LOG).read_bytes()
    assert not (staged / LOG).samefile(box / LOG)
    assert not (staged / "dovecot.index").samefile(box / "dovecot.index")


def test_scripts_rights_and_readers_states_are_in_it(store: Store) -> None:
    store.save("people/1", "INBOX")
    home = store.mail / "people/1"
    pvt = "units/stttt/mailboxes/INBOX/dbox-Mails/dovecot.index.pvt.log"
    for name in ("mail/subscriptions", "sieve/thu.sieve", pvt):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (home / ".dovecot.sieve").symlink_to("sieve/thu.sieve")
    store.stage.take()
    for name in ("mail/subscriptions", "sieve/thu.sieve", pvt, ".dovecot.sieve"):
        assert (store.folder / "people/1" / name).read_text() == (home / name).read_text()
    assert (store.folder / "people/1/.dovecot.sieve").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["fts-flatcurve/docdata.glass", "dovecot.index.cache", "dovecot.index.log.newlock",
     ".temp.1.2", "temp.1", "dovecot.index.tmp", "dovecot.list.index.cache"],
)  # fmt: skip
def test_what_is_made_anew_or_half_written_is_left_out(store: Store, name: str) -> None:
    box = store.save("people/1", "INBOX", "a")
    (box / name).parent.mkdir(exist_ok=True)
    (box / name).write_text("x")
    store.stage.take()
    assert not (store.staged("people/1", "INBOX") / name).exists()


def test_the_manifest_names_every_file(store: Store) -> None:
    store.save("people/1", "INBOX", "a")
    store.save("mailboxes/stttt", "INBOX", "b")
    done = store.stage.take()
    lines = (store.folder / MANIFEST).read_text().splitlines()
    paths = [line.split(" ", 2)[2] for line in lines]
    assert paths == sorted(paths)
    files = {str(path.relative_to(store.folder)) for path in store.folder.rglob("*")
             if path.is_file()}  # fmt: skip
    assert {*paths, MANIFEST} == files
    for line in lines:
        digest, size, path = line.split(" ", 2)
        content = (store.folder / path).read_bytes()
        assert (digest, int(size)) == (hashlib.sha256(content).hexdigest(), len(content))
    assert done.bytes == sum(int(line.split()[1]) for line in lines)


def test_a_letter_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("people/1", "INBOX", "a", "b")
    store.stage.take()
    store.stage.release()
    (store.box("people/1", "INBOX") / "u.3").write_text("c")
    read = []
    digest = hashlib.file_digest

    def noted(file: object, name: str) -> object:
        read.append(Path(file.name).name)  # type: ignore[attr-defined]
        return digest(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", noted)
    store.stage.take()
    assert read == ["u.3"]


def test_what_did_not_change_stays_as_it_is(store: Store) -> None:
    store.save("people/1", "INBOX", "a")
    store.stage.take()
    index = store.staged("people/1", "INBOX") / "dovecot.index"
    before = index.stat()
    store.stage.release()
    store.stage.take()
    assert index.stat() == before


def test_what_is_gone_leaves_the_stage(store: Store) -> None:
    box = store.save("people/1", "INBOX", "a", "b")
    store.save("people/2", "INBOX", "c")
    store.stage.take()
    (box / "u.1").unlink()
    (store.mail / "people/2").rename(store.mail / "gone")
    store.stage.take()
    assert not (store.staged("people/1", "INBOX") / "u.1").exists()
    assert (store.staged("people/1", "INBOX") / "u.2").exists()
    assert not (store.folder / "people/2").exists()


# -- locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log",
    ["mail/mailboxes/Sent/dbox-Mails/dovecot.index.log", "mail/dovecot.list.index.log",
     "units/a/mailboxes/INBOX/dbox-Mails/dovecot.index.pvt.log"],
)  # fmt: skip
def test_a_home_waits_for_whoever_changes_one_of_its_folders(tmp_path: Path, log: str) -> None:
    store = Store(tmp_path, patience=0.3)
    store.save("people/1", "INBOX", "a")
    store.save("people/2", "INBOX", "b")
    file = store.mail / "people/1" / log
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with process(HOLD, file):
        done = store.stage.take()
    assert list(done.failed) == ["people/1"]
    assert "in use" in done.failed["people/1"]
    assert log in done.failed["people/1"]
    assert done.homes == 1
    assert not (store.folder / "people/1").exists()
    assert (store.staged("people/2", "INBOX") / "u.1").exists()
    # Nothing of it is left to stand in the way.
    assert not store.stage.take().failed


def test_the_locks_are_held_until_all_is_staged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [store.save("people/1", folder, "a") / LOG for folder in ("INBOX", "Sent")]
    seen: list[bool] = []
    state = mail._state

    def asked(home: Path) -> mail.State:
        seen.extend(free(log) for log in logs)
        return state(home)

    monkeypatch.setattr(mail, "_state", asked)
    store.stage.take()
    # Within the locks, then when it is asked whether the home has changed since.
    assert seen == [False, False, True, True]


def test_no_lock_stays(store: Store) -> None:
    log = store.save("people/1", "INBOX", "a") / LOG
    store.stage.take()
    assert free(log)


def test_a_folder_that_was_renamed_meanwhile_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("people/1", "Cũ", "a")
    letters = mail._letters

    def renamed(source: Path, target: Path, found: mail._Found) -> None:
        if (source / "mail/mailboxes/Cũ").exists():
            (source / "mail/mailboxes/Cũ").rename(source / "mail/mailboxes/Mới")
        letters(source, target, found)

    real = mail._home
    calls: list[Path] = []

    def home(source: Path, target: Path, logs: dict[str, int]) -> tuple[mail.State, set[str]]:
        calls.append(source)
        monkeypatch.setattr(mail, "_letters", renamed)
        return real(source, target, logs)

    monkeypatch.setattr(mail, "_home", home)
    assert not store.stage.take().failed
    assert len(calls) == 2
    assert (store.staged("people/1", "Mới") / "u.1").read_text() == "a"
    assert not (store.folder / "people/1/mail/mailboxes/Cũ").exists()


def test_a_rotated_log_is_locked_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    box = store.save("people/1", "INBOX", "a")
    real = mail._home
    calls: list[Path] = []

    def home(source: Path, target: Path, logs: dict[str, int]) -> tuple[mail.State, set[str]]:
        calls.append(source)
        if len(calls) == 1:
            (box / LOG).rename(box / f"{LOG}.2")
            (box / LOG).write_text("new")
        return real(source, target, logs)

    monkeypatch.setattr(mail, "_home", home)
    store.stage.take()
    assert len(calls) == 2
    assert (store.staged("people/1", "INBOX") / LOG).read_text() == "new"
    assert (store.staged("people/1", "INBOX") / f"{LOG}.2").read_text() == "1"


def test_letters_that_move_all_the_time_are_all_there(store: Store) -> None:
    folders = ["INBOX", "Sent", "Đề án"]
    boxes = [store.save("people/1", folder) for folder in folders]
    store.save("people/1", "INBOX", *[f"letter {number}" for number in range(40)])
    with process(MOVE, *boxes):
        for _ in range(15):
            done = store.stage.take()
            assert not done.failed
            found: Counter[str] = Counter()
            for folder in folders:
                staged = store.staged("people/1", folder)
                for uid in (staged / LOG).read_text().split():
                    # What the index names is there.
                    found[(staged / f"u.{uid}").read_text()] += 1
            assert len(found) == 40
            store.stage.release()


def test_a_letter_that_goes_to_another_home_is_in_one_of_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = store.save("mailboxes/stttt", "INBOX")
    own = store.save("people/1", "INBOX", "a")
    real = mail._home
    calls: list[str] = []

    def home(source: Path, target: Path, logs: dict[str, int]) -> tuple[mail.State, set[str]]:
        calls.append(source.name)
        done = real(source, target, logs)
        if len(calls) == 1:
            # The unit is staged, the person is not.
            os.link(own / "u.1", unit / "u.1")
            (unit / LOG).write_text("1")
            (own / LOG).write_text("")
            (own / "u.1").unlink()
            return frozenset(), done[1]
        return done

    monkeypatch.setattr(mail, "_home", home)
    store.stage.take()
    assert calls == ["stttt", "1", "stttt"]
    assert (store.staged("mailboxes/stttt", "INBOX") / "u.1").read_text() == "a"


# -- what Dovecot takes from the inode -------------------------------------------------------------


def test_links_live_only_while_they_are_read(store: Store) -> None:
    box = store.save("people/1", "INBOX", "a", "b")
    store.stage.take()
    assert (box / "u.1").stat().st_nlink == 2
    (box / "u.2").unlink()
    assert store.stage.release() == ["people/1/mail/mailboxes/INBOX/dbox-Mails/u.2"]
    assert (box / "u.1").stat().st_nlink == 1
    assert store.stage.release() == []


def test_links_of_a_run_that_was_cut_off_go(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    box = store.save("people/1", "INBOX", "a")
    store.stage.take()
    (box / "u.1").unlink()
    store.stage.take()
    assert "1 letters were deleted for good" in caplog.text
    assert not (store.staged("people/1", "INBOX") / "u.1").exists()


@pytest.mark.parametrize("folder", ["Trash", "Junk", ".EXPUNGED", "Trash/Cũ"])
def test_when_a_letter_was_thrown_away_stays_what_it_was(store: Store, folder: str) -> None:
    letter = store.save("people/1", folder, "a") / "u.1"
    before = letter.stat()
    store.stage.take()
    copy = store.staged("people/1", folder) / "u.1"
    first = copy.stat()
    store.stage.release()
    store.stage.take()
    assert (letter.stat().st_ctime_ns, letter.stat().st_nlink) == (before.st_ctime_ns, 1)
    assert copy.read_text() == "a"
    # It is copied once.
    assert copy.stat() == first


# -- the program -----------------------------------------------------------------------------------


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    def command(job: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "roles.backup.mail", job, "--mail", store.mail,
             "--stage", store.folder, "--known", tmp_path / "known.sqlite"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return command


def test_the_program_says_what_it_staged(
    store: Store, run: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    box = store.save("people/1", "INBOX", "a")
    done = run("take")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["letters"] == 1
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert json.loads(run("release").stdout) == {"alone": []}
    assert (box / "u.1").stat().st_nlink == 1


def test_a_name_that_no_manifest_can_hold_fails_its_home_alone(
    store: Store, run: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    store.save("people/1", "a\nb", "a")
    store.save("people/2", "INBOX", "b")
    done = run("take")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert list(said["failed"]) == ["people/1"]
    assert said["homes"] == 1


def test_a_run_that_is_cut_off_is_gone_on_with(store: Store) -> None:
    boxes = [store.save(f"people/{number}", "INBOX", "a") for number in range(300)]
    arguments = [str(part) for part in ("take", "--mail", store.mail, "--stage", store.folder,
                 "--known", store.mail.parent / "known.sqlite")]  # fmt: skip
    with subprocess.Popen([sys.executable, "-m", "roles.backup.mail", *arguments], cwd=ROOT) as cut:
        until((store.folder / "people/20").exists, "the first homes")
        cut.kill()
    assert not (store.folder / MANIFEST).exists()
    assert store.stage.take().homes == 300
    assert all(box.joinpath("u.1").stat().st_nlink == 2 for box in boxes)
