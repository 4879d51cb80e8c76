"""An SSH connector for pyinfra that answers at once."""

import socket
from collections.abc import Iterator
from typing import Any

from pyinfra.connectors.ssh import SSHConnector


class SiteConnector(SSHConnector):
    """pyinfra's SSH connector with Nagle's algorithm off.

    Paramiko writes a command in several small packets and waits for each acknowledgement: 46 ms a
    command where 4 ms would do (measured: `make bench`). Hosts are named `@site/NAME`.
    """

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Yield the host under its plain name; the inventory gives its address."""
        yield name, {}, []

    def _connect(self) -> None:
        super()._connect()
        transport = self.client.get_transport() if self.client else None
        # Behind a jump host the transport runs over a channel, which has no socket options.
        if transport is not None and isinstance(transport.sock, socket.socket):
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
