#!/usr/bin/python3
"""Whoever may no longer do something is out: keeps log-ins of this host in step with the directory.

Dovecot remembers a log-in for minutes (`auth_cache`), and a session lives as long as its client
likes. This asks every directory, every few seconds, what became different since it asked last, and
makes Dovecot forget the account; where somebody may do less than before, or has a new password, it
ends the sessions, too. The client logs in again, if it may. Where a mailbox moved, sessions end on
the store that it left, and nowhere else: who has logged in since has the new one open.

Every directory is followed on its own: Dovecot may have asked one that learnt of a change later
than the others. What was known is kept on disk, so that a change during an outage of this program,
of the directory or of Dovecot is acted upon after it; a change counts as known once it was acted
upon. A service or unit mailbox that was given and taken between two questions is in neither answer:
each directory's own log of changes tells of it.
"""

import argparse
import contextlib
import logging
import os
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import ldap  # type: ignore[import-not-found] # Debian's, on the hosts only

EVERYTHING = 30
"""Seconds between two readings of all entries while there are changes: what was removed is in no
answer about changes. With 20,000 mailboxes it costs the directory 0.3 s, this program 0.6 s."""
ANYWAY = 600
"""Seconds between two readings of all entries in any case; it need not find anything."""
SETTLE = 2
"""Seconds between a change and the action: a log-in that the directory had just allowed is then
known to Dovecot, and ends, too."""
AT_ONCE = 200
"""Accounts that one call of doveadm is told."""
_FORM = 2
"""How the file of what is known is built; another number than the file's makes it anew."""
_ANSWERS = 20
"""Seconds that doveadm may take; it asks a session's process, which may not answer."""
_NOBODY = 68
"""What doveadm returns where an account has no session."""

_BASE, _ONE_LEVEL, _SUBTREE = 0, 1, 2
_ACCOUNT = "(objectClass=mailboxAccount)"
_TOKEN = "(objectClass=appPassword)"  # noqa: S105 - a class of entries
_ATTRIBUTES = (
    "mail", "mailboxState", "mailboxService", "mailboxGroup", "mailHost",
    "pwdChangedTime", "pwdReset", "pwdEndTime", "createTimestamp", "entryCSN",
)  # fmt: skip
_LOG_IN = frozenset(("active", "expiring"))
_LOG = "cn=accesslog"
"""Where a directory keeps every change that it went through, for `directory.audit_kept`."""
_GIVEN = re.compile(rb"(mailboxService|mailboxGroup):[+=] (.+)")
"""A value that a change gave, as the log writes it."""

Values = dict[str, list[bytes]]
"""Attributes of an entry, by their names."""

log = logging.getLogger()


class Account(NamedTuple):
    """What an entry allows: a mailbox's, or that of a password for one application."""

    user: str
    """The login name; of an application's password the DN of the person."""
    services: frozenset[str]
    """What one may log in to with it."""
    groups: frozenset[str]
    """The unit mailboxes that it opens."""
    store: str
    password: str
    """When its password was changed."""
    change: str
    """The number (CSN) of the entry's last change, whatever that was."""
    ends: str = ""
    """From when on its password opens nothing; empty for never."""
    created: str = ""
    """When the entry was made."""

    @property
    def untouched(self) -> bool:
        """Whether the entry is as it was made, to the second."""
        return self.change[:14] == self.created[:14]

    @property
    def application(self) -> bool:
        """Whether it is a password for one application."""
        return "," in self.user

    def at(self, now: str) -> "Account":
        """What it allows at a moment."""
        return self._replace(services=frozenset()) if "" < self.ends <= now else self


