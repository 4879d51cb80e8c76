"""The directory as it was at a time, brought back on a directory host: `site-restore directory`.

A directory that is in use gets what differs through LDAP, as any other change: the other directory
hosts follow, and the audit log tells it. Then

- an entry that was removed comes back with its identity (entryUUID), its password and its rights;
- an entry that is there gets the values that it had, its password too: who has another one since
  then is logged out everywhere. When a password was tried or last used is left as it is;
- an entry that was made since stays, unless the restore is `exact`;
- a password for an application that was revoked since stays revoked, unless it is `exact`;
- services, policies and containers are the deployment's, and left alone: secrets may be others now;
- an entry whose address or number somebody else has now is left out, and named.

One entry comes back with those below it and with the rights that others' entries gave it.

A directory that holds nothing but what the deployment made is loaded as a whole, with its audit
log, before slapd runs again. A run that was cut off is simply run again.
"""

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from roles.backup.snapshots import (
    STAGE,
    Backup,
    RestoreError,
    Run,
    Snapshot,
    command,
    piped,
    understood,
)
from roles.directory.ldif import (
    OPERATIONAL,
    Attributes,
    Change,
    Entries,
    changed_attributes,
    normalized,
    parse,
    same_set,
)

CONFIG = "/etc/ldap/slapd.d"
DATABASES = {"data": Path("/var/lib/ldap/mail"), "accesslog": Path("/var/lib/ldap/accesslog")}
"""Names of dumps, and where slapd keeps what they are of."""
_LOCK = Path("/run/site-directory.lock")
"""Held by a deploy that changes the directory."""
_KEPT = frozenset(
    ("entryUUID", "creatorsName", "createTimestamp", "pwdHistory", "pwdReset", "pwdEndTime")
)
"""What the server writes, but an entry that comes back has as it was."""
_COMPARED = frozenset(("pwdReset", "pwdEndTime"))
"""What the server writes, but belongs to a password as it was."""
_REFERENCES = (
    "mailboxReader", "mailboxFiler", "mailboxSender", "mailboxSuccessor", "owner", "member",
    "unitParent",
)  # fmt: skip
"""Values are DNs; slapd removes them with the entry that they name (overlay refint)."""
_UNIQUE = ("mailLocalAddress", "mail", "employeeNumber")
"""slapd refuses a second entry with the same value (overlay unique)."""
_SECRET = ("userpassword", "pwdhistory")
_PASSES = 4
"""So often what is left is tried again: an address may be free only after another change."""


