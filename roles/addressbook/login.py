"""The program that slapd asks who somebody is, and whether an open connection still counts.

python3 -m roles.addressbook.login CONFIGURATION

slapd writes each question to a socket (slapd-sock(5)), a connection a question. One logs in as
`mail=ADDRESS`, whatever stands behind it: the directory's entry is looked up, with everything that
makes it one that may log in, and bound to, so that the directory's policy counts wrong passwords
and locks. Later questions pass as long as the account may log in and has the same password.
"""

import hashlib
import io
import logging
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from roles.addressbook.configuration import Configuration, read
from roles.addressbook.directory import Directories, SilentError, log
from roles.directory.ldif import Attributes

SUCCESS, NO_SUCH_OBJECT, INVALID_CREDENTIALS, INSUFFICIENT_ACCESS = 0, 32, 49, 50
UNAVAILABLE, UNWILLING = 52, 53
"""Result codes (RFC 4511)."""
SAID_AGAIN = 3600
"""Seconds after which a further log-in of the same account from the same address is a line again: a
mail program may open a connection for every word that is typed."""
_SIMPLE = "128"
_BASE, _SUBTREE = 0, 2
_NAME = re.compile(r"mail=([^,+=\\]+)(,.*)?", re.IGNORECASE)
_APPLICATION = re.compile(r"[a-z2-9]{4}(-[a-z2-9]{4}){4}")
"""How a password for one application is made (role `webmail`); the first two groups name it."""
_MAIL_OR_WEBMAIL = "(|(mailboxService=imap)(mailboxService=pop3)(mailboxService=webmail))"
_MAIL = "(|(mailboxService=imap)(mailboxService=pop3))"
_SECONDS = 60
"""How long a question may take to arrive."""


class Upstream(Protocol):
    """What is asked of the directories."""

    def find(
        self, base: str, scope: int, condition: str, attributes: Sequence[str]
    ) -> list[tuple[str, Attributes]]:
        """Entries with their DNs."""

    def bind(self, dn: str, password: str) -> bool:
        """Whether this is the password of an entry."""


@dataclass(frozen=True)
class Question:
    """What slapd asks."""

    kind: str
    values: Mapping[str, str]
    password: bytes = b""

    def get(self, name: str) -> str:
        """A value, empty where it is not there."""
        return self.values.get(name, "")


@dataclass(frozen=True)
class Session:
    """Who an open connection of slapd belongs to."""

    name: str
    """The DN by which it was bound."""
    address: str
    entry: str
    """DN of the entry whose password opened it: the person's, or below it an application's."""
    changed: str
    """When the person's password was changed."""
    checked: float


def question(stream: io.BufferedIOBase) -> Question:
    """Read a question; a value that is given twice counts the first time.

    Raises:
        ValueError: it ends too early.
    """
    kind = stream.readline().decode().strip()
    values: dict[str, str] = {}
    while line := stream.readline():
        if line == b"\n":
            return Question(kind, values)
        name, _, value = line.rstrip(b"\n").partition(b": ")
        if name == b"cred" and "credlen" in values:
            # As many bytes as were said, whatever they are.
            length = int(values["credlen"])
            given = line[len(b"cred: ") :]
            while len(given) <= length:
                more = stream.readline()
                if not more:
                    raise ValueError("a password ends too early")
                given += more
            return Question(kind, values, given[:length])
        values.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    raise ValueError("a question ends too early")