def account(dn: str, values: Values, now: str) -> Account:
    """An entry as far as it concerns log-ins.

    Args:
        dn: its name.
        values: its attributes.
        now: the time, as the directory writes it.
    """

    def all_of(name: str) -> frozenset[str]:
        return frozenset(value.decode().lower() for value in values.get(name, ()))

    def one(name: str) -> str:
        return " ".join(sorted(all_of(name)))

    services = all_of("mailboxService") - {"lmtp"}
    if one("pwdReset") == "true":
        # There the password is changed; it opens nothing else before.
        services &= {"webmail"}
    # An application's password has no state of its own.
    if all_of("mailboxState") - _LOG_IN:
        services = frozenset()
    known = Account(
        user=one("mail") or dn.partition(",")[2],
        services=services,
        groups=all_of("mailboxGroup"),
        store=one("mailHost"),
        password=one("pwdChangedTime"),
        change=one("entryCSN"),
        ends=one("pwdEndTime").upper(),
        created=one("createTimestamp").upper(),
    )
    return known.at(now)


def held(before: Account, after: Account, most: Account) -> Account:
    """What an entry allowed before, or for a moment since.

    Args:
        before: the entry as it was known.
        after: as it is now.
        most: as it would be if nothing that was given since had been taken.
    """
    return before._replace(
        services=before.services | (most.services - after.services),
        groups=before.groups | (most.groups - after.groups),
    )


@dataclass(frozen=True)
class Difference:
    """What became different about an account."""

    user: str
    words: tuple[str, ...]
    """What is said of it; nothing of who has just been added."""
    narrower: bool
    """Whether sessions that are open may do what the account may not, or were opened with a
    password that is no longer the account's."""


def _newcomer(after: Account) -> Difference:
    """What must be forgotten of an entry of which nothing was known."""
    # A password for an application that is over in the second it was made was revoked in it.
    revoked = after.application and not after.services
    if after.untouched and not revoked:
        # Dovecot may remember what this adds to: a further password of the account.
        return Difference(after.user, (), narrower=False)
    # It was made and changed between two questions: what it allowed before, nobody knows.
    return Difference(after.user, ("new, and changed since",), narrower=True)


def differences(
    before: Account | None, after: Account | None, stores: Collection[str] = ()
) -> list[Difference]:
    """What must be forgotten, and for whom.

    Args:
        before: the entry as it was known; None where nothing was known of it.
        after: as it is now; None where it was removed.
        stores: the names of this host that `mailHost` may hold.
    """
    if before is None:
        return [] if after is None else [_newcomer(after)]
    if after is None:
        return [Difference(before.user, ("removed",), narrower=True)]
    moved = before.store != after.store
    away = moved and before.store in stores and after.store not in stores
    less = [
        *([f"moved to {after.store}"] if away else []),
        *(["new password"] if before.password != after.password else []),
        *(f"no {name}" for name in sorted(before.services - after.services)),
        *(f"left {name}" for name in sorted(before.groups - after.groups)),
    ]
    more = [
        # Nobody has the old one open here; whoever has logged in since has the new one.
        *([f"now on {after.store}"] if moved and not away else []),
        *(f"now {name}" for name in sorted(after.services - before.services)),
        *(f"joined {name}" for name in sorted(after.groups - before.groups)),
    ]
    if before.user != after.user:
        return [
            Difference(before.user, (f"renamed {after.user}", *less), narrower=True),
            Difference(after.user, (f"was {before.user}",), narrower=False),
        ]
    if before.change != after.change and after.password and not (after.services or less or more):
        # Perhaps let in and locked again between two questions: who came in then is out, too.
        less = ["still no log-in"]
    if less or more:
        return [Difference(after.user, (*less, *more), narrower=bool(less))]
    return []


