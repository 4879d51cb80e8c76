"""The site's certificate authority: what it is, and how it signs.

Its certificate follows from its key, the domain and the organisation alone (the signature is
deterministic, RFC 6979): every operator's machine makes the very same one, and nothing but the key
has to be kept. Another key is another authority, which every host then gets at the next deployment.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roles.common.errors import SiteError
from roles.common.site import Site

_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_END = datetime(2055, 1, 1, tzinfo=UTC)
_MAX_COMMON_NAME = 64
_CLOCK_SKEW = timedelta(hours=1)
"""A certificate is valid from a little earlier: the hosts' clocks need not agree with ours."""


@dataclass(frozen=True)
class Subject:
    """Whom a certificate shall name."""

    names: tuple[str, ...]
    """Full names; the first is the host's own."""
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([*self.names, *self.addresses])

    @property
    def alternative_names(self) -> x509.SubjectAlternativeName:
        """All of them, in a certificate's form."""
        return x509.SubjectAlternativeName(
            [
                *(x509.DNSName(name) for name in self.names),
                *(x509.IPAddress(IPv4Address(address)) for address in self.addresses),
            ]
        )

    @property
    def common_name(self) -> str:
        """The host's own name, or as much of it as the field holds."""
        return self.names[0][:_MAX_COMMON_NAME]


@dataclass(frozen=True)
class Authority:
    """The authority of one site."""

    domain: str
    organisation: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, site: Site) -> "Authority":
        """The authority of `site`, by its secret `ca_key`."""
        try:
            key = serialization.load_pem_private_key(
                site.secrets.ca_key.get_secret_value().encode(), password=None
            )
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            # The parser's own message might quote the key.
            raise SiteError("secret ca_key: is not a private key; expected one of P-256, as PEM")
        return cls(site.domain, site.table.organisation, key)

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Its own certificate."""
        public = self.key.public_key()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organisation[:_MAX_COMMON_NAME]),
                x509.NameAttribute(NameOID.COMMON_NAME, f"CA {self.domain}"[:_MAX_COMMON_NAME]),
            ]
        )
        digest = hashlib.sha256(_spki(public)).digest()
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(int.from_bytes(digest[:16], "big") >> 1 or 1)
            .not_valid_before(_BEGIN)
            .not_valid_after(_END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            # Whoever trusts it trusts it for the site's own names only.
            .add_extension(
                x509.NameConstraints([x509.DNSName(self.domain)], None),
                critical=True,
            )
        )
        return builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)

    @property
    def pem(self) -> str:
        """Its own certificate as text."""
        return to_pem(self.certificate)

    def sign(self, public_key: str, subject: Subject, validity: timedelta, now: datetime) -> str:
        """Sign a host's public key; return the certificate (PEM).

        Args:
            public_key: as the host's own `openssl` prints it (PEM).
            subject: whom the certificate shall name.
            validity: how long from now.
            now: the time.
        """
        public = serialization.load_pem_public_key(public_key.encode())
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise SiteError(
                f"{subject.names[0]}: its key is not of P-256; expected to make it anew"
            )
        name = x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([name]))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            # Servers among themselves are clients, too: Postfix's relay asks for it.
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(subject.alternative_names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        return to_pem(builder.sign(self.key, hashes.SHA256()))

    def fault(
        self, certificate: str, public_key: str, subject: Subject, expiring: datetime
    ) -> str | None:
        """Why a host needs a new certificate, or None when it does not.

        Args:
            certificate: what the host has (PEM); empty when it has none.
            public_key: its key's public half (PEM).
            subject: whom the certificate shall name.
            expiring: it shall be valid until after this time.
        """
        if not certificate:
            return "there is none"
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            found.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return "this authority did not sign what is there"
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = serialization.load_pem_public_key(public_key.encode())
        faults = {
            "what is there belongs to another key": _spki(found.public_key()) != _spki(key),
            "what is there has other names": names != subject.alternative_names,
            f"what is there expires on {found.not_valid_after_utc:%Y-%m-%d}": (
                found.not_valid_after_utc <= expiring
            ),
        }
        return next((fault for fault, is_so in faults.items() if is_so), None)


def to_pem(certificate: x509.Certificate) -> str:
    """A certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _spki(public: CertificatePublicKeyTypes | PublicKeyTypes) -> bytes:
    """A public key in the form in which two are compared."""
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _key_usage(**allowed: bool) -> x509.KeyUsage:
    """A key usage of which only `allowed` is true."""
    usages = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**(usages | allowed))
