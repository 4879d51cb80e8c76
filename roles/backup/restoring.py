"""`site-restore-mail` on a store: letters of one mailbox from the backup, while its owner works.

    site-restore-mail plan <request.json
    site-restore-mail prepare <request.json     the same, and keeps what it fetched for `apply`
    site-restore-mail apply <request.json

A mailbox that lay on another store at that time is in that store's backups alone. There

    site-restore-mail holds <request.json       which backup has it
    site-restore-mail bring <request.json       fetch it from there
    site-restore-mail forget <request.json      take away what was fetched

and the operator's program carries what was fetched over.

The mailbox as it was is brought into a folder beside the mailboxes (`/var/vmail/.restore`), which
Dovecot opens like any other; what is missing is imported by `doveadm import`, which keeps flags,
dates and each letter's GUID. By the GUID a letter is known again wherever it lies: one that is
still there is never made twice, and a run that was cut off is simply run again.

In place means: a letter comes back to its folder unless it is in the mailbox, in any folder but
Trash, Junk and .EXPUNGED; where it was filed anew, it stays there. Folders, subscriptions, rights
and Sieve scripts that are missing come back; what is there today is changed in nothing. Beside
means: all letters of that time, below a folder of their own.

A unit's letters come back read for whoever had read them.
"""

import argparse
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from roles.accounts.names import folded
from roles.backup import records
from roles.backup.snapshots import Backup, RestoreError, Run, Snapshot, command, understood
from roles.backup.stages import MAIL, MAIL_STAGE

_GIVEN_UP = ("Trash", "Junk", ".EXPUNGED")
"""A letter here is not in use any more."""
_BATCH = 200
"""Letters that one command names."""
_LOOKED_AT = 12
"""Backups that are looked into for a mailbox, the newest first: each takes a second."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HOME = re.compile(r"(?:people|mailboxes)/[A-Za-z0-9][A-Za-z0-9._-]*")

log = logging.getLogger("site-restore-mail")


@dataclass(frozen=True)
class Request:
    """What shall come back."""

    home: str
    """`people/1042` or `mailboxes/stttt`."""
    address: str
    at: str
    """The last snapshot not after this moment; ISO 8601 with an offset."""
    folder: str = ""
    """One folder, with those below it; all by default."""
    message_id: str = ""
    subject: str = ""
    """Words of it, without diacritics or case. Dovecot's search knows no words of one letter."""
    day: str = ""
    """When the mailbox got the letter: 2026-11-20, by the store's clock."""
    beside: str = ""
    """The folder below which letters appear; in place by default."""
    restored: str = ""
    """The folder below which all restores beside lie: a letter there is a copy."""
    source: str = ""
    """A further target instead of the backup host."""
    units: str = ""
    """The folder below which people see units."""
    readers: dict[str, str] = field(default_factory=dict)
    """Whose private state of a unit comes back: home and address."""
    pinned: dict[str, str] = field(default_factory=dict)
    """The backup that has it, as `holds` answered; by default the last one not after `at`."""
    elsewhere: bool = False
    """Whether that is another store's, and was brought here by the operator's program."""

    @classmethod
    def read(cls, text: str) -> Self:
        """A request as JSON.

        Raises:
            RestoreError: it is none.
        """
        with understood():
            request = cls(**json.loads(text))
        for home in (request.home, *request.readers):
            if not _HOME.fullmatch(home):
                raise RestoreError(f"home: {home!r}; expected such as people/1042")
        return request

    @property
    def whole(self) -> bool:
        """Whether the mailbox as such comes back, not parts of it."""
        return not (self.folder or self.message_id or self.subject or self.day or self.beside)


@dataclass(frozen=True)
class Letter:
    """A letter of a mailbox."""

    folder: str
    guid: str
    size: int = 0
    subject: str = ""


@dataclass(frozen=True)
class Plan:
    """What comes back."""

    snapshot: Snapshot
    then: int
    """Letters at that time that were asked for."""
    letters: tuple[Letter, ...]
    """Those that come back."""
    folders: tuple[str, ...]
    subscriptions: tuple[str, ...]
    scripts: tuple[str, ...]

    def said(self) -> dict[str, Any]:
        """For the operator's program."""
        by_folder: dict[str, int] = {}
        for letter in self.letters:
            by_folder[letter.folder] = by_folder.get(letter.folder, 0) + 1
        return {
            **self.snapshot.said(), "then": self.then,
            "letters": len(self.letters), "bytes": sum(letter.size for letter in self.letters),
            "by_folder": dict(sorted(by_folder.items())),
            "subjects": [letter.subject for letter in self.letters[:20]],
            "folders": list(self.folders), "subscriptions": list(self.subscriptions),
            "scripts": list(self.scripts),
        }  # fmt: skip