@dataclass(frozen=True)
class Request:
    """What shall come back."""

    at: datetime
    base: str
    containers: tuple[str, ...]
    """DNs below which the registry's entries are."""
    entry: str = ""
    """One entry, with those below it, by its DN, address, number or code; all by default."""
    exact: bool = False
    """Whether what was made since goes."""
    source: str = ""
    """A further target instead of the backup host."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Request":
        """A request as JSON has it.

        Raises:
            RestoreError: it is none.
        """
        with understood():
            return cls(
                **{
                    **values, "at": datetime.fromisoformat(values["at"]),
                    "containers": tuple(normalized(dn) for dn in values["containers"]),
                    "entry": normalized(values.get("entry", "")),
                }
            )  # fmt: skip

    def concerns(self, dn: str) -> bool:
        """Whether an entry is among those that come back."""
        if self.entry:
            return dn == self.entry or dn.endswith(f",{self.entry}")
        return any(dn.endswith(f",{container}") for container in self.containers)

    def resolved(self, then: Entries) -> "Request":
        """The same with the entry's DN.

        Raises:
            RestoreError: the one entry that is asked for was not there, or several may be meant.
        """
        if not self.entry:
            return self
        found = [self.entry] if self.entry in then else []
        if "=" not in self.entry:
            found = [
                dn
                for dn, entry in then.items()
                if any(dn.endswith(f",{container}") for container in self.containers)
                and self.entry in _known_as(entry)
            ]
        if len(found) != 1:
            there = f"may be {'; '.join(found)}" if found else "was not there at that time"
            raise RestoreError(f"{self.entry}: {there}; expected the DN or address of one entry")
        return replace(self, entry=found[0])


@dataclass
class Difference:
    """What must be changed, in an order in which slapd takes it."""

    modified: list[Change] = field(default_factory=list)
    added: list[Change] = field(default_factory=list)
    deleted: list[Change] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    """Made since, and left."""
    refused: dict[str, str] = field(default_factory=dict)
    """Entries that cannot come back, with the reason."""
    revoked: list[str] = field(default_factory=list)
    """Passwords for applications that stay revoked."""

    @property
    def changes(self) -> list[Change]:
        """All of them."""
        return [*self.deleted, *self.modified, *self.added]


def read(lines: Iterable[str]) -> Entries:
    """The entries of an LDIF text with all that is in it, by their normalised DN."""
    return {normalized(dn): {"dn": [dn], **attributes} for dn, attributes in parse(lines)}


def difference(then: Entries, now: Entries, request: Request) -> Difference:
    """What separates the directory from what it was.

    Args:
        then: all entries of that time, from `read`.
        now: all entries as they are.
        request: what shall come back, resolved.
    """
    result = Difference()
    for dn, entry in then.items():
        if request.concerns(dn):
            if dn in now:
                _modified(entry, now[dn], request, result)
            else:
                result.added.append(Change("add", _dn(entry), _of_an_added(entry)))
        elif request.entry and dn in now:
            _references(entry, now[dn], request, result)
    since = [dn for dn in now if request.concerns(dn) and dn not in then]
    if request.exact:
        result.deleted = [
            Change("delete", _dn(now[dn]), {}) for dn in sorted(since, key=_depth, reverse=True)
        ]
    else:
        result.stays = since
    # Parents first.
    result.added.sort(key=lambda change: _depth(change.dn))
    _without_conflicts(now, result)
    return result


def _known_as(entry: Attributes) -> set[str]:
    """What people call an entry."""
    names = ("mail", "mailLocalAddress", "employeeNumber", "ou", "cn", "associatedDomain")
    values = {value.lower() for name in names for value in entry.get(name, [])}
    return values | {value.partition("@")[0] for value in values if "@" in value}


def _dn(entry: Attributes) -> str:
    return entry["dn"][0]


def _depth(dn: str) -> int:
    return dn.count(",")


def _of_an_added(entry: Attributes) -> Attributes:
    return {
        name: values
        for name, values in entry.items()
        if name != "dn" and (name not in OPERATIONAL or name in _KEPT)
    }


def _compared(entry: Attributes) -> Attributes:
    return {
        name: values
        for name, values in entry.items()
        if name != "dn" and (name not in OPERATIONAL or name in _COMPARED)
    }


def _modified(then: Attributes, now: Attributes, request: Request, result: Difference) -> None:
    wanted, found = _compared(then), _compared(now)
    ended = "appPassword" in now.get("objectClass", []) and "pwdEndTime" in now
    if ended and then.get("pwdEndTime") != now["pwdEndTime"] and not request.exact:
        wanted["pwdEndTime"] = now["pwdEndTime"]
        result.revoked.append(_dn(now))
    if differing := changed_attributes(wanted, found, same_set):
        result.modified.append(Change("modify", _dn(now), differing))


def _references(then: Attributes, now: Attributes, request: Request, result: Difference) -> None:
    """The rights that an entry which is not asked for gave to one that is."""
    back: Attributes = {}
    for name in _REFERENCES:
        present = {normalized(value) for value in now.get(name, [])}
        missing = [
            value
            for value in then.get(name, [])
            if request.concerns(normalized(value)) and normalized(value) not in present
        ]
        if missing and not (name == "unitParent" and present):
            back[name] = [*now.get(name, []), *missing]
    if back:
        result.modified.append(Change("modify", _dn(now), back))


def _without_conflicts(now: Entries, result: Difference) -> None:
    """Leave out entries of which somebody else has an address or a number, and say whose."""
    after = dict(now)
    for change in result.deleted:
        after.pop(normalized(change.dn), None)
    for change in (*result.modified, *result.added):
        dn = normalized(change.dn)
        after[dn] = {**after.get(dn, {}), **{name: [*values] for name, values in
                                             change.attributes.items()}}  # fmt: skip
    holders: dict[tuple[str, str], list[str]] = {}
    for dn, entry in after.items():
        for name in _UNIQUE:
            for value in entry.get(name, []):
                holders.setdefault((name, value.lower()), []).append(dn)
    ours = {normalized(change.dn) for change in (*result.modified, *result.added)}
    for (name, value), dns in holders.items():
        others = [dn for dn in dns if dn not in ours]
        if len(dns) > 1 and others:
            for dn in ours.intersection(dns):
                result.refused[dn] = f"{name} {value} belongs to {others[0]} now"
    for above in list(result.refused):
        for change in result.added:
            dn = normalized(change.dn)
            if dn.endswith(f",{above}"):
                result.refused[dn] = f"{above} does not come back"
    for changes in (result.modified, result.added):
        changes[:] = [change for change in changes if normalized(change.dn) not in result.refused]


def is_fresh(now: Entries, containers: Sequence[str]) -> bool:
    """Whether a directory holds nothing but what the deployment itself makes."""
    return not any(dn.endswith(f",{above}") for dn in now for above in containers)


class Directory:
    """The directory of this host."""

    def __init__(
        self,
        base: str,
        run: Run = command,
        feed: Callable[[Sequence[str], IO[bytes]], None] = piped,
    ) -> None:
        """Nothing is asked yet.

        Args:
            base: the suffix.
            run: how programs are run.
            feed: how a program is run that reads a file.
        """
        self._base = base
        self._run = run
        self._feed = feed

    def entries(self) -> Entries:
        """All of it, read without asking slapd; none where there is no database."""
        if not (DATABASES["data"] / "data.mdb").exists():
            return {}
        said = self._run([
            "runuser", "-u", "openldap", "--", "slapcat", "-F", CONFIG, "-o", "ldif-wrap=no",
            "-b", self._base,
        ])  # fmt: skip
        return read(said.splitlines())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No deploy changes the directory meanwhile."""
        with _LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def change(self, changes: Sequence[Change]) -> str:
        """Hand changes to slapd; what it refuses does not stop the others.

        Returns:
            What slapd said of those that it refused.
        """
        # Relax: identities and dates of entries that come back are otherwise the server's alone.
        options = ["-Q", "-Y", "EXTERNAL", "-H", "ldapi:///", "-c", "-e", "relax"]
        text = "".join(change.ldif() for change in changes)
        try:
            command(["ldapmodify", *options], text)
        except RestoreError as error:
            return str(error)
        return ""

    def mend(self) -> None:
        """Undo what a run left that was cut off while it loaded a database."""
        broken = [folder for folder in DATABASES.values() if (folder / "data.mdb.before").exists()]
        if broken:
            self._run(["systemctl", "stop", "slapd.service"])
            for folder in broken:
                _back(folder)
            self._run(["systemctl", "start", "slapd.service"])

    def load(self, dumps: Mapping[str, Path]) -> None:
        """Load databases as a whole; they hold nothing that is worth keeping.

        Args:
            dumps: the LDIF files by the names of `DATABASES`.

        Raises:
            RestoreError: slapadd refused one; then all are as they were.
        """
        suffixes = {"data": self._base, "accesslog": "cn=accesslog"}
        self._run(["systemctl", "stop", "slapd.service"])
        try:
            for name in dumps:
                _aside(DATABASES[name])
            for name, path in dumps.items():
                arguments = ["-q", "-w", "-F", CONFIG, "-b", suffixes[name]]
                with path.open("rb") as file:
                    self._feed(["runuser", "-u", "openldap", "--", "slapadd", *arguments], file)
        except RestoreError:
            for name in dumps:
                _back(DATABASES[name])
            raise
        finally:
            self._run(["systemctl", "start", "slapd.service"])
        for name in dumps:
            (DATABASES[name] / "data.mdb.before").unlink(missing_ok=True)

    def empty(self) -> None:
        """Forget everything; slapd then takes all from another directory host once it runs."""
        self._run(["systemctl", "stop", "slapd.service"])
        for folder in DATABASES.values():
            for name in ("data.mdb", "lock.mdb"):
                (folder / name).unlink(missing_ok=True)


