"""The part `mail`: a stage of a store's mailboxes, each as at one moment, while mail goes on.

A letter of sdbox is a file that never changes (`u.UID`); which letters a folder has, and their
flags, is in its index and the index's log. Dovecot changes either only while it holds a POSIX lock
on the log, for which it waits without an error. So a home is staged with the locks of all its logs
held: letters are linked, what is small is copied. A letter that is moved comes to its new folder
before it leaves the old one, each under the folder's lock: the stage has it in one of the two, or
in both.

Two things that Dovecot takes from a letter's inode must not suffer from links (sdbox-mail.c,
dbox-mail.c):

- how many links it has tells `lazy_expunge` whether this is the last instance. Links of the stage
  live only while they are read: `release` takes them away, and names the letters that were deleted
  for good meanwhile. Those are in the backup alone, not in .EXPUNGED;
- when the inode changed is when the letter was saved, by which site-retention counts. Letters in
  Trash, Junk and .EXPUNGED are therefore copied, and their copies kept for the next stage.

POSIX locks belong to a process and a file: closing any descriptor of a log gives its lock up. While
it is held, a log is read through the descriptor that holds it and through no other.

    python3 -m roles.backup.mail take --mail /var/vmail --stage /var/vmail/.backup --known FILE
    python3 -m roles.backup.mail release …

It runs as the owner of mail, who could put links where root would follow them. `take` prints what
the stage is, as JSON; exit codes: 0 done; 1 homes are missing from it, and `failed` says which.
"""

import argparse
import fcntl
import json
import logging
import os
import re
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from roles.backup import stages
from roles.backup.stages import KINDS, MANIFEST

_LETTER = re.compile(r"u\.\d+")
_LOG = re.compile(r"dovecot\.(?:list\.)?index\.(?:pvt\.)?log")
_LEFT_OUT = re.compile(
    # Full-text indexes and caches are made anew; the rest is half-written.
    r"fts-flatcurve|dovecot\.(?:list\.)?index\.(?:pvt\.)?cache|\.?temp\..*"
    r"|dovecot\..*(?:\.tmp|\.lock|\.newlock)|(?:subscriptions|dovecot-acl)\.(?:lock|new)"
)
_RETAINED = re.compile(r"mail/mailboxes/(?:Trash|Junk|\.EXPUNGED)/.*")
_PAUSE = 0.02
"""Seconds before a home in use is tried again; Dovecot holds a lock for less, as a rule."""
_BLOCK = 1 << 20

State = frozenset[tuple[str, int, int, int]]
"""Path, inode, size and time of change (ns) of each log of a home."""

log = logging.getLogger("site-backup")


class StageError(Exception):
    """A home could not be staged."""


