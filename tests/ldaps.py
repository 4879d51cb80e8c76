"""LDAP as the tests speak it: by TLS, verified, and each refusal is an error."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldap3 import NONE, Connection, Server, Tls

PORT = 636


def server(address: str, name: str, authority: Path, port: int = PORT) -> Server:
    """A directory, not asked yet.

    Args:
        address: where it answers.
        name: what its certificate must say.
        authority: file of the CA that alone is trusted.
        port: at which it answers.
    """
    tls = Tls(
        validate=ssl.CERT_REQUIRED,
        version=ssl.PROTOCOL_TLS_CLIENT,
        ca_certs_file=str(authority),
        valid_names=[name],
    )
    return Server(address, port, use_ssl=True, tls=tls, get_info=NONE, connect_timeout=10)


@contextmanager
def bound(asked: Server, dn: str, password: str) -> Iterator[Connection]:
    """A connection on which somebody has logged in.

    Raises:
        LDAPOperationResult: it is refused.
    """
    connection = Connection(
        asked, dn, password, raise_exceptions=True, receive_timeout=30,
        return_empty_attributes=False,
    )  # fmt: skip
    connection.open()
    try:
        connection.bind()
        yield connection
    finally:
        connection.unbind()