class Knowledge:
    """What is known of each directory's accounts, on disk."""

    def __init__(self, path: Path | str) -> None:
        self._file = sqlite3.connect(path)
        # What is lost with the machine is found again by comparing.
        self._file.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        if self._file.execute("PRAGMA user_version").fetchone() != (_FORM,):
            # Another release's: everything is read, and forgotten, as at the very first.
            self._file.executescript(
                "DROP TABLE IF EXISTS directory; DROP TABLE IF EXISTS account;"
                f"PRAGMA user_version = {_FORM};"
            )
        self._file.executescript(
            "CREATE TABLE IF NOT EXISTS directory (uri TEXT PRIMARY KEY, csn TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS account (uri TEXT, dn TEXT, user TEXT, services TEXT,"
            " groups TEXT, store TEXT, password TEXT, change TEXT, ends TEXT, created TEXT,"
            " PRIMARY KEY (uri, dn))"
            " WITHOUT ROWID;"
        )

    def state(self, uri: str) -> frozenset[str] | None:
        """How far the directory had come; None where nothing is known of it."""
        row = self._file.execute("SELECT csn FROM directory WHERE uri = ?", (uri,)).fetchone()
        return None if row is None else frozenset(row[0].split())

    def get(self, uri: str, dn: str) -> Account | None:
        """An entry as it was known."""
        row = self._file.execute(
            "SELECT user, services, groups, store, password, change, ends, created FROM account"
            " WHERE uri = ? AND dn = ?",
            (uri, dn),
        ).fetchone()
        if row is None:
            return None
        user, services, groups, *rest = row
        return Account(user, frozenset(services.split()), frozenset(groups.split()), *rest)

    def ended(self, uri: str, now: str) -> list[str]:
        """The DNs of entries that opened something until their end came."""
        rows = self._file.execute(
            "SELECT dn FROM account"
            " WHERE uri = ? AND ends > '' AND ends <= ? AND services > '' ORDER BY dn",
            (uri, now),
        )
        return [row[0] for row in rows]

    def names(self, uri: str) -> set[str]:
        """The DNs of all entries."""
        return {
            row[0] for row in self._file.execute("SELECT dn FROM account WHERE uri = ?", (uri,))
        }

    def keep(self, uri: str, state: frozenset[str], changed: dict[str, Account | None]) -> None:
        """Know a directory's state and entries, all or none.

        Args:
            uri: the directory.
            state: how far it had come before the entries were read.
            changed: entries by DN; None where one was removed.
        """
        with self._file:
            self._file.executemany(
                "DELETE FROM account WHERE uri = ? AND dn = ?",
                [(uri, dn) for dn, after in changed.items() if after is None],
            )
            self._file.executemany(
                "REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (uri, dn, after.user, " ".join(sorted(after.services)),
                     " ".join(sorted(after.groups)), after.store, after.password, after.change,
                     after.ends, after.created)
                    for dn, after in changed.items()
                    if after is not None
                ],
            )  # fmt: skip
            self._file.execute(
                "REPLACE INTO directory VALUES (?, ?)", (uri, " ".join(sorted(state)))
            )

    def forget(self, uris: Iterable[str]) -> None:
        """Forget the directories that are not asked any more."""
        known = {row[0] for row in self._file.execute("SELECT uri FROM directory")}
        with self._file:
            for uri in known - set(uris):
                self._file.execute("DELETE FROM directory WHERE uri = ?", (uri,))
                self._file.execute("DELETE FROM account WHERE uri = ?", (uri,))


