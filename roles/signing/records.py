"""The public half of the signature: what the DNS says of it."""

import base64

from cryptography.hazmat.primitives import serialization

from roles.common.site import Site
from roles.signing.settings import SigningSettings

_LONGEST = 255
"""Bytes of one string in a TXT record (RFC 1035, 3.3)."""


def key_names(site: Site) -> list[str]:
    """The names at which the key is looked for: one, save while an mx has a selector of its own."""
    selectors = {site.of(SigningSettings, mx.name).selector for mx in site.group("mx")}
    return [f"{selector}._domainkey.{site.domain}" for selector in sorted(selectors)]


def key_record(site: Site) -> str:
    """What the key's TXT record says (RFC 6376, 3.6.1).

    `t=s`: mail is signed in the domain's own name, so the key vouches for none below it.
    """
    pem = site.secrets.dkim_key.get_secret_value().encode()
    public = serialization.load_pem_private_key(pem, password=None).public_key()
    encoded = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"v=DKIM1; h=sha256; k=rsa; t=s; p={base64.b64encode(encoded).decode()}"


def dmarc_record(site: Site) -> str:
    """What others shall do with letters in the domain's name that nothing confirms (RFC 7489)."""
    return f"v=DMARC1; p={site.of(SigningSettings).dmarc_policy}; rua=mailto:{site.postmaster}"


def quoted(text: str) -> str:
    """Text as a TXT record holds it: strings of at most 255 bytes."""
    parts = [text[start : start + _LONGEST] for start in range(0, len(text), _LONGEST)]
    return " ".join(f'"{part}"' for part in parts)