class Restorer:
    """One request on one store."""

    def __init__(self, request: Request, mail: Path = MAIL, run: Run = command) -> None:
        """Nothing is asked yet.

        Args:
            request: what shall come back.
            mail: below it lie homes.
            run: how programs are run.
        """
        self._request = request
        self._backup = Backup(request.source, run)
        self._mail = mail
        self._run = run
        self._scratch = Path()

    # -- the mailbox as it was ---------------------------------------------------------------------

    def _bring(self, snapshot: Snapshot) -> None:
        """Bring the mailbox, as it was, beside those of today."""
        request = self._request
        self._scratch = self._fetched(snapshot)
        if request.elsewhere:
            if not self._then.is_dir():
                raise RestoreError(f"{self._then}: is not there; expected what was carried over")
            return
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = request.home.partition("/")[2]
        if not self._is_in(snapshot):
            raise RestoreError(f"{request.address}: the backup of that time has no such mailbox")
        private = [
            f"{reader}/units/{own}"
            for reader in request.readers
            if own in self._backup.folders(snapshot, MAIL_STAGE / reader / "units")
        ]
        # What was read back before a power failure may not be on the disk.
        brought = {"boot": _BOOT.read_text(encoding="ascii"), "parts": [request.home, *private]}
        note = self._scratch / "brought.json"
        if records.read(note) == brought:
            return
        for part in (request.home, *private):
            # What an earlier run brought already is left.
            self._backup.restore(
                snapshot, MAIL_STAGE / part, self._scratch / part, "--overwrite", "if-changed"
            )
        self._run(["chown", "-R", "vmail:vmail", str(self._mail / ".restore")])
        records.write(note, brought)

    def _fetched(self, snapshot: Snapshot) -> Path:
        """Where a mailbox of a backup is fetched to."""
        name = f"{self._request.home.replace('/', '-')}-{snapshot.id[:8]}"
        return self._mail / ".restore" / name

    def _is_in(self, snapshot: Snapshot) -> bool:
        kind, _, own = self._request.home.partition("/")
        return own in self._backup.folders(snapshot, MAIL_STAGE / kind)

    def _snapshot(self) -> Snapshot:
        """The backup that is asked for."""
        pinned = self._request.pinned
        if not pinned:
            return self._backup.latest("mail", datetime.fromisoformat(self._request.at))
        taken, settled = (datetime.fromisoformat(pinned[name]) for name in ("taken", "settled"))
        return Snapshot(pinned["snapshot"], "mail", taken, settled)

    def holds(self) -> dict[str, Any]:
        """The last backup not after the time that has the mailbox, if there is one.

        While a mailbox was being moved, a backup of neither store may have it.
        """
        at = datetime.fromisoformat(self._request.at)
        before = [one for one in self._backup.snapshots if one.part == "mail" and one.settled <= at]
        for number, snapshot in enumerate(reversed(before[-_LOOKED_AT:])):
            if self._is_in(snapshot):
                return {**snapshot.said(), "latest": number == 0}
        return {}

    def bring(self) -> dict[str, Any]:
        """Fetch the mailbox as it was; another store is going to bring it back."""
        snapshot = self._snapshot()
        self._bring(snapshot)
        return {"folder": str(self._scratch)}

    def forget_fetched(self) -> dict[str, Any]:
        """Take away what was fetched for another store."""
        shutil.rmtree(self._fetched(self._snapshot()), ignore_errors=True)
        return {}

    @property
    def _then(self) -> Path:
        return self._scratch / self._request.home

    @property
    def _now(self) -> Path:
        return self._mail / self._request.home

    def _doveadm(self, *arguments: str, then: bool = False) -> str:
        path = ["-o", f"mail_path={self._then}/mail"] if then else []
        # The owner is not asked: the help desk's folder may be read, too.
        return self._run(["doveadm", "-f", "json", *path, "-o", "acl_ignore=yes",
                          "-o", "fts_autoindex=no", *arguments])  # fmt: skip

    def _letters(self, folders: Iterable[str], query: Sequence[str]) -> Iterator[Letter]:
        """Letters as they were."""
        fields = "guid size.physical hdr.subject.utf8"
        for folder in folders:
            said = self._doveadm("fetch", "-u", self._request.address, fields,
                                 "mailbox", folder, *query, then=True)  # fmt: skip
            for item in json.loads(said or "[]"):
                yield Letter(folder, item["guid"], int(item["size.physical"]),
                             item["hdr.subject.utf8"])  # fmt: skip

    def _keys(self, folders: Iterable[str]) -> set[tuple[str, str]]:
        """Folder and GUID of letters as they are."""
        found = set()
        for folder in folders:
            said = self._doveadm("fetch", "-u", self._request.address, "guid", "mailbox", folder)
            found |= {(folder, item["guid"]) for item in json.loads(said or "[]")}
        return found

    # -- the plan ----------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What would come back; nothing of the mailbox is changed."""
        request = self._request
        snapshot = self._snapshot()
        self._bring(snapshot)
        then = [name for name in folders_of(self._then) if self._asked(name)]
        if request.folder and not then:
            raise RestoreError(
                f"{request.folder}: no such folder in the backup of {snapshot.taken}"
            )
        words = folded(request.subject)
        letters = [letter for letter in self._letters(then, self._query())
                   if words in folded(letter.subject)]  # fmt: skip
        now = folders_of(self._now)
        keys = self._keys(now)
        used = {guid for folder, guid in keys if not self._is_given_up(folder)}
        wanted = [
            letter
            for letter in letters
            if (self._there(letter.folder), letter.guid) not in keys
            and (request.beside or letter.guid not in used)
        ]
        missing = [] if request.beside else [name for name in then if name not in now]
        return Plan(
            snapshot, len(letters), tuple(wanted),
            tuple(() if self._query() or request.subject else missing),
            tuple(self._subscriptions(then) if request.whole else ()),
            tuple(self._scripts() if request.whole else ()),
        )  # fmt: skip

    def _there(self, folder: str) -> str:
        return f"{self._request.beside}/{folder}" if self._request.beside else folder

    def _asked(self, folder: str) -> bool:
        wanted = self._request.folder
        if wanted:
            return folder == wanted or folder.startswith(f"{wanted}/")
        return folder != ".EXPUNGED" and not self._is_copy(folder)

    def _is_copy(self, folder: str) -> bool:
        above = self._request.restored
        return bool(above) and f"{folder}/".startswith(f"{above}/")

    def _is_given_up(self, folder: str) -> bool:
        return folder.partition("/")[0] in _GIVEN_UP or self._is_copy(folder)

    def _query(self) -> list[str]:
        request = self._request
        query = []
        if request.message_id:
            query += ["header", "message-id", request.message_id]
        if request.day:
            query += ["on", request.day]
        return query

    def _subscriptions(self, folders: Iterable[str]) -> list[str]:
        then, now = (_lines(home / "mail/subscriptions") for home in (self._then, self._now))
        return [name for name in then if name not in now and name in set(folders)]

    def _scripts(self) -> list[str]:
        return [
            path.name
            for path in sorted((self._then / "sieve").glob("*.sieve"))
            if not (self._now / "sieve" / path.name).exists()
        ]

    # -- doing it ----------------------------------------------------------------------------------

    def apply(self) -> Plan:
        """Bring it back, and see that it is there.

        Raises:
            RestoreError: something is missing afterwards, or a program failed.
        """
        plan, request = self.plan(), self._request
        begun = self._begun(plan)
        for folder in plan.folders:
            self._create(folder)
        by_folder: dict[str, list[str]] = {}
        for letter in plan.letters:
            by_folder.setdefault(letter.folder, []).append(letter.guid)
        done = 0
        for folder, guids in by_folder.items():
            for start in range(0, len(guids), _BATCH):
                batch = guids[start : start + _BATCH]
                self._doveadm(
                    "import", "-u", request.address, *(["-s"] if request.beside else []),
                    # The source has none of the configuration's settings of names: without this,
                    # folders with Vietnamese names are left out without a word.
                    "-p", "mailbox_list_utf8=yes", f"sdbox:{self._then}/mail", request.beside,
                    "mailbox", folder, *_any(batch),
                )  # fmt: skip
                done += len(batch)
                log.info("%s: %d of %d letters", folder, done, len(plan.letters))
            there = self._there(folder)
            missing = set(guids) - {guid for _, guid in self._keys([there])}
            if missing:
                raise RestoreError(f"{there}: {len(missing)} letters did not come; run it again")
        if not request.beside:
            self._read_state(begun)
        for folder in plan.subscriptions:
            self._doveadm("mailbox", "subscribe", "-u", request.address, folder)
        self._bring_scripts(plan.scripts)
        # Links of letters would otherwise keep them from .EXPUNGED when they are deleted.
        shutil.rmtree(self._scratch)
        return plan

    @property
    def _record(self) -> Path:
        return self._scratch / "begun.json"

    def _begun(self, plan: Plan) -> dict[str, list[str]]:
        """By folder the letters of this run, and of earlier ones that were cut off."""
        begun: dict[str, list[str]] = records.read(self._record)
        for letter in plan.letters:
            if letter.guid not in begun.setdefault(letter.folder, []):
                begun[letter.folder].append(letter.guid)
        records.write(self._record, begun)
        return begun

    def forget(self) -> None:
        """Take away what a plan brought, unless a run that was cut off goes on with it."""
        if not self._record.exists():
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _create(self, folder: str) -> None:
        if not (_box(self._now, folder)).is_dir():
            self._doveadm("mailbox", "create", "-u", self._request.address, folder)
        rights = _box(self._then, folder) / "dovecot-acl"
        own = _box(self._now, folder) / "dovecot-acl"
        if rights.exists() and not own.exists():
            shutil.copy2(rights, own)
            shutil.chown(own, "vmail", "vmail")
            (self._now / "mail/mailboxes/dovecot-acl-list").unlink(missing_ok=True)

    def _read_state(self, by_folder: dict[str, list[str]]) -> None:
        """Letters of a unit are read again for whoever had read them."""
        # Whatever people see it as, by its address Dovecot finds it; what each has read is kept
        # below the name of its home.
        unit = f"{self._request.units}/{self._request.address.partition('@')[0]}"
        code = self._request.home.partition("/")[2]
        for reader, address in self._request.readers.items():
            private = self._scratch / reader / "units" / code
            if not private.is_dir():
                continue
            for folder, guids in by_folder.items():
                # The unit's folder itself is its INBOX.
                below = "" if folder == "INBOX" else f"/{folder}"
                there = f"{unit}{below}"
                read = self._seen(
                    address, there, f"mail_path={self._then}/mail",
                    f"mail_index_private_path={private}",
                )  # fmt: skip
                seen = sorted((read & set(guids)) - self._seen(address, there))
                for start in range(0, len(seen), _BATCH):
                    self._doveadm("flags", "add", "-u", address, r"\Seen", "mailbox", there,
                                  *_any(seen[start : start + _BATCH]))  # fmt: skip
                if unread := set(seen) - self._seen(address, there):
                    raise RestoreError(f"{address}: {there}: {len(unread)} letters are unread")

    def _seen(self, address: str, folder: str, *units: str) -> set[str]:
        """Letters of a unit that somebody has read; with other settings of the namespace."""
        options = [part for setting in units for part in ("-o", f"namespace/units/{setting}")]
        said = self._run([
            "doveadm", "-f", "json", "-o", "acl_ignore=yes", *options,
            "fetch", "-u", address, "guid", "mailbox", folder, "seen",
        ])  # fmt: skip
        return {item["guid"] for item in json.loads(said or "[]")}

    def _bring_scripts(self, scripts: Iterable[str]) -> None:
        for name in scripts:
            self._run(["doveadm", "sieve", "put", "-u", self._request.address,
                       name.removesuffix(".sieve"), str(self._then / "sieve" / name)])  # fmt: skip
        active, now = self._then / ".dovecot.sieve", self._now / ".dovecot.sieve"
        if scripts and active.is_symlink() and not now.is_symlink():
            self._run(["doveadm", "sieve", "activate", "-u", self._request.address,
                       active.readlink().name.removesuffix(".sieve")])  # fmt: skip


