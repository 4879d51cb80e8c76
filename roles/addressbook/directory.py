"""The directories, as the account `cn=addressbook` asks them; who does not answer is passed over.

It runs on a front, with Debian's python3-ldap.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ldap  # type: ignore[import-not-found] # Debian's, on the hosts only

from roles.directory.ldif import Attributes

CONNECT = 3
"""Seconds to wait for a directory that does not take the connection."""
ANSWER = 10
"""Seconds to wait for an answer."""
PAUSE = 5
"""Seconds in which nobody waits again, after no directory answered."""

T = TypeVar("T")
log = logging.getLogger("addressbook")


class SilentError(Exception):
    """No directory answers."""


@dataclass(frozen=True)
class Source:
    """Where the directory is, and who asks."""

    directories: Sequence[str]
    """Their URIs; the first that answers is asked."""
    base: str
    bind: str
    password: str
    """Path of a file that holds it, without an end of line."""
    authority: str
    """Path of the certificates (PEM) that are trusted."""


def connected(uri: str, source: Source, dn: str, password: str) -> Any:
    """A connection that is bound.

    Raises:
        ldap.LDAPError: it is not.
    """
    connection = ldap.initialize(uri)
    connection.set_option(ldap.OPT_REFERRALS, 0)
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, CONNECT)
    connection.set_option(ldap.OPT_TIMEOUT, ANSWER)
    connection.set_option(ldap.OPT_X_TLS_CACERTFILE, source.authority)
    connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
    connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    connection.simple_bind_s(dn, password)
    return connection


def texts(values: dict[str, list[bytes]]) -> Attributes:
    """An entry's values as text."""
    return {
        name: [value.decode(errors="surrogateescape") for value in given]
        for name, given in values.items()
    }


class Directories:
    """All of them, by one connection that is kept; safe for several threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._order = list(source.directories)
        self._connection: Any = None
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def find(
        self, base: str, scope: int, condition: str, attributes: Sequence[str]
    ) -> list[tuple[str, Attributes]]:
        """Entries with their DNs.

        Args:
            base: where the search begins; what is not there holds no entry.
            scope: ldap.SCOPE_BASE, …
            condition: the filter.
            attributes: what of them is asked for.

        Raises:
            SilentError: no directory answers.
        """

        def search(connection: Any) -> list[tuple[str, Attributes]]:
            try:
                found = connection.search_s(base, scope, condition, list(attributes))
            except ldap.NO_SUCH_OBJECT:
                found = []
            self._connection = connection
            return [(dn, texts(values)) for dn, values in found if dn is not None]

        def ask(uri: str) -> list[tuple[str, Attributes]]:
            kept, self._connection = self._connection, None
            if kept is not None:
                # It may have been closed at the other end.
                with suppress(ldap.SERVER_DOWN):
                    return search(kept)
            password = Path(self._source.password).read_text(encoding="utf-8")
            return search(connected(uri, self._source, self._source.bind, password))

        with self._lock:
            return self._in_turn(ask)

    def bind(self, dn: str, password: str) -> bool:
        """Whether this is the password of an entry, by the directory's policy.

        Raises:
            SilentError: no directory answers.
        """

        def ask(uri: str) -> bool:
            try:
                connected(uri, self._source, dn, password).unbind_s()
            except (
                ldap.SERVER_DOWN,
                ldap.TIMEOUT,
                ldap.CONNECT_ERROR,
                ldap.UNAVAILABLE,
                ldap.BUSY,
            ):
                raise
            except ldap.LDAPError:
                return False
            return True

        # Without the lock: a hash takes its time.
        return self._in_turn(ask)

    def _in_turn(self, ask: Callable[[str], T]) -> T:
        """Ask one after the other; who answered is asked first the next time."""
        if time.monotonic() < self._silent_until:
            raise SilentError("no directory answered just now")
        for uri in list(self._order):
            try:
                answer = ask(uri)
            except ldap.LDAPError as error:
                log.warning("%s: does not answer: %s", uri, error)
                self._order = [*(other for other in self._order if other != uri), uri]
                continue
            self._silent_until = 0.0
            return answer
        self._silent_until = time.monotonic() + PAUSE
        raise SilentError("no directory answers")