@dataclass
class Staged:
    """What a stage is."""

    homes: int = 0
    letters: int = 0
    bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Homes that are not in it, `people/1042`, with the reason."""


@dataclass(frozen=True)
class _Found:
    """The files of a home, by their path below it."""

    letters: dict[str, int]
    """With their inodes."""
    logs: frozenset[str]
    small: tuple[str, ...]
    """Everything else, links too."""


class Stage:
    """The stage of one store."""

    def __init__(self, mail: Path, folder: Path, known: Path, patience: float = 30.0) -> None:
        """Nothing is touched yet.

        Args:
            mail: below it lie homes: `people/ID`, `mailboxes/CODE`.
            folder: the stage, on the same file system.
            known: a database of digests that earlier runs made.
            patience: seconds after which a home that is always in use counts as failed.
        """
        self._mail = mail
        self._folder = folder
        self._known = known
        self._patience = patience

    def take(self) -> Staged:
        """Stage every home, and write MANIFEST; what an earlier run left is used or removed."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A descriptor for each folder of a home.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / MANIFEST).unlink(missing_ok=True)
        # Of a run that was cut off.
        self.release()
        result = Staged()
        states = {name: self._take(name, result) for name in self._homes(self._mail)}
        # Between two homes, as from somebody's own to a unit's, a letter may have come to one that
        # was staged before, and have left one that was staged after.
        for name in self._homes(self._mail):
            if states.get(name) != _state(self._mail / name):
                self._take(name, result)
        for name in {*self._homes(self._folder)} - {*self._homes(self._mail)} | {*result.failed}:
            shutil.rmtree(self._folder / name, ignore_errors=True)
        self._describe(result)
        return result

    def release(self) -> list[str]:
        """Take the links away; copies stay for the next stage.

        Returns:
            Letters that have no other link any more: paths below the stage. They were deleted for
            good while the stage was there, and did not come into .EXPUNGED.
        """
        alone = []
        for name in self._homes(self._folder):
            home = self._folder / name
            for path in _find(home).letters:
                if _RETAINED.fullmatch(path):
                    continue
                file = f"{home}/{path}"
                if os.lstat(file).st_nlink == 1 and (self._mail / name).exists():
                    alone.append(f"{name}/{path}")
                os.unlink(file)  # noqa: PTH108 - of a hundred thousand letters
        if alone:
            log.warning(
                "%d letters were deleted for good during the backup: they are in it, not in "
                ".EXPUNGED; the first: %s", len(alone), alone[0],
            )  # fmt: skip
        return alone

    # -- homes -------------------------------------------------------------------------------------

    @staticmethod
    def _homes(folder: Path) -> list[str]:
        return sorted(
            f"{kind}/{path.name}"
            for kind in KINDS
            if (folder / kind).is_dir()
            for path in (folder / kind).iterdir()
            if path.is_dir()
        )

    def _take(self, name: str, result: Staged) -> State:
        """Stage a home; what it returns differs from `_state` once the home has changed."""
        source, target = self._mail / name, self._folder / name
        result.failed.pop(name, None)
        end = time.monotonic() + self._patience
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Most of the work is done before anybody has to wait.
            _letters(source, target, _find(source))
            while True:
                try:
                    with _locked(source) as logs:
                        state, wanted = _home(source, target, logs)
                    _remove(target, wanted)
                    return state
                except (BlockingIOError, _ChangedError) as reason:
                    if time.monotonic() > end:
                        raise StageError(f"in use for {self._patience:.0f} s: {reason}") from None
                    time.sleep(_PAUSE)
        except (OSError, StageError) as error:
            # A mailbox may have been archived and be gone; that is no failure.
            if source.exists():
                log.error("%s: %s", name, error)
                result.failed[name] = str(error)
        return frozenset()

    # -- the manifest ------------------------------------------------------------------------------

    def _describe(self, result: Staged) -> None:
        lines = []
        with closing(sqlite3.connect(self._known)) as known, known:
            known.execute(
                "CREATE TABLE IF NOT EXISTS digests (inode INTEGER, mtime INTEGER, size INTEGER,"
                " sha256 TEXT, run INTEGER, PRIMARY KEY (inode, mtime, size)) WITHOUT ROWID"
            )
            run = 1 + (known.execute("SELECT max(run) FROM digests").fetchone()[0] or 0)
            for name in self._homes(self._folder):
                result.homes += 1
                found = _find(self._folder / name)
                for path in (*found.letters, *found.logs, *found.small):
                    file = f"{self._folder}/{name}/{path}"
                    status = os.lstat(file)
                    if stat.S_ISLNK(status.st_mode):
                        continue
                    size, digest = _digest(known, file, status, run)
                    lines.append((os.fsencode(f"{name}/{path}"), size, digest))
                    result.letters += path in found.letters
                    result.bytes += size
            # Numbers of inodes are used again.
            known.execute("DELETE FROM digests WHERE run < ?", (run,))
        draft = self._folder / f".{MANIFEST}.new"
        with draft.open("wb") as file_:
            file_.writelines(b"%s %d %s\n" % (digest.encode(), size, path)
                             for path, size, digest in sorted(lines))  # fmt: skip
        draft.rename(self._folder / MANIFEST)


class _ChangedError(Exception):
    """A log is not the one that it was when it was looked for."""