def _aside(folder: Path) -> None:
    data = folder / "data.mdb"
    if data.exists():
        data.rename(folder / "data.mdb.before")
    (folder / "lock.mdb").unlink(missing_ok=True)


def _back(folder: Path) -> None:
    before = folder / "data.mdb.before"
    (folder / "lock.mdb").unlink(missing_ok=True)
    if before.exists():
        before.replace(folder / "data.mdb")


def shown(change: Change) -> dict[str, Any]:
    """A change for people: without hashes."""
    return {
        "dn": change.dn,
        "attributes": {
            name: ["*"] * len(values) if name.lower() in _SECRET else [*values]
            for name, values in change.attributes.items()
        },
    }


def _said(found: Difference) -> dict[str, Any]:
    return {
        "added": [change.dn for change in found.added],
        "modified": [shown(change) for change in found.modified],
        "deleted": [change.dn for change in found.deleted],
        "stays": found.stays, "refused": found.refused, "revoked": found.revoked,
    }  # fmt: skip


def _then(request: Request, backup: Backup) -> tuple[Snapshot, Entries, Request]:
    """The backup that is meant, the directory in it, and the request with the entry's DN."""
    snapshot = backup.latest("directory", request.at)
    then = read(backup.text(snapshot, STAGE / "directory" / "data.ldif").splitlines())
    return snapshot, then, request.resolved(then)


