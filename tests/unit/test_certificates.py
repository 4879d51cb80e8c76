"""The site's authority: the same from the same key, and what it signs is what was asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import ValidationError

from roles.certificates.authority import Authority, Subject
from roles.certificates.deploy import further_authorities
from roles.certificates.settings import CertificatesSettings
from roles.common.errors import SiteError
from roles.common.site import load

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=397)
SUBJECT = Subject(("mx1.tiengiang.gov.vn", "mail.tiengiang.gov.vn"), ("10.77.0.13",))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_of(key: ec.EllipticCurvePrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


AUTHORITY = Authority("tiengiang.gov.vn", "Ủy ban nhân dân tỉnh Tiền Giang", new_key())
PUBLIC = public_of(new_key())


def test_every_machine_makes_the_same_authority() -> None:
    again = Authority(AUTHORITY.domain, AUTHORITY.organisation, AUTHORITY.key)
    assert again.pem == AUTHORITY.pem
    assert replace(AUTHORITY, key=new_key()).pem != AUTHORITY.pem


def test_the_authority_speaks_for_its_own_domain_only() -> None:
    extensions = AUTHORITY.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName("tiengiang.gov.vn")]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_certificate_names_its_host_and_serves_both_ways() -> None:
    found = x509.load_pem_x509_certificate(AUTHORITY.sign(PUBLIC, SUBJECT, YEAR, NOW).encode())
    found.verify_directly_issued_by(AUTHORITY.certificate)
    extensions = found.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names == SUBJECT.alternative_names
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert found.not_valid_before_utc < NOW
    assert found.not_valid_after_utc == NOW + YEAR


def test_a_good_certificate_stays() -> None:
    signed = AUTHORITY.sign(PUBLIC, SUBJECT, YEAR, NOW)
    assert AUTHORITY.fault(signed, PUBLIC, SUBJECT, NOW + timedelta(days=396)) is None


def test_a_certificate_is_made_anew_for_each_reason() -> None:
    signed = AUTHORITY.sign(PUBLIC, SUBJECT, YEAR, NOW)
    other = replace(AUTHORITY, key=new_key())
    moved = replace(SUBJECT, addresses=("10.77.0.14",))
    renamed = replace(SUBJECT, names=SUBJECT.names[:1])
    assert AUTHORITY.fault("", PUBLIC, SUBJECT, NOW) == "there is none"
    not_ours = "this authority did not sign what is there"
    assert AUTHORITY.fault("garbage", PUBLIC, SUBJECT, NOW) == not_ours
    assert other.fault(signed, PUBLIC, SUBJECT, NOW) == not_ours
    assert "another key" in str(AUTHORITY.fault(signed, public_of(new_key()), SUBJECT, NOW))
    assert "other names" in str(AUTHORITY.fault(signed, PUBLIC, moved, NOW))
    assert "other names" in str(AUTHORITY.fault(signed, PUBLIC, renamed, NOW))
    assert "expires on 2027-02-02" in str(AUTHORITY.fault(signed, PUBLIC, SUBJECT, NOW + YEAR))


def test_another_authority_of_the_same_name_is_another() -> None:
    other = replace(AUTHORITY, key=new_key())
    signed = x509.load_pem_x509_certificate(other.sign(PUBLIC, SUBJECT, YEAR, NOW).encode())
    assert signed.issuer == AUTHORITY.certificate.subject
    with pytest.raises(InvalidSignature):
        signed.verify_directly_issued_by(AUTHORITY.certificate)


def test_a_secret_that_is_no_key_is_refused_and_not_shown() -> None:
    site = load("local")
    broken = site.secrets.model_copy(update={"ca_key": site.secrets.webmail_database_password})
    with pytest.raises(SiteError, match="ca_key: is not a private key") as caught:
        Authority.of(replace(site, _secrets=broken))
    assert site.secrets.webmail_database_password.get_secret_value() not in str(caught.value)


def test_renewal_before_the_beginning_is_refused() -> None:
    with pytest.raises(ValidationError, match="renew_before"):
        CertificatesSettings.model_validate({"validity": "30d", "renew_before": "60d"})


def test_further_authorities_lie_beside_the_inventory(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"NAME\.pem"):
        CertificatesSettings.model_validate({"further_authorities": ["../x.pem"]})
    settings = CertificatesSettings.model_validate({"further_authorities": ["old.pem"]})
    site = replace(load("local"), folder=tmp_path)
    with pytest.raises(SiteError, match="not found; expected certificates"):
        further_authorities(site, settings)
    (tmp_path / "old.pem").write_text("nothing")
    with pytest.raises(SiteError, match="holds no certificate"):
        further_authorities(site, settings)
    (tmp_path / "old.pem").write_text(AUTHORITY.pem.rstrip("\n"))
    assert further_authorities(site, settings) == AUTHORITY.pem
