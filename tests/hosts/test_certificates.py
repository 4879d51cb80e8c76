"""The role `certificates`: the host's certificate, who trusts it, who may read its key."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from testinfra.host import Host

from roles.certificates.authority import Authority
from roles.certificates.settings import CertificatesSettings
from roles.common.site import Site, SiteHost

FOLDER = "/etc/site-tls"
REPORT_BEFORE = timedelta(days=21)
"""A deployment renews 60 days ahead: less than this says that nobody deployed."""


def certificate(host: Host) -> x509.Certificate:
    return x509.load_pem_x509_certificate(host.file(f"{FOLDER}/cert.pem").content)


def test_the_key_is_read_by_its_group_alone(host: Host) -> None:
    key = host.file(f"{FOLDER}/key.pem")
    assert (key.mode, key.user, key.group) == (0o640, "root", "site-tls")
    assert host.file(FOLDER).mode == 0o755


def test_key_and_certificate_belong_together(host: Host) -> None:
    public = host.check_output(f"openssl pkey -in {FOLDER}/key.pem -pubout")
    found = certificate(host).public_key()
    assert isinstance(found, ec.EllipticCurvePublicKey)
    assert isinstance(found.curve, ec.SECP256R1)
    pem = found.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public.strip() == pem.decode().strip()


def test_it_names_the_host(host: Host, site: Site, me: SiteHost) -> None:
    names = certificate(host).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(me.names)
    wanted = [IPv4Address(me.address)] if site.of(CertificatesSettings, me.name).addresses else []
    assert names.get_values_for_type(x509.IPAddress) == wanted


def test_it_does_not_expire_soon(host: Host) -> None:
    assert certificate(host).not_valid_after_utc - datetime.now(UTC) > REPORT_BEFORE


def test_peers_verify_it_as_server_and_as_client(host: Host, me: SiteHost) -> None:
    for purpose in ("sslserver", "sslclient"):
        for name in me.names:
            host.check_output(
                f"openssl verify -x509_strict -CAfile {FOLDER}/ca.pem -purpose {purpose}"
                f" -verify_hostname %s {FOLDER}/cert.pem",
                name,
            )


def test_the_hosts_own_programs_trust_it(host: Host) -> None:
    host.check_output(
        f"openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt {FOLDER}/cert.pem"
    )


def test_all_hosts_trust_the_same_authority(host: Host, site: Site) -> None:
    # Made from the secrets, not read from `.lab`: any operator may verify, whoever deployed.
    assert host.file(f"{FOLDER}/ca.pem").content_string.startswith(Authority.of(site).pem)


def test_a_new_certificate_is_noticed(host: Host) -> None:
    watch = host.service("site-tls-reload.path")
    assert watch.is_running
    assert watch.is_enabled
    # Since the certificate was put in place, the service has run, and without a fault.
    written = float(host.check_output(f"stat -c %.Z {FOLDER}/cert.pem"))
    shown = host.check_output(
        "systemctl show --timestamp=unix -p Result -p ExecMainStartTimestamp site-tls-reload"
    )
    values = dict(line.split("=", 1) for line in shown.splitlines())
    assert values["Result"] == "success"
    if values["ExecMainStartTimestamp"]:  # empty since a boot: then everything began with it
        assert float(values["ExecMainStartTimestamp"].removeprefix("@")) >= int(written)
    for file in host.file(f"{FOLDER}/reload.d").listdir():
        assert host.file(f"{FOLDER}/reload.d/{file}").mode & 0o100, f"{file} is not executable"