class Directory:
    """One directory, by a connection that is kept."""

    def __init__(self, uri: str, base: str, name: str, password: Path, authority: Path) -> None:
        self.uri = uri
        self.base = base
        self._name = name
        self._password = password
        self._authority = authority
        self._connection: Any = None

    def _connected(self) -> Any:
        if self._connection is None:
            connection = ldap.initialize(self.uri)
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, 5)
            connection.set_option(ldap.OPT_TIMEOUT, 10)
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self._authority))
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
            connection.simple_bind_s(self._name, self._password.read_text(encoding="utf-8"))
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Give the connection up; the next question opens another one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.unbind_s()
            except ldap.LDAPError:
                log.debug("%s: the connection was broken", self.uri)

    def state(self) -> frozenset[str]:
        """How far it has come: the number (CSN) of the last change of each directory host."""
        ((_, values),) = self._connected().search_s(
            self.base, _BASE, "(objectClass=*)", ["contextCSN"]
        )
        return frozenset(value.decode() for value in values["contextCSN"])

    def entries(self, condition: str = "") -> Iterator[tuple[str, Values]]:
        """Entries of mailboxes and of applications' passwords, one after the other."""
        condition = f"(&(|{_ACCOUNT}{_TOKEN}){condition})"
        yield from self._search(self.base, _SUBTREE, condition, _ATTRIBUTES)

    def changes(self, since: str) -> Iterator[Values]:
        """What its log tells of changes, from one number (CSN) on."""
        names = ("entryCSN", "reqDN", "reqMod")
        for _, values in self._search(_LOG, _ONE_LEVEL, f"(entryCSN>={since})", names):
            yield values

    def _search(
        self, base: str, scope: int, condition: str, names: Sequence[str]
    ) -> Iterator[tuple[str, Values]]:
        connection = self._connected()
        number = connection.search(base, scope, condition, list(names))
        while True:
            _, answer = connection.result(number, all=0)
            if not answer:
                return
            for dn, values in answer:
                yield dn.lower(), values


@dataclass(frozen=True)
class News:
    """What one directory said, not yet acted upon."""

    state: frozenset[str]
    changed: dict[str, Account | None]
    differences: list[Difference]
    first: bool
    """Whether nothing was known of this directory."""


class Follower:
    """What one directory says, compared with what it said before."""

    def __init__(
        self, directory: Directory, knowledge: Knowledge, stores: Collection[str] = ()
    ) -> None:
        """Nothing is asked yet.

        Args:
            directory: which.
            knowledge: what is known of it.
            stores: the names of this host that `mailHost` may hold.
        """
        self.directory = directory
        self._knowledge = knowledge
        self._stores = stores
        self._read = float("-inf")
        self._moved = False
        self._answers = True

    def news(self, clock: float, now: str) -> News | None:
        """What became different since the last that was kept; None if the directory is down.

        Args:
            clock: the time, monotonic, in seconds.
            now: the time, as the directory writes it.
        """
        try:
            try:
                news = self._news(clock, now)
            except ldap.LDAPError:
                # It may have been started again since it was asked last.
                self.directory.close()
                news = self._news(clock, now)
        except ldap.LDAPError as error:
            self.directory.close()
            if self._answers:
                log.warning("%s: does not answer: %s", self.directory.uri, error)
            self._answers = False
            return None
        if not self._answers:
            log.info("%s: answers again", self.directory.uri)
        self._answers = True
        return news

    def _news(self, clock: float, now: str) -> News:
        uri = self.directory.uri
        before, state = self._knowledge.state(uri), self.directory.state()
        since = None if before is None else oldest(before, state)
        self._moved = self._moved or state != before
        pause = EVERYTHING if self._moved else ANYWAY
        everything = since is None or clock - self._read >= pause
        if everything:
            found = self.directory.entries()
        elif state != before:
            found = self.directory.entries(f"(entryCSN>={since})")
        else:
            found = iter(())
        changed: dict[str, Account | None] = {
            # Time alone changes nothing in the directory.
            dn: known.at(now)
            for dn in self._knowledge.ended(uri, now)
            if (known := self._knowledge.get(uri, dn))
        }
        seen, recent = set(), dict[str, Values]()
        for dn, values in found:
            seen.add(dn)
            after = account(dn, values, now)
            changed.pop(dn, None)
            if after != self._knowledge.get(uri, dn):
                changed[dn] = after
            if before and after.change >= (since or "").lower():
                recent[dn] = values
        if everything:
            changed |= dict.fromkeys(self._knowledge.names(uri) - seen)
            self._read, self._moved = clock, False
        most: dict[str, Account] = {}
        if before and state != before:
            # After the entries: slapd changes the entry first, then it writes the log.
            gifts = given(self.directory.changes(since or min(before)), before, state)
            for dn in gifts.keys() & recent.keys():
                values = recent[dn]
                more = {name: values.get(name, []) + new for name, new in gifts[dn].items()}
                changed[dn], most[dn] = account(dn, values, now), account(dn, values | more, now)
        # At the first, everything is forgotten.
        different = [] if before is None else list(self._differences(changed, most))
        return News(state, changed, different, first=before is None)

    def _differences(
        self, changed: dict[str, Account | None], most: dict[str, Account]
    ) -> Iterator[Difference]:
        def present(dn: str) -> Account | None:
            return changed.get(dn) or self._knowledge.get(self.directory.uri, dn)

        for dn, after in changed.items():
            before = self._knowledge.get(self.directory.uri, dn)
            if before and after and dn in most:
                before = held(before, after, most[dn])
            for difference in differences(before, after, self._stores):
                person = present(difference.user)
                yield replace(difference, user=person.user) if person else difference

    def keep(self, news: News) -> None:
        """Know what was acted upon."""
        uri = self.directory.uri
        if news.changed or self._knowledge.state(uri) != news.state:
            self._knowledge.keep(uri, news.state, news.changed)


