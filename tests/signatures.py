"""Signatures of letters (DKIM), as whoever gets a letter looks at them.

They are verified by dkimpy, which shares no code with OpenDKIM, by the keys that the lab's Internet
publishes.
"""

import re
from email import message_from_bytes

import dkim
import dns.resolver

from roles.common.site import Site
from tests import clients


def published(site: Site, name: str) -> str:
    """The text that the Internet has at a name; empty where there is none."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [clients.outside_address(site)]
    try:
        (answer,) = resolver.resolve(name, "TXT")
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ""
    return b"".join(answer.strings).decode()


def holds(site: Site, content: bytes) -> bool:
    """Whether a letter's topmost signature holds."""

    def ask(name: bytes, **_: float) -> bytes | None:
        return published(site, name.decode()).encode() or None

    return bool(dkim.verify(content, dnsfunc=ask))


def signatures(site: Site, content: bytes) -> list[dict[str, str]]:
    """The tags of the signatures in the site's name, from the top."""
    headers = message_from_bytes(content).get_all("DKIM-Signature", [])
    tags = [re.sub(r"\s+", "", header).strip(";").split(";") for header in headers]
    found = [{tag.partition("=")[0]: tag.partition("=")[2] for tag in several} for several in tags]
    return [signature for signature in found if signature["d"] == site.domain]
