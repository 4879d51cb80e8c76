#!/usr/bin/python3
"""A store's part in moving a mailbox to another store; `python -m deploy.move_mailbox` calls it.

    move state people/1042
    move list people/1042 home|incoming|outgoing <known.json
    move send people/1042 home|outgoing <names    the files as a tar archive, to standard output
    move receive people/1042                      from standard input into `incoming`
    move remove people/1042 <names.json           from `incoming`
    move close people/1042 ADDRESS [READER…]
    move reopen|finish people/1042 [ADDRESS]
    move place|unplace people/1042

What is copied lies outside of the homes, on the same file system, until it is whole:

- `.moving/people-1042.in` on the store that it comes to;
- `.moving/people-1042.out` on the store that it leaves, from when nobody may open it any more;
- `.moved/people-1042-20261127T0215` there, when it is done: kept for `mailstore.moved_keep`.

A mailbox is closed by a line in CLOSED, the userdb `moving` of Dovecot: whoever asks for it gets a
temporary failure. Somebody who had asked before, such as a letter that is just being received, may
still open it by its path. So the home changes places with a file in one step (RENAME_EXCHANGE): by
the path nobody gets into a home any more, and nobody makes a new one there. Who had it open is
waited for. The night's site-retention removes the file.

What is found is printed as JSON; what went wrong goes to standard error, exit code 1.
"""

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MAIL = Path("/var/vmail")
CLOSED = Path("/var/lib/site-move/closed")
"""Accounts that nobody may open now, as Dovecot's driver passwd-file reads them, once a second."""
_OWNER = "vmail"
_PLACE = re.compile(r"(?:people|mailboxes)/[A-Za-z0-9][A-Za-z0-9._-]*")
_ADDRESS = re.compile(r"[a-z0-9._+-]+@[a-z0-9.-]+")
_LETTER = re.compile(r"u\.\d+")
"""A letter of sdbox: a file that never changes."""
_NOBODY = 68
"""What doveadm returns where an account has no session."""
_PATIENCE = 30.0
_POLITE = 2
"""Seconds after which a process that has it open is asked to end."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
_HERE = -100
"""AT_FDCWD."""

Listing = dict[str, list[Any]]
"""Files by path: kind (f, d, l), size, time of change (ns), digest or where a link leads."""


class MoveError(Exception):
    """It cannot be done; the message says why."""


class Move:
    """One mailbox on this store."""

    def __init__(
        self, place: str, mail: Path = MAIL, closed: Path = CLOSED, patience: float = _PATIENCE
    ) -> None:
        """Nothing is touched yet.

        Args:
            place: `people/1042`, `mailboxes/stttt`.
            mail: below it lie homes.
            closed: the file of accounts that are closed.
            patience: seconds until whoever has it open must have left it.

        Raises:
            MoveError: it is no such place.
        """
        if not _PLACE.fullmatch(place):
            raise MoveError(f"{place!r}: is no mailbox's place; expected such as people/1042")
        self.place = place
        self._name = place.replace("/", "-", 1)
        self._mail = mail
        self._closed = closed
        self._patience = patience
        self._kernel = Path("/proc")

    # -- where it lies -----------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """Where Dovecot opens it; while it is away, a file."""
        return self._mail / self.place

    @property
    def incoming(self) -> Path:
        """Where it is gathered."""
        return self._mail / ".moving" / f"{self._name}.in"

    @property
    def outgoing(self) -> Path:
        """Where it lies while it is closed."""
        return self._mail / ".moving" / f"{self._name}.out"

    @property
    def _old(self) -> Path:
        return self._mail / ".moved"

    def at(self, where: str) -> Path:
        """The folder by its name."""
        return {"home": self.home, "incoming": self.incoming, "outgoing": self.outgoing}[where]

    def state(self) -> dict[str, Any]:
        """What there is of it, and how much room."""
        there = next((one for one in (self.outgoing, self.home) if one.is_dir()), None)
        files = self._files(there) if there else {}
        gathered = self._files(self.incoming) if self.incoming.is_dir() else {}
        room = os.statvfs(self._mail)
        return {
            "home": self.home.is_dir(), "incoming": self.incoming.is_dir(),
            "outgoing": self.outgoing.is_dir(), "closed": self._is_closed(),
            "files": len(files), "bytes": sum(file[1] for file in files.values()),
            "gathered": sum(file[1] for file in gathered.values()),
            "free": room.f_bavail * room.f_frsize, "size": room.f_blocks * room.f_frsize,
            "old": sorted(str(path) for path in self._old.glob(f"{self._name}-2*T*")),
        }  # fmt: skip

    def listed(self, where: str, known: Collection[str]) -> Listing:
        """The files of one of its folders, with their digests.

        Args:
            where: which.
            known: letters of which no digest is wanted any more.
        """
        folder = self.at(where)
        return self._files(folder, known) if folder.is_dir() else {}

    def _files(self, folder: Path, known: Collection[str] | None = None) -> Listing:
        """Files of a folder; without digests where nothing is said of `known`."""
        found: Listing = {}
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                entries = list(os.scandir(folder / below))
            except FileNotFoundError:
                # It is in use.
                continue
            for entry in entries:
                path = f"{below}{entry.name}"
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(f"{path}/")
                        found[path] = ["d", 0, 0, ""]
                    elif stat.S_ISLNK(status.st_mode):
                        found[path] = ["l", 0, 0, str((folder / path).readlink())]
                    elif stat.S_ISREG(status.st_mode):
                        skipped = known is None or (path in known and _LETTER.fullmatch(entry.name))
                        text = "" if skipped else _digest(folder / path)
                        found[path] = ["f", status.st_size, status.st_mtime_ns, text]
        return found

    # -- copying -----------------------------------------------------------------------------------

    def send(self, where: str) -> None:
        """Files, whose names stand on standard input behind zeros, as an archive."""
        os.chdir(self.at(where))
        # Times to the nanosecond: by them a file is known to be the same.
        done = subprocess.run([
            "runuser", "-u", _OWNER, "--", "tar", "--create", "--format=posix", "--no-recursion",
            "--null", "--verbatim-files-from", "--files-from=-", "--ignore-failed-read",
            "--warning=none",
        ], check=False)  # fmt: skip
        # 1: a file changed while it was read; what counts is compared afterwards.
        if done.returncode not in (0, 1):
            raise MoveError(f"{self.at(where)}: not everything could be read; see above")

    def receive(self) -> None:
        """An archive from standard input; the owner of mail writes, not root."""
        self._owned(self.incoming.parent)
        self._owned(self.incoming)
        # What a cut connection leaves is compared and sent again.
        done = subprocess.run(
            ["runuser", "-u", _OWNER, "--", "tar", "--extract", "--no-same-owner",
             "--preserve-permissions", "--delay-directory-restore", f"--directory={self.incoming}"],
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise MoveError(f"{self.incoming}: not everything could be written; see above")
        # What was written is on the disk before anything relies on it.
        subprocess.run(["sync", "-f", str(self.incoming)], check=True)

    def remove(self, names: Sequence[str]) -> None:
        """Take away what the other store has not, deepest first."""
        for name in sorted(names, key=lambda one: -one.count("/")):
            path = self.incoming / name
            if ".." in path.parts:
                raise MoveError(f"{name!r}: leads out of {self.incoming}")
            with suppress(FileNotFoundError):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()

    def _owned(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            owner = pwd.getpwnam(_OWNER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)

    # -- closing -----------------------------------------------------------------------------------

    def close(self, users: Sequence[str]) -> dict[str, Any]:
        """Let nobody open it any more, and wait until nobody has it open.

        Args:
            users: its address, and those of the people who read it, too.

        Raises:
            MoveError: somebody does not leave; it is as before.
        """
        if self.home.is_dir() and self.outgoing.is_dir():
            raise MoveError(
                f"{self.home}: is there, and {self.outgoing} too; expected one of them: look which "
                "has the letters, and set the other aside"
            )
        self._mark(users[0])
        try:
            self._noticed(users[0])
            end_sessions(users)
            if self.home.is_dir():
                self._empty(self.home, users)
                self._owned(self.outgoing.parent)
                self.outgoing.unlink(missing_ok=True)
                # Root's own: the owner of mail cannot open it, nor take it for a folder.
                self.outgoing.touch(mode=0o000)
                _exchange(self.home, self.outgoing)
            elif not os.path.lexists(self.home):
                # It was never used; nor shall it be now.
                self._owned(self.home.parent)
                self.home.touch(mode=0o000)
            # Who came in between.
            self._empty(self.outgoing, users)
        except MoveError:
            self.reopen(users)
            raise
        return {"outgoing": self.outgoing.is_dir()}

    def _noticed(self, address: str) -> None:
        """Wait until Dovecot knows that it is closed."""
        end = time.monotonic() + self._patience
        while not is_closed(address):
            if time.monotonic() > end:
                raise MoveError(
                    f"{address}: Dovecot still opens it though it stands in {self._closed}; "
                    "expected a temporary failure; see its journal"
                )
            time.sleep(0.2)

    def reopen(self, users: Sequence[str]) -> None:
        """Let everybody open it here, as before."""
        if self.outgoing.is_dir() and not self.home.is_dir():
            _exchange(self.home, self.outgoing) if self.home.exists() else self.outgoing.rename(
                self.home
            )
        elif self.home.is_file():
            self.home.unlink()
        if self.outgoing.is_file():
            self.outgoing.unlink()
        self._unmark()
        if users:
            forget(users)

    def finish(self, moment: str) -> dict[str, str]:
        """Set the old copy aside: nobody opens it, the night removes it when its time has come.

        Args:
            moment: the time, for its name.
        """
        kept = ""
        if self.outgoing.is_dir():
            self._owned(self._old)
            old = self._old / f"{self._name}-{moment}"
            self.outgoing.rename(old)
            # By this site-retention counts.
            os.utime(old)
            kept = str(old)
        self._unmark()
        return {"old": kept}

    def _empty(self, folder: Path, users: Sequence[str]) -> None:
        """Wait until no process has anything in a folder open."""
        begun = time.monotonic()
        while path := in_use(folder):
            waited = time.monotonic() - begun
            ours = self._processes_of(folder, users)
            if waited > self._patience:
                words = ", ".join(f"{number} ({what})" for number, what in sorted(ours.items()))
                raise MoveError(
                    f"{path}: is open for {waited:.0f} s in process {words or 'unknown'}; expected "
                    "that nobody has it open; end it, and run this again"
                )
            for number, what in ours.items():
                if waited > _POLITE and what.startswith("dovecot/"):
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGTERM)
            time.sleep(0.1)

    def _processes_of(self, folder: Path, users: Sequence[str]) -> dict[int, str]:
        """Processes that seem to have something in a folder open, and what they are called.

        Dovecot's say whose they are in their titles (`verbose_proctitle`); what they have open a
        container may not see.
        """
        found = {}
        for process in self._kernel.iterdir():
            if not process.name.isdigit():
                continue
            # Gone meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError):
                title = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                what = title.decode(errors="replace").strip()
                named = what.startswith("dovecot/") and any(user in what for user in users)
                if named or _opens(process, folder):
                    found[int(process.name)] = what
        return found

    # -- the file of closed accounts ---------------------------------------------------------------

    def _is_closed(self) -> bool:
        return any(line.split(":")[4] == self.place for line in self._lines())

    def _lines(self) -> list[str]:
        try:
            return self._closed.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _mark(self, address: str) -> None:
        if not _ADDRESS.fullmatch(address):
            raise MoveError(f"{address!r}: is no address; expected such as anv@tiengiang.gov.vn")
        with self._others() as others:
            self._write([*others, f"{address}::::{self.place}::"])

    def _unmark(self) -> None:
        with self._others() as others:
            self._write(others)

    @contextmanager
    def _others(self) -> Iterator[list[str]]:
        """Lines of other mailboxes, with the file locked against other moves."""
        self._closed.parent.mkdir(mode=0o755, exist_ok=True)
        with (self._closed.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield [line for line in self._lines() if line.split(":")[4] != self.place]

    def _write(self, lines: Sequence[str]) -> None:
        # Also where none is left: Dovecot complains of a file that is not there.
        draft = self._closed.with_suffix(".new")
        draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        draft.chmod(0o644)
        draft.rename(self._closed)

    # -- coming ------------------------------------------------------------------------------------

    def put(self, moment: str) -> dict[str, str]:
        """Let what was gathered be the mailbox; what lay there before is set aside.

        Args:
            moment: the time, for the name of what is set aside.
        """
        kept = ""
        if self.home.is_dir():
            self._owned(self._old)
            old = self._old / f"{self._name}-{moment}"
            self.home.rename(old)
            os.utime(old)
            kept = str(old)
        elif self.home.exists():
            # Of a move away from here.
            self.home.unlink()
        self._owned(self.home.parent)
        if self.incoming.is_dir():
            self.incoming.rename(self.home)
        for folder in (self.home.parent, self.incoming.parent):
            if folder.is_dir():
                _settled(folder)
        return {"old": kept}

    def unplace(self) -> None:
        """Take back what a run that was cut off put into place."""
        if self.home.is_dir() and not self.incoming.exists():
            self._owned(self.incoming.parent)
            self.home.rename(self.incoming)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_use(folder: Path) -> str:
    """A file of a folder that some process has open; empty for none.

    A lease for writing is given on a file that nobody else has open, and to its owner (fcntl(2)).
    Letters are left out: who reads one has its folder's index open as well.

    Raises:
        OSError: the file system gives none.
    """
    # A file that somebody opens while the lease is held.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    if not folder.is_dir():
        return ""
    before, owner = os.geteuid(), folder.stat().st_uid
    os.seteuid(owner)
    try:
        for above, _, names in os.walk(folder):
            for name in names:
                path = f"{above}/{name}"
                if not _LETTER.fullmatch(name) and _is_open(path, owner):
                    return path
    finally:
        os.seteuid(before)
    return ""


def _is_open(path: str, owner: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        # A link, gone, or not the owner's.
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            return False
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opens(process: Path, folder: Path) -> bool:
    """Whether a process has something in a folder open, as far as it may be seen."""
    above = f"{folder}/"
    try:
        for descriptor in (process / "fd").iterdir():
            with suppress(FileNotFoundError):
                if str(descriptor.readlink()).startswith(above):
                    return True
    except PermissionError:
        return False
    return False


def _exchange(one: Path, other: Path) -> None:
    """Let two paths change places, in one step.

    Raises:
        OSError: the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
    for folder in (one.parent, other.parent):
        _settled(folder)


