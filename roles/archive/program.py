"""`site-archive` on a store: mailboxes whose time has come are archived, archives are destroyed.

A mailbox goes in steps, each of which may be cut off; the next run goes on or begins anew:

1. the archive and its index are written under `work/`, and read back with a key of this run alone
   (the site's own is not on the mail hosts): every letter by its digest, and their number. The
   mailbox must not have changed meanwhile. Then both get their names, the description last: an
   archive without a description does not exist;
2. the directory learns of it in one change that is refused where the mailbox is not departed any
   more, or its mail is to be kept for longer now;
3. the mailbox leaves the store, if the directory says that it is archived and the archive still has
   its digest.

An archive is destroyed so: a certificate is drafted, then the files go, the certificate gets its
name, and the directory learns of it. A draft is completed by the next run.
"""

import argparse
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from roles.archive import container
from roles.archive.certificate import certificate
from roles.archive.container import ArchiveError, Extras, Letter
from roles.archive.mailbox import Imap, ImapError
from roles.directory.ldif import Attributes, entries

_NAME = re.compile(r"(?P<kind>people|mailboxes)/(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<at>\d{14}Z)")
_ARCHIVE, _INDEX, _DESCRIPTION = ".tar.zst.age", ".index.gz.age", ".json"
_WANTED = (
    "mail", "displayName", "mailboxState", "mailboxStateSince", "mailboxRetainUntil",
    "mailboxArchive",
)  # fmt: skip

log = logging.getLogger("site-archive")