def _find(home: Path) -> _Found:
    """The files of a home, or of its stage."""
    letters: dict[str, int] = {}
    logs, small = set(), []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(home / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    is_folder = entry.is_dir(follow_symlinks=False)
                    # First what nearly all files are.
                    if not is_folder and _LETTER.fullmatch(entry.name):
                        letters[path] = entry.inode()
                    elif _LEFT_OUT.fullmatch(entry.name):
                        continue
                    elif is_folder:
                        folders.append(f"{path}/")
                    elif _LOG.fullmatch(entry.name):
                        logs.add(path)
                    elif entry.is_symlink() or entry.is_file():
                        small.append(path)
        except FileNotFoundError:
            # A folder that is being renamed; `_home` sees to it that nothing is missed.
            continue
    return _Found(letters, frozenset(logs), tuple(small))


@contextmanager
def _locked(home: Path) -> Iterator[dict[str, int]]:
    """The descriptors of a home's logs, all of them locked as Dovecot does, or none.

    Raises:
        BlockingIOError: one is in use.
        _ChangedError: one is not there any more.
    """
    logs: dict[str, int] = {}
    with ExitStack() as stack:
        for path in sorted(_find(home).logs):
            try:
                descriptor = os.open(home / path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise _ChangedError(path) from None
            stack.callback(os.close, descriptor)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(path) from None
            logs[path] = descriptor
        yield logs


def _home(source: Path, target: Path, logs: dict[str, int]) -> tuple[State, set[str]]:
    """Stage a home whose logs are locked; its state, and what it consists of.

    Raises:
        StageError: a file has a name that no manifest can hold.
        _ChangedError: a folder came, went or got another name.
    """
    found = _find(source)
    for path in (*found.letters, *found.small):
        if "\n" in path:
            raise StageError(f"{path!r}: a name with an end of line")
    _letters(source, target, found)
    for path in found.small:
        _small(source / path, target / path)
    for path, descriptor in logs.items():
        status = os.fstat(descriptor)
        content = b""
        while block := os.pread(descriptor, _BLOCK, len(content)):
            content += block
        _put(target / path, content, status)
    state = _state(source)
    held = {(path, os.fstat(descriptor).st_ino) for path, descriptor in logs.items()}
    # A log was rotated, or a folder renamed, made or removed, since it was looked for.
    if {(path, inode) for path, inode, _, _ in state} != held:
        raise _ChangedError("folders change")
    return state, {*found.letters, *found.small, *logs}


def _state(home: Path) -> State:
    """What differs once the home has changed."""
    result = set()
    for path in _find(home).logs:
        try:
            status = (home / path).stat()
        except FileNotFoundError:
            continue
        result.add((path, status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(result)


def _letters(source: Path, target: Path, found: _Found) -> None:
    """Link what is not linked yet. What is gone left the index before the lock, or is moved."""
    present = _find(target).letters
    made = set()
    for path, inode in found.letters.items():
        folder = path.rpartition("/")[0]
        try:
            if _RETAINED.fullmatch(path):
                _copy(source / path, target / path)
            elif present.get(path) != inode:
                if folder not in made:
                    (target / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                    made.add(folder)
                if path in present:
                    (target / path).unlink()
                os.link(f"{source}/{path}", f"{target}/{path}", follow_symlinks=False)
        except FileNotFoundError:
            continue


def _copy(source: Path, target: Path) -> None:
    """A letter as a file of its own; an earlier copy of the same letter stays."""
    status = source.stat()
    if target.exists():
        own = target.stat()
        if (own.st_size, own.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
            return
    with source.open("rb") as file:
        _put(target, file.read(), os.fstat(file.fileno()))


def _small(source: Path, target: Path) -> None:
    try:
        if source.is_symlink():
            to = source.readlink()
            if not target.is_symlink() or target.readlink() != to:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(to)
            return
        with source.open("rb") as file:
            _put(target, file.read(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return


def _put(target: Path, content: bytes, status: os.stat_result) -> None:
    """A file with an owner, mode and time; one that is so already is left alone."""
    if target.is_file() and not target.is_symlink():
        own = target.stat()
        same = (own.st_size, own.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        if same and target.read_bytes() == content:
            return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f"temp.{target.name}")
    draft.write_bytes(content)
    draft.chmod(status.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(draft, status.st_uid, status.st_gid)
    os.utime(draft, ns=(status.st_mtime_ns, status.st_mtime_ns))
    draft.rename(target)


def _remove(target: Path, wanted: set[str]) -> None:
    """Take away what the home does not have, and folders that are empty then."""
    above = len(f"{target}/")
    for folder, folders, files in os.walk(target, topdown=False):
        below = f"{folder}/"[above:]
        for name in files:
            if f"{below}{name}" not in wanted:
                Path(folder, name).unlink()
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink():
                if f"{below}{name}" not in wanted:
                    path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _digest(
    known: sqlite3.Connection, file: str, status: os.stat_result, run: int
) -> tuple[int, str]:
    """Size and SHA-256 of a file; a letter is read once, however many stages have it."""
    key: Sequence[int] = (status.st_ino, status.st_mtime_ns, status.st_size)
    row = known.execute(
        "UPDATE digests SET run = ? WHERE inode = ? AND mtime = ? AND size = ? RETURNING sha256",
        (run, *key),
    ).fetchone()
    if row is None:
        row = (stages.digest(Path(file)),)
        known.execute("INSERT INTO digests VALUES (?, ?, ?, ?, ?)", (*key, row[0], run))
    return status.st_size, str(row[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; what it found is printed as JSON."""
    parser = argparse.ArgumentParser(prog="mail", description=__doc__)
    parser.add_argument("job", choices=["take", "release"])
    parser.add_argument("--mail", type=Path, required=True)
    parser.add_argument("--stage", type=Path, required=True)
    parser.add_argument("--known", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    os.umask(0o077)
    stage = Stage(given.mail, given.stage, given.known)
    if given.job == "release":
        sys.stdout.write(json.dumps({"alone": stage.release()}, ensure_ascii=False) + "\n")
        return 0
    staged = stage.take()
    sys.stdout.write(json.dumps(asdict(staged), ensure_ascii=False) + "\n")
    return 1 if staged.failed else 0


if __name__ == "__main__":
    sys.exit(main())
