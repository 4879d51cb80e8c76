"""What the role `certificates` asks a host."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase

FOLDER = "/etc/site-tls"
"""Where a host keeps its key, its certificate and the authorities it trusts."""


@dataclass(frozen=True)
class TlsState:
    """A host's key and certificate."""

    public_key: str
    """The public half of its key (PEM); empty when there is no usable key."""
    key_mode: str
    """Permissions, owner and group of the key, such as `640 root site-tls`."""
    certificate: str
    """Its certificate (PEM), empty when there is none."""


class HostTls(FactBase[TlsState]):
    """The key's public half and the certificate; the key itself is never read out."""

    def command(self) -> str:
        """One line each, encoded."""
        return (
            f'echo "key=$(openssl pkey -in {FOLDER}/key.pem -pubout 2>/dev/null | base64 -w0)";'
            f' echo "mode=$(stat -c "%a %U %G" {FOLDER}/key.pem 2>/dev/null)";'
            f' echo "certificate=$(base64 -w0 {FOLDER}/cert.pem 2>/dev/null)"'
        )

    @staticmethod
    def default() -> TlsState:
        """A host without `openssl` has neither."""
        return TlsState("", "", "")

    def process(self, output: Iterable[str]) -> TlsState:
        """Decode."""
        values = dict(line.split("=", 1) for line in output)
        return TlsState(
            public_key=base64.b64decode(values["key"]).decode(),
            key_mode=values["mode"],
            certificate=base64.b64decode(values["certificate"]).decode(errors="replace"),
        )


class TrustStoreHolds(FactBase[bool]):
    """Whether the system's bundle of authorities holds a certificate."""

    def command(self, line: str) -> StringCommand:
        """Look for `line`, one of the lines of its text that no other certificate has."""
        return StringCommand(
            "grep -qxF --", QuoteString(line), "/etc/ssl/certs/ca-certificates.crt 2>/dev/null",
            "&& echo yes || echo no",
        )  # fmt: skip

    def process(self, output: Iterable[str]) -> bool:
        """`yes` or `no`."""
        return next(iter(output), "no") == "yes"