def given(
    changes: Iterable[Values], before: frozenset[str], after: frozenset[str]
) -> dict[str, Values]:
    """Services and unit mailboxes that were given between two states of a directory.

    Args:
        changes: what its log tells.
        before: the last change of each directory host then.
        after: the same now; what came since is another question's.

    Returns:
        Values by the DN of the entry and the name of the attribute.
    """
    former, latter = ({csn.split("#")[2]: csn for csn in state} for state in (before, after))
    result: dict[str, Values] = {}
    for change in changes:
        csn = change["entryCSN"][0].decode()
        host = csn.split("#")[2]
        if former.get(host, "") < csn <= latter.get(host, ""):
            for line in filter(None, map(_GIVEN.fullmatch, change.get("reqMod", ()))):
                entry = result.setdefault(change["reqDN"][0].decode().lower(), {})
                entry.setdefault(line[1].decode(), []).append(line[2])
    return result


def oldest(before: frozenset[str], after: frozenset[str]) -> str | None:
    """From which change on something is new: the least number that a directory host has left.

    Returns:
        A CSN; the greatest where none has moved; None where a host came or went.
    """
    # 20261125083000.123456Z#000000#001#000000: the third part is the host.
    former, latter = ({csn.split("#")[2]: csn for csn in state} for state in (before, after))
    if not former or former.keys() != latter.keys():
        return None
    left = [csn for host, csn in former.items() if csn != latter[host]]
    return min(left, default=max(former.values()))


class Dovecot:
    """The Dovecot of this host."""

    def __init__(self, run_folder: Path = Path("/run/dovecot")) -> None:
        self._run_folder = run_folder

    def forget(self, users: Sequence[str]) -> None:
        """Forget what was remembered of accounts; of all where none is named."""
        for start in range(0, len(users) or 1, AT_ONCE):
            self._run("auth", "cache", "flush", *users[start : start + AT_ONCE])

    def end(self, user: str) -> None:
        """End an account's sessions; on a front those that it passes on."""
        self._run("kick", user)
        # Dovecot 2.4.1 ends a process by a signal that counts if the process still goes by this
        # name. One that has opened somebody else's mailbox since goes by that one, and stays.
        for service, process in self._sessions(user):
            self._ask_to_end(self._run_folder / f"srv.{service}" / process, user)

    def _sessions(self, user: str) -> Iterator[tuple[str, str]]:
        """Services and process IDs of an account's sessions."""
        for line in self._run("-f", "tab", "who", user).splitlines()[1:]:
            _, _, service, processes, _ = line.split("\t")
            for process in processes.strip("()").split():
                yield service, process

    def _ask_to_end(self, path: Path, user: str) -> None:
        """Ask a session's process itself, by its administrative socket."""
        greeting = f"VERSION\tmaster-admin-client\t1\t0\nKICK-USER\t{user}\n"
        # It may be on its way out, or serve many and have ended this session already.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as process:
            process.settimeout(5)
            process.connect(str(path))
            process.sendall(greeting.encode())
            with process.makefile("rb") as said:
                # Its own greeting, and how many it ended: by then it has.
                said.readline()
                said.readline()

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            ["/usr/bin/doveadm", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWERS,
        )
        if done.returncode not in {0, _NOBODY}:
            raise DovecotError(f"doveadm {' '.join(command[:2])}: {done.stderr.strip()}")
        return done.stdout


