"""A client of ManageSieve (RFC 5804): just what the tests need."""

import base64
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from roles.common.site import Site
from tests import clients
from tests.clients import Account


class ManageSieve:
    """A dialogue on port 4190."""

    def __init__(self, address: str, seconds: float = clients.SECONDS) -> None:
        self._socket: socket.socket = socket.create_connection((address, 4190), timeout=seconds)
        self._lines = self._socket.makefile("rb")
        self.greeting = self._answer()

    @property
    def capabilities(self) -> dict[str, str]:
        """What the last greeting offered."""
        pairs = (line.partition(" ")[::2] for line in self.greeting[:-1])
        return {name.strip('"'): value.strip('"') for name, value in pairs}

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Go on under TLS; the server is verified by `name`."""
        self.ask("STARTTLS")
        self._socket = context.wrap_socket(self._socket, server_hostname=name)
        self._lines = self._socket.makefile("rb")
        self.greeting = self._answer()

    def log_in(self, account: str, password: str) -> str:
        """Log in; return the answer."""
        token = base64.b64encode(f"\0{account}\0{password}".encode()).decode()
        return self.ask(f'AUTHENTICATE "PLAIN" "{token}"')[-1]

    def put(self, name: str, script: str) -> str:
        """Store a script; return the answer."""
        content = script.encode()
        return self.ask(f'PUTSCRIPT "{name}" {{{len(content)}+}}\r\n{script}')[-1]

    def ask(self, command: str) -> list[str]:
        """Send a command and read the answer: its last line begins with OK, NO or BYE."""
        self._socket.sendall(f"{command}\r\n".encode())
        return self._answer()

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def _answer(self) -> list[str]:
        lines: list[str] = []
        while not lines or not lines[-1].startswith(("OK", "NO", "BYE")):
            line = self._lines.readline()
            if not line:
                raise ConnectionError(f"closed after {lines}")
            text = line.decode().rstrip("\r\n")
            # A long answer comes as a literal, {LENGTH}, and what follows it.
            if text.endswith("}") and "{" in text:
                head, _, length = text.rpartition("{")
                text = head + self._lines.read(int(length.rstrip("+}"))).decode()
                text += self._lines.readline().decode().rstrip("\r\n")
            lines.append(text)
        return lines


@contextmanager
def dialogue(site: Site) -> Iterator[ManageSieve]:
    """A connection to the front, not yet under TLS."""
    client = ManageSieve(clients.address_of(site, "front"))
    try:
        yield client
    finally:
        client.close()


@contextmanager
def logged_in(site: Site, account: Account) -> Iterator[ManageSieve]:
    """A logged-in connection."""
    with dialogue(site) as client:
        client.start_tls(clients.context(site), site.mail_name)
        answer = client.log_in(account.address, account.password)
        if not answer.startswith("OK"):
            raise AssertionError(answer)
        yield client