@dataclass(frozen=True)
class Config:
    """What the role wrote into the program's file."""

    base: str
    directories: tuple[str, ...]
    bind: str
    password: str
    authority: str
    own_store: str
    """Filter for entries whose mail lies here."""
    folder: Path
    mail: Path
    """Below it the mailboxes: `people/ID`, `mailboxes/CODE`."""
    recipients: tuple[str, ...]
    level: int
    keep: int
    """Seconds that an archive is kept."""
    units_lock: Path
    """Held by `site-units`, which makes folders."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file of the role."""
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in ("folder", "mail", "units_lock"):
            values[name] = Path(values[name])
        for name in ("directories", "recipients"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class Description:
    """What is known of an archive without its key."""

    name: str
    address: str
    display: str
    host: str
    since: str
    """When the mailbox departed."""
    made: str
    keep_until: str
    letters: int
    bytes: int
    first: str
    """The period of its letters, by when the mailbox got them; days."""
    last: str
    folders: int
    digest: str
    index_digest: str
    size: int
    recipients: tuple[str, ...]
    state: str
    """A digest of the folders' states when they were read; a mailbox that differs now is read
    anew."""


def written(moment: datetime) -> str:
    """A moment as the directory has it."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


def read(moment: str) -> datetime:
    """A moment of the directory."""
    return datetime.strptime(moment[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """A mailbox in the directory."""

    dn: str
    values: Attributes

    def one(self, name: str) -> str:
        """An attribute's only value; empty for none."""
        return next(iter(self.values.get(name, ())), "")

    @property
    def place(self) -> str:
        """Where it lies below the store's mail: `people/1042`."""
        rdn, container_ = self.dn.split(",")[:2]
        return f"{container_.partition('=')[2]}/{rdn.partition('=')[2]}"


class Directory:
    """The directory, by a service's name that may write the end of mailboxes and nothing else."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def _run(self, program: str, *options: str, said: str = "") -> str:
        config = self._config
        done = subprocess.run(
            [
                program, "-x", "-H", " ".join(config.directories), "-D", config.bind,
                "-y", config.password, "-o", "nettimeout=10", *options,
            ],
            input=said, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "LDAPTLS_CACERT": config.authority},
        )  # fmt: skip
        if done.returncode:
            raise ArchiveError(f"the directory: {done.stderr.strip()}")
        return done.stdout

    def find(self, condition: str) -> list[Entry]:
        """Mailboxes of this store that fit."""
        said = self._run(
            "ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-b", self._config.base,
            f"(&(objectClass=mailboxAccount){self._config.own_store}{condition})", *_WANTED,
        )  # fmt: skip
        names = {
            line.removeprefix("dn: ").lower(): line.removeprefix("dn: ")
            for line in said.splitlines()
            if line.startswith("dn: ")
        }
        return [
            Entry(names[dn], values) for dn, values in sorted(entries(said.splitlines()).items())
        ]

    def change(self, dn: str, *changes: tuple[str, str, str]) -> None:
        """Change an entry: `("delete", name, value)` is refused where the value is another."""
        parts = [
            f"{verb}: {name}\n{name}: {value}\n-" if value else f"{verb}: {name}\n-"
            for verb, name, value in changes
        ]
        self._run("ldapmodify", said="\n".join([f"dn: {dn}", "changetype: modify", *parts]) + "\n")


class Store:
    """The mailboxes and the archives of this host."""

    def __init__(
        self,
        config: Config,
        directory: Directory,
        session: Callable[[str], Imap] = Imap,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.directory = directory
        self._session = session
        self._now = now
        self._zstd = ("zstd", "-q", f"-{config.level}")

    # -- files ---------------------------------------------------------------------------------

    def path(self, name: str, ending: str) -> Path:
        """A file of an archive."""
        if not _NAME.fullmatch(name):
            raise ArchiveError(f"{name!r} is no archive; expected a name such as people/1042-…Z")
        return self.config.folder / f"{name}{ending}"

    def descriptions(self) -> list[Description]:
        """The catalogue."""
        return [
            self.describe(f"{path.parent.name}/{path.name.removesuffix(_DESCRIPTION)}")
            for kind in ("mailboxes", "people")
            for path in sorted((self.config.folder / kind).glob(f"*{_DESCRIPTION}"))
        ]

    def describe(self, name: str) -> Description:
        """What is known of an archive."""
        path = self.path(name, _DESCRIPTION)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ArchiveError(f"{name}: there is no such archive on this store") from None
        return Description(**{**values, "recipients": tuple(values["recipients"])})

    def _put(self, path: Path, text: str) -> None:
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(text, encoding="utf-8")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(path)
        _sync(path.parent)

    def _describe(self, description: Description) -> None:
        self._put(self.path(description.name, _DESCRIPTION),
                  json.dumps(asdict(description), ensure_ascii=False, indent=1) + "\n")  # fmt: skip

    # -- archiving -----------------------------------------------------------------------------

    def due(self) -> list[Entry]:
        """Mailboxes that departed so long ago that their mail is archived."""
        return self.directory.find(
            f"(mailboxState=departed)(mailboxRetainUntil<={written(self._now())})"
        )

    def archive(self, entry: Entry) -> Description:
        """Bring a departed mailbox into an archive, the directory and off the store."""
        description = self._written(entry) or self._write(entry)
        keep_until = written(read(description.made) + timedelta(seconds=self.config.keep))
        self.directory.change(
            entry.dn,
            ("delete", "mailboxState", "departed"), ("add", "mailboxState", "archived"),
            ("delete", "mailboxRetainUntil", entry.one("mailboxRetainUntil")),
            ("add", "mailboxRetainUntil", keep_until),
            ("replace", "mailboxStateSince", written(self._now())),
            ("add", "mailboxArchive", description.name),
        )  # fmt: skip
        log.info(
            "%s <%s>: archived as %s: %d letters, %d bytes, %s to %s", entry.place,
            description.address, description.name, description.letters, description.bytes,
            description.first or "-", description.last or "-",
        )  # fmt: skip
        self.remove(entry.place, description)
        return description

    def _written(self, entry: Entry) -> Description | None:
        """The archive that an earlier run completed of this very mailbox, if it is good."""
        for found in self.descriptions():
            own = _NAME.fullmatch(found.name)
            if (
                own
                and f"{own['kind']}/{own['id']}" == entry.place
                and found.since == entry.one("mailboxStateSince")
                and found.name not in entry.values.get("mailboxArchive", ())
            ):
                with self._session(entry.one("mail")) as imap:
                    same = found.state == _states(imap, imap.folders())
                if same and container.digest(self.path(found.name, _ARCHIVE)) == found.digest:
                    return found
                log.warning("%s: %s is not the mailbox as it is; it is made anew",
                            entry.place, found.name)  # fmt: skip
                self._unlink(found.name)
        return None

    def _unlink(self, name: str) -> None:
        # The description first: without it nothing is taken for an archive.
        for ending in (_DESCRIPTION, _ARCHIVE, _INDEX):
            self.path(name, ending).unlink(missing_ok=True)
        _sync(self.path(name, _ARCHIVE).parent)

    def _write(self, entry: Entry) -> Description:
        made = written(self._now())
        name = f"{entry.place}-{made}"
        identity, recipient = container.one_time_key()
        recipients = (*self.config.recipients, recipient)
        work = self.config.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        archive, index = work / "archive", work / "index"
        with self._session(entry.one("mail")) as imap:
            folders = imap.folders()
            before = _states(imap, folders)
            extras = _extras(self.config.mail / entry.place, folders)
            with container.encrypting(archive, recipients, self._zstd) as stream:
                letters = container.write(stream, _letters(imap, folders), extras)
            if _states(imap, folders) != before:
                raise ArchiveError(
                    f"{entry.place}: changed while it was read; the next run reads it"
                )
        with container.encrypting(index, recipients, ("gzip", "-9")) as stream:
            for letter in letters:
                stream.write(f"{letter.line()}\n".encode())
        with container.decrypting(archive, identity, ("zstd", "-q", "-d")) as stream:
            container.compare(stream, letters, extras)
        with container.decrypting(index, identity, ("gzip", "-d")) as stream:
            if [Letter.read(line.decode()) for line in stream] != letters:
                raise ArchiveError(f"{entry.place}: the index is not what was written")
        days = sorted(_day(letter.received) for letter in letters)
        description = Description(
            name=name, address=entry.one("mail"), display=entry.one("displayName"),
            host=socket.getfqdn(), since=entry.one("mailboxStateSince"), made=made,
            keep_until=written(read(made) + timedelta(seconds=self.config.keep)),
            letters=len(letters), bytes=sum(letter.size for letter in letters),
            first=days[0] if days else "", last=days[-1] if days else "", folders=len(folders),
            digest=container.digest(archive), index_digest=container.digest(index),
            size=archive.stat().st_size, recipients=self.config.recipients, state=before,
        )  # fmt: skip
        self.path(name, _ARCHIVE).parent.mkdir(mode=0o700, exist_ok=True)
        for source, ending in ((archive, _ARCHIVE), (index, _INDEX)):
            with source.open("rb") as file:
                os.fsync(file.fileno())
            source.rename(self.path(name, ending))
        _sync(self.path(name, _ARCHIVE).parent)
        self._describe(description)
        return description

    def remove(self, place: str, description: Description) -> None:
        """Take a mailbox off the store whose archive is good."""
        gone = self.config.mail / ".archived"
        home = self.config.mail / place
        # site-units makes folders of unit mailboxes that it read of a moment ago.
        with locked(self.config.units_lock):
            if home.exists():
                if container.digest(self.path(description.name, _ARCHIVE)) != description.digest:
                    raise ArchiveError(f"{description.name}: is damaged; the mailbox stays")
                gone.mkdir(mode=0o700, exist_ok=True)
                home.rename(gone / place.replace("/", "-"))
                _sync(home.parent)
                log.info("%s: its mail is off the store", place)
        self._sweep()

    def _sweep(self) -> None:
        """Delete what has left its place already, and archives that were never completed."""
        gone = self.config.mail / ".archived"
        if gone.exists():
            shutil.rmtree(gone)
        for kind in ("mailboxes", "people"):
            for path in (self.config.folder / kind).glob("*.age"):
                name = f"{kind}/{path.name.partition('Z.')[0]}Z"
                if not self.path(name, _DESCRIPTION).exists():
                    path.unlink()

    def complete(self) -> None:
        """Take off the store what the directory says to be archived already."""
        self._sweep()
        for entry in self.directory.find("(mailboxState=archived)(mailboxArchive=*)"):
            if (self.config.mail / entry.place).exists():
                self.remove(entry.place, self.describe(max(entry.values["mailboxArchive"])))

    # -- destroying ----------------------------------------------------------------------------

    def over(self) -> Iterator[tuple[Description, str]]:
        """Archives whose time is over, and until when they were to be kept."""
        now = written(self._now())
        by_archive = {
            name: entry
            for entry in self.directory.find("(mailboxArchive=*)")
            for name in entry.values["mailboxArchive"]
        }
        for found in self.descriptions():
            entry = by_archive.get(found.name)
            until = found.keep_until
            if entry and entry.one("mailboxState") == "archived":
                # What the directory says counts: there somebody may have put it off, or set no end.
                until = entry.one("mailboxRetainUntil")
            elif entry is None:
                # The directory has not learnt of it yet, or the entry is another store's now.
                continue
            if until and until <= now:
                yield found, until

    def keep(self, name: str, until: str) -> Description:
        """Keep an archive until another day, where the directory has no date for it any more."""
        description = replace(self.describe(name), keep_until=until)
        self._describe(description)
        return description

    def purge(self, description: Description, rule: str, who: str) -> str:
        """Destroy an archive; what proves it is a certificate, whose name is returned."""
        name = description.name
        if container.digest(self.path(name, _ARCHIVE)) != description.digest:
            log.warning("%s: is not what was written; it is destroyed as it is", name)
        record = {"rule": rule, "by": who, "at": written(self._now()), **asdict(description)}
        drafts = self.config.folder / "certificates" / "drafts"
        drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._put(drafts / f"{name.replace('/', '-')}.json",
                  json.dumps(record, ensure_ascii=False, indent=1) + "\n")  # fmt: skip
        return self._destroy(record)

    def _destroy(self, record: dict[str, Any]) -> str:
        name: str = record["name"]
        flat = name.replace("/", "-")
        folder = self.config.folder / "certificates"
        self._unlink(name)
        self._put(folder / f"{flat}.txt", certificate(record))
        for entry in self.directory.find(f"(mailboxArchive={name})"):
            changes = [("delete", "mailboxArchive", name), ("add", "mailboxPurgeRecord", flat)]
            if entry.one("mailboxState") == "archived":
                changes += [
                    ("delete", "mailboxState", "archived"), ("add", "mailboxState", "purged"),
                    ("replace", "mailboxStateSince", record["at"]),
                    ("replace", "mailboxRetainUntil", ""),
                ]  # fmt: skip
            self.directory.change(entry.dn, *changes)
        # Last: as long as there is a draft, the next run does all this again.
        (folder / "drafts" / f"{flat}.json").rename(folder / f"{flat}.json")
        _sync(folder)
        log.info("%s <%s>: destroyed, %s, by %s; certificate %s", name, record["address"],
                 record["rule"], record["by"], flat)  # fmt: skip
        return flat

    def complete_purges(self) -> None:
        """Go on with what was cut off."""
        for draft in sorted((self.config.folder / "certificates" / "drafts").glob("*.json")):
            if not draft.name.startswith("."):
                self._destroy(json.loads(draft.read_text(encoding="utf-8")))

    # -- the jobs ------------------------------------------------------------------------------

    def nightly(self) -> int:
        """Everything whose time has come; one that fails does not keep the others waiting.

        Returns:
            How many failed.
        """
        failed = 0

        def each(what: str, act: Callable[[], object]) -> None:
            nonlocal failed
            try:
                act()
            except (ArchiveError, ImapError, OSError, subprocess.SubprocessError) as error:
                log.error("%s: %s", what, error)
                failed += 1

        each("mailboxes that are archived", self.complete)
        each("archives that are being destroyed", self.complete_purges)
        for entry in self.due():
            each(entry.place, lambda entry=entry: self.archive(entry))  # type: ignore[misc]
        for description, until in list(self.over()):
            rule = f"archive.archive_keep, until {until}"
            each(description.name,
                 lambda found=description, rule=rule: self.purge(found, rule, "site-archive"))  # type: ignore[misc] # fmt: skip
        return failed

    def restore(self, to: str, folder: str, numbers: frozenset[int], needed: int) -> dict[str, int]:
        """Bring letters of a decrypted archive into a folder of somebody, and see that they are.

        Args:
            to: the mailbox's address.
            folder: made; below it the archive's folders.
            numbers: of the letters; none for all.
            needed: bytes that they take.

        Returns:
            How many letters and bytes.
        """
        zstd = subprocess.Popen(["zstd", "-q", "-d"], stdin=sys.stdin, stdout=subprocess.PIPE)
        digests: dict[str, list[str]] = {}
        done = {"letters": 0, "bytes": 0}
        with self._session(to) as imap:
            room = imap.room()
            if room is not None and room < needed:
                raise ArchiveError(f"{to}: has room for {room} bytes; needed are {needed}")
            letter: Letter | None = None
            for name, content in container.members(container.end(zstd.stdout)):
                if not name.startswith(container.MESSAGES):
                    continue
                if name.endswith(container.ABOUT):
                    letter = Letter.read(content.decode())
                    continue
                if letter is None or letter.member != name:
                    raise ArchiveError(f"{name}: nothing is said of it; expected its index line")
                if numbers and letter.number not in numbers:
                    continue
                target = f"{folder}/{letter.folder}"
                if target not in digests:
                    imap.make(target)
                imap.append(target, letter.flags, letter.received, content)
                digests.setdefault(target, []).append(letter.sha256)
                done["letters"] += 1
                done["bytes"] += letter.size
            for target, expected in digests.items():
                found = [
                    hashlib.sha256(content).hexdigest() for *_, content in imap.letters(target)
                ]
                if found != expected:
                    raise ArchiveError(f"{to}: {target} does not hold what was restored")
        if zstd.wait() != 0:
            raise ArchiveError("the archive ends too early")
        return done


def _letters(imap: Imap, folders: dict[str, bool]) -> Iterator[tuple[Letter, bytes]]:
    number = 0
    for folder in folders:
        for flags, received, content in imap.letters(folder):
            number += 1
            yield container.letter(number, folder, flags, received, content), content


def _states(imap: Imap, folders: dict[str, bool]) -> str:
    states = json.dumps([[folder, imap.state(folder)] for folder in folders])
    return hashlib.sha256(states.encode()).hexdigest()


def _extras(home: Path, folders: dict[str, bool]) -> Extras:
    scripts = {
        str(path.relative_to(home / "sieve")): path.read_bytes()
        for path in sorted((home / "sieve").rglob("*.sieve"))
        if path.is_file()
    }
    link = home / ".dovecot.sieve"
    return Extras(folders, scripts, link.readlink().name if link.is_symlink() else "")


def _day(received: str) -> str:
    return datetime.strptime(received.strip(), "%d-%b-%Y %H:%M:%S %z").date().isoformat()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Nobody else inside.

    Raises:
        ArchiveError: somebody is, and `wait` is not set.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError("another run is at work; try again when it has ended") from None
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; what it found is printed as JSON."""
    parser = argparse.ArgumentParser(prog="site-archive", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("/etc/site-archive/archive.toml"))
    jobs = parser.add_subparsers(dest="job", required=True)
    jobs.add_parser("nightly", help="everything whose time has come")
    jobs.add_parser("list", help="the catalogue")
    now = jobs.add_parser("now", help="archive a departed mailbox before its time")
    now.add_argument("place", help="people/ID or mailboxes/CODE")
    keep = jobs.add_parser("keep", help="keep the archive of somebody who came back for longer")
    keep.add_argument("name")
    keep.add_argument("until", help="as the directory has it: 20351231170000Z")
    purge = jobs.add_parser("purge", help="destroy an archive before its time")
    purge.add_argument("name")
    purge.add_argument("--rule", required=True)
    purge.add_argument("--by", required=True)
    restore = jobs.add_parser("restore", help="letters of the tar on standard input")
    restore.add_argument("to", help="address")
    restore.add_argument("folder")
    restore.add_argument("--bytes", type=int, default=0)
    restore.add_argument("--letters", default="", help="numbers with commas; all by default")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    os.umask(0o077)
    config = Config.read(given.config)
    store = Store(config, Directory(config))
    try:
        if given.job in ("list", "restore"):
            return _job(store, given)
        # The night waits for an operator's order; an operator is told to wait for the night.
        with locked(config.folder / "lock", wait=given.job == "nightly"):
            return _job(store, given)
    except (ArchiveError, ImapError, OSError, subprocess.SubprocessError) as error:
        log.error("%s", error)
        return 1


def _job(store: Store, given: argparse.Namespace) -> int:
    answer: Any = None
    if given.job == "nightly":
        return 1 if store.nightly() else 0
    if given.job == "list":
        answer = [asdict(found) for found in store.descriptions()]
    elif given.job == "now":
        entries_ = [e for e in store.directory.find("(mailboxState=departed)")
                    if e.place == given.place]  # fmt: skip
        if not entries_:
            raise ArchiveError(f"{given.place}: no departed mailbox of this store")
        answer = asdict(store.archive(entries_[0]))
    elif given.job == "keep":
        answer = asdict(store.keep(given.name, written(read(given.until))))
    elif given.job == "purge":
        answer = {"certificate": store.purge(store.describe(given.name), given.rule, given.by)}
    elif given.job == "restore":
        numbers = frozenset(int(number) for number in given.letters.split(",") if number)
        answer = store.restore(given.to, given.folder, numbers, given.bytes)
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
