"""What the secret `backup_key` becomes: passwords by host, none of which tells another.

HMAC-SHA-256 over a label (RFC 2104), written as 64 hexadecimal digits.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable

from roles.common.site import Site, SiteHost


def login(site: Site, host: SiteHost) -> str:
    """The password by which a host reaches its repository on the server."""
    return _derived(site, f"login {host.name}")


def repository(site: Site, host: SiteHost) -> str:
    """The password of a host's own key of its repository."""
    return _derived(site, f"repository {host.name}")


def maintenance(site: Site) -> str:
    """The password of the backup host's key of every repository."""
    return _derived(site, "maintenance")


def copy(site: Site, target: str, host: SiteHost) -> str:
    """The password of a host's repository at a further target."""
    return _derived(site, f"copy {target} {host.name}")


def fingerprint(password: str) -> str:
    """What tells passwords apart and opens nothing: a part of the digest of 256 random bits."""
    return hashlib.sha256(password.encode()).hexdigest()[:16]


def htpasswd(site: Site, hosts: Iterable[SiteHost]) -> str:
    """Who may reach the server, as rest-server reads it.

    It knows bcrypt and SHA-1. SHA-1 without salt would be weak for what people choose; nobody
    guesses 256 random bits, and the file stays the same from run to run.
    """
    lines = []
    for host in hosts:
        digest = hashlib.sha1(login(site, host).encode(), usedforsecurity=False).digest()
        lines.append(f"{host.name}:{{SHA}}{base64.b64encode(digest).decode()}\n")
    return "".join(lines)


def _derived(site: Site, label: str) -> str:
    key = site.secrets.backup_key.get_secret_value().encode()
    return hmac.digest(key, label.encode(), "sha256").hex()