def _settled(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_closed(address: str) -> bool:
    """Whether Dovecot answers a temporary failure to whoever asks for an account."""
    forget([address])
    done = subprocess.run(["doveadm", "user", address], capture_output=True, check=False)
    return done.returncode == os.EX_TEMPFAIL


def forget(users: Sequence[str]) -> None:
    """Let Dovecot ask the directory anew about accounts."""
    _doveadm("auth", "cache", "flush", *users)


def end_sessions(users: Sequence[str]) -> None:
    """End accounts' sessions here; who logs in again is asked for anew."""
    forget(users)
    for user in users:
        _doveadm("kick", user)


def _doveadm(*arguments: str) -> None:
    done = subprocess.run(
        ["doveadm", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode not in (0, _NOBODY):
        raise MoveError(f"doveadm {' '.join(arguments)}: {done.stderr.strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; what it found is printed as JSON."""
    parser = argparse.ArgumentParser(prog="move", description=__doc__)
    parser.add_argument("job")
    parser.add_argument("place")
    parser.add_argument("more", nargs="*")
    given = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        move = Move(given.place)
        jobs: dict[str, Callable[[], object]] = {
            "state": move.state,
            "list": lambda: move.listed(given.more[0], set(json.load(sys.stdin))),
            "send": lambda: move.send(given.more[0]),
            "receive": move.receive,
            "remove": lambda: move.remove(json.load(sys.stdin)),
            "close": lambda: move.close(given.more),
            "reopen": lambda: move.reopen(given.more),
            "finish": lambda: move.finish(given.more[0]),
            "place": lambda: move.put(given.more[0]),
            "unplace": move.unplace,
        }
        if given.job not in jobs:
            parser.error(f"{given.job}: no such job; expected one of {', '.join(jobs)}")
        answer = jobs[given.job]()
    except (MoveError, OSError, shutil.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given.job != "send":
        sys.stdout.write(json.dumps(answer or {}, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