class Login:
    """Answers slapd's questions."""

    def __init__(
        self,
        directories: Upstream,
        configuration: Configuration,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directories = directories
        self._configuration = configuration
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._said: dict[tuple[str, str], float] = {}
        self._wrong: dict[tuple[str, str, bytes], float] = {}
        self._failed: dict[str, float] = {}
        self._salt = secrets.token_bytes(16)

    def answer(self, asked: Question) -> str:
        """What slapd is told; empty where it does not wait for an answer."""
        if asked.kind == "UNBIND":
            with self._lock:
                self._sessions.pop(asked.get("connid"), None)
            return ""
        if asked.kind == "BIND":
            return _result(*self._bind(asked))
        if asked.get("suffix") == "":
            # Outside the address book there is nothing.
            return _result(NO_SUCH_OBJECT if asked.kind == "SEARCH" else UNWILLING)
        if asked.get("binddn").lower() == self._configuration.mirror.lower():
            return "CONTINUE\n"
        return self._may_go_on(asked)

    # -- log-in ------------------------------------------------------------------------------------

    def _bind(self, asked: Question) -> tuple[int, str]:
        peer = asked.get("peername").removeprefix("IP=").rpartition(":")[0]
        found = _NAME.fullmatch(asked.get("dn"))
        connection = asked.get("connid")
        with self._lock:
            self._sessions.pop(connection, None)
        try:
            password = asked.password.decode()
        except UnicodeDecodeError:
            password = ""
        if not found or asked.get("method") != _SIMPLE or not password or "\0" in password:
            log.info("refused from %s: %s is no log-in name", peer, asked.get("dn"))
            return INVALID_CREDENTIALS, ""
        address = found[1].strip().lower()
        try:
            session, why = self._log_in(asked.get("dn"), address, password)
        except SilentError as error:
            log.info("%s: not known from %s: %s", address, peer, error)
            return UNAVAILABLE, "the directory does not answer; try again later"
        if session is None:
            log.info("%s: refused from %s: %s", address, peer, why)
            return INVALID_CREDENTIALS, ""
        with self._lock:
            # Not every client takes its leave; slapd has closed a connection that rested so long.
            oldest = self._clock() - 2 * self._configuration.idle
            kept = {key: known for key, known in self._sessions.items() if known.checked > oldest}
            self._sessions = {**kept, connection: session}
        self._say(address, peer, why)
        return SUCCESS, ""

    def _log_in(self, name: str, address: str, password: str) -> tuple[Session | None, str]:
        """A session, or why there is none."""
        account = self._account(address)
        if account is None:
            return None, "no such account, or it may not log in"
        entry, changed = account
        said = "own password"
        if _APPLICATION.fullmatch(password):
            # Never tried as the person's own: it would count as a wrong one.
            entry, said = f"cn={password[:9]},{entry}", f"application password {password[:9]}"
            if not self._application(entry):
                return None, f"no {said}, or not for mail"
        digest = hashlib.blake2b(password.encode(), key=self._salt).digest()
        wrong = (entry, changed, digest)
        if self._is_known_as_wrong(wrong):
            return None, "the same wrong password again"
        if not self._directories.bind(entry, password):
            self._know_as_wrong(wrong)
            return None, f"wrong {said}, or locked by the policy"
        return Session(name, address, entry, changed, self._clock()), said

    def _is_known_as_wrong(self, wrong: tuple[str, str, bytes]) -> bool:
        """Whether this password was wrong just now.

        A mail program that kept a former password asks with it again and again. The same wrong
        password is no further guess, and shall not lock its owner out.
        """
        with self._lock:
            return self._clock() < self._wrong.get(wrong, 0)

    def _know_as_wrong(self, wrong: tuple[str, str, bytes]) -> None:
        """Remember a password that the directory refused, for a while."""
        now, (entry, _, _) = self._clock(), wrong
        with self._lock:
            self._wrong = {key: end for key, end in self._wrong.items() if end > now}
            self._failed = {key: end for key, end in self._failed.items() if end > now}
            # So soon after another one it may be right: the directory looks at none meanwhile.
            if entry not in self._failed:
                self._failed[entry] = now + self._configuration.delay
                self._wrong[wrong] = now + self._configuration.wrong_kept

    def _account(self, address: str) -> tuple[str, str] | None:
        """DN of whoever may log in by an address, and when the password was changed."""
        found = self._directories.find(
            f"ou=people,{self._configuration.source.base}",
            _SUBTREE,
            f"(&(objectClass=mailboxAccount)(mail={_escaped(address)})"
            f"(|(mailboxState=active)(mailboxState=expiring)){_MAIL_OR_WEBMAIL}(!(pwdReset=TRUE)))",
            ("pwdChangedTime",),
        )
        if len(found) != 1:
            return None
        dn, values = found[0]
        return dn, next(iter(values.get("pwdChangedTime", [])), "")

    def _application(self, entry: str) -> bool:
        """Whether an entry is a password for mail that has not been revoked."""
        if not self._configuration.application_passwords:
            return False
        found = self._directories.find(
            entry, _BASE, f"(&(objectClass=appPassword){_MAIL})", ("pwdEndTime",)
        )
        now = f"{datetime.now(UTC):%Y%m%d%H%M%SZ}"
        return any(now < end for _, values in found for end in values.get("pwdEndTime", ["Z"]))

    def _say(self, address: str, peer: str, why: str) -> None:
        now = self._clock()
        with self._lock:
            self._said = {key: time for key, time in self._said.items() if now - time < SAID_AGAIN}
            new = (address, peer) not in self._said
            self._said.setdefault((address, peer), now)
        if new:
            log.info("%s: logged in from %s: %s", address, peer, why)

    # -- an open connection ------------------------------------------------------------------------

    def _may_go_on(self, asked: Question) -> str:
        connection, now = asked.get("connid"), self._clock()
        with self._lock:
            session = self._sessions.get(connection)
        if session is None or session.name.lower() != asked.get("binddn").lower():
            # This program was started anew: who it was is asked again by a log-in.
            return _result(UNAVAILABLE, "log in again")
        if now - session.checked < self._configuration.recheck:
            return "CONTINUE\n"
        try:
            account = self._account(session.address)
            allowed = account is not None and self._is_same(session, *account)
        except SilentError:
            # Who was let in goes on, as in the mailboxes.
            allowed = True
        with self._lock:
            if allowed:
                self._sessions[connection] = replace(session, checked=now)
            else:
                self._sessions.pop(connection, None)
        if not allowed:
            log.info("%s: may log in no longer", session.address)
            return _result(INSUFFICIENT_ACCESS, "this account may log in no longer")
        return "CONTINUE\n"

    def _is_same(self, session: Session, entry: str, changed: str) -> bool:
        if session.entry != entry:
            return session.entry.endswith(f",{entry}") and self._application(session.entry)
        return session.changed == changed


def _result(code: int, text: str = "") -> str:
    info = f"info: {text}\n" if text else ""
    return f"RESULT\ncode: {code}\n{info}\n"


def _escaped(value: str) -> str:
    """A value in a filter (RFC 4515)."""
    return "".join(f"\\{ord(c):02x}" if c in "*()\\\0" else c for c in value)


class _Handler(socketserver.StreamRequestHandler):
    timeout = _SECONDS
    server: "_Server"

    def handle(self) -> None:
        """Answer one question."""
        try:
            answer = self.server.login.answer(question(self.rfile))
        except (ValueError, TimeoutError) as error:
            log.warning("a question that cannot be read: %s", error)
            answer = _result(UNWILLING)
        with suppress(BrokenPipeError):
            self.wfile.write(answer.encode())


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, login: Login) -> None:
        self.login = login
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)


class _Journal(logging.Formatter):
    """Lines with their priority, as systemd reads them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        text = record.getMessage().replace("\n", " ")
        return f"<{4 if record.levelno >= logging.WARNING else 6}>{text}"


def journal() -> None:
    """Let what is said go to the journal."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Journal())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _ready() -> None:
    """Tell systemd that questions are answered from now on."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", path.replace("@", "\0", 1))


def main(arguments: Sequence[str]) -> None:
    """Answer for ever."""
    journal()
    configuration = read(Path(arguments[0]))
    login = Login(Directories(configuration.source), configuration)
    with _Server(configuration.login_socket, login) as server:
        _ready()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