def folders_of(home: Path) -> list[str]:
    """The folders of a home that hold letters, by their names."""
    above = home / "mail/mailboxes"
    return sorted(str(path.parent.relative_to(above)) for path in above.rglob("dbox-Mails"))


def _box(home: Path, folder: str) -> Path:
    return home / "mail/mailboxes" / folder / "dbox-Mails"


def _lines(path: Path) -> list[str]:
    """Folders of Dovecot's list of subscriptions, whose first lines say its version."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    # Version 2 parts the levels of a name by tabs.
    return [line.replace("\t", "/") for line in lines if line and not line.startswith("V\t")]


def _any(guids: Sequence[str]) -> list[str]:
    """A query for any of these letters."""
    query = ["("]
    for number, guid in enumerate(guids):
        query += [*(["OR"] if number else []), "guid", guid]
    return [*query, ")"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; what it found is printed as JSON."""
    parser = argparse.ArgumentParser(prog="site-restore-mail", description=__doc__)
    parser.add_argument("job", choices=["plan", "prepare", "apply", "holds", "bring", "forget"])
    job = parser.parse_args(arguments).job
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    try:
        restorer = Restorer(Request.read(sys.stdin.read()))
        elsewhere = {
            "holds": restorer.holds, "bring": restorer.bring, "forget": restorer.forget_fetched,
        }  # fmt: skip
        if job in elsewhere:
            said = elsewhere[job]()
        else:
            said = (restorer.apply() if job == "apply" else restorer.plan()).said()
        if job == "plan":
            restorer.forget()
    except (RestoreError, OSError) as error:
        log.error("%s", error)
        return 1
    sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