class DovecotError(Exception):
    """Dovecot does not answer; what it was to be told stays to be done."""


class Access:
    """All directories, and the Dovecot of this host."""

    def __init__(self, followers: Sequence[Follower], dovecot: Dovecot) -> None:
        self._followers = followers
        self._dovecot = dovecot
        self._dovecot_answers = True

    def round(self, clock: float) -> None:
        """Ask every directory, act, and know what was acted upon.

        Args:
            clock: the time, monotonic, in seconds.
        """
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime())
        news = [(follower, follower.news(clock, now)) for follower in self._followers]
        told = [(follower, said) for follower, said in news if said is not None]
        try:
            self._act([said for _, said in told])
        except (DovecotError, subprocess.TimeoutExpired) as error:
            if self._dovecot_answers:
                log.warning("%s; it will be told later", error)
            self._dovecot_answers = False
            return
        self._dovecot_answers = True
        for follower, said in told:
            follower.keep(said)

    def _act(self, news: Sequence[News]) -> None:
        by_user: dict[str, list[Difference]] = {}
        for said in news:
            for difference in said.differences:
                by_user.setdefault(difference.user, []).append(difference)
        if by_user:
            time.sleep(SETTLE)
            self._dovecot.forget(sorted(by_user))
        if any(said.first for said in news):
            # What was changed before is not known; what is remembered may be older than that.
            self._dovecot.forget([])
        failed = None
        for user, found in sorted(by_user.items()):
            narrower = any(difference.narrower for difference in found)
            if narrower:
                try:
                    self._dovecot.end(user)
                except (DovecotError, subprocess.TimeoutExpired) as error:
                    # The others shall not wait for one.
                    failed = error
                    continue
            words = dict.fromkeys(word for difference in found for word in difference.words)
            if words:
                log.info("%s: %s%s", user, ", ".join(words), "; sessions ended" if narrower else "")
        if failed:
            raise failed


class _Journal(logging.Formatter):
    """Lines with their priority, as systemd reads them."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{4 if record.levelno >= logging.WARNING else 6}>{record.getMessage()}"


def alive() -> None:
    """Tell systemd that the program is not stuck."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"WATCHDOG=1", path.replace("@", "\0", 1))


def main() -> None:
    """Go round for ever."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", action="append", required=True, metavar="URI")
    parser.add_argument("--base", required=True, help="the directory's suffix")
    parser.add_argument("--name", required=True, help="the DN that binds")
    parser.add_argument("--password", type=Path, required=True, help="a file, without a line end")
    parser.add_argument("--authority", type=Path, required=True, help="the site's certificates")
    parser.add_argument("--state", type=Path, required=True, help="the file of what is known")
    parser.add_argument("--store", action="append", default=[], help="a name in mailHost, if any")
    parser.add_argument("--every", type=float, required=True, help="seconds between two rounds")
    given = parser.parse_args()
    handler = logging.StreamHandler()
    handler.setFormatter(_Journal())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    knowledge = Knowledge(given.state)
    knowledge.forget(given.directory)
    followers = [
        Follower(
            Directory(uri, given.base, given.name, given.password, given.authority),
            knowledge,
            given.store,
        )
        for uri in given.directory
    ]
    access = Access(followers, Dovecot())
    while True:
        access.round(time.monotonic())
        alive()
        time.sleep(given.every)


if __name__ == "__main__":
    main()