def plan(request: Request, backup: Backup, directory: Directory) -> dict[str, Any]:
    """What would change."""
    snapshot, then, request = _then(request, backup)
    now = directory.entries()
    if is_fresh(now, request.containers) and not request.entry:
        count = sum(request.concerns(dn) for dn in then)
        return {**snapshot.said(), "loaded": count, **_said(Difference())}
    return {**snapshot.said(), "loaded": 0, **_said(difference(then, now, request))}


def apply(request: Request, backup: Backup, directory: Directory, scratch: Path) -> dict[str, Any]:
    """Change it, then compare once more.

    Returns:
        The plan that was carried out, and in `left` what is still not as it was.
    """
    snapshot, then, request = _then(request, backup)
    with directory.locked():
        directory.mend()
        now = directory.entries()
        if is_fresh(now, request.containers) and not request.entry:
            dumps = {name: scratch / f"{name}.ldif" for name in DATABASES}
            try:
                for name, path in dumps.items():
                    backup.file(snapshot, STAGE / "directory" / f"{name}.ldif", path)
                directory.load(dumps)
            finally:
                for path in dumps.values():
                    path.unlink(missing_ok=True)
            count = sum(request.concerns(dn) for dn in then)
            loaded = directory.entries()
            missing = [dn for dn in then if dn not in loaded]
            return {
                **snapshot.said(), "loaded": count, **_said(Difference()),
                "left": missing, "words": "",
            }  # fmt: skip
        first = found = difference(then, now, request)
        words = ""
        for _ in range(_PASSES):
            if not found.changes:
                break
            words = directory.change(found.changes)
            before, found = found, difference(then, directory.entries(), request)
            if found.changes == before.changes:
                break
    return {
        **snapshot.said(), "loaded": 0, **_said(first),
        "left": [change.dn for change in found.changes], "words": words if found.changes else "",
    }  # fmt: skip
